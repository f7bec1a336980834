/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/sockios.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "feature.h"

enum { FEATURES_MAX = 128 };

/* Those that every device of this kernel has; a feature's place is its number. */
struct names {
	struct ethtool_gstrings head;
	char name[FEATURES_MAX][ETH_GSTRING_LEN];
};

/* Return: 0, -errno; what ETHTOOL_SFEATURES says beside it: bits of ETHTOOL_F_*, not all was done */
static int ethtool(int s, const char *dev, void *cmd)
{
	struct ifreq ifr = {.ifr_data = cmd};
	int n;

	snprintf(ifr.ifr_name, sizeof ifr.ifr_name, "%s", dev);
	n = ioctl(s, SIOCETHTOOL, &ifr);
	return n < 0 ? -errno : n;
}

static int read_names(int s, const char *dev, struct names *all)
{
	struct {
		struct ethtool_sset_info head;
		uint32_t n;
	} count = {.head = {.cmd = ETHTOOL_GSSET_INFO, .sset_mask = 1ull << ETH_SS_FEATURES}};
	int err = ethtool(s, dev, &count);

	if (!err && (!count.head.sset_mask || count.n > FEATURES_MAX))
		err = -EOPNOTSUPP;
	all->head = (struct ethtool_gstrings){.cmd = ETHTOOL_GSTRINGS, .string_set = ETH_SS_FEATURES, .len = count.n};
	return err ? err : ethtool(s, dev, all);
}

static bool wanted(const char *const *features, const char *name)
{
	for (; *features; features++)
		if (!strncmp(*features, name, ETH_GSTRING_LEN))
			return true;
	return false;
}

int feature_set(const char *dev, const char *const *features, bool on)
{
	struct {
		struct ethtool_sfeatures head;
		struct ethtool_set_features_block of[FEATURES_MAX / 32];
	} set = {.head = {.cmd = ETHTOOL_SFEATURES}};
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), err;
	struct names all;
	bool any = false;

	if (s < 0)
		return -errno;
	err = read_names(s, dev, &all);
	for (unsigned int i = 0; !err && i < all.head.len; i++) {
		if (!wanted(features, all.name[i]))
			continue;
		set.of[i / 32].valid |= 1u << i % 32;
		set.of[i / 32].requested |= on ? 1u << i % 32 : 0;
		any = true;
	}
	if (!err && !any)
		err = -EOPNOTSUPP;
	set.head.size = (all.head.len + 31) / 32;
	if (!err)
		err = ethtool(s, dev, &set);
	close(s);
	return err > 0 ? -EOPNOTSUPP : err;
}
