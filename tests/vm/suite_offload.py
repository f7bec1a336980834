# SPDX-License-Identifier: GPL-2.0-or-later
"""`offload`: a NIC is asked to do the cryptography of a link that the kernel carries, and what came of it is told as it is.

The NIC is netdevsim, which takes AES-GCM-128 without ESN, lists its states in debugfs, counts what it sends for them, and encrypts
nothing. So nothing here says that a NIC encrypts; what is tried is who was asked, what is read back, and what happens when it refuses, goes or
comes: numbers are never used again, and there is always an SA.
"""
import functools
import json
import os
import re
import socket
import time

import bed  # NS.run without nsenter, noqa: F401
import xfrm
from conftest import Lab
from guest import Case, Shared, Skip
from lib import keys
from lib.daemon import Monitor
from lib.topo import KERNEL, conf_text
from lib.traffic import Listener
from lib.util import sh, wait_until

BUS, DEBUG = "/sys/bus/netdevsim", "/sys/kernel/debug"
LINKED = KERNEL >= (6, 9)  # from there on a netdevsim has no carrier without another one
SKIP = 1 << 16  # numbers left out when a state is made again
PEER, OTHER = "203.0.113.2", "203.0.113.6"
GONE = 40  # seconds for a state to follow, emulated


def tell(path, text):
    with open(path, "w") as f:
        f.write(text)


class Gateway:
    """One gateway whose eth1 is a netdevsim and whose eth2 is a veth to a neighbour who listens; the peer answers nothing."""

    paths = f"{PEER} local 198.51.100.1"

    def __init__(self):
        self.lab, self.next, self.nic, self.far = Lab("offload"), 1, None, None
        try:
            self.ns, self.wild = self.lab.net.ns("gw", forward=True), self.lab.net.ns("wild")
            self.lab.net.wire(self.ns, "eth2", self.wild, "eth2", ("192.0.2.1/24",), ("192.0.2.2/24",))
            self.ns.ip("addr add 198.51.100.1/32 dev lo", f"route add {PEER} via 192.0.2.2 metric 200 src 198.51.100.1")
            self.nic = self.plug()
            self.pair = keys.Pair(alg="aes-gcm-128", esn=False)
            self.file = self.pair.write(self.lab.path("a.sa"), "a")
            self.conf = conf_text([("ipsec1", {"peer": "east", "address": "10.9.0.1 peer 10.9.0.2", "path": self.paths,
                                          "route": "10.2.0.0/16", "protect": "10.2.0.0/16", "liveness": "off", "backend": "xfrm",
                                          "offload": "crypto", "sa": f"file:{self.file}"})],
                             underlay={"devices": "eth1 eth2", "input": "socket"})
            self.d = self.lab.daemon(self.ns, self.conf, keys=[self.file], start=False)
            self.d.start(timeout=60)
            self.d.wait_up(timeout=40)
            self.m = Monitor(self.d)
            wait_until(lambda: self.m.saw(event="monitor-start"), 20, "the monitor")
        except BaseException:
            self.close()
            raise

    # --- the NIC ---

    def make(self, ns, name):
        """A netdevsim is made where its maker is. Return: its number on the bus"""
        i, self.next = self.next, self.next + 1
        before = self.devices(ns)
        ns.enter(tell, f"{BUS}/new_device", f"{i} 1")
        new, = self.devices(ns) - before
        ns.ip(f"link set {new} name {name}")
        return i

    def devices(self, ns):
        return {l["ifname"] for l in json.loads(ns.out("ip -j link"))}

    def plug(self):
        """eth1 comes, with the better route."""
        i = self.make(self.ns, "eth1")
        if LINKED:
            self.far = self.make(self.wild, f"far{i}")
            fds = [os.open(ns.path, os.O_RDONLY) for ns in (self.ns, self.wild)]
            ends = [json.loads(ns.out(f"ip -j link show {dev}"))[0]["ifindex"] for ns, dev in ((self.ns, "eth1"), (self.wild, f"far{i}"))]
            tell(f"{BUS}/link_device", " ".join(f"{fd}:{n}" for fd, n in zip(fds, ends)))
            for fd in fds:
                os.close(fd)
            self.wild.ip(f"link set far{i} up")
        self.ns.ip("link set eth1 up", "addr add 192.0.3.1/24 dev eth1", "neigh add 192.0.3.2 lladdr 02:00:00:00:00:02 dev eth1 nud permanent",
                   f"route add {PEER} via 192.0.3.2 dev eth1 metric 100 src 198.51.100.1")
        return i

    def unplug(self):
        tell(f"{BUS}/del_device", str(self.nic))
        if self.far:
            tell(f"{BUS}/del_device", str(self.far))
        self.nic = self.far = None

    def table(self):
        """What the NIC says it has: (number of states, packets sent for them, {spi})."""
        with open(f"{DEBUG}/netdevsim/netdevsim{self.nic}/ports/0/ipsec") as f:
            text = f.read()
        count, tx = map(int, re.match(r"SA count=(\d+) tx=(\d+)", text).groups())
        return count, tx, {int(s, 16) for s in re.findall(r"spi=0x([0-9a-f]+)", text)}

    # --- the link ---

    def sas(self):
        return {s["dir"]: s for s in self.d.link()["sas"] if s["live"]}

    def offload(self):
        return {way: (s["offload"]["mode"], s["offload"]["device"]) for way, s in self.sas().items()}

    def why(self):
        return self.sas()["out"]["offload"]["why"], self.sas()["in"]["offload"]["why"]

    def ask(self, words):
        self.d.json("link", "set", "ipsec1", "offload", [words])

    def renew(self, name, **kw):
        """Another pair of keys in the place of the one that is there; nobody answers who could have it as well."""
        old, self.pair = self.pair, keys.Pair(alg="aes-gcm-128", **kw)
        f = self.pair.write(self.lab.path(name), "a")
        self.d.write_conf(self.conf.replace(self.file, f))
        self.d.add_keys(f)
        self.d.init_state(f)
        self.d.json("sa", "add", "ipsec1", f)
        self.d.json("sa", "rekey", "ipsec1", f, "--now")
        for sa in (old.a, old.b):
            self.d.json("sa", "del", "ipsec1", f"{sa.spi:#010x}", check=False)  # outbound it is gone already
        wait_until(lambda: {int(s["spi"], 16) for s in self.sas().values()} == {self.pair.a.spi, self.pair.b.spi}, 20, self.trouble)
        return self.pair

    def both(self, mode, device):
        return {"out": (mode, device), "in": (mode, device)}

    def send(self, n=20):
        """Datagrams into the link. Return: packets its outbound SA has counted for them"""
        before = self.sas()["out"]["packets"]
        with self.ns.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            for _ in range(n):
                s.sendto(b"for a NIC", ("10.2.0.9", 4242))
        wait_until(lambda: self.sas()["out"]["packets"] >= before + n, 20, self.trouble)
        return self.sas()["out"]["packets"] - before

    def states(self):
        return self.ns.out("ip -d xfrm state")

    def events(self, **want):
        return self.m.all(event="offload", link="ipsec1", **want)

    def trouble(self):
        xf = re.sub("0x[0-9a-f]{30,}", "KEY", self.ns.out("ip -d -s xfrm state"))
        return f"{json.dumps(self.d.link(check=False))}\n{self.d.log()[-2500:]}\n{xf}\n{({k: v for k, v in xfrm.stat(self.ns).items() if v})}\n" \
               f"{self.ns.out('ip route get ' + PEER)} {self.table() if self.nic else 'no NIC'} {self.m.read()[-5:]}"

    def close(self):
        try:
            if self.nic:
                self.unplug()
        except OSError:
            pass
        self.lab.close()


class TwoPaths(Gateway):
    """The second one leaves by eth2 alone."""

    paths = f"{PEER} local 198.51.100.1\npath = {OTHER} local 198.51.100.1"

    def plug(self):
        self.ns.ip(f"route del {PEER} via 192.0.2.2", f"route replace {OTHER} via 192.0.2.2 src 198.51.100.1")
        return super().plug()


gateway = Shared(Gateway).get
two_paths = Shared(TwoPaths).get


def taken(case):
    """Both states are the NIC's, by its own word and by the kernel's; what leaves is counted by NIC and state alike."""
    g = gateway()
    assert g.offload() == g.both("crypto", "eth1") and g.why() == (None, None), g.trouble()
    assert g.d.link()["offload"] == {"asked": "crypto", "device": None, "why": None}
    count, tx, spis = g.table()
    assert (count, spis) == (2, {g.pair.a.spi, g.pair.b.spi}), g.trouble()
    states = g.states()
    assert len(re.findall(r"crypto offload parameters: dev eth1 dir (?:out|in)", states)) == 2, re.sub("0x[0-9a-f]{30,}", "KEY", states)
    n = g.send()
    wait_until(lambda: g.table()[1] == g.sas()["out"]["packets"] >= tx + n, 10, g.trouble)
    assert g.sas()["out"]["seq"] >= n
    text = g.d.ctl("sa list", json_out=False).stdout
    assert text.count("offload crypto eth1") == 2, text
    assert "crypto was asked for" in g.d.ctl("show -v", json_out=False).stdout
    assert "crypto on eth1" in g.d.log() and not g.events()
    case.note(f"{n} packets counted by eth1")


def off_and_on(case):
    """`link set` reaches the states that stand: other ones, behind all numbers."""
    g = gateway()
    seq = g.sas()["out"]["seq"]
    g.ask("off")
    assert g.offload() == g.both("off", None) and g.why() == (None, None) and g.table()[0] == 0, g.trouble()
    assert g.sas()["out"]["seq"] >= seq + SKIP
    tx = g.table()[1]
    g.send()
    assert g.table()[1] == tx
    g.ask("auto")
    assert g.offload() == g.both("crypto", "eth1") and g.table()[0] == 2, g.trouble()
    wait_until(lambda: len(g.events(asked="auto", mode="crypto", device="eth1")) == 2, 10, g.trouble)
    seq = g.sas()["out"]["seq"]
    g.ask("crypto")
    assert g.offload() == g.both("crypto", "eth1") and g.sas()["out"]["seq"] < seq + SKIP, "the same wish by another name makes no state"
    g.send()


def packet(case):
    """Not driven, whatever the NIC says: in software, and loudly."""
    g = gateway()
    g.ask("packet")
    assert g.offload() == g.both("off", None) and g.table()[0] == 0, g.trouble()
    assert all("packet offload is not driven" in w and "offload = crypto" in w for w in g.why()), g.why()
    wait_until(lambda: len(g.events(asked="packet", mode="off", device=None)) == 2, 10, g.trouble)
    assert g.events(asked="packet")[0]["why"] == g.why()[0]
    assert "offload = packet: in software: packet offload is not driven" in g.d.log()
    assert "in software: packet offload" in g.d.ctl("sa list", json_out=False).stdout
    assert g.d.is_up()
    g.send()
    g.ask("crypto")
    assert g.offload() == g.both("crypto", "eth1"), g.trouble()


def silently(case):
    """A veth takes the wish without a word and does nothing: read back, and said. So is a device that is not there."""
    g = gateway()
    g.ask("crypto eth2")
    assert g.offload() == g.both("off", None) and g.table()[0] == 0 and g.d.is_up(), g.trouble()
    assert all(w.startswith("eth2 takes no states") for w in g.why()), g.why()
    wait_until(lambda: len(g.events(asked="crypto", mode="off")) == 2, 10, g.trouble)
    g.send()
    g.ask("auto eth9")
    assert g.why() == ("there is no device eth9 in the underlay",) * 2 and g.d.is_up(), g.trouble()
    g.ns.ip("link add eth9 type dummy")
    wait_until(lambda: all((w or "").startswith("eth9 takes no states") for w in g.why()), GONE, g.trouble, poll=0.3)
    g.ns.ip("link del eth9")
    g.ask("crypto eth1")
    assert g.offload() == g.both("crypto", "eth1") and g.d.link()["offload"]["device"] == "eth1", g.trouble()
    g.ask("crypto")
    g.send()


def refused(case):
    """An SA with ESN is more than this NIC does: the kernel says no, and the SA is there without it."""
    g = gateway()
    new = g.renew("esn.sa")
    assert g.sas()["out"]["offload"]["mode"] == "off" and g.sas()["out"]["offload"]["why"].startswith("eth1 refused it: Invalid argument"), g.why()
    assert "without ESN" in g.sas()["out"]["offload"]["why"]
    wait_until(lambda: [e for e in g.events(asked="crypto", mode="off", dir="out") if e["spi"] == f"{new.a.spi:#010x}"], 10, g.trouble)
    tx = g.table()[1]
    g.send()
    assert g.table()[1] == tx and g.d.is_up()
    case.note(g.sas()["out"]["offload"]["why"])
    # and back: the next pair is one that it takes
    g.renew("b.sa", esn=False)
    assert g.offload() == g.both("crypto", "eth1") and g.table()[0] == 2, g.trouble()
    assert g.events(asked="crypto", mode="crypto", dir="out"), g.m.events


def flushed(case):
    """Deleted by somebody: made again, by the NIC again."""
    g = gateway()
    g.send()
    seq = g.sas()["out"]["seq"]
    g.ns.ip("xfrm state flush")
    wait_until(lambda: g.sas()["out"]["seq"] >= seq + SKIP and g.table()[0] >= 2, GONE, g.trouble, poll=0.3)
    assert g.offload()["out"] == ("crypto", "eth1"), g.trouble()
    g.send()


def restarted(case):
    """A successor finds them where they are: nothing is made again."""
    g = gateway()
    g.send()
    count, seq = g.table()[0], g.sas()["out"]["seq"]
    g.d.kill()
    g.d.start(timeout=60)
    g.d.wait_up(timeout=40)
    g.m = Monitor(g.d)
    wait_until(lambda: g.m.saw(event="monitor-start"), 20, "the monitor")
    time.sleep(3)
    assert g.offload()["out"] == ("crypto", "eth1") and g.table()[0] == count, g.trouble()
    assert seq <= g.sas()["out"]["seq"] < seq + SKIP, f"{seq} {g.trouble()}"
    g.send()


def unplugged(case):
    """The NIC goes: the kernel deletes its states. They are made again behind all numbers, in software, and leave by the other uplink, encrypted; it
    comes back, and they follow."""
    g = gateway()
    g.send()
    seq, flaps = g.sas()["out"]["seq"], g.d.link()["flaps"]
    g.unplug()
    wait_until(lambda: g.sas()["out"]["seq"] >= seq + SKIP and set(g.offload().values()) == {("off", None)}, GONE, g.trouble, poll=0.3)
    assert g.d.is_up() and g.d.link()["flaps"] == flaps
    wait_until(lambda: g.d.link()["path"]["dev"] == "eth2", 20, g.trouble, poll=0.3)
    assert "went down with eth1, or was deleted by somebody: made again" in g.d.log(), g.trouble()
    wire = Listener(g.wild, "eth2")
    n = g.send()
    esp = wire.wait(lambda f: f[9] == 50, 20, n=n, what="envelopes by eth2")
    assert not any(b"for a NIC" in f for f in wire.poll()), "in the clear"
    wire.close()
    numbers = [int.from_bytes(f[24:28], "big") for f in esp]
    assert len(set(numbers)) == len(numbers) and min(numbers) > seq, f"{seq} {sorted(numbers)[:3]}"
    wait_until(lambda: g.events(asked="crypto", mode="off", dir="out"), 10, g.trouble)
    seq = g.sas()["out"]["seq"]
    g.nic = g.plug()
    wait_until(lambda: g.offload() == g.both("crypto", "eth1"), GONE, g.trouble, poll=0.3)
    assert g.sas()["out"]["seq"] >= seq + SKIP and g.table()[0] >= 2, g.trouble()
    wait_until(lambda: g.events(asked="crypto", mode="crypto", dir="out"), 10, g.trouble)
    tx = g.table()[1]
    n = g.send()
    wait_until(lambda: g.table()[1] >= tx + n, 10, g.trouble)
    assert g.d.is_up() and g.d.link()["flaps"] == flaps


def down_and_up(case):
    """Set down, its states go as well; up again, it has them again."""
    g = gateway()
    seq = g.sas()["out"]["seq"]
    g.ns.ip("link set eth1 down")
    wait_until(lambda: g.sas()["out"]["seq"] >= seq + SKIP, GONE, g.trouble, poll=0.3)
    assert g.d.is_up()
    g.send()
    g.ns.ip("link set eth1 up", "neigh replace 192.0.3.2 lladdr 02:00:00:00:00:02 dev eth1 nud permanent",
            f"route replace {PEER} via 192.0.3.2 dev eth1 metric 100 src 198.51.100.1")
    wait_until(lambda: g.offload() == g.both("crypto", "eth1") and g.d.link()["path"]["dev"] == "eth1", GONE, g.trouble, poll=0.3)
    tx = g.table()[1]
    n = g.send()
    wait_until(lambda: g.table()[1] >= tx + n, 10, g.trouble)


def released(case):
    g = gateway()
    g.d.stop()
    g.d.release()
    assert g.table()[0] == 0 and "proto esp" not in g.states()


def each_path_has_its_own(case):
    """A path's outbound state keeps its device while another path is in use, and is raised before it is used again; the inbound one follows slowly."""
    g = two_paths()
    assert g.offload() == g.both("crypto", "eth1") and g.table()[0] == 2, g.trouble()
    g.send()
    seq, start = g.sas()["out"]["seq"], time.monotonic()
    g.ns.ip(f"route del {PEER} via 192.0.3.2")
    wait_until(lambda: g.offload()["out"] == ("off", None), GONE, g.trouble, poll=0.1)
    assert g.sas()["out"]["offload"]["why"].startswith("eth2 takes no states") and g.sas()["out"]["seq"] >= seq + SKIP, g.trouble()
    assert g.table()[2] >= {g.pair.a.spi}, "the state that waits"
    wait_until(lambda: g.offload()["in"] == ("off", None), GONE, g.trouble, poll=0.1)
    assert time.monotonic() - start > 5 and g.table()[2] == {g.pair.a.spi}, g.trouble()
    g.send()
    seq, tx = g.sas()["out"]["seq"], g.table()[1]
    g.ns.ip(f"route add {PEER} via 192.0.3.2 dev eth1 metric 100 src 198.51.100.1")
    wait_until(lambda: g.offload()["out"] == ("crypto", "eth1"), GONE, g.trouble, poll=0.1)
    n = g.send()
    wait_until(lambda: g.table()[1] >= tx + n, 10, g.trouble)
    assert g.sas()["out"]["seq"] >= seq + SKIP, g.trouble()
    wait_until(lambda: g.offload()["in"] == ("crypto", "eth1") and g.table()[0] == 2, GONE, g.trouble, poll=0.3)
    g.ask("off")
    assert g.offload() == g.both("off", None) and g.table()[0] == 0, g.trouble()


CASES = (taken, off_and_on, packet, silently, refused, flushed, restarted, unplugged, down_and_up, released, each_path_has_its_own)


@functools.lru_cache
def module():
    """Return: "" or why there is no netdevsim in this guest"""
    p = sh(["modprobe", "netdevsim"], check=False)
    if p.returncode:
        return f"netdevsim: {p.stderr.strip()}"
    if not os.path.isdir(f"{DEBUG}/netdevsim"):
        sh(["mount", "-t", "debugfs", "d", DEBUG])
    return ""


def guarded(fn, missing):
    def run(case):
        why = missing or module()
        if why:
            raise Skip(why)
        fn(case)
    return run


def cases(job):
    missing = job.get("netdevsim", "the lane says nothing of netdevsim")
    return [Case(fn.__name__, guarded(fn, missing), limit=200) for fn in CASES[:4 if job["quick"] else None]]
