/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * csum - the Internet checksum (RFC 1071) over any alignment, vectorised. Pure.
 *
 * Sums are 64-bit and in memory order: the 16-bit words are added as they lie in the packet, so a
 * folded sum is stored with memcpy() and a constant is added as htons() or htonl() of it.
 * Sums may be chained as long as only the last piece has an odd length; a field is taken out of a
 * sum again by adding csum_not() of it.
 */
#ifndef CSUM_H
#define CSUM_H

#include <stddef.h>
#include <stdint.h>

/** csum_partial() - add len bytes at data to sum. Return: the new sum, unfolded */
uint64_t csum_partial(const void *data, size_t len, uint64_t sum);

/** csum_copy() - copy len bytes from src to dst (no overlap) and add them to sum: each byte is read once */
uint64_t csum_copy(void *dst, const void *src, size_t len, uint64_t sum);

/**
 * csum_pseudo() - sum of the TCP/UDP pseudo-header, RFC 9293 3.1, RFC 8200 8.1
 * @ip: IPv4 or IPv6 header, @family 4 or 6; its destination must be the final one (no routing header)
 */
uint64_t csum_pseudo(const uint8_t *ip, uint8_t family, uint8_t proto, uint32_t l4_len);

/** csum_add16() - fold to 16 bits, not complemented: what stands in the field of a partial checksum */
static inline uint16_t csum_add16(uint64_t sum)
{
	sum = (sum >> 32) + (uint32_t)sum;
	sum = (sum >> 32) + (uint32_t)sum;
	sum = (sum >> 16) + (uint16_t)sum;
	return (uint16_t)((sum >> 16) + sum);
}

/** csum_fold() - the finished checksum, complemented; 0 over a packet that verifies */
static inline uint16_t csum_fold(uint64_t sum)
{
	return (uint16_t)~csum_add16(sum);
}

/** csum_not() - what takes a 16-bit word out of a sum that holds it */
static inline uint64_t csum_not(uint16_t word)
{
	return (uint16_t)~word;
}

#endif
