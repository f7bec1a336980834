/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ipsec-mb backend. AES-GCM: the direct, one-call-per-packet functions, which use nothing but
 * their arguments, so the manager only serves to choose them. ChaCha20-Poly1305: the job
 * interface, a third faster than init/update/finalize on small packets; it needs a manager per
 * thread, made at the thread's first packet.
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

/* What init() chose; read-only afterwards. */
static struct {
	const struct isa *isa;
	aes_gcm_pre_t gcm_pre[AEAD_MAX];
	aes_gcm_enc_dec_t gcm[AEAD_MAX][2];
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
	fn.gcm_pre[AEAD_AES_GCM_128] = m->gcm128_pre;
	fn.gcm[AEAD_AES_GCM_128][0] = m->gcm128_enc;
	fn.gcm[AEAD_AES_GCM_128][1] = m->gcm128_dec;
	fn.gcm_pre[AEAD_AES_GCM_256] = m->gcm256_pre;
	fn.gcm[AEAD_AES_GCM_256][0] = m->gcm256_enc;
	fn.gcm[AEAD_AES_GCM_256][1] = m->gcm256_dec;
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

static uint32_t mb_state_len(enum aead_alg alg)
{
	return alg == AEAD_CHACHA20_POLY1305 ? AEAD_KEY_MAX : sizeof(struct gcm_key_data);
}

/* Constant time: which byte differs must not show. */
static int tag_equal(const uint8_t *a, const uint8_t *b)
{
	uint64_t x[2], y[2];

	memcpy(x, a, sizeof x);
	memcpy(y, b, sizeof y);
	return !((x[0] ^ y[0]) | (x[1] ^ y[1]));
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
		enc(key, &ctx, j->data, j->data, j->len, j->nonce, j->aad, j->aad_len, j->tag,
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
		j->ok = tag_equal(tag, j->tag);
	}
	explicit_bzero(&ctx, sizeof ctx);
}

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

static void fill_job(IMB_JOB *b, const uint8_t *key, struct aead_job *j, int dir, uint8_t *tag)
{
	b->cipher_direction = dir ? IMB_DIR_DECRYPT : IMB_DIR_ENCRYPT;
	b->chain_order = dir ? IMB_ORDER_HASH_CIPHER : IMB_ORDER_CIPHER_HASH;
	b->cipher_mode = IMB_CIPHER_CHACHA20_POLY1305;
	b->hash_alg = IMB_AUTH_CHACHA20_POLY1305;
	b->enc_keys = b->dec_keys = key;
	b->key_len_in_bytes = AEAD_KEY_MAX;
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

static void job_done(const IMB_JOB *b)
{
	if (b)
		((struct aead_job *)b->user_data)->ok = b->status == IMB_STATUS_COMPLETED;
}

/* tags: open puts what it computed there; NULL = straight into the packet. */
static void chacha_run(const uint8_t *key, struct aead_job *jobs, unsigned int n, int dir,
		       uint8_t (*tags)[AEAD_TAG_LEN])
{
	IMB_MGR *m = thread_mgr();
	IMB_JOB *b;

	for (unsigned int i = 0; i < n; i++)
		jobs[i].ok = 0;
	for (unsigned int i = 0; i < n && m; i++) {
		prefetch(jobs, i + 1, n);
		fill_job(IMB_GET_NEXT_JOB(m), key, &jobs[i], dir, tags ? tags[i] : jobs[i].tag);
		job_done(IMB_SUBMIT_JOB_NOCHECK(m));
	}
	while (m && (b = IMB_FLUSH_JOB(m)))
		job_done(b);
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
		jobs[i].ok = jobs[i].ok && tag_equal(tags[i], jobs[i].tag);
}

static int mb_setup(struct aead *a, enum aead_alg alg, const uint8_t *key)
{
	if (alg == AEAD_CHACHA20_POLY1305) {
		memcpy(a->state, key, AEAD_KEY_MAX);
		a->seal = chacha_seal;
		a->open = chacha_open;
		return 0;
	}
	fn.gcm_pre[alg](key, (struct gcm_key_data *)a->state);
	a->crypt[0] = (void (*)(void))fn.gcm[alg][0];
	a->crypt[1] = (void (*)(void))fn.gcm[alg][1];
	a->seal = gcm_seal;
	a->open = gcm_open;
	return 0;
}

const struct aead_backend aead_mb = {
	.name = "ipsec-mb",
	.init = mb_init,
	.state_len = mb_state_len,
	.setup = mb_setup,
};
#endif
