/* SPDX-License-Identifier: GPL-2.0-or-later */
/* conf_int - private to the conf*.c files: values, keys of a link, the pass over all links. */
#ifndef CONF_INT_H
#define CONF_INT_H

#include "conf.h"

extern const char *const conf_input_names[];

/** struct why - where the sentence goes that explains a refusal */
struct why {
	char *buf;
	size_t len;
};

/** struct unit - suffix and what it multiplies by */
struct unit {
	const char *suffix;
	uint64_t factor;
};
extern const struct unit conf_time_units[];

/** struct link_key - one key of a [link] section; off, len = its bytes in struct link_conf */
struct link_key {
	const char *name;
	bool repeat;
	size_t off, len;
	struct prefixes *(*list)(struct link_conf *l);
	int (*set)(struct link_conf *l, char *v, struct why *w);
	void (*print)(const struct link_conf *l, FILE *out, bool all);
};
extern const struct link_key conf_link_keys[];
enum { KEY_PEER = 0, KEY_PATH = 4, KEY_SA = 14, KEY_IKE = 15, N_LINK_KEYS = 39 /* bits of struct loader.mentioned */ };

/* conf_val.c: one word or phrase to a field; refusals are -EINVAL with the sentence in w */
int conf_bad(struct why *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** conf_nearer() - the better guess of best and cand at what word meant; NULL: none is close */
const char *conf_nearer(const char *word, const char *best, const char *cand);
int conf_pick(const char *v, const char *const *names, struct why *w); /**< index in names */
int conf_number(const char *s, uint64_t min, uint64_t max, uint64_t *out);
int conf_with_unit(const char *s, const struct unit *u, uint64_t min, uint64_t max, uint64_t *out);
int conf_count(const char *v, uint32_t min, uint32_t max, uint32_t *out, struct why *w);
bool conf_is_name(const char *s, size_t max, const char *extra);
bool conf_is_host(const char *s);
bool conf_usable(const struct in6_addr *a);
bool conf_printable(const char *s);
char *conf_word(char **rest); /**< next one of strtok_r(3) at blanks */
void conf_put(FILE *out, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
bool conf_prefixes_equal(const struct prefixes *a, const struct prefixes *b);
void conf_prefixes_free(struct prefixes *l);
int conf_prefixes_copy(struct prefixes *dst, const struct prefixes *src);
int conf_prefixes_add(struct prefixes *l, char *v, struct why *w);
void conf_prefixes_print(const char *key, const struct prefixes *l, FILE *out);

int conf_set_file(char *to, size_t len, const char *v, struct why *w); /**< an absolute path without blanks */

/* conf_link.c */
int conf_link_key_index(const char *name); /**< or -ENOENT */
int conf_set_link_key(struct link_conf *l, unsigned int key, const char *value, struct why *w);
int conf_unknown_link_key(const char *key, struct why *w);
bool conf_path_literal(const struct path_conf *p);
void conf_print_link_all(const struct link_conf *l, FILE *out, bool all);

/* conf_check.c; mentioned: per link, bits of the keys that occurred, bad values too; or NULL */
int conf_check_all(const struct conf *c, FILE *errs, const uint64_t *mentioned);

#endif
