#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# espwire.sh [TEST...]: espwire on both gateways of the peer scripts' topology, measured by their
# measure.sh, so that the figures stand beside the peers' own. PEERS=directory of topo.sh.
# Everything a user has is on: guards on all layers, counters, liveness, a firewall rule.
# MEASURE=command runs that instead of measure.sh. env: ALG=aes-gcm-128 ENCAP=udp|esp INPUT=auto|xdp|socket WORKERS=1 CRYPTO=auto, and measure.sh's
set -eu
ROOT=$(cd "$(dirname "$0")/.." && pwd)
PEERS=${PEERS:?directory with topo.sh and measure.sh of the peer scripts}
B=${B:-$ROOT/build}
. "$PEERS/topo.sh"
ALG=${ALG:-aes-gcm-128} ENCAP=${ENCAP:-udp} INPUT=${INPUT:-auto} WORKERS=${WORKERS:-1} CRYPTO=${CRYPTO:-auto}
W=$(mktemp -d)
PIDS=()

stop() {
	local p g
	for p in "${PIDS[@]}"; do kill "$p" 2>/dev/null || true; done
	for p in "${PIDS[@]}"; do wait "$p" 2>/dev/null || true; done
	for g in "$GL" "$GR"; do
		nsenter --net="/run/netns/$g" "$B/ipsecctl" -i "$g" release --yes >/dev/null 2>&1 || true
		rm -rf "/var/lib/ipsec/$g"
	done
	rm -rf "$W"
	down
}

conf() { # me peer my-number its-number
	cat <<-E
	[ipsecd]
	workers = $WORKERS
	crypto = $CRYPTO
	[underlay]
	devices = wan
	input = $INPUT
	[link ipsec1]
	peer = $2
	address = 10.93.0.$3 peer 10.93.0.$4
	path = 10.92.0.$4 encap $ENCAP
	inner = 10.91.$4.0/24
	protect = 10.91.$4.0/24
	sa = file:$W/$1/$2.sa
	E
}

start() { # me peer my-number its-number
	conf "$@" >"$W/$1.conf"
	"$B/ipsecctl" -i "$1" static init "$W/$1/$2.sa" >/dev/null
	# measured with a firewall in the way, as users have one
	ip netns exec "$1" nft "add table inet bench; add chain inet bench out { type filter hook output priority 0; }; add rule inet bench out meta l4proto { esp, udp } counter"
	nsenter --net="/run/netns/$1" "$B/ipsecd" -i "$1" -f "$W/$1.conf" 2>"$W/$1.log" &
	PIDS+=($!)
}

up
trap stop EXIT
"$B/ipsecctl" static pair "$GL" "$GR" --alg "$ALG" -o "$W" >/dev/null
start "$GL" "$GR" 1 2
start "$GR" "$GL" 2 1
for _ in $(seq 100); do
	ip -n "$GL" -br link show ipsec1 2>/dev/null | grep -q ' UP ' &&
		ip -n "$GR" -br link show ipsec1 2>/dev/null | grep -q ' UP ' && break
	sleep 0.1
done
ip -n "$GL" route add 10.91.2.0/24 dev ipsec1 mtu "$INNER_MTU"
ip -n "$GR" route add 10.91.1.0/24 dev ipsec1 mtu "$INNER_MTU"
ip netns exec "$HL" ping -c 2 -W 2 10.91.2.2 >/dev/null || { echo "no connectivity"; cat "$W"/*.log; exit 1; }
echo "# port 4500: $(ip netns exec "$GL" ss -Hlunp 'sport = 4500' | grep -o '"[a-z]*"' | sort -u | tr '\n' ' ')" \
	"input $INPUT, workers $WORKERS, $ENCAP, $ALG, $(uname -r)"
[ -z "${MEASURE:-}" ] || { $MEASURE; exit; }
TPIDS="${PIDS[*]}" "$PEERS/measure.sh" "${LABEL:-espwire-$INPUT-$ENCAP-offload-$OFFLOAD}" "$@"
