/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * esp_bench - clocks per packet of esp_seal() and esp_open(), every backend and algorithm; beside them
 * what the crypto library alone takes for as many bytes, which no ESP over it can be below.
 *
 * Reference clocks (TSC on x86), median over batches: what other guests of the machine steal does
 * not count. Frames lie 2 KiB apart like UMEM frames and stay in cache, so this is the ESP stage
 * alone. Arguments: [-t] [-n ROUNDS] [-b BATCH] [-a ALG] [-s LEN] [BACKEND...]
 *
 * The first line is how many such clocks one cycle of the core lasts: dividing by it gives cycles,
 * the only figure that compares across machines.
 *
 * -t: instead, one outbound SA of 64 B packets shared by two threads on the first two cores, each
 * with an expanded key and frames of its own; a thread takes the sequence numbers of a batch by one
 * atomic add (I2). Beside it the same thread alone, without the add.
 */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "esp.h"
#include "secmem.h"
#include "util.h"

enum { FRAME = 2048, LEN_MAX = FRAME - 64 - ESP_TAILROOM_MAX, WINDOW = 4096 };

struct setup {
	unsigned int rounds, batch;
	const char *alg;  /* NULL = all */
	unsigned int len; /* 0 = 64 and 1400 */
	bool threads;
};

struct pair {
	struct sa_out out;
	struct sa_in in;
	uint64_t top, words[WINDOW / 64 * 2];
};

struct frames {
	uint8_t at[ESP_BATCH][FRAME];
} __attribute__((aligned(4096)));

static struct frames pool[2]; /* of the first and of the second thread */

/* as clocks(), but what was before it is done */
static uint64_t stamp(void)
{
#if defined(__x86_64__)
	unsigned int aux;

	return __builtin_ia32_rdtscp(&aux);
#else
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + ts.tv_nsec;
#endif
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double median(uint32_t *v, unsigned int n, unsigned int batch)
{
	qsort(v, n, sizeof *v, by_value);
	return (double)v[n / 2] / batch;
}

/* Additions that each wait for the one before take a cycle each. */
static double clocks_per_cycle(void)
{
	enum { BLOCKS = 1001, ADDS = 4096 };
	uint32_t v[BLOCKS];
	uint64_t x = 0;

	for (int b = 0; b < BLOCKS; b++) {
		uint64_t t = stamp();

		for (int i = 0; i < ADDS; i += 16)
			for (int k = 0; k < 16; k++)
				__asm__ volatile("add $1, %0" : "+r"(x));
		v[b] = (uint32_t)(stamp() - t);
	}
	return median(v, BLOCKS, ADDS);
}

static int pair_init(struct pair *p, enum aead_alg alg)
{
	struct sa_conf c = {
		.dir = SA_OUT, .spi = 0x1000, .alg = alg, .esn = true, .window = WINDOW};
	int err;

	memset(p, 0, sizeof *p);
	memset(c.key, 0x5a, sizeof c.key);
	err = sa_out_init(&p->out, &c);
	if (err)
		return err;
	c.dir = SA_IN;
	return sa_in_init(&p->in, &c, &p->top, p->words);
}

/* An IPv4 header that says len is all esp_open() wants. */
static void fill(struct frames *f, struct esp_pkt *pkts, unsigned int n, unsigned int len)
{
	for (unsigned int i = 0; i < n; i++) {
		uint8_t *ip = f->at[i] + 64;

		ip[0] = 0x45;
		ip[2] = (uint8_t)(len >> 8);
		ip[3] = (uint8_t)len;
		pkts[i] = (struct esp_pkt){.data = ip, .len = len, .next = NEXT_IP4};
	}
}

static unsigned int dropped(const struct esp_pkt *pkts, unsigned int n)
{
	unsigned int bad = 0;

	for (unsigned int i = 0; i < n; i++)
		bad += pkts[i].drop != DROP_NONE;
	return bad;
}

/* the library's part of run(): the same frames and as many bytes, padded, but nothing of ESP */
static int run_cipher(const struct setup *s, enum aead_alg alg, unsigned int len)
{
	uint32_t *seal = calloc(s->rounds, sizeof *seal), *open = calloc(s->rounds, sizeof *open);
	static const uint8_t key[AEAD_KEY_MAX], nonce[AEAD_IV_MAX];
	const struct aead_desc *d = aead_by_alg(alg);
	struct aead *a = aead_new(alg, key);
	unsigned int bad = 0;
	uint64_t t[3];

	if (!seal || !open || !a)
		return 1;
	len = (len + 2 + d->align - 1) / d->align * d->align;
	for (unsigned int r = 0; r < s->rounds; r++) {
		struct aead_job jobs[ESP_BATCH];

		for (unsigned int i = 0; i < s->batch; i++) {
			uint8_t *data = pool[0].at[i] + 64;

			jobs[i] = (struct aead_job){.nonce = nonce, .aad = data - AEAD_AAD_MAX,
						    .aad_len = AEAD_AAD_MAX, .data = data,
						    .len = len, .tag = data + len};
		}
		t[0] = stamp();
		aead_seal(a, jobs, s->batch);
		t[1] = stamp();
		aead_open(a, jobs, s->batch);
		t[2] = stamp();
		seal[r] = (uint32_t)(t[1] - t[0]);
		open[r] = (uint32_t)(t[2] - t[1]);
		for (unsigned int i = 0; i < s->batch; i++)
			bad += !jobs[i].ok;
	}
	printf("  cipher alone %7.1f %7.1f%s\n", median(seal, s->rounds, s->batch),
	       median(open, s->rounds, s->batch), bad ? "  DROPS" : "");
	aead_free(a);
	free(seal);
	free(open);
	return bad != 0;
}

static int run(const struct setup *s, enum aead_alg alg, unsigned int len)
{
	uint32_t *seal = calloc(s->rounds, sizeof *seal), *open = calloc(s->rounds, sizeof *open);
	struct esp_pkt pkts[ESP_BATCH];
	unsigned int bad = 0;
	struct pair p;
	uint64_t t[3];

	if (!seal || !open || pair_init(&p, alg))
		return 1;
	for (unsigned int r = 0; r < s->rounds; r++) {
		fill(&pool[0], pkts, s->batch, len);
		t[0] = stamp();
		esp_seal(&p.out, pkts, s->batch);
		t[1] = stamp();
		esp_open(&p.in, pkts, s->batch, NULL);
		t[2] = stamp();
		seal[r] = (uint32_t)(t[1] - t[0]);
		open[r] = (uint32_t)(t[2] - t[1]);
		bad += dropped(pkts, s->batch);
	}
	printf("  %-25s %5u B  seal %7.1f  open %7.1f%s", aead_by_alg(alg)->name, len,
	       median(seal, s->rounds, s->batch), median(open, s->rounds, s->batch),
	       bad ? "  DROPS" : "");
	sa_out_fini(&p.out);
	sa_in_fini(&p.in);
	free(seal);
	free(open);
	return (bad != 0) | run_cipher(s, alg, len);
}

static int bench_backend(const struct setup *s, const char *name)
{
	int bad = 0;

	if (aead_backend_select(name)) {
		printf("%s: not here\n", name);
		return 0;
	}
	printf("%s, batch %u, clocks per packet\n", aead_backend_name(), s->batch);
	for (enum aead_alg a = AEAD_NONE + 1; a < AEAD_MAX; a++) {
		if (s->alg && strcmp(s->alg, aead_by_alg(a)->name))
			continue;
		if (s->len) {
			bad |= run(s, a, s->len);
			continue;
		}
		bad |= run(s, a, 64);
		bad |= run(s, a, 1400);
	}
	return bad;
}

/* A thread that seals; first all alone, then beside the other. Each has cache lines of its own. */
struct sealer {
	const struct setup *s;
	struct sa_out sa;
	struct frames *frames;
	int core;
	atomic_uint_fast64_t *seq; /* last number taken by anybody; NULL: this thread owns the SA */
	pthread_barrier_t *start;
	uint32_t *took;
	double clocks; /* result: median per packet */
	bool bad;
} __attribute__((aligned(128)));

/* Ask for the cache line to write to; where the CPU cannot, it is a no-op. */
static void want(const void *p)
{
	__asm__ volatile("prefetchw %0" : : "m"(*(const char *)p));
}

static void *seal_rounds(void *arg)
{
	struct sealer *w = arg;
	struct esp_pkt pkts[ESP_BATCH];
	unsigned int n = w->s->batch;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(w->core, &set);
	w->bad = pthread_setaffinity_np(pthread_self(), sizeof set, &set) != 0;
	pthread_barrier_wait(w->start);
	for (unsigned int r = 0; r < w->s->rounds; r++) {
		uint64_t t;

		if (w->seq) /* asked for while frames are read, as a worker would */
			want(w->seq);
		fill(w->frames, pkts, n, 64);
		t = stamp();
		if (w->seq)
			w->sa.seq = w->sa.iv =
				atomic_fetch_add_explicit(w->seq, n, memory_order_relaxed);
		esp_seal(&w->sa, pkts, n);
		w->took[r] = (uint32_t)(stamp() - t);
		w->bad |= dropped(pkts, n) != 0;
	}
	w->clocks = median(w->took, w->s->rounds, n);
	return NULL;
}

/* n sealers at once; they all must have been able to run. */
static bool seal_beside(struct sealer *w, unsigned int n)
{
	pthread_barrier_t start;
	pthread_t id[2];
	bool bad = false;

	pthread_barrier_init(&start, NULL, n);
	for (unsigned int i = 0; i < n; i++) {
		w[i].start = &start;
		if (pthread_create(&id[i], NULL, seal_rounds, &w[i]))
			exit(1); /* the other would wait for ever */
	}
	for (unsigned int i = 0; i < n; i++) {
		pthread_join(id[i], NULL);
		bad |= w[i].bad;
	}
	pthread_barrier_destroy(&start);
	return bad;
}

static int bench_threads(const struct setup *s)
{
	static _Alignas(64) atomic_uint_fast64_t seq;
	static struct pair pair[2];
	static _Alignas(128) struct sealer w[2];
	double alone, each;
	bool bad = false;

	if (aead_backend_select("auto"))
		return 1;
	for (int i = 0; i < 2; i++) {
		if (pair_init(&pair[i], AEAD_AES_GCM_128))
			return 1;
		w[i] = (struct sealer){.s = s, .sa = pair[i].out, .frames = &pool[i], .core = i};
		w[i].took = calloc(s->rounds, sizeof *w[i].took);
		if (!w[i].took)
			return 1;
	}
	bad |= seal_beside(w, 1);
	alone = w[0].clocks;
	bad |= seal_beside(w, 2); /* what two cores take from each other without sharing anything */
	each = (w[0].clocks + w[1].clocks) / 2;
	for (int i = 0; i < 2; i++)
		w[i].seq = &seq;
	bad |= seal_beside(w, 2);
	printf("%s, batch %u, alone %.1f, two with an SA each %.1f, shared by two %.1f %.1f clocks per packet%s\n",
	       aead_backend_name(), s->batch, alone, each, w[0].clocks, w[1].clocks,
	       bad ? "  DROPS" : "");
	for (int i = 0; i < 2; i++) {
		sa_out_fini(&pair[i].out);
		sa_in_fini(&pair[i].in);
		free(w[i].took);
	}
	return bad;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: esp_bench [-t] [-n ROUNDS] [-b BATCH] [-a ALG] [-s LEN] [BACKEND...]\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const char *const all[] = {"ipsec-mb", "openssl"};
	struct setup s = {.rounds = 20000, .batch = 32};
	int c, bad = 0;

	while ((c = getopt(argc, argv, "tn:b:a:s:")) != -1) {
		if (c == 'n')
			s.rounds = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 'b')
			s.batch = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 'a')
			s.alg = optarg;
		else if (c == 's')
			s.len = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 't')
			s.threads = true;
		else
			return usage();
	}
	if (!s.rounds || !s.batch || s.batch > ESP_BATCH || s.len > LEN_MAX ||
	    (s.len && s.len < 20))
		return usage();
	printf("%.3f clocks per cycle\n", clocks_per_cycle());
	if (s.threads)
		return bench_threads(&s);
	for (size_t i = 0; i < ARRAY_SIZE(all) && optind == argc; i++)
		bad |= bench_backend(&s, all[i]);
	for (int i = optind; i < argc; i++)
		bad |= bench_backend(&s, argv[i]);
	printf("keys in %s\n", secmem_kind());
	return bad;
}
