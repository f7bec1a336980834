# SPDX-License-Identifier: GPL-2.0-or-later
"""Two gateways keyed by Debian's unmodified charon: one file a gateway, up in a second, and both tell the same story.

lab.verify() hunts for the keys that charon has made, in ipsecd's log, its maps, its answers and charon's own log.
"""
import os
import secrets
import subprocess
import time

import pytest

from lib.charon import Charon, need
from lib.daemon import Monitor
from lib.stream import Stream
from lib.topo import conf_text
from lib.traffic import need_ping, ping
from lib.util import scaled, stays, tool, wait_until

FAR = {"h1": "10.2.0.2", "h2": "10.1.0.2"}


def secret(lab, name="psk"):
    path = lab.path(name)
    with open(path, "w") as f:
        f.write(secrets.token_urlsafe(32) + "\n")
    os.chmod(path, 0o600)
    return path


def gateways(lab, start=True, wild=None, path_a=None, path_b=None, over_a=None, over_b=None, charon=None, ipsecd=None, args=(), **over):
    """Topology with .da, .db (ipsecd) and .ca, .cb (charon); nobody starts by himself."""
    need()
    t = lab.two_hosts(**(wild or {}))
    keys = {"ike-start": "no", **over}
    if "ike-cert" not in {**keys, **(over_a or {})}:
        keys["ike-psk"] = secret(lab)
    for side, ns, peer, path, mine in (("a", t.a, "east", path_a, over_a), ("b", t.b, "west", path_b, over_b)):
        link = t.link(side, None, path, **{"ike": peer, **keys, **(mine or {})})
        d = lab.daemon(ns, conf_text([link], {"vici-socket": lab.path(f"charon-{ns.role}/vici"), **(ipsecd or {})}), start=start, args=args)
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


@pytest.mark.serial
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


def rekeyed(t, d, had):
    """One pair each way, another one than before, the same on both ends."""
    a, b = (in_use(t.da), in_use(t.da, "in")), (in_use(t.db), in_use(t.db, "in"))
    return a == b[::-1] and not set(a) & set(had) and all(len(sas(x, w)) == 1 for x in (t.da, t.db) for w in ("in", "out"))


def test_renewals_lose_nothing(lab):
    """By either end and by both at once, under a numbered stream; no flap, and the old SAs are gone."""
    t = up(gateways(lab))
    need_ping(t.h1, FAR["h1"])
    flaps = t.da.link()["flaps"], t.db.link()["flaps"]
    stream = Stream(lab, t)
    for n in range(scaled(6, 100, "IKE_REKEYS")):
        had = in_use(t.da), in_use(t.da, "in")
        both = [t.da, t.db] if n % 3 == 2 else [(t.da, t.db)[n % 3]]
        stream.more(20)
        began = [d.ns.popen([tool("ipsecctl"), "-i", d.instance, "rekey", "ipsec1"], stdout=subprocess.DEVNULL) for d in both]
        for p in began:
            assert p.wait(timeout=15) == 0 or len(both) == 2  # of two renewals that meet, one gives way
        wait_until(lambda: rekeyed(t, t.da, had), 10, lambda: f"{n}: {t.da.ctl('sa list').stdout}{t.db.ctl('sa list').stdout}")
    stream.more(20)
    stream.all_arrived()
    assert (t.da.link()["flaps"], t.db.link()["flaps"]) == flaps


def settled(t, had=()):
    """One live pair on both ends, each other's, none of it of had."""
    a, b = (in_use(t.da), in_use(t.da, "in")), (in_use(t.db), in_use(t.db, "in"))
    return None not in a and a == b[::-1] and not set(a) & set(had) and t.da.is_up() and t.db.is_up() and \
        all(len(sas(d, w)) == 1 for d in (t.da, t.db) for w in ("in", "out"))


def told(t):
    return f"{t.da.ctl('sa list').stdout}{t.db.ctl('sa list').stdout}\n{t.da.log()[-2000:]}\n{t.db.log()[-2000:]}\n{t.ca.log()[-3000:]}"


SWANCTL = """
connections {{ {name} {{
    version = 2
    remote_addrs = {remote}
    local {{ auth = psk }}
    remote {{ auth = psk }}
    children {{ {name} {{
        policies = {policies}
        if_id_in = {if_id}
        if_id_out = {if_id}
        local_ts = 0.0.0.0/0,::/0
        remote_ts = 0.0.0.0/0,::/0
        esp_proposals = {esp}
        {more}
    }} }}
}} }}
secrets {{ ike-x {{ secret = "a secret of the laboratory" }} }}
"""


def own_connections(lab, policies="no", if_id=1, esp="aes256gcm16-esn", **more):
    """strongSwan's own configuration, as an admin writes it; the links only name it."""
    need()
    t = lab.two_hosts()
    for side, ns, peer, far in (("a", t.a, "east", "b4"), ("b", t.b, "west", "a4")):
        d = lab.daemon(ns, conf_text([t.link(side, None, ike=peer)], {"vici-socket": lab.path(f"charon-{ns.role}/vici")}))
        c = d.ike = Charon(lab, ns, d).start()
        with open(c.path("swanctl.conf"), "w") as f:
            f.write(SWANCTL.format(name=peer, remote=t.outer[far], policies=policies, if_id=if_id, esp=esp,
                                   more="\n".join(f"{k} = {v}" for k, v in more.items()) if side == "a" else ""))
        c.swanctl("--load-all", "--file", c.path("swanctl.conf"))
        setattr(t, "d" + side, d)
        setattr(t, "c" + side, c)
    return t


@pytest.mark.parametrize("more", [{"rekey_packets": 300, "life_packets": 600, "rand_packets": 0},
                                  {"rekey_bytes": 60000, "life_bytes": 120000, "rand_bytes": 0},
                                  {"rekey_time": "2s", "life_time": "8s", "rand_time": "0s"}], ids=["packets", "bytes", "time"])
def test_limits_renew(lab, more):
    """Soft limits are seen by the datapath; charon renews, under traffic, and nothing is lost."""
    t = up(own_connections(lab, **more))
    need_ping(t.h1, FAR["h1"])
    m = Monitor(t.da)
    wait_until(lambda: m.saw(event="monitor-start"), 3, "the monitor")
    stream = Stream(lab, t)
    cause = next(iter(more)).split("_")[1]
    seen = {in_use(t.da)}

    def renewed():
        seen.add(in_use(t.da))
        return len(seen) > 2

    wait_until(renewed, 15, lambda: f"{m.read()[-5:]}\n{told(t)}", poll=0.05)
    stream.more(20)
    stream.all_arrived()
    assert m.saw(event="sa-soft", cause=cause) and not m.saw(event="sa-hard")


def test_what_is_refused_is_refused_in_words(lab):
    """Policies, suites that are none of ours, numbers that are no link's: no SA, and charon's log says why."""
    t = own_connections(lab, policies="yes")
    for esp, if_id, policies, why, more in (("aes256gcm16-esn", 1, "yes", "policies = no", ""), ("aes256gcm16-esn", 9, "no", "no link", ""),
                                            ("aes256ctr-sha256", 1, "no", "refuses", ""),
                                            ("aes256gcm16-esn", 1, "no", "not with hw_offload", "hw_offload = yes"),
                                            ("aes256gcm16-esn", 1, "no", "not with set_mark", "set_mark_out = 5")):
        for c, name, far in ((t.ca, "east", "b4"), (t.cb, "west", "a4")):
            with open(c.path("swanctl.conf"), "w") as f:
                f.write(SWANCTL.format(name=name, remote=t.outer[far], policies=policies, if_id=if_id, esp=esp, more=more))
            c.swanctl("--load-all", "--file", c.path("swanctl.conf"))
        before = [len(c.log()) for c in (t.ca, t.cb)]
        r = t.da.ctl("up", "ipsec1", check=False)
        assert r.returncode == 1, r.stdout
        news = "".join(c.log()[n:] for c, n in zip((t.ca, t.cb), before))
        assert why in news, news
        assert not t.da.link()["sas"] and t.da.reason() == "no-sa"
        t.ca.swanctl("--terminate", "--ike", "east", check=False)


def test_both_begin(lab):
    """The default on both ends: two beginnings that meet, one link that works and goes on working."""
    t = gateways(lab, **{"ike-start": None})
    t.da.wait_up(timeout=15)
    t.db.wait_up(timeout=15)
    need_ping(t.h1, FAR["h1"])
    flaps = t.da.link()["flaps"], t.db.link()["flaps"]
    stays(lambda: t.da.is_up() and t.db.is_up() and ping(t.h1, FAR["h1"], count=5), 3, "the link stays")
    assert (t.da.link()["flaps"], t.db.link()["flaps"]) == flaps
    assert in_use(t.da) in sas(t.db, "in") and in_use(t.db) in sas(t.da, "in")


def test_as_debian_configures_it(lab):
    """Every plugin there is, kernel-netlink among them: kernel-ipsec is ours all the same, kernel-net is not."""
    t = up(gateways(lab, charon={"modular": True}))
    need_ping(t.h1, FAR["h1"])
    assert {s["source"] for d in (t.da, t.db) for s in d.link()["sas"]} == {"ike"}
    assert not t.a.out("ip xfrm state").strip(), "no SA has gone to the kernel"


def test_links_come_and_go(lab):
    """At run time, by ipsecctl: strongSwan is told, and when the link goes, so do connection and SAs, the peer's too."""
    t = gateways(lab)
    m = Monitor(t.da)
    wait_until(lambda: m.saw(event="monitor-start"), 3, "the monitor")
    t.ca.kill()
    wait_until(lambda: t.da.reason() == "no-ike" and m.saw(event="ike-daemon", connected=False), 3, lambda: t.da.ctl("show").stdout)
    checks = {c["check"]: c["status"] for c in t.da.json("doctor", check=False)["checks"]}
    assert checks["ike"] == "fail"
    t.ca.start()
    wait_until(lambda: t.da.reason() == "no-sa" and m.saw(event="ike-daemon", connected=True) and t.ca.conns(), 5, lambda: t.ca.log())
    up(t)
    text = t.da.json("show config")["text"]
    words = [w for line in text.split("[link ipsec1]")[1].splitlines() if "=" in line for w in line.split(" = ", 1)]
    words = [w.strip() for w in words]
    t.da.ctl("link", "del", "ipsec1")
    wait_until(lambda: not t.ca.conns() and not t.db.link()["sas"], 5, lambda: t.ca.conns() + t.cb.log()[-2000:])
    sh_words = ["ipsecctl", "-i", t.da.instance, "link", "add", "ipsec1", *words]
    t.da.ns.run([tool(sh_words[0]), *sh_words[1:]])
    wait_until(lambda: "east" in t.ca.conns(), 5, t.ca.log)
    up(t)
    need_ping(t.h1, FAR["h1"])
    t.da.ctl("link set ipsec1 ike-rekey 30m")
    assert t.da.is_up(), "running SAs go on"
    wait_until(lambda: "rekeying every 1800s" in t.ca.conns(), 5, t.ca.conns)


def test_set_then_up(lab):
    """What `link set` says is what `up` goes by, also at once; what is refused leaves nothing."""
    t = gateways(lab)
    bad = secret(lab, "bad")
    for n in range(scaled(1, 50, "IKE_SETS")):
        t.da.ctl("link", "set", "ipsec1", "ike-psk", bad)
        r = t.da.ctl("up", "ipsec1", check=False)
        assert r.returncode == 1 and "AUTHENTICATION_FAILED" in r.stdout and t.da.reason() == "no-sa", r.stdout
        t.da.ctl("link", "set", "ipsec1", "ike-psk", lab.path("psk"), "ike-rekey", f"{1000 + n}s")
        up(t)
        assert f"rekeying every {1000 + n}s" in t.ca.conns(), t.ca.conns()
        t.da.ctl("down", "ipsec1")
    assert not ping(t.h1, FAR["h1"], count=1, timeout=0.3)
    t.da.ctl("link", "set", "ipsec1", "ike-esp", "nonsense-x")
    r = t.da.json("up", "ipsec1", check=False)
    assert r["code"] == "ike-refused" and t.da.link()["ike_refused"], r
    assert "east" not in t.ca.conns()
    r = t.da.ctl("link", "set", "ipsec1", "ike-esp", "aes256gcm16-ecp384-esn", "ike-psk", lab.path("none"), check=False)
    assert r.returncode and "east" not in t.ca.conns()
    assert t.da.json("up", "ipsec1", check=False)["code"] == "ike-refused"
    t.da.ctl("link", "set", "ipsec1", "ike-psk", lab.path("psk"))
    up(t)


def test_an_attempt_does_not_outlive_its_section(lab):
    """To an address where nobody is, for ever; then the right one is said, and the link comes up by itself."""
    t = gateways(lab, path_a="198.51.100.77", over_a={"ike-start": "yes", "ike-peer-id": "198.51.100.2"})
    wait_until(lambda: "CONNECTING" in t.ca.swanctl("--list-sas").stdout, 10, t.ca.log)
    with open(lab.path("anew.conf"), "w") as f:
        f.write(t.da.json("show config")["text"].replace("198.51.100.77", t.outer["b4"]))
    t.da.ctl("apply", lab.path("anew.conf"))
    t.da.wait_up(timeout=10)
    assert "198.51.100.77" not in t.ca.swanctl("--list-sas").stdout
