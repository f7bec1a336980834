# SPDX-License-Identifier: GPL-2.0-or-later
"""SAs renewed at run time (I6): new inbound first, then sending switches, then the old inbound one drains.

Every packet of a numbered stream is accounted for, both ways, while it happens; the tap sees that no number and no
IV comes twice, and lab.verify() that no drop went uncounted.
"""
import json
import socket

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw, raw

from lib.books import sums
from lib.carried import MODE, go_over
from lib.daemon import Monitor
from lib.keys import Pair
from lib.stream import Stream
from lib.traffic import need_ping, ping
from lib.util import stays, wait_until

FAR = {"h1": "10.2.0.2", "h2": "10.1.0.2"}


def new_pair(lab, t, tag, **kw):
    pair = Pair(**kw)
    files = {}
    for side, d in (("a", t.da), ("b", t.db)):
        files[side] = pair.write(lab.path(f"{tag}-{side}.sa"), side)
        d.add_keys(files[side])
        d.init_state(files[side])
    return pair, files["a"], files["b"]


def spis(d, way):
    return [int(s["spi"], 16) for s in d.link()["sas"] if s["dir"] == way]


def in_use(d):
    return next((int(s["spi"], 16) for s in d.link()["sas"] if s["dir"] == "out" and s["in_use"]), None)


def settled(t, pair):
    """One pair, the new one, on both ends."""
    return in_use(t.da) == pair.a.spi and in_use(t.db) == pair.b.spi and \
        all(len(spis(d, w)) == 1 for d in (t.da, t.db) for w in ("in", "out"))


def told(t):
    return f"{t.da.ctl('sa list').stdout}\n{t.db.ctl('sa list').stdout}"


@pytest.mark.parametrize("liveness", ["200ms x 20", "off"])
def test_no_packet_is_lost(lab, liveness):
    """Three renewals in a row, whoever begins, another suite each time, under traffic both ways."""
    t = lab.two_gateways(liveness=liveness)
    need_ping(t.h1, FAR["h1"])
    before = {d: d.json("drops") for d in (t.da, t.db)}
    flaps = t.da.link()["flaps"], t.db.link()["flaps"]
    m = Monitor(t.da)
    wait_until(lambda: m.saw(event="monitor-start"), 3, "the monitor")
    stream = Stream(lab, t)
    for n, alg in enumerate(("chacha20-poly1305", "aes-gcm-128", "aes-gcm-256")):
        had = in_use(t.da)
        pair, fa, fb = new_pair(lab, t, f"r{n}", alg=alg)
        first, second = ((t.da, fa), (t.db, fb)) if n != 1 else ((t.db, fb), (t.da, fa))
        r = first[0].json("sa", "rekey", "ipsec1", first[1])
        assert r["in_use"] is False
        stream.more()
        # the peer does not have it: nothing has switched, both can receive on the old and the new
        assert in_use(t.da) == had and len(spis(first[0], "in")) == 2
        second[0].json("sa", "rekey", "ipsec1", second[1])
        go_over(first)
        wait_until(lambda: settled(t, pair), 8, lambda: told(t))
        assert t.da.json("show config")["text"].count(fa) == 1, "the running configuration follows"
        stream.more()
        order = [(e["event"], e["dir"]) for e in m.read() if e["event"].startswith("sa-") and
                 int(e["spi"], 16) in (pair.a.spi, pair.b.spi)]
        assert order == [("sa-added", "in"), ("sa-added", "out"), ("sa-in-use", "out")], order
        assert m.saw(event="sa-removed", spi=f"{had:#010x}", dir="out")
    assert (t.da.link()["flaps"], t.db.link()["flaps"]) == flaps, f"a rekey never flaps a link: {t.da.log()} {t.db.log()}"
    for d in (t.da, t.db):
        for way in ("out", "in"):
            assert not sums(before[d], d.json("drops"), way), f"{d.ns.role} {way}: {sums(before[d], d.json('drops'), way)}"
        assert d.link()["lost"] == 0
    try:
        stream.all_arrived()
    except AssertionError:
        for d in (t.da, t.db):
            print(d.ns.role, d.json("drops")["conservation"], d.ctl("show", json_out=False).stdout, d.link()["rx"], d.link()["tx"], d.ns.out("ip -s link"), d.log())
        print(stream.err)
        raise


def test_soft_limit_renews(lab):
    """What an IKE daemon will do: renew at sa-soft; the hard limit is never met."""
    t = lab.two_hosts()
    t.pair = Pair()
    t.pair.a.life = {"soft-packets": 200, "hard-packets": 5000}
    ka, kb = t.pair.write(lab.path("k-a.sa"), "a"), t.pair.write(lab.path("k-b.sa"), "b")
    t.da = lab.daemon(t.a, [t.link("a", ka)], keys=[ka])
    t.db = lab.daemon(t.b, [t.link("b", kb)], keys=[kb])
    t.da.wait_up()
    t.db.wait_up()
    m = Monitor(t.da)
    wait_until(lambda: m.saw(event="monitor-start"), 3, "the monitor")
    stream = Stream(lab, t)
    pair, fa, fb = new_pair(lab, t, "next")
    wait_until(lambda: m.saw(event="sa-soft", dir="out", cause="packets"), 10, lambda: f"{m.events}")
    t.db.json("sa", "add", "ipsec1", fb)
    t.da.json("sa", "rekey", "ipsec1", fa)
    go_over((t.da, fa))
    wait_until(lambda: settled(t, pair), 8, lambda: told(t))
    stream.more()
    stream.all_arrived()
    assert not m.saw(event="sa-hard")
    assert sa_life(t.da)["soft_reached"] is None


def sa_life(d, way="out"):
    return next(s["life"] for s in d.link()["sas"] if s["dir"] == way)


def test_successor_takes_over_when_life_ends(lab):
    """A pair that stands by is used at once when the one before has ended, peer heard or not."""
    t = lab.two_hosts()
    t.pair = Pair()
    t.pair.a.life = {"hard-packets": 100}
    ka, kb = t.pair.write(lab.path("k-a.sa"), "a"), t.pair.write(lab.path("k-b.sa"), "b")
    t.da = lab.daemon(t.a, [t.link("a", ka, liveness="off")], keys=[ka])
    t.db = lab.daemon(t.b, [t.link("b", kb, liveness="off")], keys=[kb])
    t.da.wait_up()
    t.db.wait_up()
    pair, fa, fb = new_pair(lab, t, "next")
    for d, f in ((t.da, fa), (t.db, fb)):
        d.json("sa", "add", "ipsec1", f)
    need_ping(t.h1, FAR["h1"], count=20)
    assert in_use(t.da) == t.pair.a.spi, "added is not used"
    wait_until(lambda: need_ping(t.h1, FAR["h1"], count=5) or in_use(t.da) == pair.a.spi, 20, lambda: told(t))
    wait_until(lambda: ping(t.h1, FAR["h1"], count=1) and settled(t, pair), 8, lambda: told(t), poll=0.2)
    assert t.da.is_up()


def test_foreign_peer(lab):
    """--now for a peer that cannot be asked; its old packets are taken until it has gone over and is quiet."""
    t = lab.peer_bed(check=False)
    pair = Pair()
    f = pair.write(lab.path("now.sa"), "a")
    t.da.add_keys(f)
    t.da.init_state(f)
    r = t.da.json("sa", "rekey", "ipsec1", f)
    stays(lambda: in_use(t.da) == t.pair.a.spi, 0.5, "waits for the peer")
    t.da.json("sa", "rekey", "ipsec1", f, "--now")
    wait_until(lambda: in_use(t.da) == pair.a.spi, 2, lambda: t.da.ctl("sa list").stdout)
    s = t.h1.socket(socket.AF_INET, socket.SOCK_DGRAM)
    from lib.esp_peer import Esp
    t.peer.rx = Esp(pair.a)
    s.sendto(b"on the new one", (FAR["h1"], 4242))
    wait_until(lambda: t.peer.inner, 2, "an envelope on the new SA")

    def inner(n):
        return raw(IP(src="10.2.0.2", dst="10.1.0.2", id=n) / UDP(sport=7, dport=4242) / Raw(b"old"))
    had = t.da.link()["rx"]["packets"]
    for n in range(5):
        t.peer.send_raw(t.peer.seal(inner(n)))
    wait_until(lambda: t.da.link()["rx"]["packets"] == had + 5, 2, "the old inbound SA still receives")
    stays(lambda: len(spis(t.da, "in")) == 2, 2.5, "not before the peer has gone over")
    t.peer.tx = Esp(pair.b)
    t.peer.send_raw(t.peer.tx.seal(1, inner(9)))
    wait_until(lambda: spis(t.da, "in") == [pair.b.spi], 5, lambda: t.da.ctl("sa list").stdout)
    assert not sums(t.da.json("drops"), t.da.json("drops"), "in")


def test_add_and_del(lab):
    """A link without SAs gets its first by hand; what is taken away is gone; refusals leave nothing behind."""
    t = lab.two_hosts()
    for side, ns in (("a", t.a), ("b", t.b)):
        name, keys = t.link(side, "none", liveness="off")
        del keys["sa"]
        setattr(t, f"d{side}", lab.daemon(ns, [(name, keys)]))
    assert t.da.reason() == "no-sa"
    pair = Pair()
    fa, fb = pair.write(lab.path("x-a.sa"), "a"), pair.write(lab.path("x-b.sa"), "b")
    p = t.da.ctl("sa", "add", "ipsec1", fa, check=False)
    assert p.returncode == 1 and "static init" in json.loads(p.stdout)["error"], p.stdout
    assert t.da.link()["sas"] == [], "nothing stays of what was refused"
    for d, f in ((t.da, fa), (t.db, fb)):
        d.add_keys(f)
        d.init_state(f)
        d.json("sa", "add", "ipsec1", f)
    t.da.wait_up()
    t.db.wait_up()
    need_ping(t.h1, FAR["h1"])
    assert t.da.json("sa", "add", "ipsec1", fa)["in_use"] is True, "again is fine"
    # one renewal at a time
    second, sa2, _ = new_pair(lab, t, "second")
    third, sa3, _ = new_pair(lab, t, "third")
    t.da.json("sa", "add", "ipsec1", sa2)
    p = t.da.ctl("sa", "add", "ipsec1", sa3, check=False)
    assert p.returncode == 1 and "under way" in json.loads(p.stdout)["error"]
    for spi in (second.a.spi, second.b.spi):
        t.da.ctl("sa", "del", "ipsec1", f"{spi:#x}")
    assert sorted(spis(t.da, "in") + spis(t.da, "out")) == sorted([pair.a.spi, pair.b.spi])
    need_ping(t.h1, FAR["h1"])
    assert t.da.ctl("sa", "del", "ipsec1", "0x123", check=False).returncode == 3
    assert t.da.ctl("sa", "del", "ipsec1", "twelve", check=False).returncode == 2
    t.da.ctl("sa", "del", "ipsec1", str(pair.a.spi))
    wait_until(lambda: t.da.reason() == "no-sa", 2, lambda: t.da.reason())


def test_save(lab):
    """--save waits for both ends; the next start uses what both use now."""
    t = lab.two_gateways()
    pair, fa, fb = new_pair(lab, t, "kept")
    t.db.json("sa", "add", "ipsec1", fb)
    p = t.da.ctl("sa", "rekey", "ipsec1", fa, "--save", *(["--now"] if MODE else []), check=False)
    # the section stands in the test's own file: it is not for ipsecctl to edit
    r = json.loads(p.stdout.splitlines()[-1])
    assert p.returncode == 6 and r["code"] == "not-saved" and "in force" in r["error"], p.stdout
    wait_until(lambda: settled(t, pair), 8, lambda: told(t))
    for d, f in ((t.da, fa), (t.db, fb)):
        with open(d.conf_file) as c:
            text = c.read()
        d.write_conf(text.replace(text[text.index("file:"):].split()[0], f"file:{f}"))
        assert [c["action"] for c in d.json("apply")["changes"]] == ["keep"]
        d.kill()
        d.start()
    t.da.wait_up()
    assert in_use(t.da) == pair.a.spi
    need_ping(t.h1, FAR["h1"])
