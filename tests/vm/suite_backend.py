# SPDX-License-Identifier: GPL-2.0-or-later
"""The tree's namespace tests once more where the kernel carries the links.

backend:xfrm, backend:mixed, backend:mixed-back (tests/net/lib/carried.py): every one of them but what backend_table.py gives a reason for,
so that a new test runs here, or somebody says why not. Hours of an emulated machine: `make test-vm-backend`.
backend: a cut of the first.

A case in which no link came to the kernel proves nothing here. It counts as skipped where ipsecd has said what of the link only a
worker does; else it fails, for want of a reason.
"""
import os
import re
import subprocess

import backend_table
from guest import Case, Shared, Skip, wanted
from lib.util import ROOT
from suite_net import LIMIT, Run, ended

CUT = {
    "test_traffic": ["test_ping[esp4]", "test_ping[esp6]", "test_ping_larger_than_the_link[esp4]", "test_tcp_hash[esp4-v4]", "test_tcp_hash[esp6-v6]",
                     "test_udp_every_size[esp4-v4]", "test_counters_are_exact[esp4]", "test_cleartext_to_the_peer_is_allowed",
                     "test_suites[aes-gcm-128-openssl]", "test_suites[chacha20-poly1305-openssl]", "test_ping[udp4]", "test_ping[udp6]", "test_tcp_hash[udp4-v4]", "test_counters_are_exact[udp6]"],
    "test_pmtu": ["test_path_mtu_is_learned_exactly[esp4]", "test_path_mtu_is_learned_exactly[udp4]", "test_path_mtu_is_learned_exactly[esp6]",
                  "test_what_was_learned_ages[esp6]", "test_device_and_route_are_followed"],
    "test_mss": ["test_out[yes-1406-1386]", "test_in[yes-1406-1386]", "test_behind_extension_headers"],
    "test_lifetime": ["test_no_restart_renews_time"],
    "test_restart": ["test_capture_replayed_after_receiver_restart[pins-kept]", "test_stale_instance_is_adopted_not_refused"],
    "test_rekey": ["test_add_and_del", "test_successor_takes_over_when_life_ends"],
    "test_liveness": ["test_wire_cut", "test_far_device_shut[down]", "test_link_del_leaves_the_others_floor", "test_guardian_killed_is_replaced"],
    "test_drops": ["test_ttl_0"],
    "test_transport": ["test_two_hosts[o4-esp-xdp]", "test_two_hosts[o6-udp-socket]", "test_header_fields_survive", "test_what_is_not_carried[options]",
                       "test_what_is_not_carried[fragment-6]", "test_destination_options_go_inside", "test_dummies_and_bad_next_headers",
                       "test_scapy_is_the_other_host[aes-gcm-128-True-4-esp]", "test_scapy_is_the_other_host[aes-gcm-256-False-6-esp]",
                       "test_scapy_is_the_other_host[chacha20-poly1305-True-4-udp]"],
    "test_seed_transport": ["test_5_a_host_that_does_not_rewrite[4]", "test_5_a_host_that_does_not_rewrite[6]", "test_5_ike_by_the_real_interface",
                            "test_2_2_vxlan_carries_what_is_not_ip[own]"],
    "test_failclosed": ["test_each_layer_alone_may_fall[nft_flush-e6_better_route-killed]",
                        "test_each_layer_alone_may_fall[tc_del-policy_table-killed]", "test_no_spoofed_cleartext_in[none-killed]"],
}
QUICK = 1  # of each module
WHOLE_LIMIT = 480
# counts that a quarter of an hour of an emulated machine would go into
FEWER = {"ESPWIRE_MUTANTS": "3000", "ESPWIRE_MUTANTS_RATE": "2000", "ESPWIRE_REPLAY": "500", "ESPWIRE_IMPAIRED": "600", "ESPWIRE_LINKS": "50",
         "ESPWIRE_INERTIA_LINKS": "20", "ESPWIRE_RENUMBER_LINKS": "20", "ESPWIRE_RESTARTS": "3", "IKE_STORM": "5"}


def by_kernel(run, name, case, mode):
    line = ended(run, name, case)
    if line["outcome"] == "skipped":
        raise Skip(line["why"])
    assert line["outcome"] == "passed", f"{line['outcome']}\n{line['why']}"
    ends = line["backends"]  # of each ipsecd
    said = {w for end in ends for w in end}
    if not any(w.startswith("xfrm") for w in said):
        left = sorted(w.partition("cannot carry it: ")[2] for w in said if "cannot carry it" in w)
        assert left, f"no link came to the kernel, so this proves nothing: give it a reason in backend_table.py ({said or 'no link'})"
        raise Skip(f"{backend_table.WORKERS}: {'; '.join(left)}")
    if mode != "xfrm" and not any(w.startswith("afxdp") for w in said):
        raise Skip("one ipsecd: nothing to mix")
    case.note(" ".join(sorted({w.split(":")[0] for w in said})))


def collected():
    """Every case of tests/net."""
    argv = ["/usr/bin/python3", "-m", "pytest", "--collect-only", "."]
    p = subprocess.run(argv, cwd=f"{ROOT}/tests/net", capture_output=True, text=True, timeout=300)
    names = re.findall(r"(?m)^(test_\w+\.py::.+)$", p.stdout)
    assert len(names) > 500, f"{p.returncode} {p.stdout[-1000:]} {p.stderr[-1000:]}"
    return names


def skipped(reason):
    def skip(_):
        raise Skip(reason)
    return skip


def whole(job, mode):
    suite, found, names = f"backend:{mode}", [], []
    every = collected()
    idle = backend_table.idle([n.replace(".py", "") for n in every])
    run = Shared(lambda: Run(names, WHOLE_LIMIT, ESPWIRE_TEST_BACKEND=mode, **FEWER)).get
    for n in every:
        name = n.replace(".py", "")
        reason = backend_table.reason(name, mode)
        if not wanted(job, suite, name):
            continue
        if reason:
            found.append(Case(name, skipped(reason), every=len(every)))
        else:
            names.append(n)
            found.append(Case(name, lambda case, n=n: by_kernel(run, n, case, mode), limit=WHOLE_LIMIT, every=len(every)))

    def holds(_):
        assert not idle, f"no test has such a name: {idle}"
    return [Case("table", holds), *found]


def cases(job, mode=None):
    if mode:
        return whole(job, mode)
    names = [f"{m}.py::{t}" for m, tests in CUT.items() for t in tests[:QUICK if job["quick"] else None]]
    names = [n for n in names if wanted(job, "backend", n.replace(".py", ""))]
    run = Shared(lambda: Run(names, ESPWIRE_TEST_BACKEND="xfrm")).get
    return [Case(n.replace(".py", ""), lambda case, n=n: by_kernel(run, n, case, "xfrm"), limit=LIMIT) for n in names]
