# SPDX-License-Identifier: GPL-2.0-or-later
"""`backend = xfrm` with two paths: one at a time, the other when that is dead, and back again.

    gwA == eth1 198.51.100.x == gwB      gwA afxdp or xfrm, gwB xfrm; both wires run through a switch that can
        == eth2 203.0.113.x  ==          lose everything without a word (lib/uplinks.py)
"""
import contextlib
import time

import xfrm
from guest import Case, Shared
from lib import leak
from lib.frames import fold
from lib.routers import Flows
from lib.traffic import Listener
from lib.uplinks import DEVICES, TwoUplinks, in_use, paths, sent, states
from lib.util import wait_until
from suite_xfrm import IF_ID, Pair

PPS, SKIP = 100, 1 << 16
FAR1, FAR2 = "198.51.100.1", "203.0.113.1"  # of gwA
OWN1, OWN2 = "198.51.100.2", "203.0.113.2"  # of gwB


class Uplinks(Pair):
    underlay = DEVICES

    def topology(self):
        t = TwoUplinks(self.lab.net)
        self.lab.tap.protect(*t.inner)
        return t

    def section(self, side, key_file, over):
        name, keys = self.t.link(side, key_file, **over)
        keys["path"] = "\npath = ".join(f"{p} encap {self.encap}" for p in self.t.paths(side))
        return name, keys

    def __init__(self, encap="esp", **kw):
        self.encap = encap
        super().__init__(**kw)

    def wires(self):
        return [sent(self.b, dev) for dev in ("eth1", "eth2")]

    def all_by(self, path):
        """That wire takes all of it. Now and then a better one is tried, ever more rarely: not at three times in a row."""
        seen = []
        for _ in range(3):
            before = self.wires()
            whole = self.ping(4, count=30) and self.ping(6, back=True, count=30)
            more = [y - x for x, y in zip(before, self.wires())]
            seen.append((whole, more))
            if whole and more[path] >= 60 and more[1 - path] <= 5:
                return
        assert False, f"frames on the wires: {seen} {self.trouble()}"

    def need(self, v, back=False, **kw):
        """A better path may be tried in between, for half a second; not at three times in a row."""
        for _ in range(2):
            with contextlib.suppress(AssertionError):
                return super().need(v, back, **kw)
        return super().need(v, back, **kw)

    def carry(self):
        for v in (4, 6):
            for back in (False, True):
                self.need(v, back)

    def on(self, path, who=("db",), patience=40):
        """The kernel's end, or both, use that path alone. Return: seconds waited."""
        start = time.monotonic()
        want = [i == path for i in range(2)]
        for d in who:
            wait_until(lambda: in_use(getattr(self, d)) == want, patience, lambda: f"path {path + 1}: {paths(self.db)} {self.trouble()}", poll=0.1)
        return time.monotonic() - start

    def esp(self):
        """(way, source, destination) of gwB's states; and the SPI of each way."""
        spi = {s["dir"]: int(s["spi"], 16) for s in self.db.link()["sas"]}
        found = []
        for line in self.b.out("ip xfrm state").splitlines():
            words = line.split()
            if words[0] == "src":
                found.append([words[1], words[3]])
            elif "spi" in words:
                found[-1].insert(0, "out" if int(words[words.index("spi") + 1], 16) == spi["out"] else "in")
        return sorted(map(tuple, found))


mixed = Shared(Uplinks).get
kernels = Shared(lambda: Uplinks(back=("xfrm", "xfrm"))).get
in_udp = Shared(lambda: Uplinks(encap="udp")).get


def up(get):
    def both_known(case):
        p = get()
        assert p.db.link()["backend"] == "xfrm" and not p.db.link()["backend_why"]
        assert in_use(p.db) == [True, False] and states(p.db) == ["ok", "standby"], paths(p.db)
        assert p.esp() == [("in", FAR1, OWN1), ("out", OWN1, FAR1)], p.esp()
        p.carry()
        p.need(4, count=5)
        assert not p.leaks()
    return both_known


def failover(get, who=("db",)):
    def there_and_back(case):
        """A wire goes silent under traffic: the states' turns change, the link's state does not; and back when it is well again."""
        p = get()
        p.on(0, who)
        p.carry()
        flaps = p.da.link()["flaps"], p.db.link()["flaps"]
        made = IF_ID.findall(p.b.out("ip -d xfrm state"))
        seq = p.sas(p.db)["out"]["seq"]
        flows = Flows(p.lab, p.h1, "10.1.0.2", p.h2, "10.2.0.2", PPS)
        try:
            over_the_second(case, p, flows, flaps, made, seq)
        finally:
            p.t.silence("eth1", False)
            flows.stop()
        p.lab.verify_taps()
        assert not p.leaks()

    def over_the_second(case, p, flows, flaps, made, seq):
        time.sleep(1)
        flows.mark()
        p.t.silence("eth1")
        left = p.on(1, who)
        wait_until(lambda: p.ping(4, count=1) and p.ping(4, back=True, count=1), 20, p.trouble)
        p.on(1, who)
        out = max(flows.outage())
        seq2 = p.sas(p.db)["out"]["seq"]
        assert seq2 >= seq + SKIP, f"{seq} then {seq2}"
        # one state in, where it was; outbound one for each path, and policies that name the second
        assert p.esp() == [("in", FAR1, OWN1), ("out", OWN1, FAR1), ("out", OWN2, FAR2)], p.esp()
        wait_until(lambda: f"src {OWN2} dst {FAR2}" in p.b.out("ip xfrm policy"), 10, p.trouble)
        assert len(set(made)) == 1, made
        p.all_by(1)
        p.t.silence("eth1", False)
        back = p.on(0, who, 90)
        p.carry()
        flows.mark()
        p.all_by(0)
        again = max(flows.outage())
        assert p.sas(p.db)["out"]["seq"] >= seq2 + SKIP
        assert len(p.esp()) == 3
        case.note(f"left after {left:.1f} s, {out} ms without packets, back after {back:.1f} s ({again} ms)")
        assert (p.da.link()["flaps"], p.db.link()["flaps"]) == flaps, f"no link went down for it: {p.trouble()}"
        assert out < 20000
    return there_and_back


def turn(p, *remotes):
    """gwA's paths, in this order."""
    p.da.ctl(["link", "set", "ipsec1", *(w for r in remotes for w in ("path", f"{r} encap {p.encap}"))])


def every_address(get):
    def taken_once(case):
        """Whatever address of ours an envelope names, it is for one state with one window: taken once, then a replay."""
        p = get()
        p.on(0)
        p.carry()
        wire = Listener(p.a, "eth1", outgoing=True)
        p.need(4)
        esp = wire.wait(lambda f: f[9] == (17 if p.encap == "udp" else 50) and len(f) > 100, 20)[-1]
        wire.close()
        other = bytearray(esp)
        other[16:20] = bytes(map(int, OWN2.split(".")))
        other[10:12] = b"\0\0"
        other[10:12] = (~fold(bytes(other[:20])) & 0xffff).to_bytes(2, "big")
        if p.encap == "udp":
            other[26:28] = b"\0\0"
        books = lambda: p.db.json("drops")["links"][0]["in"]
        before, no_state = books(), xfrm.stat(p.b)["XfrmInNoStates"]
        eve = p.lab.attacker(p.a, "eth2", p.b, "eth2")
        for _ in range(5):
            eve.ip(bytes(other))
        wait_until(lambda: books()["replay-dup"] - before["replay-dup"] == 5, 20, lambda: f"{before} {books()} {p.trouble()}")
        assert xfrm.stat(p.b)["XfrmInNoStates"] == no_state
        # the peer's own by its other wire: taken, though no state stands at that address
        turn(p, OWN2, OWN1)
        p.carry()
        wire = sent(p.a, "eth2")
        p.need(4, count=20)
        assert sent(p.a, "eth2") >= wire + 20, "gwA sends by its second wire"
        assert [e for e in p.esp() if e[0] == "in"] == [("in", FAR1, OWN1)], p.esp()
        turn(p, OWN1, OWN2)
        p.carry()
        wait_until(lambda: not leak.imbalance(p.db), 20, lambda: f"{leak.imbalance(p.db)}", poll=0.1)
    return taken_once


def address_goes(case):
    """The one address at which the state stands is taken from the host: it moves to another one, above what it has taken."""
    p = mixed()
    p.on(0)
    p.carry()
    p.b.ip(f"addr del {OWN1}/24 dev eth1")
    try:
        p.on(1)
        wait_until(lambda: ("in", FAR2, OWN2) in p.esp(), 20, lambda: f"{p.esp()}")
        p.carry()
        assert len([e for e in p.esp() if e[0] == "in"]) == 1, p.esp()
    finally:
        p.b.ip(f"addr add {OWN1}/24 dev eth1", f"route replace default via {FAR1}")
    p.on(0, patience=60)
    p.carry()
    assert [e for e in p.esp() if e[0] == "in"] == [("in", FAR2, OWN2)], p.esp()


def dead_wire_with_a_word(case):
    """No route, no path: at once, and back at once."""
    p = mixed()
    p.on(0)
    p.b.ip("route add unreachable 198.51.100.1")
    took = p.on(1, patience=10)
    p.carry()
    assert states(p.db) == ["no-route", "ok"]
    p.b.ip("route del unreachable 198.51.100.1")
    case.note(f"left after {took:.1f} s, back after {p.on(0, patience=10):.1f} s")
    p.carry()


def killed(get):
    def goes_on(case):
        """A successor goes on with the states of both paths, wherever the first one stood, and uses no number twice."""
        p = get()
        p.carry()
        p.t.silence("eth1")
        p.on(1)
        p.carry()
        before, seq = p.esp(), p.sas(p.db)["out"]["seq"]
        p.db.kill()
        p.dark("killed")
        p.db.start(timeout=60)
        p.db.wait_up(timeout=60)
        p.on(1)
        p.carry()
        assert p.esp() == before, f"{before} {p.esp()}"
        assert p.sas(p.db)["out"]["seq"] > seq
        p.t.silence("eth1", False)
        p.on(0, patience=90)
        p.carry()
        assert p.esp() == before
        p.lab.verify_taps()
        assert not p.leaks()
    return goes_on


def released(get):
    def nothing_stays(case):
        p = get()
        p.db.stop()
        p.db.release()
        left = p.b.out("ip -d xfrm state") + p.b.out("ip -d xfrm policy")
        assert "if_id" not in left, left
    return nothing_stays


def refusals(case):
    """What several paths cannot be with the kernel; auto takes the workers, and says why."""
    p = mixed()
    for lines, why in ((("203.0.113.1", "any"), "path = any"), (("203.0.113.1 weight 1", "198.51.100.1 weight 1"), "weight"),
                       (("203.0.113.1", "2001:db8::1"), "families"), (("203.0.113.1", "198.51.100.1 encap udp"), "in UDP")):
        r = p.db.ctl(["link", "set", "ipsec1", *(w for line in lines for w in ("path", line))], check=False, json_out=False)
        assert r.returncode == 1 and why in r.stderr and "backend = auto" in r.stderr, f"{lines}: {r.returncode} {r.stderr}"
    assert in_use(p.db).count(True) == 1
    p.carry()


def invariants(get):
    def hold(case):
        p = get()
        leak.check_keys([d for d in (p.da, p.db) if d.running()])
        p.lab.verify_taps()
        assert not p.leaks()
    return hold


def cases(job):
    first = [("up", up(mixed)), ("failover", failover(mixed)), ("every_address", every_address(mixed)), ("no_route", dead_wire_with_a_word),
             ("address_goes", address_goes), ("refusals", refusals), ("killed", killed(mixed)), ("invariants", invariants(mixed)),
             ("released", released(mixed))]
    second = [("both_up", up(kernels)), ("both_failover", failover(kernels, ("da", "db"))), ("both_invariants", invariants(kernels))]
    third = [("udp_up", up(in_udp)), ("udp_failover", failover(in_udp)), ("udp_every_address", every_address(in_udp)),
             ("udp_invariants", invariants(in_udp))]
    quick = ("up", "failover", "every_address", "invariants")
    return [Case(n, fn, limit=240) for n, fn in first + second + third if not job["quick"] or n in quick]
