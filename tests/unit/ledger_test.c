/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ledger_test - no number twice, whatever happens to the file, the clock or the process
 * (invariant I2). Every refusal is provoked, and what is not refused must start above everything
 * that was ever usable.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include <openssl/evp.h>
#include "ledger.h"
#include "util.h"

enum { FILE_MAX = 512, KILLS = 1000, SKIPPED = 77 };
static const uint64_t T0 = UINT64_C(1800000000000); /* some day in 2027 */

static char dir[PATH_MAX - 100], file[PATH_MAX];
static uint64_t test_now;
static uint64_t (*real_clock)(void);

static uint64_t fake_clock(void)
{
	return test_now;
}

static int make_dir(void **state)
{
	/* memory where there is some: files are synced, and disks are slow */
	snprintf(dir, sizeof dir, "%s/espwire-ledger-XXXXXX",
		 access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	if (!mkdtemp(dir))
		return -1;
	snprintf(file, sizeof file, "%s/00000000000abcde.out", dir);
	test_now = T0;
	ledger_clock_ms = fake_clock;
	return 0;
}

static int remove_dir(void **state)
{
	char cmd[PATH_MAX + 20];

	snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
	return system(cmd);
}

static struct sa_conf sa_of(enum sa_dir d, uint64_t fingerprint)
{
	return (struct sa_conf){.dir = d,
				.spi = 256,
				.alg = AEAD_AES_GCM_128,
				.esn = true,
				.fingerprint = fingerprint};
}

static const uint64_t FP = 0xabcde;

static void create(enum sa_dir d)
{
	struct sa_conf c = sa_of(d, FP);

	assert_int_equal(ledger_create(dir, &c, stderr), 0);
}

static struct ledger *opened(const struct sa_conf *c)
{
	struct ledger *l;

	assert_int_equal(ledger_open(&l, dir, c, stderr), 0);
	assert_non_null(l);
	return l;
}

static void said_so(int got, int err, char *said, const char *words)
{
	if (got != err || !strstr(said, words))
		print_error("said: %s", said);
	assert_int_equal(got, err);
	assert_non_null(strstr(said, words));
	assert_int_equal(said[strlen(said) - 1], '\n');
	free(said);
}

/* Opening must fail with err, and say these words. */
static void refused(const struct sa_conf *c, int err, const char *words)
{
	struct ledger *l = (void *)1;
	char *said;
	size_t len;
	FILE *errs = open_memstream(&said, &len);
	int got = ledger_open(&l, dir, c, errs);

	fclose(errs);
	said_so(got, err, said, words);
	assert_null(l);
}

/* So must the first reservation, where nothing was tried before it. */
static void not_begun(const struct sa_conf *c, int err, const char *words)
{
	uint64_t seq = 7, iv = 8;
	struct sa_conf copy = *c;
	struct ledger *l = NULL;
	char *said;
	size_t len;
	FILE *errs = open_memstream(&said, &len);
	int got = ledger_begin(&l, dir, &copy, &seq, &iv, errs);

	fclose(errs);
	said_so(got, err, said, words);
	assert_true(seq == 7 && iv == 8);
	ledger_close(l);
}

static size_t slurp(const char *path, char buf[FILE_MAX])
{
	int fd = open(path, O_RDONLY);
	ssize_t n;

	assert_true(fd >= 0);
	n = read(fd, buf, FILE_MAX);
	assert_true(n > 0 && n < FILE_MAX);
	close(fd);
	return n;
}

static void spill(const char *path, const char *buf, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, buf, len), len);
	close(fd);
}

/* struct span - what one start or reservation made usable */
struct span {
	uint64_t seq_first, seq_last, iv_first, iv_last;
};

static struct span start(struct ledger *l)
{
	struct sa_conf c = sa_of(SA_OUT, FP);
	struct span s;

	assert_int_equal(ledger_start(l, &c, &s.seq_last, &s.iv_last), 0);
	s.seq_first = c.seq_start;
	s.iv_first = c.iv_start;
	return s;
}

/* Open, start, close. */
static struct span one_run(void)
{
	struct sa_conf c = sa_of(SA_OUT, FP);
	struct ledger *l = opened(&c);
	struct span s = start(l);

	ledger_close(l);
	return s;
}

/* --- numbers ---------------------------------------------------------------------- */

static void test_first_start(void **state)
{
	struct sa_conf c = sa_of(SA_OUT, FP);
	struct ledger *l;
	struct stat st;
	struct span s;

	create(SA_OUT);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(ledger_create(dir, &c, NULL), -EEXIST);
	l = opened(&c);
	assert_int_equal(ledger_mark(l), 0);
	s = start(l);
	assert_int_equal(s.seq_first, 1);
	assert_int_equal(s.seq_last, LEDGER_SEQ_STEP);
	assert_int_equal(s.iv_first, T0 << 22);
	assert_int_equal(s.iv_last, (T0 << 22) - 1 + LEDGER_IV_STEP);
	assert_int_equal(ledger_mark(l), s.seq_last);
	ledger_close(l);
	ledger_close(NULL);
}

static void test_restarts(void **state)
{
	struct span s, last = {0};

	create(SA_OUT);
	for (unsigned int i = 0; i < 200; i++) {
		s = one_run();
		assert_true(s.seq_first > last.seq_last);
		assert_true(s.iv_first > last.iv_last);
		assert_true(s.iv_first >= test_now << 22);
		assert_true(s.seq_last > s.seq_first && s.iv_last > s.iv_first);
		last = s;
		test_now += i % 3; /* also within one millisecond */
	}
}

static void test_reserve(void **state)
{
	struct sa_conf c = sa_of(SA_OUT, FP);
	struct ledger *l;
	struct span s, again;
	uint64_t seq, iv;

	create(SA_OUT);
	l = opened(&c);
	s = start(l);
	assert_int_equal(ledger_reserve(l, 1000, s.iv_first + 2000, &seq, &iv), 0);
	assert_int_equal(seq, 1000 + LEDGER_SEQ_STEP);
	assert_int_equal(iv, s.iv_first + 2000 + LEDGER_IV_STEP);
	/* an old answer arrives late: limits stay */
	assert_int_equal(ledger_reserve(l, 10, s.iv_first, &seq, &iv), 0);
	assert_int_equal(seq, 1000 + LEDGER_SEQ_STEP);
	assert_int_equal(iv, s.iv_first + 2000 + LEDGER_IV_STEP);
	assert_int_equal(ledger_reserve(l, 10, s.iv_first + 9000, &seq, &iv), 0);
	assert_int_equal(seq, 1000 + LEDGER_SEQ_STEP);
	assert_int_equal(iv, s.iv_first + 9000 + LEDGER_IV_STEP);
	/* more used than reserved: the caller is wrong, and that is not made good */
	assert_int_equal(ledger_reserve(l, seq + 1, iv, &seq, &iv), -EINVAL);
	assert_int_equal(ledger_reserve(l, seq, iv + 1, &seq, &iv), -EINVAL);
	assert_int_equal(ledger_mark_in(l, seq + 5), -EINVAL);
	test_now -= 100000; /* while running, a clock set back is of no concern */
	assert_int_equal(ledger_reserve(l, seq, iv, &seq, &iv), 0);
	ledger_close(l);
	test_now += 100000;
	again = one_run();
	assert_int_equal(again.seq_first, seq + 1);
	assert_int_equal(again.iv_first, iv + 1);
}

/* A valid file with these lines at its end; written out here as the format is documented. */
static void forge_file(int version, uint64_t seq, uint64_t iv, const char *lines)
{
	char text[FILE_MAX];
	uint8_t md[32];
	int n = snprintf(text, sizeof text,
			 "espwire-ledger %d\nkey %016" PRIx64 "\ndir out\nseq %" PRIu64
			 "\niv %" PRIu64 "\nclock %" PRIu64 "\n%ssum ",
			 version, FP, seq, iv, T0, lines);

	assert_int_equal(EVP_Digest(text, n, md, NULL, EVP_sha256(), NULL), 1);
	for (unsigned int i = 0; i < sizeof md; i++)
		n += snprintf(text + n, sizeof text - n, "%02x", md[i]);
	text[n++] = '\n';
	spill(file, text, n);
}

static void forge(uint64_t seq, uint64_t iv)
{
	forge_file(1, seq, iv, "");
}

/* Age and use go on where they were, whatever happens to the process or to the clock. */
static void test_life(void **state)
{
	struct sa_conf c = sa_of(SA_OUT, FP);
	uint64_t seq, iv, pkts, bytes;
	struct ledger *l;

	create(SA_OUT);
	test_now = T0 + 5000;
	l = opened(&c);
	assert_int_equal(ledger_start(l, &c, &seq, &iv), 0);
	assert_int_equal(c.life.age_ms, 5000);
	assert_int_equal(c.life.used_pkts + c.life.used_bytes, 0);
	assert_int_equal(ledger_use(l, 10, 1000), 0);
	assert_int_equal(ledger_use(l, 9, 2000), 0); /* nothing goes back */
	ledger_used(l, &pkts, &bytes);
	assert_int_equal(pkts, 10);
	assert_int_equal(bytes, 2000);
	ledger_close(l);

	test_now = T0 + 7000;
	l = opened(&c);
	assert_int_equal(ledger_start(l, &c, &seq, &iv), 0);
	assert_int_equal(c.life.age_ms, 7000);
	assert_int_equal(c.life.used_pkts, 10);
	assert_int_equal(c.life.used_bytes, 2000);
	ledger_close(l);
}

/* An inbound SA works with a clock that was set back; younger than it was it does not become. */
static void test_life_clock_back(void **state)
{
	struct sa_conf c = sa_of(SA_IN, FP);
	struct ledger *l;

	create(SA_IN);
	test_now = T0 + 9000;
	l = opened(&c);
	assert_int_equal(ledger_mark_in(l, 5), 0); /* what is written has the clock with it */
	ledger_close(l);
	test_now = T0 - 86400000;
	l = opened(&c);
	assert_int_equal(ledger_start(l, &c, NULL, NULL), 0);
	assert_int_equal(c.life.age_ms, 9000);
	ledger_close(l);
}

/* Version 1 had no birth: its clock mark is the earliest that is known. Version 2 must have all. */
static void test_versions(void **state)
{
	struct sa_conf c = sa_of(SA_OUT, FP);
	uint64_t seq, iv;
	struct ledger *l;

	test_now = T0 + 1000;
	forge_file(1, 7, 5, "");
	l = opened(&c);
	assert_int_equal(ledger_start(l, &c, &seq, &iv), 0);
	assert_int_equal(c.life.age_ms, 1000);
	assert_int_equal(c.seq_start, 8);
	ledger_close(l);
	l = opened(&c); /* written as version 2 by now */
	ledger_close(l);
	forge_file(2, 7, 5, "");
	refused(&c, -EBADMSG, "is damaged");
	forge_file(3, 7, 5, "born 1\npackets 0\nbytes 0\n");
	refused(&c, -EBADMSG, "is damaged");
	forge_file(1, 7, 5, "born 1\npackets 0\nbytes 0\n");
	refused(&c, -EBADMSG, "is damaged");
}

/* Near the end of the numbers: the last ones are used, nothing wraps, then never again. */
static void runs_out(bool esn, uint64_t end)
{
	uint64_t seq, iv, step = esn ? LEDGER_SEQ_STEP : LEDGER_SEQ_STEP_NO_ESN;
	struct sa_conf c = sa_of(SA_OUT, FP);
	struct ledger *l;

	c.esn = esn;
	forge(end - step - 10, 5);
	l = opened(&c);
	assert_int_equal(ledger_start(l, &c, &seq, &iv), 0);
	assert_int_equal(c.seq_start, end - step - 9);
	assert_int_equal(seq, end - 10);
	assert_int_equal(ledger_reserve(l, seq, iv, &seq, &iv), 0);
	assert_int_equal(seq, end);
	assert_int_equal(ledger_reserve(l, end, iv, &seq, &iv), 0);
	assert_int_equal(seq, end);
	ledger_close(l);
	l = opened(&c);
	assert_int_equal(ledger_start(l, &c, &seq, &iv), -EOVERFLOW);
	ledger_close(l);
}

static void test_numbers_end(void **state)
{
	struct sa_conf c = sa_of(SA_OUT, FP);
	struct ledger *l;
	uint64_t seq, iv;

	runs_out(false, UINT32_MAX);
	runs_out(true, UINT64_MAX);
	forge(5, UINT64_MAX - 7);
	l = opened(&c);
	assert_int_equal(ledger_start(l, &c, &seq, &iv), 0);
	assert_int_equal(c.iv_start, UINT64_MAX - 6);
	assert_int_equal(iv, UINT64_MAX);
	assert_int_equal(ledger_reserve(l, seq, iv, &seq, &iv), 0);
	assert_int_equal(iv, UINT64_MAX);
	ledger_close(l);
	l = opened(&c);
	assert_int_equal(ledger_start(l, &c, &seq, &iv), -EOVERFLOW);
	ledger_close(l);
	c.esn = false; /* a key that was used with ESN before */
	forge((uint64_t)UINT32_MAX + 5, 5);
	l = opened(&c);
	assert_int_equal(ledger_start(l, &c, &seq, &iv), -EOVERFLOW);
	ledger_close(l);
}

static void test_in(void **state)
{
	struct sa_conf c = sa_of(SA_IN, FP);
	struct stat before, after;
	struct ledger *l;
	uint64_t limit;

	create(SA_IN);
	file[strlen(file) - 3] = 0;
	strcat(file, "in");
	l = opened(&c);
	assert_int_equal(ledger_start(l, &c, NULL, NULL), 0);
	assert_int_equal(c.seq_start, 0);
	assert_int_equal(ledger_mark_in(l, 5000), 0);
	assert_int_equal(ledger_mark(l), 5000);
	assert_int_equal(stat(file, &before), 0);
	assert_int_equal(ledger_mark_in(l, 4999), 0);
	assert_int_equal(ledger_mark_in(l, 5000), 0);
	assert_int_equal(stat(file, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino); /* nothing written */
	assert_int_equal(ledger_mark(l), 5000);
	assert_int_equal(ledger_reserve(l, 1, 1, &limit, &limit), -EINVAL);
	ledger_close(l);
	test_now -= 1000000; /* a receiver does not depend on the clock */
	l = opened(&c);
	assert_int_equal(ledger_start(l, &c, NULL, NULL), 0);
	assert_int_equal(c.seq_start, 5000);
	ledger_close(l);
}

/* --- the file is damaged ------------------------------------------------------------- */

static void test_missing(void **state)
{
	struct sa_conf c = sa_of(SA_OUT, FP), none = sa_of(SA_OUT, 0);

	refused(&c, -ENOENT, "is missing");
	create(SA_OUT);
	one_run();
	unlink(file);
	refused(&c, -ENOENT, "make new keys");
	refused(&none, -EINVAL, "no fingerprint");
	assert_int_equal(ledger_create(dir, &none, NULL), -EINVAL);
	snprintf(dir + strlen(dir), 10, "/none");
	refused(&c, -ENOENT, "cannot open the state directory");
	*strrchr(dir, '/') = 0;
}

static void test_truncated(void **state)
{
	struct sa_conf c = sa_of(SA_OUT, FP);
	char good[FILE_MAX], longer[FILE_MAX + 2];
	size_t len;

	create(SA_OUT);
	one_run();
	len = slurp(file, good);
	for (size_t n = 0; n < len; n++) {
		spill(file, good, n);
		refused(&c, -EBADMSG, "is damaged");
	}
	memcpy(longer, good, len);
	longer[len] = '\n';
	spill(file, longer, len + 1);
	refused(&c, -EBADMSG, "is damaged");
	longer[len] = 0;
	spill(file, longer, len + 1);
	refused(&c, -EBADMSG, "is damaged");
	memset(longer + len, 'x', sizeof longer - len);
	spill(file, longer, sizeof longer);
	refused(&c, -EBADMSG, "is damaged");
	spill(file, good, len);
	one_run();
}

static void test_flipped(void **state)
{
	struct sa_conf c = sa_of(SA_OUT, FP);
	char good[FILE_MAX], bad[FILE_MAX];
	unsigned int n = 0;
	size_t len;

	create(SA_OUT);
	one_run();
	len = slurp(file, good);
	for (size_t i = 0; i < len; i++) {
		for (unsigned int x = 1; x < 256; x += x < 128 && (x & (x - 1)) == 0 ? x : 31) {
			memcpy(bad, good, len);
			bad[i] ^= x;
			spill(file, bad, len);
			refused(&c, -EBADMSG, "is damaged");
			n++;
		}
	}
	print_message("%zu bytes, %u flips refused\n", len, n);
	assert_true(n > 8 * len);
	/* a number made larger or smaller by hand, checksum left */
	memcpy(bad, good, len);
	memcpy(strstr(bad, "seq 1") + 4, "2", 1);
	spill(file, bad, len);
	refused(&c, -EBADMSG, "is damaged");
}

static void test_foreign(void **state)
{
	struct sa_conf out = sa_of(SA_OUT, FP), in = sa_of(SA_IN, FP),
		       other = sa_of(SA_OUT, FP + 1);
	char path[PATH_MAX + 20];

	create(SA_OUT);
	create(SA_IN);
	assert_int_equal(ledger_create(dir, &other, stderr), 0);
	snprintf(path, sizeof path, "%s/00000000000abcdf.out", dir);
	assert_int_equal(rename(path, file), 0); /* other key */
	refused(&out, -EKEYREJECTED, "belongs to key 00000000000abcdf out");
	snprintf(path, sizeof path, "%s/00000000000abcde.in", dir);
	assert_int_equal(rename(path, file), 0); /* other direction */
	refused(&out, -EKEYREJECTED, "belongs to key 00000000000abcde in");
	refused(&in, -ENOENT, "is missing");
	unlink(file);
	assert_int_equal(symlink("/dev/zero", file), 0);
	refused(&out, -ELOOP, "cannot open");
	unlink(file);
	assert_int_equal(mkdir(file, 0700), 0);
	refused(&out, -EISDIR, "cannot open");
	rmdir(file);
}

/* A crash leaves the half-written next file; it is nobody's. */
static void test_leftover(void **state)
{
	struct sa_conf c = sa_of(SA_OUT, FP);
	char path[PATH_MAX + 8];
	struct span a, b;

	create(SA_OUT);
	a = one_run();
	snprintf(path, sizeof path, "%s.new", file);
	spill(path, "espwire-led", 11);
	b = one_run();
	assert_true(b.seq_first > a.seq_last && b.iv_first > a.iv_last);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(mkdir(path, 0700), 0);
	refused(&c, -EISDIR, "cannot be written");
	rmdir(path);
}

/* --- the disk refuses ------------------------------------------------------------------- */

static void test_file_size_limit(void **state)
{
	struct rlimit old, none = {10, 0};
	struct sa_conf c = sa_of(SA_OUT, FP);
	struct ledger *l;
	uint64_t seq = 7, iv = 8;
	struct span s;

	create(SA_OUT);
	l = opened(&c);
	s = start(l);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	none.rlim_max = old.rlim_max;
	setrlimit(RLIMIT_FSIZE, &none);
	assert_true(ledger_reserve(l, s.seq_last, s.iv_last, &seq, &iv) < 0);
	assert_int_equal(seq, 7); /* nothing was promised */
	assert_int_equal(iv, 8);
	assert_int_equal(ledger_mark(l), s.seq_last);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(ledger_reserve(l, s.seq_last, s.iv_last, &seq, &iv),
			 0); /* may be tried again */
	assert_int_equal(seq, s.seq_last + LEDGER_SEQ_STEP);
	ledger_close(l);

	setrlimit(RLIMIT_FSIZE, &none);
	refused(&c, -ENOSPC, "cannot be written, so no number may be used"); /* 10 bytes fitted */
	not_begun(&c, -ENOSPC, "cannot be written, so no number may be used");
	none.rlim_cur = 0;
	setrlimit(RLIMIT_FSIZE, &none);
	refused(&c, -EFBIG, "cannot be written, so no number may be used");
	not_begun(&c, -EFBIG, "cannot be written, so no number may be used");
	setrlimit(RLIMIT_FSIZE, &old);
}

static bool put_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

/* A mount namespace of our own, as root or by way of a user namespace. */
static bool own_mounts(void)
{
	char uid[40], gid[40];

	snprintf(uid, sizeof uid, "0 %u 1", geteuid());
	snprintf(gid, sizeof gid, "0 %u 1", getegid());
	if (unshare(CLONE_NEWNS) &&
	    (unshare(CLONE_NEWUSER | CLONE_NEWNS) || !put_text("/proc/self/setgroups", "deny") ||
	     !put_text("/proc/self/uid_map", uid) || !put_text("/proc/self/gid_map", gid)))
		return false;
	return !mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%d: %s (errno %d)\n", __LINE__, #cond, errno);            \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

/* In a child, with a file system of 8 pages that it may fill and remount. */
static void on_small_disk(void)
{
	struct sa_conf c = sa_of(SA_OUT, FP);
	char filler[PATH_MAX + 10], page[4096] = "";
	uint64_t seq, iv, seq2 = 0, iv2 = 0;
	struct ledger *l;
	int fd;

	if (!own_mounts() || mount("espwire", dir, "tmpfs", 0, "size=32k"))
		_exit(SKIPPED);
	CHECK(!ledger_create(dir, &c, stderr));
	CHECK(!ledger_open(&l, dir, &c, stderr));
	CHECK(!ledger_start(l, &c, &seq, &iv));
	snprintf(filler, sizeof filler, "%s/filler", dir);
	fd = open(filler, O_WRONLY | O_CREAT, 0600);
	while (write(fd, page, sizeof page) > 0)
		;
	CHECK(ledger_reserve(l, seq, iv, &seq2, &iv2) == -ENOSPC);
	CHECK(seq2 == 0 && iv2 == 0);
	ledger_close(l);
	CHECK(ledger_open(&l, dir, &c, NULL) == -ENOSPC);
	close(fd);
	CHECK(!unlink(filler));
	CHECK(!ledger_open(&l, dir, &c, stderr));
	CHECK(!ledger_start(l, &c, &seq2, &iv2) && c.seq_start == seq + 1 && c.iv_start > iv);
	ledger_close(l);
	CHECK(!mount("espwire", dir, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL));
	CHECK(ledger_open(&l, dir, &c, NULL) == -EROFS);
	CHECK(ledger_create(dir, &(struct sa_conf){.dir = SA_IN, .fingerprint = FP}, NULL) ==
	      -EROFS);
	_exit(0);
}

static void test_full_and_read_only(void **state)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		on_small_disk();
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
		skip(); /* no mount namespaces here */
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_not_a_directory(void **state)
{
	struct sa_conf c = sa_of(SA_OUT, FP);

	spill(file, "x", 1);
	strcpy(dir + strlen(dir), "/00000000000abcde.out");
	refused(&c, -ENOTDIR, "cannot open the state directory");
	assert_int_equal(ledger_create(dir, &c, NULL), -ENOTDIR);
	*strrchr(dir, '/') = 0;
}

/* --- the clock -------------------------------------------------------------------------- */

static void test_clock_back(void **state)
{
	static const uint64_t back_ms[] = {1, 999, 3600000, UINT64_C(63072000000)};
	struct sa_conf c = sa_of(SA_OUT, FP);
	struct span s;

	create(SA_OUT);
	test_now = T0 + 1000;
	s = one_run();
	for (unsigned int i = 0; i < ARRAY_SIZE(back_ms); i++) {
		test_now = T0 + 1000 - back_ms[i];
		refused(&c, -ETIME, "behind the last use of this key: not sending");
	}
	test_now =
		T0 + 1000 - UINT64_C(315360000000); /* ten years: before this program was written */
	refused(&c, -ETIME, "the clock is not set");
	test_now = 12345;
	refused(&c, -ETIME, "the clock is not set");
	c.fingerprint = FP + 1;
	assert_int_equal(ledger_create(dir, &c, NULL), -ETIME);
	test_now = UINT64_C(1) << 42; /* the shift would overflow */
	assert_int_equal(ledger_create(dir, &c, NULL), -ETIME);
	c.fingerprint = FP;
	refused(&c, -ETIME, "the clock is not set");
	test_now = T0 + 1000;
	assert_true(one_run().iv_first > s.iv_last);
}

/* Deleted and made again, at a later time: sequence numbers begin anew, nonces do not. */
static void test_made_again(void **state)
{
	struct sa_conf c = sa_of(SA_OUT, FP);
	struct ledger *l;
	struct span s;
	uint64_t seq, iv;

	create(SA_OUT);
	l = opened(&c);
	s = start(l);
	assert_int_equal(ledger_reserve(l, 500000, s.iv_first + 3000000, &seq, &iv), 0);
	ledger_close(l);
	unlink(file);
	test_now += 1;
	create(SA_OUT);
	assert_true(one_run().iv_first > s.iv_first + 3000000);
}

/*
 * Lives with a random number of packets, below 4.19 M in a millisecond; at some moments the file is
 * saved, at others such a copy is put back. Every start must be above every IV used before.
 */
static void test_older_copies(void **state)
{
	unsigned int seed = (unsigned int)now_ns(), restored = 0;
	char copies[8][FILE_MAX];
	size_t lens[8] = {0};
	uint64_t highest = 0;

	print_message("SEED=%u\n", seed);
	srandom(seed);
	create(SA_OUT);
	for (unsigned int i = 0; i < 2000; i++) {
		struct sa_conf c = sa_of(SA_OUT, FP);
		struct ledger *l = opened(&c);
		struct span s = start(l);
		uint64_t seq = s.seq_last, iv = s.iv_last, used = s.iv_first - 1;
		unsigned int slot = (unsigned int)random() % 8;

		assert_true(s.iv_first > highest);
		for (unsigned int k = (unsigned int)random() % 6; k; k--) {
			uint64_t ms = (unsigned int)random() % 5;
			uint64_t want = used + ms * ((unsigned int)random() % (1 << 22));

			used = MIN(iv, want);
			test_now += ms;
			assert_int_equal(
				ledger_reserve(l, s.seq_first - 1 + k % 2, used, &seq, &iv), 0);
			assert_true(iv >= used);
		}
		highest = MAX(highest, used);
		ledger_close(l);
		test_now += 1; /* a restart takes longer */
		if (random() % 3 == 0)
			lens[slot] = slurp(file, copies[slot]);
		slot = (unsigned int)random() % 8;
		if (random() % 3 == 0 && lens[slot]) {
			spill(file, copies[slot], lens[slot]);
			restored++;
		}
	}
	print_message("%u older copies put back\n", restored);
	assert_true(restored > 100);
}

/* --- other processes ---------------------------------------------------------------------- */

/* A child that opens, reports and waits for its end. */
static pid_t holder(int *report)
{
	struct sa_conf c = sa_of(SA_OUT, FP);
	int fds[2], err;
	struct ledger *l;
	pid_t pid;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	if (!pid) {
		err = ledger_open(&l, dir, &c, NULL);
		if (write(fds[1], &err, sizeof err) != sizeof err)
			_exit(1);
		alarm(60);
		for (;;)
			pause();
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], report, sizeof *report), sizeof *report);
	close(fds[0]);
	return pid;
}

static void reap(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_one_sender(void **state)
{
	struct sa_conf c = sa_of(SA_OUT, FP);
	struct ledger *l;
	uint64_t seq, iv;
	struct span s;
	int report;
	pid_t pid;

	create(SA_OUT);
	pid = holder(&report);
	assert_int_equal(report, 0);
	refused(&c, -EBUSY, "is in use already");
	reap(pid);
	l = opened(&c);                           /* death unlocks */
	refused(&c, -EBUSY, "is in use already"); /* ourselves as well */
	s = start(l);
	reap(holder(&report));
	assert_int_equal(report, -EBUSY); /* the lock went along to the new file */
	assert_int_equal(ledger_reserve(l, s.seq_last, s.iv_last, &seq, &iv), 0);
	reap(holder(&report));
	assert_int_equal(report, -EBUSY);
	ledger_close(l);
}

/* While the owner replaces the file as fast as it can, nobody gets in between. */
static void test_lock_under_commits(void **state)
{
	struct sa_conf c = sa_of(SA_OUT, FP);
	unsigned int tries = 0;
	uint64_t seq, iv, end;
	struct ledger *l;
	int report, err = -EBUSY, holds[2];
	char byte = 1;
	pid_t pid;

	create(SA_OUT);
	reap(holder(&report)); /* the file is sound */
	assert_int_equal(pipe(holds), 0);
	pid = fork();
	if (!pid) {
		alarm(60);
		if (ledger_open(&l, dir, &c, stderr) || ledger_start(l, &c, &seq, &iv) ||
		    write(holds[1], &byte, 1) != 1)
			_exit(1);
		while (!ledger_reserve(l, seq, iv, &seq, &iv))
			;
		_exit(2);
	}
	close(holds[1]);
	assert_int_equal(read(holds[0], &byte, 1), 1);
	close(holds[0]);
	for (end = now_ns() + UINT64_C(1000000000); err == -EBUSY && now_ns() < end; tries++)
		err = ledger_open(&l, dir, &c, NULL);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	reap(pid);
	assert_int_equal(err, -EBUSY);
	print_message("%u tries\n", tries);
}

/* Somebody removes or replaces the file of a running sender: that one gets no new numbers. */
static void test_replaced_while_open(void **state)
{
	struct sa_conf c = sa_of(SA_OUT, FP);
	char copy[FILE_MAX], path[PATH_MAX + 10];
	uint64_t seq = 0, iv = 0;
	struct ledger *l, *second;
	struct span s, s2;
	size_t len;

	create(SA_OUT);
	len = slurp(file, copy);
	l = opened(&c);
	s = start(l);
	unlink(file);
	assert_int_equal(ledger_reserve(l, s.seq_last, s.iv_last, &seq, &iv), -ESTALE);
	refused(&c, -ENOENT, "is missing");
	snprintf(path, sizeof path, "%s.cp", file);
	spill(path, copy, len);
	assert_int_equal(rename(path, file), 0);
	assert_int_equal(ledger_reserve(l, s.seq_last, s.iv_last, &seq, &iv), -ESTALE);
	assert_int_equal(seq | iv, 0);
	test_now += 2;
	second = opened(&c);
	s2 = start(second);
	assert_true(s2.iv_first > s.iv_last);
	assert_int_equal(ledger_reserve(l, s.seq_last, s.iv_last, &seq, &iv), -ESTALE);
	ledger_close(l);
	ledger_close(second);
}

static void test_create_race(void **state)
{
	enum { N = 12 };
	pid_t pids[N];
	unsigned int won = 0;
	int status;

	for (unsigned int i = 0; i < N; i++) {
		pids[i] = fork();
		if (!pids[i]) {
			struct sa_conf c = sa_of(SA_OUT, FP);

			_exit(-ledger_create(dir, &c, NULL));
		}
	}
	for (unsigned int i = 0; i < N; i++) {
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_true(WIFEXITED(status));
		won += WEXITSTATUS(status) == 0;
		assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == EEXIST);
	}
	assert_int_equal(won, 1);
	one_run();
}

/* A sender: reports every span before it would use it, reserves again and again, until killed. */
static void sender(int fd, unsigned int seed)
{
	struct sa_conf c = sa_of(SA_OUT, FP);
	struct ledger *l;
	struct span s;

	alarm(60);
	srandom(seed);
	if (ledger_open(&l, dir, &c, stderr) || ledger_start(l, &c, &s.seq_last, &s.iv_last))
		_exit(1);
	s.seq_first = c.seq_start;
	s.iv_first = c.iv_start;
	for (;;) {
		uint64_t seq, iv;

		if (write(fd, &s, sizeof s) != sizeof s)
			_exit(2);
		seq = s.seq_last - (unsigned int)random() % 1000;
		iv = s.iv_last - (unsigned int)random() % 1000;
		s.seq_first = s.seq_last + 1;
		s.iv_first = s.iv_last + 1;
		if (ledger_reserve(l, seq, iv, &s.seq_last, &s.iv_last))
			_exit(3);
	}
}

/* struct tally - over all incarnations */
struct tally {
	struct span top;
	unsigned int spans, torn, early;
};

static void take_spans(struct tally *t, int fd)
{
	struct span s;
	ssize_t n;

	while ((n = read(fd, &s, sizeof s)) == sizeof s) {
		assert_true(s.seq_first > t->top.seq_last && s.iv_first > t->top.iv_last);
		assert_true(s.seq_last >= s.seq_first && s.iv_last >= s.iv_first);
		t->top = s;
		t->spans++;
	}
	assert_int_equal(n, 0);
}

static void kill_once(struct tally *t, unsigned int i)
{
	struct sa_conf c = sa_of(SA_OUT, FP);
	unsigned int before = t->spans;
	char path[PATH_MAX + 8];
	struct ledger *l;
	int fds[2], status;
	pid_t pid;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	if (!pid)
		sender(fds[1], i);
	close(fds[1]);
	usleep((unsigned int)random() % 2500);
	kill(pid, SIGKILL);
	take_spans(t, fds[0]);
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status)); /* it never gave up by itself */
	snprintf(path, sizeof path, "%s.new", file);
	t->torn += !access(path, F_OK);
	t->early += t->spans == before;
	l = opened(&c);
	assert_true(ledger_mark(l) >= t->top.seq_last); /* durable before it was handed out */
	ledger_close(l);
}

static void test_kill_points(void **state)
{
	unsigned int seed = (unsigned int)now_ns();
	struct tally t = {0};

	print_message("SEED=%u\n", seed);
	srandom(seed);
	test_now = real_clock();
	create(SA_OUT);
	for (unsigned int i = 0; i < KILLS; i++) {
		/* half of the time within one frozen millisecond: the marks alone must do */
		test_now = real_clock();
		ledger_clock_ms = i / 50 % 2 ? fake_clock : real_clock;
		kill_once(&t, i);
	}
	ledger_clock_ms = fake_clock;
	print_message("%d kills, %u spans, all disjoint; %u died inside a write, %u before the "
		      "first span\n",
		      KILLS, t.spans, t.torn, t.early);
	assert_true(t.spans > KILLS);
	assert_true(t.torn > 0);
}

/* ---- many at once ---- */

/* Directories as they are synced, in the place of libc's: slowly when others shall come meanwhile. */
static _Atomic uint64_t dir_begun, dir_done;
static atomic_bool dir_slow, dir_fails;

int fsync(int fd)
{
	struct stat st;
	uint64_t n;
	int err;

	if (fstat(fd, &st) || !S_ISDIR(st.st_mode))
		return (int)syscall(SYS_fsync, fd);
	n = atomic_fetch_add(&dir_begun, 1) + 1;
	if (dir_slow)
		usleep(2000);
	err = (int)syscall(SYS_fsync, fd);
	atomic_store(&dir_done, n);
	if (!dir_fails)
		return err;
	errno = EIO;
	return -1;
}

enum { CROWD = 16, MARKS = 8 };

/* struct one - of a crowd, with a ledger of its own */
struct one {
	pthread_t thread;
	struct ledger *l;
	unsigned int unsynced, failed;
};

static void *mark_often(void *arg)
{
	struct one *o = arg;

	for (unsigned int i = 1; i <= MARKS; i++) {
		uint64_t before = atomic_load(&dir_begun);

		o->failed += ledger_mark_in(o->l, i * 1000) != 0;
		o->unsynced += atomic_load(&dir_done) <= before; /* one that began before us may not know our name */
	}
	return NULL;
}

static void crowd(struct one who[CROWD])
{
	for (unsigned int i = 0; i < CROWD; i++) {
		struct sa_conf c = sa_of(SA_IN, 0x1000 + i);

		assert_int_equal(ledger_create(dir, &c, stderr), 0);
		who[i].l = opened(&c);
	}
	dir_slow = true;
	for (unsigned int i = 0; i < CROWD; i++)
		assert_int_equal(pthread_create(&who[i].thread, NULL, mark_often, &who[i]), 0);
	for (unsigned int i = 0; i < CROWD; i++)
		pthread_join(who[i].thread, NULL);
	dir_slow = false;
}

/* Who waits for the disk at the same time waits for the same fsync() of the directory, and for no older one. */
static void test_many_share_a_sync(void **state)
{
	struct one who[CROWD] = {0};
	uint64_t before;

	dir_begun = dir_done = 0;
	before = CROWD; /* ledger_create()'s */
	crowd(who);
	print_message("%u marks, %u syncs\n", CROWD * MARKS, (unsigned int)(dir_begun - before));
	assert_true(dir_begun - before < CROWD * MARKS / 2);
	for (unsigned int i = 0; i < CROWD; i++) {
		assert_int_equal(who[i].failed, 0);
		assert_int_equal(who[i].unsynced, 0);
		assert_int_equal(ledger_mark(who[i].l), MARKS * 1000);
		ledger_close(who[i].l);
	}
}

static void *mark_once(void *arg)
{
	struct one *o = arg;

	o->failed = ledger_mark_in(o->l, 1000000) == -EIO;
	return NULL;
}

/* A sync that fails fails for all who waited for it: none of them knows any more what is durable, and others do. */
static void test_a_sync_fails(void **state)
{
	struct one who[CROWD] = {0};

	crowd(who);
	dir_slow = dir_fails = true;
	for (unsigned int i = 0; i < CROWD / 2; i++)
		assert_int_equal(pthread_create(&who[i].thread, NULL, mark_once, &who[i]), 0);
	for (unsigned int i = 0; i < CROWD / 2; i++)
		pthread_join(who[i].thread, NULL);
	dir_slow = dir_fails = false;
	for (unsigned int i = 0; i < CROWD; i++) {
		assert_int_equal(who[i].failed, i < CROWD / 2);
		assert_int_equal(ledger_mark_in(who[i].l, 2000000), i < CROWD / 2 ? -EIO : 0);
		ledger_close(who[i].l);
	}
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
	const struct CMUnitTest tests[] = {
		CASE(test_first_start),
		CASE(test_restarts),
		CASE(test_reserve),
		CASE(test_numbers_end),
		CASE(test_in),
		CASE(test_life),
		CASE(test_life_clock_back),
		CASE(test_versions),
		CASE(test_missing),
		CASE(test_truncated),
		CASE(test_flipped),
		CASE(test_foreign),
		CASE(test_leftover),
		CASE(test_file_size_limit),
		CASE(test_full_and_read_only),
		CASE(test_not_a_directory),
		CASE(test_clock_back),
		CASE(test_made_again),
		CASE(test_older_copies),
		CASE(test_one_sender),
		CASE(test_lock_under_commits),
		CASE(test_replaced_while_open),
		CASE(test_create_race),
		CASE(test_many_share_a_sync),
		CASE(test_a_sync_fails),
		CASE(test_kill_points),
	};

	real_clock = ledger_clock_ms;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
