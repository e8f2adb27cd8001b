/*
 * The store over a memory device: values come back, also after closing, after a death
 * without closing, after checkpoints under way, and from a pool much smaller than the
 * tree.
 */
#include "config.h"

#include "tests/unit/test_store.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "device/device_test.h"

struct device *device;
struct store *store;

static void setup(void)
{
	struct store_format_options options = {.label = "test", .uuid = {1, 2, 3}};

	support_log_to_stderr();
	ck_ok(device_open_memory(VOLUME_BYTES, &device));
	ck_ok(store_format(device, &options));
}

struct store_options small = {.cache_bytes = 8 << 20, .no_threads = true};
struct store_options large = {.cache_bytes = 64 << 20, .no_threads = true};

void open_store(const struct store_options *options)
{
	ck_ok(store_open(device, options, &store));
}

void reopen(bool is_clean)
{
	struct device *copy;

	ck_ok(device_open_copy(device, &copy));
	if (is_clean) {
		device_close(copy);
		/* The device goes with the store: copy after the close is impossible,
		 * so take over through a copy made between sync and close. */
		ck_ok(store_checkpoint(store));
		ck_ok(device_open_copy(device, &copy));
		ck_ok(store_close(store));
	} else {
		store_abandon(store);
	}
	device = copy;
	ck_ok(store_open(device, &small, &store));
}

static void teardown(void)
{
	if (store)
		ck_ok(store_close(store));
	else
		device_close(device);
	store = NULL;
}

uint64_t in_key_order(uint64_t at, uint64_t count)
{
	return at % (count / 16) * 16 + at / (count / 16);
}

void key_of(uint64_t number, char *key)
{
	sprintf(key, "/usr/local/share/category-%02d/file-%08llu", (int)(number % 16),
	    (unsigned long long)number);
}

int put(const char *key, const void *value, uint32_t bytes)
{
	struct store_batch *batch;
	int err;

	ck_ok(store_batch_create(store, &batch));
	store_batch_put(batch, key, (uint32_t)strlen(key), value, bytes);
	err = store_commit(store, batch, NULL);
	store_batch_destroy(batch);
	return err;
}

void put_numbers(uint64_t first, uint64_t end, uint64_t salt)
{
	struct store_batch *batch;
	uint64_t value[4];
	char key[64];

	ck_ok(store_batch_create(store, &batch));
	for (uint64_t i = first; i < end; i++) {
		key_of(i, key);
		value[0] = value[1] = value[2] = value[3] = i ^ salt;
		store_batch_reset(batch);
		store_batch_put(batch, key, (uint32_t)strlen(key), value, sizeof(value));
		ck_ok(store_commit(store, batch, NULL));
	}
	store_batch_destroy(batch);
}

static void expect_numbers(uint64_t first, uint64_t end, uint64_t salt)
{
	for (uint64_t i = first; i < end; i++) {
		uint64_t value[4];
		uint32_t bytes;
		char key[64];

		key_of(i, key);
		ck_ok(store_get(store, key, (uint32_t)strlen(key), value, sizeof(value), &bytes, NULL));
		ck_assert_uint_eq(bytes, sizeof(value));
		ck_assert_uint_eq(value[0], i ^ salt);
	}
}

START_TEST(store_returns_what_was_put)
{
	char value[8];
	uint32_t bytes;

	open_store(&small);
	ck_ok(put("a", "one", 3));
	ck_ok(put("ab", "two", 3));
	ck_ok(store_get(store, "a", 1, value, sizeof(value), &bytes, NULL));
	ck_assert_uint_eq(bytes, 3);
	ck_assert(memcmp(value, "one", 3) == 0);
	ck_assert_int_eq(store_get(store, "b", 1, value, sizeof(value), &bytes, NULL), -ENOENT);
	ck_assert_int_eq(store_get(store, "a", 1, value, 2, &bytes, NULL), -ERANGE);
	ck_assert_uint_eq(bytes, 3);
}
END_TEST

START_TEST(store_keeps_values_over_a_clean_close)
{
	open_store(&small);
	put_numbers(0, 50000, 7);
	reopen(true);
	expect_numbers(0, 50000, 7);
}
END_TEST

START_TEST(store_recovers_synced_values_after_a_death)
{
	open_store(&large);
	put_numbers(0, 30000, 7);
	ck_ok(store_checkpoint(store));
	put_numbers(10000, 60000, 9);
	ck_ok(store_sync(store, store_end_lsn(store), JOURNAL_SYNC));
	reopen(false);
	expect_numbers(0, 10000, 7);
	expect_numbers(10000, 60000, 9);
}
END_TEST

START_TEST(store_works_with_a_checkpoint_thread)
{
	struct store_options options = {.cache_bytes = 16 << 20};
	struct store_counters counters;

	open_store(&options);
	put_numbers(0, 200000, 3);
	expect_numbers(0, 200000, 3);
	store_counters(store, &counters);
	ck_assert_uint_gt(counters.checkpoints, 0);
	ck_assert_uint_gt(counters.splits, 10);
}
END_TEST

START_TEST(store_cursor_walks_in_order)
{
	struct store_cursor *cursor;
	struct store_item item;
	char last[64] = "";
	uint32_t count = 0;

	open_store(&large);
	put_numbers(0, 100000, 1);
	ck_ok(store_cursor_open(store, &(struct store_range){.prefix = "/usr", .prefix_bytes = 4}, &cursor));
	while (store_cursor_next(cursor, &item) == 0) {
		char key[64];

		ck_assert_uint_lt(item.key_bytes, sizeof(key));
		memcpy(key, item.key, item.key_bytes);
		key[item.key_bytes] = 0;
		ck_assert_int_gt(strcmp(key, last), 0);
		strcpy(last, key);
		count++;
	}
	ck_assert_uint_eq(count, 100000);
	store_cursor_close(cursor);
}
END_TEST

START_TEST(store_frames_empty_out_when_keys_go)
{
	struct store_counters before, after;
	struct store_batch *batch;
	char key[64];

	open_store(&large);
	put_numbers(0, 100000, 1);
	store_counters(store, &before);
	ck_ok(store_batch_create(store, &batch));
	for (uint64_t i = 0; i < 100000; i++) {
		key_of(i, key);
		store_batch_reset(batch);
		store_batch_delete(batch, key, (uint32_t)strlen(key));
		ck_ok(store_commit(store, batch, NULL));
	}
	store_batch_destroy(batch);
	store_counters(store, &after);
	ck_assert_uint_gt(before.splits, 5);
	/* All but the root are gone again. */
	ck_assert_uint_eq(after.frames_dropped, after.splits);
}
END_TEST

START_TEST(store_moves_a_prefix_whatever_is_below)
{
	struct store_batch *batch;
	struct store_counters counters;
	uint64_t value[4];
	uint32_t bytes;
	char key[80];

	open_store(&large);
	put_numbers(0, 100000, 5);
	ck_ok(put("/usr/local/shared", "x", 1));
	ck_ok(store_batch_create(store, &batch));
	store_batch_move_prefix(batch, "/usr/local/share/", 17, "/opt/", 5);
	ck_ok(store_commit(store, batch, NULL));
	reopen(true);
	for (uint64_t at = 0; at < 100000; at++) {
		uint64_t i = in_key_order(at, 100000);

		key_of(i, key);
		ck_assert_int_eq(store_get(store, key, (uint32_t)strlen(key), value,
		    sizeof(value), &bytes, NULL), -ENOENT);
		memmove(key + 5, key + 17, strlen(key + 17) + 1);
		memcpy(key, "/opt/", 5);
		ck_ok(store_get(store, key, (uint32_t)strlen(key), value, sizeof(value), &bytes, NULL));
		ck_assert_uint_eq(value[0], i ^ 5);
	}
	ck_ok(store_get(store, "/usr/local/shared", 17, value, sizeof(value), &bytes, NULL));
	store_counters(store, &counters);
	store_batch_destroy(batch);
}
END_TEST

START_TEST(store_guards_refuse_and_change_nothing)
{
	struct store_batch *batch;
	char value[4];
	uint32_t bytes;

	open_store(&small);
	ck_ok(put("k", "1", 1));
	ck_ok(store_batch_create(store, &batch));
	store_batch_require_absent(batch, "k", 1);
	store_batch_put(batch, "other", 5, "x", 1);
	ck_assert_int_eq(store_commit(store, batch, NULL), -EEXIST);
	ck_assert_int_eq(store_get(store, "other", 5, value, 4, &bytes, NULL), -ENOENT);
	store_batch_reset(batch);
	store_batch_require_present(batch, "other", 5);
	ck_assert_int_eq(store_commit(store, batch, NULL), -ENOENT);
	store_batch_reset(batch);
	store_batch_require_version(batch, "k", 1, 12345);
	ck_assert_int_eq(store_commit(store, batch, NULL), -ESTALE);
	store_batch_destroy(batch);
}
END_TEST

START_TEST(store_names_the_first_guard_that_failed)
{
	struct store_batch *batch;

	open_store(&small);
	ck_ok(put("k", "1", 1));
	ck_ok(store_batch_create(store, &batch));
	store_batch_require_present(batch, "k", 1);
	store_batch_require_absent(batch, "z", 1);
	store_batch_require_present(batch, "b", 1);
	store_batch_require_absent(batch, "k", 1);
	ck_assert_int_eq(store_commit(store, batch, NULL), -ENOENT);
	ck_assert_uint_eq(store_batch_failed_guard(batch), 2);
	store_batch_reset(batch);
	store_batch_put(batch, "b", 1, "", 0);
	ck_ok(store_commit(store, batch, NULL));
	ck_assert_uint_eq(store_batch_failed_guard(batch), UINT32_MAX);
	store_batch_destroy(batch);
}
END_TEST

START_TEST(store_guards_alone_leave_nothing_in_the_journal)
{
	struct store_batch *batch;
	lsn_t end;

	open_store(&small);
	ck_ok(put("k", "1", 1));
	end = store_end_lsn(store);
	ck_ok(store_batch_create(store, &batch));
	store_batch_require_present(batch, "k", 1);
	store_batch_require_absent(batch, "z", 1);
	for (int i = 0; i < 10000; i++)
		ck_ok(store_commit(store, batch, NULL));
	ck_assert_uint_eq(store_end_lsn(store), end);
	store_batch_destroy(batch);
}
END_TEST

START_TEST(store_refuses_changes_below_moves_of_the_same_batch)
{
	static const char *const keys[] = {"a/1", "b/2"};

	char value[8];
	uint32_t bytes;

	open_store(&small);
	ck_ok(store_put(store, "a/1", 3, "1", 1, NULL, NULL));
	for (unsigned i = 0; i < 4; i++) {
		struct store_batch *batch;

		ck_ok(store_batch_create(store, &batch));
		if (i % 2)
			store_batch_put(batch, keys[i / 2], 3, "x", 1);
		else
			store_batch_delete(batch, keys[i / 2], 3);
		store_batch_move_prefix(batch, "a/", 2, "b/", 2);
		ck_assert_int_eq(store_commit(store, batch, NULL), -EINVAL);
		store_batch_destroy(batch);
	}
	ck_ok(store_get(store, "a/1", 3, value, sizeof(value), &bytes, NULL));
	ck_assert_mem_eq(value, "1", 1);
}
END_TEST

START_TEST(store_deletes_keys_that_moves_have_made_long)
{
	static char key[STORE_KEY_MAX + 100];
	struct store_batch *batch;
	uint32_t bytes;

	open_store(&small);
	memset(key, 'x', sizeof(key));
	ck_ok(store_batch_create(store, &batch));
	store_batch_put(batch, key, STORE_KEY_MAX, "v", 1);
	key[1000] = 'a';
	store_batch_put(batch, key, 1001, "v", 1);
	key[1000] = 'x';
	ck_ok(store_commit(store, batch, NULL));
	store_batch_reset(batch);
	memset(key, 'y', 200);
	store_batch_move_prefix(batch, key + 200, 100, key, 200);
	ck_ok(store_commit(store, batch, NULL));
	ck_ok(store_get(store, key, STORE_KEY_MAX + 100, NULL, 0, &bytes, NULL) == -ERANGE ? 0 : -1);
	store_batch_reset(batch);
	store_batch_require_present(batch, key, STORE_KEY_MAX + 100);
	store_batch_delete(batch, key, STORE_KEY_MAX + 100);
	ck_ok(store_commit(store, batch, NULL));
	reopen(false);
	ck_assert_int_eq(store_get(store, key, STORE_KEY_MAX + 100, NULL, 0, &bytes, NULL), -ENOENT);
	/* The batch's store is gone, its memory is not. */
	store_batch_destroy(batch);
}
END_TEST

struct worker {
	pthread_t thread;
	uint64_t first;
};

static void *put_range(void *ctx)
{
	struct worker *worker = ctx;

	put_numbers(worker->first, worker->first + 30000, 11);
	return NULL;
}

START_TEST(store_serves_several_writers_at_once)
{
	struct store_options options = {.cache_bytes = 16 << 20};
	struct worker workers[4];

	open_store(&options);
	for (unsigned i = 0; i < 4; i++) {
		workers[i].first = i * 30000;
		pthread_create(&workers[i].thread, NULL, put_range, &workers[i]);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(workers[i].thread, NULL);
	expect_numbers(0, 120000, 11);
}
END_TEST

START_TEST(store_read_only_open_recovers_without_writing)
{
	struct store_options options = {.cache_bytes = 8 << 20, .is_read_only = true};
	struct device_counters counters;
	struct device *copy;

	open_store(&large);
	put_numbers(0, 60000, 5);
	ck_ok(store_sync(store, store_end_lsn(store), JOURNAL_SYNC));
	ck_ok(device_open_copy(device, &copy));
	store_abandon(store);
	device = copy;
	open_store(&options);
	expect_numbers(0, 60000, 5);
	device_counters(copy, &counters);
	ck_assert_uint_eq(counters.writes, 0);
	ck_assert_int_eq(put("x", "y", 1), -EROFS);
}
END_TEST

START_TEST(store_leaves_a_device_that_its_caller_keeps)
{
	struct store_options writable = {.cache_bytes = 8 << 20, .no_threads = true, .keep_device = true};
	struct store_options read_only = {.cache_bytes = 8 << 20, .is_read_only = true, .keep_device = true};

	/* Formatting has used the device once already. */
	open_store(&writable);
	put_numbers(0, 1000, 7);
	ck_ok(store_close(store));
	open_store(&writable);
	expect_numbers(0, 1000, 7);
	put_numbers(0, 1000, 8);
	ck_ok(store_sync(store, store_end_lsn(store), JOURNAL_SYNC));
	store_abandon(store);
	open_store(&read_only);
	expect_numbers(0, 1000, 8);
	ck_ok(store_close(store));
	open_store(&small);
	expect_numbers(0, 1000, 8);
}
END_TEST

static int put_one(const char *key, const char *value, const struct store_guard *guard)
{
	return store_put(store, key, (uint32_t)strlen(key), value, (uint32_t)strlen(value), guard, NULL);
}

static int delete_one(const char *key, const struct store_guard *guard)
{
	return store_delete(store, key, (uint32_t)strlen(key), guard, NULL);
}

/* The value of @key and its version; "" if there is none. */
static const char *value_of(const char *key, uint64_t *ret_version)
{
	static char value[64];
	uint32_t bytes = 0;
	int err = store_get(store, key, (uint32_t)strlen(key), value, sizeof(value) - 1, &bytes,
	    ret_version);

	ck_assert(err == 0 || err == -ENOENT);
	value[err ? 0 : bytes] = 0;
	return value;
}

START_TEST(store_single_writes_do_what_batches_of_one_do)
{
	struct store_guard absent = {.kind = STORE_REQUIRE_ABSENT};
	struct store_guard present = {.kind = STORE_REQUIRE_PRESENT};
	struct store_guard version = {.kind = STORE_REQUIRE_VERSION};
	uint64_t first, second;
	lsn_t lsn;

	open_store(&small);
	ck_assert_int_eq(put_one("a", "none", &present), -ENOENT);
	ck_assert_int_eq(put_one("a", "none", &version), -ENOENT);
	ck_ok(put_one("a", "one", &absent));
	ck_assert_int_eq(put_one("a", "two", &absent), -EEXIST);
	ck_assert_str_eq(value_of("a", &first), "one");
	ck_ok(put_one("a", "longer than one", &present));
	ck_assert_str_eq(value_of("a", &second), "longer than one");
	ck_assert_uint_gt(second, first);
	version.version = first;
	ck_assert_int_eq(put_one("a", "three", &version), -ESTALE);
	ck_assert_int_eq(delete_one("a", &version), -ESTALE);
	version.version = second;
	ck_ok(store_put(store, "a", 1, "four", 4, &version, &lsn));
	ck_ok(store_put(store, "ab", 2, NULL, 0, NULL, &lsn));
	ck_ok(store_sync(store, lsn, JOURNAL_SYNC));
	reopen(false);
	ck_assert_str_eq(value_of("a", &second), "four");
	version.version = second;
	ck_ok(delete_one("a", &version));
	ck_assert_int_eq(delete_one("a", &present), -ENOENT);
	ck_assert_int_eq(delete_one("a", &version), -ENOENT);
	ck_ok(delete_one("a", NULL));
	ck_assert_str_eq(value_of("a", NULL), "");
	ck_ok(store_get(store, "ab", 2, NULL, 0, &(uint32_t){0}, NULL));
}
END_TEST

START_TEST(store_single_writes_refuse_what_is_too_long)
{
	static char key[STORE_KEY_MAX + 1], value[STORE_VALUE_MAX + 1];
	uint32_t bytes;

	open_store(&small);
	ck_assert_int_eq(store_put(store, key, 0, value, 1, NULL, NULL), -EINVAL);
	ck_assert_int_eq(store_put(store, key, sizeof(key), value, 1, NULL, NULL), -ENAMETOOLONG);
	ck_assert_int_eq(store_put(store, key, 1, value, sizeof(value), NULL, NULL), -E2BIG);
	ck_assert_int_eq(store_delete(store, key, 0, NULL, NULL), -EINVAL);
	ck_ok(store_put(store, key, STORE_KEY_MAX, value, STORE_VALUE_MAX, NULL, NULL));
	ck_ok(store_get(store, key, STORE_KEY_MAX, value, sizeof(value), &bytes, NULL));
	ck_assert_uint_eq(bytes, STORE_VALUE_MAX);
	ck_ok(store_delete(store, key, STORE_KEY_MAX, NULL, NULL));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store");
	TCase *tcase = tcase_create("store");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 240);
	tcase_add_test(tcase, store_returns_what_was_put);
	tcase_add_test(tcase, store_keeps_values_over_a_clean_close);
	tcase_add_test(tcase, store_recovers_synced_values_after_a_death);
	tcase_add_test(tcase, store_works_with_a_checkpoint_thread);
	tcase_add_test(tcase, store_cursor_walks_in_order);
	tcase_add_test(tcase, store_frames_empty_out_when_keys_go);
	tcase_add_test(tcase, store_moves_a_prefix_whatever_is_below);
	add_frame_tests(tcase);
	tcase_add_test(tcase, store_guards_refuse_and_change_nothing);
	tcase_add_test(tcase, store_names_the_first_guard_that_failed);
	tcase_add_test(tcase, store_guards_alone_leave_nothing_in_the_journal);
	tcase_add_test(tcase, store_refuses_changes_below_moves_of_the_same_batch);
	tcase_add_test(tcase, store_deletes_keys_that_moves_have_made_long);
	tcase_add_test(tcase, store_single_writes_do_what_batches_of_one_do);
	tcase_add_test(tcase, store_single_writes_refuse_what_is_too_long);
	tcase_add_test(tcase, store_serves_several_writers_at_once);
	tcase_add_test(tcase, store_read_only_open_recovers_without_writing);
	tcase_add_test(tcase, store_leaves_a_device_that_its_caller_keeps);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
