# SPDX-License-Identifier: GPL-2.0-or-later
"""The tree's own unit and BPF tests on this kernel: every binary that is built is one case."""
import glob
import os
import re
import subprocess

from guest import Case, Skip
from lib.util import BUILD, ROOT

# What the quick cut leaves out: arithmetic that no kernel has a part in, and takes minutes when emulated.
PURE = {"csum_test", "esp_open_fuzz_test", "esp_test", "gro_test", "gso_test", "replay_test", "sa_test", "safile_test", "conf_test"}


# They measure time, and an emulated second is short.
TIMED = {"a_thousand_links_show_quickly", "test_kill_points"}
SLOW = {"guard_test"}  # also left out of the quick cut: some hundred programs are started


def binary(path, case):
    p = subprocess.run([path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=case.limit - 10, cwd=ROOT,
                       env=dict(os.environ, CMOCKA_MESSAGE_OUTPUT="stdout", ESPWIRE_TEST_FULL=""))
    counts = {k: int(n) for k, n in re.findall(r"^\[  (PASSED|SKIPPED|FAILED) +\] (\d+) test", p.stdout, re.M)}
    case.note(", ".join(f"{n} {k.lower()}" for k, n in counts.items()))
    failed = set(re.findall(r"^\[  FAILED  \] ([a-z_0-9]+)$", p.stdout, re.M))
    if failed and failed <= TIMED:
        case.note(f"{', '.join(failed)} does not count here: it measures time")
        return
    assert p.returncode == 0, p.stdout[-4000:]
    assert counts.get("PASSED"), "it ran no test"


def absent(case):
    raise Skip("no tests/unit or tests/bpf binaries are built")


def cases(job):
    found = sorted(glob.glob(f"{BUILD}/unit/*_test") + glob.glob(f"{BUILD}/bpf/*_test"))
    found = [p for p in found if os.access(p, os.X_OK) and not (job["quick"] and os.path.basename(p) in PURE | SLOW)]
    out = [Case(p[len(BUILD) + 1:], lambda case, p=p: binary(p, case), limit=900 if os.path.basename(p) in SLOW else 150) for p in found]
    return out or [Case("built", absent)]
