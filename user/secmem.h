/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * secmem - memory for keys and expanded keys: no swap, no core dump, no forked copy, and, with
 * memfd_secret, out of reach of the kernel's own direct map (I3). Best first: memfd_secret,
 * mlock, plain with one warning. Slots are zeroed when freed and never given back to the system.
 * Thread-safe. A forked child has no access: fork helpers before keys exist, or let them exec.
 */
#ifndef SECMEM_H
#define SECMEM_H

#include <stdbool.h>
#include <stddef.h>

enum { SECMEM_SLOT_MAX = 4096 };

/**
 * secmem_alloc() - zeroed, 64-byte aligned
 * Return: NULL with errno: ENOMEM; EMSGSIZE for 0 and above SECMEM_SLOT_MAX
 */
void *secmem_alloc(size_t len);
/** secmem_free() - wipe and free; NULL is fine */
void secmem_free(void *p);
/** secmem_len() - bytes usable at p, which secmem_alloc() returned */
size_t secmem_len(const void *p);
/** secmem_owns() - did p come from secmem_alloc()? */
bool secmem_owns(const void *p);
/** secmem_kind() - weakest memory in use so far: "memfd_secret", "mlock" or "plain" */
const char *secmem_kind(void);

#endif
