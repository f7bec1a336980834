# SPDX-License-Identifier: GPL-2.0-or-later
"""`backend = xfrm` in UDP: West behind a NAT box, East in the open, either of them carried by its kernel.

    west eth1 192.168.11.2 -- [nat box] 203.0.1.1 -- cloud -- 198.51.100.2 eth1 east

Nobody has UDP 4500, or an IKE daemon has: what is the kernel's gets there all the same, and IKE is left alone.
"""
import json
import re
import socket

import bed  # NS.run without nsenter, noqa: F401
import xfrm
from conftest import Lab
from guest import Case, Shared
from lib import leak
from lib.ike import MARKER, Ike
from lib.nat import NatNet
from lib.topo import conf_text
from lib.traffic import ping, tcp_transfer
from lib.util import wait_until
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

LIVE = "ping 1s x 8"
PORTS = [(40000, 40099), (41000, 41099), (42000, 42099)]
SKIP = 1 << 16
WEST, EAST = "10.9.1.1", "10.9.1.2"


class Nat:
    """west, east: their backends. East learns where West is, of its one path in the configuration's words."""

    def __init__(self, west, east, v=4, any_east=True):
        self.v = v
        self.lab = Lab("xnat")
        try:
            t = self.t = NatNet(self.lab)
            t.nat = t.box()
            t.nat.rebind(PORTS[0])
            self.west, self.east = t.nat.gateway("west"), t.east
            to, own, wild = (t.east4, t.east4, t.nat.wild4) if v == 4 else (t.east6, t.east6, t.nat.wild6)
            self.to, self.wild = to, wild
            w, e = t.link(f"{to} encap udp", f"any encap udp local {own}" if any_east else f"{wild} encap udp", liveness=LIVE)
            w[0][1]["backend"], e[0][1]["backend"] = west, east
            self.dw, self.de = (self.lab.daemon(ns, conf_text([x[0]]), keys=[x[1]], start=False) for ns, x in ((self.west, w), (self.east, e)))
            for d in (self.dw, self.de):
                d.start(timeout=60)
            self.up()
        except BaseException:
            self.close()
            raise

    def up(self):
        for d in (self.dw, self.de):
            wait_until(d.is_up, 40, self.trouble, poll=0.3)

    def path(self):
        return self.de.link()["path"]

    def port_in(self, ports):
        wait_until(lambda: ports[0] <= self.path()["port"] <= ports[1], 20, lambda: f"a port of {ports}: {self.path()}\n{self.trouble()}", poll=0.1)
        assert self.path()["remote"] == self.wild and self.path()["learned"], self.path()

    def carries(self):
        for ns, far in ((self.west, EAST), (self.east, WEST), (self.west, "fd09:1::2"), (self.east, "fd09:1::1")):
            wait_until(lambda: ping(ns, far, count=1), 30, lambda: f"{ns.role} reaches {far}: {self.trouble()}")
            assert ping(ns, far, count=5, interval=0.05, timeout=5), f"{ns.role} {far}: {self.trouble()}"

    def sa(self, d, way):
        return next(s for s in d.link()["sas"] if s["dir"] == way)

    def beyond_state(self):
        """By how much East's SAs have counted more than their states of now: ipsecd says what was a moment ago, so the most of some looks."""
        def look():
            sas = {int(s["spi"], 16): s["packets"] for s in self.de.link()["sas"]}
            states = xfrm.counters(self.east)
            return {spi: n - states[spi][0] for spi, n in sas.items()}
        looks = [look() for _ in range(10)]
        return {spi: max(x[spi] for x in looks) for spi in looks[0]}

    def states(self, ns):
        return re.sub("0x[0-9a-f]{30,}", "KEY", ns.out("ip -s -d xfrm state"))

    def trouble(self):
        out = []
        for d in (self.dw, self.de):
            j = d.json("drops", check=False) or {}
            out.append(f"{d.ns.role}: {json.dumps(d.link(check=False))}\n{d.log()[-1500:]}")
            out.append(str([{r: n for r, n in b.items() if n} for l in j.get("links", []) for b in (l["in"], l["out"])]))
            out.append(str({r: n for r, n in j.get("global", {}).get("drops", {}).items() if n}))
            out.append(f"xfrm_stat {({k: v for k, v in xfrm.stat(d.ns).items() if v})}\n{self.states(d.ns)}")
        return "\n".join(out)

    def close(self):
        self.lab.close()


def first(get, west, east):
    def carried(case):
        """The first authentic packet says where West is: the box's address and a port of its choice."""
        n = get()
        assert (n.dw.link()["backend"], n.de.link()["backend"]) == (west, east), n.trouble()
        n.port_in(PORTS[0])
        n.carries()
        case.note(f"path {n.path()['remote']} port {n.path()['port']}, mtu {n.de.link()['mtu']}")
        for d, backend in ((n.dw, west), (n.de, east)):
            if backend == "xfrm":
                assert n.states(d.ns).count("encap type espinudp") == 2, n.states(d.ns)
        before = [d.link()["drops_in_total"] for d in (n.dw, n.de)]  # from before it was up
        for src, dst, to in ((n.west, n.east, EAST), (n.east, n.west, WEST)):
            sent, got = tcp_transfer(src, dst, to, 1 << 20)
            assert sent == got, n.trouble()
        assert [d.link()["drops_in_total"] for d in (n.dw, n.de)] == before, n.trouble()
    return carried


def rebinds(get, east):
    def followed(case):
        """The box forgets every mapping and gives another port, three times: the same states go on, no number is left out."""
        n = get()
        n.up()
        flaps = n.dw.link()["flaps"], n.de.link()["flaps"]
        for ports in PORTS[1:] + PORTS[:1]:
            seq = n.sa(n.de, "out")["seq"]
            n.t.nat.rebind(ports)
            n.port_in(ports)
            assert n.sa(n.de, "out")["seq"] < seq + SKIP, "the number of a port is no reason for another state"
            n.carries()
            if east == "xfrm":
                assert f"dport {n.path()['port']}" in n.states(n.east), n.states(n.east)
        assert (n.dw.link()["flaps"], n.de.link()["flaps"]) == flaps
    return followed


def renumbered(case):
    """The box gets another address: another state, behind the numbers of the first."""
    n = kernels4()
    n.up()
    n.carries()
    seq = n.sa(n.de, "out")["seq"]
    n.t.nat.renumber(77)
    n.wild = n.t.nat.wild4
    wait_until(lambda: n.path()["remote"] == n.wild, 20, lambda: f"{n.wild}: {n.path()} {n.trouble()}", poll=0.1)
    n.carries()
    assert n.sa(n.de, "out")["seq"] > seq + SKIP, n.trouble()
    assert "was deleted" not in n.de.log(), n.de.log()[-1000:]


def forged(case):
    """What West has sent, again and damaged, from somebody else's address and port: nobody follows."""
    n = kernels4()
    n.up()
    n.carries()
    was, wild = n.path(), n.t.east4
    spi, seq = int(n.sa(n.de, "in")["spi"], 16), n.sa(n.de, "in")["seq"]
    eve = n.lab.attacker(n.t.cloud, "to-east", n.east)
    for k in range(20):
        esp = spi.to_bytes(4, "big") + (seq + k).to_bytes(4, "big") + bytes(64)
        eve.ip(IP(src="203.0.113.66", dst=wild, id=k) / UDP(sport=6666, dport=4500) / Raw(esp))
    wait_until(lambda: n.de.json("drops")["links"][0]["in"]["icv-fail"] >= 10, 20, n.trouble)
    assert n.path() == was, f"{was} {n.path()}"
    n.carries()


def ike_undisturbed(case):
    """An IKE daemon on East's 4500 gets its messages and nothing of ours, and answers from there."""
    n = kernels4()
    n.up()
    n.carries()
    ike = Ike(n.lab, n.east)
    try:
        s = n.west.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(10)
        for k in range(5):
            s.sendto(MARKER + bytes([k]) * 40, (n.t.east4, 4500))
            assert s.recv(200) == MARKER + bytes([k]) * 40 + b"-answer"
        s.close()
        n.carries()
        assert [len(x) for x in ike.got()] == [44] * 5, "nothing else came to it"
    finally:
        ike.stop()
    n.carries()


def keepalives(case):
    """No probe and no data: the kernel's end says its one byte all the same."""
    n = kernels4()
    n.up()
    for d in (n.dw, n.de):
        d.json("link", "set", "ipsec1", "liveness", "off")
        d.json("link", "set", "ipsec1", "keepalive", "1s")
    sent = n.dw.link()["keepalive"]["sent"]
    heard = n.de.json("drops")["global"]["keepalives"]
    wait_until(lambda: n.dw.link()["keepalive"]["sent"] >= sent + 4, 30, n.trouble, poll=0.2)
    wait_until(lambda: n.de.json("drops")["global"]["keepalives"] >= heard + 3, 20, n.trouble, poll=0.2)
    for d in (n.dw, n.de):
        d.json("link", "set", "ipsec1", "liveness", [LIVE])
    n.up()
    n.carries()


def killed(case):
    """East's ipsecd is killed: its states take in what comes, in UDP too. The successor goes on with them."""
    n = kernels4()
    n.up()
    n.carries()
    spis = sorted(s["spi"] for s in n.de.link()["sas"])
    apart = n.beyond_state()
    before = xfrm.counters(n.east)
    n.de.kill()
    wait_until(lambda: n.de.oper() in ("LOWERLAYERDOWN", "DOWN"), 20, "carrier down")
    ping(n.west, EAST, count=5, interval=0.05, timeout=1)
    after = xfrm.counters(n.east)
    assert any(after[s][0] > before[s][0] for s in after if s in before), f"the states went on: {before} {after}"
    n.de.start(timeout=60)
    n.up()
    n.carries()
    assert sorted(s["spi"] for s in n.de.link()["sas"]) == spis
    assert n.states(n.east).count("encap type espinudp") == 2
    now = n.beyond_state()
    assert now == apart, f"{now} was {apart}: what the states carried meanwhile is the SAs', and of their lives"
    invariants(kernels4)(case)


def invariants(get):
    def hold(case):
        n = get()
        for d in (n.dw, n.de):
            wait_until(lambda: not leak.imbalance(d), 20, lambda: f"{leak.imbalance(d)} {n.trouble()}", poll=0.1)
        leak.check_keys([d for d in (n.dw, n.de) if d.running()])
        n.lab.verify_taps()
    return hold


kernels4 = Shared(lambda: Nat("xfrm", "xfrm")).get
kernels6 = Shared(lambda: Nat("xfrm", "xfrm", v=6)).get
BEDS = {  # name -> the bed, who carries West and East
    "both-o6": (kernels6, "xfrm", "xfrm"),
    "east": (Shared(lambda: Nat("afxdp", "xfrm")).get, "afxdp", "xfrm"),
    "west": (Shared(lambda: Nat("xfrm", "afxdp")).get, "xfrm", "afxdp"),
    "east-known-o6": (Shared(lambda: Nat("afxdp", "xfrm", v=6, any_east=False)).get, "afxdp", "xfrm"),
}


def cases(job):
    def one(name, fn):
        return Case(name, fn, limit=200)
    out = [one("both-carried", first(kernels4, "xfrm", "xfrm")), one("both-rebinds", rebinds(kernels4, "xfrm"))]
    if job["quick"]:
        return out
    out += [one(n, fn) for n, fn in (("forged", forged), ("ike-undisturbed", ike_undisturbed), ("keepalives", keepalives),
                                     ("renumbered", renumbered), ("both-invariants", invariants(kernels4)), ("killed", killed))]
    for name, (get, west, east) in BEDS.items():
        out += [one(f"{name}-carried", first(get, west, east)), one(f"{name}-rebinds", rebinds(get, east)),
                one(f"{name}-invariants", invariants(get))]
    return out
