/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One function per struct names its fields once, in order; it reads or writes, as its cursor says. So what
 * is written is what is read.
 */
#include <errno.h>
#include <string.h>
#include "ike_wire.h"

/* struct cur - a record being written (out) or read (in) */
struct cur {
	uint8_t *out;
	const uint8_t *in;
	size_t at, len;
	bool bad;
};

static void f_num(struct cur *c, uint64_t *v, size_t bytes)
{
	if (c->len - c->at < bytes) {
		c->bad = true;
		return;
	}
	if (c->in)
		*v = 0;
	for (size_t i = 0; i < bytes; i++) {
		unsigned int shift = 8 * (bytes - 1 - i);

		if (c->in)
			*v |= (uint64_t)c->in[c->at + i] << shift;
		else
			c->out[c->at + i] = (uint8_t)(*v >> shift);
	}
	c->at += bytes;
}

static void f_u8(struct cur *c, uint8_t *v)
{
	uint64_t n = *v;

	f_num(c, &n, 1);
	*v = (uint8_t)n;
}

static void f_u16(struct cur *c, uint16_t *v)
{
	uint64_t n = *v;

	f_num(c, &n, 2);
	*v = (uint16_t)n;
}

static void f_u32(struct cur *c, uint32_t *v)
{
	uint64_t n = *v;

	f_num(c, &n, 4);
	*v = (uint32_t)n;
}

static void f_u64(struct cur *c, uint64_t *v)
{
	f_num(c, v, 8);
}

static void f_bool(struct cur *c, bool *v)
{
	uint64_t n = *v;

	f_num(c, &n, 1);
	c->bad |= n > 1;
	*v = n == 1;
}

static void f_bytes(struct cur *c, uint8_t *p, size_t n)
{
	if (c->len - c->at < n) {
		c->bad = true;
		return;
	}
	if (c->in)
		memcpy(p, c->in + c->at, n);
	else
		memcpy(c->out + c->at, p, n);
	c->at += n;
}

/* Always the whole room, so that a length says nothing about a key; what is beyond it is zero. */
static void f_key(struct cur *c, uint8_t *len, uint8_t key[IKE_KEY_MAX])
{
	uint8_t rest = 0;

	f_u8(c, len);
	f_bytes(c, key, IKE_KEY_MAX);
	c->bad |= *len > IKE_KEY_MAX;
	for (size_t i = *len; i < IKE_KEY_MAX; i++)
		rest |= key[i];
	c->bad |= rest != 0;
}

/* ---- one per struct ---- */

static void f_head(struct cur *c, struct ike_head *h)
{
	uint32_t magic = IKE_MAGIC;
	uint16_t version = IKE_VERSION;

	f_u32(c, &magic);
	f_u16(c, &version);
	f_u16(c, &h->type);
	f_u32(c, &h->seq);
	f_u32(c, &h->len);
	f_u64(c, &h->generation);
	c->bad |= magic != IKE_MAGIC || version != IKE_VERSION;
}

static void f_hello(struct cur *c, struct ike_hello *m)
{
	f_u32(c, &m->pid);
	f_bool(c, &m->events);
}

static void f_id(struct cur *c, struct ike_id *m)
{
	f_u32(c, &m->spi);
	f_u32(c, &m->if_id);
	f_bytes(c, m->src, sizeof m->src);
	f_bytes(c, m->dst, sizeof m->dst);
	f_bool(c, &m->inbound);
}

static void f_life(struct cur *c, struct ike_life *m)
{
	f_u64(c, &m->soft);
	f_u64(c, &m->hard);
}

static void f_sel(struct cur *c, struct ike_sel *m)
{
	for (int i = 0; i < 2; i++) {
		f_bytes(c, m->src[i], sizeof m->src[i]);
		f_bytes(c, m->dst[i], sizeof m->dst[i]);
		f_u16(c, &m->sport[i]);
		f_u16(c, &m->dport[i]);
	}
	f_u8(c, &m->proto);
	c->bad |= memcmp(m->src[0], m->src[1], sizeof m->src[0]) > 0 ||
		  memcmp(m->dst[0], m->dst[1], sizeof m->dst[0]) > 0;
}

static void f_add(struct cur *c, struct ike_add *m)
{
	f_id(c, &m->id);
	f_u16(c, &m->sport);
	f_u16(c, &m->dport);
	f_u32(c, &m->reqid);
	f_u32(c, &m->window);
	f_u32(c, &m->mark);
	f_u32(c, &m->tfc);
	f_u16(c, &m->enc_alg);
	f_u16(c, &m->int_alg);
	f_key(c, &m->enc_len, m->enc_key);
	f_key(c, &m->int_len, m->int_key);
	f_bool(c, &m->tunnel);
	f_bool(c, &m->esn);
	f_bool(c, &m->encap);
	f_bool(c, &m->initiator);
	f_life(c, &m->time_s);
	f_life(c, &m->bytes);
	f_life(c, &m->packets);
	f_u8(c, &m->n_sel);
	c->bad |= m->n_sel > IKE_SEL_MAX;
	for (unsigned int i = 0; !c->bad && i < m->n_sel; i++)
		f_sel(c, &m->sel[i]);
}

static void f_update(struct cur *c, struct ike_update *m)
{
	f_id(c, &m->id);
	f_bytes(c, m->src, sizeof m->src);
	f_bytes(c, m->dst, sizeof m->dst);
	f_u16(c, &m->sport);
	f_u16(c, &m->dport);
	f_bool(c, &m->encap);
}

static void f_reply(struct cur *c, struct ike_reply *m)
{
	f_u16(c, &m->status);
	f_u32(c, &m->spi);
	f_u64(c, &m->bytes);
	f_u64(c, &m->packets);
	f_u64(c, &m->idle_ms);
	c->bad |= m->status >= IKE_STATUS_MAX;
}

static void f_expire(struct cur *c, struct ike_expire *m)
{
	f_u32(c, &m->spi);
	f_bytes(c, m->dst, sizeof m->dst);
	f_bool(c, &m->hard);
}

static void f_mapping(struct cur *c, struct ike_mapping *m)
{
	f_u32(c, &m->spi);
	f_bytes(c, m->dst, sizeof m->dst);
	f_bytes(c, m->to, sizeof m->to);
	f_u16(c, &m->port);
}

static void f_acquire(struct cur *c, struct ike_acquire *m)
{
	f_u32(c, &m->if_id);
	f_u32(c, &m->reqid);
}

static void f_body(struct cur *c, struct ike_msg *m)
{
	switch (m->head.type) {
	case IKE_HELLO:
		f_hello(c, &m->hello);
		return;
	case IKE_GET_SPI:
	case IKE_FLUSH:
	case IKE_BYE:
		return;
	case IKE_ADD:
		f_add(c, &m->add);
		return;
	case IKE_UPDATE:
		f_update(c, &m->update);
		return;
	case IKE_QUERY:
	case IKE_DEL:
		f_id(c, &m->id);
		return;
	case IKE_EXPIRE:
		f_expire(c, &m->expire);
		return;
	case IKE_MAPPING:
		f_mapping(c, &m->mapping);
		return;
	case IKE_ACQUIRE:
		f_acquire(c, &m->acquire);
		return;
	}
	c->bad |= m->head.type <= IKE_REPLY || m->head.type > IKE_REPLY + IKE_BYE;
	f_reply(c, &m->reply);
}

int ike_encode(struct ike_msg *m, uint8_t *buf)
{
	struct cur c = {.out = buf, .len = IKE_RECORD_MAX};

	f_head(&c, &m->head);
	f_body(&c, m);
	if (c.bad) {
		ike_wipe(buf, c.at);
		return -EINVAL;
	}
	m->head.len = (uint32_t)c.at;
	c.at = 0;
	f_head(&c, &m->head);
	return (int)m->head.len;
}

int ike_decode(const uint8_t *buf, size_t len, struct ike_msg *m)
{
	struct cur c = {.in = buf, .len = len};
	bool other = len >= 6 && !memcmp(buf, "IPD1", 4) && (buf[4] << 8 | buf[5]) != IKE_VERSION;

	memset(m, 0, sizeof *m);
	f_head(&c, &m->head);
	if (!c.bad)
		f_body(&c, m);
	if (!c.bad && m->head.len == len && c.at == len)
		return 0;
	ike_wipe(m, sizeof *m);
	return other ? -EPROTONOSUPPORT : -EBADMSG;
}

void ike_wipe(void *p, size_t len)
{
	explicit_bzero(p, len);
}
