# SPDX-License-Identifier: GPL-2.0-or-later
"""Inside the guest: run the suites named in /out/job.json, one JSON line per case to /out/results.

The plan is written first, so that cases a dead guest never reached count as failures. Each case has
a time limit of its own. A suite is a module suite_NAME.py with cases(job) -> list of Case; some take a parameter.
"""
import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.environ.get("VM_OUT", "/out")


class Skip(Exception):
    """This case cannot run on this kernel; the text says why."""


class Case:
    """fn(case) passes by returning; case.note(text) is kept beside the verdict."""

    def __init__(self, name, fn, limit=60, **cell):
        self.name, self.fn, self.limit = name, fn, limit
        self.cell = cell  # coordinates in the printed matrix
        self.notes = []

    def note(self, text):
        self.notes.append(text)


class Shared:
    """Something costly that several cases use in a row; when making it failed, the others fail at once."""

    current = None

    def __init__(self, make):
        self.make, self.thing, self.error = make, None, None  # error: why it could not be made

    def get(self):
        if Shared.current is not self:
            Shared.drop()
            Shared.current = self
        if isinstance(self.error, Exception) and not isinstance(self.error, Skip):
            raise AssertionError(f"what this case runs on could not be made: {str(self.error)[-400:]}")
        if self.error:  # a skip is one for all
            raise self.error
        if not self.thing:
            try:
                self.thing = self.make()
            except BaseException as e:
                self.error = e
                raise
        return self.thing

    @staticmethod
    def drop():
        """At most one stands at a time."""
        if Shared.current and Shared.current.thing:
            Shared.current.thing.close()
        Shared.current = None


class Late(AssertionError):
    pass


def on_alarm(*_):
    raise Late("time limit")


def run(case):
    """Return: (verdict, reason)."""
    signal.alarm(case.limit)
    try:
        case.fn(case)
        return "passed", ""
    except Skip as e:
        return "skipped", str(e)
    except Exception:
        return "failed", traceback.format_exc(limit=-6)
    except BaseException as e:
        if type(e).__name__ != "Skipped":  # pytest's, from what we share with tests/net; it is no Exception
            raise
        return "skipped", str(e)
    finally:
        signal.alarm(0)


def wanted(job, suite, name):
    """-k: any of several words; second tries: these cases."""
    return any(w in name for w in (job["only"] or "").split(",")) and (not job["these"] or [suite, name] in job["these"])


def planned(job, suite):
    """NAME, or NAME:PARAMETER."""
    name, _, parameter = suite.partition(":")
    return importlib.import_module(f"suite_{name}").cases(job, *([parameter] if parameter else []))


def modules():
    """What nothing requests by itself. Not esp4: with it the kernel is silent where tests expect it to answer."""
    subprocess.run(["modprobe", "-aq", "veth", "tun"])


def main():
    with open(f"{OUT}/job.json") as f:
        job = json.load(f)
    os.environ["ESPWIRE_BUILD"] = job["build"]
    sys.path[:0] = [HERE, os.path.join(HERE, "../net")]
    sys.modules["guest"] = sys.modules["__main__"]
    signal.signal(signal.SIGALRM, on_alarm)
    modules()
    with open(f"{OUT}/results", "w", buffering=1) as out:
        def tell(**line):
            out.write(json.dumps(line) + "\n")

        plan = [(s, c) for s in job["suites"] for c in planned(job, s) if wanted(job, s, c.name)]
        tell(kernel=platform.release(), plan=[{"suite": s, "name": c.name, "limit": c.limit, "cell": c.cell} for s, c in plan])
        for suite, case in plan:
            tell(begin=case.name, suite=suite)
            start = time.monotonic()
            verdict, why = run(case)
            tell(suite=suite, name=case.name, verdict=verdict, why=why, notes=case.notes, seconds=round(time.monotonic() - start, 2))
        Shared.drop()
        tell(end=True)


if __name__ == "__main__":
    main()
