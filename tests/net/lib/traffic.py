# SPDX-License-Identifier: GPL-2.0-or-later
"""Traffic with proof: pings, TCP by hash, UDP by content, a generator that never stops by itself."""
import hashlib
import json
import os
import socket
import struct
import threading
import time

from lib.frames import OUTGOING, fold, open_frames, split
from lib.util import wait_until


def family(addr):
    return socket.AF_INET6 if ":" in addr else socket.AF_INET


def ping(ns, dst, count=3, size=56, interval=0.02, timeout=2, extra=()):
    """True when every request was answered."""
    argv = ["ping", "-n", "-q", "-c", str(count), "-i", str(interval), "-W", str(timeout), "-s", str(size), *extra, dst]
    return ns.ok(argv, timeout=count * interval + timeout + 10)


def need_ping(ns, dst, timeout=5, **kw):
    """Wait for the first answer, then demand all of a series."""
    wait_until(lambda: ping(ns, dst, count=1, timeout=0.3), timeout, f"{ns.role} reaches {dst}")
    assert ping(ns, dst, **kw), f"{ns.role}: answers missing from {dst}"


def tcp_transfer(src, dst, addr, size, timeout=60, port=5001, own=None, opt=None):
    """Send random bytes; both ends hash what they see. Returns (sent, received) digests. own: addr as dst has it.

    opt: (level, name, value), a socket option of the sender."""
    srv = dst.socket(family(addr), socket.SOCK_STREAM)
    srv.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    srv.bind((own or addr, port))
    srv.listen(1)
    srv.settimeout(timeout)
    box = {}

    def receive():
        h, n = hashlib.sha256(), 0
        try:
            conn, _ = srv.accept()
            conn.settimeout(timeout)
            with conn:
                while True:
                    data = conn.recv(1 << 18)
                    if not data:
                        break
                    h.update(data)
                    n += len(data)
        except OSError as e:
            box["error"] = e
        box["got"] = (n, h.hexdigest())

    t = threading.Thread(target=receive)
    t.start()
    sent = hashlib.sha256()
    cli = src.socket(family(addr), socket.SOCK_STREAM)
    cli.settimeout(timeout)
    if opt:
        cli.setsockopt(*opt)
    try:
        cli.connect((addr, port))
        block = os.urandom(1 << 20)
        left = size
        while left:
            data = block[:left]
            cli.sendall(data)
            sent.update(data)
            left -= len(data)
            block = block[7:] + block[:7]
        cli.shutdown(socket.SHUT_WR)
    finally:
        t.join(timeout)
        cli.close()
        srv.close()
    assert "error" not in box, box["error"]
    return (size, sent.hexdigest()), box["got"]


class UdpEcho:
    """Two UDP sockets in two namespaces; what one sends the other must get, byte for byte."""

    def __init__(self, src, dst, addr, port=5002):
        self.rx = dst.socket(family(addr), socket.SOCK_DGRAM)
        self.rx.bind((addr, port))
        self.rx.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.rx.settimeout(2)
        self.tx = src.socket(family(addr), socket.SOCK_DGRAM)
        self.to = (addr, port)

    def check(self, payloads, burst=32):
        """Send in bursts, expect everything, in any order within a burst. Returns the number checked."""
        payloads = list(payloads)
        for i in range(0, len(payloads), burst):
            part = payloads[i:i + burst]
            for p in part:
                self.tx.sendto(p, self.to)
            got = []
            for _ in part:
                try:
                    got.append(self.rx.recv(1 << 16))
                except socket.timeout:
                    break
            missing = [len(p) for p in part if p not in got]
            assert not missing, f"lost or damaged: sizes {missing}"
            assert len(got) == len(part)
        return len(payloads)

    @staticmethod
    def knows_mtu(ns, addr):
        words = [w for w in ns.out(["ip", "route", "get", addr]).split() if w != "lock"]
        return int(words[words.index("mtu") + 1]) if "mtu" in words else None

    def close(self):
        self.rx.close()
        self.tx.close()


class Load:
    """Canary-laden UDP from several namespaces until stopped. Errors are fine: refusing is an answer."""

    def __init__(self, lab, sources, port=5003, gap=0.002, size=400):
        self.stop_flag, self.sent, self.errors = threading.Event(), 0, 0
        self.payload = (lab.tap.canary * (size // len(lab.tap.canary) + 1))[:size]
        self.socks = [(ns.socket(family(dst), socket.SOCK_DGRAM), (dst, port)) for ns, dst in sources]
        self.gap = gap
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        lab.closers.append(self.stop)

    def _run(self):
        while not self.stop_flag.is_set():
            for s, to in self.socks:
                try:
                    s.sendto(self.payload, socket.MSG_DONTWAIT, to)
                    self.sent += 1
                except OSError:
                    self.errors += 1
            self.stop_flag.wait(self.gap)

    def more(self, n=100, timeout=10):
        """Wait until n more attempts have been made."""
        end = self.sent + self.errors + n
        wait_until(lambda: self.sent + self.errors >= end, timeout, "the load to go on")

    def stop(self):
        self.stop_flag.set()
        self.thread.join(timeout=5)
        for s, _ in self.socks:
            s.close()
        self.socks = []


def volley(lab, sources, n=20, port=5004, apart=False):
    """n canary datagrams from each source, at once; apart: each of a flow of its own, so that none merges with another
    (no packet socket reads a UDP super-packet before Linux 6.2). Returns errno names seen, per source."""
    seen = []
    for ns, dst in sources:
        socks = [ns.socket(family(dst), socket.SOCK_DGRAM) for _ in range(n if apart else 1)]
        errs = set()
        for i in range(n):
            try:
                socks[i % len(socks)].sendto(lab.tap.canary * 4, (dst, port))
            except OSError as e:
                errs.add(e.errno)
        for s in socks:
            s.close()
        seen.append(errs)
    return seen


class Listener:
    """Every packet that arrives at a device (not what it sends), as bytes from the IP header on."""

    def __init__(self, ns, dev, outgoing=False):
        self.sock = open_frames(ns, dev)
        self.sock.setblocking(False)
        self.outgoing, self.packets = outgoing, []

    def poll(self):
        while True:
            try:
                data, addr = self.sock.recvfrom(1 << 17)
            except BlockingIOError:
                return self.packets
            if (addr[2] == OUTGOING) == self.outgoing:
                self.packets += [f[14:] for f in split(data)]

    def wait(self, match, timeout=3, n=1, what="packets"):
        return wait_until(lambda: (lambda m: m if len(m) >= n else None)([p for p in self.poll() if match(p)]), timeout,
                          lambda: f"{n} {what}; saw {len(self.packets)}: {[p[:60].hex() for p in self.packets[-5:]]}")

    def count(self, match):
        return sum(1 for p in self.poll() if match(p))

    def close(self):
        self.sock.close()


def dev_stats(ns, dev):
    j = json.loads(ns.out(["ip", "-j", "-s", "link", "show", "dev", dev]))[0]["stats64"]
    return {"rx": j["rx"]["packets"], "rx_bytes": j["rx"]["bytes"], "tx": j["tx"]["packets"], "tx_bytes": j["tx"]["bytes"]}


def checksums_right(p):
    """IPv4 header, and TCP/UDP/ICMP of an unfragmented packet. Slow and obvious."""
    if p[0] >> 4 == 4:
        hl, total, proto = (p[0] & 15) * 4, struct.unpack(">H", p[2:4])[0], p[9]
        if fold(p[:hl]) != 0xffff:
            return False
        if struct.unpack(">H", p[6:8])[0] & 0x3fff:
            return True
        body, pseudo = p[hl:total], p[12:20] + struct.pack(">HH", proto, total - hl)
    else:
        hl, proto = 40, p[6]
        body = p[40:40 + struct.unpack(">H", p[4:6])[0]]
        pseudo = p[8:40] + struct.pack(">II", len(body), proto)
    if proto == 1:
        return fold(body) == 0xffff
    if proto == 17 and body[6:8] == b"\0\0":
        return p[0] >> 4 == 4
    if proto in (6, 17, 58):
        return fold(pseudo + body) == 0xffff
    return True


def timed(cond, timeout, what):
    """Seconds until cond is true."""
    start = time.monotonic()
    wait_until(cond, timeout, what)
    return time.monotonic() - start
