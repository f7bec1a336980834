/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pkt - field offsets of IPv4, IPv6, TCP and UDP headers, and access to them at any alignment.
 * get and put are in memory order (what csum.h sums), be16 and be32 read host order.
 */
#ifndef PKT_H
#define PKT_H

#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

enum { /* RFC 791 3.1 */
	IP4_TOS = 1,
	IP4_TOT_LEN = 2,
	IP4_ID = 4,
	IP4_FRAG = 6,
	IP4_TTL = 8,
	IP4_PROTO = 9,
	IP4_CSUM = 10,
	IP4_ADDRS = 12,
	IP4_DF = 0x4000,
	IP4_FRAGMENT = 0xbfff, /* reserved bit, MF, offset: not a whole packet, or a strange one */
};

enum { /* RFC 8200 3 */
	IP6_PAYLOAD_LEN = 4,
	IP6_NEXT = 6,
	IP6_HOP_LIMIT = 7,
	IP6_ADDRS = 8,
};

enum { /* RFC 9293 3.1 */
	TCP_HDR_LEN = 20,
	TCP_SEQ = 4,
	TCP_ACK = 8,
	TCP_DOFF = 12,
	TCP_FLAGS = 13,
	TCP_WINDOW = 14,
	TCP_CSUM = 16,
	TCP_URG_PTR = 18,
	TCP_F_FIN = 0x01,
	TCP_F_PSH = 0x08,
	TCP_F_ACK = 0x10,
	TCP_F_CWR = 0x80,
};

enum { /* RFC 768 */
	UDP_LEN = 4,
	UDP_CSUM = 6,
};

static inline uint16_t get16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static inline void put16(uint8_t *p, uint16_t v)
{
	memcpy(p, &v, sizeof(v));
}

static inline void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v));
}

static inline uint16_t be16(const uint8_t *p)
{
	return ntohs(get16(p));
}

static inline uint32_t be32(const uint8_t *p)
{
	return ntohl(get32(p));
}

#endif
