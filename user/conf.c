/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * conf - see conf.h. The keys of [ipsecd] and [underlay], printing, and the loader: files,
 * sections, line numbers, all errors in one go. Values and the keys of a link have their own files.
 *
 * libinih cuts lines into key and value. It reports neither empty sections nor lines, and would
 * cut section names at 49 characters; so our reader counts lines and keeps the section itself.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdlib.h>
#include "conf_int.h"
#include "ipsec_shared.h"

enum {
	LINE_LEN_MAX = 65536,
	LINKS = 4096,
	GSO_QUEUE = 1000,
	GSO_QUEUE_MIN = 16,
	GSO_QUEUE_MAX = 1000000,
	XSK_QUEUE = 4096,
	XSK_QUEUE_MIN = 512,
	XSK_QUEUE_MAX = 65536
};

#define VICI_SOCKET "/run/charon.vici" /* where Debian's strongSwan listens */

static const char *const crypto_names[] = {"auto", "ipsec-mb", "openssl", NULL};
static const char *const esp_names[] = {"ours", "shared", NULL};
static const char *const yes_names[] = {"no", "yes", NULL};

/* struct main_key - one key of [ipsecd] or [underlay] */
struct main_key {
	const char *section, *name;
	bool repeat;
	int (*set)(struct conf *c, char *v, struct why *w);
	void (*print)(const struct conf *c, FILE *out, bool all);
};

static int set_instance(struct conf *c, char *v, struct why *w)
{
	/* becomes a directory of bpffs, which refuses dots */
	if (!conf_is_name(v, sizeof c->instance, "_-"))
		return conf_bad(
			w, "'%.80s' is no instance name: letters, digits, _ and -, at most %zu", v,
			sizeof c->instance - 1);
	snprintf(c->instance, sizeof c->instance, "%s", v);
	return 0;
}

static int set_workers(struct conf *c, char *v, struct why *w)
{
	uint64_t n = 0;

	if (strcmp(v, "auto") && conf_number(v, 1, WORKER_MAX, &n))
		return conf_bad(w, "'%s' is neither 'auto' nor a number from 1 to %d", v,
				WORKER_MAX);
	c->workers = n;
	return 0;
}

static int set_crypto(struct conf *c, char *v, struct why *w)
{
	int i = conf_pick(v, crypto_names, w);

	if (i >= 0)
		snprintf(c->crypto, sizeof c->crypto, "%s", crypto_names[i]);
	return MIN(i, 0);
}

static int set_max_links(struct conf *c, char *v, struct why *w)
{
	return conf_count(v, 1, LINK_MAX, &c->max_links, w);
}

static int set_gso_queue(struct conf *c, char *v, struct why *w)
{
	return conf_count(v, GSO_QUEUE_MIN, GSO_QUEUE_MAX, &c->gso_queue, w);
}

static int set_xsk_queue(struct conf *c, char *v, struct why *w)
{
	return conf_count(v, XSK_QUEUE_MIN, XSK_QUEUE_MAX, &c->xsk_queue, w);
}

static int set_audit(struct conf *c, char *v, struct why *w)
{
	int i = conf_pick(v, yes_names, w);

	if (i >= 0)
		c->audit = i;
	return MIN(i, 0);
}

static int set_ike_socket(struct conf *c, char *v, struct why *w)
{
	return conf_set_file(c->ike_socket, sizeof c->ike_socket, v, w);
}

static int set_vici_socket(struct conf *c, char *v, struct why *w)
{
	return conf_set_file(c->vici_socket, sizeof c->vici_socket, v, w);
}

static bool is_pattern(const char *s)
{
	if (!*s || strlen(s) >= IFNAMSIZ || strchr(s, '/') || *s == '#' || *s == ';')
		return false; /* the last two would print as a comment */
	for (; *s; s++)
		if (!isgraph((unsigned char)*s) || (unsigned char)*s > 126)
			return false;
	return true;
}

static int add_pattern(char (**list)[IFNAMSIZ], unsigned int *n, const char *s, struct why *w)
{
	char (*grown)[IFNAMSIZ];

	if (!strcmp(s, "auto"))
		return conf_bad(w, "'auto' beside device names");
	if (!is_pattern(s))
		return conf_bad(w, "'%.40s' is no device name or pattern, as eth1 or ppp*", s);
	for (unsigned int i = 0; i < *n; i++)
		if (!strcmp((*list)[i], s))
			return conf_bad(w, "'%s' is listed twice", s);
	grown = realloc(*list, (*n + 1) * sizeof *grown);
	if (!grown)
		return conf_bad(w, "out of memory");
	*list = grown;
	memset(grown[*n], 0, IFNAMSIZ);
	strcpy(grown[(*n)++], s);
	return 0;
}

static int add_patterns(char (**list)[IFNAMSIZ], unsigned int *n, char *v, struct why *w)
{
	char *rest, *s;

	for (s = strtok_r(v, ", \t", &rest); s; s = strtok_r(NULL, ", \t", &rest))
		if (add_pattern(list, n, s, w))
			return -EINVAL;
	return *n ? 0 : conf_bad(w, "write device names or patterns, as eth1 ppp*");
}

static int add_devices(struct conf *c, char *v, struct why *w)
{
	int err;

	if (!strcmp(v, "auto"))
		return c->n_devices ? conf_bad(w, "'auto' beside device names") : 0;
	if (!v[strspn(v, ", \t")])
		return conf_bad(w, "write 'auto' or device names and patterns, as eth1 ppp*");
	err = add_patterns(&c->devices, &c->n_devices, v, w);
	c->devices_auto = !c->n_devices;
	return err;
}

static int add_lan(struct conf *c, char *v, struct why *w)
{
	return add_patterns(&c->lan, &c->n_lan, v, w);
}

static int add_shortcut(struct conf *c, char *v, struct why *w)
{
	return add_patterns(&c->shortcut, &c->n_shortcut, v, w);
}

static int set_esp(struct conf *c, char *v, struct why *w)
{
	int i = conf_pick(v, esp_names, w);

	if (i >= 0)
		c->esp_shared = i;
	return MIN(i, 0);
}

static int set_default_input(struct conf *c, char *v, struct why *w)
{
	int i = conf_pick(v, conf_input_names, w);

	if (i >= 0)
		c->input = i;
	return MIN(i, 0);
}

static void print_instance(const struct conf *c, FILE *out, bool all)
{
	if (c->instance[0])
		conf_put(out, "instance", "%s", c->instance);
}

static void print_workers(const struct conf *c, FILE *out, bool all)
{
	if (c->workers)
		conf_put(out, "workers", "%u", c->workers);
	else if (all)
		conf_put(out, "workers", "auto");
}

static void print_crypto(const struct conf *c, FILE *out, bool all)
{
	if (all || strcmp(c->crypto, crypto_names[0]))
		conf_put(out, "crypto", "%s", c->crypto);
}

static void print_max_links(const struct conf *c, FILE *out, bool all)
{
	if (all || c->max_links != LINKS)
		conf_put(out, "max-links", "%u", c->max_links);
}

static void print_gso_queue(const struct conf *c, FILE *out, bool all)
{
	if (all || c->gso_queue != GSO_QUEUE)
		conf_put(out, "gso-queue", "%u", c->gso_queue);
}

static void print_xsk_queue(const struct conf *c, FILE *out, bool all)
{
	if (all || c->xsk_queue != XSK_QUEUE)
		conf_put(out, "xsk-queue", "%u", c->xsk_queue);
}

static void print_audit(const struct conf *c, FILE *out, bool all)
{
	if (all || c->audit)
		conf_put(out, "audit", "%s", yes_names[c->audit]);
}

static void print_ike_socket(const struct conf *c, FILE *out, bool all)
{
	if (c->ike_socket[0])
		conf_put(out, "ike-socket", "%s", c->ike_socket);
}

static void print_vici_socket(const struct conf *c, FILE *out, bool all)
{
	if (all || strcmp(c->vici_socket, VICI_SOCKET))
		conf_put(out, "vici-socket", "%s", c->vici_socket);
}

static void print_patterns(const char *key, char (*list)[IFNAMSIZ], unsigned int n, FILE *out)
{
	for (unsigned int i = 0; i < n; i++) {
		if (i % 8)
			fputc(' ', out);
		else
			fprintf(out, "%s%-9s = ", i ? "\n" : "", key);
		fputs(list[i], out);
	}
	if (n)
		fputc('\n', out);
}

static void print_devices(const struct conf *c, FILE *out, bool all)
{
	print_patterns("devices", c->devices, c->n_devices, out);
	if (!c->n_devices && all)
		conf_put(out, "devices", "auto");
}

static void print_lan(const struct conf *c, FILE *out, bool all)
{
	print_patterns("lan", c->lan, c->n_lan, out);
}

static void print_shortcut(const struct conf *c, FILE *out, bool all)
{
	print_patterns("shortcut", c->shortcut, c->n_shortcut, out);
}

static void print_esp(const struct conf *c, FILE *out, bool all)
{
	if (all || c->esp_shared)
		conf_put(out, "esp", "%s", esp_names[c->esp_shared]);
}

static void print_default_input(const struct conf *c, FILE *out, bool all)
{
	if (all || c->input != INPUT_AUTO)
		conf_put(out, "input", "%s", conf_input_names[c->input]);
}

static const struct main_key main_keys[] = {
	{"ipsecd", "instance", false, set_instance, print_instance},
	{"ipsecd", "workers", false, set_workers, print_workers},
	{"ipsecd", "crypto", false, set_crypto, print_crypto},
	{"ipsecd", "max-links", false, set_max_links, print_max_links},
	{"ipsecd", "gso-queue", false, set_gso_queue, print_gso_queue},
	{"ipsecd", "xsk-queue", false, set_xsk_queue, print_xsk_queue},
	{"ipsecd", "audit", false, set_audit, print_audit},
	{"ipsecd", "ike-socket", false, set_ike_socket, print_ike_socket},
	{"ipsecd", "vici-socket", false, set_vici_socket, print_vici_socket},
	{"underlay", "devices", true, add_devices, print_devices},
	{"underlay", "lan", true, add_lan, print_lan},
	{"underlay", "shortcut", true, add_shortcut, print_shortcut},
	{"underlay", "esp", false, set_esp, print_esp},
	{"underlay", "input", false, set_default_input, print_default_input},
};

void conf_init(struct conf *c)
{
	memset(c, 0, sizeof *c);
	strcpy(c->crypto, crypto_names[0]);
	c->max_links = LINKS;
	c->gso_queue = GSO_QUEUE;
	c->xsk_queue = XSK_QUEUE;
	c->devices_auto = true;
	c->trust_clock = true;
	strcpy(c->vici_socket, VICI_SOCKET);
}

void conf_free(struct conf *c)
{
	if (!c)
		return;
	for (unsigned int i = 0; i < c->n_links; i++)
		link_conf_free(&c->links[i]);
	free(c->links);
	free(c->devices);
	free(c->lan);
	free(c->shortcut);
	conf_init(c);
}

static bool same_patterns(char (*a)[IFNAMSIZ], unsigned int na, char (*b)[IFNAMSIZ], unsigned int nb)
{
	if (na != nb)
		return false;
	for (unsigned int i = 0; i < na; i++)
		if (strcmp(a[i], b[i]))
			return false;
	return true;
}

static bool devices_equal(const struct conf *a, const struct conf *b)
{
	return a->devices_auto == b->devices_auto &&
	       same_patterns(a->devices, a->n_devices, b->devices, b->n_devices) &&
	       same_patterns(a->lan, a->n_lan, b->lan, b->n_lan) &&
	       same_patterns(a->shortcut, a->n_shortcut, b->shortcut, b->n_shortcut);
}

bool conf_equal(const struct conf *a, const struct conf *b)
{
	if (strcmp(a->instance, b->instance) || a->workers != b->workers ||
	    strcmp(a->crypto, b->crypto) || a->max_links != b->max_links ||
	    a->gso_queue != b->gso_queue || a->xsk_queue != b->xsk_queue || a->audit != b->audit || a->esp_shared != b->esp_shared ||
	    a->input != b->input || strcmp(a->ike_socket, b->ike_socket) || strcmp(a->vici_socket, b->vici_socket) ||
	    a->n_links != b->n_links || !devices_equal(a, b))
		return false;
	for (unsigned int i = 0; i < a->n_links; i++)
		if (!link_conf_equal(&a->links[i], &b->links[i]))
			return false;
	return true;
}

/* --- printing --------------------------------------------------------------------- */

static void print_section(const struct conf *c, const char *section, FILE *out, bool all)
{
	size_t len = 0;
	char *text = NULL;
	FILE *mem = open_memstream(&text, &len);

	if (!mem)
		return;
	for (unsigned int i = 0; i < ARRAY_SIZE(main_keys); i++)
		if (!strcmp(main_keys[i].section, section))
			main_keys[i].print(c, mem, all);
	fclose(mem);
	if (len)
		fprintf(out, "[%s]\n%s\n", section, text);
	free(text);
}

void conf_print(const struct conf *c, FILE *out, bool all)
{
	print_section(c, "ipsecd", out, all);
	print_section(c, "underlay", out, all);
	for (unsigned int i = 0; i < c->n_links; i++) {
		conf_print_link_all(&c->links[i], out, all);
		if (i + 1 < c->n_links)
			fputc('\n', out);
	}
}

/* --- the loader ------------------------------------------------------------------- */

enum section { SECT_NONE, SECT_UNKNOWN, SECT_MAIN, SECT_LINK };

/* struct place - where a scalar was set first */
struct place {
	const char *file; /* lives as long as the loader */
	int line;
};

/* struct loader - one conf_load() */
struct loader {
	struct conf *c;
	FILE *errs;
	int errors;
	const char *file;
	int line;
	FILE *in;
	char *buf;
	size_t buf_len;
	bool first_line;
	enum section section;
	const char *main_name; /* SECT_MAIN: "ipsecd" or "underlay" */
	struct place main_seen[ARRAY_SIZE(main_keys)];
	int link_seen[N_LINK_KEYS]; /* SECT_LINK: line, 0 = not yet */
	uint64_t *mentioned;        /* parallel to c->links */
};

__attribute__((format(printf, 2, 3))) static void complain(struct loader *ld, const char *fmt, ...)
{
	va_list ap;

	ld->errors++;
	if (!ld->errs)
		return;
	fprintf(ld->errs, "%s:%d: ", ld->file, ld->line);
	va_start(ap, fmt);
	vfprintf(ld->errs, fmt, ap);
	va_end(ap);
	fputc('\n', ld->errs);
}

/* Room for one more link; grows at powers of two. */
static int grow_links(struct loader *ld)
{
	struct conf *c = ld->c;
	unsigned int cap = c->n_links ? c->n_links * 2 : 1;
	void *links, *mentioned;

	if (c->n_links & (c->n_links - 1))
		return 0;
	links = realloc(c->links, cap * sizeof *c->links);
	if (links)
		c->links = links;
	mentioned = realloc(ld->mentioned, cap * sizeof *ld->mentioned);
	if (mentioned)
		ld->mentioned = mentioned;
	return links && mentioned ? 0 : -ENOMEM;
}

static void begin_link(struct loader *ld, const char *name)
{
	struct conf *c = ld->c;
	struct link_conf *l;

	ld->section = SECT_UNKNOWN;
	if (c->n_links == LINK_MAX)
		return complain(ld, "more than %d links", LINK_MAX);
	if (grow_links(ld))
		return complain(ld, "out of memory");
	l = &c->links[c->n_links];
	link_conf_init(l);
	if (conf_link_name(name, l->name, &l->number))
		return complain(ld, "[link %s]: a link is called ipsecN or ipsec:N, N from 0 to %d",
				name, LINK_NUMBER_MAX);
	snprintf(l->src_file, sizeof l->src_file, "%s", ld->file);
	l->src_line = ld->line;
	memset(ld->link_seen, 0, sizeof ld->link_seen);
	ld->mentioned[c->n_links++] = 0;
	ld->section = SECT_LINK;
}

static void begin_section(struct loader *ld, char *kind, const char *name)
{
	static const char *const kinds[] = {"ipsecd", "underlay", "link"};
	const char *best = NULL;

	ld->section = SECT_UNKNOWN;
	if (kind && !strcmp(kind, "link")) {
		if (name)
			begin_link(ld, name);
		else
			complain(ld, "a link needs a name: [link ipsec1]");
		return;
	}
	if (kind && !name && (!strcmp(kind, kinds[0]) || !strcmp(kind, kinds[1]))) {
		ld->section = SECT_MAIN;
		ld->main_name = *kind == 'i' ? kinds[0] : kinds[1];
		return;
	}
	for (unsigned int i = 0; kind && i < ARRAY_SIZE(kinds); i++)
		best = conf_nearer(kind, best, kinds[i]);
	if (best)
		complain(ld, "unknown section [%.60s]: did you mean [%s%s]?", kind, best,
			 *best == 'l' ? " ipsecN" : "");
	else
		complain(ld, "unknown section; there are [ipsecd], [underlay] and [link ipsecN]");
}

/* s: behind the opening bracket */
static void section_line(struct loader *ld, char *s)
{
	char *end = strchr(s, ']'), *behind, *rest, *kind, *name;

	ld->section = SECT_UNKNOWN;
	if (!end)
		return complain(ld, "']' is missing");
	behind = end + 1 + strspn(end + 1, " \t\r\n");
	if (*behind && ((*behind != '#' && *behind != ';') || behind == end + 1))
		return complain(ld, "text behind ']'");
	*end = 0;
	kind = strtok_r(s, " \t", &rest);
	name = kind ? conf_word(&rest) : NULL;
	if (name && conf_word(&rest))
		return complain(ld, "a section is [ipsecd], [underlay] or [link ipsecN]");
	begin_section(ld, kind, name);
}

static bool bad_line(struct loader *ld, ssize_t n)
{
	if (n >= LINE_LEN_MAX) {
		complain(ld, "the line is longer than %d bytes; lists may go over several lines",
			 LINE_LEN_MAX - 1);
		return true;
	}
	if (n && ld->buf[n - 1] == '\n')
		ld->buf[--n] = 0;
	if (n && ld->buf[n - 1] == '\r')
		ld->buf[--n] = 0;
	if (strlen(ld->buf) != (size_t)n || !conf_printable(ld->buf)) {
		complain(ld, "control character in the line");
		return true;
	}
	return false;
}

/*
 * ini_reader: one whole line, "" for what we dealt with ourselves, NULL at the end. Indented lines
 * would continue the value above them: the blanks go.
 */
static char *next_line(char *str, int num, void *arg)
{
	struct loader *ld = arg;
	ssize_t n = getline(&ld->buf, &ld->buf_len, ld->in);
	char *s;

	if (n < 0)
		return NULL;
	ld->line++;
	*str = 0;
	if (bad_line(ld, n) || n >= num)
		return str;
	s = ld->buf;
	if (ld->line == 1 && !strncmp(s, "\xef\xbb\xbf", 3))
		s += 3;
	s += strspn(s, " \t");
	if (*s == '[')
		section_line(ld, s + 1);
	else
		strcpy(str, s);
	return str;
}

static void link_line(struct loader *ld, const char *key, const char *value)
{
	char text[400] = "";
	struct why w = {text, sizeof text};
	unsigned int last = ld->c->n_links - 1;
	int i = conf_link_key_index(key), slot = i == KEY_IKE ? KEY_SA : i;

	for (unsigned int j = 0; i < 0 && j < ARRAY_SIZE(main_keys); j++)
		if (!strcmp(key, main_keys[j].name))
			return complain(ld, "unknown key '%s': it belongs into [%s]", key,
					main_keys[j].section);
	if (i < 0) {
		conf_unknown_link_key(key, &w);
		return complain(ld, "%s", text);
	}
	ld->mentioned[last] |= UINT64_C(1) << i;
	if (!conf_link_keys[i].repeat && ld->link_seen[slot])
		return complain(ld, "'%s' is given twice, first on line %d%s", key,
				ld->link_seen[slot],
				slot == KEY_SA ? " (sa and ike are one choice)" : "");
	ld->link_seen[slot] = ld->line;
	if (conf_set_link_key(&ld->c->links[last], i, value, &w))
		complain(ld, "%s: %s", key, text);
}

static void unknown_main_key(struct loader *ld, const char *key)
{
	const char *best = NULL;

	for (unsigned int i = 0; i < ARRAY_SIZE(main_keys); i++) {
		if (!strcmp(key, main_keys[i].name))
			return complain(ld, "unknown key '%s': it belongs into [%s]", key,
					main_keys[i].section);
		if (!strcmp(ld->main_name, main_keys[i].section))
			best = conf_nearer(key, best, main_keys[i].name);
	}
	if (best)
		complain(ld, "unknown key '%s': did you mean '%s'?", key, best);
	else if (conf_link_key_index(key) >= 0)
		complain(ld, "unknown key '%s': it belongs into [link ipsecN]", key);
	else
		complain(ld, "unknown key '%.40s' in [%s]", key, ld->main_name);
}

static void main_line(struct loader *ld, const char *key, char *value)
{
	char text[400] = "";
	struct why w = {text, sizeof text};

	for (unsigned int i = 0; i < ARRAY_SIZE(main_keys); i++) {
		struct place *seen = &ld->main_seen[i];

		if (strcmp(key, main_keys[i].name) || strcmp(ld->main_name, main_keys[i].section))
			continue;
		if (!main_keys[i].repeat && seen->file)
			return complain(ld, "'%s' is given twice, first at %s:%d", key, seen->file,
					seen->line);
		*seen = (struct place){ld->file, ld->line};
		if (!*value)
			complain(ld, "%s: a value is missing", key);
		else if (main_keys[i].set(ld->c, value, &w))
			complain(ld, "%s: %s", key, text);
		return;
	}
	unknown_main_key(ld, key);
}

/* ini_handler: value is NULL for a line without '='. It points into inih's line buffer: ours to cut
 * up. */
static int key_line(void *arg, const char *section, const char *key, const char *value)
{
	struct loader *ld = arg;

	if (ld->section == SECT_UNKNOWN)
		return 1; /* complained about already */
	if (!value || !*key || strpbrk(key, " \t"))
		complain(ld, "write KEY = VALUE");
	else if (ld->section == SECT_LINK)
		link_line(ld, key, value);
	else if (ld->section == SECT_MAIN)
		main_line(ld, key, (char *)value);
	else if (ld->section == SECT_NONE)
		complain(ld,
			 "'%.40s' stands in no section; begin with [ipsecd], [underlay] or [link "
			 "ipsecN]",
			 key);
	return 1;
}

static void read_all(struct loader *ld, FILE *in, const char *name)
{
	/* Debian builds these as variables; lines of 200 bytes and ';' alone are the defaults. */
	ini_max_line = LINE_LEN_MAX + 1;
	ini_inline_comment_prefixes = ";#";
	ini_allow_no_value = true;

	ld->in = in;
	ld->file = name;
	ld->line = 0;
	ld->section = SECT_NONE;
	if (ini_parse_stream(next_line, ld, key_line, ld) == -2)
		complain(ld, "out of memory");
	if (ferror(in))
		complain(ld, "read error: %s", strerror(errno));
}

static int finish(struct loader *ld)
{
	ld->errors += conf_check_all(ld->c, ld->errs, ld->mentioned);
	free(ld->mentioned);
	free(ld->buf);
	return ld->errors;
}

int conf_parse_string(struct conf *c, const char *text, const char *name, FILE *errs)
{
	struct loader ld = {.c = c, .errs = errs};
	FILE *in;

	conf_init(c);
	in = *text ? fmemopen((char *)text, strlen(text), "r") : fopen("/dev/null", "re");
	if (!in)
		return -errno;
	read_all(&ld, in, name);
	fclose(in);
	return finish(&ld);
}

static int is_drop_in(const struct dirent *d)
{
	size_t n = strlen(d->d_name);

	return d->d_name[0] != '.' && n > 5 && !strcmp(d->d_name + n - 5, ".conf");
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void read_drop_in(struct loader *ld, const char *file)
{
	FILE *in = fopen(file, "re");

	if (!in) {
		ld->errors++;
		if (ld->errs)
			fprintf(ld->errs, "%s: cannot read: %s\n", file, strerror(errno));
		return;
	}
	read_all(ld, in, file);
	fclose(in);
}

/* Names of the files in dir, joined, sorted; *n_out of them. NULL when there is nothing to read. */
static char **drop_ins(struct loader *ld, const char *dir, int *n_out)
{
	struct dirent **ents = NULL;
	int n = scandir(dir, &ents, is_drop_in, by_name);
	char **names = NULL;

	*n_out = 0;
	if (n < 0 && errno != ENOENT) {
		ld->errors++;
		if (ld->errs)
			fprintf(ld->errs, "%s: cannot read: %s\n", dir, strerror(errno));
	}
	if (n > 0)
		names = calloc(n, sizeof *names);
	for (int i = 0; i < n; i++) {
		if (names && asprintf(&names[*n_out], "%s/%s", dir, ents[i]->d_name) >= 0)
			++*n_out;
		else
			ld->errors++;
		free(ents[i]);
	}
	free(ents);
	return names;
}

int conf_load(struct conf *c, const char *file, FILE *errs)
{
	struct loader ld = {.c = c, .errs = errs};
	size_t len = strlen(file);
	char *dir = NULL, **names;
	int n, err;
	FILE *in;

	conf_init(c);
	in = fopen(file, "re");
	if (!in) {
		err = -errno;
		if (errs)
			fprintf(errs, "%s: cannot read: %s\n", file, strerror(-err));
		return err;
	}
	read_all(&ld, in, file);
	fclose(in);
	if (len > 5 && !strcmp(file + len - 5, ".conf"))
		len -= 5;
	if (asprintf(&dir, "%.*s.d", (int)len, file) < 0) {
		finish(&ld);
		return -ENOMEM;
	}
	names = drop_ins(&ld, dir, &n);
	for (int i = 0; i < n; i++)
		read_drop_in(&ld, names[i]);
	err = finish(&ld);
	for (int i = 0; i < n; i++)
		free(names[i]);
	free(names);
	free(dir);
	return err;
}
