# SPDX-License-Identifier: GPL-2.0-or-later
"""What of tests/net does not run with the kernel as backend, and why. Everything else does (suite_backend.py).

A new test needs no line here: it runs. When it cannot, it gets one, with what the kernel does otherwise, or with what of a worker it
is about. A name stands for all its parameters, a module for all its tests; * is whatever. A name that no test has is a failure.
What ipsecd itself leaves to workers (`backend_why`) needs no line: the case says so, and is counted as the workers'.
"""
import re

NO_LINK = "no link of ipsecd's in it"
WORKERS = "a worker's own feature"
KERNEL = "the kernel does otherwise"
GUEST = "not for an emulated machine"
NOT_YET = "not yet"

EVERY, MIXED = ("xfrm", "mixed", "mixed-back"), ("mixed", "mixed-back")

# (group, reason, names, in which modes)
TABLE = [
    (NO_LINK, "the taps, the independent ESP and the key hunt themselves", "test_bed", EVERY),
    (NO_LINK, "the wire that loses and damages", "test_impair", EVERY),
    (NO_LINK, "the virtio header on a TAP", "test_gso_tap", EVERY),
    (NO_LINK, "an example brings its own configuration", "test_ike_examples", EVERY),
    (NO_LINK, "key files and refusals before any SA", "test_transport::test_refused_without_a_mark test_static_state::test_same_key_both_ways_is_refused test_static_state::test_key_file_modes", EVERY),

    (WORKERS, "several workers on one link (cores)", "test_cores", EVERY),
    (WORKERS, "dummies at a steady rate (cover)", "test_cover", EVERY),
    (WORKERS, "input = auto: sockets or XDP for a worker", "test_intake", EVERY),
    (WORKERS, "the shortcut ends at a worker (suite xfrm: shortcut_leaves_it)", "test_shortcut", EVERY),
    (WORKERS, "stages of a worker (perf)", "test_perf", EVERY),
    (WORKERS, "what an AF_XDP frame holds", "test_traffic::test_jumbo_wire test_traffic::test_wire_longer_than_a_funnel", EVERY),
    (WORKERS, "datagrams that leave it in trains", "test_traffic::test_datagrams_leave_in_trains", EVERY),
    (WORKERS, "the core a worker keeps", "test_link::test_worker_keeps_its_core_for_a_narrow_window", EVERY),
    (WORKERS, "shares, several paths at once, paths learned (suite xpaths: what the kernel has of it)", "test_paths test_seed_below::test_a_mark_and_a_table_for_every_path", EVERY),
    (WORKERS, "a link without an address in ipsecd.conf: who asks by echo has to be asked at one",
     "test_seed_above::test_3_3_addresses_by_others test_seed_above::test_3_3_addresses_by_networkd test_seed_above::test_3_3_device_made_by_others", EVERY),
    (WORKERS, "path = any in bare ESP", "test_inertia", EVERY),

    (WORKERS, "frames of a worker's funnel", "test_drops::test_a_stopped_worker_runs_out_of_frames", EVERY),
    (WORKERS, "after an outage of more than 2^32 numbers a worker finds the high half again (RFC 4303 A3), the kernel does not",
     "test_scapy_peer::test_resynchronises_after_an_outage test_scapy_peer::test_garbage_makes_nobody_search", EVERY),

    (KERNEL, "what becomes of an envelope behind its state nobody is told: it counts as emitted, and what finds no way as in_funnel",
     "test_seed_below::test_output_firewall_has_the_last_word test_drops::test_nobody_at_the_next_hop test_drops::test_no_route_to_the_peer test_drops::test_firewall_refuses_the_envelope "
     "test_drops::test_a_black_hole_on_the_way test_drops::test_queue_discipline_refuses test_drops::test_the_wire_is_too_slow", EVERY),
    (KERNEL, "of the wire's ECN marks it brings in CE alone, to whoever is ECN-capable inside (RFC 3168), and drops none for them (RFC 6040)",
     "test_drops::test_congestion_that_nobody_would_hear test_outer_header::test_congestion_comes_back", EVERY),
    (KERNEL, "it drops dummies unseen, probes among them: a peer's mark moves no numbers of ours",
     "test_drops::test_numbers_not_reserved_yet test_scapy_peer::test_dummy_packets_are_swallowed test_audit::test_sequence_overflow_is_told", EVERY),
    (KERNEL, "DF outside is that of IPv4 inside, and for CE inside it says ECT(0) outside (RFC 3168 9.1.1)", "test_outer_header::test_defaults", EVERY),
    (KERNEL, "while a successor makes a link's device anew, a predecessor's state opens what the peer seals: a tap at the receiver sees it (docs/backends.md)",
     "test_ike_deaths::test_who_waits_for_everybody_calls_back", EVERY),
    (KERNEL, "it counts no gaps in the numbers (`lost`)", "test_scapy_peer::test_a_sender_with_gaps_counts_true_loss", EVERY),
    (KERNEL, "bare ESP for a state in UDP it drops before any counter of the state's (XfrmInStateMismatch)", "test_scapy_peer::test_encap_mismatch", EVERY),
    (KERNEL, "it believes an ICMP error about what nobody has sent (docs/backends.md, MTU)", "test_pmtu::test_forged_errors_move_nothing", EVERY),
    (KERNEL, "it knows no probes that would tell the peer to go on above the durable mark, when the receiver has lost its memory",
     "test_restart::test_capture_replayed_after_receiver_restart[pins-lost] test_restart::test_release_leaves_nothing_and_start_works_again", EVERY),
    (KERNEL, "in bare ESP nobody hears from where an authentic packet came: a peer that moves is not followed (docs/backends.md, Several paths)",
     "test_roam::test_follows_an_authentic_packet[esp] test_roam::test_own_address_changes test_roam::test_forged_source_never_moves "
     "test_roam::test_moves_are_rate_limited", EVERY),
    (KERNEL, "an echo does not say which direction is lost (one-way)", "test_liveness::test_one_way_loss", EVERY),
    (KERNEL, "liveness by echo needs an SA that is for the link's addresses", "test_sasets::test_one_set_outlives_another", EVERY),
    (KERNEL, "in transport mode the source of what comes in is its state's, whatever the envelope's was (decision 77)",
     "test_transport::test_source_is_not_what_the_envelope_says", EVERY),
    (KERNEL, "it cuts no envelopes: the MTU of a link is at most what its path carries (suite xfrm: mtu_is_what_passes)",
     "test_sizes::test_every_length_cut_after test_outer_header::test_df_set_never_cuts", EVERY),
    (KERNEL, "where its ESP believes in less than 1280 bytes inside, IPv4 with DF that is longer is lost (docs/backends.md, MTU)",
     "test_pmtu::test_below_the_floor test_pmtu::test_a_narrow_ipv4_path test_pmtu::test_a_forger_on_the_path_meets_the_floor[esp4] "
     "test_pmtu::test_a_forger_on_the_path_meets_the_floor[udp4]", EVERY),
    (KERNEL, "an SA by which the peer sends nothing is not heard, no probe goes by it: the one before it stays", "test_sasets::test_3_5_renewal_stays_in_its_set", EVERY),
    (KERNEL, "IKE's SAs are for everything there", "test_sasets::test_3_5_children_of_ike", EVERY),
    (KERNEL, "it does not look at the bytes of the padding (RFC 4303 2.4: SHOULD)", "test_scapy_peer::test_wrong_packet_is_dropped_with_its_reason[bad-pad]", EVERY),
    (KERNEL, "what it cannot read as ESP under a true ICV it drops before any counter of the state's (XfrmInStateProtoError)",
     "test_scapy_peer::test_wrong_packet_is_dropped_with_its_reason[short-body] test_scapy_peer::test_wrong_packet_is_dropped_with_its_reason[pad-too-long]", EVERY),
    (KERNEL, "SAs are to be in the kernel there", "test_ike::test_as_debian_configures_it", EVERY),
    (KERNEL, "its states count bytes of the inner packet, a worker what the cipher is applied to", "test_lifetime::test_bytes_out test_lifetime::test_in[bytes]", EVERY),

    (GUEST, "milliseconds of routing daemons", "test_daemons::test_3_1_failover test_daemons::test_3_1_bgp test_daemons::test_3_1_flaps "
            "test_daemons::test_3_1_no_daemon_at_all", EVERY),
    (GUEST, "rates in packets a second", "test_ike_rate", EVERY),
    (GUEST, "a second, measured", "test_ike::test_up_within_a_second", EVERY),
]


def matches(pattern, name):
    """A name, without its parameters, or a module."""
    words = "".join(".*" if c == "*" else re.escape(c) for c in pattern)
    return re.fullmatch(words + r"(\[.*|::.*)?", name)


def lines(mode, name):
    return [(group, why) for group, why, patterns, modes in TABLE if mode in modes for p in patterns.split() if matches(p, name)]


def reason(name, mode):
    """None: it runs."""
    found = lines(mode, name)
    return ": ".join(found[0]) if found else None


def idle(names):
    """Patterns that no name matches."""
    return [p for _, _, patterns, _ in TABLE for p in patterns.split() if not any(matches(p, n) for n in names)]
