# SPDX-License-Identifier: GPL-2.0-or-later
"""UDP 4500 is shared by payload, not by socket: IKE goes to whoever does IKE, our SPIs come to us.

The other process is of another user and binds as strongSwan does, without any SO_REUSE; before us or
after us. Ours leave from 4500 all the same.
"""
import secrets
import socket
import struct

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.packet import Raw, raw

from lib.esp_peer import Frame, garbage_esp
from lib.ike import MARKER, Ike
from lib.traffic import need_ping
from lib.util import wait_until

INPUTS = ("xdp", "socket")
ROUNDS = 60
WIDE = {"protect": "0.0.0.0/0, ::/0", "inner": "0.0.0.0/0, ::/0"}


def bed(lab, outer=4, inp="xdp", start=True, underlay=None, **over):
    t = lab.two_hosts()
    t.pair, ka, _ = lab.pair_files()
    from lib.esp_peer import Peer
    a, b = t.outer[f"a{outer}"], t.outer[f"b{outer}"]
    t.peer = Peer(t.b, "eth1", b, a, tx=t.pair.b, rx=t.pair.a, encap="udp")
    lab.closers.append(t.peer.close)
    t.sink = lab.sink(t.h1, 4242)
    t.sink.settimeout(2)
    t.da = lab.daemon(t.a, [t.link("a", ka, f"{b} encap udp", liveness="off", **over)], keys=[ka],
                      underlay={"input": inp, **(underlay or {})}, start=start)
    t.local, t.far, t.inp, t.outer_v = a, b, inp, outer
    if start:
        begin(lab, t)
    return t


def begin(lab, t):
    if not t.da.running():
        t.da.start()
    lab.by_xdp(t.da, {"input": t.inp})
    t.da.wait_up()


def inner(n, size=40):
    return raw(IP(src="10.2.0.2", dst="10.1.0.2", id=n & 0xffff) / UDP(sport=7, dport=4242) / Raw(struct.pack(">I", n) * (size // 4)))


def expect_inner(t, numbers):
    got = [struct.unpack(">I", t.sink.recv(1 << 16)[:4])[0] for _ in numbers]
    assert got == list(numbers)


def ike_msg(n):
    return MARKER + b"IKE%06d" % n + b"\x5a" * (n % 50)


def answer(sock):
    """The next answer of the IKE daemon; the peer's socket gets envelopes too."""
    while True:
        data, who = sock.recvfrom(1 << 16)
        if data[:4] == MARKER:
            assert who[1] == 4500
            return data


def interleave(t, first, n=ROUNDS):
    """ESP, IKE and keepalives from one address and port. Returns what the IKE daemon must have got."""
    want = []
    t.peer.sock.settimeout(3)
    for i in range(first, first + n):
        msgs = [ike_msg(i), b"\xff"] if i % 5 == 0 else [ike_msg(i)]
        t.peer.send_raw(t.peer.seal(inner(i)))
        for m in msgs:
            t.peer.send_raw(m)
        want += msgs
        assert answer(t.peer.sock) == ike_msg(i) + b"-answer"
    expect_inner(t, range(first, first + n))
    return want


def ours_leave_from_4500(lab, t):
    """gwA's own envelopes, from the socket to the wire: one number, whoever is bound to it."""
    mine = lambda: [(f, o) for f, o in t.peer.opened if o.inner[9] == 17 and o.inner[22:24] == b"\0\x09"]
    had = len(mine())
    s = t.h1.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for n in (0, 1, 500, 1200):
        s.sendto(bytes(n), ("10.2.0.2", 9))
    s.close()
    wait_until(lambda: len(mine()) == had + 4, 3, lambda: f"4 envelopes at the peer: {len(mine()) - had} {t.peer.problems[:2]}")
    ports = {(f.sport, f.dport) for f, _ in mine()}
    assert ports == {(4500, 4500)} and not t.peer.problems, (ports, t.peer.problems[:2])
    for data in lab.tap.pcap(t.a, "eth1", True):
        f = Frame(data)
        assert f.proto != 17 or f.frag or f.sport in (4500, 500), f"left from {f.sport}"


@pytest.mark.parametrize("inp", INPUTS)
@pytest.mark.parametrize("outer", [4, 6], ids=["o4", "o6"])
@pytest.mark.parametrize("when", ["before", "after", "after-reuseport", "after-reuseaddr"])
def test_ike_gets_ike_and_we_get_ours(lab, when, outer, inp):
    t = bed(lab, outer, inp, start=when != "before")
    ike = Ike(lab, t.a, flags=when.partition("-reuse")[2])
    ike500 = Ike(lab, t.a, port=500)
    begin(lab, t)
    assert t.da.show()["daemon"]["port_4500"] == "other"
    want = interleave(t, 0)
    s = t.b.socket(t.peer.family, socket.SOCK_DGRAM)
    s.settimeout(3)
    for n in range(10):
        s.sendto(b"x500-%d" % n, (t.local, 500))
        assert s.recv(100) == b"x500-%d-answer" % n
    s.close()
    assert ike.got() == want, "the IKE daemon got something else than its own"
    assert ike500.got() == [b"x500-%d" % n for n in range(10)]
    assert t.da.link()["rx"]["packets"] == ROUNDS
    ours_leave_from_4500(lab, t)


@pytest.mark.parametrize("inp", INPUTS)
def test_ike_daemon_comes_and_goes(lab, inp):
    """It restarts under traffic, three times, as strongSwan would: its port is never taken."""
    t = bed(lab, inp=inp)
    for life in range(3):
        ike = Ike(lab, t.a)
        want = interleave(t, 1000 * life, n=20)
        assert ike.got() == want
        ike.stop()
        t.peer.send_raw(t.peer.seal(inner(1000 * life + 500)))
        expect_inner(t, [1000 * life + 500])
    t.da.kill()  # our own death neither
    Ike(lab, t.a).stop()
    begin(lab, t)
    ours_leave_from_4500(lab, t)


@pytest.mark.parametrize("inp", INPUTS)
def test_full_tunnel(lab, inp):
    """protect = everything: IKE and ESP of the peer, and IKE of strangers that call, still pass."""
    t = bed(lab, inp=inp, underlay={"lan": "eth0"}, **WIDE)
    ike = Ike(lab, t.a)
    want = interleave(t, 0, n=20)
    t.b.ip("addr add 198.51.100.99/24 dev eth1")
    s = t.b.socket(socket.AF_INET, socket.SOCK_DGRAM)
    t.b.enter(s.bind, ("198.51.100.99", 4501))
    s.settimeout(3)
    s.sendto(ike_msg(7), (t.local, 4500))
    assert s.recv(200) == ike_msg(7) + b"-answer"
    s.close()
    assert ike.got() == want + [ike_msg(7)]
    ours_leave_from_4500(lab, t)


@pytest.mark.parametrize("outer", [4, 6], ids=["o4", "o6"])
def test_unknown_peer_under_a_full_tunnel(lab, outer):
    """path = any, protect = everything: the first envelope from nowhere known is answered at once, from 4500."""
    t = lab.two_hosts()
    t.pair, ka, kb = lab.pair_files()
    a, b = t.outer[f"a{outer}"], t.outer[f"b{outer}"]
    t.da = lab.daemon(t.a, [t.link("a", ka, "any encap udp", **WIDE)], keys=[ka], underlay={"lan": "eth0"})
    ike = Ike(lab, t.a)
    t.db = lab.daemon(t.b, [t.link("b", kb, f"{a} encap udp")], keys=[kb])
    t.da.wait_up()
    t.db.wait_up()
    first = next(f for f in map(Frame, lab.tap.pcap(t.b, "eth1", True)) if f.esp is not None)
    back = [f for f in map(Frame, lab.tap.pcap(t.a, "eth1", True)) if f.esp is not None]
    assert not [f for f in map(Frame, lab.tap.pcap(t.b, "eth1", True)) if f.proto == 1], "gwB was not ready for the answer"
    assert back[0].dst == first.src == b and {f.sport for f in back} == {4500}
    assert not t.da.json("drops")["links"][0]["out"]["tx-refused"], "the default deny hit an envelope"
    assert not ike.got()


@pytest.mark.parametrize("held", [False, True], ids=["nobody", "ike"])
@pytest.mark.parametrize("inp", INPUTS)
@pytest.mark.parametrize("outer", [4, 6], ids=["o4", "o6"])
def test_fragments_of_envelopes_come_to_us(lab, outer, inp, held):
    """Only the first fragment shows an SPI; the stack joins them, and they are ours."""
    t = bed(lab, outer, inp)
    ike = Ike(lab, t.a) if held else None
    t.peer.sock.setsockopt(socket.IPPROTO_IPV6 if outer == 6 else socket.IPPROTO_IP, 23 if outer == 6 else 10, 0)  # PMTUDISC_DONT
    want = [struct.pack(">I", n) + secrets.token_bytes(1380) for n in range(10)]
    for n, body in enumerate(want):
        p = raw(IP(src="10.2.0.2", dst="10.1.0.2", id=n) / UDP(sport=7, dport=4242) / Raw(body))
        t.peer.send_raw(t.peer.seal(p, tfc=600 * (n % 2)))  # every other one in two fragments
    assert sorted(t.sink.recv(1 << 16) for _ in want) == want
    wait_until(lambda: t.da.link()["rx"]["packets"] == len(want), 2, "and in the books")
    assert not ike or not ike.got()


def quoting(lab, t, envelope, mtu):
    """An ICMP error as the narrow router behind would send it, quoting as much as RFC 1812 asks for."""
    ip = IP if t.outer_v == 4 else IPv6
    if ip is IP:
        err = IP(src=t.far, dst=t.local) / ICMP(type=3, code=4, nexthopmtu=mtu) / Raw(envelope[:548])
    else:
        err = IPv6(src=t.far, dst=t.local) / ICMPv6PacketTooBig(mtu=mtu) / Raw(envelope[:1200])
    lab.attacker(t.b, "eth1", t.a).ip(err)


@pytest.mark.parametrize("held", [False, True], ids=["nobody", "ike"])
@pytest.mark.parametrize("outer", [4, 6], ids=["o4", "o6"])
def test_path_mtu_is_learned(lab, outer, held):
    """An error about an envelope quotes port 4500: it finds the socket that sent it, also when nobody is bound there."""
    t = bed(lab, outer)
    ike = Ike(lab, t.a) if held else None
    ours_leave_from_4500(lab, t)
    envelope = next(f.ip for f, o in reversed(t.peer.opened) if len(o.inner) > 1000)
    quoting(lab, t, envelope, 1400)
    wait_until(lambda: "mtu 1400" in t.a.out(["ip", "route", "get", t.far]), 3,
               lambda: f"mtu 1400: {t.a.out(['ip', 'route', 'get', t.far])}")
    assert not ike or not ike.got()


def test_silence_where_nobody_listens(lab):
    """IKE without an IKE daemon, keepalives, unknown SPIs: nothing drawn, each counted as what it is."""
    t = bed(lab)
    before = t.da.json("drops")["global"]
    since = len(lab.tap.pcap(t.a, "eth1", True))
    for m in (ike_msg(1), b"\xff", garbage_esp(0xdeadbeef), b"\xff", MARKER, b""):
        t.peer.send_raw(m)
    wait_until(lambda: t.da.json("drops")["global"]["keepalives"] - before["keepalives"] == 2, 3, "two keepalives")
    after = t.da.json("drops")["global"]["drops"]
    assert after["no-listener"] - before["drops"]["no-listener"] == 3
    assert after["no-sa"] - before["drops"]["no-sa"] == 1
    need_ping(t.b, t.local)
    drawn = [f for f in map(Frame, lab.tap.pcap(t.a, "eth1", True)[since:]) if f.proto == 1 and f.ip[20] == 3]
    assert not drawn, "an ICMP error was drawn"
