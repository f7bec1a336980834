/* SPDX-License-Identifier: GPL-2.0-or-later */
/* In place of libbpf's: maps are objects whose address is all that counts, helpers are the harness's functions. */
#ifndef USER_BPF_HELPERS_H
#define USER_BPF_HELPERS_H

/* the C library's spelling */
#define in6_u	   __in6_u
#define u6_addr32  __u6_addr32
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))

#define SEC(name) __attribute__((unused))
#define __uint(name, val) int(*name)[val]
#define __type(name, val) typeof(val) *name
#define barrier_var(var) ((void)(var))

void *bpf_map_lookup_elem(void *map, const void *key);
long bpf_redirect_map(void *map, __u64 key, __u64 flags);
__u64 bpf_xdp_get_buff_len(struct xdp_md *ctx);
long bpf_skb_load_bytes(const void *skb, __u32 offset, void *to, __u32 len);
long bpf_skb_store_bytes(struct __sk_buff *skb, __u32 offset, const void *from, __u32 len, __u64 flags);
long bpf_skb_change_type(struct __sk_buff *skb, __u32 type);
long bpf_skb_pull_data(struct __sk_buff *skb, __u32 len);
long bpf_l4_csum_replace(struct __sk_buff *skb, __u32 offset, __u64 from, __u64 to, __u64 flags);
long bpf_l3_csum_replace(struct __sk_buff *skb, __u32 offset, __u64 from, __u64 to, __u64 flags);
__s64 bpf_csum_diff(__be32 *from, __u32 from_len, __be32 *to, __u32 to_len, __u32 seed);
long bpf_csum_level(struct __sk_buff *skb, __u64 level);
long bpf_loop(__u32 n, void *fn, void *ctx, __u64 flags);
long bpf_skb_change_head(struct __sk_buff *skb, __u32 len, __u64 flags);
long bpf_skb_change_tail(struct __sk_buff *skb, __u32 len, __u64 flags);
long bpf_redirect(__u32 ifindex, __u64 flags);
long bpf_redirect_peer(__u32 ifindex, __u64 flags);
__u64 bpf_ktime_get_boot_ns(void);

#endif
