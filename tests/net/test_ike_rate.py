# SPDX-License-Identifier: GPL-2.0-or-later
"""Renewals under load: at four fifths of what goes without loss, by either end in turn, and not a packet is missing.

The full count (ESPWIRE_TEST_FULL=1) looks for that rate first. No taps here: they remember each of 10^7 packets.
"""
import re
import subprocess
import time

import pytest

from lib.util import FULL, scaled, tool, wait_until
from test_ike import gateways, in_use, sas, told, up

SIZE, PORT = 64, 7000
ENOUGH = 10 ** 7
TRIAL_S, EACH_S, LOOK_S = 6, 2, 0.2  # EACH_S: renewals a second of a trial


class Blast:
    """Both ways at so many packets a second each."""

    def __init__(self, t, pps, seconds):
        ends = ((t.h1, t.h2, "10.2.0.2"), (t.h2, t.h1, "10.1.0.2"))
        self.sinks = [dst.popen([tool("udpblast"), "sink", str(PORT), str(seconds + 20)], stdout=subprocess.PIPE, text=True) for _, dst, _ in ends]
        for _, dst, _ in ends:
            wait_until(lambda: f":{PORT}" in dst.out(["ss", "-Huln"]), 10, "a sink")
        self.sources = [src.popen([tool("udpblast"), "send", to, *map(str, (PORT, SIZE, pps, seconds))], stdout=subprocess.PIPE, text=True)
                        for src, _, to in ends]

    def stop(self):
        for p in self.sources:
            p.terminate()

    def counts(self):
        """[(sent, received) of each way]"""
        said = [[int(re.search(rf"{what}=(\d+)", p.communicate(timeout=60)[0])[1]) for p in ps]
                for what, ps in (("tx", self.sources), ("rx", self.sinks))]
        return list(zip(*said))


class Ages:
    """How long each SA was seen without being one that either end sends on."""

    def __init__(self):
        self.since, self.worst = {}, 0

    def look(self, t):
        used, now = {in_use(t.da), in_use(t.db)}, time.monotonic()
        for key in [(d.instance, spi) for d in (t.da, t.db) for way in ("in", "out") for spi in sas(d, way)]:
            if key[1] in used:
                self.since[key] = now
            self.worst = max(self.worst, now - self.since.setdefault(key, now))


def carry(t, pps, seconds, renewals):
    """So many renewals by either end in turn, evenly over that time, under pps each way. Returns [(sent, received)], the oldest SA's age."""
    ages, blast, done, began = Ages(), Blast(t, pps, seconds * 20), 0, time.monotonic()
    while done < renewals or time.monotonic() - began < seconds:
        if done < renewals and time.monotonic() - began >= (done + 0.5) * seconds / renewals:
            had = in_use(t.da)
            r = (t.da, t.db)[done % 2].ctl("rekey", "ipsec1", check=False)
            assert not r.returncode, f"{done} at 2 x {pps}: {r.stdout}{told(t)}"
            wait_until(lambda: in_use(t.da) != had and in_use(t.da) == in_use(t.db, "in"), 10, lambda: f"{done}: {told(t)}", poll=0.05)
            done += 1
        ages.look(t)
        time.sleep(LOOK_S)
    blast.stop()
    return blast.counts(), ages.worst


def lossless(t, pps):
    """With renewals, for they want their share of the two cores, too: key exchanges, two daemons that are told, who looks on."""
    return all(tx == rx for tx, rx in carry(t, pps, TRIAL_S, TRIAL_S * EACH_S)[0])


def best_rate(t):
    """The highest rate each way at which three trials in a row lose nothing, within a sixteenth."""
    good, bad = 10000, None
    while not bad or bad - good > good / 16:
        pps = (good + bad) // 2 if bad else good * 3 // 2
        if all(lossless(t, pps) for _ in range(3)):
            good = pps
        else:
            bad = pps
    return good


def where(d):
    """The books of one end: reasons, what the funnels lost, what the kernel says of them."""
    j = d.json("drops")
    return ({way: {k: n for k, n in j["links"][0][way].items() if n} for way in ("out", "in")}, j["conservation"],
            {k: n for k, n in j["global"]["drops"].items() if n})


@pytest.mark.serial
def test_renewals_at_speed(lab, record_property):
    lab.net.on_underlay.clear()
    t = up(gateways(lab, over_a={"liveness": "200ms x 10"}, over_b={"liveness": "200ms x 10"}))
    for ns in (t.a, t.b):  # as any NIC has one: a veth that is read by XDP has room for 256 packets and refuses the rest
        ns.run(["tc", "qdisc", "add", "dev", "eth1", "root", "pfifo", "limit", "10000"])
    best = best_rate(t) if FULL else None
    pps = best * 4 // 5 if FULL else 500
    renewals = scaled(2, 200, "IKE_RATE_REKEYS")
    seconds = ENOUGH // (2 * pps) + 2 if FULL else 2
    flaps = t.da.link()["flaps"], t.db.link()["flaps"]
    counts, worst = carry(t, pps, seconds, renewals)
    sent, lost = sum(tx for tx, _ in counts), [tx - rx for tx, rx in counts]
    record_property("figure", f"IKE: {renewals} renewals under 2 x {pps} packets/s" + (f" (without loss at most 2 x {best})" if best else "") +
                    f": {sent} packets, lost {lost}, old SAs gone after {worst:.1f} s")
    assert lost == [0, 0], (counts, [where(d) for d in (t.da, t.db)])
    assert sent >= ENOUGH or not FULL
    assert worst < 10
    assert (t.da.link()["flaps"], t.db.link()["flaps"]) == flaps
    wait_until(lambda: all(len(sas(d, w)) == 1 for d in (t.da, t.db) for w in ("in", "out")), 10, lambda: told(t))
