# SPDX-License-Identifier: GPL-2.0-or-later
"""One link, one SA, several workers (`cores`): nothing is lost, no flow is reordered, the books are one worker's.

Super-packets make rounds large enough to be shared whatever the machine does meanwhile (CARRY_MIN); `perf` says what was given
and carried. lab.verify() balances the books and hunts for numbers that come twice.
"""
import os
import socket
import struct
import threading

import pytest

from lib.books import sums
from lib.topo import conf_text
from lib.traffic import need_ping, tcp_transfer
from lib.util import wait_until

UDP_SEGMENT, SEGS, SIZE = 103, 30, 1000
FAR, NEAR = "10.2.0.2", "10.1.0.2"
THREE, WIDE = {"workers": 3}, 4096
MB = 1 << 20


class Numbered:
    """Numbered datagrams of one flow, thirty at a time; the receiver notes every one that is not the next."""

    def __init__(self, src, dst, addr, port):
        self.rx = dst.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.rx.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        self.rx.bind((addr, port))
        self.rx.settimeout(5)
        self.tx = src.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.tx.setsockopt(socket.SOL_UDP, UDP_SEGMENT, SIZE)
        self.tx.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self.tx.connect((addr, port))
        self.sent = self.got = self.wrong = 0
        self.tail = os.urandom(SIZE - 8)

    def send(self):
        self.tx.send(b"".join(struct.pack("!Q", self.sent + i) + self.tail for i in range(SEGS)))
        self.sent += SEGS

    def receive(self):
        while self.got < self.sent:
            p = self.rx.recv(2048)
            self.wrong += p != struct.pack("!Q", self.got) + self.tail
            self.got += 1

    def close(self):
        self.rx.close()
        self.tx.close()


def bed(lab, encap="udp", **kw):
    t = lab.two_gateways(ipsecd=THREE, window=WIDE, path_a=f"198.51.100.2 encap {encap}", path_b=f"198.51.100.1 encap {encap}", **kw)
    for ns in (t.a, t.b):  # as any NIC has one: a veth that is read by XDP has room for 256 packets and refuses the rest
        ns.run(["tc", "qdisc", "add", "dev", "eth1", "root", "pfifo", "limit", "10000"])
    need_ping(t.h1, FAR)
    return t


def total(d, what):
    return sum(w[what] for w in d.json("perf")["workers"])


def stage(d, name):
    return [next(s["packets"] for s in w["stages"] if s["stage"] == name) for w in d.json("perf")["workers"]]


@pytest.mark.parametrize("path, cores", [("udp", 2), ("esp", 3)])
def test_flows_keep_their_order(lab, path, cores):
    """Six flows of twelve at once: each arrives whole and in order, envelopes by other workers' sockets, packets by their TAPs."""
    t = bed(lab, path, cores=str(cores))
    for d in (t.da, t.db):
        assert (d.link()["cores"], d.link()["cores_send"]) == (cores, True)
    flows = [Numbered(t.h1, t.h2, FAR, 6000 + i) for i in range(12)]
    for k in range(60):
        some = flows[k % 2::2]
        for f in some:  # 180 at a time: a funnel is a veth, and has room for 256
            f.send()
        for f in some:
            f.receive()
    assert [f.wrong for f in flows] == [0] * 12
    n = sum(f.sent for f in flows)
    assert total(t.da, "given") >= n / 2 and total(t.db, "given") >= n / 2, (t.da.json("perf"), t.db.json("perf"))
    for d in (t.da, t.db):
        wait_until(lambda: total(d, "given") == total(d, "carried"), 2, "what is given is carried")
        own = d.link()["worker"]
        who = [i for i, c in enumerate(stage(d, "carry")) if c]
        assert own not in who and len(who) == cores - 1, stage(d, "carry")
        assert sum(stage(d, "seal")[:own] + stage(d, "seal")[own + 1:]) == 0  # numbers and keys are one worker's
    for f in flows:
        f.close()


def test_tcp_both_ways(lab):
    t = bed(lab, cores="all")
    assert t.da.link()["cores"] == 3
    for src, dst, addr in ((t.h1, t.h2, FAR), (t.h2, t.h1, NEAR)):
        sent, got = tcp_transfer(src, dst, addr, 24 * MB)
        assert sent == got
    assert total(t.da, "given") > 1000 and total(t.db, "given") > 1000


def test_changes_under_traffic(lab):
    """More cores and fewer, another path, the link down and up, another link gone: what is out is settled first."""
    t = bed(lab, cores="3")
    box = {}

    def transfer():
        box["hashes"] = tcp_transfer(t.h1, t.h2, FAR, 96 * MB, timeout=90)
    th = threading.Thread(target=transfer)
    th.start()
    flaps = 0
    while th.is_alive():
        for cores in ("1", "2", "3", "all"):
            t.da.json("link", "set", "ipsec1", "cores", cores)
            t.db.json("link", "set", "ipsec1", "cores", cores)
        if flaps < 2:
            t.da.json("link", "down", "ipsec1")
            t.da.json("link", "up", "ipsec1")
            flaps += 1
    th.join()
    assert box["hashes"][0] == box["hashes"][1]
    assert t.da.link()["cores"] == 3 and total(t.da, "given") > 0


def test_narrow_window(lab):
    """A peer with a small window gets its envelopes from one worker; inner packets are shared all the same."""
    t = lab.two_gateways(ipsecd=THREE, cores="3", window=64)
    need_ping(t.h1, FAR)
    assert (t.da.link()["cores"], t.da.link()["cores_send"]) == (3, False)
    f = Numbered(t.h1, t.h2, FAR, 6000)
    for _ in range(30):
        f.send()
        f.receive()
    assert f.wrong == 0
    assert total(t.da, "given") == 0 and total(t.db, "given") > 0
    f.close()


def test_killed_with_work_given(lab):
    """kill -9 between giving and carrying: the successor closes the books, numbers go on above the reserved ones."""
    t = bed(lab, cores="3")
    sink = lab.sink(t.h2, 6000)
    tx = t.h1.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tx.setsockopt(socket.SOL_UDP, UDP_SEGMENT, SIZE)
    for d in (t.da, t.db, t.da):
        for _ in range(300):
            try:
                tx.sendto(bytes(SEGS * SIZE), (FAR, 6000))
            except OSError:
                pass  # unreachable, or a full queue: what is asked here is what the books say
        d.kill()
        d.start()
        need_ping(t.h1, FAR, timeout=10)
    tx.close()
    sink.close()
    t.db.stop()  # with work about, but nobody's
    t.db.start()
    need_ping(t.h1, FAR, timeout=10)


def test_no_neighbour_is_told_to_the_owner(lab):
    """Envelopes that another worker's socket took and that found no neighbour: no longer emitted, by the link's own books."""
    t = lab.two_hosts()
    _, ka, _ = lab.pair_files(window=WIDE)
    t.da = lab.daemon(t.a, conf_text([t.link("a", ka, "198.51.100.99 encap udp", liveness="off", cores="2")], THREE), keys=[ka])
    t.da.wait_up()
    before = t.da.json("drops")
    tx = t.h1.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tx.setsockopt(socket.SOL_UDP, UDP_SEGMENT, SIZE)
    tx.sendto(bytes(SEGS * SIZE), (FAR, 6000))
    tx.close()

    def lost():
        return sums(before, t.da.json("drops"), "out").get("no-neigh", 0)
    wait_until(lambda: lost() >= SEGS, 8, lambda: str(sums(before, t.da.json("drops"), "out")))
    assert total(t.da, "given") >= SEGS and total(t.da, "carried") >= SEGS
    books = t.da.json("drops")["conservation"][0]["out"]
    assert books["emitted"] == 0 and books["balance"] == 0, books
