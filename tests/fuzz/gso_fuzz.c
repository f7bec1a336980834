/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gso_fuzz - whatever a TAP may hand over, and whatever a peer may send to be merged.
 *
 * Input: one byte of choices. Then either a virtio header and a packet (gso.c), or a row of packets
 * (gro.c), each described by six bytes: which flow, its flags, and whether its bytes are the
 * input's own or a well-made packet with some bytes changed. Held up: no access outside, segments
 * that fit together, and what leaves gro.c, cut up again, are the packets that went in, each once.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "fuzz_main.h"
#include "gro.h"
#include "gso.h"
#include "ipsec_wire.h"
#include "pkt.h"
#include "pktgen.h"

enum { L2 = 14, PKTS = 200, PKT_MAX = 2048, ROOM = 70000, FLOWS = 4 };
enum { C_GRO = 1, C_UDP = 2, C_OWN_LEN = 4 };
enum { P_KIND = 3, P_FLOW = 0x0c, P_RAW = 0x10, P_DAMAGE = 0x20, P_TAG = 0x40, P_JUMP = 0x80 };

/* --- cutting -------------------------------------------------------------------------------- */

/* Does the field hold the sum that a sender who leaves the rest to the device would put there? */
static bool partial_right(const struct gso *g)
{
	const uint8_t *l4 = g->ip + g->l3_len;
	uint32_t field = be16(l4 + g->csum_off), want = slow_pseudo(g->ip, g->family, g->proto, g->len - g->l3_len);

	return field % 0xffff == want % 0xffff; /* there are two zeroes */
}

static bool l4_right(const struct gso *g, const uint8_t *seg, uint32_t len)
{
	const uint8_t *l4 = seg + g->l3_len;
	uint32_t l4_len = len - g->l3_len;

	return slow_sum(l4, l4_len, slow_pseudo(seg, g->family, g->proto, l4_len)) == 0xffff;
}

/* One of several segments: lengths, order and checksums as the receiver will look at them. */
static void check_segment(const struct gso *g, unsigned int i, const uint8_t *seg, uint32_t len)
{
	uint32_t hdr = g->l3_len + g->l4_len, at = i * g->seg_payload;
	const uint8_t *l4 = seg + g->l3_len, *was = g->ip + g->l3_len;
	bool last = i + 1 == g->n_segs;

	HOLD(!memcmp(seg + hdr, g->ip + hdr + at, len - hdr));
	if (g->family == 4) {
		HOLD(be16(seg + IP4_TOT_LEN) == len && slow_sum(seg, g->l3_len, 0) == 0xffff);
		HOLD(be16(seg + IP4_ID) == (uint16_t)(be16(g->ip + IP4_ID) + i));
	} else {
		HOLD(be16(seg + IP6_PAYLOAD_LEN) == len - IP6_HDR_LEN);
	}
	if (g->proto == IPPROTO_TCP) {
		HOLD(be32(l4 + TCP_SEQ) == be32(was + TCP_SEQ) + at);
		HOLD(!(l4[TCP_FLAGS] & ~was[TCP_FLAGS]) && (last || !(l4[TCP_FLAGS] & (TCP_F_FIN | TCP_F_PSH))));
		HOLD(!i || !(l4[TCP_FLAGS] & TCP_F_CWR));
	} else {
		HOLD(be16(l4 + UDP_LEN) == len - g->l3_len);
	}
	if (g->need_csum) /* a sum that was wrong stays wrong */
		HOLD(l4_right(g, seg, len) == partial_right(g));
	else if (g->proto == IPPROTO_TCP || get16(was + UDP_CSUM))
		HOLD(l4_right(g, seg, len));
	else
		HOLD(!get16(l4 + UDP_CSUM));
}

static void check_single(const struct gso *g, const uint8_t *seg, uint32_t len)
{
	uint32_t at = g->need_csum ? g->csum_start + g->csum_off : len, after = at + 2 < len ? at + 2 : len;

	HOLD(len == g->len && !memcmp(seg, g->ip, at));
	HOLD(!memcmp(seg + after, g->ip + after, len - after));
}

static void segments(const struct gso *g)
{
	uint32_t hdr = g->l3_len + g->l4_len, payload = 0;
	uint32_t room = g->seg_payload ? hdr + g->seg_payload : g->len;
	uint8_t *dst = malloc(room);

	HOLD(dst && g->n_segs >= 1 && g->len <= ROOM);
	for (unsigned int i = 0; i < g->n_segs; i++) {
		int n = gso_segment(g, i, dst, room);

		HOLD(n > 0 && (uint32_t)n <= room);
		if (g->seg_payload)
			check_segment(g, i, dst, n);
		else
			check_single(g, dst, n);
		HOLD(gso_segment(g, i, dst, n - 1) < 0);
		payload += n - hdr;
	}
	HOLD(!g->seg_payload || payload == g->len - hdr);
	free(dst);
}

static void fuzz_gso(uint8_t choice, const uint8_t *data, size_t size)
{
	struct virtio_net_hdr vh;
	struct gso g;
	uint8_t *ip;

	if (size < sizeof(vh))
		return;
	memcpy(&vh, data, sizeof(vh));
	size -= sizeof(vh);
	ip = fuzz_copy(data + sizeof(vh), size);
	if (choice & C_OWN_LEN && size >= 40) { /* past the first check */
		if (ip[0] >> 4 == 6)
			pg16(ip + 4, size - 40);
		else
			pg16(ip + 2, size);
	}
	if (!gso_parse(&g, &vh, ip, size, L2))
		segments(&g);
	free(ip);
}

/* --- merging -------------------------------------------------------------------------------- */

/* struct rig - what went in and has not come out */
struct rig {
	uint8_t *pkt[PKTS], *copy[PKTS];
	uint32_t len[PKTS];
	uint8_t tag[PKTS];
	bool seen[PKTS];
	unsigned int n, out;
};

/* With DF the identification may be made anew, and the header checksum with it. */
static void forget_id(uint8_t *ip)
{
	if (ip[0] == 0x45 && be16(ip + IP4_FRAG) & IP4_DF) {
		put16(ip + IP4_ID, 0);
		put16(ip + IP4_CSUM, 0);
	}
}

static bool same(const uint8_t *a, const uint8_t *b, uint32_t len, bool merged)
{
	uint8_t x[60], y[60];
	uint32_t head = len < sizeof(y) ? len : sizeof(y);

	if (!merged)
		return !memcmp(a, b, len);
	memcpy(x, a, head);
	memcpy(y, b, head);
	forget_id(x);
	forget_id(y);
	return !memcmp(x, y, head) && !memcmp(a + head, b + head, len - head);
}

static void account(struct rig *r, const uint8_t *ip, uint32_t len, uint8_t tag, bool merged)
{
	for (unsigned int i = 0; i < 2 * r->n; i++) {
		unsigned int k = i % r->n;

		/* link padding is cut off, so a packet may leave shorter: a second round for those
		 */
		if (r->seen[k] || r->tag[k] != tag || r->len[k] < len ||
		    (i < r->n && r->len[k] > len) || !same(r->copy[k], ip, len, merged))
			continue;
		r->seen[k] = true;
		r->out++;
		return;
	}
	HOLD(!"a packet comes out that did not go in");
}

static void emitted(void *arg, struct gro_out *out)
{
	static uint8_t flat[ROOM], seg[ROOM];
	struct rig *r = arg;
	struct gso g;
	uint32_t at = 0;

	for (int i = 0; i < out->n_iov; at += out->iov[i++].iov_len) {
		HOLD(at + out->iov[i].iov_len <= out->bytes && out->bytes <= GRO_BYTES_MAX);
		memcpy(flat + at, out->iov[i].iov_base, out->iov[i].iov_len);
	}
	HOLD(at == out->bytes && out->n_segs >= 1 && out->n_segs <= GRO_SEGS);
	if (out->n_segs == 1) {
		HOLD(!out->vh.flags && !out->vh.gso_type);
		account(r, flat, at, out->tag, false);
		return;
	}
	HOLD(!gso_parse(&g, &out->vh, flat, at, 0) && g.n_segs == out->n_segs);
	for (unsigned int i = 0; i < g.n_segs; i++)
		account(r, seg, gso_segment(&g, i, seg, sizeof(seg)), out->tag, true);
}

static const struct pktgen *const kinds[] = {&pg_tcp4, &pg_udp4, &pg_tcp6, &pg_udp6};

/* The next packet of its flow; d: six bytes of description. Return: length */
static uint32_t make(struct pktgen flows[FLOWS], const uint8_t *d, uint8_t *buf)
{
	struct pktgen *f = &flows[(d[0] & P_FLOW) / 4];
	uint32_t len;

	if (f->proto == 0 || d[1] & 0x80) {
		*f = *kinds[d[0] & P_KIND];
		f->sport += (d[0] & P_FLOW) / 4;
		f->tcp_opts = 0;
	}
	f->payload = (d[1] & 0x0f) * 8 + (d[2] & 1);
	f->flags = 0x10 | (d[1] & 0x40 ? d[2] : 0);
	if (d[0] & P_JUMP)
		f->seq += d[3];
	len = pg_build(buf, f);
	if (d[0] & P_DAMAGE)
		buf[d[3] % len] ^= d[4];
	f->seq += f->payload;
	f->at += f->payload;
	f->id++;
	return len;
}

static void offer(struct gro *g, struct rig *r, const uint8_t *buf, uint32_t len, uint8_t tag)
{
	unsigned int i = r->n++;

	r->pkt[i] = fuzz_copy(buf, len);
	r->copy[i] = fuzz_copy(buf, len);
	r->len[i] = len;
	r->tag[i] = tag;
	gro_add(g, r->pkt[i], len, tag, emitted, r);
}

static void fuzz_gro(uint8_t choice, const uint8_t *data, size_t size)
{
	struct pktgen flows[FLOWS] = {0};
	struct gro *g = gro_new(choice & C_UDP);
	struct rig r = {0};
	uint8_t buf[PKT_MAX];

	for (; size >= 6 && r.n < PKTS; data += 6, size -= 6) {
		const uint8_t *d = data;
		uint32_t len = d[5];

		if (d[0] & P_RAW) {
			len = len > size - 6 ? size - 6 : len;
			memcpy(buf, d + 6, len);
			data += len;
			size -= len;
		} else {
			len = make(flows, d, buf);
		}
		offer(g, &r, buf, len, !!(d[0] & P_TAG));
		if (d[1] & 0x20 && !(d[4] & 7))
			gro_flush(g, emitted, &r);
	}
	gro_flush(g, emitted, &r);
	HOLD(r.out == r.n);
	for (unsigned int i = 0; i < r.n; i++) {
		free(r.pkt[i]);
		free(r.copy[i]);
	}
	gro_free(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	if (data[0] & C_GRO)
		fuzz_gro(data[0], data + 1, size - 1);
	else
		fuzz_gso(data[0], data + 1, size - 1);
	return 0;
}

/* --- made inputs: plausible super-packets, and rows of packets ------------------------------ */

#ifndef FUZZ_LIBFUZZER
static size_t make_super(uint64_t *s, uint8_t *buf)
{
	struct pktgen p = *kinds[fuzz_random(s) % 4];
	struct virtio_net_hdr vh = {.flags = 1, .gso_size = fuzz_random(s) % 600};
	size_t len;

	p.payload = fuzz_random(s) % 4000;
	p.partial = true;
	p.flags = (uint8_t)fuzz_random(s);
	vh.gso_type = p.proto == IPPROTO_UDP ? VIRTIO_NET_HDR_GSO_UDP_L4 : p.family == 4 ? 1 : 4;
	vh.csum_start = L2 + pg_l3(&p);
	vh.csum_offset = p.proto == IPPROTO_UDP ? 6 : 16;
	buf[0] = fuzz_random(s) % 2 ? C_OWN_LEN : 0;
	memcpy(buf + 1, &vh, sizeof(vh));
	len = 1 + sizeof(vh) + pg_build(buf + 1 + sizeof(vh), &p);
	for (unsigned int n = fuzz_random(s) % 4; n; n--)
		buf[1 + fuzz_random(s) % 80 % (len - 1)] = fuzz_random(s);
	return fuzz_random(s) % 8 ? len : fuzz_random(s) % len;
}

static size_t make_row(uint64_t *s, uint8_t *buf)
{
	unsigned int n = 1 + fuzz_random(s) % 60, kind = fuzz_random(s) & 0x0f;
	uint8_t *d = buf + 1;

	buf[0] = C_GRO | (fuzz_random(s) & C_UDP);
	for (unsigned int i = 0; i < n; i++, d += 6) {
		for (int k = 0; k < 6; k++)
			d[k] = fuzz_random(s);
		if (fuzz_random(s) % 8) { /* a quiet stretch: the same flow goes on */
			d[0] = kind;
			d[1] &= 0x08;
			d[1] |= 0x07;
			d[2] = 1;
		} else {
			d[0] &= ~P_RAW;
			kind = d[0] & 0x0f;
		}
	}
	return d - buf;
}

static size_t make_input(uint64_t *s, uint8_t *buf, size_t room)
{
	return fuzz_random(s) % 2 ? make_super(s, buf) : make_row(s, buf);
}
#endif
