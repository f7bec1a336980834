/* SPDX-License-Identifier: GPL-2.0-or-later */
/* aead_backend - what a crypto library must provide to aead.c. Not for anybody else. */
#ifndef AEAD_BACKEND_H
#define AEAD_BACKEND_H

#include "aead.h"

enum { AEAD_NAME_MAX = 96 };

/*
 * struct aead - lies in secret memory. state holds what the backend needs: the expanded key
 * (ipsec-mb) or a pointer to the library's context (OpenSSL).
 */
struct aead {
	void (*seal)(struct aead *a, struct aead_job *jobs, unsigned int n);
	void (*open)(struct aead *a, struct aead_job *jobs, unsigned int n);
	void (*crypt[2])(void); /* the backend's own: seal, open */
	const struct aead_backend *backend;
	_Alignas(64) uint8_t state[];
};

struct aead_backend {
	const char *name;
	/* isa: the wanted path, NULL = best. shown: what aead_backend_name() will say */
	int (*init)(const char *isa, char shown[AEAD_NAME_MAX]);
	uint32_t (*state_len)(enum aead_alg alg);
	int (*setup)(struct aead *a, enum aead_alg alg, const uint8_t *key);
	void (*teardown)(struct aead *a);
};

#ifdef HAVE_IPSEC_MB
extern const struct aead_backend aead_mb;
#endif
extern const struct aead_backend aead_ossl;

#endif
