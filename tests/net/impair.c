// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * impair - a bad wire for the net tests, where the kernel has no netem: joins two devices of one
 * namespace frame by frame, and loses, doubles, damages, delays and reorders what it is told to.
 *
 *   impair NETNS_PATH DEV_A DEV_B SEED
 *
 * Commands on stdin, one line each; answers on stdout, one JSON object per line. DIR is a for frames
 * that come in at DEV_A, b for the others. Rules see envelopes only (ESP, and UDP 4500 with ESP in
 * it): everything else passes untouched, as `other`.
 *
 *   DIR drop WHEN                it is gone
 *   DIR corrupt WHEN FROM TO     one bit flips in bytes FROM..TO-1, counted from the ESP header;
 *                                negative numbers, and 0 as TO, count from the end
 *   DIR truncate WHEN N          only N bytes from the ESP header on are left; lengths and checksums
 *                                say so, so that only ESP is short
 *   DIR dup WHEN N               N copies go right behind it
 *   DIR swap WHEN N MS           held until N later envelopes have gone, or MS have passed
 *   DIR delay WHEN US JITTER     that many microseconds later, and up to JITTER more
 *   DIR rate KBIT QUEUE          no faster; at most QUEUE frames wait, the rest is `overflow`
 *   clear                        forget all rules, let go what is held
 *   report                       {"a":{...},"b":{...}}
 *
 * WHEN: p=0.02 (each by chance, from SEED), every=50, burst=100/8 (8 of every 100), at=3,9,12 (counted
 * from 1, from the moment the rule came), all. An envelope passes the rules in the order above; what
 * one drops no later one sees. Per direction in + duplicated = out + dropped + overflow + tx_lost +
 * held; rx_lost is the kernel's word for what we never saw. Damaged envelopes get MAC_BAD as source,
 * which sniff.c takes for the test's own.
 *
 * The devices' far ends must send what a wire would carry: no checksum and no segmentation offload.
 * One thread, one poll(): what a turn reads is sent in that turn.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef PACKET_IGNORE_OUTGOING
#define PACKET_IGNORE_OUTGOING 23
#endif

enum { FRAME_MAX = 10000, RULES_MAX = 16, AT_MAX = 64, BATCH = 64, SOCK_BUF = 64 << 20 };
enum { IP4_MIN = 20, IP6_LEN = 40, UDP_LEN = 8, ESP_MIN = 8, PORT_NATT = 4500 };

static const uint8_t mac_bad[ETH_ALEN] = {0x02, 0xbd, 0, 0, 0, 2};

/* In the order in which an envelope meets them. */
enum what { DROP, CORRUPT, TRUNCATE, DUP, SWAP, DELAY, N_WHAT };
static const char *const what_names[N_WHAT] = {"drop", "corrupt", "truncate", "dup", "swap", "delay"};
static const int what_args[N_WHAT] = {0, 2, 1, 1, 2, 2};

enum when { BY_CHANCE, EVERY, BURST, AT };

struct rule {
	enum what what;
	enum when when;
	double p;
	uint64_t of, n;  /* EVERY: one of `of`; BURST: n of `of` */
	uint64_t at[AT_MAX];
	unsigned int n_at;
	uint64_t seen;   /* envelopes since the rule came */
	long arg[2];
};

/* When a frame may go: UINT64_MAX in both = at once. */
struct fate {
	uint64_t due_ns;
	uint64_t due_n; /* or when so many envelopes have gone */
	bool in_rate;   /* counts against the queue of the rate limit */
};

/* A frame that waits: for its time, or for others to go first. */
struct held {
	struct held *next;
	struct fate fate;
	uint32_t len;
	uint8_t data[];
};

struct way {
	int rx, tx;
	struct rule rules[RULES_MAX];
	unsigned int n_rules;
	uint64_t kbit, queue_max, free_ns, queued;
	struct held *held; /* by due_ns, then in order of arrival */
	uint64_t n_swapped; /* of these */
	uint64_t gone;     /* envelopes sent */
	uint64_t in, other, out, dropped, overflow, duplicated, corrupted, truncated, swapped, delayed, expired,
		n_held, tx_lost, rx_lost;
};

static struct way ways[2];
static uint64_t rng;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* xorshift64*: the same SEED, the same wire */
static uint64_t draw(void)
{
	rng ^= rng >> 12;
	rng ^= rng << 25;
	rng ^= rng >> 27;
	return rng * 0x2545f4914f6cdd1dull;
}

static uint32_t be16(const uint8_t *p)
{
	return (uint32_t)p[0] << 8 | p[1];
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* --- envelopes --- */

/* struct env - where the layers of an envelope begin in its frame */
struct env {
	uint32_t ip, udp, esp; /* udp 0 = none */
	bool v6;
};

static bool is_env(const uint8_t *f, uint32_t len, struct env *e)
{
	uint32_t proto, l4;

	*e = (struct env){.ip = ETH_HLEN};
	if (len < ETH_HLEN + IP4_MIN)
		return false;
	if (be16(f + 12) == ETHERTYPE_IP) {
		if (be16(f + ETH_HLEN + 6) & 0x1fff)
			return false; /* a later fragment */
		proto = f[ETH_HLEN + 9];
		l4 = ETH_HLEN + (f[ETH_HLEN] & 15u) * 4;
	} else if (be16(f + 12) == ETHERTYPE_IPV6 && len >= ETH_HLEN + IP6_LEN) {
		e->v6 = true;
		proto = f[ETH_HLEN + 6];
		l4 = ETH_HLEN + IP6_LEN;
	} else {
		return false;
	}
	e->esp = l4;
	if (proto == IPPROTO_UDP && len >= l4 + UDP_LEN + ESP_MIN &&
	    (be16(f + l4) == PORT_NATT || be16(f + l4 + 2) == PORT_NATT)) {
		e->udp = l4;
		e->esp = l4 + UDP_LEN;
		return memcmp(f + e->esp, "\0\0\0\0", 4);
	}
	return proto == IPPROTO_ESP && len >= l4 + ESP_MIN;
}

static uint32_t sum(const uint8_t *p, uint32_t len, uint32_t s)
{
	for (; len > 1; p += 2, len -= 2)
		s += be16(p);
	if (len)
		s += (uint32_t)*p << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return s;
}

/* Every header tells of a packet that ends at len. */
static void set_lengths(uint8_t *f, uint32_t len, const struct env *e)
{
	uint8_t *ip = f + e->ip, *udp = f + e->udp;
	uint32_t n = len - e->udp, s;

	if (e->v6) {
		put16(ip + 4, len - e->ip - IP6_LEN);
	} else {
		put16(ip + 2, len - e->ip);
		put16(ip + 10, 0);
		put16(ip + 10, ~sum(ip, (ip[0] & 15u) * 4, 0) & 0xffff);
	}
	if (!e->udp)
		return;
	put16(udp + 4, n);
	put16(udp + 6, 0);
	s = sum(e->v6 ? ip + 8 : ip + 12, e->v6 ? 32 : 8, n + IPPROTO_UDP);
	s = ~sum(udp, n, s) & 0xffff;
	put16(udp + 6, s ? s : 0xffff);
}

/* --- rules --- */

static bool strikes(struct rule *r)
{
	uint64_t n = ++r->seen;

	switch (r->when) {
	case BY_CHANCE:
		return (double)(draw() >> 11) / (double)(1ull << 53) < r->p;
	case EVERY:
		return n % r->of == 0;
	case BURST:
		return (n - 1) % r->of < r->n;
	case AT:
		for (unsigned int i = 0; i < r->n_at; i++)
			if (r->at[i] == n)
				return true;
	}
	return false;
}

static void damage(uint8_t *f, uint32_t len, const struct env *e, const struct rule *r)
{
	long room = (long)(len - e->esp), from = r->arg[0], to = r->arg[1];
	uint64_t bit;

	from += from < 0 ? room : 0;
	to += to <= 0 ? room : 0;
	if (from < 0 || to > room || from >= to)
		return;
	bit = draw() % ((uint64_t)(to - from) * 8);
	f[e->esp + from + (long)(bit / 8)] ^= (uint8_t)(1u << bit % 8);
	memcpy(f + ETH_ALEN, mac_bad, ETH_ALEN);
}

static void cut(uint8_t *f, uint32_t *len, const struct env *e, const struct rule *r)
{
	if (r->arg[0] >= (long)(*len - e->esp))
		return;
	*len = e->esp + (uint32_t)r->arg[0];
	set_lengths(f, *len, e);
	memcpy(f + ETH_ALEN, mac_bad, ETH_ALEN);
}

/* --- sending --- */

static void send_frame(struct way *w, const uint8_t *f, uint32_t len, bool env)
{
	for (unsigned int i = 0; i < 2000; i++) {
		if (send(w->tx, f, len, 0) == (ssize_t)len) {
			w->out++;
			w->gone += env;
			return;
		}
		if (errno != ENOBUFS && errno != EAGAIN)
			break;
		usleep(50); /* the far end is behind */
	}
	w->tx_lost++;
}

static bool is_swapped(const struct held *h)
{
	return h->fate.due_n != UINT64_MAX;
}

static void release(struct way *w, struct held **at)
{
	struct held *h = *at;

	*at = h->next;
	w->n_held--;
	w->n_swapped -= is_swapped(h);
	w->queued -= h->fate.in_rate;
	send_frame(w, h->data, h->len, true);
	free(h);
}

/* Whose turn has come. One that goes may let another go. */
static void release_due(struct way *w, uint64_t now)
{
	struct held **at = &w->held, *h;

	while ((h = *at) && (w->n_swapped || h->fate.due_ns <= now)) {
		if (h->fate.due_n > w->gone && h->fate.due_ns > now) {
			at = &h->next;
			continue;
		}
		w->expired += is_swapped(h) && h->fate.due_n > w->gone;
		release(w, at);
		at = &w->held;
	}
}

static void hold(struct way *w, const uint8_t *f, uint32_t len, const struct fate *fate)
{
	struct held **at = &w->held, *h = malloc(sizeof *h + len);

	if (!h)
		die("impair: memory");
	h->fate = *fate;
	h->len = len;
	memcpy(h->data, f, len);
	while (*at && (*at)->fate.due_ns <= fate->due_ns)
		at = &(*at)->next;
	h->next = *at;
	*at = h;
	w->n_held++;
	w->n_swapped += is_swapped(h);
	w->queued += fate->in_rate;
}

/* The rate limit is a delay that grows with what waits. */
static void onto_the_wire(struct way *w, const uint8_t *f, uint32_t len, struct fate fate, uint64_t now)
{
	if (w->kbit) {
		if (w->queued >= w->queue_max) {
			w->overflow++;
			return;
		}
		if (w->free_ns < now)
			w->free_ns = now;
		w->free_ns += (uint64_t)len * 8 * 1000000 / w->kbit;
		if (fate.due_ns == UINT64_MAX || fate.due_ns < w->free_ns)
			fate.due_ns = w->free_ns;
		fate.in_rate = true;
	}
	if (fate.due_ns == UINT64_MAX && fate.due_n == UINT64_MAX)
		send_frame(w, f, len, true);
	else
		hold(w, f, len, &fate);
}

static void envelope(struct way *w, uint8_t *f, uint32_t len, const struct env *e, uint64_t now)
{
	struct fate fate = {.due_ns = UINT64_MAX, .due_n = UINT64_MAX};
	unsigned int copies = 0;

	for (unsigned int i = 0; i < w->n_rules; i++) {
		struct rule *r = &w->rules[i];

		if (!strikes(r))
			continue;
		switch (r->what) {
		case DROP:
			w->dropped++;
			return;
		case CORRUPT:
			damage(f, len, e, r);
			w->corrupted++;
			break;
		case TRUNCATE:
			cut(f, &len, e, r);
			w->truncated++;
			break;
		case DUP:
			copies += (unsigned int)r->arg[0];
			break;
		case SWAP:
			fate.due_n = w->gone + (uint64_t)r->arg[0];
			fate.due_ns = now + (uint64_t)r->arg[1] * 1000000;
			w->swapped++;
			break;
		case DELAY:
			fate.due_ns = now + (uint64_t)r->arg[0] * 1000 +
				    (r->arg[1] ? draw() % ((uint64_t)r->arg[1] * 1000) : 0);
			w->delayed++;
			break;
		case N_WHAT:
			break;
		}
	}
	w->duplicated += copies;
	for (unsigned int i = 0; i <= copies; i++)
		onto_the_wire(w, f, len, fate, now);
	release_due(w, now);
}

/* Return: frames read */
static int read_some(struct way *w)
{
	static uint8_t buf[BATCH][FRAME_MAX];
	struct iovec iov[BATCH];
	struct mmsghdr m[BATCH];
	uint64_t now;
	struct env e;
	int n;

	for (unsigned int i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){buf[i], FRAME_MAX};
		m[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
	}
	n = recvmmsg(w->rx, m, BATCH, MSG_DONTWAIT, NULL);
	now = now_ns();
	for (int i = 0; i < n; i++) {
		w->in++;
		if (is_env(buf[i], m[i].msg_len, &e)) {
			envelope(w, buf[i], m[i].msg_len, &e, now);
		} else {
			w->other++;
			send_frame(w, buf[i], m[i].msg_len, false);
		}
	}
	return n;
}

/* --- commands --- */

static bool parse_when(struct rule *r, const char *s)
{
	char *end;

	if (!strcmp(s, "all")) {
		r->when = EVERY;
		r->of = 1;
	} else if (!strncmp(s, "p=", 2)) {
		r->when = BY_CHANCE;
		r->p = strtod(s + 2, NULL);
	} else if (!strncmp(s, "every=", 6)) {
		r->when = EVERY;
		r->of = strtoull(s + 6, NULL, 10);
		return r->of > 0;
	} else if (!strncmp(s, "burst=", 6)) {
		r->when = BURST;
		r->of = strtoull(s + 6, &end, 10);
		r->n = *end == '/' ? strtoull(end + 1, NULL, 10) : 0;
		return r->of > 0 && r->n > 0;
	} else if (!strncmp(s, "at=", 3)) {
		r->when = AT;
		for (s += 3; *s && r->n_at < AT_MAX; s = *end ? end + 1 : end)
			r->at[r->n_at++] = strtoull(s, &end, 10);
		return !*s;
	} else {
		return false;
	}
	return true;
}

/* Kept in the order of enum what, so that a packet meets them in that order. */
static void add_rule(struct way *w, const struct rule *r)
{
	unsigned int i = w->n_rules++;

	for (; i && w->rules[i - 1].what > r->what; i--)
		w->rules[i] = w->rules[i - 1];
	w->rules[i] = *r;
}

static bool rule(struct way *w, char **word, unsigned int n)
{
	struct rule r = {0};

	if (n == 3 && !strcmp(word[0], "rate")) {
		w->kbit = strtoull(word[1], NULL, 10);
		w->queue_max = strtoull(word[2], NULL, 10);
		return w->kbit && w->queue_max;
	}
	for (; r.what < N_WHAT && n && strcmp(word[0], what_names[r.what]); r.what++)
		;
	if (r.what == N_WHAT || n != 2u + (unsigned int)what_args[r.what] || w->n_rules == RULES_MAX ||
	    !parse_when(&r, word[1]))
		return false;
	for (unsigned int i = 2; i < n; i++)
		r.arg[i - 2] = strtol(word[i], NULL, 10);
	add_rule(w, &r);
	return true;
}

static void clear(void)
{
	for (unsigned int i = 0; i < 2; i++) {
		while (ways[i].held)
			release(&ways[i], &ways[i].held);
		ways[i].n_rules = 0;
		ways[i].kbit = 0;
	}
}

static void print_way(const char *name, struct way *w)
{
	struct tpacket_stats st;
	socklen_t len = sizeof st;

	if (!getsockopt(w->rx, SOL_PACKET, PACKET_STATISTICS, &st, &len))
		w->rx_lost += st.tp_drops; /* reading resets it */
	printf("\"%s\":{\"in\":%lu,\"other\":%lu,\"out\":%lu,\"dropped\":%lu,\"overflow\":%lu,\"duplicated\":%lu,"
	       "\"corrupted\":%lu,\"truncated\":%lu,\"swapped\":%lu,\"delayed\":%lu,\"expired\":%lu,\"held\":%lu,"
	       "\"tx_lost\":%lu,\"rx_lost\":%lu}",
	       name, w->in, w->other, w->out, w->dropped, w->overflow, w->duplicated, w->corrupted, w->truncated,
	       w->swapped, w->delayed, w->expired, w->n_held, w->tx_lost, w->rx_lost);
}

static void report(void)
{
	for (unsigned int i = 0; i < 2; i++)
		while (read_some(&ways[i]) > 0)
			;
	printf("{");
	print_way("a", &ways[0]);
	printf(",");
	print_way("b", &ways[1]);
	printf("}\n");
}

static void command(char *line)
{
	char *word[8], *rest, *w = strtok_r(line, " \n", &rest);
	unsigned int n = 0;
	bool ok = false;

	for (; w && n < 8; w = strtok_r(NULL, " \n", &rest))
		word[n++] = w;
	if (n == 1 && !strcmp(word[0], "report")) {
		report();
		return;
	}
	if (n == 1 && !strcmp(word[0], "clear")) {
		clear();
		ok = true;
	} else if (n > 1 && (word[0][0] == 'a' || word[0][0] == 'b') && !word[0][1]) {
		ok = rule(&ways[word[0][0] - 'a'], word + 1, n - 1);
	}
	printf("{\"ok\":%s}\n", ok ? "true" : "false");
}

/* --- life --- */

static int open_dev(const char *dev, int proto)
{
	struct sockaddr_ll sa = {.sll_family = AF_PACKET, .sll_protocol = htons((uint16_t)proto),
				 .sll_ifindex = (int)if_nametoindex(dev)};
	struct packet_mreq mr = {.mr_ifindex = sa.sll_ifindex, .mr_type = PACKET_MR_PROMISC};
	int one = 1, size = SOCK_BUF, fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (fd < 0 || !sa.sll_ifindex)
		die(dev);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	if (proto) /* the other one does not bypass the queue: taps shall see what is sent */
		setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&sa, sizeof sa))
		die(dev);
	if (proto && setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &mr, sizeof mr))
		die("promiscuous");
	return fd;
}

static int timeout_ms(uint64_t now)
{
	uint64_t due = now + 1000000000u;

	for (unsigned int i = 0; i < 2; i++)
		if (ways[i].held && ways[i].held->fate.due_ns < due)
			due = ways[i].held->fate.due_ns;
	return due <= now ? 0 : (int)((due - now + 999999) / 1000000);
}

int main(int argc, char **argv)
{
	struct pollfd fds[3] = {{.fd = 0, .events = POLLIN}};
	char line[4096];
	int ns;

	if (argc != 5) {
		fprintf(stderr, "usage: impair NETNS_PATH DEV_A DEV_B SEED\n");
		return 2;
	}
	ns = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (ns < 0 || setns(ns, CLONE_NEWNET))
		die(argv[1]);
	rng = strtoull(argv[4], NULL, 0) * 2 + 1;
	for (int i = 0; i < 2; i++) {
		ways[i].rx = open_dev(argv[2 + i], ETH_P_ALL);
		ways[i].tx = open_dev(argv[3 - i], 0);
		fds[1 + i] = (struct pollfd){.fd = ways[i].rx, .events = POLLIN};
	}
	setvbuf(stdin, NULL, _IONBF, 0); /* poll() must see what is left */
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (;;) {
		if (poll(fds, 3, timeout_ms(now_ns())) < 0 && errno != EINTR)
			die("poll");
		for (int i = 0; i < 2; i++) {
			if (fds[1 + i].revents)
				read_some(&ways[i]);
			release_due(&ways[i], now_ns());
		}
		if (fds[0].revents) {
			if (!fgets(line, sizeof line, stdin))
				return 0;
			command(line);
		}
	}
}
