# SPDX-License-Identifier: GPL-2.0-or-later
"""Each death of a gateway's two daemons, under traffic, at the end that begins (a) and at the one that waits (b).

Nobody helps: what died is started again, as systemd does, and everything else must come by itself.
lab.verify() adds what the taps saw: no cleartext, no (SPI, IV) with different bytes.
"""
import signal
import time

import pytest

from lib.nat import NatNet
from lib.stream import Stream
from lib.traffic import need_ping
from lib.util import scaled, wait_until
from test_ike import FAR, gateways, in_use, secret, settled, told, up
from test_ike_paths import gateway, ike_link


def daemons(t, n):
    """n-th death: this end's, the other's, in turn."""
    return ((t.da, t.ca), (t.db, t.cb))[n % 2]


def charon_is_killed(t, n):
    d, c = daemons(t, n)
    c.kill()
    wait_until(lambda: not d.show()["daemon"]["ike"]["connected"], 3, "ipsecd sees it")
    c.start()


def charon_restarts(t, n):
    _, c = daemons(t, n)
    c.stop()
    c.start()


def ipsecd_is_killed(t, n):
    d, _ = daemons(t, n)
    d.kill()
    d.start()


def both_are_killed(t, n):
    d, c = daemons(t, n)
    d.kill()
    c.kill()
    for p in (d, c) if n // 2 % 2 else (c, d):
        p.start()


def both_charons_are_killed(t, n):
    first, second = ((t.ca, t.cb), (t.cb, t.ca))[n % 2]
    first.kill()
    second.kill()
    first.start(wait=n // 2 % 2)
    second.start()


def charon_hangs(t, n):
    _, c = daemons(t, n)
    c.proc.send_signal(signal.SIGSTOP)
    time.sleep(1)
    c.proc.send_signal(signal.SIGCONT)


# death: (seconds without traffic at most, do links stay up?)
DEATHS = {charon_is_killed: (0, True), charon_hangs: (0, True), both_charons_are_killed: (0, True),
          charon_restarts: (30, False), ipsecd_is_killed: (30, False), both_are_killed: (30, False)}


@pytest.mark.parametrize("death", DEATHS, ids=lambda f: f.__name__)
def test_death(lab, death, record_property):
    bound, stay = DEATHS[death]
    t = up(gateways(lab, over_a={"ike-start": "yes"}))
    need_ping(t.h1, FAR["h1"])
    flaps = t.da.link()["flaps"], t.db.link()["flaps"]
    stream = Stream(lab, t, gap=0.005)
    deaths = scaled(2, 20, "IKE_DEATHS")
    for n in range(deaths):
        had = () if death is charon_hangs else (in_use(t.da), in_use(t.da, "in"))
        stream.more(20)
        death(t, n)
        wait_until(lambda: settled(t, had), 30, lambda: f"death {n}: {told(t)}")
        stream.more(20)
    gaps = [seconds for _, _, seconds in stream.gaps()]
    record_property("figure", f"IKE: {death.__name__}, {deaths} times: gaps of {max(gaps, default=0):.2f} s at most, "
                    f"{sum(gaps) / 2 / deaths:.2f} s on average; no flap: {stay}")
    assert max(gaps, default=0) <= bound, gaps
    if stay:
        assert (t.da.link()["flaps"], t.db.link()["flaps"]) == flaps
    assert {s["source"] for d in (t.da, t.db) for s in d.link()["sas"]} == {"ike"}


def test_who_waits_for_everybody_calls_back(lab):
    """A gateway without the address of its road warrior, who is behind a NAT, dies as a whole: it calls him."""
    t = NatNet(lab)
    nat, psk = t.box(), secret(lab)
    lab.tap.protect("10.9.1.0/24")
    de = gateway(lab, t.east, [ike_link(t, 1, 2, "any", psk)])
    west = nat.gateway("west")
    dw = gateway(lab, west, [ike_link(t, 1, 1, t.east4, psk)])
    dw.wait_up(timeout=15)
    need_ping(west, "10.9.1.2")
    for whole in (True, False, True):
        had = {s["spi"] for s in de.link()["sas"]}
        if whole:
            de.kill()
        de.ike.kill()
        if whole:
            de.start()
        de.ike.start()

        def again():
            now = {s["spi"] for s in de.link()["sas"]}
            return len(now) == 2 and not now & had and de.is_up() and dw.is_up() and now == {s["spi"] for s in dw.link()["sas"]}

        wait_until(again, 20, lambda: f"{de.ctl('sa list').stdout}{dw.ctl('sa list').stdout}{de.ike.log()[-3000:]}")
        need_ping(west, "10.9.1.2")
