# SPDX-License-Identifier: GPL-2.0-or-later
"""Reasons that no other test provokes: each one by what really causes it, counted exactly where the cause allows.

docs/conformance.md lists every reason of include/ipsec_drops.h with the tests that provoke it. The books
balance at the end of each, as everywhere.
"""
import signal
import socket
import struct

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw, raw

from lib.books import global_sums, sums
from lib.esp_peer import NH_NONE
from lib.util import wait_until

NOBODY = {4: "198.51.100.99", 6: "2001:db8::99"}
FAR = "10.2.0.2"


def inner(n=0, **kw):
    return raw(IP(src=FAR, dst="10.1.0.2", id=n, **kw) / UDP(sport=7, dport=4242) / Raw(b"drop"))


def alone(lab, path, **over):
    """gwA with a link whose peer is not asked for signs of life."""
    t = lab.two_hosts()
    _, ka, _ = lab.pair_files()
    t.da = lab.daemon(t.a, [t.link("a", ka, path, liveness="off", **over)], keys=[ka])
    t.da.wait_up()
    for ns in (t.a, t.h1):
        ns.sysctl_set("net.ipv6.conf.all.mldv1_unsolicited_report_interval", 0)
    t.before = t.da.json("drops")
    return t


def burst(ns, n, size=100, far=FAR):
    s = ns.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for k in range(n):
        s.sendto(struct.pack(">I", k) + bytes(size - 4), (far, 4242))
    s.close()


def out(t):
    return sums(t.before, t.da.json("drops"), "out")


def expect(t, reason, n, timeout=3):
    """At least n: the device's own multicast reports may fare alike. And nothing else."""
    wait_until(lambda: out(t).get(reason, 0) >= n, timeout, lambda: f"{n} x {reason}, not {out(t)}")
    assert set(out(t)) == {reason} and out(t)[reason] <= n + 20, out(t)


def test_ttl_0(lab):
    """Nothing whose hops are spent goes on: RFC 1122 3.2.1.7."""
    t = alone(lab, "198.51.100.2")
    s = t.a.socket(socket.AF_INET, socket.SOCK_RAW, 255)
    for n in range(3):
        s.sendto(raw(IP(src="10.9.0.1", dst=FAR, ttl=0, id=n) / UDP(dport=1)), (FAR, 0))
    s.close()
    s = t.a.socket(socket.AF_INET6, socket.SOCK_RAW, 255)
    for n in range(2):
        s.sendto(raw(IPv6(src="fd09::1", dst="fd02::2", hlim=0) / UDP(dport=1)), ("fd02::2", 0))
    s.close()
    wait_until(lambda: out(t) == {"ttl": 5}, 2, lambda: f"5 x ttl, not {out(t)}")


@pytest.mark.parametrize("encap", ["esp", "udp"])
@pytest.mark.parametrize("outer", [4, 6], ids=["o4", "o6"])
def test_nobody_at_the_next_hop(lab, outer, encap):
    """sendmsg() takes them, the neighbour never answers: told seconds later, and no longer counted as emitted."""
    t = alone(lab, f"{NOBODY[outer]} encap {encap}")
    burst(t.h1, 3)
    expect(t, "no-neigh", 3, timeout=8)
    books = t.da.json("drops")["conservation"][0]["out"]
    assert books["emitted"] == 0 and books["balance"] == 0, books


def route_envelopes(t, outer, kind):
    """Bare ESP alone meets such a route: the daemon's own look at the path does not see it and keeps the link up."""
    v6 = ["-6"] if outer == 6 else []
    t.a.run(["ip", *v6, "route", "add", kind, "default", "table", "77"])
    t.a.run(["ip", *v6, "rule", "add", "ipproto", "50", "table", "77", "priority", "50"])


@pytest.mark.parametrize("outer", [4, 6], ids=["o4", "o6"])
def test_no_route_to_the_peer(lab, outer):
    t = alone(lab, "198.51.100.2" if outer == 4 else "2001:db8::2")
    route_envelopes(t, outer, "unreachable")
    burst(t.h1, 10)
    expect(t, "no-route", 10)


def test_firewall_refuses_the_envelope(lab):
    t = alone(lab, "198.51.100.2")
    t.a.run(["nft", "add table inet no; add chain inet no out { type filter hook output priority 0; }; "
             "add rule inet no out ip protocol esp drop"])
    burst(t.h1, 10)
    expect(t, "tx-refused", 10)


def test_a_black_hole_on_the_way(lab):
    """What the stack says of a blackhole route (EINVAL) it says of much else: no reason of its own."""
    t = alone(lab, "198.51.100.2")
    route_envelopes(t, 4, "blackhole")
    burst(t.h1, 10)
    expect(t, "tx-error", 10)


def test_queue_discipline_refuses(lab):
    t = alone(lab, "198.51.100.2")
    t.a.run("tc qdisc replace dev eth1 root tbf rate 80kbit burst 10kb limit 20000")
    burst(t.h1, 100, size=1300)
    wait_until(lambda: out(t).get("tx-refused", 0) >= 50, 3, lambda: f"tx-refused, not {out(t)}")
    assert set(out(t)) == {"tx-refused"}, out(t)
    t.a.run("tc qdisc del dev eth1 root")


@pytest.mark.parametrize("encap", ["esp", "udp"])
def test_the_wire_is_too_slow(lab, encap):
    """Envelopes pile up behind a slow wire until their socket is full."""
    t = alone(lab, f"198.51.100.2 encap {encap}")
    t.a.run("tc qdisc replace dev eth1 root tbf rate 80kbit burst 70kb limit 200mb")
    wait_until(lambda: burst(t.h1, 500, size=1300) or "queue-full" in out(t), 20, lambda: f"queue-full, not {out(t)}")
    assert set(out(t)) == {"queue-full"}, out(t)
    t.a.run("tc qdisc del dev eth1 root")


def stop_and_flood(t, size, n):
    t.da.signal(signal.SIGSTOP)
    try:
        burst(t.a, n, size=size)
    finally:
        t.da.signal(signal.SIGCONT)


def test_a_stopped_worker_runs_out_of_frames(lab):
    """Every frame of the funnel lies unread: the kernel has none left, and says so."""
    t = alone(lab, "198.51.100.2")
    stop_and_flood(t, 60, 6000)  # xsk-queue is 4096
    wait_until(lambda: global_sums(t.before, t.da.json("drops")).get("umem-empty", 0) > 0, 5,
               lambda: f"umem-empty, not {global_sums(t.before, t.da.json('drops'))}")

    def settled():
        b = t.da.json("drops")["conservation"][0]["out"]
        return b["balance"] == 0 and b["in_funnel"]

    lost = wait_until(settled, 3, lambda: f"books that balance: {t.da.json('drops')['conservation']}")
    counted = global_sums(t.before, t.da.json("drops"))
    assert counted["umem-empty"] + counted.get("queue-full", 0) <= lost


def test_authentic_but_the_link_is_down(lab):
    t = lab.peer_bed()
    t.peer.send_raw(t.peer.seal(inner()))
    wait_until(lambda: t.da.link()["rx"]["packets"] == 1, 2, "the link works")
    t.da.ctl("link down ipsec1")
    before = t.da.json("drops")
    for n in range(3):
        t.peer.send_raw(t.peer.seal(inner(n)))
    wait_until(lambda: sums(before, t.da.json("drops"), "in") == {"link-down": 3}, 2,
               lambda: f"3 x link-down, not {sums(before, t.da.json('drops'), 'in')}")


def test_congestion_that_nobody_would_hear(lab):
    """RFC 6040 4.2: CE outside, not-ECT inside."""
    t = lab.peer_bed()
    atk = lab.attacker(t.b, "eth1", t.a)
    before = t.da.json("drops")
    for n in range(3):
        atk.ip(IP(src=t.outer["b4"], dst=t.outer["a4"], proto=50, tos=3) / Raw(t.peer.seal(inner(n))))
    wait_until(lambda: sums(before, t.da.json("drops"), "in") == {"ecn-ce-not-ect": 3}, 2,
               lambda: f"3 x ecn-ce-not-ect, not {sums(before, t.da.json('drops'), 'in')}")


def test_numbers_not_reserved_yet(lab):
    """A peer's floor moves our numbers up to what is durably reserved: until more is, nothing is sent."""
    t = lab.peer_bed(esn=False, check=False)
    probe = struct.pack(">4sBBHQQQ", b"espw", 2, 1, 100, 0, 0, (1 << 32) - 1)
    before = t.da.json("drops")

    def push():
        t.peer.send_raw(t.peer.seal(probe, next=NH_NONE))
        burst(t.a, 20)
        return sums(before, t.da.json("drops"), "out").get("seq-exhausted", 0)

    wait_until(push, 5, lambda: f"seq-exhausted, not {sums(before, t.da.json('drops'), 'out')}")
    assert set(sums(before, t.da.json("drops"), "out")) == {"seq-exhausted"}
