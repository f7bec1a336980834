# SPDX-License-Identifier: GPL-2.0-or-later
"""Routing daemons in a namespace, with the configurations of examples/, each in a /run of its own."""
import json
import os
import re
import shutil
import signal
import subprocess
import time

from lib.util import ROOT, Helper, sh, wait_until

FRR_BIN = "/usr/lib/frr"


class Router:
    """What FRR and BIRD have in common. Runs until the test ends, or kill()."""

    user = None

    def __init__(self, lab, ns, conf):
        self.ns, self.conf = ns, conf
        self.dir = lab.path(f"{type(self).__name__.lower()}-{ns.role}")
        os.makedirs(self.dir)
        shutil.chown(self.dir, self.user, self.user)
        self.procs = {}
        lab.closers.append(self.kill)
        self.start()

    def inside(self, *argv):
        """argv as it has to be for a private /run, where the daemons' own paths are those of this router alone."""
        script = f'mount -t tmpfs run /run && mkdir /run/{self.run} && mount --bind "$0" /run/{self.run} && exec "$@"'
        return ["unshare", "-m", "--propagation", "private", "sh", "-c", script, self.dir, *argv]

    def launch(self, name, *argv):
        with open(f"{self.dir}/{name}.out", "ab") as log:
            self.procs[name] = self.ns.popen(self.inside(*argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def alive(self):
        """No process was lost."""
        return all(p.poll() is None for p in self.procs.values())

    def full(self, version=2):
        """Links with an adjacency."""
        return {dev for dev in self.neighbours(version) if dev.startswith("ipsec")}

    def kill(self):
        """As a power cut: SIGKILL, all of them."""
        for p in self.procs.values():
            if p.poll() is None:
                p.send_signal(signal.SIGKILL)
        for p in self.procs.values():
            p.wait(timeout=10)

    def log(self):
        text = ""
        for name in sorted(os.listdir(self.dir)):
            if name.endswith((".out", ".log")):
                with open(f"{self.dir}/{name}", errors="replace") as f:
                    text += f"== {name}\n{f.read()[-1500:]}"
        return text


class Frr(Router):
    """zebra, the daemons named, and the configuration by vtysh, as at boot."""

    user, run = "frr", "frr"
    loss_ms = 1000  # OSPF, when a way dies

    def __init__(self, lab, ns, conf, daemons=("ospfd", "ospf6d", "bfdd")):
        self.daemons = ("zebra", *daemons)
        super().__init__(lab, ns, f"{ROOT}/examples/frr/{conf}.conf")

    def start(self):
        for name in self.daemons:
            for stale in (f"{name}.vty", f"{name}.pid"):
                if os.path.exists(f"{self.dir}/{stale}"):
                    os.unlink(f"{self.dir}/{stale}")
            self.launch(name, f"{FRR_BIN}/{name}", "-A", "127.0.0.1", "-P", "0", "-f", "/dev/null", "--log", f"file:/run/frr/{name}.log")
            wait_until(lambda: os.path.exists(f"{self.dir}/{name}.vty"), 10, lambda: f"{name} starts: {self.log()}")
        p = self.ns.run(self.inside("vtysh", "-f", self.conf), check=False)
        said = p.stdout + p.stderr
        assert p.returncode == 0 and "%" not in said and "failed" not in said, f"{self.conf}: {said}"

    def vtysh(self, *commands):
        return self.ns.out(self.inside("vtysh", *[w for c in commands for w in ("-c", c)]))

    def neighbours(self, version=2):
        """Devices with an adjacency, one for each."""
        text = self.vtysh("show ip ospf neighbor" if version == 2 else "show ipv6 ospf6 neighbor")
        return re.findall(r"Full/.*?\b([a-z]+\d+)[:\[]", text)

    def sessions(self):
        """Neighbours with a BGP session."""
        peers = json.loads(self.vtysh("show bgp ipv4 unicast summary json")).get("peers", {})
        return {addr for addr, p in peers.items() if p["state"] == "Established"}

    def bfd(self):
        """Links with a BFD session that is up."""
        return {p["interface"] for p in json.loads(self.vtysh("show bfd peers json")) if p["status"] == "up" and "interface" in p}

    def costs(self, version=2):
        j = json.loads(self.vtysh("show ip ospf interface json" if version == 2 else "show ipv6 ospf6 interface json") or "{}")
        return {dev: i["cost"] for dev, i in j.get("interfaces", j).items() if dev.startswith("ipsec") and "cost" in i}

    def cost(self, dev, value):
        self.vtysh("configure terminal", f"interface {dev}", f"ip ospf cost {value}", f"ipv6 ospf6 cost {value}")


class Bird(Router):
    user, run = "root", "bird"
    loss_ms = 7000  # a router tells news of itself once in 5 s (MinLSInterval, not to be configured), and looks once a second

    def __init__(self, lab, ns, conf, daemons=()):
        super().__init__(lab, ns, f"{ROOT}/examples/bird/{conf}.conf")

    def start(self):
        text = open(self.conf).read()
        with open(f"{self.dir}/bird.conf", "w") as f:  # a copy: cost() changes it
            f.write(text)
        if os.path.exists(f"{self.dir}/bird.ctl"):
            os.unlink(f"{self.dir}/bird.ctl")
        self.launch("bird", "bird", "-f", "-c", "/run/bird/bird.conf", "-s", "/run/bird/bird.ctl", "-P", "/run/bird/bird.pid")
        wait_until(lambda: not self.alive() or sh(["birdc", "-s", f"{self.dir}/bird.ctl", "show", "status"], check=False).returncode == 0, 10,
                   lambda: f"bird starts: {self.log()}")
        assert self.alive(), self.log()

    def birdc(self, *words):
        return sh(["birdc", "-s", f"{self.dir}/bird.ctl", *words]).stdout

    def neighbours(self, version=2):
        return re.findall(r"Full/\S+\s.*?\b([a-z]+\d+)\b", self.birdc("show", "ospf", "neighbors", "four" if version == 2 else "six"))

    def sessions(self):
        text = self.birdc("show", "protocols", "all")
        return {m[2] for m in re.finditer(r"BGP state:\s+(\S+)\s+Neighbor address: (\S+)", text) if m[1] == "Established"}

    def bfd(self):
        return set(re.findall(r"\b(ipsec\d+)\s+Up\b", self.birdc("show", "bfd", "sessions")))

    def costs(self, version=2):
        text = self.birdc("show", "ospf", "interface", "four" if version == 2 else "six")
        return {m[1]: int(m[2]) for m in re.finditer(r"Interface (ipsec\d+) .*?Cost: (\d+)", text, re.S)}

    def cost(self, dev, value):
        with open(f"{self.dir}/bird.conf") as f:
            text = f.read()
        with open(f"{self.dir}/bird.conf", "w") as f:
            f.write(re.sub(rf'(interface "{dev}" {{[^}}]*cost )\d+', rf"\g<1>{value}", text))
        assert "Reconfigured" in self.birdc("configure")


class Flows:
    """Numbered datagrams from h1 to h2 and from h2 to h1, pps each (flow.c)."""

    def __init__(self, lab, h1, addr1, h2, addr2, pps=10000, port=6100):
        self.pps = pps
        self.ends = [Helper("flow", ns.path, own, far, port, pps) for ns, own, far in ((h1, addr1, addr2), (h2, addr2, addr1))]
        lab.closers += [f.close for f in self.ends]

    def mark(self):
        for f in self.ends:
            f.ask("mark")

    def report(self):
        return [f.ask("report") for f in self.ends]

    def outage(self):
        """Since mark(), ms without what the other sent: at h1, at h2. By the numbers that are missing, all of them."""
        return [r["missing"] * 1000 // self.pps for r in self.report()]

    def stop(self):
        """No more is sent. Returns packets lost: towards h2, towards h1."""
        for f in self.ends:
            f.ask("stop")
        last = []

        def settled():
            nonlocal last
            had, last = last, [r["received"] for r in self.report()]
            return had == last
        wait_until(settled, 5, "the last packets", poll=0.2)
        a, b = self.report()
        assert min(a["sent"], b["sent"]) > 0
        return a["sent"] - b["received"], b["sent"] - a["received"]


class Tally:
    """Packets of Flows, or envelopes of them, that a router or a bridge passes on, each wire by itself: {name: nft match}."""

    def __init__(self, ns, family, wires):
        self.ns, self.what = ns, f"{family} tally"
        counters = "".join(f" counter {name} {{}}\n" for name in wires)
        rules = "".join(f"  {match} ip dscp af11 counter name {name}\n" for name, match in wires.items())
        # behind whatever a test drops with: what was passed on is counted
        ns.run(["nft", "-f", "-"], input=f"table {self.what} {{\n{counters} chain c {{\n  type filter hook forward priority 50;\n{rules} }}\n}}\n")

    def read(self):
        found = json.loads(self.ns.out(f"nft -j list counters table {self.what}"))["nftables"]
        return {c["counter"]["name"]: c["counter"]["packets"] for c in found if "counter" in c}

    def over(self, seconds):
        """What passes in that time."""
        before = self.read()
        time.sleep(seconds)
        return {name: n - before[name] for name, n in self.read().items()}
