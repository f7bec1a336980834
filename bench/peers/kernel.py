# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own tunnels on both gateways: XFRM behind an xfrm interface, and WireGuard."""
import contextlib
import platform

from bed import INNER_MTU, NET_L, NET_R, TUN_L, TUN_R, WILD_L, WILD_R
from lib.util import sh
from peers import Tunnel, Unavailable
from peers.wireguard_go import WireguardGo

IF_ID = 7
KEY = "0x0102030405060708090a0b0c0d0e0f1011121314"
SPIS = {WILD_L: 0x1001, WILD_R: 0x1002}  # by the sender's address


class Xfrm(Tunnel):
    """AES-GCM-128 with ESN and a window of 64, no UDP around it: as lean as the kernel's way is."""

    name = "xfrm"

    def up(self):
        for ns, own, far, tun, far_tun, net in ((self.bed.gl, WILD_L, WILD_R, TUN_L, TUN_R, NET_R), (self.bed.gr, WILD_R, WILD_L, TUN_R, TUN_L, NET_L)):
            try:
                ns.ip(*self.lines(own, far), f"addr add {tun}/32 dev lo", f"link add ipsec0 type xfrm dev wan if_id {IF_ID}",
                      "link set ipsec0 mtu 1420 up", f"route add {net} dev ipsec0 mtu {INNER_MTU}", f"route add {far_tun} dev ipsec0 src {tun}")
            except AssertionError as e:
                raise Unavailable(f"this kernel has no ESP or no xfrm interface: {str(e).strip().splitlines()[-1][:100]}")
        self.need_carrying()
        self.notes.append(f"Linux {platform.release()}, xfrm interface, {self.driver()}")

    @staticmethod
    def lines(own, far):
        lines = [f"xfrm state add src {a} dst {b} proto esp spi {SPIS[a]:#x} reqid 1 if_id {IF_ID} mode tunnel replay-window 64 "
                 f"flag af-unspec esn aead rfc4106(gcm(aes)) {KEY} 128" for a, b in ((own, far), (far, own))]
        return lines + [f"xfrm policy add dir {way} if_id {IF_ID} tmpl src {a} dst {b} proto esp reqid 1 mode tunnel"
                        for way, a, b in (("out", own, far), ("in", far, own), ("fwd", far, own))]

    @staticmethod
    def driver():
        with open("/proc/crypto") as f:
            names = [line.split()[-1] for line in f if line.startswith("driver") and "rfc4106" in line]
        return names[0] if names else "rfc4106(gcm(aes))"


class WireguardKernel(WireguardGo):
    """Configured as wireguard-go is, with devices of the kernel's."""

    name = "wireguard"

    def up(self):
        self.need("wg")
        self.devs = ["wg0", "wg0"]
        for ns in (self.bed.gl, self.bed.gr):
            try:
                ns.ip("link add wg0 type wireguard")
            except AssertionError:
                raise Unavailable("this kernel has no WireGuard")
        self.join()
        self.notes.append(f"Linux {platform.release()}, ChaCha20-Poly1305")

    def down(self):
        with contextlib.suppress(AssertionError):
            for ns in (self.bed.gl, self.bed.gr):
                sh(["ip", "-n", ns.name, "link", "del", "wg0"])
