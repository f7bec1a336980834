/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * gro - merge decrypted inner packets into super-packets for delivery through a TAP. Pure: memory
 * in, memory out; one struct gro per worker, no locks.
 *
 * A received packet whose checksum does not verify is never merged, and only merged packets are
 * vouched for: a bad checksum never turns into a good one. Splitting a merged packet again (gso.h, or the
 * kernel) gives back every byte, save the IPv4 identification where DF makes it meaningless
 * (RFC 6864 4.1).
 */
#ifndef GRO_H
#define GRO_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

enum { GRO_FLOWS = 16, GRO_SEGS = 64, GRO_BYTES_MAX = 65535 };

/** struct gro_out - one packet or super-packet ready for writev() behind an Ethernet header */
struct gro_out {
	struct virtio_net_hdr vh; /* hdr_len/csum_start count from the IP header: add l2_len before writing */
	struct iovec iov[GRO_SEGS + 1]; /* first: headers (edited in place) + payload, then payloads */
	int n_iov;
	uint32_t n_segs;
	uint32_t bytes; /* IP bytes in total, GRO_BYTES_MAX at most when merged */
	uint32_t tag;	/* the caller's, see gro_add() */
	uint8_t family; /* 4 or 6 */
};

struct gro;

/** gro_new() - @udp: the TAP takes VIRTIO_NET_HDR_GSO_UDP_L4 (USO). Return: NULL when out of memory */
struct gro *gro_new(bool udp);
void gro_free(struct gro *g);

/** gro_emit_fn - consume out before returning; it may edit out and the packets' headers */
typedef void (*gro_emit_fn)(void *arg, struct gro_out *out);

/**
 * gro_add() - offer one decrypted inner packet; it stays in the caller's memory until flushed
 * @tag: link id; only packets with equal tags merge
 * May call emit() for packets that must go out first (order within a flow is kept; a packet that
 * cannot merge flushes its flow before it). Only in-order TCP segments with equal headers apart
 * from seq, PSH/FIN and checksum, same ack/window/options/TOS/TTL; UDP datagrams of equal size
 * (the last may be shorter) and same flow. Verifies IPv4 header and L4 checksum before merging. What
 * did not merge goes out byte for byte as it came, with vh all zero: nothing is claimed about it.
 */
void gro_add(struct gro *g, uint8_t *ip, uint32_t len, uint32_t tag, gro_emit_fn emit, void *arg);

/** gro_flush() - emit everything held, oldest flow first; at the end of every batch */
void gro_flush(struct gro *g, gro_emit_fn emit, void *arg);

#endif
