/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ledger - durable marks that keep static keys from ever repeating a nonce (I2).
 *
 * One small text file per key fingerprint and direction in the state directory, created only by
 * ledger_create() (`ipsecctl static init`). Contents: version, fingerprint, direction, seq mark,
 * IV mark, wall-clock mark (ms), birth (ms), packets and bytes used, SHA-256. Written as write-new + fsync + rename + fsync of the
 * directory; held under flock while in use, so that one sender owns a key.
 *
 * Out: numbers are reserved ahead (ledger_reserve()) before the worker may use them. IVs start
 * at max(IV mark + 1, unix_ms << 22); more than 4.19 M IVs per ms is out of reach, so a later start
 * is always above even when the state is an older copy. Sequence numbers start at the seq mark + 1.
 * In: the receive mark is raised ahead of what the window accepts, so that a machine that lost
 * its memory (pinned maps) accepts nothing twice.
 * Lifetimes (life.h) are counted from birth, which is ledger_create(): a restart renews nothing. A
 * file of version 1, which had no birth, was born at its clock mark.
 *
 * Refuses, with a sentence that says what to do: missing, truncated, corrupt, foreign fingerprint
 * or direction, unwritable, locked by another process, and (out) a clock behind the stored mark.
 * What nothing here can notice: state replaced by an older copy and the clock set back as well,
 * or one key file used on two machines, or a running machine cloned from a snapshot. The AES-CBC
 * suites survive even that: half of what their IVs are made of is random (aead_ivs()).
 *
 * A struct ledger belongs to one thread (control); reserving sleeps in fsync. A forked child
 * shares the lock: helpers that outlive the daemon fork before ledgers are opened, or exec.
 */
#ifndef LEDGER_H
#define LEDGER_H

#include <stdint.h>
#include <stdio.h>
#include "sa.h"

struct ledger;

enum { LEDGER_SEQ_STEP = 1 << 20, LEDGER_SEQ_STEP_NO_ESN = 1 << 18, LEDGER_IV_STEP = 1 << 22,
       LEDGER_IV_SHIFT = 22, /* unix_ms << this */
       LEDGER_MARK_STEP = 1024 /* so far at least a receive mark is ahead of its window */ };
#define LEDGER_CLOCK_MIN 1735689600000u /* 2025-01-01: a clock before that was never set */

/** ledger_clock_ms - wall clock in ms since 1970; tests put their own here */
extern uint64_t (*ledger_clock_ms)(void);

/**
 * ledger_create() - explicit creation for one SA; call it for both directions of a pair
 * @sa: dir and fingerprint are used. The directory is made 0700 when it is missing.
 * Return: 0, -EEXIST when there is one already, or -errno; the sentence goes to errs
 */
int ledger_create(const char *dir, const struct sa_conf *sa, FILE *errs);

/**
 * ledger_open() - find, lock and check; nothing is written yet
 * Return: 0, or with the sentence in errs: -ENOENT missing, -EBADMSG truncated or corrupt,
 * -EKEYREJECTED other key or direction, -EBUSY in use, -ETIME clock behind, -errno unwritable
 */
int ledger_open(struct ledger **lp, const char *dir, const struct sa_conf *sa, FILE *errs);
/** ledger_close() - unlock and free; NULL is fine */
void ledger_close(struct ledger *l);

/**
 * ledger_start() - fill c->seq_start, c->iv_start (out) or c->seq_start (in) for a fresh start, and
 * what of c->life is gone
 * Out: also reserves the first block, durable before it returns; *seq_limit, *iv_limit receive the
 * highest numbers that may be used. In: they are left alone, may be NULL, and nothing is written.
 * Return: 0, -EOVERFLOW when the key's numbers are used up (make new keys), or -errno
 */
int ledger_start(struct ledger *l, struct sa_conf *c, uint64_t *seq_limit, uint64_t *iv_limit);
/** ledger_begin() - ledger_open() and ledger_start(); other threads may be at other ledgers of the directory. *lp may
 * be a ledger also when the second of them fails. No trial is written: what is reserved is one; a receiver's first mark will be */
int ledger_begin(struct ledger **lp, const char *dir, struct sa_conf *c, uint64_t *seq_limit, uint64_t *iv_limit,
		 FILE *errs);

/**
 * ledger_reserve() - out: make numbers up to used + step usable; durable before it returns
 * @seq_used, @iv_used: last numbers used so far
 * Call when half of the reservation is used. Limits never go down; at 2^64-1 (2^32-1 without ESN)
 * they stay there. Return: 0 or -errno: then nothing beyond the old limits may be used; -ENOSPC
 * and the like may be tried again, -ESTALE means that somebody replaced or removed the file.
 */
int ledger_reserve(struct ledger *l, uint64_t seq_used, uint64_t iv_used, uint64_t *seq_limit,
		   uint64_t *iv_limit);

/**
 * ledger_mark_in() - in: nothing <= mark will be accepted after a restart without memory
 * Durable before it returns; a mark that is not higher than the stored one costs nothing.
 */
int ledger_mark_in(struct ledger *l, uint64_t mark);
/** ledger_mark() - the durable sequence mark */
uint64_t ledger_mark(const struct ledger *l);
/** ledger_use() - after a restart without memory, so much of the lifetime counts as used; never goes back */
int ledger_use(struct ledger *l, uint64_t pkts, uint64_t bytes);
/** ledger_used() - as stored */
void ledger_used(const struct ledger *l, uint64_t *pkts, uint64_t *bytes);

#endif
