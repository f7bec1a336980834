# SPDX-License-Identifier: GPL-2.0-or-later
"""`drops --json` before and after: what moved."""


def moved(before, after):
    return {reason: after[reason] - before[reason] for reason in after if after[reason] != before[reason]}


def sums(before, after, way):
    """Drop counters that moved on the first link, by reason. way: in or out."""
    return moved(before["links"][0][way], after["links"][0][way])


def global_sums(before, after):
    return moved(before["global"]["drops"], after["global"]["drops"])
