/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * safile - see safile.h. Read with one read(2) into a buffer of ours and cut up there: stdio and
 * libinih would leave copies of key text in memory that nobody wipes (I3).
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include "ipsec_wire.h"
#include "replay.h"
#include "safile.h"
#include "util.h"

enum {
	KEY_SPI,
	KEY_ALG,
	KEY_KEY,
	KEY_AUTH,
	KEY_SALT,
	KEY_ESN,
	KEY_WINDOW,
	KEY_MODE,
	KEY_LIFE, /* soft-time, the first of six */
	N_KEYS = KEY_LIFE + 6
};
static const char *const key_names[N_KEYS] = {
	"spi",	     "alg",	  "key",	"auth-key",	"salt",		"esn",	      "window",
	"mode",	     "soft-time", "hard-time",	"soft-bytes",	"hard-bytes",	"soft-packets", "hard-packets"};
static const char *const mode_names[] = {[SA_TUNNEL] = "tunnel", [SA_TRANSPORT] = "transport"};

/* struct half - one section while it is read; text points into the file's buffer */
struct half {
	const char *name;
	struct sa_conf *sa;
	char *text[N_KEYS];
	int line[N_KEYS];
};

/* struct parser - one file */
struct parser {
	const char *path;
	FILE *errs;
	int line;
	int errors;
	struct half half[2]; /* [out], [in] */
	struct half *cur;
};

__attribute__((format(printf, 3, 4))) static void complain(struct parser *p, int line,
							   const char *fmt, ...)
{
	va_list ap;

	p->errors++;
	if (!p->errs)
		return;
	fprintf(p->errs, "%s:%d: ", p->path, line);
	va_start(ap, fmt);
	vfprintf(p->errs, fmt, ap);
	va_end(ap);
	fputc('\n', p->errs);
}

__attribute__((format(printf, 3, 4))) static int refuse(FILE *errs, int err, const char *fmt, ...)
{
	va_list ap;

	if (!errs)
		return err;
	va_start(ap, fmt);
	vfprintf(errs, fmt, ap);
	va_end(ap);
	fputc('\n', errs);
	return err;
}

/* --- words to fields -------------------------------------------------------------- */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool parse_hex(struct parser *p, int line, const char *what, const char *s, uint8_t *out,
		      size_t len)
{
	size_t n;

	if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X'))
		s += 2;
	n = strlen(s);
	for (size_t i = 0; i < n; i++) {
		if (hex_digit(s[i]) < 0) {
			complain(p, line, "%s: digit %zu is not hexadecimal", what, i + 1);
			return false;
		}
	}
	if (n != 2 * len) {
		complain(p, line, "%s: has %zu hex digits, %zu are needed", what, n, 2 * len);
		return false;
	}
	for (size_t i = 0; i < len; i++)
		out[i] = hex_digit(s[2 * i]) << 4 | hex_digit(s[2 * i + 1]);
	return true;
}

static bool parse_u32(const char *s, uint32_t *out)
{
	bool hex = s[0] == '0' && (s[1] == 'x' || s[1] == 'X');
	unsigned long long n;
	char *end;

	s += hex ? 2 : 0;
	if (!isxdigit((unsigned char)*s))
		return false;
	errno = 0;
	n = strtoull(s, &end, hex ? 16 : 10);
	if (*end || errno || n > UINT32_MAX)
		return false;
	*out = n;
	return true;
}

static void take_spi(struct parser *p, struct half *h)
{
	if (!parse_u32(h->text[KEY_SPI], &h->sa->spi))
		complain(p, h->line[KEY_SPI], "spi: a number from 0x100 to 0xffffffff");
	else if (h->sa->spi < SPI_MIN)
		complain(p, h->line[KEY_SPI], "spi: below 256 is reserved (RFC 4303 2.1)");
}

/* One piece of the keying material: len bytes, there exactly when the suite has such a piece. */
static void take_bytes(struct parser *p, struct half *h, int key, uint8_t *out, size_t len)
{
	const char *name = key_names[key], *text = h->text[key];
	uint8_t any = 0;

	if (!text && len)
		return complain(p, p->line, "[%s] has no '%s'", h->name, name);
	if (text && !len)
		return complain(p, h->line[key], "%s: %s has none", name,
				aead_by_alg(h->sa->alg)->name);
	if (!text || !parse_hex(p, h->line[key], name, text, out, len))
		return;
	for (size_t i = 0; i < len; i++)
		any |= out[i];
	if (!any && key != KEY_SALT)
		complain(p, h->line[key], "%s: all zero", name);
}

static void take_keys(struct parser *p, struct half *h)
{
	const struct aead_desc *d = aead_by_name(h->text[KEY_ALG]);

	if (!d)
		return complain(p, h->line[KEY_ALG], "alg: %s", aead_refusal(h->text[KEY_ALG]));
	h->sa->alg = d->alg;
	take_bytes(p, h, KEY_KEY, h->sa->key, d->key_len);
	take_bytes(p, h, KEY_AUTH, h->sa->key + d->key_len, d->auth_key_len);
	take_bytes(p, h, KEY_SALT, h->sa->salt, d->salt_len);
}

static void take_esn(struct parser *p, struct half *h)
{
	const char *s = h->text[KEY_ESN];

	h->sa->esn = !s || !strcmp(s, "yes");
	if (s && strcmp(s, "yes") && strcmp(s, "no"))
		complain(p, h->line[KEY_ESN], "esn: yes or no");
}

static void take_window(struct parser *p, struct half *h)
{
	bool in = h->sa->dir == SA_IN;
	uint32_t *w = &h->sa->window;

	*w = in ? REPLAY_WINDOW_DEFAULT : PEER_WINDOW_MIN;
	if (!h->text[KEY_WINDOW])
		return;
	if (!parse_u32(h->text[KEY_WINDOW], w) || *w > REPLAY_WINDOW_MAX ||
	    *w < (in ? (uint32_t)REPLAY_WINDOW_MIN : PEER_WINDOW_MIN))
		complain(p, h->line[KEY_WINDOW], "window: a number from %d to %d",
			 in ? REPLAY_WINDOW_MIN : PEER_WINDOW_MIN, REPLAY_WINDOW_MAX);
	else if (in && *w % 64)
		complain(p, h->line[KEY_WINDOW], "window: a multiple of 64");
}

static void take_mode(struct parser *p, struct half *h)
{
	const char *s = h->text[KEY_MODE];

	for (size_t i = 0; s && i < ARRAY_SIZE(mode_names); i++)
		if (!strcmp(s, mode_names[i]))
			h->sa->mode = (enum sa_mode)i;
	if (s && strcmp(s, mode_names[h->sa->mode]))
		complain(p, h->line[KEY_MODE], "mode: tunnel or transport");
}

struct unit {
	const char *suffix;
	uint64_t factor;
};

static bool parse_units(const char *s, const struct unit *u, uint64_t *out)
{
	size_t n = strspn(s, "0123456789");

	if (!n || n > 18)
		return false;
	while (u->suffix && strcmp(u->suffix, s + n))
		u++;
	*out = strtoull(s, NULL, 10);
	return u->suffix && *out && !__builtin_mul_overflow(*out, u->factor, out) && *out <= INT64_MAX;
}

/* One kind of lifetime: the soft limit and, behind it, the hard one. */
static void take_life(struct parser *p, struct half *h, int key, const struct unit *units,
		      uint64_t *soft, uint64_t *hard)
{
	uint64_t *out[] = {soft, hard};
	int had = p->errors;

	for (int i = 0; i < 2; i++)
		if (h->text[key + i] && !parse_units(h->text[key + i], units, out[i]))
			complain(p, h->line[key + i], "%s: a number, not 0, %s", key_names[key + i],
				 units->suffix[0] ? "with s, m, h or d behind it" :
						    "maybe with k, M, G, T, Ki, Mi, Gi or Ti behind it");
	if (p->errors == had && *soft && *hard && *soft >= *hard)
		complain(p, h->line[key], "%s: is not below %s: a successor needs time to come up",
			 key_names[key], key_names[key + 1]);
}

static void take_lives(struct parser *p, struct half *h)
{
	static const struct unit times[] = {{"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}, {0}};
	static const struct unit counts[] = {{"", 1},
					     {"k", 1000},
					     {"M", 1000000},
					     {"G", 1000000000},
					     {"T", 1000000000000},
					     {"Ki", 1 << 10},
					     {"Mi", 1 << 20},
					     {"Gi", 1 << 30},
					     {"Ti", UINT64_C(1) << 40},
					     {0}};
	struct life_conf *l = &h->sa->life;

	take_life(p, h, KEY_LIFE, times, &l->soft.time_s, &l->hard.time_s);
	take_life(p, h, KEY_LIFE + 2, counts, &l->soft.bytes, &l->hard.bytes);
	take_life(p, h, KEY_LIFE + 4, counts, &l->soft.pkts, &l->hard.pkts);
}

static void take_half(struct parser *p, struct half *h)
{
	static const int needed[] = {KEY_SPI, KEY_ALG};
	bool complete = true;

	for (unsigned int i = 0; i < ARRAY_SIZE(needed); i++) {
		if (h->text[needed[i]])
			continue;
		complain(p, p->line, "[%s] has no '%s'", h->name, key_names[needed[i]]);
		complete = false;
	}
	if (!complete)
		return;
	take_spi(p, h);
	take_keys(p, h);
	take_esn(p, h);
	take_window(p, h);
	take_mode(p, h);
	take_lives(p, h);
	h->sa->fingerprint = sa_fingerprint(h->sa);
}

/* --- lines to words ------------------------------------------------------------------ */

/* Blanks at both ends and a comment behind a blank, cut off in place. */
static char *trim(char *s)
{
	char *end;

	s += strspn(s, " \t\r");
	for (end = s; *end; end++)
		if ((*end == '#' || *end == ';') && (end == s || end[-1] == ' ' || end[-1] == '\t'))
			break;
	*end = 0;
	while (end > s && strchr(" \t\r", end[-1]))
		*--end = 0;
	return s;
}

static void take_for(struct parser *p, const char *value)
{
	struct sels *l = &p->half[0].sa->sels;
	const char *why;

	if (p->cur)
		complain(p, p->line, "for: stands above [out] and [in], it is for both");
	else if (l->n == SEL_MAX)
		complain(p, p->line, "for: more than %d of them", SEL_MAX);
	else if (sel_parse(&l->sel[l->n], value, &why))
		complain(p, p->line, "for: %s", why);
	else
		l->n++;
}

static void take_line(struct parser *p, char *s)
{
	char *eq, *value;
	int key;

	if (*s == '[') {
		p->cur = !strcmp(s, "[out]")  ? &p->half[0]
			 : !strcmp(s, "[in]") ? &p->half[1]
					      : NULL;
		if (!p->cur)
			complain(p, p->line, "unknown section; there are [out] and [in]");
		return;
	}
	eq = strchr(s, '=');
	if (!eq)
		return complain(p, p->line, "write KEY = VALUE");
	*eq = 0;
	s = trim(s);
	value = trim(eq + 1);
	for (key = 0; key < N_KEYS && strcmp(s, key_names[key]); key++)
		;
	if (!strcmp(s, "for"))
		take_for(p, value);
	else if (key == N_KEYS)
		complain(p, p->line,
			 "unknown key; there are for, spi, alg, key, auth-key, salt, esn, window, mode, and "
			 "soft- and hard-time, -bytes and -packets");
	else if (!*value)
		complain(p, p->line, "%s: a value is missing", key_names[key]);
	else if (!p->cur)
		complain(p, p->line, "%s: stands in neither [out] nor [in]", key_names[key]);
	else if (p->cur->text[key])
		complain(p, p->line, "%s: is given twice, first on line %d", key_names[key],
			 p->cur->line[key]);
	else
		p->cur->text[key] = value, p->cur->line[key] = p->line;
}

static int parse(struct parser *p, char *text, size_t len)
{
	char *nl, *s;

	if (strlen(text) != len)
		return refuse(p->errs, -EINVAL, "%s: is no text file", p->path);
	for (; *text; text = nl) {
		p->line++;
		nl = text + strcspn(text, "\n");
		if (*nl)
			*nl++ = 0;
		s = trim(text);
		if (*s)
			take_line(p, s);
	}
	take_half(p, &p->half[0]);
	take_half(p, &p->half[1]);
	sels_tidy(&p->half[0].sa->sels);
	sels_mirror(&p->half[1].sa->sels, &p->half[0].sa->sels);
	if (!p->errors && p->half[0].sa->mode != p->half[1].sa->mode)
		complain(p, p->line, "mode: [out] and [in] differ");
	if (!p->errors && p->half[0].sa->fingerprint == p->half[1].sa->fingerprint)
		complain(p, p->line, "same key%s in both directions: %s",
			 aead_by_alg(p->half[0].sa->alg)->salt_len ? " and salt" : "s",
			 aead_by_alg(p->half[0].sa->alg)->iv_counter ?
				 "every nonce would be used twice" :
				 "what we sent could be sent back to us");
	return p->errors ? -EINVAL : 0;
}

/* --- files ------------------------------------------------------------------------ */

static int open_private(const char *path, FILE *errs)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), err = 0;
	struct stat st;

	if (fd < 0)
		return refuse(errs, -errno, "%s: cannot read: %s", path, strerror(errno));
	if (fstat(fd, &st))
		err = refuse(errs, -errno, "%s: %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		err = refuse(errs, -EPERM, "%s: is no regular file", path);
	else if (st.st_uid != geteuid())
		err = refuse(errs, -EPERM,
			     "%s: belongs to uid %u, not to %u who reads it: chown it", path,
			     st.st_uid, geteuid());
	else if (st.st_mode & 07177)
		err = refuse(errs, -EPERM,
			     "%s: mode %04o lets others at the keys: chmod 600, and make new keys",
			     path, st.st_mode & 07777);
	if (!err)
		return fd;
	close(fd);
	return err;
}

static ssize_t read_full(int fd, char *buf, size_t len)
{
	size_t got = 0;
	ssize_t n;

	while (got < len) {
		n = read(fd, buf + got, len - got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		got += n;
	}
	return got;
}

/* text: SAFILE_LEN_MAX + 1 bytes, wiped by the caller */
static int read_and_parse(struct parser *p, char *text)
{
	int fd = open_private(p->path, p->errs);
	ssize_t n;

	if (fd < 0)
		return fd;
	n = read_full(fd, text, SAFILE_LEN_MAX + 1);
	close(fd);
	if (n < 0)
		return refuse(p->errs, n, "%s: cannot read: %s", p->path, strerror(-n));
	if (n > SAFILE_LEN_MAX)
		return refuse(p->errs, -EINVAL, "%s: longer than %d bytes", p->path,
			      SAFILE_LEN_MAX);
	text[n] = 0;
	p->half[0].sa->dir = SA_OUT;
	p->half[1].sa->dir = SA_IN;
	return parse(p, text, n);
}

int safile_load(const char *path, struct sa_conf *out, struct sa_conf *in, FILE *errs)
{
	struct parser p = {.path = path,
			   .errs = errs,
			   .half = {{.name = "out", .sa = out}, {.name = "in", .sa = in}}};
	char text[SAFILE_LEN_MAX + 1];
	int err;

	memset(out, 0, sizeof *out);
	memset(in, 0, sizeof *in);
	err = read_and_parse(&p, text);
	explicit_bzero(text, sizeof text);
	if (err) {
		explicit_bzero(out, sizeof *out);
		explicit_bzero(in, sizeof *in);
	}
	return err;
}

int safile_peek(const char *path, enum sa_mode *mode, struct sels *sels)
{
	struct sa_conf out, in;
	int err = safile_load(path, &out, &in, NULL);

	if (mode)
		*mode = out.mode;
	if (sels)
		*sels = out.sels;
	sa_conf_wipe(&out);
	sa_conf_wipe(&in);
	return err;
}

/* --- pairs ------------------------------------------------------------------------ */

/* struct keys - one direction of a pair; secret */
struct keys {
	uint32_t spi;
	uint8_t key[AEAD_KEY_MAX];
	uint8_t salt[AEAD_SALT_LEN];
};

static int random_bytes(void *buf, size_t len)
{
	ssize_t n;

	/* up to 256 bytes come whole once the pool is initialised (getrandom(2)) */
	do
		n = getrandom(buf, len, 0);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)len ? 0 : -EIO;
}

static int fresh_keys(struct keys k[2])
{
	do {
		if (random_bytes(k, 2 * sizeof *k))
			return -EIO;
	} while (k[0].spi < SPI_MIN || k[1].spi < SPI_MIN || k[0].spi == k[1].spi ||
		 !memcmp(k[0].salt, k[1].salt, AEAD_SALT_LEN) ||
		 !memcmp(k[0].key, k[1].key, AEAD_KEY_MAX));
	return 0;
}

static char *put_hex(char *s, const uint8_t *b, size_t len)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < len; i++) {
		*s++ = digits[b[i] >> 4];
		*s++ = digits[b[i] & 15];
	}
	return s;
}

static char *put_half(char *s, const char *name, const struct keys *k, const struct aead_desc *d,
		      enum sa_mode mode)
{
	s += sprintf(s, "[%s]\nspi      = 0x%08x\nalg      = %s", name, k->spi, d->name);
	if (d->key_len) {
		s += sprintf(s, "\nkey      = ");
		s = put_hex(s, k->key, d->key_len);
	}
	if (d->auth_key_len) {
		s += sprintf(s, "\nauth-key = ");
		s = put_hex(s, k->key + d->key_len, d->auth_key_len);
	}
	if (d->salt_len) {
		s += sprintf(s, "\nsalt     = ");
		s = put_hex(s, k->salt, d->salt_len);
	}
	s += sprintf(s, "\nesn      = yes\nwindow   = %d\n", REPLAY_WINDOW_DEFAULT);
	return mode == SA_TUNNEL ? s : s + sprintf(s, "mode     = %s\n", mode_names[mode]);
}

static int write_synced(int fd, const char *buf, size_t len)
{
	while (len) {
		ssize_t n = write(fd, buf, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		buf += n;
		len -= n;
	}
	return fsync(fd) ? -errno : 0;
}

static int write_file(const char *path, const char *host, const char *peer, const struct keys *out,
		      const struct keys *in, const struct aead_desc *d, enum sa_mode mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), err;
	char text[2048], *s = text;

	if (fd < 0)
		return -errno;
	s += sprintf(s,
		     "# Static keys of %s towards %s, for labs only. Keep secret; copy to one "
		     "machine, once.\n",
		     host, peer);
	s = put_half(s, "out", out, d, mode);
	s = put_half(s, "in", in, d, mode);
	err = write_synced(fd, text, s - text);
	explicit_bzero(text, sizeof text);
	if (close(fd) && !err)
		err = -errno;
	if (err)
		unlink(path);
	return err;
}

static bool is_host_name(const char *s)
{
	if (!isalnum((unsigned char)*s) || strlen(s) >= SAFILE_NAME_MAX)
		return false;
	for (; *s; s++)
		if ((unsigned char)*s > 127 ||
		    (!isalnum((unsigned char)*s) && !strchr("._@+-", *s)))
			return false;
	return true;
}

static int make_dir(const char *dir, const char *sub, FILE *errs)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof path, "%s/%s", dir, sub) >= (int)sizeof path)
		return refuse(errs, -ENAMETOOLONG, "%s: name too long", dir);
	if (mkdir(path, 0700) && errno != EEXIST)
		return refuse(errs, -errno, "%s: cannot make the directory: %s", path,
			      strerror(errno));
	return 0;
}

static int write_pair(const struct keys k[2], const char *a, const char *b,
		      const struct aead_desc *d, enum sa_mode mode, const char *path_a,
		      const char *path_b, FILE *errs)
{
	int err = write_file(path_a, a, b, &k[0], &k[1], d, mode);

	if (err)
		return refuse(errs, err, "%s: cannot write: %s", path_a, strerror(-err));
	err = write_file(path_b, b, a, &k[1], &k[0], d, mode);
	if (err) {
		unlink(path_a);
		return refuse(errs, err, "%s: cannot write: %s", path_b, strerror(-err));
	}
	return 0;
}

int safile_pair(const char *dir, const char *a, const char *b, enum aead_alg alg, enum sa_mode mode,
		char *path_a, char *path_b, FILE *errs)
{
	const struct aead_desc *d = aead_by_alg(alg);
	struct keys k[2];
	int err;

	if (!d)
		return refuse(errs, -EINVAL, "unknown algorithm");
	if (!is_host_name(a) || !is_host_name(b) || !strcmp(a, b))
		return refuse(errs, -EINVAL,
			      "two different host names are needed: letters, digits and ._@+-, at "
			      "most %d",
			      SAFILE_NAME_MAX - 1);
	if (snprintf(path_a, 4096, "%s/%s/%s.sa", dir, a, b) >= 4096 ||
	    snprintf(path_b, 4096, "%s/%s/%s.sa", dir, b, a) >= 4096)
		return refuse(errs, -ENAMETOOLONG, "%s: name too long", dir);
	err = make_dir(dir, "", errs);
	if (!err)
		err = make_dir(dir, a, errs);
	if (!err)
		err = make_dir(dir, b, errs);
	if (err)
		return err;
	err = fresh_keys(k);
	if (err)
		refuse(errs, err, "no random bytes from the kernel");
	else
		err = write_pair(k, a, b, d, mode, path_a, path_b, errs);
	explicit_bzero(k, sizeof k);
	return err;
}
