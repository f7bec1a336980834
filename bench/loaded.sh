#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# loaded.sh [plain|espwire]: ping beside one TCP stream over a 50 Mbit/s uplink (tbf), p50 and p99 in us.
# The same shaped wire with and without the tunnel: what queues does espwire itself add?
# PEERS=directory of topo.sh. env: RATE=50mbit DUR=8 INPUT=auto B=build
set -eu
ROOT=$(cd "$(dirname "$0")/.." && pwd)
export INNER_MTU=${INNER_MTU:-1400} P=${P:-ld} RUN=${RUN:-/tmp/loaded-run}
RATE=${RATE:-50mbit} DUR=${DUR:-8} B=${B:-$ROOT/build}

measure() { # label
	ip netns exec "$HR" timeout $((DUR + 10)) iperf3 -s -1 -p 5301 >/dev/null 2>&1 &
	sleep 0.5
	ip netns exec "$HL" timeout $((DUR + 5)) iperf3 -c 10.91.2.2 -p 5301 -t "$DUR" -f m >"$RUN/tcp" 2>&1 &
	sleep 2
	ip netns exec "$HL" ping -i 0.01 -c $(((DUR - 3) * 100)) 10.91.2.2 | sed -n 's/.*time=\([0-9.]*\) ms/\1/p' | sort -n >"$RUN/rtt"
	wait
	awk -v l="$1" -v t="$(awk '/receiver/{print $7}' "$RUN/tcp")" '{v[NR]=$1} END{printf "%-8s p50 %.1f ms  p99 %.1f ms  n %d  tcp %s Mbit/s\n", l, v[int(NR/2)], v[int(NR*.99)], NR, t}' "$RUN/rtt"
}

shape() {
	local g
	for g in "$GL" "$GR"; do ip netns exec "$g" tc qdisc add dev wan root tbf rate "$RATE" burst 32kb latency 50ms; done
}

if [ "${1:-}" = plain ]; then
	. "${PEERS:?}/topo.sh"
	plain_up() { up; plain_routes; }
	plain_up
	trap down EXIT
	shape
	measure plain
	exit
fi
# the tunnel: bench/espwire.sh brings it up and runs this file as its measurement
if [ "${1:-}" = inside ]; then
	. "${PEERS:?}/topo.sh"
	shape
	measure espwire
	exit
fi
MEASURE="$0 inside" "$ROOT/bench/espwire.sh"
