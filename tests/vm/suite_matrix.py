# SPDX-License-Identifier: GPL-2.0-or-later
"""Every suite x mode x inner and outer family x encapsulation x ESN against the kernel, its replay windows in turn.

A bed holds the links of one mode, outer family and encapsulation. Payload bytes are compared both ways,
then neither end may have dropped anything and both must have counted the same packets. The peer's window
may be as small as 32 packets: nothing may be lost all the same, in bursts of 64 and with TCP's own.
"""
import itertools

from bed import Bed, Link
from guest import Case, Shared, Skip
from lib.keys import SUITES

WINDOWS = (32, 64, 4096)
BEDS = tuple(itertools.product(("tunnel", "transport"), (4, 6), ("esp", "udp")))
ROWS = tuple(itertools.product(SUITES, (True, False)))  # suite, ESN


def check(case, bed, n, v, udp, tcp):
    b = bed()
    l = b.every[n]
    if l.refused:
        raise Skip(f"this kernel takes no such SA: {l.refused}")
    before = b.counts(l)
    b.mark()
    for back in (False, True):
        b.ping(l, v, back=back)
        b.udp(l, v, udp, back=back)
        b.tcp(l, v, tcp, back=back)
    b.verdict(allowed=("XfrmOutStateModeError",))  # the kernel's word for: too big, sender told
    out, into = b.agree(l)
    case.note(f"{out - before[0][0]} out, {into - before[1][0]} in")
    assert min(out - before[0][0], into - before[1][0]) > udp, "they went another way"


def link(i, r, c):
    """Link i: row r, column c. The windows go round, so that every row and every column sees them all."""
    (alg, esn), (mode, outer, encap) = ROWS[r], BEDS[c]
    # nothing but what a case sends, so that counts can be compared; every fourth peer uses plain policies in place of an xfrm device
    return Link(i, alg=alg, esn=esn, window=WINDOWS[(r + c) % 3], mode=mode, outer=outer, encap=encap, plain=(r + c) % 4 == 1,
                liveness="off")


def bed_cases(todo, pick, udp, tcp):
    """Cases of one bed. pick(l): the inner families to try on a link."""
    bed = Shared(lambda: Bed(todo, may_refuse=True)).get
    for n, l in enumerate(todo):
        for v in pick(l):
            name = f"{l.alg}-{'esn' if l.esn else 'noesn'}-w{l.window}-{l.mode}-{l.encap}-o{l.outer}-i{v}"
            yield Case(name, lambda case, n=n, v=v: check(case, bed, n, v, udp, tcp), limit=90, alg=l.alg, esn=l.esn, window=l.window,
                       mode=l.mode, encap=l.encap, outer=l.outer, inner=v)


def families(l):
    return (4, 6) if l.mode == "tunnel" else (l.outer,)


def cut():
    """Two beds with the columns in turn: in tunnel mode every suite and ESN, in transport mode every suite."""
    tunnel = [(r, (r + r // 4) % 4) for r in range(len(ROWS))]
    transport = [(2 * s + s % 2, 4 + s % 4) for s in range(len(SUITES))]
    for cells in tunnel, transport:
        todo = [link(i + 1, *cell) for i, cell in enumerate(cells)]
        yield from bed_cases(todo, lambda l: families(l)[l.i // 2 % len(families(l)):][:1], udp=128, tcp=256 << 10)


def cases(job):
    if job["quick"]:
        return list(cut())
    beds = [[link(r + 1, r, c) for r in range(len(ROWS))] for c in range(len(BEDS))]
    return [case for todo in beds for case in bed_cases(todo, families, udp=400, tcp=512 << 10)]
