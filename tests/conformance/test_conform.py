# SPDX-License-Identifier: GPL-2.0-or-later
"""The checker must be able to fail: each way a document can lie, once."""
import dataclasses
import os
import sys

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import conform  # noqa: E402

DOC = conform.CONFORMANCE
HEAD = "## RFC 4303\n| section | level | requirement | here | proof |\n|---|---|---|---|---|\n"
DROPS = "## Drops\n| reason | proof |\n|---|---|\n"
HEADER = '\tX(SHORT, "short", "text") \\\n\tX(BAD_PAD, \\\n\t  "bad-pad",   \\\n\t  "text")\n'
XML = """<testsuites><testsuite>
<testcase classname="esp_test" name="test_padding"/>
<testcase classname="esp_test" name="test_broken"><failure>no</failure></testcase>
<testcase classname="esp_test" name="test_left_out"><skipped message="no"/></testcase>
</testsuite></testsuites>"""
NET = """<testsuites><testsuite>
<testcase classname="test_x" name="test_many[a-1]"><properties><property name="drops" value="short bad-pad"/></properties></testcase>
<testcase classname="test_x" name="test_many[b]"/>
<testcase classname="test_x" name="test_some[a]"/>
<testcase classname="test_x" name="test_some[b]"><failure>no</failure></testcase>
<testcase classname="test_x" name="test_quiet"/>
</testsuite></testsuites>"""
AGAIN = '<testsuites><testsuite><testcase classname="tests.net.test_x" name="test_some[b]"/></testsuite></testsuites>'
BOTH = "| `short` | `unit:esp_test::test_padding` |\n| bad-pad | `net:test_x::test_many` |\n"


def results(tmp_path, whole=("unit", "net"), **files):
    r = conform.Results(whole=set(whole))
    for name, text in (files or {"unit": XML, "net": NET}).items():
        path = tmp_path / f"{name}.xml"
        path.write_text(text)
        r.add(name.split("_")[0], path)
    return r


def row(proof, level="MUST"):
    return f"| 2.4 | {level} | padding | done | {proof} |\n"


def judge(tmp_path, text, drops=BOTH, **kw):
    return conform.judge(HEAD + text + "\n" + DROPS + drops, DOC, results(tmp_path, **kw), HEADER, {"DROP_SHORT"})


def test_passed_ids_cover(tmp_path):
    v = judge(tmp_path, row("`unit:esp_test::test_padding`, `net:test_x::test_many[a-1]`") + row("`net:test_x::test_many`"))
    assert not v.problems and (v.rows, v.applicable, v.covered, v.percent) == (2, 2, 2, 100)
    assert len(v.ids) == 3


@pytest.mark.parametrize("bad,why", [
    ("unit:esp_test::test_paddin", conform.ABSENT),
    ("unit:exp_test::test_padding", conform.ABSENT),
    ("net:test_x::test_many[c]", conform.ABSENT),
    ("net:test_x::test_man", conform.ABSENT),
    ("unit:esp_test::test_broken", conform.FAILED),
    ("unit:esp_test::test_left_out", conform.SKIPPED),
    ("net:test_x::test_some", conform.FAILED),
])
def test_what_did_not_pass_fails(tmp_path, bad, why):
    """Also beside an id that passed."""
    for text in (row(f"`{bad}`"), row(f"`unit:esp_test::test_padding` `{bad}`")):
        v = judge(tmp_path, text)
        assert any(bad in p and why in p and f"{DOC.path}:4 " in p for p in v.problems), v.problems


def test_second_try_counts(tmp_path):
    v = judge(tmp_path, row("`net:test_x::test_some`"), unit=XML, net=NET, net_again=AGAIN)
    assert not v.problems


@pytest.mark.parametrize("proof", ["", "see the code", "`test_padding`", "`make check`", "`lint:esp_test::x`",
                                   "not applicable:", "deviates:  ", "untested: no time"])
def test_a_row_needs_proof(tmp_path, proof):
    assert len(judge(tmp_path, row(proof)).problems) == 1


def test_levels_are_those_of_rfc_2119(tmp_path):
    assert "no level" in judge(tmp_path, row("`unit:esp_test::test_padding`", level="OUGHT")).problems[0]


def test_a_cell_too_few(tmp_path):
    assert "cells" in judge(tmp_path, "| 2.4 | MUST | padding | `unit:esp_test::test_padding` |\n").problems[0]


def test_marks_are_counted(tmp_path):
    good = row("`unit:esp_test::test_padding`")
    v = judge(tmp_path, good * DOC.floor + row("not applicable: AH") + row("deviates: no NULL") * (100 - DOC.floor))
    assert not v.problems and (v.rows, v.applicable, v.covered) == (101, 100, DOC.floor)
    assert v.marked == {"not applicable": 1, "deviates": 100 - DOC.floor}
    v = judge(tmp_path, good * (DOC.floor - 1) + row("no test: yet") + row("deviates: no NULL") * (100 - DOC.floor))
    assert "less than" in v.problems[0], "one row fewer is too little"


def test_a_layer_that_was_not_run_is_said(tmp_path):
    v = judge(tmp_path, row("`unit:esp_test::test_padding`") + row("`net:test_x::test_many`") + row("`vm:matrix::x`"),
              whole=["unit"], unit=XML)
    assert not v.problems and v.covered == 1
    assert any("2 rows rest on tests that did not run" in n for n in v.notes)
    assert "not run" in conform.not_whole(results(tmp_path, whole=["unit"], unit=XML))[0]
    assert not conform.not_whole(conform.Results(whole=set(conform.LAYERS)))


def test_of_a_layer_in_part_whole_modules_are_judged(tmp_path):
    text = row("`unit:esp_test::test_padding` `vm:smoke::bokks` `vm:matrix::x`")
    smoke = '<testsuite><testcase classname="vm.smoke" name="books[6.1]"/></testsuite>'
    v = judge(tmp_path, text, whole=["unit", "net", "vm:smoke"], unit=XML, net=NET, vm=smoke)
    assert len(v.problems) == 1 and "vm:smoke::bokks: no such test" in v.problems[0]


def test_a_reason_without_a_row(tmp_path):
    v = judge(tmp_path, row("`unit:esp_test::test_padding`"), drops=BOTH.splitlines(True)[0])
    assert len(v.problems) == 1 and "bad-pad" in v.problems[0] and "nothing provokes it" in v.problems[0]


def test_a_row_without_a_reason(tmp_path):
    v = judge(tmp_path, row("`unit:esp_test::test_padding`"), drops=BOTH + "| gone | `unit:esp_test::test_padding` |\n")
    assert len(v.problems) == 1 and "no such reason" in v.problems[0]


def test_a_reason_cannot_be_excused(tmp_path):
    v = judge(tmp_path, row("`unit:esp_test::test_padding`"), drops=BOTH.replace("`net:test_x::test_many`", "not applicable: never"))
    assert len(v.problems) == 1 and "needs a test" in v.problems[0]


def test_a_reason_may_wait_for_the_code_that_counts_it(tmp_path):
    text = row("`unit:esp_test::test_padding`")
    v = judge(tmp_path, text, drops=BOTH.replace("`net:test_x::test_many`", "no test: not built yet"))
    assert not v.problems and any("bad-pad: no code counts it" in n for n in v.notes)
    v = judge(tmp_path, text, drops=BOTH.replace("`unit:esp_test::test_padding`", "no test: not built yet"))
    assert len(v.problems) == 1 and "needs a test" in v.problems[0], "DROP_SHORT is counted"


def test_constants_are_found_in_code():
    text = "if (x) return DROP_SHORT; c->drops[DROP_BAD_PAD]++; NODROP_X"
    assert conform.counted_reasons([text]) == {"DROP_SHORT", "DROP_BAD_PAD"}
    assert conform.known_reasons(HEADER) == {"short": "DROP_SHORT", "bad-pad": "DROP_BAD_PAD"}


def test_a_net_test_must_have_seen_the_drop(tmp_path):
    v = judge(tmp_path, row("`unit:esp_test::test_padding`"), drops=BOTH.replace("test_many", "test_quiet"))
    assert len(v.problems) == 1 and "in no daemon's books" in v.problems[0]


# --- the other document: no levels, other marks, and rows that must be there ---

SEED_HEAD = "| place | the seed | here | proof |\n|---|---|---|---|\n"


def seed(tmp_path, text, required=(), floor=50):
    doc = dataclasses.replace(conform.SEED, required=required, floor=floor)
    return conform.judge(SEED_HEAD + text, doc, results(tmp_path))


def seed_row(proof, place="3.1"):
    return f"| {place} | two tunnels | two links | {proof} |\n"


def test_seed_rows_need_no_level(tmp_path):
    v = seed(tmp_path, seed_row("`net:test_x::test_many`"), required=("3.1",))
    assert not v.problems and (v.rows, v.applicable, v.covered) == (1, 1, 1)


def test_a_place_without_a_row(tmp_path):
    v = seed(tmp_path, seed_row("`net:test_x::test_many`"), required=("3.1", "conclusion 1"))
    assert v.problems == [f"{conform.SEED.path}: no row for conclusion 1"]


def test_open_counts_against_and_what_is_ikes_does_not(tmp_path):
    good = seed_row("`net:test_x::test_many`")
    v = seed(tmp_path, good + seed_row("open: not built") + seed_row("left to IKE: names in DNS"))
    assert not v.problems and (v.rows, v.applicable, v.covered) == (3, 2, 1)
    assert v.marked == {"open": 1, "left to IKE": 1}
    assert "less than" in seed(tmp_path, good + seed_row("open: not built") * 2).problems[0]


@pytest.mark.parametrize("proof", ["open:", "no test: yet", "`net:test_x::test_man`"])
def test_seed_rows_need_proof(tmp_path, proof):
    assert len(seed(tmp_path, seed_row("`net:test_x::test_many`") * 3 + seed_row(proof)).problems) == 1


# --- the documents themselves: their form, without any result; what they claim is judged after the other layers ---

def test_conformance_reads():
    rules, reasons = conform.parse(conform.read(DOC.path), DOC)
    assert len(rules) > 150
    assert sorted(r.name for r in reasons) == sorted(conform.known_reasons(conform.read(conform.DROPS)))
    assert len({r.name for r in reasons}) == len(reasons)


def test_seed_reads():
    rules, reasons = conform.parse(conform.read(conform.SEED.path), conform.SEED)
    assert len(rules) >= len(conform.SEED.required) and not reasons
