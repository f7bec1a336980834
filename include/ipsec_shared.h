/* SPDX-License-Identifier: (GPL-2.0-or-later OR BSD-2-Clause) */
/*
 * THE contract between the BPF programs and user space: map keys and values,
 * the stamp in the MAC bytes, limits. Both sides compile this file.
 *
 * Fixed-width types, explicit padding, no pointers. Fields ending in _be are
 * in network order, everything else in host order. No key material ever
 * appears here (I3): BPF knows SPI -> {slot, generation, link, worker}.
 */
#ifndef IPSEC_SHARED_H
#define IPSEC_SHARED_H

#ifndef __bpf__
#include <linux/types.h>
#endif
#include "ipsec_drops.h"

enum {
	SHARED_VERSION = 11,    /* bumped on any layout change; checked when adopting pins */
	LINK_MAX = 16384,      /* link ids 0..LINK_MAX-1; maps are sized by `max-links` */
	WORKER_MAX = 64,
	ESP_PORT = 4500,       /* RFC 3948 */
	NEST_MAX = 8,          /* tunnels in each other; more is no end */
	NEST_NS = 1000000000,  /* how long an envelope seen to enter a link tells the way of the next */
	STICKY_NS = 500000000, /* a flow that sent a super-packet stays on the GSO funnel this long */
	FUNNEL_MTU = 3498,     /* single-buffer XDP on veth; larger raw packets take the TAP */
	JUMBO_MTU = 9216,      /* wire funnel where AF_XDP takes a frame in several buffers (6.6) */
	SA_PER_LINK = 4,       /* slots: two directions, each with one being replaced */
	SA_REPLAY_WORDS = 80,  /* size of the `replay` pool per slot; out SAs take none, 4096 takes 128 */
};

/*
 * struct stamp - what BPF tells the worker, and the worker tells BPF, about a
 * frame inside the backend namespace. It lives in the 12 MAC address bytes of
 * the Ethernet header, the only channel that survives veth, TAP and XSK alike.
 */
struct stamp {
	__u16 link;  /* link id */
	__u16 gen;   /* generation of that link id: a reused id is noticed */
	__u32 slot;  /* raw: out SA slot (hint). wire: in SA slot */
	__u16 sgen;  /* generation of that slot */
	__u8 kind;   /* enum stamp_kind */
	__u8 flags;  /* enum stamp_flags */
};
#ifndef __cplusplus
_Static_assert(sizeof(struct stamp) == 12, "stamp fills the two MAC addresses");
#endif

enum stamp_kind {
	STAMP_RAW = 1,     /* classifier -> worker: IP packet to encrypt */
	STAMP_WIRE = 2,    /* wire-in -> worker: the whole outer IP packet */
	STAMP_DELIVER = 3, /* worker -> delivery program: inner packet for link */
	STAMP_SEAL = 4,    /* worker -> delivery program: IP packet for the kernel to encrypt, on link */
	STAMP_OPENED = 5,  /* from the kernel's ESP -> worker: an echo of a worker's, or its answer */
};

enum stamp_flags {
	STAMP_F_UNFINISHED = 1 << 0, /* raw: the TCP or UDP checksum may still be the pseudo-header's sum only */
	STAMP_F_NESTED = 1 << 1,     /* raw: an envelope of ours, of another link: the worker asks where those of this one go */
};

/* links[link id]; writer: ipsecd control thread; reader: classifier, delivery */
struct link_ent {
	__u32 flags;     /* enum link_flags */
	__u32 b_ifindex; /* backend end, in the backend netns */
	__u32 worker;
	__u32 out_slot;  /* outbound SA in use */
	__u16 out_sgen;
	__u16 gen;
	__u32 mtu;       /* of ipsecN */
	__u32 f_ifindex; /* ipsecN itself, in the underlay; 0 = it lies in another namespace */
	__u16 mss4, mss6; /* SYNs name no larger segment (mss-clamp), 0 = as they come */
	__u32 x_ifindex; /* LINK_F_KERNEL: its xfrm device, in the backend netns */
	__be16 echo_id;  /* LINK_F_KERNEL: answers with it are the worker's */
	__u16 pad;
};

enum link_flags {
	LINK_F_USED = 1 << 0,
	LINK_F_OUT_SA = 1 << 1, /* out_slot is valid */
	LINK_F_LOOP = 1 << 2,   /* control plane found the envelope routed back into links */
	LINK_F_NO_XSK = 1 << 3, /* always use the GSO funnel (TAP) */
	LINK_F_KERNEL = 1 << 4, /* the kernel encrypts: everything goes to x_ifindex */
	LINK_F_INNER = 1 << 5,  /* LINK_F_KERNEL: only sources in inner_src come in */
	LINK_F_SHUT = 1 << 6,   /* somebody wants it down: nothing comes in (workers know it by themselves) */
	LINK_F_HOSTS = 1 << 7,  /* LINK_F_KERNEL: in transport mode, between those of `hosts` */
};

/* 128-bit address key: IPv4 in word[3] with word[0..1]=0, word[2]=htonl(0xffff) (v4-mapped) */
struct addr_key {
	__be32 word[4];
};

/* Two addresses, as a packet's header has them. */
struct ends {
	struct addr_key src, dst;
};

/*
 * hosts[link id]: between whom a link of the kernel's is in transport mode. Outbound, from here to there; no entry: not
 * known, and nothing passes. Writer: ipsecd control thread; readers: classify, deliver, opened
 */
struct host_ent {
	struct ends wild; /* of the state in use */
	struct ends own;  /* the link's, where they are others; all zero = they are those */
	__u32 flags;      /* enum host_flags */
};
enum host_flags {
	HOST_F_UDP = 1 << 0, /* a NAT may have changed what the sums of upper layers were made over: RFC 3948 3.1.2 */
};

/* sa_in[spi_be]; writer: ipsecd control thread; reader: wire-in, socket filters */
struct sa_in_key {
	__be32 spi_be;
};
struct sa_in_ent {
	__u32 slot;
	__u16 sgen;
	__u16 link;
	__u32 worker;
	__u32 flags;  /* enum sa_in_flags */
	__u32 window; /* numbers so far behind are replays; 0 = the worker alone judges */
	struct addr_key home; /* SA_IN_F_KERNEL: the one address at which the kernel's state takes envelopes; 0 = there is none */
};
enum sa_in_flags {
	SA_IN_F_SOCKET = 1 << 0, /* leave to the sockets: XDP passes it up (input = socket) */
	SA_IN_F_UDP = 1 << 1,    /* arrives UDP-encapsulated */
	SA_IN_F_KERNEL = 1 << 2, /* the kernel's own ESP has it: no program and no socket of ours takes it */
	SA_IN_F_ESN = 1 << 3,    /* the wire shows half of the number */
};

/* lan_dev[ifindex]; writer: ipsecd control thread; reader: lan_in */
struct lan_ent {
	__u8 mac[6];
	__u8 flags; /* enum lan_flags */
	__u8 pad;
};
enum lan_flags {
	/* a veth or TAP: the sender's stack may count on a device to finish checksums, and XDP cannot see that it does */
	LAN_F_UNFINISHED = 1 << 0,
};

/* env_out: our own envelopes by {SPI, destination} -> link id, for the route-loop check */
struct env_key {
	__be32 spi_be;
	struct addr_key dst;
};

/* protect: LPM, v4-mapped for IPv4 (prefixlen + 96); value = enum protect_flags */
struct lpm_key {
	__u32 prefixlen;
	struct addr_key addr;
};

/* inner_src: which sources the peer of a link may use, where the kernel decrypts; value = 1 */
struct inner_key {
	__u32 prefixlen; /* 32 for the link, then as in protect */
	__be32 link_be;
	struct addr_key addr;
};

enum protect_flags {
	PROTECT_F_OUT = 1 << 0, /* never leaves an underlay device in the clear (I1) */
	PROTECT_F_IN = 1 << 1,  /* never accepted from one in the clear (I1b) */
	PROTECT_F_BOTH = PROTECT_F_OUT | PROTECT_F_IN,
	PROTECT_F_IP6 = 1 << 2, /* set by the loader: ::/0 must not match v4-mapped addresses */
};

/* settings[0]; writer: ipsecd control thread; readers: wire-in, sock-in */
struct settings_ent {
	__u32 flags; /* enum settings_flags */
	__be16 kernel_port_be; /* private port of the socket by which the kernel's ESP gets what comes in UDP, 0 = none yet */
	__u16 pad;
};
enum settings_flags {
	SETTINGS_F_ESP_OURS = 1 << 0, /* esp = ours: unknown SPIs to us die silently (I4), else shared */
	SETTINGS_F_AUDIT = 1 << 2,    /* note one unknown and one fragmented envelope per second */
	SETTINGS_F_SOCKET = 1 << 1,   /* input = socket: wire-in leaves everything to the stack */
};

/*
 * wire_note[NOTE_*]: the last envelope to us without an SA that was noted, and the last one that came in fragments,
 * each one per second at most, for the audit.
 * Writer: wire_in on the CPU that wins claim_ns; ns is stored last. Reader: ipsecd control thread, mapped.
 */
struct wire_note {
	__u64 claim_ns; /* CLOCK_BOOTTIME, as ns */
	__u64 ns;
	struct addr_key src, dst;
	__be32 spi_be, seq_be;
	__u32 flow; /* IPv6 flow label */
	__u32 pad;
};
enum { NOTE_NO_SA, NOTE_FRAGMENT, NOTE_MAX };

/* sticky: flows that lately sent super-packets; value = bpf_ktime_get_coarse_ns() of the last one */
struct sticky_key {
	__u32 link;
	__u32 hash;
};

/* nest[link]: into which link this link's envelopes were seen to go last */
struct nest_ent {
	__u64 ns;   /* bpf_ktime_get_coarse_ns() */
	__u32 over; /* link id */
	__u32 pad;
};

/* workers[k]; funnel ifindexes inside the backend netns, the port in the underlay */
struct worker_ent {
	__u32 tap_ifindex;
	__u32 raw_ifindex; /* sending end of the raw XSK funnel, 0 = none yet */
	__u32 wire_mtu;    /* longest packet its wire funnel takes; larger envelopes go to the sockets */
	__be16 udp_port_be; /* private port of the worker's UDP sockets, both families */
	__u16 pad;
};

/* tables[mark]: which table a fwmark selects and what the last FIB answer was.
 * Writer: ipsecd netlink thread; reader: ipsecctl maps/why and the classifier's loop flag. */
struct mark_ent {
	__u32 table;
	__u32 n_paths;
	__u32 oif;  /* output device of the last lookup, 0 = no route */
	__u32 loop; /* 1 = resolves to a link */
};

/* link_ctr[link id], per-CPU; writers: the BPF programs. Unit of *_segs: wire segments. */
struct link_ctr {
	__u64 raw_segs;    /* entered the classifier */
	__u64 raw_bytes;
	__u64 tap_segs;    /* handed to the GSO funnel */
	__u64 xsk_segs;    /* handed to the XSK funnel */
	__u64 wire_pkts;   /* steered by wire-in to the wire funnel */
	__u64 wire_bytes;
	__u64 deliver_pkts; /* skbs given to ipsecN (super-packets count once) */
	__u64 lan_segs;     /* of raw_segs: by the shortcut, unseen by ipsecN's own counters */
	__u64 kernel_segs;  /* handed to the xfrm device */
	__u64 opened_segs;  /* that came out of it and were given to ipsecN */
	__u64 wants_sa;     /* dropped as no-sa and for one receiver: worth an SA, where multicast of the kernel's own is not */
	__u64 drops[DROP_MAX];
};

/* glob_ctr[0], per-CPU: what belongs to no link */
struct glob_ctr {
	__u64 wire_pass;      /* not ours: left to the stack */
	__u64 wire_pass_frag; /* fragments left to the stack to reassemble */
	__u64 keepalives;     /* RFC 3948 2.3, swallowed: nobody is bound to UDP 4500 */
	__u64 guard_pass;     /* matched a protect prefix and passed all the same: ESP, IKE, to a peer itself */
	__u64 drops[DROP_MAX];
};

/*
 * wctr[link id]: the worker's side of the books, BPF_F_MMAPABLE and pinned so
 * that it outlives the daemon. Writer: the one worker that owns the link; of *_kernel_pkts and _bytes the control
 * thread, which adds up what the kernel's states have counted.
 */
struct wlink_ctr {
	__u64 out_tap_segs;  /* received from the GSO funnel */
	__u64 out_xsk_segs;  /* received from the XSK funnel */
	__u64 out_pkts;      /* raw segments emitted as envelopes (dummies and probes excluded) */
	__u64 out_bytes;     /* inner bytes of those */
	__u64 out_probes;    /* probes, probe replies and dummies sent */
	__u64 in_xsk_pkts;   /* received from the wire funnel */
	__u64 in_sock_pkts;  /* received from sockets */
	__u64 in_pkts;       /* delivered inner packets (segments) */
	__u64 in_bytes;
	__u64 in_probes;     /* authenticated probes and dummies received */
	__u64 lost;          /* holes in the peer's sequence that never filled: true wire loss */
	__u64 out_kernel_pkts, out_kernel_bytes; /* by the kernel, echoes of ours included */
	__u64 in_kernel_pkts, in_kernel_bytes;
	__u64 kernel_probes, kernel_probe_bytes; /* of out_probes: given to the kernel */
	__u64 kernel_echo_bytes; /* of in_kernel_bytes: echoes that were the worker's */
	__u64 drops_out[DROP_MAX];
	__u64 drops_in[DROP_MAX];
};

/*
 * sactr[slot]: per SA, BPF_F_MMAPABLE and pinned. Writer: the owning worker, or the control thread for an SA
 * that the kernel has; the identity fields: control thread, before the SA is live.
 * The replay window itself stands in `replay` at word_off.
 */
struct sa_ctr {
	__be32 spi_be;       /* identity: an adopted slot must match all of these */
	__u32 dir;           /* 0 free, 1 out, 2 in */
	__u64 fingerprint;   /* of the key: never the key */
	__u32 word_off;      /* in SA: first word in `replay` */
	__u32 n_words;
	__u64 top;           /* in: highest authenticated sequence; out: last one used */
	__u64 pkts;
	__u64 bytes;
	__u64 last_used_ns;  /* CLOCK_BOOTTIME */
	__u64 replay_drops;
	__u64 icv_drops;
	__u64 settled;       /* in: `replay` is in order up to here; never above top */
	__u64 early_drops;   /* replays that never reached the worker. Writer: wire_in, any core */
	__u64 let_ns;        /* when one that looked like a replay was let through. Writer: wire_in */
	__u64 state_pkts;    /* the kernel's state in use, when it was last asked: a successor counts on from there */
	__u64 state_bytes;
};

/* beat[0]: BPF_F_MMAPABLE; heartbeat of ipsecd, read by the guardian */
struct beat {
	__u64 control_ns;             /* CLOCK_BOOTTIME of the control thread's last turn */
	__u64 worker_ns[WORKER_MAX];  /* 0 = worker not running */
	__u32 version;                /* SHARED_VERSION of whoever created the maps */
	__u32 pid;
};

#endif
