/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "conf.h"
#include "ns.h"
#include "paths.h"

int paths_instance_ok(const char *instance)
{
	size_t n = strlen(instance);

	if (!n || n >= INSTANCE_MAX || instance[0] == '-')
		return 0;
	for (const char *p = instance; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("-_", *p))
			return 0;
	return 1;
}

int paths_instance(char *buf, size_t len)
{
	const char *env = getenv("IPSEC_INSTANCE");
	char name[INSTANCE_MAX];

	if (env && *env) {
		if (!paths_instance_ok(env) || strlen(env) >= len)
			return -EINVAL;
		strcpy(buf, env);
		return 0;
	}
	if (ns_name(name, sizeof name) || !paths_instance_ok(name))
		strcpy(name, "default");
	snprintf(buf, len, "%s", name);
	return 0;
}

const char *paths_conf(char *buf, const char *instance)
{
	snprintf(buf, PATHS_LEN, "/etc/ipsec/%s.conf", instance);
	if (access(buf, F_OK))
		strcpy(buf, "/etc/ipsec/ipsecd.conf");
	return buf;
}

const char *paths_state(char *buf, const char *instance)
{
	snprintf(buf, PATHS_LEN, "/var/lib/ipsec/%s", instance);
	return buf;
}

const char *paths_run(char *buf, const char *instance)
{
	snprintf(buf, PATHS_LEN, "/run/ipsec/%s", instance);
	return buf;
}

const char *paths_sock(char *buf, const char *instance)
{
	snprintf(buf, PATHS_LEN, "/run/ipsec/%s/ctl.sock", instance);
	return buf;
}

const char *paths_pin(char *buf, const char *instance)
{
	snprintf(buf, PATHS_LEN, "/sys/fs/bpf/ipsec/%s", instance);
	return buf;
}
