/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sa - one ESP security association, RFC 4301 4.4.2.
 *
 * struct sa_conf is cold and secret: what a key file or IKE says. struct sa_out and struct sa_in
 * are the hot halves the owning worker touches per packet.
 */
#ifndef SA_H
#define SA_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include "aead.h"
#include "ipsec_wire.h"
#include "life.h"
#include "replay.h"
#include "sel.h"

enum sa_dir { SA_OUT = 1, SA_IN = 2 };
enum sa_mode { SA_TUNNEL = 0, SA_TRANSPORT = 1 }; /* RFC 4301 4.1 */

/** struct sa_conf - everything needed to make an SA; wipe with sa_conf_wipe() */
struct sa_conf {
	enum sa_dir dir;
	uint32_t spi; /* host order, >= SPI_MIN */
	enum aead_alg alg;
	enum sa_mode mode;
	uint8_t key[AEAD_KEY_MAX]; /* cipher key, authentication key */
	uint8_t salt[AEAD_SALT_LEN];
	bool esn;
	uint32_t window;         /* in: replay window; out: smallest window the peer may have */
	uint64_t seq_start;      /* out: first sequence number; in: nothing <= this is accepted */
	uint64_t iv_start;       /* out: first IV */
	struct life_conf life;
	uint64_t fingerprint;    /* sa_fingerprint() */
	struct sels sels;        /* which packets it is for, as they are inside: of an inbound one src is the peer's side */
};

/**
 * sa_fingerprint() - 64 bits of SHA-256 over a label, alg, all key bytes and salt; fit to show,
 * useless to reverse. Return: 0 for an unknown algorithm
 */
uint64_t sa_fingerprint(const struct sa_conf *c);
/** sa_layout() - what the suite adds to a packet. Return: all zero for an unknown algorithm */
struct esp_layout sa_layout(enum aead_alg alg);
/** sa_conf_wipe() - overwrite key and salt */
void sa_conf_wipe(struct sa_conf *c);

/** struct sa_out - hot half of an outbound SA. Writer of seq, iv: the owning worker */
struct sa_out {
	struct aead *aead;
	uint64_t seq; /* last number used */
	uint64_t iv;  /* last IV used */
	uint64_t seq_limit; /* reserved durably: never use a number above (RFC 4303 3.3.3 or the ledger) */
	uint64_t iv_limit;
	uint32_t spi_be; /* __be32 */
	uint8_t salt[AEAD_SALT_LEN];
	struct esp_layout layout;
	uint8_t kind; /* enum aead_kind */
	bool esn;
	bool transport;
};

/** struct sa_in - hot half of an inbound SA. Writer: the owning worker */
struct sa_in {
	struct aead *aead;
	struct replay replay;
	uint32_t spi_be; /* __be32 */
	uint8_t salt[AEAD_SALT_LEN];
	struct esp_layout layout;
	uint8_t kind; /* enum aead_kind */
	bool transport;
};

/**
 * sa_out_init() - hot half of an outbound SA; the caller keeps and wipes c
 * seq_start and iv_start 0 mean 1. Lifetimes are the worker's: life.h.
 * Return: 0; -EINVAL for direction, SPI, algorithm or a first number that does not fit; -errno
 */
int sa_out_init(struct sa_out *sa, const struct sa_conf *c);
/**
 * sa_in_init() - hot half of an inbound SA over a replay window as left by an earlier owner
 * @top, @words: see replay_init(); replay_words(c->window) words
 * Return: 0; -EINVAL for direction, SPI, algorithm or window; -errno
 */
int sa_in_init(struct sa_in *sa, const struct sa_conf *c, uint64_t *top, uint64_t *words);
/** sa_out_fini() / sa_in_fini() - wipe and release the expanded key; all zero is fine */
void sa_out_fini(struct sa_out *sa);
void sa_in_fini(struct sa_in *sa);
/** sa_out_end() / sa_in_end() - its life is over: no key stays, what says whose packets it was does */
void sa_out_end(struct sa_out *sa);
void sa_in_end(struct sa_in *sa);

_Static_assert(sizeof(struct sa_out) <= 64, "one cache line");
_Static_assert(sizeof(struct sa_in) <= 64, "one cache line");

#endif
