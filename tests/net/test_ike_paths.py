# SPDX-License-Identifier: GPL-2.0-or-later
"""IKE finds the peer: through NAT boxes, from another address (MOBIKE), by certificate; envelopes follow what it finds."""
import os
import re
import signal
import socket
import struct

from scapy.layers.inet import IP, UDP
from scapy.packet import Raw

from lib.carried import MODE
from lib.charon import Charon, need
from lib.esp_peer import Frame
from lib.nat import NatNet
from lib.topo import conf_text
from lib.traffic import need_ping, ping
from lib.util import scaled, sh, stays, wait_until
from test_ike import FAR, gateways, secret, settled, told, up


def ike_link(t, n, me, path, psk, **over):
    """One end's section of link n; me 1 = the road warrior, 2 = East."""
    far = 3 - me
    keys = {"peer": "east" if me == 1 else f"west-{n}", "address": f"10.9.{n}.{me} peer 10.9.{n}.{far}", "path": path,
            "inner": f"10.9.{n}.{far}", "liveness": "100ms x 10", "ike": "east" if me == 1 else f"west-{n}", "ike-psk": psk,
            "ike-id": f"west-{n}.example" if me == 1 else "east.example",
            "ike-peer-id": "east.example" if me == 1 else f"west-{n}.example", **over}
    return "ipsec1" if me == 1 else f"ipsec{n}", {k: v for k, v in keys.items() if v is not None}


def gateway(lab, ns, links):
    d = lab.daemon(ns, conf_text(links, {"vici-socket": lab.path(f"charon-{ns.role}/vici")}))
    d.ike = Charon(lab, ns, d).start()
    return d


def road_warriors(lab, count):
    """So many behind one NAT box, each known by its identity; nobody's line says a word about UDP."""
    need()
    t = NatNet(lab)
    t.nat, t.wests, psks = t.box(), [], {}
    for n in range(1, count + 1):
        psks[n] = secret(lab, f"psk{n}")
        lab.tap.protect(f"10.9.{n}.0/24")
    t.de = gateway(lab, t.east, [ike_link(t, n, 2, "any", psks[n]) for n in psks])
    for n in psks:
        ns = t.nat.gateway(f"west{n}")
        t.wests.append((ns, gateway(lab, ns, [ike_link(t, n, 1, t.east4, psks[n])])))
    for n, (ns, d) in enumerate(t.wests, 1):
        d.wait_up(timeout=15)
        t.de.wait_up(f"ipsec{n}", timeout=15)
    return t


def remote(d, name="ipsec1"):
    p = d.link(name)["path"]
    return p["remote"], p["port"], p["encap"]


class PingSeries:
    """One request each 20 ms until lost() is asked: the numbers that were not answered, but for the last on their way."""

    def __init__(self, lab, ns, dst):
        self.out = lab.path(f"pings-{ns.role}")
        with open(self.out, "w") as f:
            self.proc = ns.popen(["ping", "-n", "-i", "0.02", dst], stdout=f)

    def lost(self):
        self.proc.send_signal(signal.SIGINT)
        self.proc.wait(timeout=10)
        with open(self.out) as f:
            got = {int(n) for n in re.findall(r"icmp_seq=(\d+) ttl", f.read())}
        return sorted(set(range(1, max(got))) - got)


def forge(lab, t, atk):
    """The last envelopes that the warriors sent, again and with a higher number, from somebody else's address."""
    for ns, _ in t.wests:
        for f in [f for f in map(Frame, lab.tap.pcap(ns, "eth1", True)[-50:]) if f.esp][-4:]:
            for esp in (f.esp, f.esp[:4] + struct.pack(">I", f.seq + 1000) + f.esp[8:]):
                atk.ip(IP(src="203.0.113.66", dst=t.east4) / UDP(sport=6666, dport=4500) / Raw(esp))


def test_road_warriors_behind_a_nat(lab, record_property):
    """UDP is IKE's finding; a NAT that forgets its mappings is followed, by ESP at once and by IKE after it."""
    t = road_warriors(lab, 2)
    seen = {remote(t.de, f"ipsec{n}") for n in (1, 2)}
    assert {(r, e) for r, _, e in seen} == {(t.nat.wild4, "udp")} and len(seen) == 2
    for n, (ns, d) in enumerate(t.wests, 1):
        assert remote(d) == (t.east4, 4500, "udp")
        need_ping(ns, f"10.9.{n}.2")
        need_ping(t.east, f"10.9.{n}.1")
    flaps = t.de.link()["flaps"]
    atk, times = lab.attacker(t.cloud, "to-east", t.east), scaled(3, 100, "IKE_REBINDS")
    calls = [PingSeries(lab, ns, f"10.9.{n}.2") for n, (ns, _) in enumerate(t.wests, 1)]
    for n in range(times):
        ports = (20000 + 100 * n, 20099 + 100 * n)
        t.nat.rebind(ports)
        wait_until(lambda: all(ports[0] <= remote(t.de, f"ipsec{k}")[1] <= ports[1] for k in (1, 2)), 3,
                   lambda: f"{ports}: {t.de.ctl('path list').stdout}")
        need_ping(t.east, "10.9.1.1", timeout=1)
        # the MAPPING event: charon sends its own there, too
        wait_until(lambda: str(remote(t.de)[1]) in t.de.ike.swanctl("--list-sas", "--raw", "--ike", "west-1").stdout, 3,
                   lambda: t.de.ike.log()[-2000:])
        was = [remote(t.de, f"ipsec{k}") for k in (1, 2)]
        forge(lab, t, atk)
        stays(lambda: [remote(t.de, f"ipsec{k}") for k in (1, 2)] == was, 0.1, "forged sources move nobody")
    lost = [c.lost() for c in calls]
    record_property("figure", f"IKE: {times} times another NAT mapping: of pings each 20 ms {[len(x) for x in lost]} lost")
    if MODE:  # the kernel tells ipsecd whom it has heard elsewhere, and that gives its state another port
        assert all(len(x) <= 25 * times for x in lost), f"half a second each: {lost}"
    else:
        assert all(len(x) <= times and not {n + 1 for n in x} & set(x) for x in lost), f"a round trip each: {lost}"
    assert {"replay-dup", "icv-fail"} <= t.de.drop_reasons(), "they did arrive"
    assert t.de.link()["flaps"] == flaps
    for n in (1, 2):  # and renewals go through the mapping of now
        had = {s["spi"] for s in t.de.link(f"ipsec{n}")["sas"]}
        t.de.ctl("rekey", f"ipsec{n}")
        wait_until(lambda: not had & {s["spi"] for s in t.de.link(f"ipsec{n}")["sas"]}, 10, lambda: t.de.ctl("sa list").stdout)
        need_ping(t.east, f"10.9.{n}.1")


def addresses(ns, dev):
    """Global ones, without their lengths."""
    return {w.split("/")[0] for fam in ("-4", "-6") for line in ns.out(f"ip {fam} -o addr show dev {dev} scope global").splitlines()
            for w in line.split()[3:4]}


def routed(ns, dev):
    return {w.split()[0] for fam in ("-4", "-6") for w in ns.out(f"ip {fam} route show dev {dev} proto 158").splitlines()}


def by_pool(lab, count):
    """Like road_warriors(), but that the addresses inside are the gateway's to give: one pool of each family for all."""
    need()
    t = NatNet(lab)
    t.nat, t.wests = t.box(), []
    psks = {n: secret(lab, f"psk{n}") for n in range(1, count + 1)}
    lab.tap.protect("10.8.0.0/24", "10.9.7.0/28", "fd08::/64", "fd09:7::/124")
    east = {"address": "10.8.0.1", "address6": "fd08::1", "inner": None, "ike-pool": "10.9.7.0/28, fd09:7::/124"}
    west = {"address": None, "inner": None, "ike-start": "no", "ike-vips": "0.0.0.0, ::", "protect": "10.8.0.0/24, fd08::/64", "route": "10.8.0.0/24, fd08::/64"}
    t.de = gateway(lab, t.east, [ike_link(t, n, 2, "any", psk, **east) for n, psk in psks.items()])
    for n, psk in psks.items():
        ns = t.nat.gateway(f"west{n}")
        t.wests.append((ns, gateway(lab, ns, [ike_link(t, n, 1, t.east4, psk, **west)])))
    return t


def given(t, n):
    """What warrior n has, when both ends say the same; else None."""
    ns, d = t.wests[n - 1]
    own, far = d.link()["virtual"]["own"], t.de.link(f"ipsec{n}")["virtual"]["far"]
    same = len(own) == 2 and set(own) == set(far) == addresses(ns, "ipsec1")
    return tuple(sorted(own)) if same and set(own) <= routed(t.east, f"ipsec{n}") else None


def give_address(addr, dev):
    """With ipsecd's mark, which `ip` of Debian 12 cannot set: RTM_NEWADDR, IFA_PROTO."""
    body = struct.pack("=BBBBi", socket.AF_INET, 32, 0, 0, socket.if_nametoindex(dev))
    for kind, value in ((1, socket.inet_aton(addr)), (2, socket.inet_aton(addr)), (11, bytes([158, 0, 0, 0]))):
        body += struct.pack("=HH", 4 + (1 if kind == 11 else 4), kind) + value
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as s:
        s.send(struct.pack("=IHHII", 16 + len(body), 20, 1 | 4 | 0x400, 1, 0) + body)
        err = struct.unpack("=i", s.recv(4096)[16:20])[0]
    assert not err, err


def selector_drops(d):
    return d.json("drops ipsec1")["links"][0]["out"].get("selector", 0)


def test_virtual_addresses(lab):
    """Each warrior's come from the gateway's pools with the SA, are his alone, and go with it; nobody else's are taken from him."""
    t = by_pool(lab, 2)
    for n, (ns, d) in enumerate(t.wests, 1):
        wait_until(d.ike.conns, 5, d.ike.log)
        d.ctl("up", "ipsec1")
        wait_until(lambda: given(t, n), 5, lambda: f"{d.ctl('show').stdout}{d.ike.log()[-3000:]}{t.de.log()[-2000:]}")
        assert not addresses(ns, "eth1") & set(given(t, n))
    mine, yours = given(t, 1), given(t, 2)
    assert not set(mine) & set(yours) and {s for a in (mine, yours) for s in a} == {"10.9.7.1", "10.9.7.2", "fd09:7::1", "fd09:7::2"}
    for n, (ns, d) in enumerate(t.wests, 1):
        before = d.link()["tx"]["packets"], t.de.link(f"ipsec{n}")["rx"]["packets"]
        assert ping(ns, "10.8.0.1", count=10) and ping(ns, "fd08::1", count=10)  # and so from the virtual address
        assert d.link()["tx"]["packets"] - before[0] >= 20 and t.de.link(f"ipsec{n}")["rx"]["packets"] - before[1] >= 20
        for a in given(t, n):
            need_ping(t.east, a)
    (ns, d), _ = t.wests
    ns.ip(f"addr add {yours[0]}/32 dev ipsec1")
    refused = selector_drops(d)  # the kernel's own fe80:: are, too
    assert not ping(ns, "10.8.0.1", count=20, timeout=0.5, extra=("-I", yours[0]))
    assert selector_drops(d) >= refused + 20
    ns.ip(f"addr del {yours[0]}/32 dev ipsec1")
    d.ctl("down", "ipsec1")
    wait_until(lambda: not addresses(ns, "ipsec1") and not routed(t.east, "ipsec1"), 5, lambda: t.de.ctl("show").stdout)
    assert not ping(t.east, mine[0], count=1, timeout=0.5) and given(t, 2) == yours
    d.ctl("up", "ipsec1")
    wait_until(lambda: given(t, 1) == mine, 5, lambda: d.ctl("show").stdout)
    need_ping(ns, "10.8.0.1")  # with its last address a device loses its routes
    d.kill()
    ns.enter(lambda: give_address("10.9.7.9", "ipsec1"))
    d.start()
    wait_until(lambda: "10.9.7.9" not in addresses(ns, "ipsec1"), 5, "what a dead ipsecd left is taken away")
    d.wait_up(timeout=15)
    wait_until(lambda: given(t, 1) == mine, 5, lambda: d.ctl("show").stdout)
    need_ping(t.east, mine[0])
    need_ping(ns, "10.8.0.1")


def test_another_address(lab):
    """MOBIKE, RFC 4555: West's address changes under traffic; IKE tells, envelopes follow, SAs and link stay."""
    t = up(gateways(lab))
    need_ping(t.h1, FAR["h1"])
    had = {s["spi"] for s in t.da.link()["sas"]}
    t.a.ip("addr del 198.51.100.1/24 dev eth1", "addr add 198.51.100.9/24 dev eth1", "route replace default via 198.51.100.2")
    # which of West's two it takes, the new one or its IPv6 address, is charon's choice
    wait_until(lambda: remote(t.db)[0] in ("198.51.100.9", "2001:db8::1"), 15, lambda: t.ca.log()[-3000:])
    wait_until(lambda: f"remote-host={remote(t.db)[0]}" in t.cb.swanctl("--list-sas", "--raw").stdout, 5, lambda: t.cb.log()[-3000:])
    need_ping(t.h1, FAR["h1"])
    need_ping(t.h2, FAR["h2"])
    assert had == {s["spi"] for s in t.da.link()["sas"]}
    for c in (t.ca, t.cb):  # and it is found by its new name
        assert int(c.child_sas()[0]["packets-in"]) > 0
    t.db.ctl("rekey", "ipsec1")
    wait_until(lambda: settled(t, {int(s, 16) for s in had}), 10, lambda: told(t))


def pki(lab, *words, out=None):
    data = sh(["pki", *words, "--outform", "pem"], text=False).stdout
    path = lab.path(out)
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, 0o600 if out.endswith(".key") else 0o644)
    return path


def certificate(lab, ca, who):
    key = pki(lab, "--gen", "--type", "ecdsa", "--size", "256", out=f"{who}.key")
    pub = pki(lab, "--pub", "--in", key, out=f"{who}.pub")
    cert = pki(lab, "--issue", "--in", pub, "--cacert", ca[0], "--cakey", ca[1], "--dn", f"CN={who}", "--san", who,
               "--lifetime", "10", out=f"{who}.crt")
    return {"ike-cert": cert, "ike-key": key, "ike-ca": ca[0], "ike-id": who}


def authority(lab, name="ca"):
    key = pki(lab, "--gen", "--type", "ecdsa", "--size", "256", out=f"{name}.key")
    return pki(lab, "--self", "--ca", "--in", key, "--dn", f"CN={name}", "--lifetime", "10", out=f"{name}.crt"), key


def test_certificates(lab):
    """Whoever has one of the authority's, and the name that is asked for, and nobody else."""
    need()
    ca = authority(lab)
    west = {**certificate(lab, ca, "west.example"), "ike-peer-id": "east.example"}
    east = {**certificate(lab, ca, "east.example"), "ike-peer-id": "west.example"}
    t = up(gateways(lab, over_a=west, over_b=east))
    need_ping(t.h1, FAR["h1"])
    t.da.ctl("down", "ipsec1")
    wait_until(lambda: t.db.reason() == "no-sa", 5, "down")
    stranger = certificate(lab, authority(lab, "other"), "west.example-2")
    for over, why in (({**stranger, "ike-id": "west.example"}, "AUTHENTICATION_FAILED"),
                      (certificate(lab, ca, "mallory.example"), "AUTHENTICATION_FAILED")):
        words, heard = [w for k, v in over.items() for w in (k, v)], t.ca.log().count("vici connection: east")
        t.da.ctl("link", "set", "ipsec1", *words)
        wait_until(lambda: t.ca.log().count("vici connection: east") > heard, 5, t.ca.log)
        r = t.da.ctl("up", "ipsec1", check=False)
        assert r.returncode == 1 and why in r.stdout, r.stdout
        assert not ping(t.h1, FAR["h1"], count=1, timeout=0.3) and t.da.reason() == "no-sa"
