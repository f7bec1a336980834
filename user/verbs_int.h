/* SPDX-License-Identifier: GPL-2.0-or-later */
/* verbs_int - what the verbs_*.c files share; nobody else includes this. */
#ifndef VERBS_INT_H
#define VERBS_INT_H

#include "control.h"
#include "verbs.h"

struct verbs {
	struct daemon *d;
	sd_event *ev;
	sd_event_source *rollback; /* armed while a configuration waits for `confirm` */
	char *rollback_text;       /* the configuration to go back to, as conf_print() wrote it */
	uint64_t rollback_ns;      /* when, CLOCK_BOOTTIME */
};

typedef json_t *verb_fn(struct verbs *v, json_t *args);
verb_fn verb_show, verb_path_list, verb_drops, verb_perf, verb_why, verb_mtu;

/* ---- building objects: a field is set whatever its value, null when there is none ---- */

/** vj_put() - takes v; NULL = null */
void vj_put(json_t *o, const char *key, json_t *v);
/** vj_str() - NULL or "" = null; what is not UTF-8 gets '?' */
void vj_str(json_t *o, const char *key, const char *s);
/** vj_int() - above 2^63-1: clamped */
void vj_int(json_t *o, const char *key, uint64_t v);
void vj_bool(json_t *o, const char *key, bool v);
/** vj_hex() - "0x..." */
void vj_hex(json_t *o, const char *key, uint64_t v, int digits);
/** vj_addr() - unspecified = null */
void vj_addr(json_t *o, const char *key, const struct in6_addr *a);
/** vj_age() - seconds, ms precision; then 0 = null */
void vj_age(json_t *o, const char *key, uint64_t then_ns, uint64_t now);
/** vj_ok() - {"schema":1,"ok":true,"instance":...} */
json_t *vj_ok(struct verbs *v);
/** vj_arg() - NULL when absent or no string */
const char *vj_arg(json_t *args, const char *key);
json_t *verbs_no_link(const char *name);

/* relaxed: somebody else's counter, any recent value will do */
#define LOAD(x) __atomic_load_n(&(x), __ATOMIC_RELAXED) /* plain fields, e.g. in maps */
#define LOAD_ATOMIC(x) atomic_load_explicit(&(x), memory_order_relaxed) /* _Atomic ones */

json_t *verbs_path(const struct link *l, unsigned int i, bool all);
/** verbs_remote() - where envelopes go now, as the worker has learned it; false = unknown */
bool verbs_remote(const struct link *l, unsigned int i, struct in6_addr *a, uint16_t *port);

const char *verbs_alg(enum aead_alg a);
const char *verbs_encap(enum encap e);
const char *verbs_liveness(enum liveness_mode m);

#endif
