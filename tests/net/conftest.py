# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab around every net test: namespaces, taps, daemons, and the invariants checked at the end.

A test takes `lab`, builds what it needs from it and asserts its own point. When its body has passed,
lab.verify() asserts what must hold always (design, section 3): no cleartext, no nonce twice, no key
shown, books balanced. Whatever happens, lab.close() leaves nothing behind.
"""
import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib import carried, leak  # noqa: E402
from lib.daemon import Daemon  # noqa: E402
from lib.esp_peer import Attacker, Peer  # noqa: E402
from lib.keys import Pair  # noqa: E402
from lib.topo import Figure4, Net, Routed, TwoHosts, conf_text  # noqa: E402
from lib.util import tool  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "serial: timing matters, not beside another test")


def pytest_collection_modifyitems(items):
    missing = [t for t in ("ipsecd", "ipsecctl") if not os.access(tool(t), os.X_OK)]
    for item in items:
        if missing and "lab" in item.fixturenames and "nodaemon" not in item.keywords:
            item.add_marker(pytest.mark.skip(reason=f"not built: {' '.join(missing)}"))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """The body, then the invariants: a leak fails the test itself, not its teardown."""
    args = {a: pyfuncitem.funcargs[a] for a in pyfuncitem._fixtureinfo.argnames}
    pyfuncitem.obj(**args)
    lab = pyfuncitem.funcargs.get("lab")
    if lab:
        lab.verify()
        drops = lab.drops_seen()
        if drops:
            pyfuncitem.user_properties.append(("drops", " ".join(sorted(drops))))
        if carried.MODE:
            pyfuncitem.user_properties.append(("backends", lab.backends()))
    return True


ALONE = "one ipsecd: nothing to mix"


class Lab:
    def __init__(self, name):
        self.name = name
        self.dir = tempfile.mkdtemp(prefix="espwire-")
        self.daemons, self.closers = [], []
        self.skip_checks = set()  # names of checks a test states reasons to leave out
        self.whole_capture = False
        self.net = Net()
        self._tap = None
        self.net.on_underlay.append(lambda ns, dev: self.tap.tap(ns, dev))

    @property
    def tap(self):
        """The tap process, started by the first underlay device."""
        if not self._tap:
            self._tap = leak.Sniffer(self.dir)
        return self._tap

    # --- building ---

    def path(self, name):
        return os.path.join(self.dir, name)

    def two_hosts(self, **kw):
        t = (Routed if "far_mtu" in kw else TwoHosts)(self.net, **kw)
        self.tap.protect(*t.inner)
        return t

    def figure4(self, **kw):
        t = Figure4(self.net, **kw)
        self.tap.protect(*t.inner)
        return t

    def daemon(self, ns, conf, start=True, init=True, keys=(), underlay=None, **kw):
        """conf: text, or a list of (name, dict) links."""
        if not isinstance(conf, str):
            conf = conf_text(conf, underlay=underlay)
        d = Daemon(ns, conf, self.dir, nth=len(self.daemons), **kw)
        self.daemons.append(d)
        for k in keys:
            d.add_keys(k)
        if keys and init:
            d.init_state()
        if start:
            d.start()
        return d

    def pair_files(self, tag="k", **kw):
        pair = Pair(**kw)
        if pair.a.null:  # no IV: what stands there is the inner packet
            self.skip_checks.add("iv")
        return pair, pair.write(self.path(f"{tag}-a.sa"), "a"), pair.write(self.path(f"{tag}-b.sa"), "b")

    def two_gateways(self, start=True, ipsecd=None, underlay=None, mtu=1500, alg="aes-gcm-256", esn=True, window=0,
                     path_a=None, path_b=None, wait=True, hosts=True, bad=False, wild=None, link_mtu=None, **over):
        """The standing bed: two hosts, two ipsecd, one link. Returns the topology with .da, .db, .pair.

        wild: what the topology shall be told, {"far_mtu": N} for a router in the middle."""
        t = self.two_hosts(mtu=mtu, hosts=hosts, bad=bad, **(wild or {}))
        over = {"mtu": link_mtu, **over}
        t.pair, ka, kb = self.pair_files(alg=alg, esn=esn, window=window)
        t.da = self.daemon(t.a, conf_text([t.link("a", ka, path_a, **over)], ipsecd, underlay), keys=[ka], start=start)
        t.db = self.daemon(t.b, conf_text([t.link("b", kb, path_b, **over)], ipsecd, underlay), keys=[kb], start=start)
        if start:
            self.by_xdp(t.da, underlay)
            self.by_xdp(t.db, underlay)
        if start and wait:
            t.da.wait_up()
            t.db.wait_up()
        return t

    @staticmethod
    def by_xdp(d, underlay=None):
        """A silent fall back to sockets would test another path than the one meant."""
        want = (underlay or {}).get("input", "xdp")
        assert f"input by {want}" in d.log_now(), d.log_now()

    def peer_bed(self, outer=4, encap="esp", start=True, ipsecd=None, answer=(), alg="aes-gcm-256", esn=True, window=0,
                 mtu=1500, check=True, bad=False, **over):
        """One ipsecd (gwA) and the independent peer on gwB. Returns the topology with .da, .peer, .pair."""
        if carried.MODE.startswith("mixed"):
            pytest.skip(ALONE)
        t = self.two_hosts(mtu=mtu, bad=bad)
        t.pair, ka, _ = self.pair_files(alg=alg, esn=esn, window=window)
        a, b = t.outer[f"a{outer}"], t.outer[f"b{outer}"]
        over.setdefault("liveness", "off")
        t.peer = Peer(t.b, "eth1", b, a, tx=t.pair.b, rx=t.pair.a, encap=encap, answer=answer, check=check)
        self.closers.append(t.peer.close)
        self.sink(t.h1, 4242)
        t.da = self.daemon(t.a, conf_text([t.link("a", ka, f"{b} encap {encap}", **over)], ipsecd), keys=[ka], start=start)
        if start:
            self.by_xdp(t.da)
        if start and over["liveness"] == "off":
            t.da.wait_up()
        return t

    def sink(self, ns, port):
        """A bound UDP port, both families: what arrives there draws no ICMP."""
        s = ns.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        s.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_RCVBUFFORCE: what XDP has passed on weighs a page each (Linux 6.1)
        s.bind(("::", port))
        self.closers.append(s.close)
        return s

    def attacker(self, ns, dev, victim, victim_dev="eth1"):
        a = Attacker(ns, dev, victim.mac(victim_dev))
        self.closers.append(a.close)
        return a

    # --- judging ---

    def verify(self):
        if "conservation" not in self.skip_checks:
            leak.check_conservation(self.daemons)
        if "keys" not in self.skip_checks:
            leak.check_keys(self.daemons)
        self.verify_taps()

    def drops_seen(self):
        """Reasons in the books of the daemons that run; docs/conformance.md names the tests that provoke each."""
        return set().union(*(d.drop_reasons() for d in self.daemons if d.running()))

    def backends(self):
        """Of each daemon, who has carried its links."""
        for d in self.daemons:
            d.note_backends()
        return [sorted(d.backends) for d in self.daemons]

    def verify_taps(self):
        if self._tap:
            checks = [c for c in ("seq", "iv") if not {c, "nonce"} & self.skip_checks]
            leak.check_taps(self._tap.report(), whole=self.whole_capture, checks=checks)

    # --- end ---

    def keep(self, where):
        """Evidence of a failed test: logs and captures."""
        shutil.rmtree(where, ignore_errors=True)
        os.makedirs(where)
        if self._tap:
            with open(os.path.join(where, "tap.json"), "w") as f:
                json.dump(self.tap.report(), f, indent=1)
        for d in self.daemons:
            for name in ("log", "ipsecd.conf"):
                src = os.path.join(d.dir, name)
                if os.path.exists(src):
                    shutil.copy(src, os.path.join(where, f"{d.ns.role}.{name}"))
            if d.ike:
                with open(os.path.join(where, f"{d.ns.role}.charon"), "w") as f:
                    f.write(d.ike.log())
            if d.running():
                for verb in ("show", "drops"):
                    with open(os.path.join(where, f"{d.ns.role}.{verb}.json"), "w") as f:
                        f.write(d.ctl(verb, check=False).stdout)
        if self._tap:
            for f in os.listdir(self.tap.dir):
                shutil.copy(os.path.join(self.tap.dir, f), where)

    def close(self):
        for fn in self.closers + [d.destroy for d in self.daemons] + [self.net.close] + ([self._tap.close] if self._tap else []):
            try:
                fn()
            except Exception as e:  # the rest must be cleaned up all the same
                print(f"cleanup: {e}", file=sys.stderr)
        shutil.rmtree(self.dir, ignore_errors=True)


def pytest_sessionfinish(session):
    """What all instances share, once nobody makes one any more."""
    if not hasattr(session.config, "workerinput"):
        for parent in ("/sys/fs/bpf/ipsec", "/run/ipsec", "/var/lib/ipsec"):
            with contextlib.suppress(OSError):  # not empty: somebody else's
                os.rmdir(parent)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    setattr(item, "report_" + call.when, outcome.get_result())


@pytest.fixture(autouse=True)
def lab(request):
    bed = Lab(request.node.name)
    try:
        yield bed
        report = getattr(request.node, "report_call", None)
        where = os.environ.get("ESPWIRE_TEST_KEEP")
        if where and report is not None and report.failed:
            bed.keep(os.path.join(where, request.node.name.replace("/", "_")))
    finally:
        bed.close()
