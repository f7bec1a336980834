// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The programs where they live: four network namespaces made here, real devices, real packets.
 *
 *   W workload    ipsec0 ----. 10.1.0.1
 *   K backend     b0 --------'   tap0   r0 == r1 (raw funnel)   w0 == w1 (wire funnel)
 *   U underlay    u0 ----.  192.0.2.1, 2001:db8::1
 *   P peer        p0 ----'  192.0.2.2, 2001:db8::2
 *
 * One thread moves between them. The namespaces have no name: they go when the process goes.
 */
#include "rig.h"
#include <arpa/inet.h>
#include <bpf/libbpf.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/if_xdp.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <xdp/xsk.h>
#include "nl.h"

enum {
	LINK_ID = 4, /* even: the first byte of a stamp must look like a foreign unicast MAC */
	GEN = 11,
	SLOT_OUT = 70,
	WAIT_MS = 1000, /* for what must come */
	QUIET_MS = 100, /* for what must not */
	XSK_RAW = 0,
	XSK_WIRE = 1,
	N_FRAMES = 64,
	FRAME = 4096,
};
enum { SPI_XDP = 0x1001, SPI_A = 0x15002001, SPI_B = 0x15002002, SPI_K = 0x15002003, SPI_ALIEN = 0x7777 };
enum { PORT_PRIVATE = 41000, PORT_KERNEL = 41008 };

static int W, K, U, P;
static int tap, tap_if, b_if, r0_if, r1_if, w0_if, w1_if, u_if, p_if;
static struct load *ld;

/* --- namespaces, devices --- */

static int ns_new(void)
{
	if (unshare(CLONE_NEWNET))
		return -1;
	return open("/proc/thread-self/ns/net", O_RDONLY);
}

static void in(int ns)
{
	if (setns(ns, CLONE_NEWNET))
		abort();
}

__attribute__((format(printf, 1, 2))) static int sh(const char *fmt, ...)
{
	char cmd[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	return system(cmd);
}

static int ifindex(int ns, const char *name)
{
	in(ns);
	return if_nametoindex(name);
}

static int veth(int ns, const char *a, int peer_ns, const char *b)
{
	in(ns);
	return sh("ip link add %s numtxqueues 1 numrxqueues 1 type veth peer name %s netns "
		  "/proc/%d/fd/%d numtxqueues 1 numrxqueues 1",
		  a, b, getpid(), peer_ns);
}

static void no_ip6(int ns)
{
	FILE *f;

	in(ns);
	for (int i = 0; i < 2; i++) {
		f = fopen(i ? "/proc/sys/net/ipv6/conf/all/disable_ipv6"
			    : "/proc/sys/net/ipv6/conf/default/disable_ipv6",
			  "w");
		if (f) {
			fputs("1", f);
			fclose(f);
		}
	}
}

static int tun_open(const char *name, int flags)
{
	struct ifreq ifr = {.ifr_flags = flags | IFF_NO_PI};
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	return fd < 0 || ioctl(fd, TUNSETIFF, &ifr) ? -1 : fd;
}

static int tap_open(void)
{
	unsigned int uso = 0x20 | 0x40; /* TUN_F_USO4, 6: Linux 6.2 */
	unsigned int base = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
	int fd = tun_open("tap0", IFF_TAP | IFF_VNET_HDR);

	if (fd >= 0 && ioctl(fd, TUNSETOFFLOAD, base | uso) && ioctl(fd, TUNSETOFFLOAD, base))
		return -1;
	return fd;
}

static int make_devices(void)
{
	int bad = 0;

	W = ns_new();
	K = ns_new();
	no_ip6(W);
	no_ip6(K);
	U = ns_new();
	P = ns_new();
	bad |= veth(W, "ipsec0", K, "b0") | veth(K, "r0", K, "r1") | veth(K, "w0", K, "w1") |
	       veth(U, "u0", P, "p0");
	in(K);
	tap = tap_open();
	bad |= tap < 0;
	bad |= sh("for d in b0 tap0 r0 r1 w0 w1; do ip link set $d up || exit 1; done");
	bad |= sh("ip link set r0 mtu 3498; ip link set r1 mtu 3498; ethtool -K r0 tx off "
		  ">/dev/null");
	in(W);
	bad |= sh("ip link set lo up; ip link set ipsec0 arp off up; ip addr add 10.1.0.1/24 dev "
		  "ipsec0;"
		  "ip route add 10.2.0.0/16 dev ipsec0");
	in(P);
	bad |= sh("ip link set p0 up; ip addr add 192.0.2.2/24 dev p0;"
		  "ip addr add 2001:db8::2/64 dev p0 nodad");
	in(U);
	bad |= sh(
		"ip link set lo up; ip link set u0 up; ip addr add 192.0.2.1/24 dev u0;"
		"ip addr add 2001:db8::1/64 dev u0 nodad; ip route add 10.2.0.0/16 via 192.0.2.2");
	b_if = ifindex(K, "b0");
	tap_if = ifindex(K, "tap0");
	r0_if = ifindex(K, "r0");
	r1_if = ifindex(K, "r1");
	w0_if = ifindex(K, "w0");
	w1_if = ifindex(K, "w1");
	p_if = ifindex(P, "p0");
	u_if = ifindex(U, "u0");
	return bad;
}

/* Received packets and bytes of a device, as ifconfig would show them. */
static void rx_stats(int ns, const char *dev, uint64_t *pkts, uint64_t *bytes)
{
	char line[256], name[32];
	unsigned long long b, p;
	FILE *f;

	in(ns);
	f = fopen("/proc/thread-self/net/dev", "r");
	assert_non_null(f);
	*pkts = *bytes = 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, " %31[^:]: %llu %llu", name, &b, &p) == 3 && !strcmp(name, dev)) {
			*pkts = p;
			*bytes = b;
		}
	fclose(f);
}

/* --- XSKs --- */

struct xsk {
	struct xsk_ring_prod fill, tx;
	struct xsk_ring_cons comp, rx;
	struct xsk_umem *umem;
	struct xsk_socket *s;
	uint8_t *mem;
};
static struct xsk xsk[2];

static int xsk_open(struct xsk *x, const char *dev)
{
	struct xsk_socket_config cfg = {
		.rx_size = N_FRAMES,
		.tx_size = N_FRAMES,
		.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
		.bind_flags = XDP_COPY,
	};
	uint32_t idx = 0;

	x->mem = mmap(NULL, N_FRAMES * FRAME, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		      -1, 0);
	if (xsk_umem__create(&x->umem, x->mem, N_FRAMES * FRAME, &x->fill, &x->comp, NULL) ||
	    xsk_socket__create(&x->s, dev, 0, x->umem, &x->rx, &x->tx, &cfg))
		return -1;
	if (xsk_ring_prod__reserve(&x->fill, N_FRAMES / 2, &idx) != N_FRAMES / 2)
		return -1;
	for (unsigned int i = 0; i < N_FRAMES / 2; i++)
		*xsk_ring_prod__fill_addr(&x->fill, idx + i) = i * FRAME;
	xsk_ring_prod__submit(&x->fill, N_FRAMES / 2);
	return 0;
}

/* One frame within ms. Return: its length, 0 = none */
static unsigned int xsk_recv(struct xsk *x, uint8_t *buf, int ms)
{
	struct pollfd pfd = {xsk_socket__fd(x->s), POLLIN, 0};
	const struct xdp_desc *d;
	uint32_t idx, fidx, len;

	if (!xsk_ring_cons__peek(&x->rx, 1, &idx)) {
		poll(&pfd, 1, ms);
		if (!xsk_ring_cons__peek(&x->rx, 1, &idx))
			return 0;
	}
	d = xsk_ring_cons__rx_desc(&x->rx, idx);
	len = d->len;
	memcpy(buf, x->mem + d->addr, len);
	if (xsk_ring_prod__reserve(&x->fill, 1, &fidx) == 1) {
		*xsk_ring_prod__fill_addr(&x->fill, fidx) = d->addr & ~(FRAME - 1ull);
		xsk_ring_prod__submit(&x->fill, 1);
	}
	xsk_ring_cons__release(&x->rx, 1);
	return len;
}

static void xsk_send(struct xsk *x, const uint8_t *buf, unsigned int len)
{
	uint64_t at = (N_FRAMES - 1) * FRAME;
	uint32_t idx = 0;

	memcpy(x->mem + at, buf, len);
	assert_int_equal(xsk_ring_prod__reserve(&x->tx, 1, &idx), 1);
	*xsk_ring_prod__tx_desc(&x->tx, idx) = (struct xdp_desc){.addr = at, .len = len};
	xsk_ring_prod__submit(&x->tx, 1);
	sendto(xsk_socket__fd(x->s), NULL, 0, MSG_DONTWAIT, NULL, 0);
	if (xsk_ring_cons__peek(&x->comp, 1, &idx))
		xsk_ring_cons__release(&x->comp, 1);
}

/* --- tables, attachments --- */

static void link_set(uint32_t worker)
{
	struct link_ent e = {.flags = LINK_F_USED | LINK_F_OUT_SA,
			     .b_ifindex = b_if,
			     .worker = worker,
			     .out_slot = SLOT_OUT,
			     .gen = GEN,
			     .mtu = 1500};

	assert_int_equal(load_link_set(ld, LINK_ID, &e), 0);
}

static void tables_set(void)
{
	struct worker_ent both = {.tap_ifindex = tap_if, .raw_ifindex = r0_if};
	struct worker_ent tap_only = {.tap_ifindex = tap_if};
	struct in6_addr us4 = addr("192.0.2.1"), us6 = addr("2001:db8::1");
	struct sa_in_ent xdp = {.slot = 5, .link = LINK_ID};
	struct sa_in_ent a = {.slot = 6, .link = LINK_ID, .flags = SA_IN_F_SOCKET};
	struct sa_in_ent b = {.slot = 7, .link = LINK_ID, .worker = 1, .flags = SA_IN_F_SOCKET};
	struct sa_in_ent k = {.slot = 8, .link = LINK_ID, .flags = SA_IN_F_KERNEL};
	struct settings_ent ours = {.flags = SETTINGS_F_ESP_OURS};
	struct prefix p = prefix("10.2.0.0/16");
	int bad = 0;

	link_set(1);
	bad |= load_worker_set(ld, 0, &both) | load_worker_set(ld, 1, &tap_only);
	bad |= load_addr_set(ld, &us4) | load_addr_set(ld, &us6);
	bad |= load_sa_in_set(ld, htonl(SPI_XDP), &xdp) | load_sa_in_set(ld, htonl(SPI_A), &a) |
	       load_sa_in_set(ld, htonl(SPI_B), &b) | load_sa_in_set(ld, htonl(SPI_K), &k);
	bad |= load_settings_set(ld, &ours) | load_protect_set(ld, &p, PROTECT_F_BOTH);
	bad |= load_funnel_set(ld, r1_if, XSK_RAW) | load_funnel_set(ld, w1_if, XSK_WIRE);
	in(K);
	bad |= load_wire_dev_set(ld, 0, w0_if);
	assert_int_equal(bad, 0);
}

static void attach_backend(void)
{
	struct nl *nl;
	int n;

	in(K);
	assert_int_equal(nl_open(&nl, -1), 0);
	assert_int_equal(load_attach_classify(ld, nl, b_if), 0); /* makes the clsact */
	n = nl_tc_filters(nl, b_if);
	assert_true(n > 0);
	assert_int_equal(load_attach_classify(ld, nl, b_if), 0); /* and is put in place of itself */
	assert_int_equal(nl_tc_filters(nl, b_if), n);
	assert_int_equal(load_attach_classify(ld, nl, 9999), -ENODEV);
	nl_close(nl);
	assert_int_equal(load_attach_deliver(ld, tap_if), 0);
	assert_int_equal(load_attach_deliver(ld, r0_if), 0);
	assert_int_equal(load_attach_funnel(ld, r1_if), 0);
	assert_int_equal(load_attach_funnel(ld, w1_if), 0);
}

static int setup(void **state)
{
	log_init("live_test");
	rig_name(1);
	if (make_devices() || load_open(&ld, &rig_conf))
		return -1;
	tables_set();
	attach_backend();
	in(K);
	if (xsk_open(&xsk[XSK_RAW], "r1") || xsk_open(&xsk[XSK_WIRE], "w1"))
		return -1;
	return load_xsk_set(ld, XSK_RAW, xsk_socket__fd(xsk[XSK_RAW].s)) |
	       load_xsk_set(ld, XSK_WIRE, xsk_socket__fd(xsk[XSK_WIRE].s));
}

static int teardown(void **state)
{
	for (int i = 0; i < 2; i++) {
		xsk_socket__delete(xsk[i].s);
		xsk_umem__delete(xsk[i].umem);
	}
	load_close(ld);
	in(U);
	return load_release(rig_dir);
}

/* --- sockets --- */

static int sock(int ns, int family, int type, int proto, const char *local, uint16_t port)
{
	struct sockaddr_in6 s6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct sockaddr_in s4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	int one = 1, fd;

	in(ns);
	fd = socket(family, type, proto);
	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (!local)
		return fd;
	inet_pton(family, local, family == AF_INET ? (void *)&s4.sin_addr : (void *)&s6.sin6_addr);
	assert_int_equal(bind(fd, family == AF_INET ? (void *)&s4 : (void *)&s6,
			      family == AF_INET ? sizeof(s4) : sizeof(s6)),
			 0);
	return fd;
}

static void send_to(int fd, const char *dst, uint16_t port, const void *buf, size_t len)
{
	bool is6 = strchr(dst, ':');
	struct sockaddr_in6 s6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct sockaddr_in s4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr *sa = is6 ? (void *)&s6 : (void *)&s4;

	inet_pton(sa->sa_family, dst, is6 ? (void *)&s6.sin6_addr : (void *)&s4.sin_addr);
	assert_int_equal(sendto(fd, buf, len, 0, sa, is6 ? sizeof(s6) : sizeof(s4)), len);
}

/* Bytes of the next packet, 0 = nothing within ms. */
static int recv_ms(int fd, void *buf, size_t len, int ms)
{
	struct pollfd pfd = {fd, POLLIN, 0};

	return poll(&pfd, 1, ms) == 1 ? read(fd, buf, len) : 0;
}

static uint64_t drops(enum drop why)
{
	struct glob_ctr g;

	assert_int_equal(load_glob_ctr(ld, &g), 0);
	return g.drops[why];
}

/* --- raw packets --- */

struct tap_frame {
	struct virtio_net_hdr vh;
	struct stamp stamp;
	uint16_t ethertype;
	uint8_t ip[65536];
} __attribute__((packed));

static void raw_stamp_check(const void *frame)
{
	struct stamp want = {LINK_ID, GEN, SLOT_OUT, 0, STAMP_RAW, 0};

	assert_memory_equal(frame, &want, sizeof(want));
}

static void gso_to_tap(void **state)
{
	static struct tap_frame f;
	static uint8_t data[5000];
	int mss = 1000, segs = 0, n, fd = sock(W, AF_INET, SOCK_DGRAM, 0, "10.1.0.1", 0);
	struct ctrs before, after;
	struct change want[] = {
		{LINK(raw_segs), 5}, {LINK(raw_bytes), 5 * 1028}, {LINK(tap_segs), 5}, {0}};

	link_set(0);
	assert_int_equal(setsockopt(fd, SOL_UDP, UDP_SEGMENT, &mss, sizeof(mss)), 0);
	ctrs_read(ld, LINK_ID, &before);
	send_to(fd, "10.2.0.1", 9, data, sizeof(data));
	while (segs < 5 && (n = recv_ms(tap, &f, sizeof(f), WAIT_MS)) > 0) {
		raw_stamp_check(&f.stamp);
		assert_int_equal(f.ethertype, htons(ETHERTYPE_IP));
		n -= offsetof(struct tap_frame, ip) + 28;
		assert_true(n <= 1000 || f.vh.gso_size == 1000);
		segs += (n + 999) / 1000;
	}
	assert_int_equal(segs, 5);
	ctrs_read(ld, LINK_ID, &after);
	ctrs_check(&before, &after, want);
	close(fd);
}

static void small_to_xsk(void **state)
{
	static uint8_t f[FRAME];
	int fd = sock(W, AF_INET, SOCK_DGRAM, 0, "10.1.0.1", 0);
	struct change want[] = {
		{LINK(raw_segs), 1}, {LINK(raw_bytes), 33}, {LINK(xsk_segs), 1}, {0}};
	struct ctrs before, after;

	link_set(0);
	ctrs_read(ld, LINK_ID, &before);
	send_to(fd, "10.2.0.1", 9, "hello", 5);
	assert_int_equal(xsk_recv(&xsk[XSK_RAW], f, WAIT_MS), 14 + 33);
	raw_stamp_check(f);
	assert_memory_equal(f + 42, "hello", 5);
	/* pseudo header: addresses, protocol, length; the sum over all is all ones when it is right
	 */
	assert_int_equal(sum16(f + 34, 13, sum16(f + 26, 8, IPPROTO_UDP + 13)), 0xffff);
	ctrs_read(ld, LINK_ID, &after);
	ctrs_check(&before, &after, want);
	close(fd);
}

static void small_to_tap(void **state)
{
	static struct tap_frame f;
	int fd = sock(W, AF_INET, SOCK_DGRAM, 0, "10.1.0.1", 0);

	link_set(1);
	send_to(fd, "10.2.0.1", 9, "hello", 5);
	assert_int_equal(recv_ms(tap, &f, sizeof(f), WAIT_MS), offsetof(struct tap_frame, ip) + 33);
	raw_stamp_check(&f.stamp);
	assert_memory_equal(f.ip + 28, "hello", 5);
	close(fd);
}

/* Frames no stack would send, by packet socket. */
static void runts(void **state)
{
	static const uint16_t lens[] = {14, 20, 33};
	struct sockaddr_ll ll = {.sll_family = AF_PACKET,
				 .sll_ifindex = ifindex(W, "ipsec0"),
				 .sll_protocol = htons(ETHERTYPE_IP)};
	struct change want[] = {{LINK(raw_segs), 4},
				{LINK(raw_bytes), 14 + 20 + 33 + 50},
				{LINK_DROP(SHORT), 4},
				{0}};
	uint8_t f[64] = {[12] = 8, [14] = 0x45};
	int fd = sock(W, AF_PACKET, SOCK_RAW, 0, NULL, 0);
	struct ctrs before, after;

	ctrs_read(ld, LINK_ID, &before);
	for (unsigned int i = 0; i < ARRAY_SIZE(lens); i++)
		assert_int_equal(sendto(fd, f, lens[i], 0, (void *)&ll, sizeof(ll)), lens[i]);
	f[12] = 0x86;
	f[13] = 0xdd;
	f[14] = 0x60;
	ll.sll_protocol = htons(ETHERTYPE_IPV6);
	assert_int_equal(sendto(fd, f, 50, 0, (void *)&ll, sizeof(ll)), 50);
	usleep(1000);
	ctrs_read(ld, LINK_ID, &after);
	ctrs_check(&before, &after, want);
	close(fd);
}

/* The kernel takes a tag out of the frame before the program sees it. */
static void vlan_tag(void **state)
{
	struct sockaddr_ll ll = {.sll_family = AF_PACKET, .sll_ifindex = ifindex(W, "ipsec0")};
	const struct pkt p = {.src = "10.1.0.1",
			      .dst = "10.2.0.1",
			      .proto = IPPROTO_UDP,
			      .n_vlan = 1,
			      .payload = 30};
	int fd = sock(W, AF_PACKET, SOCK_RAW, 0, NULL, 0);
	struct ctrs before, after;
	uint8_t f[128];

	ctrs_read(ld, LINK_ID, &before);
	assert_true(sendto(fd, f, pkt_fill(&p, f, sizeof(f)), 0, (void *)&ll, sizeof(ll)) > 0);
	usleep(1000);
	ctrs_read(ld, LINK_ID, &after);
	assert_int_equal(
		after.link.drops[DROP_INNER_VERSION] - before.link.drops[DROP_INNER_VERSION], 1);
	close(fd);
}

/* --- delivery --- */

static const struct pkt inner = {.src = "10.2.0.1",
				 .dst = "10.1.0.1",
				 .proto = IPPROTO_UDP,
				 .sport = 9,
				 .dport = 7777,
				 .payload = 5,
				 .stamp = {LINK_ID, GEN, .kind = STAMP_DELIVER}};

static void expect_delivery(int fd, uint64_t pkts)
{
	uint64_t p0, b0, p1, b1;
	struct ctrs before, after;
	struct change want[] = {
		{LINK(deliver_pkts), 2 * pkts}, {GLOB_DROP(NO_LINK), 2 - 2 * pkts}, {0}};
	struct change none[] = {{GLOB_DROP(NO_LINK), 2}, {0}};
	struct tap_frame t = {0};
	struct pkt p = inner;
	uint8_t f[128], got[64];
	unsigned int len;

	p.stamp.gen += !pkts;
	len = pkt_fill(&p, f, sizeof(f));
	memcpy(&t.stamp, f, len);
	rx_stats(W, "ipsec0", &p0, &b0);
	ctrs_read(ld, LINK_ID, &before);
	assert_int_equal(write(tap, &t, sizeof(t.vh) + len), sizeof(t.vh) + len);
	assert_int_equal(recv_ms(fd, got, sizeof(got), pkts ? WAIT_MS : QUIET_MS), 5 * pkts);
	xsk_send(&xsk[XSK_RAW], f, len);
	assert_int_equal(recv_ms(fd, got, sizeof(got), pkts ? WAIT_MS : QUIET_MS), 5 * pkts);
	ctrs_read(ld, LINK_ID, &after);
	ctrs_check(&before, &after, pkts ? want : none);
	rx_stats(W, "ipsec0", &p1, &b1);
	assert_int_equal(p1 - p0, 2 * pkts);
	assert_int_equal(b1 - b0, 2 * pkts * (14 + 33));
}

/* From the TAP and from the XSK: arrives as received on ipsec0, counted there once each. */
static void deliver(void **state)
{
	int fd = sock(W, AF_INET, SOCK_DGRAM, 0, "10.1.0.1", 7777);

	link_set(0);
	expect_delivery(fd, 1);
	close(fd);
}

static void deliver_stale(void **state)
{
	int fd = sock(W, AF_INET, SOCK_DGRAM, 0, "10.1.0.1", 7777);

	expect_delivery(fd, 0);
	close(fd);
}

/* --- wire in --- */

static void esp_fill(uint8_t *b, size_t len, uint32_t spi)
{
	spi = htonl(spi);
	memset(b, 0, len);
	memcpy(b, &spi, 4);
}

static void wire_to_xsk(void **state)
{
	struct stamp want = {LINK_ID, 0, 5, 0, STAMP_WIRE, 0};
	uint8_t esp[64], f[FRAME];
	int v4 = sock(P, AF_INET, SOCK_RAW, IPPROTO_ESP, NULL, 0);
	int v6 = sock(P, AF_INET6, SOCK_RAW, IPPROTO_ESP, NULL, 0);
	int udp = sock(P, AF_INET, SOCK_DGRAM, 0, NULL, 0);

	in(U);
	assert_int_equal(load_attach_wire(ld, u_if, "u0"), 0);
	esp_fill(esp, sizeof(esp), SPI_XDP);
	send_to(v4, "192.0.2.1", 0, esp, sizeof(esp));
	assert_int_equal(xsk_recv(&xsk[XSK_WIRE], f, WAIT_MS), 14 + 20 + sizeof(esp));
	assert_memory_equal(f, &want, sizeof(want));
	assert_memory_equal(f + 34, esp, sizeof(esp));
	send_to(v6, "2001:db8::1", 0, esp, sizeof(esp));
	assert_int_equal(xsk_recv(&xsk[XSK_WIRE], f, WAIT_MS), 14 + 40 + sizeof(esp));
	send_to(udp, "192.0.2.1", 4500, esp, sizeof(esp));
	assert_int_equal(xsk_recv(&xsk[XSK_WIRE], f, WAIT_MS), 14 + 28 + sizeof(esp));
	assert_memory_equal(f + 42, esp, sizeof(esp));
	close(v4);
	close(v6);
	close(udp);
}

/* I4: an unknown SPI draws nothing; without the program the kernel would answer. */
static void wire_silent(void **state)
{
	uint8_t esp[64], got[256];
	int fd = sock(P, AF_INET, SOCK_RAW, IPPROTO_ESP, NULL, 0);
	int icmp = sock(P, AF_INET, SOCK_RAW, IPPROTO_ICMP, NULL, 0);
	uint64_t was = drops(DROP_NO_SA);

	in(U);
	assert_int_equal(load_attach_wire(ld, u_if, "u0"), 0);
	esp_fill(esp, sizeof(esp), SPI_ALIEN);
	send_to(fd, "192.0.2.1", 0, esp, sizeof(esp));
	assert_int_equal(recv_ms(icmp, got, sizeof(got), QUIET_MS), 0);
	assert_int_equal(drops(DROP_NO_SA) - was, 1);
	in(U);
	assert_int_equal(load_detach_wire(ld, u_if, "u0"), 0);
	send_to(fd, "192.0.2.1", 0, esp, sizeof(esp));
	/* the control: without the program the kernel answers, unless its own ESP is there to be silent */
	if (access("/sys/module/esp4", F_OK))
		assert_true(recv_ms(icmp, got, sizeof(got), WAIT_MS) > 0);
	close(fd);
	close(icmp);
}

/* Somebody else's XDP stays, and devices that cannot say so. */
static void wire_refused(void **state)
{
	static const uint32_t modes[] = {2 /* XDP_FLAGS_SKB_MODE */, 4 /* DRV */};
	int tun;

	in(U);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(bpf_xdp_attach(u_if,
						load_xsk_fd(ld) < 0 ? -1 : ld->prog[PROG_funnel],
						modes[i], NULL),
				 0);
		assert_int_equal(load_attach_wire(ld, u_if, "u0"), -EBUSY);
		assert_int_equal(bpf_xdp_detach(u_if, modes[i], NULL), 0);
	}
	assert_int_equal(sh("ip link add br9 type bridge"), 0);
	assert_int_equal(load_attach_wire(ld, if_nametoindex("br9"), "br9"), -EOPNOTSUPP);
	tun = tun_open("tun9", IFF_TUN);
	assert_true(tun >= 0);
	assert_int_equal(load_attach_wire(ld, if_nametoindex("tun9"), "tun9"), -EOPNOTSUPP);
	assert_int_equal(load_attach_wire(ld, 9999, "nosuch9"), -ENODEV);
	close(tun);
	assert_int_equal(sh("ip link del br9"), 0);
}

/* --- sockets: filter, and UDP 4500 --- */

static int filtered(int family, int worker)
{
	int prog = load_filter_fd(ld), fd = sock(U, family, SOCK_RAW, IPPROTO_ESP, NULL, 0);
	uint64_t cookie;
	socklen_t len = sizeof(cookie);

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &prog, sizeof(prog)), 0);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len), 0);
	if (worker >= 0)
		assert_int_equal(load_sock_worker_set(ld, cookie, worker), 0);
	return fd;
}

static void filter_family(int family, const char *dst, int hdr)
{
	int w0 = filtered(family, 0), w1 = filtered(family, 1), none = filtered(family, -1);
	int fd = sock(P, family, SOCK_RAW, IPPROTO_ESP, NULL, 0);
	uint8_t esp[32], got[128];

	esp_fill(esp, sizeof(esp), SPI_A);
	send_to(fd, dst, 0, esp, sizeof(esp));
	assert_int_equal(recv_ms(w0, got, sizeof(got), WAIT_MS), hdr + sizeof(esp));
	esp_fill(esp, sizeof(esp), SPI_B);
	send_to(fd, dst, 0, esp, sizeof(esp));
	assert_int_equal(recv_ms(w1, got, sizeof(got), WAIT_MS), hdr + sizeof(esp));
	assert_memory_equal(got + hdr, esp, sizeof(esp));
	esp_fill(esp, sizeof(esp), SPI_ALIEN);
	send_to(fd, dst, 0, esp, sizeof(esp));
	send_to(fd, dst, 0, esp, 2);
	assert_int_equal(recv_ms(w0, got, sizeof(got), QUIET_MS), 0);
	assert_int_equal(recv_ms(w1, got, sizeof(got), 0), 0);
	assert_int_equal(recv_ms(none, got, sizeof(got), 0), 0);
	close(w0);
	close(w1);
	close(none);
	close(fd);
}

static void filter(void **state)
{
	filter_family(AF_INET, "192.0.2.1", 20);
	filter_family(AF_INET6, "2001:db8::1", 0);
}

static int udp_on(int ns, int family, uint16_t port)
{
	return sock(ns, family, SOCK_DGRAM, 0, family == AF_INET ? "0.0.0.0" : "::", port);
}

/* A UDP socket of worker w on a private port of ours; also what u0's programs need to know of it. */
static int private_udp(int family, uint32_t w)
{
	struct worker_ent e = {.tap_ifindex = tap_if, .udp_port_be = htons(PORT_PRIVATE + w)};
	int fd = udp_on(U, family, PORT_PRIVATE + w);
	uint64_t cookie;
	socklen_t len = sizeof(cookie);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len), 0);
	assert_int_equal(load_sock_worker_set(ld, cookie, w), 0);
	assert_int_equal(load_worker_set(ld, w, &e), 0);
	return fd;
}

/* fd sends to 4500 at dst; does it draw an ICMP error? */
static bool refused(int fd, const char *dst, const void *p, size_t len)
{
	int err = 0;
	socklen_t err_len = sizeof(err);

	send_to(fd, dst, 4500, p, len);
	usleep(QUIET_MS * 1000);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &err_len), 0);
	return err == ECONNREFUSED;
}

static uint64_t keepalives(void)
{
	struct glob_ctr g;

	assert_int_equal(load_glob_ctr(ld, &g), 0);
	return g.keepalives;
}

/* Of all that comes to 4500 each worker's socket gets its own, and an IKE daemon gets the rest. */
static void natt_family(int family, const char *us, const char *them)
{
	static const uint8_t ike_msg[32], alive = 0xff;
	uint8_t a[32], b[32], alien[32], got[64];
	int w0 = private_udp(family, 0), w1 = private_udp(family, 1);
	int fd = sock(P, family, SOCK_DGRAM, 0, NULL, 0), at4500, ike, other, recverr = 1;
	struct sockaddr_in6 from;
	socklen_t len = sizeof(from);
	uint64_t no_sa, no_listener, n_alive;

	esp_fill(a, sizeof(a), SPI_A);
	esp_fill(b, sizeof(b), SPI_B);
	esp_fill(alien, sizeof(alien), SPI_ALIEN);
	/* or an ICMP error would not show on an unconnected socket */
	assert_int_equal(setsockopt(fd, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6,
				    family == AF_INET ? IP_RECVERR : IPV6_RECVERR, &recverr,
				    sizeof(recverr)), 0);
	assert_true(refused(fd, us, a, sizeof(a))); /* the control: without the programs nobody is there */
	in(U);
	assert_int_equal(load_attach_sock(ld, u_if, "u0"), 0);
	no_sa = drops(DROP_NO_SA), no_listener = drops(DROP_NO_LISTENER), n_alive = keepalives();
	assert_false(refused(fd, us, a, sizeof(a)));
	assert_int_equal(recv_ms(w0, got, sizeof(got), WAIT_MS), sizeof(a));
	assert_memory_equal(got, a, sizeof(a));
	assert_false(refused(fd, us, b, sizeof(b)));
	assert_int_equal(recv_ms(w1, got, sizeof(got), WAIT_MS), sizeof(b));
	/* nobody does IKE: silence, and a counter for each */
	assert_false(refused(fd, us, alien, sizeof(alien)));
	assert_false(refused(fd, us, ike_msg, sizeof(ike_msg)));
	assert_false(refused(fd, us, &alive, 1));
	assert_int_equal(drops(DROP_NO_SA) - no_sa, 1);
	assert_int_equal(drops(DROP_NO_LISTENER) - no_listener, 1);
	assert_int_equal(keepalives() - n_alive, 1);
	/* somebody does */
	ike = udp_on(U, family, 4500);
	send_to(fd, us, 4500, ike_msg, sizeof(ike_msg));
	assert_int_equal(recv_ms(ike, got, sizeof(got), WAIT_MS), sizeof(ike_msg));
	send_to(fd, us, 4500, &alive, 1);
	assert_int_equal(recv_ms(ike, got, sizeof(got), WAIT_MS), 1);
	send_to(fd, us, 4500, alien, sizeof(alien)); /* of another ESP on this host, for all we know */
	assert_int_equal(recv_ms(ike, got, sizeof(got), WAIT_MS), sizeof(alien));
	send_to(fd, us, 4500, a, sizeof(a));
	assert_int_equal(recv_ms(w0, got, sizeof(got), WAIT_MS), sizeof(a));
	assert_int_equal(recv_ms(ike, got, sizeof(got), QUIET_MS), 0);
	/* ours leave from 4500, whoever is bound to it; everybody else's from where they are */
	at4500 = udp_on(P, family, 4500);
	send_to(w1, them, 4500, b, sizeof(b));
	assert_int_equal(recvfrom(at4500, got, sizeof(got), 0, (void *)&from, &len), sizeof(b));
	assert_int_equal(ntohs(from.sin6_port), 4500); /* where sin_port is too */
	other = udp_on(U, family, PORT_PRIVATE + 9);
	len = sizeof(from);
	send_to(other, them, 4500, b, sizeof(b));
	assert_int_equal(recvfrom(at4500, got, sizeof(got), 0, (void *)&from, &len), sizeof(b));
	assert_int_equal(ntohs(from.sin6_port), PORT_PRIVATE + 9);
	in(U);
	assert_int_equal(load_detach_sock(ld, u_if, "u0"), 0);
	for (int *f = (int[]){w0, w1, fd, ike, at4500, other, -1}; *f >= 0; f++)
		close(*f);
	tables_set();
}

/*
 * What is for an SA that the kernel has goes to the one socket for that, whoever is bound to 4500; before that
 * socket is there, and after its death, it ends in silence.
 */
static void natt_kernel_family(int family, const char *us)
{
	struct settings_ent set = {.flags = SETTINGS_F_ESP_OURS};
	static const uint8_t ike_msg[32];
	uint8_t k[32], a[32], got[64];
	int w0 = private_udp(family, 0), fd = sock(P, family, SOCK_DGRAM, 0, NULL, 0), recverr = 1, kernel, ike;
	uint64_t gone;

	esp_fill(k, sizeof(k), SPI_K);
	esp_fill(a, sizeof(a), SPI_A);
	assert_int_equal(setsockopt(fd, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6,
				    family == AF_INET ? IP_RECVERR : IPV6_RECVERR, &recverr, sizeof(recverr)), 0);
	in(U);
	assert_int_equal(load_attach_sock(ld, u_if, "u0"), 0);
	gone = drops(DROP_WORKER_GONE);
	assert_false(refused(fd, us, k, sizeof(k)));
	set.kernel_port_be = htons(PORT_KERNEL);
	assert_int_equal(load_settings_set(ld, &set), 0);
	assert_false(refused(fd, us, k, sizeof(k)));
	assert_int_equal(drops(DROP_WORKER_GONE) - gone, 2);
	kernel = udp_on(U, family, PORT_KERNEL);
	assert_false(refused(fd, us, k, sizeof(k)));
	assert_int_equal(recv_ms(kernel, got, sizeof(got), WAIT_MS), sizeof(k));
	assert_memory_equal(got, k, sizeof(k));
	ike = udp_on(U, family, 4500);
	send_to(fd, us, 4500, k, sizeof(k));
	send_to(fd, us, 4500, a, sizeof(a));
	send_to(fd, us, 4500, ike_msg, sizeof(ike_msg));
	assert_int_equal(recv_ms(kernel, got, sizeof(got), WAIT_MS), sizeof(k));
	assert_int_equal(recv_ms(w0, got, sizeof(got), WAIT_MS), sizeof(a));
	assert_int_equal(recv_ms(ike, got, sizeof(got), WAIT_MS), sizeof(ike_msg));
	assert_int_equal(recv_ms(ike, got, sizeof(got), QUIET_MS), 0);
	assert_int_equal(recv_ms(kernel, got, sizeof(got), QUIET_MS), 0);
	in(U);
	assert_int_equal(load_detach_sock(ld, u_if, "u0"), 0);
	for (int *f = (int[]){w0, fd, kernel, ike, -1}; *f >= 0; f++)
		close(*f);
	tables_set();
}

static void natt_kernel(void **state)
{
	natt_kernel_family(AF_INET, "192.0.2.1");
	natt_kernel_family(AF_INET6, "2001:db8::1");
}

static void natt(void **state)
{
	natt_family(AF_INET, "192.0.2.1", "192.0.2.2");
	natt_family(AF_INET6, "2001:db8::1", "2001:db8::2");
}

/* As on kernels before 6.6. */
static void natt_clsact(void **state)
{
	bool had = ld->tcx;

	ld->tcx = false;
	natt(state);
	ld->tcx = had;
}

/* --- guard --- */

/* Does one cleartext packet from U to a protected address reach P? */
static bool leaks(void)
{
	int fd = sock(U, AF_INET, SOCK_DGRAM, 0, NULL, 0);
	int sniff = sock(P, AF_PACKET, SOCK_DGRAM, htons(ETHERTYPE_IP), NULL, 0);
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(7)};
	uint8_t got[256];
	bool seen = false;

	inet_pton(AF_INET, "10.2.0.5", &to.sin_addr);
	sendto(fd, "secret", 6, 0, (void *)&to, sizeof(to));
	while (!seen && recv_ms(sniff, got, sizeof(got), QUIET_MS) > 0)
		seen = !memcmp(got + 16, &to.sin_addr, 4);
	close(fd);
	close(sniff);
	return seen;
}

/* And one from a protected source into U? */
static bool lets_in(void)
{
	struct sockaddr_ll ll = {
		.sll_family = AF_PACKET, .sll_ifindex = p_if, .sll_protocol = htons(ETHERTYPE_IP)};
	const struct pkt p = {.src = "10.2.0.5",
			      .dst = "192.0.2.1",
			      .proto = IPPROTO_UDP,
			      .dport = 7777,
			      .payload = 5};
	int to = sock(U, AF_INET, SOCK_DGRAM, 0, "192.0.2.1", 7777);
	int fd = sock(P, AF_PACKET, SOCK_RAW, 0, NULL, 0);
	uint8_t f[128], got[16];
	unsigned int len = pkt_fill(&p, f, sizeof(f));
	bool seen;

	memset(f, 0xff, 6);
	assert_int_equal(sendto(fd, f, len, 0, (void *)&ll, sizeof(ll)), len);
	seen = recv_ms(to, got, sizeof(got), QUIET_MS) > 0;
	close(to);
	close(fd);
	return seen;
}

static void guard_with(bool outlives_qdisc)
{
	uint64_t out = drops(DROP_GUARD_CLEARTEXT), back = drops(DROP_PLAIN_FOR_PROTECTED);

	assert_true(leaks());
	assert_true(lets_in());
	in(U);
	assert_int_equal(load_attach_guard(ld, u_if, "u0"), 0);
	assert_int_equal(load_attach_guard(ld, u_if, "u0"), 0);
	assert_false(leaks());
	assert_false(lets_in());
	assert_int_equal(drops(DROP_GUARD_CLEARTEXT) - out, 1);
	assert_int_equal(drops(DROP_PLAIN_FOR_PROTECTED) - back, 1);
	in(U);
	sh("tc qdisc add dev u0 clsact 2>/dev/null");
	assert_int_equal(sh("tc qdisc del dev u0 clsact"), 0);
	assert_int_equal(!leaks(), outlives_qdisc);
	assert_int_equal(!lets_in(), outlives_qdisc);
	in(U);
	assert_int_equal(load_detach_guard(ld, u_if, "u0"), 0);
	assert_true(leaks());
	assert_true(lets_in());
}

static void guard_tcx(void **state)
{
	if (!load_guard_is_tcx(ld))
		skip();
	guard_with(true);
}

/* As on kernels before 6.6. */
static void guard_clsact(void **state)
{
	bool had = ld->tcx;

	ld->tcx = false;
	guard_with(false);
	ld->tcx = had;
}

/* --- the clsact of kernels before 6.6: u0 is left as it was found --- */

static bool clsact_there(void)
{
	in(U);
	return !sh("tc qdisc show dev u0 | grep -q clsact");
}

static bool clsact_is_ours(void)
{
	return !sh("ls %s/qdiscs | grep -q ^clsact-", rig_dir);
}

static void others_clsact(const char *verb)
{
	in(U);
	assert_int_equal(sh("tc qdisc %s dev u0 clsact", verb), 0);
}

/* A program of ours by somebody else's hand: some kernels have no other classifier than bpf. */
static void others_filter(void)
{
	in(U);
	assert_int_equal(sh("tc filter add dev u0 egress pref 9 bpf da object-pinned %s/progs/guard_out", rig_dir), 0);
}

static void guard_on(void)
{
	in(U);
	assert_int_equal(load_attach_guard(ld, u_if, "u0"), 0);
}

static void guard_off(void)
{
	in(U);
	assert_int_equal(load_detach_guard(ld, u_if, "u0"), 0);
}

static void clsact_goes_with_our_last_filter(void)
{
	assert_false(clsact_there());
	guard_on();
	assert_int_equal(load_attach_sock(ld, u_if, "u0"), 0);
	guard_on();
	guard_off();
	assert_true(clsact_there() && clsact_is_ours()); /* sock is in it */
	assert_int_equal(load_detach_sock(ld, u_if, "u0"), 0);
	assert_false(clsact_there() || clsact_is_ours());
}

static void clsact_of_others_stays(void)
{
	others_clsact("add");
	guard_on();
	assert_false(clsact_is_ours());
	guard_off();
	assert_true(clsact_there());
	others_clsact("del");
}

/* And is theirs from then on. */
static void clsact_with_others_filter_stays(void)
{
	guard_on();
	others_filter();
	guard_off();
	assert_true(clsact_there() && !clsact_is_ours());
	assert_int_equal(sh("tc filter del dev u0 egress pref 9"), 0);
	guard_on();
	guard_off();
	assert_true(clsact_there());
	others_clsact("del");
}

static void clsact_made_anew_by_others_stays(void)
{
	guard_on();
	others_clsact("del");
	others_clsact("add");
	guard_on();
	assert_false(clsact_is_ours());
	guard_off();
	assert_true(clsact_there());
	others_clsact("del");
}

static void clsact_is_known_to_a_successor(void)
{
	guard_on();
	load_close(ld);
	assert_int_equal(load_open(&ld, &rig_conf), 0);
	ld->tcx = false;
	guard_on();
	guard_off();
	assert_false(clsact_there());
}

static void clsact_put_back(void **state)
{
	bool had = ld->tcx;

	ld->tcx = false;
	clsact_goes_with_our_last_filter();
	clsact_of_others_stays();
	clsact_with_others_filter_stays();
	clsact_made_anew_by_others_stays();
	clsact_is_known_to_a_successor();
	ld->tcx = had;
}

/* What release finds: a clsact of ours, with somebody's filter, somebody's own. */
static void clsact_released(void **state)
{
	struct load_conf c = rig_conf;
	char dir[160];
	struct load *l;

	snprintf(dir, sizeof(dir), "%s-tc", rig_dir);
	c.pin_dir = dir;
	c.no_tcx = true;
	for (int i = 0; i < 3; i++) {
		if (i == 2)
			others_clsact("add");
		in(U);
		assert_int_equal(load_open(&l, &c), 0);
		assert_int_equal(load_attach_guard(l, u_if, "u0") | load_attach_sock(l, u_if, "u0"), 0);
		load_close(l);
		if (i == 1)
			others_filter();
		in(U);
		assert_int_equal(load_release(dir), 0);
		assert_int_equal(clsact_there(), i > 0);
		assert_int_not_equal(sh("for d in ingress egress; do tc filter show dev u0 $d; done | grep 0xe5b"), 0);
		if (i)
			others_clsact("del");
	}
}

/* First on the chain: somebody's "ok" must not end it before us. */
static void guard_first(void **state)
{
	const struct bpf_insn ok[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K},
				      {.code = BPF_JMP | BPF_EXIT}};
	const int tcx_egress = 47;
	int prog = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "ok", "GPL", ok, 2, NULL), other;

	if (!load_guard_is_tcx(ld))
		skip();
	in(U);
	other = bpf_link_create(prog, u_if, (enum bpf_attach_type)tcx_egress, NULL);
	assert_true(other >= 0);
	assert_true(leaks());
	in(U);
	assert_int_equal(load_attach_guard(ld, u_if, "u0"), 0);
	assert_false(leaks());
	in(U);
	assert_int_equal(load_detach_guard(ld, u_if, "u0"), 0);
	close(other);
	close(prog);
}

/* A device without Ethernet header. */
static void guard_l3(void **state)
{
	uint64_t was = drops(DROP_GUARD_CLEARTEXT);
	uint8_t got[256];
	int tun, fd;

	in(U);
	tun = tun_open("tun8", IFF_TUN);
	assert_true(tun >= 0);
	assert_int_equal(sh("ip link set tun8 addrgenmode none; ip link set tun8 up;"
			    "ip route add 10.2.7.0/24 dev tun8"),
			 0);
	assert_int_equal(load_attach_guard(ld, if_nametoindex("tun8"), "tun8"), 0);
	fd = sock(U, AF_INET, SOCK_DGRAM, 0, NULL, 0);
	send_to(fd, "10.2.7.1", 7, "secret", 6);
	assert_int_equal(recv_ms(tun, got, sizeof(got), QUIET_MS), 0);
	assert_int_equal(drops(DROP_GUARD_CLEARTEXT) - was, 1);
	in(U);
	assert_int_equal(load_detach_guard(ld, if_nametoindex("tun8"), "tun8"), 0);
	send_to(fd, "10.2.7.1", 7, "secret", 6);
	assert_true(recv_ms(tun, got, sizeof(got), WAIT_MS) > 0);
	close(fd);
	close(tun);
}

/* --- life after death --- */

static void reopen(const struct load_conf *c, bool adopted)
{
	load_close(ld);
	assert_int_equal(load_open(&ld, c), 0);
	assert_int_equal(load_adopted(ld), adopted);
}

/* Nobody is there: raw packets still go nowhere but the TAP, the guard holds, ESP is silent. */
static void outlives_daemon(void **state)
{
	static struct tap_frame f;
	uint8_t esp[64], got[256];
	int esp_fd = sock(P, AF_INET, SOCK_RAW, IPPROTO_ESP, NULL, 0);
	int icmp = sock(P, AF_INET, SOCK_RAW, IPPROTO_ICMP, NULL, 0);
	int fd = sock(W, AF_INET, SOCK_DGRAM, 0, "10.1.0.1", 0);
	struct ctrs before, after;

	link_set(1);
	in(U);
	assert_int_equal(load_attach_wire(ld, u_if, "u0"), 0);
	assert_int_equal(load_attach_guard(ld, u_if, "u0"), 0);
	load_beat(ld)->pid = 4711;
	load_sactr(ld)[2].top = 99;
	load_replay(ld)[100] = 0x55;
	ctrs_read(ld, LINK_ID, &before);
	load_close(ld);
	ld = NULL;

	send_to(fd, "10.2.0.1", 9, "hello", 5);
	assert_true(recv_ms(tap, &f, sizeof(f), WAIT_MS) > 0);
	assert_false(leaks());
	assert_false(lets_in());
	esp_fill(esp, sizeof(esp), SPI_ALIEN);
	send_to(esp_fd, "192.0.2.1", 0, esp, sizeof(esp));
	assert_int_equal(recv_ms(icmp, got, sizeof(got), QUIET_MS), 0);

	assert_int_equal(load_open(&ld, &rig_conf), 0);
	assert_true(load_adopted(ld));
	ctrs_read(ld, LINK_ID, &after);
	assert_int_equal(after.link.tap_segs - before.link.tap_segs, 1);
	assert_int_equal(load_beat(ld)->pid, 4711);
	assert_int_equal(load_sactr(ld)[2].top, 99);
	assert_int_equal(load_replay(ld)[100], 0x55);
	close(esp_fd);
	close(icmp);
	close(fd);
}

static bool entry(enum load_map m, const void *key)
{
	uint8_t val[256];

	return !bpf_map_lookup_elem(ld->map[m], key, val);
}

/* What the configuration no longer names goes at the sweep, not before. */
static void sweep(void **state)
{
	struct sa_in_ent sa = {.link = 9};
	struct link_ent e = {.flags = LINK_F_USED, .b_ifindex = 999, .gen = 3};
	struct in6_addr a = addr("192.0.2.77");
	struct sa_in_key k = {htonl(0x9999)}, kept = {htonl(SPI_A)};

	assert_int_equal(load_sa_in_set(ld, k.spi_be, &sa) | load_link_set(ld, 9, &e) |
				 load_addr_set(ld, &a) | load_peer_set(ld, &a),
			 0);
	reopen(&rig_conf, true);
	tables_set();
	assert_true(entry(MAP_sa_in, &k));
	assert_true(entry(MAP_local_addr, &a));
	/* SA, address, peer, link and its device */
	assert_int_equal(load_sweep(ld), 4);
	assert_false(entry(MAP_sa_in, &k));
	assert_false(entry(MAP_local_addr, &a));
	assert_true(entry(MAP_sa_in, &kept));
	assert_false(entry(MAP_link_by_if, &e.b_ifindex));
	assert_int_equal(load_link_get(ld, 9, &e), 0);
	assert_int_equal(e.flags, 0);
	assert_int_equal(e.gen, 3);
	assert_int_equal(load_sweep(ld), 0);
}

/* New programs take over in place: same link on the device, no second one. */
static void reattach(void **state)
{
	uint32_t ids[8], n = 8;
	const int tcx_egress = 47;

	reopen(&rig_conf, true);
	attach_backend();
	in(U);
	assert_int_equal(load_attach_wire(ld, u_if, "u0"), 0);
	assert_int_equal(load_attach_guard(ld, u_if, "u0"), 0);
	assert_false(leaks());
	in(U);
	if (load_guard_is_tcx(ld)) {
		assert_int_equal(bpf_prog_query(u_if, tcx_egress, 0, NULL, ids, &n), 0);
		assert_int_equal(n, 1);
	}
	assert_int_equal(load_xsk_set(ld, XSK_WIRE, xsk_socket__fd(xsk[XSK_WIRE].s)), 0);
	wire_to_xsk(state);
	in(K);
	assert_int_equal(sh("test $(tc filter show dev b0 ingress | grep -c classify) = 1"), 0);
}

/* A device that comes back under the same index is not mistaken for the old one. */
static void device_reborn(void **state)
{
	in(U);
	assert_int_equal(sh("ip link add v9 index 4242 type veth peer name v9p"), 0);
	assert_int_equal(load_attach_guard(ld, 4242, "v9"), 0);
	assert_int_equal(load_attach_wire(ld, 4242, "v9"), 0);
	assert_int_equal(sh("ip link del v9; ip link add v9 index 4242 type veth peer name v9p"),
			 0);
	assert_int_equal(load_attach_guard(ld, 4242, "v9"), 0);
	assert_int_equal(load_attach_wire(ld, 4242, "v9"), 0);
	assert_int_equal(sh("ip link show v9 | grep -q 'prog/xdp'"), 0);
	assert_int_equal(load_detach_guard(ld, 4242, "v9") | load_detach_wire(ld, 4242, "v9"), 0);
	assert_int_equal(sh("ip link del v9"), 0);
}

static bool dump_has(const char *map, const char *field)
{
	return !sh("PATH=$PATH:/usr/sbin bpftool map dump pinned %s/maps/%s | grep -q '\"%s\":'",
		   rig_dir, map, field);
}

static void dump_named(void **state)
{
	static const char *const named[][2] = {
		{"links", "out_slot"},    {"sa_in", "spi_be"},       {"sa_in", "worker"},
		{"link_ctr", "raw_segs"}, {"glob_ctr", "wire_pass"}, {"wctr", "out_tap_segs"},
		{"sactr", "fingerprint"}, {"beat", "control_ns"},    {"workers", "raw_ifindex"},
		{"protect", "prefixlen"}, {"local_addr", "word"},    {"settings", "flags"},
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(named); i++)
		if (!dump_has(named[i][0], named[i][1]))
			fail_msg("%s shows no \"%s\"", named[i][0], named[i][1]);
}

/* Another size: new maps, but the books and the replay windows go along. */
static void resized(void **state)
{
	struct load_conf twice = rig_conf;
	struct ctrs before, after;

	twice.max_links *= 2;
	load_wctr(ld)[LINK_ID].lost = 17;
	ctrs_read(ld, LINK_ID, &before);
	reopen(&twice, false);
	assert_int_equal(load_max_sas(ld), 2 * RIG_LINKS * SA_PER_LINK);
	ctrs_read(ld, LINK_ID, &after);
	assert_memory_equal(&before.link, &after.link, sizeof(before.link));
	assert_true(after.glob.drops[DROP_NO_LINK] >= 2); /* from deliver_stale */
	assert_int_equal(load_wctr(ld)[LINK_ID].lost, 17);
	assert_int_equal(load_sactr(ld)[2].top, 99);
	assert_int_equal(load_replay(ld)[100], 0x55);
	reopen(&twice, true);
}

static void other_version(void **state)
{
	struct load_conf twice = rig_conf;

	twice.max_links *= 2;
	load_beat(ld)->version = SHARED_VERSION + 1;
	reopen(&twice, false);
	assert_int_equal(load_sactr(ld)[2].top, 0);
	assert_int_equal(load_beat(ld)->version, SHARED_VERSION);
}

/* In a mount namespace of its own, as under `ip netns exec`: the pins are still the host's. */
static int open_elsewhere(void)
{
	struct load_conf c = rig_conf;
	char dir[160];
	struct load *l;

	snprintf(dir, sizeof(dir), "%s-mnt", rig_dir);
	c.pin_dir = dir;
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "/sys/fs/bpf", "tmpfs", 0, NULL))
		return 2;
	if (load_open(&l, &c))
		return 3;
	load_close(l);
	return access(dir, F_OK) ? 0 : 4; /* not here: under the tmpfs */
}

static void private_mounts(void **state)
{
	char dir[160], map[200];
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(open_elsewhere());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	snprintf(dir, sizeof(dir), "%s-mnt", rig_dir);
	snprintf(map, sizeof(map), "%s/maps/links", dir);
	assert_int_equal(access(map, F_OK), 0);
	assert_int_equal(load_release(dir), 0);
	assert_int_equal(access(dir, F_OK), -1);
}

/* Release takes everything off and leaves no pin. */
static void release(void **state)
{
	in(U);
	load_close(ld);
	ld = NULL;
	assert_int_equal(load_release(rig_dir), 0);
	assert_int_equal(access(rig_dir, F_OK), -1);
	assert_true(leaks());
	assert_true(lets_in());
	in(U);
	assert_int_equal(load_release(rig_dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gso_to_tap),      cmocka_unit_test(small_to_xsk),
		cmocka_unit_test(small_to_tap),    cmocka_unit_test(runts),
		cmocka_unit_test(vlan_tag),        cmocka_unit_test(deliver),
		cmocka_unit_test(deliver_stale),   cmocka_unit_test(wire_to_xsk),
		cmocka_unit_test(wire_silent),     cmocka_unit_test(wire_refused),
		cmocka_unit_test(filter),          cmocka_unit_test(natt),
		cmocka_unit_test(natt_clsact),     cmocka_unit_test(natt_kernel),
		cmocka_unit_test(guard_tcx),       cmocka_unit_test(guard_clsact),
		cmocka_unit_test(clsact_put_back), cmocka_unit_test(clsact_released),
		cmocka_unit_test(guard_first),     cmocka_unit_test(guard_l3),
		cmocka_unit_test(outlives_daemon), cmocka_unit_test(sweep),
		cmocka_unit_test(reattach),        cmocka_unit_test(device_reborn),
		cmocka_unit_test(dump_named),      cmocka_unit_test(resized),
		cmocka_unit_test(other_version),   cmocka_unit_test(private_mounts),
		cmocka_unit_test(release),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
