# SPDX-License-Identifier: GPL-2.0-or-later
"""Fail closed where the kernel encrypts (I1, I1b): its states, its policies or the link's xfrm device are taken away under traffic,
with the daemon alive, asleep together with its guardian, and killed; bare ESP and ESP in UDP.

Judged by the taps on every underlay device, by a listener behind the gateway that loses something, and by an attacker on the wire.
Without its device a state still opens what the peer has sealed, and the packet goes on as if it had come in at the uplink, where it is
refused: a tap there sees it, so in those cases the tap at the other end of the wire judges, which sees all that is on it.
The last case lifts the protection: then the same taps must see the same packets.
"""
import contextlib
import time

from guest import Case, Shared
from lib import leak
from lib.traffic import Listener, ping, volley
from lib.util import sh, wait_until
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw
from suite_xfrm import IF_ID, Pair, asleep

SPOOFED = b"spoofed-in-the-clear"


class Bared(Pair):
    """Both ends by their kernels; gwB is what loses something."""

    def __init__(self, encap):
        self.encap = encap
        super().__init__(back=("xfrm", "xfrm"))
        for c in ("all", "default", "eth1"):
            self.b.sysctl_set(f"net.ipv4.conf.{c}.rp_filter", 0)  # the routing check must not do our work
        self.eve = self.lab.attacker(self.a, "eth1", self.b)

    def section(self, side, key_file, over):
        return self.t.link(side, key_file, f"{self.t.outer['b4' if side == 'a' else 'a4']} encap {self.encap}", **over)

    def sources(self):
        """Hosts and gateways, both ways, both families."""
        return [(ns, self.address(v, back)) for back in (False, True) for ns in (self.ends(back)[0], self.a if not back else self.b) for v in (4, 6)]

    def spoof(self):
        """In the clear from the wire, as if from h1: to the host behind gwB, to gwB itself, to its end of the link."""
        o, t = self.t.outer, self.t.tun
        for to4, to6 in ((self.address(4), self.address(6)), (o["b4"], o["b6"]), (t["b4"], t["b6"])):
            for _ in range(3):
                self.eve.ip(IP(src="10.1.0.2", dst=to4) / UDP(sport=9, dport=5005) / Raw(SPOOFED))
                self.eve.ip(IPv6(src="fd01::2", dst=to6) / UDP(sport=9, dport=5005) / Raw(SPOOFED))


def nothing(p):
    pass


def state(p):
    p.b.ip("xfrm state flush")


def policy(p):
    ours = IF_ID.search(p.b.out("ip -d xfrm policy"))[1]
    for v in ("0.0.0.0/0", "::/0"):
        for way in ("out", "in"):
            p.b.ip(f"xfrm policy delete src {v} dst {v} dir {way} if_id {ours}")


def device(p):
    sh(["nsenter", f"--net={p.db.backend}", "--", "ip", "link", "del", "x1"])


def everything(p):
    for fault in (policy, state, device):
        fault(p)


@contextlib.contextmanager
def alive(p):
    yield


@contextlib.contextmanager
def asleep_all(p):
    with asleep(p.db):
        yield


@contextlib.contextmanager
def killed(p):
    p.db.kill()
    wait_until(lambda: p.db.oper() in ("LOWERLAYERDOWN", "DOWN"), 10, "carrier down")
    yield
    p.db.start(timeout=60)


FAULTS = {f.__name__: f for f in (nothing, state, policy, device, everything)}
DAEMON = {"alive": alive, "asleep": asleep_all, "killed": killed}


def forgets(fault, daemon):
    """Who loses window and memory refuses what the peer sends up to the durable mark, which takes it a thousand packets."""
    return daemon == "killed" and fault in ("state", "everything")


def leaks(p):
    return {label: t["leaks"] for label, t in p.lab.tap.report()["taps"].items()}


def holds(get, fault, daemon):
    def no_cleartext(case):
        p = get()
        p.need(4)
        p.need(6, back=True)
        before, opened = leaks(p), "gwb.eth1" if fault in ("device", "everything") else None
        behind, local = Listener(p.h2, "eth0"), p.b.socket(10, 2)
        local.setsockopt(41, 26, 0)  # IPV6_V6ONLY
        local.bind(("::", 5005))
        local.setblocking(False)
        with DAEMON[daemon](p):
            FAULTS[fault](p)
            for _ in range(4):
                volley(p.lab, p.sources(), n=10)
                p.spoof()
                time.sleep(0.3)
            # what is allowed, later on the same wire, bounds the wait
            assert ping(p.a, p.t.outer["b4"], count=2, timeout=5) and ping(p.a, p.t.outer["b6"], count=2, timeout=5)
        assert len(before) == 2 and not behind.count(lambda f: SPOOFED in f), "forwarded to the host"
        if daemon != "alive" and fault != "nothing":
            sealed = behind.count(lambda f: p.lab.tap.canary in f and (f[9] if f[0] >> 4 == 4 else f[6]) == 17)  # not: quoted in an ICMP error
            assert not sealed, "nothing is delivered without what was taken away"
        with contextlib.suppress(BlockingIOError):
            raise AssertionError(f"taken in: {local.recv(100)}")
        behind.close()
        local.close()
        if not forgets(fault, daemon):
            for d in (p.da, p.db):
                d.wait_up(timeout=60)
            for v in (4, 6):
                p.need(v)
                p.need(v, back=True)
        more = {label: n - before[label] for label, n in leaks(p).items()}
        assert not any(n for label, n in more.items() if label != opened), f"LEAK {more} {p.lab.tap.report()['leaks']}"
        report = p.lab.tap.report()
        leak.check_taps({**report, "leaks": [], "taps": {label: {**t, "leaks": 0} for label, t in report["taps"].items()}})
        case.note(f"envelopes seen {sum(t['esp_in'] + t['esp_out'] for t in report['taps'].values())}, in the clear on the wire 0"
                  + (f", opened and refused {more[opened]}" if opened else ""))
    return no_cleartext


def the_taps_see(get):
    def without_protection(case):
        """The same packets with the protection lifted: this fixture can fail."""
        p = get()
        p.db.stop()
        p.db.release()
        before = leaks(p)
        volley(p.lab, p.sources(), n=10)
        wait_until(lambda: all(n > before[label] for label, n in leaks(p).items()), 10, "cleartext at both taps")
        behind = Listener(p.h2, "eth0")
        p.spoof()
        wait_until(lambda: behind.count(lambda f: SPOOFED in f), 10, "spoofed packets behind the gateway")
        behind.close()
    return without_protection


def cases(job):
    out = []
    for encap in ("esp", "udp"):
        get, anew = (Shared(lambda encap=encap: Bared(encap)).get for _ in range(2))
        cells = sorted([(f, d) for d in DAEMON for f in FAULTS if f != "nothing" or d == "killed"], key=lambda cell: forgets(*cell))
        if job["quick"]:
            cells = [("state", "asleep"), ("device", "killed")] if encap == "esp" else [("policy", "killed")]
        out += [(f"{encap}-{f}-{d}", holds(anew if f == "everything" and forgets(f, d) else get, f, d)) for f, d in cells]
        if not job["quick"] or encap == "esp":
            out.append((f"{encap}-the-taps-see", the_taps_see(anew)))
    return [Case(name, fn, limit=150) for name, fn in out]
