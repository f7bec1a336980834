# SPDX-License-Identifier: GPL-2.0-or-later
"""What the VM lane promises without a VM: whole tables, cases that exist, refusals that show, lanes that do not pass silently."""
import importlib
import importlib.machinery
import importlib.util
import itertools
import os
import re
import sys
from types import SimpleNamespace

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [f"{ROOT}/tests/vm", f"{ROOT}/tests/net"]
import guest  # noqa: E402
import interop  # noqa: E402
import tally  # noqa: E402
import xfrm  # noqa: E402
from bed import Link  # noqa: E402
from lib.keys import SUITES  # noqa: E402

SPEC = importlib.util.spec_from_loader("vm_run", importlib.machinery.SourceFileLoader("vm_run", f"{ROOT}/tests/vm/run"))
RUN = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(RUN)


def cases(suite, quick=False):
    return importlib.import_module(f"suite_{suite}").cases({"series": "6.1", "quick": quick, "only": None, "these": None, "long": True})


def test_the_matrix_is_whole():
    cells = {tuple(c.cell[k] for k in ("alg", "esn", "mode", "encap", "outer", "inner")) for c in cases("matrix")}
    want = {(a, e, m, x, o, i) for a, e, m, x, o, i in itertools.product(SUITES, (True, False), ("tunnel", "transport"), ("esp", "udp"), (4, 6), (4, 6))
            if m == "tunnel" or o == i}
    assert cells == want


def test_every_window_in_every_row():
    rows = {}
    for c in cases("matrix"):
        rows.setdefault((c.cell["alg"], c.cell["esn"]), set()).add(c.cell["window"])
    assert all(windows == {32, 64, 4096} for windows in rows.values())


def test_the_cut_goes_through_everything():
    cut = cases("matrix", quick=True)
    assert {(c.cell["alg"], c.cell["esn"]) for c in cut} == set(itertools.product(SUITES, (True, False)))
    assert {(c.cell["alg"], c.cell["mode"]) for c in cut} == set(itertools.product(SUITES, ("tunnel", "transport")))
    assert {(c.cell["mode"], c.cell["encap"], c.cell["outer"], c.cell["inner"]) for c in cut} == \
        {(c.cell["mode"], c.cell["encap"], c.cell["outer"], c.cell["inner"]) for c in cases("matrix")}


@pytest.mark.parametrize("suite", ["smoke", "matrix", "window", "edges", "fragments", "natt", "self", "net", "xfrm", "xpaths", "offload", "layer2"])
def test_names_are_unique(suite):
    for quick in (True, False):
        names = [c.name for c in cases(suite, quick)]
        assert names and len(names) == len(set(names))


@pytest.mark.parametrize("doc", ["conformance", "seed"])
def test_documents_name_cases_that_exist(doc):
    with open(f"{ROOT}/docs/{doc}.md") as f:
        ids = re.findall(r"`vm:(\w+)::([^`]+)`", f.read())
    assert ids
    for suite, name in ids:
        assert name in [c.name for c in cases(suite)], f"vm:{suite}::{name}"


def test_a_kernels_refusal_is_its_errno(monkeypatch):
    """The second line of a batch is one that the kernel does not know."""
    answer = SimpleNamespace(returncode=1, stderr="RTNETLINK answers: Function not implemented\nCommand failed -:2\n")
    monkeypatch.setattr(xfrm.subprocess, "run", lambda *a, **kw: answer)
    assert xfrm.add_states(SimpleNamespace(name="x"), ["a", "b", "c"]) == {1: "ENOSYS"}
    answer.stderr += "argument \"x\" is wrong\n"
    with pytest.raises(AssertionError):  # a line that `ip` itself did not understand is our mistake
        xfrm.add_states(SimpleNamespace(name="x"), ["a", "b", "c"])


def test_lengths_of_the_kernels_algorithms():
    """RFC 4868 2.3: tags are half a hash; RFC 2404 2: 96 bits."""
    words = {alg: xfrm.algorithm(Link(1, alg=alg).pair.a) for alg in SUITES}
    for bits, icv in ((256, 128), (384, 192), (512, 256)):
        assert re.fullmatch(rf"enc cbc\(aes\) 0x[0-9a-f]{{64}} auth-trunc hmac\(sha{bits}\) 0x[0-9a-f]{{{bits // 4}}} {icv}",
                            words[f"aes-cbc-256-hmac-sha2-{bits}"])
        assert re.fullmatch(rf'enc ecb\(cipher_null\) "" auth-trunc hmac\(sha{bits}\) 0x[0-9a-f]{{{bits // 4}}} {icv}',
                            words[f"null-hmac-sha2-{bits}"])
    assert re.fullmatch(r"enc cbc\(aes\) 0x[0-9a-f]{32} auth-trunc hmac\(sha1\) 0x[0-9a-f]{40} 96", words["aes-cbc-128-hmac-sha1"])
    assert re.fullmatch(r"aead rfc4543\(gcm\(aes\)\) 0x[0-9a-f]{40} 128", words["aes-gmac-128"])


def lane(verdicts, **kw):
    plan = [{"suite": "matrix", "name": c.name, "limit": 1, "cell": c.cell} for c in cases("matrix")[:len(verdicts)]]
    la = RUN.Lane("6.1", ["matrix"], 0, "", **kw)
    la.plan, la.release = plan, "6.1.0-test"
    la.results = [{**{k: p[k] for k in ("suite", "name")}, "verdict": v, "why": why, "seconds": 1, "notes": []}
                  for p, (v, why) in zip(plan, verdicts) if v]
    return la


def test_the_document_shows_every_kind_of_cell():
    text = interop.text([lane([("passed", ""), ("skipped", "this kernel takes no such SA: ENOSYS"), ("failed", "x")])])
    row = next(line for line in text.splitlines() if line.startswith("| aes-gcm-128 | yes"))
    assert row.startswith("| aes-gcm-128 | yes | ok 32 | ENOSYS |") and "| aes-gcm-128 | no | FAIL |" in text
    assert "1 passed, 1 failed, 1 skipped" in text and "6.1.0-test" in text


def test_what_a_dead_guest_never_reached_has_failed():
    la = lane([("passed", ""), (None, "")])
    la.broken = "the guest ended early"
    assert [c["verdict"] for c in la.cases()] == ["passed", "failed"]
    assert RUN.closing([la], 1) == 1


def test_a_skip_of_pytests_is_one():
    """What is shared with tests/net skips in its way."""
    assert guest.run(guest.Case("x", lambda _: pytest.skip("no charon here"))) == ("skipped", "no charon here")


def test_a_lane_that_cannot_run_is_no_success(capsys):
    la = lane([])
    la.unavailable = "no qemu-system-x86_64 here"
    assert RUN.closing([la], 1) == 1
    said = capsys.readouterr().out
    assert "NOT RUN" in said and "no qemu-system-x86_64 here" in said


def test_verdicts_of_many_runs_are_kept(tmp_path):
    """In pieces, side by side; the last one of a case counts, and one that a dead guest never reached is none."""
    path = str(tmp_path / "state")

    def run(series, *cases):
        la = lane([])
        la.series, la.broken = series, "the guest ended early"
        la.cases = lambda: [{"suite": "backend:xfrm", "name": n, "verdict": v, "why": w, "cell": {"every": 9}} for n, v, w in cases]
        return tally.note(path, [la])
    run("6.1", ("test_a::test_x[1-o4]", "failed", "pages\nof it"), ("test_a::test_x[2-o4]", "passed", ""), ("test_a::test_y", "skipped", "why not"))
    run("6.12", ("test_a::test_y", "failed", "never ran"), ("test_a::test_z", "failed", tally.OUT_OF_TIME))
    run("6.1", ("test_a::test_x[1-o4]", "passed", ""), ("test_a::test_x[2-o4]", "failed", "the guest ended early"))
    state = tally.load(f"{path}.json")
    assert state["6.1"]["modes"]["xfrm"] == {"test_a::test_x[1-o4]": ["passed", ""], "test_a::test_x[2-o4]": ["passed", ""],
                                             "test_a::test_y": ["skipped", "why not"]}
    assert state["6.12"]["modes"]["xfrm"] == {"test_a::test_y": ["failed", ""]} and "| not run yet | 6 | 8 |" in (tmp_path / "state.md").read_text()


def test_other_suites_are_no_verdicts(tmp_path):
    la = lane([("passed", "")])
    assert tally.note(str(tmp_path / "state"), [la]) is None and not list(tmp_path.iterdir())
