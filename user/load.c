/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Objects, maps, pins. One kernel map per name whatever the number of objects: the first object
 * creates or adopts them, the others reuse its fds. Order in load_open(): read what is pinned,
 * decide, load everything, and only then touch a pin.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "hostns.h"
#include "load_int.h"
#include "log.h"
#include "ipsec_guard.skel.h"
#include "ipsec_in.skel.h"
#include "ipsec_lan.skel.h"
#include "ipsec_out.skel.h"
#include "ipsec_sock.skel.h"

#define BPFFS       "/sys/fs/bpf"
#define TCX_INGRESS 46 /* enum bpf_attach_type since 6.6; older headers lack it */

static const struct {
	const char *name;
	const void *(*elf)(size_t *len);
} objs[N_OBJS] = {
	[OBJ_OUT] = {"ipsec_out", ipsec_out_bpf__elf_bytes},
	[OBJ_IN] = {"ipsec_in", ipsec_in_bpf__elf_bytes},
	[OBJ_LAN] = {"ipsec_lan", ipsec_lan_bpf__elf_bytes},
	[OBJ_GUARD] = {"ipsec_guard", ipsec_guard_bpf__elf_bytes},
	[OBJ_SOCK] = {"ipsec_sock", ipsec_sock_bpf__elf_bytes},
};

static const struct {
	const char *name;
	uint32_t per_link, min;
	bool sweep, carry;
} maps[N_MAPS] = {
#define X(name, per, min, sweep, carry) {#name, per, min, sweep, carry},
	LOAD_MAPS(X)
#undef X
};

static const struct {
	enum load_obj obj;
	const char *name;
} progs[N_PROGS] = {
#define X(obj, name) {OBJ_##obj, #name},
	LOAD_PROGS(X)
#undef X
};

/* What was found pinned; fds are ours. */
struct old {
	int map[N_MAPS];
	unsigned int n;
	bool same_version;
};

static bool loading; /* let the verifier speak */

static int print(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	char line[1024];

	if (level == LIBBPF_DEBUG || (!loading && log_max < LOGL_DEBUG))
		return 0;
	vsnprintf(line, sizeof(line), fmt, ap);
	line[strcspn(line, "\n")] = 0;
	log_at(loading ? LOGL_WARN : LOGL_DEBUG, "%s", line);
	return 0;
}

static void path_to(const struct load *l, const char *kind, const char *name, char *buf)
{
	snprintf(buf, PATH_MAX, "%s/%s/%s", l->dir, kind, name);
}

/* --- the directory --- */

static bool is_bpffs(const char *path)
{
	struct statfs s;

	return !statfs(path, &s) && s.f_type == BPF_FS_MAGIC;
}

static int make_dir(const char *path)
{
	return mkdir(path, 0700) && errno != EEXIST ? -errno : 0;
}

static int make_parents(char *path)
{
	int err = 0;

	for (char *p = strchr(path + 1, '/'); p && !err; p = strchr(p + 1, '/')) {
		*p = 0;
		err = make_dir(path);
		*p = '/';
	}
	return err ? err : make_dir(path);
}

/* Under a lock: a second mount on top would hide the pins of whoever came first. */
static int mount_bpffs(void)
{
	int fd = open(BPFFS, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;

	if (fd >= 0)
		flock(fd, LOCK_EX);
	if (!is_bpffs(BPFFS) &&
	    mount("bpf", BPFFS, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700")) {
		err = -errno;
		log_warn("mounting bpffs at " BPFFS);
	}
	if (fd >= 0)
		close(fd);
	return err;
}

static int make_tree(const struct load *l)
{
	static const char *const kinds[] = {"maps", "progs", "links", "qdiscs"};
	char path[PATH_MAX];
	int err;

	if (!strncmp(l->dir, BPFFS "/", strlen(BPFFS) + 1)) {
		err = mount_bpffs();
		if (err)
			return err;
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++) {
		path_to(l, kinds[i], "", path);
		path[strlen(path) - 1] = 0;
		err = make_parents(path);
		if (err) {
			errno = -err;
			log_warn("%s", path);
			return err;
		}
	}
	if (is_bpffs(l->dir))
		return 0;
	log_warnx("%s is not on a bpf file system", l->dir);
	return -EINVAL;
}

/* --- what a predecessor left --- */

static void old_close(struct old *o)
{
	for (int i = 0; i < N_MAPS; i++)
		if (o->map[i] >= 0)
			close(o->map[i]);
}

static void old_open(const struct load *l, struct old *o)
{
	char path[PATH_MAX];
	struct beat b = {0};
	uint32_t zero = 0;

	o->n = 0;
	for (int i = 0; i < N_MAPS; i++) {
		path_to(l, "maps", maps[i].name, path);
		o->map[i] = bpf_obj_get(path);
		if (o->map[i] < 0)
			o->map[i] = -1;
		else
			o->n++;
	}
	o->same_version = o->map[MAP_beat] >= 0 &&
			  !bpf_map_lookup_elem(o->map[MAP_beat], &zero, &b) &&
			  b.version == SHARED_VERSION;
}

/* Why a pinned map cannot be used; NULL = it can. */
static const char *mismatch(int fd, const struct bpf_map *want)
{
	struct bpf_map_info info = {0};
	uint32_t len = sizeof(info);

	if (fd < 0)
		return "is not pinned";
	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		return "cannot be examined";
	if (info.type != bpf_map__type(want))
		return "has another type";
	if (info.key_size != bpf_map__key_size(want) ||
	    info.value_size != bpf_map__value_size(want))
		return "has another layout";
	if (info.map_flags != bpf_map__map_flags(want))
		/* DEVMAP gains BPF_F_RDONLY_PROG by itself */
		if (info.type != BPF_MAP_TYPE_DEVMAP)
			return "has other flags";
	if (info.max_entries != bpf_map__max_entries(want))
		return "has another size";
	return NULL;
}

static bool adoptable(const struct load *l, const struct old *o)
{
	const char *why;

	if (!o->n)
		return false;
	if (!o->same_version) {
		log_warnx("%s: pinned maps are of another version, replacing them", l->dir);
		return false;
	}
	for (int i = 0; i < N_MAPS; i++) {
		why = mismatch(o->map[i], bpf_object__find_map_by_name(l->obj[0], maps[i].name));
		if (why) {
			log_warnx("%s: replacing the pinned maps: %s %s", l->dir, maps[i].name,
				  why);
			return false;
		}
	}
	return true;
}

/* --- objects --- */

static uint32_t entries(const struct load *l, int i)
{
	return MAX(maps[i].per_link * l->conf.max_links, maps[i].min);
}

static int open_obj(struct load *l, int o)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = objs[o].name);
	size_t len;
	const void *elf = objs[o].elf(&len);
	struct bpf_map *m;
	int err = 0;

	l->obj[o] = bpf_object__open_mem(elf, len, &opts);
	if (!l->obj[o])
		return -errno;
	for (int i = 0; i < N_MAPS && !err; i++) {
		m = bpf_object__find_map_by_name(l->obj[o], maps[i].name);
		if (!m)
			return -ENOENT;
		if (entries(l, i))
			err = bpf_map__set_max_entries(m, entries(l, i));
	}
	return err;
}

/* fds: one per map to be reused, or NULL to create them. */
static int load_obj(struct load *l, int o, const int *fds)
{
	int err = 0;

	for (int i = 0; fds && i < N_MAPS && !err; i++)
		err = bpf_map__reuse_fd(bpf_object__find_map_by_name(l->obj[o], maps[i].name),
					fds[i]);
	loading = true;
	if (!err)
		err = bpf_object__load(l->obj[o]);
	loading = false;
	return err;
}

static int load_objs(struct load *l, const struct old *adopt)
{
	int err = 0;

	for (int o = 0; o < N_OBJS && !err; o++) {
		err = load_obj(l, o, o ? l->map : adopt ? adopt->map : NULL);
		for (int i = 0; !o && i < N_MAPS; i++)
			l->map[i] =
				bpf_map__fd(bpf_object__find_map_by_name(l->obj[o], maps[i].name));
	}
	for (int i = 0; i < N_PROGS && !err; i++)
		l->prog[i] = bpf_program__fd(
			bpf_object__find_program_by_name(l->obj[progs[i].obj], progs[i].name));
	if (err) {
		errno = -err;
		log_warn("loading the BPF programs");
	}
	return err;
}

/* --- pins --- */

/* Put fd where name is, without a moment in which there is nothing. */
static int pin_over(const struct load *l, const char *kind, const char *name, int fd)
{
	char path[PATH_MAX], tmp[PATH_MAX + 4];
	int err;

	path_to(l, kind, name, path);
	snprintf(tmp, sizeof(tmp), "%s-new", path);
	unlink(tmp);
	err = bpf_obj_pin(fd, tmp);
	if (!err && rename(tmp, path)) {
		err = -errno;
		unlink(tmp);
	}
	if (err) {
		errno = -err;
		log_warn("pinning %s", path);
	}
	return err;
}

static int pin_all(const struct load *l)
{
	int err = 0;

	for (int i = 0; i < N_MAPS && !err && !l->adopted; i++)
		err = pin_over(l, "maps", maps[i].name, l->map[i]);
	for (int i = 0; i < N_PROGS && !err; i++)
		err = pin_over(l, "progs", progs[i].name, l->prog[i]);
	return err;
}

/* --- shared memory --- */

static size_t area_len(int fd)
{
	struct bpf_map_info info = {0};
	uint32_t len = sizeof(info);
	size_t page = sysconf(_SC_PAGESIZE);

	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		return 0;
	/* the kernel rounds each element up to 8 and the whole to pages */
	return (((info.value_size + 7ul) & ~7ul) * info.max_entries + page - 1) & ~(page - 1);
}

static int map_area(struct load *l, enum load_map m)
{
	size_t len = area_len(l->map[m]);
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, l->map[m], 0);

	if (p == MAP_FAILED)
		return -errno;
	l->area[m].p = p;
	l->area[m].len = len;
	return 0;
}

static int map_areas(struct load *l)
{
	static const enum load_map shared[] = {MAP_wctr, MAP_sactr, MAP_replay, MAP_beat, MAP_wire_note};
	int err = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(shared) && !err; i++)
		err = map_area(l, shared[i]);
	return err;
}

/* Elements an old map and its replacement have in common, for a change of max_links. */
static void carry(const struct load *l, int i, int from)
{
	struct bpf_map_info a = {0}, b = {0};
	uint32_t len = sizeof(a);
	size_t size;
	void *val;

	if (bpf_obj_get_info_by_fd(from, &a, &len) || bpf_obj_get_info_by_fd(l->map[i], &b, &len) ||
	    a.type != b.type || a.value_size != b.value_size)
		return;
	size = (a.value_size + 7ul) & ~7ul;
	val = calloc(a.type == BPF_MAP_TYPE_PERCPU_ARRAY ? l->n_cpus : 1, size);
	for (uint32_t k = 0; val && k < MIN(a.max_entries, b.max_entries); k++)
		if (!bpf_map_lookup_elem(from, &k, val))
			bpf_map_update_elem(l->map[i], &k, val, BPF_ANY);
	free(val);
}

static void carry_all(const struct load *l, const struct old *o)
{
	for (int i = 0; i < N_MAPS && o->same_version; i++)
		if (maps[i].carry && o->map[i] >= 0)
			carry(l, i, o->map[i]);
}

/* Cookies are never used twice, so a predecessor's would only pile up. */
static void forget_sockets(const struct load *l)
{
	uint64_t cookie;

	for (int i = 0; i < 4 * WORKER_MAX; i++)
		if (bpf_map_get_next_key(l->map[MAP_sock_worker], NULL, &cookie) ||
		    bpf_map_delete_elem(l->map[MAP_sock_worker], &cookie))
			return;
}

static int take_over(struct load *l)
{
	int err = 0;

	for (int i = 0; i < N_MAPS && !err; i++)
		if (maps[i].sweep)
			err = load_stale_read(l, i);
	forget_sockets(l);
	log_info("%s: adopted the pinned maps", l->dir);
	return err;
}

/* Kernels before 6.6 do not know the attach type; later ones answer for, or miss, the device. */
static bool have_tcx(void)
{
	uint32_t ids[1], n = 0;
	int err = bpf_prog_query(1, TCX_INGRESS, 0, NULL, ids, &n);

	return !err || err == -ENODEV;
}

static int open_pins(struct load *l, struct old *o)
{
	int err = make_tree(l);

	for (int i = 0; i < N_OBJS && !err; i++)
		err = open_obj(l, i);
	if (err)
		return err;
	old_open(l, o);
	l->adopted = adoptable(l, o);
	err = load_objs(l, l->adopted ? o : NULL);
	if (!err && !l->adopted)
		carry_all(l, o);
	if (!err)
		err = map_areas(l);
	if (err)
		return err;
	load_beat(l)->version = SHARED_VERSION;
	err = pin_all(l);
	return err || !l->adopted ? err : take_over(l);
}

static int open_here(void *arg)
{
	struct load *l = arg;
	struct old o;
	int err;

	for (int i = 0; i < N_MAPS; i++)
		o.map[i] = -1;
	err = open_pins(l, &o);
	old_close(&o);
	return err;
}

int load_open(struct load **lp, const struct load_conf *c)
{
	struct load *l;
	int err;

	*lp = NULL;
	if (!c->max_links || c->max_links > LINK_MAX || !c->n_workers || c->n_workers > WORKER_MAX)
		return -EINVAL;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->conf = *c;
	l->conf.pin_dir = l->dir;
	l->n_cpus = libbpf_num_possible_cpus();
	if (snprintf(l->dir, sizeof(l->dir), "%s", c->pin_dir) >= (int)sizeof(l->dir)) {
		free(l);
		return -ENAMETOOLONG;
	}
	libbpf_set_print(print);
	err = hostns_call(open_here, l);
	if (err) {
		load_close(l);
		return err;
	}
	l->tcx = !c->no_tcx && have_tcx();
	*lp = l;
	return 0;
}

void load_close(struct load *l)
{
	if (!l)
		return;
	for (int i = 0; i < N_MAPS; i++) {
		if (l->area[i].p)
			munmap(l->area[i].p, l->area[i].len);
		load_stale_free(&l->stale[i]);
	}
	for (int o = 0; o < N_OBJS; o++)
		bpf_object__close(l->obj[o]);
	free(l);
}

bool load_adopted(const struct load *l)
{
	return l->adopted;
}

uint32_t load_max_links(const struct load *l)
{
	return l->conf.max_links;
}

uint32_t load_max_sas(const struct load *l)
{
	return entries(l, MAP_sactr);
}

const struct wire_note *load_wire_note(struct load *l)
{
	return l->area[MAP_wire_note].p;
}

struct wlink_ctr *load_wctr(struct load *l)
{
	return l->area[MAP_wctr].p;
}

struct sa_ctr *load_sactr(struct load *l)
{
	return l->area[MAP_sactr].p;
}

uint64_t *load_replay(struct load *l)
{
	return l->area[MAP_replay].p;
}

struct beat *load_beat(struct load *l)
{
	return l->area[MAP_beat].p;
}

int load_beat_fd(struct load *l)
{
	return l->map[MAP_beat];
}

int load_filter_fd(struct load *l)
{
	return l->prog[PROG_sock_filter];
}

int load_xsk_fd(struct load *l)
{
	return l->map[MAP_xsks];
}
