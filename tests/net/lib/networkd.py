# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's systemd-networkd in a namespace, with .network files of the test and the drop-ins we ship."""
import os
import shutil
import subprocess

import pytest

from lib.util import ROOT, wait_until

NETWORKD = "/lib/systemd/systemd-networkd"


class Networkd:
    """files: name -> text, for /etc/systemd/network. Runs until the test ends, or stop()."""

    def __init__(self, lab, ns, files):
        if not os.access(NETWORKD, os.X_OK):
            pytest.skip(f"{NETWORKD} is not installed")
        self.dir, self.ns = lab.path(f"networkd-{ns.role}"), ns
        os.chmod(lab.dir, 0o711)  # it leaves root behind
        shutil.copytree(f"{ROOT}/systemd/networkd.conf.d", f"{self.dir}/etc/networkd.conf.d")
        os.makedirs(f"{self.dir}/etc/network")
        for name, text in files.items():
            with open(f"{self.dir}/etc/network/{name}", "w") as f:
                f.write(text)
        lab.closers.append(self.stop)
        self.start()

    def start(self):
        # no bus and no udev: /sys read-only says that nobody will announce devices
        script = (f"mount --bind {self.dir}/etc /etc/systemd && mount -t tmpfs run /run/systemd && mount -t sysfs -o ro sys /sys && "
                  "{ ! test -d /run/dbus || mount -t tmpfs dbus /run/dbus; } && mkdir -p /run/systemd/netif/links "
                  "/run/systemd/netif/leases && chmod -R a+rwx /run/systemd && exec " + NETWORKD)
        with open(f"{self.dir}/log", "wb") as log:
            self.proc = self.ns.popen(["unshare", "-m", "--propagation", "private", "sh", "-c", script], stdin=subprocess.DEVNULL,
                                      stdout=log, stderr=log, env=dict(os.environ, SYSTEMD_LOG_TARGET="console", SYSTEMD_LOG_LEVEL="debug"))
        wait_until(lambda: "Enumeration completed" in self.log(), 10, lambda: f"networkd: {self.log()}")

    def log(self):
        with open(f"{self.dir}/log", errors="replace") as f:
            return f.read()

    def configured(self, dev, times=1):
        """Has it said so that many times?"""
        return self.log().count(f"{dev}: State changed: configuring -> configured") >= times

    def stop(self):
        if self.proc.poll() is None:
            self.proc.terminate()
            self.proc.wait(timeout=10)
