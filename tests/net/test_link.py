# SPDX-License-Identifier: GPL-2.0-or-later
"""The device: what `ip` shows is what a routing daemon needs (design, section 4, "Device")."""
import json
import os

import pytest

from lib.carried import MODE
from lib.traffic import need_ping
from lib.util import sh, wait_until


def dev(ns, name="ipsec1"):
    return json.loads(ns.out(["ip", "-j", "-d", "addr", "show", "dev", name]))[0]


def addrs(d, fam, scope):
    return [a for a in d["addr_info"] if a["family"] == fam and a["scope"] == scope]


def test_properties(lab):
    t = lab.two_gateways(hosts=False)
    d = dev(t.a)
    assert {"UP", "LOWER_UP", "MULTICAST", "NOARP"} <= set(d["flags"])
    assert d["operstate"] == "UP"
    assert "ipsec:1" in d["altnames"]
    assert d["ifalias"] == "east"
    assert "addrgenmode none" in t.a.out("ip -d link show dev ipsec1")
    assert t.a.out("ip link show dev ipsec:1").split()[1].startswith("ipsec1@")


def test_addresses(lab):
    t = lab.two_gateways(hosts=False)
    d = dev(t.a)
    v4, v6 = addrs(d, "inet", "global"), addrs(d, "inet6", "global")
    assert [(a["local"], a["address"], a["prefixlen"]) for a in v4] == [("10.9.0.1", "10.9.0.2", 32)]
    assert [(a["local"], a["address"], a["prefixlen"]) for a in v6] == [("fd09::1", "fd09::2", 128)]
    far = t.a.out("ip route get 10.9.0.2").split()
    assert far[far.index("dev") + 1] == "ipsec1" and far[far.index("src") + 1] == "10.9.0.1"


def test_link_local(lab):
    """One /64 each, different at the two ends, the same after a restart, and it works."""
    t = lab.two_gateways(hosts=False)

    def ll(ns):
        found = addrs(dev(ns), "inet6", "link")
        assert len(found) == 1 and found[0]["prefixlen"] == 64 and not found[0].get("tentative")
        return found[0]["local"]

    a, b = ll(t.a), ll(t.b)
    assert a != b
    need_ping(t.a, f"{b}%ipsec1")
    t.da.stop()
    t.da.start().wait_up()
    assert ll(t.a) == a


@pytest.mark.parametrize("outer,encap,mtu,want", [
    (4, "esp", 1500, 1446), (4, "udp", 1500, 1438), (6, "esp", 1500, 1426), (6, "udp", 1500, 1418),
    (4, "esp", 9000, 8946), (4, "udp", 1400, 1338)])
def test_mtu_is_exact(lab, outer, encap, mtu, want):
    """The largest packet fits one envelope of the path's MTU, one byte more would not (RFC 4303 2.4)."""
    t = lab.two_hosts(mtu=mtu, hosts=False)
    _, ka, kb = lab.pair_files()
    ends = []
    for side, ns, k in (("a", t.a, ka), ("b", t.b, kb)):
        far = t.outer[f"{'b' if side == 'a' else 'a'}{outer}"]
        ends.append(lab.daemon(ns, [t.link(side, k, f"{far} encap {encap}")], keys=[k]))
    for d in ends:
        d.wait_up()
    assert dev(t.a)["mtu"] == want
    need_ping(t.a, "10.9.0.2", size=want - 28, extra=["-M", "do"])
    r = lab.tap.report()["taps"]["gwa.eth1"]
    assert r["leaks"] == 0


def test_mtu_given(lab):
    t = lab.two_hosts(hosts=False)
    _, ka, _ = lab.pair_files()
    d = lab.daemon(t.a, [t.link("a", ka, mtu="1320", liveness="off")], keys=[ka])
    d.wait_up()
    assert dev(t.a)["mtu"] == 1320


def test_routes_and_floors(lab):
    """The asked-for route on the link, the unreachable floor below everything else."""
    t = lab.two_gateways(hosts=False)
    for prefix, v6 in (("10.2.0.0/16", []), ("fd02::/48", ["-6"])):
        routes = json.loads(t.a.out(["ip", *v6, "-j", "route", "show", prefix]))
        assert any(r.get("dev") == "ipsec1" and r.get("metric", 0) == 10 for r in routes), routes
        assert any(r.get("type") == "unreachable" and r.get("metric") == 4294967294 for r in routes), routes


def test_both_ends_differ_in_number(lab):
    """Same ifindex in both namespaces: the kernel tells the carrier up to a second late. Such a pair is made again."""
    t = lab.two_gateways()

    def place(name):
        dev = json.loads(t.a.out(f"ip -j link show {name}"))[0]
        return dev["ifindex"], dev["link_index"]

    here, there = place("ipsec1")
    assert here != there
    backend = os.path.basename(t.da.backend)
    sh(["ip", "-n", backend, "link", "add", "bskip0", "type", "veth", "peer", "name", "bskip1"])  # left by one that was killed
    there += 2
    behind = t.a.name if here < there else backend
    burn = [f"tuntap {verb} name skip{i} mode tap" for i in range(abs(here - there)) for verb in ("add", "del")]
    sh(["ip", "-n", behind, "-batch", "-"], input="\n".join(burn) + "\n")
    t.da.ctl("link add ipsec7 peer p7 path=198.51.100.9", ["address=10.9.7.1 peer 10.9.7.2"])
    again, apart = place("ipsec7")
    assert again != apart
    if MODE:  # a third device, xN, takes numbers in the backend namespace
        return
    assert again == max(here, there) + 2, "the first try had the same number twice"
    t.da.ctl("link add ipsec8 peer p8 path=198.51.100.9", ["address=10.9.8.1 peer 10.9.8.2"])
    assert place("ipsec8") == (again + 1, apart + 1)


def test_admin_down_and_up(lab):
    t = lab.two_gateways(hosts=False)
    t.da.ctl("link down ipsec1")
    wait_until(lambda: t.a.operstate("ipsec1") in ("LOWERLAYERDOWN", "DOWN"), 2, "carrier gone")
    assert t.da.link()["state"] == "down" and t.da.reason() == "admin-down"
    assert not t.a.carrier("ipsec1")
    t.da.ctl("link up ipsec1")
    t.da.wait_up()
    wait_until(lambda: t.a.operstate("ipsec1") == "UP", 2, "operstate UP")
    need_ping(t.a, "10.9.0.2")


def test_device_set_down_and_up_by_hand(lab):
    """ip link set down and up: the link follows, and every address and route is there again, the link-local one as well."""
    t = lab.two_gateways(hosts=False)

    def stands():
        addrs = {a["local"] for x in json.loads(t.a.out("ip -j addr show ipsec1")) for a in x["addr_info"]}
        return addrs, t.a.out("ip -4 route show dev ipsec1"), t.a.out("ip -6 route show dev ipsec1")

    before = stands()
    assert len(before[0]) == 3
    t.a.ip("link set ipsec1 down")
    wait_until(lambda: t.da.reason() == "admin-down" and not t.db.is_up(), 5, "down at both ends")
    t.a.ip("link set ipsec1 up")
    t.da.wait_up()
    t.db.wait_up()
    wait_until(lambda: stands() == before, 3, lambda: f"{stands()}, before {before}")
    far = next(a for a in {x["local"] for i in json.loads(t.b.out("ip -j addr show ipsec1")) for x in i["addr_info"]} if a.startswith("fe80"))
    need_ping(t.a, f"{far}%ipsec1")


def test_no_link_down_route(lab):
    """A dead link's routes step aside: the sysctl is set on the link, nowhere else."""
    t = lab.two_gateways(hosts=False)
    assert t.a.sysctl_get("net.ipv4.conf.ipsec1.ignore_routes_with_linkdown") == "1"
    assert t.a.sysctl_get("net.ipv6.conf.ipsec1.ignore_routes_with_linkdown") == "1"
    assert t.a.sysctl_get("net.ipv4.conf.eth1.ignore_routes_with_linkdown") == "0"
    assert t.a.sysctl_get("net.ipv4.conf.ipsec1.disable_xfrm") == "1"
    assert t.a.sysctl_get("net.ipv4.conf.eth1.disable_xfrm") == "0"


def test_forwarding_left_as_found(lab):
    t = lab.two_hosts(hosts=False)
    for ns in (t.a, t.b):
        ns.sysctl_set("net.ipv4.ip_forward", 0)
        ns.sysctl_set("net.ipv6.conf.all.forwarding", 0)
    _, ka, kb = lab.pair_files()
    da = lab.daemon(t.a, [t.link("a", ka)], keys=[ka])
    lab.daemon(t.b, [t.link("b", kb)], keys=[kb])
    da.wait_up()
    assert t.a.sysctl_get("net.ipv4.ip_forward") == "0"
    assert t.a.sysctl_get("net.ipv6.conf.all.forwarding") == "0"
    da.stop()
    da.release()
    assert t.a.sysctl_get("net.ipv4.ip_forward") == "0"


def test_workload_namespace(lab):
    """netns = NAME: the device lives there, the envelopes still leave from the underlay."""
    t = lab.two_hosts(hosts=False)
    blue = lab.net.ns("blue")
    _, ka, kb = lab.pair_files()
    da = lab.daemon(t.a, [t.link("a", ka, netns=blue.name)], keys=[ka])
    lab.daemon(t.b, [t.link("b", kb)], keys=[kb])
    da.wait_up()
    assert dev(blue)["ifalias"] == "east"
    assert not t.a.ok("ip link show ipsec1")
    need_ping(blue, "10.9.0.2")


def test_started_by_ip_netns_exec(lab):
    """`ip netns exec` gives the daemon a private /sys and mount namespace; nothing may depend on that."""
    t = lab.two_hosts(hosts=False)
    _, ka, kb = lab.pair_files()
    da = lab.daemon(t.a, [t.link("a", ka)], keys=[ka], via="ip")
    lab.daemon(t.b, [t.link("b", kb)], keys=[kb])
    da.wait_up()
    need_ping(t.a, "10.9.0.2")
    assert sh(["ls", da.pin_dir]).stdout, "pins must be in the host's bpffs"
    da.kill()
    assert sh(["ip", "netns", "exec", f"espwire-{da.instance}", "true"], check=False).returncode == 0
    da.start().wait_up()
    da.stop()
    da.release()
    assert not da.remains()


def test_notify_and_release(lab):
    """READY=1 for systemd; stop leaves link and guards; release leaves nothing."""
    import socket
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(lab.path("notify"))
    sock.settimeout(10)
    t = lab.two_hosts(hosts=False)
    _, ka, _ = lab.pair_files()
    d = lab.daemon(t.a, [t.link("a", ka, liveness="off")], keys=[ka], start=False)
    d.start(env={"NOTIFY_SOCKET": lab.path("notify")})
    said = b""
    while b"READY=1" not in said:
        said += sock.recv(4096) + b"\n"
    sock.close()
    d.wait_up()
    assert d.stop() == 0
    assert t.a.ok("ip link show ipsec1"), "stop must leave the device"
    assert d.guardians(), "stop must leave the guardian"
    wait_until(lambda: not t.a.carrier("ipsec1"), 1.5, "carrier down after stop")
    assert "unreachable 10.2.0.0/16" in t.a.out("ip route show")
    d.release()
    assert not t.a.ok("ip link show ipsec1")
    assert not d.remains()
    assert "unreachable" not in t.a.out("ip route show") + t.a.out("ip -6 route show fd02::/48")
    assert t.a.out("ip xfrm policy") == ""
    assert "espwire" not in t.a.out("nft list ruleset")


@pytest.mark.parametrize("window,cores", [(64, 1), (4096, os.cpu_count())])
def test_worker_keeps_its_core_for_a_narrow_window(lab, window, cores):
    """Moved while its last envelopes wait in the old core's backlog, it would send the next ones past them."""
    t = lab.two_gateways(hosts=False, window=window, ipsecd={"workers": 1})
    pid = t.da.proc.pid
    tids = [tid for tid in os.listdir(f"/proc/{pid}/task")
            if open(f"/proc/{pid}/task/{tid}/comm").read().startswith("worker")]
    assert [len(os.sched_getaffinity(int(tid))) for tid in tids] == [cores]


def test_no_link_local_address(lab):
    """link-local = no: the device has the addresses of the configuration alone, IPv6 goes all the same; yes again brings it back."""
    t = lab.two_gateways(**{"link-local": "no"})

    def addrs():
        return sorted(a["local"] for x in json.loads(t.a.out("ip -j addr show ipsec1")) for a in x["addr_info"])

    bare = ["10.9.0.1", "fd09::1"]
    assert addrs() == bare
    need_ping(t.h1, "10.2.0.2")
    need_ping(t.h1, "fd02::2")
    t.a.ip("link set ipsec1 down")
    wait_until(lambda: t.da.reason() == "admin-down", 5, "down")
    t.a.ip("link set ipsec1 up")
    t.da.wait_up()
    assert addrs() == bare
    t.da.ctl("link set ipsec1 link-local yes")
    wait_until(lambda: [a[:4] for a in addrs()] == ["10.9", "fd09", "fe80"], 3, addrs)
    t.da.ctl("link set ipsec1 link-local no")
    wait_until(lambda: addrs() == bare, 3, addrs)
    need_ping(t.h1, "fd02::2")
