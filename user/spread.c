/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <netinet/in.h>
#include "ipsec_wire.h"
#include "pkt.h"
#include "spread.h"

enum { PORTS_LEN = 4, AH_SPI_OFF = 4, MF_OR_OFFSET = 0x3fff };

/* murmur3's finisher: every input bit reaches every output bit */
static uint32_t mix(uint32_t h)
{
	h ^= h >> 16;
	h *= 0x85ebca6bu;
	h ^= h >> 13;
	h *= 0xc2b2ae35u;
	return h ^ h >> 16;
}

static uint32_t add(uint32_t h, uint32_t v)
{
	return mix(h * 31 + v);
}

static uint32_t add_words(uint32_t h, const uint8_t *p, unsigned int bytes)
{
	for (unsigned int i = 0; i < bytes; i += 4)
		h = add(h, be32(p + i));
	return h;
}

/* The four bytes that tell flows of one protocol between two hosts apart. Return: false = it has none */
static bool ports(uint8_t proto, const uint8_t *l4, uint32_t len, uint32_t *v)
{
	uint32_t off = proto == IPPROTO_AH ? AH_SPI_OFF : 0;

	switch (proto) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
	case IPPROTO_ESP:
	case IPPROTO_AH:
		if (len < off + PORTS_LEN)
			return false;
		*v = be32(l4 + off);
		return true;
	}
	return false;
}

uint32_t spread_hash(const uint8_t *ip, uint32_t len)
{
	uint32_t hdr, h, v;
	uint8_t proto;
	bool whole;

	if (len >= IP4_HDR_LEN && ip[0] >> 4 == 4) {
		hdr = (ip[0] & 15u) * 4;
		proto = ip[IP4_PROTO];
		whole = !(be16(ip + IP4_FRAG) & MF_OR_OFFSET);
		h = add_words(proto, ip + IP4_ADDRS, 8);
		v = 0;
	} else if (len >= IP6_HDR_LEN && ip[0] >> 4 == 6) {
		hdr = IP6_HDR_LEN;
		proto = ip[IP6_NEXT];
		whole = true; /* behind a fragment header there are no ports for us */
		h = add_words(proto, ip + IP6_ADDRS, 32);
		v = be32(ip) & 0xfffff;
	} else {
		return 0;
	}
	if (whole && hdr <= len && ports(proto, ip + hdr, len - hdr, &v))
		return add(h, v);
	return v ? add(h, v) : h;
}

/* Smooth weighted round robin: the next path in turn, every window of the sequence near its proportion. */
static uint8_t in_turn(int64_t *credit, const uint32_t *weight, const bool *usable, unsigned int n)
{
	int64_t total = 0;
	unsigned int best = n;

	for (unsigned int i = 0; i < n; i++) {
		if (!weight[i] || (usable && !usable[i]))
			continue;
		credit[i] += weight[i];
		total += weight[i];
		if (best == n || credit[i] > credit[best])
			best = i;
	}
	credit[best] -= total;
	return (uint8_t)best;
}

unsigned int spread_fill(uint8_t slot[SPREAD_SLOTS], const uint32_t *weight, const bool *usable, unsigned int n)
{
	int64_t all[UINT8_MAX] = {0}, rest[UINT8_MAX] = {0};
	unsigned int carry = 0;

	for (unsigned int i = 0; i < n; i++)
		carry += weight[i] && usable[i];
	for (unsigned int i = 0; carry && i < SPREAD_SLOTS; i++) {
		slot[i] = in_turn(all, weight, NULL, n);
		if (!usable[slot[i]])
			slot[i] = in_turn(rest, weight, usable, n);
	}
	return carry;
}
