# SPDX-License-Identifier: GPL-2.0-or-later
"""espwire on both gateways, with everything a user has: guards on all layers, counters, liveness, a firewall."""
import os
import socket

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


class Espwire(Tunnel):
    name = "espwire"
    kinds = ("path", "enc", "dec")

    def up(self):
        self.need(tool("ipsecd"), tool("ipsecctl"), "nft")
        self.daemons, self.thief = [], []
        if self.kind != "path":  # XDP frames enter a veth only where it polls
            for ns in (self.bed.gl, self.bed.gr):
                ns.run(["ethtool", "-K", "lan", "gro", "on"])
        pair = Pair(ALG)
        for ns, side, me, far in ((self.bed.gl, "a", 1, 2), (self.bed.gr, "b", 2, 1)):
            ns.run(["nft", FIREWALL])
            if self.stolen:
                self.steal_4500(ns)
            self.daemons.append(self.daemon(ns, pair.write(self.path(f"{side}.sa"), side), me, far))
        for d in self.daemons:
            d.start()
        try:
            for d in self.daemons:
                d.wait_up()
        except AssertionError as e:
            raise Unavailable(str(e)[:200])
        self.bed.into("ipsec1", "ipsec1")
        self.need_carrying(*(d.log_file for d in self.daemons))
        self.remark()
        if self.kind != "path":  # the other end becomes a bare wire
            self.daemons[self.kind == "enc"].destroy()
        self.pids = [p for d in self.daemons for p in d.pids()]

    def daemon(self, ns, key_file, me, far):
        conf = {"ipsecd": {"workers": "auto"}, "underlay": {"devices": "wan"}, "link": {
            "peer": f"gw{far}", "address": f"10.93.0.{me} peer 10.93.0.{far}", "path": f"10.92.0.{far} encap udp",
            "inner": f"10.91.{far}.0/24", "protect": f"10.91.{far}.0/24", "liveness": "500ms x 3", "sa": f"file:{key_file}"}}
        if self.kind != "path":  # one core, and no probe falls due meanwhile
            conf["ipsecd"]["workers"], conf["link"]["liveness"] = 1, "10m x 3"
        for key, value in SET:
            section, _, name = key.partition(".")
            conf[section][name] = value.replace("%", f"10.92.0.{far}")
        d = Daemon(ns, conf_text([("ipsec1", conf["link"])], conf["ipsecd"], conf["underlay"]), self.dir)
        d.add_keys(key_file)
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
        if SET:
            words.append("set " + " ".join(map("=".join, SET)))
        self.notes.append(", ".join(words) + f"; guards, counters, liveness, firewall on; port 4500: {owner}")

    def down(self):
        for d in getattr(self, "daemons", []):
            d.destroy()
        for s in getattr(self, "thief", []):
            s.close()
