# SPDX-License-Identifier: GPL-2.0-or-later
"""`backend =` where the kernel cannot: refused with the reason and the way out, or given to the workers and said so.

On a kernel with ESP the same wishes are granted; what the kernel then does is proven in guests (tests/vm/suite_xfrm.py).
"""
import functools

from lib.daemon import Monitor
from lib.topo import NS
from lib.traffic import need_ping
from lib.util import sh, wait_until

STATE = ["xfrm", "state", "add", "src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "spi", "0x1234", "reqid", "1", "mode", "tunnel",
         "aead", "rfc4106(gcm(aes))", "0x" + "17" * 20, "128"]


@functools.lru_cache
def kernel_can():
    """Asked in iproute2's words, in a namespace of its own."""
    ns = NS("esp")
    try:
        return ns.ok(["ip", *STATE]) and ns.ok("ip link add xf type xfrm if_id 1")
    finally:
        sh(["ip", "netns", "del", ns.name])


def test_xfrm_is_granted_or_refused(lab):
    t = lab.two_gateways(hosts=False, start=False, backend="xfrm", liveness="off")
    t.da.start()
    if kernel_can():
        t.da.wait_up()
        assert t.da.link()["backend"] == "xfrm" and not t.da.link()["backend_why"]
        return
    l = t.da.link()
    assert (l["state"], l["reason"], l["carrier"], l["backend_configured"]) == ("down", "no-backend", False, "xfrm")
    assert "CONFIG_" in l["backend_why"] and not l["sas"]
    log = t.da.log_now()
    assert "backend = xfrm: this kernel" in log and "backend = auto" in log and "backend = afxdp" in log
    # protected all the same: the link's route has no carrier, the floor holds
    assert "unreachable 10.2.0.0/16" in t.a.out("ip route show type unreachable")
    assert not t.a.ok("ip route get 10.2.0.9")
    # the way out, as it was told
    t.da.ctl("link set ipsec1 backend auto")
    wait_until(lambda: t.da.is_up(), 5, lambda: f"up: {t.da.link()}")
    assert t.da.link()["backend"] == "afxdp"


def test_auto_takes_the_workers_and_says_so(lab):
    t = lab.two_gateways(hosts=False, backend="auto")
    l = t.da.link()
    assert l["backend_configured"] == "auto"
    if kernel_can():
        assert l["backend"] == "xfrm" and not l["backend_why"]
        return
    assert l["backend"] == "afxdp" and "this kernel" in l["backend_why"]
    assert f"backend afxdp: {l['backend_why']}" in t.da.log_now()
    assert "auto was asked for: this kernel" in t.da.ctl("show ipsec1", json_out=False).stdout
    need_ping(t.a, "10.9.0.2")
    m = Monitor(t.da)
    wait_until(lambda: m.saw(event="monitor-start"), 3, "the monitor")
    t.da.ctl("link set ipsec1 backend afxdp")
    assert t.da.link()["backend_why"] is None
    t.da.ctl("link set ipsec1 backend auto")
    wait_until(lambda: m.saw(event="link-backend", link="ipsec1", backend="afxdp", configured="auto", why=l["backend_why"]), 3,
               lambda: f"told: {m.events}")
    t.da.wait_up()


def test_a_running_link_keeps_what_it_has(lab):
    """A wish that cannot be granted changes nothing: not the SAs, not the state, not the configuration."""
    t = lab.two_gateways(hosts=False)
    before = t.da.link()
    p = t.da.ctl("link set ipsec1 backend xfrm", check=False, json_out=False)
    if kernel_can():
        assert p.returncode == 0
        return
    assert p.returncode == 1 and "this kernel" in p.stderr and "backend = auto" in p.stderr, p.stderr
    after = t.da.link()
    assert after["state"] == "up" and after["flaps"] == before["flaps"]
    assert [s["spi"] for s in after["sas"]] == [s["spi"] for s in before["sas"]]
    assert after["backend"] == after["backend_configured"] == "afxdp"
    assert "backend" not in t.da.ctl("show config", json_out=False).stdout
    need_ping(t.a, "10.9.0.2")


def test_offload_is_the_kernels_to_ask_for(lab):
    """Refused for a link of the workers, with the reason; where `auto` came to the workers, said; the configuration keeps the wish."""
    t = lab.two_gateways(hosts=False)
    before = t.da.link()
    assert before["offload"] == {"asked": "off", "device": None, "why": None}
    assert all(s["offload"] == {"mode": "off", "device": None, "why": None} for s in before["sas"])
    p = t.da.ctl("link set ipsec1 offload crypto", check=False, json_out=False)
    assert p.returncode and "backend = xfrm or auto" in p.stderr, p.stderr
    p = t.da.ctl("link set ipsec1 offload", ["fast eth1"], check=False, json_out=False)
    assert p.returncode and "none of: off, crypto, packet, auto" in p.stderr, p.stderr
    assert t.da.link()["offload"] == before["offload"] and t.da.is_up()
    t.da.ctl("link set ipsec1 backend auto offload", ["auto eth1"])
    l = t.da.link()
    assert (l["offload"]["asked"], l["offload"]["device"]) == ("auto", "eth1")
    assert "offload = auto eth1" in " ".join(t.da.ctl("show config", json_out=False).stdout.split())
    if kernel_can():
        assert l["offload"]["why"] is None
        return
    assert "backend_why" in l["offload"]["why"] and "not the kernel's" in t.da.ctl("show ipsec1", json_out=False).stdout
    p = t.da.ctl("link set ipsec1 backend afxdp", check=False, json_out=False)
    assert p.returncode and "offload = off" in p.stderr, p.stderr
    t.da.ctl("link set ipsec1 offload off backend afxdp")
    assert t.da.link()["offload"] == before["offload"]
    need_ping(t.a, "10.9.0.2")
