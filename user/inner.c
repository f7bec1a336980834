/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "inner.h"
#include "pkt.h"

enum { ECN_NOT_ECT = 0, ECN_CE = 3 }; /* RFC 3168 5 */

static struct in6_addr source(const uint8_t *ip, uint8_t family)
{
	struct in6_addr a;
	struct in_addr v4;

	if (family == 4) {
		memcpy(&v4, ip + IP4_ADDRS, sizeof v4);
		return addr_from4(v4);
	}
	memcpy(&a, ip + IP6_ADDRS, sizeof a);
	return a;
}

bool inner_source_ok(const uint8_t *ip, uint8_t family, const struct prefix *allowed, unsigned int n)
{
	struct in6_addr a;

	if (!n)
		return true;
	a = source(ip, family);
	if (family == 6 && addr_is4(&a)) /* no address a packet may have: RFC 4291 2.5.5.2 */
		return false;
	for (unsigned int i = 0; i < n; i++)
		if (prefix_match(&allowed[i], &a))
			return true;
	return false;
}

/* The header checksum follows the first word, RFC 1624 3. */
static void set_ce4(uint8_t *ip)
{
	uint32_t sum = (uint16_t)~be16(ip + IP4_CSUM) + (uint32_t)(uint16_t)~be16(ip);

	ip[IP4_TOS] |= ECN_CE;
	sum += be16(ip);
	sum = (sum & 0xffff) + (sum >> 16);
	put16(ip + IP4_CSUM, htons((uint16_t)~((sum & 0xffff) + (sum >> 16))));
}

enum drop inner_ecn(uint8_t *ip, uint8_t family, uint8_t outer_tos)
{
	uint8_t inner = family == 4 ? ip[IP4_TOS] & 3 : ip[1] >> 4 & 3;

	if ((outer_tos & 3) != ECN_CE || inner == ECN_CE)
		return DROP_NONE;
	if (inner == ECN_NOT_ECT)
		return DROP_ECN_CE_NOT_ECT;
	if (family == 4)
		set_ce4(ip);
	else
		ip[1] |= ECN_CE << 4;
	return DROP_NONE;
}
