# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine: what it is, what its CPUs did meanwhile, and whether anybody else was using it."""
import ctypes
import json
import os
import platform
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")
CPUS = os.cpu_count()
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """Whatever we start stays our descendant, also a guardian whose daemon is gone."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _stat(pid):
    """(parent, CPU ticks of the process and of its reaped children), None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            words = f.read().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return int(words[1]), sum(map(int, words[11:15]))


def _processes():
    table = ((int(pid), _stat(pid)) for pid in os.listdir("/proc") if pid.isdigit())
    return {pid: s for pid, s in table if s}


def foreign_ticks():
    """CPU ticks of every process that is neither ours, nor an ancestor of ours, nor a kernel thread.

    Sums of a process and its reaped children keep their total when a child ends, so that compilers that
    come and go are seen. An ancestor (make, a shell) only waits, and holds what its earlier children took.
    """
    table = _processes()
    ours, pid = {2}, os.getpid()
    kin = {pid}
    while pid in table:
        pid = table[pid][0]
        ours.add(pid)

    def is_ours(p):
        seen = []
        while p in table and p not in kin and p not in seen:
            seen.append(p)
            p = table[p][0]
        if p in kin:
            kin.update(seen)
        return p in kin

    return sum(t for p, (parent, t) in table.items() if p not in ours and parent != 2 and not is_ours(p))


def process_ticks(pids):
    """User and system ticks of these processes alone."""
    return sum(s[1] for s in map(_stat, pids) if s)


def cpu_lines():
    with open("/proc/stat") as f:
        return [list(map(int, line.split()[1:])) for line in f if line.startswith("cpu")]


class Meter:
    """CPU books between start and stop(). Idle time is exact here (NO_HZ), user and system are sampled."""

    def __init__(self, pids=()):
        self.pids = list(pids)
        self.was = self._read()

    def _read(self):
        return time.monotonic(), cpu_lines(), foreign_ticks(), process_ticks(self.pids)

    def stop(self):
        t0, c0, f0, p0 = self.was
        t1, c1, f1, p1 = self._read()
        self.wall = t1 - t0
        idle = [(b[3] + b[4] - a[3] - a[4]) / TICK for a, b in zip(c0, c1)]
        self.busy_s = max(0.0, self.wall * CPUS - idle[0])  # CPU seconds of the whole machine
        self.core_busy = [min(1.0, max(0.0, 1 - i / self.wall)) for i in idle[1:]]
        self.steal = (c1[0][7] - c0[0][7]) / TICK / (self.wall * CPUS)
        self.foreign = max(0, f1 - f0) / TICK / (self.wall * CPUS)
        self.tunnel_s = (p1 - p0) / TICK
        return self

    @property
    def busy(self):
        """Share of the machine that was in use."""
        return self.busy_s / (self.wall * CPUS)

    @property
    def disturbed(self):
        """Share of the machine that others took: processes that are not ours, and the hypervisor."""
        return self.foreign + self.steal


def load_now(seconds=0.25):
    m = Meter()
    time.sleep(seconds)
    return m.stop()


def _first(path, key, default=""):
    try:
        with open(path) as f:
            return next((line.split(":" if ":" in line else "=", 1)[1].strip().strip('"') for line in f if line.startswith(key)), default)
    except OSError:
        return default


def _version(argv):
    try:
        out = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    except OSError:
        return None
    return (out.stdout + out.stderr).strip()


def describe(build):
    """The "machine" object of bench.json."""
    probe = _version([os.path.join(build, "ipsecctl"), "--json", "version", "--probe"])
    try:
        espwire = json.loads(probe or "{}")
    except ValueError:
        espwire = {}
    flags = _first("/proc/cpuinfo", "flags").split()
    with open("/proc/meminfo") as f:
        kib = int(f.readline().split()[1])
    return {
        "cpu": _first("/proc/cpuinfo", "model name"),
        "cpus": CPUS,
        "mhz": float(_first("/proc/cpuinfo", "cpu MHz") or 0),
        "isa": [f for f in ("aes", "avx2", "avx512f", "vaes", "vpclmulqdq") if f in flags],
        "virtual": "hypervisor" in flags,
        "memory_gib": round(kib / 2**20, 1),
        "kernel": platform.release(),
        "os": _first("/etc/os-release", "PRETTY_NAME"),
        "crypto": espwire.get("crypto"),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
