/*
 * The latch under threads: exclusion, versions, and that nobody starves.  A lost
 * wake-up or starvation shows as the test's time-out.
 */
#include "config.h"

#include "tests/unit/test_pool.h"

#include <sched.h>

#include "base/futex.h"
#include "tests/support/support.h"

static void *add_one(void *ctx)
{
	struct arena *a = ctx;

	for (unsigned round = 0; round < ROUNDS; round++) {
		if (round % 3 == 0) {
			uint64_t before, after;

			pool_latch_shared(a->pool, a->slot);
			before = a->plain;
			sched_yield();
			after = a->plain;
			pool_unlatch_shared(a->pool, a->slot);
			ck_assert_uint_eq(before, after);
			continue;
		}
		pool_latch_exclusive(a->pool, a->slot);
		a->plain++;
		pool_unlatch_exclusive(a->pool, a->slot);
	}
	return NULL;
}

START_TEST(latch_excludes_and_counts_versions)
{
	static struct arena a;
	uint64_t first, last;

	open_arena(&a, 8);
	a.slot = test_pool_add(a.pool, tree_key(1));
	ck_assert(pool_read_begin(a.pool, a.slot, &first));
	run_threads(THREADS, add_one, &a);
	ck_assert(pool_read_begin(a.pool, a.slot, &last));
	ck_assert_uint_eq(last - first, a.plain);
	ck_assert_uint_eq(a.plain, THREADS * (ROUNDS - (ROUNDS + 2) / 3));
	close_arena(&a);
}
END_TEST

/* Readers whose holds overlap: without help the latch is never free. */
static void *read_on_and_on(void *ctx)
{
	struct arena *a = ctx;

	while (!atomic_load(&a->is_over)) {
		pool_latch_shared(a->pool, a->slot);
		nap_us(500);
		pool_unlatch_shared(a->pool, a->slot);
	}
	return NULL;
}

static void *write_on_and_on(void *ctx)
{
	struct arena *a = ctx;

	while (!atomic_load(&a->is_over)) {
		pool_latch_exclusive(a->pool, a->slot);
		nap_us(500);
		pool_unlatch_exclusive(a->pool, a->slot);
	}
	return NULL;
}

/* Takes the latch 100 times against a crowd that never stops. */
static void against_crowd(void *(*crowd)(void *),
    void (*latch)(struct pool *, uint32_t),
    void (*unlatch)(struct pool *, uint32_t))
{
	static struct arena a;
	pthread_t threads[6];

	open_arena(&a, 8);
	a.slot = test_pool_add(a.pool, tree_key(1));
	for (unsigned i = 0; i < 6; i++)
		ck_ok(pthread_create(&threads[i], NULL, crowd, &a));
	for (unsigned i = 0; i < 100; i++) {
		latch(a.pool, a.slot);
		unlatch(a.pool, a.slot);
	}
	atomic_store(&a.is_over, true);
	for (unsigned i = 0; i < 6; i++)
		ck_ok(pthread_join(threads[i], NULL));
	close_arena(&a);
}

START_TEST(writer_gets_in_under_a_stream_of_readers)
{
	against_crowd(read_on_and_on, pool_latch_exclusive,
	    pool_unlatch_exclusive);
}
END_TEST

START_TEST(reader_gets_in_under_a_stream_of_writers)
{
	against_crowd(write_on_and_on, pool_latch_shared, pool_unlatch_shared);
}
END_TEST

START_TEST(writer_gets_in_under_a_stream_of_writers)
{
	against_crowd(write_on_and_on, pool_latch_exclusive,
	    pool_unlatch_exclusive);
}
END_TEST

static void *hold_exclusively(void *ctx)
{
	struct arena *a = ctx;

	pool_latch_exclusive(a->pool, a->slot);
	while (!atomic_load(&a->is_over))
		nap_us(100);
	pool_unlatch_exclusive(a->pool, a->slot);
	return NULL;
}

START_TEST(sleeper_that_lost_many_rounds_goes_before_newcomers)
{
	static struct arena a;
	_Atomic uint64_t *latch;
	pthread_t thread;

	open_arena(&a, 8);
	a.slot = test_pool_add(a.pool, tree_key(1));
	latch = &pool_slot(a.pool, a.slot)->latch;
	pool_latch_exclusive(a.pool, a.slot);
	ck_ok(pthread_create(&thread, NULL, hold_exclusively, &a));
	/* Woken in vain until it complains. */
	while (!(atomic_load(latch) & LATCH_STARVED)) {
		futex_wake((_Atomic uint32_t *)latch, INT32_MAX);
		futex_wake((_Atomic uint32_t *)latch + 1, INT32_MAX);
		nap_us(100);
	}
	pool_unlatch_exclusive(a.pool, a.slot);
	/* It has the latch, or nobody else gets it. */
	for (unsigned i = 0; i < 1000; i++)
		ck_assert(!pool_try_latch_exclusive(a.pool, a.slot));
	atomic_store(&a.is_over, true);
	ck_ok(pthread_join(thread, NULL));
	ck_assert(!(atomic_load(latch) & LATCH_STARVED));
	close_arena(&a);
}
END_TEST

static void *read_once(void *ctx)
{
	struct arena *a = ctx;

	pool_latch_shared(a->pool, a->slot);
	atomic_fetch_add(&a->arrived, 1);
	pool_unlatch_shared(a->pool, a->slot);
	return NULL;
}

START_TEST(waiting_writer_holds_new_readers_off)
{
	static struct arena a;
	pthread_t writer, reader;

	open_arena(&a, 8);
	a.slot = test_pool_add(a.pool, tree_key(1));
	pool_latch_shared(a.pool, a.slot);
	ck_ok(pthread_create(&writer, NULL, hold_exclusively, &a));
	while (!(atomic_load(&pool_slot(a.pool, a.slot)->latch) &
		LATCH_WRITER_WAITS))
		nap_us(100);
	ck_ok(pthread_create(&reader, NULL, read_once, &a));
	nap_us(20000); /* time to do wrong; right at any speed */
	ck_assert_uint_eq(atomic_load(&a.arrived), 0);
	pool_unlatch_shared(a.pool, a.slot);
	atomic_store(&a.is_over, true);
	ck_ok(pthread_join(writer, NULL));
	ck_ok(pthread_join(reader, NULL));
	ck_assert_uint_eq(atomic_load(&a.arrived), 1);
	close_arena(&a);
}
END_TEST

START_TEST(newcomer_does_not_pass_who_has_lost_many_rounds)
{
	static struct arena a;
	_Atomic uint64_t *latch;

	open_arena(&a, 8);
	a.slot = test_pool_add(a.pool, tree_key(1));
	latch = &pool_slot(a.pool, a.slot)->latch;
	atomic_fetch_or(latch, LATCH_STARVED);
	ck_assert(!pool_try_latch_exclusive(a.pool, a.slot));
	atomic_fetch_and(latch, ~LATCH_STARVED);
	ck_assert(pool_try_latch_exclusive(a.pool, a.slot));
	pool_unlatch_exclusive(a.pool, a.slot);
	close_arena(&a);
}
END_TEST

TCase *pool_latch_tests(void)
{
	TCase *tc = tcase_create("latches");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, latch_excludes_and_counts_versions);
	tcase_add_test(tc, writer_gets_in_under_a_stream_of_readers);
	tcase_add_test(tc, reader_gets_in_under_a_stream_of_writers);
	tcase_add_test(tc, writer_gets_in_under_a_stream_of_writers);
	tcase_add_test(tc, sleeper_that_lost_many_rounds_goes_before_newcomers);
	tcase_add_test(tc, newcomer_does_not_pass_who_has_lost_many_rounds);
	tcase_add_test(tc, waiting_writer_holds_new_readers_off);
	return tc;
}
