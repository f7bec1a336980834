# SPDX-License-Identifier: GPL-2.0-or-later
"""Silence (I4): unauthenticated input draws no packet: running, starting, stopping, dead; transit passes."""
import os
import secrets
import signal
import struct
import threading

import pytest
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.packet import Raw, raw

from lib.carried import MODE
from lib.esp_peer import Esp, Frame, garbage_esp
from lib.traffic import Listener, need_ping, ping
from lib.util import wait_until


def barrage(t, atk, spi):
    """Everything an outsider can aim at us."""
    o = t.outer
    for src, dst, ip, proto in ((o["b4"], o["a4"], IP, "proto"), (o["b6"], o["a6"], IPv6, "nh")):
        head = lambda p: ip(src=src, dst=dst, **{proto: p})
        for esp in (garbage_esp(0xdeadbeef), garbage_esp(spi), garbage_esp(spi, 4), garbage_esp(0), garbage_esp(255),
                    struct.pack(">I", spi), b"", b"\0" * 7):
            atk.ip(head(50) / Raw(esp))
        for body in (garbage_esp(0xdeadbeef), garbage_esp(spi), b"\xff", b"", b"\0", b"\0" * 4, b"\0" * 40,
                     secrets.token_bytes(3), secrets.token_bytes(15), secrets.token_bytes(900)):
            atk.ip(ip(src=src, dst=dst) / UDP(sport=4500, dport=4500) / Raw(body))
            atk.ip(ip(src=src, dst=dst) / UDP(sport=31337, dport=4500) / Raw(body))
    for piece in fragment(IP(src=o["b4"], dst=o["a4"], proto=50, id=9) / Raw(garbage_esp(spi, 1200)), 400):
        atk.ip(piece)
    for piece in fragment(IP(src=o["b4"], dst=o["a4"], id=10) / UDP(sport=4500, dport=4500)
                          / Raw(garbage_esp(spi, 1200)), 400):
        atk.ip(piece)


def drawn(lab, t, since=0):
    """What gwA put on the wire that an attacker could have caused.

    Not: ARP, ND and multicast reports of either side of the tunnel, the answers to the test's own echoes.
    """
    out, esp = [], Esp(t.pair.a)
    for data in lab.tap.pcap(t.a, "eth1", True)[since:]:
        f = Frame(data)
        if f.proto in (None, 0) or f.dst.startswith("ff02:") or is_echo_reply(f):
            continue
        if f.proto == 58 and f.ip[40] in (133, 134, 135, 136):
            continue
        if f.esp is not None and f.spi == t.pair.a.spi and esp.open(f.esp).inner[24] == 0xff:
            continue
        out.append(f)
    return out


def describe(frames):
    return [f"{f.src}>{f.dst} proto {f.proto} {f.ip[20:28].hex()}" for f in frames[:5]]


def settle(t, atk, lab):
    """The attacks are through when a marker behind them has passed gwA: an echo it must answer."""
    assert ping(t.b, t.outer["a4"], count=1) and ping(t.b, t.outer["a6"], count=1)


def quiet(lab, t, since):
    bad = drawn(lab, t, since)
    assert not bad, f"drew {len(bad)} packets: {describe(bad)}"


def is_echo_reply(f):
    return f.proto == 1 and f.ip[20] == 0 or f.proto == 58 and f.ip[40] == 129


STATES = ("running", "killed", "all-killed", "stopped")


@pytest.mark.parametrize("encap", ["esp", "udp"])
@pytest.mark.parametrize("state", STATES)
def test_no_answer(lab, state, encap):
    t = lab.peer_bed(encap=encap)
    atk = lab.attacker(t.b, "eth1", t.a)
    if state == "killed":
        t.da.kill()
    elif state == "stopped":
        t.da.stop()
    elif state == "all-killed":
        pids = t.da.guardians()
        t.da.kill()
        for p in pids:
            os.kill(p, signal.SIGKILL)
    since = len(lab.tap.pcap(t.a, "eth1", True))
    for _ in range(3):
        barrage(t, atk, t.pair.b.spi)
    settle(t, atk, lab)
    quiet(lab, t, since)
    lab.skip_checks.add("conservation")


def test_a_fragment_whose_others_never_come(lab):
    """RFC 792's "reassembly time exceeded" names an address that knows ESP: the stack's word about our envelopes is kept in."""
    t = lab.peer_bed()
    t.a.sysctl_set("net.ipv4.ipfrag_time", 1)
    t.a.sysctl_set("net.ipv6.ip6frag_time", 1)
    atk = lab.attacker(t.b, "eth1", t.a)
    o, esp = t.outer, garbage_esp(t.pair.b.spi, 1200)
    since = len(lab.tap.pcap(t.a, "eth1", True))
    atk.ip(fragment(IP(src=o["b4"], dst=o["a4"], proto=50, id=9) / Raw(esp), 400)[0])
    atk.ip(fragment(IP(src=o["b4"], dst=o["a4"], id=10) / UDP(sport=4500, dport=4500) / Raw(esp), 400)[0])
    atk.ip(IPv6(src=o["b6"], dst=o["a6"]) / IPv6ExtHdrFragment(nh=50, id=11, m=1) / Raw(esp[:400]))

    def kept():
        """A link of the kernel's in bare ESP has no socket where datagrams could be joined."""
        drops = t.da.json("drops")["global"]["drops"]
        return drops["no-listener"] + (drops["worker-gone"] if MODE else 0)
    wait_until(lambda: kept() >= 3, 8, lambda: t.da.json("drops")["global"])
    settle(t, atk, lab)
    quiet(lab, t, since)


def test_no_answer_while_starting_and_stopping(lab):
    """Under a constant barrage: start, stop, start, kill, start."""
    t = lab.peer_bed()
    atk = lab.attacker(t.b, "eth1", t.a)
    since = len(lab.tap.pcap(t.a, "eth1", True))
    stop = threading.Event()

    def pour():
        while not stop.is_set():
            barrage(t, atk, t.pair.b.spi)
            stop.wait(0.01)
    th = threading.Thread(target=pour)
    th.start()
    try:
        for end in (t.da.stop, t.da.kill, t.da.stop):
            end()
            t.da.start()
            t.da.wait_up()
    finally:
        stop.set()
        th.join()
    settle(t, atk, lab)
    quiet(lab, t, since)
    lab.skip_checks.add("conservation")


def test_garbage_moves_nothing(lab):
    """No window, no endpoint, no counter of the SA."""
    t = lab.peer_bed()
    atk = lab.attacker(t.b, "eth1", t.a)
    path0 = t.da.json("path list")["links"][0]["paths"][0]["remote"]
    sa0 = next(s for s in t.da.link()["sas"] if s["dir"] == "in")
    for _ in range(5):
        barrage(t, atk, t.pair.b.spi)
    settle(t, atk, lab)
    sa1 = next(s for s in t.da.link()["sas"] if s["dir"] == "in")
    assert (sa1["seq"], sa1["packets"], sa1["bytes"]) == (sa0["seq"], sa0["packets"], sa0["bytes"])
    assert t.da.json("path list")["links"][0]["paths"][0]["remote"] == path0
    t.peer.send(IP(src="10.2.0.2", dst="10.1.0.2") / UDP(dport=4242))
    wait_until(lambda: t.da.link()["rx"]["packets"] == 1, 2, "the true peer is heard")


@pytest.mark.parametrize("state", ["running", "killed"])
def test_transit_esp_with_our_spi_passes(lab, state):
    """Seed, section 5: an envelope that is not addressed to us is somebody else's, whatever its SPI."""
    t = lab.peer_bed()
    t.h1.ip("addr add 203.0.113.50/32 dev eth0", "addr add 2001:db8:50::50/128 dev eth0 nodad")
    t.a.ip("route add 203.0.113.50/32 dev eth0", "route add 2001:db8:50::50/128 dev eth0")
    if state == "killed":
        t.da.kill()
    tap = Listener(t.h1, "eth0")
    atk = lab.attacker(t.b, "eth1", t.a)
    body = garbage_esp(t.pair.b.spi, 200)
    atk.ip(IP(src="198.51.100.2", dst="203.0.113.50", proto=50, id=77) / Raw(body))
    atk.ip(IPv6(src="2001:db8::2", dst="2001:db8:50::50", nh=50) / Raw(body))
    atk.ip(IP(src="198.51.100.2", dst="203.0.113.50", id=78) / UDP(sport=4500, dport=4500) / Raw(body))
    tap.wait(lambda p: p[0] >> 4 == 4 and p[9] == 50 and p[20:] == body and p[8] == 63, what="IPv4 transit untouched")
    tap.wait(lambda p: p[0] >> 4 == 6 and p[6] == 50 and p[40:] == body, what="IPv6 transit untouched")
    tap.wait(lambda p: p[0] >> 4 == 4 and p[9] == 17 and p[28:] == body, what="UDP 4500 transit untouched")
    tap.close()


def test_ike_on_4500_reaches_its_daemon(lab):
    """The non-ESP marker is not ours; the process that owns 4500 gets its datagrams (XDP steers only our SPIs)."""
    t = lab.two_hosts()
    t.pair, ka, kb = lab.pair_files()
    ike = t.a.socket(2, 2)
    ike.bind(("", 4500))
    ike.settimeout(3)
    o = t.outer
    t.da = lab.daemon(t.a, [t.link("a", ka, f"{o['b4']} encap udp")], keys=[ka])
    t.db = lab.daemon(t.b, [t.link("b", kb, f"{o['a4']} encap udp")], keys=[kb])
    t.da.wait_up()
    assert t.da.show()["daemon"]["port_4500"] == "other"
    atk = lab.attacker(t.b, "eth1", t.a)
    for n in range(20):
        atk.ip(IP(src=o["b4"], dst=o["a4"]) / UDP(sport=4500, dport=4500) / Raw(b"\0\0\0\0" + b"IKE%02d" % n))
    assert [ike.recv(100)[4:] for _ in range(20)] == [b"IKE%02d" % n for n in range(20)]
    need_ping(t.h1, "10.2.0.2")
    ike.setblocking(False)
    with pytest.raises(BlockingIOError):
        ike.recv(100)  # none of our envelopes went to it
    ike.close()
