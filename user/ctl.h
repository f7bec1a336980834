/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ctl - what the files of ipsecctl share. One process, one verb, no threads.
 *
 * A verb is a row of ctl_verbs[] (ctl_verbs.c): help, completion and the manual's synopsis come
 * from it. Handlers return an exit code (EXIT_* of control.h). Most ask ipsecd, print the reply as
 * it is with --json, or as a table without.
 */
#ifndef CTL_H
#define CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include "control.h"
#include "paths.h"

enum { CTL_OPTS_MAX = 6, CTL_ARGS_MAX = 128, CTL_TIMEOUT_S = 15 };

/** struct ctl_opt - an option of one verb, or of all */
struct ctl_opt {
	const char *name;  /* "--confirm"; NULL ends a list */
	const char *brief; /* "-o", or NULL */
	const char *arg;   /* "N", or NULL for a flag */
	const char *help;
};

struct ctl;
typedef int ctl_fn(struct ctl *c, int argc, char **argv); /* argv: the words behind the verb */

/** struct ctl_verb - one row */
struct ctl_verb {
	const char *name, *sub; /* sub NULL = none */
	int min, max;           /* words behind, max -1 = any */
	const char *synopsis;   /* of those words, "" = none */
	const char *help;       /* one line */
	ctl_fn *fn;
	bool needs_daemon;      /* said in the manual */
	bool hidden;
	const struct ctl_opt *opts;
	const char *more;       /* a paragraph for --help and the manual, NULL = none */
};
extern const struct ctl_verb ctl_verbs[]; /* ends with name NULL */
extern const struct ctl_opt ctl_globals[];

/** struct ctl - the invocation */
struct ctl {
	char instance[INSTANCE_MAX];
	char sock[PATHS_LEN], state[PATHS_LEN]; /* --socket, --state or the instance's own */
	char netns[NETNS_NAME_MAX];
	bool json, verbose, color;
	const struct ctl_verb *verb;
	/* by index in verb->opts: value, "" for a flag, NULL = not given */
	const char *opts[CTL_OPTS_MAX];
	bool relay;                     /* answers that are ok go out as they came, unparsed */
	bool relayed;                   /* ... and the last one did */
	int fd;                         /* connection, -1 = none yet */
	char *in;                       /* received beyond the last line */
	size_t in_len, in_cap;
};

/** ctl_opt() - value of an option of the verb, NULL = not given */
const char *ctl_opt(const struct ctl *c, const char *name);
/**
 * ctl_parse() - options out of argv, verb found
 * Return: 0 and *argc, *argv = words behind the verb; -1 = helped, be gone; or an exit code.
 */
int ctl_parse(struct ctl *c, int *argc, char ***argv);
const struct ctl_verb *ctl_find(const char *name, const char *sub);

/* ---- talking to ipsecd: ctl_lib.c ---- */

/**
 * ctl_request() - one request, one reply
 * @args: taken. Return: never NULL; no connection becomes an error reply (exit 5).
 */
json_t *ctl_request(struct ctl *c, const char *verb, json_t *args);
/** ctl_next() - the next line of a monitor. Return: NULL at the end */
json_t *ctl_next(struct ctl *c);
/**
 * ctl_finish() - with --json print the reply; without, print an error reply's sentence
 * Return: true = there is nothing more to print; *code is set in any case.
 */
bool ctl_finish(struct ctl *c, json_t *reply, int *code);
/** ctl_fail() - an error of our own, both ways. Return: exit_code */
int ctl_fail(struct ctl *c, int exit_code, const char *code, const char *hint, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));
/** ctl_usage() - Return: EXIT_USAGE */
int ctl_usage(struct ctl *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void ctl_print_json(const json_t *j);
/** ctl_ok() - {"schema":1,"ok":true,"instance":...}, for verbs that need no daemon */
json_t *ctl_ok(const struct ctl *c);

/* ---- reading replies: dotted paths, missing or null = "-", 0, false ---- */
json_t *jat(json_t *o, const char *path);
/** visible() - for a terminal: each control byte becomes '?', in place. Return: s */
char *visible(char *s);
const char *jstr(json_t *o, const char *path);
int64_t jint(json_t *o, const char *path);
double jnum(json_t *o, const char *path);
bool jtrue(json_t *o, const char *path);
bool jnull(json_t *o, const char *path);

/* ---- words for people: ctl_fmt.c; buf of FMT_LEN bytes, returned ---- */
enum { FMT_LEN = 64, TABLE_COLS = 16 };
const char *fmt_bytes(char *buf, double n);      /**< 558K, 8.9M */
const char *fmt_rate(char *buf, double bytes_s); /**< bits: 1.2G/s */
const char *fmt_count(char *buf, double n);
/** fmt_age() - 0.3s, 41s, 2m05s, 3h12m, 4d02h; null = never */
const char *fmt_age(char *buf, json_t *seconds);

struct table;
/**
 * table_new() - columns as "NAME" (left) or ">NAME" (right)
 * "?NAME" may be left out on a narrow terminal, last first.
 */
struct table *table_new(const char *const *cols);
void table_row(struct table *t, const char *const *cells);
void table_color(struct table *t, int col, const char *sgr); /**< last row, one cell */
void table_print(struct table *t, FILE *out, bool color);    /**< and free */

/* ---- ctl_gen.c ---- */
void ctl_help(const struct ctl_verb *v, FILE *out); /**< NULL = all */
void ctl_synopsis(const struct ctl_verb *v, FILE *out);

ctl_fn cmd_show, cmd_link_list, cmd_sa_list, cmd_path_list, cmd_drops, cmd_perf, cmd_mtu, cmd_why;
ctl_fn cmd_monitor, cmd_metrics;
ctl_fn cmd_show_config, cmd_link_add, cmd_link_set, cmd_link_del, cmd_link_up, cmd_link_down;
ctl_fn cmd_up, cmd_down, cmd_rekey, cmd_status;
ctl_fn cmd_sa_add, cmd_sa_del, cmd_sa_rekey;
ctl_fn cmd_apply, cmd_confirm, cmd_rollback, cmd_check, cmd_diff;
ctl_fn cmd_static_init, cmd_static_pair, cmd_release, cmd_maps, cmd_doctor, cmd_version, cmd_report;
ctl_fn cmd_completion, cmd_man, cmd_help;

/* shared by doctor, version --probe and report */
json_t *doctor_json(struct ctl *c);
json_t *maps_json(struct ctl *c);
json_t *version_json(struct ctl *c, bool probe);

#endif
