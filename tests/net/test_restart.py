# SPDX-License-Identifier: GPL-2.0-or-later
"""kill -9 and start again (I2, I5, I9): the same objects, no nonce twice, nothing replayable, all explained."""
import glob
import json
import os
import random
import signal

import pytest

from lib.esp_peer import Frame
from lib.leak import pinned_maps, unbalanced
from lib.traffic import Listener, Load, need_ping, ping
from lib.util import scaled, sh, wait_until

RESTARTS = scaled(5, 50, "ESPWIRE_RESTARTS")


def objects(d):
    """What stands of an instance: devices by ifindex, pins, the namespace itself."""
    inside = json.loads(sh(["nsenter", f"--net={d.backend}", "--", "ip", "-j", "link"]).stdout)
    outside = json.loads(d.ns.out("ip -j link"))
    return {
        "links": sorted((l["ifname"], l["ifindex"], l["address"]) for l in outside if l["ifname"].startswith("ipsec")),
        "backend ends": sorted((l["ifname"], l["ifindex"]) for l in inside if l["ifname"].startswith("b")),
        "number inside": len(inside),
        "pins": sorted(os.path.relpath(p, d.pin_dir) for p in glob.glob(d.pin_dir + "/**", recursive=True)),
        "map ids": [json.loads(sh(["bpftool", "-j", "map", "show", "pinned", m]).stdout)["id"] for m in pinned_maps(d.pin_dir)],
        "netns": os.stat(d.backend).st_ino,
        "rules": d.ns.out("ip rule"),
        "xfrm": sorted(d.ns.out("ip xfrm policy list nosock").splitlines()),  # of those made again the order is another
        "floors": d.ns.out("ip route show type unreachable") + d.ns.out("ip -6 route show type unreachable"),
    }


def changed(a, b):
    return {k: (a[k], b[k]) for k in a if a[k] != b[k]}


def test_same_objects_after_kill(lab):
    t = lab.two_gateways()
    need_ping(t.h1, "10.2.0.2")
    first = objects(t.da)
    assert first["links"] and first["backend ends"] and first["pins"]
    for n in range(3):
        t.da.kill()
        t.da.start()
        t.da.wait_up()
        assert not changed(first, objects(t.da))
        need_ping(t.h1, "10.2.0.2")
    assert len(t.da.guardians()) == 1


def test_same_objects_after_stop(lab):
    t = lab.two_gateways()
    first = objects(t.da)
    for _ in range(2):
        assert t.da.stop() == 0
        t.da.start()
        t.da.wait_up()
    assert not changed(first, objects(t.da))
    need_ping(t.h1, "10.2.0.2")


def test_nonce_never_repeats(lab, record_property):
    """RESTARTS times kill -9 under load on both ends with the same static keys; every envelope examined."""
    lab.whole_capture = True
    lab.tap.ask(f"pcap {lab.tap.dir} {1 << 28}")
    t = lab.two_gateways()
    need_ping(t.h1, "10.2.0.2")
    rnd = random.Random(os.environ.get("ESPWIRE_SEED", "11"))
    load = Load(lab, [(t.h1, "10.2.0.2"), (t.h2, "10.1.0.2")], gap=0.0003, size=200)
    for n in range(RESTARTS):
        load.more(rnd.randrange(20, 1500))
        for d in ((t.da,), (t.db,), (t.da, t.db))[n % 3]:
            d.kill()
        for d in (t.da, t.db):
            if not d.running():
                d.start()
        t.da.wait_up()
        t.db.wait_up()
        lab.verify_taps()
    load.stop()
    need_ping(t.h1, "10.2.0.2")
    r = lab.tap.report()["esp"]
    assert r["seq"]["unique"] > 300 * RESTARTS, "too little traffic to prove anything"
    assert r["seq"]["unique"] == r["iv"]["unique"]
    record_property("figure", f"{RESTARTS} x kill -9 under load: {r['seq']['unique']} envelopes captured, "
                              "0 repeated sequence numbers, 0 repeated IVs")


def envelopes(lab, t, spi, since=0):
    return [f for f in lab.tap.pcap(t.a, "eth1", True)[since:] if (lambda x: x.esp is not None and x.spi == spi)(Frame(f))]


@pytest.mark.parametrize("memory", ["pins-kept", "pins-lost"])
def test_capture_replayed_after_receiver_restart(lab, memory):
    """Nothing that was ever sent is taken again; with the pinned window, or with the durable mark alone."""
    # without memory the receiver's mark is ahead of the sender: a probe tells it where to go on
    t = lab.two_gateways(**({"liveness": "off"} if memory == "pins-kept" else {}))
    need_ping(t.h1, "10.2.0.2")
    since = len(lab.tap.pcap(t.a, "eth1", True))
    need_ping(t.h1, "10.2.0.2", count=50, interval=0.005)
    frames = envelopes(lab, t, t.pair.a.spi, since)
    assert len(frames) >= 50
    seen = Listener(t.h2, "eth0")
    if memory == "pins-kept":
        t.db.kill()
    else:
        t.db.stop()
        state = sh(["cp", "-a", t.db.state_dir, lab.path("state")]) and lab.path("state")
        t.db.release()
        if not os.path.isdir(t.db.state_dir):
            sh(["cp", "-a", state, t.db.state_dir])
    t.db.start()
    t.db.wait_up()
    out_of_link = Listener(t.b, "ipsec1")
    atk = lab.attacker(t.a, "eth1", t.b)
    for f in frames:
        atk.frame(f)

    def judged():
        j = t.db.json("drops")["links"][0]["in"]
        return j["replay-old"] + j["replay-dup"] >= len(frames)
    wait_until(judged, 3, lambda: f"{len(frames)} replays counted: {t.db.ctl('drops', check=False).stdout}")
    for tap in (out_of_link, seen):
        assert tap.count(lambda p: p[0] >> 4 == 4 and p[12:16] == bytes([10, 1, 0, 2])) == 0
        tap.close()
    need_ping(t.h1, "10.2.0.2", timeout=10)  # and the living sender is heard again
    lab.skip_checks.add("conservation")


def test_books_survive_the_daemon(lab):
    """Counters live in pinned maps; what the crash loses is worker-gone, never unexplained."""
    t = lab.two_gateways()
    need_ping(t.h1, "10.2.0.2", count=20)
    before = t.da.link()["tx"]["packets"]
    load = Load(lab, [(t.h1, "10.2.0.2")], gap=0.0002)
    load.more(300)
    t.da.kill()
    load.more(100)
    load.stop()
    t.da.start()
    t.da.wait_up()
    assert t.da.link()["tx"]["packets"] >= before + 20
    wait_until(lambda: not unbalanced(t.da.json("drops")["conservation"]), 3,
               lambda: f"balanced books: {t.da.json('drops')['conservation']}")
    c = t.da.json("drops")["conservation"][0]["out"]
    assert c["in_funnel"] == 0, c


def test_stale_instance_is_adopted_not_refused(lab):
    """Guardian, daemon, everything killed; no manual step before the next start."""
    t = lab.two_gateways()
    for p in t.da.guardians():
        os.kill(p, signal.SIGKILL)
    t.da.kill()
    t.da.start()
    t.da.wait_up()
    need_ping(t.h1, "10.2.0.2")
    assert len(t.da.guardians()) == 1


def test_second_daemon_of_an_instance_is_refused(lab):
    t = lab.two_gateways()
    p = t.a.run([*t.da.argv()], check=False, timeout=15)
    assert p.returncode != 0
    assert t.da.running() and t.da.is_up()
    assert ping(t.h1, "10.2.0.2")


def test_release_leaves_nothing_and_start_works_again(lab):
    t = lab.two_gateways()
    t.da.stop()
    t.da.release()
    assert not t.da.remains()
    for what in ("ip -o link", "ip route", "ip xfrm policy", "nft list ruleset", "tc qdisc show dev eth1"):
        text = t.a.out(what)
        assert "ipsec1" not in text and "espwire" not in text and "clsact" not in text, f"{what}: {text}"
    t.da.start()
    t.da.wait_up()
    need_ping(t.h1, "10.2.0.2")
