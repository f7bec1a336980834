# SPDX-License-Identifier: GPL-2.0-or-later
"""mss-clamp: SYNs that cross a link name no larger segment than it carries, either way, and nothing else changes."""
import struct

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, PadN
from scapy.packet import raw

from lib.traffic import Listener, checksums_right, need_ping, tcp_transfer
from lib.util import wait_until

INNER = {4: ("10.1.0.2", "10.2.0.2"), 6: ("fd01::2", "fd02::2")}


def tcp_of(p):
    """(flags, options, the rest) of a TCP packet without extension headers."""
    t = p[40:] if p[0] >> 4 == 6 else p[(p[0] & 15) * 4:]
    n = (t[12] >> 4) * 4
    return t[13], t[20:n], t[n:]


def is_syn(p):
    return (p[6] if p[0] >> 4 == 6 else p[9]) == 6 and tcp_of(p)[0] & 2


def mss_of(p):
    o = tcp_of(p)[1]
    while o and o[0] != 2:
        o = o[1:] if o[0] == 1 else o[o[1]:]
    return struct.unpack(">H", o[2:4])[0]


@pytest.mark.parametrize("clamp,v4,v6", [("off", 1460, 1440), ("yes", 1406, 1386), ("1200", 1200, 1200), ("9000", 1406, 1386)])
def test_out(lab, clamp, v4, v6):
    """What a host's SYN says when it reaches the peer, read by somebody else's ESP."""
    t = lab.peer_bed(check=False, **{"mss-clamp": clamp})
    shown = t.da.link()["mss_clamp"]
    assert shown == (None if clamp == "off" else {"v4": v4, "v6": v6})
    for fam, want in ((4, v4), (6, v6)):
        s = t.h1.socket(10 if fam == 6 else 2, 1)
        s.setblocking(False)
        s.connect_ex((INNER[fam][1], 80))
        syn = wait_until(lambda: [p for p in t.peer.inner if p[0] >> 4 == fam and is_syn(p)], 3, "the SYN")[0]
        s.close()
        assert mss_of(syn) == want and checksums_right(syn)


@pytest.mark.parametrize("clamp,v4,v6", [("off", 8960, 8940), ("yes", 1406, 1386), ("1200", 1200, 1200)])
def test_in(lab, clamp, v4, v6):
    """What a far host's SYN says when it reaches ours; all other bytes are as they were sealed."""
    t = lab.peer_bed(**{"mss-clamp": clamp})
    tap = Listener(t.h1, "eth0")
    for fam, said, want in ((4, 8960, v4), (6, 8940, v6)):
        opts = [("NOP", None), ("MSS", said), ("WScale", 7)]
        near, far = INNER[fam]
        ip = IP(src=far, dst=near) if fam == 4 else IPv6(src=far, dst=near)
        sent = raw(ip / TCP(sport=80, dport=4242, flags="SA", options=opts))
        wish = raw(ip / TCP(sport=80, dport=4242, flags="SA", options=[("NOP", None), ("MSS", want), ("WScale", 7)]))
        t.peer.send_raw(t.peer.seal(sent))
        got = tap.wait(lambda p: p[0] >> 4 == fam and is_syn(p) and tcp_of(p)[0] == 0x12, what="the SYN")[0]
        ttl = 7 if fam == 6 else 8  # forwarded once
        if fam == 6:
            assert got[:ttl] + got[ttl + 1:] == wish[:ttl] + wish[ttl + 1:]
        else:
            assert got[20:] == wish[20:]
        assert checksums_right(got)
    tap.close()


def test_behind_extension_headers(lab):
    t = lab.peer_bed(**{"mss-clamp": "1300"})
    tap = Listener(t.a, "ipsec1")
    head = IPv6(src=INNER[6][1], dst=INNER[6][0]) / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])
    t.peer.send(head / TCP(sport=80, dport=4242, flags="S", options=[("MSS", 8940)]))
    want = raw(head / TCP(sport=80, dport=4242, flags="S", options=[("MSS", 1300)]))
    tap.wait(lambda p: p == want, what="the SYN with 1300 in it")
    tap.close()


def test_bulk_where_nobody_is_told(lab):
    """A firewall that swallows the ICMP errors: hosts with 1500 bytes still talk, in both directions, and are super-packets."""
    t = lab.two_gateways(**{"mss-clamp": "yes"})
    for ns in (t.a, t.b):
        ns.run(["nft", "add table inet deaf; add chain inet deaf out { type filter hook output priority 0; }; "
                "add rule inet deaf out oifname eth0 icmp type destination-unreachable drop; "
                "add rule inet deaf out oifname eth0 icmpv6 type packet-too-big drop"])
    for near, far in INNER.values():
        need_ping(t.h1, far)
        sent, got = tcp_transfer(t.h1, t.h2, far, 4 << 20, timeout=20)
        assert sent == got
        sent, got = tcp_transfer(t.h2, t.h1, near, 4 << 20, timeout=20)
        assert sent == got
    tap = t.da.json("perf")["workers"][0]
    assert tap["tap_reads"] < 2000, "cut before the link"
