# SPDX-License-Identifier: GPL-2.0-or-later
"""Two gateways keyed by Debian's unmodified charon: one file a gateway, up in a second, and both tell the same story.

lab.verify() hunts for the keys that charon has made, in ipsecd's log, its maps, its answers and charon's own log.
"""
import os
import secrets
import time

import pytest

from lib.charon import Charon, need
from lib.topo import conf_text
from lib.traffic import need_ping, ping
from lib.util import wait_until

FAR = {"h1": "10.2.0.2", "h2": "10.1.0.2"}


def secret(lab, name="psk"):
    path = lab.path(name)
    with open(path, "w") as f:
        f.write(secrets.token_urlsafe(32) + "\n")
    os.chmod(path, 0o600)
    return path


def gateways(lab, start=True, wild=None, path_a=None, path_b=None, over_a=None, over_b=None, charon=None, ipsecd=None, **over):
    """Topology with .da, .db (ipsecd) and .ca, .cb (charon); nobody starts by himself."""
    need()
    t = lab.two_hosts(**(wild or {}))
    keys = {"ike-start": "no", **over}
    if "ike-cert" not in {**keys, **(over_a or {})}:
        keys["ike-psk"] = secret(lab)
    for side, ns, peer, path, mine in (("a", t.a, "east", path_a, over_a), ("b", t.b, "west", path_b, over_b)):
        link = t.link(side, None, path, **{"ike": peer, **keys, **(mine or {})})
        d = lab.daemon(ns, conf_text([link], {"vici-socket": lab.path(f"charon-{ns.role}/vici"), **(ipsecd or {})}), start=start)
        c = d.ike = Charon(lab, ns, d, **(charon or {}))
        setattr(t, "d" + side, d)
        setattr(t, "c" + side, c)
        if start:
            c.start()
    if start:
        for d, c in ((t.da, t.ca), (t.db, t.cb)):
            wait_until(lambda: c.conns(), 5, lambda: f"a connection\n{d.log()}\n{c.log()}")
    return t


def sas(d, way, name="ipsec1"):
    return {int(s["spi"], 16): s for s in d.link(name)["sas"] if s["dir"] == way}


def in_use(d, way="out"):
    return next((spi for spi, s in sas(d, way).items() if s["in_use"]), None)


def up(t):
    t.da.ctl("up", "ipsec1")
    t.da.wait_up()
    t.db.wait_up()
    return t


def test_up_within_a_second(lab):
    """By one verb, with AES-256-GCM and ESN; ipsecctl and swanctl agree about SPIs and counters on both ends."""
    t = gateways(lab, charon={"knl": 4})
    assert t.da.reason() == "no-sa" and t.da.show()["daemon"]["ike"]["connected"]
    began = time.monotonic()
    r = t.da.json("up", "ipsec1")
    took = time.monotonic() - began
    assert r["links"][0]["state"] == "up"
    assert took < 1, f"{took:.2f} s"
    t.db.wait_up()
    need_ping(t.h1, FAR["h1"])
    need_ping(t.h1, "fd02::2")
    assert ping(t.h2, FAR["h2"], count=20)
    for d, c in ((t.da, t.ca), (t.db, t.cb)):
        (child,) = c.child_sas()
        (spi_in, s_in), (spi_out, s_out) = sas(d, "in").popitem(), sas(d, "out").popitem()
        assert (int(child["spi-in"], 16), int(child["spi-out"], 16)) == (spi_in, spi_out)
        assert (child["encr-alg"], child["encr-keysize"], child.get("esn")) == ("AES_GCM_16", "256", "1")
        assert child["state"] == "INSTALLED" and child["if-id-in"] == "00000001" and child["mode"] == "TUNNEL"
        for s in (s_in, s_out):
            assert s["alg"] == "aes-gcm-256" and s["esn"] and s["live"] and s["source"] == "ike"
        assert int(child["packets-in"]) > 20 and int(child["use-in"]) < 5
        before, after = s_in, sas(d, "in")[spi_in]  # probes go on meanwhile
        assert before["packets"] <= int(child["packets-in"]) + 50 and int(child["packets-in"]) <= after["packets"]
        assert int(child["bytes-out"]) <= sas(d, "out")[spi_out]["bytes"]
    assert in_use(t.da) == in_use(t.db, "in") and in_use(t.da, "in") == in_use(t.db)
    st = t.da.json("status")["links"][0]
    assert st["sas"][0]["state"] == "ESTABLISHED" and st["state"] == "up"
    assert t.ca.keys() and sorted(t.ca.keys()) == sorted(t.cb.keys())
    t.da.ctl("down", "ipsec1")
    wait_until(lambda: t.da.reason() == t.db.reason() == "no-sa", 5, lambda: t.da.ctl("show").stdout)
    assert not t.da.link()["sas"] and not t.db.link()["sas"]
    assert not ping(t.h1, FAR["h1"], count=2, timeout=0.5)  # and the tap sees that nothing left in the clear
