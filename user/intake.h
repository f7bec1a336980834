/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * intake - how envelopes come in on a virtual wire (veth) while `input` is auto: by sockets or by XDP.
 *
 * Without an XDP program at its other end a veth passes the super-packets of UDP_SEGMENT as they are, and one read
 * brings dozens of envelopes. With one, the sender's kernel cuts them first, and each is a packet of its own. What
 * comes singly anyway (bare ESP, other senders, garbage) costs XDP a third of what it costs a socket. So the
 * sockets begin, and what arrives decides. Pure: counts in, decision out; the control thread owns it.
 */
#ifndef INTAKE_H
#define INTAKE_H

#include <stdbool.h>
#include <stdint.h>

/** struct intake_seen - counts since the start, of all workers */
struct intake_seen {
	uint64_t sock_pkts, sock_msgs; /* envelopes, and the messages they came in */
	uint64_t xdp_pkts, xdp_bytes, xdp_udp; /* the last: those in UDP, which alone can come in trains */
};

/** struct intake - all zero is a start, by sockets */
struct intake {
	bool xdp; /* the decision */
	struct intake_seen was;
	uint64_t was_ns, switched_ns;
	uint64_t quiet_ns, busy_ns; /* how long it has been so */
	uint64_t try_ns;            /* how long after a switch to XDP the sockets are tried again; set by the switch */
};

/**
 * intake_tick() - look at what came since the last look; several times a second
 * To XDP: above 20,000 envelopes a second, fewer than two in a message. Back: less than 500 a second for 5 s; or, to see
 * whether they come in trains by now, half a second of 10,000 and more of 1000 bytes and more, or of 50,000 and more of
 * any length, in UDP. A sender that is busy makes trains of what it sent singly before, so that is tried after 2 s, and
 * each time in vain after twice as long, up to 64 s: what waits in the veth's ring at that moment is lost.
 * Return: has i->xdp changed?
 */
bool intake_tick(struct intake *i, const struct intake_seen *seen, uint64_t now_ns);

#endif
