/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "util.h"

void *hugemem(size_t len)
{
	const size_t page = 2 << 20;
	void *p;

	len = (len + page - 1) / page * page;
	p = aligned_alloc(page, len);
	if (!p)
		return NULL;
	madvise(p, len, MADV_HUGEPAGE); /* before the first touch; what does not know it does without */
	memset(p, 0, len);
	return p;
}

int addr_parse(const char *s, struct in6_addr *a)
{
	struct in_addr v4;

	if (inet_pton(AF_INET, s, &v4) == 1) {
		*a = addr_from4(v4);
		return 0;
	}
	if (inet_pton(AF_INET6, s, a) == 1 && !addr_is4(a))
		return 0;
	return -EINVAL;
}

const char *addr_str(const struct in6_addr *a, char *buf)
{
	if (addr_is4(a))
		inet_ntop(AF_INET, a->s6_addr + 12, buf, INET6_ADDRSTRLEN);
	else
		inet_ntop(AF_INET6, a, buf, INET6_ADDRSTRLEN);
	return buf;
}

/* Bit length of the prefix in the 128-bit, v4-mapped space. */
static unsigned int mapped_len(const struct prefix *p)
{
	return p->is4 ? p->len + 96u : p->len;
}

static struct in6_addr masked(const struct in6_addr *a, unsigned int bits)
{
	struct in6_addr r = *a;

	for (unsigned int i = 0; i < 16; i++) {
		if (bits >= 8) {
			bits -= 8;
			continue;
		}
		r.s6_addr[i] &= bits ? (uint8_t)(0xff << (8 - bits)) : 0;
		bits = 0;
	}
	return r;
}

int prefix_parse(const char *s, struct prefix *p)
{
	char buf[INET6_ADDRSTRLEN + 4], *slash, *end;
	struct in6_addr m;
	unsigned long len;

	if (strlen(s) >= sizeof buf)
		return -EINVAL;
	strcpy(buf, s);
	slash = strchr(buf, '/');
	if (slash)
		*slash++ = 0;
	if (addr_parse(buf, &p->addr))
		return -EINVAL;
	p->is4 = addr_is4(&p->addr);
	p->len = p->is4 ? 32 : 128;
	if (slash) {
		if (*slash < '0' || *slash > '9')
			return -EINVAL;
		len = strtoul(slash, &end, 10);
		if (*end || len > p->len)
			return -EINVAL;
		p->len = len;
	}
	m = masked(&p->addr, mapped_len(p));
	return memcmp(&m, &p->addr, 16) ? -EINVAL : 0;
}

const char *prefix_str(const struct prefix *p, char *buf)
{
	addr_str(&p->addr, buf);
	sprintf(buf + strlen(buf), "/%u", p->len);
	return buf;
}

bool prefix_match(const struct prefix *p, const struct in6_addr *a)
{
	struct in6_addr m;

	if (addr_is4(a) != p->is4)
		return false;
	m = masked(a, mapped_len(p));
	return !memcmp(&m, &p->addr, 16);
}

bool prefix_contains(const struct prefix *outer, const struct prefix *inner)
{
	return outer->is4 == inner->is4 && outer->len <= inner->len && prefix_match(outer, &inner->addr);
}
