# SPDX-License-Identifier: GPL-2.0-or-later
"""espwire on gwA, the kernel's XFRM on gwB, a host behind each; many links at a time between them.

Link i carries 10.1.i.0/24 <-> 10.2.i.0/24 and fd01:0:0:i::/64 <-> fd02:0:0:i::/64; its ends are
10.1.i.1 and 10.2.i.1, its hosts 10.1.i.10 on h1 and 10.2.i.10 on h2 (v6 alike).
"""
import hashlib
import os
import re
import shutil
import socket
import tempfile
import threading
import time

from lib.daemon import Daemon
from lib.keys import Pair
from lib.topo import NS, Net, TwoHosts, conf_text
from lib.util import sh, wait_until

XFRM_ALG = {"aes-gcm-128": "rfc4106(gcm(aes))", "aes-gcm-256": "rfc4106(gcm(aes))",
            "chacha20-poly1305": "rfc7539esp(chacha20,poly1305)"}
SOL_UDP, UDP_ENCAP, ESPINUDP = 17, 100, 2
PATIENCE = 8  # emulated seconds are long


def run_inside(self, argv, **kw):
    """NS.run() without nsenter, which takes 0.2 s to start when emulated: the child inherits the thread's namespace."""
    return self.enter(lambda: sh(argv, **kw))


NS.run = run_inside


def addr(side, i, host, v):
    """side 1 or 2; host 1 = the link's end, 10 = the host behind."""
    return f"10.{side}.{i}.{host}" if v == 4 else f"fd0{side}:0:0:{i}::{host:x}"


def nets(side, i):
    return f"10.{side}.{i}.0/24", f"fd0{side}:0:0:{i}::/64"


class Link:
    """One link: its keys, and what the kernel's side is told about it."""

    def __init__(self, i, alg="aes-gcm-128", esn=True, window=32, outer=4, encap="esp", plain=False, start=0, mtu=None,
                 liveness="ping 1s x 8", kernel_mtu=1400, oseq=0):
        self.i, self.alg, self.esn, self.window = i, alg, esn, window
        self.outer, self.encap, self.plain = outer, encap, plain
        self.start, self.oseq = start, oseq  # last numbers used: by espwire, by the kernel
        self.mtu, self.liveness, self.kernel_mtu = mtu, liveness, kernel_mtu
        self.name, self.pair = f"ipsec{i}", Pair(alg=alg, esn=esn)

    def key_file(self, path):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w") as f:
            f.write(self.pair.a.text("out") + f"window = {self.window}\n\n" + self.pair.b.text("in"))
        return path


def moved(now, was):
    return {k: n - was.get(k, 0) for k, n in now.items() if n != was.get(k, 0)}


class Bed:
    """The two gateways with the links given. Close it."""

    def __init__(self, links, workers=2, mtu=1500, ports=(4500, 4500), underlay=None, ipsecd=None):
        self.links, self.ports = links, ports
        self.dir = tempfile.mkdtemp(prefix="vm-")
        self.net, self.closers, self.was = Net(), [], ({}, {})
        try:
            self.topo(mtu)
            self.a, self.b, self.h1, self.h2 = self.t.a, self.t.b, self.t.h1, self.t.h2
            self.o = self.t.outer
            self.hosts()
            self.kernel_side()
            self.daemon = Daemon(self.a, self.conf(workers, underlay, ipsecd), self.dir)
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
        keys = {"peer": f"peer-{l.i}", "address": f"{addr(side, l.i, 1, 4)} peer {addr(far, l.i, 1, 4)}",
                "address6": f"{addr(side, l.i, 1, 6)} peer {addr(far, l.i, 1, 6)}",
                "path": f"{remote} encap {l.encap}" + (f" port {self.ports[1]}" if l.encap == "udp" else ""),
                "inner": ", ".join(nets(far, l.i)), "protect": ", ".join(nets(far, l.i)), "route": ", ".join(nets(far, l.i)),
                "liveness": l.liveness, "sa": f"file:{key_file}"}
        if l.mtu:
            keys["mtu"] = l.mtu
        return keys

    def remote(self, l):
        return self.o[f"b{l.outer}"]

    def keys(self):
        for l in self.links:
            self.daemon.add_keys(l.key_file(f"{self.dir}/{l.name}.sa"))
        self.daemon.init_state()
        for l in self.links:
            if l.start or l.oseq:
                self.set_marks(l)

    def set_marks(self, l):
        """Durable marks as a long-lived SA would have them (ledger.h): the file is text with a checksum."""
        fp = {}
        for name in os.listdir(self.daemon.state_dir):
            with open(f"{self.daemon.state_dir}/{name}") as f:
                fp[name] = f.read()
        for name in self.fresh_marks(l, fp):
            seq = l.start if name.endswith(".out") else l.oseq
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
        lines, pol = [], []
        self.b.sysctl_set("net.ipv4.conf.default.rp_filter", 0)
        for l in self.links:
            a, b = self.kernel_ends(l)
            lines += self.states(l, a, b)
            lines += [f"addr add {addr(2, l.i, 1, 4)}/32 dev lo", f"addr add {addr(2, l.i, 1, 6)}/128 dev lo nodad"]
            if not l.plain:
                lines += [f"link add xf{l.i} type xfrm dev eth1 if_id {l.i}",
                          f"link set xf{l.i} addrgenmode none", f"link set xf{l.i} mtu {l.kernel_mtu} up",
                          f"route add {nets(1, l.i)[0]} dev xf{l.i} src {addr(2, l.i, 1, 4)}",
                          f"route add {nets(1, l.i)[1]} dev xf{l.i} src {addr(2, l.i, 1, 6)}"]
            pol += self.policies(l, a, b)
        self.b.ip(*lines, *pol)
        if any(l.encap == "udp" for l in self.links):
            self.encap_sockets()

    def kernel_ends(self, l):
        """(espwire's, the kernel's) outer address as the kernel sees them."""
        return self.o[f"a{l.outer}"], self.o[f"b{l.outer}"]

    def states(self, l, a, b):
        """In from espwire (pair.a), out to it (pair.b)."""
        both = []
        for src, dst, sa, seq, ports in ((a, b, l.pair.a, l.start, (self.ports[0], self.ports[1])),
                                         (b, a, l.pair.b, l.oseq, (self.ports[1], self.ports[0]))):
            line = f"xfrm state add src {src} dst {dst} proto esp spi {sa.spi:#x} reqid {l.i} mode tunnel"
            if not l.plain:
                line += f" if_id {l.i}"
            line += f" replay-window {l.window}"
            if seq:
                kind = "replay-seq" if sa is l.pair.a else "replay-oseq"
                line += f" {kind} {seq & 0xffffffff:#x}"
                if l.esn:
                    line += f" {kind}-hi {seq >> 32:#x}"
            line += " flag af-unspec" + (" esn" if l.esn else "")
            line += f" aead {XFRM_ALG[l.alg]} 0x{sa.key.hex()}{sa.salt.hex()} 128"
            if l.encap == "udp":
                line += f" encap espinudp {ports[0]} {ports[1]} 0.0.0.0"
            both.append(line)
        return both

    def policies(self, l, a, b):
        lines = []
        for v in (0, 1):
            near, far = (nets(2, l.i)[v], nets(1, l.i)[v]) if l.plain else ("0.0.0.0/0", "0.0.0.0/0") if v == 0 else ("::/0", "::/0")
            tail = "" if l.plain else f" if_id {l.i}"
            for direction, src, dst, osrc, odst in (("out", near, far, b, a), ("in", far, near, a, b), ("fwd", far, near, a, b)):
                lines.append(f"xfrm policy add src {src} dst {dst} dir {direction}{tail} "
                             f"tmpl src {osrc} dst {odst} proto esp reqid {l.i} mode tunnel")
        return lines

    def encap_sockets(self):
        for fam, any_ in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            s = self.b.socket(fam, socket.SOCK_DGRAM)
            if fam == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            s.bind((any_, self.ports[1]))
            s.setsockopt(SOL_UDP, UDP_ENCAP, ESPINUDP)
            self.closers.append(s.close)

    # --- judging ---

    def xfrm_stat(self):
        def read():
            with open("/proc/thread-self/net/xfrm_stat") as f:
                return {k: int(v) for k, v in (line.split() for line in f)}
        return self.b.enter(read)

    def xfrm_errors(self):
        """Error counters of the kernel's side that moved since mark()."""
        return moved(self.xfrm_stat(), self.was[1])

    def state_errors(self):
        """SPI -> the three counters `ip -s xfrm state` keeps per state, where one is not zero."""
        found, spi = {}, None
        for line in self.b.out(["ip", "-s", "xfrm", "state"]).splitlines():
            m = re.search(r"\bspi 0x([0-9a-f]+)", line)
            spi = int(m[1], 16) if m else spi
            m = re.search(r"replay-window (\d+) replay (\d+) failed (\d+)", line)
            if m and any(map(int, m.groups())):
                found[f"{spi:#x}"] = tuple(map(int, m.groups()))
        return found

    def drops(self, daemon=None):
        """Drops of the daemon that are not zero: {(where, way, reason): n}."""
        j = (daemon or self.daemon).json("drops")
        found = {(l["name"], way, r): n for l in j["links"] for way in ("in", "out") for r, n in l[way].items() if n}
        return {**found, **{("global", "", r): n for r, n in j["global"]["drops"].items() if n}}

    def unbalanced(self):
        return [(c["link"], way, c[way]) for c in self.daemon.json("drops")["conservation"] for way in ("in", "out") if c[way]["balance"]]

    def mark(self):
        """From here on counts what verdict() judges."""
        self.was = self.drops(), self.xfrm_stat()

    def verdict(self, allowed=()):
        """Nothing was dropped on either side since mark(), and the books balance."""
        drops = {k: n for k, n in moved(self.drops(), self.was[0]).items() if k[2] not in allowed and k[2] != "dummy"}
        assert not drops, f"espwire dropped: {drops}"
        errors = {k: v for k, v in self.xfrm_errors().items() if k not in allowed}
        assert not errors, f"the kernel's XFRM counted: {errors} {self.state_errors()}"
        wait_until(lambda: not self.unbalanced(), PATIENCE, lambda: f"the books balance: {self.unbalanced()}", poll=0.1)

    # --- traffic ---

    def ends(self, l, v, back=False):
        """((namespace, address), (namespace, address)) of the two hosts; back = from the kernel's side."""
        p = (self.h1, addr(1, l.i, 10, v)), (self.h2, addr(2, l.i, 10, v))
        return p[::-1] if back else p

    def ping(self, l, v, back=False, count=3, size=56, extra=()):
        (ns, me), (_, far) = self.ends(l, v, back)
        p = ns.run(["ping", "-n", "-q", "-c", count, "-i", "0.05", "-W", PATIENCE, "-s", size, "-I", me, *extra, far],
                   check=False, timeout=PATIENCE * 3)
        assert p.returncode == 0 and f"{count} received" in p.stdout, f"ping v{v} {me} > {far}: {p.stdout}{p.stderr}{self.trouble()}"

    def udp(self, l, v, count, back=False, sizes=(1, 64, 200, 777, 1200), burst=64):
        """Numbered datagrams in closed-loop bursts: each must come out once, byte for byte."""
        (src, me), (dst, far) = self.ends(l, v, back)
        fam = socket.AF_INET if v == 4 else socket.AF_INET6
        rx, tx = dst.socket(fam, socket.SOCK_DGRAM), src.socket(fam, socket.SOCK_DGRAM)
        try:
            rx.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
            rx.settimeout(PATIENCE)
            rx.bind((far, 5002))
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
        (src, me), (dst, far) = self.ends(l, v, back)
        fam = socket.AF_INET if v == 4 else socket.AF_INET6
        srv, cli = dst.socket(fam, socket.SOCK_STREAM), src.socket(fam, socket.SOCK_STREAM)
        got = hashlib.sha1()
        try:
            srv.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            srv.bind((far, 5003))
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
                f"XFRM: {self.xfrm_errors()} {self.state_errors()}")

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
