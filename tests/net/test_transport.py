# SPDX-License-Identifier: GPL-2.0-or-later
"""Transport mode: two hosts whose own addresses are the link's, told from the envelopes by a mark (seed, section 5)."""
import secrets
import struct

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.layers.ipsec import ESP, SecurityAssociation
from scapy.packet import Raw, raw

from lib.esp_peer import NH_NONE, SCAPY_AUTH, SCAPY_CRYPT, Frame, scapy_knows
from lib.frames import SOL_PACKET
from lib.topo import conf_text
from lib.traffic import Listener, checksums_right, need_ping, ping, tcp_transfer, volley
from lib.util import wait_until
from test_scapy_peer import sums

WILD = {"a4": "198.51.100.1", "b4": "198.51.100.2", "a6": "2001:db8::1", "b6": "2001:db8::2"}


def mark_route(ns):
    """Marked packets do not know of the link: they go out as ever."""
    ns.ip("rule add fwmark 0x51 lookup 51", "route add 198.51.100.0/24 dev eth1 table 51",
          "route add 2001:db8::/64 dev eth1 table 51")
    ns.run(["ip", "-6", "rule", "add", "fwmark", "0x51", "lookup", "51"])


def section(me, far, outer, key, path=None, **over):
    """One side's [link]: far is the peer's wild address itself."""
    address = "address" if outer == 4 else "address6"
    keys = {"peer": "far", address: f"{me} peer {far}", "path": path or f"{far} fwmark 0x51 table 51",
            "liveness": "100ms x 10", "sa": f"file:{key}", **over}
    return [("ipsec1", keys)]


def hosts(lab, outer=4, encap="esp", underlay=None, wait=True, **pair):
    """gwA and gwB as plain hosts, each with one ipsecd and one transport mode link."""
    t = lab.two_hosts(hosts=False)
    t.pair, ka, kb = lab.pair_files(mode="transport", **pair)
    t.addr_a, t.addr_b = WILD[f"a{outer}"], WILD[f"b{outer}"]
    mark_route(t.a)
    mark_route(t.b)
    for name, ns, me, far, key in (("da", t.a, t.addr_a, t.addr_b, ka), ("db", t.b, t.addr_b, t.addr_a, kb)):
        links = section(me, far, outer, key, f"{far} encap {encap} fwmark 0x51 table 51")
        setattr(t, name, lab.daemon(ns, conf_text(links, underlay=underlay), keys=[key]))
    if wait:
        t.da.wait_up()
        t.db.wait_up()
    return t


@pytest.mark.parametrize("entry", ["xdp", "socket"])
@pytest.mark.parametrize("encap", ["esp", "udp"])
@pytest.mark.parametrize("outer", [4, 6], ids=["o4", "o6"])
def test_two_hosts(lab, outer, encap, entry):
    """Pings, bulk both ways and UDP of every size between the wild addresses; only envelopes on the wire."""
    t = hosts(lab, outer, encap, underlay={"input": entry})
    need_ping(t.a, t.addr_b)
    tap = Listener(t.b, "ipsec1")
    for src, dst, addr in ((t.a, t.b, t.addr_b), (t.b, t.a, t.addr_a)):
        sent, got = tcp_transfer(src, dst, addr, 4 << 20)
        assert sent == got
    lab.sink(t.b, 5004)
    volley(lab, [(t.a, t.addr_b)], apart=True)
    tap.wait(lambda p: lab.tap.canary in p, n=20)
    assert all(checksums_right(p) for p in tap.poll() if len(p) <= 1500)
    room = 1500 - (20 if outer == 4 else 40) - (8 if encap == "udp" else 0)
    if outer == 4 and t.da.link()["backend"] == "xfrm":  # the kernel leaves room for IPv4 options
        room -= 8
    assert t.da.link()["mtu"] == (room - 32) // 4 * 4 - 2 + (20 if outer == 4 else 40)
    assert all(s["mode"] == "transport" for s in t.da.link()["sas"])
    tap.close()


def test_header_fields_survive(lab):
    """TTL and TOS are the packet's own, and so is every byte of the header where XDP sees it."""
    for outer in (4,):
        t = hosts(lab, outer)
        tap = Listener(t.b, "ipsec1")
        assert ping(t.a, t.addr_b, count=1, extra=["-t", "37", "-Q", "0xb8"])
        p = tap.wait(lambda q: q[9] == 1 and q[20] == 8)[0]
        assert p[8] == 37 and p[1] == 0xb8
        tap.close()


def inject(t, packet, n=1):
    """Route packets made by hand into the link, as if they had come from this host."""
    s = t.a.socket(17, 3, 0)
    s.setsockopt(SOL_PACKET, 20, 1)
    t.a.enter(s.bind, ("ipsec1", 0x800 if packet[0] >> 4 == 4 else 0x86dd))
    for _ in range(n):
        s.send(bytes(12) + (b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet)
    s.close()


def odd_packets():
    """name -> (outer family, packet, reason it dies for)."""
    v4, v6 = dict(src=WILD["a4"], dst=WILD["b4"]), dict(src=WILD["a6"], dst=WILD["b6"])
    udp = UDP(sport=9, dport=4242) / Raw(bytes(32))
    return {
        "somebody-else": (4, IP(src=WILD["a4"], dst="198.51.100.3") / udp, "not-transport"),
        "options": (4, IP(options=[b"\x07\x07\x04\0\0\0\0\0"], **v4) / udp, "not-transport"),
        "first-fragment": (4, IP(flags="MF", **v4) / udp, "frag-unsupported"),
        "later-fragment": (4, IP(frag=10, **v4) / udp, "frag-unsupported"),
        "no-next-header": (4, IP(proto=59, **v4) / Raw(bytes(8)), "not-transport"),
        "somebody-else-6": (6, IPv6(src=WILD["a6"], dst="2001:db8::3") / udp, "not-transport"),
        "hop-by-hop": (6, IPv6(**v6) / IPv6ExtHdrHopByHop() / udp, "not-transport"),
        "fragment-6": (6, IPv6(**v6) / IPv6ExtHdrFragment(m=1) / udp, "frag-unsupported"),
    }


@pytest.mark.parametrize("case", odd_packets())
def test_what_is_not_carried(lab, case):
    """Every one of them, for that reason; and the link still carries what it may."""
    outer, packet, reason = odd_packets()[case]
    t = hosts(lab, outer)
    before = t.da.json("drops")
    inject(t, raw(packet), 40)
    # beside them the multicast chatter every IPv6 device makes, which is not for the peer either
    wait_until(lambda: 40 <= sums(before, t.da.json("drops"), "out").get(reason, 0) < 60, 2,
               lambda: f"40 {reason}, not {sums(before, t.da.json('drops'), 'out')}")
    need_ping(t.a, t.addr_b)


def test_destination_options_go_inside(lab):
    """RFC 4303 3.1.1: they may stand behind ESP, and there they are protected."""
    t = hosts(lab, 6)
    tap = Listener(t.b, "ipsec1")
    p = raw(IPv6(src=WILD["a6"], dst=WILD["b6"], hlim=61) / IPv6ExtHdrDestOpt() / UDP(sport=9, dport=4242) / Raw(b"x" * 9))
    lab.sink(t.b, 4242)
    inject(t, p)
    got = tap.wait(lambda q: q[6] == 60)[0]
    assert got[:1] + got[4:] == p[:1] + p[4:]  # between them the flow label, which is the envelope's
    tap.close()


# --- scapy as the other host ---

class ScapyHost:
    """The far host without ipsecd: scapy's transport mode, and a raw socket. own: of the link, (near, far)."""

    def __init__(self, lab, outer, encap, own=None, **pair):
        self.t = t = lab.two_hosts(hosts=False)
        t.pair, key, _ = lab.pair_files(mode="transport", **pair)
        self.me, self.far, self.encap = WILD[f"b{outer}"], WILD[f"a{outer}"], encap
        mark_route(t.a)
        path = f"{self.me} encap {encap}" + ("" if own else " fwmark 0x51 table 51")
        t.da = lab.daemon(t.a, conf_text(section(*(own or (self.far, self.me)), outer, key, path, liveness="off")), keys=[key])
        t.da.wait_up()
        self.tx, self.rx = self.sa(t.pair.b), self.sa(t.pair.a)
        self.cls = IP if outer == 4 else IPv6
        self.family = 2 if outer == 4 else 10
        self.wire = Listener(t.b, "eth1")
        self.sock = t.b.socket(self.family, *((2, 0) if encap == "udp" else (3, 50)))
        if encap == "udp":
            t.b.enter(self.sock.bind, (self.me, 4500))
        lab.closers.append(self.sock.close)

    def sa(self, s):
        auth = {"auth_algo": SCAPY_AUTH[s.sha], "auth_key": s.auth} if s.hmac else {}
        nat = UDP(sport=4500, dport=4500) if self.encap == "udp" else None
        return SecurityAssociation(ESP, spi=s.spi, crypt_algo=SCAPY_CRYPT[s.alg[:7]], crypt_key=s.key + s.salt,
                                   nat_t_header=nat, esn_en=s.esn, **auth)

    def send(self, packet, seq):
        """Through the stack: the outer header is the kernel's, from the packet's own addresses."""
        sealed = self.tx.encrypt(packet, seq_num=seq)
        self.sock.sendto(raw(sealed[ESP]), (self.far, 4500 if self.encap == "udp" else 0))

    def opened(self):
        """The IP packets in the envelopes so far, as scapy puts them together again."""
        out = []
        for p in self.wire.poll():
            f = Frame(bytes(12) + (b"\x08\x00" if p[0] >> 4 == 4 else b"\x86\xdd") + p)
            if f.esp is not None and f.spi == self.rx.spi:
                bare = self.cls(p)
                bare.remove_payload()  # scapy wants ESP right behind IP
                setattr(bare, "proto" if self.cls is IP else "nh", 50)
                out.append(raw(self.rx.decrypt(self.cls(raw(bare / ESP(f.esp))))))
        return out


@pytest.mark.parametrize("alg, esn, outer, encap", [
    ("aes-gcm-128", True, 4, "esp"), ("aes-gcm-256", False, 6, "esp"), ("chacha20-poly1305", True, 4, "udp"),
    ("aes-cbc-128-hmac-sha2-256", False, 6, "udp"), ("aes-cbc-256-hmac-sha2-512", False, 4, "esp")])
def test_scapy_is_the_other_host(lab, alg, esn, outer, encap):
    """Both directions; what scapy opens is what was routed into the link, byte for byte behind the IP header."""
    h = ScapyHost(lab, outer, encap, alg=alg, esn=esn)
    assert scapy_knows(h.t.pair.a)
    out, into = Listener(h.t.a, "ipsec1", outgoing=True), Listener(h.t.a, "ipsec1")
    s = h.t.a.socket(h.family, 2)
    for n in (0, 1, 2, 3, 100, 1300):
        s.sendto(secrets.token_bytes(n), (h.me, 4242))
    s.close()
    hdr = 20 if outer == 4 else 40
    wait_until(lambda: len([p for p in h.opened() if p[9 if outer == 4 else 6] == 17]) >= 6, 3, "six datagrams at scapy")
    theirs = [p for p in h.opened() if p[9 if outer == 4 else 6] == 17]
    ours = [p for p in out.poll() if p[9 if outer == 4 else 6] == 17]
    # the link's own tap sees sums that are still to be completed
    assert [p[hdr:hdr + 6] + p[hdr + 8:] for p in theirs] == [p[hdr:hdr + 6] + p[hdr + 8:] for p in ours]
    assert all(checksums_right(p) for p in theirs)
    assert all(p[12:20] == q[12:20] and p[8] == q[8] if outer == 4 else p[7:40] == q[7:40] for p, q in zip(theirs, ours))
    lab.sink(h.t.a, 4242)
    sent = []
    for seq, n in enumerate((0, 1, 2, 3, 100, 1300), 1):
        p = h.cls(src=h.me, dst=h.far) / UDP(sport=7, dport=4242) / Raw(secrets.token_bytes(n))
        h.send(p, seq)
        sent.append(raw(p)[hdr:])
    into.wait(lambda p: p[hdr:] in sent, n=6)
    got = [p for p in into.poll() if p[hdr:] in sent]
    assert [p[hdr:] for p in got] == sent and all(checksums_right(p) for p in got)
    for x in (out, into):
        x.close()


def test_source_is_not_what_the_envelope_says(lab):
    """A true envelope sent on from another address is not delivered as if it were from there (RFC 4301 5.2)."""
    h = ScapyHost(lab, 4, "esp")
    h.t.b.ip("addr add 198.51.100.77/24 dev eth1")
    into = Listener(h.t.a, "ipsec1")
    h.send(IP(src=h.me, dst=h.far) / UDP(sport=7, dport=4242) / Raw(b"first"), 10)
    into.wait(lambda p: p.endswith(b"first"))
    before = h.t.da.json("drops")
    h.sock.close()
    h.sock = h.t.b.socket(2, 3, 50)
    h.t.b.enter(h.sock.bind, ("198.51.100.77", 0))
    h.send(IP(src=h.me, dst=h.far) / UDP(sport=7, dport=4242) / Raw(b"older"), 5)  # not the newest: nothing is learned
    wait_until(lambda: sums(before, h.t.da.json("drops"), "in") == {"inner-src": 1}, 2,
               lambda: f"inner-src, not {sums(before, h.t.da.json('drops'), 'in')}")
    assert not [p for p in into.poll() if p.endswith(b"older")]
    into.close()


def test_dummies_and_bad_next_headers(lab):
    h = ScapyHost(lab, 4, "esp")
    into = Listener(h.t.a, "ipsec1")
    before = h.t.da.json("drops")
    for seq, nh in enumerate((NH_NONE, 0, 43, 44), 1):
        h.send(IP(src=h.me, dst=h.far, proto=nh) / Raw(bytes(24)), seq)
    wait_until(lambda: sums(before, h.t.da.json("drops"), "in").get("bad-next-header") == 3, 2,
               lambda: sums(before, h.t.da.json("drops"), "in"))
    h.send(IP(src=h.me, dst=h.far) / IP(src="10.0.0.1", dst="10.0.0.2") / ICMP(), 9)  # IP in IP is a payload like any
    p = into.wait(lambda q: q[9] == 4)[0]
    assert len(into.poll()) == 1 and p[20] >> 4 == 4 and p[32:36] == b"\x0a\0\0\1"
    into.close()


# --- NAT ---

@pytest.mark.parametrize("entry", ["xdp", "socket"])
def test_through_a_nat(lab, entry):
    """RFC 3948 3.1.2: TCP and UDP checksums were made for other addresses, at both ends."""
    t = lab.two_hosts(hosts=False)
    inside, nat = lab.net.ns("inside"), lab.net.ns("nat", forward=True)
    lab.net.wire(inside, "eth1", nat, "in", ("10.5.0.2/24",), ("10.5.0.1/24",), underlay=True)
    lab.net.wire(nat, "out", t.b, "eth2", ("203.0.113.1/24",), ("203.0.113.2/24",), underlay=True)
    inside.ip("route add default via 10.5.0.1", "rule add fwmark 0x51 lookup 51", "route add default via 10.5.0.1 table 51")
    t.b.ip("rule add fwmark 0x51 lookup 51", "route add 203.0.113.0/24 dev eth2 table 51")
    nat.run(["nft", "add table ip n; add chain ip n post { type nat hook postrouting priority 100; }; "
             "add rule ip n post oifname out masquerade"])
    _, ka, kb = lab.pair_files(mode="transport")
    under = {"input": entry, "devices": "eth1 eth2"}
    da = lab.daemon(inside, conf_text(section("10.5.0.2", "203.0.113.2", 4, ka, "203.0.113.2 encap udp fwmark 0x51 table 51"),
                                      underlay=under), keys=[ka])
    db = lab.daemon(t.b, conf_text(section("203.0.113.2", "203.0.113.1", 4, kb, "any encap udp fwmark 0x51 table 51"),
                                   underlay=under), keys=[kb])
    da.wait_up()
    db.wait_up()
    need_ping(inside, "203.0.113.2")
    tap = Listener(t.b, "ipsec1")
    for src, dst, addr, own in ((inside, t.b, "203.0.113.2", None), (t.b, inside, "203.0.113.1", "10.5.0.2")):
        sent, got = tcp_transfer(src, dst, addr, 1 << 20, own=own)
        assert sent == got
    assert all(checksums_right(p) for p in tap.poll() if p[9] == 17)
    tap.close()


# --- fail closed ---

@pytest.mark.parametrize("outer", [4, 6], ids=["o4", "o6"])
def test_nothing_in_the_clear_without_the_link(lab, outer):
    """The peer's own address is what is protected: no cleartext to it when the peer dies, nor when ipsecd is killed."""
    t = hosts(lab, outer)
    need_ping(t.a, t.addr_b)
    t.db.kill()
    wait_until(lambda: not t.da.is_up(), 5, "the link goes down")
    volley(lab, [(t.a, t.addr_b)])
    t.da.kill()
    volley(lab, [(t.a, t.addr_b)])
    # the floor gone round: whoever routes the address itself onto the wire meets the other layers
    t.a.ip(f"route replace {t.addr_b} dev eth1")
    volley(lab, [(t.a, t.addr_b)])
    assert not lab.tap.report()["leaks"]


def test_refused_without_a_mark(lab):
    """Envelopes to the link's own far address would come back into it."""
    t = lab.two_hosts(hosts=False)
    _, ka, _ = lab.pair_files(mode="transport")
    conf = lab.path("bad.conf")
    with open(conf, "w") as f:
        f.write(conf_text(section(WILD["a4"], WILD["b4"], 4, ka, WILD["b4"])))
    d = lab.daemon(t.a, conf_text([]), start=False)
    p = d.ctl("check", conf, check=False, json_out=False)
    assert p.returncode and "needs a fwmark" in p.stdout + p.stderr


def test_tfc_is_refused(lab):
    t = lab.two_hosts(hosts=False)
    _, ka, _ = lab.pair_files(mode="transport")
    mark_route(t.a)
    d = lab.daemon(t.a, conf_text(section(WILD["a4"], WILD["b4"], 4, ka, tfc="mtu")), keys=[ka])
    wait_until(lambda: "tfc needs tunnel mode" in d.log(), 3, "the reason in the log")
    assert not d.is_up()
