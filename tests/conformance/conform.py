#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""conform [LAYER...]: docs/conformance.md against the tests that really passed.

The document holds tables. The last cell of a row is its proof: test ids in backquotes, or one of MARKS
and the reason. An id is `layer:module::case`; without [parameters] it means all of them: none may
have failed and one must have passed. Layers are unit, bpf, net and vm; their JUnit XML lies in
B/test (B is the build directory, default build). A table whose first column is "reason" lists drop reasons:
each one of include/ipsec_drops.h needs a row, and a net test named there must have seen the
reason in the books of its daemons (conftest.py writes them into the XML as property "drops"). "no test"
is taken there only while no source file counts the reason: what counts it must come with its test.

Without LAYER every layer that left results is judged. tests/run calls check() as its last step, with what
ran in that very run.
"""
import glob
import os
import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DOCUMENT = "docs/conformance.md"
DROPS = "include/ipsec_drops.h"
LAYERS = ("unit", "bpf", "net", "vm")
LEVELS = ("MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "info")
NOT_APPLICABLE, DEVIATES, NO_TEST = MARKS = ("not applicable", "deviates", "no test")
AIM = 95  # percent of the applicable rows
FLOOR = 90  # less fails; raised with every feature that brings its tests, never lowered

PASSED, FAILED, SKIPPED, ABSENT, NOT_RUN = "passed", "FAILED", "skipped", "no such test", "not run"


# --- the document ---

@dataclass
class Row:
    line: int  # in the document
    table: str  # heading above it
    name: str  # section of the RFC, or drop reason
    level: str  # empty in a table of drop reasons
    ids: list
    mark: str  # one of MARKS, or empty

    def __str__(self):
        return f"{DOCUMENT}:{self.line} ({self.table}, {self.name})"


class BadDocument(Exception):
    pass


def cells(line):
    return [c.strip() for c in line.strip().strip("|").split("|")]


def proof(cell, where):
    """Return: ids, mark. A proof is the one or the other."""
    ids = re.findall(r"`([^`]+)`", cell)
    mark = next((m for m in MARKS if cell.startswith(m + ":")), "")
    if mark:
        if not cell[len(mark) + 1:].strip():
            raise BadDocument(f"{where}: '{mark}' needs a reason")
        return [], mark
    bad = [i for i in ids if not re.fullmatch(r"(%s):\w+::.+" % "|".join(LAYERS), i)]
    if bad:
        raise BadDocument(f"{where}: '{bad[0]}' is no test id (layer:module::case)")
    if not ids:
        raise BadDocument(f"{where}: no proof: name a test, or say '{NOT_APPLICABLE}:', '{DEVIATES}:' or '{NO_TEST}:'")
    return ids, ""


def parse(text):
    """Rows of requirements and rows of drop reasons, in order."""
    rules, reasons, heading, head = [], [], "", None
    for n, line in enumerate(text.splitlines(), 1):
        where = f"{DOCUMENT}:{n}"
        if line.startswith("#"):
            heading, head = line.lstrip("# "), None
        elif not line.startswith("|"):
            head = None
        elif head is None:
            head = cells(line)
        elif not set(line) <= set("|-: "):
            if head[-1] != "proof":
                continue  # an explaining table
            row = cells(line)
            if len(row) != len(head):
                raise BadDocument(f"{where}: {len(row)} cells, the table has {len(head)}")
            ids, mark = proof(row[-1], where)
            if head[0] == "reason":
                reasons.append(Row(n, heading, row[0].strip("`"), "", ids, mark))
                continue
            if row[1] not in LEVELS:
                raise BadDocument(f"{where}: '{row[1]}' is no level ({', '.join(LEVELS)})")
            rules.append(Row(n, heading, row[0], row[1], ids, mark))
    return rules, reasons


def known_reasons(header):
    """Names as shown -> enum constants, of include/ipsec_drops.h, in its order."""
    return {shown: f"DROP_{name}" for name, shown in re.findall(r'^\s*X\((\w+),[\s\\]*"([a-z0-9-]+)"', header, re.M)}


def counted_reasons(sources):
    """The constants that code uses. sources: texts of C files."""
    return {word for text in sources for word in re.findall(r"\bDROP_[A-Z_]+\b", text)}


# --- the results ---

@dataclass
class Results:
    """What ran: per layer the outcomes of every case, and the drops net tests saw."""
    cases: dict = field(default_factory=dict)  # "layer:module::case" -> outcomes, one per parameter and try
    drops: dict = field(default_factory=dict)  # the same -> reasons seen
    whole: set = field(default_factory=set)  # layers, or layer:module, of which every case ran: what is absent does not exist

    def add(self, layer, path):
        for case in ET.parse(path).getroot().iter("testcase"):
            full = f"{layer}:{case.get('classname', '').split('.')[-1]}::{case.get('name')}"
            for name in {full, full.split("[")[0]}:
                self.cases.setdefault(name, {}).setdefault(full, []).append(outcome(case))
                self.drops.setdefault(name, set()).update(
                    r for p in case.iter("property") if p.get("name") == "drops" for r in p.get("value").split())
        return self

    def verdict(self, name):
        tries = self.cases.get(name)
        if not tries:
            return ABSENT if {name.split(":")[0], name.split("::")[0]} & self.whole else NOT_RUN
        # a case that failed and passed in its second try passed; tests/run tells both
        best = [PASSED if PASSED in t else FAILED if FAILED in t else SKIPPED for t in tries.values()]
        return FAILED if FAILED in best else PASSED if PASSED in best else SKIPPED


def outcome(case):
    if case.find("failure") is not None or case.find("error") is not None:
        return FAILED
    return SKIPPED if case.find("skipped") is not None else PASSED


def layer_files(out, layer, since=0):
    """The XML of a layer: net.xml, net-serial.xml, ...; since: only of a run that began then."""
    found = [f"{out}/{layer}.xml", *glob.glob(f"{out}/{layer}-*.xml")]
    return [p for p in found if os.path.exists(p) and os.path.getmtime(p) >= since]


# --- the judgement ---

@dataclass
class Verdict:
    problems: list = field(default_factory=list)  # each one fails the run
    notes: list = field(default_factory=list)  # what could not be judged
    ids: set = field(default_factory=set)  # that passed
    rows = applicable = covered = 0
    marked: dict = field(default_factory=dict)

    @property
    def percent(self):
        return 100 * self.covered / self.applicable if self.applicable else 0


def judge_row(row, results, v):
    """Return: PASSED when a test of this run shows it, NOT_RUN when only layers that did not run would."""
    verdicts = {i: results.verdict(i) for i in row.ids}
    v.ids |= {i for i, x in verdicts.items() if x == PASSED}
    v.problems += [f"{row}: {i}: {x}" for i, x in verdicts.items() if x not in (PASSED, NOT_RUN)]
    return PASSED if PASSED in verdicts.values() else NOT_RUN


def judge_reasons(rows, known, counted, results, v):
    names = [r.name for r in rows]
    v.problems += [f"{DOCUMENT}: drop reason {k} of {DROPS} has no row: nothing provokes it" for k in known if k not in names]
    for row in rows:
        if row.name not in known:
            v.problems.append(f"{row}: {DROPS} has no such reason")
        if row.mark == NO_TEST and known.get(row.name) not in counted:
            v.notes.append(f"drop reason {row.name}: no code counts it yet")
        elif row.mark:
            v.problems.append(f"{row}: a drop reason needs a test; one that cannot happen is to be counted where it belongs")
        judge_row(row, results, v)
        blind = [i for i in row.ids if i.startswith("net:") and results.verdict(i) == PASSED and row.name not in results.drops[i]]
        v.problems += [f"{row}: {i} passed, but {row.name} was in no daemon's books" for i in blind]


def judge(document, header, results, counted=frozenset()):
    """counted: see counted_reasons()"""
    v = Verdict()
    try:
        rules, reasons = parse(document)
    except BadDocument as e:
        v.problems.append(str(e))
        return v
    unshown = 0
    v.rows = len(rules)
    for row in rules:
        if row.mark:
            v.marked[row.mark] = v.marked.get(row.mark, 0) + 1
            v.applicable += row.mark != NOT_APPLICABLE
            continue
        v.applicable += 1
        shown = judge_row(row, results, v) == PASSED
        v.covered += shown
        unshown += not shown
    judge_reasons(reasons, known_reasons(header), counted, results, v)
    missing = [x for x in LAYERS if x not in results.whole]
    if unshown:
        v.notes.append(f"{unshown} rows rest on tests that did not run (ran whole: {' '.join(sorted(results.whole)) or 'nothing'})")
    elif v.percent < FLOOR:
        v.problems.append(f"{DOCUMENT}: {v.percent:.1f} % of the applicable rows are covered, less than {FLOOR} %")
    if missing:
        v.notes.append(f"layers not run, or only in part: {' '.join(missing)}")
    return v


def read(path):
    with open(os.path.join(ROOT, path)) as f:
        return f.read()


def check(results):
    sources = [os.path.relpath(p, ROOT) for d in ("user", "bpf") for p in sorted(glob.glob(f"{ROOT}/{d}/*.[ch]"))]
    return judge(read(DOCUMENT), read(DROPS), results, counted_reasons(read(p) for p in sources))


def summary(v):
    marks = ", ".join(f"{n} {m}" for m, n in sorted(v.marked.items()))
    return (f"conformance: {v.rows} rows, {v.applicable} applicable, {v.covered} covered by {len(v.ids)} tests that passed "
            f"({v.percent:.1f} %, aim {AIM} %); {marks or 'none marked'}")


def main():
    out = os.path.join(os.path.abspath(os.environ.get("B", os.path.join(ROOT, "build"))), "test")
    results = Results()
    for layer in sys.argv[1:] or LAYERS:
        files = layer_files(out, layer)
        for path in files:
            results.add(layer, path)
        if files and layer != "vm":  # what of it ran, its XML does not say
            results.whole.add(layer)
    v = check(results)
    for line in v.problems + v.notes:
        print(f"  {line}")
    print(summary(v))
    return 1 if v.problems else 0


if __name__ == "__main__":
    sys.exit(main())
