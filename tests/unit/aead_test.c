/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Published answers on every backend and path, tampering, batches, thousands of keys, wiping. */
#include <dlfcn.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#include "crypto_rig.h"
#include "aead_backend.h"
#include "secmem.h"
#include "../vectors/aead_vectors.h"
#include "../vectors/esp_vectors.h"
#ifdef HAVE_IPSEC_MB
#include <intel-ipsec-mb.h>
#endif

/* One AEAD call in bytes. */
struct text {
	uint8_t key[AEAD_KEY_MAX], nonce[AEAD_NONCE_LEN], aad[AEAD_AAD_MAX];
	uint8_t data[4096], tag[AEAD_TAG_LEN];
	uint32_t len, aad_len;
	enum aead_alg alg;
};

static struct aead_job job_of(struct text *t)
{
	return (struct aead_job){.nonce = t->nonce,
				 .aad = t->aad,
				 .data = t->data,
				 .tag = t->tag,
				 .len = t->len,
				 .aad_len = t->aad_len,
				 .ok = -1};
}

static int open_one(struct aead *a, struct text *t)
{
	struct aead_job j = job_of(t);

	aead_open(a, &j, 1);
	return j.ok;
}

static void known_answer(const char *source, struct text *t, const char *plain, const char *sealed)
{
	uint8_t want_plain[4096], want[4096];
	struct aead *a = aead_new(t->alg, t->key);
	struct aead_job j;

	assert_non_null(a);
	t->len = (uint32_t)rig_hex(plain, want_plain, sizeof want_plain);
	assert_int_equal(rig_hex(sealed, want, sizeof want), t->len + AEAD_TAG_LEN);
	memcpy(t->data, want_plain, t->len);
	j = job_of(t);
	aead_seal(a, &j, 1);
	if (j.ok != 1 || memcmp(t->data, want, t->len) ||
	    memcmp(t->tag, want + t->len, AEAD_TAG_LEN))
		fail_msg("%s: seal with %s", source, aead_backend_name());
	if (open_one(a, t) != 1 || memcmp(t->data, want_plain, t->len))
		fail_msg("%s: open with %s", source, aead_backend_name());
	aead_free(a);
}

static void aead_answers(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(aead_vectors); i++) {
		const struct aead_vector *v = &aead_vectors[i];
		struct text t = {.alg = v->alg};

		assert_int_equal(rig_hex(v->key, t.key, sizeof t.key),
				 aead_by_alg(v->alg)->key_len);
		assert_int_equal(rig_hex(v->nonce, t.nonce, sizeof t.nonce), AEAD_NONCE_LEN);
		t.aad_len = (uint32_t)rig_hex(v->aad, t.aad, sizeof t.aad);
		known_answer(v->source, &t, v->plain, v->sealed);
	}
}

/* AAD by hand, byte by byte: SPI, then the sequence number's 4 or 8 bytes. */
static void esp_answers(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(esp_vectors); i++) {
		const struct esp_vector *v = &esp_vectors[i];
		struct text t = {.alg = v->alg, .aad_len = v->esn ? 12 : 8};
		int n_seq = v->esn ? 8 : 4;

		rig_hex(v->key, t.key, sizeof t.key);
		rig_hex(v->nonce, t.nonce, sizeof t.nonce);
		for (int b = 0; b < 4; b++)
			t.aad[b] = (uint8_t)(v->spi >> (24 - 8 * b));
		for (int b = 0; b < n_seq; b++)
			t.aad[4 + b] = (uint8_t)(v->seq >> (8 * (n_seq - 1 - b)));
		known_answer(v->source, &t, v->plain, v->sealed);
	}
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
	for (enum aead_alg a = AEAD_NONE + 1; a < AEAD_MAX; a++)
		assert_ptr_equal(aead_by_name(aead_by_alg(a)->name), aead_by_alg(a));
	assert_int_equal(aead_by_name("aes-gcm-128")->key_len, 16);
	assert_int_equal(aead_by_name("aes-gcm-256")->key_len, 32);
	assert_int_equal(aead_by_name("chacha20-poly1305")->key_len, 32);
}

static void test_vectors(void **state)
{
	int n = 0;

	for (size_t b = 0; b < RIG_N; b++) {
		if (!rig_backend(b))
			continue;
		aead_answers();
		esp_answers();
		printf("%s: %zu answers\n", aead_backend_name(),
		       ARRAY_SIZE(aead_vectors) + ARRAY_SIZE(esp_vectors));
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
	struct text t = {.alg = alg, .len = len, .aad_len = rig_below(2) ? 12 : 8};

	rig_fill(t.key, sizeof t.key);
	rig_fill(t.nonce, sizeof t.nonce);
	rig_fill(t.aad, sizeof t.aad);
	rig_fill(t.data, len);
	return t;
}

static void flip_all(struct aead *a, struct text *t, uint8_t *field, size_t len)
{
	for (size_t bit = 0; bit < len * 8; bit++) {
		uint8_t keep[sizeof t->data];

		memcpy(keep, t->data, t->len);
		field[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(open_one(a, t), 0);
		if (field < t->data || field >= t->data + sizeof t->data)
			field[bit / 8] ^= (uint8_t)(1 << bit % 8);
		memcpy(t->data, keep, t->len);
	}
}

/* Any bit of anything: refused. */
static void test_tamper(void **state)
{
	for (size_t b = 0; b < RIG_N; b++) {
		if (!rig_backend(b))
			continue;
		for (enum aead_alg alg = AEAD_NONE + 1; alg < AEAD_MAX; alg++) {
			struct text t = random_text(alg, 100);
			struct aead *a = aead_new(alg, t.key);
			struct aead_job j = job_of(&t);

			aead_seal(a, &j, 1);
			flip_all(a, &t, t.tag, AEAD_TAG_LEN);
			flip_all(a, &t, t.nonce, AEAD_NONCE_LEN);
			flip_all(a, &t, t.aad, t.aad_len);
			flip_all(a, &t, t.data, t.len);
			t.aad_len -= 4;
			assert_int_equal(open_one(a, &t), 0);
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
				t[i].tag[i % AEAD_TAG_LEN] ^= bad >> i & 1;
				jobs[i].ok = -1;
			}
			aead_open(a, jobs, n);
			for (unsigned int i = 0; i < n; i++) {
				assert_int_equal(jobs[i].ok, !(bad >> i & 1));
				if (jobs[i].ok)
					assert_memory_equal(t[i].data, plain[i].data, t[i].len);
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
		struct aead_job j = job_of(&t);

		assert_non_null(a);
		aead_seal(a, &j, 1);
		if (first)
			ref[i] = t;
		if (memcmp(ref[i].data, t.data, t.len) || memcmp(ref[i].tag, t.tag, AEAD_TAG_LEN))
			fail_msg("%s and openssl differ: alg %d len %u", aead_backend_name(), t.alg,
				 t.len);
		t = ref[i];
		assert_int_equal(open_one(a, &t), 1);
		assert_memory_equal(t.data, plain[i].data, t.len);
		aead_free(a);
	}
}

/* 20,000 random texts (AEAD_DIFF_N): every backend seals to the same bytes and opens them. */
static void test_differential(void **state)
{
	static struct text plain[GROUP], ref[GROUP];
	uint64_t left = rig_env("AEAD_DIFF_N", 20000);

	while (left) {
		unsigned int n = (unsigned int)MIN(left, (uint64_t)GROUP);

		for (unsigned int i = 0; i < n; i++)
			plain[i] = random_text(
				(enum aead_alg)(AEAD_NONE + 1 + rig_below(AEAD_MAX - 1)),
				(uint32_t)rig_below(rig_below(4) ? 300 : 4000));
		for (size_t b = RIG_N; b-- > 0;) /* openssl first: it is there everywhere */
			if (rig_backend(b))
				same_group(plain, ref, n, b == RIG_N - 1);
		left -= n;
	}
}

enum { KEYS = 3000 };

static void test_many_keys(void **state)
{
	static struct aead *a[KEYS];
	static uint8_t tag[KEYS][AEAD_TAG_LEN];

	for (size_t b = 0; b < RIG_N; b += RIG_N - 1) { /* best and openssl */
		struct text t = random_text(AEAD_AES_GCM_128, 0);

		if (!rig_backend(b))
			continue;
		for (int pass = 0; pass < 2; pass++)
			for (uint32_t i = 0; i < KEYS; i++) {
				struct aead_job j = job_of(&t);

				memcpy(t.key, &i, sizeof i);
				if (!pass)
					a[i] = aead_new(AEAD_NONE + 1 + i % 3, t.key);
				assert_non_null(a[i]);
				aead_seal(a[i], &j, 1);
				if (pass)
					assert_memory_equal(tag[i], t.tag, AEAD_TAG_LEN);
				memcpy(tag[i], t.tag, AEAD_TAG_LEN);
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
	for (size_t i = sizeof(void *); i < 64 + AEAD_KEY_MAX; i++)
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

/* Look for the first half of a key; the only copy allowed is the one looked with. */
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

/* I3: a key in use, and after use, is nowhere but in secret memory. */
static void test_key_hunt(void **state)
{
#ifdef __SANITIZE_ADDRESS__
	skip(); /* its shadow memory is terabytes of rw mapping */
#endif
	for (size_t b = 0; b < RIG_N; b++) {
		if (!rig_backend(b))
			continue;
		for (enum aead_alg alg = AEAD_NONE + 1; alg < AEAD_MAX; alg++) {
			static struct text t;
			uint8_t masked[AEAD_KEY_MAX];
			struct aead_job j;
			struct aead *a;

			t = (struct text){.alg = alg, .len = 100, .aad_len = 8};
			rig_fill(t.key, sizeof t.key); /* in place: no copy on the stack */
			for (size_t i = 0; i < sizeof masked; i++)
				masked[i] = t.key[i] ^ 0xff;
			a = aead_new(alg, t.key);
			for (int i = 0; i < 3; i++) {
				j = job_of(&t);
				aead_seal(a, &j, 1);
				assert_int_equal(open_one(a, &t), 1);
			}
			explicit_bzero(&t, sizeof t);
			hunt_masked(masked, aead_backend_name(), alg);
			aead_free(a);
			hunt_masked(masked, aead_backend_name(), alg);
		}
	}
}

/* A child's libcrypto must not miss what we keep from it. */
static void test_fork(void **state)
{
	struct text t = random_text(AEAD_AES_GCM_128, 10);
	struct aead *a;
	int status;
	pid_t pid;

	assert_int_equal(aead_backend_select("openssl"), 0);
	a = aead_new(t.alg, t.key);
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
	aead_free(a);
}

static void *seal_a_lot(void *arg)
{
	struct text t = *(struct text *)arg, plain = t;
	struct aead *a = aead_new(t.alg, t.key);
	uintptr_t bad = !a;

	for (int i = 0; a && i < 5000; i++) {
		struct aead_job j = job_of(&t);

		aead_seal(a, &j, 1);
		bad += !j.ok || !open_one(a, &t) || memcmp(t.data, plain.data, t.len);
	}
	aead_free(a);
	return (void *)bad;
}

static void test_threads(void **state)
{
	for (size_t b = 0; b < RIG_N; b += RIG_N - 1) {
		struct text t[4];
		pthread_t id[4];
		void *bad;

		if (!rig_backend(b))
			continue;
		for (int i = 0; i < 4; i++) {
			t[i] = random_text(AEAD_NONE + 1 + i % 3, 200);
			assert_int_equal(pthread_create(&id[i], NULL, seal_a_lot, &t[i]), 0);
		}
		for (int i = 0; i < 4; i++) {
			assert_int_equal(pthread_join(id[i], &bad), 0);
			assert_null(bad);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_before_select), /* first: nothing is selected yet */
		cmocka_unit_test(test_table),         cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_path_shown),    cmocka_unit_test(test_tamper),
		cmocka_unit_test(test_batches),       cmocka_unit_test(test_differential),
		cmocka_unit_test(test_many_keys),     cmocka_unit_test(test_wiped),
		cmocka_unit_test(test_key_hunt),      cmocka_unit_test(test_fork),
		cmocka_unit_test(test_threads),
	};

	rig_seed("aead_test");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
