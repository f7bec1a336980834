/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include "inner.h"
#include "ipsec_wire.h"
#include "pkt.h"

enum { ECN_NOT_ECT = 0, ECN_ECT_1 = 1, ECN_ECT_0 = 2, ECN_CE = 3 }; /* RFC 3168 5 */

static bool is_among(const uint8_t *at, uint8_t family, const struct prefix *allowed, unsigned int n)
{
	struct in6_addr a = addr_at(at, family == 4);

	if (family == 6 && addr_is4(&a)) /* no address a packet may have: RFC 4291 2.5.5.2 */
		return false;
	for (unsigned int i = 0; i < n; i++)
		if (prefix_match(&allowed[i], &a))
			return true;
	return false;
}

bool inner_source_ok(const uint8_t *ip, uint8_t family, const struct prefix *allowed, unsigned int n)
{
	return !n || is_among(ip + (family == 4 ? IP4_ADDRS : IP6_ADDRS), family, allowed, n);
}

/* RFC 8200 4: extension headers in any order, RFC 4302 2.2 for the length of AH. */
uint32_t inner_upper6(const uint8_t *ip, uint32_t len, uint8_t *proto, bool *first)
{
	uint32_t at = IP6_HDR_LEN;

	*proto = ip[IP6_NEXT];
	*first = true;
	for (;;) {
		const uint8_t *h = ip + at;
		bool ext = *proto == IPPROTO_HOPOPTS || *proto == IPPROTO_ROUTING || *proto == IPPROTO_DSTOPTS ||
			   *proto == IPPROTO_AH || *proto == IPPROTO_FRAGMENT;

		if (!ext || !*first)
			return at;
		if (at + 8 > len) {
			*proto = 0;
			return 0;
		}
		if (*proto == IPPROTO_FRAGMENT) {
			*first = !(be16(h + 2) & 0xfff8);
			at += 8;
		} else {
			at += *proto == IPPROTO_AH ? 4 * (h[1] + 2u) : 8 * (h[1] + 1u);
		}
		*proto = h[0];
	}
}

/* Where ICMP begins; 0: there is none, or none that ends up anywhere. */
static uint32_t icmp(const uint8_t *ip, uint32_t len)
{
	bool first;
	uint8_t proto;
	uint32_t at;

	if (ip[0] >> 4 == 4)
		return ip[IP4_PROTO] == IPPROTO_ICMP && !(be16(ip + IP4_FRAG) & IP_OFFMASK) ? (ip[0] & 15) * 4u : 0;
	at = inner_upper6(ip, len, &proto, &first);
	return proto == IPPROTO_ICMPV6 && first ? at : 0;
}

static bool is_error(uint8_t type, bool is4)
{
	if (!is4)
		return !(type & ICMP6_INFOMSG_MASK);
	return type == ICMP_DEST_UNREACH || type == ICMP_SOURCE_QUENCH || type == ICMP_REDIRECT ||
	       type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
}

uint32_t inner_quote(const uint8_t *ip, uint32_t len)
{
	uint32_t at = icmp(ip, len);

	/* RFC 792, RFC 4443 3: the quote follows eight bytes */
	return at && at < len && is_error(ip[at], ip[0] >> 4 == 4) ? at + 8 : 0;
}

bool inner_quote_ok(const uint8_t *ip, uint32_t len, uint8_t family, const struct prefix *allowed, unsigned int n)
{
	uint32_t at = n ? inner_quote(ip, len) : 0;

	if (!at)
		return true;
	if (at + (family == 4 ? IP4_HDR_LEN : IP6_HDR_LEN) > len || ip[at] >> 4 != family)
		return false;
	return is_among(ip + at + (family == 4 ? IP4_ADDRS + 4 : IP6_ADDRS + 16), family, allowed, n);
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

static uint8_t get_ecn(const uint8_t *ip, uint8_t family)
{
	return family == 4 ? ip[IP4_TOS] & 3 : ip[1] >> 4 & 3;
}

enum ecn_odd inner_ecn_odd(const uint8_t *ip, uint8_t family, uint8_t outer_tos)
{
	static const uint8_t odd[4][4] = {
		/* inner, outer */
		[ECN_NOT_ECT] = {[ECN_ECT_0] = ECN_ECT0_ON_NOT_ECT, [ECN_ECT_1] = ECN_ECT1_ON_NOT_ECT},
		[ECN_ECT_1] = {[ECN_ECT_0] = ECN_ECT0_ON_ECT1},
		[ECN_CE] = {[ECN_ECT_1] = ECN_ECT1_ON_CE},
	};

	return (enum ecn_odd)odd[get_ecn(ip, family)][outer_tos & 3];
}

enum drop inner_ecn(uint8_t *ip, uint8_t family, uint8_t outer_tos)
{
	uint8_t inner = get_ecn(ip, family), outer = outer_tos & 3;

	if (outer == ECN_CE && inner == ECN_NOT_ECT)
		return DROP_ECN_CE_NOT_ECT;
	/* severity rises from ECT(0) over ECT(1) to CE, in whose order the numbers are not */
	if ((outer == ECN_CE && inner != ECN_CE) || (outer == ECN_ECT_1 && inner == ECN_ECT_0))
		set_ecn(ip, family, outer);
	return DROP_NONE;
}
