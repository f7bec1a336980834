/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * conf - text to struct conf and back. Pure apart from reading files: no device, no daemon.
 * Control thread only: the parser (libinih) is set up through process-wide variables.
 *
 * INI with sections [ipsecd], [underlay], [link NAME]; '#' and ';' comments, also behind values;
 * lists (inner, protect, route, devices) may be repeated, comma- or space-separated; path may be
 * repeated. Unknown sections, unknown keys, repeated scalar keys and bad values are errors that
 * name file:line, the word, the reason and what would be right. conf_print() prints what
 * conf_load() reads (round trip). NAME may be written ipsecN or ipsec:N, N 0..65535; it is kept as
 * ipsecN. Units: 500ms, 3s, 2m; 64k (64000), 64Ki (65536), 10M. The grammar: ipsecd.conf(5).
 */
#ifndef CONF_H
#define CONF_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "util.h"

enum { PATHS_MAX = 8, FROM_MAX = 4, PEER_NAME_MAX = 64, INSTANCE_MAX = 32, HOST_MAX = 254, NETNS_NAME_MAX = 64,
       SA_FILE_MAX = 1024, PREFIXES_MAX = 4096 /* in one list */, LINK_NUMBER_MAX = 65535,
       MTU_MIN = 1280 /* IPv6 needs it */, MTU_MAX = 65535 /* the device takes what an envelope of 65535 bytes holds */,
       MSS_MIN = 536 /* RFC 9293 3.7.1 */, MSS_MAX = 65495,
       LIVE_MS_MIN = 10, LIVE_MS_MAX = 600000, LIVE_COUNT_MAX = 255,
       KEEPALIVE_MS_MIN = 1000, KEEPALIVE_MS_MAX = 3600000,
       IKE_ID_MAX = 256, IKE_FILE_MAX = 512, IKE_PROPOSAL_MAX = 128, SOCKET_PATH_MAX = 108,
       VIPS_MAX = 8, IKE_REKEY_S_MIN = 10, IKE_REKEY_S_MAX = 86400 * 7, IKE_IDLE_S_MIN = 1 };
#define TFC_MTU UINT32_MAX
#define COVER_MAX 1000 /* dummies per second: the worker sleeps in milliseconds */
#define MSS_BY_MTU UINT32_MAX
#define METRIC_MAX 0xfffffffdu /* the floor routes have 0xfffffffe */

enum encap { ENCAP_ESP = 0, ENCAP_UDP = 1 };
enum liveness_mode { LIVE_PROBE = 0, LIVE_PING = 1, LIVE_OFF = 2 };
enum input_mode { INPUT_AUTO = 0, INPUT_XDP, INPUT_SOCKET };
enum link_backend { BACKEND_AFXDP = 0, BACKEND_XFRM, BACKEND_AUTO };
enum offload_mode { OFFLOAD_OFF = 0, OFFLOAD_CRYPTO, OFFLOAD_PACKET, OFFLOAD_AUTO };

/**
 * struct path_conf - one `path =` line:
 * REMOTE [local A] [encap esp|udp] [port N] [fwmark M] [table T] [weight N] [from PREFIX,...] [at A]
 */
struct path_conf {
	bool any;              /* `any`: learn it */
	char host[HOST_MAX];   /* DNS name, "" when remote is a literal */
	struct in6_addr remote; /* valid unless any or host */
	bool has_local;
	struct in6_addr local;
	enum encap encap;
	uint16_t port;         /* peer's UDP port, default 4500 */
	uint32_t fwmark;       /* 0 = none */
	uint32_t table;        /* 0 = unknown; for show and checks: rules are the admin's (I8) */
	uint32_t weight;       /* 0 = standby order */
	struct prefix from[FROM_MAX]; /* with any: learned only inside these */
	unsigned int n_from;   /* 0 = anywhere */
	bool has_at;           /* with any: where to begin while nothing was learned */
	struct in6_addr at;
};

/* IKE_START_NO: wait for the peer, or for ipsecctl up; IKE_START_DEMAND: for a packet */
enum ike_start { IKE_START_YES = 0, IKE_START_NO, IKE_START_DEMAND };

enum df_mode { DF_AUTO = 0, DF_COPY, DF_SET, DF_CLEAR };

/** struct outer_conf - what the envelope's IP header says, RFC 4301 5.1.2, 8.1, RFC 6040; zero = the defaults */
struct outer_conf {
	bool dscp_fixed; /* else copied */
	uint8_t dscp;    /* 0..63 */
	bool ecn_off;    /* else copied */
	bool ttl_copy;
	uint8_t ttl;     /* 0 = the host's own default */
	uint8_t df;      /* enum df_mode */
};

/**
 * struct ike_auth - who we are to the peer and how it is proven; files are read when the IKE daemon is told
 * Neither psk nor cert: the connection of that name is somebody else's, in swanctl.conf.
 */
struct ike_auth {
	char id[IKE_ID_MAX], peer_id[IKE_ID_MAX]; /* as strongSwan reads them; "" = its default */
	char psk[IKE_FILE_MAX];                   /* file with a shared secret */
	char cert[IKE_FILE_MAX], key[IKE_FILE_MAX], ca[IKE_FILE_MAX];
	char esp[IKE_PROPOSAL_MAX];               /* strongSwan's words; "" = AES-256-GCM with ESN */
	uint32_t rekey_s;                         /* of a child SA; default 1 h */
	uint8_t start;                            /* enum ike_start */
	uint32_t idle_s;                          /* without a packet of anybody's for that long: SAs are ended; 0 = never */
};

struct prefixes {
	struct prefix *p; /* malloc'd */
	unsigned int n;
};

/** struct p2p - `address = OWN [peer FAR]` */
struct p2p {
	bool set;
	struct in6_addr own, far; /* far unspecified: it comes from the link's ike-pool */
};

/** struct link_conf - one [link] section */
struct link_conf {
	char name[IFNAMSIZ];   /* "ipsec1" */
	unsigned int number;   /* 1: altname ipsec:1 */
	char peer[PEER_NAME_MAX];
	struct p2p address, address6;
	bool no_link_local;      /* link-local = no */
	struct path_conf paths[PATHS_MAX];
	unsigned int n_paths;
	struct prefixes inner;   /* empty = any */
	struct prefixes protect;
	struct prefixes routes;
	uint32_t metric;         /* of routes; default 10 */
	uint32_t mtu;            /* 0 = auto */
	uint32_t mss_clamp;      /* SYNs name no larger TCP segment; 0 = off, MSS_BY_MTU = what the mtu leaves */
	char netns[NETNS_NAME_MAX]; /* workload namespace name, "" = underlay */
	enum liveness_mode liveness;
	uint32_t live_ms;        /* interval, default 500 */
	uint32_t live_count;     /* default 3 */
	uint32_t keepalive_ms;   /* of silence on a UDP path before a NAT is reminded; default 20 s, 0 = never */
	char sa_file[SA_FILE_MAX]; /* sa = file:PATH ...: link_conf_sa() */
	char ike[64];            /* sa = ike:NAME or ike = NAME: strongSwan's connection and child */
	struct ike_auth auth;    /* ike-* */
	struct prefixes ike_vips; /* of length 32 or 128: asked of the peer; 0.0.0.0 and :: = whichever it gives */
	struct prefixes ike_pool; /* what the peer is given addresses from */
	enum input_mode input;
	enum link_backend backend;
	enum offload_mode offload; /* by a NIC, with the kernel as backend */
	char offload_dev[IFNAMSIZ]; /* that one, "" = the one by which the path leaves */
	uint32_t tfc;            /* pad shorter inner packets to this; 0 = off, TFC_MTU = to the device's MTU */
	uint32_t cores;          /* workers that carry it, WORKER_MAX = as many as there are; 0 = one */
	uint32_t cover;          /* dummies per second, at most COVER_MAX; 0 = off */
	struct outer_conf outer; /* dscp, ecn, ttl, df */
	bool down;               /* state = down */
	char src_file[256];      /* where it was read, for messages */
	int src_line;
};

/** struct conf - everything */
struct conf {
	char instance[INSTANCE_MAX]; /* "" = decided by the caller */
	unsigned int workers;        /* 0 = auto: one per core, at most 4 */
	char crypto[16];             /* auto | ipsec-mb | openssl */
	uint32_t max_links;          /* default 4096 */
	uint32_t gso_queue;          /* TAP queue length in packets, default 1000 */
	uint32_t xsk_queue;          /* frames of an AF_XDP funnel, default 4096; the next power of two is taken */
	bool esp_shared;             /* [underlay] esp = shared: unknown ESP passes to the stack */
	bool devices_auto;
	char (*devices)[IFNAMSIZ];   /* patterns (fnmatch) */
	unsigned int n_devices;
	char (*lan)[IFNAMSIZ];       /* patterns: networks connected here are exempt from `protect` */
	unsigned int n_lan;
	char (*shortcut)[IFNAMSIZ];  /* patterns: packets from here skip the stack into a link */
	unsigned int n_shortcut;
	enum input_mode input;       /* default of the links */
	bool audit;                  /* note dropped packets, one per reason and second */
	bool trust_clock;            /* reserved, true */
	char ike_socket[SOCKET_PATH_MAX];  /* for the IKE daemon's plugin; "" = <run_dir>/charon.ipsecd */
	char vici_socket[SOCKET_PATH_MAX]; /* the IKE daemon's; default /run/charon.vici */
	struct link_conf *links;
	unsigned int n_links;
};

/**
 * conf_load() - read a file, then its drop-in directory
 * @file: the drop-ins are FILE minus ".conf" plus ".d/\*.conf", sorted
 * @errs: every problem found is printed here, one "file:line: ..." per line, not only the first
 * c is initialised here; conf_free() it whatever the result. conf_check() is included.
 * Return: number of errors (0 = c is complete); -errno when the main file cannot be read.
 */
int conf_load(struct conf *c, const char *file, FILE *errs);
/** conf_parse_string() - the same from memory; name stands for the file */
int conf_parse_string(struct conf *c, const char *text, const char *name, FILE *errs);
void conf_init(struct conf *c); /**< defaults */
void conf_free(struct conf *c);
/** conf_print() - valid input again; only what differs from the defaults unless all */
void conf_print(const struct conf *c, FILE *out, bool all);
void conf_print_link(const struct link_conf *l, FILE *out);
/** conf_equal() - the same links in the same order; src_* do not count */
bool conf_equal(const struct conf *a, const struct conf *b);
/** conf_link_name() - "ipsec1" or "ipsec:1" to "ipsec1" and 1. Return: 0 or -EINVAL */
int conf_link_name(const char *s, char name[IFNAMSIZ], unsigned int *number);
/** conf_offload_name() - "off", "crypto", "packet", "auto" */
const char *conf_offload_name(enum offload_mode m);
/** conf_link_key() - name of the i-th key of a [link] section. Return: NULL after the last */
const char *conf_link_key(unsigned int i);

/** link_conf_init/free/copy/equal; copy is deep */
void link_conf_init(struct link_conf *l);
void link_conf_free(struct link_conf *l);
int link_conf_copy(struct link_conf *dst, const struct link_conf *src);
bool link_conf_equal(const struct link_conf *a, const struct link_conf *b);
/** p2p_has_far() - set, and both ends said */
static inline bool p2p_has_far(const struct p2p *p)
{
	return p->set && !IN6_IS_ADDR_UNSPECIFIED(&p->far);
}
/** link_conf_ike_equal() - is the IKE daemon told the same of both? */
bool link_conf_ike_equal(const struct link_conf *a, const struct link_conf *b);
/**
 * link_conf_sa() - the SA files of a link one after the other
 * @files: its sa_file; @after: NULL, then what was returned last. Return: NULL, file untouched, behind the last
 */
const char *link_conf_sa(const char *files, const char *after, char file[SA_FILE_MAX]);
/** link_conf_sa_swap() - file is one of them, in the place of old if that was one. Return: 0 or -ENAMETOOLONG */
int link_conf_sa_swap(struct link_conf *l, const char *old, const char *file);
/**
 * link_conf_set() - one "key", "value" as in a [link] section
 * Scalars are replaced (sa and ike replace each other), path and lists are appended to.
 * Return: 0, or -EINVAL with a sentence in err and l unchanged
 */
int link_conf_set(struct link_conf *l, const char *key, const char *value, char *err,
		  size_t errlen);
/** link_conf_reset() - one key back to its default, lists emptied. Return: 0 or -EINVAL */
int link_conf_reset(struct link_conf *l, const char *key);
/** path_conf_from() - may a peer of this path be learned at that address? */
bool path_conf_from(const struct path_conf *p, const struct in6_addr *a);
/** path_conf_print() - as in the file */
void path_conf_print(const struct path_conf *p, FILE *out);

/**
 * conf_check() - what no single line can show: links that share a name, a peer name, an SA file or
 * (in one netns) a far address; own address that is another link's far one; inner or protected address
 * equal to an outer one, unless the link's SA file (read for that) says transport mode and the path
 * has a fwmark; missing keys; more links than max-links. Return: number of errors
 */
int conf_check(const struct conf *c, FILE *errs);

#endif
