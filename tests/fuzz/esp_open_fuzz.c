/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * esp_open_fuzz - whatever comes out of the wild, and whatever a peer with the right key may send.
 *
 * Input: one byte of choices, then packets, each a 2-byte length and its bytes. A packet is either
 * taken as it is, or as a body (with trailer) that the harness authenticates with the SA's key, so
 * that the code behind the ICV sees hostile bytes too. Held up: no access outside the packet, a
 * refused packet changes neither window nor counter, what is accepted lies inside what was given,
 * and the same packets again deliver nothing.
 */
#include <endian.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "esp.h"
#include "fuzz_main.h"
#include "../unit/esp_model.h"

enum { WINDOW = 64, PKT_MAX = 2048 };
enum { F_ALG = 3, F_ESN = 4, F_AUTHENTIC = 8, F_NEAR_WRAP = 16, F_OUR_SPI = 32, F_MORE_ALG = 0xc0 };

struct rig {
	struct sa_in in;
	struct sa_conf conf;
	uint64_t top, words[2], lost, seq;
	uint8_t flags;
};

/* The AEADs with neither bit of F_MORE_ALG, then AES-GMAC and the CBC suites. */
static enum aead_alg alg_of(uint8_t flags)
{
	unsigned int n = (flags & F_ALG) % 3u + 3u * ((flags & F_MORE_ALG) >> 6);

	return (enum aead_alg)(AEAD_NONE + 1 + n % (AEAD_MAX - 1));
}

static void rig_init(struct rig *g, uint8_t flags)
{
	memset(g, 0, sizeof *g);
	g->flags = flags;
	g->conf = (struct sa_conf){.dir = SA_IN,
				   .spi = 0x01020304,
				   .alg = alg_of(flags),
				   .esn = flags & F_ESN,
				   .window = WINDOW};
	if (flags & F_NEAR_WRAP)
		g->conf.seq_start = g->conf.esn ? UINT32_MAX - 100 : UINT32_MAX - 5;
	g->seq = g->conf.seq_start;
	HOLD(!sa_in_init(&g->in, &g->conf, &g->top, g->words));
}

/* Turn body into the packet its owner would have sent. Return: bytes at out */
static uint32_t authenticate(struct rig *g, const uint8_t *body, uint32_t len, uint8_t *out)
{
	uint8_t iv[AEAD_IV_MAX] = {0};
	uint32_t n;

	g->seq++;
	model_put_be(iv, g->seq, sizeof g->seq);
	n = model_seal(g->in.aead, &g->conf, g->seq, iv, body, len, out);
	HOLD(n);
	return n;
}

static bool authentic(enum drop d)
{
	return d == DROP_NONE || d == DROP_BAD_PAD || d == DROP_BAD_NEXT_HEADER ||
	       d == DROP_INNER_VERSION;
}

static void check_result(const struct rig *g, const struct esp_pkt *p, const uint8_t *at,
			 uint32_t len)
{
	const struct esp_layout l = g->in.layout;

	HOLD(p->drop < DROP_MAX);
	if (p->drop)
		return;
	HOLD(p->data == at + esp_headroom(l) && p->len <= len - esp_headroom(l) - l.icv_len - 2);
	HOLD(p->next == NEXT_IP4 || p->next == NEXT_IP6 || p->next == NEXT_NONE);
	if (p->next == NEXT_IP4)
		HOLD(p->len >= 20 && p->data[0] >> 4 == 4 &&
		     p->len == ((uint32_t)p->data[2] << 8 | p->data[3]));
	if (p->next == NEXT_IP6)
		HOLD(p->len >= 40 && p->data[0] >> 4 == 6 &&
		     p->len == 40 + ((uint32_t)p->data[4] << 8 | p->data[5]));
}

/* One packet in memory of exactly its size. Return: what became of it */
static enum drop open_once(struct rig *g, const uint8_t *pkt, uint32_t len)
{
	uint64_t top = g->top, lost = g->lost, words[2] = {g->words[0], g->words[1]};
	struct esp_pkt p = {.data = malloc(len ? len : 1), .len = len};
	uint8_t *at = p.data;

	HOLD(at);
	memcpy(at, pkt, len);
	esp_open(&g->in, &p, 1, &g->lost);
	check_result(g, &p, at, len);
	if (!authentic(p.drop))
		HOLD(top == g->top && lost == g->lost && !memcmp(words, g->words, sizeof words));
	free(at);
	return p.drop;
}

static void one(struct rig *g, const uint8_t *bytes, uint32_t len)
{
	uint8_t pkt[PKT_MAX + ESP_HEADROOM_MAX + ESP_ICV_MAX];
	enum drop first;
	uint32_t n;

	if (!(g->flags & F_AUTHENTIC)) {
		memcpy(pkt, bytes, len);
		if (g->flags & F_OUR_SPI && len >= 4)
			memcpy(pkt, &g->in.spi_be, 4);
		HOLD(!authentic(open_once(g, pkt, len))); /* or somebody forged a tag */
		return;
	}
	len &= -(uint32_t)(g->in.kind == AEAD_CBC_HMAC ? g->in.layout.align : 1);
	n = authenticate(g, bytes, len, pkt);
	first = open_once(g, pkt, n);
	if (len < 2)
		HOLD(first == DROP_SHORT);
	else if (g->conf.esn || g->seq <= UINT32_MAX)
		HOLD(authentic(first));
	HOLD(!authentic(open_once(g, pkt, n)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready;
	struct rig g;

	if (!ready)
		HOLD(!aead_backend_select(getenv("BACKEND") ? getenv("BACKEND") : "auto"));
	ready = true;
	if (!size)
		return 0;
	rig_init(&g, *data++);
	size--;
	while (size >= 2) {
		uint32_t len = (data[0] << 8 | data[1]) % (PKT_MAX + 1);

		data += 2;
		size -= 2;
		if (len > size)
			len = (uint32_t)size;
		one(&g, data, len);
		data += len;
		size -= len;
	}
	sa_in_fini(&g.in);
	return 0;
}

#ifndef FUZZ_LIBFUZZER
/* Mostly plausible trailers, so that random inputs get past the first checks. */
static size_t make_input(uint64_t *s, uint8_t *buf, size_t room)
{
	static const uint8_t nexts[] = {NEXT_IP4, NEXT_IP6, NEXT_NONE, 0};
	size_t n = 0;

	buf[n++] = (uint8_t)fuzz_random(s);
	for (uint64_t k = 1 + fuzz_random(s) % 8; k; k--) {
		size_t len = fuzz_random(s) % 300;

		if (n + 2 + len > room)
			break;
		buf[n++] = (uint8_t)(len >> 8);
		buf[n++] = (uint8_t)len;
		for (size_t i = 0; i < len; i++)
			buf[n + i] = (uint8_t)fuzz_random(s);
		if (len > 50 && fuzz_random(s) % 4) {
			buf[n] = fuzz_random(s) % 2 ? 0x45 : 0x60;
			memset(buf + n + 1, 0, 4);
			buf[n + 3] = buf[n + 5] = (uint8_t)(fuzz_random(s) % 64);
			buf[n + len - 2] = fuzz_random(s) % 4 ? 0 : (uint8_t)fuzz_random(s);
			buf[n + len - 1] = nexts[fuzz_random(s) % 4];
		}
		n += len;
	}
	return n;
}
#endif
