# SPDX-License-Identifier: GPL-2.0-or-later
"""esp.c against scapy's ESP, byte for byte, both ways: every suite, mode, encapsulation and pair of families.

No daemon and no kernel: esp_driver runs the pure modules. What scapy 2.5.0 does not have, AES-GMAC and extended
numbers under a HMAC, is sealed and opened by lib/esp_peer.py over python3-cryptography's ciphers and hashlib.
"""
import os
import secrets
import struct
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "net"))
from lib.esp_peer import SCAPY_AUTH, SCAPY_CRYPT, Esp, scapy_knows  # noqa: E402
from lib.keys import SUITES, Sa  # noqa: E402
from scapy.layers.inet import ICMP, IP, TCP, UDP  # noqa: E402
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6  # noqa: E402
from scapy.layers.ipsec import ESP, SecurityAssociation  # noqa: E402
from scapy.packet import Raw, raw  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DRIVER = os.path.join(os.environ.get("ESPWIRE_BUILD", os.path.join(ROOT, "build")), "unit", "esp_driver")
OUTER = {4: ("198.51.100.7", "192.0.2.1"), 6: ("2001:db8::7", "2001:db8::1")}
INNER = {4: ("10.2.0.2", "10.1.0.2"), 6: ("fd02::2", "fd01::2")}
SIZES = (0, 1, 2, 3, 12, 13, 100, 1001)
# with ESN the high half is in the ICV alone; the low half before and behind its wrap (scapy cannot send a 0)
NUMBERS = {True: (1, 0x2_ffff_ffff, 0x3_0000_0001), False: (1, 0x7fff_ffff, 0xffff_ffff)}


class Driver:
    def __init__(self):
        assert os.path.exists(DRIVER), f"{DRIVER} is missing: make check builds it"
        self.p = subprocess.Popen([DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def ask(self, what, sa, mode, seq, packet):
        self.p.stdin.write(f"{what} {sa.alg} {mode} {int(sa.esn)} {sa.spi} {seq} {(sa.key + sa.auth).hex()} "
                           f"{sa.salt.hex() or '-'} {packet.hex()}\n")
        answer = self.p.stdout.readline().strip()
        assert answer, "the driver died"
        assert not answer.startswith("drop"), answer
        return bytes.fromhex(answer)


@pytest.fixture(scope="module")
def driver():
    d = Driver()
    yield d
    d.p.stdin.close()
    assert d.p.wait(10) == 0


def packets(family, mode):
    """The packets of a case: UDP of every size, one TCP segment, one echo request."""
    src, dst = (OUTER if mode == "transport" else INNER)[family]
    ip = IP(src=src, dst=dst, id=77, ttl=61) if family == 4 else IPv6(src=src, dst=dst, hlim=61)
    ping = ICMP(id=3) if family == 4 else ICMPv6EchoRequest(id=3)
    bodies = [UDP(sport=7, dport=4242) / Raw(secrets.token_bytes(n)) for n in SIZES]
    return [raw(ip / b) for b in bodies + [TCP(sport=7, dport=80, seq=9) / Raw(b"x" * 41), ping]]


def header_len(packet):
    return (packet[0] & 15) * 4 if packet[0] >> 4 == 4 else 40


def outer_packet(outer, encap, esp):
    """An envelope as the wire has it, by scapy."""
    src, dst = OUTER[outer]
    ip = IP(src=src, dst=dst, ttl=61) if outer == 4 else IPv6(src=src, dst=dst, hlim=61)
    if encap == "udp":
        return raw(ip / UDP(sport=4500, dport=4500) / Raw(esp))
    if outer == 4:
        ip.proto = 50
    else:
        ip.nh = 50
    return raw(ip / Raw(esp))


def association(sa, outer, encap, mode, high):
    auth = {"auth_algo": SCAPY_AUTH[sa.sha], "auth_key": sa.auth} if sa.hmac else {}
    src, dst = OUTER[outer]
    tunnel = (IP(src=src, dst=dst, ttl=61) if outer == 4 else IPv6(src=src, dst=dst, hlim=61)) if mode == "tunnel" else None
    return SecurityAssociation(ESP, spi=sa.spi, crypt_algo=SCAPY_CRYPT[sa.alg[:7]], crypt_key=sa.key + sa.salt,
                               tunnel_header=tunnel, nat_t_header=UDP(sport=4500, dport=4500) if encap == "udp" else None,
                               esn_en=sa.esn, esn=high, **auth)


class Scapy:
    """Whole envelopes by scapy."""

    def __init__(self, sa, outer, encap, mode):
        self.sa, self.outer, self.encap, self.mode = sa, outer, encap, mode

    def association(self, seq):
        return association(self.sa, self.outer, self.encap, self.mode, seq >> 32)

    def seal(self, packet, seq, iv):
        cls = IP if packet[0] >> 4 == 4 else IPv6
        pkt = self.association(seq).encrypt(cls(packet), seq_num=seq & 0xffffffff, iv=iv)
        if self.encap == "udp":  # whose length field scapy leaves at 8
            return outer_packet(self.outer, "udp", raw(pkt)[header_len(raw(pkt)) + 8:])
        return raw(pkt)

    def open(self, envelope, seq):
        pkt = (IP if self.outer == 4 else IPv6)(envelope)
        if self.encap == "udp":  # scapy takes UDP off only where its own header was
            esp = bytes(pkt[UDP].payload)
            pkt[UDP].underlayer.remove_payload()
            pkt = pkt / ESP(esp)
        return raw(self.association(seq).decrypt(pkt))


class ByHand:
    """The same by lib/esp_peer.py, RFC 4303 over plain ciphers."""

    def __init__(self, sa, outer, encap, mode):
        self.esp, self.outer, self.encap, self.mode = Esp(sa), outer, encap, mode

    def seal(self, packet, seq, iv):
        if self.mode == "tunnel":
            return outer_packet(self.outer, self.encap, self.esp.seal(seq, packet, iv=iv))
        n = header_len(packet)
        next_header = packet[9] if packet[0] >> 4 == 4 else packet[6]
        esp = self.esp.seal(seq, packet[n:], next=next_header, iv=iv)
        return outer_packet(self.outer, self.encap, esp)

    def open(self, envelope, seq):
        n = header_len(envelope) + (8 if self.encap == "udp" else 0)
        o = self.esp.open(envelope[n:], high=seq >> 32)
        if self.mode == "tunnel":
            assert o.next == (4 if o.inner[0] >> 4 == 4 else 41)
            return o.inner
        ip = bytearray(envelope[:header_len(envelope)])  # RFC 4303 3.1.1: lengths and protocol of what is inside
        if self.outer == 4:
            ip[2:4], ip[9], ip[10:12] = struct.pack(">H", len(ip) + len(o.inner)), o.next, b"\0\0"
            return raw(IP(raw(IP(bytes(ip)) / Raw(o.inner))).__class__(bytes(fix_sum(ip)) + o.inner))
        ip[4:6], ip[6] = struct.pack(">H", len(o.inner)), o.next
        return bytes(ip) + o.inner


def fix_sum(ip):
    total = sum(struct.unpack(f">{len(ip) // 2}H", bytes(ip)))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    ip[10:12] = struct.pack(">H", ~total & 0xffff)
    return ip


def pieces(envelope, encap):
    """(up to ESP, ESP header to ICV)"""
    n = header_len(envelope) + (8 if encap == "udp" else 0)
    return envelope[:n], envelope[n:]


def same_but_header(a, b, mode):
    """In transport mode TTL and TOS are the envelope's; what scapy makes of them is its own."""
    if mode == "tunnel":
        return a == b
    n = header_len(a)
    v4 = a[0] >> 4 == 4
    keep = slice(12, 20) if v4 else slice(8, 40)
    proto = 9 if v4 else 6
    return a[n:] == b[n:] and a[keep] == b[keep] and a[proto] == b[proto] and len(a) == len(b)


CASES = [(alg, mode, inner, outer, encap, esn)
         for alg in SUITES for mode in ("tunnel", "transport") for outer in (4, 6) for inner in (4, 6)
         for encap in ("esp", "udp") for esn in (True, False) if mode == "tunnel" or inner == outer]


@pytest.mark.parametrize("alg, mode, inner, outer, encap, esn", CASES,
                         ids=[f"{a}-{m}-i{i}-o{o}-{e}-{'esn' if n else 'noesn'}" for a, m, i, o, e, n in CASES])
def test_both_ways(driver, alg, mode, inner, outer, encap, esn):
    sa = Sa(alg=alg, esn=esn)
    other = (Scapy if scapy_knows(sa) else ByHand)(sa, outer, encap, mode)
    number = NUMBERS[esn]
    for i, packet in enumerate(packets(inner, mode)):
        seq = number[i % len(number)]
        # ours, in an outer header that scapy makes: it opens, and the same packet sealed by scapy is the same bytes
        esp = driver.ask("seal", sa, mode, seq, packet)
        iv = esp[8:8 + sa.iv_len]
        envelope = outer_packet(outer, encap, esp)
        assert same_but_header(other.open(envelope, seq), packet, mode)
        theirs = other.seal(packet, seq, iv)
        assert pieces(theirs, encap)[1] == esp
        # theirs, with an IV of their own, outer header and all
        theirs = other.seal(packet, seq, secrets.token_bytes(sa.iv_len))
        assert same_but_header(driver.ask("open", sa, mode, seq - 1, theirs), packet, mode)
        assert len(theirs) == len(pieces(theirs, encap)[0]) + len(esp)


def test_the_matrix_is_whole():
    """Fourteen suites; tunnel: four pairs of families; transport: two; each bare and in UDP, with and without ESN."""
    assert len(CASES) == len(set(CASES)) == 14 * (4 + 2) * 2 * 2
    assert sum(scapy_knows(Sa(alg=c[0], esn=c[5])) for c in CASES) == (3 * 2 + 4 + 2 + 3) * (4 + 2) * 2


def test_the_comparison_can_fail(driver):
    """A byte changed anywhere in scapy's envelope is noticed by ours, and the other way round."""
    sa = Sa(alg="aes-gcm-128")
    packet = packets(4, "tunnel")[6]
    other = Scapy(sa, 4, "esp", "tunnel")
    good = bytearray(other.seal(packet, 5, secrets.token_bytes(8)))
    for at in (20, 24, 30, 60, len(good) - 1):
        bad = bytearray(good)
        bad[at] ^= 1
        with pytest.raises(AssertionError, match="drop (icv-fail|no-sa)"):
            driver.ask("open", sa, "tunnel", 4, bytes(bad))
    assert driver.ask("open", sa, "tunnel", 4, bytes(good)) == packet
