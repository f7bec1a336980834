# SPDX-License-Identifier: GPL-2.0-or-later
"""Section 2.2 of the seed: what is not IP goes into GRE or L2TP over a connection in transport mode (docs/seed.md).

Here because kernels of containers may lack both. Between two ipsecd, by mark and with addresses of the link's own, and GRETAP between
ipsecd and the kernel's XFRM.
"""
import contextlib

from bed import Bed, Link
from conftest import Lab
from guest import Case, Shared
from lib.traffic import need_ping, tcp_transfer
from test_seed_transport import carries_what_is_not_ip, over_transport

NET = "192.168.77"


def gretap(me, far):
    return [f"link add l2 type gretap local {me} remote {far} nopmtudisc"]


def l2tp(me, far, encap):
    ports = "udp_sport 1701 udp_dport 1701" if encap == "udp" else ""
    return [f"l2tp add tunnel tunnel_id 7 peer_tunnel_id 7 encap {encap} local {me} remote {far} {ports}",
            "l2tp add session name l2 tunnel_id 7 session_id 9 peer_session_id 9"]


class Two:
    """Two ipsecd."""

    def __init__(self, way):
        self.lab = Lab("layer2")
        try:
            self.t, self.addr = over_transport(self.lab, way)
            self.lab.tap.protect(f"{NET}.0/24")
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def ethernet(self, make, undo):
        """The device at both ends; what leaves in the clear meanwhile is told by the taps (conservation and leaks: close())."""
        for ns, me, far in ((self.t.a, "a", "b"), (self.t.b, "b", "a")):
            ns.ip(*make(self.addr[me], self.addr[far]), f"addr add {NET}.{1 if me == 'a' else 2}/24 dev l2", "link set l2 mtu 1300 up")
        yield
        for ns in (self.t.a, self.t.b):
            ns.ip(*undo)

    def close(self):
        self.lab.close()


def carries(bed, make, undo, case):
    b = bed()
    sent = [d.link()["tx"]["packets"] for d in (b.t.da, b.t.db)]
    with b.ethernet(make, undo):
        carries_what_is_not_ip(b.lab, b.t, "l2")
    sent = [d.link()["tx"]["packets"] - n for d, n in zip((b.t.da, b.t.db), sent)]
    case.note(f"{sent} envelopes")
    assert min(sent) > 100, "it went by the link"
    leaks = {k: v["leaks"] for k, v in b.lab.tap.report()["taps"].items() if v["leaks"]}
    assert not leaks, f"in the clear: {leaks}"


kernel = Shared(lambda: Bed([Link(1, mode="transport", liveness="ping 1s x 8")])).get


def gretap_with_the_kernel(case):
    """The other end is the kernel's ESP in transport mode, its GRE goes by policy."""
    b = kernel()
    me, far = b.ends_outer(b.links[0])
    b.mark()
    for ns, own, other, n in ((b.a, me, far, 1), (b.b, far, me, 2)):
        ns.ip(*gretap(own, other), f"addr add {NET}.{n}/24 dev l2", "link set l2 mtu 1300 up")
    need_ping(b.a, f"{NET}.2")
    need_ping(b.a, f"{NET}.2", size=4000)
    for src, dst, addr in ((b.a, b.b, f"{NET}.2"), (b.b, b.a, f"{NET}.1")):
        sent, got = tcp_transfer(src, dst, addr, 1 << 20)
        assert sent == got
    case.note(f"{b.agree(b.links[0])} envelopes out and in")
    b.verdict()


def cases(job):
    found = []
    for way in ("mark", "own"):
        bed = Shared(lambda way=way: Two(way)).get
        for name, make, undo in (("gretap", gretap, ["link del l2"]),
                                 ("l2tp-udp", lambda me, far: l2tp(me, far, "udp"), ["l2tp del tunnel tunnel_id 7"]),
                                 ("l2tp-ip", lambda me, far: l2tp(me, far, "ip"), ["l2tp del tunnel tunnel_id 7"])):
            found.append(Case(f"{name}-{way}", lambda case, bed=bed, make=make, undo=undo: carries(bed, make, undo, case), limit=180))
    found.append(Case("gretap-kernel", gretap_with_the_kernel, limit=180))
    return [c for c in found if c.name == "gretap-own"] if job["quick"] else found
