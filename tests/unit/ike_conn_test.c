/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A link's section as a strongSwan connection, read back by our own parser; and the client against a fake charon. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "ike_conn.h"

static char dir[64];

static const char *file(const char *name, const char *text, mode_t mode)
{
	static char path[4][128];
	static unsigned int next;
	char *p = path[next++ % 4];
	FILE *f;

	snprintf(p, sizeof path[0], "%s/%s", dir, name);
	f = fopen(p, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	chmod(p, mode);
	return p;
}

static int setup(void **state)
{
	strcpy(dir, "/tmp/ike-conn-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char cmd[96];

	snprintf(cmd, sizeof cmd, "rm -r %s", dir);
	return system(cmd);
}

static void set(struct link_conf *l, const char *key, const char *value)
{
	char err[256] = "";

	if (link_conf_set(l, key, value, err, sizeof err))
		fail_msg("%s = %s: %s", key, value, err);
}

static void a_link(struct link_conf *l)
{
	link_conf_init(l);
	strcpy(l->name, "ipsec7");
	l->number = 7;
	set(l, "path", "198.51.100.7 local 192.0.2.1 encap udp");
	set(l, "ike", "east");
}

/* The messages as one array [cmd, message, ...]; NULL when refused. */
static json_t *calls_heard(const struct link_conf *l, const struct ike_heard *heard, char *words, size_t n)
{
	FILE *errs = fmemopen(words, n, "w");
	json_t *all = json_array(), *j;
	struct ike_call *list;
	int err = ike_conn_calls(l, heard, &list, errs);

	fclose(errs);
	for (struct ike_call *c = list; c; c = c->next) {
		assert_false(c->msg.bad);
		assert_int_equal(vici_parse(c->msg.p, c->msg.len, &j), 0);
		json_array_append_new(all, json_string(c->cmd));
		json_array_append_new(all, j);
	}
	ike_call_free(list);
	if (!err)
		return all;
	json_decref(all);
	return NULL;
}

static json_t *calls(const struct link_conf *l, char *words, size_t n)
{
	return calls_heard(l, NULL, words, n);
}

static void is(json_t *o, const char *path, const char *want)
{
	char buf[128], *save = NULL;
	const char *got;

	snprintf(buf, sizeof buf, "%s", path);
	for (char *s = strtok_r(buf, ".", &save); s; s = strtok_r(NULL, ".", &save))
		o = json_is_array(o) ? json_array_get(o, atoi(s)) : json_object_get(o, s);
	got = json_string_value(o);
	if (!got || strcmp(got, want))
		fail_msg("%s is %s, not %s", path, got ? got : "not there", want);
}

static void a_shared_secret(void **state)
{
	struct link_conf l;
	char words[512] = "";
	json_t *all;

	a_link(&l);
	set(&l, "ike-psk", file("psk", "0123456789abcdef\n", 0600));
	set(&l, "ike-rekey", "100s");
	all = calls(&l, words, sizeof words);
	assert_non_null(all);
	assert_int_equal(json_array_size(all), 4);
	is(all, "0", "load-shared");
	is(all, "1.data", "0123456789abcdef");
	is(all, "1.owners.0", "198.51.100.7");
	is(all, "2", "load-conn");
	is(all, "3.east.remote_addrs.0", "198.51.100.7");
	is(all, "3.east.local_addrs.0", "192.0.2.1");
	is(all, "3.east.encap", "yes");
	is(all, "3.east.local.auth", "psk");
	is(all, "3.east.remote.id", "198.51.100.7");
	is(all, "3.east.children.east.policies", "no");
	is(all, "3.east.children.east.if_id_in", "7");
	is(all, "3.east.children.east.if_id_out", "7");
	is(all, "3.east.children.east.esp_proposals.0", "aes256gcm16-ecp384-esn");
	is(all, "3.east.children.east.local_ts.1", "::/0");
	is(all, "3.east.children.east.rekey_time", "100s");
	is(all, "3.east.children.east.life_time", "110s");
	is(all, "3.east.children.east.start_action", "none");
	json_decref(all);
	set(&l, "ike-start", "no");
	set(&l, "ike-id", "west.example");
	set(&l, "ike-peer-id", "east.example");
	all = calls(&l, words, sizeof words);
	is(all, "1.owners.0", "east.example");
	is(all, "3.east.local.id", "west.example");
	is(all, "3.east.remote.id", "east.example");
	is(all, "3.east.children.east.start_action", "none");
	json_decref(all);
	set(&l, "ike-start", "on-demand");
	all = calls(&l, words, sizeof words);
	is(all, "3.east.children.east.start_action", "trap");
	is(all, "3.east.keyingtries", "1");
	assert_false(ike_conn_begins(&l));
	json_decref(all);
	link_conf_free(&l);
}

/* A road warrior is called back where it was, through its NAT's mapping, and may come from elsewhere. */
static void who_called_is_called_back(void **state)
{
	struct ike_heard h = {.port = 1027};
	char words[512] = "";
	struct link_conf l;
	json_t *all;

	addr_parse("203.0.113.9", &h.at);
	link_conf_init(&l);
	strcpy(l.name, "ipsec7");
	set(&l, "path", "any");
	set(&l, "ike", "west");
	set(&l, "ike-peer-id", "west.example");
	set(&l, "ike-psk", file("psk", "0123456789abcdef", 0600));
	assert_false(ike_conn_knows_peer(&l) || ike_conn_begins(&l));
	all = calls_heard(&l, &h, words, sizeof words);
	is(all, "3.west.remote_addrs.0", "203.0.113.9");
	is(all, "3.west.remote_addrs.1", "%any");
	is(all, "3.west.local_port", "4500");
	is(all, "3.west.remote_port", "1027");
	is(all, "3.west.keyingtries", "1");
	json_decref(all);
	h.port = 0;
	all = calls_heard(&l, &h, words, sizeof words);
	assert_null(json_object_get(json_object_get(json_array_get(all, 3), "west"), "remote_port"));
	json_decref(all);
	all = calls(&l, words, sizeof words);
	is(all, "3.west.remote_addrs.0", "%any");
	is(all, "3.west.keyingtries", "0");
	json_decref(all);
	link_conf_free(&l);
}

static void virtual_addresses(void **state)
{
	char words[512] = "";
	struct link_conf l;
	json_t *all;

	a_link(&l);
	set(&l, "ike-psk", file("psk", "0123456789abcdef", 0600));
	set(&l, "ike-vips", "0.0.0.0, ::");
	all = calls(&l, words, sizeof words);
	is(all, "3.east.vips.0", "0.0.0.0");
	is(all, "3.east.vips.1", "::");
	is(all, "3.east.children.east.local_ts.0", "dynamic");
	is(all, "3.east.children.east.remote_ts.0", "0.0.0.0/0");
	assert_true(ike_conn_begins(&l));
	json_decref(all);
	link_conf_reset(&l, "ike-vips");
	set(&l, "ike-pool", "10.9.0.0/24 fd09::/64");
	all = calls(&l, words, sizeof words);
	is(all, "0", "load-pool");
	is(json_object_get(json_array_get(all, 1), "espwire-10.9.0.0/24"), "addrs", "10.9.0.0/24");
	is(all, "3.espwire-fd09::/64.addrs", "fd09::/64");
	is(all, "7.east.pools.1", "espwire-fd09::/64");
	is(all, "7.east.children.east.remote_ts.0", "dynamic");
	is(all, "7.east.children.east.local_ts.0", "0.0.0.0/0");
	assert_false(ike_conn_begins(&l));
	json_decref(all);
	link_conf_free(&l);
}

static void certificates(void **state)
{
	struct link_conf l;
	char words[512] = "";
	json_t *all;

	a_link(&l);
	set(&l, "ike-cert", file("cert", "CERT", 0644));
	set(&l, "ike-key", file("key", "KEY", 0600));
	set(&l, "ike-ca", file("ca", "CA", 0644));
	set(&l, "ike-peer-id", "east.example");
	all = calls(&l, words, sizeof words);
	assert_non_null(all);
	is(all, "0", "load-key");
	is(all, "1.data", "KEY");
	is(all, "3.east.local.auth", "pubkey");
	is(all, "3.east.local.certs.0", "CERT");
	is(all, "3.east.remote.cacerts.0", "CA");
	json_decref(all);
	link_conf_free(&l);
}

static void nothing_of_ours(void **state)
{
	struct link_conf l;
	char words[512] = "";
	json_t *all;

	a_link(&l);
	all = calls(&l, words, sizeof words);
	assert_int_equal(json_array_size(all), 0);
	json_decref(all);
	link_conf_free(&l);
}

/* What is refused says why, and never what is in the file. */
static void refused(void **state)
{
	static const struct {
		const char *text;
		mode_t mode;
		const char *why;
	} rows[] = {
		{"0123456789abcdef", 0640, "chmod 600"},
		{"sixteen-missing", 0600, "16 to 4096"},
		{"", 0600, "empty"},
	};
	struct link_conf l;
	char words[512];

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		a_link(&l);
		set(&l, "ike-psk", file("psk", rows[i].text, rows[i].mode));
		memset(words, 0, sizeof words);
		assert_null(calls(&l, words, sizeof words));
		assert_non_null(strstr(words, rows[i].why));
		assert_non_null(strstr(words, "ipsec7: /tmp/"));
		assert_true(!rows[i].text[0] || !strstr(words, rows[i].text));
		link_conf_free(&l);
	}
	a_link(&l);
	set(&l, "ike-psk", "/nonexistent/psk");
	assert_null(calls(&l, words, sizeof words));
	assert_non_null(strstr(words, "No such file"));
	link_conf_free(&l);
}

/* ---- vici ---- */

static void what_is_parsed(void **state)
{
	static const uint8_t good[] = {3, 1, 'a', 0, 1, 'x', 4, 1, 'l', 5, 0, 0, 5, 0, 1, 0xff, 6, 1, 1, 's', 2};
	json_t *j;

	assert_int_equal(vici_parse(good, sizeof good, &j), 0);
	is(j, "a", "x");
	is(j, "l.1", "?");
	assert_true(json_is_object(json_object_get(j, "s")));
	json_decref(j);
	for (size_t n = 0; n < sizeof good; n++) {
		bool whole = n == 0 || n == 6 || n == 17;

		assert_int_equal(vici_parse(good, n, &j), whole ? 0 : -EBADMSG);
		json_decref(whole ? j : NULL);
	}
	assert_int_equal(vici_parse((const uint8_t *)"\2", 1, &j), -EBADMSG);
	assert_int_equal(vici_parse((const uint8_t *)"\7", 1, &j), -EBADMSG);
}

static void too_deep(void **state)
{
	struct vici m = {0};
	json_t *j;

	for (int i = 0; i < VICI_DEPTH_MAX + 1; i++)
		vici_open_section(&m, "s");
	for (int i = 0; i < VICI_DEPTH_MAX + 1; i++)
		vici_close_section(&m);
	assert_int_equal(vici_parse(m.p, m.len, &j), -EBADMSG);
	vici_free(&m);
}

static void too_long(void **state)
{
	static uint8_t big[65536];
	struct vici m = {0};

	vici_put_bytes(&m, "k", big, sizeof big - 1);
	assert_false(m.bad);
	vici_put_bytes(&m, "k", big, sizeof big);
	assert_true(m.bad);
	vici_free(&m);
	for (int i = 0; i < 9; i++)
		vici_put_bytes(&m, "k", big, sizeof big - 1);
	assert_true(m.bad);
	vici_free(&m);
}

struct script {
	int fd;
	const char *bytes; /* what the fake charon sends whatever it is asked */
	size_t len;
};

static void *charon(void *arg)
{
	struct script *s = arg;
	char buf[256];

	if (recv(s->fd, buf, sizeof buf, 0) > 0)
		send(s->fd, s->bytes, s->len, MSG_NOSIGNAL);
	while (recv(s->fd, buf, sizeof buf, 0) > 0)
		;
	close(s->fd);
	return NULL;
}

static int talk(const char *bytes, size_t len, const char *event, json_t **events, json_t **reply)
{
	struct script s = {.bytes = bytes, .len = len};
	pthread_t t;
	int fds[2], err;

	assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), errno);
	s.fd = fds[1];
	err = fcntl(fds[1], F_SETFL, 0);
	assert_return_code(err, errno);
	pthread_create(&t, NULL, charon, &s);
	err = vici_call(fds[0], "frob", NULL, event, events, reply, 300);
	close(fds[0]);
	pthread_join(t, NULL);
	return err;
}

static void answers(void **state)
{
	static const char ok[] = "\0\0\0\x0f\1\3\7success\0\3yes", unknown[] = "\0\0\0\1\2", huge[] = "\x7f\0\0\0",
			  odd[] = "\0\0\0\1\5", streamed[] = "\0\0\0\1\5" "\0\0\0\x0a\7\2sa\3\1a\0\1b" "\0\0\0\1\1" "\0\0\0\1\5";
	json_t *reply, *events;

	assert_int_equal(talk(ok, sizeof ok - 1, NULL, NULL, &reply), 0);
	is(reply, "success", "yes");
	json_decref(reply);
	assert_int_equal(talk(streamed, sizeof streamed - 1, "sa", &events, &reply), 0);
	is(events, "0.a", "b");
	json_decref(events);
	json_decref(reply);
	assert_int_equal(talk(unknown, sizeof unknown - 1, NULL, NULL, &reply), -ENOSYS);
	assert_int_equal(talk(huge, sizeof huge - 1, NULL, NULL, &reply), -EPROTO);
	assert_int_equal(talk(odd, sizeof odd - 1, NULL, NULL, &reply), -EPROTO);
	assert_int_equal(talk(ok, 9, NULL, NULL, &reply), -ETIMEDOUT);
	assert_null(reply);
	assert_int_equal(vici_connect("/nonexistent/vici"), -ENOENT);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_shared_secret), TEST(who_called_is_called_back), TEST(virtual_addresses), TEST(certificates), TEST(nothing_of_ours), TEST(refused),
		cmocka_unit_test(what_is_parsed), cmocka_unit_test(too_deep), cmocka_unit_test(too_long), cmocka_unit_test(answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
