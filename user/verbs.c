/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dispatch, and the verbs that change something. Reading verbs: verbs_show.c, verbs_why.c.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "log.h"
#include "rekey.h"
#include "sad.h"
#include "verbs_int.h"

enum { CONFIRM_MAX_S = 86400 };

/* ---- objects ---- */

void vj_put(json_t *o, const char *key, json_t *v)
{
	json_object_set_new(o, key, v ? v : json_null());
}

void vj_str(json_t *o, const char *key, const char *s)
{
	json_t *v = NULL;
	char *copy;

	if (s && *s) {
		v = json_string(s);
		copy = v ? NULL : strdup(s);
		for (char *p = copy; p && *p; p++)
			if ((unsigned char)*p >= 0x80)
				*p = '?';
		if (copy)
			v = json_string(copy);
		free(copy);
	}
	vj_put(o, key, v);
}

void vj_int(json_t *o, const char *key, uint64_t v)
{
	vj_put(o, key, json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v));
}

void vj_bool(json_t *o, const char *key, bool v)
{
	vj_put(o, key, json_boolean(v));
}

void vj_hex(json_t *o, const char *key, uint64_t v, int digits)
{
	char buf[24];

	snprintf(buf, sizeof buf, "0x%0*llx", digits, (unsigned long long)v);
	vj_str(o, key, buf);
}

void vj_addr(json_t *o, const char *key, const struct in6_addr *a)
{
	char buf[INET6_ADDRSTRLEN];

	vj_str(o, key, IN6_IS_ADDR_UNSPECIFIED(a) ? NULL : addr_str(a, buf));
}

void vj_age(json_t *o, const char *key, uint64_t then_ns, uint64_t now)
{
	uint64_t ms = now > then_ns ? (now - then_ns) / 1000000 : 0;

	vj_put(o, key, then_ns ? json_real((double)ms / 1e3) : NULL);
}

const char *verbs_time(char *buf, uint64_t age_ns)
{
	struct timespec ts;
	struct tm tm;
	int64_t ms;
	time_t s;

	clock_gettime(CLOCK_REALTIME, &ts);
	ms = (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000 - (int64_t)(age_ns / 1000000);
	s = ms / 1000;
	gmtime_r(&s, &tm);
	strftime(buf, 24, "%Y-%m-%dT%H:%M:%S", &tm);
	sprintf(buf + strlen(buf), ".%03dZ", (int)(ms % 1000));
	return buf;
}

json_t *vj_ok(struct verbs *v)
{
	json_t *o = json_object();

	vj_int(o, "schema", 1);
	vj_bool(o, "ok", true);
	vj_str(o, "instance", v->d->instance);
	return o;
}

json_t *verbs_error(int exit_code, const char *code, const char *hint, const char *fmt, ...)
{
	json_t *o = json_object();
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	vj_int(o, "schema", 1);
	vj_bool(o, "ok", false);
	vj_int(o, "exit", exit_code);
	vj_str(o, "code", code);
	vj_str(o, "error", text);
	vj_str(o, "hint", hint);
	return o;
}

const char *vj_arg(json_t *args, const char *key)
{
	return json_string_value(json_object_get(args, key));
}

json_t *verbs_no_link(const char *name)
{
	if (!name)
		return verbs_error(EXIT_USAGE, "bad-request", NULL,
				   "which link? \"name\" is missing");
	return verbs_error(EXIT_NOT_FOUND, "no-such-link",
			   "ipsecctl show lists the links, by name and by peer",
			   "there is no link %.64s", name);
}

/* ---- error text that links.c and conf.c write to a FILE ---- */

struct words {
	char *text;
	size_t len;
	FILE *f;
};

static int words_open(struct words *w)
{
	*w = (struct words){0};
	w->f = open_memstream(&w->text, &w->len);
	return w->f ? 0 : -ENOMEM;
}

static const char *words_close(struct words *w)
{
	if (w->f)
		fclose(w->f);
	w->f = NULL;
	while (w->len && w->text[w->len - 1] == '\n')
		w->text[--w->len] = 0;
	return w->text && *w->text ? w->text : NULL;
}

static json_t *words_lines(const char *text)
{
	json_t *a = json_array();
	char *copy = strdup(text ? text : ""), *save = NULL;

	for (char *s = strtok_r(copy, "\n", &save); s; s = strtok_r(NULL, "\n", &save)) {
		json_t *o = json_object();

		vj_str(o, "line", s);
		json_array_append(a, json_object_get(o, "line"));
		json_decref(o);
	}
	free(copy);
	return a;
}

/* ---- the running configuration ---- */

static char *running_conf(struct verbs *v, bool all)
{
	struct conf globals = v->d->conf;
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	/* links may have changed at run time: theirs is the truth, not what was loaded */
	globals.links = NULL;
	globals.n_links = 0;
	conf_print(&globals, f, all);
	for (unsigned int i = 0; i < v->d->max_links; i++)
		if (v->d->links[i])
			conf_print_link(&v->d->links[i]->conf, f);
	fclose(f);
	return text;
}

static json_t *verb_config(struct verbs *v, json_t *args)
{
	json_t *r = vj_ok(v);
	char *text = running_conf(v, json_is_true(json_object_get(args, "all")));

	vj_str(r, "file", v->d->conf_file);
	vj_str(r, "text", text);
	free(text);
	return r;
}

/* ---- links ---- */

/* "set":[["key","value"],...]: a list key starts empty the first time it is named. */
static int set_keys(struct link_conf *c, json_t *set, char *err, size_t errlen)
{
	json_t *kv;
	size_t i;

	json_array_foreach (set, i, kv) {
		const char *key = json_string_value(json_array_get(kv, 0));
		const char *val = json_string_value(json_array_get(kv, 1));
		bool seen = false;

		if (!key || !val) {
			snprintf(err, errlen, "\"set\" wants pairs of strings");
			return -EINVAL;
		}
		for (size_t k = 0; k < i && !seen; k++)
			seen = !strcmp(
				key, json_string_value(json_array_get(json_array_get(set, k), 0)));
		if (!seen && link_conf_reset(c, key)) {
			snprintf(err, errlen, "a link has no key \"%.64s\"", key);
			return -EINVAL;
		}
		if (link_conf_set(c, key, val, err, errlen))
			return -EINVAL;
	}
	return 0;
}

static json_t *bad_setting(const char *name, const char *err)
{
	return verbs_error(EXIT_USAGE, "bad-setting",
			   "the keys are those of a [link] section: man ipsecd.conf", "%s: %s",
			   name, err);
}

/* Reply with the link, and as it would stand in the configuration. */
static json_t *link_reply(struct verbs *v, const char *name)
{
	struct link *l = links_by_name(v->d, name);
	json_t *args = json_object(), *r;
	struct words w;

	if (l)
		link_tick(v->d, l); /* the state as of now, not of the last tick */
	vj_str(args, "name", name);
	r = verb_show(v, args);
	json_decref(args);
	if (!l || words_open(&w))
		return r;
	conf_print_link(&l->conf, w.f);
	vj_str(r, "section", words_close(&w));
	vj_str(r, "conf_file", v->d->conf_file);
	vj_str(r, "src_file", l->conf.src_file);
	vj_int(r, "src_line", l->conf.src_line > 0 ? l->conf.src_line : 0);
	free(w.text);
	return r;
}

static json_t *link_failed(const char *name, const char *what, int err, const char *text)
{
	if (text)
		return verbs_error(EXIT_RUNTIME, "link-failed", NULL, "%s", text);
	return verbs_error(EXIT_RUNTIME, "link-failed", "the daemon's log has the details",
			   "%s: %s: %s", name, what, strerror(err < 0 ? -err : EINVAL));
}

/* What no link alone can show (two with one peer, one address, one SA file), with c in old's place.
 */
static int check_among(struct verbs *v, const struct link *old, const struct link_conf *c,
		       FILE *errs)
{
	struct conf all = v->d->conf;
	int n;

	all.links = calloc(v->d->n_links + 1, sizeof *all.links);
	all.n_links = 0;
	if (!all.links)
		return 1;
	/* borrowed members: freed as one array, never with conf_free() */
	for (unsigned int i = 0; i < v->d->max_links; i++)
		if (v->d->links[i] && v->d->links[i] != old && all.n_links < v->d->n_links)
			all.links[all.n_links++] = v->d->links[i]->conf;
	all.links[all.n_links++] = *c;
	n = conf_check(&all, errs);
	free(all.links);
	return n;
}

static json_t *do_link_add(struct verbs *v, struct link_conf *c, json_t *set)
{
	struct words w;
	char err[512] = "";
	json_t *r;
	int e;

	if (set_keys(c, set, err, sizeof err))
		return bad_setting(c->name, err);
	if (words_open(&w))
		return verbs_error(EXIT_RUNTIME, "no-memory", NULL, "out of memory");
	e = check_among(v, NULL, c, w.f);
	if (!e)
		e = link_add(v->d, c, w.f);
	words_close(&w);
	r = e ? link_failed(c->name, "not added", e, w.text) : link_reply(v, c->name);
	free(w.text);
	return r;
}

static json_t *verb_link_add(struct verbs *v, json_t *args)
{
	const char *name = vj_arg(args, "name");
	struct link_conf c;
	json_t *r;

	link_conf_init(&c);
	if (!name || conf_link_name(name, c.name, &c.number))
		r = verbs_error(EXIT_USAGE, "bad-name",
				"ipsecctl link add ipsec1 peer east path 198.51.100.7 ...",
				"a link is called ipsecN or ipsec:N");
	else if (links_by_name(v->d, c.name))
		r = verbs_error(EXIT_RUNTIME, "link-exists", "ipsecctl link set changes it",
				"%s exists already", c.name);
	else
		r = do_link_add(v, &c, json_object_get(args, "set"));
	link_conf_free(&c);
	return r;
}

static json_t *verb_link_set(struct verbs *v, json_t *args)
{
	const char *name = vj_arg(args, "name");
	struct link *l = name ? links_by_name(v->d, name) : NULL;
	struct link_conf c;
	char err[512] = "";
	struct words w;
	json_t *r;
	int e;

	if (!l)
		return verbs_no_link(name);
	if (link_conf_copy(&c, &l->conf))
		return verbs_error(EXIT_RUNTIME, "no-memory", NULL, "out of memory");
	e = words_open(&w);
	if (!e)
		e = set_keys(&c, json_object_get(args, "set"), err, sizeof err);
	if (!e)
		e = check_among(v, l, &c, w.f);
	if (!e)
		e = link_set(v->d, l, &c, w.f);
	words_close(&w);
	if (*err)
		r = bad_setting(c.name, err);
	else
		r = e ? link_failed(c.name, "not changed", e, w.text) : link_reply(v, c.name);
	free(w.text);
	link_conf_free(&c);
	return r;
}

static json_t *verb_link_del(struct verbs *v, json_t *args)
{
	const char *name = vj_arg(args, "name");
	struct link *l = name ? links_by_name(v->d, name) : NULL;
	json_t *r;
	int err;

	if (!l)
		return verbs_no_link(name);
	r = vj_ok(v);
	vj_str(r, "name", l->conf.name);
	vj_str(r, "conf_file", v->d->conf_file);
	vj_str(r, "src_file", l->conf.src_file);
	vj_int(r, "src_line", l->conf.src_line > 0 ? l->conf.src_line : 0);
	err = link_del(v->d, l);
	if (!err)
		return r;
	json_decref(r);
	return link_failed(name, "not removed", err, NULL);
}

static json_t *link_admin_verb(struct verbs *v, json_t *args, bool up)
{
	const char *name = vj_arg(args, "name");
	struct link *l = name ? links_by_name(v->d, name) : NULL;

	if (!l)
		return verbs_no_link(name);
	l->conf.down = !up; /* the running configuration says so too */
	link_admin(v->d, l, up);
	return link_reply(v, l->conf.name);
}

static json_t *verb_link_up(struct verbs *v, json_t *args)
{
	return link_admin_verb(v, args, true);
}

static json_t *verb_link_down(struct verbs *v, json_t *args)
{
	return link_admin_verb(v, args, false);
}

/* ---- configurations ---- */

/* Which: "text", "file", or the daemon's own file. Return: 0, or the error reply in *bad. */
static int read_conf(struct verbs *v, json_t *args, struct conf *c, json_t **bad)
{
	const char *text = vj_arg(args, "text"), *file = vj_arg(args, "file");
	struct words w;
	int n;

	if (!file)
		file = v->d->conf_file;
	conf_init(c);
	if (words_open(&w)) {
		*bad = verbs_error(EXIT_RUNTIME, "no-memory", NULL, "out of memory");
		return -ENOMEM;
	}
	n = text ? conf_parse_string(c, text, "stdin", w.f) : conf_load(c, file, w.f);
	words_close(&w);
	if (n < 0)
		*bad = verbs_error(EXIT_RUNTIME, "conf-unreadable",
				   "the daemon reads it, inside its own sandbox", "%s: %s", file,
				   strerror(-n));
	else if (n)
		*bad = verbs_error(EXIT_RUNTIME, "conf-errors", "ipsecctl check FILE",
				   "%d error%s, nothing was changed", n, n > 1 ? "s" : "");
	if (n)
		vj_put(*bad, "errors", words_lines(w.text));
	free(w.text);
	return n;
}

/* Sections other than [link] are read once, at start. */
static bool globals_differ(const struct verbs *v, const struct conf *c)
{
	struct conf a = v->d->conf, b = *c;

	a.links = b.links = NULL;
	a.n_links = b.n_links = 0;
	return !conf_equal(&a, &b);
}

static json_t *verb_diff(struct verbs *v, json_t *args)
{
	struct conf c;
	json_t *r;

	if (!read_conf(v, args, &c, &r)) {
		r = vj_ok(v);
		vj_put(r, "changes", links_diff(v->d, &c));
		vj_bool(r, "restart_needed", globals_differ(v, &c));
	}
	conf_free(&c);
	return r;
}

static void disarm(struct verbs *v)
{
	v->rollback = sd_event_source_disable_unref(v->rollback);
	free(v->rollback_text);
	v->rollback_text = NULL;
}

/* Back to what ran before the unconfirmed apply. Return: number of errors. */
static int roll_back(struct verbs *v, json_t *report)
{
	struct conf c;
	struct words w;
	int n;

	if (words_open(&w))
		return 1;
	n = conf_parse_string(&c, v->rollback_text, "before", w.f);
	if (!n)
		n = links_apply(v->d, &c, w.f, report);
	conf_free(&c);
	if (words_close(&w))
		log_warnx("apply: going back: %s", w.text);
	free(w.text);
	disarm(v);
	return n;
}

static int on_rollback(sd_event_source *s, uint64_t usec, void *arg)
{
	struct verbs *v = arg;
	json_t *ev = json_object();

	log_warnx("apply: not confirmed in time, going back to the configuration before");
	vj_str(ev, "event", "rolled-back");
	vj_int(ev, "errors", roll_back(v, NULL));
	if (v->d->on_event)
		v->d->on_event(v->d, ev);
	json_decref(ev);
	return 0;
}

/* A second unconfirmed apply goes back to the same place as the first. */
static int arm(struct verbs *v, char *before, uint64_t seconds)
{
	uint64_t us = seconds * 1000000;

	if (v->rollback) {
		free(before);
		v->rollback = sd_event_source_disable_unref(v->rollback);
	} else {
		v->rollback_text = before;
	}
	v->rollback_ns = now_ns() + us * 1000;
	return sd_event_add_time_relative(v->ev, &v->rollback, CLOCK_BOOTTIME, us, 100000,
					  on_rollback, v);
}

static json_t *apply_reply(struct verbs *v, int errors, const char *text, json_t *changes,
			   uint64_t confirm)
{
	json_t *r;

	if (errors)
		r = verbs_error(EXIT_RUNTIME, "apply-incomplete",
				"correct it and apply again; the rest is in force",
				"%d link%s could not be made as configured", errors,
				errors > 1 ? "s" : "");
	else
		r = vj_ok(v);
	vj_put(r, "changes", changes);
	vj_put(r, "errors", words_lines(text));
	vj_put(r, "confirm_s", confirm ? json_integer(confirm) : NULL);
	return r;
}

static json_t *do_apply(struct verbs *v, struct conf *c, uint64_t confirm)
{
	char *before = confirm ? running_conf(v, true) : NULL;
	json_t *changes = json_array(), *r;
	struct words w;
	int n;

	if (words_open(&w) || (confirm && !before)) {
		json_decref(changes);
		free(before);
		return verbs_error(EXIT_RUNTIME, "no-memory", NULL,
				   "out of memory; nothing was changed");
	}
	if (!confirm)
		disarm(v);
	else if (arm(v, before, confirm) < 0)
		log_warnx("apply: no timer, --confirm will not work");
	n = links_apply(v->d, c, w.f, changes);
	words_close(&w);
	r = apply_reply(v, n, w.text, changes, confirm);
	vj_bool(r, "restart_needed", globals_differ(v, c));
	free(w.text);
	return r;
}

static json_t *verb_apply(struct verbs *v, json_t *args)
{
	json_t *j = json_object_get(args, "confirm_s"), *r;
	json_int_t confirm = json_is_integer(j) ? json_integer_value(j) : 0;
	struct conf c;

	if ((j && !json_is_integer(j) && !json_is_null(j)) || confirm < 0 ||
	    confirm > CONFIRM_MAX_S || (confirm && !v->ev))
		return verbs_error(EXIT_USAGE, "bad-confirm", "apply --confirm 60",
				   "confirm wants 1 to %d seconds", CONFIRM_MAX_S);
	if (!read_conf(v, args, &c, &r))
		r = do_apply(v, &c, confirm);
	conf_free(&c);
	return r;
}

static json_t *nothing_pending(void)
{
	return verbs_error(EXIT_NOT_FOUND, "nothing-pending",
			   "ipsecctl apply --confirm 60 starts a wait",
			   "no configuration is waiting to be confirmed");
}

static json_t *verb_confirm(struct verbs *v, json_t *args)
{
	if (!v->rollback)
		return nothing_pending();
	disarm(v);
	return vj_ok(v);
}

static json_t *verb_rollback(struct verbs *v, json_t *args)
{
	json_t *changes;
	int n;

	if (!v->rollback)
		return nothing_pending();
	changes = json_array();
	n = roll_back(v, changes);
	return apply_reply(v, n, NULL, changes, 0);
}

/* ---- SAs ---- */

static bool same_file(const char *a, const char *b)
{
	char ra[4096], rb[4096];

	return realpath(a, ra) && realpath(b, rb) && !strcmp(ra, rb);
}

static bool uses_file(const struct link *l, const char *file)
{
	char one[SA_FILE_MAX];
	const char *at = NULL;

	while ((at = link_conf_sa(l->conf.sa_file, at, one)))
		if (same_file(one, file))
			return true;
	return false;
}

/* A ledger was made, or a key file replaced: give the links that use it another try. */
static json_t *verb_sa_reload(struct verbs *v, json_t *args)
{
	const char *file = vj_arg(args, "file");
	json_t *r, *names = json_array();
	struct words w;
	int errors = 0;

	if (!file || words_open(&w)) {
		json_decref(names);
		return verbs_error(EXIT_USAGE, "bad-request", NULL,
				   "sa-reload: \"file\" is missing");
	}
	for (unsigned int i = 0; i < v->d->max_links; i++) {
		struct link *l = v->d->links[i];
		struct link_conf c;

		if (!l || !uses_file(l, file) || link_conf_copy(&c, &l->conf))
			continue;
		errors += link_set(v->d, l, &c, w.f) ? 1 : 0;
		link_conf_free(&c);
		json_array_append_new(names, json_string(l->conf.name));
	}
	words_close(&w);
	r = apply_reply(v, errors, w.text, NULL, 0);
	vj_put(r, "links", names);
	free(w.text);
	return r;
}

static bool sends_by(const struct link *l, const char *file)
{
	for (const struct sa_set *s = l->sets; s; s = s->next)
		if (s->out && s->out->file && !strcmp(s->out->file, file))
			return true;
	return false;
}

static json_t *sa_reply(struct verbs *v, const struct link *l, const char *file)
{
	json_t *r = link_reply(v, l->conf.name);

	vj_str(r, "file", file);
	vj_bool(r, "in_use", sends_by(l, file));
	return r;
}

static json_t *sa_file_verb(struct verbs *v, json_t *args, bool rekey)
{
	const char *name = vj_arg(args, "name"), *file = vj_arg(args, "file");
	struct link *l = name ? links_by_name(v->d, name) : NULL;
	struct words w;
	json_t *r;
	int e;

	if (!l)
		return verbs_no_link(name);
	if (!file || *file != '/' || strlen(file) >= SA_FILE_MAX)
		return verbs_error(EXIT_USAGE, "bad-request", NULL, "\"file\" wants the absolute path of an SA file");
	if (words_open(&w))
		return verbs_error(EXIT_RUNTIME, "no-memory", NULL, "out of memory");
	e = rekey ? rekey_start(v->d, l, file, json_is_true(json_object_get(args, "now")), w.f) :
		    rekey_add(v->d, l, file, w.f);
	words_close(&w);
	link_follow_sa(v->d, l); /* a link that had none uses it already */
	r = e ? link_failed(l->conf.name, "no SA added", e, w.text) : sa_reply(v, l, file);
	free(w.text);
	return r;
}

static json_t *verb_sa_add(struct verbs *v, json_t *args)
{
	return sa_file_verb(v, args, false);
}

static json_t *verb_sa_rekey(struct verbs *v, json_t *args)
{
	return sa_file_verb(v, args, true);
}

/* Every SA of the link with this SPI: inbound and outbound ones may share it by chance. */
static unsigned int remove_spi(struct daemon *d, struct link *l, uint32_t spi)
{
	unsigned int n = 0;

	for (struct sa *sa = l->sas, *next; sa; sa = next) {
		next = sa->next;
		if (sa->spi != spi)
			continue;
		sad_remove(d, sa);
		n++;
	}
	return n;
}

static json_t *verb_sa_del(struct verbs *v, json_t *args)
{
	const char *name = vj_arg(args, "name"), *spi = vj_arg(args, "spi");
	struct link *l = name ? links_by_name(v->d, name) : NULL;
	char *end = NULL;
	unsigned long n = spi ? strtoul(spi, &end, 0) : 0;

	if (!l)
		return verbs_no_link(name);
	if (!spi || !*spi || *end || n > UINT32_MAX)
		return verbs_error(EXIT_USAGE, "bad-request", "ipsecctl sa list shows SPIs",
				   "\"spi\" wants a number, as 0x1f3c9a01");
	if (!remove_spi(v->d, l, (uint32_t)n))
		return verbs_error(EXIT_NOT_FOUND, "no-such-sa", "ipsecctl sa list shows SPIs",
				   "%s has no SA 0x%08lx", l->conf.name, n);
	rekey_tick(v->d, l, now_ns());
	link_follow_sa(v->d, l);
	return link_reply(v, l->conf.name);
}

static json_t *verb_monitor(struct verbs *v, json_t *args)
{
	json_t *r = vj_ok(v);
	char now[32];

	vj_str(r, "event", "monitor-start");
	vj_str(r, "time", verbs_time(now, 0));
	return r;
}

/* ---- dispatch ---- */

static const struct verb {
	const char *name;
	verb_fn *fn;
	bool changes; /* root only */
} verbs[] = {
	{"show", verb_show, false},
	{"path-list", verb_path_list, false},
	{"drops", verb_drops, false},
	{"perf", verb_perf, false},
	{"why", verb_why, false},
	{"mtu", verb_mtu, false},
	{"config", verb_config, false},
	{"monitor", verb_monitor, false},
	{"diff", verb_diff, true}, /* reads files with the daemon's rights */
	{"apply", verb_apply, true},
	{"confirm", verb_confirm, true},
	{"rollback", verb_rollback, true},
	{"link-add", verb_link_add, true},
	{"link-set", verb_link_set, true},
	{"link-del", verb_link_del, true},
	{"link-up", verb_link_up, true},
	{"link-down", verb_link_down, true},
	{"sa-reload", verb_sa_reload, true},
	{"sa-add", verb_sa_add, true},
	{"sa-rekey", verb_sa_rekey, true},
	{"sa-del", verb_sa_del, true},
};

static const struct verb *find(const char *name)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(verbs); i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

static json_t *run(struct verbs *v, json_t *req, bool root, bool *monitor)
{
	const char *name = vj_arg(req, "verb");
	json_t *args = json_object_get(req, "args"), *r;
	const struct verb *verb;

	if (json_integer_value(json_object_get(req, "schema")) != 1)
		return verbs_error(EXIT_USAGE, "bad-schema",
				   "ipsecctl and ipsecd should be of one version",
				   "this ipsecd speaks schema 1");
	if (!name || (args && !json_is_object(args)))
		return verbs_error(EXIT_USAGE, "bad-request", NULL,
				   "a request is {\"schema\":1,\"verb\":\"...\",\"args\":{}}");
	verb = find(name);
	if (!verb)
		return verbs_error(EXIT_USAGE, "no-such-verb",
				   "ipsecctl and ipsecd should be of one version",
				   "ipsecd %s does not know \"%.64s\"", ESPWIRE_VERSION, name);
	if (verb->changes && !root)
		return verbs_error(EXIT_POLICY, "not-permitted", "sudo ipsecctl ...",
				   "\"%s\" is for root", name);
	r = verb->fn(v, args);
	*monitor = verb->fn == verb_monitor;
	return r;
}

json_t *verbs_line(struct verbs *v, const char *line, size_t len, bool root, bool *monitor)
{
	json_error_t e;
	json_t *req = json_loadb(line, len, JSON_REJECT_DUPLICATES, &e), *r;

	*monitor = false;
	if (!req)
		return verbs_error(EXIT_USAGE, "bad-json", NULL, "not JSON at byte %d: %s",
				   e.position, e.text);
	r = run(v, req, root, monitor);
	json_decref(req);
	return r;
}

int verbs_open(struct verbs **vp, struct daemon *d, sd_event *ev)
{
	struct verbs *v = calloc(1, sizeof *v);

	if (!v)
		return -ENOMEM;
	v->d = d;
	v->ev = ev;
	*vp = v;
	return 0;
}

void verbs_close(struct verbs *v)
{
	if (!v)
		return;
	disarm(v);
	free(v);
}
