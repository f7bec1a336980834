# SPDX-License-Identifier: GPL-2.0-or-later
"""Every suite both sides have x ESN x the kernel's replay window x inner and outer family x encapsulation.

One bed per outer family and encapsulation holds a link per remaining combination. The peer's window
may be as small as 32 packets: nothing may be lost all the same, in bursts of 64 and with TCP's own.
"""
import itertools

from bed import Bed, Link
from guest import Case, Shared
from lib.keys import ALGS

WINDOWS = (32, 64, 4096)


def combos(quick):
    """(alg, esn, window). The quick cut takes each pair (alg, esn) once, the windows in turn."""
    whole = list(itertools.product(ALGS, (True, False), WINDOWS))
    return [c for n, c in enumerate(whole) if n % 3 == n // 3 % 3] if quick else whole


def check(bed, n, v, udp, tcp):
    b = bed()
    l = b.links[n]
    b.mark()
    for back in (False, True):
        b.ping(l, v, back=back)
        b.udp(l, v, udp, back=back)
        b.tcp(l, v, tcp, back=back)
    b.verdict(allowed=("XfrmOutStateModeError",))  # the kernel's word for: too big, sender told
    for way in ("out", "in"):  # every one of them came through this link's SAs
        used = b.sa(l, way)["packets"]
        assert used > udp, f"the {way} SA carried {used} packets"


def cases(job):
    out = []
    for outer, encap in itertools.product((4, 6), ("esp", "udp")):
        todo = combos(job["quick"])

        def make(outer=outer, encap=encap, todo=todo):
            # every third peer uses plain policies in place of an xfrm device
            return Bed([Link(i + 1, alg=a, esn=e, window=w, outer=outer, encap=encap, plain=i % 3 == 1)
                        for i, (a, e, w) in enumerate(todo)])

        bed = Shared(make).get
        for n, (alg, esn, window) in enumerate(todo):
            for v in (4, 6):
                def fn(case, bed=bed, n=n, v=v, quick=job["quick"]):
                    check(bed, n, v, udp=128 if quick else 400, tcp=(256 if quick else 1024) << 10)
                name = f"{alg}-{'esn' if esn else 'noesn'}-w{window}-{encap}-o{outer}-i{v}"
                out.append(Case(name, fn, limit=90, alg=alg, esn=esn, window=window, encap=encap, outer=outer, inner=v))
    return out
