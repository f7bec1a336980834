# SPDX-License-Identifier: GPL-2.0-or-later
"""gso.c and gro.c against the kernel: both directions of the virtio header, on a real TAP.

    a --tapA-- helper --tapB-- b --veth, no offloads-- c

The helper cuts what kernel a hands over into wire segments and gives them to kernel b, one by one
or merged. b's sockets take super-packets as they are and never look at the checksum field of a
merged one; c does: b must segment in software and complete the checksums from what we left there.
"""
import hashlib
import json
import os
import secrets
import select
import shutil
import socket
import struct
import subprocess
import tempfile
import threading

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import raw
from scapy.utils import RawPcapReader

from lib.topo import Net
from lib.util import ROOT, sh

pytestmark = pytest.mark.nodaemon

A4, B4, C4 = "10.71.0.1", "10.71.0.2", "10.72.0.2"
A6, B6, C6 = "fd71::1", "fd71::2", "fd72::2"
UDP_SEGMENT, UDP_GRO = 103, 104
SO_SNDBUFFORCE, SO_RCVBUFFORCE = 32, 33
MTU = 1450


@pytest.fixture(scope="session")
def helper(tmp_path_factory):
    exe = str(tmp_path_factory.mktemp("gso") / "gso_tap_helper")
    src = [f"{ROOT}/tests/net/gso_tap_helper.c"] + [f"{ROOT}/user/{m}.c" for m in ("csum", "gso", "gro")]
    sh(["gcc", "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE",
        f"-I{ROOT}/user", f"-I{ROOT}/include", "-fsanitize=address,undefined",
        "-fno-sanitize-recover=undefined", "-o", exe, *src])
    return exe


class Bed:
    """a, b, c and the helper between a and b."""

    def __init__(self, exe, mode):
        self.net = Net()
        self.dir = tempfile.mkdtemp(prefix="espwire-gso-")
        self.pcap = os.path.join(self.dir, "wire.pcap")
        try:
            self.a, self.b, self.c = self.net.ns("a"), self.net.ns("b", forward=True), self.net.ns("c")
            self.proc = subprocess.Popen([exe, self.a.path, self.b.path, mode, self.pcap],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert self.proc.stdout.readline() == "ready\n"
            for ns, dev, v4, v6 in ((self.a, "tapA", A4, A6), (self.b, "tapB", B4, B6)):
                ns.ip(f"link set {dev} mtu {MTU} txqueuelen 10000 arp off up",
                      f"addr add {v4}/24 dev {dev}", f"addr add {v6}/64 dev {dev} nodad")
            self.net.wire(self.b, "toc", self.c, "eth0", ("10.72.0.1/24", "fd72::1/64"), (f"{C4}/24", f"{C6}/64"))
            self.b.run("ethtool -K toc tx off tso off gso off")
            self.c.run("ethtool -K eth0 tx off tso off gso off gro off")
            self.a.ip(f"route add 10.72.0.0/24 via {B4}", f"route add fd72::/64 via {B6}")
            self.c.ip("route add default via 10.72.0.1", "route add ::/0 via fd72::1")
        except BaseException:
            self.close()
            raise

    def stop(self):
        """End the helper. Returns its counts."""
        out, _ = self.proc.communicate(timeout=20)
        assert self.proc.returncode == 0
        return json.loads(out)

    def close(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait(timeout=10)
        self.proc.stdin.close()
        self.proc.stdout.close()
        self.net.close()
        shutil.rmtree(self.dir, ignore_errors=True)


@pytest.fixture
def bed(request, helper):
    b = Bed(helper, request.param)
    yield b
    b.close()


def snmp(ns):
    """All counters of /proc/net/{snmp,netstat,snmp6} in one dict, "Tcp.InErrs" or "Udp6InErrors"."""
    out = {}
    for f in ("snmp", "netstat"):
        lines = ns.out(["cat", f"/proc/net/{f}"]).splitlines()
        for names, values in zip(lines[::2], lines[1::2]):
            group = names.split(":")[0]
            out.update({f"{group}.{n}": int(v) for n, v in zip(names.split()[1:], values.split()[1:])})
    for line in ns.out(["cat", "/proc/net/snmp6"]).splitlines():
        name, value = line.split()
        out[name] = int(value)
    return out


def family(addr):
    return socket.AF_INET6 if ":" in addr else socket.AF_INET


def tcp_transfer(src, dst, addr, size):
    """size random bytes over one connection; asserts that they arrive as they were."""
    data = secrets.token_bytes(1 << 20) * (size >> 20)
    srv = dst.socket(family(addr), socket.SOCK_STREAM)
    got = hashlib.sha256()

    def receive():
        conn, _ = srv.accept()
        conn.settimeout(20)
        with conn:
            while piece := conn.recv(1 << 18):
                got.update(piece)

    with srv, src.socket(family(addr), socket.SOCK_STREAM) as s:
        srv.settimeout(20)
        srv.bind((addr, 5001))
        srv.listen()
        t = threading.Thread(target=receive)
        t.start()
        s.settimeout(20)
        s.connect((addr, 5001))
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        t.join(timeout=30)
        assert not t.is_alive()
    assert got.digest() == hashlib.sha256(data).digest()


def receive_all(sock, quiet=0.5):
    """Every datagram until it is quiet, with its UDP_GRO segment size or None."""
    got = []
    while select.select([sock], [], [], quiet)[0]:
        data, anc, _, _ = sock.recvmsg(65535, 64)
        seg = [struct.unpack("i", d[:4])[0] for lvl, typ, d in anc if (lvl, typ) == (socket.SOL_UDP, UDP_GRO)]
        got.append((data, seg[0] if seg else None))
    return got


def udp_runs(src, dst, addr, runs, seg=1200, gro=False):
    """runs super-packets of 40 datagrams and a shorter one. Returns (sent datagrams, received)."""
    rx = dst.socket(family(addr), socket.SOCK_DGRAM)
    with rx, src.socket(family(addr), socket.SOCK_DGRAM) as s:
        rx.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        rx.bind((addr, 5002))
        if gro:
            rx.setsockopt(socket.SOL_UDP, UDP_GRO, 1)
        s.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 64 << 20)
        s.setsockopt(socket.SOL_UDP, UDP_SEGMENT, seg)
        s.connect((addr, 5002))
        sent = []
        for _ in range(runs):
            data = secrets.token_bytes(seg * 40 + 77)
            s.send(data)
            sent += [data[i:i + seg] for i in range(0, len(data), seg)]
        return sent, receive_all(rx)


def check_wire(path, at_least):
    """Every recorded segment has the checksums and lengths that scapy computes for its content."""
    n = seen = 0
    for data, _ in RawPcapReader(path):
        n += 1
        p = (IP if data[0] >> 4 == 4 else IPv6)(data)
        for layer in (IP, TCP, UDP):
            if layer in p:
                for f in ("chksum", "len"):
                    if f in p[layer].fields:
                        delattr(p[layer], f)
        if IPv6 in p:
            del p[IPv6].plen
        want = bytearray(raw(p))
        if TCP in p:
            at = (p[IP].ihl * 4 if IP in p else 40) + 16
            if want[at:at + 2] == b"\0\0" and data[at:at + 2] == b"\xff\xff":
                want[at:at + 2] = b"\xff\xff"  # the same sum in one's complement, and the kernel's choice
        assert bytes(want) == data, f"packet {n}: {p.summary()}"
        assert len(data) <= MTU
        seen += TCP in p or UDP in p
    assert seen >= at_least


modes = pytest.mark.parametrize("bed", ["segment", "merge"], indirect=True)
places = pytest.mark.parametrize("addr", [B4, B6, C4, C6])


def place(bed, addr):
    return bed.b if addr in (B4, B6) else bed.c


@modes
@places
def test_tcp(bed, addr):
    dst = place(bed, addr)
    tcp_transfer(bed.a, dst, addr, 16 << 20)
    far = [snmp(n) for n in {bed.b, dst}]
    n = bed.stop()
    assert n["tapA"]["tcp_supers"] > 50 and n["tapA"]["max_segs"] > 20
    assert n["tapA"]["refused"] == n["tapB"]["refused"] == 0
    assert n["tapB"]["write_errors"] == n["tapA"]["write_errors"] == 0
    for c in far:
        assert c["Tcp.InErrs"] == c["Tcp.InCsumErrors"] == c["Ip.InHdrErrors"] == 0
    if "merge" in bed.proc.args:
        assert n["tapB"]["merged_tcp"] > 50
        assert n["tapB"]["merged"] > n["tapA"]["segs"] * 0.8
    else:
        assert n["tapB"]["merged"] == 0
    check_wire(bed.pcap, 1000)


@modes
@places
def test_udp(bed, addr):
    dst = place(bed, addr)
    sent, got = udp_runs(bed.a, dst, addr, 60)
    c = snmp(dst)
    n = bed.stop()
    assert [d for d, _ in got] == sent
    assert c["Udp.InCsumErrors"] == c["Udp6InCsumErrors"] == 0
    assert n["tapA"]["udp_supers"] == 60 and n["tapA"]["max_segs"] == 41
    assert n["tapB"]["merged_udp"] == (60 if "merge" in bed.proc.args else 0)
    check_wire(bed.pcap, 60 * 41)


@pytest.mark.parametrize("bed", ["merge"], indirect=True)
@pytest.mark.parametrize("addr", [B4, B6])
def test_udp_socket_sees_our_super_packet(bed, addr):
    """With UDP_GRO the application gets it whole, and the kernel tells it our segment size."""
    sent, got = udp_runs(bed.a, bed.b, addr, 20, gro=True)
    assert b"".join(d for d, _ in got) == b"".join(sent)
    assert [(len(d), seg) for d, seg in got] == [(40 * 1200 + 77, 1200)] * 20


@modes
@places
def test_single_packets(bed, addr):
    """Datagrams below a segment come with an unfinished checksum and no GSO; ICMP with a whole one."""
    dst = place(bed, addr)
    assert bed.a.ok(f"ping -c3 -i0.05 -W2 -s 1001 {addr}")
    rx = dst.socket(family(addr), socket.SOCK_DGRAM)
    with rx, bed.a.socket(family(addr), socket.SOCK_DGRAM) as s:
        rx.bind((addr, 5002))
        s.connect((addr, 5002))
        sent = [secrets.token_bytes(k) for k in range(0, 1400, 13)]
        for d in sent:
            s.send(d)
        got = [d for d, _ in receive_all(rx)]
    c = snmp(dst)
    n = bed.stop()
    assert got == sent
    assert c["Udp.InCsumErrors"] == c["Udp6InCsumErrors"] == 0
    assert n["tapA"]["need_csum"] >= len(sent)
    check_wire(bed.pcap, len(sent))


@pytest.mark.parametrize("bed", ["corrupt"], indirect=True)
@pytest.mark.parametrize("addr", [B4, B6, C4, C6])
def test_corruption_is_the_receivers_to_find(bed, addr):
    """Never a bad checksum made good: each flipped bit is found by the far kernel, none by luck."""
    dst = place(bed, addr)
    tcp_transfer(bed.a, dst, addr, 4 << 20)
    before = snmp(dst)
    sent, got = udp_runs(bed.a, dst, addr, 40)
    after = snmp(dst)
    n = bed.stop()
    bad_tcp, bad_udp = n["tapA"]["corrupted_tcp"], n["tapA"]["corrupted_udp"]
    assert bad_tcp > 20 and bad_udp > 20
    assert n["tapB"]["merged_tcp"] > 10 and n["tapB"]["merged_udp"] > 10
    assert before["Tcp.InCsumErrors"] == bad_tcp
    errors = ("Udp.InCsumErrors", "Udp6InCsumErrors")  # 6.18 counts some of IPv6 with IPv4
    assert sum(after[e] - before[e] for e in errors) == bad_udp
    got = [d for d, _ in got]
    assert len(got) == len(sent) - bad_udp
    rest = iter(sent)
    assert all(d in rest for d in got), "in order, and nothing that was not sent"
