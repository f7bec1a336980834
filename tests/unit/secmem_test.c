/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Secret memory: protected, distinct, wiped, and still there when the system refuses to lock. */
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "crypto_rig.h"
#include "secmem.h"

#ifdef __SANITIZE_ADDRESS__
enum { SLOTS = 5000, ASAN = 1 };
#else
enum { SLOTS = 5000, ASAN = 0 };
#endif

/* VmFlags of the mapping that holds p, from /proc/self/smaps. */
static void vm_flags(const void *p, char flags[512])
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long lo = 0, hi = 0, a, b;
	char line[512];

	*flags = 0;
	assert_non_null(f);
	while (fgets(line, sizeof line, f)) {
		if (sscanf(line, "%lx-%lx ", &a, &b) == 2) {
			lo = a;
			hi = b;
		}
		if (lo <= (unsigned long)p && (unsigned long)p < hi &&
		    !strncmp(line, "VmFlags:", 8))
			strcpy(flags, line + 8);
	}
	fclose(f);
}

static void test_protected(void **state)
{
	uint8_t *p = secmem_alloc(1000);
	char flags[512];

	assert_non_null(p);
	vm_flags(p, flags);
	printf("%s, flags%s", secmem_kind(), flags);
	assert_non_null(strstr(flags, " dd")); /* no dump */
	assert_non_null(strstr(flags, " dc")); /* no copy on fork */
	if (strcmp(secmem_kind(), "plain"))
		assert_non_null(strstr(flags, " lo"));
	secmem_free(p);
}

static void test_no_fork(void **state)
{
	volatile uint8_t *p = secmem_alloc(64);
	int status;
	pid_t pid = fork();

	if (!pid) {
		signal(SIGSEGV, SIG_DFL);
		p[0] = 1;
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	secmem_free((void *)p);
}

static void use_slots(void)
{
	static uint8_t *p[SLOTS];
	static size_t len[SLOTS];

	for (uint32_t i = 0; i < SLOTS; i++) {
		len[i] = 8 + rig_below(1200);
		p[i] = secmem_alloc(len[i]);
		assert_non_null(p[i]);
		assert_true(secmem_owns(p[i]) && (uintptr_t)p[i] % 64 == 0 &&
			    secmem_len(p[i]) >= len[i]);
		for (size_t b = 0; b < len[i]; b++)
			assert_int_equal(p[i][b], 0);
		memset(p[i], (int)(i % 255 + 1), len[i]);
	}
	for (uint32_t i = 0; i < SLOTS; i++) {
		for (size_t b = 0; b < len[i]; b++)
			assert_int_equal(p[i][b], i % 255 + 1);
		secmem_free(p[i]);
	}
}

/* Twice: what the first pass wrote must be gone in the second. */
static void test_slots(void **state)
{
	use_slots();
	use_slots();
	assert_false(secmem_owns(use_slots));
	assert_false(secmem_owns(NULL));
}

static void test_refused(void **state)
{
	uint8_t *p;

	assert_null(secmem_alloc(0));
	assert_int_equal(errno, EMSGSIZE);
	assert_null(secmem_alloc(SECMEM_SLOT_MAX + 1));
	assert_int_equal(errno, EMSGSIZE);
	p = secmem_alloc(SECMEM_SLOT_MAX);
	assert_non_null(p);
	p[SECMEM_SLOT_MAX - 1] = 1;
	secmem_free(p);
	secmem_free(NULL);
}

/* In a child, before this process has any: nothing may be locked, nobody special. */
static void test_no_lock(void **state)
{
	struct rlimit none = {0, 0};
	int status;
	pid_t pid = fork();

	if (!pid) {
		uint8_t *p;

		if (setrlimit(RLIMIT_MEMLOCK, &none) ||
		    (!getuid() && setresuid(65534, 65534, 65534)))
			_exit(1);
		p = secmem_alloc(100);
		/* AddressSanitizer makes mlock() a success that does nothing */
		if (!p || (!ASAN && strcmp(secmem_kind(), "plain")) ||
		    !strcmp(secmem_kind(), "memfd_secret"))
			_exit(2);
		p[99] = 1;
		secmem_free(p);
		_exit(3);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_lock), cmocka_unit_test(test_protected),
		cmocka_unit_test(test_no_fork), cmocka_unit_test(test_slots),
		cmocka_unit_test(test_refused),
	};

	rig_seed("secmem_test");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
