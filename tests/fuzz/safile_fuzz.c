/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * safile_fuzz - any text is refused with a reason per line, or is a pair of SAs that can be used.
 *
 * Held up: no message repeats a key (I3); what is taken makes SAs, has distinct keys in both directions and
 * numbers inside their limits, and reads the same when it is written out by the harness and read again.
 */
#include "../../user/safile.c"
#include "fuzz_main.h"

static int read_text(const char *text, size_t len, struct sa_conf sa[2], FILE *errs)
{
	struct parser p = {.path = "f", .errs = errs, .half = {{.name = "out", .sa = &sa[0]}, {.name = "in", .sa = &sa[1]}}};
	char *copy = malloc(len + 1);
	int err;

	memcpy(copy, text, len);
	copy[len] = 0;
	memset(sa, 0, 2 * sizeof sa[0]);
	sa[0].dir = SA_OUT;
	sa[1].dir = SA_IN;
	err = parse(&p, copy, len);
	free(copy);
	return err;
}

/* Nothing longer than 0xffffffff looks like a key. */
static void no_key(const char *said)
{
	unsigned int run = 0;

	for (; *said; said++) {
		run = isxdigit((unsigned char)*said) ? run + 1 : 0;
		HOLD(run <= 8);
		HOLD(*said == '\n' || (unsigned char)*said >= 0x20);
	}
}

static size_t lines(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += *s == '\n';
	return n;
}

static void put(FILE *f, const char *key, const uint8_t *b, size_t len)
{
	if (len)
		fprintf(f, "%s=", key);
	for (size_t i = 0; i < len; i++)
		fprintf(f, "%02X", b[i]);
	fputc('\n', f);
}

static void write_half(FILE *f, const struct sa_conf *c)
{
	const struct aead_desc *d = aead_by_alg(c->alg);

	fprintf(f, "[%s]\nspi = %u\nalg = %s\nesn=%s\nwindow = %u\nmode=%s\n", c->dir == SA_OUT ? "out" : "in", c->spi,
		d->name, c->esn ? "yes" : "no", c->window, c->mode == SA_TUNNEL ? "tunnel" : "transport");
	put(f, "key", c->key, d->key_len);
	put(f, "auth-key", c->key + d->key_len, d->auth_key_len);
	put(f, "salt", c->salt, d->salt_len);
}

static void usable(const struct sa_conf sa[2])
{
	static uint64_t words[2048];
	struct sa_out out;
	struct sa_in in;
	uint64_t top = 0;

	HOLD(sa[0].fingerprint != sa[1].fingerprint && sa[0].mode == sa[1].mode);
	HOLD(sa[0].window >= 32 && sa[0].window <= 65536 && sa[1].window >= 64 && sa[1].window % 64 == 0);
	HOLD(replay_words(sa[1].window) <= ARRAY_SIZE(words));
	HOLD(!sa_out_init(&out, &sa[0]) && !sa_in_init(&in, &sa[1], &top, words));
	sa_out_fini(&out);
	sa_in_fini(&in);
}

static void round_trip(const struct sa_conf sa[2])
{
	struct sa_conf again[2];
	char *text;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	write_half(f, &sa[0]);
	write_half(f, &sa[1]);
	fclose(f);
	HOLD(!read_text(text, len, again, NULL) && !memcmp(again, sa, sizeof again));
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready;
	struct sa_conf sa[2];
	char *said;
	size_t len;
	FILE *errs = open_memstream(&said, &len);
	int err;

	if (!ready)
		HOLD(!aead_backend_select("auto"));
	ready = true;
	err = read_text((const char *)data, size, sa, errs);
	fclose(errs);
	HOLD(!err || err == -EINVAL);
	HOLD(!err == !lines(said));
	no_key(said);
	free(said);
	if (!err) {
		usable(sa);
		round_trip(sa);
	}
	return 0;
}

#ifndef FUZZ_LIBFUZZER
/* A right file with some lines left out, doubled or damaged. */
static size_t make_half(uint64_t *s, char *buf, const char *name, enum aead_alg alg)
{
	const struct aead_desc *d = aead_by_alg(alg);
	size_t n = (size_t)sprintf(buf, "[%s]\nspi = 0x%x\nalg = %s # c\nkey = ", name, (uint32_t)fuzz_random(s), d->name);

	for (unsigned int i = 0; i < d->key_len; i++)
		n += (size_t)sprintf(buf + n, "%02x", (unsigned int)fuzz_random(s) & 255);
	n += (size_t)sprintf(buf + n, d->auth_key_len ? "\nauth-key = " : "\nsalt = ");
	for (unsigned int i = 0; i < (d->auth_key_len ? d->auth_key_len : 4); i++)
		n += (size_t)sprintf(buf + n, "%02x", (unsigned int)fuzz_random(s) & 255);
	n += (size_t)sprintf(buf + n, "\n");
	if (fuzz_random(s) % 2)
		n += (size_t)sprintf(buf + n, "esn = no\nwindow = %u\n", 64 * (1 + (unsigned int)fuzz_random(s) % 1030));
	return n;
}

static size_t make_input(uint64_t *s, uint8_t *buf, size_t room)
{
	enum aead_alg alg = AEAD_NONE + 1 + fuzz_random(s) % (AEAD_MAX - 1);
	size_t n = make_half(s, (char *)buf, "out", alg);

	n += make_half(s, (char *)buf + n, "in", alg);
	for (uint64_t k = fuzz_random(s) % 3; k; k--)
		buf[fuzz_random(s) % n] = (uint8_t)fuzz_random(s);
	return n;
}
#endif
