// SPDX-License-Identifier: (GPL-2.0-or-later OR BSD-2-Clause)
/*
 * Which socket gets an envelope that comes up through the stack: no native XDP on the device,
 * input = socket, fragments that the stack has reassembled.
 *
 * sock_filter  raw protocol-50 sockets. Every one of them is offered every ESP packet; each takes
 *              only what belongs to its worker. A socket not in sock_worker takes nothing: an idle
 *              one that merely keeps PMTU learning and silence alive needs no other filter.
 * pick         the UDP 4500 SO_REUSEPORT group. These sockets exist only where ESP is ours: IKE,
 *              keepalives and unknown SPIs are dropped, in silence.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "kdefs.bpf.h"
#include "ipsec_shared.h"
#include "maps.bpf.h"

#define TAKE_ALL 0xffffffff

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
	return sa && sa->worker == *worker ? TAKE_ALL : 0;
}

static __always_inline int choose(struct sk_reuseport_md *ctx)
{
	struct sa_in_key k = {};
	struct sa_in_ent *sa;
	__u32 i;

	/*
	 * Never SK_DROP: to UDP that means "no socket", and the kernel answers with an ICMP error.
	 * Passed without a choice, the packet lands in some socket of ours and dies there in silence.
	 */
	if (bpf_skb_load_bytes(ctx, sizeof(struct udphdr), &k.spi_be, sizeof(k.spi_be)))
		return SK_PASS;
	sa = bpf_map_lookup_elem(&sa_in, &k);
	if (!sa)
		return SK_PASS;
	i = sa->worker;
	if (!bpf_sk_select_reuseport(ctx, &pick_socks, &i, 0))
		return SK_PASS;
	i += WORKER_MAX; /* the other family's group */
	bpf_sk_select_reuseport(ctx, &pick_socks, &i, 0);
	return SK_PASS;
}

SEC("socket")
int sock_filter(struct __sk_buff *skb)
{
	return take(skb);
}

SEC("sk_reuseport")
int pick(struct sk_reuseport_md *ctx)
{
	return choose(ctx);
}

char _license[] SEC("license") = "Dual BSD/GPL";
