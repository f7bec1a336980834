/* SPDX-License-Identifier: (GPL-2.0-or-later OR BSD-2-Clause) */
/*
 * From bytes to struct ip_hdr. Works on direct packet pointers, so XDP and TC share it; fields
 * behind the fixed IP header are read by the caller with its context's load_bytes helper, or by
 * pointer after a bounds check. Fragments are named, never guessed; IPv6 extension headers are
 * left alone: what needs them is not ours.
 */
#ifndef PARSE_BPF_H
#define PARSE_BPF_H

enum { FRAG_NONE, FRAG_FIRST, FRAG_LATER };

struct ip_hdr {
	__u16 off;    /* of the IP header, from the start of the frame */
	__u16 l4_off; /* of what follows the IPv4 options or the fixed IPv6 header */
	__u32 len;    /* IP packet, header included, as its header says */
	__u8 proto;   /* IPv4 protocol or first IPv6 next header */
	__u8 frag;    /* FRAG_* */
	__u8 is6;
	__u8 hops; /* TTL or hop limit */
};

/* Make the first want bytes of a TC frame (or all of a shorter one) directly readable: a NIC may
 * leave headers in pages. Packet pointers must be taken afterwards. */
static __always_inline void skb_headers(struct __sk_buff *skb, __u32 want)
{
	void *data_end = (void *)(long)skb->data_end;
	void *data = (void *)(long)skb->data;
	__u32 len = skb->len;

	if (data + want > data_end)
		bpf_skb_pull_data(skb, len < want ? len : want);
}

static __always_inline __u8 frag4(__be16 frag_off)
{
	if (frag_off & bpf_htons(IP_OFFSET))
		return FRAG_LATER;
	return frag_off & bpf_htons(IP_MF) ? FRAG_FIRST : FRAG_NONE;
}

static __always_inline enum drop parse_ip4(void *data, void *data_end, __u16 off, __u32 room,
					   struct ip_hdr *h)
{
	struct iphdr *ip = data + off;
	__u32 hlen;

	if ((void *)(ip + 1) > data_end)
		return DROP_SHORT;
	hlen = ip->ihl * 4;
	if (ip->version != 4 || hlen < sizeof(*ip))
		return DROP_INNER_VERSION;
	h->len = bpf_ntohs(ip->tot_len);
	if (h->len < hlen || h->len > room)
		return DROP_SHORT;
	h->l4_off = off + hlen;
	h->proto = ip->protocol;
	h->frag = frag4(ip->frag_off);
	h->hops = ip->ttl;
	h->is6 = 0;
	return DROP_NONE;
}

static __always_inline enum drop parse_ip6(void *data, void *data_end, __u16 off, __u32 room,
					   struct ip_hdr *h)
{
	struct ipv6hdr *ip = data + off;

	if ((void *)(ip + 1) > data_end)
		return DROP_SHORT;
	if (ip->version != 6)
		return DROP_INNER_VERSION;
	h->len = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	if (h->len > room)
		return DROP_SHORT;
	h->l4_off = off + sizeof(*ip);
	h->proto = ip->nexthdr;
	h->frag = ip->nexthdr == NEXTHDR_FRAGMENT ? FRAG_FIRST : FRAG_NONE;
	h->hops = ip->hop_limit;
	h->is6 = 1;
	return DROP_NONE;
}

/*
 * parse_ip() - IP header of ethertype at off; room = bytes of the frame from off on, paged parts
 * included. Return: DROP_NONE, DROP_SHORT, or DROP_INNER_VERSION for what is no IP at all.
 */
static __always_inline enum drop parse_ip(void *data, void *data_end, __be16 ethertype, __u16 off,
					  __u32 room, struct ip_hdr *h)
{
	h->off = off;
	if (ethertype == bpf_htons(ETH_P_IP))
		return parse_ip4(data, data_end, off, room, h);
	if (ethertype == bpf_htons(ETH_P_IPV6))
		return parse_ip6(data, data_end, off, room, h);
	return DROP_INNER_VERSION;
}

static __always_inline void addr4(struct addr_key *k, __be32 a)
{
	k->word[0] = 0;
	k->word[1] = 0;
	k->word[2] = bpf_htonl(0xffff);
	k->word[3] = a;
}

static __always_inline void addr6(struct addr_key *k, const struct in6_addr *a)
{
	k->word[0] = a->in6_u.u6_addr32[0];
	k->word[1] = a->in6_u.u6_addr32[1];
	k->word[2] = a->in6_u.u6_addr32[2];
	k->word[3] = a->in6_u.u6_addr32[3];
}

/* Addresses of the IP packet at off, which parse_ip() has accepted. */
static __always_inline int parse_addrs(void *data, void *data_end, __u16 off, __u8 is6,
				       struct addr_key *src, struct addr_key *dst)
{
	struct ipv6hdr *ip6 = data + off;
	struct iphdr *ip4 = data + off;

	if (is6) {
		if ((void *)(ip6 + 1) > data_end)
			return -1;
		addr6(src, &ip6->saddr);
		addr6(dst, &ip6->daddr);
		return 0;
	}
	if ((void *)(ip4 + 1) > data_end)
		return -1;
	addr4(src, ip4->saddr);
	addr4(dst, ip4->daddr);
	return 0;
}

#endif
