# SPDX-License-Identifier: GPL-2.0-or-later
"""A stand-in for an IKE daemon: a process of another user, bound to UDP 500 and 4500, that answers.

It knows nothing of espwire and shares nothing with it. Every datagram is written down in hex; those
that are IKE (RFC 7296, on 4500 behind the non-ESP marker of RFC 3948) are answered.
"""
import os
import subprocess

from lib.util import wait_until

NOBODY = 65534
MARKER = b"\0\0\0\0"

BODY = r'''
import select, socket, sys
flags, port, log = sys.argv[1], int(sys.argv[2]), open(sys.argv[3], "w", buffering=1)
socks = []
for family, any in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    s = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if "port" in flags:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if "addr" in flags:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((any, port))
    socks.append(s)
log.write("bound\n")
while True:
    for s in select.select(socks, [], [])[0]:
        data, who = s.recvfrom(1 << 16)
        log.write(data.hex() + "\n")
        if port == 500 or data[:4] == bytes(4):
            s.sendto(data + b"-answer", who)
'''


class Ike:
    """flags: how its sockets may be shared, "" (as strongSwan binds them), "port" or "addr"."""

    def __init__(self, lab, ns, port=4500, flags="", uid=NOBODY):
        self.log = lab.path(f"ike-{ns.role}-{port}-{len(os.listdir(lab.dir))}")
        open(self.log, "w").close()
        os.chown(self.log, uid, uid)
        ns.sysctl_set("net.ipv4.ip_unprivileged_port_start", 0)
        os.chmod(lab.dir, 0o711)  # it may open its own log there, and nothing else
        self.proc = ns.popen(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "/usr/bin/python3", "-c", BODY,
                              flags, str(port), self.log], stdin=subprocess.DEVNULL)
        wait_until(lambda: self._lines() or self.proc.poll() is not None, 10, "the IKE stand-in to bind")
        assert self._lines() == ["bound"], f"it could not bind UDP {port}"

    def _lines(self):
        with open(self.log) as f:
            return f.read().split("\n")[:-1]

    def got(self):
        """Every datagram so far."""
        return [bytes.fromhex(line) for line in self._lines()[1:]]

    def stop(self):
        self.proc.terminate()
        self.proc.wait(timeout=10)
