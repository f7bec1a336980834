/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gso - see gso.h. Nothing the virtio header says is used before it agrees with the bytes.
 *
 * All sums of a segment's headers are taken once, in gso_parse(), without the fields that change;
 * gso_segment() adds those and the payload, which it sums while copying.
 */
#include "gso.h"

#include <errno.h>
#include <netinet/in.h>
#include "ipsec_wire.h"
#include "pkt.h"

enum { IP6_EXT_MAX = 8 }; /* longer chains carry no TCP or UDP that anyone would segment */

/* --- parse ---------------------------------------------------------------------------------- */

static int parse_ip4(struct gso *g)
{
	uint32_t total;

	if (g->len < IP4_HDR_LEN)
		return -EINVAL;
	g->l3_len = (g->ip[0] & 0x0f) * 4;
	total = be16(g->ip + IP4_TOT_LEN);
	if (g->l3_len < IP4_HDR_LEN || total < g->l3_len || total > g->len)
		return -EINVAL;
	g->len = total;
	g->proto = be16(g->ip + IP4_FRAG) & IP4_FRAGMENT ? IPPROTO_RAW : g->ip[IP4_PROTO];
	return 0;
}

/* RFC 8200 4: stops at the first header that is not an option or routing header */
static void walk_ip6(struct gso *g)
{
	uint32_t off = IP6_HDR_LEN;

	g->proto = g->ip[IP6_NEXT];
	for (int n = 0; n < IP6_EXT_MAX; n++) {
		if (g->proto != IPPROTO_HOPOPTS && g->proto != IPPROTO_ROUTING &&
		    g->proto != IPPROTO_DSTOPTS)
			break;
		if (off + 8 > g->len || off + (g->ip[off + 1] + 1u) * 8 > g->len)
			break;
		g->proto = g->ip[off];
		off += (g->ip[off + 1] + 1u) * 8;
	}
	if (g->proto == IPPROTO_FRAGMENT)
		g->proto = IPPROTO_RAW;
	g->l3_len = off;
}

static int parse_ip6(struct gso *g)
{
	uint32_t total;

	if (g->len < IP6_HDR_LEN)
		return -EINVAL;
	total = IP6_HDR_LEN + be16(g->ip + IP6_PAYLOAD_LEN);
	if (total > g->len)
		return -EINVAL;
	if (total == IP6_HDR_LEN && g->ip[IP6_NEXT] == IPPROTO_HOPOPTS) /* a jumbogram, RFC 2675 */
		return -EINVAL;
	g->len = total;
	walk_ip6(g);
	return 0;
}

static int parse_ip(struct gso *g)
{
	if (!g->len)
		return -EINVAL;
	g->family = g->ip[0] >> 4;
	if (g->family == 4)
		return parse_ip4(g);
	return g->family == 6 ? parse_ip6(g) : -EINVAL;
}

static int parse_csum(struct gso *g, const struct virtio_net_hdr *vh, uint32_t l2_len)
{
	uint32_t start = vh->csum_start - l2_len;

	if (!(vh->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return 0;
	if (vh->csum_start < l2_len || start < (g->family == 4 ? g->l3_len : IP6_HDR_LEN) ||
	    start + vh->csum_offset + 2 > g->len)
		return -EINVAL;
	g->need_csum = true;
	g->csum_start = start;
	g->csum_off = vh->csum_offset;
	return 0;
}

static int parse_l4(struct gso *g, uint8_t type)
{
	const uint8_t *l4 = g->ip + g->l3_len;
	uint32_t room = g->len - g->l3_len;
	bool udp = type == VIRTIO_NET_HDR_GSO_UDP_L4;

	if (!udp && type != (g->family == 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6))
		return -EINVAL;
	if (g->proto != (udp ? IPPROTO_UDP : IPPROTO_TCP))
		return -EINVAL;
	if (room < (udp ? (uint32_t)UDP_HDR_LEN : (uint32_t)TCP_HDR_LEN))
		return -EINVAL;
	g->l4_len = udp ? UDP_HDR_LEN : (l4[TCP_DOFF] >> 4) * 4;
	if (g->l4_len > room || (!udp && g->l4_len < TCP_HDR_LEN))
		return -EINVAL;
	if (g->need_csum &&
	    (g->csum_start != g->l3_len || g->csum_off != (udp ? UDP_CSUM : TCP_CSUM)))
		return -EINVAL;
	return 0;
}

static uint64_t not32(uint32_t v)
{
	return csum_not(v >> 16) + csum_not((uint16_t)v);
}

static void sum_ip4(struct gso *g)
{
	g->ip_sum = csum_partial(g->ip, g->l3_len, 0) + csum_not(get16(g->ip + IP4_TOT_LEN)) +
		    csum_not(get16(g->ip + IP4_ID)) + csum_not(get16(g->ip + IP4_CSUM));
}

/*
 * With need_csum the checksum field holds the pseudo-header's sum for the whole length; it stays
 * in, for the kernel knows the final destination behind a routing header.
 */
static void sum_l4(struct gso *g)
{
	const uint8_t *l4 = g->ip + g->l3_len;
	uint16_t total = htons(g->len - g->l3_len);
	bool udp = g->proto == IPPROTO_UDP;

	g->l4_sum = csum_partial(l4, g->l4_len, 0);
	if (g->need_csum)
		g->l4_sum += csum_not(total);
	else
		g->l4_sum += csum_not(get16(l4 + (udp ? UDP_CSUM : TCP_CSUM))) +
			     csum_pseudo(g->ip, g->family, g->proto, 0);
	if (udp)
		g->l4_sum += csum_not(get16(l4 + UDP_LEN));
	else
		g->l4_sum += not32(get32(l4 + TCP_SEQ)) + csum_not(get16(l4 + TCP_DOFF));
}

static int parse_super(struct gso *g, const struct virtio_net_hdr *vh)
{
	uint8_t type = vh->gso_type & ~VIRTIO_NET_HDR_GSO_ECN;
	uint32_t payload;
	int err;

	err = parse_l4(g, type);
	if (err)
		return err;
	if (!vh->gso_size)
		return -EINVAL;
	payload = g->len - g->l3_len - g->l4_len;
	if (payload <= vh->gso_size) {
		g->l4_len = 0;
		return 0;
	}
	g->seg_payload = vh->gso_size;
	g->n_segs = (payload + g->seg_payload - 1) / g->seg_payload;
	if (g->family == 4)
		sum_ip4(g);
	sum_l4(g);
	return 0;
}

int gso_parse(struct gso *g, const struct virtio_net_hdr *vh, const uint8_t *ip, uint32_t len,
	      uint32_t l2_len)
{
	int err;

	*g = (struct gso){.ip = ip, .len = len, .n_segs = 1};
	err = parse_ip(g);
	if (!err)
		err = parse_csum(g, vh, l2_len);
	if (!err && vh->gso_type != VIRTIO_NET_HDR_GSO_NONE)
		err = parse_super(g, vh);
	return err;
}

/*
 * What a partial checksum looks like from outside: the pseudo-header's sum stands in the field. A right
 * checksum looks like that once in 65536 packets, and finishing it again changes nothing.
 */
void gso_finish(uint8_t *ip, uint32_t len)
{
	uint8_t family = ip[0] >> 4, proto = family == 4 ? ip[IP4_PROTO] : ip[IP6_NEXT];
	uint32_t hdr = family == 4 ? (ip[0] & 15u) * 4 : IP6_HDR_LEN, off = proto == IPPROTO_TCP ? TCP_CSUM : UDP_CSUM;
	uint16_t sum;

	if ((proto != IPPROTO_TCP && proto != IPPROTO_UDP) || (family == 4 && be16(ip + IP4_FRAG) & IP4_FRAGMENT) ||
	    len < hdr + off + sizeof sum)
		return;
	sum = csum_add16(csum_pseudo(ip, family, proto, len - hdr));
	if (get16(ip + hdr + off) != sum)
		return;
	sum = csum_fold(csum_partial(ip + hdr, len - hdr, 0));
	put16(ip + hdr + off, sum ? sum : 0xffff);
}

/* --- segment -------------------------------------------------------------------------------- */

/* The kernel's skb_checksum_help(): 0 is sent as its other form, for UDP reads it as "none". */
static int copy_single(const struct gso *g, uint8_t *dst, uint32_t room)
{
	uint32_t tail = g->len - g->csum_start;
	uint16_t sum;

	if (g->len > room)
		return -EMSGSIZE;
	if (!g->need_csum) {
		memcpy(dst, g->ip, g->len);
		return g->len;
	}
	memcpy(dst, g->ip, g->csum_start);
	sum = csum_fold(csum_copy(dst + g->csum_start, g->ip + g->csum_start, tail, 0));
	put16(dst + g->csum_start + g->csum_off, sum ? sum : 0xffff);
	return g->len;
}

static void fix_ip(const struct gso *g, unsigned int i, uint8_t *ip, uint16_t len)
{
	uint16_t total = htons(len), id;

	if (g->family == 6) {
		put16(ip + IP6_PAYLOAD_LEN, htons(len - IP6_HDR_LEN));
		return;
	}
	id = htons(be16(g->ip + IP4_ID) + i);
	put16(ip + IP4_TOT_LEN, total);
	put16(ip + IP4_ID, id);
	put16(ip + IP4_CSUM, csum_fold(g->ip_sum + total + id));
}

static void fix_tcp(const struct gso *g, unsigned int i, uint8_t *tcp, uint64_t sum)
{
	uint32_t seq = htonl(be32(tcp + TCP_SEQ) + i * g->seg_payload);
	uint16_t flags;

	if (i + 1 < g->n_segs)
		tcp[TCP_FLAGS] &= ~(TCP_F_FIN | TCP_F_PSH);
	if (i)
		tcp[TCP_FLAGS] &= ~TCP_F_CWR;
	flags = get16(tcp + TCP_DOFF);
	put32(tcp + TCP_SEQ, seq);
	put16(tcp + TCP_CSUM, csum_fold(sum + seq + flags));
}

/* A super-packet without checksum has segments without one. */
static void fix_udp(const struct gso *g, uint8_t *udp, uint16_t len, uint64_t sum)
{
	uint16_t csum = csum_fold(sum + htons(len));

	put16(udp + UDP_LEN, htons(len));
	if (g->need_csum || get16(udp + UDP_CSUM))
		put16(udp + UDP_CSUM, csum ? csum : 0xffff);
}

int gso_segment(const struct gso *g, unsigned int i, uint8_t *dst, uint32_t room)
{
	uint32_t hdr = g->l3_len + g->l4_len, off, payload, l4_len;
	uint64_t sum;

	if (!g->seg_payload)
		return copy_single(g, dst, room);
	off = hdr + i * g->seg_payload;
	payload = i + 1 < g->n_segs ? g->seg_payload : g->len - off;
	if (hdr + payload > room)
		return -EMSGSIZE;
	l4_len = g->l4_len + payload;
	memcpy(dst, g->ip, hdr);
	sum = csum_copy(dst + hdr, g->ip + off, payload, g->l4_sum + htons(l4_len));
	fix_ip(g, i, dst, hdr + payload);
	if (g->proto == IPPROTO_TCP)
		fix_tcp(g, i, dst + g->l3_len, sum);
	else
		fix_udp(g, dst + g->l3_len, l4_len, sum);
	return hdr + payload;
}
