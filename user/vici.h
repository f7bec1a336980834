/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vici - strongSwan's control protocol, the client's half: messages made, taken apart, and one call after
 * the other on a blocking socket. For ipsecctl, and for a thread of ipsecd that may wait.
 *
 * A packet is u32 length, u8 type, and by type u8 length and a name; then a message: sections, lists
 * and values, all as strings of bytes (strongSwan: src/libcharon/plugins/vici/README.md).
 */
#ifndef VICI_H
#define VICI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VICI_PACKET_MAX = 512 * 1024 /* strongSwan's own limit */, VICI_DEPTH_MAX = 16 };

/** struct vici - a message being made; all zero is empty. May hold secrets: vici_free() wipes */
struct vici {
	uint8_t *p;
	size_t len, cap;
	bool bad; /* out of memory, or a value that does not fit; said by vici_call() */
};

void vici_open_section(struct vici *m, const char *name);
void vici_close_section(struct vici *m);
void vici_put(struct vici *m, const char *key, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void vici_put_bytes(struct vici *m, const char *key, const void *p, size_t len);
/** vici_list() - a list of one or two strings; NULL or "" is left out */
void vici_list(struct vici *m, const char *key, const char *a, const char *b);
/** vici_list_bytes() - a list of one item */
void vici_list_bytes(struct vici *m, const char *key, const void *p, size_t len);
void vici_open_list(struct vici *m, const char *key);
void vici_item(struct vici *m, const void *p, size_t len);
void vici_close_list(struct vici *m);
void vici_free(struct vici *m);

/**
 * vici_parse() - a message to JSON: sections are objects, lists arrays; bytes that are no text become '?'
 * Return: 0, -EBADMSG, -ENOMEM
 */
int vici_parse(const uint8_t *p, size_t len, json_t **out);

/** vici_connect() - Return: a socket or -errno */
int vici_connect(const char *path);
/**
 * vici_call() - one command
 * @m: may be NULL. @event: NULL, or what is streamed while it runs, collected in *events (a new array)
 * @reply: what it answered, to be freed by the caller. Return: 0, -ETIMEDOUT, -EPROTO, -ENOSYS (no such
 * command), -errno
 */
int vici_call(int fd, const char *cmd, const struct vici *m, const char *event, json_t **events, json_t **reply,
	      int timeout_ms);

#endif
