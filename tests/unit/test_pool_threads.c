/*
 * The pool under threads.  Each test runs a few threads over one small pool for a
 * fixed number of rounds and checks, from inside, a fact that a lost update, a
 * torn read or a double hand-out would break.  A lost wake-up or starvation shows
 * as the test's time-out.
 */
#include "config.h"

#include "tests/unit/test_pool.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "tests/support/support.h"

#define WORDS 64u

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

START_TEST(free_list_head_differs_when_the_same_slot_is_on_top_again)
{
	struct free_list list;
	uint64_t before;

	ck_ok(free_list_init(&list, 3));
	for (uint32_t i = 0; i < 3; i++)
		free_list_push(&list, i);
	before = atomic_load(&list.head);
	ck_assert_uint_eq(free_list_pop(&list), 2);
	ck_assert_uint_eq(free_list_pop(&list), 1);
	free_list_push(&list, 2);
	/* Whoever slept since `before` would install slot 1, which is taken. */
	ck_assert_uint_eq((uint32_t)atomic_load(&list.head), (uint32_t)before);
	ck_assert_uint_ne(atomic_load(&list.head), before);
	free_list_fini(&list);
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

/* ---- the table --------------------------------------------------------- */

/* Lets two threads go at the same instant; a barrier wakes them one by one. */
static void start_together(struct arena *a, uint32_t round)
{
	atomic_fetch_add(&a->arrived, 1);
	for (unsigned tries = 0; atomic_load(&a->arrived) < 2 * round; tries++)
		if (tries % 1024 == 1023)
			sched_yield();
}

static void *publish_same(void *ctx)
{
	struct arena *a = ctx;
	uint32_t slot, round = 0;
	int err;

	ck_ok(pool_lease(a->pool, &slot));
	pool_latch_exclusive(a->pool, slot);
	for (uint64_t i = 0; i < 4 * ROUNDS; i++) {
		/* Often a new chunk: its making is raced for, too. */
		frame_key key = tree_key(i % 4096 * 4096 + i / 4096);

		start_together(a, ++round);
		err = pool_publish(a->pool, key, slot);
		ck_assert(err == 0 || err == -EEXIST);
		if (!err)
			atomic_fetch_add(&a->winners, 1);
		start_together(a, ++round);
		ck_assert_uint_eq(atomic_load(&a->winners), i + 1);
		ck_assert_uint_ne(pool_find(a->pool, key), POOL_NO_SLOT);
		start_together(a, ++round);
		if (!err)
			pool_withdraw(a->pool, key, slot);
	}
	pool_unlatch_exclusive(a->pool, slot);
	pool_release(a->pool, slot);
	return NULL;
}

START_TEST(publish_race_has_exactly_one_winner)
{
	static struct arena a;

	open_arena(&a, 8);
	run_threads(2, publish_same, &a);
	close_arena(&a);
}
END_TEST

static void *find_on_and_on(void *ctx)
{
	struct arena *a = ctx;

	while (!atomic_load(&a->is_over))
		for (unsigned i = 0; i < 1000; i++)
			ck_assert_uint_ne(pool_find(a->pool, tree_key(1)),
			    POOL_NO_SLOT);
	return NULL;
}

START_TEST(replaced_key_is_found_at_every_instant)
{
	static struct arena a;
	uint32_t slots[2];
	pthread_t thread;

	open_arena(&a, 8);
	slots[0] = test_pool_add(a.pool, tree_key(1));
	ck_ok(pool_lease(a.pool, &slots[1]));
	pool_latch_exclusive(a.pool, slots[0]);
	pool_latch_exclusive(a.pool, slots[1]);
	ck_ok(pthread_create(&thread, NULL, find_on_and_on, &a));
	for (unsigned i = 0; i < 50 * ROUNDS; i++)
		pool_replace(a.pool, tree_key(1), slots[i % 2],
		    slots[(i + 1) % 2]);
	atomic_store(&a.is_over, true);
	ck_ok(pthread_join(thread, NULL));
	pool_unlatch_exclusive(a.pool, slots[0]);
	pool_unlatch_exclusive(a.pool, slots[1]);
	pool_release(a.pool, slots[1]);
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
		atomic_fetch_add(&a->winners, 1);
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
    uint32_t reads)
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
	for (uint64_t round = 1; round <= 2000 || atomic_load(&a->winners) < reads;
	    round++)
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

	read_while_changing(read_key_optimistically, &a, 2000);
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

static void *evict_on_and_on(void *ctx)
{
	struct arena *a = ctx;
	uint32_t slot;

	while (!atomic_load(&a->is_over))
		if (pool_lease(a->pool, &slot) == 0)
			pool_release(a->pool, slot);
	return NULL;
}

START_TEST(pin_wins_or_loses_against_the_clock_but_never_both)
{
	static struct arena a;
	uint32_t slots[7], slot;
	pthread_t thread;

	open_arena(&a, 8);
	for (unsigned i = 0; i < 7; i++)
		ck_ok(pool_lease(a.pool, &slots[i]));
	ck_ok(pthread_create(&thread, NULL, evict_on_and_on, &a));
	for (unsigned i = 0; i < 10 * ROUNDS; i++) {
		slot = pool_latch_key_shared(a.pool, tree_key(1));
		if (slot == POOL_NO_SLOT) {
			if (pool_lease(a.pool, &slot))
				continue;
			pool_latch_exclusive(a.pool, slot);
			ck_ok(pool_publish(a.pool, tree_key(1), slot));
			pool_unlatch_exclusive(a.pool, slot);
			continue;
		}
		pool_pin(a.pool, slot);
		pool_unlatch_shared(a.pool, slot);
		for (unsigned look = 0; look < 50; look++)
			ck_assert(pool_is_owner(a.pool, slot, tree_key(1)));
		pool_unpin(a.pool, slot);
	}
	atomic_store(&a.is_over, true);
	ck_ok(pthread_join(thread, NULL));
	for (unsigned i = 0; i < 7; i++)
		pool_release(a.pool, slots[i]);
	close_arena(&a);
}
END_TEST

TCase *pool_thread_tests(void)
{
	TCase *tc = tcase_create("threads");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, free_list_hands_out_no_slot_twice_and_loses_none);
	tcase_add_test(tc, free_list_head_differs_when_the_same_slot_is_on_top_again);
	tcase_add_test(tc, leases_of_threads_never_overlap);
	tcase_add_test(tc, waiters_for_the_only_slot_are_all_served);
	tcase_add_test(tc, publish_race_has_exactly_one_winner);
	tcase_add_test(tc, replaced_key_is_found_at_every_instant);
	tcase_add_test(tc, replaced_key_is_always_there);
	tcase_add_test(tc, optimistic_read_that_validates_is_whole);
	tcase_add_test(tc, latecomer_notices_that_the_frame_is_gone);
	tcase_add_test(tc, pinned_frames_stay_while_others_are_evicted);
	tcase_add_test(tc, pin_wins_or_loses_against_the_clock_but_never_both);
	return tc;
}
