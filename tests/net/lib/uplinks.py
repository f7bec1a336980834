# SPDX-License-Identifier: GPL-2.0-or-later
"""Two gateways with two wires between them: what several paths under one link are for."""
import json
import os
import socket
import struct
import time

from lib.frames import fold
from lib.topo import TwoHosts

DEVICES = {"devices": "eth1 eth2"}


def mix(h):
    h ^= h >> 16
    h = h * 0x85ebca6b & 0xffffffff
    h ^= h >> 13
    h = h * 0xc2b2ae35 & 0xffffffff
    return h ^ h >> 16


def slot(src, dst, proto, sport, dport):
    """Which of the 256 slots an IPv4 flow falls into: user/spread.c, written again."""
    h = proto
    for word in (*(int.from_bytes(bytes(map(int, a.split("."))), "big") for a in (src, dst)), sport << 16 | dport):
        h = mix((h * 31 + word) & 0xffffffff)
    return h % 256


class TwoUplinks(TwoHosts):
    """TwoHosts with a second wire: eth2, 203.0.113.1 and .2 at its ends. Both run through a switch (silence())."""

    outer2 = {"a": "203.0.113.1", "b": "203.0.113.2"}

    def wild(self, mtu, bad):
        self.switch = self.net.ns("switch")
        super().wild(mtu, bad)
        self.switched("eth2", (f"{self.outer2['a']}/24",), (f"{self.outer2['b']}/24",), mtu)

    def wild_wire(self, a, b, mtu, bad):
        self.switched("eth1", a, b, mtu)

    def switched(self, dev, a, b, mtu):
        """A wire between the gateways whose carrier says nothing about its middle."""
        self.switch.ip(f"link add br-{dev} mtu {mtu} type bridge", f"link set br-{dev} up")
        for ns, end, addrs in ((self.a, f"a-{dev}", a), (self.b, f"b-{dev}", b)):
            self.net.wire(ns, dev, self.switch, end, addrs, mtu=mtu)
            self.net.settle()
            self.net.underlay(ns, dev)
            self.switch.ip(f"link set {end} master br-{dev}")

    def silence(self, dev, lost=True):
        """The wire loses everything, both ways, and nobody is told."""
        self.switch.ip(f"link set a-{dev} " + ("nomaster" if lost else f"master br-{dev}"))

    def paths(self, side, first="", second=""):
        """Two path lines: by eth1, by eth2."""
        far = "b" if side == "a" else "a"
        return [f"{self.outer[far + '4']} {first}", f"{self.outer2[far]} {second}"]


def build(lab, first="", second="", hosts=True, ipsecd=None, **over):
    """Both ends with two paths. Returns the topology with .da and .db, up by every path."""
    from lib.topo import conf_text
    t = TwoUplinks(lab.net, hosts=hosts)
    lab.tap.protect(*t.inner)
    t.pair, ka, kb = lab.pair_files()
    over.setdefault("liveness", "100ms x 5")

    def section(side, key):
        name, keys = t.link(side, key, **over)
        keys["path"] = "\npath = ".join(t.paths(side, first, second))
        return name, keys

    t.da = lab.daemon(t.a, conf_text([section("a", ka)], ipsecd, DEVICES), keys=[ka])
    t.db = lab.daemon(t.b, conf_text([section("b", kb)], ipsecd, DEVICES), keys=[kb])
    for d in (t.da, t.db):
        d.wait_up()
    return t


def paths(d, name="ipsec1"):
    return next(l for l in d.json("path list")["links"] if l["name"] == name)["paths"]


def states(d):
    return [p["state"] for p in paths(d)]


def in_use(d):
    return [p["in_use"] for p in paths(d)]


def sent(ns, dev):
    """Packets that left by a device."""
    return json.loads(ns.out(["ip", "-j", "-s", "link", "show", "dev", dev]))[0]["stats64"]["tx"]["packets"]


def far(n):
    """Tunnel addresses of the n-th of many links: 10.64/10."""
    return f"10.{64 + n // 250}.{n % 250}"


def many(lab, a_path, b_path, count, **over):
    """count links between two gateways, as the [link] sections and key files of either side."""
    from lib.keys import Pair
    sides, keys = {"a": [], "b": []}, {"a": [], "b": []}
    for n in range(1, count + 1):
        pair = Pair()
        for side, own, other, path in (("a", 1, 2, a_path), ("b", 2, 1, b_path)):
            key = pair.write(lab.path(f"{side}{n}.sa"), side)
            keys[side].append(key)
            sides[side].append((f"ipsec{n}", {"peer": f"peer{n}", "address": f"{far(n)}.{own} peer {far(n)}.{other}",
                                              "path": path, "sa": f"file:{key}", **over}))
    return sides, keys


class Echo:
    """Pings to the far ends of many links at once."""

    def __init__(self, lab, ns, count):
        self.sock = ns.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.sock.setblocking(False)
        lab.closers.append(self.sock.close)
        self.count, self.id = count, os.getpid() & 0xffff

    def all_answer(self, timeout, since=None):
        """Ask who has not answered yet until all have. Returns seconds since then (or since the call)."""
        start = since or time.monotonic()
        missing, seq = {f"{far(n)}.2" for n in range(1, self.count + 1)}, 0
        self.id = self.id % 0xffff + 1
        while missing:
            head = struct.pack("!BBHHH", 8, 0, 0, self.id, seq)
            seq = (seq + 1) & 0xffff
            msg = head[:2] + struct.pack("!H", ~fold(head) & 0xffff) + head[4:]
            for i, to in enumerate(sorted(missing)):
                try:
                    self.sock.sendto(msg, (to, 0))
                except OSError:  # no route yet, a full queue: next time
                    pass
                if i % 32 == 31:
                    self.drain(missing)
            end = time.monotonic() + 0.1
            while missing and time.monotonic() < end:
                self.drain(missing)
                time.sleep(0.005)
            assert time.monotonic() - start < timeout, f"{len(missing)} of {self.count} do not answer, as {sorted(missing)[:5]}"
        return time.monotonic() - start

    def drain(self, missing):
        try:
            while True:
                data, who = self.sock.recvfrom(256)
                icmp = data[(data[0] & 15) * 4:]
                if icmp[0] == 0 and icmp[4:6] == struct.pack("!H", self.id):
                    missing.discard(who[0])
        except BlockingIOError:
            pass
