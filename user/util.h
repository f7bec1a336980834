/* SPDX-License-Identifier: GPL-2.0-or-later */
/* util - a handful of helpers everybody needs: sizes, time, addresses as v4-mapped in6_addr. */
#ifndef UTIL_H
#define UTIL_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/** now_ns() - CLOCK_BOOTTIME in ns: counts through suspend, never set back */
static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + ts.tv_nsec;
}

/** clocks() - for short spans on one machine: the TSC on x86, else CLOCK_MONOTONIC in ns */
static inline uint64_t clocks(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#else
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + ts.tv_nsec;
#endif
}

/**
 * hugemem() - zeroed memory for packets, on 2 MiB pages where the kernel gives them: in a virtual machine every
 * page more is a walk through two page tables. free() it. Return: NULL = none left
 */
void *hugemem(size_t len);

/** addr_is4() - is this v4-mapped? All addresses in user space are struct in6_addr, v4-mapped for IPv4 */
static inline bool addr_is4(const struct in6_addr *a)
{
	return IN6_IS_ADDR_V4MAPPED(a);
}
static inline struct in6_addr addr_from4(struct in_addr v4)
{
	struct in6_addr a = {0};

	a.s6_addr[10] = a.s6_addr[11] = 0xff;
	memcpy(a.s6_addr + 12, &v4, 4);
	return a;
}
static inline struct in_addr addr_to4(const struct in6_addr *a)
{
	struct in_addr v4;

	memcpy(&v4, a->s6_addr + 12, 4);
	return v4;
}
/** addr_at() - as it stands in a packet, 4 or 16 bytes */
static inline struct in6_addr addr_at(const uint8_t *p, bool is4)
{
	struct in6_addr a;
	struct in_addr v4;

	if (is4) {
		memcpy(&v4, p, sizeof v4);
		return addr_from4(v4);
	}
	memcpy(&a, p, sizeof a);
	return a;
}
/** addr_parse() - "192.0.2.1" or "2001:db8::1". Return: 0 or -EINVAL */
int addr_parse(const char *s, struct in6_addr *a);
/** addr_str() - print into buf[INET6_ADDRSTRLEN], v4-mapped as dotted quad. Return: buf */
const char *addr_str(const struct in6_addr *a, char *buf);

/** struct prefix - address prefix; len counts in the address's own family (0..32 or 0..128) */
struct prefix {
	struct in6_addr addr; /* host bits zero */
	uint8_t len;
	bool is4;
};
static inline bool prefix_same(const struct prefix *a, const struct prefix *b)
{
	return a->is4 == b->is4 && a->len == b->len && !memcmp(&a->addr, &b->addr, sizeof a->addr);
}
/** prefix_parse() - "10.2.0.0/16", "fd00::/48" or a bare address. Host bits set: -EINVAL. Return: 0 or -EINVAL */
int prefix_parse(const char *s, struct prefix *p);
/** prefix_str() - into buf[INET6_ADDRSTRLEN + 4]. Return: buf */
const char *prefix_str(const struct prefix *p, char *buf);
bool prefix_match(const struct prefix *p, const struct in6_addr *a);
/** prefix_contains() - inner is outer, or lies in it */
bool prefix_contains(const struct prefix *outer, const struct prefix *inner);

#endif
