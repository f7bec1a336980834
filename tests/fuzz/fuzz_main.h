/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuzz_main - main() of a harness that is not linked with libFuzzer: a unit test with two cases. `corpus`
 * replays tests/fuzz/<name>.corpus, where every bug that a fuzzer found keeps its input; `random` runs
 * FUZZ_N inputs that make_input() made from SEED. Arguments are files to run instead,
 * `-g N`: that many made inputs, `-s DIR N`: writes them as seeds.
 *
 * A harness holds its rules up by HOLD(), which aborts: for libFuzzer that is a finding.
 */
#ifndef FUZZ_MAIN_H
#define FUZZ_MAIN_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char fuzz_at[80]; /* which input, for the message */

#define HOLD(what)                                                                                 \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "%s:%d: does not hold: %s%s\n", __FILE__, __LINE__, #what, fuzz_at); \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* Inputs of at most so many bytes; libFuzzer is told the same (tests/fuzz/run). */
enum { FUZZ_IN_MAX = 4096 };

/* Bytes in memory of exactly their size, so that AddressSanitizer sees one read too many. */
static inline uint8_t *fuzz_copy(const uint8_t *bytes, size_t len)
{
	uint8_t *p = malloc(len ? len : 1);

	HOLD(p);
	memcpy(p, bytes, len);
	return p;
}

/* struct fuzz_in - an input, taken from the front; behind its end there are zeroes */
struct fuzz_in {
	const uint8_t *p;
	size_t left;
};

static inline uint8_t fuzz_u8(struct fuzz_in *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->p++;
}

static inline uint16_t fuzz_u16(struct fuzz_in *in)
{
	uint16_t hi = fuzz_u8(in);

	return (uint16_t)(hi << 8 | fuzz_u8(in));
}

/* Up to len bytes. Return: how many there were */
static inline size_t fuzz_take(struct fuzz_in *in, uint8_t *to, size_t len)
{
	len = len < in->left ? len : in->left;
	memcpy(to, in->p, len);
	in->p += len;
	in->left -= len;
	return len;
}

#ifndef FUZZ_LIBFUZZER

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>

/* The harness's: one plausible input. Return: its length, at most room */
static size_t make_input(uint64_t *s, uint8_t *buf, size_t room);

static uint64_t fuzz_random(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static uint8_t fuzz_buf[1 << 16];

static uint64_t fuzz_env(const char *name, uint64_t dflt)
{
	const char *v = getenv(name);

	return v && *v ? strtoull(v, NULL, 0) : dflt;
}

static int fuzz_hex(char c)
{
	return c <= '9' ? c - '0' : c - 'a' + 10;
}

/* One line of a corpus (tests/fuzz/corpus.py): bytes, and \\ \n \t \xHH. Return: length */
static size_t fuzz_line(const char *s, uint8_t *to)
{
	size_t n = 0;

	for (; *s && *s != '\n'; s++) {
		if (*s != '\\') {
			to[n++] = (uint8_t)*s;
		} else if (*++s == 'x') {
			to[n++] = (uint8_t)(fuzz_hex(s[1]) << 4 | fuzz_hex(s[2]));
			s += 2;
		} else {
			to[n++] = *s == 'n' ? '\n' : *s == 't' ? '\t' : (uint8_t)*s;
		}
	}
	return n;
}

static void fuzz_corpus(void **state)
{
	static const char name[] = "tests/fuzz/" FUZZ_NAME ".corpus";
	FILE *f = fopen(name, "r");
	unsigned int n = 0, line = 0;
	size_t room = 0;
	char *s = NULL;

	if (!f)
		skip(); /* not started from the top of the tree */
	while (getline(&s, &room, f) > 0) {
		line++;
		if (*s == '#' || *s == '\n')
			continue;
		HOLD(strlen(s) < sizeof(fuzz_buf));
		snprintf(fuzz_at, sizeof(fuzz_at), " (%s line %u)", name, line);
		LLVMFuzzerTestOneInput(fuzz_buf, fuzz_line(s, fuzz_buf));
		n++;
	}
	free(s);
	fclose(f);
	print_message("%u inputs\n", n);
	assert_true(n >= 5);
}

static void fuzz_made(uint64_t n)
{
	uint64_t s = fuzz_env("SEED", 20260101);

	for (uint64_t i = 0; i < n; i++) {
		snprintf(fuzz_at, sizeof(fuzz_at), " (made input %llu)", (unsigned long long)i);
		LLVMFuzzerTestOneInput(fuzz_buf, make_input(&s, fuzz_buf, FUZZ_IN_MAX));
	}
}

static void fuzz_random_inputs(void **state)
{
	fuzz_made(fuzz_env("FUZZ_N", 2000));
}

/* Seeds for libFuzzer: n made inputs as files. */
static void fuzz_seeds(const char *dir, unsigned int n)
{
	uint64_t s = fuzz_env("SEED", 20260101);
	char path[4096];
	FILE *f;

	for (unsigned int i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/made-%u", dir, i);
		f = fopen(path, "wb");
		HOLD(f);
		fwrite(fuzz_buf, 1, make_input(&s, fuzz_buf, FUZZ_IN_MAX), f);
		fclose(f);
	}
}

static void fuzz_file(const char *path)
{
	FILE *f = fopen(path, "rb");

	if (!f) {
		perror(path);
		exit(1);
	}
	snprintf(fuzz_at, sizeof(fuzz_at), " (%.60s)", path);
	LLVMFuzzerTestOneInput(fuzz_buf, fread(fuzz_buf, 1, sizeof(fuzz_buf), f));
	fclose(f);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		{"corpus", fuzz_corpus, NULL, NULL, NULL},
		{"random", fuzz_random_inputs, NULL, NULL, NULL},
	};

	if (argc == 3 && !strcmp(argv[1], "-g")) {
		fuzz_made(strtoull(argv[2], NULL, 0));
		return 0;
	}
	if (argc == 4 && !strcmp(argv[1], "-s")) {
		fuzz_seeds(argv[2], (unsigned int)atoi(argv[3]));
		return 0;
	}
	for (int i = 1; i < argc; i++)
		fuzz_file(argv[i]);
	return argc > 1 ? 0 : cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
#endif
