# SPDX-License-Identifier: GPL-2.0-or-later
"""`make coverage` counts functions by their names: every one it names is there."""
import importlib.machinery
import importlib.util
import os
import re

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOADER = importlib.machinery.SourceFileLoader("cover", f"{ROOT}/tests/coverage/cover")
COVER = importlib.util.module_from_spec(importlib.util.spec_from_loader("cover", LOADER))
LOADER.exec_module(COVER)


@pytest.mark.parametrize("name,functions", [(name, functions) for _, name, functions in COVER.PATH])
def test_functions_are_there(name, functions):
    with open(f"{ROOT}/user/{name}") as f:
        text = f.read()
    gone = [fn for fn in functions.split() if not re.search(rf"^[a-z].*\b{fn}\(", text, re.M)]
    assert not gone, f"user/{name} has no {' '.join(gone)}: tests/coverage/cover names them"
