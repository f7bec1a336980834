/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <linux/if_xdp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <string.h>
#include <unistd.h>
#include <xdp/xsk.h>
#include "log.h"
#include "nl.h"
#include "ns.h"
#include "port.h"

#ifndef XDP_USE_SG
#define XDP_USE_SG (1 << 4)
#endif
#ifndef XDP_PKT_CONTD
#define XDP_PKT_CONTD (1 << 0)
#endif

#define NO_BUFFER UINT64_MAX /* address of a joined frame: its buffers are free already */

struct port {
	struct xsk_umem *umem;
	struct xsk_socket *xsk;
	struct xsk_ring_prod fill;
	struct xsk_ring_cons comp, rx;
	uint8_t *area;
	int send_ifindex, recv_ifindex;
	char recv_name[IFNAMSIZ];
	uint8_t *joined; /* [PORT_BATCH][PORT_JOINED]: jumbo frames of the batch at hand; NULL = none can come */
	uint32_t n_frames; /* and places in each ring: no more can ever be in use */
	uint32_t n_spare;
	uint64_t spare[]; /* [n_frames]: those the fill ring had no room for; stack */
};

/* ---- the pair of devices ---- */

static int make_pair(struct port *p, const struct port_conf *c)
{
	struct veth_spec v = {.name = c->name, .peer = p->recv_name, .peer_netns_fd = -1, .mtu = FUNNEL_MTU,
			      .txqlen = 1000, .noarp = true};
	struct nl_link a, b;
	int err = nl_link_get(c->nl, c->name, &a);

	if (err) {
		err = nl_veth_add(c->nl, &v);
		if (!err)
			err = nl_link_get(c->nl, c->name, &a);
	}
	if (!err)
		err = nl_link_get(c->nl, p->recv_name, &b);
	if (err)
		return err;
	p->send_ifindex = a.ifindex;
	p->recv_ifindex = b.ifindex;
	/* or inner checksums leave unfinished: XDP cannot see that they are partial */
	if (c->csum_off) {
		err = nl_tx_csum_off(c->nl, c->name);
		if (err)
			return err;
	}
	err = nl_link_set_up(c->nl, a.ifindex, true);
	return err ? err : nl_link_set_up(c->nl, b.ifindex, true);
}

/* ---- socket and memory ---- */

static void fill(struct port *p)
{
	uint32_t room = xsk_prod_nb_free(&p->fill, p->n_spare), idx;
	uint32_t n = room < p->n_spare ? room : p->n_spare;

	/* reserve is all or nothing: never ask for more than there is */
	if (!n || xsk_ring_prod__reserve(&p->fill, n, &idx) != n)
		return;
	for (uint32_t i = 0; i < n; i++)
		*xsk_ring_prod__fill_addr(&p->fill, idx + i) = p->spare[--p->n_spare];
	xsk_ring_prod__submit(&p->fill, n);
}

static int make_umem(struct port *p)
{
	struct xsk_umem_config uc = {.fill_size = p->n_frames, .comp_size = 64, .frame_size = PORT_FRAME,
				     .frame_headroom = 0};
	size_t len = (size_t)PORT_FRAME * p->n_frames;

	p->area = hugemem(len);
	if (!p->area)
		return -ENOMEM;
	madvise(p->area, len, MADV_DONTDUMP); /* cleartext lives here */
	madvise(p->area, len, MADV_DONTFORK); /* fork() would copy what XDP has pinned, all of it */
	if (p->joined)
		madvise(p->joined, PORT_BATCH * PORT_JOINED, MADV_DONTDUMP);
	for (uint32_t i = 0; i < p->n_frames; i++)
		p->spare[p->n_spare++] = (uint64_t)i * PORT_FRAME;
	return xsk_umem__create(&p->umem, p->area, len, &p->fill, &p->comp, &uc);
}

struct bind_args {
	struct port *p;
	const struct port_conf *c;
};

/* EBUSY is normal for a moment after a predecessor's socket closed: teardown is deferred. */
static int bind_inside(void *arg)
{
	struct bind_args *a = arg;
	struct port *p = a->p;
	struct xsk_socket_config sc = {.rx_size = p->n_frames, .libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
				       .bind_flags = XDP_COPY | (p->joined ? XDP_USE_SG : 0)};
	struct timespec nap = {0, 20 * 1000 * 1000};
	int err;

	err = load_attach_funnel(a->c->load, p->recv_ifindex);
	if (!err)
		err = make_umem(p); /* its fd becomes the socket: the namespace counts */
	for (int i = 0; !err && i < 250; i++) {
		err = xsk_socket__create(&p->xsk, p->recv_name, 0, p->umem, &p->rx, NULL, &sc);
		if (err == -EINVAL && sc.bind_flags & XDP_USE_SG) { /* before 6.6 */
			sc.bind_flags &= ~XDP_USE_SG;
			free(p->joined);
			p->joined = NULL;
			err = 0;
			continue;
		}
		if (err != -EBUSY)
			break;
		err = 0;
		nanosleep(&nap, NULL);
	}
	if (!err && !p->xsk)
		err = -EBUSY;
	return err;
}

static uint32_t round_up(uint32_t n)
{
	uint32_t p = 1;

	while (p < n)
		p <<= 1;
	return p;
}

int port_open(struct port **pp, const struct port_conf *c)
{
	uint32_t n = round_up(c->queue);
	struct port *p = calloc(1, sizeof *p + n * sizeof p->spare[0]);
	struct bind_args a = {p, c};
	const char *what = "device pair";
	int err;

	if (!p)
		return -ENOMEM;
	p->n_frames = n;
	if (c->jumbo) {
		p->joined = aligned_alloc(PORT_FRAME, PORT_BATCH * PORT_JOINED);
		if (!p->joined) {
			free(p);
			return -ENOMEM;
		}
	}
	snprintf(p->recv_name, sizeof p->recv_name, "%sr", c->name);
	err = make_pair(p, c);
	if (!err) {
		what = "AF_XDP socket";
		err = ns_call(c->backend_fd, bind_inside, &a);
	}
	if (!err && p->joined) {
		what = "MTU for jumbo frames";
		err = nl_link_set_mtu(c->nl, p->send_ifindex, JUMBO_MTU);
		if (!err)
			err = nl_link_set_mtu(c->nl, p->recv_ifindex, JUMBO_MTU);
	}
	if (!err) {
		fill(p);
		what = "maps";
		err = load_funnel_set(c->load, p->recv_ifindex, c->xsk);
	}
	if (!err)
		err = load_xsk_set(c->load, c->xsk, xsk_socket__fd(p->xsk));
	if (err) {
		errno = -err;
		log_warn("funnel %s: %s", c->name, what);
		port_close(p);
		return err;
	}
	*pp = p;
	return 0;
}

void port_close(struct port *p)
{
	if (!p)
		return;
	if (p->xsk)
		xsk_socket__delete(p->xsk);
	if (p->umem)
		xsk_umem__delete(p->umem);
	if (p->area)
		madvise(p->area, (size_t)PORT_FRAME * p->n_frames, MADV_DOFORK); /* the heap's again */
	free(p->area);
	free(p->joined);
	free(p);
}

int port_fd(const struct port *p)
{
	return xsk_socket__fd(p->xsk);
}

int port_ifindex(const struct port *p)
{
	return p->send_ifindex;
}

uint32_t port_mtu(const struct port *p)
{
	return p->joined ? JUMBO_MTU : FUNNEL_MTU;
}

static void give_back(struct port *p, uint64_t addr)
{
	p->spare[p->n_spare++] = addr & ~(uint64_t)(PORT_FRAME - 1);
}

/* One more buffer of a jumbo frame. Return: bytes joined so far */
static uint32_t join(struct port *p, uint8_t *to, uint32_t len, const struct xdp_desc *d)
{
	uint32_t n = MIN(d->len, PORT_JOINED - len);

	memcpy(to + len, p->area + d->addr, n);
	give_back(p, d->addr);
	return len + n;
}

static uint32_t room(uint64_t addr)
{
	return PORT_FRAME - (uint32_t)(addr & (PORT_FRAME - 1));
}

unsigned int port_receive(struct port *p, struct port_frame *f, unsigned int n)
{
	uint32_t idx, taken = 0, part = 0; /* part: bytes of a frame of which more buffers follow */
	const struct xdp_desc *d;
	unsigned int k = 0;
	uint8_t *to;
	bool more;

	while (k < n && xsk_ring_cons__peek(&p->rx, 1, &idx)) {
		taken++;
		d = xsk_ring_cons__rx_desc(&p->rx, idx);
		more = d->options & XDP_PKT_CONTD;
		if (!more && !part) {
			f[k++] = (struct port_frame){.data = p->area + d->addr, .len = d->len, .room = room(d->addr),
						  .addr = d->addr};
			continue;
		}
		to = p->joined + (size_t)k * PORT_JOINED;
		part = join(p, to, part, d);
		if (more) /* the kernel hands over whole frames: it is in the ring already */
			continue;
		f[k++] = (struct port_frame){.data = to, .len = part, .room = PORT_JOINED, .addr = NO_BUFFER};
		part = 0;
	}
	if (taken)
		xsk_ring_cons__release(&p->rx, taken);
	return k;
}

void port_release(struct port *p, const struct port_frame *f, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		if (f[i].addr != NO_BUFFER)
			give_back(p, f[i].addr);
	fill(p);
}

void port_stats(const struct port *p, struct port_stats *s)
{
	struct xdp_statistics x = {0};
	socklen_t len = sizeof x;

	memset(s, 0, sizeof *s);
	if (!getsockopt(port_fd(p), SOL_XDP, XDP_STATISTICS, &x, &len)) {
		s->ring_full = x.rx_ring_full;
		s->fill_empty = x.rx_fill_ring_empty_descs;
		s->dropped = x.rx_dropped;
	}
	s->free_frames = p->n_spare;
	s->total_frames = p->n_frames;
}
