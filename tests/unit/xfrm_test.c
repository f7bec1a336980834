/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xfrm: what we send is what iproute2 6.1 sends for the same wish, to the byte, whatever the order of attributes;
 * what the kernel answers is read; keys go nowhere else.
 *
 * Golden bytes: `ip xfrm ...` as given, its sendmsg() in hex.
 */
#include <arpa/inet.h>
#include <errno.h>
#include "crypto_rig.h"
#include "xfrm.h"
#include <libmnl/libmnl.h>
#include <linux/xfrm.h>

#include "xfrm_golden.h"

static struct in6_addr ip(const char *s)
{
	struct in6_addr a;

	assert_int_equal(addr_parse(s, &a), 0);
	return a;
}

/* Bytes 1, 2, 3 ... as keys; the salt goes on where the key ends. */
static struct sa_conf conf(enum aead_alg alg, enum sa_dir dir)
{
	const struct aead_desc *d = aead_by_alg(alg);
	struct sa_conf c = {.dir = dir, .spi = 0x12345678, .alg = alg, .esn = true, .window = 64};

	for (size_t i = 0; i < aead_key_bytes(d); i++)
		c.key[i] = (uint8_t)(i + 1);
	for (size_t i = 0; i < d->salt_len; i++)
		c.salt[i] = (uint8_t)(d->key_len + i + 1);
	return c;
}

static struct xstate state(const struct sa_conf *c, const char *src, const char *dst)
{
	return (struct xstate){.conf = c, .src = ip(src), .dst = ip(dst), .if_id = 0xe5010007};
}

/* The fixed part equal, and the same attributes with the same bytes. */
static void same_message(const struct nlmsghdr *h, const char *golden, size_t head)
{
	_Alignas(8) uint8_t buf[XFRM_MSG_LEN];
	const struct nlmsghdr *g = (const struct nlmsghdr *)buf;
	const struct nlattr *a, *b;
	size_t len = rig_hex(golden, buf, sizeof buf);
	unsigned int n = 0, m = 0;

	assert_non_null(h);
	assert_int_equal(len, g->nlmsg_len);
	assert_int_equal(h->nlmsg_type, g->nlmsg_type);
	assert_memory_equal(mnl_nlmsg_get_payload(h), mnl_nlmsg_get_payload(g), head);
	mnl_attr_for_each(a, g, head)
	{
		const struct nlattr *found = NULL;

		n++;
		mnl_attr_for_each(b, h, head)
			if (mnl_attr_get_type(b) == mnl_attr_get_type(a))
				found = b;
		if (!found)
			fail_msg("no attribute %u", mnl_attr_get_type(a));
		if (mnl_attr_get_payload_len(found) != mnl_attr_get_payload_len(a))
			fail_msg("attribute %u: %u bytes, not %u", mnl_attr_get_type(a), mnl_attr_get_payload_len(found),
				 mnl_attr_get_payload_len(a));
		assert_memory_equal(mnl_attr_get_payload(found), mnl_attr_get_payload(a), mnl_attr_get_payload_len(a));
	}
	mnl_attr_for_each(b, h, head)
		m++;
	assert_int_equal(m, n);
}

static void same_state(const struct xstate *s, const char *golden)
{
	_Alignas(8) char buf[XFRM_MSG_LEN];

	same_message(xfrm_state_msg(buf, s), golden, sizeof(struct xfrm_usersa_info));
}

static void test_states(void **st)
{
	struct sa_conf c = conf(AEAD_AES_GCM_256, SA_OUT);
	struct xstate s = state(&c, "198.51.100.1", "198.51.100.2");

	s.seq = 0x500000007;
	s.mark = 0x51;
	same_state(&s, GOLDEN_GCM256_OUT);
	c = conf(AEAD_AES_GCM_128, SA_IN);
	s = state(&c, "2001:db8::1", "2001:db8::2");
	same_state(&s, GOLDEN_GCM128_IN6);
	s.sport = 20612;
	s.dport = 4500;
	same_state(&s, GOLDEN_GCM128_IN6_UDP);
	c = conf(AEAD_CHACHA20_POLY1305, SA_OUT);
	s = state(&c, "198.51.100.1", "198.51.100.2");
	s.sport = s.dport = 4500;
	s.hard_pkts = 1000;
	s.no_ecn = s.no_pmtu = true;
	same_state(&s, GOLDEN_CHACHA_UDP);
	c = conf(AEAD_AES_GMAC_256, SA_OUT);
	same_state(&(struct xstate){.conf = &c, .src = s.src, .dst = s.dst, .if_id = s.if_id}, GOLDEN_GMAC);
	c = conf(AEAD_CBC_256_SHA512, SA_OUT);
	same_state(&(struct xstate){.conf = &c, .src = s.src, .dst = s.dst, .if_id = s.if_id}, GOLDEN_CBC);
	c = conf(AEAD_NULL_SHA256, SA_OUT);
	same_state(&(struct xstate){.conf = &c, .src = s.src, .dst = s.dst, .if_id = s.if_id}, GOLDEN_NULL);
}

/* Transport mode is mode BEET between the two ends, which are the selector; of a peer that is not known yet any. */
static void test_hosts(void **st)
{
	struct sa_conf c = conf(AEAD_AES_GCM_128, SA_OUT);
	struct xstate s = state(&c, "198.51.100.1", "198.51.100.2");
	struct xpolicy p = {.out = true, .is4 = true, .if_id = 0xe5010007, .src = s.src, .dst = s.dst, .outer4 = true, .spi = c.spi,
			    .mode = SA_TRANSPORT};
	_Alignas(8) char buf[XFRM_MSG_LEN];
	struct xfrm_usersa_info i;

	c.mode = SA_TRANSPORT;
	same_state(&s, GOLDEN_HOSTS_OUT);
	same_message(xfrm_policy_msg(buf, &p), GOLDEN_POLICY_HOSTS, sizeof(struct xfrm_userpolicy_info));
	c = conf(AEAD_AES_GCM_128, SA_IN);
	c.mode = SA_TRANSPORT;
	s = state(&c, "2001:db8::1", "2001:db8::2");
	same_state(&s, GOLDEN_HOSTS_IN6);
	s.src = in6addr_any;
	memcpy(&i, mnl_nlmsg_get_payload(xfrm_state_msg(buf, &s)), sizeof i);
	assert_int_equal(i.sel.prefixlen_s, 0);
	assert_int_equal(i.sel.prefixlen_d, 128);
	assert_int_equal(i.sel.family, AF_INET6);
}

static void test_policies(void **st)
{
	struct xpolicy p = {.out = true, .is4 = true, .if_id = 0xe5010007, .src = ip("198.51.100.1"), .dst = ip("198.51.100.2"),
			    .outer4 = true, .spi = 0x12345678};
	_Alignas(8) char buf[XFRM_MSG_LEN];

	same_message(xfrm_policy_msg(buf, &p), GOLDEN_POLICY_OUT, sizeof(struct xfrm_userpolicy_info));
	same_message(xfrm_policy_del_msg(buf, &p), GOLDEN_POLICY_DEL, sizeof(struct xfrm_userpolicy_id));
	same_message(xfrm_policy_get_msg(buf, &p), GOLDEN_POLICY_GET, sizeof(struct xfrm_userpolicy_id));
	p = (struct xpolicy){.if_id = 0xe5010007, .outer4 = true};
	same_message(xfrm_policy_msg(buf, &p), GOLDEN_POLICY_IN6, sizeof(struct xfrm_userpolicy_info));
}

static struct sel selector(const char *text)
{
	const char *why = "";
	struct sel s;

	if (sel_parse(&s, text, &why))
		fail_msg("%s: %s", text, why);
	return s;
}

/* For some packets only: the narrower the policy, the earlier it is asked. */
static void test_selectors(void **st)
{
	static const struct {
		const char *text;
		bool words;
	} rows[] = {
		{"10.1.0.0/16 10.2.0.9[tcp/80]", true},	     {"0.0.0.0/0 0.0.0.0/0", true},
		{"::/0 fd01::/64[udp]", true},		     {"10.1.0.0/16 10.2.0.0/16[icmp]", true},
		{"10.1.0.0/16 10.2.0.0/16[tcp/1024-2047]", true}, {"10.1.0.0/16 10.2.0.0/16[tcp/1024-2048]", false},
		{"10.1.0.0/16 10.2.0.0/16[tcp/80-81]", true}, {"10.1.0.0/16 10.2.0.0/16[tcp/81-82]", false},
		{"10.1.0.1-10.1.0.2 10.2.0.0/16", false},    {"10.1.0.0-10.1.0.1 10.2.0.0/16", true},
		{"fd01::1-fd01::4 fd02::/64", false},	     {"10.1.0.0/16 10.2.0.0/16[icmp/2048]", false},
	};
	struct sel s = selector("10.1.0.0/16 10.2.0.0/24[udp/4711]");
	struct xpolicy p = {.out = true, .is4 = true, .if_id = 0xe5010007, .src = ip("198.51.100.1"), .dst = ip("198.51.100.2"),
			    .outer4 = true, .spi = 0x12345678, .sel = &s};
	struct sa_conf c = conf(AEAD_AES_GCM_128, SA_IN);
	struct xstate x = state(&c, "198.51.100.2", "198.51.100.1");
	_Alignas(8) char buf[XFRM_MSG_LEN];

	same_message(xfrm_policy_msg(buf, &p), GOLDEN_POLICY_FOR, sizeof(struct xfrm_userpolicy_info));
	same_message(xfrm_policy_del_msg(buf, &p), GOLDEN_POLICY_FOR_DEL, sizeof(struct xfrm_userpolicy_id));
	s = selector("fd02::/48[tcp/80] fd01::/64");
	x.sel = &s;
	same_state(&x, GOLDEN_STATE_FOR);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		s = selector(rows[i].text);
		if (xfrm_has_words(&s) != rows[i].words)
			fail_msg("%s", rows[i].text);
	}
}

static void test_delete(void **st)
{
	struct in6_addr dst = ip("198.51.100.2");
	_Alignas(8) char buf[XFRM_MSG_LEN];
	struct nlmsghdr *h = xfrm_state_del_msg(buf, &dst, 0x12345678);
	uint8_t want[XFRM_MSG_LEN];

	/* iproute2 adds the source, which the kernel does not look at */
	rig_hex(GOLDEN_DELETE, want, sizeof want);
	assert_int_equal(h->nlmsg_type, ((struct nlmsghdr *)want)->nlmsg_type);
	assert_memory_equal(mnl_nlmsg_get_payload(h), want + MNL_NLMSG_HDRLEN, sizeof(struct xfrm_usersa_id));
}

/* What is not above seq counts as seen; and what the kernel has no words for makes no message. */
static void test_numbers(void **st)
{
	struct sa_conf c = conf(AEAD_AES_GCM_128, SA_IN);
	struct xstate s = state(&c, "198.51.100.2", "198.51.100.1");
	_Alignas(8) char buf[XFRM_MSG_LEN];
	const struct xfrm_replay_state_esn *r = NULL;
	const struct nlattr *a;
	struct nlmsghdr *h;

	s.seq = 0x1200000034;
	c.window = 4096;
	h = xfrm_state_msg(buf, &s);
	mnl_attr_for_each(a, h, sizeof(struct xfrm_usersa_info))
		if (mnl_attr_get_type(a) == XFRMA_REPLAY_ESN_VAL)
			r = mnl_attr_get_payload(a);
	assert_non_null(r);
	assert_int_equal(r->seq, 0x34);
	assert_int_equal(r->seq_hi, 0x12);
	assert_int_equal(r->oseq | r->oseq_hi, 0);
	assert_int_equal(r->bmp_len, 128);
	for (unsigned int i = 0; i < r->bmp_len; i++)
		assert_int_equal(r->bmp[i], UINT32_MAX);
	c.window = 4097;
	assert_null(xfrm_state_msg(buf, &s));
	c.window = 0;
	assert_null(xfrm_state_msg(buf, &s));
	c.window = 64;
	c.alg = AEAD_NONE;
	assert_null(xfrm_state_msg(buf, &s));
}

static bool holds(const uint8_t *p, size_t len, const uint8_t *key, size_t key_len)
{
	for (size_t i = 0; i + key_len <= len; i++)
		if (!memcmp(p + i, key, key_len))
			return true;
	return false;
}

/* An update of limits names the state and carries no key; the message that makes it does. */
static void test_limits_without_key(void **st)
{
	struct sa_conf c = conf(AEAD_AES_GCM_256, SA_OUT);
	struct xstate s = state(&c, "198.51.100.1", "198.51.100.2");
	_Alignas(8) char buf[XFRM_MSG_LEN] = {0};
	struct nlmsghdr *h = xfrm_state_msg(buf, &s);

	assert_true(holds((uint8_t *)h, h->nlmsg_len, c.key, 32));
	memset(buf, 0, sizeof buf);
	s.hard_pkts = 77;
	s.hard_bytes = 7777;
	s.hard_s = 60;
	h = xfrm_limit_msg(buf, &s);
	assert_int_equal(h->nlmsg_type, XFRM_MSG_UPDSA);
	assert_int_equal(((struct xfrm_usersa_info *)mnl_nlmsg_get_payload(h))->lft.hard_packet_limit, 77);
	assert_int_equal(((struct xfrm_usersa_info *)mnl_nlmsg_get_payload(h))->lft.hard_byte_limit, 7777);
	assert_int_equal(((struct xfrm_usersa_info *)mnl_nlmsg_get_payload(h))->lft.hard_add_expires_seconds, 60);
	assert_false(holds((uint8_t *)buf, sizeof buf, c.key, 8));
	assert_false(holds((uint8_t *)buf, sizeof buf, c.salt, 4));
	assert_int_equal(c.key[0], 1); /* the caller's stays */
}

static size_t attr_bytes(const struct nlmsghdr *h, uint16_t type, uint8_t *to, size_t len)
{
	const struct nlattr *a;

	mnl_attr_for_each(a, h, sizeof(struct xfrm_usersa_info))
	{
		size_t n = mnl_attr_get_payload_len(a);

		if (mnl_attr_get_type(a) != type)
			continue;
		memcpy(to, mnl_attr_get_payload(a), MIN(n, len));
		return n;
	}
	return 0;
}

/* As linux/xfrm.h has it: an int and flags, of which 2 says inbound. Asked of a state that is made, not of one that stands. */
static void test_offload(void **st)
{
	static const uint8_t out[] = {7, 1, 0, 0, 0}, in[] = {7, 1, 0, 0, 2};
	_Alignas(8) char buf[XFRM_MSG_LEN];
	uint8_t got[16] = {0};
	int ifindex = -1;

	for (enum sa_dir dir = SA_OUT; dir <= SA_IN; dir++) {
		struct sa_conf c = conf(AEAD_AES_GCM_128, dir);
		struct xstate s = state(&c, "198.51.100.1", "198.51.100.2");
		struct nlmsghdr *h = xfrm_state_msg(buf, &s);

		assert_int_equal(attr_bytes(h, XFRMA_OFFLOAD_DEV, got, sizeof got), 0);
		assert_true(xfrm_offload_read(h, &ifindex) && !ifindex); /* the answer is made like the request */
		s.offload = 0x107;
		h = xfrm_state_msg(buf, &s);
		assert_int_equal(attr_bytes(h, XFRMA_OFFLOAD_DEV, got, sizeof got), sizeof(struct xfrm_user_offload));
		assert_memory_equal(got, dir == SA_OUT ? out : in, sizeof out);
		assert_true(xfrm_offload_read(h, &ifindex) && ifindex == 0x107);
		h->nlmsg_type = XFRM_MSG_NEWAE;
		assert_false(xfrm_offload_read(h, &ifindex));
		assert_int_equal(attr_bytes(xfrm_limit_msg(buf, &s), XFRMA_OFFLOAD_DEV, got, sizeof got), 0);
	}
}

static void test_use(void **st)
{
	struct xfrm_replay_state_esn r = {.bmp_len = 1, .oseq = 9, .oseq_hi = 1, .seq = 7, .seq_hi = 2};
	struct xfrm_lifetime_cur cur = {.packets = 5, .bytes = 600};
	_Alignas(8) char buf[XFRM_MSG_LEN];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct xuse u;

	h->nlmsg_type = XFRM_MSG_NEWAE;
	mnl_nlmsg_put_extra_header(h, sizeof(struct xfrm_aevent_id));
	mnl_attr_put(h, XFRMA_REPLAY_ESN_VAL, sizeof r, &r);
	assert_false(xfrm_use_read(h, SA_OUT, &u));
	mnl_attr_put(h, XFRMA_LTIME_VAL, sizeof cur, &cur);
	assert_true(xfrm_use_read(h, SA_OUT, &u));
	assert_true(u.seq == 0x100000009 && u.pkts == 5 && u.bytes == 600);
	assert_true(xfrm_use_read(h, SA_IN, &u) && u.seq == 0x200000007);
	assert_true(IN6_IS_ADDR_V4MAPPED(&u.src)); /* of family 0: none */
	h->nlmsg_type = XFRM_MSG_NEWSA;
	assert_false(xfrm_use_read(h, SA_OUT, &u));
}

/* As linux/xfrm.h has it: who it is, NLM_F_REPLACE, and the whole of what it shall count from. */
static void test_raise(void **st)
{
	static const uint8_t want[] = {
		/* nlmsghdr: 96 bytes, XFRM_MSG_NEWAE, NLM_F_REPLACE */
		96, 0, 0, 0, 0x1e, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0,
		/* xfrm_aevent_id: 198.51.100.2, spi, AF_INET, ESP; no source, flags, reqid */
		198, 51, 100, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56, 0x78, 2, 0, 50, 0,
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		/* XFRMA_REPLAY_ESN_VAL: one word, oseq, seq, the high halves, window 32, the word */
		32, 0, 23, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0};
	struct in6_addr dst = ip("198.51.100.2");
	_Alignas(8) char buf[XFRM_MSG_LEN];
	struct nlmsghdr *h = xfrm_seq_msg(buf, &dst, 0x12345678, 0x500000007);

	assert_int_equal(h->nlmsg_len, sizeof want);
	assert_memory_equal(h, want, sizeof want);
}

/* The address that a state sends from is in the answer, too. */
static void test_use_source(void **st)
{
	struct xfrm_aevent_id id = {.sa_id.family = AF_INET};
	struct xfrm_replay_state_esn r = {.bmp_len = 1};
	struct xfrm_lifetime_cur cur = {0};
	_Alignas(8) char buf[XFRM_MSG_LEN];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct in6_addr src = ip("198.51.100.1");
	struct xuse u;

	h->nlmsg_type = XFRM_MSG_NEWAE;
	inet_pton(AF_INET, "198.51.100.1", &id.saddr.a4);
	memcpy(mnl_nlmsg_put_extra_header(h, sizeof id), &id, sizeof id);
	mnl_attr_put(h, XFRMA_REPLAY_ESN_VAL, sizeof r, &r);
	mnl_attr_put(h, XFRMA_LTIME_VAL, sizeof cur, &cur);
	assert_true(xfrm_use_read(h, SA_OUT, &u));
	assert_memory_equal(&u.src, &src, sizeof src);
}

/* Every instance its own, none near the small numbers people use. */
/* What a state has refused, and that its life is over and why. */
static void test_errors_and_expiry(void **st)
{
	struct xfrm_user_expire x = {.hard = 1};
	_Alignas(8) char buf[XFRM_MSG_LEN];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct xexpire e;
	struct xerr r;
	struct in6_addr dst = ip("198.51.100.2");

	x.state.id.spi = htonl(0x12345678);
	x.state.id.proto = IPPROTO_ESP;
	x.state.family = AF_INET;
	inet_pton(AF_INET, "198.51.100.2", &x.state.id.daddr.a4);
	x.state.stats = (struct xfrm_stats){.replay_window = 1, .replay = 2, .integrity_failed = 3};
	x.state.lft.hard_packet_limit = x.state.lft.hard_byte_limit = XFRM_INF;
	x.state.curlft.packets = 10;
	x.state.curlft.bytes = 5000;

	h->nlmsg_type = XFRM_MSG_NEWSA;
	memcpy(mnl_nlmsg_put_extra_header(h, sizeof x), &x, sizeof x);
	assert_true(xfrm_err_read(h, &r) && r.old == 1 && r.dup == 2 && r.icv == 3);
	assert_false(xfrm_expire_read(h, &e));

	h->nlmsg_type = XFRM_MSG_EXPIRE;
	mnl_attr_put_u32(h, XFRMA_IF_ID, 0xe5010007);
	assert_true(xfrm_expire_read(h, &e) && e.hard && !e.by_pkts && !e.by_bytes);
	assert_true(e.spi == 0x12345678 && e.if_id == 0xe5010007 && e.pkts == 10 && e.bytes == 5000);
	assert_memory_equal(&e.dst, &dst, sizeof e.dst);
	assert_false(xfrm_err_read(h, &r));
	x.state.lft.hard_packet_limit = 10;
	memcpy(mnl_nlmsg_get_payload(h), &x, sizeof x);
	assert_true(xfrm_expire_read(h, &e) && e.by_pkts && !e.by_bytes);
	x.state.lft.hard_byte_limit = 4999;
	x.hard = 0;
	memcpy(mnl_nlmsg_get_payload(h), &x, sizeof x);
	assert_true(xfrm_expire_read(h, &e) && e.by_bytes && !e.hard);
	h->nlmsg_len -= sizeof x;
	assert_false(xfrm_expire_read(h, &e));
}

/* A state that stands is told new ports, as the kernel takes them: with the whole of XFRMA_ENCAP. */
static void test_new_port(void **st)
{
	struct sa_conf c = conf(AEAD_AES_GCM_128, SA_OUT);
	struct xstate s = state(&c, "198.51.100.1", "198.51.100.2");
	_Alignas(8) char buf[XFRM_MSG_LEN];
	const struct xfrm_encap_tmpl *e = NULL;
	const struct nlattr *a;
	struct nlmsghdr *h;

	s.sport = 4500;
	s.dport = 20612;
	h = xfrm_limit_msg(buf, &s);
	mnl_attr_for_each(a, h, sizeof(struct xfrm_usersa_info))
		if (mnl_attr_get_type(a) == XFRMA_ENCAP)
			e = mnl_attr_get_payload(a);
	assert_int_equal(h->nlmsg_type, XFRM_MSG_UPDSA);
	assert_non_null(e);
	assert_int_equal(e->encap_type, 2); /* RFC 3948, not its drafts */
	assert_int_equal(ntohs(e->encap_sport), 4500);
	assert_int_equal(ntohs(e->encap_dport), 20612);
}

static void test_mapping(void **st)
{
	struct xfrm_user_mapping x = {.reqid = 0xe5010007, .new_sport = htons(20612), .old_sport = htons(4500)};
	struct in6_addr dst = ip("198.51.100.2"), to = ip("203.0.113.9");
	_Alignas(8) char buf[XFRM_MSG_LEN];
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct xmapping m;
	struct xexpire e;

	x.id = (struct xfrm_usersa_id){.spi = htonl(0x12345678), .family = AF_INET, .proto = IPPROTO_ESP};
	inet_pton(AF_INET, "198.51.100.2", &x.id.daddr.a4);
	inet_pton(AF_INET, "198.51.100.1", &x.old_saddr.a4);
	inet_pton(AF_INET, "203.0.113.9", &x.new_saddr.a4);
	h->nlmsg_type = XFRM_MSG_MAPPING;
	memcpy(mnl_nlmsg_put_extra_header(h, sizeof x), &x, sizeof x);
	assert_true(xfrm_mapping_read(h, &m));
	assert_true(m.spi == 0x12345678 && m.if_id == 0xe5010007 && m.port == 20612);
	assert_memory_equal(&m.dst, &dst, sizeof dst);
	assert_memory_equal(&m.to, &to, sizeof to);
	assert_false(xfrm_expire_read(h, &e));
	h->nlmsg_len -= 4;
	assert_false(xfrm_mapping_read(h, &m));
	h->nlmsg_len += 4;
	h->nlmsg_type = XFRM_MSG_EXPIRE;
	assert_false(xfrm_mapping_read(h, &m));
}

static void test_if_ids(void **st)
{
	assert_int_not_equal(xfrm_if_id("default"), xfrm_if_id("lab"));
	assert_int_equal(xfrm_if_id("default") & ~XFRM_IF_ID_MASK, 0);
	assert_int_equal(xfrm_if_id("default") >> 28, 0xe);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_states),	cmocka_unit_test(test_policies),
		cmocka_unit_test(test_hosts), cmocka_unit_test(test_selectors),
		cmocka_unit_test(test_delete),
		cmocka_unit_test(test_numbers), cmocka_unit_test(test_limits_without_key), cmocka_unit_test(test_offload),
		cmocka_unit_test(test_use),	cmocka_unit_test(test_use_source), cmocka_unit_test(test_raise),
		cmocka_unit_test(test_errors_and_expiry), cmocka_unit_test(test_new_port),
		cmocka_unit_test(test_mapping), cmocka_unit_test(test_if_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
