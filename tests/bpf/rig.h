/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rig - what the BPF tests share: an instance of their own under /sys/fs/bpf/ipsec/test-<pid>-<n>
 * inside a private network namespace, packets from a description, and counters as differences.
 */
#ifndef RIG_H
#define RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "load_int.h"
#include "log.h"

enum { RIG_LINKS = 16 };

static char rig_dir[128];
static struct load_conf rig_conf = {.pin_dir = rig_dir, .max_links = RIG_LINKS, .n_workers = 2};

static inline void rig_name(int n)
{
	snprintf(rig_dir, sizeof(rig_dir), "/sys/fs/bpf/ipsec/test-%d-%d", getpid(), n);
}

static inline struct in6_addr addr(const char *s)
{
	struct in6_addr a;

	assert_int_equal(addr_parse(s, &a), 0);
	return a;
}

static inline struct prefix prefix(const char *s)
{
	struct prefix p;

	assert_int_equal(prefix_parse(s, &p), 0);
	return p;
}

/* --- counters as one array of words --- */

struct ctrs {
	struct link_ctr link;
	struct glob_ctr glob;
};

enum { CTR_WORDS = sizeof(struct ctrs) / sizeof(uint64_t) };
#define LINK(field)    (offsetof(struct ctrs, link.field) / 8)
#define GLOB(field)    (offsetof(struct ctrs, glob.field) / 8)
#define LINK_DROP(why) (LINK(drops) + DROP_##why)
#define GLOB_DROP(why) (GLOB(drops) + DROP_##why)

/* Expected change of one counter; the last of a list has ctr 0 and by 0. */
struct change {
	unsigned int ctr;
	uint64_t by;
};

static inline void ctrs_read(struct load *l, uint32_t id, struct ctrs *c)
{
	assert_int_equal(load_link_ctr(l, id, &c->link), 0);
	assert_int_equal(load_glob_ctr(l, &c->glob), 0);
}

/* Exactly the listed counters moved, by exactly that much. */
static inline void ctrs_check(const struct ctrs *before, const struct ctrs *after,
			      const struct change *want)
{
	uint64_t a[CTR_WORDS], b[CTR_WORDS], moved[CTR_WORDS];

	memcpy(a, before, sizeof(a));
	memcpy(b, after, sizeof(b));
	for (int i = 0; i < CTR_WORDS; i++)
		moved[i] = b[i] - a[i];
	for (; want->by; want++) {
		if (moved[want->ctr] != want->by)
			fail_msg("counter word %u: moved by %llu, expected %llu", want->ctr,
				 (unsigned long long)moved[want->ctr],
				 (unsigned long long)want->by);
		moved[want->ctr] = 0;
	}
	for (int i = 0; i < CTR_WORDS; i++)
		if (moved[i])
			fail_msg("counter word %d moved by %llu, expected nothing", i,
				 (unsigned long long)moved[i]);
}

/* --- packets --- */

/* struct pkt - a frame by description; 0 is the sensible default everywhere */
struct pkt {
	const char *src, *dst; /* the family decides the ethertype */
	uint8_t proto;
	uint16_t sport, dport; /* UDP only */
	uint32_t spi;          /* first word behind ESP's or UDP's header position */
	uint16_t payload; /* bytes behind the L4 header, SPI included; at least 4 when spi is set */
	uint16_t ethertype; /* 0 = by family */
	uint8_t n_vlan;
	uint8_t ihl;         /* in words, 0 = 5 plus opts */
	uint8_t opts;        /* words of IPv4 options */
	uint8_t version;     /* 0 = by family */
	uint16_t frag;       /* IPv4 fragment field */
	int16_t tot_len_add; /* lie about the IP length */
	uint16_t sum_add;    /* and about the header checksum */
	int16_t udp_len_add; /* lie about the UDP length */
	uint16_t pad;        /* Ethernet padding behind the IP packet */
	uint16_t cut;        /* frame truncated to that many bytes */
	uint8_t icmp;        /* first byte of the payload: ICMP or ICMPv6 type */
	const struct pkt *quote; /* behind 8 bytes of ICMP header: of an ICMP error */
	uint8_t ext;         /* IPv6: that many destination options headers in front of proto */
	uint16_t frag6;      /* IPv6: offset and M bit of a fragment header behind those; 0 = none */
	uint8_t hops;        /* 0 = 64 */
	bool spent;          /* hops 0 */
	bool l3;             /* no Ethernet header */
	struct stamp stamp;  /* instead of MAC addresses when kind is set */
};

static inline void put16(uint8_t *p, uint16_t v)
{
	p[0] = v >> 8;
	p[1] = v;
}

/* Slow and obvious: 16-bit words added to sum, folded; not complemented. */
static inline uint16_t sum16(const uint8_t *p, unsigned int len, uint32_t sum)
{
	for (unsigned int i = 0; i < len; i += 2)
		sum += p[i] << 8 | (i + 1 < len ? p[i + 1] : 0);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static inline unsigned int ip_fill(const struct pkt *d, uint8_t *p);

static inline unsigned int l4_fill(const struct pkt *d, uint8_t *p)
{
	unsigned int hdr = d->proto == IPPROTO_UDP ? 8 : d->proto == IPPROTO_TCP ? 20 : 0;
	uint32_t spi_be = htonl(d->spi);

	if (d->proto == IPPROTO_TCP)
		p[12] = 5 << 4;
	if (hdr) {
		put16(p, d->sport);
		put16(p + 2, d->dport);
	}
	if (d->proto == IPPROTO_UDP)
		put16(p + 4, hdr + d->payload + d->udp_len_add);
	if (d->payload >= 4)
		memcpy(p + hdr, &spi_be, 4);
	if (d->icmp)
		p[hdr] = d->icmp;
	if (d->quote)
		return hdr + 8 + ip_fill(d->quote, p + hdr + 8);
	return hdr + d->payload;
}

static inline unsigned int ip4_fill(const struct pkt *d, uint8_t *p)
{
	struct in6_addr s = addr(d->src), t = addr(d->dst);
	unsigned int hlen = 20 + 4 * d->opts, len = hlen + l4_fill(d, p + hlen);

	p[0] = (d->version ? d->version : 4) << 4 | (d->ihl ? d->ihl : 5 + d->opts);
	put16(p + 2, len + d->tot_len_add);
	put16(p + 6, d->frag);
	p[8] = d->spent ? 0 : d->hops ? d->hops : 64;
	p[9] = d->proto;
	memcpy(p + 12, s.s6_addr + 12, 4);
	memcpy(p + 16, t.s6_addr + 12, 4);
	memset(p + 20, 1, 4 * d->opts);
	put16(p + 10, ~sum16(p, hlen, 0) + d->sum_add);
	return len;
}

static inline unsigned int ip6_fill(const struct pkt *d, uint8_t *p)
{
	unsigned int ext = 8u * (d->ext + !!d->frag6), len = ext + l4_fill(d, p + 40 + ext);
	uint8_t last = d->frag6 ? IPPROTO_FRAGMENT : d->proto;

	p[0] = (d->version ? d->version : 6) << 4;
	put16(p + 4, len + d->tot_len_add);
	p[6] = d->ext ? IPPROTO_DSTOPTS : last;
	for (unsigned int i = 0; i < d->ext; i++)
		p[40 + 8 * i] = i + 1 < d->ext ? IPPROTO_DSTOPTS : last;
	if (d->frag6) {
		p[40 + ext - 8] = d->proto;
		put16(p + 40 + ext - 6, d->frag6);
	}
	p[7] = d->spent ? 0 : d->hops ? d->hops : 64;
	assert_int_equal(inet_pton(AF_INET6, d->src, p + 8), 1); /* addr() takes no ::ffff:192.0.2.1 */
	assert_int_equal(inet_pton(AF_INET6, d->dst, p + 24), 1);
	return 40 + len;
}

static inline unsigned int ip_fill(const struct pkt *d, uint8_t *p)
{
	return strchr(d->src, ':') ? ip6_fill(d, p) : ip4_fill(d, p);
}

/* Return: length of the frame in buf[len], which is cleared. */
static inline unsigned int pkt_fill(const struct pkt *d, uint8_t *buf, unsigned int len)
{
	bool is6 = d->src && strchr(d->src, ':');
	unsigned int off = 0;

	memset(buf, 0, len);
	if (!d->l3) {
		memset(buf, 0x52, 12);
		if (d->stamp.kind)
			memcpy(buf, &d->stamp, sizeof(d->stamp));
		for (off = 12; off < 12 + 4u * d->n_vlan; off += 4) {
			put16(buf + off, 0x8100);
			put16(buf + off + 2, 7);
		}
		put16(buf + off, d->ethertype ? d->ethertype : is6 ? 0x86dd : 0x0800);
		off += 2;
	}
	if (d->src)
		off += ip_fill(d, buf + off);
	off += d->pad;
	assert_true(off <= len);
	return d->cut ? d->cut : off;
}

#endif
