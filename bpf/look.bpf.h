/* SPDX-License-Identifier: (GPL-2.0-or-later OR BSD-2-Clause) */
/*
 * A packet on an underlay device through the eyes of a TC program: addresses, protocol and where the
 * layer behind begins, with VLAN tags, IPv6 fragment headers and devices without Ethernet header.
 * By bpf_skb_load_bytes(): headers may lie in pages. Shared by guard and sock programs.
 */
#ifndef LOOK_BPF_H
#define LOOK_BPF_H

/* One packet on an underlay device, as TC sees it: ours is the local side of it, theirs the wild one. */
struct seen {
	struct ip_hdr ip;
	struct addr_key ours;
	struct addr_key theirs;
};

#define VLAN_TAGS_MAX 2

/* Skip VLAN tags that stand in the frame. Return: offset behind them, *proto what follows. */
static __always_inline __u32 skip_tags(struct __sk_buff *skb, __u32 off, __be16 *proto)
{
	int i;

	for (i = 0; i < VLAN_TAGS_MAX; i++) {
		if (*proto != bpf_htons(ETH_P_8021Q) && *proto != bpf_htons(ETH_P_8021AD))
			break;
		if (bpf_skb_load_bytes(skb, off + 2, proto, sizeof(*proto)))
			break;
		off += 4;
	}
	return off;
}

/* Offset of the IP header; l3 devices (ppp, tun) have no Ethernet header in front of it. */
static __always_inline __u32 ip_off(struct __sk_buff *skb, bool l3, __be16 *proto)
{
	*proto = skb->protocol;
	if (l3)
		return 0;
	if (bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_proto), proto, sizeof(*proto)))
		return 0;
	return skip_tags(skb, ETH_HLEN, proto);
}

static __always_inline bool look4(struct __sk_buff *skb, struct seen *s, __u32 off, bool egress)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, off, &ip, sizeof(ip)))
		return false;
	s->ip.proto = ip.protocol;
	s->ip.l4_off = off + ip.ihl * 4;
	s->ip.frag = frag4(ip.frag_off);
	addr4(egress ? &s->ours : &s->theirs, ip.saddr);
	addr4(egress ? &s->theirs : &s->ours, ip.daddr);
	return true;
}

static __always_inline bool look6(struct __sk_buff *skb, struct seen *s, __u32 off, bool egress)
{
	struct frag_hdr fh;
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, off, &ip, sizeof(ip)))
		return false;
	off += sizeof(ip);
	s->ip.is6 = 1;
	s->ip.proto = ip.nexthdr;
	s->ip.hops = ip.hop_limit;
	if (ip.nexthdr == NEXTHDR_FRAGMENT && !bpf_skb_load_bytes(skb, off, &fh, sizeof(fh))) {
		s->ip.proto = fh.nexthdr;
		s->ip.frag = fh.frag_off & bpf_htons(IP6_FRAG_OFFSET) ? FRAG_LATER : FRAG_FIRST;
		off += sizeof(fh);
	}
	s->ip.l4_off = off;
	addr6(egress ? &s->ours : &s->theirs, &ip.saddr);
	addr6(egress ? &s->theirs : &s->ours, &ip.daddr);
	return true;
}

static __always_inline bool look_at(struct __sk_buff *skb, struct seen *s, bool egress, bool l3)
{
	__be16 proto;
	__u32 off = ip_off(skb, l3, &proto);

	if (proto == bpf_htons(ETH_P_IP))
		return look4(skb, s, off, egress);
	if (proto == bpf_htons(ETH_P_IPV6))
		return look6(skb, s, off, egress);
	return false;
}

#endif
