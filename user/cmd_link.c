/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verbs that change: link ..., apply, confirm, rollback; and check, diff, show config. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "ctl.h"
#include "verbs.h"

/* ---- pairs of words ---- */

/* KEY VALUE ..., or KEY=VALUE; checked here too, so that a slip is explained without a daemon. */
static int pairs(struct ctl *c, int argc, char **argv, json_t *set)
{
	struct link_conf probe;
	char key[64], err[512];
	int bad = 0;

	link_conf_init(&probe);
	for (int i = 0; i < argc && !bad; i++) {
		char *eq = strchr(argv[i], '='), *blank = strchr(argv[i], ' ');
		const char *value = eq && (!blank || eq < blank) ? eq + 1 : argv[i + 1];

		snprintf(key, sizeof key, "%.*s",
			 value == argv[i + 1] ? (int)sizeof key - 1 : (int)(eq - argv[i]), argv[i]);
		if (!value)
			bad = ctl_usage(c, "%s wants a value", key);
		else if (link_conf_set(&probe, key, value, err, sizeof err))
			bad = ctl_usage(c, "%s", err);
		else
			json_array_append_new(set, json_pack("[s, s]", key, value));
		i += value == argv[i + 1];
	}
	link_conf_free(&probe);
	return bad;
}

/* ---- --save ---- */

static void dropin(char *buf, size_t len, const char *conf_file, const char *name)
{
	size_t n = strlen(conf_file);

	if (n > 5 && !strcmp(conf_file + n - 5, ".conf"))
		n -= 5;
	snprintf(buf, len, "%.*s.d/%s.conf", (int)n, conf_file, name);
}

static int write_new(const char *path, const char *text)
{
	char tmp[PATHS_LEN + 8], *slash;
	FILE *f;
	int err = 0;

	snprintf(tmp, sizeof tmp, "%s", path);
	slash = strrchr(tmp, '/');
	if (slash) {
		*slash = 0;
		if (mkdir(tmp, 0755) && errno != EEXIST)
			return -errno;
	}
	snprintf(tmp, sizeof tmp, "%s.new", path);
	f = fopen(tmp, "we");
	if (!f)
		return -errno;
	if (fputs(text, f) < 0 || fputc('\n', f) < 0 || fflush(f) || fsync(fileno(f)))
		err = -errno;
	if (fclose(f) && !err)
		err = -errno;
	if (!err && rename(tmp, path))
		err = -errno;
	if (err)
		unlink(tmp);
	return err;
}

/* A section that somebody wrote by hand elsewhere is theirs to edit. */
static bool written_elsewhere(json_t *r, const char *path)
{
	const char *src = json_string_value(jat(r, "src_file"));

	return src && *src == '/' && strcmp(src, path) && !access(src, F_OK);
}

static int save(struct ctl *c, json_t *r, const char *name, const char *text)
{
	const char *conf = json_string_value(jat(r, "conf_file"));
	char path[PATHS_LEN];
	int err;

	if (!conf || *conf != '/')
		return ctl_fail(
			c, EXIT_RUNTIME, "not-saved", "write the [link] section yourself",
			"in force, but not saved: the daemon's configuration file is not known");
	dropin(path, sizeof path, conf, name);
	if (written_elsewhere(r, path))
		return ctl_fail(c, EXIT_POLICY, "not-saved", "edit it there, then ipsecctl apply",
				"in force, but not saved: %s is written in %s line %lld", name,
				jstr(r, "src_file"), (long long)jint(r, "src_line"));
	err = text ? write_new(path, text) : unlink(path) && errno != ENOENT ? -errno : 0;
	if (err)
		return ctl_fail(c, EXIT_RUNTIME, "not-saved", NULL,
				"in force, but not saved: %s: %s", path, strerror(-err));
	if (!c->json)
		printf("%s %s\n", text ? "saved in" : "removed", path);
	return 0;
}

/* ---- link add, set, del, up, down ---- */

static void say_link(json_t *r, const char *done)
{
	json_t *l = json_array_get(jat(r, "links"), 0);

	printf("%s %s (peer %s): %s, %s\n", jstr(l, "name"), done, jstr(l, "peer"),
	       jstr(l, "state"), jstr(l, "reason_text"));
}

static int change(struct ctl *c, const char *verb, int argc, char **argv, const char *done)
{
	json_t *set = json_array(), *r, *l;
	const char *name;
	int code = pairs(c, argc - 1, argv + 1, set);

	if (code) {
		json_decref(set);
		return code;
	}
	r = ctl_request(c, verb, json_pack("{s:s, s:o}", "name", argv[0], "set", set));
	if (!ctl_finish(c, r, &code))
		say_link(r, done);
	l = json_array_get(jat(r, "links"), 0);
	name = json_string_value(jat(l, "name"));
	if (!code && name && ctl_opt(c, "--save"))
		code = save(c, r, name, json_string_value(jat(r, "section")));
	json_decref(r);
	return code;
}

int cmd_link_add(struct ctl *c, int argc, char **argv)
{
	return change(c, "link-add", argc, argv, "added");
}

int cmd_link_set(struct ctl *c, int argc, char **argv)
{
	return change(c, "link-set", argc, argv, "changed");
}

int cmd_link_up(struct ctl *c, int argc, char **argv)
{
	return change(c, "link-up", argc, argv, "may work");
}

int cmd_link_down(struct ctl *c, int argc, char **argv)
{
	return change(c, "link-down", argc, argv, "taken down");
}

int cmd_link_del(struct ctl *c, int argc, char **argv)
{
	json_t *r = ctl_request(c, "link-del", json_pack("{s:s}", "name", argv[0]));
	int code;

	if (!ctl_finish(c, r, &code))
		printf("%s removed\n", jstr(r, "name"));
	if (!code && ctl_opt(c, "--save"))
		code = save(c, r, jstr(r, "name"), NULL);
	json_decref(r);
	return code;
}

/* ---- sa add, rekey, del ---- */

static json_t *sa_args(const char *link, const char *file)
{
	return json_pack("{s:s, s:s}", "name", link, "file", file);
}

static json_t *ask_rekey(struct ctl *c, const char *link, const char *file)
{
	json_t *args = sa_args(link, file);

	json_object_set_new(args, "now", json_boolean(ctl_opt(c, "--now") != NULL));
	return ctl_request(c, "sa-rekey", args);
}

/* With --save the answer is waited for: what is saved must be what both ends use. */
static json_t *wait_rekey(struct ctl *c, const char *link, const char *file)
{
	static const struct timespec while_ = {.tv_nsec = 200000000};
	json_t *r = ask_rekey(c, link, file);

	for (int i = 0; i < 10 * 5 && ctl_opt(c, "--save") && jtrue(r, "ok") && !jtrue(r, "in_use"); i++) {
		nanosleep(&while_, NULL);
		json_decref(r);
		r = ask_rekey(c, link, file);
	}
	return r;
}

static int sa_file_cmd(struct ctl *c, char **argv, bool rekey)
{
	char full[PATHS_LEN];
	json_t *r;
	int code;

	if (!realpath(argv[1], full))
		return ctl_fail(c, EXIT_NOT_FOUND, "no-such-file", "ipsecctl static pair makes SA files",
				"%s: %s", argv[1], strerror(errno));
	r = rekey ? wait_rekey(c, argv[0], full) : ctl_request(c, "sa-add", sa_args(argv[0], full));
	if (!ctl_finish(c, r, &code))
		printf("%s: %s\n", jstr(json_array_get(jat(r, "links"), 0), "name"),
		       jtrue(r, "in_use") ? "the new SAs are in use"
		       : rekey		  ? "waiting for the peer to have its half of the pair"
					  : "the new SAs are ready");
	if (!code && rekey && ctl_opt(c, "--save")) {
		if (!jtrue(r, "in_use"))
			code = ctl_fail(c, EXIT_RUNTIME, "not-saved", "run it again once the peer has its half",
					"not saved: the peer does not use the new SAs yet");
		else
			code = save(c, r, jstr(json_array_get(jat(r, "links"), 0), "name"),
				    json_string_value(jat(r, "section")));
	}
	json_decref(r);
	return code;
}

int cmd_sa_add(struct ctl *c, int argc, char **argv)
{
	return sa_file_cmd(c, argv, false);
}

int cmd_sa_rekey(struct ctl *c, int argc, char **argv)
{
	return sa_file_cmd(c, argv, true);
}

int cmd_sa_del(struct ctl *c, int argc, char **argv)
{
	json_t *r = ctl_request(c, "sa-del", json_pack("{s:s, s:s}", "name", argv[0], "spi", argv[1]));
	int code;

	if (!ctl_finish(c, r, &code))
		say_link(r, "without that SA");
	json_decref(r);
	return code;
}

/* ---- configurations ---- */

/* All of it as one string; nothing when it has a zero byte, which no configuration has. */
static char *slurp(FILE *f)
{
	size_t cap = 0;
	char *text = NULL;
	ssize_t n = getdelim(&text, &cap, 0, f);

	if (n > 0 && !ferror(f) && strlen(text) == (size_t)n)
		return text;
	free(text);
	return n < 0 && !ferror(f) ? strdup("") : NULL;
}

/* Read what was named: a file, "-", or the instance's own file. *n = number of errors. */
static char *read_conf(const struct ctl *c, const char *file, struct conf *conf, FILE *errs, int *n)
{
	char own[PATHS_LEN], *text = NULL;

	if (file && !strcmp(file, "-")) {
		text = slurp(stdin);
		if (!text)
			conf_init(conf);
		*n = text ? conf_parse_string(conf, text, "stdin", errs) : -EINVAL;
		return text;
	}
	*n = conf_load(conf, file ? file : paths_conf(own, c->instance), errs);
	return NULL;
}

static json_t *lines(const char *text)
{
	json_t *a = json_array();

	for (const char *s = text; s && *s; s += strcspn(s, "\n"), s += *s == '\n') {
		json_t *line = json_stringn(s, strcspn(s, "\n"));

		if (strcspn(s, "\n"))
			json_array_append_new(a, line ? line : json_string("?"));
	}
	return a;
}

static json_t *check_reply(struct ctl *c, const char *file, const struct conf *conf, int n,
			   const char *errors)
{
	json_t *r = n ? NULL : ctl_ok(c);

	if (n < 0)
		r = verbs_error(n == -ENOENT ? EXIT_NOT_FOUND : EXIT_RUNTIME, "conf-unreadable",
				"ipsecctl check FILE; an example: man ipsecd.conf", "%s: %s", file,
				strerror(-n));
	else if (n)
		r = verbs_error(EXIT_RUNTIME, "conf-errors", NULL, "%s: %d error%s", file, n,
				n > 1 ? "s" : "");
	json_object_set_new(r, "file", json_string(file));
	json_object_set_new(r, "links", json_integer(n ? 0 : conf->n_links));
	json_object_set_new(r, "errors", lines(errors));
	return r;
}

int cmd_check(struct ctl *c, int argc, char **argv)
{
	char own[PATHS_LEN], *errors = NULL, *text;
	const char *file = argc ? argv[0] : paths_conf(own, c->instance);
	size_t len = 0;
	FILE *errs = open_memstream(&errors, &len);
	struct conf conf;
	json_t *r;
	int n, code;

	if (!errs)
		return ctl_fail(c, EXIT_RUNTIME, "no-memory", NULL, "out of memory");
	text = read_conf(c, file, &conf, errs, &n);
	fclose(errs);
	r = check_reply(c, file, &conf, n, errors);
	if (!ctl_finish(c, r, &code))
		printf("%s: %u link%s, no errors\n", file, conf.n_links,
		       conf.n_links == 1 ? "" : "s");
	conf_free(&conf);
	json_decref(r);
	free(errors);
	free(text);
	return code;
}

/* The daemon reads files itself (they may be large); standard input goes over the socket. */
static int source(struct ctl *c, int argc, char **argv, json_t *args)
{
	char full[PATHS_LEN], *text;

	if (!argc)
		return 0;
	if (!strcmp(argv[0], "-")) {
		text = slurp(stdin);
		json_object_set_new(args, "text", text ? json_string(text) : NULL);
		free(text);
		return jnull(args, "text") ? ctl_usage(c, "standard input is not UTF-8 text") : 0;
	}
	if (!realpath(argv[0], full))
		return ctl_fail(c, EXIT_NOT_FOUND, "no-such-file", NULL, "%s: %s", argv[0],
				strerror(errno));
	json_object_set_new(args, "file", json_string(full));
	return 0;
}

static void say_changes(json_t *r, const char *none)
{
	json_t *ch;
	size_t i;
	unsigned int kept = 0, n = 0;

	json_array_foreach (jat(r, "changes"), i, ch) {
		const char *action = jstr(ch, "action");

		if (!strcmp(action, "keep")) {
			kept++;
			continue;
		}
		n++;
		printf("%c %s %s\n",
		       *action == 'a'   ? '+'
		       : *action == 'r' ? '-'
					: '~',
		       jstr(ch, "link"), action);
	}
	if (!n)
		printf("%s\n", none);
	else if (kept)
		printf("  %u link%s untouched\n", kept, kept == 1 ? "" : "s");
	if (jtrue(r, "restart_needed"))
		printf("note: [ipsecd] or [underlay] differ; those take effect when ipsecd is "
		       "restarted\n");
}

int cmd_apply(struct ctl *c, int argc, char **argv)
{
	const char *confirm = ctl_opt(c, "--confirm");
	json_t *args = json_object(), *r;
	char *end = NULL;
	int code = source(c, argc, argv, args);

	if (confirm) {
		long s = strtol(confirm, &end, 10);

		if (*end == 's' && !end[1])
			end++;
		if (!code && (*end || s < 1))
			code = ctl_usage(c, "--confirm wants seconds, e.g. --confirm 60");
		json_object_set_new(args, "confirm_s", json_integer(s));
	}
	if (code) {
		json_decref(args);
		return code;
	}
	r = ctl_request(c, "apply", args);
	if (!ctl_finish(c, r, &code)) {
		say_changes(r, "nothing differs");
		if (confirm)
			printf("still there? ipsecctl confirm, within %s s; else everything goes "
			       "back\n",
			       confirm);
	}
	json_decref(r);
	return code;
}

int cmd_diff(struct ctl *c, int argc, char **argv)
{
	json_t *args = json_object(), *r;
	int code = source(c, argc, argv, args);

	if (code) {
		json_decref(args);
		return code;
	}
	r = ctl_request(c, "diff", args);
	if (!ctl_finish(c, r, &code))
		say_changes(r, "nothing differs");
	json_decref(r);
	return code;
}

static int plain(struct ctl *c, const char *verb, const char *done)
{
	json_t *r = ctl_request(c, verb, NULL);
	int code;

	if (!ctl_finish(c, r, &code))
		printf("%s\n", done);
	json_decref(r);
	return code;
}

int cmd_confirm(struct ctl *c, int argc, char **argv)
{
	return plain(c, "confirm", "kept");
}

int cmd_rollback(struct ctl *c, int argc, char **argv)
{
	return plain(c, "rollback", "back to the configuration before");
}

int cmd_show_config(struct ctl *c, int argc, char **argv)
{
	json_t *r =
		ctl_request(c, "config", json_pack("{s:b}", "all", ctl_opt(c, "--all") != NULL));
	int code;

	if (!ctl_finish(c, r, &code) && !jnull(r, "text"))
		fputs(json_string_value(jat(r, "text")), stdout);
	json_decref(r);
	return code;
}
