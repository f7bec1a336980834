# SPDX-License-Identifier: GPL-2.0-or-later
"""`shortcut = eth0`: forwarded packets go into the link without the stack; the routing tables still decide."""
import secrets
import socket

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Ether
from scapy.packet import Raw, raw

from lib.traffic import Listener, UdpEcho, need_ping, ping, tcp_transfer
from lib.util import wait_until

FAR = {"v4": "10.2.0.2", "v6": "fd02::2"}
PATHS = {"esp4": "198.51.100.2 encap esp", "udp6": "2001:db8::2 encap udp"}
BACK = {"esp4": "198.51.100.1 encap esp", "udp6": "2001:db8::1 encap udp"}


def bed(lab, path="esp4", **kw):
    t = lab.two_gateways(path_a=PATHS[path], path_b=BACK[path], underlay={"shortcut": "eth0"}, **kw)
    t.h1.run(["ethtool", "-K", "eth0", "gro", "on"])
    for far in FAR.values():
        need_ping(t.h1, far)
    return t


def shortcut(d):
    return d.json("drops")["conservation"][0]["out"]["shortcut"]


@pytest.mark.parametrize("path", PATHS)
def test_every_byte(lab, path):
    t = bed(lab, path)
    before = shortcut(t.da)
    for far in FAR.values():
        e = UdpEcho(t.h1, t.h2, far)
        n = e.check(secrets.token_bytes(s) for s in (0, 1, 18, 19, 64, 512, 1000, 1300))
        e.close()
    for far in FAR.values():
        sent, got = tcp_transfer(t.h1, t.h2, far, 4 << 20)
        assert sent == got
    assert shortcut(t.da) > before + 2 * n + 5000


class Wire:
    """Frames as h1 sends them, and what h2 or h1 then sees."""

    def __init__(self, t):
        self.t, self.s = t, t.h1.packet_socket("eth0")
        self.eth = Ether(dst=t.a.mac("eth0"), src=t.h1.mac("eth0"))
        self.near = t.h1.packet_socket("eth0", 3)  # ETH_P_ALL
        self.far = t.h2.packet_socket("eth0", 3)
        for s in (self.near, self.far):
            s.settimeout(0.05)

    def send(self, ip, dst=None):
        f = self.eth / ip
        if dst:
            f.dst = dst
        self.s.send(raw(f))

    @staticmethod
    def wait(s, fits, what):
        found = []

        def look():
            try:
                while not found:
                    f, (_, _, kind, *_) = s.recvfrom(4096)
                    p = Ether(f)
                    if kind != 4 and fits(p):  # not our own
                        found.append(p)
            except TimeoutError:
                pass
            return found

        wait_until(look, 3, what)
        return found[0]


def udp(mark, v6=False, dst=None, **kw):
    ip = IPv6(src="fd01::2", dst=dst or FAR["v6"], **kw) if v6 else IP(src="10.1.0.2", dst=dst or FAR["v4"], **kw)
    return ip / UDP(sport=5, dport=4242) / Raw(mark)


def arrives(w, mark):
    return w.wait(w.far, lambda p: mark in bytes(p), f"{mark} at h2")


def test_one_hop_and_nothing_else(lab):
    """TTL and hop limit go down by what two gateways take; every other byte stays, checksums right."""
    t = bed(lab)
    lab.sink(t.h2, 4242)
    w = Wire(t)
    for v6 in (False, True):
        mark = b"hop-%d" % v6
        sent = udp(mark, v6, tc=0x2e << 2, hlim=33, fl=0x12345) if v6 else udp(mark, tos=0x2e << 2, ttl=33, id=77, flags="DF")
        before = shortcut(t.da)
        w.send(sent)
        got = arrives(w, mark)[IPv6 if v6 else IP]
        assert shortcut(t.da) >= before + 1
        want = type(sent)(raw(sent))
        if v6:
            want.hlim -= 2
        else:
            want.ttl -= 2
            del want.chksum
        assert raw(got)[:len(raw(want))] == raw(want)


@pytest.mark.parametrize("kind", ["options", "hop-by-hop", "protocol", "fragment-of-nothing-known"])
def test_what_is_not_plain_takes_the_stack(lab, kind):
    t = bed(lab)
    lab.sink(t.h2, 4242)
    w, mark = Wire(t), b"takes-the-stack"
    p = {"options": udp(mark, options=[IPOption_NOP()] * 4),
         "hop-by-hop": IPv6(src="fd01::2", dst=FAR["v6"]) / IPv6ExtHdrHopByHop() / UDP(sport=5, dport=4242) / Raw(mark),
         "protocol": IP(src="10.1.0.2", dst=FAR["v4"], proto=253) / Raw(mark),
         "fragment-of-nothing-known": IP(src="10.1.0.2", dst=FAR["v4"], proto=253, flags="MF") / Raw(mark + bytes(9))}[kind]
    before = shortcut(t.da)
    w.send(p)
    arrives(w, mark)
    assert shortcut(t.da) <= before + 3  # neighbour discovery of the hosts at most, and not ours
    assert t.da.json("drops")["conservation"][0]["out"]["balance"] == 0


def test_icmp_is_the_stacks(lab):
    """Expired, too long: answered by the gateway, as without the shortcut."""
    t = bed(lab)
    w = Wire(t)
    w.send(udp(b"expired", ttl=1))
    p = w.wait(w.near, lambda p: ICMP in p and p[ICMP].type == 11, "time exceeded")
    assert p[IP].src == "10.1.0.1"
    mtu = t.da.link()["mtu"]
    w.send(udp(bytes(mtu - 27), flags="DF"))
    p = w.wait(w.near, lambda p: ICMP in p and p[ICMP].type == 3 and p[ICMP].code == 4, "fragmentation needed")
    assert p[ICMP].nexthopmtu == mtu
    assert ping(t.h1, "10.1.0.1"), "a packet to the gateway itself stays there"


def test_damaged_and_foreign_frames_stay_out(lab):
    t = bed(lab)
    w = Wire(t)
    before = shortcut(t.da)
    w.send(udp(b"bad header sum", chksum=0x1234))
    w.send(udp(b"to another MAC"), dst="02:aa:bb:cc:dd:ee")
    w.send(IP(src="10.1.0.1", dst=FAR["v4"]) / UDP(sport=5, dport=4242) / Raw(b"martian"))
    w.send(udp(b"last"))
    arrives(w, b"last")
    assert shortcut(t.da) == before + 1


def test_routing_decides(lab):
    """A route elsewhere, a rule, an unreachable one: what forwarding would do is done."""
    t = bed(lab)
    lab.sink(t.h2, 4242)
    w = Wire(t)
    for add, undo in ((["route add unreachable 10.2.0.2"], ["route del unreachable 10.2.0.2"]),
                      (["rule add to 10.2.0.2 unreachable pref 5"], ["rule del pref 5"])):
        t.a.ip(*add)
        before = shortcut(t.da)
        w.send(udp(b"refused"))
        p = w.wait(w.near, lambda p: ICMP in p and p[ICMP].type == 3, "unreachable")
        assert p[IP].src == "10.1.0.1" and shortcut(t.da) == before
        t.a.ip(*undo)
        w.send(udp(b"again"))
        wait_until(lambda: shortcut(t.da) == before + 1, 3, "the shortcut again")


def test_link_down_and_no_sa_are_the_classifiers(lab):
    """A link that cannot send: nothing takes the shortcut into it, nothing leaks, the drop has its reason."""
    t = bed(lab)
    t.da.ctl("link", "down", "ipsec1")
    before = shortcut(t.da)
    w = Wire(t)
    for n in range(20):
        w.send(udp(b"down %d" % n))
    p = w.wait(w.near, lambda p: ICMP in p and p[ICMP].type == 3, "unreachable: the floor")
    assert p[IP].src == "10.1.0.1" and shortcut(t.da) == before
    t.da.ctl("link", "up", "ipsec1")
    need_ping(t.h1, FAR["v4"])
    assert shortcut(t.da) > before


def lan_prog(ns):
    return "name lan_in" in ns.out(["ip", "-d", "link", "show", "eth0"])


def test_comes_and_goes_with_the_configuration(lab):
    t = bed(lab)
    assert lan_prog(t.a)
    before = shortcut(t.da)
    t.da.kill()
    assert lan_prog(t.a), "pinned: outlives the daemon"
    with open(t.da.conf_file) as f:
        text = f.read()
    t.da.write_conf(text.replace("shortcut = eth0\n", ""))
    t.da.start()
    t.da.wait_up()
    wait_until(lambda: not lan_prog(t.a), 5, "taken off")
    need_ping(t.h1, FAR["v4"])
    assert shortcut(t.da) == before


def test_somebody_elses_program_stays(lab):
    """Refused with the reason; the packets take the stack."""
    t = lab.two_gateways()
    t.a.run(["ip", "link", "set", "eth0", "xdpdrv", "pinned", f"{t.da.pin_dir}/progs/wire_in"])
    t.da.kill()
    with open(t.da.conf_file) as f:
        text = f.read()
    t.da.write_conf(text.replace("[underlay]\n", "[underlay]\nshortcut = eth0\n"))
    t.da.start()
    t.da.wait_up()
    assert "eth0: no shortcut here (another XDP program is attached)" in t.da.log_now()
    need_ping(t.h1, FAR["v4"])
    assert shortcut(t.da) == 0


def test_syns_of_a_clamped_link_are_the_classifiers(lab):
    """mss-clamp is written where super-packets are seen: SYNs take the stack, what follows does not."""
    t = bed(lab, **{"mss-clamp": "1100"})
    tap = Listener(t.h2, "eth0")
    s = t.h1.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.setblocking(False)
    s.connect_ex((FAR["v4"], 80))
    syn = wait_until(lambda: [p for p in tap.poll() if p[0] >> 4 == 4 and p[9] == 6 and p[33] == 2], 3, "the SYN")[0]
    s.close()
    tap.close()
    assert dict(IP(syn)[TCP].options)["MSS"] == 1100
    before = shortcut(t.da)
    sent, got = tcp_transfer(t.h1, t.h2, FAR["v4"], 1 << 20)
    assert sent == got and shortcut(t.da) > before + 900
