# SPDX-License-Identifier: GPL-2.0-or-later
"""The bad wire itself: what it does to frames is what it was told, and its books say so."""
import secrets
import struct
import time

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw, raw

from lib.frames import fold
from lib.keys import fresh_spi
from lib.traffic import Listener, checksums_right

pytestmark = pytest.mark.nodaemon
BAD = bytes.fromhex("02bd00000002")


class Bed:
    """Frames with a number in the place of an ESP sequence, from gwa through the wire to gwb."""

    def __init__(self, lab):
        self.t = lab.two_hosts(hosts=False, bad=True)
        self.wire, self.tx = self.t.bad, self.t.a.packet_socket("eth1")
        self.head = bytes.fromhex((self.t.b.mac("eth1") + self.t.a.mac("eth1")).replace(":", ""))
        self.ear = Listener(self.t.b, "eth1")
        lab.closers += [self.tx.close, self.ear.close]
        self.sent, self.spi, self.numbers = [], fresh_spi(), 0

    def envelope(self, n, kind="esp4", size=80):
        esp = struct.pack(">II", self.spi, n) + secrets.token_bytes(size)
        o = self.t.outer
        ip = IPv6(src=o["a6"], dst=o["b6"]) if kind[-1] == "6" else IP(src=o["a4"], dst=o["b4"], id=n & 0xffff)
        if kind.startswith("udp"):
            return raw(ip / UDP(sport=4500, dport=4500) / Raw(esp))
        ip.__setattr__("nh" if kind[-1] == "6" else "proto", 50)
        return raw(ip / Raw(esp))

    def send(self, packet):
        self.tx.send(self.head + (b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet)
        self.sent.append(packet)

    def volley(self, n, kind="esp4"):
        """n numbered envelopes, counted from 1. Returns the numbers as they arrived so far."""
        for _ in range(n):
            self.numbers += 1
            self.send(self.envelope(self.numbers, kind))
        self.books = self.wire.through()["a"]
        return self.arrived()

    def packets(self):
        return [p for p in self.ear.poll() if self.is_envelope(p)]

    @staticmethod
    def is_envelope(p):
        return p[0] >> 4 == 4 and p[9] in (50, 17) or p[0] >> 4 == 6 and p[6] in (50, 17)

    def arrived(self):
        return [struct.unpack(">I", p[len(p) - 84:len(p) - 80])[0] for p in self.packets()]


def test_a_good_wire_changes_nothing(lab):
    b = Bed(lab)
    for n in range(500):
        b.send(b.envelope(n + 1, ("esp4", "esp6", "udp4", "udp6")[n % 4], size=n * 2))
    assert b.wire.books()["a"]["in"] - b.wire.books()["a"]["other"] == 500
    assert b.packets() == b.sent


@pytest.mark.parametrize("when,gone", [("every=10", lambda n: n % 10 == 0), ("burst=100/7", lambda n: (n - 1) % 100 < 7),
                                       ("at=1,3,250", lambda n: n in (1, 3, 250)), ("all", lambda n: True)])
def test_drop_patterns(lab, when, gone):
    b = Bed(lab)
    b.wire.rule("a", "drop", when)
    want = [n for n in range(1, 401) if not gone(n)]
    assert b.volley(400) == want
    assert b.books["dropped"] == 400 - len(want)


def test_drop_by_chance(lab):
    """About as often as asked, and with one seed the same frames."""
    b = Bed(lab)
    b.wire.rule("a", "drop", "p=0.1")
    got = b.volley(3000)
    assert len(got) == 3000 - b.books["dropped"] and 200 < b.books["dropped"] < 400
    again = Bed(lab)
    again.wire.rule("a", "drop", "p=0.1")
    assert again.volley(3000) == got


def test_only_envelopes_suffer(lab):
    """ARP, neighbour discovery, pings, IKE and keepalives pass a wire that drops everything else."""
    b = Bed(lab)
    b.wire.both("drop", "all")
    o = b.t.outer
    assert b.t.a.ok(f"ping -c 2 -i 0.01 -W 2 {o['b4']}") and b.t.a.ok(f"ping -c 2 -i 0.01 -W 2 {o['b6']}")
    for body in (b"\xff", bytes(4) + b"IKE message"):
        b.send(raw(IP(src=o["a4"], dst=o["b4"]) / UDP(sport=4500, dport=4500) / Raw(body)))
    want = list(b.sent)
    b.send(b.envelope(1))
    b.send(b.envelope(2, "udp6"))
    assert b.wire.books()["a"]["dropped"] == 2
    assert [p for p in b.packets() if p[0] >> 4 == 4 and p[9] == 17] == want


def test_dup(lab):
    b = Bed(lab)
    b.wire.rule("a", "dup", "every=4", 2)
    assert b.volley(100) == [n for k in range(1, 101) for n in [k] * (3 if k % 4 == 0 else 1)]
    assert b.books["duplicated"] == 50


@pytest.mark.parametrize("far", [1, 7, 64])
def test_swap_is_exact(lab, far):
    """One that is held comes out after exactly that many later ones; the last ones wait for the time limit."""
    b = Bed(lab)
    b.wire.rule("a", "swap", "at=10,200", far, 20000)
    want = list(range(1, 301))
    for n in (10, 200):
        want.remove(n)
        want.insert(n - 1 + far, n)
    assert b.volley(300) == want
    assert b.books["swapped"] == 2 and not b.books["expired"]
    b.wire.clear()
    b.wire.rule("a", "swap", "all", 5, 50)
    assert b.volley(1)[-1] == 301 and b.books["expired"] == 1


@pytest.mark.parametrize("kind", ["esp4", "udp6"])
@pytest.mark.parametrize("where", [(0, 8), (8, 0), (-16, 0)], ids=["header", "body", "icv"])
def test_one_bit_where_asked(lab, kind, where):
    b = Bed(lab)
    b.wire.rule("a", "corrupt", "every=2", *where)
    b.volley(100, kind)
    damaged, spots = 0, set()
    for n, (was, is_) in enumerate(zip(b.sent, b.packets())):
        bits = int.from_bytes(was, "big") ^ int.from_bytes(is_, "big")
        assert bin(bits).count("1") == n % 2, "one bit in every second frame"
        if bits:
            damaged += 1
            spots.add(len(was) - 1 - (bits.bit_length() - 1) // 8 - (len(was) - 88))
    low, high = {(0, 8): (0, 8), (8, 0): (8, 88), (-16, 0): (72, 88)}[where]
    assert low <= min(spots) and max(spots) < high and len(spots) > (high - low) // 4
    assert b.books["corrupted"] == damaged == 50


def test_truncated_ones_are_whole_packets(lab):
    """Only what is inside is short: lengths and checksums are right, and the frame is marked as the test's own."""
    b = Bed(lab)
    b.wire.rule("a", "truncate", "every=2", 20)
    for n in range(20):
        b.send(b.envelope(n + 1, ("esp4", "esp6", "udp4", "udp6")[n // 2 % 4], size=100))
    b.wire.books()
    for n, (was, is_) in enumerate(zip(b.sent, b.packets())):
        assert len(is_) == len(was) - (n % 2) * 88
        assert checksums_right(is_) and (is_[0] >> 4 == 6 or fold(is_[:20]) == 0xffff)
    macs = [f[6:12] for f in lab.tap.pcap(b.t.b, "eth1", False) if b.is_envelope(f[14:])]
    assert [m == BAD for m in macs] == [n % 2 == 1 for n in range(20)]


def test_delay_and_rate(lab):
    """Nothing comes early, and a full queue overflows by the number it says."""
    b = Bed(lab)
    b.wire.rule("a", "delay", "all", 100000, 0)
    start = time.monotonic()
    assert b.volley(50) == list(range(1, 51))
    assert time.monotonic() - start >= 0.1 and b.books["delayed"] == 50
    b.wire.clear()
    b.wire.rule("a", "rate", 1000, 40)  # 122 bytes each: about a thousand a second
    had, start = len(b.packets()), time.monotonic()
    b.volley(100)
    took = time.monotonic() - start
    came = len(b.packets()) - had
    assert came == 100 - b.books["overflow"] and came >= 40
    assert took >= 39 * 122 * 8 / 1e6, f"{came} frames in {took * 1000:.0f} ms are too fast"


def test_jitter_reorders_and_loses_nothing(lab):
    b = Bed(lab)
    b.wire.rule("a", "delay", "all", 0, 5000)
    got = b.volley(500)
    assert sorted(got) == list(range(1, 501)) and got != sorted(got)


def test_refuses_what_it_does_not_understand(lab):
    b = Bed(lab)
    for words in (("a", "drop", "every=0"), ("a", "lose", "all"), ("c", "drop", "all"), ("a", "dup", "all"), ("a", "rate", "0", "1")):
        with pytest.raises(AssertionError, match="refused"):
            b.wire.rule(*words)
