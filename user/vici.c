/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "util.h"
#include "vici.h"

enum { SECTION_START = 1, SECTION_END, KEY_VALUE, LIST_START, LIST_ITEM, LIST_END };
enum packet { CMD_REQUEST, CMD_RESPONSE, CMD_UNKNOWN, EVENT_REGISTER, EVENT_UNREGISTER, EVENT_CONFIRM, EVENT_UNKNOWN, EVENT };

/* ---- making ---- */

/* Not realloc(): what moves would leave a copy behind. */
static bool room(struct vici *m, size_t n)
{
	size_t cap = m->cap ? m->cap : 512;
	uint8_t *p;

	if (m->bad || m->cap - m->len >= n)
		return !m->bad;
	while (cap - m->len < n)
		cap *= 2;
	p = cap <= VICI_PACKET_MAX ? malloc(cap) : NULL;
	if (!p) {
		m->bad = true;
		return false;
	}
	if (m->len)
		memcpy(p, m->p, m->len);
	if (m->p)
		explicit_bzero(m->p, m->cap);
	free(m->p);
	m->p = p;
	m->cap = cap;
	return true;
}

static void add(struct vici *m, const void *p, size_t n)
{
	if (!n || !room(m, n))
		return;
	memcpy(m->p + m->len, p, n);
	m->len += n;
}

static void add_name(struct vici *m, uint8_t type, const char *name)
{
	uint8_t head[2] = {type, (uint8_t)strlen(name)};

	m->bad |= strlen(name) > UINT8_MAX;
	add(m, head, sizeof head);
	add(m, name, strlen(name));
}

static void add_value(struct vici *m, const void *p, size_t n)
{
	uint8_t head[2] = {(uint8_t)(n >> 8), (uint8_t)n};

	m->bad |= n > UINT16_MAX;
	add(m, head, sizeof head);
	add(m, p, n);
}

static void add_type(struct vici *m, uint8_t type)
{
	add(m, &type, 1);
}

void vici_open_section(struct vici *m, const char *name)
{
	add_name(m, SECTION_START, name);
}

void vici_close_section(struct vici *m)
{
	add_type(m, SECTION_END);
}

void vici_put_bytes(struct vici *m, const char *key, const void *p, size_t len)
{
	add_name(m, KEY_VALUE, key);
	add_value(m, p, len);
}

void vici_put(struct vici *m, const char *key, const char *fmt, ...)
{
	char buf[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(buf, sizeof buf, fmt, ap);
	va_end(ap);
	m->bad |= n < 0 || n >= (int)sizeof buf;
	if (!m->bad)
		vici_put_bytes(m, key, buf, n);
}

void vici_open_list(struct vici *m, const char *key)
{
	add_name(m, LIST_START, key);
}

void vici_item(struct vici *m, const void *p, size_t len)
{
	add_type(m, LIST_ITEM);
	add_value(m, p, len);
}

void vici_close_list(struct vici *m)
{
	add_type(m, LIST_END);
}

void vici_list(struct vici *m, const char *key, const char *a, const char *b)
{
	vici_open_list(m, key);
	if (a && *a)
		vici_item(m, a, strlen(a));
	if (b && *b)
		vici_item(m, b, strlen(b));
	vici_close_list(m);
}

void vici_list_bytes(struct vici *m, const char *key, const void *p, size_t len)
{
	vici_open_list(m, key);
	vici_item(m, p, len);
	vici_close_list(m);
}

void vici_free(struct vici *m)
{
	if (m->p)
		explicit_bzero(m->p, m->cap);
	free(m->p);
	*m = (struct vici){0};
}

/* ---- taking apart ---- */

struct text {
	const uint8_t *p;
	size_t left;
};

/* A string behind a length of so many bytes. Return: NULL = it is not all there */
static const uint8_t *take(struct text *t, unsigned int len_bytes, size_t *n)
{
	const uint8_t *p;

	*n = 0;
	if (t->left < len_bytes)
		return NULL;
	for (unsigned int i = 0; i < len_bytes; i++)
		*n = *n << 8 | t->p[i];
	if (t->left - len_bytes < *n)
		return NULL;
	p = t->p + len_bytes;
	t->p += len_bytes + *n;
	t->left -= len_bytes + *n;
	return p;
}

static json_t *string_of(const uint8_t *p, size_t n)
{
	json_t *j = json_stringn((const char *)p, n);
	char *copy;

	if (j)
		return j;
	copy = malloc(n + 1);
	if (!copy)
		return NULL;
	for (size_t i = 0; i < n; i++)
		copy[i] = p[i] >= ' ' && p[i] < 0x7f ? (char)p[i] : '?';
	j = json_stringn(copy, n);
	free(copy);
	return j;
}

static int put_named(json_t *o, const uint8_t *name, size_t n, json_t *v)
{
	char key[UINT8_MAX + 1];

	if (!v)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		key[i] = name[i] > ' ' && name[i] < 0x7f ? (char)name[i] : '?';
	key[n] = 0;
	return json_object_set_new(o, key, v) ? -ENOMEM : 0;
}

static int parse_list(struct text *t, json_t *list)
{
	const uint8_t *p;
	size_t n;

	for (;;) {
		uint8_t type = t->left ? *t->p : 0;

		t->p += t->left ? 1 : 0;
		t->left -= t->left ? 1 : 0;
		if (type == LIST_END)
			return 0;
		p = type == LIST_ITEM ? take(t, 2, &n) : NULL;
		if (!p)
			return -EBADMSG;
		if (json_array_append_new(list, string_of(p, n)))
			return -ENOMEM;
	}
}

static int parse_section(struct text *t, json_t *o, unsigned int depth);

/* One element that has a name. */
static int parse_named(struct text *t, uint8_t type, json_t *o, unsigned int depth)
{
	const uint8_t *name, *p;
	size_t n, len;
	json_t *v;
	int err;

	name = take(t, 1, &n);
	if (!name)
		return -EBADMSG;
	if (type == KEY_VALUE) {
		p = take(t, 2, &len);
		return p ? put_named(o, name, n, string_of(p, len)) : -EBADMSG;
	}
	if (type != SECTION_START && type != LIST_START)
		return -EBADMSG;
	v = type == LIST_START ? json_array() : json_object();
	err = type == LIST_START ? parse_list(t, v) : parse_section(t, v, depth + 1);
	if (!err)
		return put_named(o, name, n, v);
	json_decref(v);
	return err;
}

/* To the end of the section; the outermost one ends with the message. */
static int parse_section(struct text *t, json_t *o, unsigned int depth)
{
	int err = depth > VICI_DEPTH_MAX ? -EBADMSG : 0;

	while (!err && t->left) {
		uint8_t type = *t->p++;

		t->left--;
		if (type == SECTION_END)
			return depth ? 0 : -EBADMSG;
		err = parse_named(t, type, o, depth);
	}
	return err ? err : depth ? -EBADMSG : 0;
}

int vici_parse(const uint8_t *p, size_t len, json_t **out)
{
	struct text t = {p, len};
	int err;

	*out = json_object();
	if (!*out)
		return -ENOMEM;
	err = parse_section(&t, *out, 0);
	if (!err)
		return 0;
	json_decref(*out);
	*out = NULL;
	return err;
}

/* ---- talking ---- */

int vici_connect(const char *path)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd, err;

	if (strlen(path) >= sizeof sa.sun_path)
		return -ENAMETOOLONG;
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (!connect(fd, (struct sockaddr *)&sa, sizeof sa))
		return fd;
	err = -errno;
	close(fd);
	return err;
}

static int wait_for(int fd, short what, uint64_t until_ns)
{
	uint64_t now = now_ns();
	struct pollfd p = {.fd = fd, .events = what};
	int n;

	if (now >= until_ns)
		return -ETIMEDOUT;
	n = poll(&p, 1, (int)((until_ns - now) / 1000000) + 1);
	return n < 0 && errno != EINTR ? -errno : 0;
}

static int put_all(int fd, const void *bytes, size_t n, uint64_t until_ns)
{
	const uint8_t *p = bytes;

	while (n) {
		ssize_t done = send(fd, p, n, MSG_NOSIGNAL);
		int err = done < 0 && errno == EAGAIN ? wait_for(fd, POLLOUT, until_ns) : done < 0 ? -errno : 0;

		if (err)
			return err;
		p += MAX(done, 0);
		n -= MAX(done, 0);
	}
	return 0;
}

static int get_all(int fd, void *bytes, size_t n, uint64_t until_ns)
{
	uint8_t *p = bytes;

	while (n) {
		ssize_t done = recv(fd, p, n, 0);
		int err = done < 0 && errno == EAGAIN ? wait_for(fd, POLLIN, until_ns) :
			  done < 0		      ? -errno :
			  !done			      ? -ECONNRESET :
							0;

		if (err)
			return err;
		p += MAX(done, 0);
		n -= MAX(done, 0);
	}
	return 0;
}

static int send_packet(int fd, enum packet type, const char *name, const struct vici *m, uint64_t until_ns)
{
	size_t n = 2 + strlen(name), len = n + (m ? m->len : 0);
	uint8_t head[6 + UINT8_MAX] = {(uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len,
				       (uint8_t)type, (uint8_t)strlen(name)};
	int err;

	if (strlen(name) > UINT8_MAX)
		return -EINVAL;
	memcpy(head + 6, name, strlen(name));
	err = put_all(fd, head, 4 + n, until_ns);
	return !err && m ? put_all(fd, m->p, m->len, until_ns) : err;
}

/* Return: type of the packet, its message in *buf (the caller's) behind *off; or -errno */
static int receive(int fd, uint8_t **buf, size_t *len, size_t *off, uint64_t until_ns)
{
	uint8_t head[4];
	int err = get_all(fd, head, sizeof head, until_ns);

	*buf = NULL;
	if (err)
		return err;
	*len = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
	if (!*len || *len > VICI_PACKET_MAX)
		return -EPROTO;
	*buf = malloc(*len);
	if (!*buf)
		return -ENOMEM;
	err = get_all(fd, *buf, *len, until_ns);
	if (err)
		return err;
	*off = 1;
	if ((*buf)[0] == EVENT)
		*off = *len >= 2 ? 2 + (size_t)(*buf)[1] : *len + 1;
	return *off <= *len ? (*buf)[0] : -EPROTO;
}

/* Until a packet of type want; events on the way are kept. */
static int await(int fd, enum packet want, json_t *events, json_t **reply, uint64_t until_ns)
{
	for (;;) {
		json_t *msg = NULL;
		size_t len = 0, off = 0;
		uint8_t *buf;
		int type = receive(fd, &buf, &len, &off, until_ns), err = type < 0 ? type : 0;

		if (type == CMD_UNKNOWN || type == EVENT_UNKNOWN)
			err = -ENOSYS;
		else if (!err)
			err = vici_parse(buf + off, len - off, &msg);
		free(buf);
		if (err)
			return err;
		if (type == EVENT) {
			if (events)
				json_array_append(events, msg);
			json_decref(msg);
			continue;
		}
		if (type == (int)want && reply)
			*reply = msg;
		else
			json_decref(msg);
		return type == (int)want ? 0 : -EPROTO;
	}
}

static int subscribe(int fd, enum packet how, const char *event, uint64_t until_ns)
{
	int err = event ? send_packet(fd, how, event, NULL, until_ns) : 0;

	return event && !err ? await(fd, EVENT_CONFIRM, NULL, NULL, until_ns) : err;
}

int vici_call(int fd, const char *cmd, const struct vici *m, const char *event, json_t **events, json_t **reply,
	      int timeout_ms)
{
	uint64_t until = now_ns() + timeout_ms * UINT64_C(1000000);
	json_t *seen = event ? json_array() : NULL;
	int err = m && m->bad ? -EMSGSIZE : subscribe(fd, EVENT_REGISTER, event, until);

	*reply = NULL;
	if (!err)
		err = send_packet(fd, CMD_REQUEST, cmd, m, until);
	if (!err)
		err = await(fd, CMD_RESPONSE, seen, reply, until);
	if (!err)
		err = subscribe(fd, EVENT_UNREGISTER, event, until);
	if (!err && events) {
		*events = seen;
		return 0;
	}
	json_decref(seen);
	if (err) {
		json_decref(*reply);
		*reply = NULL;
	}
	return err;
}
