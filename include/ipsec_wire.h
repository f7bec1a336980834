/* SPDX-License-Identifier: (GPL-2.0-or-later OR BSD-2-Clause) */
/* Bytes on the wire: ESP (RFC 4303), UDP encapsulation (RFC 3948), our probe; overhead arithmetic. */
#ifndef IPSEC_WIRE_H
#define IPSEC_WIRE_H

#ifndef __bpf__
#include <linux/types.h>
#endif

struct esp_hdr { /* RFC 4303 2 */
	__be32 spi_be;
	__be32 seq_be; /* low 32 bits when ESN */
};

enum {
	ESP_HDR_LEN = 8,
	ESP_TRAILER_LEN = 2,  /* pad length, next header */
	ESP_IV_MAX = 16,      /* AES-CBC: RFC 3602 3 */
	ESP_ICV_MIN = 12,     /* HMAC-SHA-1: RFC 2404 3 */
	ESP_ICV_MAX = 32,     /* HMAC-SHA2-512: RFC 4868 2.6 */
	ESP_ALIGN_MAX = 16,   /* AES-CBC */
	UDP_HDR_LEN = 8,
	IP4_HDR_LEN = 20,
	IP6_HDR_LEN = 40,
	SPI_MIN = 256, /* RFC 4303 2.1: 0..255 reserved */
	NEXT_HOPOPTS = 0,
	NEXT_IP4 = 4,
	NEXT_IP6 = 41,
	NEXT_ROUTING = 43,
	NEXT_FRAGMENT = 44,
	NEXT_NONE = 59, /* RFC 4303 2.6: dummy packet */
};

/* struct esp_layout - what a suite adds to every packet. Fixed for the life of an SA. */
struct esp_layout {
	__u8 iv_len;  /* explicit IV behind the ESP header; 0: none, nothing is encrypted (RFC 2410) */
	__u8 icv_len;
	__u8 align;   /* payload, padding and trailer fill a multiple of this: RFC 4303 2.4; a power of two */
	__u8 pad;
};

/* Most of the suites: AES-GCM (RFC 4106 3), ChaCha20-Poly1305 (RFC 7634 2), AES-GMAC (RFC 4543 3). */
#define ESP_LAYOUT_AEAD ((struct esp_layout){.iv_len = 8, .icv_len = 16, .align = 4})

/* Longest inner packet whose envelope payload (after the outer IP header, and
 * the UDP header if any) fits room bytes. */
static inline __u32 esp_inner_max(struct esp_layout l, __u32 room)
{
	__u32 fixed = ESP_HDR_LEN + (__u32)l.iv_len + l.icv_len;

	if (room < fixed + l.align)
		return 0;
	return ((room - fixed) & ~((__u32)l.align - 1)) - ESP_TRAILER_LEN;
}

/*
 * Longest raw packet whose envelope fits mtu bytes. In transport mode the IP header, ip_len bytes of
 * it, counts as part of the raw packet and not twice.
 */
static inline __u32 esp_raw_max(struct esp_layout l, int transport, __u32 mtu, __u32 ip_len,
				__u32 udp_len)
{
	__u32 head = ip_len + udp_len, fits = mtu > head ? esp_inner_max(l, mtu - head) : 0;

	return fits && transport ? fits + ip_len : fits;
}

/*
 * May this stand behind ESP in transport mode? Headers that belong in front of it may not (RFC 4303
 * 3.1.1), and only whole datagrams are sent (3.3.4).
 */
static inline int esp_carries(__u8 next)
{
	return next != NEXT_HOPOPTS && next != NEXT_ROUTING && next != NEXT_FRAGMENT;
}

/* Length from ESP header to ICV of an envelope that carries inner_len bytes. */
static inline __u32 esp_envelope_len(struct esp_layout l, __u32 inner_len)
{
	__u32 body = (inner_len + ESP_TRAILER_LEN + l.align - 1) & ~((__u32)l.align - 1);

	return ESP_HDR_LEN + l.iv_len + body + l.icv_len;
}

/*
 * struct probe - payload of a dummy packet (next header 59) between two ipsecd.
 * Foreign peers discard it as RFC 4303 2.6 demands. A request is answered once;
 * a reply is never answered. Inside the ciphertext, so authenticated.
 */
struct probe {
	__u8 magic[4]; /* PROBE_MAGIC */
	__u8 type;     /* enum probe_type */
	__u8 flags;    /* enum probe_flags */
	__be16 interval_ms_be;
	__u64 nonce;      /* request: random; reply: copied. Opaque, in no byte order */
	__be64 stamp_be;  /* request: sender's clock; reply: copied */
	__be64 floor_be;  /* lowest sequence number the sender's receiver will still take:
			   * the peer's sender jumps above it (RFC 4303 allows gaps) */
};
enum probe_type { PROBE_REQUEST = 1, PROBE_REPLY = 2 };
enum probe_flags {
	PROBE_F_HEARD = 1 << 0,  /* the sender has heard us within its liveness window */
	PROBE_F_SHARES = 1 << 1, /* the sender's traffic comes over several paths: its address is no sign of a move */
	PROBE_F_ASIDE = 1 << 2,  /* came by a path that is not the sender's first choice: do not send there for it */
	PROBE_PATH_SHIFT = 4,    /* bits 4-6: which of the sender's paths this came by, 0..7 */
	PROBE_PATH_MASK = 7,
};
#define PROBE_MAGIC "\x65\x73\x70\x77"
#ifndef __cplusplus
_Static_assert(sizeof(struct probe) == 32, "wire format");
#endif

#endif
