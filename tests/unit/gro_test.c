/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every packet offered is kept as a copy; what comes out is cut up again by gso.c and must be
 * those bytes, in the order of their flow. Inputs lie in exact heap blocks, for AddressSanitizer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "gro.h"
#include "gso.h"
#include "pktgen.h"

enum { OUT_MAX = 4096, PKT_MAX = 2048, ROOM = 66000 };

/* struct got - one emission, flattened */
struct got {
	struct virtio_net_hdr vh;
	uint8_t *bytes;
	uint32_t len, n_segs, tag;
};

static struct got outs[OUT_MAX];
static unsigned int n_outs;
static uint8_t *owned[OUT_MAX];
static unsigned int n_owned;

static void collect(void *arg, struct gro_out *out)
{
	struct got *o = &outs[n_outs++];
	uint32_t at = 0;

	assert_in_range(n_outs, 1, OUT_MAX - 1);
	assert_in_range(out->n_iov, 1, GRO_SEGS);
	assert_int_equal(out->n_iov, out->n_segs);
	*o = (struct got){.vh = out->vh, .n_segs = out->n_segs, .tag = out->tag, .len = out->bytes};
	o->bytes = malloc(out->bytes ? out->bytes : 1);
	for (int i = 0; i < out->n_iov; i++) {
		assert_true(at + out->iov[i].iov_len <= out->bytes);
		memcpy(o->bytes + at, out->iov[i].iov_base, out->iov[i].iov_len);
		at += out->iov[i].iov_len;
	}
	assert_int_equal(at, out->bytes);
	if (out->bytes && out->bytes >= 20)
		assert_int_equal(out->family, o->bytes[0] >> 4 == 4 ? 4 : 6);
}

static void offer(struct gro *g, const uint8_t *bytes, uint32_t len, uint32_t tag)
{
	uint8_t *p = malloc(len ? len : 1);

	assert_in_range(n_owned, 0, OUT_MAX - 1);
	memcpy(p, bytes, len);
	owned[n_owned++] = p;
	gro_add(g, p, len, tag, collect, NULL);
}

static void offer_spec(struct gro *g, const struct pktgen *s)
{
	static uint8_t pkt[ROOM];

	offer(g, pkt, pg_build(pkt, s), 1);
}

static void forget(void)
{
	while (n_outs)
		free(outs[--n_outs].bytes);
	while (n_owned)
		free(owned[--n_owned]);
}

static int setup(void **state)
{
	*state = gro_new(true);
	return !*state;
}

static int teardown(void **state)
{
	gro_free(*state);
	forget();
	return 0;
}

static struct pktgen next(const struct pktgen *s)
{
	struct pktgen n = *s;

	n.seq += s->payload;
	n.at += s->payload;
	n.id++;
	return n;
}

/* Emission o is spec s as it stands, and nothing is claimed about it. */
static void assert_single(unsigned int o, const struct pktgen *s)
{
	static const struct virtio_net_hdr none;
	static uint8_t want[ROOM];

	assert_in_range(o, 0, n_outs - 1);
	assert_int_equal(outs[o].n_segs, 1);
	assert_int_equal(outs[o].len, pg_build(want, s));
	assert_memory_equal(outs[o].bytes, want, outs[o].len);
	assert_memory_equal(&outs[o].vh, &none, sizeof(none));
}

/* Emission o is n segments: s as the kernel would have made it for the whole payload. */
static void assert_super(unsigned int o, const struct pktgen *s, uint32_t n, uint16_t mss)
{
	static uint8_t want[ROOM];
	uint8_t type = s->proto == IPPROTO_UDP ? 5 : s->family == 4 ? 1 : 4;
	struct pktgen whole = *s;

	whole.partial = true;
	assert_in_range(o, 0, n_outs - 1);
	assert_int_equal(outs[o].n_segs, n);
	assert_int_equal(outs[o].len, pg_build(want, &whole));
	assert_memory_equal(outs[o].bytes, want, outs[o].len);
	assert_int_equal(outs[o].vh.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
	assert_int_equal(outs[o].vh.gso_type, type);
	assert_int_equal(outs[o].vh.gso_size, mss);
	assert_int_equal(outs[o].vh.hdr_len, pg_l3(s) + pg_l4(s));
	assert_int_equal(outs[o].vh.csum_start, pg_l3(s));
	assert_int_equal(outs[o].vh.csum_offset, s->proto == IPPROTO_UDP ? 6 : 16);
}

static const struct pktgen *const all[] = {&pg_tcp4, &pg_udp4, &pg_tcp6, &pg_udp6};

static void merges(void **state)
{
	for (int i = 0; i < 4; i++) {
		struct pktgen s = *all[i], whole = s;

		for (int k = 0; k < 40; k++) {
			offer_spec(*state, &s);
			s = next(&s);
		}
		assert_int_equal(n_outs, 0);
		gro_flush(*state, collect, NULL);
		assert_int_equal(n_outs, 1);
		whole.payload *= 40;
		assert_super(0, &whole, 40, all[i]->payload);
		assert_int_equal(outs[0].tag, 1);
		forget();
	}
}

static void one_held_packet_is_unchanged(void **state)
{
	for (int i = 0; i < 4; i++) {
		offer_spec(*state, all[i]);
		assert_int_equal(n_outs, 0);
		gro_flush(*state, collect, NULL);
		assert_single(0, all[i]);
		gro_flush(*state, collect, NULL);
		assert_int_equal(n_outs, 1);
		forget();
	}
}

static void short_one_ends(void **state)
{
	for (int i = 0; i < 4; i++) {
		struct pktgen a = *all[i], b = next(&a), whole = a;

		offer_spec(*state, &a);
		offer_spec(*state, &b);
		b = next(&b);
		b.payload = 77;
		offer_spec(*state, &b);
		assert_int_equal(n_outs, 1); /* at once: nothing may follow */
		whole.payload = a.payload * 2 + 77;
		assert_super(0, &whole, 3, a.payload);
		b = next(&b);
		offer_spec(*state, &b);
		gro_flush(*state, collect, NULL);
		assert_int_equal(n_outs, 2);
		assert_single(1, &b);
		forget();
	}
}

static void longer_one_starts_anew(void **state)
{
	for (int i = 0; i < 4; i++) {
		struct pktgen a = *all[i], b = next(&a);

		b.payload++;
		offer_spec(*state, &a);
		offer_spec(*state, &b);
		assert_int_equal(n_outs, 1);
		assert_single(0, &a);
		gro_flush(*state, collect, NULL);
		assert_single(1, &b);
		forget();
	}
}

static void psh_and_fin_end(void **state)
{
	static const uint8_t flags[] = {0x18, 0x11, 0x19};

	for (int i = 0; i < 4; i += 2)
		for (int k = 0; k < 3; k++) {
			struct pktgen a = *all[i], b = next(&a), c, whole = a;

			b.flags = flags[k];
			offer_spec(*state, &a);
			offer_spec(*state, &b);
			assert_int_equal(n_outs, 1);
			whole.payload *= 2;
			whole.flags = flags[k];
			assert_super(0, &whole, 2, a.payload);
			c = next(&b); /* alone: nothing before it, nothing may follow */
			offer_spec(*state, &c);
			assert_int_equal(n_outs, 2);
			assert_single(1, &c);
			forget();
		}
}

static void limits(void **state)
{
	for (int i = 0; i < 4; i++) {
		struct pktgen s = *all[i];
		uint32_t fit = (65535 - pg_l3(&s) - pg_l4(&s)) / s.payload;

		for (int k = 0; k < 100; k++) { /* bytes */
			offer_spec(*state, &s);
			s = next(&s);
		}
		gro_flush(*state, collect, NULL);
		assert_int_equal(outs[0].n_segs, fit);
		assert_in_range(outs[0].len, 65535 - s.payload, 65535);
		forget();

		s = *all[i];
		s.payload = 100;
		for (int k = 0; k < 64; k++) { /* segments */
			assert_int_equal(n_outs, 0);
			offer_spec(*state, &s);
			s = next(&s);
		}
		assert_int_equal(n_outs, 1);
		assert_int_equal(outs[0].n_segs, 64);
		forget();
	}
}

/* 40 full segments and what is missing to total bytes. Return: segments offered */
static unsigned int fill(struct gro *g, const struct pktgen *first, uint32_t total)
{
	struct pktgen s = *first;
	uint32_t rest = total - pg_l3(&s) - pg_l4(&s);
	unsigned int n = 0;

	for (; rest; rest -= s.payload, n++) {
		if (n)
			s = next(&s);
		s.payload = rest < 1500 ? rest : 1500;
		offer_spec(g, &s);
	}
	return n;
}

static void exactly_full(void **state)
{
	for (int i = 0; i < 4; i++) {
		unsigned int n = fill(*state, all[i], 65535);

		assert_int_equal(n_outs, 1);
		assert_int_equal(outs[0].len, 65535);
		assert_int_equal(outs[0].n_segs, n);
		forget();

		n = fill(*state, all[i], 65536); /* one byte more: the last one stays out */
		gro_flush(*state, collect, NULL);
		assert_int_equal(n_outs, 2);
		assert_int_equal(outs[0].n_segs, n - 1);
		assert_int_equal(outs[1].n_segs, 1);
		forget();
	}
}

/* --- what does not merge -------------------------------------------------------------------- */

struct change {
	const char *what;
	int base;     /* index into all[] */
	bool holdable; /* the second one may itself start a flow */
	void (*edit)(struct pktgen *s);
};

static void c_seq(struct pktgen *s) { s->seq++; }
static void c_seq_back(struct pktgen *s) { s->seq -= s->payload; }
static void c_ack(struct pktgen *s) { s->ack++; }
static void c_window(struct pktgen *s) { s->window++; }
static void c_opts(struct pktgen *s) { s->opt_fill = 0; }
static void c_opt_len(struct pktgen *s) { s->tcp_opts = 8; }
static void c_tos(struct pktgen *s) { s->tos ^= 4; }
static void c_ce(struct pktgen *s) { s->tos ^= 3; }
static void c_ttl(struct pktgen *s) { s->ttl--; }
static void c_label(struct pktgen *s) { s->flow++; }
static void c_df(struct pktgen *s) { s->frag = 0; }
static void c_urg_ptr(struct pktgen *s) { s->urg = 1; }
static void c_syn(struct pktgen *s) { s->flags |= 0x02; }
static void c_rst(struct pktgen *s) { s->flags |= 0x04; }
static void c_urg(struct pktgen *s) { s->flags |= 0x20; }
static void c_ece(struct pktgen *s) { s->flags |= 0x40; }
static void c_cwr(struct pktgen *s) { s->flags |= 0x80; }
static void c_no_ack(struct pktgen *s) { s->flags = 0; }
static void c_ae(struct pktgen *s) { s->reserved = 1; }
static void c_pure_ack(struct pktgen *s) { s->payload = 0; }
static void c_pure_fin(struct pktgen *s) { s->payload = 0; s->flags |= 1; }
static void c_ip_opts(struct pktgen *s) { s->ip_opts = 4; }
static void c_ext(struct pktgen *s) { s->ip_opts = 8; s->ext = IPPROTO_DSTOPTS; }
static void c_frag(struct pktgen *s) { s->frag = 0x2000; }
static void c_evil(struct pktgen *s) { s->frag |= 0x8000; }
static void c_later_frag(struct pktgen *s) { s->frag = 185; }
static void c_no_csum(struct pktgen *s) { s->no_csum = true; }

static const struct change changes[] = {
	{"sequence hole", 0, true, c_seq},
	{"retransmission", 0, true, c_seq_back},
	{"ack", 0, true, c_ack},
	{"window", 0, true, c_window},
	{"option bytes", 0, true, c_opts},
	{"option length", 0, true, c_opt_len},
	{"tos", 0, true, c_tos},
	{"ce mark", 0, true, c_ce},
	{"ttl", 0, true, c_ttl},
	{"df", 0, true, c_df},
	{"urgent pointer", 0, true, c_urg_ptr},
	{"syn", 0, false, c_syn},
	{"rst", 0, false, c_rst},
	{"urg", 0, false, c_urg},
	{"ece", 0, false, c_ece},
	{"cwr", 0, false, c_cwr},
	{"no ack", 0, false, c_no_ack},
	{"reserved bit", 0, false, c_ae},
	{"pure ack", 0, false, c_pure_ack},
	{"pure fin", 0, false, c_pure_fin},
	{"ip options", 0, false, c_ip_opts},
	{"first fragment", 0, false, c_frag},
	{"reserved ip bit", 0, false, c_evil},
	{"later fragment", 0, false, c_later_frag},
	{"v6 sequence hole", 2, true, c_seq},
	{"v6 traffic class", 2, true, c_tos},
	{"v6 flow label", 2, true, c_label},
	{"v6 hop limit", 2, true, c_ttl},
	{"v6 pure ack", 2, false, c_pure_ack},
	{"v6 extension header", 2, false, c_ext},
	{"udp tos", 1, true, c_tos},
	{"udp empty", 1, false, c_pure_ack},
	{"udp without checksum", 1, false, c_no_csum},
	{"udp first fragment", 1, false, c_frag},
	{"udp later fragment", 1, false, c_later_frag},
	{"udp v6 flow label", 3, true, c_label},
	{"udp v6 extension header", 3, false, c_ext},
	{"udp v6 without checksum", 3, false, c_no_csum},
};

static void not_merged(void **state)
{
	for (unsigned int i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		const struct change *c = &changes[i];
		struct pktgen a = *all[c->base], b = next(&a);

		c->edit(&b);
		offer_spec(*state, &a);
		offer_spec(*state, &b);
		if (n_outs != (c->holdable ? 1 : 2))
			fail_msg("%s: %u out before the flush", c->what, n_outs);
		gro_flush(*state, collect, NULL);
		if (n_outs != 2)
			fail_msg("%s: %u out", c->what, n_outs);
		assert_single(0, &a);
		assert_single(1, &b);
		forget();
	}
}

static void identification(void **state)
{
	struct pktgen a = pg_tcp4, b, whole;

	a.frag = 0;
	a.id = 0xffff; /* without DF: one more each time, through the wrap */
	whole = a;
	offer_spec(*state, &a);
	b = next(&a);
	offer_spec(*state, &b);
	gro_flush(*state, collect, NULL);
	whole.payload *= 2;
	assert_super(0, &whole, 2, a.payload);
	forget();

	offer_spec(*state, &a);
	b.id++;
	offer_spec(*state, &b);
	assert_int_equal(n_outs, 1);
	gro_flush(*state, collect, NULL);
	assert_single(1, &b);
	forget();

	a = pg_tcp4; /* with DF: whatever it is */
	offer_spec(*state, &a);
	b = next(&a);
	b.id = 0;
	offer_spec(*state, &b);
	gro_flush(*state, collect, NULL);
	assert_int_equal(n_outs, 1);
}

/* One wrong bit anywhere: out alone, as it came, nothing claimed. */
static void corrupted(void **state)
{
	static uint8_t pkt[PKT_MAX];

	for (int i = 0; i < 4; i++) {
		struct pktgen a = *all[i], b = next(&a), c = next(&b);
		uint32_t len = pg_build(pkt, &b), segs;
		unsigned int at, k;

		for (uint32_t bit = 0; bit < len * 8; bit += bit < 640 ? 1 : 61) {
			pkt[bit / 8] ^= 1 << bit % 8;
			offer_spec(*state, &a);
			offer(*state, pkt, len, 1);
			offer_spec(*state, &c);
			gro_flush(*state, collect, NULL);
			for (at = n_outs, k = 0, segs = 0; k < n_outs; segs += outs[k++].n_segs)
				if (outs[k].len <= len && !memcmp(outs[k].bytes, pkt, outs[k].len))
					at = k;
			assert_int_equal(segs, 3);
			assert_in_range(at, 0, n_outs - 1);
			assert_int_equal(outs[at].n_segs, 1);
			assert_int_equal(outs[at].vh.gso_type, VIRTIO_NET_HDR_GSO_NONE);
			assert_int_equal(outs[at].vh.flags, 0);
			pkt[bit / 8] ^= 1 << bit % 8;
			forget();
		}
	}
}

static void corrupted_keeps_order(void **state)
{
	static uint8_t pkt[PKT_MAX];

	for (int i = 0; i < 4; i++) {
		struct pktgen a = *all[i], b = next(&a), c = next(&b), d = next(&c), whole = a;
		uint32_t len = pg_build(pkt, &c);

		pkt[len - 5] ^= 0x20;
		offer_spec(*state, &a);
		offer_spec(*state, &b);
		offer(*state, pkt, len, 1);
		assert_int_equal(n_outs, 1);
		whole.payload *= 2;
		assert_super(0, &whole, 2, a.payload);
		offer_spec(*state, &d);
		assert_int_equal(n_outs, 2);
		assert_int_equal(outs[1].len, len);
		assert_memory_equal(outs[1].bytes, pkt, len);
		assert_int_equal(outs[1].vh.flags, 0);
		gro_flush(*state, collect, NULL);
		assert_single(2, &d);
		forget();
	}
}

static void udp_not_wanted(void **state)
{
	struct gro *g = gro_new(false);
	struct pktgen a = pg_udp4, b = next(&a);

	offer_spec(g, &a);
	offer_spec(g, &b);
	assert_int_equal(n_outs, 2);
	assert_single(0, &a);
	assert_single(1, &b);
	gro_free(g);
}

static void tags_keep_apart(void **state)
{
	static uint8_t pkt[PKT_MAX];
	struct pktgen a = pg_tcp4, b = next(&a);

	offer(*state, pkt, pg_build(pkt, &a), 1);
	offer(*state, pkt, pg_build(pkt, &b), 2);
	gro_flush(*state, collect, NULL);
	assert_int_equal(n_outs, 2);
	assert_int_equal(outs[0].tag, 1);
	assert_int_equal(outs[1].tag, 2);
	assert_single(1, &b);
}

/* Who has no ports may be part of any flow between the two ends, but of no other. */
static void portless_flushes_its_pair(void **state)
{
	struct pktgen a = pg_udp4, other = pg_udp4, frag = pg_udp4;

	other.src = 9;
	frag.frag = 0x2000;
	offer_spec(*state, &other);
	offer_spec(*state, &a);
	a.sport++;
	offer_spec(*state, &a);
	offer_spec(*state, &frag);
	assert_int_equal(n_outs, 3);
	assert_single(2, &frag);
	gro_flush(*state, collect, NULL);
	assert_int_equal(n_outs, 4);
	assert_single(3, &other);
}

static void portless_of_another_link(void **state)
{
	static uint8_t pkt[PKT_MAX];
	struct pktgen frag = pg_udp4;

	frag.frag = 0x2000;
	offer(*state, pkt, pg_build(pkt, &pg_udp4), 1);
	offer(*state, pkt, pg_build(pkt, &frag), 2);
	assert_int_equal(n_outs, 1);
	assert_single(0, &frag);
}

/* --- packets whose sums are right and whose lengths lie: alone, as they came ---------------- */

static void offer_lie(struct gro *g, uint8_t *pkt, uint32_t len, const struct pktgen *s)
{
	uint8_t *field = pkt + 20 + (s->proto == IPPROTO_UDP ? 6 : 16);

	pg16(pkt + 10, 0);
	pg16(pkt + 10, slow_sum(pkt, (pkt[0] & 15) * 4, 0) ^ 0xffff);
	if (pkt[0] == 0x45) {
		pg16(field, 0);
		pg16(field, slow_sum(pkt + 20, len - 20, slow_pseudo(pkt, 4, s->proto, len - 20)) ^
				    0xffff);
	}
	offer(g, pkt, len, 1);
	assert_int_equal(n_outs, 1);
	assert_int_equal(outs[0].len, len);
	assert_memory_equal(outs[0].bytes, pkt, len);
	assert_int_equal(outs[0].vh.flags, 0);
}

static void udp_length_lies(void **state)
{
	static uint8_t pkt[PKT_MAX];
	uint32_t len = pg_build(pkt, &pg_udp4);

	pg16(pkt + 24, len - 20 - 2);
	offer_lie(*state, pkt, len, &pg_udp4);
}

static void tcp_offset_lies(void **state)
{
	static uint8_t pkt[PKT_MAX];
	struct pktgen s = pg_tcp4;
	uint32_t len;

	s.payload = 4;
	len = pg_build(pkt, &s);
	pkt[20 + 12] = 0xf0; /* 60 bytes of header in 36 */
	offer_lie(*state, pkt, len, &s);
}

/* The version is in no checksum. */
static void version_lies(void **state)
{
	static uint8_t pkt[PKT_MAX];
	uint32_t len = pg_build(pkt, &pg_tcp6);

	for (int version = 0; version < 16; version++) {
		if (version == 6)
			continue;
		pkt[0] = version << 4;
		offer(*state, pkt, len, 1);
		assert_int_equal(n_outs, 1);
		assert_memory_equal(outs[0].bytes, pkt, len);
		forget();
	}
}

/* IP options made so that the TCP header's sum is right where it would be without them */
static void options_look_like_tcp(void **state)
{
	static uint8_t pkt[PKT_MAX];
	struct pktgen s = pg_tcp4;
	uint32_t len;

	s.ip_opts = 4;
	s.ack = 0x50100000; /* lies where offset and flags would be: 20 bytes, ACK */
	len = pg_build(pkt, &s);
	pg16(pkt + 20, 0);
	pg16(pkt + 22, 0xfffb); /* the pseudo-header would count 4 more */
	offer_lie(*state, pkt, len, &s);
}

static void more_flows_than_room(void **state)
{
	struct pktgen s[GRO_FLOWS + 3];

	for (int k = 0; k < GRO_FLOWS + 3; k++) {
		s[k] = k & 1 ? pg_tcp6 : pg_tcp4;
		s[k].sport += k;
		offer_spec(*state, &s[k]);
		assert_int_equal(n_outs, k < GRO_FLOWS ? 0 : k - GRO_FLOWS + 1);
	}
	gro_flush(*state, collect, NULL);
	assert_int_equal(n_outs, GRO_FLOWS + 3);
	for (int k = 0; k < GRO_FLOWS + 3; k++) /* oldest first */
		assert_single(k, &s[k]);
}

static void padding_behind_the_packet(void **state)
{
	static uint8_t pkt[PKT_MAX];
	struct pktgen a = pg_tcp4, b = next(&a), whole = a;
	uint32_t len = pg_build(pkt, &a);

	memset(pkt + len, 0xee, 9);
	offer(*state, pkt, len + 9, 1);
	len = pg_build(pkt, &b);
	memset(pkt + len, 0xee, 9);
	offer(*state, pkt, len + 9, 1);
	gro_flush(*state, collect, NULL);
	whole.payload *= 2;
	assert_super(0, &whole, 2, a.payload);
}

static void cut_anywhere(void **state)
{
	static uint8_t pkt[PKT_MAX];

	for (int i = 0; i < 4; i++) {
		struct pktgen s = *all[i];

		s.payload = 30;
		for (uint32_t len = pg_build(pkt, &s); len--;) {
			offer(*state, pkt, len, 1);
			assert_int_equal(n_outs, 1);
			assert_int_equal(outs[0].len, len);
			assert_memory_equal(outs[0].bytes, pkt, len);
			assert_int_equal(outs[0].vh.flags, 0);
			forget();
		}
	}
}

/* --- segment(merge(x)) == x ----------------------------------------------------------------- */

enum { FLOWS = 24, PER_FLOW = 200, BURST = 64 };

/* struct sent - one flow: what was offered, and how much of it has come out */
struct sent {
	struct pktgen at;
	uint32_t tag;
	uint8_t *pkt[PER_FLOW];
	uint32_t len[PER_FLOW];
	bool bad[PER_FLOW];
	unsigned int n, seen;
};

static struct sent flows[FLOWS];
static unsigned int merged, alone;

/* ports are never corrupted here: they name the flow */
static struct sent *flow_of(const uint8_t *ip)
{
	const uint8_t *l4 = ip + (ip[0] >> 4 == 4 ? (ip[0] & 15) * 4 : 40);
	unsigned int port = l4[0] << 8 | l4[1];

	assert_in_range(port, 20000, 20000 + FLOWS - 1);
	return &flows[port - 20000];
}

static void expect(struct sent *f, const uint8_t *bytes, uint32_t len, const struct gro_out *out)
{
	assert_in_range(f->seen, 0, f->n - 1);
	assert_int_equal(out->tag, f->tag);
	assert_int_equal(len, f->len[f->seen]);
	assert_memory_equal(bytes, f->pkt[f->seen], len);
	if (f->bad[f->seen]) {
		assert_int_equal(out->n_segs, 1);
		assert_int_equal(out->vh.flags, 0);
	}
	f->seen++;
}

static void cut_and_compare(void *arg, struct gro_out *out)
{
	static uint8_t flat[ROOM], seg[ROOM];
	struct gso g;
	uint32_t at = 0;

	for (int i = 0; i < out->n_iov; at += out->iov[i++].iov_len)
		memcpy(flat + at, out->iov[i].iov_base, out->iov[i].iov_len);
	assert_int_equal(at, out->bytes);
	assert_int_equal(gso_parse(&g, &out->vh, flat, out->bytes, 0), 0);
	assert_int_equal(g.n_segs, out->n_segs);
	for (unsigned int i = 0; i < g.n_segs; i++) {
		int len = gso_segment(&g, i, seg, sizeof(seg));

		assert_in_range(len, 20, sizeof(seg));
		expect(flow_of(seg), seg, len, out);
	}
	if (out->n_segs > 1)
		merged += out->n_segs;
	else
		alone++;
}

static void start_flow(struct sent *f, unsigned int i)
{
	*f = (struct sent){.at = *all[pg_rand(4)], .tag = pg_rand(2)};
	f->at.sport = 20000 + i;
	f->at.src = pg_rand(3);
	f->at.frag = pg_rand(3) ? 0x4000 : 0;
	f->at.id = pg_rand(65536);
	f->at.seq = pg_rand(2) ? pg_rand(0xffffffff) : 0xffffffff - pg_rand(20000);
	f->at.payload = pg_rand(4) ? 1 + pg_rand(1400) : 1 + pg_rand(20);
	if (f->at.proto == IPPROTO_TCP)
		f->at.tcp_opts = pg_rand(11) * 4;
}

static void disturb(struct pktgen *s)
{
	switch (pg_rand(12)) {
	case 0: s->flags |= 0x08; break;
	case 1: s->flags |= 1 << pg_rand(8); break;
	case 2: s->payload = pg_rand(s->payload + 1); break;
	case 3: s->payload += pg_rand(100); break;
	case 4: s->seq += pg_rand(3000); break;
	case 5: s->tos = pg_rand(256); break;
	case 6: s->ttl = pg_rand(256); break;
	case 7: s->ack += pg_rand(2); break;
	case 8: s->no_csum = true; break;
	case 9: s->opt_fill ^= 1; break;
	case 10: s->window++; break;
	default: s->flow ^= 1; break;
	}
}

static void send_one(struct gro *g, struct sent *f)
{
	struct pktgen s = f->at;
	uint32_t len, l3 = pg_l3(&s);
	uint8_t *p;

	if (!pg_rand(8))
		disturb(&s);
	p = malloc(l3 + pg_l4(&s) + s.payload);
	len = pg_build(p, &s);
	f->bad[f->n] = s.payload && !pg_rand(16);
	if (f->bad[f->n]) { /* anywhere the checksum looks, save ports, UDP length and "no checksum" */
		uint32_t bit = pg_rand(s.payload * 8);

		p[l3 + pg_l4(&s) + bit / 8] ^= 1 << bit % 8;
	}
	f->pkt[f->n] = malloc(len);
	memcpy(f->pkt[f->n], p, len);
	f->len[f->n++] = len;
	owned[n_owned++] = p;
	f->at.id++;
	f->at.at += s.payload;
	f->at.seq += s.payload;
	gro_add(g, p, len, f->tag, cut_and_compare, NULL);
}

static void run_flows(struct gro *g)
{
	unsigned int live = 1 + pg_rand(FLOWS), cur = 0;

	for (unsigned int i = 0; i < FLOWS; i++)
		start_flow(&flows[i], i);
	for (int burst = 0; burst < 20; burst++) {
		for (int k = 0; k < BURST; k++) {
			if (!pg_rand(4))
				cur = pg_rand(live);
			if (flows[cur].n < PER_FLOW)
				send_one(g, &flows[cur]);
		}
		gro_flush(g, cut_and_compare, NULL);
		forget();
		for (unsigned int i = 0; i < FLOWS; i++) /* nothing stays behind */
			assert_int_equal(flows[i].seen, flows[i].n);
	}
	for (unsigned int i = 0; i < FLOWS; i++)
		while (flows[i].n)
			free(flows[i].pkt[--flows[i].n]);
}

static void cut_again_is_the_same(void **state)
{
	pg_seed(3);
	merged = alone = 0;
	for (int run = 0; run < 100; run++)
		run_flows(*state);
	print_message("%u in super-packets, %u alone\n", merged, alone);
	assert_in_range(merged, 30000, 1000000); /* or the test shows nothing */
	assert_in_range(alone, 10000, 1000000);
}

/* Any bytes at all: what goes in comes out, in number and, unless merged, in content. */
static unsigned int segs_out;

static void count(void *arg, struct gro_out *out)
{
	segs_out += out->n_segs;
	for (int i = 0; i < out->n_iov; i++)
		*(uint64_t *)arg += out->iov[i].iov_len ?
					    ((uint8_t *)out->iov[i].iov_base)[out->iov[i].iov_len - 1] :
					    0;
}

static void noise(void **state)
{
	static uint8_t pkt[PKT_MAX];
	unsigned int in = 0;
	uint64_t touched = 0;

	pg_seed(4);
	segs_out = 0;
	for (int i = 0; i < 200000; i++) {
		struct pktgen s = *all[pg_rand(4)];
		uint32_t len;
		uint8_t *p;

		s.payload = pg_rand(80);
		s.src = pg_rand(4);
		len = pg_build(pkt, &s);
		for (uint32_t n = pg_rand(3); n; n--)
			pkt[pg_rand(60) % len] = pg_rand(256);
		if (!pg_rand(4))
			len = pg_rand(len + 1);
		p = malloc(len ? len : 1);
		memcpy(p, pkt, len);
		owned[n_owned++] = p;
		gro_add(*state, p, len, pg_rand(2), count, &touched);
		in++;
		if (!pg_rand(40) || n_owned == OUT_MAX - 1) {
			gro_flush(*state, count, &touched);
			assert_int_equal(segs_out, in);
			forget();
		}
	}
	gro_flush(*state, count, &touched);
	assert_int_equal(segs_out, in);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(merges), T(one_held_packet_is_unchanged), T(short_one_ends),
		T(longer_one_starts_anew), T(psh_and_fin_end), T(limits), T(exactly_full),
		T(not_merged), T(identification), T(corrupted), T(corrupted_keeps_order),
		T(udp_not_wanted), T(tags_keep_apart), T(portless_flushes_its_pair),
		T(portless_of_another_link), T(udp_length_lies), T(tcp_offset_lies), T(version_lies),
		T(options_look_like_tcp), T(more_flows_than_room), T(padding_behind_the_packet), T(cut_anywhere),
		T(cut_again_is_the_same), T(noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
