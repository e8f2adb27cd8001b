/*
 * The plain model of a store, and keys that are hard on a radix tree.
 *
 * Families of keys:
 *   paths    few names on few levels: long common prefixes, much sharing
 *   bytes    short strings over {0, 1, 'a', 0xff}: keys that are prefixes of others,
 *            NULs at the end, nodes of every shape at the root
 *   random   32 random bytes: wide fan-out, nothing shared
 *   chain    "ababab...": each key a prefix of the next
 *   long     up to STORE_KEY_MAX bytes, equal but for the length and one byte
 */
#include "config.h"

#include "tests/model/store_model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "tests/support/support.h"

/* ---- the map --------------------------------------------------------------- */

void model_init(struct model *model)
{
	memset(model, 0, sizeof(*model));
}

void model_fini(struct model *model)
{
	for (uint32_t i = 0; i < model->count; i++)
		free(model->items[i].key);
	free(model->items);
	model_init(model);
}

static uint8_t *copy_bytes(const void *bytes, uint32_t count)
{
	uint8_t *copy = malloc(count + 1u);

	ASSERT(copy);
	memcpy(copy, bytes, count);
	return copy;
}

static void make_place(struct model *model, uint32_t at)
{
	if (model->count == model->size) {
		model->size = max_of(2 * model->size, 64u);
		model->items = realloc(model->items, model->size * sizeof(model->items[0]));
		ASSERT(model->items);
	}
	memmove(&model->items[at + 1], &model->items[at],
	    (model->count - at) * sizeof(model->items[0]));
	model->count++;
}

void model_copy(struct model *to, const struct model *from)
{
	model_init(to);
	to->items = malloc((from->count + 1) * sizeof(to->items[0]));
	ASSERT(to->items);
	to->size = from->count + 1;
	to->count = from->count;
	to->bytes = from->bytes;
	for (uint32_t i = 0; i < from->count; i++) {
		to->items[i] = from->items[i];
		to->items[i].key = copy_bytes(from->items[i].key, from->items[i].key_bytes);
	}
}

static int compare(const void *a, uint32_t a_bytes, const void *b, uint32_t b_bytes)
{
	int order = memcmp(a, b, min_of(a_bytes, b_bytes));

	return order ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

bool model_find(const struct model *model, const void *key, uint32_t key_bytes, uint32_t *ret_at)
{
	uint32_t lo = 0, hi = model->count;

	while (lo < hi) {
		uint32_t middle = (lo + hi) / 2;
		const struct model_item *item = &model->items[middle];

		if (compare(item->key, item->key_bytes, key, key_bytes) < 0)
			lo = middle + 1;
		else
			hi = middle;
	}
	*ret_at = lo;
	return lo < model->count && compare(model->items[lo].key, model->items[lo].key_bytes,
					key, key_bytes) == 0;
}

void model_put(struct model *model, const void *key, uint32_t key_bytes, uint64_t seed, uint32_t value_bytes)
{
	struct model_item *item;
	uint32_t at;

	if (model_find(model, key, key_bytes, &at)) {
		item = &model->items[at];
		model->bytes -= item->value_bytes;
	} else {
		make_place(model, at);
		item = &model->items[at];
		*item = (struct model_item){.key = copy_bytes(key, key_bytes), .key_bytes = key_bytes};
		model->bytes += key_bytes;
	}
	item->seed = seed;
	item->value_bytes = value_bytes;
	model->bytes += value_bytes;
}

void model_delete(struct model *model, const void *key, uint32_t key_bytes)
{
	uint32_t at;

	if (!model_find(model, key, key_bytes, &at))
		return;
	model->bytes -= key_bytes + model->items[at].value_bytes;
	free(model->items[at].key);
	memmove(&model->items[at], &model->items[at + 1],
	    (model->count - at - 1) * sizeof(model->items[0]));
	model->count--;
}

static bool begins_with(const void *key, uint32_t key_bytes, const void *prefix, uint32_t prefix_bytes)
{
	return key_bytes >= prefix_bytes && memcmp(key, prefix, prefix_bytes) == 0;
}

/* The items that begin with @prefix lie in [@ret_at, result). */
static uint32_t find_range(const struct model *model, const void *prefix, uint32_t prefix_bytes, uint32_t *ret_at)
{
	uint32_t end;

	model_find(model, prefix, prefix_bytes, ret_at);
	end = *ret_at;
	while (end < model->count && begins_with(model->items[end].key,
					 model->items[end].key_bytes, prefix, prefix_bytes))
		end++;
	return end;
}

bool model_has_prefix(const struct model *model, const void *prefix, uint32_t prefix_bytes)
{
	uint32_t at;

	return find_range(model, prefix, prefix_bytes, &at) > at;
}

int model_check_move(const struct model *model, const void *src, uint32_t src_bytes,
    const void *dst, uint32_t dst_bytes)
{
	if (begins_with(src, src_bytes, dst, dst_bytes) || begins_with(dst, dst_bytes, src, src_bytes))
		return -EINVAL;
	if (!model_has_prefix(model, src, src_bytes))
		return -ENOENT;
	return model_has_prefix(model, dst, dst_bytes) ? -EEXIST : 0;
}

void model_drop(struct model *model, const void *prefix, uint32_t prefix_bytes)
{
	uint32_t at, end = find_range(model, prefix, prefix_bytes, &at);

	for (uint32_t i = at; i < end; i++) {
		model->bytes -= model->items[i].key_bytes + model->items[i].value_bytes;
		free(model->items[i].key);
	}
	memmove(&model->items[at], &model->items[end], (model->count - end) * sizeof(model->items[0]));
	model->count -= end - at;
}

static void change_prefix(struct model_item *item, uint32_t src_bytes, const void *dst, uint32_t dst_bytes)
{
	uint32_t rest = item->key_bytes - src_bytes;
	uint8_t *key = malloc(dst_bytes + rest + 1);

	ASSERT(key);
	memcpy(key, dst, dst_bytes);
	memcpy(key + dst_bytes, item->key + src_bytes, rest);
	free(item->key);
	item->key = key;
	item->key_bytes = dst_bytes + rest;
}

void model_move(struct model *model, const void *src, uint32_t src_bytes, const void *dst, uint32_t dst_bytes)
{
	uint32_t at, to, end = find_range(model, src, src_bytes, &at);
	uint32_t count = end - at;
	struct model_item *moving = malloc((count + 1) * sizeof(*moving));

	ASSERT(moving);
	memcpy(moving, &model->items[at], count * sizeof(*moving));
	memmove(&model->items[at], &model->items[end], (model->count - end) * sizeof(*moving));
	model->count -= count;
	model_find(model, dst, dst_bytes, &to);
	memmove(&model->items[to + count], &model->items[to], (model->count - to) * sizeof(*moving));
	model->count += count;
	for (uint32_t i = 0; i < count; i++)
		change_prefix(&moving[i], src_bytes, dst, dst_bytes);
	model->bytes += (uint64_t)count * dst_bytes - (uint64_t)count * src_bytes;
	memcpy(&model->items[to], moving, count * sizeof(*moving));
	free(moving);
}

/* ---- values ------------------------------------------------------------------ */

static uint64_t value_word(uint64_t seed, uint32_t index)
{
	return (seed + index) * 0x9e3779b97f4a7c15ull;
}

void model_fill_value(void *value, uint32_t bytes, uint64_t seed)
{
	for (uint32_t at = 0; at < bytes; at += 8) {
		uint64_t word = value_word(seed, at);

		memcpy((char *)value + at, &word, min_of(8u, bytes - at));
	}
}

bool model_is_value(const void *value, uint32_t bytes, uint64_t seed)
{
	for (uint32_t at = 0; at < bytes; at += 8) {
		uint64_t word = value_word(seed, at);

		if (memcmp((const char *)value + at, &word, min_of(8u, bytes - at)) != 0)
			return false;
	}
	return true;
}

/* ---- comparing ----------------------------------------------------------------- */

static bool differ(bool is_quiet, const struct model *model, uint32_t at, const char *what)
{
	if (!is_quiet)
		printf("# item %u of %u: %s\n", at, model->count, what);
	return false;
}

static bool compare_all(const struct model *model, struct store_cursor *cursor, bool is_quiet)
{
	struct store_item item;
	int err;

	for (uint32_t at = 0; at < model->count; at++) {
		const struct model_item *expected = &model->items[at];

		err = store_cursor_next(cursor, &item);
		if (err)
			return differ(is_quiet, model, at,
			    err == -ENOENT ? "the store ends here" : "the cursor failed");
		if (compare(item.key, item.key_bytes, expected->key, expected->key_bytes))
			return differ(is_quiet, model, at, "another key");
		if (item.value_bytes != expected->value_bytes ||
		    !model_is_value(item.value, item.value_bytes, expected->seed))
			return differ(is_quiet, model, at, "another value");
	}
	err = store_cursor_next(cursor, &item);
	return err == -ENOENT || differ(is_quiet, model, model->count, "the store has more");
}

static bool equals_cursor(const struct model *model, struct store_cursor *cursor, bool is_quiet)
{
	bool is_equal;

	is_equal = compare_all(model, cursor, is_quiet);
	store_cursor_close(cursor);
	return is_equal;
}

bool model_equals(const struct model *model, struct store *store, bool is_quiet)
{
	struct store_cursor *cursor;

	ASSERT(store_cursor_open(store, NULL, &cursor) == 0);
	return equals_cursor(model, cursor, is_quiet);
}

bool model_equals_view(const struct model *model, struct store_view *view, bool is_quiet)
{
	struct store_cursor *cursor;

	ASSERT(store_view_cursor_open(view, NULL, &cursor) == 0);
	return equals_cursor(model, cursor, is_quiet);
}

/* ---- keys ------------------------------------------------------------------------ */

static uint32_t make_path(uint64_t *random, uint8_t *bytes)
{
	unsigned levels = 1 + (unsigned)support_random_below(random, 4);
	char *at = (char *)bytes;

	for (unsigned i = 0; i < levels; i++)
		at += sprintf(at, "/directory-%u", (unsigned)support_random_below(random, 12));
	at += sprintf(at, "/file-%05u", (unsigned)support_random_below(random, 4000));
	return (uint32_t)(at - (char *)bytes);
}

static uint32_t make_bytes(uint64_t *random, uint8_t *bytes)
{
	static const uint8_t letters[4] = {0, 1, 'a', 0xff};
	uint32_t count = 1 + (uint32_t)support_random_below(random, 7);

	for (uint32_t i = 0; i < count; i++)
		bytes[i] = letters[support_random_below(random, 4)];
	return count;
}

static uint32_t make_random(uint64_t *random, uint8_t *bytes)
{
	for (uint32_t i = 0; i < 4; i++) {
		uint64_t word = support_random(random);

		memcpy(bytes + 8 * i, &word, 8);
	}
	return 32;
}

static uint32_t make_chain(uint64_t *random, uint8_t *bytes)
{
	uint32_t count = 1 + (uint32_t)support_random_below(random, 400);

	for (uint32_t i = 0; i < count; i++)
		bytes[i] = i % 2 ? 'b' : 'a';
	return count;
}

static uint32_t make_long(uint64_t *random, uint8_t *bytes)
{
	static const uint32_t lengths[] = {STORE_KEY_MAX, STORE_KEY_MAX - 1, 65000, 40000, 20000, 3000, 600};
	uint32_t count = lengths[support_random_below(random, 7)];

	memset(bytes, 'L', count);
	if (support_random_below(random, 3))
		bytes[support_random_below(random, 4) * count / 4] =
		    (uint8_t)support_random_below(random, 4);
	return count;
}

uint32_t model_make_key(uint64_t *random, uint8_t *bytes)
{
	uint64_t draw = support_random_below(random, 400);

	if (draw == 0)
		return make_long(random, bytes);
	if (draw < 40)
		return make_chain(random, bytes);
	if (draw < 100)
		return make_random(random, bytes);
	if (draw < 180)
		return make_bytes(random, bytes);
	return make_path(random, bytes);
}

uint32_t model_make_value_bytes(uint64_t *random)
{
	uint64_t draw = support_random_below(random, 400);

	if (draw == 0)
		return STORE_VALUE_MAX - (uint32_t)support_random_below(random, 3);
	if (draw == 1)
		return (uint32_t)support_random_below(random, STORE_VALUE_MAX + 1);
	if (draw < 40)
		return (uint32_t)support_random_below(random, 5000);
	return (uint32_t)support_random_below(random, 200);
}
