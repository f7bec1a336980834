# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon that comes back finds its links: what stands is left alone, and found without asking for each thing."""
import os
import struct
import subprocess

from lib.topo import conf_text
from lib.traffic import need_ping
from lib.uplinks import far, many
from lib.util import tool, wait_until

LINKS = 24  # more than are asked for one by one


def sections(lab, t, count):
    """The [link] sections of b, and key files of both: everything that leaves something in the kernel."""
    sides, keys = many(lab, t.outer["b4"], t.outer["a4"], count, liveness="200ms x 10")
    for side, own, other in (("a", 1, 2), ("b", 2, 1)):
        for n, (_, link) in enumerate(sides[side], 1):
            link["address6"] = f"fd77:{n:x}::{own} peer fd77:{n:x}::{other}"
            link["protect"] = link["route"] = f"10.{128 + n // 250}.{n % 250}.0/24, fd78:{n:x}::/48"
    return sides, keys


class Watch:
    """What the kernel tells of a namespace; mark: two commands whose news show that it listens."""

    def __init__(self, lab, ns, argv, *mark):
        self.file = open(lab.path(argv.replace(" ", "-")), "w+")
        ns.popen(argv, stdout=self.file, stderr=subprocess.STDOUT)
        lab.closers.append(self.file.close)
        wait_until(lambda: [ns.run(m) for m in mark] and self.lines(), 5, argv, poll=0.1)
        self.known = len(self.lines())

    def lines(self):
        self.file.seek(0)
        return self.file.read().splitlines()

    def news(self):
        return self.lines()[self.known:]


def test_what_stands_is_left_alone(lab):
    """Nothing is taken away and put back: not an address, a route, a policy, an element of a set."""
    t = lab.two_hosts(hosts=False)
    lab.tap.protect("10.64.0.0/11")
    sides, keys = sections(lab, t, LINKS)
    for side, ns in (("a", t.a), ("b", t.b)):
        setattr(t, f"d{side}", lab.daemon(ns, conf_text(sides[side]), keys=keys[side]))
    up = lambda: t.db.show()["daemon"]["links_up"] == LINKS  # noqa: E731
    wait_until(up, 20, "all up")
    before = t.b.out("ip -br addr"), t.b.out("ip -6 route"), t.b.out("ip xfrm policy")
    t.db.kill()
    addr, route = "addr %s 192.0.2.77/32 dev lo", "route %s unreachable 192.0.2.78"
    policy, table = "xfrm policy %s src 192.0.2.77 dst 192.0.2.78 dir out", "nft %s table ip marker"
    tell = [Watch(lab, t.b, f"ip monitor {what}", f"ip {mark % 'add'}", f"ip {mark % 'del'}")
            for what, mark in (("address", addr), ("route", route))]
    tell.append(Watch(lab, t.b, "ip xfrm monitor policy", f"ip {policy % 'add'}", f"ip {policy % 'del'}"))
    tell.append(Watch(lab, t.b, "nft monitor", table % "add", table % "delete"))
    t.db.start()
    wait_until(up, 20, "all up again")
    need_ping(t.b, f"{far(LINKS)}.1")
    for w in tell[:2]:  # carriers rise, and what hangs on them is told again
        assert not [line for line in w.news() if "Deleted" in line], w.news()
    for w in tell[2:]:
        assert not w.news()
    after = t.b.out("ip -br addr"), t.b.out("ip -6 route"), t.b.out("ip xfrm policy")
    for was, now in zip(before, after):
        assert sorted(was.splitlines()) == sorted(now.splitlines())


def adoption(t, count):
    """Netlink requests and bytes heard by a daemon that finds so many links."""
    t.db.kill()
    where = os.path.join(t.db.dir, f"nlcount-{count}")
    t.db.start(env={"LD_PRELOAD": tool("nlcount.so"), "NLCOUNT": where}, timeout=60)
    with open(where, "rb") as f:
        return struct.unpack("QQ", f.read(16))


def test_each_link_costs_the_same(lab, record_property):
    """Counted, not timed: what the last link asks of the kernel is what the first did."""
    few, more = 24, 72
    t = lab.two_hosts(hosts=False)
    sides, keys = sections(lab, t, more)
    t.db = lab.daemon(t.b, conf_text(sides["b"][:few], {"max-links": 128}), keys=keys["b"])
    asked, heard = adoption(t, few)
    t.db.kill()
    t.db.write_conf(conf_text(sides["b"], {"max-links": 128}))
    t.db.start(timeout=60)
    asked_more, heard_more = adoption(t, more)
    each = (asked_more - asked) / (more - few)
    record_property("figure", f"{each:.1f} netlink requests per adopted link, {heard_more / more / 1024:.1f} KiB heard")
    assert each <= 5, (asked, asked_more)
    assert heard_more / more < 1.2 * heard / few, (heard, heard_more)
