/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fingerprints, wiping, and what a configuration becomes. */
#include <arpa/inet.h>
#include <errno.h>
#include "crypto_rig.h"
#include "ipsec_wire.h"
#include "sa.h"

static struct sa_conf conf(enum sa_dir dir)
{
	struct sa_conf c = {
		.dir = dir, .spi = 0x1234, .alg = AEAD_AES_GCM_128, .esn = true, .window = 128};

	for (size_t i = 0; i < sizeof c.key; i++)
		c.key[i] = (uint8_t)i;
	memcpy(c.salt, "\xa0\xa1\xa2\xa3", 4);
	return c;
}

/* Python: sha256(b"espwire key fingerprint 1\0" + bytes([alg]) + key + salt).digest()[:8].hex() */
static void test_fingerprint_value(void **state)
{
	struct sa_conf c = conf(SA_OUT);

	assert_true(sa_fingerprint(&c) == UINT64_C(0x25d84134568b55c1));
	c.alg = AEAD_AES_GCM_256;
	assert_true(sa_fingerprint(&c) == UINT64_C(0x1d0e571d0b6a15a6));
	c.alg = AEAD_CHACHA20_POLY1305;
	assert_true(sa_fingerprint(&c) == UINT64_C(0x72550d1b5cfac9cf));
	c.alg = AEAD_AES_GMAC_128;
	assert_true(sa_fingerprint(&c) == UINT64_C(0xe1d12eba58695ca3));
	c.alg = AEAD_CBC_256_SHA512; /* 96 bytes of key, no salt */
	assert_true(sa_fingerprint(&c) == UINT64_C(0x6388630cf259cab3));
	c.alg = AEAD_NONE;
	assert_true(sa_fingerprint(&c) == 0);
}

/* On every bit of the keying material, and on nothing else. */
static void fingerprint_depends(enum aead_alg alg)
{
	const struct aead_desc *d = aead_by_alg(alg);
	struct sa_conf c = conf(SA_OUT);
	uint64_t fp;

	c.alg = alg;
	fp = sa_fingerprint(&c);
	for (size_t i = 0; i < aead_key_bytes(d); i++) {
		c.key[i] ^= 0x80;
		assert_true(sa_fingerprint(&c) != fp);
		c.key[i] ^= 0x80;
	}
	for (size_t i = 0; i < d->salt_len; i++) {
		c.salt[i] ^= 1;
		assert_true(sa_fingerprint(&c) != fp);
		c.salt[i] ^= 1;
	}
	memset(c.key + aead_key_bytes(d), 0xff, sizeof c.key - aead_key_bytes(d));
	if (!d->salt_len)
		memset(c.salt, 0xff, sizeof c.salt);
	c.spi++;
	c.dir = SA_IN;
	c.seq_start = c.iv_start = 99;
	assert_true(sa_fingerprint(&c) == fp);
}

static void test_fingerprint_depends(void **state)
{
	for (enum aead_alg alg = AEAD_NONE + 1; alg < AEAD_MAX; alg++)
		fingerprint_depends(alg);
}

/* What the hot halves say of the layout is what the table says. */
static void test_layout(void **state)
{
	uint64_t top = 0, words[4] = {0};
	struct sa_out out;
	struct sa_in in;

	for (enum aead_alg alg = AEAD_NONE + 1; alg < AEAD_MAX; alg++) {
		const struct aead_desc *d = aead_by_alg(alg);
		struct sa_conf c = conf(SA_OUT);
		struct esp_layout l = sa_layout(alg);

		c.alg = alg;
		assert_true(l.iv_len == d->iv_len && l.icv_len == d->icv_len && l.align == d->align);
		assert_true(l.iv_len <= ESP_IV_MAX && l.align <= ESP_ALIGN_MAX);
		assert_in_range(l.icv_len, ESP_ICV_MIN, ESP_ICV_MAX);
		assert_int_equal(sa_out_init(&out, &c), 0);
		c.dir = SA_IN;
		assert_int_equal(sa_in_init(&in, &c, &top, words), 0);
		assert_memory_equal(&out.layout, &l, sizeof l);
		assert_memory_equal(&in.layout, &l, sizeof l);
		assert_true(out.kind == d->kind && in.kind == d->kind);
		sa_out_fini(&out);
		sa_in_fini(&in);
	}
	assert_int_equal(sa_layout(AEAD_MAX).align, 0);
}

static void test_wipe(void **state)
{
	static const uint8_t zero[AEAD_KEY_MAX];
	struct sa_conf c = conf(SA_OUT);

	sa_conf_wipe(&c);
	assert_memory_equal(c.key, zero, sizeof c.key);
	assert_memory_equal(c.salt, zero, sizeof c.salt);
	assert_int_equal(c.spi, 0x1234);
}

static void test_out(void **state)
{
	struct sa_conf c = conf(SA_OUT);
	struct sa_out sa;

	assert_int_equal(sa_out_init(&sa, &c), 0);
	assert_int_equal(sa.seq, 0);
	assert_int_equal(sa.iv, 0);
	assert_true(sa.seq_limit == UINT64_MAX && sa.iv_limit == UINT64_MAX);
	assert_int_equal(sa.spi_be, htonl(0x1234));
	assert_memory_equal(sa.salt, c.salt, 4);
	sa_out_fini(&sa);
	assert_null(sa.aead);
	sa_out_fini(&sa);

	c.seq_start = 100;
	c.iv_start = UINT64_C(1) << 40;
	assert_int_equal(sa_out_init(&sa, &c), 0);
	assert_int_equal(sa.seq, 99);
	assert_true(sa.iv == (UINT64_C(1) << 40) - 1);
	assert_true(sa.seq_limit == UINT64_MAX);
	sa_out_end(&sa);
	assert_null(sa.aead);
	assert_memory_equal(sa.salt, "\0\0\0", 4);
	assert_int_equal(sa.layout.iv_len, 8); /* who it was stays known */
	assert_int_equal(sa.spi_be, htonl(0x1234));
	sa_out_fini(&sa);
}

static void test_out_limits(void **state)
{
	struct sa_conf c = conf(SA_OUT);
	struct sa_out sa;

	c.esn = false;
	c.seq_start = UINT32_MAX;
	assert_int_equal(sa_out_init(&sa, &c), 0);
	assert_int_equal(sa.seq_limit, UINT32_MAX);
	sa_out_fini(&sa);
	c.seq_start = UINT64_C(1) << 32;
	assert_int_equal(sa_out_init(&sa, &c), -EINVAL);
	c.esn = true;
	assert_int_equal(sa_out_init(&sa, &c), 0);
	assert_true(sa.seq_limit == UINT64_MAX);
	sa_out_fini(&sa);
}

static void test_refused(void **state)
{
	uint64_t top = 0, words[4] = {0};
	struct sa_conf c;
	struct sa_out out;
	struct sa_in in;

	c = conf(SA_IN);
	assert_int_equal(sa_out_init(&out, &c), -EINVAL);
	c = conf(SA_OUT);
	assert_int_equal(sa_in_init(&in, &c, &top, words), -EINVAL);
	c = conf(SA_OUT);
	c.spi = SPI_MIN - 1;
	assert_int_equal(sa_out_init(&out, &c), -EINVAL);
	c.spi = SPI_MIN;
	c.alg = AEAD_MAX;
	assert_int_equal(sa_out_init(&out, &c), -EINVAL);
	c = conf(SA_IN);
	c.window = 100;
	assert_int_equal(sa_in_init(&in, &c, &top, words), -EINVAL);
}

static void test_in(void **state)
{
	uint64_t top = 0, words[4] = {0};
	struct sa_conf c = conf(SA_IN);
	struct sa_in sa;

	assert_int_equal(sa_in_init(&sa, &c, &top, words), 0);
	assert_int_equal(sa.spi_be, htonl(0x1234));
	assert_true(sa.replay.esn && sa.replay.window == 128 && top == 0);
	assert_int_equal(replay_accept(&sa.replay, 1000, NULL), DROP_NONE);
	sa_in_fini(&sa);
	assert_int_equal(top, 1000); /* the window is the caller's and stays */

	assert_int_equal(sa_in_init(&sa, &c, &top, words), 0); /* adopted */
	assert_int_equal(replay_check(&sa.replay, 1000), DROP_REPLAY_DUP);
	assert_int_equal(replay_check(&sa.replay, 999), DROP_NONE);
	sa_in_fini(&sa);

	c.seq_start = 1010;
	assert_int_equal(sa_in_init(&sa, &c, &top, words), 0);
	assert_int_equal(replay_check(&sa.replay, 999), DROP_REPLAY_DUP);
	assert_int_equal(replay_check(&sa.replay, 1010), DROP_REPLAY_DUP);
	assert_int_equal(replay_check(&sa.replay, 1011), DROP_NONE);
	sa_in_fini(&sa);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fingerprint_value),
		cmocka_unit_test(test_fingerprint_depends),
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_wipe),
		cmocka_unit_test(test_out),
		cmocka_unit_test(test_out_limits),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_in),
	};

	if (aead_backend_select("auto"))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
