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
