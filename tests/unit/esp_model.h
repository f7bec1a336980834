/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * esp_model - the peer's side of ESP, byte by byte from the RFCs and without a look at esp.c: RFC
 * 4303 2 for the packet, 4106 and 7634 for the AEADs, 4543 for GMAC, 3602, 4868, 2404 and 2410 for
 * AES-CBC and NULL with HMAC, 4303 2.2.1 for ESN.
 */
#ifndef ESP_MODEL_H
#define ESP_MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "sa.h"

static inline void model_put_be(uint8_t *p, uint64_t v, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> (8 * (n - 1 - i)));
}

/**
 * model_protect() - a packet in which everything but the protection stands already
 * @at: SPI, sequence number, IV, body of len bytes; the ICV is written behind
 * Return: did the crypto library do it?
 */
static inline bool model_protect(struct aead *a, const struct sa_conf *c, uint64_t seq, uint8_t *at,
				 uint32_t len)
{
	const struct aead_desc *d = aead_by_alg(c->alg);
	uint8_t nonce[AEAD_NONCE_LEN], aad[AEAD_AAD_MAX];
	uint8_t *body = at + 8 + d->iv_len;
	bool combined = d->kind == AEAD_COMBINED || d->kind == AEAD_MAC;
	struct aead_job j = {
		.nonce = nonce, .aad = aad, .data = body, .tag = body + len, .len = len};

	if (!combined) { /* RFC 4303 3.3.2.1: header, IV if there is one, body, high half */
		j.nonce = at + 8;
		j.aad = at;
		j.aad_len = 8u + d->iv_len;
		model_put_be((uint8_t *)&j.tail, seq >> 32, 4);
		j.tail_len = c->esn ? 4 : 0;
	} else {
		model_put_be(aad, c->spi, 4);
		model_put_be(aad + 4, seq, c->esn ? 8 : 4);
		j.aad_len = c->esn ? 12 : 8;
		memcpy(nonce, c->salt, 4);
		memcpy(nonce + 4, at + 8, 8);
	}
	if (d->kind == AEAD_MAC) { /* RFC 4543 3.3: the IV is authenticated, too */
		j.data = at + 8;
		j.len += 8;
	}
	aead_seal(a, &j, 1);
	return j.ok == 1;
}

/**
 * model_seal() - any body, valid or not, as the owner of the key would send it
 * @iv: aead_desc.iv_len bytes; @at: room for the packet. Return: its length, 0 = failed
 */
static inline uint32_t model_seal(struct aead *a, const struct sa_conf *c, uint64_t seq,
				  const uint8_t *iv, const uint8_t *body, uint32_t len, uint8_t *at)
{
	const struct aead_desc *d = aead_by_alg(c->alg);

	model_put_be(at, c->spi, 4);
	model_put_be(at + 4, seq, 4);
	memcpy(at + 8, iv, d->iv_len);
	memcpy(at + 8 + d->iv_len, body, len);
	return model_protect(a, c, seq, at, len) ? 8u + d->iv_len + len + d->icv_len : 0;
}

#endif
