/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inner - checks on an opened packet before it is delivered. Pure; any thread. The packet is what
 * esp_open() left: a whole IPv4 or IPv6 header, family as its next header says.
 */
#ifndef INNER_H
#define INNER_H

#include <stdbool.h>
#include <stdint.h>
#include "ipsec_drops.h"
#include "util.h"

/**
 * inner_source_ok() - may this link's peer send from the packet's source? (RFC 4301 5.2, step 4)
 * @allowed, @n: prefixes of both families; n 0 = any. An IPv6 packet from ::ffff:192.0.2.1 is not one
 * from 192.0.2.1: no list lets it in.
 */
bool inner_source_ok(const uint8_t *ip, uint8_t family, const struct prefix *allowed, unsigned int n);

/**
 * inner_quote_ok() - if this is an ICMP error: can the packet that it quotes have gone to this link's peer?
 * (RFC 4301 6.2)
 * @len: of the packet; @allowed, @n: as above: who sent from there may have been sent to
 * Errors are the types 3, 4, 5, 11 and 12 of ICMP and those below 128 of ICMPv6, also behind extension headers.
 * A quote that is of the other version or ends before its destination proves nothing: not ok. A later fragment
 * is no error: its first one is.
 */
bool inner_quote_ok(const uint8_t *ip, uint32_t len, uint8_t family, const struct prefix *allowed, unsigned int n);

/** inner_quote() - where the packet begins that an ICMP error quotes, maybe behind the end. Return: 0 = it is none */
uint32_t inner_quote(const uint8_t *ip, uint32_t len);

/**
 * inner_upper6() - what is behind the extension headers of an IPv6 packet (RFC 8200 4), AH among them
 * @proto: its number; @first: false = a later fragment, whose rest is no header
 * Return: where, maybe behind the end; 0, with *proto 0: the packet ends before
 */
uint32_t inner_upper6(const uint8_t *ip, uint32_t len, uint8_t *proto, bool *first);

/**
 * inner_ecn() - combine the envelope's ECN field into the packet's, RFC 6040 4.2
 * @outer_tos: TOS or traffic class of the envelope
 * An outer CE must not be lost: it goes on, or, where the inner packet is not-ECT, drops it. ECT(1)
 * outside goes on where ECT(0) was inside.
 * Return: DROP_NONE or DROP_ECN_CE_NOT_ECT
 */
enum drop inner_ecn(uint8_t *ip, uint8_t family, uint8_t outer_tos);

/** enum ecn_odd - what inner_ecn() lets pass and no ingress makes: RFC 6040 figure 4, (!!!) and (!) */
enum ecn_odd { ECN_USUAL, ECN_ECT0_ON_NOT_ECT, ECN_ECT1_ON_NOT_ECT, ECN_ECT0_ON_ECT1, ECN_ECT1_ON_CE };

/** inner_ecn_odd() - which of them is it? Before inner_ecn(), which may change the packet's field */
enum ecn_odd inner_ecn_odd(const uint8_t *ip, uint8_t family, uint8_t outer_tos);

#endif
