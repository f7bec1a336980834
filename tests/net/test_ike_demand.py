# SPDX-License-Identifier: GPL-2.0-or-later
"""ike-start = on-demand: a link without SAs that lets packets in, has them made for the first one, and ends them when there are no more."""
import subprocess
import time

from lib.traffic import need_ping, ping
from lib.util import FULL, stays, wait_until
from test_ike import FAR, gateways, told


def dormant(t):
    l = t.da.link()
    return (l["state"], l["reason"], l["carrier"], t.da.oper()) == ("dormant", "on-demand", True, "DORMANT") and not l["sas"]


def begun(t):
    return t.ca.log().count("initiating IKE_SA")


def no_sa(t):
    return t.da.json("drops ipsec1")["links"][0]["out"].get("no-sa", 0)


def by_demand(lab, **over):
    t = gateways(lab, over_a={"ike-start": "on-demand", **over})
    wait_until(lambda: dormant(t), 5, lambda: told(t))
    return t


def test_the_first_packet_brings_it_up(lab, record_property):
    """Silence until then, of IKE as well; one IKE SA under a burst; and when nobody sends, it is as before."""
    t = by_demand(lab, **{"ike-idle": "2s"})
    stays(lambda: dormant(t) and not begun(t) and not t.ca.swanctl("--list-sas").stdout, 1, lambda: f"nobody asks, nobody begins: {told(t)}")
    before = no_sa(t)
    began = time.monotonic()
    bursts = [t.h1.popen(["ping", "-nq", "-c", "300", "-i", "0.002", FAR["h1"]], stdout=subprocess.DEVNULL) for _ in range(3)]
    t.da.wait_up(timeout=5)
    took = time.monotonic() - began
    record_property("figure", f"IKE on demand: up {took:.2f} s after the first packet, {no_sa(t) - before} packets dropped meanwhile")
    for p in bursts:
        p.wait(timeout=20)
    need_ping(t.h1, FAR["h1"])
    assert no_sa(t) > before and begun(t) == 1, told(t)
    wait_until(lambda: dormant(t) and not t.db.link()["sas"], 10, lambda: told(t))  # with probes going all the time
    assert t.da.link()["flaps"] == 0 and not t.ca.swanctl("--list-sas").stdout
    assert not ping(t.h1, "fd02::2", count=1, timeout=0.2)  # dropped, and IPv6 is as good a reason
    t.da.wait_up(timeout=5)
    need_ping(t.h1, "fd02::2")
    assert begun(t) == 2


def test_nobody_there(lab):
    """Then the link goes down for a while, and routes with other metrics get the packets; with nothing to go by it is not dormant."""
    t = by_demand(lab)
    t.ca.kill()
    wait_until(lambda: (t.da.reason(), t.da.oper()) == ("no-ike", "DOWN") or t.da.oper() == "LOWERLAYERDOWN", 5, lambda: told(t))
    t.ca.start()
    wait_until(lambda: dormant(t), 5, lambda: told(t))
    t.a.ip("link set eth1 down")
    wait_until(lambda: t.da.reason() == "no-route", 5, lambda: told(t))
    assert t.da.link()["state"] == "down"
    t.a.ip("link set eth1 up", "route replace default via 198.51.100.2")
    wait_until(lambda: dormant(t), 5, lambda: told(t))
    if not FULL:
        return
    t.cb.kill()
    assert not ping(t.h1, FAR["h1"], count=1, timeout=0.3)
    wait_until(lambda: t.da.link()["state"] == "down" and t.da.reason() == "no-sa", 15, lambda: told(t))
    wait_until(lambda: dormant(t), 40, lambda: told(t))
    t.cb.start()
    assert not ping(t.h1, FAR["h1"], count=1, timeout=0.3)
    t.da.wait_up(timeout=10)
