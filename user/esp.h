/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * esp - RFC 4303 in three steps: prepare, crypt, finish. Pure: frame + SA -> frame or drop
 * reason; no I/O, clock, lock or global. Works from ESP header to ICV; outer IP and UDP
 * headers are the emitter's and the receiver's business.
 *
 * In place: the caller gives esp_headroom() bytes before the inner packet and, from there,
 * esp_envelope_len() bytes in all (outbound); inbound shrinks inside the given bytes. Outbound the inner
 * packet may lie elsewhere, and what is there is written over up to the trailer.
 */
#ifndef ESP_H
#define ESP_H

#include <stdint.h>
#include "ipsec_drops.h"
#include "ipsec_wire.h"
#include "sa.h"

enum {
	ESP_HEADROOM_MAX = ESP_HDR_LEN + ESP_IV_MAX, /* of any suite */
	ESP_TAILROOM_MAX = ESP_ALIGN_MAX - 1 + ESP_TRAILER_LEN + ESP_ICV_MAX,
	ESP_BATCH = AEAD_BATCH,
};

/** esp_headroom() - bytes from the ESP header to the inner packet */
static inline uint32_t esp_headroom(struct esp_layout l)
{
	return ESP_HDR_LEN + (uint32_t)l.iv_len;
}

/** struct esp_pkt - one packet on its way through the steps */
struct esp_pkt {
	uint8_t *data; /* out: inner packet, then ESP header. in: ESP header, then inner packet */
	uint8_t *from; /* out: where the inner packet lies instead, with room for padding and trailer; NULL = at data */
	uint32_t len;  /* bytes at data */
	uint8_t next;  /* NEXT_IP4, NEXT_IP6, NEXT_NONE; transport: any. out: set by caller; in: result */
	uint8_t drop;  /* enum drop; if set: skip it, its bytes must not be sent or delivered */
	uint16_t link; /* free for the caller */
	uint64_t seq;  /* out: number used; in: reconstructed number */
	void *user;    /* free for the caller */
};

/**
 * esp_seal() - n (<= ESP_BATCH) inner packets become ESP packets, in place
 * @sa:   outbound SA owned by the calling thread; seq and iv advance by one per packet not dropped
 * Drops: DROP_SEQ_EXHAUSTED when seq_limit or iv_limit is reached (the counter never wraps);
 * DROP_TX_ERROR when the crypto library refused (its number stays used).
 * Packets with drop already set are skipped. Spec: RFC 4303 3.3.2-3.3.4, 2.4; RFC 4106 3-5, 7634 2,
 * 4543 3, 3602 3.
 */
void esp_seal(struct sa_out *sa, struct esp_pkt *pkts, unsigned int n);

/**
 * esp_open() - n (<= ESP_BATCH) ESP packets of one SA become inner packets, in place, in order
 * @sa:   inbound SA owned by the calling thread; its window advances only for authentic packets
 * @lost: incremented by sequence numbers that left the window unseen; may be NULL
 * Order per RFC 4303 3.4.2-3.4.4: window check on all, decrypt, then per packet in arrival order
 * window check again, slide, padding and next header.
 * Drops: SHORT, NO_SA (the SPI is not this SA's), REPLAY_OLD, REPLAY_DUP, ICV_FAIL, BAD_PAD,
 * BAD_NEXT_HEADER, INNER_VERSION (inner length or version nibble disagrees with the next header;
 * the packet is trimmed to the inner total length, RFC 4303 2.7 TFC padding). NEXT_NONE packets
 * come back with drop DROP_NONE, next NEXT_NONE and data/len = the payload before the trailer. Of a
 * transport mode SA every packet comes back so, with next as the peer sent it; transport_restore()
 * makes an IP packet of it.
 */
void esp_open(struct sa_in *sa, struct esp_pkt *pkts, unsigned int n, uint64_t *lost);

/**
 * esp_resync() - once more a packet whose ICV failed, for a sender that got 2^32 numbers or more ahead
 * of the window while nothing arrived: with the high halves behind the one that esp_open() took.
 * @p: as esp_open() left it, with room for len bytes at data; @copy: the packet as it came
 * @skip, @tries: leave out so many high halves, try so many. Each costs as much as a whole packet, so
 *       the caller says when (RFC 4303 A3.1: after failures in a row) and how often.
 * Only ever forward: no packet sent before can be authentic there. Nothing changes unless one is.
 * Return: as esp_open(); DROP_ICV_FAIL = none of them
 * Spec: RFC 4303 A3
 */
enum drop esp_resync(struct sa_in *sa, struct esp_pkt *p, const uint8_t *copy, uint32_t len,
		     unsigned int skip, unsigned int tries);

/** esp_spi() - SPI of an ESP packet, network order; data must hold ESP_HDR_LEN bytes */
uint32_t esp_spi(const uint8_t *data);

#endif
