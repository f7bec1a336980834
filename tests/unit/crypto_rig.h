/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * crypto_rig - what the tests of the crypto core share: hex, a seeded generator, the backends,
 * fenced memory.
 */
#ifndef CRYPTO_RIG_H
#define CRYPTO_RIG_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "aead.h"
#include "util.h"

/* Every path of this CPU; rig_backend() skips what it lacks. */
static const char *const rig_names[] = {
	"ipsec-mb", "ipsec-mb:avx512", "ipsec-mb:avx2", "ipsec-mb:avx", "ipsec-mb:sse", "openssl",
};
enum { RIG_N = 6 };

__attribute__((unused)) static bool rig_backend(size_t i)
{
	return aead_backend_select(rig_names[i]) == 0;
}

/* splitmix64: small, full period, good enough to pick cases. */
static uint64_t rig_state;

__attribute__((unused)) static uint64_t rig_env(const char *name, uint64_t dflt)
{
	const char *s = getenv(name);

	return s && *s ? strtoull(s, NULL, 0) : dflt;
}

/* How often: environment NAME, else the long count under ESPWIRE_TEST_FULL. */
__attribute__((unused)) static uint64_t rig_count(const char *name, uint64_t usual, uint64_t full)
{
	return rig_env(name, rig_env("ESPWIRE_TEST_FULL", 0) ? full : usual);
}

__attribute__((unused)) static void rig_seed(const char *who)
{
	rig_state = rig_env("SEED", 20260101);
	printf("%s: SEED=%llu\n", who, (unsigned long long)rig_state);
}

__attribute__((unused)) static uint64_t rig_rand(void)
{
	uint64_t z = rig_state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* 0..n-1 */
__attribute__((unused)) static uint64_t rig_below(uint64_t n)
{
	return rig_rand() % n;
}

__attribute__((unused)) static void rig_fill(uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)rig_rand();
}

/* Hex with blanks to bytes. Return: bytes */
__attribute__((unused)) static size_t rig_hex(const char *s, uint8_t *out, size_t room)
{
	size_t n = 0;
	unsigned int v;

	for (; *s; s += 2) {
		while (*s == ' ')
			s++;
		if (!*s)
			break;
		assert_true(isxdigit(s[0]) && isxdigit(s[1]) && n < room);
		assert_int_equal(sscanf(s, "%2x", &v), 1);
		out[n++] = (uint8_t)v;
	}
	return n;
}

/* Memory between two pages that must not be touched: catches what assembler code does, too. */
struct fence {
	uint8_t *map;
	size_t room; /* usable bytes, whole pages */
};

__attribute__((unused)) static struct fence fence_new(size_t room)
{
	struct fence f = {.room = (room + 4095) & ~(size_t)4095};

	f.map = mmap(NULL, f.room + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(f.map, MAP_FAILED);
	assert_int_equal(mprotect(f.map + 4096, f.room, PROT_READ | PROT_WRITE), 0);
	return f;
}

__attribute__((unused)) static uint8_t *fence_start(const struct fence *f)
{
	return f->map + 4096;
}

/* Address of len bytes that end where the upper page begins. */
__attribute__((unused)) static uint8_t *fence_end(const struct fence *f, size_t len)
{
	return f->map + 4096 + f->room - len;
}

__attribute__((unused)) static void fence_free(struct fence *f)
{
	munmap(f->map, f->room + 8192);
}

#endif
