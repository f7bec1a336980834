/* SPDX-License-Identifier: (GPL-2.0-or-later OR BSD-2-Clause) */
/* Counters. count_drop() and count_drop_link() are the only ways a packet disappears. */
#ifndef STATS_BPF_H
#define STATS_BPF_H

static __always_inline struct glob_ctr *glob_ctr_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&glob_ctr, &zero);
}

static __always_inline struct link_ctr *link_ctr_get(__u32 id)
{
	return bpf_map_lookup_elem(&link_ctr, &id);
}

static __always_inline void count_drop(enum drop why)
{
	struct glob_ctr *c = glob_ctr_get();

	if (c && why < DROP_MAX)
		c->drops[why]++;
}

static __always_inline void count_drop_link(struct link_ctr *c, enum drop why, __u32 segs)
{
	if (why < DROP_MAX)
		c->drops[why] += segs;
}

#endif
