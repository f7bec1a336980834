/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include "inner.h"
#include "ipsec_wire.h"
#include "pkt.h"
#include "sel.h"
#include "util.h"

enum { PORTS_LEN = 4, ICMP_LEN = 2 };

/* ---- what a packet says ---- */

static void take_ports(struct sel_flow *f, const uint8_t *l4, uint32_t len)
{
	switch (f->proto) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
		if (len < PORTS_LEN)
			return;
		f->sport = be16(l4);
		f->dport = be16(l4 + 2);
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (len < ICMP_LEN)
			return;
		f->sport = f->dport = be16(l4);
		break;
	default:
		return;
	}
	f->has_ports = true;
}

bool sel_flow(struct sel_flow *f, const uint8_t *ip, uint32_t len)
{
	bool is4 = len && ip[0] >> 4 == 4, first = true;
	uint32_t at;

	*f = (struct sel_flow){0};
	if (len < (is4 ? IP4_HDR_LEN : IP6_HDR_LEN))
		return false;
	f->src = addr_at(ip + (is4 ? IP4_ADDRS : IP6_ADDRS), is4);
	f->dst = addr_at(ip + (is4 ? IP4_ADDRS + 4 : IP6_ADDRS + 16), is4);
	if (!is4 && (addr_is4(&f->src) || addr_is4(&f->dst))) /* no address a packet may have: RFC 4291 2.5.5.2 */
		return false;
	if (is4) {
		f->proto = ip[IP4_PROTO];
		at = (ip[0] & 15) * 4u;
		first = !(be16(ip + IP4_FRAG) & IP_OFFMASK);
	} else {
		at = inner_upper6(ip, len, &f->proto, &first);
	}
	if (at && first && at <= len)
		take_ports(f, ip + at, len - at);
	return true;
}

/* ---- matching ---- */

static int cmp(const struct in6_addr *a, const struct in6_addr *b)
{
	return memcmp(a, b, sizeof *a);
}

static bool within(const struct in6_addr range[2], const struct in6_addr *a)
{
	return addr_is4(&range[0]) == addr_is4(a) && cmp(a, &range[0]) >= 0 && cmp(a, &range[1]) <= 0;
}

static bool any_port(const uint16_t range[2])
{
	return !range[0] && range[1] == UINT16_MAX;
}

/* OPAQUE is for what has none, RFC 4301 4.4.1.1; any is for that, too. */
static bool port_within(const uint16_t range[2], bool there, uint16_t port)
{
	if (range[0] > range[1])
		return !there;
	return any_port(range) || (there && port >= range[0] && port <= range[1]);
}

static bool match(const struct sel *s, const struct sel_flow *f)
{
	return within(s->src, &f->src) && within(s->dst, &f->dst) && (!s->proto || s->proto == f->proto) &&
	       port_within(s->sport, f->has_ports, f->sport) && port_within(s->dport, f->has_ports, f->dport);
}

bool sels_match(const struct sel *s, unsigned int n, const struct sel_flow *f)
{
	for (unsigned int i = 0; i < n; i++)
		if (match(&s[i], f))
			return true;
	return false;
}

static void turn_round(struct sel_flow *f)
{
	struct in6_addr a = f->src;
	uint16_t port = f->sport;

	f->src = f->dst;
	f->dst = a;
	f->sport = f->dport;
	f->dport = port;
}

bool sel_quoted(struct sel_flow *f, const uint8_t *ip, uint32_t len)
{
	uint32_t at = inner_quote(ip, len);

	if (!at || at >= len || ip[at] >> 4 != ip[0] >> 4 || !sel_flow(f, ip + at, len - at))
		return false;
	turn_round(f);
	return true;
}

bool sels_take(const struct sel *s, unsigned int n, const uint8_t *ip, uint32_t len)
{
	struct sel_flow f;

	return !n || (sel_flow(&f, ip, len) && sels_match(s, n, &f)) || (sel_quoted(&f, ip, len) && sels_match(s, n, &f));
}

/* ---- lists ---- */

static int cmp_ports(const uint16_t a[2], const uint16_t b[2])
{
	return a[0] != b[0] ? a[0] - b[0] : a[1] - b[1];
}

static int cmp_sel(const void *x, const void *y)
{
	const struct sel *a = x, *b = y;
	int c = memcmp(a->src, b->src, sizeof a->src);

	if (!c)
		c = memcmp(a->dst, b->dst, sizeof a->dst);
	if (!c)
		c = a->proto - b->proto;
	if (!c)
		c = cmp_ports(a->sport, b->sport);
	return c ? c : cmp_ports(a->dport, b->dport);
}

static bool any_addr(const struct in6_addr range[2], bool is4)
{
	unsigned int from = is4 ? 12 : 0;

	if (addr_is4(&range[0]) != is4)
		return false;
	for (unsigned int i = from; i < 16; i++)
		if (range[0].s6_addr[i] || range[1].s6_addr[i] != 0xff)
			return false;
	return true;
}

static bool is_any(const struct sel *s, bool is4)
{
	return !s->proto && any_port(s->sport) && any_port(s->dport) && any_addr(s->src, is4) && any_addr(s->dst, is4);
}

void sels_tidy(struct sels *l)
{
	unsigned int n = 0;
	bool all4 = false, all6 = false;

	qsort(l->sel, l->n, sizeof l->sel[0], cmp_sel);
	for (unsigned int i = 0; i < l->n; i++) {
		all4 |= is_any(&l->sel[i], true);
		all6 |= is_any(&l->sel[i], false);
		if (!n || cmp_sel(&l->sel[n - 1], &l->sel[i]))
			l->sel[n++] = l->sel[i];
	}
	l->n = all4 && all6 ? 0 : n;
}

bool sels_equal(const struct sels *a, const struct sel *b, unsigned int n)
{
	for (unsigned int i = 0; a->n == n && i < n; i++)
		if (cmp_sel(&a->sel[i], &b[i]))
			return false;
	return a->n == n;
}

void sels_mirror(struct sels *to, const struct sels *from)
{
	to->n = from->n;
	for (unsigned int i = 0; i < from->n; i++) {
		const struct sel *s = &from->sel[i];
		struct sel *m = &to->sel[i];

		*m = (struct sel){.proto = s->proto};
		memcpy(m->src, s->dst, sizeof m->src);
		memcpy(m->dst, s->src, sizeof m->dst);
		memcpy(m->sport, s->dport, sizeof m->sport);
		memcpy(m->dport, s->sport, sizeof m->dport);
	}
	qsort(to->sel, to->n, sizeof to->sel[0], cmp_sel);
}

static unsigned int bits(unsigned int x)
{
	return x ? 32 - (unsigned int)__builtin_clz(x) : 0;
}

/* log2 of how many, roughly: up to the highest bit in which the ends differ */
static unsigned int addr_bits(const struct in6_addr range[2])
{
	for (unsigned int i = 0; i < 16; i++)
		if (range[0].s6_addr[i] != range[1].s6_addr[i])
			return 8 * (15 - i) + bits(range[0].s6_addr[i] ^ range[1].s6_addr[i]);
	return 0;
}

static unsigned int port_bits(const uint16_t range[2])
{
	return range[0] < range[1] ? bits((unsigned int)range[1] - range[0]) : 0;
}

static unsigned int width(const struct sel *s)
{
	return addr_bits(s->src) + addr_bits(s->dst) + port_bits(s->sport) + port_bits(s->dport) + (s->proto ? 0 : 8);
}

unsigned int sels_width(const struct sel *s, unsigned int n)
{
	unsigned int widest = 0;

	for (unsigned int i = 0; i < n; i++)
		widest = MAX(widest, width(&s[i]));
	return n ? widest : UINT_MAX;
}

static bool port_inside(const uint16_t in[2], const uint16_t of[2])
{
	return any_port(of) || (in[0] >= of[0] && in[1] <= of[1] && in[0] <= in[1]);
}

static bool inside(const struct sel *in, const struct sel *of)
{
	return within(of->src, &in->src[0]) && within(of->src, &in->src[1]) && within(of->dst, &in->dst[0]) &&
	       within(of->dst, &in->dst[1]) && (!of->proto || of->proto == in->proto) &&
	       port_inside(in->sport, of->sport) && port_inside(in->dport, of->dport);
}

bool sels_cover(const struct sel *s, unsigned int n, const struct sel *of, unsigned int n_of)
{
	unsigned int i = 0, j = 0;

	while (n && n_of && i < n_of && j < n) {
		bool found = inside(&of[i], &s[j]);

		i += found;
		j = found ? 0 : j + 1;
	}
	return !n || (n_of && i == n_of);
}

/* ---- text ---- */

static const struct {
	const char *name;
	uint8_t number;
} protos[] = {{"tcp", IPPROTO_TCP},   {"udp", IPPROTO_UDP},   {"icmp", IPPROTO_ICMP},
	      {"sctp", IPPROTO_SCTP}, {"icmpv6", IPPROTO_ICMPV6}};

static int parse_number(const char *s, unsigned int max, unsigned int *out)
{
	char *end;
	unsigned long n;

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	n = strtoul(s, &end, 10);
	*out = (unsigned int)n;
	return *end || n > max ? -EINVAL : 0;
}

static int parse_proto(const char *s, uint8_t *proto)
{
	unsigned int n;

	for (unsigned int i = 0; i < ARRAY_SIZE(protos); i++) {
		if (strcmp(protos[i].name, s))
			continue;
		*proto = protos[i].number;
		return 0;
	}
	if (parse_number(s, UINT8_MAX, &n))
		return -EINVAL;
	*proto = (uint8_t)n;
	return 0;
}

static bool has_ports(uint8_t proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP || proto == IPPROTO_UDPLITE ||
	       proto == IPPROTO_DCCP || proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6;
}

/* "tcp/80-90", without the brackets */
static int parse_upper(char *s, uint8_t *proto, uint16_t port[2], const char **why)
{
	char *ports = strchr(s, '/'), *to;
	unsigned int a, b;

	if (ports)
		*ports++ = 0;
	*why = "the protocol is tcp, udp, icmp, icmpv6, sctp or a number";
	if (parse_proto(s, proto))
		return -EINVAL;
	if (!ports)
		return 0;
	to = strchr(ports, '-');
	if (to)
		*to++ = 0;
	*why = "a port is a number up to 65535, or two with - between them; of ICMP type * 256 + code";
	if (!has_ports(*proto) || parse_number(ports, UINT16_MAX, &a) || parse_number(to ? to : ports, UINT16_MAX, &b) || a > b)
		return -EINVAL;
	port[0] = (uint16_t)a;
	port[1] = (uint16_t)b;
	return 0;
}

static int parse_addrs(char *s, struct in6_addr range[2])
{
	char *to = strchr(s, '-');
	struct prefix p;

	if (to) {
		*to++ = 0;
		return addr_parse(s, &range[0]) || addr_parse(to, &range[1]) || addr_is4(&range[0]) != addr_is4(&range[1]) ||
				       cmp(&range[0], &range[1]) > 0 ?
			       -EINVAL :
			       0;
	}
	if (prefix_parse(s, &p))
		return -EINVAL;
	range[0] = range[1] = p.addr;
	for (unsigned int i = p.len + (p.is4 ? 96u : 0); i < 128; i++)
		range[1].s6_addr[i / 8] |= (uint8_t)(0x80 >> i % 8);
	return 0;
}

static int parse_end(char *s, struct in6_addr range[2], uint8_t *proto, uint16_t port[2], const char **why)
{
	char *upper = strchr(s, '[');
	size_t n = strlen(s);

	port[0] = 0;
	port[1] = UINT16_MAX;
	if (upper) {
		*why = "the bracket is not closed";
		if (s[n - 1] != ']')
			return -EINVAL;
		s[n - 1] = 0;
		*upper++ = 0;
		if (parse_upper(upper, proto, port, why))
			return -EINVAL;
	}
	*why = "an end is an address, a prefix without host bits, or two addresses with - between them";
	return parse_addrs(s, range);
}

int sel_parse(struct sel *s, const char *text, const char **why)
{
	char copy[SEL_STR], *save, *a, *b;
	uint8_t pa = 0, pb = 0;

	*why = "write OURS THEIRS, as 10.1.0.0/16 10.2.0.0/16[tcp/80]";
	if (strlen(text) >= sizeof copy)
		return -EINVAL;
	strcpy(copy, text);
	a = strtok_r(copy, " \t", &save);
	b = a ? strtok_r(NULL, " \t", &save) : NULL;
	if (!b || strtok_r(NULL, " \t", &save))
		return -EINVAL;
	memset(s, 0, sizeof *s);
	if (parse_end(a, s->src, &pa, s->sport, why) || parse_end(b, s->dst, &pb, s->dport, why))
		return -EINVAL;
	*why = "both ends are of one family";
	if (addr_is4(&s->src[0]) != addr_is4(&s->dst[0]))
		return -EINVAL;
	*why = "the two ends name different protocols";
	if (pa && pb && pa != pb)
		return -EINVAL;
	s->proto = pa ? pa : pb;
	return 0;
}

/* As a prefix, if it is one. */
static int put_addrs(char *buf, size_t room, const struct in6_addr range[2])
{
	unsigned int bits = addr_bits(range), whole = addr_is4(&range[0]) ? 32 : 128;
	char a[INET6_ADDRSTRLEN], b[INET6_ADDRSTRLEN];

	for (unsigned int i = 128 - bits; i < 128; i++) {
		unsigned int bit = 0x80u >> i % 8;

		if ((range[0].s6_addr[i / 8] & bit) || !(range[1].s6_addr[i / 8] & bit))
			return snprintf(buf, room, "%s-%s", addr_str(&range[0], a), addr_str(&range[1], b));
	}
	return snprintf(buf, room, bits ? "%s/%u" : "%s", addr_str(&range[0], a), whole - bits);
}

static int put_upper(char *buf, size_t room, uint8_t proto, const uint16_t port[2])
{
	char name[8];
	const char *s = name;

	if (!proto)
		return snprintf(buf, room, "%s", "");
	snprintf(name, sizeof name, "%u", proto);
	for (unsigned int i = 0; i < ARRAY_SIZE(protos); i++)
		if (protos[i].number == proto)
			s = protos[i].name;
	if (any_port(port))
		return snprintf(buf, room, "[%s]", s);
	if (port[0] > port[1])
		return snprintf(buf, room, "[%s/opaque]", s);
	return snprintf(buf, room, port[0] == port[1] ? "[%s/%u]" : "[%s/%u-%u]", s, port[0], port[1]);
}

const char *sel_str(const struct sel *s, char *buf)
{
	int n = put_addrs(buf, SEL_STR, s->src);

	n += put_upper(buf + n, SEL_STR - n, any_port(s->sport) ? 0 : s->proto, s->sport);
	n += snprintf(buf + n, SEL_STR - n, " ");
	n += put_addrs(buf + n, SEL_STR - n, s->dst);
	put_upper(buf + n, SEL_STR - n, any_port(s->dport) && !any_port(s->sport) ? 0 : s->proto, s->dport);
	return buf;
}
