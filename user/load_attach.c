/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Attachments. Devices of the private backend netns get filters and programs that simply stay
 * with the device; underlay devices, where others work too, get pinned bpf_links named after
 * {netns inode, ifindex}, so that a successor finds and updates them in place.
 *
 * Where tcx does not exist the guard is a clsact filter; its program is pinned under links/
 * as guard-tc-*, which tells release where to look.
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

enum {
	TC_OURS = 0xe5b, /* handle of our clsact filters; priority 1 */
	TC_PRIO = 1,
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

static int tc_attach(uint32_t ifindex, enum bpf_tc_attach_point point, int prog)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = TC_OURS, .priority = TC_PRIO, .prog_fd = prog,
		    .flags = BPF_TC_F_REPLACE);
	int err = bpf_tc_hook_create(&hook);

	if (err && err != -EEXIST)
		return err;
	return bpf_tc_attach(&hook, &opts);
}

static int tc_detach(uint32_t ifindex, enum bpf_tc_attach_point point)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = TC_OURS, .priority = TC_PRIO);
	int err = bpf_tc_detach(&hook, &opts);

	/* no qdisc, no filter or no device: EINVAL, ENOENT, ENODEV */
	return err == -EINVAL || err == -ENOENT || err == -ENODEV ? 0 : err;
}

int load_attach_classify(struct load *l, uint32_t ifindex)
{
	return tc_attach(ifindex, BPF_TC_INGRESS, l->prog[PROG_classify]);
}

int load_attach_deliver(struct load *l, uint32_t ifindex)
{
	return tc_attach(ifindex, BPF_TC_INGRESS, l->prog[PROG_deliver]);
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

int load_detach_wire(struct load *l, uint32_t ifindex, const char *name)
{
	return link_detach(l, "wire", ifindex);
}

static int guard_tcx(struct load *l, uint32_t ifindex, int in, int out)
{
	int err = link_attach(l, "guard-out", ifindex, out, TCX_EGRESS, TCX_FIRST);

	return err ? err : link_attach(l, "guard-in", ifindex, in, TCX_INGRESS, TCX_FIRST);
}

static int guard_tc(struct load *l, uint32_t ifindex, int in, int out)
{
	struct pin p;
	int err = tc_attach(ifindex, BPF_TC_EGRESS, out);

	if (!err)
		err = tc_attach(ifindex, BPF_TC_INGRESS, in);
	if (err)
		return err;
	pin_name(l, "guard-tc", ifindex, &p);
	p.fd = out;
	return hostns_call(pin_put, &p);
}

int load_attach_guard(struct load *l, uint32_t ifindex, const char *name)
{
	int l3 = is_l3(name);
	int err, in, out;

	if (l3 < 0)
		return l3;
	in = l->prog[l3 ? PROG_guard_in_l3 : PROG_guard_in];
	out = l->prog[l3 ? PROG_guard_out_l3 : PROG_guard_out];
	err = l->tcx ? guard_tcx(l, ifindex, in, out) : guard_tc(l, ifindex, in, out);
	if (err) {
		errno = -err;
		log_warn("%s: attaching the guard", name);
	}
	return err;
}

static int guard_tc_detach(uint32_t ifindex)
{
	int err = tc_detach(ifindex, BPF_TC_EGRESS);

	return err ? err : tc_detach(ifindex, BPF_TC_INGRESS);
}

int load_detach_guard(struct load *l, uint32_t ifindex, const char *name)
{
	int err = link_detach(l, "guard-out", ifindex);
	struct pin p;

	if (!err)
		err = link_detach(l, "guard-in", ifindex);
	pin_name(l, "guard-tc", ifindex, &p);
	if (!err && !hostns_call(pin_drop, &p))
		err = guard_tc_detach(ifindex);
	return err;
}

bool load_guard_is_tcx(const struct load *l)
{
	return l->tcx;
}

/* --- release --- */

/* One entry of links/: take it off the device first. */
static void undo(const char *path, const char *name)
{
	unsigned long long ino;
	unsigned int ifindex;
	int fd;

	if (sscanf(name, "guard-tc-%llu-%u", &ino, &ifindex) == 2) {
		if (ino == netns_ino() && guard_tc_detach(ifindex))
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
