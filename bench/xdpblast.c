// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * xdpblast - XDP-only ends of a wire: no host stack, hence no skb, on either side of what is
 * measured.
 *
 *   xdpblast drop IF SECS
 *     XDP_DROP on IF, in driver mode
 *   xdpblast gen IF SECS SIZE DMAC
 *     frames of SIZE bytes, UDP 10.91.1.2 > 10.91.2.2, as fast as they go
 *   xdpblast good IF SECS SIZE DMAC SRC DST ENCAP SAFILE FIRST COUNT PPS
 *     COUNT envelopes from SRC to DST (ENCAP esp or udp) around inner packets of SIZE bytes, sealed
 *     beforehand with the [out] SA of SAFILE from sequence number FIRST on, each sent once
 *   xdpblast bad ...
 *     the same arguments; envelopes that must all be refused, in turn: unknown SPI, wrong ICV, and
 *     numbers from 1 on, which are old. Sent again and again until SECS have passed
 *
 * Frames are made by BPF_PROG_RUN with live frames, and redirected. Each such call ends by tearing
 * down its page pool, which sleeps for some 20 ms: hence big calls. good and bad print
 * sent=<n> ns=<first to last>.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>
#include "csum.h"
#include "esp.h"
#include "pkt.h"
#include "safile.h"
#include "util.h"
#include "xdpblast.skel.h"

enum {
	FRAME_MAX = 2048,
	FRAME_MIN = ETH_HLEN + IP4_HDR_LEN + UDP_HDR_LEN,
	REPEAT = 1 << 22,
	PORT = 7000,
	PORT_NATT = 4500, /* RFC 3948 */
};

enum kind { GOOD, UNKNOWN_SPI, WRONG_ICV, OLD, N_KINDS };

/* What good and bad are told. */
struct play {
	unsigned int size; /* of the inner packet */
	const struct ether_addr *dmac;
	in_addr_t src, dst;
	bool udp, bad;
	uint64_t first, pps;
	uint32_t count;
	uint32_t frame_len, slot_len;
	struct sa_conf sa;
};

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	stop = 1;
}

static int die(const char *what)
{
	perror(what);
	return 1;
}

static void ip_fill(uint8_t *ip, uint32_t len, uint8_t proto, in_addr_t src, in_addr_t dst)
{
	memset(ip, 0, IP4_HDR_LEN);
	ip[0] = 0x45;
	put16(ip + IP4_TOT_LEN, htons((uint16_t)len));
	put16(ip + IP4_FRAG, htons(IP4_DF));
	ip[IP4_TTL] = 64;
	ip[IP4_PROTO] = proto;
	put32(ip + IP4_ADDRS, src);
	put32(ip + IP4_ADDRS + 4, dst);
	put16(ip + IP4_CSUM, csum_fold(csum_partial(ip, IP4_HDR_LEN, 0)));
}

/* Without checksum: RFC 768 lets zero mean none. */
static void udp_fill(uint8_t *udp, uint32_t len, uint16_t port)
{
	memset(udp, 0, UDP_HDR_LEN);
	put16(udp, htons(port));
	put16(udp + 2, htons(port));
	put16(udp + UDP_LEN, htons((uint16_t)len));
}

static void inner_fill(uint8_t *ip, uint32_t len)
{
	ip_fill(ip, len, IPPROTO_UDP, inet_addr("10.91.1.2"), inet_addr("10.91.2.2"));
	udp_fill(ip + IP4_HDR_LEN, len - IP4_HDR_LEN, PORT);
}

static void eth_fill(uint8_t *f, const struct ether_addr *dmac)
{
	memset(f, 0, ETH_HLEN);
	memcpy(f, dmac, sizeof *dmac);
	f[ETH_ALEN] = 2; /* locally administered */
	put16(f + 2 * ETH_ALEN, htons(ETHERTYPE_IP));
}

static int drop(struct xdpblast_bpf *b, int ifindex, double secs)
{
	int fd = bpf_program__fd(b->progs.drop);
	uint64_t end = now_ns() + (uint64_t)(secs * 1e9);

	if (bpf_xdp_attach(ifindex, fd, XDP_FLAGS_DRV_MODE, NULL))
		return die("xdpblast: attach");
	while (!stop && now_ns() < end)
		usleep(20000);
	bpf_xdp_detach(ifindex, XDP_FLAGS_DRV_MODE, NULL);
	return 0;
}

/* Live frames through prog until SECS have passed, a signal comes, or *sent reaches enough. */
static int run(const struct bpf_program *prog, uint8_t *frame, uint32_t len, double secs,
	       const __u64 *sent, uint64_t enough)
{
	struct itimerval left = {.it_value = {(time_t)secs, (suseconds_t)(secs * 1e6) % 1000000}};
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = frame, .data_size_in = len, .repeat = REPEAT,
		    .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = 64);

	setitimer(ITIMER_REAL, &left, NULL); /* ends a call half way, as any signal does */
	while (!stop && *(volatile const __u64 *)sent < enough)
		if (bpf_prog_test_run_opts(bpf_program__fd(prog), &o) && errno != EINTR)
			return die("xdpblast: live frames");
	return 0;
}

static int gen(struct xdpblast_bpf *b, double secs, unsigned int size,
	       const struct ether_addr *dmac)
{
	uint8_t frame[FRAME_MAX] = {0};

	eth_fill(frame, dmac);
	inner_fill(frame + ETH_HLEN, size - ETH_HLEN);
	memcpy(b->bss->head, frame, sizeof b->bss->head);
	return run(b->progs.same, frame, size, secs, &b->bss->sent, 1);
}

/* Seal one inner packet at its place in the slot, then spoil it. */
static bool envelope(const struct play *p, struct sa_out *sa, uint32_t i, uint8_t *f)
{
	enum kind kind = p->bad ? (enum kind)(i % (N_KINDS - 1) + 1) : GOOD;
	uint32_t head = ETH_HLEN + IP4_HDR_LEN + (p->udp ? UDP_HDR_LEN : 0);
	uint32_t len = esp_envelope_len(sa->layout, p->size);
	struct esp_pkt pkt = {
		.data = f + head + esp_headroom(sa->layout), .len = p->size, .next = NEXT_IP4};

	sa->seq = sa->iv = (kind == OLD ? 1 : p->first) + i - 1; /* the last one used */
	inner_fill(pkt.data, p->size);
	esp_seal(sa, &pkt, 1);
	if (pkt.drop || pkt.data != f + head || pkt.len != len)
		return false;
	if (kind == UNKNOWN_SPI)
		put32(pkt.data, htonl(0xbad00000 + i));
	if (kind == WRONG_ICV)
		pkt.data[len - 1] ^= 1;
	eth_fill(f, p->dmac);
	ip_fill(f + ETH_HLEN, head - ETH_HLEN + len, p->udp ? IPPROTO_UDP : IPPROTO_ESP, p->src,
		p->dst);
	if (p->udp)
		udp_fill(f + head - UDP_HDR_LEN, UDP_HDR_LEN + len, PORT_NATT);
	return true;
}

/* All envelopes into the map, which is mapped for it. Return: 0 or 1, with the reason printed. */
static int fill(struct xdpblast_bpf *b, struct play *p)
{
	size_t size = (size_t)p->slot_len * p->count;
	uint8_t *slot =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(b->maps.slots), 0);
	struct sa_out sa;
	uint32_t i;
	int err;

	if (slot == MAP_FAILED)
		return die("xdpblast: map");
	err = sa_out_init(&sa, &p->sa);
	if (err) {
		fprintf(stderr, "xdpblast: SA: %s\n", strerror(-err));
		return 1;
	}
	for (i = 0; i < p->count && envelope(p, &sa, i, slot + (size_t)i * p->slot_len); i++)
		;
	sa_out_fini(&sa);
	munmap(slot, size);
	if (i == p->count)
		return 0;
	fprintf(stderr, "xdpblast: envelope %u cannot be sealed\n", i);
	return 1;
}

static int play(struct xdpblast_bpf *b, struct play *p, double secs)
{
	uint8_t frame[FRAME_MAX] = {0};
	int r = fill(b, p);

	if (r)
		return r;
	r = run(b->progs.play, frame, p->frame_len, secs, &b->bss->sent,
		p->bad ? UINT64_MAX : p->count);
	printf("sent=%" PRIu64 " ns=%" PRIu64 "\n", (uint64_t)b->bss->sent,
	       (uint64_t)(b->bss->last_ns - b->bss->start_ns));
	return r;
}

/* argv[4..12]: SIZE DMAC SRC DST ENCAP SAFILE FIRST COUNT PPS */
static bool play_args(struct play *p, char **argv)
{
	struct sa_conf in;

	p->bad = !strcmp(argv[1], "bad");
	p->size = (unsigned int)strtoul(argv[4], NULL, 10);
	p->dmac = ether_aton(argv[5]);
	p->src = inet_addr(argv[6]);
	p->dst = inet_addr(argv[7]);
	p->udp = !strcmp(argv[8], "udp");
	p->first = strtoull(argv[10], NULL, 10);
	p->count = (uint32_t)strtoul(argv[11], NULL, 10);
	p->pps = strtoull(argv[12], NULL, 10);
	if (!p->dmac || !p->first || !p->count || p->size < IP4_HDR_LEN + UDP_HDR_LEN ||
	    p->size > 1500)
		return false;
	if (aead_backend_select("auto") || safile_load(argv[9], &p->sa, &in, stderr))
		return false;
	sa_conf_wipe(&in);
	p->frame_len = ETH_HLEN + IP4_HDR_LEN + (p->udp ? UDP_HDR_LEN : 0) +
		       esp_envelope_len(sa_layout(p->sa.alg), p->size);
	p->slot_len = (p->frame_len + 7) & ~7u; /* as an array map lays its values out */
	return p->frame_len <= FRAME_MAX;
}

static struct xdpblast_bpf *load(int ifindex, const struct play *p)
{
	struct xdpblast_bpf *b = xdpblast_bpf__open();

	if (!b)
		return NULL;
	b->rodata->out_ifindex = (uint32_t)ifindex;
	b->rodata->frame_len = p->frame_len ? p->frame_len : FRAME_MIN;
	b->rodata->count = p->count ? p->count : 1;
	b->rodata->pps = p->pps;
	b->rodata->again = p->bad;
	if (p->count) {
		bpf_map__set_max_entries(b->maps.slots, p->count);
		bpf_map__set_value_size(b->maps.slots, p->slot_len);
	}
	if (!xdpblast_bpf__load(b))
		return b;
	xdpblast_bpf__destroy(b);
	return NULL;
}

static int usage(void)
{
	fprintf(stderr, "usage: xdpblast drop IF SECS\n"
			"       xdpblast gen IF SECS SIZE DMAC\n"
			"       xdpblast good|bad IF SECS SIZE DMAC SRC DST esp|udp SAFILE FIRST "
			"COUNT PPS\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = on_signal};
	const struct ether_addr *dmac = NULL;
	unsigned int size = 0;
	struct play p = {0};
	struct xdpblast_bpf *b;
	int ifindex, r;

	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGALRM, &sa, NULL);
	if (argc == 13 && (!strcmp(argv[1], "good") || !strcmp(argv[1], "bad"))) {
		if (!play_args(&p, argv))
			return usage();
	} else if (argc == 6 && !strcmp(argv[1], "gen")) {
		size = (unsigned int)strtoul(argv[4], NULL, 10);
		dmac = ether_aton(argv[5]);
		if (size < FRAME_MIN || size > ETH_HLEN + 1500 || !dmac)
			return usage();
	} else if (argc != 4 || strcmp(argv[1], "drop"))
		return usage();
	ifindex = (int)if_nametoindex(argv[2]);
	if (!ifindex)
		return die(argv[2]);
	b = load(ifindex, &p);
	if (!b)
		return die("xdpblast: load");
	r = p.count ? play(b, &p, atof(argv[3]))
	    : dmac  ? gen(b, atof(argv[3]), size, dmac)
		    : drop(b, ifindex, atof(argv[3]));
	sa_conf_wipe(&p.sa);
	xdpblast_bpf__destroy(b);
	return r;
}
