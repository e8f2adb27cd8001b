/*
 * Recovery: whatever the order in which the log's records are applied, the keys, values
 * and versions are those that were there; also from a small pool, and when recovery
 * itself is cut off.
 */
#include "config.h"

#include "store/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "device/device_test.h"
#include "tests/support/support.h"

#define VOLUME_BYTES (512ull << 20)
#define KEYS 3000u
#define LONG_LOG 12000u /* fillers: some chunks of the log */

static struct device *device;
static struct store *store;
static struct store_batch *batch;
static uint64_t state;

static struct store_options small = {.cache_bytes = 8 << 20, .no_threads = true, .keep_device = true};
static struct store_options large = {.cache_bytes = 128 << 20, .no_threads = true, .keep_device = true};
static struct store_options threaded = {.cache_bytes = 128 << 20, .keep_device = true};

/* What each key should have; key 0 of a directory that moves about. */
static struct {
	uint64_t version;
	uint32_t value;
	bool is_there;
} expected[KEYS];

static void setup(void)
{
	struct store_format_options options = {.label = "test", .uuid = {7}, .journal_bytes = 64 << 20};

	support_log_to_stderr();
	ck_ok(device_open_memory(VOLUME_BYTES, &device));
	ck_ok(store_format(device, &options));
	ck_ok(store_open(device, &large, &store));
	ck_ok(store_batch_create(store, &batch));
	state = support_seed(41);
}

static void teardown(void)
{
	store_batch_destroy(batch);
	ck_ok(store_close(store));
	device_close(device);
}

/* Some are prefixes of others; some differ behind what fits a comparison of words. */
static uint32_t key_of(uint32_t number, char *key)
{
	if (number % 7 == 0)
		return (uint32_t)sprintf(key, "dir/%u", number / 7);
	return (uint32_t)sprintf(key, "dir/some-long-common-part-%03u/%u", number % 50, number);
}

static uint32_t value_bytes(uint32_t value)
{
	return 4 + value % 300;
}

static void change_one(uint32_t number)
{
	bool is_put = support_random_below(&state, 4) != 0;
	uint32_t value = (uint32_t)support_random(&state), bytes;
	uint8_t memory[304] = {0}, got[304];
	char key[64];
	uint32_t key_bytes = key_of(number, key);

	memcpy(memory, &value, sizeof(value));
	store_batch_reset(batch);
	if (is_put)
		store_batch_put(batch, key, key_bytes, memory, value_bytes(value));
	else
		store_batch_delete(batch, key, key_bytes);
	ck_ok(store_commit(store, batch, NULL));
	expected[number].is_there = is_put;
	expected[number].value = value;
	if (is_put)
		ck_ok(store_get(store, key, key_bytes, got, sizeof(got), &bytes, &expected[number].version));
}

static void change(uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		change_one((uint32_t)support_random_below(&state, KEYS));
}

static void expect_all(void)
{
	for (uint32_t i = 0; i < KEYS; i++) {
		uint8_t got[304];
		uint64_t version;
		uint32_t bytes;
		char key[64];
		int err = store_get(store, key, key_of(i, key), got, sizeof(got), &bytes, &version);

		ck_assert_int_eq(err, expected[i].is_there ? 0 : -ENOENT);
		if (err)
			continue;
		ck_assert_uint_eq(bytes, value_bytes(expected[i].value));
		ck_assert_int_eq(memcmp(got, &expected[i].value, sizeof(expected[i].value)), 0);
		ck_assert_uint_eq(version, expected[i].version);
	}
}

/* The process dies and the volume is opened again. */
static void die(const struct store_options *options)
{
	ck_ok(store_sync(store, store_end_lsn(store), JOURNAL_SYNC));
	store_batch_destroy(batch);
	store_abandon(store);
	ck_ok(store_open(device, options, &store));
	ck_ok(store_batch_create(store, &batch));
}

START_TEST(recovery_keeps_the_last_of_many_changes_to_a_key)
{
	struct store_counters counters;

	change(30000);
	die(&large);
	store_counters(store, &counters);
	ck_assert_uint_eq(counters.replayed_records, 30000);
	expect_all();
	change(1000);
	die(&large);
	expect_all();
}
END_TEST

START_TEST(recovery_reads_ahead_in_a_thread)
{
	change(30000);
	die(&threaded);
	expect_all();
}
END_TEST

START_TEST(recovery_with_more_records_than_a_chunk_holds)
{
	for (int i = 0; i < 3; i++) {
		change(70000);
		die(i % 2 ? &threaded : &large);
		expect_all();
	}
}
END_TEST

#define ALIKE_KEYS 6000u

static uint32_t alike_key(uint32_t number, char *key)
{
	return (uint32_t)sprintf(key, "%c: what follows is the same in all/%08x", 'a' + number % 2,
	    number * 2654435761u);
}

/* Not in the bytes that are looked at first; and over many frames. */
START_TEST(recovery_sorts_keys_that_differ_far_behind)
{
	uint8_t value[500] = {0};
	char key[64];

	for (uint32_t i = 0; i < 2 * ALIKE_KEYS; i++) {
		uint32_t number = i % ALIKE_KEYS;

		memcpy(value, &i, sizeof(i));
		store_batch_reset(batch);
		store_batch_put(batch, key, alike_key(number, key), value, sizeof(value));
		ck_ok(store_commit(store, batch, NULL));
	}
	die(&large);
	for (uint32_t i = 0; i < ALIKE_KEYS; i++) {
		uint32_t bytes, last;

		ck_ok(store_get(store, key, alike_key(i, key), value, sizeof(value), &bytes, NULL));
		memcpy(&last, value, sizeof(last));
		ck_assert_uint_eq(last, i + ALIKE_KEYS);
	}
}
END_TEST

static void move(const char *from, const char *to)
{
	store_batch_reset(batch);
	store_batch_move_prefix(batch, from, (uint32_t)strlen(from), to, (uint32_t)strlen(to));
	ck_ok(store_commit(store, batch, NULL));
}

/* Changes made before, between and after moves are of other names. */
START_TEST(recovery_makes_moves_between_the_right_changes)
{
	change(5000);
	for (int i = 0; i < 20; i++) {
		move("dir/", "elsewhere/");
		/* A key where the directory was, gone before it comes back. */
		store_batch_reset(batch);
		store_batch_put(batch, "dir/some", 8, "x", 1);
		ck_ok(store_commit(store, batch, NULL));
		store_batch_reset(batch);
		store_batch_delete(batch, "dir/some", 8);
		ck_ok(store_commit(store, batch, NULL));
		move("elsewhere/", "dir/");
		change(50);
	}
	die(&threaded);
	expect_all();
	ck_assert_int_eq(store_get(store, "dir/some", 8, NULL, 0, &(uint32_t){0}, NULL), -ENOENT);
}
END_TEST

/* Filler makes the tree several times the pool. */
static void fill(uint32_t count)
{
	static const uint8_t value[2000];
	char key[64];

	for (uint32_t i = 0; i < count; i++) {
		store_batch_reset(batch);
		store_batch_put(batch, key, (uint32_t)sprintf(key, "fill/%08x", i * 2654435761u),
		    value, sizeof(value));
		ck_ok(store_commit(store, batch, NULL));
	}
}

static void expect_filler(uint32_t count)
{
	char key[64];

	for (uint32_t i = 0; i < count; i++) {
		uint32_t bytes;

		ck_assert_int_eq(store_get(store, key,
			(uint32_t)sprintf(key, "fill/%08x", i * 2654435761u), NULL, 0, &bytes, NULL), -ERANGE);
		ck_assert_uint_eq(bytes, 2000);
	}
}

START_TEST(recovery_needs_no_pool_as_large_as_the_tree)
{
	struct store_counters counters;

	change(5000);
	fill(10000);
	change(5000);
	die(&small);
	store_counters(store, &counters);
	ck_assert_uint_gt(counters.tree_frames, counters.cache_slots);
	expect_all();
	expect_filler(10000);
}
END_TEST

/*
 * Recovery fails at a write, again and again a bit later, and what it had written by then
 * stays: checkpoints made on the way, in the middle of what was to be applied.
 */
START_TEST(recovery_cut_off_anywhere_goes_on)
{
	struct device *faulty;
	unsigned failures = 0;
	int err = -EIO;

	change(3000);
	fill(6000);
	move("dir/", "elsewhere/");
	move("elsewhere/", "dir/");
	change(3000);
	ck_ok(store_sync(store, store_end_lsn(store), JOURNAL_SYNC));
	store_batch_destroy(batch);
	store_abandon(store);
	ck_ok(device_open_faulty(device, &faulty));
	for (uint64_t at = 1; err; at += 1 + at / 4) {
		struct faulty_plan plan = {.fail_write_at = at, .is_sticky = true, .error = -EIO};

		faulty_set_plan(faulty, &plan);
		err = store_open(faulty, &small, &store);
		failures += err != 0;
		ck_assert(!err || err == -EIO || err == -EROFS);
	}
	ck_assert_uint_gt(failures, 5);
	faulty_set_plan(faulty, &(struct faulty_plan){0});
	store_abandon(store);
	ck_ok(store_open(faulty, &small, &store));
	device = faulty;
	ck_ok(store_batch_create(store, &batch));
	expect_all();
	expect_filler(6000);
}
END_TEST

/* Opens the volume of a process that died, with one read failing, and leaves it as it was.
 * Returns whether it can be opened; then all is there.  @ret_reads: how many there were. */
static bool recovers_despite(uint64_t fail_read_at, const struct store_options *options, uint64_t *ret_reads)
{
	struct faulty_plan plan = {.fail_read_at = fail_read_at, .error = -EIO};
	struct device *overlay, *faulty;
	uint64_t writes, flushes;
	int err;

	ck_ok(device_open_overlay(device, &overlay));
	ck_ok(device_open_faulty(overlay, &faulty));
	faulty_set_plan(faulty, &plan);
	err = store_open(faulty, options, &store);
	ck_assert(!err || err == -EIO);
	faulty_seen(faulty, ret_reads, &writes, &flushes);
	if (!err) {
		expect_all();
		expect_filler(LONG_LOG);
		store_abandon(store);
	}
	device_overlay_detach(overlay);
	device_close(faulty);
	return !err;
}

/* A volume whose log is some chunks long, and whose process has died. */
static void die_with_a_long_log(void)
{
	fill(6000);
	ck_ok(store_checkpoint(store));
	change(3000);
	fill(LONG_LOG);
	ck_ok(store_sync(store, store_end_lsn(store), JOURNAL_SYNC));
	store_batch_destroy(batch);
	store_abandon(store);
}

static void open_again(void)
{
	ck_ok(store_open(device, &large, &store));
	ck_ok(store_batch_create(store, &batch));
}

/* Recovery needs every byte of the log, and one superblock of two.  A frame that was loaded
 * ahead is read again when it is wanted. */
START_TEST(recovery_loads_frames_ahead_and_needs_none_of_that)
{
	unsigned survived = 0;
	uint64_t reads;

	die_with_a_long_log();
	recovers_despite(UINT64_MAX, &large, &reads);
	for (uint64_t at = reads; at > 0; at--)
		survived += recovers_despite(at, &large, &reads);
	/* A superblock, and the frames that folding looks at, are 10. */
	ck_assert_uint_ge(survived, 20);
	open_again();
}
END_TEST

/* The thread that reads the log fails while the other applies what it had read. */
START_TEST(recovery_fails_if_its_reader_does)
{
	unsigned failed = 0;
	uint64_t reads, ignored;

	die_with_a_long_log();
	recovers_despite(UINT64_MAX, &threaded, &reads);
	for (uint64_t at = 1; at <= reads; at += 3)
		failed += !recovers_despite(at, &threaded, &ignored);
	ck_assert_uint_ge(failed, 20);
	open_again();
}
END_TEST

START_TEST(recovery_refuses_a_log_damaged_where_it_was_durable)
{
	struct store *second;
	uint8_t *block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	const struct superblock *superblock = store_superblock(store);
	uint64_t log_bytes = from_le64(superblock->journal_frames) * FRAME_BYTES;
	/* The second block of the first flush. */
	uint64_t offset = FRAME_BYTES + from_le64(superblock->checkpoint_lsn) % log_bytes + BLOCK_BYTES;

	for (int i = 0; i < 3; i++) {
		change(100);
		ck_ok(store_sync(store, store_end_lsn(store), JOURNAL_SYNC));
	}
	ck_ok(device_read(device, block, BLOCK_BYTES, offset));
	block[100] ^= 1;
	ck_ok(device_write(device, block, BLOCK_BYTES, offset));
	store_batch_destroy(batch);
	store_abandon(store);
	ck_assert_int_eq(store_open(device, &large, &second), -EUCLEAN);
	block[100] ^= 1;
	ck_ok(device_write(device, block, BLOCK_BYTES, offset));
	free(block);
	ck_ok(store_open(device, &large, &store));
	ck_ok(store_batch_create(store, &batch));
	expect_all();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store_recovery");
	TCase *tests = tcase_create("recovery");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_set_timeout(tests, 300);
	tcase_add_test(tests, recovery_keeps_the_last_of_many_changes_to_a_key);
	tcase_add_test(tests, recovery_reads_ahead_in_a_thread);
	tcase_add_test(tests, recovery_with_more_records_than_a_chunk_holds);
	tcase_add_test(tests, recovery_sorts_keys_that_differ_far_behind);
	tcase_add_test(tests, recovery_makes_moves_between_the_right_changes);
	tcase_add_test(tests, recovery_needs_no_pool_as_large_as_the_tree);
	tcase_add_test(tests, recovery_cut_off_anywhere_goes_on);
	tcase_add_test(tests, recovery_loads_frames_ahead_and_needs_none_of_that);
	tcase_add_test(tests, recovery_fails_if_its_reader_does);
	tcase_add_test(tests, recovery_refuses_a_log_damaged_where_it_was_durable);
	suite_add_tcase(suite, tests);
	return support_run(suite);
}
