/* SPDX-License-Identifier: (GPL-2.0-or-later OR BSD-2-Clause) */
/*
 * Every way a packet can end other than "emitted" or "delivered".
 *
 * One list makes the enum, the counters, the printed names and the manual.
 * X(NAME, "name-as-shown", "one sentence: what happened and where to look")
 * Order is ABI for the pinned counter maps: append only.
 */
#ifndef IPSEC_DROPS_H
#define IPSEC_DROPS_H

#define IPSEC_DROPS(X)                                                                             \
	X(NO_SA, "no-sa", "no SA for this link or SPI")                                            \
	X(SA_EXPIRED, "sa-expired", "the SA's hard lifetime in time has passed")                   \
	X(SA_HARD_BYTES, "sa-hard-bytes", "the SA's hard lifetime in bytes or packets is used up") \
	X(SEQ_EXHAUSTED, "seq-exhausted", "sequence or IV space used up: RFC 4303 3.3.3")          \
	X(ICV_FAIL, "icv-fail", "integrity check failed: RFC 4303 3.4.4.1")                        \
	X(REPLAY_DUP, "replay-dup", "sequence number already seen: RFC 4303 3.4.3")                \
	X(REPLAY_OLD, "replay-old", "sequence number left of the window: RFC 4303 3.4.3")          \
	X(SHORT, "short", "shorter than its headers say")                                          \
	X(BAD_PAD, "bad-pad", "padding is not 1,2,3...: RFC 4303 2.4")                             \
	X(BAD_NEXT_HEADER, "bad-next-header", "inner next header is not one this SA carries")      \
	X(INNER_SRC, "inner-src", "inner source is not allowed on this link (inner = ...)")        \
	X(INNER_VERSION, "inner-version", "inner packet is not valid IPv4 or IPv6")                \
	X(TTL, "ttl", "raw packet whose TTL or hop limit is 0")                                    \
	X(DF_TOO_BIG, "df-too-big", "does not fit and may not be fragmented")                      \
	X(ECN_CE_NOT_ECT, "ecn-ce-not-ect", "outer CE on an inner not-ECT packet: RFC 6040")       \
	X(NO_ROUTE, "no-route", "no route to the path's remote address")                           \
	X(ROUTE_LOOP, "route-loop", "the envelope would be routed into a tunnel again")            \
	X(NO_NEIGH, "no-neigh", "next hop of the envelope does not answer")                        \
	X(LINK_DOWN, "link-down", "the link is administratively or actually down")                 \
	X(PLAIN_FOR_PROTECTED, "plain-for-protected",                                              \
	  "cleartext with a protected source came in from an underlay device")                     \
	X(GUARD_CLEARTEXT, "guard-cleartext",                                                      \
	  "cleartext to a protected prefix was about to leave an underlay device")                 \
	X(TX_REFUSED, "tx-refused", "a firewall rule or queue discipline refused the envelope")    \
	X(TX_ERROR, "tx-error", "sending the envelope failed for another reason")                  \
	X(QUEUE_FULL, "queue-full", "a funnel or socket queue overflowed")                         \
	X(UMEM_EMPTY, "umem-empty", "a funnel had no free frame: its worker fell behind")          \
	X(WORKER_GONE, "worker-gone", "handed to a worker that died")                              \
	X(FRAG_UNSUPPORTED, "frag-unsupported", "fragment where none can be handled")              \
	X(ENCAP_MISMATCH, "encap-mismatch", "came plain on a UDP path or the other way round")     \
	X(NO_LINK, "no-link", "device or stamp belongs to no link")                                \
	X(DUMMY, "dummy", "RFC 4303 2.6 dummy packet: counted, not a drop")                        \
	X(NOT_TRANSPORT, "not-transport",                                                          \
	  "transport mode: not to the peer itself, or with headers that cannot stay outside")         \
	X(NO_LISTENER, "no-listener",                                                              \
	  "nobody listens: IKE to UDP 4500, or what our stack said of an envelope to us")             \
	X(INNER_ICMP, "inner-icmp",                                                                \
	  "ICMP error about a packet that was not for this link's peer (inner = ...): RFC 4301 6.2")  \
	X(SELECTOR, "selector", "no SA of the link is for such packets, or not this one: RFC 4301 4.4.1.1")

enum drop {
	DROP_NONE = 0,
#define X(name, str, text) DROP_##name,
	IPSEC_DROPS(X)
#undef X
	DROP_MAX
};

#endif
