// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * nl - see nl.h. Shape of the file: the transport (one request, one dump), then per object a
 * fill function (struct to message) and a parse function (message to struct).
 *
 * Dumps are collected before the caller sees the first row: a dump the kernel marks as
 * interrupted is repeated whole, rows are never delivered twice, and a callback may make
 * requests of its own. RFC 3549; the attribute layouts are those of linux/rtnetlink.h.
 */
#include <netinet/in.h> /* before linux/ipv6.h, or both define struct in6_addr */
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/ethtool.h>
#include <linux/if_ether.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netlink.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <linux/veth.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
#include "log.h"
#include "nl.h"
#include "ns.h"

#ifndef IFA_F_NODAD
#define IFA_F_NODAD 0x02
#endif

enum {
	REQ_MAX = 1024, /* no request of ours comes near it */
	RX_BUF = 32768, /* what the kernel fills per dump step */
	DUMP_TRIES = 16,
	REPLY_SECONDS = 10,
	MON_RCVBUF = 4 << 20,
	METRIC6_DEFAULT = 1024, /* what IPv6 makes of metric 0 */
	LINKMODE_DORMANT = 1, OPER_DORMANT = 5, OPER_UP = 6, /* linux/if.h, which net/if.h excludes */
	HELD_DEVS = 16, /* over so many do envelopes leave, mostly over one */
};

struct nl {
	struct mnl_socket *sock, *mon;
	pthread_mutex_t lock; /* sock, seq, err, rx, far: one request at a time */
	uint32_t seq;
	int netns_fd; /* ours: for sysctl */
	int ioctl_fd;
	struct held *held; /* nl_hold(); NULL = ask each time */
	_Atomic uint8_t refused; /* a protocol that this kernel does not take in route queries; 0 = none was seen */
	struct nl *far; /* last peer namespace of nl_veth_add(), kept for the next thousand */
	dev_t far_dev;
	ino_t far_ino;
	char err[256];
	_Alignas(8) char rx[RX_BUF];
};

struct req {
	_Alignas(8) char buf[REQ_MAX];
	struct nlmsghdr *h;
};

/* ---- transport ---- */

static int set_opt(struct mnl_socket *s, int opt)
{
	int one = 1;

	return mnl_socket_setsockopt(s, opt, &one, sizeof one);
}

/* The calling thread stands in the namespace already. */
static struct mnl_socket *open_sock(int bus, unsigned int flags)
{
	struct mnl_socket *s = mnl_socket_open2(bus, SOCK_CLOEXEC | flags);

	if (!s)
		return NULL;
	set_opt(s, NETLINK_EXT_ACK);
	set_opt(s, NETLINK_CAP_ACK);
	set_opt(s, NETLINK_GET_STRICT_CHK);
	if (mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0) {
		int err = errno;

		mnl_socket_close(s);
		errno = err;
		return NULL;
	}
	return s;
}

static int open_here(struct nl *nl, int bus)
{
	struct timeval tv = {.tv_sec = REPLY_SECONDS};

	nl->sock = open_sock(bus, 0);
	if (!nl->sock)
		return -errno;
	setsockopt(mnl_socket_get_fd(nl->sock), SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	nl->netns_fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (nl->netns_fd < 0)
		return -errno;
	nl->ioctl_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return nl->ioctl_fd < 0 ? -errno : 0;
}

int nl_open_bus(struct nl **nlp, int netns_fd, int bus)
{
	struct nl *nl = calloc(1, sizeof *nl);
	int saved = -1, err;

	*nlp = NULL;
	if (!nl)
		return -ENOMEM;
	nl->netns_fd = nl->ioctl_fd = -1;
	pthread_mutex_init(&nl->lock, NULL);
	if (netns_fd >= 0) {
		saved = ns_enter(netns_fd);
		if (saved < 0) {
			nl_close(nl);
			return saved;
		}
	}
	err = open_here(nl, bus);
	if (saved >= 0)
		ns_restore(saved);
	if (err) {
		nl_close(nl);
		return err;
	}
	*nlp = nl;
	return 0;
}

int nl_open(struct nl **nlp, int netns_fd)
{
	return nl_open_bus(nlp, netns_fd, NETLINK_ROUTE);
}

void nl_close(struct nl *nl)
{
	if (!nl)
		return;
	nl_let_go(nl);
	nl_close(nl->far);
	if (nl->sock)
		mnl_socket_close(nl->sock);
	if (nl->mon)
		mnl_socket_close(nl->mon);
	if (nl->netns_fd >= 0)
		close(nl->netns_fd);
	if (nl->ioctl_fd >= 0)
		close(nl->ioctl_fd);
	pthread_mutex_destroy(&nl->lock);
	free(nl);
}

const char *nl_err(const struct nl *nl)
{
	return nl ? nl->err : "";
}

/* The extended ack stands behind the echoed header (or the whole request when not capped). */
static void keep_text(struct nl *nl, const struct nlmsghdr *h, const struct nlmsgerr *e)
{
	size_t off = sizeof *e;
	const struct nlattr *a;

	if (!(h->nlmsg_flags & NLM_F_ACK_TLVS))
		return;
	if (!(h->nlmsg_flags & NLM_F_CAPPED))
		off += MNL_ALIGN(e->msg.nlmsg_len - sizeof e->msg);
	if (off > mnl_nlmsg_get_payload_len(h))
		return;
	mnl_attr_for_each(a, h, off)
	{
		if (mnl_attr_get_type(a) != NLMSGERR_ATTR_MSG)
			continue;
		snprintf(nl->err, sizeof nl->err, "%.*s", (int)mnl_attr_get_payload_len(a),
			 (const char *)mnl_attr_get_payload(a));
		return;
	}
}

/* NLMSG_ERROR or NLMSG_DONE: its errno, 0 or negative. */
static int verdict(struct nl *nl, const struct nlmsghdr *h)
{
	const void *p = mnl_nlmsg_get_payload(h);
	size_t len = mnl_nlmsg_get_payload_len(h);
	int code;

	if (h->nlmsg_type == NLMSG_ERROR) {
		if (len < sizeof(struct nlmsgerr))
			return -EBADMSG;
		code = ((const struct nlmsgerr *)p)->error;
		if (code)
			keep_text(nl, h, p);
		return code > 0 ? -EBADMSG : code;
	}
	if (len < sizeof code)
		return 0;
	memcpy(&code, p, sizeof code);
	return code < 0 ? code : 0;
}

/* Receive until the acknowledgement of seq; old replies (after a timeout) are skipped by number. */
static int await(struct nl *nl, uint32_t seq, nl_msg_fn fn, void *arg)
{
	bool torn = false;
	int err, fn_err = 0;

	for (;;) {
		ssize_t n = mnl_socket_recvfrom(nl->sock, nl->rx, sizeof nl->rx);
		const struct nlmsghdr *h = (const struct nlmsghdr *)nl->rx;
		int left = (int)n;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		for (; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
			if (h->nlmsg_seq != seq)
				continue;
			torn |= !!(h->nlmsg_flags & NLM_F_DUMP_INTR);
			if (h->nlmsg_type == NLMSG_ERROR || h->nlmsg_type == NLMSG_DONE) {
				err = verdict(nl, h);
				if (!err)
					err = fn_err;
				return err ? err : torn ? -EINTR : 0;
			}
			if (fn && !fn_err && h->nlmsg_type >= NLMSG_MIN_TYPE)
				fn_err = fn(arg, h);
		}
	}
}

static _Thread_local void (*on_wait)(void *arg, bool waits);
static _Thread_local void *on_wait_arg;

void nl_on_wait(void (*fn)(void *arg, bool waits), void *arg)
{
	on_wait = fn;
	on_wait_arg = arg;
}

static void tell_wait(bool waits)
{
	if (on_wait)
		on_wait(on_wait_arg, waits);
}

int nl_request(struct nl *nl, struct nlmsghdr *h, nl_msg_fn fn, void *arg)
{
	int err;

	pthread_mutex_lock(&nl->lock);
	tell_wait(true);
	nl->err[0] = 0;
	h->nlmsg_seq = ++nl->seq;
	h->nlmsg_flags |= NLM_F_REQUEST;
	if ((h->nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP)
		h->nlmsg_flags |= NLM_F_ACK;
	if (mnl_socket_sendto(nl->sock, h, h->nlmsg_len) < 0)
		err = -errno;
	else
		err = await(nl, h->nlmsg_seq, fn, arg);
	tell_wait(false);
	pthread_mutex_unlock(&nl->lock);
	return err;
}

void nl_wipe(struct nl *nl)
{
	explicit_bzero(nl->rx, sizeof nl->rx);
}

/* A growing array of rows, filled by one dump. */
struct rows {
	char *p;
	size_t n, cap, size;
	nl_row_fn parse;
};

static int add_row(void *arg, const struct nlmsghdr *h)
{
	struct rows *r = arg;

	if (r->n == r->cap) {
		size_t cap = r->cap ? r->cap * 2 : 64;
		char *p = reallocarray(r->p, cap, r->size);

		if (!p)
			return -ENOMEM;
		r->p = p;
		r->cap = cap;
	}
	memset(r->p + r->n * r->size, 0, r->size);
	if (r->parse(h, r->p + r->n * r->size))
		r->n++;
	return 0;
}

int nl_dump(struct nl *nl, struct nlmsghdr *h, size_t row_size, nl_row_fn parse, void **rowsp,
	    size_t *np)
{
	struct rows r = {.size = row_size, .parse = parse};
	int err = -EINTR;

	h->nlmsg_flags |= NLM_F_DUMP;
	for (int i = 0; i < DUMP_TRIES && (err == -EINTR || err == -EBUSY); i++) {
		r.n = 0;
		err = nl_request(nl, h, add_row, &r);
	}
	if (err) {
		free(r.p);
		r.p = NULL;
		r.n = 0;
	}
	*rowsp = r.p;
	*np = r.n;
	return err;
}

static void *req_init(struct req *r, uint16_t type, uint16_t flags, size_t extra)
{
	r->h = mnl_nlmsg_put_header(r->buf);
	r->h->nlmsg_type = type;
	r->h->nlmsg_flags = flags;
	return mnl_nlmsg_put_extra_header(r->h, extra); /* zeroed */
}

/* ---- attributes ---- */

static void index_attrs(const struct nlattr **tb, unsigned int max, const void *p, size_t len)
{
	const struct nlattr *attr; /* the macro's own name */

	memset(tb, 0, (max + 1) * sizeof *tb);
	if (!len) /* p may be NULL: the macro adds to it */
		return;
	mnl_attr_for_each_payload(p, len)
	{
		if (mnl_attr_get_type(attr) <= max)
			tb[mnl_attr_get_type(attr)] = attr;
	}
}

static void index_msg(const struct nlattr **tb, unsigned int max, const struct nlmsghdr *h,
		      size_t hdr)
{
	size_t len = mnl_nlmsg_get_payload_len(h);

	hdr = MNL_ALIGN(hdr);
	index_attrs(tb, max, (const char *)mnl_nlmsg_get_payload(h) + hdr,
		    len > hdr ? len - hdr : 0);
}

static void index_nest(const struct nlattr **tb, unsigned int max, const struct nlattr *a)
{
	index_attrs(tb, max, a ? mnl_attr_get_payload(a) : NULL,
		    a ? mnl_attr_get_payload_len(a) : 0);
}

static uint32_t u32_of(const struct nlattr *a)
{
	return a && mnl_attr_get_payload_len(a) >= 4 ? mnl_attr_get_u32(a) : 0;
}

static uint8_t u8_of(const struct nlattr *a)
{
	return a && mnl_attr_get_payload_len(a) >= 1 ? mnl_attr_get_u8(a) : 0;
}

static void str_of(const struct nlattr *a, char *buf, size_t len)
{
	size_t n = a ? mnl_attr_get_payload_len(a) : 0;

	snprintf(buf, len, "%.*s", (int)n, a ? (const char *)mnl_attr_get_payload(a) : "");
}

/* Any address attribute, by its length, as v4-mapped. */
static bool addr_of(const struct nlattr *a, struct in6_addr *out)
{
	struct in_addr v4;

	if (!a)
		return false;
	if (mnl_attr_get_payload_len(a) == sizeof v4) {
		memcpy(&v4, mnl_attr_get_payload(a), sizeof v4);
		*out = addr_from4(v4);
		return true;
	}
	if (mnl_attr_get_payload_len(a) != sizeof *out)
		return false;
	memcpy(out, mnl_attr_get_payload(a), sizeof *out);
	return true;
}

static void put_addr(struct nlmsghdr *h, uint16_t type, const struct in6_addr *a)
{
	if (addr_is4(a))
		mnl_attr_put(h, type, 4, a->s6_addr + 12);
	else
		mnl_attr_put(h, type, 16, a);
}

static uint8_t family_of(const struct in6_addr *a)
{
	return addr_is4(a) ? AF_INET : AF_INET6;
}

/* ---- devices ---- */

/* struct inet_confs - a device's settings of both families, as long as its message has them */
struct inet_confs {
	const uint32_t *v4, *v6;
	unsigned int n4, n6;
};

static void take_conf(const struct nlattr *a, const uint32_t **v, unsigned int *n)
{
	*v = a ? mnl_attr_get_payload(a) : NULL;
	*n = a ? mnl_attr_get_payload_len(a) / sizeof **v : 0;
}

static struct inet_confs inet_confs(const struct nlattr *af_spec)
{
	const struct nlattr *af[AF_INET6 + 1], *in[IFLA_INET_MAX + 1], *in6[IFLA_INET6_MAX + 1];
	struct inet_confs c;

	index_nest(af, AF_INET6, af_spec);
	index_nest(in, IFLA_INET_MAX, af[AF_INET]);
	index_nest(in6, IFLA_INET6_MAX, af[AF_INET6]);
	take_conf(in[IFLA_INET_CONF], &c.v4, &c.n4);
	take_conf(in6[IFLA_INET6_CONF], &c.v6, &c.n6);
	return c;
}

static uint32_t conf_at(const uint32_t *v, unsigned int n, unsigned int i)
{
	return i < n ? v[i] : 0;
}

static unsigned int what_is_on(const struct inet_confs *c)
{
	return (conf_at(c->v4, c->n4, IPV4_DEVCONF_IGNORE_ROUTES_WITH_LINKDOWN - 1) ? NL_ON_LINKDOWN4 : 0) |
	       (conf_at(c->v4, c->n4, IPV4_DEVCONF_NOXFRM - 1) ? NL_ON_NO_XFRM : 0) |
	       (conf_at(c->v6, c->n6, DEVCONF_IGNORE_ROUTES_WITH_LINKDOWN) ? NL_ON_LINKDOWN6 : 0) |
	       (conf_at(c->v6, c->n6, DEVCONF_KEEP_ADDR_ON_DOWN) ? NL_ON_KEEP_ADDR6 : 0);
}

static void first_altname(const struct nlattr *props, char *buf, size_t len)
{
	const struct nlattr *a;

	if (!props)
		return;
	mnl_attr_for_each_nested(a, props)
	{
		if (mnl_attr_get_type(a) != IFLA_ALT_IFNAME)
			continue;
		str_of(a, buf, len);
		return;
	}
}

static bool parse_link(const struct nlmsghdr *h, void *row)
{
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(h);
	const struct nlattr *tb[IFLA_MAX + 1], *info[IFLA_INFO_MAX + 1];
	struct rtnl_link_stats64 st = {0};
	struct nl_link *l = row;
	struct inet_confs confs;

	if (h->nlmsg_type != RTM_NEWLINK && h->nlmsg_type != RTM_DELLINK)
		return false;
	/* a bridge port's message is about the port: its DELLINK is no death of the device */
	if (mnl_nlmsg_get_payload_len(h) < sizeof *ifi || ifi->ifi_family != AF_UNSPEC)
		return false;
	index_msg(tb, IFLA_MAX, h, sizeof *ifi);
	index_nest(info, IFLA_INFO_MAX, tb[IFLA_LINKINFO]);
	l->ifindex = ifi->ifi_index;
	l->flags = ifi->ifi_flags;
	l->deleted = h->nlmsg_type == RTM_DELLINK;
	l->mtu = u32_of(tb[IFLA_MTU]);
	confs = inet_confs(tb[IFLA_AF_SPEC]);
	l->mtu6 = conf_at(confs.v6, confs.n6, DEVCONF_MTU6);
	l->on = what_is_on(&confs);
	l->operstate = u8_of(tb[IFLA_OPERSTATE]);
	l->dormant = u8_of(tb[IFLA_LINKMODE]) == LINKMODE_DORMANT;
	l->peer_ifindex = (int)u32_of(tb[IFLA_LINK]);
	l->peer_elsewhere = tb[IFLA_LINK_NETNSID];
	str_of(tb[IFLA_IFNAME], l->name, sizeof l->name);
	str_of(tb[IFLA_IFALIAS], l->alias, sizeof l->alias);
	first_altname(tb[IFLA_PROP_LIST], l->altname, sizeof l->altname);
	str_of(info[IFLA_INFO_KIND], l->kind, sizeof l->kind);
	if (tb[IFLA_ADDRESS] && mnl_attr_get_payload_len(tb[IFLA_ADDRESS]) == sizeof l->mac)
		memcpy(l->mac, mnl_attr_get_payload(tb[IFLA_ADDRESS]), sizeof l->mac);
	if (tb[IFLA_STATS64])
		memcpy(&st, mnl_attr_get_payload(tb[IFLA_STATS64]),
		       MIN(sizeof st, mnl_attr_get_payload_len(tb[IFLA_STATS64])));
	l->tx_packets = st.tx_packets;
	l->rx_packets = st.rx_packets;
	l->tx_dropped = st.tx_dropped;
	l->rx_dropped = st.rx_dropped;
	return true;
}

static int one_link(void *arg, const struct nlmsghdr *h)
{
	struct nl_link *out = arg;
	struct nl_link l = {0};

	if (parse_link(h, &l))
		*out = l;
	return 0;
}

static int link_query(struct nl *nl, int ifindex, uint16_t name_attr, const char *name,
		      struct nl_link *out)
{
	struct ifinfomsg *ifi;
	struct req r;
	int err;

	ifi = req_init(&r, RTM_GETLINK, 0, sizeof *ifi);
	ifi->ifi_index = ifindex;
	if (name)
		mnl_attr_put_strz(r.h, name_attr, name);
	memset(out, 0, sizeof *out);
	err = nl_request(nl, r.h, one_link, out);
	return err ? err : out->ifindex ? 0 : -ENODEV;
}

int nl_link_get(struct nl *nl, const char *name, struct nl_link *out)
{
	if (strnlen(name, IFNAMSIZ) >= IFNAMSIZ)
		return -ENODEV;
	return link_query(nl, 0, IFLA_IFNAME, name, out);
}

int nl_link_get_index(struct nl *nl, int ifindex, struct nl_link *out)
{
	return ifindex > 0 ? link_query(nl, ifindex, 0, NULL, out) : -ENODEV;
}

int nl_link_each(struct nl *nl, void (*fn)(void *arg, const struct nl_link *l), void *arg)
{
	struct nl_link *l;
	struct req r;
	void *rows;
	size_t n;
	int err;

	req_init(&r, RTM_GETLINK, 0, sizeof(struct ifinfomsg));
	err = nl_dump(nl, r.h, sizeof *l, parse_link, &rows, &n);
	l = rows;
	for (size_t i = 0; i < n; i++)
		fn(arg, &l[i]);
	free(rows);
	return err;
}

static void put_end(struct nlmsghdr *h, const char *name, const uint8_t *mac,
		    const struct veth_spec *v)
{
	mnl_attr_put_strz(h, IFLA_IFNAME, name);
	if (mac)
		mnl_attr_put(h, IFLA_ADDRESS, 6, mac);
	if (v->mtu)
		mnl_attr_put_u32(h, IFLA_MTU, v->mtu);
	if (v->txqlen)
		mnl_attr_put_u32(h, IFLA_TXQLEN, v->txqlen);
	/* unequal counts make native XDP answer ENOSPC on one of the ends */
	mnl_attr_put_u32(h, IFLA_NUM_TX_QUEUES, 1);
	mnl_attr_put_u32(h, IFLA_NUM_RX_QUEUES, 1);
}

static void put_noarp(struct ifinfomsg *ifi, bool noarp)
{
	if (!noarp)
		return;
	ifi->ifi_flags = IFF_NOARP | IFF_MULTICAST;
	ifi->ifi_change = IFF_NOARP | IFF_MULTICAST;
}

/* IFLA_AF_SPEC is not read when a device is made, hence a request of its own, before it is up. */
static int addrgen_none(struct nl *nl, const char *name)
{
	struct nlattr *spec, *af;
	struct req r;

	req_init(&r, RTM_SETLINK, 0, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(r.h, IFLA_IFNAME, name);
	spec = mnl_attr_nest_start(r.h, IFLA_AF_SPEC);
	af = mnl_attr_nest_start(r.h, AF_INET6);
	mnl_attr_put_u8(r.h, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	mnl_attr_nest_end(r.h, af);
	mnl_attr_nest_end(r.h, spec);
	return nl_request(nl, r.h, NULL, NULL);
}

/* The peer's namespace, kept open between calls: a thousand links share one. */
static int far_nl(struct nl *nl, int netns_fd, struct nl **out)
{
	struct stat st;
	int err;

	if (netns_fd < 0) {
		*out = nl;
		return 0;
	}
	if (fstat(netns_fd, &st))
		return -errno;
	if (!nl->far || nl->far_dev != st.st_dev || nl->far_ino != st.st_ino) {
		nl_close(nl->far);
		err = nl_open(&nl->far, netns_fd);
		if (err)
			return err;
		nl->far_dev = st.st_dev;
		nl->far_ino = st.st_ino;
	}
	*out = nl->far;
	return 0;
}

static int veth_create(struct nl *nl, const struct veth_spec *v)
{
	struct nlattr *info, *data, *peer;
	struct ifinfomsg *ifi;
	struct req r;

	ifi = req_init(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof *ifi);
	put_noarp(ifi, v->noarp);
	put_end(r.h, v->name, v->mac, v);
	info = mnl_attr_nest_start(r.h, IFLA_LINKINFO);
	mnl_attr_put_strz(r.h, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(r.h, IFLA_INFO_DATA);
	peer = mnl_attr_nest_start(r.h, VETH_INFO_PEER);
	mnl_nlmsg_put_extra_header(r.h, sizeof *ifi);
	put_end(r.h, v->peer, v->peer_mac, v);
	if (v->peer_group)
		mnl_attr_put_u32(r.h, IFLA_GROUP, v->peer_group);
	if (v->peer_netns_fd >= 0)
		mnl_attr_put_u32(r.h, IFLA_NET_NS_FD, (uint32_t)v->peer_netns_fd);
	mnl_attr_nest_end(r.h, peer);
	mnl_attr_nest_end(r.h, data);
	mnl_attr_nest_end(r.h, info);
	return nl_request(nl, r.h, NULL, NULL);
}

/* A namespace without IPv6 has nothing to switch off. */
static int no_addrgen(struct nl *nl, const char *name)
{
	int err = addrgen_none(nl, name);

	return err == -EAFNOSUPPORT ? 0 : err;
}

static int no_addrgen_either(struct nl *nl, const struct veth_spec *v)
{
	struct nl *far = NULL;
	int err;

	if (!v->noarp)
		return 0;
	err = far_nl(nl, v->peer_netns_fd, &far);
	if (!err)
		err = no_addrgen(nl, v->name);
	return err ? err : no_addrgen(far, v->peer);
}

/* What a device that stands can still be told of put_end() and put_noarp(). */
static int retune(struct nl *nl, const struct veth_spec *v)
{
	struct ifinfomsg *ifi;
	struct req r;

	ifi = req_init(&r, RTM_SETLINK, 0, sizeof *ifi);
	put_noarp(ifi, v->noarp);
	mnl_attr_put_strz(r.h, IFLA_IFNAME, v->name);
	if (v->txqlen)
		mnl_attr_put_u32(r.h, IFLA_TXQLEN, v->txqlen);
	return nl_request(nl, r.h, NULL, NULL);
}

static int send_away(struct nl *nl, const struct veth_spec *v)
{
	struct req r;

	req_init(&r, RTM_SETLINK, 0, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(r.h, IFLA_IFNAME, v->peer);
	mnl_attr_put_u32(r.h, IFLA_GROUP, v->peer_group);
	mnl_attr_put_u32(r.h, IFLA_NET_NS_FD, (uint32_t)v->peer_netns_fd);
	return nl_request(nl, r.h, NULL, NULL);
}

int nl_veth_take(struct nl *nl, const struct veth_spec *v)
{
	int err = retune(nl, v);

	if (!err)
		err = send_away(nl, v);
	return err ? err : no_addrgen_either(nl, v);
}

int nl_veth_add(struct nl *nl, const struct veth_spec *v)
{
	struct nl_link made;
	int err;

	if (strnlen(v->name, IFNAMSIZ) >= IFNAMSIZ || strnlen(v->peer, IFNAMSIZ) >= IFNAMSIZ)
		return -EINVAL;
	err = veth_create(nl, v);
	if (err)
		return err;
	err = no_addrgen_either(nl, v);
	if (err && !nl_link_get(nl, v->name, &made))
		nl_link_del(nl, made.ifindex);
	return err;
}

static int xfrm_create(struct nl *nl, const char *name, uint32_t if_id)
{
	struct nlattr *info, *data;
	struct req r;

	req_init(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(r.h, IFLA_IFNAME, name);
	info = mnl_attr_nest_start(r.h, IFLA_LINKINFO);
	mnl_attr_put_strz(r.h, IFLA_INFO_KIND, "xfrm");
	data = mnl_attr_nest_start(r.h, IFLA_INFO_DATA);
	mnl_attr_put_u32(r.h, IFLA_XFRM_IF_ID, if_id);
	mnl_attr_nest_end(r.h, data);
	mnl_attr_nest_end(r.h, info);
	return nl_request(nl, r.h, NULL, NULL);
}

int nl_xfrm_add(struct nl *nl, const char *name, uint32_t if_id, int netns_fd)
{
	struct nl *far = nl;
	struct nl_link made;
	int err = xfrm_create(nl, name, if_id);

	if (err)
		return err;
	err = nl_link_get(nl, name, &made);
	if (!err && netns_fd >= 0)
		err = far_nl(nl, netns_fd, &far) ?: nl_link_set_netns(nl, made.ifindex, netns_fd);
	if (!err)
		err = no_addrgen(far, name); /* moving forgets it */
	if (err && !nl_link_get(far, name, &made))
		nl_link_del(far, made.ifindex);
	return err;
}

int nl_link_del(struct nl *nl, int ifindex)
{
	struct ifinfomsg *ifi;
	struct req r;

	if (ifindex <= 0)
		return -ENODEV;
	ifi = req_init(&r, RTM_DELLINK, 0, sizeof *ifi);
	ifi->ifi_index = ifindex;
	return nl_request(nl, r.h, NULL, NULL);
}

int nl_group_del(struct nl *nl, uint32_t group)
{
	struct req r;

	if (!group) /* 0 is everybody */
		return -EINVAL;
	req_init(&r, RTM_DELLINK, 0, sizeof(struct ifinfomsg));
	mnl_attr_put_u32(r.h, IFLA_GROUP, group);
	return nl_request(nl, r.h, NULL, NULL);
}

static struct ifinfomsg *setlink(struct req *r, int ifindex)
{
	struct ifinfomsg *ifi = req_init(r, RTM_SETLINK, 0, sizeof *ifi);

	ifi->ifi_index = ifindex;
	return ifi;
}

int nl_link_set_up(struct nl *nl, int ifindex, bool up)
{
	struct req r;
	struct ifinfomsg *ifi = setlink(&r, ifindex);

	ifi->ifi_flags = up ? IFF_UP : 0;
	ifi->ifi_change = IFF_UP;
	return nl_request(nl, r.h, NULL, NULL);
}

int nl_link_set_dormant(struct nl *nl, int ifindex, bool dormant)
{
	struct req r;

	setlink(&r, ifindex);
	mnl_attr_put_u8(r.h, IFLA_LINKMODE, dormant ? LINKMODE_DORMANT : 0);
	mnl_attr_put_u8(r.h, IFLA_OPERSTATE, dormant ? OPER_DORMANT : OPER_UP); /* only from the one to the other */
	return nl_request(nl, r.h, NULL, NULL);
}

static int setlink_u32(struct nl *nl, int ifindex, uint16_t attr, uint32_t v)
{
	struct req r;

	setlink(&r, ifindex);
	mnl_attr_put_u32(r.h, attr, v);
	return nl_request(nl, r.h, NULL, NULL);
}

int nl_link_set_mtu(struct nl *nl, int ifindex, uint32_t mtu)
{
	return setlink_u32(nl, ifindex, IFLA_MTU, mtu);
}

int nl_link_set_txqlen(struct nl *nl, int ifindex, uint32_t len)
{
	return setlink_u32(nl, ifindex, IFLA_TXQLEN, len);
}

int nl_link_set_netns(struct nl *nl, int ifindex, int netns_fd)
{
	return setlink_u32(nl, ifindex, IFLA_NET_NS_FD, (uint32_t)netns_fd);
}

int nl_link_set_alias(struct nl *nl, int ifindex, const char *alias)
{
	struct req r;

	if (strlen(alias) >= 256) /* IFALIASZ */
		return -EINVAL;
	setlink(&r, ifindex);
	mnl_attr_put(r.h, IFLA_IFALIAS, strlen(alias), alias);
	return nl_request(nl, r.h, NULL, NULL);
}

int nl_link_altname_add(struct nl *nl, int ifindex, const char *altname)
{
	struct ifinfomsg *ifi;
	struct nl_link owner;
	struct nlattr *list;
	struct req r;
	int err;

	if (strlen(altname) >= 128) /* ALTIFNAMSIZ */
		return -EINVAL;
	ifi = req_init(&r, RTM_NEWLINKPROP, NLM_F_CREATE | NLM_F_EXCL | NLM_F_APPEND, sizeof *ifi);
	ifi->ifi_index = ifindex;
	list = mnl_attr_nest_start(r.h, IFLA_PROP_LIST | NLA_F_NESTED);
	mnl_attr_put_strz(r.h, IFLA_ALT_IFNAME, altname);
	mnl_attr_nest_end(r.h, list);
	err = nl_request(nl, r.h, NULL, NULL);
	if (err == -EEXIST && !link_query(nl, 0, IFLA_ALT_IFNAME, altname, &owner) &&
	    owner.ifindex == ifindex)
		return 0;
	return err;
}

static int ethtool_set(struct nl *nl, const char *name, uint32_t cmd, uint32_t value)
{
	struct ethtool_value ev = {.cmd = cmd, .data = value};
	struct ifreq ifr = {0};

	snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", name);
	ifr.ifr_data = (void *)&ev;
	return ioctl(nl->ioctl_fd, SIOCETHTOOL, &ifr) ? -errno : 0;
}

int nl_tx_csum_off(struct nl *nl, const char *name)
{
	int err = ethtool_set(nl, name, ETHTOOL_STXCSUM, 0);

	if (!err)
		err = ethtool_set(nl, name, ETHTOOL_STSO, 0);
	return err == -EOPNOTSUPP ? 0 : err; /* XDP at the other end has fixed it off already */
}

/* ---- addresses ---- */

static bool parse_addr(const struct nlmsghdr *h, void *row)
{
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(h);
	const struct nlattr *tb[IFA_MAX + 1];
	struct nl_addr *a = row;

	if (h->nlmsg_type != RTM_NEWADDR && h->nlmsg_type != RTM_DELADDR)
		return false;
	if (mnl_nlmsg_get_payload_len(h) < sizeof *ifa)
		return false;
	index_msg(tb, IFA_MAX, h, sizeof *ifa);
	/* IPv6 without a peer has IFA_ADDRESS only; IPv4 always both */
	if (!addr_of(tb[IFA_ADDRESS], &a->peer))
		return false;
	if (!addr_of(tb[IFA_LOCAL], &a->local))
		a->local = a->peer;
	a->ifindex = (int)ifa->ifa_index;
	a->prefix_len = ifa->ifa_prefixlen;
	a->scope = ifa->ifa_scope;
	if (tb[IFA_PROTO] && mnl_attr_get_payload_len(tb[IFA_PROTO]) >= 1)
		a->proto = mnl_attr_get_u8(tb[IFA_PROTO]);
	a->deleted = h->nlmsg_type == RTM_DELADDR;
	return true;
}

static void fill_addr(struct req *r, uint16_t type, uint16_t flags, const struct nl_addr *a)
{
	struct ifaddrmsg *ifa = req_init(r, type, flags, sizeof *ifa);
	bool v6 = !addr_is4(&a->local);

	ifa->ifa_family = family_of(&a->local);
	ifa->ifa_prefixlen = a->prefix_len;
	ifa->ifa_scope = a->scope;
	ifa->ifa_index = (uint32_t)a->ifindex;
	put_addr(r->h, IFA_LOCAL, &a->local);
	put_addr(r->h, IFA_ADDRESS, &a->peer);
	if (a->proto)
		mnl_attr_put_u8(r->h, IFA_PROTO, a->proto);
	if (v6 && type == RTM_NEWADDR)
		mnl_attr_put_u32(r->h, IFA_FLAGS, IFA_F_NODAD);
}

static bool mixed_families(const struct nl_addr *a)
{
	return addr_is4(&a->local) != addr_is4(&a->peer);
}

int nl_addr_add(struct nl *nl, const struct nl_addr *a)
{
	struct req r;

	if (mixed_families(a))
		return -EINVAL;
	fill_addr(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, a);
	return nl_request(nl, r.h, NULL, NULL);
}

int nl_addr_del(struct nl *nl, const struct nl_addr *a)
{
	struct req r;

	if (mixed_families(a))
		return -EINVAL;
	fill_addr(&r, RTM_DELADDR, 0, a);
	return nl_request(nl, r.h, NULL, NULL);
}

int nl_addr_each(struct nl *nl, void (*fn)(void *arg, const struct nl_addr *a), void *arg)
{
	struct nl_addr *a;
	struct req r;
	void *rows;
	size_t n;
	int err;

	req_init(&r, RTM_GETADDR, 0, sizeof(struct ifaddrmsg));
	err = nl_dump(nl, r.h, sizeof *a, parse_addr, &rows, &n);
	a = rows;
	for (size_t i = 0; i < n; i++)
		fn(arg, &a[i]);
	free(rows);
	return err;
}

/* ---- routes ---- */

static void parse_metrics(const struct nlattr *a, struct nl_route *out)
{
	const struct nlattr *m[RTAX_MAX + 1];

	index_nest(m, RTAX_MAX, a);
	out->mtu = u32_of(m[RTAX_MTU]);
}

/* RTA_VIA: a gateway of the other family, struct rtvia {family, address}. */
static bool via_of(const struct nlattr *a, struct in6_addr *out)
{
	const struct rtvia *v = a ? mnl_attr_get_payload(a) : NULL;
	size_t len = a ? mnl_attr_get_payload_len(a) : 0;

	if (len < sizeof *v + 16 || v->rtvia_family != AF_INET6)
		return false;
	memcpy(out, v->rtvia_addr, 16);
	return true;
}

static void parse_nexthop(const struct nlattr **tb, struct nl_route *out)
{
	out->has_via = addr_of(tb[RTA_GATEWAY], &out->via) || via_of(tb[RTA_VIA], &out->via);
}

/* Several next hops: the first stands for all. */
static void parse_multipath(const struct nlattr *a, struct nl_route *out)
{
	const struct nlattr *tb[RTA_MAX + 1];
	const struct rtnexthop *nh = mnl_attr_get_payload(a);
	size_t len = mnl_attr_get_payload_len(a);

	if (len < sizeof *nh || nh->rtnh_len < sizeof *nh || nh->rtnh_len > len)
		return;
	out->oif = nh->rtnh_ifindex;
	index_attrs(tb, RTA_MAX, RTNH_DATA(nh), nh->rtnh_len - RTNH_LENGTH(0));
	parse_nexthop(tb, out);
}

static bool expires(const struct nlattr *a)
{
	const struct rta_cacheinfo *ci = a ? mnl_attr_get_payload(a) : NULL;

	return ci && mnl_attr_get_payload_len(a) >= sizeof *ci && ci->rta_expires;
}

static bool parse_route(const struct nlmsghdr *h, void *row)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(h);
	const struct nlattr *tb[RTA_MAX + 1];
	struct nl_route *out = row;

	if (h->nlmsg_type != RTM_NEWROUTE && h->nlmsg_type != RTM_DELROUTE)
		return false;
	if (mnl_nlmsg_get_payload_len(h) < sizeof *rtm)
		return false;
	if (rtm->rtm_family != AF_INET && rtm->rtm_family != AF_INET6)
		return false;
	index_msg(tb, RTA_MAX, h, sizeof *rtm);
	out->dst.is4 = rtm->rtm_family == AF_INET;
	out->dst.len = rtm->rtm_dst_len;
	if (!addr_of(tb[RTA_DST], &out->dst.addr) && out->dst.is4)
		out->dst.addr = addr_from4((struct in_addr){0});
	if (out->dst.len > (out->dst.is4 ? 32 : 128) || (out->dst.is4 && !addr_is4(&out->dst.addr)))
		return false;
	out->type = rtm->rtm_type;
	out->proto = rtm->rtm_protocol;
	out->table = tb[RTA_TABLE] ? u32_of(tb[RTA_TABLE]) : rtm->rtm_table;
	out->metric = u32_of(tb[RTA_PRIORITY]);
	out->oif = (int)u32_of(tb[RTA_OIF]);
	out->has_src = addr_of(tb[RTA_PREFSRC], &out->src);
	out->deleted = h->nlmsg_type == RTM_DELROUTE;
	parse_nexthop(tb, out);
	parse_metrics(tb[RTA_METRICS], out);
	out->learned = out->mtu && expires(tb[RTA_CACHEINFO]);
	if (!out->oif && tb[RTA_MULTIPATH])
		parse_multipath(tb[RTA_MULTIPATH], out);
	return true;
}

/* Dumps and notifications carry the kernel's cached clones too: those are not routes. */
static bool parse_fib_route(const struct nlmsghdr *h, void *row)
{
	const struct rtmsg *rtm = mnl_nlmsg_get_payload(h);

	return parse_route(h, row) && !(rtm->rtm_flags & RTM_F_CLONED);
}

static bool any_row(const struct nlmsghdr *h, void *row)
{
	return true;
}

int nl_tc_filters(struct nl *nl, int ifindex)
{
	static const uint32_t hooks[] = {TC_H_MIN_INGRESS, TC_H_MIN_EGRESS};
	int sum = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(hooks); i++) {
		struct req r;
		struct tcmsg *tc = req_init(&r, RTM_GETTFILTER, 0, sizeof *tc);
		void *rows;
		size_t n;
		int err;

		tc->tcm_ifindex = ifindex;
		tc->tcm_parent = TC_H_MAKE(TC_H_CLSACT, hooks[i]);
		err = nl_dump(nl, r.h, 1, any_row, &rows, &n);
		if (err)
			return err;
		free(rows);
		sum += (int)n;
	}
	return sum;
}

static int clsact_add(struct nl *nl, int ifindex)
{
	struct req r;
	struct tcmsg *tc = req_init(&r, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, sizeof *tc);
	int err;

	tc->tcm_ifindex = ifindex;
	tc->tcm_parent = TC_H_CLSACT;
	tc->tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
	mnl_attr_put_strz(r.h, TCA_KIND, "clsact");
	err = nl_request(nl, r.h, NULL, NULL);
	return err == -EEXIST ? 0 : err;
}

static int tc_bpf_put(struct nl *nl, int ifindex, const struct tc_bpf *t)
{
	struct req r;
	struct tcmsg *tc = req_init(&r, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_REPLACE, sizeof *tc);
	struct nlattr *options;

	tc->tcm_family = AF_UNSPEC;
	tc->tcm_ifindex = ifindex;
	tc->tcm_handle = t->handle;
	tc->tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS);
	tc->tcm_info = TC_H_MAKE(t->prio << 16, htons(ETH_P_ALL));
	mnl_attr_put_strz(r.h, TCA_KIND, "bpf");
	options = mnl_attr_nest_start(r.h, TCA_OPTIONS);
	mnl_attr_put_u32(r.h, TCA_BPF_FD, (uint32_t)t->prog);
	mnl_attr_put_strz(r.h, TCA_BPF_NAME, t->name);
	mnl_attr_put_u32(r.h, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
	mnl_attr_nest_end(r.h, options);
	return nl_request(nl, r.h, NULL, NULL);
}

int nl_tc_bpf(struct nl *nl, int ifindex, const struct tc_bpf *t)
{
	int err = tc_bpf_put(nl, ifindex, t);

	if (err != -EINVAL && err != -ENOENT) /* "Parent Qdisc doesn't exists" */
		return err;
	err = clsact_add(nl, ifindex);
	return err ? err : tc_bpf_put(nl, ifindex, t);
}

static int route_rows(struct nl *nl, int family, uint8_t proto, uint32_t table, void **rows,
		      size_t *n)
{
	struct rtmsg *rtm;
	struct req r;
	int err;

	rtm = req_init(&r, RTM_GETROUTE, 0, sizeof *rtm);
	rtm->rtm_family = (unsigned char)family;
	rtm->rtm_protocol = proto;
	if (table)
		mnl_attr_put_u32(r.h, RTA_TABLE, table);
	err = nl_dump(nl, r.h, sizeof(struct nl_route), parse_fib_route, rows, n);
	return err == -ENOENT ? 0 : err; /* a table nobody ever used */
}

static int each_family(struct nl *nl, int family, uint8_t proto,
		       void (*fn)(void *arg, const struct nl_route *r), void *arg)
{
	struct nl_route *rt;
	void *rows;
	size_t n;
	int err = route_rows(nl, family, proto, 0, &rows, &n);

	rt = rows;
	for (size_t i = 0; i < n; i++)
		fn(arg, &rt[i]);
	free(rows);
	return err == -EAFNOSUPPORT ? 0 : err;
}

int nl_route_each_proto(struct nl *nl, int family, uint8_t proto,
			void (*fn)(void *arg, const struct nl_route *r), void *arg)
{
	int err = 0;

	if (family == 0 || family == AF_INET)
		err = each_family(nl, AF_INET, proto, fn, arg);
	if (!err && (family == 0 || family == AF_INET6))
		err = each_family(nl, AF_INET6, proto, fn, arg);
	return err;
}

int nl_route_each(struct nl *nl, int family, void (*fn)(void *arg, const struct nl_route *r),
		  void *arg)
{
	return nl_route_each_proto(nl, family, 0, fn, arg);
}

static uint32_t table_of(const struct nl_route *r)
{
	return r->table ? r->table : RT_TABLE_MAIN;
}

static uint32_t metric_of(const struct nl_route *r)
{
	return !r->dst.is4 && !r->metric ? METRIC6_DEFAULT : r->metric;
}

static void fill_route(struct req *q, uint16_t type, uint16_t flags, const struct nl_route *r)
{
	struct rtmsg *rtm = req_init(q, type, flags, sizeof *rtm);
	struct nlattr *m;

	rtm->rtm_family = r->dst.is4 ? AF_INET : AF_INET6;
	rtm->rtm_dst_len = r->dst.len;
	rtm->rtm_protocol = NL_PROTO_ESPWIRE;
	rtm->rtm_type = (unsigned char)(r->type ? r->type : NL_RT_UNICAST);
	rtm->rtm_scope = RT_SCOPE_UNIVERSE;
	if (type == RTM_DELROUTE)
		rtm->rtm_scope = RT_SCOPE_NOWHERE;
	else if (r->dst.is4 && rtm->rtm_type == RTN_UNICAST && !r->has_via)
		rtm->rtm_scope = RT_SCOPE_LINK;
	mnl_attr_put_u32(q->h, RTA_TABLE, table_of(r));
	put_addr(q->h, RTA_DST, &r->dst.addr);
	if (r->metric)
		mnl_attr_put_u32(q->h, RTA_PRIORITY, r->metric);
	if (r->oif)
		mnl_attr_put_u32(q->h, RTA_OIF, (uint32_t)r->oif);
	if (r->has_via)
		put_addr(q->h, RTA_GATEWAY, &r->via);
	if (r->has_src)
		put_addr(q->h, RTA_PREFSRC, &r->src);
	if (r->mtu && type == RTM_NEWROUTE) {
		m = mnl_attr_nest_start(q->h, RTA_METRICS);
		mnl_attr_put_u32(q->h, RTAX_MTU, r->mtu);
		mnl_attr_nest_end(q->h, m);
	}
}

static bool same_place(const struct nl_route *a, const struct nl_route *b)
{
	return a->dst.is4 == b->dst.is4 && a->dst.len == b->dst.len && table_of(a) == table_of(b) &&
	       metric_of(a) == metric_of(b) && !memcmp(&a->dst.addr, &b->dst.addr, 16);
}

static bool same_way(const struct nl_route *a, const struct nl_route *b)
{
	if (a->type != b->type || a->mtu != b->mtu || a->has_via != b->has_via ||
	    a->has_src != b->has_src)
		return false;
	if (a->type != NL_RT_UNREACHABLE && a->oif != b->oif)
		return false;
	return (!a->has_via || !memcmp(&a->via, &b->via, 16)) &&
	       (!a->has_src || !memcmp(&a->src, &b->src, 16));
}

bool nl_route_same(const struct nl_route *a, const struct nl_route *b)
{
	return same_place(a, b) && same_way(a, b);
}

/*
 * The place is taken: -EEXIST when by others, 0 when by the very route, 1 when by an older one of
 * ours.
 */
static int who_stands(struct nl *nl, const struct nl_route *r)
{
	int err, found = -EEXIST;
	struct nl_route *rt;
	void *rows;
	size_t n;

	err = route_rows(nl, r->dst.is4 ? AF_INET : AF_INET6, 0, table_of(r), &rows, &n);
	rt = rows;
	for (size_t i = 0; i < n; i++) {
		if (!same_place(&rt[i], r))
			continue;
		if (rt[i].proto != NL_PROTO_ESPWIRE) {
			found = -EEXIST;
			break;
		}
		found = same_way(&rt[i], r) ? 0 : 1;
	}
	free(rows);
	return err ? err : found;
}

int nl_route_add(struct nl *nl, const struct nl_route *r)
{
	struct nl_route want = *r;
	struct req q;
	int err;

	if (!want.type)
		want.type = NL_RT_UNICAST;
	fill_route(&q, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &want);
	err = nl_request(nl, q.h, NULL, NULL);
	if (err != -EEXIST)
		return err;
	err = who_stands(nl, &want);
	if (err != 1)
		return err;
	fill_route(&q, RTM_NEWROUTE, NLM_F_REPLACE, &want);
	return nl_request(nl, q.h, NULL, NULL);
}

int nl_route_del(struct nl *nl, const struct nl_route *r)
{
	struct req q;

	fill_route(&q, RTM_DELROUTE, 0, r);
	return nl_request(nl, q.h, NULL, NULL);
}

static int one_route(void *arg, const struct nlmsghdr *h)
{
	struct nl_route *out = arg;
	struct nl_route r = {0};

	if (parse_route(h, &r))
		*out = r;
	return 0;
}

static int route_query(struct nl *nl, const struct in6_addr *dst, const struct in6_addr *src,
		       uint32_t fwmark, uint8_t ipproto, uint16_t dport, uint32_t flags, struct nl_route *out)
{
	uint16_t port = htons(dport);
	struct rtmsg *rtm;
	struct req q;

	rtm = req_init(&q, RTM_GETROUTE, 0, sizeof *rtm);
	rtm->rtm_family = family_of(dst);
	rtm->rtm_dst_len = addr_is4(dst) ? 32 : 128;
	if (addr_is4(dst))
		rtm->rtm_flags = RTM_F_LOOKUP_TABLE; /* IPv6 tells unasked, and refuses the flag */
	rtm->rtm_flags |= flags;
	put_addr(q.h, RTA_DST, dst);
	if (src) {
		rtm->rtm_src_len = rtm->rtm_dst_len;
		put_addr(q.h, RTA_SRC, src);
	}
	if (fwmark)
		mnl_attr_put_u32(q.h, RTA_MARK, fwmark);
	if (ipproto)
		mnl_attr_put_u8(q.h, RTA_IP_PROTO, ipproto);
	if (ipproto && dport)
		mnl_attr_put(q.h, RTA_DPORT, sizeof port, &port);
	memset(out, 0, sizeof *out);
	return nl_request(nl, q.h, one_route, out);
}

/* ---- rules on a protocol that route queries do not take ---- */

/* struct rule - one that names a protocol and sends what matches to a table */
struct rule {
	uint8_t ipproto;
	uint32_t table, mark, mask;
	struct prefix dst, src; /* len 0 = any */
};

static bool rule_prefix(struct prefix *p, const struct nlattr *a, uint8_t len, bool is4)
{
	p->is4 = is4;
	p->len = len;
	return !len || (len <= (is4 ? 32 : 128) && addr_of(a, &p->addr) && addr_is4(&p->addr) == is4);
}

/* Rules about devices or users say nothing of our sockets, or nothing that can be judged here. */
static bool parse_rule(const struct nlmsghdr *h, void *row)
{
	const struct fib_rule_hdr *fr = mnl_nlmsg_get_payload(h);
	const struct nlattr *tb[FRA_MAX + 1];
	struct rule *out = row;
	bool is4;

	if (h->nlmsg_type != RTM_NEWRULE || mnl_nlmsg_get_payload_len(h) < sizeof *fr)
		return false;
	if (fr->action != FR_ACT_TO_TBL || fr->flags & FIB_RULE_INVERT)
		return false;
	index_msg(tb, FRA_MAX, h, sizeof *fr);
	if (!tb[FRA_IP_PROTO] || mnl_attr_get_payload_len(tb[FRA_IP_PROTO]) < 1 || tb[FRA_IIFNAME] || tb[FRA_OIFNAME] ||
	    tb[FRA_UID_RANGE] || tb[FRA_SPORT_RANGE] || tb[FRA_DPORT_RANGE])
		return false;
	is4 = fr->family == AF_INET;
	out->ipproto = mnl_attr_get_u8(tb[FRA_IP_PROTO]);
	out->table = tb[FRA_TABLE] ? u32_of(tb[FRA_TABLE]) : fr->table;
	out->mark = u32_of(tb[FRA_FWMARK]);
	out->mask = tb[FRA_FWMASK] ? u32_of(tb[FRA_FWMASK]) : out->mark ? UINT32_MAX : 0;
	return rule_prefix(&out->dst, tb[FRA_DST], fr->dst_len, is4) && rule_prefix(&out->src, tb[FRA_SRC], fr->src_len, is4);
}

static bool rule_fits(const struct rule *r, const struct in6_addr *dst, const struct in6_addr *src, uint32_t mark, uint8_t ipproto)
{
	return r->ipproto == ipproto && (mark & r->mask) == r->mark && (!r->dst.len || prefix_match(&r->dst, dst)) &&
	       (!r->src.len || (src && prefix_match(&r->src, src)));
}

/* The longest prefix of a table, of those the least metric. Return: 0, -ENOENT when there is none, or -errno */
static int look_in_table(struct nl *nl, uint32_t table, const struct in6_addr *dst, struct nl_route *out)
{
	int err, found = -ENOENT;
	struct nl_route *rt;
	void *rows;
	size_t n;

	err = route_rows(nl, family_of(dst), 0, table, &rows, &n);
	rt = rows;
	for (size_t i = 0; !err && i < n; i++) {
		if (rt[i].table != table || (rt[i].dst.len && !prefix_match(&rt[i].dst, dst)))
			continue;
		if (!found && (rt[i].dst.len < out->dst.len || (rt[i].dst.len == out->dst.len && rt[i].metric >= out->metric)))
			continue;
		*out = rt[i];
		found = 0;
	}
	free(rows);
	return err ? err : found;
}

/* struct held - what route queries need beside the route, as it was when the first of a round needed it */
struct held {
	struct {
		bool known;
		struct rule *v;
		size_t n;
	} rules[2]; /* IPv4, IPv6 */
	struct nl_link dev[HELD_DEVS];
	unsigned int n_devs; /* ever held: the oldest gives way */
};

void nl_hold(struct nl *nl)
{
	nl_let_go(nl);
	nl->held = calloc(1, sizeof *nl->held);
}

void nl_let_go(struct nl *nl)
{
	if (!nl->held)
		return;
	free(nl->held->rules[0].v);
	free(nl->held->rules[1].v);
	free(nl->held);
	nl->held = NULL;
}

static int ask_rules(struct nl *nl, uint8_t family, struct rule **rules, size_t *n)
{
	struct rtmsg *rtm;
	struct req q;
	void *rows;
	int err;

	rtm = req_init(&q, RTM_GETRULE, 0, sizeof *rtm);
	rtm->rtm_family = family;
	err = nl_dump(nl, q.h, sizeof(struct rule), parse_rule, &rows, n);
	*rules = rows;
	return err;
}

/* @own: the array, to be freed, when nobody holds it */
static int get_rules(struct nl *nl, uint8_t family, const struct rule **rules, size_t *n, struct rule **own)
{
	unsigned int i = family == AF_INET6;
	struct held *h = nl->held;
	int err = 0;

	*own = NULL;
	if (!h) {
		err = ask_rules(nl, family, own, n);
		*rules = *own;
		return err;
	}
	if (!h->rules[i].known)
		err = ask_rules(nl, family, &h->rules[i].v, &h->rules[i].n);
	h->rules[i].known = !err;
	*rules = h->rules[i].v;
	*n = h->rules[i].n;
	return err;
}

static int get_dev(struct nl *nl, int ifindex, struct nl_link *out)
{
	struct held *h = nl->held;
	int err;

	for (unsigned int i = 0; h && i < MIN(h->n_devs, (unsigned int)HELD_DEVS); i++) {
		if (h->dev[i].ifindex != ifindex)
			continue;
		*out = h->dev[i];
		return 0;
	}
	err = nl_link_get_index(nl, ifindex, out);
	if (!err && h)
		h->dev[h->n_devs++ % HELD_DEVS] = *out;
	return err;
}

/* What a rule on this protocol says, in the order of the rules. Return: 0, or -ENOENT when none says anything */
static int by_proto_rule(struct nl *nl, const struct in6_addr *dst, const struct in6_addr *src, uint32_t mark,
			 uint8_t ipproto, struct nl_route *out)
{
	const struct rule *rules;
	int err, found = -ENOENT;
	struct rule *own;
	size_t n;

	err = get_rules(nl, family_of(dst), &rules, &n, &own);
	for (size_t i = 0; !err && found && i < n; i++)
		if (rule_fits(&rules[i], dst, src, mark, ipproto))
			found = look_in_table(nl, rules[i].table, dst, out);
	free(own);
	if (found)
		return -ENOENT;
	if (out->type != NL_RT_UNICAST)
		out->oif = 0;
	return 0;
}

/* The route. @ipproto, @dport: 0 from then on when the kernel does not take them: it knows TCP, UDP and ICMP here */
static int ask_fib(struct nl *nl, const struct in6_addr *dst, const struct in6_addr *src, uint32_t fwmark, uint8_t *ipproto,
		   uint16_t *dport, struct nl_route *out)
{
	int err = -EOPNOTSUPP;

	if (!*ipproto || nl->refused != *ipproto)
		err = route_query(nl, dst, src, fwmark, *ipproto, *dport, 0, out);
	if (err != -EOPNOTSUPP || !*ipproto)
		return err;
	nl->refused = *ipproto;
	err = by_proto_rule(nl, dst, src, fwmark, *ipproto, out);
	if (err)
		err = route_query(nl, dst, src, fwmark, 0, 0, 0, out);
	*ipproto = 0;
	*dport = 0;
	return err;
}

int nl_route_oif(struct nl *nl, const struct in6_addr *dst, const struct in6_addr *src_or_null, uint32_t fwmark, uint8_t ipproto,
		 uint16_t dport, int *oif)
{
	struct nl_route r;
	int err = ask_fib(nl, dst, src_or_null, fwmark, &ipproto, &dport, &r);

	*oif = err ? 0 : r.oif;
	return err ? err : r.oif ? 0 : -ENETUNREACH;
}

int nl_route_get(struct nl *nl, const struct in6_addr *dst, const struct in6_addr *src_or_null,
		 uint32_t fwmark, uint8_t ipproto, uint16_t dport, struct nl_route *out)
{
	struct nl_route fib;
	struct nl_link dev;
	int err;

	err = ask_fib(nl, dst, src_or_null, fwmark, &ipproto, &dport, out);
	if (err)
		return err;
	out->route_mtu = out->mtu;
	/* what was learned hides what the route says */
	if (out->learned && !route_query(nl, dst, src_or_null, fwmark, ipproto, dport, RTM_F_FIB_MATCH, &fib))
		out->route_mtu = fib.mtu;
	if (!get_dev(nl, out->oif, &dev)) {
		memcpy(out->dev, dev.name, sizeof out->dev);
		out->dev_mtu = dev.mtu;
		if (!addr_is4(dst) && dev.mtu6)
			out->dev_mtu = MIN(dev.mtu, dev.mtu6);
	}
	if (!out->mtu)
		out->mtu = out->dev_mtu;
	return out->oif ? 0 : -ENETUNREACH;
}

/* ---- sysctl ---- */

struct sysctls {
	const char *dev;
	struct nl_sysctl *s;
	unsigned int n;
};

static int write_sysctls(void *arg)
{
	const struct sysctls *a = arg;
	char path[128];
	int err = 0;

	for (unsigned int i = 0; i < a->n; i++) {
		snprintf(path, sizeof path, "net/%s/conf/%s/%s", a->s[i].family, a->dev, a->s[i].name);
		a->s[i].err = ns_sysctl(path, a->s[i].value);
		err = err ? err : a->s[i].err;
	}
	return err;
}

int nl_sysctls(struct nl *nl, const char *dev, struct nl_sysctl *s, unsigned int n)
{
	struct sysctls a = {.dev = dev, .s = s, .n = n};

	return ns_call(nl->netns_fd, write_sysctls, &a);
}

/* ---- notifications ---- */

static int open_monitor(struct nl *nl)
{
	static const int groups[] = {RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR,
				     RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE};
	int size = MON_RCVBUF;

	nl->mon = open_sock(NETLINK_ROUTE, SOCK_NONBLOCK);
	if (!nl->mon)
		return -errno;
	setsockopt(mnl_socket_get_fd(nl->mon), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		int g = groups[i];

		if (mnl_socket_setsockopt(nl->mon, NETLINK_ADD_MEMBERSHIP, &g, sizeof g) < 0)
			return -errno;
	}
	return 0;
}

int nl_monitor_open(struct nl *nl)
{
	int saved, err;

	if (nl->mon)
		return mnl_socket_get_fd(nl->mon);
	saved = ns_enter(nl->netns_fd);
	if (saved < 0)
		return saved;
	err = open_monitor(nl);
	ns_restore(saved);
	if (!err)
		return mnl_socket_get_fd(nl->mon);
	if (nl->mon)
		mnl_socket_close(nl->mon);
	nl->mon = NULL;
	return err;
}

static void notify(const struct nlmsghdr *h, const struct nl_events *ev, void *arg)
{
	struct nl_link l = {0};
	struct nl_addr a = {0};
	struct nl_route r = {0};

	if (ev->link && parse_link(h, &l))
		ev->link(arg, &l);
	else if (ev->addr && parse_addr(h, &a))
		ev->addr(arg, &a);
	else if (ev->route && parse_fib_route(h, &r))
		ev->route(arg, &r);
	else if (ev->rule && (h->nlmsg_type == RTM_NEWRULE || h->nlmsg_type == RTM_DELRULE))
		ev->rule(arg);
}

/*
 * What waits in a socket that overflowed is older than what it lost: none of it counts, or a device would be
 * left as it once was, by a word that came after the one look at what it is. Return: 0 = nothing waits, or -errno
 */
static int discard(const struct nl *nl, void *buf)
{
	while (mnl_socket_recvfrom(nl->mon, buf, RX_BUF) >= 0 || errno == EINTR || errno == ENOBUFS || errno == ENOSPC)
		;
	return errno == EAGAIN ? 0 : -errno;
}

int nl_monitor_read(struct nl *nl, const struct nl_events *ev, void *arg)
{
	/* its own buffer: handlers make requests, which use nl->rx */
	_Alignas(8) char buf[RX_BUF];

	if (!nl->mon)
		return -EBADF;
	for (;;) {
		ssize_t n = mnl_socket_recvfrom(nl->mon, buf, sizeof buf);
		const struct nlmsghdr *h = (const struct nlmsghdr *)buf;
		int left = (int)n, err;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0 && (errno == ENOBUFS || errno == ENOSPC)) {
			err = discard(nl, buf);
			if (err)
				return err;
			if (ev->overrun)
				ev->overrun(arg);
			continue;
		}
		if (n < 0)
			return -errno;
		for (; mnl_nlmsg_ok(h, left); h = mnl_nlmsg_next(h, &left))
			notify(h, ev, arg);
	}
}
