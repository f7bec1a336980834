# SPDX-License-Identifier: GPL-2.0-or-later
"""`input = auto` on virtual wires: sockets while envelopes come in trains, XDP while they come singly."""
import re

from lib.topo import TwoHosts
from lib.traffic import need_ping, tcp_transfer
from lib.util import wait_until

MB = 1 << 20


def said(d):
    """What the log says of eth1's input, in order."""
    return re.findall(r"input by (xdp|socket)", d.log_now())



def bed(lab, encap):
    t = lab.two_gateways(underlay={"input": "auto"}, wait=False, start=False, liveness="500ms x 10",
                         path_a=f"{TwoHosts.outer['b4']} encap {encap}", path_b=f"{TwoHosts.outer['a4']} encap {encap}")
    for d in (t.da, t.db):
        d.start()
    for d in (t.da, t.db):
        d.wait_up()
    need_ping(t.h1, "10.2.0.2")
    assert said(t.da) == said(t.db) == ["socket"]
    return t


def test_trains_keep_the_sockets(lab):
    """UDP_SEGMENT crosses a veth in one piece: dozens of envelopes by one read, and nothing cuts them."""
    t = bed(lab, "udp")
    sent, got = tcp_transfer(t.h1, t.h2, "10.2.0.2", 40 * MB)
    assert sent == got
    w = t.db.json("perf")["workers"][0]
    assert w["recv_pkts"] > 20000 and w["recv_pkts"] > 5 * w["recv_msgs"], w
    assert said(t.db) == ["socket"] and not w["wire_pkts"]


def test_singles_bring_xdp_and_silence_takes_it_away(lab):
    """Bare ESP has no trains. No packet of the stream is missing, and the books of every link balance at the end."""
    t = bed(lab, "esp")
    sent, got = tcp_transfer(t.h1, t.h2, "10.2.0.2", 60 * MB)
    assert sent == got
    wait_until(lambda: said(t.db)[:2] == ["socket", "xdp"], 3, lambda: f"XDP at gwB: {t.db.log_now()}")
    assert t.db.json("perf")["workers"][0]["wire_pkts"] > 0
    wait_until(lambda: said(t.db)[-1] == "socket", 15, lambda: f"sockets again: {t.db.log_now()}")
    need_ping(t.h1, "10.2.0.2")
    sent, got = tcp_transfer(t.h2, t.h1, "10.1.0.2", 1 * MB)
    assert sent == got


def test_asked_for_by_a_link(lab):
    """`input = xdp` on one link is a word about the wire."""
    t = bed(lab, "udp")
    assert t.da.ctl("link", "set", "ipsec1", "input", "xdp").returncode == 0
    wait_until(lambda: said(t.da) == ["socket", "xdp"], 3, lambda: t.da.log_now())
    need_ping(t.h1, "10.2.0.2")
    assert t.da.json("perf")["workers"][0]["wire_pkts"] > 0
