/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ike_wire: golden records, and what is refused. Whoever changes a byte here changes IKE_VERSION. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "ike_wire.h"
#include "util.h"

static void addr4(uint8_t a[16], uint8_t last)
{
	static const uint8_t net[16] = {[10] = 0xff, [11] = 0xff, 198, 51, 100};

	memcpy(a, net, 16);
	a[15] = last;
}

static struct ike_id id(void)
{
	struct ike_id i = {.spi = 0xc1234567, .if_id = 7, .inbound = true};

	addr4(i.src, 2);
	addr4(i.dst, 1);
	return i;
}

#define HEAD(type, seq, len) "49504431" "0001" type seq len "0123456789abcdef"
#define A1 "00000000000000000000ffffc6336401"
#define A2 "00000000000000000000ffffc6336402"
#define ID "c1234567" "00000007" A2 A1 "01"

static struct ike_msg golden_msg(uint16_t type)
{
	struct ike_msg m = {.head = {.type = type, .seq = 5, .generation = 0x0123456789abcdef}};

	switch (type) {
	case IKE_HELLO:
		m.hello = (struct ike_hello){.pid = 4242, .events = true};
		break;
	case IKE_QUERY:
	case IKE_DEL:
		m.id = id();
		break;
	case IKE_UPDATE:
		m.update = (struct ike_update){.id = id(), .sport = 4500, .dport = 1027, .encap = true};
		addr4(m.update.src, 9);
		addr4(m.update.dst, 1);
		break;
	case IKE_EXPIRE:
		m.expire = (struct ike_expire){.spi = 0xc1234567, .hard = true};
		addr4(m.expire.dst, 1);
		break;
	case IKE_MAPPING:
		m.mapping = (struct ike_mapping){.spi = 0xc1234567, .port = 1027};
		addr4(m.mapping.dst, 1);
		addr4(m.mapping.to, 2);
		break;
	case IKE_ACQUIRE:
		m.acquire = (struct ike_acquire){.if_id = 7, .reqid = 3};
		break;
	case IKE_REPLY + IKE_QUERY:
		m.reply = (struct ike_reply){.status = IKE_NOT_FOUND, .spi = 1, .bytes = 2, .packets = 3, .idle_ms = UINT64_MAX};
		break;
	}
	return m;
}

static const struct golden {
	uint16_t type;
	const char *hex;
} golden[] = {
	{IKE_HELLO, HEAD("0001", "00000005", "0000001d") "00001092" "01"},
	{IKE_GET_SPI, HEAD("0002", "00000005", "00000018")},
	{IKE_UPDATE, HEAD("0004", "00000005", "00000066") ID "00000000000000000000ffffc6336409" A1 "1194" "0403" "01"},
	{IKE_QUERY, HEAD("0005", "00000005", "00000041") ID},
	{IKE_DEL, HEAD("0006", "00000005", "00000041") ID},
	{IKE_FLUSH, HEAD("0007", "00000005", "00000018")},
	{IKE_BYE, HEAD("0008", "00000005", "00000018")},
	{IKE_REPLY + IKE_QUERY, HEAD("0069", "00000005", "00000036") "0002" "00000001" "0000000000000002" "0000000000000003"
				"ffffffffffffffff"},
	{IKE_EXPIRE, HEAD("00c8", "00000005", "0000002d") "c1234567" A1 "01"},
	{IKE_MAPPING, HEAD("00c9", "00000005", "0000003e") "c1234567" A1 A2 "0403"},
	{IKE_ACQUIRE, HEAD("00ca", "00000005", "00000020") "00000007" "00000003"},
};

static void hex_of(const uint8_t *p, int n, char *out)
{
	for (int i = 0; i < n; i++)
		sprintf(out + 2 * i, "%02x", p[i]);
}

static void golden_records(void **state)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(golden); i++) {
		struct ike_msg m = golden_msg(golden[i].type), back;
		uint8_t buf[IKE_RECORD_MAX];
		char hex[2 * IKE_RECORD_MAX + 1];
		int n = ike_encode(&m, buf);

		assert_true(n > 0);
		hex_of(buf, n, hex);
		assert_string_equal(hex, golden[i].hex);
		assert_int_equal(ike_decode(buf, n, &back), 0);
		assert_memory_equal(&m, &back, sizeof m);
	}
}

static struct ike_msg an_add(void)
{
	struct ike_msg m = {.head = {.type = IKE_ADD, .seq = 9, .generation = 1}};
	struct ike_add *a = &m.add;

	a->id = id();
	a->sport = a->dport = 500;
	a->reqid = 1;
	a->window = 4096;
	a->enc_alg = 20;
	a->int_alg = 1024;
	a->enc_len = 36;
	for (unsigned int i = 0; i < 36; i++)
		a->enc_key[i] = 0xa0 + i;
	a->tunnel = a->esn = true;
	a->time_s = (struct ike_life){3600, 3960};
	a->n_sel = 2;
	for (unsigned int i = 0; i < 2; i++) {
		memset(a->sel[i].src[1], 0x0f, 16);
		memset(a->sel[i].dst[1], 0xff, 16);
		a->sel[i].sport[1] = a->sel[i].dport[1] = 65535;
	}
	return m;
}

/* An ADD is long: first and last bytes, and lengths, by the table in ike_wire.h. */
static void an_add_travels(void **state)
{
	static const char head[] = HEAD("0003", "00000009", "00000222");
	struct ike_msg m = an_add(), back;
	uint8_t buf[IKE_RECORD_MAX];
	char hex[2 * IKE_RECORD_MAX + 1];
	int n;

	m.head.generation = 0x0123456789abcdef;
	n = ike_encode(&m, buf);
	assert_int_equal(n, 0x222);
	hex_of(buf, n, hex);
	assert_memory_equal(hex, head, strlen(head));
	assert_memory_equal(hex + 2 * (24 + 41), "01f401f4" "00000001" "00001000" "00000000" "00000000" "0014" "0400" "24a0a1a2", 56);
	assert_int_equal(ike_decode(buf, n, &back), 0);
	assert_memory_equal(&m, &back, sizeof m);
	m.add.n_sel = IKE_SEL_MAX;
	assert_true(ike_encode(&m, buf) < IKE_RECORD_MAX);
}

static void every_cut_is_refused(void **state)
{
	struct ike_msg m = an_add(), back, zero;
	uint8_t buf[IKE_RECORD_MAX];
	int n = ike_encode(&m, buf);

	memset(&zero, 0, sizeof zero);
	for (int i = 0; i < n; i++) {
		assert_int_equal(ike_decode(buf, i, &back), -EBADMSG);
		assert_memory_equal(&back, &zero, sizeof zero); /* no half of a key stays */
	}
	assert_int_equal(ike_decode(buf, n + 1, &back), -EBADMSG);
}

static int spoiled(int at, uint8_t to)
{
	struct ike_msg m = an_add(), back;
	uint8_t buf[IKE_RECORD_MAX];
	int n = ike_encode(&m, buf);

	buf[at] = to;
	return ike_decode(buf, n, &back);
}

static void what_is_refused(void **state)
{
	enum { BODY = 24, INBOUND = BODY + 40, ENC_LEN = BODY + 41 + 24, INT_LEN = ENC_LEN + 129, FLAGS = INT_LEN + 129,
	       N_SEL = FLAGS + 4 + 48 };

	assert_int_equal(spoiled(0, 'J'), -EBADMSG);
	assert_int_equal(spoiled(5, 2), -EPROTONOSUPPORT);
	assert_int_equal(spoiled(7, 99), -EBADMSG);
	assert_int_equal(spoiled(7, 100), -EBADMSG); /* a reply to nothing */
	assert_int_equal(spoiled(7, 109), -EBADMSG);
	assert_int_equal(spoiled(15, 3), -EBADMSG); /* another length */
	assert_int_equal(spoiled(INBOUND, 2), -EBADMSG);
	assert_int_equal(spoiled(INBOUND, 0), 0);
	assert_int_equal(spoiled(ENC_LEN, 129), -EBADMSG);
	assert_int_equal(spoiled(ENC_LEN, 35), -EBADMSG); /* a byte behind the key is not zero */
	assert_int_equal(spoiled(ENC_LEN + 100, 1), -EBADMSG);
	assert_int_equal(spoiled(INT_LEN + 1, 1), -EBADMSG);
	for (int i = 0; i < 4; i++)
		assert_int_equal(spoiled(FLAGS + i, 2), -EBADMSG);
	assert_int_equal(spoiled(N_SEL, 3), -EBADMSG);
	assert_int_equal(spoiled(N_SEL, IKE_SEL_MAX + 1), -EBADMSG);
	assert_int_equal(spoiled(N_SEL + 1, 0x0e), 0);
	assert_int_equal(spoiled(N_SEL + 1, 0x10), -EBADMSG); /* from above to */
}

static void what_is_not_written(void **state)
{
	struct ike_msg m = an_add();
	uint8_t buf[IKE_RECORD_MAX], zero[IKE_RECORD_MAX] = {0};

	memset(buf, 0, sizeof buf);
	m.add.n_sel = IKE_SEL_MAX + 1;
	assert_int_equal(ike_encode(&m, buf), -EINVAL);
	assert_memory_equal(buf, zero, sizeof zero); /* the key is not left lying about */
	m = (struct ike_msg){.head = {.type = 42}};
	assert_int_equal(ike_encode(&m, buf), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(golden_records),   cmocka_unit_test(an_add_travels),  cmocka_unit_test(every_cut_is_refused),
		cmocka_unit_test(what_is_refused), cmocka_unit_test(what_is_not_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
