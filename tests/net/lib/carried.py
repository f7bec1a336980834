# SPDX-License-Identifier: GPL-2.0-or-later
"""Who carries the links of a test: ESPWIRE_TEST_BACKEND, for the tree's tests on a kernel that does ESP.

xfrm: every ipsecd gives its links to the kernel. mixed: the first of a test does, the second has workers, and so on in turn.
mixed-back: the other way round. What a test says of `backend` itself stands. Asked for is `auto`: a link of which the kernel
cannot carry everything stays with workers, and the test is told (Daemon.backends).
"""
import os
import re

MODE = os.environ.get("ESPWIRE_TEST_BACKEND", "")
TURNS = {"": (False,), "xfrm": (True,), "mixed": (True, False), "mixed-back": (False, True)}[MODE]


def by_kernel(n):
    """Is that so of the n-th ipsecd of a test?"""
    return TURNS[n % len(TURNS)]


def dressed(text, n):
    """A configuration as the n-th ipsecd of a test gets it."""
    if not MODE:
        return text
    return "".join(link(s, by_kernel(n)) if s.startswith("[link ") else s for s in re.split(r"(?m)^(?=\[)", text))


def link(section, kernel):
    """The kernel answers no probes: a worker beside it asks by echo, and so must `any`, which the kernel leaves to workers."""
    if re.search(r"(?m)^backend\s*=", section):
        return section
    if not kernel or re.search(r"(?m)^path\s*=\s*any\b", section):
        if re.search(r"(?m)^ike\s*=", section) and not re.search(r"(?m)^address6?\s*=.* peer ", section):  # IKE says who is to be asked
            return section.replace("\n", "\nbackend = auto\n", 1) if kernel else section
        section, n = re.subn(r"(?m)^(liveness *=) *(?! |ping|off)", r"\1 ping ", section)
        if not n and not re.search(r"(?m)^liveness\s*=", section):
            section = section.replace("\n", "\nliveness = ping\n", 1)
    return section.replace("\n", "\nbackend = auto\n", 1) if kernel else section


def go_over(*ends, link="ipsec1"):
    """ends: (ipsecd, file). Both have the new pair. Workers ask each other and go over by themselves; the kernel cannot be asked."""
    for d, file in ends if MODE else ():
        d.json("sa", "rekey", link, file, "--now")
