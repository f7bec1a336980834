# SPDX-License-Identifier: GPL-2.0-or-later
"""What is measured. Each implementation is a Tunnel: brought up on a bed of its own, taken away again."""
import os
import shutil
import tempfile

from bed import Bed
from lib.util import wait_until


class Unavailable(Exception):
    """This implementation cannot be measured here; the text says why and what would help."""


class Tunnel:
    """One implementation on fresh wires. Use as a context manager; `up` may raise Unavailable.

    kind is what the wires are wanted for: "path" (host to host), "enc" or "dec" (one core, one direction, XDP
    frames), "links" (the left gateway has ten thousand) or "none" (nothing is brought up).
    """

    name = None
    variants = ("",)  # ways to run it; the better one per case becomes the row
    kinds = ("path",)
    offload = True  # may super-packets cross the LAN wires?
    spins = False  # burns its cores also when idle

    @classmethod
    def ways(cls, kind):
        """The variants worth trying on such wires."""
        return cls.variants

    def __init__(self, kind="path", variant="", stolen=False):
        self.kind, self.variant, self.stolen = kind, variant, stolen
        self.pids, self.notes, self.remarks = [], [], []
        self.seq = 1 << 20

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="bench-")
        self.bed = None
        if self.kind == "none":
            return self
        try:
            self.bed = Bed(self.offload)
            self.up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            if self.bed:
                self.down()
                self.bed.close()
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)

    @classmethod
    def prepare(cls, say):
        """What takes long and is done once, before the rounds. What fails here is told again by up()."""

    def up(self):
        raise NotImplementedError

    def down(self):
        pass

    # --- for probes ---

    sealing = None  # (encapsulation, SA file): how the left gateway seals, for kind "dec"

    def take_seq(self, count):
        """The first of count sequence numbers that nobody has used."""
        first, self.seq = self.seq, self.seq + count
        return first

    def received(self):
        """Packets that came out of the right gateway."""
        raise NotImplementedError

    def remark_once(self, text):
        """Belongs to the figure being taken, not to the tunnel."""
        self.remarks = [text]

    # --- for implementations ---

    def path(self, name):
        return os.path.join(self.dir, name)

    def start(self, ns, argv, log, pin=None, **kw):
        """A daemon in a namespace, its output in a file."""
        with open(self.path(log), "w") as f:
            p = ns.popen((["taskset", "-c", str(pin)] if pin is not None else []) + argv, stdout=f, stderr=f, **kw)
        self.pids.append(p.pid)
        return p

    def log(self, name, lines=8):
        try:
            with open(self.path(name), errors="replace") as f:
                return " | ".join(f.read().split("\n")[-lines - 1:]).strip(" |")
        except OSError:
            return ""

    def need(self, *programs):
        for p in programs:
            if not shutil.which(p, path=os.environ["PATH"] + ":/usr/sbin:/sbin") and not os.path.exists(p):
                raise Unavailable(f"no {os.path.basename(p)} here: make deps-bench installs it")

    def need_carrying(self, *logs):
        if not self.bed.carries():
            raise Unavailable("started, but no ping comes back: " + "; ".join(self.log(name) for name in logs)[-200:])

    def await_(self, cond, seconds, what):
        try:
            wait_until(cond, seconds, what, poll=0.05)
        except AssertionError as e:
            raise Unavailable(str(e)[:200])


class Plain(Tunnel):
    """No tunnel: the kernel forwards. The ceiling."""

    name = "plain-on"

    def up(self):
        self.bed.plain()
        self.need_carrying()


class PlainOff(Plain):
    """The same with every skb one packet: what a datapath that encrypts each packet competes with."""

    name = "plain-off"
    offload = False


class Direct(Tunnel):
    """The two hosts on one wire: what sender and receiver cost by themselves."""

    name = "direct"

    def up(self):
        self.bed.direct()
        self.need_carrying()


def all_tunnels():
    """In the order of the table."""
    from peers import bare, espwire, secgw, strongswan, wireguard_go
    return (espwire.Espwire, Plain, PlainOff, bare.Bare, bare.BareLink, wireguard_go.WireguardGo, strongswan.Strongswan, secgw.Secgw)


def vm_tunnels():
    """Those compared by instructions, where the kernel has tunnels of its own."""
    from peers import espwire, kernel
    return (espwire.Espwire, Plain, kernel.Xfrm, kernel.WireguardKernel, Direct)
