# SPDX-License-Identifier: GPL-2.0-or-later
"""A thousand links on one ipsecd: made quickly, all working, shown quickly, no socket or TAP more than for one."""
import json
import os
import random
import time

import pytest

from lib.keys import Pair
from lib.topo import conf_text
from lib.traffic import ping
from lib.util import scaled, sh, wait_until

pytestmark = pytest.mark.serial

LINKS = scaled(1000, 1000, "ESPWIRE_LINKS")


def far(n):
    return f"10.{64 + n // 250}.{n % 250}"


def make(lab, t, count):
    """count links between the two gateways, addresses from 10.64/10, key files on disk."""
    sides = {"a": [], "b": []}
    keys = {"a": [], "b": []}
    for n in range(1, count + 1):
        pair = Pair()
        for side, own, other in (("a", 1, 2), ("b", 2, 1)):
            key = pair.write(lab.path(f"{side}{n}.sa"), side)
            keys[side].append(key)
            sides[side].append((f"ipsec{n}", {
                "peer": f"peer{n}", "address": f"{far(n)}.{own} peer {far(n)}.{other}",
                "path": t.outer["b4" if side == "a" else "a4"], "liveness": "2s x 3", "sa": f"file:{key}"}))
    return sides, keys


def sockets_and_taps(d):
    """AF_XDP sockets and TAP devices of the instance, as the kernel knows them."""
    perf = d.json("perf")["workers"]
    taps = [l for l in json.loads(sh(["nsenter", f"--net={d.backend}", "--", "ip", "-j", "-d", "link"]).stdout)
            if l.get("linkinfo", {}).get("info_kind") == "tun"]
    fds = 0
    for fd in os.listdir(f"/proc/{d.proc.pid}/fd"):
        try:
            fds += os.readlink(f"/proc/{d.proc.pid}/fd/{fd}").startswith("socket:")
        except OSError:
            pass
    return {"taps": len(taps), "xsks": sum(w["xsks"] for w in perf), "perf taps": sum(w["taps"] for w in perf)}, fds


def up_devices(ns):
    return sum(l["operstate"] == "UP" and l["ifname"].startswith("ipsec") for l in json.loads(ns.out("ip -j link")))


def create(d):
    start = time.monotonic()
    d.start(timeout=120)
    return time.monotonic() - start


def test_a_thousand_links(lab, record_property):
    t = lab.two_hosts(hosts=False)
    sides, keys = make(lab, t, LINKS)
    lab.tap.protect("10.64.0.0/12")
    big = {"max-links": 4096}
    # one link first: the yardstick
    t.da = lab.daemon(t.a, conf_text(sides["a"][:1], big), keys=keys["a"])
    one, fds1 = sockets_and_taps(t.da)
    t.da.stop()
    t.db = lab.daemon(t.b, conf_text(sides["b"], big), keys=keys["b"], start=False)
    t.da.write_conf(conf_text(sides["a"], big))
    limit = 10 * max(1, LINKS / 1000)
    made = create(t.da)
    if made > limit:  # something else had the machine: once more, from nothing
        t.da.stop()
        t.da.release(timeout=120)
        made = min(made, create(t.da))
    t.db.start(timeout=120)
    assert len(t.da.show()["links"]) == LINKS
    many, fds = sockets_and_taps(t.da)
    assert many == one, "funnels follow workers, not links"
    assert fds <= fds1 + 2, f"sockets: {fds1} for one link, {fds} for {LINKS}"
    for d in (t.da, t.db):
        wait_until(lambda: d.show()["daemon"]["links_up"] == LINKS, 30,
                   lambda: f"all up: {d.show()['daemon']['links_up']} of {LINKS}", poll=0.2)
    for ns in (t.a, t.b):  # the kernel takes link events in portions; until then the routes stay dead
        wait_until(lambda: up_devices(ns) == LINKS, 30, lambda: f"{ns.role}: {up_devices(ns)} devices UP", poll=0.2)
    took = []
    for _ in range(5):
        start = time.monotonic()
        t.da.ctl("show")
        took.append(time.monotonic() - start)
    for n in random.Random(5).sample(range(1, LINKS + 1), min(50, LINKS)):
        wait_until(lambda: ping(t.a, f"{far(n)}.2", count=1), 8, f"traffic on ipsec{n}")
    record_property("figure", f"{LINKS} links created in {made:.1f} s, show --json in {min(took) * 1000:.0f} ms, "
                              f"{many['xsks']} XSKs and {many['taps']} TAP as for 1 link")
    assert made <= 60 * max(1, LINKS / 1000), f"creation took {made:.1f} s"  # 10 s is the goal; a loaded machine is no bug
    assert min(took) <= 0.2, f"show --json took {min(took) * 1000:.0f} ms"
    start = time.monotonic()
    t.da.stop()
    t.da.release(timeout=120)
    record_property("figure", f"{LINKS} links stopped and released in {time.monotonic() - start:.1f} s")
    assert not t.da.remains()
    assert "ipsec" not in t.a.out("ip -o link")
