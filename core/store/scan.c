/*
 * Listing: cursors and visits.
 *
 * Both take items out of runs that core/tree copies out of the frames (tree/scan.c), and
 * hold nothing while the caller has an item.  A visit keeps its run on the stack; short
 * listings allocate nothing.
 *
 * The first run of a cursor is short, because many want only the first items.
 */
#include "config.h"

#include "store/store_internal.h"

#include <errno.h>
#include <stdlib.h>

#define RUN_FIRST  16u
#define RUN_SECOND 64u

#define KEPT_PREFIX_BYTES 4096u

struct store_cursor {
	struct store *store;
	struct tree_range range; /* without a start */
	uint32_t next;		 /* item of the run */
	uint32_t run_items;
	int error;
	uint8_t *prefix;	 /* of the range */
	uint32_t prefix_size;
	struct tree_scan scan;
};

static struct tree_range range_of(const struct store_range *range)
{
	if (!range)
		return (struct tree_range){0};
	return (struct tree_range){
	    .prefix = range->prefix,
	    .prefix_bytes = range->prefix_bytes,
	    .start = range->start,
	    .start_bytes = range->start_bytes,
	    .is_after = range->is_after,
	    .has_delimiter = range->has_delimiter,
	    .delimiter = range->delimiter,
	    .keys_only = range->keys_only,
	};
}

static int fetch_run(struct store *store, struct tree_scan *scan, uint32_t items)
{
	struct attempt attempt = {.store = store, .tree = scan->tree};
	struct tree_need need = {0};
	int err;

	do {
		attempt_begin(&attempt);
		err = tree_scan_run(scan, attempt.in_gate, items, &need);
	} while (attempt_again(&attempt, &err, &need));
	return err;
}

/* The next item of the run. */
static inline void take(struct tree_scan *scan, uint32_t at, struct store_item *ret)
{
	const struct tree_item *item = &scan->items[at];
	bool is_prefix = item->value_bytes == TREE_ITEM_PREFIX;
	bool has_value = !is_prefix && !scan->keys_only;

	tree_scan_take(scan, item);
	ret->key = scan->key.bytes;
	ret->key_bytes = item->key_bytes;
	ret->value = has_value ? tree_scan_value(scan, item) : NULL;
	ret->value_bytes = has_value ? item->value_bytes : 0;
	ret->version = has_value ? item->version : 0;
	ret->is_prefix = is_prefix;
}

static void count_walk(struct store *store)
{
	atomic_fetch_add_explicit(&store->stats.cursors, 1, memory_order_relaxed);
}

/* ---- cursors ----------------------------------------------------------------------- */

static int seek(struct store_cursor *cursor, const void *start, uint32_t start_bytes, bool is_after)
{
	struct tree_range range = cursor->range;

	range.start = start;
	range.start_bytes = start_bytes;
	range.is_after = is_after;
	cursor->next = 0;
	cursor->run_items = RUN_FIRST;
	return tree_scan_seek(&cursor->scan, &range);
}

static int keep_prefix(struct store_cursor *cursor, const void *prefix, uint32_t bytes)
{
	if (bytes > cursor->prefix_size) {
		uint8_t *grown = realloc(cursor->prefix, bytes);

		if (!grown)
			return -ENOMEM;
		cursor->prefix = grown;
		cursor->prefix_size = bytes;
	}
	if (bytes)
		memcpy(cursor->prefix, prefix, bytes);
	return 0;
}

int store_cursor_set_range(struct store_cursor *cursor, const struct store_range *range)
{
	struct tree_range whole = range_of(range);

	cursor->error = keep_prefix(cursor, whole.prefix, whole.prefix_bytes);
	if (cursor->error)
		return cursor->error;
	cursor->range = whole;
	cursor->range.prefix = cursor->prefix;
	count_walk(cursor->store);
	cursor->error = seek(cursor, whole.start, whole.start_bytes, whole.is_after);
	return cursor->error;
}

int cursor_open_tree(struct store *store, struct tree *tree, struct store_cursor **ret)
{
	struct store_cursor *cursor = malloc(sizeof(*cursor));

	if (!cursor)
		return -ENOMEM;
	cursor->store = store;
	cursor->prefix = NULL;
	cursor->prefix_size = 0;
	tree_scan_init(&cursor->scan, tree);
	cursor->range = range_of(NULL);
	cursor->error = seek(cursor, NULL, 0, false);
	*ret = cursor;
	return 0;
}

int store_cursor_open(struct store *store, const struct store_range *range, struct store_cursor **ret)
{
	struct store_cursor *cursor;
	int err = cursor_open_tree(store, &store->tree, &cursor);

	if (err)
		return err;
	err = store_cursor_set_range(cursor, range);
	if (err)
		store_cursor_close(cursor);
	else
		*ret = cursor;
	return err;
}

void store_cursor_close(struct store_cursor *cursor)
{
	if (!cursor)
		return;
	tree_scan_fini(&cursor->scan);
	free(cursor->prefix);
	free(cursor);
}

bool store_cursor_is_large(const struct store_cursor *cursor)
{
	return cursor->prefix_size > KEPT_PREFIX_BYTES || cursor->scan.bytes.is_own ||
	       cursor->scan.key.is_own || cursor->scan.path.is_own;
}

void store_cursor_seek(struct store_cursor *cursor, const void *key, uint32_t key_bytes, bool is_after)
{
	cursor->error = seek(cursor, key, key_bytes, is_after);
}

int store_cursor_next(struct store_cursor *cursor, struct store_item *ret)
{
	if (cursor->error)
		return cursor->error;
	if (cursor->next == cursor->scan.count) {
		cursor->error = fetch_run(cursor->store, &cursor->scan, cursor->run_items);
		if (cursor->error)
			return cursor->error;
		cursor->run_items = cursor->run_items == RUN_FIRST ? RUN_SECOND : TREE_RUN_ITEMS;
		cursor->next = 0;
	}
	take(&cursor->scan, cursor->next++, ret);
	return 0;
}

/* ---- visits ------------------------------------------------------------------------ */

static int visit_run(struct tree_scan *scan, store_visit_fn visit, void *ctx)
{
	int result = 0;

	for (uint32_t i = 0; i < scan->count && !result; i++) {
		struct store_item item;

		take(scan, i, &item);
		result = visit(ctx, &item);
	}
	return result;
}

struct visitor {
	store_visit_fn visit;
	void *ctx;
};

static int pass_on(void *ctx, struct tree_scan *run)
{
	const struct visitor *visitor = ctx;

	return visit_run(run, visitor->visit, visitor->ctx);
}

int store_visit(struct store *store, const struct store_range *range, uint64_t limit,
    store_visit_fn visit, void *ctx)
{
	struct visitor visitor = {visit, ctx};

	return visit_tree(store, &store->tree, range, limit, pass_on, &visitor);
}

int store_visit_runs(struct store *store, const struct store_range *range, uint64_t limit,
    store_run_fn take_run, void *ctx)
{
	return visit_tree(store, &store->tree, range, limit, take_run, ctx);
}

int visit_tree(struct store *store, struct tree *tree, const struct store_range *range,
    uint64_t limit, store_run_fn take_run, void *ctx)
{
	uint64_t left = limit ? limit : UINT64_MAX;
	struct tree_range whole = range_of(range);
	struct tree_scan scan;
	int result;

	count_walk(store);
	tree_scan_init(&scan, tree);
	result = tree_scan_seek(&scan, &whole);
	while (!result && left) {
		result = fetch_run(store, &scan, (uint32_t)min_of(left, (uint64_t)TREE_RUN_ITEMS));
		if (result) {
			result = result == -ENOENT ? 0 : result;
			break;
		}
		left -= scan.count;
		result = take_run(ctx, &scan);
	}
	tree_scan_fini(&scan);
	return result;
}

/* ---- is there anything? ------------------------------------------------------------ */

/*
 * Where nothing is found in several frames, looked into one after the other, a key may
 * have gone from one of the later to one of the earlier ones meanwhile.  So they are
 * looked into again, with the gate closed.  There are such frames only where folding
 * empty ones has failed.
 */
#define ALL_AT_ONCE_TRIES 1000

int store_is_prefix_empty(struct store *store, const void *prefix, uint32_t prefix_bytes)
{
	struct tree_range range = {.prefix = prefix, .prefix_bytes = prefix_bytes, .keys_only = true};
	struct attempt attempt = {.store = store, .is_exclusive = true};
	struct tree_need need = {0};
	struct tree_scan scan;
	unsigned tries = 0;
	int err;

	tree_scan_init(&scan, &store->tree);
	err = tree_scan_seek(&scan, &range);
	if (err)
		return err;
	do {
		attempt_begin(&attempt);
		if (attempt.in_gate && ++tries < ALL_AT_ONCE_TRIES)
			(void)tree_scan_seek(&scan, &range); /* for once it has the memory */
		err = tree_scan_run(&scan, attempt.in_gate, 1, &need);
		if (err == -ENOENT && scan.backs && !attempt.in_gate)
			err = -EBUSY;
	} while (attempt_again(&attempt, &err, &need));
	tree_scan_fini(&scan);
	return err == -ENOENT ? 1 : err;
}
