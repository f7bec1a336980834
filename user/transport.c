/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "conf.h"
#include "csum.h"
#include "pkt.h"
#include "transport.h"
#include "util.h"

/* --- outbound --------------------------------------------------------------------------------- */

static enum drop take4(const uint8_t *ip, uint32_t len, struct transport_hdr *h)
{
	uint32_t hdr = (ip[0] & 15u) * 4;

	if (hdr < IP4_HDR_LEN || hdr > len)
		return DROP_SHORT;
	if (be16(ip + IP4_FRAG) & IP4_FRAGMENT)
		return DROP_FRAG_UNSUPPORTED;
	if (hdr > IP4_HDR_LEN)
		return DROP_NOT_TRANSPORT;
	h->next = ip[IP4_PROTO];
	h->ttl = ip[IP4_TTL];
	h->hdr_len = IP4_HDR_LEN;
	return DROP_NONE;
}

/* What comes after the destination options that may stand in front of the upper layer. */
static enum drop after_options(const uint8_t *ip, uint32_t len, uint8_t *next)
{
	uint32_t at = IP6_HDR_LEN;

	while (*next == IPPROTO_DSTOPTS) {
		if (at + 8 > len)
			return DROP_SHORT;
		*next = ip[at];
		at += (ip[at + 1] + 1u) * 8;
	}
	return at > len ? DROP_SHORT : DROP_NONE;
}

static enum drop take6(const uint8_t *ip, uint32_t len, struct transport_hdr *h)
{
	uint8_t last = ip[IP6_NEXT];
	enum drop d = after_options(ip, len, &last);

	if (d)
		return d;
	if (last == IPPROTO_FRAGMENT)
		return DROP_FRAG_UNSUPPORTED;
	if (last == IPPROTO_HOPOPTS || last == IPPROTO_ROUTING)
		return DROP_NOT_TRANSPORT;
	h->next = ip[IP6_NEXT];
	h->ttl = ip[IP6_HOP_LIMIT];
	h->hdr_len = IP6_HDR_LEN;
	return DROP_NONE;
}

enum drop transport_take(const uint8_t *ip, uint32_t len, const struct in6_addr *remote,
			 struct transport_hdr *h)
{
	bool is4 = len && ip[0] >> 4 == 4;
	struct in6_addr dst;
	enum drop d;

	if (len < (is4 ? IP4_HDR_LEN : IP6_HDR_LEN))
		return DROP_SHORT;
	d = is4 ? take4(ip, len, h) : take6(ip, len, h);
	if (d)
		return d;
	h->src = addr_at(ip + (is4 ? IP4_ADDRS : IP6_ADDRS), is4);
	dst = addr_at(ip + (is4 ? IP4_ADDRS + 4 : IP6_ADDRS + 16), is4);
	if (memcmp(&dst, remote, sizeof dst))
		return DROP_NOT_TRANSPORT;
	if (!is4 && (addr_is4(&h->src) || addr_is4(&dst))) /* the envelope would be IPv4 */
		return DROP_NOT_TRANSPORT;
	/* "no next header" behind ESP is a dummy packet, which the peer throws away (RFC 4303 2.6) */
	return h->next == NEXT_NONE || !esp_carries(h->next) ? DROP_NOT_TRANSPORT : DROP_NONE;
}

/* --- inbound ---------------------------------------------------------------------------------- */

static void put_addr(uint8_t *p, const struct in6_addr *a, bool is4)
{
	struct in_addr v4 = addr_to4(a);

	if (is4)
		memcpy(p, &v4, sizeof v4);
	else
		memcpy(p, a, sizeof *a);
}

/* RFC 6864 4.1: the datagram is whole; without a DF of its own its identification says nothing. */
static void make_header(uint8_t *ip, const struct rx_meta *m, bool is4)
{
	if (is4) {
		memset(ip, 0, IP4_HDR_LEN);
		ip[0] = 0x45;
		ip[IP4_TOS] = m->tos;
		ip[IP4_TTL] = m->ttl;
	} else {
		memset(ip, 0, IP6_HDR_LEN);
		ip[0] = 0x60 | m->tos >> 4;
		ip[1] = (uint8_t)(m->tos << 4);
		ip[IP6_HOP_LIMIT] = m->ttl;
	}
	put_addr(ip + (is4 ? IP4_ADDRS : IP6_ADDRS), &m->src, is4);
	put_addr(ip + (is4 ? IP4_ADDRS + 4 : IP6_ADDRS + 16), &m->dst, is4);
}

static uint32_t made_len(const struct rx_meta *m)
{
	return addr_is4(&m->src) ? IP4_HDR_LEN : IP6_HDR_LEN;
}

uint32_t transport_spare(const struct esp_pkt *p, const struct sa_in *sa,
			 const struct rx_meta *m)
{
	uint32_t hdr_len = made_len(m);

	return m->ip || hdr_len <= esp_headroom(sa->layout) + m->front ? 0 : hdr_len + p->len;
}

/* Lengths, protocol and header checksum of what is inside. */
static void fit4(uint8_t *ip, uint32_t hdr_len, uint32_t payload_len, uint8_t proto)
{
	put16(ip + IP4_TOT_LEN, htons((uint16_t)(hdr_len + payload_len)));
	put16(ip + IP4_FRAG, get16(ip + IP4_FRAG) & htons(IP4_DF));
	ip[IP4_PROTO] = proto;
	put16(ip + IP4_CSUM, 0);
	put16(ip + IP4_CSUM, csum_fold(csum_partial(ip, hdr_len, 0)));
}

static void fit6(uint8_t *ip, uint32_t payload_len, uint8_t next)
{
	put16(ip + IP6_PAYLOAD_LEN, htons((uint16_t)payload_len));
	ip[IP6_NEXT] = next;
}

/* Offset of the checksum and bytes the header needs; false: no checksum over addresses. */
static bool summed(uint8_t proto, uint32_t *at, uint32_t *least)
{
	switch (proto) {
	case IPPROTO_TCP:
		*at = TCP_CSUM;
		*least = TCP_HDR_LEN;
		return true;
	case IPPROTO_UDP:
		*at = UDP_CSUM;
		*least = UDP_HDR_LEN;
		return true;
	case IPPROTO_ICMPV6:
		*at = 2;
		*least = 4;
		return true;
	}
	return false;
}

static void fix_checksum(uint8_t *ip, uint8_t *l4, uint32_t len, uint8_t proto, bool is4)
{
	uint32_t at, least;
	uint64_t pseudo;
	uint16_t sum;

	if (!summed(proto, &at, &least) || len < least || (is4 && proto == IPPROTO_ICMPV6))
		return;
	if (proto == IPPROTO_UDP && !get16(l4 + at)) /* RFC 768: none */
		return;
	pseudo = csum_pseudo(ip, is4 ? 4 : 6, proto, len);
	if (!csum_fold(csum_partial(l4, len, pseudo)))
		return;
	put16(l4 + at, 0);
	sum = csum_fold(csum_partial(l4, len, pseudo));
	put16(l4 + at, proto == IPPROTO_UDP && !sum ? 0xffff : sum);
}

/* The header as it came, or one made of what is known. Return: its length, *ip where it stands now */
static uint32_t put_header(struct esp_pkt *p, const struct rx_meta *m, uint8_t **ip)
{
	uint32_t hdr_len = m->ip ? m->hdr_len : made_len(m);

	*ip = p->data - hdr_len;
	if (m->ip)
		memmove(*ip, m->ip, hdr_len);
	else
		make_header(*ip, m, addr_is4(&m->src));
	return hdr_len;
}

void transport_restore(struct esp_pkt *p, const struct sa_in *sa, const struct rx_meta *m,
		       uint8_t *spare)
{
	bool is4 = addr_is4(&m->src);
	uint8_t *ip, proto = p->next;
	uint32_t hdr_len;

	if (transport_spare(p, sa, m))
		p->data = memcpy(spare + made_len(m), p->data, p->len);
	hdr_len = put_header(p, m, &ip);
	if (is4)
		fit4(ip, hdr_len, p->len, proto);
	else
		fit6(ip, p->len, proto);
	if (m->encap == ENCAP_UDP)
		fix_checksum(ip, ip + hdr_len, p->len, proto, is4);
	p->data = ip;
	p->len += hdr_len;
	p->next = is4 ? NEXT_IP4 : NEXT_IP6;
}

/* --- other addresses -------------------------------------------------------------------------- */

bool transport_between(const uint8_t *ip, uint32_t len, const struct in6_addr *src, const struct in6_addr *dst)
{
	bool is4 = len && ip[0] >> 4 == 4;
	uint32_t size = is4 ? 4 : 16;
	const uint8_t *at = ip + (is4 ? IP4_ADDRS : IP6_ADDRS);
	uint8_t want[32];

	if (len < (is4 ? IP4_HDR_LEN : IP6_HDR_LEN) || addr_is4(src) != is4 || addr_is4(dst) != is4)
		return false;
	put_addr(want, src, is4);
	put_addr(want + size, dst, is4);
	return !memcmp(at, want, 2 * size);
}

/* RFC 1624 3, equation 3: a checksum follows bytes that it covers. */
static void follow(uint8_t *field, const uint8_t *was, const uint8_t *is, uint32_t len)
{
	uint64_t sum = csum_not(get16(field)) + csum_not(csum_add16(csum_partial(was, len, 0)));

	put16(field, csum_fold(csum_partial(is, len, sum)));
}

/* Where the upper layer begins, and which it is; 0: in another fragment, or not found. */
static uint32_t upper(const uint8_t *ip, uint32_t len, bool is4, uint8_t *proto)
{
	uint32_t at = is4 ? (ip[0] & 15u) * 4 : IP6_HDR_LEN;

	*proto = ip[is4 ? IP4_PROTO : IP6_NEXT];
	if (is4)
		return be16(ip + IP4_FRAG) & 0x1fff || *proto == IPPROTO_ICMPV6 ? 0 : at;
	while (*proto == IPPROTO_DSTOPTS && at + 8 <= len) {
		*proto = ip[at];
		at += (ip[at + 1] + 1u) * 8;
	}
	return *proto == IPPROTO_ICMP ? 0 : at;
}

static bool is_error(const uint8_t *icmp, bool is4)
{
	return is4 ? icmp[0] == 3 || icmp[0] == 4 || icmp[0] == 5 || icmp[0] == 11 || icmp[0] == 12 : icmp[0] < 128;
}

/* The packet an ICMP error is about went the other way between the same two. was: source and destination then */
static void requote(uint8_t *icmp, uint32_t len, const uint8_t *was, const uint8_t *is, bool is4)
{
	uint32_t size = is4 ? 4 : 16, hdr = is4 ? IP4_HDR_LEN : IP6_HDR_LEN;
	uint8_t *ip = icmp + 8, *at = ip + (is4 ? IP4_ADDRS : IP6_ADDRS), old[32];

	if (len < 8 + hdr || !is_error(icmp, is4) || ip[0] >> 4 != (is4 ? 4 : 6) || memcmp(at, was + size, size) ||
	    memcmp(at + size, was, size))
		return;
	memcpy(old, at, 2 * size);
	memcpy(at, is + size, size);
	memcpy(at + size, is, size);
	follow(is4 ? ip + IP4_CSUM : icmp + 2, old, at, 2 * size); /* IPv4: which leaves the sum of ICMP as it was */
}

void transport_readdress(uint8_t *ip, uint32_t len, const struct in6_addr *src, const struct in6_addr *dst)
{
	bool is4 = ip[0] >> 4 == 4;
	uint32_t size = is4 ? 4 : 16, at, field, least;
	uint8_t *is = ip + (is4 ? IP4_ADDRS : IP6_ADDRS), was[32], proto, *l4;

	memcpy(was, is, 2 * size);
	put_addr(is, src, is4);
	put_addr(is + size, dst, is4);
	if (is4)
		follow(ip + IP4_CSUM, was, is, 2 * size);
	at = upper(ip, len, is4, &proto);
	l4 = ip + at;
	if (at && at < len && (proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6))
		requote(l4, len - at, was, is, is4);
	if (!at || !summed(proto, &field, &least) || at + least > len || (proto == IPPROTO_UDP && !get16(l4 + field)))
		return;
	follow(l4 + field, was, is, 2 * size);
	if (proto == IPPROTO_UDP && !get16(l4 + field))
		put16(l4 + field, 0xffff);
}
