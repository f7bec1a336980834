# SPDX-License-Identifier: GPL-2.0-or-later
"""A cut of the tree's namespace tests on this kernel: those that lean on what differs between kernels.

They run in one pytest, each is a case that waits for its line. Left out is what measures time, because an emulated second is short,
and what is arithmetic.
"""
import json
import os
import subprocess
import tempfile

from guest import OUT, Case, Shared, wanted
from lib.util import BUILD, ROOT, wait_until

LIMIT = 240

# module -> cases; the quick cut takes the first of each on 6.1, which lacks most, and of these on what is newer
QUICK_NEWER = ("test_traffic", "test_bed", "test_failclosed", "test_natt_port")
CUT = {
    "test_traffic": ["test_udp_gso", "test_datagrams_leave_in_trains", "test_ping[udp6]", "test_tcp_hash[udp4-v4]", "test_input_by_sockets", "test_counters_are_exact[udp6]",
                     "test_bad_inner_checksum_stays_bad"],
    "test_bed": ["test_tap_splits_super_packets"],
    "test_link": ["test_properties", "test_routes_and_floors", "test_workload_namespace", "test_started_by_ip_netns_exec"],
    "test_failclosed": ["test_each_layer_alone_may_fall[nft_flush-e6_better_route-killed]",
                        "test_each_layer_alone_may_fall[xfrm_flush-e6_better_route-killed]",
                        "test_each_layer_alone_may_fall[tc_del-policy_table-killed]", "test_removed_layer_comes_back[xfrm_flush]",
                        "test_no_spoofed_cleartext_in[none-killed]", "test_full_tunnel_of_a_gateway_keeps_its_lan"],
    "test_natt_port": ["test_ike_gets_ike_and_we_get_ours[after-o4-xdp]", "test_ike_gets_ike_and_we_get_ours[before-o6-socket]",
                       "test_fragments_of_envelopes_come_to_us[o4-xdp-ike]"],
    "test_transport": ["test_two_hosts[o4-udp-xdp]", "test_two_hosts[o6-esp-socket]", "test_through_a_nat[xdp]",
                       "test_nothing_in_the_clear_without_the_link[o4]"],
    "test_silence": ["test_no_answer[running-udp]", "test_no_answer[all-killed-esp]"],
    "test_restart": ["test_same_objects_after_kill", "test_books_survive_the_daemon", "test_release_leaves_nothing_and_start_works_again"],
    "test_drops": ["test_nobody_at_the_next_hop[o4-esp]", "test_firewall_refuses_the_envelope"],
}


class Run:
    """One pytest over everything, which takes seconds to start; streamed.py tells what became of each case."""

    def __init__(self, ids, limit=LIMIT, **more):
        self.dir, self.seen, self.at = tempfile.mkdtemp(), [], 0
        self.stream = f"{self.dir}/stream"
        argv = ["/usr/bin/python3", "-m", "pytest", "-p", "streamed", "-q", *ids]
        env = dict(os.environ, ESPWIRE_BUILD=BUILD, ESPWIRE_TEST_FULL="", ESPWIRE_TEST_SLOW="5", ESPWIRE_TEST_KEEP=f"{OUT}/failed",
                   STREAM=self.stream, CASE_LIMIT=str(limit - 30), PYTHONPATH=f"{ROOT}/tests/vm", **more)
        self.log = open(f"{self.dir}/log", "w+")
        self.proc = subprocess.Popen(argv, cwd=f"{ROOT}/tests/net", env=env, stdout=self.log, stderr=subprocess.STDOUT)

    def lines(self):
        """So far; each is read once."""
        try:
            with open(self.stream) as f:
                f.seek(self.at)
                for line in iter(f.readline, ""):
                    if not line.endswith("\n"):
                        break
                    self.seen.append(json.loads(line))
                    self.at = f.tell()
        except FileNotFoundError:
            pass
        return self.seen

    def found(self, name):
        """The line of a case; the last one when pytest has ended without it."""
        ended = self.proc.poll() is not None
        lines = self.lines()
        mine = [x for x in lines if x.get("id", "").endswith(name)]
        return mine[-1] if mine else {"outcome": f"not run, pytest ended {self.proc.returncode}", "why": self.text()} if ended else None

    def text(self):
        self.log.seek(0)
        return self.log.read()[-3000:]

    def close(self):
        self.proc.terminate()
        self.proc.wait(timeout=30)
        self.log.close()


def ended(run, name, case):
    r = run()
    line = wait_until(lambda: r.found(name), case.limit - 10, lambda: f"{name}: {r.lines()[-1:]} {r.text()}", poll=0.2)
    case.note(f"{line.get('seconds', 0)} s")
    return line


def judge(run, name, case):
    line = ended(run, name, case)
    assert line["outcome"] == "passed", f"{line['outcome']}\n{line['why']}"


def quickly(job, module):
    """How many cases of a module the cut takes."""
    return int(job["series"] == "6.1" or module in QUICK_NEWER) if job["quick"] else None


def cases(job):
    names = [f"{m}.py::{t}" for m, tests in CUT.items() for t in tests[:quickly(job, m)]]
    names = [n for n in names if wanted(job, "net", n.replace(".py", ""))]
    run = Shared(lambda: Run(names)).get
    return [Case(name.replace(".py", ""), lambda case, name=name: judge(run, name, case), limit=LIMIT) for name in names]
