# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's charon in a namespace, unmodified, with our plugin beside its own."""
import os
import re
import shutil
import signal
import socket
import struct
import subprocess

import pytest

from lib.util import BUILD, ROOT, wait_until

# ESPWIRE_SWAN_ROOT: a tree with another strongSwan, of Debian 13 for one; ESPWIRE_PLUGIN: the plugin that is built for that
SWAN_ROOT = os.environ.get("ESPWIRE_SWAN_ROOT", "")
PLUGIN = os.environ.get("ESPWIRE_PLUGIN") or os.path.join(BUILD, "ike", "libstrongswan-kernel-ipsecd.so")
PLUGIN_DIR = SWAN_ROOT + "/usr/lib/ipsec/plugins"
CHARON = "/usr/sbin/charon-systemd"
# kernel-netlink stays for routes and addresses: ours is first, so kernel-ipsec is ours
LOAD = ("kernel-ipsecd random nonce openssl sha1 sha2 hmac kdf gcm aes pem pkcs1 pkcs8 x509 pubkey revocation constraints "
        "kernel-netlink socket-default vici updown")

CONF = """
charon-systemd {{
    {load}
    install_routes = no
    install_virtual_ip_on = {vip_on}
    interfaces_use = {uplink}
    retransmit_timeout = 1.0
    retransmit_base = 1.3
    retransmit_tries = 6
    retry_initiate_interval = 2
    delete_rekeyed_delay = {rekeyed_delay}
    make_before_break = yes
    journal {{ default = -1 }}
    filelog {{
        main {{ path = {log}
            default = {level}
            chd = {told}
            ike = {told}
            cfg = {told}
            knl = {knl}
            flush_line = yes
            time_format = %b %e %T
            time_add_ms = yes
            ike_name = yes }}
        keys {{ path = {keylog}
            default = -1
            chd = 4
            flush_line = yes }}
    }}
    plugins {{
        {include}
        vici {{ socket = unix://{vici} }}
        kernel-ipsecd {{ socket = {door} }}
    }}
    {extra}
}}
"""


def need():
    """The plugin and charon, or a skip that says why."""
    if not os.path.exists(PLUGIN):
        why = os.path.join(BUILD, "ike", "why")
        reason = open(why).read().strip() if os.path.exists(why) else "make ike"
        pytest.skip(f"strongSwan's plugin is not built: {reason}")
    for tool in (SWAN_ROOT + CHARON, "/usr/sbin/swanctl"):
        if not os.access(tool, os.X_OK):
            pytest.skip(f"{tool} is not installed: make deps")


class Charon:
    """start() may be called again after stop() or kill()."""

    def __init__(self, lab, ns, daemon, uplink="eth1", knl=1, vip_on="", rekeyed_delay=1, extra="", name="",
                 modular=False, level=1):
        """modular: as Debian configures it, every plugin that is installed, each with its file in /etc/strongswan.d.

        level: of its log, but for the groups in which strongSwan says keys and secrets on purpose at level 4 (strongswan.conf(5)): there 3 at most."""
        self.ns, self.daemon, self.proc = ns, daemon, None
        self.dir = lab.path(f"charon-{ns.role}{name}")
        os.makedirs(os.path.join(self.dir, "plugins"))
        names = [f[len("libstrongswan-"):-3] for f in os.listdir(PLUGIN_DIR)] if modular else LOAD.split()
        for f in {*names, "kernel-ipsecd"}:
            so = f"libstrongswan-{f}.so"
            src = PLUGIN if f == "kernel-ipsecd" else os.path.join(PLUGIN_DIR, so)
            if os.path.exists(src):  # some are built into others
                shutil.copy(src, os.path.join(self.dir, "plugins", so))
        self.log_file, self.key_log = self.path("log"), self.path("keys")
        self.vici = self.path("vici")
        with open(self.path("strongswan.conf"), "w") as f:
            f.write(CONF.format(load="load_modular = yes" if modular else f"load_modular = no\n    load = {LOAD}",
                                include=f"include /etc/strongswan.d/charon/*.conf\n        include {ROOT}/ike/*.conf" if modular else "",
                                log=self.log_file, keylog=self.key_log, vici=self.vici, knl=max(knl, level), level=level, told=min(level, 3), vip_on=vip_on,
                                uplink=uplink, door=f"{daemon.run_dir}/charon.ipsecd", rekeyed_delay=rekeyed_delay, extra=extra))
        lab.closers.append(self.kill)

    def path(self, name):
        return os.path.join(self.dir, name)

    def start(self, wait=True):
        """The plugin directory is compiled in: a mount namespace of its own has ours in that place."""
        steps = [f"mount --bind {self.path('plugins')} {PLUGIN_DIR}"]
        if SWAN_ROOT:
            steps += [f"mount --rbind {d} {SWAN_ROOT}{d}" for d in ("/tmp", "/run", "/proc", "/dev")]
        script = " && ".join(steps + [f"exec {'chroot ' + SWAN_ROOT + ' ' if SWAN_ROOT else ''}{CHARON}"])
        with open(self.path("out"), "ab") as out:
            self.proc = self.ns.popen(["unshare", "-m", "--propagation", "private", "sh", "-c", script], stdin=subprocess.DEVNULL,
                                      stdout=out, stderr=out, env=dict(os.environ, STRONGSWAN_CONF=self.path("strongswan.conf")))
        if wait:
            wait_until(lambda: os.path.exists(self.vici) and self.swanctl("--stats", check=False).returncode == 0 or self.dead(), 10,
                       lambda: f"charon to answer\n{self.log()}")
            assert not self.dead(), f"charon ended: {self.log()}"
        return self

    def dead(self):
        return self.proc.poll() is not None

    def swanctl(self, *words, check=True):
        return self.ns.run(["swanctl", words[0], "--uri", f"unix://{self.vici}", *words[1:]], check=check)

    def stop(self):
        if self.proc and not self.dead():
            self.proc.send_signal(signal.SIGTERM)
            self.proc.wait(timeout=15)

    def kill(self):
        if self.proc and not self.dead():
            self.proc.kill()
        if self.proc:
            self.proc.wait(timeout=10)
        if os.path.exists(self.vici):
            os.unlink(self.vici)

    def log(self):
        text = ""
        for f in (self.log_file, self.path("out")):
            if os.path.exists(f):
                with open(f, errors="replace") as h:
                    text += h.read()
        return text

    def keys(self):
        """ESP keys, as charon says them in a log that nobody else sees."""
        if not os.path.exists(self.key_log):
            return []
        with open(self.key_log, errors="replace") as f:
            text = f.read()
        found = []
        for m in re.finditer(r"(?:encryption|integrity) (?:initiator|responder) key => (\d+) bytes.*\n((?:.*? +\d+: .*\n)+)", text):
            raw = b"".join(bytes.fromhex(re.sub(r"^.*? *\d+: ((?:[0-9A-F]{2} ){1,16}).*$", r"\1", line))
                           for line in m[2].splitlines())
            assert len(raw) == int(m[1]), m[0]
            key = raw[:-4] if len(raw) in (20, 36) else raw  # without the salt
            found += [key, *(key[i:i + 16] for i in range(0, len(key), 16))]  # a dump has 16 bytes a line
        return found

    def vici_queue(self, cmd, *messages):
        """Many commands at once, each {key: text}, over one connection; what each was answered: did it say success?"""
        def packet(body):
            return struct.pack(">I", len(body)) + body

        def element(k, v):
            return bytes([3, len(k)]) + k.encode() + struct.pack(">H", len(v)) + v.encode()

        s = socket.socket(socket.AF_UNIX)
        s.connect(self.vici)
        s.settimeout(30)
        said = []
        with s, s.makefile("rb") as f:
            for m in messages:
                s.sendall(packet(bytes([0, len(cmd)]) + cmd.encode() + b"".join(element(k, v) for k, v in m.items())))
                said.append(b"success\0\3yes" in f.read(struct.unpack(">I", f.read(4))[0]))
        return said

    def conns(self):
        return self.swanctl("--list-conns").stdout

    def child_sas(self):
        """swanctl --list-sas as a list of dicts: the child SAs that are installed."""
        text = self.swanctl("--list-sas", "--raw").stdout
        out = []
        for m in re.finditer(r"\{name=(\S+) uniqueid=\d+ reqid=(\d+) state=(\w+) ([^{}]*)", text):
            kv = dict(w.split("=", 1) for w in m[4].split() if "=" in w)
            out.append({"name": m[1], "reqid": int(m[2]), "state": m[3], **kv})
        return out
