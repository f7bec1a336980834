/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * release - the one way out of fail-closed: removes links, guards, pins, backend namespace and
 * guardian of an instance. Works with the daemon dead; refuses while it runs (stop it first).
 */
#ifndef RELEASE_H
#define RELEASE_H

#include <stdio.h>

/**
 * release_instance() - in the underlay namespace of the instance
 * Return: 0; -EBUSY while the daemon runs; the first -errno otherwise, everything else still removed.
 * What could not be removed is printed to errs.
 */
int release_instance(const char *instance, FILE *errs);

#endif
