# SPDX-License-Identifier: GPL-2.0-or-later
"""UDP encapsulation through a NAT box (nftables masquerade) with either end behind it, and other ports."""
from bed import MARK, Bed, Link
from guest import Case, Shared
from lib.util import wait_until

MAPPED = 20500


class Box:
    """gwA (198.51.100.1) -- nat (.254 | 203.0.113.254) -- gwB (203.0.113.2), and the same in IPv6."""

    def __init__(self, net, behind):
        self.a, self.b, self.nat = net.ns("gwa", forward=True), net.ns("gwb", forward=True), net.ns("nat", forward=True)
        self.h1, self.h2 = net.ns("h1"), net.ns("h2")
        self.outer = {"a4": "198.51.100.1", "b4": "203.0.113.2", "a6": "2001:db8:1::1", "b6": "2001:db8:2::2"}
        near, far = ("198.51.100.254", "2001:db8:1::fe"), ("203.0.113.254", "2001:db8:2::fe")
        net.wire(self.a, "eth1", self.nat, "left", (f"{self.outer['a4']}/24", f"{self.outer['a6']}/64"), (f"{near[0]}/24", f"{near[1]}/64"))
        net.wire(self.b, "eth1", self.nat, "right", (f"{self.outer['b4']}/24", f"{self.outer['b6']}/64"), (f"{far[0]}/24", f"{far[1]}/64"))
        self.a.ip(f"route add default via {near[0]}", f"route add ::/0 via {near[1]}")
        self.b.ip(f"route add default via {far[0]}", f"route add ::/0 via {far[1]}")
        for h, gw, side in ((self.h1, self.a, 1), (self.h2, self.b, 2)):
            net.wire(h, "eth0", gw, "eth0", (f"10.{side}.0.2/16", f"fd0{side}::2/48"), (f"10.{side}.0.1/16", f"fd0{side}::1/48"))
            h.ip(f"route add default via 10.{side}.0.1", f"route add ::/0 via fd0{side}::1")
        self.near = near
        # who is behind: its envelopes leave from the box's address and a port that is not 4500
        self.public = {4: far[0], 6: far[1]} if behind == "a" else {4: near[0], 6: near[1]}
        self.out_dev = "right" if behind == "a" else "left"
        self.map_to(MAPPED)

    def map_to(self, port):
        rules = ("table inet nat { chain post { type nat hook postrouting priority 100; "
                 f'oifname "{self.out_dev}" meta l4proto udp masquerade to :{port}; }}; }}')
        self.nat.run(["nft", "delete", "table", "inet", "nat"], check=False)
        self.nat.run(["nft", "-f", "-"], input=rules)

    def forget(self):
        """The box loses its table, as after a power cut."""
        def flush():
            from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket
            with NFCTSocket() as ct:
                ct.flush()
        self.nat.enter(flush)


class NatBed(Bed):
    behind = "a"

    def topo(self, mtu):
        self.t = Box(self.net, self.behind)

    def ends_outer(self, l):
        return self.o[f"a{l.outer}"], self.o[f"b{l.outer}"]

    def target(self, l, v, back=False):
        """In transport mode the one behind the box is the box to the other."""
        if l.mode == "transport" and back == (self.behind == "a"):
            return self.t.public[l.outer]
        return super().target(l, v, back)

    def marked_route(self):
        self.a.ip(f"rule add fwmark {MARK} lookup {MARK}", f"route add default via {self.t.near[0]} table {MARK}",
                  f"route add ::/0 via {self.t.near[1]} table {MARK}")
        self.a.run(["ip", "-6", "rule", "add", "fwmark", MARK, "lookup", MARK])


class EspwireBehind(NatBed):
    """The kernel sees the box's address and its port, as IKE would have told it."""

    def kernel_ends(self, l):
        return self.t.public[l.outer], self.o[f"b{l.outer}"]


class KernelBehind(NatBed):
    """espwire is told the box's address (known) or nothing at all (any), and learns the port."""

    behind = "b"
    learn = False

    def remote(self, l):
        return "any" if self.learn else self.t.public[l.outer]

    def far_host(self, l):
        return self.t.public[l.outer]

    def keys(self):
        """The first packets come from behind the box and make its mapping, before espwire starts."""
        super().keys()
        for l in self.links:
            self.speak(l)

    def all_up(self):
        for l in self.links:
            self.speak(l)
        return super().all_up()

    def speak(self, l):
        me, far = (f"10.2.{l.i}.1", f"10.1.{l.i}.1") if l.mode == "tunnel" else self.ends_outer(l)[::-1]
        self.b.run(["ping", "-c", "1", "-W", "0.2", "-I", me, far], check=False)


class KernelBehindUnknown(KernelBehind):
    learn = True


def both_ways(bed, n, case):
    b = bed()
    l = b.links[n]
    gaps = b.settled(l)  # the box and the kernel were there before espwire
    b.mark()
    for v in (4, 6) if l.mode == "tunnel" else (l.outer,):
        for back in (False, True):
            b.ping(l, v, back=back)
            b.udp(l, v, 200, back=back)
            b.tcp(l, v, 256 << 10, back=back)
    path = b.daemon.link(l.name)["path"]
    case.note(f"path {path['remote']} port {path['port']} learned {path['learned']}")
    b.verdict()
    b.agree(l, gaps)


def rebind(bed, case):
    """The box forgets and maps to another port: espwire follows the first authentic packet from there."""
    b = bed()
    l = b.links[0]
    b.udp(l, 4, 20, back=True)
    b.t.map_to(MAPPED + 7)
    b.t.forget()
    b.speak(l)
    wait_until(lambda: b.daemon.link(l.name)["path"]["port"] == MAPPED + 7, 15, lambda: f"the new port: {b.daemon.link(l.name)['path']}")
    wait_until(b.all_up, 30, b.not_up, poll=0.2)
    b.udp(l, 4, 100)
    b.udp(l, 4, 100, back=True)


SLOW = "ping 5s x 4"  # so that there are moments without a probe under way


def links():
    return [Link(1, encap="udp", outer=4, liveness=SLOW), Link(2, encap="udp", outer=6, liveness=SLOW, alg="chacha20-poly1305"),
            Link(3, encap="udp", outer=4, liveness=SLOW, alg="aes-cbc-256-hmac-sha2-256"),
            Link(4, encap="udp", outer=6, liveness=SLOW, alg="aes-gmac-128")]


def hosts():
    """Transport mode: their checksums were made for other addresses (RFC 3948 3.1.2)."""
    return [Link(1, encap="udp", outer=4, mode="transport", liveness=SLOW),
            Link(2, encap="udp", outer=6, mode="transport", liveness=SLOW, alg="aes-cbc-128-hmac-sha2-256")]


# name -> the bed and the port its kernel sees or has
BEDS = {
    "espwire-behind": lambda: EspwireBehind(links(), ports=(MAPPED, 4500)),
    "kernel-behind": lambda: KernelBehind(links(), ports=(4500, MAPPED)),
    "kernel-behind-unknown": lambda: KernelBehindUnknown(links()[:1], ports=(4500, MAPPED)),
    "other-port": lambda: Bed(links(), ports=(4500, 4510)),
    "transport-espwire-behind": lambda: EspwireBehind(hosts(), ports=(MAPPED, 4500)),
    "transport-kernel-behind": lambda: KernelBehind(hosts(), ports=(4500, MAPPED)),
}
SLOW_BEDS = ("kernel-behind-unknown", "other-port")  # what the quick cut leaves out: a bed each
COUNT = {"kernel-behind-unknown": 1, "transport-espwire-behind": 2, "transport-kernel-behind": 2}


def cases(job):
    out = []
    for name, make in BEDS.items():
        if job["quick"] and name in SLOW_BEDS:
            continue
        bed, todo = Shared(make).get, links() if "transport" not in name else hosts()
        for n, l in enumerate(todo[:COUNT.get(name, 2 if job["quick"] else 4)]):
            out.append(Case(f"{name}-{l.alg}-o{l.outer}", lambda case, bed=bed, n=n: both_ways(bed, n, case), limit=120))
        if name == "kernel-behind":
            out.append(Case("kernel-behind-rebinds", lambda case, bed=bed: rebind(bed, case), limit=120))
    return out
