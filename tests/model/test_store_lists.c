/*
 * Listings of random ranges, with and without a delimiter, against a sorted array; and
 * while the store is changed between the steps.
 *
 * Nothing changed:  the items are exactly those of the model.
 * Changed between:  every item that was there all the time is seen once, nothing is seen
 *                   that never was, and all of it in order.
 *
 * Listings go by the number of frames that hold nothing; core/check counts those too.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "check/check.h"
#include "device/device_test.h"
#include "tests/model/store_script.h"
#include "tests/support/support.h"

#define VOLUME_BYTES (256ull << 20)
#define ROUNDS_DEFAULT 120

struct run {
	struct device *device;
	struct store *store;
	struct store_batch *batch;
	struct model model;
	struct script script;
	uint8_t *prefix, *start, *last;
	uint64_t items, groups, walks;
	uint64_t empty_most; /* frames that held nothing at one time */
};

static uint64_t below(struct run *run, uint64_t end)
{
	return support_random_below(&run->script.random, end);
}

static void start(struct run *run, uint64_t cache_bytes, bool no_merge, uint64_t seed)
{
	struct store_format_options format = {.label = "lists", .uuid = {4, 6}, .journal_bytes = 8 << 20};
	struct store_options options = {.cache_bytes = cache_bytes, .no_threads = true, .no_merge = no_merge};

	support_log_to_stderr();
	memset(run, 0, sizeof(*run));
	run->prefix = malloc(1 << 20);
	run->start = malloc(1 << 20);
	run->last = malloc(1 << 20);
	ck_ok(device_open_memory(VOLUME_BYTES, &run->device));
	ck_ok(store_format(run->device, &format));
	ck_ok(store_open(run->device, &options, &run->store));
	ck_ok(store_batch_create(run->store, &run->batch));
	model_init(&run->model);
	script_init(&run->script, seed, &run->model);
	run->script.bytes_wanted = 10 << 20;
}

static void finish(struct run *run)
{
	printf("# %llu walks, %llu keys, %llu common prefixes; %u keys in the end; at most %llu empty frames\n",
	    (unsigned long long)run->walks, (unsigned long long)run->items,
	    (unsigned long long)run->groups, run->model.count, (unsigned long long)run->empty_most);
	ck_assert(model_equals(&run->model, run->store, false));
	store_batch_destroy(run->batch);
	ck_ok(store_close(run->store));
	script_fini(&run->script);
	model_fini(&run->model);
	free(run->prefix);
	free(run->start);
	free(run->last);
}

static void change(struct run *run, unsigned batches)
{
	while (batches-- > 0) {
		int expected, err;

		store_batch_reset(run->batch);
		run->script.keys_max = 40;
		expected = script_make_batch(&run->script, run->store, run->batch);
		err = store_commit(run->store, run->batch, NULL);
		ck_assert_msg(err == expected || err == -E2BIG, "commit answers %d and not %d", err, expected);
		if (err == 0)
			script_apply(&run->script, &run->model);
	}
}

static void commit(struct run *run)
{
	ck_ok(store_commit(run->store, run->batch, NULL));
	store_batch_reset(run->batch);
	run->empty_most = max_of(run->empty_most, store_empty_frames(run->store));
}

/* Keys beside one another, so many that frames lose all they have. */
static void delete_many(struct run *run)
{
	uint32_t count = run->model.count - run->model.count / (1 + (uint32_t)below(run, 8));
	uint32_t at = (uint32_t)below(run, run->model.count - count + 1);

	store_batch_reset(run->batch);
	for (uint32_t i = 0; i < count; i++) {
		const struct model_item *item = &run->model.items[at];

		store_batch_delete(run->batch, item->key, item->key_bytes);
		model_delete(&run->model, item->key, item->key_bytes);
		if (i % 8 == 0)
			commit(run);
	}
	commit(run);
}

/* @ctx: the run. */
static void report(void *ctx, enum check_severity severity, const char *what)
{
	ck_assert_msg(severity == CHECK_NOTE, "%s", what);
}

/* On disk all is well, with the log and without. */
static void check_disk(struct run *run)
{
	struct check_options options = {.is_store_only = true, .cache_bytes = 32 << 20, .report = report};
	struct check_totals totals;
	struct device *copy;

	if (below(run, 2))
		ck_ok(store_checkpoint(run->store));
	ck_ok(store_sync(run->store, store_end_lsn(run->store), JOURNAL_SYNC));
	ck_ok(device_open_copy(run->device, &copy));
	ck_ok(check_volume(copy, &options, &totals));
	ck_assert_uint_eq(totals.keys, run->model.count);
}

/* ---- ranges ---------------------------------------------------------------------- */

static void pick_range(struct run *run, struct store_range *range)
{
	static const uint8_t delimiters[] = {'/', '/', '/', 0, 1, 'a', 'b', 'L', '-', 0xff};
	uint32_t bytes = script_pick_key(&run->script, run->prefix);

	*range = (struct store_range){
	    .prefix = run->prefix,
	    .prefix_bytes = below(run, 4) ? (uint32_t)below(run, min_of(bytes, 30u) + 1) : bytes,
	    .has_delimiter = below(run, 3),
	    .delimiter = delimiters[below(run, ARRAY_COUNT(delimiters))],
	    .keys_only = below(run, 2),
	    .is_after = below(run, 2),
	};
	if (below(run, 5) == 0)
		range->prefix_bytes = 0;
	if (below(run, 2))
		return;
	bytes = script_pick_key(&run->script, run->start);
	if (below(run, 2) && bytes >= range->prefix_bytes)
		memcpy(run->start, run->prefix, range->prefix_bytes);
	range->start = run->start;
	range->start_bytes = below(run, 2) ? bytes : 1 + (uint32_t)below(run, bytes);
}

static bool begins_with(const uint8_t *key, uint32_t key_bytes, const void *prefix, uint32_t prefix_bytes)
{
	return key_bytes >= prefix_bytes && memcmp(key, prefix, prefix_bytes) == 0;
}

static int compare(const uint8_t *a, uint32_t a_bytes, const uint8_t *b, uint32_t b_bytes)
{
	int order = memcmp(a, b, min_of(a_bytes, b_bytes));

	return order ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

/* How much of the key is a common prefix; 0: the key is listed itself. */
static uint32_t group_of(const struct store_range *range, const uint8_t *key, uint32_t key_bytes)
{
	for (uint32_t i = range->prefix_bytes; range->has_delimiter && i < key_bytes; i++)
		if (key[i] == range->delimiter)
			return i + 1;
	return 0;
}

/* Is the key among those to be listed? */
static bool is_in_range(const struct store_range *range, const uint8_t *key, uint32_t key_bytes)
{
	const uint8_t *from = range->start;
	int order;

	if (!begins_with(key, key_bytes, range->prefix, range->prefix_bytes))
		return false;
	if (!from)
		return true;
	if (range->is_after && range->start_bytes >= range->prefix_bytes &&
	    group_of(range, from, range->start_bytes) == range->start_bytes &&
	    begins_with(key, key_bytes, from, range->start_bytes))
		return false;
	order = compare(key, key_bytes, from, range->start_bytes);
	return order > 0 || (order == 0 && !range->is_after);
}

/* ---- nothing changes --------------------------------------------------------------- */

struct expectation {
	struct run *run;
	const struct store_range *range;
	uint32_t at; /* in the model */
};

/* The next item as the model has it: its length; 0: none. */
static uint32_t expected_next(struct expectation *e, const struct model_item **ret)
{
	const struct model *model = &e->run->model;

	while (e->at < model->count) {
		const struct model_item *item = &model->items[e->at++];
		uint32_t group;

		if (!is_in_range(e->range, item->key, item->key_bytes))
			continue;
		*ret = item;
		group = group_of(e->range, item->key, item->key_bytes);
		while (group && e->at < model->count &&
		       begins_with(model->items[e->at].key, model->items[e->at].key_bytes, item->key, group))
			e->at++;
		return group ? group : item->key_bytes;
	}
	return 0;
}

static int check_item(void *ctx, const struct store_item *item)
{
	const struct model_item *expected = NULL;
	struct expectation *e = ctx;
	uint32_t bytes = expected_next(e, &expected);
	bool is_group = bytes && group_of(e->range, expected->key, expected->key_bytes);

	ck_assert(bytes > 0);
	ck_assert_int_eq(compare(item->key, item->key_bytes, expected->key, bytes), 0);
	ck_assert_int_eq(item->is_prefix, is_group);
	if (is_group || e->range->keys_only) {
		ck_assert(!item->value && !item->value_bytes && !item->version);
	} else {
		ck_assert_uint_eq(item->value_bytes, expected->value_bytes);
		ck_assert(model_is_value(item->value, item->value_bytes, expected->seed));
		ck_assert(item->version);
	}
	e->run->items += !is_group;
	e->run->groups += is_group;
	return 0;
}

static void visit_still(struct run *run)
{
	struct store_range range;
	struct expectation e = {.run = run, .range = &range};
	uint64_t limit = below(run, 2) ? below(run, 200) : 0;
	const struct model_item *rest;

	pick_range(run, &range);
	ck_ok(store_visit(run->store, &range, limit, check_item, &e));
	if (!limit)
		ck_assert_uint_eq(expected_next(&e, &rest), 0);
	run->walks++;
}

/* Steps, now and then with a jump to where the walk is already. */
static void step_still(struct run *run)
{
	struct store_range range;
	struct expectation e = {.run = run, .range = &range};
	const struct model_item *rest;
	struct store_cursor *cursor;
	struct store_item item;
	int err;

	pick_range(run, &range);
	ck_ok(store_cursor_open(run->store, &range, &cursor));
	while ((err = store_cursor_next(cursor, &item)) == 0) {
		check_item(&e, &item);
		if (below(run, 20) == 0)
			store_cursor_seek(cursor, item.key, item.key_bytes, true);
		if (below(run, 200) == 0)
			ck_ok(store_checkpoint(run->store));
	}
	ck_assert_int_eq(err, -ENOENT);
	ck_assert_uint_eq(expected_next(&e, &rest), 0);
	ck_assert_int_eq(store_cursor_next(cursor, &item), -ENOENT);
	store_cursor_close(cursor);
	run->walks++;
}

static void look_for_prefixes(struct run *run)
{
	uint32_t bytes = script_pick_key(&run->script, run->prefix), found, at, value_bytes;
	uint32_t expected = 0;
	uint64_t version;
	int err;

	for (uint32_t i = 1; i <= bytes; i++)
		if (model_find(&run->model, run->prefix, i, &at))
			expected = i;
	err = store_longest_prefix(run->store, run->prefix, bytes, &found, run->start, 1 << 20,
	    &value_bytes, &version);
	ck_assert_int_eq(err, expected ? 0 : -ENOENT);
	if (expected) {
		ck_assert_uint_eq(found, expected);
		ck_assert(model_find(&run->model, run->prefix, expected, &at));
		ck_assert_uint_eq(value_bytes, run->model.items[at].value_bytes);
		ck_assert(model_is_value(run->start, value_bytes, run->model.items[at].seed));
	}
	bytes = (uint32_t)below(run, bytes + 1);
	ck_assert_int_eq(store_is_prefix_empty(run->store, run->prefix, bytes),
	    !model_has_prefix(&run->model, run->prefix, bytes));
}

/* ---- changes between the steps ------------------------------------------------------ */

struct watch {
	struct run *run;
	const struct store_range *range;
	struct model ever;   /* keys there at some time */
	struct model always; /* keys there all the time; seen ones are taken out */
	uint32_t last_bytes;
	bool has_last;
};

static void watch_changes(struct watch *watch)
{
	const struct model *model = &watch->run->model;
	struct model kept;
	uint32_t at;

	for (uint32_t i = 0; i < model->count; i++)
		model_put(&watch->ever, model->items[i].key, model->items[i].key_bytes, 0, 0);
	model_init(&kept);
	for (uint32_t i = 0; i < watch->always.count; i++) {
		const struct model_item *item = &watch->always.items[i];

		if (model_find(model, item->key, item->key_bytes, &at))
			model_put(&kept, item->key, item->key_bytes, 0, 0);
	}
	model_fini(&watch->always);
	watch->always = kept;
}

/* What the item says is there is no longer missed. */
static void take_seen(struct watch *watch, const struct store_item *item)
{
	uint32_t at;

	model_find(&watch->always, item->key, item->key_bytes, &at);
	while (at < watch->always.count) {
		struct model_item *seen = &watch->always.items[at];

		if (item->is_prefix ? !begins_with(seen->key, seen->key_bytes, item->key, item->key_bytes) :
				      compare(seen->key, seen->key_bytes, item->key, item->key_bytes) != 0)
			break;
		model_delete(&watch->always, seen->key, seen->key_bytes);
	}
}

static void check_moving(struct watch *watch, const struct store_item *item)
{
	struct run *run = watch->run;
	uint32_t at, group = group_of(watch->range, item->key, item->key_bytes);

	ck_assert(!watch->has_last ||
		  compare(item->key, item->key_bytes, run->last, watch->last_bytes) > 0);
	ck_assert(begins_with(item->key, item->key_bytes, watch->range->prefix, watch->range->prefix_bytes));
	if (item->is_prefix) {
		ck_assert_uint_eq(group, item->key_bytes);
		ck_assert(model_has_prefix(&watch->ever, item->key, item->key_bytes));
	} else {
		ck_assert_uint_eq(group, 0);
		ck_assert(model_find(&watch->ever, item->key, item->key_bytes, &at));
	}
	take_seen(watch, item);
	memcpy(run->last, item->key, item->key_bytes);
	watch->last_bytes = item->key_bytes;
	watch->has_last = true;
	run->items += !item->is_prefix;
	run->groups += item->is_prefix;
}

static void step_moving(struct run *run)
{
	struct store_range range;
	struct watch watch = {.run = run, .range = &range};
	struct store_cursor *cursor;
	struct store_item item;
	unsigned often = 1 + (unsigned)below(run, 200);
	int err;

	pick_range(run, &range);
	model_init(&watch.ever);
	model_init(&watch.always);
	for (uint32_t i = 0; i < run->model.count; i++) {
		const struct model_item *there = &run->model.items[i];

		if (is_in_range(&range, there->key, there->key_bytes))
			model_put(&watch.always, there->key, there->key_bytes, 0, 0);
	}
	watch_changes(&watch);
	ck_ok(store_cursor_open(run->store, &range, &cursor));
	while ((err = store_cursor_next(cursor, &item)) == 0) {
		check_moving(&watch, &item);
		if (below(run, often) == 0) {
			change(run, 1 + (unsigned)below(run, 3));
			watch_changes(&watch);
		}
	}
	ck_assert_int_eq(err, -ENOENT);
	ck_assert_msg(watch.always.count == 0, "%u keys were not seen", watch.always.count);
	store_cursor_close(cursor);
	model_fini(&watch.ever);
	model_fini(&watch.always);
	run->walks++;
}

static uint64_t rounds_wanted(void)
{
	const char *given = getenv("TEST_ROUNDS");

	return given ? strtoull(given, NULL, 0) : ROUNDS_DEFAULT;
}

static void run_rounds(uint64_t cache_bytes, bool no_merge, uint64_t seed)
{
	struct run run;

	start(&run, cache_bytes, no_merge, seed);
	change(&run, 200);
	for (uint64_t i = 0; i < rounds_wanted(); i++) {
		change(&run, 12);
		for (unsigned j = 0; j < 8; j++)
			visit_still(&run);
		step_still(&run);
		for (unsigned j = 0; j < 20; j++)
			look_for_prefixes(&run);
		if (i % 4 == 0)
			step_moving(&run);
		if (i % 16 == 0)
			delete_many(&run);
		if (i % 8 == 0)
			check_disk(&run);
	}
	finish(&run);
}

START_TEST(lists_equal_the_model_in_a_pool_smaller_than_the_tree)
{
	run_rounds(8 << 20, false, support_seed(70));
}
END_TEST

START_TEST(lists_equal_the_model_in_a_large_pool)
{
	run_rounds(64 << 20, false, support_seed(71));
}
END_TEST

START_TEST(lists_equal_the_model_where_empty_frames_stay)
{
	run_rounds(_i ? 8 << 20 : 64 << 20, true, support_seed(72) + (uint64_t)_i);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store lists");
	TCase *tcase = tcase_create("model");

	tcase_set_timeout(tcase, getenv("TEST_ROUNDS") ? 0 : 120);
	tcase_add_test(tcase, lists_equal_the_model_in_a_pool_smaller_than_the_tree);
	tcase_add_test(tcase, lists_equal_the_model_in_a_large_pool);
	tcase_add_loop_test(tcase, lists_equal_the_model_where_empty_frames_stay, 0, 2);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
