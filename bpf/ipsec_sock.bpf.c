// SPDX-License-Identifier: (GPL-2.0-or-later OR BSD-2-Clause)
/*
 * Sockets, as far as the wire is concerned: which one gets an envelope that comes up through the
 * stack (no native XDP on the device, input = socket, longer than an XSK frame, fragments), and
 * UDP 4500, which is a number on the wire and no socket of ours: whoever does IKE here binds it.
 * Our UDP sockets lie on private ports, one per worker; these programs stand where the two meet.
 *
 * sock_filter  raw protocol-50 sockets. Every one of them is offered every ESP packet; each takes
 *              only what belongs to its worker. A socket not in sock_worker takes nothing: an idle
 *              one that merely keeps PMTU learning and silence alive needs no other filter.
 * sock_in      TC ingress, underlay devices. A datagram to 4500 with an SPI of ours is given to the
 *              socket of its worker, port and all, so INPUT rules and connection tracking see 4500
 *              (also where wire_in has shown GRO another number). One of an SA that the kernel has is
 *              given to the one socket that takes it out of its UDP for the kernel's ESP.
 *              Envelopes of such SAs, in UDP or not, are given the address at which the state takes them.
 *              What is not ours goes where it would go without us; where nobody listens it ends
 *              here, in silence (I4). ICMP errors about our datagrams find the socket that sent them.
 * sock_out     TC egress, underlay devices. What our UDP sockets send leaves from 4500.
 */
#include "kdefs.bpf.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "ipsec_shared.h"
#include "maps.bpf.h"
#include "parse.bpf.h"
#include "look.bpf.h"
#include "stats.bpf.h"

#define TAKE_ALL 0xffffffff
#define ESP_MIN  8 /* SPI and sequence number: less is no ESP */

/* --- raw sockets --- */

/* A raw IPv4 socket sees the IP header, a raw IPv6 socket starts at ESP. Return: -1 = unreadable */
static __always_inline int esp_off(struct __sk_buff *skb)
{
	__u8 ihl;

	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return 0;
	if (bpf_skb_load_bytes(skb, 0, &ihl, 1))
		return -1;
	return (ihl & 0xf) * 4;
}

static __always_inline int take(struct __sk_buff *skb)
{
	__u64 cookie = bpf_get_socket_cookie(skb);
	__u32 *worker = bpf_map_lookup_elem(&sock_worker, &cookie);
	struct sa_in_key k = {};
	struct sa_in_ent *sa;
	int off = esp_off(skb);

	if (!worker || off < 0 || bpf_skb_load_bytes(skb, off, &k.spi_be, sizeof(k.spi_be)))
		return 0;
	sa = bpf_map_lookup_elem(&sa_in, &k);
	return sa && sa->worker == *worker && !(sa->flags & SA_IN_F_KERNEL) ? TAKE_ALL : 0;
}

/* --- UDP --- */

static __always_inline bool esp_is_ours(void)
{
	__u32 zero = 0;
	struct settings_ent *s = bpf_map_lookup_elem(&settings, &zero);

	return s && s->flags & SETTINGS_F_ESP_OURS;
}

static __always_inline __be16 kernel_port(void)
{
	__u32 zero = 0;
	struct settings_ent *s = bpf_map_lookup_elem(&settings, &zero);

	return s ? s->kernel_port_be : 0;
}

/* A datagram to or from 4500, or what an ICMP error quotes of one: theirs is always the wild side. */
struct dgram {
	__be16 our_port, their_port;
	__be32 spi_be; /* 0 = non-ESP marker (RFC 3948 2.2), or too short for ESP */
};

static __always_inline __be16 private_port(__u32 worker)
{
	struct worker_ent *w = bpf_map_lookup_elem(&workers, &worker);

	return w ? w->udp_port_be : 0;
}

/* The socket the stack would choose for a datagram from their_port to port. Release it. */
static __always_inline struct bpf_sock *listener(struct __sk_buff *skb, const struct seen *s,
						 const struct dgram *d, __be16 port)
{
	struct bpf_sock_tuple t = {};

	if (!s->ip.is6) {
		t.ipv4.saddr = s->theirs.word[3];
		t.ipv4.daddr = s->ours.word[3];
		t.ipv4.sport = d->their_port;
		t.ipv4.dport = port;
		return bpf_sk_lookup_udp(skb, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
	}
	__builtin_memcpy(t.ipv6.saddr, s->theirs.word, sizeof(t.ipv6.saddr));
	__builtin_memcpy(t.ipv6.daddr, s->ours.word, sizeof(t.ipv6.daddr));
	t.ipv6.sport = d->their_port;
	t.ipv6.dport = port;
	return bpf_sk_lookup_udp(skb, &t, sizeof(t.ipv6), BPF_F_CURRENT_NETNS, 0);
}

static __always_inline bool bound(struct __sk_buff *skb, const struct seen *s, const struct dgram *d,
				  __be16 port)
{
	struct bpf_sock *sk = listener(skb, s, d, port);

	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

/*
 * RFC 1624, and a checksum of zero stays what it is: none. A super-packet's is made when it is cut, from the
 * pseudo-header's sum that stands in the field until then. The helper would notice by ip_summed, but for
 * a device without checksum offload UDP_SEGMENT leaves that at CHECKSUM_NONE.
 */
static __always_inline void set_port(struct __sk_buff *skb, __u32 off, __u32 csum_off, __be16 from,
				     __be16 to)
{
	if (from == to)
		return;
	if (!skb->gso_size)
		bpf_l4_csum_replace(skb, csum_off, from, to, BPF_F_MARK_MANGLED_0 | sizeof(to));
	bpf_skb_store_bytes(skb, off, &to, sizeof(to), 0);
}

static __always_inline int drop(enum drop why)
{
	count_drop(why);
	return TC_ACT_SHOT;
}

/*
 * Hand the datagram to the socket of ours on that port. A fragment cannot be given: the stack joins it with the
 * others first; nor, before 6.6, to a socket with SO_REUSEPORT. Then the number shows it the way.
 * Without that socket daemon and guardian are dead, and the kernel would say so to the sender.
 */
static __always_inline int ours(struct __sk_buff *skb, const struct seen *s, const struct dgram *d,
				__be16 port)
{
	__u32 at = s->ip.l4_off;
	struct bpf_sock *sk = listener(skb, s, d, port);
	bool given;

	if (!sk)
		return drop(DROP_WORKER_GONE);
	given = s->ip.frag == FRAG_NONE && !bpf_sk_assign(skb, sk, 0);
	bpf_sk_release(sk);
	set_port(skb, at + offsetof(struct udphdr, dest), at + offsetof(struct udphdr, check),
		 d->our_port, given ? bpf_htons(ESP_PORT) : port);
	return TC_ACT_UNSPEC;
}

static __always_inline bool same(const struct addr_key *a, const struct addr_key *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] && a->word[2] == b->word[2] &&
	       a->word[3] == b->word[3];
}

/* An address that a packet of this family can have. */
static __always_inline bool fits(const struct addr_key *a, bool is6)
{
	bool v4 = !a->word[0] && !a->word[1] && a->word[2] == bpf_htonl(0xffff);

	return is6 ? !v4 && (a->word[0] || a->word[1] || a->word[2] || a->word[3]) : v4;
}

/* The pseudo-header's sum follows; what stands for none (RFC 768) stays. */
static __always_inline void set_sum(struct __sk_buff *skb, const struct seen *s, __s64 diff)
{
	__u32 at = s->ip.l4_off + offsetof(struct udphdr, check);

	/* IPv6 has no header checksum to make up for an address: that flag would count the change twice */
	bpf_l4_csum_replace(skb, at, 0, diff, BPF_F_MARK_MANGLED_0 | (s->ip.is6 ? 0 : BPF_F_PSEUDO_HDR));
}

/*
 * The kernel finds a state by its address and SPI, and has one window for each: so an SA is one state, at one address.
 * Its peer may send to any of ours, as to a worker, and what comes to another one is given that address: ESP does not
 * seal it. Fragments stay what they are; the stack joins them by their addresses.
 */
static __always_inline void bring_home(struct __sk_buff *skb, struct seen *s, const struct sa_in_ent *sa)
{
	__u32 off = s->ip.off;
	__s64 diff;

	if (!(sa->flags & SA_IN_F_KERNEL) || s->ip.frag != FRAG_NONE || !fits(&sa->home, s->ip.is6) ||
	    same(&s->ours, &sa->home))
		return;
	diff = bpf_csum_diff(s->ours.word, sizeof(s->ours), (__be32 *)sa->home.word, sizeof(sa->home), 0);
	if (s->ip.proto == IPPROTO_UDP)
		set_sum(skb, s, diff);
	s->ours = sa->home;
	if (s->ip.is6) {
		bpf_skb_store_bytes(skb, off + offsetof(struct ipv6hdr, daddr), s->ours.word, 16, 0);
		return;
	}
	bpf_l3_csum_replace(skb, off + offsetof(struct iphdr, check), 0, diff, 0);
	bpf_skb_store_bytes(skb, off + offsetof(struct iphdr, daddr), &s->ours.word[3], 4, 0);
}

static __always_inline void whole_esp_in(struct __sk_buff *skb, struct seen *s)
{
	struct sa_in_key k = {};
	struct sa_in_ent *sa;

	if (bpf_skb_load_bytes(skb, s->ip.l4_off, &k.spi_be, sizeof(k.spi_be)))
		return;
	sa = bpf_map_lookup_elem(&sa_in, &k);
	if (sa && bpf_map_lookup_elem(&local_addr, &s->ours))
		bring_home(skb, s, sa);
}

/* First fragment of bare ESP: what comes out of them all needs our raw sockets, and these live and
 * die with the worker's UDP socket, which can be looked for. Whole packets are wire_in's, or the kernel's own. */
static __always_inline int esp_in(struct __sk_buff *skb, struct seen *s)
{
	struct dgram d = {};

	if (s->ip.frag == FRAG_NONE)
		whole_esp_in(skb, s);
	if (s->ip.frag != FRAG_FIRST || !esp_is_ours() || !bpf_map_lookup_elem(&local_addr, &s->ours))
		return TC_ACT_UNSPEC;
	return bound(skb, s, &d, private_port(0)) ? TC_ACT_UNSPEC : drop(DROP_WORKER_GONE);
}

/* RFC 3948 2.3: one byte, 0xff. */
static __always_inline bool is_keepalive(struct __sk_buff *skb, const struct seen *s, __u16 udp_len)
{
	__u8 b;

	return udp_len == sizeof(struct udphdr) + 1 &&
	       !bpf_skb_load_bytes(skb, s->ip.l4_off + sizeof(struct udphdr), &b, 1) && b == 0xff;
}

/* Nobody of ours and nobody else: the stack would answer with an ICMP error. */
static __always_inline int silence(struct __sk_buff *skb, const struct seen *s, const struct dgram *d,
				   __u16 udp_len)
{
	struct glob_ctr *c = glob_ctr_get();

	if (d->spi_be)
		return drop(DROP_NO_SA);
	if (!is_keepalive(skb, s, udp_len))
		return drop(DROP_NO_LISTENER);
	if (c)
		c->keepalives++;
	return TC_ACT_SHOT;
}

static __always_inline int udp_in(struct __sk_buff *skb, struct seen *s)
{
	struct sa_in_key k = {};
	struct dgram d = {};
	struct sa_in_ent *sa;
	struct udphdr udp;
	__be16 private;

	if (bpf_skb_load_bytes(skb, s->ip.l4_off, &udp, sizeof(udp)))
		return TC_ACT_UNSPEC;
	if (!bpf_map_lookup_elem(&local_addr, &s->ours))
		return TC_ACT_UNSPEC;
	d.our_port = udp.dest;
	d.their_port = udp.source;
	if (bpf_ntohs(udp.len) >= sizeof(udp) + ESP_MIN)
		bpf_skb_load_bytes(skb, s->ip.l4_off + sizeof(udp), &d.spi_be, sizeof(d.spi_be));
	k.spi_be = d.spi_be;
	sa = k.spi_be ? bpf_map_lookup_elem(&sa_in, &k) : NULL;
	if (sa && d.our_port == bpf_htons(ESP_PORT))
		bring_home(skb, s, sa);
	private = sa && sa->flags & SA_IN_F_KERNEL ? kernel_port() : sa ? private_port(sa->worker) : 0;
	if (sa && (d.our_port == bpf_htons(ESP_PORT) || d.our_port == private))
		return ours(skb, s, &d, private);
	if (d.our_port != bpf_htons(ESP_PORT))
		return TC_ACT_UNSPEC;
	if (bound(skb, s, &d, udp.dest))
		return TC_ACT_UNSPEC;
	if (!esp_is_ours() && !is_keepalive(skb, s, bpf_ntohs(udp.len)))
		return TC_ACT_UNSPEC;
	return silence(skb, s, &d, bpf_ntohs(udp.len));
}

/* --- ICMP errors --- */

/* Who sent it? Known by its SPI; where the quotation ends before that, ours if nobody else sends from 4500. */
static __always_inline __be16 sender(struct __sk_buff *skb, const struct seen *q, const struct dgram *d)
{
	struct env_key k = {.spi_be = d->spi_be, .dst = q->theirs};
	__u32 *id = d->spi_be ? bpf_map_lookup_elem(&env_out, &k) : NULL;
	struct link_ent *l = id ? bpf_map_lookup_elem(&links, id) : NULL;

	if (l)
		return private_port(l->worker);
	return bound(skb, q, d, d->our_port) ? 0 : private_port(0);
}

static __always_inline int icmp_in(struct __sk_buff *skb, const struct seen *s)
{
	__u32 icmp = s->ip.l4_off, at;
	struct dgram d = {};
	struct seen q = {};
	__be16 ports[2], to;

	if (!quoted(skb, s, &q) || q.ip.proto != IPPROTO_UDP || q.ip.frag == FRAG_LATER)
		return TC_ACT_UNSPEC;
	at = q.ip.l4_off;
	if (bpf_skb_load_bytes(skb, at, ports, sizeof(ports)) || ports[0] != bpf_htons(ESP_PORT) ||
	    !bpf_map_lookup_elem(&local_addr, &q.ours))
		return TC_ACT_UNSPEC;
	d.our_port = ports[0];
	d.their_port = ports[1];
	bpf_skb_load_bytes(skb, at + sizeof(struct udphdr), &d.spi_be, sizeof(d.spi_be));
	to = sender(skb, &q, &d);
	if (to)
		set_port(skb, at, icmp + ICMP_CHECKSUM_OFF, d.our_port, to);
	return TC_ACT_UNSPEC;
}

/* --- the two sides of a device --- */

static __always_inline int enter(struct __sk_buff *skb, bool l3)
{
	struct seen s = {};

	if (!look_at(skb, &s, false, l3) || s.ip.frag == FRAG_LATER)
		return TC_ACT_UNSPEC;
	if (s.ip.proto == IPPROTO_UDP)
		return udp_in(skb, &s);
	if (s.ip.proto == IPPROTO_ESP)
		return esp_in(skb, &s);
	return icmp_in(skb, &s);
}

static __always_inline int leave(struct __sk_buff *skb, bool l3)
{
	__u64 cookie = bpf_get_socket_cookie(skb);
	struct seen s = {};
	struct udphdr udp;
	__u32 at;

	if (!cookie || !bpf_map_lookup_elem(&sock_worker, &cookie))
		return TC_ACT_UNSPEC;
	if (!look_at(skb, &s, true, l3) || s.ip.proto != IPPROTO_UDP || s.ip.frag == FRAG_LATER)
		return TC_ACT_UNSPEC;
	at = s.ip.l4_off;
	if (!bpf_skb_load_bytes(skb, at, &udp, sizeof(udp)))
		set_port(skb, at + offsetof(struct udphdr, source), at + offsetof(struct udphdr, check),
			 udp.source, bpf_htons(ESP_PORT));
	return TC_ACT_UNSPEC;
}

SEC("socket")
int sock_filter(struct __sk_buff *skb)
{
	return take(skb);
}

SEC("tc")
int sock_in(struct __sk_buff *skb)
{
	return enter(skb, false);
}

SEC("tc")
int sock_out(struct __sk_buff *skb)
{
	return leave(skb, false);
}

SEC("tc")
int sock_in_l3(struct __sk_buff *skb)
{
	return enter(skb, true);
}

SEC("tc")
int sock_out_l3(struct __sk_buff *skb)
{
	return leave(skb, true);
}

char _license[] SEC("license") = "Dual BSD/GPL";
