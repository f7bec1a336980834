# SPDX-License-Identifier: GPL-2.0-or-later
"""Sixty thousand damaged copies beside a good flow (a million with ESPWIRE_TEST_FULL=1): the good flow loses
nothing, nothing forged is delivered, no answer is drawn, and the books balance.

mutate.c does what is done to them. The full run is against ipsecd under AddressSanitizer and UBSan (make asan-daemon).
"""
import collections
import glob
import os

import pytest

from lib.esp_peer import Frame
from lib.topo import TwoHosts
from lib.traffic import need_ping
from lib.util import BUILD, FULL, Helper, scaled

MUTANTS = scaled(60000, 1000000, "ESPWIRE_MUTANTS")
RATE = scaled(50000, 50000, "ESPWIRE_MUTANTS_RATE")
BEDS = [(4, "esp", "xdp"), (4, "udp", "xdp"), (6, "udp", "xdp")]
PER, BURST = 50, 4  # a veth's ring holds 256 frames: what it drops is lost by no fault of ours
ASAN = os.environ.get("ESPWIRE_ASAN", os.path.join(BUILD, "asan") if FULL else "")

# What is not for us is the host's business and its firewall's; what we are to be silent about it lets in
FIREWALL = """table inet host {
 chain in {
  type filter hook input priority 0; policy drop
  iifname != eth1 accept
  meta l4proto esp accept
  udp dport 4500 accept
  icmp type echo-request accept
  icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, echo-request } accept
 }
 chain through {
  type filter hook forward priority 0
  iifname eth1 oifname eth1 drop
 }
}
"""


def mutator(lab, t, far):
    t.b.run("ethtool -K eth1 tx off gso off tso off")  # one frame for each envelope
    m = Helper("mutate", t.h2.path, t.h1.path, far, 4300, t.b.path, "eth1", t.a.mac("eth1"), 20261127)
    lab.closers.append(m.close)
    return m


def answers(lab, t, since):
    """What gwA sent that is neither an envelope nor the neighbourhood's own, and not about transit.

    A damaged destination makes a packet that gwA, a router, sends on or reports to be unreachable; options behind
    an IPv6 header are the host's to complain of (RFC 8200 4.2), as whatever is neither ESP nor UDP.
    """
    out, own = [], (t.outer["a4"], t.outer["a6"])
    for data in lab.tap.pcap(t.a, "eth1", True)[since:]:
        f = Frame(data)
        if f.src not in own or f.dst.startswith("ff02:") or f.esp is not None and f.spi == t.pair.a.spi:
            continue
        if f.proto == 58 and f.ip[40] in (133, 134, 135, 136):
            continue
        quoted = {1: f.ip[28:], 58: f.ip[48:]}.get(f.proto, b"")
        about = Frame(data[:14] + quoted) if len(quoted) >= 20 else None
        if about is None or about.dst in own and about.proto in (50, 17):
            out.append(f"{f.src}>{f.dst} proto {f.proto} {f.ip[:100].hex()}")
    return out


def sanitizer_reports(lab):
    return [open(p).read()[:3000] for p in glob.glob(lab.path("asan.*"))]


@pytest.mark.parametrize("outer,encap,inp", BEDS, ids=[f"o{o}-{e}-{i}" for o, e, i in BEDS])
def test_damaged_copies_beside_a_good_flow(lab, monkeypatch, record_property, outer, encap, inp):
    if ASAN:
        assert os.access(os.path.join(ASAN, "ipsecd"), os.X_OK), f"no {ASAN}/ipsecd: make asan-daemon"
        monkeypatch.setenv("ESPWIRE_IPSECD", os.path.join(ASAN, "ipsecd"))
        monkeypatch.setenv("ASAN_OPTIONS", f"log_path={lab.path('asan')}:detect_leaks=0:abort_on_error=0")
        monkeypatch.setenv("UBSAN_OPTIONS", f"log_path={lab.path('asan')}:print_stacktrace=1")
    t = lab.two_gateways(underlay={"input": inp}, liveness="500ms x 10", path_a=f"{TwoHosts.outer[f'b{outer}']} encap {encap}",
                         path_b=f"{TwoHosts.outer[f'a{outer}']} encap {encap}")
    need_ping(t.h1, "10.2.0.2")
    t.a.run(["nft", "-f", "-"], input=FIREWALL)
    m = mutator(lab, t, "10.1.0.2" if outer == 4 else "fd01::2")
    endpoint = t.da.link()["path"]
    since = len(lab.tap.pcap(t.a, "eth1", True))
    got = m.ask(f"run {MUTANTS // len(BEDS)} {PER} {BURST} {RATE}", timeout=1200)
    assert got["whole"] and got["received"] == got["sent"] > 200, f"the good flow lost: {got}\n{t.b.out('ip -s link show dev eth1')}\n" \
        f"{t.da.ctl('drops').stdout}\n{t.db.ctl('drops').stdout}"
    assert not got["forged"] and not got["twice"] and not got["tx_lost"], got
    assert all(got["kinds"].values()), got["kinds"]
    drawn = answers(lab, t, since)
    assert not drawn, f"{len(drawn)} answers: {collections.Counter(a.split(' ')[2] for a in drawn)} {drawn[:5]}"
    now = t.da.link()
    assert now["path"] == endpoint, "a damaged copy moved the endpoint"
    assert now["state"] == "up" and now["flaps"] == 0
    if not ASAN:
        assert {"icv-fail", "short", "no-sa"} <= t.da.drop_reasons(), t.da.drop_reasons()
    t.da.stop()
    t.db.stop()
    assert not sanitizer_reports(lab), sanitizer_reports(lab)[0]
    record_property("figure", f"mutator o{outer} {encap} {inp}{' ASan' if ASAN else ''}: {got['mutants']} damaged copies in "
                    f"{got['seconds']:.1f} s beside {got['sent']} datagrams, 0 lost, 0 forged, 0 answers")
