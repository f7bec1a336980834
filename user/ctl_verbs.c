/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of verbs, and the parser that it drives. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "ctl.h"

const struct ctl_opt ctl_globals[] = {
	{"--json", "-j", NULL, "print JSON, in a stable shape, also for errors"},
	{"--instance", "-i", "NAME", "the instance to talk to (or IPSEC_INSTANCE)"},
	{"--netns", "-n", "NETNS", "act on the instance of that network namespace"},
	{"--verbose", "-v", NULL, "more of it"},
	{"--socket", NULL, "PATH", "control socket, instead of the instance's own"},
	{"--help", "-h", NULL, "help, of one verb when there is one"},
	{0},
};

/* One row, one verb. */
/* clang-format off */
#define OPTS(...) ((const struct ctl_opt[]){__VA_ARGS__, {0}})
#define WATCH {"--watch", "-w", NULL, "again every second, with rates"}, \
	      {"--count", NULL, "N", "end after N rounds"}
#define SAVE {"--save", NULL, NULL, "also write it to the configuration's drop-in directory"}

/* name, sub, least and most words behind, synopsis of those, help, handler */
const struct ctl_verb ctl_verbs[] = {
	{"show", NULL, 0, 1, "[LINK]", "links, their state and why", cmd_show,
	 .needs_daemon = true,
	 .opts = OPTS(WATCH),
	 .more = "LINK is a device (ipsec1, ipsec:1) or a peer's name; then all details are shown "
		 "and the exit code is 4 when that link is not up."},
	{"show", "config", 0, 0, "", "the running configuration, as ipsecd reads it",
	 cmd_show_config,
	 .needs_daemon = true,
	 .opts = OPTS({"--all", NULL, NULL, "defaults too"})},
	{"link", "list", 0, 1, "[LINK]", "the same as show", cmd_link_list, .needs_daemon = true},
	{"link", "add", 1, -1, "LINK [KEY VALUE]...", "make a link", cmd_link_add,
	 .needs_daemon = true,
	 .opts = OPTS(SAVE),
	 .more = "Keys and values are those of a [link] section; a value of several words is "
		 "quoted, KEY=VALUE will do too. Changes are gone after a restart unless --save."},
	{"link", "set", 3, -1, "LINK KEY VALUE...", "change a link in place", cmd_link_set,
	 .needs_daemon = true,
	 .opts = OPTS(SAVE),
	 .more = "Lists (path, inner, protect, route) are replaced by what is given."},
	{"link", "del", 1, 1, "LINK", "remove a link", cmd_link_del,
	 .needs_daemon = true,
	 .opts = OPTS(SAVE)},
	{"link", "up", 1, 1, "LINK", "let a link work", cmd_link_up, .needs_daemon = true},
	{"link", "down", 1, 1, "LINK", "take a link down; nothing leaves in the clear",
	 cmd_link_down,
	 .needs_daemon = true},
	{"sa", "list", 0, 1, "[LINK]", "security associations, never their keys", cmd_sa_list,
	 .needs_daemon = true},
	{"sa", "add", 2, 2, "LINK FILE", "install another pair of SAs; it receives, and stands by to send",
	 cmd_sa_add,
	 .needs_daemon = true,
	 .more = "FILE is an SA file whose durable state exists (static init). Where no SA of the link is for its "
		 "packets (all, or what its `for` lines say) it is used at once. Otherwise it is used as soon as the "
		 "peer sends on its half of the pair."},
	{"sa", "del", 2, 2, "LINK SPI", "take an SA out of service and wipe it", cmd_sa_del,
	 .needs_daemon = true},
	{"sa", "rekey", 2, 2, "LINK FILE", "go over to new SAs without losing a packet", cmd_sa_rekey,
	 .needs_daemon = true,
	 .opts = OPTS({"--now", NULL, NULL, "do not wait for the peer: it is known to have its half"}, SAVE),
	 .more = "Run it on both hosts, each with its file of a new pair, in any order. The new inbound SA "
		 "receives at once; sending goes over when the peer has shown that it has the pair, for which "
		 "it is asked by probes; the old inbound SA goes when nothing more comes. The SAs are those of "
		 "the running configuration then: --save waits for that and writes it down, or else the next "
		 "start uses the old file again. For peers that are no ipsecd: --now."},
	{"up", NULL, 1, 1, "LINK", "have the IKE daemon make a link's SAs", cmd_up,
	 .needs_daemon = true,
	 .more = "LINK is one with an ike line. Waits for the SAs, and a moment for the link; the exit code is 4 when it "
		 "is still down then. Links with ike-start come up by themselves."},
	{"down", NULL, 1, 1, "LINK", "have the IKE daemon end a link's SAs; nothing leaves in the clear", cmd_down,
	 .needs_daemon = true,
	 .more = "The peer, or traffic of strongSwan's own making, may bring it up again; link down forbids that."},
	{"rekey", NULL, 1, 1, "LINK", "have the IKE daemon renew a link's SAs, losing nothing", cmd_rekey,
	 .needs_daemon = true},
	{"status", NULL, 0, 1, "[LINK]", "what the IKE daemon says of links with an ike line", cmd_status,
	 .needs_daemon = true},
	{"path", "list", 0, 1, "[LINK]", "paths: where envelopes travel", cmd_path_list,
	 .needs_daemon = true,
	 .more = "ROUTE is what the routing tables say, STATE whether probes are answered on it: ok (or liveness is off), starting, "
		 "standby (backend = xfrm asks only on the one in use), no-answer, route-loop, no-route, no-endpoint. SHARE is the part of the flows that a path in use (>) "
		 "carries, SENT how many envelopes it took, probes included."},
	{"apply", NULL, 0, 1, "[FILE]", "make the daemon run a configuration", cmd_apply,
	 .needs_daemon = true,
	 .opts = OPTS({"--confirm", NULL, "SECONDS",
		       "go back by itself unless `ipsecctl confirm` follows in time"}),
	 .more = "Only what differs is touched. Without FILE the daemon reads its own file again; "
		 "- is standard input."},
	{"confirm", NULL, 0, 0, "", "keep what apply --confirm made", cmd_confirm,
	 .needs_daemon = true},
	{"rollback", NULL, 0, 0, "", "go back at once instead of confirming", cmd_rollback,
	 .needs_daemon = true},
	{"check", NULL, 0, 1, "[FILE]", "read a configuration, say what is wrong, change nothing",
	 cmd_check, .needs_daemon = false},
	{"diff", NULL, 0, 1, "[FILE]", "what apply would do", cmd_diff, .needs_daemon = true},
	{"drops", NULL, 0, 1, "[LINK]", "dropped packets by reason, and whether the books balance",
	 cmd_drops,
	 .needs_daemon = true,
	 .opts = OPTS(WATCH)},
	{"why", NULL, 2, 5, "SRC DST [PROTO [SPORT DPORT]]", "what would happen to a packet",
	 cmd_why,
	 .needs_daemon = true,
	 .opts = OPTS({"--from", NULL, "NETNS", "namespace the packet starts in"},
		      {"--size", NULL, "BYTES", "its length"})},
	{"mtu", NULL, 1, 1, "LINK", "where the MTU of a link comes from, step by step", cmd_mtu,
	 .needs_daemon = true},
	{"maps", NULL, 0, 0, "", "pinned BPF maps and programs", cmd_maps,
	 .needs_daemon = false},
	{"monitor", NULL, 0, 0, "", "events as they happen", cmd_monitor, .needs_daemon = true},
	{"metrics", NULL, 0, 0, "", "counters in Prometheus' text format", cmd_metrics,
	 .needs_daemon = true},
	{"perf", NULL, 0, 0, "", "what the workers do", cmd_perf, .needs_daemon = true},
	{"static", "init", 1, -1, "FILE...", "make the durable state of a key file",
	 cmd_static_init,
	 .opts = OPTS({"--state", NULL, "DIR", "state directory, instead of the instance's own"}),
	 .more = "Static keys must never repeat a nonce, also not after a restart; the state made "
		 "here sees to it. Once per key file and machine; what exists is kept."},
	{"static", "pair", 2, 2, "HOST-A HOST-B", "make two matching key files", cmd_static_pair,
	 .opts = OPTS({"--output", "-o", "DIR",
		       "where to write HOST-A/HOST-B.sa and HOST-B/HOST-A.sa (.)"},
		      {"--alg", NULL, "ALG",
		       "suite, aes-gcm-256 by default; version --probe lists them all"},
		      {"--mode", NULL, "MODE", "tunnel (default) or transport"})},
	{"release", NULL, 0, 0, "", "lift the protection that outlives the daemon", cmd_release,
	 .opts = OPTS({"--yes", "-y", NULL, "do not ask"}),
	 .more = "Removes links, floor routes, guards, pinned programs and the backend namespace "
		 "of the instance. From then on traffic to protected prefixes goes wherever the "
		 "routing tables say."},
	{"doctor", NULL, 0, 0, "", "look for trouble, with evidence", cmd_doctor,
	 .needs_daemon = false},
	{"report", NULL, 0, 0, "", "everything for a bug report, as JSON, without keys",
	 cmd_report, .needs_daemon = false},
	{"version", NULL, 0, 0, "", "version; what this kernel can do", cmd_version,
	 .opts = OPTS({"--probe", NULL, NULL, "try the kernel's features; list the suites"})},
	{"help", NULL, 0, 2, "[VERB]", "this list, or one verb", cmd_help, .needs_daemon = false},
	{"completion", NULL, 1, 1, "bash|zsh|fish", "completion script", cmd_completion,
	 .hidden = true},
	{"man", NULL, 0, 0, "", "the manual page, ipsecctl(8)", cmd_man, .hidden = true},
	{0},
};

/* clang-format on */

/* Options and words of OpenBSD's ipsecctl(8), kept for its users' fingers. */
static const struct {
	const char *word, *verb, *sub;
} aliases[] = {
	{"-nf", "check", NULL},
	{"-sa", "sa", "list"},
	{"-m", "monitor", NULL},
};

const struct ctl_verb *ctl_find(const char *name, const char *sub)
{
	const struct ctl_verb *found = NULL;

	for (const struct ctl_verb *v = ctl_verbs; v->name; v++) {
		if (strcmp(v->name, name))
			continue;
		if (v->sub && sub && !strcmp(v->sub, sub))
			return v;
		if (!v->sub)
			found = v;
	}
	return found;
}

const char *ctl_opt(const struct ctl *c, const char *name)
{
	for (int i = 0; c->verb->opts && c->verb->opts[i].name; i++)
		if (!strcmp(c->verb->opts[i].name, name))
			return c->opts[i];
	return NULL;
}

static int take_global(struct ctl *c, int i, const char *value)
{
	switch (i) {
	case 0:
		c->json = true;
		return 0;
	case 1:
		if (!paths_instance_ok(value))
			return ctl_usage(
				c,
				"-i %s: an instance name has letters, digits, _ and -, at most %d",
				value, INSTANCE_MAX - 1);
		strcpy(c->instance, value);
		return 0;
	case 2:
		if (strlen(value) >= sizeof c->netns)
			return ctl_usage(c, "-n %.80s...: too long", value);
		strcpy(c->netns, value);
		return 0;
	case 3:
		c->verbose = true;
		return 0;
	case 4:
		snprintf(c->sock, sizeof c->sock, "%s", value);
		return 0;
	default:
		return -1; /* help */
	}
}

/* Index of the option in list that word names. *value: behind '=', the next word, or "". */
static int match(const struct ctl_opt *list, const char *word, char **next, const char **value)
{
	for (int i = 0; list && list[i].name; i++) {
		const struct ctl_opt *o = &list[i];
		size_t n = strlen(o->name);

		if (o->arg && !strncmp(word, o->name, n) && word[n] == '=') {
			*value = word + n + 1;
			return i;
		}
		if (strcmp(word, o->name) && (!o->brief || strcmp(word, o->brief)))
			continue;
		*value = o->arg ? *next : "";
		return i;
	}
	return -1;
}

struct words {
	char *w[CTL_ARGS_MAX + 1];
	int n;
	bool help, literal; /* literal: behind "--" */
};

static bool is_option(const struct words *w, const char *s)
{
	return !w->literal && s[0] == '-' && s[1];
}

/* The verb must be known before its options can be told from words: first pass, globals skipped. */
static int find_verb(struct ctl *c, char **argv, int *used)
{
	struct words w = {0};
	const char *name = NULL, *value;

	*used = 0;
	for (; *argv; argv++) {
		if (is_option(&w, *argv)) {
			int i = match(ctl_globals, *argv, argv + 1, &value);

			argv += i >= 0 && value && value == argv[1];
			continue;
		}
		if (name) {
			c->verb = ctl_find(name, *argv);
			*used = c->verb && c->verb->sub ? 2 : 1;
			break;
		}
		name = *argv;
	}
	if (name && !c->verb)
		c->verb = ctl_find(name, NULL), *used = 1;
	if (!name)
		c->verb = ctl_find("show", NULL);
	if (c->verb)
		return 0;
	for (const struct ctl_verb *v = ctl_verbs; v->name; v++)
		if (!strcmp(v->name, name))
			return ctl_usage(c, "%s what? ipsecctl help %s", name, name);
	return ctl_usage(c, "there is no verb \"%s\": ipsecctl help lists them", name);
}

static int take_option(struct ctl *c, struct words *w, char ***argv)
{
	const char *value = NULL;
	const struct ctl_opt *list = c->verb->opts;
	int i = match(list, **argv, *argv + 1, &value), err = 0;

	if (i < 0) {
		list = ctl_globals;
		i = match(list, **argv, *argv + 1, &value);
	}
	if (i < 0)
		return ctl_usage(c, "%s: no such option; see ipsecctl %s --help", **argv,
				 c->verb->name);
	if (!value)
		return ctl_usage(c, "%s wants %s", **argv, list[i].arg);
	if (value == (*argv)[1])
		(*argv)++;
	if (list == ctl_globals)
		err = take_global(c, i, value);
	else
		c->opts[i] = value;
	if (err == -1)
		w->help = true;
	return err > 0 ? err : 0;
}

static int take_words(struct ctl *c, struct words *w, char **argv)
{
	int err = 0;

	for (; *argv && !err; argv++) {
		if (!w->literal && !strcmp(*argv, "--"))
			w->literal = true;
		else if (is_option(w, *argv))
			err = take_option(c, w, &argv);
		else if (w->n == CTL_ARGS_MAX)
			err = ctl_usage(c, "more than %d words", CTL_ARGS_MAX);
		else
			w->w[w->n++] = *argv;
	}
	return err;
}

/* -nf, -sa and -m become the verbs they mean, before our own letters are looked at. */
static char **unalias(char **argv, char **buf)
{
	bool done = false;
	int n = 0;

	for (; *argv && n < CTL_ARGS_MAX; argv++) {
		unsigned int i = done ? ARRAY_SIZE(aliases) : 0;

		while (i < ARRAY_SIZE(aliases) && strcmp(*argv, aliases[i].word))
			i++;
		buf[n++] = i < ARRAY_SIZE(aliases) ? (char *)aliases[i].verb : *argv;
		if (i < ARRAY_SIZE(aliases) && aliases[i].sub)
			buf[n++] = (char *)aliases[i].sub;
		done |= i < ARRAY_SIZE(aliases) || !strcmp(*argv, "--");
	}
	buf[n] = NULL;
	return buf;
}

int ctl_parse(struct ctl *c, int *argc, char ***argv)
{
	static char *alias_buf[CTL_ARGS_MAX + 2];
	static struct words w;
	char **args = unalias(*argv, alias_buf);
	int used, err;

	memset(&w, 0, sizeof w);
	memset(c->opts, 0, sizeof c->opts);
	/* before anything can go wrong: errors are JSON too */
	for (char **a = args; *a && strcmp(*a, "--"); a++)
		c->json |= !strcmp(*a, "--json") || !strcmp(*a, "-j");
	err = find_verb(c, args, &used);
	err = err ? err : take_words(c, &w, args);
	if (err)
		return err;
	if (w.help) {
		ctl_help(used ? c->verb : NULL, stdout);
		return -1;
	}
	*argv = w.w + used;
	*argc = w.n - used;
	if (*argc < c->verb->min || (c->verb->max >= 0 && *argc > c->verb->max))
		return ctl_usage(c, "%s%s%s wants: %s", c->verb->name, c->verb->sub ? " " : "",
				 c->verb->sub ? c->verb->sub : "",
				 *c->verb->synopsis ? c->verb->synopsis : "nothing more");
	return 0;
}
