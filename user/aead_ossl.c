/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * OpenSSL backend: contexts made and keyed once per key; a packet sets only its nonce.
 * libcrypto allocates the contexts itself, so its allocator is ours: what it takes while a context
 * is being made comes from secret memory. That must be arranged before its first allocation,
 * hence the constructor. A HMAC context copies its keyed digests for every packet, so its packets
 * are secret memory's as well.
 */
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "aead_backend.h"
#include "log.h"
#include "secmem.h"
#include "util.h"

struct ossl_state {
	EVP_CIPHER_CTX *ctx; /* AEAD, GMAC; CBC: encrypts; NULL: nothing is encrypted */
	EVP_CIPHER_CTX *dec; /* CBC: decrypts */
	EVP_CIPHER_CTX *ecb; /* CBC: makes IVs */
	EVP_MAC_CTX *mac;    /* HMAC */
	size_t icv_len;
};

/* False: somebody's constructor was faster; contexts then lie in the ordinary heap. */
static bool own;
/* This thread is making a context, or using one that copies itself. */
static __thread bool secret;

static void *ossl_malloc(size_t len, const char *file, int line)
{
	if (!len)
		return NULL;
	return secret && len <= SECMEM_SLOT_MAX ? secmem_alloc(len) : malloc(len);
}

static void ossl_free(void *p, const char *file, int line)
{
	if (secmem_owns(p))
		secmem_free(p);
	else
		free(p);
}

static void *ossl_realloc(void *p, size_t len, const char *file, int line)
{
	void *q;

	if (!len) {
		ossl_free(p, file, line);
		return NULL;
	}
	if (!secmem_owns(p) && !(secret && !p))
		return realloc(p, len);
	q = ossl_malloc(len, file, line);
	if (p && q) {
		memcpy(q, p, MIN(len, secmem_len(p)));
		secmem_free(p);
	}
	return q;
}

__attribute__((constructor)) static void own_allocator(void)
{
	own = CRYPTO_set_mem_functions(ossl_malloc, ossl_realloc, ossl_free);
}

/* Fetched once per process: fetching takes locks and walks the providers. */
static struct {
	EVP_CIPHER *cipher[AEAD_MAX], *ecb;
	EVP_MAC *hmac;
} got;

static const char *cipher_name(const struct aead_desc *d)
{
	if (d->alg == AEAD_CHACHA20_POLY1305)
		return "ChaCha20-Poly1305";
	if (d->kind == AEAD_CBC_HMAC)
		return d->key_len == 16 ? "AES-128-CBC" : "AES-256-CBC";
	return d->key_len == 16 ? "AES-128-GCM" : "AES-256-GCM";
}

static const char *digest_name(const struct aead_desc *d)
{
	switch (d->auth_key_len) { /* RFC 2404 3, RFC 4868 2.1.1 */
	case 20:
		return "SHA1";
	case 32:
		return "SHA256";
	case 48:
		return "SHA384";
	default:
		return "SHA512";
	}
}

static EVP_MAC_CTX *keyed_hmac(const struct aead_desc *d, const uint8_t *key)
{
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)digest_name(d), 0),
		OSSL_PARAM_END,
	};
	EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(got.hmac);

	if (ctx && EVP_MAC_init(ctx, key, d->auth_key_len, params) > 0)
		return ctx;
	EVP_MAC_CTX_free(ctx);
	return NULL;
}

/*
 * Making a HMAC fetches its digest, which then belongs to the library: it must not come to lie in
 * secret memory, so once beforehand with a key that is none.
 */
static int fetch_digest(const struct aead_desc *d)
{
	static const uint8_t none[64];
	EVP_MAC_CTX *ctx = keyed_hmac(d, none);

	EVP_MAC_CTX_free(ctx);
	return ctx ? 0 : -ENOENT;
}

static int fetch(void)
{
	for (enum aead_alg i = AEAD_NONE + 1; i < AEAD_MAX; i++) {
		if (!aead_by_alg(i)->key_len)
			continue;
		if (!got.cipher[i])
			got.cipher[i] = EVP_CIPHER_fetch(NULL, cipher_name(aead_by_alg(i)), NULL);
		if (!got.cipher[i])
			return -ENOENT;
	}
	if (!got.ecb)
		got.ecb = EVP_CIPHER_fetch(NULL, "AES-256-ECB", NULL);
	if (!got.hmac)
		got.hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	for (enum aead_alg i = AEAD_NONE + 1; got.hmac && i < AEAD_MAX; i++)
		if (aead_by_alg(i)->auth_key_len && fetch_digest(aead_by_alg(i)))
			return -ENOENT;
	return got.ecb && got.hmac ? 0 : -ENOENT;
}

/* Which code libcrypto takes for AES follows from its view of CPUID: bits of leaf 1 ECX. */
static const char *isa_shown(void)
{
#if defined(__x86_64__) || defined(__i386__)
	enum { PCLMULQDQ = 33, AESNI = 57, AVX = 60 };
	const char *s = OPENSSL_info(OPENSSL_INFO_CPU_SETTINGS);
	const char *v = s ? strstr(s, "0x") : NULL;
	uint64_t cap = v ? strtoull(v, NULL, 16) : 0;

	if (!(cap >> AESNI & 1))
		return "generic";
	if (!(cap >> PCLMULQDQ & 1))
		return "AESNI, no PCLMULQDQ";
	return cap >> AVX & 1 ? "AESNI, AVX" : "AESNI";
#elif defined(__aarch64__)
	return "ARMv8";
#else
	return "generic";
#endif
}

static int ossl_init(const char *isa, char text[AEAD_NAME_MAX])
{
	if (isa || fetch())
		return -ENOENT;
	if (!own)
		log_warnx("openssl was in use before us: its keys lie in ordinary memory");
	snprintf(text, AEAD_NAME_MAX, "openssl %s (%s)", OpenSSL_version(OPENSSL_VERSION_STRING),
		 isa_shown());
	return 0;
}

static uint32_t ossl_state_len(const struct aead_desc *d)
{
	return sizeof(struct ossl_state);
}

static struct ossl_state *state_of(struct aead *a)
{
	return (struct ossl_state *)a->state;
}

static int seal_one(EVP_CIPHER_CTX *c, const struct aead_job *j)
{
	int n;

	return EVP_EncryptInit_ex2(c, NULL, NULL, j->nonce, NULL) > 0 &&
	       EVP_EncryptUpdate(c, NULL, &n, j->aad, (int)j->aad_len) > 0 &&
	       (!j->len || EVP_EncryptUpdate(c, j->data, &n, j->data, (int)j->len) > 0) &&
	       EVP_EncryptFinal_ex(c, j->data + j->len, &n) > 0 &&
	       EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG_LEN, j->tag) > 0;
}

/* The comparison is libcrypto's CRYPTO_memcmp(): constant time. */
static int open_one(EVP_CIPHER_CTX *c, const struct aead_job *j)
{
	int n;

	return EVP_DecryptInit_ex2(c, NULL, NULL, j->nonce, NULL) > 0 &&
	       EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, AEAD_TAG_LEN, j->tag) > 0 &&
	       EVP_DecryptUpdate(c, NULL, &n, j->aad, (int)j->aad_len) > 0 &&
	       (!j->len || EVP_DecryptUpdate(c, j->data, &n, j->data, (int)j->len) > 0) &&
	       EVP_DecryptFinal_ex(c, j->data + j->len, &n) > 0;
}

static void ossl_seal(struct aead *a, struct aead_job *jobs, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		jobs[i].ok = (uint8_t)seal_one(state_of(a)->ctx, &jobs[i]);
}

static void ossl_open(struct aead *a, struct aead_job *jobs, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		jobs[i].ok = (uint8_t)open_one(state_of(a)->ctx, &jobs[i]);
}

/* --- GMAC: GCM over nothing, with everything as its AAD (RFC 4543 3.2) ----------------------------- */

static int gmac_feed(EVP_CIPHER_CTX *c, const struct aead_job *j)
{
	int n;

	return EVP_EncryptInit_ex2(c, NULL, NULL, j->nonce, NULL) > 0 &&
	       EVP_EncryptUpdate(c, NULL, &n, j->aad, (int)j->aad_len) > 0 &&
	       (!j->len || EVP_EncryptUpdate(c, NULL, &n, j->data, (int)j->len) > 0);
}

static int gmac_tag(EVP_CIPHER_CTX *c, const struct aead_job *j, uint8_t *tag)
{
	uint8_t none[AEAD_IV_MAX];
	int n;

	return gmac_feed(c, j) && EVP_EncryptFinal_ex(c, none, &n) > 0 &&
	       EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG_LEN, tag) > 0;
}

static void gmac_seal(struct aead *a, struct aead_job *jobs, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		jobs[i].ok = (uint8_t)gmac_tag(state_of(a)->ctx, &jobs[i], jobs[i].tag);
}

static void gmac_open(struct aead *a, struct aead_job *jobs, unsigned int n)
{
	uint8_t tag[AEAD_TAG_LEN];

	for (unsigned int i = 0; i < n; i++)
		jobs[i].ok = gmac_tag(state_of(a)->ctx, &jobs[i], tag) &&
			     !CRYPTO_memcmp(tag, jobs[i].tag, sizeof tag);
}

/* --- HMAC, and AES-CBC in front of it -------------------------------------------------------------------------- */

/* c NULL: nothing is encrypted */
static int cbc_crypt(EVP_CIPHER_CTX *c, const struct aead_job *j)
{
	int n;

	if (!c)
		return 1;
	return EVP_CipherInit_ex2(c, NULL, NULL, j->nonce, -1, NULL) > 0 &&
	       (!j->len || EVP_CipherUpdate(c, j->data, &n, j->data, (int)j->len) > 0);
}

static int hmac(const struct ossl_state *s, const struct aead_job *j, uint8_t tag[EVP_MAX_MD_SIZE])
{
	size_t len;

	return EVP_MAC_init(s->mac, NULL, 0, NULL) > 0 &&
	       EVP_MAC_update(s->mac, j->aad, j->aad_len) > 0 &&
	       EVP_MAC_update(s->mac, j->data, j->len) > 0 &&
	       EVP_MAC_update(s->mac, (const uint8_t *)&j->tail, j->tail_len) > 0 &&
	       EVP_MAC_final(s->mac, tag, &len, EVP_MAX_MD_SIZE) > 0;
}

static void hmac_seal(struct aead *a, struct aead_job *jobs, unsigned int n)
{
	const struct ossl_state *s = state_of(a);
	uint8_t tag[EVP_MAX_MD_SIZE];

	secret = own;
	for (unsigned int i = 0; i < n; i++) {
		jobs[i].ok = cbc_crypt(s->ctx, &jobs[i]) && hmac(s, &jobs[i], tag);
		memcpy(jobs[i].tag, tag, s->icv_len);
	}
	secret = false;
}

/* RFC 4303 3.4.4.1: the ICV first; only what is authentic is decrypted. */
static void hmac_open(struct aead *a, struct aead_job *jobs, unsigned int n)
{
	const struct ossl_state *s = state_of(a);
	uint8_t tag[EVP_MAX_MD_SIZE];

	secret = own;
	for (unsigned int i = 0; i < n; i++)
		jobs[i].ok = hmac(s, &jobs[i], tag) &&
			     !CRYPTO_memcmp(tag, jobs[i].tag, s->icv_len) &&
			     cbc_crypt(s->dec, &jobs[i]);
	secret = false;
}

static void cbc_ecb(struct aead *a, uint8_t *blocks, unsigned int n)
{
	int len;

	EVP_EncryptUpdate(state_of(a)->ecb, blocks, &len, blocks, (int)n * 16);
}

/* --- life -------------------------------------------------------------------------------------- */

static void ossl_teardown(struct aead *a)
{
	struct ossl_state *s = state_of(a);

	EVP_CIPHER_CTX_free(s->ctx);
	EVP_CIPHER_CTX_free(s->dec);
	EVP_CIPHER_CTX_free(s->ecb);
	EVP_MAC_CTX_free(s->mac);
}

static EVP_CIPHER_CTX *keyed(const EVP_CIPHER *c, const uint8_t *key, int enc)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

	if (ctx && EVP_CipherInit_ex2(ctx, c, key, NULL, enc, NULL) > 0 &&
	    EVP_CIPHER_CTX_set_padding(ctx, 0) > 0)
		return ctx;
	EVP_CIPHER_CTX_free(ctx);
	return NULL;
}

static bool cbc_setup(struct ossl_state *s, const struct aead_desc *d, const uint8_t *key,
		      const uint8_t *iv_key)
{
	s->dec = keyed(got.cipher[d->alg], key, 0);
	s->ecb = keyed(got.ecb, iv_key, 1);
	return s->dec && s->ecb;
}

static bool hmac_setup(struct aead *a, const struct aead_desc *d, const uint8_t *key,
		       const uint8_t *iv_key)
{
	struct ossl_state *s = state_of(a);

	s->icv_len = d->icv_len;
	s->mac = keyed_hmac(d, key + d->key_len);
	a->seal = hmac_seal;
	a->open = hmac_open;
	return s->mac && (!iv_key || cbc_setup(s, d, key, iv_key));
}

static int ossl_setup(struct aead *a, const struct aead_desc *d, const uint8_t *key,
		      const uint8_t *iv_key)
{
	bool ok;

	secret = own;
	if (d->key_len)
		state_of(a)->ctx = keyed(got.cipher[d->alg], key, 1);
	ok = state_of(a)->ctx || !d->key_len;
	if (ok && aead_has_tail(d->kind))
		ok = hmac_setup(a, d, key, iv_key);
	secret = false;
	if (!ok) {
		ossl_teardown(a);
		return -ENOMEM;
	}
	if (aead_has_tail(d->kind))
		return 0;
	a->seal = d->kind == AEAD_MAC ? gmac_seal : ossl_seal;
	a->open = d->kind == AEAD_MAC ? gmac_open : ossl_open;
	return 0;
}

const struct aead_backend aead_ossl = {
	.name = "openssl",
	.init = ossl_init,
	.state_len = ossl_state_len,
	.setup = ossl_setup,
	.teardown = ossl_teardown,
	.ecb = cbc_ecb,
};
