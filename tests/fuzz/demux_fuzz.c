/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * demux_fuzz - a frame on the wire: wire_in, compiled for user space, and the worker's own reading of the same
 * bytes (outer.c), against a third reading that is slow and obvious.
 *
 * Input: settings, what is damaged, and the frame: a good envelope of some kind with bytes changed, or the
 * input's own bytes. Held up: what is steered, passed and dropped is what RFC 4303, 3948 and design.md's I4 say;
 * a steered frame is the frame, but for the stamp, and the worker finds the same SPI in it; a port that is shown
 * to GRO leaves a UDP checksum as right or wrong as it was. The frame ends at a page that nobody may touch.
 */
#include <stdint.h>
#include <sys/mman.h>
#include "fuzz_main.h"
#include "conf.h"
#include "outer.h"
#include "pkt.h"
#include "pktgen.h"
#include "esp.h"
/* the program itself */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#include "../../bpf/ipsec_in.bpf.c"
#pragma GCC diagnostic pop

enum { SPI = 0x01020304, ROOM = 4096, PRIVATE_PORT = 40001, LINK = 5, SLOT = 9 };
enum { S_OURS = 1, S_SOCKET = 2, S_SA_SOCKET = 4, S_NO_WORKER = 8, S_RAW = 16, S_LONG = 32 };

static uint8_t *page; /* ROOM bytes, reachable by 32 bits as xdp_md wants it, then nothing */
static struct settings_ent set;
static struct sa_in_ent sa_ent = {.slot = SLOT, .sgen = 2, .link = LINK, .worker = 1};
static struct worker_ent wk;
static struct link_ctr lctr;
static struct glob_ctr gctr;
static struct wire_note noted;
static bool worker_there, steered;

/* ---- the kernel's part ---- */

static bool is_local(const struct addr_key *k)
{
	static const uint8_t v4[16] = {[10] = 0xff, 0xff, 192, 0, 2, 1};
	static const uint8_t v6[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 1};

	return !memcmp(k, v4, 16) || !memcmp(k, v6, 16);
}

void *bpf_map_lookup_elem(void *map, const void *key)
{
	static uint32_t one = 1;

	if (map == &sa_in)
		return ((const struct sa_in_key *)key)->spi_be == htonl(SPI) ? &sa_ent : NULL;
	if (map == &local_addr)
		return is_local(key) ? &one : NULL;
	if (map == &settings)
		return &set;
	if (map == &workers)
		return &wk;
	if (map == &wire_dev)
		return worker_there ? &one : NULL;
	if (map == &link_ctr)
		return &lctr;
	if (map == &wire_note)
		return &noted;
	HOLD(map == &glob_ctr);
	return &gctr;
}

__u64 bpf_ktime_get_boot_ns(void)
{
	static __u64 now;

	return now += NOTE_GAP_NS; /* every one is noted */
}

long bpf_redirect_map(void *map, __u64 key, __u64 flags)
{
	HOLD(map == &wire_dev && key == 1 && flags == XDP_DROP);
	steered = true;
	return XDP_REDIRECT;
}

__u64 bpf_xdp_get_buff_len(struct xdp_md *ctx)
{
	return ctx->data_end - ctx->data;
}

/* of `deliver` and `opened`, which are not run here */
long bpf_skb_load_bytes(const void *skb, __u32 offset, void *to, __u32 len)
{
	return -1;
}

long bpf_skb_store_bytes(struct __sk_buff *skb, __u32 offset, const void *from, __u32 len, __u64 flags)
{
	return -1;
}

long bpf_skb_change_type(struct __sk_buff *skb, __u32 type)
{
	return -1;
}

long bpf_skb_change_tail(struct __sk_buff *skb, __u32 len, __u64 flags)
{
	return -1;
}

long bpf_skb_pull_data(struct __sk_buff *skb, __u32 len)
{
	return -1;
}

long bpf_l4_csum_replace(struct __sk_buff *skb, __u32 offset, __u64 from, __u64 to, __u64 flags)
{
	return -1;
}

long bpf_l3_csum_replace(struct __sk_buff *skb, __u32 offset, __u64 from, __u64 to, __u64 flags)
{
	return -1;
}

__s64 bpf_csum_diff(__be32 *from, __u32 from_len, __be32 *to, __u32 to_len, __u32 seed)
{
	return -1;
}

long bpf_csum_level(struct __sk_buff *skb, __u64 level)
{
	return -1;
}

long bpf_loop(__u32 n, void *fn, void *ctx, __u64 flags)
{
	return -1;
}

long bpf_skb_change_head(struct __sk_buff *skb, __u32 len, __u64 flags)
{
	return -1;
}

long bpf_redirect(__u32 ifindex, __u64 flags)
{
	return -1;
}

long bpf_redirect_peer(__u32 ifindex, __u64 flags)
{
	return -1;
}

/* ---- the third reading ---- */

/* struct read - what a careful reader makes of the frame */
struct read {
	uint32_t l3, l4, end; /* offsets in the frame */
	uint8_t proto;
	bool v4, fragment, sum_ok;
	const uint8_t *src, *dst;
};

static bool slow_ip(const uint8_t *f, uint32_t len, struct read *r)
{
	const uint8_t *ip = f + 14;
	uint32_t left = len - 14, hdr;

	*r = (struct read){.l3 = 14};
	if (len < 14)
		return false;
	if (f[12] == 0x08 && f[13] == 0x00) {
		if (left < 20 || ip[0] >> 4 != 4 || (ip[0] & 15) < 5)
			return false;
		hdr = (ip[0] & 15) * 4;
		r->end = 14 + (ip[2] << 8 | ip[3]);
		if (r->end > len || r->end < 14 + hdr)
			return false;
		r->v4 = true;
		r->fragment = (ip[6] & 0x3f) || ip[7];
		r->proto = ip[9];
		r->src = ip + 12;
		r->dst = ip + 16;
		r->sum_ok = slow_sum(ip, hdr, 0) == 0xffff;
	} else if (f[12] == 0x86 && f[13] == 0xdd) {
		if (left < 40 || ip[0] >> 4 != 6)
			return false;
		hdr = 40;
		r->end = 14 + 40 + (ip[4] << 8 | ip[5]);
		if (r->end > len)
			return false;
		r->proto = ip[6];
		r->fragment = ip[6] == 44;
		r->src = ip + 8;
		r->dst = ip + 24;
		r->sum_ok = true;
	} else {
		return false;
	}
	r->l4 = 14 + hdr;
	return true;
}

static bool addressed_to_us(const struct read *r)
{
	static const uint8_t v4[4] = {192, 0, 2, 1}, v6[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 1};
	static const uint8_t map[12] = {[10] = 0xff, 0xff};

	if (r->v4)
		return !memcmp(r->dst, v4, 4);
	return !memcmp(r->dst, v6, 16) && memcmp(r->src, map, 12);
}

enum what { PASS, DIE, STEER };

static enum what unknown(uint8_t s)
{
	return s & S_OURS ? DIE : PASS;
}

static enum what expected(const uint8_t *f, uint32_t len, uint8_t s)
{
	uint32_t room, spi_at, udp_len;
	struct read r;
	bool udp;

	if (!slow_ip(f, len, &r) || r.fragment)
		return PASS;
	udp = r.proto == 17;
	room = r.end - r.l4;
	spi_at = r.l4 + (udp ? 8 : 0);
	if (udp) {
		if (r.l4 + 8 > len || be16(f + r.l4 + 2) != 4500)
			return PASS;
		udp_len = be16(f + r.l4 + 4);
		room = udp_len < room ? udp_len : room;
		if (room < 16 || !be32(f + spi_at)) /* too short for ESP, or IKE */
			return PASS;
	} else if (r.proto != 50) {
		return PASS;
	}
	if (!addressed_to_us(&r) || !r.sum_ok)
		return PASS;
	if (!udp && room < 8)
		return unknown(s);
	if (be32(f + spi_at) != SPI)
		return unknown(s);
	if (s & (S_SOCKET | S_SA_SOCKET) || len > 14 + FUNNEL_MTU)
		return PASS;
	return s & S_NO_WORKER ? DIE : STEER;
}

/* ---- comparing ---- */

/* The worker must find what XDP has found, unless the datagram claims to be longer than its packet. */
static void worker_agrees(uint8_t *f, uint32_t len, const uint8_t *was)
{
	struct stamp st;
	struct outer o;
	struct read r;
	bool lies;

	memcpy(&st, f, sizeof st);
	HOLD(st.link == LINK && st.slot == SLOT && st.sgen == 2 && st.kind == STAMP_WIRE && !st.flags);
	HOLD(!memcmp(f + 12, was + 12, len - 12));
	HOLD(slow_ip(was, len, &r));
	lies = r.proto == 17 && be16(was + r.l4 + 4) > r.end - r.l4;
	HOLD(outer_frame(&o, f + 14, len - 14) == !lies);
	if (lies)
		return;
	HOLD(o.esp >= f + 14 && o.esp + o.len <= f + len && o.len >= ESP_HDR_LEN && o.seg == o.len);
	HOLD(esp_spi(o.esp) == htonl(SPI) && o.esp == f + r.l4 + (r.proto == 17 ? 8 : 0));
	HOLD(o.meta.encap == (r.proto == 17 ? ENCAP_UDP : ENCAP_ESP));
	HOLD(!memcmp(r.v4 ? o.meta.src.s6_addr + 12 : o.meta.src.s6_addr, r.src, r.v4 ? 4 : 16));
	HOLD(addr_is4(&o.meta.src) == r.v4 && addr_is4(&o.meta.dst) == r.v4);
}

static uint32_t udp_sum(const uint8_t *f, const struct read *r)
{
	uint32_t len = r->end - r->l4;

	return slow_sum(f + r->l4, len, slow_pseudo(f + 14, r->v4 ? 4 : 6, 17, len)) % 0xffff;
}

/* Untouched, or an envelope of ours in UDP that shows GRO another port. */
static void passed(const uint8_t *f, const uint8_t *was, uint32_t len)
{
	struct read r;
	bool shown;

	if (!memcmp(f, was, len))
		return;
	HOLD(slow_ip(was, len, &r) && r.proto == 17 && be16(was + r.l4 + 2) == 4500);
	shown = be16(f + r.l4 + 2) == PRIVATE_PORT && addressed_to_us(&r) && be32(was + r.l4 + 8) == SPI;
	HOLD(shown);
	HOLD(!memcmp(f, was, r.l4 + 2) && !memcmp(f + r.l4 + 8, was + r.l4 + 8, len - r.l4 - 8));
	HOLD(be16(f + r.l4 + 4) == be16(was + r.l4 + 4));
	HOLD(!be16(was + r.l4 + 6) == !be16(f + r.l4 + 6));
	if (be16(was + r.l4 + 6))
		HOLD(udp_sum(f, &r) == udp_sum(was, &r));
}

static void one_frame(const uint8_t *frame, uint32_t len, uint8_t s)
{
	uint8_t *at = page + ROOM - len;
	struct xdp_md ctx = {.data = (uint32_t)(uintptr_t)at, .data_end = (uint32_t)(uintptr_t)(at + len)};
	uint64_t drops = gctr.drops[DROP_SHORT] + gctr.drops[DROP_NO_SA] + gctr.drops[DROP_WORKER_GONE];
	enum what want = expected(frame, len, s);
	int verdict;

	memcpy(at, frame, len);
	set.flags = (s & S_OURS ? SETTINGS_F_ESP_OURS : 0) | (s & S_SOCKET ? SETTINGS_F_SOCKET : 0) | SETTINGS_F_AUDIT;
	sa_ent.flags = s & S_SA_SOCKET ? SA_IN_F_SOCKET : 0;
	worker_there = !(s & S_NO_WORKER);
	wk.udp_port_be = htons(PRIVATE_PORT);
	steered = false;
	verdict = wire_in(&ctx);
	HOLD(verdict == (want == STEER ? XDP_REDIRECT : want == DIE ? XDP_DROP : XDP_PASS));
	HOLD(steered == (want == STEER));
	drops = gctr.drops[DROP_SHORT] + gctr.drops[DROP_NO_SA] + gctr.drops[DROP_WORKER_GONE] - drops;
	HOLD(drops == (want == DIE)); /* no packet disappears uncounted */
	if (want == STEER)
		worker_agrees(at, len, frame);
	else if (want == PASS)
		passed(at, frame, len);
}

/* A good envelope. Return: its length */
static uint32_t envelope(struct fuzz_in *in, uint8_t *f, uint32_t max)
{
	uint8_t how = fuzz_u8(in), opts = how & 4 ? 4 * (fuzz_u8(in) % 11) : 0;
	bool v6 = how & 1, udp = how & 2;
	uint32_t hdr = v6 ? 40 : 20u + opts, len = fuzz_u16(in) % (max - 200), l4 = 14 + hdr, total = hdr + (udp ? 8 : 0) + len;
	struct pktgen p = {.family = v6 ? 6 : 4, .proto = udp ? 17 : 50, .ttl = 64};

	memset(f, 0, l4 + 8 + len);
	f[12] = v6 ? 0x86 : 0x08;
	f[13] = v6 ? 0xdd : 0x00;
	if (v6) {
		pg16(f + 14, 0x6000);
		pg16(f + 18, total - 40);
		f[20] = (uint8_t)p.proto;
		memcpy(f + 22, (uint8_t[]){0x20, 0x01, 0x0d, 0xb8, [15] = 7}, 16);
		memcpy(f + 38, (uint8_t[]){0x20, 0x01, 0x0d, 0xb8, [15] = 1}, 16);
	} else {
		f[14] = (uint8_t)(0x40 | hdr / 4);
		pg16(f + 16, total);
		f[23] = (uint8_t)p.proto;
		memcpy(f + 26, (uint8_t[]){198, 51, 100, 7, 192, 0, 2, 1}, 8);
		pg16(f + 24, (uint16_t)~slow_sum(f + 14, hdr, 0));
	}
	if (udp) {
		pg16(f + l4, 4500);
		pg16(f + l4 + 2, 4500);
		pg16(f + l4 + 4, 8 + len);
	}
	if (len >= 4 && !(how & 8))
		pg32(f + l4 + (udp ? 8 : 0), SPI);
	if (udp && how & 16)
		pg16(f + l4 + 6, (uint16_t)~slow_sum(f + l4, 8 + len, slow_pseudo(f + 14, p.family, 17, 8 + len)));
	return 14 + total + (how >> 6) * 9; /* Ethernet pads */
}

static void damage(struct fuzz_in *in, uint8_t *f, uint32_t len)
{
	for (uint8_t n = fuzz_u8(in) & 3; n; n--) {
		uint32_t at = 12 + fuzz_u8(in) % 90;

		if (at < len)
			f[at] ^= fuzz_u8(in);
	}
	if (len > 34 && fuzz_u8(in) & 1 && f[12] == 0x08 && (f[14] & 15) >= 5 && 14u + (f[14] & 15) * 4 <= len) {
		pg16(f + 24, 0); /* somebody who wants it to be looked at */
		pg16(f + 24, (uint16_t)~slow_sum(f + 14, (f[14] & 15) * 4, 0));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t frame[ROOM];
	struct fuzz_in in = {data, size};
	uint8_t s = fuzz_u8(&in);
	uint32_t len;

	if (!page) {
		page = mmap(NULL, ROOM + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
		HOLD(page != MAP_FAILED && !mprotect(page + ROOM, 4096, PROT_NONE));
	}
	if (s & S_RAW) {
		len = (uint32_t)fuzz_take(&in, frame, 1514);
	} else {
		memset(frame, 0, 200);
		len = envelope(&in, frame, s & S_LONG ? ROOM : 400);
		damage(&in, frame, len);
	}
	one_frame(frame, len, s);
	return 0;
}

#ifndef FUZZ_LIBFUZZER
static size_t make_input(uint64_t *s, uint8_t *buf, size_t room)
{
	for (size_t i = 0; i < 24; i++)
		buf[i] = (uint8_t)fuzz_random(s);
	buf[0] &= (uint8_t)~S_RAW;
	if (fuzz_random(s) % 2)
		buf[1] &= (uint8_t)~8;
	return 24;
}
#endif
