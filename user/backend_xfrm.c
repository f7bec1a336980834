/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * backend_xfrm - SAs that the kernel has: states and policies in the underlay namespace, reached by an xfrm
 * device xN of the link that lies beside its bN in the backend namespace.
 *
 * out: classify hands raw packets to xN; its policies name the state in use by SPI, so that without that very state
 *      nothing leaves (XfrmOutNoStates). in: opened (ipsec_in.bpf.c) takes what comes out of xN to ipsecN.
 * A state is bound to outer addresses: where the path leads elsewhere, the SA becomes another state that goes on
 * behind the first one's numbers. For that, and until a path is known, its key stays in secret memory, as a worker's does.
 * In UDP the ports of a state can be changed where it stands, and it tells when its peer is heard elsewhere.
 * States of a file's SA outlive us, for a successor has the key and goes on; an IKE daemon's are gone with us.
 * Of several paths each has a state of its own outbound, whose policies take turns: what was left stays, for its IVs are
 * other ones than those of a state made anew with the same key, and is raised above all numbers before it is used again.
 * Inbound there is one state, for the sake of its window: sock_in brings to its address what comes to another one.
 * A NIC may do the cryptography of a state (`offload`): it is asked when the state is made, for it can be told neither before nor
 * after, and what came of it is read back. When that is another device than the path's for a while, it becomes another state.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "backend.h"
#include "encap.h"
#include "feature.h"
#include "load.h"
#include "log.h"
#include "ns.h"
#include "path.h"
#include "secmem.h"
#include "xfrm.h"

enum {
	SKIP = 1 << 16,      /* numbers left out where the one last used is not known exactly */
	LATE = 4,            /* the same of what was taken in */
	SETTLE = 6, SETTLE_US = 500, /* looks at a state that is to go */
	LEFT_LOOKS = 3,      /* at one that was left */
	STAT_NS = 1000000000, /* between two looks at what the kernel has refused, and at offload devices */
	OFFLOAD_HOLD_S = 5, OFFLOAD_DOUBLES = 9, /* a device is the path's for so long, twice as long each time, before a state follows it */
	ROUTE_METRIC = 1000, /* plus the link's id: one default route per device, all different */
};

/* struct ksa - the kernel's half of an SA */
struct ksa {
	struct sa_conf *conf;     /* in secret memory, until its life is over */
	struct in6_addr src, dst; /* outer, as its state has them; dst unspecified = there is no state */
	uint16_t sport, dport;    /* likewise, in UDP; 0 = it is not */
	struct xmapping heard;    /* where the state has heard its peer, port 0 = nowhere else */
	struct xuse seen;         /* of that state, at the last look */
	struct xerr err;          /* of that state, at the last look */
	uint64_t step;            /* by how much the numbers grew between the last two looks */
	uint32_t mark;            /* out: of its envelopes */
	bool no_ecn, no_pmtu;     /* as its state was made: that is not to be changed where it stands */
	struct {
		enum offload_mode asked; /* when its state was made, or looked at since; and of which device */
		char asked_dev[IFNAMSIZ];
		int tried;           /* the device that was asked, 0 = none, or it is worth another try */
		int wanted;          /* the one that would be, at the last look, and since when */
		uint64_t since_ns;
		unsigned int moves;  /* states made for the sake of it */
	} off;
	struct left {
		struct in6_addr dst;  /* unspecified = none */
		struct xuse seen;     /* at the last look */
		unsigned int looks;   /* that remain: what was under way when it was left is counted, too */
	} left[PATHS_MAX];        /* out: states that are not used */
	struct life life;
};

static uint32_t if_id(const struct daemon *d, const struct link *l)
{
	return xfrm_if_id(d->instance) | l->id;
}

static int request(struct daemon *d, struct nlmsghdr *h, nl_msg_fn fn, void *arg)
{
	return h ? nl_request(d->nl_x, h, fn, arg) : -EOPNOTSUPP;
}

static bool set(const struct in6_addr *a)
{
	return !IN6_IS_ADDR_UNSPECIFIED(a);
}

static bool same(const struct in6_addr *a, const struct in6_addr *b)
{
	return !memcmp(a, b, sizeof *a);
}

/* ---- what a state has counted ---- */

struct answer {
	enum sa_dir dir;
	struct xuse use;
	bool there;
};

static int read_use(void *arg, const struct nlmsghdr *h)
{
	struct answer *a = arg;

	a->there |= xfrm_use_read(h, a->dir, &a->use);
	return 0;
}

/* Return: 0, -ESRCH = no such state, -errno */
static int ask_state(struct daemon *d, enum sa_dir dir, uint32_t spi, const struct in6_addr *dst, struct xuse *u)
{
	_Alignas(8) char buf[XFRM_MSG_LEN];
	struct answer a = {.dir = dir};
	int err = request(d, xfrm_use_msg(buf, dst, spi), read_use, &a);

	if (!err && !a.there)
		err = -ESRCH;
	if (!err)
		*u = a.use;
	return err;
}

static int ask_use(struct daemon *d, const struct sa *sa, const struct in6_addr *dst, struct xuse *u)
{
	return ask_state(d, sa->dir, sa->spi, dst, u);
}

static void put(__u64 *to, uint64_t v)
{
	__atomic_store_n(to, v, __ATOMIC_RELAXED);
}

static void count_link(const struct link *l, enum sa_dir dir, uint64_t pkts, uint64_t bytes)
{
	struct wlink_ctr *c = l->w->ctr;

	put(dir == SA_OUT ? &c->out_kernel_pkts : &c->in_kernel_pkts, (dir == SA_OUT ? c->out_kernel_pkts : c->in_kernel_pkts) + pkts);
	put(dir == SA_OUT ? &c->out_kernel_bytes : &c->in_kernel_bytes,
	    (dir == SA_OUT ? c->out_kernel_bytes : c->in_kernel_bytes) + bytes);
}

/* seen: what that state had counted before */
static void count_since(struct sa *sa, struct xuse *seen, const struct xuse *u)
{
	struct ksa *k = sa->kernel;
	uint64_t pkts = u->pkts - seen->pkts, bytes = u->bytes - seen->bytes;

	count_link(sa->link, sa->dir, pkts, bytes);
	k->step = u->seq > sa->ctr->top ? u->seq - sa->ctr->top : 0;
	*seen = *u;
	put(&sa->ctr->pkts, sa->ctr->pkts + pkts);
	put(&sa->ctr->bytes, sa->ctr->bytes + bytes);
	put(&sa->ctr->top, MAX(sa->ctr->top, u->seq));
	if (pkts)
		put(&sa->ctr->last_used_ns, now_ns());
	k->life.pkts = sa->ctr->pkts;
	k->life.bytes = sa->ctr->bytes;
}

static void saw(struct sa *sa, const struct xuse *u)
{
	sa->kernel->seen = *u;
	put(&sa->ctr->state_pkts, u->pkts);
	put(&sa->ctr->state_bytes, u->bytes);
}

static void count(struct sa *sa, const struct xuse *u)
{
	count_since(sa, &sa->kernel->seen, u);
	saw(sa, u);
}

struct booking {
	struct link *link;
	struct link_ctr bpf;
};

/* What came in and neither went on nor died for a reason; packets that are under way, for a start. */
static uint64_t missing(const struct booking *b)
{
	const struct wlink_ctr *c = b->link->w->ctr;
	uint64_t in = c->in_xsk_pkts + c->in_sock_pkts + c->in_kernel_pkts;
	uint64_t out = c->in_pkts + c->in_probes + b->bpf.opened_segs + b->bpf.drops[DROP_INNER_SRC] + b->bpf.drops[DROP_INNER_ICMP] +
		       b->bpf.drops[DROP_LINK_DOWN] + b->bpf.drops[DROP_BAD_NEXT_HEADER] + b->link->x.lost.sel + b->link->x.lost.bad;

	for (unsigned int i = 1; i < DROP_MAX; i++)
		out += i == DROP_DUMMY ? 0 : c->drops_in[i];
	return in > out ? in - out : 0;
}

static int book_in_worker(struct worker *w, void *arg)
{
	const struct booking *b = arg;

	(void)w;
	b->link->w->ctr->drops_in[DROP_WORKER_GONE] += missing(b);
	return 0;
}

/* What nobody handed to the kernel was an echo, of a worker that died before it had counted it. */
static int book_echoes(struct worker *w, void *arg)
{
	const struct booking *b = arg;
	struct wlink_ctr *c = b->link->w->ctr;
	uint64_t echoes = c->out_kernel_pkts - MIN(c->out_kernel_pkts, b->bpf.kernel_segs);

	(void)w;
	if (echoes > c->kernel_probes) {
		c->kernel_probe_bytes += (echoes - c->kernel_probes) * PROBE_ECHO_LEN(b->link->conf.address.set);
		c->kernel_probes = echoes;
	}
	return 0;
}

/* What was opened for a worker that was dead, echoes, went nowhere; what it sealed before it died it had not counted. */
static void book_dead(struct daemon *d, struct link *l, enum sa_dir dir)
{
	struct booking b = {.link = l};

	if (l->in_worker && !load_link_ctr(d->load, l->id, &b.bpf))
		worker_call(d->workers[l->worker], dir == SA_IN ? book_in_worker : book_echoes, &b);
}

/* What a predecessor's state has carried since the predecessor last asked is in the books from here on. */
static void catch_up(struct daemon *d, struct sa *sa, const struct xuse *u)
{
	struct xuse was = {.pkts = sa->ctr->state_pkts, .bytes = sa->ctr->state_bytes};

	if (was.pkts > u->pkts || was.bytes > u->bytes)
		return;
	sa->kernel->seen = was;
	count(sa, u);
	book_dead(d, sa->link, sa->dir);
}

static int read_err(void *arg, const struct nlmsghdr *h)
{
	struct xerr *e = arg;

	return xfrm_err_read(h, e) ? 0 : -EPROTO;
}

/* What it has refused counts as drops of its link. The kernel shows its key with that, so not without need. */
static void look_err(struct daemon *d, const struct sa *sa)
{
	_Alignas(8) char buf[XFRM_MSG_LEN];
	struct ksa *k = sa->kernel;
	struct xerr e = k->err;

	if (sa->dir != SA_IN || !set(&k->dst))
		return;
	request(d, xfrm_err_msg(buf, &k->dst, sa->spi), read_err, &e);
	nl_wipe(d->nl_x);
	sa->link->x.err.old += e.old - k->err.old;
	sa->link->x.err.dup += e.dup - k->err.dup;
	sa->link->x.err.icv += e.icv - k->err.icv;
	k->err = e;
}

/* ---- states ---- */

/* In UDP a state that receives needs no peer: it tells where it has heard one. */
static bool waits(const struct link_path *p, enum sa_dir dir)
{
	return dir == SA_IN && p->conf.any && p->conf.encap == ENCAP_UDP && p->conf.has_local;
}

/* Where the path in use leads. Return: false = not known (yet) */
static bool ends(const struct link *l, enum sa_dir dir, struct in6_addr *src, struct in6_addr *dst)
{
	const struct link_path *p = &l->paths[l->cur_path];
	struct in6_addr own;

	if (!l->n_paths || !(set(&p->remote) || waits(p, dir)))
		return false;
	own = p->conf.has_local ? p->conf.local : p->src;
	if (!set(&own) || (set(&p->remote) && addr_is4(&own) != addr_is4(&p->remote)))
		return false;
	*src = dir == SA_OUT ? own : p->remote;
	*dst = dir == SA_OUT ? p->remote : own;
	return true;
}

/* Beside ends(): the ports there, 0 = bare ESP */
static void ports(const struct link *l, enum sa_dir dir, uint16_t *sport, uint16_t *dport)
{
	const struct link_path *p = &l->paths[l->cur_path];
	bool udp = p->conf.encap == ENCAP_UDP;

	*sport = !udp ? 0 : dir == SA_OUT ? ESP_PORT : path_port(p);
	*dport = !udp ? 0 : dir == SA_OUT ? path_port(p) : ESP_PORT;
}

/* How many packets more it may carry. Return: 0 = no limit; UINT64_MAX = none at all */
static uint64_t packets_left(const struct sa *sa, uint64_t seq)
{
	uint64_t left = UINT64_MAX;

	if (sa->life.hard.pkts)
		left = sa->life.hard.pkts > sa->ctr->pkts ? sa->life.hard.pkts - sa->ctr->pkts : 0;
	if (sa->dir == SA_OUT)
		left = MIN(left, sa->seq_limit > seq ? sa->seq_limit - seq : 0);
	return left == 0 ? UINT64_MAX : left == UINT64_MAX ? 0 : left;
}

/* u: what that state has counted, all zero for a new one. Return: false = nothing is left of its life, or of the numbers up to seq */
static bool put_limits(const struct sa *sa, const struct xuse *u, uint64_t seq, struct xstate *s)
{
	const struct life *life = &sa->kernel->life;
	uint64_t pkts = packets_left(sa, seq), now = now_ns(), wall = time(NULL);

	if (pkts == UINT64_MAX || now >= life->end_ns || (sa->life.hard.bytes && sa->ctr->bytes >= sa->life.hard.bytes))
		return false;
	s->hard_pkts = pkts ? u->pkts + pkts : 0;
	s->hard_bytes = sa->life.hard.bytes ? u->bytes + sa->life.hard.bytes - sa->ctr->bytes : 0;
	/* ours comes first, while we are there */
	if (life->end_ns != UINT64_MAX)
		s->hard_s = (life->end_ns - now) / 1000000000u + 2 + (u->made_s && wall > u->made_s ? wall - u->made_s : 0);
	return true;
}

static uint32_t mark_of(const struct link *l)
{
	return l->n_paths ? l->paths[l->cur_path].conf.fwmark : 0;
}

static struct xstate state_of(const struct daemon *d, const struct sa *sa)
{
	const struct link *l = sa->link;

	return (struct xstate){.conf = sa->kernel->conf, .src = sa->kernel->src, .dst = sa->kernel->dst,
			       .sport = sa->kernel->sport, .dport = sa->kernel->dport, .if_id = if_id(d, l),
			       .mark = mark_of(l),
			       .no_ecn = l->conf.outer.ecn_off, .no_pmtu = l->conf.outer.df == DF_CLEAR,
			       .sel = sa->dir == SA_IN && sa->set->n_sel ? sa->set->in_sel : NULL};
}

static void gone(struct sa *sa)
{
	struct ksa *k = sa->kernel;

	k->src = k->dst = in6addr_any;
	k->sport = k->dport = 0;
	k->heard.port = 0;
	sa->offload = (struct sa_offload){0};
	saw(sa, &(struct xuse){0});
	k->err = (struct xerr){0};
}

static void remove_state(struct daemon *d, struct sa *sa)
{
	_Alignas(8) char buf[XFRM_MSG_LEN];
	struct ksa *k = sa->kernel;

	if (!set(&k->dst))
		return;
	look_err(d, sa);
	request(d, xfrm_state_del_msg(buf, &k->dst, sa->spi), NULL, NULL);
	gone(sa);
}

/* Every number that any state of this SA may have used or taken. */
static uint64_t behind(const struct sa *sa, uint64_t skip)
{
	uint64_t first = sa->kernel->conf->seq_start;

	if (sa->dir == SA_IN)
		return MAX(first, sa->ctr->top + skip);
	return MAX(first ? first - 1 : 0, sa->ctr->top ? sa->ctr->top + skip : 0);
}

/* ---- offload: who does the cryptography of a state ---- */

static void drop_left(struct daemon *d, struct sa *sa);

static bool wants_nic(const struct link *l)
{
	return l->conf.offload == OFFLOAD_CRYPTO || l->conf.offload == OFFLOAD_AUTO;
}

/* Which device is to do it. Return: its ifindex, 0 = none is known, or none is wanted */
static int offload_device(struct daemon *d, const struct link *l)
{
	const struct link_path *p = &l->paths[l->cur_path];
	struct nl_link dev;

	if (!wants_nic(l) || !l->n_paths)
		return 0;
	if (!l->conf.offload_dev[0])
		return p->error ? 0 : p->oif;
	return nl_link_get(d->nl_u, l->conf.offload_dev, &dev) ? 0 : dev.ifindex;
}

static bool same_wish(const struct ksa *k, const struct link *l)
{
	return k->off.asked == l->conf.offload && !strcmp(k->off.asked_dev, l->conf.offload_dev);
}

static void note_wish(struct ksa *k, const struct link *l)
{
	k->off.asked = l->conf.offload;
	memcpy(k->off.asked_dev, l->conf.offload_dev, sizeof k->off.asked_dev);
}

static const char *offload_name_of(const struct link *l)
{
	return l->conf.offload_dev[0] ? l->conf.offload_dev : l->paths[l->cur_path].dev;
}

static void event_offload(struct daemon *d, const struct sa *sa)
{
	const struct sa_offload *o = &sa->offload;
	const struct link *l = sa->link;
	char spi[16];
	json_t *ev;

	snprintf(spi, sizeof spi, "0x%08x", sa->spi);
	ev = json_pack("{s:i s:s s:s s:s s:s s:s s:s s:s s:s? s:s?}", "schema", 1, "event", "offload", "link", l->conf.name,
		       "peer", l->conf.peer, "dir", sa->dir == SA_OUT ? "out" : "in", "spi", spi, "asked",
		       conf_offload_name(l->conf.offload), "mode", conf_offload_name(o->ifindex ? OFFLOAD_CRYPTO : OFFLOAD_OFF),
		       "device", o->ifindex ? o->dev : NULL, "why", o->why[0] ? o->why : NULL);
	if (ev && d->on_event)
		d->on_event(d, ev);
	json_decref(ev);
}

/* Each change once per link and direction; that it is as it was asked for is no news the first time. */
static void tell_offload(struct daemon *d, const struct sa *sa)
{
	const struct sa_offload *o = &sa->offload;
	const char *dir = sa->dir == SA_OUT ? "out" : "in";
	struct link *l = sa->link;
	struct offload_told *told = &l->x.offload[sa->dir == SA_IN];
	bool first = !told->known || told->asked != l->conf.offload;

	if (!first && told->ifindex == o->ifindex)
		return;
	*told = (struct offload_told){true, l->conf.offload, o->ifindex};
	if (o->why[0])
		log_warnx("%s: %s: offload = %s: in software: %s", l->conf.name, dir, conf_offload_name(l->conf.offload), o->why);
	else if (o->ifindex)
		log_info("%s: %s: offload = %s: crypto on %s", l->conf.name, dir, conf_offload_name(l->conf.offload), o->dev);
	if (!first || o->why[0] || l->conf.offload == OFFLOAD_AUTO)
		event_offload(d, sa);
}

static int read_offload(void *arg, const struct nlmsghdr *h)
{
	return xfrm_offload_read(h, arg) ? 0 : -EPROTO;
}

/* Nothing was asked of a NIC, or nothing came of it. */
static void say_why(const struct link *l, int tried, const char *refused, struct sa_offload *o)
{
	const char *dev = offload_name_of(l);

	if (l->conf.offload == OFFLOAD_OFF)
		return;
	if (l->conf.offload == OFFLOAD_PACKET)
		snprintf(o->why, sizeof o->why, "packet offload is not driven: the NIC would number envelopes unseen, and knows no if_id; offload = crypto asks for the cipher alone");
	else if (refused[0])
		snprintf(o->why, sizeof o->why, "%s refused it: %s", dev, refused);
	else if (!tried && l->conf.offload_dev[0])
		snprintf(o->why, sizeof o->why, "there is no device %s in the underlay", dev);
	else if (!tried)
		snprintf(o->why, sizeof o->why, "no route says yet which device it is");
	else
		snprintf(o->why, sizeof o->why, "%s takes no states: ethtool -k %s says esp-hw-offload where a NIC can", dev, dev);
}

/* What the kernel has made of the wish. Its answer holds the key, so it is not asked without need. */
static void see_offload(struct daemon *d, struct sa *sa, const char *refused)
{
	_Alignas(8) char buf[XFRM_MSG_LEN];
	struct sa_offload *o = &sa->offload;
	struct ksa *k = sa->kernel;
	struct nl_link dev;

	*o = (struct sa_offload){0};
	if (k->off.tried || sa->adopted) {
		request(d, xfrm_err_msg(buf, &k->dst, sa->spi), read_offload, &o->ifindex);
		nl_wipe(d->nl_x);
	}
	if (!o->ifindex)
		say_why(sa->link, k->off.tried, refused, o);
	else if (!nl_link_get_index(d->nl_u, o->ifindex, &dev))
		memcpy(o->dev, dev.name, sizeof o->dev);
	else
		snprintf(o->dev, sizeof o->dev, "%d", o->ifindex);
	tell_offload(d, sa);
}

/*
 * Should its state be made again, for the sake of the device? At once when somebody has changed the wish; when it
 * is the path that has another device, once that has lasted, for each state begins other IVs under the same key (decision 54).
 */
static bool offload_moves(struct daemon *d, struct sa *sa)
{
	const struct link *l = sa->link;
	struct ksa *k = sa->kernel;
	int want = offload_device(d, l), have = sa->offload.ifindex;
	bool told = !same_wish(k, l);
	uint64_t now = now_ns(), hold = OFFLOAD_HOLD_S * 1000000000ull << MIN(k->off.moves, (unsigned int)OFFLOAD_DOUBLES);

	if (want != k->off.wanted) {
		k->off.wanted = want;
		k->off.since_ns = now;
	}
	note_wish(k, l);
	if (want == have || (!want && wants_nic(l) && !told)) {
		k->off.tried = want; /* what a device did not take before, it may take when it comes back */
		if (told)
			see_offload(d, sa, "");
		return false;
	}
	if (want && !told && (want == k->off.tried || now - k->off.since_ns < hold))
		return false;
	if (told)
		drop_left(d, sa);
	else
		k->off.moves++;
	return true;
}

static int send_state(struct daemon *d, const struct xstate *s)
{
	_Alignas(8) char buf[XFRM_MSG_LEN];
	int err = request(d, xfrm_state_msg(buf, s), NULL, NULL);

	explicit_bzero(buf, sizeof buf);
	return err;
}

/* With the offload that is wanted; a NIC that refuses leaves nobody without an SA. */
static int put_state(struct daemon *d, struct sa *sa, struct xstate *s)
{
	struct ksa *k = sa->kernel;
	char refused[112] = "";
	int err;

	note_wish(k, sa->link);
	k->off.wanted = k->off.tried = s->offload = offload_device(d, sa->link);
	k->off.since_ns = now_ns();
	err = send_state(d, s);
	if (err && s->offload) {
		snprintf(refused, sizeof refused, "%s%s%s%s", strerror(-err), *nl_err(d->nl_x) ? ": " : "", nl_err(d->nl_x),
			 err != -EINVAL ? "" : s->sport ? " (ESP in UDP wants Linux 6.11)" : sa->esn ? " (without ESN it might not: ipsecd.conf(5))" : "");
		s->offload = 0;
		err = send_state(d, s);
	}
	if (!err)
		see_offload(d, sa, refused);
	return err;
}

/* A new state, behind all of them. */
static int add_state(struct daemon *d, struct sa *sa, uint64_t skip)
{
	struct xstate s = state_of(d, sa);
	int err;

	s.seq = behind(sa, skip);
	if (!put_limits(sa, &(struct xuse){0}, s.seq, &s))
		return -EDQUOT;
	err = put_state(d, sa, &s);
	if (!err) {
		put(&sa->ctr->top, s.seq);
		sa->kernel->mark = sa->dir == SA_OUT ? s.mark : 0;
		sa->kernel->no_ecn = s.no_ecn;
		sa->kernel->no_pmtu = s.no_pmtu;
	}
	return err;
}

/* What a state that stands may be told anew. Return: 0; -EDQUOT nothing is left of its life, or of the numbers up to seq; -errno */
static int amend(struct daemon *d, struct sa *sa, uint64_t seq)
{
	_Alignas(8) char buf[XFRM_MSG_LEN];
	struct xstate s = state_of(d, sa);
	int err;

	if (!put_limits(sa, &sa->kernel->seen, seq, &s))
		return -EDQUOT;
	err = request(d, xfrm_limit_msg(buf, &s), NULL, NULL);
	if (!err && s.mark && sa->dir == SA_OUT)
		sa->kernel->mark = s.mark;
	return err;
}

/* After amend(): is it the state that we want, if perhaps at its end? Not: it is in UDP and should not be, or the other way. */
static bool stands(int err)
{
	return !err || err == -EDQUOT;
}

/* A state that was left, above all numbers that others used meanwhile. */
static int raise_state(struct daemon *d, struct sa *sa, uint64_t seq)
{
	_Alignas(8) char buf[XFRM_MSG_LEN];
	int err = amend(d, sa, seq);

	if (!err)
		err = request(d, xfrm_seq_msg(buf, &sa->kernel->dst, sa->spi, seq), NULL, NULL);
	if (!err)
		put(&sa->ctr->top, seq);
	return err;
}

/* ---- states that wait for their path's turn ---- */

static struct left *left_at(struct ksa *k, const struct in6_addr *dst)
{
	for (unsigned int i = 0; i < PATHS_MAX; i++)
		if (same(&k->left[i].dst, dst))
			return &k->left[i];
	return NULL;
}

static void drop_at(struct daemon *d, const struct sa *sa, const struct in6_addr *dst)
{
	_Alignas(8) char buf[XFRM_MSG_LEN];

	request(d, xfrm_state_del_msg(buf, dst, sa->spi), NULL, NULL);
}

static void drop_left(struct daemon *d, struct sa *sa)
{
	struct ksa *k = sa->kernel;

	for (unsigned int i = 0; i < PATHS_MAX; i++)
		if (set(&k->left[i].dst))
			drop_at(d, sa, &k->left[i].dst);
	memset(k->left, 0, sizeof k->left);
}

/* A predecessor may have left one at each remote. */
static void know_left(struct sa *sa)
{
	const struct link *l = sa->link;

	for (unsigned int i = 0; i < l->n_paths; i++)
		if (set(&l->paths[i].remote) && !left_at(sa->kernel, &l->paths[i].remote))
			sa->kernel->left[i] = (struct left){.dst = l->paths[i].remote};
}

static void look_left(struct daemon *d, struct sa *sa)
{
	for (unsigned int i = 0; i < PATHS_MAX; i++) {
		struct left *left = &sa->kernel->left[i];
		struct xuse u;

		if (!left->looks)
			continue;
		left->looks--;
		if (!ask_use(d, sa, &left->dst, &u))
			count_since(sa, &left->seen, &u);
	}
}

/* Not used from now on. Where nothing leads any more, or no room is left, it goes. */
static void leave_state(struct daemon *d, struct sa *sa)
{
	struct left *room = left_at(sa->kernel, &in6addr_any);
	bool leads = false;

	for (unsigned int i = 0; i < sa->link->n_paths; i++)
		leads |= same(&sa->link->paths[i].remote, &sa->kernel->dst);
	if (!leads || !room) {
		remove_state(d, sa);
		return;
	}
	*room = (struct left){sa->kernel->dst, sa->kernel->seen, LEFT_LOOKS};
	gone(sa);
}

/* May a state be used as it stands? In tunnel mode one that receives does not care where from. */
static bool goes_on(const struct sa *sa, const struct xuse *u, const struct in6_addr *src, bool moves)
{
	bool from = same(&u->src, src);

	if (sa->dir == SA_IN)
		return from || sa->mode == SA_TUNNEL;
	return from && !moves && u->seq >= sa->ctr->top;
}

/*
 * A state of this very SA stands there already. A predecessor's in use goes on: the same numbers, the same IVs. One that was left has old
 * numbers, and goes on behind all that were used since. Return: false = there is none that could
 */
static bool take_up(struct daemon *d, struct sa *sa, const struct in6_addr *src, const struct in6_addr *dst, bool moves)
{
	struct ksa *k = sa->kernel;
	struct left *left = left_at(k, dst);
	struct xuse u;

	if (!(left || (sa->adopted && !moves)) || ask_use(d, sa, dst, &u))
		return false;
	k->src = *src;
	k->dst = *dst;
	k->no_ecn = sa->link->conf.outer.ecn_off;
	k->no_pmtu = sa->link->conf.outer.df == DF_CLEAR;
	ports(sa->link, sa->dir, &k->sport, &k->dport);
	if (left && left->looks)
		count_since(sa, &left->seen, &u);
	if (sa->adopted && !moves && (sa->dir == SA_IN || u.seq >= sa->ctr->top))
		catch_up(d, sa, &u);
	saw(sa, &u);
	if (sa->dir == SA_IN)
		put(&sa->ctr->top, MAX(sa->ctr->top, u.seq));
	if (goes_on(sa, &u, src, moves)) {
		put(&sa->ctr->top, MAX(sa->ctr->top, u.seq));
		if (stands(amend(d, sa, sa->ctr->top)))
			return true;
	} else if (sa->dir == SA_OUT && same(&u.src, src) && !raise_state(d, sa, MAX(behind(sa, SKIP), u.seq))) {
		return true;
	}
	drop_at(d, sa, dst);
	if (sa->dir == SA_IN && sa->ctr->top) /* it took in until now */
		put(&sa->ctr->top, sa->ctr->top + LATE);
	gone(sa);
	return false;
}

/* Several paths share one state inbound: it stays where it is, while that is an address of ours. */
static bool stays(const struct daemon *d, const struct sa *sa, const struct in6_addr *dst)
{
	const struct ksa *k = sa->kernel;

	return sa->dir == SA_IN && sa->link->n_paths > 1 && set(&k->dst) && addr_is4(&k->dst) == addr_is4(dst) &&
	       load_addr_has(d->load, &k->dst);
}

/* A predecessor's may stand at the address of another path. */
static void find_home(struct daemon *d, const struct sa *sa, struct in6_addr *dst)
{
	const struct link *l = sa->link;
	struct xuse u;

	for (unsigned int i = 0; i < l->n_paths && l->n_paths > 1; i++) {
		const struct link_path *p = &l->paths[i];
		const struct in6_addr *own = p->conf.has_local ? &p->conf.local : &p->src;

		if (!set(own) || addr_is4(own) != addr_is4(dst) || ask_use(d, sa, own, &u))
			continue;
		*dst = *own;
		return;
	}
}

static void settle(struct daemon *d, struct sa *sa);
static int enter(struct daemon *d, const struct sa *sa);

/* A state that was taken up: one of a predecessor's may be worth asking a NIC about, one that was left has been asked. */
static void know_offload(struct daemon *d, struct sa *sa, bool moves)
{
	struct ksa *k = sa->kernel;

	note_wish(k, sa->link);
	k->off.wanted = offload_device(d, sa->link);
	k->off.tried = moves ? k->off.wanted : 0;
	k->off.since_ns = 0;
	see_offload(d, sa, "");
}

/* The same state, but other ports or another mark: nothing is lost. Return: false = it must be another state */
static bool renumber(struct daemon *d, struct sa *sa)
{
	uint32_t mark = sa->dir == SA_OUT ? mark_of(sa->link) : 0;
	struct ksa *k = sa->kernel;
	struct xstate s = state_of(d, sa);
	uint16_t sport, dport;

	if (s.no_ecn != k->no_ecn || (sa->dir == SA_OUT && s.no_pmtu != k->no_pmtu))
		return false;
	ports(sa->link, sa->dir, &sport, &dport);
	if (sport == k->sport && dport == k->dport && mark == k->mark)
		return true;
	if (!sport != !k->sport || (k->mark && !mark)) /* the kernel takes none for no word on it */
		return false;
	k->sport = sport;
	k->dport = dport;
	return stands(amend(d, sa, sa->ctr->top));
}

/* Out of use, all that it used or took counted, so that nothing is used or taken twice (I2). */
static void withdraw(struct daemon *d, struct sa *sa, const struct in6_addr *dst)
{
	struct xuse u;

	if (sa->dir == SA_IN) {
		load_sa_in_del(d->load, htonl(sa->spi));
		settle(d, sa);
	} else if (!ask_use(d, sa, &sa->kernel->dst, &u)) {
		count(sa, &u);
	}
	if (sa->dir == SA_OUT && !same(dst, &sa->kernel->dst))
		leave_state(d, sa);
	else
		remove_state(d, sa);
}

/* ---- super-packets ---- */

static void x_name(const struct link *l, char name[IFNAMSIZ])
{
	snprintf(name, IFNAMSIZ, "x%u", l->conf.number);
}

/*
 * Would it take a super-packet for one packet? Where the kernel's offload of ESP is loaded, the crypto of a state in bare
 * ESP, or of one that a NIC has, comes after its counts: one for many numbers. The module stays while a state is there;
 * where esp4 is built in, nobody can see whether that is, too.
 */
static bool takes_whole(const struct sa *sa)
{
	const struct ksa *k = sa->kernel;
	bool is4;

	if (sa->dir != SA_OUT || !k || !set(&k->dst) || (k->dport && !sa->offload.ifindex))
		return false;
	is4 = addr_is4(&k->dst);
	return !access(is4 ? "/sys/module/esp4_offload" : "/sys/module/esp6_offload", F_OK) ||
	       access(is4 ? "/sys/module/esp4" : "/sys/module/esp6", F_OK);
}

static int cut(void *arg)
{
	static const char *const trains[] = {"tx-tcp-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation",
					     "tx-tcp6-segmentation", "tx-udp-segmentation", "tx-sctp-segmentation", "tx-gso-list", NULL};
	char name[IFNAMSIZ];

	x_name(arg, name);
	return feature_set(name, trains, false);
}

/* What a state may send while nobody looks is limited by its count (I2), and by it the books go: there the stack cuts before. */
static void cut_first(struct daemon *d, struct link *l)
{
	int err;

	for (const struct sa *sa = l->sas; sa && !l->x.cuts && l->x.ifindex; sa = sa->next) {
		if (!takes_whole(sa))
			continue;
		err = ns_call(d->backend_fd, cut, l);
		l->x.cuts = !err;
		if (err)
			log_rl("%s: its kernel device keeps super-packets whole (%s): its counters and limits may fall short",
			       l->conf.name, strerror(-err));
		return;
	}
}

/* Make the kernel's state what SA and path say; none where its life is over, as sad.c will find. */
static int place(struct daemon *d, struct sa *sa)
{
	struct ksa *k = sa->kernel;
	struct in6_addr src, dst;
	struct left *left;
	bool moves = set(&k->dst), anew, home;
	int err = 0;

	if (!k->conf || life_over(&k->life, now_ns()) || !ends(sa->link, sa->dir, &src, &dst))
		return 0;
	home = stays(d, sa, &dst);
	anew = moves && offload_moves(d, sa);
	if (home && !anew)
		return 0;
	if (home) {
		src = k->src;
		dst = k->dst;
	}
	if (sa->dir == SA_IN && sa->adopted && !moves)
		find_home(d, sa, &dst);
	if (moves && !anew && same(&src, &k->src) && same(&dst, &k->dst) && renumber(d, sa))
		return 0;
	if (moves)
		withdraw(d, sa, &dst);
	if (take_up(d, sa, &src, &dst, moves)) {
		know_offload(d, sa, moves);
	} else {
		k->src = src;
		k->dst = dst;
		ports(sa->link, sa->dir, &k->sport, &k->dport);
		err = add_state(d, sa, sa->dir == SA_OUT && (moves || sa->adopted) ? SKIP : 0);
	}
	if (err) {
		k->src = k->dst = in6addr_any;
		return err;
	}
	left = left_at(k, &dst);
	if (left)
		*left = (struct left){0};
	if (sa->dir == SA_IN)
		return enter(d, sa);
	cut_first(d, sa->link);
	return 0;
}

/* ---- policies ---- */

typedef struct nlmsghdr *(*policy_msg_fn)(void *buf, const struct xpolicy *p);

/* One for each inner family, or for that of its selector alone. Return: the first error */
static int each_policy(struct daemon *d, struct xpolicy *p, policy_msg_fn msg)
{
	_Alignas(8) char buf[XFRM_MSG_LEN];
	int err, first = 0;

	for (int i = 0; i < 2; i++) {
		p->is4 = !i;
		if (p->sel && addr_is4(&p->sel->src[0]) != p->is4)
			continue;
		err = request(d, msg(buf, p), NULL, NULL);
		first = first ? first : err;
	}
	return first;
}

static enum sa_mode mode(const struct link *l)
{
	return l->transport ? SA_TRANSPORT : SA_TUNNEL;
}

static struct xpolicy policies_in(const struct daemon *d, const struct link *l)
{
	return (struct xpolicy){.if_id = if_id(d, l), .mode = mode(l), .outer4 = addr_is4(l->n_paths ? &l->paths[l->cur_path].remote : &in6addr_any)};
}

static struct xpolicy policies_out(const struct daemon *d, const struct link *l, const struct sa_set *s)
{
	return (struct xpolicy){.out = true, .if_id = if_id(d, l), .mode = mode(l), .sel = s->n_sel ? s->out_sel : NULL};
}

static int put_in(struct daemon *d, struct link *l)
{
	struct xpolicy p = policies_in(d, l);

	l->x.transport = l->transport;
	return each_policy(d, &p, xfrm_policy_msg);
}

static bool stand(struct daemon *d, struct xpolicy p)
{
	return each_policy(d, &p, xfrm_policy_get_msg) != -ENOENT;
}

/* Somebody may have deleted them: nothing leaves then, and nothing should stay so. */
static int look_after(struct daemon *d, struct link *l)
{
	bool in = stand(d, policies_in(d, l)), out = true;

	l->x.doubt = false;
	for (struct sa_set *s = l->sets; s; s = s->next) {
		if (!s->x.sa || stand(d, policies_out(d, l, s)))
			continue;
		s->x.sa = NULL;
		out = false;
	}
	if (in && out)
		return 0;
	log_warnx("%s: its policies in the kernel were deleted by somebody; making them again", l->conf.name);
	return in ? 0 : put_in(d, l);
}

/* In transport mode: between whom. Without a state that sends, between nobody. */
static void set_hosts(struct daemon *d, struct link *l)
{
	const struct sa_set *s = l->x.sa ? l->x.sa->set : NULL;
	struct host_ent e = {.flags = l->n_paths && l->paths[l->cur_path].conf.encap == ENCAP_UDP ? HOST_F_UDP : 0};
	const struct p2p *own;

	if (!l->transport && !l->x.hosts)
		return;
	l->x.hosts = l->transport && s;
	if (!l->x.hosts) {
		load_host_del(d->load, l->id);
		return;
	}
	memcpy(&e.wild.src, &s->x.src, sizeof e.wild.src);
	memcpy(&e.wild.dst, &s->x.dst, sizeof e.wild.dst);
	own = addr_is4(&s->x.dst) ? &l->conf.address : &l->conf.address6;
	if (p2p_has_far(own) && !same(&own->far, &s->x.dst)) {
		memcpy(&e.own.src, &own->own, sizeof e.own.src);
		memcpy(&e.own.dst, &own->far, sizeof e.own.dst);
	}
	load_host_set(d->load, l->id, &e);
}

/* What worker and device go by. */
static void note_widest(struct daemon *d, struct link *l)
{
	l->x.sa = l->out && l->out->set->x.sa == l->out ? l->out : NULL;
	set_hosts(d, l);
}

/* What the out policies of a set say is computed from its SA in use and where the state of that stands. */
static int point(struct daemon *d, struct link *l, struct sa_set *s, const struct sa *sa)
{
	struct xpolicy p = policies_out(d, l, s);
	const struct ksa *k = sa ? sa->kernel : NULL;
	int err = 0;

	if (!k || !set(&k->dst)) {
		if (s->x.sa)
			each_policy(d, &p, xfrm_policy_del_msg);
		s->x.sa = NULL;
	} else if (s->x.sa != sa || !same(&s->x.src, &k->src) || !same(&s->x.dst, &k->dst)) {
		p.spi = sa->spi;
		p.src = k->src;
		p.dst = k->dst;
		p.outer4 = addr_is4(&k->dst);
		err = each_policy(d, &p, xfrm_policy_msg);
		s->x.sa = err ? s->x.sa : sa;
		s->x.src = err ? s->x.src : k->src;
		s->x.dst = err ? s->x.dst : k->dst;
	}
	note_widest(d, l);
	return err;
}

/* Also to say that there is nothing to point at: what was left is not counted. */
static int point_all(struct daemon *d, struct link *l)
{
	int first = 0, err;

	for (struct sa_set *s = l->sets; s; s = s->next) {
		err = s->out && s->out->kernel ? point(d, l, s, s->out) : 0;
		first = first ? first : err;
	}
	return first;
}

/* ---- SAs ---- */

static void forget(struct sa *sa)
{
	if (!sa->kernel)
		return;
	secmem_free(sa->kernel->conf);
	free(sa->kernel);
	sa->kernel = NULL;
}

static int enter(struct daemon *d, const struct sa *sa)
{
	struct sa_in_ent e = {.slot = sa->slot, .sgen = sa->sgen, .link = sa->link->id, .worker = sa->link->worker,
			      .flags = SA_IN_F_KERNEL};

	memcpy(&e.home, &sa->kernel->dst, sizeof e.home);
	return load_sa_in_set(d->load, htonl(sa->spi), &e);
}

static int install(struct daemon *d, struct sa *sa, const struct sa_spec *s, const struct sa_conf *c)
{
	struct ksa *k;
	int err;

	if (sa->set->n_sel > 1 ||
	    (sa->set->n_sel && (!s->file || c->mode == SA_TRANSPORT || !xfrm_has_words(sa->set->out_sel))))
		return -EOPNOTSUPP;
	k = calloc(1, sizeof *k);
	if (!k)
		return -ENOMEM;
	sa->kernel = k;
	sa->installed = true;
	k->conf = secmem_alloc(sizeof *k->conf);
	if (!k->conf)
		return -ENOMEM;
	*k->conf = *c;
	if (sa->owner) /* what IKE asks of us; a file's word is not ours to change */
		sa->window = k->conf->window = MIN(c->window, (uint32_t)XFRM_WINDOW_MAX);
	life_init(&k->life, &c->life, now_ns());
	k->life.pkts = sa->ctr->pkts; /* used up before a restart: ended, not refused */
	k->life.bytes = sa->ctr->bytes;
	sa->last_top = sa->ctr->top;
	sa->first_pkts = sa->ctr->pkts;
	if (sa->dir == SA_IN) /* what the kernel takes in is not marked here: to a worker that comes after it, all is seen */
		memset(load_replay(d->load) + sa->ctr->word_off, 0xff, sa->ctr->n_words * sizeof(uint64_t));
	if (sa->dir == SA_OUT && sa->adopted)
		know_left(sa);
	err = place(d, sa);
	return !err && sa->dir == SA_IN && !set(&k->dst) ? enter(d, sa) : err;
}

static int use(struct daemon *d, struct sa *sa)
{
	return point(d, sa->link, sa->set, sa);
}

/* Whether the peer has it cannot be asked: the kernel sends no dummies. IKE knows it anyway. */
static void ask(struct daemon *d, struct sa *sa)
{
	(void)d;
	log_info("%s: out sa 0x%08x: the kernel cannot ask the peer whether it has it: ipsecctl sa rekey --now once it has",
		 sa->link->conf.name, sa->spi);
}

/* Its state has counted so much in the end. Which of our limits was that? The numbers that were reserved are none. */
static void expired(struct sa *sa, const struct xexpire *e)
{
	const struct life_limit *hard = &sa->life.hard;
	struct ksa *k = sa->kernel;
	struct xuse u = {.pkts = MAX(e->pkts, k->seen.pkts), .bytes = MAX(e->bytes, k->seen.bytes)};
	enum life_cause cause = LIFE_NONE;

	u.seq = sa->ctr->top + u.pkts - k->seen.pkts;
	count(sa, &u);
	if (!e->by_pkts && !e->by_bytes)
		cause = LIFE_TIME;
	else if (e->by_bytes && hard->bytes)
		cause = LIFE_BYTES;
	else if (e->by_pkts && hard->pkts && sa->ctr->pkts >= hard->pkts)
		cause = LIFE_PACKETS;
	if (cause)
		atomic_store_explicit(&k->life.over, cause, memory_order_relaxed);
	gone(sa);
}

/* An inbound state's peer is elsewhere now. Links are told later: hear() is asked from amidst a change, too. */
static void on_mapping(struct daemon *d, const struct xmapping *m)
{
	for (unsigned int i = 0; i < d->max_sas; i++) {
		struct sa *sa = d->sas[i];

		if (!sa || !sa->kernel || sa->dir != SA_IN || sa->spi != m->spi || !same(&sa->kernel->dst, &m->dst))
			continue;
		sa->kernel->heard = *m;
		d->x_moved = true;
	}
}

static void follow_peers(struct daemon *d)
{
	d->x_moved = false;
	for (unsigned int i = 0; i < d->max_sas; i++) {
		struct sa *sa = d->sas[i];
		struct xmapping m;

		if (!sa || !sa->kernel || !sa->kernel->heard.port)
			continue;
		m = sa->kernel->heard;
		sa->kernel->heard.port = 0;
		if (path_heard(sa->link, sa->link->cur_path, &m.to, m.port))
			link_peer_moved(d, sa->link, sa->link->cur_path);
	}
}

static void on_event(struct daemon *d, const struct nlmsghdr *h)
{
	struct xmapping m;
	struct xexpire e;

	if (xfrm_mapping_read(h, &m) && (m.if_id & XFRM_IF_ID_MASK) == xfrm_if_id(d->instance))
		on_mapping(d, &m);
	if (!xfrm_expire_read(h, &e) || !e.hard || (e.if_id & XFRM_IF_ID_MASK) != xfrm_if_id(d->instance))
		return;
	for (unsigned int i = 0; i < d->max_sas; i++) {
		struct sa *sa = d->sas[i];

		if (sa && sa->kernel && sa->spi == e.spi && set(&sa->kernel->dst) && same(&sa->kernel->dst, &e.dst))
			expired(sa, &e);
	}
}

/* What does not fit, or was not heard for want of room, look() finds by itself. */
static void hear(struct daemon *d)
{
	_Alignas(8) char buf[8192];
	ssize_t n;

	while ((n = recv(d->x_events, buf, sizeof buf, MSG_DONTWAIT)) > 0 || (n < 0 && errno == EINTR)) {
		int left = n;

		for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left))
			on_event(d, h);
	}
}

/* Its state is gone, and not by us: its limit in the kernel, or somebody's `ip xfrm state flush`. */
static void lost(struct daemon *d, struct sa *sa)
{
	char nic[IFNAMSIZ + 8] = "";
	struct ksa *k = sa->kernel;
	int err;

	if (sa->offload.ifindex) /* the kernel deletes them when their device goes down */
		snprintf(nic, sizeof nic, "%s, or ", sa->offload.dev);
	hear(d);
	if (atomic_load_explicit(&k->life.over, memory_order_relaxed))
		return;
	gone(sa);
	sa->adopted = false;
	if (!ends(sa->link, sa->dir, &k->src, &k->dst))
		return;
	ports(sa->link, sa->dir, &k->sport, &k->dport);
	/* in: what it may have taken since the last look; a mark far above would keep out a peer that says little */
	err = add_state(d, sa, sa->dir == SA_OUT ? SKIP : 2 * k->step + LATE);
	if (err)
		k->src = k->dst = in6addr_any;
	else if (sa->dir == SA_IN)
		enter(d, sa);
	else
		cut_first(d, sa->link);
	log_warnx("%s: %s sa 0x%08x: the kernel's state %s%swas deleted by somebody: %s", sa->link->conf.name,
		  sa->dir == SA_OUT ? "out" : "in", sa->spi, nic[0] ? "went down with " : "", nic,
		  err ? strerror(-err) : "made again");
}

struct counting {
	struct sa *sa;
	struct xuse u;
};

static int count_in_worker(struct worker *w, void *arg)
{
	struct counting *c = arg;

	(void)w;
	count(c->sa, &c->u);
	return 0;
}

static void look(struct daemon *d, struct sa *sa)
{
	struct counting c = {.sa = sa};
	int err;

	if (!set(&sa->kernel->dst))
		return;
	if (!sa->wout)
		look_left(d, sa);
	err = ask_use(d, sa, &sa->kernel->dst, &c.u);
	if (!err && sa->wout) /* it moves, and the worker counts already */
		worker_call(d->workers[sa->link->worker], count_in_worker, &c);
	else if (!err)
		count(sa, &c.u);
	else if (err == -ESRCH)
		lost(d, sa);
}

static void limits(struct daemon *d, struct sa *sa)
{
	if (!set(&sa->kernel->dst))
		return;
	look(d, sa);
	amend(d, sa, sa->ctr->top);
}

/* IVs are the kernel's: numbers mixed with a random start of each state. */
static void used(const struct sa *sa, uint64_t *seq, uint64_t *iv)
{
	*seq = sa->ctr->top;
	*iv = 0;
}

static enum life_cause over(const struct sa *sa, uint64_t now)
{
	return life_over(&sa->kernel->life, now);
}

static uint64_t end_ns(const struct sa *sa)
{
	return sa->kernel->life.end_ns;
}

static void end(struct daemon *d, struct sa *sa)
{
	remove_state(d, sa);
	drop_left(d, sa);
	secmem_free(sa->kernel->conf);
	sa->kernel->conf = NULL;
}

/* With its entry gone, wire_in lets no more of it up; what was let up before has reached the state a moment later. */
static void settle(struct daemon *d, struct sa *sa)
{
	uint64_t was, more = 0;

	for (int i = 0; i < SETTLE; i++) {
		was = sa->ctr->pkts;
		look(d, sa);
		more = sa->ctr->pkts - was;
		if (i && !more)
			break;
		usleep(SETTLE_US);
	}
	if (sa->ctr->top && (more || !d->use_xdp)) /* it still takes in, and will between this look and its end */
		put(&sa->ctr->top, sa->ctr->top + 2 * more + LATE);
}

static void uninstall(struct daemon *d, struct sa *sa)
{
	if (!sa->kernel)
		return;
	if (sa->dir == SA_IN)
		load_sa_in_del(d->load, htonl(sa->spi));
	if (sa->set->x.sa == sa)
		point(d, sa->link, sa->set, NULL);
	if (set(&sa->kernel->dst) && sa->dir == SA_IN)
		settle(d, sa);
	else
		look(d, sa);
	remove_state(d, sa);
	drop_left(d, sa);
	forget(sa);
}

/* Nobody has an IKE daemon's key once we are gone. */
static void close_sa(struct daemon *d, struct sa *sa)
{
	if (sa->kernel && sa->owner) {
		drop_left(d, sa);
		remove_state(d, sa);
	}
	forget(sa);
}

/*
 * ---- the device of a link ----
 *
 * It stays up also when links are down: what is decrypted without it comes out at the uplink, to be refused there by
 * the policy check (XfrmInNoPols), and nobody should have to count on that.
 */

static int attach(void *arg)
{
	struct link *l = ((void **)arg)[0];
	struct daemon *d = ((void **)arg)[1];

	return load_attach_opened(d->load, l->x.ifindex);
}

/* IPv6 asks the backend's routing table even to send into it. */
static int raise_device(struct daemon *d, struct link *l)
{
	struct nl_sysctl s = {.family = "ipv6", .name = "disable_ipv6", .value = "0"};
	struct nl_route r = {.type = NL_RT_UNICAST, .oif = l->x.ifindex, .metric = ROUTE_METRIC + l->id, .proto = NL_PROTO_ESPWIRE};
	char name[IFNAMSIZ];
	int err;

	x_name(l, name);
	err = nl_link_set_up(d->nl_k, l->x.ifindex, true) ?: nl_sysctls(d->nl_k, name, &s, 1) ?: nl_route_add(d->nl_k, &r);
	l->x.ready = !err;
	return err;
}

static int make_device(struct daemon *d, struct link *l)
{
	void *arg[] = {l, d};
	char name[IFNAMSIZ];
	struct nl_link x;
	int err;

	x_name(l, name);
	if (!nl_link_get(d->nl_k, name, &x)) /* a predecessor's, perhaps of another id */
		nl_link_del(d->nl_k, x.ifindex);
	err = nl_xfrm_add(d->nl_u, name, if_id(d, l), d->backend_fd);
	if (!err)
		err = nl_link_get(d->nl_k, name, &x);
	if (err)
		return err;
	l->x.ifindex = x.ifindex;
	l->x.cuts = false;
	nl_link_set_mtu(d->nl_k, x.ifindex, 65535 - 100); /* ipsecN's decides */
	return ns_call(d->backend_fd, attach, arg);
}

static bool holds(const struct prefixes *s, const struct prefix *p)
{
	for (unsigned int i = 0; i < s->n; i++)
		if (s->p[i].len == p->len && s->p[i].is4 == p->is4 && same(&s->p[i].addr, &p->addr))
			return true;
	return false;
}

/* The new ones first, so that no source falls between. */
static int set_inner(struct daemon *d, struct link *l)
{
	struct prefixes now = {0}, was = l->x.inner;
	int err = link_inner(l, &now.p, &now.n);

	for (unsigned int i = 0; i < now.n && !err; i++)
		err = load_inner_set(d->load, l->id, &now.p[i]);
	for (unsigned int i = 0; i < was.n; i++)
		if (!holds(&now, &was.p[i]))
			load_inner_del(d->load, l->id, &was.p[i]);
	free(was.p);
	l->x.inner = now;
	return err;
}

static int watch(void *arg)
{
	struct daemon *d = arg;

	d->x_events = xfrm_watch();
	d->x_stat = open("/proc/thread-self/net/xfrm_stat", O_RDONLY | O_CLOEXEC);
	return 0;
}

static int open_kernel(struct daemon *d)
{
	int err = nl_open_bus(&d->nl_x, d->underlay_fd, NETLINK_XFRM);

	return err ? err : ns_call(d->underlay_fd, watch, d);
}

/* A path's device may be another one now, and one that is named may have come: then their states follow. */
static void follow_devices(struct daemon *d)
{
	for (unsigned int i = 0; i < d->max_sas; i++) {
		struct sa *sa = d->sas[i];
		int err;

		if (!sa || !sa->kernel || sa->wout || !set(&sa->kernel->dst) || !(wants_nic(sa->link) || sa->offload.ifindex))
			continue;
		err = place(d, sa);
		if (err)
			log_rl("%s: offload: %s %s", sa->link->conf.name, strerror(-err), nl_err(d->nl_x));
	}
}

/*
 * A state counts a packet, and only then its selector and the packet inside are looked at, by the kernel and by `opened`:
 * what is missing at two looks in a row was refused there.
 */
static void look_lost(struct daemon *d, struct link *l)
{
	struct booking b = {.link = l};
	uint64_t now, lost;

	if (!l->x.ifindex || !l->w || !l->w->ctr || load_link_ctr(d->load, l->id, &b.bpf))
		return;
	now = missing(&b);
	lost = MIN(now, l->x.missing);
	*(l->sets && l->sets->n_sel ? &l->x.lost.sel : &l->x.lost.bad) += lost;
	l->x.missing = now - lost;
}

void backend_xfrm_tick(struct daemon *d, uint64_t now)
{
	char buf[2048];
	ssize_t n;
	uint64_t sum = 0;

	if (!d->nl_x)
		return;
	hear(d);
	if (d->x_moved)
		follow_peers(d);
	if (now < d->x_stat_ns)
		return;
	d->x_stat_ns = now + STAT_NS;
	follow_devices(d);
	for (unsigned int i = 0; i < d->max_links; i++)
		if (d->links[i])
			look_lost(d, d->links[i]);
	n = pread(d->x_stat, buf, sizeof buf, 0);
	for (ssize_t i = 0; i < n; i++) /* has any counter moved? */
		sum = sum * 31 + (unsigned char)buf[i];
	if (n > 0 && sum == d->x_stat_sum)
		return;
	d->x_stat_sum = sum;
	for (unsigned int i = 0; i < d->max_sas; i++)
		if (d->sas[i] && d->sas[i]->kernel)
			look_err(d, d->sas[i]);
}

/*
 * A predecessor's state that no SA of ours goes on with, an IKE daemon's for one: it has gone on by itself. Its slot has not been cleared
 * yet, and tells how far that was in the books; wire_in lets no more up to it.
 */
static void write_off(struct daemon *d, const struct xfound *f)
{
	enum sa_dir dir = load_addr_has(d->load, &f->dst) ? SA_IN : SA_OUT;
	uint32_t id = f->if_id & ~XFRM_IF_ID_MASK;
	struct link *l = id < d->max_links ? d->links[id] : NULL;
	const struct sa_ctr *c = load_sactr(d->load);
	struct xuse u;

	for (unsigned int i = 0; l && l->adopted && i < d->max_sas; i++) {
		if (d->sas[i] || c[i].dir != dir || ntohl(c[i].spi_be) != f->spi || ask_state(d, dir, f->spi, &f->dst, &u) ||
		    u.pkts < c[i].state_pkts || u.bytes < c[i].state_bytes || (dir == SA_OUT && u.seq < c[i].top))
			continue; /* one that was left at another path is behind, and in the books already */
		count_link(l, dir, u.pkts - c[i].state_pkts, u.bytes - c[i].state_bytes);
		book_dead(d, l, dir);
		return;
	}
}

static bool wanted(void *arg, const struct xfound *f)
{
	struct daemon *d = arg;
	const struct link *l;
	uint32_t id = f->if_id & ~XFRM_IF_ID_MASK;

	for (unsigned int i = 0; f->spi && i < d->max_sas; i++) {
		const struct sa *sa = d->sas[i];

		if (sa && sa->kernel && sa->spi == f->spi && (same(&sa->kernel->dst, &f->dst) || left_at(sa->kernel, &f->dst)))
			return true;
	}
	if (f->spi)
		write_off(d, f);
	l = !f->spi && id < d->max_links ? d->links[id] : NULL;
	for (const struct sa_set *s = l && l->x.ifindex ? l->sets : NULL; s && f->out; s = s->next)
		if (s->x.sa && !s->n_sel == f->whole)
			return true;
	return l && l->x.ifindex && !f->out;
}

void backend_xfrm_sweep(struct daemon *d)
{
	bool open = d->nl_x;

	if (!open && nl_open_bus(&d->nl_x, d->underlay_fd, NETLINK_XFRM))
		return;
	xfrm_sweep(d->nl_x, XFRM_IF_ID_MASK, xfrm_if_id(d->instance), wanted, d);
	if (open)
		return;
	nl_close(d->nl_x);
	d->nl_x = NULL;
}

void backend_xfrm_fini(struct daemon *d)
{
	if (!d->nl_x)
		return;
	nl_close(d->nl_x);
	if (d->x_events >= 0)
		close(d->x_events);
	if (d->x_stat >= 0)
		close(d->x_stat);
}

static int link_follow(struct daemon *d, struct link *l)
{
	int err = d->nl_x ? 0 : open_kernel(d);
	bool fresh = !l->x.ifindex;

	if (!err && fresh)
		err = make_device(d, l);
	if (!err && (fresh || l->x.transport != l->transport))
		err = put_in(d, l);
	if (!err)
		err = set_inner(d, l);
	if (!err && !l->x.ready)
		err = raise_device(d, l);
	if (!err && l->n_paths && l->paths[l->cur_path].conf.encap == ENCAP_UDP)
		err = encap_open(d);
	for (struct sa *sa = l->sas; sa && !err; sa = sa->next)
		if (sa->kernel)
			err = place(d, sa);
	cut_first(d, l); /* the device may be newer than its states */
	if (!err && l->x.doubt)
		err = look_after(d, l);
	err = point_all(d, l) ?: err;
	if (err)
		log_rl("%s: backend xfrm: %s %s", l->conf.name, strerror(-err), nl_err(d->nl_x));
	return err;
}

static void link_leave(struct daemon *d, struct link *l)
{
	struct xpolicy in;

	if (!d->nl_x)
		return;
	for (struct sa_set *s = l->sets; s; s = s->next)
		point(d, l, s, NULL);
	in = policies_in(d, l);
	each_policy(d, &in, xfrm_policy_del_msg);
	if (l->x.ifindex)
		nl_link_del(d->nl_k, l->x.ifindex);
	l->x.ifindex = 0;
	l->x.ready = false;
	for (unsigned int i = 0; i < l->x.inner.n; i++)
		load_inner_del(d->load, l->id, &l->x.inner.p[i]);
	free(l->x.inner.p);
	l->x.inner = (struct prefixes){0};
}

const struct backend backend_xfrm = {
	.id = BACKEND_XFRM, .install = install, .use = use, .ask = ask, .look = look, .limits = limits, .used = used,
	.over = over, .end_ns = end_ns, .end = end, .uninstall = uninstall, .close = close_sa, .link = link_follow,
	.unlink = link_leave,
};
