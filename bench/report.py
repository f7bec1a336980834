# SPDX-License-Identifier: GPL-2.0-or-later
"""From samples to rows, ratios and verdicts; bench.json, the table, the lines a reader wants last."""
import json
import os
import statistics
from dataclasses import dataclass

from probes import UNITS

# Cases where less is better.
LOW = {"cpu_per_gb", "cpu_per_mpkt", "rtt_p50", "rtt_p99", "loaded_rtt_p99", "links10k", "esp_2threads", "esp_enc64", "esp_enc1400",
       "esp_dec64", "esp_dec1400", "insn_per_pkt64", "insn_per_pkt1372", "insn_per_byte"}
ORDER = list(UNITS)
PEERS = ("dpdk-secgw", "wireguard-go", "strongswan-libipsec")


@dataclass
class Target:
    """How espwire's figure must compare: with another row (times, or plus for latencies) or with a number."""

    case: str
    vs: str  # an implementation, "best peer", or "" for an absolute figure
    must: float = None
    aim: float = None
    plus: bool = False


TARGETS = (
    Target("tcp1", "best peer", 1.7), Target("tcp1", "wireguard-go", 6), Target("tcp1", "plain-on", None, 0.5),
    Target("tcp4", "best peer", 2.5), Target("tcp4", "plain-on", None, 0.5),
    Target("gwtcp1", "wireguard-go", 7), Target("gwtcp1", "plain-on", None, 0.5),
    Target("udp64", "plain-off", 0.7, 1.0), Target("udp64", "dpdk-secgw", 1.5), Target("udp64", "wireguard-go", 3.5),
    Target("enc64", "dpdk-secgw", 1.1, 1.5), Target("enc1400", "dpdk-secgw", 1.1, 1.5),
    Target("esp_enc64", "", 106, 80), Target("esp_dec64", "", 110, 80),
    Target("esp_enc1400", "", 290, 250), Target("esp_dec1400", "", 280, 250),
    Target("cpu_per_gb", "dpdk-secgw", 0.5), Target("cpu_per_gb", "plain-on", None, 2),
    Target("rtt_p50", "", 100, 40), Target("rtt_p99", "", 400, 150),
    Target("loaded_rtt_p99", "plain-on", 30, 5, plus=True),
    Target("garbage", "", 90, 98),
    Target("insn_per_pkt64", "xfrm", 0.7, 0.4), Target("insn_per_byte", "xfrm", 1.0, 0.7),
    Target("links10k", "", 1.10, 1.10), Target("esp_2threads", "", 1.15, 1.05),
)


def sig(x, digits=4):
    return None if x is None else float(f"{x:.{digits}g}")


class Samples:
    """Every figure of every round: (implementation, variant, case) -> values; and what must be said beside them."""

    def __init__(self):
        self.values, self.notes, self.absent = {}, {}, {}

    def add(self, impl, variant, case, value, notes):
        self.values.setdefault((impl, variant, case), []).append(value)
        seen = self.notes.setdefault((impl, variant, case), [])
        seen += [n for n in notes if n not in seen]

    def lacks(self, impl, case, why):
        """Not measured; a later figure of the same row wins."""
        self.absent.setdefault((impl, case), why)

    def last(self, impl, variant):
        return {c: v[-1] for (i, w, c), v in self.values.items() if (i, w) == (impl, variant)}

    def rows(self, impls):
        out = [self.row(i, c) for i in impls for c in ORDER]
        return [r for r in out if r]

    def row(self, impl, case):
        """The better variant is the row; the others are named in its note."""
        found = {v: vals for (i, v, c), vals in self.values.items() if (i, c) == (impl, case)}
        if not found:
            why = self.absent.get((impl, case))
            return why and {"impl": impl, "case": case, "unit": UNITS[case], "median": None, "min": None, "max": None, "n": 0, "note": why}
        medians = {v: statistics.median(vals) for v, vals in found.items()}
        best = (min if case in LOW else max)(medians, key=medians.get)
        vals = found[best]
        notes = self.notes[(impl, best, case)] + [f"{v}: {sig(m)}" for v, m in medians.items() if v != best]
        if (impl, case) in self.absent:
            notes.append(f"not every round: {self.absent[(impl, case)]}")
        return {"impl": impl, "case": case, "unit": UNITS[case], "median": sig(medians[best]), "min": sig(min(vals)), "max": sig(max(vals)),
                "n": len(vals), "note": "; ".join(notes)}


def by_key(rows):
    return {(r["impl"], r["case"]): r["median"] for r in rows if r["median"] is not None}


def ratios(rows):
    """espwire against everything else measured in the same run."""
    m = by_key(rows)
    return [{"case": c, "vs": i, "ratio": sig(m["espwire", c] / v)} for (i, c), v in m.items()
            if i != "espwire" and ("espwire", c) in m and v]


def verdicts(rows):
    """Each target that this run can judge: {case, vs, value, must, aim, must_met, aim_met}."""
    m, out = by_key(rows), []
    for t in TARGETS:
        ours, low = m.get(("espwire", t.case)), t.case in LOW
        if ours is None:
            continue
        if t.vs == "best peer":
            peers = {p: m[p, t.case] for p in PEERS if (p, t.case) in m}
            if not peers:
                continue
            vs = max(peers, key=peers.get)
            value = ours / peers[vs]
        elif t.vs:
            if not m.get((t.vs, t.case)):
                continue
            vs = t.vs
            value = ours - m[vs, t.case] if t.plus else ours / m[vs, t.case]
        else:
            vs, value = "", ours

        def met(limit):
            return None if limit is None else value <= limit if low else value >= limit

        out.append({"case": t.case, "vs": vs + (" (plus)" if t.plus else ""), "value": sig(value, 3), "must": t.must, "aim": t.aim,
                    "must_met": met(t.must), "aim_met": met(t.aim)})
    return out


def write_json(path, machine, rows):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "w") as f:
        json.dump({"schema": 1, "machine": machine, "rows": rows, "ratios": ratios(rows), "targets": verdicts(rows)}, f, indent=1)
        f.write("\n")
    os.replace(path + ".new", path)


SHORT = {"strongswan-libipsec": "strongswan", "bare-tunnel": "bare", "wireguard-go": "wg-go", "dpdk-secgw": "secgw"}


def brief(x):
    return "-" if x is None else f"{x:.0f}" if x >= 1000 else f"{x:.3g}"


def table(rows):
    """Medians, a case a line, an implementation a column; at most 80 columns."""
    impls = list(dict.fromkeys(r["impl"] for r in rows))
    cells = {(r["impl"], r["case"]): r for r in rows}
    lines = [f"{'':<17}{'':<11}" + "".join(f"{SHORT.get(i, i)[:10]:>9}" if len(impls) > 4 else f"{SHORT.get(i, i):>12}" for i in impls)]
    width = 9 if len(impls) > 4 else 12
    for c in ORDER:
        if any((i, c) in cells for i in impls):
            lines.append(f"{c:<17}{UNITS[c]:<11}" + "".join(f"{brief(cells[i, c]['median']) if (i, c) in cells else '':>{width}}" for i in impls))
    return lines


def target_lines(rows):
    def word(ok):
        return "" if ok is None else "met" if ok else "NOT MET"

    lines = [f"{'case':<16}{'against':<20}{'value':>8}  {'must':>6} {'':<8}{'aim':>6}"]
    for v in verdicts(rows):
        must, aim = ("" if v[k] is None else f"{v[k]:g}" for k in ("must", "aim"))
        lines.append(f"{v['case']:<16}{v['vs'] or '-':<20}{brief(v['value']):>8}  {must:>6} {word(v['must_met']):<8}{aim:>6} {word(v['aim_met'])}".rstrip())
    return lines


def note_lines(rows, width=78):
    """Notes once each, with the cases they belong to."""
    import textwrap
    groups = {}
    for r in rows:
        if r["note"]:
            groups.setdefault((r["impl"], r["note"]), []).append(r["case"])
    lines = []
    for (impl, note), cases in groups.items():
        lines += textwrap.wrap(f"{impl} {' '.join(cases)}: {note}", width, subsequent_indent="    ", break_on_hyphens=False)
    return lines
