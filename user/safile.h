/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * safile - static SAs from a key file, for labs (I2, I3).
 *
 *   # comment
 *   for = 10.1.0.0/16 10.2.0.0/16[tcp/80]          sel_parse(); may be repeated; none: all that the link carries
 *   [out]                      [in]
 *   spi      = 0x1f3c9a01      spi      = ...        256 and above
 *   alg      = aes-gcm-256     alg      = ...        aead_by_name()
 *   key      = <hex>           key      = ...        the cipher's; 0x in front is fine
 *   auth-key = <hex>           auth-key = ...        the HMAC's: AES-CBC suites, and only they
 *   salt     = <8 hex digits>  salt     = ...        all other suites
 *   esn      = yes             esn      = yes        default yes
 *   window   = 4096            window   = 4096
 *   mode     = tunnel          mode     = tunnel     or transport; the same in both
 *   soft-time, hard-time, soft-bytes, hard-bytes, soft-packets, hard-packets    default none
 *
 * Lifetimes: times in s, m, h or d, counts with k, M, G, T, Ki, Mi, Gi or Ti. A soft one lies below
 * the hard one of its kind. What of them is used up already is the ledger's to know.
 *
 * window in [in]: our replay window, 64..65536 in steps of 64, default 4096. In [out]: the
 * smallest window the peer may have, 32..65536, default 32 (sa_conf.window).
 *
 * The file must be a regular file of mode 0600 or stricter, owned by the reader. Messages name
 * file and line and never repeat a word of the file. Refused: same key and salt in both
 * directions, all-zero keys, SPI < 256, unknown algorithms and those without integrity, wrong key
 * length, repeated keys.
 */
#ifndef SAFILE_H
#define SAFILE_H

#include <stdio.h>
#include "sa.h"

enum { SAFILE_LEN_MAX = 8192, SAFILE_NAME_MAX = 64, PEER_WINDOW_MIN = 32 };

/**
 * safile_load() - seq_start and iv_start are left 0: ledger_start() fills them
 * All problems of the text are printed, not only the first.
 * Return: 0; -EINVAL, -EPERM or -errno with the reason printed to errs. Wipes on failure.
 */
int safile_load(const char *path, struct sa_conf *out, struct sa_conf *in, FILE *errs);

/**
 * safile_peek() - what is no secret: the mode and, as the outbound SA has them, the selectors; either may be NULL
 * Says nothing, keeps no key. Return: 0, or as safile_load()
 */
int safile_peek(const char *path, enum sa_mode *mode, struct sels *sels);

/**
 * safile_pair() - two matching files with fresh random keys and SPIs
 * @dir: writes DIR/A/B.sa (for host a, about its peer b) and DIR/B/A.sa; directories are made 0700,
 *       files 0600, nothing is overwritten (-EEXIST)
 * @path_a, @path_b: buffers of 4096 bytes receive the names written
 * ESN on, window 4096 both ways. On failure neither file is left behind.
 * Return: 0 or -errno, with the reason printed to errs.
 */
int safile_pair(const char *dir, const char *a, const char *b, enum aead_alg alg, enum sa_mode mode,
		char *path_a, char *path_b, FILE *errs);

#endif
