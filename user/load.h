/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * load - BPF objects, maps and attachments of one instance; the only file that knows skeletons.
 *
 * Thread: control only. Everything is pinned under <pin_dir>/{maps,progs,links} and outlives the
 * process; load_open() adopts maps left by a predecessor when their layout is the same, so that
 * counters, replay windows and a running default deny survive restart and upgrade. All path work
 * (pin, open, mount) happens in the host's mount namespace (hostns.h); everything that takes an
 * ifindex resolves it in the network namespace of the calling thread.
 *
 * Setters write the map at once and return 0 or -errno. Deleting what is not there is 0.
 * Addresses are struct in6_addr, v4-mapped for IPv4, as everywhere in user space.
 */
#ifndef LOAD_H
#define LOAD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include "ipsec_shared.h"
#include "util.h"

struct nl;
struct load;

struct load_conf {
	const char *pin_dir; /* /sys/fs/bpf/ipsec/<instance>; made, bpffs mounted if need be */
	uint32_t max_links;  /* 1..LINK_MAX */
	uint32_t n_workers;  /* 1..WORKER_MAX */
	bool no_tcx;         /* guard by clsact even where tcx exists: as before 6.6 */
};

/**
 * load_open() - load the programs, adopt or create the maps, pin both
 * Nothing that is pinned changes before every program has passed the verifier. Maps whose layout
 * differs are replaced, with one log line saying why; when only max_links changed, counters and
 * replay words are carried over. Sets beat[0].version.
 * Return: 0, or -errno with the reason logged.
 */
int load_open(struct load **lp, const struct load_conf *c);
/** load_close() - drop fds and mappings; pins, attachments and traffic go on. NULL is fine */
void load_close(struct load *l);
/**
 * load_release() - remove every pin and attachment of the instance: the guard falls too
 * Inside the underlay netns, else clsact guards (kernels before 6.6) stay behind.
 */
int load_release(const char *pin_dir);

/** load_adopted() - true when the maps of a predecessor are in use */
bool load_adopted(const struct load *l);
uint32_t load_max_links(const struct load *l);
/** load_max_sas() - SA slots, both directions together: elements of sactr */
uint32_t load_max_sas(const struct load *l);
/**
 * load_sweep() - delete adopted entries that no load_*_set() call has confirmed since load_open()
 * Call once the configuration is applied: until then the predecessor's links, SAs and protect
 * prefixes stay in force, so there is no gap. Covers links, link_by_front, lan_dev, sa_in, env_out, local_addr, protect,
 * inner_src, hosts, peer_addr, marks. Return: number of entries deleted.
 */
unsigned int load_sweep(struct load *l);

/* --- tables --- */

/** load_link_set() - links[id] = *e, link_by_if[e->b_ifindex] = link_by_front[e->f_ifindex] = id; forgets id's older ones */
int load_link_set(struct load *l, uint32_t id, const struct link_ent *e);
/** load_link_get() - what is in force, e.g. to adopt the generation of a predecessor */
int load_link_get(struct load *l, uint32_t id, struct link_ent *e);
/** load_link_del() - flags go to 0, gen stays so that the next user of id can count on */
int load_link_del(struct load *l, uint32_t id);
int load_sa_in_set(struct load *l, uint32_t spi_be, const struct sa_in_ent *e);
int load_sa_in_del(struct load *l, uint32_t spi_be);
/** load_env_set() - envelopes {spi, dst} belong to link id: classify refuses them on that link */
int load_env_set(struct load *l, uint32_t spi_be, const struct in6_addr *dst, uint32_t id);
int load_env_del(struct load *l, uint32_t spi_be, const struct in6_addr *dst);
/** load_addr_set() - addresses of the underlay: only envelopes to these are ours */
int load_addr_set(struct load *l, const struct in6_addr *a);
/** load_addr_has() - is this an address of the underlay? Any thread */
bool load_addr_has(struct load *l, const struct in6_addr *a);
int load_addr_del(struct load *l, const struct in6_addr *a);
/** load_protect_set() - flags: enum protect_flags */
int load_protect_set(struct load *l, const struct prefix *p, uint32_t flags);
int load_protect_del(struct load *l, const struct prefix *p);
/** load_inner_set() - a source that the peer of link id may use, where the kernel decrypts */
int load_inner_set(struct load *l, uint32_t id, const struct prefix *p);
int load_inner_del(struct load *l, uint32_t id, const struct prefix *p);
/** load_host_set() - between whom link id is in transport mode, where the kernel encrypts */
int load_host_set(struct load *l, uint32_t id, const struct host_ent *e);
int load_host_del(struct load *l, uint32_t id);
/** load_peer_set() - wild-side address of a peer: exempt from the guard (seed 3.2) */
int load_peer_set(struct load *l, const struct in6_addr *a);
int load_peer_del(struct load *l, const struct in6_addr *a);
int load_worker_set(struct load *l, uint32_t worker, const struct worker_ent *e);
/** load_settings_get() - also what a predecessor set */
int load_settings_get(struct load *l, struct settings_ent *e);
int load_settings_set(struct load *l, const struct settings_ent *e);
int load_mark_set(struct load *l, uint32_t mark, const struct mark_ent *e);
int load_mark_del(struct load *l, uint32_t mark);

/** load_wire_dev_set() - sending end of worker's wire funnel, 0 = none. Inside the backend netns */
int load_wire_dev_set(struct load *l, uint32_t worker, uint32_t ifindex);
/** load_raw_dev_set() - the same of its raw funnel, for the shortcut. Inside the backend netns */
int load_raw_dev_set(struct load *l, uint32_t worker, uint32_t ifindex);
/** load_lan_set() - ifindex is a device with the shortcut, its MAC address in *e */
int load_lan_set(struct load *l, uint32_t ifindex, const struct lan_ent *e);
int load_lan_del(struct load *l, uint32_t ifindex);
/** load_lan_each() - every device that has an entry, ours or a predecessor's; fn may delete it */
void load_lan_each(struct load *l, void (*fn)(void *arg, uint32_t ifindex), void *arg);
/** load_funnel_set() - frames arriving at ifindex (receiving end of a funnel) go to xsks[xsk] */
int load_funnel_set(struct load *l, uint32_t ifindex, uint32_t xsk);
/** load_xsk_fd() - the XSKMAP, for xsk_socket__update_xskmap(); indexes 0..2*WORKER_MAX-1 */
int load_xsk_fd(struct load *l);
/** load_xsk_set() - xsks[xsk] = socket; the kernel empties the entry when the socket closes */
int load_xsk_set(struct load *l, uint32_t xsk, int fd);
/** load_sock_worker_set() - socket (SO_COOKIE) of worker: unlisted raw ones take nothing, listed UDP ones send from 4500 */
int load_sock_worker_set(struct load *l, uint64_t cookie, uint32_t worker);
/** load_filter_fd() - for SO_ATTACH_BPF on raw protocol-50 sockets, both families */
int load_filter_fd(struct load *l);

/* --- attachments: idempotent; attaching again swaps the program without a gap --- */

/** load_attach_classify() - TC ingress of a link's backend end. @nl: of the backend netns */
int load_attach_classify(struct load *l, struct nl *nl, uint32_t ifindex);
/** load_attach_deliver() - TC ingress of a TAP or raw funnel (sending end). Inside the backend netns */
int load_attach_deliver(struct load *l, uint32_t ifindex);
/** load_attach_opened() - TC ingress of a link's xfrm device. Inside the backend netns */
int load_attach_opened(struct load *l, uint32_t ifindex);
/** load_attach_funnel() - native XDP on the receiving end of a funnel. Inside the backend netns */
int load_attach_funnel(struct load *l, uint32_t ifindex);
/**
 * load_attach_wire() - native XDP on an underlay device, pinned. Inside the underlay netns
 * Return: 0, -EOPNOTSUPP = no native XDP here (use the sockets), -EBUSY = somebody else's XDP,
 * or -errno.
 */
int load_attach_wire(struct load *l, uint32_t ifindex, const char *name);
int load_detach_wire(struct load *l, uint32_t ifindex, const char *name);
/** load_attach_lan() - native XDP on a LAN device, pinned: the shortcut. As load_attach_wire() */
int load_attach_lan(struct load *l, uint32_t ifindex, const char *name);
int load_detach_lan(struct load *l, uint32_t ifindex);
/**
 * load_attach_guard() - both directions; tcx and pinned from 6.6, else clsact
 * Inside the underlay netns, after the protect and peer tables are filled. A clsact that had to be made
 * goes with the last detach, or at release, unless others have filters in it.
 */
int load_attach_guard(struct load *l, uint32_t ifindex, const char *name);
int load_detach_guard(struct load *l, uint32_t ifindex, const char *name);
/**
 * load_attach_sock() - UDP 4500 on an underlay device: in to our sockets, out as their number
 * After the guard, which then sees the wire's number. Inside the underlay netns.
 */
int load_attach_sock(struct load *l, uint32_t ifindex, const char *name);
int load_detach_sock(struct load *l, uint32_t ifindex, const char *name);
/** load_guard_is_tcx() - for `doctor`: does the guard outlive `tc qdisc del`? */
bool load_guard_is_tcx(const struct load *l);

/* --- shared memory: pinned arrays, mapped read-write; valid until load_close() --- */

const struct wire_note *load_wire_note(struct load *l);
struct wlink_ctr *load_wctr(struct load *l);  /* [load_max_links()] */
struct sa_ctr *load_sactr(struct load *l);    /* [load_max_sas()] */
uint64_t *load_replay(struct load *l);        /* [load_max_sas() * SA_REPLAY_WORDS] */
struct beat *load_beat(struct load *l);
int load_beat_fd(struct load *l);             /* for the guardian's own mapping */

/** load_link_ctr() - sum over CPUs */
int load_link_ctr(struct load *l, uint32_t id, struct link_ctr *out);
int load_glob_ctr(struct load *l, struct glob_ctr *out);
/** load_link_ctr_zero() - a new link takes the id over */
int load_link_ctr_zero(struct load *l, uint32_t id);

#endif
