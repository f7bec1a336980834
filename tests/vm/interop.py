# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/interop.md: the results of a run as tables."""
import re

import xfrm
from bed import Link

HEAD = """# Interoperability with the kernel's XFRM

Made by `make test-vm`; do not edit. espwire on one gateway, the Linux kernel's own IPsec
(`ip xfrm`, static keys) on the other, in a guest that boots Debian's kernel; a host behind each in tunnel
mode. A cell is one run of pings, datagrams compared byte for byte and a TCP transfer compared by digest, in both
directions, after which neither side may have dropped anything, espwire's books balance and both ends
have counted the same packets. It shows the kernel's replay window; an errno is the kernel's answer to an SA
that it does not have. What a line tests: `tests/vm/suite_*.py`.

"""
PEER = """## The kernel as a peer, by hand

What the kernel is told for one link in tunnel mode, espwire being 198.51.100.1 and the kernel 198.51.100.2;
KEY-OUT is `key` and `salt` of `[out]` in espwire's SA file, KEY-IN those of `[in]`:

{example}

- The kernel's replay window should be a power of two: with ESN and one of 100 Linux 6.1 took copies, and refused
  good packets, where the low 32 bits wrap; one of 128 did not.
- `addrgenmode none` before the device goes up keeps the kernel's own multicast out of the tunnel.
- In transport mode `ip xfrm policy` needs bypasses for neighbour discovery and for UDP 4500, which it
  would otherwise want encrypted themselves.
- `liveness = ping` on espwire's side: the kernel answers no probes but pings.
- Without ESN the kernel's last number is 2^32-1, and a hard limit deletes its SAs: then the link goes down
  as `no-answer`, and comes back with the new keys.

"""
TITLES = {"smoke": "First packets", "window": "Late, doubled and shuffled envelopes", "edges": "Sequence numbers at their edges, lifetimes, restarts", "fragments": "Fragments and sizes",
          "natt": "NAT traversal", "self": "espwire on both ends", "net": "Namespace tests in the guest", "layer2": "Ethernet over transport mode",
          "tree": "The tree's unit and BPF tests"}
MARK = {"passed": "ok", "failed": "FAIL", "skipped": "skipped"}
# mode, encapsulation, inner, outer
AXES = [("tunnel", e, i, o) for o in (4, 6) for e in ("esp", "udp") for i in (4, 6)] + \
       [("transport", e, v, v) for v in (4, 6) for e in ("esp", "udp")]


def row(words):
    return "| " + " | ".join(str(w) for w in words) + " |\n"


def table(head, rows):
    return row(head) + row(["---"] * len(head)) + "".join(row(r) for r in rows) + "\n"


def cell(case):
    """The window, or what went wrong."""
    if case["verdict"] == "passed":
        return f"ok {case['cell']['window']}"
    errno = re.search(r"\bE[A-Z0-9]+$", case["why"])
    return errno[0] if case["verdict"] == "skipped" and errno else MARK[case["verdict"]]


def axis(mode, encap, inner, outer):
    return f"{encap} v{inner} in v{outer}" if mode == "tunnel" else f"{encap} v{outer} transport"


def matrix(lane):
    """One table per kernel."""
    by = {}
    for c in lane.cases():
        if c["suite"] == "matrix" and c.get("cell"):
            x = c["cell"]
            by.setdefault((x["alg"], x["esn"]), {})[x["mode"], x["encap"], x["inner"], x["outer"]] = cell(c)
    if not by:
        return ""
    rows = [[alg, "yes" if esn else "no"] + [cells.get(a, "-") for a in AXES] for (alg, esn), cells in by.items()]
    return f"## Every suite, Linux {lane.release}\n\n" + table(["suite", "ESN"] + [axis(*a) for a in AXES], rows)


def others(lanes):
    text = ""
    for suite, title in TITLES.items():
        names, verdicts = [], {}
        for n, lane in enumerate(lanes):
            for c in lane.cases():
                if c["suite"] == suite:
                    if c["name"] not in names:
                        names.append(c["name"])
                    verdicts[c["name"], n] = MARK[c["verdict"]]
        if names:
            rows = [[name] + [verdicts.get((name, n), "-") for n in range(len(lanes))] for name in names]
            text += f"## {title}\n\n" + table(["case"] + [f"Linux {lane.release}" for lane in lanes], rows)
    return text


def peer():
    """The very lines of the lane, keys left out."""
    l = Link(1, alg="aes-gcm-256", window=4096, liveness="off")
    l.pair.a.spi, l.pair.b.spi = 0x10001, 0x10002
    a, b = "198.51.100.1", "198.51.100.2"
    text = "\n".join(xfrm.states(l, a, b, (4500, 4500)) + xfrm.policies(l, a, b, ("0.0.0.0/0",), ("0.0.0.0/0",))[:2]
                     + ["link add xf1 type xfrm dev eth1 if_id 1", "link set xf1 addrgenmode none", "link set xf1 mtu 1400 up",
                        "route add 10.1.0.0/16 dev xf1"])
    for key, name in ((l.pair.a, "KEY-OUT"), (l.pair.b, "KEY-IN")):
        text = text.replace(f"{key.key.hex()}{key.salt.hex()}", name)
    return PEER.format(example="\n".join(f"    ip {line}" for line in text.splitlines()))


def counts(lanes):
    every = [c["verdict"] for lane in lanes for c in lane.cases()]
    return ", ".join(f"{every.count(v)} {v}" for v in MARK) + ".\n\n"


def text(lanes):
    return (HEAD + counts(lanes) + "".join(matrix(lane) for lane in lanes) + others(lanes) + peer()).rstrip() + "\n"
