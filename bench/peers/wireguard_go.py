# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's wireguard-go on both gateways: user space, TUN, ChaCha20-Poly1305."""
import contextlib
import os

from bed import INNER_MTU, NET_L, NET_R, TUN_L, TUN_R, WILD_L, WILD_R
from lib.util import sh
from peers import Tunnel

PORT = 51820


class WireguardGo(Tunnel):
    name = "wireguard-go"

    def up(self):
        self.need("wireguard-go", "wg")
        # the control sockets live in one directory for all namespaces: names must differ
        self.devs = [f"bwg{side}{os.getpid() % 100000}" for side in "lr"]
        for ns, dev in zip((self.bed.gl, self.bed.gr), self.devs):
            self.start(ns, ["wireguard-go", "-f", dev], f"{dev}.log")
        self.await_(lambda: all(os.path.exists(f"/var/run/wireguard/{d}.sock") for d in self.devs), 5, "wireguard-go's control sockets")
        self.join()
        self.notes.append(f"wireguard-go {self.version()}, ChaCha20-Poly1305")

    def join(self):
        """Keys, addresses and routes of both ends."""
        keys = [sh(["wg", "genkey"]).stdout for _ in self.devs]
        publics = [sh(["wg", "pubkey"], input=k).stdout.strip() for k in keys]
        self.side(self.bed.gl, 0, keys[0], publics[1], TUN_L, WILD_R, f"{NET_R},{TUN_R}/32")
        self.side(self.bed.gr, 1, keys[1], publics[0], TUN_R, WILD_L, f"{NET_L},{TUN_L}/32")
        self.bed.into(*self.devs)
        self.need_carrying(*(f"{d}.log" for d in self.devs))

    def side(self, ns, i, key, peer, own, remote, allowed):
        dev, path = self.devs[i], self.path(f"key{i}")
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write(key)
        ns.run(["wg", "set", dev, "private-key", path, "listen-port", PORT, "peer", peer, "endpoint", f"{remote}:{PORT}",
                "allowed-ips", allowed])
        far = TUN_R if own == TUN_L else TUN_L
        ns.ip(f"addr add {own}/32 dev {dev}", f"link set {dev} mtu 1420 up",
              f"route add {far}/32 dev {dev} src {own} mtu {INNER_MTU}")

    def down(self):
        """Killed, it leaves its control socket behind."""
        for ns in (self.bed.gl, self.bed.gr):
            ns.kill_all()
        for dev in getattr(self, "devs", []):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"/var/run/wireguard/{dev}.sock")

    def version(self):
        return sh(["dpkg-query", "-W", "-f", "${Version}", "wireguard-go"], check=False).stdout or "?"
