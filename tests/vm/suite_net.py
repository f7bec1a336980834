# SPDX-License-Identifier: GPL-2.0-or-later
"""A cut of the tree's namespace tests on this kernel: those that lean on what differs between kernels.

They run in one pytest, each is a case. Left out is what measures time, because an emulated second is short,
and what is arithmetic.
"""
import os
import subprocess
import xml.etree.ElementTree as ET

from guest import Case, Shared
from lib.util import BUILD, ROOT

# module -> cases; the quick cut takes the first of each
CUT = {
    "test_traffic": ["test_tcp_hash[udp4-v4]", "test_ping[esp4]", "test_ping[udp6]", "test_tcp_hash[esp6-v6]", "test_udp_gso", "test_input_by_sockets",
                     "test_counters_are_exact[udp6]", "test_two_workers", "test_bad_inner_checksum_stays_bad"],
    "test_link": ["test_properties", "test_addresses", "test_routes_and_floors", "test_workload_namespace", "test_forwarding_left_as_found",
                  "test_started_by_ip_netns_exec"],
    "test_failclosed": ["test_each_layer_alone_may_fall[nft_flush-e6_better_route-killed]",
                        "test_each_layer_alone_may_fall[xfrm_flush-e6_better_route-killed]",
                        "test_each_layer_alone_may_fall[tc_del-policy_table-killed]", "test_no_leak[e4_deleted-alive]",
                        "test_removed_layer_comes_back[xfrm_flush]", "test_no_spoofed_cleartext_in[none-killed]",
                        "test_full_tunnel_of_a_gateway_keeps_its_lan", "test_backend_namespace_is_a_dead_end"],
    "test_natt_port": ["test_ike_gets_ike_and_we_get_ours[after-o4-xdp]", "test_ike_gets_ike_and_we_get_ours[before-o6-socket]",
                       "test_fragments_of_envelopes_come_to_us[o4-xdp-ike]"],
    "test_transport": ["test_two_hosts[o4-udp-xdp]", "test_two_hosts[o6-esp-socket]", "test_through_a_nat[xdp]",
                       "test_nothing_in_the_clear_without_the_link[o4]"],
    "test_silence": ["test_no_answer[running-udp]", "test_no_answer[all-killed-esp]"],
    "test_restart": ["test_same_objects_after_kill", "test_books_survive_the_daemon", "test_release_leaves_nothing_and_start_works_again"],
    "test_drops": ["test_nobody_at_the_next_hop[o4-esp]", "test_firewall_refuses_the_envelope"],
}


class Run:
    """One pytest over everything; its XML is the verdicts."""

    def __init__(self, ids, limit):
        self.xml = "/tmp/net.xml"
        argv = ["/usr/bin/python3", "-m", "pytest", f"--junit-xml={self.xml}", "-q", *ids]
        env = dict(os.environ, ESPWIRE_BUILD=BUILD, ESPWIRE_TEST_FULL="", PYTHONDONTWRITEBYTECODE="1")
        p = subprocess.run(argv, cwd=f"{ROOT}/tests/net", env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           errors="replace", timeout=limit)
        self.text = p.stdout
        self.found = {f"{c.get('classname').split('.')[-1]}::{c.get('name')}": c for c in ET.parse(self.xml).getroot().iter("testcase")}

    def close(self):
        pass


def judge(run, name, case):
    c = run().found.get(name)
    assert c is not None, f"it did not run: {run().text[-3000:]}"
    case.note(f"{float(c.get('time')):.1f} s by itself")
    for kind in ("failure", "error", "skipped"):
        bad = c.find(kind)
        assert bad is None, f"{kind}: {bad.get('message')}\n{(bad.text or '')[-6000:]}"


def cases(job):
    names = [(m, t) for m, tests in CUT.items() for t in (tests[:1] if job["quick"] else tests)]
    limit = 60 + 40 * len(names)
    run = Shared(lambda: Run([f"{m}.py::{t}" for m, t in names], limit - 20)).get
    return [Case(f"{m}::{t}", lambda case, m=m, t=t: judge(run, f"{m}::{t}", case), limit=limit) for m, t in names]
