/*
 * Views against copies of the plain model.
 *
 * Random batches change a store while up to VIEWS views are open, each beside a copy of
 * the model made when it was opened; single keys, stretches and the whole are compared
 * now and then.  Pools are smaller than the tree, so that images kept for views are
 * written out, evicted and read again; checkpoints move everything.  In a store too small
 * for all of them views may end: then they say so, and until then they are right.
 *
 * TEST_SEED replays a run; TEST_OPS makes it longer.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "device/device_test.h"
#include "tests/model/store_script.h"
#include "tests/support/support.h"

#define VIEWS 5
#define OPS_DEFAULT 12000

struct seen {
	struct store_view *view; /* NULL: none */
	struct model model;
};

struct run {
	struct device *device; /* NULL: in memory */
	struct store *store;
	struct store_options options;
	struct store_batch *batch;
	struct model model;
	struct script script;
	struct seen seen[VIEWS];
	uint8_t *key, *value;
	bool may_end;
	uint64_t opened, ended, compared, reopens, refused;
};

static uint64_t below(struct run *run, uint64_t end)
{
	return support_random_below(&run->script.random, end);
}

static void open_store(struct run *run)
{
	if (run->device)
		ck_ok(store_open(run->device, &run->options, &run->store));
	else
		ck_ok(store_open_memory(&run->options, &run->store));
	ck_ok(store_batch_create(run->store, &run->batch));
}

static void start(struct run *run, uint64_t volume_bytes, uint64_t cache_bytes, bool has_thread, uint64_t seed)
{
	struct store_format_options format = {.label = "views", .uuid = {6}, .journal_bytes = 8 << 20};

	support_log_to_stderr();
	memset(run, 0, sizeof(*run));
	run->options = (struct store_options){
	    .cache_bytes = cache_bytes, .no_threads = !has_thread, .keep_device = true};
	run->key = malloc(2 * (size_t)STORE_KEY_MAX);
	run->value = malloc(STORE_VALUE_MAX);
	if (volume_bytes) {
		ck_ok(device_open_memory(volume_bytes, &run->device));
		ck_ok(store_format(run->device, &format));
	}
	model_init(&run->model);
	script_init(&run->script, seed, &run->model);
	run->script.bytes_wanted = 12 << 20;
	open_store(run);
}

/* ---- views ---------------------------------------------------------------------- */

static void close_view(struct run *run, struct seen *seen)
{
	if (!seen->view)
		return;
	store_view_close(seen->view);
	model_fini(&seen->model);
	seen->view = NULL;
}

static void open_view(struct run *run, struct seen *seen)
{
	struct store_counters before, after;

	close_view(run, seen);
	store_counters(run->store, &before);
	ck_ok(store_view_open(run->store, &seen->view));
	store_counters(run->store, &after);
	if (run->options.no_threads)
		ck_assert_uint_eq(after.cow_copies, before.cow_copies);
	model_copy(&seen->model, &run->model);
	run->opened++;
}

static bool has_ended(struct run *run, struct seen *seen, int err)
{
	if (err != -ESTALE)
		return false;
	ck_assert(run->may_end);
	run->ended++;
	close_view(run, seen);
	return true;
}

static void compare_key(struct run *run, struct seen *seen)
{
	uint32_t at, bytes, key_bytes = script_pick_key(&run->script, run->key);
	bool is_there = model_find(&seen->model, run->key, key_bytes, &at);
	int err = store_view_get(seen->view, run->key, key_bytes, run->value, STORE_VALUE_MAX, &bytes, NULL);

	if (has_ended(run, seen, err))
		return;
	ck_assert_int_eq(err, is_there ? 0 : -ENOENT);
	if (!is_there)
		return;
	ck_assert_uint_eq(bytes, seen->model.items[at].value_bytes);
	ck_assert(model_is_value(run->value, bytes, seen->model.items[at].seed));
}

static void compare_prefix(struct run *run, struct seen *seen)
{
	uint32_t key_bytes = script_pick_key(&run->script, run->key);
	int is_empty;

	key_bytes = 1 + (uint32_t)below(run, key_bytes);
	is_empty = store_view_is_prefix_empty(seen->view, run->key, key_bytes);
	if (!has_ended(run, seen, is_empty))
		ck_assert_int_eq(is_empty, !model_has_prefix(&seen->model, run->key, key_bytes));
}

static void compare_stretch(struct run *run, struct seen *seen)
{
	uint32_t at, key_bytes = script_pick_key(&run->script, run->key);
	struct store_cursor *cursor;
	struct store_item item;
	int err = 0;

	model_find(&seen->model, run->key, key_bytes, &at);
	ck_ok(store_view_cursor_open(seen->view, NULL, &cursor));
	store_cursor_seek(cursor, run->key, key_bytes, false);
	for (uint32_t end = at + (uint32_t)below(run, 300); at < end && !err; at++) {
		err = store_cursor_next(cursor, &item);
		if (err == -ESTALE)
			break;
		ck_assert_int_eq(err, at < seen->model.count ? 0 : -ENOENT);
		if (err)
			break;
		ck_assert_uint_eq(item.key_bytes, seen->model.items[at].key_bytes);
		ck_assert(memcmp(item.key, seen->model.items[at].key, item.key_bytes) == 0);
		ck_assert(model_is_value(item.value, item.value_bytes, seen->model.items[at].seed));
	}
	store_cursor_close(cursor);
	has_ended(run, seen, err);
}

static void compare_all(struct run *run, struct seen *seen)
{
	uint8_t byte = 0;
	uint32_t bytes;

	if (model_equals_view(&seen->model, seen->view, run->may_end))
		return;
	/* Unless it has ended in the midst of it. */
	has_ended(run, seen, store_view_get(seen->view, &byte, 1, NULL, 0, &bytes, NULL));
	ck_assert(!seen->view);
}

static void use_view(struct run *run)
{
	struct seen *seen = &run->seen[below(run, VIEWS)];
	uint64_t draw = below(run, 1000);

	if (draw < 40 || !seen->view) {
		open_view(run, seen);
		return;
	}
	run->compared++;
	if (draw < 60)
		close_view(run, seen);
	else if (draw < 70)
		compare_all(run, seen);
	else if (draw < 200)
		compare_stretch(run, seen);
	else if (draw < 300)
		compare_prefix(run, seen);
	else
		compare_key(run, seen);
}

/* ---- changes ---------------------------------------------------------------------- */

static void commit_batch(struct run *run)
{
	int expected, err;

	store_batch_reset(run->batch);
	run->script.keys_max = below(run, 4) ? 4 : 40;
	expected = script_make_batch(&run->script, run->store, run->batch);
	err = store_commit(run->store, run->batch, NULL);
	run->refused += err == -E2BIG || err == -ENOSPC;
	/* Each frame may need a copy beside it. */
	if (err == -E2BIG && run->script.named > run->options.cache_bytes / FRAME_BYTES / 4)
		expected = err;
	if (err == -ENOSPC && run->may_end)
		expected = err;
	ck_assert_msg(err == expected, "commit answers %d and not %d", err, expected);
	if (err == 0)
		script_apply(&run->script, &run->model);
}

static void reopen(struct run *run)
{
	for (unsigned i = 0; i < VIEWS; i++)
		close_view(run, &run->seen[i]);
	if (!run->device)
		return;
	store_batch_destroy(run->batch);
	if (below(run, 2)) {
		ck_ok(store_close(run->store));
	} else {
		ck_ok(store_sync(run->store, store_end_lsn(run->store), JOURNAL_SYNC));
		store_abandon(run->store);
	}
	open_store(run);
	ck_assert(model_equals(&run->model, run->store, false));
	run->reopens++;
}

static void run_ops(struct run *run)
{
	const char *given = getenv("TEST_OPS");
	uint64_t ops = given ? strtoull(given, NULL, 0) : OPS_DEFAULT;

	for (uint64_t i = 0; i < ops; i++) {
		uint64_t draw = below(run, 5000);

		if (draw < 2)
			reopen(run);
		else if (draw < 20)
			ck_ok(store_checkpoint(run->store));
		else if (draw < 2000)
			use_view(run);
		else
			commit_batch(run);
	}
	for (unsigned i = 0; i < VIEWS; i++)
		if (run->seen[i].view)
			compare_all(run, &run->seen[i]);
}

static void finish(struct run *run)
{
	struct store_counters counters;

	for (unsigned i = 0; i < VIEWS; i++)
		close_view(run, &run->seen[i]);
	store_counters(run->store, &counters);
	ck_assert_uint_eq(counters.views, 0);
	ck_assert(model_equals(&run->model, run->store, false));
	reopen(run);
	store_batch_destroy(run->batch);
	ck_ok(store_close(run->store));
	device_close(run->device);
	printf("# %llu views (%llu ended), %llu compared, %llu reopens, %llu batches refused; %u keys\n",
	    (unsigned long long)run->opened, (unsigned long long)run->ended,
	    (unsigned long long)run->compared, (unsigned long long)run->reopens,
	    (unsigned long long)run->refused, run->model.count);
	script_fini(&run->script);
	model_fini(&run->model);
	free(run->key);
	free(run->value);
}

START_TEST(views_equal_their_models_in_a_pool_smaller_than_the_tree)
{
	struct run run;

	start(&run, 768ull << 20, 8 << 20, false, support_seed(61));
	run_ops(&run);
	finish(&run);
}
END_TEST

START_TEST(views_equal_their_models_beside_a_checkpoint_thread)
{
	struct run run;

	start(&run, 768ull << 20, 8 << 20, true, support_seed(62));
	run_ops(&run);
	finish(&run);
}
END_TEST

START_TEST(views_equal_their_models_in_a_large_pool)
{
	struct run run;

	start(&run, 768ull << 20, 128 << 20, true, support_seed(63));
	run_ops(&run);
	finish(&run);
}
END_TEST

START_TEST(views_equal_their_models_in_memory)
{
	struct run run;

	start(&run, 0, 256 << 20, false, support_seed(64));
	run_ops(&run);
	ck_assert_uint_eq(run.ended, 0);
	finish(&run);
}
END_TEST

START_TEST(views_of_a_full_volume_end_and_say_so)
{
	struct run run;

	start(&run, 30ull << 20, 8 << 20, false, support_seed(65));
	run.may_end = true;
	run_ops(&run);
	finish(&run);
}
END_TEST

/* Of three places that a batch needed, its edits took the first, and what the move then asked
 * for did a checkpoint bring, which wrote what the edits had taken it for: for ever. */
START_TEST(a_batch_of_edits_and_a_move_comes_to_an_end_in_a_full_volume)
{
	struct run run;

	start(&run, 30ull << 20, 8 << 20, false, 9005);
	run.may_end = true;
	run_ops(&run);
	finish(&run);
}
END_TEST

START_TEST(views_of_a_full_memory_end_and_say_so)
{
	struct run run;

	start(&run, 0, 12 << 20, false, support_seed(66));
	run.script.bytes_wanted = 3 << 20;
	run.may_end = true;
	run_ops(&run);
	finish(&run);
}
END_TEST

static void put_number(struct run *run, unsigned number, uint8_t byte)
{
	char key[8];

	memset(run->value, byte, 1000);
	ck_ok(store_put(run->store, key, (uint32_t)sprintf(key, "%05u", number), run->value, 1000, NULL, NULL));
}

/* A view keeps an image that the disk does not have, and every frame that the batch
 * changes is to be copied: half of the pool for these, half for the copies. */
START_TEST(a_batch_may_need_all_slots_while_a_view_keeps_images)
{
	struct store_view *first, *second;
	struct run run;
	char key[8];

	start(&run, 768ull << 20, 8 << 20, false, 1);
	for (unsigned i = 0; i < 5000; i++)
		put_number(&run, i, 0);
	ck_ok(store_checkpoint(run.store));
	put_number(&run, 0, 1);
	ck_ok(store_view_open(run.store, &first));
	put_number(&run, 0, 2);
	ck_ok(store_checkpoint(run.store));
	ck_ok(store_view_open(run.store, &second));
	memset(run.value, 3, 1000);
	for (unsigned i = 0; i < 8; i++)
		store_batch_put(run.batch, key, (uint32_t)sprintf(key, "%05u", 600 * i), run.value, 1000);
	ck_ok(store_commit(run.store, run.batch, NULL));
	store_view_close(first);
	store_view_close(second);
	store_batch_destroy(run.batch);
	ck_ok(store_close(run.store));
	device_close(run.device);
	script_fini(&run.script);
	model_fini(&run.model);
	free(run.key);
	free(run.value);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store views");
	TCase *tcase = tcase_create("views");

	tcase_set_timeout(tcase, getenv("TEST_OPS") ? 0 : 300);
	tcase_add_test(tcase, a_batch_may_need_all_slots_while_a_view_keeps_images);
	tcase_add_test(tcase, views_equal_their_models_in_a_pool_smaller_than_the_tree);
	tcase_add_test(tcase, views_equal_their_models_beside_a_checkpoint_thread);
	tcase_add_test(tcase, views_equal_their_models_in_a_large_pool);
	tcase_add_test(tcase, views_equal_their_models_in_memory);
	tcase_add_test(tcase, views_of_a_full_volume_end_and_say_so);
	tcase_add_test(tcase, a_batch_of_edits_and_a_move_comes_to_an_end_in_a_full_volume);
	tcase_add_test(tcase, views_of_a_full_memory_end_and_say_so);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
