# SPDX-License-Identifier: GPL-2.0-or-later
"""FRR and BIRD over links, with the configurations of examples/: the seed's 3.1, "plays nicely with routing daemons".

Figure 4: West has a link to East (cost 10) and one to Orient (20), both lead to Sunrise, where a router chooses its way back.
"""
import json
import os
import signal
import time

import pytest

from lib.routers import Bird, Flows, Frr, Tally
from lib.topo import conf_text
from lib.traffic import Listener, need_ping
from lib.util import FULL, first_in_line, scaled, wait_until

pytestmark = pytest.mark.serial

LIVENESS = "100ms x 3"
PPS = scaled(2000, 10000, "ESPWIRE_FLOW_PPS")


@pytest.fixture(autouse=True)
def first(lab):
    with first_in_line():
        yield


def figure4(lab, liveness=LIVENESS):
    """The links, up, without a single route of ours: those are the daemons'."""
    f = lab.figure4()
    _, w1, e1 = lab.pair_files("east")
    _, w2, o1 = lab.pair_files("orient")

    def link(peer, tun, own, path, nets, key, metric):
        return {"peer": peer, "address": f"{tun}.{own} peer {tun}.{3 - own}", "path": path, "inner": ", ".join(nets),
                "protect": ", ".join(nets), "metric": metric, "liveness": liveness, "sa": f"file:{key}"}
    wild = f.wild
    f.dw = lab.daemon(f.west, conf_text([
        ("ipsec1", link("east", "10.9.1", 1, wild["east"][0], f.sunrise, w1, 10)),
        ("ipsec2", link("orient", "10.9.2", 1, wild["orient"][0], f.sunrise, w2, 20))]), keys=[w1, w2])
    f.de = lab.daemon(f.east, conf_text([("ipsec1", link("west", "10.9.1", 2, wild["west"][0], f.sunset, e1, 10))]), keys=[e1])
    f.do = lab.daemon(f.orient, conf_text([("ipsec1", link("west", "10.9.2", 2, wild["west"][0], f.sunset, o1, 20))]), keys=[o1])
    f.tally = Tally(f.cloud, "ip", {f"{way}_{who}": f"{dev} to-{who}" for who in ("east", "orient")
                                    for way, dev in (("to", "oifname"), ("from", "iifname"))})
    f.news = lambda: f"{routes(f)}" + "".join(f"== {d.ns.role}\n{d.log()[-800:]}" for d in (f.dw, f.de, f.do)) + \
        "".join(f"== {role}\n{r.log()}" for role, r in getattr(f, "routers", {}).items())
    # the way back is a daemon's as well
    f.sunrise_host.ip("route flush 10.1.0.0/16", "route flush fd01::/48")
    all_up(f)
    return f


def all_up(f):
    f.dw.wait_up("ipsec1", "ipsec2")
    f.de.wait_up()
    f.do.wait_up()


def routers(lab, f, suite, prefix="", **kw):
    f.routers = {ns.role: suite(lab, ns, prefix + ns.role, **kw) for ns in (f.west, f.east, f.orient)}
    return f.routers["west"]


def hops(ns, dst, what="dev"):
    """Devices of the route that a packet from elsewhere would take, by the table: one, or several. Or its routers ("gateway")."""
    found = json.loads(ns.out(["ip", "-j", "-6" if ":" in dst else "-4", "route", "show", "match", dst]))
    best = min((r for r in found if r["dst"] != "default" and r.get("type", "unicast") == "unicast"),
               key=lambda r: r.get("metric", 0), default={})
    return {h.get(what) for h in best.get("nexthops", [best] if "dev" in best else []) if "linkdown" not in h.get("flags", [])}


def by(f, who):
    """Both ways, by the tables."""
    dev, router = {"east": ("ipsec1", "10.2.0.1"), "orient": ("ipsec2", "10.2.0.3")}[who]
    return hops(f.west, "10.2.0.2") == {dev} and hops(f.sunrise_host, "10.1.0.2", "gateway") == {router}


def routes(f):
    return "".join(f"{ns.role}:\n{ns.out('ip route')}" for ns in (f.west, f.sunrise_host))


def only_by(f, who):
    """Every envelope of the flows goes over that wire, both ways, and none over the other."""
    n = f.tally.over(0.3)
    meant = {name: n.pop(name) for name in (f"to_{who}", f"from_{who}")}
    assert min(meant.values()) >= PPS * 0.3 * 0.7 and not any(n.values()), f"not by {who} alone: {meant} {n}\n{f.news()}"


def round_trips(f, who):
    """Pings from Sunset, each request and each answer on the link meant."""
    gone = Listener(f.west, "ipsec1" if who == "east" else "ipsec2", outgoing=True)
    back = Listener(f.west, "ipsec1" if who == "east" else "ipsec2")
    need_ping(f.sunset_host, "10.2.0.2", count=10)
    for heard, kind in ((gone, 8), (back, 0)):
        assert heard.count(lambda p: p[0] == 0x45 and p[9] == 1 and p[20] == kind) >= 10
        heard.close()


# --- what dies, and how it comes back ---

def daemon(f, dead):
    if dead:
        f.de.kill()
    else:
        f.de.start()


def device(f, dead):
    f.east.ip("link set ipsec1 " + ("down" if dead else "up"))


def wire(f, dead):
    """The cloud loses everything from and to East, and tells nobody."""
    if dead:
        f.cloud.run(["nft", "-f", "-"], input="table ip cut {\n chain c {\n  type filter hook forward priority 0;\n"
                    "  iifname to-east drop\n  oifname to-east drop\n }\n}\n")
    else:
        f.cloud.run("nft delete table ip cut")


def host(f, dead):
    """East loses its power: ipsecd, its guardian and the routing daemons at one moment, and every wire."""
    if dead:
        for pid in f.de.pids():
            os.kill(pid, signal.SIGKILL)
        f.de.kill()
        f.routers["east"].kill()
        f.east.ip("link set eth0 down", "link set eth1 down")
    else:
        f.east.ip("link set eth0 up", "link set eth1 up", "addr replace fd02::1/48 dev eth0 nodad",
                  f"addr replace {f.wild['east'][1]}/64 dev eth1 nodad", f"route replace default via {f.cloud_addr['east'][0]}",
                  f"route replace ::/0 via {f.cloud_addr['east'][1]}")
        f.de.start()
        f.routers["east"].start()


@pytest.mark.parametrize("suite", [Frr, Bird], ids=["frr", "bird"])
def test_3_1_failover(lab, suite, record_property):
    """Daemon, device, wire and host die one after the other under traffic: at most a second is lost, each way."""
    kills = (daemon, device, wire, host) if suite is Frr or FULL else (daemon,)  # BIRD takes its time
    f = figure4(lab)
    west = routers(lab, f, suite)
    f.routers["sunrise"] = suite(lab, f.sunrise_host, "sunrise")
    wait_until(lambda: west.full(2) == west.full(3) == west.bfd() == {"ipsec1", "ipsec2"}, 20,
               lambda: f"adjacencies by both links: {west.full(2)} {west.full(3)} {west.bfd()}\n{west.log()}")
    wait_until(lambda: by(f, "east") and hops(f.west, "fd02::2") == {"ipsec1"}, 20, lambda: f"{routes(f)}{west.log()}")
    need_ping(f.sunset_host, "fd02::2")
    flows = Flows(lab, f.sunset_host, "10.1.0.2", f.sunrise_host, "10.2.0.2", PPS)
    time.sleep(0.5)
    only_by(f, "east")
    for kill in kills:
        flows.mark()
        kill(f, True)
        wait_until(lambda: by(f, "orient"), 10, lambda: f"{kill.__name__}: {f.news()}")
        time.sleep(0.3)
        lost = flows.outage()
        record_property("figure", f"{suite.__name__}, {kill.__name__} dies, {PPS} packets/s: {lost[0]} ms lost to Sunset, {lost[1]} ms to Sunrise")
        assert max(lost) <= suite.loss_ms, f"{kill.__name__}: {lost} ms"
        only_by(f, "orient")
        round_trips(f, "orient")
        wait_until(lambda: hops(f.west, "fd02::2") == {"ipsec2"}, 10, lambda: f"OSPFv3: {f.west.out('ip -6 route')}{f.news()}")
        kill(f, False)
        all_up(f)
        wait_until(lambda: west.full() == {"ipsec1", "ipsec2"} and by(f, "east"), 20, lambda: f"back by East\n{west.log()}")
        time.sleep(0.3)
        only_by(f, "east")
        round_trips(f, "east")
        assert all(r.alive() for r in f.routers.values())
    flows.stop()

    # equal costs are shared, by flow
    for role, dev in (("west", "ipsec2"), ("orient", "ipsec1")):
        f.routers[role].cost(dev, 10)
    wait_until(lambda: hops(f.west, "10.2.0.2") == {"ipsec1", "ipsec2"}, 5, lambda: f.west.out("ip route"))
