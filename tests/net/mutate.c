// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * mutate - a good flow through a tunnel, and damaged copies of its envelopes on the wire beside it.
 *
 *   mutate NS_FROM NS_TO ADDR PORT NS_WIRE DEV DMAC SEED
 *
 * Numbered datagrams go from NS_FROM to ADDR:PORT in NS_TO. Their envelopes are seen leaving by DEV, and
 * copies of them, damaged in one of KINDS ways, are sent to DMAC once their datagrams have arrived. So no copy
 * overtakes its original (a tap sees a frame before the wire has it), whatever is delivered but the good
 * flow, each datagram once, is a forgery, and an endpoint that moves was moved by one.
 *
 *   run MUTANTS PER BURST RATE   PER copies of each envelope, BURST datagrams under way at once and at
 *                                most RATE copies a second; answers with one JSON object, see finish()
 *
 * A loop that is closed: the next BURST goes when the last one has arrived and its copies are sent. So at
 * most BURST * (PER + 1) frames wait at the receiver, however slow the machine: what is lost is lost by it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FRAME_MAX = 4096, FRAME_SENT_MAX = 1514, KEEP = 1024, BODY_MAX = 1300, HEAD = 8, PATIENCE_MS = 5000 };
enum { IP4_MIN = 20, IP6_LEN = 40, UDP_LEN = 8, ESP_MIN = 8, FRAG6_LEN = 8, PORT_NATT = 4500 };

struct frame {
	uint32_t len;
	uint32_t l4, esp; /* l4 = esp where there is no UDP */
	bool v6;
	uint8_t b[FRAME_MAX];
};

static const uint8_t mac_test[ETH_ALEN] = {0x02, 0xbd, 0, 0, 0, 3}; /* sniff.c: the test's own */
static struct frame kept[KEEP]; /* envelopes seen, a ring */
static uint64_t n_kept;
static uint8_t dmac[ETH_ALEN];
static int tx, rx, ear, mouth;
static struct sockaddr_storage to;
static socklen_t to_len;
static uint64_t rng, secret;

/* The flow: number n is delivered once, and its bytes are what body() says. */
static uint8_t *arrived;
static uint64_t n_sent, n_got, cap, twice, forged, mutants, tx_lost;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t mix(uint64_t *s)
{
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 0x2545f4914f6cdd1dull;
}

static uint32_t below(uint32_t n)
{
	return n ? (uint32_t)((mix(&rng) >> 33) % n) : 0;
}

static void noise(uint8_t *p, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		p[i] = (uint8_t)(mix(&rng) >> 56);
}

static uint32_t be16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

/* --- the good flow --- */

/* Length and content of datagram n follow from n. Return: its length */
static uint32_t body(uint64_t n, uint8_t *p)
{
	uint64_t s = (n + 1) * 0x9e3779b97f4a7c15ull ^ secret;
	uint32_t len = HEAD + (uint32_t)((mix(&s) >> 40) % (n % 3 ? 200 : BODY_MAX - HEAD));

	memcpy(p, &n, HEAD);
	for (uint32_t i = HEAD; i < len; i++)
		p[i] = (uint8_t)(mix(&s) >> 56);
	return len;
}

static void send_good(void)
{
	uint8_t p[BODY_MAX];
	uint32_t len = body(n_sent, p);

	if (n_sent == cap) {
		arrived = realloc(arrived, cap ? 2 * cap : 1 << 16);
		if (!arrived)
			die("mutate: memory");
		memset(arrived + cap, 0, cap ? cap : 1 << 16);
		cap = cap ? 2 * cap : 1 << 16;
	}
	n_sent++;
	if (sendto(tx, p, len, 0, (struct sockaddr *)&to, to_len) != (ssize_t)len)
		die("mutate: send");
}

static void hear_good(void)
{
	uint8_t p[FRAME_MAX], want[BODY_MAX];
	uint64_t n;
	ssize_t len;

	while ((len = recv(rx, p, sizeof p, MSG_DONTWAIT)) >= 0) {
		memcpy(&n, p, sizeof n);
		if (len < HEAD || n >= n_sent || body(n, want) != (uint32_t)len || memcmp(p, want, (size_t)len)) {
			forged++;
		} else if (arrived[n]) {
			twice++;
		} else {
			arrived[n] = 1;
			n_got++;
		}
	}
}

/* --- frames --- */

static bool parse(struct frame *f)
{
	uint32_t proto;

	if (f->len < ETH_HLEN + IP4_MIN + ESP_MIN)
		return false;
	f->v6 = be16(f->b + 12) == ETHERTYPE_IPV6;
	if (!f->v6 && be16(f->b + 12) != ETHERTYPE_IP)
		return false;
	proto = f->b[ETH_HLEN + (f->v6 ? 6 : 9)];
	f->l4 = ETH_HLEN + (f->v6 ? IP6_LEN : (f->b[ETH_HLEN] & 15u) * 4);
	f->esp = f->l4 + (proto == IPPROTO_UDP ? UDP_LEN : 0);
	if (f->len < f->esp + 2 * ESP_MIN)
		return false;
	return proto == IPPROTO_ESP || (proto == IPPROTO_UDP && be16(f->b + f->l4 + 2) == PORT_NATT);
}

static uint32_t sum(const uint8_t *p, uint32_t len, uint32_t s)
{
	for (; len > 1; p += 2, len -= 2)
		s += be16(p);
	if (len)
		s += (uint32_t)*p << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return s;
}

static void sum_ip(struct frame *f)
{
	uint8_t *ip = f->b + ETH_HLEN;

	if (f->v6)
		return;
	put16(ip + 10, 0);
	put16(ip + 10, ~sum(ip, f->l4 - ETH_HLEN, 0) & 0xffff);
}

static void sum_udp(struct frame *f)
{
	uint8_t *ip = f->b + ETH_HLEN, *udp = f->b + f->l4;
	uint32_t n = f->len - f->l4, s;

	if (f->l4 == f->esp)
		return;
	put16(udp + 6, 0);
	s = sum(f->v6 ? ip + 8 : ip + 12, f->v6 ? 32 : 8, n + IPPROTO_UDP);
	s = ~sum(udp, n, s) & 0xffff;
	put16(udp + 6, s ? s : 0xffff);
}

/* Headers that tell the truth about what f has become. */
static void honest(struct frame *f)
{
	if (f->v6)
		put16(f->b + ETH_HLEN + 4, f->len - ETH_HLEN - IP6_LEN);
	else
		put16(f->b + ETH_HLEN + 2, f->len - ETH_HLEN);
	if (f->l4 != f->esp)
		put16(f->b + f->l4 + 4, f->len - f->l4);
	sum_ip(f);
	sum_udp(f);
}

static void put_out(struct frame *f)
{
	if (f->len > FRAME_SENT_MAX)
		f->len = FRAME_SENT_MAX;
	memcpy(f->b, dmac, ETH_ALEN);
	memcpy(f->b + ETH_ALEN, mac_test, ETH_ALEN);
	mutants++;
	for (unsigned int i = 0; i < 2000; i++) {
		if (send(mouth, f->b, f->len, 0) == (ssize_t)f->len)
			return;
		if (errno != ENOBUFS && errno != EAGAIN)
			break;
		usleep(50);
	}
	tx_lost++;
}

static void flip(struct frame *f, uint32_t from, unsigned int n)
{
	while (n--)
		f->b[from + below(f->len - from)] ^= (uint8_t)(1u << below(8));
}

/* Move what is at `at` and behind it back by n bytes of noise. */
static void insert(struct frame *f, uint32_t at, uint32_t n)
{
	if (f->len + n > FRAME_MAX)
		return;
	memmove(f->b + at + n, f->b + at, f->len - at);
	noise(f->b + at, n);
	f->len += n;
}

/* --- what is done to a copy; each leaves a frame to be sent, or has sent several --- */

static void m_bits(struct frame *f)
{
	flip(f, f->esp + below(ESP_MIN + 1), 1 + below(8));
	if (below(2))
		sum_udp(f);
}

static void m_bits_anywhere(struct frame *f)
{
	flip(f, ETH_HLEN, 1 + below(4));
	if (below(2))
		sum_ip(f);
}

static void m_cut(struct frame *f)
{
	f->len = f->l4 + below(f->len - f->l4);
	if (f->len >= f->esp)
		honest(f);
}

static void m_runt(struct frame *f)
{
	f->len = ETH_HLEN + below(f->len - ETH_HLEN);
}

static void m_grow(struct frame *f)
{
	uint32_t n = 1 + below(FRAME_SENT_MAX - f->len);

	if (f->len >= FRAME_SENT_MAX)
		return m_bits(f);
	noise(f->b + f->len, n);
	f->len += n;
	if (below(3))
		honest(f);
	else
		sum_udp(f);
}

static void m_oversize(struct frame *f)
{
	noise(f->b + f->len, FRAME_SENT_MAX - f->len);
	f->len = FRAME_SENT_MAX;
	honest(f);
}

static void m_ip_length(struct frame *f)
{
	uint8_t *p = f->b + ETH_HLEN + (f->v6 ? 4 : 2);

	put16(p, below(3) ? below(65536) : be16(p) + below(33) - 16);
	sum_ip(f);
}

static void m_udp_length(struct frame *f)
{
	if (f->l4 == f->esp)
		return m_ip_length(f);
	put16(f->b + f->l4 + 4, below(3) ? below(65536) : below(24));
}

static void m_spi(struct frame *f)
{
	static const uint32_t odd[] = {0, 1, 255, 256, 0x7fffffff, 0xffffffff};

	put32(f->b + f->esp, below(2) ? odd[below(6)] : (uint32_t)mix(&rng));
	sum_udp(f);
}

static void m_seq(struct frame *f)
{
	static const uint32_t odd[] = {0, 1, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
	uint8_t *p = f->b + f->esp + 4;
	uint32_t was = be16(p) << 16 | be16(p + 2);

	switch (below(3)) {
	case 0:
		put32(p, odd[below(6)]);
		break;
	case 1:
		put32(p, was + 1 + below(5000));
		break;
	default:
		put32(p, was - 1 - below(5000));
	}
	sum_udp(f);
}

/* Untouched, from the ring: just seen, or long ago. */
static void m_replay(struct frame *f)
{
	uint64_t n = n_kept < KEEP ? n_kept : KEEP;

	if (below(2))
		*f = kept[(n_kept - 1 - below((uint32_t)n)) % KEEP];
}

static void m_other_source(struct frame *f)
{
	uint32_t at = ETH_HLEN + (f->v6 ? 8 : 12), n = f->v6 ? 16 : 4;

	f->b[at + n - 1] ^= (uint8_t)(1 + below(255));
	sum_ip(f);
	if (below(4))
		sum_udp(f);
}

static void m_ports(struct frame *f)
{
	if (f->l4 == f->esp)
		return m_other_source(f);
	put16(f->b + f->l4, below(65536));
	if (!below(8))
		put16(f->b + f->l4 + 2, below(65536));
	if (below(4))
		sum_udp(f);
}

static void m_sums(struct frame *f)
{
	uint8_t *p = f->b + (f->l4 == f->esp || below(2) ? ETH_HLEN + 10 : f->l4 + 6);

	if (f->v6 && p == f->b + ETH_HLEN + 10)
		return m_bits_anywhere(f);
	put16(p, below(3) ? below(65536) : 0);
}

static void m_protocol(struct frame *f)
{
	static const uint8_t odd[] = {50, 17, 51, 0, 43, 44, 59, 60, 4, 41, 255};

	f->b[ETH_HLEN + (f->v6 ? 6 : 9)] = odd[below(sizeof odd)];
	sum_ip(f);
}

static void m_first_byte(struct frame *f)
{
	f->b[ETH_HLEN] = (uint8_t)(mix(&rng) >> 56);
	if (!f->v6 && below(2))
		sum_ip(f);
}

/* IPv4 options, or an IPv6 extension header, in front of ESP. */
static void m_options(struct frame *f)
{
	uint32_t n = 8 * (1 + below(f->v6 ? 4 : 5)), l4 = f->l4;
	uint8_t *ip = f->b + ETH_HLEN;
	uint8_t proto = ip[6];

	if (f->len + n > FRAME_SENT_MAX)
		return m_bits(f);
	insert(f, l4, n);
	f->l4 += n;
	f->esp += n;
	if (f->v6) {
		ip[6] = below(2) ? 60 : 0;
		f->b[l4] = proto;
		f->b[l4 + 1] = (uint8_t)(n / 8 - 1 + !below(4));
		if (below(2))
			memset(f->b + l4 + 2, 0, n - 2); /* Pad1 */
	} else {
		ip[0] = (uint8_t)(0x40 | (f->l4 - ETH_HLEN) / 4);
		if (below(2))
			memset(f->b + l4, 1, n); /* no operation */
	}
	honest(f);
}

static void m_ttl_tos(struct frame *f)
{
	uint8_t *ip = f->b + ETH_HLEN;

	ip[1] = (uint8_t)(mix(&rng) >> 56);
	ip[f->v6 ? 7 : 8] = (uint8_t)below(3);
	if (!f->v6)
		ip[6] ^= (uint8_t)(0x80 >> below(3));
	sum_ip(f);
}

static void m_noise(struct frame *f)
{
	noise(f->b + f->esp + 4, f->len - f->esp - 4);
	honest(f);
}

static void m_vlan(struct frame *f)
{
	if (f->len + 4 > FRAME_SENT_MAX)
		return m_runt(f);
	insert(f, 12, 4);
	put16(f->b + 12, below(2) ? ETHERTYPE_VLAN : 0x88a8);
}

static void m_ethertype(struct frame *f)
{
	put16(f->b + 12, below(2) ? (f->v6 ? ETHERTYPE_IP : ETHERTYPE_IPV6) : below(65536));
}

static void m_short_udp(struct frame *f)
{
	static const uint8_t marker[4];

	if (f->l4 == f->esp)
		return m_cut(f);
	f->len = f->esp + 1 + below(12);
	if (below(2))
		memcpy(f->b + f->esp, marker, sizeof marker);
	else if (below(2))
		f->b[f->esp] = 0xff;
	honest(f);
}

/* Bytes from..from+n of what stands behind f's IP header, as a fragment. */
static void fragment(const struct frame *f, uint32_t from, uint32_t n, bool more, uint32_t id)
{
	static struct frame p;
	uint32_t l3 = f->l4, hdr = f->v6 ? FRAG6_LEN : 0;

	p.v6 = f->v6;
	p.l4 = p.esp = l3;
	memcpy(p.b, f->b, l3);
	memcpy(p.b + l3 + hdr, f->b + l3 + from, n);
	p.len = l3 + hdr + n;
	if (f->v6) {
		p.b[l3] = p.b[ETH_HLEN + 6];
		p.b[l3 + 1] = 0;
		put16(p.b + l3 + 2, (from & ~7u) | more);
		put32(p.b + l3 + 4, id);
		p.b[ETH_HLEN + 6] = 44;
	} else {
		put16(p.b + ETH_HLEN + 4, id);
		put16(p.b + ETH_HLEN + 6, from / 8 | (more ? 0x2000 : 0));
	}
	honest(&p);
	put_out(&p);
}

/* Whole or with a piece missing, doubled, overlapping, or too long for any datagram. Return: true = sent */
static bool m_fragments(struct frame *f)
{
	uint32_t room = f->len - f->l4, cut = room / 2 & ~7u, id = (uint32_t)mix(&rng), how = below(6);

	if (below(2)) { /* damaged, so that joining them helps nobody */
		flip(f, f->esp + ESP_MIN, 3);
		sum_udp(f);
	}
	if (how != 1)
		fragment(f, 0, cut, true, id);
	if (how == 2)
		fragment(f, 0, cut, true, id);
	if (how == 3 && cut >= 16)
		fragment(f, cut - 8, room - cut + 8, false, id);
	else if (how == 4)
		fragment(f, 65528 - 8 * below(4), 24, false, id);
	else if (how != 5)
		fragment(f, cut, room - cut, false, id);
	return true;
}

static const struct kind {
	const char *name;
	void (*change)(struct frame *f);
} kinds[] = {
	{"bits", m_bits}, {"bits-anywhere", m_bits_anywhere}, {"cut", m_cut}, {"runt", m_runt}, {"grow", m_grow},
	{"oversize", m_oversize}, {"ip-length", m_ip_length}, {"udp-length", m_udp_length}, {"spi", m_spi},
	{"seq", m_seq}, {"replay", m_replay}, {"other-source", m_other_source}, {"ports", m_ports}, {"sums", m_sums},
	{"protocol", m_protocol}, {"first-byte", m_first_byte}, {"options", m_options}, {"ttl-tos", m_ttl_tos},
	{"noise", m_noise}, {"vlan", m_vlan}, {"ethertype", m_ethertype}, {"short-udp", m_short_udp},
	{"fragments", NULL}, {"twice", NULL},
};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };
static uint64_t by_kind[N_KINDS];

static void mutate(const struct frame *good)
{
	static struct frame f;
	uint32_t k = below(N_KINDS);

	f = *good;
	by_kind[k]++;
	if (!strcmp(kinds[k].name, "fragments")) {
		m_fragments(&f);
		return;
	}
	if (kinds[k].change) {
		kinds[k].change(&f);
	} else { /* two that leave the offsets alone */
		m_bits(&f);
		m_bits_anywhere(&f);
	}
	put_out(&f);
}

/* --- the loop --- */

/* Envelopes that leave by the device are kept. */
static void hear_wire(void)
{
	struct sockaddr_ll from;
	socklen_t len;
	ssize_t n;

	for (;;) {
		struct frame *f = &kept[n_kept % KEEP];

		len = sizeof from;
		n = recvfrom(ear, f->b, FRAME_MAX, MSG_DONTWAIT, (struct sockaddr *)&from, &len);
		if (n < 0)
			return;
		f->len = (uint32_t)n;
		if (from.sll_pkttype != PACKET_OUTGOING || f->len > FRAME_SENT_MAX || !parse(f))
			continue;
		n_kept++;
	}
}

/* Until all datagrams have arrived and that many envelopes were seen. Return: false = they did not */
static bool settle(uint64_t envelopes)
{
	struct pollfd fds[] = {{.fd = rx, .events = POLLIN}, {.fd = ear, .events = POLLIN}};
	uint64_t end = now_ns() + PATIENCE_MS * 1000000ull;

	while (n_got < n_sent || n_kept < envelopes) {
		if (now_ns() > end)
			return false;
		poll(fds, 2, 10);
		hear_wire();
		hear_good();
	}
	return true;
}

static void finish(bool whole, uint64_t start)
{
	printf("{\"ok\":true,\"whole\":%s,\"sent\":%lu,\"received\":%lu,\"twice\":%lu,\"forged\":%lu,\"mutants\":%lu,"
	       "\"tx_lost\":%lu,\"seconds\":%.3f,\"kinds\":{",
	       whole ? "true" : "false", n_sent, n_got, twice, forged, mutants, tx_lost, (double)(now_ns() - start) / 1e9);
	for (unsigned int k = 0; k < N_KINDS; k++)
		printf("%s\"%s\":%lu", k ? "," : "", kinds[k].name, by_kind[k]);
	printf("}}\n");
}

/* Return: did all of it arrive? */
static bool play(unsigned int burst)
{
	uint64_t envelopes = n_kept + burst;

	for (unsigned int i = 0; i < burst; i++)
		send_good();
	return settle(envelopes);
}

static void run(uint64_t total, unsigned int per, unsigned int burst, uint64_t rate)
{
	uint64_t start = now_ns(), had = mutants, until = mutants + total, due;
	bool whole = true;

	while (whole && mutants < until) {
		uint64_t from = n_kept;

		whole = play(burst);
		for (uint64_t k = from; whole && k < from + burst; k++)
			for (unsigned int i = 0; i < per; i++)
				mutate(&kept[k % KEEP]);
		due = start + (mutants - had) * 1000000000 / rate;
		if (due > now_ns())
			usleep((unsigned int)((due - now_ns()) / 1000));
	}
	finish(whole && play(burst), start); /* what the last copies did has happened by then */
}

static void enter(const char *ns)
{
	int fd = open(ns, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || setns(fd, CLONE_NEWNET))
		die(ns);
	close(fd);
}

static int udp_socket(int family)
{
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = 16 << 20;

	if (fd < 0)
		die("mutate: socket");
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	return fd;
}

static int frame_socket(const char *dev, bool listens)
{
	struct sockaddr_ll sa = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(dev),
				 .sll_protocol = listens ? htons(ETH_P_ALL) : 0};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), one = 1, size = 64 << 20;

	if (fd < 0 || !sa.sll_ifindex || bind(fd, (struct sockaddr *)&sa, sizeof sa))
		die(dev);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	if (!listens) /* or we would hear ourselves */
		setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
	return fd;
}

static void set_up(char **argv)
{
	struct sockaddr_in *s4 = (void *)&to;
	struct sockaddr_in6 *s6 = (void *)&to;
	bool v6 = strchr(argv[3], ':');
	in_port_t port = htons((uint16_t)atoi(argv[4]));

	to.ss_family = v6 ? AF_INET6 : AF_INET;
	to_len = v6 ? sizeof *s6 : sizeof *s4;
	if (inet_pton(to.ss_family, argv[3], v6 ? (void *)&s6->sin6_addr : (void *)&s4->sin_addr) != 1)
		die(argv[3]);
	*(v6 ? &s6->sin6_port : &s4->sin_port) = port;
	enter(argv[1]);
	tx = udp_socket(to.ss_family);
	enter(argv[2]);
	rx = udp_socket(to.ss_family);
	if (bind(rx, (struct sockaddr *)&to, to_len))
		die("mutate: bind");
	enter(argv[5]);
	ear = frame_socket(argv[6], true);
	mouth = frame_socket(argv[6], false);
	memcpy(dmac, ether_aton(argv[7]), ETH_ALEN);
	rng = strtoull(argv[8], NULL, 0) * 2 + 1;
	secret = mix(&rng);
}

int main(int argc, char **argv)
{
	unsigned int per, burst;
	uint64_t total, rate;
	char line[256];

	if (argc != 9) {
		fprintf(stderr, "usage: mutate NS_FROM NS_TO ADDR PORT NS_WIRE DEV DMAC SEED\n");
		return 2;
	}
	set_up(argv);
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof line, stdin)) {
		if (sscanf(line, "run %lu %u %u %lu", &total, &per, &burst, &rate) == 4 && per && burst && rate)
			run(total, per, burst, rate);
		else
			printf("{\"ok\":false}\n");
	}
	return 0;
}
