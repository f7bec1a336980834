# SPDX-License-Identifier: GPL-2.0-or-later
"""`backend = xfrm` in transport mode: two hosts, one or both carried by the kernel, told from their envelopes by a mark or by addresses
of the link's own; and the kernel's own transport mode, set up by `ip xfrm`, at the other end.

On the wire it must be transport mode: one IP header, read by a worker, by plain XFRM, and through a NAT.
"""
import json

import xfrm
from bed import Bed, Link
from conftest import Lab
from guest import Case, Shared
from lib import leak
from lib.nat import NatNet
from lib.topo import conf_text
from lib.traffic import Listener, ping, tcp_transfer, volley
from lib.util import tool, wait_until
from scapy.packet import raw
from suite_xfrm import LIVE, Flows, Pair, asleep
from test_seed_transport import OWN, refused
from test_transport import WILD, inject, mark_route, odd_packets, section

MARKED = "fwmark 0x51 table 51"
BEET_OPTIONS = 8  # room that the kernel leaves in IPv4


class Hosts(Pair):
    """gwA and gwB as plain hosts. own: the link has addresses of its own."""

    keys = {"mode": "transport"}

    def __init__(self, outer=4, encap="esp", own=False, **kw):
        self.outer, self.encap, self.own, self.families = outer, encap, own, (outer,)
        super().__init__(**kw)

    def topology(self):
        t = self.lab.two_hosts(hosts=False)
        t.h1, t.h2 = t.a, t.b
        if self.own:
            self.lab.tap.protect("10.9.0.0/24", "fd09::/64")
        else:
            mark_route(t.a)
            mark_route(t.b)
        return t

    def section(self, side, key_file, over):
        me, far = f"{side}{self.outer}", f"{'b' if side == 'a' else 'a'}{self.outer}"
        table = OWN if self.own else WILD
        path = f"{WILD[far]} encap {self.encap} {'' if self.own else MARKED}"
        return section(table[me], table[far], self.outer, key_file, path, **over)[0]

    def address(self, v, back=False):
        return (OWN if self.own else WILD)[f"{'a' if back else 'b'}{v}"]

    def sources(self):
        return [(self.a, self.address(self.outer)), (self.b, self.address(self.outer, back=True))]

    def drops(self, d):
        """Of the link, but for the multicast that every device sends."""
        l = d.json("drops")["links"][0]
        return {(way, r): n for way in ("in", "out") for r, n in l[way].items() if n and r != "not-transport"}


def beds():
    """name -> what makes it. Every end is a worker's peer once and a kernel's once, in all four ways on the wire."""
    return {
        "mark-esp4": lambda: Hosts(4, "esp"),
        "mark-udp6": lambda: Hosts(6, "udp"),
        "own-udp4": lambda: Hosts(4, "udp", own=True, back=("xfrm", "afxdp")),
        "own-esp6": lambda: Hosts(6, "esp", own=True),
        "both-mark-udp4": lambda: Hosts(4, "udp", back=("xfrm", "xfrm")),
        "both-own-esp4": lambda: Hosts(4, "esp", own=True, back=("xfrm", "xfrm")),
    }


def carries(get):
    def everything(case):
        p = get()
        v, header = p.outer, 20 if p.outer == 4 else 40
        assert all(s["mode"] == "transport" for d in (p.da, p.db) for s in d.link()["sas"])
        for back in (False, True):
            p.need(v, back, count=5)
        before = [p.drops(d) for d in (p.da, p.db)]  # from before it was up
        for back in (False, True):
            src, dst = p.ends(back)
            sent, got = tcp_transfer(src, dst, p.address(v, back), 2 << 20)
            assert sent == got, p.trouble()
            assert refused(src, p.address(v, back)), "an ICMP error about a closed port finds who asked"
        wire = Listener(p.a, "eth1", outgoing=True)
        assert ping(p.a, p.address(v), count=1, size=1000, timeout=5)
        longest = max(len(f) for f in wire.poll())
        wire.close()
        udp = 8 if p.encap == "udp" else 0
        assert header + 1008 + 32 <= longest <= header + 1008 + 36 + udp, f"{longest}: more than one header"
        mtu = (1500 - header - udp - 32) // 4 * 4 - 2 + header
        fits(case, p, v, header, mtu)
        assert [p.drops(d) for d in (p.da, p.db)] == before, p.trouble()
        for d in (p.da, p.db):
            wait_until(lambda: not leak.imbalance(d), 20, lambda: f"{d.ns.role}: {leak.imbalance(d)} {p.trouble()}", poll=0.1)
        p.lab.verify_taps()
        assert not p.leaks()
    return everything


def fits(case, p, v, header, most):
    """What both devices take crosses in one piece, both ways; the kernel's MTU is that much smaller in IPv4."""
    both = min(d.link()["mtu"] for d in (p.da, p.db))
    for d, (src, far) in zip((p.da, p.db), p.sources()):
        mtu = d.link()["mtu"]
        less = BEET_OPTIONS if v == 4 and d.link()["backend"] == "xfrm" else 0
        assert mtu == most - less, f"{d.ns.role}: {mtu}, not {most} - {less}"
        told = d.json("mtu", "ipsec1")["paths"][0]
        assert (told["spare"], told["inner_max"]) == (less, mtu), told
        for size, whole in ((both - header - 8, True), (mtu - header - 7, False)):
            r = src.run(["ping", "-n", "-c", "2", "-W", "5", "-M", "do", "-s", size, far], check=False)
            assert (r.returncode == 0) == whole, f"{d.ns.role} {size}: {r.stdout}{r.stderr}{p.trouble()}"
        case.note(f"{d.ns.role} {d.link()['backend']} mtu {mtu}")


def odd(get):
    def refused_by_name(case):
        """What transport mode cannot carry dies at the classifier, for the reason that a worker has for it."""
        p = get()
        p.need(p.outer)
        assert p.da.link()["backend"] == "xfrm"
        for name, (outer, packet, reason) in odd_packets().items():
            if outer != p.outer:
                continue
            before = p.da.json("drops")["links"][0]["out"][reason]
            inject(p.t, raw(packet), 20)
            wait_until(lambda: 20 <= p.da.json("drops")["links"][0]["out"][reason] - before < 30, 5, lambda: f"{name}: {reason} {p.trouble()}")
        p.need(p.outer)
        assert not leak.imbalance(p.da)
    return refused_by_name


def dark(get):
    def fails_closed(case):
        """Without states, and without daemons, nothing goes to the peer in the clear; a successor goes on."""
        p = get()
        p.need(p.outer)
        with asleep(p.db):
            p.b.ip("xfrm state flush")
            volley(p.lab, p.sources())
            p.dark("no state")
        p.need(p.outer)
        p.need(p.outer, back=True)
        spis = sorted(s["spi"] for s in p.db.link()["sas"])
        p.db.kill()
        wait_until(lambda: p.db.oper() in ("LOWERLAYERDOWN", "DOWN"), 10, "carrier down")
        volley(p.lab, p.sources())
        p.dark("killed")
        p.b.ip("xfrm policy flush")
        volley(p.lab, p.sources())
        p.dark("killed, policies gone")
        p.db.start(timeout=60)
        p.db.wait_up(timeout=40)
        p.da.wait_up(timeout=40)
        assert sorted(s["spi"] for s in p.db.link()["sas"]) == spis
        p.need(p.outer)
        p.need(p.outer, back=True)
        p.lab.verify_taps()
        assert not p.leaks()
    return fails_closed


def moves(get):
    def there_and_back(case):
        """`link set backend` of both ends in turn, under traffic: numbers go on, nothing goes down."""
        p, v = get(), get().outer
        p.need(v)
        flaps = p.da.link()["flaps"], p.db.link()["flaps"]
        flows = Flows(p.lab, p.a, p.address(v, back=True), p.b, p.address(v), 100)
        for i in range(8):
            d = (p.db, p.da)[i % 2]
            to = "afxdp" if d.link()["backend"] == "xfrm" else "xfrm"
            d.ns.run([tool("ipsecctl"), "-i", d.instance, "link", "set", "ipsec1", "backend", to])
            assert d.link()["backend"] == to and d.link()["state"] == "up", p.trouble()
        lost = flows.stop()
        case.note(f"8 moves at 100/s each way: lost {lost}")
        assert (p.da.link()["flaps"], p.db.link()["flaps"]) == flaps
        assert max(lost) <= 80, f"{lost} {p.trouble()}"
        p.need(v)
        p.need(v, back=True)
        p.lab.verify_taps()
        assert not p.leaks()
    return there_and_back


# --- through a NAT ---

class Nat:
    """West behind a box, East in the open; each knows the other by the address of its own choice, so no mark."""

    def __init__(self, west, east):
        self.lab = Lab("xtnat")
        try:
            t = self.t = NatNet(self.lab)
            t.nat = t.box()
            self.west, self.east = t.nat.gateway("west"), t.east
            _, kw, ke = self.lab.pair_files(mode="transport")
            w = section(OWN["a4"], OWN["b4"], 4, kw, f"{t.east4} encap udp", liveness=LIVE, backend=west)
            e = section(OWN["b4"], OWN["a4"], 4, ke, f"any encap udp local {t.east4}", liveness=LIVE, backend=east)
            self.dw, self.de = (self.lab.daemon(ns, conf_text(c), keys=[k], start=False) for ns, c, k in ((self.west, w, kw), (self.east, e, ke)))
            for d in (self.dw, self.de):
                d.start(timeout=60)
            for d in (self.dw, self.de):
                wait_until(d.is_up, 40, self.trouble, poll=0.3)
        except BaseException:
            self.close()
            raise

    def trouble(self):
        return "\n".join(f"{d.ns.role}: {json.dumps(d.link(check=False))}\n{d.log()[-1500:]}\n{json.dumps(d.json('drops', check=False))}"
                         f"xfrm_stat {({k: v for k, v in xfrm.stat(d.ns).items() if v})}" for d in (self.dw, self.de))

    def close(self):
        self.lab.close()


def through_nat(get, west, east):
    def sums_do_not_matter(case):
        """RFC 3948 3.1.2: sums of TCP and UDP were made for addresses that a box has changed, at either end."""
        n = get()
        assert (n.dw.link()["backend"], n.de.link()["backend"]) == (west, east), n.trouble()
        for src, dst, far in ((n.west, n.east, OWN["b4"]), (n.east, n.west, OWN["a4"])):
            wait_until(lambda: ping(src, far, count=1), 30, n.trouble)
            sent, got = tcp_transfer(src, dst, far, 1 << 20)
            assert sent == got, n.trouble()
        assert not n.lab.tap.report()["leaks"]
    return sums_do_not_matter


# --- the kernel's own transport mode at the other end ---

class ByKernel(Bed):
    """Both ends are the kernel's: gwA by ipsecd, gwB by `ip xfrm`."""

    def host_section(self, l, remote, key_file):
        return {**super().host_section(l, remote, key_file), "backend": "xfrm"}


ROWS = [("aes-gcm-128", True, 4, "esp"), ("aes-gcm-256", False, 6, "esp"), ("chacha20-poly1305", True, 4, "udp"),
        ("aes-cbc-128-hmac-sha2-256", False, 6, "udp"), ("aes-cbc-256-hmac-sha2-512", True, 4, "esp"), ("aes-gmac-128", True, 6, "esp")]


def plain():
    return ByKernel([Link(i + 1, alg=alg, esn=esn, window=64, mode="transport", outer=v, encap=encap)
                     for i, (alg, esn, v, encap) in enumerate(ROWS)])


def against_plain(get, n):
    def both_read_each_other(case):
        b = get()
        l, v = b.links[n], b.links[n].outer
        assert b.daemon.link(l.name)["backend"] == "xfrm", b.daemon.link(l.name)
        gaps, before = b.settled(l), b.counts(l)
        b.mark()
        for back in (False, True):
            b.ping(l, v, back=back)
            b.udp(l, v, 200, back=back)
            b.tcp(l, v, 256 << 10, back=back)
        b.verdict()
        now = b.counts(l)
        case.note(f"{now[0][0] - before[0][0]} out, {now[1][0] - before[1][0]} in")
        assert b.settled(l) == gaps
        assert min(now[0][0] - before[0][0], now[1][0] - before[1][0]) > 200, "they went another way"
    return both_read_each_other


def refusals(case):
    """What the kernel cannot do in transport mode it says, and the workers take it."""
    p = Hosts(4, "esp", back=("auto", "auto"))
    try:
        assert p.da.link()["backend"] == p.db.link()["backend"] == "xfrm", p.trouble()
        r = p.a.run([tool("ipsecctl"), "-i", p.da.instance, "link", "set", "ipsec1", "path", f"{WILD['b4']} encap esp {MARKED}", "path",
                     f"203.0.113.9 encap esp {MARKED}"], check=False)
        assert r.returncode == 0, r.stderr
        wait_until(lambda: p.da.link()["backend"] == "afxdp", 20, p.trouble)
        assert "one path" in p.da.link()["backend_why"], p.da.link()["backend_why"]
    finally:
        p.close()


def cases(job):
    out = []
    made = {name: Shared(make).get for name, make in beds().items()}
    picked = ("mark-esp4", "own-udp4") if job["quick"] else tuple(made)
    for name in picked:
        out.append((f"carries-{name}", carries(made[name])))
        if name in ("both-mark-udp4",):
            out.append((f"odd-{name}", odd(made[name])))
        if name in ("mark-esp4", "own-udp4"):
            out.append((f"moves-{name}", moves(made[name])))  # flow.c speaks IPv4
        if name in ("mark-esp4", "own-esp6", "both-mark-udp4"):
            out.append((f"dark-{name}", dark(made[name])))
    for west, east in (("xfrm", "afxdp"),) if job["quick"] else (("xfrm", "afxdp"), ("afxdp", "xfrm"), ("xfrm", "xfrm")):
        out.append((f"nat-{west}-{east}", through_nat(Shared(lambda west=west, east=east: Nat(west, east)).get, west, east)))
    kernel = Shared(plain).get
    for n, (alg, esn, v, encap) in enumerate(ROWS[:2] if job["quick"] else ROWS):
        out.append((f"plain-{alg}-{'esn' if esn else 'noesn'}-{encap}-o{v}", against_plain(kernel, n)))
    if not job["quick"]:
        out.append(("refusals", refusals))
    return [Case(name, fn, limit=200) for name, fn in out]
