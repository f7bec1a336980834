/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * csum - whole blocks go through one of two bodies, the rest and short pieces through tail().
 * block_words() is for every CPU: 64-bit words, carries counted apart. block_avx2() adds 32-bit
 * words into 64-bit lanes: no carries to chase, and no overflow below 2^32 additions.
 *
 * Each body serves csum_partial() and csum_copy(): copy is a constant wherever it is inlined.
 */
#include "csum.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>

enum {
	BLOCK = 32,
	BLOCKS_MIN = 96, /* shorter pieces are headers: not worth the set-up */
};

#define FLATTEN static inline __attribute__((always_inline))

FLATTEN uint64_t halves(uint64_t w)
{
	return (w >> 32) + (uint32_t)w;
}

/* end-around carry, so that chained sums never lose one */
FLATTEN uint64_t add(uint64_t a, uint64_t b)
{
	a += b;
	return a + (a < b);
}

FLATTEN uint64_t word(uint8_t *dst, const uint8_t *src, bool copy)
{
	uint64_t w;

	memcpy(&w, src, sizeof(w));
	if (copy)
		memcpy(dst, &w, sizeof(w));
	return w;
}

FLATTEN uint64_t block_words(uint8_t *dst, const uint8_t *src, size_t len, bool copy)
{
	uint64_t a = 0, b = 0, carry_a = 0, carry_b = 0, w;

	for (size_t i = 0; i < len; i += BLOCK) {
		w = word(dst + i, src + i, copy);
		a += w, carry_a += a < w;
		w = word(dst + i + 8, src + i + 8, copy);
		b += w, carry_b += b < w;
		w = word(dst + i + 16, src + i + 16, copy);
		a += w, carry_a += a < w;
		w = word(dst + i + 24, src + i + 24, copy);
		b += w, carry_b += b < w;
	}
	return halves(a) + halves(b) + carry_a + carry_b;
}

#ifdef __x86_64__
typedef uint64_t vec __attribute__((vector_size(32)));
typedef vec vec_any __attribute__((aligned(1), may_alias));

__attribute__((target("avx2"))) FLATTEN uint64_t block_avx2(uint8_t *dst, const uint8_t *src,
							    size_t len, bool copy)
{
	const vec low = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX};
	vec even = {0}, odd = {0}, v, w;
	size_t i = 0;

	for (; i + 2 * BLOCK <= len; i += 2 * BLOCK) {
		v = *(const vec_any *)(src + i);
		w = *(const vec_any *)(src + i + BLOCK);
		if (copy) {
			*(vec_any *)(dst + i) = v;
			*(vec_any *)(dst + i + BLOCK) = w;
		}
		even += (v & low) + (w & low);
		odd += (v >> 32) + (w >> 32);
	}
	if (i < len) {
		v = *(const vec_any *)(src + i);
		if (copy)
			*(vec_any *)(dst + i) = v;
		even += v & low;
		odd += v >> 32;
	}
	even += odd;
	return halves(even[0]) + halves(even[1]) + halves(even[2]) + halves(even[3]);
}

__attribute__((target("avx2"))) static uint64_t sum_avx2(const uint8_t *src, size_t len)
{
	return block_avx2(NULL, src, len, false);
}

__attribute__((target("avx2"))) static uint64_t copy_avx2(uint8_t *dst, const uint8_t *src,
							  size_t len)
{
	return block_avx2(dst, src, len, true);
}

#define have_avx2() __builtin_cpu_supports("avx2")
#else
#define sum_avx2(src, len)       0
#define copy_avx2(dst, src, len) 0
#define have_avx2()              false
#endif

/*
 * n <= 8 bytes. Where they land in w does not matter: 2^16 is 1 modulo 65535, and an odd last
 * byte is followed by zero in memory, as RFC 1071 wants.
 */
FLATTEN uint64_t take(uint8_t *dst, const uint8_t *src, size_t n, bool copy)
{
	uint64_t w = 0;

	memcpy(&w, src, n);
	if (copy)
		memcpy(dst, &w, n);
	return halves(w);
}

FLATTEN uint64_t tail(uint8_t *dst, const uint8_t *src, size_t len, bool copy)
{
	uint64_t sum = 0;

	for (; len >= 8; len -= 8, src += 8, dst += 8)
		sum += take(dst, src, 8, copy);
	if (len & 4) {
		sum += take(dst, src, 4, copy);
		src += 4, dst += 4;
	}
	if (len & 2) {
		sum += take(dst, src, 2, copy);
		src += 2, dst += 2;
	}
	if (len & 1)
		sum += take(dst, src, 1, copy);
	return sum;
}

FLATTEN uint64_t sum_all(uint8_t *dst, const uint8_t *src, size_t len, uint64_t sum, bool copy)
{
	size_t n = len < BLOCKS_MIN ? 0 : len & ~(size_t)(BLOCK - 1);

	if (n && have_avx2())
		sum = add(sum, copy ? copy_avx2(dst, src, n) : sum_avx2(src, n));
	else if (n)
		sum = add(sum, block_words(dst, src, n, copy));
	return add(sum, tail(dst + n, src + n, len - n, copy));
}

uint64_t csum_partial(const void *data, size_t len, uint64_t sum)
{
	return sum_all((uint8_t *)data, data, len, sum, false); /* never written */
}

uint64_t csum_copy(void *dst, const void *src, size_t len, uint64_t sum)
{
	return sum_all(dst, src, len, sum, true);
}

uint64_t csum_pseudo(const uint8_t *ip, uint8_t family, uint8_t proto, uint32_t l4_len)
{
	uint64_t sum = (uint64_t)htonl(l4_len) + htons(proto);

	/* source and destination lie side by side in both versions */
	return family == 4 ? csum_partial(ip + 12, 8, sum) : csum_partial(ip + 8, 32, sum);
}
