/*
 * Random operations on a store and on a plain model, compared all the time.
 *
 * TEST_SEED replays a run; TEST_OPS makes it longer (check-model-long).  The pool is
 * once 16 slots, much less than the tree, and once large enough for all of it.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "device/device_test.h"
#include "tests/model/store_script.h"
#include "tests/support/support.h"

#define VOLUME_BYTES (768ull << 20)
#define OPS_DEFAULT 60000

struct run {
	struct device *device;
	struct store *store;
	struct store_options options;
	struct store_batch *batch;
	struct model model;
	struct script script;
	uint8_t *key, *value;
	uint64_t ops, batches, refused, moves, scans, reopens;
};

static void open_store(struct run *run)
{
	ck_ok(store_open(run->device, &run->options, &run->store));
	ck_ok(store_batch_create(run->store, &run->batch));
}

static void start(struct run *run, uint64_t cache_bytes, bool has_thread, uint64_t seed)
{
	struct store_format_options format = {.label = "model", .uuid = {4, 5}, .journal_bytes = 8 << 20};

	memset(run, 0, sizeof(*run));
	run->options = (struct store_options){
	    .cache_bytes = cache_bytes, .no_threads = !has_thread, .keep_device = true};
	run->key = malloc(2 * (size_t)STORE_KEY_MAX);
	run->value = malloc(STORE_VALUE_MAX);
	ck_ok(device_open_memory(VOLUME_BYTES, &run->device));
	ck_ok(store_format(run->device, &format));
	model_init(&run->model);
	script_init(&run->script, seed, &run->model);
	run->script.bytes_wanted = cache_bytes > (64 << 20) ? 24 << 20 : 12 << 20;
	open_store(run);
}

static void finish(struct run *run)
{
	ck_assert(model_equals(&run->model, run->store, false));
	/* One may just have lost its last key. */
	ck_assert_uint_le(store_empty_frames(run->store), 2);
	store_batch_destroy(run->batch);
	ck_ok(store_close(run->store));
	device_close(run->device);
	printf("# %llu batches (%llu refused, %llu moves), %llu scans, %llu reopens; %u keys, %llu bytes\n",
	    (unsigned long long)run->batches, (unsigned long long)run->refused,
	    (unsigned long long)run->moves, (unsigned long long)run->scans,
	    (unsigned long long)run->reopens, run->model.count, (unsigned long long)run->model.bytes);
	script_fini(&run->script);
	model_fini(&run->model);
	free(run->key);
	free(run->value);
}

static uint64_t below(struct run *run, uint64_t end)
{
	return support_random_below(&run->script.random, end);
}

/* ---- what is done -------------------------------------------------------------- */

static void commit_batch(struct run *run)
{
	int expected, err;

	store_batch_reset(run->batch);
	run->script.keys_max = below(run, 16) ? 6 : 40;
	expected = script_make_batch(&run->script, run->store, run->batch);
	err = store_commit(run->store, run->batch, NULL);
	/* More frames at once than half the pool. */
	if (err == -E2BIG && run->script.named > run->options.cache_bytes / FRAME_BYTES / 2)
		expected = err;
	ck_assert_msg(err == expected, "batch %llu: commit answers %d and not %d:%s",
	    (unsigned long long)run->batches, err, expected, run->script.notes);
	if (err == 0)
		script_apply(&run->script, &run->model);
	run->ops += max_of(run->script.op_count, 1u);
	run->batches++;
	run->refused += err != 0;
	for (uint32_t i = 0; i < run->script.op_count && err == 0; i++)
		run->moves += run->script.ops[i].kind == SCRIPT_MOVE;
}

static void write_key(struct run *run)
{
	int expected, err = script_write_one(&run->script, run->store, &expected);

	ck_assert_msg(err == expected, "the store answers %d and not %d:%s", err, expected,
	    run->script.notes);
	if (err == 0)
		script_apply(&run->script, &run->model);
	run->ops++;
}

static void get_key(struct run *run)
{
	uint32_t at, bytes, key_bytes = script_pick_key(&run->script, run->key);
	bool is_there = model_find(&run->model, run->key, key_bytes, &at);
	int err = store_get(run->store, run->key, key_bytes, run->value, STORE_VALUE_MAX, &bytes, NULL);

	ck_assert_int_eq(err, is_there ? 0 : -ENOENT);
	if (is_there) {
		ck_assert_uint_eq(bytes, run->model.items[at].value_bytes);
		ck_assert(model_is_value(run->value, bytes, run->model.items[at].seed));
	}
	run->ops++;
}

static void scan(struct run *run)
{
	uint32_t at, key_bytes = script_pick_key(&run->script, run->key);
	bool is_after = below(run, 2), is_there = model_find(&run->model, run->key, key_bytes, &at);
	uint32_t end = at + (uint32_t)below(run, 300);
	struct store_cursor *cursor;
	struct store_item item;

	ck_ok(store_cursor_open(run->store, NULL, &cursor));
	store_cursor_seek(cursor, run->key, key_bytes, is_after);
	for (at += is_there && is_after; at < end; at++) {
		int err = store_cursor_next(cursor, &item);

		ck_assert_int_eq(err, at < run->model.count ? 0 : -ENOENT);
		if (err)
			break;
		ck_assert_uint_eq(item.key_bytes, run->model.items[at].key_bytes);
		ck_assert(memcmp(item.key, run->model.items[at].key, item.key_bytes) == 0);
		ck_assert(model_is_value(item.value, item.value_bytes, run->model.items[at].seed));
	}
	store_cursor_close(cursor);
	run->ops++;
	run->scans++;
}

static void look_read_only(struct run *run)
{
	struct store_options options = {.cache_bytes = 8 << 20, .is_read_only = true, .keep_device = true};
	struct store *store;

	ck_ok(store_open(run->device, &options, &store));
	ck_assert(model_equals(&run->model, store, false));
	ck_ok(store_close(store));
}

/* Closed in order, or synced and left; then all of it is compared. */
static void reopen(struct run *run)
{
	bool is_clean = below(run, 2);

	if (!is_clean)
		ck_ok(store_sync(run->store, store_end_lsn(run->store), JOURNAL_SYNC));
	store_batch_destroy(run->batch);
	if (is_clean)
		ck_ok(store_close(run->store));
	else
		store_abandon(run->store);
	if (below(run, 4) == 0)
		look_read_only(run);
	open_store(run);
	ck_assert(model_equals(&run->model, run->store, false));
	run->reopens++;
}

static void run_ops(struct run *run, uint64_t ops)
{
	while (run->ops < ops) {
		uint64_t draw = below(run, 20000);

		if (draw < 3)
			reopen(run);
		else if (draw < 20)
			ck_ok(store_checkpoint(run->store));
		else if (draw < 21)
			ck_assert(model_equals(&run->model, run->store, false));
		else if (draw < 500)
			scan(run);
		else if (draw < 4000)
			get_key(run);
		else if (draw < 8000)
			write_key(run);
		else
			commit_batch(run);
	}
	reopen(run);
}

static uint64_t ops_wanted(void)
{
	const char *given = getenv("TEST_OPS");

	return given ? strtoull(given, NULL, 0) : OPS_DEFAULT;
}

START_TEST(store_equals_its_model_in_a_pool_smaller_than_the_tree)
{
	struct run run;

	support_log_to_stderr();
	start(&run, 8 << 20, false, support_seed(20));
	run_ops(&run, ops_wanted());
	finish(&run);
}
END_TEST

START_TEST(store_equals_its_model_in_a_small_pool_with_a_checkpoint_thread)
{
	struct run run;

	support_log_to_stderr();
	start(&run, 8 << 20, true, support_seed(21));
	run_ops(&run, ops_wanted());
	finish(&run);
}
END_TEST

START_TEST(store_equals_its_model_in_a_large_pool)
{
	struct run run;

	support_log_to_stderr();
	start(&run, 128 << 20, true, support_seed(22));
	run_ops(&run, ops_wanted());
	finish(&run);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store model");
	TCase *tcase = tcase_create("model");

	tcase_set_timeout(tcase, getenv("TEST_OPS") ? 0 : 120);
	tcase_add_test(tcase, store_equals_its_model_in_a_pool_smaller_than_the_tree);
	tcase_add_test(tcase, store_equals_its_model_in_a_small_pool_with_a_checkpoint_thread);
	tcase_add_test(tcase, store_equals_its_model_in_a_large_pool);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
