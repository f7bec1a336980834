# SPDX-License-Identifier: GPL-2.0-or-later
"""Every legal length and header of an inner packet, and every header an envelope may come with."""
import os
import socket
import struct

import pytest
from scapy.layers.inet import IP, UDP, IPOption_NOP, IPOption_RR, IPOption_Router_Alert, IPOption_Timestamp
from scapy.layers.inet6 import (IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop,
                                IPv6ExtHdrRouting, Pad1, PadN, RouterAlert)
from scapy.packet import Raw, raw

from lib.traffic import Listener, UdpEcho, family, need_ping, tcp_transfer
from lib.util import FULL, wait_until

PATHS = {"esp4": ("4", "esp"), "udp4": ("4", "udp"), "esp6": ("6", "esp"), "udp6": ("6", "udp")}
OUT = {"a4": "198.51.100.1", "b4": "198.51.100.2", "a6": "2001:db8::1", "b6": "2001:db8::2"}
INNER = {4: ("10.1.0.2", "10.2.0.2"), 6: ("fd01::2", "fd02::2")}
PROTO = 253  # RFC 3692: nobody's
NOISE = os.urandom(1 << 17)


def bed(lab, path, **kw):
    outer, encap = PATHS[path]
    return lab.two_gateways(path_a=f"{OUT['b' + outer]} encap {encap}", path_b=f"{OUT['a' + outer]} encap {encap}", **kw)


class Lengths:
    """Raw IP from one host to another: any length from the bare header on."""

    def __init__(self, src, dst, addr):
        fam = family(addr)
        self.head = 40 if fam == socket.AF_INET6 else 20
        self.to = (addr, 0)
        self.rx, self.tx = dst.socket(fam, socket.SOCK_RAW, PROTO), src.socket(fam, socket.SOCK_RAW, PROTO)
        self.rx.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        self.tx.setsockopt(socket.SOL_SOCKET, 32, 4 << 20)  # SO_SNDBUFFORCE
        self.rx.settimeout(2)
        if fam == socket.AF_INET:
            self.tx.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_PMTUDISC_DONT

    def check(self, lengths):
        """One packet of each total length; what arrives is compared byte by byte. Returns their number."""
        lengths = [n for n in lengths if n >= self.head]
        while lengths:
            part, room = [], 64 << 10
            while lengths and len(part) < 32 and room > 0:
                part.append(lengths.pop(0))
                room -= part[-1]
            want = [NOISE[n % 251:n % 251 + n - self.head] for n in part]
            for w in want:
                self.tx.sendto(w, self.to)
            for _ in part:
                try:
                    got = self.rx.recv(1 << 17)
                except socket.timeout:
                    raise AssertionError(f"of inner lengths {part} these are missing: {[len(w) + self.head for w in want]}")
                body = got[20:] if self.head == 20 else got
                assert body in want, f"{len(body) + self.head} bytes arrived changed or twice: {got[:40].hex()}"
                want.remove(body)

    def close(self):
        self.rx.close()
        self.tx.close()


def lengths(top, *edges):
    """All of them, or all up to 200 and those around what is special on the way."""
    if FULL:
        return range(top + 1)
    special = [256, 512, 1024, 1280, 1446, 1500, 2048, 3484, 3498, 3840, 4096, 8192, 9000, 16384, 32768, 49152, top, *edges]
    near = {n + d for n in special for d in range(-3, 4)}
    return sorted(n for n in {*range(200), *range(200, top, 1009), *near} if n <= top)


@pytest.mark.parametrize("path", ["esp4", "udp6"])
def test_every_length_cut_before(lab, path):
    """0..65535 through a link of ordinary MTU: hosts and gateways cut the inner packet, both ways."""
    t = bed(lab, path)
    mtu = t.da.link()["mtu"]
    for fam, (near, far) in INNER.items():
        need_ping(t.h1, far)
        for src, dst, addr in ((t.h1, t.h2, far), (t.h2, t.h1, near)):
            run = Lengths(src, dst, addr)
            if fam == 6:  # who may not be cut on the way must be told first
                e = UdpEcho(src, dst, addr)
                e.tx.sendto(bytes(1452), e.to)
                wait_until(lambda: e.knows_mtu(src, addr) == mtu, 3, "the host is told")
                e.close()
            run.check(lengths(65535, mtu, 2 * mtu))
            run.close()


@pytest.mark.parametrize("path", PATHS)
def test_every_length_cut_after(lab, path):
    """0..65535 as one packet each: the link takes them whole, and the envelope is cut on an ordinary wire."""
    t = bed(lab, path, mtu=1500, link_mtu=65535)
    for ns, dev in ((t.h1, "eth0"), (t.a, "eth0"), (t.h2, "eth0"), (t.b, "eth0")):
        ns.ip(f"link set {dev} mtu 65535")
    mtu = t.da.link()["mtu"]
    assert 65400 < mtu < 65535, "what an envelope of 65535 bytes holds"
    for near, far in INNER.values():
        need_ping(t.h1, far)
        for src, dst, addr in ((t.h1, t.h2, far), (t.h2, t.h1, near)):
            run = Lengths(src, dst, addr)
            run.check(lengths(mtu))
            run.close()
    assert t.db.json("drops")["global"]["wire_pass_frag"] > 1000


@pytest.mark.parametrize("path", ["esp4", "udp6"])
def test_super_packets_of_every_length(lab, path):
    """UDP super-packets: every number of segments, and every length of the last one that is an edge."""
    t = bed(lab, path)
    for fam, (_, far) in INNER.items():
        need_ping(t.h1, far)
        e = UdpEcho(t.h1, t.h2, far)
        e.rx.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)
        for size in (1, 7, 500, t.da.link()["mtu"] - (28 if fam == 4 else 48)):
            e.tx.setsockopt(socket.SOL_UDP, 103, size)
            for n in range(2, min(64, 65400 // size) + 1, 1 if FULL or size > 1000 else 9):
                for last in {1, size // 2, size - 1, size} - {0}:
                    data = NOISE[n:n + (n - 1) * size + last]
                    e.tx.sendto(data, e.to)
                    got = [e.rx.recv(1 << 16) for _ in range(n)]
                    assert sorted(got) == sorted(data[i:i + size] for i in range(0, len(data), size)), (size, n, last)
        e.close()


# --- headers inside ---

OPTIONS = [IPOption_NOP(), IPOption_RR(length=11, pointer=4, routers=["0.0.0.0"] * 2), IPOption_Timestamp(length=8, pointer=5)]
EXTS = IPv6ExtHdrHopByHop(options=[RouterAlert()]) / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 20)]) / \
    IPv6ExtHdrRouting(type=253, segleft=0) / IPv6ExtHdrFragment(offset=0, m=0, id=7)


def inner_packets(src4, dst4, src6, dst6):
    body = UDP(sport=7, dport=4242) / Raw(NOISE[:777])
    return [IP(src=src4, dst=dst4, options=OPTIONS) / body, IP(src=src4, dst=dst4, options=[IPOption_NOP()] * 40) / body,
            IP(src=src4, dst=dst4, options=[IPOption_Router_Alert()], flags="MF") / body,
            IP(src=src4, dst=dst4, frag=100, proto=17) / Raw(NOISE[:64]),
            IPv6(src=src6, dst=dst6) / EXTS / body,
            IPv6(src=src6, dst=dst6) / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(252))] * 2) / body,
            IPv6(src=src6, dst=dst6) / IPv6ExtHdrFragment(offset=9, m=1, id=9, nh=17) / Raw(NOISE[:800])]


def test_inner_headers_in(lab):
    """Options, extension headers and fragments inside: what was sealed is what ipsec1 shows."""
    t = lab.peer_bed()
    tap = Listener(t.a, "ipsec1")
    sent = [raw(p) for p in inner_packets(*(INNER[f][i] for f in (4, 6) for i in (1, 0)))]
    for p in sent:
        t.peer.send_raw(t.peer.seal(p))
    tap.wait(lambda p: p in sent, n=len(sent), what="inner packets, exact")
    tap.close()


def test_inner_headers_out(lab):
    """The same on the way out, opened and sealed again by somebody else's ESP."""
    t = lab.peer_bed()
    sent = [raw(p) for p in inner_packets(*(INNER[f][i] for f in (4, 6) for i in (0, 1)))]
    s = t.a.packet_socket("ipsec1")
    for p in sent:
        s.send(bytes(12) + (b"\x08\x00" if p[0] >> 4 == 4 else b"\x86\xdd") + p)
    s.close()
    wait_until(lambda: all(p in t.peer.inner for p in sent), 3, lambda: f"{len(sent)}: {len(t.peer.inner)}")
    assert not t.peer.problems, t.peer.problems[:2]


@pytest.mark.parametrize("path", ["esp4", "udp6"])
def test_bulk_with_options(lab, path):
    """TCP super-packets with IPv4 options: cut right, headers repeated. (With IPv6 destination options the kernel's
    own TCP loses its super-packets on a plain veth: 6.18.)"""
    t = bed(lab, path)
    need_ping(t.h1, INNER[4][1])
    sent, got = tcp_transfer(t.h1, t.h2, INNER[4][1], 4 << 20, opt=(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x01" * 8))
    assert sent == got


# --- headers outside ---

def with_headers(t, outer, encap, esp):
    """One envelope as it may come: options of IPv4, extension headers of IPv6."""
    body = UDP(sport=4500, dport=4500, chksum=0 if outer == 4 else None) / Raw(esp) if encap == "udp" else Raw(esp)
    nh = 17 if encap == "udp" else 50
    src, dst = t.outer[f"b{outer}"], t.outer[f"a{outer}"]
    if outer == 4:
        return [IP(src=src, dst=dst, proto=nh, options=o) / body for o in
                ([IPOption_NOP()] * 4, [IPOption_Router_Alert()], [IPOption_NOP()] * 40)]
    pad = [PadN(optdata=b"\0" * 4)]
    return [IPv6(src=src, dst=dst) / IPv6ExtHdrDestOpt(options=pad, nh=nh) / body,
            IPv6(src=src, dst=dst) / IPv6ExtHdrHopByHop(options=pad) / IPv6ExtHdrDestOpt(options=pad, nh=nh) / body,
            IPv6(src=src, dst=dst) / IPv6ExtHdrDestOpt(options=[Pad1(), PadN(optdata=bytes(3))], nh=nh) / body]


@pytest.mark.parametrize("encap", ["esp", "udp"])
@pytest.mark.parametrize("outer", [4, 6])
def test_envelopes_with_headers(lab, outer, encap):
    """Opened whatever stands between IP header and ESP; of a stranger's nothing is answered."""
    t = lab.peer_bed(outer=outer, encap=encap)
    tap, wire = Listener(t.a, "ipsec1"), Listener(t.b, "eth1")
    atk = lab.attacker(t.b, "eth1", t.a)
    for i in range(3):
        inner = raw(IP(src=INNER[4][1], dst=INNER[4][0], id=i) / UDP(sport=7, dport=4242) / Raw(NOISE[:500]))
        atk.ip(raw(with_headers(t, outer, encap, t.peer.seal(inner))[i]))
        tap.wait(lambda p: p == inner, what=f"the inner packet of envelope {i}")
        atk.ip(raw(with_headers(t, outer, encap, struct.pack(">II", 0x12345678, 1) + NOISE[:60])[i]))
    need = raw(IP(src=INNER[4][1], dst=INNER[4][0], id=99) / UDP(sport=7, dport=4242))
    t.peer.send_raw(t.peer.seal(need))
    tap.wait(lambda p: p == need, what="a last one, behind all the others")
    errors = [p for p in wire.poll() if (p[0] >> 4 == 4 and p[9] == 1) or (p[0] >> 4 == 6 and p[6] == 58 and p[40] < 128)]
    assert not errors, f"a stranger was answered: {errors[0].hex()}"
    tap.close()
    wire.close()
