/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ESP packets: published ones, all lengths between fences, every way to be refused, counters that
 * stop, backends against each other.
 * Environment: SEED, ESP_DIFF_N (packets of the differential test).
 */
#include <arpa/inet.h>
#include "crypto_rig.h"
#include "esp.h"
#include "esp_model.h"
#include "../vectors/esp_vectors.h"

enum { WINDOW = 128, LEN_MAX = 9000, FRAME = LEN_MAX + ESP_HEADROOM_MAX + ESP_TAILROOM_MAX, CANARY = 32 };

static struct pair {
	struct sa_conf conf;
	struct sa_out out;
	struct sa_in in;
	uint64_t top, words[WINDOW / 64 * 2], lost;
} pair;

static void pair_open(enum aead_alg alg, bool esn)
{
	struct sa_conf *c = &pair.conf;

	memset(&pair, 0, sizeof pair);
	*c = (struct sa_conf){
		.dir = SA_OUT, .spi = 0x10203040, .alg = alg, .esn = esn, .window = WINDOW};
	rig_fill(c->key, sizeof c->key);
	rig_fill(c->salt, sizeof c->salt);
	c->iv_start = rig_rand() >> 1;
	assert_int_equal(sa_out_init(&pair.out, c), 0);
	c->dir = SA_IN;
	assert_int_equal(sa_in_init(&pair.in, c, &pair.top, pair.words), 0);
}

static void pair_close(void)
{
	sa_out_fini(&pair.out);
	sa_in_fini(&pair.in);
}

/* An IPv4 or IPv6 header that claims len bytes, noise behind. */
static void make_inner(uint8_t *ip, uint32_t len, uint8_t next)
{
	rig_fill(ip, len);
	if (next == NEXT_IP4) {
		ip[0] = 0x45;
		ip[2] = (uint8_t)(len >> 8);
		ip[3] = (uint8_t)len;
	} else if (next == NEXT_IP6) {
		ip[0] = 0x60;
		ip[4] = (uint8_t)((len - 40) >> 8);
		ip[5] = (uint8_t)(len - 40);
	}
}

static struct esp_pkt seal(uint8_t *data, uint32_t len, uint8_t next)
{
	struct esp_pkt p = {.data = data, .len = len, .next = next};

	esp_seal(&pair.out, &p, 1);
	assert_int_equal(p.drop, DROP_NONE);
	return p;
}

static enum drop open_at(uint8_t *data, uint32_t len, struct esp_pkt *p)
{
	*p = (struct esp_pkt){.data = data, .len = len};
	esp_open(&pair.in, p, 1, &pair.lost);
	return p->drop;
}

/* A body of any bytes, valid or not, that the peer has authenticated under its next number. */
static uint32_t seal_raw(uint8_t *at, const uint8_t *body, uint32_t len)
{
	uint8_t iv[AEAD_IV_MAX];
	uint32_t n;

	rig_fill(iv, sizeof iv);
	n = model_seal(pair.out.aead, &pair.conf, ++pair.out.seq, iv, body, len, at);
	assert_true(n > 0);
	return n;
}

static enum drop open_raw(const uint8_t *body, uint32_t len, struct esp_pkt *p, uint8_t *frame)
{
	return open_at(frame, seal_raw(frame, body, len), p);
}

/* --- published packets ------------------------------------------------------------------------ */

static void vector_sa(const struct esp_vector *v, uint8_t *nonce)
{
	uint8_t key[AEAD_KEY_MAX];

	rig_hex(v->key, key, sizeof key);
	rig_hex(v->nonce, nonce, AEAD_NONCE_LEN);
	memset(&pair, 0, sizeof pair);
	pair.out = (struct sa_out){.aead = aead_new(v->alg, key),
				   .seq = v->seq - 1,
				   .seq_limit = UINT64_MAX,
				   .iv_limit = UINT64_MAX,
				   .spi_be = htonl(v->spi),
				   .layout = sa_layout(v->alg),
				   .kind = aead_by_alg(v->alg)->kind,
				   .esn = v->esn};
	memcpy(pair.out.salt, nonce, 4);
	for (int i = 0; i < 8; i++)
		pair.out.iv = pair.out.iv << 8 | nonce[4 + i];
	pair.out.iv--;
	pair.in = (struct sa_in){.aead = aead_new(v->alg, key),
				 .spi_be = htonl(v->spi),
				 .layout = pair.out.layout,
				 .kind = pair.out.kind};
	memcpy(pair.in.salt, nonce, 4);
	pair.top = v->seq - 1;
	assert_int_equal(replay_init(&pair.in.replay, &pair.top, pair.words, WINDOW, v->esn), 0);
}

/* SPI, low half of the sequence number, IV, ciphertext, ICV. */
static uint32_t vector_packet(const struct esp_vector *v, const uint8_t *nonce, uint8_t *out)
{
	uint32_t be[2] = {htonl(v->spi), htonl((uint32_t)v->seq)};

	memcpy(out, be, 8);
	memcpy(out + 8, nonce + 4, 8);
	return 16 + (uint32_t)rig_hex(v->sealed, out + 16, 256);
}

static void vector_seal(const struct esp_vector *v, const uint8_t *plain, uint32_t len,
			const uint8_t *want, uint32_t want_len)
{
	uint32_t inner = len - 2 - plain[len - 2];
	uint8_t frame[512];
	struct esp_pkt p;

	memcpy(frame + 16, plain, inner);
	p = seal(frame + 16, inner, plain[len - 1]);
	if (p.len != want_len || memcmp(p.data, want, want_len))
		fail_msg("%s: seal with %s", v->source, aead_backend_name());
	assert_true(p.seq == v->seq && p.data == frame);
}

static void vector_open(const struct esp_vector *v, const uint8_t *plain, uint32_t len,
			uint8_t *packet, uint32_t packet_len)
{
	/* the draft's packets say next header 1: authentic, decrypted, and not for us */
	enum drop want = plain[len - 1] == NEXT_IP4 ? DROP_NONE : DROP_BAD_NEXT_HEADER;
	struct esp_pkt p;

	assert_int_equal(open_at(packet, packet_len, &p), want);
	if (memcmp(packet + 16, plain, len))
		fail_msg("%s: open with %s", v->source, aead_backend_name());
	assert_true(p.seq == v->seq && pair.top == v->seq);
	if (want == DROP_NONE)
		assert_int_equal(p.len, len - 2 - plain[len - 2]);
}

static void test_vectors(void **state)
{
	for (size_t b = 0; b < RIG_N; b++) {
		if (!rig_backend(b))
			continue;
		for (size_t i = 0; i < ARRAY_SIZE(esp_vectors); i++) {
			const struct esp_vector *v = &esp_vectors[i];
			uint8_t plain[256], packet[512], nonce[AEAD_NONCE_LEN];
			uint32_t len = (uint32_t)rig_hex(v->plain, plain, sizeof plain), n;

			vector_sa(v, nonce);
			n = vector_packet(v, nonce, packet);
			if (pair.out.iv != UINT64_MAX) /* the IV of cases 4 and 15 is 0: we start at 1 */
				vector_seal(v, plain, len, packet, n);
			vector_open(v, plain, len, packet, n);
			pair_close();
		}
	}
}

/* --- lengths ---------------------------------------------------------------------------------- */

static uint8_t next_for(uint32_t len)
{
	if (len >= 40 && rig_below(2))
		return NEXT_IP6;
	return len >= 20 ? NEXT_IP4 : NEXT_NONE;
}

static void check_canary(const uint8_t *from, const uint8_t *to)
{
	uint8_t wrong = 0;

	for (; from < to; from++)
		wrong |= *from ^ 0xc5;
	assert_int_equal(wrong, 0);
}

/* seal stays inside the envelope it makes, open inside [data, data + len): fenced both ways. */
static void one_length(const struct fence *f, uint32_t len)
{
	static uint8_t buf[CANARY + FRAME + CANARY], inner[LEN_MAX];
	uint32_t want = esp_envelope_len(pair.out.layout, len), head = esp_headroom(pair.out.layout);
	uint8_t next = next_for(len), *data = buf + CANARY + head, *at;
	struct esp_pkt p, q;

	make_inner(inner, len, next);
	memset(buf, 0xc5, sizeof buf);
	memcpy(data, inner, len);
	p = seal(data, len, next);
	assert_ptr_equal(p.data, buf + CANARY);
	assert_int_equal(p.len, want);
	assert_true(head <= ESP_HEADROOM_MAX && want <= head + len + ESP_TAILROOM_MAX);
	check_canary(buf, p.data);
	check_canary(p.data + p.len, buf + sizeof buf);

	at = len % 2 ? fence_start(f) : fence_end(f, want);
	memset(fence_start(f), 0xc5, f->room);
	memcpy(at, p.data, want);
	assert_int_equal(open_at(at, want, &q), DROP_NONE);
	assert_true(q.seq == p.seq && q.next == next && q.len == len &&
		    q.data == at + head);
	assert_memory_equal(q.data, inner, len);
	check_canary(fence_start(f), at);
	check_canary(at + want, f->map + 4096 + f->room);
}

/* A batch of packets, every other one lying elsewhere: the same bytes come out as of one that lies in place. */
static void from_elsewhere(enum aead_alg alg, bool esn)
{
	enum { N = 9, ROOM = 1600 };
	static uint8_t at[2][N][ROOM], from[N][ROOM];
	const struct aead_desc *d = aead_by_alg(alg);
	struct esp_pkt p[2][N];
	struct sa_out again;

	pair_open(alg, esn);
	again = pair.out; /* the same numbers once more */
	for (unsigned int i = 0; i < N; i++) {
		uint32_t len = i ? 20 + (uint32_t)(rig_rand() % 1400) : 0;

		rig_fill(from[i], len);
		memcpy(at[0][i] + 24, from[i], len);
		memset(at[1][i], 0xee, ROOM);
		if (i % 2)
			memcpy(at[1][i] + 24, from[i], len);
		for (int k = 0; k < 2; k++)
			p[k][i] = (struct esp_pkt){.data = at[k][i] + 24, .len = len, .next = NEXT_NONE};
		p[1][i].from = i % 2 ? NULL : from[i];
	}
	esp_seal(&pair.out, p[0], N);
	esp_seal(&again, p[1], N);
	for (unsigned int i = 0; i < N; i++) {
		assert_int_equal(p[1][i].drop, DROP_NONE);
		assert_int_equal(p[0][i].len, p[1][i].len);
		assert_ptr_equal(p[1][i].data, at[1][i] + 24 - esp_headroom(pair.out.layout));
		if (d->iv_counter) /* else no two are alike */
			assert_memory_equal(p[0][i].data, p[1][i].data, p[0][i].len);
		assert_int_equal(open_at(p[1][i].data, p[1][i].len, &p[0][i]), DROP_NONE);
	}
	pair_close();
}

static void test_from_elsewhere(void **state)
{
	for (size_t b = 0; b < RIG_N; b++) {
		if (!rig_backend(b))
			continue;
		for (enum aead_alg alg = AEAD_NONE + 1; alg < AEAD_MAX; alg++) {
			from_elsewhere(alg, true);
			from_elsewhere(alg, false);
		}
	}
}

static void test_lengths(void **state)
{
	struct fence f = fence_new(FRAME);

	for (size_t b = 0; b < RIG_N; b++) {
		if (!rig_backend(b))
			continue;
		for (enum aead_alg alg = AEAD_NONE + 1; alg < AEAD_MAX; alg++) {
			pair_open(alg, alg % 2);
			for (uint32_t len = 0; len <= 2000; len++)
				one_length(&f, len);
			for (uint32_t len = 2001; len <= LEN_MAX; len += 89)
				one_length(&f, len);
			one_length(&f, LEN_MAX);
			assert_int_equal(pair.lost, 0);
			pair_close();
		}
	}
	fence_free(&f);
}

/* What esp_inner_max() allows must be what esp_seal() needs, and no byte less. */
static void test_overhead(void **state)
{
	for (enum aead_alg alg = AEAD_NONE + 1; alg < AEAD_MAX; alg++) {
		const struct esp_layout l = sa_layout(alg);

		for (uint32_t room = 0; room < 3000; room++) {
			uint32_t max = esp_inner_max(l, room);

			if (max)
				assert_true(esp_envelope_len(l, max) <= room &&
					    esp_envelope_len(l, max + 1) > room);
			else
				assert_true(esp_envelope_len(l, 1) > room);
		}
	}
}

/* By hand, RFC 4303 2 and each suite's RFC: what is left of 1500 bytes, plain ESP over IPv4. */
static void test_overhead_by_hand(void **state)
{
	static const struct {
		enum aead_alg alg;
		uint32_t inner;
	} rows[] = {
		{AEAD_AES_GCM_128, 1446},    /* 1480 - 8 - 8 - 16 = 1448, of that 2 trailer */
		{AEAD_AES_GMAC_256, 1446},
		{AEAD_CBC_128_SHA256, 1438}, /* 1480 - 8 - 16 - 16 = 1440 = 90 blocks */
		{AEAD_CBC_256_SHA384, 1422}, /* 1432: 89 blocks of it */
		{AEAD_CBC_256_SHA512, 1422}, /* 1424 = 89 blocks */
		{AEAD_CBC_128_SHA1, 1438},   /* 1480 - 8 - 16 - 12 = 1444: 90 blocks of it */
		{AEAD_NULL_SHA256, 1454},    /* 1480 - 8 - 16 = 1456 */
		{AEAD_NULL_SHA384, 1446},
		{AEAD_NULL_SHA512, 1438},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(esp_inner_max(sa_layout(rows[i].alg), 1480), rows[i].inner);
	assert_int_equal(esp_inner_max(ESP_LAYOUT_AEAD, 1480), 1446);
}

/* No room for header, IV, trailer and ICV, or not whole blocks. */
static bool too_short(enum aead_alg alg, uint32_t len)
{
	const struct aead_desc *d = aead_by_alg(alg);
	uint32_t fixed = 8u + d->iv_len + d->icv_len;

	return len < fixed + 2 || (d->kind == AEAD_CBC_HMAC && (len - fixed) % 16);
}

/* Every length 0..200, noise and zeroes, both fences: refused, window unmoved. */
static void test_runts(void **state)
{
	struct fence f = fence_new(4096);

	for (size_t b = 0; b < RIG_N; b += RIG_N - 1) {
		if (!rig_backend(b))
			continue;
		for (enum aead_alg alg = AEAD_NONE + 1; alg < AEAD_MAX; alg++) {
			pair_open(alg, alg % 2);
			for (uint32_t len = 0; len <= 200; len++) {
				for (int way = 0; way < 8; way++) {
					uint8_t *at =
						way & 1 ? fence_start(&f) : fence_end(&f, len);
					struct esp_pkt p;

					memset(fence_start(&f), 0, f.room);
					if (way & 2)
						rig_fill(at, len);
					if (way & 4 && len >= 8)
						memcpy(at, "\x10\x20\x30\x40\0\0\0\x9", 8);
					open_at(at, len, &p);
					if (too_short(alg, len))
						assert_int_equal(p.drop, DROP_SHORT);
					else
						assert_int_equal(p.drop, way & 4 ? DROP_ICV_FAIL
										 : DROP_NO_SA);
				}
			}
			assert_true(pair.top == 0 && !pair.words[0] && pair.lost == 0);
			pair_close();
		}
	}
	fence_free(&f);
}

/* --- refusals --------------------------------------------------------------------------------- */

/* Forged numbers, near and far, ahead and behind: nothing moves, the good packet still passes. */
static void test_bad_icv(void **state)
{
	for (int esn = 0; esn < 2; esn++) {
		uint8_t frame[256], bad[256];
		struct esp_pkt p, q;
		uint64_t words[ARRAY_SIZE(pair.words)];

		rig_backend(0);
		pair_open(AEAD_AES_GCM_128, esn);
		pair.out.seq = 500;
		make_inner(frame + 16, 60, NEXT_IP4);
		p = seal(frame + 16, 60, NEXT_IP4);
		assert_int_equal(replay_accept(&pair.in.replay, 490, NULL), DROP_NONE);
		memcpy(words, pair.words, sizeof words);
		for (uint32_t bit = 0; bit < p.len * 8; bit++) {
			memcpy(bad, frame, p.len);
			bad[bit / 8] ^= (uint8_t)(1 << bit % 8);
			open_at(bad, p.len, &q);
			if (bit < 32)
				assert_int_equal(q.drop, DROP_NO_SA);
			else
				assert_true(q.drop == DROP_ICV_FAIL ||
					    (bit < 64 && q.drop == DROP_REPLAY_OLD));
			assert_true(pair.top == 490 && !memcmp(words, pair.words, sizeof words));
		}
		for (int i = 0; i < 1000; i++) {
			memcpy(bad, frame, p.len);
			rig_fill(bad + 4, 4);
			open_at(bad, p.len, &q);
			assert_int_not_equal(q.drop, DROP_NONE);
			assert_true(pair.top == 490);
		}
		assert_int_equal(pair.lost, 0);
		assert_int_equal(open_at(frame, p.len, &q), DROP_NONE);
		assert_int_equal(pair.top, 501);
		pair_close();
	}
}

/* RFC 4303 3.4.3: a number already seen costs no decryption: bytes untouched, ICV not looked at. */
static void test_check_first(void **state)
{
	uint8_t frame[256], copy[256];
	struct esp_pkt p, q;

	rig_backend(0);
	pair_open(AEAD_AES_GCM_128, true);
	make_inner(frame + 16, 60, NEXT_IP4);
	p = seal(frame + 16, 60, NEXT_IP4);
	memcpy(copy, frame, p.len);
	assert_int_equal(open_at(copy, p.len, &q), DROP_NONE);
	memcpy(copy, frame, p.len);
	copy[40] ^= 1;
	assert_int_equal(open_at(copy, p.len, &q), DROP_REPLAY_DUP);
	copy[40] ^= 1;
	assert_memory_equal(copy, frame, p.len);
	pair_close();
}

/* RFC 4303 2.4: valid tags, invalid padding. The window moves, the packet dies. */
static void every_pad_length(enum aead_alg alg)
{
	uint32_t step = sa_layout(alg).align == 16 ? 16 : 1;
	uint8_t body[512], frame[600];
	struct esp_pkt p;

	pair_open(alg, true);
	for (uint32_t pad = 0; pad <= 255; pad++) {
		for (uint32_t len = MAX(step, 2u); len <= 272; len += len < 8 ? 1 : MAX(step, 36u) & -step) {
			bool fits = pad + 2 <= len;

			for (uint32_t i = 0; i < len; i++)
				body[i] = fits ? (uint8_t)(i - (len - 2 - pad) + 1) : 0;
			body[len - 2] = (uint8_t)pad;
			body[len - 1] = NEXT_NONE;
			assert_int_equal(open_raw(body, len, &p, frame),
					 fits ? DROP_NONE : DROP_BAD_PAD);
			if (fits)
				assert_int_equal(p.len, len - 2 - pad);
			assert_true(pair.top == pair.out.seq);
		}
	}
	pair_close();
}

static void test_padding(void **state)
{
	uint8_t body[512], frame[600];
	struct esp_pkt p;

	rig_backend(0);
	for (enum aead_alg alg = AEAD_NONE + 1; alg < AEAD_MAX; alg++)
		every_pad_length(alg);
	pair_open(AEAD_AES_GCM_128, true);
	for (uint32_t wrong = 0; wrong < 255; wrong++) {
		for (uint32_t i = 0; i < 255; i++)
			body[i] = (uint8_t)(i + 1);
		body[wrong] ^= 0x10;
		body[255] = 255;
		body[256] = NEXT_NONE;
		assert_int_equal(open_raw(body, 257, &p, frame), DROP_BAD_PAD);
	}
	pair_close();
}

/*
 * RFC 4303 2.4, 3602 2.4: we pad with 1, 2, 3, ... as little as the suite allows. GMAC shows it in
 * the clear; the rest is known by opening.
 */
static void test_our_padding(void **state)
{
	uint8_t frame[256];
	struct esp_pkt p;

	rig_backend(0);
	pair_open(AEAD_AES_GMAC_128, false);
	for (uint32_t len = 20; len < 60; len++) {
		uint32_t pad = -(len + 2) & 3;

		make_inner(frame + 16, len, NEXT_IP4);
		p = seal(frame + 16, len, NEXT_IP4);
		for (uint32_t i = 0; i < pad; i++)
			assert_int_equal(p.data[16 + len + i], i + 1);
		assert_int_equal(p.data[16 + len + pad], pad);
		assert_int_equal(p.data[16 + len + pad + 1], NEXT_IP4);
		assert_int_equal(p.len, 16 + len + pad + 2 + 16);
	}
	pair_close();
}

/* The tail after the inner packet's own length is cut off, whatever it holds: RFC 4303 2.7. */
static void test_tfc(void **state)
{
	uint8_t body[512], frame[600];
	struct esp_pkt p;

	rig_backend(0);
	pair_open(AEAD_CHACHA20_POLY1305, false);
	for (uint32_t tfc = 0; tfc <= 400; tfc++) {
		for (int v6 = 0; v6 < 2; v6++) {
			uint8_t next = v6 ? NEXT_IP6 : NEXT_IP4;

			make_inner(body, 60, next);
			rig_fill(body + 60, tfc);
			body[60 + tfc] = 0;
			body[61 + tfc] = next;
			assert_int_equal(open_raw(body, 62 + tfc, &p, frame), DROP_NONE);
			assert_true(p.len == 60 && p.next == next && p.data == frame + 16);
			assert_memory_equal(p.data, body, 60);
		}
	}
	pair_close();
}

static void test_next_header(void **state)
{
	uint8_t body[64], frame[128];
	struct esp_pkt p;

	rig_backend(0);
	pair_open(AEAD_AES_GCM_256, true);
	make_inner(body, 60, NEXT_IP4);
	for (uint32_t next = 0; next < 256; next++) {
		enum drop want = DROP_BAD_NEXT_HEADER;

		if (next == NEXT_IP4 || next == NEXT_NONE)
			want = DROP_NONE;
		else if (next == NEXT_IP6)
			want = DROP_INNER_VERSION;
		body[60] = 0;
		body[61] = (uint8_t)next;
		assert_int_equal(open_raw(body, 62, &p, frame), want);
		assert_int_equal(p.next, next);
		assert_true(pair.top == pair.out.seq);
	}
	pair_close();
}

static void test_inner_version(void **state)
{
	static const struct {
		uint8_t next, first;
		uint32_t room, claims; /* bytes there; total length (v4) or payload length (v6) */
		enum drop want;
	} rows[] = {
		{NEXT_IP4, 0x45, 20, 20, DROP_NONE},
		{NEXT_IP4, 0x45, 60, 20, DROP_NONE},
		{NEXT_IP4, 0x45, 19, 19, DROP_INNER_VERSION},
		{NEXT_IP4, 0x45, 0, 0, DROP_INNER_VERSION},
		{NEXT_IP4, 0x45, 60, 61, DROP_INNER_VERSION},
		{NEXT_IP4, 0x45, 60, 19, DROP_INNER_VERSION},
		{NEXT_IP4, 0x45, 60, 0xffff, DROP_INNER_VERSION},
		{NEXT_IP4, 0x44, 60, 60, DROP_INNER_VERSION},
		{NEXT_IP4, 0x40, 60, 60, DROP_INNER_VERSION},
		{NEXT_IP4, 0x4f, 60, 60, DROP_NONE},
		{NEXT_IP4, 0x4f, 60, 59, DROP_INNER_VERSION},
		{NEXT_IP4, 0x65, 60, 60, DROP_INNER_VERSION},
		{NEXT_IP4, 0x05, 60, 60, DROP_INNER_VERSION},
		{NEXT_IP6, 0x60, 40, 0, DROP_NONE},
		{NEXT_IP6, 0x60, 60, 20, DROP_NONE},
		{NEXT_IP6, 0x6f, 60, 0, DROP_NONE},
		{NEXT_IP6, 0x60, 60, 21, DROP_INNER_VERSION},
		{NEXT_IP6, 0x60, 39, 0, DROP_INNER_VERSION},
		{NEXT_IP6, 0x60, 60, 0xffff, DROP_INNER_VERSION},
		{NEXT_IP6, 0x45, 60, 20, DROP_INNER_VERSION},
		{NEXT_IP6, 0x70, 60, 20, DROP_INNER_VERSION},
	};
	uint8_t body[128], frame[256];
	struct esp_pkt p;

	rig_backend(0);
	pair_open(AEAD_AES_GCM_128, true);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint32_t off = rows[i].next == NEXT_IP4 ? 2 : 4;

		rig_fill(body, sizeof body);
		body[0] = rows[i].first;
		body[off] = (uint8_t)(rows[i].claims >> 8);
		body[off + 1] = (uint8_t)rows[i].claims;
		body[rows[i].room] = 0;
		body[rows[i].room + 1] = rows[i].next;
		if (open_raw(body, rows[i].room + 2, &p, frame) != rows[i].want)
			fail_msg("row %zu: drop %u", i, p.drop);
		if (rows[i].want == DROP_NONE)
			assert_int_equal(p.len,
					 rows[i].claims + (rows[i].next == NEXT_IP6 ? 40 : 0));
	}
	pair_close();
}

/* --- counters --------------------------------------------------------------------------------- */

static void seal_some(struct esp_pkt *p, uint8_t (*frame)[128], unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		make_inner(frame[i] + 16, 40, NEXT_IP4);
		p[i] = (struct esp_pkt){.data = frame[i] + 16, .len = 40, .next = NEXT_IP4};
	}
	esp_seal(&pair.out, p, n);
}

/* RFC 4303 3.3.3: at the limit sending stops for good; nothing wraps, nothing is written. */
static void stop_at(uint64_t *count, uint64_t *limit, uint64_t end)
{
	uint8_t frame[8][128], before[40];
	struct esp_pkt p[8];

	*limit = end;
	*count = end - 5;
	seal_some(p, frame, 8);
	for (unsigned int i = 0; i < 8; i++)
		assert_int_equal(p[i].drop, i < 5 ? DROP_NONE : DROP_SEQ_EXHAUSTED);
	assert_true(*count == end);
	for (int again = 0; again < 3; again++) {
		make_inner(frame[0] + 16, 40, NEXT_IP4);
		memcpy(before, frame[0] + 16, 40);
		p[0] = (struct esp_pkt){.data = frame[0] + 16, .len = 40, .next = NEXT_IP4};
		esp_seal(&pair.out, p, 1);
		assert_int_equal(p[0].drop, DROP_SEQ_EXHAUSTED);
		assert_true(*count == end && !memcmp(before, frame[0] + 16, 40));
	}
	*limit = UINT64_MAX;
}

static void test_limits(void **state)
{
	rig_backend(0);
	pair_open(AEAD_AES_GCM_128, true);
	stop_at(&pair.out.seq, &pair.out.seq_limit, 1000);
	stop_at(&pair.out.iv, &pair.out.iv_limit, UINT64_C(1) << 50);
	stop_at(&pair.out.seq, &pair.out.seq_limit, UINT64_MAX);
	pair_close();
	pair_open(AEAD_AES_GCM_128, false);
	stop_at(&pair.out.seq, &pair.out.seq_limit, pair.out.seq_limit);
	assert_true(pair.out.seq == UINT32_MAX);
	pair_close();
}

/* Two wraps of the low half under ESN, no packet lost; IVs never repeat. */
static void test_esn_wrap(void **state)
{
	uint8_t frame[8][128];
	uint64_t iv;
	struct esp_pkt p[8], q;

	rig_backend(0);
	pair_open(AEAD_AES_GCM_128, true);
	for (uint64_t hi = 1; hi <= 2; hi++) {
		pair.out.seq = pair.top = (hi << 32) - 100;
		for (int r = 0; r < 40; r++) {
			iv = pair.out.iv;
			seal_some(p, frame, 8);
			for (unsigned int i = 0; i < 8; i++) {
				uint64_t be;

				memcpy(&be, p[i].data + 8, 8);
				assert_true(be64toh(be) == ++iv);
				assert_int_equal(open_at(p[i].data, p[i].len, &q), DROP_NONE);
				assert_true(q.seq == p[i].seq);
			}
		}
		assert_true(pair.top == (hi << 32) + 220);
	}
	pair_close();
}

/* RFC 4303 A3, for every suite: a sender k * 2^32 ahead is found, at its number, and nothing else moves. */
static void test_resync(void **state)
{
	uint8_t frame[256], copy[256], body[64];
	struct esp_pkt p;

	for (int n = 0; n < 4000; n++) {
		enum aead_alg alg = (enum aead_alg)(AEAD_NONE + 1 + n % (AEAD_MAX - 1));
		uint64_t k = 1 + rig_below(6), skip = rig_below(3), top, seq, was;
		bool reach;
		uint32_t len;

		rig_backend(n & 1 ? 0 : RIG_N - 1);
		pair_open(alg, true);
		top = 1 + (rig_rand() >> (4 + rig_below(50)));
		replay_raise(&pair.in.replay, top);
		/* just above the window, in the same place of a later subspace */
		seq = top + (k << 32) + 1 + rig_below(1000);
		pair.out.seq = seq - 1;
		make_inner(body, 40, NEXT_IP4);
		memcpy(body + 40, "\1\2\2\4", 4);
		if (sa_layout(alg).align == 16)
			memcpy(body + 40, "\1\2\3\4\5\6\6\4", 8);
		len = seal_raw(frame, body, sa_layout(alg).align == 16 ? 48 : 44);
		memcpy(copy, frame, len);
		assert_int_equal(open_at(frame, len, &p), DROP_ICV_FAIL);
		was = pair.top;
		reach = k > skip && k <= skip + 4;
		assert_int_equal(esp_resync(&pair.in, &p, copy, len, skip, 4),
				 reach ? DROP_NONE : DROP_ICV_FAIL);
		if (reach) {
			assert_true(p.seq == seq && pair.top == seq);
			assert_int_equal(p.len, 40);
			assert_memory_equal(p.data, body, 40);
			memcpy(frame, copy, len); /* and not a second time */
			assert_int_equal(open_at(frame, len, &p), DROP_REPLAY_DUP);
		} else {
			assert_true(pair.top == was);
		}
		pair_close();
	}
}

/* Garbage opens under no high half; an old packet of ours is no newer one's; without ESN there is none. */
static void test_resync_refuses(void **state)
{
	uint8_t frame[1][128], copy[128], old[128];
	struct esp_pkt p[1], q;
	uint32_t len;

	rig_backend(0);
	pair_open(AEAD_AES_GCM_128, true);
	pair.out.seq = pair.top = 5;
	seal_some(p, frame, 1);
	len = p[0].len;
	memcpy(old, p[0].data, len);
	replay_raise(&pair.in.replay, UINT64_C(7) << 32);
	memcpy(copy, old, len);
	assert_int_equal(open_at(copy, len, &q), DROP_ICV_FAIL);
	assert_int_equal(esp_resync(&pair.in, &q, old, len, 0, 64), DROP_ICV_FAIL);
	assert_true(pair.top == UINT64_C(7) << 32);
	/* the last subspace has none behind it */
	replay_raise(&pair.in.replay, UINT64_MAX - 1000);
	memcpy(copy, old, len);
	copy[4] = copy[5] = copy[6] = 0xff;
	memcpy(old, copy, len);
	assert_int_equal(open_at(copy, len, &q), DROP_ICV_FAIL);
	assert_int_equal(esp_resync(&pair.in, &q, old, len, 0, 64), DROP_ICV_FAIL);
	pair_close();

	pair_open(AEAD_AES_GCM_128, false);
	seal_some(p, frame, 1);
	p[0].data[20] ^= 1;
	memcpy(copy, p[0].data, len);
	assert_int_equal(open_at(p[0].data, len, &q), DROP_ICV_FAIL);
	assert_int_equal(esp_resync(&pair.in, &q, copy, len, 0, 4), DROP_ICV_FAIL);
	pair_close();
}

/* I2 for the CBC suites: every packet an IV of its own, over batches, drops and a restart. */
static void test_cbc_ivs(void **state)
{
	enum { N = 4096 };
	static uint8_t ivs[N][16], frame[8][128];
	struct esp_pkt p[8];
	unsigned int n = 0;

	rig_backend(0);
	pair_open(AEAD_CBC_128_SHA256, true);
	while (n < N) {
		for (unsigned int i = 0; i < 8; i++) {
			make_inner(frame[i] + 24, 40, NEXT_IP4);
			p[i] = (struct esp_pkt){.data = frame[i] + 24, .len = 40, .next = NEXT_IP4};
			p[i].drop = rig_below(4) ? DROP_NONE : DROP_TTL;
		}
		esp_seal(&pair.out, p, 8);
		for (unsigned int i = 0; i < 8 && n < N; i++)
			if (!p[i].drop)
				memcpy(ivs[n++], p[i].data + 8, 16);
		if (n % 1000 < 8) { /* the daemon starts again where the ledger says */
			pair.conf.dir = SA_OUT;
			pair.conf.seq_start = pair.out.seq + 1;
			pair.conf.iv_start = pair.out.iv + 1;
			sa_out_fini(&pair.out);
			assert_int_equal(sa_out_init(&pair.out, &pair.conf), 0);
		}
	}
	for (unsigned int i = 0; i < N; i++)
		for (unsigned int k = 0; k < i; k++)
			assert_true(memcmp(ivs[i], ivs[k], 16) != 0);
	pair_close();
}

/* --- batches ---------------------------------------------------------------------------------- */

static void copy_batch(struct esp_pkt *q, uint8_t (*to)[128], const struct esp_pkt *p,
		       unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		memcpy(to[i], p[i].data, p[i].len);
		q[i] = (struct esp_pkt){.data = to[i], .len = p[i].len};
	}
}

/* Both window checks: the one before decryption cannot see a twin in the same batch. */
static void test_same_twice(void **state)
{
	static uint8_t frame[ESP_BATCH][128], copy[ESP_BATCH][128];
	struct esp_pkt p[ESP_BATCH], q[ESP_BATCH];
	unsigned int good = 0;

	rig_backend(0);
	pair_open(AEAD_AES_GCM_128, true);
	seal_some(p, frame, 1);
	for (unsigned int i = 1; i < ESP_BATCH; i++)
		p[i] = p[0];
	copy_batch(q, copy, p, ESP_BATCH);
	esp_open(&pair.in, q, ESP_BATCH, NULL);
	for (unsigned int i = 0; i < ESP_BATCH; i++) {
		assert_int_equal(q[i].drop, i ? DROP_REPLAY_DUP : DROP_NONE);
		good += !q[i].drop;
	}
	assert_int_equal(good, 1);
	pair_close();
}

/* Dropped and broken packets in between neither stop nor shift the others; order is kept. */
static void test_mixed_batch(void **state)
{
	static uint8_t frame[ESP_BATCH][128], copy[ESP_BATCH][128], inner[ESP_BATCH][40];
	struct esp_pkt p[ESP_BATCH], q[ESP_BATCH];

	for (size_t b = 0; b < RIG_N; b += RIG_N - 1) {
		uint64_t seq = 0;

		if (!rig_backend(b))
			continue;
		pair_open(AEAD_AES_GCM_128 + b % 3, true); /* headroom 16, as below */
		for (unsigned int i = 0; i < ESP_BATCH; i++) {
			make_inner(frame[i] + 16, 40, NEXT_IP4);
			memcpy(inner[i], frame[i] + 16, 40);
			p[i] = (struct esp_pkt){.data = frame[i] + 16, .len = 40, .next = NEXT_IP4};
			if (i % 5 == 3)
				p[i] = (struct esp_pkt){.drop = DROP_TTL, .len = 77};
		}
		esp_seal(&pair.out, p, ESP_BATCH);
		for (unsigned int i = 0; i < ESP_BATCH; i++) {
			if (i % 5 == 3) {
				assert_true(p[i].drop == DROP_TTL && !p[i].data && p[i].len == 77);
				p[i].data = frame[i];
				continue;
			}
			assert_int_equal(p[i].seq, ++seq);
		}
		copy_batch(q, copy, p, ESP_BATCH);
		for (unsigned int i = 0; i < ESP_BATCH; i++) {
			if (i % 5 == 3)
				q[i] = (struct esp_pkt){.drop = DROP_NO_SA};
			else if (i % 7 == 1)
				q[i].len = i % 34;
			else if (i % 7 == 2)
				q[i].data[20] ^= 1;
		}
		esp_open(&pair.in, q, ESP_BATCH, &pair.lost);
		for (unsigned int i = 0; i < ESP_BATCH; i++) {
			enum drop want = i % 5 == 3   ? DROP_NO_SA
					 : i % 7 == 1 ? DROP_SHORT
					 : i % 7 == 2 ? DROP_ICV_FAIL
						      : DROP_NONE;

			assert_int_equal(q[i].drop, want);
			if (!want)
				assert_memory_equal(q[i].data, inner[i], 40);
		}
		esp_open(&pair.in, q, 0, NULL);
		esp_seal(&pair.out, p, 0);
		pair_close();
	}
}

/* A capture played again, in order and shuffled, delivers nothing. */
static void test_replayed_capture(void **state)
{
	static uint8_t frame[100][ESP_BATCH][128], copy[ESP_BATCH][128];
	static struct esp_pkt p[100][ESP_BATCH];
	struct esp_pkt q[ESP_BATCH];

	rig_backend(0);
	pair_open(AEAD_AES_GCM_128, true);
	for (int pass = 0; pass < 3; pass++) {
		for (int r = 0; r < 100; r++) {
			int from = pass == 2 ? (int)rig_below(100) : r;

			if (!pass)
				seal_some(p[r], frame[r], ESP_BATCH);
			copy_batch(q, copy, p[from], ESP_BATCH);
			esp_open(&pair.in, q, ESP_BATCH, &pair.lost);
			for (unsigned int i = 0; i < ESP_BATCH; i++)
				assert_true((q[i].drop == DROP_NONE) == !pass);
		}
	}
	assert_true(pair.lost == 0 && pair.top == 100 * ESP_BATCH);
	pair_close();
}

/* A bit of any piece of the keys, wrong SPI, ESN against none: nothing gets through. */
static void wrong_sa(enum aead_alg alg)
{
	const struct aead_desc *d = aead_by_alg(alg);
	uint8_t frame[128], copy[128];
	struct sa_conf good;
	struct esp_pkt p, q;

	pair_open(alg, true);
	good = pair.conf;
	make_inner(frame + 24, 40, NEXT_IP4);
	p = seal(frame + 24, 40, NEXT_IP4);
	for (int what = 0; what < 6; what++) {
		struct sa_conf c = good;
		enum drop want = what == 2 ? DROP_NO_SA : DROP_ICV_FAIL;

		if ((what == 1 && !d->salt_len) || (what == 4 && !d->auth_key_len) ||
		    (what == 0 && d->kind == AEAD_CBC_HMAC))
			continue; /* no such piece; a wrong cipher key alone is below */
		c.key[3] ^= what == 0;
		c.salt[3] ^= what == 1;
		c.spi ^= what == 2;
		c.esn ^= what == 3;
		c.key[d->key_len + 5] ^= what == 4;
		sa_in_fini(&pair.in);
		pair.top = 0;
		assert_int_equal(sa_in_init(&pair.in, &c, &pair.top, pair.words), 0);
		memcpy(copy, p.data, p.len);
		open_at(copy, p.len, &q);
		assert_int_equal(q.drop, what == 5 ? DROP_NONE : want);
	}
	pair_close();
}

static void test_wrong_sa(void **state)
{
	rig_backend(0);
	for (enum aead_alg alg = AEAD_NONE + 1; alg < AEAD_MAX; alg++)
		wrong_sa(alg);
}

/* With a HMAC the right authentication key and a wrong cipher key make authentic nonsense. */
static void test_wrong_cipher_key(void **state)
{
	uint8_t frame[128];
	struct sa_conf c;
	struct esp_pkt p, q;

	rig_backend(0);
	pair_open(AEAD_CBC_128_SHA256, true);
	c = pair.conf;
	c.key[3] ^= 1;
	sa_in_fini(&pair.in);
	assert_int_equal(sa_in_init(&pair.in, &c, &pair.top, pair.words), 0);
	make_inner(frame + 24, 40, NEXT_IP4);
	p = seal(frame + 24, 40, NEXT_IP4);
	open_at(p.data, p.len, &q);
	assert_true(q.drop == DROP_BAD_PAD || q.drop == DROP_BAD_NEXT_HEADER ||
		    q.drop == DROP_INNER_VERSION);
	assert_int_equal(pair.top, 1); /* it was authentic */
	pair_close();
}

static void test_spi(void **state)
{
	assert_int_equal(esp_spi((const uint8_t *)"\x10\x20\x30\x40zzzz"), htonl(0x10203040));
}

/* --- backends against each other -------------------------------------------------------------- */

enum { GROUP = 256 };

static struct diff {
	struct sa_conf conf;
	uint8_t inner[2048], frame[2048 + 128];
	uint32_t len, sealed_len;
	uint8_t next;
} diff[GROUP];

static void diff_make(struct diff *d)
{
	*d = (struct diff){.len = (uint32_t)rig_below(rig_below(3) ? 200 : 1500)};
	d->conf = (struct sa_conf){.spi = (uint32_t)(SPI_MIN + rig_below(UINT32_MAX - SPI_MIN)),
				   .alg = (enum aead_alg)(AEAD_NONE + 1 + rig_below(AEAD_MAX - 1)),
				   .esn = rig_below(2),
				   .window = WINDOW};
	rig_fill(d->conf.key, sizeof d->conf.key);
	rig_fill(d->conf.salt, sizeof d->conf.salt);
	d->conf.seq_start =
		d->conf.esn ? rig_rand() >> rig_below(63) | 1 : 1 + rig_below(UINT32_MAX);
	d->conf.iv_start = rig_rand() | 1;
	d->next = next_for(d->len);
	make_inner(d->inner, d->len, d->next);
}

/* CBC chooses its IV itself: whoever seals, the rest must follow from that IV. */
static void same_but_iv(struct diff *d, const struct aead_desc *s, const uint8_t *packet, uint32_t len)
{
	uint8_t again[sizeof d->frame];
	struct aead *a = aead_new(d->conf.alg, d->conf.key);
	uint32_t head = 8u + s->iv_len, body = len - head - s->icv_len, pad = body - d->len - 2;

	memcpy(again, packet, head);
	memcpy(again + head, d->inner, d->len);
	for (uint32_t i = 0; i < pad; i++)
		again[head + d->len + i] = (uint8_t)(i + 1);
	again[head + body - 2] = (uint8_t)pad;
	again[head + body - 1] = d->next;
	assert_true(model_protect(a, &d->conf, d->conf.seq_start, again, body));
	if (memcmp(again, packet, len))
		fail_msg("%s: not what its IV makes of the packet", aead_backend_name());
	aead_free(a);
}

static void diff_seal(struct diff *d, bool first)
{
	const struct aead_desc *s = aead_by_alg(d->conf.alg);
	uint8_t frame[sizeof d->frame];
	struct esp_pkt p = {.data = frame + 8 + s->iv_len, .len = d->len, .next = d->next};
	struct sa_out sa;

	d->conf.dir = SA_OUT;
	assert_int_equal(sa_out_init(&sa, &d->conf), 0);
	memcpy(p.data, d->inner, d->len);
	esp_seal(&sa, &p, 1);
	assert_int_equal(p.drop, DROP_NONE);
	same_but_iv(d, s, p.data, p.len);
	if (first) {
		memcpy(d->frame, p.data, p.len);
		d->sealed_len = p.len;
	}
	if (p.len != d->sealed_len || (s->iv_counter && memcmp(p.data, d->frame, p.len)))
		fail_msg("%s and openssl differ", aead_backend_name());
	memcpy(d->frame, p.data, p.len);
	sa_out_fini(&sa);
}

static void diff_open(struct diff *d)
{
	uint8_t frame[sizeof d->frame];
	uint64_t top = d->conf.seq_start - 1, words[ARRAY_SIZE(pair.words)] = {0}, start;
	struct esp_pkt p = {.data = frame, .len = d->sealed_len};
	struct sa_in sa;

	start = d->conf.seq_start;
	d->conf.dir = SA_IN;
	d->conf.seq_start = 0;
	assert_int_equal(sa_in_init(&sa, &d->conf, &top, words), 0);
	d->conf.seq_start = start;
	memcpy(frame, d->frame, d->sealed_len);
	esp_open(&sa, &p, 1, NULL);
	assert_int_equal(p.drop, DROP_NONE);
	assert_true(p.len == d->len && p.next == d->next && p.seq == start);
	assert_memory_equal(p.data, d->inner, d->len);
	sa_in_fini(&sa);
}

static void test_differential(void **state)
{
	uint64_t left = rig_count("ESP_DIFF_N", 5000, 1000000);

	while (left) {
		unsigned int n = (unsigned int)MIN(left, (uint64_t)GROUP);

		for (unsigned int i = 0; i < n; i++)
			diff_make(&diff[i]);
		for (size_t b = RIG_N; b-- > 0;) { /* openssl first: it is there everywhere */
			if (!rig_backend(b))
				continue;
			for (unsigned int i = 0; i < n; i++) {
				if (b < RIG_N - 1) /* what the one before sealed */
					diff_open(&diff[i]);
				diff_seal(&diff[i], b == RIG_N - 1);
				diff_open(&diff[i]);
			}
		}
		left -= n;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_from_elsewhere),
		cmocka_unit_test(test_overhead),
		cmocka_unit_test(test_overhead_by_hand),
		cmocka_unit_test(test_runts),
		cmocka_unit_test(test_bad_icv),
		cmocka_unit_test(test_check_first),
		cmocka_unit_test(test_padding),
		cmocka_unit_test(test_our_padding),
		cmocka_unit_test(test_tfc),
		cmocka_unit_test(test_next_header),
		cmocka_unit_test(test_inner_version),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_esn_wrap),
		cmocka_unit_test(test_resync),
		cmocka_unit_test(test_resync_refuses),
		cmocka_unit_test(test_cbc_ivs),
		cmocka_unit_test(test_same_twice),
		cmocka_unit_test(test_mixed_batch),
		cmocka_unit_test(test_replayed_capture),
		cmocka_unit_test(test_wrong_sa),
		cmocka_unit_test(test_wrong_cipher_key),
		cmocka_unit_test(test_spi),
		cmocka_unit_test(test_differential),
	};

	rig_seed("esp_test");
	if (aead_backend_select("auto"))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
