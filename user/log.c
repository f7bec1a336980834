/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "log.h"

enum log_level log_max = LOGL_INFO;
static const char *prog = "espwire";
static bool to_journal;

void log_init(const char *progname)
{
	prog = progname;
	to_journal = getenv("JOURNAL_STREAM") != NULL;
}

/* One write(2) per line, so that lines of threads and of the guardian do not mix. */
static void emit(enum log_level l, int err, const char *fmt, va_list ap)
{
	static const int syslog_level[] = {3, 4, 6, 7};
	char buf[1024];
	int n = 0;

	if (to_journal)
		n = snprintf(buf, sizeof buf, "<%d>", syslog_level[l]);
	n += snprintf(buf + n, sizeof buf - n, "%s: ", prog);
	n += vsnprintf(buf + n, sizeof buf - n, fmt, ap);
	if (n > (int)sizeof buf - 2)
		n = sizeof buf - 2;
	if (err) {
		n += snprintf(buf + n, sizeof buf - n, ": %s", strerror(err));
		if (n > (int)sizeof buf - 2)
			n = sizeof buf - 2;
	}
	buf[n++] = '\n';
	if (write(STDERR_FILENO, buf, n) < 0)
		return;
}

void log_at(enum log_level l, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	if (l > log_max)
		return;
	va_start(ap, fmt);
	emit(l, 0, fmt, ap);
	va_end(ap);
	errno = saved;
}

void log_warn(const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	if (LOGL_WARN > log_max)
		return;
	va_start(ap, fmt);
	emit(LOGL_WARN, saved, fmt, ap);
	va_end(ap);
	errno = saved;
}

void fatal(const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	va_start(ap, fmt);
	emit(LOGL_ERR, saved, fmt, ap);
	va_end(ap);
	exit(1);
}

void fatalx(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	emit(LOGL_ERR, 0, fmt, ap);
	va_end(ap);
	exit(1);
}

bool log_allow(void)
{
	static _Atomic long second, count;
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	if (atomic_exchange(&second, ts.tv_sec) != ts.tv_sec)
		atomic_store(&count, 0);
	return atomic_fetch_add(&count, 1) < 10;
}
