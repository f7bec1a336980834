# SPDX-License-Identifier: GPL-2.0-or-later
"""The seed's section 4: envelopes are packets of this host, routed on their own merits, whatever becomes of its uplinks."""
import json
import time

import pytest

from lib.topo import conf_text
from lib.traffic import need_ping, ping
from lib.uplinks import DEVICES, Echo, TwoUplinks, in_use, many, paths, sent
from lib.util import scaled, wait_until

FAR = "192.0.2.2"  # an address of gwB that is behind either wire
NEAR = "192.0.2.1"


def two_ways(lab, path, hosts=True, a=None, b=None, wait=True, **over):
    """gwA and gwB reach each other's own address by either wire; eth1 is the way of the main table. path: line(s) of gwA."""
    t = TwoUplinks(lab.net, hosts=hosts)
    lab.tap.protect(*t.inner)
    t.a.ip(f"addr add {NEAR}/32 dev lo", f"route add {FAR} via 198.51.100.2 src {NEAR}")
    t.b.ip(f"addr add {FAR}/32 dev lo", f"route add {NEAR} via 198.51.100.1 src {FAR}")
    t.pair, ka, kb = lab.pair_files()
    over.setdefault("liveness", "200ms x 10")
    t.da = lab.daemon(t.a, conf_text([t.link("a", ka, path, **over)], None, DEVICES), keys=[ka])
    t.db = lab.daemon(t.b, conf_text([t.link("b", kb, NEAR, liveness=over["liveness"])], None, DEVICES), keys=[kb])
    if wait:
        t.da.wait_up()
        t.db.wait_up()
    return t


COUNTERS = """table inet seed {
  chain out {
    type filter hook output priority 0;
    oifname "eth1" meta l4proto esp counter comment "esp eth1"
    oifname "eth2" meta l4proto esp counter comment "esp eth2"
    oifname "eth1" meta mark 0x51 counter comment "0x51 eth1"
    oifname "eth2" meta mark 0x51 counter comment "0x51 eth2"
    oifname "eth1" meta mark 0x52 counter comment "0x52 eth1"
    oifname "eth2" meta mark 0x52 counter comment "0x52 eth2"
  }
}
"""


def counted(ns):
    """Packets of every rule of ours in OUTPUT, by comment."""
    rules = [r["rule"] for r in json.loads(ns.out("nft -j list table inet seed"))["nftables"] if "rule" in r]
    return {r["comment"]: next(e["counter"]["packets"] for e in r["expr"] if "counter" in e) for r in rules}


def grown(ns, before):
    return {k: v - before[k] for k, v in counted(ns).items()}


def count_on(ns):
    ns.run("nft -f -", input=COUNTERS)


def test_envelopes_take_the_way_the_tables_say(lab):
    """OUTPUT sees every envelope, on the device of the outer destination's route; another route, another device."""
    t = two_ways(lab, FAR)
    count_on(t.a)
    need_ping(t.h1, "10.2.0.2")
    for dev, other, via in (("eth1", "eth2", None), ("eth2", "eth1", "203.0.113.2"), ("eth1", "eth2", "198.51.100.2")):
        if via:
            t.a.ip(f"route replace {FAR} via {via} src {NEAR}")
            wait_until(lambda: paths(t.da)[0]["dev"] == dev, 2, lambda: f"{dev}: {paths(t.da)}")
        before, wire, tx = counted(t.a), sent(t.a, dev), t.da.link()["tx"]["packets"]
        assert ping(t.h1, "10.2.0.2", count=40, interval=0.005)
        got, n = grown(t.a, before), t.da.link()["tx"]["packets"] - tx
        assert n >= 40 and got[f"esp {dev}"] >= n and got[f"esp {other}"] == 0, (n, got)
        assert sent(t.a, dev) - wire >= n
    assert t.da.link()["flaps"] == t.db.link()["flaps"] == 0


def test_output_firewall_has_the_last_word(lab):
    """A DROP for the outer header alone stops the link's traffic: there is no way around it."""
    t = two_ways(lab, FAR)
    need_ping(t.h1, "10.2.0.2")
    t.a.run("nft -f -", input=f"add table inet seed\nadd chain inet seed out {{ type filter hook output priority 0; }}\n"
                                f"add rule inet seed out ip daddr {FAR} drop\n")
    before = sent(t.a, "eth1") + sent(t.a, "eth2")
    assert not ping(t.h1, "10.2.0.2", count=5, timeout=0.3)
    assert sent(t.a, "eth1") + sent(t.a, "eth2") - before <= 4, "no envelope"  # ARP, ND
    assert "tx-refused" in t.da.drop_reasons()
    t.a.run("nft delete table inet seed")
    need_ping(t.h1, "10.2.0.2")


def test_a_mark_and_a_table_for_every_path(lab):
    """Two paths to one address, told apart by fwmark: each goes by its own table, whatever the main one says."""
    two = f"{FAR} fwmark 0x51 table 51 weight 1\npath = {FAR} fwmark 0x52 table 52 weight 1"
    t = two_ways(lab, two, wait=False)
    t.a.ip("rule add fwmark 0x51 lookup 51", "rule add fwmark 0x52 lookup 52",
           f"route add {FAR} via 198.51.100.2 src {NEAR} table 51", f"route add {FAR} via 203.0.113.2 src {NEAR} table 52",
           f"route replace unreachable {FAR}")  # not by the main table
    count_on(t.a)
    wait_until(lambda: in_use(t.da) == [True, True] and [p["state"] for p in paths(t.da)] == ["ok", "ok"], 8,
               lambda: f"both: {paths(t.da)}")
    t.da.wait_up()
    assert [p["dev"] for p in paths(t.da)] == ["eth1", "eth2"]
    before, had = counted(t.a), [p["envelopes"] for p in paths(t.da)]
    need_ping(t.h1, "10.2.0.2", count=20)
    wait_until(lambda: min(p["envelopes"] - h for p, h in zip(paths(t.da), had)) >= 3, 5, "probes on both")
    got = grown(t.a, before)
    assert got["0x51 eth1"] >= 3 and got["0x52 eth2"] >= 3, got
    assert got["0x51 eth2"] == got["0x52 eth1"] == 0, got
    assert got["esp eth1"] == got["0x51 eth1"] and got["esp eth2"] == got["0x52 eth2"], "every envelope bears its path's mark"
    t.a.ip("rule del fwmark 0x52", "route flush table 52")
    wait_until(lambda: in_use(t.da) == [True, False], 4, lambda: f"the first alone: {paths(t.da)}")
    need_ping(t.h1, "10.2.0.2")


def test_a_rule_on_the_protocol_number(lab):
    """The seed's other way (section 5): ESP by one table, all else to the same address by another. No mark needed."""
    t = two_ways(lab, FAR)
    count_on(t.a)
    t.a.ip("rule add ipproto esp lookup 60", f"route add {FAR} via 203.0.113.2 src {NEAR} table 60")
    wait_until(lambda: paths(t.da)[0]["dev"] == "eth2", 3, lambda: f"by the rule: {paths(t.da)}")
    before, plain = counted(t.a), sent(t.a, "eth1")
    need_ping(t.h1, "10.2.0.2", count=20)
    got = grown(t.a, before)
    assert got["esp eth2"] >= 20 and got["esp eth1"] == 0, got
    assert t.a.out(["ip", "route", "get", FAR]).split()[4] == "eth1"
    assert ping(t.a, FAR, count=10)  # the peer's own address, in the clear, by the main table
    assert sent(t.a, "eth1") - plain >= 10
    t.a.ip("rule del ipproto esp lookup 60")
    wait_until(lambda: paths(t.da)[0]["dev"] == "eth1", 3, lambda: f"the rule is gone: {paths(t.da)}")
    need_ping(t.h1, "10.2.0.2")


def test_link_in_another_namespace(lab):
    """netns =: raw packets are routed there, their envelopes here, by tables that know nothing of each other."""
    t = TwoUplinks(lab.net, hosts=False)
    blue = lab.net.ns("blue")
    _, ka, kb = lab.pair_files()
    t.da = lab.daemon(t.a, conf_text([t.link("a", ka, netns=blue.name)], None, DEVICES), keys=[ka])
    t.db = lab.daemon(t.b, conf_text([t.link("b", kb)], None, DEVICES), keys=[kb])
    t.da.wait_up()
    count_on(t.a)
    count_on(blue)
    before, there = counted(t.a), counted(blue)
    need_ping(blue, "10.9.0.2", count=20)
    assert grown(t.a, before)["esp eth1"] >= 20
    assert not any(grown(blue, there).values())
    assert not t.a.ok(["ip", "route", "get", "10.2.0.2", "oif", "ipsec1"]), "nothing of it here"


LINKS = scaled(100, 500, "ESPWIRE_RENUMBER_LINKS")


def hundred(lab, count, **underlay):
    t = lab.two_hosts(hosts=False)
    lab.tap.protect("10.64.0.0/12")
    sides, keys = many(lab, "198.51.100.2", "any", count, liveness="1s x 8")
    for side, ns in (("a", t.a), ("b", t.b)):
        d = lab.daemon(ns, conf_text(sides[side], {"max-links": 1024}, underlay or None), keys=keys[side], start=False)
        d.start(timeout=120)
        setattr(t, f"d{side}", d)
    for d in (t.da, t.db):
        wait_until(lambda: d.show()["daemon"]["links_up"] == count, 30, lambda: f"{d.show()['daemon']['links_up']} up", poll=0.1)
    t.echo = Echo(lab, t.a, count)
    t.echo.all_answer(30)
    return t


def identity(d):
    """What makes a tunnel this tunnel: its device, its SAs and how long they have been there."""
    return {l["name"]: (l["ifindex"], l["state"], sorted(s["spi"] for s in l["sas"])) for l in d.show()["links"]}


@pytest.mark.serial
def test_an_uplink_is_renumbered(lab, record_property):
    """Hundreds of tunnels over one uplink that gets another address: none restarts, all carry again within 2 s."""
    t = hundred(lab, LINKS)
    was = [identity(d) for d in (t.da, t.db)]
    took = []
    for own in (200, 201, 202):
        old = json.loads(t.a.out("ip -j -4 addr show dev eth1"))[0]["addr_info"][0]["local"]
        t.a.ip(f"addr del {old}/24 dev eth1", f"addr add 198.51.100.{own}/24 dev eth1", "route replace default via 198.51.100.2")
        start = time.monotonic()
        took.append(t.echo.all_answer(20, start))
        if took[-1] < 2:
            break  # else something had the machine: once more
    record_property("figure", f"an uplink renumbered under {LINKS} tunnels: all carry traffic again after {min(took):.2f} s")
    assert [identity(d) for d in (t.da, t.db)] == was, "no link was made again or got other SAs, and all are up"
    assert min(took) < 2, f"{took}"


def test_an_uplink_is_renamed_moved_removed_and_added(lab):
    """What happens to a wire happens below: the links neither restart nor get other devices or SAs."""
    t = hundred(lab, 20, devices="eth1 wan0 eth9")
    was = {n: (i, s) for n, (i, _, s) in identity(t.da).items()}
    t.a.ip("link set eth1 down", "link set eth1 name wan0", "link set wan0 up", "route replace default via 198.51.100.2")
    t.echo.all_answer(20)
    wait_until(lambda: {p["dev"] for l in t.da.json("path list")["links"] for p in l["paths"]} == {"wan0"}, 3, "the new name")
    t.a.ip(f"link set wan0 netns {t.b.name}")  # away, and back with all its addresses to be given anew
    t.b.ip(f"link set wan0 netns {t.a.name}")
    t.a.ip("addr add 198.51.100.1/24 dev wan0", "link set wan0 up", "route replace default via 198.51.100.2")
    t.echo.all_answer(20)
    t.a.ip("link del wan0")
    lab.net.wire(t.a, "eth9", t.b, "eth9", ("198.51.100.77/24",), ("198.51.100.2/24",), underlay=True)
    t.a.ip("route replace default via 198.51.100.2")
    t.echo.all_answer(30)
    assert {n: (i, s) for n, (i, _, s) in identity(t.da).items()} == was
