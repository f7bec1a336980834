// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * sniff - the tap of the net tests: one process, every underlay device of a test, live checks.
 *
 * Two AF_PACKET sockets per device: `clear` sees what is neither ESP nor UDP 4500 and must never
 * overflow (the leak check rests on it), `esp` sees the envelopes. Both carry vnet headers, so a
 * UDP_SEGMENT super-packet is split into the datagrams that reach the wire.
 *
 * Checks (invariants I1 and I2): a clear frame with an inner prefix as source or destination (also
 * inside an ICMP error), any frame with a canary in it, one (SPI, sequence) or (SPI, IV) with two
 * different packets. Frames whose source MAC starts with 02:bd are the test's own attacks and
 * exempt; once forwarded they have another MAC and are not.
 *
 * Commands on stdin, one line each; answers on stdout, one JSON object per line:
 *   dev NETNS_PATH DEV LABEL   start tapping      -> {"ok":true}
 *   prefix ADDR LEN            inner prefix       -> {"ok":true}
 *   canary HEX                 bytes never seen   -> {"ok":true}
 *   pcap DIR BYTES             write DIR/LABEL.{in,out}.pcap, at most BYTES each -> {"ok":true}
 *   report                     drain, then {"leaks":[...],"taps":{...},"esp":{...}}
 * Ends at end of file.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
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

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

enum { TAPS_MAX = 64, PREFIX_MAX = 64, CANARY_MAX = 8, LEAKS_MAX = 20, FRAME_MAX = 1 << 17 };

struct tap {
	char label[64];
	int fd[2]; /* clear, esp */
	FILE *pcap[2];
	uint64_t pcap_bytes[2];
	uint64_t clear[2], esp[2], exempt, leaks; /* [in, out] */
	uint64_t lost[2], unreadable;             /* lost: clear, esp; the unreadable are lost too */
};

struct prefix {
	uint8_t addr[16]; /* v4-mapped */
	unsigned int len;
};

struct canary {
	uint8_t b[64];
	size_t len;
};

/* one packet known by (spi, number): which table says what number means */
struct seen {
	uint64_t num;
	uint64_t hash; /* 0 = free */
	uint32_t spi;
};
struct table {
	struct seen *s;
	size_t cap, n;
	uint64_t same, differ;
	uint32_t bad_spi;
	uint64_t bad_num;
};

struct frame {
	const uint8_t *p;
	size_t len;
	bool out;
};

static struct tap taps[TAPS_MAX];
static unsigned int n_taps, n_prefixes, n_canaries, n_leaks;
static struct prefix prefixes[PREFIX_MAX];
static struct canary canaries[CANARY_MAX];
static char leaks[LEAKS_MAX][1024];
static struct table by_seq, by_iv;
static char pcap_dir[3000];
static uint64_t pcap_max;
static uint64_t ike, keepalives, esp_short;

/* --- nonce and sequence books --- */

static uint64_t hash_bytes(const uint8_t *p, size_t len)
{
	uint64_t h = 0x9e3779b97f4a7c15ull ^ len, w;

	for (; len >= 8; p += 8, len -= 8) {
		memcpy(&w, p, 8);
		h = (h ^ w) * 0xff51afd7ed558ccdull;
		h ^= h >> 32;
	}
	for (w = 0; len; len--)
		w = w << 8 | *p++;
	h = (h ^ w) * 0xc4ceb9fe1a85ec53ull;
	return (h ^ h >> 29) | 1;
}

static struct seen *find(struct table *t, uint32_t spi, uint64_t num)
{
	uint64_t h = num ^ spi * 0x85ebca6b00000001ull;
	size_t i;

	h ^= h >> 32; /* what counts in an IV are its last bytes: the high bits of num, which no product brings down */
	i = (h * 0x9e3779b97f4a7c15ull) >> 20;
	for (;; i++) {
		struct seen *s = &t->s[i & (t->cap - 1)];

		if (!s->hash || (s->spi == spi && s->num == num))
			return s;
	}
}

static void grow(struct table *t)
{
	struct table old = *t;

	t->cap = old.cap ? old.cap * 2 : 1 << 16;
	t->s = calloc(t->cap, sizeof(*t->s));
	if (!t->s) {
		fprintf(stderr, "sniff: out of memory\n");
		exit(1);
	}
	for (size_t i = 0; i < old.cap; i++)
		if (old.s[i].hash)
			*find(t, old.s[i].spi, old.s[i].num) = old.s[i];
	free(old.s);
}

static void note(struct table *t, uint32_t spi, uint64_t num, uint64_t hash)
{
	struct seen *s;

	if (t->n * 2 >= t->cap)
		grow(t);
	s = find(t, spi, num);
	if (!s->hash) {
		*s = (struct seen){ .num = num, .hash = hash, .spi = spi };
		t->n++;
	} else if (s->hash == hash) {
		t->same++;
	} else {
		t->differ++;
		t->bad_spi = spi;
		t->bad_num = num;
	}
}

static void esp_packet(const uint8_t *p, size_t len)
{
	uint32_t spi, seq;
	uint64_t iv, h;

	if (len < 16) {
		esp_short++;
		return;
	}
	memcpy(&spi, p, 4);
	memcpy(&seq, p + 4, 4);
	memcpy(&iv, p + 8, 8);
	h = hash_bytes(p, len);
	note(&by_seq, ntohl(spi), ntohl(seq), h);
	note(&by_iv, ntohl(spi), iv, h);
}

/* --- leaks --- */

static void leak(struct tap *t, const struct frame *f, const char *why)
{
	int n;

	t->leaks++;
	if (n_leaks == LEAKS_MAX)
		return;
	n = snprintf(leaks[n_leaks], sizeof(leaks[0]),
		     "{\"tap\":\"%s\",\"dir\":\"%s\",\"why\":\"%s\",\"len\":%zu,\"head\":\"", t->label,
		     f->out ? "out" : "in", why, f->len);
	for (size_t i = 0; i < f->len && i < 128; i++)
		n += snprintf(leaks[n_leaks] + n, sizeof(leaks[0]) - n, "%02x", f->p[i]);
	snprintf(leaks[n_leaks] + n, sizeof(leaks[0]) - n, "\"}");
	n_leaks++;
}

static bool in_prefix(const uint8_t *addr, const struct prefix *p)
{
	unsigned int bytes = p->len / 8, bits = p->len % 8;

	if (memcmp(addr, p->addr, bytes))
		return false;
	return !bits || !((addr[bytes] ^ p->addr[bytes]) >> (8 - bits));
}

static bool inner4(const uint8_t *a)
{
	uint8_t m[16] = { [10] = 0xff, [11] = 0xff, a[0], a[1], a[2], a[3] };

	for (unsigned int i = 0; i < n_prefixes; i++)
		if (in_prefix(m, &prefixes[i]))
			return true;
	return false;
}

static bool inner6(const uint8_t *a)
{
	for (unsigned int i = 0; i < n_prefixes; i++)
		if (in_prefix(a, &prefixes[i]))
			return true;
	return false;
}

/* addresses of the IP packet at p, and of the packet an ICMP error quotes */
static bool inner_ip(const uint8_t *p, size_t len, int depth)
{
	size_t hl;

	if (len >= 20 && p[0] >> 4 == 4) {
		if (inner4(p + 12) || inner4(p + 16))
			return true;
		hl = (p[0] & 15) * 4;
		if (p[9] == 1 && len >= hl + 8 && (p[hl] == 3 || p[hl] == 11 || p[hl] == 12 || p[hl] == 5))
			return depth < 2 && inner_ip(p + hl + 8, len - hl - 8, depth + 1);
		if (p[9] == 4 || p[9] == 41)
			return depth < 2 && len > hl && inner_ip(p + hl, len - hl, depth + 1);
	} else if (len >= 40 && p[0] >> 4 == 6) {
		if (inner6(p + 8) || inner6(p + 24))
			return true;
		if (p[6] == 58 && len >= 48 && p[40] < 128)
			return depth < 2 && inner_ip(p + 48, len - 48, depth + 1);
		if (p[6] == 4 || p[6] == 41)
			return depth < 2 && inner_ip(p + 40, len - 40, depth + 1);
	}
	return false;
}

static void check_canary(struct tap *t, const struct frame *f)
{
	for (unsigned int i = 0; i < n_canaries; i++)
		if (memmem(f->p, f->len, canaries[i].b, canaries[i].len)) {
			leak(t, f, "canary payload in clear");
			return;
		}
}

static bool ours(const struct frame *f)
{
	return f->len >= ETH_HLEN && f->p[6] == 0x02 && f->p[7] == 0xbd;
}

static void clear_frame(struct tap *t, const struct frame *f)
{
	uint16_t proto;

	t->clear[f->out]++;
	if (ours(f)) {
		t->exempt++;
		return;
	}
	memcpy(&proto, f->p + 12, 2);
	proto = ntohs(proto);
	if ((proto == ETH_P_IP || proto == ETH_P_IPV6) && inner_ip(f->p + 14, f->len - 14, 0))
		leak(t, f, "inner address in clear");
	else
		check_canary(t, f);
}

static void udp_payload(const uint8_t *p, size_t len)
{
	static const uint8_t marker[4];

	if (len == 1 && p[0] == 0xff)
		keepalives++;
	else if (len >= 4 && !memcmp(p, marker, 4))
		ike++;
	else
		esp_packet(p, len);
}

static void esp_frame(struct tap *t, const struct frame *f)
{
	const uint8_t *ip = f->p + 14;
	size_t hl, len = f->len - 14;
	uint8_t proto;
	uint16_t total;

	t->esp[f->out]++;
	if (ours(f)) {
		t->exempt++;
		return;
	}
	if (inner_ip(ip, len, 2))
		leak(t, f, "envelope between inner addresses");
	else
		check_canary(t, f);
	if (ip[0] >> 4 == 4) {
		hl = (ip[0] & 15) * 4;
		proto = ip[9];
		memcpy(&total, ip + 2, 2);
		total = ntohs(total);
		if (ip[6] & 0x1f || ip[7])
			return; /* a later fragment: its first one was examined */
	} else {
		hl = 40;
		proto = ip[6];
		memcpy(&total, ip + 4, 2);
		total = ntohs(total) + 40;
	}
	if (total && total < len)
		len = total;
	if (proto == IPPROTO_UDP)
		hl += 8;
	if (len < hl)
		return;
	if (proto == IPPROTO_UDP)
		udp_payload(ip + hl, len - hl);
	else
		esp_packet(ip + hl, len - hl);
}

/* --- capture --- */

static void pcap_write(struct tap *t, const struct frame *f)
{
	struct timespec ts;
	uint32_t rec[4];
	FILE *o = t->pcap[f->out];

	if (!o || t->pcap_bytes[f->out] + f->len > pcap_max)
		return;
	clock_gettime(CLOCK_REALTIME, &ts);
	rec[0] = ts.tv_sec;
	rec[1] = ts.tv_nsec / 1000;
	rec[2] = rec[3] = f->len;
	fwrite(rec, sizeof(rec), 1, o);
	fwrite(f->p, f->len, 1, o);
	t->pcap_bytes[f->out] += f->len + 16;
}

static void pcap_open(struct tap *t)
{
	static const uint32_t head[6] = { 0xa1b2c3d4, 2 | 4 << 16, 0, 0, 1 << 18, 1 };
	char name[sizeof(pcap_dir) + 128];

	for (int i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "%s/%s.%s.pcap", pcap_dir, t->label, i ? "out" : "in");
		t->pcap[i] = fopen(name, "we");
		if (t->pcap[i])
			fwrite(head, sizeof(head), 1, t->pcap[i]);
	}
}

static void one(struct tap *t, const struct frame *f, bool esp)
{
	if (esp)
		esp_frame(t, f);
	else
		clear_frame(t, f);
	pcap_write(t, f);
}

/* a UDP_SEGMENT super-packet becomes the datagrams the wire would see */
static void segments(struct tap *t, const struct frame *f, uint16_t size)
{
	static uint8_t seg[FRAME_MAX];
	bool v6 = f->p[14] >> 4 == 6;
	size_t hl = 14 + (v6 ? 40 : (f->p[14] & 15) * 4) + 8;

	if (f->len < hl || !size)
		return;
	memcpy(seg, f->p, hl);
	for (size_t off = hl; off < f->len; off += size) {
		size_t n = f->len - off < size ? f->len - off : size;
		uint16_t udp = htons(n + 8), ip = htons(hl - 14 + n), ip6 = htons(n + 8);

		memcpy(seg + hl, f->p + off, n);
		memcpy(seg + hl - 4, &udp, 2);
		memcpy(seg + (v6 ? 18 : 16), v6 ? &ip6 : &ip, 2);
		one(t, &(struct frame){ seg, hl + n, f->out }, true);
	}
}

static void frame(struct tap *t, const uint8_t *buf, size_t len, bool out, bool esp)
{
	const struct virtio_net_hdr *vh = (const void *)buf;
	struct frame f = { buf + sizeof(*vh), len - sizeof(*vh), out };

	if (len < sizeof(*vh) + 14 + (esp ? 20 : 0))
		return;
	if (esp && (vh->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) == VIRTIO_NET_HDR_GSO_UDP_L4)
		segments(t, &f, vh->gso_size);
	else
		one(t, &f, esp);
}

/* Return: frames read, at most max */
static unsigned int drain(struct tap *t, int esp, unsigned int max)
{
	static uint8_t buf[FRAME_MAX];
	unsigned int n;

	for (n = 0; n < max; n++) {
		struct sockaddr_ll from;
		socklen_t fromlen = sizeof(from);
		ssize_t len = recvfrom(t->fd[esp], buf, sizeof(buf), MSG_DONTWAIT | MSG_TRUNC, (void *)&from,
				       &fromlen);

		if (len < 0 && errno == EINVAL) { /* a super-packet that this kernel cannot show us */
			t->lost[esp]++;
			t->unreadable++;
			continue;
		}
		if (len < 0) /* ENETDOWN once when the device goes; the others EAGAIN */
			break;
		frame(t, buf, (size_t)len < sizeof(buf) ? (size_t)len : sizeof(buf),
		      from.sll_pkttype == PACKET_OUTGOING, esp);
	}
	return n;
}

/* --- sockets --- */

/* Classic BPF over the Ethernet frame: ESP, or UDP with port 4500 and a UDP header in sight. */
static int attach_filter(int fd, bool esp)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IPV6, 8, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 15),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 23),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_ESP, 14, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 12),
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 20),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x1fff, 10, 0),
		BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 14),
		BPF_STMT(BPF_JMP | BPF_JA, 4),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 20), /* IPv6 */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_ESP, 7, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 5),
		BPF_STMT(BPF_LDX | BPF_W | BPF_IMM, 40),
		BPF_STMT(BPF_LD | BPF_H | BPF_IND, 14), /* ports */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 4500, 3, 0),
		BPF_STMT(BPF_LD | BPF_H | BPF_IND, 16),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 4500, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, esp ? 0 : FRAME_MAX),
		BPF_STMT(BPF_RET | BPF_K, esp ? FRAME_MAX : 0),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog));
}

/* In the namespace of the device. The filter goes in before the bind: no stray frame. */
static int tap_socket(const char *dev, bool esp)
{
	int on = 1, big = 64 << 20, fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_ll ll = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
				  .sll_ifindex = (int)if_nametoindex(dev) };

	if (fd < 0 || !ll.sll_ifindex || attach_filter(fd, esp) ||
	    setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof(big)) ||
	    bind(fd, (void *)&ll, sizeof(ll))) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

static int in_netns(const char *path, const char *dev, struct tap *t)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), ns = open(path, O_RDONLY | O_CLOEXEC);
	int err = -1;

	if (home >= 0 && ns >= 0 && !setns(ns, CLONE_NEWNET)) {
		t->fd[0] = tap_socket(dev, false);
		t->fd[1] = tap_socket(dev, true);
		err = t->fd[0] < 0 || t->fd[1] < 0 ? -1 : 0;
		if (setns(home, CLONE_NEWNET))
			exit(1);
	}
	if (home >= 0)
		close(home);
	if (ns >= 0)
		close(ns);
	return err;
}

/* --- commands --- */

static int cmd_dev(const char *path, const char *dev, const char *label)
{
	struct tap *t = &taps[n_taps];

	if (n_taps == TAPS_MAX || in_netns(path, dev, t))
		return -1;
	snprintf(t->label, sizeof(t->label), "%s", label);
	if (pcap_dir[0])
		pcap_open(t);
	n_taps++;
	return 0;
}

static int cmd_prefix(const char *addr, const char *len)
{
	struct prefix *p = &prefixes[n_prefixes];

	if (n_prefixes == PREFIX_MAX)
		return -1;
	*p = (struct prefix){ .len = (unsigned int)atoi(len) };
	if (!strchr(addr, ':')) {
		p->addr[10] = p->addr[11] = 0xff;
		p->len += 96;
		if (inet_pton(AF_INET, addr, p->addr + 12) != 1)
			return -1;
	} else if (inet_pton(AF_INET6, addr, p->addr) != 1) {
		return -1;
	}
	if (p->len > 128)
		return -1;
	n_prefixes++;
	return 0;
}

static int cmd_canary(const char *hex)
{
	struct canary *c = &canaries[n_canaries];
	size_t len = strlen(hex) / 2;

	if (n_canaries == CANARY_MAX || len < 8 || len > sizeof(c->b))
		return -1;
	for (size_t i = 0; i < len; i++)
		if (sscanf(hex + 2 * i, "%2hhx", &c->b[i]) != 1)
			return -1;
	c->len = len;
	n_canaries++;
	return 0;
}

static int cmd_pcap(const char *dir, const char *bytes)
{
	snprintf(pcap_dir, sizeof(pcap_dir), "%s", dir);
	pcap_max = strtoull(bytes, NULL, 10);
	for (unsigned int i = 0; i < n_taps; i++)
		pcap_open(&taps[i]);
	return 0;
}

static void count_lost(struct tap *t)
{
	for (int i = 0; i < 2; i++) {
		struct tpacket_stats st = { 0 };
		socklen_t len = sizeof(st);

		if (!getsockopt(t->fd[i], SOL_PACKET, PACKET_STATISTICS, &st, &len))
			t->lost[i] += st.tp_drops;
	}
}

static void print_table(const char *name, const struct table *t)
{
	printf("\"%s\":{\"unique\":%zu,\"same\":%llu,\"differ\":%llu,\"spi\":%u,\"number\":%llu}", name, t->n,
	       (unsigned long long)t->same, (unsigned long long)t->differ, t->bad_spi,
	       (unsigned long long)t->bad_num);
}

static void cmd_report(void)
{
	printf("{\"taps\":{");
	for (unsigned int i = 0; i < n_taps; i++) {
		struct tap *t = &taps[i];

		drain(t, 0, 1 << 20);
		drain(t, 1, 1 << 20);
		count_lost(t);
		printf("%s\"%s\":{\"clear_in\":%llu,\"clear_out\":%llu,\"esp_in\":%llu,\"esp_out\":%llu,"
		       "\"exempt\":%llu,\"lost_clear\":%llu,\"lost_esp\":%llu,\"unreadable\":%llu,\"leaks\":%llu}",
		       i ? "," : "", t->label, (unsigned long long)t->clear[0],
		       (unsigned long long)t->clear[1], (unsigned long long)t->esp[0],
		       (unsigned long long)t->esp[1], (unsigned long long)t->exempt,
		       (unsigned long long)t->lost[0], (unsigned long long)t->lost[1],
		       (unsigned long long)t->unreadable, (unsigned long long)t->leaks);
		for (int k = 0; k < 2; k++)
			if (t->pcap[k])
				fflush(t->pcap[k]);
	}
	printf("},\"leaks\":[");
	for (unsigned int i = 0; i < n_leaks; i++)
		printf("%s%s", i ? "," : "", leaks[i]);
	printf("],\"esp\":{\"ike\":%llu,\"keepalives\":%llu,\"short\":%llu,", (unsigned long long)ike,
	       (unsigned long long)keepalives, (unsigned long long)esp_short);
	print_table("seq", &by_seq);
	printf(",");
	print_table("iv", &by_iv);
	printf("}}\n");
}

static void command(char *line)
{
	char *w[4] = { 0 };
	int err = -1, n = 0;

	for (char *p = strtok(line, " \n"); p && n < 4; p = strtok(NULL, " \n"))
		w[n++] = p;
	if (n == 1 && !strcmp(w[0], "report")) {
		cmd_report();
		return;
	}
	if (n == 4 && !strcmp(w[0], "dev"))
		err = cmd_dev(w[1], w[2], w[3]);
	else if (n == 3 && !strcmp(w[0], "prefix"))
		err = cmd_prefix(w[1], w[2]);
	else if (n == 2 && !strcmp(w[0], "canary"))
		err = cmd_canary(w[1]);
	else if (n == 3 && !strcmp(w[0], "pcap"))
		err = cmd_pcap(w[1], w[2]);
	printf("{\"ok\":%s}\n", err ? "false" : "true");
}

/* Return: false at end of file */
static bool commands(void)
{
	static char buf[8192];
	static size_t have;
	ssize_t n = read(STDIN_FILENO, buf + have, sizeof(buf) - 1 - have);
	char *nl;

	if (n <= 0)
		return n < 0 && errno == EINTR;
	have += (size_t)n;
	buf[have] = '\0';
	while ((nl = strchr(buf, '\n'))) {
		size_t len = (size_t)(nl - buf) + 1;

		*nl = '\0';
		command(buf);
		memmove(buf, buf + len, have - len + 1);
		have -= len;
	}
	fflush(stdout);
	return have < sizeof(buf) - 1;
}

int main(void)
{
	grow(&by_seq);
	grow(&by_iv);
	for (;;) {
		struct pollfd p[1 + 2 * TAPS_MAX] = { { .fd = STDIN_FILENO, .events = POLLIN } };

		for (unsigned int i = 0; i < 2 * n_taps; i++)
			p[1 + i] = (struct pollfd){ .fd = taps[i / 2].fd[i % 2], .events = POLLIN };
		if (poll(p, 1 + 2 * n_taps, -1) < 0 && errno != EINTR)
			return 1;
		for (unsigned int i = 0; i < 2 * n_taps; i++)
			if (p[1 + i].revents)
				drain(&taps[i / 2], i % 2, 256);
		if (p[0].revents && !commands())
			return 0;
	}
}
