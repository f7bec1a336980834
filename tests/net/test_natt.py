# SPDX-License-Identifier: GPL-2.0-or-later
"""NAT traversal (RFC 3948) through real NAT boxes: nftables masquerade, mappings that change and expire."""
import socket
import time

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw, raw

from lib.carried import MODE
from lib.esp_peer import Frame
from lib.ike import MARKER, Ike
from lib.nat import NatNet
from lib.traffic import UdpEcho, need_ping, ping, tcp_transfer
from lib.util import stays, wait_until

OTHER = (40000, 40999)
FAMILIES = pytest.mark.parametrize("v", [4, 6], ids=["o4", "o6"])


def path(d, name="ipsec1"):
    return d.link(name)["path"]


def behind(lab, v=4, inp="xdp", esp="ours", **over):
    """West behind a NAT box, East in the open with `path = any`. Returns the net with .box, .west, .dw, .de."""
    t = NatNet(lab)
    t.nat = t.box()
    t.west = t.nat.gateway("west")
    w, e = t.link(f"{t.east.addr4 if v == 4 else t.east.addr6} encap udp", "any encap udp", **over)
    t.dw, t.de = t.start(t.west, [w], {"input": inp}), t.start(t.east, [e], {"input": inp, "esp": esp})
    t.wild = t.nat.wild4 if v == 4 else t.nat.wild6
    return t


def carries(lab, a, b, n=1):
    """Content both ways over link n, from a (own 10.9.n.1) to b; small, full and fragmented datagrams."""
    for src, dst, far in ((a, b, 2), (b, a, 1)):
        e = UdpEcho(src, dst, f"10.9.{n}.{far}")
        assert e.check(bytes([k % 256]) * size for k, size in enumerate((1, 100, 1300, 3000) * 8)) == 32
        e.close()


@FAMILIES
@pytest.mark.parametrize("inp", ["xdp", "socket"])
def test_one_peer_behind_nat(lab, v, inp):
    """East learns the mapped address and port from the first authentic packet, and all traffic takes them."""
    t = behind(lab, v, inp)
    t.nat.rebind(OTHER)
    t.dw.wait_up()
    t.de.wait_up()
    # the first probe may have left before the box changed its mind
    wait_until(lambda: OTHER[0] <= path(t.de)["port"] <= OTHER[1], 3, lambda: f"the mapped port, is {path(t.de)}")
    p = path(t.de)
    assert p["remote"] == t.wild and p["learned"]
    carries(lab, t.west, t.east)
    sent, got = tcp_transfer(t.west, t.east, "10.9.1.2", 4 << 20)
    assert sent == got
    sent, got = tcp_transfer(t.east, t.west, "10.9.1.1", 4 << 20)
    assert sent == got


def test_peers_behind_one_nat(lab):
    """Three gateways behind one address: three ports, and nobody hears what is another's."""
    t = NatNet(lab)
    box, ends, wests = t.box(), [], []
    for n in (1, 2, 3):
        gw = box.gateway(f"west{n}")
        w, e = t.link(f"{t.east4} encap udp", "any encap udp")
        wests.append((gw, t.start(gw, [w])))
        ends.append(e)
    de = t.start(t.east, ends)
    de.wait_up("ipsec1", "ipsec2", "ipsec3")
    for gw, d in wests:
        d.wait_up()
    paths = [path(de, f"ipsec{n}") for n in (1, 2, 3)]
    assert {p["remote"] for p in paths} == {box.wild4} and len({p["port"] for p in paths}) == 3
    assert 4500 in {p["port"] for p in paths}, "the first one kept its port: the NAT is a usual one"
    for n, (gw, d) in enumerate(wests, 1):
        carries(lab, gw, t.east, n)
        assert d.link()["drops_in_total"] == 0 and "icv-fail" not in d.drop_reasons()


@FAMILIES
def test_rebinding_is_followed(lab, v):
    """The NAT forgets every mapping and gives another port, under traffic: the link never goes down."""
    t = behind(lab, v)
    t.de.wait_up()
    t.dw.wait_up()
    was = path(t.de)["port"]
    for ports in (OTHER, (50000, 50999), (4500, 4500)):
        t.nat.rebind(ports)
        wait_until(lambda: ports[0] <= path(t.de)["port"] <= ports[1], 1, lambda: f"a port of {ports}, is {path(t.de)}")
        need_ping(t.east, "10.9.1.1", timeout=1)
    assert was == 4500 and path(t.de)["remote"] == t.wild
    assert t.de.link()["flaps"] == t.dw.link()["flaps"] == 0
    need_ping(t.east, "10.9.1.1")  # one move in 100 ms is followed, and the box may have made a mapping between its old rule and its new one
    carries(lab, t.west, t.east)


def settled(d, seconds=2):
    """Nothing has left for a while: the reports of a new device's multicast groups are out."""
    last = [-1, 0.0]

    def same():
        now, n = time.monotonic(), d.link()["tx"]["packets"]
        if n != last[0]:
            last[:] = n, now
        return now - last[1] > seconds

    wait_until(same, 15, "quiet")


def test_rebinding_without_probes(lab):
    """Nothing but West's own data tells East of the new port; until it comes, East's go to the old one."""
    t = behind(lab, liveness="off")
    t.dw.wait_up()
    need_ping(t.west, "10.9.1.2")
    settled(t.dw)
    t.nat.rebind(OTHER)
    assert not ping(t.east, "10.9.1.1", count=2, timeout=0.3), "the old mapping is gone"
    assert path(t.de)["port"] == 4500
    need_ping(t.west, "10.9.1.2", timeout=2)
    assert OTHER[0] <= path(t.de)["port"] <= OTHER[1]
    need_ping(t.east, "10.9.1.1", timeout=2)


def test_address_of_the_nat_changes(lab):
    t = behind(lab)
    t.de.wait_up()
    t.dw.wait_up()
    t.nat.renumber(77)
    wait_until(lambda: path(t.de)["remote"] == t.nat.wild4, 2, lambda: f"{t.nat.wild4}, is {path(t.de)}")
    assert t.de.link()["flaps"] == t.dw.link()["flaps"] == 0
    carries(lab, t.west, t.east)


def test_own_address_behind_the_nat_changes(lab):
    """DHCP gives West another address; to East only the mapping changes."""
    t = behind(lab)
    t.de.wait_up()
    t.west.ip("addr del 192.168.11.2/24 dev eth1", "addr add 192.168.11.99/24 dev eth1",
              "route replace default via 192.168.11.1")
    t.nat.rebind(OTHER)
    wait_until(lambda: path(t.de)["port"] in range(OTHER[0], OTHER[1] + 1), 3, lambda: f"the new port, is {path(t.de)}")
    t.dw.wait_up()
    need_ping(t.east, "10.9.1.1")  # the box forgets a mapping made meanwhile; one move in 100 ms is followed
    carries(lab, t.west, t.east)


@FAMILIES
def test_both_behind_nat(lab, v):
    """Two NAT boxes; one forwards UDP 4500 to its gateway. Both ends know only the other's wild side."""
    t = NatNet(lab)
    a, b = t.box(), t.box()
    west, east = a.gateway("west"), b.gateway("east2")
    b.forward(east)
    a.rebind(OTHER)
    w, e = t.link(f"{b.wild4 if v == 4 else b.wild6} encap udp", "any encap udp")
    dw, de = t.start(west, [w]), t.start(east, [e])
    dw.wait_up()
    de.wait_up()
    assert path(de)["remote"] == (a.wild4 if v == 4 else a.wild6)
    assert OTHER[0] <= path(de)["port"] <= OTHER[1]
    assert path(dw)["remote"] == (b.wild4 if v == 4 else b.wild6) and path(dw)["port"] == 4500
    carries(lab, west, east)
    a.rebind((50000, 50999))
    wait_until(lambda: 50000 <= path(de)["port"] <= 50999, 1, lambda: f"followed, is {path(de)}")
    carries(lab, west, east)
    assert de.link()["flaps"] == 0


# --- keepalives ---

def keepalives(lab, ns):
    """Keepalives that ns sent, as frames."""
    return [f for f in map(Frame, lab.tap.pcap(ns, "eth1", True)) if f.proto == 17 and f.dport == 4500 and f.body == b"\xff"]


@FAMILIES
def test_keepalives_hold_the_mapping(lab, v):
    """A NAT that forgets after 2 s, no probes: East still gets through to West after 4 s; one byte, from 4500."""
    t = behind(lab, v, liveness="off", keepalive="1s")
    t.nat.forget_after(2)
    t.dw.wait_up()
    need_ping(t.west, "10.9.1.2")
    before = t.de.json("drops")["global"]
    wait_until(lambda: len(keepalives(lab, t.west)) >= 4, 9, "four keepalives")
    assert ping(t.east, "10.9.1.1", count=3), "the mapping still leads to West"
    sent = keepalives(lab, t.west)
    assert {f.sport for f in sent} == {4500} and all(len(f.ip) == (29 if v == 4 else 49) for f in sent)
    assert t.dw.link()["keepalive"]["sent"] == len(sent) and t.dw.link()["keepalive"]["interval_ms"] == 1000
    heard = t.de.json("drops")["global"]
    wait_until(lambda: t.de.json("drops")["global"]["keepalives"] >= before["keepalives"] + 4, 2, "East counts them")
    assert heard["drops"] == before["drops"], "and nothing else comes of them"


def test_without_keepalives_the_mapping_goes(lab):
    """The same without: so it was they."""
    t = behind(lab, liveness="off", keepalive="off")
    t.nat.forget_after(2)
    t.dw.wait_up()
    need_ping(t.west, "10.9.1.2")
    wait_until(lambda: not ping(t.east, "10.9.1.1", count=1, timeout=0.3) or time.sleep(3), 15, "the mapping to expire")
    assert not keepalives(lab, t.west) and t.dw.link()["keepalive"] == {"interval_ms": None, "sent": 0}
    need_ping(t.west, "10.9.1.2", timeout=2)


@pytest.mark.parametrize("busy", ["data", "probes"])
def test_no_keepalive_beside_traffic(lab, busy):
    """Whatever else is sent keeps the mapping: in those seconds no keepalive goes. East's own traffic is no reason."""
    t = behind(lab, liveness="off" if busy == "data" else "500ms x 3", keepalive="1s")
    t.dw.wait_up()
    need_ping(t.west, "10.9.1.2")
    had = len(keepalives(lab, t.west))
    if busy == "data":
        ping(t.west, "10.9.1.2", count=15, interval=0.2)
    else:
        stays(lambda: t.dw.is_up(), 3, "up", poll=0.1)
    assert len(keepalives(lab, t.west)) == had == t.dw.link()["keepalive"]["sent"]


def test_keepalives_leave_by_the_rules_of_the_path(lab):
    """fwmark and protect = everything: they go where envelopes go, and the guards let them."""
    t = NatNet(lab)
    t.nat = t.box()
    west = t.nat.gateway("west")
    w, e = t.link(f"{t.east4} encap udp fwmark 0x51", "any encap udp", liveness="off", keepalive="1s",
                  protect="0.0.0.0/0, ::/0", inner="0.0.0.0/0, ::/0")
    west.ip("route del default", "route add default via 192.168.11.1 table 51", "rule add fwmark 0x51 lookup 51")
    dw = t.start(west, [w])
    t.start(t.east, [e])
    wait_until(lambda: dw.link()["keepalive"]["sent"] >= 2, 5, lambda: f"keepalives: {dw.link()}")
    assert len(keepalives(lab, west)) >= 2 and not dw.json("drops")["global"]["drops"]["guard-cleartext"]


@pytest.mark.parametrize("esp", ["ours", "shared"])
def test_a_keepalive_moves_nothing(lab, esp):
    """From anywhere, in any number: no endpoint, nothing in the link's books, no answer."""
    t = behind(lab, esp=esp)
    t.de.wait_up()
    t.dw.wait_up()
    was, books, since = path(t.de), t.de.json("drops")["links"][0]["in"], len(lab.tap.pcap(t.east, "eth1", True))
    atk = lab.attacker(t.cloud, "to-east", t.east)
    for n in range(50):
        atk.ip(IP(src=t.wild, dst=t.east4, id=n) / UDP(sport=1024 + n, dport=4500) / Raw(b"\xff"))
    wait_until(lambda: t.de.json("drops")["global"]["keepalives"] >= 50, 2, "50 keepalives counted")
    assert path(t.de) == was and t.de.json("drops")["links"][0]["in"] == books
    out = list(map(Frame, lab.tap.pcap(t.east, "eth1", True)[since:]))
    assert not [f for f in out if f.proto == 1 or f.proto == 17 and f.dport in range(1024, 1074)]


# --- UDP checksums ---

NO_CHECK = {4: (socket.SOL_SOCKET, 11), 6: (socket.IPPROTO_UDP, 101)}  # SO_NO_CHECK, UDP_NO_CHECK6_TX


@FAMILIES
@pytest.mark.parametrize("inp", ["xdp", "socket"])
@pytest.mark.parametrize("summed", [True, False], ids=["sum", "nosum"])
def test_peers_with_and_without_checksums(lab, v, inp, summed):
    """RFC 3948 2.1: both are taken, in IPv6 too (RFC 6935: the ICV says more); ours always have one."""
    t = lab.peer_bed(outer=v, encap="udp", input=inp)
    t.b.run("ethtool -K eth1 tx off")  # what its socket makes is what the wire carries
    if not summed:
        t.peer.sock.setsockopt(*NO_CHECK[v], 1)
    for n in range(100):
        t.peer.send(IP(src="10.2.0.2", dst="10.1.0.2", id=n) / UDP(sport=7, dport=4242) / Raw(bytes(n)))
    wait_until(lambda: t.da.link()["rx"]["packets"] == 100, 3, lambda: f"100 packets: {t.da.ctl('drops').stdout}")
    sums = {f.udp_sum for f in map(Frame, lab.tap.pcap(t.b, "eth1", True)) if f.esp is not None}
    assert len(sums) > 90 and 0 not in sums if summed else sums == {0}
    s = t.h1.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendto(b"back", ("10.2.0.2", 4242))
    s.close()
    wait_until(lambda: [o for _, o in t.peer.opened if o.next == 4], 3, "an envelope back")
    kernel = MODE and v == 4  # RFC 3948 2.1 has it SHOULD be zero
    assert all(bool(f.udp_sum) != bool(kernel) for f, _ in t.peer.opened)


@FAMILIES
@pytest.mark.parametrize("inp", ["xdp", "socket"])
def test_a_damaged_header_is_not_believed(lab, v, inp):
    """Authentic inside, address or port damaged on the way: the UDP checksum knows, and the endpoint stays.

    XDP delivers what is inside, the stack, by which the kernel's states have it, does not. The same with a right checksum, or with none, is a peer that moved.
    """
    t = lab.peer_bed(outer=v, encap="udp", input=inp)
    atk, ip = lab.attacker(t.b, "eth1", t.a), IP if v == 4 else IPv6
    near = {4: "198.51.100.66", 6: "2001:db8::66"}[v]
    t.peer.send_raw(t.peer.seal(raw(IP(src="10.2.0.2", dst="10.1.0.2") / UDP(dport=4242))))
    wait_until(lambda: path(t.da)["learned"] or t.da.link()["rx"]["packets"] == 1, 2, "heard")
    was = path(t.da)

    def shoot(src, sport, chksum):
        esp = t.peer.seal(raw(IP(src="10.2.0.2", dst="10.1.0.2") / UDP(dport=4242)))
        p = ip(src=src, dst=t.peer.remote) / UDP(sport=sport, dport=4500, chksum=chksum) / Raw(esp)
        if chksum == "of another":  # what the true header's checksum would be: one of address and port is damaged
            p[UDP].chksum = None
            true = ip(raw(ip(src=t.peer.local, dst=t.peer.remote) / UDP(sport=4500, dport=4500) / Raw(esp)))
            p[UDP].chksum = true[UDP].chksum
        atk.ip(p)

    had = t.da.link()["rx"]["packets"]
    for n in range(5):
        shoot(near, 4500, "of another")
        shoot(t.peer.local, 4999, "of another")
        time.sleep(0.15)  # longer than moves are rate-limited: each of them could have moved it
    if inp == "xdp" and not MODE:
        wait_until(lambda: t.da.link()["rx"]["packets"] == had + 10, 2, "what is inside is authentic, and delivered")
    else:
        assert t.da.link()["rx"]["packets"] == had
    assert path(t.da) == was
    for src, sport, chksum in ((near, 4500, None), (near, 4999, 0), (t.peer.local, 4500, None)):
        time.sleep(0.15)
        shoot(src, sport, chksum)
        wait_until(lambda: (path(t.da)["remote"], path(t.da)["port"]) == (src, sport), 2, lambda: f"{src} {sport}, is {path(t.da)}")


# --- IKE beside it ---

def test_ike_shares_the_mapping(lab):
    """IKE daemons on both ends, of another user: IKE comes to IKE, ESP to us, through one port of the NAT."""
    t = behind(lab)
    ike_e = Ike(lab, t.east)
    t.nat.rebind(OTHER)
    t.dw.wait_up()
    t.de.wait_up()
    need_ping(t.east, "10.9.1.1")  # one move in 100 ms is followed, and the box may have made a mapping between its old rule and its new one
    s = t.west.socket(socket.AF_INET, socket.SOCK_DGRAM)
    t.west.enter(s.bind, ("", 4500))  # West's own IKE daemon, started later
    s.settimeout(3)
    want = []
    for n in range(50):
        want.append(MARKER + b"IKE%03d" % n)
        s.sendto(want[-1], (t.east4, 4500))
        assert s.recvfrom(200) == (want[-1] + b"-answer", (t.east4, 4500))
        if n % 10 == 0:
            assert ping(t.west, "10.9.1.2", count=1)
    assert ike_e.got() == want, "East's IKE daemon got its own and nothing else"
    ports = {path(t.de)["port"]}
    came = {f.sport for f in map(Frame, lab.tap.pcap(t.east, "eth1", False)) if f.proto == 17 and f.dport == 4500 and f.body[:4] == MARKER}
    assert came == ports, "one mapping for both"
    s.setblocking(False)
    with pytest.raises(BlockingIOError):
        s.recv(100)
    s.close()
