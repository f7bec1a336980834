/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "control.h"
#include "log.h"
#include "verbs.h"

/* One connection. While a reply waits to be written nothing more is read: one request in flight. */
struct client {
	struct client *next;
	struct control *c;
	int fd;
	sd_event_source *src;
	bool root, monitor, dead;
	char *in;
	size_t in_len, in_cap;
	char *out;
	size_t out_len, out_off, out_cap;
};

struct control {
	struct daemon *d;
	sd_event *ev;
	struct verbs *verbs;
	int fd;
	sd_event_source *src;
	struct client *clients;
	unsigned int n_clients;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

static void client_free(struct client *cl)
{
	struct client **pp;

	for (pp = &cl->c->clients; *pp != cl; pp = &(*pp)->next)
		;
	*pp = cl->next;
	cl->c->n_clients--;
	sd_event_source_disable_unref(cl->src);
	close(cl->fd);
	free(cl->in);
	free(cl->out);
	free(cl);
}

static int grow(char **buf, size_t *cap, size_t need)
{
	size_t n = *cap ? *cap : 4096;
	char *p;

	if (need <= *cap)
		return 0;
	while (n < need)
		n *= 2;
	p = realloc(*buf, n);
	if (!p)
		return -ENOMEM;
	*buf = p;
	*cap = n;
	return 0;
}

static size_t unsent(const struct client *cl)
{
	return cl->out_len - cl->out_off;
}

/* Write what the socket takes; ask for EPOLLOUT while something is left. */
static int flush(struct client *cl)
{
	while (unsent(cl)) {
		ssize_t n = send(cl->fd, cl->out + cl->out_off, unsent(cl),
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			return -errno;
		cl->out_off += n;
	}
	if (!unsent(cl))
		cl->out_off = cl->out_len = 0;
	return sd_event_source_set_io_events(cl->src, unsent(cl) ? EPOLLOUT : EPOLLIN);
}

static int queue(struct client *cl, const char *text, size_t len)
{
	if (cl->out_off) {
		memmove(cl->out, cl->out + cl->out_off, unsent(cl));
		cl->out_len -= cl->out_off;
		cl->out_off = 0;
	}
	if (grow(&cl->out, &cl->out_cap, cl->out_len + len + 1))
		return -ENOMEM;
	memcpy(cl->out + cl->out_len, text, len);
	cl->out[cl->out_len + len] = '\n';
	cl->out_len += len + 1;
	return 0;
}

static char *dump(const json_t *j)
{
	return json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(12));
}

static int reply(struct client *cl, json_t *j)
{
	char *text = j ? dump(j) : NULL;
	int err = text ? queue(cl, text, strlen(text)) : -ENOMEM;

	free(text);
	json_decref(j);
	return err;
}

/* Serve the complete lines in the buffer, one at a time: the next waits until its answer is out. */
static int serve(struct client *cl)
{
	char *nl;

	while (!unsent(cl) && (nl = memchr(cl->in, '\n', cl->in_len))) {
		size_t used = nl - cl->in + 1;
		int err = 0;

		if (!cl->monitor && used > 1)
			err = reply(cl, verbs_line(cl->c->verbs, cl->in, used - 1, cl->root,
						   &cl->monitor));
		memmove(cl->in, cl->in + used, cl->in_len - used);
		cl->in_len -= used;
		err = err ? err : flush(cl);
		if (err)
			return err;
	}
	return 0;
}

static int refuse_long(struct client *cl)
{
	reply(cl,
	      verbs_error(EXIT_USAGE, "request-too-long", "give a file name instead of its text",
			  "a request may have at most %d bytes", CONTROL_LINE_MAX));
	flush(cl);
	return -EMSGSIZE;
}

static int receive(struct client *cl)
{
	ssize_t n;

	if (cl->in_len >= CONTROL_LINE_MAX)
		return refuse_long(cl);
	if (grow(&cl->in, &cl->in_cap, MIN(cl->in_len + 65536, (size_t)CONTROL_LINE_MAX)))
		return -ENOMEM;
	n = recv(cl->fd, cl->in + cl->in_len, cl->in_cap - cl->in_len, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (!n)
		return -ECONNRESET;
	cl->in_len += n;
	return serve(cl);
}

static int on_client(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
	struct client *cl = arg;
	int err = 0;

	if (revents & EPOLLOUT) {
		err = flush(cl);
		if (!err && !unsent(cl))
			err = serve(cl);
	} else {
		err = receive(cl);
	}
	if (err || cl->dead)
		client_free(cl);
	return 0;
}

static int admit(struct control *c, int fd)
{
	struct ucred cred;
	socklen_t len = sizeof cred;
	struct client *cl;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
		return -errno;
	if (c->n_clients >= CONTROL_CLIENTS_MAX)
		return -EUSERS;
	cl = calloc(1, sizeof *cl);
	if (!cl)
		return -ENOMEM;
	cl->c = c;
	cl->fd = fd;
	cl->root = cred.uid == 0;
	if (sd_event_add_io(c->ev, &cl->src, fd, EPOLLIN, on_client, cl) < 0) {
		free(cl);
		return -ENOMEM;
	}
	/* timers and netlink first: answering must not delay a carrier */
	sd_event_source_set_priority(cl->src, SD_EVENT_PRIORITY_NORMAL + 10);
	cl->next = c->clients;
	c->clients = cl;
	c->n_clients++;
	return 0;
}

static int on_accept(sd_event_source *s, int lfd, uint32_t revents, void *arg)
{
	struct control *c = arg;
	int fd = accept4(lfd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int err;

	if (fd < 0)
		return 0;
	err = admit(c, fd);
	if (err) {
		log_rl("control: connection refused: %s", strerror(-err));
		close(fd);
	}
	return 0;
}

/* ---- monitors ---- */

static void send_event(struct client *cl, const char *text, size_t len)
{
	if (!cl->monitor || cl->dead)
		return;
	if (unsent(cl) + len > CONTROL_MONITOR_MAX || queue(cl, text, len) || flush(cl)) {
		log_rl("control: a monitor that does not read was dropped");
		cl->dead = true;
		/* freed from its own callback: we may be inside its request */
		shutdown(cl->fd, SHUT_RDWR);
		sd_event_source_set_io_events(cl->src, EPOLLIN);
	}
}

void control_event(struct control *c, json_t *ev)
{
	json_t *copy = json_object();
	char now[32], *text;

	json_object_set_new(copy, "schema", json_integer(1));
	json_object_set_new(copy, "time", json_string(verbs_time(now, 0)));
	json_object_update(copy, ev);
	text = dump(copy);
	json_decref(copy);
	if (!text)
		return;
	for (struct client *cl = c->clients; cl; cl = cl->next)
		send_event(cl, text, strlen(text));
	free(text);
}

/* ---- the socket ---- */

static int mkdirs(const char *dir)
{
	char buf[sizeof(((struct daemon *)0)->run_dir)];

	snprintf(buf, sizeof buf, "%s", dir);
	for (char *p = buf + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		if (mkdir(buf, 0755) && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(buf, 0755) && errno != EEXIST ? -errno : 0;
}

/* The group may reach the socket, and nothing else in there is theirs: the files are 0600. */
static void let_group_in(struct control *c, const struct group *gr)
{
	char parent[sizeof c->d->run_dir], *slash;

	if (chown(c->path, -1, gr->gr_gid) || chown(c->d->run_dir, -1, gr->gr_gid) ||
	    chmod(c->d->run_dir, 0750))
		log_warn("control: group ipsec for %s", c->path);
	strcpy(parent, c->d->run_dir);
	slash = strrchr(parent, '/');
	if (slash && slash != parent && !strncmp(parent, "/run/", 5)) {
		*slash = 0;
		if (chmod(parent, 0755))
			log_warn("control: %s", parent);
	}
}

/* Somebody answers there: another ipsecd of this instance. Nobody: the rest of a dead one. */
static int remove_stale(const struct sockaddr_un *sa)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int alive;

	if (fd < 0)
		return -errno;
	alive = !connect(fd, (const struct sockaddr *)sa, sizeof *sa) || errno == EAGAIN;
	close(fd);
	if (alive)
		return -EADDRINUSE;
	return unlink(sa->sun_path) && errno != ENOENT ? -errno : 0;
}

static int listen_at(struct control *c)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct group *gr = getgrnam("ipsec");
	int err;

	strcpy(sa.sun_path, c->path);
	err = remove_stale(&sa);
	if (err)
		return err;
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		return -errno;
	/* nobody can connect before listen(), so the mode is right in time */
	if (bind(c->fd, (struct sockaddr *)&sa, sizeof sa) || chmod(c->path, 0660))
		return -errno;
	if (gr)
		let_group_in(c, gr);
	return listen(c->fd, 64) ? -errno : 0;
}

int control_listen(struct control **cp, struct daemon *d)
{
	struct control *c = calloc(1, sizeof *c);
	int err;

	if (!c)
		return -ENOMEM;
	c->d = d;
	c->fd = -1;
	err = -ENAMETOOLONG;
	if (snprintf(c->path, sizeof c->path, "%s/ctl.sock", d->run_dir) >= (int)sizeof c->path) {
		c->path[0] = 0;
		goto err_free;
	}
	err = mkdirs(d->run_dir);
	err = err ? err : listen_at(c);
	if (err < 0)
		goto err_free;
	*cp = c;
	return 0;
err_free:
	log_at(LOGL_ERR, "control socket in %s: %s", d->run_dir, strerror(-err));
	if (c->fd < 0 || err == -EADDRINUSE)
		c->path[0] = 0; /* not ours to remove */
	control_close(c);
	return err;
}

int control_fd(const struct control *c)
{
	return c->fd;
}

int control_serve(struct control *c, sd_event *ev)
{
	int err = verbs_open(&c->verbs, c->d, ev);

	c->ev = sd_event_ref(ev);
	err = err ? err : sd_event_add_io(ev, &c->src, c->fd, EPOLLIN, on_accept, c);
	if (err >= 0)
		sd_event_source_set_priority(c->src, SD_EVENT_PRIORITY_NORMAL + 10);
	return MIN(err, 0);
}

void control_close(struct control *c)
{
	if (!c)
		return;
	while (c->clients)
		client_free(c->clients);
	sd_event_source_disable_unref(c->src);
	if (c->fd >= 0)
		close(c->fd);
	if (c->path[0])
		unlink(c->path);
	verbs_close(c->verbs);
	sd_event_unref(c->ev);
	free(c);
}
