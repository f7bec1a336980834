/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fuzz_main - main() of a harness that is not linked with libFuzzer: replays the files and
 * directories named, or with `-g N` makes and runs N inputs by make_input() (SEED).
 */
#ifndef FUZZ_MAIN_H
#define FUZZ_MAIN_H

#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#ifndef FUZZ_LIBFUZZER

enum { FUZZ_IN_MAX = 1 << 16 };

/* The harness's: one plausible input. Return: its length, at most room */
static size_t make_input(uint64_t *s, uint8_t *buf, size_t room);

static uint64_t fuzz_random(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static unsigned long fuzz_runs;

static int fuzz_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	static uint8_t buf[FUZZ_IN_MAX];
	FILE *f = type == FTW_F ? fopen(path, "rb") : NULL;
	size_t n;

	if (!f)
		return type == FTW_F;
	n = fread(buf, 1, sizeof(buf), f);
	fclose(f);
	LLVMFuzzerTestOneInput(buf, n);
	fuzz_runs++;
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t s = getenv("SEED") ? strtoull(getenv("SEED"), NULL, 0) : 20260101;
	static uint8_t buf[FUZZ_IN_MAX];

	if (argc == 3 && !strcmp(argv[1], "-g")) {
		for (unsigned long n = strtoul(argv[2], NULL, 0); fuzz_runs < n; fuzz_runs++)
			LLVMFuzzerTestOneInput(buf, make_input(&s, buf, sizeof(buf)));
	} else {
		for (int i = 1; i < argc; i++)
			if (nftw(argv[i], fuzz_file, 8, FTW_PHYS)) {
				perror(argv[i]);
				return 1;
			}
	}
	printf("%s: %lu inputs\n", argv[0], fuzz_runs);
	return fuzz_runs == 0;
}

#endif
#endif
