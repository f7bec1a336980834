// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Every program that the kernel can run on a packet of ours: one row is one packet, with its
 * verdict, the stamp it leaves with and exactly the counters that move.
 */
#include "rig.h"
#include <net/if.h>
#include <netinet/if_ether.h>
#include <sys/ioctl.h>
#include "replay.h"
#include "transport.h"

enum {
	ACT_NEXT = -1, /* TC_ACT_UNSPEC */
	ACT_DROP = 2,
	ACT_REDIRECT = 7,
	X_DROP = 1,
	X_PASS = 2,
	X_REDIRECT = 4,
	LO = 1, /* test runs come in from the loopback device */
	LINK_ID = 5,
	GEN = 9,
	SLOT_OUT = 77,
	SLOT_IN = 0x12345,
	SPI = 0x1001,        /* ours, worker 0 */
	SPI_SOCKET = 0x1002, /* ours, but input = socket */
	SPI_REPLAY = 0x1006, /* its window is looked at */
	SLOT_REPLAY = 3,
	SPI_KERNEL = 0x1005, /* the kernel's own ESP has it */
	SPI_GONE = 0x1003,   /* ours, of a worker without a funnel */
	SPI_OUT = 0x2001,    /* of our own envelopes on LINK_ID, to 198.51.100.7 and 2001:db8::7 */
	SPI_OTHER = 0x2002,  /* of another link's envelopes */
	SPI_JUMBO = 0x1004,  /* ours, of a worker whose funnel takes 4000 bytes */
	SPI_ALIEN = 0x7777,
};

enum stamped { UNCHANGED, RAW, NESTED, WIRE, DELIVERED };

struct row {
	const char *name;
	enum load_prog prog;
	struct pkt pkt;
	int verdict;
	enum stamped stamped;
	struct change moved[6];
	uint32_t link_flags; /* extra */
	uint32_t link_flags_off;
	uint32_t worker; /* 0: TAP only, 1: TAP and XSK, 2: not there */
	uint32_t settings;
	uint32_t gso_size, gso_segs;
	bool no_link; /* the device belongs to none */
	bool no_xfrm; /* and has no xfrm device */
};

#define IN4        .src = "10.1.0.1", .dst = "10.2.0.1"
#define IN6        .src = "fd01::1", .dst = "fd02::1"
#define OUR4       .src = "198.51.100.7", .dst = "192.0.2.1"
#define OUR6       .src = "2001:db8::7", .dst = "2001:db8::1"
#define UDP        .proto = IPPROTO_UDP
#define TCP        .proto = IPPROTO_TCP
#define ESP        .proto = IPPROTO_ESP
#define MOVED(...) .moved = {__VA_ARGS__}
#define SEGS(n, bytes)                                                                             \
	{LINK(raw_segs), n},                                                                       \
	{                                                                                          \
		LINK(raw_bytes), bytes                                                             \
	}
#define PASSED         X_PASS, MOVED({GLOB(wire_pass), 1})
#define NEXT           ACT_NEXT, .stamped = UNCHANGED
#define STEERED(bytes) X_REDIRECT, WIRE, MOVED({LINK(wire_pkts), 1}, {LINK(wire_bytes), bytes})

/* What routers quote of us; protected here is 10.2.0.0/16, where this router lies. */
#define ROUTER4 .src = "10.2.0.254", .dst = "192.0.2.1", .proto = IPPROTO_ICMP, .icmp = 3
#define ROUTER6 .src = "fd02::254", .dst = "2001:db8::1", .proto = IPPROTO_ICMPV6, .icmp = 2
static const struct pkt quote_esp4 = {.src = "192.0.2.1", .dst = "198.51.100.7", ESP, .spi = SPI_OUT, .payload = 40};
static const struct pkt quote_esp6 = {.src = "2001:db8::1", .dst = "2001:db8::7", ESP, .spi = SPI_OUT, .payload = 40};
static const struct pkt quote_alien = {.src = "192.0.2.1", .dst = "198.51.100.7", ESP, .spi = SPI_ALIEN, .payload = 40};
static const struct pkt quote_udp4 = {.src = "192.0.2.1", .dst = "198.51.100.7", UDP, .sport = 4500, .dport = 4500};
static const struct pkt quote_private = {.src = "192.0.2.1", .dst = "198.51.100.7", UDP, .sport = 40000,
					 .dport = 4500, .spi = SPI_OUT, .payload = 40};
static const struct pkt quote_port = {.src = "192.0.2.1", .dst = "198.51.100.7", UDP, .sport = 40000, .dport = 53};
static const struct pkt quote_peer = {.src = "192.0.2.1", .dst = "10.2.9.9", UDP, .sport = 40000, .dport = 53};
static const struct pkt quote_transit = {.src = "192.0.2.2", .dst = "198.51.100.7", ESP, .spi = SPI_OUT, .payload = 40};
static const struct pkt quote_to_us4 = {.src = "203.0.113.5", .dst = "192.0.2.1", ESP, .spi = SPI, .frag = 0x2000, .payload = 40};
static const struct pkt quote_to_us6 = {.src = "2001:db8::7", .dst = "2001:db8::1", ESP, .spi = SPI, .payload = 40};
static const struct pkt quote_to_port = {.src = "203.0.113.5", .dst = "192.0.2.1", UDP, .sport = 9, .dport = 40000, .spi = SPI, .payload = 40};
static const struct pkt quote_not_ours = {.src = "203.0.113.5", .dst = "192.0.2.1", UDP, .sport = 9, .dport = 53, .spi = SPI_ALIEN, .payload = 40};
static const struct pkt quote_to_other = {.src = "203.0.113.5", .dst = "192.0.2.2", ESP, .spi = SPI, .payload = 40};
static const struct pkt quote_inner = {.src = "10.1.0.1", .dst = "10.2.0.1", UDP, .sport = 4500};

/* clang-format off */
static const struct row rows[] = {
	/* --- classify --- */
	{"classify: udp to the TAP of a worker without XSK", PROG_classify,
	 {IN4, UDP, .payload = 100}, ACT_REDIRECT, RAW, MOVED(SEGS(1, 128), {LINK(tap_segs), 1})},
	{"classify: small packet to the XSK funnel", PROG_classify,
	 {IN4, UDP, .payload = 100}, ACT_REDIRECT, RAW, MOVED(SEGS(1, 128), {LINK(xsk_segs), 1}),
	 .worker = 1},
	{"classify: ipv6", PROG_classify,
	 {IN6, TCP, .payload = 10}, ACT_REDIRECT, RAW, MOVED(SEGS(1, 70), {LINK(xsk_segs), 1}),
	 .worker = 1},
	{"classify: ipv4 options", PROG_classify,
	 {IN4, UDP, .opts = 3, .payload = 1}, ACT_REDIRECT, RAW,
	 MOVED(SEGS(1, 41), {LINK(tap_segs), 1})},
	{"classify: icmp, padded frame", PROG_classify,
	 {IN4, .proto = IPPROTO_ICMP, .payload = 8, .pad = 18}, ACT_REDIRECT, RAW,
	 MOVED(SEGS(1, 46), {LINK(tap_segs), 1})},
	{"classify: later fragment", PROG_classify,
	 {IN4, UDP, .frag = 0x2001, .payload = 64}, ACT_REDIRECT, RAW,
	 MOVED(SEGS(1, 92), {LINK(xsk_segs), 1}), .worker = 1},
	{"classify: above the funnel MTU to the TAP", PROG_classify,
	 {IN4, UDP, .payload = FUNNEL_MTU - 27}, ACT_REDIRECT, RAW,
	 MOVED(SEGS(1, FUNNEL_MTU + 1), {LINK(tap_segs), 1}), .worker = 1},
	{"classify: exactly the funnel MTU to the XSK", PROG_classify,
	 {IN4, UDP, .payload = FUNNEL_MTU - 28}, ACT_REDIRECT, RAW,
	 MOVED(SEGS(1, FUNNEL_MTU), {LINK(xsk_segs), 1}), .worker = 1},
	{"classify: link without XSK", PROG_classify,
	 {IN4, UDP, .payload = 4}, ACT_REDIRECT, RAW, MOVED(SEGS(1, 32), {LINK(tap_segs), 1}),
	 .worker = 1, .link_flags = LINK_F_NO_XSK},
	{"classify: super-packet, gso_segs unknown", PROG_classify,
	 {.src = "10.1.0.2", .dst = "10.2.0.1", TCP, .payload = 3001}, ACT_REDIRECT, RAW,
	 MOVED(SEGS(4, 3041 + 3 * 40), {LINK(tap_segs), 4}), .worker = 1, .gso_size = 1000},
	{"classify: super-packet, wrong gso_segs", PROG_classify,
	 {.src = "10.1.0.2", .dst = "10.2.0.1", TCP, .payload = 3000}, ACT_REDIRECT, RAW,
	 MOVED(SEGS(3, 3040 + 2 * 40), {LINK(tap_segs), 3}), .worker = 1, .gso_size = 1000,
	 .gso_segs = 9},
	{"classify: udp super-packet over ipv6", PROG_classify,
	 {.src = "fd01::2", .dst = "fd02::1", UDP, .payload = 2500}, ACT_REDIRECT, RAW,
	 MOVED(SEGS(3, 2548 + 2 * 48), {LINK(tap_segs), 3}), .worker = 1, .gso_size = 1000},
	{"classify: tunnel super-packet counts as the kernel says", PROG_classify,
	 {.src = "10.1.0.4", .dst = "10.2.0.1", .proto = IPPROTO_GRE, .payload = 3000},
	 ACT_REDIRECT, RAW, MOVED(SEGS(2, 3020), {LINK(tap_segs), 2}), .worker = 1,
	 .gso_size = 1400, .gso_segs = 2},
	{"classify: arp", PROG_classify,
	 {.ethertype = 0x0806, .pad = 46}, ACT_DROP, UNCHANGED,
	 MOVED(SEGS(1, 60), {LINK_DROP(INNER_VERSION), 1})},
	{"classify: vlan tag in the frame", PROG_classify,
	 {IN4, UDP, .n_vlan = 1, .payload = 40}, ACT_DROP, UNCHANGED,
	 MOVED(SEGS(1, 86), {LINK_DROP(INNER_VERSION), 1})},
	{"classify: ihl below 5", PROG_classify,
	 {IN4, UDP, .ihl = 4, .payload = 40}, ACT_DROP, UNCHANGED,
	 MOVED(SEGS(1, 82), {LINK_DROP(INNER_VERSION), 1})},
	{"classify: version 6 behind ethertype 4", PROG_classify,
	 {IN4, UDP, .version = 6, .payload = 40}, ACT_DROP, UNCHANGED,
	 MOVED(SEGS(1, 82), {LINK_DROP(INNER_VERSION), 1})},
	{"classify: longer than the frame", PROG_classify,
	 {IN4, UDP, .tot_len_add = 1, .payload = 4}, ACT_DROP, UNCHANGED,
	 MOVED(SEGS(1, 46), {LINK_DROP(SHORT), 1})},
	{"classify: total length below the header", PROG_classify,
	 {IN4, UDP, .tot_len_add = -20, .payload = 4}, ACT_DROP, UNCHANGED,
	 MOVED(SEGS(1, 46), {LINK_DROP(SHORT), 1})},
	{"classify: no SA", PROG_classify,
	 {IN4, TCP, .payload = 2500}, ACT_DROP, UNCHANGED,
	 MOVED(SEGS(3, 2540 + 80), {LINK_DROP(NO_SA), 3}, {LINK(wants_sa), 3}), .link_flags_off = LINK_F_OUT_SA,
	 .gso_size = 1000},
	{"classify: no SA, IPv6", PROG_classify,
	 {IN6, UDP, .payload = 4}, ACT_DROP, UNCHANGED,
	 MOVED(SEGS(1, 52), {LINK_DROP(NO_SA), 1}, {LINK(wants_sa), 1}), .link_flags_off = LINK_F_OUT_SA},
	{"classify: no SA, multicast is no reason to have one made", PROG_classify,
	 {.src = "10.1.0.1", .dst = "224.0.0.5", UDP, .payload = 4}, ACT_DROP, UNCHANGED,
	 MOVED(SEGS(1, 32), {LINK_DROP(NO_SA), 1}), .link_flags_off = LINK_F_OUT_SA},
	{"classify: no SA, IPv6 multicast", PROG_classify,
	 {.src = "fe80::1", .dst = "ff02::16", UDP, .payload = 4}, ACT_DROP, UNCHANGED,
	 MOVED(SEGS(1, 52), {LINK_DROP(NO_SA), 1}), .link_flags_off = LINK_F_OUT_SA},
	{"classify: TTL 0", PROG_classify,
	 {IN4, UDP, .spent = true, .payload = 4}, ACT_DROP, UNCHANGED,
	 MOVED(SEGS(1, 32), {LINK_DROP(TTL), 1})},
	{"classify: hop limit 0, super-packet", PROG_classify,
	 {IN6, TCP, .spent = true, .payload = 2500}, ACT_DROP, UNCHANGED,
	 MOVED(SEGS(3, 2560 + 2 * 60), {LINK_DROP(TTL), 3}), .gso_size = 1000},
	{"classify: TTL 1 is the next hop's business", PROG_classify,
	 {IN4, UDP, .hops = 1, .payload = 4}, ACT_REDIRECT, RAW,
	 MOVED(SEGS(1, 32), {LINK(tap_segs), 1})},
	{"classify: link marked as looping", PROG_classify,
	 {IN4, UDP, .payload = 4}, ACT_DROP, UNCHANGED,
	 MOVED(SEGS(1, 32), {LINK_DROP(ROUTE_LOOP), 1}), .link_flags = LINK_F_LOOP},
	{"classify: own envelope, esp", PROG_classify,
	 {.src = "192.0.2.1", .dst = "198.51.100.7", ESP, .spi = SPI_OUT, .payload = 60}, ACT_DROP,
	 UNCHANGED, MOVED(SEGS(1, 80), {LINK_DROP(ROUTE_LOOP), 1})},
	{"classify: own envelope, esp over ipv6", PROG_classify,
	 {.src = "2001:db8::1", .dst = "2001:db8::7", ESP, .spi = SPI_OUT, .payload = 60}, ACT_DROP,
	 UNCHANGED, MOVED(SEGS(1, 100), {LINK_DROP(ROUTE_LOOP), 1})},
	{"classify: own envelope, udp, behind options", PROG_classify,
	 {.src = "192.0.2.1", .dst = "198.51.100.7", UDP, .opts = 2, .sport = 4500, .dport = 4501,
	  .spi = SPI_OUT, .payload = 60}, ACT_DROP, UNCHANGED,
	 MOVED(SEGS(1, 96), {LINK_DROP(ROUTE_LOOP), 1})},
	{"classify: own envelope, udp super-packet", PROG_classify,
	 {.src = "192.0.2.1", .dst = "198.51.100.7", UDP, .sport = 4500, .dport = 4500,
	  .spi = SPI_OUT, .payload = 2000}, ACT_DROP, UNCHANGED,
	 MOVED(SEGS(2, 2028 + 28), {LINK_DROP(ROUTE_LOOP), 2}), .gso_size = 1000},
	{"classify: our SPI to somebody else is no loop", PROG_classify,
	 {.src = "192.0.2.1", .dst = "198.51.100.8", ESP, .spi = SPI_OUT, .payload = 60},
	 ACT_REDIRECT, RAW, MOVED(SEGS(1, 80), {LINK(tap_segs), 1})},
	{"classify: another link's envelope may nest", PROG_classify,
	 {.src = "192.0.2.1", .dst = "198.51.100.7", ESP, .spi = SPI_OTHER, .payload = 60},
	 ACT_REDIRECT, NESTED, MOVED(SEGS(1, 80), {LINK(tap_segs), 1})},
	{"classify: udp that only looks like it", PROG_classify,
	 {.src = "192.0.2.1", .dst = "198.51.100.7", UDP, .sport = 1, .dport = 2, .spi = SPI_OUT,
	  .payload = 60}, ACT_REDIRECT, RAW, MOVED(SEGS(1, 88), {LINK(tap_segs), 1})},
	{"classify: link not in use", PROG_classify,
	 {IN4, UDP, .payload = 4}, ACT_DROP, UNCHANGED,
	 MOVED(SEGS(1, 32), {LINK_DROP(NO_LINK), 1}), .link_flags_off = LINK_F_USED},
	{"classify: unknown device", PROG_classify,
	 {IN4, UDP, .payload = 4}, ACT_DROP, UNCHANGED, MOVED({GLOB_DROP(NO_LINK), 1}),
	 .no_link = true},
	{"classify: worker without a TAP", PROG_classify,
	 {IN4, UDP, .payload = 4}, ACT_DROP, UNCHANGED,
	 MOVED(SEGS(1, 32), {LINK_DROP(WORKER_GONE), 1}), .worker = 2},
	{"classify: worker out of range", PROG_classify,
	 {IN4, UDP, .payload = 4}, ACT_DROP, UNCHANGED,
	 MOVED(SEGS(1, 32), {LINK_DROP(WORKER_GONE), 1}), .worker = WORKER_MAX},

	{"classify: the kernel encrypts", PROG_classify,
	 {IN4, UDP, .payload = 4}, ACT_REDIRECT, UNCHANGED, MOVED(SEGS(1, 32), {LINK(kernel_segs), 1}), .link_flags = LINK_F_KERNEL},
	{"classify: the kernel encrypts, super-packet over ipv6", PROG_classify,
	 {.src = "fd01::2", .dst = "fd02::1", UDP, .payload = 2500}, ACT_REDIRECT, UNCHANGED,
	 MOVED(SEGS(3, 2548 + 2 * 48), {LINK(kernel_segs), 3}), .link_flags = LINK_F_KERNEL, .gso_size = 1000},
	{"classify: the kernel encrypts, but has no device", PROG_classify,
	 {IN4, UDP, .payload = 4}, ACT_DROP, UNCHANGED, MOVED(SEGS(1, 32), {LINK_DROP(TX_ERROR), 1}),
	 .link_flags = LINK_F_KERNEL, .no_xfrm = true},
	{"classify: the kernel would encrypt, without an SA", PROG_classify,
	 {IN4, UDP, .payload = 4}, ACT_DROP, UNCHANGED, MOVED(SEGS(1, 32), {LINK_DROP(NO_SA), 1}, {LINK(wants_sa), 1}),
	 .link_flags = LINK_F_KERNEL, .link_flags_off = LINK_F_OUT_SA},

	/* --- deliver --- */
	{"deliver: an echo for the kernel to seal", PROG_deliver,
	 {IN4, UDP, .payload = 4, .stamp = {LINK_ID, GEN, .kind = STAMP_SEAL}}, ACT_REDIRECT, UNCHANGED,
	 MOVED({LINK(deliver_pkts), 0}), .link_flags = LINK_F_KERNEL},
	{"deliver: an echo to seal where a worker encrypts", PROG_deliver,
	 {IN4, UDP, .payload = 4, .stamp = {LINK_ID, GEN, .kind = STAMP_SEAL}}, ACT_DROP, UNCHANGED,
	 MOVED({GLOB_DROP(NO_LINK), 1})},

	/* --- opened --- */
	{"opened: ipv4", PROG_opened, {IN4, UDP, .payload = 4}, ACT_REDIRECT, DELIVERED,
	 MOVED({LINK(deliver_pkts), 1}, {LINK(opened_segs), 1}), .link_flags = LINK_F_KERNEL},
	{"opened: ipv6", PROG_opened, {IN6, UDP, .payload = 4}, ACT_REDIRECT, DELIVERED,
	 MOVED({LINK(deliver_pkts), 1}, {LINK(opened_segs), 1}), .link_flags = LINK_F_KERNEL},
	{"opened: a source that the peer may use", PROG_opened, {IN4, UDP, .payload = 4}, ACT_REDIRECT, DELIVERED,
	 MOVED({LINK(deliver_pkts), 1}, {LINK(opened_segs), 1}), .link_flags = LINK_F_KERNEL | LINK_F_INNER},
	{"opened: a source that it may not", PROG_opened,
	 {.src = "10.3.0.1", .dst = "10.2.0.1", UDP, .payload = 4}, ACT_DROP, DELIVERED,
	 MOVED({LINK_DROP(INNER_SRC), 1}), .link_flags = LINK_F_KERNEL | LINK_F_INNER},
	{"opened: an ipv6 source that it may not", PROG_opened, {IN6, UDP, .payload = 4}, ACT_DROP, DELIVERED,
	 MOVED({LINK_DROP(INNER_SRC), 1}), .link_flags = LINK_F_KERNEL | LINK_F_INNER},
	{"opened: a link that is to be down", PROG_opened, {IN4, UDP, .payload = 4}, ACT_DROP, DELIVERED,
	 MOVED({LINK_DROP(LINK_DOWN), 1}), .link_flags = LINK_F_KERNEL | LINK_F_SHUT},
	{"opened: what was under way when a worker took over", PROG_opened, {IN4, UDP, .payload = 4}, ACT_REDIRECT, DELIVERED,
	 MOVED({LINK(deliver_pkts), 1}, {LINK(opened_segs), 1})},
	{"opened: a link without an xfrm device", PROG_opened, {IN4, UDP, .payload = 4}, ACT_DROP, UNCHANGED,
	 MOVED({GLOB_DROP(NO_LINK), 1}), .no_xfrm = true},

	{"deliver: ipv4", PROG_deliver,
	 {IN4, UDP, .payload = 4, .stamp = {LINK_ID, GEN, .kind = STAMP_DELIVER}}, ACT_REDIRECT,
	 DELIVERED, MOVED({LINK(deliver_pkts), 1})},
	{"deliver: ipv6", PROG_deliver,
	 {IN6, UDP, .payload = 4, .stamp = {LINK_ID, GEN, .kind = STAMP_DELIVER}}, ACT_REDIRECT,
	 DELIVERED, MOVED({LINK(deliver_pkts), 1})},
	{"deliver: stale generation", PROG_deliver,
	 {IN4, UDP, .stamp = {LINK_ID, GEN - 1, .kind = STAMP_DELIVER}}, ACT_DROP, UNCHANGED,
	 MOVED({GLOB_DROP(NO_LINK), 1})},
	{"deliver: another kind of stamp", PROG_deliver,
	 {IN4, UDP, .stamp = {LINK_ID, GEN, .kind = STAMP_RAW}}, ACT_DROP, UNCHANGED,
	 MOVED({GLOB_DROP(NO_LINK), 1})},
	{"deliver: link out of range", PROG_deliver,
	 {IN4, UDP, .stamp = {RIG_LINKS, GEN, .kind = STAMP_DELIVER}}, ACT_DROP, UNCHANGED,
	 MOVED({GLOB_DROP(NO_LINK), 1})},
	{"deliver: link not in use", PROG_deliver,
	 {IN4, UDP, .stamp = {LINK_ID, GEN, .kind = STAMP_DELIVER}}, ACT_DROP, UNCHANGED,
	 MOVED({GLOB_DROP(NO_LINK), 1}), .link_flags_off = LINK_F_USED},

	/* --- wire_in --- */
	{"wire: esp", PROG_wire_in, {OUR4, ESP, .spi = SPI, .payload = 60}, STEERED(80)},
	{"wire: esp over ipv6", PROG_wire_in, {OUR6, ESP, .spi = SPI, .payload = 60}, STEERED(100)},
	{"wire: esp over ipv6 from an ipv4 address", PROG_wire_in,
	 {.src = "::ffff:198.51.100.7", .dst = "2001:db8::1", ESP, .spi = SPI, .payload = 60}, PASSED},
	{"wire: esp over ipv6 to an ipv4 address of ours", PROG_wire_in,
	 {.src = "2001:db8::7", .dst = "::ffff:192.0.2.1", ESP, .spi = SPI, .payload = 60}, PASSED},
	{"wire: esp behind ipv4 options", PROG_wire_in,
	 {OUR4, ESP, .opts = 10, .spi = SPI, .payload = 60}, STEERED(120)},
	{"wire: esp in udp", PROG_wire_in,
	 {OUR4, UDP, .sport = 999, .dport = 4500, .spi = SPI, .payload = 60}, STEERED(88)},
	{"wire: esp in udp over ipv6", PROG_wire_in,
	 {OUR6, UDP, .sport = 4500, .dport = 4500, .spi = SPI, .payload = 60}, STEERED(108)},
	{"wire: shortest esp, padded frame", PROG_wire_in,
	 {OUR4, ESP, .spi = SPI, .payload = 8, .pad = 18}, STEERED(28)},
	{"wire: largest single-buffer frame", PROG_wire_in,
	 {OUR4, ESP, .spi = SPI, .payload = 3000}, STEERED(3020)},
	{"wire: too long for a funnel goes to the sockets", PROG_wire_in,
	 {OUR4, ESP, .spi = SPI, .payload = FUNNEL_MTU - 19}, PASSED},
	{"wire: the longest that this worker's funnel takes", PROG_wire_in,
	 {OUR4, ESP, .spi = SPI_JUMBO, .payload = 3980}, STEERED(4000)},
	{"wire: one byte more", PROG_wire_in, {OUR4, ESP, .spi = SPI_JUMBO, .payload = 3981}, PASSED},
	{"wire: input = socket for the SA", PROG_wire_in,
	 {OUR4, ESP, .spi = SPI_SOCKET, .payload = 60}, PASSED},
	{"wire: the kernel's own SA", PROG_wire_in, {OUR4, ESP, .spi = SPI_KERNEL, .payload = 60}, PASSED,
	 .settings = SETTINGS_F_ESP_OURS},
	{"wire: the kernel's own SA in udp keeps its port", PROG_wire_in,
	 {OUR4, UDP, .sport = 999, .dport = 4500, .spi = SPI_KERNEL, .payload = 60}, PASSED},
	{"wire: input = socket for all", PROG_wire_in,
	 {OUR4, ESP, .spi = SPI, .payload = 60}, PASSED, .settings = SETTINGS_F_SOCKET},
	{"wire: unknown SPI still dies with input = socket", PROG_wire_in,
	 {OUR4, ESP, .spi = SPI_ALIEN, .payload = 60}, X_DROP, MOVED({GLOB_DROP(NO_SA), 1}),
	 .settings = SETTINGS_F_SOCKET | SETTINGS_F_ESP_OURS},
	{"wire: worker without a funnel", PROG_wire_in,
	 {OUR4, ESP, .spi = SPI_GONE, .payload = 60}, X_DROP, UNCHANGED,
	 MOVED({GLOB_DROP(WORKER_GONE), 1})},
	{"wire: unknown SPI, esp = ours", PROG_wire_in,
	 {OUR4, ESP, .spi = SPI_ALIEN, .payload = 60}, X_DROP, MOVED({GLOB_DROP(NO_SA), 1}),
	 .settings = SETTINGS_F_ESP_OURS},
	{"wire: unknown SPI in udp, esp = ours", PROG_wire_in,
	 {OUR4, UDP, .dport = 4500, .spi = SPI_ALIEN, .payload = 60}, X_DROP,
	 MOVED({GLOB_DROP(NO_SA), 1}), .settings = SETTINGS_F_ESP_OURS},
	{"wire: SPI 0 in bare esp, esp = ours", PROG_wire_in,
	 {OUR4, ESP, .spi = 0, .payload = 60}, X_DROP, MOVED({GLOB_DROP(NO_SA), 1}),
	 .settings = SETTINGS_F_ESP_OURS},
	{"wire: torn esp, esp = ours", PROG_wire_in,
	 {OUR4, ESP, .spi = SPI, .payload = 7, .pad = 20}, X_DROP, MOVED({GLOB_DROP(SHORT), 1}),
	 .settings = SETTINGS_F_ESP_OURS},
	{"wire: unknown SPI, esp shared", PROG_wire_in,
	 {OUR4, ESP, .spi = SPI_ALIEN, .payload = 60}, PASSED},
	{"wire: torn esp, esp shared", PROG_wire_in,
	 {OUR4, ESP, .spi = SPI, .payload = 7, .pad = 20}, PASSED},
	{"wire: transit esp with our SPI", PROG_wire_in,
	 {.src = "198.51.100.7", .dst = "192.0.2.99", ESP, .spi = SPI, .payload = 60}, PASSED,
	 .settings = SETTINGS_F_ESP_OURS},
	{"wire: transit esp in udp with our SPI", PROG_wire_in,
	 {.src = "2001:db8::7", .dst = "2001:db8::99", UDP, .dport = 4500, .spi = SPI,
	  .payload = 60}, PASSED, .settings = SETTINGS_F_ESP_OURS},
	{"wire: ike behind the zero marker", PROG_wire_in,
	 {OUR4, UDP, .dport = 4500, .spi = 0, .payload = 60}, PASSED,
	 .settings = SETTINGS_F_ESP_OURS},
	{"wire: keepalive, padded frame", PROG_wire_in,
	 {OUR4, UDP, .dport = 4500, .icmp = 0xff, .payload = 1, .pad = 17}, PASSED,
	 .settings = SETTINGS_F_ESP_OURS},
	{"wire: udp length hides the rest", PROG_wire_in,
	 {OUR4, UDP, .dport = 4500, .spi = SPI, .payload = 60, .udp_len_add = -53}, PASSED,
	 .settings = SETTINGS_F_ESP_OURS},
	{"wire: ike on 500", PROG_wire_in,
	 {OUR4, UDP, .dport = 500, .spi = SPI, .payload = 60}, PASSED,
	 .settings = SETTINGS_F_ESP_OURS},
	{"wire: damaged ipv4 header", PROG_wire_in,
	 {OUR4, ESP, .spi = SPI, .payload = 60, .sum_add = 1}, PASSED},
	{"wire: damaged ipv4 header with options", PROG_wire_in,
	 {OUR4, UDP, .dport = 4500, .opts = 10, .spi = SPI, .payload = 60, .sum_add = 0x100}, PASSED},
	{"wire: intact ipv4 header with options", PROG_wire_in,
	 {OUR4, ESP, .opts = 10, .spi = SPI, .payload = 60}, STEERED(120)},
	{"wire: source port 4500 alone is nothing", PROG_wire_in,
	 {OUR4, UDP, .sport = 4500, .dport = 7, .spi = SPI, .payload = 60}, PASSED,
	 .settings = SETTINGS_F_ESP_OURS},
	{"wire: tcp", PROG_wire_in, {OUR4, TCP, .dport = 4500, .payload = 60}, PASSED},
	{"wire: first fragment", PROG_wire_in,
	 {OUR4, ESP, .frag = 0x2000, .spi = SPI, .payload = 60}, X_PASS,
	 MOVED({GLOB(wire_pass_frag), 1}), .settings = SETTINGS_F_ESP_OURS},
	{"wire: last fragment", PROG_wire_in,
	 {OUR4, ESP, .frag = 0x0010, .spi = SPI, .payload = 60}, X_PASS,
	 MOVED({GLOB(wire_pass_frag), 1}), .settings = SETTINGS_F_ESP_OURS},
	{"wire: ipv6 fragment", PROG_wire_in,
	 {OUR6, .proto = IPPROTO_FRAGMENT, .spi = SPI, .payload = 60}, X_PASS,
	 MOVED({GLOB(wire_pass_frag), 1}), .settings = SETTINGS_F_ESP_OURS},
	{"wire: ipv6 extension header", PROG_wire_in,
	 {OUR6, .proto = IPPROTO_DSTOPTS, .spi = SPI, .payload = 60}, PASSED,
	 .settings = SETTINGS_F_ESP_OURS},
	{"wire: vlan", PROG_wire_in, {OUR4, ESP, .n_vlan = 1, .spi = SPI, .payload = 60}, PASSED},
	{"wire: double vlan", PROG_wire_in,
	 {OUR4, ESP, .n_vlan = 2, .spi = SPI, .payload = 60}, PASSED},
	{"wire: arp", PROG_wire_in, {.ethertype = 0x0806, .pad = 46}, PASSED},
	{"wire: ihl below 5", PROG_wire_in,
	 {OUR4, ESP, .ihl = 4, .spi = SPI, .payload = 60}, PASSED, .settings = SETTINGS_F_ESP_OURS},
	{"wire: runt", PROG_wire_in, {OUR4, ESP, .spi = SPI, .cut = 30}, PASSED},
	{"wire: longer than the frame", PROG_wire_in,
	 {OUR4, ESP, .spi = SPI, .payload = 60, .tot_len_add = 1}, PASSED},

	/* --- funnel --- */
	{"funnel: unknown device", PROG_funnel, {IN4, UDP}, X_DROP, MOVED({GLOB_DROP(NO_LINK), 1}),
	 .no_link = true},
	{"funnel: no XSK behind it: dropped, counted by the books", PROG_funnel, {IN4, UDP}, X_DROP,
	 MOVED({GLOB_DROP(WORKER_GONE), 0})},

	/* --- guard: 10.2.0.0/16 and fd02::/48 both ways, 10.3.0.0/16 out, 10.2.9.9 a peer --- */
	{"guard out: unprotected", PROG_guard_out,
	 {.src = "192.0.2.1", .dst = "10.9.0.1", UDP, .payload = 4}, NEXT},
	{"guard out: cleartext", PROG_guard_out, {IN4, UDP, .payload = 4}, ACT_DROP,
	 MOVED({GLOB_DROP(GUARD_CLEARTEXT), 1})},
	{"guard out: cleartext, ipv6", PROG_guard_out, {IN6, TCP, .payload = 4}, ACT_DROP,
	 MOVED({GLOB_DROP(GUARD_CLEARTEXT), 1})},
	{"guard out: cleartext behind two vlan tags", PROG_guard_out,
	 {IN4, UDP, .n_vlan = 2, .payload = 4}, ACT_DROP, MOVED({GLOB_DROP(GUARD_CLEARTEXT), 1})},
	{"guard out: cleartext fragment", PROG_guard_out,
	 {IN4, UDP, .frag = 0x0100, .payload = 4}, ACT_DROP,
	 MOVED({GLOB_DROP(GUARD_CLEARTEXT), 1})},
	{"guard out: protected one way", PROG_guard_out,
	 {.src = "192.0.2.1", .dst = "10.3.0.1", UDP}, ACT_DROP,
	 MOVED({GLOB_DROP(GUARD_CLEARTEXT), 1})},
	{"guard in: protected one way, the other way", PROG_guard_in,
	 {.src = "10.3.0.1", .dst = "192.0.2.1", UDP}, NEXT},
	{"guard out: esp", PROG_guard_out, {IN4, ESP, .payload = 40}, ACT_NEXT,
	 MOVED({GLOB(guard_pass), 1})},
	{"guard out: the peer's own address", PROG_guard_out,
	 {.src = "192.0.2.1", .dst = "10.2.9.9", TCP, .dport = 80}, ACT_NEXT,
	 MOVED({GLOB(guard_pass), 1})},
	{"guard out: ike from a local address", PROG_guard_out,
	 {.src = "192.0.2.1", .dst = "10.2.0.1", UDP, .sport = 500, .dport = 1024}, ACT_NEXT,
	 MOVED({GLOB(guard_pass), 1})},
	{"guard out: forwarded, to port 4500", PROG_guard_out,
	 {IN4, UDP, .sport = 4500, .dport = 4500}, ACT_DROP,
	 MOVED({GLOB_DROP(GUARD_CLEARTEXT), 1})},
	{"guard out: local, but only their port is 4500", PROG_guard_out,
	 {.src = "192.0.2.1", .dst = "10.2.0.1", UDP, .sport = 53, .dport = 4500}, ACT_DROP,
	 MOVED({GLOB_DROP(GUARD_CLEARTEXT), 1})},
	/* fragments: IKE by its ports in the first alone, whatever the bytes of a later one look like */
	{"guard out: ike, first fragment", PROG_guard_out,
	 {.src = "192.0.2.1", .dst = "10.2.0.1", UDP, .sport = 500, .dport = 500, .frag = 0x2000, .payload = 64}, ACT_NEXT,
	 MOVED({GLOB(guard_pass), 1})},
	{"guard out: later fragment that looks like ike", PROG_guard_out,
	 {.src = "192.0.2.1", .dst = "10.2.0.1", UDP, .sport = 500, .dport = 500, .frag = 0x2009, .payload = 64}, ACT_DROP,
	 MOVED({GLOB_DROP(GUARD_CLEARTEXT), 1})},
	{"guard out: last fragment that looks like ike", PROG_guard_out,
	 {.src = "192.0.2.1", .dst = "10.2.0.1", UDP, .sport = 4500, .dport = 4500, .frag = 0x0001, .payload = 64}, ACT_DROP,
	 MOVED({GLOB_DROP(GUARD_CLEARTEXT), 1})},
	{"guard out: ike, first fragment, ipv6", PROG_guard_out,
	 {.src = "2001:db8::1", .dst = "fd02::1", UDP, .sport = 500, .dport = 500, .frag6 = 1, .payload = 64}, ACT_NEXT,
	 MOVED({GLOB(guard_pass), 1})},
	{"guard out: later fragment that looks like ike, ipv6", PROG_guard_out,
	 {.src = "2001:db8::1", .dst = "fd02::1", UDP, .sport = 500, .dport = 500, .frag6 = 0x49, .payload = 64}, ACT_DROP,
	 MOVED({GLOB_DROP(GUARD_CLEARTEXT), 1})},
	{"guard out: last fragment that looks like ike, ipv6, behind options", PROG_guard_out,
	 {.src = "2001:db8::1", .dst = "fd02::1", UDP, .sport = 500, .dport = 500, .ext = 1, .frag6 = 0x48, .payload = 64},
	 ACT_DROP, MOVED({GLOB_DROP(GUARD_CLEARTEXT), 1})},
	{"guard out: last fragment that looks like neighbour discovery", PROG_guard_out,
	 {IN6, .proto = IPPROTO_ICMPV6, .icmp = 135, .hops = 255, .frag6 = 0x48, .payload = 24}, ACT_DROP,
	 MOVED({GLOB_DROP(GUARD_CLEARTEXT), 1})},
	{"guard in: ike, first fragment", PROG_guard_in,
	 {.src = "10.2.0.1", .dst = "192.0.2.1", UDP, .sport = 500, .dport = 500, .frag = 0x2000, .payload = 64}, ACT_NEXT,
	 MOVED({GLOB(guard_pass), 1})},
	{"guard in: later fragment that looks like ike", PROG_guard_in,
	 {.src = "10.2.0.1", .dst = "192.0.2.1", UDP, .sport = 500, .dport = 500, .frag = 0x0009, .payload = 64}, ACT_DROP,
	 MOVED({GLOB_DROP(PLAIN_FOR_PROTECTED), 1})},
	{"guard in: later fragment that looks like ike, ipv6", PROG_guard_in,
	 {.src = "fd02::9", .dst = "2001:db8::1", UDP, .sport = 500, .dport = 500, .frag6 = 0x49, .payload = 64}, ACT_DROP,
	 MOVED({GLOB_DROP(PLAIN_FOR_PROTECTED), 1})},
	{"guard out: neighbour solicitation", PROG_guard_out,
	 {IN6, .proto = IPPROTO_ICMPV6, .icmp = 135, .hops = 255, .payload = 24}, ACT_NEXT,
	 MOVED({GLOB(guard_pass), 1})},
	{"guard out: forwarded neighbour solicitation", PROG_guard_out,
	 {IN6, .proto = IPPROTO_ICMPV6, .icmp = 135, .hops = 254, .payload = 24}, ACT_DROP,
	 MOVED({GLOB_DROP(GUARD_CLEARTEXT), 1})},
	{"guard out: echo request", PROG_guard_out,
	 {IN6, .proto = IPPROTO_ICMPV6, .icmp = 128, .hops = 255, .payload = 24}, ACT_DROP,
	 MOVED({GLOB_DROP(GUARD_CLEARTEXT), 1})},
	{"guard out: arp", PROG_guard_out, {.ethertype = 0x0806, .pad = 46}, NEXT},
	{"guard out: ipv4 is not in ::/0", PROG_guard_out,
	 {.src = "192.0.2.1", .dst = "9.9.9.9", UDP}, NEXT},
	{"guard out: ipv6 default, link-local", PROG_guard_out,
	 {.src = "fe80::1", .dst = "ff02::5", .proto = 89, .payload = 4}, ACT_NEXT,
	 MOVED({GLOB(guard_pass), 1})},
	{"guard out: ipv6 default, anything else", PROG_guard_out,
	 {.src = "fd01::1", .dst = "2a00::1", UDP}, ACT_DROP,
	 MOVED({GLOB_DROP(GUARD_CLEARTEXT), 1})},
	{"guard out: port unreachable about an envelope to us", PROG_guard_out,
	 {.src = "192.0.2.1", .dst = "203.0.113.5", .proto = IPPROTO_ICMP, .icmp = 3, .quote = &quote_to_port}, ACT_DROP,
	 MOVED({GLOB_DROP(NO_LISTENER), 1})},
	{"guard out: error about fragments of an envelope to us", PROG_guard_out,
	 {.src = "192.0.2.1", .dst = "203.0.113.5", .proto = IPPROTO_ICMP, .icmp = 11, .quote = &quote_to_us4}, ACT_DROP,
	 MOVED({GLOB_DROP(NO_LISTENER), 1})},
	{"guard out: error about an envelope to us, ipv6", PROG_guard_out,
	 {.src = "2001:db8::1", .dst = "2001:db8::7", .proto = IPPROTO_ICMPV6, .icmp = 1, .quote = &quote_to_us6}, ACT_DROP,
	 MOVED({GLOB_DROP(NO_LISTENER), 1})},
	{"guard out: error about a datagram that is none of ours", PROG_guard_out,
	 {.src = "192.0.2.1", .dst = "203.0.113.5", .proto = IPPROTO_ICMP, .icmp = 3, .quote = &quote_not_ours}, NEXT},
	{"guard out: a router's error about another's envelope", PROG_guard_out,
	 {.src = "192.0.2.1", .dst = "203.0.113.5", .proto = IPPROTO_ICMP, .icmp = 3, .quote = &quote_to_other}, NEXT},
	{"guard in: cleartext", PROG_guard_in,
	 {.src = "10.2.0.1", .dst = "10.1.0.1", UDP, .payload = 4}, ACT_DROP,
	 MOVED({GLOB_DROP(PLAIN_FOR_PROTECTED), 1})},
	{"guard in: protected destination only", PROG_guard_in, {IN4, UDP}, NEXT},
	{"guard in: the peer's own address", PROG_guard_in,
	 {.src = "10.2.9.9", .dst = "192.0.2.1", TCP}, ACT_NEXT, MOVED({GLOB(guard_pass), 1})},
	{"guard in: ike to a local address", PROG_guard_in,
	 {.src = "10.2.0.1", .dst = "192.0.2.1", UDP, .sport = 1, .dport = 4500}, ACT_NEXT,
	 MOVED({GLOB(guard_pass), 1})},
	{"guard in: icmp error about an envelope of ours", PROG_guard_in,
	 {ROUTER4, .quote = &quote_esp4}, ACT_NEXT, MOVED({GLOB(guard_pass), 1})},
	{"guard in: icmp error about an envelope of ours, ipv6", PROG_guard_in,
	 {ROUTER6, .quote = &quote_esp6}, ACT_NEXT, MOVED({GLOB(guard_pass), 1})},
	{"guard in: icmp error about an envelope of ours, behind options", PROG_guard_in,
	 {ROUTER6, .quote = &quote_esp6, .ext = 2}, ACT_NEXT, MOVED({GLOB(guard_pass), 1})},
	{"guard in: icmp error about port 4500, cut short", PROG_guard_in,
	 {ROUTER4, .quote = &quote_udp4}, ACT_NEXT, MOVED({GLOB(guard_pass), 1})},
	{"guard in: icmp error about an envelope of ours, port as sock_in leaves it", PROG_guard_in,
	 {ROUTER4, .quote = &quote_private}, ACT_NEXT, MOVED({GLOB(guard_pass), 1})},
	{"guard in: icmp error about what went to a peer itself", PROG_guard_in,
	 {ROUTER4, .quote = &quote_peer}, ACT_NEXT, MOVED({GLOB(guard_pass), 1})},
	{"guard in: icmp error about another SPI", PROG_guard_in,
	 {ROUTER4, .quote = &quote_alien}, ACT_DROP, MOVED({GLOB_DROP(PLAIN_FOR_PROTECTED), 1})},
	{"guard in: icmp error about something else", PROG_guard_in,
	 {ROUTER4, .quote = &quote_port}, ACT_DROP, MOVED({GLOB_DROP(PLAIN_FOR_PROTECTED), 1})},
	{"guard in: icmp error about transit", PROG_guard_in,
	 {ROUTER4, .quote = &quote_transit}, ACT_DROP, MOVED({GLOB_DROP(PLAIN_FOR_PROTECTED), 1})},
	{"guard in: icmp error about an inner packet", PROG_guard_in,
	 {ROUTER4, .quote = &quote_inner}, ACT_DROP, MOVED({GLOB_DROP(PLAIN_FOR_PROTECTED), 1})},
	{"guard in: echo request that looks as if it quoted", PROG_guard_in,
	 {.src = "10.2.0.254", .dst = "192.0.2.1", .proto = IPPROTO_ICMP, .icmp = 8, .quote = &quote_esp4},
	 ACT_DROP, MOVED({GLOB_DROP(PLAIN_FOR_PROTECTED), 1})},
	{"guard out: icmp error about an envelope of ours", PROG_guard_out,
	 {.src = "192.0.2.1", .dst = "10.2.0.254", .proto = IPPROTO_ICMP, .icmp = 3, .quote = &quote_esp4},
	 ACT_DROP, MOVED({GLOB_DROP(GUARD_CLEARTEXT), 1})},
	{"guard out: cleartext behind extension headers", PROG_guard_out,
	 {IN6, TCP, .payload = 4, .ext = 3}, ACT_DROP, MOVED({GLOB_DROP(GUARD_CLEARTEXT), 1})},
	{"guard in: ike to a local address, behind extension headers", PROG_guard_in,
	 {.src = "fd02::9", .dst = "2001:db8::1", UDP, .sport = 500, .dport = 500, .payload = 28, .ext = 2},
	 ACT_NEXT, MOVED({GLOB(guard_pass), 1})},
	{"guard in: esp", PROG_guard_in, {.src = "10.2.0.1", .dst = "10.1.0.1", ESP}, ACT_NEXT,
	 MOVED({GLOB(guard_pass), 1})},
};
/* clang-format on */

static struct load *ld;

static void tables_set(void)
{
	struct in6_addr us4 = addr("192.0.2.1"), us6 = addr("2001:db8::1");
	struct in6_addr them4 = addr("198.51.100.7"), them6 = addr("2001:db8::7");
	struct in6_addr peer = addr("10.2.9.9");
	struct prefix inner4 = prefix("10.1.0.0/16"), both4 = prefix("10.2.0.0/16"), out4 = prefix("10.3.0.0/16"),
		      both6 = prefix("fd02::/48"), all6 = prefix("::/0");
	struct sa_in_ent in = {.slot = SLOT_IN, .sgen = 4, .link = LINK_ID};
	struct worker_ent tap = {.tap_ifindex = 100},
			  xsk = {.tap_ifindex = 100, .raw_ifindex = 101}, jumbo = {.wire_mtu = 4000};
	int bad = 0;

	bad |= load_worker_set(ld, 0, &tap) | load_worker_set(ld, 1, &xsk);
	bad |= load_addr_set(ld, &us4) | load_addr_set(ld, &us6) | load_peer_set(ld, &peer);
	bad |= load_protect_set(ld, &both4, PROTECT_F_BOTH) |
	       load_protect_set(ld, &out4, PROTECT_F_OUT) |
	       load_protect_set(ld, &both6, PROTECT_F_BOTH) |
	       load_protect_set(ld, &all6, PROTECT_F_BOTH);
	bad |= load_env_set(ld, htonl(SPI_OUT), &them4, LINK_ID) |
	       load_env_set(ld, htonl(SPI_OUT), &them6, LINK_ID) |
	       load_env_set(ld, htonl(SPI_OTHER), &them4, LINK_ID + 1);
	bad |= load_sa_in_set(ld, htonl(SPI), &in);
	in.worker = 2;
	bad |= load_sa_in_set(ld, htonl(SPI_JUMBO), &in) | load_worker_set(ld, 2, &jumbo);
	in.worker = 1;
	bad |= load_sa_in_set(ld, htonl(SPI_GONE), &in);
	in.flags = SA_IN_F_SOCKET;
	bad |= load_sa_in_set(ld, htonl(SPI_SOCKET), &in);
	in.flags = SA_IN_F_KERNEL;
	bad |= load_sa_in_set(ld, htonl(SPI_KERNEL), &in);
	bad |= load_inner_set(ld, LINK_ID, &inner4);
	bad |= load_inner_set(ld, LINK_ID + 1, &all6); /* another link's does not count */
	assert_int_equal(bad, 0);
	assert_int_equal(load_wire_dev_set(ld, 0, LO), 0);
	assert_int_equal(load_wire_dev_set(ld, 2, LO), 0);
	assert_int_equal(load_funnel_set(ld, LO, 3), 0);
}

static void row_set(const struct row *r)
{
	struct settings_ent s = {.flags = r->settings};
	struct link_ent e = {
		.flags = ((LINK_F_USED | LINK_F_OUT_SA) | r->link_flags) & ~r->link_flags_off,
		.b_ifindex = LO,
		.worker = r->worker,
		.out_slot = SLOT_OUT,
		.out_sgen = 2,
		.gen = GEN,
		.x_ifindex = r->no_xfrm ? 0 : LO,
	};
	uint32_t lo = LO;

	assert_int_equal(load_settings_set(ld, &s), 0);
	assert_int_equal(load_link_set(ld, LINK_ID, &e), 0);
	assert_int_equal(load_funnel_set(ld, LO, 3), 0);
	if (r->no_link) {
		assert_int_equal(load_link_del(ld, LINK_ID), 0);
		assert_int_equal(bpf_map_delete_elem(ld->map[MAP_funnel_by_if], &lo), 0);
	}
}

static void frame_check(const struct row *r, const uint8_t *in, unsigned int in_len,
			const uint8_t *out, unsigned int out_len)
{
	static const uint8_t macs[12] = {2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1};
	struct stamp raw = {LINK_ID, GEN, SLOT_OUT, 2, STAMP_RAW, 0}, nested = {LINK_ID, GEN, SLOT_OUT, 2, STAMP_RAW, STAMP_F_NESTED};
	struct stamp wire = {LINK_ID, 0, SLOT_IN, 4, STAMP_WIRE, 0};
	const void *want[] = {[UNCHANGED] = in, [RAW] = &raw, [NESTED] = &nested, [WIRE] = &wire, [DELIVERED] = macs};

	assert_int_equal(out_len, in_len);
	assert_memory_equal(out, want[r->stamped], 12);
	assert_memory_equal(out + 12, in + 12, in_len - 12);
}

static void row_test(void **state)
{
	const struct row *r = *state;
	static uint8_t in[8192], out[8192];
	struct __sk_buff ctx = {.gso_size = r->gso_size, .gso_segs = r->gso_segs};
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = in, .data_out = out,
		    .data_size_out = sizeof(out), .repeat = 1);
	struct ctrs before, after;

	row_set(r);
	run.data_size_in = pkt_fill(&r->pkt, in, sizeof(in));
	if (r->gso_size) {
		run.ctx_in = &ctx;
		run.ctx_size_in = sizeof(ctx);
	}
	ctrs_read(ld, LINK_ID, &before);
	assert_int_equal(bpf_prog_test_run_opts(ld->prog[r->prog], &run), 0);
	ctrs_read(ld, LINK_ID, &after);
	assert_int_equal((int)run.retval, r->verdict);
	ctrs_check(&before, &after, r->moved);
	frame_check(r, in, run.data_size_in, out, run.data_size_out);
}

/* --- mss-clamp --- */

#define MSS(n) 2, 4, (n) >> 8, (n) & 255
#define NOP    1

/* Both ways through a link with mss4 1360, mss6 1340. Exactly the MSS changes, and the checksum with it. */
static const struct mss_row {
	const char *name;
	struct pkt pkt;
	uint8_t flags;
	uint8_t opts[40], want[40]; /* want[0] 0: as they came */
	uint8_t n_opts;             /* bytes, a multiple of 4 */
	uint32_t gso_size;
	bool bad_sum;
} mss_rows[] = {
	{"syn", {IN4, TCP}, 2, {MSS(1460)}, {MSS(1360)}, .n_opts = 4},
	{"syn, ack", {IN4, TCP}, 0x12, {MSS(1460)}, {MSS(1360)}, .n_opts = 4},
	{"ipv6", {IN6, TCP}, 2, {MSS(1440)}, {MSS(1340)}, .n_opts = 4},
	{"no larger", {IN4, TCP}, 2, {MSS(1360)}, {0}, .n_opts = 4},
	{"smaller", {IN4, TCP}, 2, {MSS(536)}, {0}, .n_opts = 4},
	{"largest", {IN4, TCP}, 2, {MSS(65535)}, {MSS(1360)}, .n_opts = 4},
	{"no syn", {IN4, TCP}, 0x10, {MSS(1460)}, {0}, .n_opts = 4},
	{"behind three nops", {IN4, TCP}, 2, {NOP, NOP, NOP, MSS(1460), 0}, {NOP, NOP, NOP, MSS(1360), 0}, .n_opts = 8},
	{"behind two nops", {IN4, TCP}, 2, {NOP, NOP, MSS(1460), NOP, NOP}, {NOP, NOP, MSS(1360), NOP, NOP}, .n_opts = 8},
	{"behind window scale", {IN4, TCP}, 2, {3, 3, 7, MSS(9000), 0}, {3, 3, 7, MSS(1360), 0}, .n_opts = 8},
	{"last of forty", {IN4, TCP}, 2,
	 {[0 ... 35] = NOP, 2, 4, 1460 >> 8, 1460 & 255}, {[0 ... 35] = NOP, 2, 4, 1360 >> 8, 1360 & 255}, .n_opts = 40},
	{"none", {IN4, TCP}, 2, {3, 3, 7, 0}, {0}, .n_opts = 4},
	{"end before it", {IN4, TCP}, 2, {0, MSS(1460), 0, 0, 0}, {0}, .n_opts = 8},
	{"wrong length", {IN4, TCP}, 2, {2, 3, 5, 180, NOP, NOP, NOP, NOP}, {0}, .n_opts = 8},
	{"option of length 0", {IN4, TCP}, 2, {8, 0, MSS(1460), 0, 0}, {0}, .n_opts = 8},
	{"torn by the header's end", {IN4, TCP, .payload = 4}, 2, {NOP, NOP, 2, 4}, {0}, .n_opts = 4},
	{"ip options", {IN4, TCP, .opts = 10}, 2, {MSS(1460)}, {MSS(1360)}, .n_opts = 4},
	{"ipv6 extension headers", {IN6, TCP, .ext = 3}, 2, {MSS(1460)}, {MSS(1340)}, .n_opts = 4},
	{"fragment", {IN4, TCP, .frag = 0x2000}, 2, {MSS(1460)}, {0}, .n_opts = 4},
	{"super-packet", {IN4, TCP, .payload = 3000}, 2, {MSS(1460)}, {0}, .n_opts = 4, .gso_size = 1400},
	{"no tcp", {IN4, UDP, .payload = 24}, 2, {MSS(1460)}, {0}, .n_opts = 4},
	{"a wrong checksum stays wrong", {IN4, TCP}, 2, {MSS(1460)}, {MSS(1360)}, .n_opts = 4, .bad_sum = true},
};

/* Of the TCP segment at l4, len bytes; 0xffff is right. */
static uint16_t tcp_sum(const uint8_t *ip, unsigned int l4, unsigned int len)
{
	bool is6 = ip[0] >> 4 == 6;

	return sum16(ip + l4, len, sum16(ip + (is6 ? 8 : 12), is6 ? 32 : 8, IPPROTO_TCP + len));
}

static void mss_run(const struct mss_row *m, enum load_prog prog)
{
	static uint8_t in[8192], want[8192], got[8192];
	struct pkt pkt = m->pkt;
	unsigned int l4 = strchr(pkt.src, ':') ? 40 + 8u * pkt.ext : 20 + 4u * pkt.opts, len, seg;
	struct __sk_buff ctx = {.gso_size = m->gso_size};
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = in, .data_out = got, .data_size_out = sizeof(got), .repeat = 1);
	uint8_t *tcp;
	uint16_t sum;

	pkt.stamp = (struct stamp){LINK_ID, GEN, .kind = prog == PROG_deliver ? STAMP_DELIVER : 0};
	pkt.payload += m->n_opts;
	len = pkt_fill(&pkt, in, sizeof(in));
	tcp = in + 14 + l4;
	seg = len - 14 - l4;
	tcp[12] = (5 + m->n_opts / 4) << 4;
	tcp[13] = m->flags;
	memcpy(tcp + 20, m->opts, m->n_opts);
	put16(tcp + 16, ~tcp_sum(in + 14, l4, seg) + m->bad_sum);
	memcpy(want, in, len);
	if (m->want[0])
		memcpy(want + 14 + l4 + 20, m->want, m->n_opts);
	run.data_size_in = len;
	run.ctx_in = m->gso_size ? &ctx : NULL;
	run.ctx_size_in = m->gso_size ? sizeof(ctx) : 0;
	assert_int_equal(bpf_prog_test_run_opts(ld->prog[prog], &run), 0);
	assert_int_equal((int)run.retval, ACT_REDIRECT);
	sum = tcp_sum(got + 14, l4, seg);
	if ((sum != 0xffff) != m->bad_sum)
		fail_msg("%s: checksum %04x", m->name, sum);
	if (m->want[0])
		memcpy(want + 14 + l4 + 16, got + 14 + l4 + 16, 2);
	if (memcmp(want + 14, got + 14, len - 14))
		fail_msg("%s: other bytes", m->name);
}

static void mss_test(void **state)
{
	struct row r = {.name = ""};
	struct link_ent e;

	for (unsigned int i = 0; i < ARRAY_SIZE(mss_rows); i++) {
		row_set(&r);
		assert_int_equal(load_link_get(ld, LINK_ID, &e), 0);
		e.mss4 = 1360;
		e.mss6 = 1340;
		assert_int_equal(load_link_set(ld, LINK_ID, &e), 0);
		mss_run(&mss_rows[i], PROG_classify);
		mss_run(&mss_rows[i], PROG_deliver);
	}
}

/* --- transport mode where the kernel encrypts --- */

#define HERE4  .src = "192.0.2.1", .dst = "198.51.100.7"
#define THERE4 .src = "198.51.100.7", .dst = "192.0.2.1"
#define HERE6  .src = "2001:db8::1", .dst = "2001:db8::7"
#define THERE6 .src = "2001:db8::7", .dst = "2001:db8::1"
#define OWN4   .src = "10.9.0.1", .dst = "10.9.0.2"
#define OWN6   .src = "fd09::1", .dst = "fd09::2"

/* An ICMP error of this end is about a packet of the other's, and the other way round. */
static const struct pkt own_quote4 = {.src = "10.9.0.2", .dst = "10.9.0.1", UDP, .payload = 8};
static const struct pkt own_quote6 = {.src = "fd09::2", .dst = "fd09::1", UDP, .payload = 8};
static const struct pkt wild_quote4 = {HERE4, UDP, .payload = 8}, wild_quote6 = {HERE6, TCP};
static const struct pkt alien_quote4 = {.src = "10.9.0.3", .dst = "10.9.0.1", UDP, .payload = 8};

static const struct hosts_row {
	const char *name;
	enum load_prog prog;
	struct pkt pkt;
	enum drop why;     /* DROP_NONE: it goes on */
	enum { WILD, OWN } own; /* has the link addresses of its own? */
	const char *src, *dst;  /* that it has then; NULL = as it came */
	bool no_sum;
	bool other;        /* the hosts are of the other family */
	bool unknown;      /* it is not known between whom */
	uint32_t gso_size;
} hosts_rows[] = {
	{"between the hosts", PROG_classify, .pkt = {HERE4, UDP, .payload = 50}},
	{"between the hosts, ipv6", PROG_classify, .pkt = {HERE6, TCP, .payload = 50}},
	{"super-packet", PROG_classify, .pkt = {HERE4, TCP, .payload = 3000}, .gso_size = 1400},
	{"to somebody else", PROG_classify, .pkt = {.src = "192.0.2.1", .dst = "198.51.100.8", UDP}, .why = DROP_NOT_TRANSPORT},
	{"to somebody else, ipv6", PROG_classify, .pkt = {.src = "2001:db8::1", .dst = "2001:db8::8", UDP}, .why = DROP_NOT_TRANSPORT},
	{"from somebody else", PROG_classify, .pkt = {.src = "192.0.2.2", .dst = "198.51.100.7", UDP}, .why = DROP_NOT_TRANSPORT},
	{"of the other family", PROG_classify, .pkt = {HERE4, UDP}, .why = DROP_NOT_TRANSPORT, .other = true},
	{"nobody knows", PROG_classify, .pkt = {HERE4, UDP}, .why = DROP_NO_ROUTE, .unknown = true},
	{"ipv4 options", PROG_classify, .pkt = {HERE4, UDP, .opts = 1}, .why = DROP_NOT_TRANSPORT},
	{"first fragment", PROG_classify, .pkt = {HERE4, UDP, .frag = 0x2000}, .why = DROP_FRAG_UNSUPPORTED},
	{"later fragment", PROG_classify, .pkt = {HERE4, UDP, .frag = 0x2001, .payload = 8}, .why = DROP_FRAG_UNSUPPORTED},
	{"no next header", PROG_classify, .pkt = {HERE4, .proto = 59, .payload = 8}, .why = DROP_NOT_TRANSPORT},
	{"no next header, ipv6", PROG_classify, .pkt = {HERE6, .proto = 59, .payload = 8}, .why = DROP_NOT_TRANSPORT},
	{"hop by hop", PROG_classify, .pkt = {HERE6, .proto = 0, .payload = 8}, .why = DROP_NOT_TRANSPORT},
	{"routing", PROG_classify, .pkt = {HERE6, .proto = 43, .payload = 8}, .why = DROP_NOT_TRANSPORT},
	{"routing behind options", PROG_classify, .pkt = {HERE6, .proto = 43, .ext = 1, .payload = 8}, .why = DROP_NOT_TRANSPORT},
	{"fragment, ipv6", PROG_classify, .pkt = {HERE6, UDP, .frag6 = 1}, .why = DROP_FRAG_UNSUPPORTED},
	{"fragment behind options", PROG_classify, .pkt = {HERE6, UDP, .ext = 2, .frag6 = 1}, .why = DROP_FRAG_UNSUPPORTED},
	{"destination options", PROG_classify, .pkt = {HERE6, UDP, .ext = 2, .payload = 9}},

	{"own addresses, udp", PROG_classify, .pkt = {OWN4, UDP, .payload = 51}, .own = OWN, HERE4},
	{"own addresses, udp without a sum", PROG_classify, .pkt = {OWN4, UDP, .payload = 51}, .own = OWN, HERE4, .no_sum = true},
	{"own addresses, tcp", PROG_classify, .pkt = {OWN4, TCP, .payload = 51}, .own = OWN, HERE4},
	{"own addresses, icmp", PROG_classify, .pkt = {OWN4, .proto = IPPROTO_ICMP, .icmp = 8, .payload = 24}, .own = OWN, HERE4},
	{"own addresses, esp", PROG_classify, .pkt = {OWN4, ESP, .payload = 40}, .own = OWN, HERE4},
	{"own addresses, udp over ipv6", PROG_classify, .pkt = {OWN6, UDP, .payload = 51}, .own = OWN, HERE6},
	{"own addresses, tcp over ipv6, behind options", PROG_classify, .pkt = {OWN6, TCP, .ext = 3, .payload = 1}, .own = OWN, HERE6},
	{"own addresses, echo over ipv6", PROG_classify, .pkt = {OWN6, .proto = IPPROTO_ICMPV6, .icmp = 128, .payload = 24}, .own = OWN, HERE6},
	{"own addresses, error", PROG_classify, .pkt = {OWN4, .proto = IPPROTO_ICMP, .icmp = 3, .quote = &own_quote4}, .own = OWN, HERE4},
	{"own addresses, error over ipv6", PROG_classify, .pkt = {OWN6, .proto = IPPROTO_ICMPV6, .icmp = 1, .quote = &own_quote6}, .own = OWN, HERE6},
	{"own addresses, error about others", PROG_classify, .pkt = {OWN4, .proto = IPPROTO_ICMP, .icmp = 3, .quote = &alien_quote4}, .own = OWN, HERE4},
	{"own addresses, super-packet", PROG_classify, .pkt = {OWN4, TCP, .payload = 3000}, .own = OWN, HERE4, .gso_size = 1400},
	{"own addresses, but to the host", PROG_classify, .pkt = {HERE4, TCP, .payload = 3}, .own = OWN},
	{"own addresses, to somebody else", PROG_classify, .pkt = {.src = "10.9.0.1", .dst = "10.9.0.3", UDP}, .why = DROP_NOT_TRANSPORT, .own = OWN},
	{"own addresses, options", PROG_classify, .pkt = {OWN4, UDP, .opts = 1}, .why = DROP_NOT_TRANSPORT, .own = OWN},

	{"opened", PROG_opened, .pkt = {THERE4, UDP, .payload = 5}},
	{"opened, ipv6", PROG_opened, .pkt = {THERE6, UDP, .payload = 5}},
	{"opened, from somebody else", PROG_opened, .pkt = {.src = "198.51.100.8", .dst = "192.0.2.1", UDP}, .why = DROP_INNER_SRC},
	{"opened, nobody knows", PROG_opened, .pkt = {THERE4, UDP}, .why = DROP_INNER_SRC, .unknown = true},
	{"opened, what does not stand behind ESP", PROG_opened, .pkt = {THERE6, .proto = 43, .payload = 8}, .why = DROP_BAD_NEXT_HEADER},
	{"opened, a fragment", PROG_opened, .pkt = {THERE6, UDP, .frag6 = 1}, .why = DROP_BAD_NEXT_HEADER},
	{"opened, own addresses", PROG_opened, .pkt = {THERE4, TCP, .payload = 5}, .own = OWN, .src = "10.9.0.2", .dst = "10.9.0.1"},
	{"opened, own addresses, ipv6", PROG_opened, .pkt = {THERE6, UDP, .payload = 6}, .own = OWN, .src = "fd09::2", .dst = "fd09::1"},
	{"opened, own addresses, another path's", PROG_opened, .pkt = {.src = "203.0.113.9", .dst = "192.0.2.5", UDP, .payload = 5}, .own = OWN,
	 .src = "10.9.0.2", .dst = "10.9.0.1"},
	{"opened, own addresses, error", PROG_opened, .pkt = {THERE4, .proto = IPPROTO_ICMP, .icmp = 3, .quote = &wild_quote4}, .own = OWN,
	 .src = "10.9.0.2", .dst = "10.9.0.1"},
	{"opened, own addresses, error over ipv6", PROG_opened, .pkt = {THERE6, .proto = IPPROTO_ICMPV6, .icmp = 2, .quote = &wild_quote6}, .own = OWN,
	 .src = "fd09::2", .dst = "fd09::1"},

	{"seal", PROG_deliver, .pkt = {HERE4, .proto = IPPROTO_ICMP, .icmp = 8, .payload = 16, .stamp = {LINK_ID, GEN, .kind = STAMP_SEAL}}},
	{"seal, own addresses", PROG_deliver,
	 .pkt = {OWN6, .proto = IPPROTO_ICMPV6, .icmp = 128, .payload = 16, .stamp = {LINK_ID, GEN, .kind = STAMP_SEAL}}, .own = OWN, HERE6},
};

static void set_ends(struct ends *e, bool is6, const char *src4, const char *dst4, const char *src6, const char *dst6)
{
	struct in6_addr src = addr(is6 ? src6 : src4), dst = addr(is6 ? dst6 : dst4);

	memcpy(&e->src, &src, sizeof(src));
	memcpy(&e->dst, &dst, sizeof(dst));
}

static void hosts_set(const struct hosts_row *r)
{
	bool is6 = !strchr(r->pkt.src, ':') == r->other;
	struct row link = {.link_flags = LINK_F_KERNEL | LINK_F_HOSTS};
	struct host_ent e = {.flags = HOST_F_UDP};

	row_set(&link);
	set_ends(&e.wild, is6, "192.0.2.1", "198.51.100.7", "2001:db8::1", "2001:db8::7");
	if (r->own)
		set_ends(&e.own, is6, "10.9.0.1", "10.9.0.2", "fd09::1", "fd09::2");
	assert_int_equal(r->unknown ? load_host_del(ld, LINK_ID) : load_host_set(ld, LINK_ID, &e), 0);
}

/* Where the upper layer of the packet begins, and where in it the sum is; 0 = it has none. */
static unsigned int sum_at(const struct pkt *p, unsigned int *l4)
{
	*l4 = strchr(p->src, ':') ? 40 + 8u * p->ext : 20 + 4u * p->opts;
	return p->proto == IPPROTO_TCP ? 16 : p->proto == IPPROTO_UDP ? 6 : p->icmp ? 2 : 0;
}

static void set_sum(const struct pkt *p, uint8_t *ip, unsigned int len)
{
	unsigned int l4, at = sum_at(p, &l4);
	bool is6 = ip[0] >> 4 == 6;
	uint32_t pseudo = p->proto == IPPROTO_ICMP ? 0 : sum16(ip + (is6 ? 8 : 12), is6 ? 32 : 8, p->proto + len - l4);

	if (at)
		put16(ip + l4 + at, ~sum16(ip + l4, len - l4, pseudo));
}

/* What comes out is what transport_readdress() makes of it, to the byte; a sum that was right is right. */
static void hosts_run(const struct hosts_row *r)
{
	static uint8_t in[8192], want[8192], got[8192];
	struct __sk_buff ctx = {.gso_size = r->gso_size};
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = in, .data_out = got, .data_size_out = sizeof(got), .repeat = 1);
	struct ctrs before, after;
	struct in6_addr src, dst;
	unsigned int len = pkt_fill(&r->pkt, in, sizeof(in));
	int seg = r->gso_size ? 3 : 1;

	if (!r->no_sum)
		set_sum(&r->pkt, in + 14, len - 14);
	memcpy(want, in, len);
	if (r->src) {
		src = addr(r->src);
		dst = addr(r->dst);
		transport_readdress(want + 14, len - 14, &src, &dst);
	}
	run.data_size_in = len;
	run.ctx_in = r->gso_size ? &ctx : NULL;
	run.ctx_size_in = r->gso_size ? sizeof(ctx) : 0;
	ctrs_read(ld, LINK_ID, &before);
	assert_int_equal(bpf_prog_test_run_opts(ld->prog[r->prog], &run), 0);
	ctrs_read(ld, LINK_ID, &after);
	if ((int)run.retval != (r->why ? ACT_DROP : ACT_REDIRECT))
		fail_msg("%s: verdict %d", r->name, (int)run.retval);
	for (int i = 1; i < DROP_MAX; i++)
		if (after.link.drops[i] - before.link.drops[i] != (i == (int)r->why ? (uint64_t)seg : 0))
			fail_msg("%s: reason %d", r->name, i);
	if (!r->why && r->prog == PROG_classify)
		assert_int_equal(after.link.kernel_segs - before.link.kernel_segs, seg);
	if (memcmp(want + 12, got + 12, len - 12))
		for (unsigned int i = 12; i < len; i++)
			if (want[i] != got[i])
				fail_msg("%s: byte %u is %02x, not %02x", r->name, i - 14, got[i], want[i]);
}

static void hosts_test(void **state)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(hosts_rows); i++) {
		hosts_set(&hosts_rows[i]);
		hosts_run(&hosts_rows[i]);
	}
	assert_int_equal(load_host_del(ld, LINK_ID), 0);
}

/* A small packet follows its flow's super-packet to the TAP; another flow's does not. */
static void sticky_test(void **state)
{
	static const struct row gso = {"", PROG_classify, .worker = 1, .gso_size = 1000};
	static const struct pkt big = {IN4, TCP, .sport = 1, .dport = 2, .payload = 3000};
	static const struct pkt ack = {IN4, TCP, .sport = 1, .dport = 2};
	static const struct pkt other = {IN4, TCP, .sport = 3, .dport = 2};
	static const struct change tap3[] = {SEGS(3, 3120), {LINK(tap_segs), 3}, {0}};
	static const struct change tap[] = {SEGS(1, 40), {LINK(tap_segs), 1}, {0}};
	static const struct change xsk[] = {SEGS(1, 40), {LINK(xsk_segs), 1}, {0}};
	const struct {
		const struct pkt *pkt;
		const struct change *moved;
		unsigned int sleep_us;
	} steps[] = {{&ack, xsk, 0},
		     {&big, tap3, 0},
		     {&ack, tap, 0},
		     {&other, xsk, 0},
		     {&ack, xsk, STICKY_NS / 1000 + 20000}};
	static uint8_t in[4096];
	struct __sk_buff ctx = {0};
	struct ctrs before, after;

	row_set(&gso);
	for (unsigned int i = 0; i < ARRAY_SIZE(steps); i++) {
		LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = in, .ctx_in = &ctx,
			    .ctx_size_in = sizeof(ctx), .repeat = 1);

		ctx.gso_size = steps[i].pkt == &big ? 1000 : 0;
		usleep(steps[i].sleep_us);
		run.data_size_in = pkt_fill(steps[i].pkt, in, sizeof(in));
		ctrs_read(ld, LINK_ID, &before);
		assert_int_equal(bpf_prog_test_run_opts(ld->prog[PROG_classify], &run), 0);
		ctrs_read(ld, LINK_ID, &after);
		ctrs_check(&before, &after, steps[i].moved);
	}
}

/* --- replays --- */

/* What wire_in must make of a number: the worker's own judgement, but for what ESN leaves to the ICV. */
static enum drop early(const struct replay *r, uint32_t seq)
{
	uint64_t top = *r->top, full = replay_seq(r, seq);

	if (r->esn && full > top)
		return (uint32_t)top - seq < UINT32_C(1) << 31 && (uint32_t)top - seq <= top ? DROP_REPLAY_OLD : DROP_NONE;
	return replay_check(r, full);
}

static void replay_row(struct replay *r, struct sa_ctr *c, uint8_t *pkt, unsigned int len, uint32_t seq)
{
	LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = pkt, .data_size_in = len, .repeat = 1);
	uint64_t before = c->early_drops;
	struct link_ctr was, is;
	enum drop want = early(r, seq);

	seq = htonl(seq);
	memcpy(pkt + ETH_HLEN + 20 + 4, &seq, 4);
	assert_int_equal(load_link_ctr(ld, LINK_ID, &was), 0);
	assert_int_equal(bpf_prog_test_run_opts(ld->prog[PROG_wire_in], &run), 0);
	assert_int_equal(load_link_ctr(ld, LINK_ID, &is), 0);
	if ((want ? X_DROP : X_REDIRECT) != (int)run.retval)
		fail_msg("top %llu window %u esn %d seq %u: verdict %u, want %d", (unsigned long long)*r->top, r->window,
			 r->esn, ntohl(seq), run.retval, want);
	assert_int_equal(c->early_drops - before, want != DROP_NONE);
	assert_int_equal(is.wire_pkts - was.wire_pkts, want == DROP_NONE);
	for (int d = 1; d < DROP_MAX; d++)
		assert_int_equal(is.drops[d] - was.drops[d], want == (enum drop)d);
}

/* Windows that random numbers have gone through, ends of the number space included, against user/replay.c. */
static void replay_test(void **state)
{
	static const struct row none = {"", PROG_wire_in, .worker = 0};
	static const uint64_t starts[] = {0, 1, 100, UINT32_MAX - 300, (UINT64_C(1) << 32) + 5, UINT64_C(9) << 32, (UINT64_C(5) << 32) - 70};
	static const struct pkt esp = {OUR4, ESP, .spi = SPI_REPLAY, .payload = 60};
	struct sa_ctr *c = &load_sactr(ld)[SLOT_REPLAY];
	uint64_t *words = load_replay(ld) + 40;
	unsigned int seed = 1;
	uint8_t pkt[256];
	unsigned int len = pkt_fill(&esp, pkt, sizeof(pkt));

	row_set(&none);
	for (unsigned int i = 0; i < 2 * 3 * ARRAY_SIZE(starts); i++) {
		struct sa_in_ent e = {.slot = SLOT_REPLAY, .link = LINK_ID, .window = 64u << i % 3, .flags = i & 1 ? SA_IN_F_ESN : 0};
		uint64_t start = starts[i / 6];
		struct replay r;

		if (!(i & 1))
			start = (uint32_t)start;
		*c = (struct sa_ctr){.top = start, .word_off = 40, .n_words = replay_words(e.window), .let_ns = UINT64_MAX / 2};
		memset(words, 0, 8 * c->n_words);
		assert_int_equal(replay_init(&r, (uint64_t *)&c->top, words, e.window, i & 1), 0);
		for (int k = 0; k < 200; k++)
			if (r.esn || *r.top < UINT32_MAX - 8)
				replay_accept(&r, *r.top + 8 - (unsigned int)rand_r(&seed) % MIN(*r.top + 8, 80), NULL);
		c->settled = c->top;
		assert_int_equal(load_sa_in_set(ld, htonl(SPI_REPLAY), &e), 0);
		for (int64_t k = -(int64_t)e.window - 70; k < 70; k++)
			replay_row(&r, c, pkt, len, (uint32_t)(*r.top + k));
		for (int k = 0; k < 100; k++)
			replay_row(&r, c, pkt, len, (uint32_t)rand_r(&seed) << 1 ^ rand_r(&seed));
		/* what came since the words were in order is the worker's to judge, and so is a word used anew */
		c->settled = c->top > 3 ? c->top - 3 : 0;
		c->top += 64 * c->n_words;
		memset(words, 0xff, 8 * c->n_words);
		{
			LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = pkt, .data_size_in = len, .repeat = 1);
			uint32_t seq = htonl((uint32_t)c->settled);

			memcpy(pkt + ETH_HLEN + 20 + 4, &seq, 4);
			assert_int_equal(bpf_prog_test_run_opts(ld->prog[PROG_wire_in], &run), 0);
			assert_int_equal((int)run.retval, c->settled ? X_REDIRECT : X_DROP);
		}
	}
	/* one a millisecond goes on to the worker */
	c->settled = c->top;
	c->let_ns = 0;
	memset(pkt + ETH_HLEN + 20 + 4, 0, 4);
	for (int k = 0, passed = 0; k < 3; k++) {
		LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = pkt, .data_size_in = len, .repeat = 1);

		assert_int_equal(bpf_prog_test_run_opts(ld->prog[PROG_wire_in], &run), 0);
		passed += run.retval == X_REDIRECT;
		assert_true(c->let_ns);
		if (!k) {
			assert_int_equal(passed, 1);
			c->let_ns = UINT64_MAX / 2;
		}
		assert_int_equal(passed, 1);
	}
}

/*
 * Left to the sockets, a datagram shows its worker's port (for GRO), under a checksum that still
 * holds; none stays none. Everything else of the frame is untouched.
 */
static void socket_port_test(void **state)
{
	static const struct row none = {"", PROG_wire_in, .worker = 1};
	static const struct pkt pkts[] = {
		{OUR4, UDP, .sport = 999, .dport = 4500, .spi = SPI_SOCKET, .payload = 61},
		{OUR6, UDP, .sport = 4500, .dport = 4500, .spi = SPI_SOCKET, .payload = 60}};
	static const uint16_t ports[] = {1, 4501, 41000, 65535};
	static uint8_t in[256], out[256];
	uint8_t pseudo[256];

	row_set(&none);
	for (unsigned int i = 0; i < 3 * ARRAY_SIZE(pkts) * ARRAY_SIZE(ports); i++) {
		const struct pkt *p = &pkts[i / 3 % ARRAY_SIZE(pkts)];
		struct worker_ent e = {.udp_port_be = htons(ports[i / 6])};
		unsigned int len = pkt_fill(p, in, sizeof(in)), at = p == pkts ? 34 : 54;
		LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = in, .data_size_in = len,
			    .data_out = out, .data_size_out = sizeof(out), .repeat = 1);

		assert_int_equal(load_worker_set(ld, 1, &e), 0);
		/* no checksum, a right one, and one that becomes 0 and hence 0xffff */
		in[len - 1] = i % 3 == 2 ? 0 : 7;
		if (i % 3 == 2) {
			put16(in + len - 3, 0);
			put16(in + len - 3, 0xffff - sum16(in + at, len - at, 0) + 4500 - ports[i / 6]);
		}
		if (i % 3)
			put16(in + at + 6, ~sum16(in + at, len - at, 0) ?: 0xffff);
		assert_int_equal(bpf_prog_test_run_opts(ld->prog[PROG_wire_in], &run), 0);
		assert_int_equal((int)run.retval, X_PASS);
		assert_int_equal(out[at + 2] << 8 | out[at + 3], ports[i / 6]);
		if (i % 3 == 0)
			assert_int_equal(out[at + 6] << 8 | out[at + 7], 0);
		else
			assert_int_equal(sum16(out + at, len - at, 0), 0xffff);
		memcpy(pseudo, in, len);
		memcpy(pseudo + at + 2, out + at + 2, 2);
		memcpy(pseudo + at + 6, out + at + 6, 2);
		assert_memory_equal(out, pseudo, len);
	}
}

/* --- sock_in: envelopes of the kernel's SAs --- */

enum { SPI_HOME4 = 0x1007, SPI_HOME6 = 0x1008 };

/* An envelope that comes to 192.0.2.1 or 2001:db8::1, where its state is at ...3. */
static const struct home_row {
	struct pkt pkt;
	bool moves, none; /* none: no UDP checksum */
} home_rows[] = {
	{.moves = true, .pkt = {OUR4, ESP, .spi = SPI_HOME4, .payload = 60}},
	{.moves = true, .pkt = {OUR4, ESP, .spi = SPI_HOME4, .opts = 3, .payload = 60, .pad = 5}},
	{.moves = true, .pkt = {OUR4, ESP, .spi = SPI_HOME4, .n_vlan = 1, .payload = 60}},
	{.moves = true, .pkt = {OUR6, ESP, .spi = SPI_HOME6, .payload = 60}},
	{.moves = true, .pkt = {OUR6, ESP, .spi = SPI_HOME6, .ext = 1, .n_vlan = 2, .payload = 61}},
	{.moves = true, .pkt = {OUR4, UDP, .sport = 4500, .dport = 4500, .spi = SPI_HOME4, .payload = 60}},
	{.moves = true, .none = true, .pkt = {OUR4, UDP, .sport = 4500, .dport = 4500, .spi = SPI_HOME4, .payload = 61}},
	{.moves = true, .pkt = {OUR6, UDP, .sport = 999, .dport = 4500, .spi = SPI_HOME6, .payload = 61}},
	/* it is there already; another family; no SA of the kernel's; a fragment; no envelope; to somebody else */
	{.pkt = {.src = "198.51.100.7", .dst = "192.0.2.3", ESP, .spi = SPI_HOME4, .payload = 60}},
	{.pkt = {OUR6, ESP, .spi = SPI_HOME4, .payload = 60}},
	{.pkt = {OUR4, ESP, .spi = SPI_HOME6, .payload = 60}},
	{.pkt = {OUR4, ESP, .spi = SPI_KERNEL, .payload = 60}},
	{.pkt = {OUR4, ESP, .spi = SPI, .payload = 60}},
	{.pkt = {OUR4, ESP, .spi = SPI_HOME4, .frag = 0x2000, .payload = 60}},
	{.pkt = {OUR6, ESP, .spi = SPI_HOME6, .frag6 = 1, .payload = 60}},
	{.pkt = {OUR4, UDP, .sport = 4500, .dport = 53, .spi = SPI_HOME4, .payload = 60}},
	{.pkt = {.src = "198.51.100.7", .dst = "192.0.2.2", ESP, .spi = SPI_HOME4, .payload = 60}},
};

static uint16_t udp_sum(const uint8_t *ip, unsigned int l4, unsigned int len, bool is6)
{
	return sum16(ip + l4, len, sum16(ip + (is6 ? 8 : 12), is6 ? 32 : 8, IPPROTO_UDP + len));
}

/* The address of the state, under checksums that hold; everything else is what it was, and what is not for it untouched. */
static void home_test(void **state)
{
	struct in6_addr home[] = {addr("192.0.2.3"), addr("2001:db8::3")};
	static uint8_t in[256], want[256], out[256];

	for (unsigned int i = 0; i < ARRAY_SIZE(home); i++) {
		struct sa_in_ent e = {.slot = SLOT_IN, .link = LINK_ID, .flags = SA_IN_F_KERNEL};

		memcpy(&e.home, &home[i], sizeof(e.home));
		assert_int_equal(load_addr_set(ld, &home[i]), 0);
		assert_int_equal(load_sa_in_set(ld, htonl(i ? SPI_HOME6 : SPI_HOME4), &e), 0);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(home_rows); i++) {
		const struct home_row *r = &home_rows[i];
		bool is6 = strchr(r->pkt.src, ':');
		unsigned int len = pkt_fill(&r->pkt, in, sizeof(in)), l3 = 14 + 4u * r->pkt.n_vlan;
		unsigned int l4 = is6 ? 40 + 8u * (r->pkt.ext + !!r->pkt.frag6) : 20 + 4u * r->pkt.opts;
		unsigned int udp_len = 8 + r->pkt.payload;
		LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = in, .data_size_in = len, .data_out = out,
			    .data_size_out = sizeof(out), .repeat = 1);

		if (r->pkt.proto == IPPROTO_UDP && !r->none)
			put16(in + l3 + l4 + 6, ~udp_sum(in + l3, l4, udp_len, is6) ?: 0xffff);
		memcpy(want, in, len);
		if (r->moves && is6)
			memcpy(want + l3 + 24, &home[1], 16);
		if (r->moves && !is6) {
			want[l3 + 19] = 3;
			put16(want + l3 + 10, 0);
			put16(want + l3 + 10, ~sum16(want + l3, l4, 0));
		}
		if (r->moves && r->pkt.proto == IPPROTO_UDP && !r->none) {
			put16(want + l3 + l4 + 6, 0);
			put16(want + l3 + l4 + 6, ~udp_sum(want + l3, l4, udp_len, is6) ?: 0xffff);
		}
		assert_int_equal(bpf_prog_test_run_opts(ld->prog[PROG_sock_in], &run), 0);
		if (run.data_size_out != len || memcmp(out, want, len))
			fail_msg("row %u", i);
	}
}

/* --- sock_in, sock_out: random packets --- */

static uint64_t rnd_state = 88172645463325252;

static uint32_t rnd(uint32_t n)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return (uint32_t)(rnd_state >> 20) % n;
}

static void rnd_pkt(struct pkt *p, uint16_t private)
{
	static const uint8_t protos[] = {IPPROTO_UDP, IPPROTO_UDP, IPPROTO_UDP, IPPROTO_ESP, IPPROTO_TCP, IPPROTO_ICMP};
	static const uint32_t spis[] = {SPI, SPI, SPI_ALIEN, 0};
	const uint16_t ports[] = {4500, 4500, private, 53};
	static const uint16_t frags[] = {0, 0, 0, 1, 0x2000, 0x2009};
	bool v4 = rnd(2), to_us = rnd(4);

	*p = (struct pkt){.src = v4 ? "198.51.100.7" : "2001:db8::7",
			  .dst = v4 ? (to_us ? "192.0.2.1" : "192.0.2.2") : (to_us ? "2001:db8::1" : "2001:db8::2"),
			  .proto = protos[rnd(ARRAY_SIZE(protos))], .spi = spis[rnd(ARRAY_SIZE(spis))],
			  .sport = (uint16_t)(1 + rnd(65535)), .dport = ports[rnd(ARRAY_SIZE(ports))],
			  .payload = (uint16_t)(4 + rnd(200)), .n_vlan = (uint8_t)(rnd(4) ? 0 : rnd(3)), .pad = (uint16_t)rnd(9)};
	if (v4)
		p->opts = (uint8_t)(rnd(3) ? 0 : rnd(11));
	else
		p->ext = (uint8_t)(rnd(3) ? 0 : rnd(3));
	*(v4 ? &p->frag : &p->frag6) = v4 ? frags[rnd(ARRAY_SIZE(frags))] : (rnd(3) ? 0 : rnd(2) ? 1 : 0x48);
}

/* What sock_in is for: a datagram of ours, by SPI, to 4500 or the worker's own port, whole or its first part. */
static bool is_for_socket(const struct pkt *p, uint16_t private)
{
	bool to_us = !strcmp(p->dst, "192.0.2.1") || !strcmp(p->dst, "2001:db8::1");

	return p->proto == IPPROTO_UDP && to_us && p->spi == SPI && p->payload >= 8 && !(p->frag & 0x1fff) &&
	       !(p->frag6 & 0xfff8) && (p->dport == 4500 || p->dport == private);
}

/*
 * Whatever comes: nothing gets longer or shorter; a datagram of ours shows its worker's port under a checksum
 * that is as right or wrong as before, or none; every other packet is byte for byte what it was. With a byte
 * damaged anywhere, at most port and checksum of it are other.
 */
static void sock_random_test(void **state)
{
	static const struct row none = {"", PROG_wire_in, .settings = SETTINGS_F_ESP_OURS};
	static uint8_t in[512], want[512], out[512];
	struct sockaddr_in6 any = {.sin6_family = AF_INET6};
	socklen_t any_len = sizeof(any);
	int fd = socket(AF_INET6, SOCK_DGRAM, 0);
	unsigned int taken = 0, changed;
	struct worker_ent e = {0};
	uint16_t port;

	assert_return_code(bind(fd, (struct sockaddr *)&any, sizeof(any)), errno);
	assert_return_code(getsockname(fd, (struct sockaddr *)&any, &any_len), errno);
	port = ntohs(any.sin6_port);
	row_set(&none);
	e.udp_port_be = any.sin6_port;
	assert_int_equal(load_worker_set(ld, 0, &e), 0);
	for (int i = 0; i < 60000; i++) {
		enum load_prog prog = i % 8 ? PROG_sock_in : PROG_sock_out;
		bool damaged = rnd(3) == 0, hit;
		LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = in, .data_out = out, .data_size_out = sizeof(out), .repeat = 1);
		unsigned int len, at;
		struct pkt p;

		rnd_pkt(&p, port);
		len = pkt_fill(&p, in, sizeof(in));
		at = 14 + 4 * p.n_vlan + (strchr(p.src, ':') ? 40 + 8u * (p.ext + !!p.frag6) : 20 + 4u * p.opts);
		if (p.proto == IPPROTO_UDP && rnd(2)) /* a checksum, maybe a wrong one */
			put16(in + at + 6, (uint16_t)(1 + rnd(65535)));
		if (damaged)
			in[rnd(len)] ^= (uint8_t)(1 << rnd(8));
		run.data_size_in = len;
		assert_int_equal(bpf_prog_test_run_opts(ld->prog[prog], &run), 0);
		assert_int_equal(run.data_size_out, len);
		memcpy(want, in, len);
		hit = prog == PROG_sock_in && is_for_socket(&p, port);
		if (damaged) {
			changed = 0;
			for (unsigned int k = 0; k < len; k++)
				changed += in[k] != out[k];
			assert_true(changed <= 4 && (changed == 0 || prog == PROG_sock_in));
			continue;
		}
		assert_true((int)run.retval == ACT_NEXT || (!hit && (int)run.retval == ACT_DROP));
		if (hit) {
			taken++;
			put16(want + at + 2, port);
			if (in[at + 6] || in[at + 7]) {
				memcpy(want + at + 6, out + at + 6, 2);
				assert_int_equal(sum16(want + at, len - at, 0) % 0xffff, sum16(in + at, len - at, 0) % 0xffff);
				assert_true(out[at + 6] || out[at + 7]); /* it did not become none */
			}
		}
		assert_memory_equal(out, want, len);
	}
	assert_true(taken > 1000);
	close(fd);
}

static int setup(void **state)
{
	log_init("prog_test");
	rig_name(0);
	if (unshare(CLONE_NEWNET) || load_open(&ld, &rig_conf))
		return -1;
	tables_set();
	return 0;
}

static int teardown(void **state)
{
	load_close(ld);
	return load_release(rig_dir);
}

/* "wire: esp, torn" -> "wire:esp-torn": the runner wants names without blanks */
static const char *slug(const char *name)
{
	char *s = strdup(name), *to = s;

	for (const char *p = name; *p; p++) {
		if (*p == ',' || (*p == ' ' && p > name && p[-1] == ':'))
			continue;
		*to++ = *p == ' ' ? '-' : *p;
	}
	*to = 0;
	return s;
}

int main(void)
{
	static struct CMUnitTest tests[ARRAY_SIZE(rows) + 7];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		tests[i] = (struct CMUnitTest){.name = slug(rows[i].name),
					       .test_func = row_test,
					       .initial_state = (void *)&rows[i]};
	tests[ARRAY_SIZE(rows)] =
		(struct CMUnitTest){.name = "classify:sticky-flows", .test_func = sticky_test};
	tests[ARRAY_SIZE(rows) + 1] =
		(struct CMUnitTest){.name = "wire:socket-port", .test_func = socket_port_test};
	tests[ARRAY_SIZE(rows) + 2] =
		(struct CMUnitTest){.name = "link:mss-clamp", .test_func = mss_test};
	tests[ARRAY_SIZE(rows) + 3] =
		(struct CMUnitTest){.name = "sock:random", .test_func = sock_random_test};
	tests[ARRAY_SIZE(rows) + 4] =
		(struct CMUnitTest){.name = "wire:replays", .test_func = replay_test};
	tests[ARRAY_SIZE(rows) + 5] =
		(struct CMUnitTest){.name = "sock:state-at-one-address", .test_func = home_test};
	tests[ARRAY_SIZE(rows) + 6] =
		(struct CMUnitTest){.name = "link:transport-by-the-kernel", .test_func = hosts_test};
	return _cmocka_run_group_tests("prog", tests, ARRAY_SIZE(tests), setup, teardown);
}
