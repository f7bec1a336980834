/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gso_bench - ns per segment of gso_segment(), ns per packet of gro_add(), and the checksum's
 * parts. Best of several rounds, one thread; pin it (taskset -c 1). Options: none.
 *
 * Memory as in the worker: one 64 KB super-packet is cut into a batch of frames of 2 KB; the
 * merge reads such frames, which are hot after decryption.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "csum.h"
#include "gro.h"
#include "gso.h"
#include "pkt.h"
#include "util.h"

enum { MSS = 1398, FRAME = 2048, FRAMES = 64, ROUNDS = 200, REPEAT = 150 };

static uint8_t super[66000], frames[FRAMES][FRAME];
static uint64_t sink;

/* A TCP/IPv4 packet with 12 option bytes and this payload; checksum field: pseudo-header sum. */
static uint32_t build(uint8_t *ip, uint32_t payload)
{
	uint32_t l4_len = 32 + payload;

	memset(ip, 0, 52);
	ip[0] = 0x45;
	put16(ip + IP4_TOT_LEN, htons(20 + l4_len));
	put16(ip + IP4_FRAG, htons(IP4_DF));
	ip[IP4_TTL] = 64;
	ip[IP4_PROTO] = IPPROTO_TCP;
	put32(ip + IP4_ADDRS, htonl(0x0a010001));
	put32(ip + IP4_ADDRS + 4, htonl(0x0a020001));
	put16(ip + IP4_CSUM, csum_fold(csum_partial(ip, 20, 0)));
	put32(ip + 20, htonl(40000u << 16 | 5001));
	ip[20 + TCP_DOFF] = 8 << 4;
	ip[20 + TCP_FLAGS] = TCP_F_ACK;
	memset(ip + 40, 1, 12);
	for (uint32_t i = 0; i < payload; i++)
		ip[52 + i] = rand();
	put16(ip + 20 + TCP_CSUM, csum_add16(csum_pseudo(ip, 4, IPPROTO_TCP, l4_len)));
	return 20 + l4_len;
}

static const struct virtio_net_hdr *super_hdr(uint16_t mss)
{
	static struct virtio_net_hdr vh = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
		.csum_start = 14 + 20,
		.csum_offset = 16,
	};

	vh.gso_size = mss;
	return &vh;
}

static unsigned int cut(uint32_t len, uint16_t mss)
{
	struct gso g;

	if (gso_parse(&g, super_hdr(mss), super, len, 14) || g.n_segs > FRAMES)
		exit(1);
	for (unsigned int i = 0; i < g.n_segs; i++)
		sink += gso_segment(&g, i, frames[i], FRAME);
	return g.n_segs;
}

static void report(const char *what, uint64_t best_ns, uint64_t n)
{
	printf("%-52s %7.1f ns\n", what, (double)best_ns / n);
}

static void bench_segment(const char *what, uint32_t payload, uint16_t mss)
{
	uint32_t len = build(super, payload);
	uint64_t best = UINT64_MAX, n = 0;

	for (int r = 0; r < ROUNDS; r++) {
		uint64_t t = now_ns();

		for (int i = n = 0; i < REPEAT; i++)
			n += cut(len, mss);
		best = MIN(best, now_ns() - t);
	}
	report(what, best, n);
}

static void swallow(void *arg, struct gro_out *out)
{
	sink += out->n_segs;
	++*(uint64_t *)arg;
}

/*
 * Merging edits the head's header, so each round restores it. flows: the segments are dealt to so
 * many flows, one after the other.
 */
static void bench_gro(const char *what, uint32_t payload, uint16_t mss, unsigned int flows)
{
	unsigned int n = cut(build(super, payload), mss);
	uint8_t heads[FRAMES][60];
	uint64_t best = UINT64_MAX, outs = 0, total = 0;
	struct gro *g = gro_new(true);

	for (unsigned int i = 0; i < n; i++) {
		uint8_t *f = frames[i];
		uint32_t len = be16(f + IP4_TOT_LEN);

		put16(f + 20, htons(40000 + i % flows)); /* port, sequence: in order per flow */
		put32(f + 20 + TCP_SEQ, htonl(i / flows * mss));
		put16(f + 20 + TCP_CSUM, 0);
		put16(f + 20 + TCP_CSUM,
		      csum_fold(csum_partial(f + 20, len - 20,
					     csum_pseudo(f, 4, IPPROTO_TCP, len - 20))));
		memcpy(heads[i], f, sizeof(heads[i]));
	}
	for (int r = 0; r < ROUNDS; r++) {
		uint64_t t = now_ns();

		for (int i = outs = total = 0; i < REPEAT; i++) {
			for (unsigned int k = 0; k < flows && k < n; k++)
				memcpy(frames[k], heads[k], sizeof(heads[k]));
			for (unsigned int k = 0; k < n; k++)
				gro_add(g, frames[k], be16(frames[k] + IP4_TOT_LEN), 1, swallow,
					&outs);
			gro_flush(g, swallow, &outs);
			total += n;
		}
		best = MIN(best, now_ns() - t);
	}
	report(what, best, total);
	printf("%-52s %7.1f packets per emission\n", "", (double)total / outs);
	gro_free(g);
}

static void bench_csum(uint32_t len)
{
	uint64_t best[3] = {UINT64_MAX, UINT64_MAX, UINT64_MAX};
	char what[64];

	for (int r = 0; r < ROUNDS; r++)
		for (int v = 0; v < 3; v++) {
			uint64_t t = now_ns();

			for (int i = 0; i < REPEAT * FRAMES; i++) {
				uint8_t *f = frames[i % FRAMES];

				if (v == 0)
					sink += csum_partial(f, len, sink);
				else if (v == 1)
					sink += csum_copy(f, super + i % 46 * len, len, sink);
				else
					memcpy(f, super + i % 46 * len, len);
				__asm__ volatile("" ::: "memory");
			}
			best[v] = MIN(best[v], now_ns() - t);
		}
	snprintf(what, sizeof(what), "csum_partial, %u bytes", len);
	report(what, best[0], REPEAT * FRAMES);
	snprintf(what, sizeof(what), "csum_copy, %u bytes", len);
	report(what, best[1], REPEAT * FRAMES);
	snprintf(what, sizeof(what), "memcpy, %u bytes (for comparison)", len);
	report(what, best[2], REPEAT * FRAMES);
}

int main(void)
{
	bench_segment("gso_segment, 64 KB TCP/IPv4, MSS 1398", 46 * MSS, MSS);
	bench_segment("gso_segment, 64 segments of 100", 6400, 100);
	bench_gro("gro_add + flush, 46 x 1398, one flow", 46 * MSS, MSS, 1);
	bench_gro("gro_add + flush, 46 x 1398, 8 flows interleaved", 46 * MSS, MSS, 8);
	bench_gro("gro_add + flush, 46 x 1398, 46 flows (no merging)", 46 * MSS, MSS, 46);
	bench_gro("gro_add + flush, 64 x 100, one flow", 6400, 100, 1);
	bench_csum(40);
	bench_csum(100);
	bench_csum(MSS & ~1);
	return sink == 42; /* keeps the compiler honest */
}
