// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * verbs: every reply's shape, the books, what is refused, the configuration round trip.
 *
 * `verbs_test --serve DIR [LINKS]` runs the fake daemon on DIR/ctl.sock for a minute, to see
 * ipsecctl work without a kernel behind it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "fake_daemon.h"

struct bed {
	struct daemon *d;
	struct verbs *v;
	sd_event *ev;
};

static struct bed *bed_new(unsigned int max, unsigned int n)
{
	struct bed *b = calloc(1, sizeof *b);

	memset(&fake_link_ctr, 0, sizeof fake_link_ctr);
	memset(&fake_glob_ctr, 0, sizeof fake_glob_ctr);
	fake_applied = fake_oif = 0;
	assert_true(sd_event_new(&b->ev) >= 0);
	b->d = fake_daemon("/nonexistent/run", max, n);
	assert_int_equal(verbs_open(&b->v, b->d, b->ev), 0);
	return b;
}

static void bed_free(struct bed *b)
{
	verbs_close(b->v);
	fake_daemon_free(b->d);
	sd_event_unref(b->ev);
	free(b);
}

static json_t *ask_as(struct bed *b, bool root, const char *verb, json_t *args)
{
	json_t *req = json_pack("{s:i, s:s, s:o}", "schema", 1, "verb", verb, "args",
				args ? args : json_object());
	char *line = json_dumps(req, JSON_COMPACT);
	bool monitor;
	json_t *r = verbs_line(b->v, line, strlen(line), root, &monitor);

	assert_non_null(r);
	assert_int_equal(json_integer_value(json_object_get(r, "schema")), 1);
	free(line);
	json_decref(req);
	return r;
}

static json_t *ask(struct bed *b, const char *verb, json_t *args)
{
	return ask_as(b, true, verb, args);
}

static void assert_ok(json_t *r)
{
	if (!json_is_true(json_object_get(r, "ok")))
		print_message("%s\n", json_string_value(json_object_get(r, "error")));
	assert_true(json_is_true(json_object_get(r, "ok")));
}

static void assert_refused(json_t *r, int exit_code, const char *code)
{
	assert_true(json_is_false(json_object_get(r, "ok")));
	assert_string_equal(json_string_value(json_object_get(r, "code")), code);
	assert_int_equal(json_integer_value(json_object_get(r, "exit")), exit_code);
	assert_true(json_is_string(json_object_get(r, "error")));
	json_decref(r);
}

/* Exactly these keys: nothing missing, nothing that the list (and the manual) does not know. */
static void assert_keys(json_t *o, const char *keys)
{
	char *copy = strdup(keys), *save = NULL;
	size_t n = 0;

	for (char *k = strtok_r(copy, " ", &save); k; k = strtok_r(NULL, " ", &save), n++)
		if (!json_object_get(o, k))
			fail_msg("no \"%s\"", k);
	free(copy);
	assert_int_equal(json_object_size(o), n);
}

static json_t *at(json_t *r, const char *list, size_t i)
{
	return json_array_get(json_object_get(r, list), i);
}

static int64_t num(json_t *o, const char *key)
{
	assert_true(json_is_integer(json_object_get(o, key)));
	return json_integer_value(json_object_get(o, key));
}

static void assert_str(json_t *o, const char *key, const char *want)
{
	const char *s = json_string_value(json_object_get(o, key));

	assert_non_null(s);
	assert_string_equal(s, want);
}

static void show_has_every_field(void **state)
{
	struct bed *b = bed_new(8, 2);
	json_t *r = ask(b, "show", NULL), *l, *s;

	assert_ok(r);
	assert_keys(r, "schema ok instance daemon links rollback_in_s");
	assert_keys(json_object_get(r, "daemon"),
		    "pid version started uptime_s workers crypto backend guardian guard_layers "
		    "port_4500 ike links links_up peers conf_file state_dir pin_dir");
	assert_int_equal(num(json_object_get(r, "daemon"), "uptime_s"), 3600);
	assert_int_equal(json_array_size(json_object_get(r, "links")), 2);
	l = at(r, "links", 0);
	assert_keys(l, "name altname peer state reason reason_text admin carrier since since_age_s "
		       "flaps address far address6 "
		       "far6 virtual metric mtu mss_clamp netns backend backend_configured backend_why offload worker cores cores_send ifindex ike ike_told ike_refused liveness keepalive cover path n_paths wire_mtu rx tx "
		       "lost drops_in_total "
		       "drops_out_total sas");
	assert_str(l, "name", "ipsec1");
	assert_str(l, "altname", "ipsec:1");
	assert_str(l, "state", "up");
	assert_str(l, "far", "10.64.0.2");
	assert_true(json_is_null(json_object_get(l, "far6")));
	assert_keys(json_object_get(l, "liveness"),
		    "mode interval_ms count rtt_us last_heard_age_s last_roundtrip_age_s "
		    "peer_hears_us_age_s");
	assert_true(json_is_null(
		json_object_get(json_object_get(l, "liveness"), "peer_hears_us_age_s")));
	assert_keys(json_object_get(l, "keepalive"), "interval_ms sent");
	assert_keys(json_object_get(l, "cover"), "per_s sent");
	assert_true(json_is_null(json_object_get(json_object_get(l, "cover"), "per_s")));
	assert_int_equal(num(json_object_get(l, "keepalive"), "interval_ms"), 20000);
	assert_keys(json_object_get(l, "path"),
		    "remote port encap fwmark table dev src mtu learned");
	assert_int_equal(num(json_object_get(l, "path"), "port"), 4500);
	s = at(l, "sas", 0);
	assert_keys(s, "dir spi alg mode esn window fingerprint seq packets bytes replay_drops "
		       "icv_drops last_used_age_s age_s for "
		       "live in_use refused life source offload");
	assert_keys(json_object_get(s, "offload"), "mode device why");
	assert_str(json_object_get(s, "offload"), "mode", "off");
	assert_keys(json_object_get(l, "offload"), "asked device why");
	assert_str(json_object_get(l, "offload"), "asked", "off");
	assert_str(s, "spi", "0xc2690000");
	assert_str(s, "fingerprint", "0123456789abcdef");
	l = at(r, "links", 1);
	assert_str(l, "state", "down");
	assert_str(l, "reason", "no-answer");
	json_decref(r);
	bed_free(b);
}

static void one_link_by_any_of_its_names(void **state)
{
	static const char *const names[] = {"ipsec1", "ipsec:1", "east"};
	struct bed *b = bed_new(8, 3);

	for (unsigned int i = 0; i < ARRAY_SIZE(names); i++) {
		json_t *r = ask(b, "show", json_pack("{s:s}", "name", names[i]));

		assert_int_equal(json_array_size(json_object_get(r, "links")), 1);
		assert_str(at(r, "links", 0), "name", "ipsec1");
		json_decref(r);
	}
	assert_refused(ask(b, "show", json_pack("{s:s}", "name", "ipsec77")), EXIT_NOT_FOUND,
		       "no-such-link");
	assert_refused(ask(b, "drops", json_pack("{s:s}", "name", "")), EXIT_NOT_FOUND,
		       "no-such-link");
	bed_free(b);
}

static void big_numbers_stay_integers(void **state)
{
	struct bed *b = bed_new(2, 1);
	struct link *l = b->d->links[0];
	json_t *r;

	l->w->ctr->in_bytes = (1ull << 53) + 1;
	l->w->out->ctr->top = UINT64_MAX;
	r = ask(b, "show", NULL);
	assert_true(num(json_object_get(at(r, "links", 0), "rx"), "bytes") == (1ll << 53) + 1);
	assert_true(num(at(at(r, "links", 0), "sas", 0), "seq") == INT64_MAX);
	json_decref(r);
	bed_free(b);
}

/* ---- the books ---- */

static void fill_books(struct bed *b)
{
	struct wlink_ctr *w = b->d->links[0]->w->ctr;

	fake_link_ctr.raw_segs = 1000;
	fake_link_ctr.tap_segs = 600;
	fake_link_ctr.xsk_segs = 390;
	fake_link_ctr.drops[DROP_TTL] = 7;
	fake_link_ctr.drops[DROP_TX_ERROR] = 3;
	fake_link_ctr.drops[DROP_LINK_DOWN] = 4; /* opened by the kernel */
	fake_link_ctr.drops[DROP_PLAIN_FOR_PROTECTED] = 5;
	fake_link_ctr.wire_pkts = 500;
	w->out_tap_segs = 598;
	w->out_xsk_segs = 389; /* 3 lost in funnels */
	w->drops_out[DROP_TX_REFUSED] = 2;
	w->drops_out[DROP_DUMMY] = 50; /* counted, not a drop */
	w->out_pkts = 985;
	w->out_probes = 40;
	w->in_xsk_pkts = 499;
	w->in_sock_pkts = 101;
	w->in_kernel_pkts = 4;
	w->in_pkts = 580;
	w->in_probes = 12;
	w->drops_in[DROP_ICV_FAIL] = 6;
	w->drops_in[DROP_REPLAY_DUP] = 2;
}

static void books_balance(void **state)
{
	struct bed *b = bed_new(2, 1);
	json_t *r, *c, *out, *in;

	fill_books(b);
	r = ask(b, "drops", NULL);
	assert_keys(r, "schema ok instance links conservation global reasons");
	c = at(r, "conservation", 0);
	out = json_object_get(c, "out");
	in = json_object_get(c, "in");
	assert_keys(out, "raw_in shortcut emitted in_funnel drops balance");
	assert_int_equal(num(out, "drops"), 12);
	assert_int_equal(num(out, "in_funnel"), 3);
	assert_int_equal(num(out, "balance"), 0);
	assert_keys(in, "wire_in steered in_funnel delivered probes drops balance");
	assert_int_equal(num(in, "drops"), 12);
	assert_int_equal(num(in, "in_funnel"), 1);
	assert_int_equal(num(in, "balance"), 0);
	json_decref(r);
	bed_free(b);
}

static void a_lost_packet_unbalances_the_books(void **state)
{
	struct bed *b = bed_new(2, 1);
	json_t *r;

	fill_books(b);
	b->d->links[0]->w->ctr->out_pkts--;
	b->d->links[0]->w->ctr->in_pkts += 4;
	r = ask(b, "drops", NULL);
	assert_int_equal(num(json_object_get(at(r, "conservation", 0), "out"), "balance"), 1);
	assert_int_equal(num(json_object_get(at(r, "conservation", 0), "in"), "balance"), -4);
	json_decref(r);
	bed_free(b);
}

static void every_reason_is_listed_and_explained(void **state)
{
	struct bed *b = bed_new(2, 1);
	json_t *r, *l;
	const char *k;
	json_t *val;

	fill_books(b);
	fake_glob_ctr.drops[DROP_NO_SA] = 9;
	r = ask(b, "drops", NULL);
	l = at(r, "links", 0);
	assert_int_equal(json_object_size(json_object_get(l, "out")), DROP_MAX - 1);
	assert_int_equal(json_object_size(json_object_get(l, "in")), DROP_MAX - 1);
	assert_int_equal(num(json_object_get(l, "out"), "ttl"), 7);
	assert_int_equal(num(json_object_get(l, "in"), "plain-for-protected"), 5);
	assert_int_equal(num(json_object_get(l, "out"), "plain-for-protected"), 0);
	assert_int_equal(num(json_object_get(json_object_get(r, "global"), "drops"), "no-sa"), 9);
	json_object_foreach (json_object_get(l, "out"), k, val)
		assert_true(json_is_string(json_object_get(json_object_get(r, "reasons"), k)));
	json_decref(r);
	bed_free(b);
}

/* ---- requests that must be refused ---- */

static void bad_requests_are_answered(void **state)
{
	static const struct {
		const char *line, *code;
	} rows[] = {
		{"", "bad-json"},
		{"x", "bad-json"},
		{"{", "bad-json"},
		{"{}x", "bad-json"},
		{"[1,2]", "bad-schema"},
		{"null", "bad-json"},
		{"{}", "bad-schema"},
		{"{\"schema\":2,\"verb\":\"show\"}", "bad-schema"},
		{"{\"schema\":\"1\",\"verb\":\"show\"}", "bad-schema"},
		{"{\"schema\":1}", "bad-request"},
		{"{\"schema\":1,\"verb\":7}", "bad-request"},
		{"{\"schema\":1,\"verb\":\"show\",\"args\":[]}", "bad-request"},
		{"{\"schema\":1,\"verb\":\"frobnicate\"}", "no-such-verb"},
		{"{\"schema\":1,\"schema\":1,\"verb\":\"show\"}", "bad-json"},
		{"{\"schema\":1,\"verb\":\"show\",\"args\":{\"name\":\"\xff\"}}", "bad-json"},
		{"{\"schema\":1,\"verb\":\"link-add\",\"args\":{\"name\":\"eth0\"}}", "bad-name"},
		{"{\"schema\":1,\"verb\":\"link-add\"}", "bad-name"},
		{"{\"schema\":1,\"verb\":\"link-set\"}", "bad-request"},
		{"{\"schema\":1,\"verb\":\"link-set\",\"args\":{\"name\":\"east\",\"set\":[["
		 "\"peer\"]]}}",
		 "bad-setting"},
		{"{\"schema\":1,\"verb\":\"link-set\",\"args\":{\"name\":\"east\",\"set\":[5]}}",
		 "bad-setting"},
		{"{\"schema\":1,\"verb\":\"link-set\",\"args\":{\"name\":\"east\",\"set\":[["
		 "\"colour\",\"red\"]]}}",
		 "bad-setting"},
		{"{\"schema\":1,\"verb\":\"link-set\",\"args\":{\"name\":\"east\",\"set\":[["
		 "\"mtu\",\"12\"]]}}",
		 "bad-setting"},
		{"{\"schema\":1,\"verb\":\"why\",\"args\":{\"src\":\"10.0.0.1\",\"dst\":\"fd00::"
		 "1\"}}",
		 "bad-address"},
		{"{\"schema\":1,\"verb\":\"apply\",\"args\":{\"text\":\"\",\"confirm_s\":-1}}",
		 "bad-confirm"},
		{"{\"schema\":1,\"verb\":\"apply\",\"args\":{\"text\":\"\",\"confirm_s\":\"60\"}}",
		 "bad-confirm"},
		{"{\"schema\":1,\"verb\":\"apply\",\"args\":{\"file\":\"/nonexistent/x.conf\"}}",
		 "conf-unreadable"},
		{"{\"schema\":1,\"verb\":\"confirm\"}", "nothing-pending"},
	};
	struct bed *b = bed_new(4, 1);
	bool monitor;

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		json_t *r = verbs_line(b->v, rows[i].line, strlen(rows[i].line), true, &monitor);

		assert_true(json_is_false(json_object_get(r, "ok")));
		if (strcmp(json_string_value(json_object_get(r, "code")), rows[i].code))
			fail_msg("%s: %s", rows[i].line,
				 json_string_value(json_object_get(r, "code")));
		json_decref(r);
	}
	assert_int_equal(fake_applied, 0);
	assert_int_equal(b->d->n_links, 1);
	bed_free(b);
}

static void nesting_is_bounded(void **state)
{
	struct bed *b = bed_new(2, 0);
	size_t n = 500000;
	char *deep = malloc(n);
	bool monitor;
	json_t *r;

	memset(deep, '[', n);
	r = verbs_line(b->v, deep, n, false, &monitor);
	assert_refused(r, EXIT_USAGE, "bad-json");
	free(deep);
	bed_free(b);
}

static void only_root_changes_things(void **state)
{
	static const char *const changing[] = {"apply",     "diff",     "confirm",  "rollback",
					       "link-add",  "link-set", "link-del", "link-up",
					       "link-down", "sa-reload"};
	static const char *const reading[] = {"show", "drops", "path-list", "perf", "config"};
	struct bed *b = bed_new(4, 1);

	for (unsigned int i = 0; i < ARRAY_SIZE(changing); i++)
		assert_refused(ask_as(b, false, changing[i], json_pack("{s:s}", "name", "east")),
			       EXIT_POLICY, "not-permitted");
	for (unsigned int i = 0; i < ARRAY_SIZE(reading); i++) {
		json_t *r = ask_as(b, false, reading[i], NULL);

		assert_ok(r);
		json_decref(r);
	}
	assert_int_equal(b->d->n_links, 1);
	bed_free(b);
}

/* ---- changing links ---- */

static json_t *kv(json_t *set, const char *key, const char *value)
{
	if (!set)
		set = json_array();
	json_array_append_new(set, json_pack("[s, s]", key, value));
	return set;
}

static json_t *link_args(const char *name, json_t *set)
{
	return json_pack("{s:s, s:o}", "name", name, "set", set ? set : json_array());
}

static json_t *west(void)
{
	json_t *set = kv(NULL, "peer", "west");

	kv(set, "address", "10.9.0.1 peer 10.9.0.2");
	kv(set, "path", "198.51.100.7 encap udp");
	return kv(set, "sa", "file:/etc/ipsec/west.sa");
}

static void link_is_added_changed_and_removed(void **state)
{
	struct bed *b = bed_new(4, 1);
	struct link *l;
	json_t *r = ask(b, "link-add", link_args("ipsec:9", west()));

	assert_ok(r);
	assert_str(at(r, "links", 0), "name", "ipsec9");
	assert_non_null(strstr(json_string_value(json_object_get(r, "section")), "[link ipsec9]"));
	json_decref(r);
	assert_refused(ask(b, "link-add", link_args("ipsec9", west())), EXIT_RUNTIME,
		       "link-exists");

	r = ask(b, "link-set",
		link_args("west", kv(kv(NULL, "metric", "77"), "path", "203.0.113.1")));
	assert_ok(r);
	json_decref(r);
	l = links_by_name(b->d, "ipsec9");
	assert_int_equal(l->conf.metric, 77);
	assert_int_equal(l->conf.n_paths, 1); /* a list that is named starts empty */
	assert_string_equal(l->conf.peer, "west");
	r = ask(b, "link-set",
		link_args("west", kv(kv(NULL, "path", "203.0.113.1"), "path", "203.0.113.2")));
	assert_ok(r);
	json_decref(r);
	assert_int_equal(links_by_name(b->d, "ipsec9")->conf.n_paths, 2);

	r = ask(b, "link-down", link_args("west", NULL));
	assert_str(at(r, "links", 0), "admin", "down");
	assert_str(at(r, "links", 0), "reason", "admin-down");
	json_decref(r);
	r = ask(b, "link-up", link_args("west", NULL));
	assert_str(at(r, "links", 0), "state", "up");
	json_decref(r);

	r = ask(b, "link-del", link_args("west", NULL));
	assert_ok(r);
	json_decref(r);
	assert_null(links_by_name(b->d, "ipsec9"));
	assert_refused(ask(b, "link-del", link_args("west", NULL)), EXIT_NOT_FOUND, "no-such-link");
	bed_free(b);
}

static void links_may_not_collide(void **state)
{
	struct bed *b = bed_new(4, 1);
	json_t *set = west();

	json_array_set_new(set, 0, json_pack("[s, s]", "peer", "east")); /* ipsec1's peer */
	assert_refused(ask(b, "link-add", link_args("ipsec9", set)), EXIT_RUNTIME, "link-failed");
	assert_int_equal(b->d->n_links, 1);
	/* a link does not collide with itself */
	set = ask(b, "link-set", link_args("ipsec1", kv(NULL, "peer", "east")));
	assert_ok(set);
	json_decref(set);
	bed_free(b);
}

/* ---- configurations ---- */

static const char two_links[] = "[link ipsec5]\npeer = p5\naddress = 10.5.0.1 peer 10.5.0.2\npath "
				"= 192.0.2.5\nsa = file:/k5\n"
				"[link ipsec6]\npeer = p6\naddress = 10.6.0.1 peer 10.6.0.2\npath "
				"= 192.0.2.6\nsa = file:/k6\n";

static void apply_takes_all_or_nothing(void **state)
{
	struct bed *b = bed_new(8, 1);
	json_t *r = ask(b, "apply", json_pack("{s:s}", "text", two_links));

	assert_ok(r);
	assert_keys(r, "schema ok instance changes errors confirm_s restart_needed");
	assert_int_equal(fake_apply_links, 2);
	json_decref(r);
	r = ask(b, "apply", json_pack("{s:s}", "text", "[link ipsec5]\ncolour = red\nmtu = 12\n"));
	assert_true(json_array_size(json_object_get(r, "errors")) >= 2);
	assert_refused(r, EXIT_RUNTIME, "conf-errors");
	assert_int_equal(fake_applied, 1);
	bed_free(b);
}

static void running_config_reads_back(void **state)
{
	struct bed *b = bed_new(8, 4);
	json_t *r = ask(b, "config", NULL);
	const char *text = json_string_value(json_object_get(r, "text"));
	struct conf c;

	assert_int_equal(conf_parse_string(&c, text, "round trip", stderr), 0);
	assert_int_equal(c.n_links, 4);
	for (unsigned int i = 0; i < 4; i++)
		assert_true(link_conf_equal(&c.links[i], &b->d->links[i]->conf));
	conf_free(&c);
	json_decref(r);
	bed_free(b);
}

static void run_until(struct bed *b, bool (*done)(struct bed *b), unsigned int ms)
{
	uint64_t end = now_ns() + ms * 1000000ull;

	while (now_ns() < end && !done(b))
		sd_event_run(b->ev, 20000);
}

static bool rolled_back(struct bed *b)
{
	return !b->v->rollback;
}

static void unconfirmed_apply_goes_back(void **state)
{
	struct bed *b = bed_new(8, 1);
	json_t *r = ask(b, "apply", json_pack("{s:s, s:i}", "text", two_links, "confirm_s", 1));

	assert_ok(r);
	assert_int_equal(num(r, "confirm_s"), 1);
	json_decref(r);
	assert_non_null(links_by_name(b->d, "ipsec5"));
	r = ask(b, "show", NULL);
	assert_true(json_is_real(json_object_get(r, "rollback_in_s")));
	json_decref(r);
	run_until(b, rolled_back, 3000);
	assert_null(links_by_name(b->d, "ipsec5"));
	assert_non_null(links_by_name(b->d, "ipsec1"));
	assert_int_equal(fake_applied, 2);
	bed_free(b);
}

static void confirmed_apply_stays(void **state)
{
	struct bed *b = bed_new(8, 1);

	json_decref(ask(b, "apply", json_pack("{s:s, s:i}", "text", two_links, "confirm_s", 1)));
	json_decref(ask(b, "confirm", NULL));
	for (int i = 0; i < 60; i++)
		sd_event_run(b->ev, 20000);
	assert_non_null(links_by_name(b->d, "ipsec5"));
	assert_int_equal(fake_applied, 1);
	assert_refused(ask(b, "confirm", NULL), EXIT_NOT_FOUND, "nothing-pending");
	bed_free(b);
}

static void second_trial_goes_back_to_the_first_state(void **state)
{
	struct bed *b = bed_new(8, 1);

	json_decref(ask(b, "apply", json_pack("{s:s, s:i}", "text", two_links, "confirm_s", 60)));
	json_decref(ask(b, "apply", json_pack("{s:s, s:i}", "text", "", "confirm_s", 60)));
	assert_int_equal(b->d->n_links, 0);
	json_decref(ask(b, "rollback", NULL));
	assert_int_equal(b->d->n_links, 1);
	assert_non_null(links_by_name(b->d, "ipsec1"));
	bed_free(b);
}

/* ---- why ---- */

static void assert_why(struct bed *b, const char *dst, int size, const char *verdict,
		       const char *reason)
{
	json_t *r = ask(b, "why",
			json_pack("{s:s, s:s, s:i}", "src", "10.1.0.5", "dst", dst, "size", size));

	assert_ok(r);
	assert_keys(r,
		    "schema ok instance src dst netns route link sa path size verdict reason text");
	assert_str(r, "verdict", verdict);
	if (reason)
		assert_str(r, "reason", reason);
	else
		assert_true(json_is_null(json_object_get(r, "reason")));
	json_decref(r);
}

static void why_follows_the_packet(void **state)
{
	struct bed *b = bed_new(4, 1);
	struct link *l = b->d->links[0];
	struct sa *out = l->out;

	fake_oif = l->ifindex;
	assert_why(b, "10.2.0.9", 0, "encrypt", NULL);
	assert_why(b, "10.2.0.9", 1438, "encrypt", NULL);
	assert_why(b, "10.2.0.9", 1439, "too-big", "df-too-big");
	l->sets->out = NULL; /* what there is is for something else */
	assert_why(b, "10.2.0.9", 0, "drop", "selector");
	l->out = NULL;
	assert_why(b, "10.2.0.9", 0, "drop", "no-sa");
	l->out = l->sets->out = out;
	l->paths[0].loop = true;
	assert_why(b, "10.2.0.9", 0, "drop", "route-loop");
	l->paths[0].loop = false;
	l->admin_up = false;
	assert_why(b, "10.2.0.9", 0, "drop", "link-down");
	fake_oif = 2; /* eth1 */
	assert_why(b, "10.2.0.9", 0, "drop", "guard-cleartext");
	assert_why(b, "192.0.2.9", 0, "clear", NULL);
	fake_oif = 0;
	assert_why(b, "192.0.2.9", 0, "drop", "no-route");
	bed_free(b);
}

static void mtu_adds_up(void **state)
{
	struct bed *b = bed_new(4, 1);
	json_t *r = ask(b, "mtu", json_pack("{s:s}", "name", "east")), *p;

	assert_ok(r);
	p = at(r, "paths", 0);
	/* 1500 - 20 - 8 - 8 - 8 - 16 = 1440, down to 4, less 2 */
	assert_int_equal(num(p, "inner_max"), 1438);
	assert_int_equal(num(p, "dev_mtu"), 1500);
	assert_true(json_is_null(json_object_get(p, "route_mtu")));
	assert_true(json_is_null(json_object_get(p, "told_mtu")));
	assert_true(json_is_null(json_object_get(p, "told_for_s")));
	assert_int_equal(num(r, "floor"), 1280);
	json_decref(r);
	bed_free(b);
}

/* ---- scale ---- */

/* What this process has used: others on the machine take none of it. */
static uint64_t used_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static void a_thousand_links_show_quickly(void **state)
{
	struct bed *b = bed_new(2000, 2000);
	uint64_t t = used_ns();
	json_t *r = ask(b, "show", NULL);
	char *text = json_dumps(r, JSON_COMPACT | JSON_REAL_PRECISION(12));

	t = (used_ns() - t) / 1000000;
	print_message("2000 links: %u ms, %zu bytes\n", (unsigned int)t, strlen(text));
	assert_true(t < 4000); /* 200 ms for 1000 links, with room for a sanitised run and a core that others share */
	free(text);
	json_decref(r);
	bed_free(b);
}

/* ---- the fake daemon as a program ---- */

static int serve_fake(const char *dir, unsigned int n)
{
	struct daemon *d = fake_daemon(dir, n + 16, n);
	struct control *c;
	sd_event *ev;
	uint64_t end = now_ns() + 60000000000ull;

	fake_oif = 1000;
	fake_link_ctr.raw_segs = 1000;
	fake_link_ctr.tap_segs = 990;
	fake_link_ctr.drops[DROP_TTL] = 10;
	if (sd_event_new(&ev) < 0 || control_listen(&c, d) || control_serve(c, ev))
		return 1;
	while (now_ns() < end) {
		json_t *e = json_pack("{s:s, s:s, s:s, s:s}", "event", "link-state", "link",
				      "ipsec1", "state", "down", "reason", "no-answer");

		sd_event_run(ev, 1000000);
		control_event(c, e);
		json_decref(e);
	}
	control_close(c);
	sd_event_unref(ev);
	fake_daemon_free(d);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(show_has_every_field),
		cmocka_unit_test(one_link_by_any_of_its_names),
		cmocka_unit_test(big_numbers_stay_integers),
		cmocka_unit_test(books_balance),
		cmocka_unit_test(a_lost_packet_unbalances_the_books),
		cmocka_unit_test(every_reason_is_listed_and_explained),
		cmocka_unit_test(bad_requests_are_answered),
		cmocka_unit_test(nesting_is_bounded),
		cmocka_unit_test(only_root_changes_things),
		cmocka_unit_test(link_is_added_changed_and_removed),
		cmocka_unit_test(links_may_not_collide),
		cmocka_unit_test(apply_takes_all_or_nothing),
		cmocka_unit_test(running_config_reads_back),
		cmocka_unit_test(unconfirmed_apply_goes_back),
		cmocka_unit_test(confirmed_apply_stays),
		cmocka_unit_test(second_trial_goes_back_to_the_first_state),
		cmocka_unit_test(why_follows_the_packet),
		cmocka_unit_test(mtu_adds_up),
		cmocka_unit_test(a_thousand_links_show_quickly),
	};

	if (argc > 2 && !strcmp(argv[1], "--serve"))
		return serve_fake(argv[2], argc > 3 ? (unsigned int)atoi(argv[3]) : 3);
	return cmocka_run_group_tests_name("verbs", tests, NULL, NULL);
}
