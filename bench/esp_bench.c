/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * esp_bench - clocks per packet of esp_seal() and esp_open(), every backend and algorithm.
 *
 * Reference clocks (TSC on x86), median over batches: what other guests of the machine steal does
 * not count. Frames lie 2 KiB apart like UMEM frames and stay in cache, so this is the ESP stage
 * alone. Arguments: [-n ROUNDS] [-b BATCH] [-a ALG] [-s LEN] [BACKEND...]
 */
#include <inttypes.h>
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
};

struct pair {
	struct sa_out out;
	struct sa_in in;
	uint64_t top, words[WINDOW / 64 * 2];
};

static uint8_t pool[ESP_BATCH][FRAME] __attribute__((aligned(4096)));

static uint64_t clocks(void)
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
static void fill(struct esp_pkt *pkts, unsigned int n, unsigned int len)
{
	for (unsigned int i = 0; i < n; i++) {
		uint8_t *ip = pool[i] + 64;

		ip[0] = 0x45;
		ip[2] = (uint8_t)(len >> 8);
		ip[3] = (uint8_t)len;
		pkts[i] = (struct esp_pkt){.data = ip, .len = len, .next = NEXT_IP4};
	}
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

static unsigned int dropped(const struct esp_pkt *pkts, unsigned int n)
{
	unsigned int bad = 0;

	for (unsigned int i = 0; i < n; i++)
		bad += pkts[i].drop != DROP_NONE;
	return bad;
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
		fill(pkts, s->batch, len);
		t[0] = clocks();
		esp_seal(&p.out, pkts, s->batch);
		t[1] = clocks();
		esp_open(&p.in, pkts, s->batch, NULL);
		t[2] = clocks();
		seal[r] = (uint32_t)(t[1] - t[0]);
		open[r] = (uint32_t)(t[2] - t[1]);
		bad += dropped(pkts, s->batch);
	}
	printf("  %-25s %5u B  seal %7.1f  open %7.1f%s\n", aead_by_alg(alg)->name, len,
	       median(seal, s->rounds, s->batch), median(open, s->rounds, s->batch),
	       bad ? "  DROPS" : "");
	sa_out_fini(&p.out);
	sa_in_fini(&p.in);
	free(seal);
	free(open);
	return bad != 0;
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

static int usage(void)
{
	fprintf(stderr, "usage: esp_bench [-n ROUNDS] [-b BATCH] [-a ALG] [-s LEN] [BACKEND...]\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const char *const all[] = {"ipsec-mb", "openssl"};
	struct setup s = {.rounds = 20000, .batch = 32};
	int c, bad = 0;

	while ((c = getopt(argc, argv, "n:b:a:s:")) != -1) {
		if (c == 'n')
			s.rounds = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 'b')
			s.batch = (unsigned int)strtoul(optarg, NULL, 10);
		else if (c == 'a')
			s.alg = optarg;
		else if (c == 's')
			s.len = (unsigned int)strtoul(optarg, NULL, 10);
		else
			return usage();
	}
	if (!s.rounds || !s.batch || s.batch > ESP_BATCH || s.len > LEN_MAX ||
	    (s.len && s.len < 20))
		return usage();
	for (size_t i = 0; i < ARRAY_SIZE(all) && optind == argc; i++)
		bad |= bench_backend(&s, all[i]);
	for (int i = optind; i < argc; i++)
		bad |= bench_backend(&s, argv[i]);
	printf("keys in %s\n", secmem_kind());
	return bad;
}
