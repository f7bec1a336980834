# SPDX-License-Identifier: GPL-2.0-or-later
"""Sequence numbers at their edges, and what a restart of espwire looks like to the kernel's window."""
import functools
import signal
import time

from bed import Bed, Link
from guest import Case, Shared
from lib.util import wait_until

EDGE = 1 << 32


def crossing(window, start, oseq, **kw):
    """Both senders stand shortly before a multiple of 2^32."""
    return functools.partial(Link, window=window, start=start, oseq=oseq, **kw)


# name -> Link without its number
LINKS = {
    "first-edge-w32": crossing(32, EDGE - 150, EDGE - 150),
    "first-edge-w64": crossing(64, EDGE - 150, EDGE - 150, alg="chacha20-poly1305"),
    "first-edge-w4096": crossing(4096, EDGE - 150, EDGE - 150, alg="aes-gcm-256"),
    "first-edge-udp": crossing(32, EDGE - 150, EDGE - 150, encap="udp"),
    "eighth-edge": crossing(32, 8 * EDGE - 150, 8 * EDGE - 150),
    "apart": crossing(64, EDGE - 150, 3 * EDGE + 5),
    "low-half-31": crossing(64, (1 << 31) - 150, (1 << 31) - 150),
}


def cross(bed, n, name):
    b = bed()
    l = b.links[n]
    b.mark()
    for back in (False, True):
        b.udp(l, 4, 400, back=back)
        b.udp(l, 6, 100, back=back)
        b.tcp(l, 4, 256 << 10, back=back)
    b.verdict()
    assert b.sa(l, "out")["seq"] > l.start + 500 and b.sa(l, "in")["seq"] > l.oseq + 500


EXHAUST = 50


def no_esn_ends(bed, case):
    """RFC 4303 3.3.3: without ESN the counter must not cycle. What is left goes out, the rest is refused."""
    b = bed()
    l = b.links[0]
    sa = b.sa(l, "out")
    (src, me), (_, far) = b.ends(l, 4)
    s = src.socket(2, 2)
    s.bind((me, 0))
    for _ in range(EXHAUST * 2):
        s.sendto(b"x", (far, 9))
        time.sleep(0.01)
    s.close()
    wait_until(lambda: b.sa(l, "out")["seq"] == EDGE - 1, 10, lambda: f"the last number to be used: {b.sa(l, 'out')}")
    link = b.daemon.link(l.name)
    case.note(f"{EXHAUST} left at {sa['seq']:#x}; then {b.drops()}, {link['state']}: {link['reason']}")
    assert not b.xfrm_errors(), b.xfrm_errors()
    b.udp(l, 4, 20, back=True)  # the other direction goes on


def restart(bed, sig, case):
    """The kernel's window and numbers stay where they are; both directions go on at once and nothing repeats."""
    b = bed()
    l = b.links[0]
    b.mark()
    for back in (False, True):
        b.udp(l, 4, 100, back=back)
    before = {way: b.sa(l, way)["seq"] for way in ("out", "in")}
    b.daemon.signal(sig)
    b.daemon.proc.wait(timeout=30)
    b.daemon.start(timeout=60)
    wait_until(b.all_up, 30, b.not_up, poll=0.2)
    for back in (False, True):
        b.udp(l, 4, 200, back=back)
    after = {way: b.sa(l, way)["seq"] for way in ("out", "in")}
    case.note(f"out {before['out']} -> {after['out']}, in {before['in']} -> {after['in']}")
    assert after["out"] > before["out"] and after["in"] > before["in"]
    # the carrier was down for a while and the wire was not: those are allowed, replayed packets are not
    b.verdict(allowed=("link-down", "worker-gone", "queue-full", "no-sa"))


def lost(bed, n, case):
    """RFC 4303 A2.2: a sender that jumps ahead by less than 2^32 is followed at once."""
    b = bed()
    l = b.links[n]
    b.mark()
    b.udp(l, 4, 100)
    b.udp(l, 4, 100, back=True)
    b.verdict()
    case.note(f"out {b.sa(l, 'out')['seq']}, in {b.sa(l, 'in')['seq']}")


JUMPS = {"jump-2-20": 1 << 20, "jump-2-31": (1 << 31) + 5, "jump-2-32": EDGE - 5000}


class JumpBed(Bed):
    """Neither receiver is told where the sender stands."""

    def states(self, l, a, b):
        told, (l.start, mark) = l.start, (0, l.start)
        lines = super().states(l, a, b)
        l.start = told
        return lines


def cases(job):
    names = list(LINKS)
    bed = Shared(lambda: Bed([LINKS[k](i + 1) for i, k in enumerate(names)])).get
    out = [Case(f"esn-{k}", functools.partial(lambda case, n, k: cross(bed, n, k), n=i, k=k), limit=90) for i, k in enumerate(names)]
    jumps = Shared(lambda: JumpBed([Link(i + 1, window=64, start=s) for i, s in enumerate(JUMPS.values())])).get
    out += [Case(k, functools.partial(lambda case, n: lost(jumps, n, case), n=i), limit=60) for i, k in enumerate(JUMPS)]
    last = Shared(lambda: Bed([Link(1, esn=False, window=32, start=EDGE - 1 - EXHAUST, liveness="off")])).get
    out.append(Case("no-esn-ends", lambda case: no_esn_ends(last, case), limit=90))
    again = Shared(lambda: Bed([Link(1, window=32)])).get
    out.append(Case("restart", lambda case: restart(again, signal.SIGTERM, case), limit=120))
    out.append(Case("killed", lambda case: restart(again, signal.SIGKILL, case), limit=120))
    return out
