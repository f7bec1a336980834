/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ike_wire - the records between ipsecd and the IKE daemon's plugin (ike/), on a SOCK_SEQPACKET socket.
 * Pure: no I/O, no clock, no other header of ours, so that both sides compile this one file.
 *
 * A record is one packet: a header of IKE_HEAD_LEN bytes and a body whose length its type fixes. All
 * numbers are big-endian, addresses 16 bytes (IPv4 as v4-mapped), a bool is 0 or 1, anything else is
 * refused. An SPI is a number here, not bytes.
 *
 *   0  magic    u32 "IPD1"         8  seq         u32  of a request; its reply has the same; events 0
 *   4  version  u16 IKE_VERSION   12  len         u32  of the whole record
 *   6  type     u16 enum ike_type 16  generation  u64  of the IKE daemon; in replies and events the daemon's own
 *
 * Two connections. On the first the plugin asks, ipsecd answers, one request at a time; on the second
 * ipsecd sends events. Each begins with a hello. A generation is a number that a process draws at its
 * start: a plugin that comes back with another one is a new IKE daemon, and what the old one installed
 * is an orphan; an ipsecd with another one has lost every SA.
 *
 * An ADD carries a key: whoever holds such a record wipes it (ike_wipe()).
 */
#ifndef IKE_WIRE_H
#define IKE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	IKE_MAGIC = 0x49504431, /* "IPD1" */
	IKE_VERSION = 1,
	IKE_HEAD_LEN = 24,
	IKE_KEY_MAX = 128,
	IKE_SEL_MAX = 16, /* traffic selectors of one SA, pairs */
	IKE_RECORD_MAX = 2048,
	IKE_TIMEOUT_MS = 2000, /* for a reply; then the request has failed and the connection is closed */
};

/** enum ike_type - replies are the request's type + 100 */
enum ike_type {
	IKE_HELLO = 1,  /* struct ike_hello, both ways */
	IKE_GET_SPI,    /* empty; the reply says which */
	IKE_ADD,        /* struct ike_add */
	IKE_UPDATE,     /* struct ike_update */
	IKE_QUERY,      /* struct ike_id */
	IKE_DEL,        /* struct ike_id; one that is not there is fine */
	IKE_FLUSH,      /* empty: everything this generation has installed */
	IKE_BYE,        /* empty: the IKE daemon ends in good order */
	IKE_REPLY = 100, /* + request: struct ike_reply */
	IKE_EXPIRE = 200, /* struct ike_expire, event */
	IKE_MAPPING,    /* struct ike_mapping, event */
	IKE_ACQUIRE,    /* struct ike_acquire, event */
};

/** enum ike_status - what a reply says */
enum ike_status { IKE_OK = 0, IKE_FAILED, IKE_NOT_FOUND, IKE_NOT_SUPPORTED, IKE_NO_LINK, IKE_STATUS_MAX };

/** struct ike_head - in front of every record */
struct ike_head {
	uint16_t type;
	uint32_t seq, len;
	uint64_t generation;
};

/** struct ike_hello - who speaks; pid is compared with what the kernel says */
struct ike_hello {
	uint32_t pid;
	bool events; /* this is to be the connection for events */
};

/** struct ike_id - which SA. Addresses are outer ones */
struct ike_id {
	uint32_t spi, if_id;
	uint8_t src[16], dst[16];
	bool inbound;
};

/** struct ike_life - one kind of limit; 0 = none */
struct ike_life {
	uint64_t soft, hard;
};

/** struct ike_sel - one pair of traffic selectors: ranges, both ends in */
struct ike_sel {
	uint8_t src[2][16], dst[2][16];
	uint16_t sport[2], dport[2];
	uint8_t proto;
};

/** struct ike_add - an SA; algorithms by their IKEv2 numbers (RFC 7296 3.3.2). Wipe with ike_wipe() */
struct ike_add {
	struct ike_id id;
	uint16_t sport, dport; /* of the outer UDP header */
	uint32_t reqid, window, mark, tfc;
	uint16_t enc_alg, int_alg;
	uint8_t enc_len, int_len;
	uint8_t enc_key[IKE_KEY_MAX], int_key[IKE_KEY_MAX];
	bool tunnel, esn, encap, initiator;
	struct ike_life time_s, bytes, packets;
	uint8_t n_sel;
	struct ike_sel sel[IKE_SEL_MAX];
};

/** struct ike_update - an SA's ends moved */
struct ike_update {
	struct ike_id id;
	uint8_t src[16], dst[16];
	uint16_t sport, dport;
	bool encap;
};

/** struct ike_reply - of every request; fields that a request does not ask for are 0 */
struct ike_reply {
	uint16_t status; /* enum ike_status */
	uint32_t spi;
	uint64_t bytes, packets, idle_ms; /* idle_ms: since it was used last; UINT64_MAX = never */
};

/** struct ike_expire - a limit is reached: hard = it is no longer used */
struct ike_expire {
	uint32_t spi;
	uint8_t dst[16];
	bool hard;
};

/** struct ike_mapping - the peer of this inbound SA is somewhere else now */
struct ike_mapping {
	uint32_t spi;
	uint8_t dst[16], to[16];
	uint16_t port;
};

/** struct ike_acquire - packets wait on a link without an SA */
struct ike_acquire {
	uint32_t if_id, reqid;
};

/** struct ike_msg - a record, taken apart */
struct ike_msg {
	struct ike_head head;
	union {
		struct ike_hello hello;
		struct ike_id id;
		struct ike_add add;
		struct ike_update update;
		struct ike_reply reply;
		struct ike_expire expire;
		struct ike_mapping mapping;
		struct ike_acquire acquire;
	};
};

/**
 * ike_encode() - head.type says which member; head.len is set
 * @buf: room of IKE_RECORD_MAX bytes. Return: length, or -EINVAL for what ike_decode() would refuse
 */
int ike_encode(struct ike_msg *m, uint8_t *buf);
/**
 * ike_decode() - what came is checked whole: magic, version, type, both lengths, every bool, count and range
 * Return: 0, or -EPROTONOSUPPORT for another version, -EBADMSG for anything else; then m is all zero.
 */
int ike_decode(const uint8_t *buf, size_t len, struct ike_msg *m);
/** ike_wipe() - overwrite, for sure; records and taken-apart ones alike */
void ike_wipe(void *p, size_t len);

#endif
