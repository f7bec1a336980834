/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Window arithmetic at its edges, 10^7 random operations against the model, and every instruction
 * at which a crash could interrupt a slide.
 * Environment: SEED, REPLAY_OPS (operations in all).
 */
#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
#include "crypto_rig.h"
#include "replay.h"
#include "replay_model.h"

enum { WORDS_MAX = REPLAY_WINDOW_MAX / 64 * 2 };

static const uint32_t sizes[] = {64, 128, 4096, 65536};

struct win {
	struct replay r;
	uint64_t top, words[WORDS_MAX];
};

static struct win win;

static struct replay *fresh(uint32_t window, bool esn)
{
	memset(&win, 0, sizeof win);
	assert_int_equal(replay_init(&win.r, &win.top, win.words, window, esn), 0);
	return &win.r;
}

static void test_sizes(void **state)
{
	struct replay r;
	uint64_t top = 0, word = 0;

	assert_int_equal(replay_words(64), 2);
	assert_int_equal(replay_words(128), 4);
	assert_int_equal(replay_words(192), 4);
	assert_int_equal(replay_words(4096), 128);
	assert_int_equal(replay_words(65536), 2048);
	assert_int_equal(replay_init(&r, &top, &word, 0, true), -EINVAL);
	assert_int_equal(replay_init(&r, &top, &word, 32, true), -EINVAL);
	assert_int_equal(replay_init(&r, &top, &word, 100, true), -EINVAL);
	assert_int_equal(replay_init(&r, &top, &word, 65536 + 64, true), -EINVAL);
	for (uint32_t w = 64; w <= 65536; w += 64) {
		assert_true(replay_words(w) * 64 >= w + 64);
		assert_int_equal(replay_words(w) & (replay_words(w) - 1), 0);
	}
}

/* RFC 4303 A2.1: the window is top - W + 1 .. top. */
static void test_edges(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint64_t w = sizes[i], lost = 0;
		struct replay *r = fresh(sizes[i], true);

		assert_int_equal(replay_check(r, 0), DROP_REPLAY_OLD);
		assert_int_equal(replay_accept(r, 0, &lost), DROP_REPLAY_OLD);
		assert_int_equal(replay_accept(r, 1, &lost), DROP_NONE);
		assert_int_equal(replay_accept(r, 1, &lost), DROP_REPLAY_DUP);
		assert_int_equal(replay_accept(r, w + 10, &lost), DROP_NONE);
		assert_int_equal(lost, 9); /* 1 was seen, 2..10 left unseen */
		assert_int_equal(replay_check(r, 10), DROP_REPLAY_OLD);
		assert_int_equal(replay_check(r, 1), DROP_REPLAY_OLD);
		assert_int_equal(replay_check(r, 11), DROP_NONE);
		assert_int_equal(replay_accept(r, 11, &lost), DROP_NONE);
		assert_int_equal(replay_check(r, 11), DROP_REPLAY_DUP);
		assert_int_equal(replay_check(r, w + 10), DROP_REPLAY_DUP);
		assert_int_equal(replay_check(r, w + 11), DROP_NONE);
		assert_int_equal(lost, 9);
	}
}

static void test_end_without_esn(void **state)
{
	struct replay *r = fresh(64, false);
	uint64_t lost = 0;

	assert_int_equal(replay_accept(r, replay_seq(r, 0xfffffffe), &lost), DROP_NONE);
	assert_int_equal(lost, 0xfffffffeu - 64);
	assert_int_equal(replay_accept(r, replay_seq(r, 0xffffffff), &lost), DROP_NONE);
	assert_int_equal(replay_check(r, replay_seq(r, 0)), DROP_REPLAY_OLD);
	assert_int_equal(replay_check(r, replay_seq(r, 1)), DROP_REPLAY_OLD);
	assert_int_equal(replay_check(r, replay_seq(r, 0xffffffff)), DROP_REPLAY_DUP);
	assert_int_equal(win.top, 0xffffffff);
}

/* RFC 4303 A2.2, both cases, around the first wrap and around a later one. */
static void test_wrap(void **state)
{
	static const uint64_t his[] = {0, 1, 0x7fffffff, 0xfffffffe};

	for (size_t i = 0; i < ARRAY_SIZE(his); i++) {
		uint64_t hi = his[i] << 32, next = hi + (UINT64_C(1) << 32);
		struct replay *r = fresh(128, true);

		win.top = hi + 0xffffffff - 10; /* case A */
		assert_true(replay_seq(r, 0xffffffff) == hi + 0xffffffff);
		assert_true(replay_seq(r, 0xffffffff - 10 - 127) == hi + 0xffffffff - 10 - 127);
		assert_true(replay_seq(r, 0xffffffff - 10 - 128) == next + 0xffffffff - 10 - 128);
		assert_true(replay_seq(r, 0) == next);
		assert_int_equal(replay_accept(r, next + 5, NULL),
				 DROP_NONE); /* straddle: case B */
		assert_true(replay_seq(r, 0xfffffff0) == hi + 0xfffffff0);
		assert_true(replay_seq(r, 4) == next + 4);
		assert_true(replay_seq(r, 0x80000000) == next + 0x80000000);
		assert_int_equal(replay_accept(r, hi + 0xfffffff8, NULL), DROP_NONE);
		assert_int_equal(replay_check(r, hi + 0xfffffff8), DROP_REPLAY_DUP);
		assert_int_equal(replay_accept(r, next, NULL), DROP_NONE);
		assert_int_equal(replay_check(r, next + 5 - 128), DROP_REPLAY_OLD);
		assert_int_equal(replay_check(r, next + 5 - 127), DROP_NONE);
	}
	for (uint64_t lo = 126; lo <= 129; lo++) { /* where case B becomes case A */
		fresh(128, true);
		win.top = (UINT64_C(5) << 32) + lo;
		assert_true(replay_seq(&win.r, 0xffffffff) ==
			    (lo < 127 ? UINT64_C(4) << 32 : UINT64_C(5) << 32) + 0xffffffff);
		assert_true(replay_seq(&win.r, 0) ==
			    (lo <= 127 ? UINT64_C(5) << 32 : UINT64_C(6) << 32));
	}
	/* nothing lies below the first subspace */
	assert_true(replay_seq(fresh(4096, true), 0xfffffff0) == 0xfffffff0);
	/* and nothing above the last */
	fresh(64, true);
	win.top = UINT64_MAX;
	assert_int_equal(replay_check(&win.r, replay_seq(&win.r, 3)), DROP_REPLAY_OLD);
}

static void test_lost(void **state)
{
	struct replay *r = fresh(64, true);
	uint64_t lost = 0;

	for (uint64_t s = 1; s <= 100; s++)
		if (s != 50)
			assert_int_equal(replay_accept(r, s, &lost), DROP_NONE);
	assert_int_equal(lost, 0); /* a hole counts only once it has left */
	assert_int_equal(replay_accept(r, 114, &lost), DROP_NONE);
	assert_int_equal(lost, 1);
	assert_int_equal(replay_accept(r, 1000, &lost), DROP_NONE);
	assert_int_equal(lost, 1 + 13 + (1000 - 64 - 114)); /* 101..113, then 115..936 */
	assert_int_equal(replay_accept(r, 1000 + 64, &lost), DROP_NONE);
	assert_int_equal(lost, 1 + 13 + (1000 - 64 - 114) + 63);
}

/* The words outlive their owner; a new one goes on where the old one stopped. */
static void test_adoption(void **state)
{
	struct replay *r = fresh(128, true), later;
	uint64_t lost = 0;

	for (uint64_t s = 900; s <= 1000; s += 2)
		assert_int_equal(replay_accept(r, s, NULL), DROP_NONE);
	memset(&later, 0xee, sizeof later);
	assert_int_equal(replay_init(&later, &win.top, win.words, 128, true), 0);
	for (uint64_t s = 900; s <= 1000; s++)
		assert_int_equal(replay_check(&later, s), s % 2 ? DROP_NONE : DROP_REPLAY_DUP);
	assert_int_equal(replay_check(&later, 872), DROP_REPLAY_OLD);
	assert_int_equal(replay_accept(&later, 1128, &lost), DROP_NONE);
	assert_int_equal(lost, 128 - 51 + (900 - 873) - 27); /* 873..1000 less the 51 seen */
}

/* After the kernel's ESP all words say seen: up to top that holds, above it nothing was, in whatever order it comes. */
static void test_all_seen(void **state)
{
	for (uint64_t top = 1000; top < 1000 + 64; top++) {
		struct replay *r = fresh(128, true);

		win.top = top;
		memset(win.words, 0xff, r->n_words * sizeof *win.words);
		replay_trim(r);
		assert_int_equal(replay_check(r, top), DROP_REPLAY_DUP);
		assert_int_equal(replay_check(r, top - 100), DROP_REPLAY_DUP);
		for (uint64_t s = 100; s > 0; s--)
			assert_int_equal(replay_accept(r, top + s, NULL), DROP_NONE);
		for (uint64_t s = 100; s > 0; s--)
			assert_int_equal(replay_accept(r, top + s, NULL), DROP_REPLAY_DUP);
	}
}

static void test_raise(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct replay *r = fresh(sizes[i], true);
		uint64_t lost = 0, base = 1000003;

		assert_int_equal(replay_accept(r, 5, &lost), DROP_NONE);
		replay_raise(r, 0);
		assert_int_equal(replay_check(r, 4), DROP_NONE);
		replay_raise(r, base);
		assert_true(win.top == base);
		for (uint64_t s = base - sizes[i] - 2; s <= base; s++)
			assert_int_not_equal(replay_check(r, s), DROP_NONE);
		for (uint64_t s = base + 1; s <= base + 60; s += 3)
			assert_int_equal(replay_accept(r, s, &lost), DROP_NONE);
		assert_int_equal(replay_check(r, base + 8), DROP_NONE);
		replay_raise(r, base + 30); /* below top: what is above keeps its state */
		assert_int_equal(replay_check(r, base + 30), DROP_REPLAY_DUP);
		assert_int_equal(replay_check(r, base + 29), DROP_REPLAY_DUP);
		assert_int_equal(replay_check(r, base + 32), DROP_NONE);
		assert_int_equal(replay_check(r, base + 31), DROP_REPLAY_DUP);
		replay_raise(r, 7);
		assert_int_equal(replay_check(r, base + 32), DROP_NONE);
		assert_int_equal(lost, 0);
		assert_true(win.top == base + 58);
	}
}

/* --- random operations ------------------------------------------------------------------------ */

struct run {
	struct model m;
	uint64_t lost, model_lost; /* window's count; model's, up to the last raise */
	uint64_t n_new, n_dup, n_old, n_raise;
};

/* A number some sender or attacker might put on the wire next. */
static uint64_t pick(const struct model *m)
{
	uint64_t w = m->window, top = m->top, back;

	switch (rig_below(16)) {
	case 0 ... 4:
		return top + 1;
	case 5:
		return top + 1 + rig_below(8);
	case 6:
		return top + 1 + rig_below(w / 2);
	case 7:
		return rig_below(64) ? top + 1 + rig_below(200) : top + rig_below(3 * w);
	case 8:
		return rig_below(500) ? top + 2 : top + rig_below(UINT64_C(1) << 22);
	case 9:
		back = w - 1;
		break;
	case 10:
		back = w;
		break;
	case 11:
		back = w + rig_below(1u << 20);
		break;
	case 12:
		return rig_below(4) ? top : rig_below(2);
	default:
		back = rig_below(w);
	}
	return top > back ? top - back : 0;
}

static void same_window(const struct run *u)
{
	uint64_t from = u->m.top > u->m.window + 2 ? u->m.top - u->m.window - 2 : 0;

	for (uint64_t s = from; s <= u->m.top + 2; s++)
		assert_int_equal(replay_check(&win.r, s), model_check(&u->m, s));
	assert_true(u->lost == u->model_lost + model_lost(&u->m));
}

static void one(struct run *u)
{
	struct replay *r = &win.r;
	uint64_t s = pick(&u->m), before, lost = u->lost;
	enum drop want;

	if (!u->m.esn && s > UINT32_MAX)
		s = UINT32_MAX - rig_below(1000);
	want = model_check(&u->m, s);
	before = win.top;
	assert_int_equal(replay_check(r, s), want);
	u->n_old += want == DROP_REPLAY_OLD;
	assert_true(replay_seq(r, (uint32_t)s) == model_seq(&u->m, (uint32_t)s));
	if (replay_seq(r, (uint32_t)s) != s)
		return; /* its ICV would fail */
	if (rig_below(16) == 0)
		return; /* forged: never accepted, and must have left no trace */
	assert_int_equal(replay_accept(r, s, &u->lost), want);
	assert_int_equal(model_accept(&u->m, s), want);
	assert_true(win.top == u->m.top &&
		    (want == DROP_NONE || (win.top == before && lost == u->lost)));
	u->n_new += want == DROP_NONE;
	u->n_dup += want == DROP_REPLAY_DUP;
}

static void raise_both(struct run *u, uint64_t seq)
{
	replay_raise(&win.r, seq);
	u->model_lost += model_raise(&u->m, seq);
	u->n_raise++;
}

static void random_run(uint32_t window, bool esn, uint64_t start, uint64_t ops)
{
	struct run u = {0};

	fresh(window, esn);
	model_init(&u.m, window, esn, ops);
	if (start)
		raise_both(&u, start);
	for (uint64_t i = 0; i < ops; i++) {
		one(&u);
		if (rig_below(100000) == 0 && u.m.top > window &&
		    (esn || u.m.top < UINT32_MAX - 200000))
			raise_both(&u, u.m.top + rig_below(3 * window) - window);
		if (rig_below(50000) == 0) /* a new owner */
			assert_int_equal(replay_init(&win.r, &win.top, win.words, window, esn), 0);
		if (rig_below(100000) == 0)
			same_window(&u);
	}
	same_window(&u);
	printf("W %5u esn %d from %#llx to %#llx: new %llu dup %llu old %llu raised %llu lost "
	       "%llu\n",
	       window, esn, (unsigned long long)start, (unsigned long long)u.m.top,
	       (unsigned long long)u.n_new, (unsigned long long)u.n_dup,
	       (unsigned long long)u.n_old, (unsigned long long)u.n_raise,
	       (unsigned long long)u.lost);
	assert_true(u.n_new && u.n_dup && u.n_old);
	if (esn && start)
		assert_true(u.m.top >> 32 != start >> 32); /* the run did cross a subspace */
	model_free(&u.m);
}

static void test_random(void **state)
{
	uint64_t ops = rig_env("REPLAY_OPS", 10000000) / (ARRAY_SIZE(sizes) * 4);

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		random_run(sizes[i], false, 0, ops);
		random_run(sizes[i], false, UINT32_MAX - ops / 2, ops);
		random_run(sizes[i], true, 0, ops);
		random_run(sizes[i], true, (UINT64_C(6) << 32) - 20000, ops);
	}
}

/* --- crash at any instruction ----------------------------------------------------------------- */

struct crash {
	uint64_t top, words[WORDS_MAX];
	uint8_t taken[2048]; /* by number: given to the user before the crash */
};

/* What a new owner of these bytes would accept must not contain anything already taken, nor, from
 * the moment top says so, anything raised over. */
static void check_snapshot(struct crash *c, uint32_t window, uint64_t raised)
{
	struct replay r;

	assert_int_equal(replay_init(&r, &c->top, c->words, window, true), 0);
	for (uint64_t s = 1; s < ARRAY_SIZE(c->taken); s++)
		if (c->taken[s] || (raised && c->top >= raised && s <= raised))
			assert_int_not_equal(replay_check(&r, s), DROP_NONE);
}

static void crash_child(struct crash *c, uint32_t window, uint64_t seq, bool raise_it)
{
	struct replay r;

	if (replay_init(&r, &c->top, c->words, window, true) ||
	    ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		_exit(1);
	raise(SIGSTOP);
	if (raise_it)
		replay_raise(&r, seq);
	else
		replay_accept(&r, seq, NULL);
	raise(SIGSTOP);
	_exit(0);
}

/* Single-step a child through one slide; look at the window after every instruction. */
static void crash_everywhere(struct crash *c, uint32_t window, uint64_t seq, bool raise_it)
{
	unsigned int steps = 0, changes = 0;
	uint64_t last = c->top;
	int status, sig;
	pid_t pid = fork();

	if (!pid)
		crash_child(c, window, seq, raise_it);
	assert_true(pid > 0 && waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
	for (;; steps++) {
		assert_true(steps < 1000000);
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		assert_true(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
		sig = WSTOPSIG(status);
		if (sig == SIGSTOP && c->top >= seq)
			break;
		changes += c->top != last;
		last = c->top;
		check_snapshot(c, window, raise_it ? seq : 0);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	assert_true(steps > 20 && changes == 1);
}

static void test_crash(void **state)
{
	static const struct {
		uint64_t jump;
		bool raise_it;
	} cases[] = {{1, false},   {20, false}, {64, false}, {100, false}, {300, false},
		     {900, false}, {40, true},  {130, true}, {700, true}};
	struct crash *c =
		mmap(NULL, sizeof *c, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(c, MAP_FAILED);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct replay r;
		uint64_t top = 777;

		memset(c, 0, sizeof *c);
		assert_int_equal(replay_init(&r, &c->top, c->words, 128, true), 0);
		for (uint64_t s = 300; s <= top; s++)
			if (rig_below(3))
				c->taken[s] = !replay_accept(&r, s, NULL);
		c->taken[top] |= !replay_accept(&r, top, NULL);
		crash_everywhere(c, 128, top + cases[i].jump, cases[i].raise_it);
	}
	munmap(c, sizeof *c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_end_without_esn),
		cmocka_unit_test(test_wrap),
		cmocka_unit_test(test_lost),
		cmocka_unit_test(test_adoption),
		cmocka_unit_test(test_all_seen),
		cmocka_unit_test(test_raise),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_crash),
	};

	rig_seed("replay_test");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
