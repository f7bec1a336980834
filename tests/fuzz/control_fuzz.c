/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * control_fuzz - request lines of the control socket, into every verb, as root and as anybody.
 *
 * The first byte says who asks; the rest is one line. Asserts that there is always an answer with
 * schema, ok and, when it failed, a code; that nobody but root changes anything; and that what the
 * daemon would send can be written out. Links live in the fake daemon, so nothing is ever touched.
 */
#include "../unit/fake_daemon.h"
#include "fuzz_main.h"

enum { LINKS = 4 };

static struct daemon *d;
static struct verbs *v;

static void init(void)
{
	log_max = LOGL_ERR;
	d = fake_daemon("/nonexistent", LINKS + 4, LINKS);
	fake_oif = 1000;
	HOLD(!verbs_open(&v, d, NULL));
}

#ifndef FUZZ_LIBFUZZER
/* A request that is nearly right: a verb, some arguments, now and then a spoiled byte. */
static size_t make_input(uint64_t *s, uint8_t *buf, size_t room)
{
	static const char *const names[] = {"show",      "path-list", "drops",    "perf",
					    "why",       "mtu",       "config",   "monitor",
					    "diff",      "apply",     "confirm",  "rollback",
					    "link-add",  "link-set",  "link-del", "link-up",
					    "link-down", "sa-reload", "frob"};
	static const char *const args[] = {"\"name\":\"east\"",
					   "\"name\":\"ipsec9\"",
					   "\"name\":7",
					   "\"src\":\"10.1.0.1\"",
					   "\"dst\":\"10.2.0.1\"",
					   "\"size\":99999999999",
					   "\"set\":[[\"peer\",\"p\"],[\"mtu\",\"1400\"]]",
					   "\"set\":[[\"path\",\"any\"],[\"path\",\"::1\"],[1]]",
					   "\"text\":\"[link ipsec5]\"",
					   "\"file\":\"/nonexistent\"",
					   "\"confirm_s\":5",
					   "\"netns\":\"x\"",
					   "\"all\":true"};
	int n = snprintf((char *)buf, room, "%c{\"schema\":1,\"verb\":\"%s\",\"args\":{",
			 (int)(fuzz_random(s) & 1), names[fuzz_random(s) % ARRAY_SIZE(names)]);

	for (unsigned int k = 0; k < 4; k++)
		n += snprintf((char *)buf + n, room - n, "%s%s", k ? "," : "",
			      args[fuzz_random(s) % ARRAY_SIZE(args)]);
	n += snprintf((char *)buf + n, room - n, "}}");
	if (!(fuzz_random(s) & 3))
		buf[1 + fuzz_random(s) % (n - 1)] = (uint8_t)fuzz_random(s);
	return n;
}
#endif

static void reset(void)
{
	fake_clear(d);
	fake_links_add(d, LINKS);
	fake_applied = 0;
}

static void check(json_t *r, bool root)
{
	char *text;

	HOLD(r && json_integer_value(json_object_get(r, "schema")) == 1);
	HOLD(json_is_boolean(json_object_get(r, "ok")));
	HOLD(json_is_true(json_object_get(r, "ok")) || json_is_string(json_object_get(r, "code")));
	HOLD(root || (!fake_applied && d->n_links == LINKS && links_by_name(d, "east")->admin_up));
	text = json_dumps(r, JSON_COMPACT | JSON_REAL_PRECISION(12));
	HOLD(text && !strchr(text, '\n'));
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	bool root, monitor;
	json_t *r;

	if (!d)
		init();
	if (!len)
		return 0;
	root = data[0] & 1;
	r = verbs_line(v, (const char *)data + 1, len - 1, root, &monitor);
	check(r, root);
	json_decref(r);
	if (root)
		reset();
	return 0;
}
