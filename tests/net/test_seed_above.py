# SPDX-License-Identifier: GPL-2.0-or-later
"""Routing above the tunnel: each test is named after the sections of the seed it proves (docs/seed.md)."""
import collections
import json
import socket
import struct
import time

import pytest

from lib.books import sums
from lib.networkd import Networkd
from lib.topo import TwoHosts, conf_text
from lib.traffic import Listener, Load, dev_stats, need_ping, ping
from lib.util import ROOT, wait_until
from test_liveness import full_figure4

PATIENT = "100ms x 10"  # a busy machine is not a dead peer


def route(ns, dst, *more):
    """What the kernel would do: {"dev": ..., "prefsrc": ...}."""
    return json.loads(ns.out(["ip", "-j", "route", "get", dst, *more]))[0]


def source(ns, dst, *more):
    r = route(ns, dst, *more)
    return r["dev"], r["prefsrc"]


def all_by(dev, ns, src, dst, count=20, **kw):
    """That many pings, all answered; each request left ns by dev."""
    before = dev_stats(ns, dev)["tx"]
    need_ping(src, dst, count=count, **kw)
    return dev_stats(ns, dev)["tx"] - before >= count


# --- figure 4 ---

def test_1_conclusions_1_2_3_addresses_and_sources(lab):
    """Near, far and wild side have addresses of their own: each destination has one way, and local traffic a source for it."""
    f = full_figure4(lab, liveness=PATIENT)
    west, wild = f.west, f.wild
    # from West: to East's and Orient's link addresses by the links, to their wild sides by eth1
    assert source(west, "10.9.1.2") == ("ipsec1", "10.9.1.1")
    assert source(west, "10.9.2.2") == ("ipsec2", "10.9.2.1")
    for peer in ("east", "orient"):
        assert source(west, wild[peer][0]) == ("eth1", wild["west"][0])
    assert all_by("ipsec1", west, west, "10.9.1.2") and all_by("ipsec2", west, west, "10.9.2.2")
    before = dev_stats(west, "ipsec1")["tx"], dev_stats(west, "ipsec2")["tx"]
    assert ping(west, wild["east"][0], count=50) and ping(west, wild["orient"][0], count=50)
    now = dev_stats(west, "ipsec1")["tx"], dev_stats(west, "ipsec2")["tx"]
    assert all(b - a < 20 for a, b in zip(before, now)), "the wild side is reached in the clear"

    # to Sunrise West speaks with the link's own address, which East knows the way back to (3.3)
    f.sunrise_host.ip("route add 10.9.1.0/24 via 10.2.0.1")
    assert source(west, "10.2.0.2") == ("ipsec1", "10.9.1.1")
    heard = Listener(f.sunrise_host, "leg1")
    need_ping(west, "10.2.0.2")
    assert {socket.inet_ntoa(p[12:16]) for p in heard.poll() if p[0] == 0x45 and p[9] == 1} == {"10.9.1.1"}

    # or with eth0's, and only what leaves by that link (section 1, second possibility)
    west.ip("route replace 10.2.0.0/16 dev ipsec1 metric 10 src 10.1.0.1 proto 158")
    assert source(west, "10.2.0.2") == ("ipsec1", "10.1.0.1")
    assert source(west, "10.3.0.2") == ("ipsec2", "10.9.2.1") and source(west, wild["east"][0])[1] == wild["west"][0]
    heard.packets.clear()
    need_ping(west, "10.2.0.2")
    assert {socket.inet_ntoa(p[12:16]) for p in heard.poll() if p[0] == 0x45 and p[9] == 1} == {"10.1.0.1"}
    heard.close()


def test_3_2_cleartext_to_the_wild_side(lab):
    """Maintenance: West reaches East's wild side in the clear, Sunset by West's NAT, also while the tunnel is broken."""
    t = lab.two_gateways()
    need_ping(t.h1, "10.2.0.2")
    t.a.run(["nft", "add table ip n; add chain ip n post { type nat hook postrouting priority 100; }; "
             "add rule ip n post oifname eth1 ip daddr 198.51.100.2 masquerade"])
    wire = Listener(t.a, "eth1", outgoing=True)
    for state in ("up", "broken"):
        if state == "broken":
            t.db.kill()
            wait_until(lambda: not t.a.carrier("ipsec1"), 5, "the tunnel is down")
        wire.packets.clear()
        assert ping(t.a, "198.51.100.2") and ping(t.h1, "198.51.100.2") and ping(t.a, "2001:db8::2")
        assert wire.count(lambda p: p[0] == 0x45 and p[9] == 1 and p[12:20] == bytes((198, 51, 100, 1, 198, 51, 100, 2))) == 6
    # its own source would be a protected one: East takes that from the link only
    wire.close()


def test_1_2_3_no_implicit_transit(lab):
    """West has a tunnel to East and one to Orient; that makes none between those two, unless all three say so."""
    f = full_figure4(lab, liveness=PATIENT)
    need_ping(f.sunset_host, "10.2.0.2")
    overheard = Listener(f.east, "ipsec1")
    need_ping(f.sunset_host, "10.3.0.2")
    assert not overheard.count(lambda p: p[0] == 0x45 and p[16:18] == b"\x0a\x03"), "East sees nothing of what is Orient's"
    overheard.close()
    assert route(f.east, "10.3.0.2")["dev"] == "eth1", "no way to Dawn came with the tunnels"

    # East alone routes Dawn into its link: West, a router, passes it on, Orient does not take it
    f.de.ctl("link", "set", "ipsec1", "protect=10.1.0.0/16,fd01::/48,10.3.0.0/16", "inner=10.1.0.0/16,fd01::/48,10.3.0.0/16",
             "route=10.1.0.0/16,fd01::/48,10.3.0.0/16")
    assert source(f.east, "10.3.0.2") == ("ipsec1", "10.9.1.2")
    before = f.do.json("drops")
    assert not ping(f.east, "10.3.0.2", count=5, timeout=1)
    assert sums(before, f.do.json("drops"), "in") == {"inner-src": 5}

    # Orient agrees: relayed by West, which could read it all, and envelopes all the way
    f.do.ctl("link", "set", "ipsec1", "inner=10.1.0.0/16,fd01::/48,10.9.1.2", "protect=10.1.0.0/16,fd01::/48,10.9.1.2",
             "route=10.1.0.0/16,fd01::/48,10.9.1.2")
    f.do.wait_up()
    need_ping(f.east, "10.3.0.2")
    assert all_by("ipsec2", f.west, f.east, "10.3.0.2")


# --- N x M ---

class Providers(TwoHosts):
    """h1 -- gwA == two wires == cloud == two wires == gwB -- h2: each gateway has two providers, each with an address.

    gwA eth1 198.18.1.1, eth2 198.18.2.1 | gwB eth1 198.18.11.1, eth2 198.18.12.1 | cloud .254 on each. What a gateway
    sends from an address leaves by that provider. Links ipsec11, 12, 21, 22: from gwA's provider to gwB's.
    """

    links = [(i, j) for i in (1, 2) for j in (1, 2)]

    def wild(self, mtu, bad):
        self.cloud = self.net.ns("cloud", forward=True)
        for side, ns, base in (("a", self.a, 0), ("b", self.b, 10)):
            for n in (1, 2):
                net = f"198.18.{base + n}"
                self.net.wire(ns, f"eth{n}", self.cloud, f"{side}{n}", (f"{net}.1/24",), (f"{net}.254/24",), mtu=mtu, underlay=True)
                ns.ip(f"route add default via {net}.254 dev eth{n} metric {n}", f"rule add from {net}.1 lookup {100 + n}",
                      f"route add default via {net}.254 dev eth{n} table {100 + n}")

    def sections(self, side, keys):
        me, far = (1, 2) if side == "a" else (2, 1)
        nets = ", ".join(self.right if side == "a" else self.left)
        for (i, j), key in zip(self.links, keys):
            a, b = f"198.18.{i}.1", f"198.18.{10 + j}.1"
            yield f"ipsec{i}{j}", {
                "peer": f"far-{i}{j}", "address": f"10.9.{i}{j}.{me} peer 10.9.{i}{j}.{far}", "inner": nets, "protect": nets,
                "path": f"{b} local {a}" if side == "a" else f"{a} local {b}", "liveness": PATIENT, "sa": f"file:{key}"}


def shared(ns, net, weights):
    """Several next hops for one network, a device each."""
    ns.ip(f"route replace {net} " + " ".join(f"nexthop dev {dev} weight {w}" for dev, w in weights.items()))


class Flows:
    """UDP flows from h1 to h2, and by which link of gwA, and from which address to which, each packet went."""

    def __init__(self, lab, t, n):
        self.n, self.t = n, t
        self.socks = [t.h1.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(n)]
        self.links = {f"ipsec{i}{j}": Listener(t.a, f"ipsec{i}{j}", outgoing=True) for i, j in t.links}
        self.wires = [Listener(t.a, f"eth{i}", outgoing=True) for i in (1, 2)]
        lab.sink(t.h2, 7000)
        lab.closers += [s.close for s in (*self.socks, *self.links.values(), *self.wires)]

    def send(self, each=3):
        """Returns {link: {source port: packets}} and {(i, j): envelopes}, of these packets alone."""
        for heard in (*self.links.values(), *self.wires):
            heard.poll().clear()
        for k in range(each):
            for n, s in enumerate(self.socks):
                s.sendto(bytes(400), ("10.2.0.2", 7000))
                if n % 50 == 49:
                    time.sleep(0.002)  # no flood: the wire's queue is short

        def envelopes():
            found = [p for heard in self.wires for p in heard.poll() if len(p) > 428 and p[9] == 50]
            return found if len(found) >= each * self.n else None
        found = wait_until(envelopes, 5, "an envelope for every packet")
        flows = {}
        for dev, heard in self.links.items():
            ports = [struct.unpack(">H", p[20:22])[0] for p in heard.poll() if len(p) == 428 and p[9] == 17]
            flows[dev] = collections.Counter(ports)
        return flows, collections.Counter(f"ipsec{p[14]}{p[18] - 10}" for p in found)

    def judge(self, each=3):
        """Every flow whole and on one link, every packet of a link in an envelope of its own wire. Returns flows per link."""
        flows, envelopes = self.send(each)
        assert sum(len(f) for f in flows.values()) == self.n, "no flow on two links"
        assert all(n == each for f in flows.values() for n in f.values())
        assert envelopes == {dev: sum(f.values()) for dev, f in flows.items() if f}
        return {dev: len(f) for dev, f in flows.items() if f}


def test_3_1_3_5_n_by_m_links_shared_and_switched(lab):
    """Two providers here, two there: four links to one network. ECMP shares by flow, dead links step aside, rules select."""
    t = Providers(lab.net)
    lab.tap.protect(*t.inner)
    pairs = [lab.pair_files(f"k{i}{j}")[1:] for i, j in t.links]
    for side, ns, keys in (("a", t.a, [p[0] for p in pairs]), ("b", t.b, [p[1] for p in pairs])):
        setattr(t, f"d{side}", lab.daemon(ns, conf_text(t.sections(side, keys), underlay={"devices": "eth1 eth2"}), keys=keys))
    names = [f"ipsec{i}{j}" for i, j in t.links]
    for d in (t.da, t.db):
        d.wait_up(*names)
    t.a.sysctl_set("net.ipv4.fib_multipath_hash_policy", 1)  # ports as well
    shared(t.a, "10.2.0.0/16", dict.fromkeys(names, 1))
    shared(t.b, "10.1.0.0/16", dict.fromkeys(names, 1))
    need_ping(t.h1, "10.2.0.2")
    f = Flows(lab, t, 400)

    share = f.judge()
    assert set(share) == set(names) and all(60 <= n <= 140 for n in share.values()), f"equal weights: {share}"
    shared(t.a, "10.2.0.0/16", {"ipsec11": 3, "ipsec22": 1})
    share = f.judge()
    assert set(share) == {"ipsec11", "ipsec22"} and 255 <= share["ipsec11"] <= 345, f"3 to 1: {share}"

    # gwB's second provider fails: the links over it say so, and their shares go to the others
    shared(t.a, "10.2.0.0/16", dict.fromkeys(names, 1))
    t.cloud.ip("link set b2 down")
    wait_until(lambda: not t.a.carrier("ipsec12") and not t.a.carrier("ipsec22"), 5, "two carriers fall")
    assert t.a.carrier("ipsec11") and t.a.carrier("ipsec21")
    assert set(f.judge()) == {"ipsec11", "ipsec21"}
    t.cloud.ip("link set b2 up")
    t.da.wait_up(*names)
    assert set(f.judge()) == set(names), "its share comes back"

    # load-switching: metrics instead of shares
    t.a.ip("route del 10.2.0.0/16", *[f"route add 10.2.0.0/16 dev {dev} metric {10 + n}" for n, dev in enumerate(names)])
    for n, dev in enumerate(names[:3]):
        assert set(f.judge(1)) == {dev}
        t.da.ctl("link", "down", dev)
        wait_until(lambda: not t.a.carrier(dev), 3, "the carrier falls")
    assert set(f.judge(1)) == {"ipsec22"}
    for dev in names[:3]:
        t.da.ctl("link", "up", dev)
    t.da.wait_up(*names)
    t.db.wait_up(*names)

    # section 4 (5): what eroutes did, by rules: addresses, protocol, ports, TOS, user
    t.a.ip("route add 10.2.0.0/16 dev ipsec21 table 71", "rule add pref 71 to 10.2.0.0/16 ipproto udp dport 7000 lookup 71",
           "rule add pref 72 to 10.2.0.0/16 tos 0x10 lookup 71", "rule add pref 73 from 10.1.0.77 to 10.2.0.0/16 lookup 71",
           "rule add pref 74 to 10.2.0.0/16 uidrange 1234-1234 lookup 71")
    assert set(f.judge(1)) == {"ipsec21"}
    assert route(t.a, "10.2.0.2")["dev"] == route(t.a, "10.2.0.2", "uid", "1233")["dev"] == "ipsec11"
    for words in (["tos", "0x10"], ["from", "10.1.0.77", "iif", "eth0"], ["uid", "1234"]):
        assert route(t.a, "10.2.0.2", *words)["dev"] == "ipsec21", words


# --- control of forwarding ---

def settings(ns):
    """Every sysctl of IP in a namespace, but those of devices of ours and what only counts."""
    lines = ns.out(["sysctl", "-a", "-r", r"^net\.ipv[46]\."]).splitlines()
    return {x for x in lines if "ipsec" not in x and "random" not in x and "stable_secret" not in x and "_mem " not in x}


def test_3_4_control_of_forwarding(lab):
    """Forwarding can be tried before IPsec; from then on no window at boot, at a stop or at a start; settings stay as found."""
    t = TwoHosts(lab.net)
    _, ka, kb = lab.pair_files()
    found = settings(t.a)
    assert ping(t.h1, "10.2.0.2") and ping(t.h1, "fd02::2"), "plain forwarding, without any ipsecd"
    da = lab.daemon(t.a, conf_text([]), keys=[ka])
    assert ping(t.h1, "10.2.0.2") and ping(t.h1, "fd02::2"), "an ipsecd without links refuses nothing"
    da.stop()
    da.release()

    # boot: the unit comes before the network; no uplink is there, and traffic waits for one
    with open(f"{ROOT}/systemd/ipsecd@.service") as f:
        unit = f.read()
    assert "\nBefore=network-pre.target" in unit and "\nWants=network-pre.target" in unit
    t.a.ip("link set eth1 down")
    lab.tap.protect(*t.inner)
    load = Load(lab, [(n, far) for n in (t.h1, t.a) for far in ("10.2.0.2", "fd02::2")])
    da.write_conf(conf_text([t.link("a", ka)]))
    da.released = False
    da.start()
    db = lab.daemon(t.b, [t.link("b", kb)], keys=[kb])
    o = t.outer
    t.a.ip("link set eth1 up", f"addr replace {o['a6']}/64 dev eth1 nodad", f"route replace default via {o['b4']}",
           f"route replace ::/0 via {o['b6']}")
    load.more(50)
    da.wait_up()
    db.wait_up()
    need_ping(t.h1, "10.2.0.2")
    need_ping(t.h1, "fd02::2")
    lab.verify_taps()
    for _ in range(2):  # ipsec setup stop, and start
        da.stop()
        load.more(100)
        da.start()
        load.more(50)
        da.wait_up()
    load.stop()
    lab.verify_taps()
    lab.skip_checks.add("conservation")
    da.stop()
    da.release()
    assert settings(t.a) == found, sorted(settings(t.a) ^ found)


# --- the device ---

def joined(ns, group, dev, port=7100):
    fam = socket.AF_INET6 if ":" in group else socket.AF_INET
    s = ns.socket(fam, socket.SOCK_DGRAM)
    s.bind(("", port))
    s.settimeout(3)
    index = ns.enter(socket.if_nametoindex, dev)
    if fam == socket.AF_INET:
        s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("=4s4si", socket.inet_aton(group), bytes(4), index))
    else:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(fam, group) + struct.pack("=I", index))
    return s


def say(ns, group, dev, data, port=7100):
    s = ns.socket(socket.AF_INET6 if ":" in group else socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    ns.enter(s.setsockopt, socket.SOL_SOCKET, socket.SO_BINDTODEVICE, dev.encode())
    s.sendto(data, (group, port, 0, ns.enter(socket.if_nametoindex, dev)) if ":" in group else (group, port))
    s.close()


def counters(ns, table):
    j = json.loads(ns.out(["nft", "-j", "list", "table", "inet", table]))
    return {c["name"]: c["packets"] for c in (o["counter"] for o in j["nftables"] if "counter" in o)}


def test_2_2_3_1_multicast_and_firewall(lab):
    """Multicast, and even broadcast, reach the one peer, both ways; the firewall sees the link in every hook."""
    t = lab.two_gateways()
    need_ping(t.h1, "10.2.0.2")
    for group in ("224.0.0.5", "239.1.2.3", "255.255.255.255", "ff02::5", "ff05::7"):
        for src, dst in ((t.a, t.b), (t.b, t.a)):
            if group != "255.255.255.255":
                s = joined(dst, group, "ipsec1")
            else:
                s = dst.socket(socket.AF_INET, socket.SOCK_DGRAM)
                s.bind(("", 7100))
                s.settimeout(3)
            say(src, group, "ipsec1", group.encode())
            assert s.recv(100) == group.encode()
            s.close()

    hooks = {"prerouting": "iifname", "input": "iifname", "forward": "iifname", "output": "oifname", "postrouting": "oifname"}
    rules = "".join(f" counter c_{h} {{}}\n chain {h} {{ type filter hook {h} priority 10;\n"
                    f"  {word} ipsec1 meta l4proto icmp counter name c_{h}\n }}\n" for h, word in hooks.items())
    t.a.run(["nft", "-f", "-"], input=f"table inet seed {{\n{rules}\n}}\n")
    assert ping(t.a, "10.9.0.2", count=5) and ping(t.h1, "10.2.0.2", count=7)
    assert counters(t.a, "seed") == {"c_prerouting": 12, "c_input": 5, "c_forward": 7, "c_output": 5, "c_postrouting": 12}
    t.a.run(["nft", "insert rule inet seed forward iifname ipsec1 ip saddr 10.2.0.2 drop"])
    assert not ping(t.h1, "10.2.0.2", count=2, timeout=0.5), "and may refuse what comes out of it"
    assert ping(t.a, "10.9.0.2")


def bare(t, side, key):
    """A link without addresses and routes: somebody else's business."""
    nets = ", ".join([*t.right, "10.9.0.2", "fd09::2"])
    return t.link(side, key, address=None, address6=None, route=None, inner=nets, protect=nets)


def test_3_3_addresses_by_others(lab):
    """The ifcfg-ipsec row: no address in ipsecd.conf; networkd or ifupdown give them to the device, and keep them."""
    t = lab.two_hosts()
    _, ka, kb = lab.pair_files()
    da = lab.daemon(t.a, [bare(t, "a", ka)], keys=[ka])
    db = lab.daemon(t.b, [t.link("b", kb)], keys=[kb])
    da.wait_up()
    db.wait_up()
    # as networkd's [Address] with Peer=, ifupdown's pointopoint, and a plain /30 would
    t.a.ip("addr add 10.9.0.1 peer 10.9.0.2/32 dev ipsec1", "addr add fd09::1 peer fd09::2 dev ipsec1 nodad",
           "addr add 192.168.9.1/30 dev ipsec1", "route add 10.2.0.0/16 via 10.9.0.2", "route add fd02::/48 dev ipsec1")
    need_ping(t.h1, "10.2.0.2")
    need_ping(t.h1, "fd02::2")
    addrs, routes = t.a.out("ip -o addr show dev ipsec1"), t.a.out("ip route show dev ipsec1")

    def untouched():
        return t.a.out("ip -o addr show dev ipsec1") == addrs and t.a.out("ip route show dev ipsec1") == routes
    da.ctl("apply")
    da.ctl("link", "set", "ipsec1", "metric", "30")
    assert untouched(), "a change of the configuration is none of the addresses"
    db.kill()
    wait_until(lambda: not t.a.carrier("ipsec1"), 5, "carrier down")
    db.start()
    da.kill()
    da.start()
    da.wait_up()
    db.wait_up()
    assert untouched(), "nor is a carrier that fell, nor a daemon that died"
    need_ping(t.h1, "10.2.0.2")
    need_ping(t.h1, "fd02::2")


WEST_NETWORK = """[Match]
Name=ipsec1
[Network]
ConfigureWithoutCarrier=yes
LinkLocalAddressing=ipv6
IPv6LinkLocalAddressGenerationMode=none
IPv6AcceptRA=no
LLDP=no
[Address]
Address=10.9.0.1/32
Peer=10.9.0.2/32
[Address]
Address=fd09::1/128
Peer=fd09::2/128
[Route]
Destination=10.2.0.0/16
Scope=link
[Route]
Destination=fd02::/48
"""


def test_3_3_addresses_by_networkd(lab):
    """systemd-networkd numbers the link and routes into it; neither it nor we take away what is the other's."""
    t = lab.two_hosts()
    networkd = Networkd(lab, t.a, {"05-ipsec1.network": WEST_NETWORK})
    _, ka, kb = lab.pair_files()
    da = lab.daemon(t.a, [bare(t, "a", ka)], keys=[ka])
    db = lab.daemon(t.b, [t.link("b", kb)], keys=[kb])
    da.wait_up()
    db.wait_up()
    wait_until(lambda: networkd.configured("ipsec1"), 10, lambda: f"networkd configures the link: {networkd.log()[-3000:]}")

    def all_there():
        addrs = t.a.out("ip -o addr show dev ipsec1")
        routes = t.a.out("ip route") + t.a.out("ip -6 route")
        return all(x in addrs for x in ("10.9.0.1 peer 10.9.0.2/32", "fd09::1 peer fd09::2/128", "fe80::")) and \
            all(f"{net} dev ipsec1" in routes and f"unreachable {net}" in routes for net in ("10.2.0.0/16", "fd02::/48"))
    assert all_there(), t.a.out("ip -o addr") + t.a.out("ip route") + t.a.out("ip -6 route")
    need_ping(t.h1, "10.2.0.2")
    need_ping(t.h1, "fd02::2")
    db.kill()
    wait_until(lambda: not t.a.carrier("ipsec1"), 5, "carrier down")
    db.start()
    da.wait_up()
    networkd.stop()
    networkd.start()
    wait_until(lambda: networkd.configured("ipsec1"), 10, "networkd, started again")
    assert all_there()
    t.a.ip("link del ipsec1")  # ipsecd makes it again, networkd numbers it again
    da.wait_up()
    wait_until(all_there, 10, lambda: f"{t.a.out('ip addr')} {networkd.log()[-3000:]}")
    need_ping(t.h1, "10.2.0.2")
    need_ping(t.h1, "fd02::2")


def test_3_3_device_made_by_others(lab):
    """ifupdown makes and numbers the device before ipsecd starts (pre-up ip link add): taken as it is. Others are not."""
    t = lab.two_hosts()
    _, ka, kb = lab.pair_files()
    t.a.ip("link add ipsec1 type veth peer name b1", "addr add 10.9.0.1 peer 10.9.0.2/32 dev ipsec1",
           "link set b1 up", "link set ipsec1 up", "route add 10.2.0.0/16 dev ipsec1")
    index = route(t.a, "10.2.0.2")["dev"], t.a.enter(socket.if_nametoindex, "ipsec1")
    da = lab.daemon(t.a, [bare(t, "a", ka)], keys=[ka])
    db = lab.daemon(t.b, [t.link("b", kb)], keys=[kb])
    da.wait_up()
    db.wait_up()
    assert (route(t.a, "10.2.0.2")["dev"], t.a.enter(socket.if_nametoindex, "ipsec1")) == index, "it is that very device"
    assert not t.a.ok("ip link show b1"), "its other end is ours now"
    d = json.loads(t.a.out("ip -j -d link show ipsec1"))[0]
    assert {"NOARP", "MULTICAST", "LOWER_UP"} <= set(d["flags"]) and "ipsec:1" in d["altnames"]
    need_ping(t.h1, "10.2.0.2")
    db.kill()
    wait_until(lambda: not t.a.carrier("ipsec1"), 5, "its carrier tells the truth")
    db.start()
    da.wait_up()
    need_ping(t.h1, "10.2.0.2")

    # no device, and no pair of somebody else's, is ever taken for ours
    t.a.ip("link add ipsec2 type bridge", "link add ipsec3 type veth peer name other", "link add ipsec4 type veth peer name b5",
           "link add ipsec5 type bridge")
    for n in (2, 3, 4, 5):
        p = da.ctl("link", "add", f"ipsec{n}", f"peer=p{n}", "path=192.0.2.9", check=False, json_out=False)
        assert p.returncode and "is not ours" in p.stdout + p.stderr and f"b{n}" in p.stdout + p.stderr
    assert t.a.ok("ip link show other") and t.a.ok("ip link show b5")
