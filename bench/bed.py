# SPDX-License-Identifier: GPL-2.0-or-later
"""The wires everything is measured on, the same for all:

    hl --(LAN)-- gl --(wild wire)-- gr --(LAN)-- hr
    10.91.1.2  .1   10.92.0.1  .2      10.91.2.1  .2     tunnel addresses 10.93.0.1 (gl), 10.93.0.2 (gr)

Inner MTU 1400, wild MTU 1500, neighbours static (gateways that take every frame swallow ARP too).
"""
import json

from lib.topo import Net
from lib.util import sh

INNER_MTU = 1400
OFFLOADS = "tx off rx off sg off tso off gso off gro off".split()
HOST_L, HOST_R = "10.91.1.2", "10.91.2.2"
NET_L, NET_R = "10.91.1.0/24", "10.91.2.0/24"
LAN_L, LAN_R = "10.91.1.1", "10.91.2.1"
WILD_L, WILD_R = "10.92.0.1", "10.92.0.2"
TUN_L, TUN_R = "10.93.0.1", "10.93.0.2"


def rx_packets(ns, dev):
    """Packets a device has received; /sys belongs to the mounting namespace, so `ip` is asked."""
    return json.loads(ns.out(["ip", "-j", "-s", "link", "show", "dev", dev]))[0]["stats64"]["rx"]["packets"]


class Bed(Net):
    """offload=False: every skb is one packet of the wire, checksums complete."""

    def __init__(self, offload=True):
        super().__init__()
        try:
            self.hl, self.gl, self.gr, self.hr = (self._host(r) for r in ("hl", "gl", "gr", "hr"))
            self._wires(offload)
        except BaseException:
            self.close()
            raise

    def _host(self, role):
        n = self.ns(role)
        for key, value in (("ipv6.conf.all.disable_ipv6", 1), ("ipv6.conf.default.disable_ipv6", 1), ("ipv4.ip_forward", 1),
                           ("ipv4.conf.all.rp_filter", 0), ("ipv4.conf.default.rp_filter", 0), ("ipv4.conf.all.send_redirects", 0)):
            n.sysctl_set(f"net.{key}", value)
        return n

    def _wires(self, offload):
        for a, adev, b, bdev, aaddr, baddr in (
                (self.hl, "eth0", self.gl, "lan", HOST_L, LAN_L), (self.gl, "wan", self.gr, "wan", WILD_L, WILD_R),
                (self.gr, "lan", self.hr, "eth0", LAN_R, HOST_R)):
            self.wire(a, adev, b, bdev, [f"{aaddr}/24"], [f"{baddr}/24"])
            for n, dev in ((a, adev), (b, bdev)):
                if not offload:
                    n.run(["ethtool", "-K", dev, *OFFLOADS])
            a.ip(f"neigh replace {baddr} lladdr {b.mac(bdev)} dev {adev} nud permanent")
            b.ip(f"neigh replace {aaddr} lladdr {a.mac(adev)} dev {bdev} nud permanent")
        self.hl.ip(f"route add default via {LAN_L} mtu {INNER_MTU}")
        self.hr.ip(f"route add default via {LAN_R} mtu {INNER_MTU}")

    def plain(self):
        """No tunnel: the gateways just route."""
        self.gl.ip(f"route add {NET_R} via {WILD_R} mtu {INNER_MTU}", f"addr add {TUN_L}/32 dev lo",
                   f"route add {TUN_R} via {WILD_R} src {TUN_L} mtu {INNER_MTU}")
        self.gr.ip(f"route add {NET_L} via {WILD_L} mtu {INNER_MTU}", f"addr add {TUN_R}/32 dev lo",
                   f"route add {TUN_L} via {WILD_L} src {TUN_R} mtu {INNER_MTU}")

    def direct(self):
        """No gateways: a wire of their own between the hosts."""
        self.wire(self.hl, "direct", self.hr, "direct")
        for me, far, addr in ((self.hl, self.hr, HOST_R), (self.hr, self.hl, HOST_L)):
            me.ip(f"neigh replace {addr} lladdr {far.mac('direct')} dev direct nud permanent",
                  f"route add {addr}/32 dev direct mtu {INNER_MTU}")

    def into(self, dev_l, dev_r):
        """Both LANs through tunnel devices."""
        self.gl.ip(f"route replace {NET_R} dev {dev_l} mtu {INNER_MTU}")
        self.gr.ip(f"route replace {NET_L} dev {dev_r} mtu {INNER_MTU}")

    def carries(self):
        """Does a ping from host to host come back?"""
        return self.hl.ok(["ping", "-q", "-c", "3", "-i", "0.2", "-W", "2", HOST_R])

    def shape(self, rate="50mbit"):
        """A slow uplink: token bucket, up to 50 ms of its own queue."""
        for g in (self.gl, self.gr):
            sh(["tc", "-n", g.name, "qdisc", "replace", "dev", "wan", "root", "tbf", "rate", rate, "burst", "32kb", "latency", "50ms"])

    def unshape(self):
        for g in (self.gl, self.gr):
            sh(["tc", "-n", g.name, "qdisc", "del", "dev", "wan", "root"])
