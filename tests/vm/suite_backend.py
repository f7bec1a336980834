# SPDX-License-Identifier: GPL-2.0-or-later
"""The tree's namespace tests once more where the kernel carries whatever links it can (`backend = auto`).

Left out is what the kernel does otherwise: test_restart's release and its lost memory (the durable mark stands up to 1024 numbers above
what was taken; a worker's probes tell the peer to jump there, the kernel's ESP has no such word), its books after kill -9 (what a
state carried meanwhile is in nobody's), its lists of policies (made again, they stand in another order); reasons of drops that are the
kernel's own (`in_funnel`): test_lifetime's hard limits, no-route, link-down; probes and what asks by them (test_liveness's first case,
renewal by soft limits, test_paths: suite_xpaths is its counterpart); test_shortcut, which is a worker's; ICMP errors that nobody can check, which the
kernel believes (test_pmtu's forgeries). A case in which no link came to the kernel proves nothing here and counts as skipped, with ipsecd's own reason.
"""
from guest import Case, Shared, Skip
from suite_net import LIMIT, Run, judge

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
    "test_loops": ["test_three_deep"],
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
