/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "guardian.h"
#include "log.h"
#include "ns.h"

/* Messages carry fds by SCM_RIGHTS, in this order. */
enum msg_type { MSG_HELLO = 1 /* pidfd, backend netns, beat map, sockets... */, MSG_QUIT = 2, MSG_OK = 3 };

enum { BIRTH_FD = 3 /* the connection a new guardian is born with; the hello lies in it already */ };

struct msg {
	uint32_t type;
	uint32_t n_workers; /* hello; ok: the guardian's pid */
};

static int address(struct sockaddr_un *a, const char *run_dir)
{
	memset(a, 0, sizeof *a);
	a->sun_family = AF_UNIX;
	return snprintf(a->sun_path, sizeof a->sun_path, "%s/guardian.sock", run_dir) < (int)sizeof a->sun_path ?
		       0 :
		       -ENAMETOOLONG;
}

static int send_msg(int fd, const struct msg *m, const int *fds, unsigned int n)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(GUARDIAN_FDS_MAX * sizeof(int))];
	} ctl;
	struct iovec iov = {(void *)m, sizeof *m};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;

	if (n) {
		memset(&ctl, 0, sizeof ctl);
		h.msg_control = ctl.buf;
		h.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	return sendmsg(fd, &h, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int recv_msg(int fd, struct msg *m, int *fds, unsigned int *n)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(GUARDIAN_FDS_MAX * sizeof(int))];
	} ctl;
	struct iovec iov = {m, sizeof *m};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl.buf, .msg_controllen = sizeof ctl.buf};
	ssize_t r = recvmsg(fd, &h, MSG_CMSG_CLOEXEC);

	*n = 0;
	if (r < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		*n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(c), *n * sizeof(int));
	}
	return r == sizeof *m ? 0 : -EBADMSG;
}

/* ---- the guardian's side ---- */

struct guardian {
	int listen_fd, conn;
	int pidfd, backend_fd;
	int socks[GUARDIAN_FDS_MAX];
	unsigned int n_socks, n_workers;
	const struct beat *beat;
	struct nl *nl;
	bool lowered; /* for the daemon at hand */
	uint64_t polled_ns; /* when poll() returned last */
	uint64_t awake_ns;  /* since when it has returned in time */
};

static void close_all(const int *fds, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		close(fds[i]);
}

static void lower_one(void *arg, const struct nl_link *l)
{
	struct guardian *g = arg;

	if (l->name[0] == 'b' && !strcmp(l->kind, "veth") && l->flags & IFF_UP)
		nl_link_set_up(g->nl, l->ifindex, false);
}

static void lower(struct guardian *g, const char *why)
{
	if (g->lowered || !g->nl)
		return;
	log_warnx("ipsecd %s: all links go down", why);
	nl_link_each(g->nl, lower_one, g);
	g->lowered = true;
}

/*
 * Whoever was not run himself cannot say who hangs: after a machine stood still, as guests do, the
 * daemon has all its time again.
 */
static void polled(struct guardian *g)
{
	uint64_t now = now_ns();

	if (now > g->polled_ns + 2 * GUARDIAN_POLL_MS * 1000000ull)
		g->awake_ns = now;
	g->polled_ns = now;
}

static bool late(const struct guardian *g, uint64_t beat_ns)
{
	/* a sum: the beat may be newer than our reading of the clock */
	return g->polled_ns > MAX(beat_ns, g->awake_ns) + BEAT_STALE_MS * 1000000ull;
}

static bool stale(const struct guardian *g)
{
	if (!g->beat || !g->beat->control_ns) /* still starting */
		return false;
	if (late(g, g->beat->control_ns))
		return true;
	for (unsigned int i = 0; i < g->n_workers; i++)
		if (g->beat->worker_ns[i] && late(g, g->beat->worker_ns[i]))
			return true;
	return false;
}

static void forget_daemon(struct guardian *g)
{
	if (g->pidfd >= 0)
		close(g->pidfd);
	g->pidfd = -1;
	if (g->beat)
		munmap((void *)g->beat, sizeof *g->beat);
	g->beat = NULL;
}

static void hello(struct guardian *g, const struct msg *m, const int *fds, unsigned int n)
{
	long page = sysconf(_SC_PAGESIZE);
	size_t len = (sizeof(struct beat) + page - 1) / page * page;
	void *p;

	if (n < 3) {
		close_all(fds, n);
		return;
	}
	forget_daemon(g);
	g->pidfd = fds[0];
	if (g->backend_fd >= 0)
		close(g->backend_fd);
	g->backend_fd = fds[1];
	nl_close(g->nl);
	g->nl = NULL;
	if (nl_open(&g->nl, g->backend_fd))
		log_warnx("cannot open netlink in the backend namespace: carriers will not fall");
	p = mmap(NULL, len, PROT_READ, MAP_SHARED, fds[2], 0);
	g->beat = p == MAP_FAILED ? NULL : p;
	close(fds[2]);
	close_all(g->socks, g->n_socks); /* the successor's are open: no moment without */
	memcpy(g->socks, fds + 3, (n - 3) * sizeof(int));
	g->n_socks = n - 3;
	g->n_workers = MIN(m->n_workers, (uint32_t)WORKER_MAX);
	g->lowered = false;
}

/* Return: false = quit */
static bool from_daemon(struct guardian *g)
{
	int fds[GUARDIAN_FDS_MAX];
	struct msg m, ok = {.type = MSG_OK, .n_workers = getpid()};
	unsigned int n;

	if (recv_msg(g->conn, &m, fds, &n)) {
		close(g->conn);
		g->conn = -1;
		return true;
	}
	if (m.type == MSG_HELLO) {
		hello(g, &m, fds, n);
		send_msg(g->conn, &ok, NULL, 0);
		return true;
	}
	close_all(fds, n);
	if (m.type != MSG_QUIT)
		return true;
	send_msg(g->conn, &ok, NULL, 0);
	return false;
}

static void accept_one(struct guardian *g)
{
	int fd = accept4(g->listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	if (g->conn >= 0)
		close(g->conn);
	g->conn = fd;
}

/* A hung daemon may wake up again: it then raises its carriers itself, and may hang once more. */
static void check(struct guardian *g, bool died)
{
	if (died) {
		lower(g, "died");
		forget_daemon(g);
	} else if (g->beat && stale(g)) {
		lower(g, "hangs");
	} else if (g->beat) {
		g->lowered = false;
	}
}

static int serve(struct guardian *g)
{
	struct pollfd p[3];

	for (;;) {
		p[0] = (struct pollfd){.fd = g->listen_fd, .events = POLLIN};
		p[1] = (struct pollfd){.fd = g->conn, .events = POLLIN};
		p[2] = (struct pollfd){.fd = g->pidfd, .events = POLLIN};
		if (poll(p, 3, GUARDIAN_POLL_MS) < 0 && errno != EINTR)
			return 1;
		polled(g);
		check(g, p[2].fd >= 0 && p[2].revents & POLLIN);
		if (p[1].revents && !from_daemon(g))
			return 0;
		if (p[0].revents & POLLIN)
			accept_one(g);
	}
}

int guardian_main(const char *run_dir)
{
	struct guardian g = {.conn = BIRTH_FD, .pidfd = -1, .backend_fd = -1};
	struct sockaddr_un a;

	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	if (address(&a, run_dir))
		return 1;
	g.listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (g.listen_fd < 0)
		return 1;
	unlink(a.sun_path);
	umask(0177);
	if (bind(g.listen_fd, (struct sockaddr *)&a, sizeof a) || listen(g.listen_fd, 4)) {
		log_warn("%s", a.sun_path);
		return 1;
	}
	return serve(&g);
}

/* ---- the daemon's side ---- */

static int dial(const char *run_dir)
{
	struct sockaddr_un a;
	int fd, err = address(&a, run_dir);

	if (err)
		return err;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&a, sizeof a)) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

/*
 * Twice forked and in a session of its own: neither our death nor the unit's stop takes it along.
 * It is born knowing us, because the hello is sent before it runs: there is no moment in which
 * it lives and we die unseen.
 */
static int spawn(const struct daemon *d, const struct msg *hello, const int *fds, unsigned int n)
{
	int sv[2], status, null, err;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv))
		return -errno;
	err = send_msg(sv[0], hello, fds, n);
	pid = err ? -1 : fork();
	if (pid < 0) {
		err = err ? err : -errno;
		close(sv[0]);
		close(sv[1]);
		return err;
	}
	if (!pid) {
		setsid();
		pid = fork();
		if (pid)
			_exit(pid < 0);
		null = open("/dev/null", O_RDWR);
		dup2(null, 0);
		dup2(null, 1);
		if (sv[1] == BIRTH_FD)
			fcntl(sv[1], F_SETFD, 0);
		else
			dup2(sv[1], BIRTH_FD);
		close_range(BIRTH_FD + 1, ~0u, 0);
		execl("/proc/self/exe", "ipsecd", "--guardian", "-i", d->instance, NULL);
		_exit(127);
	}
	close(sv[1]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return sv[0];
	close(sv[0]);
	return -ECHILD;
}

/* A guardian that is there already, or a new one; either has the hello. */
static int greet(struct daemon *d, const struct msg *hello, const int *fds, unsigned int n)
{
	int fd = dial(d->run_dir), err;

	if (fd < 0)
		return spawn(d, hello, fds, n);
	err = send_msg(fd, hello, fds, n);
	if (!err)
		return fd;
	close(fd);
	return err;
}

/* The answer carries its pid: a connection made before it was born has no credentials of it. */
static int answer(struct daemon *d, int fd)
{
	int fds[GUARDIAN_FDS_MAX], err;
	struct msg m;
	unsigned int n;

	err = recv_msg(fd, &m, fds, &n);
	if (err)
		return err;
	close_all(fds, n);
	d->guardian_pid = m.n_workers;
	return m.type == MSG_OK ? 0 : -EPROTO;
}

int guardian_attach(struct daemon *d, int beat_fd, const int *socks, unsigned int n_socks)
{
	struct msg hello = {.type = MSG_HELLO, .n_workers = d->n_workers};
	int fds[GUARDIAN_FDS_MAX], fd, err;
	unsigned int n = 3;

	fds[0] = syscall(SYS_pidfd_open, getpid(), 0);
	if (fds[0] < 0)
		return -errno;
	fds[1] = d->backend_fd;
	fds[2] = beat_fd;
	for (unsigned int i = 0; i < n_socks && n < GUARDIAN_FDS_MAX; i++)
		if (socks[i] >= 0)
			fds[n++] = socks[i];
	fd = greet(d, &hello, fds, n);
	close(fds[0]);
	if (fd < 0)
		return fd;
	err = answer(d, fd);
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

int guardian_quit(const char *run_dir)
{
	struct msg m = {.type = MSG_QUIT};
	int fds[GUARDIAN_FDS_MAX], err, fd = dial(run_dir);
	unsigned int n;

	if (fd < 0)
		return fd == -ECONNREFUSED ? -ENOENT : fd;
	err = send_msg(fd, &m, NULL, 0);
	if (!err)
		err = recv_msg(fd, &m, fds, &n);
	close(fd);
	return err;
}
