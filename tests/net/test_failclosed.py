# SPDX-License-Identifier: GPL-2.0-or-later
"""Fail closed (I1, I1b, I9): whatever happens to ipsecd or to one layer, nothing leaves in the clear.

In every bed the default routes of the gateways lead over the wild wire, so a packet that misses the
link would be seen there; test_bed.py shows that it is. The leak tap judges, after every case.
Local and forwarded traffic, both families, always.
"""
import errno
import os
import random
import signal

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from lib.traffic import Listener, Load, need_ping, ping, volley
from lib.util import FULL, scaled, wait_until

MOMENTS = scaled(3, 20, "ESPWIRE_MOMENTS")


def sources(t):
    return [(n, far) for n in (t.h1, t.a) for far in ("10.2.0.2", "fd02::2")]


def shoot(lab, t, n=20):
    return volley(lab, sources(t), n)


def arrived(lab, t):
    """The bed works before something is broken."""
    need_ping(t.h1, "10.2.0.2")
    need_ping(t.h1, "fd02::2")


# --- what happens to the daemon ---

def alive(t):
    pass


def killed(t):
    t.da.kill()


def all_killed(t):
    """ipsecd and its guardian."""
    pids = t.da.guardians()
    t.da.kill()
    for p in pids:
        os.kill(p, signal.SIGKILL)


def stopped(t):
    t.da.stop()


def hung(t):
    t.da.signal(signal.SIGSTOP)
    wait_until(lambda: not t.a.carrier("ipsec1"), 2, "carrier down of a hung daemon")


DAEMON = {"alive": alive, "killed": killed, "all-killed": all_killed, "stopped": stopped, "hung": hung}


# --- what happens to the system ---

def nothing(t):
    pass


def e1_policy_route(t):
    """A hostile rule that sends protected traffic from the far end of the pair to the wire, rp_filter off."""
    t.a.ip("rule add pref 5 iif ipsec1 to 10.2.0.0/16 lookup 99", f"route add default via {t.outer['b4']} table 99")
    for c in ("all", "default", "ipsec1"):
        t.a.sysctl_set(f"net.ipv4.conf.{c}.rp_filter", 0)


def e2_admin_down(t):
    t.a.ip("link set ipsec1 down")


def e3_carrier_lost(t):
    t.db.kill()
    t.b.ip("link set eth0 down")
    if t.da.running():
        wait_until(lambda: not t.a.carrier("ipsec1"), 4, "carrier down")


def e4_deleted(t):
    t.a.ip("link del ipsec1")


def e6_better_route(t):
    """What a routing daemon could learn: more specific, on the wire. In main, both families."""
    o = t.outer
    t.a.ip(f"route add 10.2.0.0/17 via {o['b4']}", f"route add 10.2.0.2/32 via {o['b4']}",
           f"route add fd02::/49 via {o['b6']}", f"route add fd02::2/128 via {o['b6']}")


def policy_table(t):
    """A table with a default, asked ahead of main and its floor."""
    o = t.outer
    t.a.ip("rule add pref 10 lookup 77", f"route add default via {o['b4']} table 77")
    t.a.run(["ip", "-6", "rule", "add", "pref", "10", "lookup", "77"])
    t.a.run(["ip", "-6", "route", "add", "default", "via", o["b6"], "table", "77"])


def floor_deleted(t):
    e6_better_route(t)
    t.a.run("ip route del unreachable 10.2.0.0/16 metric 4294967294", check=False)


def nft_flush(t):
    t.a.run("nft flush ruleset")


def xfrm_flush(t):
    t.a.run("ip xfrm policy flush")


def tc_del(t):
    t.a.run("tc qdisc del dev eth1 clsact", check=False)


def disable_xfrm(t):
    for c in ("all", "default", "eth1"):
        for key in ("disable_xfrm", "disable_policy"):
            t.a.sysctl_set(f"net.ipv4.conf.{c}.{key}", 1)


def new_uplink(t):
    """An uplink that did not exist when ipsecd was there to see it; the better routes use it."""
    t.net.wire(t.a, "eth9", t.b, "eth9", ("192.0.2.1/24", "2001:db8:9::1/64"), ("192.0.2.2/24", "2001:db8:9::2/64"),
               underlay=True)
    t.a.ip("route replace 10.2.0.0/17 via 192.0.2.2", "route replace fd02::/49 via 2001:db8:9::2")


SYSTEM = {f.__name__: f for f in (nothing, e1_policy_route, e2_admin_down, e3_carrier_lost, e4_deleted, e6_better_route,
                                  policy_table, floor_deleted, new_uplink)}
LAYERS = {f.__name__: f for f in (nft_flush, xfrm_flush, tc_del, disable_xfrm)}


# every pair with ESPWIRE_TEST_FULL=1; else the two ends of the daemon's life, and the rest below
ONE_BY_ONE = [(s, d) for d in DAEMON for s in SYSTEM if FULL or d in ("alive", "killed")]


@pytest.mark.parametrize("system,daemon", ONE_BY_ONE)
def test_no_leak(lab, system, daemon):
    t = lab.two_gateways()
    arrived(lab, t)
    DAEMON[daemon](t)
    shoot(lab, t)
    SYSTEM[system](t)
    shoot(lab, t)
    lab.verify_taps()
    if daemon == "hung":
        t.da.signal(signal.SIGCONT)
        shoot(lab, t)
    lab.skip_checks.add("conservation")  # a worker killed in mid-packet: test_restart.py has the books


@pytest.mark.parametrize("daemon", DAEMON)
def test_no_leak_one_upon_the_other(lab, daemon):
    """The same faults piled up, judged after each."""
    t = lab.two_gateways()
    arrived(lab, t)
    DAEMON[daemon](t)
    for fault in (e1_policy_route, e6_better_route, policy_table, new_uplink, e3_carrier_lost, e2_admin_down, e4_deleted):
        fault(t)
        shoot(lab, t)
        lab.verify_taps()
    if daemon == "hung":
        t.da.signal(signal.SIGCONT)
        shoot(lab, t)
    lab.skip_checks.add("conservation")


# an uplink nobody knew is guarded by XFRM (IPv4) and nftables (IPv6) alone: it and they together are two faults
PIERCED = [(layer, route) for layer in LAYERS for route in ("e6_better_route", "policy_table", "new_uplink", "e4_deleted")
           if route != "new_uplink" or layer == "tc_del"]


@pytest.mark.parametrize("daemon", ["alive", "killed"])
@pytest.mark.parametrize("layer,route", PIERCED)
def test_each_layer_alone_may_fall(lab, layer, route, daemon):
    """One layer pierced, and the route stolen besides: the others hold."""
    t = lab.two_gateways()
    arrived(lab, t)
    DAEMON[daemon](t)
    LAYERS[layer](t)
    SYSTEM[route](t)
    shoot(lab, t)
    lab.verify_taps()
    lab.skip_checks.add("conservation")


@pytest.mark.parametrize("layer", ["nft_flush", "xfrm_flush", "floor_deleted"])
def test_removed_layer_comes_back(lab, layer):
    """A firewall reload takes ours along: the living daemon notices and puts it back, also for uplinks nobody knew."""
    t = lab.two_gateways()
    arrived(lab, t)
    before = layers(t.a)
    assert all(before.values()), before
    {**SYSTEM, **LAYERS}[layer](t)
    wait_until(lambda: layers(t.a) == before, 4, lambda: f"{layers(t.a)}, not {before}")
    if layer != "floor_deleted":  # that one has stolen the route already
        new_uplink(t)
    shoot(lab, t)
    lab.verify_taps()
    lab.skip_checks.add("conservation")


def layers(ns):
    """How much of each layer stands."""
    return {"nft": ns.run("nft list ruleset").stdout.count("espwire_"),
            "xfrm": ns.run("ip xfrm policy").stdout.count("dir out"),
            "floor4": ns.run("ip route show type unreachable").stdout.count("unreachable"),
            "floor6": ns.run("ip -6 route show type unreachable").stdout.count("unreachable")}


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_application_is_told_at_once(lab, how):
    """E5: with no carrier the floor answers: no route to host, not silence."""
    t = lab.two_gateways()
    arrived(lab, t)
    DAEMON[how](t)
    wait_until(lambda: not t.a.carrier("ipsec1"), 2, "carrier down")
    seen = volley(lab, [(t.a, "10.2.0.2"), (t.a, "fd02::2")], n=1)
    assert seen == [{errno.EHOSTUNREACH}, {errno.EHOSTUNREACH}] or all(
        e <= {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EPERM} and e for e in seen), seen


@pytest.mark.parametrize("sig", ["KILL", "STOP", "TERM"])
def test_random_moments_under_load(lab, sig):
    """At moments nobody chose, under load, with a better route waiting: then back to work."""
    t = lab.two_gateways()
    arrived(lab, t)
    e6_default = random.Random(os.environ.get("ESPWIRE_SEED", "7"))
    load = Load(lab, sources(t), gap=0.0005)
    for n in range(MOMENTS):
        load.more(e6_default.randrange(1, 400))
        t.da.signal(getattr(signal, "SIG" + sig))
        if sig != "STOP":
            t.da.proc.wait(timeout=10)
        load.more(e6_default.randrange(50, 300))
        if n % 2:
            wait_until(lambda: not t.a.carrier("ipsec1"), 3, "carrier down")
            load.more(50)
        if sig == "STOP":
            t.da.signal(signal.SIGCONT)
        else:
            t.da.start()
        t.da.wait_up()
        lab.verify_taps()
    load.stop()
    arrived(lab, t)
    if sig != "STOP":
        lab.skip_checks.add("conservation")


def spoof(t, atk, canary=b"spoofed-in-the-clear"):
    """Protected sources from the wire, to the host behind and to the gateway itself."""
    for dst4, dst6 in (("10.1.0.2", "fd01::2"), (t.outer["a4"], t.outer["a6"]), ("10.9.0.1", "fd09::1")):
        for _ in range(5):
            atk.ip(IP(src="10.2.0.2", dst=dst4) / UDP(sport=9, dport=5005) / Raw(canary))
            atk.ip(IPv6(src="fd02::2", dst=dst6) / UDP(sport=9, dport=5005) / Raw(canary))


SPOOF_LAYERS = dict(LAYERS, none=nothing)


@pytest.mark.parametrize("layer,daemon", [(y, d) for y in SPOOF_LAYERS for d in ("alive", "killed", "stopped")
                                          if FULL or d != "stopped" or y == "none"])
def test_no_spoofed_cleartext_in(lab, layer, daemon):
    """Inner sources are not accepted from the wire, with one layer gone as well."""
    t = lab.two_gateways()
    arrived(lab, t)
    for c in ("all", "default", "eth1"):
        t.a.sysctl_set(f"net.ipv4.conf.{c}.rp_filter", 0)  # the routing check must not do our work
    DAEMON[daemon](t)
    SPOOF_LAYERS[layer](t)
    behind = Listener(t.h1, "eth0")
    local = t.a.socket(10, 2)
    local.setsockopt(41, 26, 0)
    local.bind(("::", 5005))
    local.setblocking(False)
    atk = lab.attacker(t.b, "eth1", t.a)
    before = t.da.json("drops") if daemon == "alive" else None
    spoof(t, atk)
    # something allowed, later on the same wire, bounds the wait
    assert ping(t.b, t.outer["a4"], count=2) and ping(t.b, t.outer["a6"], count=2)
    assert behind.count(lambda p: b"spoofed" in p) == 0, "forwarded to the host"
    with pytest.raises(BlockingIOError):
        local.recv(100)
    local.close()
    behind.close()
    if before and layer == "none":
        def counted(j):
            return sum(l[w].get("plain-for-protected", 0) for l in j["links"] for w in ("in", "out")) + \
                j["global"]["drops"]["plain-for-protected"]
        assert counted(t.da.json("drops")) - counted(before) >= 1, "spoofs are counted"
    lab.skip_checks.add("conservation")


def test_spoof_answer_does_not_leave(lab):
    """A spoofed request that would make the gateway answer in clear."""
    t = lab.two_gateways()
    arrived(lab, t)
    atk = lab.attacker(t.b, "eth1", t.a)
    for _ in range(5):
        atk.ip(IP(src="10.2.0.2", dst=t.outer["a4"]) / ICMP() / Raw(b"answer me"))
        atk.ip(IP(src="10.2.0.2", dst=t.outer["a4"]) / UDP(dport=9) / Raw(b"answer me"))
    assert ping(t.b, t.outer["a4"], count=2)


def full_tunnel(lab, **kw):
    t = lab.two_hosts()
    t.pair, ka, kb = lab.pair_files()
    t.da = lab.daemon(t.a, [t.link("a", ka, protect="0.0.0.0/0, ::/0", inner=None)], keys=[ka], **kw)
    t.db = lab.daemon(t.b, [t.link("b", kb)], keys=[kb])
    t.da.wait_up()
    lab.tap.protect("203.0.113.0/24", "2001:db8:77::/48")
    t.b.ip("addr add 203.0.113.9/32 dev lo", "addr add 2001:db8:77::9/128 dev lo nodad")
    return t


@pytest.mark.parametrize("daemon", ["alive", "killed"])
def test_full_tunnel(lab, daemon):
    """E7b: protect everything: ESP, IKE and the peer's own address still pass, the rest does not."""
    t = full_tunnel(lab)
    need_ping(t.a, "10.2.0.2")
    assert ping(t.a, t.outer["b4"]), "the peer's wild side in clear"
    ike = t.b.socket(2, 2)
    ike.bind(("", 500))
    ike.settimeout(2)
    s = t.a.socket(2, 2)
    s.sendto(b"ike" * 20, (t.outer["b4"], 500))
    assert ike.recv(100)
    s.close()
    ike.close()
    DAEMON[daemon](t)
    volley(lab, [(n, far) for n in (t.a, t.h1) for far in ("203.0.113.9", "2001:db8:77::9", "10.2.0.2")])
    lab.skip_checks.add("conservation")


def test_full_tunnel_of_a_gateway_keeps_its_lan(lab):
    """0/0 covers the own LAN too: what is connected to a device that `lan` names goes on working, there only."""
    t = full_tunnel(lab, underlay={"lan": "eth0"})
    assert ping(t.a, "10.1.0.2") and ping(t.a, "fd01::2")
    arrived(lab, t)


def test_guards_come_back_to_a_restarted_daemon(lab):
    """Everything flushed while it was dead: after the start all layers stand again."""
    t = lab.two_gateways()
    arrived(lab, t)
    t.da.kill()
    nft_flush(t), xfrm_flush(t), tc_del(t)
    t.da.start().wait_up()
    assert t.da.show()["daemon"]["guard_layers"]["missing"] == 0
    assert t.a.out("ip xfrm policy") != ""
    assert "espwire" in t.a.out("nft list ruleset")
    arrived(lab, t)


def test_backend_namespace_is_a_dead_end(lab):
    """Layer (a): no routes, no addresses, no forwarding in there."""
    t = lab.two_gateways()
    from lib.util import sh
    inside = ["nsenter", f"--net={t.da.backend}", "--"]
    assert sh(inside + ["ip", "route", "show", "table", "all"]).stdout.strip() in ("",) or \
        "default" not in sh(inside + ["ip", "route"]).stdout
    assert sh(inside + ["ip", "-4", "addr", "show"]).stdout.count("inet ") == 0
    for key in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
        assert sh(inside + ["cat", f"/proc/sys/{key}"]).stdout.strip() == "0"
