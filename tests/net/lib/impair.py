# SPDX-License-Identifier: GPL-2.0-or-later
"""A wire that loses, doubles, damages, delays and reorders on request: impair.c and its books."""
from lib.util import Helper, wait_until


class Impair(Helper):
    """Joins dev_a and dev_b of ns. Direction "a" is what comes in at dev_a; rules see envelopes only."""

    def __init__(self, ns, dev_a, dev_b, seed=1):
        super().__init__("impair", ns.path, dev_a, dev_b, seed)
        self.books()  # it answers: the wire stands

    def rule(self, way, *words):
        """Rules as in impair.c: rule("a", "drop", "p=0.02")."""
        self.ask(" ".join([way, *map(str, words)]))

    def both(self, *words):
        for way in "ab":
            self.rule(way, *words)

    def clear(self):
        """A good wire again; what was held goes."""
        self.ask("clear")

    def books(self):
        """Counters by direction, and the proof that they account for every frame."""
        j = self.ask("report")
        for way, c in j.items():
            there = c["out"] + c["dropped"] + c["overflow"] + c["tx_lost"] + c["held"]
            assert c["in"] + c["duplicated"] == there, f"the books of the wire, direction {way}: {c}"
            assert not c["rx_lost"] and not c["tx_lost"], f"the wire itself lost frames, direction {way}: {c}"
        return j

    def through(self, timeout=5):
        """Wait until nothing is held any more."""
        return wait_until(lambda: (lambda j: j if not any(c["held"] for c in j.values()) else None)(self.books()), timeout,
                          "the wire to let go what it holds")
