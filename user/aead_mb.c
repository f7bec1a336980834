/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ipsec-mb backend. AES-GCM and GMAC: the direct, one-call-per-packet functions, which use nothing
 * but their arguments, so the manager only serves to choose them. The rest goes through the job
 * interface, which needs a manager per thread, made at the thread's first packet:
 * ChaCha20-Poly1305 because it is a third faster on small packets than init/update/finalize, AES-CBC
 * and HMAC because only side by side with others do they keep the CPU busy.
 */
#include "aead_backend.h"
#ifdef HAVE_IPSEC_MB
#include <errno.h>
#include <intel-ipsec-mb.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "util.h"

_Static_assert(_Alignof(struct gcm_key_data) <= 64, "struct aead aligns its state to 64");

static const struct isa {
	const char *name, *shown;
	IMB_ARCH arch;
	uint64_t need;
	void (*init)(IMB_MGR *m);
} isas[] = {
	{"avx512-vaes", "AVX512, VAES", IMB_ARCH_AVX512, IMB_CPUFLAGS_AVX512_T2,
	 init_mb_mgr_avx512},
	{"avx512", "AVX512", IMB_ARCH_AVX512, IMB_CPUFLAGS_AVX512, init_mb_mgr_avx512},
	{"avx2", "AVX2", IMB_ARCH_AVX2, IMB_CPUFLAGS_AVX2, init_mb_mgr_avx2},
	{"avx", "AVX", IMB_ARCH_AVX, IMB_CPUFLAGS_AVX, init_mb_mgr_avx},
	{"sse", "SSE, AESNI", IMB_ARCH_SSE, IMB_CPUFLAGS_SSE, init_mb_mgr_sse},
};

/* struct gcm_fn - AES-GCM and GMAC at one key size */
struct gcm_fn {
	aes_gcm_pre_t pre;
	aes_gcm_enc_dec_t crypt[2]; /* seal, open */
	aes_gmac_init_t gmac_init;
	aes_gmac_update_t gmac_update;
	aes_gmac_finalize_t gmac_finalize;
};

/* What init() chose; read-only afterwards. */
static struct {
	const struct isa *isa;
	struct gcm_fn gcm128, gcm256;
	keyexp_t keyexp128, keyexp256;
	hash_one_block_t sha1, sha256, sha384, sha512;
} fn;

/* NULL: the CPU has it not, or name is unknown. AES-NI is never emulated: OpenSSL is better. */
static const struct isa *pick_isa(const char *name, uint64_t features)
{
	for (size_t i = 0; i < ARRAY_SIZE(isas); i++)
		if ((features & isas[i].need) == isas[i].need &&
		    (!name || !strcmp(name, isas[i].name)))
			return &isas[i];
	return NULL;
}

static void take_functions(const IMB_MGR *m)
{
	fn.gcm128 = (struct gcm_fn){.pre = m->gcm128_pre,
				    .crypt = {m->gcm128_enc, m->gcm128_dec},
				    .gmac_init = m->gmac128_init,
				    .gmac_update = m->gmac128_update,
				    .gmac_finalize = m->gmac128_finalize};
	fn.gcm256 = (struct gcm_fn){.pre = m->gcm256_pre,
				    .crypt = {m->gcm256_enc, m->gcm256_dec},
				    .gmac_init = m->gmac256_init,
				    .gmac_update = m->gmac256_update,
				    .gmac_finalize = m->gmac256_finalize};
	fn.keyexp128 = m->keyexp_128;
	fn.keyexp256 = m->keyexp_256;
	fn.sha1 = m->sha1_one_block;
	fn.sha256 = m->sha256_one_block;
	fn.sha384 = m->sha384_one_block;
	fn.sha512 = m->sha512_one_block;
}

/* Without VAES among the features (it goes by SHANI) the library takes the plain AVX-512 code. */
static uint64_t mgr_flags(const char *name)
{
	return name && !strcmp(name, "avx512") ? IMB_FLAG_SHANI_OFF : 0;
}

/* Return: a manager for isa, or NULL */
static IMB_MGR *mgr_new(const struct isa *isa)
{
	IMB_MGR *m = alloc_mb_mgr(mgr_flags(isa->name));

	if (!m)
		return NULL;
	isa->init(m);
	if (imb_get_errno(m) || m->used_arch != (uint32_t)isa->arch) {
		free_mb_mgr(m);
		return NULL;
	}
	return m;
}

static int mb_init(const char *name, char text[AEAD_NAME_MAX])
{
	const struct isa *isa = pick_isa(name, imb_get_feature_flags());
	IMB_MGR *m = isa ? mgr_new(isa) : NULL;

	if (!m)
		return -ENOENT;
	take_functions(m);
	fn.isa = isa;
	free_mb_mgr(m);
	snprintf(text, AEAD_NAME_MAX, "ipsec-mb %s (%s)", imb_get_version_str(), isa->shown);
	return 0;
}

/* What lies in struct aead's state, by kind of suite. */
struct gmac_state {
	_Alignas(64) struct gcm_key_data key;
	const struct gcm_fn *fn;
};

struct hmac_state { /* with or without AES-CBC */
	_Alignas(16) uint8_t enc[15 * 16], dec[15 * 16]; /* expanded cipher key */
	_Alignas(16) uint8_t iv[15 * 16];                /* expanded key of aead_ivs() */
	_Alignas(16) uint8_t ipad[64], opad[64];         /* HMAC: digest after the padded key */
	uint32_t key_len, icv_len; /* key_len 0: nothing is encrypted */
	IMB_HASH_ALG hash;
};

static uint32_t mb_state_len(const struct aead_desc *d)
{
	if (d->alg == AEAD_CHACHA20_POLY1305)
		return d->key_len;
	if (aead_has_tail(d->kind))
		return sizeof(struct hmac_state);
	return d->kind == AEAD_MAC ? sizeof(struct gmac_state) : sizeof(struct gcm_key_data);
}

/* Constant time: which byte differs must not show. len is a multiple of 4. */
static inline int tag_equal(const uint8_t *a, const uint8_t *b, uint32_t len)
{
	uint32_t x, y, diff = 0;

	for (uint32_t i = 0; i < len; i += sizeof x) {
		memcpy(&x, a + i, sizeof x);
		memcpy(&y, b + i, sizeof y);
		diff |= x ^ y;
	}
	return !diff;
}

/* The crypto of one packet is shorter than a cache miss on the next one. */
static void prefetch(const struct aead_job *jobs, unsigned int next, unsigned int n)
{
	if (next < n)
		__builtin_prefetch(jobs[next].data, 1);
}

static void gcm_seal(struct aead *a, struct aead_job *jobs, unsigned int n)
{
	const struct gcm_key_data *key = (const struct gcm_key_data *)a->state;
	aes_gcm_enc_dec_t enc = (aes_gcm_enc_dec_t)a->crypt[0];
	struct gcm_context_data ctx;

	for (unsigned int i = 0; i < n; i++) {
		struct aead_job *j = &jobs[i];

		prefetch(jobs, i + 1, n);
		enc(key, &ctx, j->data, j->from ? j->from : j->data, j->len, j->nonce, j->aad, j->aad_len, j->tag,
		    AEAD_TAG_LEN);
		j->ok = 1;
	}
	explicit_bzero(&ctx, sizeof ctx);
}

static void gcm_open(struct aead *a, struct aead_job *jobs, unsigned int n)
{
	const struct gcm_key_data *key = (const struct gcm_key_data *)a->state;
	aes_gcm_enc_dec_t dec = (aes_gcm_enc_dec_t)a->crypt[1];
	struct gcm_context_data ctx;
	uint8_t tag[AEAD_TAG_LEN];

	for (unsigned int i = 0; i < n; i++) {
		struct aead_job *j = &jobs[i];

		prefetch(jobs, i + 1, n);
		dec(key, &ctx, j->data, j->data, j->len, j->nonce, j->aad, j->aad_len, tag,
		    AEAD_TAG_LEN);
		j->ok = (uint8_t)tag_equal(tag, j->tag, AEAD_TAG_LEN);
	}
	explicit_bzero(&ctx, sizeof ctx);
}

/* RFC 4543 3.2: everything is authenticated, nothing encrypted. */
static void gmac(const struct gmac_state *s, const struct aead_job *j, uint8_t *tag)
{
	struct gcm_context_data ctx;

	s->fn->gmac_init(&s->key, &ctx, j->nonce, AEAD_NONCE_LEN);
	s->fn->gmac_update(&s->key, &ctx, j->aad, j->aad_len);
	s->fn->gmac_update(&s->key, &ctx, j->data, j->len);
	s->fn->gmac_finalize(&s->key, &ctx, tag, AEAD_TAG_LEN);
	explicit_bzero(&ctx, sizeof ctx);
}

static void gmac_seal(struct aead *a, struct aead_job *jobs, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		prefetch(jobs, i + 1, n);
		gmac((const struct gmac_state *)a->state, &jobs[i], jobs[i].tag);
		jobs[i].ok = 1;
	}
}

static void gmac_open(struct aead *a, struct aead_job *jobs, unsigned int n)
{
	uint8_t tag[AEAD_TAG_LEN];

	for (unsigned int i = 0; i < n; i++) {
		prefetch(jobs, i + 1, n);
		gmac((const struct gmac_state *)a->state, &jobs[i], tag);
		jobs[i].ok = (uint8_t)tag_equal(tag, jobs[i].tag, AEAD_TAG_LEN);
	}
}

/* --- the job interface ------------------------------------------------------------------------- */

static pthread_once_t mgr_once = PTHREAD_ONCE_INIT;
static pthread_key_t mgr_key;

static void mgr_free(void *m)
{
	free_mb_mgr(m);
}

static void mgr_key_init(void)
{
	pthread_key_create(&mgr_key, mgr_free);
}

/* This thread's manager for the chosen path, freed with the thread. Return: NULL without memory */
static IMB_MGR *thread_mgr(void)
{
	static __thread const struct isa *made_for;
	static __thread IMB_MGR *m;

	if (m && made_for == fn.isa)
		return m;
	pthread_once(&mgr_once, mgr_key_init);
	if (m)
		free_mb_mgr(m);
	made_for = fn.isa;
	m = mgr_new(fn.isa);
	pthread_setspecific(mgr_key, m);
	return m;
}

static void job_done(const IMB_JOB *b)
{
	if (b)
		((struct aead_job *)b->user_data)->ok = b->status == IMB_STATUS_COMPLETED;
}

/* Jobs come back in order, but later than they were handed in. */
static void finish(IMB_MGR *m)
{
	IMB_JOB *b;

	while ((b = IMB_FLUSH_JOB(m)))
		job_done(b);
}

static void fill_chacha(IMB_JOB *b, const uint8_t *key, struct aead_job *j, int dir, uint8_t *tag)
{
	b->cipher_direction = dir ? IMB_DIR_DECRYPT : IMB_DIR_ENCRYPT;
	b->chain_order = dir ? IMB_ORDER_HASH_CIPHER : IMB_ORDER_CIPHER_HASH;
	b->cipher_mode = IMB_CIPHER_CHACHA20_POLY1305;
	b->hash_alg = IMB_AUTH_CHACHA20_POLY1305;
	b->enc_keys = b->dec_keys = key;
	b->key_len_in_bytes = 32;
	b->src = b->dst = j->data;
	b->cipher_start_src_offset_in_bytes = b->hash_start_src_offset_in_bytes = 0;
	b->msg_len_to_cipher_in_bytes = b->msg_len_to_hash_in_bytes = j->len;
	b->iv = j->nonce;
	b->iv_len_in_bytes = AEAD_NONCE_LEN;
	b->u.CHACHA20_POLY1305.aad = j->aad;
	b->u.CHACHA20_POLY1305.aad_len_in_bytes = j->aad_len;
	b->auth_tag_output = tag;
	b->auth_tag_output_len_in_bytes = AEAD_TAG_LEN;
	b->user_data = j;
}

/* tags: open puts what it computed there; NULL = straight into the packet. */
static void chacha_run(const uint8_t *key, struct aead_job *jobs, unsigned int n, int dir,
		       uint8_t (*tags)[AEAD_TAG_LEN])
{
	IMB_MGR *m = thread_mgr();

	for (unsigned int i = 0; i < n; i++)
		jobs[i].ok = 0;
	for (unsigned int i = 0; i < n && m; i++) {
		prefetch(jobs, i + 1, n);
		fill_chacha(IMB_GET_NEXT_JOB(m), key, &jobs[i], dir, tags ? tags[i] : jobs[i].tag);
		job_done(IMB_SUBMIT_JOB_NOCHECK(m));
	}
	if (m)
		finish(m);
}

static void chacha_seal(struct aead *a, struct aead_job *jobs, unsigned int n)
{
	chacha_run(a->state, jobs, n, 0, NULL);
}

static void chacha_open(struct aead *a, struct aead_job *jobs, unsigned int n)
{
	uint8_t tags[AEAD_BATCH][AEAD_TAG_LEN];

	chacha_run(a->state, jobs, n, 1, tags);
	for (unsigned int i = 0; i < n; i++)
		jobs[i].ok &= tag_equal(tags[i], jobs[i].tag, AEAD_TAG_LEN);
}

/* --- HMAC, and AES-CBC in front of it -------------------------------------------------------------------------- */

enum { STEP_CIPHER = 1, STEP_HASH = 2 };

/*
 * One packet: its ciphertext, its HMAC, or both in that order. What is hashed lies in one piece:
 * aad, data and, where the ICV will be, the tail.
 */
static void fill_hmac(IMB_JOB *b, const struct hmac_state *s, struct aead_job *j, int steps,
		     IMB_CIPHER_DIRECTION dir, uint8_t *tag)
{
	b->cipher_direction = dir;
	b->chain_order = IMB_ORDER_CIPHER_HASH;
	b->cipher_mode = steps & STEP_CIPHER && j->len && s->key_len ? IMB_CIPHER_CBC : IMB_CIPHER_NULL;
	b->hash_alg = steps & STEP_HASH ? s->hash : IMB_AUTH_NULL;
	b->enc_keys = s->enc;
	b->dec_keys = s->dec;
	b->key_len_in_bytes = s->key_len;
	b->src = j->aad;
	b->dst = j->data;
	b->cipher_start_src_offset_in_bytes = j->aad_len;
	b->msg_len_to_cipher_in_bytes = j->len;
	b->hash_start_src_offset_in_bytes = 0;
	b->msg_len_to_hash_in_bytes = j->aad_len + j->len + j->tail_len;
	b->iv = j->nonce;
	b->iv_len_in_bytes = AEAD_IV_MAX;
	b->u.HMAC._hashed_auth_key_xor_ipad = s->ipad;
	b->u.HMAC._hashed_auth_key_xor_opad = s->opad;
	b->auth_tag_output = tag;
	b->auth_tag_output_len_in_bytes = s->icv_len;
	b->user_data = j;
}

static void put_tail(struct aead_job *j)
{
	memcpy(j->tag, &j->tail, j->tail_len);
}

static void hmac_seal(struct aead *a, struct aead_job *jobs, unsigned int n)
{
	const struct hmac_state *s = (const struct hmac_state *)a->state;
	IMB_MGR *m = thread_mgr();

	for (unsigned int i = 0; i < n; i++)
		jobs[i].ok = 0;
	for (unsigned int i = 0; i < n && m; i++) {
		put_tail(&jobs[i]);
		fill_hmac(IMB_GET_NEXT_JOB(m), s, &jobs[i], STEP_CIPHER | STEP_HASH,
			 IMB_DIR_ENCRYPT, jobs[i].tag);
		job_done(IMB_SUBMIT_JOB_NOCHECK(m));
	}
	if (m)
		finish(m);
}

/* The HMACs of all packets; the tails overwrite the ICVs, which the caller has kept. */
static void hmac_hash(IMB_MGR *m, const struct hmac_state *s, struct aead_job *jobs, unsigned int n,
		     uint8_t (*tags)[AEAD_TAG_MAX])
{
	for (unsigned int i = 0; i < n; i++) {
		put_tail(&jobs[i]);
		fill_hmac(IMB_GET_NEXT_JOB(m), s, &jobs[i], STEP_HASH, IMB_DIR_ENCRYPT, tags[i]);
		job_done(IMB_SUBMIT_JOB_NOCHECK(m));
	}
	finish(m);
}

/* RFC 4303 3.4.4.1: first all ICVs, then only what is authentic is decrypted. */
static void hmac_open(struct aead *a, struct aead_job *jobs, unsigned int n)
{
	uint8_t tags[AEAD_BATCH][AEAD_TAG_MAX], icvs[AEAD_BATCH][AEAD_TAG_MAX];
	const struct hmac_state *s = (const struct hmac_state *)a->state;
	IMB_MGR *m = thread_mgr();

	for (unsigned int i = 0; i < n; i++) {
		jobs[i].ok = 0;
		memcpy(icvs[i], jobs[i].tag, s->icv_len);
	}
	if (!m)
		return;
	hmac_hash(m, s, jobs, n, tags);
	for (unsigned int i = 0; i < n; i++)
		jobs[i].ok &= tag_equal(tags[i], icvs[i], s->icv_len);
	for (unsigned int i = 0; i < n && s->key_len; i++) {
		if (!jobs[i].ok)
			continue;
		fill_hmac(IMB_GET_NEXT_JOB(m), s, &jobs[i], STEP_CIPHER, IMB_DIR_DECRYPT, NULL);
		job_done(IMB_SUBMIT_JOB_NOCHECK(m));
	}
	finish(m);
}

static void cbc_ecb(struct aead *a, uint8_t *blocks, unsigned int n)
{
	const struct hmac_state *s = (const struct hmac_state *)a->state;
	IMB_MGR *m = n ? thread_mgr() : NULL;
	struct aead_job j = {.ok = 0};
	IMB_JOB *b;

	if (!m)
		return;
	b = IMB_GET_NEXT_JOB(m);
	b->cipher_direction = IMB_DIR_ENCRYPT;
	b->chain_order = IMB_ORDER_CIPHER_HASH;
	b->cipher_mode = IMB_CIPHER_ECB;
	b->hash_alg = IMB_AUTH_NULL;
	b->enc_keys = s->iv;
	b->key_len_in_bytes = AEAD_IV_KEY_LEN;
	b->src = b->dst = blocks;
	b->cipher_start_src_offset_in_bytes = 0;
	b->msg_len_to_cipher_in_bytes = n * 16u;
	b->iv_len_in_bytes = 0;
	b->user_data = &j;
	job_done(IMB_SUBMIT_JOB_NOCHECK(m));
	finish(m);
}

/* RFC 2104 2: the digest state after one block of key xor pad, where every packet starts. */
static void hmac_pads(struct hmac_state *s, hash_one_block_t one_block, uint32_t block_len,
		      const uint8_t *key, uint32_t len)
{
	uint8_t block[128] = {0};

	memcpy(block, key, len);
	for (uint32_t i = 0; i < block_len; i++)
		block[i] ^= 0x36;
	one_block(block, s->ipad);
	for (uint32_t i = 0; i < block_len; i++)
		block[i] ^= 0x36 ^ 0x5c;
	one_block(block, s->opad);
	explicit_bzero(block, sizeof block);
}

static void cbc_keys(struct hmac_state *s, uint32_t key_len, const uint8_t *key, const uint8_t *iv_key)
{
	uint8_t dec[15 * 16];

	(key_len == 16 ? fn.keyexp128 : fn.keyexp256)(key, s->enc, s->dec);
	fn.keyexp256(iv_key, s->iv, dec);
	explicit_bzero(dec, sizeof dec);
}

/* The length of its key names a hash: RFC 4868 2.1.1, RFC 2404 3. */
static void hmac_keys(struct hmac_state *s, uint32_t len, const uint8_t *auth)
{
	switch (len) {
	case 20:
		s->hash = IMB_AUTH_HMAC_SHA_1;
		return hmac_pads(s, fn.sha1, IMB_SHA1_BLOCK_SIZE, auth, len);
	case 32:
		s->hash = IMB_AUTH_HMAC_SHA_256;
		return hmac_pads(s, fn.sha256, IMB_SHA_256_BLOCK_SIZE, auth, len);
	case 48:
		s->hash = IMB_AUTH_HMAC_SHA_384;
		return hmac_pads(s, fn.sha384, IMB_SHA_384_BLOCK_SIZE, auth, len);
	default:
		s->hash = IMB_AUTH_HMAC_SHA_512;
		return hmac_pads(s, fn.sha512, IMB_SHA_512_BLOCK_SIZE, auth, len);
	}
}

static void hmac_setup(struct hmac_state *s, const struct aead_desc *d, const uint8_t *key,
		       const uint8_t *iv_key)
{
	s->key_len = d->key_len;
	s->icv_len = d->icv_len;
	if (iv_key)
		cbc_keys(s, d->key_len, key, iv_key);
	hmac_keys(s, d->auth_key_len, key + d->key_len);
}

static int mb_setup(struct aead *a, const struct aead_desc *d, const uint8_t *key,
		    const uint8_t *iv_key)
{
	const struct gcm_fn *g = d->key_len == 16 ? &fn.gcm128 : &fn.gcm256;
	struct gmac_state *gm = (struct gmac_state *)a->state;

	if (d->alg == AEAD_CHACHA20_POLY1305) {
		memcpy(a->state, key, d->key_len);
		a->seal = chacha_seal;
		a->open = chacha_open;
	} else if (aead_has_tail(d->kind)) {
		hmac_setup((struct hmac_state *)a->state, d, key, iv_key);
		a->seal = hmac_seal;
		a->open = hmac_open;
	} else if (d->kind == AEAD_MAC) {
		g->pre(key, &gm->key);
		gm->fn = g;
		a->seal = gmac_seal;
		a->open = gmac_open;
	} else {
		g->pre(key, (struct gcm_key_data *)a->state);
		a->crypt[0] = (void (*)(void))g->crypt[0];
		a->crypt[1] = (void (*)(void))g->crypt[1];
		a->seal = gcm_seal;
		a->apart = true;
		a->open = gcm_open;
	}
	return 0;
}

const struct aead_backend aead_mb = {
	.name = "ipsec-mb",
	.init = mb_init,
	.state_len = mb_state_len,
	.setup = mb_setup,
	.ecb = cbc_ecb,
};
#endif
