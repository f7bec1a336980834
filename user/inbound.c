/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inbound - envelopes become inner packets: found by SPI, opened in place, checked against what
 * the peer may send, merged and delivered to ipsecN. Worker thread only. RFC 4303 3.4, RFC 6040 4.2.
 */
#include <errno.h>
#include <net/ethernet.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include "log.h"
#include "worker_priv.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { LEARN_GAP_NS = 100 * 1000 * 1000, SKIP = 16384 };

/* ---- delivery ---- */

static void deliver(void *arg, struct gro_out *out)
{
	struct worker *w = arg;
	struct wlink *l = worker_link(w, out->tag);
	struct iovec iov[GRO_SEGS + 3];
	struct {
		struct stamp st;
		uint16_t type_be;
	} __attribute__((packed)) eth = {
		.st = {.link = l->id, .gen = l->gen, .kind = STAMP_DELIVER},
		.type_be = htons(out->family == 4 ? ETHERTYPE_IP : ETHERTYPE_IPV6),
	};

	if (out->vh.hdr_len)
		out->vh.hdr_len += TAP_L2_LEN;
	if (out->vh.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		out->vh.csum_start += TAP_L2_LEN;
	iov[0] = (struct iovec){&out->vh, sizeof out->vh};
	iov[1] = (struct iovec){&eth, sizeof eth};
	memcpy(iov + 2, out->iov, out->n_iov * sizeof out->iov[0]);
	bump(&w->stats.tap_writes, 1);
	if (tap_writev(&w->tap, iov, out->n_iov + 2)) {
		l->ctr->drops_in[DROP_QUEUE_FULL] += out->n_segs;
		return;
	}
	l->ctr->in_pkts += out->n_segs;
}

/* ---- checks on an opened packet ---- */

static bool source_allowed(const struct wlink *l, const uint8_t *ip, uint8_t family)
{
	struct in6_addr a;

	if (!l->n_inner)
		return true;
	if (family == 4) {
		struct in_addr v4;

		memcpy(&v4, ip + 12, 4);
		a = addr_from4(v4);
	} else {
		memcpy(&a, ip + 8, 16);
	}
	for (unsigned int i = 0; i < l->n_inner; i++)
		if (prefix_match(&l->inner[i], &a))
			return true;
	return false;
}

/* RFC 6040 4.2: an outer CE must not be lost; on an inner not-ECT packet it means drop. */
static enum drop ecn_decap(uint8_t *ip, uint8_t family, uint8_t outer)
{
	uint8_t inner = family == 4 ? ip[1] & 3 : ip[1] >> 4 & 3;
	uint32_t sum;

	if ((outer & 3) != 3 || inner == 3)
		return DROP_NONE;
	if (!inner)
		return DROP_ECN_CE_NOT_ECT;
	if (family == 6) {
		ip[1] |= 0x30;
		return DROP_NONE;
	}
	/* RFC 1624: the header checksum follows */
	sum = (uint16_t)~(ip[10] << 8 | ip[11]);
	sum += (uint16_t)~(ip[0] << 8 | ip[1]);
	ip[1] |= 3;
	sum += (uint16_t)(ip[0] << 8 | ip[1]);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~((sum & 0xffff) + (sum >> 16));
	ip[10] = sum >> 8;
	ip[11] = sum;
	return DROP_NONE;
}

/*
 * I4: the peer is where its newest authentic packet came from. Not on links with several paths,
 * where packets legally come from several addresses.
 */
static void learn(struct worker *w, struct wlink *l, const struct rx_meta *m)
{
	struct wpath *p = &l->paths[l->cur_path];
	bool same = !memcmp(&p->remote, &m->src, sizeof m->src) &&
		    (m->encap == ENCAP_ESP || p->port == m->port);

	if (same || !p->learn || w->now - l->moved_ns < LEARN_GAP_NS)
		return;
	pthread_mutex_lock(&l->path_lock);
	p->remote = m->src;
	if (m->encap == ENCAP_UDP)
		p->port = m->port;
	pthread_mutex_unlock(&l->path_lock);
	l->moved_ns = w->now;
	l->live.moved++;
}

static void take(struct worker *w, struct wlink *l, struct esp_pkt *p, const struct rx_meta *m)
{
	uint8_t family = p->next == NEXT_IP4 ? 4 : 6;
	enum drop d = DROP_NONE;

	if (p->next == NEXT_NONE) {
		l->ctr->in_probes++;
		probe_input(w, l, p->data, p->len);
		return;
	}
	if (!l->admin_up)
		d = DROP_LINK_DOWN;
	else if (!source_allowed(l, p->data, family))
		d = DROP_INNER_SRC;
	else if (m->has_tos)
		d = ecn_decap(p->data, family, m->tos);
	if (d) {
		l->ctr->drops_in[d]++;
		return;
	}
	if (l->mode == LIVE_PING && probe_ping_reply(w, l, p->data, p->len)) {
		l->ctr->in_probes++;
		return;
	}
	l->ctr->in_bytes += p->len; /* here, where every segment still has its headers */
	gro_add(w->gro, p->data, p->len, l->id, deliver, w);
}

/* ---- the flow ---- */

static void count_drop(struct wsa_in *sa, struct wlink *l, enum drop d)
{
	l->ctr->drops_in[d]++;
	if (d == DROP_REPLAY_DUP || d == DROP_REPLAY_OLD)
		sa->ctr->replay_drops++;
	else if (d == DROP_ICV_FAIL)
		sa->ctr->icv_drops++;
}

/* Open the gathered envelopes of one SA and pass on what is authentic. */
static void open_batch(struct worker *w)
{
	struct inq *q = &w->in;
	struct wsa_in *sa = q->sa;
	struct wlink *l;
	uint64_t ok = 0, bytes = 0, lost = 0;

	if (!q->n)
		return;
	l = worker_link(w, sa->link);
	for (unsigned int i = 0; i < q->n; i++)
		bytes += q->pkts[i].len;
	esp_open(&sa->sa, q->pkts, q->n, &lost);
	if (lost < SKIP) /* more at once is a sender that restarted above its durable mark */
		l->ctr->lost += lost;
	for (unsigned int i = 0; i < q->n; i++) {
		struct esp_pkt *p = &q->pkts[i];

		if (p->drop) {
			count_drop(sa, l, p->drop);
			continue;
		}
		ok++;
		if (p->seq == sa->ctr->top)
			learn(w, l, &q->meta[i]);
		take(w, l, p, &q->meta[i]);
	}
	if (ok) {
		atomic_store_explicit(&l->live.heard_ns, w->now, memory_order_relaxed);
		sa->ctr->pkts += ok;
		sa->ctr->bytes += bytes;
		sa->ctr->last_used_ns = w->now;
	}
	q->n = 0;
}

/* A peer that changes its encapsulation unasked is misconfigured or not our peer. */
static bool encap_fits(const struct wlink *l, uint8_t encap)
{
	for (unsigned int i = 0; i < l->n_paths; i++)
		if (l->paths[i].encap == encap)
			return true;
	return !l->n_paths;
}

void inbound_add(struct worker *w, uint8_t *esp, uint32_t len, const struct rx_meta *m)
{
	struct inq *q = &w->in;
	struct wsa_in *sa = len >= ESP_HDR_LEN ? worker_spi(w, esp_spi(esp)) : NULL;
	struct wlink *l = sa ? worker_link(w, sa->link) : NULL;

	if (!l) {
		bump(&w->stats.no_sa, 1);
		return;
	}
	if (!encap_fits(l, m->encap)) {
		l->ctr->drops_in[DROP_ENCAP_MISMATCH]++;
		return;
	}
	if (sa != q->sa || q->n == ESP_BATCH)
		open_batch(w);
	q->sa = sa;
	q->pkts[q->n] = (struct esp_pkt){.data = esp, .len = len};
	q->meta[q->n++] = *m;
}

void inbound_flush(struct worker *w)
{
	open_batch(w);
	gro_flush(w->gro, deliver, w);
}

/* ---- sockets ---- */

struct rx_ctl {
	_Alignas(struct cmsghdr) uint8_t buf[128];
};

static void read_ctl(struct msghdr *m, struct rx_meta *meta, uint32_t *seg)
{
	int v;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
			memcpy(&v, CMSG_DATA(c), sizeof v);
			*seg = v;
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
			meta->tos = *CMSG_DATA(c);
			meta->has_tos = true;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
			memcpy(&v, CMSG_DATA(c), sizeof v);
			meta->tos = v;
			meta->has_tos = true;
		}
	}
}

static void read_name(const struct sockaddr_in6 *sa, struct rx_meta *m)
{
	const struct sockaddr_in *s4 = (const void *)sa;

	if (s4->sin_family == AF_INET) {
		m->src = addr_from4(s4->sin_addr);
		m->port = ntohs(s4->sin_port);
	} else {
		m->src = sa->sin6_addr;
		m->port = ntohs(sa->sin6_port);
	}
}

static void count_socket(struct worker *w, const uint8_t *esp, uint32_t len)
{
	struct wsa_in *sa = len >= ESP_HDR_LEN ? worker_spi(w, esp_spi(esp)) : NULL;
	struct wlink *l = sa ? worker_link(w, sa->link) : NULL;

	if (l)
		l->ctr->in_sock_pkts++;
}

/* One received message: a single envelope, or a train of them merged by UDP_GRO. */
static unsigned int message(struct worker *w, uint8_t *buf, uint32_t len, struct msghdr *m, bool udp, bool v4)
{
	struct rx_meta meta = {.encap = udp ? ENCAP_UDP : ENCAP_ESP};
	uint32_t seg = 0, n, ihl;
	unsigned int count = 0;

	read_name(m->msg_name, &meta);
	read_ctl(m, &meta, &seg);
	if (!udp && v4) { /* the kernel hands raw IPv4 with its header, already checked */
		ihl = (buf[0] & 15) * 4;
		if (len < ihl + ESP_HDR_LEN)
			return 0;
		buf += ihl;
		len -= ihl;
	}
	if (!seg || seg > len)
		seg = len;
	for (; len; buf += n, len -= n, count++) {
		n = MIN(seg, len);
		count_socket(w, buf, n);
		inbound_add(w, buf, n, &meta);
	}
	return count;
}

unsigned int inbound_socket(struct worker *w, int fd, bool udp, bool v4)
{
	struct mmsghdr msgs[RX_BUFS];
	struct iovec iov[RX_BUFS];
	struct sockaddr_in6 name[RX_BUFS];
	struct rx_ctl ctl[RX_BUFS];
	unsigned int total = 0, want = udp ? RX_UDP_BUFS : RX_BUFS;
	int n;

	for (unsigned int i = 0; i < want; i++) {
		iov[i] = (struct iovec){w->rx_buf + (size_t)i * RX_BUF_LEN + RX_HEADROOM, 65536};
		msgs[i].msg_hdr = (struct msghdr){.msg_name = &name[i], .msg_namelen = sizeof name[i],
						  .msg_iov = &iov[i], .msg_iovlen = 1,
						  .msg_control = ctl[i].buf, .msg_controllen = sizeof ctl[i].buf};
	}
	n = recvmmsg(fd, msgs, want, MSG_DONTWAIT, NULL);
	bump(&w->stats.recvmmsgs, 1);
	for (int i = 0; i < n; i++)
		total += message(w, iov[i].iov_base, msgs[i].msg_len, &msgs[i].msg_hdr, udp, v4);
	bump(&w->stats.recv_pkts, total);
	inbound_flush(w);
	return n > 0 ? total : 0;
}

/* ---- wire funnel ---- */

/* The outer headers, which wire-in has already checked; here only to find their end. Return: ESP or NULL */
static uint8_t *outer(uint8_t *ip, uint32_t len, struct rx_meta *m, uint32_t *esp_len)
{
	uint32_t hl, total;
	uint8_t proto;

	if (len < IP4_HDR_LEN)
		return NULL;
	m->has_tos = true;
	if (ip[0] >> 4 == 4) {
		struct in_addr src;

		hl = (ip[0] & 15) * 4;
		total = ip[2] << 8 | ip[3];
		proto = ip[9];
		m->tos = ip[1];
		memcpy(&src, ip + 12, sizeof src);
		m->src = addr_from4(src);
	} else {
		if (len < IP6_HDR_LEN)
			return NULL;
		hl = IP6_HDR_LEN;
		total = (ip[4] << 8 | ip[5]) + IP6_HDR_LEN;
		proto = ip[6];
		m->tos = ip[0] << 4 | ip[1] >> 4;
		memcpy(&m->src, ip + 8, sizeof m->src);
	}
	m->encap = proto == IPPROTO_UDP ? ENCAP_UDP : ENCAP_ESP;
	if (proto == IPPROTO_UDP) {
		if (total < hl + UDP_HDR_LEN || len < hl + UDP_HDR_LEN)
			return NULL;
		m->port = ip[hl] << 8 | ip[hl + 1];
		hl += UDP_HDR_LEN;
	}
	if (total > len || total < hl + ESP_HDR_LEN)
		return NULL;
	*esp_len = total - hl;
	return ip + hl;
}

static void wire_frame(struct worker *w, struct port_frame *f)
{
	struct rx_meta m = {0};
	struct stamp st;
	struct wlink *l;
	uint32_t len;
	uint8_t *esp;

	memcpy(&st, f->data, sizeof st);
	l = worker_link(w, st.link);
	if (!l || st.kind != STAMP_WIRE || f->len < TAP_L2_LEN + IP4_HDR_LEN) {
		struct wlink_ctr *c = worker_stray(w, st.link);

		if (c && st.kind == STAMP_WIRE) {
			c->in_xsk_pkts++;
			c->drops_in[DROP_WORKER_GONE]++;
		}
		return;
	}
	l->ctr->in_xsk_pkts++;
	esp = outer(f->data + TAP_L2_LEN, f->len - TAP_L2_LEN, &m, &len);
	if (!esp || !worker_spi(w, esp_spi(esp))) {
		l->ctr->drops_in[esp ? DROP_NO_SA : DROP_SHORT]++;
		return;
	}
	inbound_add(w, esp, len, &m);
}

unsigned int inbound_port(struct worker *w)
{
	struct port_frame f[PORT_BATCH];
	unsigned int n = port_receive(w->wire, f, PORT_BATCH);

	for (unsigned int i = 0; i < n; i++)
		wire_frame(w, &f[i]);
	inbound_flush(w); /* delivered, that is copied, before the frames go back */
	port_release(w->wire, f, n);
	bump(&w->stats.xsk_rx, n);
	return n;
}
