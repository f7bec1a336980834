/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Published answers on every backend and path, tampering, batches, thousands of keys, wiping. */
#define OPENSSL_SUPPRESS_DEPRECATED /* SHA256_CTX shows its state, EVP does not */
#include <dlfcn.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#include "crypto_rig.h"
#include "aead_backend.h"
#include "secmem.h"
#include "../vectors/aead_vectors.h"
#include "../vectors/cbc_vectors.h"
#include "../vectors/esp_vectors.h"
#ifdef HAVE_IPSEC_MB
#include <intel-ipsec-mb.h>
#endif

enum { FRONT = 64, DATA_MAX = 4096 };

/* One call in bytes, laid out as in a packet: aad ends at buf + FRONT, data begins there, tag behind. */
struct text {
	uint8_t key[AEAD_KEY_MAX], nonce[AEAD_NONCE_LEN];
	uint8_t buf[FRONT + DATA_MAX + AEAD_TAG_MAX];
	uint32_t len, aad_len, tail;
	uint8_t tail_len;
	enum aead_alg alg;
};

static uint8_t *data_of(struct text *t)
{
	return t->buf + FRONT;
}

static uint8_t *aad_of(struct text *t)
{
	return data_of(t) - t->aad_len;
}

static uint8_t *tag_of(struct text *t)
{
	return data_of(t) + t->len;
}

/* len and aad_len are set: one piece from aad to tag. */
static uint32_t whole_len(const struct text *t)
{
	return t->aad_len + t->len + aead_by_alg(t->alg)->icv_len;
}

static struct aead_job job_of(struct text *t)
{
	return (struct aead_job){.nonce = aead_by_alg(t->alg)->kind == AEAD_CBC_HMAC ?
						  data_of(t) - AEAD_IV_MAX :
						  t->nonce,
				 .aad = aad_of(t),
				 .data = data_of(t),
				 .tag = tag_of(t),
				 .len = t->len,
				 .aad_len = t->aad_len,
				 .tail = t->tail,
				 .tail_len = t->tail_len,
				 .ok = 7};
}

static int open_one(struct aead *a, struct text *t)
{
	struct aead_job j = job_of(t);

	aead_open(a, &j, 1);
	return j.ok;
}

static void seal_one(struct aead *a, struct text *t)
{
	struct aead_job j = job_of(t);

	aead_seal(a, &j, 1);
	assert_int_equal(j.ok, 1);
}

/* key, nonce and aad of t are set; plain becomes sealed (ciphertext, tag) and back. */
static void known_answer(const char *source, struct text *t, const uint8_t *plain, uint32_t len,
			 const uint8_t *sealed)
{
	uint32_t icv_len = aead_by_alg(t->alg)->icv_len;
	struct aead *a = aead_new(t->alg, t->key);

	assert_non_null(a);
	t->len = len;
	memcpy(data_of(t), plain, len);
	seal_one(a, t);
	if (memcmp(data_of(t), sealed, len + icv_len))
		fail_msg("%s: seal with %s", source, aead_backend_name());
	if (open_one(a, t) != 1 || memcmp(data_of(t), plain, len))
		fail_msg("%s: open with %s", source, aead_backend_name());
	aead_free(a);
}

static unsigned int aead_answers(void)
{
	uint8_t plain[DATA_MAX], sealed[DATA_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(aead_vectors); i++) {
		const struct aead_vector *v = &aead_vectors[i];
		const struct aead_desc *d = aead_by_alg(v->alg);
		struct text t = {.alg = v->alg};
		uint32_t len = (uint32_t)rig_hex(v->plain, plain, sizeof plain);

		assert_int_equal(rig_hex(v->key, t.key, sizeof t.key), d->key_len);
		assert_int_equal(rig_hex(v->nonce, t.nonce, sizeof t.nonce), AEAD_NONCE_LEN);
		t.aad_len = (uint32_t)strlen(v->aad) / 2;
		rig_hex(v->aad, aad_of(&t), FRONT);
		assert_int_equal(rig_hex(v->sealed, sealed, sizeof sealed), len + d->icv_len);
		known_answer(v->source, &t, plain, len, sealed);
	}
	return ARRAY_SIZE(aead_vectors);
}

/* AAD by hand, byte by byte: SPI, then the sequence number's 4 or 8 bytes. */
static void put_aad(struct text *t, const struct esp_vector *v)
{
	int n_seq = v->esn ? 8 : 4;
	uint8_t *p;

	t->aad_len = 4 + (uint32_t)n_seq;
	p = aad_of(t);
	for (int b = 0; b < 4; b++)
		p[b] = (uint8_t)(v->spi >> (24 - 8 * b));
	for (int b = 0; b < n_seq; b++)
		p[4 + b] = (uint8_t)(v->seq >> (8 * (n_seq - 1 - b)));
}

static unsigned int esp_answers(void)
{
	uint8_t plain[DATA_MAX], sealed[DATA_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(esp_vectors); i++) {
		const struct esp_vector *v = &esp_vectors[i];
		/* RFC 4543: the IV is authenticated in front of the payload */
		uint32_t iv = aead_by_alg(v->alg)->kind == AEAD_MAC ? 8 : 0, len;
		struct text t = {.alg = v->alg};

		rig_hex(v->key, t.key, sizeof t.key);
		rig_hex(v->nonce, t.nonce, sizeof t.nonce);
		put_aad(&t, v);
		memcpy(plain, t.nonce + 4, iv);
		memcpy(sealed, t.nonce + 4, iv);
		len = iv + (uint32_t)rig_hex(v->plain, plain + iv, sizeof plain - iv);
		assert_int_equal(iv + rig_hex(v->sealed, sealed + iv, sizeof sealed - iv),
				 len + AEAD_TAG_LEN);
		known_answer(v->source, &t, plain, len, sealed);
	}
	return ARRAY_SIZE(esp_vectors);
}

/* The ciphertext alone; what HMAC goes with it does not matter. */
static unsigned int cbc_answers(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(cbc_vectors); i++) {
		const struct cbc_vector *v = &cbc_vectors[i];
		struct text t = {.alg = v->alg, .aad_len = 8 + AEAD_IV_MAX};
		uint8_t plain[256], cipher[256];
		struct aead *a;

		assert_int_equal(rig_hex(v->key, t.key, sizeof t.key),
				 aead_by_alg(v->alg)->key_len);
		assert_int_equal(rig_hex(v->iv, aad_of(&t) + 8, AEAD_IV_MAX), AEAD_IV_MAX);
		t.len = (uint32_t)rig_hex(v->plain, plain, sizeof plain);
		assert_int_equal(rig_hex(v->cipher, cipher, sizeof cipher), t.len);
		memcpy(data_of(&t), plain, t.len);
		a = aead_new(t.alg, t.key);
		seal_one(a, &t);
		if (memcmp(data_of(&t), cipher, t.len))
			fail_msg("%s: seal with %s", v->source, aead_backend_name());
		if (open_one(a, &t) != 1 || memcmp(data_of(&t), plain, t.len))
			fail_msg("%s: open with %s", v->source, aead_backend_name());
		aead_free(a);
	}
	return ARRAY_SIZE(cbc_vectors);
}

/* The same tag where the text is what a NULL suite does not encrypt: in front of it nothing. */
static void null_answer(const struct hmac_vector *v, enum aead_alg alg)
{
	const struct aead_desc *d = aead_by_alg(alg);
	struct text t = {.alg = alg};
	uint8_t sealed[FRONT + AEAD_TAG_MAX];
	uint32_t len = (uint32_t)rig_hex(v->text, sealed, FRONT);
	uint8_t plain[FRONT];

	memcpy(plain, sealed, len);
	rig_hex(v->tag, sealed + len, d->icv_len);
	rig_hex(v->key, t.key, d->auth_key_len);
	known_answer(v->source, &t, plain, len, sealed);
}

/* The tag alone: nothing to encrypt, all of the text is aad. */
static unsigned int hmac_answers(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(hmac_vectors); i++) {
		const struct hmac_vector *v = &hmac_vectors[i];
		const struct aead_desc *d = aead_by_alg(v->alg);
		uint8_t tag[AEAD_TAG_MAX];
		struct text t = {.alg = v->alg, .aad_len = (uint32_t)strlen(v->text) / 2};
		struct aead *a;

		assert_int_equal(rig_hex(v->key, t.key + d->key_len, d->auth_key_len),
				 d->auth_key_len);
		rig_hex(v->text, aad_of(&t), FRONT);
		assert_int_equal(rig_hex(v->tag, tag, sizeof tag), d->icv_len);
		a = aead_new(t.alg, t.key);
		seal_one(a, &t);
		if (memcmp(tag_of(&t), tag, d->icv_len) || open_one(a, &t) != 1)
			fail_msg("%s: with %s", v->source, aead_backend_name());
		aead_free(a);
		for (enum aead_alg alg = AEAD_NULL_SHA256; alg <= AEAD_NULL_SHA512; alg++)
			if (aead_by_alg(alg)->auth_key_len == d->auth_key_len)
				null_answer(v, alg);
	}
	return ARRAY_SIZE(hmac_vectors);
}

/* Eight bytes as AAD, like SPI and number; the rest as what would be the packet. */
static unsigned int gmac_answers(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(gmac_vectors); i++) {
		const struct gmac_vector *v = &gmac_vectors[i];
		struct text t = {.alg = v->alg, .aad_len = 8};
		uint8_t text[128], sealed[128 + AEAD_TAG_LEN];
		uint32_t len = (uint32_t)rig_hex(v->text, text, sizeof text);

		assert_int_equal(rig_hex(v->key, t.key, sizeof t.key), aead_by_alg(v->alg)->key_len);
		assert_int_equal(rig_hex(v->nonce, t.nonce, sizeof t.nonce), AEAD_NONCE_LEN);
		memcpy(aad_of(&t), text, 8);
		memcpy(sealed, text, len);
		assert_int_equal(rig_hex(v->tag, sealed + len, AEAD_TAG_LEN), AEAD_TAG_LEN);
		known_answer(v->source, &t, text + 8, len - 8, sealed + 8);
	}
	return ARRAY_SIZE(gmac_vectors);
}

static void test_before_select(void **state)
{
	static const uint8_t key[AEAD_KEY_MAX];

	assert_null(aead_new(AEAD_AES_GCM_128, key));
	assert_int_equal(errno, EINVAL);
	assert_int_equal(aead_backend_select("rot13"), -ENOENT);
	assert_int_equal(aead_backend_select("openssl:avx2"), -ENOENT);
	assert_int_equal(aead_backend_select("ipsec-mb:mmx"), -ENOENT);
	assert_int_equal(aead_backend_select("ipsec-mbx"), -ENOENT);
	assert_int_equal(aead_backend_select(""), -ENOENT);
	assert_int_equal(aead_backend_select("auto"), 0);
	assert_null(aead_new(AEAD_NONE, key));
	assert_null(aead_new(AEAD_MAX, key));
	aead_free(NULL);
}

static void test_table(void **state)
{
	assert_null(aead_by_name("aes-gcm"));
	assert_null(aead_by_alg(AEAD_NONE));
	for (enum aead_alg a = AEAD_NONE + 1; a < AEAD_MAX; a++) {
		const struct aead_desc *d = aead_by_alg(a);

		assert_ptr_equal(aead_by_name(d->name), d);
		assert_non_null(strstr(aead_names(), d->name));
		assert_true(aead_key_bytes(d) <= AEAD_KEY_MAX && d->iv_len <= AEAD_IV_MAX &&
			    d->icv_len <= AEAD_TAG_MAX && d->icv_len % 4 == 0);
		/* salt and IV are the nonce; where there is no salt the IV is a block of its own, or there is none */
		assert_int_equal(d->salt_len + d->iv_len,
				 d->kind == AEAD_CBC_HMAC ? AEAD_IV_MAX :
				 d->kind == AEAD_HMAC	  ? 0 : AEAD_NONCE_LEN);
		assert_int_equal(aead_encrypts(d->kind), !strstr(d->name, "gmac") && !strstr(d->name, "null"));
		/* RFC 8221 4: no suite without integrity */
		assert_true(d->icv_len >= 12);
	}
}

/* From the RFCs, not from our table: key, salt, IV, ICV, alignment. */
static void test_rows(void **state)
{
	static const struct {
		const char *name;
		unsigned int key, auth, salt, iv, icv, align;
	} rows[] = {
		{"aes-gcm-128", 16, 0, 4, 8, 16, 4},  /* RFC 4106 3, 4, 8.1 */
		{"aes-gcm-256", 32, 0, 4, 8, 16, 4},
		{"chacha20-poly1305", 32, 0, 4, 8, 16, 4}, /* RFC 7634 2 */
		{"aes-gmac-128", 16, 0, 4, 8, 16, 4}, /* RFC 4543 3, 5.4 */
		{"aes-gmac-256", 32, 0, 4, 8, 16, 4},
		{"aes-cbc-128-hmac-sha2-256", 16, 32, 0, 16, 16, 16}, /* RFC 3602 2, RFC 4868 2.6 */
		{"aes-cbc-256-hmac-sha2-256", 32, 32, 0, 16, 16, 16},
		{"aes-cbc-256-hmac-sha2-384", 32, 48, 0, 16, 24, 16},
		{"aes-cbc-256-hmac-sha2-512", 32, 64, 0, 16, 32, 16},
		{"aes-cbc-128-hmac-sha1", 16, 20, 0, 16, 12, 16}, /* RFC 2404 2, 3 */
		{"aes-cbc-256-hmac-sha1", 32, 20, 0, 16, 12, 16},
		{"null-hmac-sha2-256", 0, 32, 0, 0, 16, 4}, /* RFC 2410 2, RFC 4303 2.4 */
		{"null-hmac-sha2-384", 0, 48, 0, 0, 24, 4},
		{"null-hmac-sha2-512", 0, 64, 0, 0, 32, 4},
	};

	assert_int_equal(ARRAY_SIZE(rows), AEAD_MAX - 1);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct aead_desc *d = aead_by_name(rows[i].name);

		assert_non_null(d);
		assert_int_equal(d->key_len, rows[i].key);
		assert_int_equal(d->auth_key_len, rows[i].auth);
		assert_int_equal(d->salt_len, rows[i].salt);
		assert_int_equal(d->iv_len, rows[i].iv);
		assert_int_equal(d->icv_len, rows[i].icv);
		assert_int_equal(d->align, rows[i].align);
		assert_int_equal(d->iv_counter, rows[i].salt != 0);
	}
}

/* Never encryption without integrity; the sentence says why, and what to take. */
static void test_refusals(void **state)
{
	static const struct {
		const char *name, *says;
	} rows[] = {
		{"aes-cbc-128", "no integrity (RFC 8221 4): use aes-gcm-128"},
		{"AES-CBC", "no integrity (RFC 8221 4)"},
		{"aes-ctr-256", "no integrity (RFC 8221 4)"},
		{"null", "nothing without integrity"},
		{"none", "neither encryption nor integrity"},
		{"aes-cbc-128-hmac-sha1-96", "HMAC-SHA-1 is on its way out (RFC 8221 6)"},
		{"null-hmac-sha1", "for a peer that knows nothing better aes-cbc-128-hmac-sha1"},
		{"null-hmac-sha2", "null-hmac-sha2-256"},
		{"aes-cbc-256-hmac-md5", "HMAC-MD5 is forbidden (RFC 8221 6)"},
		{"3des-cbc", "obsolete (RFC 8221 5)"},
		{"aes-gcm-192", "192-bit keys are left out"},
		{"aes-ccm-128", "use aes-gcm-128"},
		{"aes-cbc-128-hmac-sha2-512", "as aes-cbc-128-hmac-sha2-256"},
		{"hmac-sha2-256", "goes with a cipher"},
		{"rot13", "unknown; one of aes-gcm-128, aes-gcm-256, chacha20-poly1305, aes-gmac-128"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_null(aead_by_name(rows[i].name));
		if (!strstr(aead_refusal(rows[i].name), rows[i].says))
			fail_msg("%s: %s", rows[i].name, aead_refusal(rows[i].name));
	}
	assert_null(strstr(aead_refusal("rot13"), "rot13"));
}

static void test_vectors(void **state)
{
	int n = 0;

	for (size_t b = 0; b < RIG_N; b++) {
		if (!rig_backend(b))
			continue;
		printf("%s: %u answers\n", aead_backend_name(),
		       aead_answers() + esp_answers() + cbc_answers() + hmac_answers() + gmac_answers());
		n++;
	}
	assert_true(n >= 1);
#ifdef HAVE_IPSEC_MB
	if (__builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul"))
		assert_true(n >=
			    3); /* best, sse, openssl: a build that quietly lost one fails here */
#endif
}

/* The name must be true: ask the linker which function a key really calls. */
static void test_path_shown(void **state)
{
#ifdef HAVE_IPSEC_MB
	static const struct {
		const char *shown, *symbol;
	} paths[] = {{"(AVX512, VAES)", "_128_vaes_avx512"},
		     {"(AVX512)", "_128_avx512"},
		     {"(AVX2)", "_avx_gen4"},
		     {"(AVX)", "_avx_gen2"},
		     {"(SSE, AESNI)", "_128_sse"}};
	static const uint8_t key[AEAD_KEY_MAX];
	IMB_MGR *m = alloc_mb_mgr(0);

	init_mb_mgr_auto(m, NULL);
	for (size_t b = 0; b < RIG_N - 1; b++) {
		bool found = false;
		struct aead *a;
		Dl_info sym;

		if (!rig_backend(b))
			continue;
		assert_non_null(strstr(aead_backend_name(), imb_get_version_str()));
		a = aead_new(AEAD_AES_GCM_128, key);
		assert_true(dladdr((void *)a->crypt[0], &sym) && sym.dli_sname);
		if (!b) /* the best there is */
			assert_ptr_equal(a->crypt[0], m->gcm128_enc);
		for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
			if (!strstr(aead_backend_name(), paths[i].shown))
				continue;
			found = true;
			if (!strstr(sym.dli_sname, paths[i].symbol))
				fail_msg("%s shown, %s used", aead_backend_name(), sym.dli_sname);
		}
		assert_true(found);
		aead_free(a);
	}
	free_mb_mgr(m);
#else
	skip();
#endif
}

static struct text random_text(enum aead_alg alg, uint32_t len)
{
	bool esn = rig_below(2);
	struct text t = {.alg = alg, .len = len, .aad_len = esn ? 12 : 8};

	if (aead_has_tail(aead_by_alg(alg)->kind)) {
		t.len = len & -(uint32_t)aead_by_alg(alg)->align;
		t.aad_len = 8u + aead_by_alg(alg)->iv_len;
		t.tail = (uint32_t)rig_rand();
		t.tail_len = esn ? 4 : 0;
	}
	rig_fill(t.key, sizeof t.key);
	rig_fill(t.nonce, sizeof t.nonce);
	rig_fill(aad_of(&t), t.aad_len + t.len);
	return t;
}

static void refused(struct aead *a, const struct text *t)
{
	struct text copy = *t;

	assert_int_equal(open_one(a, &copy), 0);
}

static void flip_all(struct aead *a, struct text *t, uint8_t *field, size_t len)
{
	for (size_t bit = 0; bit < len * 8; bit++) {
		field[bit / 8] ^= (uint8_t)(1 << bit % 8);
		refused(a, t);
		field[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

/* Any bit of anything: refused. And then the true packet still opens. */
static void test_tamper(void **state)
{
	for (size_t b = 0; b < RIG_N; b++) {
		if (!rig_backend(b))
			continue;
		for (enum aead_alg alg = AEAD_NONE + 1; alg < AEAD_MAX; alg++) {
			struct text t = random_text(alg, 100);
			struct aead *a = aead_new(alg, t.key);

			seal_one(a, &t);
			flip_all(a, &t, aad_of(&t), whole_len(&t));
			if (!aead_has_tail(aead_by_alg(alg)->kind))
				flip_all(a, &t, t.nonce, AEAD_NONCE_LEN);
			flip_all(a, &t, (uint8_t *)&t.tail, t.tail_len);
			t.aad_len -= 4;
			refused(a, &t);
			t.aad_len += 4;
			if (aead_has_tail(aead_by_alg(alg)->kind)) {
				t.tail_len ^= 4;
				refused(a, &t);
				t.tail_len ^= 4;
			}
			assert_int_equal(open_one(a, &t), 1);
			aead_free(a);
		}
	}
}

/*
 * RFC 4303 3.4.4.1: the ICV first. A packet that is refused was never decrypted: its bytes still
 * are the ciphertext, so nothing about its padding can be learned from what follows.
 */
static void test_refused_is_not_decrypted(void **state)
{
	for (size_t b = 0; b < RIG_N; b++) {
		if (!rig_backend(b))
			continue;
		for (enum aead_alg alg = AEAD_CBC_128_SHA256; alg <= AEAD_CBC_256_SHA1; alg++) {
			struct text t = random_text(alg, 256), sealed;
			struct aead *a = aead_new(alg, t.key);

			seal_one(a, &t);
			t.buf[FRONT + 100] ^= 1;
			sealed = t;
			assert_int_equal(open_one(a, &t), 0);
			assert_memory_equal(data_of(&t), data_of(&sealed), t.len);
			aead_free(a);
		}
	}
}

/* Batches of every size, good and bad mixed: each job by itself. */
static void test_batches(void **state)
{
	static struct text t[AEAD_BATCH], plain[AEAD_BATCH];
	struct aead_job jobs[AEAD_BATCH];

	for (size_t b = 0; b < RIG_N; b++) {
		if (!rig_backend(b))
			continue;
		for (unsigned int n = 0; n <= AEAD_BATCH; n++) {
			enum aead_alg alg = AEAD_NONE + 1 + n % (AEAD_MAX - 1);
			uint64_t bad = rig_rand();
			struct aead *a;

			for (unsigned int i = 0; i < n; i++) {
				plain[i] = t[i] = random_text(alg, (uint32_t)rig_below(1500));
				jobs[i] = job_of(&t[i]);
			}
			a = aead_new(alg, plain[0].key);
			aead_seal(a, jobs, n);
			for (unsigned int i = 0; i < n; i++) {
				assert_int_equal(jobs[i].ok, 1);
				tag_of(&t[i])[i % aead_by_alg(alg)->icv_len] ^= bad >> i & 1;
				jobs[i].ok = 7;
			}
			aead_open(a, jobs, n);
			for (unsigned int i = 0; i < n; i++) {
				assert_int_equal(jobs[i].ok, !(bad >> i & 1));
				if (jobs[i].ok)
					assert_memory_equal(data_of(&t[i]), data_of(&plain[i]), t[i].len);
			}
			aead_free(a);
		}
	}
}

enum { GROUP = 200 };

/* plain[] sealed by the backend in use must be ref[], and ref[] must open. First: fill ref[]. */
static void same_group(const struct text *plain, struct text *ref, unsigned int n, bool first)
{
	for (unsigned int i = 0; i < n; i++) {
		struct aead *a = aead_new(plain[i].alg, plain[i].key);
		struct text t = plain[i];

		assert_non_null(a);
		seal_one(a, &t);
		if (first)
			ref[i] = t;
		if (memcmp(aad_of(&ref[i]), aad_of(&t), whole_len(&t)))
			fail_msg("%s and openssl differ: alg %d len %u", aead_backend_name(), t.alg,
				 t.len);
		t = ref[i];
		assert_int_equal(open_one(a, &t), 1);
		assert_memory_equal(data_of(&t), data_of((struct text *)&plain[i]), t.len);
		aead_free(a);
	}
}

/* Random texts: every backend and path seals to the same bytes and opens them. */
static void test_differential(void **state)
{
	static struct text plain[GROUP], ref[GROUP];
	uint64_t left = rig_count("AEAD_DIFF_N", 10000, 1000000), all = left;
	unsigned int paths = 0;

	while (left) {
		unsigned int n = (unsigned int)MIN(left, (uint64_t)GROUP);

		for (unsigned int i = 0; i < n; i++)
			plain[i] = random_text(
				(enum aead_alg)(AEAD_NONE + 1 + rig_below(AEAD_MAX - 1)),
				(uint32_t)rig_below(rig_below(4) ? 300 : 4000));
		paths = 0;
		for (size_t b = RIG_N; b-- > 0;) /* openssl first: it is there everywhere */
			if (rig_backend(b)) {
				same_group(plain, ref, n, b == RIG_N - 1);
				paths++;
			}
		left -= n;
	}
	printf("figure: %llu random packets of %d suites: OpenSSL and %u paths of ipsec-mb seal to the same bytes, and open them\n",
	       (unsigned long long)all, AEAD_MAX - 1, paths - 1);
}

enum { KEYS = 3000 };

static void test_many_keys(void **state)
{
	static struct aead *a[KEYS];
	static uint8_t tag[KEYS][AEAD_TAG_LEN];

	for (size_t b = 0; b < RIG_N; b += RIG_N - 1) { /* best and openssl */
		if (!rig_backend(b))
			continue;
		for (int pass = 0; pass < 2; pass++)
			for (uint32_t i = 0; i < KEYS; i++) {
				struct text t = {.alg = AEAD_NONE + 1 + i % (AEAD_MAX - 1),
						 .aad_len = 8};

				memcpy(t.key, &i, sizeof i);
				memset(t.key + 32, (int)i, sizeof t.key - 32);
				if (!pass)
					a[i] = aead_new(t.alg, t.key);
				assert_non_null(a[i]);
				seal_one(a[i], &t);
				if (pass)
					assert_memory_equal(tag[i], tag_of(&t), MIN(aead_by_alg(t.alg)->icv_len, AEAD_TAG_LEN));
				memcpy(tag[i], tag_of(&t), MIN(aead_by_alg(t.alg)->icv_len, AEAD_TAG_LEN));
			}
		for (uint32_t i = 0; i < KEYS; i++) {
			assert_true(secmem_owns(a[i]));
			aead_free(a[i]);
		}
	}
}

/* Slots stay mapped, so what aead_free() left of a key can be looked at. */
static void test_wiped(void **state)
{
	struct text t = random_text(AEAD_CHACHA20_POLY1305, 0);
	struct aead *a;

	if (aead_backend_select("ipsec-mb"))
		skip();
	a = aead_new(t.alg, t.key);
	assert_non_null(memmem(a, 256, t.key, 16));
	aead_free(a);
	for (size_t i = sizeof(void *); i < 64 + 32; i++)
		assert_int_equal(((volatile uint8_t *)a)[i], 0);
}

/* Hits of what in this process's writable memory outside secret memory. */
static unsigned int hunt(const uint8_t *what, size_t len)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long lo, hi;
	unsigned int hits = 0;
	char line[512];

	assert_non_null(f);
	while (fgets(line, sizeof line, f)) {
		if (sscanf(line, "%lx-%lx rw", &lo, &hi) != 2 || !strstr(line, " rw") ||
		    secmem_owns((void *)lo))
			continue;
		for (uint8_t *p = (uint8_t *)lo;; p++, hits++) {
			p = memmem(p, hi - (unsigned long)p, what, len);
			if (!p)
				break;
		}
	}
	fclose(f);
	return hits;
}

/* Look for 16 bytes of a key; the only copy allowed is the one looked with. */
static void hunt_masked(const uint8_t *masked, const char *backend, enum aead_alg alg)
{
	uint8_t needle[16];
	unsigned int hits;

	for (size_t i = 0; i < sizeof needle; i++)
		needle[i] = masked[i] ^ 0xff;
	hits = hunt(needle, sizeof needle);
	explicit_bzero(needle, sizeof needle);
	if (hits != 1) /* needle itself */
		fail_msg("%s, %s: key found %u times in ordinary memory", backend,
			 aead_by_alg(alg)->name, hits - 1);
}

/* The digest state after key xor ipad is worth the key: whoever has it can forge. */
static void mask_ipad_state(const struct aead_desc *d, const uint8_t *key, uint8_t masked[16])
{
	uint8_t block[SHA256_CBLOCK];
	SHA256_CTX c;

	for (size_t i = 0; i < sizeof block; i++)
		block[i] = (i < d->auth_key_len ? key[d->key_len + i] : 0) ^ 0x36;
	SHA256_Init(&c);
	SHA256_Update(&c, block, sizeof block);
	for (size_t i = 0; i < 16; i++)
		masked[i] = ((uint8_t *)c.h)[i] ^ 0xff;
	explicit_bzero(block, sizeof block);
	explicit_bzero(&c, sizeof c);
}

/* I3: a key in use, and after use, is nowhere but in secret memory: the cipher's and the HMAC's. */
static void test_key_hunt(void **state)
{
#ifdef __SANITIZE_ADDRESS__
	skip(); /* its shadow memory is terabytes of rw mapping */
#endif
	for (size_t b = 0; b < RIG_N; b++) {
		if (!rig_backend(b))
			continue;
		for (enum aead_alg alg = AEAD_NONE + 1; alg < AEAD_MAX; alg++) {
			const struct aead_desc *d = aead_by_alg(alg);
			uint8_t masked[AEAD_KEY_MAX], ipad[16], iv[4][AEAD_IV_MAX];
			static struct text t;
			struct aead *a;

			t = (struct text){.alg = alg, .len = 96, .aad_len = 24};
			rig_fill(t.key, sizeof t.key); /* in place: no copy on the stack */
			for (size_t i = 0; i < sizeof masked; i++)
				masked[i] = t.key[i] ^ 0xff;
			if (d->auth_key_len == 32)
				mask_ipad_state(d, t.key, ipad);
			a = aead_new(alg, t.key);
			for (int i = 0; i < 3; i++) {
				if (d->kind == AEAD_CBC_HMAC)
					aead_ivs(a, 1, iv, 4);
				seal_one(a, &t);
				assert_int_equal(open_one(a, &t), 1);
			}
			explicit_bzero(&t, sizeof t);
			for (int live = 1; live >= 0; live--) {
				hunt_masked(masked, aead_backend_name(), alg);
				if (d->auth_key_len)
					hunt_masked(masked + d->key_len, aead_backend_name(), alg);
				if (d->auth_key_len == 32)
					hunt_masked(ipad, aead_backend_name(), alg);
				if (live)
					aead_free(a);
			}
		}
	}
}

/* A child's libcrypto must not miss what we keep from it. */
static void test_fork(void **state)
{
	struct aead *a[AEAD_MAX] = {NULL};
	int status;
	pid_t pid;

	assert_int_equal(aead_backend_select("openssl"), 0);
	for (enum aead_alg alg = AEAD_NONE + 1; alg < AEAD_MAX; alg++) {
		struct text t = random_text(alg, 32);

		a[alg] = aead_new(alg, t.key);
		seal_one(a[alg], &t);
	}
	pid = fork();
	if (!pid) {
		uint8_t md[EVP_MAX_MD_SIZE];

		if (!EVP_Digest("x", 1, md, NULL, EVP_sha256(), NULL))
			_exit(1);
		OPENSSL_cleanup();
		_exit(7);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	for (enum aead_alg alg = AEAD_NONE + 1; alg < AEAD_MAX; alg++)
		aead_free(a[alg]);
}

static void *seal_a_lot(void *arg)
{
	struct text t = *(struct text *)arg, plain = t;
	struct aead *a = aead_new(t.alg, t.key);
	uintptr_t bad = !a;

	for (int i = 0; a && i < 5000; i++) {
		struct aead_job j = job_of(&t);

		aead_seal(a, &j, 1);
		bad += !j.ok || !open_one(a, &t) || memcmp(data_of(&t), data_of(&plain), t.len);
	}
	aead_free(a);
	return (void *)bad;
}

static void test_threads(void **state)
{
	for (size_t b = 0; b < RIG_N; b += RIG_N - 1) {
		struct text t[AEAD_MAX - 1];
		pthread_t id[AEAD_MAX - 1];
		void *bad;

		if (!rig_backend(b))
			continue;
		for (unsigned int i = 0; i < ARRAY_SIZE(t); i++) {
			t[i] = random_text(AEAD_NONE + 1 + i, 200);
			assert_int_equal(pthread_create(&id[i], NULL, seal_a_lot, &t[i]), 0);
		}
		for (unsigned int i = 0; i < ARRAY_SIZE(t); i++) {
			assert_int_equal(pthread_join(id[i], &bad), 0);
			assert_null(bad);
		}
	}
}

/* --- IVs of the CBC suites ------------------------------------------------------------------- */

enum { IVS = 8192 };

static int by_bytes(const void *a, const void *b)
{
	return memcmp(a, b, AEAD_IV_MAX);
}

/* Take IVS of them, first number on, in uneven batches. */
static void take_ivs(struct aead *a, uint64_t first, uint8_t (*iv)[AEAD_IV_MAX])
{
	for (unsigned int i = 0, n; i < IVS; i += n) {
		n = (unsigned int)MIN(1 + rig_below(AEAD_BATCH), (uint64_t)(IVS - i));
		aead_ivs(a, first + i, iv + i, n);
	}
}

/*
 * I2 and RFC 3602 3. Three lives of one key: the second goes on where the first ended, as the
 * ledger has it; the third is a machine whose ledger was lost and starts over. No IV comes twice,
 * half of the bits change from one number to the next, and no byte shows the counter.
 */
static void test_ivs(void **state)
{
	static uint8_t iv[3 * IVS][AEAD_IV_MAX];
	uint8_t key[AEAD_KEY_MAX];
	unsigned int flips = 0;

	rig_fill(key, sizeof key);
	for (size_t b = 0; b < RIG_N; b++) {
		if (!rig_backend(b))
			continue;
		for (int life = 0; life < 3; life++) {
			struct aead *a = aead_new(AEAD_CBC_128_SHA256, key);

			take_ivs(a, life == 1 ? 1 + IVS : 1, iv + life * IVS);
			aead_free(a);
		}
		flips = 0;
		for (unsigned int i = 1; i < IVS; i++)
			for (unsigned int k = 0; k < AEAD_IV_MAX; k++)
				flips += (unsigned int)__builtin_popcount(iv[i][k] ^ iv[i - 1][k]);
		/* mean 64 of 128; eight standard deviations of the sum are about 4100 */
		assert_in_range(flips, 64 * (IVS - 1) - 4200, 64 * (IVS - 1) + 4200);
		qsort(iv, ARRAY_SIZE(iv), sizeof iv[0], by_bytes);
		for (unsigned int i = 1; i < ARRAY_SIZE(iv); i++)
			assert_true(memcmp(iv[i - 1], iv[i], AEAD_IV_MAX) != 0);
	}
}

/* The same numbers in one life: one permutation, so the same IVs: repeating is up to the counter. */
static void test_ivs_are_a_permutation(void **state)
{
	uint8_t key[AEAD_KEY_MAX], one[AEAD_BATCH][AEAD_IV_MAX], two[AEAD_BATCH][AEAD_IV_MAX];

	rig_fill(key, sizeof key);
	for (size_t b = 0; b < RIG_N; b++) {
		struct aead *a;

		if (!rig_backend(b))
			continue;
		a = aead_new(AEAD_CBC_256_SHA512, key);
		aead_ivs(a, 77, one, AEAD_BATCH);
		for (unsigned int i = 0; i < AEAD_BATCH; i++)
			aead_ivs(a, 77 + i, two + i, 1);
		assert_memory_equal(one, two, sizeof one);
		aead_ivs(a, 0, two, 0);
		aead_free(a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_before_select), /* first: nothing is selected yet */
		cmocka_unit_test(test_table),         cmocka_unit_test(test_rows),
		cmocka_unit_test(test_refusals),      cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_path_shown),    cmocka_unit_test(test_tamper),
		cmocka_unit_test(test_batches),       cmocka_unit_test(test_differential),
		cmocka_unit_test(test_many_keys),     cmocka_unit_test(test_wiped),
		cmocka_unit_test(test_key_hunt),      cmocka_unit_test(test_fork),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_refused_is_not_decrypted),
		cmocka_unit_test(test_ivs),
		cmocka_unit_test(test_ivs_are_a_permutation),
	};

	rig_seed("aead_test");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
