# SPDX-License-Identifier: GPL-2.0-or-later
"""cover = N/s: dummies at a steady rate (RFC 4303 2.6), and nothing else changes by them."""
import time

import pytest

from lib.books import sums
from lib.esp_peer import NH_NONE
from lib.traffic import ping
from lib.util import stays, wait_until


def dummies(t):
    return [o for _, o in list(t.peer.opened) if o.next == NH_NONE]


@pytest.mark.parametrize("tfc, encap", [("off", "udp"), ("700", "esp")])
def test_steady_and_empty(lab, tfc, encap):
    """As scapy's peer sees them: 40 a second, as long as probes or as tfc says, zeros, numbered like all else."""
    t = lab.peer_bed(encap=encap, cover="40/s", tfc=tfc, keepalive="1s", check=False)
    wait_until(lambda: dummies(t), 5, "the first")
    began, had = time.monotonic(), len(dummies(t))
    wait_until(lambda: len(dummies(t)) >= had + 60, 15, lambda: f"60 more: {len(dummies(t))}")
    took, n = time.monotonic() - began, len(dummies(t)) - had
    assert n <= 40 * took + 10, f"{n} in {took:.2f} s"
    assert {o.inner for o in dummies(t)} == {bytes(700 if tfc == "700" else 32)}
    seqs = [o.seq for _, o in list(t.peer.opened)]
    assert sorted(seqs) == list(range(1, len(seqs) + 1))
    assert t.da.link()["cover"]["per_s"] == 40 and t.da.link()["keepalive"]["sent"] == 0  # never silent for a second
    # each counts for the SA's lifetime, and what is told agrees
    t.da.ctl("link set ipsec1 cover off")
    wait_until(lambda: t.da.link()["cover"]["sent"] == len(dummies(t)), 3, lambda: f"{t.da.link()['cover']} {len(dummies(t))}")

    def agree():  # multicast chatter of the device may come in between
        link, seen, empty = t.da.link(), len(t.peer.opened), len(dummies(t))
        out = next(s for s in link["sas"] if s["dir"] == "out")
        return out["packets"] == seen == link["tx"]["packets"] + empty
    wait_until(agree, 3, lambda: f"books that agree: {t.da.link()['sas'][0]} {t.da.link()['tx']} {len(t.peer.opened)} {len(dummies(t))}")
    had = len(dummies(t))
    stays(lambda: len(dummies(t)) == had, 0.5, "off is off")
    assert t.da.link()["cover"]["per_s"] is None
    assert "cover" not in t.da.ctl("show config").stdout


def test_between_two_ipsecd(lab):
    """East counts them as dummies, and answers none; liveness, traffic and books are as they were."""
    t = lab.two_gateways()
    before, flaps = t.db.json("drops"), t.da.link()["flaps"]
    t.da.ctl("link set ipsec1 cover 200/s")
    assert "cover     = 200/s" in t.da.ctl("show config").stdout
    wait_until(lambda: sums(before, t.db.json("drops"), "in").get("dummy", 0) >= 100, 10,
               lambda: f"dummies: {sums(before, t.db.json('drops'), 'in')}")
    assert ping(t.h1, "10.2.0.2", count=3)
    t.da.ctl("link set ipsec1 cover off")

    def all_there():
        return sums(before, t.db.json("drops"), "in") == {"dummy": t.da.link()["cover"]["sent"]}
    wait_until(all_there, 3, lambda: f"{sums(before, t.db.json('drops'), 'in')}, sent {t.da.link()['cover']}")
    assert t.db.link()["cover"] == {"per_s": None, "sent": 0}
    assert t.da.is_up() and t.db.is_up() and t.da.link()["flaps"] == flaps
