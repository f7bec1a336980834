/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * spread - which of a link's paths a flow takes. Pure: memory in, memory out; any thread.
 *
 * A flow is what must not be reordered: addresses, protocol and, where they can be seen in every packet
 * of it, ports. Its hash picks one of SPREAD_SLOTS slots, and slots belong to paths in the proportion of
 * their weights. The receiver needs nothing of this but a window that forgives the difference of delays.
 */
#ifndef SPREAD_H
#define SPREAD_H

#include <stdbool.h>
#include <stdint.h>

enum { SPREAD_SLOTS = 256 /* a weight below 1/256 of all may get none */ };

/**
 * spread_hash() - of an inner packet
 * @ip, @len: a whole IPv4 or IPv6 packet or at least its headers
 * Ports of TCP, UDP, UDP-Lite, SCTP and DCCP, the SPI of ESP and AH; of fragments the addresses and the
 * protocol alone, so that all fragments of a packet go one way (they may overtake its unfragmented
 * neighbours). IPv6 extension headers are not stepped over: there the flow label takes the ports' place.
 */
uint32_t spread_hash(const uint8_t *ip, uint32_t len);

/**
 * spread_fill() - give every slot a path
 * @weight: of n paths (at most 255), 0 = takes no part; @usable: may carry now
 * Slots of usable paths do not depend on the others: a path that fails gives its slots to the rest, by
 * weight, and finds them again when it is back; no other flow moves.
 * Return: number of paths that got slots; 0 = slot is untouched
 */
unsigned int spread_fill(uint8_t slot[SPREAD_SLOTS], const uint32_t *weight, const bool *usable, unsigned int n);

#endif
