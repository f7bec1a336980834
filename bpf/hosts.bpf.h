/* SPDX-License-Identifier: (GPL-2.0-or-later OR BSD-2-Clause) */
/*
 * Transport mode where the kernel encrypts. Its states are of mode BEET there (user/xfrm.h): ESP's transport mode between
 * two addresses that the state names. The kernel makes the envelope's header of the packet's, so what goes there must
 * be whole, from one of the two to the other, and without headers that would stay outside (user/transport.c has the
 * same rules for workers). A link with addresses of its own is readdressed here, both ways.
 */
#ifndef HOSTS_BPF_H
#define HOSTS_BPF_H

#include "ipsec_wire.h"

#define IP4_SUM_OFF  10
#define UDP_SUM_OFF  6
#define TCP_SUM_OFF  16

/* What stands behind the destination options, which may be inside. RFC 4303 3.1.1 */
static __always_inline __u32 skip_options(struct __sk_buff *skb, struct ip_hdr *ip)
{
	__u32 off = ip->l4_off;
	__u8 ext[2];
	int i;

	for (i = 0; i < LOOK_EXT_MAX && ip->is6 && ip->proto == NEXTHDR_DEST; i++) {
		if (bpf_skb_load_bytes(skb, off, ext, sizeof(ext)))
			break;
		ip->proto = ext[0];
		off += (ext[1] + 1) * 8;
	}
	return off;
}

/* May it go in transport mode, whoever it is for? */
static __always_inline enum drop may_carry(struct __sk_buff *skb, const struct ip_hdr *ip)
{
	struct ip_hdr last = *ip;

	skip_options(skb, &last);
	if (ip->frag != FRAG_NONE || (ip->is6 && last.proto == NEXTHDR_FRAGMENT))
		return DROP_FRAG_UNSUPPORTED;
	if (!ip->is6 && ip->l4_off != ip->off + sizeof(struct iphdr))
		return DROP_NOT_TRANSPORT;
	/* "no next header" is a dummy to the peer: RFC 4303 2.6 */
	if (ip->proto == NEXT_NONE || !esp_carries(ip->proto) || (ip->is6 && !esp_carries(last.proto)))
		return DROP_NOT_TRANSPORT;
	return DROP_NONE;
}

/* As they stand in a header. Return: bytes */
static __always_inline __u32 lay(__be32 to[8], bool is6, const struct ends *e)
{
	int i;

	for (i = 0; i < 4; i++) {
		to[i] = is6 ? e->src.word[i] : i == 0 ? e->src.word[3] : i == 1 ? e->dst.word[3] : 0;
		to[4 + i] = is6 ? e->dst.word[i] : 0;
	}
	return is6 ? 32 : 8;
}

static __always_inline __u32 addrs_at(__u32 ip_off, bool is6)
{
	return ip_off + (is6 ? offsetof(struct ipv6hdr, saddr) : offsetof(struct iphdr, saddr));
}

/* Other addresses for the header at off. Return: false = it has not those; *diff of a sum over them */
static __always_inline bool readdress_at(struct __sk_buff *skb, __u32 off, bool is6, const struct ends *was,
					 const struct ends *is, __s64 *diff)
{
	__be32 from[8], to[8], found[8] = {};
	__u32 len = lay(from, is6, was), at = addrs_at(off, is6);
	int i;

	lay(to, is6, is);
	if (bpf_skb_load_bytes(skb, at, found, is6 ? 32 : 8))
		return false;
	for (i = 0; i < 8; i++)
		if (found[i] != from[i])
			return false;
	*diff = bpf_csum_diff(from, len, to, len, 0);
	if (bpf_skb_store_bytes(skb, at, to, len, 0))
		return false;
	return is6 || !bpf_l3_csum_replace(skb, off + IP4_SUM_OFF, 0, *diff, 0);
}

static __always_inline struct ends turned(const struct ends *e)
{
	return (struct ends){.src = e->dst, .dst = e->src};
}

static __always_inline bool is_error(__u8 type, bool is6)
{
	return is6 ? type < 128 : type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
}

/* The packet that an ICMP error is about went the other way between the same two. RFC 5508 4.2 */
static __always_inline void requote(struct __sk_buff *skb, __u32 icmp, bool is6, const struct ends *was, const struct ends *is)
{
	struct ends from = turned(was), to = turned(is);
	__u8 type, version;
	__s64 diff = 0;

	if (bpf_skb_load_bytes(skb, icmp, &type, sizeof(type)) || !is_error(type, is6) ||
	    bpf_skb_load_bytes(skb, icmp + ICMP_HDR_LEN, &version, sizeof(version)) || version >> 4 != (is6 ? 6 : 4))
		return;
	if (readdress_at(skb, icmp + ICMP_HDR_LEN, is6, &from, &to, &diff) && is6) /* IPv4: the quoted sum makes up for it */
		bpf_l4_csum_replace(skb, icmp + ICMP_CHECKSUM_OFF, 0, diff, 0);
}

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* Of the pseudo-header: what stands in place of a sum that a device is to finish. */
static __always_inline __u16 pseudo_sum(const struct ends *e, const struct ip_hdr *ip, __u8 proto, __u32 len)
{
	__be32 a[8];
	__u32 n = lay(a, ip->is6, e);

	return fold((__u64)bpf_csum_diff(0, 0, a, n, 0) + bpf_htons(proto) + bpf_htonl(len));
}

/*
 * The sum at `at` follows. Is it finished? That the skb's is not says nothing: it may be that of a packet in a tunnel in
 * this one (VXLAN), and then this one is. RFC 1624 3
 */
static __always_inline void follow_sum(struct __sk_buff *skb, __u32 at, __u16 pseudo, __s64 diff, bool udp)
{
	__u16 sum;

	if (bpf_skb_load_bytes(skb, at, &sum, sizeof(sum)) || (udp && !sum))
		return;
	if (sum == pseudo) {
		bpf_l4_csum_replace(skb, at, 0, diff, BPF_F_PSEUDO_HDR | (udp ? BPF_F_MARK_MANGLED_0 : 0));
		return;
	}
	sum = ~fold((__u64)(__u16)~sum + (__u32)diff);
	if (udp && !sum)
		sum = 0xffff;
	bpf_skb_store_bytes(skb, at, &sum, sizeof(sum), 0);
}

/*
 * transport_readdress() for frames: sums follow by what has changed, so a wrong one stays wrong and one that is left
 * to a device stays that (RFC 1624). Return: false = it is not from was.src to was.dst
 */
static __always_inline bool readdress(struct __sk_buff *skb, const struct ip_hdr *ip, const struct ends *was, const struct ends *is)
{
	struct ip_hdr h = *ip;
	__u32 l4 = skip_options(skb, &h), at;
	__s64 diff = 0;

	if (!readdress_at(skb, ip->off, ip->is6, was, is, &diff))
		return false;
	at = h.proto == IPPROTO_TCP ? TCP_SUM_OFF : h.proto == IPPROTO_UDP ? UDP_SUM_OFF :
	     ip->is6 && h.proto == NEXTHDR_ICMP ? ICMP_CHECKSUM_OFF : 0;
	if (at)
		follow_sum(skb, l4 + at, pseudo_sum(was, ip, h.proto, ip->len - (l4 - ip->off)), diff, h.proto == IPPROTO_UDP);
	if (h.proto == (ip->is6 ? NEXTHDR_ICMP : IPPROTO_ICMP))
		requote(skb, l4, ip->is6, was, is);
	return true;
}

static __always_inline bool load_ends(struct __sk_buff *skb, const struct ip_hdr *ip, struct ends *e)
{
	__be32 a[8] = {};

	if (bpf_skb_load_bytes(skb, addrs_at(ip->off, ip->is6), a, ip->is6 ? 32 : 8))
		return false;
	if (ip->is6) {
		__builtin_memcpy(&e->src, a, sizeof(e->src));
		__builtin_memcpy(&e->dst, a + 4, sizeof(e->dst));
	} else {
		addr4(&e->src, a[0]);
		addr4(&e->dst, a[1]);
	}
	return true;
}

static __always_inline bool same_addr(const struct addr_key *a, const struct addr_key *b)
{
	return !((a->word[0] ^ b->word[0]) | (a->word[1] ^ b->word[1]) | (a->word[2] ^ b->word[2]) | (a->word[3] ^ b->word[3]));
}

static __always_inline bool same_ends(const struct ends *a, const struct ends *b)
{
	return same_addr(&a->src, &b->src) && same_addr(&a->dst, &b->dst);
}

static __always_inline bool has_own(const struct host_ent *h)
{
	return h->own.src.word[0] | h->own.src.word[1] | h->own.src.word[2] | h->own.src.word[3];
}

/* A packet for the kernel to encrypt becomes one between the two hosts. */
static __always_inline enum drop to_hosts(struct __sk_buff *skb, __u32 id, const struct ip_hdr *ip)
{
	const struct host_ent *h = bpf_map_lookup_elem(&hosts, &id);
	enum drop why = h ? may_carry(skb, ip) : DROP_NO_ROUTE;
	struct ends e;

	if (why || !h)
		return why;
	if (!load_ends(skb, ip, &e))
		return DROP_SHORT;
	if (same_ends(&e, &h->wild))
		return DROP_NONE;
	return has_own(h) && readdress(skb, ip, &h->own, &h->wild) ? DROP_NONE : DROP_NOT_TRANSPORT;
}

/*
 * One that the kernel has opened. Its addresses are the state's, so nobody can lie about them; they are the peer's if they
 * are those in use, or if the link has addresses of its own, where they stand for the peer whichever path it took.
 */
static __always_inline enum drop from_hosts(struct __sk_buff *skb, __u32 id, const struct ip_hdr *ip)
{
	const struct host_ent *h = bpf_map_lookup_elem(&hosts, &id);
	struct ends e, want;

	if (!h || !load_ends(skb, ip, &e))
		return DROP_INNER_SRC;
	if (!esp_carries(ip->proto) || ip->frag != FRAG_NONE)
		return DROP_BAD_NEXT_HEADER;
	if (has_own(h)) {
		want = turned(&h->own);
		readdress(skb, ip, &e, &want);
	} else {
		want = turned(&h->wild);
		if (!same_ends(&e, &want))
			return DROP_INNER_SRC;
	}
	/* its ICV has been checked; what the sums were made over, nobody knows: as the kernel's own transport mode does */
	if (h->flags & HOST_F_UDP)
		bpf_csum_level(skb, BPF_CSUM_LEVEL_INC);
	return DROP_NONE;
}

#endif
