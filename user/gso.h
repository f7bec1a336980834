/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gso - cut the super-packets of the TAP funnel into wire segments. Pure: memory in, memory out.
 * A segment leaves with complete checksums. The way back, merging, is gro.h.
 */
#ifndef GSO_H
#define GSO_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>
#include "csum.h"

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4 /* headers older than Linux 6.2 */
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

/** struct gso - an IP packet from the TAP, parsed; segments are taken from it one by one */
struct gso {
	const uint8_t *ip;	 /* IP header; the caller's bytes, unchanged while segments are taken */
	uint32_t len;		 /* IP packet bytes; link padding behind them is cut off */
	uint16_t l3_len, l4_len; /* header lengths; l4_len 0 when no L4 work is needed */
	uint16_t seg_payload;	 /* payload bytes per segment; 0 = not a super-packet */
	uint16_t n_segs;	 /* >= 1; some 60 at a usual MSS, thousands at a hostile one */
	uint8_t family;		 /* 4 or 6 */
	uint8_t proto;		 /* IPPROTO_TCP, IPPROTO_UDP or other; IPPROTO_RAW for a fragment */
	bool need_csum;
	uint16_t csum_start, csum_off; /* relative to ip */
	uint64_t ip_sum, l4_sum;       /* of the header bytes that all segments share */
};

/**
 * gso_parse() - read a virtio header and the IP packet behind it
 * @vh:  from the TAP, little or native endian as the TAP was set up (native, vnet_hdr_sz 10 or 12)
 * @ip:  IP header; @l2_len: bytes of the Ethernet header that precede it (csum_start counts from there)
 * IPv6 extension headers before TCP/UDP are walked. ECN flag (VIRTIO_NET_HDR_GSO_ECN) honoured;
 * hdr_len is not believed. Packets above 64 KB (BIG TCP) are refused: leave gso_max_size alone.
 * Return: 0; -EINVAL when header and bytes disagree (the caller drops with reason `short`).
 */
int gso_parse(struct gso *g, const struct virtio_net_hdr *vh, const uint8_t *ip, uint32_t len,
	      uint32_t l2_len);

/**
 * gso_segment() - write segment i (0..n_segs-1), headers fixed and checksums complete, to dst
 * @room: bytes at dst. TCP: sequence advances, FIN/PSH only on the last, CWR only on the first;
 * IPv4 identification increments. UDP: length per segment. A single packet (n_segs 1) is copied
 * with its checksum completed when need_csum.
 * Return: bytes written, or -EMSGSIZE.
 */
int gso_segment(const struct gso *g, unsigned int i, uint8_t *dst, uint32_t room);

/**
 * gso_finish() - complete the TCP or UDP checksum of a whole IP packet if its sender left that to a device
 * For frames that lost the mark of a partial checksum on their way (XDP on a veth). @len: of the packet,
 * as its header says. No fragments, no IPv6 extension headers: those are left alone.
 */
void gso_finish(uint8_t *ip, uint32_t len);

#endif
