# SPDX-License-Identifier: GPL-2.0-or-later
"""espwire on both gateways, with everything a user has: guards on all layers, counters, liveness, a firewall."""
import os
import resource
import socket
import time

from bed import WILD_R
from lib.daemon import Daemon
from lib.keys import Pair
from lib.topo import conf_text
from lib.util import tool
from peers import Tunnel, Unavailable

# For experiments: SET="ipsecd.workers=1 underlay.input=socket link.liveness=off" sets keys of the configuration.
ALG = os.environ.get("ALG") or "aes-gcm-128"
SET = [word.split("=", 1) for word in (os.environ.get("SET") or "").split()]
FIREWALL = ("table inet bench { chain out { type filter hook output priority 0; meta l4proto { esp, udp } counter; }; "
            "chain in { type filter hook input priority 0; meta l4proto { esp, udp } counter; }; }")


# Ten thousand; each holds two ledgers open, and not every root may raise its own limit.
LINKS = min(10000, (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 500) // 2)


def fillers(where):
    """Sections of LINKS - 1 links that carry nothing: each has an address, a path, keys of its own."""
    made = []
    for n in range(2, LINKS + 1):
        at = 4 * n
        net = f"10.{128 + (at >> 16)}.{at >> 8 & 255}"
        key = Pair(ALG).write(os.path.join(where, f"filler{n}.sa"), "a")
        made.append((f"ipsec{n}", {"peer": f"filler{n}", "address": f"{net}.{at & 255 | 1} peer {net}.{at & 255 | 2}",
                                   "path": WILD_R, "liveness": "off", "link-local": "no", "sa": f"file:{key}"}))
    return made


class Espwire(Tunnel):
    name = "espwire"
    kinds = ("path", "enc", "dec", "link", "links", "none")

    def up(self):
        self.need(tool("ipsecd"), tool("ipsecctl"), "nft")
        self.daemons, self.thief, bed = [], [], self.bed
        self.sealing = ("udp", self.path("a.sa"))
        self.spins = self.kind in ("link", "links")  # so many want looking after, also when nothing passes
        if self.kind in ("enc", "dec"):  # XDP frames enter a veth only where it polls
            for ns in (bed.gl, bed.gr):
                ns.run(["ethtool", "-K", "lan", "gro", "on"])
        pair = Pair(ALG, window=4096)
        for ns, side, me, far in ((bed.gl, "a", 1, 2), (bed.gr, "b", 2, 1)):
            ns.run(["nft", FIREWALL])
            if self.stolen:
                self.steal_4500(ns)
            more = fillers(self.dir) if self.kind == "links" and side == "a" else []
            self.daemons.append(self.daemon(ns, pair.write(self.path(f"{side}.sa"), side), me, far, more))
        start = time.monotonic()
        for d in self.daemons:
            d.start(timeout=900 if self.kind == "links" else 20)
        self.created = f"{LINKS} links created in {time.monotonic() - start:.0f} s"
        try:
            for d in self.daemons:
                d.wait_up(timeout=240 if self.kind == "links" else 8)
        except AssertionError as e:
            raise Unavailable(str(e)[:200])
        bed.into("ipsec1", "ipsec1")
        self.need_carrying(*(d.log_file for d in self.daemons))
        self.remark()
        if self.kind in ("enc", "dec"):  # the other end becomes a bare wire
            self.daemons[self.kind == "enc"].destroy()
        self.pids = [p for d in self.daemons for p in d.pids()]

    def daemon(self, ns, key_file, me, far, more):
        conf = {"ipsecd": {"workers": "auto"}, "underlay": {"devices": "wan", "input": "auto"}, "link": {
            "peer": f"gw{far}", "address": f"10.93.0.{me} peer 10.93.0.{far}", "path": f"10.92.0.{far} encap udp",
            "inner": f"10.91.{far}.0/24", "protect": f"10.91.{far}.0/24", "liveness": "500ms x 3", "sa": f"file:{key_file}"}}
        if self.kind in ("enc", "dec"):  # one core; the link stays up for two minutes without its far end
            conf["ipsecd"]["workers"], conf["link"]["liveness"] = 1, "500ms x 255"
        if self.kind == "dec":  # XDP frames come in by XDP
            conf["underlay"]["input"] = "xdp"
        if self.kind in ("link", "links"):  # `auto` may choose otherwise for one than for its neighbour
            conf["underlay"]["input"] = "socket"
        if self.kind == "enc":  # as ipsec-secgw takes them: from the driver, past the stack
            conf["underlay"]["shortcut"] = "lan"
        if more:
            conf["ipsecd"]["max-links"] = 16384
        for key, value in SET:
            section, _, name = key.partition(".")
            conf[section][name] = value.replace("%", f"10.92.0.{far}")
        d = Daemon(ns, conf_text([("ipsec1", conf["link"]), *more], conf["ipsecd"], conf["underlay"]), self.dir)
        for f in (key_file, *(keys["sa"].removeprefix("file:") for _, keys in more)):
            d.add_keys(f)
        d.init_state()
        return d

    def steal_4500(self, ns):
        """Stand in for an IKE daemon: somebody else owns UDP port 4500."""
        s = ns.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind(("0.0.0.0", 4500))
        self.thief.append(s)

    def remark(self):
        j = self.daemons[0].show()["daemon"]
        owner = {"ipsecd": "ipsecd", "other": "a stand-in for an IKE daemon"}.get(j["port_4500"], j["port_4500"])
        perf = self.daemons[0].json("perf")
        words = [perf["crypto"], ALG, f"{len(perf['workers'])} worker" + "s" * (len(perf["workers"]) != 1)]
        if self.kind == "enc":
            words.append("shortcut on")
        if SET:
            words.append("set " + " ".join(map("=".join, SET)))
        self.notes.append(", ".join(words) + f"; guards, counters, liveness, firewall on; port 4500: {owner}")

    def twin(self, kind):
        """Another one of us, for figures side by side."""
        return type(self)(kind)

    def received(self):
        return self.daemons[1].link()["rx"]["packets"]

    def down(self):
        for d in getattr(self, "daemons", []):
            d.destroy()
        for s in getattr(self, "thief", []):
            s.close()
