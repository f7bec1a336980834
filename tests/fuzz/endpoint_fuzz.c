/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * endpoint_fuzz - a file of any bytes: lines are refused, or say exactly what they would be written as.
 *
 * Held up: what is taken is a peer's name without blanks, a path that can be, an address, and prints as the
 * same bytes; the checksum is in them, so a made input that fits one by chance is a finding, too.
 */
#include <ctype.h>
#include <stdio.h>
#include "endpoint.h"
#include "fuzz_main.h"

static void line(const uint8_t *p, size_t len)
{
	char *copy = (char *)fuzz_copy(p, len), again[ENDPOINT_LINE_MAX];
	struct endpoint e;

	if (endpoint_parse(copy, len, &e)) {
		HOLD(e.peer[0] && strlen(e.peer) < sizeof e.peer && e.path < PATHS_MAX);
		for (const char *c = e.peer; *c; c++)
			HOLD(!isspace((unsigned char)*c));
		HOLD(endpoint_print(&e, again) == (int)len + 1 && !memcmp(again, copy, len));
	}
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *nl;

	for (; size; size -= nl - data + 1, data = nl + 1) {
		nl = memchr(data, '\n', size);
		if (!nl) {
			line(data, size);
			break;
		}
		line(data, nl - data);
	}
	return 0;
}

#ifndef FUZZ_LIBFUZZER
static size_t make_input(uint64_t *s, uint8_t *buf, size_t room)
{
	struct endpoint e = {.path = fuzz_random(s) % PATHS_MAX, .port = (uint16_t)fuzz_random(s), .clock_ms = fuzz_random(s) >> 20};
	size_t n = 0;

	for (unsigned int i = 0; i < 6; i++) {
		snprintf(e.peer, sizeof e.peer, "peer%u", i);
		for (unsigned int k = 0; k < 16; k++)
			e.remote.s6_addr[k] = (uint8_t)fuzz_random(s);
		n += endpoint_print(&e, (char *)buf + n);
	}
	for (unsigned int i = fuzz_random(s) % 4; i--;)
		buf[fuzz_random(s) % n] ^= (uint8_t)(1 << fuzz_random(s) % 8);
	return n - fuzz_random(s) % 40;
}
#endif
