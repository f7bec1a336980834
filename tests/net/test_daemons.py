# SPDX-License-Identifier: GPL-2.0-or-later
"""FRR and BIRD over links, with the configurations of examples/: the seed's 3.1, "plays nicely with routing daemons".

Figure 4: West has a link to East (cost 10) and one to Orient (20), both lead to Sunrise, where a router chooses its way back.
"""
import json
import os
import re
import signal
import time

import pytest

from lib.routers import Bird, Flows, Frr, Tally
from lib.topo import conf_text
from lib.traffic import Listener, need_ping
from lib.uplinks import DEVICES, TwoUplinks
from lib.util import FULL, ROOT, first_in_line, scaled, tool, wait_until

pytestmark = pytest.mark.serial

LIVENESS, DETECT = "100ms x 3", 0.3
FLAPS = scaled(2, 100, "ESPWIRE_FLAPS")
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


def alone(tally, meant, more=lambda: "", patience=5):
    """Every envelope of the flows goes over the wires meant, and none over another: all of a time that soon begins."""
    seen = {}

    def so():
        seen.update(tally.over(0.3))
        return all(n >= PPS * 0.3 * 0.7 if name in meant else not n for name, n in seen.items())
    wait_until(so, patience, lambda: f"not by {meant} alone: {seen}\n{more()}")


def only_by(f, who, patience=5):
    alone(f.tally, (f"to_{who}", f"from_{who}"), f.news, patience)


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
    sunrise = f.routers["sunrise"] = suite(lab, f.sunrise_host, "sunrise")
    wait_until(lambda: west.full(2) == west.full(3) == west.bfd() == {"ipsec1", "ipsec2"}, 20,
               lambda: f"adjacencies by both links: {west.full(2)} {west.full(3)} {west.bfd()}\n{west.log()}")
    # its LAN has settled who is designated: until then routes come and go
    wait_until(lambda: sunrise.neighbours(2) == sunrise.neighbours(3) == ["br0"] * 2, 20, lambda: f"adjacencies on Sunrise-net: {sunrise.log()}")
    wait_until(lambda: by(f, "east") and hops(f.west, "fd02::2") == {"ipsec1"}, 20, lambda: f"{routes(f)}{west.log()}")
    need_ping(f.sunset_host, "fd02::2")
    flows = Flows(lab, f.sunset_host, "10.1.0.2", f.sunrise_host, "10.2.0.2", PPS)
    time.sleep(0.5)
    only_by(f, "east", 20)
    for kill in kills:
        flows.mark()
        start = time.monotonic()
        kill(f, True)
        wait_until(lambda: by(f, "orient"), 10, lambda: f"{kill.__name__}: {f.news()}")
        wait_until(lambda: hops(f.west, "fd02::2") == {"ipsec2"}, 10, lambda: f"OSPFv3: {f.west.out('ip -6 route')}{f.news()}")
        record_property("figure", f"{suite.__name__}, {kill.__name__} dies: West's IPv6 route had moved after {time.monotonic() - start:.1f} s")
        time.sleep(0.3)
        lost = flows.outage()
        record_property("figure", f"{suite.__name__}, {kill.__name__} dies, {PPS} packets/s: {lost[0]} ms lost to Sunset, {lost[1]} ms to Sunrise")
        assert max(lost) <= suite.loss_ms, f"{kill.__name__}: {lost} ms"
        only_by(f, "orient")
        round_trips(f, "orient")
        if suite is Bird and not FULL:
            return  # the way back is that of test_3_1_flaps
        kill(f, False)
        all_up(f)
        wait_until(lambda: west.full() == {"ipsec1", "ipsec2"} and by(f, "east"), 20, lambda: f"back by East\n{west.log()}")
        time.sleep(0.3)
        only_by(f, "east", 20)  # what was announced last goes back and forth once more: BIRD speaks every 5 s
        round_trips(f, "east")
        assert all(r.alive() for r in f.routers.values())
    flows.stop()

    # equal costs are shared, by flow
    for role, dev in (("west", "ipsec2"), ("orient", "ipsec1")):
        f.routers[role].cost(dev, 10)
    wait_until(lambda: hops(f.west, "10.2.0.2") == {"ipsec1", "ipsec2"}, 5, lambda: f.west.out("ip route"))


@pytest.mark.parametrize("suite", [Frr, Bird], ids=["frr", "bird"])
def test_3_1_bgp(lab, suite, record_property):
    """Sessions over both links; one dies with its link, and the routes with it: at most a second is lost, by BIRD as well."""
    f = figure4(lab)
    west = routers(lab, f, suite, "bgp-", daemons=("bgpd", "bfdd"))
    f.sunrise_host.ip("route add 10.1.0.0/16 via 10.2.0.3")  # its way back is by Orient: what East's death costs is West's to mend
    both = {"10.9.1.2", "10.9.2.2"}
    wait_until(lambda: west.sessions() == both, 20, lambda: f"two sessions: {west.sessions()}\n{west.log()}")
    wait_until(lambda: hops(f.west, "10.2.0.2") == {"ipsec1", "ipsec2"}, 5, lambda: f"both at once: {f.west.out('ip route')}")
    need_ping(f.sunset_host, "10.2.0.2")
    ends = [Flows(lab, f.sunset_host, "10.1.0.2", f.sunrise_host, "10.2.0.2", 500, port) for port in range(6100, 6104)]
    time.sleep(0.3)
    for flows in ends:  # some by East, some by Orient
        flows.mark()
    f.de.kill()
    wait_until(lambda: west.sessions() == {"10.9.2.2"} and hops(f.west, "10.2.0.2") == {"ipsec2"}, 3, lambda: f.west.out("ip route"))
    time.sleep(0.3)
    lost = max(flows.outage()[1] for flows in ends)
    record_property("figure", f"{suite.__name__}, BGP and BFD, daemon dies: {lost} ms lost to Sunrise")
    assert lost <= 1000
    round_trips(f, "orient")
    f.de.start()
    all_up(f)
    wait_until(lambda: west.sessions() == both, 20, lambda: f"back by East\n{west.log()}")
    assert all(r.alive() for r in f.routers.values())


def test_3_1_no_daemon_at_all(lab, record_property):
    """Two routes by metric and carriers that tell the truth: interval x count + 1 s, each way."""
    t = TwoUplinks(lab.net)
    lab.tap.protect(*t.inner)
    files = [lab.pair_files(f"k{n}")[1:] for n in (1, 2)]
    for side, ns in (("a", t.a), ("b", t.b)):
        me, far = (1, 2) if side == "a" else (2, 1)
        far_side = "b" if side == "a" else "a"
        keys = [pair["ab".index(side)] for pair in files]
        sections = [t.link(side, key, path, f"ipsec{n}", peer=f"far-{n}", address=f"10.9.{n}.{me} peer 10.9.{n}.{far}", address6=None,
                           metric=10 * n, liveness=LIVENESS)
                    for n, key, path in zip((1, 2), keys, (t.outer[far_side + "4"], t.outer2[far_side]))]
        setattr(t, f"d{side}", lab.daemon(ns, conf_text(sections, underlay=DEVICES), keys=keys))
    for d in (t.da, t.db):
        d.wait_up("ipsec1", "ipsec2")
    need_ping(t.h1, "10.2.0.2")
    flows = Flows(lab, t.h1, "10.1.0.2", t.h2, "10.2.0.2", PPS)

    tally = Tally(t.switch, "bridge", {f"{dev}_{side}": f"iifname {side}-{dev}" for dev in ("eth1", "eth2") for side in "ab"})

    def on(dev):
        alone(tally, (f"{dev}_a", f"{dev}_b"))

    time.sleep(0.3)
    on("eth1")
    for name, dead, well in (("wire", lambda: t.silence("eth1"), lambda: t.silence("eth1", False)),
                             ("device", lambda: t.b.ip("link set ipsec1 down"), lambda: t.b.ip("link set ipsec1 up"))):
        flows.mark()
        dead()
        wait_until(lambda: not t.a.carrier("ipsec1") and not t.b.carrier("ipsec1"), 5, "both carriers fall")
        time.sleep(0.5)
        lost = flows.outage()
        record_property("figure", f"no daemon, {name} dies, {PPS} packets/s, liveness {LIVENESS}: {lost[0]} and {lost[1]} ms lost")
        assert max(lost) <= (DETECT + 1) * 1000, f"{name}: {lost} ms"
        on("eth2")
        well()
        for d in (t.da, t.db):
            d.wait_up("ipsec1", "ipsec2")
        on("eth1")
    flows.stop()


@pytest.mark.parametrize("suite", [Frr, Bird], ids=["frr", "bird"])
def test_3_1_flaps(lab, suite, record_property):
    """Link after link falls and returns: the adjacency does as well, no process is lost, the routes are right in the end."""
    f = figure4(lab, "100ms x 10")
    west = routers(lab, f, suite)
    both = {"ipsec1", "ipsec2"}
    wait_until(lambda: west.full(2) == west.full(3) == both, 20, lambda: f"{west.full(2)} {west.full(3)}\n{west.log()}")
    pids = {role: {n: p.pid for n, p in r.procs.items()} for role, r in f.routers.items()}
    start = time.monotonic()
    flaps = 1 if suite is Bird and not FULL else FLAPS
    for n in range(flaps):
        dev = ("ipsec1", "ipsec2")[n % 2]
        f.dw.ctl("link", "down", dev)
        wait_until(lambda: west.full(2) == both - {dev}, 10, lambda: f"flap {n}, down: {west.full(2)}\n{west.log()}")
        wait_until(lambda: hops(f.west, "10.2.0.2") == both - {dev}, 10, lambda: f"flap {n}: {f.west.out('ip route')}")
        f.dw.ctl("link", "up", dev)
        wait_until(lambda: west.full(2) == west.full(3) == both, 20, lambda: f"flap {n}, up: {west.full(2)}\n{west.log()}")
    record_property("figure", f"{suite.__name__}: {flaps} flaps, {(time.monotonic() - start) / flaps:.1f} s each until both adjacencies were back")
    wait_until(lambda: hops(f.west, "10.2.0.2") == hops(f.west, "fd02::2") == {"ipsec1"}, 10, lambda: f.west.out("ip route"))
    assert {role: {n: p.pid for n, p in r.procs.items()} for role, r in f.routers.items()} == pids
    assert all(r.alive() for r in f.routers.values())


# --- the metric of a link as the cost of a daemon ---

class Costs:
    """examples/routing/link-costs beside a router, and all it has said."""

    def __init__(self, lab, d, router, *more):
        kind = "frr" if isinstance(router, Frr) else "bird"
        argv = [f"{ROOT}/examples/routing/link-costs", kind, "-i", d.instance, "--ipsecctl", tool("ipsecctl")]
        argv += ["--vty_socket", router.dir] if kind == "frr" else \
            ["--birdc-socket", f"{router.dir}/bird.ctl", "--file", f"{router.dir}/link-costs.conf"]
        self.log = lab.path(f"link-costs-{len(os.listdir(lab.dir))}")
        with open(self.log, "wb") as out:
            self.p = d.ns.popen([*argv, *more], stdout=out, stderr=out)

    def said(self):
        with open(self.log) as f:
            return f.read()


def test_3_1_metric_is_cost_frr(lab):
    """link-costs: at its start, at a change, after a restart of ipsecd and one of FRR."""
    f = figure4(lab, "100ms x 10")
    f.dw.ctl("link", "set", "ipsec1", "metric", "30")
    west = Frr(lab, f.west, "west", daemons=("ospfd", "ospf6d"))
    dry = Costs(lab, f.dw, west, "--dry-run")
    assert dry.p.wait(timeout=15) == 0 and "ipsec1: ip ospf cost 10 -> 30 (dry run)" in dry.said(), dry.said()
    assert west.costs() == {"ipsec1": 10, "ipsec2": 20}
    c = Costs(lab, f.dw, west)

    def both(first, second):
        want = {"ipsec1": first, "ipsec2": second}
        wait_until(lambda: west.costs(2) == west.costs(3) == want, 20, lambda: f"{want}: {west.costs(2)} {west.costs(3)}\n{c.said()}")
    both(30, 20)
    f.dw.ctl("link", "set", "ipsec1", "metric", "7")
    both(7, 20)
    f.dw.kill()
    wait_until(lambda: "ipsecd does not answer" in c.said(), 10, c.said)
    f.dw.start()  # the configuration says 10
    both(10, 20)
    f.dw.ctl("link", "set", "ipsec2", "metric", "44")
    both(10, 44)
    west.kill()
    west.start()
    both(10, 44)
    assert c.p.poll() is None


def test_3_1_metric_is_cost_bird(lab):
    """link-costs with BIRD: constants in a file that bird.conf includes."""
    f = figure4(lab, "100ms x 10")
    west = Bird(lab, f.west, "west")
    c = Costs(lab, f.dw, west)
    constants = f"{west.dir}/link-costs.conf"
    wait_until(lambda: os.path.exists(constants), 10, "the constants")
    with open(f"{west.dir}/bird.conf") as g:
        text = g.read()
    for n in (1, 2):
        text = re.sub(rf'(interface "ipsec{n}" {{[^}}]*cost )\d+', rf"\g<1>cost_ipsec{n}", text)
    with open(f"{west.dir}/bird.conf", "w") as g:
        g.write('include "/run/bird/link-costs.conf";\n' + text)
    assert "Reconfigured" in west.birdc("configure")
    for first in (10, 50):
        f.dw.ctl("link", "set", "ipsec1", "metric", str(first))
        wait_until(lambda: west.costs(2) == west.costs(3) == {"ipsec1": first, "ipsec2": 20}, 10, lambda: f"{west.costs()}\n{c.said()}")
