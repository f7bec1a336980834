/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * move - a link goes from one backend to the other while it carries traffic, and its SAs with it.
 *
 * Out: the new one begins MOVE_SKIP behind the last number used, and the old one is told to stop before that; so
 * whichever of them sends meanwhile, no number is used twice (I2). In: the old one takes in nothing more before the new
 * one begins, behind everything that was taken. What arrives between the two is lost. Control thread only.
 */
#ifndef MOVE_H
#define MOVE_H

#include "backend.h"

enum { MOVE_SKIP = 1 << 16 };

/** move_can() - do its SAs come from files, so that their keys can be had again? */
bool move_can(const struct link *l);
/**
 * move_begin() - the new backend of a link can send, though nobody hands it anything yet
 * Return: 0; or -errno with the sentence in errs: everything is as it was
 */
int move_begin(struct daemon *d, struct link *l, const struct backend *to, FILE *errs);
/** move_use() - packets leave on it now: whoever hands them over may be told */
int move_use(struct daemon *d, struct link *l, const struct backend *to);
/** move_end() - it receives, too, and the old one has nothing of the link any more */
void move_end(struct daemon *d, struct link *l, const struct backend *from, const struct backend *to, FILE *errs);

#endif
