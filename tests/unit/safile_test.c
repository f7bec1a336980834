/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * safile_test - what is read, what is refused and with which sentence, that no word of the file
 * ever comes out again, and that pairs fit each other.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "safile.h"
#include "util.h"

#define KEY128                    "8f3a1c77d0e94b25a6f1832c4d5e6f70"
#define KEY256                    KEY128 "00112233445566778899aabbccddeeff"
#define HALF(spi, alg, key, salt) "spi = " spi "\nalg = " alg "\nkey = " key "\nsalt = " salt "\n"
#define CBC(spi, alg, key, auth)                                                                   \
	"spi = " spi "\nalg = " alg "\nkey = " key "\nauth-key = " auth "\n"
#define OUT                       "[out]\n" HALF("0x1f3c9a01", "aes-gcm-128", KEY128, "c0ffee01")
#define IN                        "[in]\n" HALF("256", "aes-gcm-256", KEY256, "c0ffee02")

#define F1 "for = 10.1.0.0/16 10.2.0.0/16\n"
#define F8 F1 F1 F1 F1 F1 F1 F1 F1

static char dir[PATH_MAX], file[PATH_MAX + 8];

static int make_dir(void **state)
{
	/* memory where there is some: files are synced, and disks are slow */
	snprintf(dir, sizeof dir, "%s/espwire-safile-XXXXXX",
		 access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	if (!mkdtemp(dir))
		return -1;
	snprintf(file, sizeof file, "%s/x.sa", dir);
	return 0;
}

static int remove_dir(void **state)
{
	char cmd[PATH_MAX + 20];

	snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
	return system(cmd);
}

static void write_mode(const char *text, size_t len, mode_t mode)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

/* struct result - of one safile_load() */
struct result {
	struct sa_conf out, in;
	int err;
	char *said;
};

static void load(struct result *r)
{
	size_t len;
	FILE *errs = open_memstream(&r->said, &len);

	r->err = safile_load(file, &r->out, &r->in, errs);
	fclose(errs);
}

static void load_text(struct result *r, const char *text)
{
	write_mode(text, strlen(text), 0600);
	load(r);
}

static void good(struct result *r, const char *text)
{
	load_text(r, text);
	assert_string_equal(r->said, "");
	assert_int_equal(r->err, 0);
	free(r->said);
}

static bool all_zero(const void *p, size_t len)
{
	const uint8_t *b = p;

	while (len--)
		if (*b++)
			return false;
	return true;
}

static void assert_wiped(const struct result *r)
{
	assert_true(all_zero(&r->out, sizeof r->out));
	assert_true(all_zero(&r->in, sizeof r->in));
}

/* says: the lines without "file:" */
static void assert_refused(const struct result *r, const char *says)
{
	char want[PATH_MAX + 400];

	snprintf(want, sizeof want, "%s:%s\n", file, says);
	assert_string_equal(r->said, want);
	assert_int_equal(r->err, -EINVAL);
	assert_wiped(r);
}

/* --- reading --------------------------------------------------------------------- */

static void test_good(void **state)
{
	static const uint8_t key[] = {0x8f, 0x3a, 0x1c, 0x77, 0xd0, 0xe9, 0x4b, 0x25,
				      0xa6, 0xf1, 0x83, 0x2c, 0x4d, 0x5e, 0x6f, 0x70};
	static const uint8_t salt[] = {0xc0, 0xff, 0xee, 0x02};
	struct result r;

	good(&r,
	     "# head\n\n" OUT "\tesn=no ; old peer\nwindow = 64\n" IN "esn = yes\nwindow = 65536");
	assert_int_equal(r.out.dir, SA_OUT);
	assert_int_equal(r.out.spi, 0x1f3c9a01);
	assert_int_equal(r.out.alg, AEAD_AES_GCM_128);
	assert_memory_equal(r.out.key, key, 16);
	assert_true(all_zero(r.out.key + 16, AEAD_KEY_MAX - 16));
	assert_false(r.out.esn);
	assert_int_equal(r.out.window, 64);
	assert_int_equal(r.out.fingerprint, sa_fingerprint(&r.out));
	assert_int_equal(r.out.seq_start, 0);
	assert_int_equal(r.out.iv_start, 0);
	assert_int_equal(r.in.dir, SA_IN);
	assert_int_equal(r.in.spi, 256);
	assert_int_equal(r.in.alg, AEAD_AES_GCM_256);
	assert_memory_equal(r.in.key, key, 16);
	assert_int_equal(r.in.key[31], 0xff);
	assert_memory_equal(r.in.salt, salt, 4);
	assert_true(r.in.esn);
	assert_int_equal(r.in.window, 65536);
}

static void test_defaults_and_spellings(void **state)
{
	struct result a, b;

	good(&a, IN OUT);
	assert_true(a.out.esn && a.in.esn);
	assert_int_equal(a.out.window, 32); /* the smallest a peer is known to have */
	assert_int_equal(a.in.window, 4096);
	good(&b, "  [in] # ours\r\nspi=0x100\r\nalg = aes-gcm-256\r\nkey = "
		 "0x8F3A1C77D0E94B25A6F1832C4D5E6F70"
		 "00112233445566778899AABBCCDDEEFF\r\nsalt\t=\t0XC0FFEE02 # x\r\n" OUT);
	assert_memory_equal(a.in.key, b.in.key, AEAD_KEY_MAX);
	assert_int_equal(a.in.fingerprint, b.in.fingerprint);
	assert_int_equal(a.out.fingerprint, b.out.fingerprint);
	assert_int_equal(a.in.spi, b.in.spi);
}

static void test_lifetimes(void **state)
{
	struct result r;

	good(&r, IN "soft-time = 90m\nhard-time = 2h\nsoft-bytes = 3Gi\nhard-packets = 1M\n" OUT
		 "hard-time = 1d\nhard-bytes = 4T\n");
	assert_int_equal(r.in.life.soft.time_s, 5400);
	assert_int_equal(r.in.life.hard.time_s, 7200);
	assert_true(r.in.life.soft.bytes == UINT64_C(3) << 30);
	assert_int_equal(r.in.life.hard.bytes, 0);
	assert_int_equal(r.in.life.hard.pkts, 1000000);
	assert_int_equal(r.out.life.hard.time_s, 86400);
	assert_true(r.out.life.hard.bytes == UINT64_C(4000000000000));
	assert_int_equal(r.out.life.soft.time_s, 0);
}

static void test_for(void **state)
{
	struct result r;
	struct sels sels;
	char buf[SEL_STR];

	good(&r, "for = 10.1.0.0/16[tcp/80] 10.2.0.0/16 # web\nfor=fd01::/48 fd02::/48\n" IN OUT);
	assert_int_equal(r.out.sels.n, 2);
	assert_int_equal(r.in.sels.n, 2);
	assert_string_equal(sel_str(&r.out.sels.sel[0], buf), "10.1.0.0/16[tcp/80] 10.2.0.0/16");
	assert_string_equal(sel_str(&r.in.sels.sel[0], buf), "10.2.0.0/16 10.1.0.0/16[tcp/80]");
	assert_int_equal(safile_peek(file, NULL, &sels), 0);
	assert_true(sels_equal(&sels, r.out.sels.sel, 2));
	good(&r, IN OUT);
	assert_int_equal(r.out.sels.n, 0);
}

static void test_refused(void **state)
{
	static const struct {
		const char *text, *says;
	} rows[] = {
		{"for = 10.1.0.0/16\n" OUT IN, "1: for: write OURS THEIRS, as 10.1.0.0/16 10.2.0.0/16[tcp/80]"},
		{"for = 10.1.0.1/16 10.2.0.0/16\n" OUT IN,
		 "1: for: an end is an address, a prefix without host bits, or two addresses with - between them"},
		{OUT "for = 10.1.0.0/16 10.2.0.0/16\n" IN, "6: for: stands above [out] and [in], it is for both"},
		{F8 F8 "for = 10.9.0.0/16 10.2.0.0/16\n" OUT IN, "17: for: more than 16 of them"},
		{OUT "[in]\n" HALF("255", "aes-gcm-128", KEY128, "c0ffee02"),
		 "7: spi: below 256 is reserved (RFC 4303 2.1)"},
		{OUT "[in]\n" HALF("0", "aes-gcm-128", KEY128, "c0ffee02"),
		 "7: spi: below 256 is reserved (RFC 4303 2.1)"},
		{OUT "[in]\n" HALF("0x100000000", "aes-gcm-128", KEY128, "c0ffee02"),
		 "7: spi: a number from 0x100 to 0xffffffff"},
		{OUT "[in]\n" HALF("-300", "aes-gcm-128", KEY128, "c0ffee02"),
		 "7: spi: a number from 0x100 to 0xffffffff"},
		{OUT "[in]\n" HALF("300", "aes-cbc-128", KEY128, "c0ffee02"),
		 "8: alg: aes-cbc alone has no integrity (RFC 8221 4): use aes-gcm-128, or "
		 "aes-cbc-128-hmac-sha2-256"},
		{OUT "[in]\n" HALF("300", "rot13", KEY128, "c0ffee02"),
		 "8: alg: unknown; one of aes-gcm-128, aes-gcm-256, chacha20-poly1305, "
		 "aes-gmac-128, aes-gmac-256, aes-cbc-128-hmac-sha2-256, "
		 "aes-cbc-256-hmac-sha2-256, aes-cbc-256-hmac-sha2-384, "
		 "aes-cbc-256-hmac-sha2-512, aes-cbc-128-hmac-sha1, aes-cbc-256-hmac-sha1, "
		 "null-hmac-sha2-256, null-hmac-sha2-384, null-hmac-sha2-512"},
		{OUT "[in]\n" CBC("300", "null-hmac-sha2-256", KEY256, KEY256),
		 "9: key: null-hmac-sha2-256 has none"},
		{OUT "[in]\nspi = 300\nalg = null-hmac-sha2-256\n", "8: [in] has no 'auth-key'"},
		{OUT "[in]\n" CBC("300", "aes-cbc-128-hmac-sha1", KEY128, KEY128),
		 "10: auth-key: has 32 hex digits, 40 are needed"},
		{OUT "[in]\n" CBC("300", "aes-gcm-128", KEY128, KEY256) "salt = c0ffee02\n",
		 "10: auth-key: aes-gcm-128 has none"},
		{OUT "[in]\n" CBC("300", "aes-cbc-128-hmac-sha2-256", KEY128, KEY256)
		 "salt = c0ffee02\n",
		 "11: salt: aes-cbc-128-hmac-sha2-256 has none"},
		{OUT "[in]\n" HALF("300", "aes-cbc-128-hmac-sha2-256", KEY128, "c0ffee02")
		 "auth-key = " KEY256 "\n",
		 "10: salt: aes-cbc-128-hmac-sha2-256 has none"},
		{OUT "[in]\n" CBC("300", "aes-cbc-256-hmac-sha2-512", KEY256, KEY256),
		 "10: auth-key: has 64 hex digits, 128 are needed"},
		{OUT "[in]\n" CBC("300", "aes-cbc-128-hmac-sha2-256", KEY128,
				   "00000000000000000000000000000000"
				   "00000000000000000000000000000000"),
		 "10: auth-key: all zero"},
		{OUT "[in]\nspi = 300\nalg = aes-cbc-128-hmac-sha2-256\nkey = " KEY128 "\n",
		 "9: [in] has no 'auth-key'"},
		{OUT "[in]\nspi = 300\nalg = aes-gcm-128\nsalt = c0ffee02\n",
		 "9: [in] has no 'key'"},
		{"[out]\n" CBC("300", "aes-cbc-128-hmac-sha2-256", KEY128, KEY256)
		 "[in]\n" CBC("301", "aes-cbc-128-hmac-sha2-256", KEY128, KEY256),
		 "10: same keys in both directions: what we sent could be sent back to us"},
		{OUT "[in]\n" HALF("300", "aes-gcm-256", KEY128, "c0ffee02"),
		 "9: key: has 32 hex digits, 64 are needed"},
		{OUT "[in]\n" HALF("300", "aes-gcm-128", KEY256, "c0ffee02"),
		 "9: key: has 64 hex digits, 32 are needed"},
		{OUT "[in]\n" HALF("300", "aes-gcm-128", KEY128 "1", "c0ffee02"),
		 "9: key: has 33 hex digits, 32 are needed"},
		{OUT "[in]\n" HALF("300", "aes-gcm-128", "8f3a1g77d0e94b25a6f1832c4d5e6f70",
				   "c0ffee02"),
		 "9: key: digit 6 is not hexadecimal"},
		{OUT "[in]\n" HALF("300", "aes-gcm-128", "00000000000000000000000000000000",
				   "c0ffee02"),
		 "9: key: all zero"},
		{OUT "[in]\n" HALF("300", "aes-gcm-128", KEY128, "c0ffee"),
		 "10: salt: has 6 hex digits, 8 are needed"},
		{OUT "[in]\n" HALF("300", "aes-gcm-128", KEY128, "c0ffee01"),
		 "10: same key and salt in both directions: every nonce would be used twice"},
		{OUT IN "esn = maybe\n", "11: esn: yes or no"},
		{OUT IN "window = 0\n", "11: window: a number from 64 to 65536"},
		{OUT IN "window = 65600\n", "11: window: a number from 64 to 65536"},
		{OUT IN "window = 100\n", "11: window: a multiple of 64"},
		{IN OUT "window = 31\n", "11: window: a number from 32 to 65536"},
		{IN OUT "salt = 11223344\n", "11: salt: is given twice, first on line 10"},
		{IN OUT "slat = 11223344\n",
		 "11: unknown key; there are for, spi, alg, key, auth-key, salt, esn, window, mode, and soft- and "
		 "hard-time, -bytes and -packets"},
		{IN OUT "hard-time = 3600\n", "11: hard-time: a number, not 0, with s, m, h or d behind it"},
		{IN OUT "hard-time = 0s\n", "11: hard-time: a number, not 0, with s, m, h or d behind it"},
		{IN OUT "soft-bytes = -1\n",
		 "11: soft-bytes: a number, not 0, maybe with k, M, G, T, Ki, Mi, Gi or Ti behind it"},
		{IN OUT "hard-bytes = 9000000000T\n",
		 "11: hard-bytes: a number, not 0, maybe with k, M, G, T, Ki, Mi, Gi or Ti behind it"},
		{IN OUT "soft-packets = 1k\nhard-packets = 1000\n",
		 "11: soft-packets: is not below hard-packets: a successor needs time to come up"},
		{IN OUT "esn\n", "11: write KEY = VALUE"},
		{IN OUT "mode = beet\n", "11: mode: tunnel or transport"},
		{IN OUT "mode = transport\n", "11: mode: [out] and [in] differ"},
		{IN OUT "esn =\n", "11: esn: a value is missing"},
		{"esn = yes\n" IN OUT, "1: esn: stands in neither [out] nor [in]"},
		{IN OUT "[both]\n", "11: unknown section; there are [out] and [in]"},
	};
	struct result r;

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		load_text(&r, rows[i].text);
		assert_refused(&r, rows[i].says);
		free(r.said);
	}
}

static void test_mode(void **state)
{
	enum sa_mode mode = SA_TUNNEL;
	struct result r;

	good(&r, IN "mode = transport\n" OUT "mode = transport\n");
	assert_true(r.out.mode == SA_TRANSPORT && r.in.mode == SA_TRANSPORT);
	assert_int_equal(safile_peek(file, &mode, NULL), 0);
	assert_int_equal(mode, SA_TRANSPORT);
	good(&r, IN "mode = tunnel\n" OUT);
	assert_true(r.out.mode == SA_TUNNEL && r.in.mode == SA_TUNNEL);
	assert_int_equal(safile_peek(file, &mode, NULL), 0);
	assert_int_equal(mode, SA_TUNNEL);
	assert_int_equal(safile_peek("/nonexistent", &mode, NULL), -ENOENT);
	write_mode(IN, strlen(IN), 0600);
	assert_int_equal(safile_peek(file, &mode, NULL), -EINVAL);
}

/* Two keys in one direction: the cipher's, then the HMAC's. No salt. */
static void test_cbc(void **state)
{
	static const uint8_t auth[] = {0xc0, 0xff, 0xee, 0x03, 0x8f, 0x3a};
	struct result r;

	good(&r, "[out]\n" CBC("300", "aes-cbc-256-hmac-sha2-256", KEY256,
				"c0ffee038f3a1c77d0e94b25a6f1832c"
				"4d5e6f7000112233445566778899aabb")
	     "[in]\n" CBC("301", "aes-cbc-256-hmac-sha2-384", KEY256, KEY256 KEY128));
	assert_int_equal(r.out.alg, AEAD_CBC_256_SHA256);
	assert_int_equal(r.out.key[0], 0x8f);
	assert_int_equal(r.out.key[31], 0xff);
	assert_memory_equal(r.out.key + 32, auth, sizeof auth);
	assert_true(all_zero(r.out.key + 64, AEAD_KEY_MAX - 64));
	assert_true(all_zero(r.out.salt, sizeof r.out.salt));
	assert_int_equal(r.in.alg, AEAD_CBC_256_SHA384);
	assert_int_equal(r.in.key[32 + 47], 0x70);
	assert_true(r.out.fingerprint && r.in.fingerprint != r.out.fingerprint);
	/* another authentication key is another key */
	good(&r, "[out]\n" CBC("300", "aes-cbc-128-hmac-sha2-256", KEY128, KEY256)
	     "[in]\n" CBC("301", "aes-cbc-128-hmac-sha2-256", KEY128, KEY128 KEY128));
}

/* Same key with another salt, or the other way round: every nonce differs. */
static void test_nearly_the_same(void **state)
{
	struct result r;

	good(&r, OUT "[in]\n" HALF("300", "aes-gcm-128", KEY128, "c0ffee02"));
	good(&r, OUT
	     "[in]\n" HALF("300", "aes-gcm-128", "8f3a1c77d0e94b25a6f1832c4d5e6f71", "c0ffee01"));
}

static void test_all_errors_in_one_go(void **state)
{
	struct result r;
	char want[4 * sizeof file + 300];

	load_text(&r, "[out]\nspi = 1\nalg = aes-gcm-128\nkey = 12\nsalt = x\nfoo = 1\n[in]\n");
	snprintf(want, sizeof want,
		 "%s:6: unknown key; there are for, spi, alg, key, auth-key, salt, esn, window, mode, and soft- and "
		 "hard-time, -bytes and -packets\n"
		 "%s:2: spi: below 256 is reserved (RFC 4303 2.1)\n"
		 "%s:4: key: has 2 hex digits, 32 are needed\n%s:5: salt: digit 1 is not "
		 "hexadecimal\n",
		 file, file, file, file);
	assert_int_equal(strncmp(r.said, want, strlen(want)), 0);
	assert_non_null(strstr(r.said, ":7: [in] has no 'spi'\n"));
	assert_non_null(strstr(r.said, ":7: [in] has no 'alg'\n"));
	assert_wiped(&r);
	free(r.said);
}

/* --- the file itself ------------------------------------------------------------------ */

static void test_modes(void **state)
{
	static const mode_t bad[] = {0604, 0640, 0620, 0602, 0601, 0610, 0700, 0644, 01600, 04600};
	struct result r;

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		write_mode(IN OUT, strlen(IN OUT), bad[i]);
		load(&r);
		assert_int_equal(r.err, -EPERM);
		assert_non_null(strstr(r.said, "chmod 600"));
		assert_wiped(&r);
		free(r.said);
	}
	write_mode(IN OUT, strlen(IN OUT), 0400);
	load(&r);
	assert_int_equal(r.err, 0);
	free(r.said);
}

static void test_odd_files(void **state)
{
	struct result r;
	char *big = malloc(SAFILE_LEN_MAX + 2);

	load(&r);
	assert_int_equal(r.err, -ENOENT);
	assert_non_null(strstr(r.said, "cannot read: No such file or directory"));
	free(r.said);

	assert_int_equal(mkfifo(file, 0600), 0); /* must not hang */
	load(&r);
	assert_int_equal(r.err, -EPERM);
	assert_non_null(strstr(r.said, "is no regular file"));
	free(r.said);
	unlink(file);

	assert_int_equal(mkdir(file, 0700), 0);
	load(&r);
	assert_int_equal(r.err, -EPERM);
	free(r.said);
	rmdir(file);

	write_mode("", 0, 0600);
	load(&r);
	assert_int_equal(r.err, -EINVAL);
	free(r.said);

	write_mode(IN OUT "\0", strlen(IN OUT) + 1, 0600);
	load(&r);
	assert_int_equal(r.err, -EINVAL);
	assert_non_null(strstr(r.said, "is no text file"));
	free(r.said);

	memset(big, '#', SAFILE_LEN_MAX + 1);
	memcpy(big, IN OUT, strlen(IN OUT));
	write_mode(big, SAFILE_LEN_MAX, 0600);
	load(&r);
	assert_int_equal(r.err, 0);
	free(r.said);
	write_mode(big, SAFILE_LEN_MAX + 1, 0600);
	load(&r);
	assert_int_equal(r.err, -EINVAL);
	assert_non_null(strstr(r.said, "longer than 8192 bytes"));
	free(r.said);
	free(big);

	if (!geteuid()) {
		write_mode(IN OUT, strlen(IN OUT), 0600);
		assert_int_equal(chown(file, 12345, 12345), 0);
		load(&r);
		assert_int_equal(r.err, -EPERM);
		assert_non_null(strstr(r.said, "belongs to uid 12345"));
		free(r.said);
	}
}

static bool shows_key(const char *said)
{
	static const char secret[] = KEY256;
	char piece[7] = "";

	for (unsigned int i = 0; i + 6 < sizeof secret; i++) {
		memcpy(piece, secret + i, 6);
		if (strstr(said, piece))
			return true;
	}
	return strstr(said, "c0ffee") != NULL;
}

/* Damage a valid file in any way: whatever is said, no six digits of a key are in it (I3). */
static void test_never_says_a_key(void **state)
{
	static const char salad[] = "[]=#; \n\tx0k\r";
	static const char valid[] =
		OUT "[in]\n" CBC("300", "aes-cbc-128-hmac-sha2-256", KEY128, KEY256);
	char text[sizeof valid];
	unsigned int said = 0, seed = (unsigned int)now_ns();
	struct result r;

	print_message("SEED=%u\n", seed);
	srandom(seed);
	assert_true(shows_key("x " KEY128));
	for (unsigned int i = 0; i < 3000; i++) {
		memcpy(text, valid, sizeof text);
		for (unsigned int k = 0; k < 1 + i % 5; k++)
			text[(unsigned int)random() % (sizeof text - 1)] =
				salad[(unsigned int)random() % 12];
		load_text(&r, text);
		assert_false(shows_key(r.said));
		if (r.err) {
			assert_wiped(&r);
			assert_true(strlen(r.said) > 0);
			said++;
		}
		free(r.said);
	}
	assert_true(said > 1000);
}

/* --- pairs ----------------------------------------------------------------------------- */

static void load_path(struct result *r, const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	snprintf(file, sizeof file, "%s", path);
	load(r);
	assert_string_equal(r->said, "");
	assert_int_equal(r->err, 0);
	free(r->said);
}

static void assert_fits(const struct sa_conf *out, const struct sa_conf *in)
{
	assert_int_equal(out->spi, in->spi);
	assert_int_equal(out->alg, in->alg);
	assert_memory_equal(out->key, in->key, AEAD_KEY_MAX);
	assert_memory_equal(out->salt, in->salt, AEAD_SALT_LEN);
	assert_int_equal(out->fingerprint, in->fingerprint);
	assert_int_equal(out->window, in->window);
	assert_true(out->esn && in->esn);
	assert_true(out->spi >= 256);
}

static void test_pair(void **state)
{
	char pa[4096], pb[4096], base[PATH_MAX + 20], want[PATH_MAX + 60];
	struct result a, b;
	struct stat st;

	for (enum aead_alg alg = AEAD_NONE + 1; alg < AEAD_MAX; alg++) {
		const struct aead_desc *d = aead_by_alg(alg);
		enum sa_mode mode = alg % 2 ? SA_TUNNEL : SA_TRANSPORT;

		snprintf(base, sizeof base, "%s/keys%u", dir, alg);
		assert_int_equal(safile_pair(base, "west", "east", alg, mode, pa, pb, stderr), 0);
		snprintf(want, sizeof want, "%s/west/east.sa", base);
		assert_string_equal(pa, want);
		snprintf(want, sizeof want, "%s/east/west.sa", base);
		assert_string_equal(pb, want);
		snprintf(want, sizeof want, "%s/east", base);
		assert_int_equal(stat(want, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0700);
		load_path(&a, pa);
		load_path(&b, pb);
		assert_int_equal(a.out.alg, alg);
		assert_true(a.out.mode == mode && b.out.mode == mode && a.in.mode == mode);
		assert_fits(&a.out, &b.in);
		assert_fits(&b.out, &a.in);
		assert_int_not_equal(a.out.spi, a.in.spi);
		assert_memory_not_equal(a.out.key, a.in.key, 16);
		if (d->salt_len)
			assert_memory_not_equal(a.out.salt, a.in.salt, AEAD_SALT_LEN);
		if (d->auth_key_len)
			assert_memory_not_equal(a.out.key + d->key_len, a.in.key + d->key_len, 16);
	}
}

/* A mistake in taking randomness would show as a repetition. */
static void test_pairs_differ(void **state)
{
	enum { N = 30 };
	uint64_t seen[2 * N];
	char pa[4096], pb[4096], host[20];
	struct result r;
	unsigned int n = 0;

	for (unsigned int i = 0; i < N; i++) {
		snprintf(host, sizeof host, "h%u", i);
		assert_int_equal(safile_pair(dir, "west", host, AEAD_AES_GCM_128, SA_TUNNEL, pa, pb, stderr),
				 0);
		load_path(&r, pa);
		seen[n++] = r.out.fingerprint;
		seen[n++] = r.in.fingerprint;
	}
	for (unsigned int i = 0; i < n; i++)
		for (unsigned int k = 0; k < i; k++)
			assert_true(seen[i] != seen[k]);
}

static void test_pair_refused(void **state)
{
	static const struct {
		const char *a, *b;
	} bad[] = {
		{"west", "west"}, {"..", "east"}, {"west", "a/b"},
		{"", "east"},     {"-x", "east"}, {".x", "y"},
	};
	char pa[4096], pb[4096], *before, *after;
	struct result r1, r2;
	size_t len;
	FILE *f = open_memstream(&before, &len);

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(safile_pair(dir, bad[i].a, bad[i].b, AEAD_AES_GCM_128, SA_TUNNEL, pa, pb, f),
				 -EINVAL);
	assert_int_equal(safile_pair(dir, "a", "b", AEAD_NONE, SA_TUNNEL, pa, pb, f), -EINVAL);
	assert_int_equal(safile_pair("/nonexistent/x", "a", "b", AEAD_AES_GCM_128, SA_TUNNEL, pa, pb, f),
			 -ENOENT);
	fclose(f);
	free(before);

	assert_int_equal(safile_pair(dir, "a", "b", AEAD_AES_GCM_128, SA_TUNNEL, pa, pb, stderr), 0);
	load_path(&r1, pa);
	f = open_memstream(&after, &len);
	assert_int_equal(safile_pair(dir, "a", "b", AEAD_AES_GCM_128, SA_TUNNEL, pa, pb, f), -EEXIST);
	fclose(f);
	assert_non_null(strstr(after, "File exists"));
	free(after);
	load_path(&r2, pa);
	assert_int_equal(r1.out.fingerprint, r2.out.fingerprint);

	/* the second file is in the way: the first one must not stay behind alone */
	assert_int_equal(unlink(pa), 0);
	assert_int_equal(safile_pair(dir, "a", "b", AEAD_AES_GCM_128, SA_TUNNEL, pa, pb, NULL), -EEXIST);
	assert_int_equal(access(pa, F_OK), -1);
}

/* ipsecd.conf(5) has every key and, in its table, every suite with its lengths and its level. */
static void test_manual(void **state)
{
	static const char *const keys[] = {"spi",	   "alg",	"key",	      "auth-key",   "salt",
					   "esn",	   "window",	"mode",	      "soft-time",  "hard-time",
					   "soft-bytes",   "hard-bytes", "soft-packets", "hard-packets"};
	static char text[1 << 16];
	char line[200], salt[8], auth[8];
	FILE *f = fopen("docs/man/ipsecd.conf.5", "re");

	if (!f)
		skip(); /* not started from the top of the tree */
	text[fread(text, 1, sizeof text - 1, f)] = 0;
	fclose(f);
	assert_non_null(strstr(strstr(text, ".Sh SA FILES"), "\n.Ic for Cm = Ar ours theirs"));
	for (unsigned int i = 0; i < ARRAY_SIZE(keys); i++) {
		snprintf(line, sizeof line, "\n.It Ic %s ", keys[i]);
		assert_non_null(strstr(strstr(text, ".Sh SA FILES"), line));
	}
	for (enum aead_alg alg = AEAD_NONE + 1; alg < AEAD_MAX; alg++) {
		const struct aead_desc *d = aead_by_alg(alg);

		snprintf(salt, sizeof salt, d->salt_len ? "%u" : "-", d->salt_len);
		snprintf(auth, sizeof auth, d->auth_key_len ? "%u" : "-", d->auth_key_len);
		snprintf(line, sizeof line, "\n.It %s Ta %u Ta %s Ta %s Ta %s\n", d->name,
			 d->key_len, salt, auth, d->level);
		if (!strstr(text, line))
			fail_msg("docs/man/ipsecd.conf.5 lacks:%s", line);
	}
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
	const struct CMUnitTest tests[] = {
		CASE(test_good),
		CASE(test_defaults_and_spellings),
		CASE(test_for), CASE(test_lifetimes),
		CASE(test_refused),
		CASE(test_mode),
		CASE(test_cbc),
		CASE(test_nearly_the_same),
		CASE(test_all_errors_in_one_go),
		CASE(test_modes),
		CASE(test_odd_files),
		CASE(test_never_says_a_key),
		CASE(test_pair),
		CASE(test_pairs_differ),
		CASE(test_pair_refused),
		cmocka_unit_test(test_manual),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
