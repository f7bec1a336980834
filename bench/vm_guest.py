# SPDX-License-Identifier: GPL-2.0-or-later
"""Inside the counted guest: one CPU, whose clock is its instructions. One JSON line per figure to /out/results.

Everything is a closed loop, so the CPU does not idle and nothing is lost: a burst of datagrams is sent once the one
before has come out, and TCP keeps the only CPU busy. What it idled all the same is taken off. Sender and receiver
are counted with the rest; what they cost by themselves is measured as `direct`.
"""
import json
import os
import platform
import socket
import subprocess
import sys
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.environ.get("VM_OUT", "/out")
with open(f"{OUT}/job.json") as f:
    JOB = json.load(f)
os.environ["ESPWIRE_BUILD"], os.environ["SET"] = JOB["build"], JOB["set"]
sys.path[:0] = [HERE, os.path.join(HERE, "../tests/net")]
import machine  # noqa: E402
import peers  # noqa: E402
import probes  # noqa: E402
from bed import HOST_R  # noqa: E402

BURST = 32
MODULES = "veth tun esp4 xfrm_user xfrm_interface wireguard aesni_intel gcm ccm ctr echainiv seqiv".split()


def idle_ns():
    """Nanoseconds this machine has idled since it booted, in steps of 10 ms."""
    with open("/proc/uptime") as f:
        return int(float(f.read().split()[1]) * 1e9)


def per_packet(t, size, count):
    """Instructions a packet, the hosts' included."""
    p = subprocess.run([probes.blast("udpblast"), "loop", f"/run/netns/{t.bed.hl.name}", f"/run/netns/{t.bed.hr.name}",
                        HOST_R, "7000", str(size), str(count), str(BURST)], capture_output=True, text=True, timeout=300, check=True)
    n = probes.numbers(p.stdout)
    if n["lost"]:
        raise probes.Broken(f"{n['lost']} of {count} packets lost in a closed loop")
    return (n["ns"] - n["idle"]) / n["got"]


def per_byte(t, size):
    """Instructions a byte of one TCP stream, from the first one sent to the last one read."""
    chunk = bytes(1 << 20)
    with t.bed.hr.socket(socket.AF_INET, socket.SOCK_STREAM) as door, t.bed.hl.socket(socket.AF_INET, socket.SOCK_STREAM) as tx:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((HOST_R, 5301))
        door.listen(1)
        tx.connect((HOST_R, 5301))
        rx, _ = door.accept()
        with rx:
            for s in (tx, rx):
                s.settimeout(60)

            def send():
                for _ in range(size // len(chunk)):
                    tx.sendall(chunk)

            sender, into, got = threading.Thread(target=send, daemon=True), bytearray(1 << 20), 0
            idle, start = idle_ns(), time.monotonic_ns()
            sender.start()
            while got < size:
                n = rx.recv_into(into)
                if not n:
                    raise probes.Broken(f"TCP ended after {got} bytes")
                got += n
            took = time.monotonic_ns() - start
            return (took - (idle_ns() - idle)) / got


def measure(t, tell):
    per_packet(t, 64, JOB["packets"] // 4)  # warm
    for _ in range(JOB["rounds"]):
        for case, size in (("insn_per_pkt64", 64), ("insn_per_pkt1372", 1372)):
            tell(impl=t.name, case=case, value=per_packet(t, size, JOB["packets"]))
    for _ in range(JOB["rounds"]):
        tell(impl=t.name, case="insn_per_byte", value=per_byte(t, JOB["megabytes"] << 20))


def main():
    subprocess.run(["modprobe", "-aq", *MODULES])
    machine.adopt_orphans()
    known = {c.name: c for c in peers.vm_tunnels()}
    with open(f"{OUT}/results", "w", buffering=1) as out:
        def tell(**line):
            out.write(json.dumps(line) + "\n")

        tell(kernel=platform.release())
        for name in JOB["impls"]:
            try:
                with known[name]() as t:
                    measure(t, tell)
                    tell(impl=name, notes=t.notes)
            except peers.Unavailable as e:
                tell(impl=name, why=str(e))
            except Exception as e:
                traceback.print_exc()
                tell(impl=name, why=f"{type(e).__name__}: {str(e)[-300:]}")
        tell(end=True)


if __name__ == "__main__":
    main()
