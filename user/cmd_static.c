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

static void next_steps(const char *a, const char *b, const char *file_a, const char *file_b,
		       const struct aead_desc *d)
{
	printf("%s is for %s, %s is for %s. Next, as root:\n\n"
	       "1. On %s, bring %s there as /etc/ipsec/%s.sa (scp; 0600; by a way you trust), "
	       "then\n"
	       "     ipsecctl static init /etc/ipsec/%s.sa\n"
	       "   and append to /etc/ipsec/ipsecd.conf:\n"
	       "     [link ipsec1]\n"
	       "     peer    = %s\n"
	       "     address = 10.9.0.1 peer 10.9.0.2\n"
	       "     path    = ADDRESS-OF-%s encap udp\n"
	       "     sa      = file:/etc/ipsec/%s.sa\n\n",
	       file_a, a, file_b, b, a, file_a, b, b, b, b, b);
	printf("2. On %s, bring %s there as /etc/ipsec/%s.sa, then\n"
	       "     ipsecctl static init /etc/ipsec/%s.sa\n"
	       "     [link ipsec1]\n"
	       "     peer    = %s\n"
	       "     address = 10.9.0.2 peer 10.9.0.1\n"
	       "     path    = ADDRESS-OF-%s encap udp\n"
	       "     sa      = file:/etc/ipsec/%s.sa\n\n"
	       "3. On both: systemctl enable --now ipsecd@default (or ipsecctl apply when it "
	       "runs), then\n"
	       "     ipsecctl\n"
	       "     ping 10.9.0.2\n"
	       "   and route what you like: ip route add 10.2.0.0/16 dev ipsec1\n\n"
	       "Static keys are for labs: no forward secrecy. Never use one pair on two pairs of "
	       "hosts. IKE is next.\n%s",
	       b, file_b, a, a, a, a, a,
	       d->kind == AEAD_MAC ? "This suite authenticates and does not encrypt: whoever taps the "
				     "wire reads every packet.\n" :
	       d->iv_counter ? "A key copied to a third place can repeat a nonce, which breaks this "
			       "suite for good.\nWhere that may happen: --alg "
			       "aes-cbc-256-hmac-sha2-256, whose IVs are random.\n" :
			       "");
}

/* Host names become file and directory names. */
static bool host_ok(const char *s)
{
	size_t n = strlen(s);

	return n && n < PEER_NAME_MAX && *s != '.' && *s != '-' &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == n;
}

int cmd_static_pair(struct ctl *c, int argc, char **argv)
{
	const char *dir = ctl_opt(c, "--output"), *alg = ctl_opt(c, "--alg");
	const struct aead_desc *d = aead_by_name(alg ? alg : "aes-gcm-256");
	char file_a[PATHS_LEN], file_b[PATHS_LEN];
	struct errs e;
	json_t *r;
	int err;

	if (!d)
		return ctl_usage(c, "--alg %s: %s", alg, aead_refusal(alg));
	if (!host_ok(argv[0]) || !host_ok(argv[1]) || !strcmp(argv[0], argv[1]))
		return ctl_usage(c, "static pair wants two different host names of letters, "
				    "digits, '-', '_' and '.'");
	if (!errs_open(&e))
		return ctl_fail(c, EXIT_RUNTIME, "no-memory", NULL, "out of memory");
	err = safile_pair(dir ? dir : ".", argv[0], argv[1], d->alg, file_a, file_b, e.f);
	errs_close(&e);
	if (err)
		err = ctl_fail(c, EXIT_RUNTIME, "not-written",
			       "-o DIR writes elsewhere; nothing is overwritten", "%s",
			       e.text && *e.text ? e.text : strerror(-err));
	free(e.text);
	if (err)
		return err;
	if (!c->json) {
		next_steps(argv[0], argv[1], file_a, file_b, d);
		return EXIT_OK_;
	}
	r = ctl_ok(c);
	json_object_set_new(r, "alg", json_string(d->name));
	json_object_set_new(r, "files",
			    json_pack("[{s:s, s:s}, {s:s, s:s}]", "host", argv[0], "file", file_a,
				      "host", argv[1], "file", file_b));
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
