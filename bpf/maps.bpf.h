/* SPDX-License-Identifier: (GPL-2.0-or-later OR BSD-2-Clause) */
/*
 * Every map, once. All objects declare all of them and the loader gives each name one
 * kernel map, pinned under maps/. A size of 1 is set at load from max-links (user/load.c). Hashes
 * that only control writes, from syscalls, are not preallocated: most stay nearly empty.
 * "control" = ipsecd's control thread. Keys and values: include/ipsec_shared.h.
 */
#ifndef MAPS_BPF_H
#define MAPS_BPF_H

#define MAP(name, map_type, n, k, v)                                                               \
	struct {                                                                                   \
		__uint(type, map_type);                                                            \
		__uint(max_entries, n);                                                            \
		__type(key, k);                                                                    \
		__type(value, v);                                                                  \
	} name SEC(".maps")
#define MAP_F(name, map_type, f, n, k, v)                                                          \
	struct {                                                                                   \
		__uint(type, map_type);                                                            \
		__uint(map_flags, f);                                                              \
		__uint(max_entries, n);                                                            \
		__type(key, k);                                                                    \
		__type(value, v);                                                                  \
	} name SEC(".maps")

/* By link id. Writer: control; readers: classify, deliver. */
MAP(links, BPF_MAP_TYPE_ARRAY, 1, __u32, struct link_ent);
/* ifindex of a link's backend end, and of its xfrm device, -> link id. Writer: control; readers: classify, opened. */
MAP_F(link_by_if, BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC, 1, __u32, __u32);

/* ifindex of a link's device in the underlay -> link id. Writer: control; reader: lan_in. */
MAP_F(link_by_front, BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC, 1, __u32, __u32);
/* Devices with the shortcut, by ifindex. Writer: control; reader: lan_in. */
MAP_F(lan_dev, BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC, 256, __u32, struct lan_ent);

/* SPI -> SA. Writer: control; readers: wire_in, sock_filter, sock_in. */
MAP_F(sa_in, BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC, 1, struct sa_in_key, struct sa_in_ent);
/* {SPI, destination} of our own envelopes -> link id. Writer: control; readers: classify, sock_in, guard. */
MAP_F(env_out, BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC, 1, struct env_key, __u32);

/* Addresses of the underlay itself. Writer: control (from netlink); readers: wire_in, sock_in, guard. */
MAP_F(local_addr, BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC, 4096, struct addr_key, __u8);
/* What must not be seen in the clear -> enum protect_flags. Writer: control; reader: guard. */
MAP_F(protect, BPF_MAP_TYPE_LPM_TRIE, BPF_F_NO_PREALLOC, 1, struct lpm_key, __u32);
/* {link, source} that may come out of the kernel's ESP. Writer: control; reader: opened. */
MAP_F(inner_src, BPF_MAP_TYPE_LPM_TRIE, BPF_F_NO_PREALLOC, 1, struct inner_key, __u8);
/* Between whom a link is in transport mode, where the kernel encrypts. Writer: control; readers: classify, deliver, opened. */
MAP_F(hosts, BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC, 1, __u32, struct host_ent);
/* Wild-side addresses of peers. Writer: control; reader: guard. */
MAP_F(peer_addr, BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC, 1, struct addr_key, __u8);
/* fwmark -> table and last FIB answer. Writer: ipsecd's netlink side; readers: people. */
MAP_F(marks, BPF_MAP_TYPE_HASH, BPF_F_NO_PREALLOC, 1, __u32, struct mark_ent);
MAP(settings, BPF_MAP_TYPE_ARRAY, 1, __u32, struct settings_ent);

/* Funnels. Writer: control, ifindexes of the backend netns. */
MAP(workers, BPF_MAP_TYPE_ARRAY, WORKER_MAX, __u32, struct worker_ent);
MAP(wire_dev, BPF_MAP_TYPE_DEVMAP, WORKER_MAX, __u32, __u32); /* worker -> wire funnel */
MAP(raw_dev, BPF_MAP_TYPE_DEVMAP, WORKER_MAX, __u32, __u32);  /* worker -> raw funnel, for lan_in */
MAP(funnel_by_if, BPF_MAP_TYPE_HASH, 256, __u32, __u32);      /* receiving end -> index in xsks */
MAP(xsks, BPF_MAP_TYPE_XSKMAP, 2 * WORKER_MAX, __u32, __u32);

/* Flow -> time of its last super-packet. Writer and reader: classify. Losing an entry costs
 * one reordering, so LRU; 64 Ki because a small LRU evicts early on many CPUs. */
MAP(sticky, BPF_MAP_TYPE_LRU_HASH, 65536, struct sticky_key, __u64);

/* Which link carries which. Writer and reader: classify, on any core; a torn entry is one wrong guess. */
MAP(nest, BPF_MAP_TYPE_ARRAY, 1, __u32, struct nest_ent);

/* Our sockets, SO_COOKIE -> worker. Writer: control; readers: sock_filter, sock_out. */
MAP(sock_worker, BPF_MAP_TYPE_HASH, 1024, __u64, __u32);

/* Counters. Writers: the programs, own CPU only; readers: control, ipsecctl. */
MAP(link_ctr, BPF_MAP_TYPE_PERCPU_ARRAY, 1, __u32, struct link_ctr);
MAP(glob_ctr, BPF_MAP_TYPE_PERCPU_ARRAY, 1, __u32, struct glob_ctr);

/* What a worker knows of an SA and of its window. Reader beside ipsecd: wire_in, which drops what is old already. */
MAP_F(sactr, BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, 1, __u32, struct sa_ctr);
MAP_F(replay, BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, 1, __u32, __u64);

/* No program reads these: memory shared by ipsecd, its guardian and its successor. */
MAP_F(wctr, BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, 1, __u32, struct wlink_ctr);
MAP_F(beat, BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, 1, __u32, struct beat);

/* The envelope without an SA that was last noted. Writer: wire_in; reader: control. */
MAP_F(wire_note, BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, NOTE_MAX, __u32, struct wire_note);

#endif
