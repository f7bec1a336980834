# SPDX-License-Identifier: GPL-2.0-or-later
"""`ipsecctl perf`: every packet passes every stage, and a batch costs few system calls."""
from lib.traffic import UdpEcho, need_ping

OUT, IN = ("read", "seal", "emit"), ("receive", "open", "check", "deliver")


def stages(d):
    w = d.json("perf")["workers"][0]
    return {s["stage"]: s for s in w["stages"]}, w["syscalls"]


def test_stages(lab):
    t = lab.two_gateways(liveness="off")
    need_ping(t.h1, "10.2.0.2")
    ends = (t.da, "tx", OUT), (t.db, "rx", IN)
    before = [(stages(d), d.link()[way]["packets"]) for d, way, _ in ends]
    e = UdpEcho(t.h1, t.h2, "10.2.0.2")
    n = e.check((bytes([k & 255]) * 200 for k in range(2000)), burst=64)
    e.close()
    for (d, way, names), ((was, calls), packets) in zip(ends, before):
        (now, more), moved = stages(d), d.link()[way]["packets"] - packets
        assert moved >= n == 2000
        for s in names:
            diff = {k: now[s][k] - was[s][k] for k in ("packets", "calls", "clocks", "ns")}
            assert moved <= diff["packets"] <= moved + 3, (s, diff, moved)  # asked later: a multicast report or two
            assert 0 < diff["calls"] <= moved and diff["clocks"] > diff["calls"] and diff["ns"] > 0, diff
        assert 0 < more - calls < 4 * moved
        text = d.ctl("perf", json_out=False).stdout
        assert all(s in text for s in OUT + IN) and "PER CALL" in text
