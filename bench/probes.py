# SPDX-License-Identifier: GPL-2.0-or-later
"""How each case is measured: one function per probe, over whatever tunnel is up. A probe returns {case: value}.

A probe runs under a Watch, which measures the machine's idle state before and what others took meanwhile; the
driver throws disturbed figures away.
"""
import contextlib
import json
import os
import re
import statistics
import subprocess
import time
from dataclasses import dataclass
from typing import Callable

import machine
from bed import HOST_L, HOST_R, TUN_R, WILD_L, WILD_R, rx_packets
from lib.util import sh, tool, wait_until
from peers import Unavailable

LOSS_MAX = 0.01
UNITS = {
    "tcp1": "Gbit/s", "tcp1_4500": "Gbit/s", "tcp4": "Gbit/s", "gwtcp1": "Gbit/s",
    "udp64": "kpps", "udp1372": "kpps", "flood64": "kpps", "cpu_per_gb": "CPU-s/GB", "cpu_per_mpkt": "CPU-s/Mpkt",
    "rtt_p50": "us", "rtt_p99": "us", "loaded_rtt_p99": "ms",
    "enc64": "Mpps", "enc512": "Mpps", "enc1400": "Mpps", "dec64": "Mpps", "dec512": "Mpps", "dec1400": "Mpps",
    "esp_enc64": "clocks", "esp_enc1400": "clocks", "esp_dec64": "clocks", "esp_dec1400": "clocks", "esp_2threads": "ratio",
    "links10k": "ratio", "garbage": "%", "insn_per_pkt64": "insn", "insn_per_pkt1372": "insn", "insn_per_byte": "insn",
}


def blast(name):
    return tool(f"bench/{name}")


def numbers(text):
    """"rx=12 ns=34" as a dict."""
    return {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", text)}


class Broken(Exception):
    """The measurement itself did not work; the text says how."""


@dataclass
class Plan:
    """Lengths in seconds."""

    tcp: float = 3
    udp: float = 2
    step: float = 1.0
    wire: float = 2
    steps: int = 6
    pings: int = 500


# --- TCP ---

def iperf(src, dst, addr, streams, seconds):
    """(Gbit/s, GB) that arrived."""
    srv = dst.popen(["iperf3", "-s", "-1", "-p", "5301"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: ":5301" in dst.out(["ss", "-Hltn", "sport", "=", ":5301"]), 5, "iperf3 listens")
        p = src.run(["iperf3", "-c", addr, "-p", "5301", "-t", seconds, "-P", streams, "-J"], check=False, timeout=seconds + 15)
        got = json.loads(p.stdout)["end"]["sum_received"]
    except (KeyError, ValueError, AssertionError, subprocess.TimeoutExpired) as e:
        raise Broken(f"iperf3: {str(e)[:80]}")
    finally:
        if srv.poll() is None:
            srv.kill()
        srv.wait()
    return got["bits_per_second"] / 1e9, got["bytes"] / 1e9


def tcp(case, streams):
    def probe(t, plan, watch, last):
        with watch:
            rate, gb = iperf(t.bed.hl, t.bed.hr, HOST_R, streams, plan.tcp)
        return {case: rate, **({"cpu_per_gb": watch.meter.busy_s / gb} if case == "tcp1" and gb else {})}
    return probe


def gwtcp(t, plan, watch, last):
    if t.name == "dpdk-secgw":
        raise Unavailable("its gateways have no host stack")
    with watch:
        return {"gwtcp1": iperf(t.bed.gl, t.bed.gr, TUN_R, 1, plan.tcp)[0]}


# --- UDP: the highest offered rate of which at least 99 % arrives ---

@dataclass
class Burst:
    offered: float  # pps asked for, 0 = unpaced
    sent: float  # pps
    got: float  # pps
    loss: float
    packets: int
    meter: object

    def passes(self):
        """A rate the sender itself cannot reach is no pass."""
        return self.loss <= LOSS_MAX and self.sent >= 0.97 * self.offered


def burst(t, watch, size, pps, seconds, src=None, dst=None):
    src, dst = src or t.bed.hl, dst or t.bed.hr
    rx = dst.popen([blast("udpblast"), "sink", "7000", seconds + 5], stdout=subprocess.PIPE, text=True)
    time.sleep(0.15)
    with watch:
        tx = src.out([blast("udpblast"), "send", HOST_R if dst is t.bed.hr else HOST_L, 7000, size, int(pps), seconds])
    got, sent = numbers(rx.communicate(timeout=seconds + 10)[0]), numbers(tx)
    s = sent["ns"] / 1e9
    return Burst(pps, sent["tx"] / s, got["rx"] / s, 1 - got["rx"] / max(1, sent["tx"]), got["rx"], watch.meter)


def search(t, plan, watch, size, low, high, steps):
    """Bisection over the offered rate. Return: the highest that passed, 0 for none."""
    best = 0
    for _ in range(steps):
        middle = (low + high) / 2
        if burst(t, watch, size, middle, plan.step).passes():
            low = best = middle
        else:
            high = middle
    return best


def hold(t, plan, watch, size, rate):
    """The rate found must hold for longer, else a little less is tried."""
    for _ in range(6):
        b = burst(t, watch, size, rate, plan.udp)
        if b.passes():
            return b
        rate *= 0.94
    return b


def udp(case, size):
    def probe(t, plan, watch, last):
        flood = burst(t, watch, size, 0, plan.udp / 2)
        around = last.get(case)
        if around:  # a round before found it thereabouts
            rate = search(t, plan, watch, size, around * 800, around * 1200, plan.steps - 2) or around * 800
        else:
            rate = search(t, plan, watch, size, 0, flood.got * 1.5 + 2000, plan.steps)
        if not rate:
            raise Broken("no rate with at most 1 % loss found")
        b = hold(t, plan, watch, size, rate)
        if b.loss > LOSS_MAX:
            raise Broken(f"loses {b.loss:.1%} at {b.offered / 1000:.0f} kpps")
        out = {case: b.got / 1000}
        if case == "udp64":
            out.update(flood64=flood.got / 1000, cpu_per_mpkt=b.meter.busy_s / (b.packets / 1e6))
        return out
    return probe


# --- round trips ---

def pings(ns, addr, count):
    """Sorted round-trip times in microseconds."""
    out = ns.run(["ping", "-i", "0.01", "-c", count, addr], check=False, timeout=count * 0.01 + 20).stdout
    v = sorted(float(x) * 1000 for x in re.findall(r"time=([0-9.]+) ms", out))
    if len(v) < count * 0.9:
        raise Broken(f"{count - len(v)} of {count} pings lost")
    return v


def at(v, share):
    return v[min(len(v) - 1, int(len(v) * share))]


def rtt(t, plan, watch, last):
    pings(t.bed.hl, HOST_R, 20)
    with watch:
        v = pings(t.bed.hl, HOST_R, plan.pings)
    return {"rtt_p50": at(v, 0.5), "rtt_p99": at(v, 0.99)}


def loaded(t, plan, watch, last):
    """Ping beside one TCP stream over a 50 Mbit/s uplink."""
    if t.spins:
        raise Unavailable("AF_XDP and AF_PACKET transmit past the queueing discipline that makes the slow uplink")
    seconds = plan.pings / 100 + 4
    t.bed.shape()
    srv = t.bed.hr.popen(["iperf3", "-s", "-1", "-p", "5301"], stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.3)
        cli = t.bed.hl.popen(["iperf3", "-c", HOST_R, "-p", "5301", "-t", str(seconds)], stdout=subprocess.DEVNULL)
        time.sleep(2)
        with watch:
            v = pings(t.bed.hl, HOST_R, plan.pings)
        cli.wait(timeout=seconds + 10)
    finally:
        for p in (srv, cli):
            if p.poll() is None:
                p.kill()
            p.wait()
        t.bed.unshape()
    return {"loaded_rtt_p99": at(v, 0.99) / 1000}


# --- one core, XDP frames in, nothing else on it ---

def pin(pids, core):
    for pid in pids:
        for tid in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(tid), {core})


@contextlib.contextmanager
def one_core(t, ns, dev):
    """The gateway on core 0; we, the generator and everything else started meanwhile on core 1; XDP drops what
    arrives at dev."""
    pin(t.pids, 0)
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {1})
    sink = ns.popen([blast("xdpblast"), "drop", dev, "120"], stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.3)
        if sink.poll() is not None:
            raise Broken(f"no XDP_DROP on {dev} of {ns.role}")
        yield
    finally:
        end(sink)
        os.sched_setaffinity(0, everywhere)


def end(p):
    if p and p.poll() is None:
        p.terminate()
        p.wait(timeout=10)


def encrypt(case, size):
    """size: of the inner packet, but 64 is the frame as in secgw's figures. Envelopes are counted on the wild wire."""
    def probe(t, plan, watch, last):
        with one_core(t, t.bed.gr, "wan"):
            gen = t.bed.hl.popen([blast("xdpblast"), "gen", "eth0", plan.wire + 6, size + 14 if size > 64 else 64, t.bed.gl.mac("lan")])
            try:
                time.sleep(0.8)
                with watch:
                    n0, t0 = rx_packets(t.bed.gr, "wan"), time.monotonic()
                    time.sleep(plan.wire)
                    n1, t1 = rx_packets(t.bed.gr, "wan"), time.monotonic()
            finally:
                end(gen)
        t.remark_once(f"core 0 {watch.meter.core_busy[0]:.0%} busy")
        return {case: (n1 - n0) / (t1 - t0) / 1e6}
    return probe


def envelopes(t, kind, dev, size, count, pps, seconds):
    """The arguments of xdpblast good and bad: envelopes as the left gateway would send them."""
    size = size if size > 64 else 50  # a frame of 64 bytes carries that
    return [blast("xdpblast"), kind, dev, seconds, size, t.bed.gr.mac("wan"), WILD_L, WILD_R, *t.sealing, t.take_seq(count), count, int(pps)]


def delivered(t, watch, size, pps, seconds):
    """Packets per second that come out of the gateway while sealed ones arrive at that rate, each once."""
    count = int(min(pps * seconds, 1.5e9 / (size + 90)))
    gen = t.bed.gl.popen(envelopes(t, "good", "wan", size, count, pps, seconds * 4 + 20), stdout=subprocess.PIPE, text=True)
    seen = []
    try:
        with watch:
            while gen.poll() is None:
                seen.append((time.monotonic(), t.received()))
                time.sleep(0.1)
    finally:
        end(gen)
    sent = numbers(gen.communicate()[0])
    first = next((i for i, (_, n) in enumerate(seen) if n > seen[0][1] + 10), None)  # a probe or two may come first
    top = max(n for _, n in seen)
    until = next(i for i, (_, n) in enumerate(seen) if n == top)
    if not sent.get("sent") or first is None or until - first < 2:
        raise Broken("too few envelopes were taken in")
    return (top - seen[first][1]) / (seen[until][0] - seen[first][0])


def decrypt(case, size):
    """The right gateway alone; envelopes arrive a third faster than it can take."""
    def probe(t, plan, watch, last):
        with one_core(t, t.bed.hr, "eth0"):
            guess = last[case] * 1e6 if case in last else delivered(t, watch, size, 6e5, 0.7)
            rate = delivered(t, watch, size, guess * 1.3, plan.wire)
        t.remark_once(f"core 0 {watch.meter.core_busy[0]:.0%} busy")
        return {case: rate / 1e6}
    return probe


# --- garbage beside a good flow ---

GARBAGE_PPS = 1e6


@contextlib.contextmanager
def garbage_on(t, dev, count=30000):
    """Unknown SPI, wrong ICV and old numbers in turn, at GARBAGE_PPS if the generator's core can."""
    gen = t.bed.gl.popen(["taskset", "-c", "1", *envelopes(t, "bad", dev, 64, count, GARBAGE_PPS, 120)], stdout=subprocess.PIPE, text=True)
    got = {}
    try:
        time.sleep(0.5)
        yield got
    finally:
        end(gen)
        n = numbers(gen.communicate()[0])
        got["pps"] = n["sent"] / max(1, n["ns"]) * 1e9 if "sent" in n else 0


def garbage(t, plan, watch, last):
    """Goodput of 1372 B datagrams beside garbage at the gateway, against the same generator aimed at a dead end:
    the core it burns is gone either way."""
    bed = t.bed
    sh(["ip", "link", "add", "dead", "netns", bed.gl.name, "type", "veth", "peer", "name", "end", "netns", bed.hl.name])
    bed.gl.ip("link set dead up")
    bed.hl.ip("link set end up")
    sink = bed.hl.popen([blast("xdpblast"), "drop", "end", "300"])
    bed.gr.run(["ethtool", "-K", "wan", "gro", "on"])  # XDP frames enter a veth only where it polls
    try:
        burst(t, watch, 1372, 20000, 1)  # numbers below are old from here on
        with garbage_on(t, "dead"):
            pace = burst(t, watch, 1372, 0, plan.step).got / 2
        with garbage_on(t, "dead") as quiet:
            base = burst(t, watch, 1372, pace, plan.udp)
            tcp_base = iperf(bed.hl, bed.hr, HOST_R, 1, plan.tcp)[0]
        with garbage_on(t, "wan") as loud:
            arrived = rx_packets(bed.gr, "wan")
            hurt = burst(t, watch, 1372, pace, plan.udp)
            arrived = (rx_packets(bed.gr, "wan") - arrived - hurt.packets) / plan.udp
            tcp_hurt = iperf(bed.hl, bed.hr, HOST_R, 1, plan.tcp)[0]
    finally:
        end(sink)
        bed.gl.ip("link del dead")
        bed.gr.run(["ethtool", "-K", "wan", "gro", "off"])
    if arrived < loud["pps"] / 4:
        raise Broken(f"of {loud['pps'] / 1e6:.2f} Mpps of garbage only {arrived / 1e6:.2f} reached the gateway")
    t.remark_once(f"good flow {pace / 1000:.0f} kpps of 1372 B, garbage {loud['pps'] / 1e6:.2f} Mpps (dead end {quiet['pps'] / 1e6:.2f}); "
                  f"a TCP stream keeps {100 * tcp_hurt / tcp_base:.0f} %")
    return {"garbage": 100 * hurt.got / base.got}


# --- ten thousand links ---

def idle_cost(t, seconds=3):
    """Share of the machine that is busy while nothing passes."""
    m = machine.Meter(t.pids)
    time.sleep(seconds)
    return m.stop().busy


def lookup_cost(t, plan, watch):
    """CPU seconds of the whole machine per million packets, both directions, at a rate all can bear; what it takes to
    look after the links when nothing passes is taken off. Return: that, the share taken off, us of a round trip."""
    idle, total = idle_cost(t), 0
    for ns in (t.bed.hl, t.bed.hr):
        to = t.bed.hr if ns is t.bed.hl else t.bed.hl
        b = burst(t, watch, 64, 60000, plan.udp, ns, to)
        total += (b.meter.busy_s - idle * b.meter.wall * machine.CPUS) / (b.packets / 1e6)
    return total, idle, at(pings(t.bed.hl, HOST_R, plan.pings), 0.5)


def links10k(many, plan, watch, last):
    """The left gateway with 10,000 links against the same with one, side by side."""
    with many.twin("link") as one:
        rounds = [(lookup_cost(one, plan, watch), lookup_cost(many, plan, watch)) for _ in range(5)]
    (cost1, _, rtt1), (cost, idle, rtt) = ([statistics.median(r[i][k] for r in rounds) for k in range(3)] for i in (0, 1))
    many.remark_once(f"{cost:.1f} against {cost1:.1f} CPU-s/Mpkt, rtt {rtt:.0f} against {rtt1:.0f} us; looking after them takes {idle:.1%} of the "
                     f"machine, {many.created}")
    return {"links10k": cost / cost1}


# --- the ESP stage alone ---

def esp_bench(*args):
    p = sh([blast("esp_bench"), *args], check=False)
    if p.returncode or "DROPS" in p.stdout:
        raise Broken(f"esp_bench: {(p.stdout + p.stderr).strip().splitlines()[-1]}")
    return p.stdout


def esp_stage(t, plan, watch, last):
    """Clocks per packet of esp_seal() and esp_open(), batch 32, one SA, one core; no tunnel involved."""
    with watch:
        out = esp_bench("-a", "aes-gcm-128", "-b", "32", "ipsec-mb")
    found = {}
    cipher = []
    for size, seal, open_, *alone in re.findall(r"(\d+) B\s+seal\s+([0-9.]+)\s+open\s+([0-9.]+)\s+cipher alone\s+([0-9.]+)\s+([0-9.]+)", out):
        found[f"esp_enc{size}"], found[f"esp_dec{size}"] = float(seal), float(open_)
        cipher.append(f"{'/'.join(alone)} at {size} B")
    if len(found) != 4:
        raise Broken(out.strip().splitlines()[-1])
    t.remark_once(f"{re.search('[0-9.]+ clocks per cycle', out)[0]}, {re.search('^(ipsec-mb.*), batch', out, re.M)[1]}; "
                  f"the library alone, seal/open: {', '.join(cipher)}")
    return found


def esp_threads(t, plan, watch, last):
    """Two threads seal for one SA; CPU per packet against one thread that owns it."""
    with watch:
        out = esp_bench("-t", "-b", "32")
    alone, each, a, b = map(float, re.search(r"alone ([0-9.]+), two with an SA each ([0-9.]+), shared by two ([0-9.]+) ([0-9.]+)", out).groups())
    t.remark_once(f"seal, 64 B, numbers by one atomic add a batch; two threads with an SA each, which share nothing but "
                  f"the machine: {each / alone:.2f}")
    return {"esp_2threads": (a + b) / 2 / alone}


@dataclass(frozen=True)
class Probe:
    name: str
    gives: tuple  # cases
    run: Callable
    kind: str = "path"  # what the wires must be; "none" = no tunnel at all, espwire's own code only
    quick: bool = False
    once: bool = False  # too long for every round
    ours: bool = False  # only espwire
    stolen: bool = False  # somebody else owns UDP 4500


PROBES = (
    Probe("tcp1", ("tcp1", "cpu_per_gb"), tcp("tcp1", 1), quick=True),
    Probe("tcp4", ("tcp4",), tcp("tcp4", 4), quick=True),
    Probe("gwtcp1", ("gwtcp1",), gwtcp),
    Probe("udp64", ("udp64", "flood64", "cpu_per_mpkt"), udp("udp64", 64), quick=True),
    Probe("udp1372", ("udp1372",), udp("udp1372", 1372)),
    Probe("rtt", ("rtt_p50", "rtt_p99"), rtt),
    Probe("loaded", ("loaded_rtt_p99",), loaded),
    Probe("tcp1_4500", ("tcp1_4500",), tcp("tcp1_4500", 1), ours=True, stolen=True),
    *(Probe(f"enc{n}", (f"enc{n}",), encrypt(f"enc{n}", n), kind="enc", quick=n != 512) for n in (64, 512, 1400)),
    *(Probe(f"dec{n}", (f"dec{n}",), decrypt(f"dec{n}", n), kind="dec") for n in (64, 512, 1400)),
    Probe("garbage", ("garbage",), garbage, ours=True),
    Probe("esp", ("esp_enc64", "esp_enc1400", "esp_dec64", "esp_dec1400"), esp_stage, kind="none", quick=True, ours=True),
    Probe("esp_2threads", ("esp_2threads",), esp_threads, kind="none", quick=True, ours=True),
    Probe("links10k", ("links10k",), links10k, kind="links", once=True, ours=True),
)
