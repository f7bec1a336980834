/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fake_daemon - a struct daemon with links that nothing stands behind, for control and verbs.
 *
 * Includes the modules under test with their exported names, and those of the world around them
 * (links.c, load.c, worker.c, nl.c), renamed: the real objects may be linked beside them.
 */
#ifndef FAKE_DAEMON_H
#define FAKE_DAEMON_H

/* under test */
#define verbs_open     t_verbs_open
#define verbs_close    t_verbs_close
#define verbs_line     t_verbs_line
#define verbs_error    t_verbs_error
#define verbs_time     t_verbs_time
#define verbs_no_link  t_verbs_no_link
#define verbs_path     t_verbs_path
#define verbs_sa_out   t_verbs_sa_out
#define verbs_remote   t_verbs_remote
#define verbs_alg      t_verbs_alg
#define verbs_encap    t_verbs_encap
#define verbs_liveness t_verbs_liveness
#define verb_show      t_verb_show
#define verb_path_list t_verb_path_list
#define verb_drops     t_verb_drops
#define verb_perf      t_verb_perf
#define verb_why       t_verb_why
#define verb_mtu       t_verb_mtu
#define vj_put         t_vj_put
#define vj_str         t_vj_str
#define vj_int         t_vj_int
#define vj_bool        t_vj_bool
#define vj_hex         t_vj_hex
#define vj_addr        t_vj_addr
#define vj_age         t_vj_age
#define vj_ok          t_vj_ok
#define vj_arg         t_vj_arg
#define control_listen t_control_listen
#define control_serve  t_control_serve
#define control_fd     t_control_fd
#define control_close  t_control_close
#define control_event  t_control_event
/* the world */
#define links_by_name     f_links_by_name
#define links_apply       f_links_apply
#define links_diff        f_links_diff
#define link_add          f_link_add
#define link_del          f_link_del
#define link_set          f_link_set
#define link_admin        f_link_admin
#define link_tick         f_link_tick
#define link_reason_name  f_link_reason_name
#define link_reason_text  f_link_reason_text
#define load_link_ctr     f_load_link_ctr
#define load_glob_ctr     f_load_glob_ctr
#define load_beat         f_load_beat
#define load_guard_is_tcx f_load_guard_is_tcx
#define worker_stats      f_worker_stats_of
#define worker_n_taps     f_worker_n_taps
#define worker_n_xsks     f_worker_n_xsks
#define worker_wire_mtu   f_worker_wire_mtu
#define worker_udp_port   f_worker_udp_port
#define worker_port_stats f_worker_port_stats
#define nl_route_get      f_nl_route_get
#define nl_link_get_index f_nl_link_get_index

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "backend.h"
#include "control.h"
#include "load.h"

/* worker_stats is a struct tag and a function: the tag was renamed with it, so both fit. */
static struct worker_stats fake_stats;
static struct beat fake_beat;
static struct link_ctr fake_link_ctr; /* what BPF says of every link */
static struct glob_ctr fake_glob_ctr;
static unsigned int fake_applied;     /* calls of links_apply() */
static unsigned int fake_apply_links; /* links in the last of them */
static int fake_oif;                  /* what the FIB answers, 0 = unreachable */

const char *link_reason_name(enum link_reason r)
{
	static const char *const names[] = {
#define X(name, str, text) str,
		LINK_REASONS(X)
#undef X
	};
	return names[r];
}

const char *link_reason_text(enum link_reason r)
{
	static const char *const texts[] = {
#define X(name, str, text) text,
		LINK_REASONS(X)
#undef X
	};
	return texts[r];
}

struct link *links_by_name(struct daemon *d, const char *name)
{
	char alt[24];

	for (unsigned int i = 0; i < d->max_links; i++) {
		struct link *l = d->links[i];

		if (!l)
			continue;
		snprintf(alt, sizeof alt, "ipsec:%u", l->conf.number);
		if (!strcmp(name, l->conf.name) || !strcmp(name, alt) ||
		    !strcmp(name, l->conf.peer))
			return l;
	}
	return NULL;
}

static void fake_link_free(struct link *l)
{
	while (l->sas) {
		struct sa *s = l->sas;

		l->sas = s->next;
		free(s->ctr);
		free(s->wout);
		free(s->win);
		free(s);
	}
	free(l->sets);
	if (l->w)
		free(l->w->ctr);
	free(l->w);
	link_conf_free(&l->conf);
	free(l);
}

static void fake_sa(struct link *l, enum sa_dir dir, uint32_t spi)
{
	struct sa *s = calloc(1, sizeof *s);
	struct sa_ctr *c = calloc(1, sizeof *c);

	c->top = 81233;
	c->pkts = 81000;
	c->bytes = 81000 * 1400ull;
	c->last_used_ns = now_ns() - 200000000;
	s->backend = &backend_afxdp;
	s->installed = true;
	s->ctr = c;
	if (!l->sets)
		l->sets = calloc(1, sizeof *l->sets);
	s->set = l->sets;
	s->link = l;
	s->dir = dir;
	s->spi = spi;
	s->alg = AEAD_AES_GCM_256;
	s->esn = true;
	s->window = 4096;
	s->fingerprint = 0x0123456789abcdefull;
	s->live = true;
	s->created_ns = l->since_ns;
	if (dir == SA_OUT) {
		s->wout = calloc(1, sizeof *s->wout);
		s->wout->ctr = c;
		l->w->out = s->wout;
		l->out = l->sets->out = s;
	} else {
		s->win = calloc(1, sizeof *s->win);
		s->win->ctr = c;
	}
	s->next = l->sas;
	l->sas = s;
}

static struct link *fake_link(const struct link_conf *conf, unsigned int id)
{
	struct link *l = calloc(1, sizeof *l);

	link_conf_copy(&l->conf, conf);
	l->id = id;
	l->ifindex = 1000 + id;
	l->mtu = conf->mtu ? conf->mtu : 1438;
	l->admin_up = !conf->down;
	l->up = l->carrier = id % 3 != 1;
	l->reason = l->up ? LINK_OK : LINK_NO_ANSWER;
	l->since_ns = now_ns() - 125000000000ull;
	l->n_paths = conf->n_paths;
	for (unsigned int i = 0; i < conf->n_paths; i++) {
		l->paths[i].conf = conf->paths[i];
		l->paths[i].remote = conf->paths[i].remote;
		l->paths[i].mtu = l->paths[i].dev_mtu = 1500;
		addr_parse("192.0.2.8", &l->paths[i].src);
		strcpy(l->paths[i].dev, "eth1");
	}
	l->w = calloc(1, sizeof *l->w);
	l->w->ctr = calloc(1, sizeof *l->w->ctr);
	pthread_mutex_init(&l->w->path_lock, NULL);
	l->w->live.heard_ns = now_ns() - 300000000;
	l->w->live.roundtrip_ns = l->up ? now_ns() - 400000000 : 0;
	l->w->live.rtt_ns = 271000;
	l->netns_fd = -1;
	fake_sa(l, SA_IN, 0x1000 + id);
	fake_sa(l, SA_OUT, 0xc2690000 + id);
	return l;
}

int link_add(struct daemon *d, const struct link_conf *c, FILE *errs)
{
	for (unsigned int i = 0; i < d->max_links; i++) {
		if (d->links[i])
			continue;
		d->links[i] = fake_link(c, i);
		d->n_links++;
		return 0;
	}
	fprintf(errs, "no free link id\n");
	return -ENOSPC;
}

int link_del(struct daemon *d, struct link *l)
{
	d->links[l->id] = NULL;
	d->n_links--;
	fake_link_free(l);
	return 0;
}

int link_set(struct daemon *d, struct link *l, const struct link_conf *c, FILE *errs)
{
	struct link_conf copy;

	link_conf_copy(&copy, c);
	link_conf_free(&l->conf);
	l->conf = copy;
	return 0;
}

void link_admin(struct daemon *d, struct link *l, bool up)
{
	l->admin_up = l->up = l->carrier = up;
	l->reason = up ? LINK_OK : LINK_ADMIN_DOWN;
}

void link_tick(struct daemon *d, struct link *l)
{
}

static void fake_clear(struct daemon *d)
{
	for (unsigned int i = 0; i < d->max_links; i++)
		if (d->links[i])
			link_del(d, d->links[i]);
}

int links_apply(struct daemon *d, const struct conf *c, FILE *errs, json_t *report)
{
	fake_applied++;
	fake_apply_links = c->n_links;
	fake_clear(d);
	for (unsigned int i = 0; i < c->n_links; i++) {
		link_add(d, &c->links[i], errs);
		if (report)
			json_array_append_new(report,
					      json_pack("{s:s, s:s}", "link", c->links[i].name,
							"action", "added"));
	}
	return 0;
}

json_t *links_diff(struct daemon *d, const struct conf *c)
{
	return json_pack("[{s:s, s:s}]", "link", "ipsec1", "action", "changed");
}

int load_link_ctr(struct load *l, uint32_t id, struct link_ctr *out)
{
	*out = fake_link_ctr;
	return 0;
}

int load_glob_ctr(struct load *l, struct glob_ctr *out)
{
	*out = fake_glob_ctr;
	return 0;
}

struct beat *load_beat(struct load *l)
{
	return &fake_beat;
}

bool load_guard_is_tcx(const struct load *l)
{
	return true;
}

const struct worker_stats *worker_stats(const struct worker *w)
{
	return &fake_stats;
}

unsigned int worker_n_taps(const struct worker *w)
{
	return 1;
}

uint32_t worker_wire_mtu(const struct worker *w)
{
	return 9216;
}

unsigned int worker_n_xsks(const struct worker *w)
{
	return 2;
}

bool worker_port_stats(const struct worker *w, struct port_stats *raw, struct port_stats *wire)
{
	return false;
}

uint16_t worker_udp_port(const struct worker *w)
{
	return 40001;
}

int nl_route_get(struct nl *nl, const struct in6_addr *dst, const struct in6_addr *src,
		 uint32_t fwmark, uint8_t ipproto, uint16_t dport, struct nl_route *out)
{
	memset(out, 0, sizeof *out);
	if (src)
		return -EINVAL; /* as for a source that is not ours */
	out->oif = fake_oif;
	out->mtu = 1438;
	return fake_oif ? 0 : -ENETUNREACH;
}

int nl_link_get_index(struct nl *nl, int ifindex, struct nl_link *out)
{
	memset(out, 0, sizeof *out);
	strcpy(out->name, ifindex >= 1000 ? "ipsec1" : "eth1");
	return 0;
}

#include "../../user/verbs.c"
#include "../../user/verbs_show.c"
#include "../../user/verbs_why.c"
#include "../../user/control.c"

static inline void fake_links_add(struct daemon *d, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		struct link_conf c;
		char v[64], err[256];

		link_conf_init(&c);
		snprintf(v, sizeof v, "ipsec%u", i + 1);
		conf_link_name(v, c.name, &c.number);
		snprintf(v, sizeof v, i ? "peer%u" : "east", i + 1);
		link_conf_set(&c, "peer", v, err, sizeof err);
		snprintf(v, sizeof v, "10.%u.%u.1 peer 10.%u.%u.2", 64 + i / 256, i % 256,
			 64 + i / 256, i % 256);
		link_conf_set(&c, "address", v, err, sizeof err);
		snprintf(v, sizeof v, "198.51.%u.%u encap udp", 100 + i / 250, i % 250 + 1);
		link_conf_set(&c, "path", v, err, sizeof err);
		link_conf_set(&c, "protect", "10.2.0.0/16", err, sizeof err);
		snprintf(v, sizeof v, "file:/etc/ipsec/peer%u.sa", i + 1);
		link_conf_set(&c, "sa", v, err, sizeof err);
		link_add(d, &c, stderr);
		link_conf_free(&c);
	}
}

/* run_dir: a directory of the test's own */
static inline struct daemon *fake_daemon(const char *run_dir, unsigned int max_links,
					 unsigned int n_links)
{
	struct daemon *d = calloc(1, sizeof *d);

	conf_init(&d->conf);
	strcpy(d->instance, "fake");
	snprintf(d->run_dir, sizeof d->run_dir, "%s", run_dir);
	snprintf(d->conf_file, sizeof d->conf_file, "%s/fake.conf", run_dir);
	strcpy(d->state_dir, "/nonexistent/state");
	strcpy(d->pin_dir, "/nonexistent/pin");
	d->max_links = max_links;
	d->links = calloc(max_links, sizeof *d->links);
	d->start_ns = now_ns() - 3600000000000ull;
	d->load = (struct load *)&fake_beat; /* never dereferenced by the fakes */
	d->nl_u = (struct nl *)&fake_beat;
	d->workers[0] = (struct worker *)&fake_stats;
	d->n_workers = 1;
	d->guardian_pid = getpid();
	fake_links_add(d, n_links);
	return d;
}

static inline void fake_daemon_free(struct daemon *d)
{
	fake_clear(d);
	free(d->links);
	conf_free(&d->conf);
	free(d);
}

#endif
