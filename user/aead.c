/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <endian.h>
#include <errno.h>
#include <fnmatch.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include "aead_backend.h"
#include "secmem.h"
#include "util.h"

#define COMBINED(ALG, NAME, KEY, LEVEL, SPEC)                                                      \
	{.alg = ALG, .name = NAME, .kind = AEAD_COMBINED, .key_len = KEY, .salt_len = 4,           \
	 .iv_len = 8, .icv_len = 16, .align = 4, .iv_counter = true, .level = LEVEL, .spec = SPEC}
#define GMAC(ALG, NAME, KEY)                                                                       \
	{.alg = ALG, .name = NAME, .kind = AEAD_MAC, .key_len = KEY, .salt_len = 4, .iv_len = 8,   \
	 .icv_len = 16, .align = 4, .iv_counter = true, .level = "MAY", .spec = "RFC 4543"}
#define CBC_HMAC(ALG, NAME, KEY, AUTH, LEVEL)                                                      \
	{.alg = ALG, .name = NAME, .kind = AEAD_CBC_HMAC, .key_len = KEY, .auth_key_len = AUTH,    \
	 .iv_len = 16, .icv_len = AUTH / 2, .align = 16, .level = LEVEL,                           \
	 .spec = "RFC 3602, 4868"}
#define CBC_SHA1(ALG, NAME, KEY)                                                                   \
	{.alg = ALG, .name = NAME, .kind = AEAD_CBC_HMAC, .key_len = KEY, .auth_key_len = 20,      \
	 .iv_len = 16, .icv_len = 12, .align = 16, .level = "MUST-", .spec = "RFC 3602, 2404"}
#define NULL_HMAC(ALG, NAME, AUTH, LEVEL)                                                          \
	{.alg = ALG, .name = NAME, .kind = AEAD_HMAC, .auth_key_len = AUTH, .icv_len = AUTH / 2,   \
	 .align = 4, .level = LEVEL, .spec = "RFC 2410, 4868"}

static const struct aead_desc descs[] = {
	COMBINED(AEAD_AES_GCM_128, "aes-gcm-128", 16, "MUST", "RFC 4106"),
	COMBINED(AEAD_AES_GCM_256, "aes-gcm-256", 32, "MUST", "RFC 4106"),
	COMBINED(AEAD_CHACHA20_POLY1305, "chacha20-poly1305", 32, "SHOULD", "RFC 7634"),
	GMAC(AEAD_AES_GMAC_128, "aes-gmac-128", 16),
	GMAC(AEAD_AES_GMAC_256, "aes-gmac-256", 32),
	CBC_HMAC(AEAD_CBC_128_SHA256, "aes-cbc-128-hmac-sha2-256", 16, 32, "MUST"),
	CBC_HMAC(AEAD_CBC_256_SHA256, "aes-cbc-256-hmac-sha2-256", 32, 32, "MUST"),
	CBC_HMAC(AEAD_CBC_256_SHA384, "aes-cbc-256-hmac-sha2-384", 32, 48, "unrated"),
	CBC_HMAC(AEAD_CBC_256_SHA512, "aes-cbc-256-hmac-sha2-512", 32, 64, "SHOULD"),
	CBC_SHA1(AEAD_CBC_128_SHA1, "aes-cbc-128-hmac-sha1", 16),
	CBC_SHA1(AEAD_CBC_256_SHA1, "aes-cbc-256-hmac-sha1", 32),
	NULL_HMAC(AEAD_NULL_SHA256, "null-hmac-sha2-256", 32, "MUST"),
	NULL_HMAC(AEAD_NULL_SHA384, "null-hmac-sha2-384", 48, "unrated"),
	NULL_HMAC(AEAD_NULL_SHA512, "null-hmac-sha2-512", 64, "SHOULD"),
};

/* What people may ask for and must not get. First match counts; patterns of fnmatch(3). */
static const struct {
	const char *pattern, *why;
} refused[] = {
	{"*sha1*", "HMAC-SHA-1 is on its way out (RFC 8221 6): use aes-cbc-128-hmac-sha2-256, or for a peer "
		   "that knows nothing better aes-cbc-128-hmac-sha1"},
	{"*md5*", "HMAC-MD5 is forbidden (RFC 8221 6): use aes-cbc-128-hmac-sha2-256"},
	{"*des*", "DES and 3DES are obsolete (RFC 8221 5): use aes-gcm-128"},
	{"*null*", "without encryption there are aes-gmac-128 and null-hmac-sha2-256, and nothing without "
		   "integrity (RFC 8221 4, 6)"},
	{"none", "neither encryption nor integrity: use aes-gcm-128"},
	{"*-192*", "192-bit keys are left out (RFC 8221 5 makes them a MAY): use 128 or 256"},
	{"aes-ccm*", "AES-CCM is for small devices (RFC 8221 5): use aes-gcm-128"},
	{"aes-ctr*", "aes-ctr has no integrity (RFC 8221 4): use aes-gcm-128"},
	{"aes-cbc*hmac*", "AES-CBC goes with 128 or 256 bits and hmac-sha2-256, -384 or -512: "
			  "as aes-cbc-128-hmac-sha2-256"},
	{"aes-cbc*", "aes-cbc alone has no integrity (RFC 8221 4): use aes-gcm-128, or "
		     "aes-cbc-128-hmac-sha2-256"},
	{"hmac*", "an HMAC goes with a cipher, as aes-cbc-128-hmac-sha2-256; integrity alone is "
		  "aes-gmac-128 or null-hmac-sha2-256"},
};

static const struct aead_backend *const backends[] = {
#ifdef HAVE_IPSEC_MB
	&aead_mb,
#endif
	&aead_ossl,
};

static const struct aead_backend *chosen;
static char shown[AEAD_NAME_MAX] = "none";

const struct aead_desc *aead_by_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(descs); i++)
		if (!strcmp(descs[i].name, name))
			return &descs[i];
	return NULL;
}

const struct aead_desc *aead_by_alg(enum aead_alg alg)
{
	for (size_t i = 0; i < ARRAY_SIZE(descs); i++)
		if (descs[i].alg == alg)
			return &descs[i];
	return NULL;
}

const char *aead_names(void)
{
	static char names[32 * AEAD_MAX];
	size_t n = 0;

	if (*names)
		return names;
	for (size_t i = 0; i < ARRAY_SIZE(descs); i++)
		n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "",
				      descs[i].name);
	return names;
}

const char *aead_refusal(const char *name)
{
	static char unknown[sizeof "unknown; one of " + 32 * AEAD_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		if (!fnmatch(refused[i].pattern, name, FNM_CASEFOLD))
			return refused[i].why;
	snprintf(unknown, sizeof unknown, "unknown; one of %s", aead_names());
	return unknown;
}

static int try_backend(const struct aead_backend *b, const char *isa)
{
	char name[AEAD_NAME_MAX];
	int err = b->init(isa, name);

	if (err)
		return err;
	chosen = b;
	memcpy(shown, name, sizeof shown);
	return 0;
}

/* "ipsec-mb" and "ipsec-mb:avx2" both mean backend "ipsec-mb". */
static bool is_called(const struct aead_backend *b, const char *name, const char **isa)
{
	size_t n = strlen(b->name);

	if (strncmp(b->name, name, n) || (name[n] && name[n] != ':'))
		return false;
	*isa = name[n] ? name + n + 1 : NULL;
	return true;
}

int aead_backend_select(const char *name)
{
	bool any = !strcmp(name, "auto");
	const char *isa = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(backends); i++)
		if ((any || is_called(backends[i], name, &isa)) && !try_backend(backends[i], isa))
			return 0;
	return -ENOENT;
}

const char *aead_backend_name(void)
{
	return shown;
}

/* The key of aead_ivs(): the same for the same SA key, of no use for anything else. */
static int derive_iv_key(const struct aead_desc *d, const uint8_t *key,
			 uint8_t iv_key[AEAD_IV_KEY_LEN])
{
	static const uint8_t label[] = "espwire cbc iv 1";

	return HMAC(EVP_sha256(), key, (int)aead_key_bytes(d), label, sizeof label, iv_key, NULL) ?
		       0 :
		       -ENOMEM;
}

static int setup(struct aead *a, const struct aead_desc *d, const uint8_t *key)
{
	uint8_t iv_key[AEAD_IV_KEY_LEN];
	int err;

	if (d->kind != AEAD_CBC_HMAC)
		return chosen->setup(a, d, key, NULL);
	/* short reads do not happen at this size once the pool is initialised (getrandom(2)) */
	if (getrandom(&a->iv_random, sizeof a->iv_random, 0) != sizeof a->iv_random)
		return -EIO;
	err = derive_iv_key(d, key, iv_key);
	if (!err)
		err = chosen->setup(a, d, key, iv_key);
	explicit_bzero(iv_key, sizeof iv_key);
	return err;
}

struct aead *aead_new(enum aead_alg alg, const uint8_t *key)
{
	const struct aead_desc *d = aead_by_alg(alg);
	struct aead *a;
	int err;

	if (!chosen || !d) {
		errno = EINVAL;
		return NULL;
	}
	a = secmem_alloc(sizeof *a + chosen->state_len(d));
	if (!a)
		return NULL;
	a->backend = chosen;
	err = setup(a, d, key);
	if (err) {
		secmem_free(a);
		errno = -err;
		return NULL;
	}
	return a;
}

void aead_free(struct aead *a)
{
	if (!a)
		return;
	if (a->backend->teardown)
		a->backend->teardown(a);
	secmem_free(a);
}

void aead_seal(struct aead *a, struct aead_job *jobs, unsigned int n)
{
	for (unsigned int i = 0; i < n && !a->apart; i++)
		if (jobs[i].from)
			memcpy(jobs[i].data, jobs[i].from, jobs[i].len);
	a->seal(a, jobs, n);
}

void aead_open(struct aead *a, struct aead_job *jobs, unsigned int n)
{
	a->open(a, jobs, n);
}

void aead_ivs(struct aead *a, uint64_t first, uint8_t (*iv)[AEAD_IV_MAX], unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		uint64_t number_be = htobe64(first + i);

		memcpy(iv[i], &number_be, sizeof number_be);
		memcpy(iv[i] + sizeof number_be, &a->iv_random, sizeof a->iv_random);
	}
	a->backend->ecb(a, iv[0], n);
}
