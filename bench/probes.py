# SPDX-License-Identifier: GPL-2.0-or-later
"""How each case is measured: one function per probe, over whatever tunnel is up. A probe returns {case: value}.

A probe runs under a Watch, which measures the machine's idle state before and what others took meanwhile; the
driver throws disturbed figures away.
"""
import json
import os
import re
import subprocess
import time
from dataclasses import dataclass
from typing import Callable

import machine
from bed import HOST_R, TUN_R
from lib.util import sh, tool, wait_until
from peers import Unavailable

LOSS_MAX = 0.01
UNITS = {
    "tcp1": "Gbit/s", "tcp1_4500": "Gbit/s", "tcp4": "Gbit/s", "gwtcp1": "Gbit/s",
    "udp64": "kpps", "udp1372": "kpps", "flood64": "kpps", "cpu_per_gb": "CPU-s/GB", "cpu_per_mpkt": "CPU-s/Mpkt",
    "rtt_p50": "us", "rtt_p99": "us", "loaded_rtt_p99": "ms",
    "enc64": "Mpps", "enc512": "Mpps", "enc1400": "Mpps", "dec64": "Mpps", "dec512": "Mpps", "dec1400": "Mpps",
    "esp_enc64": "clocks", "esp_enc1400": "clocks", "esp_dec64": "clocks", "esp_dec1400": "clocks", "esp_2threads": "ratio",
    "links10k": "ratio", "garbage": "%", "insn_per_pkt64": "insn", "insn_per_byte": "insn",
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


def burst(t, watch, size, pps, seconds):
    rx = t.bed.hr.popen([blast("udpblast"), "sink", "7000", seconds + 5], stdout=subprocess.PIPE, text=True)
    time.sleep(0.15)
    with watch:
        tx = t.bed.hl.out([blast("udpblast"), "send", HOST_R, 7000, size, int(pps), seconds])
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

def net_stat(ns, dev):
    """rx_packets of a device; /sys belongs to the mounting namespace, so `ip` is asked."""
    j = json.loads(ns.out(["ip", "-j", "-s", "link", "show", "dev", dev]))[0]
    return j["stats64"]["rx"]["packets"]


def pin(pids, core):
    for pid in pids:
        for tid in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(tid), {core})


def encrypt(case, size):
    """size: of the inner packet. Frames made on core 1, encrypted on core 0, counted and dropped on the wild wire."""
    def probe(t, plan, watch, last):
        pin(t.pids, 0)
        sink = t.bed.gr.popen([blast("xdpblast"), "drop", "wan", plan.wire + 8])
        gen = None
        try:
            time.sleep(0.3)
            gen = t.bed.hl.popen(["taskset", "-c", "1", blast("xdpblast"), "gen", "eth0", plan.wire + 6, size + 14 if size > 64 else 64,
                                  t.bed.gl.mac("lan")], stdout=subprocess.DEVNULL)
            time.sleep(0.8)
            with watch:
                n0, t0 = net_stat(t.bed.gr, "wan"), time.monotonic()
                time.sleep(plan.wire)
                n1, t1 = net_stat(t.bed.gr, "wan"), time.monotonic()
        finally:
            for p in (gen, sink):
                if p:
                    p.terminate()
                    p.wait(timeout=10)
        t.remarks = [f"core 0 {watch.meter.core_busy[0]:.0%} busy"] if not t.spins else []
        return {case: (n1 - n0) / (t1 - t0) / 1e6}
    return probe


# --- the ESP stage alone ---

def esp_stage(t, plan, watch, last):
    """Clocks per packet of esp_seal() and esp_open(), batch 32, one SA, one core; no tunnel involved."""
    with watch:
        out = sh(["taskset", "-c", "1", blast("esp_bench"), "-a", "aes-gcm-128", "-b", "32", "ipsec-mb"]).stdout
    found = {}
    for size, seal, open_ in re.findall(r"(\d+) B\s+seal\s+([0-9.]+)\s+open\s+([0-9.]+)", out):
        found[f"esp_enc{size}"], found[f"esp_dec{size}"] = float(seal), float(open_)
    if len(found) != 4:
        raise Broken(out.strip().splitlines()[-1])
    return found


@dataclass(frozen=True)
class Probe:
    name: str
    gives: tuple  # cases
    run: Callable
    kind: str = "path"  # what the wires must be; None = no tunnel at all, espwire's own code only
    quick: bool = False
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
    Probe("enc64", ("enc64",), encrypt("enc64", 64), kind="enc", quick=True),
    Probe("enc512", ("enc512",), encrypt("enc512", 512), kind="enc"),
    Probe("enc1400", ("enc1400",), encrypt("enc1400", 1400), kind="enc", quick=True),
    Probe("esp", ("esp_enc64", "esp_enc1400", "esp_dec64", "esp_dec1400"), esp_stage, kind=None, quick=True, ours=True),
)
