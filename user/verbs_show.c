/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * show, path-list, drops, perf: the verbs that only read.
 *
 * The books of a link stand in two places: the BPF programs' per-CPU counters (load_link_ctr) and
 * the worker's (wlink_ctr). struct books joins them; at quiescence each balance is 0 (I5).
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include "backend.h"
#include "ike.h"
#include "ike_conn.h"
#include "load.h"
#include "log.h"
#include "muster.h"
#include "path.h"
#include "port.h"
#include "sock.h"
#include "saset.h"
#include "verbs_int.h"

static const char *const drop_names[DROP_MAX] = {[DROP_NONE] = NULL,
#define X(name, str, text) [DROP_##name] = str,
						 IPSEC_DROPS(X)
#undef X
};

static const char *const drop_texts[DROP_MAX] = {
#define X(name, str, text) [DROP_##name] = text,
	IPSEC_DROPS(X)
#undef X
};

const char *verbs_alg(enum aead_alg a)
{
	const struct aead_desc *d = aead_by_alg(a);

	return d ? d->name : "none";
}

const char *verbs_encap(enum encap e)
{
	return e == ENCAP_UDP ? "udp" : "esp";
}

const char *verbs_liveness(enum liveness_mode m)
{
	return m == LIVE_OFF ? "off" : m == LIVE_PING ? "ping" : "probe";
}

/* ---- the books ---- */

struct books {
	struct link_ctr b;  /* BPF's half */
	struct wlink_ctr w; /* the worker's half */
	int64_t in_funnel;  /* handed to a funnel, not (yet) received: queue-full once nothing moves
			     */
	int64_t wire_lost;  /* the same on the way in */
	__u64 drops_out[DROP_MAX], drops_in[DROP_MAX];
	uint64_t out_total, in_total;
	uint64_t in_early; /* not in in_total: died before they were handed to a worker */
	int64_t out_balance, in_balance;
};

/* Of what the kernel has opened: it was handed in. */
static bool drop_is_opened(enum drop r)
{
	return r == DROP_INNER_SRC || r == DROP_INNER_ICMP || r == DROP_LINK_DOWN || r == DROP_BAD_NEXT_HEADER;
}

/* Which way a packet was going when a BPF program dropped it on a link's account. */
static bool drop_is_inbound(enum drop r)
{
	return r == DROP_PLAIN_FOR_PROTECTED || r == DROP_REPLAY_OLD || r == DROP_REPLAY_DUP || drop_is_opened(r);
}

static void read_wctr(struct wlink_ctr *to, const struct wlink_ctr *from)
{
	const uint64_t *src = (const uint64_t *)from;
	uint64_t *dst = (uint64_t *)to;

	for (size_t i = 0; i < sizeof *to / sizeof *dst; i++)
		dst[i] = LOAD(src[i]);
}

/* What the kernel's ESP has carried is traffic like any other; what came out of it was counted on its way to ipsecN. */
static void add_kernel(struct books *k, const struct link *l)
{
	/* an echo of ours may have died on its way to the state, too */
	uint64_t sent = k->w.out_kernel_pkts - MIN(k->w.out_kernel_pkts, k->w.kernel_probes);

	k->in_funnel += (int64_t)(k->b.kernel_segs - sent);
	k->w.out_pkts += sent;
	k->w.out_bytes += k->w.out_kernel_bytes - MIN(k->w.out_kernel_bytes, k->w.kernel_probe_bytes);
	k->w.in_pkts += k->b.opened_segs;
	k->w.in_bytes += k->w.in_kernel_bytes - MIN(k->w.in_kernel_bytes, k->w.kernel_echo_bytes);
	k->w.in_kernel_pkts += l->x.err.old + l->x.err.dup + l->x.err.icv;
	k->w.drops_in[DROP_REPLAY_OLD] += l->x.err.old;
	k->w.drops_in[DROP_REPLAY_DUP] += l->x.err.dup;
	k->w.drops_in[DROP_ICV_FAIL] += l->x.err.icv;
	k->w.drops_in[DROP_SELECTOR] += l->x.lost.sel;
	k->w.drops_in[DROP_INNER_VERSION] += l->x.lost.bad;
}

/* The receiving side first: then a packet under way shows as in_funnel, never as one too many. */
static void read_books(const struct daemon *d, const struct link *l, struct books *k)
{
	memset(k, 0, sizeof *k);
	if (l->w && l->w->ctr)
		read_wctr(&k->w, l->w->ctr);
	if (d->load && load_link_ctr(d->load, l->id, &k->b))
		memset(&k->b, 0, sizeof k->b);
	k->in_funnel =
		(int64_t)(k->b.tap_segs - k->w.out_tap_segs + k->b.xsk_segs - k->w.out_xsk_segs);
	k->wire_lost = (int64_t)(k->b.wire_pkts - k->w.in_xsk_pkts);
	add_kernel(k, l);
	for (int r = 1; r < DROP_MAX; r++) {
		k->drops_out[r] = k->w.drops_out[r];
		k->drops_in[r] = k->w.drops_in[r];
		if (r == DROP_DUMMY)
			continue;
		k->in_total += k->drops_in[r];
		if (drop_is_inbound(r)) {
			k->drops_in[r] += k->b.drops[r];
			*(drop_is_opened(r) ? &k->in_total : &k->in_early) += k->b.drops[r];
		} else {
			k->drops_out[r] += k->b.drops[r];
		}
		k->out_total += k->drops_out[r];
	}
	k->out_balance = (int64_t)(k->b.raw_segs - k->w.out_pkts - k->out_total) - k->in_funnel;
	k->in_balance = (int64_t)(k->w.in_xsk_pkts + k->w.in_sock_pkts + k->w.in_kernel_pkts - k->w.in_pkts -
				  k->w.in_probes - k->in_total);
}

static void put_sint(json_t *o, const char *key, int64_t v)
{
	vj_put(o, key, json_integer(v));
}

static json_t *json_drops(const __u64 *drops)
{
	json_t *o = json_object();

	for (int r = 1; r < DROP_MAX; r++)
		vj_int(o, drop_names[r], drops[r]);
	return o;
}

/* ---- SAs ---- */

static void put_limit(json_t *o, const char *key, uint64_t v)
{
	vj_put(o, key, v ? json_integer((json_int_t)v) : NULL);
}

static json_t *json_limit(const struct life_limit *l)
{
	json_t *o = json_object();

	put_limit(o, "time_s", l->time_s);
	put_limit(o, "bytes", l->bytes);
	put_limit(o, "packets", l->pkts);
	return o;
}

static json_t *json_life(const struct sa *s, uint64_t now)
{
	uint64_t end_ns = s->installed ? s->backend->end_ns(s) : 0;
	json_t *o = json_object();

	vj_put(o, "soft", json_limit(&s->life.soft));
	vj_put(o, "hard", json_limit(&s->life.hard));
	vj_str(o, "soft_reached", life_name(s->soft));
	vj_str(o, "ended", life_name(s->ended));
	/* a moment of the future is an age seen from there */
	vj_age(o, "left_s", end_ns && s->life.hard.time_s ? now : 0, end_ns);
	return o;
}

static json_t *json_sels(const struct sa *s)
{
	json_t *a = json_array();
	char buf[SEL_STR];
	unsigned int n;
	const struct sel *sel = saset_sels(s, &n);

	for (unsigned int i = 0; i < n; i++)
		json_array_append_new(a, json_string(sel_str(&sel[i], buf)));
	return a;
}

static json_t *json_sa_offload(const struct sa *s)
{
	json_t *o = json_object();

	vj_str(o, "mode", conf_offload_name(s->offload.ifindex ? OFFLOAD_CRYPTO : OFFLOAD_OFF));
	vj_str(o, "device", s->offload.dev);
	vj_str(o, "why", s->offload.why);
	return o;
}

static json_t *json_sa(const struct sa *s, uint64_t now)
{
	static const struct sa_ctr none;
	const struct sa_ctr *c = s->ctr;
	json_t *o = json_object();
	char fp[20];

	c = c ? c : &none;
	snprintf(fp, sizeof fp, "%016llx", (unsigned long long)s->fingerprint);
	vj_str(o, "dir", s->dir == SA_OUT ? "out" : "in");
	vj_hex(o, "spi", s->spi, 8);
	vj_str(o, "alg", verbs_alg(s->alg));
	vj_str(o, "mode", s->mode == SA_TRANSPORT ? "transport" : "tunnel");
	vj_bool(o, "esn", s->esn);
	vj_int(o, "window", s->window);
	vj_str(o, "fingerprint", fp);
	vj_int(o, "seq", LOAD(c->top));
	vj_int(o, "packets", LOAD(c->pkts));
	vj_int(o, "bytes", LOAD(c->bytes));
	vj_int(o, "replay_drops", LOAD(c->replay_drops) + LOAD(c->early_drops));
	vj_int(o, "icv_drops", LOAD(c->icv_drops));
	vj_age(o, "last_used_age_s", LOAD(c->last_used_ns), now);
	vj_age(o, "age_s", s->created_ns, now);
	vj_bool(o, "live", s->live);
	vj_bool(o, "in_use", s->dir == SA_OUT ? s->set->out == s : s->live);
	vj_put(o, "for", json_sels(s));
	vj_str(o, "refused", s->refused);
	vj_put(o, "life", json_life(s, now));
	vj_str(o, "source", s->owner ? "ike" : "file");
	vj_put(o, "offload", json_sa_offload(s));
	return o;
}

/* ---- paths ---- */

bool verbs_remote(const struct link *l, unsigned int i, struct in6_addr *a, uint16_t *port)
{
	*a = l->paths[i].remote;
	*port = l->paths[i].conf.port;
	if (l->w && i < l->w->n_paths) {
		pthread_mutex_lock(&l->w->path_lock);
		*a = l->w->paths[i].remote;
		*port = l->w->paths[i].port;
		pthread_mutex_unlock(&l->w->path_lock);
	}
	return !IN6_IS_ADDR_UNSPECIFIED(a);
}

/* Which part of the flows, what has gone there, and what its probes say. */
static void put_path_use(json_t *o, const struct link *l, unsigned int i)
{
	static const struct wpath_live none;
	const struct wpath_live *v = l->w ? &l->w->paths[i].live : &none;
	uint64_t rtt = LOAD_ATOMIC(v->rtt_ns);

	vj_put(o, "share", json_real(l->paths[i].in_use ? l->paths[i].slots / (double)SPREAD_SLOTS : 0));
	vj_int(o, "envelopes", LOAD_ATOMIC(v->envelopes));
	vj_int(o, "envelope_bytes", LOAD_ATOMIC(v->bytes));
	vj_put(o, "rtt_us", rtt ? json_integer(rtt / 1000) : NULL);
	vj_age(o, "last_roundtrip_age_s", LOAD_ATOMIC(v->roundtrip_ns), now_ns());
}

json_t *verbs_path(const struct link *l, unsigned int i, bool all)
{
	const struct link_path *p = &l->paths[i];
	json_t *o = json_object();
	struct in6_addr remote;
	uint16_t port;

	verbs_remote(l, i, &remote, &port);
	vj_addr(o, "remote", &remote);
	vj_put(o, "port", p->conf.encap == ENCAP_UDP ? json_integer(port) : NULL);
	vj_str(o, "encap", verbs_encap(p->conf.encap));
	vj_int(o, "fwmark", p->conf.fwmark);
	vj_int(o, "table", p->conf.table);
	vj_str(o, "dev", p->dev);
	vj_addr(o, "src", &p->src);
	vj_int(o, "mtu", p->mtu);
	vj_bool(o, "learned", p->learned);
	if (!all)
		return o;
	vj_int(o, "index", i);
	vj_str(o, "state", path_state_name(path_state(l, i, now_ns())));
	vj_bool(o, "in_use", p->in_use);
	put_path_use(o, l, i);
	vj_bool(o, "any", p->conf.any);
	vj_str(o, "host", p->conf.host);
	vj_int(o, "weight", p->conf.weight);
	vj_str(o, "error",
	       p->loop    ? "route-loop"
	       : p->error ? strerror(p->error < 0 ? -p->error : p->error)
			  : NULL);
	return o;
}

static json_t *paths_of(const struct link *l)
{
	json_t *o = json_object(), *a = json_array();

	for (unsigned int i = 0; i < l->n_paths; i++)
		json_array_append_new(a, verbs_path(l, i, true));
	vj_str(o, "name", l->conf.name);
	vj_str(o, "peer", l->conf.peer);
	vj_put(o, "paths", a);
	return o;
}

/* ---- links ---- */

static json_t *json_liveness(const struct link *l, uint64_t now)
{
	static const struct wlink_live none;
	const struct wlink_live *v = l->w ? &l->w->live : &none;
	uint64_t rtt = LOAD_ATOMIC(v->rtt_ns);
	json_t *o = json_object();

	vj_str(o, "mode", verbs_liveness(link_liveness(l)));
	vj_int(o, "interval_ms", l->conf.live_ms);
	vj_int(o, "count", l->conf.live_count);
	vj_put(o, "rtt_us", rtt ? json_integer(rtt / 1000) : NULL);
	vj_age(o, "last_heard_age_s", LOAD_ATOMIC(v->heard_ns), now);
	vj_age(o, "last_roundtrip_age_s", LOAD_ATOMIC(v->roundtrip_ns), now);
	vj_age(o, "peer_hears_us_age_s", LOAD_ATOMIC(v->peer_heard_ns), now);
	return o;
}

static json_t *json_cover(const struct link *l)
{
	json_t *o = json_object();

	vj_put(o, "per_s", l->conf.cover ? json_integer(l->conf.cover) : NULL);
	vj_int(o, "sent", l->w ? LOAD_ATOMIC(l->w->live.covers) : 0);
	return o;
}

static json_t *json_keepalive(const struct link *l)
{
	json_t *o = json_object();

	vj_put(o, "interval_ms", l->conf.keepalive_ms ? json_integer(l->conf.keepalive_ms) : NULL);
	vj_int(o, "sent", l->w ? LOAD_ATOMIC(l->w->live.keepalives) : 0);
	return o;
}

static json_t *json_traffic(uint64_t packets, uint64_t bytes)
{
	json_t *o = json_object();

	vj_int(o, "packets", packets);
	vj_int(o, "bytes", bytes);
	return o;
}

static void put_p2p(json_t *o, const char *own, const char *far, const struct p2p *p)
{
	static const struct in6_addr unset;

	vj_addr(o, own, p->set ? &p->own : &unset);
	vj_addr(o, far, p2p_has_far(p) ? &p->far : &unset);
}

static void put_identity(json_t *o, const struct link *l, uint64_t now)
{
	char alt[24], when[32];

	snprintf(alt, sizeof alt, "ipsec:%u", l->conf.number);
	vj_str(o, "name", l->conf.name);
	vj_str(o, "altname", alt);
	vj_str(o, "peer", l->conf.peer);
	vj_str(o, "state", link_state_name(l));
	vj_str(o, "reason", link_reason_name(l->reason));
	vj_str(o, "reason_text", link_reason_text(l->reason));
	vj_str(o, "admin", l->admin_up ? "up" : "down");
	vj_bool(o, "carrier", l->carrier);
	vj_str(o, "since", l->since_ns ? verbs_time(when, now - l->since_ns) : NULL);
	vj_age(o, "since_age_s", l->since_ns, now);
	vj_int(o, "flaps", l->flaps);
}

/* As the SYNs of either family see it. */
static json_t *json_clamp(const struct link *l)
{
	json_t *o = l->conf.mss_clamp ? json_object() : NULL;

	if (!o)
		return NULL;
	vj_int(o, "v4", link_mss(l, IP4_HDR_LEN));
	vj_int(o, "v6", link_mss(l, IP6_HDR_LEN));
	return o;
}

/* What was asked for; what came of it is its SAs'. */
static json_t *json_offload(const struct link *l)
{
	bool nobody = l->conf.offload != OFFLOAD_OFF && !link_by_kernel(l);
	json_t *o = json_object();

	vj_str(o, "asked", conf_offload_name(l->conf.offload));
	vj_str(o, "device", l->conf.offload_dev);
	vj_str(o, "why", nobody ? "its SAs are not the kernel's: see backend_why" : NULL);
	return o;
}

static json_t *json_addrs(const struct vips *v)
{
	json_t *a = json_array();
	char buf[INET6_ADDRSTRLEN];

	for (unsigned int i = 0; i < v->n; i++)
		json_array_append_new(a, json_string(addr_str(&v->a[i], buf)));
	return a;
}

static json_t *json_virtual(const struct link *l)
{
	json_t *o = json_object();

	vj_put(o, "own", json_addrs(&l->own_vips));
	vj_put(o, "far", json_addrs(&l->far_vips));
	return o;
}

static void put_device(json_t *o, const struct link *l)
{
	put_p2p(o, "address", "far", &l->conf.address);
	put_p2p(o, "address6", "far6", &l->conf.address6);
	vj_put(o, "virtual", json_virtual(l));
	vj_int(o, "metric", l->conf.metric);
	vj_int(o, "mtu", l->mtu);
	vj_put(o, "mss_clamp", json_clamp(l));
	vj_str(o, "netns", l->conf.netns);
	vj_str(o, "backend", backend_name(l->backend));
	vj_str(o, "backend_configured", backend_name(l->conf.backend));
	vj_str(o, "backend_why", l->backend_why[0] ? l->backend_why : NULL);
	vj_put(o, "offload", json_offload(l));
	vj_int(o, "worker", l->worker);
	vj_int(o, "cores", l->w ? 1 + l->w->n_carriers : 1);
	vj_bool(o, "cores_send", l->w && l->w->n_carriers && l->w->reach);
	vj_int(o, "ifindex", l->ifindex);
}

static void put_ike(json_t *o, const struct daemon *d, const struct link *l)
{
	bool its = l->conf.ike[0] && d->ike_conn;
	char why[256] = "";
	enum ike_told told = its ? ike_conn_told(d->ike_conn, l->conf.ike, why, sizeof why) : IKE_TOLD_YES;

	vj_str(o, "ike", l->conf.ike);
	vj_put(o, "ike_told", its ? json_boolean(told == IKE_TOLD_YES) : NULL);
	vj_str(o, "ike_refused", told == IKE_TOLD_REFUSED ? why : NULL);
}

static json_t *json_link(const struct daemon *d, const struct link *l, uint64_t now)
{
	json_t *o = json_object(), *sas = json_array();
	struct books k;

	read_books(d, l, &k);
	put_identity(o, l, now);
	put_device(o, l);
	put_ike(o, d, l);
	vj_put(o, "liveness", json_liveness(l, now));
	vj_put(o, "keepalive", json_keepalive(l));
	vj_put(o, "cover", json_cover(l));
	vj_put(o, "path", l->cur_path < l->n_paths ? verbs_path(l, l->cur_path, false) : NULL);
	vj_int(o, "n_paths", l->n_paths);
	vj_int(o, "wire_mtu", worker_wire_mtu(d->workers[l->worker]));
	vj_put(o, "rx", json_traffic(k.w.in_pkts, k.w.in_bytes));
	vj_put(o, "tx", json_traffic(k.w.out_pkts, k.w.out_bytes));
	vj_int(o, "lost", k.w.lost);
	vj_int(o, "drops_in_total", k.in_total + k.in_early);
	vj_int(o, "drops_out_total", k.out_total);
	for (const struct sa *s = l->sas; s; s = s->next)
		json_array_append_new(sas, json_sa(s, now));
	vj_put(o, "sas", sas);
	return o;
}

static json_t *json_guardian(int pid)
{
	json_t *o = json_object();

	vj_put(o, "pid", pid > 0 ? json_integer(pid) : NULL);
	vj_bool(o, "alive", pid > 0 && (!kill(pid, 0) || errno == EPERM));
	return o;
}

static unsigned int links_up(const struct daemon *d)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < d->max_links; i++)
		n += d->links[i] && d->links[i]->up;
	return n;
}

static json_t *json_ike(const struct daemon *d)
{
	json_t *o = json_object();
	bool connected;

	ike_generation(d->ike, &connected);
	vj_bool(o, "connected", connected);
	vj_str(o, "vici", d->conf.vici_socket);
	return o;
}

/* How the peers that were known at the start came back. */
static json_t *json_peers(const struct daemon *d)
{
	const struct muster *m = d->muster;
	json_t *o = json_object();

	vj_int(o, "known", m ? m->known : 0);
	vj_int(o, "asked", m ? m->asked : 0);
	vj_int(o, "heard", m ? m->heard : 0);
	vj_put(o, "asked_s", m && m->asked_ns ? json_real((m->asked_ns - d->start_ns) / 1e9) : NULL);
	vj_put(o, "heard_s", m && m->heard_ns ? json_real((m->heard_ns - d->start_ns) / 1e9) : NULL);
	vj_str(o, "last", m && m->last[0] ? m->last : NULL);
	return o;
}

static json_t *json_daemon(const struct daemon *d, uint64_t now)
{
	json_t *o = json_object(), *guard = json_object();
	char when[32];

	vj_int(o, "pid", getpid());
	vj_str(o, "version", ESPWIRE_VERSION);
	vj_str(o, "started", verbs_time(when, now - d->start_ns));
	vj_int(o, "uptime_s", (now - d->start_ns) / 1000000000);
	vj_int(o, "workers", d->n_workers);
	vj_str(o, "crypto", aead_backend_name());
	vj_str(o, "backend", "afxdp");
	vj_put(o, "guardian", json_guardian(d->guardian_pid));
	vj_int(guard, "missing", d->guard_missing);
	vj_put(guard, "tcx", d->load ? json_boolean(load_guard_is_tcx(d->load)) : NULL);
	vj_put(o, "guard_layers", guard);
	vj_str(o, "port_4500", sock_udp_inode(ESP_PORT) ? "other" : "none");
	vj_put(o, "ike", json_ike(d));
	vj_int(o, "links", d->n_links);
	vj_int(o, "links_up", links_up(d));
	vj_put(o, "peers", json_peers(d));
	vj_str(o, "conf_file", d->conf_file);
	vj_str(o, "state_dir", d->state_dir);
	vj_str(o, "pin_dir", d->pin_dir);
	return o;
}

/* One link when args name it, else all. *bad: the reply when there is no such link. */
static json_t *each_link(struct verbs *v, json_t *args,
			 json_t *(*fn)(struct verbs *v, const struct link *l), json_t **bad)
{
	const char *name = vj_arg(args, "name");
	json_t *a = json_array();

	*bad = NULL;
	if (name) {
		struct link *l = links_by_name(v->d, name);

		if (l) {
			sad_look(v->d, l);
			json_array_append_new(a, fn(v, l));
		}
		else
			*bad = verbs_no_link(name);
		return a;
	}
	for (unsigned int i = 0; i < v->d->max_links; i++)
		if (v->d->links[i]) {
			sad_look(v->d, v->d->links[i]);
			json_array_append_new(a, fn(v, v->d->links[i]));
		}
	return a;
}

static json_t *show_one(struct verbs *v, const struct link *l)
{
	return json_link(v->d, l, now_ns());
}

json_t *verb_show(struct verbs *v, json_t *args)
{
	json_t *bad, *links = each_link(v, args, show_one, &bad), *r;

	if (bad) {
		json_decref(links);
		return bad;
	}
	r = vj_ok(v);
	vj_put(r, "daemon", json_daemon(v->d, now_ns()));
	vj_put(r, "links", links);
	vj_age(r, "rollback_in_s", v->rollback ? now_ns() : 0, v->rollback_ns);
	return r;
}

static json_t *paths_one(struct verbs *v, const struct link *l)
{
	return paths_of(l);
}

json_t *verb_path_list(struct verbs *v, json_t *args)
{
	json_t *bad, *links = each_link(v, args, paths_one, &bad), *r;

	if (bad) {
		json_decref(links);
		return bad;
	}
	r = vj_ok(v);
	vj_put(r, "links", links);
	return r;
}

/* ---- drops ---- */

static json_t *conservation_out(const struct books *k)
{
	json_t *o = json_object();

	vj_int(o, "raw_in", k->b.raw_segs);
	vj_int(o, "shortcut", k->b.lan_segs);
	vj_int(o, "emitted", k->w.out_pkts);
	put_sint(o, "in_funnel", k->in_funnel);
	vj_int(o, "drops", k->out_total);
	put_sint(o, "balance", k->out_balance);
	return o;
}

static json_t *conservation_in(const struct books *k)
{
	json_t *o = json_object();

	vj_int(o, "wire_in", k->w.in_xsk_pkts + k->w.in_sock_pkts + k->w.in_kernel_pkts);
	vj_int(o, "steered", k->b.wire_pkts);
	put_sint(o, "in_funnel", k->wire_lost);
	vj_int(o, "delivered", k->w.in_pkts);
	vj_int(o, "probes", k->w.in_probes);
	vj_int(o, "drops", k->in_total);
	put_sint(o, "balance", k->in_balance);
	return o;
}

static json_t *drops_one(struct verbs *v, const struct link *l)
{
	json_t *o = json_object();
	struct books k;

	read_books(v->d, l, &k);
	vj_str(o, "name", l->conf.name);
	vj_str(o, "peer", l->conf.peer);
	vj_str(o, "state", link_state_name(l));
	vj_put(o, "out", json_drops(k.drops_out));
	vj_put(o, "in", json_drops(k.drops_in));
	return o;
}

static json_t *conservation_one(struct verbs *v, const struct link *l)
{
	json_t *o = json_object();
	struct books k;

	read_books(v->d, l, &k);
	vj_str(o, "link", l->conf.name);
	vj_put(o, "out", conservation_out(&k));
	vj_put(o, "in", conservation_in(&k));
	return o;
}

/* What workers and the kernel dropped before it belonged to a link, since this daemon started. */
static void add_worker_drops(const struct daemon *d, __u64 *drops)
{
	for (unsigned int i = 0; i < d->n_workers; i++) {
		const struct worker_stats *s = d->workers[i] ? worker_stats(d->workers[i]) : NULL;
		struct port_stats raw, wire;

		if (!s)
			continue;
		drops[DROP_NO_SA] += LOAD_ATOMIC(s->no_sa);
		drops[DROP_SHORT] += LOAD_ATOMIC(s->torn);
		if (!worker_port_stats(d->workers[i], &raw, &wire))
			continue;
		drops[DROP_QUEUE_FULL] += raw.ring_full + wire.ring_full;
		drops[DROP_UMEM_EMPTY] += raw.fill_empty + wire.fill_empty;
	}
}

static json_t *json_global(const struct daemon *d)
{
	json_t *o = json_object();
	struct glob_ctr g = {0};

	if (d->load && load_glob_ctr(d->load, &g))
		memset(&g, 0, sizeof g);
	add_worker_drops(d, g.drops);
	vj_int(o, "wire_pass", g.wire_pass);
	vj_int(o, "wire_pass_frag", g.wire_pass_frag);
	vj_int(o, "guard_pass", g.guard_pass);
	vj_int(o, "keepalives", g.keepalives);
	vj_put(o, "drops", json_drops(g.drops));
	return o;
}

json_t *verb_drops(struct verbs *v, json_t *args)
{
	json_t *bad, *links = each_link(v, args, drops_one, &bad), *r, *texts;

	if (bad) {
		json_decref(links);
		return bad;
	}
	r = vj_ok(v);
	vj_put(r, "links", links);
	vj_put(r, "conservation", each_link(v, args, conservation_one, &bad));
	vj_put(r, "global", json_global(v->d));
	texts = json_object();
	for (int i = 1; i < DROP_MAX; i++)
		vj_str(texts, drop_names[i], drop_texts[i]);
	vj_put(r, "reasons", texts);
	return r;
}

/* ---- perf ---- */

static json_t *perf_stages(const struct worker_stats *s, double ns_per_clock)
{
	static const char *const names[N_STAGES] = {"read", "seal", "emit", "receive", "open", "check", "deliver", "carry"};
	json_t *a = json_array(), *o;

	for (int i = 0; i < N_STAGES; i++) {
		uint64_t n = LOAD_ATOMIC(s->stage[i].clocks);

		o = json_object();
		vj_str(o, "stage", names[i]);
		vj_int(o, "packets", LOAD_ATOMIC(s->stage[i].packets));
		vj_int(o, "calls", LOAD_ATOMIC(s->stage[i].calls));
		vj_int(o, "clocks", n);
		vj_int(o, "ns", (uint64_t)((double)n * ns_per_clock));
		json_array_append_new(a, o);
	}
	return a;
}

static json_t *perf_one(const struct daemon *d, unsigned int i, uint64_t now, double ns_per_clock)
{
	const struct worker *w = d->workers[i];
	const struct worker_stats *s = worker_stats(w);
	const struct beat *beat = d->load ? load_beat(d->load) : NULL;
	json_t *o = json_object();

	vj_int(o, "worker", i);
	vj_int(o, "taps", worker_n_taps(w));
	vj_int(o, "xsks", worker_n_xsks(w));
	vj_int(o, "wire_mtu", worker_wire_mtu(w));
	vj_bool(o, "owns_4500", false); /* nobody of ours binds it any more */
	vj_int(o, "udp_port", worker_udp_port(w));
	vj_age(o, "beat_age_s", beat ? LOAD(beat->worker_ns[i]) : 0, now);
#define STAT(f) vj_int(o, #f, LOAD_ATOMIC(s->f))
	STAT(loops), STAT(sleeps), STAT(tap_reads), STAT(tap_writes), STAT(sendmmsgs),
		STAT(sendmsgs_segs);
	STAT(recvmmsgs), STAT(recv_msgs), STAT(recv_pkts), STAT(wire_pkts), STAT(xsk_rx), STAT(udp_gso_runs);
	STAT(tx_eagain), STAT(no_sa), STAT(torn), STAT(bad_stamp), STAT(esn_tries), STAT(esn_resyncs);
	STAT(given), STAT(carried), STAT(kicks), STAT(waits);
#undef STAT
	vj_int(o, "syscalls", LOAD_ATOMIC(s->sleeps) + LOAD_ATOMIC(s->tap_reads) + LOAD_ATOMIC(s->tap_writes) +
				      LOAD_ATOMIC(s->sendmmsgs) + LOAD_ATOMIC(s->recvmmsgs));
	vj_put(o, "stages", perf_stages(s, ns_per_clock));
	return o;
}

json_t *verb_perf(struct verbs *v, json_t *args)
{
	json_t *r = vj_ok(v), *a = json_array();
	uint64_t now = now_ns(), spent = clocks() - v->d->start_clocks;
	double ns_per_clock = spent ? (double)(now - v->d->start_ns) / (double)spent : 0;

	vj_str(r, "crypto", aead_backend_name());
	for (unsigned int i = 0; i < v->d->n_workers; i++)
		if (v->d->workers[i])
			json_array_append_new(a, perf_one(v->d, i, now, ns_per_clock));
	vj_put(r, "workers", a);
	return r;
}
