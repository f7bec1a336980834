/* SPDX-License-Identifier: GPL-2.0-or-later */
/* conf_val - one word or phrase of the configuration to a field, or a sentence why not. */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include "conf_int.h"

int conf_bad(struct why *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(w->buf, w->len, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* Edit distance with transpositions; 99 for words no key is as long as. */
static unsigned int distance(const char *a, const char *b)
{
	enum { W = 24 };
	size_t la = strlen(a), lb = strlen(b);
	unsigned char d[W + 1][W + 1];

	if (la > W || lb > W)
		return 99;
	for (size_t i = 0; i <= la; i++) {
		for (size_t j = 0; j <= lb; j++) {
			unsigned int best = i + j;

			if (i && j) {
				best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
				best = MIN(best, d[i - 1][j] + 1u);
				best = MIN(best, d[i][j - 1] + 1u);
			}
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				best = MIN(best, d[i - 2][j - 2] + 1u);
			d[i][j] = best;
		}
	}
	return d[la][lb];
}

const char *conf_nearer(const char *word, const char *best, const char *cand)
{
	unsigned int dist = distance(word, cand);

	if (dist > 2 || dist >= strlen(cand))
		return best;
	return best && distance(word, best) <= dist ? best : cand;
}

int conf_pick(const char *v, const char *const *names, struct why *w)
{
	char list[160] = "";
	int i;

	for (i = 0; names[i]; i++) {
		if (!strcmp(v, names[i]))
			return i;
		sprintf(list + strlen(list), "%s%s", i ? ", " : "", names[i]);
	}
	return conf_bad(w, "'%s' is none of: %s", v, list);
}

/* Decimal, or hexadecimal behind 0x; never octal. */
int conf_number(const char *s, uint64_t min, uint64_t max, uint64_t *out)
{
	bool hex = s[0] == '0' && (s[1] == 'x' || s[1] == 'X');
	const char *digits = hex ? s + 2 : s;
	unsigned long long n;
	char *end;

	if (!isxdigit((unsigned char)*digits))
		return -EINVAL;
	errno = 0;
	n = strtoull(digits, &end, hex ? 16 : 10);
	if (*end || errno || n < min || n > max)
		return -EINVAL;
	*out = n;
	return 0;
}

static const struct unit count_units[] = {{"", 1},         {"k", 1000},     {"M", 1000000},
					  {"Ki", 1 << 10}, {"Mi", 1 << 20}, {0}};
const struct unit conf_time_units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {0}};

int conf_with_unit(const char *s, const struct unit *u, uint64_t min, uint64_t max, uint64_t *out)
{
	size_t n = strspn(s, "0123456789");
	uint64_t v = 0;

	if (!n || n > 12)
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		v = v * 10 + (s[i] - '0');
	while (u->suffix && strcmp(u->suffix, s + n))
		u++;
	if (!u->suffix || v > max / u->factor || v * u->factor < min)
		return -EINVAL;
	*out = v * u->factor;
	return 0;
}

int conf_count(const char *v, uint32_t min, uint32_t max, uint32_t *out, struct why *w)
{
	uint64_t n;

	if (conf_with_unit(v, count_units, min, max, &n))
		return conf_bad(w, "'%s' is no number from %u to %u", v, min, max);
	*out = n;
	return 0;
}

/* Names that become file names, aliases or words of a command line. */
bool conf_is_name(const char *s, size_t max, const char *extra)
{
	size_t n = strlen(s);

	if (!n || n >= max || !isalnum((unsigned char)*s))
		return false;
	for (; *s; s++)
		if ((unsigned char)*s > 127 || (!isalnum((unsigned char)*s) && !strchr(extra, *s)))
			return false;
	return true;
}

/* RFC 1123 host name. A last label of digits only is a mistyped address, never a name. */
bool conf_is_host(const char *s)
{
	const char *label = s, *p;
	bool digits = true;

	if (!*s || strlen(s) >= HOST_MAX)
		return false;
	for (p = s;; p++) {
		if (*p == '.' || !*p) {
			if (p == label || p - label > 63 || *label == '-' || p[-1] == '-')
				return false;
			if (!*p)
				return !digits;
			label = p + 1;
			digits = true;
		} else if ((unsigned char)*p > 127 ||
			   !(isalnum((unsigned char)*p) || *p == '-' || *p == '_')) {
			return false;
		} else if (!isdigit((unsigned char)*p)) {
			digits = false;
		}
	}
}

static bool is_multicast(const struct in6_addr *a)
{
	return addr_is4(a) ? a->s6_addr[12] >= 224 : IN6_IS_ADDR_MULTICAST(a);
}

static bool is_unspecified(const struct in6_addr *a)
{
	return addr_is4(a) ? a->s6_addr[12] == 0 : IN6_IS_ADDR_UNSPECIFIED(a);
}

/* Not multicast, unspecified, loopback or link-local v6 (that would need an interface beside it).
 */
bool conf_usable(const struct in6_addr *a)
{
	if (is_multicast(a) || is_unspecified(a))
		return false;
	return addr_is4(a) ? a->s6_addr[12] != 127
			   : !IN6_IS_ADDR_LOOPBACK(a) && !IN6_IS_ADDR_LINKLOCAL(a);
}

char *conf_word(char **rest)
{
	return strtok_r(NULL, " \t", rest);
}

/* Values come from files, the control socket and the command line: nothing unprintable goes on. */
bool conf_printable(const char *s)
{
	for (; *s; s++)
		if (((unsigned char)*s < 0x20 && *s != '\t') || *s == 0x7f)
			return false;
	return true;
}

void conf_put(FILE *out, const char *key, const char *fmt, ...)
{
	va_list ap;

	fprintf(out, "%-9s = ", key);
	va_start(ap, fmt);
	vfprintf(out, fmt, ap);
	va_end(ap);
	fputc('\n', out);
}

/* --- prefix lists -------------------------------------------------------------- */

bool conf_prefixes_equal(const struct prefixes *a, const struct prefixes *b)
{
	if (a->n != b->n)
		return false;
	for (unsigned int i = 0; i < a->n; i++)
		if (!prefix_same(&a->p[i], &b->p[i]))
			return false;
	return true;
}

void conf_prefixes_free(struct prefixes *l)
{
	free(l->p);
	l->p = NULL;
	l->n = 0;
}

int conf_prefixes_copy(struct prefixes *dst, const struct prefixes *src)
{
	dst->p = NULL;
	dst->n = 0;
	if (!src->n)
		return 0;
	dst->p = malloc(src->n * sizeof *src->p);
	if (!dst->p)
		return -ENOMEM;
	memcpy(dst->p, src->p, src->n * sizeof *src->p);
	dst->n = src->n;
	return 0;
}

/* Host bits set: say what was probably meant. */
static int bad_prefix(const char *s, struct why *w)
{
	char text[INET6_ADDRSTRLEN + 4], *slash;
	struct in6_addr a;
	uint64_t len;
	bool is4;

	if (strlen(s) >= sizeof text)
		return conf_bad(w, "'%.60s...' is no prefix: write ADDRESS/LENGTH", s);
	strcpy(text, s);
	slash = strchr(text, '/');
	if (!slash)
		return conf_bad(
			w, "'%s' is no prefix: write ADDRESS/LENGTH, as 10.2.0.0/16 or fd02::/48",
			s);
	*slash = 0;
	if (addr_parse(text, &a))
		return conf_bad(
			w, "'%s' is no prefix: write ADDRESS/LENGTH, as 10.2.0.0/16 or fd02::/48",
			s);
	is4 = addr_is4(&a);
	if (conf_number(slash + 1, 0, is4 ? 32 : 128, &len))
		return conf_bad(w, "'%s' is no prefix: the length is a number from 0 to %d", s,
				is4 ? 32 : 128);
	for (unsigned int bit = len + (is4 ? 96 : 0); bit < 128; bit++)
		a.s6_addr[bit / 8] &= ~(0x80 >> bit % 8);
	return conf_bad(w, "'%s' has bits set behind its length: write %s/%u", s,
			addr_str(&a, text), (unsigned int)len);
}

static int add_prefix(struct prefixes *l, const char *s, struct why *w)
{
	struct prefix p = {0}, *grown;

	if (prefix_parse(s, &p))
		return bad_prefix(s, w);
	for (unsigned int i = 0; i < l->n; i++)
		if (prefix_same(&l->p[i], &p))
			return conf_bad(w, "'%s' is listed twice", s);
	if (l->n == PREFIXES_MAX)
		return conf_bad(w, "more than %d prefixes in one list", PREFIXES_MAX);
	grown = realloc(l->p, (l->n + 1) * sizeof p);
	if (!grown)
		return conf_bad(w, "out of memory");
	l->p = grown;
	l->p[l->n++] = p;
	return 0;
}

/* All of v or nothing is appended. */
int conf_prefixes_add(struct prefixes *l, char *v, struct why *w)
{
	unsigned int before = l->n;
	char *rest, *s;

	for (s = strtok_r(v, ", \t", &rest); s; s = strtok_r(NULL, ", \t", &rest)) {
		if (add_prefix(l, s, w)) {
			l->n = before;
			return -EINVAL;
		}
	}
	if (l->n == before)
		return conf_bad(w, "at least one prefix is needed, as 10.2.0.0/16");
	return 0;
}

void conf_prefixes_print(const char *key, const struct prefixes *l, FILE *out)
{
	char buf[INET6_ADDRSTRLEN + 4];

	/* several lines rather than one that no editor or parser likes */
	for (unsigned int i = 0; i < l->n; i++) {
		if (i % 8 == 0)
			fprintf(out, "%s%-9s = ", i ? "\n" : "", key);
		fprintf(out, "%s%s", i % 8 ? ", " : "", prefix_str(&l->p[i], buf));
	}
	if (l->n)
		fputc('\n', out);
}

int conf_set_file(char *to, size_t len, const char *v, struct why *w)
{
	if (*v != '/' || v[strcspn(v, " \t")])
		return conf_bad(w, "write /ABSOLUTE/PATH of a file, without blanks; secrets never stand here");
	if (strlen(v) >= len)
		return conf_bad(w, "the path is longer than %zu", len - 1);
	strcpy(to, v);
	return 0;
}
