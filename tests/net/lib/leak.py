# SPDX-License-Identifier: GPL-2.0-or-later
"""The invariants that hold around every test: no leak, no nonce twice, no key shown, books balance."""
import base64
import glob
import json
import os
import random
import re
import secrets
import struct

from lib.util import Helper, sh, tool, wait_until


class Sniffer(Helper):
    """The tap process: see sniff.c for what it checks."""

    def __init__(self, workdir, pcap_bytes=64 << 20):
        super().__init__("sniff")
        self.dir = os.path.join(workdir, "pcap")
        os.makedirs(self.dir, exist_ok=True)
        self.canary = secrets.token_bytes(24)
        self.labels = {}
        self.ask(f"pcap {self.dir} {pcap_bytes}")
        self.ask(f"canary {self.canary.hex()}")

    def tap(self, ns, dev):
        label = f"{ns.role}.{dev}"
        n = self.labels.setdefault(label, 0)
        self.labels[label] += 1
        self.ask(f"dev {ns.path} {dev} {label}{'-%d' % n if n else ''}")

    def protect(self, *prefixes):
        for p in prefixes:
            addr, _, length = p.partition("/")
            self.ask(f"prefix {addr} {length}")

    def report(self):
        return self.ask("report")

    def pcap(self, ns, dev, out):
        """Frames of one tap, oldest first. Report first: it flushes."""
        self.report()
        return read_pcap(os.path.join(self.dir, f"{ns.role}.{dev}.{'out' if out else 'in'}.pcap"))


def read_pcap(path):
    """Whole frames only: the tap may be writing the last one."""
    frames = []
    with open(path, "rb") as f:
        f.read(24)
        while True:
            head = f.read(16)
            size = struct.unpack("=IIII", head)[2] if len(head) == 16 else 0
            frame = f.read(size)
            if len(head) < 16 or len(frame) < size:
                return frames
            frames.append(frame)


def write_pcap(path, frames):
    with open(path, "wb") as f:
        f.write(struct.pack("=IHHIIII", 0xa1b2c3d4, 2, 4, 0, 0, 1 << 18, 1))
        for frame in frames:
            f.write(struct.pack("=IIII", 0, 0, len(frame), len(frame)) + frame)
    return path


def check_taps(report, whole=False, checks=("seq", "iv")):
    """Fail on a leak, on a nonce used twice, on a blind tap. whole: the envelope tap must be lossless too."""
    assert not report["leaks"], "LEAK: " + json.dumps(report["leaks"], indent=1)
    for label, t in report["taps"].items():
        assert t["leaks"] == 0, f"LEAK on {label}: {t}"
        assert t["unreadable"] == 0, f"the tap on {label} was given frames it cannot read, see Net.underlay(): {t}"
        assert t["lost_clear"] == 0, f"the leak tap on {label} overflowed: proves nothing: {t}"
        assert not whole or t["lost_esp"] == 0, f"the envelope tap on {label} overflowed: {t}"
    for name in checks:
        t = report["esp"][name]
        assert t["differ"] == 0, f"NONCE: one (SPI, {name}) with {t['differ'] + 1} different packets: {t}"


def spellings(key):
    """Every way a key could be written down by accident."""
    h = key.hex()
    pairs = [h[i:i + 2] for i in range(0, len(h), 2)]
    texts = [h, h.upper(), ":".join(pairs), " ".join(pairs), " ".join(pairs).upper(), ", ".join("0x" + p for p in pairs),
             " ".join("0x" + p for p in pairs), base64.b64encode(key).decode().rstrip("=")]
    words = ["%x" % w for w in struct.unpack(f"<{len(key) // 4}I", key)]
    return [key] + [t.encode() for t in texts] + [" ".join(words).encode()]


def hunt(keys, places):
    """places: {name: bytes}. Returns the sightings, by place and fingerprintless index, never key text."""
    needles = [(i, s) for i, k in enumerate(keys) for s in spellings(k)]
    return [f"key #{i} in {where}" for where, hay in places.items() for i, s in needles if s in hay]


def pinned_maps(pin_dir):
    maps = sorted(glob.glob(os.path.join(pin_dir, "maps", "*")))
    return maps or sorted(p for p in glob.glob(os.path.join(pin_dir, "**"), recursive=True) if not os.path.isdir(p))


def map_bytes(pin_dir):
    maps = pinned_maps(pin_dir)
    return sh([tool("mapbytes")] + maps, text=False, timeout=60).stdout if maps else b""


def proc_bytes(pid):
    out = b""
    for name in ("cmdline", "environ", "status", "maps"):
        try:
            with open(f"/proc/{pid}/{name}", "rb") as f:
                out += f.read()
        except OSError:
            pass
    return out


def check_keys(daemons):
    for d in daemons:
        keys = d.keys()
        if not keys:
            continue
        keys = random.sample(keys, min(len(keys), 8))  # of a thousand links some: each search reads every byte
        places = {"daemon log": d.log_bytes(), "pinned maps": map_bytes(d.pin_dir)}
        if d.ike:
            places["charon's log"] = d.ike.log().encode()
        for pid in d.pids():
            places[f"/proc/{pid}"] = proc_bytes(pid)
        for verb in d.relayed:
            answer = d.ask(verb)
            assert answer or not d.running(), f"{d.instance} does not answer {verb}: nothing to search"
            places[f"ipsecctl {verb}"] = answer or b""
        verb = random.choice(d.json_verbs)
        p = d.ctl(verb, check=False)
        places[f"ipsecctl {verb}"] = (p.stdout + p.stderr).encode()
        seen = hunt(keys, places)
        assert not seen, f"KEY SHOWN by {d.instance}: {seen}"


GSO_SEGS = 64  # what a super-packet holds at most


def funnel_losses(daemon):
    """What the kernel itself says it dropped on the devices inside the backend namespace, segments at most.

    A packet that xfrm segments is lost from the segment on that its crypto or the wire would not take: one error of the
    device, whatever it held."""
    inside = ["nsenter", f"--net={daemon.backend}", "--"]
    lost = 0
    for l in json.loads(sh(inside + ["ip", "-s", "-d", "-j", "link"]).stdout):
        rx, tx = l["stats64"]["rx"], l["stats64"]["tx"]
        lost += tx["dropped"] + rx["dropped"]
        if l.get("linkinfo", {}).get("info_kind") == "xfrm":
            lost += max(tx["dropped"], tx["errors"]) * (GSO_SEGS - 1)
        if re.fullmatch(r"b\d+", l["ifname"]):  # a link's: XDP has no part there, and there may be thousands
            continue
        for line in sh(inside + ["ethtool", "-S", l["ifname"]], check=False).stdout.splitlines():
            name, _, value = line.strip().partition(":")
            if "xdp" in name and ("drop" in name or "err" in name):
                lost += int(value)
    return lost


def imbalance(daemon):
    """Non-zero balances of `drops --json`; what a queue lost must be in the kernel's counters too."""
    j = daemon.json("drops", check=False)
    if not j or not j.get("ok", True):
        return {"drops --json": j}
    bad = unbalanced(j["conservation"])
    missing = sum(c[way]["in_funnel"] for c in j["conservation"] for way in ("out", "in"))
    if missing and not 0 < missing <= funnel_losses(daemon):
        bad["in_funnel"] = missing
    return bad


def unbalanced(node, where=""):
    """Every field named balance, wherever it stands, must be zero."""
    bad = {}
    if isinstance(node, dict):
        for k, v in node.items():
            if k.startswith("balance") and not isinstance(v, (dict, list)):
                if v:
                    bad[f"{where}.{k}"] = v
            else:
                bad.update(unbalanced(v, f"{where}.{k}"))
    elif isinstance(node, list):
        for i, v in enumerate(node):
            bad.update(unbalanced(v, f"{where}[{v.get('link', i) if isinstance(v, dict) else i}]"))
    return bad


def check_conservation(daemons):
    """At quiescence nothing is unexplained. Packets in flight get a moment to arrive."""
    for d in daemons:
        if d.running():
            wait_until(lambda: not imbalance(d), 3 + len(d.show()["links"]) / 200,
                       lambda: f"CONSERVATION on {d.instance}: {imbalance(d)}\n{d.ctl('drops', check=False).stdout}",
                       poll=0.05)
