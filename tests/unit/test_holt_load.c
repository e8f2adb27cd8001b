/*
 * Loading items, which makes the nodes of a subtree at once where keys ascend.
 */
#include "config.h"

#include "tests/unit/test_holt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support.h"

#define KEYS_MAX 4000u

struct items {
	unsigned next, end, fail_at;
	bool is_random;
	char key[32], value[32];
};

static int next_item(void *ctx, const void **key, size_t *key_bytes, const void **value,
    size_t *value_bytes)
{
	struct items *items = ctx;
	unsigned i = items->next++;

	if (i == items->end)
		return 0;
	if (items->fail_at && i == items->fail_at)
		return -ECANCELED;
	*key = items->key;
	*key_bytes = (size_t)sprintf(items->key, "key %06u",
	    items->is_random ? i * 7919 % 1000 : i);
	*value = items->value;
	*value_bytes = (size_t)sprintf(items->value, "%u", i);
	return 1;
}

START_TEST(loads_take_sorted_and_other_items)
{
	struct items sorted = {.end = 20000}, random = {.end = 3000, .is_random = true};

	ck_ok(holt_load(holt, next_item, &sorted));
	ck_ok(get_is("key 019999", "19999"));
	ck_ok(get_is("key 000500", "500"));
	/* Every number below 1000 three times: the last one stays. */
	ck_ok(holt_load(holt, next_item, &random));
	holt_reopen();
	for (unsigned i = 2000; i < 3000; i++) {
		char key[32], value[32];

		sprintf(key, "key %06u", i * 7919 % 1000);
		sprintf(value, "%u", i);
		ck_ok(get_is(key, value));
	}
}
END_TEST

START_TEST(a_load_ends_with_the_callers_error)
{
	struct items items = {.end = 1000, .fail_at = 700};

	ck_assert_int_eq(holt_load(holt, next_item, &items), -ECANCELED);
	ck_assert_int_eq(holt_load(holt, NULL, NULL), -EINVAL);
	ck_assert_int_eq(holt_load(NULL, next_item, &items), -EINVAL);
}
END_TEST

struct sized {
	unsigned next;
	size_t value_bytes;
	uint8_t value[70000];
	char key[32];
};

static int next_sized(void *ctx, const void **key, size_t *key_bytes, const void **value,
    size_t *value_bytes)
{
	struct sized *sized = ctx;

	if (sized->next == 300)
		return 0;
	*key = sized->key;
	*key_bytes = (size_t)sprintf(sized->key, "%zu %06u", sized->value_bytes, sized->next++);
	*value = sized->value;
	*value_bytes = sized->value_bytes;
	return 1;
}

/* However many fit in a batch: they come to one frame. */
START_TEST(loads_take_values_of_any_length)
{
	static const size_t lengths[] = {1, 100, 300, 500, 1000, 4000, 20000, 70000};
	struct sized *sized = calloc(1, sizeof(*sized));
	size_t bytes;

	sized->value_bytes = lengths[_i];
	ck_ok(holt_load(holt, next_sized, sized));
	ck_ok(holt_get(holt, sized->key, strlen(sized->key), NULL, 0, &bytes, NULL) == -ERANGE ? 0 : -EIO);
	ck_assert_uint_eq(bytes, lengths[_i]);
	free(sized);
}
END_TEST

/* ---- all kinds of keys ------------------------------------------------------------------ */

struct pair {
	uint8_t key[16];
	size_t key_bytes;
	uint32_t value;
};

static struct pair pairs[KEYS_MAX];
static size_t pair_count;

static int compare_pairs(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;
	size_t common = x->key_bytes < y->key_bytes ? x->key_bytes : y->key_bytes;
	int order = memcmp(x->key, y->key, common);

	return order ? order : (x->key_bytes > y->key_bytes) - (x->key_bytes < y->key_bytes);
}

/* Few letters: keys that begin with others.  Many: wide nodes. */
static void make_pairs(unsigned letters)
{
	uint64_t rng = support_seed(30);
	size_t kept = 0;

	for (unsigned i = 0; i < KEYS_MAX; i++) {
		pairs[i].key_bytes = 1 + support_random_below(&rng, letters > 20 ? 4 : sizeof(pairs[i].key));
		for (size_t at = 0; at < pairs[i].key_bytes; at++)
			pairs[i].key[at] = (uint8_t)support_random_below(&rng, letters);
	}
	qsort(pairs, KEYS_MAX, sizeof(*pairs), compare_pairs);
	for (unsigned i = 0; i < KEYS_MAX; i++)
		if (!kept || compare_pairs(&pairs[kept - 1], &pairs[i]))
			pairs[kept++] = pairs[i];
	pair_count = kept;
	for (unsigned i = 0; i < pair_count; i++)
		pairs[i].value = i * 2654435761u;
}

static int next_pair(void *ctx, const void **key, size_t *key_bytes, const void **value,
    size_t *value_bytes)
{
	size_t *next = ctx;
	const struct pair *pair = &pairs[(*next)++];

	if (pair == &pairs[pair_count])
		return 0;
	*key = pair->key;
	*key_bytes = pair->key_bytes;
	*value = &pair->value;
	*value_bytes = sizeof(pair->value);
	return 1;
}

static int expect_pair(void *ctx, const struct holt_item *item)
{
	size_t *next = ctx;
	const struct pair *pair = &pairs[(*next)++];

	ck_assert_uint_eq(item->key_bytes, pair->key_bytes);
	ck_assert_mem_eq(item->key, pair->key, pair->key_bytes);
	ck_assert_uint_eq(item->value_bytes, sizeof(pair->value));
	ck_assert_mem_eq(item->value, &pair->value, sizeof(pair->value));
	return 0;
}

static void expect_pairs(void)
{
	const struct holt_range all = {0};
	size_t next = 0;

	ck_ok(holt_visit(holt, &all, 0, expect_pair, &next));
	ck_assert_uint_eq(next, pair_count);
	for (size_t i = 0; i < pair_count; i++) {
		uint32_t value;
		size_t bytes;

		ck_ok(holt_get(holt, pairs[i].key, pairs[i].key_bytes, &value, sizeof(value), &bytes, NULL));
		ck_assert_uint_eq(value, pairs[i].value);
	}
}

static const unsigned alphabets[] = {1, 2, 3, 5, 17, 60, 256};

/* Into an empty store, and between keys that are there. */
START_TEST(loads_take_all_kinds_of_keys)
{
	size_t next = 0, step = 1 + (unsigned)_i / 7 * 6;

	make_pairs(alphabets[_i % 7]);
	for (size_t i = 0; step > 1 && i < pair_count; i += step)
		ck_ok(holt_put(holt, pairs[i].key, pairs[i].key_bytes, "old", 3));
	ck_ok(holt_load(holt, next_pair, &next));
	expect_pairs();
	holt_reopen();
	expect_pairs();
	/* All of it can be changed afterwards. */
	for (size_t i = 0; i < pair_count; i++)
		ck_ok(holt_delete(holt, pairs[i].key, pairs[i].key_bytes));
	pair_count = 0;
	expect_pairs();
}
END_TEST

static int first_frame(void *ctx, const struct holt_frame *frame)
{
	struct holt_frame *first = ctx;

	*first = *frame;
	return 1;
}

/* What grew key by key would have left smaller nodes behind. */
START_TEST(loads_make_nodes_that_do_not_grow)
{
	struct items sorted = {.end = 200};
	struct holt_frame root = {0};

	ck_ok(holt_load(holt, next_item, &sorted));
	ck_assert_int_eq(holt_frames(holt, first_frame, &root), 1);
	ck_assert_uint_eq(root.leaves, 200);
	ck_assert_uint_eq(root.dead_bytes, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("holt_load");
	TCase *tcase = tcase_create("loads");

	tcase_set_timeout(tcase, 120);
	tcase_add_checked_fixture(tcase, holt_setup, holt_teardown);
	tcase_add_test(tcase, loads_take_sorted_and_other_items);
	tcase_add_test(tcase, a_load_ends_with_the_callers_error);
	tcase_add_loop_test(tcase, loads_take_values_of_any_length, 0, 8);
	tcase_add_loop_test(tcase, loads_take_all_kinds_of_keys, 0, 14);
	tcase_add_test(tcase, loads_make_nodes_that_do_not_grow);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
