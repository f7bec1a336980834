# SPDX-License-Identifier: GPL-2.0-or-later
"""Address inertia (seed, section 6): a restarted gateway calls its road warriors where they were last heard."""
import json
import os
import socket
import time

import pytest

from lib.topo import conf_text
from lib.traffic import need_ping
from lib.uplinks import Echo, many, paths
from lib.util import scaled, stays, wait_until
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw, raw

LINKS = scaled(500, 5000, "ESPWIRE_INERTIA_LINKS")
ANSWER_S = 15 if LINKS > 1000 else 5  # ipsecctl waits that long


def journal(d):
    return os.path.join(d.state_dir, "endpoints")


def lines(d):
    try:
        with open(journal(d)) as f:
            return f.read().splitlines()
    except FileNotFoundError:
        return []


def while_it_starts(d):
    """Ask until it is ready, and then once. Return: the answers before, and the longest that one took."""
    told, longest = [], 0
    while True:
        asked = time.monotonic()
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.settimeout(ANSWER_S)
        try:
            s.connect(f"{d.run_dir}/ctl.sock")
            s.sendall(b'{"schema":1,"verb":"show","args":{}}\n')
            with s.makefile() as f:
                answer = json.loads(f.readline())
        except (FileNotFoundError, ConnectionRefusedError):  # it has only just begun
            answer = None
        finally:
            s.close()
        longest = max(longest, time.monotonic() - asked)
        if answer and answer["ok"]:
            return told, longest
        if answer:
            assert (answer["code"], answer["exit"]) == ("starting", 5), answer
            told.append(answer)
        time.sleep(0.02)


@pytest.mark.serial
def test_a_restarted_gateway_calls_everybody(lab, record_property):
    """The warriors only answer. The gateway learned where they are, is killed, and asks them all within 10 s of its start."""
    t = lab.two_hosts(hosts=False)
    lab.tap.protect("10.64.0.0/11")
    sides, keys = many(lab, t.outer["b4"], "any from 198.51.100.0/24", LINKS, liveness="off")
    for _, link in sides["b"]:
        link["liveness"] = "2s x 5"
    for _, link in sides["a"] + sides["b"] if LINKS > 1000 else ():
        link["link-local"] = "no"  # as ipsecd.conf(5) says of thousands
    size = {"max-links": 8192}
    for side, ns in (("a", t.a), ("b", t.b)):
        d = lab.daemon(ns, conf_text(sides[side], size), keys=keys[side], start=False)
        d.start(timeout=300)
        setattr(t, f"d{side}", d)
    Echo(lab, t.a, LINKS).all_answer(60)  # a word from each
    wait_until(lambda: len(lines(t.db)) >= LINKS, 10, lambda: f"{len(lines(t.db))} lines", poll=0.1)
    t.db.kill()
    start = time.monotonic()
    t.db.start(wait=False)
    told, longest = while_it_starts(t.db)
    ready = time.monotonic() - start
    assert t.db.ready() and told, "it is never silent"
    far = [a["done"] for a in told if a["doing"] == "links"]
    assert far == sorted(far) and {a["of"] for a in told if a["doing"] == "links"} <= {LINKS}, told
    peers = wait_until(lambda: (p := t.db.show()["daemon"]["peers"])["heard"] == LINKS and p, 60,
                       lambda: f"all answer: {t.db.show()['daemon']['peers']}", poll=0.1)
    assert peers["known"] == peers["asked"] == LINKS
    record_property("figure", f"{LINKS} links adopted in {ready:.1f} s, endpoints from the journal: last peer asked "
                              f"{peers['asked_s']:.1f} s and heard {peers['heard_s']:.1f} s after the start; "
                              f"longest wait for an answer {longest:.1f} s")
    assert f"all {LINKS} known peers asked" in t.db.log_now()
    assert peers["asked_s"] < 10 * max(1, LINKS / 5000), peers
    wait_until(lambda: t.db.show()["daemon"]["links_up"] == LINKS, 30, "all up", poll=0.2)


def test_only_where_it_may_be(lab):
    """`from` bounds what is followed, `at` is where to begin: both of the seed's two items."""
    t = lab.two_hosts()
    t.pair, ka, _ = lab.pair_files()
    from lib.esp_peer import Peer
    t.peer = Peer(t.b, "eth1", t.outer["b4"], t.outer["a4"], tx=t.pair.b, rx=t.pair.a)
    lab.closers.append(t.peer.close)
    t.b.ip("addr add 198.51.100.77/24 dev eth1", "addr add 198.51.100.130/24 dev eth1")
    t.da = lab.daemon(t.a, [t.link("a", ka, "any from 198.51.100.0/25,2001:db8::/32 at 198.51.100.2", liveness="off")], keys=[ka])
    t.da.wait_up()

    def say_from(addr):
        t.peer.sock.close()
        t.peer.sock = t.b.socket(socket.AF_INET, socket.SOCK_RAW, 50)
        t.b.enter(t.peer.sock.bind, (addr, 0))
        t.peer.send_raw(t.peer.seal(raw(IP(src="10.2.0.2", dst="10.1.0.2") / UDP(dport=4242) / Raw(b"here"))))

    assert paths(t.da)[0]["remote"] == "198.51.100.2" and not paths(t.da)[0]["learned"]
    got = t.da.link()["rx"]["packets"]
    say_from("198.51.100.130")
    wait_until(lambda: t.da.link()["rx"]["packets"] == got + 1, 2, "authentic, so delivered")
    stays(lambda: paths(t.da)[0]["remote"] == "198.51.100.2", 0.5, "but not followed")
    assert lines(t.da) == []
    say_from("198.51.100.77")
    wait_until(lambda: paths(t.da)[0]["remote"] == "198.51.100.77", 2, "followed")
    wait_until(lambda: len(lines(t.da)) == 1, 3, "and written down")
    assert lines(t.da)[0].split()[:4] == ["east", "0", "198.51.100.77", "0"]
    t.da.kill()
    with open(journal(t.da), "a") as f:
        f.write("east 0 198.51.100.130 0 17900")  # torn
    t.da.start()
    assert paths(t.da)[0]["remote"] == "198.51.100.77" and paths(t.da)[0]["learned"]
    assert "1 damaged line" in t.da.log_now()
    t.da.stop()
    t.da.write_conf(conf_text([t.link("a", ka, "any from 198.51.100.0/26 at 198.51.100.2", liveness="off")]))
    t.da.start()
    assert paths(t.da)[0]["remote"] == "198.51.100.2", "what was written down is outside now"


def test_restart_while_the_peer_is_silent(lab):
    """Both ends are ipsecd, the hub knows nobody by configuration: killed and started, it asks first."""
    t = lab.two_gateways(path_b="any", liveness="500ms x 4")
    need_ping(t.h1, "10.2.0.2")
    wait_until(lambda: lines(t.db), 3, "written down")
    t.db.kill()
    t.db.start()
    assert paths(t.db)[0]["remote"] == t.outer["a4"]
    t.db.wait_up()
    need_ping(t.h2, "10.1.0.2")
