# SPDX-License-Identifier: GPL-2.0-or-later
"""espwire on gwA, the kernel's XFRM on gwB, a host behind each; many links at a time between them.

Link i carries 10.1.i.0/24 <-> 10.2.i.0/24 and fd01:0:0:i::/64 <-> fd02:0:0:i::/64; its ends are
10.1.i.1 and 10.2.i.1, its hosts 10.1.i.10 on h1 and 10.2.i.10 on h2 (v6 alike).
"""
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import threading
import time

import xfrm
from lib.daemon import Daemon
from lib.keys import Pair
from lib.topo import NS, Net, TwoHosts, conf_text
from lib.util import sh, wait_until

SOL_UDP, UDP_ENCAP, ESPINUDP = 17, 100, 2
PATIENCE = 8  # emulated seconds are long
BACKGROUND = ("dummy", "not-transport")  # probes; the multicast that every new device sends, on transport links
MARK = 51  # and the table its packets are routed by, in transport mode


def run_inside(self, argv, **kw):
    """NS.run() without nsenter, which takes 0.2 s to start when emulated: the child inherits the thread's namespace."""
    return self.enter(lambda: sh(argv, **kw))


NS.run = run_inside


def addr(side, i, host, v):
    """side 1 or 2; host 1 = the link's end, 10 = the host behind."""
    return f"10.{side}.{i}.{host}" if v == 4 else f"fd0{side}:0:0:{i}::{host:x}"


def nets(side, i):
    return f"10.{side}.{i}.0/24", f"fd0{side}:0:0:{i}::/64"


def host_addr(i, v):
    """The kernel's own address for link i in transport mode."""
    return f"198.51.100.{100 + i}" if v == 4 else f"2001:db8::{100 + i}"


class Link:
    """One link: its keys, and what the kernel's side is told about it."""

    def __init__(self, i, alg="aes-gcm-128", esn=True, window=32, outer=4, encap="esp", plain=False, start=0, mtu=None,
                 liveness="ping 1s x 8", kernel_mtu=1400, oseq=0, mode="tunnel", own_window=0, limits="", told=True):
        self.i, self.alg, self.esn, self.mode = i, alg, esn, mode
        self.window, self.own_window = window, own_window  # the kernel's, and ours where it is not the default
        self.outer, self.encap = outer, encap
        self.device = mode == "tunnel" and not plain  # an xfrm device in place of policies by address
        self.start, self.oseq = start, oseq  # last numbers used: by espwire, by the kernel
        self.told = told  # whether the receivers know of them
        self.mtu, self.liveness, self.kernel_mtu, self.limits = mtu, liveness, kernel_mtu, limits
        self.name = f"ipsec{i}"
        self.new_keys()
        self.refused = ""  # errno of a kernel that has no such SA

    def new_keys(self):
        self.pair = Pair(alg=self.alg, esn=self.esn, mode="" if self.mode == "tunnel" else self.mode)
        self.pair.a.window, self.pair.b.window = self.window, self.own_window

    def key_file(self, path):
        return self.pair.write(path, "a")


STACK_LOSS = re.compile(r"Discards|NoRoutes|Errors|Failed|Fails|DestUnreach")


def stack_counters(ns):
    """What the namespace's own IP counts as lost or refused: /proc/net/snmp and snmp6."""
    def read():
        found = {}
        with open("/proc/thread-self/net/snmp") as f:
            lines = [line.split() for line in f]
        for names, values in zip(lines[::2], lines[1::2]):
            found.update({names[0][:-1] + k: int(v) for k, v in zip(names[1:], values[1:])})
        with open("/proc/thread-self/net/snmp6") as f:
            found.update({k: int(v) for k, v in (line.split() for line in f)})
        return {k: v for k, v in found.items() if STACK_LOSS.search(k)}
    return ns.enter(read)


def moved(now, was):
    return {k: n - was.get(k, 0) for k, n in now.items() if n != was.get(k, 0)}


class Asked(Daemon):
    """Asks by the control socket itself (control.h): starting ipsecctl takes longer than a hundred packets when emulated."""

    def json(self, *words, check=True):
        if words not in (("show",), ("drops",), ("perf",)):
            return super().json(*words, check=check)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(PATIENCE)
            s.connect(f"{self.run_dir}/ctl.sock")
            s.sendall(json.dumps({"schema": 1, "verb": words[0], "args": {}}).encode() + b"\n")
            with s.makefile() as f:
                return json.loads(f.readline())


class Bed:
    """The two gateways with the links given. Close it."""

    def __init__(self, links, workers=2, mtu=1500, ports=(4500, 4500), underlay=None, ipsecd=None, may_refuse=False):
        self.every, self.links, self.ports, self.may_refuse = links, links, ports, may_refuse
        self.dir = tempfile.mkdtemp(prefix="vm-")
        self.net, self.closers, self.was, self.stacks = Net(), [], ({}, {}), {}
        try:
            self.topo(mtu)
            self.a, self.b, self.h1, self.h2 = self.t.a, self.t.b, self.t.h1, self.t.h2
            self.o = self.t.outer
            self.hosts()
            self.kernel_side()
            self.daemon = Asked(self.a, self.conf(workers, underlay, ipsecd), self.dir)
            self.keys()
            start = time.monotonic()
            self.daemon.start(timeout=60)
            ready = time.monotonic()
            wait_until(self.all_up, 30, self.not_up, poll=0.2)
            self.timing = f"daemon ready in {ready - start:.1f} s, links up {time.monotonic() - ready:.1f} s later"
        except BaseException:
            self.close()
            raise

    def topo(self, mtu):
        self.t = TwoHosts(self.net, mtu=mtu)

    def not_up(self):
        show = self.daemon.show()["links"]
        return "\n".join(f"{l['name']} {l['state']} {l['reason']}: {l['reason_text']}" for l in show if l["state"] != "up") + \
            f"\n{self.xfrm_errors()}\n{self.daemon.log()[-2000:]}"

    def all_up(self):
        links = self.daemon.show()["links"]
        return len(links) == len(self.links) and all(l["state"] == "up" for l in links)

    def hosts(self):
        for h, side in ((self.h1, 1), (self.h2, 2)):
            h.ip(*[f"addr add {addr(side, l.i, 10, 4)}/16 dev eth0" for l in self.links],
                 *[f"addr add {addr(side, l.i, 10, 6)}/48 dev eth0 nodad" for l in self.links])

    # --- espwire's side ---

    def conf(self, workers, underlay, ipsecd):
        links = [(l.name, self.section(l, 1, self.remote(l), f"{self.dir}/{l.name}.sa")) for l in self.links]
        return conf_text(links, {"workers": workers, "max-links": 128, **(ipsecd or {})}, underlay)

    def section(self, l, side, remote, key_file):
        far = 3 - side
        if l.mode == "transport":
            return self.host_section(l, remote, key_file)
        keys = {"peer": f"peer-{l.i}", "address": f"{addr(side, l.i, 1, 4)} peer {addr(far, l.i, 1, 4)}",
                "address6": f"{addr(side, l.i, 1, 6)} peer {addr(far, l.i, 1, 6)}",
                "path": f"{remote} encap {l.encap}" + (f" port {self.ports[1]}" if l.encap == "udp" else ""),
                "inner": ", ".join(nets(far, l.i)), "protect": ", ".join(nets(far, l.i)), "route": ", ".join(nets(far, l.i)),
                "liveness": l.liveness, "sa": f"file:{key_file}"}
        if l.mtu:
            keys["mtu"] = l.mtu
        return keys

    def host_section(self, l, remote, key_file):
        """Transport mode: the wild addresses themselves, and a mark to tell envelopes from packets."""
        me, far = self.ends_outer(l)[0], self.far_host(l)
        return {"peer": f"peer-{l.i}", "address" if l.outer == 4 else "address6": f"{me} peer {far}",
                "path": f"{remote} encap {l.encap} fwmark {MARK} table {MARK}", "liveness": l.liveness, "sa": f"file:{key_file}"}

    def ends_outer(self, l):
        """(espwire's, the kernel's) outer address; in transport mode the kernel has one for each link."""
        return self.o[f"a{l.outer}"], self.o[f"b{l.outer}"] if l.mode == "tunnel" else host_addr(l.i, l.outer)

    def remote(self, l):
        return self.ends_outer(l)[1]

    def far_host(self, l):
        """The peer of a transport mode link."""
        return self.ends_outer(l)[1]

    def marked_route(self):
        """Marked packets do not know of the links."""
        self.a.ip(f"rule add fwmark {MARK} lookup {MARK}", f"route add 198.51.100.0/24 dev eth1 table {MARK}",
                  f"route add 2001:db8::/64 dev eth1 table {MARK}")
        self.a.run(["ip", "-6", "rule", "add", "fwmark", MARK, "lookup", MARK])

    def keys(self):
        for l in self.links:
            self.daemon.add_keys(l.key_file(f"{self.dir}/{l.name}.sa"))
        self.daemon.init_state()
        for l in self.links:
            if l.start or l.oseq:
                self.set_marks(l)

    def rekey(self, l):
        """Both ends get new keys by hand, the daemon runs on; for a bed with one link."""
        l.new_keys()
        l.limits = ""
        path = f"{self.dir}/{l.name}.sa"
        os.unlink(path)
        l.key_file(path)
        self.b.ip("xfrm state flush", *xfrm.states(l, *self.kernel_ends(l), self.state_ports(l)))
        self.daemon.init_state(path)

    def set_marks(self, l):
        """Durable marks as a long-lived SA would have them (ledger.h): the file is text with a checksum."""
        fp = {}
        for name in os.listdir(self.daemon.state_dir):
            with open(f"{self.daemon.state_dir}/{name}") as f:
                fp[name] = f.read()
        for name in self.fresh_marks(l, fp):
            seq = l.start if name.endswith(".out") else l.oseq if l.told else 0
            body = re.sub(r"(?m)^seq \d+$", f"seq {seq}", fp[name][:fp[name].index("sum ") + 4])
            with open(f"{self.daemon.state_dir}/{name}", "w") as f:
                f.write(f"{body}{hashlib.sha256(body.encode()).hexdigest()}\n")

    def fresh_marks(self, l, files):
        """Files of this link: SHA-256 fingerprints cannot be guessed, so the daemon's own list says."""
        out = self.daemon.ctl("static", "init", "--state", f"{self.dir}/{l.name}.state", f"{self.dir}/{l.name}.sa", json_out=False)
        assert out.returncode == 0
        return [n for n in os.listdir(f"{self.dir}/{l.name}.state") if n in files]

    # --- the kernel's side ---

    def kernel_side(self):
        self.b.sysctl_set("net.ipv4.conf.default.rp_filter", 0)
        self.take_states()
        lines = []
        for l in self.links:
            a, b = self.kernel_ends(l)
            if l.mode == "transport":
                if b not in self.o.values():
                    lines += [f"addr add {b}/32 dev eth1" if l.outer == 4 else f"addr add {b}/128 dev eth1 nodad"]
                lines += xfrm.policies(l, a, b, (b,), (a,))
                continue
            lines += [f"addr add {addr(2, l.i, 1, 4)}/32 dev lo", f"addr add {addr(2, l.i, 1, 6)}/128 dev lo nodad"]
            if l.device:
                lines += [f"link add xf{l.i} type xfrm dev eth1 if_id {l.i}",
                          f"link set xf{l.i} addrgenmode none", f"link set xf{l.i} mtu {l.kernel_mtu} up",
                          f"route add {nets(1, l.i)[0]} dev xf{l.i} src {addr(2, l.i, 1, 4)}",
                          f"route add {nets(1, l.i)[1]} dev xf{l.i} src {addr(2, l.i, 1, 6)}"]
            anything = ("0.0.0.0/0", "::/0")
            lines += xfrm.policies(l, a, b, *((anything, anything) if l.device else (nets(2, l.i), nets(1, l.i))))
        if any(l.mode == "transport" for l in self.links):
            lines += xfrm.bypasses()
            self.marked_route()
        self.b.ip(*lines)
        if any(l.encap == "udp" for l in self.links):
            self.encap_sockets()

    def take_states(self):
        """All states first: a link whose SAs the kernel refuses is none for either side."""
        lines = [(l, line) for l in self.every for line in xfrm.states(l, *self.kernel_ends(l), self.state_ports(l))]
        for n, name in xfrm.add_states(self.b, [line for _, line in lines]).items():
            lines[n][0].refused = name
        self.links = [l for l in self.every if not l.refused]
        refused = {l.name: l.refused for l in self.every if l.refused}
        assert self.may_refuse or not refused, f"the kernel refused {refused}"

    def kernel_ends(self, l):
        """(espwire's, the kernel's) outer address as the kernel sees them."""
        return self.ends_outer(l)

    def state_ports(self, l):
        return self.ports

    def encap_sockets(self):
        for fam, any_ in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            s = self.b.socket(fam, socket.SOCK_DGRAM)
            if fam == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            s.bind((any_, self.ports[1]))
            s.setsockopt(SOL_UDP, UDP_ENCAP, ESPINUDP)
            self.closers.append(s.close)

    # --- judging ---

    def xfrm_errors(self):
        """Error counters of the kernel's side that moved since mark()."""
        return moved(xfrm.stat(self.b), self.was[1])

    def state_errors(self):
        """SPI -> window, replay and integrity failures of the kernel's states, where one is not zero."""
        return {f"{spi:#x}": bad for spi, (_, bad) in xfrm.counters(self.b).items() if any(bad)}

    def counts(self, l):
        """((espwire sent, the kernel took), (the kernel sent, espwire took)) in packets of this link's SAs."""
        k = xfrm.counters(self.b)
        ours = {s["dir"]: s["packets"] for s in self.daemon.link(l.name)["sas"]}
        return (ours["out"], k[l.pair.a.spi][0]), (k[l.pair.b.spi][0], ours["in"])

    def gaps(self, l):
        """Sent and not taken, both ways."""
        return tuple(sent - taken for sent, taken in self.counts(l))

    def settled(self, l):
        """The gaps once nothing is under way: what was lost before a case began."""
        seen = []

        def still():
            seen.append(self.gaps(l))
            return seen[-1] == (0, 0) or len(seen) > 2 and seen[-1] == seen[-2] == seen[-3]

        wait_until(still, PATIENCE, lambda: f"{l.name}: no quiet moment: {seen}", poll=0.2)
        return seen[-1]

    def agree(self, l, gaps=(0, 0)):
        """Both ends of a link count the same packets, but for gaps of before. Return: those sent by espwire, those by the kernel."""
        seen = []

        def same():
            seen[:] = self.counts(l)
            return tuple(x - y for x, y in seen) == gaps

        wait_until(same, PATIENCE, lambda: f"{l.name}: (sent, taken) is {seen}, not apart by {gaps}", poll=0.2)
        return seen[0][0], seen[1][0]

    def drops(self, daemon=None):
        """Drops of the daemon that are not zero: {(where, way, reason): n}."""
        j = (daemon or self.daemon).json("drops")
        found = {(l["name"], way, r): n for l in j["links"] for way in ("in", "out") for r, n in l[way].items() if n}
        return {**found, **{("global", "", r): n for r, n in j["global"]["drops"].items() if n}}

    def unbalanced(self):
        return [(c["link"], way, c[way]) for c in self.daemon.json("drops")["conservation"] for way in ("in", "out") if c[way]["balance"]]

    def mark(self):
        """From here on counts what verdict() judges."""
        self.was = self.drops(), xfrm.stat(self.b)
        self.stacks = {ns: stack_counters(ns) for ns in self.net.spaces}

    def verdict(self, allowed=()):
        """Nothing was dropped on either side since mark(), and the books balance."""
        drops = {k: n for k, n in moved(self.drops(), self.was[0]).items() if k[2] not in (*allowed, *BACKGROUND)}
        assert not drops, f"espwire dropped: {drops}"
        errors = {k: v for k, v in self.xfrm_errors().items() if k not in allowed}
        assert not errors, f"the kernel's XFRM counted: {errors} {self.state_errors()}"
        wait_until(lambda: not self.unbalanced(), PATIENCE, lambda: f"the books balance: {self.unbalanced()}", poll=0.1)

    # --- traffic ---

    def ends(self, l, v, back=False):
        """((namespace, address), (namespace, address)) of the two hosts; back = from the kernel's side."""
        if l.mode == "transport":
            p = tuple(zip((self.a, self.b), self.ends_outer(l)))
            return p[::-1] if back else p
        p = (self.h1, addr(1, l.i, 10, v)), (self.h2, addr(2, l.i, 10, v))
        return p[::-1] if back else p

    def target(self, l, v, back=False):
        """The receiver's address as the sender knows it: its own, but for a NAT between them."""
        return self.ends(l, v, back)[1][1]

    def ping(self, l, v, back=False, count=3, size=56, extra=()):
        (ns, me), _ = self.ends(l, v, back)
        far = self.target(l, v, back)
        # -w: until so many have come; without it ping leaves two round trips after its last question
        p = ns.run(["ping", "-n", "-q", "-c", count, "-i", "0.05", "-w", PATIENCE, "-s", size, "-I", me, *extra, far],
                   check=False, timeout=PATIENCE * 3)
        assert p.returncode == 0 and f"{count} received" in p.stdout, f"ping v{v} {me} > {far}: {p.stdout}{p.stderr}{self.trouble()}"

    def udp(self, l, v, count, back=False, sizes=(1, 64, 200, 777, 1200), burst=64):
        """Numbered datagrams in closed-loop bursts: each must come out once, byte for byte."""
        (src, me), (dst, own) = self.ends(l, v, back)
        far = self.target(l, v, back)
        fam = socket.AF_INET if v == 4 else socket.AF_INET6
        rx, tx = dst.socket(fam, socket.SOCK_DGRAM), src.socket(fam, socket.SOCK_DGRAM)
        try:
            rx.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
            rx.settimeout(PATIENCE)
            rx.bind((own, 5002))
            tx.bind((me, 5001))
            tx.connect((far, 5002))
            blob = os.urandom(4096)
            for at in range(0, count, burst):
                want = {}
                for n in range(at, min(at + burst, count)):
                    p = n.to_bytes(4, "big") + blob[n % 2048:n % 2048 + sizes[n % len(sizes)] - 1]
                    want[n] = p
                    tx.send(p)
                self.take(rx, want, f"UDP v{v} {me} > {far}")
        finally:
            rx.close()
            tx.close()

    def take(self, rx, want, what):
        n = len(want)
        while want:
            try:
                p = rx.recv(1 << 16)
            except socket.timeout:
                raise AssertionError(f"{what}: {len(want)} of {n} lost, first {min(want)}; {self.trouble()}") from None
            k = int.from_bytes(p[:4], "big")
            assert want.pop(k, None) == p, f"{what}: datagram {k} came twice or damaged ({len(p)} bytes)"

    def tcp(self, l, v, size, back=False):
        """Random bytes; the digests of both ends must agree."""
        (src, me), (dst, own) = self.ends(l, v, back)
        far = self.target(l, v, back)
        fam = socket.AF_INET if v == 4 else socket.AF_INET6
        srv, cli = dst.socket(fam, socket.SOCK_STREAM), src.socket(fam, socket.SOCK_STREAM)
        got = hashlib.sha1()
        try:
            srv.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            srv.bind((own, 5003))
            srv.listen(1)
            patience = PATIENCE + (size >> 18)  # sendall() takes it as the limit of the whole
            srv.settimeout(PATIENCE)
            cli.settimeout(patience)
            cli.bind((me, 0))
            cli.connect((far, 5003))
            conn, _ = srv.accept()
            conn.settimeout(PATIENCE)
            data = os.urandom(size)
            sender = threading.Thread(target=lambda: (cli.sendall(data), cli.shutdown(socket.SHUT_WR)), daemon=True)
            sender.start()
            n = 0
            with conn:
                while chunk := conn.recv(1 << 18):
                    got.update(chunk)
                    n += len(chunk)
            sender.join(patience)
            assert n == size and got.digest() == hashlib.sha1(data).digest(), f"TCP v{v} {me} > {far}: {n} of {size} bytes, digests differ"
        except OSError as e:
            raise AssertionError(f"TCP v{v} {me} > {far}: {e}; {self.trouble()}") from None
        finally:
            srv.close()
            cli.close()

    def trouble(self):
        """What both sides have to say after a loss."""
        j = self.daemon.json("drops")
        return (f"\nespwire: dropped {self.drops()}\n{self.daemon.json('perf')['workers']}\n"
                f"{[c for c in j['conservation']]} {j['global']['wire_pass']} passed\n"
                f"XFRM: {self.xfrm_errors()} {self.state_errors()}\n"
                f"IP: {({ns.role: moved(stack_counters(ns), was) for ns, was in self.stacks.items()})}\n"
                f"{self.daemon.log()[-600:]}")

    def sa(self, l, way):
        return next(s for s in next(x for x in self.daemon.show()["links"] if x["name"] == l.name)["sas"] if s["dir"] == way)

    def keep(self, where):
        os.makedirs(where, exist_ok=True)
        for name in ("log", "ipsecd.conf"):
            path = os.path.join(self.daemon.dir, name)
            if os.path.exists(path):
                shutil.copy(path, where)

    def close(self):
        for fn in self.closers:
            fn()
        if hasattr(self, "daemon"):
            self.daemon.destroy()
        self.net.close()
        shutil.rmtree(self.dir, ignore_errors=True)
