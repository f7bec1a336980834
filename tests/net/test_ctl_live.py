# SPDX-License-Identifier: GPL-2.0-or-later
"""ipsecctl against a real ipsecd: what it says is what is, what it changes is changed and no more."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest

from lib.daemon import Monitor
from lib.keys import Pair
from lib.topo import conf_text
from lib.traffic import need_ping, ping
from lib.util import sh, stays, tool, wait_until


def ctl(d, *argv, check=True, json_out=False):
    """argv as it is, not cut at blanks."""
    return d.ns.run([tool("ipsecctl"), "-i", d.instance, *(["-j"] if json_out else []), *argv], check=check)


def ctl_json(d, *argv):
    return json.loads(ctl(d, *argv, check=False, json_out=True).stdout)


def test_pair_to_ping_by_the_printed_steps(lab):
    """static pair, static init, four lines of configuration, start: nothing else is needed."""
    t = lab.two_hosts(hosts=False)
    out = lab.path("pair")
    text = sh([tool("ipsecctl"), "static", "pair", "west", "east", "-o", out]).stdout
    ends = []
    for ns, me, far, own, other in ((t.a, "west", "east", "a4", "b4"), (t.b, "east", "west", "b4", "a4")):
        key = f"{out}/{me}/{far}.sa"
        assert key in text
        conf = conf_text([("ipsec1", {"peer": far, "address": f"{t.tun[own]} peer {t.tun[other]}",
                                      "path": f"{t.outer[other]} encap udp", "sa": f"file:{key}"})])
        ends.append(lab.daemon(ns, conf, keys=[key]))
    for d in ends:
        d.wait_up()
    need_ping(t.a, t.tun["b4"])


def test_exit_code_is_the_state(lab):
    t = lab.two_gateways(hosts=False)
    assert ctl(t.da, "show", "east", check=False).returncode == 0
    t.db.kill()
    wait_until(lambda: ctl(t.da, "show", "ipsec:1", check=False).returncode == 4, 5, "exit 4 when the peer is dead")
    assert ctl(t.da, "show", "nobody", check=False).returncode == 3
    t.da.stop()
    assert ctl(t.da, "show", check=False).returncode == 5
    assert ctl_json(t.da, "show")["code"] == "no-daemon"


def test_link_by_hand_and_saved(lab):
    """link add makes a working link at run time; --save brings it back after a restart; del --save does not."""
    t = lab.two_gateways(hosts=False)
    for d, far, own, other in ((t.da, "east2", 1, 2), (t.db, "west2", 2, 1)):
        d.k2 = lab.path(f"{far}.sa")
    pair = Pair()
    for d, side, far, own, other, path in ((t.da, "a", "east2", 1, 2, t.outer["b4"]), (t.db, "b", "west2", 2, 1, t.outer["a4"])):
        pair.write(d.k2, side)
        d.add_keys(d.k2)
        ctl(d, "link", "add", "ipsec2", "peer", far, "address", f"10.8.0.{own} peer 10.8.0.{other}",
            f"path={path} encap udp", "sa", f"file:{d.k2}", "liveness", "100ms x 3", "--save")
        assert d.reason("ipsec2") == "sa-refused", "no durable state yet"
        assert "static init" in ctl(d, "sa", "list", far).stdout
        ctl(d, "static", "init", d.k2)  # tells the daemon
    t.da.wait_up("ipsec1", "ipsec2")
    need_ping(t.a, "10.8.0.2")
    t.da.stop()
    t.da.start().wait_up("ipsec1", "ipsec2")
    need_ping(t.a, "10.8.0.2")
    ctl(t.da, "link", "del", "east2", "--save")
    assert not t.a.ok("ip link show ipsec2")
    t.da.stop()
    t.da.start().wait_up()
    assert [l["name"] for l in t.da.show()["links"]] == ["ipsec1"]


def test_del_and_add_under_traffic(lab):
    """Thirty times away and back while both sides send and probe: the daemons live, the link works."""
    t = lab.two_gateways(liveness="10ms x 50")
    text = ctl(t.da, "show", "config").stdout
    empty, full = lab.path("empty.conf"), lab.path("full.conf")
    pathlib.Path(empty).write_text(text[:text.index("[link")])
    pathlib.Path(full).write_text(text)
    flood = t.h1.popen(["ping", "-f", "-q", "-w", "60", "10.2.0.2"], stdout=subprocess.DEVNULL)
    back = t.h2.popen(["ping", "-f", "-q", "-w", "60", "10.1.0.2"], stdout=subprocess.DEVNULL)
    for n in range(30):
        ctl(t.da, "link", "del", "ipsec1") if n % 2 else ctl(t.da, "apply", empty)
        assert not t.da.show()["links"]
        ctl(t.da, "apply", full)
        assert t.da.running() and t.db.running()
    flood.terminate()
    back.terminate()
    t.da.wait_up()
    need_ping(t.h1, "10.2.0.2")


def test_set_changes_one_thing(lab):
    """A new metric or MTU neither flaps the link nor touches its SAs."""
    t = lab.two_gateways(hosts=False)
    before = t.da.link()
    ctl(t.da, "link", "set", "ipsec1", "metric", "77", "mtu", "1300")
    after = t.da.link()
    assert (after["metric"], after["mtu"]) == (77, 1300)
    assert after["flaps"] == before["flaps"] and after["state"] == "up"
    assert [(s["spi"], s["fingerprint"], s["live"]) for s in after["sas"]] == \
        [(s["spi"], s["fingerprint"], s["live"]) for s in before["sas"]]
    assert all(a["seq"] >= b["seq"] for a, b in zip(after["sas"], before["sas"]))
    assert json.loads(t.a.out("ip -j link show ipsec1"))[0]["mtu"] == 1300
    assert "metric 77" in t.a.out("ip route show 10.2.0.0/16 dev ipsec1")
    bad = ctl(t.da, "link", "set", "ipsec1", "mtu", "12", check=False)
    assert bad.returncode == 2 and "1280" in bad.stderr
    assert t.da.link()["mtu"] == 1300


def test_config_round_trip(lab):
    """show config, written to a file, differs from what runs in nothing."""
    t = lab.two_gateways(hosts=False)
    f = lab.path("again.conf")
    pathlib.Path(f).write_text(ctl(t.da, "show", "config").stdout)
    assert ctl(t.da, "-nf", f).returncode == 0
    d = ctl_json(t.da, "diff", f)
    assert [c["action"] for c in d["changes"]] == ["keep"] and d["restart_needed"] is False
    seq = t.da.link()["sas"]
    assert [c["action"] for c in ctl_json(t.da, "apply", f)["changes"]] == ["keep"]
    assert all(a["seq"] >= b["seq"] for a, b in zip(t.da.link()["sas"], seq))


def test_apply_confirm_goes_back(lab):
    """A configuration that cuts the link off is undone by itself; meanwhile nothing leaks (the tap watches)."""
    t = lab.two_gateways()
    f = lab.path("wrong.conf")
    text = ctl(t.da, "show", "config").stdout
    pathlib.Path(f).write_text(text.replace(t.outer["b4"], "198.51.100.99"))
    r = ctl_json(t.da, "apply", "--confirm", "2", f)
    assert [c["action"] for c in r["changes"]] == ["change"] and r["confirm_s"] == 2
    assert 0 < t.da.show()["rollback_in_s"] <= 2
    wait_until(lambda: t.da.show()["rollback_in_s"] is None, 5, "the way back")
    assert ctl(t.da, "show", "config").stdout == text
    t.da.wait_up()
    need_ping(t.h1, "10.2.0.2")
    ctl(t.da, "apply", "--confirm", "2", f)
    ctl(t.da, "confirm")
    stays(lambda: "198.51.100.99" in ctl(t.da, "show", "config").stdout, 2.5, "a confirmed configuration")
    assert ctl(t.da, "confirm", check=False).returncode == 3


def test_bad_configuration_changes_nothing(lab):
    t = lab.two_gateways(hosts=False)
    f = lab.path("bad.conf")
    pathlib.Path(f).write_text("[link ipsec1]\npeer = east\nmtu = 12\ncolour = red\n")
    before = ctl(t.da, "show", "config").stdout
    p = ctl(t.da, "apply", f, check=False)
    assert p.returncode == 1 and "bad.conf:3" in p.stderr and "bad.conf:4" in p.stderr
    assert ctl(t.da, "show", "config").stdout == before
    assert t.da.is_up()


def test_monitor_tells_what_happens(lab):
    t = lab.two_gateways(hosts=False)
    m = Monitor(t.da)
    wait_until(lambda: m.saw(event="monitor-start"), 3, "the first line")
    t.db.kill()
    wait_until(lambda: m.saw(event="link-state", link="ipsec1", state="down", reason="no-answer"), 5,
               lambda: f"down: {m.events}")
    t.db.start()
    wait_until(lambda: m.saw(event="link-state", link="ipsec1", state="up", reason="ok"), 8, lambda: f"up: {m.events}")
    ctl(t.da, "link", "set", "ipsec1", "metric", "9")
    wait_until(lambda: m.saw(event="link-changed", link="ipsec1"), 3, lambda: f"changed: {m.events}")
    assert all(e["schema"] == 1 and e["time"].endswith("Z") for e in m.events)


def test_sleeping_reader_delays_nobody(lab):
    """A stopped monitor and a client that never reads its answer: links stay up, others are answered."""
    t = lab.two_gateways(hosts=False, liveness="500ms x 3")
    m = Monitor(t.da)
    wait_until(lambda: m.saw(event="monitor-start"), 3, "the first line")
    m.p.send_signal(signal.SIGSTOP)
    deaf = socket.socket(socket.AF_UNIX)
    deaf.setblocking(False)
    deaf.connect(f"{t.da.run_dir}/ctl.sock")
    try:
        for _ in range(2000):
            deaf.send(b'{"schema":1,"verb":"drops"}\n')
    except BlockingIOError:
        pass
    flaps = t.da.link()["flaps"]
    for n in range(200):
        ctl(t.da, "link", "set", "ipsec1", "metric", str(100 + n % 7)) if n % 20 == 0 else t.da.show()
    assert t.da.is_up() and t.da.link()["flaps"] == flaps
    deaf.close()
    m.p.send_signal(signal.SIGCONT)


def test_not_for_everybody(lab):
    """Nobody in particular may neither look nor change; root's socket stays root's."""
    t = lab.two_gateways(hosts=False)
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    for verb in (["show"], ["link", "down", "ipsec1"], ["sa", "list"]):
        p = t.a.run([*other, tool("ipsecctl"), "-i", t.da.instance, *verb], check=False)
        assert p.returncode in (5, 6), p.stdout + p.stderr
    # let in to look (as the group would be), it still may not change anything
    os.chmod("/run/ipsec", 0o755)
    os.chmod(t.da.run_dir, 0o755)
    os.chmod(f"{t.da.run_dir}/ctl.sock", 0o666)
    assert t.a.run([*other, tool("ipsecctl"), "-i", t.da.instance, "show", "ipsec1"], check=False).returncode == 0
    for verb in (["link", "down", "ipsec1"], ["link", "del", "ipsec1"], ["apply"], ["link", "set", "ipsec1", "metric", "1"],
                 ["confirm"], ["diff"]):
        p = t.a.run([*other, tool("ipsecctl"), "-i", t.da.instance, "-j", *verb], check=False)
        assert p.returncode == 6 and json.loads(p.stdout)["code"] == "not-permitted"
    assert t.da.is_up()


def verdict(d, src, dst, *more):
    j = ctl_json(d, "why", src, dst, *more)
    return j["verdict"], j["reason"]


def test_why_is_what_happens(lab):
    """Each verdict beside the packet's real fate, seen in the counters and at the far host."""
    t = lab.two_gateways()

    def sent():
        return t.da.link()["tx"]["packets"]

    need_ping(t.h1, "10.2.0.2")  # the kernel takes a moment to believe in the carrier
    before = sent()
    assert verdict(t.da, "10.1.0.2", "10.2.0.2") == ("encrypt", None)
    assert ping(t.h1, "10.2.0.2") and sent() > before
    size = t.da.link()["mtu"]
    assert verdict(t.da, "10.1.0.2", "10.2.0.2", "--size", str(size)) == ("encrypt", None)
    assert verdict(t.da, "10.1.0.2", "10.2.0.2", "--size", str(size + 1)) == ("too-big", "df-too-big")
    assert verdict(t.da, "fd01::2", "fd02::2") == ("encrypt", None)
    ctl(t.da, "link", "down", "ipsec1")
    # the routes step aside and the floor answers
    wait_until(lambda: verdict(t.da, "10.1.0.2", "10.2.0.2") == ("drop", "no-route"), 3, "the floor's verdict")
    assert not ping(t.h1, "10.2.0.2", count=2, timeout=1)
    ctl(t.da, "link", "up", "ipsec1")
    t.da.wait_up()
    assert verdict(t.da, "10.1.0.2", "198.51.100.2") == ("clear", None)


def test_books_and_metrics_agree(lab):
    t = lab.two_gateways()
    need_ping(t.h1, "10.2.0.2")
    before = t.da.link()["tx"]["packets"]
    text = ctl(t.da, "metrics").stdout
    samples = {line.rsplit(" ", 1)[0]: line.rsplit(" ", 1)[1] for line in text.splitlines() if not line.startswith("#")}
    assert samples['ipsec_link_up{link="ipsec1",peer="east"}'] == "1"
    out = int(samples['ipsec_link_packets_total{link="ipsec1",peer="east",dir="out"}'])
    assert 0 < before <= out <= t.da.link()["tx"]["packets"], "the kernel's own multicast may come between"
    t.db.kill()
    wait_until(lambda: not t.da.is_up(), 5, "down")
    text = ctl(t.da, "metrics").stdout
    assert 'ipsec_link_up{link="ipsec1",peer="east"} 0' in text, "a dead link is a 0, not a gap"
    assert "0x" not in text, "no SPI is ever a label"


def test_doctor_and_report(lab):
    t = lab.two_gateways(hosts=False)
    j = ctl_json(t.da, "doctor")
    status = {c["check"]: c["status"] for c in j["checks"]}
    assert status["daemon"] == status["guardian"] == status["guard"] == status["link ipsec1"] == "ok", j
    port_4500 = lambda: next(c["evidence"] for c in ctl_json(t.da, "doctor")["checks"] if c["check"] == "port-4500")
    assert "free" in port_4500() and t.da.show()["daemon"]["port_4500"] == "none"
    ike = t.a.socket(2, 2)
    ike.bind(("", 4500))
    assert f"({os.getpid()})" in port_4500() and t.da.show()["daemon"]["port_4500"] == "other"
    ike.close()
    r = json.loads(ctl(t.da, "report").stdout)
    assert r["show"]["links"] and r["maps"]["maps"] and r["version"]["features"] and r["config"]["text"]
    for key in t.da.keys():
        assert key.hex() not in json.dumps(r)
    t.da.kill()
    j = ctl_json(t.da, "doctor")
    assert next(c for c in j["checks"] if c["check"] == "daemon")["status"] == "fail"
    assert "still stand" in next(c for c in j["checks"] if c["check"] == "guard")["evidence"]


def test_release_refuses_a_running_daemon(lab):
    t = lab.two_gateways(hosts=False)
    p = ctl(t.da, "release", "--yes", check=False)
    assert p.returncode == 6 and t.da.is_up()
    t.da.stop()
    assert ctl(t.da, "release", check=False).returncode == 6, "not without being asked"
    assert t.da.remains()
    t.da.release()
    assert not t.da.remains()


@pytest.mark.serial
def test_answers_while_packets_fly(lab):
    """show under load: quick, and no link loses its carrier for it."""
    t = lab.two_gateways(liveness="500ms x 3")
    flood = t.h1.popen(["ping", "-f", "-q", "-w", "3", "10.2.0.2"], stdout=subprocess.DEVNULL)
    worst = 0
    for _ in range(30):
        start = time.monotonic()
        t.da.show()
        worst = max(worst, time.monotonic() - start)
    flood.wait(timeout=10)
    assert worst < 1 and t.da.link()["flaps"] == 0
