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
 *   - neighbour discovery, and what is link-local and hence never routed into a link;
 *   - inwards, ICMP errors of whatever router that quote an envelope of ours, IKE of ours, or what
 *     we sent to a peer's own address: the path MTU depends on them. Nothing protected is in them.
 * Outwards, no ICMP error of ours about an envelope to us.
 * Everything else continues down the chain (TC_ACT_UNSPEC): no other filter is overruled.
 */
#include "kdefs.bpf.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "ipsec_shared.h"
#include "maps.bpf.h"
#include "parse.bpf.h"
#include "look.bpf.h"
#include "stats.bpf.h"

#define IKE_PORT      500
#define NDP_FIRST     133 /* RFC 4861: router solicitation .. redirect */
#define NDP_LAST      137
#define NDP_HOPS      255

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

	if (!s->ip.is6 || s->ip.proto != NEXTHDR_ICMP || s->ip.hops != NDP_HOPS ||
	    s->ip.frag != FRAG_NONE) /* RFC 6980 5: never in fragments */
		return false;
	if (bpf_skb_load_bytes(skb, s->ip.l4_off, &type, sizeof(type)))
		return false;
	return type >= NDP_FIRST && type <= NDP_LAST;
}

static __always_inline bool quoted_spi(struct __sk_buff *skb, const struct seen *q, __be32 *spi_be)
{
	__u32 off = q->ip.l4_off;

	if (q->ip.proto == IPPROTO_UDP)
		off += sizeof(struct udphdr);
	else if (q->ip.proto != IPPROTO_ESP)
		return false;
	return !bpf_skb_load_bytes(skb, off, spi_be, sizeof(*spi_be));
}

/* sock_in has seen it first: the source port of a quoted envelope may be the private one already. */
static __always_inline bool is_our_error(struct __sk_buff *skb, const struct seen *s)
{
	struct env_key k = {};
	struct seen q = {};

	if (!quoted(skb, s, &q) || q.ip.frag == FRAG_LATER || !bpf_map_lookup_elem(&local_addr, &q.ours))
		return false;
	if (bpf_map_lookup_elem(&peer_addr, &q.theirs) || is_ike(skb, &q, true))
		return true;
	k.dst = q.theirs;
	return quoted_spi(skb, &q, &k.spi_be) && bpf_map_lookup_elem(&env_out, &k);
}

/*
 * Our own stack about an envelope to us, to whoever sent it, authentic or not (I4): fragments that were joined
 * when their worker was gone, or never.
 */
static __always_inline bool betrays(struct __sk_buff *skb, const struct seen *s)
{
	struct sa_in_key k = {};
	struct seen q = {};

	if (!quoted(skb, s, &q) || q.ip.frag == FRAG_LATER || !bpf_map_lookup_elem(&local_addr, &q.theirs))
		return false;
	return quoted_spi(skb, &q, &k.spi_be) && bpf_map_lookup_elem(&sa_in, &k);
}

static __always_inline bool may_pass(struct __sk_buff *skb, const struct seen *s, bool egress)
{
	if (s->ip.proto == IPPROTO_ESP || link_scope(&s->theirs))
		return true;
	if (bpf_map_lookup_elem(&peer_addr, &s->theirs))
		return true;
	return is_ike(skb, s, egress) || is_ndp(skb, s) || (!egress && is_our_error(skb, s));
}

static __always_inline int guard(struct __sk_buff *skb, bool egress, bool l3)
{
	struct lpm_key k = {.prefixlen = 128};
	struct glob_ctr *c;
	struct seen s = {};
	__u32 *flags;

	if (!look_at(skb, &s, egress, l3))
		return TC_ACT_UNSPEC; /* ARP and other non-IP */
	if (egress && betrays(skb, &s)) {
		count_drop(DROP_NO_LISTENER);
		return TC_ACT_SHOT;
	}
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
