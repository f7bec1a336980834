# SPDX-License-Identifier: GPL-2.0-or-later
"""Routes that lead envelopes into tunnels: legal nesting carries, circles are refused, counted, and never a storm."""
import signal
import socket
import time

import pytest

from lib.esp_peer import Frame
from lib.topo import conf_text
from lib.traffic import need_ping, ping
from lib.util import wait_until

N = (1, 2, 3)


def far(n):
    """The wild-side address of link n's peer."""
    return f"192.0.2.{n}"


def dest(n):
    """What lies behind link n."""
    return f"10.2{n}.0.2"


def lay(lab, links=N, liveness="100ms x 10"):
    """Links between two gateways, each with a peer address of its own, so that routes can lead each anywhere."""
    t = lab.two_hosts(hosts=False)
    o = t.outer
    t.a.ip(*[f"route add {far(n)} via {o['b4']} dev eth1" for n in links])
    t.b.ip(*[f"addr add {x}/32 dev lo" for n in links for x in (far(n), dest(n))])
    keys = {n: lab.pair_files(f"k{n}") for n in links}
    wild_a, wild_b = [f"{o['a4']}/32"], [f"{far(n)}/32" for n in links]

    def section(side):
        for n in links:
            me, there = ("1", "2") if side == "a" else ("2", "1")
            # a link may carry the envelopes of another: their addresses are inner ones then
            inner = [f"10.2{n}.0.0/16", f"10.9.{n}.2", *wild_b] if side == "a" else [f"10.9.{n}.1", *wild_a]
            lines = {"peer": f"east-{n}" if side == "a" else f"west-{n}", "address": f"10.9.{n}.{me} peer 10.9.{n}.{there}",
                     "path": f"{far(n)} encap esp" if side == "a" else f"{o['a4']} local {far(n)} encap esp",
                     "inner": ", ".join(inner), "liveness": liveness, "sa": f"file:{keys[n][1 if side == 'a' else 2]}"}
            if side == "a":
                lines.update(protect=f"10.2{n}.0.0/16", route=f"10.2{n}.0.0/16")
            yield f"ipsec{n}", lines

    t.keys = {n: keys[n][0] for n in links}
    t.da = lab.daemon(t.a, conf_text(list(section("a"))), keys=[keys[n][1] for n in links])
    t.db = lab.daemon(t.b, conf_text(list(section("b"))), keys=[keys[n][2] for n in links])
    t.da.wait_up(*[f"ipsec{n}" for n in links])
    return t


@pytest.fixture
def bed(lab):
    return lay(lab)


def lead(t, **ways):
    """Routes for the envelopes, all at once: link2=3 leads those of ipsec2 into ipsec3; 0 leads them onto the wire again."""
    t.a.ip(*[f"route replace {far(name[-1])} " + (f"dev ipsec{into}" if into else f"via {t.outer['b4']} dev eth1") for name, into in ways.items()])


def drops(t, n):
    return t.da.json("drops")["links"][n - 1]["out"].get("route-loop", 0)


def sent(t, n):
    return t.da.link(f"ipsec{n}")["tx"]["packets"]


def looped(t, n):
    l = t.da.link(f"ipsec{n}")
    return l["state"] == "down" and l["reason"] == "route-loop"


def test_three_deep(bed, lab):
    """Tunnel in tunnel in tunnel: legal. On the wire lie envelopes of the outermost only; each MTU leaves room for the next."""
    lead(bed, link1=2, link2=3)
    wait_until(lambda: [bed.da.link(f"ipsec{n}")["mtu"] for n in N] == [1334, 1390, 1446], 5,
               lambda: f"MTUs one in the other: {[bed.da.link(f'ipsec{n}')['mtu'] for n in N]}")
    spi = {n: bed.keys[n].a.spi for n in N}
    before = {n: sent(bed, n) for n in N}
    need_ping(bed.a, dest(1), count=20, size=1334 - 28, extra=("-M", "do"))
    grown = {n: sent(bed, n) - before[n] for n in N}
    assert 20 <= grown[1] <= grown[2] <= grown[3], grown
    big = [f for f in map(Frame, lab.tap.pcap(bed.a, "eth1", True)) if f.esp is not None and len(f.data) >= 1500]
    assert len(big) >= 20 and {f.spi for f in big} == {spi[3]}, "what lies on the wire is the outermost"
    assert not any(drops(bed, n) for n in N)


@pytest.mark.parametrize("ways, in_loop", [({"link1": 1}, (1,)), ({"link1": 2, "link2": 1}, (1, 2)), ({"link1": 2, "link2": 3, "link3": 1}, N)],
                         ids=["into-itself", "mutual", "circle"])
def test_circle(bed, ways, in_loop):
    """Envelopes led back: refused and counted, the links say so, the others carry on, and when the routes are right again so are they."""
    for n in N:
        need_ping(bed.a, dest(n), count=2)
    sealed, refused = {n: sent(bed, n) for n in N}, sum(drops(bed, n) for n in N)
    lead(bed, **ways)
    wait_until(lambda: all(looped(bed, n) for n in in_loop), 5, lambda: f"{[bed.da.link(f'ipsec{n}')['reason'] for n in N]}")
    for n in N:
        if n in in_loop:
            assert not ping(bed.a, dest(n), count=5, timeout=0.2)
        else:
            need_ping(bed.a, dest(n), count=5)
    time.sleep(2.5)  # held for a second, tried again, held for two
    refused = sum(drops(bed, n) for n in N) - refused
    sealed = {n: sent(bed, n) - sealed[n] for n in in_loop}
    # every envelope that was made is refused as it enters the next link
    assert refused and sum(sealed.values()) <= refused, f"sealed {sealed}, refused {refused}"
    assert bed.da.log_now().count("would route its envelopes") <= 3 * len(in_loop), "it flaps"
    lead(bed, link1=0, link2=0, link3=0)
    bed.da.wait_up(*[f"ipsec{n}" for n in N], timeout=12)
    for n in N:
        need_ping(bed.a, dest(n), count=3)


def test_first_attempts(lab):
    """
    Into circles that were not there a moment ago, before the daemon has looked at the routes: of each attempt one envelope is made at most,
    and it is the one refused. Nothing else goes into the links: no probes, and a firewall against what devices say by themselves.
    """
    t = lay(lab, range(1, 7), liveness="off")
    t.a.run(["nft", "-f", "-"], input="""
        add table inet alone
        add chain inet alone out { type filter hook output priority 0; }
        add rule inet alone out oifname "ipsec*" meta l4proto != esp udp dport != 9 drop
        add rule inet alone out oifname "ipsec*" meta l4proto { icmpv6, igmp } drop
        """)
    s, count = t.a.socket(socket.AF_INET, socket.SOCK_DGRAM), 20
    for circle in ((1,), (2, 3), (4, 5, 6)):
        made = sum(sent(t, n) for n in circle)
        t.da.signal(signal.SIGSTOP)  # or it might be faster than we
        lead(t, **{f"link{n}": into for n, into in zip(circle, circle[1:] + circle[:1])})
        for _ in range(count):
            s.sendto(b"around", (dest(circle[0]), 9))
        t.da.signal(signal.SIGCONT)
        wait_until(lambda: all(looped(t, n) for n in circle), 5, lambda: f"{[t.da.link(f'ipsec{n}')['reason'] for n in circle]}")
        wait_until(lambda: sum(drops(t, n) for n in circle) == count, 2, lambda: f"refused {[drops(t, n) for n in circle]} of {count} attempts")
        made = sum(sent(t, n) for n in circle) - made
        assert made <= count, f"{made} envelopes of {count} attempts into a circle of {len(circle)}"
    s.close()
