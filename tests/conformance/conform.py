#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""conform [LAYER...]: what our documents claim against the tests that really passed.

Two documents are judged: docs/conformance.md (the RFCs) and docs/seed.md (the text espwire began with). They
hold tables. The last cell of a row is its proof: test ids in backquotes, or one of the document's marks
and the reason. An id is `layer:module::case`; without [parameters] it means all of them: none may
have failed and one must have passed. Layers are unit, bpf, net and vm; their JUnit XML lies in
B/test (B is the build directory, default build). A name that a document requires needs a row that begins
with it. A table whose first column is "reason" lists drop reasons: each one of
include/ipsec_drops.h needs a row, and a net test named there must have seen the
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
DROPS = "include/ipsec_drops.h"
LAYERS = ("unit", "bpf", "net", "vm")
NOT_APPLICABLE, DEVIATES, NO_TEST, OPEN, LEFT_TO_IKE = ("not applicable", "deviates", "no test", "open", "left to IKE")

PASSED, FAILED, SKIPPED, ABSENT, NOT_RUN = "passed", "FAILED", "skipped", "no such test", "not run"


# --- the documents ---

@dataclass(frozen=True)
class Document:
    name: str
    path: str
    marks: tuple  # what may stand in the place of a proof
    exempt: tuple  # of them, those whose rows need none
    floor: int  # percent of the other rows that passed tests show; less fails. Raised, never lowered
    aim: int
    levels: tuple = ()  # what may stand in the second column; none: it is text
    required: tuple = ()  # first cells that must be there


CONFORMANCE = Document("conformance", "docs/conformance.md", (NOT_APPLICABLE, DEVIATES, NO_TEST), (NOT_APPLICABLE,),
                       floor=95, aim=95, levels=("MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "info"))
SEED = Document("seed", "docs/seed.md", (NOT_APPLICABLE, DEVIATES, LEFT_TO_IKE, OPEN), (NOT_APPLICABLE, LEFT_TO_IKE),
                floor=90, aim=100, required=(
                    "1", "2.1", "2.2", "2.3", "3.1", "3.2", "3.3", "3.4", "3.5", "4", "5", "6", *(f"4 ({n})" for n in range(1, 7)),
                    *(f"3.4 ({n})" for n in range(1, 6)), *(f"3.5 ({n})" for n in range(1, 3)), *(f"7 ({n})" for n in range(1, 5)),
                    *(f"conclusion {n}" for n in range(1, 5)), *(f"summary {n}" for n in range(1, 10))))
DOCUMENTS = (CONFORMANCE, SEED)


@dataclass
class Row:
    doc: Document
    line: int  # in the document
    table: str  # heading above it
    name: str  # section, or drop reason
    ids: list
    mark: str  # one of the document's, or empty

    def __str__(self):
        return f"{self.doc.path}:{self.line} ({self.table}, {self.name})"


class BadDocument(Exception):
    pass


def cells(line):
    return [c.strip() for c in line.strip().strip("|").split("|")]


def proof(cell, doc, where):
    """Return: ids, mark. A proof is the one or the other."""
    ids = re.findall(r"`([^`]+)`", cell)
    mark = next((m for m in doc.marks if cell.startswith(m + ":")), "")
    if mark:
        if not cell[len(mark) + 1:].strip():
            raise BadDocument(f"{where}: '{mark}' needs a reason")
        return [], mark
    bad = [i for i in ids if not re.fullmatch(r"(%s):\w+::.+" % "|".join(LAYERS), i)]
    if bad:
        raise BadDocument(f"{where}: '{bad[0]}' is no test id (layer:module::case)")
    if not ids:
        raise BadDocument(f"{where}: no proof: name a test, or say one of {', '.join(doc.marks)}, a colon and why")
    return ids, ""


def parse(text, doc):
    """Rows of claims and rows of drop reasons, in order."""
    rules, reasons, heading, head = [], [], "", None
    for n, line in enumerate(text.splitlines(), 1):
        where = f"{doc.path}:{n}"
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
            ids, mark = proof(row[-1], doc, where)
            if head[0] == "reason":
                reasons.append(Row(doc, n, heading, row[0].strip("`"), ids, mark))
                continue
            if doc.levels and row[1] not in doc.levels:
                raise BadDocument(f"{where}: '{row[1]}' is no level ({', '.join(doc.levels)})")
            rules.append(Row(doc, n, heading, row[0], ids, mark))
    absent = [r for r in doc.required if r not in {row.name for row in rules}]
    if absent:
        raise BadDocument(f"{doc.path}: no row for {', '.join(absent)}")
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
    doc: Document
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
    v.problems += [f"{v.doc.path}: drop reason {k} of {DROPS} has no row: nothing provokes it" for k in known if k not in names]
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


def judge(text, doc, results, header="", counted=frozenset()):
    """header: that of the drop reasons, if the document lists them; counted: see counted_reasons()"""
    v = Verdict(doc)
    try:
        rules, reasons = parse(text, doc)
    except BadDocument as e:
        v.problems.append(str(e))
        return v
    unshown = 0
    v.rows = len(rules)
    for row in rules:
        if row.mark:
            v.marked[row.mark] = v.marked.get(row.mark, 0) + 1
            v.applicable += row.mark not in doc.exempt
            continue
        v.applicable += 1
        shown = judge_row(row, results, v) == PASSED
        v.covered += shown
        unshown += not shown
    judge_reasons(reasons, known_reasons(header), counted, results, v)
    if unshown:
        v.notes.append(f"{doc.path}: {unshown} rows rest on tests that did not run (ran whole: {' '.join(sorted(results.whole)) or 'nothing'})")
    elif v.percent < doc.floor:
        v.problems.append(f"{doc.path}: {v.percent:.1f} % of the applicable rows are covered, less than {doc.floor} %")
    return v


def read(path):
    with open(os.path.join(ROOT, path)) as f:
        return f.read()


def check(results):
    """One Verdict per document."""
    sources = [os.path.relpath(p, ROOT) for d in ("user", "bpf") for p in sorted(glob.glob(f"{ROOT}/{d}/*.[ch]"))]
    counted = counted_reasons(read(p) for p in sources)
    return [judge(read(doc.path), doc, results, read(DROPS) if doc is CONFORMANCE else "", counted) for doc in DOCUMENTS]


def not_whole(results):
    """What the reader of a judgement must know; empty when every layer ran whole."""
    missing = [x for x in LAYERS if x not in results.whole]
    return [f"layers not run, or only in part: {' '.join(missing)}"] if missing else []


def summary(v):
    marks = ", ".join(f"{n} {m}" for m, n in sorted(v.marked.items()))
    return (f"{v.doc.name}: {v.rows} rows, {v.applicable} applicable, {v.covered} covered by {len(v.ids)} tests that passed "
            f"({v.percent:.1f} %, aim {v.doc.aim} %); {marks or 'none marked'}")


def main():
    out = os.path.join(os.path.abspath(os.environ.get("B", os.path.join(ROOT, "build"))), "test")
    results = Results()
    for layer in sys.argv[1:] or LAYERS:
        files = layer_files(out, layer)
        for path in files:
            results.add(layer, path)
        if files and layer != "vm":  # what of it ran, its XML does not say
            results.whole.add(layer)
    verdicts = check(results)
    for line in [x for v in verdicts for x in v.problems + v.notes] + not_whole(results):
        print(f"  {line}")
    for v in verdicts:
        print(summary(v))
    return 1 if any(v.problems for v in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
