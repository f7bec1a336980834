/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * worker - life of a worker: funnels and sockets, the loop, the mailbox, the tables by link id
 * and by SPI. The two flows are outbound.c and inbound.c, liveness is probe.c.
 *
 * Thread: worker_new/start/free/call belong to the control thread. The loop sleeps in
 * epoll_wait() whenever a turn found nothing; it never spins.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include "log.h"
#include "ns.h"
#include "worker_priv.h"

enum { ROUNDS_MAX = 8 /* turns without going back to epoll */, SPI_MIN_SIZE = 64 };

/* ---- tables ---- */

struct wlink *worker_link(const struct worker *w, uint16_t id)
{
	return id < w->max_links ? w->links[id] : NULL;
}

/*
 * A restarted daemon's workers run before its links are adopted. What arrives in between for a
 * link that is not there yet was counted as handed to us: it ends in the link's books.
 */
struct wlink_ctr *worker_stray(struct worker *w, uint16_t id)
{
	bump(&w->stats.bad_stamp, 1);
	return id < w->max_links && !w->links[id] ? &load_wctr(w->conf.load)[id] : NULL;
}

static unsigned int spi_hash(uint32_t spi_be)
{
	return (spi_be * 0x9e3779b1u) >> 8;
}

struct wsa_in *worker_spi(const struct worker *w, uint32_t spi_be)
{
	unsigned int i = spi_hash(spi_be);

	for (;; i++) {
		const struct spi_slot *s = &w->spis[i & w->spi_mask];

		if (!s->sa || s->spi_be == spi_be)
			return s->sa;
	}
}

static void spi_put(struct worker *w, struct wsa_in *sa)
{
	unsigned int i = spi_hash(sa->sa.spi_be);

	while (w->spis[i & w->spi_mask].sa && w->spis[i & w->spi_mask].spi_be != sa->sa.spi_be)
		i++;
	w->n_spis += !w->spis[i & w->spi_mask].sa;
	w->spis[i & w->spi_mask] = (struct spi_slot){sa->sa.spi_be, sa};
}

/* Build the table again, without one entry or at another size. */
static int spi_rebuild(struct worker *w, unsigned int size, const struct wsa_in *without)
{
	struct spi_slot *old = w->spis;
	unsigned int n = old ? w->spi_mask + 1 : 0;

	w->spis = calloc(size, sizeof *w->spis);
	if (!w->spis) {
		w->spis = old;
		return -ENOMEM;
	}
	w->spi_mask = size - 1;
	w->n_spis = 0;
	for (unsigned int i = 0; i < n; i++)
		if (old[i].sa && old[i].sa != without)
			spi_put(w, old[i].sa);
	free(old);
	return 0;
}

int worker_sa_in_set(struct worker *w, struct wsa_in *sa)
{
	struct wlink *l = worker_link(w, sa->link);
	int err;

	if (2 * (w->n_spis + 1) > w->spi_mask) {
		err = spi_rebuild(w, 2 * (w->spi_mask + 1), NULL);
		if (err)
			return err;
	}
	spi_put(w, sa);
	if (l) {
		l->in = sa;
		l->n_in++;
	}
	return 0;
}

void worker_sa_in_clear(struct worker *w, struct wsa_in *sa)
{
	struct wlink *l = worker_link(w, sa->link);

	inbound_flush(w);
	out_flush(w);
	w->in.sa = NULL;
	if (l && l->in == sa)
		l->in = NULL;
	if (l && l->n_in)
		l->n_in--;
	if (worker_spi(w, sa->sa.spi_be) == sa && spi_rebuild(w, w->spi_mask + 1, sa))
		log_warnx("worker %u: no memory to forget SPI 0x%08x", w->conf.index, ntohl(sa->sa.spi_be));
}

void worker_link_set(struct worker *w, struct wlink *l)
{
	if (l->id >= w->max_links)
		return;
	if (w->links[l->id])
		worker_link_clear(w, l->id);
	w->links[l->id] = l;
	w->active[w->n_active++] = l;
}

void worker_link_clear(struct worker *w, uint16_t id)
{
	struct wlink *l = worker_link(w, id);

	if (!l)
		return;
	inbound_flush(w); /* may queue probe replies */
	out_flush(w);
	carry_settle(w);
	w->in.sa = NULL;
	w->links[id] = NULL;
	for (unsigned int i = 0; i < w->n_active; i++)
		if (w->active[i] == l)
			w->active[i] = w->active[--w->n_active];
}

/* ---- mailbox ---- */

int worker_call(struct worker *w, int (*fn)(struct worker *w, void *arg), void *arg)
{
	struct call c = {.fn = fn, .arg = arg};

	if (!atomic_load(&w->running))
		return fn(w, arg);
	pthread_mutex_lock(&w->call_lock);
	c.next = w->calls;
	w->calls = &c;
	eventfd_write(w->evfd, 1);
	while (!c.done)
		pthread_cond_wait(&w->call_done, &w->call_lock);
	pthread_mutex_unlock(&w->call_lock);
	return c.result;
}

static void take_calls(struct worker *w)
{
	struct call *c, *next;
	eventfd_t v;

	eventfd_read(w->evfd, &v);
	/* what is queued still needs the SA or link that a call may take away; inbound first: it may answer */
	inbound_flush(w);
	out_flush(w);
	pthread_mutex_lock(&w->call_lock);
	for (c = w->calls; c; c = next) {
		next = c->next;
		c->result = c->fn(w, c->arg);
		c->done = true;
	}
	w->calls = NULL;
	pthread_cond_broadcast(&w->call_done);
	pthread_mutex_unlock(&w->call_lock);
}

/* ---- loop ---- */

void worker_lost(struct worker *w, const struct sent *s, unsigned int n)
{
	struct wlink *l = worker_link(w, s->link);
	__u64 *emitted;

	if (!l || l->gen != s->gen)
		return;
	atomic_store_explicit(&l->live.tx_errno, EHOSTUNREACH, memory_order_relaxed);
	emitted = s->probe ? &l->ctr->out_probes : &l->ctr->out_pkts;
	if (*emitted < n) /* counters that began anew in between */
		return;
	*emitted -= n;
	if (s->probe)
		return;
	l->ctr->drops_out[DROP_NO_NEIGH] += n;
	l->ctr->out_bytes -= MIN((uint64_t)s->inner_bytes * n / s->n, l->ctr->out_bytes);
}

static void no_neighbour(void *arg, const struct sent *s, unsigned int n)
{
	struct worker *w = arg;

	if (s->giver == w->conf.index)
		worker_lost(w, s, n);
	else
		carry_lost(w, s, n);
}

static void too_big(void *arg, const struct in6_addr *dst, const uint8_t *esp, uint32_t mtu)
{
	struct worker *w = arg;

	pmtu_told(w, dst, esp, mtu);
	carry_too_big(w, dst, esp, mtu);
}

static void listen_for_errors(struct worker *w)
{
	const struct emit_ears ears = {.lost = no_neighbour, .too_big = too_big, .arg = w};

	emit_errors(&w->emit, &ears);
}

static void tick(struct worker *w)
{
	if (w->now < w->next_tick)
		return;
	w->next_tick = w->now + TICK_NS;
	for (unsigned int i = 0; i < w->n_active; i++) {
		probe_tick(w, w->active[i]);
		keepalive_tick(w, w->active[i]);
	}
	cover_tick(w);
	listen_for_errors(w);
}

/* How long may it sleep? In ms, rounded up. */
static int nap(const struct worker *w)
{
	uint64_t now = now_ns();

	if (!w->n_active)
		return 200;
	if (!w->next_cover)
		return 50;
	return w->next_cover <= now ? 0 : (int)MIN((w->next_cover - now + 999999) / 1000000, (uint64_t)50);
}

static unsigned int serve(struct worker *w, unsigned int what)
{
	eventfd_t v;

	switch (what) {
	case EV_CALL:
		take_calls(w);
		return 0;
	case EV_CARRY:
		eventfd_read(w->carry.evfd, &v);
		return 0;
	case EV_RAW:
		return outbound_port(w);
	case EV_TAP:
		return outbound_tap(w);
	case EV_WIRE:
		return inbound_port(w);
	case EV_RAW4:
		return inbound_socket(w, w->socks.raw4, false, true);
	case EV_RAW6:
		return inbound_socket(w, w->socks.raw6, false, false);
	case EV_UDP4:
		return inbound_socket(w, w->socks.udp4, true, true);
	case EV_UDP6:
		return inbound_socket(w, w->socks.udp6, true, false);
	}
	return 0;
}

/* Rings tell without a system call whether there is something: what we have sent may have been answered meanwhile. */
static unsigned int rings(const struct worker *w)
{
	return (w->raw ? 1u << EV_RAW : 0) | (w->wire ? 1u << EV_WIRE : 0);
}

static void turn(struct worker *w, const struct epoll_event *ev, int n)
{
	unsigned int ready = rings(w), found = 1;

	for (int i = 0; i < n; i++) {
		ready |= 1u << ev[i].data.u32;
		if (ev[i].events & EPOLLERR)
			listen_for_errors(w);
	}
	for (unsigned int round = 0; found && round < ROUNDS_MAX; round++) {
		w->now = now_ns();
		w->lap = clocks();
		carry_book(w);
		found = carry_serve(w);
		for (unsigned int what = 0; what < EV_N; what++)
			if (ready & 1u << what)
				found += serve(w, what);
		out_flush(w);
		bump(&w->stats.loops, 1);
	}
}

static void *loop(void *arg)
{
	struct worker *w = arg;
	struct beat *beat = w->conf.load ? load_beat(w->conf.load) : NULL;
	struct epoll_event ev[EV_N];
	int n;

	while (!atomic_load_explicit(&w->stop, memory_order_relaxed)) {
		n = epoll_wait(w->epfd, ev, EV_N, carry_rest(w) ? nap(w) : 0);
		carry_wake(w);
		bump(&w->stats.sleeps, 1);
		w->now = now_ns();
		if (beat)
			beat->worker_ns[w->conf.index] = w->now;
		turn(w, ev, MAX(n, 0));
		tick(w); /* whom a packet has woken lets it not wait for that */
		if (w->next_cover && w->now >= w->next_cover)
			cover_tick(w);
		out_flush(w); /* probes, dummies */
	}
	return NULL;
}

/* ---- life ---- */

static int watch(struct worker *w, int fd, unsigned int what)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.u32 = what};

	if (fd < 0)
		return 0;
	return epoll_ctl(w->epfd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

static int watch_all(struct worker *w)
{
	const struct {
		int fd;
		unsigned int what;
	} fds[] = {{w->evfd, EV_CALL},	     {w->carry.evfd, EV_CARRY},
		   {w->tap.fd, EV_TAP},
		   {w->socks.raw4, EV_RAW4}, {w->socks.raw6, EV_RAW6},
		   {w->socks.udp4, EV_UDP4}, {w->socks.udp6, EV_UDP6},
		   {w->raw ? port_fd(w->raw) : -1, EV_RAW},
		   {w->wire ? port_fd(w->wire) : -1, EV_WIRE}};
	int err;

	for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++) {
		err = watch(w, fds[i].fd, fds[i].what);
		if (err)
			return err;
	}
	return 0;
}

static int allocate(struct worker *w)
{
	w->max_links = load_max_links(w->conf.load);
	w->links = calloc(w->max_links, sizeof *w->links);
	w->active = calloc(w->max_links, sizeof *w->active);
	w->out.arena = hugemem(OUT_ARENA + 4096);
	w->tap_buf = malloc(TAP_READ_MAX);
	w->rx_buf = hugemem((size_t)RX_BUFS * RX_BUF_LEN);
	w->spare = malloc(SPARE_LEN);
	w->again = malloc(AGAIN_LEN);
	w->gro = gro_new(w->tap.uso);
	w->out.closed = true;
	if (!w->links || !w->active || !w->out.arena || !w->tap_buf || !w->rx_buf || !w->spare || !w->again ||
	    !w->gro)
		return -ENOMEM;
	return spi_rebuild(w, SPI_MIN_SIZE, NULL);
}

static int cookie(struct worker *w, int fd)
{
	uint64_t c;
	socklen_t n = sizeof c;

	if (fd < 0)
		return 0;
	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &c, &n))
		return -errno;
	return load_sock_worker_set(w->conf.load, c, w->conf.index);
}

/* The socket programs learn which sockets are ours. */
static int register_socks(struct worker *w)
{
	int err = cookie(w, w->socks.raw4);

	if (!err)
		err = cookie(w, w->socks.raw6);
	if (!err)
		err = cookie(w, w->socks.udp4);
	if (!err)
		err = cookie(w, w->socks.udp6);
	return err;
}

static int attach_tap(void *arg)
{
	struct worker *w = arg;

	return load_attach_deliver(w->conf.load, w->tap.ifindex);
}

static int funnel_devs(void *arg)
{
	struct worker *w = arg;
	int err = load_wire_dev_set(w->conf.load, w->conf.index, port_ifindex(w->wire));

	return err ? err : load_raw_dev_set(w->conf.load, w->conf.index, port_ifindex(w->raw));
}

/* The XSK funnels; without them (old kernel, no AF_XDP) everything goes through TAP and sockets. */
static int open_ports(struct worker *w)
{
	const struct worker_conf *c = &w->conf;
	char name[IFNAMSIZ];
	struct port_conf pc = {.name = name, .backend_fd = c->backend_fd, .nl = c->nl_k, .load = c->load,
			       .queue = c->xsk_queue};
	int err;

	if (!c->use_xsk)
		return 0;
	snprintf(name, sizeof name, "raw%u", c->index);
	pc.xsk = 2 * c->index;
	pc.csum_off = true;
	err = port_open(&w->raw, &pc);
	if (err)
		return err;
	snprintf(name, sizeof name, "wire%u", c->index);
	pc.xsk = 2 * c->index + 1;
	pc.csum_off = false;
	pc.jumbo = true;
	err = port_open(&w->wire, &pc);
	return err ? err : ns_call(c->backend_fd, funnel_devs, w);
}

int worker_new(struct worker **wp, const struct worker_conf *c)
{
	struct socks_conf sc = {.underlay_fd = c->underlay_fd,
				.filter_fd = load_filter_fd(c->load)};
	struct worker_ent ent = {0};
	const char *what = "memory";
	struct worker *w = calloc(1, sizeof *w);
	int err;

	if (!w)
		return -ENOMEM;
	w->conf = *c;
	w->epfd = epoll_create1(EPOLL_CLOEXEC);
	w->evfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	w->carry.evfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&w->call_lock, NULL);
	pthread_cond_init(&w->call_done, NULL);
	w->socks = (struct socks){-1, -1, -1, -1, 0};
	w->emit.socks = &w->socks;
	w->emit.stats = &w->stats;
	w->emit.worker = (uint16_t)c->index;
	w->emit.load = c->load;
	w->audit.on = c->audit;
	what = "TAP";
	err = tap_open(&w->tap, c->backend_fd, c->index, c->gso_queue);
	if (err)
		goto fail;
	what = "memory";
	err = allocate(w);
	if (err)
		goto fail;
	what = "sockets";
	err = socks_open(&w->socks, &sc);
	if (!err)
		err = register_socks(w);
	if (err)
		goto fail;
	what = "delivery program";
	err = ns_call(c->backend_fd, attach_tap, w);
	if (err)
		goto fail;
	err = open_ports(w);
	if (err) {
		log_warnx("worker %u: no AF_XDP (%s): packets take TAP and sockets", c->index, strerror(-err));
		port_close(w->raw);
		port_close(w->wire);
		w->raw = w->wire = NULL;
	}
	ent.tap_ifindex = w->tap.ifindex;
	ent.wire_mtu = w->wire ? port_mtu(w->wire) : 0;
	/* before USO, veths made a page, zeroed, of each packet they gave to AF_XDP: dearer than to read() it */
	ent.raw_ifindex = w->raw && w->tap.uso ? port_ifindex(w->raw) : 0;
	ent.udp_port_be = htons(w->socks.udp_port);
	err = load_worker_set(c->load, c->index, &ent);
	if (!err)
		err = watch_all(w);
	if (err)
		goto fail;
	*wp = w;
	return 0;
fail:
	errno = -err;
	log_warn("worker %u: %s", c->index, what);
	worker_free(w);
	return err;
}

/* Which core: counted from the instance's name on, so that two instances do not meet on the first. */
static void pin(struct worker *w)
{
	cpu_set_t may, one;
	int nth, cpu;

	if (sched_getaffinity(0, sizeof may, &may))
		return;
	nth = (int)((w->conf.index + w->conf.first_core) % (unsigned int)CPU_COUNT(&may));
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &may) && !nth--)
			break;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	pthread_setaffinity_np(w->thread, sizeof one, &one);
}

void worker_stay(struct worker *w)
{
	if (w->stays)
		return;
	w->stays = true;
	if (atomic_load(&w->running))
		pin(w);
}

/*
 * Waking a worker does not push aside who woke it, mostly somebody in the middle of a burst: on a core that both
 * share, the worker finds the burst and not its first packet. It gets the same share of the core as before.
 */
static void let_bursts_end(struct worker *w)
{
	const struct sched_param none = {0};

	pthread_setschedparam(w->thread, SCHED_BATCH, &none);
}

int worker_start(struct worker *w)
{
	sigset_t all, old;
	char name[16];
	int err;

	sigfillset(&all); /* signals are the control thread's */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	atomic_store(&w->running, true);
	err = pthread_create(&w->thread, NULL, loop, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err) {
		atomic_store(&w->running, false);
		return -err;
	}
	let_bursts_end(w);
	if (w->stays)
		pin(w);
	snprintf(name, sizeof name, "worker%u", w->conf.index);
	pthread_setname_np(w->thread, name);
	return 0;
}

void worker_stop(struct worker *w)
{
	if (!w || !atomic_load(&w->running))
		return;
	atomic_store(&w->stop, true);
	eventfd_write(w->evfd, 1);
	pthread_join(w->thread, NULL);
	atomic_store(&w->running, false);
}

void worker_free(struct worker *w)
{
	if (!w)
		return;
	worker_stop(w);
	carry_free(w);
	tap_close(&w->tap);
	port_close(w->raw);
	port_close(w->wire);
	socks_close(&w->socks);
	close(w->epfd);
	close(w->evfd);
	gro_free(w->gro);
	free(w->links);
	free(w->active);
	free(w->spis);
	free(w->out.arena);
	free(w->tap_buf);
	free(w->rx_buf);
	free(w->spare);
	free(w->again);
	free(w);
}

struct audit *worker_audit(struct worker *w)
{
	return &w->audit;
}

const struct worker_stats *worker_stats(const struct worker *w)
{
	return &w->stats;
}

unsigned int worker_n_taps(const struct worker *w)
{
	return w->tap.fd >= 0;
}

uint32_t worker_wire_mtu(const struct worker *w)
{
	return w->wire ? port_mtu(w->wire) : 0;
}

unsigned int worker_n_xsks(const struct worker *w)
{
	return !!w->raw + !!w->wire;
}

bool worker_port_stats(const struct worker *w, struct port_stats *raw, struct port_stats *wire)
{
	if (!w->raw || !w->wire)
		return false;
	port_stats(w->raw, raw);
	port_stats(w->wire, wire);
	return true;
}

int worker_tap_ifindex(const struct worker *w)
{
	return w->tap.ifindex;
}

unsigned int worker_socks(const struct worker *w, int *out)
{
	out[0] = w->socks.raw4;
	out[1] = w->socks.raw6;
	out[2] = w->socks.udp4;
	out[3] = w->socks.udp6;
	return 4;
}

uint16_t worker_udp_port(const struct worker *w)
{
	return w->socks.udp_port;
}
