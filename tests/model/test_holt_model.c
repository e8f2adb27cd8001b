/*
 * Random calls of holt.h on a store and on a plain sorted map.  Batches name the same
 * few keys again and again, so that operations meet what others before them did.  After
 * each change the versions of the store become the model's, and every so often all keys
 * are compared, in listings of every kind.
 *
 * TEST_SEED replays a run; TEST_OPS makes it longer.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "tests/model/holt_calls.h"
#include "tests/support/support.h"
#include "tests/unit/test_holt.h"

#define OPS_DEFAULT 20000
#define BATCH_OPS 10

static struct model model, scratch, viewed;
static struct holt_view *view; /* of viewed */
static uint64_t random_state, next_value;
static uint64_t refused, made, moves;
static bool is_in_memory;

static uint64_t below(uint64_t end)
{
	return support_random_below(&random_state, end);
}

/* ---- picking -------------------------------------------------------------------------- */

/* 1 to 4 components of one letter: few enough to meet. */
static struct model_key pick_key(void)
{
	static const char letters[] = {'a', 'b', '\0', (char)0xff};
	uint32_t parts = 1 + (uint32_t)below(4);
	struct model_key key = {.count = 0};

	if (model.count && below(3) == 0)
		return model.items[below(model.count)].key;
	for (uint32_t i = 0; i < parts; i++) {
		key.bytes[key.count++] = (uint8_t)letters[below(4)];
		if (i + 1 < parts || below(3) == 0)
			key.bytes[key.count++] = '/';
	}
	return key;
}

static struct op pick_op(enum op_kind kind)
{
	struct op op = {.kind = kind, .key = pick_key(), .destination = pick_key(),
	    .value = ++next_value, .is_replacing = below(2)};
	const struct model_item *item = model_find(&model, &op.key);

	op.version = item && below(4) ? item->version : 1 + below(100);
	return op;
}

/* ---- doing ---------------------------------------------------------------------------- */

/* New values have versions that no value had before. */
static void learn_versions(void)
{
	for (uint32_t i = 0; i < model.count; i++) {
		struct model_item *item = &model.items[i];

		if (item->version == 0)
			ck_ok(holt_get_version(holt, item->key.bytes, item->key.count, &item->version));
	}
}

static void do_single(void)
{
	static const enum op_kind kinds[] = {OP_PUT, OP_PUT, OP_PUT_IF_ABSENT, OP_COMPARE_AND_PUT,
	    OP_DELETE, OP_DELETE_IF_VERSION, OP_RENAME, OP_MOVE_PREFIX, OP_DROP_PREFIX};
	struct op op = pick_op(kinds[below(ARRAY_COUNT(kinds))]);
	int expected, err;

	if (op.kind == OP_MOVE_PREFIX && !model_move_fits(&model, &op))
		return;
	/* Else little is left to work on. */
	if (op.kind == OP_DROP_PREFIX && op.key.count < 3)
		return;
	err = op_call(holt, &op);
	expected = model_call(&model, &op);
	ck_assert_msg(err == expected, "operation %d answers %d and not %d", op.kind, err, expected);
	made += err == 0;
	refused += err != 0;
	moves += err == 0 && op.kind == OP_MOVE_PREFIX;
	learn_versions();
}

static void do_batch(struct holt_batch *batch)
{
	uint32_t count = 1 + (uint32_t)below(BATCH_OPS);
	struct op ops[BATCH_OPS + 1];
	size_t failed;
	int expected, err;

	holt_batch_reset(batch);
	for (uint32_t i = 0; i < count; i++) {
		/* Mostly writes, or few batches come through. */
		ops[i] = pick_op(below(3) ? (enum op_kind)(below(2) ? OP_PUT : OP_DELETE)
					  : (enum op_kind)below(OP_REQUIRE_PREFIX_EMPTY));
		if (i && below(3) == 0)
			ops[i].key = ops[below(i)].key;
		if (i && below(4) == 0)
			ops[i].destination = ops[below(i)].key;
	}
	if (below(4) == 0)
		ops[count - 1].kind = OP_REQUIRE_PREFIX_EMPTY;
	ops[count] = pick_op(below(2) ? OP_MOVE_PREFIX : OP_DROP_PREFIX);
	if (below(6) == 0 && (ops[count].kind == OP_DROP_PREFIX ? ops[count].key.count > 2
								: model_move_fits(&model, &ops[count])))
		count++;
	expected = model_batch(&model, ops, count, &scratch, &failed);
	for (uint32_t i = 0; i < count; i++)
		op_add(batch, &ops[i]);
	err = holt_batch_commit(batch, below(2) ? HOLT_DEFAULT : HOLT_LOSSY);
	ck_assert_msg(err == expected, "batch answers %d and not %d", err, expected);
	ck_assert_uint_eq(holt_batch_failed(batch), failed);
	if (!err)
		model = scratch;
	made += err == 0;
	refused += err != 0;
	learn_versions();
}

/* ---- comparing ------------------------------------------------------------------------ */

struct walk {
	const struct model *model;
	struct holt_range range;
	struct model_key prefix, start;
	uint32_t at; /* next item of the model */
	size_t visits, limit;
};

static uint32_t common_bytes(const struct walk *walk, const struct model_key *key)
{
	for (uint32_t i = walk->prefix.count; walk->range.has_delimiter && i < key->count; i++)
		if (key->bytes[i] == walk->range.delimiter)
			return i + 1;
	return 0;
}

static bool is_past(const struct walk *walk, const struct model_key *key)
{
	uint32_t common = common_bytes(walk, &walk->start);

	if (walk->start.count == 0)
		return true;
	if (walk->range.is_after && key_begins_with(&walk->start, &walk->prefix) &&
	    common == walk->start.count && key_begins_with(key, &walk->start))
		return false;
	return walk->range.is_after ? key_compare(key, &walk->start) > 0
				    : key_compare(key, &walk->start) >= 0;
}

static const struct model_item *next_item(struct walk *walk)
{
	while (walk->at < walk->model->count) {
		const struct model_item *item = &walk->model->items[walk->at++];

		if (key_begins_with(&item->key, &walk->prefix) && is_past(walk, &item->key))
			return item;
	}
	return NULL;
}

static int compare_item(void *ctx, const struct holt_item *item)
{
	struct walk *walk = ctx;
	const struct model_item *wanted = next_item(walk);
	uint32_t common;

	ck_assert_ptr_nonnull(wanted);
	walk->visits++;
	common = common_bytes(walk, &wanted->key);
	ck_assert_uint_eq(item->is_prefix, common != 0);
	ck_assert_uint_eq(item->key_bytes, common ? common : wanted->key.count);
	ck_assert_mem_eq(item->key, wanted->key.bytes, item->key_bytes);
	if (common) {
		struct model_key group = wanted->key;

		group.count = common;
		while (walk->at < walk->model->count && key_begins_with(&walk->model->items[walk->at].key, &group))
			walk->at++;
	} else if (!(walk->range.flags & HOLT_KEYS_ONLY)) {
		ck_assert_uint_eq(item->value_bytes, sizeof(wanted->value));
		ck_assert_mem_eq(item->value, &wanted->value, sizeof(wanted->value));
		ck_assert_uint_eq(item->version, wanted->version);
	} else {
		ck_assert_ptr_null(item->value);
	}
	return 0;
}

static void do_walk(void)
{
	struct walk walk = {.model = &model, .limit = below(3) ? 0 : 1 + below(20)};

	if (below(2))
		walk.prefix = pick_key();
	if (below(2))
		walk.start = pick_key();
	walk.range = (struct holt_range){
	    .prefix = walk.prefix.bytes,
	    .prefix_bytes = walk.prefix.count,
	    .start = walk.start.bytes,
	    .start_bytes = walk.start.count,
	    .is_after = below(2),
	    .has_delimiter = below(2),
	    .delimiter = below(3) ? '/' : 0xff,
	    .flags = below(2) ? HOLT_KEYS_ONLY : 0,
	};
	ck_ok(holt_visit(holt, &walk.range, walk.limit, compare_item, &walk));
	if (walk.limit == 0 || walk.visits < walk.limit)
		ck_assert_ptr_null(next_item(&walk));
	if (walk.prefix.count)
		ck_assert_int_eq(holt_is_prefix_empty(holt, walk.prefix.bytes, walk.prefix.count),
		    !model_has_below(&model, &walk.prefix));
}

static void do_get(void)
{
	struct model_key key = pick_key();
	const struct model_item *item = model_find(&model, &key);
	uint64_t value, version;
	size_t bytes;
	int err = holt_get(holt, key.bytes, key.count, &value, sizeof(value), &bytes, &version);

	ck_assert_int_eq(err, item ? 0 : -ENOENT);
	if (!item)
		return;
	ck_assert_uint_eq(value, item->value);
	ck_assert_uint_eq(version, item->version);
}

static void compare_all(void)
{
	struct walk walk = {.model = &model};

	ck_ok(holt_visit(holt, NULL, 0, compare_item, &walk));
	ck_assert_uint_eq(walk.visits, model.count);
}

/* Opens a view, or compares the one that is open, and perhaps closes it. */
static void do_view(void)
{
	struct walk walk = {.model = &viewed};
	struct model_key key = pick_key();
	const struct model_item *item = model_find(&viewed, &key);
	uint64_t version;
	int err;

	if (!view) {
		ck_ok(holt_view_open(holt, NULL, 0, &view));
		viewed = model;
		return;
	}
	ck_ok(holt_view_visit(view, NULL, 0, compare_item, &walk));
	ck_assert_uint_eq(walk.visits, viewed.count);
	err = holt_view_get(view, key.bytes, key.count, NULL, 0, NULL, &version);
	ck_assert_int_eq(err, item ? -ERANGE : -ENOENT);
	if (item)
		ck_assert_uint_eq(version, item->version);
	if (below(3))
		return;
	holt_view_close(view);
	view = NULL;
}

/* ---- runs ----------------------------------------------------------------------------- */

static void do_upkeep(struct holt_batch **batch)
{
	if (below(3) == 0) {
		ck_ok(holt_compact(holt, NULL, 0, NULL, NULL));
	} else if (is_in_memory) {
		return;
	} else if (below(2)) {
		ck_ok(holt_checkpoint(holt));
	} else {
		holt_batch_destroy(*batch);
		holt_view_close(view);
		view = NULL;
		holt_reopen();
		ck_ok(holt_batch_create(holt, batch));
		compare_all();
	}
}

static void run(uint64_t ops)
{
	struct holt_batch *batch;

	ck_ok(holt_batch_create(holt, &batch));
	for (uint64_t i = 0; i < ops; i++) {
		uint64_t dice = below(100);

		if (dice < 30)
			do_single();
		else if (dice < 65)
			do_batch(batch);
		else if (dice < 80)
			do_walk();
		else if (dice < 97)
			do_get();
		else if (dice < 99)
			do_view();
		else
			do_upkeep(&batch);
		if (model.count > ITEMS_MAX - 2 * BATCH_OPS)
			break;
	}
	compare_all();
	holt_batch_destroy(batch);
	holt_view_close(view);
	printf("# %llu made (%llu moves), %llu refused; %u keys\n", (unsigned long long)made,
	    (unsigned long long)moves, (unsigned long long)refused, model.count);
}

static uint64_t op_count(void)
{
	const char *text = getenv("TEST_OPS");

	return text && *text ? strtoull(text, NULL, 10) : OPS_DEFAULT;
}

START_TEST(holt_does_what_a_sorted_map_does)
{
	random_state = support_seed(31);
	run(op_count());
}
END_TEST

START_TEST(holt_in_memory_does_what_a_sorted_map_does)
{
	ck_ok(holt_close(holt));
	is_in_memory = true;
	random_state = support_seed(32);
	ck_ok(holt_open_memory(&disk_options, &holt));
	run(op_count());
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("holt_model");
	TCase *tcase = tcase_create("random");

	tcase_set_timeout(tcase, 0);
	tcase_add_checked_fixture(tcase, holt_setup, holt_teardown);
	tcase_add_test(tcase, holt_does_what_a_sorted_map_does);
	tcase_add_test(tcase, holt_in_memory_does_what_a_sorted_map_does);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
