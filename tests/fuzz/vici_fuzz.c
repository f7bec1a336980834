/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vici_fuzz - messages of an IKE daemon. Asserts that what is taken can be written out as JSON. */
#include "vici.h"
#include "fuzz_main.h"

#ifndef FUZZ_LIBFUZZER
/* Elements in an order that is nearly right. */
static size_t make_input(uint64_t *s, uint8_t *buf, size_t room)
{
	struct vici m = {0};
	unsigned int depth = 0;
	size_t n;

	for (unsigned int i = fuzz_random(s) % 30; i; i--) {
		switch (fuzz_random(s) % 5) {
		case 0:
			vici_open_section(&m, "east");
			depth++;
			break;
		case 1:
			if (depth)
				vici_close_section(&m);
			depth -= depth != 0;
			break;
		case 2:
			vici_list(&m, "l\xfc", "a", fuzz_random(s) & 1 ? "b" : NULL);
			break;
		default:
			vici_put(&m, "key", "%llx\xff", (unsigned long long)fuzz_random(s));
		}
	}
	for (; depth; depth--)
		vici_close_section(&m);
	n = m.len < room ? m.len : room;
	if (n)
		memcpy(buf, m.p, n);
	vici_free(&m);
	if (n && !(fuzz_random(s) & 3))
		buf[fuzz_random(s) % n] = (uint8_t)fuzz_random(s);
	return n;
}
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint8_t *copy = fuzz_copy(data, len);
	json_t *j = NULL;
	char *text;

	if (!vici_parse(copy, len, &j)) {
		text = json_dumps(j, JSON_COMPACT);
		HOLD(text && json_is_object(j));
		free(text);
		json_decref(j);
	} else {
		HOLD(!j);
	}
	free(copy);
	return 0;
}
