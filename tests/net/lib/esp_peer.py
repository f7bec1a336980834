# SPDX-License-Identifier: GPL-2.0-or-later
"""The independent peer: scapy's ESP, and where scapy has nothing, RFC 4303 over plain ciphers and MACs.

Nothing here shares a line with espwire. Esp works from ESP header to ICV; Peer is the far end of a
link in a namespace without ipsecd: it opens what arrives, checks that scapy seals the same inner
packet to the very same bytes, and sends what a test asks for.
"""
import collections
import errno
import hashlib
import hmac
import os
import secrets
import socket
import struct
import threading

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

os.environ.setdefault("SCAPY_USE_LIBPCAP", "no")
from scapy.config import conf as scapy_conf  # noqa: E402
scapy_conf.ipv6_enabled = True
from scapy.layers.inet import ICMP, IP, UDP  # noqa: E402
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6  # noqa: E402
from scapy.layers.ipsec import ESP, SecurityAssociation  # noqa: E402
from scapy.packet import raw  # noqa: E402

from lib.frames import OUTGOING, SOL_PACKET, open_frames, split  # noqa: E402

SCAPY_CRYPT = {"aes-gcm": "AES-GCM", "chacha2": "CHACHA20-POLY1305", "aes-cbc": "AES-CBC", "null-hm": "NULL"}
SCAPY_AUTH = {1: "HMAC-SHA1-96", 256: "SHA2-256-128", 384: "SHA2-384-192", 512: "SHA2-512-256"}
NH4, NH6, NH_NONE = 4, 41, 59

Opened = collections.namedtuple("Opened", "seq iv next inner pad")


class Esp:
    """RFC 4303 with every suite, one direction, from ESP header to ICV."""

    def __init__(self, sa):
        self.sa = sa
        if not sa.hmac:
            self.aead = ChaCha20Poly1305(sa.key) if sa.alg.startswith("chacha") else AESGCM(sa.key)

    def aad(self, seq):
        if self.sa.esn:  # RFC 4106 5: SPI, high half, low half
            return struct.pack(">IQ", self.sa.spi, seq)
        return struct.pack(">II", self.sa.spi, seq)

    def icv(self, seq, head, text):
        """RFC 4868, RFC 2404 over the packet's own bytes, ESN's high half behind them (RFC 4303 2.2.1)."""
        tail = struct.pack(">I", seq >> 32) if self.sa.esn else b""
        mac = hmac.new(self.sa.auth, head + text + tail, getattr(hashlib, f"sha{self.sa.sha}"))
        return mac.digest()[:self.sa.icv_len]

    def cbc(self, iv):
        return Cipher(algorithms.AES(self.sa.key), modes.CBC(iv))

    def protect(self, seq, iv, text):
        """text: payload, padding and trailer. Returns the packet."""
        head = struct.pack(">II", self.sa.spi, seq & 0xffffffff) + iv
        if self.sa.cbc:
            e = self.cbc(iv).encryptor()
            text = e.update(text) + e.finalize()
            return head + text + self.icv(seq, head, text)
        if self.sa.null:  # RFC 2410: neither IV nor cipher
            return head + text + self.icv(seq, head, text)
        if self.sa.gmac:  # RFC 4543 3.3: IV and payload are AAD
            return head + text + self.aead.encrypt(self.sa.salt + iv, b"", self.aad(seq) + iv + text)
        return head + self.aead.encrypt(self.sa.salt + iv, text, self.aad(seq))

    def unprotect(self, seq, data):
        n, icv_len = 8 + self.sa.iv_len, self.sa.icv_len
        head, iv, text, icv = data[:n], data[8:n], data[n:-icv_len], data[-icv_len:]
        if self.sa.hmac:
            if not hmac.compare_digest(icv, self.icv(seq, head, text)):
                raise InvalidTag
            if self.sa.null:
                return text
            d = self.cbc(iv).decryptor()
            return d.update(text) + d.finalize()
        if self.sa.gmac:
            self.aead.decrypt(self.sa.salt + iv, icv, self.aad(seq) + iv + text)
            return text
        return self.aead.decrypt(self.sa.salt + iv, text + icv, self.aad(seq))

    def iv(self, seq):
        """Unlike for others, any will do for a test that never repeats a number."""
        return secrets.token_bytes(16) if self.sa.cbc else b"" if self.sa.null else struct.pack(">Q", seq)

    def seal(self, seq, inner, next=None, iv=None, pad=None, tfc=0):
        """pad: the padding bytes themselves; default 1,2,3 up to the suite's alignment."""
        next = next if next is not None else NH4 if inner[0] >> 4 == 4 else NH6
        body = inner + bytes(tfc)
        pad = bytes(range(1, 1 + (-len(body) - 2) % self.sa.align)) if pad is None else pad
        return self.protect(seq, iv or self.iv(seq), body + pad + bytes([len(pad), next]))

    def open(self, data, high=0):
        spi, low = struct.unpack(">II", data[:8])
        assert spi == self.sa.spi, f"SPI {spi:#x}, not {self.sa.spi:#x}"
        seq = high << 32 | low
        text = self.unprotect(seq, data)
        n, next = text[-2], text[-1]
        return Opened(seq, data[8:8 + self.sa.iv_len], next, text[:-2 - n], text[len(text) - 2 - n:-2])


def scapy_knows(sa):
    """No GMAC, and for HMACs no ESN (2.5.0 authenticates the packet's bytes alone)."""
    return not sa.gmac and not (sa.hmac and sa.esn)


def scapy_sa(sa, outer, encap, high=0):
    """scapy's own idea of the same SA. outer: (src, dst) of the envelope."""
    v6 = ":" in outer[0]
    tunnel = (IPv6 if v6 else IP)(src=outer[0], dst=outer[1])
    auth = {"auth_algo": SCAPY_AUTH[sa.sha], "auth_key": sa.auth} if sa.hmac else {}
    return SecurityAssociation(ESP, spi=sa.spi, crypt_algo=SCAPY_CRYPT[sa.alg[:7]], crypt_key=sa.key + sa.salt,
                               tunnel_header=tunnel, nat_t_header=UDP(sport=4500, dport=4500) if encap == "udp" else None,
                               esn_en=sa.esn, esn=high, **auth)


def scapy_seal(sa, outer, encap, seq, iv, inner):
    """ESP header to ICV as scapy makes them."""
    ssa = scapy_sa(sa, outer, encap, seq >> 32)
    pkt = ssa.encrypt((IP if inner[0] >> 4 == 4 else IPv6)(inner), seq_num=seq & 0xffffffff, iv=iv)
    return raw(pkt)[len(pkt) - len(raw(pkt[ESP])):] if pkt.haslayer(ESP) else raw(pkt.lastlayer())


def scapy_open(sa, outer, encap, esp_bytes, high=0):
    """Inner packet bytes as scapy decrypts them."""
    ssa = scapy_sa(sa, outer, encap, high)
    pkt = ssa.tunnel_header.copy() / ESP(esp_bytes)
    pkt = pkt.__class__(raw(pkt))
    return raw(ssa.decrypt(pkt))


class Frame:
    """An Ethernet frame taken apart as far as the ESP header, without scapy: it is fast."""

    def __init__(self, data):
        self.data, self.esp, self.ip = data, None, data[14:]
        kind = struct.unpack(">H", data[12:14])[0]
        if kind == 0x800 and len(self.ip) >= 20:
            hl, self.proto = (self.ip[0] & 15) * 4, self.ip[9]
            end, self.frag = struct.unpack(">H", self.ip[2:4])[0], struct.unpack(">H", self.ip[6:8])[0] & 0x3fff
            self.src, self.dst = socket.inet_ntop(socket.AF_INET, self.ip[12:16]), socket.inet_ntop(socket.AF_INET, self.ip[16:20])
        elif kind == 0x86dd and len(self.ip) >= 40:
            hl, self.proto, end, self.frag = 40, self.ip[6], struct.unpack(">H", self.ip[4:6])[0] + 40, 0
            self.src, self.dst = socket.inet_ntop(socket.AF_INET6, self.ip[8:24]), socket.inet_ntop(socket.AF_INET6, self.ip[24:40])
        else:
            self.proto, self.src, self.dst, self.frag = None, None, None, 0
            return
        body = self.ip[hl:end]
        self.sport = self.dport = None
        if self.proto == 50 and not self.frag & 0x1fff:
            self.esp, self.encap = body, "esp"
        elif self.proto == 17 and not self.frag & 0x1fff and len(body) >= 8:
            self.sport, self.dport = struct.unpack(">HH", body[:4])
            self.udp_sum = struct.unpack(">H", body[6:8])[0]
            self.body = body[8:]
            if 4500 in (self.sport, self.dport) and len(body) >= 16 and body[8:12] != b"\0\0\0\0":
                self.esp, self.encap = body[8:], "udp"

    @property
    def spi(self):
        return struct.unpack(">I", self.esp[:4])[0]

    @property
    def seq(self):
        return struct.unpack(">I", self.esp[4:8])[0]

    @property
    def iv(self):
        """Of the suites with a counter for an IV."""
        return self.esp[8:16]


class Peer:
    """The far end of a link without ipsecd. tx: SA towards ipsecd, rx: SA from it."""

    def __init__(self, ns, dev, local, remote, tx, rx, encap="esp", answer=(), check=True):
        self.ns, self.dev, self.local, self.remote, self.encap = ns, dev, local, remote, encap
        self.tx, self.rx = Esp(tx), Esp(rx)
        self.answer, self.check = set(answer), check
        self.seq, self.lock = 0, threading.Lock()
        self.inner, self.problems, self.opened = [], [], []
        self.v6 = ":" in remote
        self.family = socket.AF_INET6 if self.v6 else socket.AF_INET
        if encap == "udp":
            self.sock = ns.socket(self.family, socket.SOCK_DGRAM)
            ns.enter(self.sock.bind, (local, 4500))
        else:
            self.sock = ns.socket(self.family, socket.SOCK_RAW, 50)
        self.tap = open_frames(ns, dev)
        self.tap.settimeout(0.1)
        self.running = True
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    # --- sending ---

    def next_seq(self):
        with self.lock:
            self.seq += 1
            return self.seq

    def seal(self, inner, **kw):
        kw.setdefault("seq", None)
        seq = kw.pop("seq") or self.next_seq()
        return self.tx.seal(seq, inner, **kw)

    def send_raw(self, esp):
        port = 4500 if self.encap == "udp" else 0
        self.sock.sendto(esp, (self.remote, port))

    def send(self, inner, **kw):
        inner = raw(inner)
        esp = self.seal(inner, **kw)
        self.send_raw(esp)
        return esp

    # --- receiving ---

    def _listen(self):
        while self.running:
            try:
                data, addr = self.tap.recvfrom(1 << 17)
            except socket.timeout:
                continue
            except OSError as e:
                if e.errno == errno.ENETDOWN:  # said once when the wire goes down
                    continue
                if self.running:
                    self.problems.append(f"the peer's tap: {e}")
                return
            if addr[2] == OUTGOING:
                continue
            try:
                for frame in split(data):
                    self._frame(Frame(frame))
            except Exception as e:  # a test must see it, whatever it is
                self.problems.append(f"{type(e).__name__}: {e}: {data[:80].hex()}")

    def _frame(self, f):
        if f.esp is None or f.spi != self.rx.sa.spi:
            return
        if f.encap != self.encap:
            self.problems.append(f"came as {f.encap}")
        try:
            o = self.rx.open(f.esp)
        except InvalidTag:
            self.problems.append(f"scapy's peer cannot open seq {f.seq}")
            return
        self.opened.append((f, o))
        if o.next == NH_NONE:
            return
        if self.check:
            self._same_bytes(f, o)
        self.inner.append(o.inner)
        self._answer(o.inner)

    def _same_bytes(self, f, o):
        """RFC 4303 leaves no freedom once sequence, IV and inner packet are given."""
        if not scapy_knows(self.rx.sa):
            again = self.rx.seal(o.seq, o.inner, iv=o.iv)
            if again != f.esp:
                self.problems.append(f"seq {o.seq} sealed by hand:\n{again.hex()}\n{f.esp.hex()}")
            return
        theirs = scapy_seal(self.rx.sa, (f.src, f.dst), f.encap, o.seq, o.iv, o.inner)
        if theirs != f.esp:
            self.problems.append(f"scapy seals seq {o.seq} to other bytes:\n{theirs.hex()}\n{f.esp.hex()}")
        if scapy_open(self.rx.sa, (f.src, f.dst), f.encap, f.esp) != o.inner:
            self.problems.append(f"scapy opens seq {o.seq} to another inner packet")

    def _answer(self, inner):
        if inner[0] >> 4 == 4:
            p = IP(inner)
            if p.dst in self.answer and p.haslayer(ICMP) and p[ICMP].type == 8:
                self.send(IP(src=p.dst, dst=p.src, ttl=64) / ICMP(type=0, id=p[ICMP].id, seq=p[ICMP].seq)
                          / p[ICMP].payload)
        else:
            p = IPv6(inner)
            if p.dst in self.answer and p.haslayer(ICMPv6EchoRequest):
                q = p[ICMPv6EchoRequest]
                self.send(IPv6(src=p.dst, dst=p.src, hlim=64) / ICMPv6EchoReply(id=q.id, seq=q.seq, data=q.data))

    def told(self):
        """What it opened apart from the multicast chatter every IPv6 device makes."""
        return [o for _, o in self.opened if not (o.next == NH6 and o.inner[24] == 0xff)]

    def close(self):
        self.running = False
        self.thread.join(timeout=5)
        self.tap.close()
        self.sock.close()


def garbage_esp(spi, length=96):
    return struct.pack(">II", spi, 1) + secrets.token_bytes(length)


ATTACKER = "02:bd:00:00:00:01"  # sniff.c leaves frames from 02:bd alone: they are the test's own


class Attacker:
    """Sends whole frames on a wire, as somebody on the cloud could."""

    def __init__(self, ns, dev, towards_mac):
        self.sock = ns.packet_socket(dev)
        self.sock.setsockopt(SOL_PACKET, 20, 1)  # PACKET_QDISC_BYPASS: past the guard of our own side
        self.head = bytes.fromhex(towards_mac.replace(":", "")) + bytes.fromhex(ATTACKER.replace(":", ""))

    def ip(self, packet):
        data = raw(packet) if not isinstance(packet, bytes) else packet
        kind = b"\x08\x00" if data[0] >> 4 == 4 else b"\x86\xdd"
        self.sock.send(self.head + kind + data)

    def frame(self, data):
        """A captured frame again, with our MAC addresses."""
        self.sock.send(self.head + data[12:])

    def close(self):
        self.sock.close()
