/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * esp_driver - esp.c, outer.c and transport.c behind lines of text, for tests that bring their own idea of ESP.
 *
 *   seal ALG MODE ESN SPI SEQ KEY SALT PACKET    an IP packet; answer: ESP header to ICV
 *   open ALG MODE ESN SPI SEQ KEY SALT PACKET    from the outer IP header on; answer: the packet within
 *
 * SEQ: the number to use, or, opening, the highest one accepted so far. KEY: cipher key and authentication key;
 * `-` is an empty SALT. All bytes in hex. A packet that is dropped is answered by `drop REASON`.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "conf.h"
#include "esp.h"
#include "outer.h"
#include "transport.h"

enum { ROOM = 1 << 16, FRONT = 128, WORDS = 128 };

static const char *const drop_names[] = {
	[DROP_NONE] = "none",
#define X(name, str, text) [DROP_##name] = str,
	IPSEC_DROPS(X)
#undef X
};

static uint8_t buf[FRONT + ROOM], spare[ROOM];

static size_t unhex(const char *s, uint8_t *to, size_t room)
{
	unsigned int v;
	size_t n = 0;

	if (!strcmp(s, "-"))
		return 0;
	for (; s[0] && s[1] && n < room; s += 2) {
		if (sscanf(s, "%2x", &v) != 1)
			exit(2);
		to[n++] = (uint8_t)v;
	}
	return n;
}

static void answer(const uint8_t *p, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		printf("%02x", p[i]);
	putchar('\n');
}

static void dropped(enum drop d)
{
	printf("drop %s\n", drop_names[d]);
}

/* What an emitter does before esp_seal(): in transport mode the header stays outside. */
static enum drop take(const struct sa_conf *c, struct esp_pkt *p)
{
	bool v4 = p->data[0] >> 4 == 4;
	struct transport_hdr h;
	struct in6_addr dst = {0};
	enum drop d;

	p->next = v4 ? NEXT_IP4 : NEXT_IP6;
	if (c->mode == SA_TUNNEL)
		return DROP_NONE;
	if (v4)
		dst.s6_addr[10] = dst.s6_addr[11] = 0xff;
	memcpy(dst.s6_addr + (v4 ? 12 : 0), p->data + (v4 ? 16 : 24), v4 ? 4 : 16);
	d = transport_take(p->data, p->len, &dst, &h);
	if (d)
		return d;
	p->data += h.hdr_len;
	p->len -= h.hdr_len;
	p->next = h.next;
	return DROP_NONE;
}

static void seal(struct sa_conf *c, uint64_t seq, uint32_t len)
{
	struct esp_pkt p = {.data = buf + FRONT, .len = len};
	struct sa_out sa;
	enum drop d = take(c, &p);

	c->dir = SA_OUT;
	c->seq_start = c->iv_start = seq;
	if (sa_out_init(&sa, c))
		exit(3);
	p.drop = (uint8_t)d;
	esp_seal(&sa, &p, 1);
	if (p.drop)
		dropped(p.drop);
	else
		answer(p.data, p.len);
	sa_out_fini(&sa);
}

static void open_(struct sa_conf *c, uint64_t seq, uint32_t len)
{
	static uint64_t words[WORDS];
	uint64_t top = 0;
	struct esp_pkt p;
	struct sa_in sa;
	struct outer o;

	if (!outer_frame(&o, buf + FRONT, len)) {
		dropped(DROP_SHORT);
		return;
	}
	c->dir = SA_IN;
	c->window = 4096;
	c->seq_start = seq;
	memset(words, 0, sizeof words);
	if (sa_in_init(&sa, c, &top, words))
		exit(3);
	p = (struct esp_pkt){.data = o.esp, .len = o.len};
	esp_open(&sa, &p, 1, NULL);
	if (!p.drop && sa.transport && p.next != NEXT_NONE)
		transport_restore(&p, &sa, &o.meta, spare);
	if (p.drop)
		dropped(p.drop);
	else
		answer(p.data, p.len);
	sa_in_fini(&sa);
}

int main(int argc, char **argv)
{
	static char line[1 << 18], alg[32], mode[16], key[256], salt[16], packet[1 << 17];
	struct sa_conf c;
	unsigned long long seq;
	uint32_t len;
	char what[8];
	int esn;

	if (aead_backend_select(argc > 1 ? argv[1] : "auto"))
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof line, stdin)) {
		memset(&c, 0, sizeof c);
		if (sscanf(line, "%7s %31s %15s %d %u %llu %255s %15s %131071s", what, alg, mode, &esn, &c.spi, &seq, key,
			   salt, packet) != 9 || !aead_by_name(alg))
			return 2;
		c.alg = aead_by_name(alg)->alg;
		c.mode = strcmp(mode, "transport") ? SA_TUNNEL : SA_TRANSPORT;
		c.esn = esn;
		unhex(key, c.key, sizeof c.key);
		unhex(salt, c.salt, sizeof c.salt);
		len = (uint32_t)unhex(packet, buf + FRONT, ROOM - ESP_TAILROOM_MAX);
		if (!strcmp(what, "seal"))
			seal(&c, seq, len);
		else
			open_(&c, seq, len);
	}
	return 0;
}
