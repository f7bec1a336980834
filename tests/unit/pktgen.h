/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pktgen - whole packets from a description, and the slowest obvious checksum. The oracle of the
 * csum, gso and gro tests: it shares no code with them.
 */
#ifndef PKTGEN_H
#define PKTGEN_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pktgen {
	int family, proto; /* 4 or 6; IPPROTO_TCP, IPPROTO_UDP */
	uint8_t src, dst;  /* last byte of the address */
	uint16_t sport, dport;
	uint8_t tos, ttl;
	uint16_t id, frag; /* IPv4; frag is the whole word with DF and MF */
	uint32_t flow;	   /* IPv6 flow label */
	uint8_t ip_opts;   /* IPv4: option bytes, a multiple of 4; IPv6: extension header bytes, of 8 */
	uint8_t ext;	   /* IPv6: first extension header's type */
	uint32_t seq, ack;
	uint8_t flags, reserved; /* TCP; reserved: the low nibble beside the data offset */
	uint16_t window, urg;
	uint8_t tcp_opts; /* bytes, a multiple of 4 */
	uint8_t opt_fill; /* what they are filled with */
	uint32_t payload; /* bytes */
	uint32_t at;	  /* the payload is a piece of one long stream, from here */
	bool partial;	  /* the checksum field holds the pseudo-header sum only */
	bool no_csum;	  /* UDP: 0 */
};

static inline void pg16(uint8_t *p, uint32_t v)
{
	p[0] = v >> 8;
	p[1] = v;
}

static inline void pg32(uint8_t *p, uint32_t v)
{
	pg16(p, v >> 16);
	pg16(p + 2, v);
}

/* RFC 1071 as it is written: one 16-bit word after the other, the carry added at once */
static inline uint32_t slow_sum(const uint8_t *p, uint32_t len, uint32_t sum)
{
	for (uint32_t i = 0; i < len; i++) {
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
		if (sum > 0xffff)
			sum = (sum & 0xffff) + 1;
	}
	return sum;
}

static inline uint8_t stream_byte(uint32_t i)
{
	return (i * 2654435761u) >> 13 ^ i;
}

static inline uint32_t pg_l3(const struct pktgen *s)
{
	return (s->family == 4 ? 20 : 40) + s->ip_opts;
}

static inline uint32_t pg_l4(const struct pktgen *s)
{
	return s->proto == IPPROTO_UDP ? 8 : 20 + s->tcp_opts;
}

static inline uint32_t slow_pseudo(const uint8_t *ip, int family, int proto, uint32_t l4_len)
{
	uint32_t sum = family == 4 ? slow_sum(ip + 12, 8, 0) : slow_sum(ip + 8, 32, 0);
	uint8_t rest[8];

	pg32(rest, l4_len);
	pg32(rest + 4, proto);
	return slow_sum(rest, 8, sum);
}

static inline void pg_ip4(uint8_t *ip, const struct pktgen *s, uint32_t total)
{
	ip[0] = 0x40 | pg_l3(s) / 4;
	ip[1] = s->tos;
	pg16(ip + 2, total);
	pg16(ip + 4, s->id);
	pg16(ip + 6, s->frag);
	ip[8] = s->ttl;
	ip[9] = s->proto;
	pg32(ip + 12, 0x0a010000 | s->src);
	pg32(ip + 16, 0x0a020000 | s->dst);
	memset(ip + 20, 1, s->ip_opts); /* no-operation */
	pg16(ip + 10, slow_sum(ip, pg_l3(s), 0) ^ 0xffff);
}

static inline void pg_ip6(uint8_t *ip, const struct pktgen *s, uint32_t total)
{
	pg32(ip, 0x60000000 | (uint32_t)s->tos << 20 | s->flow);
	pg16(ip + 4, total - 40);
	ip[6] = s->ip_opts ? s->ext : s->proto;
	ip[7] = s->ttl;
	pg32(ip + 8, 0xfd010000);
	ip[23] = s->src;
	pg32(ip + 24, 0xfd020000);
	ip[39] = s->dst;
	if (s->ip_opts) {
		ip[40] = s->proto;
		ip[41] = s->ip_opts / 8 - 1;
		ip[42] = 1; /* PadN over the rest */
		ip[43] = s->ip_opts - 4;
	}
}

static inline void pg_tcp(uint8_t *l4, const struct pktgen *s)
{
	pg32(l4 + 4, s->seq);
	pg32(l4 + 8, s->ack);
	l4[12] = pg_l4(s) / 4 << 4 | s->reserved;
	l4[13] = s->flags;
	pg16(l4 + 14, s->window);
	pg16(l4 + 18, s->urg);
	memset(l4 + 20, s->opt_fill, s->tcp_opts);
}

/* Return: bytes written to buf, checksums included */
static inline uint32_t pg_build(uint8_t *buf, const struct pktgen *s)
{
	uint32_t l3 = pg_l3(s), l4_len = pg_l4(s) + s->payload, sum;
	uint8_t *l4 = buf + l3, *field = l4 + (s->proto == IPPROTO_UDP ? 6 : 16);

	memset(buf, 0, l3 + pg_l4(s));
	if (s->family == 4)
		pg_ip4(buf, s, l3 + l4_len);
	else
		pg_ip6(buf, s, l3 + l4_len);
	pg16(l4, s->sport);
	pg16(l4 + 2, s->dport);
	if (s->proto == IPPROTO_UDP)
		pg16(l4 + 4, l4_len);
	else
		pg_tcp(l4, s);
	for (uint32_t i = 0; i < s->payload; i++)
		l4[pg_l4(s) + i] = stream_byte(s->at + i);
	sum = slow_pseudo(buf, s->family, s->proto, l4_len);
	if (!s->partial)
		sum = slow_sum(l4, l4_len, sum) ^ 0xffff;
	if (s->proto == IPPROTO_UDP && !s->partial && !sum)
		sum = 0xffff;
	pg16(field, s->no_csum ? 0 : sum);
	return l3 + l4_len;
}

/* The piece of s that a segmenter makes of payload bytes [off, off + len); segment number i. */
static inline struct pktgen pg_piece(const struct pktgen *s, uint32_t i, uint32_t off, uint32_t len)
{
	struct pktgen p = *s;

	p.partial = false;
	p.id += i;
	p.seq += off;
	p.at += off;
	p.payload = len;
	if (off + len < s->payload)
		p.flags &= ~0x09; /* FIN, PSH */
	if (i)
		p.flags &= ~0x80; /* CWR */
	return p;
}

static const struct pktgen pg_tcp4 = {
	.family = 4, .proto = IPPROTO_TCP, .src = 1, .dst = 2, .sport = 40000, .dport = 5001,
	.tos = 0, .ttl = 63, .id = 7, .frag = 0x4000, .seq = 1000, .ack = 77, .flags = 0x10,
	.window = 512, .tcp_opts = 12, .opt_fill = 1, .payload = 1398,
};
static const struct pktgen pg_udp4 = {
	.family = 4, .proto = IPPROTO_UDP, .src = 1, .dst = 2, .sport = 40000, .dport = 53,
	.ttl = 63, .id = 7, .frag = 0x4000, .payload = 1200,
};
static const struct pktgen pg_tcp6 = {
	.family = 6, .proto = IPPROTO_TCP, .src = 1, .dst = 2, .sport = 40000, .dport = 5001,
	.ttl = 63, .flow = 0x12345, .seq = 1000, .ack = 77, .flags = 0x10,
	.window = 512, .tcp_opts = 12, .opt_fill = 1, .payload = 1378,
};
static const struct pktgen pg_udp6 = {
	.family = 6, .proto = IPPROTO_UDP, .src = 1, .dst = 2, .sport = 40000, .dport = 53,
	.ttl = 63, .flow = 0x12345, .payload = 1200,
};

/* xorshift64*: repeatable from the seed that the tests print */
static uint64_t pg_state = 0x9e3779b97f4a7c15u;

static inline void pg_seed(uint64_t dflt)
{
	const char *s = getenv("SEED");

	pg_state = s ? strtoull(s, NULL, 0) : dflt;
	printf("seed %#llx (SEED=... repeats another)\n", (unsigned long long)pg_state);
}

static inline uint32_t pg_rand(uint32_t below)
{
	pg_state ^= pg_state >> 12;
	pg_state ^= pg_state << 25;
	pg_state ^= pg_state >> 27;
	return (uint32_t)((pg_state * 0x2545f4914f6cdd1du) >> 32) % below;
}

#endif
