// SPDX-License-Identifier: (GPL-2.0-or-later OR BSD-2-Clause)
/* The kernel's part of xdpblast: frames are dropped, sent on, or filled from a table and sent on.
 */
#include "kdefs.bpf.h"
#include <bpf/bpf_helpers.h>

const volatile __u32 out_ifindex;
const volatile __u32 frame_len;
const volatile __u64 pps;   /* 0 = as fast as it goes */
const volatile __u32 count; /* slots in use */
const volatile __u8 again;  /* begin anew after the last slot */

/* Writer: play, on one core. */
__u64 sent, start_ns, last_ns;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set by the loader, as is the size of a slot */
	__uint(key_size, 4);
	__uint(value_size, 2048);
} slots SEC(".maps");

SEC("xdp")
int drop(struct xdp_md *ctx)
{
	return XDP_DROP;
}

/* What a receiver may have changed in a frame that comes back to us: Ethernet and IP header. */
__u64 head[5];

SEC("xdp")
int same(struct xdp_md *ctx)
{
	void *data_end = (void *)(long)ctx->data_end;
	void *data = (void *)(long)ctx->data;

	if (data + sizeof(head) > data_end)
		return XDP_ABORTED;
	__builtin_memcpy(data, head, sizeof(head));
	return bpf_redirect(out_ifindex, 0);
}

/* A frame that is not due yet is dropped and made again: pacing by spinning, on the generator's
 * core. */
SEC("xdp")
int play(struct xdp_md *ctx)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 slot = sent % count;
	void *frame;

	if (!start_ns)
		start_ns = now;
	if (!again && sent >= count)
		return XDP_DROP;
	if (pps && sent * 1000000000 > (now - start_ns) * pps)
		return XDP_DROP;
	frame = bpf_map_lookup_elem(&slots, &slot);
	if (!frame || bpf_xdp_store_bytes(ctx, 0, frame, frame_len))
		return XDP_ABORTED;
	sent++;
	last_ns = now;
	return bpf_redirect(out_ifindex, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
