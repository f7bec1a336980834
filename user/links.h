/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * links - the control plane's picture: every link, its SAs, paths and computed state.
 *
 * Control thread only. A link's state is computed by links_compute() from
 * {admin, SAs, liveness, path, daemon} and never counted from events (I7).
 */
#ifndef LINKS_H
#define LINKS_H

#include <jansson.h>
#include "chain.h"
#include "conf.h"
#include "endpoint.h"
#include "guard.h"
#include "intake.h"
#include "ledger.h"
#include "nl.h"
#include "pkt.h"
#include "sock.h"
#include "turns.h"
#include "worker.h"

enum { SLACK_MS = 150 /* a tick and a half: our own clockwork is no reason to call somebody dead */ };

/* Why a link is in its state: X(NAME, "shown", "sentence; next step") */
#define LINK_REASONS(X)                                                                            \
	X(OK, "ok", "a round trip was seen within the liveness window")                            \
	X(ADMIN_DOWN, "admin-down", "taken down by an operator: ipsecctl link up NAME")            \
	X(NO_BACKEND, "no-backend", "this kernel has no IPsec for backend = xfrm: ipsecctl link set NAME backend auto")  \
	X(NO_SA, "no-sa", "no usable SA: see ipsecctl sa list and the daemon's log")               \
	X(ON_DEMAND, "on-demand", "no SA, and the next packet has one made: ike-start = on-demand")  \
	X(NO_IKE, "no-ike", "no SA, and no IKE daemon is connected: systemctl start strongswan; its plugin comes by make install-ike") \
	X(SA_REFUSED, "sa-refused", "the SA's durable state refuses to send: see why in ipsecctl sa list") \
	X(NO_ENDPOINT, "no-endpoint", "the peer's outer address is not known yet")                 \
	X(NO_ROUTE, "no-route", "no route to the path's remote address")                           \
	X(ROUTE_LOOP, "route-loop", "the envelope would be routed into a tunnel again")            \
	X(STARTING, "starting", "waiting for the first round trip")                                \
	X(NO_ANSWER, "no-answer", "nothing authentic heard from the peer")                         \
	X(ONE_WAY, "one-way", "the peer is heard but does not hear us")                            \
	X(SA_EXHAUSTED, "sa-exhausted", "the sequence space is used up: renew the SA")              \
	X(SA_EXPIRED, "sa-expired", "the SA's hard lifetime is over: renew the SA")                 \
	X(NO_DEVICE, "no-device", "the device could not be made or was deleted")

enum link_reason {
#define X(name, str, text) LINK_##name,
	LINK_REASONS(X)
#undef X
	LINK_REASON_MAX
};
const char *link_reason_name(enum link_reason r);
const char *link_reason_text(enum link_reason r);

/* What becomes of one path: X(NAME, "shown"), from useless to proven */
#define PATH_STATES(X)                                                                             \
	X(NO_ENDPOINT, "no-endpoint") /* its remote address is not known yet */                    \
	X(NO_ROUTE, "no-route")                                                                    \
	X(ROUTE_LOOP, "route-loop")                                                                \
	X(NO_ANSWER, "no-answer")     /* has a route; what is asked on it is not answered */       \
	X(STANDBY, "standby")         /* has a route; it is not asked while another one is in use */ \
	X(STARTING, "starting")       /* as no-answer, not for so long that it would mean something */ \
	X(OK, "ok")                   /* answers, or nobody asks (liveness = off) */

enum path_state {
#define X(name, str) PATH_##name,
	PATH_STATES(X)
#undef X
	PATH_STATE_MAX
};
const char *path_state_name(enum path_state s);

/** struct sa - the control plane's record of one SA; no key in it */
struct sa {
	struct sa *next; /* of the same link */
	struct link *link;
	uint32_t epoch;  /* the two of one file share it; later is newer */
	char *file;      /* which; NULL = from an IKE daemon */
	uint64_t owner;  /* generation of the IKE daemon that installed it; 0 = none did */
	struct in6_addr dst; /* with an owner: the outer destination by which it knows this SA */
	struct sa_set *set;  /* with those for the same packets */
	enum sa_dir dir;
	uint32_t spi;
	enum aead_alg alg;
	enum sa_mode mode;
	bool esn;
	uint32_t window;
	uint64_t fingerprint;
	uint32_t slot;
	uint16_t sgen;
	bool live;              /* installed in the worker */
	char refused[256];      /* why not, "" when live */
	struct life_conf life;
	uint64_t soft_ns;       /* when its soft lifetime in time is reached, CLOCK_BOOTTIME */
	enum life_cause soft;   /* the soft limit reached: its successor is due */
	enum life_cause ended;  /* the hard one: no longer live, but still there to say why packets die */
	struct ledger *ledger;  /* static SAs */
	const struct backend *backend; /* who has it, since it was installed */
	bool installed;         /* and has something of it */
	struct sa_ctr *ctr;     /* its slot's, while it is installed */
	struct wsa_in *win;     /* backend_afxdp.c's */
	struct wsa_out *wout;
	struct ksa *kernel;     /* backend_xfrm.c's */
	struct sa_offload {     /* likewise: of its state, as the kernel says it */
		int ifindex;        /* of the device that does its cryptography, 0 = none does */
		char dev[IFNAMSIZ];
		char why[160];      /* why not as it was asked for, "" = it is, or nobody asked */
	} offload;
	uint64_t created_ns;
	uint64_t seq_limit, iv_limit; /* out: reserved durably up to here */
	uint64_t iv_used;             /* out: no worker begins below it */
	bool adopted;                 /* the slot and its exact window are a predecessor's */
	uint64_t last_top;            /* in: at the last tick */
	uint64_t last_pkts, last_bytes; /* the same, where lifetimes count them */
	bool initiated;               /* its IKE daemon began the exchange that made it */
	bool closing;                 /* its IKE daemon has deleted it: it serves until another one does */
	uint64_t reap_ns;             /* not longer than that: closing, or its IKE daemon is gone; 0 = neither */
	uint64_t first_pkts;          /* in: count at installation; more = the peer uses it */
	struct in6_addr env_dst[PATHS_MAX]; /* out: as they stand in env_out; unspecified = none */
};

/** struct sa_set - the SAs of one link for the same packets, which follow each other (seed 3.5). saset.c's; n_sel 0 = everything */
struct sa_set {
	struct sa_set *next;  /* of the same link, from narrow to wide; of equals the older first */
	struct sel *out_sel;  /* as its outbound SAs have them, and as its inbound ones: the mirror image */
	struct sel *in_sel;
	unsigned int n_sel;
	unsigned int n_sas;   /* in both directions, refused ones too; with the last one it goes */
	struct sa *out;       /* the outbound one that packets meet, also when its life is over */
	struct sa *asked;     /* its successor, while the peer is asked whether it has it */
	bool rekeying, switch_now; /* an operator wants the newest outbound one used; without asking the peer */
	uint64_t switched_ns; /* when out changed */
	struct wset w;
	struct {              /* with the kernel as backend; backend_xfrm.c's */
		const struct sa *sa;      /* that its policies name, NULL = it has none */
		struct in6_addr src, dst; /* and where to */
	} x;
};

/** struct link_path - what the control plane knows about one path */
struct link_path {
	struct path_conf conf;
	struct in6_addr remote; /* resolved or learned; unspecified = unknown */
	bool learned;           /* remote and port came from an authentic packet, or from IKE */
	bool by_ike;            /* conf.encap is what IKE found out, not what the line says */
	uint16_t port;          /* learned */
	struct path_dns *dns;   /* path.c's; NULL unless conf.host */
	int error;              /* of the last route lookup */
	int oif;
	char dev[IFNAMSIZ];
	struct in6_addr src, via;
	uint32_t mtu;           /* of one envelope, outer IP header included: the least of those below */
	uint32_t dev_mtu;       /* of the device, for this family */
	uint32_t route_mtu;     /* of the route, 0 = it has none */
	uint32_t told_mtu;      /* what a router on the path said, 0 = nothing (RFC 1191, RFC 8201) */
	struct in6_addr told_of; /* about envelopes to this remote */
	uint64_t told_until_ns; /* then it is forgotten */
	bool loop;              /* not used: its envelopes would come back, or did until loop_until_ns */
	unsigned int loop_n;    /* times in a row that it was */
	uint64_t loop_until_ns;
	bool fresh;             /* the line is new: nothing was counted on it yet */
	bool in_use;            /* carries traffic */
	unsigned int slots;     /* of SPREAD_SLOTS, while in use */
	uint64_t usable_ns;     /* since when it has a remote and a route, 0 = it has not */
};

/** path_port() - the peer's, of envelopes in UDP */
static inline uint16_t path_port(const struct link_path *p)
{
	return p->learned && p->port ? p->port : p->conf.port;
}

/** struct vips - virtual addresses that are there */
struct vips {
	struct in6_addr a[VIPS_MAX];
	unsigned int n;
};

/** struct link - one point-to-point device to one peer */
struct link {
	uint16_t id, gen;
	struct link_conf conf;
	unsigned int worker;
	enum link_backend backend; /* who does its crypto: conf.backend, decided; backend.c's */
	char backend_why[160];  /* why not the kernel, "" = it does, or nobody asked for it */
	bool backend_stale;     /* it was not told everything yet */
	bool no_backend;        /* the one asked for cannot, and no other is wanted: nothing is carried */
	int ifindex;            /* ipsecN in the workload namespace, 0 = none; links_place() */
	int b_ifindex;          /* backend end */
	struct {                /* with the kernel as backend; backend_xfrm.c's */
		int ifindex;        /* xN, beside the backend end; 0 = none */
		bool ready;         /* it is up and has its route */
		bool cuts;          /* it takes no super-packets */
		bool doubt;         /* somebody has changed policies; protect.c sets it */
		bool transport;     /* its inbound policies say so */
		bool hosts;         /* it has an entry in hosts */
		const struct sa *sa; /* that the policies of the widest set name */
		struct prefixes inner;    /* as they stand in inner_src */
		uint64_t belief_ns;       /* when it is asked next which MTU it believes in; path.c's */
		struct { uint64_t old, dup, icv; } err; /* what its inbound states have refused: struct xerr */
		struct offload_told {     /* out, in: of the offload, last */
			bool known;
			enum offload_mode asked;
			int ifindex;
		} offload[2];
		struct { uint64_t sel, bad; } lost; /* what they counted and was refused behind that: by its selector, for what it is */
		uint64_t missing;         /* of what they counted, at the last look: not come out */
	} x;
	uint32_t mtu;
	bool transport;         /* what its SA file says; known before the SAs are there */
	bool adopted;           /* a predecessor had it: its books go on */
	bool admin_up;
	bool up;                /* computed */
	bool carrier;           /* last set on the backend end */
	bool dormant;           /* computed: not up, but packets are let in, as one of them is waited for */
	bool dormant_set;       /* ipsecN says so */
	enum link_reason reason;
	uint64_t since_ns;      /* of the present state */
	uint64_t flaps;
	struct link_path paths[PATHS_MAX];
	unsigned int n_paths;
	unsigned int cur_path;  /* of those in use the first */
	struct turns turns;     /* with the kernel as backend, of several paths: whose it is. path.c's */
	bool paths_stale;       /* something that the worker was not told yet */
	struct sa *sas;
	struct sa_set *sets;
	struct sa *out;         /* of the widest set with a live one: what probes go by. saset.c's */
	uint64_t moved_ns;      /* when the worker last learned where the peer is */
	uint64_t ike_try_ns;    /* when the IKE daemon is asked again to make its SAs */
	uint64_t asked_ns;      /* on demand: the first ACQUIRE of this attempt, 0 = none; ike.c's, like what follows */
	uint64_t ask_again_ns;  /* not before */
	uint64_t wants_seen;    /* one more than the packets that wanted an SA so far */
	uint64_t hold_ns;       /* the attempt has failed: until then the link is down, for other metrics to take over */
	uint64_t idle_pkts, idle_ns; /* data both ways, and since when it has not grown */
	struct vips own_vips, far_vips; /* on the device, and routed into it; vip.c's */
	bool ike_want;          /* it has SAs of an IKE daemon, or had when that or we died: wish.h */
	uint64_t ike_twice_ns;  /* when the IKE daemon may be asked again to end one of two pairs */
	uint64_t ike_lost_ns;   /* when an IKE daemon that lived on took the last of them; 0 = none did */
	uint64_t switched_ns;   /* when an outbound SA was last put to use; 0 = never */
	struct wlink *w;
	bool in_worker;         /* the worker has w: from now on only it writes there */
	uint32_t moved_seen;
	bool dev_up;            /* ipsecN is administratively up */
	bool lost;              /* ipsecN was deleted under us: to be made again */
	struct nl *nl;          /* workload namespace */
	bool own_nl;
	int netns_fd;           /* -1 = underlay */
};

/** struct daemon - everything the control thread owns */
struct daemon {
	struct conf conf;
	char conf_file[4096];
	char instance[INSTANCE_MAX];
	char state_dir[4096]; /* /var/lib/ipsec/<instance> */
	char run_dir[4096];   /* /run/ipsec/<instance> */
	char pin_dir[4096];   /* /sys/fs/bpf/ipsec/<instance> */
	int underlay_fd, backend_fd;
	struct nl *nl_u, *nl_k;
	struct nl *nl_x;      /* XFRM of the underlay; NULL until a link wants it; backend_xfrm.c's, as what follows */
	int x_events, x_stat; /* open with it, -1 = not to be had: its notifications, its counters of errors */
	uint64_t x_stat_sum, x_stat_ns; /* over what those said last; when they are read again */
	bool x_moved;         /* some SA's peer was heard elsewhere */
	struct socks encap;   /* what comes in UDP for the kernel; udp_port 0 = not open; encap.c's */
	struct load *load;
	struct nest *nest;    /* told where links are and lead, for the workers; NULL in tests */
	struct worker *workers[WORKER_MAX];
	unsigned int n_workers;
	struct link **links;  /* by id, max_links entries, NULL = free */
	unsigned int max_links, n_links;
	struct chain by_number, by_ifindex, by_backend; /* of links, over ids; links_place() keeps the latter two */
	struct sa **sas;      /* by slot */
	unsigned int max_sas;
	struct chain sa_by_key; /* slots in use, also a predecessor's, by fingerprint; sad.c's */
	struct chain sa_by_spi; /* those of our inbound SAs */
	unsigned int free_hint; /* no slot below it is free */
	uint64_t words_hint;  /* first never-used word of the replay pool */
	uint16_t next_sgen;
	uint32_t next_epoch;
	unsigned int guard_missing;
	struct underlay_dev *underlay; /* underlay.c's */
	unsigned int n_underlay;
	struct shortcut_dev *shortcut; /* shortcut.c's */
	unsigned int n_shortcut;
	bool shortcut_known;           /* every device was looked at once */
	struct in6_addr *locals;       /* underlay addresses that are ours */
	unsigned int n_locals;
	struct { bool asked; int err; char why[128]; } kernel_esp; /* what this kernel can; backend.c's */
	struct { uint32_t b_ifindex; uint16_t gen; } *adopt; /* [max_links]: what a predecessor left */
	bool routes_dirty, underlay_dirty, protect_dirty;
	unsigned int tick_next;  /* the link that links_tick() begins with */
	bool own_moved;          /* a device of ours came up, went down or changed its MTU */
	uint64_t routes_done_ns; /* when the last round of route lookups ended, and what it took */
	uint64_t routes_took_ns;
	uint64_t loops_due_ns;   /* when the first path that looped is tried again, 0 = none is waiting */
	bool protect_touched;     /* somebody changed nftables, XFRM policies or one of our routes */
	uint64_t protect_next_ns; /* when that may be looked at */
	bool use_xdp;                  /* wire-in wanted and possible */
	struct intake intake;          /* where it is to be decided; underlay.c's */
	uint64_t start_ns, start_clocks;
	uint64_t noted_ns[NOTE_MAX]; /* of the last wire_note told, of each kind */
	bool ready;           /* the configuration is applied: from now on a missing heartbeat is a hang */
	int guardian_pid;
	void (*on_event)(struct daemon *d, json_t *ev); /* monitor; steals nothing */
	struct endpoints *endpoints; /* where peers were last heard; NULL = out of memory */
	struct muster *muster;       /* muster.c's */
	struct ahead *ahead;         /* ahead.c's: while links are added */
	struct roll *roll;           /* links.c's: while many are */
	struct early *early;         /* while ipsecd starts: who asks is told how far it is */
	struct ike *ike;      /* the IKE daemon's door; NULL = none */
	struct ike_conn *ike_conn; /* what the IKE daemon is told of links; NULL = nothing */
	void (*on_socks)(struct daemon *d); /* the guardian shall hold what was opened; NULL: it will anyway */
	/* for the IKE daemon, each may be NULL: an SA of its reached a limit; a peer moved; another one said hello */
	void (*on_life)(struct daemon *d, const struct sa *sa, bool hard);
	void (*on_moved)(struct daemon *d, const struct link *l);
	void (*on_ike)(struct daemon *d);
};

/** link_by_kernel() - does its states what leaves and comes in, and not a worker? */
static inline bool link_by_kernel(const struct link *l)
{
	return l->backend == BACKEND_XFRM && !l->no_backend;
}

/** link_mss() - what mss-clamp leaves to SYNs of one family, by the present MTU; the link has one, and a clamp */
static inline uint32_t link_mss(const struct link *l, uint32_t ip_hdr_len)
{
	return MIN(l->conf.mss_clamp, l->mtu - ip_hdr_len - TCP_HDR_LEN);
}

/** links_beat() - the control thread lives; also called inside long work, or the guardian takes it for a hang */
void links_beat(struct daemon *d);
/** links_wait() - nl_on_wait() of the control thread: it waits for the kernel, or does no more; @daemon: struct daemon */
void links_wait(void *daemon, bool waits);

/** links_own() - is this device of the underlay one of our ipsecN? */
bool links_own(const struct daemon *d, int ifindex);
/** links_place() - the devices of a link are these now, 0 = none; the only writer of ifindex and b_ifindex */
void links_place(struct daemon *d, struct link *l, int ifindex, int b_ifindex);
/** links_at() - the link of the underlay whose ipsecN this is, NULL = none */
struct link *links_at(const struct daemon *d, int ifindex);
/** links_behind() - the link whose backend end this is, NULL = none */
struct link *links_behind(const struct daemon *d, int b_ifindex);
struct link *links_by_name(struct daemon *d, const char *name); /* "ipsec1", "ipsec:1" or the peer's name */

/** links_apply() - reconcile with a configuration: add, change in place, remove; untouched links are not touched
 * @errs: one line per refusal. @report: NULL or a json array that receives {"link","action"}. Return: number of errors */
int links_apply(struct daemon *d, const struct conf *c, FILE *errs, json_t *report);
/** links_diff() - what links_apply() would do; changes nothing */
json_t *links_diff(struct daemon *d, const struct conf *c);
int link_add(struct daemon *d, const struct link_conf *c, FILE *errs);
int link_del(struct daemon *d, struct link *l);
int link_set(struct daemon *d, struct link *l, const struct link_conf *c, FILE *errs);
void link_admin(struct daemon *d, struct link *l, bool up);
/** link_follow_sa() - another SA is in use, or none: configuration, MTU (its suite's) and BPF shall know */
void link_follow_sa(struct daemon *d, struct link *l);
/** link_peer_moved() - it was heard there (path_heard()): the same, and the monitors, the IKE daemon and the disk, too */
void link_peer_moved(struct daemon *d, struct link *l, unsigned int path);
/** link_follow_path() - its envelopes go elsewhere: routes, MTU, guards and BPF shall know */
void link_follow_path(struct daemon *d, struct link *l);
/** link_inner() - sources the peer may use: what `inner` says, its far addresses, fe80::/64; n 0 = any. Return: 0, -ENOMEM */
int link_inner(const struct link *l, struct prefix **out, unsigned int *n);
/** link_liveness() - how it is watched: the kernel sends no dummies, so echoes stand for probes there */
enum liveness_mode link_liveness(const struct link *l);
/** link_state_name() - "up", "down", or "dormant": RFC 2863's word for waiting for an event, here a packet */
const char *link_state_name(const struct link *l);
/**
 * links_tick() - every 100 ms: liveness, endpoints, reservations; computes states, sets carriers
 * Return: false = it took so long that links are left over, and whoever asks should be answered first
 */
bool links_tick(struct daemon *d);
/** link_tick() - links_tick() that begins with this one: its state is as of now, however many there are */
void link_tick(struct daemon *d, struct link *l);
/** links_init() - read what a predecessor left; after load_open() */
int links_init(struct daemon *d);
/** links_on_link() - a device notification from a workload or the underlay namespace */
void links_on_link(struct daemon *d, const struct nl *nl, const struct nl_link *ev);
/** links_resync() - notifications were lost: look at every device again */
void links_resync(struct daemon *d);
/** links_on_backend() - a device notification from the backend namespace */
void links_on_backend(struct daemon *d, const struct nl_link *ev);
/** links_all_down() - carriers down: at a clean stop nothing pretends to work (I7) */
void links_all_down(struct daemon *d);
/** links_free() - forget everything; devices, guards and pins stay */
void links_free(struct daemon *d);
/** links_routes_changed() - after routing, address or device changes below: look every path up again */
void links_routes_changed(struct daemon *d);

#endif
