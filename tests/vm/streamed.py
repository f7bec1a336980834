# SPDX-License-Identifier: GPL-2.0-or-later
"""pytest plugin (-p streamed): a JSON line in $STREAM for every case that has begun or ended.

CASE_LIMIT: seconds that one may take, so that one that hangs does not take those behind it along.
"""
import json
import os
import signal

import pytest

CASE_LIMIT = int(os.environ.get("CASE_LIMIT", 0))


def tell(**line):
    with open(os.environ["STREAM"], "a") as f:
        f.write(json.dumps(line) + "\n")


class Late(AssertionError):
    pass


def on_alarm(*_):
    raise Late(f"not done after {CASE_LIMIT} s")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(CASE_LIMIT)
    yield
    signal.alarm(0)


def pytest_runtest_logreport(report):
    if report.outcome != "passed" or report.when == "call":
        why = report.longrepr[2].removeprefix("Skipped: ") if report.skipped and isinstance(report.longrepr, tuple) else str(report.longrepr or "")
        tell(id=report.nodeid, outcome=report.outcome, seconds=round(report.duration, 2), why=why[-6000:],
             backends=dict(report.user_properties).get("backends", []))


def pytest_sessionfinish(session, exitstatus):
    tell(end=int(exitstatus))
