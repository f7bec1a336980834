#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Build figure 4 in network namespaces. As root: up.sh [STAGE...], without a stage all of them:
#   wires     namespaces, wires, addresses, routes; nothing of IPsec
#   keys      two pairs of key files, and their durable state on both ends; IKE=1: an authority and three certificates
#   gateways  ipsecd on West, East and Orient, IKE=1: and strongSwan's charon; waits until the three tunnels are up
#   firsthop  VRRP on Sunrise-net, so that its hosts find the gateway that has a tunnel
# IKE=1 needs strongSwan and `make ike`.
# Namespaces are called $P-west and so on; P is f4 unless set. Files go to /run/espwire-$P, or DIR.
# down.sh takes everything away again, whatever state this one left.
set -euo pipefail

P=${P:-f4}
DIR=${DIR:-/run/espwire-$P}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BIN=${BIN:-$HERE/../../build}
WAIT=${WAIT:-15} # seconds for the tunnels to come up
PATH=$BIN:$PATH:/usr/sbin:/sbin

IKE=${IKE:-}

HOSTS="sunset sunrise dawn"
GATEWAYS="west east orient"

fail() { echo "up.sh: $*" >&2; exit 1; }
in_ns() { local n=$1; shift; nsenter --net="/run/netns/$P-$n" -- "$@"; }

# wire NS DEV ADDR,ADDR  NS DEV ADDR,ADDR: a veth pair, both ends up and addressed
wire() {
	ip link add "$2" netns "$P-$1" type veth peer name "$5" netns "$P-$4"
	end "$1" "$2" "$3"
	end "$4" "$5" "$6"
}

end() {
	local a
	for a in ${3//,/ }; do
		[ "$a" = - ] || ip -n "$P-$1" addr add "$a" dev "$2"
	done
	ip -n "$P-$1" link set "$2" up
}

namespace() {
	ip netns add "$P-$1"
	# no waiting for duplicate address detection, no autoconfiguration in the way
	in_ns "$1" sysctl -qw net.ipv6.conf.{all,default}.{accept_dad=0,keep_addr_on_down=1} net.ipv6.conf.{all,default}.accept_ra=0 \
		net.ipv4.conf.{all,default}.rp_filter=0
	ip -n "$P-$1" link set lo up
}

forward() {
	in_ns "$1" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
		net.ipv4.conf.{all,default}.send_redirects=0
}

# A LAN is a switch of its own: Sunrise-net has three ports.
switch() {
	namespace "$1"
	ip -n "$P-$1" link add br0 type bridge mcast_snooping 0
	ip -n "$P-$1" link set br0 up
}

plug() { # NS DEV ADDRS SWITCH PORT
	wire "$1" "$2" "$3" "$4" "$5" -
	ip -n "$P-$4" link set "$5" master br0
}

wires() {
	local n
	for n in $HOSTS $GATEWAYS cloud; do namespace "$n"; done
	for n in $GATEWAYS cloud; do forward "$n"; done
	switch sunrise-net

	# the tame sides
	wire sunset eth0 10.1.0.10/16,fd01::10/64  west eth0 10.1.0.1/16,fd01::1/64
	wire dawn eth0 10.3.0.10/16,fd03::10/64  orient eth2 10.3.0.1/16,fd03::1/64
	plug sunrise eth0 10.2.0.10/16,fd02::10/64 sunrise-net host
	plug east eth0 10.2.0.2/16,fd02::2/64 sunrise-net east
	plug orient eth0 10.2.0.3/16,fd02::3/64 sunrise-net orient
	firstroute sunset 1
	firstroute sunrise 2
	firstroute dawn 3

	# the wild side: West has two uplinks, the others one each
	wire west eth1 192.0.2.2/24,2001:db8:1::2/64  cloud west1 192.0.2.1/24,2001:db8:1::1/64
	wire west eth2 198.51.100.2/24,2001:db8:2::2/64  cloud west2 198.51.100.1/24,2001:db8:2::1/64
	wire east eth1 203.0.113.2/25,2001:db8:3::2/64  cloud east 203.0.113.1/25,2001:db8:3::1/64
	wire orient eth1 203.0.113.130/25,2001:db8:4::2/64  cloud orient 203.0.113.129/25,2001:db8:4::1/64
	uplink west eth1 192.0.2.1 2001:db8:1::1 100
	uplink west eth2 198.51.100.1 2001:db8:2::1 200
	uplink east eth1 203.0.113.1 2001:db8:3::1 100
	uplink orient eth1 203.0.113.129 2001:db8:4::1 100
	for n in $HOSTS $GATEWAYS cloud; do settled "$n"; done
}

# The kernel makes new IPv6 addresses usable in its own time: seconds on a busy machine.
settled() {
	local end=$((SECONDS + WAIT))
	while [ -n "$(ip -n "$P-$1" -6 addr show tentative)" ]; do
		[ $SECONDS -lt $end ] || fail "IPv6 addresses of $1 stay tentative"
		sleep 0.05
	done
}

firstroute() { # HOST NET
	ip -n "$P-$1" route add default via "10.$2.0.1"
	ip -n "$P-$1" route add default via "fd0$2::1"
}

uplink() { # NS DEV GW4 GW6 METRIC
	# a dead uplink loses its routes; super-packets end at the wild wire, as on a real one
	in_ns "$1" sysctl -qw "net.ipv4.conf.$2.ignore_routes_with_linkdown=1" "net.ipv6.conf.$2.ignore_routes_with_linkdown=1"
	in_ns "$1" ethtool -K "$2" gso off tso off tx-udp-segmentation off >/dev/null
	ip -n "$P-$1" route add default via "$3" metric "$5"
	ip -n "$P-$1" route add default via "$4" metric "$5"
}

certificates() {
	local g
	for g in $GATEWAYS; do mkdir -p "$DIR/$g"; done
	(
		cd "$DIR"
		pki --gen --type ecdsa --size 256 --outform pem > ca.key
		pki --self --ca --in ca.key --dn "O=Figure 4, CN=authority" --outform pem > ca.crt
		for g in $GATEWAYS; do
			pki --gen --type ecdsa --size 256 --outform pem > "$g/host.key"
			pki --pub --in "$g/host.key" | pki --issue --cacert ca.crt --cakey ca.key --dn "O=Figure 4, CN=$g.example" \
				--san "$g.example" --outform pem > "$g/host.crt"
		done
	)
}

keys() {
	[ -z "$IKE" ] || { certificates; return; }
	ipsecctl static pair -o "$DIR" west east >> "$DIR/pair.log"
	ipsecctl static pair -o "$DIR" west orient >> "$DIR/pair.log"
	ipsecctl -i "$P-west" static init "$DIR/west/east.sa" "$DIR/west/orient.sa"
	ipsecctl -i "$P-east" static init "$DIR/east/west.sa"
	ipsecctl -i "$P-orient" static init "$DIR/orient/west.sa"
}

# One ipsecd; the demo calls it again after it has killed one.
gateway() {
	if [ -n "$IKE" ]; then
		{ printf '[ipsecd]\nvici-socket = %s\n\n' "$DIR/charon-$1/vici"
		sed "s,^sa .*/\(.*\)\.sa,ike = \1\nike-id = $1.example\nike-peer-id = \1.example\nike-cert = $DIR/$1/host.crt\nike-key = $DIR/$1/host.key\nike-ca = $DIR/ca.crt," "$HERE/$1.conf"; } > "$DIR/$1.conf"
		[ -e "$DIR/charon-$1.pid" ] || start_charon "$1" "$DIR" eth1,eth2
	else
		sed "s,/etc/ipsec,$DIR," "$HERE/$1.conf" > "$DIR/$1.conf"
	fi
	# nsenter becomes ipsecd: the pid is its own
	nsenter --net="/run/netns/$P-$1" -- ipsecd -i "$P-$1" -f "$DIR/$1.conf" < /dev/null >> "$DIR/$1.log" 2>&1 &
	echo $! > "$DIR/$1.pid"
}

up() { in_ns "$1" ip -br link show dev "$2" 2>/dev/null | grep -q LOWER_UP; }

await() { # NS DEV
	local end=$((SECONDS + WAIT))
	until up "$1" "$2"; do
		kill -0 "$(cat "$DIR/$1.pid")" 2>/dev/null || { tail -n 20 "$DIR/$1.log" >&2; fail "ipsecd of $1 has ended"; }
		[ $SECONDS -lt $end ] || { tail -n 20 "$DIR/$1.log" >&2; fail "$2 of $1 is not up after $WAIT s"; }
		sleep 0.1
	done
}

gateways() {
	local g
	for g in $GATEWAYS; do gateway "$g"; done
	await west ipsec1
	await west ipsec2
	await east ipsec1
	await orient ipsec1
}

vrrp() { # NS PRIORITY
	sed "s,@PRIORITY@,$2," "$HERE/keepalived.conf" > "$DIR/$1.vrrp.conf"
	nsenter --net="/run/netns/$P-$1" -- keepalived --vrrp --dont-fork --log-console --use-file "$DIR/$1.vrrp.conf" \
		--pid "$DIR/$1.vrrp.pid" --vrrp_pid "$DIR/$1.vrrp-child.pid" < /dev/null >> "$DIR/$1.vrrp.log" 2>&1 &
}

firsthop() {
	command -v keepalived > /dev/null || fail "keepalived is missing: make deps"
	vrrp east 150
	vrrp orient 100
	local end=$((SECONDS + WAIT))
	until in_ns sunrise ping -c1 -W1 -q 10.9.1.1 > /dev/null 2>&1 && in_ns sunrise ping -c1 -W1 -q fd09:1::1 > /dev/null 2>&1; do
		[ $SECONDS -lt $end ] || fail "nobody holds 10.2.0.1 and fd02::1: see $DIR/*.vrrp.log"
	done
}

[ "$(id -u)" = 0 ] || fail "namespaces need root"
# shellcheck source=examples/charon.sh
. "$HERE/../charon.sh"
[ -z "$IKE" ] || need_charon
umask 077
mkdir -p "$DIR"
[ $# -gt 0 ] || set -- wires keys gateways firsthop
for stage in "$@"; do
	case $stage in
	wires | keys | gateways | firsthop) "$stage" ;;
	gateway=*) gateway "${stage#*=}" ;;
	*) fail "no stage '$stage': wires, keys, gateways, firsthop" ;;
	esac
done
