/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * outer - what the outer headers of a received frame or socket message say, and where the ESP
 * packets behind them lie. Pure: memory in, memory out; any thread.
 *
 * Nothing here is authenticated: callers use it to find an SA, and believe it once the ICV held (I4).
 */
#ifndef OUTER_H
#define OUTER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include "conf.h"

/** struct head - what the header of an envelope to be sent says, as far as the raw packet decides it */
struct head {
	uint8_t tos;
	uint8_t ttl;         /* 0 = the host's own default */
	uint8_t df;          /* DF_AUTO, DF_SET, DF_CLEAR */
	struct in6_addr src; /* transport mode; unspecified = the path's */
};

/**
 * outer_head() - RFC 4301 5.1.2: made from the raw packet's header as the link's options say
 * @ip: a whole IPv4 or IPv6 header; NULL for a packet of our own that has none, whose fields count as 0
 * IPv6 is as if it had DF set (RFC 4301 8.1 leaves that to us): no router may cut it either.
 */
struct head outer_head(const struct outer_conf *c, const uint8_t *ip);

/** struct rx_meta - what the outer header said of an envelope */
struct rx_meta {
	struct in6_addr src, dst;
	const uint8_t *ip; /* the header itself, in the same buffer; NULL when a socket kept it */
	uint16_t port; /* host order, 0 for plain ESP */
	uint8_t hdr_len; /* of ip */
	uint8_t front; /* without ip: bytes before the ESP header that are nobody's; the caller's to say */
	uint8_t tos, ttl;
	uint8_t encap; /* enum encap */
	bool has_tos;
	bool doubtful; /* the UDP checksum says that address or port may be damaged; the caller's to say */
};

/** struct outer - envelopes of one sender, back to back: one of a frame, a train of a UDP_GRO message */
struct outer {
	struct rx_meta meta;
	uint8_t *esp; /* first ESP header */
	uint32_t len; /* bytes from there on; may be shorter than ESP_HDR_LEN in UDP: a keepalive */
	uint32_t seg; /* bytes of each envelope, the last may be shorter; 1..len, or 0 when len is */
};

/**
 * outer_frame() - the headers of a frame from the wire funnel
 * @ip, @len: IP header and the bytes from there to the end of the frame; Ethernet padding may follow
 * the packet, and anything the UDP datagram in it. No fragment, and ESP or UDP: wire-in has seen to it.
 * Return: false when the headers claim what is not there, or IPv6 addresses are IPv4's; o is then unspecified.
 * Spec: RFC 791 3.1, RFC 8200 3, RFC 3948 2.1.
 */
bool outer_frame(struct outer *o, uint8_t *ip, uint32_t len);

/**
 * outer_sum_ok() - does the UDP checksum of a frame allow its addresses and ports to be believed?
 * The ICV covers neither, and XDP comes before the stack would look. Yes where there is no checksum
 * (RFC 768; RFC 6935 for IPv6) and for bare ESP; and for a sum over the pseudo-header alone: a frame from
 * another namespace of this host, whose sender left the rest to hardware that it never met.
 * @o: as outer_frame() left it, its bytes not yet decrypted
 */
bool outer_sum_ok(const struct outer *o);

/**
 * outer_message() - one message from one of our sockets: name, control data and bytes
 * @m: as recvmsg() left it, the bytes in one iovec; @len: how many
 * @udp: from a UDP socket; else from a raw one, which hands IPv4 (@v4) with its header, IPv6 without
 * Return: false for a raw IPv4 packet without an ESP header; o is then unspecified.
 */
bool outer_message(struct outer *o, struct msghdr *m, uint32_t len, bool udp, bool v4);

#endif
