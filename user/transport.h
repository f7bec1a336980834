/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * transport - transport mode, RFC 4303 3.1.1: the IP header stays outside. Outbound it is taken off
 * the raw packet, and the emitter's sockets make an equal one; inbound the envelope's header is put
 * in front of the payload again. Pure: memory in, memory out.
 *
 * Not carried, because a socket cannot make such a header: IPv4 options, IPv6 extension headers that
 * belong in front of ESP (hop-by-hop, routing). Destination options go behind ESP, as 3.1.1 prefers.
 */
#ifndef TRANSPORT_H
#define TRANSPORT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include "esp.h"
#include "outer.h"

/** struct transport_hdr - what a raw packet's header says to the envelope */
struct transport_hdr {
	struct in6_addr src;
	uint8_t next; /* behind ESP */
	uint8_t ttl;
	uint8_t hdr_len; /* bytes that stay outside */
};

/** transport_between() - is this a packet, whose header is all there, from src to dst? */
bool transport_between(const uint8_t *ip, uint32_t len, const struct in6_addr *src, const struct in6_addr *dst);

/**
 * transport_readdress() - give a packet other addresses, as a NAT would (seed, section 5)
 * @ip, @len: a whole packet, lengths as in its header; @src, @dst: new ones, of its family
 * Checksums of IPv4, TCP, UDP and ICMPv6 follow by what has changed (RFC 1624), so a wrong one stays
 * wrong. An ICMP error about a packet the other way finds that one readdressed, too (RFC 5508 4.2).
 */
void transport_readdress(uint8_t *ip, uint32_t len, const struct in6_addr *src, const struct in6_addr *dst);

/**
 * transport_take() - may this packet go in transport mode, and how?
 * @ip, @len: a whole raw packet, lengths as in its header; @remote: where the envelope goes
 * Return: DROP_NONE; DROP_FRAG_UNSUPPORTED (only whole datagrams, RFC 4303 3.3.4); DROP_SHORT;
 * DROP_NOT_TRANSPORT: to somebody else, or with headers that are not carried.
 */
enum drop transport_take(const uint8_t *ip, uint32_t len, const struct in6_addr *remote,
			 struct transport_hdr *h);

/**
 * transport_spare() - bytes elsewhere that transport_restore() needs, 0 when it can work in place
 * An IPv6 header is longer than all that ESP adds, so in a train of datagrams that touch each other
 * (UDP_GRO) there is no place for it.
 */
uint32_t transport_spare(const struct esp_pkt *p, const struct sa_in *sa,
			 const struct rx_meta *m);

/**
 * transport_restore() - put the IP header back in front of an opened packet
 * @p:     as esp_open() left it; becomes the whole IP packet, next NEXT_IP4 or NEXT_IP6
 * @sa:    whose packet it was
 * @spare: transport_spare() bytes, to which the packet moves; not looked at when that is 0
 * With m->ip that header is copied: options, TTL, DF and flow label are the sender's. Without, it is
 * made from the other fields.
 * A checksum of TCP, UDP or ICMPv6 that does not fit the addresses is made anew if the packet came
 * in UDP: the ICV says that the payload is the sender's, and a NAT has changed what it summed (RFC
 * 3948 3.1.2, second way).
 */
void transport_restore(struct esp_pkt *p, const struct sa_in *sa, const struct rx_meta *m,
		       uint8_t *spare);

#endif
