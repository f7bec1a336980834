# SPDX-License-Identifier: GPL-2.0-or-later
"""Bad wires under espwire, and books that are exact: every envelope sent is delivered or has its reason.

The wire (impair.c) does what it is told and counts it. What reached gwA is in the tap's capture, and
lib/window.py says what RFC 4303 makes of it; the daemon's counters must say the same, and so must the wire's.
"""
import collections
import struct

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw, raw

from lib.books import global_sums, sums
from lib.esp_peer import Esp
from lib.traffic import Listener, need_ping, tcp_transfer
from lib.util import scaled, stays, wait_until
from lib.window import judge

PACKETS = scaled(1500, 30000, "ESPWIRE_IMPAIRED")
W = 256
LATE = 20000  # ms that a held envelope waits for the others, however slow the machine
KINDS = [(4, "esp"), (4, "udp"), (6, "udp")]


def inner(n):
    src, dst, ip = (("10.2.0.2", "10.1.0.2", IP), ("fd02::2", "fd01::2", IPv6))[n % 2]
    return raw(ip(src=src, dst=dst) / UDP(sport=7, dport=4242) / Raw(struct.pack(">I", n) * (1 + n % 100)))


class Flow:
    """The independent peer sends numbered packets through the bad wire; nothing else goes that way."""

    def __init__(self, lab, outer=4, encap="esp", esn=True, fold=()):
        """fold: reasons that cannot be told from icv-fail here, and count as that."""
        self.lab, self.fold = lab, fold
        self.t = lab.peer_bed(outer=outer, encap=encap, esn=esn, window=W, bad=True)
        self.wire, self.before = self.t.bad, self.t.da.json("drops")
        self.link = Listener(self.t.a, "ipsec1")
        lab.closers.append(self.link.close)
        lab.whole_capture = True
        self.sent = []

    def send(self, n=PACKETS):
        for _ in range(n):
            self.sent.append(inner(len(self.sent)))
            self.t.peer.send_raw(self.t.peer.seal(self.sent[-1]))
        self.books = self.wire.through()["b"]

    def judge(self):
        """Everything that reached gwA, as the RFC would have it; and as gwA has it, once that is as much."""
        frames = self.lab.tap.pcap(self.wire.ns, "end-a", True)
        verdicts, self.model, self.want_inner = judge(frames, Esp(self.t.pair.b), W)
        want = self.folded(verdicts)
        wait_until(lambda: self.verdicts() == want, 5, lambda: f"verdicts {dict(want)}, has {dict(self.verdicts())}")
        assert sum(want.values()) == self.books["out"] - self.books["other"], "the wire and the tap agree"
        assert self.got() == sorted(self.want_inner), "what is delivered is what was sealed"
        return want

    def verdicts(self):
        now = self.t.da.json("drops")
        moved = {**sums(self.before, now, "in"), "delivered": self.t.da.link()["rx"]["packets"],
                 "no-sa": global_sums(self.before, now).get("no-sa", 0)}
        return self.folded(moved)

    def folded(self, verdicts):
        total = collections.Counter()
        for reason, n in verdicts.items():
            total["icv-fail" if reason in self.fold else reason] += n
        return +total

    def got(self):
        return sorted(p for p in self.link.poll() if p[6 if p[0] >> 4 == 6 else 9] == 17)

    def lost(self):
        return self.t.da.link()["lost"]


@pytest.mark.parametrize("outer,encap", [(4, "esp"), (6, "udp")])
def test_loss(lab, outer, encap):
    """What is lost is lost, nothing else; the estimate in `show` is the number, once the window has passed."""
    f = Flow(lab, outer, encap)
    f.wire.rule("b", "drop", "p=0.05")
    f.wire.rule("b", "drop", "burst=700/30")
    f.send()
    v = f.judge()
    assert v == {"delivered": PACKETS - f.books["dropped"]} and f.books["dropped"] > 80
    assert f.lost() == f.model.lost
    f.wire.clear()
    f.send(W + 1)  # the last holes leave the window
    f.judge()
    assert f.lost() == f.books["dropped"]


def test_duplicates(lab):
    """Each copy is a replay-dup, and the packet is delivered once."""
    f = Flow(lab, encap="udp")
    f.wire.rule("b", "dup", "p=0.1", 1)
    f.wire.rule("b", "dup", "every=100", 3)
    f.send()
    assert f.judge() == {"delivered": PACKETS, "replay-dup": f.books["duplicated"]}
    assert f.books["duplicated"] > 150 and f.lost() == 0


def test_reordering_inside_the_window(lab):
    """Late by up to W - 1: nothing is lost."""
    f = Flow(lab)
    f.wire.rule("b", "swap", "every=13", 4, LATE)
    f.send()
    f.wire.clear()
    f.wire.rule("b", "swap", "at=400,1100", W - 1, LATE)
    f.send()
    assert not f.books["expired"] and f.books["swapped"] == PACKETS // 13 + 2
    assert f.judge() == {"delivered": 2 * PACKETS} and f.lost() == 0


@pytest.mark.parametrize("esn", [False, True], ids=["noesn", "esn"])
def test_reordering_beyond_the_window(lab, esn):
    """Late by W: the number is left of the window, counts as replay-old and as lost.

    With ESN it is taken as one of the next 2^32 (RFC 4303 A2.2), so its ICV is wrong: unless it came in one
    batch with what moved the window.
    """
    f = Flow(lab, esn=esn, fold=("replay-old",) if esn else ())
    late = range(100, 1200, 300)
    f.wire.rule("b", "swap", "at=" + ",".join(map(str, late)), W, LATE)
    f.send()
    assert not f.books["expired"] and f.books["swapped"] == len(late)
    assert f.judge() == {"delivered": PACKETS - len(late), "icv-fail" if esn else "replay-old": len(late)}
    assert f.lost() == len(late)


@pytest.mark.parametrize("outer,encap", KINDS)
def test_damage_behind_the_header(lab, outer, encap):
    """One bit in IV, ciphertext or ICV: icv-fail, each one. In UDP no checksum is needed for that."""
    f = Flow(lab, outer, encap)
    f.wire.rule("b", "corrupt", "p=0.05", 8, 0)
    f.wire.rule("b", "corrupt", "every=50", -16, 0)
    f.send()
    v = f.judge()
    assert v["icv-fail"] + v["delivered"] == PACKETS and 60 < v["icv-fail"] <= f.books["corrupted"]
    assert f.lost() == f.model.lost


def test_damage_in_the_header(lab):
    """A bit of SPI or sequence number: no-sa, or refused; as a replay only where the number it became was known."""
    f = Flow(lab, esn=False, fold=("replay-dup", "replay-old"))
    f.wire.rule("b", "corrupt", "every=5", 0, 8)
    f.send()
    v = f.judge()
    assert v["delivered"] == PACKETS - f.books["corrupted"] == PACKETS - PACKETS // 5
    assert v["no-sa"] > 50 and v["icv-fail"] > 50
    assert "replay-dup" in lab.drops_seen()


@pytest.mark.parametrize("outer,encap", [(4, "udp"), (6, "esp")])
def test_short(lab, outer, encap):
    """Whole packets around an ESP that is too short to be one, at every length from the header on."""
    f = Flow(lab, outer, encap)
    for n in range(8, 40):
        f.wire.rule("b", "truncate", "at=1,2", n)
        f.send(3)
        f.wire.clear()
    v = f.judge()
    assert v == {"delivered": 32, "short": 2 * (34 - 8), "icv-fail": 2 * (40 - 34)}


def test_everything_at_once(lab):
    """Loss, copies, damage and disorder together; the model says what becomes of each envelope."""
    f = Flow(lab, esn=False)
    f.wire.rule("b", "drop", "p=0.02")
    f.wire.rule("b", "corrupt", "p=0.02", 8, 0)
    f.wire.rule("b", "swap", "every=17", 40, 200)
    f.wire.rule("b", "swap", "at=200,700,1000", W + 50, LATE)
    f.send()
    f.wire.clear()
    f.wire.rule("b", "dup", "p=0.05", 2)
    f.send()
    v = f.judge()
    assert all(v[k] for k in ("delivered", "icv-fail", "replay-old", "replay-dup"))
    assert f.lost() == f.model.lost


@pytest.mark.parametrize("path", ["esp", "udp"])
def test_tcp_over_loss_and_disorder(lab, path):
    """2 % lost and a tenth out of order, both ways: the file arrives, whole and right."""
    t = lab.two_gateways(bad=True, path_a=f"198.51.100.2 encap {path}", path_b=f"198.51.100.1 encap {path}")
    need_ping(t.h1, "10.2.0.2")
    t.bad.both("drop", "p=0.02")
    t.bad.both("swap", "p=0.1", 5, 50)
    for src, dst, addr in ((t.h1, t.h2, "10.2.0.2"), (t.h2, t.h1, "fd01::2")):
        sent, got = tcp_transfer(src, dst, addr, scaled(1 << 20, 32 << 20, "ESPWIRE_IMPAIRED_TCP"), timeout=120)
        assert sent == got
    books = t.bad.through()
    assert books["a"]["dropped"] > 10 and books["a"]["swapped"] > 50
    for d in (t.da, t.db):
        assert not {"icv-fail", "short", "replay-old"} & d.drop_reasons(), d.drop_reasons()
