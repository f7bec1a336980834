/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * conf_fuzz - any text is refused with a reason or taken; what was taken prints as text that loads
 * to the same again. Input that begins with a control byte is "KEY\nVALUE" for link_conf_set()
 * instead, which must leave the link alone when it refuses.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "conf.h"
#include "fuzz_main.h"

static char *printed(const struct conf *c, bool all)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	conf_print(c, f, all);
	fclose(f);
	return text;
}

static void round_trip(const struct conf *c, bool all)
{
	char *text = printed(c, all), *again;
	struct conf d;

	HOLD(conf_parse_string(&d, text, "printed", stderr) == 0);
	HOLD(conf_equal(c, &d));
	again = printed(&d, all);
	HOLD(!strcmp(text, again));
	free(again);
	free(text);
	conf_free(&d);
}

static void whole_file(const char *text)
{
	char *said = NULL;
	size_t len, lines = 0;
	FILE *errs = open_memstream(&said, &len);
	struct conf c;
	int n = conf_parse_string(&c, text, "f", errs);

	fclose(errs);
	HOLD(n >= 0);
	for (size_t i = 0; i < len; i++) {
		lines += said[i] == '\n';
		HOLD(said[i] == '\n' || said[i] == '\t' || (unsigned char)said[i] >= 0x20);
	}
	HOLD(lines == (size_t)n);
	if (!n) {
		round_trip(&c, false);
		round_trip(&c, true);
	}
	free(said);
	conf_free(&c);
}

static void one_key(char *text)
{
	char err[200] = "", *value = strchr(text, '\n');
	struct link_conf l, before;

	if (!value)
		return;
	*value++ = 0;
	link_conf_init(&l);
	HOLD(!link_conf_set(&l, "route", "10.0.0.0/8", err, sizeof err));
	HOLD(!link_conf_copy(&before, &l));
	if (link_conf_set(&l, text, value, err, sizeof err)) {
		HOLD(link_conf_equal(&l, &before));
		HOLD(err[0]);
	}
	link_conf_free(&before);
	HOLD(!link_conf_copy(&before, &l));
	HOLD(link_conf_equal(&l, &before));
	link_conf_free(&before);
	link_conf_free(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	memcpy(text, data, size);
	text[size] = 0;
	if (size && data[0] < 0x20 && data[0] != '\n' && data[0] != '\t')
		one_key(text + 1);
	else
		whole_file(text);
	free(text);
	return 0;
}

#ifndef FUZZ_LIBFUZZER
/* Lines of a valid configuration in any order and number, some bytes damaged. */
static size_t make_input(uint64_t *s, uint8_t *buf, size_t room)
{
	static const char *const lines[] = {
		"[ipsecd]",
		"instance = a",
		"workers = 2",
		"crypto = openssl",
		"max-links = 4k",
		"gso-queue = 2Ki",
		"[underlay]",
		"devices = eth1 ppp*",
		"devices = auto",
		"esp = shared",
		"input = socket",
		"[link ipsec1]",
		"[link ipsec:2] # x",
		"peer = e",
		"peer = f",
		"address = 10.9.0.1 peer 10.9.0.2",
		"address6 = fd09::1 peer fd09::2",
		"path = any",
		"path = 198.51.100.7 encap udp port 45 fwmark 0x51 table main",
		"path = a.example.org weight 3 local 192.0.2.1",
		"inner = 10.2.0.0/16, fd02::/48",
		"inner = any",
		"protect = 0.0.0.0/0 ::/0",
		"route = 10.3.0.0/16 ; y",
		"metric = 11",
		"mtu = 1400",
		"netns = blue",
		"liveness = ping 1s x 3",
		"liveness = off",
		"sa = file:/x",
		"ike = conn",
		"backend = xfrm",
		"state = down",
		"\001mtu\n1400",
		"\001path\n1.2.3.4 encap udp port 3",
		"# c",
		"",
	};
	size_t n = 0;

	for (uint64_t k = 1 + fuzz_random(s) % 24; k; k--) {
		const char *line = lines[fuzz_random(s) % (sizeof(lines) / sizeof(*lines))];

		n += snprintf((char *)buf + n, room - n, "%s\n", line);
	}
	if (fuzz_random(s) % 2)
		for (uint64_t k = fuzz_random(s) % 6; k; k--)
			buf[fuzz_random(s) % n] = (uint8_t)fuzz_random(s);
	return n;
}
#endif
