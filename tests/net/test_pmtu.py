# SPDX-License-Identifier: GPL-2.0-or-later
"""The path's MTU and the device's: a router in the middle whose second wire is narrower (RFC 4301 8)."""
import json
import os
import secrets
import socket
import struct

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.packet import Raw, raw

from lib.esp_peer import Frame
from lib.leak import read_pcap
from lib.traffic import Listener, UdpEcho, need_ping, ping
from lib.util import stays, wait_until

PATHS = {"esp4": ("4", "esp"), "udp4": ("4", "udp"), "esp6": ("6", "esp"), "udp6": ("6", "udp")}
OUT = {"a4": "198.51.100.1", "b4": "203.0.113.2", "a6": "2001:db8::1", "b6": "2001:db8:b::2"}
FAR = {4: "10.2.0.2", 6: "fd02::2"}


def fits(mtu, path):
    """RFC 4303 by hand, AES-GCM: what a path leaves for the inner packet."""
    fam, encap = PATHS[path]
    room = mtu - (20 if fam == "4" else 40) - (8 if encap == "udp" else 0) - 8 - 8 - 16
    return room // 4 * 4 - 2


def bed(lab, path, far_mtu=1500, extra="", expires=None, **kw):
    fam, encap = PATHS[path]
    kw.setdefault("liveness", "200ms x 10")
    t = lab.two_gateways(path_a=f"{OUT['b' + fam]} encap {encap} {extra}", path_b=f"{OUT['a' + fam]} encap {encap}",
                         wild={"far_mtu": far_mtu}, start=False, **kw)
    if expires:
        for ns in (t.a, t.b):
            for f in ("ipv4", "ipv6"):
                ns.sysctl_set(f"net.{f}.route.mtu_expires", expires)
    for d in (t.da, t.db):
        d.start()
        lab.by_xdp(d)
    for d in (t.da, t.db):
        d.wait_up()
    return t


def mtu(d):
    return d.link()["mtu"]


def device_mtu(ns):
    return json.loads(ns.out("ip -j link show dev ipsec1"))[0]["mtu"]


def too_long_for(t, size):
    """One inner packet of that length that may not be cut: whatever becomes of it, the router has its say."""
    s = t.a.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(0, 10, 3)  # IP_PMTUDISC_PROBE
    try:
        s.sendto(bytes(size - 28), ("10.9.0.2", 4242))
    except OSError:
        pass
    s.close()


def learn(t, want):
    def told():
        too_long_for(t, mtu(t.da))
        return mtu(t.da) == want
    wait_until(told, 3, lambda: f"mtu {want}, is {mtu(t.da)}", poll=0.1)
    assert device_mtu(t.a) == want


def envelopes(lab, ns, dev):
    """What left by dev: of gwA, or of the router towards gwB (where XDP takes them before any tap)."""
    return [f for f in map(Frame, read_pcap_out(lab, ns, dev)) if f.proto in (50, 17, 44)]


def read_pcap_out(lab, ns, dev):
    lab.tap.report()
    return read_pcap(os.path.join(lab.tap.dir, f"{ns.role}.{dev}.out.pcap"))


@pytest.mark.parametrize("path", PATHS)
def test_path_mtu_is_learned_exactly(lab, path):
    """The first envelope that is too big teaches; then the sender is told the exact number, and no byte is given away."""
    t = bed(lab, path, far_mtu=1400)
    assert mtu(t.da) == fits(1500, path), "nothing is learned before it is needed"
    learn(t, fits(1400, path))
    top = mtu(t.da)
    for fam, head in ((4, 28), (6, 48)):
        need_ping(t.h1, FAR[fam])
        assert ping(t.h1, FAR[fam], size=top - head, extra=["-M", "do"], count=2), "what fits goes whole"
        p = t.h1.run(["ping", "-n", "-c1", "-W1", "-M", "do", "-s", str(top - head + 1), FAR[fam]], check=False)
        assert f"mtu = {top}" in p.stdout + p.stderr or f"mtu={top}" in p.stdout + p.stderr, p.stdout + p.stderr
        e = UdpEcho(t.h1, t.h2, FAR[fam])
        e.check(secrets.token_bytes(n - head) for n in range(top - 9, top + 10))
        e.close()
    seen = envelopes(lab, t.router, "to-b")
    assert max(len(f.ip) for f in seen) in range(1397, 1401) and not any(f.frag or f.proto == 44 for f in seen)
    why = t.da.json("mtu", "ipsec1")["paths"][0]
    assert (why["mtu"], why["told_mtu"], why["dev_mtu"], why["route_mtu"]) == (1400, 1400, 1500, None)
    assert 0 < why["told_for_s"] <= 600
    assert "a router said 1400" in t.da.ctl("mtu ipsec1", json_out=False).stdout


@pytest.mark.parametrize("path", ["udp4", "esp6"])
def test_what_was_learned_ages(lab, path):
    """mtu_expires of the underlay: then the wide path is tried again, and found wide, or narrow again."""
    t = bed(lab, path, far_mtu=1400, expires=2)
    learn(t, fits(1400, path))
    wait_until(lambda: mtu(t.da) == fits(1500, path), 4, "forgotten after two seconds")
    learn(t, fits(1400, path))
    t.far(1500)
    wait_until(lambda: mtu(t.da) == fits(1500, path), 4, "the wide path is used again")
    assert ping(t.a, "10.9.0.2", size=mtu(t.da) - 28, extra=["-M", "do"], count=3)


def test_device_and_route_are_followed(lab):
    """Up and down, at once: the device's MTU, IPv6's own on it, a route's."""
    t = bed(lab, "udp6")

    def becomes(n):
        wait_until(lambda: device_mtu(t.a) == fits(n, "udp6") == mtu(t.da), 2, lambda: f"{fits(n, 'udp6')}: {mtu(t.da)}")
    t.a.ip("link set eth1 mtu 1450")
    becomes(1450)
    t.a.ip("link set eth1 mtu 1500")
    becomes(1500)
    t.a.sysctl_set("net.ipv6.conf.eth1.mtu", 1444)  # as a router advertisement does
    t.a.ip("route replace 2001:db8:b::/64 via 2001:db8::fe")
    becomes(1444)
    t.a.ip("route replace 2001:db8:b::/64 via 2001:db8::fe mtu 1404")
    becomes(1404)
    p = t.da.json("mtu", "ipsec1")["paths"][0]
    assert (p["dev_mtu"], p["route_mtu"], p["told_mtu"], p["mtu"]) == (1444, 1404, None, 1404)
    t.a.ip("route del 2001:db8:b::/64")
    becomes(1444)
    t.da.ctl("link set ipsec1 mtu 1300")
    wait_until(lambda: device_mtu(t.a) == 1300, 2, "as configured")


@pytest.mark.parametrize("path", PATHS)
def test_below_the_floor(lab, path):
    """1280 bytes must pass (RFC 8200 5): the envelope is cut instead, by us or by a router, and joined before ESP."""
    t = bed(lab, path, far_mtu=1280)
    learn(t, 1280)
    for fam, head in ((4, 28), (6, 48)):
        need_ping(t.h1, FAR[fam])
        e = UdpEcho(t.h1, t.h2, FAR[fam])
        e.check((secrets.token_bytes(1280 - head - n) for n in (0, 1, 2, 200)), burst=1)
        e.close()
    got = [f.ip for f in envelopes(lab, t.router, "to-b")]
    assert max(map(len, got)) <= 1280
    assert any(p[6] == 44 if p[0] >> 4 == 6 else struct.unpack(">H", p[6:8])[0] & 0x3fff for p in got), "no fragment"
    assert t.db.json("drops")["global"]["wire_pass_frag"] > 0


def test_a_narrow_ipv4_path(lab):
    """Far below the floor: routers may cut what has no DF; small envelopes keep theirs."""
    t = bed(lab, "esp4")
    t.far(576)
    learn(t, 1280)
    e = UdpEcho(t.h1, t.h2, FAR[4])
    e.check((secrets.token_bytes(n) for n in (1252, 1000, 600, 500, 10)), burst=1)
    e.close()
    for f in envelopes(lab, t.a, "eth1"):
        whole = len(f.ip) <= 576
        assert bool(struct.unpack(">H", f.ip[6:8])[0] & 0x4000) == (whole and not f.frag) or f.seq < 20, f.ip[:20].hex()


def quote(t, path, seq=None, spi=None, n=1400):
    """An envelope as a router would quote it, with what an attacker guesses of it."""
    fam, encap = PATHS[path]
    src, dst = OUT["a" + fam], OUT["b" + fam]
    esp = struct.pack(">II", spi or t.pair.a.spi, seq) + secrets.token_bytes(20)
    body = UDP(sport=4500, dport=4500, len=n, chksum=0) / Raw(esp) if encap == "udp" else Raw(esp)
    return (IP(src=src, dst=dst, proto=17 if encap == "udp" else 50, flags="DF", len=n) if fam == "4"
            else IPv6(src=src, dst=dst, nh=17 if encap == "udp" else 50, plen=n)) / body


def says_too_big(atk, t, path, mtu, quoted):
    fam, _ = PATHS[path]
    if fam == "4":
        atk.ip(IP(src="198.51.100.77", dst=OUT["a4"]) / ICMP(type=3, code=4, nexthopmtu=mtu) / quoted)
    else:
        atk.ip(IPv6(src="2001:db8::77", dst=OUT["a6"]) / ICMPv6PacketTooBig(mtu=mtu) / quoted)


def newest(t):
    return next(s for s in t.da.link()["sas"] if s["dir"] == "out")["seq"]


@pytest.mark.parametrize("path", PATHS)
def test_forged_errors_move_nothing(lab, path):
    """Who has not seen an envelope cannot shrink the link: wrong SPI, numbers not sent, the kernel's own cache."""
    t = bed(lab, path)
    fam, _ = PATHS[path]
    full = mtu(t.da)
    atk = lab.attacker(t.router, "to-a", t.a)
    for spi, seq in ((0x12345678, 1), (t.pair.a.spi, newest(t) + 100000), (t.pair.a.spi, 0)):
        for small in (0, 68, 576, 1280, 1400):
            says_too_big(atk, t, path, small, quote(t, path, seq, spi))
    # an echo reply that nobody can check: this does reach the kernel's cache
    echo = (IP(src=OUT["a4"], dst=OUT["b4"], len=1500) / ICMP(type=0) / Raw(bytes(60)) if fam == "4"
            else IPv6(src=OUT["a6"], dst=OUT["b6"], plen=1460, nh=58) / Raw(b"\x81\0\0\0\0\0\0\0" + bytes(60)))
    says_too_big(atk, t, path, 1280, echo)
    wait_until(lambda: (UdpEcho.knows_mtu(t.a, OUT["b" + fam]) or 1500) <= 1280, 2, "the kernel believes it")
    stays(lambda: mtu(t.da) == full, 0.4, "the link's MTU")
    assert ping(t.a, "10.9.0.2", size=full - 28, extra=["-M", "do"], count=5)
    wait_until(lambda: sum(len(f.ip) > 1400 for f in envelopes(lab, t.router, "to-b")) >= 5, 2, "five whole envelopes")
    assert not any(f.frag or f.proto == 44 for f in envelopes(lab, t.a, "eth1")), "an envelope was cut"


@pytest.mark.parametrize("path", PATHS)
def test_a_forger_on_the_path_meets_the_floor(lab, path):
    """Who sees our envelopes can quote one; below 1280 he gets nothing, and what passed before still passes."""
    t = bed(lab, path)
    atk = lab.attacker(t.router, "to-a", t.a)

    def shrunk():
        says_too_big(atk, t, path, 68, quote(t, path, newest(t)))
        return mtu(t.da) == 1280
    wait_until(shrunk, 3, "an error that quotes us is believed", poll=0.1)
    stays(lambda: mtu(t.da) >= 1280 and device_mtu(t.a) >= 1280, 0.3, "the floor")
    e = UdpEcho(t.h1, t.h2, FAR[4])
    e.check((secrets.token_bytes(n) for n in (1252, 1252, 100)), burst=1)
    e.close()


def test_marked_path_learns_too(lab):
    """fwmark and a table of its own: the kernel would learn for its main table, we learn for the path."""
    t = lab.two_gateways(path_a=f"{OUT['b4']} encap udp fwmark 0x51 table 51", path_b=f"{OUT['a4']} encap udp",
                         wild={"far_mtu": 1400}, start=False)
    t.a.ip("rule add fwmark 0x51 lookup 51", "route add default via 198.51.100.254 table 51",
           "route del default", f"route add {OUT['b4']} via 198.51.100.77")
    t.a.ip("neigh add 198.51.100.77 dev eth1 lladdr 02:00:00:00:00:77")
    t.da.start(), t.db.start()
    t.da.wait_up(), t.db.wait_up()
    learn(t, fits(1400, "udp4"))
    assert ping(t.a, "10.9.0.2", size=mtu(t.da) - 28, extra=["-M", "do"], count=3)


@pytest.mark.parametrize("path", ["esp4", "udp6"])
def test_errors_of_routers_under_a_full_tunnel(lab, path):
    """protect = 0.0.0.0/0, ::/0: a router on the path is no peer, and is heard all the same."""
    t = bed(lab, path, far_mtu=1400, protect="0.0.0.0/0, ::/0", route=None, inner=None)
    learn(t, fits(1400, path))
    drops = t.da.json("drops")["global"]["drops"]
    assert not drops["plain-for-protected"], drops


def test_sender_gets_no_error_for_what_may_be_cut(lab):
    """RFC 4301 8.2.1: IPv4 without DF is cut before encryption, and nobody is told."""
    t = bed(lab, "esp4", far_mtu=1400)
    learn(t, fits(1400, "esp4"))
    tap = Listener(t.h1, "eth0")
    s = t.h1.socket(socket.AF_INET, socket.SOCK_DGRAM)
    lab.sink(t.h2, 4242)
    s.setsockopt(0, 10, 0)  # IP_PMTUDISC_DONT
    before = t.db.link()["rx"]["packets"]
    for _ in range(10):
        s.sendto(bytes(1472), (FAR[4], 4242))
    wait_until(lambda: t.db.link()["rx"]["packets"] - before >= 20, 3, "two inner fragments each")
    assert not tap.count(lambda p: p[0] >> 4 == 4 and p[9] == 1), "an ICMP message was drawn"
    s.close()
    tap.close()
