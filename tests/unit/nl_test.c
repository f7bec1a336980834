// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nl and ns against the running kernel, in namespaces without a name (unshare) that vanish with the
 * process. Needs CAP_NET_ADMIN and CAP_SYS_ADMIN; says so and skips without.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "nl.h"
#include "ns.h"

static int fd_a = -1, fd_b = -1; /* two namespaces */
static struct nl *a, *b;

static struct in6_addr ip(const char *s)
{
	struct in6_addr x;

	assert_int_equal(addr_parse(s, &x), 0);
	return x;
}

static struct prefix pfx(const char *s)
{
	struct prefix p;

	assert_int_equal(prefix_parse(s, &p), 0);
	return p;
}

static int here(void)
{
	return open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
}

static ino_t ino_of(int fd)
{
	struct stat st;

	return fd >= 0 && !fstat(fd, &st) ? st.st_ino : 0;
}

static int new_ns(void)
{
	int saved = here(), fd;

	if (unshare(CLONE_NEWNET)) {
		close(saved);
		return -errno;
	}
	fd = here();
	ns_restore(saved);
	return fd;
}

static int setup(void **state)
{
	fd_a = new_ns();
	fd_b = new_ns();
	if (fd_a < 0 || fd_b < 0)
		return 0; /* every test says why it skips */
	assert_int_equal(nl_open(&a, fd_a), 0);
	assert_int_equal(nl_open(&b, fd_b), 0);
	return 0;
}

/* Whatever a failed test left under /run/netns. */
static void sweep(void)
{
	static const char *const names[] = {"nltest", "nlfile", "nladopt"};
	char inst[32];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(inst, sizeof inst, "%s%d", names[i], (int)getpid());
		ns_backend_remove(inst);
	}
}

static int teardown(void **state)
{
	if (a && b)
		sweep();
	nl_close(a);
	nl_close(b);
	a = b = NULL;
	close(fd_a);
	close(fd_b);
	return 0;
}

#define NEED_ROOT()                                                                                \
	do {                                                                                       \
		if (!a || !b) {                                                                    \
			print_message("SKIPPED: needs root (network namespaces)\n");               \
			skip();                                                                    \
		}                                                                                  \
	} while (0)

static int pair_far(const char *name, const char *peer, int far)
{
	struct veth_spec v = {.name = name,
			      .peer = peer,
			      .peer_netns_fd = far,
			      .mtu = 1400,
			      .txqlen = 77,
			      .noarp = true};

	return nl_veth_add(a, &v);
}

static int pair(const char *name, const char *peer)
{
	return pair_far(name, peer, fd_b);
}

static int read_file(const char *path, char *buf, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, len - 1);

	if (fd >= 0)
		close(fd);
	buf[n > 0 ? n : 0] = 0;
	buf[strcspn(buf, "\n")] = 0;
	return n < 0 ? -1 : 0;
}

struct peek {
	const char *path;
	char value[64];
};

static int peek_fn(void *arg)
{
	struct peek *p = arg;

	return read_file(p->path, p->value, sizeof p->value);
}

static const char *sysctl_of(int ns, struct peek *p, const char *path)
{
	p->path = path;
	p->value[0] = 0;
	ns_call(ns, peek_fn, p);
	return p->value;
}

struct cmd {
	const char *line;
};

static int run_cmd(void *arg)
{
	int st = system(((struct cmd *)arg)->line);

	return WIFEXITED(st) ? WEXITSTATUS(st) : -1;
}

static int sh(int ns, const char *line)
{
	struct cmd c = {line};

	return ns_call(ns, run_cmd, &c);
}

/* 11 = one transmit and one receive queue, by iproute2's account */
static int queues_of(const char *name, int ns)
{
	char line[160];

	snprintf(line, sizeof line,
		 "ip -d link show dev %s | grep -q 'numtxqueues 1 .*numrxqueues 1 ' && exit 11",
		 name);
	return sh(ns, line);
}

static void test_own_namespace_untouched(void **state)
{
	struct nl *n;
	ino_t before = ino_of(here());
	int saved;

	NEED_ROOT();
	assert_int_equal(nl_open(&n, fd_a), 0);
	assert_true(nl_monitor_open(n) >= 0);
	assert_int_equal(ino_of(here()), before);
	nl_close(n);
	saved = ns_enter(fd_b);
	assert_true(saved >= 0);
	assert_int_equal(ino_of(here()), ino_of(fd_b));
	ns_restore(saved);
	assert_int_equal(ino_of(here()), before);
	assert_int_equal(nl_open(&n, open("/dev/null", O_RDONLY)), -EINVAL);
	assert_null(n);
}

static void test_veth(void **state)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1}, far_mac[6] = {2, 0, 0, 0, 0, 2};
	struct veth_spec v = {.name = "ipsec1",
			      .peer = "b1",
			      .peer_netns_fd = fd_b,
			      .mtu = 1400,
			      .txqlen = 77,
			      .mac = mac,
			      .peer_mac = far_mac,
			      .noarp = true};
	struct nl_link l, p;
	struct peek k;

	NEED_ROOT();
	assert_int_equal(nl_veth_add(a, &v), 0);
	assert_int_equal(nl_link_get(a, "ipsec1", &l), 0);
	assert_int_equal(nl_link_get(b, "b1", &p), 0);
	assert_string_equal(l.kind, "veth");
	assert_int_equal(l.mtu, 1400);
	assert_int_equal(p.mtu, 1400);
	assert_int_equal(l.peer_ifindex, p.ifindex);
	assert_int_equal(p.peer_ifindex, l.ifindex);
	assert_memory_equal(l.mac, mac, 6);
	assert_memory_equal(p.mac, far_mac, 6);
	assert_int_equal(l.flags & (IFF_NOARP | IFF_MULTICAST | IFF_UP), IFF_NOARP | IFF_MULTICAST);
	assert_int_equal(queues_of("ipsec1", fd_a), 11);
	assert_int_equal(queues_of("b1", fd_b), 11);
	assert_string_equal(sysctl_of(fd_a, &k, "/proc/sys/net/ipv6/conf/ipsec1/addr_gen_mode"),
			    "1");
	assert_string_equal(sysctl_of(fd_b, &k, "/proc/sys/net/ipv6/conf/b1/addr_gen_mode"), "1");
	/* both names are taken: by the near end, then by the far end */
	assert_int_equal(nl_veth_add(a, &v), -EEXIST);
	v.name = "ipsec2";
	assert_int_equal(nl_veth_add(a, &v), -EEXIST);
	assert_int_equal(nl_link_get(a, "ipsec2", &p), -ENODEV);
	v.name = "a-name-of-17-char";
	assert_int_equal(nl_veth_add(a, &v), -EINVAL);
}

static void test_link_changes(void **state)
{
	struct nl_link l, other;

	NEED_ROOT();
	assert_int_equal(pair("ipsec1", "b1"), 0);
	assert_int_equal(pair("ipsec2", "b2"), 0);
	assert_int_equal(nl_link_get(a, "ipsec1", &l), 0);
	assert_int_equal(nl_link_get(a, "ipsec2", &other), 0);
	assert_int_equal(nl_link_set_mtu(a, l.ifindex, 1300), 0);
	assert_int_equal(nl_link_set_alias(a, l.ifindex, "east"), 0);
	assert_int_equal(nl_link_set_txqlen(a, l.ifindex, 5), 0);
	assert_int_equal(nl_link_altname_add(a, l.ifindex, "ipsec:1"), 0);
	assert_int_equal(nl_link_altname_add(a, l.ifindex, "ipsec:1"), 0);
	assert_int_equal(nl_link_altname_add(a, other.ifindex, "ipsec:1"), -EEXIST);
	assert_int_equal(nl_link_set_up(a, l.ifindex, true), 0);
	assert_int_equal(nl_link_get_index(a, l.ifindex, &l), 0);
	assert_int_equal(l.mtu, 1300);
	assert_string_equal(l.alias, "east");
	assert_int_equal(l.flags & (IFF_UP | NL_LOWER_UP), IFF_UP); /* far end is down */
	assert_int_equal(nl_link_get(b, "b1", &other), 0);
	assert_int_equal(nl_link_set_up(b, other.ifindex, true), 0);
	assert_int_equal(nl_link_get_index(a, l.ifindex, &l), 0);
	assert_int_equal(l.flags & (IFF_UP | NL_LOWER_UP), IFF_UP | NL_LOWER_UP);
	assert_int_equal(nl_tx_csum_off(a, "ipsec1"), 0);
	assert_int_equal(nl_tx_csum_off(a, "nosuch"), -ENODEV);
	/* moved away, and gone with its pair */
	assert_int_equal(nl_link_set_netns(a, l.ifindex, fd_b), 0);
	assert_int_equal(nl_link_get(a, "ipsec1", &other), -ENODEV);
	assert_int_equal(nl_link_get(b, "ipsec1", &other), 0);
	assert_int_equal(nl_link_del(b, other.ifindex), 0);
	assert_int_equal(nl_link_get(b, "b1", &other), -ENODEV);
	assert_int_equal(nl_link_del(b, 99999), -ENODEV);
	assert_int_equal(nl_link_get_index(b, 0, &other), -ENODEV);
}

static void test_ext_ack(void **state)
{
	struct nl_link l;

	NEED_ROOT();
	assert_int_equal(pair("ipsec1", "b1"), 0);
	assert_int_equal(nl_link_get(a, "ipsec1", &l), 0);
	assert_true(nl_link_set_mtu(a, l.ifindex, 1 << 20) < 0);
	assert_true(strlen(nl_err(a)) > 5); /* "mtu greater than device maximum" */
	assert_int_equal(nl_link_set_mtu(a, l.ifindex, 1400), 0);
	assert_string_equal(nl_err(a), "");
}

struct census {
	int n, in_callback;
};

static void count_link(void *arg, const struct nl_link *l)
{
	struct nl_link again;
	struct census *c = arg;

	c->n++;
	/* a callback may ask in turn */
	if (!nl_link_get_index(a, l->ifindex, &again) && !strcmp(again.name, l->name))
		c->in_callback++;
}

/* Our share only: the kernel's one RTNL lock belongs to every test on the machine. */
static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void test_thousand(void **state)
{
	uint64_t t0, made, seen, cpu;
	struct census c = {0};
	char n1[24], n2[24];

	NEED_ROOT();
	cpu = cpu_ns();
	t0 = now_ns();
	for (int i = 0; i < 1000; i++) {
		snprintf(n1, sizeof n1, "ipsec%d", i);
		snprintf(n2, sizeof n2, "b%d", i);
		assert_int_equal(pair(n1, n2), 0);
	}
	made = now_ns() - t0;
	cpu = cpu_ns() - cpu;
	t0 = now_ns();
	assert_int_equal(nl_link_each(a, count_link, &c), 0);
	seen = now_ns() - t0;
	assert_int_equal(c.n, 1001); /* and lo */
	assert_int_equal(c.in_callback, 1001);
	print_message("1000 links made in %lu ms (%lu of CPU), listed in %lu ms\n", made / 1000000,
		      cpu / 1000000, seen / 1000000);
	assert_true(cpu < 2000000000ull);
}

struct addrs {
	struct nl_addr v4, v6;
	int n4, n6;
};

static void note_addr(void *arg, const struct nl_addr *x)
{
	struct addrs *s = arg;

	if (addr_is4(&x->local) && x->ifindex != 1) {
		s->v4 = *x;
		s->n4++;
	} else if (x->ifindex != 1) {
		s->v6 = *x;
		s->n6++;
	}
}

static void test_addresses(void **state)
{
	struct nl_addr v4 = {.local = ip("10.9.0.1"), .peer = ip("10.9.0.2"), .prefix_len = 32};
	struct nl_addr v6 = {.local = ip("fd09::1"), .peer = ip("fd09::2"), .prefix_len = 128};
	struct nl_addr mix = {.local = ip("fd09::1"), .peer = ip("10.9.0.2"), .prefix_len = 32};
	struct addrs s = {0};
	struct nl_link l;

	NEED_ROOT();
	assert_int_equal(pair("ipsec1", "b1"), 0);
	assert_int_equal(nl_link_get(a, "ipsec1", &l), 0);
	assert_int_equal(nl_link_set_up(a, l.ifindex, true), 0);
	v4.ifindex = v6.ifindex = mix.ifindex = l.ifindex;
	for (int i = 0; i < 2; i++) { /* the second time replaces */
		assert_int_equal(nl_addr_add(a, &v4), 0);
		assert_int_equal(nl_addr_add(a, &v6), 0);
	}
	assert_int_equal(nl_addr_add(a, &mix), -EINVAL);
	assert_int_equal(nl_addr_each(a, note_addr, &s), 0);
	assert_int_equal(s.n4, 1);
	assert_int_equal(s.n6, 1); /* no link-local of the kernel's */
	assert_memory_equal(&s.v4.local, &v4.local, 16);
	assert_memory_equal(&s.v4.peer, &v4.peer, 16);
	assert_int_equal(s.v4.prefix_len, 32);
	assert_memory_equal(&s.v6.local, &v6.local, 16);
	assert_memory_equal(&s.v6.peer, &v6.peer, 16);
	assert_int_equal(s.v6.prefix_len, 128);
	assert_int_equal(nl_addr_del(a, &v4), 0);
	assert_int_equal(nl_addr_del(a, &v6), 0);
	assert_int_equal(nl_addr_del(a, &v4), -EADDRNOTAVAIL);
}

/*
 * a: ipsec1 10.9.0.1 peer 10.9.0.2 and wild 192.0.2.1/24, fd09 and 2001:db8 likewise, both with
 * carrier
 */
static void two_devices(struct nl_link *ipsec1, struct nl_link *wild)
{
	static const char *const names[][2] = {{"ipsec1", "b1"}, {"wild", "b2"}};
	struct nl_addr x[4] = {
		{.local = ip("10.9.0.1"), .peer = ip("10.9.0.2"), .prefix_len = 32},
		{.local = ip("fd09::1"), .peer = ip("fd09::2"), .prefix_len = 128},
		{.local = ip("192.0.2.1"), .peer = ip("192.0.2.1"), .prefix_len = 24},
		{.local = ip("2001:db8::1"), .peer = ip("2001:db8::1"), .prefix_len = 64},
	};
	struct nl_link l;

	for (int i = 0; i < 2; i++) {
		assert_int_equal(pair(names[i][0], names[i][1]), 0);
		assert_int_equal(nl_link_get(b, names[i][1], &l), 0);
		assert_int_equal(nl_link_set_up(b, l.ifindex, true), 0);
		assert_int_equal(nl_link_get(a, names[i][0], &l), 0);
		assert_int_equal(nl_link_set_up(a, l.ifindex, true), 0);
		*(i ? wild : ipsec1) = l;
	}
	for (int i = 0; i < 4; i++) {
		x[i].ifindex = i < 2 ? ipsec1->ifindex : wild->ifindex;
		assert_int_equal(nl_addr_add(a, &x[i]), 0);
	}
}

struct find {
	struct prefix dst;
	uint32_t metric, table;
	int n;
	struct nl_route hit;
};

static void find_route(void *arg, const struct nl_route *r)
{
	struct find *f = arg;

	if (r->dst.is4 != f->dst.is4 || r->dst.len != f->dst.len ||
	    memcmp(&r->dst.addr, &f->dst.addr, 16))
		return;
	if (r->metric != f->metric || (f->table && r->table != f->table))
		return;
	f->hit = *r;
	f->n++;
}

static int have_route(const struct nl_route *r, struct nl_route *hit)
{
	struct find f = {.dst = r->dst, .metric = r->metric, .table = r->table};

	assert_int_equal(nl_route_each(a, 0, find_route, &f), 0);
	if (hit)
		*hit = f.hit;
	return f.n;
}

static void routes_of(const char *dst, const char *via)
{
	struct nl_route r = {.dst = pfx(dst), .type = NL_RT_UNICAST, .metric = 10}, u, hit;
	struct nl_link l, wild;

	two_devices(&l, &wild);
	r.oif = l.ifindex;
	assert_int_equal(nl_route_add(a, &r), 0);
	assert_int_equal(nl_route_add(a, &r), 0); /* again: no change */
	assert_int_equal(have_route(&r, &hit), 1);
	assert_int_equal(hit.proto, NL_PROTO_ESPWIRE);
	assert_int_equal(hit.oif, l.ifindex);
	assert_int_equal(hit.table, RT_TABLE_MAIN);
	r.oif = wild.ifindex; /* ours: replaced */
	r.via = ip(via);
	r.has_via = true;
	r.mtu = 1300;
	assert_int_equal(nl_route_add(a, &r), 0);
	assert_int_equal(have_route(&r, &hit), 1);
	assert_int_equal(hit.oif, wild.ifindex);
	assert_true(hit.has_via && !memcmp(&hit.via, &r.via, 16));
	assert_int_equal(hit.mtu, 1300);
	u = r;
	u.type = NL_RT_UNREACHABLE;
	u.metric = 4294967294u;
	u.has_via = false;
	u.oif = 0;
	u.mtu = 0;
	assert_int_equal(nl_route_add(a, &u), 0);
	assert_int_equal(nl_route_add(a, &u), 0);
	assert_int_equal(have_route(&u, &hit), 1);
	assert_int_equal(hit.type, NL_RT_UNREACHABLE);
	u.table = 77;
	assert_int_equal(nl_route_add(a, &u), 0);
	assert_int_equal(have_route(&u, &hit), 1);
	assert_int_equal(nl_route_del(a, &u), 0);
	assert_int_equal(nl_route_del(a, &r), 0);
	assert_int_equal(nl_route_del(a, &r), -ESRCH);
	assert_int_equal(have_route(&r, NULL), 0);
}

static void test_routes4(void **state)
{
	NEED_ROOT();
	routes_of("10.2.0.0/16", "192.0.2.2");
}

static void test_routes6(void **state)
{
	NEED_ROOT();
	routes_of("fd02::/48", "2001:db8::2");
}

static void others_of(const char *dst, const char *ip_cmd, uint32_t metric)
{
	struct nl_route r = {.dst = pfx(dst), .metric = metric}, hit;
	struct nl_link l, wild;
	char line[256];

	two_devices(&l, &wild);
	snprintf(line, sizeof line, "ip %s route add %s dev wild proto static metric %u", ip_cmd,
		 dst, metric);
	assert_int_equal(sh(fd_a, line), 0);
	r.oif = l.ifindex;
	assert_int_equal(nl_route_add(a, &r), -EEXIST);
	assert_int_equal(nl_route_del(a, &r), -ESRCH);
	r.oif = wild.ifindex;
	assert_int_equal(nl_route_del(a, &r), -ESRCH);
	assert_int_equal(have_route(&r, &hit), 1);
	assert_int_equal(hit.oif, wild.ifindex);
	assert_int_equal(hit.proto, RTPROT_STATIC);
}

static void test_never_others4(void **state)
{
	NEED_ROOT();
	others_of("10.2.0.0/16", "-4", 10);
}

static void test_never_others6(void **state)
{
	NEED_ROOT();
	others_of("fd02::/48", "-6", 10);
}

static void test_route_get(void **state)
{
	struct in6_addr far = ip("198.51.100.7"), far6 = ip("2001:db8:7::7");
	struct nl_link l, wild;
	struct nl_route r;

	NEED_ROOT();
	two_devices(&l, &wild);
	assert_int_equal(nl_route_get(a, &far, NULL, 0, 17, 4500, &r), -ENETUNREACH);
	assert_int_equal(sh(fd_a, "ip route add 198.51.100.0/24 via 192.0.2.2"), 0);
	assert_int_equal(sh(fd_a, "ip route add 198.51.100.0/24 dev ipsec1 mtu 1200 table 51 && ip "
				  "rule add fwmark 0x51 table 51"),
			 0);
	assert_int_equal(sh(fd_a, "ip route add default dev ipsec1 table 52 && ip rule add ipproto "
				  "udp dport 4501 table 52"),
			 0);
	assert_int_equal(nl_route_get(a, &far, NULL, 0, 17, 4500, &r), 0);
	assert_int_equal(r.oif, wild.ifindex);
	assert_int_equal(r.mtu, 1400); /* the device's */
	assert_int_equal(r.table, RT_TABLE_MAIN);
	assert_true(r.has_src && r.has_via);
	assert_int_equal(memcmp(&r.src, &(struct in6_addr){0}, 16) != 0, 1);
	assert_int_equal(nl_route_get(a, &far, NULL, 0x51, 17, 4500, &r), 0);
	assert_int_equal(r.oif, l.ifindex);
	assert_int_equal(r.table, 51);
	assert_int_equal(r.mtu, 1200);
	assert_int_equal(nl_route_get(a, &far, NULL, 0, 17, 4501, &r), 0);
	assert_int_equal(r.oif, l.ifindex);
	/* a protocol the kernel refuses in the question */
	assert_int_equal(nl_route_get(a, &far, NULL, 0x51, 50, 0, &r), 0);
	assert_int_equal(r.oif, l.ifindex);
	/* held: rules and devices are those of the first question, routes those of each */
	nl_hold(a);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(nl_route_get(a, &far, NULL, 0x51, 50, 0, &r), 0);
		assert_int_equal(r.oif, l.ifindex);
		assert_int_equal(nl_route_get(a, &far, NULL, 0, 50, 0, &r), 0);
		assert_int_equal(r.oif, wild.ifindex);
		assert_int_equal(r.mtu, 1400);
	}
	assert_int_equal(sh(fd_a, "ip rule add ipproto 50 table 52 && ip link set wild mtu 1399"), 0);
	assert_int_equal(nl_route_get(a, &far, NULL, 0, 50, 0, &r), 0);
	assert_int_equal(r.oif, wild.ifindex);
	assert_int_equal(r.mtu, 1400);
	nl_let_go(a);
	assert_int_equal(nl_route_get(a, &far, NULL, 0, 50, 0, &r), 0);
	assert_int_equal(r.oif, l.ifindex);
	assert_int_equal(sh(fd_a, "ip rule del ipproto 50 table 52"), 0);
	assert_int_equal(nl_route_get(a, &far, NULL, 0, 50, 0, &r), 0);
	assert_int_equal(r.mtu, 1399);
	assert_int_equal(sh(fd_a, "ip link set wild mtu 1400 && ip route add unreachable 198.51.100.7/32"), 0);
	assert_int_equal(nl_route_get(a, &far, NULL, 0, 17, 4500, &r), -EHOSTUNREACH);
	assert_int_equal(sh(fd_a, "ip -6 route add 2001:db8:7::/48 via 2001:db8::2 mtu 1290"), 0);
	assert_int_equal(nl_route_get(a, &far6, NULL, 0, 17, 4500, &r), 0);
	assert_int_equal(r.oif, wild.ifindex);
	assert_int_equal(r.mtu, 1290);
}

static void test_sysctl(void **state)
{
	struct nl_sysctl set[] = {{.family = "ipv4", .name = "ignore_routes_with_linkdown", .value = "1"},
				  {.family = "ipv6", .name = "keep_addr_on_down", .value = "1"}};
	struct peek k;

	NEED_ROOT();
	assert_int_equal(pair("ipsec1", "b1"), 0);
	assert_int_equal(nl_sysctls(a, "ipsec1", set, 2), 0);
	assert_string_equal(
		sysctl_of(fd_a, &k, "/proc/sys/net/ipv4/conf/ipsec1/ignore_routes_with_linkdown"),
		"1");
	assert_string_equal(sysctl_of(fd_a, &k, "/proc/sys/net/ipv6/conf/ipsec1/keep_addr_on_down"), "1");
	/* one that is not there does not keep the others out */
	set[0].name = "nosuch";
	set[1].value = "0";
	assert_int_equal(nl_sysctls(a, "ipsec1", set, 2), -ENOENT);
	assert_int_equal(set[0].err, -ENOENT);
	assert_int_equal(set[1].err, 0);
	assert_string_equal(sysctl_of(fd_a, &k, "/proc/sys/net/ipv6/conf/ipsec1/keep_addr_on_down"), "0");
	assert_int_equal(nl_sysctls(a, "../../../kernel", set, 2), -EINVAL);
}

struct seen {
	int link_new, link_del, addr_new, addr_del, route_new, route_del, overruns;
	char last[IFNAMSIZ];
};

static void ev_link(void *arg, const struct nl_link *l)
{
	struct seen *s = arg;

	snprintf(s->last, sizeof s->last, "%s", l->name);
	*(l->deleted ? &s->link_del : &s->link_new) += 1;
}

static void ev_addr(void *arg, const struct nl_addr *x)
{
	struct seen *s = arg;

	*(x->deleted ? &s->addr_del : &s->addr_new) += 1;
}

static void ev_route(void *arg, const struct nl_route *r)
{
	struct seen *s = arg;

	if (r->dst.is4 && r->dst.len == 16)
		*(r->deleted ? &s->route_del : &s->route_new) += 1;
}

static void ev_rule(void *arg)
{
}

static void ev_overrun(void *arg)
{
	((struct seen *)arg)->overruns++;
}

static const struct nl_events events = {ev_link, ev_addr, ev_route, ev_rule, ev_overrun};

static void test_monitor(void **state)
{
	struct nl_route r = {
		.dst = pfx("10.2.0.0/16"), .type = NL_RT_UNREACHABLE, .metric = 4294967294u};
	struct pollfd pfd = {.events = POLLIN};
	struct nl_link l, wild;
	struct seen s = {0};

	NEED_ROOT();
	assert_int_equal(nl_monitor_read(a, &events, &s), -EBADF);
	pfd.fd = nl_monitor_open(a);
	assert_true(pfd.fd >= 0);
	assert_int_equal(nl_monitor_open(a), pfd.fd);
	assert_int_equal(nl_monitor_read(a, &events, &s), 0); /* nothing yet, and no blocking */
	two_devices(&l, &wild);
	assert_int_equal(nl_route_add(a, &r), 0);
	assert_int_equal(nl_route_del(a, &r), 0);
	/* IPv6 addresses are announced by a kernel worker, a moment later */
	for (int i = 0; i < 100 && s.addr_new < 4 && poll(&pfd, 1, 50) >= 0; i++)
		assert_int_equal(nl_monitor_read(a, &events, &s), 0);
	assert_true(s.link_new >= 2 && s.addr_new >= 4);
	assert_int_equal(s.route_new, 1);
	assert_int_equal(s.route_del, 1);
	assert_int_equal(s.link_del, 0);
	assert_int_equal(nl_link_del(a, l.ifindex), 0);
	assert_int_equal(nl_link_set_netns(a, wild.ifindex, fd_b),
			 0); /* leaving is as good as dying */
	assert_int_equal(nl_monitor_read(a, &events, &s), 0);
	assert_int_equal(s.link_del, 2);
	assert_true(s.addr_del >= 4);
}

/* A bridge port that leaves its bridge sends an AF_BRIDGE DELLINK: the device lives on. */
static void test_monitor_bridge(void **state)
{
	struct seen s = {0};

	NEED_ROOT();
	if (sh(fd_a, "ip link add br0 type bridge 2>/dev/null")) {
		print_message("SKIPPED: no bridge device in this kernel\n");
		skip();
	}
	assert_int_equal(pair("ipsec1", "b1"), 0);
	assert_true(nl_monitor_open(a) >= 0);
	assert_int_equal(
		sh(fd_a, "ip link set dev ipsec1 master br0 && ip link set dev ipsec1 nomaster"),
		0);
	assert_int_equal(nl_monitor_read(a, &events, &s), 0);
	assert_true(s.link_new > 0);
	assert_int_equal(s.link_del, 0);
}

static void test_overrun(void **state)
{
	struct nl_route r = {.dst = pfx("10.1.0.0/16"), .type = NL_RT_UNREACHABLE};
	struct seen s = {0};
	int fd, small = 1024;

	NEED_ROOT();
	fd = nl_monitor_open(a);
	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
	for (uint32_t i = 1; i < 200; i++) {
		r.metric = i;
		assert_int_equal(nl_route_add(a, &r), 0);
	}
	assert_int_equal(nl_monitor_read(a, &events, &s), 0);
	assert_int_equal(s.overruns, 1);
	assert_int_equal(nl_monitor_read(a, &events, &s), 0);
	assert_int_equal(s.overruns, 1);
	assert_int_equal(s.route_new, 0); /* older than what was lost: not told after the overrun */
	r.metric = 200;
	assert_int_equal(nl_route_add(a, &r), 0);
	assert_int_equal(nl_monitor_read(a, &events, &s), 0);
	assert_int_equal(s.route_new, 1); /* the next is */
}

/* Dumps stay whole while somebody else changes what is dumped. */
static _Atomic int churn_stop;
static void *churn(void *arg)
{
	struct nl *n;
	char name[24];
	struct veth_spec v = {.name = name, .peer = "zz", .peer_netns_fd = -1};
	struct nl_link l;

	if (nl_open(&n, fd_a))
		return NULL;
	for (int i = 0; !churn_stop; i++) {
		snprintf(name, sizeof name, "c%d", i % 7);
		if (!nl_veth_add(n, &v) && !nl_link_get(n, name, &l))
			nl_link_del(n, l.ifindex);
	}
	nl_close(n);
	return NULL;
}

static void count_fixed(void *arg, const struct nl_link *l)
{
	*(int *)arg += !strncmp(l->name, "ipsec", 5);
}

static void test_dump_under_change(void **state)
{
	char n1[24], n2[24];
	pthread_t t;

	NEED_ROOT();
	for (int i = 0; i < 100; i++) {
		snprintf(n1, sizeof n1, "ipsec%d", i);
		snprintf(n2, sizeof n2, "b%d", i);
		assert_int_equal(pair(n1, n2), 0);
	}
	churn_stop = 0;
	assert_int_equal(pthread_create(&t, NULL, churn, NULL), 0);
	for (int i = 0; i < 100; i++) {
		int n = 0, err = nl_link_each(a, count_fixed, &n);

		if (err != -EINTR) { /* an honest refusal is allowed, a wrong count is not */
			assert_int_equal(err, 0);
			assert_int_equal(n, 100);
		}
	}
	churn_stop = 1;
	pthread_join(t, NULL);
}

/* ---- ns ---- */

static int answer(void *arg)
{
	*(ino_t *)arg = ino_of(here());
	return 42;
}

static void test_call(void **state)
{
	ino_t i = 0;

	NEED_ROOT();
	assert_int_equal(ns_call(fd_b, answer, &i), 42);
	assert_int_equal(i, ino_of(fd_b));
	assert_int_equal(ns_call(-1, answer, &i), 42);
	assert_int_equal(i, ino_of(here()));
	assert_int_equal(ns_call(open("/dev/null", O_RDONLY), answer, &i), -EINVAL);
}

struct starter {
	const char *instance;
	int fd, created;
};

static void *start(void *arg)
{
	struct starter *s = arg;

	s->fd = ns_backend_open(s->instance, &s->created);
	return NULL;
}

static void test_backend(void **state)
{
	struct starter s[8];
	char inst[32], path[64], name[64];
	pthread_t t[8];
	struct peek k;
	int created = 0, again, fd, saved;

	NEED_ROOT();
	snprintf(inst, sizeof inst, "nltest%d", (int)getpid());
	snprintf(path, sizeof path, "/run/netns/espwire-%s", inst);
	/* a stale empty file, and eight starters at once */
	mkdir("/run/netns", 0755);
	fd = open(path, O_CREAT | O_EXCL | O_RDONLY, 0);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(ns_open(path), -EINVAL); /* a file is not a namespace */
	for (int i = 0; i < 8; i++) {
		s[i] = (struct starter){.instance = inst};
		pthread_create(&t[i], NULL, start, &s[i]);
	}
	for (int i = 0; i < 8; i++) {
		pthread_join(t[i], NULL);
		created += s[i].created;
	}
	again = ns_backend_open(inst, NULL);
	fd = ns_open(strrchr(path, '/') + 1);
	saved = ns_enter(again);
	name[0] = 0;
	(void)ns_name(name, sizeof name);
	ns_restore(saved);
	sysctl_of(again, &k, "/proc/sys/net/ipv6/conf/default/disable_ipv6");
	assert_int_equal(ns_backend_remove(inst), 0);
	assert_int_equal(ns_backend_remove(inst), 0);

	assert_int_equal(created, 1);
	for (int i = 0; i < 8; i++) {
		assert_true(s[i].fd >= 0);
		assert_int_equal(ino_of(s[i].fd), ino_of(again));
	}
	assert_int_equal(ino_of(fd), ino_of(again));
	assert_string_equal(name, strrchr(path, '/') + 1);
	assert_string_equal(k.value, "1");
	assert_string_equal(sysctl_of(again, &k, "/proc/sys/net/ipv4/ip_forward"), "0");
	assert_string_equal(sysctl_of(again, &k, "/proc/sys/net/ipv6/conf/all/forwarding"), "0");
	assert_int_not_equal(access(path, F_OK), 0);
	assert_int_equal(ns_open("no-such-namespace"), -ENOENT);
	assert_int_equal(ns_backend_open("", NULL), -EINVAL);
	assert_int_equal(ns_backend_open("../x", NULL), -EINVAL);
}

/* A crash between making the file and mounting, and somebody's own file in our place. */
static void test_backend_foreign_file(void **state)
{
	char inst[32], path[64];
	int fd, err;

	NEED_ROOT();
	snprintf(inst, sizeof inst, "nlfile%d", (int)getpid());
	snprintf(path, sizeof path, "/run/netns/espwire-%s", inst);
	mkdir("/run/netns", 0755);
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
	assert_int_equal(write(fd, "x", 1), 1);
	close(fd);
	err = ns_backend_open(inst, NULL);
	unlink(path);
	assert_int_equal(err, -EEXIST);
}

static void test_backend_adopt_forwarding(void **state)
{
	char inst[32];
	ino_t before = ino_of(here());
	struct peek k;
	int fd, created, again;

	NEED_ROOT();
	snprintf(inst, sizeof inst, "nladopt%d", (int)getpid());
	fd = ns_backend_open(inst, &created);
	assert_int_equal(ino_of(here()), before);
	assert_true(fd >= 0 && created);
	assert_int_equal(sh(fd, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.lo.disable_ipv6=0"),
			 0);
	again = ns_backend_open(inst, &created);
	ns_backend_remove(inst);
	assert_true(again >= 0 && !created);
	assert_string_equal(sysctl_of(fd, &k, "/proc/sys/net/ipv4/ip_forward"), "0");
	assert_string_equal(sysctl_of(fd, &k, "/proc/sys/net/ipv6/conf/lo/disable_ipv6"), "0");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_own_namespace_untouched),
		T(test_veth),
		T(test_link_changes),
		T(test_ext_ack),
		T(test_thousand),
		T(test_addresses),
		T(test_routes4),
		T(test_routes6),
		T(test_never_others4),
		T(test_never_others6),
		T(test_route_get),
		T(test_sysctl),
		T(test_monitor),
		T(test_monitor_bridge),
		T(test_overrun),
		T(test_dump_under_change),
		T(test_call),
		T(test_backend),
		T(test_backend_foreign_file),
		T(test_backend_adopt_forwarding),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
