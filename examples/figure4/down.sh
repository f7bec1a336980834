#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Take figure 4 away: daemons by their pid files, protection, namespaces, state. As root; P and DIR as
# for up.sh. Can be called at any time, also twice.
set -uo pipefail

P=${P:-f4}
DIR=${DIR:-/run/espwire-$P}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BIN=${BIN:-$HERE/../../build}
PATH=$BIN:$PATH:/usr/sbin:/sbin

alive() { [ -n "$1" ] && kill -0 "$1" 2>/dev/null; }

# A pid file may be older than its pid: the process must know the name.
ours() {
	tr '\0' ' ' < "/proc/$1/cmdline" 2>/dev/null | grep -q -e "$DIR/" -e " $P-" ||
		tr '\0' '\n' < "/proc/$1/environ" 2>/dev/null | grep -q "^STRONGSWAN_CONF=$DIR/"
}

stop() { # PIDFILE SIGNAL
	local pid
	pid=$(cat "$1" 2>/dev/null) || return 0
	if alive "$pid" && ours "$pid"; then
		kill "-$2" "$pid"
	fi
}

gone() { # PIDFILE...
	local f i
	for ((i = 0; i < 50; i++)); do
		for f in "$@"; do
			alive "$(cat "$f" 2>/dev/null)" && { sleep 0.1; continue 2; }
		done
		return 0
	done
	return 1
}

# who still finds its ipsecd deletes its SAs in it
for g in west east orient; do stop "$DIR/charon-$g.pid" TERM; done
gone "$DIR"/charon-{west,east,orient}.pid || for g in west east orient; do stop "$DIR/charon-$g.pid" KILL; done
for g in east orient; do stop "$DIR/$g.vrrp.pid" TERM; done
for g in west east orient; do stop "$DIR/$g.pid" TERM; done
if ! gone "$DIR"/{east,orient}.vrrp.pid "$DIR"/{west,east,orient}.pid; then
	for f in "$DIR"/*.pid; do stop "$f" KILL; done
	gone "$DIR"/*.pid
fi
release() {
	[ ! -e "/run/netns/$P-$1" ] || nsenter --net="/run/netns/$P-$1" -- ipsecctl -i "$P-$1" release --yes > /dev/null
	rm -rf "/var/lib/ipsec/$P-$1"
}

for g in west east orient; do release "$g" & done
wait
for n in sunset sunrise dawn west east orient cloud sunrise-net; do
	[ ! -e "/run/netns/$P-$n" ] || ip netns del "$P-$n"
done
rm -rf "$DIR"
