/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inbound: what becomes of an envelope inside the worker, and of everything about it: every reason to drop one,
 * endpoints, probes, pings, batches, stamps, tables by SPI and link, and the loop itself over real sockets.
 * wraps: tap_writev port_receive port_release load_wctr out_room out_push out_push_ip out_flush recvmmsg
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "esp_model.h"
#include "pkt.h"
#include "pktgen.h"
#include "worker_rig.h"

enum { SPI = 0x01020304, ROOM = 2048 };
#define REMOTE "198.51.100.7"
#define LOCAL  "192.0.2.1"

static struct worker_rig r;
static struct sa_conf conf;
static uint64_t seq;
static unsigned int delivered, tap_frames;
static uint8_t last[WR_ROOM];
static uint32_t last_len;

static void to_tap(struct worker_rig *rig, const struct virtio_net_hdr *vh, const uint8_t *frame, uint32_t len)
{
	tap_frames++;
	delivered += vh->gso_type ? (len - 14 - vh->hdr_len + 14 + vh->gso_size - 1) / vh->gso_size : 1;
	memcpy(last, frame, len);
	last_len = len;
}

static void begin_with(enum sa_mode mode, const char *remote, uint8_t encap)
{
	conf = (struct sa_conf){.dir = SA_IN, .spi = SPI, .alg = AEAD_AES_GCM_128, .mode = mode, .window = WR_WINDOW};
	memset(conf.key, 7, sizeof conf.key);
	assert_int_equal(wr_init(&r, &conf, remote, encap), 0);
	r.tap = to_tap;
	seq = 0;
	delivered = tap_frames = 0;
}

static int begin(void **state)
{
	begin_with(SA_TUNNEL, REMOTE, ENCAP_ESP);
	return 0;
}

static int end(void **state)
{
	wr_fini(&r);
	return 0;
}

/* --- envelopes -------------------------------------------------------------------------------- */

/* Padding and trailer behind len bytes, sealed. Return: length of ESP */
static uint32_t seal_body(const uint8_t *plain, uint32_t len, uint8_t next, uint8_t *esp)
{
	uint8_t body[ROOM], iv[AEAD_IV_MAX] = {0};
	uint32_t pad = -(len + 2) & 3;

	memcpy(body, plain, len);
	for (uint32_t i = 0; i < pad; i++)
		body[len + i] = (uint8_t)(i + 1);
	body[len + pad] = (uint8_t)pad;
	body[len + pad + 1] = next;
	model_put_be(iv, ++seq, 8);
	return model_seal(r.in.sa.aead, &conf, seq, iv, body, len + pad + 2, esp);
}

static uint32_t inner_packet(const struct pktgen *p, uint8_t *buf)
{
	return pg_build(buf, p);
}

static uint32_t good(uint8_t *esp)
{
	struct pktgen p = pg_udp4;
	uint8_t ip[ROOM];

	p.payload = 64;
	p.id = (uint16_t)seq;
	return seal_body(ip, inner_packet(&p, ip), NEXT_IP4, esp);
}

static struct wr_msg message_from(const char *src, const uint8_t *bytes, uint32_t len)
{
	return (struct wr_msg){.bytes = bytes, .len = len, .src = wr_addr(src), .dst = wr_addr(LOCAL), .ttl = 61};
}

/* A raw IPv4 socket hands the header with the packet. */
static void arrive_tos(const uint8_t *esp, uint32_t len, uint8_t tos)
{
	uint8_t buf[ROOM + 64] = {0x45, tos};
	struct wr_msg m = message_from(REMOTE, buf, len + 20);

	memcpy(buf + 20, esp, len);
	m.tos = tos;
	wr_message(&r, &m);
}

static void arrive(const uint8_t *esp, uint32_t len)
{
	arrive_tos(esp, len, 0);
}

/* The same by the wire funnel: esp stands behind 20 bytes of room. */
static void arrive_wire(uint8_t *buf, uint32_t len)
{
	struct in_addr src = {htonl(0xc6336407)}, dst = {htonl(0xc0000201)};

	memset(buf, 0, 20);
	buf[0] = 0x45;
	pg16(buf + 2, len + 20);
	buf[8] = 61;
	buf[9] = IPPROTO_ESP;
	memcpy(buf + 12, &src, 4);
	memcpy(buf + 16, &dst, 4);
	wr_frame(&r, buf, len + 20);
}

static void only_drop(enum drop why, uint64_t n)
{
	for (int d = 0; d < DROP_MAX; d++)
		if (r.ctr.drops_in[d] != (d == (int)why ? n : 0))
			fail_msg("drop %d: %llu, expected %llu of %d", d, (unsigned long long)r.ctr.drops_in[d],
				 (unsigned long long)n, why);
}

/* --- what is delivered, and what is not ------------------------------------------------------- */

static void test_both_entries(void **state)
{
	uint8_t buf[ROOM];
	struct stamp st;

	arrive(buf, good(buf));
	arrive_wire(buf, good(buf + 20));
	assert_int_equal(delivered, 2);
	assert_int_equal(r.ctr.in_sock_pkts, 1);
	assert_int_equal(r.ctr.in_xsk_pkts, 1);
	assert_int_equal(r.ctr.in_pkts, 2);
	assert_int_equal(r.released, 1);
	assert_int_equal(r.in_ctr.pkts, 2);
	assert_int_equal(r.l.live.heard_ns, r.w.now);
	memcpy(&st, last, sizeof st);
	assert_int_equal(st.kind, STAMP_DELIVER);
	assert_int_equal(st.link, WR_LINK);
	only_drop(DROP_NONE, 0);
}

static void test_bad_envelopes(void **state)
{
	uint8_t esp[ROOM], again[ROOM];
	uint32_t n = good(esp);

	memcpy(again, esp, n);
	arrive(esp, n);
	arrive(again, n);
	only_drop(DROP_REPLAY_DUP, 1);
	assert_int_equal(r.in_ctr.replay_drops, 1);
	r.ctr.drops_in[DROP_REPLAY_DUP] = 0;
	n = good(esp);
	esp[n - 1] ^= 1;
	arrive(esp, n);
	only_drop(DROP_ICV_FAIL, 1);
	assert_int_equal(r.in_ctr.icv_drops, 1);
	r.ctr.drops_in[DROP_ICV_FAIL] = 0;
	arrive(esp, 20);
	only_drop(DROP_SHORT, 1);
	r.ctr.drops_in[DROP_SHORT] = 0;
	seq = 199;
	arrive(esp, good(esp)); /* 200 */
	seq = 200 - WR_WINDOW;
	arrive(esp, good(esp)); /* the last number inside */
	only_drop(DROP_NONE, 0);
	seq = 200 - WR_WINDOW - 1;
	arrive(esp, good(esp));
	only_drop(DROP_REPLAY_OLD, 1);
	assert_int_equal(r.in_ctr.replay_drops, 2);
	assert_true(r.ctr.lost > 0);
}

static void test_bad_insides(void **state)
{
	struct pktgen p = pg_udp4;
	uint8_t ip[ROOM], esp[ROOM];
	uint32_t len = inner_packet(&p, ip);

	arrive(esp, seal_body(ip, len, 17, esp));
	only_drop(DROP_BAD_NEXT_HEADER, 1);
	r.ctr.drops_in[DROP_BAD_NEXT_HEADER] = 0;
	arrive(esp, seal_body(ip, len, NEXT_IP6, esp));
	only_drop(DROP_INNER_VERSION, 1);
	r.ctr.drops_in[DROP_INNER_VERSION] = 0;
	arrive(esp, seal_body(ip, 12, NEXT_IP4, esp));
	only_drop(DROP_INNER_VERSION, 1);
	assert_int_equal(delivered, 0);
}

static void test_source_and_admin(void **state)
{
	struct prefix inner;
	uint8_t esp[ROOM];

	prefix_parse("10.77.0.0/16", &inner);
	r.l.inner = &inner;
	r.l.n_inner = 1;
	arrive(esp, good(esp));
	only_drop(DROP_INNER_SRC, 1);
	r.ctr.drops_in[DROP_INNER_SRC] = 0;
	prefix_parse("10.0.0.0/8", &inner);
	arrive(esp, good(esp));
	assert_int_equal(delivered, 1);
	r.l.admin_up = false;
	arrive(esp, good(esp));
	only_drop(DROP_LINK_DOWN, 1);
}

static void test_ecn(void **state)
{
	struct pktgen p = pg_tcp6;
	uint8_t ip[ROOM], esp[ROOM];

	p.tos = 0;
	arrive_tos(esp, seal_body(ip, inner_packet(&p, ip), NEXT_IP6, esp), 3);
	only_drop(DROP_ECN_CE_NOT_ECT, 1);
	p.tos = 2;
	arrive_tos(esp, seal_body(ip, inner_packet(&p, ip), NEXT_IP6, esp), 3);
	assert_int_equal(delivered, 1);
	assert_int_equal(last[TAP_L2_LEN + 1] >> 4 & 3, 3);
}

static void test_nobodys(void **state)
{
	uint8_t esp[ROOM];
	uint32_t n = good(esp);

	model_put_be(esp, SPI + 1, 4);
	arrive(esp, n);
	arrive(esp, 3); /* not even an ESP header: torn */
	assert_int_equal(r.w.stats.no_sa, 1);
	assert_int_equal(r.w.stats.torn, 1);
	arrive_wire(esp, 7);
	only_drop(DROP_SHORT, 1);
	r.ctr.drops_in[DROP_SHORT] = 0;
	memset(esp, 1, 64);
	arrive_wire(esp, 40);
	only_drop(DROP_NO_SA, 1);
}

static void test_encap_mismatch(void **state)
{
	uint8_t esp[ROOM];
	uint32_t n = good(esp);
	struct wr_msg m = message_from(REMOTE, esp, n);

	m.port = ESP_PORT;
	wr_message(&r, &m);
	only_drop(DROP_ENCAP_MISMATCH, 1);
	r.l.n_paths = 0; /* any path: any encapsulation */
	r.ctr.drops_in[DROP_ENCAP_MISMATCH] = 0;
	wr_message(&r, &m);
	assert_int_equal(delivered, 1);
	m.len = 1; /* RFC 3948 2.3 keepalive */
	wr_message(&r, &m);
	m.len = 0;
	assert_int_equal(wr_message(&r, &m), 0);
	assert_int_equal(r.w.stats.no_sa, 1);
}

static void test_tap_full(void **state)
{
	struct pktgen p = pg_tcp4;
	uint8_t ip[ROOM], train[8 * ROOM];
	uint32_t n = 0, seg = 0;
	struct wr_msg m;

	r.l.paths[0].encap = ENCAP_UDP;
	p.payload = 100;
	for (int i = 0; i < 5; i++) {
		n += seg = seal_body(ip, inner_packet(&p, ip), NEXT_IP4, train + n);
		p.seq += p.payload;
		p.at += p.payload;
		p.id++;
	}
	r.tap_err = -EAGAIN;
	m = message_from(REMOTE, train, n);
	m.port = ESP_PORT;
	m.seg = (uint16_t)seg;
	assert_int_equal(wr_message(&r, &m), 5);
	only_drop(DROP_QUEUE_FULL, 5); /* one super-packet, five segments */
	assert_int_equal(r.ctr.in_pkts, 0);
}

/* More in one message than a batch holds, and they come out as few super-packets. */
static void test_train(void **state)
{
	static uint8_t train[65536];
	struct pktgen p = pg_tcp4;
	uint8_t ip[ROOM];
	uint32_t n = 0, seg = 0;
	struct wr_msg m;

	r.l.paths[0].encap = ENCAP_UDP;
	p.payload = 200;
	for (int i = 0; i < 150; i++) {
		seg = seal_body(ip, inner_packet(&p, ip), NEXT_IP4, train + n);
		n += seg;
		p.seq += p.payload;
		p.at += p.payload;
		p.id++;
	}
	m = message_from(REMOTE, train, n);
	m.port = ESP_PORT;
	m.seg = (uint16_t)seg;
	assert_int_equal(wr_message(&r, &m), 150);
	assert_int_equal(delivered, 150);
	assert_true(tap_frames <= 3);
	assert_int_equal(r.ctr.in_bytes, 150 * (pg_l3(&p) + pg_l4(&p) + 200));
	assert_int_equal(r.in_ctr.pkts, 150);
	only_drop(DROP_NONE, 0);
}

/* Envelopes of two SAs by turns: each is opened by its own, in order. */
static void test_two_sas(void **state)
{
	static struct worker_rig other; /* for its SA only */
	struct wr_msg m;
	uint8_t train[4 * ROOM], ip[ROOM], iv[AEAD_IV_MAX] = {0};
	struct sa_conf second = conf;
	uint32_t n = 0, seg = 0;

	second.spi = SPI + 9;
	memset(second.key, 9, sizeof second.key);
	assert_int_equal(sa_in_init(&other.in.sa, &second, (uint64_t *)&other.in_ctr.top, other.words), 0);
	life_init(&other.in.life, &second.life, 0);
	other.in.link = WR_LINK;
	other.in.set = &r.set;
	other.in.ctr = &other.in_ctr;
	assert_int_equal(worker_sa_in_set(&r.w, &other.in), 0);
	assert_ptr_equal(r.l.in, &other.in);
	r.l.paths[0].encap = ENCAP_UDP;
	for (int i = 0; i < 4; i++) {
		if (i % 2) {
			uint32_t len = inner_packet(&pg_udp4, ip), pad = -(len + 2) & 3;

			for (uint32_t k = 0; k < pad; k++)
				ip[len + k] = (uint8_t)(k + 1);
			ip[len + pad] = (uint8_t)pad;
			ip[len + pad + 1] = NEXT_IP4;
			model_put_be(iv, (uint64_t)i, 8);
			seg = model_seal(other.in.sa.aead, &second, (uint64_t)i, iv, ip, len + pad + 2, train + n);
		} else {
			seg = seal_body(ip, inner_packet(&pg_udp4, ip), NEXT_IP4, train + n);
		}
		n += seg;
	}
	m = message_from(REMOTE, train, n);
	m.port = ESP_PORT;
	m.seg = (uint16_t)seg;
	wr_message(&r, &m);
	assert_int_equal(delivered, 4);
	assert_int_equal(r.in_ctr.pkts, 2);
	assert_int_equal(other.in_ctr.pkts, 2);
	worker_sa_in_clear(&r.w, &other.in);
	assert_null(worker_spi(&r.w, htonl(SPI + 9)));
	assert_null(r.l.in);
	assert_ptr_equal(worker_spi(&r.w, htonl(SPI)), &r.in);
	sa_in_fini(&other.in.sa);
}

static void test_life(void **state)
{
	uint8_t esp[ROOM];

	r.in.life.max_pkts = 2;
	arrive(esp, good(esp));
	arrive(esp, good(esp));
	arrive(esp, good(esp));
	assert_int_equal(delivered, 2);
	only_drop(DROP_SA_HARD_BYTES, 1);
	r.ctr.drops_in[DROP_SA_HARD_BYTES] = 0;
	life_init(&r.in.life, &(struct life_conf){.hard.bytes = 150}, r.w.now);
	arrive(esp, good(esp)); /* 96 bytes of cipher text */
	arrive(esp, good(esp)); /* opened, and too much */
	assert_int_equal(delivered, 3);
	only_drop(DROP_SA_HARD_BYTES, 1);
	r.ctr.drops_in[DROP_SA_HARD_BYTES] = 0;
	life_init(&r.in.life, &(struct life_conf){.hard.time_s = 1}, r.w.now);
	r.w.now += 1000000000;
	arrive(esp, good(esp));
	only_drop(DROP_SA_EXPIRED, 1);
}

/* RFC 4303 A3: a sender that got 2^32 numbers ahead while nothing arrived; and garbage does not make us look. */
static void test_resync(void **state)
{
	uint8_t esp[ROOM];
	uint32_t n;

	end(NULL);
	begin_with(SA_TUNNEL, REMOTE, ENCAP_ESP);
	wr_fini(&r);
	conf.esn = true;
	assert_int_equal(wr_init(&r, &conf, REMOTE, ENCAP_ESP), 0);
	r.tap = to_tap;
	arrive(esp, good(esp));
	assert_int_equal(delivered, 1);
	seq = (UINT64_C(2) << 32) + 5;
	for (int i = 0; i < 33; i++) {
		n = good(esp);
		arrive(esp, n);
	}
	assert_int_equal(r.w.stats.esn_resyncs, 1);
	assert_int_equal(delivered, 2);
	assert_int_equal(r.in_ctr.top, seq);
	assert_int_equal(r.ctr.drops_in[DROP_ICV_FAIL], 32);
	arrive(esp, good(esp));
	assert_int_equal(delivered, 3);
}

/* --- stamps ------------------------------------------------------------------------------------ */

static void stamped(uint16_t link, uint8_t kind, uint32_t len)
{
	static uint8_t buf[PORT_FRAME];
	struct stamp st = {.link = link, .kind = kind};

	memcpy(buf, &st, sizeof st);
	r.frame = (struct port_frame){.data = buf, .len = len};
	r.have_frame = true;
	assert_int_equal(inbound_port(&r.w), 1);
}

/* A restarted daemon's books: what was handed to a worker that does not know the link ends in the link's own. */
static void test_stray_stamps(void **state)
{
	stamped(3, STAMP_WIRE, 200);
	assert_int_equal(r.wctr[3].in_xsk_pkts, 1);
	assert_int_equal(r.wctr[3].drops_in[DROP_WORKER_GONE], 1);
	stamped(3, STAMP_RAW, 200);
	stamped(WR_LINKS + 7, STAMP_WIRE, 200);
	stamped(WR_LINK, STAMP_RAW, 200);
	stamped(WR_LINK, STAMP_WIRE, TAP_L2_LEN + 19);
	assert_int_equal(r.w.stats.bad_stamp, 5);
	assert_int_equal(r.wctr[3].in_xsk_pkts, 1);
	assert_int_equal(r.ctr.in_xsk_pkts, 0);
	assert_int_equal(r.released, 5);
	assert_int_equal(inbound_port(&r.w), 0);
}

/* --- endpoints (I4) ----------------------------------------------------------------------------- */

static void from(const char *src, uint16_t port, bool damaged)
{
	uint8_t esp[ROOM];
	uint32_t n = good(esp);
	struct wr_msg m = message_from(src, esp, n);

	m.port = port;
	if (damaged)
		esp[30] ^= 1;
	wr_message(&r, &m);
}

static bool endpoint_is(const char *addr, uint16_t port)
{
	struct in6_addr a = wr_addr(addr);

	return !memcmp(&r.l.paths[0].remote, &a, sizeof a) && r.l.paths[0].port == port;
}

static void test_learn(void **state)
{
	uint8_t old[ROOM];
	uint32_t n = good(old);
	struct wr_msg m = message_from("198.51.100.99", old, n);

	r.l.paths[0].encap = ENCAP_UDP;
	r.l.paths[0].learn = true;
	from("198.51.100.8", 5000, true);
	assert_true(endpoint_is(REMOTE, ESP_PORT)); /* not authentic */
	from("198.51.100.8", 5000, false);
	assert_true(endpoint_is("198.51.100.8", 5000));
	from("198.51.100.9", 5001, false);
	assert_true(endpoint_is("198.51.100.8", 5000)); /* not so soon */
	assert_int_equal(r.l.live.moved, 1);
	r.w.now += 200000000;
	m.port = 7;
	wr_message(&r, &m);
	assert_int_equal(delivered, 3);
	assert_true(endpoint_is("198.51.100.8", 5000)); /* authentic, but not the newest */
	from("198.51.100.8", 5002, false);
	assert_true(endpoint_is("198.51.100.8", 5002)); /* the port alone */
	r.w.now += 200000000;
	r.l.paths[0].learn = false;
	from("198.51.100.10", 1, false);
	assert_true(endpoint_is("198.51.100.8", 5002));
	assert_int_equal(r.l.live.moved, 2);
}

/* --- probes and pings ----------------------------------------------------------------------------- */

static void probe_arrives(const struct probe *p, uint32_t len)
{
	uint8_t esp[ROOM];

	arrive(esp, seal_body((const uint8_t *)p, len, NEXT_NONE, esp));
}

static void test_probes(void **state)
{
	struct probe p = {.magic = PROBE_MAGIC, .type = PROBE_REQUEST, .flags = PROBE_F_HEARD, .nonce = 77};
	struct probe back;

	probe_arrives(&p, sizeof p); /* no SA to answer with yet */
	assert_int_equal(r.n_sent, 0);
	r.l.out = &r.out;
	r.out.sa.seq_limit = 5000;
	p.floor_be = htobe64(4000);
	probe_arrives(&p, sizeof p);
	assert_int_equal(r.n_sent, 1);
	memcpy(&back, r.sent[0].bytes, sizeof back);
	assert_int_equal(back.type, PROBE_REPLY);
	assert_int_equal(back.nonce, 77);
	assert_int_equal(be64toh(back.floor_be), seq); /* what our receiver has seen */
	assert_int_equal(r.out.sa.seq, 4000);
	p.floor_be = htobe64(99999);
	p.type = PROBE_REPLY;
	probe_arrives(&p, sizeof p);
	assert_int_equal(r.out.sa.seq, 5000); /* as far as numbers are reserved */
	assert_int_equal(r.n_sent, 1);        /* a reply is never answered */
	assert_int_equal(r.l.live.roundtrip_ns, 0);
	r.l.paths[0].live.nonce = 77;
	probe_arrives(&p, sizeof p);
	assert_int_equal(r.l.live.roundtrip_ns, r.w.now);
	assert_int_equal(r.l.live.peer_speaks, 1);
	assert_int_equal(r.ctr.in_probes, 4);
	only_drop(DROP_DUMMY, 0);
	probe_arrives(&p, sizeof p - 1); /* a dummy of somebody else's: short, or other bytes */
	p.magic[0]++;
	probe_arrives(&p, sizeof p);
	only_drop(DROP_DUMMY, 2);
	assert_int_equal(delivered, 0);
	assert_int_equal(r.n_sent, 1);
}

/* A probe in UDP from there. */
static void probe_from(const char *src, uint16_t port, uint8_t type, uint8_t flags)
{
	struct probe p = {.magic = PROBE_MAGIC, .type = type, .flags = flags, .nonce = 5};
	uint8_t esp[ROOM];
	struct wr_msg m = message_from(src, esp, seal_body((const uint8_t *)&p, sizeof p, NEXT_NONE, esp));

	m.port = port;
	wr_message(&r, &m);
}

static unsigned int last_way(void)
{
	assert_true(r.n_sent > 0);
	return r.sent[(r.n_sent - 1) % ARRAY_SIZE(r.sent)].path;
}

/* One path here, several there: followed is what the peer calls its first choice, answered is everything. */
static void test_peer_with_several_paths(void **state)
{
	struct wpath *back = &r.l.paths[WPATH_BACK];
	struct in6_addr a = wr_addr("198.51.100.8");

	r.l.out = &r.out;
	r.l.paths[0].encap = ENCAP_UDP;
	r.l.paths[0].learn = true;
	probe_from("198.51.100.8", 4500, PROBE_REQUEST, PROBE_F_ASIDE | 1 << PROBE_PATH_SHIFT);
	assert_true(endpoint_is(REMOTE, ESP_PORT));
	assert_int_equal(last_way(), WPATH_BACK);
	assert_memory_equal(&back->remote, &a, sizeof a);
	assert_int_equal(back->port, 4500);
	r.w.now += 200000000;
	probe_from("198.51.100.9", 4500, PROBE_REQUEST, PROBE_F_SHARES);
	assert_true(endpoint_is("198.51.100.9", 4500));
	assert_int_equal(last_way(), 0);
	r.w.now += 200000000;
	from("198.51.100.8", 4500, false); /* a packet of a flow that took the other path */
	assert_true(endpoint_is("198.51.100.9", 4500));
	probe_from("198.51.100.9", 4500, PROBE_REQUEST, 0); /* it has one path again */
	from("198.51.100.8", 4500, false);
	assert_true(endpoint_is("198.51.100.8", 4500));
}

/* Several paths here: only those that wait to learn do so, each from the peer's path of its place. */
static void test_several_paths_learn(void **state)
{
	r.l.out = &r.out;
	r.l.n_paths = 3;
	for (unsigned int i = 0; i < 3; i++)
		r.l.paths[i] = (struct wpath){.encap = ENCAP_UDP, .port = ESP_PORT, .learn = i > 0};
	r.l.paths[0].remote = wr_addr(REMOTE);
	from("198.51.100.8", 4500, false); /* says nothing of paths */
	probe_from("198.51.100.8", 4500, PROBE_REQUEST, 7 << PROBE_PATH_SHIFT);
	probe_from("198.51.100.8", 4500, PROBE_REQUEST, 0);
	assert_int_equal(r.l.live.moved, 0);
	assert_int_equal(last_way(), WPATH_BACK);
	probe_from("198.51.100.9", 4501, PROBE_REQUEST, 2 << PROBE_PATH_SHIFT);
	assert_int_equal(r.l.live.moved, 1);
	assert_int_equal(r.l.paths[2].port, 4501);
	assert_int_equal(last_way(), 2);
	probe_from("198.51.100.8", 4500, PROBE_REPLY, 1 << PROBE_PATH_SHIFT); /* each has a pause of its own */
	assert_int_equal(r.l.live.moved, 2);
	assert_true(endpoint_is(REMOTE, ESP_PORT));
}

/* Two ways to one remote: the answer takes the one by whose address of ours the question came. */
static void test_answers_go_back_the_same_way(void **state)
{
	r.l.out = &r.out;
	r.l.n_paths = 3;
	r.l.paths[0] = r.l.paths[1] = r.l.paths[2] =
		(struct wpath){.remote = wr_addr("198.51.100.8"), .encap = ENCAP_UDP, .port = 4500, .src = wr_addr("192.0.2.77")};
	r.l.paths[2].src = wr_addr(LOCAL);
	r.l.cur_path = 1;
	probe_from("198.51.100.8", 4500, PROBE_REQUEST, 0);
	assert_int_equal(last_way(), 2);
	r.l.paths[2].src = wr_addr("192.0.2.78");
	probe_from("198.51.100.8", 4500, PROBE_REQUEST, 0);
	assert_int_equal(last_way(), 1);
	r.l.paths[0].live.nonce = 4;
	r.l.paths[2].live.nonce = 5;
	probe_from("198.51.100.8", 4500, PROBE_REPLY, 0); /* to the question that was asked on the third */
	assert_int_equal(r.l.paths[0].live.roundtrip_ns, 0);
	assert_int_equal(r.l.paths[2].live.roundtrip_ns, r.w.now);
	assert_int_equal(r.l.live.roundtrip_ns, r.w.now);
	assert_int_equal(r.l.paths[2].live.nonce, 0);
}

/* An echo reply to the link's own question, which bears when it was asked. */
static uint32_t echo_reply(bool v4, uint16_t id, uint16_t n, uint8_t *ip)
{
	uint32_t hdr = v4 ? 20 : 40, asked = (uint32_t)r.w.now - 1000;

	memset(ip, 0, hdr + 16);
	if (v4) {
		ip[0] = 0x45;
		pg16(ip + 2, hdr + 16);
		ip[9] = IPPROTO_ICMP;
	} else {
		ip[0] = 0x60;
		pg16(ip + 4, 16);
		ip[6] = IPPROTO_ICMPV6;
	}
	ip[hdr] = v4 ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY;
	pg16(ip + hdr + 4, id);
	pg16(ip + hdr + 6, n);
	memcpy(ip + hdr + 12, &asked, 4);
	return hdr + 16;
}

static void test_ping_replies(void **state)
{
	uint16_t id = 0xe500 ^ WR_LINK;
	uint8_t ip[ROOM], esp[ROOM];

	r.l.mode = LIVE_PING;
	r.l.paths[0].live.ping_seq = 9;
	for (int v4 = 0; v4 < 2; v4++) {
		uint8_t next = v4 ? NEXT_IP4 : NEXT_IP6;

		r.l.live.roundtrip_ns = 0;
		r.l.paths[0].live.ping_sent_ns = r.w.now - 10; /* asked again since */
		arrive(esp, seal_body(ip, echo_reply(v4, id, 8, ip), next, esp)); /* an old one: ours, but no news */
		assert_int_equal(r.l.live.roundtrip_ns, 0);
		arrive(esp, seal_body(ip, echo_reply(v4, id, 9, ip), next, esp));
		assert_int_equal(r.l.live.roundtrip_ns, r.w.now);
		assert_int_equal(r.l.live.rtt_ns, 1000);
		assert_int_equal(r.l.paths[0].live.ping_sent_ns, 0); /* nothing waits for an answer now */
		assert_int_equal(r.ctr.in_probes, 2 + 2 * v4);
		arrive(esp, seal_body(ip, echo_reply(v4, id + 1, 9, ip), next, esp)); /* somebody else's ping */
		assert_int_equal(delivered, 1 + v4);
	}
}

/* --- transport mode ------------------------------------------------------------------------------- */

static void test_transport(void **state)
{
	static uint8_t train[8 * ROOM];
	uint8_t esp[ROOM], plain[64] = {1, 2, 3};
	uint32_t n = 0, seg = 0;
	struct wr_msg m;

	end(NULL);
	begin_with(SA_TRANSPORT, REMOTE, ENCAP_ESP);
	arrive(esp, seal_body(plain, 40, 6, esp));
	assert_int_equal(delivered, 1);
	assert_int_equal(last[TAP_L2_LEN + IP4_PROTO], 6);
	r.l.paths[0].remote = wr_addr("198.51.100.200"); /* ESP does not protect the header: not the peer's */
	arrive(esp, seal_body(plain, 40, 6, esp));
	only_drop(DROP_INNER_SRC, 1);
	end(NULL);
	/* headers that have no room in a train of IPv6 envelopes: they move, and make room when there is none */
	begin_with(SA_TRANSPORT, "2001:db8::7", ENCAP_UDP);
	for (int i = 0; i < 6; i++)
		n += seg = seal_body(plain, 40, 50, train + n);
	m = message_from("2001:db8::7", train, n);
	m.dst = wr_addr("2001:db8::1");
	m.port = ESP_PORT;
	m.seg = (uint16_t)seg;
	r.w.spare_used = SPARE_LEN - 100;
	assert_int_equal(wr_message(&r, &m), 6);
	assert_int_equal(delivered, 6);
	assert_int_equal(r.w.spare_used, 0);
	assert_int_equal(last[TAP_L2_LEN + IP6_NEXT], 50);
}

/* --- tables ------------------------------------------------------------------------------------ */

static void test_many_spis(void **state)
{
	static struct wsa_in sas[500];

	for (uint32_t i = 0; i < 500; i++) {
		sas[i].sa.spi_be = htonl(0x1000 + i * 7);
		sas[i].link = WR_LINK + 1; /* a link that is not there */
		assert_int_equal(worker_sa_in_set(&r.w, &sas[i]), 0);
		assert_true(2 * r.w.n_spis <= r.w.spi_mask + 1);
	}
	for (uint32_t i = 0; i < 500; i++)
		assert_ptr_equal(worker_spi(&r.w, sas[i].sa.spi_be), &sas[i]);
	assert_null(worker_spi(&r.w, htonl(0x1001)));
	for (uint32_t i = 0; i < 500; i += 2)
		worker_sa_in_clear(&r.w, &sas[i]);
	for (uint32_t i = 0; i < 500; i++)
		assert_ptr_equal(worker_spi(&r.w, sas[i].sa.spi_be), i % 2 ? &sas[i] : NULL);
	/* a successor under the same SPI takes the place, and the old one's end does not touch it */
	sas[0].sa.spi_be = sas[1].sa.spi_be;
	assert_int_equal(worker_sa_in_set(&r.w, &sas[0]), 0);
	worker_sa_in_clear(&r.w, &sas[1]);
	assert_ptr_equal(worker_spi(&r.w, sas[0].sa.spi_be), &sas[0]);
}

static void test_links(void **state)
{
	struct wlink a = {.id = 2}, b = {.id = 2}, far = {.id = WR_LINKS};

	worker_link_set(&r.w, &a);
	assert_ptr_equal(worker_link(&r.w, 2), &a);
	worker_link_set(&r.w, &b);
	assert_ptr_equal(worker_link(&r.w, 2), &b);
	assert_int_equal(r.w.n_active, 2);
	worker_link_set(&r.w, &far);
	assert_null(worker_link(&r.w, WR_LINKS));
	worker_link_clear(&r.w, 2);
	worker_link_clear(&r.w, 2);
	assert_null(worker_link(&r.w, 2));
	assert_int_equal(r.w.n_active, 1);
}

/* --- the loop, over real sockets ------------------------------------------------------------------ */

static int udp_socket(uint16_t *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), on = 1;
	socklen_t len = sizeof a;

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
	setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &on, sizeof on);
	setsockopt(fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof on);
	*port = a.sin_port;
	return fd;
}

static int change(struct worker *w, void *arg)
{
	assert_true(pthread_equal(pthread_self(), w->thread));
	return ++*(int *)arg;
}

static void test_loop(void **state)
{
	struct epoll_event call = {.events = EPOLLIN, .data.u32 = EV_CALL}, in = {.events = EPOLLIN, .data.u32 = EV_UDP4};
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct worker *w = &r.w;
	uint8_t esp[ROOM], got[ROOM];
	int tap[2], from_fd, n = 42;
	struct pollfd p;
	uint16_t port;
	uint32_t len;

	r.l.paths[0].encap = ENCAP_UDP;
	r.l.mode = LIVE_OFF;
	w->epfd = epoll_create1(0);
	w->evfd = eventfd(0, EFD_NONBLOCK);
	pthread_mutex_init(&w->call_lock, NULL);
	pthread_cond_init(&w->call_done, NULL);
	w->emit.socks = &w->socks;
	w->socks = (struct socks){-1, -1, -1, -1, 0};
	w->socks.udp4 = udp_socket(&to.sin_port);
	from_fd = udp_socket(&port);
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, tap), 0);
	w->tap.fd = tap[0];
	assert_int_equal(epoll_ctl(w->epfd, EPOLL_CTL_ADD, w->evfd, &call), 0);
	assert_int_equal(epoll_ctl(w->epfd, EPOLL_CTL_ADD, w->socks.udp4, &in), 0);
	wr = NULL; /* the real tap_writev() and recvmmsg() from here on */
	len = good(esp);
	worker_stay(w);
	assert_int_equal(worker_start(w), 0);
	assert_int_equal(worker_call(w, change, &n), 43);
	assert_int_equal(sendto(from_fd, esp, len, 0, (struct sockaddr *)&to, sizeof to), len);
	p = (struct pollfd){.fd = tap[1], .events = POLLIN};
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(read(tap[1], got, sizeof got), TAP_VNET_LEN + TAP_L2_LEN + 92);
	assert_int_equal(worker_call(w, change, &n), 44);
	assert_int_equal(r.ctr.in_pkts, 1);
	assert_true(r.w.stats.recvmmsgs >= 1 && r.w.stats.loops >= 1);
	atomic_store(&w->stop, true);
	eventfd_write(w->evfd, 1);
	pthread_join(w->thread, NULL);
	close(tap[0]);
	close(tap[1]);
	close(from_fd);
	close(w->socks.udp4);
	close(w->epfd);
	close(w->evfd);
	wr = &r;
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_both_entries), CASE(test_bad_envelopes), CASE(test_bad_insides), CASE(test_source_and_admin),
		CASE(test_ecn),          CASE(test_nobodys),       CASE(test_encap_mismatch), CASE(test_tap_full),
		CASE(test_train),        CASE(test_two_sas),       CASE(test_life),           CASE(test_stray_stamps),
		CASE(test_learn),        CASE(test_probes), CASE(test_peer_with_several_paths), CASE(test_several_paths_learn),
		CASE(test_answers_go_back_the_same_way),        CASE(test_ping_replies),   CASE(test_transport),
		CASE(test_many_spis),    CASE(test_links),         CASE(test_loop),              CASE(test_resync),
	};

	if (aead_backend_select("auto"))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
