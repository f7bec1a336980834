/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <endian.h>
#include <stdbool.h>
#include <string.h>
#include "esp.h"

/* What authenticates and encrypts one packet beside its bytes. RFC 4106 4 and 5, RFC 7634 2. */
struct frame {
	uint8_t nonce[AEAD_NONCE_LEN];
	uint8_t aad[AEAD_AAD_MAX];
};

/* RFC 4303 2.4: as much padding as any suite asks for. */
static const uint8_t pads[ESP_ALIGN_MAX] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, sizeof v);
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof v);
	return v;
}

uint32_t esp_spi(const uint8_t *data)
{
	return get32(data);
}

/* RFC 4106 5: SPI and sequence number, all 64 bits of it with ESN. Return: length */
static uint32_t put_aad(uint8_t *aad, uint32_t spi_be, uint64_t seq, bool esn)
{
	uint64_t seq_be = htobe64(seq);

	put32(aad, spi_be);
	if (!esn) {
		put32(aad + 4, htobe32((uint32_t)seq));
		return 8;
	}
	memcpy(aad + 4, &seq_be, sizeof seq_be);
	return 12;
}

static void put_nonce(uint8_t *nonce, const uint8_t *salt, const uint8_t *iv)
{
	memcpy(nonce, salt, AEAD_SALT_LEN);
	memcpy(nonce + AEAD_SALT_LEN, iv, AEAD_NONCE_LEN - AEAD_SALT_LEN);
}

/*
 * The job of one packet, the same in both directions. hdr: ESP header; body_len: what the trailer
 * ends. AAD: RFC 4106 5 and 7634 2.1; with GMAC the IV is authenticated like the payload behind it
 * (RFC 4543 3.3); with a HMAC the bytes of the packet themselves, and ESN's high half behind them
 * (RFC 4303 2.2.1, 3.3.2.1).
 */
static void fill_job(struct aead_job *j, struct frame *f, uint8_t *hdr, uint32_t body_len,
		     struct esp_layout l, uint8_t kind, const uint8_t *salt, uint32_t spi_be,
		     uint64_t seq, bool esn)
{
	uint8_t *iv = hdr + ESP_HDR_LEN, *body = iv + l.iv_len;

	if (aead_has_tail(kind)) {
		*j = (struct aead_job){.nonce = iv, .aad = hdr, .aad_len = esp_headroom(l)};
		j->tail = htobe32((uint32_t)(seq >> 32));
		j->tail_len = esn ? sizeof j->tail : 0;
	} else {
		put_nonce(f->nonce, salt, iv);
		*j = (struct aead_job){.nonce = f->nonce,
				       .aad = f->aad,
				       .aad_len = put_aad(f->aad, spi_be, seq, esn)};
	}
	j->data = body;
	j->len = body_len;
	j->tag = body + body_len;
	if (kind == AEAD_MAC) {
		j->data -= l.iv_len;
		j->len += l.iv_len;
	}
}

/* --- outbound --------------------------------------------------------------------------------- */

/* RFC 4303 3.3.3: the counters stop, they never wrap. */
static bool take_numbers(struct sa_out *sa)
{
	if (sa->seq >= sa->seq_limit || sa->iv >= sa->iv_limit)
		return false;
	sa->seq++;
	sa->iv++;
	return true;
}

/*
 * Padding and trailer behind the inner packet. Writes in halves of ESP_ALIGN_MAX bytes, all inside
 * padding, trailer and ICV.
 */
enum { HALF = ESP_ALIGN_MAX / 2 };
_Static_assert(ESP_ICV_MIN + ESP_TRAILER_LEN >= HALF, "put_trailer() stays in the packet");
static uint32_t put_trailer(uint8_t *data, uint32_t len, uint8_t next, struct esp_layout l)
{
	uint32_t pad = -(len + ESP_TRAILER_LEN) & (l.align - 1u);

	memcpy(data + len, pads, HALF);
	if (pad > HALF)
		memcpy(data + len + HALF, pads + HALF, HALF);
	data[len + pad] = (uint8_t)pad;
	data[len + pad + 1] = next;
	return len + pad + ESP_TRAILER_LEN;
}

static void seal_prepare(const struct sa_out *sa, struct esp_pkt *p, struct frame *f,
			 struct aead_job *j)
{
	const struct esp_layout l = sa->layout;
	uint32_t body = put_trailer(p->from ? p->from : p->data, p->len, p->next, l);
	uint8_t *hdr = p->data - esp_headroom(l);
	uint64_t iv_be = htobe64(sa->iv);

	put32(hdr, sa->spi_be);
	put32(hdr + 4, htobe32((uint32_t)sa->seq));
	if (l.iv_len)
		memcpy(hdr + ESP_HDR_LEN, &iv_be, sizeof iv_be);
	fill_job(j, f, hdr, body, l, sa->kind, sa->salt, sa->spi_be, sa->seq, sa->esn);
	if (p->from && sa->kind == AEAD_COMBINED)
		j->from = p->from;
	else if (p->from)
		memcpy(p->data, p->from, body);
	p->seq = sa->seq;
}

/* RFC 3602 3: nobody may guess an IV; the last k numbers taken become k of them. */
static void put_ivs(struct sa_out *sa, struct aead_job *jobs, unsigned int k)
{
	uint8_t iv[ESP_BATCH][AEAD_IV_MAX];

	if (!k)
		return;
	aead_ivs(sa->aead, sa->iv - k + 1, iv, k);
	for (unsigned int i = 0; i < k; i++)
		memcpy(jobs[i].data - AEAD_IV_MAX, iv[i], AEAD_IV_MAX);
}

static void seal_finish(struct esp_pkt *p, const struct aead_job *j, struct esp_layout l)
{
	uint8_t *hdr = p->data - esp_headroom(l);

	if (!j->ok) {
		p->drop = DROP_TX_ERROR;
		return;
	}
	p->data = hdr;
	p->len = (uint32_t)(j->tag - hdr) + l.icv_len;
}

/* The trailer goes to a line nobody touched yet. Integers: a dropped packet may have no data. */
static void prefetch_end(const struct esp_pkt *pkts, unsigned int next, unsigned int n)
{
	if (next < n)
		__builtin_prefetch((void *)((uintptr_t)pkts[next].data + pkts[next].len), 1);
}

void esp_seal(struct sa_out *sa, struct esp_pkt *pkts, unsigned int n)
{
	struct frame frames[ESP_BATCH];
	struct aead_job jobs[ESP_BATCH];
	unsigned int k = 0;

	for (unsigned int i = 0; i < n; i++) {
		prefetch_end(pkts, i + 1, n);
		if (pkts[i].drop)
			continue;
		if (!take_numbers(sa)) {
			pkts[i].drop = DROP_SEQ_EXHAUSTED;
			continue;
		}
		seal_prepare(sa, &pkts[i], &frames[k], &jobs[k]);
		k++;
	}
	if (sa->kind == AEAD_CBC_HMAC)
		put_ivs(sa, jobs, k);
	aead_seal(sa->aead, jobs, k);
	k = 0;
	for (unsigned int i = 0; i < n; i++)
		if (!pkts[i].drop)
			seal_finish(&pkts[i], &jobs[k++], sa->layout);
}

/* --- inbound ---------------------------------------------------------------------------------- */

static enum drop open_prepare(const struct sa_in *sa, struct esp_pkt *p, struct frame *f,
			      struct aead_job *j)
{
	const struct esp_layout l = sa->layout;
	uint32_t fixed = esp_headroom(l) + l.icv_len, body = p->len - fixed;
	enum drop drop;

	if (p->len < fixed + ESP_TRAILER_LEN)
		return DROP_SHORT;
	if (sa->kind == AEAD_CBC_HMAC && body % l.align) /* nothing a sender makes: a part of it */
		return DROP_SHORT;
	if (esp_spi(p->data) != sa->spi_be) /* a slot reused while the packet was on its way */
		return DROP_NO_SA;
	p->seq = replay_seq(&sa->replay, be32toh(get32(p->data + 4)));
	drop = replay_check(&sa->replay, p->seq);
	if (drop)
		return drop;
	fill_job(j, f, p->data, body, l, sa->kind, sa->salt, sa->spi_be, p->seq, sa->replay.esn);
	return DROP_NONE;
}

/* RFC 4303 2.4: 1, 2, 3, ... Only ever called on authentic bytes. */
static bool pad_ok(const uint8_t *pad, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		if (pad[i] != i + 1)
			return false;
	return true;
}

/* Bytes the IPv4 header claims, 0 when it is none. */
static uint32_t ip4_len(const uint8_t *ip, uint32_t room)
{
	uint32_t hdr = (ip[0] & 15u) * 4, len = (uint32_t)ip[2] << 8 | ip[3];

	return ip[0] >> 4 == 4 && hdr >= IP4_HDR_LEN && len >= hdr && len <= room ? len : 0;
}

static uint32_t ip6_len(const uint8_t *ip, uint32_t room)
{
	uint32_t len = IP6_HDR_LEN + ((uint32_t)ip[4] << 8 | ip[5]);

	return ip[0] >> 4 == 6 && len <= room ? len : 0;
}

/* Length of the inner packet without TFC padding (RFC 4303 2.7), 0 when it is no such packet. */
static uint32_t inner_len(uint8_t next, const uint8_t *ip, uint32_t room)
{
	if (next == NEXT_IP4)
		return room >= IP4_HDR_LEN ? ip4_len(ip, room) : 0;
	return room >= IP6_HDR_LEN ? ip6_len(ip, room) : 0;
}

/* RFC 4303 3.4.4.1 step 3 on: the packet is authentic, what it carries may still be nonsense. */
static enum drop strip(struct esp_pkt *p, uint8_t *body, uint32_t len, bool transport)
{
	uint32_t pad = body[len - 2];

	p->next = body[len - 1];
	len -= ESP_TRAILER_LEN;
	if (pad > len || !pad_ok(body + len - pad, pad))
		return DROP_BAD_PAD;
	len -= pad;
	if (transport) {
		if (!esp_carries(p->next))
			return DROP_BAD_NEXT_HEADER;
	} else if (p->next == NEXT_IP4 || p->next == NEXT_IP6) {
		len = inner_len(p->next, body, len);
		if (!len)
			return DROP_INNER_VERSION;
	} else if (p->next != NEXT_NONE) {
		return DROP_BAD_NEXT_HEADER;
	}
	p->data = body;
	p->len = len;
	return DROP_NONE;
}

static enum drop open_finish(struct sa_in *sa, struct esp_pkt *p, const struct aead_job *j,
			     uint64_t *lost)
{
	uint8_t *body = p->data + esp_headroom(sa->layout);
	enum drop drop;

	if (!j->ok)
		return DROP_ICV_FAIL;
	drop = replay_accept(&sa->replay, p->seq, lost);
	return drop ? drop : strip(p, body, (uint32_t)(j->tag - body), sa->transport);
}

void esp_open(struct sa_in *sa, struct esp_pkt *pkts, unsigned int n, uint64_t *lost)
{
	struct frame frames[ESP_BATCH];
	struct aead_job jobs[ESP_BATCH];
	unsigned int k = 0;

	for (unsigned int i = 0; i < n; i++) {
		if (i + 1 < n)
			__builtin_prefetch(pkts[i + 1].data);
		if (pkts[i].drop)
			continue;
		pkts[i].drop = (uint8_t)open_prepare(sa, &pkts[i], &frames[k], &jobs[k]);
		k += !pkts[i].drop;
	}
	aead_open(sa->aead, jobs, k);
	k = 0;
	for (unsigned int i = 0; i < n; i++)
		if (!pkts[i].drop)
			pkts[i].drop = (uint8_t)open_finish(sa, &pkts[i], &jobs[k++], lost);
}

enum drop esp_resync(struct sa_in *sa, struct esp_pkt *p, const uint8_t *copy, uint32_t len,
		     unsigned int skip, unsigned int tries)
{
	uint64_t first = (p->seq >> 32) + 1 + skip, hi;
	struct aead_job job;
	struct frame frame;

	if (!sa->replay.esn || p->drop != DROP_ICV_FAIL)
		return p->drop;
	for (hi = first; hi < first + tries && hi <= UINT32_MAX; hi++) {
		memcpy(p->data, copy, len);
		p->len = len;
		p->seq = hi << 32 | (uint32_t)p->seq;
		fill_job(&job, &frame, p->data, len - esp_headroom(sa->layout) - sa->layout.icv_len, sa->layout,
			 sa->kind, sa->salt, sa->spi_be, p->seq, true);
		aead_open(sa->aead, &job, 1);
		if (job.ok)
			return open_finish(sa, p, &job, NULL);
	}
	return DROP_ICV_FAIL;
}
