# SPDX-License-Identifier: GPL-2.0-or-later
"""A capture of the wire played again delivers nothing, in any order, whichever way it comes in."""
import random

import pytest

from lib.esp_peer import Frame
from lib.traffic import Listener, UdpEcho, need_ping
from lib.util import scaled, wait_until

PACKETS = scaled(1500, 20000, "ESPWIRE_REPLAY")


def own(lab, t, since=0):
    return [f for f in lab.tap.pcap(t.a, "eth1", True)[since:] if (lambda x: x.esp is not None and x.spi == t.pair.a.spi)(Frame(f))]


def rejects(d):
    """With ESN a number left of the window is taken for one of the next 2^32, and the ICV says no (RFC 4303 A2.2)."""
    j = d.json("drops")["links"][0]["in"]
    return j["replay-old"] + j["replay-dup"] + j["icv-fail"]


@pytest.mark.parametrize("order", ["same", "reversed", "shuffled", "thrice"])
@pytest.mark.parametrize("encap", ["esp", "udp"])
def test_capture_again(lab, encap, order):
    t = lab.two_gateways(liveness="off", path_a=f"198.51.100.2 encap {encap}", path_b=f"198.51.100.1 encap {encap}")
    need_ping(t.h1, "10.2.0.2")
    since = len(lab.tap.pcap(t.a, "eth1", True))  # what left before gwB was there is news to it, not a replay
    e = UdpEcho(t.h1, t.h2, "10.2.0.2")
    e.check((n.to_bytes(4, "big") * 20 for n in range(PACKETS)), burst=64)
    e.close()
    frames = own(lab, t, since)
    assert len(frames) >= PACKETS
    frames = {"same": frames, "reversed": frames[::-1], "thrice": frames * 3,
              "shuffled": random.Random(3).sample(frames, len(frames))}[order]
    out_of_link, had = Listener(t.b, "ipsec1"), rejects(t.db)
    atk = lab.attacker(t.a, "eth1", t.b)
    for i in range(0, len(frames), 64):
        for f in frames[i:i + 64]:
            atk.frame(f)
        wait_until(lambda: rejects(t.db) - had >= min(i + 64, len(frames)), 3,
                   lambda: f"{min(i + 64, len(frames))} judged, {rejects(t.db) - had}", poll=0.001)
    assert rejects(t.db) - had == len(frames)
    assert out_of_link.count(lambda p: p[0] >> 4 == 4) == 0, "a replay was delivered"
    out_of_link.close()
    need_ping(t.h1, "10.2.0.2")


def test_duplicates_on_the_wire_are_delivered_once(lab):
    """Bit-identical copies (two paths, a faulty switch) are one packet."""
    t = lab.peer_bed()
    from scapy.layers.inet import IP, UDP
    from scapy.packet import Raw, raw
    for n in range(100):
        esp = t.peer.seal(raw(IP(src="10.2.0.2", dst="10.1.0.2", id=n) / UDP(dport=1) / Raw(b"x")))
        t.peer.send_raw(esp)
        t.peer.send_raw(esp)
    wait_until(lambda: rejects(t.da) == 100, 3, lambda: f"100 copies dropped: {rejects(t.da)}")
    assert t.da.link()["rx"]["packets"] == 100
