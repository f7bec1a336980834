# SPDX-License-Identifier: GPL-2.0-or-later
"""audit = yes: what RFC 4303 (3.3.3, 3.4.2, 3.4.3) and RFC 4301 9 want an entry to name, in the log and as events."""
import re
import secrets
import struct

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, in6_chksum
from scapy.packet import Raw, raw

from lib.books import sums
from lib.daemon import Monitor
from lib.util import stays, wait_until

FLOW = 0x5a5a5


def inner(src="10.2.0.2"):
    return raw(IP(src=src, dst="10.1.0.2") / UDP(sport=7, dport=4242) / Raw(b"audit"))


def bed(lab, outer, audit="yes", **kw):
    t = lab.peer_bed(outer=outer, ipsecd={"audit": audit}, check=False, **kw)
    t.mon = Monitor(t.da)
    wait_until(lambda: t.mon.saw(event="monitor-start"), 3, "the monitor")
    t.src, t.dst = t.outer[f"b{outer}"], t.outer[f"a{outer}"]
    t.atk = lab.attacker(t.b, "eth1", t.a)
    t.shoot = lambda esp: t.atk.ip((IP(src=t.src, dst=t.dst, proto=50) if outer == 4 else
                                  IPv6(src=t.src, dst=t.dst, nh=50, fl=FLOW)) / Raw(esp))
    return t


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("reason", ["no-sa", "icv-fail", "replay-dup", "inner-src"])
def test_entry(lab, outer, reason):
    """Who, when, what number, of which SA; also in the log."""
    t = bed(lab, outer)
    good = t.peer.seal(inner())
    spi, seq, esp = t.pair.b.spi, 77, None
    if reason == "no-sa":
        spi = 0x7fff0001
        esp = struct.pack(">II", spi, seq) + secrets.token_bytes(80)
    elif reason == "icv-fail":
        esp = struct.pack(">II", spi, seq) + secrets.token_bytes(80)
    elif reason == "replay-dup":
        t.shoot(good)
        seq, esp = t.peer.seq, good
    else:
        esp = t.peer.seal(inner("10.99.0.1"))
        seq = t.peer.seq
    t.shoot(esp)
    e = wait_until(lambda: t.mon.all(event="audit"), 3, lambda: f"an entry: {t.mon.events} {t.da.ctl('drops').stdout[:900]}")[0]
    want = {"reason": reason, "dir": "in", "spi": f"{spi:#010x}", "seq": seq, "src": t.src, "dst": t.dst, "packets": 1,
            "flow": FLOW if outer == 6 else None, "link": None if reason == "no-sa" else "ipsec1"}
    assert {k: e[k] for k in want} == want
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", e["time"])
    line = f"audit: {want['link'] or 'no link'} in: {reason} spi {spi:#010x} seq {seq} from {t.src} to {t.dst}"
    assert line in t.da.log(), t.da.log()


@pytest.mark.parametrize("outer, encap", [(4, "esp"), (6, "esp"), (6, "udp")])
def test_fragment_offered_to_esp(lab, outer, encap):
    """RFC 4303 3.4.1: it is told, once, by its first fragment; not processed as ESP: what arrives is the whole, joined before."""
    t = bed(lab, outer, encap=encap)
    esp = t.peer.seal(inner(), tfc=600)
    seq = t.peer.seq
    body = esp if encap == "esp" else struct.pack(">HHHH", 4500, 4500, 8 + len(esp), 0) + esp
    proto = 50 if encap == "esp" else 17
    if encap == "udp" and outer == 6:
        body = body[:6] + struct.pack(">H", in6_chksum(17, IPv6(src=t.src, dst=t.dst), body)) + body[8:]
    for offset, more in ((0, 1), (256, 0)):
        piece = body[offset:256] if more else body[offset:]
        if outer == 4:
            t.atk.ip(IP(src=t.src, dst=t.dst, proto=proto, id=5, flags=more, frag=offset // 8) / Raw(piece))
        else:
            t.atk.ip(IPv6(src=t.src, dst=t.dst, fl=FLOW) / IPv6ExtHdrFragment(nh=proto, id=5, m=more, offset=offset // 8) / Raw(piece))
    e = wait_until(lambda: t.mon.all(event="audit"), 3, lambda: f"an entry: {t.mon.events}")
    want = {"reason": "esp-fragment", "dir": "in", "spi": f"{t.pair.b.spi:#010x}", "seq": seq, "src": t.src, "dst": t.dst, "packets": 1,
            "flow": FLOW if outer == 6 else None, "link": None}
    assert len(e) == 1 and {k: e[0][k] for k in want} == want
    assert f"audit: no link in: esp-fragment spi {want['spi']} seq {seq} from {t.src} to {t.dst}" in t.da.log()
    wait_until(lambda: t.da.link()["rx"]["packets"] == 1, 2, "the whole envelope")


ECN = {"ecn-ect0-on-not-ect": (0, 2), "ecn-ect1-on-not-ect": (0, 1), "ecn-ect0-on-ect1": (1, 2), "ecn-ect1-on-ce": (3, 1),
       "ecn-ce-not-ect": (0, 3)}  # inside, outside: RFC 3168 5


@pytest.mark.parametrize("outer", [4, 6])
def test_ecn_that_nobody_sends(lab, outer):
    """RFC 6040 4.2, figure 4: each combination by its name, and only the one with CE is a drop. The usual ones are not told."""
    t = bed(lab, outer)
    before = t.da.json("drops")

    def shoot(inside, outside):
        esp = t.peer.seal(raw(IP(src="10.2.0.2", dst="10.1.0.2", tos=inside) / UDP(sport=7, dport=4242) / Raw(b"ecn")))
        t.atk.ip((IP(src=t.src, dst=t.dst, proto=50, tos=outside) if outer == 4 else
                  IPv6(src=t.src, dst=t.dst, nh=50, fl=FLOW, tc=outside)) / Raw(esp))
        return t.peer.seq

    for inside in range(4):
        for outside in range(4):
            if (inside, outside) not in ECN.values():
                shoot(inside, outside)
    for reason, fields in ECN.items():
        seq = shoot(*fields)
        e = wait_until(lambda: t.mon.all(event="audit", reason=reason), 3, lambda: f"{reason}: {t.mon.events}")[0]
        want = {"dir": "in", "spi": f"{t.pair.b.spi:#010x}", "seq": seq, "src": t.src, "dst": t.dst, "packets": 1,
                "flow": FLOW if outer == 6 else None, "link": "ipsec1"}
        assert {k: e[k] for k in want} == want
        assert f"audit: ipsec1 in: {reason} spi {want['spi']} seq {seq} from {t.src} to {t.dst}" in t.da.log()
    assert len(t.mon.all(event="audit")) == len(ECN), t.mon.events
    assert sums(before, t.da.json("drops"), "in") == {"ecn-ce-not-ect": 1}


def test_flood_writes_one_line_a_second(lab):
    """And the lines say how many there were: none is lost in the count."""
    t = bed(lab, 4)
    n = 600
    for k in range(n):
        t.shoot(struct.pack(">II", t.pair.b.spi, 5 + k) + secrets.token_bytes(80))
    wait_until(lambda: t.da.json("drops")["links"][0]["in"]["icv-fail"] == n, 5, "all of them counted")
    t.da.json("show")

    def told():
        t.shoot(struct.pack(">II", t.pair.b.spi, 5) + secrets.token_bytes(80))
        return sum(e["packets"] for e in t.mon.all(event="audit", reason="icv-fail")) >= n
    wait_until(told, 5, lambda: f"{t.mon.events}", poll=0.1)
    entries = t.mon.all(event="audit")
    assert len(entries) <= 6, entries


def test_sequence_overflow_is_told(lab):
    """RFC 4303 3.3.3: an SA whose numbers are used up, by its packets."""
    t = bed(lab, 4, esn=False)
    probe = struct.pack(">4sBBHQQQ", b"espw", 2, 1, 100, 0, 0, (1 << 32) - 1)
    s = t.h1.socket(2, 2)

    def push():
        t.peer.send_raw(t.peer.seal(probe, next=59))
        for _ in range(20):
            s.sendto(b"x", ("10.2.0.2", 4242))
        return t.mon.all(event="audit", reason="seq-exhausted", dir="out")
    e = wait_until(push, 5, lambda: f"{t.mon.events}")[0]
    assert (e["spi"], e["dst"], e["link"]) == (f"{t.pair.a.spi:#010x}", t.src, "ipsec1")


def test_off_by_default(lab):
    t = bed(lab, 4, audit="no")
    before = t.da.json("drops")
    t.shoot(struct.pack(">II", t.pair.b.spi, 77) + secrets.token_bytes(80))
    t.shoot(struct.pack(">II", 0x7fff0001, 77) + secrets.token_bytes(80))
    t.atk.ip(IP(src=t.src, dst=t.dst, proto=50, tos=1) / Raw(t.peer.seal(inner())))  # RFC 6040 4.2: suppressed as well
    wait_until(lambda: sums(before, t.da.json("drops"), "in") == {"icv-fail": 1}, 2, "counted")
    stays(lambda: not t.mon.saw(event="audit"), 0.5, "not told")
    assert "audit:" not in t.da.log()
