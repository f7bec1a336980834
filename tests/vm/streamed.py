# SPDX-License-Identifier: GPL-2.0-or-later
"""pytest plugin (-p streamed): a JSON line in $STREAM for every case that has begun or ended."""
import json
import os


def tell(**line):
    with open(os.environ["STREAM"], "a") as f:
        f.write(json.dumps(line) + "\n")


def pytest_runtest_logreport(report):
    if report.outcome != "passed" or report.when == "call":
        tell(id=report.nodeid, outcome=report.outcome, seconds=round(report.duration, 2), why=str(report.longrepr or "")[-6000:],
             backends=dict(report.user_properties).get("backends", []))


def pytest_sessionfinish(session, exitstatus):
    tell(end=int(exitstatus))
