/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kernel-ipsecd - a kernel-ipsec backend for strongSwan's charon, 5.9.8 to 6.0: SAs live in ipsecd.
 *
 * A method of kernel_ipsec_t becomes a record of ike_wire.h (door.h); ipsecd's events become calls of
 * charon's kernel interface, from one thread of charon's own. kernel-netlink goes on as kernel-net.
 *
 * - KERNEL_POLICY_SPI is not among the features: charon then installs a responder's outbound SA only when
 *   the initiator has its inbound one, and add_sa(out) is the moment to switch.
 * - The constructor cannot fail: if it did, charon would take kernel-netlink's kernel-ipsec instead, without
 *   a word, and keys would go where nobody looks. No ipsecd: every call fails, until there is one.
 * - Policies are not for us: routing decides. Connections say `policies = no`; other ones fail here.
 * - charon's headers are no stable interface: the layout of what is used is of one version, so the version
 *   of the running program is looked up in it, and any other one ends it (I1 rather than a guess).
 */
#include <daemon.h>
#include <processing/jobs/callback_job.h>
#include <threading/mutex.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "door.h"

#ifndef PLUGIN_EXPORT
#define PLUGIN_EXPORT __attribute__((visibility("default")))
#endif
#define SOCKET_DEFAULT "/run/ipsec/default/charon.ipsecd"

enum { EVENT_WAIT_MS = 200 };

typedef struct plug plug_t;
typedef struct known known_t;

/* struct known - an SA that charon has installed: what a new ipsecd does not have, and how events name it */
struct known {
	uint32_t spi; /* network order, as charon has it */
	bool inbound;
	uint8_t proto;
	host_t *dst;
};

struct plug {
	kernel_ipsec_t public;
	struct door *door;
	mutex_t *mutex; /* of known; never held in a call of anybody else's */
	linked_list_t *known;
	bool lost;      /* the last call had no ipsecd: told once */
};

/* ---- what we remember ---- */

static bool is_known(known_t *k, uint32_t spi, host_t *dst)
{
	return k->spi == spi && k->dst->ip_equals(k->dst, dst);
}

static void known_free(known_t *k)
{
	k->dst->destroy(k->dst);
	free(k);
}

static void remember(plug_t *this, kernel_ipsec_sa_id_t *id, bool inbound)
{
	known_t *k;

	INIT(k, .spi = id->spi, .inbound = inbound, .proto = id->proto, .dst = id->dst->clone(id->dst));
	this->mutex->lock(this->mutex);
	this->known->insert_last(this->known, k);
	this->mutex->unlock(this->mutex);
}

/* Return: is it inbound? take: it is forgotten. move: where it goes now, or NULL */
static bool recall(plug_t *this, kernel_ipsec_sa_id_t *id, bool take, host_t *move)
{
	enumerator_t *e;
	known_t *k;
	bool inbound = true; /* one that was never added is an SPI that was asked for */

	this->mutex->lock(this->mutex);
	e = this->known->create_enumerator(this->known);
	while (e->enumerate(e, &k))
	{
		if (!is_known(k, id->spi, id->dst))
			continue;
		inbound = k->inbound;
		if (move)
		{
			k->dst->destroy(k->dst);
			k->dst = move->clone(move);
		}
		if (take)
		{
			this->known->remove_at(this->known, e);
			known_free(k);
		}
		break;
	}
	e->destroy(e);
	this->mutex->unlock(this->mutex);
	return inbound;
}

/* ---- calls ---- */

static void put_addr(uint8_t to[16], chunk_t a)
{
	static const uint8_t v4[12] = {[10] = 0xff, [11] = 0xff};

	memset(to, 0, 16);
	if (a.len == 4)
	{
		memcpy(to, v4, sizeof v4);
		memcpy(to + 12, a.ptr, 4);
	}
	else if (a.len == 16)
		memcpy(to, a.ptr, 16);
}

static void put_host(uint8_t to[16], host_t *h)
{
	put_addr(to, h->get_address(h));
}

static host_t *get_host(const uint8_t from[16], uint16_t port)
{
	static const uint8_t v4[12] = {[10] = 0xff, [11] = 0xff};
	bool is4 = !memcmp(from, v4, sizeof v4);
	chunk_t a = is4 ? chunk_create((u_char *)from + 12, 4) : chunk_create((u_char *)from, 16);

	return host_create_from_chunk(is4 ? AF_INET : AF_INET6, a, port);
}

static void put_id(struct ike_id *to, kernel_ipsec_sa_id_t *id, bool inbound)
{
	*to = (struct ike_id){.spi = ntohl(id->spi), .if_id = id->if_id, .inbound = inbound};
	put_host(to->src, id->src);
	put_host(to->dst, id->dst);
}

static status_t call(plug_t *this, struct ike_msg *m, const char *what)
{
	static const status_t as[IKE_STATUS_MAX] = {
		[IKE_OK] = SUCCESS, [IKE_FAILED] = FAILED, [IKE_NOT_FOUND] = NOT_FOUND,
		[IKE_NOT_SUPPORTED] = NOT_SUPPORTED, [IKE_NO_LINK] = FAILED,
	};
	int err = door_call(this->door, m);

	if (err)
	{
		if (!this->lost)
			DBG1(DBG_KNL, "%s: no answer from ipsecd: %s", what, strerror(-err));
		this->lost = TRUE;
		return FAILED;
	}
	this->lost = FALSE;
	if (m->reply.status == IKE_NO_LINK)
		DBG1(DBG_KNL, "%s: ipsecd has no link with an ike line and that number: if_id_in and if_id_out of a "
			 "child are the N of ipsecN", what);
	else if (m->reply.status != IKE_OK && m->reply.status != IKE_NOT_FOUND)
		DBG1(DBG_KNL, "%s: ipsecd refuses it, see its log", what);
	return as[m->reply.status];
}

METHOD(kernel_ipsec_t, get_features, kernel_feature_t,
	plug_t *this)
{
#if SWAN_NUM >= 60000
	return KERNEL_ESP_V3_TFC | KERNEL_SA_USE_TIME;
#else
	return KERNEL_ESP_V3_TFC;
#endif
}

METHOD(kernel_ipsec_t, get_spi, status_t,
	plug_t *this, host_t *src, host_t *dst, uint8_t protocol, uint32_t *spi)
{
	struct ike_msg m = {.head = {.type = IKE_GET_SPI}};
	status_t status;

	if (protocol != IPPROTO_ESP)
		return NOT_SUPPORTED;
	status = call(this, &m, "get_spi");
	if (status == SUCCESS)
		*spi = htonl(m.reply.spi);
	return status;
}

METHOD(kernel_ipsec_t, get_cpi, status_t,
	plug_t *this, host_t *src, host_t *dst, uint16_t *cpi)
{
	return NOT_SUPPORTED;
}

static void put_range(traffic_selector_t *ts, uint8_t addr[2][16], uint16_t port[2])
{
	put_addr(addr[0], ts->get_from_address(ts));
	put_addr(addr[1], ts->get_to_address(ts));
	port[0] = ts->get_from_port(ts);
	port[1] = ts->get_to_port(ts);
}

/* One source with every destination of its family. Return: false = more than a record holds */
static bool put_pairs(struct ike_add *a, traffic_selector_t *src, linked_list_t *dst_ts)
{
	enumerator_t *e = dst_ts->create_enumerator(dst_ts);
	traffic_selector_t *dst;
	bool fits = true;

	while (fits && e->enumerate(e, &dst))
	{
		struct ike_sel *s = &a->sel[a->n_sel];

		if (src->get_type(src) != dst->get_type(dst))
			continue;
		fits = a->n_sel < IKE_SEL_MAX;
		if (!fits)
			break;
		put_range(src, s->src, s->sport);
		put_range(dst, s->dst, s->dport);
		s->proto = src->get_protocol(src) ? src->get_protocol(src) : dst->get_protocol(dst);
		a->n_sel++;
	}
	e->destroy(e);
	return fits;
}

static bool put_selectors(struct ike_add *a, kernel_ipsec_add_sa_t *data)
{
	traffic_selector_t *src;
	enumerator_t *e;
	bool fits = true;

	if (!data->src_ts || !data->dst_ts)
		return true;
	e = data->src_ts->create_enumerator(data->src_ts);
	while (fits && e->enumerate(e, &src))
		fits = put_pairs(a, src, data->dst_ts);
	e->destroy(e);
	return fits;
}

static struct ike_life life(uint64_t soft, uint64_t hard)
{
	return (struct ike_life){.soft = soft, .hard = hard}; /* charon has taken its jitter off already */
}

static bool put_add(struct ike_add *a, kernel_ipsec_sa_id_t *id, kernel_ipsec_add_sa_t *d)
{
	lifetime_cfg_t *l = d->lifetime;

	put_id(&a->id, id, d->inbound);
	a->sport = id->src->get_port(id->src);
	a->dport = id->dst->get_port(id->dst);
	a->reqid = d->reqid;
	a->window = d->replay_window;
	a->mark = d->mark.value;
	a->tfc = d->tfc;
	a->enc_alg = d->enc_alg;
	a->int_alg = d->int_alg;
	a->tunnel = d->mode == MODE_TUNNEL;
	a->esn = d->esn;
	a->encap = d->encap;
	a->initiator = d->initiator;
	if (l)
	{
		a->time_s = life(l->time.rekey, l->time.life);
		a->bytes = life(l->bytes.rekey, l->bytes.life);
		a->packets = life(l->packets.rekey, l->packets.life);
	}
	if (d->enc_key.len > IKE_KEY_MAX || d->int_key.len > IKE_KEY_MAX || !put_selectors(a, d))
		return false;
	a->enc_len = d->enc_key.len;
	a->int_len = d->int_key.len;
	memcpy(a->enc_key, d->enc_key.ptr, d->enc_key.len);
	memcpy(a->int_key, d->int_key.ptr, d->int_key.len);
	return true;
}

/* "auto" is content without. */
static bool wants_offload(hw_offload_t o)
{
	return o != HW_OFFLOAD_NO && o != HW_OFFLOAD_AUTO;
}

/* Better refused than taken without what was asked for. Return: the word of swanctl.conf, NULL = none */
static const char *unfit(kernel_ipsec_sa_id_t *id, kernel_ipsec_add_sa_t *d)
{
	return id->proto != IPPROTO_ESP ? "ah_proposals" :
	       d->ipcomp ? "ipcomp" :
	       d->label ? "label" :
	       d->interface ? "interface" :
	       wants_offload(d->hw_offload) ? "hw_offload" :
	       d->mark.value ? "set_mark_in or set_mark_out: a path's fwmark marks envelopes" :
	       NULL;
}

METHOD(kernel_ipsec_t, add_sa, status_t,
	plug_t *this, kernel_ipsec_sa_id_t *id, kernel_ipsec_add_sa_t *data)
{
	struct ike_msg m = {.head = {.type = IKE_ADD}};
	const char *why = unfit(id, data);
	status_t status = NOT_SUPPORTED;

	if (why)
		DBG1(DBG_KNL, "add_sa: not with %s", why);
	else if (put_add(&m.add, id, data))
		status = call(this, &m, "add_sa");
	ike_wipe(&m, sizeof m);
	if (status == SUCCESS)
		remember(this, id, data->inbound);
	return status;
}

METHOD(kernel_ipsec_t, update_sa, status_t,
	plug_t *this, kernel_ipsec_sa_id_t *id, kernel_ipsec_update_sa_t *data)
{
	struct ike_msg m = {.head = {.type = IKE_UPDATE}};
	status_t status;

	put_id(&m.update.id, id, recall(this, id, FALSE, NULL));
	put_host(m.update.src, data->new_src);
	put_host(m.update.dst, data->new_dst);
	m.update.sport = data->new_src->get_port(data->new_src);
	m.update.dport = data->new_dst->get_port(data->new_dst);
	m.update.encap = data->new_encap;
	status = call(this, &m, "update_sa");
	if (status == SUCCESS)
		recall(this, id, FALSE, data->new_dst);
	return status;
}

METHOD(kernel_ipsec_t, query_sa, status_t,
	plug_t *this, kernel_ipsec_sa_id_t *id, kernel_ipsec_query_sa_t *data, uint64_t *bytes, uint64_t *packets,
	time_t *used)
{
	struct ike_msg m = {.head = {.type = IKE_QUERY}};
	status_t status;

	put_id(&m.id, id, recall(this, id, FALSE, NULL));
	status = call(this, &m, "query_sa");
	if (status != SUCCESS)
		return status;
	if (bytes)
		*bytes = m.reply.bytes;
	if (packets)
		*packets = m.reply.packets;
	if (used)
		*used = m.reply.idle_ms == UINT64_MAX ? 0 : time_monotonic(NULL) - (time_t)(m.reply.idle_ms / 1000);
	return SUCCESS;
}

METHOD(kernel_ipsec_t, del_sa, status_t,
	plug_t *this, kernel_ipsec_sa_id_t *id, kernel_ipsec_del_sa_t *data)
{
	struct ike_msg m = {.head = {.type = IKE_DEL}};

	put_id(&m.id, id, recall(this, id, TRUE, NULL));
	return call(this, &m, "del_sa");
}

METHOD(kernel_ipsec_t, flush_sas, status_t,
	plug_t *this)
{
	struct ike_msg m = {.head = {.type = IKE_FLUSH}};

	this->mutex->lock(this->mutex);
	this->known->destroy_function(this->known, (void *)known_free);
	this->known = linked_list_create();
	this->mutex->unlock(this->mutex);
	return call(this, &m, "flush_sas");
}

METHOD(kernel_ipsec_t, add_policy, status_t,
	plug_t *this, kernel_ipsec_policy_id_t *id, kernel_ipsec_manage_policy_t *data)
{
	DBG1(DBG_KNL, "a policy is not for ipsecd, whose links are routed into: the child needs `policies = no`");
	return NOT_SUPPORTED;
}

METHOD(kernel_ipsec_t, query_policy, status_t,
	plug_t *this, kernel_ipsec_policy_id_t *id, kernel_ipsec_query_policy_t *data, time_t *used)
{
	return NOT_SUPPORTED; /* query_sa says when */
}

METHOD(kernel_ipsec_t, del_policy, status_t,
	plug_t *this, kernel_ipsec_policy_id_t *id, kernel_ipsec_manage_policy_t *data)
{
	return NOT_SUPPORTED;
}

METHOD(kernel_ipsec_t, flush_policies, status_t,
	plug_t *this)
{
	return SUCCESS;
}

/* IKE is never routed into a link that carries it: ipsecd's route-loop check, and no policy to pass by. */
METHOD(kernel_ipsec_t, bypass_socket, bool,
	plug_t *this, int fd, int family)
{
	return TRUE;
}

/* ipsecd takes its own SPIs off UDP 4500 before the socket; with UDP_ENCAP set the kernel would answer for the rest. */
METHOD(kernel_ipsec_t, enable_udp_decap, bool,
	plug_t *this, int fd, int family, uint16_t port)
{
	return TRUE;
}

METHOD(kernel_ipsec_t, destroy, void,
	plug_t *this)
{
	struct ike_msg m = {.head = {.type = IKE_BYE}};

	call(this, &m, "bye");
	door_free(this->door);
	this->known->destroy_function(this->known, (void *)known_free);
	this->mutex->destroy(this->mutex);
	free(this);
}

/* ---- events ---- */

/* ipsecd was replaced and has no key, and neither have we: renew every child. Inbound ones stand for their pair. */
static void renew_all(plug_t *this)
{
	linked_list_t *copy = linked_list_create();
	enumerator_t *e;
	known_t *k, *c;

	this->mutex->lock(this->mutex);
	e = this->known->create_enumerator(this->known);
	while (e->enumerate(e, &k))
	{
		if (!k->inbound)
			continue;
		INIT(c, .spi = k->spi, .inbound = TRUE, .proto = k->proto, .dst = k->dst->clone(k->dst));
		copy->insert_last(copy, c);
	}
	e->destroy(e);
	this->mutex->unlock(this->mutex);
	DBG1(DBG_KNL, "ipsecd was started anew: %d child SAs are renewed", copy->get_count(copy));
	e = copy->create_enumerator(copy);
	while (e->enumerate(e, &c))
		charon->kernel->expire(charon->kernel, c->proto, c->spi, c->dst, FALSE);
	e->destroy(e);
	copy->destroy_function(copy, (void *)known_free);
}

static void on_expire(const struct ike_expire *x)
{
	host_t *dst = get_host(x->dst, 0);

	if (!dst)
		return;
	charon->kernel->expire(charon->kernel, IPPROTO_ESP, htonl(x->spi), dst, x->hard);
	dst->destroy(dst);
}

static void on_mapping(const struct ike_mapping *x)
{
	host_t *dst = get_host(x->dst, 0), *to = get_host(x->to, x->port);

	if (dst && to)
		charon->kernel->mapping(charon->kernel, IPPROTO_ESP, htonl(x->spi), dst, to);
	DESTROY_IF(dst);
	DESTROY_IF(to);
}

/* A trap, made by `start_action = trap`, is how charon knows that it is to begin; without policies it is a number alone. */
static uint32_t trap_of(uint32_t if_id)
{
	enumerator_t *e = charon->traps->create_enumerator(charon->traps);
	uint32_t reqid = 0;
	peer_cfg_t *peer;
	child_sa_t *child;

	while (!reqid && e->enumerate(e, &peer, &child))
		if (child->get_if_id(child, FALSE) == if_id)
			reqid = child->get_reqid(child);
	e->destroy(e);
	return reqid;
}

static void on_acquire(const struct ike_acquire *x)
{
	kernel_acquire_data_t data = {};
	uint32_t reqid = x->reqid ? x->reqid : trap_of(x->if_id);

	if (reqid)
		charon->kernel->acquire(charon->kernel, reqid, &data);
	else
		DBG1(DBG_KNL, "a packet wants an SA of ipsec%u, but no child with that if_id has `start_action = trap`", x->if_id);
}

static job_requeue_t watch(plug_t *this)
{
	struct ike_msg m;

	switch (door_event(this->door, &m, EVENT_WAIT_MS))
	{
	case 1:
		if (m.head.type == IKE_EXPIRE)
			on_expire(&m.expire);
		else if (m.head.type == IKE_MAPPING)
			on_mapping(&m.mapping);
		else if (m.head.type == IKE_ACQUIRE)
			on_acquire(&m.acquire);
		break;
	case 2:
		renew_all(this);
		break;
	}
	return JOB_REQUEUE_FAIR;
}

/* ---- charon's side ---- */

static uint64_t draw_generation(void)
{
	uint64_t n = 0;
	rng_t *rng = lib->crypto->create_rng(lib->crypto, RNG_WEAK);

	if (!rng || !rng->get_bytes(rng, sizeof n, (uint8_t *)&n))
		n = (uint64_t)getpid() << 32 ^ (uint64_t)time(NULL);
	DESTROY_IF(rng);
	return n | 1;
}

static kernel_ipsec_t *create(void)
{
	char *path = lib->settings->get_str(lib->settings, "%s.plugins.kernel-ipsecd.socket", SOCKET_DEFAULT, lib->ns);
	plug_t *this;

	INIT(this,
		.public = {
			.get_features = _get_features,
			.get_spi = _get_spi,
			.get_cpi = _get_cpi,
			.add_sa = _add_sa,
			.update_sa = _update_sa,
			.query_sa = _query_sa,
			.del_sa = _del_sa,
			.flush_sas = _flush_sas,
			.add_policy = _add_policy,
			.query_policy = _query_policy,
			.del_policy = _del_policy,
			.flush_policies = _flush_policies,
			.bypass_socket = _bypass_socket,
			.enable_udp_decap = _enable_udp_decap,
			.destroy = _destroy,
		},
		.door = door_new(path, draw_generation()),
		.mutex = mutex_create(MUTEX_TYPE_DEFAULT),
		.known = linked_list_create(),
	);
	if (!this->door)
	{
		DBG1(DBG_KNL, "kernel-ipsecd: %s is no name for a socket: nothing will work", path);
		this->door = door_new("/nonexistent", 1);
	}
	lib->processor->queue_job(lib->processor, (job_t *)callback_job_create_with_prio((callback_job_cb_t)watch, this,
					NULL, NULL, JOB_PRIO_CRITICAL));
	return &this->public;
}

METHOD(plugin_t, get_name, char *,
	plugin_t *this)
{
	return "kernel-ipsecd";
}

METHOD(plugin_t, get_plugin_features, int,
	plugin_t *this, plugin_feature_t *features[])
{
	static plugin_feature_t f[] = {
		PLUGIN_CALLBACK(kernel_ipsec_register, create),
			PLUGIN_PROVIDE(CUSTOM, "kernel-ipsec"),
	};

	*features = f;
	return countof(f);
}

METHOD(plugin_t, destroy_plugin, void,
	plugin_t *this)
{
	free(this);
}

/* Every program of strongSwan's has its version in it, as a string. */
static bool version_fits(void)
{
	static const char want[] = "\0" VERSION; /* and a zero behind */
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *p = MAP_FAILED;
	bool fits;

	if (fd >= 0 && !fstat(fd, &st))
		p = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	fits = p != MAP_FAILED && memmem(p, st.st_size, want, sizeof want);
	if (p != MAP_FAILED)
		munmap(p, st.st_size);
	if (fd >= 0)
		close(fd);
	return fits;
}

/* 5.9.8 does not look at it; later versions refuse a plugin where it is not theirs. */
PLUGIN_EXPORT const char *kernel_ipsecd_plugin_version(void);
PLUGIN_EXPORT plugin_t *kernel_ipsecd_plugin_create(void);

PLUGIN_EXPORT const char *kernel_ipsecd_plugin_version(void)
{
	return VERSION;
}

PLUGIN_EXPORT plugin_t *kernel_ipsecd_plugin_create(void)
{
	plugin_t *this;

	if (!version_fits())
	{
		fprintf(stderr, "kernel-ipsecd: built for strongSwan " VERSION ", and this is another one: ending, so that no "
				"key goes astray. Build the plugin for this version.\n");
		_exit(78);
	}
	/* a virtual address belongs on ipsecN, where ipsecd puts it; here it is the default alone that changes */
	lib->settings->set_default_str(lib->settings, "%s.install_virtual_ip", "no", lib->ns);
	INIT(this, .get_name = _get_name, .get_features = _get_plugin_features, .destroy = _destroy_plugin);
	return this;
}
