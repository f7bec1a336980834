# SPDX-License-Identifier: GPL-2.0-or-later
"""The tree's own unit and BPF tests on this kernel: every binary that is built is one case.

Left out, but for ESPWIRE_TEST_FULL=1, is arithmetic that no kernel has a part in, and what starts hundreds of
programs or maps hundreds of pages of secret memory: minutes each when emulated. The cryptography stays: the emulated processor has other instructions.
"""
import glob
import os
import re
import subprocess

from guest import Case, Skip
from lib.util import BUILD, ROOT

PURE = re.compile(r"csum_|esp_|gro_|gso_|replay_|sa_|safile_|conf_|\w+_fuzz_")
SLOW = {"guard_test", "secmem_test"}
QUICK = re.compile(r"unit/(?:aead|ledger|life|nl)_test|bpf/")  # what the quick cut takes
QUICK_OLDEST = re.compile(r"unit/(?:life|nl)_test|bpf/")  # there: the rest does not depend on the kernel
# They measure time, and an emulated second is short.
TIMED = {"a_thousand_links_show_quickly", "test_kill_points", "test_thousand"}


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


def wanted(name, job):
    if job["quick"]:
        return bool((QUICK_OLDEST if job["series"] == "6.1" else QUICK).match(name))
    base = os.path.basename(name)
    return job.get("long") or not PURE.match(base) and base not in SLOW


def cases(job):
    found = sorted(glob.glob(f"{BUILD}/unit/*_test") + glob.glob(f"{BUILD}/bpf/*_test"))
    found = [p for p in found if os.access(p, os.X_OK) and wanted(p[len(BUILD) + 1:], job)]
    out = [Case(p[len(BUILD) + 1:], lambda case, p=p: binary(p, case), limit=900 if os.path.basename(p) in SLOW else 200) for p in found]
    return out or [Case("built", absent)]
