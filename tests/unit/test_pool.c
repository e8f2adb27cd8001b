/*
 * The pool, one thread at a time: what a lease, a live slot, a latch, a pin and
 * the clock promise.  Small pools, so that every slot can be looked at.
 */
#include "config.h"

#include "tests/unit/test_pool.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/lock.h"
#include "tests/support/support.h"

#define SLOTS 8u
#define MS    1000000ull

struct pool *test_pool_open(uint32_t slots)
{
	struct pool_options options = {.slot_count = slots};
	struct pool *pool;

	ck_ok(pool_open(&options, &pool));
	return pool;
}

uint32_t test_pool_add(struct pool *pool, frame_key key)
{
	uint32_t slot;

	ck_ok(pool_lease(pool, &slot));
	pool_latch_exclusive(pool, slot);
	ck_ok(pool_publish(pool, key, slot));
	pool_unlatch_exclusive(pool, slot);
	return slot;
}

static void drop_slot(void *ctx, frame_key key, uint32_t slot)
{
	struct pool *pool = ctx;

	pool_latch_exclusive(pool, slot);
	pool_withdraw(pool, key, slot);
	pool_unlatch_exclusive(pool, slot);
	pool_release(pool, slot);
}

void test_pool_empty(struct pool *pool)
{
	pool_for_each(pool, FRAME_TREE, drop_slot, pool);
	pool_for_each(pool, FRAME_DATA, drop_slot, pool);
}

void run_threads(unsigned count, void *(*fn)(void *), struct arena *a)
{
	pthread_t threads[8];

	for (unsigned i = 0; i < count; i++)
		ck_ok(pthread_create(&threads[i], NULL, fn, a));
	for (unsigned i = 0; i < count; i++)
		ck_ok(pthread_join(threads[i], NULL));
}

void open_arena(struct arena *a, uint32_t slots)
{
	*a = (struct arena){.pool = test_pool_open(slots)};
	ck_ok(pthread_barrier_init(&a->barrier, NULL, THREADS));
}

void close_arena(struct arena *a)
{
	pthread_barrier_destroy(&a->barrier);
	test_pool_empty(a->pool);
	pool_close(a->pool);
}

void nap_us(unsigned us)
{
	nanosleep(&(struct timespec){.tv_nsec = us * 1000L}, NULL);
}

static struct pool_counters counters(struct pool *pool)
{
	struct pool_counters c;

	pool_counters(pool, &c);
	return c;
}

static void set_dirty(struct pool *pool, uint32_t slot, uint64_t epoch)
{
	pool_latch_exclusive(pool, slot);
	pool_set_dirty_epoch(pool, slot, epoch);
	pool_unlatch_exclusive(pool, slot);
}

static void pin(struct pool *pool, uint32_t slot)
{
	pool_latch_shared(pool, slot);
	pool_pin(pool, slot);
	pool_unlatch_shared(pool, slot);
}

static uint64_t resident_bytes(void)
{
	unsigned long size, resident;
	FILE *f = fopen("/proc/self/statm", "r");

	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fscanf(f, "%lu %lu", &size, &resident), 2);
	fclose(f);
	return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

START_TEST(pool_refuses_impossible_sizes)
{
	struct pool_options options = {.slot_count = SLOTS - 1};
	struct pool *pool = NULL;

	ck_assert_int_eq(pool_open(&options, &pool), -EINVAL);
	options.slot_count = UINT32_MAX;
	ck_assert_int_eq(pool_open(&options, &pool), -EINVAL);
	ck_assert_ptr_null(pool);
	pool_close(NULL);
}
END_TEST

START_TEST(slab_costs_memory_by_the_run)
{
	const uint64_t run = 8 * POOL_SLOT_BYTES;
	uint64_t before = resident_bytes();
	struct pool *pool = test_pool_open(2048);
	uint64_t opened = resident_bytes();
	uint32_t slot;

	ck_assert_uint_lt(opened, before + POOL_SLOT_BYTES);
	ck_assert_uint_eq(counters(pool).faulted, 0);
	ck_assert_uint_eq(counters(pool).free, 2048);
	ck_ok(pool_lease(pool, &slot));
	memset(pool_memory(pool, slot), 1, POOL_SLOT_BYTES);
	ck_assert_uint_eq(counters(pool).faulted, 8);
	/* The sanitizers keep shadow memory of what is used. */
	ck_assert_uint_lt(resident_bytes(), opened + 6 * run);
	ck_assert_uint_gt(resident_bytes(), opened + run / 2);
	pool_release(pool, slot);
	pool_close(pool);
}
END_TEST

START_TEST(memory_is_aligned_apart_and_guarded)
{
	struct pool *pool = test_pool_open(9);
	uint64_t sum = 0;
	uint32_t slot;

	for (uint32_t i = 0; i < 9; i++) {
		ck_ok(pool_lease(pool, &slot));
		memset(pool_memory(pool, slot), (int)slot, POOL_SLOT_BYTES);
	}
	ck_assert_int_eq(pool_lease(pool, &slot), -ENOBUFS);
	for (uint32_t i = 0; i < 9; i++) {
		const unsigned char *m = pool_memory(pool, i);

		ck_assert_uint_eq((uintptr_t)m % 4096, 0);
		ck_assert_uint_eq(m[0], i);
		ck_assert_uint_eq(m[POOL_SLOT_BYTES - 1], i);
	}
	for (uint32_t i = 0; i < 256 * 1024; i++)
		sum += ((const unsigned char *)pool_memory(pool, 8) +
		    POOL_SLOT_BYTES)[i];
	ck_assert_uint_eq(sum, 0);
	for (uint32_t i = 0; i < 9; i++)
		pool_release(pool, i);
	pool_close(pool);
}
END_TEST

START_TEST(published_frame_is_found_until_withdrawn)
{
	struct pool *pool = test_pool_open(SLOTS);
	frame_key tree = tree_key(7), data = frame_key_make(FRAME_DATA, 7);
	uint32_t a = test_pool_add(pool, tree), b = test_pool_add(pool, data);

	ck_assert_uint_eq(pool_find(pool, tree), a);
	ck_assert_uint_eq(pool_find(pool, data), b);
	ck_assert(pool_is_owner(pool, a, tree));
	ck_assert(!pool_is_owner(pool, a, data));
	ck_assert_uint_eq(pool_latch_key_exclusive(pool, tree), a);
	ck_assert(pool_is_latched_exclusive(pool, a));
	pool_withdraw(pool, tree, a);
	pool_unlatch_exclusive(pool, a);
	ck_assert(!pool_is_owner(pool, a, tree));
	ck_assert_uint_eq(pool_find(pool, tree), POOL_NO_SLOT);
	ck_assert_uint_eq(pool_latch_key_shared(pool, tree), POOL_NO_SLOT);
	pool_release(pool, a);
	test_pool_empty(pool);
	pool_close(pool);
}
END_TEST

START_TEST(second_publisher_keeps_its_lease)
{
	struct pool *pool = test_pool_open(SLOTS);
	uint32_t first = test_pool_add(pool, tree_key(1)), second;

	ck_ok(pool_lease(pool, &second));
	pool_latch_exclusive(pool, second);
	ck_assert_int_eq(pool_publish(pool, tree_key(1), second), -EEXIST);
	ck_assert(!pool_is_owner(pool, second, tree_key(1)));
	ck_ok(pool_publish(pool, tree_key(2), second));
	pool_unlatch_exclusive(pool, second);
	ck_assert_uint_eq(pool_find(pool, tree_key(1)), first);
	ck_assert_uint_eq(pool_find(pool, tree_key(2)), second);
	test_pool_empty(pool);
	pool_close(pool);
}
END_TEST

START_TEST(numbers_of_a_damaged_disk_are_never_found)
{
	static const uint64_t wild[] = {1ull << 24, (1ull << 24) + 5,
	    1ull << 32, (1ull << 32) + 5, 1ull << 62, ~(1ull << 63)};
	struct pool *pool = test_pool_open(SLOTS);
	uint32_t last = test_pool_add(pool, tree_key((1u << 24) - 1));
	uint32_t five = test_pool_add(pool, tree_key(5)), slot;

	ck_ok(pool_lease(pool, &slot));
	pool_latch_exclusive(pool, slot);
	for (size_t i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
		for (unsigned kind = 0; kind < 2; kind++) {
			frame_key key = frame_key_make(kind, wild[i]);

			ck_assert_uint_eq(pool_find(pool, key), POOL_NO_SLOT);
			ck_assert_uint_eq(pool_latch_key_shared(pool, key),
			    POOL_NO_SLOT);
			ck_assert_int_eq(pool_publish(pool, key, slot), -EINVAL);
			for (uint32_t s = 0; s < SLOTS; s++)
				ck_assert(!pool_is_owner(pool, s, key));
		}
	}
	pool_unlatch_exclusive(pool, slot);
	pool_release(pool, slot);
	ck_assert_uint_eq(pool_find(pool, tree_key((1u << 24) - 1)), last);
	ck_assert_uint_eq(pool_find(pool, tree_key(5)), five);
	test_pool_empty(pool);
	pool_close(pool);
}
END_TEST

START_TEST(eviction_takes_only_clean_unpinned_unlatched_frames)
{
	struct pool *pool = test_pool_open(SLOTS);
	uint32_t slots[SLOTS], got;

	for (uint32_t i = 0; i + 1 < SLOTS; i++)
		slots[i] = test_pool_add(pool, tree_key(i));
	ck_ok(pool_lease(pool, &slots[7]));
	set_dirty(pool, slots[0], 3);
	pin(pool, slots[1]);
	pool_latch_shared(pool, slots[2]);
	pool_latch_exclusive(pool, slots[3]);
	for (uint32_t i = 4; i < 7; i++) {
		ck_ok(pool_lease(pool, &got));
		ck_assert_uint_ge(got, slots[4]);
		ck_assert_uint_le(got, slots[6]);
		ck_assert_uint_eq(pool_find(pool, tree_key(got)), POOL_NO_SLOT);
		ck_assert_uint_eq(pool_dirty_epoch(pool, got), 0);
	}
	ck_assert_int_eq(pool_lease(pool, &got), -ENOBUFS);
	ck_assert_uint_eq(counters(pool).evictions, 3);
	for (uint32_t i = 0; i < 4; i++)
		ck_assert_uint_eq(pool_find(pool, tree_key(i)), slots[i]);
	set_dirty(pool, slots[0], 0);
	pool_unpin(pool, slots[1]);
	pool_unlatch_shared(pool, slots[2]);
	pool_unlatch_exclusive(pool, slots[3]);
	for (uint32_t i = 0; i < 4; i++)
		ck_ok(pool_lease(pool, &got));
	for (uint32_t i = 0; i < SLOTS; i++)
		pool_release(pool, i);
	pool_close(pool);
}
END_TEST

START_TEST(touched_frame_survives_one_turn_of_the_clock)
{
	struct pool *pool = test_pool_open(SLOTS);
	uint32_t got;

	for (uint32_t i = 0; i < SLOTS; i++)
		ck_assert_uint_eq(test_pool_add(pool, tree_key(i)), i);
	/* The first turn clears every bit, the second takes slot 0. */
	ck_ok(pool_lease(pool, &got));
	ck_assert_uint_eq(got, 0);
	pool_touch(pool, 1);
	ck_ok(pool_lease(pool, &got));
	ck_assert_uint_eq(got, 2);
	ck_assert_uint_eq(pool_latch_key_shared(pool, tree_key(3)), 3);
	pool_unlatch_shared(pool, 3);
	ck_ok(pool_lease(pool, &got));
	ck_assert_uint_eq(got, 4);
	/* Looking at counters, finding and listing are not uses. */
	(void)counters(pool);
	ck_assert_uint_eq(pool_find(pool, tree_key(5)), 5);
	ck_ok(pool_lease(pool, &got));
	ck_assert_uint_eq(got, 5);
	ck_ok(pool_lease(pool, &got));
	ck_ok(pool_lease(pool, &got));
	ck_ok(pool_lease(pool, &got));
	ck_assert_uint_eq(got, 1);
	for (uint32_t i = 0; i < SLOTS; i++)
		if (i != 3)
			pool_release(pool, i);
	test_pool_empty(pool);
	pool_close(pool);
}
END_TEST

START_TEST(free_slots_are_used_before_frames_are_evicted)
{
	struct pool *pool = test_pool_open(SLOTS);
	uint32_t a = test_pool_add(pool, tree_key(1)), got;

	for (uint32_t i = 0; i < 100; i++) {
		ck_ok(pool_lease(pool, &got));
		ck_assert_uint_ne(got, a);
		pool_release(pool, got);
	}
	ck_assert_uint_eq(counters(pool).evictions, 0);
	test_pool_empty(pool);
	pool_close(pool);
}
END_TEST

START_TEST(slot_released_while_pinned_is_free_after_the_last_unpin)
{
	struct pool *pool = test_pool_open(SLOTS);
	uint32_t slot = test_pool_add(pool, tree_key(1));
	char *memory = pool_memory(pool, slot);

	memory[100] = 'x';
	pin(pool, slot);
	pin(pool, slot);
	pool_latch_exclusive(pool, slot);
	pool_withdraw(pool, tree_key(1), slot);
	pool_unlatch_exclusive(pool, slot);
	pool_release(pool, slot);
	ck_assert_uint_eq(counters(pool).free, SLOTS - 1);
	ck_assert_int_eq(memory[100], 'x');
	pool_unpin(pool, slot);
	ck_assert_uint_eq(counters(pool).free, SLOTS - 1);
	pool_unpin(pool, slot);
	ck_assert_uint_eq(counters(pool).free, SLOTS);
	pool_close(pool);
}
END_TEST

START_TEST(new_lease_has_no_trace_of_the_old_frame)
{
	struct pool *pool = test_pool_open(SLOTS);
	uint32_t slot = test_pool_add(pool, frame_key_make(FRAME_DATA, 1)), got;

	pool_latch_exclusive(pool, slot);
	pool_blocks(pool, slot)->present[1] = 5;
	pool_set_dirty_epoch(pool, slot, 9);
	pool_withdraw(pool, frame_key_make(FRAME_DATA, 1), slot);
	pool_unlatch_exclusive(pool, slot);
	pool_release(pool, slot);
	ck_ok(pool_lease(pool, &got));
	ck_assert_uint_eq(got, slot);
	ck_assert_uint_eq(pool_blocks(pool, slot)->present[1], 0);
	ck_assert_uint_eq(pool_dirty_epoch(pool, slot), 0);
	pool_release(pool, slot);
	pool_close(pool);
}
END_TEST

START_TEST(version_changes_with_every_exclusive_release_only)
{
	struct pool *pool = test_pool_open(SLOTS);
	uint32_t slot = test_pool_add(pool, tree_key(1));
	uint64_t v, w;

	ck_assert(pool_read_begin(pool, slot, &v));
	pool_latch_shared(pool, slot);
	ck_assert(pool_read_validate(pool, slot, v));
	ck_assert(pool_read_begin(pool, slot, &w));
	ck_assert_uint_eq(v, w);
	ck_assert(!pool_try_latch_exclusive(pool, slot));
	pool_unlatch_shared(pool, slot);
	ck_assert(pool_read_validate(pool, slot, v));
	ck_assert(pool_try_latch_exclusive(pool, slot));
	ck_assert(!pool_try_latch_exclusive(pool, slot));
	ck_assert(!pool_read_validate(pool, slot, v));
	ck_assert(!pool_read_begin(pool, slot, &w));
	pool_unlatch_exclusive(pool, slot);
	ck_assert(!pool_read_validate(pool, slot, v));
	ck_assert(pool_read_begin(pool, slot, &w));
	ck_assert_uint_eq(w, v + 1);
	test_pool_empty(pool);
	/* The slot is free now; its version went on. */
	ck_assert(!pool_read_validate(pool, slot, w));
	pool_close(pool);
}
END_TEST

START_TEST(counters_count_states_hits_and_misses)
{
	struct pool *pool = test_pool_open(SLOTS);
	uint32_t tree = test_pool_add(pool, tree_key(1)), leased;
	struct pool_counters c;

	test_pool_add(pool, frame_key_make(FRAME_DATA, 1));
	test_pool_add(pool, frame_key_make(FRAME_DATA, 2));
	ck_ok(pool_lease(pool, &leased));
	set_dirty(pool, tree, 1);
	ck_assert_uint_eq(pool_latch_key_shared(pool, tree_key(1)), tree);
	pool_unlatch_shared(pool, tree);
	pool_latch_key_shared(pool, tree_key(9));
	pool_latch_key_exclusive(pool, tree_key(9));
	c = counters(pool);
	ck_assert_uint_eq(c.slots, SLOTS);
	ck_assert_uint_eq(c.free, SLOTS - 4);
	ck_assert_uint_eq(c.live_tree, 1);
	ck_assert_uint_eq(c.live_data, 2);
	ck_assert_uint_eq(c.dirty, 1);
	ck_assert_uint_eq(c.hits, 1);
	ck_assert_uint_eq(c.misses, 2);
	pool_release(pool, leased);
	test_pool_empty(pool);
	pool_close(pool);
}
END_TEST

START_TEST(wait_ends_at_once_when_something_happened_since_the_token)
{
	struct pool *pool = test_pool_open(SLOTS);
	uint32_t token, got;

	for (uint32_t i = 0; i < SLOTS; i++)
		test_pool_add(pool, tree_key(i));
	for (uint32_t i = 0; i < SLOTS; i++)
		set_dirty(pool, i, 1);
	pin(pool, 1);
	/* Each of these makes a slot available; the wait would be for ever. */
	token = pool_wait_token(pool);
	ck_assert_int_eq(pool_lease(pool, &got), -ENOBUFS);
	set_dirty(pool, 0, 0);
	pool_wait(pool, token, UINT64_MAX);
	ck_ok(pool_lease(pool, &got));
	token = pool_wait_token(pool);
	pool_release(pool, got);
	pool_wait(pool, token, UINT64_MAX);
	ck_ok(pool_lease(pool, &got));
	set_dirty(pool, 1, 0);
	token = pool_wait_token(pool);
	pool_unpin(pool, 1);
	pool_wait(pool, token, UINT64_MAX);
	pool_latch_shared(pool, 1);
	token = pool_wait_token(pool);
	pool_unlatch_shared(pool, 1);
	pool_wait(pool, token, UINT64_MAX);
	pool_release(pool, got);
	test_pool_empty(pool);
	pool_close(pool);
}
END_TEST

START_TEST(wait_sleeps_when_nothing_became_available)
{
	struct pool *pool = test_pool_open(SLOTS);
	uint32_t slot = test_pool_add(pool, tree_key(1));
	uint32_t token = pool_wait_token(pool);
	uint64_t start = monotonic_ns();

	/* A dirty frame that is unpinned and unlatched cannot be had. */
	pool_latch_exclusive(pool, slot);
	pool_set_dirty_epoch(pool, slot, 1);
	pool_pin(pool, slot);
	pool_unlatch_exclusive(pool, slot);
	pool_unpin(pool, slot);
	pool_wait(pool, token, 20 * MS);
	ck_assert_uint_ge(monotonic_ns() - start, 20 * MS);
	test_pool_empty(pool);
	pool_close(pool);
}
END_TEST

START_TEST(device_learns_of_the_slots)
{
	struct pool_options options = {.slot_count = 20};
	struct device *device;
	struct pool *pool;
	uint32_t slot;

	ck_ok(device_open_memory(8 * POOL_SLOT_BYTES, &device));
	options.device = device;
	ck_ok(pool_open(&options, &pool));
	for (uint32_t i = 0; i < 20; i++)
		ck_ok(pool_lease(pool, &slot));
	ck_ok(device_read(device, pool_memory(pool, slot), 4096, 0));
	ck_assert_int_eq(*(char *)pool_memory(pool, slot), 0);
	for (uint32_t i = 0; i < 20; i++)
		pool_release(pool, i);
	pool_close(pool);
	device_close(device);
}
END_TEST

START_TEST(close_aborts_on_a_forgotten_lease)
{
	struct pool *pool = test_pool_open(SLOTS);
	uint32_t slot;

	ck_ok(pool_lease(pool, &slot));
	pool_close(pool);
}
END_TEST

START_TEST(close_aborts_on_a_forgotten_latch)
{
	struct pool *pool = test_pool_open(SLOTS);

	pool_latch_shared(pool, test_pool_add(pool, tree_key(1)));
	pool_close(pool);
}
END_TEST

START_TEST(close_aborts_on_a_forgotten_pin)
{
	struct pool *pool = test_pool_open(SLOTS);

	pin(pool, test_pool_add(pool, tree_key(1)));
	pool_close(pool);
}
END_TEST

START_TEST(second_release_aborts)
{
	struct pool *pool = test_pool_open(SLOTS);
	uint32_t slot;

	ck_ok(pool_lease(pool, &slot));
	pool_release(pool, slot);
	pool_release(pool, slot);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("pool");
	TCase *tc = tcase_create("facts");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, pool_refuses_impossible_sizes);
	tcase_add_test(tc, slab_costs_memory_by_the_run);
	tcase_add_test(tc, memory_is_aligned_apart_and_guarded);
	tcase_add_test(tc, published_frame_is_found_until_withdrawn);
	tcase_add_test(tc, second_publisher_keeps_its_lease);
	tcase_add_test(tc, numbers_of_a_damaged_disk_are_never_found);
	tcase_add_test(tc, eviction_takes_only_clean_unpinned_unlatched_frames);
	tcase_add_test(tc, touched_frame_survives_one_turn_of_the_clock);
	tcase_add_test(tc, free_slots_are_used_before_frames_are_evicted);
	tcase_add_test(tc, slot_released_while_pinned_is_free_after_the_last_unpin);
	tcase_add_test(tc, new_lease_has_no_trace_of_the_old_frame);
	tcase_add_test(tc, version_changes_with_every_exclusive_release_only);
	tcase_add_test(tc, counters_count_states_hits_and_misses);
	tcase_add_test(tc, wait_ends_at_once_when_something_happened_since_the_token);
	tcase_add_test(tc, wait_sleeps_when_nothing_became_available);
	tcase_add_test(tc, device_learns_of_the_slots);
	tcase_add_test_raise_signal(tc, close_aborts_on_a_forgotten_lease, SIGABRT);
	tcase_add_test_raise_signal(tc, close_aborts_on_a_forgotten_latch, SIGABRT);
	tcase_add_test_raise_signal(tc, close_aborts_on_a_forgotten_pin, SIGABRT);
	tcase_add_test_raise_signal(tc, second_release_aborts, SIGABRT);
	suite_add_tcase(suite, tc);
	suite_add_tcase(suite, pool_latch_tests());
	suite_add_tcase(suite, pool_thread_tests());
	return support_run(suite);
}
