# SPDX-License-Identifier: GPL-2.0-or-later
"""Sequence numbers at their edges, lifetimes, and what a restart of espwire looks like to the kernel's window."""
import functools
import signal
import time

import xfrm
from bed import Bed, Link, moved
from guest import Case, Shared
from lib.util import wait_until

EDGE = 1 << 32


def crossing(window, start, oseq, **kw):
    """Both senders stand shortly before a multiple of 2^32."""
    return functools.partial(Link, window=window, start=start, oseq=oseq, liveness="off", **kw)


# name -> Link without its number
LINKS = {
    "first-edge-w32": crossing(32, EDGE - 150, EDGE - 150),
    "first-edge-w64": crossing(64, EDGE - 150, EDGE - 150, alg="chacha20-poly1305"),
    "first-edge-w4096": crossing(4096, EDGE - 150, EDGE - 150, alg="aes-gcm-256"),
    "first-edge-udp": crossing(32, EDGE - 150, EDGE - 150, encap="udp"),
    "first-edge-gmac": crossing(32, EDGE - 150, EDGE - 150, alg="aes-gmac-256"),
    "first-edge-hmac-sha2-256": crossing(32, EDGE - 150, EDGE - 150, alg="aes-cbc-128-hmac-sha2-256"),
    "first-edge-hmac-sha2-512": crossing(64, EDGE - 150, EDGE - 150, alg="aes-cbc-256-hmac-sha2-512", outer=6),
    "first-edge-transport": crossing(32, EDGE - 150, EDGE - 150, mode="transport"),
    "first-edge-transport-udp": crossing(64, EDGE - 150, EDGE - 150, mode="transport", encap="udp", alg="aes-cbc-256-hmac-sha2-384"),
    "eighth-edge": crossing(32, 8 * EDGE - 150, 8 * EDGE - 150),
    "apart": crossing(64, EDGE - 150, 3 * EDGE + 5),
    "low-half-31": crossing(64, (1 << 31) - 150, (1 << 31) - 150),
}


def cross(bed, n, name):
    b = bed()
    l = b.every[n]
    b.mark()
    for back in (False, True):
        b.udp(l, l.outer, 400, back=back)
        b.udp(l, 6 if l.mode == "tunnel" else l.outer, 100, back=back)
        b.tcp(l, l.outer, 256 << 10, back=back)
    b.verdict()
    b.agree(l)
    assert b.sa(l, "out")["seq"] > l.start + 500 and b.sa(l, "in")["seq"] > l.oseq + 500


EXHAUST = 50
LIFE = 60  # packets that the kernel's SAs live


def pour(b, l, n, back=False):
    """n datagrams; nobody waits for them."""
    (src, me), (_, far) = b.ends(l, 4, back)
    s = src.socket(2, 2)
    s.bind((me, 0))
    for _ in range(n):
        try:
            s.sendto(b"x", (far, 9))
        except OSError:
            pass  # told at once that nothing goes any more
        time.sleep(0.01)
    s.close()


def no_esn_ends(bed, case):
    """RFC 4303 3.3.3: without ESN the counter must not cycle. What is left goes out, the rest is refused."""
    b = bed()
    l = b.every[0]
    sa = b.sa(l, "out")
    pour(b, l, EXHAUST * 2)
    wait_until(lambda: b.sa(l, "out")["seq"] == EDGE - 1, 10, lambda: f"the last number to be used: {b.sa(l, 'out')}")
    link = b.daemon.link(l.name)
    case.note(f"{EXHAUST} left at {sa['seq']:#x}; then {b.drops()}, {link['state']}: {link['reason']}")
    assert not b.xfrm_errors(), b.xfrm_errors()
    b.udp(l, 4, 20, back=True)  # the other direction goes on


def kernel_ends(bed, case):
    """The kernel's last number is 2^32-1 too, we take it, and our own direction goes on."""
    b = bed()
    l = b.every[1]
    b.mark()
    pour(b, l, EXHAUST * 2, back=True)
    wait_until(lambda: b.sa(l, "in")["seq"] == EDGE - 1, 10, lambda: f"its last number to come: {b.sa(l, 'in')}")
    case.note(f"then {b.xfrm_errors()}")
    assert b.xfrm_errors().get("XfrmOutStateSeqError"), b.xfrm_errors()
    assert b.sa(l, "in")["packets"] == EXHAUST and not moved(b.drops(), b.was[0]), b.trouble()
    b.udp(l, 4, 20)


def lifetime(bed, case):
    """The kernel's SA ends by a hard limit: the link goes down and the sender is told; new keys bring it back."""
    b = bed()
    l = b.every[0]
    (ns, me), (_, far) = b.ends(l, 4)
    spi = l.pair.a.spi
    assert spi in xfrm.counters(b.b)
    pour(b, l, LIFE)
    wait_until(lambda: spi not in xfrm.counters(b.b), 30, lambda: f"the kernel's state to end: {xfrm.counters(b.b)}", poll=0.5)
    wait_until(lambda: b.daemon.link(l.name)["state"] == "down", 30, "the link to go down", poll=0.2)
    reason = b.daemon.link(l.name)["reason"]
    p = ns.run(["ping", "-n", "-c", "1", "-W", "2", "-I", me, far], check=False)
    assert "nreachable" in p.stdout, f"the sender is told: {p.stdout}{p.stderr}"
    case.note(f"{reason}; {b.xfrm_errors()}")
    b.rekey(l)
    wait_until(b.all_up, 30, b.not_up, poll=0.2)
    b.mark()
    for back in (False, True):
        b.udp(l, 4, 60, back=back)
    b.verdict()


def restart(bed, sig, case):
    """The kernel's window and numbers stay where they are; both directions go on at once and nothing repeats."""
    b = bed()
    l = b.every[0]
    b.mark()
    for back in (False, True):
        b.udp(l, 4, 100, back=back)
    before = {way: b.sa(l, way)["seq"] for way in ("out", "in")}
    b.daemon.signal(sig)
    b.daemon.proc.wait(timeout=30)
    b.daemon.start(timeout=60)
    wait_until(b.all_up, 30, b.not_up, poll=0.2)
    for back in (False, True):
        b.udp(l, 4, 200, back=back)
    after = {way: b.sa(l, way)["seq"] for way in ("out", "in")}
    case.note(f"out {before['out']} -> {after['out']}, in {before['in']} -> {after['in']}")
    assert after["out"] > before["out"] and after["in"] > before["in"]
    # the carrier was down for a while and the wire was not: those are allowed, replayed packets are not
    b.verdict(allowed=("link-down", "worker-gone", "queue-full", "no-sa"))


def lost(bed, n, case):
    """RFC 4303 A2.2: a sender that jumps ahead by less than 2^32 is followed at once."""
    b = bed()
    l = b.every[n]
    b.mark()
    b.udp(l, 4, 100)
    b.udp(l, 4, 100, back=True)
    b.verdict()
    b.agree(l)
    case.note(f"out {b.sa(l, 'out')['seq']}, in {b.sa(l, 'in')['seq']}")


JUMPS = {"jump-2-20": 1 << 20, "jump-2-31": (1 << 31) + 5, "jump-2-32": EDGE - 5000}


def cases(job):
    names = list(LINKS)
    bed = Shared(lambda: Bed([LINKS[k](i + 1) for i, k in enumerate(names)])).get
    out = [Case(f"esn-{k}", functools.partial(lambda case, n, k: cross(bed, n, k), n=i, k=k), limit=90) for i, k in enumerate(names)]
    jumps = Shared(lambda: Bed([Link(i + 1, window=64, start=s, oseq=s, told=False, liveness="off") for i, s in enumerate(JUMPS.values())])).get
    out += [Case(k, functools.partial(lambda case, n: lost(jumps, n, case), n=i), limit=60) for i, k in enumerate(JUMPS)]
    last = Shared(lambda: Bed([Link(1, esn=False, window=32, start=EDGE - 1 - EXHAUST, liveness="off"),
                               Link(2, esn=False, window=32, oseq=EDGE - 1 - EXHAUST, liveness="off")])).get
    out.append(Case("no-esn-ends", lambda case: no_esn_ends(last, case), limit=90))
    out.append(Case("no-esn-ends-at-the-kernel", lambda case: kernel_ends(last, case), limit=90))
    short = Shared(lambda: Bed([Link(1, limits=f"limit packet-soft {LIFE // 2} limit packet-hard {LIFE}", liveness="ping 500ms x 4")])).get
    out.append(Case("lifetime-of-the-kernels-sa", lambda case: lifetime(short, case), limit=150))
    again = Shared(lambda: Bed([Link(1, window=32)])).get
    out.append(Case("restart", lambda case: restart(again, signal.SIGTERM, case), limit=120))
    out.append(Case("killed", lambda case: restart(again, signal.SIGKILL, case), limit=120))
    return out
