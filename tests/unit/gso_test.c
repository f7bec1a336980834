/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Segments are compared with packets that pktgen.h builds from scratch, byte for byte. Inputs lie
 * in exact heap blocks, so that AddressSanitizer sees every read too far.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "gso.h"
#include "pktgen.h"

enum { L2 = 14, ROOM = 66000 };

static int setup(void **state)
{
	pg_seed(2);
	return 0;
}

static uint8_t *exact(const uint8_t *bytes, uint32_t len)
{
	uint8_t *p = malloc(len ? len : 1);

	assert_non_null(p);
	memcpy(p, bytes, len);
	return p;
}

static struct virtio_net_hdr super_hdr(const struct pktgen *s, uint16_t mss)
{
	uint8_t type = s->proto == IPPROTO_UDP ? VIRTIO_NET_HDR_GSO_UDP_L4 :
		       s->family == 4	       ? VIRTIO_NET_HDR_GSO_TCPV4 :
						 VIRTIO_NET_HDR_GSO_TCPV6;

	return (struct virtio_net_hdr){
		.flags = s->partial ? VIRTIO_NET_HDR_F_NEEDS_CSUM : 0,
		.gso_type = type | (s->flags & 0x80 ? VIRTIO_NET_HDR_GSO_ECN : 0),
		.hdr_len = pg_rand(65536), /* not to be believed */
		.gso_size = mss,
		.csum_start = s->partial ? L2 + pg_l3(s) : 0,
		.csum_offset = !s->partial ? 0 : s->proto == IPPROTO_UDP ? 6 : 16,
	};
}

static void check_segments(const struct pktgen *s, uint16_t mss)
{
	static uint8_t pkt[ROOM], want[ROOM], got[ROOM];
	struct virtio_net_hdr vh = super_hdr(s, mss);
	uint32_t len = pg_build(pkt, s), n = (s->payload + mss - 1) / mss;
	uint8_t *ip = exact(pkt, len);
	struct gso g;

	assert_int_equal(gso_parse(&g, &vh, ip, len, L2), 0);
	assert_int_equal(g.n_segs, n);
	assert_int_equal(g.proto, s->proto);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t off = i * mss, plen = i + 1 < n ? mss : s->payload - off;
		struct pktgen piece = pg_piece(s, i, off, plen);
		int want_len = pg_build(want, &piece);

		memset(got, 0xa5, want_len + 8);
		assert_int_equal(gso_segment(&g, i, got, want_len - 1), -EMSGSIZE);
		assert_int_equal(gso_segment(&g, i, got, want_len), want_len);
		assert_memory_equal(got, want, want_len);
		assert_int_equal(got[want_len], 0xa5);
	}
	free(ip);
}

static struct pktgen super(const struct pktgen *base, uint32_t payload)
{
	struct pktgen s = *base;

	s.partial = true;
	s.payload = payload;
	return s;
}

static void plain_supers(void **state)
{
	static const struct pktgen *const all[] = {&pg_tcp4, &pg_udp4, &pg_tcp6, &pg_udp6};

	for (int i = 0; i < 4; i++) {
		struct pktgen s = super(all[i], 64000);

		check_segments(&s, 1398);
		check_segments(&s, 1397); /* odd: checksums of pieces at odd offsets */
		s = super(all[i], 65535 - pg_l3(all[i]) - pg_l4(all[i]));
		check_segments(&s, 1448);
		s = super(all[i], 2796); /* no short last one */
		check_segments(&s, 1398);
		s = super(all[i], 1399);
		check_segments(&s, 1398);
		s = super(all[i], 60);
		check_segments(&s, 1);
		s = super(all[i], 40000);
		check_segments(&s, 8); /* beyond 255 segments */
	}
}

static void tcp_flags_and_wraps(void **state)
{
	struct pktgen s = super(&pg_tcp4, 20000);

	s.flags = 0x99; /* CWR, ACK, PSH, FIN */
	s.tos = 0x02;
	s.frag = 0;
	s.id = 0xfffe;
	s.seq = 0xffffff00;
	check_segments(&s, 1000);
	s.flags = 0xb0; /* CWR, URG, ACK */
	s.urg = 9;
	s.reserved = 1;
	check_segments(&s, 1001);
	s = super(&pg_tcp6, 20000);
	s.flags = 0x99;
	s.tos = 0xb9;
	s.seq = 0xfffffffe;
	s.tcp_opts = 40;
	check_segments(&s, 999);
	s.tcp_opts = 0;
	check_segments(&s, 999);
}

static void options_and_extension_headers(void **state)
{
	struct pktgen s = super(&pg_tcp4, 9000);

	for (s.ip_opts = 4; s.ip_opts <= 40; s.ip_opts += 4)
		check_segments(&s, 1200);
	s = super(&pg_tcp6, 9000);
	s.ext = IPPROTO_HOPOPTS;
	for (s.ip_opts = 8; s.ip_opts <= 64; s.ip_opts += 8)
		check_segments(&s, 1200);
	s.ext = IPPROTO_DSTOPTS;
	check_segments(&s, 1201);
	s = super(&pg_udp6, 9000);
	s.ext = IPPROTO_DSTOPTS;
	s.ip_opts = 16;
	check_segments(&s, 1200);
}

/* A receive-merged packet that is forwarded may come with its checksum claimed complete. */
static void without_needs_csum(void **state)
{
	static const struct pktgen *const all[] = {&pg_tcp4, &pg_udp4, &pg_tcp6, &pg_udp6};
	struct pktgen s;

	for (int i = 0; i < 4; i++) {
		s = super(all[i], 9000);
		s.partial = false;
		check_segments(&s, 1200);
	}
	s = super(&pg_udp4, 9000);
	s.partial = false;
	s.no_csum = true; /* stays without */
	check_segments(&s, 1200);
}

/* The pseudo-header's destination is the one behind the routing header: only the field knows it. */
static void routing_header(void **state)
{
	struct pktgen s = super(&pg_tcp6, 4000);
	struct virtio_net_hdr vh;
	uint8_t pkt[5000], seg[2000], final[16];
	struct gso g;
	uint32_t len, sum;
	int n;

	s.ip_opts = 24;
	s.ext = IPPROTO_ROUTING;
	len = pg_build(pkt, &s);
	memset(final, 0x42, sizeof(final));
	memcpy(pkt + 48, final, sizeof(final));
	pkt[42] = 2; /* type 2, one segment left */
	pkt[43] = 1;
	sum = slow_sum(pkt + 8, 16, slow_sum(final, 16, IPPROTO_TCP));
	pg16(pkt + 64 + 16, slow_sum((uint8_t[]){(len - 64) >> 8, len - 64}, 2, sum));
	vh = super_hdr(&s, 1000);
	assert_int_equal(gso_parse(&g, &vh, pkt, len, L2), 0);
	for (unsigned int i = 0; i < g.n_segs; i++) {
		n = gso_segment(&g, i, seg, sizeof(seg));
		sum = slow_sum(seg + 8, 16, slow_sum(final, 16, IPPROTO_TCP + n - 64));
		assert_int_equal(slow_sum(seg + 64, n - 64, sum), 0xffff);
	}
	assert_int_equal(g.n_segs, 4);
}

static void random_supers(void **state)
{
	static const struct pktgen *const all[] = {&pg_tcp4, &pg_udp4, &pg_tcp6, &pg_udp6};

	for (int i = 0; i < 300; i++) {
		const struct pktgen *base = all[pg_rand(4)];
		uint16_t mss = 1 + pg_rand(3000);
		struct pktgen s = super(base, mss + 1 + pg_rand(60000 - mss));

		s.flags = base->flags | (pg_rand(256) & 0xb9);
		s.id = pg_rand(65536);
		s.frag = pg_rand(2) << 14;
		s.tos = pg_rand(256);
		s.seq = pg_rand(0xffffffff);
		s.sport = pg_rand(65536);
		s.src = pg_rand(256);
		if (base->proto == IPPROTO_TCP)
			s.tcp_opts = pg_rand(11) * 4;
		s.partial = pg_rand(4) != 0;
		check_segments(&s, mss);
	}
}

/* --- single packets ------------------------------------------------------------------------- */

static void single_is_copied(void **state)
{
	static const struct virtio_net_hdr none;
	uint8_t pkt[2000], got[2000];
	uint32_t len = pg_build(pkt, &pg_tcp4);
	uint8_t *ip;
	struct gso g;

	pkt[len - 1] ^= 1; /* a broken checksum is not mended */
	ip = exact(pkt, len);
	assert_int_equal(gso_parse(&g, &none, ip, len, L2), 0);
	assert_int_equal(g.n_segs, 1);
	assert_int_equal(g.seg_payload, 0);
	assert_int_equal(gso_segment(&g, 0, got, len - 1), -EMSGSIZE);
	assert_int_equal(gso_segment(&g, 0, got, len), len);
	assert_memory_equal(got, pkt, len);
	free(ip);
}

static void single_checksum_completed(void **state)
{
	static const struct pktgen *const all[] = {&pg_tcp4, &pg_udp4, &pg_tcp6, &pg_udp6};
	uint8_t pkt[2000], want[2000], got[2000];
	struct gso g;

	for (uint32_t payload = 0; payload < 700; payload += 7)
		for (int i = 0; i < 4; i++) {
			struct pktgen s = super(all[i], payload), full = s;
			struct virtio_net_hdr vh = super_hdr(&s, 0);
			uint32_t len = pg_build(pkt, &s);

			full.partial = false;
			pg_build(want, &full);
			vh.gso_type = VIRTIO_NET_HDR_GSO_NONE;
			assert_int_equal(gso_parse(&g, &vh, pkt, len, L2), 0);
			assert_int_equal(gso_segment(&g, 0, got, len), len);
			assert_memory_equal(got, want, len);
			/* a super-packet of one segment is a single packet, too */
			vh = super_hdr(&s, payload + !payload);
			assert_int_equal(gso_parse(&g, &vh, pkt, len, L2), 0);
			assert_int_equal(g.n_segs, 1);
			assert_int_equal(g.seg_payload, 0);
			assert_int_equal(gso_segment(&g, 0, got, len), len);
			assert_memory_equal(got, want, len);
		}
}

/* Partial ones are completed, right and wrong ones and fragments stay as they are. */
static void finish_by_the_look(void **state)
{
	static const struct pktgen *const all[] = {&pg_tcp4, &pg_udp4, &pg_tcp6, &pg_udp6};
	uint8_t pkt[2000], want[2000];

	for (uint32_t payload = 0; payload < 700; payload += 7)
		for (int i = 0; i < 4; i++) {
			struct pktgen s = super(all[i], payload);
			uint32_t len = pg_build(pkt, &s);

			s.partial = false;
			pg_build(want, &s);
			gso_finish(pkt, len);
			assert_memory_equal(pkt, want, len);
			gso_finish(pkt, len);
			assert_memory_equal(pkt, want, len);
			pkt[len - 1] ^= 0x40;
			want[len - 1] ^= 0x40;
			gso_finish(pkt, len);
			assert_memory_equal(pkt, want, len);
		}
}

static void finish_not_what_is_cut(void **state)
{
	struct pktgen s = super(&pg_udp4, 64);
	uint8_t pkt[200], want[200];
	uint32_t len;

	s.frag = 0x2000;
	len = pg_build(pkt, &s);
	memcpy(want, pkt, len);
	gso_finish(pkt, len);
	assert_memory_equal(pkt, want, len);
	s.frag = 0;
	pg_build(pkt, &s);
	memcpy(want, pkt, len);
	gso_finish(pkt, 27); /* the checksum field is not whole */
	assert_memory_equal(pkt, want, len);
}

static void udp_zero_becomes_ffff(void **state)
{
	struct pktgen s = super(&pg_udp4, 100);
	struct virtio_net_hdr vh = super_hdr(&s, 0);
	uint8_t pkt[200], got[200];
	uint32_t len = pg_build(pkt, &s), sum;
	struct gso g;

	memset(pkt + 28, 0, 100);
	sum = slow_sum(pkt + 20, len - 20, 0);
	pg16(pkt + 28, sum ^ 0xffff); /* now all words sum to ffff, whose complement is 0 */
	vh.gso_type = 0;
	assert_int_equal(gso_parse(&g, &vh, pkt, len, L2), 0);
	assert_int_equal(gso_segment(&g, 0, got, sizeof(got)), len);
	assert_int_equal(got[26] << 8 | got[27], 0xffff);

	/* and in a segment of a super-packet: the first 50 bytes make it 0 */
	pg16(pkt + 28, 0);
	vh = super_hdr(&s, 50);
	assert_int_equal(gso_parse(&g, &vh, pkt, len, L2), 0);
	assert_int_equal(gso_segment(&g, 0, got, sizeof(got)), 78);
	pg16(pkt + 28, got[26] << 8 | got[27]);
	assert_int_equal(gso_parse(&g, &vh, pkt, len, L2), 0);
	assert_int_equal(gso_segment(&g, 0, got, sizeof(got)), 78);
	assert_int_equal(got[26] << 8 | got[27], 0xffff);
}

/* The kernel asks for any ones'-complement checksum: here an ICMPv6 one, and one deep inside. */
static void arbitrary_place(void **state)
{
	struct pktgen s = pg_udp6;
	struct virtio_net_hdr vh = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM};
	uint8_t pkt[200], got[200];
	uint32_t len, sum;
	struct gso g;

	s.payload = 93;
	len = pg_build(pkt, &s);
	pkt[6] = IPPROTO_ICMPV6;
	pg16(pkt + 42, slow_pseudo(pkt, 6, IPPROTO_ICMPV6, len - 40));
	vh.csum_start = L2 + 40;
	vh.csum_offset = 2;
	assert_int_equal(gso_parse(&g, &vh, pkt, len, L2), 0);
	assert_int_equal(gso_segment(&g, 0, got, sizeof(got)), len);
	sum = slow_pseudo(got, 6, IPPROTO_ICMPV6, len - 40);
	assert_int_equal(slow_sum(got + 40, len - 40, sum), 0xffff);

	vh.csum_start = L2 + 61; /* odd start, the last two bytes of the packet */
	vh.csum_offset = len - 61 - 2;
	pg16(pkt + len - 2, 0);
	assert_int_equal(gso_parse(&g, &vh, pkt, len, L2), 0);
	assert_int_equal(gso_segment(&g, 0, got, sizeof(got)), len);
	sum = slow_sum(pkt + 61, len - 61, 0) ^ 0xffff;
	assert_int_equal(got[len - 2] << 8 | got[len - 1], sum);
	assert_memory_equal(got, pkt, len - 2);
}

static void padding_is_cut(void **state)
{
	struct virtio_net_hdr vh = {0};
	uint8_t pkt[200] = {0}, got[200];
	struct pktgen s = pg_tcp4;
	uint32_t len;
	struct gso g;

	s.payload = 0;
	s.partial = true;
	len = pg_build(pkt, &s);
	memset(pkt + len, 0x55, 14);
	vh = super_hdr(&s, 0);
	vh.gso_type = 0;
	assert_int_equal(gso_parse(&g, &vh, pkt, len + 14, L2), 0);
	assert_int_equal(g.len, len);
	assert_int_equal(gso_segment(&g, 0, got, sizeof(got)), len);
	assert_int_equal(slow_sum(got + 20, len - 20, slow_pseudo(got, 4, 6, len - 20)), 0xffff);
}

static void protocols_named(void **state)
{
	static const struct virtio_net_hdr none;
	struct pktgen s = pg_udp4;
	uint8_t pkt[2000];
	uint32_t len;
	struct gso g;

	s.frag = 0x2000; /* more fragments */
	len = pg_build(pkt, &s);
	assert_int_equal(gso_parse(&g, &none, pkt, len, L2), 0);
	assert_int_equal(g.proto, IPPROTO_RAW);
	s.frag = 100;
	len = pg_build(pkt, &s);
	assert_int_equal(gso_parse(&g, &none, pkt, len, L2), 0);
	assert_int_equal(g.proto, IPPROTO_RAW);
	s = pg_udp6;
	s.ip_opts = 8;
	s.ext = IPPROTO_FRAGMENT;
	len = pg_build(pkt, &s);
	assert_int_equal(gso_parse(&g, &none, pkt, len, L2), 0);
	assert_int_equal(g.proto, IPPROTO_RAW);
	s.ext = IPPROTO_HOPOPTS;
	len = pg_build(pkt, &s);
	assert_int_equal(gso_parse(&g, &none, pkt, len, L2), 0);
	assert_int_equal(g.proto, IPPROTO_UDP);
	assert_int_equal(g.l3_len, 48);
}

/* --- lies ----------------------------------------------------------------------------------- */

struct lie {
	const char *what;
	const struct pktgen *base;
	int at; /* byte of the packet to change, -1: none */
	uint8_t to;
	uint32_t cut; /* bytes missing at the end */
	void (*hdr)(struct virtio_net_hdr *vh);
};

static void no_size(struct virtio_net_hdr *vh) { vh->gso_size = 0; }
static void ufo(struct virtio_net_hdr *vh) { vh->gso_type = VIRTIO_NET_HDR_GSO_UDP; }
static void unknown_type(struct virtio_net_hdr *vh) { vh->gso_type = 0x40; }
static void only_ecn(struct virtio_net_hdr *vh) { vh->gso_type = VIRTIO_NET_HDR_GSO_ECN; }
static void as_tcp4(struct virtio_net_hdr *vh) { vh->gso_type = VIRTIO_NET_HDR_GSO_TCPV4; }
static void as_tcp6(struct virtio_net_hdr *vh) { vh->gso_type = VIRTIO_NET_HDR_GSO_TCPV6; }
static void as_udp(struct virtio_net_hdr *vh) { vh->gso_type = VIRTIO_NET_HDR_GSO_UDP_L4; }
static void start_in_l2(struct virtio_net_hdr *vh) { vh->csum_start = L2 - 1; }
static void start_in_ip(struct virtio_net_hdr *vh) { vh->csum_start = L2 + 19; }
static void start_beyond(struct virtio_net_hdr *vh) { vh->csum_start = 0xffff; }
static void offset_beyond(struct virtio_net_hdr *vh) { vh->csum_offset = 0xffff; }
static void offset_other(struct virtio_net_hdr *vh) { vh->csum_offset = 6; }
static void start_other(struct virtio_net_hdr *vh) { vh->csum_start += 2; }
static void single_end(struct virtio_net_hdr *vh)
{
	vh->gso_type = 0;
	vh->csum_offset = 4052 - 20 - 1; /* one byte of the field is outside */
}
static void single_start_in_l2(struct virtio_net_hdr *vh)
{
	vh->gso_type = 0;
	vh->csum_start = L2 - 1;
}
static void single_in_ip(struct virtio_net_hdr *vh)
{
	vh->gso_type = 0;
	vh->csum_start = L2 + 4;
}

static const struct lie lies[] = {
	{"version", &pg_tcp4, 0, 0x55, 0, NULL},
	{"version 4 said to be 6", &pg_tcp4, 0, 0x65, 0, NULL},
	{"header length 4", &pg_tcp4, 0, 0x44, 0, NULL},
	{"total length above", &pg_tcp4, 2, 0xff, 0, NULL},
	{"cut", &pg_tcp4, -1, 0, 1, NULL},
	{"cut to 19", &pg_tcp4, -1, 0, 4052 - 19, NULL},
	{"nothing", &pg_tcp4, -1, 0, 4052, NULL},
	{"v6 cut", &pg_tcp6, -1, 0, 1, NULL},
	{"v6 cut to 39", &pg_tcp6, -1, 0, 4072 - 39, NULL},
	{"fragment", &pg_tcp4, 6, 0x20, 0, NULL},
	{"other protocol", &pg_tcp4, 9, 47, 0, NULL},
	{"tcp offset 4", &pg_tcp4, 20 + 12, 0x40, 0, NULL},
	{"no gso_size", &pg_tcp4, -1, 0, 0, no_size},
	{"ufo", &pg_udp4, -1, 0, 0, ufo},
	{"unknown type", &pg_tcp4, -1, 0, 0, unknown_type},
	{"ecn alone", &pg_tcp4, -1, 0, 0, only_ecn},
	{"udp as tcp", &pg_udp4, -1, 0, 0, as_tcp4},
	{"tcp as udp", &pg_tcp4, -1, 0, 0, as_udp},
	{"v4 as v6", &pg_tcp4, -1, 0, 0, as_tcp6},
	{"v6 as v4", &pg_tcp6, -1, 0, 0, as_tcp4},
	{"start in l2", &pg_tcp4, -1, 0, 0, start_in_l2},
	{"start in ip", &pg_tcp4, -1, 0, 0, start_in_ip},
	{"start beyond", &pg_tcp4, -1, 0, 0, start_beyond},
	{"offset beyond", &pg_tcp4, -1, 0, 0, offset_beyond},
	{"offset other", &pg_tcp4, -1, 0, 0, offset_other},
	{"start other", &pg_tcp4, -1, 0, 0, start_other},
	{"single, end of packet", &pg_tcp4, -1, 0, 0, single_end},
	{"single, start in l2", &pg_tcp4, -1, 0, 0, single_start_in_l2},
	{"single, ip header", &pg_tcp4, -1, 0, 0, single_in_ip},
};

static void lies_refused(void **state)
{
	static uint8_t pkt[5000];

	for (unsigned int i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		const struct lie *l = &lies[i];
		struct pktgen s = super(l->base, 4000);
		struct virtio_net_hdr vh = super_hdr(&s, 1000);
		uint32_t len = pg_build(pkt, &s) - l->cut;
		struct gso g;
		uint8_t *ip;
		int err;

		if (l->at >= 0)
			pkt[l->at] = l->to;
		if (l->hdr)
			l->hdr(&vh);
		ip = exact(pkt, len);
		err = gso_parse(&g, &vh, ip, len, L2);
		if (err != -EINVAL)
			fail_msg("%s: %d", l->what, err);
		free(ip);
	}
}

/* BIG TCP: IPv4 with total length 0, IPv6 with a jumbo option */
static void jumbo_refused(void **state)
{
	struct pktgen s = super(&pg_tcp4, 4000);
	struct virtio_net_hdr vh = super_hdr(&s, 1000);
	uint8_t pkt[5000];
	uint32_t len = pg_build(pkt, &s);
	struct gso g;

	pg16(pkt + 2, 0);
	assert_int_equal(gso_parse(&g, &vh, pkt, len, L2), -EINVAL);
	pg16(pkt + 2, 19);
	assert_int_equal(gso_parse(&g, &vh, pkt, len, L2), -EINVAL);
	s = super(&pg_tcp6, 4000);
	s.ip_opts = 8;
	s.ext = IPPROTO_HOPOPTS;
	len = pg_build(pkt, &s);
	pg16(pkt + 4, 0);
	assert_int_equal(gso_parse(&g, &vh, pkt, len, L2), -EINVAL);
	vh = (struct virtio_net_hdr){0};
	assert_int_equal(gso_parse(&g, &vh, pkt, len, L2), -EINVAL);
}

/* Extension headers that begin or end behind the packet are not walked: some other protocol. */
static void extension_cut(void **state)
{
	static const struct virtio_net_hdr none;
	struct pktgen s = pg_udp6;
	uint8_t pkt[2000], *ip;
	struct gso g;

	s.ip_opts = 24;
	s.ext = IPPROTO_DSTOPTS;
	pg_build(pkt, &s);
	for (uint32_t len = 40; len < 64; len++) {
		ip = exact(pkt, len);
		pg16(ip + 4, len - 40);
		assert_int_equal(gso_parse(&g, &none, ip, len, L2), 0);
		assert_int_equal(g.proto, IPPROTO_DSTOPTS);
		assert_int_equal(g.l3_len, 40);
		free(ip);
	}
}

static void l4_header_cut(void **state)
{
	static const struct pktgen *const all[] = {&pg_tcp4, &pg_udp4, &pg_tcp6, &pg_udp6};
	uint8_t pkt[200];
	struct gso g;

	for (int i = 0; i < 4; i++) {
		struct pktgen s = super(all[i], 50);
		struct virtio_net_hdr vh = super_hdr(&s, 10);
		uint32_t l3 = pg_l3(&s);

		pg_build(pkt, &s);
		for (uint32_t len = l3; len < l3 + pg_l4(&s); len++) {
			uint8_t *ip = exact(pkt, len);

			pg16(ip + (s.family == 4 ? 2 : 4), s.family == 4 ? len : len - 40);
			assert_int_equal(gso_parse(&g, &vh, ip, len, L2), -EINVAL);
			free(ip);
		}
	}
}

/* Anything may be refused; nothing may be read or written outside, and lengths must add up. */
static void noise(void **state)
{
	static const struct pktgen *const all[] = {&pg_tcp4, &pg_udp4, &pg_tcp6, &pg_udp6};
	static uint8_t pkt[3000];
	unsigned int taken = 0;

	for (int i = 0; i < 200000; i++) {
		struct pktgen s = super(all[pg_rand(4)], pg_rand(200));
		struct virtio_net_hdr vh;
		struct gso g;
		uint32_t len, room;
		uint8_t *ip, *out;

		s.ip_opts = s.family == 6 ? pg_rand(4) * 8 : pg_rand(11) * 4;
		s.ext = pg_rand(3) * 43 % 61; /* hop-by-hop, routing, or none that is walked */
		vh = super_hdr(&s, pg_rand(300));
		len = pg_build(pkt, &s);
		for (uint32_t n = pg_rand(4); n; n--)
			pkt[pg_rand(pg_rand(2) ? 64 : len) % len] = pg_rand(256);
		for (uint32_t n = pg_rand(2); n; n--)
			((uint8_t *)&vh)[pg_rand(sizeof(vh))] = pg_rand(256);
		if (!pg_rand(4))
			len = pg_rand(len + 1);
		ip = exact(pkt, len);
		if (!gso_parse(&g, &vh, ip, len, L2)) {
			taken++;
			room = g.l3_len + g.l4_len + (g.seg_payload ? g.seg_payload : g.len);
			out = malloc(room);
			for (unsigned int k = 0; k < g.n_segs; k++)
				assert_in_range(gso_segment(&g, k, out, room), 1, room);
			free(out);
		}
		free(ip);
	}
	assert_in_range(taken, 20000, 180000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_supers),
		cmocka_unit_test(tcp_flags_and_wraps),
		cmocka_unit_test(options_and_extension_headers),
		cmocka_unit_test(without_needs_csum),
		cmocka_unit_test(routing_header),
		cmocka_unit_test(random_supers),
		cmocka_unit_test(single_is_copied),
		cmocka_unit_test(single_checksum_completed),
		cmocka_unit_test(finish_by_the_look),
		cmocka_unit_test(finish_not_what_is_cut),
		cmocka_unit_test(udp_zero_becomes_ffff),
		cmocka_unit_test(arbitrary_place),
		cmocka_unit_test(padding_is_cut),
		cmocka_unit_test(protocols_named),
		cmocka_unit_test(lies_refused),
		cmocka_unit_test(jumbo_refused),
		cmocka_unit_test(extension_cut),
		cmocka_unit_test(l4_header_cut),
		cmocka_unit_test(noise),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
