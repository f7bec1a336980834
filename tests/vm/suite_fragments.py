# SPDX-License-Identifier: GPL-2.0-or-later
"""Sizes: fragments before encryption (inner) and after it (outer), and too big with DF, both directions."""
import re
import socket

from bed import Bed, Link
from guest import Case, Shared
from lib.util import wait_until

# the kernel's devices say 1500: what is larger than the tunnel takes is fragmented behind encryption
BIG = {"mtu": 1500, "kernel_mtu": 1500}


def snmp(ns, name):
    """A counter of Ip: in /proc/net/snmp, or of /proc/net/snmp6."""
    def read():
        if name.startswith("Ip6"):
            with open("/proc/thread-self/net/snmp6") as f:
                return int(dict(line.split() for line in f)[name])
        with open("/proc/thread-self/net/snmp") as f:
            keys, values = [line.split()[1:] for line in f if line.startswith("Ip:")]
        return int(dict(zip(keys, values))[name])
    return ns.enter(read)


def learn(b, l, v, back, size):
    """IPv6 senders learn the path MTU from the first packet that is too big; that one is lost by design."""
    (ns, me), (_, far) = b.ends(l, v, back)
    ns.run(["ping", "-n", "-q", "-c", "2", "-i", "0.2", "-W", "1", "-s", size, "-I", me, far], check=False)


def inner(bed, n, v, case):
    """Datagrams beyond the MTU: the host or the gateway fragments the raw packet."""
    b = bed()
    l = b.links[n]
    b.mark()
    for back in (False, True):
        if v == 6:
            learn(b, l, v, back, 1440)
        b.ping(l, v, back=back, size=3000, extra=("-M", "dont") if v == 4 else ())
        b.udp(l, v, 64, back=back, sizes=(2000, 1500, 4000, 1473, 2900), burst=8)
    b.verdict(allowed=("df-too-big",) if v == 6 else ())


def df(bed, n, case):
    """Too big with DF: the sender is told, and told the device's exact MTU; that size then fits, one more does not."""
    b = bed()
    l = b.links[n]
    mtu = b.daemon.link(l.name)["mtu"]
    (ns, me), (_, far) = b.ends(l, 4)
    p = ns.run(["ping", "-n", "-c", "3", "-i", "0.3", "-W", "1", "-M", "do", "-s", mtu + 1 - 28, "-I", me, far], check=False)
    said = re.findall(r"mtu ?= ?(\d+)", p.stdout + p.stderr)
    assert said and set(said) == {str(mtu)}, f"MTU {mtu}: {p.stdout}{p.stderr}"
    b.ping(l, 4, size=mtu - 28, extra=("-M", "do"))
    case.note(f"device MTU {mtu}")


def outer(bed, n, back, case):
    """Inner packets without DF that fit no single envelope: the envelope is fragmented, and put together again."""
    b = bed()
    l = b.links[n]
    to = b.a if back else b.b
    name = "ReasmOKs" if l.outer == 4 else "Ip6ReasmOKs"
    before = snmp(to, name)
    b.mark()
    b.ping(l, 4, back=back, size=1472, extra=("-M", "dont"))
    b.ping(l, 4, back=not back, size=1472, extra=("-M", "dont"))
    (src, me), (dst, far) = b.ends(l, 4, back)
    rx, tx = dst.socket(socket.AF_INET, socket.SOCK_DGRAM), src.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        tx.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER, IP_PMTUDISC_DONT
        rx.settimeout(8)
        rx.bind((far, 5002))
        tx.bind((me, 0))
        want = {k: k.to_bytes(4, "big") + bytes(1428 + k % 40) for k in range(60)}
        for p in want.values():
            tx.sendto(p, (far, 5002))
        b.take(rx, dict(want), f"outer fragments to {far}")
    finally:
        rx.close()
        tx.close()
    made = snmp(to, name) - before
    case.note(f"{made} envelopes reassembled")
    assert made >= 60, f"only {made} envelopes came in fragments"
    b.verdict()


def tcp(bed, n, case):
    """TCP finds the size by itself, both ways, though both hosts say 1500."""
    b = bed()
    for v in (4, 6):
        for back in (False, True):
            b.tcp(b.links[n], v, 1 << 20, back=back)


def cases(job):
    kinds = [(4, "esp"), (6, "esp"), (4, "udp"), (6, "udp")]
    out = []
    bed = Shared(lambda: Bed([Link(i + 1, outer=o, encap=e, plain=i == 0) for i, (o, e) in enumerate(kinds)])).get
    for i, (o, e) in enumerate(kinds):
        for v in (4, 6):
            out.append(Case(f"inner-{e}-o{o}-i{v}", lambda case, i=i, v=v: inner(bed, i, v, case), limit=90))
        out.append(Case(f"df-{e}-o{o}", lambda case, i=i: df(bed, i, case), limit=60))
        out.append(Case(f"tcp-{e}-o{o}", lambda case, i=i: tcp(bed, i, case), limit=90))
    big = Shared(lambda: Bed([Link(i + 1, outer=o, encap=e, **BIG) for i, (o, e) in enumerate(kinds)])).get
    for i, (o, e) in enumerate(kinds):
        for back in (False, True):
            if back and o == 6:  # the kernel fragments nothing behind encryption over IPv6: it answers too-big
                continue
            out.append(Case(f"outer-{e}-o{o}-{'in' if back else 'out'}", lambda case, i=i, back=back: outer(big, i, back, case), limit=60))
    return out
