/*
 * Dropped prefixes and guards on prefixes.
 *
 * What a drop shows at once is that nothing begins with the prefix any more.  What comes
 * later is watched through store_counters(): the keys are erased (dropping returns to 0),
 * frames and blocks come back, each leaf passes the release function exactly once, also
 * where the store died in between.
 */
#include "config.h"

#include "tests/unit/test_store_drop.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "device/device_test.h"

#define VOLUME_BYTES (256ull << 20)

struct device *device;
struct store *store;
struct store_batch *batch;
struct store_options options;

void open_store(void)
{
	ck_ok(store_open(device, &options, &store));
	ck_ok(store_batch_create(store, &batch));
}

void make_store(uint64_t volume_bytes, bool has_threads)
{
	struct store_format_options format = {.label = "drop", .uuid = {9}, .journal_bytes = 8 << 20};

	support_log_to_stderr();
	options.cache_bytes = 32 << 20;
	options.no_threads = !has_threads;
	options.keep_device = true;
	ck_ok(device_open_memory(volume_bytes, &device));
	ck_ok(store_format(device, &format));
	open_store();
}

void close_store(void)
{
	store_batch_destroy(batch);
	ck_ok(store_close(store));
}

static void die(void)
{
	ck_ok(store_sync(store, store_end_lsn(store), JOURNAL_SYNC));
	store_batch_destroy(batch);
	store_abandon(store);
}

struct store_counters count(void)
{
	struct store_counters counters;

	store_counters(store, &counters);
	return counters;
}

int put(const char *directory, unsigned number, const void *value, uint32_t value_bytes)
{
	char key[64];

	store_batch_reset(batch);
	store_batch_put(batch, key, (uint32_t)sprintf(key, "%s%08u", directory, number), value, value_bytes);
	return store_commit(store, batch, NULL);
}

void fill(const char *directory, unsigned keys)
{
	char value[100] = {0};

	for (unsigned i = 0; i < keys; i++)
		ck_ok(put(directory, i, value, sizeof(value)));
}

int drop(const char *prefix)
{
	store_batch_reset(batch);
	store_batch_drop_prefix(batch, prefix, (uint32_t)strlen(prefix));
	return store_commit(store, batch, NULL);
}

unsigned keys_below(const char *prefix)
{
	struct store_range range = {.prefix = prefix, .prefix_bytes = (uint32_t)strlen(prefix)};
	struct store_cursor *cursor;
	struct store_item item;
	unsigned keys = 0;

	ck_ok(store_cursor_open(store, &range, &cursor));
	while (store_cursor_next(cursor, &item) == 0)
		keys++;
	store_cursor_close(cursor);
	return keys;
}

/* Until all is erased: by commits of our own, or by the store's thread. */
void wait_erased(void)
{
	while (count().dropping) {
		if (options.no_threads) {
			ck_ok(put("/other/", 0, "", 0));
		} else {
			struct timespec pause = {.tv_nsec = 1000000};

			nanosleep(&pause, NULL);
		}
	}
}

/* ---- guards ------------------------------------------------------------------ */

START_TEST(prefix_guards_refuse_what_does_not_hold)
{
	make_store(VOLUME_BYTES, false);
	fill("/a/", 10);
	store_batch_reset(batch);
	store_batch_require_prefix_empty(batch, "/b/", 3);
	store_batch_require_prefix_present(batch, "/a/", 3);
	store_batch_require_prefix_present(batch, "/a/00000009", 11);
	store_batch_put(batch, "x", 1, "", 0);
	ck_ok(store_commit(store, batch, NULL));
	ck_assert_uint_eq(store_batch_failed_guard(batch), UINT32_MAX);

	store_batch_reset(batch);
	store_batch_require_prefix_empty(batch, "/a/0", 4);
	store_batch_put(batch, "y", 1, "", 0);
	ck_assert_int_eq(store_commit(store, batch, NULL), -ENOTEMPTY);
	ck_assert_uint_eq(store_batch_failed_guard(batch), 0);
	store_batch_reset(batch);
	store_batch_require_prefix_present(batch, "/a/000000091", 12);
	ck_assert_int_eq(store_commit(store, batch, NULL), -ENOENT);
	ck_assert_uint_eq(keys_below("y"), 0);
	close_store();
	device_close(device);
}
END_TEST

START_TEST(first_guard_that_fails_counts_among_keys_and_prefixes)
{
	make_store(VOLUME_BYTES, false);
	fill("/a/", 1);
	store_batch_reset(batch);
	store_batch_require_absent(batch, "none", 4);
	store_batch_require_prefix_empty(batch, "none", 4);
	store_batch_require_present(batch, "gone", 4);
	store_batch_require_prefix_empty(batch, "/a", 2);
	ck_assert_int_eq(store_commit(store, batch, NULL), -ENOENT);
	ck_assert_uint_eq(store_batch_failed_guard(batch), 2);
	store_batch_reset(batch);
	store_batch_require_prefix_empty(batch, "none", 4);
	store_batch_require_absent(batch, "none", 4);
	store_batch_require_prefix_empty(batch, "/a", 2);
	store_batch_require_present(batch, "gone", 4);
	ck_assert_int_eq(store_commit(store, batch, NULL), -ENOTEMPTY);
	ck_assert_uint_eq(store_batch_failed_guard(batch), 2);
	close_store();
	device_close(device);
}
END_TEST

START_TEST(guard_on_prefix_makes_a_strict_move)
{
	struct store_batch *move;

	make_store(VOLUME_BYTES, false);
	ck_ok(store_batch_create(store, &move));
	store_batch_require_prefix_present(move, "/src/", 5);
	store_batch_move_prefix(move, "/src/", 5, "/dst/", 5);
	ck_assert_int_eq(store_commit(store, move, NULL), -ENOENT);
	fill("/src/", 3);
	ck_ok(store_commit(store, move, NULL));
	ck_assert_uint_eq(keys_below("/dst/"), 3);
	store_batch_destroy(move);
	close_store();
	device_close(device);
}
END_TEST

/* ---- drops --------------------------------------------------------------------- */

static void show_drop(void)
{
	fill("/gone/", 30000);
	fill("/gonf/", 10);
	fill("/gon", 1);
	store_batch_reset(batch);
	store_batch_put(batch, "/gone/", 6, "", 0);
	ck_ok(store_commit(store, batch, NULL));
	ck_ok(drop("/gone/"));
	ck_assert_uint_eq(keys_below("/gone"), 0);
	ck_assert_uint_eq(keys_below("/gon"), 11);
	/* The place can be used at once, and dropped again. */
	fill("/gone/", 100);
	ck_assert_uint_eq(keys_below("/gone/"), 100);
	ck_ok(drop("/gone/"));
	ck_ok(drop("/gone/"));
	ck_assert_uint_eq(count().drops, 2);
	wait_erased();
	ck_assert_uint_eq(keys_below("/gone/"), 0);
	ck_assert_uint_le(count().tree_frames, 3);
}

START_TEST(drop_takes_all_below_and_nothing_else)
{
	make_store(VOLUME_BYTES, false);
	show_drop();
	close_store();
	device_close(device);
}
END_TEST

START_TEST(drop_is_erased_by_a_thread)
{
	make_store(VOLUME_BYTES, true);
	show_drop();
	close_store();
	device_close(device);
}
END_TEST

START_TEST(drop_works_in_memory)
{
	options.cache_bytes = 32 << 20;
	ck_ok(store_open_memory(&options, &store));
	ck_ok(store_batch_create(store, &batch));
	show_drop();
	/* More than fits at once. */
	for (unsigned i = 0; i < 6; i++) {
		fill("/big/", 80000);
		ck_ok(drop("/big/"));
	}
	close_store();
}
END_TEST

START_TEST(drop_is_one_short_record_and_few_frames)
{
	struct store_counters before, after;

	make_store(VOLUME_BYTES, false);
	fill("/gone/", 100000);
	ck_ok(store_checkpoint(store));
	before = count();
	ck_ok(drop("/gone/"));
	after = count();
	/* With the first step of erasing. */
	ck_assert_uint_le(after.journal_record_bytes - before.journal_record_bytes, 256);
	ck_assert_uint_le(after.dirty_frames - before.dirty_frames, 5);
	close_store();
	device_close(device);
}
END_TEST

START_TEST(dropped_space_comes_back)
{
	uint64_t before;

	make_store(VOLUME_BYTES, false);
	ck_ok(store_checkpoint(store));
	before = count().used_bytes;
	fill("/gone/", 200000);
	ck_ok(store_checkpoint(store));
	ck_assert_uint_gt(count().used_bytes, before + (20 << 20));
	ck_ok(drop("/gone/"));
	wait_erased();
	ck_ok(store_checkpoint(store));
	ck_ok(store_checkpoint(store));
	ck_assert_uint_lt(count().used_bytes, before + (3 << 20));
	close_store();
	device_close(device);
}
END_TEST

START_TEST(erasing_goes_on_after_close_and_after_death)
{
	make_store(VOLUME_BYTES, false);
	fill("/gone/", 20000);
	fill("/also/", 20000);
	ck_ok(drop("/gone/"));
	for (unsigned i = 0; i < 20; i++)
		fill("/other/", 1);
	die();
	open_store();
	ck_assert_uint_gt(count().dropping, 0);
	ck_ok(drop("/also/"));
	for (unsigned i = 0; i < 20; i++)
		fill("/other/", 1);
	close_store();
	open_store();
	ck_assert_uint_gt(count().dropping, 0);
	die();
	open_store();
	wait_erased();
	ck_assert_uint_eq(keys_below("/"), 1);
	ck_assert_uint_le(count().tree_frames, 3);
	close_store();
	open_store();
	ck_assert_uint_eq(count().dropping, 0);
	close_store();
	device_close(device);
}
END_TEST

START_TEST(drop_clears_the_way_for_a_move)
{
	make_store(VOLUME_BYTES, false);
	fill("/src/", 1000);
	fill("/dst/", 5000);
	store_batch_reset(batch);
	store_batch_drop_prefix(batch, "/dst/", 5);
	store_batch_move_prefix(batch, "/src/", 5, "/dst/", 5);
	ck_ok(store_commit(store, batch, NULL));
	ck_assert_uint_eq(keys_below("/dst/"), 1000);
	ck_assert_uint_eq(keys_below("/src/"), 0);
	/* The same batch again: another drop, nothing to move. */
	ck_ok(store_commit(store, batch, NULL));
	ck_assert_uint_eq(keys_below("/"), 0);
	die();
	open_store();
	ck_assert_uint_eq(keys_below("/"), 0);
	close_store();
	device_close(device);
}
END_TEST

/* A step of as many leaves as usual would change more frames than the pool has slots. */
/* What was dropped is kept under a longer name than the prefix had. */
START_TEST(the_longest_keys_are_dropped_by_a_short_prefix)
{
	static uint8_t key[STORE_KEY_MAX];

	make_store(VOLUME_BYTES, false);
	memset(key, 'k', sizeof(key));
	for (unsigned keys = 1; keys <= 2; keys++) {
		for (unsigned i = 0; i < keys; i++) {
			key[STORE_KEY_MAX - 1] = (uint8_t)('0' + i);
			ck_ok(store_put(store, key, STORE_KEY_MAX, "value", 5, NULL, NULL));
		}
		store_batch_reset(batch);
		store_batch_drop_prefix(batch, "k", 1);
		ck_ok(store_commit(store, batch, NULL));
		ck_assert_int_eq(store_get(store, key, STORE_KEY_MAX, NULL, 0, &(uint32_t){0}, NULL), -ENOENT);
		wait_erased();
	}
	close_store();
	device_close(device);
}
END_TEST

START_TEST(large_leaves_are_erased_in_a_small_pool)
{
	static const uint8_t value[120000];

	make_store(VOLUME_BYTES, false);
	close_store();
	options.cache_bytes = 8 << 20;
	open_store();
	for (unsigned i = 0; i < 200; i++)
		ck_ok(put("/gone/", i, value, sizeof(value)));
	ck_ok(drop("/gone/"));
	for (unsigned i = 0; i < 1000 && count().dropping; i++)
		ck_ok(put("/other/", 0, "", 0));
	ck_assert_uint_eq(count().dropping, 0);
	ck_assert_uint_le(count().tree_frames, 3);
	close_store();
	device_close(device);
}
END_TEST

/* ---- release -------------------------------------------------------------------------- */

#define OWNERS 6000

static unsigned char released[OWNERS];

/* A value is the block that its key owns. */
static void release(void *ctx, struct store_batch *step, const void *key, uint32_t key_bytes,
    const void *value, uint32_t value_bytes)
{
	char number[16] = {0};
	uint64_t block;

	ck_assert_uint_eq(key_bytes, 8);
	ck_assert_uint_eq(value_bytes, sizeof(block));
	memcpy(number, key, 8);
	memcpy(&block, value, sizeof(block));
	released[atoi(number)]++;
	store_batch_free_blocks(step, block, 1);
}

static void put_owner(unsigned number)
{
	static const uint32_t checksum = 0;
	struct space_run run;
	char key[32];

	ck_ok(store_alloc_blocks(store, 1, &run));
	store_batch_reset(batch);
	store_batch_use_blocks(batch, run.block, 1, &checksum);
	store_batch_put(batch, key, (uint32_t)sprintf(key, "/own/%08u", number), &run.block, sizeof(run.block));
	ck_ok(store_commit(store, batch, NULL));
}

START_TEST(release_sees_each_leaf_once_and_gives_its_blocks_back)
{
	struct space_counters before, after;

	options.release = release;
	make_store(VOLUME_BYTES, false);
	space_counters(store_space(store), &before);
	for (unsigned i = 0; i < OWNERS; i++)
		put_owner(i);
	ck_ok(store_checkpoint(store));
	ck_ok(drop("/own/"));
	/* The store dies under way: what was not synced is released again. */
	for (unsigned deaths = 0; deaths < 4; deaths++) {
		for (unsigned i = 0; i < 10; i++)
			fill("/other/", 1);
		die();
		open_store();
	}
	wait_erased();
	for (unsigned i = 0; i < OWNERS; i++)
		ck_assert_uint_eq(released[i], 1);
	ck_ok(store_checkpoint(store));
	ck_ok(store_checkpoint(store));
	space_counters(store_space(store), &after);
	ck_assert_uint_lt(after.used_blocks, before.used_blocks + OWNERS / 4);
	close_store();
	device_close(device);
}
END_TEST

/* ---- threads ---------------------------------------------------------------------------- */

#define ROUNDS 30
#define ROUND_KEYS 1000

static void *fill_and_drop(void *ctx)
{
	unsigned thread = (unsigned)(uintptr_t)ctx;
	struct store_batch *own;
	char key[64];

	ck_ok(store_batch_create(store, &own));
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < ROUND_KEYS; i++) {
			store_batch_reset(own);
			store_batch_put(own, key, (uint32_t)sprintf(key, "/t%u/%05u", thread, i), key, 60);
			ck_ok(store_commit(store, own, NULL));
		}
		store_batch_reset(own);
		store_batch_require_prefix_present(own, key, 4);
		store_batch_drop_prefix(own, key, 4);
		store_batch_put(own, "shared", 6, &round, sizeof(round));
		ck_ok(store_commit(store, own, NULL));
		store_batch_reset(own);
		store_batch_require_prefix_empty(own, key, 4);
		ck_ok(store_commit(store, own, NULL));
	}
	store_batch_destroy(own);
	return NULL;
}

START_TEST(drops_of_several_threads_do_not_meet)
{
	pthread_t threads[3];

	make_store(VOLUME_BYTES, true);
	fill("/stays/", 5000);
	for (uintptr_t i = 0; i < 3; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, fill_and_drop, (void *)i), 0);
	for (unsigned i = 0; i < 20; i++) {
		ck_assert_uint_eq(keys_below("/stays/"), 5000);
		ck_ok(store_checkpoint(store));
	}
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	wait_erased();
	ck_assert_uint_eq(keys_below("/t"), 0);
	ck_assert_uint_eq(keys_below("/"), 5000);
	die();
	open_store();
	ck_assert_uint_eq(keys_below("/"), 5000);
	close_store();
	device_close(device);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store drop");
	TCase *tcase = tcase_create("drop");

	tcase_set_timeout(tcase, 300);
	tcase_add_test(tcase, prefix_guards_refuse_what_does_not_hold);
	tcase_add_test(tcase, first_guard_that_fails_counts_among_keys_and_prefixes);
	tcase_add_test(tcase, guard_on_prefix_makes_a_strict_move);
	tcase_add_test(tcase, drop_takes_all_below_and_nothing_else);
	tcase_add_test(tcase, drop_is_erased_by_a_thread);
	tcase_add_test(tcase, drop_works_in_memory);
	tcase_add_test(tcase, drop_is_one_short_record_and_few_frames);
	tcase_add_test(tcase, dropped_space_comes_back);
	tcase_add_test(tcase, erasing_goes_on_after_close_and_after_death);
	tcase_add_test(tcase, drop_clears_the_way_for_a_move);
	tcase_add_test(tcase, the_longest_keys_are_dropped_by_a_short_prefix);
	tcase_add_test(tcase, large_leaves_are_erased_in_a_small_pool);
	tcase_add_test(tcase, release_sees_each_leaf_once_and_gives_its_blocks_back);
	add_full_tests(tcase);
	tcase_add_test(tcase, drops_of_several_threads_do_not_meet);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
