# SPDX-License-Identifier: GPL-2.0-or-later
"""Control of forwarding and policy routing of raw packets (the seed, 3.4 and 4): each test is named after its section."""
import contextlib
import re
import socket
import struct

from lib.topo import TwoHosts, conf_text
from lib.traffic import Listener, Load, family, need_ping, ping
from lib.util import ROOT, Timeout, wait_until
from test_liveness import full_figure4


def test_3_4_forwarding_can_be_tested_before_ipsec(lab):
    """No link, no refusal: plain forwarding works with and without a daemon; the first link ends it."""
    t = TwoHosts(lab.net)
    _, ka, kb = lab.pair_files()
    for far in ("10.2.0.2", "fd02::2"):
        need_ping(t.h1, far)
    da, db = (lab.daemon(ns, conf_text([])) for ns in (t.a, t.b))
    assert "action block" not in t.a.out("ip xfrm policy") and "unreachable" not in t.a.out("ip route") + t.a.out("ip -6 route")
    for far in ("10.2.0.2", "fd02::2"):
        assert ping(t.h1, far)
    lab.tap.report()
    lab.tap.protect(*t.inner)
    for d, side, key in ((da, "a", ka), (db, "b", kb)):
        d.add_keys(key)
        d.init_state()
        d.write_conf(conf_text([t.link(side, key)]))
        d.ctl("apply")
    da.wait_up()
    need_ping(t.h1, "10.2.0.2")


def test_3_4_no_clear_window_at_boot(lab):
    """The order of a boot: forwarding on, hosts talk already, ipsecd begins, the uplink comes last. Nothing in the clear."""
    with open(f"{ROOT}/systemd/ipsecd@.service") as unit:
        assert re.search(r"^Before=network-pre.target\b", unit.read(), re.M)
    t = lab.two_hosts()
    _, ka, kb = lab.pair_files()
    t.a.ip("link set eth1 down")
    load = Load(lab, [(n, far) for n in (t.h1, t.a) for far in ("10.2.0.2", "fd02::2")])
    load.more()
    da = lab.daemon(t.a, [t.link("a", ka)], keys=[ka])
    assert da.reason() == "no-route"
    t.a.ip("link set eth1 up", f"addr replace {t.outer['a6']}/64 dev eth1 nodad",
           f"route replace default via {t.outer['b4']}", f"route replace ::/0 via {t.outer['b6']}")
    load.more(200)
    lab.daemon(t.b, [t.link("b", kb)], keys=[kb])
    da.wait_up()
    load.more(200)
    load.stop()
    assert not lab.tap.report()["leaks"]
    need_ping(t.h1, "10.2.0.2")


def udp(src, dst, sport=0, dport=4242, payload=b"x", n=1, own="", opt=None):
    """Datagrams from one socket; the port they came from."""
    s = src.socket(family(dst), socket.SOCK_DGRAM)
    if opt:
        s.setsockopt(*opt)
    s.bind((own, sport))
    for _ in range(n):
        s.sendto(payload, (dst, dport))
    port = s.getsockname()[1]
    s.close()
    return port


def links_used(ns, names, send, n=10):
    """How many of the n datagrams to port 4242 that send() sends leave by each link."""
    taps = {name: Listener(ns, name, outgoing=True) for name in names}

    def count():
        return {name: tap.count(lambda p: p[9] == 17 and p[22:24] == struct.pack(">H", 4242)) for name, tap in taps.items()}
    send()
    with contextlib.suppress(Timeout):  # a lost one is the caller's to find
        wait_until(lambda: sum(count().values()) >= n, 2, "")
    counts = count()
    for tap in taps.values():
        tap.close()
    return counts


def test_4_5_rules_select_the_link(lab):
    """RFC 2401 4.4.2's selectors as routing rules: addresses, protocol, ports. Sunrise by Orient for those, by East for all else."""
    f = full_figure4(lab)
    lab.sink(f.sunrise_host, 4242)
    f.west.ip("route add 10.2.0.0/16 dev ipsec2 table 60")
    f.sunset_host.ip("addr add 10.1.0.3/16 dev eth0")
    plain = {"src": f.sunset_host, "dst": "10.2.0.2", "own": "10.1.0.2", "n": 10}

    def used(**kw):
        return links_used(f.west, ("ipsec1", "ipsec2"), lambda: udp(**{**plain, **kw}))

    assert used() == {"ipsec1": 10, "ipsec2": 0}
    for rule, chosen, other in (
            ("from 10.1.0.3", {"own": "10.1.0.3"}, {}),
            ("to 10.2.0.7", {"dst": "10.2.0.7"}, {}),
            ("ipproto udp", {}, None),
            ("ipproto tcp", None, {}),
            ("ipproto udp dport 4000-4300", {}, None),
            ("ipproto udp dport 1-100", None, {}),
            ("ipproto udp sport 777", {"sport": 777}, {"sport": 778}),
            ("iif eth0 tos 0x10", {"opt": (socket.IPPROTO_IP, socket.IP_TOS, 0x10)}, {})):
        f.west.ip(f"rule add pref 50 {rule} lookup 60")
        if chosen is not None:
            assert used(**chosen) == {"ipsec1": 0, "ipsec2": 10}, rule
        if other is not None:
            assert used(**other) == {"ipsec1": 10, "ipsec2": 0}, rule
        f.west.ip("rule del pref 50")
