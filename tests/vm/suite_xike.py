# SPDX-License-Identifier: GPL-2.0-or-later
"""`backend = xfrm` keyed by strongSwan: charon says nothing to the kernel, its SAs come there by ipsecd.

Two gateways with hosts behind them, both carried by their kernels or one of them; and a road warrior behind a NAT box, of
which IKE finds out by itself.
"""
import re
import subprocess

import bed  # NS.run without nsenter, noqa: F401
import xfrm
from conftest import Lab
from guest import Case, Shared
from lib import leak, util
from lib.nat import NatNet
from lib.stream import Stream
from lib.traffic import ping, tcp_transfer
from lib.util import tool, wait_until
from test_ike import FAR, gateways, in_use, rekeyed, sas, secret, told, up
from test_ike_paths import gateway, ike_link, remote

LIVE = "ping 1s x 8"
SLOW = 6  # waits of tests/net, which know a real machine


def states(ns):
    return re.sub("0x[0-9a-f]{30,}", "KEY", ns.out("ip -s -d xfrm state"))


def esp(ns):
    """SPIs of the states that the kernel has."""
    return sorted(int(x, 16) for x in re.findall(r"proto esp spi (0x[0-9a-f]+)", states(ns)))


def agrees(d):
    """The kernel has the SAs that ipsecd lists, where it carries the link, and no other."""
    l = d.link()
    return esp(d.ns) == (sorted(int(s["spi"], 16) for s in l["sas"]) if l["backend"] == "xfrm" else [])


class Slow:
    """close() gives the clock back to whoever comes after."""

    def __init__(self):
        util.SLOW, self.lab = SLOW, Lab("xike")
        try:
            self.make()
        except BaseException:
            self.close()
            raise

    def close(self):
        util.SLOW = 1
        self.lab.close()

    def trouble(self):
        return "\n".join(f"{d.ns.role}: {d.ctl('show', check=False).stdout}\n{d.log()[-1500:]}\n{states(d.ns)}\n"
                         f"{({k: v for k, v in xfrm.stat(d.ns).items() if v})}\n{d.ike.log()[-2500:]}" for d in self.lab.daemons)


class Two(Slow):
    back = ("xfrm", "xfrm")

    def make(self):
        t = self.t = gateways(self.lab, over_a={"backend": self.back[0]}, over_b={"backend": self.back[1]}, liveness=LIVE)
        up(t)

    def carries(self):
        for ns, far in ((self.t.h1, FAR["h1"]), (self.t.h2, FAR["h2"]), (self.t.h1, "fd02::2")):
            wait_until(lambda: ping(ns, far, count=1), 10, lambda: f"{ns.role}: {self.trouble()}")
            assert ping(ns, far, count=5, interval=0.05, timeout=5), self.trouble()

    def renew(self, n):
        """By either end or both; one pair after it, another one, and the kernels have just that."""
        t = self.t
        had = in_use(t.da), in_use(t.da, "in")
        both = [t.da, t.db] if n % 3 == 2 else [(t.da, t.db)[n % 3]]
        began = [d.ns.popen([tool("ipsecctl"), "-i", d.instance, "rekey", "ipsec1"], stdout=subprocess.DEVNULL) for d in both]
        for p in began:
            assert p.wait(timeout=90) == 0 or len(both) == 2, self.trouble()
        wait_until(lambda: rekeyed(t, t.da, had) and agrees(t.da) and agrees(t.db), 15, lambda: f"{n}: {told(t)} {self.trouble()}", poll=0.2)


class Mixed(Two):
    back = ("afxdp", "xfrm")


class Warrior(Slow):
    """West behind a NAT box; nobody's line says a word about UDP, and East's knows no address."""

    def make(self):
        t = self.t = NatNet(self.lab)
        t.nat, psk = t.box(), secret(self.lab)
        self.lab.tap.protect("10.9.1.0/24")
        self.de = gateway(self.lab, t.east, [ike_link(t, 1, 2, "any", psk, backend="xfrm", liveness=LIVE)])
        self.west = t.nat.gateway("west1")
        self.dw = gateway(self.lab, self.west, [ike_link(t, 1, 1, t.east4, psk, backend="xfrm", liveness=LIVE)])
        for d in (self.dw, self.de):
            d.wait_up(timeout=15)

    def carries(self):
        for ns, far in ((self.west, "10.9.1.2"), (self.t.east, "10.9.1.1")):
            wait_until(lambda: ping(ns, far, count=1), 10, lambda: f"{ns.role}: {self.trouble()}")
            assert ping(ns, far, count=5, interval=0.05, timeout=5), self.trouble()


def first(get):
    def up_and_told(case):
        """What ipsecd lists, charon has installed and the kernel holds; counters as charon is told them."""
        b = get()
        t = b.t
        assert tuple(d.link()["backend"] for d in (t.da, t.db)) == b.back, b.trouble()
        b.carries()
        for src, dst, far in ((t.h1, t.h2, "10.2.0.2"), (t.h2, t.h1, "10.1.0.2")):
            sent, got = tcp_transfer(src, dst, far, 1 << 20)
            assert sent == got, b.trouble()
        for d, c in ((t.da, t.ca), (t.db, t.cb)):
            assert agrees(d), b.trouble()
            (child,) = c.child_sas()
            (spi_in, was), (spi_out, _) = sas(d, "in").popitem(), sas(d, "out").popitem()
            assert (int(child["spi-in"], 16), int(child["spi-out"], 16)) == (spi_in, spi_out)
            now = sas(d, "in")[spi_in]
            assert was["source"] == "ike" and was["live"] and 20 < int(child["packets-in"]) <= now["packets"], (child, was, now)
            assert int(child["use-in"]) < 5 and int(child["bytes-out"]) <= sas(d, "out")[spi_out]["bytes"]
        assert in_use(t.da) == in_use(t.db, "in") and in_use(t.da, "in") == in_use(t.db)
    return up_and_told


def renewals(get, count):
    def nothing_lost(case):
        """Under a numbered stream both ways, by either end and by both at once. Old and new state may overtake each other."""
        b = get()
        b.carries()
        flaps = [d.link()["flaps"] for d in (b.t.da, b.t.db)]
        stream = Stream(b.lab, b.t, gap=0.02)
        for n in range(count):
            stream.more(20)
            b.renew(n)
        stream.more(20)
        assert stream.lost() == [0, 0]
        case.note(f"{count} renewals, {stream.sent} numbered datagrams each way, none lost")
        assert [d.link()["flaps"] for d in (b.t.da, b.t.db)] == flaps
    return nothing_lost


def moved(case):
    """`link set backend` there and back: SAs of IKE are made anew."""
    b = mixed()
    b.carries()
    for to in ("afxdp", "xfrm"):
        had = in_use(b.t.db), in_use(b.t.db, "in")
        b.t.db.ctl("link", "set", "ipsec1", "backend", to)
        wait_until(lambda: rekeyed(b.t, b.t.da, had) and agrees(b.t.db) and b.t.db.is_up(), 15, lambda: b.trouble(), poll=0.2)
        b.carries()


def killed(case):
    """A killed ipsecd's keys are nobody's: the successor takes its states out of the kernel, and charon renews."""
    b = both()
    t = b.t
    b.carries()
    had = esp(t.b)
    t.db.kill()
    assert esp(t.b) == had
    t.db.start()
    wait_until(lambda: not set(esp(t.b)) & set(had) and agrees(t.db) and len(esp(t.b)) == 2 and t.db.is_up() and t.da.is_up(), 20, b.trouble, poll=0.2)
    b.carries()


def ended(case):
    """`ipsecctl down`: nothing of it stays in either kernel. A stopped ipsecd leaves no key of IKE's there."""
    b = both()
    t = b.t
    t.da.ctl("down", "ipsec1")
    wait_until(lambda: not t.da.link()["sas"] and not t.db.link()["sas"], 10, b.trouble, poll=0.2)
    assert not esp(t.a) and not esp(t.b), b.trouble()
    assert not ping(t.h1, FAR["h1"], count=2, timeout=0.5)
    up(t)
    b.carries()
    t.ca.stop()
    t.da.stop()
    assert not esp(t.a), states(t.a)


def found_nat(case):
    """UDP is IKE's finding, and so is the mapped port; states are in UDP on both ends."""
    w = warrior()
    w.carries()
    assert (remote(w.de)[0], remote(w.de)[2]) == (w.t.nat.wild4, "udp") and remote(w.dw) == (w.t.east4, 4500, "udp")
    for d in (w.dw, w.de):
        assert d.link()["backend"] == "xfrm" and agrees(d) and states(d.ns).count("encap type espinudp") == 2, w.trouble()
    case.note(f"{remote(w.de)}")


def rebinds(case):
    """Another mapping: ESP is followed at once, charon is told, the next renewal goes through it."""
    w = warrior()
    w.carries()
    flaps = w.de.link()["flaps"]
    for n in range(2):
        ports = (20000 + 100 * n, 20099 + 100 * n)
        w.t.nat.rebind(ports)
        wait_until(lambda: ports[0] <= remote(w.de)[1] <= ports[1], 5, lambda: f"{ports} {w.trouble()}", poll=0.1)
        w.carries()
        wait_until(lambda: str(remote(w.de)[1]) in w.de.ike.swanctl("--list-sas", "--raw").stdout, 5, w.trouble, poll=0.3)
    assert w.de.link()["flaps"] == flaps
    had = {s["spi"] for s in w.de.link()["sas"]}
    w.de.ctl("rekey", "ipsec1")
    wait_until(lambda: not had & {s["spi"] for s in w.de.link()["sas"]} and agrees(w.de) and agrees(w.dw), 10, w.trouble, poll=0.2)
    w.carries()


def moves(case):
    """West gets another address behind the box: MOBIKE tells, and the states follow."""
    w = warrior()
    w.carries()
    w.west.ip("addr del 192.168.11.2/24 dev eth1", "addr add 192.168.11.77/24 dev eth1", "route replace default via 192.168.11.1")
    wait_until(lambda: "192.168.11.77" in states(w.west) and "192.168.11.2 " not in states(w.west), 10, w.trouble, poll=0.2)
    wait_until(lambda: w.dw.is_up() and w.de.is_up() and agrees(w.dw) and agrees(w.de), 15, w.trouble, poll=0.2)
    w.carries()


def invariants(get):
    def hold(case):
        b = get()
        leak.check_keys([d for d in b.lab.daemons if d.running()])
        b.lab.verify_taps()
    return hold


both, mixed, warrior = Shared(Two).get, Shared(Mixed).get, Shared(Warrior).get


def cases(job):
    def one(name, fn):
        return Case(name, fn, limit=300)
    n = 3 if job["quick"] else 30 if job["long"] else 6
    out = [one("both-up", first(both)), one("both-renewals", renewals(both, n))]
    if job["quick"]:
        return out
    return out + [one("killed", killed), one("both-invariants", invariants(both)), one("ended", ended),
                  one("mixed-up", first(mixed)), one("mixed-renewals", renewals(mixed, n)), one("moved", moved), one("mixed-invariants", invariants(mixed)),
                  one("nat-found", found_nat), one("nat-rebinds", rebinds), one("nat-moves", moves), one("nat-invariants", invariants(warrior))]
