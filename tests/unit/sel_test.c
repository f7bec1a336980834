/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sel: text, matching by packets, lists, and random lists against what they say of every flow of a small world. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sel.h"
#include "util.h"

static struct sel sel_of(const char *text)
{
	const char *why;
	struct sel s;

	if (sel_parse(&s, text, &why))
		fail_msg("%s: %s", text, why);
	return s;
}

static struct sels list_of(const char *const *text, unsigned int n)
{
	struct sels l = {.n = n};

	for (unsigned int i = 0; i < n; i++)
		l.sel[i] = sel_of(text[i]);
	sels_tidy(&l);
	return l;
}

static void test_text(void **state)
{
	static const char *const same[] = {
		"10.1.0.0/16 10.2.0.0/16",
		"10.1.2.3 0.0.0.0/0",
		"10.1.0.1-10.1.0.9 10.2.0.0/31[udp]",
		"10.1.0.0/16[tcp/1024-65535] 10.2.0.9[tcp/443]",
		"10.1.0.0/16[udp/0] 10.2.0.9",
		"fd01::/48 ::/0",
		"fd01::1 fd02::7-fd02::1:0[icmpv6/32768-33023]",
		"10.1.0.0/16 10.2.0.0/16[89]",
		"10.1.0.0/16 10.2.0.0/16[sctp/5]",
	};
	static const struct {
		const char *in, *out;
	} other[] = {
		{" 10.1.0.0/16\t10.2.0.0/16 ", "10.1.0.0/16 10.2.0.0/16"},
		{"10.1.0.0-10.1.255.255 10.2.0.4-10.2.0.4", "10.1.0.0/16 10.2.0.4"},
		{"10.1.0.0/16[6] 10.2.0.0/16[6/80-80]", "10.1.0.0/16 10.2.0.0/16[tcp/80]"},
		{"10.1.0.0/16[tcp/0-65535] 10.2.0.0/16", "10.1.0.0/16 10.2.0.0/16[tcp]"},
	};
	static const char *const bad[] = {
		"", "10.1.0.0/16", "10.1.0.0/16 10.2.0.0/16 10.3.0.0/16", "10.1.0.1/16 10.2.0.0/16", "10.1.0.0/33 10.2.0.0/16",
		"10.1.0.0/16 fd02::/48", "10.1.0.9-10.1.0.1 10.2.0.0/16", "10.1.0.1-fd01::1 10.2.0.0/16", "east west",
		"10.1.0.0/16[tcp 10.2.0.0/16", "10.1.0.0/16[] 10.2.0.0/16", "10.1.0.0/16[tcpp] 10.2.0.0/16",
		"10.1.0.0/16[256] 10.2.0.0/16", "10.1.0.0/16[tcp/] 10.2.0.0/16", "10.1.0.0/16[tcp/65536] 10.2.0.0/16",
		"10.1.0.0/16[tcp/9-1] 10.2.0.0/16", "10.1.0.0/16[tcp/-1] 10.2.0.0/16", "10.1.0.0/16[89/1] 10.2.0.0/16",
		"10.1.0.0/16[tcp] 10.2.0.0/16[udp]", "10.1.0.0/16[tcp]x 10.2.0.0/16", "[tcp] 10.2.0.0/16",
	};
	char buf[SEL_STR];
	const char *why;
	struct sel s;

	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		s = sel_of(same[i]);
		assert_string_equal(sel_str(&s, buf), same[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(other); i++) {
		s = sel_of(other[i].in);
		assert_string_equal(sel_str(&s, buf), other[i].out);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		why = NULL;
		if (!sel_parse(&s, bad[i], &why))
			fail_msg("'%s' is taken", bad[i]);
		assert_non_null(why);
	}
}

/* ---- packets ---- */

struct packet {
	uint8_t b[160];
	uint32_t len;
};

static void put_addr(uint8_t *p, const char *s, bool is4)
{
	assert_int_equal(inet_pton(is4 ? AF_INET : AF_INET6, s, p), 1);
}

static struct packet packet(const char *src, const char *dst, uint8_t proto, const uint8_t *l4, uint32_t len)
{
	bool is4 = !strchr(src, ':');
	struct packet p = {.len = (is4 ? 20 : 40) + len};

	p.b[0] = is4 ? 0x45 : 0x60;
	p.b[is4 ? 9 : 6] = proto;
	put_addr(p.b + (is4 ? 12 : 8), src, is4);
	put_addr(p.b + (is4 ? 16 : 24), dst, is4);
	memcpy(p.b + (is4 ? 20 : 40), l4, len);
	return p;
}

static struct packet ports(const char *src, const char *dst, uint8_t proto, uint16_t sport, uint16_t dport)
{
	const uint8_t l4[8] = {sport >> 8, (uint8_t)sport, dport >> 8, (uint8_t)dport};

	return packet(src, dst, proto, l4, sizeof l4);
}

static bool takes(const char *text, const struct packet *p)
{
	struct sel s = sel_of(text);

	return sels_take(&s, 1, p->b, p->len);
}

static void test_match(void **state)
{
	static const struct {
		const char *sel, *src, *dst;
		uint8_t proto;
		uint16_t sport, dport;
		bool ok;
	} row[] = {
		{"10.1.0.0/16 10.2.0.0/16", "10.1.0.0", "10.2.255.255", 17, 1, 2, true},
		{"10.1.0.0/16 10.2.0.0/16", "10.0.255.255", "10.2.0.1", 17, 1, 2, false},
		{"10.1.0.0/16 10.2.0.0/16", "10.1.0.1", "10.3.0.0", 17, 1, 2, false},
		{"10.1.0.0/16 10.2.0.0/16", "10.2.0.1", "10.1.0.1", 17, 1, 2, false},
		{"10.1.0.3-10.1.0.5 10.2.0.0/16", "10.1.0.2", "10.2.0.1", 17, 1, 2, false},
		{"10.1.0.3-10.1.0.5 10.2.0.0/16", "10.1.0.5", "10.2.0.1", 17, 1, 2, true},
		{"10.1.0.0/16 10.2.0.0/16[tcp]", "10.1.0.1", "10.2.0.1", 17, 1, 2, false},
		{"10.1.0.0/16 10.2.0.0/16[udp/80]", "10.1.0.1", "10.2.0.1", 17, 1, 80, true},
		{"10.1.0.0/16 10.2.0.0/16[udp/80]", "10.1.0.1", "10.2.0.1", 17, 80, 81, false},
		{"10.1.0.0/16[udp/80-90] 10.2.0.0/16", "10.1.0.1", "10.2.0.1", 17, 90, 1, true},
		{"10.1.0.0/16[udp/80-90] 10.2.0.0/16", "10.1.0.1", "10.2.0.1", 17, 91, 1, false},
		{"10.1.0.0/16 10.2.0.0/16[icmp/2048]", "10.1.0.1", "10.2.0.1", 1, 2048, 0, true},
		{"10.1.0.0/16 10.2.0.0/16[icmp/2048]", "10.1.0.1", "10.2.0.1", 1, 0, 2048, false},
		{"10.1.0.0/16 10.2.0.0/16[89]", "10.1.0.1", "10.2.0.1", 89, 0, 0, true},
		{"0.0.0.0/0 0.0.0.0/0", "255.255.255.255", "0.0.0.0", 6, 0, 0, true},
		{"0.0.0.0/0 0.0.0.0/0", "fd01::1", "fd02::1", 6, 0, 0, false},
		{"::/0 ::/0", "10.1.0.1", "10.2.0.1", 6, 0, 0, false},
		{"::/0 ::/0", "fd01::1", "fd02::1", 6, 0, 0, true},
		{"::/0 ::/0", "::ffff:10.1.0.1", "fd02::1", 6, 0, 0, false}, /* no address a packet may have */
		{"fd01::/48 fd02::/48[tcp/22]", "fd01:0:0:1::", "fd02::1", 6, 5, 22, true},
		{"fd01::/48 fd02::/48[tcp/22]", "fd01:0:1::", "fd02::1", 6, 5, 22, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(row); i++) {
		struct packet p = ports(row[i].src, row[i].dst, row[i].proto, row[i].sport, row[i].dport);

		if (takes(row[i].sel, &p) != row[i].ok)
			fail_msg("row %zu: %s and %s to %s", i, row[i].sel, row[i].src, row[i].dst);
	}
	assert_true(sels_take(NULL, 0, NULL, 0)); /* an empty list looks at nothing */
}

static void test_short(void **state)
{
	struct packet p = ports("10.1.0.1", "10.2.0.1", 17, 1, 80), v6 = ports("fd01::1", "fd02::1", 17, 1, 80);

	for (uint32_t len = 0; len < p.len; len++) {
		struct packet cut = {.len = len};

		memcpy(cut.b, p.b, len);
		assert_int_equal(takes("0.0.0.0/0 0.0.0.0/0[udp/80]", &cut), len >= 24);
		assert_int_equal(takes("0.0.0.0/0 0.0.0.0/0[udp]", &cut), len >= 20);
	}
	for (uint32_t len = 0; len < v6.len; len++) {
		struct packet cut = {.len = len};

		memcpy(cut.b, v6.b, len);
		assert_int_equal(takes("::/0 ::/0[udp/80]", &cut), len >= 44);
	}
}

static void test_fragments(void **state)
{
	struct packet p = ports("10.1.0.1", "10.2.0.1", 17, 1, 80);
	struct sel opaque = sel_of("10.1.0.0/16 10.2.0.0/16[udp/1]");
	uint8_t v6[8 + 8] = {17, 0, 0, 1, 0, 0, 0, 7, 0, 1, 0, 80}; /* more fragments follow: the first one */
	struct packet p6;

	opaque.dport[0] = 65535;
	opaque.dport[1] = 0;
	p.b[6] = 0x20; /* the first one has its ports */
	assert_true(takes("10.1.0.0/16 10.2.0.0/16[udp/80]", &p));
	assert_false(sels_take(&opaque, 1, p.b, p.len));
	p.b[7] = 2; /* a later one has none */
	assert_false(takes("10.1.0.0/16 10.2.0.0/16[udp/80]", &p));
	assert_true(takes("10.1.0.0/16 10.2.0.0/16[udp]", &p));
	assert_true(takes("10.1.0.0/16 10.2.0.0/16", &p));
	assert_true(sels_take(&opaque, 1, p.b, p.len));
	p6 = packet("fd01::1", "fd02::1", 44, v6, sizeof v6);
	assert_true(takes("::/0 ::/0[udp/80]", &p6));
	v6[2] = 1; /* offset 256 */
	p6 = packet("fd01::1", "fd02::1", 44, v6, sizeof v6);
	assert_false(takes("::/0 ::/0[udp/80]", &p6));
	assert_true(takes("::/0 ::/0[udp]", &p6));
}

/* Behind hop-by-hop options, a routing header and AH. */
static void test_extension_headers(void **state)
{
	const uint8_t l4[] = {43, 0, 1, 4, 0, 0, 0, 0,			  /* hop-by-hop, 8 bytes */
			      51, 2, 0, 0, 0, 0, 0, 0, [8 + 24] = 17, 4 /* routing, 24 bytes; then AH, 24 bytes */};
	uint8_t all[8 + 24 + 24 + 8] = {0};
	struct packet p;

	memcpy(all, l4, sizeof l4);
	all[8 + 24 + 24 + 3] = 80;
	p = packet("fd01::1", "fd02::1", 0, all, sizeof all);
	assert_true(takes("::/0 ::/0[udp/80]", &p));
	assert_false(takes("::/0 ::/0[udp/81]", &p));
	assert_false(takes("::/0 ::/0[tcp]", &p));
	p.len = 40 + 8 + 24 + 4; /* ends inside AH: nobody knows what is behind it */
	assert_false(takes("::/0 ::/0[udp]", &p));
	assert_true(takes("::/0 ::/0", &p));
}

/* RFC 4301 6.2: an error about a packet that came by this SA's other half. */
static void test_icmp_errors(void **state)
{
	struct packet quoted = ports("10.2.0.1", "10.1.0.9", 17, 80, 1234), p;
	uint8_t icmp[8 + 28] = {3, 3};
	struct sel s = sel_of("10.1.0.0/16 10.2.0.0/16[udp/80]");

	memcpy(icmp + 8, quoted.b, 28);
	p = packet("192.0.2.1", "10.2.0.1", 1, icmp, sizeof icmp); /* from a router between */
	assert_true(sels_take(&s, 1, p.b, p.len));
	p.b[20] = 8; /* an echo request is no error */
	assert_false(sels_take(&s, 1, p.b, p.len));
	p.b[20] = 11;
	assert_true(sels_take(&s, 1, p.b, p.len));
	for (uint32_t len = 20; len < 20 + 8 + 24; len++) /* its ports are cut off */
		assert_false(sels_take(&s, 1, p.b, len));
	p.b[28 + 21] = 81; /* about another port */
	assert_false(sels_take(&s, 1, p.b, p.len));
	p.b[28 + 21] = 80;
	p.b[28] = 0x60; /* quotes the other version */
	assert_false(sels_take(&s, 1, p.b, p.len));
}

/* ---- lists ---- */

static void test_everything(void **state)
{
	static const char *const all[] = {"::/0 ::/0", "0.0.0.0/0 0.0.0.0/0", "10.1.0.0/16 10.2.0.0/16"};
	struct sels l = list_of(all, 3);

	assert_int_equal(l.n, 0);
	l = list_of(all, 1);
	assert_int_equal(l.n, 1);
	l = list_of((const char *const[]){"::/0 ::/0", "0.0.0.0/0 0.0.0.0/0[udp]"}, 2);
	assert_int_equal(l.n, 2);
}

static void test_equal(void **state)
{
	static const char *const a[] = {"10.1.0.0/16 10.2.0.0/16", "fd01::/48 fd02::/48[tcp]", "10.1.0.0/16 10.2.0.0/16"};
	static const char *const b[] = {"fd01::/48 fd02::/48[tcp]", "10.1.0.0/16 10.2.0.0/16"};
	struct sels x = list_of(a, 3), y = list_of(b, 2), m;

	assert_true(sels_equal(&x, y.sel, y.n));
	sels_mirror(&m, &x);
	assert_false(sels_equal(&m, y.sel, y.n));
	sels_mirror(&y, &m);
	assert_true(sels_equal(&y, x.sel, x.n));
	y.sel[0].dport[1]--;
	assert_false(sels_equal(&y, x.sel, x.n));
	assert_false(sels_equal(&x, x.sel, x.n - 1));
}

/* The narrowest is asked first. */
static void test_order(void **state)
{
	static const char *const narrow_to_wide[] = {
		"10.1.0.1[udp/5] 10.2.0.1[udp/6]", "10.1.0.1 10.2.0.1[udp/6]", "10.1.0.1 10.2.0.1[udp]", "10.1.0.1 10.2.0.1",
		"10.1.0.1 10.2.0.0/16", "10.1.0.0/16 10.2.0.0/16", "0.0.0.0/0 0.0.0.0/0", "::/0 ::/0",
	};
	unsigned int before = 0;

	for (size_t i = 0; i < ARRAY_SIZE(narrow_to_wide); i++) {
		struct sel s = sel_of(narrow_to_wide[i]);
		unsigned int w = sels_width(&s, 1);

		assert_true(w > before || !i);
		before = w;
	}
	assert_true(sels_width(NULL, 0) > before);
}

/* ---- a small world: four addresses, three ports, two protocols ---- */

static uint32_t below(uint32_t n)
{
	return (uint32_t)rand() % n;
}

static struct in6_addr addr(uint32_t host)
{
	return addr_from4((struct in_addr){htonl(0x0a000000 + host)});
}

static void random_range(uint32_t n, uint32_t *a, uint32_t *b)
{
	*a = below(n);
	*b = *a + below(n - *a);
}

static struct sel random_sel(void)
{
	struct sel s = {.proto = below(2) ? 17 : 0, .sport = {0, 65535}, .dport = {0, 65535}};
	uint32_t a, b;

	random_range(4, &a, &b);
	s.src[0] = addr(a);
	s.src[1] = addr(b);
	random_range(4, &a, &b);
	s.dst[0] = addr(a);
	s.dst[1] = addr(b);
	if (s.proto && below(2)) {
		random_range(3, &a, &b);
		s.dport[0] = (uint16_t)a;
		s.dport[1] = (uint16_t)b;
	}
	return s;
}

/* Every flow of the world as one bit. */
static void each_flow(const struct sel *s, unsigned int n, bool turned, bool *out)
{
	for (uint32_t i = 0; i < 4 * 4 * 3 * 2; i++) {
		struct sel_flow f = {.src = addr(i % 4), .dst = addr(i / 4 % 4), .sport = 9, .dport = (uint16_t)(i / 16 % 3),
				     .proto = i / 48 ? 17 : 6, .has_ports = true};

		if (turned)
			f = (struct sel_flow){.src = f.dst, .dst = f.src, .sport = f.dport, .dport = f.sport, .proto = f.proto,
					      .has_ports = true};
		out[i] = sels_match(s, n, &f);
	}
}

static void test_random(void **state)
{
	unsigned int covers = 0;

	srand(45);
	for (unsigned int round = 0; round < 20000; round++) {
		struct sels a = {.n = 1 + below(3)}, b = {.n = 1 + below(2)}, m;
		bool in_a[96], in_b[96], raw[96], mirrored[96];
		bool all = true;

		for (unsigned int i = 0; i < a.n; i++)
			a.sel[i] = random_sel();
		for (unsigned int i = 0; i < b.n; i++)
			b.sel[i] = below(4) ? random_sel() : a.sel[i % a.n];
		each_flow(a.sel, a.n, false, raw);
		sels_tidy(&a);
		sels_tidy(&b);
		sels_mirror(&m, &a);
		each_flow(a.sel, a.n, false, in_a);
		each_flow(b.sel, b.n, false, in_b);
		each_flow(m.sel, m.n, true, mirrored);
		assert_memory_equal(raw, in_a, sizeof raw);
		assert_memory_equal(mirrored, in_a, sizeof mirrored);
		for (unsigned int i = 0; i < 96; i++)
			all &= !in_b[i] || in_a[i];
		if (sels_cover(a.sel, a.n, b.sel, b.n)) {
			assert_true(all);
			covers++;
		} else if (a.n == 1 && b.n == 1) {
			/* the world has fewer ports than there are: only what it can tell apart */
			assert_false(all && b.sel[0].proto == a.sel[0].proto && b.sel[0].dport[1] < 3 && a.sel[0].dport[1] < 3);
		}
	}
	assert_true(covers > 1000);
	assert_true(sels_cover(NULL, 0, NULL, 0));
	assert_true(sels_cover(NULL, 0, (struct sel[]){sel_of("10.1.0.1 10.2.0.1")}, 1));
	assert_false(sels_cover((struct sel[]){sel_of("10.1.0.1 10.2.0.1")}, 1, NULL, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),	   cmocka_unit_test(test_match),
		cmocka_unit_test(test_short),	   cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_extension_headers), cmocka_unit_test(test_icmp_errors),
		cmocka_unit_test(test_everything), cmocka_unit_test(test_equal),
		cmocka_unit_test(test_order),	   cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
