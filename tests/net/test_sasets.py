# SPDX-License-Identifier: GPL-2.0-or-later
"""Several SAs on one link, by selector (seed, section 3.5; RFC 4301 4.4.1): each packet by the narrowest that is for it.

Which SA carried a packet is read off the SAs' own counters at both ends and off the SPIs on the wire; lab.verify() hunts
for uncounted drops, numbers that come twice and cleartext.
"""
import socket

import pytest

from lib.books import sums
from lib.carried import by_kernel, go_over
from lib.keys import Pair
from lib.stream import Stream
from lib.topo import conf_text
from lib.traffic import need_ping, ping
from lib.util import wait_until

from test_ike import in_use as ike_in_use
from test_ike import own_connections, sas, up

FAR = {"h1": "10.2.0.2", "h2": "10.1.0.2"}
QUIET = {"liveness": "off"}  # nothing but what the test sends is counted


def write_pair(lab, t, tag, own="", far="", **kw):
    """A pair for packets between own (west's side) and far; "" = for everything."""
    pair = Pair(**kw)
    files = []
    for side, d, ends in (("a", t.da, (own, far)), ("b", t.db, (far, own))):
        f = pair.write(lab.path(f"{tag}-{side}.sa"), side)
        text = open(f).read()
        with open(f, "w") as out:
            out.write(("for = %s %s\n" % ends if own else "") + text)
        if d:
            d.add_keys(f)
            d.init_state(f)
        files.append(f)
    return pair, *files


def carried(d, pair):
    """Packets of the pair's two SAs as one end counts them."""
    return {s["dir"]: s["packets"] for s in d.link()["sas"] if int(s["spi"], 16) in (pair.a.spi, pair.b.spi)}


def used(d):
    return {int(s["spi"], 16) for s in d.link()["sas"] if s["dir"] == "out" and s["in_use"]}


def no_set(d, before):
    """What is for no SA, by reason. The kernel drops it by itself (its policies)."""
    now = d.json("drops")
    if not by_kernel(d.nth):
        return sums(before, now, "out")
    lost = now["conservation"][0]["out"]["in_funnel"] - before["conservation"][0]["out"]["in_funnel"]
    return {**sums(before, now, "out"), "selector": lost}


def send(ns, far, port, n=5):
    s = ns.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _ in range(n):
        s.sendto(b"by selector", (far, port))
    s.close()


def test_3_5_several_sas_by_selector(lab):
    """A wide pair and, beside it, one for one port: each packet by its own; the second waits until the peer has it."""
    t = lab.two_gateways()
    wide = t.pair
    need_ping(t.h1, FAR["h1"])
    narrow, fa, fb = write_pair(lab, t, "narrow", "10.1.0.0/16", "10.2.0.0/16[udp/5000]")
    sink = lab.sink(t.h2, 5000), lab.sink(t.h2, 5001)
    assert t.da.json("sa", "add", "ipsec1", fa)["in_use"] is False
    send(t.h1, FAR["h1"], 5000)  # not lost: the wide one is for it as well
    assert len([sink[0].recv(64) for _ in range(5)]) == 5
    assert used(t.da) == {wide.a.spi}
    t.db.json("sa", "rekey", "ipsec1", fb)
    go_over((t.da, fa), (t.db, fb))
    wait_until(lambda: used(t.da) == {wide.a.spi, narrow.a.spi} and used(t.db) == {wide.b.spi, narrow.b.spi}, 5,
               lambda: t.da.ctl("sa list").stdout)
    before = carried(t.da, narrow)["out"]
    send(t.h1, FAR["h1"], 5000, n=7)
    send(t.h1, FAR["h1"], 5001, n=3)
    assert [len([s.recv(64) for _ in range(n)]) for s, n in zip(sink, (7, 3))] == [7, 3]
    wait_until(lambda: carried(t.da, narrow)["out"] == before + 7 and carried(t.db, narrow)["in"] == before + 7, 3,
               lambda: f"{carried(t.da, narrow)} {carried(t.db, narrow)} {before}")
    # what is shown, said and written down
    (shown,) = [s["for"] for s in t.da.link()["sas"] if s["dir"] == "out" and s["for"]]
    assert shown == ["10.1.0.0/16 10.2.0.0/16[udp/5000]"]
    assert "for 10.1.0.0/16 10.2.0.0/16[udp/5000]" in t.da.ctl("sa", "list", json_out=False).stdout
    why = t.da.json("why", "10.1.0.2", FAR["h1"], "udp", 9, 5000)
    assert int(why["sa"]["spi"], 16) == narrow.a.spi
    assert int(t.da.json("why", "10.1.0.2", FAR["h1"])["sa"]["spi"], 16) == wide.a.spi
    assert fa in t.da.json("show config")["text"]
    # taken away: its packets go by the wide one again
    for d, pair in ((t.da, narrow), (t.db, narrow)):
        for spi in (pair.a.spi, pair.b.spi):
            d.json("sa", "del", "ipsec1", f"{spi:#010x}")
    send(t.h1, FAR["h1"], 5000)
    assert len([sink[0].recv(64) for _ in range(5)]) == 5
    assert used(t.da) == {wide.a.spi} and t.da.is_up()


@pytest.mark.parametrize("restart", [False, True], ids=["start", "kill"])
def test_two_files_of_one_link(lab, restart):
    """`sa = file:A file:B`, disjoint: what neither is for is dropped as `selector`, with the reason; also after kill -9."""
    t = lab.two_hosts()
    t.da = t.db = None
    tcp, ta, tb = write_pair(lab, t, "tcp", "10.1.0.0/16", "10.2.0.0/16[udp/5000-5007]")
    icmp, ia, ib = write_pair(lab, t, "icmp", "10.1.0.0/16", "10.2.0.0/16[icmp]")
    t.da = lab.daemon(t.a, [t.link("a", f"{ta} file:{ia}", **QUIET)], keys=[ta, ia])
    t.db = lab.daemon(t.b, [t.link("b", f"{tb} file:{ib}", **QUIET)], keys=[tb, ib])
    if restart:
        t.da.kill()
        t.da.start()
    t.da.wait_up()
    t.db.wait_up()
    assert used(t.da) == {tcp.a.spi, icmp.a.spi}
    sink = lab.sink(t.h2, 5003)
    need_ping(t.h1, FAR["h1"], count=4)
    send(t.h1, FAR["h1"], 5003, n=6)
    assert len([sink.recv(64) for _ in range(6)]) == 6
    assert carried(t.db, tcp)["in"] == 6 and carried(t.db, icmp)["in"] >= 4
    before = t.da.json("drops")
    send(t.h1, FAR["h1"], 6000, n=8)
    wait_until(lambda: no_set(t.da, before) == {"selector": 8}, 3, lambda: t.da.ctl("drops").stdout)
    why = t.da.json("why", "10.1.0.2", FAR["h1"], "udp", 9, 6000)
    assert (why["verdict"], why["reason"]) == ("drop", "selector")
    assert t.da.json("show config")["text"].count("file:") == 2


def test_one_set_outlives_another(lab):
    """The wider of two ends its life: its packets die for that reason, the link lives on by the other, probes included."""
    t = lab.two_hosts()
    t.da = t.db = None
    udp, ua, ub = write_pair(lab, t, "udp", "10.1.0.0/16", "10.2.0.0/16[udp]")
    icmp, ia, ib = write_pair(lab, t, "icmp", "10.1.0.2", "10.2.0.2[icmp]")
    for f in (ua, ub):  # the wider: probes go by it, too
        text = open(f).read()
        with open(f, "w") as out:
            out.write(text.replace("[in]", "hard-packets = 200\n[in]") if f == ua else text)
    t.da = lab.daemon(t.a, [t.link("a", f"{ua} file:{ia}")], keys=[ua, ia])
    t.db = lab.daemon(t.b, [t.link("b", f"{ub} file:{ib}")], keys=[ub, ib])
    t.da.wait_up()
    t.db.wait_up()
    send(t.h1, FAR["h1"], 5003, n=300)
    wait_until(lambda: used(t.da) and any(s["life"]["ended"] == "packets" for s in t.da.link()["sas"]), 5,
               lambda: t.da.ctl("sa list").stdout)
    need_ping(t.h1, FAR["h1"], count=4)
    before = t.da.json("drops")
    send(t.h1, FAR["h1"], 5003, n=8)
    wait_until(lambda: sums(before, t.da.json("drops"), "out") == {"sa-hard-bytes": 8}, 3, lambda: t.da.ctl("drops").stdout)
    had = carried(t.da, icmp)["out"]
    wait_until(lambda: carried(t.da, icmp)["out"] > had + 3, 5, "probes by the one that lives")
    assert t.da.is_up() and t.da.link()["reason"] == "ok"


def test_selectors_are_judged_inbound(lab):
    """RFC 4301 5.2: what comes in by an SA that is not for it is dropped, counted and audited, though it is authentic."""
    t = lab.two_hosts()
    pair = Pair()
    ka, kb = pair.write(lab.path("k-a.sa"), "a"), pair.write(lab.path("k-b.sa"), "b")
    text = open(kb).read()
    with open(kb, "w") as f:
        f.write("for = 10.2.0.0/16[udp/5000] 10.1.0.0/16\n" + text)
    t.da = lab.daemon(t.a, conf_text([t.link("a", ka, **QUIET)]), keys=[ka])
    t.db = lab.daemon(t.b, conf_text([t.link("b", kb, **QUIET)], {"audit": "yes"}), keys=[kb])
    t.da.wait_up()
    t.db.wait_up()
    sink, other = lab.sink(t.h2, 5000), lab.sink(t.h2, 5001)
    before = t.db.json("drops")
    send(t.h1, FAR["h1"], 5001, n=9)
    send(t.h1, FAR["h1"], 5000, n=4)
    assert len([sink.recv(64) for _ in range(4)]) == 4
    wait_until(lambda: sums(before, t.db.json("drops"), "in") == {"selector": 9}, 3, lambda: t.db.ctl("drops").stdout)
    if not by_kernel(1):  # it does not say which
        wait_until(lambda: "selector" in t.db.log(), 3, lambda: t.db.log())
    other.setblocking(False)
    with pytest.raises(BlockingIOError):
        other.recv(64)


def test_3_5_renewal_stays_in_its_set(lab):
    """Each pair is renewed for itself, under traffic by both; the other is not touched, nothing is lost."""
    t = lab.two_gateways()
    wide = t.pair
    narrow, fa, fb = write_pair(lab, t, "narrow", "10.1.0.0/16[udp]", "10.2.0.0/16[udp/6001]")
    for d, f in ((t.da, fa), (t.db, fb)):
        d.json("sa", "rekey", "ipsec1", f)
    go_over((t.da, fa), (t.db, fb))
    both = {wide.a.spi, narrow.a.spi}
    wait_until(lambda: used(t.da) == both and used(t.db) == {wide.b.spi, narrow.b.spi}, 5, lambda: t.da.ctl("sa list").stdout)
    stream = Stream(lab, t)
    flaps = t.da.link()["flaps"], t.db.link()["flaps"]
    for tag, ends, old in (("n2", ("10.1.0.0/16[udp]", "10.2.0.0/16[udp/6001]"), narrow), ("w2", ("", ""), wide)):
        new, na, nb = write_pair(lab, t, tag, *ends)
        for d, f in ((t.da, na), (t.db, nb)):
            d.json("sa", "rekey", "ipsec1", f)
            stream.more(20)
        go_over((t.da, na))
        both = both - {old.a.spi} | {new.a.spi}
        wait_until(lambda: used(t.da) == both and len(t.da.link()["sas"]) == 4 and len(t.db.link()["sas"]) == 4, 10,
                   lambda: f"{both}\n{t.da.ctl('sa list').stdout}\n{t.db.ctl('sa list').stdout}")
    stream.more(20)
    stream.all_arrived()
    assert (t.da.link()["flaps"], t.db.link()["flaps"]) == flaps


CHILD = """
connections {{ {name} {{
    version = 2
    remote_addrs = {remote}
    local {{ auth = psk }}
    remote {{ auth = psk }}
    children {{
        {name} {{ {common} local_ts = 0.0.0.0/0,::/0
                  remote_ts = 0.0.0.0/0,::/0 }}
        voice {{ {common} local_ts = {mine}
                 remote_ts = {theirs} }}
    }}
}} }}
secrets {{ ike-x {{ secret = "a secret of the laboratory" }} }}
"""


def test_3_5_children_of_ike(lab):
    """A second child of IKEv2 on one link takes only what it was negotiated for, and gives it back; renewed, it stays so."""
    t = own_connections(lab)
    common = "policies = no\n if_id_in = 1\n if_id_out = 1\n esp_proposals = aes256gcm16-esn\n"
    for c, name, far, mine, theirs in ((t.ca, "east", "b4", "10.1.0.0/16[udp]", "10.2.0.0/16[udp/5000]"),
                                       (t.cb, "west", "a4", "10.2.0.0/16[udp/5000]", "10.1.0.0/16[udp]")):
        with open(c.path("swanctl.conf"), "w") as f:
            f.write(CHILD.format(name=name, remote=t.outer[far], common=common, mine=mine, theirs=theirs))
        c.swanctl("--load-all", "--file", c.path("swanctl.conf"))
    up(t)
    wide = ike_in_use(t.da)
    need_ping(t.h1, FAR["h1"])
    t.ca.swanctl("--initiate", "--child", "voice")
    wait_until(lambda: len(used(t.da)) == len(used(t.db)) == 2, 5, lambda: t.da.ctl("sa list").stdout)
    (voice,) = used(t.da) - {wide}
    assert sas(t.da, "out")[voice]["for"] == ["10.1.0.0/16 10.2.0.0/16[udp/5000]"]
    sink, other = lab.sink(t.h2, 5000), lab.sink(t.h2, 5001)

    def each():
        before = {s: sas(t.da, "out")[s]["packets"] for s in used(t.da)}
        send(t.h1, FAR["h1"], 5000, n=5)
        send(t.h1, FAR["h1"], 5001, n=3)
        assert len([sink.recv(64) for _ in range(5)]) == 5 and len([other.recv(64) for _ in range(3)]) == 3
        return {s: sas(t.da, "out")[s]["packets"] - n for s, n in before.items()}

    got = each()
    assert got[voice] == 5 and got[wide] >= 3, got  # probes go by the wide one
    t.ca.swanctl("--rekey", "--child", "voice")
    wait_until(lambda: voice not in sas(t.da, "out") and len(used(t.da)) == 2, 10, lambda: t.da.ctl("sa list").stdout)
    assert wide in used(t.da), "the other one stays"
    (voice,) = used(t.da) - {wide}
    assert each()[voice] == 5
    t.ca.swanctl("--terminate", "--child", "voice")
    wait_until(lambda: used(t.da) == {wide} and len(used(t.db)) == 1, 5, lambda: t.da.ctl("sa list").stdout)
    assert each()[wide] >= 8
    assert ping(t.h2, FAR["h2"])
