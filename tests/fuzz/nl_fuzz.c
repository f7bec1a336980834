/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nl_fuzz - what comes back on a netlink socket: acknowledgements, dumps and notifications of any shape.
 *
 * Input: choices, then datagrams, each a 2-byte length and its messages. They are fed to a dump, to a route
 * query and to the monitor; every message is parsed once more in memory of exactly its size. Held up: an answer is
 * 0 or a negative errno; texts end inside their fields; there are never more rows than messages.
 * wraps: mnl_socket_recvfrom mnl_socket_sendto
 */
#include <limits.h>
#include "../../user/nl.c"
#include "fuzz_main.h"

enum { WHAT = 3, OWN_SEQ = 4, DATAGRAMS = 8 };

static struct fuzz_in in;
static uint8_t choice;
static struct nl nl;
static unsigned int n_messages, n_rows, n_left;

ssize_t __wrap_mnl_socket_sendto(const struct mnl_socket *s, const void *req, size_t len);
ssize_t __wrap_mnl_socket_sendto(const struct mnl_socket *s, const void *req, size_t len)
{
	HOLD(len <= REQ_MAX && ((const struct nlmsghdr *)req)->nlmsg_len == len);
	return (ssize_t)len;
}

static bool text_ends(const char *s, size_t room)
{
	return strnlen(s, room) < room;
}

/* One message by itself, in memory that ends where it ends. */
static void alone(const struct nlmsghdr *h)
{
	uint8_t *copy = fuzz_copy((const uint8_t *)h, h->nlmsg_len);
	struct nl_route r = {0};
	struct nl_link l = {0};
	struct nl_addr a = {0};
	struct rule rule = {0};

	h = (const struct nlmsghdr *)copy;
	if (parse_link(h, &l))
		HOLD(text_ends(l.name, sizeof l.name) && text_ends(l.kind, sizeof l.kind) && text_ends(l.alias, sizeof l.alias));
	parse_addr(h, &a);
	if (parse_rule(h, &rule))
		HOLD(rule.dst.len <= 128 && rule.src.len <= 128);
	if (parse_fib_route(h, &r))
		HOLD(r.dst.is4 ? addr_is4(&r.dst.addr) && r.dst.len <= 32 : r.dst.len <= 128);
	if (h->nlmsg_type == NLMSG_ERROR || h->nlmsg_type == NLMSG_DONE)
		HOLD(verdict(&nl, h) <= 0 && text_ends(nl.err, sizeof nl.err));
	free(copy);
}

ssize_t __wrap_mnl_socket_recvfrom(const struct mnl_socket *s, void *buf, size_t room);
ssize_t __wrap_mnl_socket_recvfrom(const struct mnl_socket *s, void *buf, size_t room)
{
	struct nlmsghdr *h = buf;
	size_t len = fuzz_u16(&in);
	int left;

	if (!in.left || !n_left--) {
		errno = choice & 8 ? ENOBUFS : EAGAIN;
		choice &= ~8; /* an overrun, then nothing more */
		return -1;
	}
	len = fuzz_take(&in, buf, len < room ? len : room);
	left = (int)len;
	for (; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
		if (h->nlmsg_len > INT_MAX) /* libmnl 1.0.4 reads it as negative; the kernel says no such thing */
			return (char *)h - (char *)buf;
		if (choice & OWN_SEQ)
			h->nlmsg_seq = nl.seq;
		n_messages++;
		alone(h);
	}
	return (ssize_t)len;
}

static void on_link(void *arg, const struct nl_link *l)
{
	HOLD(text_ends(l->name, sizeof l->name));
	n_rows++;
}

static void on_addr(void *arg, const struct nl_addr *a)
{
	n_rows++;
}

static void on_route(void *arg, const struct nl_route *r)
{
	n_rows++;
}

static void on_rule(void *arg)
{
}

static void on_overrun(void *arg)
{
}

static int ask(void)
{
	static const struct nl_events events = {on_link, on_addr, on_route, on_rule, on_overrun};
	struct in6_addr dst = {0};
	struct nl_route r;

	switch (choice & WHAT) {
	case 0:
		return nl_link_each(&nl, on_link, NULL);
	case 1:
		return nl_addr_each(&nl, on_addr, NULL);
	case 2:
		return nl_route_get(&nl, &dst, NULL, 0, 17, 4500, &r);
	default:
		return nl_monitor_read(&nl, &events, NULL);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int err;

	in = (struct fuzz_in){data, size};
	choice = fuzz_u8(&in);
	nl.sock = nl.mon = (struct mnl_socket *)&nl; /* never looked into: the wraps stand before it */
	pthread_mutex_init(&nl.lock, NULL);
	nl.seq = 0;
	n_messages = n_rows = 0;
	n_left = DATAGRAMS;
	err = ask();
	HOLD(err <= 0);
	HOLD(n_rows <= n_messages && text_ends(nl_err(&nl), sizeof nl.err));
	return 0;
}

#ifndef FUZZ_LIBFUZZER
/* A link, an address or a route with a few attributes, and an acknowledgement behind them. */
static size_t make_input(uint64_t *s, uint8_t *buf, size_t room)
{
	static const uint16_t types[] = {RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_NEWROUTE, RTM_DELROUTE, NLMSG_ERROR};
	static const uint16_t fixed[] = {16, 16, 8, 12, 12, 20};
	size_t n = 3;
	struct nlmsghdr h;

	buf[0] = (uint8_t)(fuzz_random(s) | OWN_SEQ);
	for (uint64_t k = 1 + fuzz_random(s) % 3; k; k--) {
		size_t kind = fuzz_random(s) % 6, at = n;

		memset(buf + n, 0, 800);
		n += 16u + fixed[kind];
		if (kind > 1 && kind < 5)
			buf[at + 16] = fuzz_random(s) % 2 ? AF_INET : AF_INET6;
		for (uint64_t a = fuzz_random(s) % 8; a; a--) {
			uint16_t len = (uint16_t)(fuzz_random(s) % 24), head[2] = {(uint16_t)(len + 4), (uint16_t)(fuzz_random(s) % 40)};

			memcpy(buf + n, head, 4);
			for (unsigned int i = 0; i < len; i++)
				buf[n + 4 + i] = (uint8_t)fuzz_random(s);
			n += 4u + ((len + 3u) & ~3u);
		}
		h = (struct nlmsghdr){.nlmsg_len = (uint32_t)(n - at), .nlmsg_type = types[kind],
				      .nlmsg_flags = fuzz_random(s) % 2 ? NLM_F_ACK_TLVS : NLM_F_CAPPED};
		memcpy(buf + at, &h, sizeof h);
	}
	buf[1] = (uint8_t)((n - 3) >> 8);
	buf[2] = (uint8_t)(n - 3);
	if (!(fuzz_random(s) % 3))
		buf[3 + fuzz_random(s) % (n - 3)] ^= (uint8_t)fuzz_random(s);
	return n;
}
#endif
