/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include "control.h"
#include "early.h"
#include "verbs.h"

enum { PATIENCE_MS = 500 /* for who connects and says nothing */ };

/* Written by the control thread, read by ours. */
struct early {
	pthread_t thread;
	int listen_fd, stop_fd;
	const char *_Atomic doing;
	_Atomic unsigned int done, of;
};

void early_says(struct early *e, const char *doing, unsigned int done, unsigned int of)
{
	if (!e)
		return;
	atomic_store_explicit(&e->doing, doing, memory_order_relaxed);
	atomic_store_explicit(&e->done, done, memory_order_relaxed);
	atomic_store_explicit(&e->of, of, memory_order_relaxed);
}

static json_t *answer(struct early *e)
{
	const char *doing = atomic_load_explicit(&e->doing, memory_order_relaxed);
	unsigned int done = atomic_load_explicit(&e->done, memory_order_relaxed), of = atomic_load_explicit(&e->of, memory_order_relaxed);
	json_t *j;

	if (of)
		j = verbs_error(EXIT_NO_DAEMON, "starting", "ask again", "ipsecd is starting: %s, %u of %u", doing, done, of);
	else
		j = verbs_error(EXIT_NO_DAEMON, "starting", "ask again", "ipsecd is starting: %s", doing);
	json_object_set_new(j, "doing", json_string(doing));
	json_object_set_new(j, "done", json_integer(done));
	json_object_set_new(j, "of", json_integer(of));
	return j;
}

/* Return: false when we are to end */
static bool wait_for(struct early *e, int fd, int timeout_ms, bool *there)
{
	struct pollfd p[2] = {{.fd = e->stop_fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};

	*there = poll(p, 2, timeout_ms) > 0 && p[1].revents;
	return !p[0].revents;
}

/* The line itself does not matter: whatever is wanted, it is too early. Nor does it when we are to end. */
static void serve(struct early *e, int fd)
{
	bool there, ended = false;
	char buf[4096], *text;
	json_t *j;
	ssize_t n;

	while (!ended) {
		ended = !wait_for(e, fd, PATIENCE_MS, &there);
		if (!there && !ended)
			return;
		n = there ? recv(fd, buf, sizeof buf, MSG_DONTWAIT) : 1;
		if (n <= 0)
			return;
		ended |= there && memchr(buf, '\n', n);
	}
	j = answer(e);
	text = json_dumps(j, JSON_COMPACT);
	json_decref(j);
	/* a client that has asked has room for so little */
	if (text && send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
		send(fd, "\n", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	free(text);
}

static void *run(void *arg)
{
	struct early *e = arg;
	bool there;
	int fd;

	while (wait_for(e, e->listen_fd, -1, &there)) {
		fd = there ? accept4(e->listen_fd, NULL, NULL, SOCK_CLOEXEC) : -1;
		if (fd < 0)
			continue;
		serve(e, fd);
		close(fd);
	}
	return NULL;
}

int early_begin(struct early **ep, int listen_fd)
{
	struct early *e = calloc(1, sizeof *e);
	int err;

	if (!e)
		return -ENOMEM;
	e->listen_fd = listen_fd;
	e->stop_fd = eventfd(0, EFD_CLOEXEC);
	e->doing = "beginning";
	err = e->stop_fd < 0 ? -errno : -pthread_create(&e->thread, NULL, run, e);
	if (err) {
		if (e->stop_fd >= 0)
			close(e->stop_fd);
		free(e);
		return err;
	}
	*ep = e;
	return 0;
}

void early_end(struct early *e)
{
	if (!e)
		return;
	eventfd_write(e->stop_fd, 1);
	pthread_join(e->thread, NULL);
	close(e->stop_fd);
	free(e);
}
