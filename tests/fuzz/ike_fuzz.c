/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ike_fuzz - records of the IKE daemon's plugin. Asserts that what is taken is written again as it came, byte by
 * byte, and that of what is refused nothing stays in memory.
 */
#include "ike_wire.h"
#include "fuzz_main.h"

#ifndef FUZZ_LIBFUZZER
/* A record that is nearly right: every type, plausible bodies, now and then a spoiled byte. */
static size_t make_input(uint64_t *s, uint8_t *buf, size_t room)
{
	static const uint16_t types[] = {IKE_HELLO, IKE_GET_SPI, IKE_ADD, IKE_UPDATE, IKE_QUERY, IKE_DEL, IKE_FLUSH, IKE_BYE,
					 IKE_REPLY + IKE_ADD, IKE_EXPIRE, IKE_MAPPING, IKE_ACQUIRE};
	struct ike_msg m = {.head = {.type = types[fuzz_random(s) % (sizeof types / sizeof *types)],
				     .seq = (uint32_t)fuzz_random(s), .generation = fuzz_random(s)}};
	int n;

	if (m.head.type == IKE_ADD) {
		m.add.enc_len = fuzz_random(s) % (IKE_KEY_MAX + 1);
		for (unsigned int i = 0; i < m.add.enc_len; i++)
			m.add.enc_key[i] = (uint8_t)fuzz_random(s);
		m.add.n_sel = fuzz_random(s) % (IKE_SEL_MAX + 1);
		m.add.id.spi = (uint32_t)fuzz_random(s);
		m.add.time_s.hard = fuzz_random(s);
	} else if (m.head.type == IKE_REPLY + IKE_ADD) {
		m.reply.status = fuzz_random(s) % IKE_STATUS_MAX;
	} else if (m.head.type == IKE_MAPPING) {
		m.mapping.port = (uint16_t)fuzz_random(s);
	}
	n = ike_encode(&m, buf);
	HOLD(n > 0 && (size_t)n <= room);
	if (!(fuzz_random(s) & 3))
		buf[fuzz_random(s) % n] = (uint8_t)fuzz_random(s);
	if (!(fuzz_random(s) & 15))
		n = fuzz_random(s) % n;
	return n;
}
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint8_t *copy = fuzz_copy(data, len), again[IKE_RECORD_MAX];
	static const struct ike_msg zero;
	struct ike_msg m;

	if (ike_decode(copy, len, &m)) {
		HOLD(!memcmp(&m, &zero, sizeof m));
	} else {
		HOLD(ike_encode(&m, again) == (int)len);
		HOLD(!memcmp(again, copy, len));
	}
	free(copy);
	return 0;
}
