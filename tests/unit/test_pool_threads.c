/*
 * The pool under threads.  Each test runs a few threads over one small pool for a
 * fixed number of rounds and checks, from inside, a fact that a lost update, a
 * torn read or a double hand-out would break.  A lost wake-up or starvation shows
 * as the test's time-out.
 */
#include "config.h"

#include "tests/unit/test_pool.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pool/pool_internal.h"
#include "tests/support/support.h"

#define THREADS 4u
#define WORDS	64u

#ifdef SANITIZE_THREAD
#define ROUNDS 3000u
#else
#define ROUNDS 20000u
#endif

/* What the threads of one test share. */
struct arena {
	struct pool *pool;
	uint32_t slot;
	_Atomic bool is_over;
	_Atomic uint32_t winners, next_number;
	pthread_barrier_t barrier;
	uint64_t plain; /* guarded by the latch under test */
	struct free_list list;
	_Atomic uint32_t holders[64];
};

static void run_threads(unsigned count, void *(*fn)(void *), struct arena *a)
{
	pthread_t threads[8];

	for (unsigned i = 0; i < count; i++)
		ck_ok(pthread_create(&threads[i], NULL, fn, a));
	for (unsigned i = 0; i < count; i++)
		ck_ok(pthread_join(threads[i], NULL));
}

static void open_arena(struct arena *a, uint32_t slots)
{
	*a = (struct arena){.pool = test_pool_open(slots)};
	ck_ok(pthread_barrier_init(&a->barrier, NULL, THREADS));
}

static void close_arena(struct arena *a)
{
	pthread_barrier_destroy(&a->barrier);
	test_pool_empty(a->pool);
	pool_close(a->pool);
}

/* ---- free list --------------------------------------------------------- */

static void *take_and_give(void *ctx)
{
	struct arena *a = ctx;
	uint32_t held[3];

	for (unsigned round = 0; round < ROUNDS; round++) {
		unsigned count = 0;

		for (; count < 1 + round % 3; count++) {
			held[count] = free_list_pop(&a->list);
			if (held[count] == POOL_NO_SLOT)
				break;
			ck_assert_uint_eq(
			    atomic_exchange(&a->holders[held[count]], 1), 0);
		}
		while (count-- > 0) {
			atomic_store(&a->holders[held[count]], 0);
			free_list_push(&a->list, held[count]);
		}
	}
	return NULL;
}

START_TEST(free_list_hands_out_no_slot_twice_and_loses_none)
{
	static struct arena a;
	uint64_t seen = 0;
	uint32_t slot;

	/* Few slots: the same ones come and go, as ABA needs it. */
	ck_ok(free_list_init(&a.list, 5));
	ck_assert_uint_eq(free_list_pop(&a.list), POOL_NO_SLOT);
	for (uint32_t i = 0; i < 5; i++)
		free_list_push(&a.list, i);
	run_threads(THREADS, take_and_give, &a);
	while ((slot = free_list_pop(&a.list)) != POOL_NO_SLOT) {
		ck_assert(!(seen & BIT(slot)));
		seen |= BIT(slot);
	}
	ck_assert_uint_eq(seen, BIT(5) - 1);
	free_list_fini(&a.list);
}
END_TEST

/* Leases for writing, with eviction of each other's frames, and waits. */
static void *lease_publish(void *ctx)
{
	struct arena *a = ctx;
	uint32_t token, slot;

	for (unsigned round = 0; round < 300; round++) {
		frame_key key = tree_key(atomic_fetch_add(&a->next_number, 1));

		token = pool_wait_token(a->pool);
		while (pool_lease(a->pool, &slot)) {
			pool_wait(a->pool, token, UINT64_MAX);
			token = pool_wait_token(a->pool);
		}
		ck_assert_uint_eq(atomic_exchange(&a->holders[slot], 1), 0);
		memset(pool_memory(a->pool, slot), (int)round, 4096);
		atomic_store(&a->holders[slot], 0);
		if (round % 4 == 0) {
			pool_release(a->pool, slot);
			continue;
		}
		pool_latch_exclusive(a->pool, slot);
		ck_ok(pool_publish(a->pool, key, slot));
		pool_unlatch_exclusive(a->pool, slot);
	}
	return NULL;
}

START_TEST(leases_of_threads_never_overlap)
{
	static struct arena a;
	struct pool_counters c;

	open_arena(&a, 8);
	run_threads(THREADS, lease_publish, &a);
	pool_counters(a.pool, &c);
	ck_assert_uint_gt(c.evictions, 0);
	ck_assert_uint_eq(c.free + c.live_tree, 8);
	close_arena(&a);
}
END_TEST

/* One slot for all: each turn needs the wake-up of the one before. */
static void *take_turns(void *ctx)
{
	struct arena *a = ctx;
	uint32_t token, slot;

	for (unsigned round = 0; round < 500; round++) {
		token = pool_wait_token(a->pool);
		while (pool_lease(a->pool, &slot)) {
			pool_wait(a->pool, token, UINT64_MAX);
			token = pool_wait_token(a->pool);
		}
		a->plain++;
		pool_release(a->pool, slot);
	}
	return NULL;
}

START_TEST(waiters_for_the_only_slot_are_all_served)
{
	static struct arena a;
	uint32_t slots[7];

	open_arena(&a, 8);
	for (unsigned i = 0; i < 7; i++)
		ck_ok(pool_lease(a.pool, &slots[i]));
	run_threads(THREADS, take_turns, &a);
	ck_assert_uint_eq(a.plain, THREADS * 500);
	for (unsigned i = 0; i < 7; i++)
		pool_release(a.pool, slots[i]);
	close_arena(&a);
}
END_TEST

/* ---- latches ----------------------------------------------------------- */

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

static void nap_us(unsigned us)
{
	nanosleep(&(struct timespec){.tv_nsec = us * 1000L}, NULL);
}

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

/* ---- the table --------------------------------------------------------- */

static void *publish_same(void *ctx)
{
	struct arena *a = ctx;
	uint32_t slot;
	int err;

	for (unsigned round = 0; round < 200; round++) {
		ck_ok(pool_lease(a->pool, &slot));
		pool_latch_exclusive(a->pool, slot);
		pthread_barrier_wait(&a->barrier);
		/* A new chunk every time: its making is raced for, too. */
		err = pool_publish(a->pool, tree_key(round * 4096ull), slot);
		ck_assert(err == 0 || err == -EEXIST);
		if (!err)
			atomic_fetch_add(&a->winners, 1);
		pthread_barrier_wait(&a->barrier);
		ck_assert_uint_eq(atomic_load(&a->winners), round + 1);
		if (!err)
			pool_withdraw(a->pool, tree_key(round * 4096ull), slot);
		pool_unlatch_exclusive(a->pool, slot);
		pool_release(a->pool, slot);
		pthread_barrier_wait(&a->barrier);
	}
	return NULL;
}

START_TEST(publish_race_has_exactly_one_winner)
{
	static struct arena a;

	open_arena(&a, 8);
	run_threads(THREADS, publish_same, &a);
	close_arena(&a);
}
END_TEST

/* Every image of the key is a frame filled with one number. */
static void fill(struct pool *pool, uint32_t slot, uint64_t value)
{
	_Atomic uint64_t *words = pool_memory(pool, slot);

	for (unsigned i = 0; i < WORDS; i++)
		atomic_store_explicit(&words[i], value, memory_order_relaxed);
}

static bool is_filled(struct pool *pool, uint32_t slot, uint64_t *ret_value)
{
	_Atomic uint64_t *words = pool_memory(pool, slot);
	bool is_same = true;

	*ret_value = atomic_load_explicit(&words[0], memory_order_relaxed);
	for (unsigned i = 1; i < WORDS; i++)
		is_same &= atomic_load_explicit(&words[i],
			       memory_order_relaxed) == *ret_value;
	return is_same;
}

static void *read_key_shared(void *ctx)
{
	struct arena *a = ctx;
	uint64_t value, last = 0;
	uint32_t slot;

	while (!atomic_load(&a->is_over)) {
		slot = pool_latch_key_shared(a->pool, tree_key(1));
		ck_assert_uint_ne(slot, POOL_NO_SLOT);
		ck_assert(is_filled(a->pool, slot, &value));
		pool_unlatch_shared(a->pool, slot);
		ck_assert_uint_ge(value, last);
		last = value;
	}
	return NULL;
}

/* A read that validates must be whole and never older than the one before. */
static void *read_key_optimistically(void *ctx)
{
	struct arena *a = ctx;
	uint64_t version, value, last = 0;

	while (!atomic_load(&a->is_over)) {
		uint32_t slot = pool_find(a->pool, tree_key(1));
		bool is_same;

		ck_assert_uint_ne(slot, POOL_NO_SLOT);
		if (!pool_read_begin(a->pool, slot, &version) ||
		    !pool_is_owner(a->pool, slot, tree_key(1)))
			continue;
		is_same = is_filled(a->pool, slot, &value);
		if (!pool_read_validate(a->pool, slot, version))
			continue;
		ck_assert(is_same);
		ck_assert_uint_ge(value, last);
		last = value;
		atomic_fetch_add(&a->winners, 1);
	}
	return NULL;
}

/* Changes the key in place twice, then moves it to a fresh slot. */
static void change_key(struct arena *a, uint64_t round)
{
	uint32_t old, new;

	old = pool_latch_key_exclusive(a->pool, tree_key(1));
	ck_assert_uint_ne(old, POOL_NO_SLOT);
	fill(a->pool, old, round);
	pool_set_dirty_epoch(a->pool, old, 1);
	if (round % 3 != 0) {
		pool_unlatch_exclusive(a->pool, old);
		return;
	}
	ck_ok(pool_lease(a->pool, &new));
	/* The lease's content is its owner's alone: no latch yet. */
	fill(a->pool, new, UINT64_MAX);
	fill(a->pool, new, round);
	pool_latch_exclusive(a->pool, new);
	pool_replace(a->pool, tree_key(1), old, new);
	pool_set_dirty_epoch(a->pool, new, 1);
	pool_unlatch_exclusive(a->pool, new);
	pool_unlatch_exclusive(a->pool, old);
	fill(a->pool, old, UINT64_MAX);
	pool_release(a->pool, old);
}

static void read_while_changing(void *(*reader)(void *), struct arena *a,
    uint64_t rounds)
{
	pthread_t threads[2];

	open_arena(a, 8);
	a->slot = test_pool_add(a->pool, tree_key(1));
	pool_latch_exclusive(a->pool, a->slot);
	fill(a->pool, a->slot, 0);
	pool_set_dirty_epoch(a->pool, a->slot, 1);
	pool_unlatch_exclusive(a->pool, a->slot);
	for (unsigned i = 0; i < 2; i++)
		ck_ok(pthread_create(&threads[i], NULL, reader, a));
	for (uint64_t round = 1; round <= rounds; round++)
		change_key(a, round);
	atomic_store(&a->is_over, true);
	for (unsigned i = 0; i < 2; i++)
		ck_ok(pthread_join(threads[i], NULL));
	close_arena(a);
}

START_TEST(replaced_key_is_always_there)
{
	static struct arena a;

	read_while_changing(read_key_shared, &a, 2000);
}
END_TEST

START_TEST(optimistic_read_that_validates_is_whole)
{
	static struct arena a;

	read_while_changing(read_key_optimistically, &a, ROUNDS);
	ck_assert_uint_gt(a.winners, 0);
}
END_TEST

static void *latch_late(void *ctx)
{
	struct arena *a = ctx;

	pthread_barrier_wait(&a->barrier);
	for (;;) {
		uint32_t slot = pool_latch_key_shared(a->pool, tree_key(1));

		if (slot == POOL_NO_SLOT)
			break;
		pool_unlatch_shared(a->pool, slot);
	}
	ck_assert(atomic_load(&a->is_over));
	return NULL;
}

START_TEST(latecomer_notices_that_the_frame_is_gone)
{
	static struct arena a;
	pthread_t threads[THREADS - 1];
	uint32_t slot;

	open_arena(&a, 8);
	slot = test_pool_add(a.pool, tree_key(1));
	pool_latch_exclusive(a.pool, slot);
	for (unsigned i = 0; i < THREADS - 1; i++)
		ck_ok(pthread_create(&threads[i], NULL, latch_late, &a));
	pthread_barrier_wait(&a.barrier);
	nap_us(5000); /* lets them fall asleep; the fact holds anyway */
	atomic_store(&a.is_over, true);
	pool_withdraw(a.pool, tree_key(1), slot);
	pool_unlatch_exclusive(a.pool, slot);
	/* The number is used again at once, for another frame. */
	pool_latch_exclusive(a.pool, slot);
	ck_ok(pool_publish(a.pool, tree_key(2), slot));
	pool_unlatch_exclusive(a.pool, slot);
	for (unsigned i = 0; i < THREADS - 1; i++)
		ck_ok(pthread_join(threads[i], NULL));
	close_arena(&a);
}
END_TEST

/* Pins hold while other threads lease and evict everything else. */
static void *pin_and_look(void *ctx)
{
	struct arena *a = ctx;
	uint64_t number = atomic_fetch_add(&a->next_number, 1), value;
	uint32_t slot;

	for (unsigned round = 0; round < 200; round++) {
		slot = pool_latch_key_shared(a->pool, tree_key(number));
		if (slot == POOL_NO_SLOT) {
			while (pool_lease(a->pool, &slot))
				sched_yield();
			fill(a->pool, slot, number);
			pool_latch_exclusive(a->pool, slot);
			ck_ok(pool_publish(a->pool, tree_key(number), slot));
			pool_unlatch_exclusive(a->pool, slot);
			continue;
		}
		pool_pin(a->pool, slot);
		pool_unlatch_shared(a->pool, slot);
		sched_yield();
		ck_assert(pool_is_owner(a->pool, slot, tree_key(number)));
		ck_assert(is_filled(a->pool, slot, &value));
		ck_assert_uint_eq(value, number);
		pool_unpin(a->pool, slot);
		while (pool_lease(a->pool, &slot))
			sched_yield();
		fill(a->pool, slot, UINT64_MAX);
		pool_release(a->pool, slot);
	}
	return NULL;
}

START_TEST(pinned_frames_stay_while_others_are_evicted)
{
	static struct arena a;
	uint32_t slots[5];

	open_arena(&a, 8);
	for (unsigned i = 0; i < 5; i++)
		ck_ok(pool_lease(a.pool, &slots[i]));
	run_threads(THREADS, pin_and_look, &a);
	for (unsigned i = 0; i < 5; i++)
		pool_release(a.pool, slots[i]);
	close_arena(&a);
}
END_TEST

TCase *pool_thread_tests(void)
{
	TCase *tc = tcase_create("threads");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, free_list_hands_out_no_slot_twice_and_loses_none);
	tcase_add_test(tc, leases_of_threads_never_overlap);
	tcase_add_test(tc, waiters_for_the_only_slot_are_all_served);
	tcase_add_test(tc, latch_excludes_and_counts_versions);
	tcase_add_test(tc, writer_gets_in_under_a_stream_of_readers);
	tcase_add_test(tc, reader_gets_in_under_a_stream_of_writers);
	tcase_add_test(tc, writer_gets_in_under_a_stream_of_writers);
	tcase_add_test(tc, publish_race_has_exactly_one_winner);
	tcase_add_test(tc, replaced_key_is_always_there);
	tcase_add_test(tc, optimistic_read_that_validates_is_whole);
	tcase_add_test(tc, latecomer_notices_that_the_frame_is_gone);
	tcase_add_test(tc, pinned_frames_stay_while_others_are_evicted);
	return tc;
}
