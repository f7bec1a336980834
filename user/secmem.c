/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One reserved stretch of address space, taken into use chunk by chunk from its start; a chunk
 * holds slots of one size. Reserving first keeps secmem_owns() two comparisons.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "log.h"
#include "secmem.h"

#define ARENA_LEN ((size_t)256 << 20)
#define CHUNK_LEN ((size_t)64 << 10)
#define SLOT_UNIT ((size_t)64)

enum kind { KIND_MEMFD, KIND_MLOCK, KIND_PLAIN };

struct slot {
	struct slot *next;
};

/* All under lock. */
static struct {
	pthread_mutex_t lock;
	uint8_t *base; /* NULL = not reserved yet */
	size_t used;   /* bytes in use, from base */
	int fd;        /* memfd_secret or -1 */
	enum kind kind;
	struct slot *free[SECMEM_SLOT_MAX / SLOT_UNIT + 1]; /* by slot size */
	uint16_t slot_len[ARENA_LEN / CHUNK_LEN];           /* by chunk; set once */
} arena = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

static int secret_fd(void)
{
#ifdef SYS_memfd_secret
	int fd = (int)syscall(SYS_memfd_secret, O_CLOEXEC);

	if (fd >= 0 && ftruncate(fd, (off_t)ARENA_LEN)) {
		close(fd);
		fd = -1;
	}
	return fd;
#else
	return -1;
#endif
}

static int reserve(void)
{
	void *p;

	if (arena.base)
		return 0;
	p = mmap(NULL, ARENA_LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	arena.fd = secret_fd();
	arena.kind = arena.fd >= 0 ? KIND_MEMFD : KIND_MLOCK;
	__atomic_store_n(&arena.base, p, __ATOMIC_RELAXED);
	return 0;
}

static int map_at(uint8_t *at, int flags, int fd)
{
	off_t off = fd < 0 ? 0 : at - arena.base;
	void *p = mmap(at, CHUNK_LEN, PROT_READ | PROT_WRITE, MAP_FIXED | flags, fd, off);

	return p == MAP_FAILED ? -errno : 0;
}

static void weaken(enum kind kind)
{
	if (kind <= arena.kind)
		return;
	arena.kind = kind;
	if (kind == KIND_PLAIN)
		log_warnx(
			"keys lie in memory that may be swapped: raise LimitMEMLOCK= or ulimit -l");
}

/* Map one more chunk, as well protected as the system lets us. */
static int map_chunk(uint8_t *at)
{
	int err;

	if (arena.fd >= 0 && !map_at(at, MAP_SHARED, arena.fd)) {
		madvise(at, CHUNK_LEN, MADV_DONTFORK);
		return 0;
	}
	err = map_at(at, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (err)
		return err;
	madvise(at, CHUNK_LEN, MADV_DONTFORK);
	madvise(at, CHUNK_LEN, MADV_DONTDUMP);
	weaken(mlock(at, CHUNK_LEN) ? KIND_PLAIN : KIND_MLOCK);
	return 0;
}

static int grow(size_t size, struct slot **list)
{
	uint8_t *at;
	int err = reserve();

	if (err)
		return err;
	if (arena.used + CHUNK_LEN > ARENA_LEN)
		return -ENOMEM;
	at = arena.base + arena.used;
	arena.used += CHUNK_LEN; /* for good: a failed MAP_FIXED may leave a gap */
	err = map_chunk(at);
	if (err)
		return err;
	arena.slot_len[(size_t)(at - arena.base) / CHUNK_LEN] = (uint16_t)size;
	for (size_t off = CHUNK_LEN / size * size; off; off -= size) {
		struct slot *s = (struct slot *)(at + off - size);

		s->next = *list;
		*list = s;
	}
	return 0;
}

static struct slot **list_of(size_t len, size_t *size)
{
	*size = (len + SLOT_UNIT - 1) & ~(SLOT_UNIT - 1);
	return &arena.free[*size / SLOT_UNIT];
}

void *secmem_alloc(size_t len)
{
	struct slot **list, *s = NULL;
	size_t size;
	int err;

	if (!len || len > SECMEM_SLOT_MAX) {
		errno = EMSGSIZE;
		return NULL;
	}
	pthread_mutex_lock(&arena.lock);
	list = list_of(len, &size);
	err = *list ? 0 : grow(size, list);
	if (!err) {
		s = *list;
		*list = s->next;
		s->next = NULL;
	}
	pthread_mutex_unlock(&arena.lock);
	if (err)
		errno = -err;
	return s;
}

size_t secmem_len(const void *p)
{
	return arena.slot_len[(size_t)((const uint8_t *)p - arena.base) / CHUNK_LEN];
}

void secmem_free(void *p)
{
	struct slot **list, *s = p;
	size_t size;

	if (!p)
		return;
	pthread_mutex_lock(&arena.lock);
	list = list_of(secmem_len(p), &size);
	explicit_bzero(p, size);
	s->next = *list;
	*list = s;
	pthread_mutex_unlock(&arena.lock);
}

bool secmem_owns(const void *p)
{
	uintptr_t base = (uintptr_t)__atomic_load_n(&arena.base, __ATOMIC_RELAXED);

	return base && (uintptr_t)p - base < ARENA_LEN;
}

const char *secmem_kind(void)
{
	static const char *const name[] = {"memfd_secret", "mlock", "plain"};

	return name[__atomic_load_n(&arena.kind, __ATOMIC_RELAXED)];
}
