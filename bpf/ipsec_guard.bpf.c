// SPDX-License-Identifier: (GPL-2.0-or-later OR BSD-2-Clause)
/*
 * Default deny on underlay devices (I1 layer c, I1b): what a link protects neither leaves nor
 * enters in the clear, whatever routes, rules and policies say. TC on both sides of each device.
 *
 * Passes all the same, counted as guard_pass:
 *   - ESP: it is not cleartext;
 *   - whatever goes to or comes from a peer's own wild-side address (the seed's deliberate
 *     cleartext, 3.2), IKE included;
 *   - IKE and NAT-T (UDP 500, 4500) between a local address of the underlay and anybody: with
 *     protect = 0.0.0.0/0 a peer whose address is not known yet must be able to call;
 *   - neighbour discovery, and what is link-local and hence never routed into a link.
 * Everything else continues down the chain (TC_ACT_UNSPEC): no other filter is overruled.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "kdefs.bpf.h"
#include "ipsec_shared.h"
#include "maps.bpf.h"
#include "parse.bpf.h"
#include "stats.bpf.h"

#define IKE_PORT      500
#define VLAN_TAGS_MAX 2
#define NDP_FIRST     133 /* RFC 4861: router solicitation .. redirect */
#define NDP_LAST      137
#define NDP_HOPS      255

/* The packet from the guard's point of view: ours is local, theirs is what may be protected. */
struct seen {
	struct ip_hdr ip;
	struct addr_key ours;
	struct addr_key theirs;
};

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

/* Never routed, hence never meant for a link: RFC 4291 2.5.6, RFC 3927, RFC 5771 4. */
static __always_inline bool link_scope(const struct addr_key *a)
{
	__u32 v4 = bpf_ntohl(a->word[3]);

	if (a->word[0] == 0 && a->word[1] == 0 && a->word[2] == bpf_htonl(0xffff))
		return !v4 || v4 == 0xffffffff || v4 >> 16 == 0xa9fe || v4 >> 8 == 0xe00000;
	if (a->word[0] == 0 && a->word[1] == 0 && a->word[2] == 0 && a->word[3] == 0)
		return true;
	return (a->word[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000) ||
	       (a->word[0] & bpf_htonl(0xff0f0000)) == bpf_htonl(0xff020000);
}

static __always_inline bool is_ike(struct __sk_buff *skb, const struct seen *s, bool egress)
{
	__be16 port[2];
	__u16 our_port;

	if (s->ip.proto != IPPROTO_UDP || s->ip.frag == FRAG_LATER)
		return false;
	if (bpf_skb_load_bytes(skb, s->ip.l4_off, port, sizeof(port)))
		return false;
	our_port = bpf_ntohs(egress ? port[0] : port[1]);
	if (our_port != IKE_PORT && our_port != ESP_PORT)
		return false;
	return bpf_map_lookup_elem(&local_addr, &s->ours);
}

static __always_inline bool is_ndp(struct __sk_buff *skb, const struct seen *s)
{
	__u8 type;

	if (!s->ip.is6 || s->ip.proto != NEXTHDR_ICMP || s->ip.hops != NDP_HOPS)
		return false;
	if (bpf_skb_load_bytes(skb, s->ip.l4_off, &type, sizeof(type)))
		return false;
	return type >= NDP_FIRST && type <= NDP_LAST;
}

static __always_inline bool may_pass(struct __sk_buff *skb, const struct seen *s, bool egress)
{
	if (s->ip.proto == IPPROTO_ESP || link_scope(&s->theirs))
		return true;
	if (bpf_map_lookup_elem(&peer_addr, &s->theirs))
		return true;
	return is_ike(skb, s, egress) || is_ndp(skb, s);
}

static __always_inline int guard(struct __sk_buff *skb, bool egress, bool l3)
{
	struct lpm_key k = {.prefixlen = 128};
	struct glob_ctr *c;
	struct seen s = {};
	__u32 *flags;

	if (!look_at(skb, &s, egress, l3))
		return TC_ACT_UNSPEC; /* ARP and other non-IP */
	k.addr = s.theirs;
	flags = bpf_map_lookup_elem(&protect, &k);
	if (!flags || !(*flags & (egress ? PROTECT_F_OUT : PROTECT_F_IN)))
		return TC_ACT_UNSPEC;
	if (*flags & PROTECT_F_IP6 && !s.ip.is6)
		return TC_ACT_UNSPEC; /* ::/0 and the like: an IPv4 prefix is longer */
	if (!may_pass(skb, &s, egress)) {
		count_drop(egress ? DROP_GUARD_CLEARTEXT : DROP_PLAIN_FOR_PROTECTED);
		return TC_ACT_SHOT;
	}
	c = glob_ctr_get();
	if (c)
		c->guard_pass++;
	return TC_ACT_UNSPEC;
}

SEC("tc")
int guard_out(struct __sk_buff *skb)
{
	return guard(skb, true, false);
}

SEC("tc")
int guard_in(struct __sk_buff *skb)
{
	return guard(skb, false, false);
}

SEC("tc")
int guard_out_l3(struct __sk_buff *skb)
{
	return guard(skb, true, true);
}

SEC("tc")
int guard_in_l3(struct __sk_buff *skb)
{
	return guard(skb, false, true);
}

char _license[] SEC("license") = "Dual BSD/GPL";
