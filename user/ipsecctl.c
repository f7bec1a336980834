/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ipsecctl - look at and change the links of an ipsecd.
 *
 * Exit: 0 ok, 1 runtime error, 2 usage, 3 not found, 4 exists but down, 5 daemon unreachable,
 * 6 refused by policy.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "ctl.h"
#include "log.h"
#include "ns.h"

/* -i wins, then IPSEC_INSTANCE, then the namespace: the one named by -n, else ours. */
static int choose_instance(struct ctl *c)
{
	int fd;

	if (*c->netns) {
		fd = ns_open(c->netns);
		if (fd < 0)
			return ctl_fail(c, EXIT_NOT_FOUND, "no-such-netns", "ip netns list",
					"namespace %s: %s", c->netns, strerror(-fd));
		if (ns_enter(fd) < 0)
			return ctl_fail(c, EXIT_RUNTIME, "netns", "sudo ipsecctl ...",
					"entering namespace %s: %s", c->netns, strerror(errno));
		close(fd);
		if (!*c->instance && paths_instance_ok(c->netns))
			strcpy(c->instance, c->netns);
	}
	if (!*c->instance && paths_instance(c->instance, sizeof c->instance))
		return ctl_usage(c, "IPSEC_INSTANCE is no instance name");
	return 0;
}

/* A reader that goes away (head, a closed pager) is no error of ours; -EPIPE would be noise. */
static int flushed(int code)
{
	return fflush(stdout) || ferror(stdout) ? EXIT_RUNTIME : code;
}

int main(int argc, char **argv)
{
	struct ctl c = {.fd = -1};
	int err;

	log_init("ipsecctl");
	signal(SIGPIPE, SIG_DFL);
	log_max = LOGL_ERR; /* what the libraries remark belongs to the daemon's log */
	c.color = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
	argv++;
	err = ctl_parse(&c, &argc, &argv);
	if (err)
		return err < 0 ? flushed(EXIT_OK_) : err;
	err = choose_instance(&c);
	if (err)
		return err;
	if (!*c.sock)
		paths_sock(c.sock, c.instance);
	paths_state(c.state, c.instance);
	err = c.verb->fn(&c, argc, argv);
	if (c.fd >= 0)
		close(c.fd);
	free(c.in);
	return flushed(err);
}
