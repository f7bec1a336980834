# SPDX-License-Identifier: GPL-2.0-or-later
"""The examples with IKE do what their READMEs say, and leave nothing behind."""
import os
import subprocess

import pytest

from lib.charon import need
from lib.util import BUILD, ROOT, SLOW


@pytest.mark.parametrize("name,links", [("ike-psk", 2), ("ike-cert", 2), ("road-warrior", 4)])
def test_example(lab, name, links):
    need()
    before = set(os.listdir("/run/netns"))
    p = subprocess.Popen([f"{ROOT}/examples/{name}/try"], env=dict(os.environ, BIN=BUILD), stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True)
    out = p.communicate(timeout=90 * SLOW)[0]
    assert p.returncode == 0, out[-6000:]
    shown = [line.split()[1] for line in out.splitlines() if line.startswith("ipsec:")]
    assert shown == ["up"] * links, out
    assert out.count("ESTABLISHED") == out.count("INSTALLED") == links, out
    left = [n for n in set(os.listdir("/run/netns")) - before if f"ike{p.pid}-" in n]
    assert not left and not [n for d in ("/var/lib/ipsec", "/run/ipsec") for n in os.listdir(d) if f"ike{p.pid}-" in n]
