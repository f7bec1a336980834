// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * mapbytes PATH... - raw bytes of every key and value of pinned BPF maps, for the key hunt (I3).
 *
 * Values of per-CPU maps come whole. Maps that cannot be read from user space (device, socket and
 * program maps) hold no bytes of ours; they are named on stderr. Output is for searching, not for
 * reading: bpftool prints the same with names.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t value_size(const struct bpf_map_info *i)
{
	switch (i->type) {
	case BPF_MAP_TYPE_PERCPU_ARRAY:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
		return ((i->value_size + 7ul) & ~7ul) * (size_t)libbpf_num_possible_cpus();
	default:
		return i->value_size;
	}
}

enum { BATCH = 4096 };

/* A few calls for a whole map. Return: 0; -errno = not this kind of map, or not to its end. */
static int dump_batches(int fd, const struct bpf_map_info *i, size_t vlen)
{
	char *keys = malloc((size_t)BATCH * i->key_size), *vals = malloc(BATCH * vlen);
	char *at = calloc(2, i->key_size + 8ul), *in = NULL, *out = at;
	int err = keys && vals && at ? 0 : -ENOMEM;

	while (!err) {
		__u32 n = BATCH;

		err = bpf_map_lookup_batch(fd, in, out, keys, vals, &n, NULL);
		if (err && err != -ENOENT)
			break;
		for (__u32 k = 0; k < n; k++) {
			fwrite(keys + (size_t)k * i->key_size, 1, i->key_size, stdout);
			fwrite(vals + k * vlen, 1, vlen, stdout);
		}
		in = out;
		out = in == at ? at + i->key_size + 8 : at;
	}
	free(keys);
	free(vals);
	free(at);
	return err == -ENOENT ? 0 : err;
}

static int dump_singly(int fd, const struct bpf_map_info *i, size_t vlen)
{
	char *key = calloc(2, i->key_size + 1ul), *next = key ? key + i->key_size : NULL, *val = calloc(1, vlen + 8);
	int err = key && val ? 0 : -ENOMEM;
	size_t n = 0;

	for (void *prev = NULL; !err && n < 1u << 22 && !bpf_map_get_next_key(fd, prev, next); n++) {
		memcpy(key, next, i->key_size);
		prev = key;
		if (bpf_map_lookup_elem(fd, key, val))
			continue;
		fwrite(key, 1, i->key_size, stdout);
		fwrite(val, 1, vlen, stdout);
	}
	free(key);
	free(val);
	return err;
}

static int dump(int fd, const struct bpf_map_info *i)
{
	size_t vlen = value_size(i);
	int err = dump_batches(fd, i, vlen);

	return err && err != -ENOMEM ? dump_singly(fd, i, vlen) : err; /* printed twice is found as well */
}

static int one(const char *path)
{
	struct bpf_map_info info = { 0 };
	__u32 len = sizeof(info);
	int err, fd = bpf_obj_get(path);

	if (fd < 0)
		return fd;
	err = bpf_obj_get_info_by_fd(fd, &info, &len);
	if (!err && info.key_size) /* a pinned program or link has another info: no key size worth reading */
		err = dump(fd, &info);
	else if (err)
		fprintf(stderr, "mapbytes: %s: not read\n", path);
	close(fd);
	return err;
}

int main(int argc, char **argv)
{
	int failed = 0;

	for (int i = 1; i < argc; i++)
		failed |= one(argv[i]) == -ENOMEM;
	return failed;
}
