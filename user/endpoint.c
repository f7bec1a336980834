/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>
#include "endpoint.h"
#include "log.h"

enum { BUCKETS = 4096, SYNC_NS = 1000000000, FILE_MAX_BYTES = 64 << 20, SLACK_LINES = 1000 };

struct entry {
	struct entry *next, *next_dirty;
	struct endpoint e;
	bool dirty;
};

struct endpoints {
	struct entry *bucket[BUCKETS];
	struct entry *dirty;
	char path[4096 + 16], fresh[4096 + 16];
	unsigned int n, n_lines; /* entries; lines in the file */
	bool torn;               /* the file ends within a line, or was damaged */
	bool told;               /* of a disk that does not work */
	uint64_t next_ns;
};

/* ---- lines ---- */

int endpoint_print(const struct endpoint *e, char buf[ENDPOINT_LINE_MAX])
{
	char a[INET6_ADDRSTRLEN];
	int n = snprintf(buf, ENDPOINT_LINE_MAX, "%s %u %s %u %" PRIu64 " ", e->peer, e->path, addr_str(&e->remote, a), e->port,
			 e->clock_ms);

	n += snprintf(buf + n, ENDPOINT_LINE_MAX - n, "%08lx\n", crc32(0, (const uint8_t *)buf, n));
	return n;
}

bool endpoint_parse(const char *line, size_t len, struct endpoint *e)
{
	char text[ENDPOINT_LINE_MAX], again[ENDPOINT_LINE_MAX], addr[INET6_ADDRSTRLEN];
	unsigned int port;

	if (len + 2 > sizeof text || memchr(line, 0, len))
		return false;
	memcpy(text, line, len);
	text[len] = '\n';
	text[len + 1] = 0;
	memset(e, 0, sizeof *e);
	if (sscanf(text, "%63s %10u %45s %5u %20" SCNu64 " ", e->peer, &e->path, addr, &port, &e->clock_ms) != 5)
		return false;
	if (e->path >= PATHS_MAX || port > UINT16_MAX || addr_parse(addr, &e->remote) || IN6_IS_ADDR_UNSPECIFIED(&e->remote))
		return false;
	e->port = (uint16_t)port;
	/* one canonical spelling, the checksum in it */
	return endpoint_print(e, again) == (int)len + 1 && !memcmp(again, text, len + 1);
}

/* ---- the table ---- */

static struct entry **place(struct endpoints *s, const char *peer, unsigned int path)
{
	uint32_t h = (uint32_t)crc32(path, (const uint8_t *)peer, (unsigned int)strlen(peer));
	struct entry **pp = &s->bucket[h % BUCKETS];

	while (*pp && ((*pp)->e.path != path || strcmp((*pp)->e.peer, peer)))
		pp = &(*pp)->next;
	return pp;
}

static struct entry *put(struct endpoints *s, const struct endpoint *e)
{
	struct entry **pp = place(s, e->peer, e->path);

	if (!*pp) {
		*pp = calloc(1, sizeof **pp);
		if (!*pp)
			return NULL;
		s->n++;
	}
	(*pp)->e = *e;
	return *pp;
}

static uint64_t wall_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static bool too_old(const struct endpoint *e)
{
	return e->clock_ms + ENDPOINT_KEEP_DAYS * 86400000ull < wall_ms();
}

const struct endpoint *endpoints_find(const struct endpoints *s, const char *peer, unsigned int path)
{
	struct entry **pp = place((struct endpoints *)s, peer, path);

	return *pp && !too_old(&(*pp)->e) ? &(*pp)->e : NULL;
}

void endpoints_note(struct endpoints *s, const char *peer, unsigned int path, const struct in6_addr *remote, uint16_t port)
{
	struct endpoint e = {.path = path, .remote = *remote, .port = port, .clock_ms = wall_ms()};
	struct entry *t;

	snprintf(e.peer, sizeof e.peer, "%s", peer);
	t = put(s, &e);
	if (!t || t->dirty)
		return;
	t->dirty = true;
	t->next_dirty = s->dirty;
	s->dirty = t;
}

/* ---- the file ---- */

static int told(struct endpoints *s, const char *path, int err)
{
	if (!s->told)
		log_warnx("%s: %s: where peers are will not be known after a restart", path, strerror(-err));
	s->told = true;
	return err;
}

static void read_lines(struct endpoints *s, const char *p, const char *end)
{
	unsigned int bad = 0;
	struct endpoint e;
	const char *nl;

	for (; p < end; p = nl + 1) {
		nl = memchr(p, '\n', end - p);
		if (!nl) {
			s->torn = true;
			break;
		}
		s->n_lines++;
		if (endpoint_parse(p, nl - p, &e))
			put(s, &e);
		else
			bad++;
	}
	if (bad || s->torn)
		log_warnx("%s: %u damaged line%s, not believed", s->path, bad + s->torn, bad + s->torn == 1 ? "" : "s");
	s->torn |= bad > 0;
}

static int read_file(struct endpoints *s)
{
	int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	ssize_t n = 0, got = 0;
	char *buf;
	int err = 0;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > FILE_MAX_BYTES) {
		close(fd);
		return -EFBIG;
	}
	buf = malloc(st.st_size + 1);
	if (!buf)
		err = -ENOMEM;
	while (!err && got < st.st_size && (n = pread(fd, buf + got, st.st_size - got, got)) > 0)
		got += n;
	if (n < 0)
		err = -errno;
	if (!err)
		read_lines(s, buf, buf + got);
	free(buf);
	close(fd);
	return err;
}

static int sync_and_close(FILE *f, bool failed)
{
	int err = failed || ferror(f) || fflush(f) || fdatasync(fileno(f)) ? -(errno ? errno : EIO) : 0;

	if (fclose(f) && !err)
		err = -errno;
	return err;
}

static bool write_one(FILE *f, const struct endpoint *e)
{
	char line[ENDPOINT_LINE_MAX];
	int n = endpoint_print(e, line);

	return fwrite(line, 1, n, f) == (size_t)n;
}

static FILE *open_for(const char *path, int flags)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
	FILE *f = fd < 0 ? NULL : fdopen(fd, flags & O_APPEND ? "a" : "w");

	if (fd >= 0 && !f)
		close(fd);
	return f;
}

/* Everything known, beside the old file, then in its place. */
static int write_anew(struct endpoints *s)
{
	FILE *f = open_for(s->fresh, O_TRUNC);
	unsigned int n = 0;
	bool failed = false;
	int err, dir;

	if (!f)
		return -errno;
	for (unsigned int i = 0; i < BUCKETS; i++) {
		for (const struct entry *t = s->bucket[i]; t; t = t->next) {
			if (too_old(&t->e))
				continue;
			failed |= !write_one(f, &t->e);
			n++;
		}
	}
	err = sync_and_close(f, failed);
	if (!err && rename(s->fresh, s->path))
		err = -errno;
	if (err)
		return err;
	*strrchr(s->fresh, '/') = 0;
	dir = open(s->fresh, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || fsync(dir))
		err = -errno;
	if (dir >= 0)
		close(dir);
	s->fresh[strlen(s->fresh)] = '/';
	s->n_lines = n;
	s->torn = false;
	return err;
}

static int append(struct endpoints *s)
{
	FILE *f = open_for(s->path, O_APPEND);
	bool failed = false;

	if (!f)
		return -errno;
	for (const struct entry *t = s->dirty; t; t = t->next_dirty) {
		failed |= !write_one(f, &t->e);
		s->n_lines++;
	}
	return sync_and_close(f, failed);
}

int endpoints_sync(struct endpoints *s, bool now_or_never)
{
	bool anew = s->torn || s->n_lines > 4 * s->n + SLACK_LINES;
	struct entry *next;
	int err;

	if (!s->dirty || (!now_or_never && now_ns() < s->next_ns))
		return 0;
	s->next_ns = now_ns() + SYNC_NS;
	err = anew ? write_anew(s) : append(s);
	if (err) {
		s->torn = true; /* who knows what stands there now */
		return told(s, s->path, err);
	}
	s->told = false;
	for (struct entry *t = s->dirty; t; t = next) {
		next = t->next_dirty;
		t->next_dirty = NULL;
		t->dirty = false;
	}
	s->dirty = NULL;
	return 0;
}

struct endpoints *endpoints_open(const char *dir)
{
	struct endpoints *s = calloc(1, sizeof *s);
	int err;

	if (!s)
		return NULL;
	snprintf(s->path, sizeof s->path, "%s/endpoints", dir);
	snprintf(s->fresh, sizeof s->fresh, "%s/endpoints.new", dir);
	err = read_file(s);
	if (err) {
		told(s, s->path, err);
		s->torn = true;
	}
	return s;
}

void endpoints_close(struct endpoints *s)
{
	struct entry *t;

	if (!s)
		return;
	endpoints_sync(s, true);
	for (unsigned int i = 0; i < BUCKETS; i++) {
		while ((t = s->bucket[i])) {
			s->bucket[i] = t->next;
			free(t);
		}
	}
	free(s);
}
