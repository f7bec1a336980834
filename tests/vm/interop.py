# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/interop.md: the results of a run as tables."""
import itertools

HEAD = """# Interoperability with the kernel's XFRM

Made by `make test-vm`; do not edit. espwire on one gateway, the Linux kernel's own IPsec
(`ip xfrm`) on the other, in a guest that runs Debian's kernel; a host behind each. A cell is one
run of pings, datagrams checked byte for byte and a TCP transfer checked by digest, each in both
directions, after which neither side may have dropped anything and espwire's books balance.
Window is the kernel's replay window. What a line tests: `tests/vm/suite_*.py`.

"""
TITLES = {"smoke": "First packets", "edges": "Sequence numbers at their edges, restarts", "fragments": "Fragments and sizes",
          "natt": "NAT traversal", "self": "espwire on both ends", "tree": "The tree's unit and BPF tests"}
MARK = {"passed": "ok", "failed": "FAIL", "skipped": "skipped"}
AXES = list(itertools.product(("esp", "udp"), (4, 6), (4, 6)))  # encapsulation, outer, inner


def row(words):
    return "| " + " | ".join(str(w) for w in words) + " |\n"


def table(head, rows):
    return row(head) + row(["---"] * len(head)) + "".join(row(r) for r in rows) + "\n"


def matrix(lane):
    """One table per kernel."""
    by = {}
    for c in lane.cases():
        if c["suite"] == "matrix" and c.get("cell"):
            x = c["cell"]
            by.setdefault((x["alg"], x["esn"], x["window"]), {})[x["encap"], x["outer"], x["inner"]] = MARK[c["verdict"]]
    if not by:
        return ""
    head = ["suite", "ESN", "window"] + [f"{e} v{i} in v{o}" for e, o, i in AXES]
    rows = [[alg, "yes" if esn else "no", w] + [cells.get(a, "-") for a in AXES] for (alg, esn, w), cells in by.items()]
    return f"## Linux {lane.release}\n\n" + table(head, rows)


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


def counts(lanes):
    every = [c["verdict"] for lane in lanes for c in lane.cases()]
    return ", ".join(f"{every.count(v)} {v}" for v in MARK) + ".\n\n"


def text(lanes):
    return (HEAD + counts(lanes) + "".join(matrix(lane) for lane in lanes) + others(lanes)).rstrip() + "\n"
