# SPDX-License-Identifier: GPL-2.0-or-later
"""What a receiver must make of a capture: RFC 4303 3.4.3 and 3.4.4 with sets of numbers, slow and obvious."""
import collections

from cryptography.exceptions import InvalidTag

from lib.esp_peer import Frame


class Window:
    """Every number is remembered; nothing slides. lost: numbers that fell out of the window unseen."""

    def __init__(self, size):
        self.size, self.seen, self.top = size, set(), 0

    def refuses(self, seq):
        if seq <= self.top - self.size:
            return "replay-old"
        return "replay-dup" if seq in self.seen else None

    def accept(self, seq):
        self.seen.add(seq)
        self.top = max(self.top, seq)

    @property
    def lost(self):
        return sum(n not in self.seen for n in range(1, self.top - self.size + 1))


def judge(frames, esp, window):
    """(Counter of verdicts, Window, inner packets in order). esp: the SA as an lib.esp_peer.Esp; frames as captured."""
    w, verdicts, inner = Window(window), collections.Counter(), []
    for data in frames:
        f = Frame(data)
        if f.esp is None:
            continue
        if f.spi != esp.sa.spi:
            verdicts["no-sa"] += 1
            continue
        if len(f.esp) < 8 + esp.sa.iv_len + 2 + esp.sa.icv_len:
            verdicts["short"] += 1
            continue
        why = w.refuses(f.seq)
        if not why:
            try:
                inner.append(esp.open(f.esp).inner)
                w.accept(f.seq)
                why = "delivered"
            except InvalidTag:
                why = "icv-fail"
        verdicts[why] += 1
    return verdicts, w, inner
