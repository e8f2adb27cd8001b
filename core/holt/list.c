/*
 * Listing: cursors over a range of keys, and visits, which take items out of runs
 * themselves.
 *
 * A walk holds nothing between its steps.
 */
#include "config.h"

#include "holt/holt_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "tree/tree.h"

/* ---- ranges ----------------------------------------------------------------------- */

static int check_start(const void *start, size_t start_bytes)
{
	if (!start && start_bytes)
		return -EINVAL;
	return start_bytes > JOURNAL_RECORD_MAX / 2 ? -ENAMETOOLONG : 0;
}

int holt_check_range(const struct holt_range *range, struct store_range *ret)
{
	static const struct holt_range everything;
	int err;

	range = range ? range : &everything;
	err = check_start(range->prefix, range->prefix_bytes);
	if (!err)
		err = check_start(range->start, range->start_bytes);
	if (!err && (range->flags & ~HOLT_KEYS_ONLY))
		err = -EINVAL;
	*ret = (struct store_range){
	    .prefix = range->prefix,
	    .start = range->start,
	    .prefix_bytes = (uint32_t)range->prefix_bytes,
	    .start_bytes = (uint32_t)range->start_bytes,
	    .is_after = range->is_after && range->start_bytes,
	    .has_delimiter = range->has_delimiter,
	    .delimiter = range->delimiter,
	    .keys_only = range->flags & HOLT_KEYS_ONLY,
	};
	return err;
}

static void fill_in(const struct store_item *item, struct holt_item *ret)
{
	ret->key = item->key;
	ret->value = item->value;
	ret->key_bytes = item->key_bytes;
	ret->value_bytes = item->value_bytes;
	ret->version = item->version;
	ret->is_prefix = item->is_prefix;
}

/* ---- cursors ---------------------------------------------------------------------- */

void holt_cursor_destroy(struct holt_cursor *cursor)
{
	if (!cursor)
		return;
	store_cursor_close(cursor->keys);
	free(cursor);
}

static int make(struct holt *holt, const struct store_range *range, struct holt_cursor **ret)
{
	struct holt_cursor *cursor = malloc(sizeof(*cursor));
	int err;

	if (!cursor)
		return -ENOMEM;
	err = store_cursor_open(holt->store, range, &cursor->keys);
	if (err) {
		free(cursor);
		return err;
	}
	cursor->holt = holt;
	*ret = cursor;
	return 0;
}

/* The one of the last walk on this lane, if nobody took it. */
static int take(struct holt *holt, const struct store_range *range, struct holt_cursor **ret)
{
	struct holt_cursor *cursor =
	    atomic_exchange_explicit(&holt_lane(holt)->cursor, NULL, memory_order_acquire);
	int err;

	if (!cursor)
		return make(holt, range, ret);
	err = store_cursor_set_range(cursor->keys, range);
	if (err)
		holt_cursor_destroy(cursor);
	else
		*ret = cursor;
	return err;
}

void holt_cursor_close(struct holt_cursor *cursor)
{
	struct holt_cursor *other;

	if (!cursor)
		return;
	if (!cursor->holt || store_cursor_is_large(cursor->keys)) {
		holt_cursor_destroy(cursor);
		return;
	}
	other = atomic_exchange_explicit(&holt_lane(cursor->holt)->cursor, cursor,
	    memory_order_acq_rel);
	holt_cursor_destroy(other);
}

int holt_cursor_open(struct holt *holt, const struct holt_range *range, struct holt_cursor **ret)
{
	struct store_range checked;
	int err = holt && ret ? holt_check_range(range, &checked) : -EINVAL;

	if (!err)
		err = take(holt, &checked, ret);
	if (!err)
		count(&holt->counters.walks);
	return err;
}

int holt_cursor_seek(struct holt_cursor *cursor, const void *start, size_t start_bytes, bool is_after)
{
	int err = cursor ? check_start(start, start_bytes) : -EINVAL;

	if (!err)
		store_cursor_seek(cursor->keys, start, (uint32_t)start_bytes, is_after && start_bytes);
	return err;
}

int holt_cursor_next(struct holt_cursor *cursor, struct holt_item *ret)
{
	struct store_item item;
	int err = cursor && ret ? store_cursor_next(cursor->keys, &item) : -EINVAL;

	if (!err)
		fill_in(&item, ret);
	return err;
}

/* ---- visits ----------------------------------------------------------------------- */

/* Each item as tree_scan_take() makes it, with what stays the same in locals: this is half
 * of what a listing costs. */
int holt_show_run(void *ctx, struct tree_scan *run)
{
	const struct holt_visitor visitor = *(const struct holt_visitor *)ctx;
	const struct tree_item *item = run->items, *const end = item + run->count;
	const uint8_t *const bytes = run->bytes.bytes;
	uint8_t *const key = run->key.bytes;
	const bool keys_only = run->keys_only;
	struct holt_item shown = {.key = key};

	for (; item < end; item++) {
		const uint8_t *from = bytes + item->offset;
		uint32_t fresh_bytes = item->key_bytes - item->shared_bytes;
		int result;

		copy_bytes(key + item->shared_bytes, from, fresh_bytes);
		shown.key_bytes = item->key_bytes;
		shown.is_prefix = item->value_bytes == TREE_ITEM_PREFIX;
		if (!keys_only) {
			shown.value = shown.is_prefix ? NULL : from + fresh_bytes;
			shown.value_bytes = shown.is_prefix ? 0 : item->value_bytes;
			shown.version = item->version;
		}
		result = visitor.visit(visitor.ctx, &shown);
		if (result)
			return result;
	}
	if (run->count)
		run->key.used = end[-1].key_bytes;
	return 0;
}

int holt_visit(struct holt *holt, const struct holt_range *range, size_t limit,
    int (*visit)(void *ctx, const struct holt_item *item), void *ctx)
{
	struct holt_visitor visitor = {.visit = visit, .ctx = ctx};
	struct store_range checked;
	int err = holt && visit ? holt_check_range(range, &checked) : -EINVAL;

	if (err)
		return err;
	count(&holt->counters.walks);
	return store_visit_runs(holt->store, &checked, limit, holt_show_run, &visitor);
}
