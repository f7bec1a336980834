/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sel - traffic selectors: which packets an SA is for (RFC 4301 4.4.1.1), as ranges of addresses, ports and one
 * protocol, both ends in (RFC 7296 3.13.1). Pure; any thread.
 *
 * A list matches when one of its selectors does. The empty list is for everything that a link carries, which is
 * what most SAs are for: routing has chosen the link already.
 */
#ifndef SEL_H
#define SEL_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

enum { SEL_MAX = 16, SEL_STR = 2 * (2 * INET6_ADDRSTRLEN + 32) };

/** struct sel - src and dst are of one family, v4-mapped, ::ffff:0:0/96 is not in ::/0 */
struct sel {
	struct in6_addr src[2], dst[2];
	uint16_t sport[2], dport[2]; /* host order; 0..65535 = any. ICMP: type << 8 | code, in either. 65535..0 = OPAQUE */
	uint8_t proto;               /* 0 = any */
};

/** struct sels - a list; in the order of sels_tidy() */
struct sels {
	unsigned int n; /* 0 = everything */
	struct sel sel[SEL_MAX];
};

/** struct sel_flow - what selectors look at in a packet */
struct sel_flow {
	struct in6_addr src, dst;
	uint16_t sport, dport; /* host order */
	uint8_t proto;         /* behind extension headers; 0 = not known */
	bool has_ports;        /* sport and dport, or an ICMP's type << 8 | code, in both, were there */
};

/**
 * sel_flow() - of a packet that begins at its IP header. Later fragments have no ports (RFC 4301 7)
 * Return: false = too short for its header
 */
bool sel_flow(struct sel_flow *f, const uint8_t *ip, uint32_t len);
/** sels_match() - is one of them for this flow? n 0: no; the caller knows what an empty list means */
bool sels_match(const struct sel *s, unsigned int n, const struct sel_flow *f);
/**
 * sel_quoted() - of an ICMP error: the flow it is about, turned round. It may go where that may (RFC 4301 6.2)
 * Return: false = it is none, or quotes too little
 */
bool sel_quoted(struct sel_flow *f, const uint8_t *ip, uint32_t len);
/**
 * sels_take() - may a packet go by an SA with this list, itself or for what it quotes?
 * @len: of the packet; n 0: yes
 */
bool sels_take(const struct sel *s, unsigned int n, const uint8_t *ip, uint32_t len);

/** sels_tidy() - sorted, without twins; a list for everything becomes the empty one */
void sels_tidy(struct sels *l);
/** sels_equal() - both are tidy */
bool sels_equal(const struct sels *a, const struct sel *b, unsigned int n);
/** sels_mirror() - as the peer sees it: source and destination change places; tidy again */
void sels_mirror(struct sels *to, const struct sels *from);
/** sels_width() - for how many addresses, ports and protocols, in bits: a packet goes by the narrowest list that matches. n 0: UINT_MAX */
unsigned int sels_width(const struct sel *s, unsigned int n);
/** sels_cover() - is every packet of the second list one of the first as well? Each selector by one, not by several */
bool sels_cover(const struct sel *s, unsigned int n, const struct sel *of, unsigned int n_of);

/**
 * sel_parse() - "OURS THEIRS", each an address, a prefix or two addresses with "-" between them, and maybe
 * "[PROTO]" or "[PROTO/PORT]" or "[PROTO/PORT-PORT]" behind it: 10.1.0.0/16 10.2.0.9[tcp/80]
 * PROTO: tcp, udp, icmp, icmpv6, sctp or a number. OURS becomes src.
 * Return: 0; -EINVAL, with what is wrong in *why, a phrase
 */
int sel_parse(struct sel *s, const char *text, const char **why);
/** sel_str() - as sel_parse() reads it, into buf[SEL_STR]. Return: buf */
const char *sel_str(const struct sel *s, char *buf);

#endif
