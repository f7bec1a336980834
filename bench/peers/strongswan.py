# SPDX-License-Identifier: GPL-2.0-or-later
"""strongSwan's charon with kernel-libipsec on both gateways: ESP in user space over TUN, always inside UDP."""
import os

from bed import NET_L, NET_R, TUN_L, TUN_R, WILD_L, WILD_R
from lib.util import sh
from peers import Tunnel

CHARON = "/usr/lib/ipsec/charon"
LIBIPSEC = "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so"
DAEMON = """charon {{
  load = random nonce openssl kdf hmac sha1 sha2 pem pkcs1 x509 pubkey curve25519 kernel-libipsec kernel-netlink socket-default vici
  install_routes = yes
  threads = 16
  plugins {{ vici {{ socket = unix://{dir}/vici.sock }} }}
  filelog {{ log {{ path = {dir}/log
    default = 1 }} }}
}}
"""
CONNECTION = """connections {{ gw {{
  version = 2
  local_addrs = {wild}
  remote_addrs = {far_wild}
  proposals = aes128gcm16-prfsha256-ecp256
  local {{ auth = psk
    id = {me} }}
  remote {{ auth = psk
    id = {far} }}
  children {{ net {{
    local_ts = {net}, {tun}/32
    remote_ts = {far_net}, {far_tun}/32
    esp_proposals = aes128gcm16
    mode = tunnel
    rekey_time = 0
  }} }}
}} }}
secrets {{ ike-1 {{ secret = "for this measurement only" }} }}
"""


class Strongswan(Tunnel):
    name = "strongswan-libipsec"

    def up(self):
        self.need(CHARON, "swanctl", LIBIPSEC)
        ends = {"l": dict(me="l", wild=WILD_L, net=NET_L, tun=TUN_L), "r": dict(me="r", wild=WILD_R, net=NET_R, tun=TUN_R)}
        for side, far, ns in (("l", "r", self.bed.gl), ("r", "l", self.bed.gr)):
            self.side(side, ns, {**ends[side], **{("far" if k == "me" else f"far_{k}"): v for k, v in ends[far].items()}})
        self.await_(lambda: all(os.path.exists(self.path(f"{s}/vici.sock")) for s in "lr"), 10, "charon's control sockets")
        for side, ns in (("l", self.bed.gl), ("r", self.bed.gr)):
            self.swanctl(ns, side, "--load-all")
        self.await_(lambda: self.swanctl(self.bed.gl, "l", "--initiate", "--child", "net").returncode == 0, 10, "the IKE exchange")
        self.need_carrying("l/log", "r/log")
        version = sh(["dpkg-query", "-W", "-f", "${Version}", "libcharon-extra-plugins"], check=False).stdout
        self.notes.append(f"strongSwan {version} kernel-libipsec, AES-GCM-128, OpenSSL; port 4500: charon")

    def side(self, side, ns, values):
        d = self.path(side)
        os.makedirs(f"{d}/swanctl")
        for name, text in (("strongswan.conf", DAEMON.format(dir=d)), ("swanctl/swanctl.conf", CONNECTION.format(**values))):
            with open(f"{d}/{name}", "w") as f:
                f.write(text)
        ns.ip(f"addr add {values['tun']}/32 dev lo")
        # a /run of its own: both charons would use one pid file
        self.start(ns, ["unshare", "-m", "sh", "-c", f"mount -t tmpfs t /run && exec {CHARON}"], f"{side}.out",
                   env=dict(os.environ, STRONGSWAN_CONF=f"{d}/strongswan.conf"))

    def swanctl(self, ns, side, *words):
        d = self.path(side)
        return ns.run(["env", f"STRONGSWAN_CONF={d}/strongswan.conf", f"SWANCTL_DIR={d}/swanctl", "swanctl", *words,
                       "--uri", f"unix://{d}/vici.sock"], check=False)
