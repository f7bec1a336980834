/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Setters and readers of the tables, and the sweep of what a predecessor left in them. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include "load_int.h"

_Static_assert(sizeof(struct addr_key) == sizeof(struct in6_addr), "addresses are copied");
_Static_assert(sizeof(struct wlink_ctr) % 8 == 0, "mapped as an array");
_Static_assert(sizeof(struct sa_ctr) % 8 == 0, "mapped as an array");
_Static_assert(sizeof(struct beat) % 8 == 0, "mapped as an array");

/* --- stale keys --- */

static _Thread_local size_t cmp_len; /* qsort has no context argument that is portable */

static int cmp(const void *a, const void *b)
{
	return memcmp(a, b, cmp_len);
}

static int stale_add(struct load_stale *s, unsigned int *room, const void *key)
{
	uint8_t *p;

	if (s->n == *room) {
		*room = *room ? 2 * *room : 64;
		p = reallocarray(s->keys, *room, s->key_size);
		if (!p)
			return -ENOMEM;
		s->keys = p;
	}
	memcpy(s->keys + s->n++ * s->key_size, key, s->key_size);
	return 0;
}

static bool in_use(const struct load *l, enum load_map m, const void *key)
{
	struct link_ent e;

	if (m != MAP_links)
		return true;
	return !bpf_map_lookup_elem(l->map[m], key, &e) && e.flags & LINK_F_USED;
}

int load_stale_read(struct load *l, enum load_map m)
{
	struct load_stale *s = &l->stale[m];
	struct bpf_map_info info = {0};
	uint32_t len = sizeof(info);
	unsigned int room = 0;
	uint8_t key[64], *prev = NULL;
	int err = bpf_obj_get_info_by_fd(l->map[m], &info, &len);

	if (err)
		return err;
	s->key_size = info.key_size;
	/* bounded: a table that changes under us would start over, but we are its only writer */
	for (uint32_t i = 0; i <= info.max_entries; i++) {
		if (bpf_map_get_next_key(l->map[m], prev, key))
			break;
		prev = key;
		if (in_use(l, m, key) && (err = stale_add(s, &room, key)))
			return err;
	}
	cmp_len = s->key_size;
	if (s->n)
		qsort(s->keys, s->n, s->key_size, cmp);
	s->seen = calloc(s->n + 1, 1);
	return s->seen ? 0 : -ENOMEM;
}

void load_stale_free(struct load_stale *s)
{
	free(s->keys);
	free(s->seen);
	*s = (struct load_stale){0};
}

static void confirm(struct load *l, enum load_map m, const void *key)
{
	struct load_stale *s = &l->stale[m];
	uint8_t *hit;

	if (!s->n)
		return;
	cmp_len = s->key_size;
	hit = bsearch(key, s->keys, s->n, s->key_size, cmp);
	if (hit)
		s->seen[(hit - s->keys) / s->key_size] = 1;
}

static int put(struct load *l, enum load_map m, const void *key, const void *val)
{
	confirm(l, m, key);
	return bpf_map_update_elem(l->map[m], key, val, BPF_ANY);
}

static int del(struct load *l, enum load_map m, const void *key)
{
	int err = bpf_map_delete_elem(l->map[m], key);

	return err == -ENOENT ? 0 : err;
}

static unsigned int sweep_map(struct load *l, enum load_map m)
{
	struct load_stale *s = &l->stale[m];
	unsigned int gone = 0;

	for (unsigned int i = 0; i < s->n; i++) {
		const uint8_t *key = s->keys + i * s->key_size;
		uint32_t id;

		if (s->seen[i])
			continue;
		memcpy(&id, key, sizeof(id));
		gone += m == MAP_links ? !load_link_del(l, id)
				       : !bpf_map_delete_elem(l->map[m], key);
	}
	load_stale_free(s);
	return gone;
}

unsigned int load_sweep(struct load *l)
{
	unsigned int gone = 0;

	for (int i = 0; i < N_MAPS; i++)
		gone += sweep_map(l, i);
	return gone;
}

/* --- links --- */

/* The device id had before; a device that meanwhile belongs to another link is left alone. */
static void forget_if(struct load *l, enum load_map m, uint32_t id, uint32_t ifindex)
{
	uint32_t owner;

	if (ifindex && !bpf_map_lookup_elem(l->map[m], &ifindex, &owner) && owner == id)
		del(l, m, &ifindex);
}

int load_link_get(struct load *l, uint32_t id, struct link_ent *e)
{
	return bpf_map_lookup_elem(l->map[MAP_links], &id, e);
}

int load_link_set(struct load *l, uint32_t id, const struct link_ent *e)
{
	struct link_ent was;
	int err = load_link_get(l, id, &was);

	if (!err)
		err = put(l, MAP_links, &id, e);
	if (err)
		return err;
	if (was.b_ifindex != e->b_ifindex)
		forget_if(l, MAP_link_by_if, id, was.b_ifindex);
	if (was.x_ifindex != e->x_ifindex)
		forget_if(l, MAP_link_by_if, id, was.x_ifindex);
	if (was.f_ifindex != e->f_ifindex)
		forget_if(l, MAP_link_by_front, id, was.f_ifindex);
	if (e->b_ifindex)
		err = put(l, MAP_link_by_if, &e->b_ifindex, &id);
	if (!err && e->x_ifindex)
		err = put(l, MAP_link_by_if, &e->x_ifindex, &id);
	if (!err && e->f_ifindex)
		err = put(l, MAP_link_by_front, &e->f_ifindex, &id);
	return err;
}

int load_link_del(struct load *l, uint32_t id)
{
	struct link_ent e;
	int err = load_link_get(l, id, &e);

	if (err)
		return err;
	forget_if(l, MAP_link_by_if, id, e.b_ifindex);
	forget_if(l, MAP_link_by_if, id, e.x_ifindex);
	forget_if(l, MAP_link_by_front, id, e.f_ifindex);
	e = (struct link_ent){.gen = e.gen};
	return bpf_map_update_elem(l->map[MAP_links], &id, &e, BPF_ANY);
}

/* --- SAs and addresses --- */

static struct addr_key addr_key(const struct in6_addr *a)
{
	struct addr_key k;

	memcpy(&k, a, sizeof(k));
	return k;
}

int load_sa_in_set(struct load *l, uint32_t spi_be, const struct sa_in_ent *e)
{
	struct sa_in_key k = {spi_be};

	return put(l, MAP_sa_in, &k, e);
}

int load_sa_in_del(struct load *l, uint32_t spi_be)
{
	struct sa_in_key k = {spi_be};

	return del(l, MAP_sa_in, &k);
}

int load_env_set(struct load *l, uint32_t spi_be, const struct in6_addr *dst, uint32_t id)
{
	struct env_key k = {spi_be, addr_key(dst)};

	return put(l, MAP_env_out, &k, &id);
}

int load_env_del(struct load *l, uint32_t spi_be, const struct in6_addr *dst)
{
	struct env_key k = {spi_be, addr_key(dst)};

	return del(l, MAP_env_out, &k);
}

static int addr_put(struct load *l, enum load_map m, const struct in6_addr *a)
{
	struct addr_key k = addr_key(a);
	uint8_t one = 1;

	return put(l, m, &k, &one);
}

static int addr_del(struct load *l, enum load_map m, const struct in6_addr *a)
{
	struct addr_key k = addr_key(a);

	return del(l, m, &k);
}

int load_addr_set(struct load *l, const struct in6_addr *a)
{
	return addr_put(l, MAP_local_addr, a);
}

bool load_addr_has(struct load *l, const struct in6_addr *a)
{
	struct addr_key k = addr_key(a);
	uint8_t v;

	return !bpf_map_lookup_elem(l->map[MAP_local_addr], &k, &v);
}

int load_addr_del(struct load *l, const struct in6_addr *a)
{
	return addr_del(l, MAP_local_addr, a);
}

int load_peer_set(struct load *l, const struct in6_addr *a)
{
	return addr_put(l, MAP_peer_addr, a);
}

int load_peer_del(struct load *l, const struct in6_addr *a)
{
	return addr_del(l, MAP_peer_addr, a);
}

static struct lpm_key lpm_key(const struct prefix *p)
{
	return (struct lpm_key){p->is4 ? p->len + 96u : p->len, addr_key(&p->addr)};
}

int load_protect_set(struct load *l, const struct prefix *p, uint32_t flags)
{
	struct lpm_key k = lpm_key(p);

	flags = (flags & PROTECT_F_BOTH) | (p->is4 ? 0 : PROTECT_F_IP6);
	return put(l, MAP_protect, &k, &flags);
}

static struct inner_key inner_key(uint32_t id, const struct prefix *p)
{
	return (struct inner_key){.prefixlen = 32 + (p->is4 ? 96 + p->len : p->len), .link_be = htonl(id), .addr = addr_key(&p->addr)};
}

int load_inner_set(struct load *l, uint32_t id, const struct prefix *p)
{
	struct inner_key k = inner_key(id, p);
	uint8_t yes = 1;

	return put(l, MAP_inner_src, &k, &yes);
}

int load_inner_del(struct load *l, uint32_t id, const struct prefix *p)
{
	struct inner_key k = inner_key(id, p);

	return del(l, MAP_inner_src, &k);
}

int load_host_set(struct load *l, uint32_t id, const struct host_ent *e)
{
	return put(l, MAP_hosts, &id, e);
}

int load_host_del(struct load *l, uint32_t id)
{
	return del(l, MAP_hosts, &id);
}

int load_protect_del(struct load *l, const struct prefix *p)
{
	struct lpm_key k = lpm_key(p);

	return del(l, MAP_protect, &k);
}

int load_mark_set(struct load *l, uint32_t mark, const struct mark_ent *e)
{
	return put(l, MAP_marks, &mark, e);
}

int load_mark_del(struct load *l, uint32_t mark)
{
	return del(l, MAP_marks, &mark);
}

/* --- workers, funnels, sockets --- */

int load_worker_set(struct load *l, uint32_t worker, const struct worker_ent *e)
{
	return put(l, MAP_workers, &worker, e);
}

int load_settings_get(struct load *l, struct settings_ent *e)
{
	uint32_t zero = 0;

	return bpf_map_lookup_elem(l->map[MAP_settings], &zero, e);
}

int load_settings_set(struct load *l, const struct settings_ent *e)
{
	uint32_t zero = 0;

	return put(l, MAP_settings, &zero, e);
}

int load_wire_dev_set(struct load *l, uint32_t worker, uint32_t ifindex)
{
	return ifindex ? put(l, MAP_wire_dev, &worker, &ifindex) : del(l, MAP_wire_dev, &worker);
}

int load_raw_dev_set(struct load *l, uint32_t worker, uint32_t ifindex)
{
	return ifindex ? put(l, MAP_raw_dev, &worker, &ifindex) : del(l, MAP_raw_dev, &worker);
}

int load_lan_set(struct load *l, uint32_t ifindex, const struct lan_ent *e)
{
	return put(l, MAP_lan_dev, &ifindex, e);
}

int load_lan_del(struct load *l, uint32_t ifindex)
{
	return del(l, MAP_lan_dev, &ifindex);
}

void load_lan_each(struct load *l, void (*fn)(void *arg, uint32_t ifindex), void *arg)
{
	uint32_t at, next;
	bool more = !bpf_map_get_next_key(l->map[MAP_lan_dev], NULL, &next);

	while (more) {
		at = next;
		more = !bpf_map_get_next_key(l->map[MAP_lan_dev], &at, &next);
		fn(arg, at);
	}
}

int load_funnel_set(struct load *l, uint32_t ifindex, uint32_t xsk)
{
	return put(l, MAP_funnel_by_if, &ifindex, &xsk);
}

int load_xsk_set(struct load *l, uint32_t xsk, int fd)
{
	return put(l, MAP_xsks, &xsk, &fd);
}

int load_sock_worker_set(struct load *l, uint64_t cookie, uint32_t worker)
{
	return put(l, MAP_sock_worker, &cookie, &worker);
}

/* --- counters --- */

/* Both counter structs are __u64 throughout: add them up as words. */
static int sum_cpus(struct load *l, enum load_map m, uint32_t key, void *out, size_t size)
{
	size_t words = size / sizeof(uint64_t);
	uint64_t *sum = out, *cpus = calloc(l->n_cpus, size);
	int err;

	memset(out, 0, size);
	if (!cpus)
		return -ENOMEM;
	err = bpf_map_lookup_elem(l->map[m], &key, cpus);
	for (size_t i = 0; !err && i < words * l->n_cpus; i++)
		sum[i % words] += cpus[i];
	free(cpus);
	return err;
}

int load_link_ctr(struct load *l, uint32_t id, struct link_ctr *out)
{
	return sum_cpus(l, MAP_link_ctr, id, out, sizeof(*out));
}

int load_glob_ctr(struct load *l, struct glob_ctr *out)
{
	return sum_cpus(l, MAP_glob_ctr, 0, out, sizeof(*out));
}

int load_link_ctr_zero(struct load *l, uint32_t id)
{
	void *zero = calloc(l->n_cpus, sizeof(struct link_ctr));
	int err;

	if (!zero)
		return -ENOMEM;
	err = bpf_map_update_elem(l->map[MAP_link_ctr], &id, zero, BPF_ANY);
	free(zero);
	return err;
}
