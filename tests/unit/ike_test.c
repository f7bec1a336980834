/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The door for an IKE daemon, both sides: the plugin's half (ike/door.c) against the real server, the server
 * against a client that misbehaves, and the plugin's half against an ipsecd that does. The SAs are fakes.
 *
 * wraps: sad_add sad_remove sad_use sad_heard link_follow_sa link_follow_path wish_set ike_conn_end
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include "ike.h"
#include "log.h"
#include "sad.h"
#include "../../ike/door.c"

enum { SLOTS = 64 };

static struct daemon d;
static struct link link7;
static struct sa_set set7;
static struct ike *k;
static sd_event *ev;
static pthread_t loop;
static int wake[2];
static char dir[64], path[80];
static struct sa_spec last;      /* what sad_add() was asked for last */
static unsigned int n_removed, n_hellos;
static int refuse_with;
static uint32_t ended_spi;
static uint32_t heard_spi;          /* of the inbound SA that the peer uses */

int __wrap_sad_add(struct daemon *dd, struct link *l, const struct sa_spec *s, struct sa **sap, FILE *errs);
int __wrap_sad_add(struct daemon *dd, struct link *l, const struct sa_spec *s, struct sa **sap, FILE *errs)
{
	struct sa *sa = calloc(1, sizeof *sa);

	last = *s;
	if (refuse_with) {
		free(sa);
		return refuse_with;
	}
	*sa = (struct sa){.initiated = s->initiated, .epoch = ++d.next_epoch, .created_ns = now_ns(), .link = l, .dir = s->conf.dir,
			  .spi = s->conf.spi, .owner = s->owner, .dst = s->dst, .live = true, .set = &set7, .next = l->sas};
	l->sas = sa;
	for (unsigned int i = 0; i < SLOTS; i++) {
		if (d.sas[i])
			continue;
		sa->slot = i;
		d.sas[i] = sa;
		break;
	}
	if (sa->dir == SA_OUT && (!l->out || !s->standby))
		l->out = set7.out = sa;
	else if (sa->dir == SA_IN)
		chain_add(&d.sa_by_spi, sa->spi, sa->slot);
	return 0;
}

void __wrap_sad_remove(struct daemon *dd, struct sa *sa);
void __wrap_sad_remove(struct daemon *dd, struct sa *sa)
{
	struct sa **at = &sa->link->sas;

	while (*at != sa)
		at = &(*at)->next;
	*at = sa->next;
	if (set7.out == sa)
		sa->link->out = set7.out = NULL;
	d.sas[sa->slot] = NULL;
	if (sa->dir == SA_IN)
		chain_del(&d.sa_by_spi, sa->spi, sa->slot);
	free(sa);
	n_removed++;
}

int __wrap_sad_use(struct daemon *dd, struct sa *sa);
int __wrap_sad_use(struct daemon *dd, struct sa *sa)
{
	sa->link->out = set7.out = sa;
	sa->link->switched_ns = set7.switched_ns = now_ns();
	return 0;
}

bool __wrap_sad_heard(const struct sa *sa);
bool __wrap_sad_heard(const struct sa *sa)
{
	return sa->spi == heard_spi;
}

void __wrap_ike_conn_end(struct ike_conn *c, const struct link_conf *l, uint32_t spi_out);
void __wrap_ike_conn_end(struct ike_conn *c, const struct link_conf *l, uint32_t spi_out)
{
	ended_spi = spi_out;
}

void __wrap_wish_set(const struct daemon *dd, struct link *l, bool want);
void __wrap_wish_set(const struct daemon *dd, struct link *l, bool want)
{
	l->ike_want = want;
}

void __wrap_link_follow_sa(struct daemon *dd, struct link *l);
void __wrap_link_follow_sa(struct daemon *dd, struct link *l)
{
}
void __wrap_link_follow_path(struct daemon *dd, struct link *l);
void __wrap_link_follow_path(struct daemon *dd, struct link *l)
{
}
static void on_hello(struct daemon *dd)
{
	n_hellos++;
}

/* ---- the server in a thread of its own ---- */

static int on_wake(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
	return sd_event_exit(ev, 0);
}

static void *run(void *arg)
{
	sd_event_loop(ev);
	return NULL;
}

static void serve(void)
{
	assert_return_code(pipe(wake), 0);
	assert_return_code(sd_event_new(&ev), 0);
	assert_int_equal(ike_open(&k, &d, ev, path), 0);
	d.ike = k;
	sd_event_add_io(ev, NULL, wake[0], POLLIN, on_wake, NULL);
	pthread_create(&loop, NULL, run, NULL);
}

/* From now on nothing runs but the test. */
static void halt(void)
{
	assert_int_equal(write(wake[1], "x", 1), 1);
	pthread_join(loop, NULL);
}

static void gone(void)
{
	ike_close(k);
	sd_event_unref(ev);
	close(wake[0]);
	close(wake[1]);
}

static int setup(void **state)
{
	log_max = LOGL_ERR;
	strcpy(dir, "/tmp/ike-test-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/door", dir);
	memset(&link7, 0, sizeof link7);
	memset(&set7, 0, sizeof set7);
	link7.sets = &set7;
	d = (struct daemon){.max_links = 1, .max_sas = SLOTS, .on_ike = on_hello};
	d.links = calloc(1, sizeof *d.links);
	d.sas = calloc(SLOTS, sizeof *d.sas);
	assert_int_equal(chain_init(&d.sa_by_spi, SLOTS), 0);
	link7.conf.number = 7;
	strcpy(link7.conf.name, "ipsec7");
	strcpy(link7.conf.ike, "east");
	link7.n_paths = 1;
	d.links[0] = &link7;
	n_removed = n_hellos = 0;
	refuse_with = 0;
	heard_spi = 0;
	serve();
	return 0;
}

static int teardown(void **state)
{
	for (unsigned int i = 0; i < SLOTS; i++)
		if (d.sas[i])
			__wrap_sad_remove(&d, d.sas[i]);
	free(d.links);
	free(d.sas);
	chain_free(&d.sa_by_spi);
	unlink(path);
	rmdir(dir);
	return 0;
}

static struct ike_msg an_add(uint32_t spi, bool inbound)
{
	struct ike_msg m = {.head = {.type = IKE_ADD}};
	struct ike_add *a = &m.add;

	a->id = (struct ike_id){.spi = spi, .if_id = 7, .inbound = inbound};
	a->id.src[15] = inbound ? 2 : 1;
	a->id.dst[15] = inbound ? 1 : 2;
	a->dport = 4500;
	a->encap = a->tunnel = a->esn = true;
	a->window = 100;
	a->enc_alg = 20;
	a->enc_len = 36;
	for (int i = 0; i < 36; i++)
		a->enc_key[i] = i + 1;
	a->time_s = (struct ike_life){60, 70};
	a->n_sel = 1;
	memset(a->sel[0].dst[1], 0xff, 16);
	a->sel[0].dport[1] = 65535;
	return m;
}

static uint16_t ask(struct door *p, struct ike_msg m)
{
	assert_int_equal(door_call(p, &m), 0);
	return m.reply.status;
}

static uint32_t get_spi(struct door *p)
{
	struct ike_msg m = {.head = {.type = IKE_GET_SPI}};

	assert_int_equal(door_call(p, &m), 0);
	assert_int_equal(m.reply.status, IKE_OK);
	return m.reply.spi;
}

/* ---- the plugin's half and the server ---- */

static void a_child_comes_and_goes(void **state)
{
	struct door *p = door_new(path, 11);
	struct ike_msg m;
	uint32_t in = get_spi(p);
	struct sa *sa;

	assert_true(in >= SPI_MIN && in != get_spi(p));
	assert_int_equal(ask(p, an_add(in, true)), IKE_OK);
	assert_int_equal(last.conf.dir, SA_IN);
	assert_int_equal(last.conf.window, 128); /* whole words */
	assert_int_equal(last.owner, 11);
	assert_true(last.udp && last.conf.esn && !last.file);
	assert_int_equal(last.conf.alg, AEAD_AES_GCM_256);
	assert_int_equal(last.conf.key[31], 32);
	assert_int_equal(last.conf.salt[3], 36);
	assert_int_equal(last.conf.life.soft.time_s, 60);
	assert_int_equal(last.conf.life.hard.time_s, 70);
	assert_int_equal(last.conf.sels.n, 1);
	assert_int_equal(last.conf.sels.sel[0].dport[1], 65535);
	assert_int_equal(ask(p, an_add(0x1000, false)), IKE_OK);
	assert_int_equal(last.conf.window, 4096); /* an ipsecd */
	assert_int_equal(link7.paths[0].port, 4500);
	assert_int_equal(link7.paths[0].conf.encap, ENCAP_UDP);
	assert_int_equal(link7.paths[0].remote.s6_addr[15], 2);

	m = (struct ike_msg){.head = {.type = IKE_UPDATE}};
	m.update.id = an_add(0x1000, false).add.id;
	m.update.dst[15] = 9;
	m.update.dport = 1027;
	assert_int_equal(ask(p, m), IKE_OK);
	assert_int_equal(link7.paths[0].port, 1027);
	assert_int_equal(link7.paths[0].conf.encap, ENCAP_ESP);
	sa = sad_find(&link7, SA_OUT, 0x1000);
	assert_int_equal(sa->dst.s6_addr[15], 9);

	m = (struct ike_msg){.head = {.type = IKE_QUERY}};
	m.id = an_add(in, true).add.id;
	assert_int_equal(door_call(p, &m), 0);
	assert_int_equal(m.reply.status, IKE_OK);
	assert_true(m.reply.idle_ms == UINT64_MAX && !m.reply.bytes);
	m = (struct ike_msg){.head = {.type = IKE_DEL}};
	m.id = an_add(in, true).add.id;
	assert_int_equal(ask(p, m), IKE_OK);
	assert_int_equal(ask(p, m), IKE_OK); /* as often as you like */
	assert_int_equal(n_removed, 0);      /* something may be on its way */
	m.id = an_add(0x1000, false).add.id;
	assert_int_equal(ask(p, an_add(0x1001, false)), IKE_OK);
	assert_int_equal(ask(p, m), IKE_OK); /* another one does the same */
	m.head.type = IKE_QUERY;
	assert_int_equal(ask(p, m), IKE_NOT_FOUND);
	assert_int_equal(n_removed, 1);
	assert_int_equal(ask(p, (struct ike_msg){.head = {.type = IKE_FLUSH}}), IKE_OK);
	assert_int_equal(n_removed, 3);
	assert_int_equal(ask(p, (struct ike_msg){.head = {.type = IKE_BYE}}), IKE_OK);
	door_free(p);
	halt();
	gone();
}

static void what_is_refused(void **state)
{
	struct door *p = door_new(path, 11);
	struct ike_msg m = an_add(0x1000, false);

	m.add.id.if_id = 8;
	assert_int_equal(ask(p, m), IKE_NO_LINK);
	m = an_add(0x1000, false);
	m.add.enc_alg = 3; /* 3DES */
	assert_int_equal(ask(p, m), IKE_NOT_SUPPORTED);
	m = an_add(0x1000, false);
	m.add.tunnel = false;
	assert_int_equal(ask(p, m), IKE_NOT_SUPPORTED);
	m = an_add(0x1000, false);
	m.add.enc_len = 35;
	m.add.enc_key[35] = 0;
	assert_int_equal(ask(p, m), IKE_NOT_SUPPORTED);
	link7.conf.liveness = LIVE_PING;
	assert_int_equal(ask(p, an_add(0x1001, false)), IKE_OK);
	assert_int_equal(last.conf.window, 32); /* what any peer has */
	__wrap_sad_remove(&d, link7.sas);
	m = an_add(255, false);
	assert_int_equal(ask(p, m), IKE_NOT_SUPPORTED);
	refuse_with = -EEXIST;
	assert_int_equal(ask(p, an_add(0x1000, false)), IKE_FAILED);
	assert_null(link7.sas);
	link7.conf.ike[0] = 0; /* a link with an SA file is nobody else's */
	refuse_with = 0;
	assert_int_equal(ask(p, an_add(0x1000, false)), IKE_NO_LINK);
	door_free(p);
	halt();
	gone();
}

static void suites_by_their_numbers(void **state)
{
	static const struct {
		uint16_t enc, integ;
		uint8_t enc_len, int_len;
		enum aead_alg alg;
	} rows[] = {
		{20, 1024, 20, 0, AEAD_AES_GCM_128}, {20, 1024, 36, 0, AEAD_AES_GCM_256},
		{28, 1024, 36, 0, AEAD_CHACHA20_POLY1305}, {21, 1024, 20, 0, AEAD_AES_GMAC_128},
		{21, 1024, 36, 0, AEAD_AES_GMAC_256}, {12, 12, 16, 32, AEAD_CBC_128_SHA256},
		{12, 12, 32, 32, AEAD_CBC_256_SHA256}, {12, 13, 32, 48, AEAD_CBC_256_SHA384},
		{12, 14, 32, 64, AEAD_CBC_256_SHA512}, {12, 2, 16, 20, AEAD_CBC_128_SHA1},
		{12, 2, 32, 20, AEAD_CBC_256_SHA1}, {11, 12, 0, 32, AEAD_NULL_SHA256},
		{11, 13, 0, 48, AEAD_NULL_SHA384}, {11, 14, 0, 64, AEAD_NULL_SHA512},
		{11, 2, 0, 20, AEAD_NONE}, {3, 2, 24, 20, AEAD_NONE}, {11, 0, 0, 0, AEAD_NONE},
		{12, 1024, 32, 0, AEAD_NONE},
	};
	struct door *p = door_new(path, 11);

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		struct ike_msg m = an_add(0x1000 + i, false);

		memset(m.add.enc_key, 0, sizeof m.add.enc_key);
		memset(m.add.enc_key, 0x11, rows[i].enc_len);
		memset(m.add.int_key, 0x22, rows[i].int_len);
		m.add.enc_alg = rows[i].enc;
		m.add.int_alg = rows[i].integ;
		m.add.enc_len = rows[i].enc_len;
		m.add.int_len = rows[i].int_len;
		assert_int_equal(ask(p, m), rows[i].alg ? IKE_OK : IKE_NOT_SUPPORTED);
		if (rows[i].alg)
			assert_int_equal(last.conf.alg, rows[i].alg);
		if (rows[i].alg && rows[i].int_len)
			assert_int_equal(last.conf.key[rows[i].enc_len + rows[i].int_len - 1], 0x22);
	}
	door_free(p);
	halt();
	gone();
}

static struct ike_msg next_event(struct door *p)
{
	struct ike_msg m;
	int n = 0;

	for (int i = 0; i < 100 && n != 1; i++)
		n = door_event(p, &m, 100);
	assert_int_equal(n, 1);
	return m;
}

static void events_arrive(void **state)
{
	struct door *p = door_new(path, 11);
	struct ike_msg m;

	assert_int_equal(ask(p, an_add(0x1000, true)), IKE_OK);
	link7.sas->soft = LIFE_TIME; /* reached before anybody listened */
	m = next_event(p);
	assert_int_equal(m.head.type, IKE_EXPIRE);
	assert_int_equal(m.expire.spi, 0x1000);
	assert_int_equal(m.expire.dst[15], 1);
	assert_false(m.expire.hard);
	halt();
	ike_on_life(k, link7.sas, true);
	assert_true(next_event(p).expire.hard);
	link7.paths[0].port = 1027;
	link7.paths[0].remote.s6_addr[15] = 3;
	ike_on_moved(k, &link7);
	m = next_event(p);
	assert_int_equal(m.head.type, IKE_MAPPING);
	assert_int_equal(m.mapping.port, 1027);
	assert_int_equal(m.mapping.to[15], 3);
	door_free(p);
	gone();
}

static struct ike_msg a_del(uint32_t spi, bool inbound)
{
	struct ike_msg m = {.head = {.type = IKE_DEL}};

	m.id = an_add(spi, inbound).add.id;
	return m;
}

static bool there(enum sa_dir way, uint32_t spi)
{
	return sad_find(&link7, way, spi);
}

/* The last SA that is deleted serves for half a second more, and no longer. */
static void the_last_one_lingers(void **state)
{
	struct door *p = door_new(path, 11);

	assert_int_equal(ask(p, an_add(0x1000, true)), IKE_OK);
	assert_int_equal(ask(p, an_add(0x1001, false)), IKE_OK);
	assert_int_equal(ask(p, a_del(0x1001, false)), IKE_OK);
	assert_int_equal(ask(p, a_del(0x1000, true)), IKE_OK);
	halt();
	ike_tick(k, now_ns());
	assert_true(there(SA_IN, 0x1000) && link7.out && link7.out->spi == 0x1001);
	ike_tick(k, now_ns() + UINT64_C(600000000));
	assert_null(link7.sas);
	assert_null(link7.out);
	door_free(p);
	gone();
}

/* INITIAL_CONTACT: ours deletes, then adds; what answers an exchange waits until the peer is heard on its twin. */
static void a_peer_begins_anew(void **state)
{
	for (int initiator = 0; initiator < 2; initiator++) {
		struct door *p = door_new(path, 11);
		struct ike_msg m;

		assert_int_equal(ask(p, an_add(0x1000, true)), IKE_OK);
		assert_int_equal(ask(p, an_add(0x1001, false)), IKE_OK);
		assert_int_equal(ask(p, a_del(0x1001, false)), IKE_OK);
		assert_int_equal(ask(p, a_del(0x1000, true)), IKE_OK);
		assert_int_equal(ask(p, an_add(0x2000, true)), IKE_OK);
		m = an_add(0x2001, false);
		m.add.initiator = initiator;
		assert_int_equal(ask(p, m), IKE_OK);
		assert_int_equal(link7.out->spi, initiator ? 0x2001 : 0x1001);
		halt();
		ike_tick(k, now_ns());
		assert_int_equal(link7.out->spi, initiator ? 0x2001 : 0x1001);
		heard_spi = 0x2000;
		ike_tick(k, now_ns());
		assert_int_equal(link7.out->spi, 0x2001);
		assert_false(there(SA_OUT, 0x1001));
		assert_true(there(SA_IN, 0x1000)); /* what is on its way */
		ike_tick(k, now_ns() + UINT64_C(600000000));
		assert_false(there(SA_IN, 0x1000));
		assert_true(there(SA_IN, 0x2000) && link7.out->spi == 0x2001);
		door_free(p);
		gone();
		teardown(NULL);
		setup(NULL);
	}
	halt();
	gone();
}

/* The same where it is our own IKE daemon that has begun anew, and answers. */
static void an_orphan_serves_until_then(void **state)
{
	struct door *p = door_new(path, 11), *q = door_new(path, 12);

	assert_int_equal(ask(p, an_add(0x1000, true)), IKE_OK);
	assert_int_equal(ask(p, an_add(0x1001, false)), IKE_OK);
	door_free(p);
	assert_int_equal(ask(q, an_add(0x2000, true)), IKE_OK);
	assert_int_equal(ask(q, an_add(0x2001, false)), IKE_OK);
	assert_int_equal(link7.out->spi, 0x1001);
	halt();
	ike_tick(k, now_ns());
	assert_int_equal(link7.out->spi, 0x1001);
	heard_spi = 0x2000;
	ike_tick(k, now_ns());
	assert_int_equal(link7.out->spi, 0x2001);
	assert_true(there(SA_IN, 0x1000));
	door_free(q);
	gone();
}

/* A peer that is not heard on what follows gets it all the same. */
static void a_silent_peer(void **state)
{
	struct door *p = door_new(path, 11);

	assert_int_equal(ask(p, an_add(0x1001, false)), IKE_OK);
	assert_int_equal(ask(p, a_del(0x1001, false)), IKE_OK);
	assert_int_equal(ask(p, an_add(0x2001, false)), IKE_OK);
	halt();
	ike_tick(k, now_ns() + UINT64_C(600000000));
	assert_int_equal(link7.out->spi, 0x2001);
	door_free(p);
	gone();
}

/* Two beginnings that met: the pair with the lowest number goes, by whoever began it, and not while it is a renewal. */
static void two_pairs(void **state)
{
	const uint64_t s = UINT64_C(1000000000);

	for (int mine = 0; mine < 2; mine++) {
		struct door *p = door_new(path, 11);
		/* as two threads of charon's may add them */
		struct ike_msg m[] = {an_add(0x3000, true), an_add(0x2000, true), an_add(0x4001, false), an_add(0x1001, false)};

		for (int i = 0; i < 4; i++) {
			m[i].add.initiator = i == 0 || i == 3 ? mine : !mine;
			assert_int_equal(ask(p, m[i]), IKE_OK);
		}
		halt();
		d.ike_conn = (void *)&d; /* not looked at */
		ended_spi = 0;
		ike_tick(k, now_ns() + 4 * s);
		assert_int_equal(ended_spi, 0);
		ike_tick(k, now_ns() + 6 * s);
		assert_int_equal(ended_spi, mine ? 0x1001 : 0);
		ended_spi = 0;
		ike_tick(k, now_ns() + 6 * s);
		assert_int_equal(ended_spi, 0); /* once is enough for a while */
		d.ike_conn = NULL;
		door_free(p);
		gone();
		teardown(NULL);
		setup(NULL);
	}
	halt();
	gone();
}

/* Who has SAs wants them again after a death, and not when they were taken from an IKE daemon that lived on. */
static void a_wish(void **state)
{
	const uint64_t s = UINT64_C(1000000000);
	struct door *p = door_new(path, 11);
	uint64_t now;

	assert_int_equal(ask(p, an_add(0x1001, false)), IKE_OK);
	halt();
	now = now_ns();
	link7.switched_ns = now;
	ike_tick(k, now);
	assert_true(link7.ike_want);
	__wrap_sad_remove(&d, link7.sas);
	ike_tick(k, now + s);
	ike_tick(k, now + 5 * s);
	assert_true(link7.ike_want && link7.ike_lost_ns);
	ike_tick(k, now + 7 * s);
	assert_false(link7.ike_want);
	door_free(p);
	gone();
}

/* Another generation is another IKE daemon: refused beside the first, welcome after it; orphans go. */
static void one_daemon_at_a_time(void **state)
{
	struct door *p = door_new(path, 11), *q = door_new(path, 12);
	struct ike_msg m = {.head = {.type = IKE_GET_SPI}};

	assert_int_equal(ask(p, an_add(0x1000, true)), IKE_OK);
	assert_int_equal(ask(p, an_add(0x1001, false)), IKE_OK);
	assert_int_equal(door_call(q, &m), -ECONNRESET);
	door_free(p);
	get_spi(q);
	assert_int_equal(n_hellos, 2);
	assert_int_equal(ask(q, an_add(0x2000, true)), IKE_OK);
	m = an_add(0x2001, false);
	m.add.initiator = true;
	assert_int_equal(ask(q, m), IKE_OK);
	halt();
	set7.switched_ns = link7.switched_ns = now_ns();
	ike_tick(k, now_ns());
	assert_int_equal(n_removed, 0); /* the last packets of the old ones are on their way */
	ike_tick(k, now_ns() + 3 * UINT64_C(1000000000));
	assert_int_equal(n_removed, 2);
	assert_non_null(sad_find(&link7, SA_IN, 0x2000));
	door_free(q);
	gone();
}

/* Nobody takes over: orphans have a minute. */
static void orphans_end(void **state)
{
	struct door *p = door_new(path, 11), *q = door_new(path, 12);

	assert_int_equal(ask(p, an_add(0x1000, true)), IKE_OK);
	door_free(p);
	get_spi(q);
	halt();
	ike_tick(k, now_ns());
	ike_tick(k, now_ns() + (IKE_ORPHAN_S - 1) * UINT64_C(1000000000));
	assert_int_equal(n_removed, 0);
	ike_tick(k, now_ns() + (IKE_ORPHAN_S + 1) * UINT64_C(1000000000));
	assert_int_equal(n_removed, 1);
	door_free(q);
	gone();
}

/* ipsecd goes and another comes: requests find it by themselves, and the plugin is told that all is lost. */
static void a_new_ipsecd(void **state)
{
	struct door *p = door_new(path, 11);
	struct ike_msg m;
	int n = 0;

	get_spi(p);
	assert_int_equal(door_event(p, &m, 100), 0);
	halt();
	gone();
	serve();
	get_spi(p);
	for (int i = 0; i < 100 && !n; i++)
		n = door_event(p, &m, 10) == 2;
	assert_int_equal(n, 1);
	door_free(p);
	halt();
	gone();
}

/* ---- a client that misbehaves ---- */

static int raw(void)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	strcpy(sa.sun_path, path);
	assert_return_code(connect(fd, (struct sockaddr *)&sa, sizeof sa), errno);
	return fd;
}

static bool hung_up(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint8_t buf[IKE_RECORD_MAX];

	assert_int_equal(poll(&p, 1, 2000), 1);
	return recv(fd, buf, sizeof buf, 0) <= 0;
}

static bool refused(struct ike_msg *m)
{
	int fd = raw();
	bool ended;

	assert_int_equal(put(fd, m), 0);
	ended = hung_up(fd);
	close(fd);
	return ended;
}

static void who_may_not(void **state)
{
	struct ike_msg hello = {.head = {.type = IKE_HELLO, .generation = 5}, .hello = {.pid = getpid()}}, m;
	uint8_t junk[IKE_RECORD_MAX + 100] = {1};
	int fd;

	assert_false(refused(&hello));
	m = hello;
	m.head.generation = 0;
	assert_true(refused(&m));
	m = hello;
	m.hello.pid = 1; /* not who the kernel says */
	assert_true(refused(&m));
	m = (struct ike_msg){.head = {.type = IKE_GET_SPI, .generation = 5}};
	assert_true(refused(&m)); /* no hello */
	fd = raw();
	assert_int_equal(send(fd, junk, sizeof junk, 0), sizeof junk);
	assert_true(hung_up(fd));
	close(fd);
	fd = raw(); /* an event is no request */
	assert_int_equal(put(fd, &hello), 0);
	assert_false(hung_up(fd));
	m = (struct ike_msg){.head = {.type = IKE_ACQUIRE, .generation = 5}};
	assert_int_equal(put(fd, &m), 0);
	assert_true(hung_up(fd));
	close(fd);
	halt();
	gone();
}

/* ---- an ipsecd that misbehaves ---- */

static int fake_listen(void)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	halt();
	gone();
	strcpy(sa.sun_path, path);
	assert_return_code(bind(fd, (struct sockaddr *)&sa, sizeof sa), errno);
	assert_return_code(listen(fd, 4), errno);
	return fd;
}

/* Answers the hello, and the request with what arg is, unless its type is 0. Its head.len: where to listen. */
static void *fake_ipsecd(void *arg)
{
	struct ike_msg m, *answer = arg;
	int lfd = answer->head.len, fd = accept(lfd, NULL, NULL);

	assert_int_equal(get(fd, &m, 2000), 0);
	assert_int_equal(put(fd, &m), 0);
	assert_int_equal(get(fd, &m, 2000), 0);
	if (answer->head.type)
		put(fd, answer);
	recv(fd, &m, sizeof m, 0); /* until it gives up */
	close(fd);
	return NULL;
}

static int meet(struct ike_msg answer)
{
	struct ike_msg m = {.head = {.type = IKE_GET_SPI}};
	struct door *p;
	pthread_t t;
	int err;

	int lfd = fake_listen();

	answer.head.len = lfd;
	pthread_create(&t, NULL, fake_ipsecd, &answer);
	p = door_new(path, 11);
	err = door_call(p, &m);
	door_free(p);
	pthread_join(t, NULL);
	close(lfd);
	return err;
}

static void a_wrong_answer(void **state)
{
	assert_int_equal(meet((struct ike_msg){.head = {.type = IKE_REPLY + IKE_DEL, .seq = 1, .generation = 1}}), -EPROTO);
}

static void an_old_answer(void **state)
{
	assert_int_equal(meet((struct ike_msg){.head = {.type = IKE_REPLY + IKE_GET_SPI, .seq = 7, .generation = 1}}), -EPROTO);
}

static void no_answer(void **state)
{
	uint64_t began = now_ns();

	assert_int_equal(meet((struct ike_msg){.head = {.type = 0}}), -ETIMEDOUT);
	assert_in_range(now_ns() - began, 1900000000u, 6000000000u);
}

static void no_ipsecd(void **state)
{
	struct ike_msg m = an_add(0x1000, true);
	struct door *p = door_new("/nonexistent/door", 11);
	uint8_t zero[IKE_KEY_MAX] = {0};

	assert_int_equal(door_call(p, &m), -ENOENT);
	assert_memory_equal(m.add.enc_key, zero, sizeof zero); /* wiped all the same */
	assert_int_equal(door_event(p, &m, 1), 0);
	door_free(p);
	halt();
	gone();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_child_comes_and_goes), TEST(what_is_refused), TEST(suites_by_their_numbers), TEST(events_arrive),
		TEST(one_daemon_at_a_time),   TEST(orphans_end),     TEST(a_new_ipsecd),	    TEST(who_may_not),
		TEST(a_wrong_answer),	      TEST(an_old_answer),   TEST(no_answer),		    TEST(no_ipsecd),
		TEST(the_last_one_lingers),   TEST(a_peer_begins_anew), TEST(an_orphan_serves_until_then), TEST(two_pairs), TEST(a_silent_peer),	    TEST(a_wish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
