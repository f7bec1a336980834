# SPDX-License-Identifier: GPL-2.0-or-later
"""A tunnel in user space that does nothing to a packet: the floor under everybody's round trips (bench/bare.c)."""
import os

from bed import INNER_MTU, TUN_L, TUN_R, WILD_L, WILD_R
from lib.util import tool
from peers import Tunnel

PORT = 5555


class Bare(Tunnel):
    name = "bare-tunnel"

    def up(self):
        bare = os.path.join(os.path.dirname(tool("ipsecd")), "bench", "bare")
        self.need(bare)
        for ns, own, far, tun, far_tun in ((self.bed.gl, WILD_L, WILD_R, TUN_L, TUN_R), (self.bed.gr, WILD_R, WILD_L, TUN_R, TUN_L)):
            self.start(ns, [bare, "bare0", own, far, str(PORT)], f"{own}.log")
            self.await_(lambda: ns.ok("ip link show dev bare0"), 5, "bare0")
            ns.ip(f"addr add {tun}/32 dev bare0", "link set bare0 mtu 1420 up", f"route add {far_tun} dev bare0 src {tun} mtu {INNER_MTU}")
        self.bed.into("bare0", "bare0")
        self.need_carrying(f"{WILD_L}.log", f"{WILD_R}.log")
        self.notes.append("TUN and UDP, no cipher, nothing else: what any tunnel in user space pays that does not spin")

    def down(self):
        for ns in (self.bed.gl, self.bed.gr):
            ns.kill_all()


class BareLink(Bare):
    """The same as a link is made: a veth out of the workload's namespace, traffic control between it and the program's device, and the
    cipher. Nothing else that a link does."""

    name = "bare-link"

    def up(self):
        bare = os.path.join(os.path.dirname(tool("ipsecd")), "bench", "bare")
        self.need(bare)
        for ns, own, far, tun, far_tun in ((self.bed.gl, WILD_L, WILD_R, TUN_L, TUN_R), (self.bed.gr, WILD_R, WILD_L, TUN_R, TUN_L)):
            back = self.bed.ns("back")
            self.bed.wire(ns, "bare0", back, "b0", [f"{tun}/32"])
            self.start(ns, [bare, "t0", own, far, str(PORT), back.path, ns.mac("bare0")], f"{own}.log")
            self.await_(lambda: back.ok("ip link show dev t0"), 5, "t0")
            back.ip("link set t0 mtu 9000 up")
            ns.run(["ethtool", "-K", "bare0", "tx", "off", "tso", "off", "gso", "off"])  # t0 has no header that says what is to be finished
            ns.ip("link set bare0 arp off mtu 1420", f"route add {far_tun} dev bare0 src {tun} mtu {INNER_MTU}")
        self.bed.into("bare0", "bare0")
        self.need_carrying(f"{WILD_L}.log", f"{WILD_R}.log")
        self.notes.append("a veth, traffic control, a TAP, AES-GCM-128, UDP: what any link as ours pays that does not spin")
