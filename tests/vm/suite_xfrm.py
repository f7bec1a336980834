# SPDX-License-Identifier: GPL-2.0-or-later
"""`backend = xfrm`: the kernel carries a link of ipsecd. One end afxdp, one end xfrm, hosts behind both.

Nothing in the clear whatever is taken away, what both ends count agrees, and the books of both balance.
"""
import contextlib
import json
import os
import re
import secrets
import signal
import time

import bed  # NS.run without nsenter, noqa: F401
import xfrm
from conftest import Lab
from guest import Case, Shared
from lib import keys, leak
from lib.daemon import Monitor
from lib.routers import Flows
from lib.topo import TwoHosts
from lib.traffic import Listener, ping, tcp_transfer
from lib.util import ROOT, sh, tool, wait_until
from scapy.layers.inet import ICMP, IP
from scapy.packet import Raw

LIVE = "ping 1s x 8"
IF_ID = re.compile(r"if_id (0x[0-9a-f]+)")


class Pair:
    """gwA by its workers, gwB by its kernel; or as told."""

    underlay = None
    families = (4, 6)  # that the link carries
    keys = {}          # beside the suite

    def __init__(self, alg="aes-gcm-256", back=("afxdp", "xfrm"), **over):
        self.lab = Lab("xfrm")
        try:
            t = self.t = self.topology()
            self.a, self.b, self.h1, self.h2 = t.a, t.b, t.h1, t.h2
            t.pair, *files = self.lab.pair_files(alg=alg, **self.keys)
            for ns, side, f, backend in zip((t.a, t.b), "ab", files, back):
                over_side = {"liveness": LIVE, "backend": backend, **over}
                setattr(self, f"d{side}", self.daemon(ns, side, f, over_side))
            for d in (self.da, self.db):
                d.start(timeout=60)
            wait_until(lambda: self.da.is_up() and self.db.is_up(), 40, self.trouble, poll=0.3)
            for d in (self.da, self.db):
                d.wait_up(timeout=10)
        except BaseException:
            self.close()
            raise

    def topology(self):
        return self.lab.two_hosts()

    def daemon(self, ns, side, key_file, over):
        return self.lab.daemon(ns, [self.section(side, key_file, over)], keys=[key_file], start=False, underlay=self.underlay)

    def section(self, side, key_file, over):
        return self.t.link(side, key_file, **over)

    def ends(self, back=False):
        return (self.h2, self.h1) if back else (self.h1, self.h2)

    def address(self, v, back=False):
        side = "1" if back else "2"
        return f"10.{side}.0.2" if v == 4 else f"fd0{side}::2"

    def ping(self, v, back=False, **kw):
        return ping(self.ends(back)[0], self.address(v, back), interval=0.05, timeout=5, **kw)

    def need(self, v, back=False, **kw):
        wait_until(lambda: self.ping(v, back, count=1), 30, lambda: f"ping v{v} back={back}: {self.trouble()}")
        assert self.ping(v, back, **kw), f"answers missing: {self.trouble()}"

    def sas(self, d):
        return {s["dir"]: s for s in d.link()["sas"]}

    def books(self, d):
        return d.json("drops")["conservation"][0]

    def counts(self):
        a, b = self.sas(self.da), self.sas(self.db)
        return [(a["out"]["packets"], b["in"]["packets"]), (b["out"]["packets"], a["in"]["packets"])]

    def missing(self):
        """Packets that entered the tunnel at one end and did not come out at the other, to B and to A."""
        a, b = self.books(self.da), self.books(self.db)
        return a["out"]["raw_in"] - b["in"]["delivered"], b["out"]["raw_in"] - a["in"]["delivered"]

    def gaps(self):
        return [x - y for x, y in self.counts()]

    def liveness(self, words):
        for d in (self.da, self.db):
            d.ns.run([tool("ipsecctl"), "-i", d.instance, "link", "set", "ipsec1", "liveness", words])

    def settled(self):
        """How far the ends are apart once nothing is under way."""
        seen = []
        wait_until(lambda: seen.append(self.counts()) or len(seen) > 2 and seen[-1] == seen[-2] == seen[-3], 30, lambda: f"{seen}", poll=0.3)
        return self.gaps()

    def leaks(self):
        return {k: v["leaks"] for k, v in self.lab.tap.report()["taps"].items() if v["leaks"]}

    def dark(self, *what):
        """Nobody gets through, and nothing is in the clear."""
        assert not any(self.ping(v, back, count=3) for v in self.families for back in (False, True)), f"{what}: it goes on"
        assert not self.leaks(), f"{what}: LEAK {self.leaks()}"

    def trouble(self):
        out = []
        for d in (self.da, self.db):
            out.append(f"{d.ns.role}: {json.dumps(d.link(check=False))}\n{json.dumps(self.books(d)) if d.running() else 'dead'}\n{d.log()[-1500:]}")
        out.append(f"xfrm_stat {({k: v for k, v in xfrm.stat(self.b).items() if v})}")
        out.append(self.b.out("ip -s xfrm policy") + re.sub("0x[0-9a-f]{30,}", "KEY", self.b.out("ip -s xfrm state")))
        out.append(sh(["nsenter", f"--net={self.db.backend}", "--", "ip", "-s", "-d", "link"]).stdout)
        for d in (self.da, self.db):
            j = d.json("drops", check=False) or {}
            out.append(str([{r: n for r, n in b.items() if n} for l in j["links"] for b in (l["in"], l["out"])] +
                           [{r: n for r, n in j["global"]["drops"].items() if n}]))
        return "\n".join(out)

    def close(self):
        self.lab.close()


class WithShortcut(Pair):
    underlay = {"shortcut": "eth0"}


class ByXdp(Pair):
    """XDP from the first packet: one place where an SPI that nobody has is counted."""

    underlay = {"input": "xdp"}


pair = Shared(Pair).get
by_xdp = Shared(ByXdp).get
with_shortcut = Shared(lambda: WithShortcut(back=("xfrm", "xfrm"))).get
kernels = Shared(lambda: Pair(back=("xfrm", "xfrm"))).get


@contextlib.contextmanager
def asleep(d):
    """Neither daemon nor guardian: nobody heals what is taken away, and no carrier falls."""
    pids = d.guardians() + [d.proc.pid]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


def up(case):
    p = pair()
    assert p.da.link()["backend"] == "afxdp" and p.db.link()["backend"] == "xfrm"
    assert p.db.link()["liveness"]["mode"] == "ping" and p.db.link()["backend_why"] is None
    states = p.b.out("ip -d xfrm state")
    assert states.count("proto esp") == 2 and len(set(IF_ID.findall(states))) == 1, states.count("proto esp")
    # the device shows nothing of it
    d = [json.loads(ns.out("ip -j -d link show ipsec1"))[0] for ns in (p.a, p.b)]
    assert d[0]["mtu"] == d[1]["mtu"] and d[0]["linkinfo"]["info_kind"] == d[1]["linkinfo"]["info_kind"] == "veth"
    case.note(f"mtu {d[1]['mtu']}")
    assert "was deleted" not in p.db.log(), p.db.log()


def pings(get):
    def both_ways(case):
        p = get()
        for v in (4, 6):
            for back in (False, True):
                p.need(v, back, count=5)
        assert not p.leaks()
    return both_ways


def tcps(get):
    def both_ways(case):
        p = get()
        for v in (4, 6):
            for back in (False, True):
                src, dst = p.ends(back)
                sent, got = tcp_transfer(src, dst, p.address(v, back), 2 << 20)
                assert sent == got, p.trouble()
        assert not p.leaks()
    return both_ways


def counters(get):
    def agree(case):
        p = get()
        p.liveness("off")  # echoes would come between the two ends' answers
        try:
            compare(case, p, xfrm.stat(p.b))
        finally:
            p.liveness(LIVE)
        for d in (p.da, p.db):
            d.wait_up(timeout=20)

    def compare(case, p, stat):
        gaps = p.settled()  # what was sent before the other end was there
        for back in (False, True):
            assert p.ping(4, back, count=40) and p.ping(6, back, count=20), p.trouble()
        assert p.settled() == gaps, f"{p.counts()}, not apart by {gaps}; {p.trouble()}"
        for d in (p.da, p.db):
            # what the kernel's device dropped, it counts itself: an echo before there was a policy; another may be under way
            wait_until(lambda: not leak.imbalance(d), 10, lambda: f"{d.ns.role}: {leak.imbalance(d)} {p.trouble()}", poll=0.1)
            l = d.link()
            assert l["rx"]["packets"] and l["tx"]["packets"] and l["rx"]["bytes"] and l["tx"]["bytes"]
            assert not l["drops_in_total"], (d.json("drops")["links"], p.trouble())
        moved = {k: v for k, v in xfrm.stat(p.b).items() if v != stat[k]}
        assert not moved, f"the kernel's XFRM counted {moved}"
        case.note(f"(sent, taken) {p.counts()}")
    return agree


def counts_are_exact(case):
    """n datagrams are n packets everywhere somebody counts, and as many bytes. Last: IPv6 is gone from the devices."""
    p = pair()
    n, size = 50, 333
    before = [(d.link(), p.sas(d)) for d in (p.da, p.db)]
    for d in (p.da, p.db):
        d.ns.sysctl_set("net.ipv6.conf.ipsec1.disable_ipv6", 1)
    tx = p.h2.socket(2, 2)
    p.lab.sink(p.h1, 4242)
    for _ in range(n):
        tx.sendto(secrets.token_bytes(size), (p.address(4, back=True), 4242))
    tx.close()

    def more(i, way):
        now = (p.da, p.db)[i].link()
        return now[way]["packets"] - before[i][0][way]["packets"], now[way]["bytes"] - before[i][0][way]["bytes"]
    want = n, n * (size + 28)
    wait_until(lambda: more(1, "tx") == want and more(0, "rx") == want, 20, lambda: f"{more(1, 'tx')} {more(0, 'rx')} of {want}")


def foreign_source(case):
    """RFC 4301 5.2: the peer may not use a source that `inner` does not name."""
    p = pair()
    before = p.db.json("drops")["links"][0]["in"]["inner-src"]
    p.h1.ip("addr add 10.77.0.9/32 dev lo")
    p.a.ip("route add 10.77.0.9/32 via 10.1.0.2")
    assert not p.h1.ok(["ping", "-c", "3", "-i", "0.1", "-W", "1", "-I", "10.77.0.9", "10.2.0.2"])
    wait_until(lambda: p.db.json("drops")["links"][0]["in"]["inner-src"] >= before + 3, 10, p.trouble)
    p.need(4)


def rekey(case):
    """A renewal by file: the end that is told to switches, the other hears it and follows, the old pair goes."""
    p = pair()
    p.need(4)
    flaps = p.da.link()["flaps"], p.db.link()["flaps"]
    new, *files = p.lab.pair_files(tag="new")
    for d, f in zip((p.da, p.db), files):
        d.add_keys(f)
        d.init_state(f)
        d.json("sa", "add", "ipsec1", f)
    assert p.ping(4, count=3) and p.ping(4, back=True, count=3), "both pairs stand, the old one is used"
    p.db.json("sa", "rekey", "ipsec1", files[1], "--now")

    def settled():
        spis = [sorted(int(s["spi"], 16) for s in d.link()["sas"]) for d in (p.da, p.db)]
        return all(s == sorted((new.a.spi, new.b.spi)) for s in spis)
    wait_until(settled, 40, lambda: p.trouble(), poll=0.3)
    states = p.b.out("ip xfrm state")
    assert states.count("proto esp") == 2 and all(f"spi {s:#010x}" in states for s in (new.a.spi, new.b.spi))
    p.need(4, count=5)
    p.need(6, back=True, count=5)
    assert (p.da.link()["flaps"], p.db.link()["flaps"]) == flaps, "no link went down for it"


def selectors(case):
    """A second pair for one port (`for`): its packets go by it, no others do, and with it gone they go by the wide one."""
    p = pair()
    p.need(4)
    new, port, n = keys.Pair(alg="aes-gcm-128"), 4711, 20
    files = [new.write(p.lab.path(f"narrow-{side}.sa"), side) for side in "ab"]
    for d, f, ends in zip((p.da, p.db), files, (f"10.1.0.0/16[udp/{port}] 10.2.0.0/16", f"10.2.0.0/16 10.1.0.0/16[udp/{port}]")):
        with open(f) as old:
            text = old.read()
        with open(f, "w") as out:
            out.write(f"for = {ends}\n{text}")
        d.add_keys(f)
        d.init_state(f)
        d.json("sa", "add", "ipsec1", f)
    for d, f in zip((p.da, p.db), files):
        d.json("sa", "rekey", "ipsec1", f, "--now")

    def narrow(d):
        return {s["dir"]: s["packets"] for s in d.link()["sas"] if int(s["spi"], 16) in (new.a.spi, new.b.spi)}

    def send(src, dst, sport, dport):
        for d in (p.da, p.db):
            wait_until(lambda: d.is_up(), 20, p.trouble)
        sent = [narrow(d) for d in (p.da, p.db)]
        s = src.socket(2, 2)
        s.bind(("0.0.0.0", sport))
        for _ in range(n):
            s.sendto(b"by selector", (dst, dport))
        s.close()
        time.sleep(1)
        return [{way: now[way] - was[way] for way in now} for was, now in zip(sent, [narrow(d) for d in (p.da, p.db)])]
    p.lab.sink(p.h2, 4713)
    assert send(p.h1, "10.2.0.2", port, 4713) == [{"in": 0, "out": n}, {"in": n, "out": 0}], p.trouble()
    p.lab.sink(p.h1, port)
    assert send(p.h2, "10.1.0.2", 4712, port) == [{"in": n, "out": 0}, {"in": 0, "out": n}], p.trouble()
    assert send(p.h2, "10.1.0.2", 4712, port + 1) == [{"in": 0, "out": 0}] * 2
    assert f"sport {port}" in p.b.out("ip xfrm state") and f"dport {port}" in p.b.out("ip xfrm policy")
    p.need(4, count=5)
    p.need(6, back=True, count=5)
    for d in (p.da, p.db):
        d.json("sa", "del", "ipsec1", f"{new.a.spi:#010x}")
        d.json("sa", "del", "ipsec1", f"{new.b.spi:#010x}")
    assert f"dport {port}" not in p.b.out("ip xfrm policy") and f"{new.b.spi:#010x}" not in p.b.out("ip xfrm state")
    tap = Listener(p.h1, "eth0")
    send(p.h2, "10.1.0.2", 4712, port)
    tap.wait(lambda f: f[9:10] == b"\x11" and f[22:24] == port.to_bytes(2, "big"), 20, n=n)
    tap.close()
    p.need(4)


PPS = 100


def set_backend(d, to):
    start = time.monotonic()
    d.ns.run([tool("ipsecctl"), "-i", d.instance, "link", "set", "ipsec1", "backend", to])
    return time.monotonic() - start


def lost_and_told(d):
    """What came to this end and was not taken, by its own books: SPIs that nobody had at that moment, and what states and workers refused."""
    j = d.json("drops")
    return j["global"]["drops"]["no-sa"] + sum(n for r, n in j["links"][0]["in"].items() if r != "dummy")


def moves(get, count, told):
    def there_and_back(case):
        """`link set backend` of both ends in turn, under traffic both ways: numbers go on, nothing is taken twice, nothing goes down.

        told: every packet that is lost between two receivers is in the books of its end."""
        p = get()
        p.need(4)
        ends, first = (p.db, p.da), {d: d.link()["backend"] for d in (p.da, p.db)}
        spis = {d: sorted(s["spi"] for s in d.link()["sas"]) for d in ends}
        p.liveness("off")  # echoes would come between the two ends' answers
        gaps, books, missing = p.settled(), [lost_and_told(d) for d in ends], p.missing()
        p.liveness(LIVE)
        for d in ends:
            d.wait_up(timeout=20)
        watch = [Monitor(d) for d in ends]
        for m in watch:
            wait_until(lambda: m.saw(event="monitor-start"), 10, "the monitor")
        flaps = [d.link()["flaps"] for d in ends]
        flows = Flows(p.lab, p.h1, "10.1.0.2", p.h2, "10.2.0.2", PPS)
        seq, took = {d: p.sas(d)["out"]["seq"] for d in ends}, []
        for i in range(count):
            d = ends[i % 2]
            to = "afxdp" if d.link()["backend"] == "xfrm" else "xfrm"
            took.append(set_backend(d, to))
            l = d.link()
            assert l["backend"] == to and l["state"] == "up", p.trouble()
            assert sorted(s["spi"] for s in l["sas"]) == spis[d], p.trouble()
            time.sleep(0.4)
            now = p.sas(d)["out"]["seq"]
            assert now >= seq[d] + (1 << 16), f"{i}: {seq[d]} then {now}"
            seq[d] = now
        lost = flows.stop()
        assert [d.link()["flaps"] for d in ends] == flaps
        assert not [e for m in watch for e in m.all(event="link-state")], "the monitor saw it go down"
        p.liveness("off")
        # what did enter the tunnel: a guest that stalls has its carriers lowered, and loses packets before that
        inside = [y - x for x, y in zip(missing, p.missing())]
        apart = [now - was for was, now in zip(gaps, p.settled())]
        found = [lost_and_told(d) - was for d, was in zip(ends, books)]
        case.note(f"{count} moves, both ends in turn, {PPS}/s each way, to B and to A: lost in the tunnel {inside}, in all {lost}; sent and not "
                  f"taken {apart}, in the books {found}; ipsecctl took at most {max(took):.2f} s")
        # between the two receivers lie some netlink requests, which take an emulated machine 10 to 50 ms
        most = count // 2 * PPS // 10
        assert max(inside) <= most and max(apart) <= most, f"{inside} {apart} {p.trouble()}"
        if told:
            assert found == apart, f"in the books {found}, apart {apart} {p.trouble()}"
        for d in ends:
            if d.link()["backend"] != first[d]:
                set_backend(d, first[d])
        p.liveness(LIVE)
        for v in (4, 6):
            p.need(v)
            p.need(v, back=True)
        p.lab.verify_taps()  # no (SPI, number) and no (SPI, IV) with two different packets
        nonces = p.lab.tap.report()["esp"]
        case.note(f"{nonces['seq']['unique']} numbers and {nonces['iv']['unique']} IVs seen, 0 with two packets")
        assert nonces["seq"]["unique"] > count * PPS // 2 and not p.leaks()
    return there_and_back


def refused(case):
    """What the kernel's state refuses is in the link's books: an envelope again, and one that nobody sealed."""
    p = pair()
    wire = Listener(p.a, "eth1", outgoing=True)
    p.need(4)
    esp = wire.wait(lambda f: f[9] == 50 and len(f) > 100, 20)[-1]
    wire.close()
    forged = bytearray(esp)
    forged[24:28] = (int.from_bytes(esp[24:28], "big") + 50).to_bytes(4, "big")
    before = p.db.json("drops")["links"][0]["in"]
    eve = p.lab.attacker(p.a, "eth1", p.b)
    for _ in range(5):
        eve.ip(esp)
    for _ in range(3):
        eve.ip(bytes(forged))

    def more(reason):
        return p.db.json("drops")["links"][0]["in"][reason] - before[reason]
    wait_until(lambda: (more("replay-dup"), more("icv-fail")) == (5, 3), 20, lambda: f"{more('replay-dup')} {more('icv-fail')} {p.trouble()}")
    wait_until(lambda: not leak.imbalance(p.db), 20, lambda: f"{leak.imbalance(p.db)}", poll=0.1)
    p.need(4)


def mtu_follows_the_kernel(case):
    """What the kernel believes of a path its ESP goes by: then ipsecN says so to senders, and nothing vanishes."""
    p = pair()
    p.need(4)
    full = p.db.link()["mtu"]
    eve = p.lab.attacker(p.a, "eth1", p.b)
    # about an echo reply that nobody sent: who would know?
    quote = IP(src="198.51.100.2", dst="198.51.100.1", len=1500) / ICMP(type=0) / Raw(bytes(60))
    eve.ip(IP(src="198.51.100.77", dst="198.51.100.2") / ICMP(type=3, code=4, nexthopmtu=1400) / quote)
    wait_until(lambda: p.db.link()["mtu"] == full - 100, 20, lambda: f"{full} {p.db.link()['mtu']} {p.b.out('ip route get 198.51.100.1')}")
    errors = xfrm.stat(p.b)
    for size, fits in ((full - 100 - 28, True), (full - 100 - 27, False)):
        r = p.h2.run(["ping", "-n", "-c", "2", "-W", "5", "-M", "do", "-s", size, "10.1.0.2"], check=False)
        assert (r.returncode == 0) == fits and (fits or f"mtu = {full - 100}" in r.stdout + r.stderr or f"mtu={full - 100}" in r.stdout + r.stderr), \
            r.stdout + r.stderr
    assert xfrm.stat(p.b) == errors
    p.b.ip("route flush cache")
    p.need(6)


def mtu_is_what_passes(case):
    """It cuts no envelopes: an MTU above what the path carries would lose packets without a word. Not even df = clear helps with DF inside."""
    p = pair()
    p.need(4)
    full = p.da.link()["mtu"]
    wait_until(lambda: p.db.link()["mtu"] == full, 20, lambda: f"{full} {p.db.link()['mtu']}")

    def ask(*words):
        p.db.json("link", "set", "ipsec1", *words)

    def flags():
        return {f for line in re.findall(r"(?m)^\s+replay-window.*flag (.*)$", p.b.out("ip xfrm state")) for f in line.split()}
    ask("mtu", "9000")
    try:
        for df in ("clear", "auto"):
            assert p.db.link()["mtu"] == full
            r = p.h2.run(["ping", "-n", "-c", "1", "-W", "5", "-M", "do", "-s", full - 27, "10.1.0.2"], check=False)
            assert r.returncode and re.search(f"mtu ?= ?{full}", r.stdout + r.stderr), r.stdout + r.stderr
            assert p.ping(4, back=True, size=3000, count=2), p.trouble()  # cut before
            ask("df", df)  # its state is another one then
            wait_until(lambda: ("nopmtudisc" in flags()) == (df == "clear"), 10, lambda: f"{df} {flags()}")
            assert p.ping(4, back=True, count=2), p.trouble()
    finally:
        ask("mtu", "auto")
    p.need(6)


def life(case):
    """A hard limit in packets ends the SA in the kernel, with nobody of ours awake; then it is told as ever."""
    p = pair()
    p.need(4)
    p.liveness("off")
    healed = p.db.log().count("deleted by somebody")
    new, n = keys.Pair(alg="aes-gcm-256"), 60
    new.b.life = {"hard-packets": n}
    files = [new.write(p.lab.path(f"life-{side}.sa"), side) for side in "ab"]
    for d, f in zip((p.da, p.db), files):
        d.add_keys(f)
        d.init_state(f)
        d.json("sa", "add", "ipsec1", f)
    p.db.json("sa", "rekey", "ipsec1", files[1], "--now")
    wait_until(lambda: [s["spi"] for s in p.db.link()["sas"] if s["dir"] == "out" and s["in_use"]] == [f"{new.b.spi:#010x}"], 20, p.trouble)
    with asleep(p.db):
        for _ in range(3):
            p.ping(4, back=True, count=40)
        assert f"spi {new.b.spi:#010x}" not in p.b.out("ip xfrm state"), p.trouble()
        p.dark("life over")
    def ended():
        s = next(s for s in p.db.link()["sas"] if s["spi"] == f"{new.b.spi:#010x}")
        return s["life"]["ended"], s["packets"], s["seq"], s["live"]
    wait_until(lambda: ended() == ("packets", n, n, False), 20, lambda: f"{ended()} {p.trouble()}")
    assert p.db.link()["reason"] == "sa-expired" and p.db.log().count("deleted by somebody") == healed, p.trouble()


def no_state(case):
    """Deleted by somebody: nothing leaves, and the daemon makes it again behind the numbers that were used."""
    p = pair()
    p.need(4)
    old = p.sas(p.db)["out"]["seq"]
    with asleep(p.db):
        p.b.ip("xfrm state flush")
        p.dark("no state")
    p.da.wait_up(timeout=40)
    p.db.wait_up(timeout=40)
    p.need(4)
    p.need(6, back=True)
    assert p.sas(p.db)["out"]["seq"] > old + (1 << 16)
    assert "made again" in p.db.log()


def no_policy(case):
    p = pair()
    ours = IF_ID.search(p.b.out("ip -d xfrm state"))[1]
    with asleep(p.db):
        for v in ("0.0.0.0/0", "::/0"):
            p.b.ip(f"xfrm policy delete src {v} dst {v} dir out if_id {ours}")
        p.dark("no policy")
    p.da.wait_up(timeout=40)
    p.db.wait_up(timeout=40)
    p.need(4, back=True)
    p.need(6, back=True)
    assert "making them again" in p.db.log()


def no_device(case):
    p = kernels()
    p.need(4)
    sh(["nsenter", f"--net={p.db.backend}", "--", "ip", "link", "del", "x1"])
    assert not p.leaks()
    p.need(4)
    p.need(6, back=True)
    assert not p.leaks() and "making it again" in p.db.log(), p.db.log()[-800:]


def shortcut_leaves_it(case):
    """`shortcut` ends at a worker: what the kernel encrypts takes the stack."""
    p = with_shortcut()
    for ns in (p.h1, p.h2):
        ns.run(["ethtool", "-K", "eth0", "gro", "on"])
    for v in (4, 6):
        for back in (False, True):
            p.need(v, back, count=20)
    for d in (p.da, p.db):
        b = p.books(d)["out"]
        assert b["emitted"] >= 80 and not b["shortcut"], b
        wait_until(lambda: not leak.imbalance(d), 10, lambda: f"{leak.imbalance(d)} {p.trouble()}", poll=0.1)


def killed(case):
    """Carriers fall, nothing passes in the clear; a successor goes on with the same states."""
    p = kernels()
    p.need(4)
    spis = sorted(s["spi"] for s in p.db.link()["sas"])
    p.db.kill()
    wait_until(lambda: p.db.oper() in ("LOWERLAYERDOWN", "DOWN"), 10, "carrier down")
    p.dark("killed")
    p.db.start(timeout=60)
    p.db.wait_up(timeout=40)
    assert sorted(s["spi"] for s in p.db.link()["sas"]) == spis
    for v in (4, 6):
        p.need(v)
        p.need(v, back=True)
    assert not p.leaks()


def released(case):
    """Nothing of ours stays in the kernel."""
    p = kernels()
    p.db.stop()
    assert "proto esp" in p.b.out("ip xfrm state"), "the states are for the successor"
    p.db.release()
    left = p.b.out("ip -d xfrm state") + p.b.out("ip -d xfrm policy")
    assert "if_id" not in left, re.sub("0x[0-9a-f]{30,}", "KEY", left)


class Example(Pair):
    """examples/xfrm-backend as it is written, but for where its key files lie."""

    def topology(self):
        class Wild(TwoHosts):
            outer = {**TwoHosts.outer, "a4": "192.0.2.1", "b4": "192.0.2.2"}
        t = Wild(self.lab.net)
        self.lab.tap.protect(*t.inner)
        return t

    def daemon(self, ns, side, key_file, over):
        name, other = ("west", "east") if side == "a" else ("east", "west")
        with open(f"{ROOT}/examples/xfrm-backend/{name}.conf") as f:
            text = f.read().replace(f"/etc/ipsec/{other}.sa", key_file)
        assert key_file in text
        return self.lab.daemon(ns, text, keys=[key_file], start=False)


def example(case):
    """What its README says, and shows."""
    p = Example()
    try:
        p.need(4)
        shown = p.a.out([tool("ipsecctl"), "-i", p.da.instance, "show", "-v", "ipsec1"])
        assert "xfrm worker 0" in shown, shown
        states = p.a.out("ip -s -d xfrm state")
        assert states.count("proto esp") == 2 and len(IF_ID.findall(states)) == 2 and "if_id 0xe" in states
        assert "dev ipsec1" in p.a.out("ip route get 10.2.0.7")
        assert p.db.link()["backend"] == "afxdp"
        p.need(4, back=True, count=5)
        assert not p.leaks()
    finally:
        p.close()


def invariants(get):
    def hold(case):
        p = get()
        leak.check_keys([d for d in (p.da, p.db) if d.running()])
        p.lab.verify_taps()
    return hold


def named(name, fn):
    return Case(name, fn, limit=400 if name.startswith("moves") else 150)


def cases(job):
    first = [("up", up), ("ping", pings(pair)), ("tcp", tcps(pair)), ("counters", counters(pair)), ("foreign_source", foreign_source), ("rekey", rekey),
             ("selectors", selectors), ("moves", moves(pair, 4 if job["quick"] else 8, False)), ("refused", refused),
             ("mtu_follows_the_kernel", mtu_follows_the_kernel), ("mtu_is_what_passes", mtu_is_what_passes), ("no_state", no_state), ("no_policy", no_policy), ("invariants", invariants(pair)),
             ("counts_are_exact", counts_are_exact), ("life", life)]
    second = [("moves_told", moves(by_xdp, 50, True)), ("both_ping", pings(kernels)), ("both_tcp", tcps(kernels)), ("both_counters", counters(kernels)),
              ("no_device", no_device), ("killed", killed), ("both_invariants", invariants(kernels)), ("released", released),
              ("shortcut_leaves_it", shortcut_leaves_it), ("example", example)]
    quick = ("up", "ping", "tcp", "counters", "moves", "no_state", "invariants")  # one bed
    return [named(n, fn) for n, fn in first + second if not job["quick"] or n in quick]
