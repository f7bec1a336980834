# SPDX-License-Identifier: GPL-2.0-or-later
"""Routes that lead envelopes into tunnels: legal nesting carries, circles are refused, counted, and never a storm."""
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


@pytest.fixture
def bed(lab):
    """Three links between two gateways, each with a peer address of its own, so that routes can lead each anywhere."""
    t = lab.two_hosts(hosts=False)
    o = t.outer
    t.a.ip(*[f"route add {far(n)} via {o['b4']} dev eth1" for n in N])
    t.b.ip(*[f"addr add {x}/32 dev lo" for n in N for x in (far(n), dest(n))])
    keys = {n: lab.pair_files(f"k{n}") for n in N}
    wild_a, wild_b = [f"{o['a4']}/32"], [f"{far(n)}/32" for n in N]

    def links(side):
        for n in N:
            me, there = ("1", "2") if side == "a" else ("2", "1")
            # a link may carry the envelopes of another: their addresses are inner ones then
            inner = [f"10.2{n}.0.0/16", f"10.9.{n}.2", *wild_b] if side == "a" else [f"10.9.{n}.1", *wild_a]
            yield f"ipsec{n}", {
                "peer": f"east-{n}" if side == "a" else f"west-{n}", "address": f"10.9.{n}.{me} peer 10.9.{n}.{there}",
                "path": f"{far(n)} encap esp" if side == "a" else f"{o['a4']} local {far(n)} encap esp",
                "inner": ", ".join(inner), "protect": f"10.2{n}.0.0/16" if side == "a" else None, "route": f"10.2{n}.0.0/16" if side == "a" else None,
                "liveness": "100ms x 10", "sa": f"file:{keys[n][1 if side == 'a' else 2]}"}

    def section(side):
        return [(name, {k: v for k, v in keys_.items() if v is not None}) for name, keys_ in links(side)]

    t.keys = {n: keys[n][0] for n in N}
    t.da = lab.daemon(t.a, conf_text(section("a")), keys=[keys[n][1] for n in N])
    t.db = lab.daemon(t.b, conf_text(section("b")), keys=[keys[n][2] for n in N])
    t.da.wait_up(*[f"ipsec{n}" for n in N])
    return t


def lead(t, **ways):
    """Routes for the envelopes: link2=3 leads those of ipsec2 into ipsec3; 0 leads them onto the wire again."""
    for name, into in ways.items():
        n = int(name[-1])
        t.a.ip(f"route replace {far(n)} dev ipsec{into}" if into else f"route replace {far(n)} via {t.outer['b4']} dev eth1")


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
    # an attempt ends at its first step, but for those before anybody knew, once for each time that the links came up
    assert refused and sum(sealed.values()) <= refused + 4 * len(in_loop) + 8, f"sealed {sealed}, refused {refused}"
    assert bed.da.log_now().count("would route its envelopes") <= 3 * len(in_loop), "it flaps"
    lead(bed, link1=0, link2=0, link3=0)
    bed.da.wait_up(*[f"ipsec{n}" for n in N], timeout=12)
    for n in N:
        need_ping(bed.a, dest(n), count=3)
