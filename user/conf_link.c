/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * conf_link - the keys of a [link] section, one row each: how to set it, print it and put it back.
 * Values of `sa` and `ike` are never echoed: somebody will paste a key there one day (I3).
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include "conf_int.h"
#include "ipsec_shared.h"

enum { LIVE_MS = 500, LIVE_COUNT = 3, KEEPALIVE_MS = 20000 /* RFC 3948 4 */, METRIC = 10, PORT_MAX = 65535, WEIGHT_MAX = 65535,
       IKE_REKEY_S = 3600 };

static const char *const encap_names[] = {"esp", "udp", NULL};
static const char *const backend_names[] = {"afxdp", "xfrm", "auto", NULL};
static const char *const offload_names[] = {"off", "crypto", "packet", "auto", NULL}; /* enum offload_mode */
static const char *const df_names[] = {"auto", "copy", "set", "clear", NULL};
static const char *const ecn_names[] = {"copy", "off", NULL};
static const char *const start_names[] = {"yes", "no", "on-demand", NULL}; /* enum ike_start */
static const char *const state_names[] = {"up", "down", NULL};
const char *const conf_input_names[] = {"auto", "xdp", "socket", NULL};

int conf_link_name(const char *s, char name[IFNAMSIZ], unsigned int *num)
{
	uint64_t n;

	if (strncmp(s, "ipsec", 5))
		return -EINVAL;
	s += s[5] == ':' ? 6 : 5;
	if (strlen(s) > 5 || s[strspn(s, "0123456789")] || (s[0] == '0' && s[1]))
		return -EINVAL; /* ipsec01 and ipsec1 are two devices to the kernel */
	if (conf_number(s, 0, LINK_NUMBER_MAX, &n))
		return -EINVAL;
	snprintf(name, IFNAMSIZ, "ipsec%u", (unsigned int)n);
	*num = n;
	return 0;
}

static int set_peer(struct link_conf *l, char *v, struct why *w)
{
	char name[IFNAMSIZ];
	unsigned int n;

	if (!conf_is_name(v, sizeof l->peer, "._@+-"))
		return conf_bad(w,
				"'%.80s' is no peer name: letters, digits and ._@+-, at most %zu",
				v, sizeof l->peer - 1);
	if (!conf_link_name(v, name, &n))
		return conf_bad(w, "a peer cannot be called '%s': that is what links are called",
				v);
	snprintf(l->peer, sizeof l->peer, "%s", v);
	return 0;
}

static int set_p2p(struct p2p *p, bool is4, char *v, struct why *w)
{
	const char *eg = is4 ? "10.9.0.1 peer 10.9.0.2" : "fd09::1 peer fd09::2";
	char *rest, *own, *mid, *far;
	struct p2p r = {.set = true};

	own = strtok_r(v, " \t", &rest);
	mid = own ? conf_word(&rest) : NULL;
	far = mid ? conf_word(&rest) : NULL;
	if (!own || (mid && (!far || conf_word(&rest) || strcmp(mid, "peer"))))
		return conf_bad(w, "write OWN peer FAR, as %s; or OWN alone where the peer's comes from ike-pool", eg);
	if (addr_parse(own, &r.own) || addr_is4(&r.own) != is4 || !conf_usable(&r.own))
		return conf_bad(w, "'%s' is no usable %s address; as in %s", own,
				is4 ? "IPv4" : "IPv6", eg);
	if (far && (addr_parse(far, &r.far) || addr_is4(&r.far) != is4 || !conf_usable(&r.far)))
		return conf_bad(w, "'%s' is no usable %s address; as in %s", far,
				is4 ? "IPv4" : "IPv6", eg);
	if (!memcmp(&r.own, &r.far, 16))
		return conf_bad(w, "own and far address must differ");
	*p = r;
	return 0;
}

static int set_address(struct link_conf *l, char *v, struct why *w)
{
	return set_p2p(&l->address, true, v, w);
}

static int set_address6(struct link_conf *l, char *v, struct why *w)
{
	return set_p2p(&l->address6, false, v, w);
}

static int set_remote(struct path_conf *p, const char *s, struct why *w)
{
	if (!strcmp(s, "any")) {
		p->any = true;
		return 0;
	}
	if (!addr_parse(s, &p->remote))
		return conf_usable(&p->remote)
			       ? 0
			       : conf_bad(w, "'%s' cannot be a peer's outer address", s);
	if (!conf_is_host(s))
		return conf_bad(w, "'%.80s' is no address, host name or 'any'", s);
	snprintf(p->host, sizeof p->host, "%s", s);
	return 0;
}

static int set_table(struct path_conf *p, const char *s, struct why *w)
{
	static const struct {
		const char *name;
		uint32_t id;
	} named[] = {{"default", 253}, {"main", 254}, {"local", 255}};
	uint64_t n;

	for (unsigned int i = 0; i < ARRAY_SIZE(named); i++) {
		if (!strcmp(s, named[i].name)) {
			p->table = named[i].id;
			return 0;
		}
	}
	if (conf_number(s, 1, UINT32_MAX, &n))
		return conf_bad(
			w,
			"table '%s' is no routing table number (names of rt_tables are not read)",
			s);
	p->table = n;
	return 0;
}

/* Addresses in which a peer is followed: 24.0.0.0/8,2001:db8::/32 */
static int set_from(struct path_conf *p, const char *v, struct why *w)
{
	char text[FROM_MAX * (INET6_ADDRSTRLEN + 5)], *rest, *s;

	if (snprintf(text, sizeof text, "%s", v) >= (int)sizeof text)
		return conf_bad(w, "'from' is too long");
	for (s = strtok_r(text, ",", &rest); s; s = strtok_r(NULL, ",", &rest)) {
		if (p->n_from == FROM_MAX)
			return conf_bad(w, "'from' takes at most %d prefixes", FROM_MAX);
		if (prefix_parse(s, &p->from[p->n_from]))
			return conf_bad(w, "from '%s' is no prefix, or has host bits set", s);
		p->n_from++;
	}
	return p->n_from ? 0 : conf_bad(w, "'from' needs a prefix, as 24.0.0.0/8");
}

/* One "WORD VALUE" of a path. seen collects the words met so far. */
static int set_path_option(struct path_conf *p, const char *opt, const char *v, unsigned int *seen,
			   struct why *w)
{
	static const char *const opts[] = {"local", "encap",  "port", "fwmark", "table",
					   "weight", "from", "at", NULL};
	int i = conf_pick(opt, opts, w), e;
	uint64_t n;

	if (i < 0)
		return i;
	if (*seen & 1u << i)
		return conf_bad(w, "'%s' is given twice", opt);
	*seen |= 1u << i;
	if (!v)
		return conf_bad(w, "'%s' needs a value", opt);
	switch (i) {
	case 0:
		if (addr_parse(v, &p->local) || !conf_usable(&p->local))
			return conf_bad(w, "'%s' is no usable local address", v);
		p->has_local = true;
		return 0;
	case 1:
		e = conf_pick(v, encap_names, w);
		p->encap = e < 0 ? ENCAP_ESP : (enum encap)e;
		return MIN(e, 0);
	case 2:
		if (conf_number(v, 1, PORT_MAX, &n))
			return conf_bad(w, "port '%s' is no number from 1 to %d", v, PORT_MAX);
		p->port = n;
		return 0;
	case 3:
		if (conf_number(v, 1, UINT32_MAX, &n))
			return conf_bad(w, "fwmark '%s' is no number from 1 to 0xffffffff", v);
		p->fwmark = n;
		return 0;
	case 4:
		return set_table(p, v, w);
	case 6:
		return set_from(p, v, w);
	case 7:
		if (addr_parse(v, &p->at) || !conf_usable(&p->at))
			return conf_bad(w, "'%s' cannot be a peer's outer address", v);
		p->has_at = true;
		return 0;
	default:
		if (conf_number(v, 1, WEIGHT_MAX, &n))
			return conf_bad(w, "weight '%s' is no number from 1 to %d", v, WEIGHT_MAX);
		p->weight = n;
		return 0;
	}
}

static bool path_equal(const struct path_conf *a, const struct path_conf *b)
{
	return a->any == b->any && !strcmp(a->host, b->host) &&
	       !memcmp(&a->remote, &b->remote, 16) && a->has_local == b->has_local &&
	       !memcmp(&a->local, &b->local, 16) && a->encap == b->encap && a->port == b->port &&
	       a->fwmark == b->fwmark && a->table == b->table && a->weight == b->weight &&
	       a->n_from == b->n_from && !memcmp(a->from, b->from, sizeof a->from) && a->has_at == b->has_at &&
	       !memcmp(&a->at, &b->at, sizeof a->at);
}

/* Where a peer may be learned is said of peers that are learned. */
static int check_learning(const struct path_conf *p, struct why *w)
{
	if (!p->any && (p->n_from || p->has_at))
		return conf_bad(w, "'from' and 'at' are for 'any': this path's remote address is given");
	if (p->has_at && !path_conf_from(p, &p->at))
		return conf_bad(w, "'at' is outside of 'from'");
	return 0;
}

bool path_conf_from(const struct path_conf *p, const struct in6_addr *a)
{
	for (unsigned int i = 0; i < p->n_from; i++)
		if (prefix_match(&p->from[i], a))
			return true;
	return !p->n_from;
}

bool conf_path_literal(const struct path_conf *p)
{
	return !p->any && !p->host[0];
}

static int add_path(struct link_conf *l, char *v, struct why *w)
{
	struct path_conf p = {.port = ESP_PORT};
	unsigned int seen = 0;
	char *rest, *s;

	s = strtok_r(v, " \t", &rest);
	if (!s)
		return conf_bad(w, "write REMOTE [local A] [encap esp|udp] [port N] [fwmark M] "
				   "[table T] [weight N] [from PREFIX] [at A]");
	if (set_remote(&p, s, w))
		return -EINVAL;
	while ((s = conf_word(&rest)))
		if (set_path_option(&p, s, conf_word(&rest), &seen, w))
			return -EINVAL;
	if (p.encap != ENCAP_UDP && seen & 1u << 2)
		return conf_bad(w, "'port' needs 'encap udp'");
	if (p.has_local && conf_path_literal(&p) && addr_is4(&p.local) != addr_is4(&p.remote))
		return conf_bad(w, "remote and local address are of different families");
	if (check_learning(&p, w))
		return -EINVAL;
	/* two that share may each learn where one of the peer's paths leads */
	for (unsigned int i = 0; i < l->n_paths && !(p.any && p.weight); i++)
		if (path_equal(&l->paths[i], &p))
			return conf_bad(w, "the same path is listed twice");
	if (l->n_paths == PATHS_MAX)
		return conf_bad(w, "more than %d paths on one link", PATHS_MAX);
	l->paths[l->n_paths++] = p;
	return 0;
}

static struct prefixes *inner_list(struct link_conf *l)
{
	return &l->inner;
}

static struct prefixes *protect_list(struct link_conf *l)
{
	return &l->protect;
}

static struct prefixes *route_list(struct link_conf *l)
{
	return &l->routes;
}

static struct prefixes *vips_list(struct link_conf *l)
{
	return &l->ike_vips;
}

static struct prefixes *pool_list(struct link_conf *l)
{
	return &l->ike_pool;
}

static int add_inner(struct link_conf *l, char *v, struct why *w)
{
	if (strcmp(v, "any"))
		return conf_prefixes_add(&l->inner, v, w);
	return l->inner.n ? conf_bad(w, "'any' beside prefixes") : 0;
}

static int add_protect(struct link_conf *l, char *v, struct why *w)
{
	return conf_prefixes_add(&l->protect, v, w);
}

static int add_route(struct link_conf *l, char *v, struct why *w)
{
	return conf_prefixes_add(&l->routes, v, w);
}

static int set_metric(struct link_conf *l, char *v, struct why *w)
{
	return conf_count(v, 1, METRIC_MAX, &l->metric, w);
}

static int set_mtu(struct link_conf *l, char *v, struct why *w)
{
	uint64_t n = 0;

	if (strcmp(v, "auto") && conf_number(v, MTU_MIN, MTU_MAX, &n))
		return conf_bad(w, "'%s' is neither 'auto' nor a number from %d to %d", v, MTU_MIN,
				MTU_MAX);
	l->mtu = n;
	return 0;
}

static int set_link_local(struct link_conf *l, char *v, struct why *w)
{
	l->no_link_local = !strcmp(v, "no");
	return l->no_link_local || !strcmp(v, "yes") ? 0 : conf_bad(w, "'%s' is neither 'yes' nor 'no'", v);
}

static int set_mss_clamp(struct link_conf *l, char *v, struct why *w)
{
	uint64_t n = MSS_BY_MTU;

	if (!strcmp(v, "off"))
		n = 0;
	else if (strcmp(v, "yes") && conf_number(v, MSS_MIN, MSS_MAX, &n))
		return conf_bad(w, "'%s' is neither 'off' nor 'yes' nor a segment size from %d to %d", v,
				MSS_MIN, MSS_MAX);
	l->mss_clamp = (uint32_t)n;
	return 0;
}

static int set_tfc(struct link_conf *l, char *v, struct why *w)
{
	uint64_t n = TFC_MTU;

	if (!strcmp(v, "off"))
		n = 0;
	else if (strcmp(v, "mtu") && conf_number(v, 1, MTU_MAX, &n))
		return conf_bad(w, "'%s' is neither 'off' nor 'mtu' nor a length from 1 to %d", v,
				MTU_MAX);
	l->tfc = (uint32_t)n;
	return 0;
}

/* "10/s" */
static int set_cores(struct link_conf *l, char *v, struct why *w)
{
	uint64_t n = WORKER_MAX;

	if (strcmp(v, "all") && conf_number(v, 1, WORKER_MAX, &n))
		return conf_bad(w, "'%s' is neither 'all' nor a number from 1 to %d", v, WORKER_MAX);
	l->cores = n == 1 ? 0 : (uint32_t)n;
	return 0;
}

static int set_cover(struct link_conf *l, char *v, struct why *w)
{
	static const struct unit per_second[] = {{"/s", 1}, {0}};
	uint64_t n = 0;

	if (strcmp(v, "off") && conf_with_unit(v, per_second, 1, COVER_MAX, &n))
		return conf_bad(w, "'%s' is neither 'off' nor a rate from 1/s to %d/s, as 10/s", v, COVER_MAX);
	l->cover = (uint32_t)n;
	return 0;
}

static int set_netns(struct link_conf *l, char *v, struct why *w)
{
	if (!conf_is_name(v, sizeof l->netns, "._@:+-"))
		return conf_bad(w, "'%.80s' is no name of a network namespace (ip netns list)", v);
	snprintf(l->netns, sizeof l->netns, "%s", v);
	return 0;
}

/* "500ms x 3", "500ms", "ping", "ping 1s x 3", "off" */
static int set_liveness(struct link_conf *l, char *v, struct why *w)
{
	enum liveness_mode mode = LIVE_PROBE;
	uint64_t ms = LIVE_MS, count = LIVE_COUNT;
	char *rest, *s = strtok_r(v, " \t", &rest);

	if (s && (!strcmp(s, "ping") || !strcmp(s, "off"))) {
		mode = *s == 'p' ? LIVE_PING : LIVE_OFF;
		s = conf_word(&rest);
	} else if (!s) {
		return conf_bad(w, "write INTERVAL x COUNT, as 500ms x 3, or 'ping', or 'off'");
	}
	if (s &&
	    (mode == LIVE_OFF || conf_with_unit(s, conf_time_units, LIVE_MS_MIN, LIVE_MS_MAX, &ms)))
		return conf_bad(w,
				"'%s' is no interval from %dms to %dm; write INTERVAL x COUNT, as "
				"500ms x 3",
				s, LIVE_MS_MIN, LIVE_MS_MAX / 60000);
	s = s ? conf_word(&rest) : NULL;
	if (s) {
		const char *n = conf_word(&rest);

		if (strcmp(s, "x") || !n || conf_number(n, 1, LIVE_COUNT_MAX, &count) ||
		    conf_word(&rest))
			return conf_bad(
				w, "write INTERVAL x COUNT with COUNT from 1 to %d, as 500ms x 3",
				LIVE_COUNT_MAX);
	}
	l->liveness = mode;
	l->live_ms = ms;
	l->live_count = count;
	return 0;
}

static int set_keepalive(struct link_conf *l, char *v, struct why *w)
{
	uint64_t ms = 0;

	if (strcmp(v, "off") && conf_with_unit(v, conf_time_units, KEEPALIVE_MS_MIN, KEEPALIVE_MS_MAX, &ms))
		return conf_bad(w, "'%s' is neither 'off' nor a time from %ds to %dm, as 20s", v,
				KEEPALIVE_MS_MIN / 1000, KEEPALIVE_MS_MAX / 60000);
	l->keepalive_ms = (uint32_t)ms;
	return 0;
}

static int set_ike(struct link_conf *l, char *v, struct why *w)
{
	if (!conf_is_name(v, sizeof l->ike, "._@+-"))
		return conf_bad(w, "not the name of an IKE connection");
	snprintf(l->ike, sizeof l->ike, "%s", v);
	l->sa_file[0] = 0;
	return 0;
}

static int set_id(char *to, const char *v, struct why *w)
{
	if (strlen(v) >= IKE_ID_MAX)
		return conf_bad(w, "an identity is no longer than %d", IKE_ID_MAX - 1);
	strcpy(to, v);
	return 0;
}

static int set_ike_id(struct link_conf *l, char *v, struct why *w)
{
	return set_id(l->auth.id, v, w);
}

static int set_ike_peer_id(struct link_conf *l, char *v, struct why *w)
{
	return set_id(l->auth.peer_id, v, w);
}

static int set_ike_psk(struct link_conf *l, char *v, struct why *w)
{
	return conf_set_file(l->auth.psk, sizeof l->auth.psk, v, w);
}

static int set_ike_cert(struct link_conf *l, char *v, struct why *w)
{
	return conf_set_file(l->auth.cert, sizeof l->auth.cert, v, w);
}

static int set_ike_key(struct link_conf *l, char *v, struct why *w)
{
	return conf_set_file(l->auth.key, sizeof l->auth.key, v, w);
}

static int set_ike_ca(struct link_conf *l, char *v, struct why *w)
{
	return conf_set_file(l->auth.ca, sizeof l->auth.ca, v, w);
}

static int set_ike_esp(struct link_conf *l, char *v, struct why *w)
{
	if (!conf_is_name(v, sizeof l->auth.esp, "-"))
		return conf_bad(w, "write one proposal of strongSwan's, as aes256gcm16-ecp256-esn");
	strcpy(l->auth.esp, v);
	return 0;
}

static int set_ike_rekey(struct link_conf *l, char *v, struct why *w)
{
	uint64_t ms;

	if (conf_with_unit(v, conf_time_units, IKE_REKEY_S_MIN * 1000, IKE_REKEY_S_MAX * 1000ull, &ms))
		return conf_bad(w, "'%s' is no time from %ds to %dm, as 60m", v, IKE_REKEY_S_MIN, IKE_REKEY_S_MAX / 60);
	l->auth.rekey_s = ms / 1000;
	return 0;
}

static int set_ike_start(struct link_conf *l, char *v, struct why *w)
{
	int i = conf_pick(v, start_names, w);

	if (i >= 0)
		l->auth.start = i;
	return MIN(i, 0);
}

static int set_ike_idle(struct link_conf *l, char *v, struct why *w)
{
	uint64_t ms = 0;

	if (strcmp(v, "off") && conf_with_unit(v, conf_time_units, IKE_IDLE_S_MIN * 1000, IKE_REKEY_S_MAX * 1000ull, &ms))
		return conf_bad(w, "'%s' is neither 'off' nor a time from %ds to %dm, as 10m", v, IKE_IDLE_S_MIN, IKE_REKEY_S_MAX / 60);
	l->auth.idle_s = ms / 1000;
	return 0;
}

static int add_vips(struct link_conf *l, char *v, struct why *w)
{
	unsigned int before = l->ike_vips.n;

	if (conf_prefixes_add(&l->ike_vips, v, w))
		return -EINVAL;
	for (unsigned int i = before; i < l->ike_vips.n; i++) {
		const struct prefix *p = &l->ike_vips.p[i];

		if (p->len == (p->is4 ? 32 : 128) && l->ike_vips.n <= VIPS_MAX)
			continue;
		l->ike_vips.n = before;
		return conf_bad(w, "write at most %d addresses: 0.0.0.0 and :: for whichever the peer gives", VIPS_MAX);
	}
	return 0;
}

static int add_pool(struct link_conf *l, char *v, struct why *w)
{
	return conf_prefixes_add(&l->ike_pool, v, w);
}

/* One more of sa_file's paths. Return: 0 or -ENAMETOOLONG */
static int add_sa(char files[SA_FILE_MAX], const char *file)
{
	size_t n = strlen(files), room = SA_FILE_MAX - n;

	if (snprintf(files + n, room, "%s%s", n ? " " : "", file) < (int)room)
		return 0;
	files[n] = 0;
	return -ENAMETOOLONG;
}

static int set_sa(struct link_conf *l, char *v, struct why *w)
{
	char files[SA_FILE_MAX] = "", *save;

	if (!strncmp(v, "ike:", 4))
		return set_ike(l, v + 4, w);
	if (strncmp(v, "file:/", 6))
		return conf_bad(w, "write file:/ABSOLUTE/PATH of an SA file, or ike:NAME; keys "
				   "never stand here");
	for (char *s = strtok_r(v, " \t", &save); s; s = strtok_r(NULL, " \t", &save)) {
		if (strncmp(s, "file:/", 6))
			return conf_bad(w, "paths with blanks are not supported: behind a blank stands another file:/PATH");
		if (add_sa(files, s + 5))
			return conf_bad(w, "the path is longer than %zu", sizeof files - 1);
	}
	strcpy(l->sa_file, files);
	l->ike[0] = 0;
	return 0;
}

const char *link_conf_sa(const char *files, const char *after, char file[SA_FILE_MAX])
{
	const char *s = after ? after : files;
	size_t n;

	s += strspn(s, " ");
	n = strcspn(s, " ");
	if (!n)
		return NULL;
	memcpy(file, s, n);
	file[n] = 0;
	return s + n;
}

int link_conf_sa_swap(struct link_conf *l, const char *old, const char *file)
{
	char files[SA_FILE_MAX] = "", one[SA_FILE_MAX];
	const char *at = NULL;
	bool there = false;
	int err = 0;

	while (!err && (at = link_conf_sa(l->sa_file, at, one))) {
		const char *put = old && !strcmp(one, old) ? file : one;
		bool same = !strcmp(put, file);

		if (!same || !there)
			err = add_sa(files, put);
		there |= same;
	}
	if (!err && !there)
		err = add_sa(files, file);
	if (!err)
		strcpy(l->sa_file, files);
	return err;
}

static int set_input(struct link_conf *l, char *v, struct why *w)
{
	int i = conf_pick(v, conf_input_names, w);

	if (i >= 0)
		l->input = i;
	return MIN(i, 0);
}

static int set_backend(struct link_conf *l, char *v, struct why *w)
{
	int i = conf_pick(v, backend_names, w);

	if (i >= 0)
		l->backend = i;
	return MIN(i, 0);
}

/* "crypto", "auto eth1" */
static int set_offload(struct link_conf *l, char *v, struct why *w)
{
	char *rest, *mode = strtok_r(v, " \t", &rest), *dev = mode ? conf_word(&rest) : NULL;
	int i = conf_pick(mode ? mode : v, offload_names, w);

	if (i < 0)
		return i;
	if (dev && (i == OFFLOAD_OFF || conf_word(&rest) || !conf_is_name(dev, IFNAMSIZ, "._:@+-")))
		return conf_bad(w, "write off, or crypto, packet or auto, and behind these at most the name of an underlay device, as crypto eth1");
	l->offload = (enum offload_mode)i;
	snprintf(l->offload_dev, sizeof l->offload_dev, "%s", dev ? dev : "");
	return 0;
}

const char *conf_offload_name(enum offload_mode m)
{
	return offload_names[m];
}

static int set_dscp(struct link_conf *l, char *v, struct why *w)
{
	uint64_t n = 0;

	l->outer.dscp_fixed = strcmp(v, "copy") != 0;
	if (l->outer.dscp_fixed && conf_number(v, 0, 63, &n))
		return conf_bad(w, "'%s' is neither 'copy' nor a number from 0 to 63", v);
	l->outer.dscp = (uint8_t)n;
	return 0;
}

static int set_ecn(struct link_conf *l, char *v, struct why *w)
{
	int i = conf_pick(v, ecn_names, w);

	if (i >= 0)
		l->outer.ecn_off = i;
	return MIN(i, 0);
}

static int set_ttl(struct link_conf *l, char *v, struct why *w)
{
	uint64_t n = 0;

	if (strcmp(v, "auto") && strcmp(v, "copy") && conf_number(v, 1, 255, &n))
		return conf_bad(w, "'%s' is neither 'auto' nor 'copy' nor a number from 1 to 255", v);
	l->outer.ttl_copy = !strcmp(v, "copy");
	l->outer.ttl = (uint8_t)n;
	return 0;
}

static int set_df(struct link_conf *l, char *v, struct why *w)
{
	int i = conf_pick(v, df_names, w);

	if (i >= 0)
		l->outer.df = (uint8_t)i;
	return MIN(i, 0);
}

static int set_state(struct link_conf *l, char *v, struct why *w)
{
	int i = conf_pick(v, state_names, w);

	if (i >= 0)
		l->down = i;
	return MIN(i, 0);
}

static void print_peer(const struct link_conf *l, FILE *out, bool all)
{
	if (l->peer[0])
		conf_put(out, "peer", "%s", l->peer);
}

static void print_p2p(const char *key, const struct p2p *p, FILE *out)
{
	char own[INET6_ADDRSTRLEN], far[INET6_ADDRSTRLEN];

	if (p2p_has_far(p))
		conf_put(out, key, "%s peer %s", addr_str(&p->own, own), addr_str(&p->far, far));
	else if (p->set)
		conf_put(out, key, "%s", addr_str(&p->own, own));
}

static void print_address(const struct link_conf *l, FILE *out, bool all)
{
	print_p2p("address", &l->address, out);
}

static void print_address6(const struct link_conf *l, FILE *out, bool all)
{
	print_p2p("address6", &l->address6, out);
}

void path_conf_print(const struct path_conf *p, FILE *out)
{
	char buf[INET6_ADDRSTRLEN], pre[INET6_ADDRSTRLEN + 4];

	fputs(p->any ? "any" : p->host[0] ? p->host : addr_str(&p->remote, buf), out);
	if (p->has_local)
		fprintf(out, " local %s", addr_str(&p->local, buf));
	if (p->encap == ENCAP_UDP)
		fprintf(out, " encap udp");
	if (p->encap == ENCAP_UDP && p->port != ESP_PORT)
		fprintf(out, " port %u", p->port);
	if (p->fwmark)
		fprintf(out, " fwmark 0x%x", p->fwmark);
	if (p->table)
		fprintf(out, " table %u", p->table);
	if (p->weight)
		fprintf(out, " weight %u", p->weight);
	for (unsigned int i = 0; i < p->n_from; i++)
		fprintf(out, "%s%s", i ? "," : " from ", prefix_str(&p->from[i], pre));
	if (p->has_at)
		fprintf(out, " at %s", addr_str(&p->at, buf));
}

static void print_paths(const struct link_conf *l, FILE *out, bool all)
{
	for (unsigned int i = 0; i < l->n_paths; i++) {
		fprintf(out, "%-9s = ", "path");
		path_conf_print(&l->paths[i], out);
		fputc('\n', out);
	}
}

static void print_inner(const struct link_conf *l, FILE *out, bool all)
{
	conf_prefixes_print("inner", &l->inner, out);
	if (all && !l->inner.n)
		conf_put(out, "inner", "any");
}

static void print_protect(const struct link_conf *l, FILE *out, bool all)
{
	conf_prefixes_print("protect", &l->protect, out);
}

static void print_routes(const struct link_conf *l, FILE *out, bool all)
{
	conf_prefixes_print("route", &l->routes, out);
}

static void print_metric(const struct link_conf *l, FILE *out, bool all)
{
	if (all || l->metric != METRIC)
		conf_put(out, "metric", "%u", l->metric);
}

static void print_mtu(const struct link_conf *l, FILE *out, bool all)
{
	if (l->mtu)
		conf_put(out, "mtu", "%u", l->mtu);
	else if (all)
		conf_put(out, "mtu", "auto");
}

static void print_netns(const struct link_conf *l, FILE *out, bool all)
{
	if (l->netns[0])
		conf_put(out, "netns", "%s", l->netns);
}

static void print_liveness(const struct link_conf *l, FILE *out, bool all)
{
	bool plain = l->live_ms == LIVE_MS && l->live_count == LIVE_COUNT;
	const char *ping = l->liveness == LIVE_PING ? "ping " : "";

	if (l->liveness == LIVE_OFF)
		conf_put(out, "liveness", "off");
	else if (all || !plain)
		conf_put(out, "liveness", "%s%ums x %u", ping, l->live_ms, l->live_count);
	else if (l->liveness == LIVE_PING)
		conf_put(out, "liveness", "ping");
}

static void print_keepalive(const struct link_conf *l, FILE *out, bool all)
{
	if (!l->keepalive_ms)
		conf_put(out, "keepalive", "off");
	else if (all || l->keepalive_ms != KEEPALIVE_MS)
		conf_put(out, "keepalive", "%ums", l->keepalive_ms);
}

static void print_sa(const struct link_conf *l, FILE *out, bool all)
{
	char file[SA_FILE_MAX], text[3 * SA_FILE_MAX] = ""; /* of "/a /b" each becomes "file:/a " */
	const char *at = NULL;
	size_t n = 0;

	while ((at = link_conf_sa(l->sa_file, at, file)))
		n += (size_t)snprintf(text + n, sizeof text - n, "%sfile:%s", n ? " " : "", file);
	if (n)
		conf_put(out, "sa", "%s", text);
}

static void print_ike(const struct link_conf *l, FILE *out, bool all)
{
	if (l->ike[0])
		conf_put(out, "ike", "%s", l->ike);
}

#define PRINT_TEXT(field, key)                                                       \
	static void print_##field(const struct link_conf *l, FILE *out, bool all)    \
	{                                                                            \
		if (l->auth.field[0])                                                \
			conf_put(out, key, "%s", l->auth.field);                     \
	}
PRINT_TEXT(id, "ike-id")
PRINT_TEXT(peer_id, "ike-peer-id")
PRINT_TEXT(psk, "ike-psk")
PRINT_TEXT(cert, "ike-cert")
PRINT_TEXT(key, "ike-key")
PRINT_TEXT(ca, "ike-ca")
PRINT_TEXT(esp, "ike-esp")

static void print_ike_rekey(const struct link_conf *l, FILE *out, bool all)
{
	if (all || l->auth.rekey_s != IKE_REKEY_S)
		conf_put(out, "ike-rekey", "%us", l->auth.rekey_s);
}

static void print_ike_start(const struct link_conf *l, FILE *out, bool all)
{
	if (all || l->auth.start)
		conf_put(out, "ike-start", "%s", start_names[l->auth.start]);
}

static void print_ike_idle(const struct link_conf *l, FILE *out, bool all)
{
	if (l->auth.idle_s)
		conf_put(out, "ike-idle", "%us", l->auth.idle_s);
	else if (all)
		conf_put(out, "ike-idle", "off");
}

static void print_vips(const struct link_conf *l, FILE *out, bool all)
{
	conf_prefixes_print("ike-vips", &l->ike_vips, out);
}

static void print_pool(const struct link_conf *l, FILE *out, bool all)
{
	conf_prefixes_print("ike-pool", &l->ike_pool, out);
}

static void print_input(const struct link_conf *l, FILE *out, bool all)
{
	if (all || l->input != INPUT_AUTO)
		conf_put(out, "input", "%s", conf_input_names[l->input]);
}

static void print_backend(const struct link_conf *l, FILE *out, bool all)
{
	if (all || l->backend != BACKEND_AFXDP)
		conf_put(out, "backend", "%s", backend_names[l->backend]);
}

static void print_offload(const struct link_conf *l, FILE *out, bool all)
{
	if (all || l->offload != OFFLOAD_OFF)
		conf_put(out, "offload", "%s%s%s", offload_names[l->offload], l->offload_dev[0] ? " " : "", l->offload_dev);
}

static void print_link_local(const struct link_conf *l, FILE *out, bool all)
{
	if (all || l->no_link_local)
		conf_put(out, "link-local", "%s", l->no_link_local ? "no" : "yes");
}

static void print_mss_clamp(const struct link_conf *l, FILE *out, bool all)
{
	if (l->mss_clamp == MSS_BY_MTU)
		conf_put(out, "mss-clamp", "yes");
	else if (l->mss_clamp)
		conf_put(out, "mss-clamp", "%u", l->mss_clamp);
	else if (all)
		conf_put(out, "mss-clamp", "off");
}

static void print_tfc(const struct link_conf *l, FILE *out, bool all)
{
	if (l->tfc == TFC_MTU)
		conf_put(out, "tfc", "mtu");
	else if (l->tfc)
		conf_put(out, "tfc", "%u", l->tfc);
	else if (all)
		conf_put(out, "tfc", "off");
}

static void print_cores(const struct link_conf *l, FILE *out, bool all)
{
	if (l->cores == WORKER_MAX)
		conf_put(out, "cores", "all");
	else if (l->cores || all)
		conf_put(out, "cores", "%u", l->cores ? l->cores : 1);
}

static void print_cover(const struct link_conf *l, FILE *out, bool all)
{
	if (l->cover)
		conf_put(out, "cover", "%u/s", l->cover);
	else if (all)
		conf_put(out, "cover", "off");
}

static void print_dscp(const struct link_conf *l, FILE *out, bool all)
{
	if (l->outer.dscp_fixed)
		conf_put(out, "dscp", "%u", l->outer.dscp);
	else if (all)
		conf_put(out, "dscp", "copy");
}

static void print_ecn(const struct link_conf *l, FILE *out, bool all)
{
	if (all || l->outer.ecn_off)
		conf_put(out, "ecn", "%s", ecn_names[l->outer.ecn_off]);
}

static void print_ttl(const struct link_conf *l, FILE *out, bool all)
{
	if (l->outer.ttl)
		conf_put(out, "ttl", "%u", l->outer.ttl);
	else if (all || l->outer.ttl_copy)
		conf_put(out, "ttl", "%s", l->outer.ttl_copy ? "copy" : "auto");
}

static void print_df(const struct link_conf *l, FILE *out, bool all)
{
	if (all || l->outer.df)
		conf_put(out, "df", "%s", df_names[l->outer.df]);
}

static void print_state(const struct link_conf *l, FILE *out, bool all)
{
	if (all || l->down)
		conf_put(out, "state", "%s", state_names[l->down]);
}

#define SPAN(first, last)                                                                          \
	offsetof(struct link_conf, first), offsetof(struct link_conf, last) +                      \
						   sizeof(((struct link_conf *)0)->last) -         \
						   offsetof(struct link_conf, first)

/* Order = order of printing. sa and ike share a span: a link has one source of keys. */
const struct link_key conf_link_keys[] = {
	{"peer", false, SPAN(peer, peer), NULL, set_peer, print_peer},
	{"address", false, SPAN(address, address), NULL, set_address, print_address},
	{"address6", false, SPAN(address6, address6), NULL, set_address6, print_address6},
	{"link-local", false, SPAN(no_link_local, no_link_local), NULL, set_link_local, print_link_local},
	{"path", true, SPAN(paths, n_paths), NULL, add_path, print_paths},
	{"inner", true, SPAN(inner, inner), inner_list, add_inner, print_inner},
	{"protect", true, SPAN(protect, protect), protect_list, add_protect, print_protect},
	{"route", true, SPAN(routes, routes), route_list, add_route, print_routes},
	{"metric", false, SPAN(metric, metric), NULL, set_metric, print_metric},
	{"mtu", false, SPAN(mtu, mtu), NULL, set_mtu, print_mtu},
	{"mss-clamp", false, SPAN(mss_clamp, mss_clamp), NULL, set_mss_clamp, print_mss_clamp},
	{"netns", false, SPAN(netns, netns), NULL, set_netns, print_netns},
	{"liveness", false, SPAN(liveness, live_count), NULL, set_liveness, print_liveness},
	{"keepalive", false, SPAN(keepalive_ms, keepalive_ms), NULL, set_keepalive, print_keepalive},
	{"sa", false, SPAN(sa_file, ike), NULL, set_sa, print_sa},
	{"ike", false, SPAN(sa_file, ike), NULL, set_ike, print_ike},
	{"ike-id", false, SPAN(auth.id, auth.id), NULL, set_ike_id, print_id},
	{"ike-peer-id", false, SPAN(auth.peer_id, auth.peer_id), NULL, set_ike_peer_id, print_peer_id},
	{"ike-psk", false, SPAN(auth.psk, auth.psk), NULL, set_ike_psk, print_psk},
	{"ike-cert", false, SPAN(auth.cert, auth.cert), NULL, set_ike_cert, print_cert},
	{"ike-key", false, SPAN(auth.key, auth.key), NULL, set_ike_key, print_key},
	{"ike-ca", false, SPAN(auth.ca, auth.ca), NULL, set_ike_ca, print_ca},
	{"ike-esp", false, SPAN(auth.esp, auth.esp), NULL, set_ike_esp, print_esp},
	{"ike-rekey", false, SPAN(auth.rekey_s, auth.rekey_s), NULL, set_ike_rekey, print_ike_rekey},
	{"ike-start", false, SPAN(auth.start, auth.start), NULL, set_ike_start, print_ike_start},
	{"ike-idle", false, SPAN(auth.idle_s, auth.idle_s), NULL, set_ike_idle, print_ike_idle},
	{"ike-vips", true, SPAN(ike_vips, ike_vips), vips_list, add_vips, print_vips},
	{"ike-pool", true, SPAN(ike_pool, ike_pool), pool_list, add_pool, print_pool},
	{"input", false, SPAN(input, input), NULL, set_input, print_input},
	{"backend", false, SPAN(backend, backend), NULL, set_backend, print_backend},
	{"offload", false, SPAN(offload, offload_dev), NULL, set_offload, print_offload},
	{"cores", false, SPAN(cores, cores), NULL, set_cores, print_cores},
	{"tfc", false, SPAN(tfc, tfc), NULL, set_tfc, print_tfc},
	{"cover", false, SPAN(cover, cover), NULL, set_cover, print_cover},
	{"dscp", false, SPAN(outer.dscp_fixed, outer.dscp), NULL, set_dscp, print_dscp},
	{"ecn", false, SPAN(outer.ecn_off, outer.ecn_off), NULL, set_ecn, print_ecn},
	{"ttl", false, SPAN(outer.ttl_copy, outer.ttl), NULL, set_ttl, print_ttl},
	{"df", false, SPAN(outer.df, outer.df), NULL, set_df, print_df},
	{"state", false, SPAN(down, down), NULL, set_state, print_state},
};

_Static_assert(ARRAY_SIZE(conf_link_keys) == N_LINK_KEYS, "see enum in conf_int.h");

const char *conf_link_key(unsigned int i)
{
	return i < N_LINK_KEYS ? conf_link_keys[i].name : NULL;
}

int conf_link_key_index(const char *name)
{
	for (unsigned int i = 0; i < N_LINK_KEYS; i++)
		if (!strcmp(name, conf_link_keys[i].name))
			return i;
	return -ENOENT;
}

void link_conf_init(struct link_conf *l)
{
	memset(l, 0, sizeof *l);
	l->metric = METRIC;
	l->live_ms = LIVE_MS;
	l->live_count = LIVE_COUNT;
	l->keepalive_ms = KEEPALIVE_MS;
	l->auth.rekey_s = IKE_REKEY_S;
}

void link_conf_free(struct link_conf *l)
{
	if (!l)
		return;
	conf_prefixes_free(&l->inner);
	conf_prefixes_free(&l->protect);
	conf_prefixes_free(&l->routes);
	conf_prefixes_free(&l->ike_vips);
	conf_prefixes_free(&l->ike_pool);
}

int link_conf_copy(struct link_conf *dst, const struct link_conf *src)
{
	*dst = *src;
	dst->protect = dst->routes = dst->ike_vips = dst->ike_pool = (struct prefixes){0};
	if (conf_prefixes_copy(&dst->inner, &src->inner) ||
	    conf_prefixes_copy(&dst->protect, &src->protect) ||
	    conf_prefixes_copy(&dst->routes, &src->routes) ||
	    conf_prefixes_copy(&dst->ike_vips, &src->ike_vips) ||
	    conf_prefixes_copy(&dst->ike_pool, &src->ike_pool)) {
		link_conf_free(dst);
		return -ENOMEM;
	}
	return 0;
}

static bool p2p_equal(const struct p2p *a, const struct p2p *b)
{
	return a->set == b->set &&
	       (!a->set || (!memcmp(&a->own, &b->own, 16) && !memcmp(&a->far, &b->far, 16)));
}

static bool paths_equal(const struct link_conf *a, const struct link_conf *b)
{
	if (a->n_paths != b->n_paths)
		return false;
	for (unsigned int i = 0; i < a->n_paths; i++)
		if (!path_equal(&a->paths[i], &b->paths[i]))
			return false;
	return true;
}

static bool outer_equal(const struct outer_conf *a, const struct outer_conf *b)
{
	return a->dscp_fixed == b->dscp_fixed && a->dscp == b->dscp && a->ecn_off == b->ecn_off &&
	       a->ttl_copy == b->ttl_copy && a->ttl == b->ttl && a->df == b->df;
}

static bool auth_equal(const struct ike_auth *a, const struct ike_auth *b)
{
	return !strcmp(a->id, b->id) && !strcmp(a->peer_id, b->peer_id) && !strcmp(a->psk, b->psk) &&
	       !strcmp(a->cert, b->cert) && !strcmp(a->key, b->key) && !strcmp(a->ca, b->ca) && !strcmp(a->esp, b->esp) &&
	       a->rekey_s == b->rekey_s && a->start == b->start && a->idle_s == b->idle_s;
}

bool link_conf_ike_equal(const struct link_conf *a, const struct link_conf *b)
{
	return a->number == b->number && !strcmp(a->ike, b->ike) && paths_equal(a, b) && auth_equal(&a->auth, &b->auth) &&
	       conf_prefixes_equal(&a->ike_vips, &b->ike_vips) && conf_prefixes_equal(&a->ike_pool, &b->ike_pool);
}

bool link_conf_equal(const struct link_conf *a, const struct link_conf *b)
{
	return !strcmp(a->name, b->name) && a->number == b->number && !strcmp(a->peer, b->peer) &&
	       p2p_equal(&a->address, &b->address) && p2p_equal(&a->address6, &b->address6) &&
	       a->no_link_local == b->no_link_local &&
	       paths_equal(a, b) && conf_prefixes_equal(&a->inner, &b->inner) &&
	       conf_prefixes_equal(&a->protect, &b->protect) &&
	       conf_prefixes_equal(&a->routes, &b->routes) && a->metric == b->metric &&
	       a->mtu == b->mtu && a->mss_clamp == b->mss_clamp && !strcmp(a->netns, b->netns) && a->liveness == b->liveness &&
	       a->live_ms == b->live_ms && a->live_count == b->live_count && a->keepalive_ms == b->keepalive_ms &&
	       !strcmp(a->sa_file, b->sa_file) && link_conf_ike_equal(a, b) && a->input == b->input &&
	       a->backend == b->backend && a->offload == b->offload && !strcmp(a->offload_dev, b->offload_dev) && a->cores == b->cores && a->tfc == b->tfc && a->cover == b->cover && a->down == b->down &&
	       outer_equal(&a->outer, &b->outer);
}

int conf_set_link_key(struct link_conf *l, unsigned int key, const char *value, struct why *w)
{
	char *v;
	int err;

	if (!value || !*value)
		return conf_bad(w, "a value is missing");
	if (!conf_printable(value))
		return conf_bad(w, "control character in the value");
	v = strdup(value);
	if (!v)
		return conf_bad(w, "out of memory");
	err = conf_link_keys[key].set(l, v, w);
	free(v);
	return err;
}

int conf_unknown_link_key(const char *key, struct why *w)
{
	const char *best = NULL;
	size_t n;

	if (!conf_printable(key))
		return conf_bad(w, "control character in the key");
	for (unsigned int i = 0; i < N_LINK_KEYS; i++)
		best = conf_nearer(key, best, conf_link_keys[i].name);
	if (best)
		return conf_bad(w, "unknown key '%s': did you mean '%s'?", key, best);
	conf_bad(w, "unknown key '%.40s'; a link has:", key);
	for (unsigned int i = 0; i < N_LINK_KEYS; i++) {
		n = strlen(w->buf);
		snprintf(w->buf + n, w->len - n, " %s", conf_link_keys[i].name);
	}
	return -EINVAL;
}

int link_conf_set(struct link_conf *l, const char *key, const char *value, char *err, size_t errlen)
{
	char text[400] = "";
	struct why w = {text, sizeof text};
	int i = conf_link_key_index(key);

	if (i < 0)
		conf_unknown_link_key(key, &w);
	else if (!conf_set_link_key(l, i, value, &w))
		return 0;
	if (i < 0)
		snprintf(err, errlen, "%s", text);
	else
		snprintf(err, errlen, "%s: %s", key, text);
	return -EINVAL;
}

int link_conf_reset(struct link_conf *l, const char *key)
{
	int i = conf_link_key_index(key);
	struct link_conf dflt;

	if (i < 0)
		return -EINVAL;
	link_conf_init(&dflt);
	if (conf_link_keys[i].list)
		conf_prefixes_free(conf_link_keys[i].list(l));
	memcpy((char *)l + conf_link_keys[i].off, (char *)&dflt + conf_link_keys[i].off,
	       conf_link_keys[i].len);
	return 0;
}

void conf_print_link_all(const struct link_conf *l, FILE *out, bool all)
{
	fprintf(out, "[link %s]\n", l->name);
	for (unsigned int i = 0; i < N_LINK_KEYS; i++)
		conf_link_keys[i].print(l, out, all);
}

void conf_print_link(const struct link_conf *l, FILE *out)
{
	conf_print_link_all(l, out, false);
}
