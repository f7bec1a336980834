# SPDX-License-Identifier: GPL-2.0-or-later
"""The bed itself: the tap finds what it must find, the independent peer agrees with scapy.

A check that cannot fail proves nothing; here each one fails on purpose.
"""
import os
import secrets
import socket
import struct

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw, raw

from lib import leak
from lib.esp_peer import Attacker, Esp, Frame, scapy_open, scapy_seal, scapy_knows
from lib.keys import SUITES, Pair, Sa
from lib.util import Timeout, wait_until

pytestmark = pytest.mark.nodaemon


def frame_sender(t):
    """Frames from gwA's own MAC: the tap takes them for gwA's work."""
    s = t.a.packet_socket("eth1")
    head = bytes.fromhex((t.b.mac("eth1") + t.a.mac("eth1")).replace(":", ""))

    def send(ip):
        data = raw(ip)
        s.send(head + (b"\x08\x00" if data[0] >> 4 == 4 else b"\x86\xdd") + data)
    send.sock = s
    return send


def leaks(lab, n=1):
    def enough():
        r = lab.tap.report()
        return r if len(r["leaks"]) >= n else None
    r = wait_until(enough, 5, "the tap to notice")
    lab.verify = lambda: None
    return r


def test_tap_sees_a_cleartext_ping(lab):
    """Without ipsecd the default routes carry inner packets in clear: that is a leak at both ends."""
    t = lab.two_hosts()
    assert t.h1.ok("ping -c1 -W2 10.2.0.2")
    r = leaks(lab, 4)
    assert {l["tap"] for l in r["leaks"]} == {"gwa.eth1", "gwb.eth1"}
    with pytest.raises(AssertionError, match="LEAK"):
        leak.check_taps(r)


def test_tap_sees_ipv6(lab):
    t = lab.two_hosts()
    assert t.h1.ok("ping -6 -c1 -W2 fd02::2")
    leaks(lab, 4)


@pytest.mark.parametrize("packet", [
    IP(src="198.51.100.1", dst="198.51.100.2") / ICMP(type=3, code=1) / IP(src="10.1.0.2", dst="10.2.0.2") / UDP(),
    IP(src="198.51.100.1", dst="198.51.100.2") / IP(src="10.1.0.2", dst="10.2.0.2") / UDP(),
    IPv6(src="2001:db8::1", dst="2001:db8::2") / IP(src="10.1.0.2", dst="1.2.3.4") / UDP(),
    IP(src="10.1.0.2", dst="10.2.0.2", proto=50) / Raw(b"\0" * 64),
], ids=["quoted", "ipip", "ip-in-6", "inner-esp"])
def test_tap_looks_inside(lab, packet):
    send = frame_sender(lab.two_hosts())
    send(packet)
    leaks(lab)


def test_tap_finds_the_canary_in_an_envelope(lab):
    """Null encryption would carry it: ESP is no excuse."""
    t = lab.two_hosts()
    frame_sender(t)(IP(src="198.51.100.1", dst="198.51.100.2", proto=50)
                    / Raw(struct.pack(">II", 999, 1) + b"x" * 40 + lab.tap.canary))
    leaks(lab)


def test_tap_leaves_attacks_alone(lab):
    t = lab.two_hosts()
    atk = Attacker(t.b, "eth1", t.a.mac("eth1"))
    atk.ip(IP(src="10.2.0.9", dst="198.51.100.1") / ICMP(type=0) / Raw(b"spoof"))
    wait_until(lambda: lab.tap.report()["taps"]["gwa.eth1"]["exempt"] == 1, 5, "the spoof to arrive")
    atk.close()


def test_tap_sees_the_attack_once_forwarded(lab):
    """Routed on, it carries another MAC and counts."""
    t = lab.two_hosts()
    atk = Attacker(t.b, "eth1", t.a.mac("eth1"))
    atk.ip(IP(src="10.2.0.9", dst="203.0.113.9") / UDP() / Raw(b"spoof"))
    r = leaks(lab)
    assert r["leaks"][0]["dir"] == "out"
    atk.close()


def test_tap_catches_nonce_reuse(lab):
    send = frame_sender(lab.two_hosts())
    head = IP(src="198.51.100.1", dst="198.51.100.2", proto=50)
    first = struct.pack(">IIQ", 1000, 1, 7) + secrets.token_bytes(32)
    send(head / Raw(first))
    send(head / Raw(first))  # bit-identical: allowed
    r = wait_until(lambda: (lambda x: x if x["esp"]["seq"]["same"] >= 2 else None)(lab.tap.report()), 5, "copies counted")
    leak.check_taps(r)
    send(head / Raw(struct.pack(">IIQ", 1000, 2, 7) + secrets.token_bytes(32)))  # IV again
    r = wait_until(lambda: (lambda x: x if x["esp"]["iv"]["differ"] else None)(lab.tap.report()), 5, "IV reuse")
    assert r["esp"]["seq"]["differ"] == 0
    with pytest.raises(AssertionError, match="NONCE"):
        leak.check_taps(r)
    lab.verify = lambda: None


def test_tap_splits_super_packets(lab):
    """UDP_SEGMENT hands the wire one frame; the books must have the datagrams."""
    t = lab.two_hosts()
    s = t.a.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("", 4500))
    s.setsockopt(socket.SOL_UDP, 103, 200)  # UDP_SEGMENT
    parts = [struct.pack(">IIQ", 1001, n, n) + secrets.token_bytes(184) for n in range(1, 11)]
    s.sendto(b"".join(parts), (t.outer["b4"], 4500))
    wait_until(lambda: lab.tap.report()["esp"]["seq"]["unique"] == 10, 5, "ten datagrams")
    frames = [Frame(f) for f in lab.tap.pcap(t.a, "eth1", True)]
    assert [f.esp for f in frames if f.esp] == parts
    s.close()


def test_frames_a_tap_cannot_read_are_told():
    """Such a tap proves nothing, also where losses are allowed."""
    tap = {"leaks": 0, "lost_clear": 0, "lost_esp": 1, "unreadable": 0}
    report = {"leaks": [], "taps": {"gwa.eth1": tap}, "esp": {"seq": {"differ": 0}, "iv": {"differ": 0}}}
    leak.check_taps(report)
    tap["unreadable"] = 1
    with pytest.raises(AssertionError, match="cannot read"):
        leak.check_taps(report)


def test_key_hunt_finds_every_spelling():
    key = secrets.token_bytes(32)
    for text in leak.spellings(key):
        assert leak.hunt([key], {"log": b"noise " + text + b" noise"}), text
    assert not leak.hunt([key], {"log": key[:-1] + b"x"})


def test_key_hunt_reads_maps(lab):
    """mapbytes shows raw key bytes of a pinned map that bpftool made."""
    from lib.util import sh
    pin = f"/sys/fs/bpf/espwire-hunt-{os.getpid()}"
    key = secrets.token_bytes(32)
    sh("mountpoint -q /sys/fs/bpf", check=False).returncode and sh("mount -t bpf bpf /sys/fs/bpf")
    os.mkdir(pin)
    try:
        sh(f"bpftool map create {pin}/m type hash key 4 value 32 entries 4 name hunt")
        sh(["bpftool", "map", "update", "pinned", f"{pin}/m", "key", "hex", "00", "00", "00", "01", "value", "hex"]
           + [f"{b:02x}" for b in key])
        assert leak.hunt([key], {"maps": leak.map_bytes(pin)})
    finally:
        os.unlink(f"{pin}/m")
        os.rmdir(pin)


def test_unbalanced_books_are_seen():
    assert leak.unbalanced({"links": [{"link": "ipsec1", "balance_out": 0, "balance_in": 2}]}) == {".links[ipsec1].balance_in": 2}
    assert not leak.unbalanced({"links": [{"balance": 0}]})


def test_waiting_ends():
    with pytest.raises(Timeout, match="a miracle"):
        wait_until(lambda: False, 0.05, "a miracle")


@pytest.mark.parametrize("encap", ["esp", "udp"])
@pytest.mark.parametrize("outer", [("198.51.100.1", "198.51.100.2"), ("2001:db8::1", "2001:db8::2")], ids=["o4", "o6"])
@pytest.mark.parametrize("esn", [True, False], ids=["esn", "noesn"])
@pytest.mark.parametrize("alg", SUITES)
def test_independent_esp_agrees_with_scapy(alg, esn, outer, encap):
    """Two implementations that share no line give the same bytes and read each other."""
    sa = Sa(alg, esn)
    assert (len(sa.key), len(sa.auth), len(sa.salt)) == SUITES[alg]
    esp = Esp(sa)
    for inner in (raw(IP(src="10.1.0.2", dst="10.2.0.2") / UDP() / Raw(b"x" * 33)),
                  raw(IPv6(src="fd01::2", dst="fd02::2") / UDP() / Raw(b"y" * 8))):
        for seq in [1, 0xffffffff] + ([0x1_0000_0001, 0xfffffffe_fffffff0] if esn else []):
            iv = secrets.token_bytes(sa.iv_len)
            ours = esp.seal(seq, inner, iv=iv)
            if scapy_knows(sa):
                assert ours == scapy_seal(sa, outer, encap, seq, iv, inner)
                assert scapy_open(sa, outer, encap, ours, seq >> 32) == inner
            o = esp.open(ours, seq >> 32)
            assert (o.inner, o.seq, o.iv) == (inner, seq, iv)


def test_key_files_hold_a_pair(lab):
    pair = Pair()
    a, b = pair.write(lab.path("a"), "a"), pair.write(lab.path("b"), "b")
    assert os.stat(a).st_mode & 0o777 == 0o600
    from lib.keys import keys_in_file
    assert keys_in_file(a) == list(reversed(keys_in_file(b))) == pair.keys()
