/* SPDX-License-Identifier: GPL-2.0-or-later */
/* load_int - what load.c, load_tab.c and load_attach.c share; nobody else includes it. */
#ifndef LOAD_INT_H
#define LOAD_INT_H

#include <limits.h>
#include "load.h"

struct bpf_object;

/* X(map, entries per link (0 = as declared), at least, swept after adoption, carried along) */
#define LOAD_MAPS(X)                                                                               \
	X(links, 1, 1, 1, 0)                                                                       \
	X(link_by_if, 2, 1, 1, 0)                                                                  \
	X(link_by_front, 1, 1, 1, 0)                                                               \
	X(lan_dev, 0, 0, 1, 0)                                                                     \
	X(sa_in, SA_PER_LINK, 64, 1, 0)                                                            \
	X(env_out, 4 * SA_PER_LINK, 256, 1, 0)                                                     \
	X(local_addr, 0, 0, 1, 0)                                                                  \
	X(protect, 16, 4096, 1, 0)                                                                 \
	X(inner_src, 16, 4096, 1, 0)                                                               \
	X(hosts, 1, 1, 1, 0)                                                                       \
	X(peer_addr, 8, 1024, 1, 0)                                                                \
	X(marks, 4, 1024, 1, 0)                                                                    \
	X(settings, 0, 0, 0, 0)                                                                    \
	X(workers, 0, 0, 0, 0)                                                                     \
	X(wire_dev, 0, 0, 0, 0)                                                                    \
	X(raw_dev, 0, 0, 0, 0)                                                                     \
	X(funnel_by_if, 0, 0, 0, 0)                                                                \
	X(xsks, 0, 0, 0, 0)                                                                        \
	X(sticky, 0, 0, 0, 0)                                                                      \
	X(nest, 1, 1, 0, 0)                                                                        \
	X(sock_worker, 0, 0, 0, 0)                                                                 \
	X(link_ctr, 1, 1, 0, 1)                                                                    \
	X(glob_ctr, 0, 0, 0, 1)                                                                    \
	X(wctr, 1, 1, 0, 1)                                                                        \
	X(sactr, SA_PER_LINK, 1, 0, 1)                                                             \
	X(replay, SA_PER_LINK *SA_REPLAY_WORDS, 1, 0, 1)                                           \
	X(beat, 0, 0, 0, 0)                                                                        \
	X(wire_note, 0, 0, 0, 0)

/* X(object, program) */
#define LOAD_PROGS(X)                                                                              \
	X(OUT, classify)                                                                           \
	X(IN, wire_in)                                                                             \
	X(IN, funnel)                                                                              \
	X(IN, deliver)                                                                             \
	X(IN, opened)                                                                              \
	X(LAN, lan_in)                                                                             \
	X(GUARD, guard_out)                                                                        \
	X(GUARD, guard_in)                                                                         \
	X(GUARD, guard_out_l3)                                                                     \
	X(GUARD, guard_in_l3)                                                                      \
	X(SOCK, sock_filter)                                                                       \
	X(SOCK, sock_in)                                                                           \
	X(SOCK, sock_out)                                                                          \
	X(SOCK, sock_in_l3)                                                                        \
	X(SOCK, sock_out_l3)

enum load_obj { OBJ_OUT, OBJ_IN, OBJ_LAN, OBJ_GUARD, OBJ_SOCK, N_OBJS };
enum load_map {
#define X(name, per, min, sweep, carry) MAP_##name,
	LOAD_MAPS(X)
#undef X
	N_MAPS
};
enum load_prog {
#define X(obj, name) PROG_##name,
	LOAD_PROGS(X)
#undef X
	N_PROGS
};

/* Keys found in an adopted map, sorted, and whether a setter has confirmed them since. */
struct load_stale {
	uint8_t *keys;
	uint8_t *seen;
	size_t key_size;
	unsigned int n;
};

struct load {
	char dir[PATH_MAX / 2];
	struct load_conf conf;
	struct bpf_object *obj[N_OBJS];
	int map[N_MAPS];     /* owned by obj */
	int prog[N_PROGS];   /* owned by obj */
	int n_cpus;
	bool adopted;
	bool tcx;
	struct load_stale stale[N_MAPS];
	struct {
		void *p;
		size_t len;
	} area[N_MAPS];
};

/** load_stale_read() - remember the keys an adopted map holds. Return: 0 or -errno */
int load_stale_read(struct load *l, enum load_map m);
void load_stale_free(struct load_stale *s);

#endif
