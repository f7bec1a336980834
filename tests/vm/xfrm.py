# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's end of a link in the words of `ip xfrm`: states, policies, what it refuses and what it counts."""
import errno
import os
import re
import subprocess

AEAD = {"aes-gcm": "rfc4106(gcm(aes))", "aes-gma": "rfc4543(gcm(aes))", "chacha2": "rfc7539esp(chacha20,poly1305)"}
ERRNO = {os.strerror(n): name for n, name in errno.errorcode.items()}


def algorithm(sa):
    """The suite of lib.keys.Sa, with its keys."""
    if sa.hmac:
        enc = f"cbc(aes) 0x{sa.key.hex()}" if sa.cbc else 'ecb(cipher_null) ""'
        return f"enc {enc} auth-trunc hmac(sha{sa.sha}) 0x{sa.auth.hex()} {sa.icv_len * 8}"
    return f"aead {AEAD[sa.alg[:7]]} 0x{sa.key.hex()}{sa.salt.hex()} {sa.icv_len * 8}"


def numbers(l, kind, seq):
    """Where a state begins that is not new: the last number used. kind: seq (received) or oseq (sent)."""
    if not seq:
        return ""
    high = f" replay-{kind}-hi {seq >> 32:#x}" if l.esn else ""
    return f" replay-{kind} {seq & 0xffffffff:#x}{high}"


def states(l, a, b, ports):
    """Two lines: in from espwire (address a, port ports[0]) and out to it."""
    lines, known = [], l.start if l.told else 0
    for src, dst, sa, kind, seq, sport, dport in ((a, b, l.pair.a, "seq", known, *ports), (b, a, l.pair.b, "oseq", l.oseq, *ports[::-1])):
        flags = ["af-unspec"] * (l.mode == "tunnel") + ["esn"] * l.esn
        words = [f"xfrm state add src {src} dst {dst} proto esp spi {sa.spi:#x} reqid {l.i} mode {l.mode}",
                 f"if_id {l.i}" if l.device else "", f"replay-window {l.window}{numbers(l, kind, seq)}",
                 f"flag {' '.join(flags)}" if flags else "", algorithm(sa),
                 f"encap espinudp {sport} {dport} 0.0.0.0" if l.encap == "udp" else "", l.limits]
        lines.append(" ".join(w for w in words if w))
    return lines


def policies(l, a, b, near, far):
    """Out, in and forward. near, far: prefixes behind the kernel and behind espwire, one family after the other."""
    lines, tail = [], f" if_id {l.i}" if l.device else ""
    for here, there in zip(near, far):
        for way, src, dst, osrc, odst in (("out", here, there, b, a), ("in", there, here, a, b), ("fwd", there, here, a, b)):
            lines.append(f"xfrm policy add src {src} dst {dst} dir {way}{tail} priority 10 "
                         f"tmpl src {osrc} dst {odst} proto esp reqid {l.i} mode {l.mode}")
    return lines


def bypasses():
    """Transport mode protects the very addresses of the envelopes, and those that neighbour discovery asks for."""
    what = [("::/0", f"proto ipv6-icmp type {t}") for t in (135, 136)] + \
           [(net, f"proto udp {port} 4500") for net in ("0.0.0.0/0", "::/0") for port in ("sport", "dport")]
    return [f"xfrm policy add src {net} dst {net} {sel} dir {way} priority 1" for net, sel in what for way in ("out", "in")]


def add_states(ns, lines):
    """Return: {index of a line the kernel refused: name of its errno}; what it took stays."""
    p = subprocess.run(["ip", "-n", ns.name, "-force", "-batch", "-"], input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=120)
    found = re.findall(r"^RTNETLINK answers: (.*)\nCommand failed -:(\d+)$", p.stderr, re.M)
    assert len(p.stderr.splitlines()) == 2 * len(found) and bool(p.returncode) == bool(found), f"ip xfrm: {p.returncode} {p.stderr}"
    return {int(n) - 1: ERRNO.get(text.strip(), text.strip()) for text, n in found}


def counters(ns):
    """SPI -> (packets, failures) of every state; failures: the three counters `ip -s xfrm state` keeps for it."""
    found, spi = {}, None
    for line in ns.out(["ip", "-s", "xfrm", "state"]).splitlines():
        if m := re.search(r"\bspi 0x([0-9a-f]+)", line):
            spi = int(m[1], 16)
            found[spi] = [0, (0, 0, 0)]
        elif m := re.search(r"\d+\(bytes\), (\d+)\(packets\)", line):
            found[spi][0] = int(m[1])
        elif m := re.search(r"replay-window (\d+) replay (\d+) failed (\d+)", line):
            found[spi][1] = tuple(map(int, m.groups()))
    return {k: tuple(v) for k, v in found.items()}


def stat(ns):
    """The namespace's error counters, /proc/net/xfrm_stat."""
    def read():
        with open("/proc/thread-self/net/xfrm_stat") as f:
            return {k: int(v) for k, v in (line.split() for line in f)}
    return ns.enter(read)
