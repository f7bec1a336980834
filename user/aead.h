/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * aead - authenticated encryption for ESP behind one table of algorithms.
 *
 * Two backends implement it, intel-ipsec-mb (x86) and OpenSSL (everywhere);
 * chosen at run time, cross-checked by tests. Pure: no I/O, no clock.
 * A struct aead belongs to one thread at a time. RFC 4106, 7634, 8221.
 */
#ifndef AEAD_H
#define AEAD_H

#include <stddef.h>
#include <stdint.h>

enum aead_alg {
	AEAD_NONE = 0,
	AEAD_AES_GCM_128,
	AEAD_AES_GCM_256,
	AEAD_CHACHA20_POLY1305,
	AEAD_MAX
};

enum {
	AEAD_KEY_MAX = 32,
	AEAD_SALT_LEN = 4,
	AEAD_NONCE_LEN = 12,
	AEAD_TAG_LEN = 16,
	AEAD_AAD_MAX = 12,
	AEAD_BATCH = 64, /* most jobs in one call */
};

/** struct aead_desc - one row of the algorithm table */
struct aead_desc {
	enum aead_alg alg;
	const char *name; /* "aes-gcm-128", "aes-gcm-256", "chacha20-poly1305" */
	size_t key_len;
};

/** aead_by_name() / aead_by_alg() - look an algorithm up. Return: NULL when unknown. */
const struct aead_desc *aead_by_name(const char *name);
const struct aead_desc *aead_by_alg(enum aead_alg alg);

/** struct aead_job - one packet; data is crypted in place */
struct aead_job {
	const uint8_t *nonce; /* AEAD_NONCE_LEN bytes */
	const uint8_t *aad;
	uint8_t *data;
	uint8_t *tag; /* seal: written; open: compared, constant time */
	uint32_t len;
	uint32_t aad_len;
	int ok; /* 1 = authentic (open) or done (seal). When 0 the data bytes are unspecified */
};

struct aead;

/**
 * aead_backend_select() - choose the crypto backend of the process
 * @name: "auto", "ipsec-mb" or "openssl"; "ipsec-mb:" + "avx512-vaes", "avx512", "avx2", "avx" or
 *        "sse" forces a slower path of this CPU (tests, and doubts about one path)
 * Call before aead_new(), single-threaded. Keys made earlier stay with the backend they were made
 * by. Return: 0, -ENOENT when this build or CPU has none.
 */
int aead_backend_select(const char *name);

/** aead_backend_name() - e.g. "ipsec-mb 1.3.0 (AVX512, VAES)", "openssl 3.0.22 (AESNI, AVX)" */
const char *aead_backend_name(void);

/**
 * aead_new() - expand a key
 * @key: desc->key_len bytes; not kept, the caller wipes it
 * The expanded key lives in locked, non-dumpable memory where the system allows (secmem.h); a
 * forked child cannot use it. Thread-safe, like aead_free().
 * Return: NULL with errno on failure; EINVAL before aead_backend_select() or for an unknown alg.
 */
struct aead *aead_new(enum aead_alg alg, const uint8_t *key);
/** aead_free() - wipe and free; NULL is fine */
void aead_free(struct aead *a);

/** aead_seal() / aead_open() - crypt n (<= AEAD_BATCH) jobs in place with one key */
void aead_seal(struct aead *a, struct aead_job *jobs, unsigned int n);
void aead_open(struct aead *a, struct aead_job *jobs, unsigned int n);

#endif
