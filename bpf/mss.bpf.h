/* SPDX-License-Identifier: (GPL-2.0-or-later OR BSD-2-Clause) */
/*
 * mss-clamp: a SYN that crosses a link, either way, names no larger segment than the link carries.
 * For paths whose routers or firewalls swallow the ICMP errors that would say so. RFC 9293 3.7.1.
 */
#ifndef MSS_BPF_H
#define MSS_BPF_H

#define TCP_HDR_MIN     20
#define TCP_FLAGS_OFF   13
#define TCP_CSUM_OFF    16
#define TCP_SYN         0x02
#define TCP_OPT_END     0
#define TCP_OPT_NOP     1
#define TCP_OPT_MSS     2
#define TCP_OPT_MSS_LEN 4
#define TCP_OPTS_MAX    40 /* bytes, hence steps */

/* A walk along TCP options. */
struct opt_walk {
	struct __sk_buff *skb;
	__u32 at, end; /* offsets in the frame */
	__u32 found;   /* offset of the MSS option, 0 = none */
};

/* One option. Return: 1 = done */
static long opt_step(__u64 i, struct opt_walk *w)
{
	__u8 opt[2];

	if (w->at + sizeof(opt) > w->end || bpf_skb_load_bytes(w->skb, w->at, opt, sizeof(opt)) ||
	    opt[0] == TCP_OPT_END)
		return 1;
	if (opt[0] == TCP_OPT_NOP) {
		w->at++;
		return 0;
	}
	if (opt[0] == TCP_OPT_MSS) {
		if (opt[1] == TCP_OPT_MSS_LEN && w->at + TCP_OPT_MSS_LEN <= w->end)
			w->found = w->at;
		return 1;
	}
	w->at += opt[1];
	return opt[1] < sizeof(opt);
}

/*
 * Offset of the MSS option in a TCP header at l4. 0 = it has none, or is torn before it.
 * bpf_loop(): as a plain loop the paths through 40 options are more than the verifier walks (6.18).
 */
static __always_inline __u32 mss_option(struct __sk_buff *skb, __u32 l4, __u32 hdr_len)
{
	struct opt_walk w = {.skb = skb, .at = l4 + TCP_HDR_MIN, .end = l4 + hdr_len};

	bpf_loop(TCP_OPTS_MAX, opt_step, &w, 0);
	return w.found;
}

/*
 * Lower the MSS of a SYN; whatever is no SYN, a fragment, or has no larger MSS stays as it is. The
 * checksum follows by difference, so a wrong one stays wrong and one left to the device stays that.
 */
static __always_inline void clamp_mss(struct __sk_buff *skb, const struct link_ent *l,
				      const struct ip_hdr *ip)
{
	__u16 most = ip->is6 ? l->mss6 : l->mss4;
	struct ip_hdr h = *ip;
	__be16 old, new = bpf_htons(most);
	__u8 tcp[2]; /* data offset, flags */
	__u32 l4, at;

	if (!most || skb->gso_size)
		return;
	l4 = ip->is6 ? skip_exts(skb, &h, h.l4_off) : h.l4_off;
	if (h.proto != IPPROTO_TCP || h.frag != FRAG_NONE ||
	    bpf_skb_load_bytes(skb, l4 + TCP_FLAGS_OFF - 1, tcp, sizeof(tcp)) || !(tcp[1] & TCP_SYN))
		return;
	at = mss_option(skb, l4, (tcp[0] >> 4) * 4);
	if (!at || bpf_skb_load_bytes(skb, at + 2, &old, sizeof(old)) || bpf_ntohs(old) <= most)
		return;
	bpf_skb_store_bytes(skb, at + 2, &new, sizeof(new), 0);
	if ((at - l4) & 1) { /* behind one NOP: it lies across two words of the sum */
		old = __builtin_bswap16(old);
		new = __builtin_bswap16(new);
	}
	bpf_l4_csum_replace(skb, l4 + TCP_CSUM_OFF, old, new, sizeof(new));
}

#endif
