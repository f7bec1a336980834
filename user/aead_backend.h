/* SPDX-License-Identifier: GPL-2.0-or-later */
/* aead_backend - what a crypto library must provide to aead.c. Not for anybody else. */
#ifndef AEAD_BACKEND_H
#define AEAD_BACKEND_H

#include "aead.h"

enum { AEAD_NAME_MAX = 96, AEAD_IV_KEY_LEN = 32 };

/*
 * struct aead - lies in secret memory. state holds what the backend needs: the expanded key
 * (ipsec-mb) or pointers to the library's contexts (OpenSSL).
 */
struct aead {
	void (*seal)(struct aead *a, struct aead_job *jobs, unsigned int n);
	void (*open)(struct aead *a, struct aead_job *jobs, unsigned int n);
	bool apart; /* seal() reads from where job.from says; else it finds everything at data */
	void (*crypt[2])(void); /* the backend's own: seal, open */
	const struct aead_backend *backend;
	uint64_t iv_random; /* AEAD_CBC_HMAC: this instance's half of every IV block */
	_Alignas(64) uint8_t state[];
};

struct aead_backend {
	const char *name;
	/* isa: the wanted path, NULL = best. shown: what aead_backend_name() will say */
	int (*init)(const char *isa, char shown[AEAD_NAME_MAX]);
	uint32_t (*state_len)(const struct aead_desc *d);
	/* iv_key: AEAD_IV_KEY_LEN bytes for ecb(); AEAD_CBC_HMAC only */
	int (*setup)(struct aead *a, const struct aead_desc *d, const uint8_t *key,
		     const uint8_t *iv_key);
	void (*teardown)(struct aead *a);
	/* one AES-256 permutation over n blocks of 16 bytes, in place, under iv_key */
	void (*ecb)(struct aead *a, uint8_t *blocks, unsigned int n);
};

#ifdef HAVE_IPSEC_MB
extern const struct aead_backend aead_mb;
#endif
extern const struct aead_backend aead_ossl;

#endif
