/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ledger_fuzz - a state file with any contents, and the numbers that come of it (I2).
 *
 * Input: choices, clocks and numbers, then the file. The harness may put the right SHA-256 behind it, so that
 * what lies behind the sum is reached. Held up: what is taken is canonical, and with any bit turned it is not;
 * numbers start above every mark in the file, limits are on disk before they are given out, and a second life
 * starts above all that the first one might have used, whatever the clock says.
 */
#include "../../user/ledger.c"
#include "fuzz_main.h"

enum { C_SUM = 1, C_IN = 2, C_ESN = 4, C_FOREIGN = 8, C_CLOCK_BACK = 16, C_RESERVE = 32, C_FIELDS = 64, C_V2 = 128 };

static char dir[] = "/dev/shm/espwire-fuzz-XXXXXX";
static uint64_t clock_ms;

static uint64_t fuzz_clock(void)
{
	return clock_ms;
}

static void leave(void)
{
	rmdir(dir);
}

static void init(void)
{
	HOLD(mkdtemp(dir));
	atexit(leave);
	ledger_clock_ms = fuzz_clock;
}

/* The sum that belongs to the text. Return: length with it */
static size_t add_sum(uint8_t *buf, size_t len)
{
	uint8_t md[32];
	unsigned int n;

	HOLD(EVP_Digest(buf, len, md, &n, EVP_sha256(), NULL) && n == 32);
	for (unsigned int i = 0; i < 32; i++)
		len += (size_t)sprintf((char *)buf + len, "%02x", md[i]);
	buf[len++] = '\n';
	return len;
}

static uint64_t fuzz_u64(struct fuzz_in *in)
{
	uint64_t v = 0;
	uint8_t n = fuzz_u8(in);

	for (int i = 0; i < 8 && i <= (n & 7); i++)
		v = v << 8 | fuzz_u8(in);
	return n & 8 ? UINT64_MAX - v : v;
}

/* The file of this key and direction, by its fields: any numbers. */
static size_t fields(struct fuzz_in *in, const struct sa_conf *sa, bool v2, uint8_t *buf)
{
	uint64_t seq = fuzz_u64(in), iv = fuzz_u64(in), ms = LEDGER_CLOCK_MIN + fuzz_u64(in) % (1ull << 41);
	char *at = (char *)buf;

	at += sprintf(at, "espwire-ledger %d\nkey %016" PRIx64 "\ndir %s\nseq %" PRIu64 "\niv %" PRIu64
		      "\nclock %" PRIu64 "\n", v2 ? 2 : 1, sa->fingerprint, sa->dir == SA_OUT ? "out" : "in", seq, iv, ms);
	if (v2)
		at += sprintf(at, "born %" PRIu64 "\npackets %" PRIu64 "\nbytes %" PRIu64 "\n",
			      ms - fuzz_u16(in), fuzz_u64(in), fuzz_u64(in));
	return (size_t)(at + sprintf(at, "sum ") - (char *)buf);
}

static bool takes(const uint8_t *buf, size_t len, struct marks *m)
{
	char text[IMAGE_MAX + 1];

	memcpy(text, buf, len);
	text[len] = 0;
	return !parse(text, (int)len, m);
}

/* Seven lines or ten, and no other byte would do. */
static void canonical(uint8_t *buf, size_t len, size_t at)
{
	struct marks m;
	unsigned int n = 0;

	for (size_t i = 0; i < len; i++) {
		HOLD(buf[i] == '\n' || (buf[i] >= ' ' && buf[i] <= 'z'));
		n += buf[i] == '\n';
	}
	HOLD((n == 7 || n == 10) && buf[len - 1] == '\n');
	buf[at % len] ^= 1 << at % 7;
	HOLD(!takes(buf, len, &m));
	buf[at % len] ^= 1 << at % 7;
	HOLD(!takes(buf, len - 1, &m));
}

static void write_file(const char *path, const uint8_t *buf, size_t len)
{
	FILE *f = fopen(path, "wb");

	HOLD(f && fwrite(buf, 1, len, f) == len);
	fclose(f);
}

static struct marks on_disk(const char *path)
{
	struct marks m = {0};
	uint8_t buf[IMAGE_MAX];
	FILE *f = fopen(path, "rb");
	size_t n;

	HOLD(f);
	n = fread(buf, 1, sizeof buf, f);
	fclose(f);
	HOLD(takes(buf, n, &m));
	return m;
}

/* struct used - the highest numbers somebody may have put on the wire */
struct used {
	uint64_t seq, iv;
};

static void out_life(struct ledger *l, struct sa_conf *sa, struct fuzz_in *in, uint8_t choice, const char *path,
		     struct used *u)
{
	uint64_t seq_limit = 0, iv_limit = 0, top = sa->esn ? UINT64_MAX : UINT32_MAX, s, i;
	struct marks m;

	if (ledger_start(l, sa, &seq_limit, &iv_limit))
		return;
	HOLD(sa->seq_start > u->seq && sa->iv_start > u->iv);
	HOLD(seq_limit >= sa->seq_start && seq_limit <= top && iv_limit >= sa->iv_start);
	for (int k = choice & C_RESERVE ? 3 : 0; k; k--) {
		s = sa->seq_start + fuzz_u64(in) % (seq_limit - sa->seq_start + 1);
		i = sa->iv_start + fuzz_u64(in) % (iv_limit - sa->iv_start + 1);
		u->seq = seq_limit;
		u->iv = iv_limit;
		if (!ledger_reserve(l, s, i, &seq_limit, &iv_limit))
			HOLD(seq_limit >= u->seq && iv_limit >= u->iv && seq_limit <= top);
	}
	m = on_disk(path);
	HOLD(m.seq >= seq_limit && m.iv >= iv_limit); /* durable before it was given out */
	u->seq = seq_limit;
	u->iv = iv_limit;
}

static void in_life(struct ledger *l, struct sa_conf *sa, struct fuzz_in *in, const char *path, struct used *u)
{
	uint64_t mark;

	HOLD(!ledger_start(l, sa, NULL, NULL) && sa->seq_start >= u->seq);
	mark = fuzz_u64(in);
	if (!ledger_mark_in(l, mark))
		HOLD(on_disk(path).seq >= mark && ledger_mark(l) >= sa->seq_start);
	u->seq = ledger_mark(l);
}

static void lives(struct sa_conf *sa, struct fuzz_in *in, uint8_t choice, const struct marks *m, const char *path)
{
	struct used u = {m->seq, m->iv};
	struct ledger *l;

	for (int life = 0; life < 2; life++) {
		if (ledger_open(&l, dir, sa, NULL))
			return;
		HOLD(m->fingerprint == sa->fingerprint && m->dir == sa->dir);
		HOLD(sa->dir == SA_IN || clock_ms >= m->clock_ms);
		if (sa->dir == SA_OUT)
			out_life(l, sa, in, choice, path, &u);
		else
			in_life(l, sa, in, path, &u);
		ledger_close(l);
		if (choice & C_CLOCK_BACK) /* not so far that it is refused: the mark alone must do */
			clock_ms = on_disk(path).clock_ms;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = {data, size};
	uint8_t choice = fuzz_u8(&in), buf[IMAGE_MAX + 200];
	struct sa_conf sa = {.dir = choice & C_IN ? SA_IN : SA_OUT, .fingerprint = 0x0123456789abcdef, .esn = choice & C_ESN};
	char name[NAME_LEN], path[128];
	struct marks m;
	size_t len, at;

	if (!ledger_clock_ms || ledger_clock_ms != fuzz_clock)
		init();
	clock_ms = LEDGER_CLOCK_MIN + fuzz_u64(&in) % (1ull << 41);
	at = fuzz_u16(&in);
	len = choice & C_FIELDS ? fields(&in, &sa, choice & C_V2, buf) : fuzz_take(&in, buf, IMAGE_MAX - 70);
	if (choice & C_SUM)
		len = add_sum(buf, len);
	if (choice & C_FOREIGN)
		sa.fingerprint++;
	set_name(name, &sa);
	snprintf(path, sizeof path, "%s/%s", dir, name);
	write_file(path, buf, len);
	if (takes(buf, len, &m)) {
		lives(&sa, &in, choice, &m, path);
		canonical(buf, len, at);
	} else {
		struct ledger *l;

		HOLD(ledger_open(&l, dir, &sa, NULL) == -EBADMSG);
	}
	unlink(path);
	return 0;
}

#ifndef FUZZ_LIBFUZZER
static size_t make_input(uint64_t *s, uint8_t *buf, size_t room)
{
	size_t n = 0;

	buf[n++] = (uint8_t)(fuzz_random(s) | (fuzz_random(s) % 4 ? C_SUM | C_FIELDS : 0));
	while (n < 80)
		buf[n++] = (uint8_t)fuzz_random(s);
	if (!(buf[0] & C_FIELDS))
		n += (size_t)sprintf((char *)buf + 10, "espwire-ledger 1\nkey 0123456789abcdef\ndir in\nseq 5\niv 0\nclock "
				     "1800000000000\nsum ") - 70;
	return n;
}
#endif
