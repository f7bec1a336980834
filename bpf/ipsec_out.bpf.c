// SPDX-License-Identifier: (GPL-2.0-or-later OR BSD-2-Clause)
/*
 * Raw packets on their way to a worker. classify sits at TC ingress of a link's backend end:
 * everything routed into ipsecN arrives here and either goes into a funnel or is dropped with a
 * reason. Nothing is ever handed to the stack of the backend namespace (I1, layer a).
 *
 * Unit of all *_segs counters: packets as they will be on the wire, so a super-packet counts as
 * many as the worker will cut from it (I5).
 */
#include "kdefs.bpf.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "ipsec_shared.h"
#include "maps.bpf.h"
#include "parse.bpf.h"
#include "look.bpf.h"
#include "hosts.bpf.h"
#include "mss.bpf.h"
#include "stats.bpf.h"

#define EXT_HDR_MAX 4 /* IPv6 extension headers walked before TCP or UDP of a super-packet */

/* One raw packet while it is classified. */
struct raw {
	__u32 id; /* link */
	__u32 len;
	__u32 gso_size;
	__u32 gso_segs;
	__u32 segs;
	__u32 bytes; /* IP bytes of all segments */
	bool nested; /* an envelope of ours */
	struct ip_hdr ip;
};

/* Length of the headers every segment repeats, IP included; 0 = unknown L4. */
static __always_inline __u32 repeated_hdr_len(struct __sk_buff *skb, const struct ip_hdr *ip)
{
	__u32 off = ip->l4_off;
	__u8 proto = ip->proto;
	__u8 ext[2], doff;
	int i;

	for (i = 0; i < EXT_HDR_MAX && ip->is6; i++) {
		if (proto != NEXTHDR_HOP && proto != NEXTHDR_ROUTING && proto != NEXTHDR_DEST)
			break;
		if (bpf_skb_load_bytes(skb, off, ext, sizeof(ext)))
			return 0;
		proto = ext[0];
		off += (ext[1] + 1) * 8;
	}
	if (proto == IPPROTO_UDP)
		return off + sizeof(struct udphdr) - ETH_HLEN;
	if (proto != IPPROTO_TCP || bpf_skb_load_bytes(skb, off + 12, &doff, 1))
		return 0;
	return off + (doff >> 4) * 4 - ETH_HLEN;
}

/*
 * How many wire segments, and how many bytes in all. gso_segs is 0 for what a TAP or a guest
 * injected, and only a hint otherwise; the worker cuts by gso_size, so that decides for TCP.
 * For the rest (UDP may be a tunnel around the real segments) the kernel's number is better.
 */
static __always_inline void count_segs(struct __sk_buff *skb, struct raw *r)
{
	__u32 hdr, n, len = r->len - ETH_HLEN;

	r->segs = 1;
	r->bytes = len;
	if (!r->gso_size)
		return;
	hdr = repeated_hdr_len(skb, &r->ip);
	if (hdr >= len)
		hdr = 0;
	n = (len - hdr + r->gso_size - 1) / r->gso_size;
	if (r->gso_segs && r->ip.proto != IPPROTO_TCP)
		n = r->gso_segs;
	r->segs = n ? n : 1;
	r->bytes = len + (r->segs - 1) * hdr;
}

static __always_inline enum drop parse(struct __sk_buff *skb, struct raw *r)
{
	__be16 proto;

	if (r->len < ETH_HLEN + sizeof(struct iphdr))
		return DROP_SHORT;
	if (skb->vlan_present)
		return DROP_INNER_VERSION;
	skb_headers(skb, ETH_HLEN + sizeof(struct ipv6hdr));
	if (bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_proto), &proto, sizeof(proto)))
		return DROP_SHORT;
	return parse_ip((void *)(long)skb->data, (void *)(long)skb->data_end, proto, ETH_HLEN,
			r->len - ETH_HLEN, &r->ip);
}

/* SPI if the packet looks like an envelope, 0 if not. */
static __always_inline __be32 envelope_spi(struct __sk_buff *skb, const struct ip_hdr *ip)
{
	__u32 off = ip->l4_off;
	__be16 port[2];
	__be32 spi = 0;

	if (ip->frag == FRAG_LATER)
		return 0;
	if (ip->proto == IPPROTO_UDP) {
		if (bpf_skb_load_bytes(skb, off, port, sizeof(port)))
			return 0;
		if (port[0] != bpf_htons(ESP_PORT) && port[1] != bpf_htons(ESP_PORT))
			return 0;
		off += sizeof(struct udphdr);
	} else if (ip->proto != IPPROTO_ESP) {
		return 0;
	}
	return bpf_skb_load_bytes(skb, off, &spi, sizeof(spi)) ? 0 : spi;
}

/*
 * Envelopes of `link` enter `over`: does the way from there lead back? Workers ask the routes (STAMP_F_NESTED), so
 * that no circle is gone around even once. For links that the kernel carries it is seen from packets: the one that
 * closes a circle is refused and remembered, so that the next attempt ends at its first step.
 */
static __always_inline bool closes_circle(__u32 link, __u32 over)
{
	struct nest_ent *e = bpf_map_lookup_elem(&nest, &link);
	__u64 now = bpf_ktime_get_coarse_ns();
	__u32 at = over;

	if (link == over || !e)
		return link == over;
	e->over = over;
	e->ns = now;
	for (int depth = 0; depth < NEST_MAX; depth++) {
		const struct nest_ent *next = bpf_map_lookup_elem(&nest, &at);

		if (!next || !next->ns || now - next->ns > NEST_NS)
			return false;
		at = next->over;
		if (at == link)
			return true;
	}
	return true;
}

/* Is this an envelope that would end in itself? */
static __always_inline bool loops(struct __sk_buff *skb, struct raw *r)
{
	void *data_end = (void *)(long)skb->data_end;
	void *data = (void *)(long)skb->data;
	struct env_key k = {};
	struct addr_key src;
	__u32 *id;

	if (r->ip.proto != IPPROTO_ESP && r->ip.proto != IPPROTO_UDP)
		return false;
	k.spi_be = envelope_spi(skb, &r->ip);
	if (!k.spi_be || parse_addrs(data, data_end, ETH_HLEN, r->ip.is6, &src, &k.dst))
		return false;
	id = bpf_map_lookup_elem(&env_out, &k);
	r->nested = id;
	return id && closes_circle(*id, r->id);
}

static __always_inline enum drop admit(struct __sk_buff *skb, const struct link_ent *l,
				       struct raw *r)
{
	if (!(l->flags & LINK_F_USED))
		return DROP_NO_LINK;
	if (!(l->flags & LINK_F_OUT_SA))
		return DROP_NO_SA;
	if (!r->ip.hops) /* forwarding would have stopped it: RFC 1122 3.2.1.7, RFC 8200 3 */
		return DROP_TTL;
	if (l->flags & LINK_F_LOOP || loops(skb, r))
		return DROP_ROUTE_LOOP;
	return DROP_NONE;
}

/*
 * A flow that sends super-packets stays on the TAP for a while, so that its small packets (pure
 * ACKs, tails) do not overtake the data. A super-packet renews the mark.
 */
static __always_inline bool sticks(struct __sk_buff *skb, const struct raw *r)
{
	struct sticky_key k = {.link = r->id, .hash = bpf_get_hash_recalc(skb)};
	__u64 now, *last = bpf_map_lookup_elem(&sticky, &k);

	if (!r->gso_size)
		return last && bpf_ktime_get_coarse_ns() - *last < STICKY_NS;
	now = bpf_ktime_get_coarse_ns();
	if (last)
		*last = now;
	else
		bpf_map_update_elem(&sticky, &k, &now, BPF_ANY);
	return true;
}

static __always_inline bool wants_tap(struct __sk_buff *skb, const struct link_ent *l,
				      const struct worker_ent *w, const struct raw *r)
{
	if (!w->raw_ifindex || l->flags & LINK_F_NO_XSK)
		return true;
	if (r->len - ETH_HLEN > FUNNEL_MTU && !r->gso_size)
		return true;
	return sticks(skb, r);
}

static __always_inline int drop(struct link_ctr *c, enum drop why, __u32 segs)
{
	count_drop_link(c, why, segs);
	return TC_ACT_SHOT;
}

/* Stamp the MAC bytes and choose the funnel. */
static __always_inline int hand_over(struct __sk_buff *skb, const struct link_ent *l,
				     struct link_ctr *c, const struct raw *r)
{
	__u32 k = l->worker;
	struct worker_ent *w = bpf_map_lookup_elem(&workers, &k);
	struct stamp st = {
		.link = r->id,
		.gen = l->gen,
		.slot = l->out_slot,
		.sgen = l->out_sgen,
		.kind = STAMP_RAW,
		.flags = r->nested ? STAMP_F_NESTED : 0,
	};

	if (!w || !w->tap_ifindex)
		return drop(c, DROP_WORKER_GONE, r->segs);
	if (bpf_skb_store_bytes(skb, 0, &st, sizeof(st), 0))
		return drop(c, DROP_SHORT, r->segs);
	if (wants_tap(skb, l, w, r)) {
		c->tap_segs += r->segs;
		return bpf_redirect(w->tap_ifindex, 0);
	}
	c->xsk_segs += r->segs;
	return bpf_redirect(w->raw_ifindex, 0);
}

/* The device is one without frames: the kernel takes the Ethernet header off as it redirects. */
static __always_inline int to_kernel(struct __sk_buff *skb, const struct link_ent *l, struct link_ctr *c,
				     const struct raw *r)
{
	enum drop why = l->x_ifindex ? DROP_NONE : DROP_TX_ERROR;

	if (!why && l->flags & LINK_F_HOSTS)
		why = to_hosts(skb, r->id, &r->ip);
	if (!why && bpf_skb_change_type(skb, PACKET_HOST))
		why = DROP_TX_ERROR;
	if (why)
		return drop(c, why, r->segs);
	c->kernel_segs += r->segs;
	return bpf_redirect(l->x_ifindex, 0);
}

/* Not multicast or broadcast, which the kernel sends into every device by itself. */
static __always_inline bool for_one(struct __sk_buff *skb, const struct ip_hdr *ip)
{
	__u32 off = ip->off + (ip->is6 ? offsetof(struct ipv6hdr, daddr) : offsetof(struct iphdr, daddr));
	__u8 first;

	if (bpf_skb_load_bytes(skb, off, &first, 1))
		return false;
	return ip->is6 ? first != 0xff : first < 224;
}

static __always_inline int raw_in(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex, *id = bpf_map_lookup_elem(&link_by_if, &ifindex);
	struct raw r = {.len = skb->len, .gso_size = skb->gso_size, .gso_segs = skb->gso_segs};
	struct link_ctr *c;
	struct link_ent *l;
	enum drop why;

	if (id) {
		r.id = *id;
		l = bpf_map_lookup_elem(&links, &r.id);
		c = link_ctr_get(r.id);
	}
	if (!id || !l || !c) {
		count_drop(DROP_NO_LINK);
		return TC_ACT_SHOT;
	}
	why = parse(skb, &r);
	if (why) {
		c->raw_segs++;
		c->raw_bytes += r.len;
		return drop(c, why, 1);
	}
	count_segs(skb, &r);
	c->raw_segs += r.segs;
	c->raw_bytes += r.bytes;
	why = admit(skb, l, &r);
	if (why == DROP_NO_SA && for_one(skb, &r.ip))
		c->wants_sa += r.segs;
	if (why)
		return drop(c, why, r.segs);
	clamp_mss(skb, l, &r.ip);
	return l->flags & LINK_F_KERNEL ? to_kernel(skb, l, c, &r) : hand_over(skb, l, c, &r);
}

SEC("tc")
int classify(struct __sk_buff *skb)
{
	return raw_in(skb);
}

char _license[] SEC("license") = "Dual BSD/GPL";
