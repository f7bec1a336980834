// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * xdpblast - XDP-only ends of a wire: no host stack, hence no skb, on either side of what is
 * measured.
 *
 *   xdpblast drop IF SECS               XDP_DROP on IF in driver mode; prints nothing
 *   xdpblast gen IF SECS SIZE DMAC      UDP frames of SIZE bytes, 10.91.1.2 > 10.91.2.2, out of IF
 *
 * Frames are made by BPF_PROG_RUN with live frames, and redirected. Each such call ends by tearing
 * down its page pool, which sleeps for some 20 ms: hence big calls. Who measures counts at the far
 * end.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <netinet/ether.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>
#include "csum.h"
#include "pkt.h"
#include "util.h"

enum {
	ETH_LEN = 14,
	IP_LEN = 20,
	UDP_HDR_LEN = 8,
	FRAME_MAX = 2048,
	REPEAT = 1 << 22,
	PORT = 7000
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

static int drop(int ifindex, double secs)
{
	static const struct bpf_insn prog[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_DROP},
		{.code = BPF_JMP | BPF_EXIT},
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "drop", "GPL", prog, 2, NULL);
	uint64_t end = now_ns() + (uint64_t)(secs * 1e9);

	if (fd < 0 || bpf_xdp_attach(ifindex, fd, XDP_FLAGS_DRV_MODE, NULL))
		return die("xdpblast: attach");
	while (!stop && now_ns() < end)
		usleep(20000);
	bpf_xdp_detach(ifindex, XDP_FLAGS_DRV_MODE, NULL);
	return 0;
}

/* A UDP/IPv4 frame without UDP checksum (RFC 768: zero means none). */
static void frame_fill(uint8_t *f, unsigned int size, const struct ether_addr *dmac)
{
	uint8_t *ip = f + ETH_LEN, *udp = ip + IP_LEN;
	uint16_t ip_len = (uint16_t)(size - ETH_LEN);

	memcpy(f, dmac, sizeof *dmac);
	f[6] = 2; /* source: locally administered */
	put16(f + 12, htons(ETHERTYPE_IP));
	ip[0] = 0x45;
	put16(ip + IP4_TOT_LEN, htons(ip_len));
	ip[IP4_TTL] = 64;
	ip[IP4_PROTO] = IPPROTO_UDP;
	put32(ip + IP4_ADDRS, inet_addr("10.91.1.2"));
	put32(ip + IP4_ADDRS + 4, inet_addr("10.91.2.2"));
	put16(ip + IP4_CSUM, csum_fold(csum_partial(ip, IP_LEN, 0)));
	put16(udp, htons(PORT));
	put16(udp + 2, htons(PORT));
	put16(udp + UDP_LEN, htons(ip_len - IP_LEN));
}

static int gen(int ifindex, double secs, unsigned int size, const struct ether_addr *dmac)
{
	static uint8_t frame[FRAME_MAX];
	const struct bpf_insn prog[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_1, .imm = ifindex},
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2},
		{.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect},
		{.code = BPF_JMP | BPF_EXIT},
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "gen", "GPL", prog, 4, NULL);
	struct itimerval left = {.it_value = {(time_t)secs, (suseconds_t)(secs * 1e6) % 1000000}};
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = frame, .data_size_in = size, .repeat = REPEAT,
		    .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = 64);

	if (fd < 0)
		return die("xdpblast: load");
	frame_fill(frame, size, dmac);
	setitimer(ITIMER_REAL, &left, NULL); /* ends a call half way, as any signal does */
	while (!stop) {
		if (bpf_prog_test_run_opts(fd, &o) && errno != EINTR)
			return die("xdpblast: live frames");
	}
	return 0;
}

static int usage(void)
{
	fprintf(stderr, "usage: xdpblast drop IF SECS | gen IF SECS SIZE DMAC\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = on_signal};
	const struct ether_addr *dmac;
	unsigned int size;
	int ifindex;

	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGALRM, &sa, NULL);
	if (argc < 4)
		return usage();
	ifindex = (int)if_nametoindex(argv[2]);
	if (!ifindex)
		return die(argv[2]);
	if (argc == 4 && !strcmp(argv[1], "drop"))
		return drop(ifindex, atof(argv[3]));
	if (argc != 6 || strcmp(argv[1], "gen"))
		return usage();
	size = (unsigned int)strtoul(argv[4], NULL, 10);
	dmac = ether_aton(argv[5]);
	if (size < ETH_LEN + IP_LEN + UDP_HDR_LEN || size > 1514 || !dmac)
		return usage();
	return gen(ifindex, atof(argv[3]), size, dmac);
}
