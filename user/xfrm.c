/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "xfrm.h" /* first: linux/xfrm.h must find netinet/in.h included */
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include <linux/udp.h>
#include <linux/xfrm.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

enum { PRIORITY = 1000 /* behind those for some packets only, whose priority is their width in bits */ };

/* ---- addresses ---- */

static uint16_t family(const struct in6_addr *a)
{
	return addr_is4(a) ? AF_INET : AF_INET6;
}

static void put_addr(xfrm_address_t *to, const struct in6_addr *a)
{
	memset(to, 0, sizeof *to);
	if (addr_is4(a))
		memcpy(&to->a4, a->s6_addr + 12, sizeof to->a4);
	else
		memcpy(to->a6, a, sizeof to->a6);
}

static struct in6_addr address(const xfrm_address_t *a, uint16_t fam)
{
	struct in6_addr to;

	if (fam != AF_INET6)
		return addr_from4((struct in_addr){a->a4});
	memcpy(&to, a->a6, sizeof to);
	return to;
}

/* ---- selectors ---- */

static bool bit(const struct in6_addr *a, unsigned int n)
{
	return a->s6_addr[n / 8] >> (7 - n % 8) & 1;
}

/* Return: its length of 128, -1 = that range is no prefix */
static int prefix_of(const struct in6_addr r[2])
{
	unsigned int n = 0, rest;

	while (n < 128 && bit(&r[0], n) == bit(&r[1], n))
		n++;
	for (rest = n; rest < 128; rest++)
		if (bit(&r[0], rest) || !bit(&r[1], rest))
			return -1;
	return (int)n;
}

/* Return: its mask, -1 = that range has none */
static int mask_of(const uint16_t r[2])
{
	uint16_t differ = r[0] ^ r[1];

	return r[0] > r[1] || differ & (differ + 1) || r[0] & differ ? -1 : (uint16_t)~differ;
}

bool xfrm_has_words(const struct sel *s)
{
	int sport = mask_of(s->sport), dport = mask_of(s->dport);
	bool ports = sport || dport;

	if (prefix_of(s->src) < 0 || prefix_of(s->dst) < 0 || sport < 0 || dport < 0)
		return false;
	return !ports || (s->proto && s->proto != IPPROTO_ICMP && s->proto != IPPROTO_ICMPV6);
}

/* NULL: 0/0 or ::/0 both ways */
static void put_selector(struct xfrm_selector *to, const struct sel *s, bool is4)
{
	to->family = is4 ? AF_INET : AF_INET6;
	if (!s)
		return;
	put_addr(&to->saddr, &s->src[0]);
	put_addr(&to->daddr, &s->dst[0]);
	to->prefixlen_s = (uint8_t)(prefix_of(s->src) - (is4 ? 96 : 0));
	to->prefixlen_d = (uint8_t)(prefix_of(s->dst) - (is4 ? 96 : 0));
	to->proto = s->proto;
	to->sport_mask = htons((uint16_t)mask_of(s->sport));
	to->dport_mask = htons((uint16_t)mask_of(s->dport));
	to->sport = htons((uint16_t)(s->sport[0] & mask_of(s->sport)));
	to->dport = htons((uint16_t)(s->dport[0] & mask_of(s->dport)));
}

/* Packets between those two and no others; an address that is not known: any. */
static void put_hosts(struct xfrm_selector *to, const struct in6_addr *src, const struct in6_addr *dst)
{
	uint8_t len = addr_is4(dst) ? 32 : 128;

	to->family = family(dst);
	put_addr(&to->daddr, dst);
	to->prefixlen_d = len;
	if (IN6_IS_ADDR_UNSPECIFIED(src))
		return;
	put_addr(&to->saddr, src);
	to->prefixlen_s = len;
}

static uint8_t mode_of(enum sa_mode mode)
{
	return mode == SA_TRANSPORT ? XFRM_MODE_BEET : XFRM_MODE_TUNNEL;
}

/* ---- suites ---- */

static const char *aead_words(enum aead_alg alg)
{
	switch (alg) {
	case AEAD_AES_GCM_128:
	case AEAD_AES_GCM_256:
		return "rfc4106(gcm(aes))";
	case AEAD_AES_GMAC_128:
	case AEAD_AES_GMAC_256:
		return "rfc4543(gcm(aes))";
	case AEAD_CHACHA20_POLY1305:
		return "rfc7539esp(chacha20,poly1305)";
	default:
		return NULL;
	}
}

static const char *hmac_words(enum aead_alg alg)
{
	switch (alg) {
	case AEAD_CBC_128_SHA1:
	case AEAD_CBC_256_SHA1:
		return "hmac(sha1)";
	case AEAD_CBC_128_SHA256:
	case AEAD_CBC_256_SHA256:
	case AEAD_NULL_SHA256:
		return "hmac(sha256)";
	case AEAD_CBC_256_SHA384:
	case AEAD_NULL_SHA384:
		return "hmac(sha384)";
	case AEAD_CBC_256_SHA512:
	case AEAD_NULL_SHA512:
		return "hmac(sha512)";
	default:
		return NULL;
	}
}

static void put_aead(struct nlmsghdr *h, const struct sa_conf *c, const struct aead_desc *a)
{
	struct {
		struct xfrm_algo_aead alg;
		uint8_t key[AEAD_KEY_MAX + AEAD_SALT_LEN];
	} p = {0};
	size_t n = a->key_len;

	snprintf(p.alg.alg_name, sizeof p.alg.alg_name, "%s", aead_words(c->alg));
	memcpy(p.alg.alg_key, c->key, n);
	memcpy(p.alg.alg_key + n, c->salt, a->salt_len);
	n += a->salt_len;
	p.alg.alg_key_len = n * 8;
	p.alg.alg_icv_len = a->icv_len * 8;
	mnl_attr_put(h, XFRMA_ALG_AEAD, sizeof p.alg + n, &p);
	explicit_bzero(&p, sizeof p);
}

static void put_cipher(struct nlmsghdr *h, const struct sa_conf *c, const struct aead_desc *a)
{
	struct {
		struct xfrm_algo alg;
		uint8_t key[AEAD_KEY_MAX];
	} p = {0};

	snprintf(p.alg.alg_name, sizeof p.alg.alg_name, "%s", a->key_len ? "cbc(aes)" : "ecb(cipher_null)");
	memcpy(p.alg.alg_key, c->key, a->key_len);
	p.alg.alg_key_len = a->key_len * 8;
	mnl_attr_put(h, XFRMA_ALG_CRYPT, sizeof p.alg + a->key_len, &p);
	explicit_bzero(&p, sizeof p);
}

static void put_hmac(struct nlmsghdr *h, const struct sa_conf *c, const struct aead_desc *a)
{
	struct {
		struct xfrm_algo_auth alg;
		uint8_t key[AEAD_KEY_MAX];
	} p = {0};

	snprintf(p.alg.alg_name, sizeof p.alg.alg_name, "%s", hmac_words(c->alg));
	memcpy(p.alg.alg_key, c->key + a->key_len, a->auth_key_len);
	p.alg.alg_key_len = a->auth_key_len * 8;
	p.alg.alg_trunc_len = a->icv_len * 8;
	mnl_attr_put(h, XFRMA_ALG_AUTH_TRUNC, sizeof p.alg + a->auth_key_len, &p);
	explicit_bzero(&p, sizeof p);
}

static bool put_suite(struct nlmsghdr *h, const struct sa_conf *c)
{
	const struct aead_desc *a = aead_by_alg(c->alg);

	if (a && aead_words(c->alg)) {
		put_aead(h, c, a);
		return true;
	}
	if (!a || !hmac_words(c->alg))
		return false;
	put_cipher(h, c, a);
	put_hmac(h, c, a);
	return true;
}

/* ---- states ---- */

/* All numbers up to seq count as seen: what was heard before this state was made is not taken twice (I2). */
static bool put_numbers(struct nlmsghdr *h, const struct xstate *s)
{
	struct {
		struct xfrm_replay_state_esn esn;
		uint32_t bmp[XFRM_WINDOW_MAX / 32];
	} p = {0};
	bool out = s->conf->dir == SA_OUT;
	uint32_t window = out ? XFRM_WINDOW_OUT : s->conf->window;

	if (!window || window > XFRM_WINDOW_MAX)
		return false;
	p.esn.bmp_len = (window + 31) / 32;
	p.esn.replay_window = window;
	if (out) {
		p.esn.oseq = (uint32_t)s->seq;
		p.esn.oseq_hi = (uint32_t)(s->seq >> 32);
	} else {
		p.esn.seq = (uint32_t)s->seq;
		p.esn.seq_hi = (uint32_t)(s->seq >> 32);
		if (s->seq)
			memset(p.esn.bmp, 0xff, p.esn.bmp_len * sizeof p.esn.bmp[0]);
	}
	/* without its words the bitmap is empty */
	mnl_attr_put(h, XFRMA_REPLAY_ESN_VAL, sizeof p.esn + (out || !s->seq ? 0 : p.esn.bmp_len * sizeof p.esn.bmp[0]), &p);
	return true;
}

/* Without a threshold it would tell of every packet that comes from elsewhere. */
static void put_encap(struct nlmsghdr *h, const struct xstate *s)
{
	struct xfrm_encap_tmpl e = {.encap_type = UDP_ENCAP_ESPINUDP, .encap_sport = htons(s->sport),
				    .encap_dport = htons(s->dport)};

	if (!s->sport)
		return;
	mnl_attr_put(h, XFRMA_ENCAP, sizeof e, &e);
	if (s->conf->dir == SA_IN)
		mnl_attr_put_u32(h, XFRMA_MTIMER_THRESH, XFRM_MOVED_S);
}

static void put_offload(struct nlmsghdr *h, const struct xstate *s)
{
	struct xfrm_user_offload o = {.ifindex = s->offload, .flags = s->conf->dir == SA_IN ? XFRM_OFFLOAD_INBOUND : 0};

	if (s->offload)
		mnl_attr_put(h, XFRMA_OFFLOAD_DEV, sizeof o, &o);
}

static void put_no_limit(struct xfrm_lifetime_cfg *l)
{
	l->soft_byte_limit = l->hard_byte_limit = XFRM_INF;
	l->soft_packet_limit = l->hard_packet_limit = XFRM_INF;
}

static struct nlmsghdr *state_msg(void *buf, uint16_t type, const struct xstate *s)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct xfrm_usersa_info i = {0}; /* 64-bit members behind a 4-byte aligned header */

	h->nlmsg_type = type;
	put_addr(&i.id.daddr, &s->dst);
	put_addr(&i.saddr, &s->src);
	i.id.spi = htonl(s->conf->spi);
	i.id.proto = IPPROTO_ESP;
	i.family = family(&s->dst);
	i.reqid = s->if_id;
	i.mode = mode_of(s->conf->mode);
	put_no_limit(&i.lft);
	if (s->hard_pkts)
		i.lft.hard_packet_limit = s->hard_pkts;
	if (s->hard_bytes)
		i.lft.hard_byte_limit = s->hard_bytes;
	i.lft.hard_add_expires_seconds = s->hard_s;
	i.flags = (s->conf->esn ? XFRM_STATE_ESN : 0) | (s->no_ecn ? XFRM_STATE_NOECN : 0) |
		  (s->no_pmtu ? XFRM_STATE_NOPMTUDISC : 0);
	if (s->sel)
		put_selector(&i.sel, s->sel, addr_is4(&s->sel->src[0]));
	else if (s->conf->mode == SA_TRANSPORT)
		put_hosts(&i.sel, &s->src, &s->dst);
	else
		i.flags |= XFRM_STATE_AF_UNSPEC;
	memcpy(mnl_nlmsg_put_extra_header(h, sizeof i), &i, sizeof i);
	if (!put_suite(h, s->conf) || !put_numbers(h, s))
		return NULL;
	put_encap(h, s);
	mnl_attr_put_u32(h, XFRMA_IF_ID, s->if_id);
	if (s->mark && s->conf->dir == SA_OUT)
		mnl_attr_put_u32(h, XFRMA_SET_MARK, s->mark);
	put_offload(h, s);
	return h;
}

struct nlmsghdr *xfrm_state_msg(void *buf, const struct xstate *s)
{
	return state_msg(buf, XFRM_MSG_NEWSA, s);
}

struct nlmsghdr *xfrm_limit_msg(void *buf, const struct xstate *s)
{
	struct sa_conf blank = *s->conf;
	struct xstate t = *s;

	sa_conf_wipe(&blank);
	t.conf = &blank;
	t.offload = 0; /* it would be asked for a state of its own, which the kernel makes for the length of this message */
	return state_msg(buf, XFRM_MSG_UPDSA, &t);
}

static struct nlmsghdr *about_state(void *buf, uint16_t type, size_t head, const struct in6_addr *dst, uint32_t spi)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct xfrm_usersa_id id = {.spi = htonl(spi), .family = family(dst), .proto = IPPROTO_ESP};

	h->nlmsg_type = type;
	put_addr(&id.daddr, dst);
	memcpy(mnl_nlmsg_put_extra_header(h, head), &id, sizeof id); /* struct xfrm_aevent_id begins with it */
	return h;
}

struct nlmsghdr *xfrm_state_del_msg(void *buf, const struct in6_addr *dst, uint32_t spi)
{
	return about_state(buf, XFRM_MSG_DELSA, sizeof(struct xfrm_usersa_id), dst, spi);
}

struct nlmsghdr *xfrm_use_msg(void *buf, const struct in6_addr *dst, uint32_t spi)
{
	return about_state(buf, XFRM_MSG_GETAE, sizeof(struct xfrm_aevent_id), dst, spi);
}

struct nlmsghdr *xfrm_seq_msg(void *buf, const struct in6_addr *dst, uint32_t spi, uint64_t seq)
{
	struct nlmsghdr *h = about_state(buf, XFRM_MSG_NEWAE, sizeof(struct xfrm_aevent_id), dst, spi);
	struct {
		struct xfrm_replay_state_esn esn;
		uint32_t bmp[XFRM_WINDOW_OUT / 32];
	} p = {0};

	h->nlmsg_flags |= NLM_F_REPLACE;
	p.esn.bmp_len = ARRAY_SIZE(p.bmp);
	p.esn.replay_window = XFRM_WINDOW_OUT;
	p.esn.oseq = (uint32_t)seq;
	p.esn.oseq_hi = (uint32_t)(seq >> 32);
	mnl_attr_put(h, XFRMA_REPLAY_ESN_VAL, sizeof p, &p);
	return h;
}

bool xfrm_use_read(const struct nlmsghdr *h, enum sa_dir dir, struct xuse *u)
{
	struct xfrm_replay_state_esn r;
	struct xfrm_lifetime_cur c;
	unsigned int seen = 0;
	struct xfrm_aevent_id id;
	const struct nlattr *a;

	*u = (struct xuse){0};
	if (h->nlmsg_type != XFRM_MSG_NEWAE || mnl_nlmsg_get_payload_len(h) < sizeof id)
		return false;
	memcpy(&id, mnl_nlmsg_get_payload(h), sizeof id);
	u->src = address(&id.saddr, id.sa_id.family);
	mnl_attr_for_each(a, h, sizeof(struct xfrm_aevent_id))
	{
		uint16_t type = mnl_attr_get_type(a), len = mnl_attr_get_payload_len(a);

		if (type == XFRMA_LTIME_VAL && len >= sizeof c) {
			memcpy(&c, mnl_attr_get_payload(a), sizeof c);
			u->pkts = c.packets;
			u->bytes = c.bytes;
			u->made_s = c.add_time;
			seen |= 1;
		} else if (type == XFRMA_REPLAY_ESN_VAL && len >= sizeof r) {
			memcpy(&r, mnl_attr_get_payload(a), sizeof r);
			u->seq = dir == SA_OUT ? (uint64_t)r.oseq_hi << 32 | r.oseq : (uint64_t)r.seq_hi << 32 | r.seq;
			seen |= 2;
		}
	}
	return seen == 3;
}

struct nlmsghdr *xfrm_err_msg(void *buf, const struct in6_addr *dst, uint32_t spi)
{
	return about_state(buf, XFRM_MSG_GETSA, sizeof(struct xfrm_usersa_id), dst, spi);
}

bool xfrm_err_read(const struct nlmsghdr *h, struct xerr *e)
{
	struct xfrm_usersa_info i;

	if (h->nlmsg_type != XFRM_MSG_NEWSA || mnl_nlmsg_get_payload_len(h) < sizeof i)
		return false;
	memcpy(&i, mnl_nlmsg_get_payload(h), sizeof i);
	*e = (struct xerr){i.stats.replay_window, i.stats.replay, i.stats.integrity_failed};
	return true;
}

bool xfrm_offload_read(const struct nlmsghdr *h, int *ifindex)
{
	struct xfrm_user_offload o;
	const struct nlattr *a;

	if (h->nlmsg_type != XFRM_MSG_NEWSA || mnl_nlmsg_get_payload_len(h) < sizeof(struct xfrm_usersa_info))
		return false;
	*ifindex = 0;
	mnl_attr_for_each(a, h, sizeof(struct xfrm_usersa_info))
	{
		if (mnl_attr_get_type(a) != XFRMA_OFFLOAD_DEV || mnl_attr_get_payload_len(a) < sizeof o)
			continue;
		memcpy(&o, mnl_attr_get_payload(a), sizeof o);
		*ifindex = o.ifindex;
	}
	return true;
}

int xfrm_watch(void)
{
	struct sockaddr_nl sa = {.nl_family = AF_NETLINK, .nl_groups = XFRMGRP_EXPIRE | 1 << (XFRMNLGRP_MAPPING - 1)};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_XFRM), err;

	if (fd < 0)
		return -errno;
	if (!bind(fd, (struct sockaddr *)&sa, sizeof sa))
		return fd;
	err = -errno;
	close(fd);
	return err;
}

static uint32_t if_id_of(const struct nlmsghdr *h, size_t head)
{
	const struct nlattr *a;

	mnl_attr_for_each(a, h, head)
		if (mnl_attr_get_type(a) == XFRMA_IF_ID && mnl_attr_get_payload_len(a) >= sizeof(uint32_t))
			return mnl_attr_get_u32(a);
	return 0;
}

bool xfrm_expire_read(const struct nlmsghdr *h, struct xexpire *e)
{
	struct xfrm_user_expire x;

	if (h->nlmsg_type != XFRM_MSG_EXPIRE || mnl_nlmsg_get_payload_len(h) < sizeof x)
		return false;
	memcpy(&x, mnl_nlmsg_get_payload(h), sizeof x);
	*e = (struct xexpire){.spi = ntohl(x.state.id.spi), .if_id = if_id_of(h, sizeof x),
			      .dst = address(&x.state.id.daddr, x.state.family), .hard = x.hard,
			      .pkts = x.state.curlft.packets, .bytes = x.state.curlft.bytes,
			      .by_pkts = x.state.curlft.packets >= x.state.lft.hard_packet_limit,
			      .by_bytes = x.state.curlft.bytes >= x.state.lft.hard_byte_limit};
	return x.state.id.proto == IPPROTO_ESP;
}

bool xfrm_mapping_read(const struct nlmsghdr *h, struct xmapping *m)
{
	struct xfrm_user_mapping x;

	if (h->nlmsg_type != XFRM_MSG_MAPPING || mnl_nlmsg_get_payload_len(h) < sizeof x)
		return false;
	memcpy(&x, mnl_nlmsg_get_payload(h), sizeof x);
	*m = (struct xmapping){.spi = ntohl(x.id.spi), .if_id = x.reqid, .dst = address(&x.id.daddr, x.id.family),
			       .to = address(&x.new_saddr, x.id.family), .port = ntohs(x.new_sport)};
	return x.id.proto == IPPROTO_ESP;
}

/* ---- policies ---- */

static struct xfrm_user_tmpl template(const struct xpolicy *p)
{
	struct xfrm_user_tmpl t = {.family = p->outer4 ? AF_INET : AF_INET6, .reqid = p->if_id,
				   .mode = mode_of(p->mode),
				   .aalgos = UINT32_MAX, .ealgos = UINT32_MAX, .calgos = UINT32_MAX};

	t.id.proto = IPPROTO_ESP;
	if (!p->out)
		return t;
	t.id.spi = htonl(p->spi);
	put_addr(&t.id.daddr, &p->dst);
	put_addr(&t.saddr, &p->src);
	return t;
}

struct nlmsghdr *xfrm_policy_msg(void *buf, const struct xpolicy *p)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct xfrm_user_tmpl t = template(p);
	struct xfrm_userpolicy_info i = {0};

	h->nlmsg_type = XFRM_MSG_UPDPOLICY;
	put_selector(&i.sel, p->sel, p->is4);
	put_no_limit(&i.lft);
	i.priority = p->sel ? sels_width(p->sel, 1) : PRIORITY;
	i.dir = p->out ? XFRM_POLICY_OUT : XFRM_POLICY_IN;
	i.action = XFRM_POLICY_ALLOW;
	i.share = XFRM_SHARE_ANY;
	memcpy(mnl_nlmsg_put_extra_header(h, sizeof i), &i, sizeof i);
	mnl_attr_put(h, XFRMA_TMPL, sizeof t, &t);
	mnl_attr_put_u32(h, XFRMA_IF_ID, p->if_id);
	return h;
}

static struct nlmsghdr *about_policy(void *buf, uint16_t type, const struct xpolicy *p)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct xfrm_userpolicy_id id = {0};

	h->nlmsg_type = type;
	put_selector(&id.sel, p->sel, p->is4);
	id.index = p->index;
	id.dir = p->out ? XFRM_POLICY_OUT : XFRM_POLICY_IN;
	memcpy(mnl_nlmsg_put_extra_header(h, sizeof id), &id, sizeof id);
	mnl_attr_put_u32(h, XFRMA_IF_ID, p->if_id);
	return h;
}

struct nlmsghdr *xfrm_policy_get_msg(void *buf, const struct xpolicy *p)
{
	return about_policy(buf, XFRM_MSG_GETPOLICY, p);
}

struct nlmsghdr *xfrm_policy_del_msg(void *buf, const struct xpolicy *p)
{
	return about_policy(buf, XFRM_MSG_DELPOLICY, p);
}

/* ---- everything of ours ---- */

uint32_t xfrm_if_id(const char *instance)
{
	uint32_t h = 2166136261u; /* FNV-1a */

	for (; *instance; instance++)
		h = (h ^ (uint8_t)*instance) * 16777619u;
	return 0xe0000000u | ((h ^ h >> 12) & 0xfff) << 16;
}

static bool read_state(const struct nlmsghdr *h, void *row)
{
	struct xfrm_usersa_info i;
	struct xfound *f = row;

	if (h->nlmsg_type != XFRM_MSG_NEWSA || mnl_nlmsg_get_payload_len(h) < sizeof i)
		return false;
	memcpy(&i, mnl_nlmsg_get_payload(h), sizeof i);
	f->if_id = if_id_of(h, sizeof i);
	f->spi = ntohl(i.id.spi);
	f->dst = address(&i.id.daddr, i.family);
	return i.id.proto == IPPROTO_ESP;
}

static bool read_policy(const struct nlmsghdr *h, void *row)
{
	struct xfrm_userpolicy_info i;
	struct xfound *f = row;

	if (h->nlmsg_type != XFRM_MSG_NEWPOLICY || mnl_nlmsg_get_payload_len(h) < sizeof i)
		return false;
	memcpy(&i, mnl_nlmsg_get_payload(h), sizeof i);
	f->if_id = if_id_of(h, sizeof i);
	f->out = i.dir == XFRM_POLICY_OUT;
	f->is4 = i.sel.family == AF_INET;
	f->whole = !i.sel.prefixlen_s && !i.sel.prefixlen_d && !i.sel.proto;
	f->index = i.index;
	return i.dir == XFRM_POLICY_OUT || i.dir == XFRM_POLICY_IN;
}

/* struct sweep - what is to be deleted */
struct sweep {
	uint32_t mask, if_id;
	bool (*keep)(void *arg, const struct xfound *f);
	void *arg;
};

static int each_found(struct nl *bus, uint16_t type, size_t head, nl_row_fn read, const struct sweep *s)
{
	_Alignas(8) char buf[XFRM_MSG_LEN];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct xfound *f;
	void *rows;
	size_t n;
	int err, first = 0;

	h->nlmsg_type = type;
	mnl_nlmsg_put_extra_header(h, head);
	err = nl_dump(bus, h, sizeof *f, read, &rows, &n);
	nl_wipe(bus);
	if (err)
		return err;
	f = rows;
	for (size_t i = 0; i < n; i++) {
		struct xpolicy p = {.out = f[i].out, .is4 = f[i].is4, .if_id = f[i].if_id, .index = f[i].index};

		if ((f[i].if_id & s->mask) != s->if_id || (s->keep && s->keep(s->arg, &f[i])))
			continue;
		err = nl_request(bus, type == XFRM_MSG_GETSA ? xfrm_state_del_msg(buf, &f[i].dst, f[i].spi)
							     : xfrm_policy_del_msg(buf, &p), NULL, NULL);
		first = first ? first : err == -ENOENT || err == -ESRCH ? 0 : err;
	}
	free(rows);
	return first;
}

int xfrm_sweep(struct nl *bus, uint32_t mask, uint32_t if_id, bool (*keep)(void *arg, const struct xfound *f), void *arg)
{
	struct sweep s = {mask, if_id, keep, arg};
	int err = each_found(bus, XFRM_MSG_GETPOLICY, sizeof(struct xfrm_userpolicy_id), read_policy, &s);

	return each_found(bus, XFRM_MSG_GETSA, 0, read_state, &s) ?: err;
}

/* ---- what this kernel can ---- */

enum { PROBE_IF_ID = 0xe590ffff };

static int try_state(struct nl *bus)
{
	struct sa_conf c = {.dir = SA_OUT, .alg = AEAD_AES_GCM_128, .esn = true, .window = XFRM_WINDOW_OUT};
	struct xstate s = {.conf = &c, .if_id = PROBE_IF_ID};
	_Alignas(8) char buf[XFRM_MSG_LEN];
	int err;

	if (getrandom(c.key, sizeof c.key, 0) < 0 || getrandom(&c.spi, sizeof c.spi, 0) < 0)
		return -errno;
	c.spi |= SPI_MIN;
	addr_parse("192.0.2.1", &s.src);
	addr_parse("192.0.2.2", &s.dst);
	err = nl_request(bus, xfrm_state_msg(buf, &s), NULL, NULL);
	if (!err)
		nl_request(bus, xfrm_state_del_msg(buf, &s.dst, c.spi), NULL, NULL);
	return err;
}

static int try_device(struct nl *nl)
{
	struct nl_link made;
	int err = nl_xfrm_add(nl, "xprobe", PROBE_IF_ID, -1);

	if (!err && !nl_link_get(nl, "xprobe", &made))
		nl_link_del(nl, made.ifindex);
	return err;
}

int xfrm_probe(int netns_fd, struct nl *nl, char *why, size_t len)
{
	struct nl *bus;
	int err = nl_open_bus(&bus, netns_fd, NETLINK_XFRM);

	if (err) {
		snprintf(why, len, "this kernel has no XFRM (CONFIG_XFRM_USER): %s", strerror(-err));
		return -EOPNOTSUPP;
	}
	err = try_state(bus);
	nl_close(bus);
	if (err) {
		snprintf(why, len, "this kernel does no ESP (CONFIG_INET_ESP, module esp4): %s", strerror(-err));
		return -EOPNOTSUPP;
	}
	err = try_device(nl);
	if (err) {
		snprintf(why, len, "this kernel has no xfrm devices (CONFIG_XFRM_INTERFACE): %s", strerror(-err));
		return -EOPNOTSUPP;
	}
	return 0;
}
