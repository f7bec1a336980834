/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "ike_conn.h"
#include "log.h"

enum { SECRET_MAX = 4096, FILE_MAX = 60000, CALL_MS = 10000, TRIES = 100, TRY_US = 100000,
       WINDOW = 4096, DPD_S = 30, LIFE_SLACK = 10 /* per cent: a child lives that much longer than until its renewal */ };
#define IKE_PROPOSAL "aes256gcm16-prfsha384-ecp384"
#define ESP_PROPOSAL "aes256gcm16-ecp384-esn" /* AES-256-GCM, a fresh exchange at every renewal, 64 bit numbers */

/* struct refusal - a connection that strongSwan does not have as its section says it */
struct refusal {
	struct refusal *next;
	char name[64], why[256];
};

struct ike_conn {
	char vici[SOCKET_PATH_MAX];
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct ike_call *first;   /* under lock, like what follows */
	char doing[64];           /* whose call is at hand, "" = none is */
	struct refusal *refusals;
	_Atomic bool stop;        /* set under lock, too */
};

/* ---- what was refused ---- */

/* Under lock. */
static void forgive(struct ike_conn *c, const char *name)
{
	struct refusal **at = &c->refusals, *r;

	while ((r = *at)) {
		if (strcmp(r->name, name)) {
			at = &r->next;
			continue;
		}
		*at = r->next;
		free(r);
	}
}

static void note_refusal(struct ike_conn *c, const char *name, const char *why)
{
	struct refusal *r = calloc(1, sizeof *r);

	if (!r)
		return;
	snprintf(r->name, sizeof r->name, "%s", name);
	snprintf(r->why, sizeof r->why, "%s", why);
	pthread_mutex_lock(&c->lock);
	forgive(c, name);
	r->next = c->refusals;
	c->refusals = r;
	pthread_mutex_unlock(&c->lock);
}

enum ike_told ike_conn_told(struct ike_conn *c, const char *name, char *why, size_t len)
{
	enum ike_told told = IKE_TOLD_YES;

	*why = 0;
	pthread_mutex_lock(&c->lock);
	for (const struct refusal *r = c->refusals; r; r = r->next) {
		if (strcmp(r->name, name))
			continue;
		told = IKE_TOLD_REFUSED;
		snprintf(why, len, "%s", r->why);
	}
	for (const struct ike_call *call = c->first; call; call = call->next)
		if (!strcmp(call->name, name))
			told = IKE_TOLD_NOT_YET;
	if (!strcmp(c->doing, name))
		told = IKE_TOLD_NOT_YET;
	pthread_mutex_unlock(&c->lock);
	return told;
}

/* ---- files ---- */

/* struct blob - a file's bytes; wiped when freed */
struct blob {
	char *p;
	size_t len;
};

static void blob_free(struct blob *b)
{
	if (b->p)
		explicit_bzero(b->p, b->len);
	free(b->p);
	*b = (struct blob){0};
}

static int blame(const struct link_conf *l, const char *file, const char *what, int err, FILE *errs)
{
	fprintf(errs, "%s: %s: %s\n", l->name, file, what ? what : strerror(-err));
	return err;
}

static int slurp(const struct link_conf *l, const char *file, bool secret, struct blob *b, FILE *errs)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), err = 0;
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return blame(l, file, NULL, -errno, errs);
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > FILE_MAX || !st.st_size)
		err = blame(l, file, "no regular file, empty, or too long", -EINVAL, errs);
	else if (secret && (st.st_mode & 077 || st.st_uid != geteuid()))
		err = blame(l, file, "holds a secret: chown root, chmod 600", -EPERM, errs);
	b->len = err ? 0 : (size_t)st.st_size;
	b->p = err ? NULL : malloc(b->len);
	if (!err && !b->p)
		err = blame(l, file, NULL, -ENOMEM, errs);
	n = err ? 0 : read(fd, b->p, b->len);
	if (!err && n != (ssize_t)b->len)
		err = blame(l, file, NULL, n < 0 ? -errno : -EIO, errs);
	close(fd);
	if (err)
		blob_free(b);
	return err;
}

/* ---- messages ---- */

static struct ike_call *call_new(struct ike_call ***end, const char *cmd, const char *name)
{
	struct ike_call *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->cmd = cmd;
	snprintf(c->name, sizeof c->name, "%s", name);
	**end = c;
	*end = &c->next;
	return c;
}

void ike_call_free(struct ike_call *list)
{
	while (list) {
		struct ike_call *next = list->next;

		vici_free(&list->msg);
		free(list);
		list = next;
	}
}

static void put_addrs(struct vici *m, const struct link_conf *l, bool local, const struct ike_heard *heard)
{
	char buf[INET6_ADDRSTRLEN];
	unsigned int n = 0;

	vici_open_list(m, local ? "local_addrs" : "remote_addrs");
	if (heard) { /* and from anywhere, below */
		addr_str(&heard->at, buf);
		vici_item(m, buf, strlen(buf));
	}
	for (unsigned int i = 0; i < l->n_paths; i++) {
		const struct path_conf *p = &l->paths[i];
		const char *s = p->host;

		if (local ? !p->has_local : p->any)
			continue;
		if (local || !p->host[0])
			s = addr_str(local ? &p->local : &p->remote, buf);
		vici_item(m, s, strlen(s));
		n++;
	}
	if (!n)
		vici_item(m, "%any", 4);
	vici_close_list(m);
}

static bool wants_udp(const struct link_conf *l)
{
	return l->n_paths && l->paths[0].encap == ENCAP_UDP;
}

bool ike_conn_knows_peer(const struct link_conf *l)
{
	for (unsigned int i = 0; i < l->n_paths; i++)
		if (!l->paths[i].any)
			return true;
	return false;
}

/* "dynamic" is the virtual address that was given; routes and `inner` decide about the rest. */
static void put_ts(struct vici *m, const char *side, bool is_given)
{
	vici_list(m, side, is_given ? "dynamic" : "0.0.0.0/0", is_given ? NULL : "::/0");
}

static void put_child(struct vici *m, const struct link_conf *l)
{
	const struct ike_auth *a = &l->auth;

	vici_open_section(m, "children");
	vici_open_section(m, l->ike);
	vici_put(m, "mode", "tunnel");
	vici_put(m, "policies", "no");
	vici_put(m, "if_id_in", "%u", l->number);
	vici_put(m, "if_id_out", "%u", l->number);
	put_ts(m, "local_ts", l->ike_vips.n);
	put_ts(m, "remote_ts", l->ike_pool.n);
	vici_list(m, "esp_proposals", a->esp[0] ? a->esp : ESP_PROPOSAL, NULL);
	vici_put(m, "replay_window", "%u", WINDOW);
	vici_put(m, "rekey_time", "%us", a->rekey_s);
	vici_put(m, "life_time", "%us", a->rekey_s + MAX(a->rekey_s / LIFE_SLACK, 5u));
	vici_put(m, "rand_time", "%us", a->rekey_s / LIFE_SLACK);
	/* ike_tick() begins, and begins anew, whatever ended it; or asks for one by an ACQUIRE, and that needs a trap */
	vici_put(m, "start_action", l->auth.start == IKE_START_DEMAND ? "trap" : "none");
	vici_put(m, "dpd_action", "clear");
	vici_close_section(m);
	vici_close_section(m);
}

/* Without a word about it: the address that the link leads to. A secret is for one peer. */
static const char *peer_id(const struct link_conf *l, char *buf)
{
	const struct path_conf *p = l->n_paths ? &l->paths[0] : NULL;

	if (l->auth.peer_id[0])
		return l->auth.peer_id;
	return p && !p->any && !p->host[0] ? addr_str(&p->remote, buf) : NULL;
}

/* struct says - what a connection is made of, beside the link's section */
struct says {
	struct blob cert, ca;
	const struct ike_heard *heard;
};

static void put_auth(struct vici *m, const struct link_conf *l, const struct says *s)
{
	const struct ike_auth *a = &l->auth;
	const char *how = a->psk[0] ? "psk" : "pubkey";
	char id[INET6_ADDRSTRLEN];

	vici_open_section(m, "local");
	vici_put(m, "auth", "%s", how);
	if (a->id[0])
		vici_put(m, "id", "%s", a->id);
	if (s->cert.p)
		vici_list_bytes(m, "certs", s->cert.p, s->cert.len);
	vici_close_section(m);
	vici_open_section(m, "remote");
	vici_put(m, "auth", "%s", how);
	if (peer_id(l, id))
		vici_put(m, "id", "%s", peer_id(l, id));
	if (s->ca.p)
		vici_list_bytes(m, "cacerts", s->ca.p, s->ca.len);
	vici_close_section(m);
}

/* A mapping of its NAT leads to it, and is made for packets from our port 4500. */
static void put_heard(struct vici *m, const struct ike_heard *h)
{
	if (h->port) {
		vici_put(m, "local_port", "4500");
		vici_put(m, "remote_port", "%u", h->port);
	}
	vici_put(m, "keyingtries", "1");
}

/* Links that say the same prefix share the pool: its name is what it holds. */
static const char *pool_name(const struct prefix *p, char *buf, size_t len)
{
	char text[INET6_ADDRSTRLEN + 4];

	snprintf(buf, len, "espwire-%s", prefix_str(p, text));
	return buf;
}

enum { POOL_NAME = INET6_ADDRSTRLEN + 16 };

static int add_pools(struct ike_call ***end, const struct link_conf *l)
{
	char name[POOL_NAME], text[INET6_ADDRSTRLEN + 4];

	for (unsigned int i = 0; i < l->ike_pool.n; i++) {
		struct ike_call *c = call_new(end, "load-pool", l->ike);

		if (!c)
			return -ENOMEM;
		vici_open_section(&c->msg, pool_name(&l->ike_pool.p[i], name, sizeof name));
		vici_put(&c->msg, "addrs", "%s", prefix_str(&l->ike_pool.p[i], text));
		vici_close_section(&c->msg);
	}
	return 0;
}

static void put_vips(struct vici *m, const struct link_conf *l)
{
	char text[POOL_NAME];

	if (l->ike_vips.n) {
		vici_open_list(m, "vips");
		for (unsigned int i = 0; i < l->ike_vips.n; i++) {
			addr_str(&l->ike_vips.p[i].addr, text);
			vici_item(m, text, strlen(text));
		}
		vici_close_list(m);
	}
	if (l->ike_pool.n) {
		vici_open_list(m, "pools");
		for (unsigned int i = 0; i < l->ike_pool.n; i++) {
			pool_name(&l->ike_pool.p[i], text, sizeof text);
			vici_item(m, text, strlen(text));
		}
		vici_close_list(m);
	}
}

static int add_conn(struct ike_call ***end, const struct link_conf *l, const struct says *s)
{
	struct ike_call *c = call_new(end, "load-conn", l->ike);
	struct vici *m;

	if (!c)
		return -ENOMEM;
	m = &c->msg;
	vici_open_section(m, l->ike);
	vici_put(m, "version", "2");
	put_addrs(m, l, true, NULL);
	put_addrs(m, l, false, s->heard);
	if (s->heard)
		put_heard(m, s->heard);
	else /* another packet is another attempt */
		vici_put(m, "keyingtries", l->auth.start == IKE_START_DEMAND ? "1" : "0");
	vici_list(m, "proposals", IKE_PROPOSAL, "default");
	vici_put(m, "dpd_delay", "%us", DPD_S);
	vici_put(m, "unique", "replace");
	vici_put(m, "encap", wants_udp(l) ? "yes" : "no");
	put_vips(m, l);
	put_auth(m, l, s);
	put_child(m, l);
	vici_close_section(m);
	return 0;
}

static int add_psk(struct ike_call ***end, const struct link_conf *l, FILE *errs)
{
	char id[INET6_ADDRSTRLEN];
	struct ike_call *c;
	struct blob b = {0};
	size_t n;
	int err = slurp(l, l->auth.psk, true, &b, errs);

	if (err)
		return err;
	for (n = b.len; n && (b.p[n - 1] == '\n' || b.p[n - 1] == '\r');)
		n--;
	c = n < 16 || n > SECRET_MAX ? NULL : call_new(end, "load-shared", l->ike);
	if (c) {
		vici_put(&c->msg, "id", "espwire-%s", l->ike);
		vici_put(&c->msg, "type", "IKE");
		vici_put_bytes(&c->msg, "data", b.p, n);
		vici_list(&c->msg, "owners", peer_id(l, id), NULL);
	} else {
		err = blame(l, l->auth.psk, "a secret has 16 to 4096 characters: openssl rand -base64 32", -EINVAL, errs);
	}
	blob_free(&b);
	return err;
}

static int add_key(struct ike_call ***end, const struct link_conf *l, FILE *errs)
{
	struct ike_call *c;
	struct blob b = {0};
	int err = slurp(l, l->auth.key, true, &b, errs);

	if (err)
		return err;
	c = call_new(end, "load-key", l->ike);
	if (c) {
		vici_put(&c->msg, "type", "any");
		vici_put_bytes(&c->msg, "data", b.p, b.len);
	}
	blob_free(&b);
	return c ? 0 : -ENOMEM;
}

static int add_certs(struct ike_call ***end, const struct link_conf *l, struct says *s, FILE *errs)
{
	int err = slurp(l, l->auth.cert, false, &s->cert, errs);

	if (!err)
		err = slurp(l, l->auth.ca, false, &s->ca, errs);
	if (!err)
		err = add_key(end, l, errs);
	if (!err)
		err = add_conn(end, l, s);
	blob_free(&s->cert);
	blob_free(&s->ca);
	return err;
}

int ike_conn_calls(const struct link_conf *l, const struct ike_heard *heard, struct ike_call **list, FILE *errs)
{
	struct says s = {.heard = heard};
	struct ike_call **end = list;
	int err = 0;

	*list = NULL;
	if (l->auth.psk[0] || l->auth.cert[0])
		err = add_pools(&end, l);
	if (err)
		;
	else if (l->auth.psk[0])
		err = add_psk(&end, l, errs) ?: add_conn(&end, l, &s);
	else if (l->auth.cert[0])
		err = add_certs(&end, l, &s, errs);
	if (err) {
		ike_call_free(*list);
		*list = NULL;
	}
	return err;
}

/* ---- the thread ---- */

/* A moment after its plugin's hello strongSwan's own socket may not be there yet. */
static int reach(struct ike_conn *c, int *fd)
{
	for (int i = 0; *fd < 0 && i < TRIES && !c->stop; i++) {
		*fd = vici_connect(c->vici);
		if (*fd < 0)
			usleep(TRY_US);
	}
	return *fd < 0 ? *fd : 0;
}

/* An IKE SA that is at rest and has no child carries nothing: it is where a new child is made. */
static bool at_work(json_t *ike)
{
	const char *state = json_string_value(json_object_get(ike, "state"));

	return !state || strcmp(state, "ESTABLISHED") || json_object_size(json_object_get(ike, "child-sas")) ||
	       json_array_size(json_object_get(ike, "tasks-active")) || json_array_size(json_object_get(ike, "tasks-queued"));
}

static bool sends_by(json_t *ike, uint32_t spi)
{
	json_t *child;
	const char *key, *s;

	json_object_foreach (json_object_get(ike, "child-sas"), key, child) {
		s = json_string_value(json_object_get(child, "spi-out"));
		if (s && strtoul(s, NULL, 16) == spi)
			return true;
	}
	return false;
}

static json_t *sas_named(int fd, const char *name, int *err)
{
	json_t *reply = NULL, *sas = NULL;
	struct vici m = {0};

	vici_put(&m, "ike", "%s", name);
	vici_put(&m, "noblock", "yes");
	*err = vici_call(fd, "list-sas", &m, "list-sa", &sas, &reply, CALL_MS);
	vici_free(&m);
	json_decref(reply);
	return sas;
}

/* Is it to be said at all, and about which IKE SA? Return: 1 = no, 0 = yes, or -errno */
static int spare(int fd, struct ike_call *call)
{
	bool any = false, found = false;
	json_t *sas, *sa, *ike;
	size_t i;
	int err;

	sas = sas_named(fd, call->name, &err);
	json_array_foreach (sas, i, sa) {
		ike = json_object_get(sa, call->name);
		any |= at_work(ike);
		if (!call->spi || found || !sends_by(ike, call->spi))
			continue;
		found = true;
		vici_put(&call->msg, "ike-id", "%s", json_string_value(json_object_get(ike, "uniqueid")) ?: "");
	}
	json_decref(sas);
	return err ? err : call->spi ? !found : any;
}

static int end_one(int fd, json_t *ike)
{
	const char *id = json_string_value(json_object_get(ike, "uniqueid"));
	json_t *reply = NULL;
	struct vici m = {0};
	int err;

	vici_put(&m, "ike-id", "%s", id ? id : "");
	vici_put(&m, "timeout", "%d", CALL_MS / 2);
	err = vici_call(fd, "terminate", &m, NULL, NULL, &reply, CALL_MS);
	vici_free(&m);
	json_decref(reply);
	return err;
}

/* They would go on for ever, to an address that is no longer said, and nothing is begun beside them. */
static int end_halves(int fd, const char *name)
{
	json_t *sas, *sa, *ike;
	const char *state;
	size_t i;
	int err;

	sas = sas_named(fd, name, &err);
	json_array_foreach (sas, i, sa) {
		ike = json_object_get(sa, name);
		state = json_string_value(json_object_get(ike, "state"));
		if (!err && state && (!strcmp(state, "CONNECTING") || !strcmp(state, "CREATED")))
			err = end_one(fd, ike);
	}
	json_decref(sas);
	return err;
}

static bool loads(const struct ike_call *call)
{
	return !strncmp(call->cmd, "load-", 5);
}

/* Rather no connection than one that is no longer meant. */
static void refused(struct ike_conn *c, const struct ike_call *call, int fd, const char *why)
{
	json_t *reply = NULL;
	struct vici m = {0};

	if (!loads(call))
		return;
	note_refusal(c, call->name, why);
	vici_put(&m, "name", "%s", call->name);
	if (fd >= 0)
		vici_call(fd, "unload-conn", &m, NULL, NULL, &reply, CALL_MS);
	vici_free(&m);
	json_decref(reply);
}

static int ask(struct ike_call *call, int fd, json_t **reply)
{
	int err = call->halves ? end_halves(fd, call->name) : call->if_none || call->spi ? spare(fd, call) : 0;

	return err || call->halves ? err : vici_call(fd, call->cmd, &call->msg, NULL, NULL, reply, CALL_MS);
}

static void do_call(struct ike_conn *c, struct ike_call *call, int *fd)
{
	json_t *reply = NULL;
	int err = reach(c, fd);
	const char *ok, *why;

	if (!err)
		err = ask(call, *fd, &reply);
	if (err > 0)
		return;
	ok = json_string_value(json_object_get(reply, "success"));
	why = json_string_value(json_object_get(reply, "errmsg"));
	if (err) {
		log_warnx("ike %s: %s by %s: %s", call->name, call->cmd, c->vici, strerror(-err));
		refused(c, call, -1, "strongSwan's vici socket does not answer");
	} else if (ok && strcmp(ok, "yes") && !call->quiet) {
		why = why ? why : "it does not say why";
		log_warnx("ike %s: strongSwan refuses %s: %s", call->name, call->cmd, why);
		refused(c, call, *fd, why);
	} else {
		log_debug("ike %s: %s", call->name, call->cmd);
	}
	if (err && *fd >= 0) {
		close(*fd);
		*fd = -1;
	}
	json_decref(reply);
}

static void *run(void *arg)
{
	struct ike_conn *c = arg;
	sigset_t all;
	int fd = -1;

	sigfillset(&all); /* signals are the control thread's */
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	pthread_mutex_lock(&c->lock);
	while (!c->stop) {
		struct ike_call *call = c->first;

		if (!call) {
			if (fd >= 0)
				close(fd);
			fd = -1;
			pthread_cond_wait(&c->more, &c->lock);
			continue;
		}
		c->first = call->next;
		call->next = NULL;
		snprintf(c->doing, sizeof c->doing, "%s", call->name);
		pthread_mutex_unlock(&c->lock);
		do_call(c, call, &fd);
		ike_call_free(call);
		pthread_mutex_lock(&c->lock);
		c->doing[0] = 0;
	}
	pthread_mutex_unlock(&c->lock);
	if (fd >= 0)
		close(fd);
	return NULL;
}

static void queue(struct ike_conn *c, struct ike_call *list)
{
	struct ike_call **end;

	pthread_mutex_lock(&c->lock);
	for (end = &c->first; *end; end = &(*end)->next)
		;
	*end = list;
	pthread_cond_signal(&c->more);
	pthread_mutex_unlock(&c->lock);
}

static int add_start(struct ike_call ***end, const struct link_conf *l)
{
	struct ike_call *c = call_new(end, "initiate", l->ike);

	if (!c)
		return -ENOMEM;
	vici_put(&c->msg, "child", "%s", l->ike);
	vici_put(&c->msg, "ike", "%s", l->ike);
	vici_put(&c->msg, "timeout", "-1"); /* nobody waits */
	c->quiet = c->if_none = true;
	return 0;
}

static int add_unload(struct ike_call ***end, const struct link_conf *l)
{
	struct ike_call *c = call_new(end, "unload-conn", l->ike);

	if (!c)
		return -ENOMEM;
	vici_put(&c->msg, "name", "%s", l->ike);
	c->quiet = true;
	return 0;
}

static void add_halves(struct ike_call ***end, const struct link_conf *l)
{
	struct ike_call *c = call_new(end, "terminate", l->ike);

	if (c)
		c->halves = c->quiet = true;
}

/* Its files are no good. */
static void without(struct ike_conn *c, const struct link_conf *l, char *why)
{
	struct ike_call *list = NULL, **end = &list;

	why[strcspn(why, "\n")] = 0;
	note_refusal(c, l->ike, why);
	if (!add_unload(&end, l))
		queue(c, list);
}

static void replace(struct ike_conn *c, const struct link_conf *l, bool anew, struct ike_call *list)
{
	struct ike_call **end = &list;

	pthread_mutex_lock(&c->lock);
	forgive(c, l->ike);
	pthread_mutex_unlock(&c->lock);
	if (!list) /* its connection is somebody else's */
		return;
	while (*end)
		end = &(*end)->next;
	if (anew)
		add_halves(&end, l);
	queue(c, list);
}

int ike_conn_load(struct ike_conn *c, const struct link_conf *l, const struct ike_heard *heard, bool anew, FILE *errs)
{
	struct ike_call *list;
	char *why = NULL;
	size_t len;
	FILE *f = open_memstream(&why, &len);
	int err;

	if (!f)
		return -ENOMEM;
	err = ike_conn_calls(l, heard, &list, f);
	fclose(f);
	fputs(why, errs);
	if (c && err)
		without(c, l, why);
	else if (c)
		replace(c, l, anew, list);
	else
		ike_call_free(list);
	free(why);
	return err;
}

bool ike_conn_begins(const struct link_conf *l)
{
	return l->ike[0] && (l->auth.psk[0] || l->auth.cert[0]) && l->auth.start == IKE_START_YES && ike_conn_knows_peer(l) && !l->ike_pool.n;
}

void ike_conn_start(struct ike_conn *c, const struct link_conf *l)
{
	struct ike_call *list = NULL, **end = &list;

	if (!add_start(&end, l))
		queue(c, list);
}

void ike_conn_end(struct ike_conn *c, const struct link_conf *l, uint32_t spi_out)
{
	struct ike_call *list = NULL, **end = &list, *call = call_new(&end, "terminate", l->ike);

	if (!call)
		return;
	vici_put(&call->msg, "timeout", "-1");
	call->spi = spi_out;
	call->quiet = true;
	queue(c, list);
}

static void add_end(struct ike_call ***end, const struct link_conf *l)
{
	struct ike_call *call = call_new(end, "terminate", l->ike);

	if (!call)
		return;
	vici_put(&call->msg, "ike", "%s", l->ike);
	vici_put(&call->msg, "timeout", "-1");
	call->quiet = true;
}

void ike_conn_end_all(struct ike_conn *c, const struct link_conf *l)
{
	struct ike_call *list = NULL, **end = &list;

	add_end(&end, l);
	if (list)
		queue(c, list);
}

void ike_conn_unload(struct ike_conn *c, const struct link_conf *l)
{
	struct ike_call *list = NULL, **end = &list, *call;

	if (!l->auth.psk[0] && !l->auth.cert[0])
		return;
	add_unload(&end, l);
	add_end(&end, l);
	call = l->auth.psk[0] ? call_new(&end, "unload-shared", l->ike) : NULL;
	if (call)
		vici_put(&call->msg, "id", "espwire-%s", l->ike);
	queue(c, list);
}

int ike_conn_open(struct ike_conn **cp, const char *vici)
{
	struct ike_conn *c = calloc(1, sizeof *c);
	int err;

	if (!c)
		return -ENOMEM;
	snprintf(c->vici, sizeof c->vici, "%s", vici);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->more, NULL);
	err = -pthread_create(&c->thread, NULL, run, c);
	if (err) {
		free(c);
		return err;
	}
	*cp = c;
	return 0;
}

void ike_conn_close(struct ike_conn *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->stop = true;
	pthread_cond_signal(&c->more);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	ike_call_free(c->first);
	while (c->refusals)
		forgive(c, c->refusals->name);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->more);
	free(c);
}
