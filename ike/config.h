/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What strongSwan's configure would say, where it matters: ME shifts members of daemon_t, and Debian has it;
 * the rest keeps its headers from defining again what glibc 2.36 has.
 */
#define CONFIG_H_INCLUDED
#define ME
#define HAVE_PRINTF_SPECIFIER
#define HAVE_SIGWAITINFO
#define HAVE_CLOSEFROM
#define HAVE_MEMRCHR
#define HAVE_FMEMOPEN
#define HAVE_EXPLICIT_BZERO
#define HAVE__BOOL
#define HAVE_STDBOOL_H
#define HAVE_CLOCK_GETTIME
#define HAVE_CONDATTR_CLOCK_MONOTONIC
