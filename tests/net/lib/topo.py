# SPDX-License-Identifier: GPL-2.0-or-later
"""Namespaces and wires: a Net owns what a test makes and takes all of it away again.

Names carry the pid and a counter, so that cases run side by side and in any order. Every command
is started by a thread that has entered the namespace: no other process, the pid is the command's.
"""
import contextlib
import ctypes
import fcntl
import itertools
import os
import signal
import socket
import struct
import subprocess
import threading

from lib import carried
from lib.impair import Impair
from lib.util import sh, wait_until

_counter = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET, MS_BIND, MNT_DETACH = 0x40000000, 4096, 2
SIOCSIFFLAGS, SIOCGIFHWADDR, IFF_UP, IFF_LOWER_UP = 0x8914, 0x8927, 1, 1 << 16
RTM_NEWLINK, RTM_GETLINK, IFLA_IFNAME, IFLA_OPERSTATE, IFLA_EXT_MASK, SKIP_STATS = 16, 18, 3, 16, 29, 8
OPERSTATES = ("UNKNOWN", "NOTPRESENT", "DOWN", "LOWERLAYERDOWN", "TESTING", "DORMANT", "UP")
RUN = "/run/netns"
KERNEL = tuple(int(n) for n in os.uname().release.split(".")[:2])


def unique():
    return f"{os.getpid()}x{next(_counter)}"


def in_thread(fn):
    """Call fn in a thread that may change its namespaces, and end."""
    box = []

    def body():
        try:
            box.append((fn(), None))
        except BaseException as e:  # handed to the caller
            box.append((None, e))

    t = threading.Thread(target=body)
    t.start()
    t.join()
    value, err = box[0]
    if err:
        raise err
    return value


def libc(name, *args):
    if getattr(_libc, name)(*args):
        raise OSError(ctypes.get_errno(), name)


def new_netns(path):
    """As `ip netns add` does, and lo is up. A process less for each: here a process costs more than a namespace."""
    libc("unshare", CLONE_NEWNET)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
    libc("mount", b"/proc/thread-self/ns/net", path.encode(), None, MS_BIND, None)
    ifreq(SIOCSIFFLAGS, "lo", struct.pack("h", IFF_UP))


def drop_netns(path):
    """Its name; a test may have done so."""
    with contextlib.suppress(OSError):
        libc("umount2", path.encode(), MNT_DETACH)
    with contextlib.suppress(OSError):
        os.unlink(path)


def get_link(dev):
    """RTM_GETLINK: (flags, operstate) of a device, None = there is none."""
    name = dev.encode() + b"\0"
    attrs = struct.pack("=HHIHH", 8, IFLA_EXT_MASK, SKIP_STATS, 4 + len(name), IFLA_IFNAME) + name + bytes(-len(name) % 4)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as s:
        s.send(struct.pack("=IHHII", 32 + len(attrs), RTM_GETLINK, 1, 1, 0) + bytes(16) + attrs)
        answer = s.recv(1 << 16)
    if struct.unpack_from("=H", answer, 4)[0] != RTM_NEWLINK:
        return None
    at, state = 32, 0
    while at + 4 <= len(answer):
        size, kind = struct.unpack_from("=HH", answer, at)
        if kind == IFLA_OPERSTATE:
            state = answer[at + 4]
        at += (size + 3) & ~3
    return struct.unpack_from("=I", answer, 24)[0], OPERSTATES[state]


def ifreq(request, dev, value=b""):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        return fcntl.ioctl(s, request, struct.pack("16s24s", dev.encode(), value))[16:]


class NS:
    """One network namespace, named after its role in the picture."""

    def __init__(self, role):
        self.role = role
        self.name = f"{role}-{unique()}"
        self.path = f"{RUN}/{self.name}"
        self.procs = []
        self.later = None  # while Net.together(): `ip` commands for its end
        if not os.path.ismount(RUN):  # as `ip` wants it: what is mounted there is seen by all
            sh(["ip", "netns", "add", f"first-{self.name}"])
            sh(["ip", "netns", "del", f"first-{self.name}"])
        in_thread(lambda: new_netns(self.path))

    def run(self, argv, **kw):
        argv = argv.split() if isinstance(argv, str) else argv
        return self.enter(lambda: sh(argv, **kw))

    def ok(self, argv, **kw):
        return self.run(argv, check=False, **kw).returncode == 0

    def out(self, argv, **kw):
        return self.run(argv, **kw).stdout

    def ip(self, *lines):
        """One or many `ip` commands in one process; while Net.together(), at its end."""
        if self.later is not None:
            self.later += lines
            return None
        return sh(["ip", "-n", self.name, "-batch", "-"], input="\n".join(lines) + "\n")

    def popen(self, argv, **kw):
        argv = argv.split() if isinstance(argv, str) else [str(a) for a in argv]
        p = self.enter(lambda: subprocess.Popen(argv, **kw))
        self.procs.append(p)
        return p

    def enter(self, fn, *args):
        """Call fn in a thread of its own inside the namespace; sockets made there stay there."""
        def inside():
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                libc("setns", fd, CLONE_NEWNET)
                return fn(*args)
            finally:
                os.close(fd)

        return in_thread(inside)

    def socket(self, *args):
        return self.enter(socket.socket, *args)

    def packet_socket(self, dev, proto=0):
        """A raw frame socket on dev; proto 0 = for sending only."""
        s = self.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(proto) if proto else 0)
        self.enter(s.bind, (dev, proto))
        return s

    def sysctl_set(self, key, value):
        path = "/proc/sys/" + key.replace(".", "/")

        def write():
            with open(path, "w") as f:
                f.write(str(value))

        self.enter(write)

    def sysctl_get(self, key):
        def read():
            with open("/proc/sys/" + key.replace(".", "/")) as f:
                return f.read().strip()

        return self.enter(read)

    def mac(self, dev):
        return self.enter(ifreq, SIOCGIFHWADDR, dev)[2:8].hex(":")

    def carrier(self, dev):
        l = self.enter(get_link, dev)
        return l is not None and l[0] & IFF_LOWER_UP != 0

    def operstate(self, dev):
        """In the words of `ip link`; None = no such device."""
        l = self.enter(get_link, dev)
        return l and l[1]

    def forward(self):
        self.sysctl_set("net.ipv4.ip_forward", 1)
        self.sysctl_set("net.ipv6.conf.all.forwarding", 1)

    def kill_all(self):
        for p in self.procs:
            if p.poll() is None:
                p.send_signal(signal.SIGCONT)
                p.kill()
        for p in self.procs:
            p.wait(timeout=10)
            for f in (p.stdout, p.stderr, p.stdin):
                if f:
                    f.close()

    def delete(self):
        self.kill_all()
        drop_netns(self.path)


class Net:
    """All namespaces of one test, and which of their devices are underlay (tapped)."""

    def __init__(self):
        self.spaces = []
        self.on_underlay = []  # callbacks(ns, dev): the leak tap
        self.closers = []
        self.building = False
        self.wires = []  # not yet made

    @contextlib.contextmanager
    def together(self):
        """Wires made here come to be at the end, all at once; then what was said to NS.ip()."""
        assert not self.building
        self.building = True
        for n in self.spaces:
            n.later = []
        yield
        self.building = False
        self.settle()

    def ns(self, role, forward=False):
        n = NS(role)
        if self.building:
            n.later = []
        self.spaces.append(n)
        # no DAD: tests would wait for it; no autoconf noise
        n.sysctl_set("net.ipv6.conf.default.accept_dad", 0)
        n.sysctl_set("net.ipv6.conf.all.accept_dad", 0)
        n.sysctl_set("net.ipv6.conf.default.router_solicitations", 0)
        if forward:
            n.forward()
        return n

    def wire(self, a, adev, b, bdev, aaddr=(), baddr=(), mtu=1500, underlay=False):
        """A veth between two namespaces, up, addressed; underlay wires are tapped at both ends."""
        self.wires.append(Wire(((a, adev, aaddr), (b, bdev, baddr)), mtu, underlay))
        if not self.building:
            self.settle()

    def settle(self):
        """Everything that was said is done: one process for all devices, one or two for each namespace."""
        wires, self.wires = self.wires, []
        said = [(n, n.later) for n in self.spaces if n.later]
        for n in self.spaces:
            n.later = None
        if wires:
            sh(["ip", "-batch", "-"], input="".join(w.made() + "\n" for w in wires))
        for n in dict.fromkeys(n for w in wires for n, *_ in w.ends):
            n.ip(*[line for w in wires for line in w.numbered(n)])
        for n, dev in [(n, dev) for w in wires for n, dev, _ in w.ends]:
            wait_until(lambda: n.carrier(dev), 5, f"{n.role} {dev} running")
        for n, lines in said:
            n.ip(*lines)
        for n, dev in [(n, dev) for w in wires if w.underlay for n, dev, _ in w.ends]:
            self.underlay(n, dev)
        if self.building:
            for n in self.spaces:
                n.later = []

    def bad_wire(self, a, adev, b, bdev, aaddr=(), baddr=(), mtu=1500):
        """As wire(underlay=True), with impair.c in the middle.

        Returns its Impair: direction a is what a sends; what a gets leaves its namespace by end-a.
        """
        mid = self.ns("wire")
        mid.sysctl_set("net.ipv6.conf.all.disable_ipv6", 1)
        mid.sysctl_set("net.ipv6.conf.default.disable_ipv6", 1)
        for n, dev, addrs, end in ((a, adev, aaddr, "end-a"), (b, bdev, baddr, "end-b")):
            self.wire(n, dev, mid, end, addrs, mtu=mtu)
            self.settle()
            # what the middle reads must be what a wire would carry: whole checksums, no super-packets
            n.run(["ethtool", "-K", dev, "tx", "off", "gso", "off", "tso", "off", "gro", "off"])
            self.underlay(n, dev)
            self.underlay(mid, end)  # XDP takes envelopes before a tap on dev sees them: what reached it left here
        w = Impair(mid, "end-a", "end-b")
        self.closers.append(w.close)
        w.ns = mid
        return w

    def underlay(self, ns, dev):
        """Where envelopes are read. Before Linux 6.2 PACKET_VNET_HDR has no name for a UDP super-packet: reading one
        is EINVAL, and it is gone. There the stack has to segment before anybody looks; wires inside keep theirs.
        The kernel decrypts in place what no other skb has; the pages behind it may be others' all the same, those of a tap that
        has not read yet. So where it opens envelopes packets are in one piece and single."""
        if carried.MODE:
            ns.run(["ethtool", "-K", dev, "tx-udp-segmentation", "off", "sg", "off", "gro", "off"])
        elif KERNEL < (6, 2):
            ns.run(["ethtool", "-K", dev, "tx-udp-segmentation", "off"])
        for cb in self.on_underlay:
            cb(ns, dev)

    def close(self):
        for n in self.spaces:
            n.kill_all()
        for n in self.spaces:
            n.delete()
        self.spaces = []
        for fn in self.closers:
            fn()


class Wire:
    """ends: two of (namespace, device, addresses)"""

    def __init__(self, ends, mtu, underlay):
        self.ends, self.mtu, self.underlay = ends, mtu, underlay

    def made(self):
        (a, adev, _), (b, bdev, _) = self.ends
        return f"link add name {adev} mtu {self.mtu} netns {a.name} type veth peer name {bdev} mtu {self.mtu} netns {b.name}"

    def numbered(self, ns):
        for n, dev, addrs in self.ends:
            if n is ns:
                yield from (f"addr add {x} dev {dev}" + (" nodad" if ":" in x else "") for x in addrs)
                yield f"link set {dev} up"


class TwoHosts:
    """h1 -- gwA == wild == gwB -- h2. The wild side is one wire, both families.

    h1 10.1.0.2, fd01::2 | gwA 198.51.100.1, 2001:db8::1 | gwB 198.51.100.2, 2001:db8::2 |
    h2 10.2.0.2, fd02::2. The gateways' default routes point at each other, so whatever misses the
    tunnel would go out in the clear: the leak check has something to find. bad: the wire between them
    is one that impair.c can spoil.
    """

    left, right = ("10.1.0.0/16", "fd01::/48"), ("10.2.0.0/16", "fd02::/48")
    inner = left + right
    outer = {"a4": "198.51.100.1", "b4": "198.51.100.2", "a6": "2001:db8::1", "b6": "2001:db8::2"}
    tun = {"a4": "10.9.0.1", "b4": "10.9.0.2", "a6": "fd09::1", "b6": "fd09::2"}

    def __init__(self, net, mtu=1500, hosts=True, bad=False):
        self.net = net
        with net.together():
            self.a, self.b = net.ns("gwa", forward=True), net.ns("gwb", forward=True)
            self.wild(mtu, bad)
            if hosts:
                self.h1, self.h2 = net.ns("h1"), net.ns("h2")
                net.wire(self.h1, "eth0", self.a, "eth0", ("10.1.0.2/16", "fd01::2/48"),
                         ("10.1.0.1/16", "fd01::1/48"))
                net.wire(self.h2, "eth0", self.b, "eth0", ("10.2.0.2/16", "fd02::2/48"),
                         ("10.2.0.1/16", "fd02::1/48"))
                self.h1.ip("route add default via 10.1.0.1", "route add ::/0 via fd01::1")
                self.h2.ip("route add default via 10.2.0.1", "route add ::/0 via fd02::1")

    def wild_wire(self, a, b, mtu, bad):
        """Between the gateways' eth1, with these addresses."""
        if bad:
            self.bad = self.net.bad_wire(self.a, "eth1", self.b, "eth1", a, b, mtu=mtu)
        else:
            self.net.wire(self.a, "eth1", self.b, "eth1", a, b, mtu=mtu, underlay=True)

    def wild(self, mtu, bad):
        o = self.outer
        self.wild_wire((f"{o['a4']}/24", f"{o['a6']}/64"), (f"{o['b4']}/24", f"{o['b6']}/64"), mtu, bad)
        self.a.ip(f"route add default via {o['b4']}", f"route add ::/0 via {o['b6']}")
        self.b.ip(f"route add default via {o['a4']}", f"route add ::/0 via {o['a6']}")

    def link(self, side, sa, path=None, name="ipsec1", **over):
        """The [link] section of one side, as a dict for conf_text(). None drops a key."""
        me, far = ("a", "b") if side == "a" else ("b", "a")
        t, there = self.tun, self.right if side == "a" else self.left
        keys = {
            "peer": "east" if side == "a" else "west",
            "address": f"{t[me + '4']} peer {t[far + '4']}",
            "address6": f"{t[me + '6']} peer {t[far + '6']}",
            "path": path or self.outer[far + "4"],
            "inner": ", ".join(there),
            "protect": ", ".join(there),
            "route": ", ".join(there),
            "liveness": "100ms x 10",  # a busy machine is not a dead peer; test_liveness.py is stricter
            "sa": f"file:{sa}" if sa else None,
        }
        keys.update(over)
        return name, {k: v for k, v in keys.items() if v is not None}


class Routed(TwoHosts):
    """TwoHosts with a router on the wild side: gwA == router == gwB. far_mtu is that of the second wire.

    router .254, ::fe on both wires | gwB 203.0.113.2, 2001:db8:b::2.
    """

    outer = {"a4": "198.51.100.1", "b4": "203.0.113.2", "a6": "2001:db8::1", "b6": "2001:db8:b::2"}

    def __init__(self, net, mtu=1500, hosts=True, bad=False, far_mtu=1500):
        self.far_mtu = far_mtu
        super().__init__(net, mtu, hosts, bad)

    def wild(self, mtu, bad):
        self.router = self.net.ns("router", forward=True)
        for fam in ("ipv4", "ipv6"):  # every error is sent, whatever the rate
            self.router.sysctl_set(f"net.{fam}.icmp{'_' if fam == 'ipv4' else '.'}ratelimit", 0)
        for side, ns, m in (("a", self.a, mtu), ("b", self.b, self.far_mtu)):
            o4, o6 = self.outer[side + "4"], self.outer[side + "6"]
            r4, r6 = o4.rpartition(".")[0] + ".254", o6.rpartition(":")[0] + ":fe"
            self.net.wire(ns, "eth1", self.router, f"to-{side}", (f"{o4}/24", f"{o6}/64"), (f"{r4}/24", f"{r6}/64"),
                          mtu=m, underlay=True)
            ns.ip(f"route add default via {r4}", f"route add ::/0 via {r6}")

    def far(self, mtu):
        """The second wire's MTU changes."""
        self.far_mtu = mtu
        self.router.ip(f"link set to-b mtu {mtu}")
        self.b.ip(f"link set eth1 mtu {mtu}")


class Figure4:
    """The seed's figure 4: West with two links to Sunrise, by East and by Orient; Orient to Dawn.

    Every gateway hangs on the cloud router by a wire of its own (tapped at both ends). Sunrise-net
    is one segment with East (10.2.0.1) and Orient (10.2.0.3) on it, joined in a small bridge.
    """

    sunset, sunrise, dawn = ("10.1.0.0/16", "fd01::/48"), ("10.2.0.0/16", "fd02::/48"), ("10.3.0.0/16", "fd03::/48")
    inner = sunset + sunrise + dawn
    wild = {"west": ("192.0.2.1", "2001:db8:1::1"), "east": ("198.51.100.1", "2001:db8:2::1"),
            "orient": ("203.0.113.1", "2001:db8:3::1")}
    cloud_addr = {"west": ("192.0.2.254", "2001:db8:1::fe"), "east": ("198.51.100.254", "2001:db8:2::fe"),
                  "orient": ("203.0.113.254", "2001:db8:3::fe")}

    def __init__(self, net, mtu=1500):
        self.net = net
        with net.together():
            self.cloud = net.ns("cloud", forward=True)
            self.gw = {}
            for role in ("west", "east", "orient"):
                n = self.gw[role] = net.ns(role, forward=True)
                w, c = self.wild[role], self.cloud_addr[role]
                net.wire(n, "eth1", self.cloud, f"to-{role}", (f"{w[0]}/24", f"{w[1]}/64"),
                         (f"{c[0]}/24", f"{c[1]}/64"), mtu=mtu, underlay=True)
                n.ip(f"route add default via {c[0]}", f"route add ::/0 via {c[1]}")
            self.west, self.east, self.orient = (self.gw[r] for r in ("west", "east", "orient"))
            self.sunset_host, self.sunrise_host, self.dawn_host = (net.ns(r) for r in ("sunset", "sunrise", "dawn"))
            net.wire(self.sunset_host, "eth0", self.west, "eth0", ("10.1.0.2/16", "fd01::2/48"),
                     ("10.1.0.1/16", "fd01::1/48"))
            net.wire(self.dawn_host, "eth0", self.orient, "eth2", ("10.3.0.2/16", "fd03::2/48"),
                     ("10.3.0.1/16", "fd03::1/48"))
            # Sunrise-net: the host has a leg to each gateway, bridged in its own namespace
            self.sunrise_host.ip("link add br0 type bridge", "link set br0 up")
            net.wire(self.sunrise_host, "leg1", self.east, "eth0", (), ("10.2.0.1/16", "fd02::1/48"))
            net.wire(self.sunrise_host, "leg2", self.orient, "eth0", (), ("10.2.0.3/16", "fd02::3/48"))
            self.sunrise_host.ip("link set leg1 master br0", "link set leg2 master br0",
                                 "addr add 10.2.0.2/16 dev br0", "addr add fd02::2/48 dev br0 nodad")
            self.sunset_host.ip("route add default via 10.1.0.1", "route add ::/0 via fd01::1")
            self.dawn_host.ip("route add default via 10.3.0.1", "route add ::/0 via fd03::1")
            self.sunrise_host.ip("route add 10.1.0.0/16 via 10.2.0.1 metric 10", "route add 10.1.0.0/16 via 10.2.0.3 metric 20",
                                 "route add fd01::/48 via fd02::1 metric 10", "route add fd01::/48 via fd02::3 metric 20")


def conf_text(links, ipsecd=None, underlay=None):
    """The INI text: links is a list of (name, dict). Every wire here is a veth, where XDP has to be asked for."""
    def section(head, keys):
        return [f"[{head}]"] + [f"{k} = {v}" for k, v in keys.items()] + [""]

    lines = section("ipsecd", {"workers": 1, "max-links": 64, **(ipsecd or {})})
    lines += section("underlay", {"devices": "eth1", "input": "xdp", **(underlay or {})})
    for name, keys in links:
        lines += section(f"link {name}", keys)
    return "\n".join(lines)
