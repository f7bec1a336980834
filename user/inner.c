/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "inner.h"
#include "pkt.h"

enum { ECN_NOT_ECT = 0, ECN_ECT_1 = 1, ECN_ECT_0 = 2, ECN_CE = 3 }; /* RFC 3168 5 */

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
static void set_ecn4(uint8_t *ip, uint8_t ecn)
{
	uint32_t sum = (uint16_t)~be16(ip + IP4_CSUM) + (uint32_t)(uint16_t)~be16(ip);

	ip[IP4_TOS] = (uint8_t)((ip[IP4_TOS] & 0xfc) | ecn);
	sum += be16(ip);
	sum = (sum & 0xffff) + (sum >> 16);
	put16(ip + IP4_CSUM, htons((uint16_t)~((sum & 0xffff) + (sum >> 16))));
}

static void set_ecn(uint8_t *ip, uint8_t family, uint8_t ecn)
{
	if (family == 4)
		set_ecn4(ip, ecn);
	else
		ip[1] = (uint8_t)((ip[1] & 0xcf) | ecn << 4);
}

enum drop inner_ecn(uint8_t *ip, uint8_t family, uint8_t outer_tos)
{
	uint8_t inner = family == 4 ? ip[IP4_TOS] & 3 : ip[1] >> 4 & 3, outer = outer_tos & 3;

	if (outer == ECN_CE && inner == ECN_NOT_ECT)
		return DROP_ECN_CE_NOT_ECT;
	/* severity rises from ECT(0) over ECT(1) to CE, in whose order the numbers are not */
	if ((outer == ECN_CE && inner != ECN_CE) || (outer == ECN_ECT_1 && inner == ECN_ECT_0))
		set_ecn(ip, family, outer);
	return DROP_NONE;
}
