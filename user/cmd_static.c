/* SPDX-License-Identifier: GPL-2.0-or-later */
/* static init, static pair, release: files and kernel state; no daemon needed. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "ctl.h"
#include "ledger.h"
#include "release.h"
#include "safile.h"

struct errs {
	char *text;
	size_t len;
	FILE *f;
};

static FILE *errs_open(struct errs *e)
{
	*e = (struct errs){0};
	e->f = open_memstream(&e->text, &e->len);
	return e->f;
}

static const char *errs_close(struct errs *e)
{
	if (e->f)
		fclose(e->f);
	e->f = NULL;
	while (e->len && e->text[e->len - 1] == '\n')
		e->text[--e->len] = 0;
	return e->text ? e->text : "";
}

/* ---- static init ---- */

static int make_state_dir(const char *dir)
{
	char buf[PATHS_LEN];

	snprintf(buf, sizeof buf, "%s", dir);
	for (char *p = buf + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		if (mkdir(buf, 0755) && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(buf, 0700) && errno != EEXIST ? -errno : 0;
}

/* Return: 0 made, -EEXIST was there, -errno. */
static int init_one(const char *dir, const struct sa_conf *sa, FILE *errs)
{
	return ledger_create(dir, sa, errs);
}

static int init_both(const char *dir, const char *file, FILE *errs, int *made)
{
	struct sa_conf out = {0}, in = {0};
	int err = safile_load(file, &out, &in, errs), e1, e2;

	*made = 0;
	if (err)
		return err;
	e1 = init_one(dir, &out, errs);
	e2 = e1 && e1 != -EEXIST ? 0 : init_one(dir, &in, errs);
	*made = !e1 + !e2;
	sa_conf_wipe(&out);
	sa_conf_wipe(&in);
	if (e1 && e1 != -EEXIST)
		return e1;
	return e2 == -EEXIST ? 0 : e2;
}

/* A running daemon that refused these SAs may try again; none running is fine. */
static json_t *tell_daemon(struct ctl *c, const char *file)
{
	char full[PATHS_LEN];
	json_t *r, *links = NULL;

	if (!realpath(file, full))
		return json_array();
	r = ctl_request(c, "sa-reload", json_pack("{s:s}", "file", full));
	links = json_incref(jat(r, "links"));
	json_decref(r);
	return links ? links : json_array();
}

static int init_file(struct ctl *c, const char *dir, const char *file, json_t *done)
{
	struct errs e;
	json_t *o, *links;
	int err, made;

	if (!errs_open(&e))
		return ctl_fail(c, EXIT_RUNTIME, "no-memory", NULL, "out of memory");
	err = init_both(dir, file, e.f, &made);
	errs_close(&e);
	if (err) {
		err = ctl_fail(c, err == -ENOENT ? EXIT_NOT_FOUND : EXIT_RUNTIME, "not-initialised",
			       "ipsecctl static pair makes key files that work", "%s",
			       e.text && *e.text ? e.text : strerror(-err));
		free(e.text);
		return err;
	}
	free(e.text);
	links = made ? tell_daemon(c, file) : json_array();
	if (!c->json)
		printf("%s: %s in %s%s\n", file,
		       made ? "durable state made" : "durable state exists and is kept", dir,
		       json_array_size(links) ? "; the running daemon uses it" : "");
	o = json_pack("{s:s, s:b, s:o}", "file", file, "made", made, "links", links);
	json_array_append_new(done, o);
	return 0;
}

int cmd_static_init(struct ctl *c, int argc, char **argv)
{
	const char *dir = ctl_opt(c, "--state") ? ctl_opt(c, "--state") : c->state;
	json_t *done = json_array(), *r;
	int err = make_state_dir(dir), code = 0;

	if (err)
		code = ctl_fail(c, err == -EACCES ? EXIT_POLICY : EXIT_RUNTIME, "no-state-dir",
				"sudo ipsecctl static init ...", "%s: %s", dir, strerror(-err));
	for (int i = 0; i < argc && !code; i++)
		code = init_file(c, dir, argv[i], done);
	if (!code && c->json) {
		r = ctl_ok(c);
		json_object_set_new(r, "state_dir", json_string(dir));
		json_object_set(r, "files", done);
		ctl_print_json(r);
		json_decref(r);
	}
	json_decref(done);
	return code;
}

/* ---- static pair ---- */

/* struct side - one host of a new pair: its name, its file, what the example calls its addresses */
struct side {
	const char *host, *file, *own, *wild;
};

/* What this host has to do. transport: one address for raw packets and envelopes, so a mark tells them apart. */
static void one_side(int n, const struct side *me, const struct side *peer, enum sa_mode mode)
{
	printf("%d. On %s, bring %s there as /etc/ipsec/%s.sa (scp; 0600; by a way you trust), then\n"
	       "     ipsecctl static init /etc/ipsec/%s.sa\n",
	       n, me->host, me->file, peer->host, peer->host);
	if (mode == SA_TRANSPORT)
		printf("     ip rule add fwmark 0x51 lookup 51\n"
		       "     ip route add default via GATEWAY table 51\n");
	printf("%s     [link ipsec1]\n"
	       "     peer    = %s\n"
	       "     address = %s peer %s\n"
	       "     path    = %s encap udp%s\n"
	       "     sa      = file:/etc/ipsec/%s.sa\n\n",
	       n == 1 ? "   and append to /etc/ipsec/ipsecd.conf:\n" : "", peer->host, me->own, peer->own,
	       peer->wild, mode == SA_TRANSPORT ? " fwmark 0x51 table 51" : "", peer->host);
}

static const char *warning(const struct aead_desc *d)
{
	if (!aead_encrypts(d->kind))
		return "This suite authenticates and does not encrypt: whoever taps the wire reads "
		       "every packet.\n";
	if (d->iv_counter)
		return "A key copied to a third place can repeat a nonce, which breaks this suite for "
		       "good.\nWhere that may happen: --alg aes-cbc-256-hmac-sha2-256, whose IVs are "
		       "random.\n";
	return "";
}

static void next_steps(const struct side *a, const struct side *b, const struct aead_desc *d,
		       enum sa_mode mode)
{
	printf("%s is for %s, %s is for %s. Next, as root:\n\n", a->file, a->host, b->file, b->host);
	one_side(1, a, b, mode);
	one_side(2, b, a, mode);
	printf("3. On both: systemctl enable --now ipsecd@default (or ipsecctl apply when it runs), "
	       "then\n"
	       "     ipsecctl\n"
	       "     ping %s\n",
	       b->own);
	if (mode == SA_TUNNEL)
		printf("   and route what you like: ip route add 10.2.0.0/16 dev ipsec1\n");
	printf("\nStatic keys are for labs: no forward secrecy. Never use one pair on two pairs of "
	       "hosts. IKE is next.\n%s",
	       warning(d));
}

/* Host names become file and directory names. */
static bool host_ok(const char *s)
{
	size_t n = strlen(s);

	return n && n < PEER_NAME_MAX && *s != '.' && *s != '-' &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == n;
}

static int pick_mode(const char *name, enum sa_mode *mode)
{
	*mode = name && !strcmp(name, "transport") ? SA_TRANSPORT : SA_TUNNEL;
	return *mode == SA_TUNNEL && name && strcmp(name, "tunnel") ? -EINVAL : 0;
}

/* In transport mode the addresses of the link are the hosts' own. */
static void say_next(char **argv, const char *file_a, const char *file_b, const struct aead_desc *d,
		     enum sa_mode mode)
{
	char wild[2][PEER_NAME_MAX + 16];
	struct side a = {argv[0], file_a, "10.9.0.1", wild[0]},
		    b = {argv[1], file_b, "10.9.0.2", wild[1]};

	for (int i = 0; i < 2; i++)
		snprintf(wild[i], sizeof wild[i], "ADDRESS-OF-%s", argv[i]);
	if (mode == SA_TRANSPORT) {
		a.own = a.wild;
		b.own = b.wild;
	}
	next_steps(&a, &b, d, mode);
}

static json_t *pair_json(struct ctl *c, char **argv, const char *file_a, const char *file_b,
			 const struct aead_desc *d, enum sa_mode mode)
{
	json_t *r = ctl_ok(c);

	json_object_set_new(r, "alg", json_string(d->name));
	json_object_set_new(r, "mode", json_string(mode == SA_TRANSPORT ? "transport" : "tunnel"));
	json_object_set_new(r, "files",
			    json_pack("[{s:s, s:s}, {s:s, s:s}]", "host", argv[0], "file", file_a,
				      "host", argv[1], "file", file_b));
	return r;
}

int cmd_static_pair(struct ctl *c, int argc, char **argv)
{
	const char *dir = ctl_opt(c, "--output"), *alg = ctl_opt(c, "--alg");
	const struct aead_desc *d = aead_by_name(alg ? alg : "aes-gcm-256");
	char file_a[PATHS_LEN], file_b[PATHS_LEN];
	enum sa_mode mode;
	struct errs e;
	json_t *r;
	int err;

	if (!d)
		return ctl_usage(c, "--alg %s: %s", alg, aead_refusal(alg));
	if (pick_mode(ctl_opt(c, "--mode"), &mode))
		return ctl_usage(c, "--mode %s: tunnel or transport", ctl_opt(c, "--mode"));
	if (!host_ok(argv[0]) || !host_ok(argv[1]) || !strcmp(argv[0], argv[1]))
		return ctl_usage(c, "static pair wants two different host names of letters, digits, "
				    "'-', '_' and '.'");
	if (!errs_open(&e))
		return ctl_fail(c, EXIT_RUNTIME, "no-memory", NULL, "out of memory");
	err = safile_pair(dir ? dir : ".", argv[0], argv[1], d->alg, mode, file_a, file_b, e.f);
	errs_close(&e);
	if (err)
		err = ctl_fail(c, EXIT_RUNTIME, "not-written",
			       "-o DIR writes elsewhere; nothing is overwritten", "%s",
			       e.text && *e.text ? e.text : strerror(-err));
	free(e.text);
	if (err)
		return err;
	if (!c->json) {
		say_next(argv, file_a, file_b, d, mode);
		return EXIT_OK_;
	}
	r = pair_json(c, argv, file_a, file_b, d, mode);
	ctl_print_json(r);
	json_decref(r);
	return EXIT_OK_;
}

/* ---- release ---- */

static bool asked(const struct ctl *c)
{
	char answer[16] = "";

	printf("Releasing instance %s removes its links and everything that keeps protected "
	       "prefixes from\n"
	       "leaving in the clear. Type yes to go on: ",
	       c->instance);
	fflush(stdout);
	return fgets(answer, sizeof answer, stdin) && !strcmp(answer, "yes\n");
}

int cmd_release(struct ctl *c, int argc, char **argv)
{
	struct errs e;
	json_t *r;
	int err;

	if (!ctl_opt(c, "--yes") && (c->json || !isatty(STDIN_FILENO) || !asked(c)))
		return ctl_fail(c, EXIT_POLICY, "not-confirmed", "ipsecctl release --yes",
				"nothing was released");
	if (geteuid())
		return ctl_fail(c, EXIT_POLICY, "not-permitted", "sudo ipsecctl release",
				"release is for root");
	if (!errs_open(&e))
		return ctl_fail(c, EXIT_RUNTIME, "no-memory", NULL, "out of memory");
	err = release_instance(c->instance, e.f);
	errs_close(&e);
	if (err)
		err = ctl_fail(c, err == -EBUSY ? EXIT_POLICY : EXIT_RUNTIME,
			       err == -EBUSY ? "daemon-running" : "not-all-released",
			       err == -EBUSY ? "systemctl stop ipsecd@INSTANCE" : "ipsecctl doctor",
			       "%s", e.text && *e.text ? e.text : strerror(-err));
	free(e.text);
	if (err)
		return err;
	r = ctl_ok(c);
	if (c->json)
		ctl_print_json(r);
	else
		printf("instance %s released\n", c->instance);
	json_decref(r);
	return EXIT_OK_;
}
