# SPDX-License-Identifier: GPL-2.0-or-later
"""A wild wire with somebody on it: frames can be held back, sent twice or shuffled, and are looked at."""
import random
import select
import socket
import struct
import threading
import time

from bed import Bed
from lib.frames import OUTGOING, open_frames
from lib.topo import TwoHosts

VNET = 10  # virtio_net_hdr in front of what packet sockets read and write here


def envelope(frame):
    """(SPI, sequence number on the wire) of ESP, bare or in UDP 4500; None for anything else."""
    kind, ip = frame[12:14], frame[14:]
    if kind == b"\x08\x00":
        proto, at = ip[9], (ip[0] & 15) * 4
    elif kind == b"\x86\xdd":
        proto, at = ip[6], 40
    else:
        return None
    if proto == 17 and 4500 in struct.unpack(">HH", ip[at:at + 4]):
        proto, at = 50, at + 8
    return struct.unpack(">II", ip[at:at + 8]) if proto == 50 and len(ip) >= at + 8 else None


class Relay:
    """Passes frames between two devices of a namespace. Rules are by SPI; set them, then send."""

    def __init__(self, ns, left, right):
        self.socks = [open_frames(ns, left), open_frames(ns, right)]
        self.lock = threading.Lock()
        self.holding, self.held = {}, []  # SPI -> how many more to hold; (socket, frame, number)
        self.twice, self.shuffled, self.queue = set(), {}, []  # SPIs; SPI -> how many at a time; (socket, frame)
        self.last, self.numbers, self.plain = {}, {}, []  # SPI -> newest number; SPI -> frames; frames with neither ESP nor a neighbour's question
        self.random, self.stop = random.Random(4303), False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def hold(self, spi, n=1):
        with self.lock:
            self.holding[spi] = n

    def release(self, keep=False):
        """Send what is held; keep: it can be sent again. Return: how many."""
        with self.lock:
            for to, data, _ in self.held:
                to.send(data)
            n = len(self.held)
            self.held = self.held if keep else []
            return n

    def forget(self):
        """No rules, nothing held."""
        with self.lock:
            self.flush()
            self.holding, self.held, self.twice, self.shuffled = {}, [], set(), {}

    def quiet(self, seconds=1.5):
        """Wait until the links have said what new devices say."""
        seen = None
        while seen != sum(self.numbers.values()):
            seen = sum(self.numbers.values())
            time.sleep(seconds)

    def run(self):
        a, b = self.socks
        while not self.stop:
            ready, _, _ = select.select(self.socks, [], [], 0.02)
            for s in ready:
                data, where = s.recvfrom(1 << 17)
                if where[2] != OUTGOING:
                    with self.lock:
                        self.take(data, b if s is a else a)
            if not ready:
                with self.lock:
                    self.flush()

    def take(self, data, to):
        esp = envelope(data[VNET:])
        if not esp:
            self.look(data[VNET:])
            to.send(data)
            return
        spi, seq = esp
        self.last[spi] = seq
        self.numbers[spi] = self.numbers.get(spi, 0) + 1
        if self.holding.get(spi):
            self.holding[spi] -= 1
            self.held.append((to, data, seq))
        elif spi in self.shuffled:
            self.queue.append((to, data))
            if len(self.queue) >= self.shuffled[spi]:
                self.flush()
        else:
            for _ in range(2 if spi in self.twice else 1):
                to.send(data)

    def flush(self):
        self.random.shuffle(self.queue)
        for to, data in self.queue:
            to.send(data)
        self.queue = []

    def look(self, frame):
        """Neighbours may ask for each other; nothing else belongs here."""
        if frame[12:14] == b"\x08\x06" or frame[12:14] == b"\x86\xdd" and frame[20] in (0, 58):
            return
        self.plain.append(frame)

    def close(self):
        self.stop = True
        self.thread.join(timeout=5)
        for s in self.socks:
            s.close()


class RelayedHosts(TwoHosts):
    def wild_wire(self, a, b, mtu, bad):
        self.mid = self.net.ns("mid")
        self.mid.sysctl_set("net.ipv6.conf.default.disable_ipv6", 1)
        self.net.wire(self.a, "eth1", self.mid, "left", a, (), mtu=mtu, underlay=True)
        self.net.wire(self.mid, "right", self.b, "eth1", (), b, mtu=mtu, underlay=True)


class RelayedBed(Bed):
    def __init__(self, links, **kw):
        super().__init__(links, **kw)
        self.relay.quiet()

    def topo(self, mtu):
        self.t = RelayedHosts(self.net, mtu=mtu)
        for kind in ("mldv1", "mldv2"):  # new devices report their groups twice, by default within ten seconds
            self.t.a.sysctl_set(f"net.ipv6.conf.default.{kind}_unsolicited_report_interval", 100)
        self.relay = Relay(self.t.mid, "left", "right")
        self.closers.append(self.relay.close)
