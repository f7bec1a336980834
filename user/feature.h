/* SPDX-License-Identifier: GPL-2.0-or-later */
/* feature - features of network devices by name, as `ethtool -k` lists them. In the namespace of the calling thread. */
#ifndef FEATURE_H
#define FEATURE_H

#include <stdbool.h>

/**
 * feature_set() - turn some features of a device on, or off; one that this kernel does not know is none
 * @features: names; the last one NULL
 * Return: 0, -EOPNOTSUPP = the kernel knows none of them, or the device does otherwise, -errno
 */
int feature_set(const char *dev, const char *const *features, bool on);

#endif
