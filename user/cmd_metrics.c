/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * metrics - Prometheus' text format from the replies of show and drops.
 *
 * A link that is configured is there whatever its state, so that a dead one shows as 0 and not as
 * a gap. No key, fingerprint or SPI is ever a label.
 */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "ctl.h"

/* One family: all samples of a name stand together under one HELP and TYPE. */
struct family {
	const char *name, *type, *help;
};

static json_t *labels(json_t *l, const char *key, const char *value, const char *key2,
		      const char *value2)
{
	json_t *o = json_object();

	if (l) {
		json_object_set(o, "link", jat(l, "name"));
		json_object_set(o, "peer", jat(l, "peer"));
	}
	if (key)
		json_object_set_new(o, key, json_string(value));
	if (key2)
		json_object_set_new(o, key2, json_string(value2));
	return o;
}

static void sample(json_t *out, const struct family *f, json_t *label, json_t *value)
{
	json_t *o = json_object();

	json_object_set_new(o, "name", json_string(f->name));
	json_object_set_new(o, "type", json_string(f->type));
	json_object_set_new(o, "help", json_string(f->help));
	json_object_set_new(o, "labels", label);
	json_object_set_new(o, "value", value);
	json_array_append_new(out, o);
}

static json_t *number(double v)
{
	return json_real(isfinite(v) ? v : 0);
}

static json_t *copy_int(json_t *o, const char *path)
{
	return json_integer(jint(o, path));
}

/* value(l) for every link, with its name and peer */
static void each_link(json_t *out, json_t *show, const struct family *f,
		      json_t *(*value)(json_t *l))
{
	json_t *l;
	size_t i;

	json_array_foreach (jat(show, "links"), i, l) {
		json_t *v = value(l);

		if (v)
			sample(out, f, labels(l, NULL, NULL, NULL, NULL), v);
	}
}

static json_t *v_configured(json_t *l)
{
	return json_integer(1);
}

static json_t *v_up(json_t *l)
{
	return json_integer(!strcmp(jstr(l, "state"), "up"));
}

static json_t *v_admin(json_t *l)
{
	return json_integer(!strcmp(jstr(l, "admin"), "up"));
}

static json_t *v_since(json_t *l)
{
	return number(jnum(l, "since_age_s"));
}

static json_t *v_flaps(json_t *l)
{
	return copy_int(l, "flaps");
}

static json_t *v_mtu(json_t *l)
{
	return copy_int(l, "mtu");
}

static json_t *v_lost(json_t *l)
{
	return copy_int(l, "lost");
}

static json_t *v_rtt(json_t *l)
{
	return jnull(l, "liveness.rtt_us") ? NULL : number(jnum(l, "liveness.rtt_us") / 1e6);
}

static json_t *v_heard(json_t *l)
{
	return jnull(l, "liveness.last_heard_age_s") ? NULL
						     : number(jnum(l, "liveness.last_heard_age_s"));
}

/* Of the fullest outbound SA: 2^64 numbers with ESN, 2^32 without. */
static json_t *v_seq(json_t *l)
{
	double worst = 0;
	json_t *s;
	size_t i;

	json_array_foreach (jat(l, "sas"), i, s)
		if (!strcmp(jstr(s, "dir"), "out"))
			worst = MAX(worst, jnum(s, "seq") / (jtrue(s, "esn") ? 0x1p64 : 0x1p32));
	return number(worst);
}

static const struct {
	struct family f;
	json_t *(*value)(json_t *l);
} simple[] = {
	{{"ipsec_link_configured", "gauge", "the link exists"}, v_configured},
	{{"ipsec_link_up", "gauge", "the link works: a round trip was seen"}, v_up},
	{{"ipsec_link_admin_up", "gauge", "the operator wants it up"}, v_admin},
	{{"ipsec_link_state_age_seconds", "gauge", "since when it is in this state"}, v_since},
	{{"ipsec_link_flaps_total", "counter", "changes of state"}, v_flaps},
	{{"ipsec_link_mtu_bytes", "gauge", "MTU of the device"}, v_mtu},
	{{"ipsec_link_rtt_seconds", "gauge", "round trip of the last answered probe"}, v_rtt},
	{{"ipsec_link_heard_age_seconds", "gauge", "since the last authentic packet"}, v_heard},
	{{"ipsec_wire_lost_packets_total", "counter",
	  "holes in the peer's sequence that never filled"},
	 v_lost},
	{{"ipsec_seq_used_ratio", "gauge", "share of the outbound sequence space that is used"},
	 v_seq},
};

static void both_ways(json_t *out, json_t *show, const struct family *f, const char *in,
		      const char *of)
{
	json_t *l;
	size_t i;

	json_array_foreach (jat(show, "links"), i, l) {
		sample(out, f, labels(l, "dir", "in", NULL, NULL), copy_int(l, in));
		sample(out, f, labels(l, "dir", "out", NULL, NULL), copy_int(l, of));
	}
}

static void drops_of(json_t *out, const struct family *f, json_t *l, const char *dir, json_t *drops)
{
	const char *reason;
	json_t *v;

	json_object_foreach (drops, reason, v)
		if (strcmp(reason, "dummy"))
			sample(out, f, labels(l, "dir", dir, "reason", reason), json_incref(v));
}

static void all_drops(json_t *out, json_t *drops)
{
	static const struct family per_link = {"ipsec_drops_total", "counter",
					       "packets dropped, by reason"};
	static const struct family global = {"ipsec_global_drops_total", "counter",
					     "dropped, belonging to no link"};
	json_t *l;
	size_t i;

	json_array_foreach (jat(drops, "links"), i, l) {
		drops_of(out, &per_link, l, "in", jat(l, "in"));
		drops_of(out, &per_link, l, "out", jat(l, "out"));
	}
	drops_of(out, &global, NULL, "-", jat(drops, "global.drops"));
}

static void daemon_metrics(json_t *out, json_t *show)
{
	static const struct family info = {"ipsec_backend_info", "gauge", "what does the crypto"};
	static const struct family up = {"ipsec_daemon_uptime_seconds", "gauge",
					 "since ipsecd started"};
	static const struct family guardian = {"ipsec_guardian_up", "gauge", "the guardian lives"};
	static const struct family missing = {"ipsec_guard_layers_missing", "gauge",
					      "layers of fail-closed that are not in place"};
	json_t *o = json_object();

	json_object_set(o, "backend", jat(show, "daemon.backend"));
	json_object_set(o, "crypto", jat(show, "daemon.crypto"));
	json_object_set(o, "version", jat(show, "daemon.version"));
	sample(out, &info, o, json_integer(1));
	sample(out, &up, json_object(), copy_int(show, "daemon.uptime_s"));
	sample(out, &guardian, json_object(), json_integer(jtrue(show, "daemon.guardian.alive")));
	sample(out, &missing, json_object(), copy_int(show, "daemon.guard_layers.missing"));
}

static json_t *samples(json_t *show, json_t *drops)
{
	static const struct family bytes = {"ipsec_link_bytes_total", "counter", "inner bytes"};
	static const struct family packets = {"ipsec_link_packets_total", "counter",
					      "inner packets"};
	json_t *out = json_array();

	daemon_metrics(out, show);
	for (unsigned int i = 0; i < ARRAY_SIZE(simple); i++)
		each_link(out, show, &simple[i].f, simple[i].value);
	both_ways(out, show, &bytes, "rx.bytes", "tx.bytes");
	both_ways(out, show, &packets, "rx.packets", "tx.packets");
	all_drops(out, drops);
	return out;
}

static void print_value(json_t *v)
{
	if (json_is_integer(v))
		printf(" %lld\n", (long long)json_integer_value(v));
	else
		printf(" %.9g\n", json_real_value(v));
}

/* Escapes of the exposition format: backslash, quote, newline. */
static void print_label(const char *key, const char *value, bool first)
{
	printf("%s%s=\"", first ? "{" : ",", key);
	for (; value && *value; value++) {
		if (*value == '\\' || *value == '"')
			putchar('\\');
		if (*value == '\n')
			fputs("\\n", stdout);
		else
			putchar(*value);
	}
	putchar('"');
}

static void print_samples(json_t *list)
{
	const char *last = "", *key;
	json_t *s, *v;
	size_t i;

	json_array_foreach (list, i, s) {
		const char *name = json_string_value(jat(s, "name"));
		bool first = true;

		if (strcmp(name, last))
			printf("# HELP %s %s\n# TYPE %s %s\n", name, jstr(s, "help"), name,
			       jstr(s, "type"));
		last = name;
		fputs(name, stdout);
		json_object_foreach (jat(s, "labels"), key, v) {
			print_label(key, json_string_value(v), first);
			first = false;
		}
		if (!first)
			putchar('}');
		print_value(jat(s, "value"));
	}
}

int cmd_metrics(struct ctl *c, int argc, char **argv)
{
	json_t *show = ctl_request(c, "show", NULL), *drops = NULL, *list, *r;
	int code;

	drops = jtrue(show, "ok") ? ctl_request(c, "drops", NULL) : json_incref(show);
	if (!jtrue(drops, "ok")) {
		ctl_finish(c, drops, &code);
		json_decref(show);
		json_decref(drops);
		return code;
	}
	list = samples(show, drops);
	if (c->json) {
		r = ctl_ok(c);
		json_object_set(r, "metrics", list);
		ctl_print_json(r);
		json_decref(r);
	} else {
		print_samples(list);
	}
	json_decref(list);
	json_decref(show);
	json_decref(drops);
	return EXIT_OK_;
}
