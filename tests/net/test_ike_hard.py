# SPDX-License-Identifier: GPL-2.0-or-later
"""IKE where it is not easy: everything protected, daemons that hang or die together, many links at once."""
import signal
import time

import pytest

from lib import leak
from lib.charon import Charon, need
from lib.stream import Stream
from lib.topo import conf_text
from lib.traffic import need_ping, ping
from lib.util import scaled, wait_until
from test_ike import FAR, gateways, in_use, secret, settled, told, up

ALL = "0.0.0.0/0, ::/0"


def test_everything_protected(lab):
    """A full tunnel: IKE and ESP leave by the real device, unaltered and in spite of the route; nothing else does."""
    t = gateways(lab, over_a={"protect": ALL, "route": "0.0.0.0/1, 128.0.0.0/1, 2000::/3", "inner": ALL})
    lab.tap.protect("203.0.113.0/24")
    t.b.ip("addr add 203.0.113.9/32 dev lo")
    assert not ping(t.h1, "203.0.113.9", count=1, timeout=0.3)
    up(t)
    need_ping(t.a, "203.0.113.9")
    had = in_use(t.da), in_use(t.da, "in")
    t.ca.swanctl("--rekey", "--ike", "east")
    # its children are not to be had while the IKE SA itself is being renewed
    wait_until(lambda: not t.da.ctl("rekey", "ipsec1", check=False).returncode, 5, lambda: t.ca.log()[-2000:])
    wait_until(lambda: settled(t, had), 10, lambda: told(t))
    need_ping(t.a, "203.0.113.9")
    assert lab.tap.report()["esp"]["ike"] > 0, "IKE was seen on the wire"
    t.da.ctl("down", "ipsec1")
    wait_until(lambda: t.da.reason() == "no-sa", 5, "down")
    assert not ping(t.a, "203.0.113.9", count=2, timeout=0.3)
    t.da.ctl("up", "ipsec1")
    t.da.wait_up()
    need_ping(t.a, "203.0.113.9")


def test_charon_hangs(lab):
    """Its SAs carry on, ipsecd is not delayed, verbs say so in words; awake again, it knows its SAs."""
    t = up(gateways(lab))
    need_ping(t.h1, FAR["h1"])
    stream = Stream(lab, t)
    t.ca.proc.send_signal(signal.SIGSTOP)
    stream.more(50)
    began = time.monotonic()
    assert t.da.is_up() and time.monotonic() - began < 1
    r = t.da.ctl("status", check=False)
    assert r.returncode == 1 and "timed out" in r.stdout, r.stdout
    stream.more(50)
    t.ca.proc.send_signal(signal.SIGCONT)
    had = in_use(t.da), in_use(t.da, "in")
    t.da.ctl("rekey", "ipsec1")
    wait_until(lambda: settled(t, had), 10, lambda: told(t))
    stream.all_arrived()


def test_ipsecd_hangs(lab):
    """charon's calls end after two seconds and it lives; awake again, all is as before."""
    t = up(gateways(lab))
    need_ping(t.h1, FAR["h1"])
    had = in_use(t.da), in_use(t.da, "in")
    t.da.signal(signal.SIGSTOP)
    began = time.monotonic()
    t.ca.swanctl("--rekey", "--child", "east", check=False)
    wait_until(lambda: "no answer from ipsecd" in t.ca.log(), 10, lambda: t.ca.log()[-2000:])
    assert time.monotonic() - began < 6
    assert t.ca.conns(), "it answers"
    t.da.signal(signal.SIGCONT)
    t.da.wait_up(timeout=10)
    need_ping(t.h1, FAR["h1"])
    wait_until(lambda: t.da.show()["daemon"]["ike"]["connected"], 5, "the plugin comes back")
    had = {in_use(t.da), in_use(t.da, "in"), *had}

    def renewed():
        t.da.ctl("rekey", "ipsec1", check=False)
        return not {in_use(t.da), in_use(t.da, "in")} & had

    wait_until(renewed, 15, lambda: told(t), poll=0.5)
    need_ping(t.h1, FAR["h1"])


def link_n(t, side, n, psk):
    me, far = (1, 2) if side == "a" else (2, 1)
    who = {1: f"west{n}", 2: f"east{n}"}
    return (f"ipsec{n}", {"peer": who[far], "address": f"10.{100 + n // 250}.{n % 250}.{me} peer 10.{100 + n // 250}.{n % 250}.{far}",
                          "path": t.outer[("b" if side == "a" else "a") + "4"], "liveness": "500ms x 6", "ike": who[far], "ike-psk": psk,
                          "ike-id": f"{who[me]}.example", "ike-peer-id": f"{who[far]}.example",
                          "ike-start": "yes" if side == "a" else "no"})


@pytest.mark.serial
def test_storm(lab, record_property):
    """Many links at once, each with an IKE SA of its own; then every child is renewed at once."""
    need()
    n = scaled(20, 200, "IKE_STORM")
    t = lab.two_hosts(hosts=False)
    psk = secret(lab)
    for side, ns in (("b", t.b), ("a", t.a)):
        links = [link_n(t, side, k, psk) for k in range(1, n + 1)]
        d = lab.daemon(ns, conf_text(links, {"vici-socket": lab.path(f"charon-{ns.role}/vici"), "max-links": 256}))
        d.ike = c = Charon(lab, ns, d, extra="dos_protection = no")  # all come from one address
        setattr(t, "d" + side, d)
        setattr(t, "c" + side, c)
        began = time.monotonic()
        c.start()
        wait_until(lambda: c.conns().count("/ESP") + c.conns().count("TUNNEL") >= n, 20, lambda: c.conns()[-500:])
    count = lambda d: sum(x["state"] == "up" for x in d.show()["links"])
    wait_until(lambda: count(t.da) == count(t.db) == n, 10 + n / 5, lambda: f"{count(t.da)}, {count(t.db)} of {n}\n{t.ca.log()[-2000:]}")
    took = time.monotonic() - began
    assert took < 10, f"{took:.1f} s"
    had = {s["spi"] for x in t.da.show()["links"] for s in x["sas"]}
    flaps = [x["flaps"] for x in t.da.show()["links"]]
    began = time.monotonic()
    assert all(t.ca.vici_queue("rekey", *({"child": f"east{k}"} for k in range(1, n + 1))))

    def renewed():
        now = {s["spi"] for x in t.da.show()["links"] for s in x["sas"]}
        return len(now) == 2 * n and not now & had

    wait_until(renewed, 20 + n / 5, lambda: t.ca.log()[-2000:])
    again = time.monotonic() - began
    record_property("figure", f"IKE: {n} links up {took:.1f} s after charon's start, all renewed in {again:.1f} s")
    assert again < 10, f"{again:.1f} s"
    assert [x["flaps"] for x in t.da.show()["links"]] == flaps
    assert count(t.da) == count(t.db) == n


def everywhere(t):
    """Every log that a gateway's two daemons write, at the levels they were given."""
    return {f"{who} of {c.ns.role}": text for d, c in ((t.da, t.ca), (t.db, t.cb))
            for who, text in (("ipsecd", d.log_bytes()), ("charon", c.log().encode()))}


def test_no_key_in_any_log(lab):
    """ipsecd at debug, charon at its highest level: set up, renewed, refused, died, and not a key nor the secret in any log."""
    t = gateways(lab, charon={"level": 4}, args=("-d",))
    with open(lab.path("psk")) as f:
        psk = f.read().strip().encode()
    up(t)
    for d in (t.da, t.db):
        had = in_use(t.da), in_use(t.da, "in")
        d.ctl("rekey", "ipsec1")
        wait_until(lambda: settled(t, had), 10, lambda: told(t))
    had = in_use(t.da), in_use(t.da, "in")
    t.db.kill()
    t.db.start()
    wait_until(lambda: settled(t, had), 20, lambda: told(t))
    had = in_use(t.da), in_use(t.da, "in")
    t.ca.kill()
    t.ca.start()
    wait_until(lambda: settled(t, had), 20, lambda: told(t))
    need_ping(t.h1, FAR["h1"])
    keys = t.ca.keys() + t.cb.keys()
    places = everywhere(t)
    assert len(set(keys)) >= 8 * 3, "there are keys to hunt for"
    assert b"load-shared" in places[f"charon of {t.a.role}"] and b"ike east: load-shared" in places[f"ipsecd of {t.a.role}"]
    assert not leak.hunt([*set(keys), psk[:40]], places)
