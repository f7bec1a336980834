/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * answer_fuzz - what ipsecctl makes of any answer of the daemon, or of something else at its socket.
 *
 * Input: a verb, --json or not, and the bytes that come back. Held up: it ends with an exit code of the manual;
 * no control byte reaches the terminal; with --json every line is JSON; what is no JSON is exit code 5.
 * wraps: recv send isatty sleep
 */
#include <setjmp.h>
#include "fuzz_main.h"
#define main ctl_main
#include "../../user/ipsecctl.c"
#undef main
#include "../../user/ctl_verbs.c"
#include "../../user/ctl_lib.c"
#include "../../user/ctl_fmt.c"
#include "../../user/ctl_gen.c"
#include "../../user/cmd_show.c"
#include "../../user/cmd_link.c"
#include "../../user/cmd_static.c"
#include "../../user/cmd_ike.c"
#include "../../user/cmd_metrics.c"
#include "../../user/cmd_doctor.c"

enum { SOCK = 1000, C_JSON = 32, C_VERBOSE = 64, C_DETAIL = 128 };

static struct fuzz_in in;

ssize_t __wrap_recv(int fd, void *buf, size_t len, int flags);
ssize_t __wrap_recv(int fd, void *buf, size_t len, int flags)
{
	HOLD(fd == SOCK);
	return (ssize_t)fuzz_take(&in, buf, len);
}

ssize_t __wrap_send(int fd, const void *buf, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *buf, size_t len, int flags)
{
	HOLD(fd == SOCK);
	return (ssize_t)len;
}

int __wrap_isatty(int fd);
int __wrap_isatty(int fd)
{
	return 0;
}

unsigned int __wrap_sleep(unsigned int s);
unsigned int __wrap_sleep(unsigned int s)
{
	return 0;
}

/* Verbs that ask, with words enough. Twice: the answer before is looked at as well. */
static const char *const verbs[][8] = {
	{"show"}, {"show", "ipsec1"}, {"show", "--count", "2"}, {"show", "config"}, {"link", "list"}, {"sa", "list"},
	{"path", "list"}, {"drops"}, {"drops", "--count", "2"}, {"perf"}, {"mtu", "ipsec1"}, {"monitor"}, {"metrics"},
	{"why", "10.1.0.1", "10.2.0.1", "udp", "1", "2"}, {"link", "up", "ipsec1"}, {"link", "set", "ipsec1", "mtu", "1400"},
	{"link", "add", "ipsec9", "peer", "x"}, {"link", "del", "ipsec1"}, {"confirm"}, {"rollback"}, {"apply"},
	{"drops", "ipsec1"}, {"path", "list", "ipsec1"}, {"sa", "list", "ipsec1"},
};

static bool no_control_bytes(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (s[i] != '\n' && s[i] != '\t' && (unsigned char)s[i] < 0x20)
			return false;
	return true;
}

static void all_json(const char *s, size_t len)
{
	while (len) {
		const char *end = memchr(s, '\n', len);
		json_t *j;

		HOLD(end);
		j = json_loadb(s, (size_t)(end - s), 0, NULL);
		HOLD(j);
		json_decref(j);
		len -= (size_t)(end + 1 - s);
		s = end + 1;
	}
}

static int run(struct ctl *c, uint8_t choice)
{
	char words[8][32], *argv[10] = {"ipsecctl"}, **at = argv + 1;
	const char *const *v = verbs[choice % 32 % ARRAY_SIZE(verbs)];
	int argc = 1;

	for (int i = 0; i < 8 && v[i]; i++)
		argv[argc++] = strcpy(words[i], v[i]);
	c->json = choice & C_JSON;
	c->verbose = choice & C_VERBOSE;
	HOLD(!ctl_parse(c, &argc, &at));
	strcpy(c->instance, "fuzz");
	return c->verb->fn(c, argc, at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *out = NULL, *errs = NULL;
	FILE *real_out = stdout, *real_err = stderr;
	struct ctl c = {.fd = SOCK};
	size_t out_len, errs_len;
	uint8_t choice;
	int code;

	in = (struct fuzz_in){data, size};
	choice = fuzz_u8(&in);
	log_max = LOGL_ERR;
	stdout = open_memstream(&out, &out_len);
	stderr = open_memstream(&errs, &errs_len);
	code = run(&c, choice);
	fclose(stdout);
	fclose(stderr);
	stdout = real_out;
	stderr = real_err;
	HOLD(code >= 0 && code <= 255);
	HOLD(no_control_bytes(errs, errs_len));
	if (!(choice & C_JSON))
		HOLD(no_control_bytes(out, out_len));
	else if (!c.relay) /* relayed lines are the daemon's own */
		all_json(out, out_len);
	free(out);
	free(errs);
	free(c.in);
	return 0;
}

#ifndef FUZZ_LIBFUZZER
static size_t make_input(uint64_t *s, uint8_t *buf, size_t room)
{
	static const char *const answers[] = {
		"{\"schema\":1,\"ok\":true,\"links\":[]}",
		"{\"schema\":1,\"ok\":true,\"instance\":\"x\",\"daemon\":{\"uptime_s\":5.1,\"guardian\":{\"alive\":true},"
		"\"guard_layers\":{\"missing\":1}},\"links\":[{\"name\":\"ipsec1\",\"altname\":\"ipsec:1\",\"peer\":\"east\","
		"\"state\":\"up\",\"reason\":null,\"admin\":\"up\",\"mtu\":1438,\"lost\":3,\"path\":{\"remote\":\"192.0.2.1\","
		"\"dev\":\"eth1\"},\"rx\":{\"packets\":5,\"bytes\":700},\"tx\":{\"packets\":5,\"bytes\":700},\"liveness\":"
		"{\"last_heard_age_s\":0.2},\"sas\":[{\"dir\":\"in\",\"spi\":\"0x1\",\"alg\":\"aes-gcm-256\",\"seq\":4}],"
		"\"paths\":[{\"remote\":\"192.0.2.1\",\"inner_max\":1438}],\"drops\":[{\"reason\":\"icv-fail\",\"count\":4}]}]}",
		"{\"schema\":1,\"ok\":false,\"exit\":3,\"code\":\"no-such-link\",\"error\":\"no link\",\"hint\":null}",
		"{\"schema\":1,\"ok\":true,\"event\":\"link\",\"name\":\"ipsec1\",\"state\":\"down\\u001b\"}",
		"{\"schema\":1,\"ok\":true,\"steps\":[{\"stage\":\"route\",\"verdict\":\"ok\",\"text\":\"to ipsec1\"}]}",
		"nonsense",
	};
	size_t n = 1;

	buf[0] = (uint8_t)fuzz_random(s);
	for (uint64_t k = 1 + fuzz_random(s) % 2; k; k--)
		n += (size_t)snprintf((char *)buf + n, room - n, "%s\n", answers[fuzz_random(s) % ARRAY_SIZE(answers)]);
	if (!(fuzz_random(s) & 3))
		buf[1 + fuzz_random(s) % (n - 1)] = (uint8_t)fuzz_random(s);
	return n;
}
#endif
