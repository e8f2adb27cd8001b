/*
 * Looking at frames and compacting them: what is counted is there, fewer frames hold the
 * same keys, the host gets room back, and others are not disturbed.
 */
#include "config.h"

#include "store/store.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device/device_test.h"
#include "tests/support/support.h"

#define VOLUME_BYTES (512ull << 20)
#define KEYS 60000u

static struct device *device;
static struct store *store;

static struct store_options small = {.cache_bytes = 8 << 20, .no_threads = true};
static struct store_options large = {.cache_bytes = 128 << 20, .no_threads = true};

static void setup(void)
{
	struct store_format_options options = {.label = "test", .uuid = {1, 2, 3}};

	support_log_to_stderr();
	ck_ok(device_open_memory(VOLUME_BYTES, &device));
	ck_ok(store_format(device, &options));
	ck_ok(store_open(device, &large, &store));
}

static void teardown(void)
{
	ck_ok(store_close(store));
}

/* Keys in 64 directories, in an order that is none. */
static uint32_t key_of(uint32_t number, char *key)
{
	uint32_t mixed = number * 2654435761u;

	return (uint32_t)sprintf(key, "dir-%02u/%08x", number % 64, mixed);
}

static void change(uint32_t first, uint32_t step, bool is_put)
{
	struct store_batch *batch;
	uint8_t value[64] = {0};
	char key[32];

	ck_ok(store_batch_create(store, &batch));
	for (uint32_t i = first; i < KEYS; i += step) {
		uint32_t bytes = key_of(i, key);

		store_batch_reset(batch);
		memcpy(value, &i, sizeof(i));
		if (is_put)
			store_batch_put(batch, key, bytes, value, sizeof(value));
		else
			store_batch_delete(batch, key, bytes);
		ck_ok(store_commit(store, batch, NULL));
	}
	store_batch_destroy(batch);
}

static void expect_keys(uint32_t step, bool are_there)
{
	for (uint32_t i = 0; i < KEYS; i++) {
		bool is_there = (i % step == 0) == are_there;
		uint8_t value[64];
		uint32_t bytes;
		char key[32];
		int err = store_get(store, key, key_of(i, key), value, sizeof(value), &bytes, NULL);

		ck_assert_int_eq(err, is_there ? 0 : -ENOENT);
		ck_assert(!is_there || memcmp(value, &i, sizeof(i)) == 0);
	}
}

/* Nine keys of ten go. */
static void make_thin(void)
{
	change(0, 1, true);
	for (uint32_t i = 1; i < 10; i++)
		change(i, 10, false);
}

struct totals {
	uint64_t frames, leaves, crossings, live, dead;
	uint64_t ids[4096];
	uint64_t outside; /* a sum over frames not below "dir-07" */
};

static int add_frame(void *ctx, const struct store_frame *frame)
{
	struct totals *totals = ctx;
	bool has_parent = frame->parent == 0;

	for (uint64_t i = 0; i < totals->frames; i++)
		has_parent |= totals->ids[i] == frame->parent;
	ck_assert_msg(has_parent, "a frame came before its parent");
	ck_assert_uint_eq(frame->bytes, FRAME_BYTES);
	ck_assert_uint_eq(frame->live_bytes + frame->dead_bytes + frame->free_bytes,
	    FRAME_BYTES - FRAME_HEADER_BYTES);
	ck_assert_uint_lt(totals->frames, 4096);
	totals->ids[totals->frames++] = frame->id;
	totals->leaves += frame->leaves;
	totals->crossings += frame->crossings;
	totals->live += frame->live_bytes;
	totals->dead += frame->dead_bytes;
	return 0;
}

static struct totals count(void)
{
	struct totals totals = {0};

	ck_ok(store_for_each_frame(store, add_frame, &totals));
	return totals;
}

START_TEST(every_frame_is_visited_behind_its_parent)
{
	struct store_counters counters;
	struct totals totals;

	change(0, 1, true);
	totals = count();
	store_counters(store, &counters);
	ck_assert_uint_eq(totals.leaves, KEYS);
	ck_assert_uint_eq(totals.frames, totals.crossings + 1);
	ck_assert_uint_eq(totals.frames, counters.tree_frames);
	ck_assert_uint_gt(totals.frames, 5);
}
END_TEST

START_TEST(looking_at_frames_does_not_disturb_the_cache)
{
	struct store_counters before, after;
	struct device *copy;

	change(0, 1, true);
	ck_ok(store_checkpoint(store));
	ck_ok(device_open_copy(device, &copy));
	ck_ok(store_close(store));
	ck_ok(store_open(copy, &small, &store));
	device = copy;
	expect_keys(1, true);
	store_counters(store, &before);
	ck_assert_uint_gt(before.cache_misses, 0);
	ck_assert_uint_eq(count().leaves, KEYS);
	store_counters(store, &after);
	ck_assert_uint_eq(after.cache_hits, before.cache_hits);
	ck_assert_uint_eq(after.cache_misses, before.cache_misses);
	ck_assert_uint_eq(after.cache_evictions, before.cache_evictions);
	ck_assert_uint_eq(after.frame_loads, before.frame_loads);
}
END_TEST

START_TEST(compacting_makes_fewer_and_fuller_frames)
{
	struct totals before, after;
	struct store_counters counters;

	make_thin();
	before = count();
	ck_ok(store_compact(store, NULL, 0, NULL, NULL));
	after = count();
	ck_assert_uint_eq(after.leaves, KEYS / 10);
	ck_assert_uint_le(after.frames, before.frames);
	ck_assert_uint_lt(after.dead, before.dead / 4 + FRAME_BYTES / 8);
	store_counters(store, &counters);
	ck_assert_uint_eq(after.frames, counters.tree_frames);
	expect_keys(10, true);
}
END_TEST

START_TEST(compacting_twice_changes_nothing_more)
{
	struct store_counters before, after;

	make_thin();
	ck_ok(store_compact(store, NULL, 0, NULL, NULL));
	store_counters(store, &before);
	ck_ok(store_compact(store, NULL, 0, NULL, NULL));
	store_counters(store, &after);
	ck_assert_uint_eq(after.merges, before.merges);
	ck_assert_uint_eq(after.packs, before.packs);
}
END_TEST

START_TEST(compacting_with_a_cache_smaller_than_the_tree_works)
{
	struct device *copy;

	make_thin();
	ck_ok(store_checkpoint(store));
	ck_ok(device_open_copy(device, &copy));
	ck_ok(store_close(store));
	ck_ok(store_open(copy, &small, &store));
	device = copy;
	ck_ok(store_compact(store, NULL, 0, NULL, NULL));
	expect_keys(10, true);
}
END_TEST

static int note_below(void *ctx, const struct store_frame *frame)
{
	struct totals *totals = ctx;

	/* "dir-": what two directories share is not below one of them. */
	if (frame->key_depth <= 6)
		totals->outside += frame->leaves + frame->crossings;
	totals->dead += frame->dead_bytes;
	return 0;
}

START_TEST(compacting_below_a_prefix_leaves_the_rest_alone)
{
	struct store_counters before, after;
	struct totals dead_before = {0}, dead_after = {0};

	make_thin();
	ck_ok(store_for_each_frame(store, note_below, &dead_before));
	store_counters(store, &before);
	ck_ok(store_compact(store, "nothing/", 8, NULL, NULL));
	store_counters(store, &after);
	ck_assert_uint_le(after.packs + after.merges, before.packs + before.merges + 1);
	ck_ok(store_compact(store, "dir-07/", 7, NULL, NULL));
	ck_ok(store_for_each_frame(store, note_below, &dead_after));
	ck_assert_uint_gt(dead_after.dead, dead_before.dead / 2);
	ck_ok(store_compact(store, "dir-", 4, NULL, NULL));
	ck_assert_uint_lt(count().dead, dead_before.dead / 4 + FRAME_BYTES / 8);
	expect_keys(10, true);
}
END_TEST

static int stop_at_third(void *ctx, uint64_t done, uint64_t total)
{
	ck_assert_uint_eq(done, ++*(uint64_t *)ctx);
	ck_assert_uint_le(done, total);
	return done == 3 ? -ECANCELED : 0;
}

START_TEST(compacting_ends_where_progress_says_so)
{
	uint64_t calls = 0;

	make_thin();
	ck_assert_int_eq(store_compact(store, NULL, 0, stop_at_third, &calls), -ECANCELED);
	ck_assert_uint_eq(calls, 3);
	expect_keys(10, true);
}
END_TEST

struct stirring {
	uint32_t first;
	_Atomic bool is_over;
};

static void *stir(void *ctx)
{
	struct stirring *stirring = ctx;

	while (!atomic_load(&stirring->is_over)) {
		change(stirring->first, 1000, true);
		change(stirring->first, 1000, false);
	}
	return NULL;
}

START_TEST(others_write_while_frames_are_compacted)
{
	struct stirring stirrings[2] = {{.first = 1}, {.first = 2}};
	pthread_t threads[2];

	make_thin();
	for (int i = 0; i < 2; i++)
		ck_ok(pthread_create(&threads[i], NULL, stir, &stirrings[i]));
	for (int i = 0; i < 5; i++)
		ck_ok(store_compact(store, NULL, 0, NULL, NULL));
	for (int i = 0; i < 2; i++) {
		atomic_store(&stirrings[i].is_over, true);
		ck_ok(pthread_join(threads[i], NULL));
	}
	expect_keys(10, true);
}
END_TEST

/* On the file system the tests are built on; "." takes back holes on every one we know. */
START_TEST(compacting_gives_room_back_to_the_host)
{
	struct device_options options = {.lock_wait_ms = 1000};
	struct store_format_options format = {.label = "file", .uuid = {4}};
	char path[] = "./upkeep-XXXXXX";
	int fd = mkstemp(path);
	struct stat before, after;
	struct store *memory = store;
	struct device *file;

	ck_assert_int_ge(fd, 0);
	ck_ok(ftruncate(fd, (off_t)VOLUME_BYTES));
	ck_ok(device_open(path, &options, &file));
	unlink(path);
	ck_ok(store_format(file, &format));
	ck_ok(store_open(file, &large, &store));
	make_thin();
	ck_ok(store_checkpoint(store));
	ck_ok(fstat(fd, &before));
	ck_ok(store_compact(store, NULL, 0, NULL, NULL));
	ck_ok(fstat(fd, &after));
	ck_assert_int_lt(after.st_blocks, before.st_blocks);
	expect_keys(10, true);
	ck_ok(store_close(store));
	close(fd);
	store = memory;
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store_upkeep");
	TCase *tc = tcase_create("frames");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, every_frame_is_visited_behind_its_parent);
	tcase_add_test(tc, looking_at_frames_does_not_disturb_the_cache);
	tcase_add_test(tc, compacting_makes_fewer_and_fuller_frames);
	tcase_add_test(tc, compacting_twice_changes_nothing_more);
	tcase_add_test(tc, compacting_with_a_cache_smaller_than_the_tree_works);
	tcase_add_test(tc, compacting_below_a_prefix_leaves_the_rest_alone);
	tcase_add_test(tc, compacting_ends_where_progress_says_so);
	tcase_add_test(tc, others_write_while_frames_are_compacted);
	tcase_add_test(tc, compacting_gives_room_back_to_the_host);
	suite_add_tcase(suite, tc);
	return support_run(suite);
}
