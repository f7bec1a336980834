# SPDX-License-Identifier: GPL-2.0-or-later
"""Host - gateway - gateway - host: everything arrives, whole, with right checksums and exact counters."""
import contextlib
import json
import os
import secrets
import socket

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw, raw

from lib.esp_peer import Esp, Frame
from lib.traffic import (Listener, UdpEcho, checksums_right, dev_stats, need_ping, ping, tcp_transfer)
from lib.util import wait_until

PATHS = {"esp4": ("4", "esp"), "udp4": ("4", "udp"), "esp6": ("6", "esp"), "udp6": ("6", "udp")}
INNER = {"v4": ("10.1.0.2", "10.2.0.2"), "v6": ("fd01::2", "fd02::2")}
MB = 1 << 20


def bed(lab, path, **kw):
    outer, encap = PATHS[path]
    return lab.two_gateways(path_a=f"{lab_outer('b', outer)} encap {encap}", path_b=f"{lab_outer('a', outer)} encap {encap}", **kw)


def lab_outer(side, fam):
    return {"a4": "198.51.100.1", "b4": "198.51.100.2", "a6": "2001:db8::1", "b6": "2001:db8::2"}[side + fam]


@pytest.mark.parametrize("path", PATHS)
def test_ping(lab, path):
    t = bed(lab, path)
    for _, far in INNER.values():
        need_ping(t.h1, far)
        for size in (0, 1, 56, 1000, t.da.link()["mtu"] - 48):
            assert ping(t.h1, far, size=size, count=2), f"{far} size {size}"
    need_ping(t.a, "10.9.0.2")
    need_ping(t.b, "fd09::1")
    # by routes, and by nothing else: no rule that a host without ipsecd lacks
    for v, far in (("-4", INNER["v4"][1]), ("-6", INNER["v6"][1])):
        assert t.a.out(["ip", v, "rule"]) == t.h1.out(["ip", v, "rule"])
        assert json.loads(t.a.out(["ip", "-j", v, "route", "get", far]))[0]["dev"] == "ipsec1"


@pytest.mark.parametrize("path", PATHS)
def test_ping_larger_than_the_link(lab, path):
    """Fragmented before encryption by the inner stack; arrives whole."""
    t = bed(lab, path)
    for _, far in INNER.values():
        need_ping(t.h1, far, size=4000)


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("path", PATHS)
def test_tcp_hash(lab, path, inner):
    t = bed(lab, path)
    near, far = INNER[inner]
    need_ping(t.h1, far)
    for src, dst, addr in ((t.h1, t.h2, far), (t.h2, t.h1, near)):
        sent, got = tcp_transfer(src, dst, addr, 16 * MB)
        assert sent == got


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("path", ["esp4", "udp6"])
def test_udp_every_size(lab, path, inner):
    """Sizes 0 .. MTU and a few beyond it, every byte compared."""
    t = bed(lab, path)
    _, far = INNER[inner]
    need_ping(t.h1, far)
    e = UdpEcho(t.h1, t.h2, far)
    top = t.da.link()["mtu"] - (28 if inner == "v4" else 48)
    n = e.check(secrets.token_bytes(s) for s in range(top + 1))
    assert n > 1300
    # beyond the MTU the first one teaches the sender (frag-needed, packet-too-big); then it fragments
    e.tx.sendto(bytes(top + 1), e.to)
    wait_until(lambda: e.knows_mtu(t.h1, far) == t.da.link()["mtu"], 3, "the host learns the MTU")
    e.check(secrets.token_bytes(s) for s in (top + 1, top + 9, 4000, 9000, 30000))
    e.close()


def test_udp_gso(lab):
    """A UDP super-packet from the host is cut into its datagrams."""
    t = bed(lab, "udp4")
    need_ping(t.h1, "10.2.0.2")
    e = UdpEcho(t.h1, t.h2, "10.2.0.2")
    e.tx.setsockopt(socket.SOL_UDP, 103, 1000)
    parts = [secrets.token_bytes(1000) for _ in range(40)] + [secrets.token_bytes(333)]
    e.tx.sendto(b"".join(parts), e.to)
    got = [e.rx.recv(1 << 16) for _ in parts]
    assert got == parts
    e.close()


def test_datagrams_leave_in_trains(lab):
    """What came in one by one leaves a link merged, by us or, before Linux 6.2, by the kernel: the stack walks once for many."""
    t = bed(lab, "udp4")
    need_ping(t.h1, "10.2.0.2")
    frames = t.b.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    t.b.enter(frames.bind, ("ipsec1", 3))
    e = UdpEcho(t.h1, t.h2, "10.2.0.2")
    parts = [secrets.token_bytes(64) for _ in range(640)]
    for p in parts:
        e.tx.sendto(p, e.to)
    assert [e.rx.recv(1 << 16) for _ in parts] == parts
    frames.setblocking(False)
    seen = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            seen += len(frames.recv(1 << 16)) >= 64
    assert 0 < seen < len(parts) / 2
    frames.close()
    e.close()


@pytest.mark.parametrize("path", ["esp4", "udp4"])
def test_checksums_on_the_wire(lab, path):
    """Decrypt everything gwA sent, with the independent ESP, and verify every checksum by hand."""
    t = bed(lab, path)
    for _, far in INNER.values():
        need_ping(t.h1, far)
        sent, got = tcp_transfer(t.h1, t.h2, far, 2 * MB)
        assert sent == got
    e = UdpEcho(t.h1, t.h2, "10.2.0.2")
    e.check(os.urandom(n) for n in (0, 1, 2, 3, 1000, 1401))
    e.close()
    esp, kinds = Esp(t.pair.a), set()
    for frame in map(Frame, lab.tap.pcap(t.a, "eth1", True)):
        if frame.esp is None:
            continue
        assert checksums_right(frame.ip) or frame.encap == "udp" and checksum_left_to_device(frame), "outer checksum"
        o = esp.open(frame.esp)
        if o.next != 59:
            kinds.add((o.inner[0] >> 4, o.inner[9] if o.inner[0] >> 4 == 4 else o.inner[6]))
            assert checksums_right(o.inner), o.inner[:60].hex()
    assert {(4, 6), (6, 6), (4, 17)} <= kinds


@pytest.mark.parametrize("input", ["xdp", "socket"])
@pytest.mark.parametrize("path", ["udp4", "udp6"])
def test_checksums_without_offload(lab, path, input):
    """A device that finishes no checksums: ours are whole on the wire, super-packets' too, and the stack takes them in."""
    t = bed(lab, path, underlay={"input": input}, start=False)
    for ns in (t.a, t.b):
        ns.run(["ethtool", "-K", "eth1", "tx", "off"])
    for d in (t.da, t.db):
        d.start()
    for d in (t.da, t.db):
        d.wait_up()
    for _, far in INNER.values():
        need_ping(t.h1, far)
        e = UdpEcho(t.h1, t.h2, far)
        e.check((os.urandom(n) for _ in range(20) for n in (300, 100, 700, 50)), burst=40)
        e.close()
        sent, got = tcp_transfer(t.h1, t.h2, far, 2 * MB)
        assert sent == got
    frames = [f for f in map(Frame, lab.tap.pcap(t.a, "eth1", True)) if f.esp is not None]
    assert len(frames) > 3000
    assert not [f.ip[:40].hex() for f in frames if not checksums_right(f.ip)]


def checksum_left_to_device(frame):
    """On a veth the UDP checksum is not there yet (CHECKSUM_PARTIAL): only the IPv4 header can be judged."""
    return frame.ip[0] >> 4 == 4


def test_bad_inner_checksum_stays_bad(lab):
    """Coalescing never turns a bad checksum into a good one: the bad segment arrives alone, unchanged."""
    t = lab.peer_bed(answer=["10.9.0.2"])
    tap = Listener(t.h1, "eth0")
    good = [IP(src="10.2.0.2", dst="10.1.0.2", id=n) / TCP(sport=99, dport=98, seq=1000 * n + 1, ack=1, flags="A")
            / Raw(bytes([n]) * 1000) for n in range(8)]
    wire = [bytearray(raw(p)) for p in good]
    wire[4][20 + 16] ^= 0x55  # TCP checksum
    for w in wire:
        t.peer.send_raw(t.peer.seal(bytes(w)))
    tcp = lambda p: p[0] >> 4 == 4 and p[9] == 6 and p[12:16] == b"\x0a\x02\x00\x02"
    wait_until(lambda: sum(len(p) - 40 for p in tap.poll() if tcp(p)) >= 8000, 3, "eight segments")
    bad = [p for p in tap.poll() if tcp(p) and bytes([4]) * 1000 in p]
    assert len(bad) == 1 and len(bad[0]) == 1040, "the damaged segment was merged"
    assert bad[0][36:38] == bytes(wire[4][36:38]), "its checksum was changed"
    tap.close()


def test_good_segments_arrive_in_order_and_whole(lab):
    t = lab.peer_bed()
    tap = Listener(t.h1, "eth0")
    want = b"".join(bytes([n]) * 1000 for n in range(40))
    for n in range(40):
        t.peer.send(IP(src="10.2.0.2", dst="10.1.0.2", id=n) / TCP(sport=99, dport=98, seq=1000 * n + 1, ack=1, flags="A")
                    / Raw(bytes([n]) * 1000))
    tcp = lambda p: p[0] >> 4 == 4 and p[9] == 6 and p[12:16] == b"\x0a\x02\x00\x02"
    wait_until(lambda: sum(len(p) - 40 for p in tap.poll() if tcp(p)) >= len(want), 3, "all bytes")
    assert b"".join(p[40:] for p in tap.poll() if tcp(p)) == want
    tap.close()


def books(d):
    j = d.json("drops")
    return dict(j["links"][0], conservation=j["conservation"][0])


@pytest.mark.parametrize("path", ["esp4", "udp6"])
def test_counters_are_exact(lab, path):
    """n packets in are n packets out, everywhere somebody counts: device, link, SA, books."""
    t = bed(lab, path, liveness="off")
    n, size = 200, 333
    for ns in (t.a, t.b):
        ns.sysctl_set("net.ipv6.conf.ipsec1.disable_ipv6", 1)  # no multicast reports in between
    e = UdpEcho(t.h1, t.h2, "10.2.0.2")
    e.check([b"warm"])
    before = [(dev_stats(ns, "ipsec1"), d.link(), books(d)) for ns, d in ((t.a, t.da), (t.b, t.db))]
    e.check(secrets.token_bytes(size) for _ in range(n))
    e.close()
    inner = n * (size + 28)

    def sa(link, way):
        return next(s for s in link["sas"] if s["dir"] == way)

    def settled():
        return t.db.link()["rx"]["packets"] - before[1][1]["rx"]["packets"] >= n
    wait_until(settled, 3, "counters of gwB")
    (sa0, la0, ba0), (sb0, lb0, bb0) = before
    sa1, la1, ba1 = dev_stats(t.a, "ipsec1"), t.da.link(), books(t.da)
    sb1, lb1, bb1 = dev_stats(t.b, "ipsec1"), t.db.link(), books(t.db)
    assert sa1["tx"] - sa0["tx"] == n
    assert 0 < sb1["rx"] - sb0["rx"] <= n, "a coalesced super-packet counts once on the device"
    assert la1["tx"]["packets"] - la0["tx"]["packets"] == n
    assert la1["tx"]["bytes"] - la0["tx"]["bytes"] == inner
    assert lb1["rx"]["packets"] - lb0["rx"]["packets"] == n
    assert lb1["rx"]["bytes"] - lb0["rx"]["bytes"] == inner
    assert sa(la1, "out")["packets"] - sa(la0, "out")["packets"] == n
    assert sa(lb1, "in")["packets"] - sa(lb0, "in")["packets"] == n
    assert ba1["conservation"]["out"]["raw_in"] - ba0["conservation"]["out"]["raw_in"] == n
    assert ba1["conservation"]["out"]["in_funnel"] == 0
    assert bb1["conservation"]["in"]["delivered"] - bb0["conservation"]["in"]["delivered"] == n
    assert bb1["conservation"]["in"]["in_funnel"] == 0
    assert not any(ba1["out"].values()) and not any(bb1["in"].values())


def test_input_by_sockets(lab):
    """input = socket: no XDP on the wire, the same traffic."""
    t = bed(lab, "esp4", underlay={"input": "socket"})
    need_ping(t.h1, "10.2.0.2")
    sent, got = tcp_transfer(t.h1, t.h2, "10.2.0.2", 4 * MB)
    assert sent == got


@pytest.mark.parametrize("crypto", ["openssl", "ipsec-mb"])
@pytest.mark.parametrize("alg", ["aes-gcm-128", "aes-gcm-256", "chacha20-poly1305", "aes-gmac-256",
                                 "aes-cbc-128-hmac-sha2-256", "aes-cbc-256-hmac-sha2-512"])
def test_suites(lab, crypto, alg):
    t = bed(lab, "esp4", alg=alg, ipsecd={"crypto": crypto})
    assert crypto in t.da.show()["daemon"]["crypto"]
    need_ping(t.h1, "10.2.0.2")
    sent, got = tcp_transfer(t.h1, t.h2, "10.2.0.2", 4 * MB)
    assert sent == got


def test_two_workers(lab):
    t = bed(lab, "udp4", ipsecd={"workers": 2})
    need_ping(t.h1, "10.2.0.2")
    sent, got = tcp_transfer(t.h1, t.h2, "10.2.0.2", 8 * MB)
    assert sent == got


def test_cleartext_to_the_peer_is_allowed(lab):
    """Seed 3.2: maintenance traffic to the peer's wild-side address is deliberate, and not through the link."""
    t = bed(lab, "esp4")
    before = dev_stats(t.a, "ipsec1")["tx"]
    assert ping(t.a, "198.51.100.2", count=20) and ping(t.a, "2001:db8::2", count=20)
    assert dev_stats(t.a, "ipsec1")["tx"] - before < 20


def test_maps_print_named_fields(lab):
    """bpftool shows every pinned map with names; the key hunt at the end reads their bytes."""
    import json
    from lib.leak import pinned_maps
    from lib.util import sh
    t = bed(lab, "esp4")
    need_ping(t.h1, "10.2.0.2")
    maps = [p for p in pinned_maps(t.da.pin_dir)]
    assert len(maps) >= 10
    named = 0
    for m in maps:
        info = json.loads(sh(["bpftool", "-j", "map", "show", "pinned", m]).stdout)
        assert "btf_id" in info or info["type"] in ("devmap", "xskmap", "reuseport_sockarray"), f"{m} has no BTF"
        if info["type"] in ("hash", "array") and info.get("max_entries", 0) <= 4096 and "btf_id" in info:
            text = sh(["bpftool", "map", "dump", "pinned", m], check=False).stdout
            named += '"value"' in text or "value:" in text
    assert named >= 5


def jumbo(lab, path, mtu):
    """Wires and hosts of that MTU; the link's is what the wire leaves."""
    t = bed(lab, path, mtu=mtu)
    for ns, dev in ((t.h1, "eth0"), (t.a, "eth0"), (t.h2, "eth0"), (t.b, "eth0")):
        ns.ip(f"link set {dev} mtu {mtu}")
    return t


def came_in(d):
    """(steered to AF_XDP, taken by sockets), envelopes."""
    def books():
        c = d.json("drops")["conservation"][0]["in"]
        return c if not c["in_funnel"] else None
    c = wait_until(books, 2, "nothing under way")
    return c["steered"], c["wire_in"] - c["steered"]


@pytest.mark.parametrize("path", PATHS)
def test_jumbo_wire(lab, path):
    """9000 bytes through AF_XDP: a frame lies in three buffers, arrives in one piece, and no buffer is lost."""
    t = jumbo(lab, path, 9000)
    can = t.db.json("perf")["workers"][0]["wire_mtu"]
    top = t.da.link()["mtu"]
    assert can == 9216 and top > 8900
    for _, far in INNER.values():
        need_ping(t.h1, far, size=top - 48, extra=["-M", "do"], count=20)
    before = came_in(t.db)
    e = UdpEcho(t.h1, t.h2, "10.2.0.2")
    sizes = [*range(3400, 3900, 7), *range(7600, 7780, 3), *range(top - 40, top - 27)]
    assert e.check(secrets.token_bytes(n) for n in sizes) == len(sizes)
    e.close()
    after = came_in(t.db)
    assert after[0] - before[0] >= len(sizes) and after[1] == before[1], "by sockets"
    sent, got = tcp_transfer(t.h1, t.h2, "10.2.0.2", 32 * MB)
    assert sent == got
    sent, got = tcp_transfer(t.h2, t.h1, INNER["v6"][0], 8 * MB)
    assert sent == got


def test_wire_longer_than_a_funnel(lab):
    """Envelopes that no AF_XDP frame holds take the sockets, all of them, and are counted there."""
    t = jumbo(lab, "esp4", 16000)
    top = t.da.link()["mtu"]
    need_ping(t.h1, "10.2.0.2")
    before = came_in(t.db)
    e = UdpEcho(t.h1, t.h2, "10.2.0.2")
    sizes = [*range(9100, 9300), *range(top - 40, top - 27)]
    assert e.check((secrets.token_bytes(n) for n in sizes), burst=8) == len(sizes)
    e.close()
    after = came_in(t.db)
    assert after[1] - before[1] >= 100 and after[0] - before[0] >= 20
    assert "longest envelopes by socket" in t.db.log()
