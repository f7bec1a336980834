/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * port - the XSK funnel: a veth pair in the backend namespace whose receiving end feeds an AF_XDP
 * socket. Receive only: frames are looked at, or crypted in place, and go straight back to the
 * fill ring, so a frame is always in exactly one of: fill ring, kernel, rx ring, batch at hand
 * (I5). No ESP here. Owned by one worker; the veth outlives the daemon, the socket does not.
 *
 * A jumbo frame lies in several buffers of the UMEM (AF_XDP multi-buffer, from 6.6 on). Such a one is copied
 * into one piece; the others are looked at where they lie.
 */
#ifndef PORT_H
#define PORT_H

#include <stdint.h>
#include "load.h"

/*
 * PORT_BATCH: frames of one round. A 64 KB super-packet is 48 of them, so a round of 64 delivered every second
 * one in pieces, and four streams in pieces of 16.
 */
enum { PORT_FRAME = 4096, PORT_BATCH = 256,
       PORT_JOINED = 10240 /* JUMBO_MTU and its headers, and room behind */ };

struct port_conf {
	const char *name;   /* of the sending end; the receiving end is name + "r" */
	int backend_fd;
	struct nl *nl;      /* of the backend namespace */
	struct load *load;
	uint32_t xsk;       /* index in the XSKMAP */
	uint32_t queue;     /* frames it holds while the worker is elsewhere; rounded up to a power of two */
	bool csum_off;      /* complete checksums at the sending end (skbs come in there) */
	bool jumbo;         /* frames up to JUMBO_MTU, where the kernel can */
};

struct port;

/** struct port_frame - one received frame; stays valid until port_release() */
struct port_frame {
	uint8_t *data; /* Ethernet header; PORT_HEADROOM bytes before it are free */
	uint32_t len;
	uint32_t room; /* from data to the end of the frame's memory */
	uint64_t addr; /* for port_release() */
};

struct port_stats {
	uint64_t ring_full, fill_empty, dropped; /* from the kernel: XDP_STATISTICS */
	uint32_t free_frames, total_frames;
};

/** port_open() - make or adopt the veth, bind the socket. Control thread. Return: 0 or -errno */
int port_open(struct port **pp, const struct port_conf *c);
void port_close(struct port *p);
int port_fd(const struct port *p);
int port_ifindex(const struct port *p); /* sending end */
uint32_t port_mtu(const struct port *p); /* longest packet it takes: FUNNEL_MTU or JUMBO_MTU */

/** port_receive() - up to n frames, at most PORT_BATCH. Worker thread. Return: how many */
unsigned int port_receive(struct port *p, struct port_frame *f, unsigned int n);
/** port_release() - the n frames of the last port_receive() go back to the kernel */
void port_release(struct port *p, const struct port_frame *f, unsigned int n);
void port_stats(const struct port *p, struct port_stats *s);

#endif
