# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs load, and the first landing: packets each way between espwire and the kernel's XFRM, AES-GCM-128, ESP over IPv4."""
import re

import suite_tree
from bed import Bed, Link
from guest import Case, Shared
from lib.util import BUILD


bed = Shared(lambda: Bed([Link(1, alg="aes-gcm-128", esn=False, window=32)])).get


def programs(case):
    """They load while esp4 is no part of the kernel: what a module has is not in the kernel's BTF."""
    with open("/proc/modules") as f:
        case.note("esp4 is " + ("loaded" if re.search("^esp4 ", f.read(), re.M) else "not loaded"))
    suite_tree.binary(f"{BUILD}/bpf/prog_test", case)


def link_up(case):
    case.note(bed().timing)


def ping(case):
    b = bed()
    for v in (4, 6):
        b.ping(b.links[0], v)
        b.ping(b.links[0], v, back=True)


def udp_out(case):
    b = bed()
    b.udp(b.links[0], 4, 2000)


def udp_in(case):
    b = bed()
    b.udp(b.links[0], 4, 2000, back=True)


def tcp_out(case):
    b = bed()
    b.tcp(b.links[0], 4, 2 << 20)


def tcp_in(case):
    b = bed()
    b.tcp(b.links[0], 4, 2 << 20, back=True)


def books(case):
    """Nothing was dropped or left over, and it all went through the two SAs."""
    b = bed()
    b.verdict()
    used = {way: b.sa(b.links[0], way)["packets"] for way in ("out", "in")}
    case.note(f"out {used['out']} and in {used['in']} envelopes")
    assert min(used.values()) > 3000, f"the SAs carried only {used}"


def cases(job):
    return [Case(fn.__name__, fn, limit=90) for fn in (programs, link_up, ping, udp_out, udp_in, tcp_out, tcp_in, books)]

