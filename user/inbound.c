/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inbound - envelopes become inner packets: found by SPI, opened in place (esp.c), checked against
 * what the peer may send (inner.c), merged (gro.c) and delivered to ipsecN. Worker thread only.
 * RFC 4303 3.4, RFC 4301 5.2.
 */
#include <errno.h>
#include <net/ethernet.h>
#include <sys/socket.h>
#include "inner.h"
#include "pkt.h"
#include "transport.h"
#include "worker_priv.h"

enum { BURST_BYTES = 16384 };
enum { LEARN_GAP_NS = 100 * 1000 * 1000, SKIP = 16384 };
/*
 * RFC 4303 A3: after so many failures in a row, one packet per gap is tried with so many high halves. That
 * is all that garbage can cost, 40 packets' worth per SA and second; a peer that is 2^36 ahead is found in
 * half a second.
 */
enum { RESYNC_AFTER = 32, RESYNC_TRIES = 4, RESYNC_MAX = 64, RESYNC_GAP_NS = 100 * 1000 * 1000 };

/* ---- delivery ---- */

static void deliver(void *arg, struct gro_out *out)
{
	struct worker *w = arg;
	struct wlink *l = worker_link(w, out->tag);
	struct iovec iov[GRO_SEGS + 3];
	unsigned int who;
	int err;
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
	stage_end(w, STAGE_CHECK, out->n_segs);
	who = carry_who(w, l, out->iov[0].iov_base, out->iov[0].iov_len);
	if (carry_deliver(w, l, who, iov, out->n_iov + 2, out->n_segs)) {
		stage_end(w, STAGE_DELIVER, out->n_segs);
		return;
	}
	bump(&w->stats.tap_writes, 1);
	err = tap_writev(&w->tap, iov, out->n_iov + 2);
	stage_end(w, STAGE_DELIVER, out->n_segs);
	if (err) {
		l->ctr->drops_in[DROP_QUEUE_FULL] += out->n_segs;
		return;
	}
	l->ctr->in_pkts += out->n_segs;
}

/* ---- opened packets ---- */

/* Should this be authentic, might learn() follow it, or an answer go where no path leads? */
static bool elsewhere(const struct wlink *l, const struct rx_meta *m)
{
	bool known = false;

	for (unsigned int i = 0; i < l->n_paths; i++) {
		if (came_by(&l->paths[i], m))
			known = true;
		else if (l->paths[i].learn)
			return true;
	}
	return !known;
}

/*
 * Which of our paths leads to where an authentic packet came from? With one path, that one, unless the peer
 * says that it has several: then its probes say which of them to follow. With several, addresses say
 * nothing, but a probe names the peer's path inside its ciphertext: the one of the same place in our list.
 * NULL = none. probe: what the packet is, or NULL.
 */
static struct wpath *learner(struct wlink *l, const struct probe *probe)
{
	unsigned int place = probe ? probe->flags >> PROBE_PATH_SHIFT & PROBE_PATH_MASK : 0;

	if (l->n_paths == 1)
		return probe ? probe->flags & PROBE_F_ASIDE ? NULL : &l->paths[0] : l->peer_shares ? NULL : &l->paths[0];
	return probe && place < l->n_paths ? &l->paths[place] : NULL;
}

/* I4: the peer is where its newest authentic packet came from. */
static void learn(struct worker *w, struct wlink *l, const struct probe *probe, const struct rx_meta *m)
{
	struct wpath *p = learner(l, probe);

	if (!p || !p->learn || !may_be_at(p, &m->src) || came_by(p, m) || m->doubtful || w->now - p->moved_ns < LEARN_GAP_NS)
		return;
	pthread_mutex_lock(&l->path_lock);
	p->remote = m->src;
	if (m->encap == ENCAP_UDP)
		p->port = m->port;
	pthread_mutex_unlock(&l->path_lock);
	p->moved_ns = w->now;
	l->live.moved++;
}

static bool is_peer(const struct wlink *l, const struct in6_addr *a)
{
	for (unsigned int i = 0; i < l->n_paths; i++)
		if (!memcmp(&l->paths[i].remote, a, sizeof *a))
			return true;
	return false;
}

static uint8_t *spare_room(struct worker *w, uint32_t len)
{
	if (w->spare_used + len > SPARE_LEN) {
		gro_flush(w->gro, deliver, w);
		w->spare_used = 0;
	}
	w->spare_used += len;
	return w->spare + w->spare_used - len;
}

/*
 * The envelope's header becomes the packet's own again. ESP does not protect it, so an address is the
 * peer's only if the path says so (RFC 4301 5.2 step 4): a captured envelope sent on from elsewhere
 * is not delivered as if that were its source.
 */
static enum drop from_transport(struct worker *w, const struct wlink *l, const struct sa_in *sa, struct esp_pkt *p,
				const struct rx_meta *m)
{
	const struct p2p *own;

	if (!is_peer(l, &m->src))
		return DROP_INNER_SRC;
	transport_restore(p, sa, m, spare_room(w, transport_spare(p, sa, m)));
	own = addr_is4(&m->src) ? &l->addr4 : &l->addr6;
	if (own->set && !is_peer(l, &own->far)) /* the link has addresses of its own (seed, section 5) */
		transport_readdress(p->data, p->len, &own->far, &own->own);
	return DROP_NONE;
}

/* What an envelope's header says beside its addresses: the IPv6 flow label. 0 when a socket kept the header. */
static uint32_t flow_of(const struct rx_meta *m)
{
	return m->ip && m->ip[0] >> 4 == 6 ? be32(m->ip) & 0xfffff : 0;
}

/* For the audit: RFC 4303 3.4.2, 3.4.3. what: see audit_rec; spi in host order; seq as far as it is known. */
static void note(struct worker *w, unsigned int what, uint16_t link, uint32_t spi, uint64_t seq, const struct rx_meta *m)
{
	struct audit_rec r = {.what = (uint8_t)what, .link = link, .spi = spi, .seq = seq};

	if (!w->audit.on)
		return;
	r.src = m->src;
	r.dst = m->dst;
	r.flow = flow_of(m);
	audit_note(&w->audit, w->now, &r);
}

/* RFC 6040 4.2: congestion outside comes inside; what nobody sends is told. */
static enum drop take_ecn(struct worker *w, const struct wlink *l, const struct sa_in *sa, struct esp_pkt *p,
			  const struct rx_meta *m, uint8_t family)
{
	enum ecn_odd odd = w->audit.on ? inner_ecn_odd(p->data, family, m->tos) : ECN_USUAL;

	if (odd)
		note(w, AUDIT_ECN + odd, l->id, ntohl(sa->spi_be), p->seq, m);
	return inner_ecn(p->data, family, m->tos);
}

/* Everything that decides whether an authentic packet goes on. */
static enum drop admit(struct worker *w, const struct wlink *l, const struct wsa_in *in, struct esp_pkt *p,
		       const struct rx_meta *m)
{
	enum drop d = l->admin_up ? DROP_NONE : DROP_LINK_DOWN;
	const struct sa_in *sa = &in->sa;
	uint8_t family;

	if (!d && sa->transport)
		d = from_transport(w, l, sa, p, m);
	if (d)
		return d;
	family = p->next == NEXT_IP4 ? 4 : 6;
	if (!inner_source_ok(p->data, family, l->inner, l->n_inner))
		return DROP_INNER_SRC;
	if (!inner_quote_ok(p->data, p->len, family, l->inner, l->n_inner))
		return DROP_INNER_ICMP;
	if (!sels_take(in->set->in_sel, in->set->n_sel, p->data, p->len))
		return DROP_SELECTOR;
	/* in transport mode the field that the network marked is the packet's own */
	return m->has_tos && !sa->transport ? take_ecn(w, l, sa, p, m, family) : DROP_NONE;
}

/* newest: no packet of this SA with a higher number was seen. */
static void take_dummy(struct worker *w, struct wlink *l, const struct wsa_in *sa, const struct esp_pkt *p,
		       const struct rx_meta *m, bool newest)
{
	struct probe probe;
	bool is = probe_read(&probe, p->data, p->len);

	if (newest)
		learn(w, l, is ? &probe : NULL, m);
	l->ctr->in_probes++;
	if (is)
		probe_input(w, l, sa->set->out ? sa->set->out : l->out, &probe, m, newest);
	else
		l->ctr->drops_in[DROP_DUMMY]++;
}

static void take(struct worker *w, struct wlink *l, const struct wsa_in *sa, struct esp_pkt *p,
		 const struct rx_meta *m, bool newest)
{
	enum drop d;

	if (p->next == NEXT_NONE) {
		take_dummy(w, l, sa, p, m, newest);
		return;
	}
	if (newest)
		learn(w, l, NULL, m);
	d = admit(w, l, sa, p, m);
	if (d) {
		l->ctr->drops_in[d]++;
		note(w, d, l->id, ntohl(sa->sa.spi_be), p->seq, m);
		return;
	}
	if ((l->mode == LIVE_PING && probe_ping_reply(w, l, p->data, p->len)) ||
	    probe_ping(w, l, p->data, p->len, m, newest)) {
		l->ctr->in_probes++;
		return;
	}
	l->ctr->in_bytes += p->len; /* here, where every segment still has its headers */
	gro_add(w->gro, p->data, p->len, l->id, deliver, w);
}

/* ---- the flow ---- */

static void count_drop(struct worker *w, struct wlink *l, const struct esp_pkt *p, const struct rx_meta *m,
		       enum drop d)
{
	struct wsa_in *sa = w->in.sa;

	l->ctr->drops_in[d]++;
	note(w, d, l->id, ntohl(sa->sa.spi_be), p->seq, m);
	if (d == DROP_REPLAY_DUP || d == DROP_REPLAY_OLD)
		sa->ctr->replay_drops++;
	else if (d == DROP_ICV_FAIL)
		sa->ctr->icv_drops++;
}

/* What the cipher works on, RFC 4301 4.4.2.1. 0 for what is too short to be opened. */
static uint32_t cipher_len(const struct sa_in *sa, uint32_t env)
{
	uint32_t fixed = esp_headroom(sa->layout) + sa->layout.icv_len;

	return env > fixed ? env - fixed : 0;
}

/* An authentic packet: the SA's if its life still has room, then the link's. */
static void accept_one(struct worker *w, struct wsa_in *sa, struct wlink *l, struct esp_pkt *p,
		       const struct rx_meta *m, uint32_t bytes)
{
	enum drop d = life_take(&sa->life, w->now, bytes);

	if (d) {
		count_drop(w, l, p, m, d);
		return;
	}
	atomic_store_explicit(&l->live.heard_ns, w->now, memory_order_relaxed);
	sa->ctr->pkts++;
	sa->ctr->bytes += bytes;
	sa->ctr->last_used_ns = w->now;
	take(w, l, sa, p, m, p->seq == sa->ctr->top);
}

/* Opening destroys what does not open: the packet that may have to be tried again is kept aside. */
static bool keep_one(struct worker *w, struct wsa_in *sa, const struct esp_pkt *p)
{
	struct resync *r = &sa->resync;

	if (r->fails < RESYNC_AFTER || w->now < r->next_ns || !sa->sa.replay.esn || p->len > AGAIN_LEN)
		return false;
	memcpy(w->again, p->data, p->len);
	return true;
}

static void resync(struct worker *w, struct wsa_in *sa, struct esp_pkt *p, uint32_t len)
{
	struct resync *r = &sa->resync;

	if (p->drop != DROP_ICV_FAIL)
		return;
	r->next_ns = w->now + RESYNC_GAP_NS;
	bump(&w->stats.esn_tries, RESYNC_TRIES);
	p->drop = (uint8_t)esp_resync(&sa->sa, p, w->again, len, r->skip, RESYNC_TRIES);
	bump(&w->stats.esn_resyncs, p->drop != DROP_ICV_FAIL);
	r->skip = (r->skip + RESYNC_TRIES) % RESYNC_MAX;
}

/* In arrival order: what fails once, may be garbage; what fails again and again, another high half. */
static void note_icv(struct resync *r, enum drop d)
{
	if (d == DROP_ICV_FAIL)
		r->fails++;
	else if (!d)
		*r = (struct resync){.next_ns = r->next_ns};
}

static void drop_batch(struct worker *w, struct wlink *l, enum drop d)
{
	struct inq *q = &w->in;

	for (unsigned int i = 0; i < q->n; i++) {
		q->pkts[i].seq = be32(q->pkts[i].data + 4);
		count_drop(w, l, &q->pkts[i], &q->meta[i], d);
	}
	q->n = 0;
}

/* Open the gathered envelopes of one SA and pass on what is authentic. */
static void open_batch(struct worker *w)
{
	struct inq *q = &w->in;
	struct wsa_in *sa = q->sa;
	uint32_t bytes[ESP_BATCH];
	struct wlink *l;
	uint64_t lost = 0;
	enum drop over;
	uint32_t len;
	bool again;

	if (!q->n)
		return;
	l = worker_link(w, sa->link);
	over = life_check(&sa->life, w->now);
	if (over) {
		drop_batch(w, l, over);
		return;
	}
	for (unsigned int i = 0; i < q->n; i++)
		bytes[i] = cipher_len(&sa->sa, q->pkts[i].len);
	len = q->pkts[0].len;
	again = keep_one(w, sa, &q->pkts[0]);
	stage_end(w, STAGE_RECEIVE, q->n);
	esp_open(&sa->sa, q->pkts, q->n, &lost);
	stage_end(w, STAGE_OPEN, q->n);
	if (again)
		resync(w, sa, &q->pkts[0], len);
	if (lost < SKIP) /* more at once is a sender that restarted above its durable mark */
		l->ctr->lost += lost;
	for (unsigned int i = 0; i < q->n; i++) {
		struct esp_pkt *p = &q->pkts[i];

		note_icv(&sa->resync, p->drop);
		if (p->drop)
			count_drop(w, l, p, &q->meta[i], p->drop);
		else
			accept_one(w, sa, l, p, &q->meta[i], bytes[i]);
	}
	atomic_store_explicit((_Atomic uint64_t *)&sa->ctr->settled, sa->ctr->top, memory_order_release);
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
		if (len >= ESP_HDR_LEN)
			note(w, DROP_NO_SA, AUDIT_NO_LINK, be32(esp), be32(esp + 4), m);
		return;
	}
	if (!encap_fits(l, m->encap)) {
		l->ctr->drops_in[DROP_ENCAP_MISMATCH]++;
		note(w, DROP_ENCAP_MISMATCH, l->id, be32(esp), be32(esp + 4), m);
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
	w->spare_used = 0;
	carry_kick(w);
}

/* ---- sockets ---- */

struct rx_ctl { /* UDP_GRO, TOS, TTL, destination */
	_Alignas(struct cmsghdr) uint8_t buf[3 * CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

static void count_socket(struct worker *w, const uint8_t *esp, uint32_t len)
{
	struct wsa_in *sa = len >= ESP_HDR_LEN ? worker_spi(w, esp_spi(esp)) : NULL;
	struct wlink *l = sa ? worker_link(w, sa->link) : NULL;

	if (l)
		l->ctr->in_sock_pkts++;
}

/* One received message: a single envelope, or a train of them merged by UDP_GRO. Return: how many */
static unsigned int message(struct worker *w, struct msghdr *m, uint32_t len, bool udp, bool v4)
{
	unsigned int count = 0;
	struct outer o;
	uint32_t n;

	if (!outer_message(&o, m, len, udp, v4)) {
		bump(&w->stats.torn, 1);
		return 0;
	}
	o.meta.front = RX_HEADROOM;
	for (; o.len; o.esp += n, o.len -= n, count++) {
		n = MIN(o.seg, o.len);
		count_socket(w, o.esp, n);
		inbound_add(w, o.esp, n, &o.meta);
		/* the ICV of the one before, once that is open; all of it where it was dropped */
		o.meta.front = (uint8_t)MIN(n, w->in.n ? w->in.sa->sa.layout.icv_len : (uint32_t)ESP_ICV_MIN);
	}
	return count;
}

/* Is it worth another worker's wake-up? A long message is a train. */
static bool is_burst(const struct mmsghdr *m, int n)
{
	uint32_t bytes = 0;

	for (int i = 0; i < n; i++)
		bytes += m[i].msg_len;
	return n >= CARRY_MIN || bytes >= BURST_BYTES;
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
	w->carry.burst_in = is_burst(msgs, n);
	for (int i = 0; i < n; i++)
		total += message(w, &msgs[i].msg_hdr, msgs[i].msg_len, udp, v4);
	bump(&w->stats.recv_msgs, MAX(n, 0));
	bump(&w->stats.recv_pkts, total);
	inbound_flush(w);
	return n > 0 ? total : 0;
}

/* ---- wire funnel ---- */

static void wire_frame(struct worker *w, struct port_frame *f)
{
	struct stamp st;
	struct outer o;
	struct wlink *l;

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
	if (!outer_frame(&o, f->data + TAP_L2_LEN, f->len - TAP_L2_LEN)) {
		l->ctr->drops_in[DROP_SHORT]++;
		return;
	}
	if (!worker_spi(w, esp_spi(o.esp))) {
		l->ctr->drops_in[DROP_NO_SA]++;
		note(w, DROP_NO_SA, l->id, be32(o.esp), be32(o.esp + 4), &o.meta);
		return;
	}
	bump(&w->stats.wire_udp, o.meta.encap == ENCAP_UDP);
	o.meta.doubtful = elsewhere(l, &o.meta) && !outer_sum_ok(&o); /* now: opening writes over what is summed */
	inbound_add(w, o.esp, o.len, &o.meta);
}

unsigned int inbound_port(struct worker *w)
{
	struct port_frame f[PORT_BATCH];
	unsigned int n = port_receive(w->wire, f, PORT_BATCH);
	uint64_t bytes = 0;

	w->carry.burst_in = n >= CARRY_MIN;
	for (unsigned int i = 0; i < n; i++) {
		bytes += f[i].len;
		wire_frame(w, &f[i]);
	}
	inbound_flush(w); /* delivered, that is copied, before the frames go back */
	port_release(w->wire, f, n);
	bump(&w->stats.xsk_rx, n);
	bump(&w->stats.wire_pkts, n);
	bump(&w->stats.wire_bytes, bytes);
	return n;
}
