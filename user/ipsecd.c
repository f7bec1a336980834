/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ipsecd - the daemon: read the configuration, open what stands, create what is missing, run,
 * and leave everything that keeps packets from leaking where it is.
 *
 * Threads: this one (control: netlink, timers, control socket, all of links.h) and the workers.
 * Foreground; systemd Type=notify.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include <unistd.h>
#include "backend.h"
#include "carry.h"
#include "control.h"
#include "device.h"
#include "early.h"
#include "encap.h"
#include "guardian.h"
#include "ike.h"
#include "ike_conn.h"
#include "links.h"
#include "load.h"
#include "log.h"
#include "muster.h"
#include "nest.h"
#include "ns.h"
#include "path.h"
#include "paths.h"
#include "protect.h"
#include "sad.h"
#include "underlay.h"
#include "vip.h"

enum { TICK_US = 100 * 1000, TICK_REST_US = 1000, WORKERS_AUTO_MAX = 4, LINK_LOCAL_MANY = 1000 };

struct args {
	const char *instance, *conf;
	bool check, guardian;
};

/* struct ipsecd - what main() opens on top of struct daemon */
struct ipsecd {
	struct daemon d;
	sd_event *ev;
	struct control *ctl;
	int lock_fd, guardian_fd;
	sd_event_source *guardian_src;
};

static void usage(FILE *f)
{
	fprintf(f, "usage: ipsecd [-i INSTANCE] [-f FILE] [-n] [-d]\n"
		   "  -i INSTANCE  which instance; default: name of this network namespace, or \"default\"\n"
		   "  -f FILE      configuration; default /etc/ipsec/<instance>.conf or /etc/ipsec/ipsecd.conf\n"
		   "  -n           check the configuration and exit\n"
		   "  -d           debug messages\n");
}

static void parse_args(struct args *a, int argc, char **argv)
{
	static const struct option longopts[] = {{"guardian", no_argument, NULL, 'G'}, {"help", no_argument, NULL, 'h'},
						 {NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "i:f:ndh", longopts, NULL)) != -1) {
		switch (c) {
		case 'i':
			a->instance = optarg;
			break;
		case 'f':
			a->conf = optarg;
			break;
		case 'n':
			a->check = true;
			break;
		case 'd':
			log_max = LOGL_DEBUG;
			break;
		case 'G':
			a->guardian = true;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			exit(2);
		}
	}
	if (optind < argc) {
		usage(stderr);
		exit(2);
	}
}

/* ---- start-up, in order ---- */

/* Two ledgers a static link, two more while it is renewed, and some. */
enum { FILES_MAX = 4 * LINK_MAX + 4096 };

/* Keys are in this process: no core, no ptrace by the same user, memory locked when allowed. */
static void harden(void)
{
	struct rlimit none = {0, 0}, files = {FILES_MAX, FILES_MAX};

	if (setrlimit(RLIMIT_NOFILE, &files) && !getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max; /* what we may have without asking */
		setrlimit(RLIMIT_NOFILE, &files);
	}
	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_DUMPABLE, 0);
	umask(077);
	signal(SIGPIPE, SIG_IGN);
}

static void make_dirs(const char *path)
{
	char buf[PATHS_LEN];

	snprintf(buf, sizeof buf, "%s", path);
	for (char *p = buf + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		mkdir(buf, 0755);
		*p = '/';
	}
	if (mkdir(buf, 0700) && errno != EEXIST)
		fatal("%s", buf);
}

static void name_instance(struct daemon *d, const struct args *a)
{
	if (a->instance)
		snprintf(d->instance, sizeof d->instance, "%s", a->instance);
	else if (paths_instance(d->instance, sizeof d->instance))
		fatalx("IPSEC_INSTANCE is no valid instance name");
	if (!paths_instance_ok(d->instance))
		fatalx("'%s' is no valid instance name", d->instance);
	paths_state(d->state_dir, d->instance);
	paths_run(d->run_dir, d->instance);
	paths_pin(d->pin_dir, d->instance);
}

static void read_conf(struct daemon *d, const struct args *a)
{
	int err;

	if (a->conf)
		snprintf(d->conf_file, sizeof d->conf_file, "%s", a->conf);
	else
		paths_conf(d->conf_file, d->instance);
	conf_init(&d->conf);
	err = conf_load(&d->conf, d->conf_file, stderr);
	if (err < 0) {
		errno = -err;
		fatal("%s", d->conf_file);
	}
	if (err)
		fatalx("%s: %d error%s, nothing changed", d->conf_file, err, err == 1 ? "" : "s");
	if (!a->instance && d->conf.instance[0]) {
		struct args b = {.instance = d->conf.instance};

		name_instance(d, &b);
	}
}

static void take_lock(struct ipsecd *r)
{
	char path[PATHS_LEN + 8];

	make_dirs(r->d.state_dir);
	make_dirs(r->d.run_dir);
	snprintf(path, sizeof path, "%s/lock", r->d.run_dir);
	r->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (r->lock_fd < 0)
		fatal("%s", path);
	if (flock(r->lock_fd, LOCK_EX | LOCK_NB))
		fatalx("ipsecd of instance '%s' is running already", r->d.instance);
	if (ftruncate(r->lock_fd, 0) || dprintf(r->lock_fd, "%d\n", getpid()) < 0)
		log_warn("%s", path);
}

static void open_namespaces(struct daemon *d)
{
	int created, err;

	d->underlay_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (d->underlay_fd < 0)
		fatal("/proc/thread-self/ns/net");
	d->backend_fd = ns_backend_open(d->instance, &created);
	if (d->backend_fd < 0) {
		errno = -d->backend_fd;
		fatal("backend namespace espwire-%s", d->instance);
	}
	err = nl_open(&d->nl_u, -1);
	if (!err)
		err = nl_open(&d->nl_k, d->backend_fd);
	if (err) {
		errno = -err;
		fatal("netlink");
	}
}

static void open_maps(struct daemon *d)
{
	struct load_conf lc = {.pin_dir = d->pin_dir, .max_links = d->conf.max_links, .n_workers = d->n_workers};
	int err = load_open(&d->load, &lc);

	if (err) {
		errno = -err;
		fatal("BPF programs and maps (%s)", d->pin_dir);
	}
	d->max_links = load_max_links(d->load);
	d->max_sas = load_max_sas(d->load);
	load_beat(d->load)->pid = getpid();
	load_beat(d->load)->control_ns = 0;
	memset(load_beat(d->load)->worker_ns, 0, sizeof load_beat(d->load)->worker_ns);
	if (links_init(d))
		fatalx("out of memory");
	err = nest_open(&d->nest, d->underlay_fd, d->max_links);
	if (err) {
		errno = -err;
		fatal("netlink");
	}
}

static unsigned int count_workers(const struct conf *c)
{
	unsigned int n = c->workers ? c->workers : (unsigned int)get_nprocs();

	if (!c->workers)
		n = MIN(n, (unsigned int)WORKERS_AUTO_MAX);
	return MIN(n, (unsigned int)WORKER_MAX);
}

static unsigned int name_hash(const char *s)
{
	unsigned int h = 0;

	while (*s)
		h = h * 31 + (unsigned char)*s++;
	return h;
}

static void make_workers(struct daemon *d)
{
	struct settings_ent set = {0};

	for (unsigned int i = 0; i < d->n_workers; i++) {
		struct worker_conf wc = {.index = i, .first_core = name_hash(d->pin_dir),
					 .backend_fd = d->backend_fd, .underlay_fd = d->underlay_fd,
					 .load = d->load, .nl_k = d->nl_k, .nest = d->nest, .gso_queue = d->conf.gso_queue,
					 .xsk_queue = d->conf.xsk_queue, .use_xsk = true, .audit = d->conf.audit};

		if (worker_new(&d->workers[i], &wc))
			fatalx("worker %u cannot be made", i);
	}
	load_settings_get(d->load, &set); /* a predecessor's socket for the kernel's ESP serves until ours is there */
	set.flags = d->conf.esp_shared ? 0 : SETTINGS_F_ESP_OURS;
	d->use_xdp = d->conf.input != INPUT_SOCKET && worker_n_xsks(d->workers[0]) == 2;
	set.flags |= d->use_xdp ? 0 : SETTINGS_F_SOCKET;
	set.flags |= d->conf.audit ? SETTINGS_F_AUDIT : 0;
	load_settings_set(d->load, &set);
	for (unsigned int i = 0; i < d->n_workers; i++)
		if (worker_start(d->workers[i]))
			fatalx("worker %u cannot be started", i);
}

/* ---- events ---- */

static int on_tick(sd_event_source *s, uint64_t usec, void *arg)
{
	struct ipsecd *r = arg;
	uint64_t now, due = usec + TICK_US;
	bool done;

	links_beat(&r->d);
	done = links_tick(&r->d);
	ike_tick(r->d.ike, now_ns());
	links_beat(&r->d);
	now = now_ns() / 1000;
	if (!done)
		due = now + TICK_REST_US;
	else if (due < now)
		due = now + TICK_US;
	sd_event_source_set_time(s, due);
	return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static void ev_link(void *arg, const struct nl_link *l)
{
	struct daemon *d = arg;

	links_on_link(d, d->nl_u, l);
}

static void ev_addr(void *arg, const struct nl_addr *a)
{
	struct daemon *d = arg;

	if (!a->deleted)
		underlay_addr(d, a);
	d->underlay_dirty = d->routes_dirty = true;
	d->protect_dirty |= d->conf.n_lan > 0;
}

static void ev_route(void *arg, const struct nl_route *r)
{
	struct daemon *d = arg;

	d->routes_dirty = d->underlay_dirty = true;
	d->protect_touched |= r->deleted && r->proto == NL_PROTO_ESPWIRE;
}

static void ev_rule(void *arg)
{
	struct daemon *d = arg;

	d->routes_dirty = d->underlay_dirty = true;
}

static void ev_overrun(void *arg)
{
	links_resync(arg);
}

static int on_netlink(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
	static const struct nl_events evs = {ev_link, ev_addr, ev_route, ev_rule, ev_overrun};
	struct ipsecd *r = arg;

	nl_monitor_read(r->d.nl_u, &evs, &r->d);
	return 0;
}

static void ev_backend(void *arg, const struct nl_link *l)
{
	links_on_backend(arg, l);
}

static int on_backend(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
	static const struct nl_events evs = {.link = ev_backend, .overrun = ev_overrun};
	struct ipsecd *r = arg;

	nl_monitor_read(r->d.nl_k, &evs, &r->d);
	return 0;
}

static int on_protect(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
	struct ipsecd *r = arg;

	protect_changed(&r->d, fd);
	return 0;
}

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *arg)
{
	struct ipsecd *r = arg;

	log_info("stopping (signal %u): links go down, protection stays", si->ssi_signo);
	return sd_event_exit(r->ev, 0);
}

static void find_guardian(struct ipsecd *r);

static int on_guardian(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
	struct ipsecd *r = arg;

	log_warnx("the guardian died: starting another");
	find_guardian(r);
	return 0;
}

static void find_guardian(struct ipsecd *r)
{
	int socks[4 * WORKER_MAX + 2];
	unsigned int n = 0;

	if (r->guardian_src) {
		sd_event_source_set_enabled(r->guardian_src, SD_EVENT_OFF);
		r->guardian_src = sd_event_source_unref(r->guardian_src);
		close(r->guardian_fd);
	}

	for (unsigned int i = 0; i < r->d.n_workers; i++)
		n += worker_socks(r->d.workers[i], socks + n);
	if (r->d.encap.udp_port) {
		socks[n++] = r->d.encap.udp4;
		socks[n++] = r->d.encap.udp6;
	}
	r->d.guardian_pid = 0;
	r->guardian_fd = guardian_attach(&r->d, load_beat_fd(r->d.load), socks, n);
	if (r->guardian_fd < 0) {
		errno = -r->guardian_fd;
		log_warn("no guardian: links will not go down by themselves when ipsecd dies");
		return;
	}
	sd_event_add_io(r->ev, &r->guardian_src, r->guardian_fd, EPOLLIN | EPOLLHUP, on_guardian, r);
}

static void emit_event(struct daemon *d, json_t *ev)
{
	struct ipsecd *r = (struct ipsecd *)d;

	if (r->ctl)
		control_event(r->ctl, ev);
}

static void on_socks(struct daemon *d)
{
	find_guardian((struct ipsecd *)d);
}

static void on_life(struct daemon *d, const struct sa *sa, bool hard)
{
	ike_on_life(d->ike, sa, hard);
}

static void on_moved(struct daemon *d, const struct link *l)
{
	ike_on_moved(d->ike, l);
}

/* Where a peer without an address in the configuration was last heard. Return: NULL = not at all */
static const struct ike_heard *last_heard(const struct daemon *d, const struct link *l, struct ike_heard *h)
{
	const struct endpoint *e = NULL;

	if (l->ike_want && d->endpoints && !l->conf.ike_pool.n && !ike_conn_knows_peer(&l->conf))
		e = endpoints_find(d->endpoints, l->conf.peer, 0);
	if (e)
		*h = (struct ike_heard){e->remote, e->port};
	return e ? h : NULL;
}

/* Another IKE daemon: it knows nothing of our links yet. */
static void on_ike(struct daemon *d)
{
	struct ike_heard h;

	for (unsigned int i = 0; i < d->max_links; i++)
		if (d->links[i] && d->links[i]->conf.ike[0])
			ike_conn_load(d->ike_conn, &d->links[i]->conf, last_heard(d, d->links[i], &h), false,
				      stderr);
}

static void open_ike(struct ipsecd *r)
{
	struct daemon *d = &r->d;
	char own[PATHS_LEN + 16];
	const char *path = d->conf.ike_socket;

	snprintf(own, sizeof own, "%s/charon.ipsecd", d->run_dir);
	if (ike_open(&d->ike, d, r->ev, *path ? path : own))
		fatalx("cannot open the socket for the IKE daemon");
}

static void open_events(struct ipsecd *r)
{
	static const int signals[] = {SIGTERM, SIGINT};
	unsigned int n;
	sigset_t set;
	int fd, fds[2];

	sigemptyset(&set);
	for (unsigned int i = 0; i < ARRAY_SIZE(signals); i++)
		sigaddset(&set, signals[i]);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (sd_event_default(&r->ev) < 0)
		fatalx("cannot make an event loop");
	for (unsigned int i = 0; i < ARRAY_SIZE(signals); i++)
		sd_event_add_signal(r->ev, NULL, signals[i], on_signal, r);
	sd_event_set_watchdog(r->ev, true);
	fd = nl_monitor_open(r->d.nl_u);
	if (fd < 0 || sd_event_add_io(r->ev, NULL, fd, EPOLLIN, on_netlink, r) < 0)
		fatalx("cannot follow netlink");
	n = protect_watch(fds);
	for (unsigned int i = 0; i < n; i++)
		sd_event_add_io(r->ev, NULL, fds[i], EPOLLIN, on_protect, r);
	fd = nl_monitor_open(r->d.nl_k);
	if (fd < 0 || sd_event_add_io(r->ev, NULL, fd, EPOLLIN, on_backend, r) < 0)
		fatalx("cannot follow netlink in the backend namespace");
}

/* From now on who asks is answered, if only with how far we are. */
static void listen_early(struct ipsecd *r)
{
	int err = control_listen(&r->ctl, &r->d);

	if (err)
		fatalx("cannot open the control socket in %s", r->d.run_dir);
	err = early_begin(&r->d.early, control_fd(r->ctl));
	if (err)
		log_warnx("nobody is told how far the start is: %s", strerror(-err));
}

static void bring_up(struct ipsecd *r)
{
	struct daemon *d = &r->d;
	int errors;

	/* before the first probe: its answer must find us, and not draw the kernel's */
	if (underlay_refresh(d))
		log_warnx("cannot list the underlay's devices: trying again");
	errors = links_apply(d, &d->conf, stderr, NULL);
	if (errors)
		log_warnx("%d link%s not as configured: ipsecctl show names the reason", errors, errors == 1 ? "" : "s");
	early_says(d->early, "removing what is left over", 0, 0);
	device_sweep(d);
	vip_sweep(d);
	load_sweep(d->load);
	backend_xfrm_sweep(d); /* what it finds, slots know */
	sad_sweep(d);
}

/* Each costs the kernel four IPv6 routes, and each change of a carrier a walk over all of them. */
static void advise_link_local(const struct daemon *d)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < d->max_links; i++)
		n += d->links[i] && !d->links[i]->conf.no_link_local;
	if (n > LINK_LOCAL_MANY)
		log_info("%u links have IPv6 link-local addresses, and changes of so many carriers take the kernel long: "
			 "'link-local = no' where no protocol needs one, see ipsecd.conf(5)", n);
}

static void ready(struct ipsecd *r)
{
	struct daemon *d = &r->d;

	early_end(d->early);
	d->early = NULL;
	if (control_serve(r->ctl, r->ev))
		fatalx("cannot serve the control socket in %s", d->run_dir);
	open_ike(r);
	d->ready = true;
	nl_on_wait(links_wait, d);
	muster_begin(d);
	links_beat(d);
	sd_event_add_time(r->ev, NULL, CLOCK_BOOTTIME, now_ns() / 1000, 1000, on_tick, r);
	sd_notifyf(0, "READY=1\nSTATUS=%u links, %u workers, %s", d->n_links, d->n_workers, aead_backend_name());
	advise_link_local(d);
	log_info("ready: instance %s, %u links, %u workers, %s", d->instance, d->n_links, d->n_workers, aead_backend_name());
}

static void shut(struct ipsecd *r)
{
	struct daemon *d = &r->d;

	sd_notify(0, "STOPPING=1");
	control_close(r->ctl);
	ike_close(d->ike);
	d->ike = NULL;
	ike_conn_close(d->ike_conn);
	links_all_down(d);
	for (unsigned int i = 0; i < d->n_workers; i++)
		carry_alone(d->workers[i]);
	for (unsigned int i = 0; i < d->n_workers; i++)
		worker_stop(d->workers[i]);
	for (unsigned int i = 0; i < d->n_workers; i++)
		worker_free(d->workers[i]);
	links_free(d);
	if (d->encap.udp_port)
		socks_close(&d->encap);
	nest_close(d->nest);
	endpoints_close(d->endpoints);
	muster_free(d);
	nl_on_wait(NULL, NULL); /* the beat lies in a map of it */
	load_close(d->load);
	nl_close(d->nl_k);
	nl_close(d->nl_u);
	conf_free(&d->conf);
	sd_event_unref(r->ev);
}

int main(int argc, char **argv)
{
	static struct ipsecd r;
	struct args a = {0};
	int err;

	log_init("ipsecd");
	parse_args(&a, argc, argv);
	name_instance(&r.d, &a);
	if (a.guardian) {
		log_init("ipsec-guardian");
		prctl(PR_SET_NAME, "ipsec-guardian");
		return guardian_main(r.d.run_dir);
	}
	read_conf(&r.d, &a);
	if (a.check)
		return 0;
	harden();
	err = aead_backend_select(r.d.conf.crypto);
	if (err)
		fatalx("crypto = %s is not to be had here", r.d.conf.crypto);
	take_lock(&r);
	r.d.start_ns = now_ns();
	r.d.start_clocks = clocks();
	r.d.on_event = emit_event;
	r.d.on_life = on_life;
	r.d.on_moved = on_moved;
	r.d.on_ike = on_ike;
	r.d.n_workers = count_workers(&r.d.conf);
	if (ike_conn_open(&r.d.ike_conn, r.d.conf.vici_socket))
		fatalx("cannot start a thread");
	open_namespaces(&r.d);
	listen_early(&r);
	early_says(r.d.early, "programs and maps", 0, 0);
	open_maps(&r.d);
	r.d.endpoints = endpoints_open(r.d.state_dir);
	early_says(r.d.early, "workers", 0, 0);
	make_workers(&r.d);
	encap_adopt(&r.d);
	open_events(&r);
	find_guardian(&r);
	r.d.on_socks = on_socks;
	bring_up(&r);
	ready(&r);
	sd_event_loop(r.ev);
	shut(&r);
	return 0;
}
