# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/backends-tests.md: what became of each namespace test with the kernel as backend.

A run of hours may be had in pieces (-k): of every case the last verdict counts. They are kept beside the table, in docs/backends-tests.json,
for as long as there are cases that have not run.
"""
import fcntl
import json
import os
import re

from interop import row, table

HEAD = """# The namespace tests with the kernel as backend

Made by `make test-vm-backend`; do not edit. Everything in `tests/net` in guests of Debian's kernels: with every link in the kernel
(`xfrm`), and with one end each way (`mixed`: the first ipsecd of a test gives its links to the kernel, the second has workers, and so on;
`mixed-back`: the other way round). What does not run has its reason below: from the table `tests/vm/backend_table.py`, or ipsecd's own
word what of the link only a worker does.

"""
MODES = ("xfrm", "mixed", "mixed-back")
OUT_OF_TIME = "the guest used up its time"
VERDICTS = ("passed", "failed", "skipped")


NONE, AND = "-", " | "  # where a test has no parameters, and between them


def packed(cases):
    """name -> (verdict, why) as verdict -> why -> test -> parameters: names are long, and reasons are few"""
    found = {}
    for name, (verdict, why) in sorted(cases.items()):
        test, _, parameters = name.removesuffix("]").partition("[")
        kept = "" if verdict == "failed" else why  # a failure's is pages long, and of one run
        found.setdefault(verdict, {}).setdefault(kept, {}).setdefault(test, []).append(parameters or NONE)
    return {verdict: {why: {test: AND.join(p) for test, p in tests.items()} for why, tests in whys.items()} for verdict, whys in found.items()}


def unpacked(found):
    return {test if p == NONE else f"{test}[{p}]": [verdict, why]
            for verdict, whys in found.items() for why, tests in whys.items() for test, parameters in tests.items() for p in parameters.split(AND)}


def load(path):
    if not os.path.exists(path):
        return {}
    with open(path) as f:
        state = json.load(f)
    for of in state.values():
        of["modes"] = {mode: unpacked(found) for mode, found in of["modes"].items()}
    return state


def note(path, lanes):
    """Into PATH.json and PATH.md. Runs may go on side by side. Return: what is known now, or None: these were other suites."""
    if not merge({}, lanes):
        return None
    directory = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        state = load(f"{path}.json")
        merge(state, lanes)
        keep(f"{path}.json", state)
        write(f"{path}.md", text(state))
    finally:
        os.close(directory)
    return state


def merge(state, lanes):
    """Return: was there anything of it?"""
    some = False
    for lane in lanes:
        for c in lane.cases():
            mode = c["suite"].partition("backend:")[2]
            if mode and "::" in c["name"]:
                of = state.setdefault(lane.series, {"release": lane.release, "modes": {}})
                of["release"], of["every"] = lane.release, c["cell"]["every"]
                if c["why"] == OUT_OF_TIME:  # of the run, which says nothing of the case
                    continue
                verdict, had = [c["verdict"], c["why"].strip()], of["modes"].setdefault(mode, {})
                if c["why"] in ("never ran", lane.broken):
                    had.setdefault(c["name"], verdict)
                else:
                    had[c["name"]] = verdict
                some = True
    return some


def write(path, text):
    with open(f"{path}.new", "w") as f:
        f.write(text)
    os.replace(f"{path}.new", path)


def keep(path, state):
    told = {series: {**of, "modes": {mode: packed(cases) for mode, cases in of["modes"].items()}} for series, of in state.items()}
    write(path, json.dumps(told, indent=0, sort_keys=True) + "\n")


def count(cases, verdict):
    return sum(v == verdict for v, _ in cases)


def by_module(cases):
    found = {}
    for name, case in cases.items():
        found.setdefault(name.partition("::")[0], []).append(case)
    return found


def cell(cases):
    """passed / skipped, and what failed; - = not run yet"""
    failed = count(cases, "failed")
    return f"{count(cases, 'passed')} / {count(cases, 'skipped')}" + (f", {failed} FAILED" if failed else "") if cases else "-"


def columns(state):
    """Every (series, mode) that ran."""
    return [(s, m) for s in sorted(state, key=lambda s: [int(n) for n in s.split(".")]) for m in MODES if m in state[s]["modes"]]


def skips(state):
    """reason -> test without its parameters -> modes"""
    found = {}
    for s, m in columns(state):
        for name, (verdict, why) in state[s]["modes"][m].items():
            if verdict == "skipped":
                found.setdefault(why, {}).setdefault(re.sub(r"\[.*", "", name), set()).add(m)
    return found


def text(state):
    cols = columns(state)
    heads = [f"{s} {m}" for s, m in cols]
    out = HEAD + "".join(f"Linux {s} is {state[s]['release']}. " for s in dict.fromkeys(s for s, _ in cols)).rstrip() + "\n\n"
    every = [list(state[s]["modes"][m].values()) for s, m in cols]
    rows = [[v, *(count(c, v) for c in every)] for v in VERDICTS]
    rows.append(["not run yet", *(state[s]["every"] - len(c) for (s, _), c in zip(cols, every))])
    out += table(["", *heads], rows)
    modules = [by_module(state[s]["modes"][m]) for s, m in cols]
    out += "## By module\n\nPassed / skipped; a dash: not run yet.\n\n"
    out += table(["module", *heads], [[name, *(cell(c.get(name, [])) for c in modules)] for name in sorted(set().union(*modules))])
    failed = [(s, m, n) for s, m in cols for n, (v, _) in state[s]["modes"][m].items() if v == "failed"]
    if failed:
        out += "## Failed\n\n" + "".join(f"- {s} {m}: `{n}`\n" for s, m, n in failed) + "\n"
    out += "## Skipped, and why\n\n" + row(["reason", "tests", "modes"]) + row(["---"] * 3)
    for why, tests in sorted(skips(state).items()):
        modes = sorted(set().union(*tests.values()), key=MODES.index)
        out += row([why.replace("|", "\\|"), ", ".join(f"`{t}`" for t in sorted(tests)), ", ".join(modes)])
    return out


def brief(state):
    """The counts, for the last lines of a run."""
    return "\n".join(f"backend {m}, Linux {s}: " + ", ".join(f"{count(state[s]['modes'][m].values(), v)} {v}" for v in VERDICTS)
                     for s, m in columns(state))
