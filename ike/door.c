/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "door.h"

struct door {
	struct sockaddr_un addr;
	uint64_t generation;
	pthread_mutex_t lock; /* of fd, seq: the connection for requests */
	int fd;
	uint32_t seq;
	int events_fd;        /* door_event()'s thread only, like what follows */
	uint64_t ipsecd;      /* generation of the last one met */
};

static int deadline_wait(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int n;

	do
		n = poll(&p, 1, ms);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n ? 0 : -ETIMEDOUT;
}

static int put(int fd, struct ike_msg *m)
{
	uint8_t buf[IKE_RECORD_MAX];
	int len = ike_encode(m, buf), err = len < 0 ? len : 0;

	if (!err && send(fd, buf, len, MSG_NOSIGNAL) != len)
		err = -errno;
	ike_wipe(buf, sizeof buf);
	return err;
}

static int get(int fd, struct ike_msg *m, int ms)
{
	uint8_t buf[IKE_RECORD_MAX];
	int err = deadline_wait(fd, ms);
	ssize_t n;

	if (err)
		return err;
	n = recv(fd, buf, sizeof buf, MSG_DONTWAIT | MSG_TRUNC);
	if (n <= 0)
		return n ? -errno : -ECONNRESET;
	return n > (ssize_t)sizeof buf ? -EMSGSIZE : ike_decode(buf, n, m);
}

/* Return: a connection that has said hello, its ipsecd's generation in *ipsecd; or -errno */
static int reach(const struct door *d, bool events, uint64_t *ipsecd)
{
	struct timeval limit = {.tv_sec = IKE_TIMEOUT_MS / 1000};
	struct ike_msg m = {.head = {.type = IKE_HELLO, .seq = 1, .generation = d->generation},
			    .hello = {.pid = (uint32_t)getpid(), .events = events}};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), err;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) ||
	    connect(fd, (const struct sockaddr *)&d->addr, sizeof d->addr)) {
		err = -errno;
		goto close;
	}
	err = put(fd, &m);
	if (!err)
		err = get(fd, &m, IKE_TIMEOUT_MS);
	if (!err && m.head.type != IKE_HELLO)
		err = -EPROTO;
	if (err)
		goto close;
	*ipsecd = m.head.generation;
	return fd;
close:
	close(fd);
	return err;
}

static void leave(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

struct door *door_new(const char *path, uint64_t generation)
{
	struct door *d = calloc(1, sizeof *d);

	if (!d || strlen(path) >= sizeof d->addr.sun_path) {
		free(d);
		return NULL;
	}
	d->addr.sun_family = AF_UNIX;
	strcpy(d->addr.sun_path, path);
	d->generation = generation;
	d->fd = d->events_fd = -1;
	pthread_mutex_init(&d->lock, NULL);
	return d;
}

void door_free(struct door *d)
{
	if (!d)
		return;
	leave(&d->fd);
	leave(&d->events_fd);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

/* A connection that broke while nobody looked has taken nothing: the request goes to the next ipsecd. */
static int send_request(struct door *d, struct ike_msg *m)
{
	uint64_t ipsecd;
	int err = -ENOTCONN;

	for (int tries = 0; err && tries < 2; tries++) {
		if (d->fd < 0)
			d->fd = reach(d, false, &ipsecd);
		if (d->fd < 0)
			return d->fd;
		m->head.seq = ++d->seq;
		m->head.generation = d->generation;
		err = put(d->fd, m);
		if (err)
			leave(&d->fd);
	}
	return err;
}

static int call(struct door *d, struct ike_msg *m)
{
	uint16_t type = m->head.type;
	int err = send_request(d, m);

	ike_wipe((char *)m + sizeof m->head, sizeof *m - sizeof m->head);
	if (err)
		return err;
	err = get(d->fd, m, IKE_TIMEOUT_MS);
	if (!err && (m->head.type != IKE_REPLY + type || m->head.seq != d->seq))
		err = -EPROTO;
	if (err)
		leave(&d->fd);
	return err;
}

int door_call(struct door *d, struct ike_msg *m)
{
	int err;

	pthread_mutex_lock(&d->lock);
	err = call(d, m);
	pthread_mutex_unlock(&d->lock);
	return err;
}

static bool same_ipsecd(struct door *d, uint64_t now)
{
	bool same = !d->ipsecd || d->ipsecd == now;

	d->ipsecd = now;
	return same;
}

int door_event(struct door *d, struct ike_msg *m, int ms)
{
	uint64_t ipsecd;
	int err;

	if (d->events_fd < 0) {
		d->events_fd = reach(d, true, &ipsecd);
		if (d->events_fd >= 0)
			return same_ipsecd(d, ipsecd) ? 0 : 2;
		poll(NULL, 0, ms);
		return 0;
	}
	err = get(d->events_fd, m, ms);
	if (err == -ETIMEDOUT)
		return 0;
	if (err || m->head.type < IKE_EXPIRE)
		leave(&d->events_fd);
	return d->events_fd >= 0;
}
