/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <time.h>
#include <linux/errqueue.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/sockios.h>
#include "emit.h"
#include "ipsec_wire.h"
#include "load.h"
#include "pkt.h"
#include "util.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

/* mark, source, TOS, TTL, UDP_SEGMENT */
enum { CTL_ROOM = CMSG_SPACE(sizeof(int)) * 3 + CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(2) };

/* One sendmmsg() worth of messages for one socket. */
struct batch {
	unsigned int n;
	int fd;
	bool v4, cut; /* cut: may be fragmented */
	struct mmsghdr msgs[EMIT_MAX];
	struct iovec iov[EMIT_MAX];
	struct sockaddr_in6 name[EMIT_MAX];
	_Alignas(struct cmsghdr) uint8_t ctl[EMIT_MAX][CTL_ROOM];
	struct emit_msg *msg[EMIT_MAX];
	uint16_t first[EMIT_MAX], count[EMIT_MAX]; /* which envelopes of it */
};

static _Thread_local struct batch one; /* what goes singly */

enum drop emit_drop_reason(int err)
{
	switch (err) {
	case EAGAIN:
	case ENOMEM:
		return DROP_QUEUE_FULL;
	case EPERM:
	case EACCES:
	case ENOBUFS: /* queue discipline, or XFRM/netfilter refusing */
		return DROP_TX_REFUSED;
	case ENETUNREACH:
	case EHOSTUNREACH: /* an unreachable route: neighbours speak through the error queue */
	case ENETDOWN:
	case ENONET:
	case EADDRNOTAVAIL:
		return DROP_NO_ROUTE;
	case EMSGSIZE:
		return DROP_DF_TOO_BIG;
	default:
		return DROP_TX_ERROR;
	}
}

static void add_ctl(struct msghdr *m, int level, int type, const void *val, size_t len)
{
	struct cmsghdr *c = (struct cmsghdr *)((uint8_t *)m->msg_control + m->msg_controllen);

	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), val, len);
	m->msg_controllen += CMSG_SPACE(len);
}

static void add_local(struct msghdr *m, const struct in6_addr *local, bool v4)
{
	struct in_pktinfo p4 = {0};
	struct in6_pktinfo p6 = {0};

	if (v4) {
		p4.ipi_spec_dst = addr_to4(local);
		add_ctl(m, IPPROTO_IP, IP_PKTINFO, &p4, sizeof p4);
	} else {
		p6.ipi6_addr = *local;
		add_ctl(m, IPPROTO_IPV6, IPV6_PKTINFO, &p6, sizeof p6);
	}
}

static void set_name(struct msghdr *m, struct sockaddr_in6 *sa, const struct emit_msg *e, bool v4)
{
	struct sockaddr_in *s4 = (struct sockaddr_in *)sa;

	memset(sa, 0, sizeof *sa);
	if (v4) {
		s4->sin_family = AF_INET;
		s4->sin_addr = addr_to4(&e->dst);
		s4->sin_port = htons(e->port);
		m->msg_namelen = sizeof *s4;
	} else {
		sa->sin6_family = AF_INET6;
		sa->sin6_addr = e->dst;
		sa->sin6_port = htons(e->port);
		m->msg_namelen = sizeof *sa;
	}
	m->msg_name = sa;
}

/* Append envelopes first..first+count-1 of e as one message. */
static void add_msg(struct batch *b, struct emit_msg *e, unsigned int first, unsigned int count)
{
	struct msghdr *m = &b->msgs[b->n].msg_hdr;
	bool v4 = addr_is4(&e->dst);
	uint32_t off = first * e->seg;
	uint32_t len = first + count == e->n ? e->len - off : count * e->seg;
	uint16_t seg = e->seg;
	int tos = e->tos, ttl = e->ttl;

	memset(m, 0, sizeof *m);
	b->iov[b->n] = (struct iovec){.iov_base = e->data + off, .iov_len = len};
	m->msg_iov = &b->iov[b->n];
	m->msg_iovlen = 1;
	m->msg_control = b->ctl[b->n];
	set_name(m, &b->name[b->n], e, v4);
	if (e->mark)
		add_ctl(m, SOL_SOCKET, SO_MARK, &e->mark, sizeof e->mark);
	if (!IN6_IS_ADDR_UNSPECIFIED(&e->src))
		add_local(m, &e->src, v4);
	if (tos)
		add_ctl(m, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TOS : IPV6_TCLASS, &tos, sizeof tos);
	if (ttl)
		add_ctl(m, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_TTL : IPV6_HOPLIMIT, &ttl, sizeof ttl);
	if (count > 1)
		add_ctl(m, IPPROTO_UDP, UDP_SEGMENT, &seg, sizeof seg);
	if (!m->msg_controllen)
		m->msg_control = NULL;
	b->msg[b->n] = e;
	b->first[b->n] = first;
	b->count[b->n] = count;
	b->n++;
}

static void remember(struct emit *e, const struct emit_msg *m, bool whole)
{
	e->sent[e->n_sent++ % EMIT_SENT] =
		(struct sent){.spi = be32(m->data), .seq = be32(m->data + 4), .inner_bytes = m->inner_bytes,
			      .giver = m->giver, .link = m->link, .gen = m->gen, .n = m->n, .probe = m->probe,
			      .whole = whole};
}

/* A full raw socket says ENOBUFS where UDP says EAGAIN; so does a queue discipline that refuses. */
static int told(int fd, int err)
{
	int used = 0, room = 0;
	socklen_t len = sizeof room;

	if (err != ENOBUFS || ioctl(fd, SIOCOUTQ, &used) || getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, &len))
		return err;
	return used / 2 >= room ? EAGAIN : ENOBUFS;
}

static void may_cut(int fd, bool v4, bool may)
{
	int how = may ? IP_PMTUDISC_DONT : IP_PMTUDISC_PROBE; /* the same numbers in IPv6 */

	if (v4)
		setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &how, sizeof how);
	else
		setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &how, sizeof how);
}

static int send_one(int fd, struct msghdr *m)
{
	return sendmsg(fd, m, MSG_DONTWAIT) < 0 ? told(fd, errno) : 0;
}

/* Envelopes of the message at i one by one; what the device has become too small for may be cut. */
static void go_singly(const struct batch *b, unsigned int i)
{
	struct emit_msg *m = b->msg[i];
	bool cut = b->cut;
	int err;

	for (unsigned int k = 0; k < b->count[i]; k++) {
		one.n = 0;
		add_msg(&one, m, b->first[i] + k, 1);
		err = send_one(b->fd, &one.msgs[0].msg_hdr);
		if (err == EMSGSIZE && !cut && !m->df) {
			cut = true;
			may_cut(b->fd, b->v4, true);
			err = send_one(b->fd, &one.msgs[0].msg_hdr);
		}
		if (err)
			m->err = err;
		else
			m->sent++;
	}
	if (cut && !b->cut)
		may_cut(b->fd, b->v4, false);
}

/*
 * The message at i failed with err. An error left on the socket by an ICMP message belongs to
 * an earlier packet: try again once. UDP_SEGMENT answers EIO where the routed device has no
 * checksum offload (up to 6.10), EINVAL or EMSGSIZE when its MTU has shrunk: go singly.
 */
static void retry(struct emit *e, struct batch *b, unsigned int i, int err)
{
	struct emit_msg *m = b->msg[i];
	int again;

	if (err != EAGAIN && err != EPERM && err != ENOBUFS) {
		again = send_one(b->fd, &b->msgs[i].msg_hdr);
		if (!again) {
			m->sent += b->count[i];
			return;
		}
		err = again;
	}
	if (err != EMSGSIZE && (b->count[i] == 1 || (err != EIO && err != EINVAL))) {
		if (err == EAGAIN)
			bump(&e->stats->tx_eagain, 1);
		m->err = err;
		return;
	}
	if (b->count[i] > 1)
		remember(e, m, false);
	go_singly(b, i);
}

static void send_batch(struct emit *e, struct batch *b)
{
	unsigned int i = 0;
	int n;

	if (b->n && b->cut)
		may_cut(b->fd, b->v4, true);
	while (i < b->n) {
		n = sendmmsg(b->fd, b->msgs + i, b->n - i, MSG_DONTWAIT);
		bump(&e->stats->sendmmsgs, 1);
		if (n <= 0) {
			retry(e, b, i, n < 0 ? told(b->fd, errno) : EIO);
			i++;
			continue;
		}
		for (int k = 0; k < n; k++, i++) {
			b->msg[i]->sent += b->count[i];
			bump(&e->stats->sendmsgs_segs, b->count[i]);
		}
	}
	if (b->n && b->cut)
		may_cut(b->fd, b->v4, false);
	b->n = 0;
}

/* ---- errors that come later ---- */

static bool says_too_big(const struct sock_extended_err *ee)
{
	return (ee->ee_origin == SO_EE_ORIGIN_ICMP && ee->ee_type == ICMP_UNREACH &&
		ee->ee_code == ICMP_UNREACH_NEEDFRAG) ||
	       (ee->ee_origin == SO_EE_ORIGIN_ICMP6 && ee->ee_type == ICMP6_PACKET_TOO_BIG);
}

/* The run of which this is an envelope, newest first. NULL = too long ago, or never ours. */
static const struct sent *recall(const struct emit *e, const uint8_t *esp)
{
	const struct sent *s;

	for (unsigned int i = 1; i <= MIN(e->n_sent, (unsigned int)EMIT_SENT); i++) {
		s = &e->sent[(e->n_sent - i) % EMIT_SENT];
		if (s->spi == be32(esp) && be32(esp + 4) - s->seq < s->n)
			return s;
	}
	return NULL;
}

static const struct sock_extended_err *extended_err(struct msghdr *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
		if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
		    (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR))
			return (const void *)CMSG_DATA(c);
	return NULL;
}

static struct in6_addr addr_of(const struct sockaddr_in6 *sa)
{
	return sa->sin6_family == AF_INET6 ? sa->sin6_addr :
					     addr_from4(((const struct sockaddr_in *)sa)->sin_addr);
}

/* Does our own stack say that there is no such neighbour? RFC 1122 2.3.2.1, RFC 4861 7.2.2. */
static bool no_neighbour(const struct emit *e, const struct sock_extended_err *ee)
{
	struct in6_addr from;

	if (!(ee->ee_origin == SO_EE_ORIGIN_ICMP && ee->ee_type == ICMP_UNREACH && ee->ee_code == ICMP_UNREACH_HOST) &&
	    !(ee->ee_origin == SO_EE_ORIGIN_ICMP6 && ee->ee_type == ICMP6_DST_UNREACH &&
	      ee->ee_code == ICMP6_DST_UNREACH_ADDR))
		return false;
	from = addr_of((const void *)SO_EE_OFFENDER(ee));
	return load_addr_has(e->load, &from);
}

static int sock_of(const struct socks *s, const struct in6_addr *dst, bool udp)
{
	if (udp)
		return addr_is4(dst) ? s->udp4 : s->udp6;
	return addr_is4(dst) ? s->raw4 : s->raw6;
}

/* Longer than the path carries: RFC 4301 8.1, with the link's MTU above what fits, by choice or at 1280. */
static bool too_long(const struct run *r, const struct wpath *p)
{
	uint32_t mtu = atomic_load_explicit(&p->mtu, memory_order_relaxed);
	uint32_t head = (addr_is4(&p->remote) ? IP4_HDR_LEN : IP6_HDR_LEN) + (p->encap == ENCAP_UDP ? UDP_HDR_LEN : 0);

	return mtu && r->seg + head > mtu;
}

/* May it be fragmented, here or on its way? By default what has to be, RFC 4301 8.1. */
static bool may_be_cut(const struct run *r, const struct wpath *p, bool long_one)
{
	if (r->df == DF_SET)
		return false;
	return long_one || (r->df == DF_CLEAR && addr_is4(&p->remote));
}

/* One message per run for UDP, unless it must be cut; else one per envelope. */
static void add_whole_or_singly(struct emit *e, struct batch *b, struct emit_msg *m)
{
	if (m->whole) {
		add_msg(b, m, 0, m->n);
		bump(&e->stats->udp_gso_runs, m->n > 1);
	}
	for (unsigned int k = 0; !m->whole && k < m->n; k++) {
		if (b->n == EMIT_MAX)
			send_batch(e, b);
		add_msg(b, m, k, 1);
	}
	if (b->n == EMIT_MAX)
		send_batch(e, b);
}

int emit_address(struct emit_msg *m, const struct run *r, uint16_t giver)
{
	const struct wlink *l = r->link;
	const struct wpath *p = &l->paths[r->path];
	bool long_one = too_long(r, p);

	*m = (struct emit_msg){
		.data = r->data, .len = r->len, .seg = r->seg, .n = r->n, .mark = p->fwmark, .dst = p->remote,
		.src = IN6_IS_ADDR_UNSPECIFIED(&r->src) ? p->local : r->src,
		.port = p->encap == ENCAP_UDP ? p->port : 0, .tos = r->tos, .ttl = r->ttl,
		.whole = p->encap == ENCAP_UDP && !long_one, .cut = may_be_cut(r, p, long_one), .df = r->df == DF_SET,
		.probe = r->probe, .giver = giver, .link = l->id, .gen = l->gen, .inner_bytes = r->inner_bytes,
	};
	return l->n_paths && !IN6_IS_ADDR_UNSPECIFIED(&p->remote) ? 0 : ENETUNREACH;
}

int emit_keepalive(struct emit *e, struct wlink *l, unsigned int path)
{
	static uint8_t byte = 0xff;
	const struct run r = {.data = &byte, .len = 1, .seg = 1, .n = 1, .probe = true, .path = (uint8_t)path,
			      .link = l};
	struct emit_msg m;
	int err = emit_address(&m, &r, e->worker), fd = sock_of(e->socks, &m.dst, true);

	if (err || fd < 0)
		return err ? err : EAFNOSUPPORT;
	one.n = 0;
	add_msg(&one, &m, 0, 1);
	return send_one(fd, &one.msgs[0].msg_hdr);
}

void emit_send(struct emit *e, struct emit_msg *const *msgs, unsigned int n)
{
	static _Thread_local struct batch b;

	for (unsigned int i = 0; i < n; i++) {
		struct emit_msg *m = msgs[i];
		int fd = sock_of(e->socks, &m->dst, m->port);

		if (m->err || fd < 0) {
			m->err = m->err ? m->err : ENETUNREACH;
			continue;
		}
		if (fd != b.fd || m->cut != b.cut)
			send_batch(e, &b);
		b.fd = fd;
		b.v4 = addr_is4(&m->dst);
		b.cut = m->cut;
		remember(e, m, m->whole);
		add_whole_or_singly(e, &b, m);
	}
	send_batch(e, &b);
}

/* Inner bytes of count envelopes, close enough for a split run: sizes are equal but for the last. */
static uint32_t share(const struct emit_msg *m, unsigned int count)
{
	return count == m->n ? m->inner_bytes : (uint64_t)m->inner_bytes * count / m->n;
}

static void book_sent(struct wlink *l, unsigned int path, const struct emit_msg *m)
{
	struct wpath_live *p = &l->paths[path].live;
	struct wlink_ctr *c = l->ctr;

	bump(&p->envelopes, m->sent);
	bump(&p->bytes, m->sent == m->n ? m->len : (uint64_t)m->seg * m->sent);
	if (m->probe) {
		c->out_probes += m->sent;
		return;
	}
	c->out_pkts += m->sent;
	c->out_bytes += share(m, m->sent);
	atomic_store_explicit(&l->live.tx_errno, 0, memory_order_relaxed);
}

void emit_book(struct wlink *l, unsigned int path, const struct emit_msg *m)
{
	if (m->sent)
		book_sent(l, path, m);
	if (m->sent == m->n || (m->probe && path != l->cur_path)) /* a way that was only asked for */
		return;
	atomic_store_explicit(&l->live.tx_errno, m->err, memory_order_relaxed);
	if (!m->probe)
		l->ctr->drops_out[emit_drop_reason(m->err)] += m->n - m->sent;
}

void emit_flush(struct emit *e)
{
	struct emit_msg *msgs[EMIT_MAX];

	for (unsigned int i = 0; i < e->n; i++) {
		msgs[i] = &e->msgs[i];
		msgs[i]->err = emit_address(msgs[i], &e->runs[i], e->worker);
	}
	emit_send(e, msgs, e->n);
	for (unsigned int i = 0; i < e->n; i++)
		emit_book(e->runs[i].link, e->runs[i].path, msgs[i]);
	e->n = 0;
}

void emit_run(struct emit *e, const struct run *r)
{
	if (e->n == EMIT_MAX)
		emit_flush(e);
	e->runs[e->n++] = *r;
}

static void hear(const struct emit *e, const struct emit_ears *ears, struct msghdr *m, const uint8_t *esp)
{
	const struct sock_extended_err *ee = extended_err(m);
	const struct sent *s = NULL;
	struct in6_addr dst;

	if (ee && says_too_big(ee)) {
		dst = addr_of(m->msg_name);
		ears->too_big(ears->arg, &dst, esp, ee->ee_info);
	}
	if (ee && no_neighbour(e, ee))
		s = recall(e, esp);
	if (s)
		ears->lost(ears->arg, s, s->whole ? s->n : 1);
}

void emit_errors(struct emit *e, const struct emit_ears *ears)
{
	int fds[] = {e->socks->raw4, e->socks->raw6, e->socks->udp4, e->socks->udp6};
	uint8_t data[64], ctl[256];
	struct sockaddr_in6 name;

	for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++) {
		for (unsigned int k = 0; fds[i] >= 0 && k < 64; k++) {
			struct iovec iov = {data, sizeof data};
			struct msghdr m = {.msg_name = &name, .msg_namelen = sizeof name, .msg_iov = &iov, .msg_iovlen = 1,
					   .msg_control = ctl, .msg_controllen = sizeof ctl};
			ssize_t n = recvmsg(fds[i], &m, MSG_ERRQUEUE | MSG_DONTWAIT);

			if (n < 0)
				break;
			if (n >= ESP_HDR_LEN)
				hear(e, ears, &m, data);
		}
	}
}
