# SPDX-License-Identifier: GPL-2.0-or-later
"""The tree's namespace tests once more where the kernel carries whatever links it can (`backend = auto`).

Left out: test_restart's release, after which the durable mark stands up to 1024 numbers above what was taken; a
worker's probes tell the peer to jump there, the kernel's ESP has no such word. A case in which no link came to the
kernel proves nothing here and counts as skipped, with ipsecd's own reason.
"""
from guest import Case, Shared, Skip
from suite_net import LIMIT, Run, judge

CUT = {
    "test_traffic": ["test_ping[esp4]", "test_ping[esp6]", "test_ping_larger_than_the_link[esp4]", "test_tcp_hash[esp4-v4]", "test_tcp_hash[esp6-v6]",
                     "test_udp_every_size[esp4-v4]", "test_counters_are_exact[esp4]", "test_cleartext_to_the_peer_is_allowed",
                     "test_suites[aes-gcm-128-openssl]", "test_suites[chacha20-poly1305-openssl]", "test_ping[udp4]", "test_ping[udp6]", "test_tcp_hash[udp4-v4]", "test_counters_are_exact[udp6]"],
    "test_pmtu": ["test_path_mtu_is_learned_exactly[esp4]", "test_path_mtu_is_learned_exactly[udp4]", "test_path_mtu_is_learned_exactly[esp6]",
                  "test_what_was_learned_ages[esp6]", "test_device_and_route_are_followed"],
    "test_link": ["test_properties", "test_routes_and_floors", "test_workload_namespace"],
    "test_failclosed": ["test_each_layer_alone_may_fall[nft_flush-e6_better_route-killed]",
                        "test_each_layer_alone_may_fall[tc_del-policy_table-killed]", "test_no_spoofed_cleartext_in[none-killed]"],
}
QUICK = 1  # of each module


def by_kernel(run, name, case):
    backends = judge(run, name, case)["backends"]
    if not any(b.startswith("xfrm") for b in backends):
        raise Skip("; ".join(backends) or "no link at the end")
    case.note(" ".join(b.split(":")[0] for b in backends))


def cases(job):
    names = [f"{m}.py::{t}" for m, tests in CUT.items() for t in tests[:QUICK if job["quick"] else None]]
    these = {n for s, n in job["these"] or () if s == "backend"}
    names = [n for n in names if (job["only"] or "") in n.replace(".py", "") and (not these or n.replace(".py", "") in these)]
    run = Shared(lambda: Run(names, ESPWIRE_TEST_BACKEND="auto")).get
    return [Case(name.replace(".py", ""), lambda case, name=name: by_kernel(run, name, case), limit=LIMIT) for name in names]
