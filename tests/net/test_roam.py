# SPDX-License-Identifier: GPL-2.0-or-later
"""Endpoints are learned from authentic, fresh packets only (I4), and addresses below may change."""
import socket
import time

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Raw, raw

from lib.esp_peer import Frame
from lib.traffic import need_ping, ping
from lib.util import stays, wait_until


def inner(n=0):
    return raw(IP(src="10.2.0.2", dst="10.1.0.2", id=n) / UDP(dport=4242) / Raw(b"roam"))


def remote(d, what="remote"):
    return d.json("path list")["links"][0]["paths"][0][what]


def learned(t, addr, timeout=5):
    """The peer keeps sending (moves are rate-limited) until the link follows."""
    def step():
        t.peer.send_raw(t.peer.seal(inner()))
        return remote(t.da) == addr
    wait_until(step, timeout, lambda: f"endpoint {addr}, is {remote(t.da)}", poll=0.05)


def move(t, addr, port=4500):
    """From now on the peer sends from there."""
    t.peer.sock.close()
    if t.peer.encap == "udp":
        t.peer.sock = t.b.socket(t.peer.family, socket.SOCK_DGRAM)
        t.b.enter(t.peer.sock.bind, (addr, port))
    else:
        t.peer.sock = t.b.socket(t.peer.family, socket.SOCK_RAW, 50)
        t.b.enter(t.peer.sock.bind, (addr, 0))


def peer_bed(lab, encap="esp", path=None):
    t = lab.peer_bed(encap=encap)
    t.b.ip("addr add 198.51.100.77/24 dev eth1", "addr add 198.51.100.78/24 dev eth1")
    return t


@pytest.mark.parametrize("encap", ["esp", "udp"])
def test_follows_an_authentic_packet(lab, encap):
    t = peer_bed(lab, encap)
    learned(t, "198.51.100.2")
    move(t, "198.51.100.77")
    learned(t, "198.51.100.77")
    n = len(t.peer.inner)
    ping(t.h1, "10.2.0.2", count=1, timeout=0.1)
    wait_until(lambda: len(t.peer.inner) > n and t.peer.opened[-1][0].dst == "198.51.100.77", 2, "envelopes follow")


def test_follows_a_new_port(lab):
    """A NAT that changes its mind: the same address, another port."""
    t = peer_bed(lab, "udp")
    move(t, "198.51.100.2", 40123)

    def step():
        t.peer.send_raw(t.peer.seal(inner()))
        return remote(t.da, "port") == 40123
    wait_until(step, 5, "port learned", poll=0.05)


def test_any_learns_its_first_peer(lab):
    t = lab.two_hosts()
    t.pair, ka, _ = lab.pair_files()
    from lib.esp_peer import Peer
    t.peer = Peer(t.b, "eth1", t.outer["b4"], t.outer["a4"], tx=t.pair.b, rx=t.pair.a)
    lab.closers.append(t.peer.close)
    t.da = lab.daemon(t.a, [t.link("a", ka, "any", liveness="off")], keys=[ka])
    wait_until(lambda: t.da.reason() == "no-endpoint", 2, lambda: f"no-endpoint, not {t.da.reason()}")
    learned(t, "198.51.100.2")
    t.da.wait_up()
    ping(t.h1, "10.2.0.2", count=1, timeout=0.1)
    wait_until(lambda: t.peer.inner, 2, "an envelope to the learned address")


def test_forged_source_never_moves(lab):
    """Bad ICV, replayed copies, stale numbers, garbage: from elsewhere, none moves the endpoint."""
    t = peer_bed(lab)
    learned(t, "198.51.100.2")
    old = [t.peer.seal(inner(n)) for n in range(5)]
    for e in old:
        t.peer.send_raw(e)
    late = t.peer.tx.seal(t.peer.next_seq(), inner(9))  # authentic, but by the time it arrives not the highest
    t.peer.send_raw(t.peer.seal(inner(10)))
    heard = t.peer.seq - 1  # every number but the late one's
    wait_until(lambda: t.da.link()["rx"]["packets"] == heard, 2, "those are delivered")
    atk = lab.attacker(t.b, "eth1", t.a)

    def shoot(esp):
        atk.ip(IP(src="198.51.100.66", dst=t.outer["a4"], proto=50) / Raw(esp))
    for e in old:
        shoot(e)
    bad = bytearray(t.peer.tx.seal(t.peer.seq + 1000, inner(11)))
    bad[-1] ^= 1
    shoot(bytes(bad))
    shoot(late)  # fills a hole in the window: delivered, but it does not advance the highest number
    wait_until(lambda: t.da.link()["rx"]["packets"] == heard + 1, 2, "the late one is delivered")
    stays(lambda: remote(t.da) == "198.51.100.2", 1.5, "the endpoint stays")
    t.peer.send_raw(t.peer.seal(inner(12)))
    assert ping(t.h1, "10.2.0.2", count=1, timeout=0.1) or remote(t.da) == "198.51.100.2"


def test_moves_are_rate_limited(lab):
    """Two sources that alternate cannot make the endpoint flutter per packet."""
    t = peer_bed(lab)
    learned(t, "198.51.100.2")
    socks = []
    for addr in ("198.51.100.77", "198.51.100.78"):
        s = t.b.socket(socket.AF_INET, socket.SOCK_RAW, 50)
        t.b.enter(s.bind, (addr, 0))
        socks.append(s)
    seen, start = [], time.monotonic()
    for n in range(100):
        socks[n % 2].sendto(t.peer.seal(inner(n)), (t.outer["a4"], 0))
        seen.append(remote(t.da))
    moves = sum(a != b for a, b in zip(seen, seen[1:]))
    assert moves <= 2 + 10 * (time.monotonic() - start), f"{moves} moves in 100 packets"
    for s in socks:
        s.close()


def renumber(t):
    t.a.ip("addr del 198.51.100.1/24 dev eth1", "addr add 198.51.100.200/24 dev eth1",
           f"route replace default via {t.outer['b4']}")


def sas(d):
    return {(s["dir"], s["spi"], s["fingerprint"]): s["seq"] for s in d.link()["sas"]}


def test_own_address_changes(lab):
    """
    The uplink is renumbered: no restart, the peer follows, traffic goes on (an unconnected socket follows). The SAs are the same ones
    and count on: an SA's identity knows nothing of the path. Envelopes bear the new address, which nobody had configured.
    """
    t = lab.two_gateways()
    need_ping(t.h1, "10.2.0.2")
    before, pid = {d: sas(d) for d in (t.da, t.db)}, t.da.proc.pid
    renumber(t)
    wait_until(lambda: remote(t.db) == "198.51.100.200", 10, lambda: f"the peer follows, has {remote(t.db)}")
    t.da.wait_up()
    mark = len(lab.tap.pcap(t.a, "eth1", True))
    need_ping(t.h1, "10.2.0.2", count=20)
    for d, was in before.items():
        now = sas(d)
        assert set(now) == set(was) and all(now[k] >= was[k] + 20 for k in was), f"{was} then {now}"
    assert t.da.running() and t.da.proc.pid == pid and t.da.log_now().count("ready:") == 1
    sources = {f.src for f in map(Frame, lab.tap.pcap(t.a, "eth1", True)[mark:]) if f.esp is not None}
    assert sources == {"198.51.100.200"}, sources


def test_own_address_changes_with_udp(lab):
    t = lab.two_gateways(path_a="198.51.100.2 encap udp", path_b="198.51.100.1 encap udp")
    need_ping(t.h1, "10.2.0.2")
    renumber(t)
    wait_until(lambda: remote(t.db) == "198.51.100.200", 10, lambda: f"the peer follows, has {remote(t.db)}")
    need_ping(t.h1, "10.2.0.2")


def test_uplink_comes_and_goes(lab):
    """The wire is taken away and another one plugged in, with another name: netlink is followed."""
    t = lab.two_gateways(underlay={"devices": "eth1 eth9"})
    need_ping(t.h1, "10.2.0.2")
    t.a.ip("link del eth1")
    wait_until(lambda: not t.da.is_up(), 5, "down without an uplink")
    lab.net.wire(t.a, "eth9", t.b, "eth9", ("198.51.100.1/24",), ("198.51.100.2/24",), underlay=True)
    t.b.ip("link set eth9 up")
    t.da.wait_up(timeout=15)
    need_ping(t.h1, "10.2.0.2", timeout=10)
