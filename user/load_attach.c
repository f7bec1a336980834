/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Attachments. Devices of the private backend netns get filters and programs that simply stay
 * with the device; underlay devices, where others work too, get pinned bpf_links named after
 * {netns inode, ifindex}, so that a successor finds and updates them in place.
 *
 * Where tcx does not exist guard and sock are clsact filters; their programs are pinned under links/
 * as guard-tc-* and sock-tc-*, which tells release where to look. A clsact that was not there before is
 * remembered by a pin under qdiscs/ as long as we have filters in it. It goes with the last of them, unless
 * others have put some in: then it is theirs.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "hostns.h"
#include "load_int.h"
#include "log.h"
#include "nl.h"

enum {
	TC_OURS = 0xe5b, /* handle of our clsact filters */
	TC_PRIO = 1,     /* in the backend, where nobody else is; on underlay devices see struct edge */
	KERNEL_ENOTSUPP = 524,
};

/* Newer than the headers we build with: Linux 6.6. */
enum {
	TCX_INGRESS = 46,
	TCX_EGRESS = 47,
	TCX_FIRST = 1 << 3, /* BPF_F_BEFORE nobody in particular */
};

struct pin {
	char path[PATH_MAX];
	int fd;
};

static int pin_get(void *arg)
{
	struct pin *p = arg;

	p->fd = bpf_obj_get(p->path);
	return p->fd < 0 ? p->fd : 0;
}

static int pin_put(void *arg)
{
	struct pin *p = arg;

	unlink(p->path);
	return bpf_obj_pin(p->fd, p->path);
}

static int pin_drop(void *arg)
{
	struct pin *p = arg;

	return unlink(p->path) ? -errno : 0;
}

static uint64_t netns_ino(void)
{
	struct stat st;

	return stat("/proc/thread-self/ns/net", &st) ? 0 : st.st_ino;
}

static void pin_name(const struct load *l, const char *kind, uint32_t ifindex, struct pin *p)
{
	snprintf(p->path, sizeof(p->path), "%s/links/%s-%llu-%u", l->dir, kind,
		 (unsigned long long)netns_ino(), ifindex);
	p->fd = -1;
}

/* --- TC by netlink --- */

/* Return: 0 = made, 1 = it was there, or -errno */
static int clsact_make(uint32_t ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_INGRESS);
	int err = bpf_tc_hook_create(&hook);

	return err == -EEXIST ? 1 : err;
}

static int tc_attach(uint32_t ifindex, enum bpf_tc_attach_point point, uint32_t prio, int prog)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = TC_OURS, .priority = prio, .prog_fd = prog,
		    .flags = BPF_TC_F_REPLACE);
	int err = clsact_make(ifindex);

	return err < 0 ? err : bpf_tc_attach(&hook, &opts);
}

static int tc_detach(uint32_t ifindex, enum bpf_tc_attach_point point, uint32_t prio)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = TC_OURS, .priority = prio);
	int err = bpf_tc_detach(&hook, &opts);

	/* no qdisc, no filter or no device: EINVAL, ENOENT, ENODEV */
	return err == -EINVAL || err == -ENOENT || err == -ENODEV ? 0 : err;
}

static bool tc_there(uint32_t ifindex, enum bpf_tc_attach_point point, uint32_t prio)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = TC_OURS, .priority = prio);

	return !bpf_tc_query(&hook, &opts);
}

/* There are thousands of these: by a socket that is open, from where we are. */
int load_attach_classify(struct load *l, struct nl *nl, uint32_t ifindex)
{
	const struct tc_bpf t = {.prio = TC_PRIO, .handle = TC_OURS, .name = "classify", .prog = l->prog[PROG_classify]};

	return nl_tc_bpf(nl, (int)ifindex, &t);
}

int load_attach_deliver(struct load *l, uint32_t ifindex)
{
	return tc_attach(ifindex, BPF_TC_INGRESS, TC_PRIO, l->prog[PROG_deliver]);
}

int load_attach_opened(struct load *l, uint32_t ifindex)
{
	return tc_attach(ifindex, BPF_TC_INGRESS, TC_PRIO, l->prog[PROG_opened]);
}

int load_attach_funnel(struct load *l, uint32_t ifindex)
{
	return bpf_xdp_attach(ifindex, l->prog[PROG_funnel], XDP_FLAGS_DRV_MODE, NULL);
}

/* --- pinned links --- */

/*
 * Swap the program of a link that is in force. The kernel refuses (ENOLINK) when the device went
 * away, even when another came back under its index. Return: 0 = done, else make a new one.
 */
static int link_adopt(struct pin *p, int prog)
{
	int err = hostns_call(pin_get, p);

	if (err)
		return err;
	err = bpf_link_update(p->fd, prog, NULL);
	close(p->fd);
	if (err)
		hostns_call(pin_drop, p);
	return err;
}

static int link_attach(struct load *l, const char *kind, uint32_t ifindex, int prog, int type,
		       uint32_t flags)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = flags);
	struct pin p;
	int err;

	pin_name(l, kind, ifindex, &p);
	if (!link_adopt(&p, prog))
		return 0;
	p.fd = bpf_link_create(prog, ifindex, (enum bpf_attach_type)type, &opts);
	if (p.fd < 0)
		return p.fd;
	err = hostns_call(pin_put, &p);
	close(p.fd);
	return err;
}

/* bpf_link_detach() acts at once; the pin alone might not be the last reference. */
static int link_detach(struct load *l, const char *kind, uint32_t ifindex)
{
	struct pin p;

	pin_name(l, kind, ifindex, &p);
	if (hostns_call(pin_get, &p))
		return 0;
	bpf_link_detach(p.fd);
	close(p.fd);
	return hostns_call(pin_drop, &p);
}

/* --- underlay devices --- */

/* Does the device carry bare IP (ppp, tun, wwan), without an Ethernet header? */
static int is_l3(const char *name)
{
	struct ifreq ifr = {0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int err;

	if (fd < 0)
		return -errno;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	err = ioctl(fd, SIOCGIFHWADDR, &ifr) ? -errno : 0;
	close(fd);
	if (err)
		return err;
	return ifr.ifr_hwaddr.sa_family != ARPHRD_ETHER &&
	       ifr.ifr_hwaddr.sa_family != ARPHRD_LOOPBACK;
}

/* What drivers answer when they cannot; EEXIST is generic XDP of somebody else. */
static int wire_errno(int err)
{
	switch (err) {
	case -EEXIST:
		return -EBUSY;
	case -KERNEL_ENOTSUPP:
	case -EINVAL:
	case -ENOSPC: /* too few RX queues for the peer's TX queues */
	case -ERANGE: /* MTU */
		return -EOPNOTSUPP;
	default:
		return err;
	}
}

int load_attach_wire(struct load *l, uint32_t ifindex, const char *name)
{
	int err = is_l3(name);

	if (err)
		return err > 0 ? -EOPNOTSUPP : err;
	err = link_attach(l, "wire", ifindex, l->prog[PROG_wire_in], BPF_XDP, XDP_FLAGS_DRV_MODE);
	if (err) {
		log_info("%s: wire-in stays off, the sockets take over: %s", name, strerror(-err));
		err = wire_errno(err);
	}
	return err;
}

int load_attach_lan(struct load *l, uint32_t ifindex, const char *name)
{
	int err = is_l3(name);

	if (err)
		return err > 0 ? -EOPNOTSUPP : err;
	return wire_errno(link_attach(l, "lan", ifindex, l->prog[PROG_lan_in], BPF_XDP, XDP_FLAGS_DRV_MODE));
}

int load_detach_lan(struct load *l, uint32_t ifindex)
{
	return link_detach(l, "lan", ifindex);
}

int load_detach_wire(struct load *l, uint32_t ifindex, const char *name)
{
	return link_detach(l, "wire", ifindex);
}

/*
 * Programs in pairs, one per direction. Where both stand on a device sock_out comes first, so that
 * the guard sees what the wire will: later attached is first in tcx, a lower priority in clsact.
 */
static const struct edge {
	const char *in_pin, *out_pin, *tc_pin;
	uint32_t prio;
	enum load_prog in[2], out[2]; /* with an Ethernet header, without */
} guard = {"guard-in", "guard-out", "guard-tc", 2,
	   {PROG_guard_in, PROG_guard_in_l3}, {PROG_guard_out, PROG_guard_out_l3}},
  sock = {"sock-in", "sock-out", "sock-tc", 1,
	  {PROG_sock_in, PROG_sock_in_l3}, {PROG_sock_out, PROG_sock_out_l3}};

static bool edge_tc_there(const struct edge *e, uint32_t ifindex)
{
	return tc_there(ifindex, BPF_TC_EGRESS, e->prio) || tc_there(ifindex, BPF_TC_INGRESS, e->prio);
}

/* --- the clsact on underlay devices --- */

static bool clsact_in_use(uint32_t ifindex)
{
	return edge_tc_there(&guard, ifindex) || edge_tc_there(&sock, ifindex);
}

static void clsact_pin(const struct load *l, uint32_t ifindex, struct pin *p)
{
	snprintf(p->path, sizeof(p->path), "%s/qdiscs/clsact-%llu-%u", l->dir, (unsigned long long)netns_ino(), ifindex);
	p->fd = -1;
}

/*
 * One that is there without a filter of ours is not the one we made, whatever the pin says: the device
 * came back under its index, or somebody made it anew.
 */
static int clsact_take(const struct load *l, uint32_t ifindex, int prog)
{
	int err = clsact_make(ifindex);
	struct pin p;

	if (err < 0)
		return err;
	clsact_pin(l, ifindex, &p);
	p.fd = prog;
	if (!err)
		return hostns_call(pin_put, &p);
	if (!clsact_in_use(ifindex))
		hostns_call(pin_drop, &p);
	return 0;
}

/* Away with it, unless it has filters. The kernel has no way to ask and delete at once. */
static void clsact_delete(uint32_t ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
	struct nl *nl;
	int n;

	if (nl_open(&nl, -1))
		return;
	n = nl_tc_filters(nl, (int)ifindex);
	nl_close(nl);
	if (!n)
		bpf_tc_hook_destroy(&hook);
}

static void clsact_leave(const struct load *l, uint32_t ifindex)
{
	struct pin p;

	if (clsact_in_use(ifindex))
		return;
	clsact_pin(l, ifindex, &p);
	if (!hostns_call(pin_drop, &p))
		clsact_delete(ifindex);
}

/* --- pairs, attached --- */

static int edge_tcx(struct load *l, const struct edge *e, uint32_t ifindex, int in, int out)
{
	int err = link_attach(l, e->out_pin, ifindex, out, TCX_EGRESS, TCX_FIRST);

	return err ? err : link_attach(l, e->in_pin, ifindex, in, TCX_INGRESS, TCX_FIRST);
}

static int edge_tc(struct load *l, const struct edge *e, uint32_t ifindex, int in, int out)
{
	struct pin p;
	int err = clsact_take(l, ifindex, out);

	if (err)
		return err;
	pin_name(l, e->tc_pin, ifindex, &p);
	p.fd = out;
	err = hostns_call(pin_put, &p); /* first: what is attached has a pin, whenever we die */
	if (!err)
		err = tc_attach(ifindex, BPF_TC_EGRESS, e->prio, out);
	if (!err)
		err = tc_attach(ifindex, BPF_TC_INGRESS, e->prio, in);
	if (err)
		clsact_leave(l, ifindex);
	return err;
}

static int edge_attach(struct load *l, const struct edge *e, uint32_t ifindex, const char *name)
{
	int l3 = is_l3(name);
	int in, out;

	if (l3 < 0)
		return l3;
	in = l->prog[e->in[l3]];
	out = l->prog[e->out[l3]];
	return l->tcx ? edge_tcx(l, e, ifindex, in, out) : edge_tc(l, e, ifindex, in, out);
}

static int edge_tc_detach(const struct edge *e, uint32_t ifindex)
{
	int err = tc_detach(ifindex, BPF_TC_EGRESS, e->prio);

	return err ? err : tc_detach(ifindex, BPF_TC_INGRESS, e->prio);
}

static int edge_detach(struct load *l, const struct edge *e, uint32_t ifindex)
{
	int err = link_detach(l, e->out_pin, ifindex);
	struct pin p;

	if (!err)
		err = link_detach(l, e->in_pin, ifindex);
	pin_name(l, e->tc_pin, ifindex, &p);
	if (err || hostns_call(pin_drop, &p))
		return err;
	err = edge_tc_detach(e, ifindex);
	clsact_leave(l, ifindex);
	return err;
}

int load_attach_guard(struct load *l, uint32_t ifindex, const char *name)
{
	int err = edge_attach(l, &guard, ifindex, name);

	if (err) {
		errno = -err;
		log_warn("%s: attaching the guard", name);
	}
	return err;
}

int load_detach_guard(struct load *l, uint32_t ifindex, const char *name)
{
	return edge_detach(l, &guard, ifindex);
}

int load_attach_sock(struct load *l, uint32_t ifindex, const char *name)
{
	int err = edge_attach(l, &sock, ifindex, name);

	if (err) {
		errno = -err;
		log_warn("%s: attaching the programs of UDP 4500", name);
	}
	return err;
}

int load_detach_sock(struct load *l, uint32_t ifindex, const char *name)
{
	return edge_detach(l, &sock, ifindex);
}

bool load_guard_is_tcx(const struct load *l)
{
	return l->tcx;
}

/* --- release --- */

/* One entry of qdiscs/. */
static void undo_qdisc(const char *name)
{
	unsigned long long ino;
	unsigned int ifindex;

	if (sscanf(name, "clsact-%llu-%u", &ino, &ifindex) == 2 && ino == netns_ino())
		clsact_delete(ifindex);
}

/* One entry of links/: take it off the device first. */
static void undo(const char *path, const char *name)
{
	static const struct edge *const edges[] = {&guard, &sock};
	unsigned long long ino;
	unsigned int ifindex;
	int fd;

	for (unsigned int i = 0; i < ARRAY_SIZE(edges); i++) {
		size_t n = strlen(edges[i]->tc_pin);

		if (strncmp(name, edges[i]->tc_pin, n) || sscanf(name + n, "-%llu-%u", &ino, &ifindex) != 2)
			continue;
		if (ino == netns_ino() && edge_tc_detach(edges[i], ifindex))
			log_warnx("%s: could not be taken off interface %u", name, ifindex);
		return;
	}
	fd = bpf_obj_get(path);
	if (fd < 0)
		return;
	bpf_link_detach(fd);
	close(fd);
}

static int remove_kind(const char *dir, const char *kind)
{
	char path[PATH_MAX], file[PATH_MAX + NAME_MAX + 2];
	struct dirent *e;
	DIR *d;
	int err = 0;

	snprintf(path, sizeof(path), "%s/%s", dir, kind);
	d = opendir(path);
	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
		if (!strcmp(kind, "links"))
			undo(file, e->d_name);
		if (!strcmp(kind, "qdiscs"))
			undo_qdisc(e->d_name);
		if (unlink(file))
			err = -errno;
	}
	closedir(d);
	return rmdir(path) && !err ? -errno : err;
}

static int release_here(void *arg)
{
	const char *dir = arg;
	int err = remove_kind(dir, "links");

	if (!err)
		err = remove_kind(dir, "qdiscs");
	if (!err)
		err = remove_kind(dir, "progs");
	if (!err)
		err = remove_kind(dir, "maps");
	if (!err && rmdir(dir) && errno != ENOENT)
		err = -errno;
	return err;
}

int load_release(const char *pin_dir)
{
	return hostns_call(release_here, (void *)pin_dir);
}
