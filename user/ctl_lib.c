/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The connection to ipsecd, its replies, and errors said properly. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include "ctl.h"
#include "verbs.h"

enum { REPLY_MAX = 1 << 28 };

void ctl_print_json(const json_t *j)
{
	json_dumpf(j, stdout,
		   JSON_REAL_PRECISION(12) |
			   (isatty(STDOUT_FILENO) ? JSON_INDENT(2) : JSON_COMPACT));
	putchar('\n');
}

json_t *ctl_ok(const struct ctl *c)
{
	return json_pack("{s:i, s:b, s:s}", "schema", 1, "ok", 1, "instance", c->instance);
}

static void say_error(json_t *r)
{
	json_t *line;
	size_t i;

	json_array_foreach (json_object_get(r, "errors"), i, line)
		fprintf(stderr, "%s\n", json_string_value(line));
	fprintf(stderr, "ipsecctl: %s\n", jstr(r, "error"));
	if (!jnull(r, "hint"))
		fprintf(stderr, "  %s\n", jstr(r, "hint"));
}

bool ctl_finish(struct ctl *c, json_t *reply, int *code)
{
	bool ok = json_is_true(json_object_get(reply, "ok"));

	*code = ok ? EXIT_OK_ : (int)jint(reply, "exit");
	if (!ok && !*code)
		*code = EXIT_RUNTIME;
	if (c->json && !c->relayed)
		ctl_print_json(reply);
	else if (!c->json && !ok)
		say_error(reply);
	return c->json || !ok;
}

int ctl_fail(struct ctl *c, int exit_code, const char *code, const char *hint, const char *fmt, ...)
{
	char text[2048];
	va_list ap;
	json_t *r;
	int ret;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	r = verbs_error(exit_code, code, hint, "%s", text);
	ctl_finish(c, r, &ret);
	json_decref(r);
	return exit_code;
}

int ctl_usage(struct ctl *c, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	return ctl_fail(c, EXIT_USAGE, "usage", NULL, "%s", text);
}

/* ---- connection ---- */

static json_t *no_daemon(const struct ctl *c, int err)
{
	char hint[512];

	if (err == EACCES)
		return verbs_error(EXIT_POLICY, "not-permitted",
				   "sudo ipsecctl ..., or join the group ipsec to look",
				   "%s: only root and the group ipsec may talk to ipsecd", c->sock);
	snprintf(hint, sizeof hint, "systemctl start ipsecd@%s; another instance: ipsecctl -i NAME",
		 c->instance);
	return verbs_error(EXIT_NO_DAEMON, "no-daemon", hint, "no ipsecd answers at %s: %s",
			   c->sock, strerror(err));
}

static int dial(struct ctl *c)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct timeval tv = {.tv_sec = CTL_TIMEOUT_S};

	if (c->fd >= 0)
		return 0;
	if (strlen(c->sock) >= sizeof sa.sun_path)
		return -ENAMETOOLONG;
	strcpy(sa.sun_path, c->sock);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -errno;
	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
	if (!connect(c->fd, (struct sockaddr *)&sa, sizeof sa))
		return 0;
	tv.tv_sec = errno;
	close(c->fd);
	c->fd = -1;
	return -(int)tv.tv_sec;
}

static int send_all(int fd, const char *p, size_t len)
{
	while (len) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= n;
	}
	return 0;
}

static int more(struct ctl *c)
{
	ssize_t n;

	if (c->in_len + 65536 > c->in_cap) {
		size_t cap = c->in_cap ? c->in_cap * 2 : 1 << 17;
		char *p = cap <= REPLY_MAX ? realloc(c->in, cap) : NULL;

		if (!p)
			return -ENOMEM;
		c->in = p;
		c->in_cap = cap;
	}
	do
		n = recv(c->fd, c->in + c->in_len, c->in_cap - c->in_len, 0);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n ? -errno : -ECONNRESET;
	c->in_len += n;
	return 0;
}

/* ipsecd writes its fields in this order; anything else is parsed. */
static bool is_ok(const char *line, size_t len)
{
	static const char head[] = "{\"schema\":1,\"ok\":true,";

	return len > sizeof head && !memcmp(line, head, sizeof head - 1);
}

/* One line of JSON. Return: 0, or -errno; -EBADMSG = not JSON. */
static int read_line(struct ctl *c, json_t **out)
{
	size_t seen = 0;
	char *nl;
	int err;

	while (!(nl = c->in_len > seen ? memchr(c->in + seen, '\n', c->in_len - seen) : NULL)) {
		seen = c->in_len;
		err = more(c);
		if (err)
			return err;
	}
	c->relayed = c->relay && is_ok(c->in, nl - c->in);
	if (c->relayed) /* thousands of links: parsing and printing again would double the time */
		fwrite(c->in, 1, nl + 1 - c->in, stdout);
	*out = c->relayed ? json_pack("{s:b}", "ok", 1) : json_loadb(c->in, nl - c->in, 0, NULL);
	c->in_len -= nl + 1 - c->in;
	memmove(c->in, nl + 1, c->in_len);
	return *out ? 0 : -EBADMSG;
}

static int exchange(struct ctl *c, json_t *req, json_t **reply)
{
	char *text = json_dumps(req, JSON_COMPACT);
	int err;

	if (!text)
		return -EINVAL;
	err = send_all(c->fd, text, strlen(text));
	err = err ? err : send_all(c->fd, "\n", 1);
	free(text);
	return err ? err : read_line(c, reply);
}

json_t *ctl_request(struct ctl *c, const char *verb, json_t *args)
{
	json_t *req = json_pack("{s:i, s:s, s:o}", "schema", 1, "verb", verb, "args",
				args ? args : json_object());
	json_t *reply = NULL;
	int err = dial(c);

	c->relayed = false;
	if (err) {
		json_decref(req);
		return no_daemon(c, -err);
	}
	err = exchange(c, req, &reply);
	json_decref(req);
	if (!err)
		return reply;
	if (err == -EAGAIN)
		return verbs_error(EXIT_NO_DAEMON, "daemon-silent",
				   "its log may say why; its guardian takes the links down",
				   "ipsecd has not answered for %d s", CTL_TIMEOUT_S);
	return verbs_error(EXIT_NO_DAEMON, "daemon-gone", "ipsecctl show",
			   "the connection to ipsecd broke: %s", strerror(-err));
}

json_t *ctl_next(struct ctl *c)
{
	struct timeval forever = {0};
	json_t *j = NULL;

	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof forever);
	return read_line(c, &j) ? NULL : j;
}

/* ---- replies ---- */

json_t *jat(json_t *o, const char *path)
{
	char key[64];
	const char *dot;

	while ((dot = strchr(path, '.'))) {
		snprintf(key, sizeof key, "%.*s", (int)(dot - path), path);
		o = json_object_get(o, key);
		path = dot + 1;
	}
	return json_object_get(o, path);
}

char *visible(char *s)
{
	for (char *p = s; p && *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	return s;
}

const char *jstr(json_t *o, const char *path)
{
	const char *s = json_string_value(jat(o, path));
	static char clean[8][1100];
	static unsigned int turn;
	char *buf = clean[turn++ % ARRAY_SIZE(clean)];

	if (!s || !*s)
		return "-";
	snprintf(buf, sizeof clean[0], "%s", s);
	return visible(buf);
}

int64_t jint(json_t *o, const char *path)
{
	return json_integer_value(jat(o, path));
}

double jnum(json_t *o, const char *path)
{
	return json_number_value(jat(o, path));
}

bool jtrue(json_t *o, const char *path)
{
	return json_is_true(jat(o, path));
}

bool jnull(json_t *o, const char *path)
{
	json_t *v = jat(o, path);

	return !v || json_is_null(v);
}
