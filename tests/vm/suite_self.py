# SPDX-License-Identifier: GPL-2.0-or-later
"""espwire on both ends on this kernel: what it finds here, that it carries everything, dies and comes back."""
import json
import os
import signal
import subprocess

from bed import BACKGROUND, Asked, Bed, Link, moved
from guest import Case, Shared
from lib.topo import conf_text
from lib.util import BUILD, wait_until

# feature -> first series that has it; the rest of `version --probe` must be there on every kernel we support
# memfd-secret: before 6.5 it has to be asked for on the kernel's command line
SINCE = {"tcx": (6, 6), "tun-uso": (6, 2), "af-xdp-sg": (6, 6), "memfd-secret": (6, 5)}


class SelfBed(Bed):
    """Bed with a second ipsecd where the kernel's XFRM was. Links are probed by our own probes."""

    def kernel_side(self):
        pass

    def keys(self):
        super().keys()
        conf = []
        for l in self.links:
            path = f"{self.dir}/{l.name}-far.sa"
            l.pair.a.window = 0  # ours, where the kernel's stood
            l.pair.write(path, "b")
            conf.append((l.name, self.section(l, 2, self.o[f"a{l.outer}"], path)))
        self.far = Asked(self.b, conf_text(conf, {"workers": 2, "max-links": 128}), self.dir)
        for l in self.links:
            self.far.add_keys(f"{self.dir}/{l.name}-far.sa")
        self.far.init_state()
        self.far.start(timeout=60)

    def mark(self):
        self.was = {d: self.drops(d) for d in (self.daemon, self.far)}, {}

    def verdict(self, allowed=()):
        for d in (self.daemon, self.far):
            drops = {k: n for k, n in moved(self.drops(d), self.was[0][d]).items() if k[2] not in (*allowed, *BACKGROUND)}
            assert not drops, f"{d.ns.role} dropped: {drops}"

    def close(self):
        if hasattr(self, "far"):
            self.far.destroy()
        super().close()


def probe(case):
    """`version --probe` names each thing this kernel lacks, with what happens instead."""
    p = subprocess.run([f"{BUILD}/ipsecctl", "--json", "version", "--probe"], capture_output=True, text=True, timeout=60)
    assert p.returncode == 0, p.stdout + p.stderr
    j = json.loads(p.stdout)
    lacks = {f["feature"]: f["without"] for f in j["features"] if not f["have"]}
    case.note(f"{j['crypto']}; lacks: {'; '.join(f'{k} ({v})' for k, v in lacks.items()) or 'nothing'}")
    here = tuple(int(x) for x in os.uname().release.split(".")[:2])
    known = {f["feature"] for f in j["features"]}
    assert known > set(SINCE), f"the probe does not ask for {set(SINCE) - known}"
    for name in known:
        assert (name not in lacks) == (here >= SINCE.get(name, (0, 0))), f"{name} is {'missing' if name in lacks else 'there'} on {here}"
    assert all(lacks.values()), f"what is done without them is not said: {lacks}"


def carries(bed, n, v, case):
    b = bed()
    l = b.links[n]
    b.mark()
    for back in (False, True):
        b.ping(l, v, back=back)
        b.udp(l, v, 300, back=back)
        b.tcp(l, v, 2 << 20, back=back)
    b.verdict()


def bulk(bed, case):
    """Super-packets: funnels, segmentation and merging on this kernel."""
    b = bed()
    b.mark()
    for back in (False, True):
        b.tcp(b.links[0], 4, 8 << 20, back=back)
    perf = {k: sum(w[k] for w in b.daemon.json("perf")["workers"]) for k in ("tap_reads", "tap_writes", "xsk_rx", "udp_gso_runs", "recvmmsgs")}
    case.note(", ".join(f"{k} {v}" for k, v in perf.items()))
    b.verdict(allowed=("queue-full",))


def dies(bed, case):
    """ipsecd killed: the carrier falls, nothing leaves in the clear, and the next one takes over."""
    b = bed()
    l = b.links[0]
    b.daemon.kill()
    wait_until(lambda: b.daemon.oper(l.name) != "UP", 10, "the carrier to fall")
    (ns, me), (_, far) = b.ends(l, 4)
    assert not ns.ok(["ping", "-c", "2", "-i", "0.2", "-W", "1", "-I", me, far]), "an answer without a daemon"
    b.daemon.start(timeout=60)
    wait_until(b.all_up, 30, b.not_up, poll=0.2)
    b.udp(l, 4, 100)
    b.udp(l, 4, 100, back=True)


def released(bed, case):
    """release takes everything away on this kernel too."""
    b = bed()
    b.daemon.signal(signal.SIGTERM)
    b.daemon.proc.wait(timeout=30)
    b.daemon.release()
    wait_until(lambda: not b.daemon.remains(), 10, lambda: f"remains: {b.daemon.remains()}")
    assert not b.a.ok(["ip", "link", "show", "dev", "ipsec1"])


def cases(job):
    kinds = [(4, "udp", "aes-gcm-128"), (4, "esp", "aes-gcm-256"), (6, "udp", "chacha20-poly1305"), (6, "esp", "aes-gcm-128")]
    bed = Shared(lambda: SelfBed([Link(i + 1, outer=o, encap=e, alg=a, liveness="500ms x 6") for i, (o, e, a) in enumerate(kinds)])).get
    out = [Case("probe", probe, limit=60)]
    for i, (o, e, a) in enumerate(kinds):
        for v in (4, 6):
            out.append(Case(f"{a}-{e}-o{o}-i{v}", lambda case, i=i, v=v: carries(bed, i, v, case), limit=120))
    out.append(Case("bulk", lambda case: bulk(bed, case), limit=180))
    out.append(Case("dies", lambda case: dies(bed, case), limit=120))
    out.append(Case("released", lambda case: released(bed, case), limit=60))
    return out
