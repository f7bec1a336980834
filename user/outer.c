/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <netinet/ip.h>
#include <netinet/udp.h>
#include "conf.h"
#include "csum.h"
#include "ipsec_wire.h"
#include "outer.h"
#include "pkt.h"
#include "util.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/* ---- envelopes to be sent ---- */

static uint8_t df_of(const uint8_t *ip)
{
	return ip[0] >> 4 == 6 || be16(ip + IP4_FRAG) & IP4_DF ? DF_SET : DF_CLEAR;
}

struct head outer_head(const struct outer_conf *c, const uint8_t *ip)
{
	bool v4 = ip && ip[0] >> 4 == 4;
	uint8_t tos = !ip ? 0 : v4 ? ip[IP4_TOS] : (uint8_t)(ip[0] << 4 | ip[1] >> 4);
	struct head h = {.tos = tos, .ttl = c->ttl, .df = c->df};

	if (c->dscp_fixed)
		h.tos = (uint8_t)(c->dscp << 2 | (tos & 3));
	if (c->ecn_off) /* RFC 6040 4.3, compatibility mode */
		h.tos &= 0xfc;
	if (c->ttl_copy && ip)
		h.ttl = v4 ? ip[IP4_TTL] : ip[IP6_HOP_LIMIT];
	if (c->df == DF_COPY)
		h.df = ip ? df_of(ip) : DF_AUTO;
	return h;
}

/* ---- frames ---- */

/* struct l3 - one IP header, read */
struct l3 {
	uint32_t hdr_len, total;
	uint8_t proto;
};

static struct in6_addr addr4_at(const uint8_t *p)
{
	struct in_addr v4;

	memcpy(&v4, p, sizeof v4);
	return addr_from4(v4);
}

static bool read_ip4(struct l3 *h, struct rx_meta *m, const uint8_t *ip, uint32_t len)
{
	if (len < IP4_HDR_LEN)
		return false;
	h->hdr_len = (ip[0] & 15u) * 4;
	h->total = be16(ip + IP4_TOT_LEN);
	h->proto = ip[IP4_PROTO];
	m->tos = ip[IP4_TOS];
	m->ttl = ip[IP4_TTL];
	m->src = addr4_at(ip + IP4_ADDRS);
	m->dst = addr4_at(ip + IP4_ADDRS + 4);
	return h->hdr_len >= IP4_HDR_LEN;
}

static bool read_ip6(struct l3 *h, struct rx_meta *m, const uint8_t *ip, uint32_t len)
{
	if (len < IP6_HDR_LEN)
		return false;
	h->hdr_len = IP6_HDR_LEN;
	h->total = IP6_HDR_LEN + be16(ip + IP6_PAYLOAD_LEN);
	h->proto = ip[IP6_NEXT];
	m->tos = (uint8_t)(ip[0] << 4 | ip[1] >> 4);
	m->ttl = ip[IP6_HOP_LIMIT];
	memcpy(&m->src, ip + IP6_ADDRS, sizeof m->src);
	memcpy(&m->dst, ip + IP6_ADDRS + 16, sizeof m->dst);
	return !addr_is4(&m->src) && !addr_is4(&m->dst); /* to us they would be IPv4's: RFC 4291 2.5.5.2 */
}

static bool read_ip(struct l3 *h, struct rx_meta *m, const uint8_t *ip, uint32_t len)
{
	switch (len ? ip[0] >> 4 : 0) {
	case 4:
		return read_ip4(h, m, ip, len);
	case 6:
		return read_ip6(h, m, ip, len);
	default:
		return false;
	}
}

/* RFC 768: bytes may follow the datagram inside the packet; one longer than its packet is torn. */
static bool read_udp(struct l3 *h, struct rx_meta *m, const uint8_t *ip)
{
	const uint8_t *udp = ip + h->hdr_len;
	uint32_t room = h->total - h->hdr_len, len;

	if (h->total < h->hdr_len + UDP_HDR_LEN)
		return false;
	len = be16(udp + UDP_LEN);
	if (len < UDP_HDR_LEN || len > room)
		return false;
	m->encap = ENCAP_UDP;
	m->port = be16(udp);
	h->total = h->hdr_len + len;
	h->hdr_len += UDP_HDR_LEN;
	return true;
}

bool outer_frame(struct outer *o, uint8_t *ip, uint32_t len)
{
	struct rx_meta *m = &o->meta;
	struct l3 h;

	*m = (struct rx_meta){.encap = ENCAP_ESP, .has_tos = true};
	if (!read_ip(&h, m, ip, len) || h.total > len)
		return false;
	m->ip = ip;
	m->hdr_len = (uint8_t)h.hdr_len;
	if (h.proto == IPPROTO_UDP && !read_udp(&h, m, ip))
		return false;
	if (h.total < h.hdr_len + ESP_HDR_LEN)
		return false;
	o->esp = ip + h.hdr_len;
	o->len = o->seg = h.total - h.hdr_len;
	return true;
}

bool outer_sum_ok(const struct outer *o)
{
	const uint8_t *ip = o->meta.ip, *udp = o->esp - UDP_HDR_LEN;
	uint32_t len = o->len + UDP_HDR_LEN;
	uint16_t sum = o->meta.encap == ENCAP_UDP ? get16(udp + UDP_CSUM) : 0;
	uint64_t pseudo;

	if (!sum)
		return true;
	pseudo = csum_pseudo(ip, ip[0] >> 4, IPPROTO_UDP, len);
	return sum == csum_add16(pseudo) || !csum_fold(csum_partial(udp, len, pseudo));
}

/* ---- socket messages ---- */

static void read_name(struct rx_meta *m, const struct sockaddr_in6 *sa)
{
	const struct sockaddr_in *s4 = (const void *)sa;

	if (s4->sin_family == AF_INET) {
		m->src = addr_from4(s4->sin_addr);
		m->port = ntohs(s4->sin_port);
	} else {
		m->src = sa->sin6_addr;
		m->port = ntohs(sa->sin6_port);
	}
}

/* Return: bytes per datagram of a merged train, 0 when it is none */
static uint32_t read_control(struct rx_meta *meta, struct msghdr *m)
{
	struct in6_pktinfo p6;
	struct in_pktinfo p4;
	uint32_t seg = 0;
	int v;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
			memcpy(&v, CMSG_DATA(c), sizeof v);
			seg = (uint32_t)v;
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
			meta->tos = *CMSG_DATA(c);
			meta->has_tos = true;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
			memcpy(&v, CMSG_DATA(c), sizeof v);
			meta->tos = (uint8_t)v;
			meta->has_tos = true;
		} else if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TTL) ||
			   (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_HOPLIMIT)) {
			memcpy(&v, CMSG_DATA(c), sizeof v);
			meta->ttl = (uint8_t)v;
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			memcpy(&p4, CMSG_DATA(c), sizeof p4);
			meta->dst = addr_from4(p4.ipi_addr);
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			memcpy(&p6, CMSG_DATA(c), sizeof p6);
			meta->dst = p6.ipi6_addr;
		}
	}
	return seg;
}

/* The kernel hands raw IPv4 with its header, already checked. */
static bool skip_ip4(struct outer *o)
{
	uint32_t hdr_len;

	if (o->len < IP4_HDR_LEN)
		return false;
	hdr_len = (o->esp[0] & 15u) * 4;
	if (o->len < hdr_len + ESP_HDR_LEN)
		return false;
	o->meta.ip = o->esp;
	o->meta.hdr_len = (uint8_t)hdr_len;
	o->esp += hdr_len;
	o->len -= hdr_len;
	return true;
}

bool outer_message(struct outer *o, struct msghdr *m, uint32_t len, bool udp, bool v4)
{
	o->meta = (struct rx_meta){.encap = udp ? ENCAP_UDP : ENCAP_ESP};
	o->esp = m->msg_iov->iov_base;
	o->len = len;
	read_name(&o->meta, m->msg_name);
	o->seg = read_control(&o->meta, m);
	if (!udp && v4 && !skip_ip4(o))
		return false;
	if (!o->seg || o->seg > o->len)
		o->seg = o->len;
	return true;
}
