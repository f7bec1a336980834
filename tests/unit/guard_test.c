// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * guard against the running kernel: a gateway g between a LAN host l and the wild side w, with a
 * link device ipsec1 whose far end lies in k. All namespaces are nameless and vanish with the
 * process. A capture on the wild wire counts what must not be there; a marker packet that may pass
 * ends every round, so that an empty capture is never just a deaf one. The marker comes from the
 * LAN host, the longest way, and everything runs on one CPU, whose backlog keeps the order.
 *
 * The tcx guard on underlay devices (bpf/) is not part of this: where the layers here can be
 * pierced by one removal and a stolen route together, the tests say so by expecting the leak.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "guard.h"
#include "ns.h"

enum { N = 20, G = 0, W, K, L, N_NS };
enum { PORT_LOCAL = 1001, PORT_RAW = 1002, PORT_FWD = 1003, PORT_MARK = 1009 };

static int ns[N_NS] = {-1, -1, -1, -1};
static struct nl *g;
static int cap_w = -1, cap_w2 = -1, cap_k = -1, cap_l = -1;
static struct guard_rule rules[8];
static struct in6_addr peers[8], ends[4];
static struct guard_set set;

#define NEED_ROOT()                                                                                \
	do {                                                                                       \
		if (!g) {                                                                          \
			print_message("SKIPPED: needs root (network namespaces)\n");               \
			skip();                                                                    \
		}                                                                                  \
	} while (0)

/* ---- tools ---- */

static int new_ns(void)
{
	int saved = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), fd;

	if (unshare(CLONE_NEWNET)) {
		close(saved);
		return -errno;
	}
	fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	ns_restore(saved);
	return fd;
}

static int run_cmd(void *line)
{
	int st = system(line);

	return WIFEXITED(st) ? WEXITSTATUS(st) : -1;
}

__attribute__((format(printf, 2, 3))) static int sh(int where, const char *fmt, ...)
{
	char line[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	return ns_call(ns[where], run_cmd, line);
}

#define OK(where, ...) assert_int_equal(sh(where, __VA_ARGS__), 0)

struct sock_req {
	int domain, type, proto, fd;
	const char *dev;
};

static int sock_fn(void *arg)
{
	struct sock_req *r = arg;
	struct sockaddr_ll ll = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};

	r->fd = socket(r->domain, r->type | SOCK_CLOEXEC | SOCK_NONBLOCK, r->proto);
	if (r->fd < 0 || !r->dev)
		return r->fd < 0 ? -errno : 0;
	ll.sll_ifindex = (int)if_nametoindex(r->dev);
	return bind(r->fd, (struct sockaddr *)&ll, sizeof ll) ? -errno : 0;
}

static int sock_in(int where, int domain, int type, int proto)
{
	struct sock_req r = {.domain = domain, .type = type, .proto = proto};

	assert_int_equal(ns_call(ns[where], sock_fn, &r), 0);
	return r.fd;
}

static int capture(int where, const char *dev)
{
	struct sock_req r = {
		.domain = AF_PACKET, .type = SOCK_RAW, .proto = htons(ETH_P_ALL), .dev = dev};

	assert_int_equal(ns_call(ns[where], sock_fn, &r), 0);
	return r.fd;
}

static struct in6_addr addr(const char *s)
{
	struct in6_addr a;

	assert_int_equal(addr_parse(s, &a), 0);
	return a;
}

static socklen_t sockaddr_of(const char *s, uint16_t port, struct sockaddr_storage *ss)
{
	struct in6_addr a = addr(s);
	struct sockaddr_in *v4 = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ss;

	memset(ss, 0, sizeof *ss);
	if (addr_is4(&a)) {
		*v4 = (struct sockaddr_in){
			.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = addr_to4(&a)};
		return sizeof *v4;
	}
	*v6 = (struct sockaddr_in6){
		.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = a};
	return sizeof *v6;
}

/* Send n datagrams from an unbound socket (sport 0) or a bound one. Return: how many were accepted.
 */
static int send_from(int where, const char *dst, uint16_t sport, uint16_t dport, int n)
{
	struct sockaddr_storage to, from;
	socklen_t len = sockaddr_of(dst, dport, &to);
	int fd = sock_in(where, to.ss_family, SOCK_DGRAM, 0), sent = 0, one = 1;

	setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof one);
	if (sport) {
		socklen_t fl =
			sockaddr_of(to.ss_family == AF_INET ? "0.0.0.0" : "::", sport, &from);

		assert_int_equal(bind(fd, (struct sockaddr *)&from, fl), 0);
	}
	for (int i = 0; i < n; i++)
		sent += sendto(fd, "canary", 6, 0, (struct sockaddr *)&to, len) == 6;
	close(fd);
	return sent;
}

static void ip_checksum(uint8_t *h)
{
	uint32_t sum = 0;

	h[10] = h[11] = 0;
	for (int i = 0; i < 20; i += 2)
		sum += (uint32_t)h[i] << 8 | h[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~(sum + (sum >> 16));
	h[10] = (uint8_t)(sum >> 8);
	h[11] = (uint8_t)sum;
}

/* A whole IP packet: v4 through IP_HDRINCL, v6 through IPV6_HDRINCL (IPPROTO_RAW). */
static size_t udp_packet(uint8_t *buf, const char *src, const char *dst, uint16_t sport,
			 uint16_t dport)
{
	struct in6_addr s = addr(src), d = addr(dst);
	struct udphdr u = {
		.source = htons(sport), .dest = htons(dport), .len = htons(sizeof u + 6)};
	struct ip6_hdr h6 = {.ip6_plen = u.len, .ip6_nxt = IPPROTO_UDP, .ip6_hlim = 64};
	struct iphdr h4 = {.version = 4,
			   .ihl = 5,
			   .ttl = 64,
			   .protocol = IPPROTO_UDP,
			   .tot_len = htons(sizeof h4 + sizeof u + 6)};
	size_t at;

	if (addr_is4(&d)) {
		h4.saddr = addr_to4(&s).s_addr;
		h4.daddr = addr_to4(&d).s_addr;
		memcpy(buf, &h4, sizeof h4);
		ip_checksum(buf);
		at = sizeof h4;
	} else {
		h6.ip6_vfc = 0x60; /* a union: not beside the others above */
		h6.ip6_src = s;
		h6.ip6_dst = d;
		memcpy(buf, &h6, sizeof h6);
		at = sizeof h6;
	}
	memcpy(buf + at, &u, sizeof u);
	memcpy(buf + at + sizeof u, "canary", 6);
	return at + sizeof u + 6;
}

static void send_raw(int where, const char *src, const char *dst, uint16_t dport, int n)
{
	struct sockaddr_storage to;
	socklen_t len = sockaddr_of(dst, 0, &to);
	int fd = sock_in(where, to.ss_family, SOCK_RAW, IPPROTO_RAW);
	uint8_t buf[128];
	size_t size = udp_packet(buf, src, dst, 5000, dport);

	for (int i = 0; i < n; i++)
		if (sendto(fd, buf, size, 0, (struct sockaddr *)&to, len) < 0)
			continue;
	close(fd);
}

/* Ethernet frames out of a device: what an attacker on the wire does. */
static void inject(int where, const char *dev, const uint8_t mac[6], const uint8_t *ip, size_t size,
		   int n)
{
	int fd = capture(where, dev);
	uint8_t f[1600];

	memset(f, 2, 14);
	memcpy(f, mac, 6);
	f[12] = ip[0] >> 4 == 4 ? 0x08 : 0x86;
	f[13] = ip[0] >> 4 == 4 ? 0x00 : 0xdd;
	memcpy(f + 14, ip, size);
	for (int i = 0; i < n; i++)
		assert_int_equal(send(fd, f, 14 + size, 0), (ssize_t)(14 + size));
	close(fd);
}

/* ---- counting ---- */

struct seen {
	int local4, local6, raw4, raw6, fwd4, fwd6, mark, other_udp, esp;
};

static void classify(const uint8_t *p, size_t n, struct seen *s)
{
	bool v4 = n > 14 + 28 && p[12] == 0x08 && p[13] == 0x00,
	     v6 = n > 14 + 48 && p[12] == 0x86 && p[13] == 0xdd;
	const uint8_t *l4 = p + 14 + (v4 ? 20 : 40);
	uint8_t proto = v4 ? p[14 + 9] : p[14 + 6];

	if (!v4 && !v6)
		return;
	s->esp += proto == IPPROTO_ESP;
	if (proto != IPPROTO_UDP)
		return;
	switch (l4[2] << 8 | l4[3]) {
	case PORT_LOCAL:
		*(v4 ? &s->local4 : &s->local6) += 1;
		break;
	case PORT_RAW:
		*(v4 ? &s->raw4 : &s->raw6) += 1;
		break;
	case PORT_FWD:
		*(v4 ? &s->fwd4 : &s->fwd6) += 1;
		break;
	case PORT_MARK:
		s->mark++;
		break;
	default:
		s->other_udp++;
	}
}

static void drain(int fd, struct seen *s)
{
	struct sockaddr_ll from;
	socklen_t len = sizeof from;
	uint8_t buf[2048];
	ssize_t n;

	/* what this end sent itself is no arrival */
	for (;
	     fd >= 0 && (n = recvfrom(fd, buf, sizeof buf, 0, (struct sockaddr *)&from, &len)) > 0;
	     len = sizeof from)
		if (from.sll_pkttype != PACKET_OUTGOING)
			classify(buf, (size_t)n, s);
}

/* Count until the marker is there: it was sent last and takes the same wire. */
static struct seen until_mark(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	struct seen s = {0};

	for (int i = 0; i < 100 && !s.mark; i++) {
		poll(&p, 1, 20);
		drain(fd, &s);
	}
	assert_true(s.mark > 0);
	return s;
}

static void forget(int fd)
{
	struct seen s = {0};

	drain(fd, &s);
}

/* ---- the bed ---- */

static const uint8_t mac_g[6] = {2, 0xaa, 0, 0, 0, 1};

static void veth(const char *name, const char *peer, int far)
{
	struct veth_spec v = {.name = name, .peer = peer, .peer_netns_fd = ns[far], .mac = mac_g};

	assert_int_equal(nl_veth_add(g, &v), 0);
	OK(far, "ip link set dev %s up", peer);
	OK(G, "ip link set dev %s up", name);
}

static void wire_ipsec1(void)
{
	veth("ipsec1", "b1", K);
	OK(G, "ip addr add 10.9.0.1 peer 10.9.0.2/32 dev ipsec1 && ip addr add fd09::1/128 dev "
	      "ipsec1 nodad && "
	      "ip link set dev ipsec1 arp off && ip route add 10.2.0.0/16 dev ipsec1 metric 10 && "
	      "ip -6 route add fd02::/48 dev ipsec1 metric 10");
	OK(G, "sysctl -qw net.ipv4.conf.ipsec1.ignore_routes_with_linkdown=1 "
	      "net.ipv6.conf.ipsec1.ignore_routes_with_linkdown=1");
}

static void add_rule(const char *p, const char *dev)
{
	struct guard_rule *r = &rules[set.n_rules++];

	memset(r, 0, sizeof *r);
	assert_int_equal(prefix_parse(p, &r->prefix), 0);
	if (dev)
		strcpy(r->devices[r->n_devices++], dev);
}

static int apply(void)
{
	unsigned int missing = 77;
	int err = guard_apply(g, ns[G], &set, &missing);

	assert_int_equal(missing, 0);
	return err;
}

static int setup(void **state)
{
	memset(&set, 0, sizeof set);
	set.instance = "gtest";
	set.rules = rules;
	set.peers = peers;
	set.ends = ends;
	for (int i = 0; i < N_NS; i++) {
		ns[i] = new_ns();
		if (ns[i] < 0)
			return 0; /* every test says why it skips */
	}
	assert_int_equal(nl_open(&g, ns[G]), 0);
	OK(G, "ip link set dev lo up");
	OK(G, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 "
	      "net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0");
	for (int i = W; i <= L; i++)
		OK(i, "sysctl -qw net.ipv6.conf.default.disable_ipv6=%d", i == L ? 0 : 1);
	veth("wild", "w", W);
	veth("lan", "l", L);
	OK(G, "ip addr add 192.0.2.1/24 dev wild && ip addr add 2001:db8::1/64 dev wild nodad && "
	      "ip addr add 10.1.0.1/24 dev lan && ip addr add fd01::1/64 dev lan nodad");
	OK(G, "ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:99 dev wild && ip neigh add "
	      "2001:db8::2 lladdr 02:00:00:00:00:99 dev wild && "
	      "ip route add default via 192.0.2.2 && ip -6 route add default via 2001:db8::2");
	OK(L, "ip addr add 10.1.0.2/24 dev l && ip addr add fd01::2/64 dev l nodad && "
	      "ip neigh add 10.1.0.1 lladdr 02:aa:00:00:00:01 dev l && ip neigh add fd01::1 lladdr "
	      "02:aa:00:00:00:01 dev l && "
	      "ip route add default via 10.1.0.1 && ip -6 route add default via fd01::1");
	wire_ipsec1();
	cap_w = capture(W, "w");
	cap_k = capture(K, "b1");
	cap_l = capture(L, "l");
	cap_w2 = -1;
	return 0;
}

static int teardown(void **state)
{
	nl_close(g);
	g = NULL;
	for (int i = 0; i < N_NS; i++)
		close(ns[i]);
	close(cap_w);
	close(cap_k);
	close(cap_l);
	close(cap_w2);
	return 0;
}

static void both_families(void)
{
	add_rule("10.2.0.0/16", "ipsec1");
	add_rule("fd02::/48", "ipsec1");
}

/* 20 of every kind to the protected prefixes, then the marker over every wild wire. */
static void fire(void)
{
	forget(cap_w);
	forget(cap_w2);
	forget(cap_k);
	send_from(G, "10.2.3.4", 0, PORT_LOCAL, N);
	send_from(G, "fd02::7", 0, PORT_LOCAL, N);
	send_raw(G, "192.0.2.1", "10.2.3.4", PORT_RAW, N);
	send_raw(G, "2001:db8::1", "fd02::7", PORT_RAW, N);
	send_from(L, "10.2.3.4", 0, PORT_FWD, N);
	send_from(L, "fd02::7", 0, PORT_FWD, N);
	send_from(L, "192.0.2.2", 0, PORT_MARK, 1);
	if (cap_w2 >= 0)
		send_from(L, "203.0.113.2", 0, PORT_MARK, 1);
}

/* ---- what the guard must hold ---- */

enum attack { UP, DOWN, DELETED, NO_CARRIER, BETTER_ROUTE, RULE_BEFORE, NEW_UPLINK, N_ATTACKS };
enum removal { NOTHING, NFT, XFRM, DISABLE_XFRM, FLOORS, N_REMOVALS };
static const char *const attack_name[] = {"link up",      "link down",    "link deleted",
					  "carrier lost", "better route", "rule before main",
					  "new uplink"};
static const char *const removal_name[] = {"nothing", "nft flush ruleset", "ip xfrm policy flush",
					   "disable_xfrm=1", "floors deleted"};

static void attack(enum attack a)
{
	switch (a) {
	case DOWN:
		OK(G, "ip link set dev ipsec1 down");
		break;
	case DELETED:
		OK(G, "ip link del dev ipsec1");
		break;
	case NO_CARRIER:
		OK(K, "ip link set dev b1 down");
		break;
	case BETTER_ROUTE:
		OK(G, "ip route add 10.2.0.0/16 via 192.0.2.2 metric 1 && ip -6 route add "
		      "fd02::/48 via 2001:db8::2 metric 1");
		break;
	case RULE_BEFORE:
		OK(G, "ip route add default via 192.0.2.2 table 77 && ip rule add pref 10 lookup "
		      "77 && "
		      "ip -6 route add default via 2001:db8::2 table 77 && ip -6 rule add pref 10 "
		      "lookup 77");
		break;
	case NEW_UPLINK:
		veth("wild2", "w2", W);
		cap_w2 = capture(W, "w2");
		OK(G, "ip addr add 203.0.113.1/24 dev wild2 && ip addr add 2001:db8:2::1/64 dev "
		      "wild2 nodad && "
		      "ip neigh add 203.0.113.2 lladdr 02:00:00:00:00:99 dev wild2 && "
		      "ip neigh add 2001:db8:2::2 lladdr 02:00:00:00:00:99 dev wild2 && "
		      "ip route add 10.2.3.0/24 via 203.0.113.2 && ip -6 route add fd02::/64 via "
		      "2001:db8:2::2");
		break;
	default:
		break;
	}
}

static void remove_layer(enum removal r, bool undo)
{
	switch (r) {
	case NFT:
		OK(G, "%s", undo ? ":" : "nft flush ruleset");
		break;
	case XFRM:
		OK(G, "%s", undo ? ":" : "ip xfrm policy flush");
		break;
	case DISABLE_XFRM:
		OK(G, "sysctl -qw net.ipv4.conf.wild.disable_xfrm=%d", !undo);
		break;
	case FLOORS:
		OK(G, "%s",
		   undo ? ":"
			: "ip route del unreachable 10.2.0.0/16 metric 4294967294 && "
			  "ip -6 route del unreachable fd02::/48 metric 4294967294");
		break;
	default:
		break;
	}
}

/* The whole truth of what these layers can and cannot do alone. */
static void expect(enum attack a, enum removal r, const struct seen *s, bool new_wire)
{
	bool stolen = a == BETTER_ROUTE || a == RULE_BEFORE || a == NEW_UPLINK;
	bool here = (a == NEW_UPLINK) == new_wire;
	int v4 = stolen && here && (r == XFRM || (r == DISABLE_XFRM && a != NEW_UPLINK)) ? N : 0;
	int v6 = stolen && here && r == NFT ? N : 0;

	if (s->local4 != v4 || s->raw4 != v4 || s->fwd4 != v4 || s->local6 != v6 || s->raw6 != v6 ||
	    s->fwd6 != v6)
		fail_msg("%s, removed: %s: on the wire v4 local %d raw %d forwarded %d, v6 local "
			 "%d raw %d forwarded %d; expected %d and %d",
			 attack_name[a], removal_name[r], s->local4, s->raw4, s->fwd4, s->local6,
			 s->raw6, s->fwd6, v4, v6);
}

static void one_attack(enum attack a)
{
	both_families();
	assert_int_equal(apply(), 0);
	attack(a);
	for (enum removal r = NOTHING; r < N_REMOVALS; r++) {
		struct seen s;

		assert_int_equal(apply(), 0); /* heals what the last round removed */
		assert_int_equal(guard_audit(g, ns[G], &set), GUARD_FLOOR | GUARD_XFRM | GUARD_NFT);
		remove_layer(r, false);
		fire();
		s = until_mark(cap_w);
		expect(a, r, &s, false);
		if (cap_w2 >= 0) {
			s = until_mark(cap_w2);
			expect(a, r, &s, true);
		}
		if (a == UP) {
			memset(&s, 0, sizeof s);
			drain(cap_k, &s);
			assert_int_equal(s.local4, N);
			assert_int_equal(s.local6, N);
			assert_int_equal(s.raw4, N);
			assert_int_equal(s.raw6, N);
			assert_int_equal(s.fwd4, N);
			assert_int_equal(s.fwd6, N);
		}
		remove_layer(r, true);
	}
}

#define ATTACK(name, which)                                                                        \
	static void name(void **state)                                                             \
	{                                                                                          \
		NEED_ROOT();                                                                       \
		one_attack(which);                                                                 \
	}
ATTACK(test_up, UP)
ATTACK(test_down, DOWN)
ATTACK(test_deleted, DELETED)
ATTACK(test_no_carrier, NO_CARRIER)
ATTACK(test_better_route, BETTER_ROUTE)
ATTACK(test_rule_before, RULE_BEFORE)
ATTACK(test_new_uplink, NEW_UPLINK)

/* The bed itself leaks when nothing guards: else the tests above prove nothing. */
static void test_bed_can_leak(void **state)
{
	struct seen s;

	NEED_ROOT();
	attack(DOWN);
	fire();
	s = until_mark(cap_w);
	assert_int_equal(s.local4, N);
	assert_int_equal(s.local6, N);
	assert_int_equal(s.raw4, N);
	assert_int_equal(s.raw6, N);
	assert_int_equal(s.fwd4, N);
	assert_int_equal(s.fwd6, N);
}

/* ---- inbound ---- */

/* Spoofed packets out of a wire into the gateway: how many reach a local port, and the LAN. */
static void spoof(int where, const char *dev, const char *src4, const char *src6, int want)
{
	static const char *const dst[2][2] = {{"10.1.0.1", "10.1.0.2"}, {"fd01::1", "fd01::2"}};
	for (int v6 = 0; v6 < 2; v6++) {
		const char *src = v6 ? src6 : src4;
		struct sockaddr_storage any;
		socklen_t len = sockaddr_of(v6 ? "::" : "0.0.0.0", PORT_LOCAL, &any);
		int fd = sock_in(G, any.ss_family, SOCK_DGRAM, 0), got = 0, fwd = 0;
		uint8_t buf[128];

		assert_int_equal(bind(fd, (struct sockaddr *)&any, len), 0);
		forget(cap_l);
		for (int i = 0; i < 2; i++)
			inject(where, dev, mac_g, buf,
			       udp_packet(buf, src, dst[v6][i], 5000, i ? PORT_FWD : PORT_LOCAL),
			       N);
		/* no IPv6 UDP without a checksum: there the forwarded ones alone tell */
		for (int i = 0;
		     i < 50 && (!want || fwd < want || (!v6 && got < want)) && (want || i < 3);
		     i++) {
			struct seen s = {0};

			usleep(10000);
			while (recv(fd, buf, sizeof buf, 0) > 0)
				got++;
			drain(cap_l, &s);
			fwd += v6 ? s.fwd6 : s.fwd4;
		}
		close(fd);
		if (fwd != want || (!v6 && got != want))
			fail_msg("%s from %s: %d reached the LAN, %d a local port, not %d", src,
				 dev, fwd, got, want);
	}
}

static void test_inbound(void **state)
{
	uint64_t n;

	NEED_ROOT();
	OK(G, "ip neigh add 10.1.0.2 lladdr 02:00:00:00:00:77 dev lan && ip neigh add fd01::2 "
	      "lladdr 02:00:00:00:00:77 dev lan");
	spoof(W, "w", "10.2.3.4", "fd02::7", N); /* unguarded: it gets in */
	both_families();
	assert_int_equal(apply(), 0);
	spoof(W, "w", "10.2.3.4", "fd02::7", 0);
	assert_int_equal(guard_nft_drops(ns[G], "gtest", &n), 0);
	assert_int_equal(n, 4 * N);
	attack(NEW_UPLINK);
	spoof(W, "w2", "10.2.3.4", "fd02::7", 0); /* nobody told the guard about that device */
	spoof(L, "l", "10.2.3.4", "fd02::7", 0);
	assert_int_equal(guard_nft_drops(ns[G], "gtest", &n), 0);
	assert_int_equal(n, 12 * N);
	spoof(K, "b1", "10.2.3.4", "fd02::7", N); /* its own link */
	spoof(W, "w", "10.3.3.4", "fd03::7", N);  /* not protected */
	/* a change of the set keeps the count */
	add_rule("10.7.0.0/16", "ipsec1");
	assert_int_equal(apply(), 0);
	assert_int_equal(guard_nft_drops(ns[G], "gtest", &n), 0);
	assert_int_equal(n, 12 * N);
	spoof(W, "w", "10.7.3.4", "fd02::7", 0);
}

/* ---- nested and wide prefixes ---- */

/* Does one datagram from g (or l) reach the wild wire? */
static bool passes(int where, const char *dst, uint16_t sport, uint16_t dport)
{
	struct seen s;

	forget(cap_w);
	send_from(where, dst, sport, dport, 1);
	send_from(L, "192.0.2.2", 0, PORT_MARK, 1);
	s = until_mark(cap_w);
	return s.other_udp > 0;
}

static bool esp_passes(const char *dst)
{
	struct sockaddr_storage to;
	socklen_t len = sockaddr_of(dst, 0, &to);
	int fd = sock_in(G, to.ss_family, SOCK_RAW, IPPROTO_ESP);
	struct seen s;

	forget(cap_w);
	(void)!sendto(fd,
		      "\0\0\1\0\0\0\0\1"
		      "0123456789abcdef",
		      24, 0, (struct sockaddr *)&to, len);
	close(fd);
	send_from(L, "192.0.2.2", 0, PORT_MARK, 1);
	s = until_mark(cap_w);
	return s.esp > 0;
}

/* The marker must be allowed: 192.0.2.2 is a peer in these tests. */
static void full_tunnel(void)
{
	add_rule("0.0.0.0/0", "ipsec1");
	add_rule("::/0", "ipsec1");
	add_rule("10.1.0.0/24", "lan"); /* a LAN behind a full tunnel is a rule of its own */
	add_rule("fd01::/64", "lan");
	add_rule("10.2.0.0/16", "ipsec1");
	add_rule("fd02::/48", "ipsec1");
	peers[set.n_peers++] = addr("192.0.2.2");
	peers[set.n_peers++] = addr("198.51.100.7");
	peers[set.n_peers++] = addr("2001:db8:7::7");
}

static void test_full_tunnel_out(void **state)
{
	static const char *const far[] = {"198.18.0.1", "2001:db8:5::5"}, *const inner[] = {
										  "10.2.0.1",
										  "fd02::1"};
	static const char *const peer[] = {"198.51.100.7", "2001:db8:7::7"};

	NEED_ROOT();
	full_tunnel();
	attack(DOWN);         /* everything wants to the wild default route now, */
	attack(BETTER_ROUTE); /* and no floor is in the way of the narrow prefixes */
	for (int ike = 0; ike < 2; ike++) {
		set.allow_ike = ike;
		assert_int_equal(apply(), 0);
		for (int i = 0; i < 2; i++) {
			assert_false(passes(G, far[i], 0, 53));
			assert_false(passes(L, far[i], 0, 53));
			assert_false(passes(G, inner[i], 0, 53));
			assert_int_equal(passes(G, far[i], 0, 4500), ike);
			assert_int_equal(passes(G, far[i], 0, 500), ike);
			assert_int_equal(passes(G, far[i], 4500, 34567),
					 ike); /* a peer behind NAT */
			assert_int_equal(esp_passes(far[i]), ike);
			/* the wide exception does not pierce a narrower prefix */
			assert_false(passes(G, inner[i], 0, 4500));
			assert_false(passes(G, inner[i], 4500, 34567));
			assert_false(esp_passes(inner[i]));
			/* a peer's own address, the seed's deliberate cleartext */
			assert_true(passes(G, peer[i], 0, 53));
			assert_true(passes(G, peer[i], 0, 4500));
			assert_true(esp_passes(peer[i]));
		}
	}
	/* what keeps the wild side alive */
	assert_true(passes(G, "198.18.0.1", 68, 67));
	OK(G, "ip route add 224.0.0.0/4 dev wild && ip route add 255.255.255.255 dev wild");
	assert_true(passes(G, "224.0.0.5", 0, 53));
	assert_true(passes(G, "255.255.255.255", 0, 53));
	assert_false(passes(G, "239.1.2.3", 0, 53));
}

static int ping(int where, const char *opt, const char *dst)
{
	return sh(where, "ping -q -c 1 -W 1 %s %s >/dev/null 2>&1", opt, dst);
}

/* A loaded machine may lose the first second to neighbour discovery. */
static int answers(int where, const char *opt, const char *dst)
{
	int err = 1;

	for (int i = 0; i < 5 && err; i++)
		err = ping(where, opt, dst);
	return err;
}

static void test_full_tunnel_neighbours(void **state)
{
	NEED_ROOT();
	full_tunnel();
	assert_int_equal(apply(), 0);
	/* the LAN, both ways, v6 with real neighbour discovery */
	assert_int_equal(answers(G, "-4", "10.1.0.2"), 0);
	assert_int_equal(answers(G, "-6", "fd01::2"), 0);
	assert_int_equal(answers(L, "-4", "10.1.0.1"), 0);
	assert_int_equal(answers(L, "-6", "fd01::1"), 0);
	assert_int_equal(answers(G, "-4", "127.0.0.1"), 0);
	assert_int_equal(answers(G, "-6", "::1"), 0);
	assert_int_equal(answers(G, "-4", "192.0.2.1"), 0);
	assert_int_equal(answers(G, "-6", "2001:db8::1"), 0);
	/* a neighbour on the wild wire that is a peer: resolution has to work with global addresses
	 */
	OK(W, "sysctl -qw net.ipv6.conf.w.disable_ipv6=0 && ip addr add 2001:db8::9/64 dev w nodad "
	      "&& ip addr add 192.0.2.9/24 dev w");
	peers[set.n_peers++] = addr("2001:db8::9");
	peers[set.n_peers++] = addr("192.0.2.9");
	assert_int_equal(apply(), 0);
	assert_int_equal(answers(G, "-6", "2001:db8::9"), 0);
	assert_int_equal(answers(G, "-4", "192.0.2.9"), 0);
	OK(G, "ip -6 neigh flush dev wild && ip neigh flush dev wild");
	assert_int_equal(answers(W, "-6", "2001:db8::1"), 0);
	/* one that is not */
	OK(W, "ip addr add 2001:db8::a/64 dev w nodad && ip addr add 192.0.2.10/24 dev w");
	assert_int_not_equal(ping(G, "-6", "2001:db8::a"), 0);
	assert_int_not_equal(ping(G, "-4", "192.0.2.10"), 0);
	assert_int_not_equal(ping(W, "-4 -I 192.0.2.10", "192.0.2.1"), 0);
	assert_int_not_equal(ping(W, "-6 -I 2001:db8::a", "2001:db8::1"), 0);
	/* link-local is nobody's protected prefix */
	assert_int_equal(sh(W, "ip -6 addr add fe80::9/64 dev w nodad"), 0);
	OK(G, "ip -6 addr add fe80::1:1/64 dev wild nodad");
	assert_int_equal(answers(G, "-6 -I wild", "fe80::9"), 0);
}

/* An ICMP error about one of our envelopes must get in, one about anything else must not. */
static void icmp_error(uint8_t quoted_proto, uint16_t sport, int want)
{
	uint8_t b[20 + 8 + 28] = {0x45,
				  0,
				  0,
				  56,
				  0,
				  0,
				  0,
				  0,
				  64,
				  IPPROTO_ICMP,
				  0,
				  0,
				  198,
				  18,
				  0,
				  9,
				  192,
				  0,
				  2,
				  1,
				  3,
				  4,
				  0,
				  0,
				  0,
				  0,
				  0x05,
				  0x14,
				  0x45,
				  0,
				  0,
				  60,
				  0,
				  0,
				  0x40,
				  0,
				  64,
				  quoted_proto,
				  0,
				  0,
				  192,
				  0,
				  2,
				  1,
				  198,
				  18,
				  0,
				  1,
				  (uint8_t)(sport >> 8),
				  (uint8_t)sport,
				  0x11,
				  0x94};
	uint64_t before, after;

	ip_checksum(b);
	/* witness: behind the guard, counts what got past it */
	OK(G, "nft 'table inet seen { chain c { type filter hook prerouting priority -200; icmp "
	      "type destination-unreachable counter; }; }'");
	assert_int_equal(guard_nft_drops(ns[G], "gtest", &before), 0);
	inject(W, "w", mac_g, b, sizeof b, N);
	for (int i = 0; i < (want ? 3 : 50); i++) {
		usleep(10000);
		assert_int_equal(guard_nft_drops(ns[G], "gtest", &after), 0);
		if (!want && after - before == N)
			break;
	}
	assert_int_equal(after - before, want ? 0 : N);
	OK(G, "nft list chain inet seen c | grep -q 'packets %d ' && nft delete table inet seen",
	   want ? N : 0);
}

/* A neighbour may ask from its global address, by unicast; RFC 4861 7.1.1: only with hop limit 255.
 */
static void solicitation(uint8_t hop_limit, int want)
{
	struct in6_addr from = addr("2001:db8::a"), to = addr("2001:db8::1");
	uint8_t b[64] = {0x60, 0, 0, 0, 0, 24, IPPROTO_ICMPV6, hop_limit};
	uint64_t before, after = 0;

	memcpy(b + 8, &from, 16);
	memcpy(b + 24, &to, 16);
	b[40] = 135;
	memcpy(b + 48, &to, 16);
	assert_int_equal(guard_nft_drops(ns[G], "gtest", &before), 0);
	inject(W, "w", mac_g, b, sizeof b, N);
	for (int i = 0; i < (want ? 3 : 50) && (!i || after == before); i++) {
		usleep(10000);
		assert_int_equal(guard_nft_drops(ns[G], "gtest", &after), 0);
	}
	assert_int_equal(after - before, want ? 0 : N);
}

static void test_full_tunnel_in(void **state)
{
	NEED_ROOT();
	OK(G, "ip neigh add 10.1.0.2 lladdr 02:00:00:00:00:77 dev lan && ip neigh add fd01::2 "
	      "lladdr 02:00:00:00:00:77 dev lan");
	full_tunnel();
	set.allow_ike = true;
	assert_int_equal(apply(), 0);
	spoof(W, "w", "198.18.0.1", "2001:db8:5::5", 0);
	spoof(W, "w", "10.1.0.77", "fd01::77", 0); /* our LAN's addresses from the wild */
	spoof(K, "b1", "198.18.0.1", "2001:db8:5::5", N);
	spoof(W, "w", "198.51.100.7", "2001:db8:7::7", N); /* a peer itself */
	spoof(K, "b1", "10.1.0.77", "fd01::77", 0);        /* the longest prefix decides: LAN */
	icmp_error(IPPROTO_ESP, 0, 1);
	icmp_error(IPPROTO_UDP, 4500, 1);
	icmp_error(IPPROTO_UDP, 53, 0);
	icmp_error(IPPROTO_TCP, 4500, 0);
	solicitation(255, 1);
	solicitation(64, 0);
}

/* ---- reconciling ---- */

/* What of 3 * N gets through the link; as much as is expected ends the wait. */
static int ipsec1_count(int expected)
{
	struct seen s = {0};

	forget(cap_k);
	send_from(G, "10.2.3.4", 0, PORT_LOCAL, N);
	send_from(G, "fd02::7", 0, PORT_LOCAL, N);
	send_from(L, "fd02::7", 0, PORT_FWD, N);
	for (int i = 0; i < 50 && s.local4 + s.local6 + s.fwd6 < expected; i++) {
		usleep(10000);
		drain(cap_k, &s);
	}
	return s.local4 + s.local6 + s.fwd6;
}

static void test_recreated_device(void **state)
{
	NEED_ROOT();
	both_families();
	assert_int_equal(apply(), 0);
	assert_int_equal(ipsec1_count(3 * N), 3 * N);
	close(cap_k);
	OK(G, "ip link del dev ipsec1");
	veth("spare", "b9", K); /* takes the ifindex that would come next */
	wire_ipsec1();
	cap_k = capture(K, "b1");
	assert_int_equal(ipsec1_count(2 * N),
			 2 * N); /* IPv6 goes by name; IPv4 fails closed until the guard is told */
	assert_int_equal(guard_audit(g, ns[G], &set), GUARD_FLOOR | GUARD_NFT);
	assert_int_equal(apply(), 0);
	assert_int_equal(ipsec1_count(3 * N), 3 * N);
	/* the old index is not allowed any longer */
	assert_int_equal(sh(G, "test $(ip xfrm policy | grep -c ' dev ') = 1"), 0);
}

static void test_audit(void **state)
{
	enum { ALL = GUARD_FLOOR | GUARD_XFRM | GUARD_NFT };
	static const struct {
		const char *cmd;
		int left;
	} cut[] = {
		{"nft flush ruleset", ALL & ~GUARD_NFT},
		{"nft flush chain inet espwire_gtest prerouting", ALL & ~GUARD_NFT},
		{"nft flush set inet espwire_gtest protect4", ALL & ~GUARD_NFT},
		{"nft add element inet espwire_gtest peers4 '{ 10.2.9.9 }'", ALL & ~GUARD_NFT},
		{"nft insert rule ip6 espwire_gtest out6 accept", ALL & ~GUARD_NFT},
		{"nft insert rule inet espwire_gtest in4 accept", ALL & ~GUARD_NFT},
		{"ip xfrm policy flush", ALL & ~GUARD_XFRM},
		{"sysctl -qw net.ipv4.conf.wild.disable_xfrm=1", ALL & ~GUARD_XFRM},
		{"sysctl -qw net.ipv4.conf.wild.disable_xfrm=0", ALL},
		{"ip route del unreachable 10.2.0.0/16 metric 4294967294", ALL & ~GUARD_FLOOR},
		{"ip -6 route del unreachable fd02::/48 metric 4294967294", ALL & ~GUARD_FLOOR},
	};

	NEED_ROOT();
	both_families();
	for (int i = 0; i < 7; i++) {
		char p[INET6_ADDRSTRLEN];

		snprintf(p, sizeof p, "10.2.%d.%d", 200 - i * 13, i * 31);
		peers[set.n_peers++] = addr(p);
	}
	assert_int_equal(guard_audit(g, ns[G], &set), 0);
	assert_int_equal(apply(), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cut); i++) {
		if (!strstr(cut[i].cmd, "disable_xfrm=0"))
			assert_int_equal(guard_audit(g, ns[G], &set), ALL);
		OK(G, "%s", cut[i].cmd);
		assert_int_equal(guard_audit(g, ns[G], &set), cut[i].left);
		if (strstr(cut[i].cmd,
			   "disable_xfrm=1")) /* a sysctl of the admin's: told, not overruled */
			continue;
		assert_int_equal(apply(), 0);
	}
}

static int lines(const char *cmd)
{
	return sh(G, "exit $(%s | wc -l)", cmd);
}

static void test_others_untouched(void **state)
{
	struct guard_rule lone = {0};
	struct guard_set second = {.instance = "other", .rules = &lone, .n_rules = 1};
	static const char *const ours[] = {"ip xfrm policy | grep uid",
					   "ip -4 route show proto 158; ip -6 route show proto 158",
					   "nft list tables | grep gtest"};

	NEED_ROOT();
	OK(G, "ip xfrm policy add dir out dst 10.2.0.0/16 action allow priority 5000 && "
	      "ip xfrm policy add dir fwd dst fd02::/48 action allow priority 5000 && "
	      "ip xfrm policy add dir out src 10.1.0.0/16 dst 10.2.0.0/16 priority 7 tmpl src "
	      "192.0.2.1 dst 192.0.2.2 proto esp mode tunnel && "
	      "ip route add unreachable 10.77.0.0/16 metric 4294967294 && ip route add unreachable "
	      "10.2.0.0/16 metric 4294967293 && "
	      "nft add table inet mine && nft add chain inet mine c '{ type filter hook forward "
	      "priority 0; }'");
	OK(G, "ip xfrm policy | sort > /tmp/guard_test.%d.before", (int)getpid());
	both_families();
	for (int i = 0; i < 2; i++) {
		assert_int_equal(apply(), 0);
		assert_int_equal(guard_audit(g, ns[G], &set), GUARD_FLOOR | GUARD_XFRM | GUARD_NFT);
	}
	/* a second instance protects one of the prefixes in the same namespace, in turn */
	for (int i = 0; i < 2; i++) {
		lone = rules[i];
		assert_int_equal(apply(), 0);
		assert_int_equal(guard_apply(g, ns[G], &second, NULL), 0);
		assert_int_equal(guard_release(g, ns[G], "gtest"), 0);
		assert_int_equal(guard_audit(g, ns[G], &second),
				 GUARD_FLOOR | GUARD_XFRM | GUARD_NFT);
		OK(G, "%s \"$(ip -4 route show proto 158)\"", i ? "test -z" : "test -n");
		OK(G, "%s \"$(ip -6 route show proto 158)\"", i ? "test -n" : "test -z");
	}
	assert_int_equal(guard_release(g, ns[G], "other"), 0);
	assert_int_equal(guard_release(g, ns[G], "other"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
		assert_int_equal(lines(ours[i]), 0);
	assert_int_equal(sh(G,
			    "ip xfrm policy | sort | cmp -s - /tmp/guard_test.%d.before; e=$?; rm "
			    "-f /tmp/guard_test.%d.before; exit $e",
			    (int)getpid(), (int)getpid()),
			 0);
	OK(G, "ip route show | grep -q 'unreachable 10.77.0.0/16.*4294967294' && ip route show | "
	      "grep -q 'unreachable 10.2.0.0/16.*4294967293'");
	OK(G, "nft list table inet mine >/dev/null");
	assert_int_equal(ipsec1_count(3 * N), 3 * N);
}

/* A prefix leaves the set: only it becomes free. */
static void test_shrink(void **state)
{
	NEED_ROOT();
	both_families();
	add_rule("10.7.0.0/16", "ipsec1");
	assert_int_equal(apply(), 0);
	assert_false(passes(G, "10.7.0.1", 0, 53));
	set.n_rules = 2;
	assert_int_equal(apply(), 0);
	assert_true(passes(G, "10.7.0.1", 0, 53));
	attack(DOWN);
	assert_false(passes(G, "10.2.0.1", 0, 53));
	assert_false(passes(G, "fd02::1", 0, 53));
	/* one inside another: the inner floor goes although the outer prefix still covers it */
	add_rule("10.2.7.0/24", "ipsec1");
	assert_int_equal(apply(), 0);
	assert_int_equal(lines("ip -4 route show proto 158"), 2);
	set.n_rules = 2;
	assert_int_equal(apply(), 0);
	assert_int_equal(lines("ip -4 route show proto 158"), 1);
	set.n_rules = 0;
	assert_int_equal(apply(), 0);
	assert_true(passes(G, "10.2.0.1", 0, 53));
	assert_true(passes(G, "fd02::1", 0, 53));
	assert_int_equal(
		lines("nft list tables | grep espwire; ip xfrm policy; ip route show proto 158"),
		0);
}

/* Ranges at the ends of the address space, and prefixes that end together. */
static void test_nested_edges(void **state)
{
	static const char *const p[] = {"0.0.0.0/0", "128.0.0.0/1", "192.0.0.0/2",
					"::/0",      "8000::/1",    "c000::/2"};

	NEED_ROOT();
	OK(G, "ip neigh add 10.1.0.2 lladdr 02:00:00:00:00:77 dev lan && ip neigh add fd01::2 "
	      "lladdr 02:00:00:00:00:77 dev lan");
	for (size_t i = 0; i < ARRAY_SIZE(p); i++)
		add_rule(p[i], i % 3 == 1 ? "lan" : "ipsec1");
	add_rule("10.1.0.0/24", "lan"); /* splits 0.0.0.0/0 */
	add_rule("fd01::/64", "lan");   /* splits c000::/2 */
	assert_int_equal(apply(), 0);
	assert_int_equal(guard_audit(g, ns[G], &set), GUARD_FLOOR | GUARD_XFRM | GUARD_NFT);
	assert_int_equal(lines("nft list set inet espwire_gtest allow4 | grep -o ' \\. \"'"), 5);
	assert_int_equal(lines("nft list set inet espwire_gtest allow6 | grep -o ' \\. \"'"), 5);
	spoof(K, "b1", "198.18.0.1", "2001:db8:5::5", N);
	spoof(K, "b1", "10.3.0.1", "fd03::1", N);
}

/* Everything and nothing else; then so many devices that the rules become a set. */
static void test_plain_everything(void **state)
{
	char dev[] = "ipsec0";
	struct seen s;

	NEED_ROOT();
	add_rule("0.0.0.0/0", "ipsec1");
	add_rule("::/0", "ipsec1");
	peers[set.n_peers++] = addr("192.0.2.2");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(apply(), 0);
		assert_int_equal(guard_audit(g, ns[G], &set), GUARD_FLOOR | GUARD_XFRM | GUARD_NFT);
		assert_int_equal(ipsec1_count(2 * N),
				 2 * N); /* the LAN has no rule here: nothing comes from there */
		forget(cap_w);
		OK(G, "ip route replace 198.18.0.0/16 via 192.0.2.2 && ip -6 route replace "
		      "2001:db8:5::/48 via 2001:db8::2");
		send_from(G, "198.18.0.1", 0, PORT_LOCAL, N);
		send_from(G, "2001:db8:5::5", 0, PORT_LOCAL, N);
		send_from(G, "192.0.2.2", 0, PORT_MARK, 1);
		s = until_mark(cap_w);
		assert_int_equal(s.local4 + s.local6, 0);
		for (int k = 2; k < 9; k++) {
			dev[5] = (char)('0' + k);
			strcpy(rules[0].devices[rules[0].n_devices++], dev);
			strcpy(rules[1].devices[rules[1].n_devices++], dev);
		}
	}
	assert_int_equal(lines("nft list set ip6 espwire_gtest allow6 | grep -o ' \\. \"'"), 8);
}

/*
 * A peer's address that is a protected prefix itself: the deliberate exception wins, and that
 * stably.
 */
static void test_peer_is_prefix(void **state)
{
	NEED_ROOT();
	add_rule("198.51.100.7/32", "ipsec1");
	add_rule("2001:db8:7::7/128", "ipsec1");
	peers[set.n_peers++] = addr("198.51.100.7");
	peers[set.n_peers++] = addr("2001:db8:7::7");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(apply(), 0);
		assert_int_equal(guard_audit(g, ns[G], &set), GUARD_FLOOR | GUARD_XFRM | GUARD_NFT);
		OK(G, "ip route replace 198.51.100.7 via 192.0.2.2 && ip -6 route replace "
		      "2001:db8:7::7 via 2001:db8::2");
		assert_true(passes(G, "198.51.100.7", 0, 53));
		assert_true(passes(G, "2001:db8:7::7", 0, 53));
		assert_true(passes(L, "2001:db8:7::7", 0, 53));
	}
}

/* Protected sources on the wild wire that may be heard: what a witness behind the guard counts. */
static void heard(const char *src, const char *dst, uint8_t proto, uint16_t dport, int want)
{
	uint8_t buf[128];
	size_t len = udp_packet(buf, src, dst, 4500, dport);
	uint64_t before, after = 0;

	buf[buf[0] >> 4 == 4 ? 9 : 6] = proto;
	if (buf[0] >> 4 == 4)
		ip_checksum(buf);
	assert_int_equal(guard_nft_drops(ns[G], "gtest", &before), 0);
	inject(W, "w", mac_g, buf, len, N);
	for (int i = 0; i < (want ? 3 : 50) && (!i || after == before); i++) {
		usleep(10000);
		assert_int_equal(guard_nft_drops(ns[G], "gtest", &after), 0);
	}
	if (after - before != (want ? 0 : N))
		fail_msg("%s protocol %u port %u: %lu of %d refused", src, proto, dport, after - before, N);
}

/*
 * Transport mode (seed, section 5): the peer's own address is what is protected. Envelopes and IKE pass,
 * nothing else, whoever else calls that address a peer; and neighbour discovery, where it is on the wire.
 */
static void test_transport_end(void **state)
{
	static const char *const far[] = {"198.51.100.7", "2001:db8:7::7"}, *const own[] = {"192.0.2.1",
											     "2001:db8::1"};

	NEED_ROOT();
	add_rule("198.51.100.7/32", "ipsec1");
	add_rule("2001:db8:7::7/128", "ipsec1");
	add_rule("2001:db8::9/128", "ipsec1");
	for (int i = 0; i < 2; i++) {
		ends[set.n_ends++] = addr(far[i]);
		peers[set.n_peers++] = addr(far[i]); /* another link, in tunnel mode, to the same host */
	}
	ends[set.n_ends++] = addr("2001:db8::9");
	for (int again = 0; again < 2; again++) {
		assert_int_equal(apply(), 0);
		assert_int_equal(guard_audit(g, ns[G], &set), GUARD_FLOOR | GUARD_XFRM | GUARD_NFT);
	}
	OK(G, "ip route replace 198.51.100.7 via 192.0.2.2 && ip -6 route replace 2001:db8:7::7 via "
	      "2001:db8::2");
	for (int i = 0; i < 2; i++) {
		assert_false(passes(G, far[i], 0, 53));
		assert_false(passes(L, far[i], 0, 53));
		assert_true(passes(G, far[i], 0, 4500));
		assert_true(passes(G, far[i], 0, 500));
		assert_true(passes(G, far[i], 4500, 34567));
		assert_true(esp_passes(far[i]));
		heard(far[i], own[i], IPPROTO_UDP, 53, 0);
		heard(far[i], own[i], IPPROTO_TCP, 4500, 0);
		heard(far[i], own[i], IPPROTO_UDP, 4500, 1);
		heard(far[i], own[i], IPPROTO_ESP, 0, 1);
	}
	/* an end on the wire itself: found by real neighbour discovery, and still no cleartext */
	OK(W, "sysctl -qw net.ipv6.conf.w.disable_ipv6=0 && ip addr add 2001:db8::9/64 dev w nodad");
	OK(G, "ip -6 route replace 2001:db8::9 dev wild"); /* round the floor, as a fwmark's table is */
	assert_int_not_equal(ping(G, "-6", "2001:db8::9"), 0);
	assert_true(esp_passes("2001:db8::9"));
	set.n_ends = 0; /* and without: the exception for peers is whole again */
	assert_int_equal(apply(), 0);
	assert_true(passes(G, far[0], 0, 53));
	assert_true(passes(G, far[1], 0, 53));
}

/* An older version's table has our names but another shape. */
static void test_foreign_shape(void **state)
{
	NEED_ROOT();
	OK(G, "nft 'table inet espwire_gtest { set allow4 { type ether_addr; }; chain prerouting { "
	      "type filter hook input priority 0; }; }'");
	both_families();
	assert_int_equal(apply(), 0);
	assert_int_equal(guard_audit(g, ns[G], &set), GUARD_FLOOR | GUARD_XFRM | GUARD_NFT);
}

static void test_refusals(void **state)
{
	unsigned int missing = 0;

	NEED_ROOT();
	both_families();
	set.instance = "x; flush ruleset";
	assert_int_equal(guard_apply(g, ns[G], &set, &missing), -EINVAL);
	assert_int_equal(missing, 2);
	set.instance = "";
	assert_int_equal(guard_apply(g, ns[G], &set, NULL), -EINVAL);
	set.instance = "gtest";
	rules[0].prefix.addr.s6_addr[15] = 1; /* host bits */
	assert_int_equal(guard_apply(g, ns[G], &set, NULL), -EINVAL);
	rules[0].prefix.addr.s6_addr[15] = 0;
	strcpy(rules[0].devices[0], "ipsec*"); /* no patterns: blocked, and said so */
	assert_int_equal(apply(), 0);
	assert_int_equal(ipsec1_count(2 * N), 2 * N);
	/* one prefix in two rules is one rule with both devices */
	add_rule("10.2.0.0/16", "ipsec1");
	assert_int_equal(apply(), 0);
	assert_int_equal(ipsec1_count(3 * N), 3 * N);
}

static void test_thousand(void **state)
{
	struct guard_rule *many = calloc(2000, sizeof *many);
	struct guard_set big = {.instance = "gtest", .rules = many, .n_rules = 2000};
	uint64_t t[5];
	char p[64];

	NEED_ROOT();
	for (unsigned int i = 0; i < 2000; i++) {
		snprintf(p, sizeof p, i % 2 ? "fd02:%x::/48" : "10.%u.%u.0/24",
			 i % 2 ? i : 100 + i / 512, i / 2 % 256);
		if (i % 2)
			snprintf(p, sizeof p, "fd02:0:%x::/48", i);
		assert_int_equal(prefix_parse(p, &many[i].prefix), 0);
		snprintf(many[i].devices[0], IFNAMSIZ, "ipsec%u", i / 2);
		many[i].n_devices = 1;
	}
	t[0] = now_ns();
	assert_int_equal(guard_apply(g, ns[G], &big, NULL), 0);
	t[1] = now_ns();
	assert_int_equal(guard_apply(g, ns[G], &big, NULL), 0);
	t[2] = now_ns();
	assert_int_equal(guard_audit(g, ns[G], &big), GUARD_FLOOR | GUARD_XFRM | GUARD_NFT);
	t[3] = now_ns();
	assert_int_equal(guard_release(g, ns[G], "gtest"), 0);
	t[4] = now_ns();
	print_message("2000 prefixes: apply %lu ms, again %lu ms, audit %lu ms, release %lu ms\n",
		      (t[1] - t[0]) / 1000000, (t[2] - t[1]) / 1000000, (t[3] - t[2]) / 1000000,
		      (t[4] - t[3]) / 1000000);
	assert_true(t[1] - t[0] < 10000000000ull);
	free(many);
}

int main(void)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof one, &one);
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_bed_can_leak),
		T(test_up),
		T(test_down),
		T(test_deleted),
		T(test_no_carrier),
		T(test_better_route),
		T(test_rule_before),
		T(test_new_uplink),
		T(test_inbound),
		T(test_full_tunnel_out),
		T(test_full_tunnel_neighbours),
		T(test_full_tunnel_in),
		T(test_recreated_device),
		T(test_audit),
		T(test_others_untouched),
		T(test_shrink),
		T(test_nested_edges),
		T(test_plain_everything),
		T(test_peer_is_prefix),
		T(test_transport_end),
		T(test_foreign_shape),
		T(test_refusals),
		T(test_thousand),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
