# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands in the IP header of an envelope (RFC 4301 5.1.2, 8.1, RFC 6040), read from the wire, and what of it
comes back in. Inner and outer versions in all four combinations, bare ESP and UDP.
"""
import itertools
import socket
import struct

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw, raw

from lib.books import sums
from lib.traffic import Listener, ping
from lib.util import wait_until

FAR = {4: "10.2.0.2", 6: "fd02::2"}
WIRES = [(4, "esp"), (6, "esp"), (4, "udp"), (6, "udp")]
IDS = [f"o{o}-{e}" for o, e in WIRES]


def fields(ip):
    """tos, ttl, DF (None in IPv6), and the same three of any IP header."""
    if ip[0] >> 4 == 4:
        return ip[1], ip[8], bool(ip[6] & 0x40)
    return (ip[0] << 4 | ip[1] >> 4) & 0xff, ip[7], None


def send(t, family, tos, ttl, df, n):
    """One datagram from h1 with that header; gwA forwards it, so the TTL in the link is one less."""
    s = t.h1.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    if family == 4:
        s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        s.setsockopt(socket.IPPROTO_IP, 10, 2 if df else 0)  # IP_MTU_DISCOVER: DO or DONT
    else:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
    s.sendto(struct.pack(">I", n) + bytes(60), (FAR[family], 4242))
    s.close()


def number(inner):
    at = 28 if inner[0] >> 4 == 4 else 48
    proto = inner[9] if inner[0] >> 4 == 4 else inner[6]
    return struct.unpack(">I", inner[at:at + 4])[0] if proto == 17 and len(inner) == at + 64 else None


def bed(lab, outer, encap, **over):
    t = lab.peer_bed(outer=outer, encap=encap, check=False, **over)
    # udp: every envelope a frame of its own at the peer's tap
    t.cases = {}
    n = 0
    for family, tos, ttl, df in itertools.product((4, 6), (0, 1, 2, 3, 0xb8, 0xb9, 0xff), (64, 9), (True, False)):
        send(t, family, tos, ttl, df, n)
        t.cases[n] = (family, tos, ttl - 1, df)
        n += 1
    wait_until(lambda: len([p for p in t.peer.inner if number(p) is not None]) == n, 5, lambda: f"{n} packets: {len(t.peer.inner)}")
    t.pairs = [(t.cases[number(o.inner)], fields(o.inner), fields(f.ip), f.ip) for f, o in t.peer.opened if number(o.inner) is not None]
    assert len(t.pairs) == n
    for (family, tos, ttl, df), inner, _, _ in t.pairs:
        # the inner header is the sender's, whatever is done outside
        assert inner[:2] == (tos, ttl) and (family == 6 or inner[2] == df)
    return t


@pytest.mark.parametrize("outer, encap", WIRES, ids=IDS)
def test_defaults(lab, outer, encap):
    """DSCP and ECN are copied (normal mode), the TTL is our own, DF is set, nothing else is carried outside."""
    t = bed(lab, outer, encap)
    for (_, tos, _, _), _, out, ip in t.pairs:
        assert out == (tos, 64, True if outer == 4 else None)
        if outer == 4:
            assert ip[0] == 0x45, "no options"
        else:
            flow = struct.unpack(">I", ip[:4])[0] & 0xfffff
            assert ip[6] in (50, 17), "no extension headers"
            t.flows = getattr(t, "flows", set()) | {flow}
    # a flow label of the stack's own choice is one for all, and no copy of the many inside
    assert outer == 4 or len(t.flows) == 1


@pytest.mark.parametrize("outer, encap", WIRES, ids=IDS)
def test_fixed(lab, outer, encap):
    t = bed(lab, outer, encap, dscp=46, ecn="off", ttl=77, df="clear")
    for _, _, out, _ in t.pairs:
        assert out == (46 << 2, 77, False if outer == 4 else None)
    probes = []
    t.da.ctl("link set ipsec1 liveness 50ms")
    wait_until(lambda: [f for f, o in t.peer.opened if o.next == 59], 3, "a probe")
    probes = [fields(f.ip) for f, o in t.peer.opened if o.next == 59]
    assert set(probes) == {(46 << 2, 77, False if outer == 4 else None)}, "probes look like everything else"


@pytest.mark.parametrize("outer, encap", WIRES, ids=IDS)
def test_copied(lab, outer, encap):
    t = bed(lab, outer, encap, ttl="copy", df="copy", dscp="0")
    for (family, tos, ttl, df), _, out, _ in t.pairs:
        assert out == (tos & 3, ttl, None if outer == 6 else df or family == 6)


def test_df_set_never_cuts(lab):
    """df = set: an envelope that does not fit is dropped with its reason; by default it is cut."""
    t = lab.peer_bed(check=False, mtu=1500, df="set", **{"protect": None})
    t.da.ctl("link set ipsec1 mtu 2000")
    before = t.da.json("drops")
    s = t.h1.socket(socket.AF_INET, socket.SOCK_DGRAM)
    t.h1.run("ip link set dev eth0 mtu 2000")
    t.a.run("ip link set dev eth0 mtu 2000")
    s.setsockopt(socket.IPPROTO_IP, 10, 0)
    for _ in range(3):
        s.sendto(bytes(1700), (FAR[4], 4242))
    wait_until(lambda: sums(before, t.da.json("drops"), "out").get("df-too-big") == 3, 3,
               lambda: f"3 x df-too-big: {sums(before, t.da.json('drops'), 'out')}")
    t.da.ctl("link set ipsec1 df auto")
    s.sendto(bytes(1700), (FAR[4], 4242))
    wait_until(lambda: lab.tap.report() and [f for f in map(first_fragment, lab.tap.pcap(t.a, "eth1", True)) if f], 3, "fragments")
    lab.skip_checks.add("nonce")  # the peer's tap sees fragments


def first_fragment(frame):
    ip = frame[14:]
    return frame[12:14] == b"\x08\x00" and ip[9] == 50 and ip[6] & 0x20


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("input", ["xdp", "socket"])
def test_congestion_comes_back(lab, outer, input):
    """RFC 6040 figure 4, through the whole daemon: what the wire marked is in the packet that is delivered."""
    t = lab.peer_bed(outer=outer, check=False, **({"input": input} if input == "socket" else {}))
    tap = Listener(t.a, "ipsec1")
    atk = lab.attacker(t.b, "eth1", t.a)
    want = {(0, 0): 0, (0, 1): 0, (0, 2): 0, (1, 0): 1, (1, 1): 1, (1, 2): 1, (1, 3): 3, (2, 0): 2, (2, 1): 1, (2, 2): 2,
            (2, 3): 3, (3, 0): 3, (3, 1): 3, (3, 2): 3, (3, 3): 3}
    sent = {}
    for n, ((i, o), out) in enumerate(want.items()):
        for family in (4, 6):
            k = 2 * n + family // 6
            dst = ("10.1.0.2", "10.2.0.2") if family == 4 else ("fd01::2", "fd02::2")
            inner = (IP(dst=dst[0], src=dst[1], tos=0x40 | i, id=k) if family == 4 else IPv6(dst=dst[0], src=dst[1], tc=0x40 | i)) \
                / UDP(sport=7, dport=4242) / Raw(struct.pack(">I", k) + bytes(60))
            env = t.peer.seal(raw(inner))
            head = IP(src=t.outer["b4"], dst=t.outer["a4"], proto=50, tos=0x80 | o) if outer == 4 else \
                IPv6(src=t.outer["b6"], dst=t.outer["a6"], nh=50, tc=0x80 | o)
            atk.ip(head / Raw(env))
            sent[k] = (0x40 | out, (family, i, o))
    wait_until(lambda: len({number(p) for p in tap.poll() if number(p) in sent}) == len(sent), 5, lambda: f"{len(tap.packets)} delivered")
    for p in tap.packets:
        if number(p) in sent:
            tos, case = sent[number(p)]
            assert fields(p)[0] == tos, case  # DSCP is the sender's, ECN by the table
    tap.close()


def test_set_at_run_time(lab):
    """Changed by link set, without a flap; wrong values are refused in words."""
    t = lab.peer_bed(check=False)
    before = t.da.link()["flaps"]
    t.da.ctl("link set ipsec1 dscp 10 ttl 33")
    n = len(t.peer.opened)
    ping(t.h1, FAR[4], count=1, timeout=0.1)
    wait_until(lambda: len(t.peer.opened) > n, 2, "an envelope")
    assert fields(t.peer.opened[-1][0].ip)[:2] == (40, 33) and t.da.link()["flaps"] == before
    p = t.da.ctl("link set ipsec1 dscp 64", check=False)
    assert p.returncode == 2 and "0 to 63" in p.stdout
    text = t.da.json("show config")["text"]
    assert "dscp      = 10" in text and "ttl       = 33" in text
