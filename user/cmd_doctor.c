/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * doctor, version, maps, report: what can be seen from outside the daemon.
 *
 * Every check says what it saw. Statuses: ok, info, warn, fail, skip; only fail makes the exit
 * code 1.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <sys/ioctl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/netlink.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "ctl.h"
#include "sock.h"
#include "verbs.h"

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef BPF_FS_MAGIC
#define BPF_FS_MAGIC 0xcafe4a11
#endif

enum { ENTRIES_COUNTED_MAX = 100000 };

/* ---- the list of findings ---- */

__attribute__((format(printf, 5, 6))) static void
find(json_t *list, const char *check, const char *status, const char *advice, const char *fmt, ...)
{
	json_t *o = json_object(), *s;
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	s = json_string(text);
	json_object_set_new(o, "check", json_string(check));
	json_object_set_new(o, "status", json_string(status));
	json_object_set_new(o, "evidence", s ? s : json_string("(not UTF-8)"));
	json_object_set_new(o, "advice", advice ? json_string(advice) : json_null());
	json_array_append_new(list, o);
}

static long read_long(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static long read_long(const char *fmt, ...)
{
	char path[PATHS_LEN], buf[32];
	va_list ap;
	ssize_t n;
	int fd;

	va_start(ap, fmt);
	vsnprintf(path, sizeof path, fmt, ap);
	va_end(ap);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, buf, sizeof buf - 1);
	close(fd);
	buf[n > 0 ? n : 0] = 0;
	return atol(buf);
}

/* ---- checks that need nobody ---- */

static void check_bpffs(struct ctl *c, json_t *list)
{
	char pin[PATHS_LEN];
	struct statfs fs;

	paths_pin(pin, c->instance);
	if (statfs("/sys/fs/bpf", &fs) || (unsigned long)fs.f_type != BPF_FS_MAGIC)
		find(list, "bpffs", "warn", "ipsecd mounts it: mount -t bpf bpf /sys/fs/bpf",
		     "/sys/fs/bpf is no BPF file system here (ip netns exec hides it)");
	else if (access(pin, F_OK))
		find(list, "bpffs", "info", NULL, "mounted; nothing pinned under %s", pin);
	else
		find(list, "bpffs", "ok", NULL, "mounted; %s is there", pin);
}

static void check_xdp(json_t *list)
{
	int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (geteuid()) {
		find(list, "xdp", "skip", "sudo ipsecctl doctor", "only root can try");
	} else if (fd < 0) {
		find(list, "xdp", "warn",
		     "CONFIG_XDP_SOCKETS; without it everything goes through sockets and TAPs",
		     "AF_XDP socket: %s", strerror(errno));
	} else if (libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_XDP, NULL) != 1) {
		find(list, "xdp", "fail", "CONFIG_BPF_SYSCALL", "XDP programs cannot be loaded");
	} else {
		find(list, "xdp", "ok", NULL, "XDP programs load, AF_XDP sockets open");
	}
	if (fd >= 0)
		close(fd);
}

static void check_forwarding(json_t *list)
{
	long v4 = read_long("/proc/sys/net/ipv4/ip_forward"),
	     v6 = read_long("/proc/sys/net/ipv6/conf/all/forwarding");

	find(list, "forwarding", "info",
	     v4 > 0 || v6 > 0 ? NULL : "a gateway for other hosts needs net.ipv4.ip_forward = 1",
	     "ipv4 %s, ipv6 %s", v4 > 0 ? "on" : "off",
	     v6 > 0   ? "on"
	     : v6 < 0 ? "not there"
		      : "off");
}

/* ManageForeignRoutes of systemd-networkd deletes floor routes when it restarts. */
static bool networkd_spares_routes(void)
{
	static const char *const dirs[] = {
		"/etc/systemd/networkd.conf.d", "/run/systemd/networkd.conf.d",
		"/usr/lib/systemd/networkd.conf.d", "/usr/local/lib/systemd/networkd.conf.d"};
	char cmd[PATHS_LEN], line[512];
	bool found = false;

	for (unsigned int i = 0; i < ARRAY_SIZE(dirs) && !found; i++) {
		DIR *dir = opendir(dirs[i]);
		struct dirent *e;

		while (dir && !found && (e = readdir(dir))) {
			FILE *f;

			snprintf(cmd, sizeof cmd, "%s/%s", dirs[i], e->d_name);
			f = *e->d_name == '.' ? NULL : fopen(cmd, "re");
			while (f && !found && fgets(line, sizeof line, f))
				found = !strncmp(line, "ManageForeignRoutes=no", 22);
			if (f)
				fclose(f);
		}
		if (dir)
			closedir(dir);
	}
	return found;
}

static void check_networkd(json_t *list)
{
	if (access("/run/systemd/netif/state", F_OK))
		find(list, "networkd", "ok", NULL, "systemd-networkd does not run");
	else if (networkd_spares_routes())
		find(list, "networkd", "ok", NULL, "runs, with ManageForeignRoutes=no");
	else
		find(list, "networkd", "warn", "a drop-in with [Network] ManageForeignRoutes=no",
		     "systemd-networkd runs and deletes other people's routes, also floor routes");
}

/* ---- who holds UDP 4500 ---- */

static bool has_socket(const char *pid, const char *want)
{
	char path[64], target[64];
	bool found = false;
	struct dirent *e;
	DIR *dir;

	snprintf(path, sizeof path, "/proc/%.16s/fd", pid);
	dir = opendir(path);
	while (dir && !found && (e = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), e->d_name, target, sizeof target - 1);

		target[n > 0 ? n : 0] = 0;
		found = !strcmp(target, want);
	}
	if (dir)
		closedir(dir);
	return found;
}

/* "ipsecd (1234)". Several hold one socket when it was handed on; the first is enough. */
static bool holder_of(unsigned long inode, char *buf, size_t len)
{
	char want[48], comm[32] = "?", path[64];
	DIR *proc = opendir("/proc");
	struct dirent *e;
	bool found = false;
	FILE *f;

	snprintf(want, sizeof want, "socket:[%lu]", inode);
	while (proc && !found && (e = readdir(proc))) {
		if (*e->d_name < '0' || *e->d_name > '9' || !has_socket(e->d_name, want))
			continue;
		snprintf(path, sizeof path, "/proc/%.16s/comm", e->d_name);
		f = fopen(path, "re");
		if (f && fgets(comm, sizeof comm, f))
			comm[strcspn(comm, "\n")] = 0;
		if (f)
			fclose(f);
		snprintf(buf, len, "%s (%.16s)", comm, e->d_name);
		found = true;
	}
	if (proc)
		closedir(proc);
	return found;
}

/* Nobody is fine: ipsecd sends from 4500 and takes envelopes to it without being bound to it. */
static void check_4500(json_t *list)
{
	unsigned long inode = sock_udp_inode(ESP_PORT);
	char who[64];

	if (!inode)
		find(list, "port-4500", "ok", NULL, "free for an IKE daemon");
	else if (!holder_of(inode, who, sizeof who))
		find(list, "port-4500", "info", NULL,
		     "bound by a process that cannot be seen from here");
	else
		find(list, "port-4500", "ok", NULL, "bound by %s, which gets the IKE packets", who);
}

/* ---- checks on what the daemon says ---- */

static void check_ike(json_t *list, json_t *show)
{
	unsigned int n = 0;
	json_t *l;
	size_t i;

	json_array_foreach (jat(show, "links"), i, l)
		n += !jnull(l, "ike");
	if (!n)
		return;
	if (jtrue(show, "daemon.ike.connected"))
		find(list, "ike", "ok", NULL, "an IKE daemon is connected, %u link%s of its", n, n > 1 ? "s" : "");
	else
		find(list, "ike", "fail", "systemctl status strongswan; is its plugin there? make install-ike",
		     "no IKE daemon is connected, and %u link%s need one", n, n > 1 ? "s" : "");
}

static void check_daemon(json_t *list, json_t *show)
{
	if (!jtrue(show, "ok")) {
		find(list, "daemon", "fail", jnull(show, "hint") ? NULL : jstr(show, "hint"), "%s",
		     jstr(show, "error"));
		return;
	}
	find(list, "daemon", "ok", NULL, "ipsecd %s pid %lld, up %lld s, %lld workers, %s",
	     jstr(show, "daemon.version"), (long long)jint(show, "daemon.pid"),
	     (long long)jint(show, "daemon.uptime_s"), (long long)jint(show, "daemon.workers"),
	     jstr(show, "daemon.crypto"));
}

static void check_guardian(json_t *list, json_t *show)
{
	long pid = (long)jint(show, "daemon.guardian.pid");

	if (!jtrue(show, "ok"))
		find(list, "guardian", "skip", NULL, "the daemon is not there to ask");
	else if (jtrue(show, "daemon.guardian.alive"))
		find(list, "guardian", "ok", NULL, "pid %ld", pid);
	else
		find(list, "guardian", "fail", "restart ipsecd",
		     "no guardian: carriers will not fall when ipsecd dies");
}

static void check_guard(struct ctl *c, json_t *list, json_t *show)
{
	long missing = (long)jint(show, "daemon.guard_layers.missing");
	char pin[PATHS_LEN];

	if (!jtrue(show, "ok")) {
		paths_pin(pin, c->instance);
		find(list, "guard", "skip", NULL, "the daemon is not there to ask; pins %s",
		     access(pin, F_OK) ? "are gone" : "still stand");
	} else if (missing) {
		find(list, "guard", "fail", "the daemon's log names them",
		     "%ld layers of fail-closed are not in place", missing);
	} else if (!jtrue(show, "daemon.guard_layers.tcx")) {
		find(list, "guard", "ok", "from Linux 6.6 on also that is no danger",
		     "all layers in place; the egress guard is a clsact filter, which `tc qdisc "
		     "del` removes");
	} else {
		find(list, "guard", "ok", NULL, "all layers in place, egress guard by tcx link");
	}
}

static void check_link(json_t *list, json_t *l)
{
	char name[48];

	snprintf(name, sizeof name, "link %.32s", jstr(l, "name"));
	if (!strcmp(jstr(l, "state"), "up"))
		find(list, name, "ok", NULL, "up, peer %s", jstr(l, "peer"));
	else if (!strcmp(jstr(l, "state"), "dormant"))
		find(list, name, "ok", NULL, "waits for a packet, peer %s", jstr(l, "peer"));
	else if (!strcmp(jstr(l, "admin"), "down"))
		find(list, name, "info", NULL, "taken down by an operator");
	else
		find(list, name, "fail", jstr(l, "reason_text"), "down: %s", jstr(l, "reason"));
}

/* A link that is heard while the wire drops what it sends looks up from one side only. */
static void check_link_signs(json_t *list, json_t *l)
{
	char name[48];

	snprintf(name, sizeof name, "link %.32s", jstr(l, "name"));
	if (jint(l, "tx.packets") > 100 && !jint(l, "rx.packets"))
		find(list, name, "warn",
		     "look at the peer: SPI known there, firewall, ESP blocked on the way (try "
		     "encap udp)",
		     "%lld packets sent, none received", (long long)jint(l, "tx.packets"));
	if (jint(l, "path.mtu") > jint(l, "wire_mtu"))
		find(list, name, "info", "nothing is lost by that, it costs speed",
		     "envelopes over %lld bytes come in by sockets, the path carries %lld",
		     (long long)jint(l, "wire_mtu"), (long long)jint(l, "path.mtu"));
	if (jint(l, "lost") * 100 > jint(l, "rx.packets") && jint(l, "lost") > 100)
		find(list, name, "warn", "ipsecctl path list: another path, or less load",
		     "%lld lost on the wire of %lld", (long long)jint(l, "lost"),
		     (long long)(jint(l, "lost") + jint(l, "rx.packets")));
}

/* Strict reverse-path filtering drops what comes in by a link when the way back differs. */
static void check_rp_filter(json_t *list, json_t *show)
{
	long all = read_long("/proc/sys/net/ipv4/conf/all/rp_filter"), one;
	unsigned int strict = 0;
	json_t *l;
	size_t i;

	json_array_foreach (jat(show, "links"), i, l) {
		if (!jnull(l, "netns"))
			continue; /* another namespace's setting */
		one = read_long("/proc/sys/net/ipv4/conf/%s/rp_filter", jstr(l, "name"));
		strict += MAX(all, one) == 1;
	}
	if (strict)
		find(list, "rp-filter", "warn", "sysctl net.ipv4.conf.ipsecN.rp_filter=2",
		     "strict on %u links (all = %ld): asymmetric traffic between links is dropped",
		     strict, all);
	else
		find(list, "rp-filter", "ok", NULL, "not strict on any link (all = %ld)", all);
}

static void check_refused(json_t *list, json_t *show)
{
	json_t *l, *s;
	size_t i, k;

	json_array_foreach (jat(show, "links"), i, l) {
		json_array_foreach (jat(l, "sas"), k, s)
			if (!jnull(s, "refused"))
				find(list, "sa", "fail",
				     "ipsecctl static init, once per key file and machine",
				     "%s %s: %s", jstr(l, "name"), jstr(s, "dir"),
				     jstr(s, "refused"));
	}
}

static void check_books(json_t *list, json_t *drops)
{
	unsigned int bad = 0;
	json_t *k;
	size_t i;

	json_array_foreach (jat(drops, "conservation"), i, k)
		bad += jint(k, "out.balance") || jint(k, "in.balance");
	if (!jtrue(drops, "ok"))
		find(list, "books", "skip", NULL, "the daemon is not there to ask");
	else if (bad)
		find(list, "books", "info", "ipsecctl drops, once nothing moves",
		     "%u links have packets under way or unexplained", bad);
	else
		find(list, "books", "ok", NULL, "every packet is accounted for");
}

json_t *doctor_json(struct ctl *c)
{
	json_t *list = json_array(), *r = ctl_ok(c), *show = ctl_request(c, "show", NULL), *drops,
	       *l;
	size_t i;

	drops = jtrue(show, "ok") ? ctl_request(c, "drops", NULL) : json_object();
	check_daemon(list, show);
	check_guardian(list, show);
	check_guard(c, list, show);
	check_bpffs(c, list);
	check_xdp(list);
	check_4500(list);
	check_rp_filter(list, show);
	check_forwarding(list);
	check_networkd(list);
	check_refused(list, show);
	check_ike(list, show);
	json_array_foreach (jat(show, "links"), i, l) {
		check_link(list, l);
		check_link_signs(list, l);
	}
	check_books(list, drops);
	json_object_set_new(r, "checks", list);
	json_decref(show);
	json_decref(drops);
	return r;
}

static const char *status_color(const struct ctl *c, const char *status)
{
	if (!c->color)
		return "";
	return !strcmp(status, "ok")     ? "\033[32m"
	       : !strcmp(status, "fail") ? "\033[31m"
	       : !strcmp(status, "warn") ? "\033[33m"
					 : "";
}

int cmd_doctor(struct ctl *c, int argc, char **argv)
{
	json_t *r = doctor_json(c), *f;
	unsigned int fails = 0;
	size_t i;

	json_array_foreach (jat(r, "checks"), i, f)
		fails += !strcmp(jstr(f, "status"), "fail");
	if (c->json)
		ctl_print_json(r);
	json_array_foreach (jat(r, "checks"), i, f) {
		const char *status = jstr(f, "status");

		if (c->json)
			break;
		printf("%s%-4s%s  %-12s %s\n", status_color(c, status), status,
		       c->color ? "\033[0m" : "", jstr(f, "check"), jstr(f, "evidence"));
		if (!jnull(f, "advice"))
			printf("                    -> %s\n", jstr(f, "advice"));
	}
	json_decref(r);
	return fails ? EXIT_RUNTIME : EXIT_OK_;
}

/* ---- version ---- */

static bool sockopt_works(int opt)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), one = opt == UDP_GRO ? 1 : 1000,
	    err;

	if (fd < 0)
		return false;
	err = setsockopt(fd, IPPROTO_UDP, opt, &one, sizeof one);
	close(fd);
	return !err;
}

static bool socket_works(int family, int type, int proto)
{
	int fd = socket(family, type | SOCK_CLOEXEC, proto);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static bool memfd_secret_works(void)
{
#ifdef SYS_memfd_secret
	int fd = (int)syscall(SYS_memfd_secret, 0);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
#else
	return false;
#endif
}

/* The TAP of a worker takes and gives UDP super-packets from 6.2 on. */
static bool tun_uso_works(void)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	const unsigned int uso = TUN_F_CSUM | 0x20 | 0x40; /* TUN_F_USO4, TUN_F_USO6: newer than our headers */
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	bool works;

	if (fd < 0)
		return false;
	works = !ioctl(fd, TUNSETIFF, &ifr) && !ioctl(fd, TUNSETOFFLOAD, uso);
	close(fd);
	return works;
}

static void feature(json_t *list, const char *name, bool have, const char *without)
{
	json_array_append_new(list, json_pack("{s:s, s:b, s:s}", "feature", name, "have", have,
					      "without", without));
}

static bool kernel_at_least(const struct utsname *u, int major, int minor)
{
	int a = 0, b = 0;

	sscanf(u->release, "%d.%d", &a, &b);
	return a > major || (a == major && b >= minor);
}

static json_t *probe(const struct utsname *u)
{
	json_t *l = json_array();

	feature(l, "xdp", libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_XDP, NULL) == 1,
		"envelopes come in by sockets");
	feature(l, "tc-bpf", libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_SCHED_CLS, NULL) == 1,
		"ipsecd cannot work");
	feature(l, "af-xdp", socket_works(AF_XDP, SOCK_RAW, 0),
		"small packets take the TAP as well");
	feature(l, "xskmap", libbpf_probe_bpf_map_type(BPF_MAP_TYPE_XSKMAP, NULL) == 1,
		"small packets take the TAP as well");
	feature(l, "af-xdp-sg", kernel_at_least(u, 6, 6),
		"envelopes over 3498 bytes, of jumbo wires, come in by sockets");
	feature(l, "devmap", libbpf_probe_bpf_map_type(BPF_MAP_TYPE_DEVMAP, NULL) == 1,
		"envelopes come in by sockets");
	feature(l, "lpm-trie", libbpf_probe_bpf_map_type(BPF_MAP_TYPE_LPM_TRIE, NULL) == 1,
		"no cleartext guard on devices");
	feature(l, "tcx", kernel_at_least(u, 6, 6),
		"`tc qdisc del` can remove the guard on a device");
	feature(l, "udp-segment", sockopt_works(UDP_SEGMENT), "bulk envelopes are sent one by one");
	feature(l, "udp-gro", sockopt_works(UDP_GRO), "bulk envelopes are received one by one");
	feature(l, "tun-uso", tun_uso_works(), "UDP super-packets are cut by the kernel, and delivered as its GRO gathers them");
	feature(l, "raw-esp", socket_works(AF_INET, SOCK_RAW, IPPROTO_ESP),
		"no paths with encap esp");
	feature(l, "xfrm-policies", socket_works(AF_NETLINK, SOCK_RAW, NETLINK_XFRM),
		"one layer of fail-closed less");
	feature(l, "memfd-secret", memfd_secret_works(),
		"keys live in locked memory that root can read");
	return l;
}

static json_t *suites(void)
{
	json_t *l = json_array();
	const struct aead_desc *d;

	for (enum aead_alg a = AEAD_NONE + 1; a < AEAD_MAX; a++) {
		d = aead_by_alg(a);
		json_array_append_new(l, json_pack("{s:s, s:s, s:s, s:i, s:i, s:i}", "suite",
						   d->name, "rfc8221", d->level, "spec", d->spec,
						   "iv", d->iv_len, "icv", d->icv_len, "align",
						   d->align));
	}
	return l;
}

json_t *version_json(struct ctl *c, bool with_probe)
{
	json_t *r = ctl_ok(c);
	struct utsname u;

	uname(&u);
	json_object_set_new(r, "version", json_string(ESPWIRE_VERSION));
	json_object_set_new(r, "kernel", json_string(u.release));
	json_object_set_new(r, "machine", json_string(u.machine));
	json_object_set_new(r, "libbpf", json_string(libbpf_version_string()));
	json_object_set_new(r, "crypto",
			    aead_backend_select("auto") ? json_null()
							: json_string(aead_backend_name()));
	json_object_set_new(r, "features", with_probe ? probe(&u) : json_null());
	json_object_set_new(r, "suites", with_probe ? suites() : json_null());
	return r;
}

int cmd_version(struct ctl *c, int argc, char **argv)
{
	json_t *r, *f;
	size_t i;

	libbpf_set_print(NULL);
	r = version_json(c, ctl_opt(c, "--probe") != NULL);
	if (c->json) {
		ctl_print_json(r);
	} else {
		printf("espwire %s, libbpf %s, crypto %s, Linux %s %s\n", jstr(r, "version"),
		       jstr(r, "libbpf"), jstr(r, "crypto"), jstr(r, "kernel"), jstr(r, "machine"));
		json_array_foreach (jat(r, "features"), i, f)
			printf("  %-14s %s%s%s\n", jstr(f, "feature"),
			       jtrue(f, "have") ? "yes" : "no", jtrue(f, "have") ? "" : ": ",
			       jtrue(f, "have") ? "" : jstr(f, "without"));
		json_array_foreach (jat(r, "suites"), i, f)
			printf("%s  %-26s %-9s %s\n", i ? "" : "  SUITE                      RFC 8221\n",
			       jstr(f, "suite"), jstr(f, "rfc8221"), jstr(f, "spec"));
	}
	json_decref(r);
	return EXIT_OK_;
}

/* ---- maps ---- */

static bool can_walk(uint32_t type)
{
	return type == BPF_MAP_TYPE_HASH || type == BPF_MAP_TYPE_LRU_HASH ||
	       type == BPF_MAP_TYPE_LPM_TRIE;
}

/* Used entries of a hash; an array is always full. */
static json_t *count_entries(int fd, const struct bpf_map_info *info)
{
	uint8_t key[256], next[256];
	unsigned int n = 0;
	void *prev = NULL;

	if (!can_walk(info->type) || info->key_size > sizeof key)
		return json_null();
	while (n < ENTRIES_COUNTED_MAX && !bpf_map_get_next_key(fd, prev, next)) {
		memcpy(key, next, info->key_size);
		prev = key;
		n++;
	}
	return json_integer(n);
}

static json_t *json_map(const char *name, int fd)
{
	struct bpf_map_info info = {0};
	uint32_t len = sizeof info;
	const char *type;

	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		return NULL;
	type = libbpf_bpf_map_type_str(info.type);
	return json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:o, s:b}", "name", name, "type",
			 type ? type : "?", "id", (int)info.id, "key_bytes", (int)info.key_size,
			 "value_bytes", (int)info.value_size, "max_entries", (int)info.max_entries,
			 "entries", count_entries(fd, &info), "btf", info.btf_id != 0);
}

static json_t *json_prog(const char *name, int fd)
{
	struct bpf_prog_info info = {0};
	uint32_t len = sizeof info;
	const char *type;
	char tag[2 * BPF_TAG_SIZE + 1];

	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		return NULL;
	for (int i = 0; i < BPF_TAG_SIZE; i++)
		sprintf(tag + 2 * i, "%02x", info.tag[i]);
	type = libbpf_bpf_prog_type_str(info.type);
	return json_pack("{s:s, s:s, s:i, s:s, s:I, s:I}", "name", name, "type", type ? type : "?",
			 "id", (int)info.id, "tag", tag, "run_count", (json_int_t)info.run_cnt,
			 "run_ns", (json_int_t)info.run_time_ns);
}

static int by_file_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static json_t *pinned(const char *pin, const char *sub, json_t *(*fn)(const char *name, int fd),
		      int *err)
{
	json_t *list = json_array(), *o;
	char path[PATHS_LEN];
	struct dirent **names = NULL;
	int n, fd;

	snprintf(path, sizeof path, "%s/%s", pin, sub);
	n = scandir(path, &names, NULL, by_file_name);
	*err = n < 0 ? -errno : 0;
	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof path, "%s/%s/%s", pin, sub, names[i]->d_name);
		fd = *names[i]->d_name == '.' ? -1 : bpf_obj_get(path);
		o = fd >= 0 ? fn(names[i]->d_name, fd) : NULL;
		if (o)
			json_array_append_new(list, o);
		if (fd >= 0)
			close(fd);
		free(names[i]);
	}
	free(names);
	return list;
}

json_t *maps_json(struct ctl *c)
{
	char pin[PATHS_LEN];
	json_t *r, *maps, *progs;
	int err, err2;

	paths_pin(pin, c->instance);
	maps = pinned(pin, "maps", json_map, &err);
	progs = pinned(pin, "progs", json_prog, &err2);
	if (err) {
		json_decref(maps);
		json_decref(progs);
		return verbs_error(err == -EACCES || err == -EPERM ? EXIT_POLICY : EXIT_NOT_FOUND,
				   "no-pins",
				   "has ipsecd ever run as this instance? ipsecctl -i NAME",
				   "%s: %s", pin, strerror(-err));
	}
	r = ctl_ok(c);
	json_object_set_new(r, "pin_dir", json_string(pin));
	json_object_set_new(r, "maps", maps);
	json_object_set_new(r, "programs", progs);
	return r;
}

static void maps_human(json_t *r)
{
	struct table *t = table_new(
		(const char *[]){"MAP", "TYPE", ">ID", ">KEY", ">VALUE", ">USED", ">MAX", NULL});
	char id[24], key[24], value[24], used[24], max[24];
	json_t *m;
	size_t i;

	json_array_foreach (jat(r, "maps"), i, m) {
		snprintf(id, sizeof id, "%lld", (long long)jint(m, "id"));
		snprintf(key, sizeof key, "%lld", (long long)jint(m, "key_bytes"));
		snprintf(value, sizeof value, "%lld", (long long)jint(m, "value_bytes"));
		snprintf(used, sizeof used, "%lld", (long long)jint(m, "entries"));
		snprintf(max, sizeof max, "%lld", (long long)jint(m, "max_entries"));
		table_row(t, (const char *[]){jstr(m, "name"), jstr(m, "type"), id, key, value,
					      jnull(m, "entries") ? "-" : used, max});
	}
	table_print(t, stdout, false);
	json_array_foreach (jat(r, "programs"), i, m)
		printf("program %s (%s) id %lld tag %s\n", jstr(m, "name"), jstr(m, "type"),
		       (long long)jint(m, "id"), jstr(m, "tag"));
	printf("bpftool map dump pinned %s/maps/links\n", jstr(r, "pin_dir"));
}

int cmd_maps(struct ctl *c, int argc, char **argv)
{
	json_t *r;
	int code;

	libbpf_set_print(NULL);
	r = maps_json(c);
	if (!ctl_finish(c, r, &code))
		maps_human(r);
	json_decref(r);
	return code;
}

/* ---- report ---- */

/* Everything in it is what the other verbs print: no key can be there (I3). */
int cmd_report(struct ctl *c, int argc, char **argv)
{
	static const char *const verbs[] = {"show", "path-list", "drops", "perf", "config"};
	json_t *r = ctl_ok(c);
	char now[32];

	libbpf_set_print(NULL);
	json_object_set_new(r, "time", json_string(verbs_time(now, 0)));
	json_object_set_new(r, "version", version_json(c, true));
	for (unsigned int i = 0; i < ARRAY_SIZE(verbs); i++)
		json_object_set_new(r, verbs[i], ctl_request(c, verbs[i], NULL));
	json_object_set_new(r, "maps", maps_json(c));
	json_object_set_new(r, "doctor", doctor_json(c));
	json_dumpf(r, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(12));
	putchar('\n');
	json_decref(r);
	return EXIT_OK_;
}
