/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * worker_rig - a worker's receiving side without a kernel behind it: what would come from its sockets and its
 * wire funnel is put in by the test, what it would write to its TAP or send is kept. No thread runs.
 *
 * Link with --wrap of what stands below "in place of": the modules under test are the real objects.
 */
#ifndef WORKER_RIG_H
#define WORKER_RIG_H

#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include "worker_priv.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { WR_LINK = 5, WR_LINKS = 8, WR_WINDOW = 64, WR_ROOM = 65536, WR_FD = 99, WR_OUT = 128 };

/* struct wr_msg - one message of a socket: where from, and what the kernel says about it */
struct wr_msg {
	const uint8_t *bytes;
	uint32_t len;
	struct in6_addr src, dst; /* v4-mapped or not decides the family */
	uint16_t port;            /* 0 for a raw socket */
	uint8_t tos, ttl;
	uint16_t seg; /* UDP_GRO, 0 = none */
};

/* struct wr_sent - a packet of ours on its way out: probes and their answers */
struct wr_sent {
	uint8_t bytes[256], next;
	uint32_t len;
	unsigned int path;
	bool probe, ip;
};

/** struct worker_rig - one link with one inbound SA; everything is zeroed by wr_init() */
struct worker_rig {
	struct worker w;
	struct wlink *links[WR_LINKS], *active[WR_LINKS];
	struct wlink l;
	struct wlink_ctr ctr, wctr[WR_LINKS];
	struct wsa_in in;
	struct wset set;
	struct wsa_out out;
	struct sa_ctr in_ctr, out_ctr;
	uint64_t words[2];
	/* to come in */
	struct wr_msg msg;
	bool have_msg;
	struct port_frame frame;
	bool have_frame;
	unsigned int released;
	/* went out */
	int tap_err;
	void (*tap)(struct worker_rig *r, const struct virtio_net_hdr *vh, const uint8_t *frame, uint32_t len);
	void *arg; /* the test's */
	struct wr_sent sent[8];
	unsigned int n_sent;
	uint8_t tap_frame[WR_ROOM + 64], out_buf[4096];
};

static struct worker_rig *wr; /* the one in use */

/* ---- in place of tap.c, port.c, outbound.c, load.c and the kernel ---- */

int __real_tap_writev(struct tap *t, const struct iovec *iov, int n);
int __real_recvmmsg(int fd, struct mmsghdr *msgs, unsigned int n, int flags, struct timespec *timeout);
int __wrap_tap_writev(struct tap *t, const struct iovec *iov, int n);
int __wrap_tap_writev(struct tap *t, const struct iovec *iov, int n)
{
	struct virtio_net_hdr vh;
	uint32_t len = 0;

	if (!wr)
		return __real_tap_writev(t, iov, n);
	memcpy(&vh, iov[0].iov_base, sizeof vh);
	for (int i = 1; i < n; i++) {
		memcpy(wr->tap_frame + len, iov[i].iov_base, iov[i].iov_len);
		len += (uint32_t)iov[i].iov_len;
	}
	if (!wr->tap_err && wr->tap)
		wr->tap(wr, &vh, wr->tap_frame, len);
	return wr->tap_err;
}

unsigned int __wrap_port_receive(struct port *p, struct port_frame *f, unsigned int n);
unsigned int __wrap_port_receive(struct port *p, struct port_frame *f, unsigned int n)
{
	*f = wr->frame;
	n = wr->have_frame;
	wr->have_frame = false;
	return n;
}

void __wrap_port_release(struct port *p, const struct port_frame *f, unsigned int n);
void __wrap_port_release(struct port *p, const struct port_frame *f, unsigned int n)
{
	wr->released += n;
}

struct wlink_ctr *__wrap_load_wctr(struct load *l);
struct wlink_ctr *__wrap_load_wctr(struct load *l)
{
	return wr->wctr;
}

uint8_t *__wrap_out_room(struct worker *w, const struct wlink *l, const struct wsa_out *o, uint32_t len);
uint8_t *__wrap_out_room(struct worker *w, const struct wlink *l, const struct wsa_out *o, uint32_t len)
{
	return wr->out_buf;
}

static void wr_keep(unsigned int path, uint32_t len, uint8_t next, bool probe, bool ip)
{
	struct wr_sent *s = &wr->sent[wr->n_sent % ARRAY_SIZE(wr->sent)];

	*s = (struct wr_sent){.path = path, .len = len, .next = next, .probe = probe, .ip = ip};
	memcpy(s->bytes, wr->out_buf, MIN((size_t)len, sizeof s->bytes));
	wr->n_sent++;
}

enum drop __wrap_out_push(struct worker *w, struct wlink *l, struct wsa_out *o, unsigned int path, uint32_t len, uint8_t next);
enum drop __wrap_out_push(struct worker *w, struct wlink *l, struct wsa_out *o, unsigned int path, uint32_t len, uint8_t next)
{
	wr_keep(path, len, next, true, false);
	return DROP_NONE;
}

enum drop __wrap_out_push_ip(struct worker *w, struct wlink *l, struct wsa_out *o, unsigned int path, uint32_t len, bool probe);
enum drop __wrap_out_push_ip(struct worker *w, struct wlink *l, struct wsa_out *o, unsigned int path, uint32_t len, bool probe)
{
	wr_keep(path, len, 0, probe, true);
	return DROP_NONE;
}

void __wrap_out_flush(struct worker *w);
void __wrap_out_flush(struct worker *w)
{
}

static void *wr_cmsg(struct msghdr *m, size_t *used, int level, int type, const void *val, size_t len)
{
	struct cmsghdr *c = (void *)((uint8_t *)m->msg_control + *used);

	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	*used += CMSG_SPACE(len);
	return memcpy(CMSG_DATA(c), val, len);
}

/* Names, control data and bytes as the kernel would put them. */
static void wr_fill(struct mmsghdr *mm, const struct wr_msg *in)
{
	struct msghdr *m = &mm->msg_hdr;
	struct sockaddr_in6 s6 = {.sin6_family = AF_INET6, .sin6_addr = in->src, .sin6_port = htons(in->port)};
	struct sockaddr_in s4 = {.sin_family = AF_INET, .sin_addr = addr_to4(&in->src), .sin_port = htons(in->port)};
	bool v4 = addr_is4(&in->src);
	struct in6_pktinfo p6 = {.ipi6_addr = in->dst};
	struct in_pktinfo p4 = {.ipi_addr = addr_to4(&in->dst)};
	int tos = in->tos, ttl = in->ttl, seg = in->seg;
	size_t used = 0;

	memcpy(m->msg_name, v4 ? (void *)&s4 : (void *)&s6, v4 ? sizeof s4 : sizeof s6);
	if (v4) {
		wr_cmsg(m, &used, IPPROTO_IP, IP_PKTINFO, &p4, sizeof p4);
		wr_cmsg(m, &used, IPPROTO_IP, IP_TTL, &ttl, sizeof ttl);
		wr_cmsg(m, &used, IPPROTO_IP, IP_TOS, &in->tos, sizeof in->tos);
	} else {
		wr_cmsg(m, &used, IPPROTO_IPV6, IPV6_PKTINFO, &p6, sizeof p6);
		wr_cmsg(m, &used, IPPROTO_IPV6, IPV6_HOPLIMIT, &ttl, sizeof ttl);
		wr_cmsg(m, &used, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof tos);
	}
	if (in->seg)
		wr_cmsg(m, &used, IPPROTO_UDP, UDP_GRO, &seg, sizeof seg);
	m->msg_controllen = used;
	mm->msg_len = in->len;
	memcpy(m->msg_iov->iov_base, in->bytes, in->len);
}

int __wrap_recvmmsg(int fd, struct mmsghdr *msgs, unsigned int n, int flags, struct timespec *timeout);
int __wrap_recvmmsg(int fd, struct mmsghdr *msgs, unsigned int n, int flags, struct timespec *timeout)
{
	if (fd != WR_FD) /* a test with sockets of its own */
		return __real_recvmmsg(fd, msgs, n, flags, timeout);
	if (!wr->have_msg) {
		errno = EAGAIN;
		return -1;
	}
	wr->have_msg = false;
	wr_fill(msgs, &wr->msg);
	return 1;
}

/* ---- the rig ---- */

static inline struct in6_addr wr_addr(const char *s)
{
	struct in6_addr a;

	if (addr_parse(s, &a))
		abort();
	return a;
}

/** wr_init() - a link over one path with the SA c describes; c->window WR_WINDOW at most. Return: 0 or -errno */
static inline int wr_init(struct worker_rig *r, const struct sa_conf *c, const char *remote, uint8_t encap)
{
	static uint8_t *rx_buf, *spare, again[AGAIN_LEN];
	static struct gro *gro;
	struct worker *w = &r->w;
	int err;

	wr = r; /* not the out queue: it is large and nobody looks at it */
	memset(w, 0, offsetof(struct worker, out));
	memset(&w->in, 0, offsetof(struct worker_rig, tap_frame) - offsetof(struct worker_rig, w.in));
	err = sa_in_init(&r->in.sa, c, (uint64_t *)&r->in_ctr.top, r->words);
	if (err)
		return err;
	w->links = r->links;
	w->active = r->active;
	w->max_links = WR_LINKS;
	w->now = 3600000000000u;
	w->gro = gro = gro ? gro : gro_new(true); /* empty: the last round was flushed */
	w->rx_buf = rx_buf = rx_buf ? rx_buf : malloc((size_t)RX_BUFS * RX_BUF_LEN); /* megabytes: once */
	w->again = again;
	w->spare = spare = spare ? spare : malloc(SPARE_LEN);
	r->l = (struct wlink){.id = WR_LINK, .gen = 3, .admin_up = true, .n_paths = 1, .ctr = &r->ctr,
			      .mode = LIVE_PROBE, .interval_ns = 500000000};
	r->l.paths[0] = (struct wpath){.remote = wr_addr(remote), .port = ESP_PORT, .encap = encap};
	pthread_mutex_init(&r->l.path_lock, NULL);
	r->in.slot = 7;
	life_init(&r->in.life, &c->life, w->now);
	r->in.link = WR_LINK;
	r->in.set = &r->set;
	r->in.ctr = &r->in_ctr;
	worker_link_set(w, &r->l);
	return worker_sa_in_set(w, &r->in);
}

static inline void wr_fini(struct worker_rig *r)
{
	free(r->w.spis);
	pthread_mutex_destroy(&r->l.path_lock);
	sa_in_fini(&r->in.sa);
	wr = NULL;
}

/** wr_message() - a socket of that family and kind has one message. Return: envelopes read */
static inline unsigned int wr_message(struct worker_rig *r, const struct wr_msg *m)
{
	r->msg = *m;
	r->have_msg = true;
	return inbound_socket(&r->w, WR_FD, m->port != 0, addr_is4(&m->src));
}

/** wr_frame() - one frame in the wire funnel, stamped for the link: len bytes from the IP header on */
static inline void wr_frame(struct worker_rig *r, const uint8_t *ip, uint32_t len)
{
	static uint8_t buf[PORT_FRAME];
	struct stamp st = {.link = WR_LINK, .gen = 3, .kind = STAMP_WIRE};

	memcpy(buf + 256, &st, sizeof st);
	memcpy(buf + 256 + TAP_L2_LEN, ip, len);
	r->frame = (struct port_frame){.data = buf + 256, .len = len + TAP_L2_LEN};
	r->have_frame = true;
	inbound_port(&r->w);
}

/** wr_drops() - all drops of the link, dummies aside: those are probes already */
static inline uint64_t wr_drops(const struct worker_rig *r)
{
	uint64_t n = 0;

	for (int d = 0; d < DROP_MAX; d++)
		n += d == DROP_DUMMY ? 0 : r->ctr.drops_in[d];
	return n;
}

#endif
