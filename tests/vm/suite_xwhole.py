# SPDX-License-Identifier: GPL-2.0-or-later
"""`xwhole`: the kernel's offload of bare ESP is loaded (esp4_offload, esp6_offload), as behind any NIC that does ESP.

Its states take a super-packet for one packet that uses many numbers. Books, limits and counters of a link must not fall for that.
After it no suite that wants a kernel without them may run in the same guest.
"""
import re

from guest import Case
from lib.traffic import tcp_transfer
from lib.util import sh, wait_until
from suite_xfrm import Pair

SIZE = 1 << 20


class Offloaded(Pair):
    """Both ends by their kernels, in bare ESP."""

    def __init__(self, outer):
        self.outer = outer
        sh(["modprobe", "-a", "esp4_offload", "esp6_offload"])
        super().__init__(back=("xfrm", "xfrm"))

    def section(self, side, key_file, over):
        far = "b" if side == "a" else "a"
        return self.t.link(side, key_file, f"{self.t.outer[far + str(self.outer)]} encap esp", **over)

    def state(self, ns, spi):
        """(packets counted, numbers used) of an outbound state"""
        text = re.search(rf"spi {spi:#010x}.*?(?=\nsrc |\Z)", ns.out("ip -s xfrm state"), re.S)[0]
        high, low = re.search(r"oseq-hi (0x[0-9a-f]+).*?oseq (0x[0-9a-f]+)", text, re.S).groups()
        return int(re.search(r"\(bytes\), (\d+)\(packets\)", text)[1]), int(high, 16) << 32 | int(low, 16)


def balanced(outer):
    def fn(case):
        p = Offloaded(outer)
        try:
            p.need(4)
            p.liveness("off")
            gaps = p.settled()  # probes before the other end was there
            for back in (False, True):
                src, dst = p.ends(back)
                sent, got = tcp_transfer(src, dst, p.address(4, back), SIZE, timeout=100)
                assert sent == got, p.trouble()
            assert p.settled() == gaps, p.trouble()
            for ns, d in ((p.a, p.da), (p.b, p.db)):
                sa, books = p.sas(d)["out"], p.books(d)["out"]
                packets, numbers = p.state(ns, int(sa["spi"], 16))
                assert packets == numbers == sa["seq"], f"{packets} packets counted, {numbers} numbers used: {p.trouble()}"
                assert not books["in_funnel"] and books["raw_in"] > SIZE // 1500, books
                case.note(f"{packets} packets by {numbers} numbers")
            p.lab.verify()
        finally:
            p.close()
    return fn


def features(d):
    return sh(["nsenter", f"--net={d.backend}", "--", "ethtool", "-k", "x1"]).stdout


def loaded_later(case):
    """A link that carried before: its next state finds them there."""
    # states of the case before go with their namespaces, some time later
    wait_until(lambda: not sh(["modprobe", "-r", "esp4_offload", "esp6_offload"], check=False).returncode, 30, "modprobe -r", poll=0.5)
    p = Pair(back=("xfrm", "xfrm"))
    try:
        p.need(4)
        assert all(re.search(r"tcp-segmentation-offload: on", features(d)) for d in (p.da, p.db))
        sh(["modprobe", "-a", "esp4_offload", "esp6_offload"])
        pair, *files = p.lab.pair_files(tag="next")
        for d, f in zip((p.da, p.db), files):
            d.add_keys(f)
            d.init_state(f)
            d.json("sa", "add", "ipsec1", f)
        for d, f in zip((p.da, p.db), files):
            d.json("sa", "rekey", "ipsec1", f, "--now")
        for d in (p.da, p.db):
            for name in ("tcp-segmentation-offload", "tx-udp-segmentation"):
                assert re.search(rf"{name}: off", features(d)), features(d)
        sent, got = tcp_transfer(*p.ends(), p.address(4), SIZE, timeout=100)
        assert sent == got, p.trouble()
        p.liveness("off")
        wait_until(lambda: not p.books(p.da)["out"]["in_funnel"], 20, p.trouble, poll=0.3)
        p.lab.verify()
    finally:
        p.close()


def cases(job):
    every = [Case("balanced[o4]", balanced(4), limit=200), Case("balanced[o6]", balanced(6), limit=200), Case("loaded_later", loaded_later, limit=200)]
    return every[:1 if job["quick"] else None]
