# SPDX-License-Identifier: GPL-2.0-or-later
"""Section 5 of the seed: transport mode as a link, and what can run over it (docs/seed.md)."""
import errno
import socket

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.packet import Raw

from lib.frames import fold
from lib.topo import conf_text
from lib.traffic import Listener, checksums_right, need_ping, ping, tcp_transfer, volley
from lib.util import wait_until
from test_transport import WILD, ScapyHost, hosts, section

OWN = {"a4": "10.9.0.1", "b4": "10.9.0.2", "a6": "fd09::1", "b6": "fd09::2"}


def with_own_addresses(lab, outer, encap="esp"):
    """gwA and gwB, a transport mode link between them that has addresses of its own; no mark, no rule."""
    t = lab.two_hosts(hosts=False)
    lab.tap.protect("10.9.0.0/24", "fd09::/64")
    _, ka, kb = lab.pair_files(mode="transport")
    for name, ns, me, far, key in (("da", t.a, "a", "b", ka), ("db", t.b, "b", "a", kb)):
        path = f"{WILD[f'{far}{outer}']} encap {encap}"
        setattr(t, name, lab.daemon(ns, conf_text(section(OWN[f"{me}{outer}"], OWN[f"{far}{outer}"], outer, key, path)), keys=[key]))
    t.da.wait_up()
    t.db.wait_up()
    return t


def refused(src, addr):
    """An ICMP error for a closed port finds the socket that asked."""
    s = src.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(2)
    s.connect((addr, 9))
    s.send(b"anybody there?")
    try:
        s.recv(10)
    except OSError as e:
        return e.errno == errno.ECONNREFUSED
    finally:
        s.close()
    return False


@pytest.mark.parametrize("outer, encap", [(4, "esp"), (6, "esp"), (4, "udp")])
def test_5_addresses_of_its_own(lab, outer, encap):
    """The far address is rewritten to the peer's wild one and back: distinct addresses, no inner header, no mark."""
    t = with_own_addresses(lab, outer, encap)
    a, b = OWN[f"a{outer}"], OWN[f"b{outer}"]
    need_ping(t.a, b)
    need_ping(t.b, a)
    heard = Listener(t.b, "ipsec1")
    wire = Listener(t.a, "eth1", outgoing=True)
    for src, dst, addr in ((t.a, t.b, b), (t.b, t.a, a)):
        sent, got = tcp_transfer(src, dst, addr, 2 << 20)
        assert sent == got
    lab.sink(t.b, 5004)
    volley(lab, [(t.a, b)], apart=True)
    heard.wait(lambda p: lab.tap.canary in p, n=20)
    assert all(checksums_right(p) for p in heard.poll() if len(p) <= 1500)
    assert refused(t.a, b) and refused(t.b, a)
    # one header on the wire: the longest envelope of a ping of known size says so
    wire.poll().clear()
    assert ping(t.a, b, count=1, size=1000)
    header = 20 if outer == 4 else 40
    longest = max(len(p) for p in wire.poll())
    assert header + 1008 + 32 <= longest <= header + 1008 + 32 + 4 + (8 if encap == "udp" else 0)
    assert ping(t.a, WILD[f"b{outer}"]), "the wild side is another address, for cleartext (3.2) and for IKE"
    for x in (heard, wire):
        x.close()
    t.db.kill()
    wait_until(lambda: not t.da.is_up(), 5, "the link goes down")
    volley(lab, [(t.a, b)])
    assert ping(t.a, WILD[f"b{outer}"])
    t.da.kill()
    volley(lab, [(t.a, b)])  # the taps tell of any that leaves in the clear


@pytest.mark.parametrize("outer", [4, 6])
def test_5_a_host_that_does_not_rewrite(lab, outer):
    """The other host knows nothing of it: on the wire it is transport mode between the wild addresses, as scapy has it."""
    a, b = OWN[f"a{outer}"], OWN[f"b{outer}"]
    h = ScapyHost(lab, outer, "esp", own=(a, b))
    ip, header = h.cls, 20 if outer == 4 else 40
    out, into = Listener(h.t.a, "ipsec1", outgoing=True), Listener(h.t.a, "ipsec1")
    volley(lab, [(h.t.a, b)], n=5)
    ping(h.t.a, b, count=1, timeout=0.2)
    theirs = wait_until(lambda: (lambda x: x if len(x) >= 6 else None)(h.opened()), 5, "six packets at the other host")
    ours = [p for p in out.poll() if ip(p).dst == b]
    assert {(ip(p).src, ip(p).dst) for p in theirs} == {(h.far, h.me)} and all(checksums_right(p) for p in theirs)
    assert [p[header + 8:] for p in theirs] == [p[header + 8:] for p in ours[:len(theirs)]]

    lab.sink(h.t.a, 4242)
    h.send(ip(src=h.me, dst=h.far) / UDP(sport=7, dport=4242) / Raw(b"hello"), 1)
    h.send(ip(src=h.me, dst=h.far) / UDP(sport=7, dport=4242, chksum=0x1234) / Raw(b"wrong"), 2)
    quote = ip(src=h.far, dst=h.me) / UDP(sport=4242, dport=9) / Raw(bytes(8))
    h.send(ip(src=h.me, dst=h.far) / (ICMP(type=3, code=3) if outer == 4 else ICMPv6DestUnreach(code=4)) / quote, 3)
    got = into.wait(lambda p: (ip(p).src, ip(p).dst) == (b, a), n=3)
    assert [checksums_right(p) for p in got] == [True, False, True], "what was wrong stays wrong"
    inner = got[2][header + 8:]
    assert (ip(inner).src, ip(inner).dst) == (a, b), "an error quotes what this host has sent"
    assert outer == 6 or fold(inner[:20]) == 0xffff
    for x in (out, into):
        x.close()


def test_5_ike_by_the_real_interface(lab):
    """IKE to the peer's address goes out unaltered, though the link carries that address: by its port, or by the mark."""
    t = hosts(lab, 4)
    need_ping(t.a, t.addr_b)
    t.a.ip("rule add ipproto udp dport 500 lookup 51")
    link = Listener(t.a, "ipsec1", outgoing=True)
    for port, mark, data in ((500, 0, b"ike" * 30), (4500, 0x51, b"\0\0\0\0" + b"ike" * 30)):
        far, near = (ns.socket(socket.AF_INET, socket.SOCK_DGRAM) for ns in (t.b, t.a))
        for s in (far, near):
            s.bind(("", port))
            s.settimeout(3)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        near.sendto(data, (t.addr_b, port))
        assert far.recvfrom(1000) == (data, (t.addr_a, port))
        far.close()
        near.close()
    assert not link.count(lambda p: b"ikeike" in p)
    link.close()
    need_ping(t.a, t.addr_b)


def over_transport(lab, way):
    """gwA and gwB with a transport mode link between them. Return: the bed, {side: address}"""
    if way == "mark":
        t = hosts(lab, 4)
        return t, {"a": t.addr_a, "b": t.addr_b}
    return with_own_addresses(lab, 4), {"a": OWN["a4"], "b": OWN["b4"]}


def carries_what_is_not_ip(lab, t, dev):
    """An Ethernet between gwA and gwB: ARP, IPX, whatever; packets longer than it carries; bulk. Each dev has its address already."""
    need_ping(t.a, "192.168.77.2")  # ARP found it
    need_ping(t.a, "192.168.77.2", size=4000)
    assert t.b.mac(dev) in t.a.out(f"ip neigh show dev {dev}")
    for ethertype in (0x8137, 0x88b5):  # IPX; local experiments
        rx = t.b.packet_socket(dev, ethertype)
        rx.settimeout(3)
        frame = bytes.fromhex((t.b.mac(dev) + t.a.mac(dev)).replace(":", "")) + ethertype.to_bytes(2, "big") + lab.tap.canary * 4
        tx = t.a.packet_socket(dev)
        tx.send(frame)
        assert rx.recv(2000) == frame
        tx.close()
        rx.close()
    sent, got = tcp_transfer(t.a, t.b, "192.168.77.2", 1 << 20)
    assert sent == got


@pytest.mark.parametrize("way", ["mark", "own"])
def test_2_2_vxlan_carries_what_is_not_ip(lab, way):
    """Layer 2 over a host-to-host connection in transport mode; envelopes on the wire. GRETAP and L2TP: VM lane, suite layer2."""
    t, addr = over_transport(lab, way)
    lab.tap.protect("192.168.77.0/24")
    for ns, me, far in ((t.a, "a", "b"), (t.b, "b", "a")):
        ns.ip(f"link add vx0 type vxlan id 77 local {addr[me]} remote {addr[far]} dstport 4789",
              f"addr add 192.168.77.{1 if me == 'a' else 2}/24 dev vx0", "link set vx0 up")
    carries_what_is_not_ip(lab, t, "vx0")
