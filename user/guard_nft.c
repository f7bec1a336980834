// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * guard_nft - the nftables layer, by libnftables inside the namespace.
 *
 *   table inet espwire_<instance>  prerouting, before connection tracking: a protected source may
 *                                  arrive by its links and lo only, from devices of any age
 *   table ip6 espwire_<instance>   postrouting: IPv6's default deny on the way out (guard_xfrm.c
 *                                  says why); a table of its own: IPv4 packets do not pay for it
 *
 * Devices are matched by name: a link that is made again is allowed again at once. Of nested
 * prefixes the longest decides, as in routing; the sets hold disjoint ranges for that. One
 * transaction changes everything and leaves the counters alone. What stands is compared with a
 * listing of the same commands in a scratch namespace, so that nft itself decides what "the same"
 * is.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/netlink.h>
#include <nftables/libnftables.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "guard_int.h"
#include "log.h"
#include "ns.h"

/* ---- running nft ---- */

struct job {
	const char *cmd[3]; /* in turn; what they print is gathered */
	bool scratch;       /* in a new namespace that dies with the thread */
	bool quiet;         /* a failure is an answer */
	bool lax;           /* what is not there prints nothing */
	bool counts;        /* print counters' values */
	char *out;
};

/* libnftables ends the process when it cannot have its socket: ask first. */
static int netfilter_there(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int run_one(struct nft_ctx *ctx, const struct job *j, const char *cmd)
{
	char first[200];

	if (!nft_run_cmd_from_buffer(ctx, cmd))
		return 0;
	snprintf(first, sizeof first, "%s", nft_ctx_get_error_buffer(ctx));
	first[strcspn(first, "\n")] = 0;
	if (!j->quiet)
		log_warnx("guard: nft: %s", first);
	return strstr(first, "No such file or directory") ? -ENOENT : -EIO;
}

static int job_fn(void *arg)
{
	struct job *j = arg;
	struct nft_ctx *ctx;
	int err;

	if (j->scratch && unshare(CLONE_NEWNET))
		return -errno;
	err = netfilter_there();
	if (err)
		return err;
	ctx = nft_ctx_new(NFT_CTX_DEFAULT);
	if (!ctx)
		return -ENOMEM;
	nft_ctx_buffer_output(ctx);
	nft_ctx_buffer_error(ctx);
	if (!j->counts)
		nft_ctx_output_set_flags(ctx, NFT_CTX_OUTPUT_STATELESS);
	for (size_t i = 0; !err && i < ARRAY_SIZE(j->cmd) && j->cmd[i]; i++) {
		err = run_one(ctx, j, j->cmd[i]);
		if (err == -ENOENT && j->lax)
			err = 0;
	}
	if (!err) {
		j->out = strdup(nft_ctx_get_output_buffer(ctx));
		err = j->out ? 0 : -ENOMEM;
	}
	nft_ctx_free(ctx);
	return err;
}

/* Always in a thread of its own: a scratch namespace must never become the caller's. */
static int run_job(int netns_fd, struct job *j)
{
	int fd = netns_fd, err;

	if (fd < 0)
		fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = ns_call(fd, job_fn, j);
	if (fd != netns_fd)
		close(fd);
	return err;
}

static int run(int netns_fd, const char *cmd, bool quiet)
{
	struct job j = {.cmd = {cmd}, .quiet = quiet};
	int err = run_job(netns_fd, &j);

	free(j.out);
	return err;
}

/* ---- the commands ---- */

struct script {
	FILE *f;
	const struct gplan *plan;
	const char *family; /* of the table being written */
	unsigned int n;     /* elements of the list being written */
	bool few4, few6;    /* rules instead of a set: see few() */
};

/* One range of addresses and a device that may carry it. */
typedef void (*allow_fn)(struct script *s, bool is4, const char *range, const char *dev);

static void rule(struct script *s, const char *where, const char *text)
{
	fprintf(s->f, "add rule %s espwire_%s %s %s\n", s->family, s->plan->instance, where, text);
}

static void rules(struct script *s, const char *where, const char *const *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		rule(s, where, text[i]);
}

static struct in6_addr last_of(const struct prefix *p)
{
	struct in6_addr a = p->addr;
	unsigned int bits = p->is4 ? p->len + 96u : p->len;

	for (unsigned int i = 0; i < 16; i++) {
		if (bits >= 8 * (i + 1))
			continue;
		a.s6_addr[i] |= bits > 8 * i ? 0xff >> (bits - 8 * i) : 0xff;
	}
	return a;
}

static struct in6_addr step(struct in6_addr a, int by)
{
	for (int i = 15; i >= 0; i--) {
		uint8_t old = a.s6_addr[i];

		a.s6_addr[i] = (uint8_t)(old + by);
		if (by > 0 ? old != 0xff : old != 0)
			break;
	}
	return a;
}

/*
 * One command per set: nft takes a second per thousand commands, and no time for a thousand
 * elements.
 */
static void next(struct script *s, const char *set, bool is4)
{
	if (s->n++)
		fputs(", ", s->f);
	else
		fprintf(s->f, "add element %s espwire_%s %s%c { ", s->family, s->plan->instance,
			set, is4 ? '4' : '6');
}

static void list_end(struct script *s)
{
	if (s->n)
		fputs(" }\n", s->f);
	s->n = 0;
}

/* The devices of rule r for one range that no longer rule covers. */
static void allow_range(struct script *s, allow_fn fn, const struct grule *r,
			const struct in6_addr *from, const struct in6_addr *to)
{
	char range[2 * INET6_ADDRSTRLEN];
	size_t n;

	addr_str(from, range);
	if (memcmp(from, to, sizeof *from)) {
		n = strlen(range);
		range[n] = '-';
		addr_str(to, range + n + 1);
	}
	for (unsigned int i = 0; i < r->n_devs; i++)
		fn(s, r->p.is4, range, r->devs[i]);
}

/*
 * Rule i minus the rules inside it. Return: the first rule that is not inside i. Depth: prefix
 * lengths.
 */
static unsigned int allow_rule(struct script *s, allow_fn fn, unsigned int i)
{
	const struct grule *r = &s->plan->r[i];
	struct in6_addr at = r->p.addr, end = last_of(&r->p), inner_end;
	unsigned int k = i + 1;

	while (k < s->plan->n && prefix_contains(&r->p, &s->plan->r[k].p)) {
		const struct prefix *in = &s->plan->r[k].p;
		struct in6_addr before = step(in->addr, -1);

		if (memcmp(&at, &in->addr, sizeof at) < 0)
			allow_range(s, fn, r, &at, &before);
		inner_end = last_of(in);
		k = allow_rule(s, fn, k);
		if (!memcmp(&inner_end, &end, sizeof end))
			return k;
		at = step(inner_end, 1);
	}
	allow_range(s, fn, r, &at, &end);
	return k;
}

static void allow_each(struct script *s, bool is4, allow_fn fn)
{
	unsigned int to = is4 ? s->plan->n4 : s->plan->n;

	for (unsigned int i = is4 ? 0 : s->plan->n4; i < to;)
		i = allow_rule(s, fn, i);
}

static void count_one(struct script *s, bool is4, const char *range, const char *dev)
{
	s->n++;
}

/*
 * The lookup of {range, device} costs 140-400 ns more than a rule or two, and most sites have few
 * links.
 */
static bool few(struct script *s, bool is4)
{
	unsigned int n;

	s->n = 0;
	allow_each(s, is4, count_one);
	n = s->n;
	s->n = 0;
	return n <= 4;
}

static void element_one(struct script *s, bool is4, const char *range, const char *dev)
{
	next(s, "allow", is4);
	fprintf(s->f, "%s . \"%s\"", range, dev);
}

static void rule_in_one(struct script *s, bool is4, const char *range, const char *dev)
{
	fprintf(s->f, "add rule inet espwire_%s in%c %s saddr %s iifname \"%s\" accept\n",
		s->plan->instance, is4 ? '4' : '6', is4 ? "ip" : "ip6", range, dev);
}

static void rule_out_one(struct script *s, bool is4, const char *range, const char *dev)
{
	fprintf(s->f, "add rule ip6 espwire_%s out6 ip6 daddr %s oifname \"%s\" accept\n",
		s->plan->instance, range, dev);
}

/*
 * The outermost prefixes; @narrow: of those that are not wide. What is inside one follows it
 * directly.
 */
static void fill_prefixes(struct script *s, bool is4, const char *set, bool narrow)
{
	unsigned int to = is4 ? s->plan->n4 : s->plan->n;
	const struct prefix *outer = NULL;
	char buf[INET6_ADDRSTRLEN + 4];

	for (unsigned int i = is4 ? 0 : s->plan->n4; i < to; i++) {
		const struct grule *r = &s->plan->r[i];

		if ((narrow && r->wide) || (outer && prefix_contains(outer, &r->p)))
			continue;
		outer = &r->p;
		next(s, set, is4);
		fputs(prefix_str(outer, buf), s->f);
	}
	list_end(s);
}

static void fill_hosts(struct script *s, bool is4, const char *set, const struct in6_addr *a,
		       unsigned int n)
{
	char buf[INET6_ADDRSTRLEN];

	for (unsigned int i = 0; i < n; i++) {
		if (addr_is4(&a[i]) != is4)
			continue;
		next(s, set, is4);
		fputs(addr_str(&a[i], buf), s->f);
	}
	list_end(s);
}

static void fill_sets(struct script *s, bool is4)
{
	if (!(is4 ? s->few4 : s->few6))
		allow_each(s, is4, element_one);
	list_end(s);
	fill_prefixes(s, is4, "protect", false);
	fill_prefixes(s, is4, "narrow", true);
	fill_hosts(s, is4, "peers", s->plan->peers, s->plan->n_peers);
	fill_hosts(s, is4, "ends", s->plan->ends, s->plan->n_ends);
}

static void make_sets(struct script *s, bool is4)
{
	const char *t = s->family, *i = s->plan->instance;
	const char *type = is4 ? "ipv4_addr" : "ipv6_addr";
	int v = is4 ? 4 : 6;

	fprintf(s->f, "add set %s espwire_%s allow%d { type %s . ifname; flags interval; }\n", t, i,
		v, type);
	fprintf(s->f, "add set %s espwire_%s protect%d { type %s; flags interval; }\n", t, i, v,
		type);
	fprintf(s->f, "add set %s espwire_%s narrow%d { type %s; flags interval; }\n", t, i, v,
		type);
	fprintf(s->f, "add set %s espwire_%s peers%d { type %s; }\n", t, i, v, type);
	fprintf(s->f, "add set %s espwire_%s ends%d { type %s; }\n", t, i, v, type);
}

static void empty_sets(struct script *s, bool is4)
{
	static const char *const sets[] = {"allow", "protect", "narrow", "peers", "ends"};

	for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
		fprintf(s->f, "flush set %s espwire_%s %s%c\n", s->family, s->plan->instance,
			sets[i], is4 ? '4' : '6');
}

static bool any_end(const struct gplan *p, bool is4)
{
	for (unsigned int i = 0; i < p->n_ends; i++)
		if (addr_is4(&p->ends[i]) == is4)
			return true;
	return false;
}

static bool any_wide(const struct gplan *p, bool is4)
{
	for (unsigned int i = is4 ? 0 : p->n4; i < (is4 ? p->n4 : p->n); i++)
		if (p->r[i].wide)
			return true;
	return false;
}

/*
 * What a wide prefix must let live on the wild side. ICMP errors count when they quote one of our
 * envelopes (@th: past 8 bytes of ICMP and the quoted header): the path MTU depends on them. Later
 * fragments carry no ports; without their first one, which is judged, nobody reassembles them.
 */
#define ERROR4 "icmp type { destination-unreachable, time-exceeded, parameter-problem }"
#define ERROR6 "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }"

static const char *const in4_wide[] = {
	"ip daddr { 224.0.0.0/24, 255.255.255.255 } accept",
	"udp sport 67 udp dport 68 accept",
	"ip protocol { udp, esp } ip frag-off & 0x1fff != 0 accept",
	ERROR4 " @th,136,8 50 accept",
	ERROR4 " @th,136,8 17 @th,224,16 { 500, 4500 } accept",
};
static const char *const in6_wide[] = {
	"ip6 saddr { ::, fe80::/10 } accept",
	"ip6 daddr { ff01::/16, ff02::/16 } accept",
	"ip6 hoplimit 255 icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, "
	"nd-neighbor-advert } accept",
	"udp sport 547 udp dport 546 accept",
	"frag frag-off != 0 accept",
	ERROR6 " @th,112,8 50 accept",
	ERROR6 " @th,112,8 17 @th,384,16 { 500, 4500 } accept",
};
static const char *const in_ike[] = {
	"meta l4proto esp accept",
	"udp dport { 500, 4500 } accept",
};
static const char *const out6_wide[] = {
	"ip6 daddr { fe80::/10, ff01::/16, ff02::/16 } accept",
	"ip6 hoplimit 255 icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, "
	"nd-neighbor-advert } accept",
	"udp sport 546 udp dport 547 accept",
	"frag frag-off != 0 accept",
};
static const char *const out_ike[] = {
	"meta l4proto esp accept",
	"udp dport { 500, 4500 } accept",
	"udp sport { 500, 4500 } accept",
};

/* What may come from, or go to, the far end of a transport mode link without having been inside ESP. */
static const char *const in4_ends[] = {
	"ip saddr @ends4 meta l4proto esp accept",
	"ip saddr @ends4 udp dport { 500, 4500 } accept",
	"ip saddr @ends4 ip protocol { udp, esp } ip frag-off & 0x1fff != 0 accept",
};
static const char *const in6_ends[] = {
	"ip6 saddr @ends6 meta l4proto esp accept",
	"ip6 saddr @ends6 udp dport { 500, 4500 } accept",
	"ip6 saddr @ends6 frag frag-off != 0 accept",
	"ip6 saddr @ends6 ip6 hoplimit 255 icmpv6 type { nd-router-solicit, nd-router-advert, "
	"nd-neighbor-solicit, nd-neighbor-advert } accept",
};
static const char *const out6_ends[] = {
	"ip6 daddr @ends6 meta l4proto esp accept",
	"ip6 daddr @ends6 udp dport { 500, 4500 } accept",
	"ip6 daddr @ends6 udp sport { 500, 4500 } accept",
	"ip6 daddr @ends6 ip6 hoplimit 255 icmpv6 type { nd-router-solicit, nd-router-advert, "
	"nd-neighbor-solicit, nd-neighbor-advert } accept",
};
/*
 * Inside the host ESP in UDP, and ICMP errors about it, may have the number of a socket of ours in
 * place of 4500 (bpf/ipsec_sock.bpf.c).
 */
static void own_ports(struct script *s, const char *where, const char *before, const char *after)
{
	char text[200];

	for (unsigned int i = 0; i < s->plan->n_ports; i++) {
		snprintf(text, sizeof text, "%s %u %s", before, s->plan->ports[i], after);
		rule(s, where, text);
	}
}

static void in_rules(struct script *s, bool is4)
{
	const char *ip = is4 ? "ip" : "ip6", *to = is4 ? "in4" : "in6";
	char text[128];
	int v = is4 ? 4 : 6;

	snprintf(text, sizeof text, "%s saddr @protect%d jump %s", ip, v, to);
	rule(s, "prerouting", text);
	snprintf(text, sizeof text, "%s saddr . iifname @allow%d accept", ip, v);
	if (is4 ? s->few4 : s->few6)
		allow_each(s, is4, rule_in_one);
	else
		rule(s, to, text);
	rule(s, to, "iifname \"lo\" accept");
	snprintf(text, sizeof text, "%s saddr @peers%d accept", ip, v);
	rule(s, to, text);
	if (any_end(s->plan, is4)) {
		rules(s, to, is4 ? in4_ends : in6_ends,
		      is4 ? ARRAY_SIZE(in4_ends) : ARRAY_SIZE(in6_ends));
		own_ports(s, to, is4 ? "ip saddr @ends4 udp dport" : "ip6 saddr @ends6 udp dport", "accept");
	}
	if (any_wide(s->plan, is4)) {
		snprintf(text, sizeof text, "%s saddr @narrow%d goto refuse", ip, v);
		rule(s, to, text);
		rules(s, to, is4 ? in4_wide : in6_wide,
		      is4 ? ARRAY_SIZE(in4_wide) : ARRAY_SIZE(in6_wide));
		if (s->plan->allow_ike) {
			rules(s, to, in_ike, ARRAY_SIZE(in_ike));
			own_ports(s, to, "udp dport", "accept");
			own_ports(s, to, is4 ? ERROR4 " @th,136,8 17 @th,224,16" : ERROR6 " @th,112,8 17 @th,384,16", "accept");
		}
	}
	rule(s, to, "goto refuse");
}

static void out6_rules(struct script *s)
{
	rule(s, "postrouting", "ip6 daddr @protect6 jump out6");
	/* the kernel's ESP shows its packets here once more before they are sealed */
	if (s->plan->kernel)
		rule(s, "out6", "rt ipsec exists accept");
	if (s->few6)
		allow_each(s, false, rule_out_one);
	else
		rule(s, "out6", "ip6 daddr . oifname @allow6 accept");
	rule(s, "out6", "oifname \"lo\" accept");
	rule(s, "out6", "ip6 daddr @peers6 accept");
	if (any_end(s->plan, false)) {
		rules(s, "out6", out6_ends, ARRAY_SIZE(out6_ends));
		own_ports(s, "out6", "ip6 daddr @ends6 udp sport", "accept");
	}
	if (any_wide(s->plan, false)) {
		rule(s, "out6", "ip6 daddr @narrow6 goto refuse");
		rules(s, "out6", out6_wide, ARRAY_SIZE(out6_wide));
		if (s->plan->allow_ike) {
			rules(s, "out6", out_ike, ARRAY_SIZE(out_ike));
			own_ports(s, "out6", "udp sport", "accept");
		}
	}
	rule(s, "out6", "goto refuse");
}

static void chain(struct script *s, const char *name, const char *spec)
{
	fprintf(s->f, "add chain %s espwire_%s %s %s\n", s->family, s->plan->instance, name, spec);
}

static void write_in(struct script *s)
{
	const char *i = s->plan->instance;

	s->family = "inet";
	fprintf(s->f,
		"add table inet espwire_%s\nadd counter inet espwire_%s plain_for_protected\n", i,
		i);
	chain(s, "prerouting", "{ type filter hook prerouting priority -310; policy accept; }");
	chain(s, "in4", "");
	chain(s, "in6", "");
	chain(s, "refuse", "");
	make_sets(s, true);
	make_sets(s, false);
	fprintf(s->f, "flush table inet espwire_%s\n", i);
	empty_sets(s, true);
	empty_sets(s, false);
	fill_sets(s, true);
	fill_sets(s, false);
	rule(s, "refuse", "counter name plain_for_protected drop");
	if (s->plan->n4)
		in_rules(s, true);
	if (s->plan->n > s->plan->n4)
		in_rules(s, false);
}

static void write_out6(struct script *s)
{
	const char *i = s->plan->instance;

	s->family = "ip6";
	fprintf(s->f, "add table ip6 espwire_%s\n", i);
	if (s->plan->n == s->plan->n4) {
		fprintf(s->f, "delete table ip6 espwire_%s\n", i);
		return;
	}
	fprintf(s->f, "add counter ip6 espwire_%s guard_cleartext\n", i);
	chain(s, "postrouting", "{ type filter hook postrouting priority 310; policy accept; }");
	chain(s, "out6", "");
	chain(s, "refuse", "");
	make_sets(s, false);
	fprintf(s->f, "flush table ip6 espwire_%s\n", i);
	empty_sets(s, false);
	fill_sets(s, false);
	rule(s, "refuse", "counter name guard_cleartext drop");
	out6_rules(s);
}

/* @fresh: throw away what stands (another version's sets and chains); its counters go with it. */
static char *script(const struct gplan *plan, bool fresh)
{
	struct script s = {.plan = plan};
	char *text = NULL;
	size_t len;

	s.f = open_memstream(&text, &len);
	if (!s.f)
		return NULL;
	if (fresh)
		fprintf(s.f,
			"add table inet espwire_%s\ndelete table inet espwire_%s\n"
			"add table ip6 espwire_%s\ndelete table ip6 espwire_%s\n",
			plan->instance, plan->instance, plan->instance, plan->instance);
	s.few4 = few(&s, true);
	s.few6 = few(&s, false);
	if (plan->n) {
		write_in(&s);
		write_out6(&s);
	}
	if (fclose(s.f)) {
		free(text);
		return NULL;
	}
	return text;
}

/* ---- what stands, what should ---- */

/*
 * Both tables as nft prints them without counts, nothing for a missing one.
 * @build: NULL = what stands; else what these commands make of an empty namespace.
 * Return: malloc'd, or NULL
 */
static char *listing(int netns_fd, const char *instance, const char *build)
{
	char list[2][96];
	struct job j = {.quiet = true, .lax = true, .scratch = build != NULL};
	size_t n = 0;

	if (build)
		j.cmd[n++] = build;
	for (int i = 0; i < 2; i++) {
		snprintf(list[i], sizeof list[i], "list table %s espwire_%s", i ? "ip6" : "inet",
			 instance);
		j.cmd[n++] = list[i];
	}
	return run_job(netns_fd, &j) ? NULL : j.out;
}

/*
 * Commands and their listing, per namespace of late: plans change rarely, audits come every few
 * seconds.
 */
static struct {
	char *build, *list;
} refs[16];
static unsigned int next_ref;

static const char *reference(int netns_fd, const struct gplan *plan, const char *build)
{
	char *list, *key;

	for (size_t i = 0; i < ARRAY_SIZE(refs); i++)
		if (refs[i].build && !strcmp(refs[i].build, build))
			return refs[i].list;
	list = listing(netns_fd, plan->instance, build);
	key = list ? strdup(build) : NULL;
	if (!key) {
		free(list);
		return NULL;
	}
	next_ref = (next_ref + 1) % ARRAY_SIZE(refs);
	free(refs[next_ref].build);
	free(refs[next_ref].list);
	refs[next_ref].build = key;
	refs[next_ref].list = list;
	return list;
}

static bool stands(int netns_fd, const struct gplan *plan, const char *build)
{
	const char *want = reference(netns_fd, plan, build);
	char *have = want ? listing(netns_fd, plan->instance, NULL) : NULL;
	bool same = have && !strcmp(have, want);

	free(have);
	return same;
}

bool guard_nft_complete(int netns_fd, const struct gplan *plan)
{
	char *build = plan->n ? script(plan, false) : NULL;
	bool ok = !plan->n || (build && stands(netns_fd, plan, build));

	free(build);
	return ok;
}

int guard_nft_apply(int netns_fd, const struct gplan *plan)
{
	char *build, *anew = NULL;
	int err;

	if (!plan->n)
		return guard_nft_release(netns_fd, plan->instance);
	build = script(plan, false);
	if (!build)
		return -ENOMEM;
	err = 0;
	if (stands(netns_fd, plan, build))
		goto out;
	/* what an older version left may not take our commands: then exchange the tables whole */
	err = run(netns_fd, build, true);
	if (!err)
		goto out;
	anew = script(plan, true);
	err = anew ? run(netns_fd, anew, false) : -ENOMEM;
out:
	free(anew);
	free(build);
	return err;
}

int guard_nft_release(int netns_fd, const char *instance)
{
	char cmd[96];
	int err = 0;

	for (int i = 0; i < 2; i++) {
		int e;

		snprintf(cmd, sizeof cmd, "delete table %s espwire_%s", i ? "ip6" : "inet",
			 instance);
		e = run(netns_fd, cmd, true);
		if (e && e != -ENOENT && !err)
			err = e;
	}
	return err;
}

/* ---- other instances in the same namespace ---- */

/* Names of the other instances with a table here, one per line, malloc'd; NULL = none */
static char *others(int netns_fd, const char *instance)
{
	static const char mark[] = "table inet espwire_";
	struct job j = {.cmd = {"list tables inet"}, .quiet = true};
	char *names, *to, *line;
	size_t own = strlen(instance);

	if (run_job(netns_fd, &j))
		return NULL;
	names = to = j.out; /* each name is shorter than its line */
	for (line = j.out; *line; line += strspn(line, "\n")) {
		size_t len = strcspn(line, "\n"), n = len - MIN(len, sizeof mark - 1);
		const char *name = line + len - n;

		if (n && !strncmp(line, mark, sizeof mark - 1) &&
		    (n != own || strncmp(name, instance, n))) {
			memmove(to, name, n);
			to += n;
			*to++ = '\n';
		}
		line += len;
	}
	*to = 0;
	return names;
}

static int keep(struct prefixes *to, const char *word, size_t len)
{
	char text[INET6_ADDRSTRLEN + 4];
	struct prefix p, *v;

	snprintf(text, sizeof text, "%.*s", (int)len, word);
	if (prefix_parse(text, &p))
		return 0;
	v = reallocarray(to->p, to->n + 1, sizeof *v);
	if (!v)
		return -ENOMEM;
	to->p = v;
	to->p[to->n++] = p;
	return 0;
}

/* "elements = { 10.2.0.0/16, fd02::/48 }": outermost prefixes, as fill_prefixes() wrote them. Other words are none. */
static int read_set(int netns_fd, const char *name, size_t len, int v, struct prefixes *to)
{
	char cmd[128];
	struct job j = {.cmd = {cmd}, .quiet = true};
	int err;

	snprintf(cmd, sizeof cmd, "list set inet espwire_%.*s protect%d", (int)len, name, v);
	if (run_job(netns_fd, &j)) /* of another version, or gone meanwhile */
		return 0;
	err = 0;
	for (const char *at = strstr(j.out, "elements"); at && *at && !err; at += strcspn(at, ", \t\n{}")) {
		at += strspn(at, ", \t\n{}");
		err = keep(to, at, strcspn(at, ", \t\n{}"));
	}
	free(j.out);
	return err;
}

int guard_nft_others(int netns_fd, const char *instance, struct prefixes *to)
{
	char *names = others(netns_fd, instance);
	int err = 0;

	*to = (struct prefixes){0};
	for (const char *at = names; at && *at && !err; at += strcspn(at, "\n") + 1) {
		err = read_set(netns_fd, at, strcspn(at, "\n"), 4, to);
		if (!err)
			err = read_set(netns_fd, at, strcspn(at, "\n"), 6, to);
	}
	free(names);
	return err;
}

/* ---- counters ---- */

static int read_counter(int netns_fd, const char *family, const char *instance, const char *name,
			uint64_t *n)
{
	char cmd[128];
	struct job j = {.cmd = {cmd}, .quiet = true, .counts = true};
	const char *p;
	int err;

	*n = 0;
	snprintf(cmd, sizeof cmd, "list counter %s espwire_%s %s", family, instance, name);
	err = run_job(netns_fd, &j);
	if (err)
		return err;
	p = strstr(j.out, "packets ");
	err = p && sscanf(p, "packets %" SCNu64, n) == 1 ? 0 : -EBADMSG;
	free(j.out);
	return err;
}

int guard_nft_drops(int netns_fd, const char *instance, uint64_t *n)
{
	return read_counter(netns_fd, "inet", instance, "plain_for_protected", n);
}

int guard_nft_cleartext(int netns_fd, const char *instance, uint64_t *n)
{
	int err = read_counter(netns_fd, "ip6", instance, "guard_cleartext", n);

	return err == -ENOENT ? 0 : err; /* no IPv6 prefix is protected */
}
