/*
 * Stores in memory: they answer as stores on a device do, copy nothing, and when the
 * cache is full they say so and lose nothing.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model/store_script.h"
#include "tests/support/support.h"

static struct store *store;
static struct store_batch *batch;

static void open_memory(uint64_t cache_bytes)
{
	struct store_options options = {.cache_bytes = cache_bytes};

	support_log_to_stderr();
	ck_ok(store_open_memory(&options, &store));
	ck_ok(store_batch_create(store, &batch));
}

static void close_memory(void)
{
	store_batch_destroy(batch);
	ck_ok(store_close(store));
}

static int put(uint64_t number, uint32_t value_bytes)
{
	static uint8_t value[STORE_VALUE_MAX];
	char key[32];

	store_batch_reset(batch);
	store_batch_put(batch, key, (uint32_t)sprintf(key, "/key-%08llu", (unsigned long long)number),
	    value, value_bytes);
	return store_commit(store, batch, NULL);
}

static int get(uint64_t number)
{
	uint8_t value[512];
	uint32_t bytes;
	char key[32];

	return store_get(store, key, (uint32_t)sprintf(key, "/key-%08llu", (unsigned long long)number),
	    value, sizeof(value), &bytes, NULL);
}

static int drop(uint64_t number)
{
	char key[32];

	store_batch_reset(batch);
	store_batch_delete(batch, key, (uint32_t)sprintf(key, "/key-%08llu", (unsigned long long)number));
	return store_commit(store, batch, NULL);
}

/* Random batches, moves and guards among them, against the plain model. */
START_TEST(memory_store_equals_its_model)
{
	struct script script;
	struct model model;

	open_memory(128 << 20);
	model_init(&model);
	script_init(&script, support_seed(51), &model);
	script.bytes_wanted = 12 << 20;
	for (unsigned i = 0; i < 20000; i++) {
		int expected;

		store_batch_reset(batch);
		expected = script_make_batch(&script, store, batch);
		ck_assert_int_eq(store_commit(store, batch, NULL), expected);
		if (!expected)
			script_apply(&script, &model);
		if (i % 2000 == 0)
			ck_assert(model_equals(&model, store, false));
	}
	ck_assert(model_equals(&model, store, false));
	script_fini(&script);
	model_fini(&model);
	close_memory();
}
END_TEST

START_TEST(memory_store_copies_no_frames)
{
	struct store_counters counters;

	open_memory(64 << 20);
	for (uint64_t i = 0; i < 100000; i++)
		ck_ok(put(i, 32));
	ck_ok(store_checkpoint(store));
	ck_ok(store_sync(store, store_end_lsn(store), JOURNAL_SYNC));
	for (uint64_t i = 0; i < 100000; i++)
		ck_ok(put(i, 40));
	store_counters(store, &counters);
	ck_assert_uint_eq(counters.cow_copies, 0);
	ck_assert_uint_eq(counters.checkpoints, 0);
	close_memory();
}
END_TEST

START_TEST(memory_store_full_answers_enospc_and_loses_nothing)
{
	uint64_t count = 0, more = 0;
	int err;

	open_memory(8 << 20);
	while ((err = put(count, 400)) == 0)
		count++;
	ck_assert_int_eq(err, -ENOSPC);
	ck_assert_uint_gt(count, 8000);
	for (uint64_t i = 0; i < count; i++)
		ck_ok(get(i));
	ck_assert_int_eq(get(count), -ENOENT);
	/* What is deleted makes room. */
	for (uint64_t i = 0; i < count / 2; i++)
		ck_ok(drop(i));
	while (put(count + more, 400) == 0)
		more++;
	ck_assert_uint_gt(more, count / 4);
	for (uint64_t i = count / 2; i < count + more; i++)
		ck_ok(get(i));
	for (uint64_t i = count / 2; i < count + more; i++)
		ck_ok(drop(i));
	close_memory();
}
END_TEST

START_TEST(memory_store_versions_never_come_twice)
{
	uint64_t version, last = 0;
	uint32_t bytes;

	open_memory(8 << 20);
	for (unsigned i = 0; i < 1000; i++) {
		ck_ok(put(1, 0));
		ck_ok(store_get(store, "/key-00000001", 13, NULL, 0, &bytes, &version));
		ck_assert_uint_gt(version, last);
		last = version;
		ck_ok(drop(1));
	}
	close_memory();
}
END_TEST

START_TEST(memory_store_has_no_data_blocks)
{
	struct space_run run;

	open_memory(8 << 20);
	ck_assert_int_eq(store_alloc_blocks(store, 1, &run), -EINVAL);
	store_batch_free_blocks(batch, 100, 1);
	ck_assert_int_eq(store_commit(store, batch, NULL), -EINVAL);
	close_memory();
}
END_TEST

static int stop(void *ctx, uint64_t done, uint64_t total)
{
	return 0;
}

START_TEST(memory_store_is_compacted)
{
	struct store_counters before, after;

	open_memory(64 << 20);
	for (uint64_t i = 0; i < 100000; i++)
		ck_ok(put(i, 100));
	store_counters(store, &before);
	for (uint64_t i = 0; i < 100000; i++)
		if (i % 4)
			ck_ok(drop(i));
	ck_ok(store_compact(store, NULL, 0, stop, NULL));
	store_counters(store, &after);
	ck_assert_uint_le(after.tree_frames, before.tree_frames / 2 + 1);
	for (uint64_t i = 0; i < 100000; i += 4)
		ck_ok(get(i));
	close_memory();
}
END_TEST

#define WRITERS 4
#define KEYS_EACH 8000

static void *write_own_keys(void *ctx)
{
	uint64_t first = (uint64_t)(uintptr_t)ctx * KEYS_EACH;
	struct store_batch *own;

	ck_ok(store_batch_create(store, &own));
	for (uint64_t i = 0; i < KEYS_EACH; i++) {
		char key[32];
		uint32_t bytes = (uint32_t)sprintf(key, "/key-%08llu", (unsigned long long)(first + i));

		store_batch_reset(own);
		store_batch_put(own, key, bytes, key, bytes);
		ck_ok(store_commit(store, own, NULL));
	}
	store_batch_destroy(own);
	return NULL;
}

START_TEST(memory_store_takes_several_writers)
{
	pthread_t threads[WRITERS];

	open_memory(64 << 20);
	for (uintptr_t i = 0; i < WRITERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, write_own_keys, (void *)i), 0);
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	for (uint64_t i = 0; i < WRITERS * KEYS_EACH; i++)
		ck_ok(get(i));
	close_memory();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store in memory");
	TCase *tcase = tcase_create("memory");

	tcase_set_timeout(tcase, 300);
	tcase_add_test(tcase, memory_store_equals_its_model);
	tcase_add_test(tcase, memory_store_copies_no_frames);
	tcase_add_test(tcase, memory_store_full_answers_enospc_and_loses_nothing);
	tcase_add_test(tcase, memory_store_versions_never_come_twice);
	tcase_add_test(tcase, memory_store_has_no_data_blocks);
	tcase_add_test(tcase, memory_store_is_compacted);
	tcase_add_test(tcase, memory_store_takes_several_writers);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
