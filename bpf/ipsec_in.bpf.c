// SPDX-License-Identifier: (GPL-2.0-or-later OR BSD-2-Clause)
/*
 * Envelopes on their way to a worker, and inner packets on their way to ipsecN.
 *
 * wire_in  native XDP, underlay devices: our SPI -> stamp -> wire funnel of the SA's worker. What is old
 *          or seen already goes no further.
 *          Ours is what is addressed to a local address of the underlay, unfragmented; transit ESP
 *          with an equal SPI passes untouched. Unknown ESP to us dies here, in silence (I4).
 * funnel   native XDP, receiving ends of all funnels: into the worker's XSK.
 * deliver  TC ingress, TAPs and sending ends of raw funnels, where a worker writes decrypted
 *          packets: into the link's device, as received by it.
 *
 * No entry in wire_dev or xsks means that the worker is gone or not yet there: dropped, never passed
 * on to draw an ICMP error. An overflowing XSK ring or funnel is the kernel's to drop, after the
 * redirect; it shows as handed minus received (I5).
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

#define ESP_MIN 8 /* SPI and sequence number: less is no ESP */
#define NOTE_GAP_NS 1000000000ull
#define LET_GAP_NS 1000000ull

static __always_inline int xdp_drop(enum drop why)
{
	count_drop(why);
	return XDP_DROP;
}

static __always_inline int xdp_pass(void)
{
	struct glob_ctr *c = glob_ctr_get();

	if (c)
		c->wire_pass++;
	return XDP_PASS;
}

static __always_inline int xdp_pass_frag(void)
{
	struct glob_ctr *c = glob_ctr_get();

	if (c)
		c->wire_pass_frag++;
	return XDP_PASS;
}

static __always_inline __u32 settings_flags(void)
{
	__u32 zero = 0;
	struct settings_ent *s = bpf_map_lookup_elem(&settings, &zero);

	return s ? s->flags : 0;
}

/* An IPv4 address in an IPv6 header: nobody's on the wire, and never one of ours. */
static __always_inline bool mapped(const struct addr_key *a)
{
	return !a->word[0] && !a->word[1] && a->word[2] == bpf_htonl(0xffff);
}

static __always_inline bool to_us(void *data, void *data_end, const struct ip_hdr *ip)
{
	struct addr_key src, dst;

	if (parse_addrs(data, data_end, ETH_HLEN, ip->is6, &src, &dst))
		return false;
	if (ip->is6 && (mapped(&src) || mapped(&dst)))
		return false;
	return bpf_map_lookup_elem(&local_addr, &dst);
}

/* RFC 4303 2. The kernel's own name for it is in the BTF of a module, which may not be there. */
struct esp_head {
	__be32 spi_be;
	__be32 seq_be;
};

enum esp_at { ESP_NOT, ESP_TORN, ESP_HERE };

/*
 * Find the SPI. ESP_NOT: something else, IKE and keepalives (RFC 3948 2.2, 2.3) included. ESP_TORN:
 * protocol 50, but too short for a header. Lengths are the packet's own: Ethernet pads.
 */
static __always_inline enum esp_at find_esp(void *data, void *data_end, const struct ip_hdr *ip,
					    struct esp_head *esp)
{
	__u32 room = ip->len - (ip->l4_off - ETH_HLEN);
	void *p = data + ip->l4_off;
	struct udphdr *udp = p;

	if (ip->proto == IPPROTO_UDP) {
		if ((void *)(udp + 1) > data_end || udp->dest != bpf_htons(ESP_PORT))
			return ESP_NOT;
		if (bpf_ntohs(udp->len) < room)
			room = bpf_ntohs(udp->len);
		if (room < sizeof(*udp) + ESP_MIN)
			return ESP_NOT;
		p = udp + 1;
	} else if (ip->proto != IPPROTO_ESP) {
		return ESP_NOT;
	} else if (room < ESP_MIN) {
		return ESP_TORN;
	}
	if (p + ESP_MIN > data_end)
		return ESP_TORN;
	__builtin_memcpy(esp, p, sizeof(*esp));
	return esp->spi_be || ip->proto == IPPROTO_ESP ? ESP_HERE : ESP_NOT;
}

/* For the audit, RFC 4303 3.4.1, 3.4.2: who sent what to whom. One per kind and second, whatever comes. */
static __always_inline void note(void *data, void *data_end, const struct ip_hdr *ip,
				 const struct esp_head *esp, __u32 what)
{
	__u64 now = bpf_ktime_get_boot_ns(), was;
	struct wire_note *n = bpf_map_lookup_elem(&wire_note, &what);
	__u32 word;
	struct addr_key src, dst;

	if (!n || data + ETH_HLEN + sizeof(word) > data_end)
		return;
	was = n->claim_ns;
	if (now < was + NOTE_GAP_NS || !__sync_bool_compare_and_swap(&n->claim_ns, was, now))
		return;
	if (parse_addrs(data, data_end, ETH_HLEN, ip->is6, &src, &dst))
		return;
	__builtin_memcpy(&word, data + ETH_HLEN, sizeof(word));
	n->src = src;
	n->dst = dst;
	n->spi_be = esp->spi_be;
	n->seq_be = esp->seq_be;
	n->flow = ip->is6 ? bpf_ntohl(word) & 0xfffff : 0;
	n->ns = now;
}

/* IPv6: the fragment header, if it comes first, out of the way. Return: is this a datagram's first fragment? */
static __always_inline bool first_fragment(void *data, void *data_end, struct ip_hdr *ip)
{
	struct frag_hdr *fh = data + ip->l4_off;

	if (!ip->is6)
		return ip->frag == FRAG_FIRST;
	if ((void *)(fh + 1) > data_end || fh->frag_off & bpf_htons(IP6_FRAG_OFFSET))
		return false;
	ip->proto = fh->nexthdr;
	ip->l4_off += sizeof(*fh);
	return true;
}

/*
 * RFC 4303 3.4.1: a fragment is not offered to ESP, the stack joins it with the others first; the audit hears
 * of it, if the SPI is ours.
 */
static __always_inline void note_fragment(void *data, void *data_end, struct ip_hdr *ip)
{
	struct sa_in_key key = {};
	struct esp_head esp = {};

	if (!first_fragment(data, data_end, ip) || ip->len + ETH_HLEN < ip->l4_off ||
	    find_esp(data, data_end, ip, &esp) != ESP_HERE || !to_us(data, data_end, ip))
		return;
	key.spi_be = esp.spi_be;
	if (bpf_map_lookup_elem(&sa_in, &key))
		note(data, data_end, ip, &esp, NOTE_FRAGMENT);
}

/* Nobody of ours: SPIs below 256 and kernel SAs included. */
static __always_inline int unknown_esp(__u32 flags, enum drop why)
{
	return flags & SETTINGS_F_ESP_OURS ? xdp_drop(why) : xdp_pass();
}

static __always_inline int steer(void *data, void *data_end, const struct sa_in_ent *sa,
				 const struct ip_hdr *ip)
{
	struct link_ctr *c = link_ctr_get(sa->link);
	__u32 k = sa->worker;
	struct stamp *st = data;

	if ((void *)(st + 1) > data_end)
		return XDP_DROP;
	if (!bpf_map_lookup_elem(&wire_dev, &k))
		return xdp_drop(DROP_WORKER_GONE); /* a link's BPF drops are of raw packets */
	*st = (struct stamp){
		.link = sa->link,
		.slot = sa->slot,
		.sgen = sa->sgen,
		.kind = STAMP_WIRE,
	};
	if (c) {
		c->wire_pkts++;
		c->wire_bytes += ip->len;
	}
	return bpf_redirect_map(&wire_dev, k, XDP_DROP);
}

/* RFC 1122 3.2.1.2. Options, at most ten words of them, are in the sum. */
static __always_inline bool header_intact(void *data, void *data_end, const struct ip_hdr *ip)
{
	__be16 *p = data + ETH_HLEN;
	__u32 sum = 0;
	int i;

	if (ip->is6)
		return true;
	for (i = 0; i < 30 && ETH_HLEN + 2 * i < ip->l4_off; i++) {
		if ((void *)(p + i + 1) > data_end)
			return false;
		sum += p[i];
	}
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

/* RFC 1624, eqn. 3; a checksum of zero stays what it is: none. */
static __always_inline void set_dest(struct udphdr *udp, __be16 port)
{
	__u32 sum = (__u16)~udp->check + (__u16)~udp->dest + port;

	udp->dest = port;
	if (!udp->check)
		return;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	udp->check = ~sum ?: 0xffff;
}

/*
 * RFC 4303 3.4.3 before anything is spent on the packet. A number behind `settled`, up to which the window's
 * words are in order, is looked up; the worker judges what is ahead of it. With ESN a number far behind may
 * also be one far ahead, of which only the ICV knows: taken for old, like 2^31 and more ahead.
 */
static __always_inline enum drop seen_before(const struct sa_in_ent *sa, const volatile struct sa_ctr *c, __u32 seq)
{
	__u64 settled = c->settled, full, block;
	__u32 behind = (__u32)settled - seq, key;
	volatile __u64 *word;

	if (sa->flags & SA_IN_F_ESN ? (__s32)behind < 0 || behind > settled : seq > settled)
		return DROP_NONE;
	full = settled - behind;
	if (!full || behind >= sa->window)
		return DROP_REPLAY_OLD;
	block = full >> 6;
	key = c->word_off + (block & (c->n_words - 1));
	word = bpf_map_lookup_elem(&replay, &key);
	if (!word || !(*word & 1ull << (full & 63)))
		return DROP_NONE;
	/* the worker raises top before it clears a word: was this one still full's? */
	return (c->top >> 6) - block < c->n_words ? DROP_REPLAY_DUP : DROP_NONE;
}

/* One per gap goes to the worker all the same: for the audit, and for a sender far ahead (RFC 4303 A3). */
static __always_inline bool replayed(const struct sa_in_ent *sa, const struct esp_head *esp)
{
	__u32 slot = sa->slot;
	struct sa_ctr *c = sa->window ? bpf_map_lookup_elem(&sactr, &slot) : NULL;
	enum drop why = c ? seen_before(sa, c, bpf_ntohl(esp->seq_be)) : DROP_NONE;
	struct link_ctr *l;
	__u64 now;

	if (!why)
		return false;
	now = bpf_ktime_get_boot_ns();
	if (now >= c->let_ns + LET_GAP_NS) {
		c->let_ns = now;
		return false;
	}
	l = link_ctr_get(sa->link);
	if (!l)
		return false;
	count_drop_link(l, why, 1);
	__sync_fetch_and_add(&c->early_drops, 1);
	return true;
}

/*
 * Up the stack. GRO merges datagrams for the socket their port names, and asks before TC can say
 * anything: so UDP shows the port of its worker's socket (UDP_GRO) that far; sock_in puts 4500 back.
 */
static __always_inline int to_socket(void *data, void *data_end, const struct sa_in_ent *sa,
				     const struct ip_hdr *ip)
{
	__u32 k = sa->worker;
	struct worker_ent *w = bpf_map_lookup_elem(&workers, &k);
	struct udphdr *udp = data + ip->l4_off;

	if (ip->proto == IPPROTO_UDP && w && w->udp_port_be && (void *)(udp + 1) <= data_end)
		set_dest(udp, w->udp_port_be);
	return xdp_pass();
}

/* Longer envelopes are for the sockets. */
static __always_inline __u32 funnel_mtu(__u32 worker)
{
	struct worker_ent *w = bpf_map_lookup_elem(&workers, &worker);

	return w && w->wire_mtu ? w->wire_mtu : FUNNEL_MTU;
}

static __always_inline int envelope_in(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;
	__u64 len = bpf_xdp_get_buff_len(ctx);
	struct sa_in_key key = {};
	struct esp_head esp = {};
	struct sa_in_ent *sa;
	struct ethhdr *eth = data;
	struct ip_hdr ip = {};
	enum esp_at at;
	__u32 flags;

	if ((void *)(eth + 1) > data_end)
		return xdp_pass();
	if (parse_ip(data, data_end, eth->h_proto, ETH_HLEN, len - ETH_HLEN, &ip))
		return xdp_pass();
	if (ip.frag != FRAG_NONE) {
		if (settings_flags() & SETTINGS_F_AUDIT)
			note_fragment(data, data_end, &ip);
		return xdp_pass_frag();
	}
	at = find_esp(data, data_end, &ip, &esp);
	if (at == ESP_NOT || !to_us(data, data_end, &ip))
		return xdp_pass();
	if (!header_intact(data, data_end, &ip))
		return xdp_pass(); /* the stack drops it, in InHdrErrors */
	flags = settings_flags();
	if (at == ESP_TORN)
		return unknown_esp(flags, DROP_SHORT);
	key.spi_be = esp.spi_be;
	sa = bpf_map_lookup_elem(&sa_in, &key);
	if (!sa) {
		if (flags & SETTINGS_F_AUDIT && flags & SETTINGS_F_ESP_OURS)
			note(data, data_end, &ip, &esp, NOTE_NO_SA);
		return unknown_esp(flags, DROP_NO_SA);
	}
	if (sa->flags & SA_IN_F_KERNEL)
		return xdp_pass();
	if (replayed(sa, &esp))
		return XDP_DROP;
	if (sa->flags & SA_IN_F_SOCKET || flags & SETTINGS_F_SOCKET || len > ETH_HLEN + funnel_mtu(sa->worker))
		return to_socket(data, data_end, sa, &ip);
	return steer(data, data_end, sa, &ip);
}

static __always_inline int to_xsk(struct xdp_md *ctx)
{
	__u32 ifindex = ctx->ingress_ifindex;
	__u32 *xsk = bpf_map_lookup_elem(&funnel_by_if, &ifindex), k;

	if (!xsk)
		return xdp_drop(DROP_NO_LINK);
	/*
	 * No XSK: the worker is dead. Not counted here: the frame was counted as handed to the funnel,
	 * and the daemon's successor books what never arrived as worker-gone, on the link.
	 */
	k = *xsk;
	if (!bpf_map_lookup_elem(&xsks, &k))
		return XDP_DROP;
	return bpf_redirect_map(&xsks, k, XDP_DROP);
}

/*
 * The addresses a delivered frame shows on ipsecN. Locally administered; the stack does not look at
 * them (the device is NOARP and the type is set to HOST), tcpdump -e does.
 */
static const __u8 deliver_macs[2 * ETH_ALEN] = {2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1};

/* The header of a frame for or from a link, which is not tagged. */
static __always_inline enum drop parse_frame(struct __sk_buff *skb, struct ip_hdr *ip)
{
	__be16 proto;

	skb_headers(skb, ETH_HLEN + sizeof(struct ipv6hdr));
	if (bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_proto), &proto, sizeof(proto)))
		return DROP_SHORT;
	barrier_var(skb); /* clang 14 adds offsets to the context where paths meet; the verifier wants them in the load */
	return parse_ip((void *)(long)skb->data, (void *)(long)skb->data_end, proto, ETH_HLEN, skb->len - ETH_HLEN, ip);
}

/* The worker has seen that it is an IP packet. */
static __always_inline void clamp_delivered(struct __sk_buff *skb, const struct link_ent *l)
{
	struct ip_hdr ip = {};

	if ((l->mss4 || l->mss6) && !parse_frame(skb, &ip))
		clamp_mss(skb, l, &ip);
}

/* An echo of the worker's, on a link where the kernel encrypts. */
static __always_inline int seal(struct __sk_buff *skb, const struct link_ent *l, __u32 id)
{
	enum drop why = l->flags & LINK_F_KERNEL && l->x_ifindex ? DROP_NONE : DROP_NO_LINK;
	struct ip_hdr ip = {};

	if (!why && l->flags & LINK_F_HOSTS)
		why = parse_frame(skb, &ip) ?: to_hosts(skb, id, &ip);
	if (!why && bpf_skb_change_type(skb, PACKET_HOST))
		why = DROP_NO_LINK;
	if (why) {
		count_drop(why);
		return TC_ACT_SHOT;
	}
	return bpf_redirect(l->x_ifindex, 0);
}

static __always_inline int inner_out(struct __sk_buff *skb)
{
	struct link_ent *l = NULL;
	struct link_ctr *c;
	struct stamp st;
	__u32 id;

	if (!bpf_skb_load_bytes(skb, 0, &st, sizeof(st)) && (st.kind == STAMP_DELIVER || st.kind == STAMP_SEAL)) {
		id = st.link;
		l = bpf_map_lookup_elem(&links, &id);
	}
	if (!l || !(l->flags & LINK_F_USED) || l->gen != st.gen || !l->b_ifindex) {
		count_drop(DROP_NO_LINK);
		return TC_ACT_SHOT;
	}
	if (st.kind == STAMP_SEAL)
		return seal(skb, l, id);
	clamp_delivered(skb, l);
	c = link_ctr_get(id);
	if (bpf_skb_store_bytes(skb, 0, deliver_macs, sizeof(deliver_macs), 0) ||
	    bpf_skb_change_type(skb, PACKET_HOST)) {
		count_drop(DROP_SHORT);
		return TC_ACT_SHOT;
	}
	if (c)
		c->deliver_pkts++;
	return bpf_redirect_peer(l->b_ifindex, 0);
}

/* --- out of the kernel's ESP --- */

/* RFC 4301 5.2 step 4: may the peer of this link use that source? */
static __always_inline bool source_ok(const struct link_ent *l, __u32 id, const struct addr_key *src)
{
	struct inner_key k = {.prefixlen = 32 + 128, .link_be = bpf_htonl(id), .addr = *src};

	return !(l->flags & LINK_F_INNER) || bpf_map_lookup_elem(&inner_src, &k);
}

/* RFC 4301 6.2: an ICMP error is about a packet that was for the peer of this link (user/inner.c, inner_quote_ok()). */
static __always_inline bool quote_ok(struct __sk_buff *skb, const struct link_ent *l, __u32 id, const struct ip_hdr *ip)
{
	struct ip_hdr h = *ip, q = {.is6 = ip->is6};
	__u8 type, first;
	struct ends e;
	__u32 at;

	if (!(l->flags & LINK_F_INNER) || ip->proto == IPPROTO_TCP || ip->proto == IPPROTO_UDP)
		return true;
	at = ip->is6 ? skip_exts(skb, &h, h.l4_off) : h.l4_off;
	if (h.frag == FRAG_LATER || h.proto != (ip->is6 ? NEXTHDR_ICMP : IPPROTO_ICMP) ||
	    bpf_skb_load_bytes(skb, at, &type, sizeof(type)) || !is_error(type, ip->is6))
		return true;
	q.off = at + ICMP_HDR_LEN;
	if (bpf_skb_load_bytes(skb, q.off, &first, sizeof(first)) || first >> 4 != (ip->is6 ? 6 : 4) || !load_ends(skb, &q, &e))
		return false;
	return source_ok(l, id, &e.dst);
}

enum { ECHO_LEN = 16, ECHO_ANSWER4 = 0, ECHO_ANSWER6 = 129, ECHO_ASK4 = 8, ECHO_ASK6 = 128, ECHO_MAGIC = 0x65737077 }; /* user/probe.c: 8 bytes behind the header */

struct echo {
	__u8 type, code;
	__sum16 sum;
	__be16 id, seq;
	__be32 magic;
};

/* The answer to an echo of the worker's (liveness = ping), or such an echo of the peer's worker? */
static __always_inline bool is_for_worker(struct __sk_buff *skb, const struct link_ent *l, const struct ip_hdr *ip)
{
	struct echo e;

	if (ip->frag != FRAG_NONE || ip->proto != (ip->is6 ? NEXTHDR_ICMP : IPPROTO_ICMP))
		return false;
	if (ip->len != (__u32)(ip->l4_off - ETH_HLEN + ECHO_LEN))
		return false;
	if (bpf_skb_load_bytes(skb, ip->l4_off, &e, sizeof(e)))
		return false;
	if (e.type == (ip->is6 ? ECHO_ANSWER6 : ECHO_ANSWER4))
		return e.id == l->echo_id;
	return e.type == (ip->is6 ? ECHO_ASK6 : ECHO_ASK4) && e.magic == bpf_htonl(ECHO_MAGIC);
}

static __always_inline int to_worker(struct __sk_buff *skb, const struct link_ent *l, __u32 id)
{
	struct stamp st = {.link = id, .gen = l->gen, .kind = STAMP_OPENED};
	__u32 k = l->worker;
	struct worker_ent *w = bpf_map_lookup_elem(&workers, &k);

	if (!w || !w->tap_ifindex || bpf_skb_store_bytes(skb, 0, &st, sizeof(st), 0)) {
		count_drop(DROP_WORKER_GONE);
		return TC_ACT_SHOT;
	}
	return bpf_redirect(w->tap_ifindex, 0);
}

/* Where an IP packet would end that begins at off. 0: none does. */
static __always_inline __u32 end_from(struct __sk_buff *skb, __u32 off, __be16 proto)
{
	__u8 h[6];

	if (bpf_skb_load_bytes(skb, off, h, sizeof(h)))
		return 0;
	if (proto == bpf_htons(ETH_P_IP))
		return h[0] >> 4 == 4 ? off + (__u32)(h[2] << 8 | h[3]) : 0;
	return h[0] >> 4 == 6 ? off + sizeof(struct ipv6hdr) + (__u32)(h[4] << 8 | h[5]) : 0;
}

/*
 * Is there an Ethernet header before the IP packet? The kernel keeps room for that which the envelope came with, and
 * shows it, or not: that depends on the way the envelope took. The packet ends with the buffer, or there is padding
 * behind it (RFC 4303 2.7): then the header says what it is.
 */
static __always_inline bool has_mac(struct __sk_buff *skb, __be16 proto)
{
	__u32 with = end_from(skb, ETH_HLEN, proto), without = end_from(skb, 0, proto);
	__be16 type;

	if (with == skb->len || without == skb->len)
		return with == skb->len;
	return with && with < skb->len && !bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_proto), &type, sizeof(type)) &&
	       type == proto;
}

static __always_inline enum drop cut_padding(struct __sk_buff *skb, __u32 end)
{
	return skb->len > end && bpf_skb_change_tail(skb, end, 0) ? DROP_SHORT : DROP_NONE;
}

/* What decides whether an authentic packet goes on. The frame it gets is for ipsecN. */
static __always_inline enum drop admit(struct __sk_buff *skb, const struct link_ent *l, __u32 id, struct ip_hdr *ip)
{
	__be16 proto = skb->protocol;
	enum drop why;
	struct ends e;

	if (!has_mac(skb, proto) && bpf_skb_change_head(skb, ETH_HLEN, 0))
		return DROP_SHORT;
	if (bpf_skb_store_bytes(skb, 0, deliver_macs, sizeof(deliver_macs), 0) ||
	    bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &proto, sizeof(proto), 0) ||
	    bpf_skb_change_type(skb, PACKET_HOST))
		return DROP_SHORT;
	why = parse_frame(skb, ip);
	if (!why && l->flags & LINK_F_SHUT)
		why = DROP_LINK_DOWN;
	if (!why && l->flags & LINK_F_HOSTS)
		why = from_hosts(skb, id, ip);
	if (why)
		return why;
	if (!load_ends(skb, ip, &e))
		return DROP_SHORT;
	if (!source_ok(l, id, &e.src))
		return DROP_INNER_SRC;
	return quote_ok(skb, l, id, ip) ? cut_padding(skb, ETH_HLEN + ip->len) : DROP_INNER_ICMP;
}

/* From a link's xfrm device. */
static __always_inline int opened_in(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex, *id = bpf_map_lookup_elem(&link_by_if, &ifindex), n = skb->gso_segs ?: 1;
	struct link_ent *l = id ? bpf_map_lookup_elem(&links, id) : NULL;
	struct link_ctr *c = id ? link_ctr_get(*id) : NULL;
	struct ip_hdr ip = {};
	enum drop why;

	if (!l || !c || l->x_ifindex != ifindex || !l->b_ifindex) {
		count_drop(DROP_NO_LINK);
		return TC_ACT_SHOT;
	}
	why = admit(skb, l, *id, &ip);
	if (why == DROP_INNER_VERSION || why == DROP_SHORT) /* the way out has these, too: ipsecd misses it in its state's count */
		return TC_ACT_SHOT;
	if (why) {
		count_drop_link(c, why, n);
		return TC_ACT_SHOT;
	}
	if (is_for_worker(skb, l, &ip))
		return to_worker(skb, l, *id);
	clamp_delivered(skb, l);
	c->deliver_pkts++;
	c->opened_segs += n;
	return bpf_redirect_peer(l->b_ifindex, 0);
}

SEC("xdp.frags")
int wire_in(struct xdp_md *ctx)
{
	return envelope_in(ctx);
}

SEC("xdp.frags")
int funnel(struct xdp_md *ctx)
{
	return to_xsk(ctx);
}

SEC("tc")
int deliver(struct __sk_buff *skb)
{
	return inner_out(skb);
}

SEC("tc")
int opened(struct __sk_buff *skb)
{
	return opened_in(skb);
}

char _license[] SEC("license") = "Dual BSD/GPL";
