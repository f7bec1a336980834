/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ledger - see ledger.h.
 *
 * The file is text, so that an admin can read it, in one canonical spelling: what was parsed is
 * rendered again and must give the same bytes, checksum included. The lock travels: the new file
 * is locked before it takes the name, so whoever holds the lock on the inode behind the name is
 * the owner. A deleted or replaced file therefore never yields a second owner unnoticed.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <unistd.h>
#include "ledger.h"
#include "util.h"

enum { VERSION = 2, IMAGE_MAX = 512, NAME_LEN = 40, LOCK_TRIES = 10 };

/* struct marks - what the file says */
struct marks {
	uint64_t fingerprint;
	enum sa_dir dir;
	uint64_t seq;      /* out: highest that may have been used; in: highest that may have been
			      accepted */
	uint64_t iv;       /* out: highest that may have been used */
	uint64_t clock_ms; /* wall clock when that was written */
	uint64_t born_ms;  /* wall clock of ledger_create() */
	uint64_t pkts, bytes; /* of the lifetime, used */
};

/* struct ledger - an open, locked file. m is durable and never goes back. */
struct ledger {
	int dirfd;
	int fd; /* holds the lock; the inode behind name */
	char name[NAME_LEN];
	bool esn;
	bool broken; /* the directory could not be synced: what is durable is unknown */
	struct marks m;
};

static uint64_t wall_clock_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec < 0 ? 0 : (uint64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

uint64_t (*ledger_clock_ms)(void) = wall_clock_ms;

__attribute__((format(printf, 5, 6))) static int refuse(FILE *errs, int err, const char *dir,
							const char *name, const char *fmt, ...)
{
	va_list ap;

	if (!errs)
		return err;
	fprintf(errs, "%s%s%s: ", dir, *name ? "/" : "", name);
	va_start(ap, fmt);
	vfprintf(errs, fmt, ap);
	va_end(ap);
	fputc('\n', errs);
	return err;
}

static const char *dir_name(enum sa_dir dir)
{
	return dir == SA_OUT ? "out" : "in";
}

/* Beyond 2^42 ms (the year 2109) the shift would overflow. */
static bool clock_sane(uint64_t ms)
{
	return ms >= LEDGER_CLOCK_MIN && ms < UINT64_C(1) << (64 - LEDGER_IV_SHIFT);
}

/* --- the image ----------------------------------------------------------------- */

/* Version 1 ends with the clock. Return: length, or -EIO when there is no SHA-256. */
static int render(const struct marks *m, int version, char buf[IMAGE_MAX])
{
	uint8_t md[EVP_MAX_MD_SIZE];
	unsigned int md_len = 0;
	int n;

	n = snprintf(buf, IMAGE_MAX,
		     "espwire-ledger %d\nkey %016" PRIx64 "\ndir %s\nseq %" PRIu64 "\niv %" PRIu64
		     "\nclock %" PRIu64 "\n",
		     version, m->fingerprint, dir_name(m->dir), m->seq, m->iv, m->clock_ms);
	if (version > 1)
		n += snprintf(buf + n, IMAGE_MAX - n,
			      "born %" PRIu64 "\npackets %" PRIu64 "\nbytes %" PRIu64 "\n", m->born_ms,
			      m->pkts, m->bytes);
	n += snprintf(buf + n, IMAGE_MAX - n, "sum ");
	if (!EVP_Digest(buf, n, md, &md_len, EVP_sha256(), NULL))
		return -EIO;
	for (unsigned int i = 0; i < md_len; i++)
		n += snprintf(buf + n, IMAGE_MAX - n, "%02x", md[i]);
	buf[n++] = '\n';
	return n;
}

static int parse(const char *buf, int len, struct marks *m)
{
	char again[IMAGE_MAX], dir[4] = "";
	int version, n;

	n = sscanf(buf,
		   "espwire-ledger %1d key %16" SCNx64 " dir %3s seq %20" SCNu64 " iv %20" SCNu64
		   " clock %20" SCNu64 " born %20" SCNu64 " packets %20" SCNu64 " bytes %20" SCNu64,
		   &version, &m->fingerprint, dir, &m->seq, &m->iv, &m->clock_ms, &m->born_ms, &m->pkts,
		   &m->bytes);
	if (!(n == 9 && version == VERSION) && !(n == 6 && version == 1))
		return -EBADMSG;
	m->dir = strcmp(dir, "out") ? SA_IN : SA_OUT;
	if (version == 1)
		m->born_ms = m->clock_ms;
	return render(m, version, again) == len && !memcmp(again, buf, len) ? 0 : -EBADMSG;
}

static int load(int fd, struct marks *m)
{
	char buf[IMAGE_MAX + 1];
	ssize_t n = pread(fd, buf, IMAGE_MAX, 0);

	if (n < 0)
		return -errno;
	buf[n] = 0;
	return parse(buf, n, m);
}

/*
 * A ledger is open for as long as its SA lives, and there are thousands: keep low descriptors
 * free for libraries that still use select(2) (libnftables does).
 */
static int move_high(int fd)
{
	int high;

	if (fd < 0)
		return fd;
	high = fcntl(fd, F_DUPFD_CLOEXEC, FD_SETSIZE);
	if (high < 0)
		return fd;
	close(fd);
	return high;
}

/* The new file beside the old one, locked and, with sync, durable. Return: fd or -errno, then
 * nothing is left. */
static int write_new(int dirfd, const char *name, const struct marks *m, bool sync)
{
	char buf[IMAGE_MAX];
	int len = render(m, VERSION, buf), fd, err = 0;
	ssize_t n;

	if (len < 0)
		return len;
	fd = openat(dirfd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	n = flock(fd, LOCK_EX | LOCK_NB) ? -1 : write(fd, buf, len);
	if (n != len)
		err = n < 0 ? -errno : -ENOSPC;
	else if (sync && fsync(fd))
		err = -errno;
	if (!err)
		return move_high(fd);
	unlinkat(dirfd, name, 0);
	close(fd);
	return err;
}

static bool same_inode(int dirfd, const char *name, int fd)
{
	struct stat by_name, by_fd;

	return !fstatat(dirfd, name, &by_name, AT_SYMLINK_NOFOLLOW) && !fstat(fd, &by_fd) &&
	       by_name.st_ino == by_fd.st_ino && by_name.st_dev == by_fd.st_dev;
}

/* One descriptor serves all ledgers of a directory: there is one state directory per daemon. */
static struct {
	struct stat st;
	int fd;
	unsigned int refs;
	pthread_mutex_t lock;
} shared_dir = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool is_shared(int fd)
{
	bool yes;

	pthread_mutex_lock(&shared_dir.lock);
	yes = shared_dir.refs && fd == shared_dir.fd;
	pthread_mutex_unlock(&shared_dir.lock);
	return yes;
}

/*
 * Who makes names of the shared directory durable. Several threads wait for the disk (ahead.c): one fsync() is
 * enough for all whose rename() came before it began.
 */
static struct {
	pthread_mutex_t lock; /* all of the following */
	pthread_cond_t ended;
	uint64_t begun, done, failed; /* numbers of fsync()s; failed: the last that was in vain */
} dir_sync = {.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};

/* Under lock: the fsync() that nobody is at yet. */
static void sync_now(int dirfd)
{
	uint64_t n = ++dir_sync.begun;
	int err;

	pthread_mutex_unlock(&dir_sync.lock);
	err = fsync(dirfd);
	pthread_mutex_lock(&dir_sync.lock);
	dir_sync.done = n;
	if (err)
		dir_sync.failed = n;
	pthread_cond_broadcast(&dir_sync.ended);
}

/* Names made before the call are durable, or -EIO: then nobody knows. */
static int sync_dir(int dirfd)
{
	uint64_t ours;
	int err;

	if (!is_shared(dirfd))
		return fsync(dirfd) ? -EIO : 0;
	pthread_mutex_lock(&dir_sync.lock);
	ours = dir_sync.begun + 1; /* the first that begins after us */
	while (dir_sync.done < ours) {
		if (dir_sync.begun == dir_sync.done)
			sync_now(dirfd);
		else
			pthread_cond_wait(&dir_sync.ended, &dir_sync.lock);
	}
	err = dir_sync.failed >= ours ? -EIO : 0;
	pthread_mutex_unlock(&dir_sync.lock);
	return err;
}

/* Make m durable. On failure l->m and what is on disk are as before, or l is broken. */
static int commit(struct ledger *l, const struct marks *m)
{
	char tmp[NAME_LEN + 4];
	int fd, err = 0;

	if (l->broken)
		return -EIO;
	snprintf(tmp, sizeof tmp, "%s.new", l->name);
	fd = write_new(l->dirfd, tmp, m, true);
	if (fd < 0)
		return fd;
	if (!same_inode(l->dirfd, l->name, l->fd))
		err = -ESTALE;
	else if (renameat(l->dirfd, tmp, l->dirfd, l->name))
		err = -errno;
	if (err) {
		unlinkat(l->dirfd, tmp, 0);
		close(fd);
		return err;
	}
	close(l->fd);
	l->fd = fd;
	if (sync_dir(l->dirfd)) {
		l->broken = true;
		return -EIO;
	}
	l->m = *m;
	return 0;
}

/* --- creating --------------------------------------------------------------------- */

static int open_dir(const char *dir, FILE *errs)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? refuse(errs, -errno, dir, "", "cannot open the state directory: %s",
			       strerror(errno))
		      : fd;
}

static int share_locked(int fd)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return fd;
	if (!shared_dir.refs) {
		shared_dir.st = st;
		shared_dir.fd = move_high(fd);
	} else if (shared_dir.st.st_ino != st.st_ino || shared_dir.st.st_dev != st.st_dev) {
		return fd;
	} else {
		close(fd);
	}
	shared_dir.refs++;
	return shared_dir.fd;
}

static int share_dir(int fd)
{
	pthread_mutex_lock(&shared_dir.lock);
	fd = share_locked(fd);
	pthread_mutex_unlock(&shared_dir.lock);
	return fd;
}

static void close_dir(int fd)
{
	pthread_mutex_lock(&shared_dir.lock);
	if (fd >= 0 && !(shared_dir.refs && fd == shared_dir.fd && --shared_dir.refs))
		close(fd);
	pthread_mutex_unlock(&shared_dir.lock);
}

static void set_name(char name[NAME_LEN], const struct sa_conf *sa)
{
	snprintf(name, NAME_LEN, "%016" PRIx64 ".%s", sa->fingerprint, dir_name(sa->dir));
}

/* link(2), unlike rename(2), never replaces anything. */
static int create_in(int dirfd, const char *name, const struct marks *m)
{
	char tmp[NAME_LEN + 16];
	int fd, err = 0;

	snprintf(tmp, sizeof tmp, "%s.%d", name, (int)getpid());
	fd = write_new(dirfd, tmp, m, true);
	if (fd < 0)
		return fd;
	if (linkat(dirfd, tmp, dirfd, name, 0))
		err = -errno;
	unlinkat(dirfd, tmp, 0);
	close(fd);
	if (!err && fsync(dirfd))
		err = -errno;
	return err;
}

int ledger_create(const char *dir, const struct sa_conf *sa, FILE *errs)
{
	uint64_t now = ledger_clock_ms();
	struct marks m = {
		.fingerprint = sa->fingerprint, .dir = sa->dir, .clock_ms = now, .born_ms = now};
	char name[NAME_LEN];
	int dirfd, err;

	if (!sa->fingerprint)
		return refuse(errs, -EINVAL, dir, "", "the key has no fingerprint");
	if (!clock_sane(m.clock_ms))
		return refuse(errs, -ETIME, dir, "",
			      "the clock is not set; set it first, static keys depend on it");
	if (mkdir(dir, 0700) && errno != EEXIST)
		return refuse(errs, -errno, dir, "", "cannot make the state directory: %s",
			      strerror(errno));
	dirfd = open_dir(dir, errs);
	if (dirfd < 0)
		return dirfd;
	set_name(name, sa);
	err = create_in(dirfd, name, &m);
	close(dirfd);
	if (err == -EEXIST)
		return refuse(errs, err, dir, name,
			      "exists already: this key has been initialised; for a fresh start "
			      "make new keys");
	if (err)
		return refuse(errs, err, dir, name, "cannot create: %s", strerror(-err));
	return 0;
}

/* --- opening ------------------------------------------------------------------------ */

/*
 * Lock the inode behind the name. An owner that commits while we look replaces the inode, so the
 * one that we locked may be gone from the name: look again.
 */
static int open_locked(int dirfd, const char *name)
{
	for (int i = 0; i < LOCK_TRIES; i++) {
		int fd = openat(dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW), err;

		if (fd < 0)
			return -errno;
		err = flock(fd, LOCK_EX | LOCK_NB) ? -errno : 0;
		if (!err && same_inode(dirfd, name, fd))
			return move_high(fd);
		close(fd);
		if (err && err != -EWOULDBLOCK)
			return err;
		if (err)
			return -EBUSY;
	}
	return -EBUSY;
}

/* Say now, in words, what the first reservation would only answer with a number. */
static int check_writable(struct ledger *l)
{
	char tmp[NAME_LEN + 4];
	int fd;

	snprintf(tmp, sizeof tmp, "%s.new", l->name);
	fd = write_new(l->dirfd, tmp, &l->m, false);
	if (fd < 0)
		return fd;
	unlinkat(l->dirfd, tmp, 0);
	close(fd);
	return 0;
}

static int check_clock(const struct ledger *l, const char *dir, FILE *errs)
{
	uint64_t now = ledger_clock_ms();

	if (l->m.dir == SA_IN)
		return 0;
	if (!clock_sane(now))
		return refuse(errs, -ETIME, dir, l->name,
			      "the clock is not set; set it (NTP) and start again");
	if (now < l->m.clock_ms)
		return refuse(errs, -ETIME, dir, l->name,
			      "the clock is %" PRIu64 " s behind the last use of this key: not "
						      "sending. Set the clock, or make new keys",
			      (l->m.clock_ms - now + 999) / 1000);
	return 0;
}

static int check_contents(struct ledger *l, const struct sa_conf *sa, const char *dir, FILE *errs)
{
	int err = load(l->fd, &l->m);

	if (err == -EBADMSG)
		return refuse(errs, err, dir, l->name,
			      "is damaged, what was sent is not known: make new keys (ipsecctl "
			      "static pair)");
	if (err)
		return refuse(errs, err, dir, l->name, "cannot read: %s", strerror(-err));
	if (l->m.fingerprint != sa->fingerprint || l->m.dir != sa->dir)
		return refuse(errs, -EKEYREJECTED, dir, l->name,
			      "belongs to key %016" PRIx64
			      " %s, not to this one: put the right file back, or make new keys",
			      l->m.fingerprint, dir_name(l->m.dir));
	return check_clock(l, dir, errs);
}

static int unwritable(const struct ledger *l, int err, const char *dir, FILE *errs)
{
	return refuse(errs, err, dir, l->name, "cannot be written, so no number may be used: %s", strerror(-err));
}

static int open_file(struct ledger *l, const char *dir, FILE *errs)
{
	l->fd = open_locked(l->dirfd, l->name);
	if (l->fd >= 0)
		return 0;
	if (l->fd == -ENOENT)
		return refuse(errs, l->fd, dir, l->name,
			      "is missing: `ipsecctl static init` if this key was never used, "
			      "otherwise make new keys");
	if (l->fd == -EBUSY)
		return refuse(errs, l->fd, dir, l->name,
			      "is in use already: one sender per key");
	return refuse(errs, l->fd, dir, l->name, "cannot open: %s", strerror(-l->fd));
}

static int open_checked(struct ledger **lp, const char *dir, const struct sa_conf *sa, FILE *errs)
{
	struct ledger *l;
	int err;

	*lp = NULL;
	if (!sa->fingerprint)
		return refuse(errs, -EINVAL, dir, "", "the key has no fingerprint");
	l = calloc(1, sizeof *l);
	if (!l)
		return -ENOMEM;
	l->fd = -1;
	l->esn = sa->esn;
	set_name(l->name, sa);
	l->dirfd = share_dir(open_dir(dir, errs));
	err = MIN(l->dirfd, 0);
	if (!err)
		err = open_file(l, dir, errs);
	if (!err)
		err = check_contents(l, sa, dir, errs);
	if (err)
		ledger_close(l);
	else
		*lp = l;
	return err;
}

int ledger_open(struct ledger **lp, const char *dir, const struct sa_conf *sa, FILE *errs)
{
	int err = open_checked(lp, dir, sa, errs), unfit;

	if (err)
		return err;
	unfit = check_writable(*lp);
	if (!unfit)
		return 0;
	err = unwritable(*lp, unfit, dir, errs);
	ledger_close(*lp);
	*lp = NULL;
	return err;
}

void ledger_close(struct ledger *l)
{
	if (!l)
		return;
	if (l->fd >= 0)
		close(l->fd);
	close_dir(l->dirfd);
	free(l);
}

/* --- numbers --------------------------------------------------------------------------- */

static uint64_t seq_max(const struct ledger *l)
{
	return l->esn ? UINT64_MAX : UINT32_MAX;
}

static uint64_t add_up_to(uint64_t a, uint64_t step, uint64_t max)
{
	return a >= max || max - a < step ? max : a + step;
}

/* Raise the marks to at least those of to. */
static int lift(struct ledger *l, const struct marks *to)
{
	struct marks m = l->m;

	if (l->broken)
		return -EIO;
	if (to->seq <= m.seq && to->iv <= m.iv && to->pkts <= m.pkts && to->bytes <= m.bytes)
		return 0;
	m.seq = MAX(m.seq, to->seq);
	m.iv = MAX(m.iv, to->iv);
	m.pkts = MAX(m.pkts, to->pkts);
	m.bytes = MAX(m.bytes, to->bytes);
	m.clock_ms = MAX(m.clock_ms, ledger_clock_ms());
	return commit(l, &m);
}

static int reserve(struct ledger *l, uint64_t seq_used, uint64_t iv_used, uint64_t *seq_limit,
		   uint64_t *iv_limit)
{
	uint64_t step = l->esn ? LEDGER_SEQ_STEP : LEDGER_SEQ_STEP_NO_ESN;
	struct marks to = {.seq = add_up_to(seq_used, step, seq_max(l)),
			   .iv = add_up_to(iv_used, LEDGER_IV_STEP, UINT64_MAX)};
	int err = lift(l, &to);

	if (err)
		return err;
	*seq_limit = MIN(l->m.seq, seq_max(l));
	*iv_limit = l->m.iv;
	return 0;
}

/* First IV of a fresh start. A clock that went mad since ledger_open() is not needed: the mark is
 * durable. */
static uint64_t first_iv(const struct ledger *l)
{
	uint64_t now = ledger_clock_ms();

	return MAX(l->m.iv + 1, clock_sane(now) ? now << LEDGER_IV_SHIFT : 0);
}

/* A clock that was set back makes nothing younger than it was when last written. */
static void start_life(const struct ledger *l, struct life_conf *c)
{
	uint64_t now = MAX(ledger_clock_ms(), l->m.clock_ms);

	c->age_ms = now > l->m.born_ms ? now - l->m.born_ms : 0;
	c->used_pkts = l->m.pkts;
	c->used_bytes = l->m.bytes;
}

int ledger_start(struct ledger *l, struct sa_conf *c, uint64_t *seq_limit, uint64_t *iv_limit)
{
	uint64_t iv, seq = l->m.seq;
	int err;

	start_life(l, &c->life);
	if (l->m.dir == SA_IN) {
		c->seq_start = seq;
		return 0;
	}
	if (seq >= seq_max(l) || l->m.iv == UINT64_MAX)
		return -EOVERFLOW;
	iv = first_iv(l);
	err = reserve(l, seq, iv - 1, seq_limit, iv_limit);
	if (err)
		return err;
	c->seq_start = seq + 1;
	c->iv_start = iv;
	return 0;
}

int ledger_begin(struct ledger **lp, const char *dir, struct sa_conf *c, uint64_t *seq_limit, uint64_t *iv_limit,
		 FILE *errs)
{
	int err = open_checked(lp, dir, c, errs);

	if (err)
		return err;
	/* what is reserved shows whether it can be written: each file that is made for a trial costs thousands of links dear */
	err = ledger_start(*lp, c, seq_limit, iv_limit);
	return err && err != -EOVERFLOW ? unwritable(*lp, err, dir, errs) : err;
}

int ledger_reserve(struct ledger *l, uint64_t seq_used, uint64_t iv_used, uint64_t *seq_limit,
		   uint64_t *iv_limit)
{
	/* a number above the reservation was used or asked for: never make that good afterwards */
	if (l->m.dir != SA_OUT || seq_used > l->m.seq || iv_used > l->m.iv)
		return -EINVAL;
	return reserve(l, seq_used, iv_used, seq_limit, iv_limit);
}

int ledger_mark_in(struct ledger *l, uint64_t mark)
{
	return l->m.dir == SA_IN ? lift(l, &(struct marks){.seq = mark}) : -EINVAL;
}

int ledger_use(struct ledger *l, uint64_t pkts, uint64_t bytes)
{
	return lift(l, &(struct marks){.pkts = pkts, .bytes = bytes});
}

void ledger_used(const struct ledger *l, uint64_t *pkts, uint64_t *bytes)
{
	*pkts = l->m.pkts;
	*bytes = l->m.bytes;
}

uint64_t ledger_mark(const struct ledger *l)
{
	return l->m.seq;
}
