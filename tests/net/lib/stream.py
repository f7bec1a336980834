# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbered datagrams between h1 and h2, each of which must arrive."""
import socket
import struct
import threading
import time

from lib.carried import MODE
from lib.util import wait_until

SO_RCVBUFFORCE = 33


class Stream:
    """Numbered datagrams both ways, at a pace that no queue minds, until told to stop."""

    def __init__(self, lab, t, gap=0.002):
        self.ends = [(t.h1, "10.2.0.2", lab.sink(t.h2, 6001)), (t.h2, "10.1.0.2", lab.sink(t.h1, 6001))]
        self.socks = [ns.socket(socket.AF_INET, socket.SOCK_DGRAM) for ns, _, _ in self.ends]
        for _, _, sink in self.ends:  # nobody reads before the end
            sink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self.err, self.at = [], []  # .at: when each number left
        self.sent, self.gap, self.stopped = 0, gap, threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopped.is_set():
            self.at.append(time.monotonic())
            for s, (_, far, _) in zip(self.socks, self.ends):
                try:
                    s.sendto(struct.pack(">I", self.sent) + bytes(200), (far, 6001))
                except OSError as e:
                    self.err.append((self.sent, str(e)))
            self.sent += 1
            self.stopped.wait(self.gap)

    def more(self, n=50):
        to = self.sent + n
        wait_until(lambda: self.sent >= to or not self.thread.is_alive(), 20, "the stream goes on")

    def stop(self):
        self.stopped.set()
        self.thread.join(timeout=5)

    def received(self):
        """(namespace, numbers in the order they came) of both ends; the stream ends."""
        self.stop()
        for ns, _, sink in self.ends:
            sink.settimeout(2)
            got = []
            try:
                while len(got) < self.sent:
                    got.append(struct.unpack(">I", sink.recv(2048)[:4])[0])
            except TimeoutError:
                pass
            yield ns, got

    def all_arrived(self):
        """Each number once, in order; where the kernel opens, packets of two SAs may overtake each other."""
        for ns, got in self.received():
            if MODE:
                got.sort()
            missing = sorted(set(range(self.sent)) - set(got))
            assert got == list(range(self.sent)), \
                f"{ns.role}: of {self.sent} {len(missing)} missing, as {missing[:5]} to {missing[-5:]}"

    def lost(self):
        """How many are missing at either end; none came twice."""
        lost = []
        for ns, got in self.received():
            assert len(set(got)) == len(got), f"{ns.role}: some came twice"
            lost.append(self.sent - len(got))
        return lost

    def gaps(self):
        """What did not arrive, in runs: (namespace, when the first left, seconds to the first that arrived again)."""
        found = []
        for ns, got in self.received():
            assert len(set(got)) == len(got), f"{ns.role}: some came twice"
            edges = [-1, *sorted(got)]
            assert got and edges[-1] == self.sent - 1, f"{ns.role}: ends with {self.sent - 1 - edges[-1]} lost"
            found += [(ns, self.at[a + 1], self.at[b] - self.at[a + 1]) for a, b in zip(edges, edges[1:]) if b > a + 1]
        return found
