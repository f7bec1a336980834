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
#define LOOK_EXT_MAX  4 /* IPv6 extension headers, fragment header included, before what they carry */
#define ICMP_HDR_LEN  8

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
	s->ip.off = off;
	s->ip.proto = ip.protocol;
	s->ip.l4_off = off + ip.ihl * 4;
	s->ip.frag = frag4(ip.frag_off);
	addr4(egress ? &s->ours : &s->theirs, ip.saddr);
	addr4(egress ? &s->theirs : &s->ours, ip.daddr);
	return true;
}

/* Step over the extension headers that may stand before ESP or UDP: RFC 8200 4, RFC 4303 3.1.2. */
static __always_inline __u32 skip_exts(struct __sk_buff *skb, struct ip_hdr *ip, __u32 off)
{
	struct frag_hdr fh;
	__u8 ext[2];
	int i;

	for (i = 0; i < LOOK_EXT_MAX && ip->frag != FRAG_LATER; i++) {
		if (ip->proto == NEXTHDR_FRAGMENT) {
			if (bpf_skb_load_bytes(skb, off, &fh, sizeof(fh)))
				break;
			ip->proto = fh.nexthdr;
			ip->frag = fh.frag_off & bpf_htons(IP6_FRAG_OFFSET) ? FRAG_LATER : FRAG_FIRST;
			off += sizeof(fh);
		} else if (ip->proto == NEXTHDR_HOP || ip->proto == NEXTHDR_ROUTING ||
			   ip->proto == NEXTHDR_DEST) {
			if (bpf_skb_load_bytes(skb, off, ext, sizeof(ext)))
				break;
			ip->proto = ext[0];
			off += (ext[1] + 1) * 8;
		} else {
			break;
		}
	}
	return off;
}

static __always_inline bool look6(struct __sk_buff *skb, struct seen *s, __u32 off, bool egress)
{
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, off, &ip, sizeof(ip)))
		return false;
	s->ip.off = off;
	s->ip.is6 = 1;
	s->ip.proto = ip.nexthdr;
	s->ip.hops = ip.hop_limit;
	s->ip.l4_off = skip_exts(skb, &s->ip, off + sizeof(ip));
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

static __always_inline bool is_icmp(const struct seen *s)
{
	return s->ip.proto == (s->ip.is6 ? NEXTHDR_ICMP : IPPROTO_ICMP);
}

/*
 * The packet that an ICMP error quotes, seen as one that went out: q->ours is its source.
 * Return: false = no error, or nothing that can be read in it. RFC 792, RFC 4443 2.1.
 */
static __always_inline bool quoted(struct __sk_buff *skb, const struct seen *s, struct seen *q)
{
	__u32 off = s->ip.l4_off + ICMP_HDR_LEN;
	__u8 type;

	if (!is_icmp(s) || s->ip.frag != FRAG_NONE ||
	    bpf_skb_load_bytes(skb, s->ip.l4_off, &type, sizeof(type)))
		return false;
	if (s->ip.is6)
		return type >= 1 && type <= 4 && look6(skb, q, off, true);
	return (type == 3 || type == 11 || type == 12) && look4(skb, q, off, true);
}

#endif
