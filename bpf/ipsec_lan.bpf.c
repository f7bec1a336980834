// SPDX-License-Identifier: (GPL-2.0-or-later OR BSD-2-Clause)
/*
 * The shortcut for packets that only pass through this host: lan_in, native XDP on the devices that
 * `shortcut` names. Where the routing tables lead such a packet into a link it goes straight to the
 * link's worker, with no skb made and no stack walked. Routing still decides (I8): the very lookup
 * that forwarding does, rules and next hops' carriers included.
 *
 * Only the plain case is taken, everything else goes up the stack untouched: local and
 * link-scope addresses, options and extension headers, expiring TTLs, broken headers, what is too long
 * for the link, protocols other than TCP, UDP and ICMP, possible envelopes, links that cannot send or whose packets
 * the kernel encrypts, SYNs of a link with mss-clamp. So the stack remains the one that answers with ICMP, and classify the one that drops.
 */
#include "kdefs.bpf.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "ipsec_shared.h"
#include "maps.bpf.h"
#include "parse.bpf.h"
#include "stats.bpf.h"

#define AF_INET	 2
#define AF_INET6 10

/* Addresses that are never forwarded: RFC 1122 3.2.1.3, RFC 1112, RFC 4291 2.5. */
static __always_inline bool stays4(__be32 be)
{
	__u32 a = bpf_ntohl(be);

	return a >> 24 == 0 || a >> 24 == 127 || a >> 28 >= 14 || a >> 16 == 0xa9fe;
}

static __always_inline bool stays6(const struct in6_addr *a)
{
	__be32 first = a->in6_u.u6_addr32[0];

	return !first || (first & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000) ||
	       (first & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

/* RFC 1122 3.2.1.2, of a header without options. */
static __always_inline bool intact(void *data, void *data_end)
{
	__u16 *p = data + ETH_HLEN;
	__u32 sum = 0;
	int i;

	if ((void *)(p + 10) > data_end)
		return false;
	for (i = 0; i < 10; i++)
		sum += p[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16) == 0xffff;
}

/* What never has its checksum finished by a device in another way than gso_finish() knows. */
static __always_inline bool known(const struct ip_hdr *ip)
{
	return ip->proto == IPPROTO_TCP || ip->proto == IPPROTO_UDP ||
	       ip->proto == (ip->is6 ? NEXTHDR_ICMP : IPPROTO_ICMP);
}

/* Is this frame for our MAC address, and a whole, linear IP packet that forwarding would not touch
 * but for its TTL? */
static __always_inline bool plain(void *data, void *data_end, const struct lan_ent *lan, __u64 len,
				  struct ip_hdr *ip)
{
	struct ethhdr *eth = data;
	int i;

	if ((void *)(eth + 1) > data_end)
		return false;
	for (i = 0; i < ETH_ALEN; i++)
		if (eth->h_dest[i] != lan->mac[i])
			return false;
	if (parse_ip(data, data_end, eth->h_proto, ETH_HLEN, len - ETH_HLEN, ip))
		return false;
	if (ip->hops <= 1 || ip->len > FUNNEL_MTU || !known(ip))
		return false;
	return ip->is6 || (ip->l4_off == ETH_HLEN + sizeof(struct iphdr) && intact(data, data_end));
}

/* Ports for the choice among next hops, as the stack's flow hash has them. False: may be an envelope. */
static __always_inline bool ports(void *data, void *data_end, const struct ip_hdr *ip,
				  struct bpf_fib_lookup *f)
{
	__be16 *port = data + ip->l4_off;

	if (ip->frag != FRAG_NONE || (ip->proto != IPPROTO_TCP && ip->proto != IPPROTO_UDP))
		return true;
	if ((void *)(port + 2) > data_end)
		return false;
	f->sport = port[0];
	f->dport = port[1];
	return ip->proto == IPPROTO_TCP ||
	       (port[0] != bpf_htons(ESP_PORT) && port[1] != bpf_htons(ESP_PORT));
}

static __always_inline bool fill4(void *data, void *data_end, struct bpf_fib_lookup *f)
{
	struct iphdr *ip = data + ETH_HLEN;

	if ((void *)(ip + 1) > data_end || stays4(ip->saddr) || stays4(ip->daddr))
		return false;
	f->family = AF_INET;
	f->tos = ip->tos;
	f->ipv4_src = ip->saddr;
	f->ipv4_dst = ip->daddr;
	return true;
}

static __always_inline bool fill6(void *data, void *data_end, struct bpf_fib_lookup *f)
{
	struct ipv6hdr *ip = data + ETH_HLEN;

	if ((void *)(ip + 1) > data_end || stays6(&ip->saddr) || stays6(&ip->daddr))
		return false;
	f->family = AF_INET6;
	f->flowinfo = *(__be32 *)ip & bpf_htonl(0x0fffffff);
	__builtin_memcpy(f->ipv6_src, &ip->saddr, sizeof(f->ipv6_src));
	__builtin_memcpy(f->ipv6_dst, &ip->daddr, sizeof(f->ipv6_dst));
	return true;
}

/* Our own address as a source is a martian, which the stack knows how to log. */
static __always_inline bool from_us(void *data, void *data_end, const struct ip_hdr *ip)
{
	struct addr_key src, dst;

	return parse_addrs(data, data_end, ETH_HLEN, ip->is6, &src, &dst) ||
	       bpf_map_lookup_elem(&local_addr, &src);
}

/* Where the packet goes by the tables. Return: the link's id, or NULL: not into a link. */
static __always_inline __u32 *route(struct xdp_md *ctx, void *data, void *data_end, const struct ip_hdr *ip)
{
	struct bpf_fib_lookup f = {
		.l4_protocol = ip->proto, .tot_len = ip->len, .ifindex = ctx->ingress_ifindex};
	__u32 oif;
	long r;

	if (!(ip->is6 ? fill6(data, data_end, &f) : fill4(data, data_end, &f)) ||
	    !ports(data, data_end, ip, &f) || from_us(data, data_end, ip))
		return NULL;
	r = bpf_fib_lookup(ctx, &f, sizeof(f), 0);
	/* a link has no neighbours to be found */
	if (r != BPF_FIB_LKUP_RET_SUCCESS && r != BPF_FIB_LKUP_RET_NO_NEIGH)
		return NULL;
	oif = f.ifindex;
	return bpf_map_lookup_elem(&link_by_front, &oif);
}

/* What classify would still write into (mss.bpf.h). */
static __always_inline bool clamped(void *data, void *data_end, const struct ip_hdr *ip, const struct link_ent *l)
{
	struct tcphdr *tcp = data + ip->l4_off;

	if (!(ip->is6 ? l->mss6 : l->mss4) || ip->proto != IPPROTO_TCP)
		return false;
	return (void *)(tcp + 1) > data_end || tcp->syn;
}

/* One hop more: RFC 1812 5.3.1, RFC 1624; RFC 8200 3. */
static __always_inline bool hop(void *data, void *data_end, bool is6)
{
	struct ipv6hdr *ip6 = data + ETH_HLEN;
	struct iphdr *ip4 = data + ETH_HLEN;
	__u32 sum;

	if ((void *)(ip6 + 1) > data_end && (is6 || (void *)(ip4 + 1) > data_end))
		return false;
	if (is6) {
		ip6->hop_limit--;
		return true;
	}
	ip4->ttl--;
	sum = ip4->check + (__u32)bpf_htons(0x0100);
	ip4->check = sum + (sum >= 0xffff);
	return true;
}

static __always_inline int shortcut(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	__u32 ifindex = ctx->ingress_ifindex, *id, k;
	struct lan_ent *lan = bpf_map_lookup_elem(&lan_dev, &ifindex);
	__u64 len = bpf_xdp_get_buff_len(ctx);
	struct stamp *st = data;
	struct ip_hdr ip = {};
	struct link_ent *l;
	struct link_ctr *c;

	if (!lan || len != (__u64)(data_end - data) || !plain(data, data_end, lan, len, &ip))
		return XDP_PASS;
	id = route(ctx, data, data_end, &ip);
	if (!id)
		return XDP_PASS;
	k = *id;
	l = bpf_map_lookup_elem(&links, &k);
	c = link_ctr_get(k);
	if (!l || !c ||
	    (l->flags & (LINK_F_USED | LINK_F_OUT_SA | LINK_F_LOOP | LINK_F_NO_XSK | LINK_F_KERNEL)) !=
		    (LINK_F_USED | LINK_F_OUT_SA))
		return XDP_PASS;
	if (clamped(data, data_end, &ip, l))
		return XDP_PASS;
	k = l->worker;
	if (!bpf_map_lookup_elem(&raw_dev, &k) || (void *)(st + 1) > data_end || !hop(data, data_end, ip.is6))
		return XDP_PASS;
	*st = (struct stamp){
		.link = *id,
		.gen = l->gen,
		.slot = l->out_slot,
		.sgen = l->out_sgen,
		.kind = STAMP_RAW,
		.flags = lan->flags & LAN_F_UNFINISHED ? STAMP_F_UNFINISHED : 0,
	};
	c->raw_segs++;
	c->raw_bytes += ip.len;
	c->xsk_segs++;
	c->lan_segs++;
	return bpf_redirect_map(&raw_dev, k, XDP_DROP);
}

SEC("xdp.frags")
int lan_in(struct xdp_md *ctx)
{
	return shortcut(ctx);
}

char _license[] SEC("license") = "Dual BSD/GPL";
