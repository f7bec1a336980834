# SPDX-License-Identifier: GPL-2.0-or-later
"""Several paths under one link (seed, section 4): shares by weight and flow, failover without a change of the link's state."""
import socket
import threading
import time

import pytest

from lib.traffic import need_ping, ping
from lib.uplinks import build, in_use, paths, sent, slot, states
from lib.util import stays, wait_until

H1, H2 = "10.1.0.2", "10.2.0.2"


def both_ok(t):
    for d in (t.da, t.db):
        wait_until(lambda: states(d) == ["ok", "ok"], 5, lambda: f"both paths answer: {paths(d)}")


def flows(t, n, each=1, port=5600):
    """n UDP flows from h1 to h2. Returns {flow: sequence numbers in order of arrival}."""
    rx = t.h2.socket(socket.AF_INET, socket.SOCK_DGRAM)
    rx.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    rx.bind((H2, port))
    rx.settimeout(1)
    socks = [t.h1.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(n)]
    got = {}

    def take(want):
        for _ in range(want):
            try:
                data, who = rx.recvfrom(64)
            except socket.timeout:
                return
            got.setdefault(who[1], []).append(int(data))
    for k in range(each):
        for i, s in enumerate(socks):
            s.sendto(b"%d" % k, (H2, port))
            if i % 64 == 63:
                take(64)
        take(n % 64)
    for s in socks:
        s.close()
    rx.close()
    return got


def test_shares_by_weight_and_flow(lab):
    """weight 3 beside weight 1: three flows of four, and no flow on both, hence none out of order."""
    t = build(lab, "weight 3", "weight 1")
    both_ok(t)
    assert in_use(t.da) == [True, True]
    assert [p["share"] for p in paths(t.da)] == [0.75, 0.25]
    need_ping(t.h1, H2)
    before = [p["envelopes"] for p in paths(t.da)]
    wire = [sent(t.a, "eth1"), sent(t.a, "eth2")]
    got = flows(t, 400, each=5)
    assert len(got) == 400 and all(seen == list(range(5)) for seen in got.values()), "every flow whole and in order"
    want = [sum(slot(H1, H2, 17, f, 5600) % 4 != 2 for f in got) * 5, 0]  # 3:1 in turn: A A B A
    want[1] = 2000 - want[0]
    now = [p["envelopes"] for p in paths(t.da)]
    for i, dev in enumerate(("eth1", "eth2")):
        assert want[i] <= now[i] - before[i] <= want[i] + 100, f"path {i + 1}: {now[i] - before[i]} envelopes, {want[i]} packets"
        assert want[i] <= sent(t.a, dev) - wire[i] <= want[i] + 200, f"{dev}: {sent(t.a, dev) - wire[i]} frames"
    assert 1300 < want[0] < 1700


@pytest.mark.parametrize("weights", [("weight 1", "weight 1"), ("", "")])
def test_failover_is_no_event_for_the_link(lab, weights):
    """One wire goes silent: its flows move within the liveness window, the link stays up, and back again."""
    t = build(lab, *weights)
    both_ok(t)
    shares = bool(weights[0])
    assert in_use(t.da) == [True, shares], "without a weight the second stands by"
    need_ping(t.h1, H2)
    flaps = [d.link()["flaps"] for d in (t.da, t.db)]
    t.silence("eth1")
    start = time.monotonic()
    for d in (t.da, t.db):
        wait_until(lambda: in_use(d) == [False, True], 3, lambda: f"the first path is left: {paths(d)}")
    took = time.monotonic() - start
    assert ping(t.h1, H2, count=20)
    assert states(t.da) == ["no-answer", "ok"]
    assert paths(t.da)[1]["share"] == 1
    t.silence("eth1", False)
    for d in (t.da, t.db):
        wait_until(lambda: in_use(d) == [True, shares], 3, lambda: f"the first path is back: {paths(d)}")
    assert ping(t.h1, H2, count=20)
    assert [d.link()["flaps"] for d in (t.da, t.db)] == flaps, "the link never went down"
    assert t.da.is_up() and t.db.is_up()
    assert took < 2.5


def test_no_route_no_path(lab):
    """A path whose route is gone is left out at once, and the link's MTU is that of the narrowest way in use."""
    t = build(lab, "weight 1", "weight 1")
    both_ok(t)
    t.a.ip("link set eth2 mtu 1400")
    wait_until(lambda: t.da.link()["mtu"] == 1400 - 54, 3, lambda: f"the narrower path's MTU: {t.da.link()['mtu']}")
    t.a.ip("route add unreachable 203.0.113.2")
    wait_until(lambda: states(t.da) == ["ok", "no-route"], 2, lambda: f"no route: {paths(t.da)}")
    assert in_use(t.da) == [True, False]
    wait_until(lambda: t.da.link()["mtu"] == 1446, 3, lambda: f"the first path's MTU: {t.da.link()['mtu']}")
    need_ping(t.h1, H2)


def test_one_end_with_two_paths(lab):
    """The hub says `any` once: it follows what the peer calls its first choice, and nothing else."""
    from lib.topo import conf_text
    from lib.uplinks import DEVICES, TwoUplinks
    t = TwoUplinks(lab.net)
    lab.tap.protect(*t.inner)
    t.pair, ka, kb = lab.pair_files()
    slow = "200ms x 10"  # nothing here is about speed
    name, keys = t.link("a", ka, liveness=slow)
    keys["path"] = "\npath = ".join(t.paths("a", "weight 1", "weight 1"))
    t.da = lab.daemon(t.a, conf_text([(name, keys)], None, DEVICES), keys=[ka])
    t.db = lab.daemon(t.b, conf_text([t.link("b", kb, "any", liveness=slow)], None, DEVICES), keys=[kb])
    both = ["ok", "ok"]
    wait_until(lambda: states(t.da) == both, 8, lambda: f"both answer: {paths(t.da)}")
    t.db.wait_up()
    need_ping(t.h1, H2)
    wait_until(lambda: paths(t.db)[0]["remote"] == t.outer["a4"], 3, lambda: f"the hub has the first path: {paths(t.db)}")
    got = flows(t, 100)
    assert len(got) == 100
    stays(lambda: paths(t.db)[0]["remote"] == t.outer["a4"], 1, "the hub stays with the first path")
    t.silence("eth1")
    wait_until(lambda: paths(t.db)[0]["remote"] == t.outer2["a"], 8, lambda: f"the hub follows: {paths(t.db)}")
    need_ping(t.h1, H2)
    assert t.db.is_up() and t.da.is_up()


def test_hub_learns_both_paths(lab):
    """Two `any` lines: each is learned from probes that name it inside the ciphertext."""
    from lib.topo import conf_text
    from lib.uplinks import DEVICES, TwoUplinks
    t = TwoUplinks(lab.net)
    lab.tap.protect(*t.inner)
    t.pair, ka, kb = lab.pair_files()
    name, keys = t.link("a", ka, liveness="100ms x 5")
    keys["path"] = "\npath = ".join(t.paths("a", "weight 1", "weight 1"))
    t.da = lab.daemon(t.a, conf_text([(name, keys)], None, DEVICES), keys=[ka])
    t.db = lab.daemon(t.b, conf_text([t.link("b", kb, "any weight 1\npath = any weight 1", liveness="100ms x 5")], None, DEVICES),
                      keys=[kb])
    both_ok(t)
    assert [p["remote"] for p in paths(t.db)] == [t.outer["a4"], t.outer2["a"]]
    t.a.ip("addr del 203.0.113.1/24 dev eth2", "addr add 203.0.113.99/24 dev eth2")
    wait_until(lambda: [p["remote"] for p in paths(t.db)] == [t.outer["a4"], "203.0.113.99"], 3,
               lambda: f"the second path moved alone: {paths(t.db)}")
    both_ok(t)
    need_ping(t.h1, H2)


RATE, SECONDS, WARM = 100, 2.5, 0.7


class Stream(threading.Thread):
    """One TCP flow from a chosen port until stopped; how much arrived is counted."""

    def __init__(self, t, sport, port):
        super().__init__(daemon=True)
        self.got, self.done = 0, threading.Event()
        srv = t.h2.socket(socket.AF_INET, socket.SOCK_STREAM)
        srv.bind((H2, port))
        srv.listen(1)
        self.tx = t.h1.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.tx.bind((H1, sport))
        self.tx.settimeout(5)
        self.tx.connect((H2, port))
        self.rx, _ = srv.accept()
        srv.close()
        self.rx.settimeout(5)
        self.start()
        self.sender = threading.Thread(target=self.send, daemon=True)
        self.sender.start()

    def send(self):
        block = bytes(1 << 16)
        try:
            while not self.done.is_set():
                self.tx.send(block)
        except OSError:
            pass

    def run(self):
        try:
            while not self.done.is_set():
                n = len(self.rx.recv(1 << 16))
                if not n:
                    break
                self.got += n
        except OSError:
            pass

    def stop(self):
        self.done.set()
        self.tx.shutdown(socket.SHUT_RDWR)
        self.sender.join()
        self.join()
        self.tx.close()
        self.rx.close()


@pytest.mark.serial
def test_two_slow_uplinks_are_one_faster(lab, record_property):
    """Two wires of 100 Mbit/s carry 170 Mbit/s of four TCP flows on one link."""
    t = build(lab, "weight 1", "weight 1", liveness="200ms x 10")
    both_ok(t)
    need_ping(t.h1, H2)
    for ns in (t.a, t.b):
        for dev in ("eth1", "eth2"):
            ns.run(f"tc qdisc replace dev {dev} root tbf rate {RATE}mbit burst 32kb limit 300kb")
    ports = [next(p for p in range(41000 + 100 * i, 41100 + 100 * i) if slot(H1, H2, 6, p, 5700 + i) % 2 == i % 2) for i in range(4)]
    streams = [Stream(t, p, 5700 + i) for i, p in enumerate(ports)]
    best = 0
    try:
        for _ in range(3):  # something else may have the machine for a moment
            time.sleep(WARM)
            start, had = time.monotonic(), sum(s.got for s in streams)
            time.sleep(SECONDS)
            best = max(best, (sum(s.got for s in streams) - had) * 8 / 1e6 / (time.monotonic() - start))
            if best >= 170:
                break
    finally:
        for s in streams:
            s.stop()
    record_property("figure", f"two uplinks of {RATE} Mbit/s: four TCP flows on one link carry {best:.0f} Mbit/s")
    assert best >= 170, f"{best:.0f} Mbit/s: {paths(t.da)}"
