# SPDX-License-Identifier: GPL-2.0-or-later
"""Lifetimes of SAs (RFC 4301 4.4.2.1): never a packet over a hard limit, on the wire and in the counters, and no
restart renews anything. The far end is the independent peer: it counts what really came.
"""
import glob
import hashlib
import os
import re
import shutil
import socket

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw, raw

from lib.books import sums
from lib.carried import by_kernel
from lib.daemon import Monitor
from lib.esp_peer import Peer
from lib.keys import Pair
from lib.traffic import Load
from lib.util import sh, stays, tool, wait_until

FAR = "10.2.0.2"


def bed(lab, out=None, back=None, start=True, esn=True, env=None):
    """gwA with lifetimes in its SA file; the peer knows of none."""
    t = lab.two_hosts()
    t.pair = Pair(esn=esn)
    t.pair.a.life, t.pair.b.life = out or {}, back or {}
    ka = t.pair.write(lab.path("life-a.sa"), "a")
    t.peer = Peer(t.b, "eth1", t.outer["b4"], t.outer["a4"], tx=t.pair.b, rx=t.pair.a, check=False)
    lab.closers.append(t.peer.close)
    lab.sink(t.h1, 4242)
    t.da = lab.daemon(t.a, [t.link("a", ka, liveness="off")], keys=[ka], start=False)
    t.file = ka
    # no multicast reports among what is counted
    t.a.sysctl_set("net.ipv6.conf.default.disable_ipv6", 1)
    if start:
        t.da.start(env=env)
        t.da.wait_up()
        t.mon = Monitor(t.da)
        wait_until(lambda: t.mon.saw(event="monitor-start"), 3, "the monitor")
        t.before = t.da.json("drops")
    return t


def sa(t, way):
    return next(s for s in t.da.link()["sas"] if s["dir"] == way)


def burst(t, n, size=100):
    s = t.h1.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _ in range(n):
        s.sendto(bytes(size), (FAR, 4242))
    s.close()


def inner(n=0, size=100):
    return raw(IP(src=FAR, dst="10.1.0.2", id=n & 0xffff) / UDP(sport=7, dport=4242) / Raw(bytes(size)))


def moved(t, way):
    return sums(t.before, t.da.json("drops"), way)


def over(t, way, n, reason="sa-hard-bytes"):
    """Have so many packets died of that, and none of anything else? The kernel drops the first by itself; then the link is down, for the others as well."""
    now = t.da.json("drops")
    found = sums(t.before, now, way)
    if by_kernel(0):
        return 1 <= now["conservation"][0][way]["in_funnel"] + found.pop(reason, 0) <= n and not found
    return found == {reason: n}


def cipher(inner_len):
    """RFC 4301 4.4.2.1: what the cipher is applied to, for AES-GCM."""
    return (inner_len + 2 + 3) // 4 * 4


def ended(t, way, cause, reason="sa-expired"):
    wait_until(lambda: sa(t, way)["life"]["ended"] == cause, 3, lambda: f"{way} ended by {cause}: {sa(t, way)}")
    wait_until(lambda: t.da.reason() == reason and not t.da.is_up(), 3, lambda: f"down, {reason}: {t.da.reason()}")
    assert sa(t, way)["live"] is False


def test_packets_out(lab):
    """Soft at 20, hard at 50: a burst of 80 gives 50 envelopes, the rest has its reason."""
    t = bed(lab, out={"soft-packets": 20, "hard-packets": 50})
    burst(t, 19)
    wait_until(lambda: len(t.peer.inner) == 19, 3, "19 envelopes")
    stays(lambda: not t.mon.saw(event="sa-soft"), 0.3, "no event below the soft limit")
    burst(t, 1)
    wait_until(lambda: t.mon.saw(event="sa-soft", dir="out", cause="packets", link="ipsec1"), 2, lambda: f"soft: {t.mon.events}")
    assert sa(t, "out")["life"]["soft_reached"] == "packets" and t.da.is_up()
    assert "renew" in t.da.ctl("sa list", json_out=False).stdout
    burst(t, 60)
    wait_until(lambda: len(t.peer.inner) == 50 and over(t, "out", 30), 3,
               lambda: f"50 sent and 30 dropped: {len(t.peer.inner)} {moved(t, 'out')}")
    ended(t, "out", "packets")
    assert sa(t, "out")["packets"] == 50
    e, = t.mon.all(event="sa-hard")
    assert (e["dir"], e["cause"], e["packets"], e["spi"]) == ("out", "packets", 50, f"{t.pair.a.spi:#010x}")
    assert len(t.mon.all(event="sa-soft")) == 1, "each event once"
    burst(t, 5)
    stays(lambda: len(t.peer.inner) == 50, 0.3, "nothing more leaves")
    assert "ended" in t.da.ctl("sa list", json_out=False).stdout


def test_bytes_out(lab):
    """The packet that would pass the limit is not sent; the count is the cipher's, padding and trailer included."""
    each = cipher(128)
    t = bed(lab, out={"hard-bytes": 30 * each + each - 1})
    burst(t, 40)
    wait_until(lambda: len(t.peer.inner) == 30 and moved(t, "out") == {"sa-hard-bytes": 10}, 3,
               lambda: f"30 sent and 10 dropped: {len(t.peer.inner)} {moved(t, 'out')}")
    ended(t, "out", "bytes")
    assert sa(t, "out")["bytes"] == 30 * each == sum(len(f.esp) - 8 - 8 - 16 for f, _ in t.peer.opened)
    wait_until(lambda: t.mon.saw(event="sa-hard", cause="bytes", bytes=30 * each), 2, lambda: f"hard: {t.mon.events}")


@pytest.mark.parametrize("what", ["packets", "bytes"])
def test_in(lab, what):
    """What comes after the limit is authentic and all the same refused; forged packets use nothing up."""
    each = cipher(len(inner()))
    t = bed(lab, back={f"hard-{what}": 10 if what == "packets" else 10 * each})
    for n in range(5):
        t.peer.send_raw(t.peer.seal(inner(n)))
    bad = bytearray(t.peer.tx.seal(1000, inner()))
    bad[-1] ^= 1
    for n in range(20):
        t.peer.send_raw(bytes(bad))
    wait_until(lambda: moved(t, "in") == {"icv-fail": 20}, 2, lambda: f"20 forged: {moved(t, 'in')}")
    for n in range(12):
        t.peer.send_raw(t.peer.seal(inner(n)))
    want = {"icv-fail": 20} if by_kernel(0) else {"icv-fail": 20, "sa-hard-bytes": 7}  # they find no state of the kernel's, which says nothing to us
    wait_until(lambda: moved(t, "in") == want, 2, lambda: f"{want}: {moved(t, 'in')}")
    ended(t, "in", what)
    assert t.da.link()["rx"]["packets"] == 10 == sa(t, "in")["packets"] and sa(t, "in")["bytes"] == 10 * (len(inner()) if by_kernel(0) else each)


def test_time(lab):
    """Each direction ends with the second that was said, with the reason, and soft came before. The link goes down
    with the first, so what leaves must end before what comes."""
    t = bed(lab, out={"soft-time": "6s", "hard-time": "8s"}, back={"hard-time": "9s"})
    assert 0 < sa(t, "out")["life"]["left_s"] <= 8

    load = Load(lab, [(t.h1, FAR)], gap=0.001)  # something must be under way when the second comes

    def send_until(done):
        def step():
            t.peer.send_raw(t.peer.seal(inner()))
            return done()
        wait_until(step, 15, lambda: f"{t.mon.events} {moved(t, 'in')} {moved(t, 'out')}", poll=0.002)
    send_until(lambda: t.mon.saw(event="sa-soft", dir="out", cause="time"))
    assert t.da.is_up() and not moved(t, "out") and not moved(t, "in")

    def over_now(way):  # of what finds its state gone the kernel says nothing to us
        return t.mon.saw(event="sa-hard", dir=way) if by_kernel(0) else moved(t, way).get("sa-expired")
    send_until(lambda: over_now("out") and over_now("in"))
    load.stop()
    ended(t, "out", "time")
    ended(t, "in", "time")
    n = len(t.peer.inner)
    burst(t, 5)
    stays(lambda: len(t.peer.inner) == n, 0.3, "nothing more leaves")
    assert {e["dir"] for e in t.mon.all(event="sa-hard", cause="time")} == {"in", "out"}


def shifted(seconds):
    return {"LD_PRELOAD": tool("clockshift.so"), "CLOCKSHIFT_S": str(seconds)}


def test_no_restart_renews_time(lab):
    t = bed(lab, out={"hard-time": "1h"})
    left = sa(t, "out")["life"]["left_s"]
    t.da.kill()
    t.da.start(env=shifted(3000))
    t.da.wait_up()
    assert left - 3000 - 30 < sa(t, "out")["life"]["left_s"] <= left - 3000
    t.da.stop()
    t.da.start(env=shifted(3601))
    ended(t, "out", "time")
    burst(t, 3)
    stays(lambda: not t.peer.inner, 0.3, "nothing leaves")


@pytest.mark.parametrize("how", ["kill", "stop", "memory-lost"])
def test_no_restart_renews_packets(lab, how):
    """Exact while the pinned counters stand; a machine without memory has at most what was left, and rather less."""
    t = bed(lab, out={"hard-packets": 600})
    burst(t, 200)
    wait_until(lambda: sa(t, "out")["packets"] == len(t.peer.inner) == 200, 3, lambda: f"200 sent: {sa(t, 'out')}")
    if how == "memory-lost":
        # as after a power failure: the state directory is all there is
        keep = lab.path("keep")
        wait_until(lambda: int(re.search(r"packets (\d+)", state(t)).group(1)) >= 200, 2, "the durable count")
        t.da.kill()
        sh(["cp", "-a", t.da.state_dir, keep])
        t.da.release()
        shutil.rmtree(t.da.state_dir, ignore_errors=True)
        sh(["cp", "-a", keep, t.da.state_dir])
        lab.skip_checks.add("conservation")
    else:
        getattr(t.da, how)()
    t.da.start()
    t.da.wait_up()
    used = sa(t, "out")["packets"]
    assert used == 200 if how != "memory-lost" else 200 <= used < 600
    for _ in range(9):
        n = sa(t, "out")["packets"]
        burst(t, 50)
        wait_until(lambda: sa(t, "out")["packets"] == min(600, n + 50), 3, lambda: f"50 more: {sa(t, 'out')}")
    ended(t, "out", "packets")
    all_sent = 600 - used + 200
    wait_until(lambda: len(t.peer.inner) == all_sent, 3, lambda: f"{all_sent} at the peer: {len(t.peer.inner)}")
    t.da.kill()
    t.da.start()
    ended(t, "out", "packets")
    burst(t, 3)
    stays(lambda: len(t.peer.inner) == all_sent, 0.3, "ended stays ended")


def state(t, way="out"):
    f, = glob.glob(f"{t.da.state_dir}/*.{way}")
    with open(f) as r:
        return r.read()


def set_seq(t, seq):
    """The durable mark of the outbound key, as if so many numbers had been used."""
    f, = glob.glob(f"{t.da.state_dir}/*.out")
    text = re.sub(r"seq \d+", f"seq {seq}", state(t).split("sum")[0]) + "sum "
    with open(f, "w") as w:
        w.write(text + hashlib.sha256(text.encode()).hexdigest() + "\n")
    os.chmod(f, 0o600)
    if by_kernel(0):  # a state that stands knows how many it has used, whatever is written
        t.a.run("ip xfrm state flush")


def test_sequence_numbers_run_out(lab):
    """Without ESN: an event while an eighth is left, then every number up to 2^32 - 1, then nothing (RFC 4303 3.3.3)."""
    t = bed(lab, esn=False, start=False)
    soft = (2**32 - 1) // 8 * 7
    set_seq(t, soft - 10)
    t.da.start()
    t.da.wait_up()
    m = Monitor(t.da)
    wait_until(lambda: m.saw(event="monitor-start"), 3, "the monitor")
    burst(t, 10)
    wait_until(lambda: len(t.peer.inner) == 10, 3, "10 envelopes")
    stays(lambda: not m.saw(event="sa-soft"), 0.3, "no event yet")
    burst(t, 1)
    wait_until(lambda: m.saw(event="sa-soft", cause="sequence", dir="out", seq=soft + 1), 2, lambda: f"soft: {m.events}")
    t.da.stop()
    set_seq(t, 2**32 - 1 - 50)
    t.da.start()
    t.da.wait_up()
    m = Monitor(t.da)
    wait_until(lambda: m.saw(event="monitor-start"), 3, "the monitor")
    t.before, had = t.da.json("drops"), len(t.peer.inner)
    burst(t, 70)
    wait_until(lambda: len(t.peer.inner) - had == 50 and over(t, "out", 20, "seq-exhausted"), 3,
               lambda: f"50 sent, 20 dropped: {len(t.peer.inner) - had} {moved(t, 'out')}")
    assert t.peer.opened[-1][0].seq == 2**32 - 1
    ended(t, "out", "sequence", reason="sa-exhausted")
    wait_until(lambda: m.saw(event="sa-hard", cause="sequence", dir="out", seq=2**32 - 1), 2, lambda: f"hard: {m.events}")
