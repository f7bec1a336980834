/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <string.h>
#include "aead_backend.h"
#include "secmem.h"
#include "util.h"

static const struct aead_desc descs[] = {
	{AEAD_AES_GCM_128, "aes-gcm-128", 16},
	{AEAD_AES_GCM_256, "aes-gcm-256", 32},
	{AEAD_CHACHA20_POLY1305, "chacha20-poly1305", 32},
};

static const struct aead_backend *const backends[] = {
#ifdef HAVE_IPSEC_MB
	&aead_mb,
#endif
	&aead_ossl,
};

static const struct aead_backend *chosen;
static char shown[AEAD_NAME_MAX] = "none";

const struct aead_desc *aead_by_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(descs); i++)
		if (!strcmp(descs[i].name, name))
			return &descs[i];
	return NULL;
}

const struct aead_desc *aead_by_alg(enum aead_alg alg)
{
	for (size_t i = 0; i < ARRAY_SIZE(descs); i++)
		if (descs[i].alg == alg)
			return &descs[i];
	return NULL;
}

static int try_backend(const struct aead_backend *b, const char *isa)
{
	char name[AEAD_NAME_MAX];
	int err = b->init(isa, name);

	if (err)
		return err;
	chosen = b;
	memcpy(shown, name, sizeof shown);
	return 0;
}

/* "ipsec-mb" and "ipsec-mb:avx2" both mean backend "ipsec-mb". */
static bool is_called(const struct aead_backend *b, const char *name, const char **isa)
{
	size_t n = strlen(b->name);

	if (strncmp(b->name, name, n) || (name[n] && name[n] != ':'))
		return false;
	*isa = name[n] ? name + n + 1 : NULL;
	return true;
}

int aead_backend_select(const char *name)
{
	bool any = !strcmp(name, "auto");
	const char *isa = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(backends); i++)
		if ((any || is_called(backends[i], name, &isa)) && !try_backend(backends[i], isa))
			return 0;
	return -ENOENT;
}

const char *aead_backend_name(void)
{
	return shown;
}

struct aead *aead_new(enum aead_alg alg, const uint8_t *key)
{
	struct aead *a;
	int err;

	if (!chosen || !aead_by_alg(alg)) {
		errno = EINVAL;
		return NULL;
	}
	a = secmem_alloc(sizeof *a + chosen->state_len(alg));
	if (!a)
		return NULL;
	a->backend = chosen;
	err = chosen->setup(a, alg, key);
	if (err) {
		secmem_free(a);
		errno = -err;
		return NULL;
	}
	return a;
}

void aead_free(struct aead *a)
{
	if (!a)
		return;
	if (a->backend->teardown)
		a->backend->teardown(a);
	secmem_free(a);
}

void aead_seal(struct aead *a, struct aead_job *jobs, unsigned int n)
{
	a->seal(a, jobs, n);
}

void aead_open(struct aead *a, struct aead_job *jobs, unsigned int n)
{
	a->open(a, jobs, n);
}
