/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/evp.h>
#include <string.h>
#include "sa.h"

uint64_t sa_fingerprint(const struct sa_conf *c)
{
	static const char label[] = "espwire key fingerprint 1";
	const struct aead_desc *d = aead_by_alg(c->alg);
	uint8_t buf[sizeof label + 1 + AEAD_KEY_MAX + AEAD_SALT_LEN], md[EVP_MAX_MD_SIZE];
	uint64_t fp = 0;
	size_t n = 0;

	if (!d)
		return 0;
	memcpy(buf, label, sizeof label);
	n = sizeof label;
	buf[n++] = (uint8_t)c->alg;
	memcpy(buf + n, c->key, aead_key_bytes(d));
	n += aead_key_bytes(d);
	memcpy(buf + n, c->salt, d->salt_len);
	n += d->salt_len;
	if (EVP_Digest(buf, n, md, NULL, EVP_sha256(), NULL))
		for (size_t i = 0; i < sizeof fp; i++)
			fp = fp << 8 | md[i];
	explicit_bzero(buf, sizeof buf);
	explicit_bzero(md, sizeof md);
	return fp;
}

struct esp_layout sa_layout(enum aead_alg alg)
{
	const struct aead_desc *d = aead_by_alg(alg);

	if (!d)
		return (struct esp_layout){0};
	return (struct esp_layout){.iv_len = d->iv_len, .icv_len = d->icv_len, .align = d->align};
}

void sa_conf_wipe(struct sa_conf *c)
{
	explicit_bzero(c->key, sizeof c->key);
	explicit_bzero(c->salt, sizeof c->salt);
}

static int check(const struct sa_conf *c, enum sa_dir dir)
{
	if (c->dir != dir || c->spi < SPI_MIN || !aead_by_alg(c->alg))
		return -EINVAL;
	return 0;
}

int sa_out_init(struct sa_out *sa, const struct sa_conf *c)
{
	uint64_t first_seq = c->seq_start ? c->seq_start : 1;
	uint64_t first_iv = c->iv_start ? c->iv_start : 1;
	int err = check(c, SA_OUT);

	if (err)
		return err;
	if (!c->esn && first_seq > UINT32_MAX)
		return -EINVAL;
	*sa = (struct sa_out){
		.seq = first_seq - 1,
		.iv = first_iv - 1,
		.seq_limit = c->esn ? UINT64_MAX : UINT32_MAX,
		.iv_limit = UINT64_MAX,
		.spi_be = htonl(c->spi),
		.layout = sa_layout(c->alg),
		.kind = aead_by_alg(c->alg)->kind,
		.esn = c->esn,
		.transport = c->mode == SA_TRANSPORT,
	};
	memcpy(sa->salt, c->salt, sizeof sa->salt);
	sa->aead = aead_new(c->alg, c->key);
	return sa->aead ? 0 : -errno;
}

int sa_in_init(struct sa_in *sa, const struct sa_conf *c, uint64_t *top, uint64_t *words)
{
	int err = check(c, SA_IN);

	if (err)
		return err;
	*sa = (struct sa_in){.spi_be = htonl(c->spi),
			     .layout = sa_layout(c->alg),
			     .kind = aead_by_alg(c->alg)->kind,
			     .transport = c->mode == SA_TRANSPORT};
	err = replay_init(&sa->replay, top, words, c->window, c->esn);
	if (err)
		return err;
	memcpy(sa->salt, c->salt, sizeof sa->salt);
	sa->aead = aead_new(c->alg, c->key);
	if (!sa->aead)
		return -errno;
	replay_raise(&sa->replay, c->seq_start);
	return 0;
}

void sa_out_fini(struct sa_out *sa)
{
	aead_free(sa->aead);
	explicit_bzero(sa, sizeof *sa);
}

void sa_in_fini(struct sa_in *sa)
{
	aead_free(sa->aead);
	explicit_bzero(sa, sizeof *sa);
}

void sa_out_end(struct sa_out *sa)
{
	aead_free(sa->aead);
	sa->aead = NULL;
	explicit_bzero(sa->salt, sizeof sa->salt);
}

void sa_in_end(struct sa_in *sa)
{
	aead_free(sa->aead);
	sa->aead = NULL;
	explicit_bzero(sa->salt, sizeof sa->salt);
}
