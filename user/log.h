/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * log - one line per event to stderr (systemd's journal reads the <N> prefix when
 * JOURNAL_STREAM is set). Never key text (I3). warn/fatal append strerror(errno); the x forms
 * do not. Thread-safe; log_rl() is for anything a peer can trigger.
 */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>

enum log_level { LOGL_ERR, LOGL_WARN, LOGL_INFO, LOGL_DEBUG };
extern enum log_level log_max; /* default LOGL_INFO */

void log_init(const char *progname);
void log_at(enum log_level l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void fatal(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
void fatalx(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
#define log_warnx(...) log_at(LOGL_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOGL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOGL_DEBUG, __VA_ARGS__)

/** log_allow() - token bucket, 10 lines a second over the process. Return: true = print it */
bool log_allow(void);
#define log_rl(...) do { if (log_allow()) log_at(LOGL_WARN, __VA_ARGS__); } while (0)

#endif
