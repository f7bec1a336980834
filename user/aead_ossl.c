/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * OpenSSL backend: one cipher context per key, keyed once; a packet sets only its nonce.
 * libcrypto allocates the context itself, so its allocator is ours: what it takes while a context
 * is being made comes from secret memory. That must be arranged before its first allocation,
 * hence the constructor.
 */
#include <errno.h>
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
	EVP_CIPHER_CTX *ctx;
};

/* False: somebody's constructor was faster; contexts then lie in the ordinary heap. */
static bool own;
/* This thread is making a context. */
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

static const char *const cipher_name[AEAD_MAX] = {
	[AEAD_AES_GCM_128] = "AES-128-GCM",
	[AEAD_AES_GCM_256] = "AES-256-GCM",
	[AEAD_CHACHA20_POLY1305] = "ChaCha20-Poly1305",
};

/* Fetched once per process: fetching takes locks and walks the providers. */
static EVP_CIPHER *cipher[AEAD_MAX];

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
	if (isa)
		return -ENOENT;
	for (size_t i = 0; i < AEAD_MAX; i++) {
		if (!cipher_name[i] || cipher[i])
			continue;
		cipher[i] = EVP_CIPHER_fetch(NULL, cipher_name[i], NULL);
		if (!cipher[i])
			return -ENOENT;
	}
	if (!own)
		log_warnx("openssl was in use before us: its keys lie in ordinary memory");
	snprintf(text, AEAD_NAME_MAX, "openssl %s (%s)", OpenSSL_version(OPENSSL_VERSION_STRING),
		 isa_shown());
	return 0;
}

static uint32_t ossl_state_len(enum aead_alg alg)
{
	return sizeof(struct ossl_state);
}

static EVP_CIPHER_CTX *ctx_of(struct aead *a)
{
	return ((struct ossl_state *)a->state)->ctx;
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
		jobs[i].ok = seal_one(ctx_of(a), &jobs[i]);
}

static void ossl_open(struct aead *a, struct aead_job *jobs, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		jobs[i].ok = open_one(ctx_of(a), &jobs[i]);
}

static void ossl_teardown(struct aead *a)
{
	EVP_CIPHER_CTX_free(ctx_of(a));
}

static int ossl_setup(struct aead *a, enum aead_alg alg, const uint8_t *key)
{
	struct ossl_state *s = (struct ossl_state *)a->state;
	bool ok;

	secret = own;
	s->ctx = EVP_CIPHER_CTX_new();
	ok = s->ctx && EVP_CipherInit_ex2(s->ctx, cipher[alg], key, NULL, 1, NULL) > 0;
	secret = false;
	if (!ok) {
		ossl_teardown(a);
		return -ENOMEM;
	}
	a->seal = ossl_seal;
	a->open = ossl_open;
	return 0;
}

const struct aead_backend aead_ossl = {
	.name = "openssl",
	.init = ossl_init,
	.state_len = ossl_state_len,
	.setup = ossl_setup,
	.teardown = ossl_teardown,
};
