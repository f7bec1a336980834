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
	c.alg = AEAD_NONE;
	assert_true(sa_fingerprint(&c) == 0);
}

static void test_fingerprint_depends(void **state)
{
	struct sa_conf c = conf(SA_OUT);
	uint64_t fp = sa_fingerprint(&c);

	for (size_t i = 0; i < 16; i++) {
		c.key[i] ^= 0x80;
		assert_true(sa_fingerprint(&c) != fp);
		c.key[i] ^= 0x80;
	}
	for (size_t i = 0; i < sizeof c.salt; i++) {
		c.salt[i] ^= 1;
		assert_true(sa_fingerprint(&c) != fp);
		c.salt[i] ^= 1;
	}
	memset(c.key + 16, 0xff, 16); /* no part of a 128-bit key */
	c.spi++;
	c.dir = SA_IN;
	c.seq_start = c.iv_start = 99;
	assert_true(sa_fingerprint(&c) == fp);
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
	c.hard_pkts = 10;
	assert_int_equal(sa_out_init(&sa, &c), 0);
	assert_int_equal(sa.seq, 99);
	assert_true(sa.iv == (UINT64_C(1) << 40) - 1);
	assert_int_equal(sa.seq_limit, 109);
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
	c.hard_pkts = 5;
	assert_int_equal(sa_out_init(&sa, &c), 0);
	assert_int_equal(sa.seq_limit, UINT32_MAX);
	sa_out_fini(&sa);
	c.seq_start = UINT64_C(1) << 32;
	assert_int_equal(sa_out_init(&sa, &c), -EINVAL);
	c.esn = true;
	c.hard_pkts = UINT64_MAX;
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
