# SPDX-License-Identifier: GPL-2.0-or-later
"""tshark, given the keys, reads our envelopes off the wire as exactly the packets that were sent.

An ESP that shares nothing with ours nor with scapy's. Debian's tshark knows neither ChaCha20-Poly1305
nor extended sequence numbers; scapy and the kernel's XFRM prove those.
"""
import hashlib
import os
import secrets
import shutil
import struct
from collections import Counter, namedtuple

import pytest

from lib.carried import MODE
from lib.leak import write_pcap
from lib.traffic import Listener, checksums_right, need_ping, ping, tcp_transfer
from lib.util import sh

TSHARK = shutil.which("tshark")
pytestmark = pytest.mark.skipif(not TSHARK, reason="tshark is not installed (packages.txt)")

# our name -> encryption and authentication in tshark's words; GCM's tag is part of the encryption there
GCM, CBC = "AES-GCM with 16 octet ICV [RFC4106]", "AES-CBC [RFC3602]"
SUITES = {"aes-gcm-128": (GCM, "NULL"), "aes-gcm-256": (GCM, "NULL"),
          "aes-cbc-128-hmac-sha2-256": (CBC, "HMAC-SHA-256-128 [RFC4868]"),
          "aes-cbc-256-hmac-sha2-256": (CBC, "HMAC-SHA-256-128 [RFC4868]"),
          "aes-cbc-256-hmac-sha2-384": (CBC, "HMAC-SHA-384-192 [RFC4868]"),
          "aes-cbc-256-hmac-sha2-512": (CBC, "HMAC-SHA-512-256 [RFC4868]"),
          "aes-cbc-128-hmac-sha1": (CBC, "HMAC-SHA-1-96 [RFC2404]"), "null-hmac-sha2-256": ("NULL", "HMAC-SHA-256-128 [RFC4868]")}
NH_NONE = 59
# of a dummy packet tshark shows no next header: it has no dissector to hand the payload to
FIELDS = {"esp.sequence": int, "esp.protocol": lambda s: int(s, 0) if s else NH_NONE, "esp.icv_good": lambda s: s in ("1", "True"),
          "esp.sequence-analysis.wrong-sequence-number": str, "esp.contained_data": bytes.fromhex}
# random bytes may look like some protocol, and its dissector may end the reading of the envelope
AS_DATA = ("-d", "udp.port==4242,data", "-d", "tcp.port==5001,data")
Read = namedtuple("Read", "seq next good misplaced inner")

UDP, TCP = 17, 6
FAR, NEAR = ("10.2.0.2", "fd02::2"), ("10.1.0.2", "fd01::2")


def sad(sa, outer):
    """One line of tshark's esp_sa table."""
    encryption, authentication = SUITES[sa.alg]
    words = [f"IPv{outer}", "*", "*", f"{sa.spi:#x}", encryption, "0x" + (sa.key + sa.salt).hex() if sa.key else "", authentication,
             "0x" + sa.auth.hex() if sa.auth else ""]
    return "uat:esp_sa:" + ",".join(f'"{w}"' for w in words)


def tshark(lab, outer, *sides):
    """Every envelope that left each (namespace, SA), as tshark decrypts it. One tshark for all: its start takes a second."""
    frames = [lab.tap.pcap(ns, "eth1", True) for ns, _ in sides]
    whose = [n for n, of_one in enumerate(frames) for _ in of_one]
    pcap = write_pcap(lab.path("tshark.pcap"), [f for of_one in frames for f in of_one])
    argv = [TSHARK, "-n", "-r", pcap, *AS_DATA, "-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE",
            "-Y", "esp", "-T", "fields", "-E", "separator=|"]
    for _, sa in sides:
        argv += ["-o", sad(sa, outer)]
    for f in ("frame.number", "esp.spi", *FIELDS):
        argv += ["-e", f]
    env = dict(os.environ, HOME=lab.dir, WIRESHARK_CONFIG_DIR=lab.path("wireshark"))
    found = [[] for _ in sides]
    for line in sh(argv, timeout=120, env=env).stdout.splitlines():
        number, spi, *words = line.split("|")
        n = whose[int(number) - 1]
        if int(spi, 0) == sides[n][1].spi:
            found[n].append(Read(*(kind(word) for kind, word in zip(FIELDS.values(), words))))
    return found


def packets(reads):
    return [r.inner for r in reads if r.next != NH_NONE and is_test(r.inner)]


def protocol(p):
    return p[9] if p[0] >> 4 == 4 else p[6]


def is_test(p):
    """Not the multicast chatter of the device."""
    return p[0] >> 4 == 4 or p[24] != 0xff


def bed(lab, alg, outer, encap):
    a, b = ("198.51.100.1", "198.51.100.2") if outer == 4 else ("2001:db8::1", "2001:db8::2")
    t = lab.two_gateways(alg=alg, esn=False, path_a=f"{b} encap {encap}", path_b=f"{a} encap {encap}")
    for near, far in zip(NEAR, FAR):
        need_ping(t.h1, far)
    return t


def sound(reads):
    """What must be true of every envelope, whatever it carries."""
    bad = [r for r in reads if not r.good]
    assert reads and not bad, f"{len(bad)} of {len(reads)} not authentic: {bad[:2]}"
    seqs = [r.seq for r in reads]
    if MODE:  # the kernel seals on every core: an echo of the link's may overtake
        seqs.sort()
    assert seqs == list(range(1, len(reads) + 1)), "sequence numbers 1, 2, 3, ..."
    assert MODE or not [r.seq for r in reads if r.misplaced], "tshark's own sequence analysis"
    assert {r.next for r in reads} == ({4, 41} if MODE else {4, 41, NH_NONE}), "the kernel sends no probes, nor does who asks it"
    for r in reads:
        if r.next == NH_NONE:
            assert len(r.inner) == 32 and r.inner[:4] == b"espw", "a liveness probe, struct probe in ipsec_wire.h"
        else:
            assert r.inner[0] >> 4 == (4 if r.next == 4 else 6) and checksums_right(r.inner), r.inner[:60].hex()


def flows(inner):
    """Addresses, protocol and ports (identifier of an echo) -> its packets in order: order is kept per flow."""
    found = {}
    for p in inner:
        l4 = p[20:] if p[0] >> 4 == 4 else p[40:]
        name = p[12:20] if p[0] >> 4 == 4 else p[8:40]
        found.setdefault((name, protocol(p), l4[4:6] if protocol(p) in (1, 58) else l4[:4]), []).append(p)
    return found


WIRES = [(4, "esp"), (6, "udp"), (4, "udp"), (6, "esp")]


def wires(alg):
    """All four for GCM, two for what came second, one for the rest."""
    return WIRES[:4 if SUITES[alg][0] == GCM else 2 if "sha2" in alg and SUITES[alg][0] == CBC else 1]


@pytest.mark.parametrize("alg,outer,encap", [(alg, *wire) for alg in SUITES for wire in wires(alg)])
def test_reads_what_was_sent(lab, alg, outer, encap):
    """Each packet routed into ipsec1, byte for byte and in order."""
    t = bed(lab, alg, outer, encap)
    t.h1.run("ethtool -K eth0 tx off")  # checksums complete before they are seen here, no super-packets
    sent = Listener(t.a, "ipsec1", outgoing=True)
    for far in FAR:
        s = t.h1.socket(10 if ":" in far else 2, 2)
        for size in (0, 1, 2, 3, 4, 5, 6, 7, 100, 1001, 1300, t.da.link()["mtu"] - 48):
            s.sendto(secrets.token_bytes(size), (far, 4242))
        s.close()
        assert ping(t.h1, far, count=5)
        before, after = tcp_transfer(t.h1, t.h2, far, 1 << 18)
        assert before == after
    want = [p for p in sent.poll() if is_test(p)]
    sent.close()
    assert {(p[0] >> 4, protocol(p)) for p in want} >= {(4, 1), (4, TCP), (4, UDP), (6, TCP), (6, UDP), (6, 58)}
    reads, back = tshark(lab, outer, (t.a, t.pair.a), (t.b, t.pair.b))
    sound(reads)
    sound(back)
    got = flows(packets(reads))
    for flow, these in flows(want).items():  # a last acknowledgement may have come after the listener's last look
        if MODE:  # of two cores the one that was second may be the first to seal
            assert not Counter(these) - Counter(got[flow]), flow
        else:
            assert got[flow][:len(these)] == these, flow


def stream(inner, addr):
    """The bytes of the longest TCP conversation towards addr, in order of their sequence numbers."""
    parts, start = {}, None
    for p in inner:
        if protocol(p) != TCP or addr not in (p[16:20], p[24:40]):
            continue
        tcp = p[20:] if p[0] >> 4 == 4 else p[40:]
        seq, = struct.unpack(">I", tcp[4:8])
        if tcp[13] & 2:
            start = (seq + 1) & 0xffffffff
        if start is not None and (data := tcp[(tcp[12] >> 4) * 4:]):
            at = (seq - start) & 0xffffffff
            parts[at] = max(parts.get(at, b""), data, key=len)
    out = b""
    for at in sorted(parts):
        assert at <= len(out), f"a hole at {len(out)}"
        out += parts[at][len(out) - at:]
    return out


@pytest.mark.parametrize("alg,encap", [("aes-gcm-256", "esp"), ("aes-gcm-256", "udp"), ("aes-cbc-128-hmac-sha2-256", "udp")])
def test_reads_super_packets(lab, alg, encap):
    """What the host hands down as super-packets leaves as segments that add up to the same stream."""
    t = bed(lab, alg, 4, encap)
    for far, raw in zip(FAR, (bytes([10, 2, 0, 2]), b"\xfd\x02" + bytes(13) + b"\2")):
        (size, digest), after = tcp_transfer(t.h1, t.h2, far, 1 << 20)
        assert after == (size, digest)
        reads, = tshark(lab, 4, (t.a, t.pair.a))
        sound(reads)
        data = stream(packets(reads), raw)
        assert (len(data), hashlib.sha256(data).hexdigest()) == (size, digest)


@pytest.mark.parametrize("alg,which", [("aes-gcm-256", "key"), ("aes-cbc-256-hmac-sha2-512", "auth")])
def test_a_wrong_key_reads_nothing(lab, alg, which):
    """The reader does look at the integrity check value."""
    t = bed(lab, alg, 4, "esp")
    good, = tshark(lab, 4, (t.a, t.pair.a))
    sound(good)
    key = getattr(t.pair.a, which)
    setattr(t.pair.a, which, bytes([key[0] ^ 1]) + key[1:])
    bad, = tshark(lab, 4, (t.a, t.pair.a))
    assert len(bad) >= len(good) and not any(r.good for r in bad)
