/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * aead - what protects an ESP packet, behind one table of suites: AEADs, AES-GMAC, and for old peers
 * AES-CBC or NULL with a HMAC. Never encryption without integrity (RFC 8221 4).
 *
 * Two backends implement it, intel-ipsec-mb (x86) and OpenSSL (everywhere);
 * chosen at run time, cross-checked by tests. Pure: no I/O, no clock.
 * A struct aead belongs to one thread at a time. RFC 4106, 7634, 4543, 3602, 4868, 2404, 2410, 8221.
 */
#ifndef AEAD_H
#define AEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum aead_alg { /* the number goes into fingerprints: append only */
	AEAD_NONE = 0,
	AEAD_AES_GCM_128,
	AEAD_AES_GCM_256,
	AEAD_CHACHA20_POLY1305,
	AEAD_AES_GMAC_128,
	AEAD_AES_GMAC_256,
	AEAD_CBC_128_SHA256,
	AEAD_CBC_256_SHA256,
	AEAD_CBC_256_SHA384,
	AEAD_CBC_256_SHA512,
	AEAD_CBC_128_SHA1,
	AEAD_CBC_256_SHA1,
	AEAD_NULL_SHA256,
	AEAD_NULL_SHA384,
	AEAD_NULL_SHA512,
	AEAD_MAX
};

enum {
	AEAD_KEY_MAX = 32 + 64, /* cipher key, then authentication key */
	AEAD_SALT_LEN = 4,
	AEAD_NONCE_LEN = 12, /* salt || IV */
	AEAD_IV_MAX = 16,
	AEAD_TAG_LEN = 16, /* of all but the HMACs */
	AEAD_TAG_MAX = 32,
	AEAD_AAD_MAX = 12,
	AEAD_BATCH = 64, /* most jobs in one call */
};

/** enum aead_kind - how a suite uses the parts of a job */
enum aead_kind {
	AEAD_COMBINED, /* aad is authenticated, data encrypted and authenticated: GCM, ChaCha20-Poly1305 */
	AEAD_MAC,      /* nothing is encrypted: aad, then data, are authenticated: RFC 4543 */
	AEAD_CBC_HMAC, /* data is encrypted; aad, ciphertext and tail are authenticated: RFC 3602, 4868 */
	AEAD_HMAC,     /* nothing is encrypted; aad, data and tail are authenticated: RFC 2410 */
};

/** aead_has_tail() - is the packet itself authenticated, aad and data in one piece, and a tail behind it? */
static inline bool aead_has_tail(enum aead_kind k)
{
	return k == AEAD_CBC_HMAC || k == AEAD_HMAC;
}

/** aead_encrypts() - false: whoever taps the wire reads every packet */
static inline bool aead_encrypts(enum aead_kind k)
{
	return k != AEAD_MAC && k != AEAD_HMAC;
}

/** struct aead_desc - one row of the table of suites */
struct aead_desc {
	enum aead_alg alg;
	const char *name; /* "aes-gcm-128", ... as SA files and people write it */
	enum aead_kind kind;
	uint8_t key_len;      /* of the cipher */
	uint8_t auth_key_len; /* of the HMAC, behind the cipher's; 0 = none of its own */
	uint8_t salt_len;
	uint8_t iv_len;  /* explicit IV in every packet */
	uint8_t icv_len; /* tag in every packet */
	uint8_t align;   /* what is encrypted, with padding, is a multiple of this: RFC 4303 2.4 */
	bool iv_counter; /* the IV is a counter; else there is none or it is unpredictable: RFC 3602 3 */
	const char *level; /* RFC 8221 5 and 6; the lower of its two halves */
	const char *spec;
};

/** aead_by_name() / aead_by_alg() - look a suite up. Return: NULL when unknown. */
const struct aead_desc *aead_by_name(const char *name);
const struct aead_desc *aead_by_alg(enum aead_alg alg);
/** aead_key_bytes() - cipher key and authentication key together */
static inline size_t aead_key_bytes(const struct aead_desc *d)
{
	return (size_t)d->key_len + d->auth_key_len;
}
/** aead_names() - "aes-gcm-128, aes-gcm-256, ...". Return: a static string */
const char *aead_names(void);
/**
 * aead_refusal() - why there is no suite of this name, and what to take instead
 * Return: a static sentence that repeats nothing of name
 */
const char *aead_refusal(const char *name);

/**
 * struct aead_job - one packet; data is crypted in place, save where from says otherwise
 * AEAD_CBC_HMAC, AEAD_HMAC: nonce is the IV (16 bytes, or not looked at); aad ends where data begins
 * and tag begins where data ends, as in a packet. AEAD_CBC_HMAC: len is a multiple of 16.
 */
struct aead_job {
	const uint8_t *nonce; /* AEAD_NONCE_LEN bytes, or the IV */
	const uint8_t *aad;
	uint8_t *data;
	const uint8_t *from; /* seal: the plaintext, which is not at data; NULL = it is */
	uint8_t *tag; /* seal: written; open: compared, constant time */
	uint32_t len;
	uint32_t aad_len;
	uint32_t tail; /* with a HMAC and tail_len 4: authenticated after data, not in the packet */
	uint8_t tail_len; /* 0 or 4: ESN's high half, RFC 4303 2.2.1 */
	uint8_t ok; /* 1 = authentic (open) or done (seal). When 0 the data bytes are unspecified */
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
 * @key: aead_key_bytes() bytes; not kept, the caller wipes it
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

/**
 * aead_ivs() - n (<= AEAD_BATCH) unpredictable IVs, for suites without iv_counter
 * @first: n numbers from here on, none ever used before under this key
 * NIST SP 800-38A appendix C, first method: the cipher over a unique block, here the number and 64
 * random bits drawn by aead_new(), under a key derived from the SA's. One key is one permutation,
 * so IVs repeat only if the number repeats (I2); and should the durable counter be lost or copied,
 * the random half still differs.
 */
void aead_ivs(struct aead *a, uint64_t first, uint8_t (*iv)[AEAD_IV_MAX], unsigned int n);

#endif
