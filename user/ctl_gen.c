/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Help, completion scripts and the manual page, all from the table of verbs. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "ctl.h"

void ctl_synopsis(const struct ctl_verb *v, FILE *out)
{
	fprintf(out, "%s%s%s", v->name, v->sub ? " " : "", v->sub ? v->sub : "");
	for (const struct ctl_opt *o = v->opts; o && o->name; o++)
		fprintf(out, " [%s%s%s]", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
	if (*v->synopsis)
		fprintf(out, " %s", v->synopsis);
}

static void help_opts(const struct ctl_opt *o, FILE *out)
{
	char left[64];

	for (; o && o->name; o++) {
		snprintf(left, sizeof left, "%s%s%s%s%s", o->brief ? o->brief : "",
			 o->brief ? ", " : "", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
		fprintf(out, "  %-24s %s\n", left, o->help);
	}
}

/* Break at blanks before column 78. */
static void wrap(const char *text, FILE *out)
{
	size_t col = 0;

	while (*text) {
		size_t n = strcspn(text, " ");

		if (col && col + 1 + n > 78) {
			fputc('\n', out);
			col = 0;
		}
		col += fprintf(out, "%s%.*s", col ? " " : "", (int)n, text);
		text += n + strspn(text + n, " ");
	}
	fputc('\n', out);
}

static void help_one(const struct ctl_verb *v, FILE *out)
{
	fprintf(out, "usage: ipsecctl ");
	ctl_synopsis(v, out);
	fprintf(out, "\n\n");
	wrap(v->help, out);
	if (v->more)
		wrap(v->more, out);
	if (v->opts)
		fputc('\n', out);
	help_opts(v->opts, out);
	fprintf(out, "\nfor every verb:\n");
	help_opts(ctl_globals, out);
}

static void help_all(FILE *out)
{
	char left[64];

	fprintf(out, "usage: ipsecctl [VERB] ...            bare: show\n\n");
	for (const struct ctl_verb *v = ctl_verbs; v->name; v++) {
		if (v->hidden)
			continue;
		snprintf(left, sizeof left, "%s%s%s%s%s", v->name, v->sub ? " " : "",
			 v->sub ? v->sub : "", *v->synopsis ? " " : "", v->synopsis);
		fprintf(out, "  %-*s %s%s\n", strlen(left) > 31 ? (int)strlen(left) : 31, left,
			strlen(left) > 31 ? "\n                                  " : "", v->help);
	}
	fprintf(out, "\n");
	help_opts(ctl_globals, out);
	fprintf(out, "\n-nf FILE (check), -sa (sa list) and -m (monitor) work as in OpenBSD's "
		     "ipsecctl.\n"
		     "exit: 0 ok, 1 error, 2 usage, 3 not found, 4 exists but down, 5 no daemon, 6 "
		     "refused\n");
}

void ctl_help(const struct ctl_verb *v, FILE *out)
{
	if (v)
		help_one(v, out);
	else
		help_all(out);
}

int cmd_help(struct ctl *c, int argc, char **argv)
{
	const struct ctl_verb *v = argc ? ctl_find(argv[0], argc > 1 ? argv[1] : NULL) : NULL;
	bool any = false;

	if (!argc || v) {
		ctl_help(v, stdout);
		return EXIT_OK_;
	}
	for (v = ctl_verbs; v->name; v++) { /* "link": all that begin so */
		if (v->hidden || strcmp(v->name, argv[0]))
			continue;
		printf("ipsecctl ");
		ctl_synopsis(v, stdout);
		printf("\n    %s\n", v->help);
		any = true;
	}
	return any ? EXIT_OK_ : ctl_usage(c, "there is no verb \"%s\"", argv[0]);
}

/* ---- completion ---- */

static void words_of(const struct ctl_opt *o, FILE *out)
{
	for (; o && o->name; o++)
		fprintf(out, " %s", o->name);
}

static bool first_of_name(const struct ctl_verb *v)
{
	for (const struct ctl_verb *u = ctl_verbs; u < v; u++)
		if (!strcmp(u->name, v->name))
			return false;
	return true;
}

/* What the words behind a verb are: a link, a file, keys, or nothing known. */
static const char *kind_of(const struct ctl_verb *v)
{
	if (strstr(v->synopsis, "KEY"))
		return "keys";
	if (strstr(v->synopsis, "LINK"))
		return "links";
	return strstr(v->synopsis, "FILE") ? "files" : "none";
}

static void verb_names(FILE *out)
{
	for (const struct ctl_verb *v = ctl_verbs; v->name; v++)
		if (!v->hidden && first_of_name(v))
			fprintf(out, " %s", v->name);
}

static void subs_of(const char *name, FILE *out)
{
	for (const struct ctl_verb *v = ctl_verbs; v->name; v++)
		if (!strcmp(v->name, name) && v->sub && !v->hidden)
			fprintf(out, " %s", v->sub);
}

static void link_keys(FILE *out)
{
	for (unsigned int i = 0; conf_link_key(i); i++)
		fprintf(out, " %s", conf_link_key(i));
}

/* Shared by bash and zsh (through bashcompinit): one function over plain word lists. */
static void bash_body(FILE *out)
{
	fprintf(out, "_ipsecctl_links() { ipsecctl show --json 2>/dev/null | grep -o "
		     "'\"name\":\"[^\"]*\"' | cut -d'\"' -f4; }\n"
		     "_ipsecctl() {\n"
		     "\tlocal cur=${COMP_WORDS[COMP_CWORD]} verb='' sub='' i w\n"
		     "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
		     "\t\tw=${COMP_WORDS[i]}\n"
		     "\t\tcase $w in -i|-n|--instance|--netns|--socket) ((i++)) ;; -*) ;;\n"
		     "\t\t*) if [ -z \"$verb\" ]; then verb=$w; elif [ -z \"$sub\" ]; then sub=$w; "
		     "fi ;; esac\n"
		     "\tdone\n"
		     "\tlocal opts='");
	words_of(ctl_globals, out);
	fprintf(out, "' words='' kind=none\n\tcase \"$verb $sub\" in\n\t' ') words='");
	verb_names(out);
	fprintf(out, "' ;;\n");
	for (const struct ctl_verb *v = ctl_verbs; v->name; v++) {
		if (v->hidden || !v->sub)
			continue;
		fprintf(out, "\t'%s %s') opts+='", v->name, v->sub);
		words_of(v->opts, out);
		fprintf(out, "' kind=%s ;;\n", kind_of(v));
	}
	for (const struct ctl_verb *v = ctl_verbs; v->name; v++) {
		if (v->hidden || !first_of_name(v))
			continue;
		fprintf(out, "\t'%s '%s) words='", v->name, v->sub ? "" : "*");
		subs_of(v->name, out);
		fprintf(out, "' opts+='");
		if (!v->sub)
			words_of(v->opts, out);
		fprintf(out, "' kind=%s ;;\n", v->sub ? "none" : kind_of(v));
	}
	fprintf(out, "\tesac\n"
		     "\tcase $cur in -*) words=$opts kind=none ;; esac\n"
		     "\tcase $kind in\n"
		     "\tlinks) words+=\" $(_ipsecctl_links)\" ;;\n"
		     "\tkeys) words+=\" $(_ipsecctl_links)");
	link_keys(out);
	fprintf(out, "\" ;;\n"
		     "\tfiles) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n"
		     "\tesac\n"
		     "\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
		     "}\n");
}

static void bash_script(FILE *out)
{
	fprintf(out, "# SPDX-License-Identifier: GPL-2.0-or-later\n# made by `ipsecctl completion "
		     "bash`; do not edit\n# shellcheck shell=bash disable=SC2207\n");
	bash_body(out);
	fprintf(out, "complete -F _ipsecctl ipsecctl\n");
}

static void zsh_script(FILE *out)
{
	fprintf(out, "#compdef ipsecctl\n# SPDX-License-Identifier: GPL-2.0-or-later\n# made by "
		     "`ipsecctl completion zsh`; do not edit\nautoload -Uz bashcompinit && "
		     "bashcompinit\n");
	bash_body(out);
	fprintf(out, "complete -F _ipsecctl ipsecctl\n");
}

static void fish_opts(const char *when, const struct ctl_opt *o, FILE *out)
{
	for (; o && o->name; o++) {
		fprintf(out, "complete -c ipsecctl%s%s%s -l %s", when ? " -n '" : "",
			when ? when : "", when ? "'" : "", o->name + 2);
		if (o->brief)
			fprintf(out, " -s %s", o->brief + 1);
		fprintf(out, "%s -d '%s'\n", o->arg ? " -x" : "", o->help);
	}
}

static void fish_script(FILE *out)
{
	char when[160];

	fprintf(out,
		"# SPDX-License-Identifier: GPL-2.0-or-later\n# made by `ipsecctl completion "
		"fish`; do not edit\n"
		"function __ipsecctl_links\n"
		"\tipsecctl show --json 2>/dev/null | string match -ra '\"name\":\"([^\"]*)\"' -g\n"
		"end\n"
		"complete -c ipsecctl -f\n");
	fish_opts(NULL, ctl_globals, out);
	for (const struct ctl_verb *v = ctl_verbs; v->name; v++) {
		if (v->hidden)
			continue;
		if (first_of_name(v))
			fprintf(out,
				"complete -c ipsecctl -n __fish_use_subcommand -a %s -d '%s'\n",
				v->name, v->sub ? "..." : v->help);
		if (v->sub)
			fprintf(out,
				"complete -c ipsecctl -n '__fish_seen_subcommand_from %s' -a %s -d "
				"'%s'\n",
				v->name, v->sub, v->help);
		snprintf(when, sizeof when, "__fish_seen_subcommand_from %s",
			 v->sub ? v->sub : v->name);
		if (!strcmp(kind_of(v), "links") || !strcmp(kind_of(v), "keys"))
			fprintf(out, "complete -c ipsecctl -n '%s' -a '(__ipsecctl_links)'\n",
				when);
		if (!strcmp(kind_of(v), "files"))
			fprintf(out, "complete -c ipsecctl -n '%s' -F\n", when);
		fish_opts(when, v->opts, out);
	}
}

int cmd_completion(struct ctl *c, int argc, char **argv)
{
	static const struct {
		const char *shell;
		void (*fn)(FILE *out);
	} shells[] = {{"bash", bash_script}, {"zsh", zsh_script}, {"fish", fish_script}};

	for (unsigned int i = 0; i < ARRAY_SIZE(shells); i++) {
		if (strcmp(argv[0], shells[i].shell))
			continue;
		shells[i].fn(stdout);
		return EXIT_OK_;
	}
	return ctl_usage(c, "completion for bash, zsh or fish");
}

/* ---- manual ---- */

/* troff: a hyphen is a minus in options; a dot or quote must not begin a line. */
static void roff(const char *s, FILE *out)
{
	if (*s == '.' || *s == '\'')
		fputs("\\&", out);
	for (; *s; s++) {
		if (*s == '-')
			fputs("\\-", out);
		else if (*s == '\\')
			fputs("\\e", out);
		else
			fputc(*s, out);
	}
}

static void man_opts(const struct ctl_opt *o, FILE *out)
{
	for (; o && o->name; o++) {
		fputs(".TP\n.BR ", out);
		if (o->brief) {
			roff(o->brief, out);
			fputs(" \", \" ", out);
		}
		roff(o->name, out);
		if (o->arg)
			fprintf(out, " \" \\fI%s\\fP\"", o->arg);
		fputc('\n', out);
		roff(o->help, out);
		fputs(".\n", out);
	}
}

/* Capitals in a synopsis are what the user fills in: italic. */
static void man_words(const char *s, FILE *out)
{
	bool italic = false;

	for (; *s; s++) {
		bool up = isupper((unsigned char)*s) ||
			  (italic && *s == '-' && isupper((unsigned char)s[1]));

		if (up != italic)
			fputs(up ? "\\fI" : "\\fP", out);
		italic = up;
		fputs(*s == '-' ? "\\-" : (char[]){*s, 0}, out);
	}
	if (italic)
		fputs("\\fP", out);
}

static void man_verb(const struct ctl_verb *v, FILE *out)
{
	fprintf(out, ".TP\n\\fB%s%s%s\\fP ", v->name, v->sub ? " " : "", v->sub ? v->sub : "");
	for (const struct ctl_opt *o = v->opts; o && o->name; o++) {
		fputc('[', out);
		man_words(o->name, out);
		fprintf(out, o->arg ? " \\fI%s\\fP] " : "] ", o->arg);
	}
	man_words(v->synopsis, out);
	fputc('\n', out);
	fputc(toupper((unsigned char)v->help[0]), out);
	roff(v->help + 1, out);
	fputs(v->needs_daemon || v->fn == cmd_help ? ".\n" : "; works without ipsecd.\n", out);
	if (v->more) {
		roff(v->more, out);
		fputc('\n', out);
	}
	if (!v->opts)
		return;
	fputs(".RS\n", out);
	man_opts(v->opts, out);
	fputs(".RE\n", out);
}

static const char man_head[] =
	".\\\" SPDX-License-Identifier: GPL-2.0-or-later\n.\\\" made by `ipsecctl man`; do not "
	"edit\n"
	".TH IPSECCTL 8 \"\" \"espwire " ESPWIRE_VERSION "\" \"System Administration\"\n"
	".SH NAME\nipsecctl \\- look at and change IPsec links\n"
	".SH SYNOPSIS\n.B ipsecctl\n[\\fIoptions\\fP] [\\fIverb\\fP ...]\n.br\n.B ipsecctl\n(the "
	"same as \\fBipsecctl show\\fP)\n"
	".SH DESCRIPTION\n"
	"A \\fIlink\\fP is a point-to-point device \\fBipsecN\\fP to one peer. An \\fIsa\\fP is "
	"one ESP security\n"
	"association of a link, a \\fIpath\\fP is the way its envelopes travel. \\fBipsecctl\\fP "
	"talks to\n"
	".BR ipsecd (8)\nover a Unix socket. Looking is for root and the group \\fBipsec\\fP, "
	"changing for root.\n"
	"A link may be named by its device (\\fBipsec1\\fP), by the alternative name of that "
	"(\\fBipsec:1\\fP), or by its peer.\n"
	".PP\nKeys are read from files and never printed; what is printed is a fingerprint.\n"
	".SH OPTIONS\n";

static const char man_tail[] =
	".SH OPENBSD NAMES\n\\fB\\-nf\\fP \\fIFILE\\fP is \\fBcheck\\fP, \\fB\\-sa\\fP is \\fBsa "
	"list\\fP, \\fB\\-m\\fP is \\fBmonitor\\fP.\n"
	".SH JSON\nWith \\fB\\-\\-json\\fP every verb prints one object with \\fBschema\\fP (1) "
	"and \\fBok\\fP; \\fBmonitor\\fP prints\n"
	"one per line. Every field is always there, \\fBnull\\fP when there is nothing to say; "
	"fields may be added, never\n"
	"changed. An error has \\fBexit\\fP, \\fBcode\\fP, \\fBerror\\fP and \\fBhint\\fP.\n"
	".SH EXIT STATUS\n";

static const char *const exits[] = {
	"it worked",
	"it failed",
	"the command line was wrong",
	"there is no such thing",
	"the link exists and is down",
	"ipsecd does not answer",
	"refused: not permitted, not confirmed, or the daemon still runs"};

static void man_page(FILE *out)
{
	fputs(man_head, out);
	man_opts(ctl_globals, out);
	fputs(".SH VERBS\n", out);
	for (const struct ctl_verb *v = ctl_verbs; v->name; v++)
		if (!v->hidden)
			man_verb(v, out);
	fputs(".SH DROP REASONS\nAs \\fBdrops\\fP prints them:\n", out);
#define X(name, str, text)                                                                         \
	fputs(".TP\n.B ", out), roff(str, out), fputc('\n', out), roff(text, out), fputc('\n', out);
	IPSEC_DROPS(X)
#undef X
	fputs(".SH STATES\nWhy a link is in its state:\n", out);
#define X(name, str, text)                                                                         \
	fputs(".TP\n.B ", out), roff(str, out), fputc('\n', out), roff(text, out), fputc('\n', out);
	LINK_REASONS(X)
#undef X
	fputs(man_tail, out);
	for (unsigned int i = 0; i < ARRAY_SIZE(exits); i++)
		fprintf(out, ".TP\n.B %u\n%s\n", i, exits[i]);
	fputs(".SH ENVIRONMENT\n.TP\n.B IPSEC_INSTANCE\nthe instance, when \\fB\\-i\\fP is not "
	      "given\n"
	      ".TP\n.B NO_COLOR\nno colours on a terminal\n"
	      ".SH FILES\n.TP\n.I /etc/ipsec/\\fPINSTANCE\\fI.conf\\fR, "
	      "\\fI/etc/ipsec/ipsecd.conf\nconfiguration\n"
	      ".TP\n.I /run/ipsec/\\fPINSTANCE\\fI/ctl.sock\ncontrol socket\n"
	      ".TP\n.I /var/lib/ipsec/\\fPINSTANCE\ndurable state of static keys\n"
	      ".TP\n.I /sys/fs/bpf/ipsec/\\fPINSTANCE\npinned maps, programs and attachments\n"
	      ".SH SEE ALSO\n.BR ipsecd (8),\n.BR ipsecd.conf (5),\n.BR ip (8),\n.BR bpftool (8)\n",
	      out);
}

int cmd_man(struct ctl *c, int argc, char **argv)
{
	man_page(stdout);
	return EXIT_OK_;
}
