# SPDX-License-Identifier: GPL-2.0-or-later
"""Both replay windows at their edges, on one wire: the same late, doubled and shuffled envelopes in each direction.

Both sides must judge alike. With ESN a number left of the window means one 2^32 ahead (RFC 4303 A2.2), so there the
integrity check refuses it. The kernel's windows are powers of two: it keeps bits at number mod window, which
jumps where the low half wraps if the window does not divide 2^32 (one of 100 took copies there, on 6.1).
"""
import socket

import xfrm
from bed import PATIENCE, Link
from guest import Case, Shared
from lib.util import stays, wait_until
from relay import RelayedBed

EDGE = 1 << 32
LATE = 5006  # the port of the datagram that comes late
NEAR = dict(start=EDGE - 25, oseq=EDGE - 25)
FAR = dict(start=EDGE - 3000, oseq=EDGE - 3000)
# name -> Link without its number; window is the kernel's, own_window ours
LINKS = {
    "w32-w64": dict(window=32, own_window=64),
    "w32-w64-noesn": dict(window=32, own_window=64, esn=False),
    "w32-w64-edge": dict(window=32, own_window=64, **NEAR),
    "w64-w128-edge-hmac": dict(window=64, own_window=128, alg="aes-cbc-128-hmac-sha2-256", **NEAR),
    "w128-w192-edge-chacha": dict(window=128, own_window=192, alg="chacha20-poly1305", **NEAR),
    "w4096-w4096-edge": dict(window=4096, own_window=4096, alg="aes-gcm-256", **FAR),
}


class Late:
    """One datagram's envelope held on the wire until `gap` others have gone by."""

    def __init__(self, b, l, back, gap):
        self.b, self.l, self.back, self.gap = b, l, back, gap
        self.spi = (l.pair.b if back else l.pair.a).spi
        (src, me), (dst, far) = b.ends(l, 4, back)
        self.rx, self.tx = dst.socket(socket.AF_INET, socket.SOCK_DGRAM), src.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.rx.bind((far, LATE))
        self.tx.bind((me, 0))
        self.to = (far, LATE)

    def go(self):
        """Return: the held number and the newest one, both whole."""
        b, l = self.b, self.l
        b.udp(l, 4, 3, back=self.back)
        b.relay.hold(self.spi)
        self.tx.sendto(b"late", self.to)
        wait_until(lambda: b.relay.held, PATIENCE, "an envelope to hold")
        seq = b.relay.held[0][2]
        self.passes(lambda: (b.relay.last[self.spi] - seq) % EDGE, self.gap)
        base = (l.oseq if self.back else l.start) >> 32
        seq += (base << 32) if seq >= (l.oseq if self.back else l.start) % EDGE else (base + 1) << 32
        return seq, seq + self.gap

    def passes(self, gone, gap):
        """Many at once, the last ones singly: the link may have a word of its own to say."""
        while gap - gone() > 16:
            self.b.udp(self.l, 4, min(gap - gone() - 12, 256), back=self.back)
        while gone() < gap:
            self.b.udp(self.l, 4, 1, back=self.back)
        assert gone() == gap, f"{gone()} envelopes went by, not {gap}"

    def arrives(self):
        self.rx.settimeout(PATIENCE)
        try:
            return self.rx.recv(100) == b"late"
        except socket.timeout:
            return False

    def silent(self):
        self.rx.setblocking(False)

        def nothing():
            try:
                return not self.rx.recv(100)
            except BlockingIOError:
                return True

        stays(nothing, 0.5, "nothing arrives")

    def close(self):
        self.rx.close()
        self.tx.close()


def refused(b, l, back):
    """What the receiver of that direction has refused so far: (too old, seen before, not authentic)."""
    if not back:
        return xfrm.counters(b.b)[l.pair.a.spi][1]
    drops = b.drops()
    return tuple(drops.get((l.name, "in", reason), 0) for reason in ("replay-old", "replay-dup", "icv-fail"))


def wait_refused(b, l, back, before, want):
    """want: how many more of each kind."""
    end = tuple(x + y for x, y in zip(before, want))
    wait_until(lambda: refused(b, l, back) == end, PATIENCE, lambda: f"refused (old, seen, forged): {end}, not {refused(b, l, back)}")


def late(bed, n, back, inside, case):
    """window - 1 behind is in, window behind is out; what comes again is refused. Either way one counter moves by one."""
    b = bed()
    l = b.every[n]
    window = l.own_window if back else l.window
    t = Late(b, l, back, window - 1 if inside else window)
    outside = (0, 0, 1) if l.esn else (1, 0, 0)
    try:
        seq, top = t.go()
        case.note(f"{seq:#x} behind {top:#x}, window {window}")
        assert "edge" not in case.name or not inside or seq < EDGE <= top, "this was to go across 2^32"
        before = refused(b, l, back)
        b.relay.release(keep=True)
        if inside:
            assert t.arrives(), f"{top - seq} behind in a window of {window}: lost; {b.trouble()}"
        wait_refused(b, l, back, before, (0, 0, 0) if inside else outside)
        before = refused(b, l, back)
        b.relay.release()  # once more
        wait_refused(b, l, back, before, (0, 1, 0) if inside else outside)
        t.silent()
        b.udp(l, 4, 100, back=back)
    finally:
        b.relay.forget()
        t.close()


def doubled(bed, n, case):
    """Every envelope twice: everything arrives once, and each copy is counted."""
    b = bed()
    l = b.every[n]
    for back in (False, True):
        spi = (l.pair.b if back else l.pair.a).spi
        before = refused(b, l, back)
        sent = b.relay.numbers.get(spi, 0)
        try:
            b.relay.twice.add(spi)
            b.udp(l, 4, 300, back=back)
            wait_refused(b, l, back, before, (0, b.relay.numbers[spi] - sent, 0))
        finally:
            b.relay.forget()


def shuffled(bed, n, case):
    """Reordered within the smaller window: nothing is lost."""
    b = bed()
    l = b.every[n]
    b.mark()
    for back in (False, True):
        spi = (l.pair.b if back else l.pair.a).spi
        try:
            b.relay.shuffled[spi] = min(l.window, 64) // 2
            b.udp(l, 4, 512, back=back)
        finally:
            b.relay.forget()
    b.verdict()
    b.agree(l)


def nothing_else(bed, case):
    """All that was on the wire in this suite was ESP and neighbours' questions."""
    plain = bed().relay.plain
    assert not plain, f"{len(plain)} other frames, the first: {plain[0].hex()}"


def cases(job):
    # a link for each gap: the edge is crossed once
    kinds = [(name, inside) for name in LINKS for inside in (True, False)]
    bed = Shared(lambda: RelayedBed([Link(n + 1, liveness="off", **LINKS[name]) for n, (name, _) in enumerate(kinds)])).get
    out = []
    for n, (name, inside) in enumerate(kinds):
        if job["quick"] and "4096" in name:
            continue
        for back in (False, True):
            full = f"{'in' if inside else 'out'}side-{name}-{'kernel-to-us' if back else 'us-to-kernel'}"
            out.append(Case(full, lambda case, n=n, back=back, inside=inside: late(bed, n, back, inside, case), limit=120))
    for n, (name, inside) in enumerate(kinds):
        if inside and not (job["quick"] and "4096" in name):
            out.append(Case(f"doubled-{name}", lambda case, n=n: doubled(bed, n, case), limit=90))
            out.append(Case(f"shuffled-{name}", lambda case, n=n: shuffled(bed, n, case), limit=90))
    out.append(Case("only-envelopes", lambda case: nothing_else(bed, case), limit=60))
    return out
