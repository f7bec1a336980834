# SPDX-License-Identifier: GPL-2.0-or-later
"""NAT boxes: real ones, of nftables and connection tracking, between gateways and a cloud.

    gw eth1 192.168.N.2 -- lanN [box] wild 203.0.BOX.1 -- cloud -- 198.51.100.2 eth1 gw

IPv6 likewise: fd70:N::2 behind the box, 2001:db8:BOX::1 in front of it.
"""
import socket
import struct

from lib.topo import conf_text


def flush_conntrack():
    """What `conntrack -F` does: IPCTNL_MSG_CT_DELETE without a tuple."""
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    s.send(struct.pack("=IHHIIBBH", 20, 1 << 8 | 2, 1 | 4, 1, 0, 0, 0, 0))
    err = struct.unpack("=i", s.recv(4096)[16:20])[0]
    s.close()
    assert not err, f"conntrack flush: {err}"


class Box:
    """One NAT box on the cloud. ports: the range that its UDP mappings come from, None = as they were."""

    def __init__(self, net, cloud, n):
        self.net, self.n, self.lans, self.forwards = net, n, 0, []
        self.ns = net.ns(f"nat{n}", forward=True)
        self.wild4, self.wild6 = f"203.0.{n}.1", f"2001:db8:{n}::1"
        net.wire(self.ns, "wild", cloud, f"box{n}", (f"{self.wild4}/24", f"{self.wild6}/64"),
                 (f"203.0.{n}.254/24", f"2001:db8:{n}::fe/64"))
        self.ns.ip(f"route add default via 203.0.{n}.254", f"route add ::/0 via 2001:db8:{n}::fe")
        self.rules()

    def rules(self, ports=None):
        pool = f" to :{ports[0]}-{ports[1]}" if ports else ""
        self.ns.run(["nft", "-f", "-"], input="table inet nat\ndelete table inet nat\ntable inet nat {\n"
                    " chain pre {\n  type nat hook prerouting priority -100;\n"
                    + "".join(f"  iifname wild {f}\n" for f in self.forwards) + " }\n"
                    " chain post {\n  type nat hook postrouting priority 100;\n"
                    f"  oifname wild meta l4proto udp masquerade{pool}\n  oifname wild masquerade\n }}\n}}\n")

    def rebind(self, ports):
        """Every mapping is forgotten, new ones come from another range."""
        self.rules(ports)
        self.ns.enter(flush_conntrack)

    def forget_after(self, seconds):
        self.ns.sysctl_set("net.netfilter.nf_conntrack_udp_timeout", seconds)
        self.ns.sysctl_set("net.netfilter.nf_conntrack_udp_timeout_stream", seconds)

    def forward(self, gw):
        """UDP 4500 of the wild side goes to that gateway."""
        self.forwards = [f"ip daddr {self.wild4} udp dport 4500 dnat ip to {gw.addr4}:4500",
                         f"ip6 daddr {self.wild6} udp dport 4500 dnat ip6 to [{gw.addr6}]:4500"]
        self.rules()

    def renumber(self, n):
        """Another address on the wild side, as after a reconnect."""
        self.ns.ip(f"addr del {self.wild4}/24 dev wild", f"addr add 203.0.{self.n}.{n}/24 dev wild",
                   f"route replace default via 203.0.{self.n}.254")
        self.wild4 = f"203.0.{self.n}.{n}"
        self.ns.enter(flush_conntrack)

    def gateway(self, role):
        """A gateway behind the box, on a network of its own; .addr4 and .addr6 say where."""
        gw = self.net.ns(role, forward=True)
        self.lans += 1
        n = self.n * 10 + self.lans
        gw.addr4, gw.addr6 = f"192.168.{n}.2", f"fd70:{n}::2"
        self.net.wire(gw, "eth1", self.ns, f"lan{n}", (f"{gw.addr4}/24", f"{gw.addr6}/64"),
                      (f"192.168.{n}.1/24", f"fd70:{n}::1/64"), underlay=True)
        gw.ip(f"route add default via 192.168.{n}.1", f"route add ::/0 via fd70:{n}::1")
        return gw


class NatNet:
    """The cloud, one gateway in the open ("east"), and as many NAT boxes as a test asks for."""

    east4, east6 = "198.51.100.2", "2001:db8::2"

    def __init__(self, lab):
        self.lab, self.net, self.boxes, self.n_links = lab, lab.net, [], 0
        self.cloud = self.net.ns("cloud", forward=True)
        self.east = self.net.ns("east", forward=True)
        self.east.addr4, self.east.addr6 = self.east4, self.east6
        self.net.wire(self.east, "eth1", self.cloud, "to-east", (f"{self.east4}/24", f"{self.east6}/64"),
                      ("198.51.100.254/24", "2001:db8::fe/64"), underlay=True)
        self.east.ip("route add default via 198.51.100.254", "route add ::/0 via 2001:db8::fe")

    def box(self):
        self.boxes.append(Box(self.net, self.cloud, len(self.boxes) + 1))
        return self.boxes[-1]

    def link(self, path_w, path_e, **over):
        """Both ends' sections and key files of one more link: ((west's, key), (east's, key))."""
        self.n_links += 1
        n = self.n_links
        self.lab.tap.protect(f"10.9.{n}.0/24", f"fd09:{n}::/64")
        pair, kw, ke = self.lab.pair_files(f"k{n}")
        ends = []
        for me, far, path, key, name in ((1, 2, path_w, kw, "ipsec1"), (2, 1, path_e, ke, f"ipsec{n}")):
            ends.append(((name, {"peer": "east" if me == 1 else f"west-{n}", "address": f"10.9.{n}.{me} peer 10.9.{n}.{far}",
                                 "address6": f"fd09:{n}::{me} peer fd09:{n}::{far}", "path": path,
                                 "inner": f"10.9.{n}.{far}", "liveness": "100ms x 10", "sa": f"file:{key}", **over}), key))
        self.pair = pair
        return ends

    def start(self, ns, ends, underlay=None, start=True):
        d = self.lab.daemon(ns, conf_text([e[0] for e in ends], underlay=underlay), keys=[e[1] for e in ends], start=start)
        if start:
            self.lab.by_xdp(d, underlay)
        return d
