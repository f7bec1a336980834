/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * up, down, rekey, status: the IKE daemon is asked by vici, about links whose keys are its to make. What
 * came of it is looked up in ipsecd: strongSwan's "success" also stands where a kernel has refused.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "ctl.h"
#include "vici.h"

enum { UP_MS = 20000, CALL_MS = 5000, REKEY_POLLS = 500 /* one lost message is 4 s to strongSwan */, UP_POLLS = 50, DOWN_POLLS = 100, TOLD_POLLS = 1000 };

/* struct talk - a link, and the way to its IKE daemon */
struct talk {
	json_t *show;     /* ipsecd's reply */
	const char *link, *ike;
	int fd;
};

static void talk_end(struct talk *t)
{
	if (t->fd >= 0)
		close(t->fd);
	json_decref(t->show);
}

static json_t *first_link(json_t *show)
{
	return json_array_get(jat(show, "links"), 0);
}

/* Return: 0, or an exit code with the error printed */
static int reach(struct ctl *c, struct talk *t)
{
	const char *path = json_string_value(jat(t->show, "daemon.ike.vici"));

	t->fd = path ? vici_connect(path) : -ENOENT;
	if (t->fd >= 0)
		return 0;
	return ctl_fail(c, EXIT_NO_DAEMON, "no-ike-daemon", "systemctl start strongswan; vici-socket in [ipsecd] says where",
			"no IKE daemon at %s: %s", path ? path : "vici-socket", strerror(-t->fd));
}

static int talk_about(struct ctl *c, const char *name, struct talk *t)
{
	int code;

	*t = (struct talk){.fd = -1};
	t->show = ctl_request(c, "show", json_pack("{s:s}", "name", name));
	if (!jtrue(t->show, "ok")) {
		ctl_finish(c, t->show, &code);
		return code;
	}
	t->link = json_string_value(jat(first_link(t->show), "name"));
	t->ike = json_string_value(jat(first_link(t->show), "ike"));
	if (!t->ike)
		return ctl_fail(c, EXIT_USAGE, "no-ike", "ipsecctl sa add and sa rekey are for SA files",
				"%s has no 'ike' line: its keys come from a file", t->link);
	return reach(c, t);
}

/* strongSwan's last words of its own log about it: why it failed */
static const char *last_words(json_t *events)
{
	for (size_t i = json_array_size(events); i-- > 0;) {
		json_t *e = json_array_get(events, i);
		const char *group = jstr(e, "group");

		if (!strcmp(group, "IKE") || !strcmp(group, "CFG") || !strcmp(group, "KNL"))
			return jstr(e, "msg");
	}
	return NULL;
}

static bool succeeded(json_t *reply)
{
	return !strcmp(jstr(reply, "success"), "yes");
}

/* Return: 0, or an exit code with the error printed. @none: "nothing there" is fine */
static int tell(struct ctl *c, struct talk *t, const char *cmd, struct vici *m, int ms)
{
	json_t *reply = NULL, *events = NULL;
	const char *why;
	int err, code = 0;

	vici_put(m, "timeout", "%d", ms);
	vici_put(m, "loglevel", "1");
	err = vici_call(t->fd, cmd, m, "control-log", &events, &reply, ms + CALL_MS);
	vici_free(m);
	if (err) {
		code = ctl_fail(c, EXIT_RUNTIME, "ike-failed", "is it charon that listens there?", "%s: %s: %s", t->link, cmd,
				strerror(-err));
	} else if (!succeeded(reply)) {
		why = last_words(events);
		code = ctl_fail(c, EXIT_RUNTIME, "ike-failed", "journalctl -u strongswan, on both ends", "%s: %s%s%s", t->link,
				jstr(reply, "errmsg"), why ? ": " : "", why ? why : "");
	}
	json_decref(events);
	json_decref(reply);
	return code;
}

static json_t *show_again(struct ctl *c, struct talk *t)
{
	return ctl_request(c, "show", json_pack("{s:s}", "name", t->link));
}

static const char *spi_in_use(json_t *show, const char *dir)
{
	json_t *sa;
	size_t i;

	json_array_foreach (jat(first_link(show), "sas"), i, sa)
		if (jtrue(sa, "in_use") && !strcmp(jstr(sa, "dir"), dir))
			return json_string_value(jat(sa, "spi")); /* lives as long as show */
	return NULL;
}

static void nap(void)
{
	static const struct timespec while_ = {.tv_nsec = 20000000};

	nanosleep(&while_, NULL);
}

static bool is_up(json_t *show)
{
	return !strcmp(jstr(first_link(show), "state"), "up");
}

/* What the section says reaches strongSwan a moment after ipsecd has read it. Return: 0, or an exit code with the error printed */
static int await_told(struct ctl *c, struct talk *t)
{
	json_t *r = NULL;
	const char *why;
	int code = 0;

	for (int i = 0; i < TOLD_POLLS; i++) {
		json_decref(r);
		r = show_again(c, t);
		if (!jtrue(r, "ok") || jtrue(first_link(r), "ike_told") || !jnull(first_link(r), "ike_refused"))
			break;
		nap();
	}
	why = json_string_value(jat(first_link(r), "ike_refused"));
	if (!jtrue(r, "ok"))
		ctl_finish(c, r, &code);
	else if (why)
		code = ctl_fail(c, EXIT_RUNTIME, "ike-refused", "ipsecctl link set; the log of ipsecd says it as well",
				"%s: strongSwan has no connection as the link's section says it: %s", t->link, why);
	else if (!jtrue(first_link(r), "ike_told"))
		code = ctl_fail(c, EXIT_RUNTIME, "ike-failed", "journalctl -u strongswan", "%s: strongSwan does not take its connection", t->link);
	json_decref(r);
	return code;
}

int cmd_up(struct ctl *c, int argc, char **argv)
{
	struct vici m = {0};
	struct talk t;
	json_t *r = NULL;
	int code = talk_about(c, argv[0], &t);

	if (!code)
		code = await_told(c, &t);
	if (!code) {
		vici_put(&m, "child", "%s", t.ike);
		vici_put(&m, "ike", "%s", t.ike);
		code = spi_in_use(t.show, "out") ? 0 : tell(c, &t, "initiate", &m, UP_MS);
		vici_free(&m);
	}
	for (int i = 0; !code && i < UP_POLLS; i++) { /* the first round trip follows at once */
		json_decref(r);
		r = show_again(c, &t);
		if (is_up(r) || !jtrue(r, "ok"))
			break;
		nap();
	}
	if (!code && !ctl_finish(c, r, &code)) {
		const char *spi = spi_in_use(r, "out");

		printf("%s: %s, SA %s\n", t.link, is_up(r) ? "up" : jstr(first_link(r), "reason"), spi ? spi : "-");
	}
	if (!code && !is_up(r))
		code = EXIT_IS_DOWN;
	json_decref(r);
	talk_end(&t);
	return code;
}

int cmd_down(struct ctl *c, int argc, char **argv)
{
	struct vici m = {0};
	struct talk t;
	json_t *r = NULL;
	int code = talk_about(c, argv[0], &t);

	if (!code) {
		vici_put(&m, "ike", "%s", t.ike);
		code = json_array_size(jat(first_link(t.show), "sas")) ? tell(c, &t, "terminate", &m, CALL_MS) : 0;
		vici_free(&m);
	}
	for (int i = 0; !code && i < DOWN_POLLS; i++) { /* the last SAs linger */
		json_decref(r);
		r = show_again(c, &t);
		if (!json_array_size(jat(first_link(r), "sas")) || !jtrue(r, "ok"))
			break;
		nap();
	}
	if (!code && !ctl_finish(c, r, &code))
		printf("%s: %s; nothing leaves in the clear\n", t.link, jstr(first_link(r), "reason"));
	json_decref(r);
	talk_end(&t);
	return code;
}

int cmd_rekey(struct ctl *c, int argc, char **argv)
{
	struct vici m = {0};
	struct talk t;
	json_t *r = NULL, *reply = NULL;
	const char *had, *has = NULL;
	int code = talk_about(c, argv[0], &t), err;

	if (code)
		goto end;
	had = spi_in_use(t.show, "out");
	if (!had) {
		code = ctl_fail(c, EXIT_IS_DOWN, "no-sa", "ipsecctl up makes them", "%s has no SAs", t.link);
		goto end;
	}
	vici_put(&m, "child", "%s", t.ike);
	err = vici_call(t.fd, "rekey", &m, NULL, NULL, &reply, CALL_MS);
	if (err || !succeeded(reply))
		code = ctl_fail(c, EXIT_RUNTIME, "ike-failed", "journalctl -u strongswan, on both ends", "%s: rekey: %s", t.link,
				err ? strerror(-err) : jstr(reply, "errmsg"));
	for (int i = 0; !code && i < REKEY_POLLS; i++) {
		json_decref(r);
		r = show_again(c, &t);
		has = spi_in_use(r, "out");
		if (!jtrue(r, "ok") || (has && strcmp(has, had)))
			break;
		nap();
	}
	if (!code && has && !strcmp(has, had))
		code = ctl_fail(c, EXIT_RUNTIME, "not-renewed", "journalctl -u strongswan, on both ends",
				"%s: still on SA %s after 10 s", t.link, had);
	else if (!code && !ctl_finish(c, r, &code))
		printf("%s: SA %s follows %s\n", t.link, has ? has : "-", had);
end:
	vici_free(&m);
	json_decref(reply);
	json_decref(r);
	talk_end(&t);
	return code;
}

/* ---- status ---- */

/* What list-sas says of one connection: {"east": {...}} */
static json_t *sas_of(json_t *events, const char *ike)
{
	json_t *list = json_array(), *e, *sa;
	size_t i;

	json_array_foreach (events, i, e) {
		sa = json_object_get(e, ike);
		if (sa)
			json_array_append(list, sa);
	}
	return list;
}

static json_t *status_json(struct ctl *c, json_t *show, json_t *events)
{
	json_t *o = ctl_ok(c), *list = json_array(), *l;
	size_t i;

	json_array_foreach (jat(show, "links"), i, l) {
		const char *ike = json_string_value(jat(l, "ike"));

		if (!ike)
			continue;
		json_array_append_new(list, json_pack("{s:O s:O s:O s:O s:O s:o}", "name", jat(l, "name"), "peer", jat(l, "peer"),
						      "ike", jat(l, "ike"), "state", jat(l, "state"), "reason", jat(l, "reason"),
						      "sas", sas_of(events, ike)));
	}
	json_object_set(o, "daemon", jat(show, "daemon.ike"));
	json_object_set_new(o, "links", list);
	return o;
}

enum { CELL = 64, CELLS = 10 };

static void print_child(struct table *tab, json_t *l, json_t *ike, json_t *child)
{
	const struct {
		json_t *of;
		const char *key, *unit;
	} cols[CELLS] = {{l, "name", ""},	  {l, "peer", ""},	  {ike, "state", ""},	    {ike, "remote-host", ""},
			 {child, "state", ""},	  {child, "spi-in", ""},  {child, "spi-out", ""},   {child, "bytes-in", ""},
			 {child, "bytes-out", ""}, {child, "rekey-time", "s"}};
	char text[CELLS][CELL];
	const char *cells[CELLS];

	for (int i = 0; i < CELLS; i++) {
		snprintf(text[i], CELL, "%.60s%s", jstr(cols[i].of, cols[i].key), cols[i].unit);
		cells[i] = text[i];
	}
	table_row(tab, cells);
}

static void print_status(struct ctl *c, json_t *links)
{
	static const char *const cols[] = {"LINK", "PEER", "IKE", "AT", "CHILD", "IN", "OUT", ">RX", ">TX", ">?REKEY", NULL};
	struct table *tab = table_new(cols);
	json_t *l, *ike, *child;
	const char *key;
	size_t i, k;

	json_array_foreach (links, i, l) {
		if (!json_array_size(jat(l, "sas")))
			table_row(tab, (const char *const[]){jstr(l, "name"), jstr(l, "peer"), "none", "-", "-", "-", "-", "-", "-", "-"});
		json_array_foreach (jat(l, "sas"), k, ike)
			json_object_foreach (jat(ike, "child-sas"), key, child)
				print_child(tab, l, ike, child);
	}
	table_print(tab, stdout, c->color);
}

int cmd_status(struct ctl *c, int argc, char **argv)
{
	struct talk t = {.fd = -1};
	json_t *events = NULL, *reply = NULL, *r;
	int code, err;

	t.show = ctl_request(c, "show", argc ? json_pack("{s:s}", "name", argv[0]) : NULL);
	if (!jtrue(t.show, "ok")) {
		ctl_finish(c, t.show, &code);
		goto end;
	}
	code = reach(c, &t);
	if (code)
		goto end;
	err = vici_call(t.fd, "list-sas", NULL, "list-sa", &events, &reply, CALL_MS);
	if (err) {
		code = ctl_fail(c, EXIT_RUNTIME, "ike-failed", NULL, "list-sas: %s", strerror(-err));
		goto end;
	}
	r = status_json(c, t.show, events);
	if (!ctl_finish(c, r, &code))
		print_status(c, jat(r, "links"));
	json_decref(r);
end:
	json_decref(events);
	json_decref(reply);
	talk_end(&t);
	return code;
}
