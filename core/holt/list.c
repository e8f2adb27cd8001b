/*
 * Listing: cursors over a range of keys, and visits, which are cursors of one call.
 *
 * With a delimiter, the key that the store hands over next either has none behind the
 * prefix, and is an item; or it has, and what it has up to there is a common prefix.
 * Then the walk goes on behind everything that begins so:
 *
 *	prefix  photos/   delimiter /          successor of  photos/2024/  is  photos/20240
 *	keys    photos/2024/a  photos/2024/b  photos/readme
 *	items   photos/2024/ (common)         photos/readme
 *
 * A walk holds nothing between its steps.
 */
#include "config.h"

#include "holt/holt_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

/* A cursor with more memory than this does not wait in a lane for its next use. */
#define KEPT_BYTES 4096

struct text {
	uint8_t *bytes;
	uint32_t count, size;
};

struct holt_cursor {
	struct holt *holt;
	struct store_cursor *keys;
	struct text prefix;
	struct text skip; /* the walk goes on here, if has_skip */
	bool has_skip;
	bool is_at_end;
	bool has_delimiter;
	uint8_t delimiter;
	unsigned flags;
};

/* ---- texts ------------------------------------------------------------------------ */

static int text_set(struct text *text, const void *bytes, uint32_t count)
{
	if (count > text->size) {
		uint8_t *grown = realloc(text->bytes, count);

		if (!grown)
			return -ENOMEM;
		text->bytes = grown;
		text->size = count;
	}
	if (count)
		memcpy(text->bytes, bytes, count);
	text->count = count;
	return 0;
}

/* The least key above all that begin with it.  False: there is none. */
static bool text_succeed(struct text *text)
{
	while (text->count > 0 && text->bytes[text->count - 1] == 0xff)
		text->count--;
	if (text->count == 0)
		return false;
	text->bytes[text->count - 1]++;
	return true;
}

/* ---- cursors ---------------------------------------------------------------------- */

void holt_cursor_destroy(struct holt_cursor *cursor)
{
	if (!cursor)
		return;
	store_cursor_close(cursor->keys);
	free(cursor->prefix.bytes);
	free(cursor->skip.bytes);
	free(cursor);
}

static int make(struct holt *holt, struct holt_cursor **ret)
{
	struct holt_cursor *cursor = calloc(1, sizeof(*cursor));
	int err;

	if (!cursor)
		return -ENOMEM;
	err = store_cursor_open(holt->store, &cursor->keys);
	if (err) {
		free(cursor);
		return err;
	}
	cursor->holt = holt;
	*ret = cursor;
	return 0;
}

static int take(struct holt *holt, struct holt_cursor **ret)
{
	*ret = atomic_exchange_explicit(&holt_lane(holt)->cursor, NULL, memory_order_acquire);
	return *ret ? 0 : make(holt, ret);
}

void holt_cursor_close(struct holt_cursor *cursor)
{
	struct holt_cursor *other;

	if (!cursor)
		return;
	if (cursor->prefix.size > KEPT_BYTES || cursor->skip.size > KEPT_BYTES) {
		holt_cursor_destroy(cursor);
		return;
	}
	other = atomic_exchange_explicit(&holt_lane(cursor->holt)->cursor, cursor,
	    memory_order_acq_rel);
	holt_cursor_destroy(other);
}

/* How much of @key is a common prefix; 0: it is an item of its own. */
static uint32_t common_bytes(const struct holt_cursor *cursor, const uint8_t *key, uint32_t key_bytes)
{
	const uint8_t *found;

	if (!cursor->has_delimiter || key_bytes <= cursor->prefix.count)
		return 0;
	found = memchr(key + cursor->prefix.count, cursor->delimiter, key_bytes - cursor->prefix.count);
	return found ? (uint32_t)(found - key) + 1 : 0;
}

static bool begins_with(const void *key, uint32_t key_bytes, const struct text *prefix)
{
	return key_bytes >= prefix->count &&
	       (prefix->count == 0 || memcmp(key, prefix->bytes, prefix->count) == 0);
}

static int compare(const void *a, uint32_t a_bytes, const struct text *b)
{
	uint32_t common = min_of(a_bytes, b->count);
	int order = common ? memcmp(a, b->bytes, common) : 0;

	if (order)
		return order;
	return a_bytes < b->count ? -1 : a_bytes > b->count;
}

/* Behind everything that begins with @bytes. */
static int skip_past(struct holt_cursor *cursor, const void *bytes, uint32_t count)
{
	int err = text_set(&cursor->skip, bytes, count);

	if (err)
		return err;
	cursor->has_skip = text_succeed(&cursor->skip);
	cursor->is_at_end = !cursor->has_skip;
	return 0;
}

static int position(struct holt_cursor *cursor, const void *start, uint32_t start_bytes, bool is_after)
{
	cursor->is_at_end = false;
	cursor->has_skip = false;
	if (start_bytes == 0 || compare(start, start_bytes, &cursor->prefix) < 0) {
		store_cursor_seek(cursor->keys, cursor->prefix.bytes, cursor->prefix.count, false);
		return 0;
	}
	if (is_after && begins_with(start, start_bytes, &cursor->prefix) &&
	    common_bytes(cursor, start, start_bytes) == start_bytes)
		return skip_past(cursor, start, start_bytes);
	store_cursor_seek(cursor->keys, start, start_bytes, is_after);
	return 0;
}

static int check_start(const void *start, size_t start_bytes)
{
	if (!start && start_bytes)
		return -EINVAL;
	return start_bytes > JOURNAL_RECORD_MAX / 2 ? -ENAMETOOLONG : 0;
}

static int check_range(const struct holt_range *range)
{
	int err = check_start(range->prefix, range->prefix_bytes);

	if (!err)
		err = check_start(range->start, range->start_bytes);
	return !err && (range->flags & ~HOLT_KEYS_ONLY) ? -EINVAL : err;
}

int holt_cursor_open(struct holt *holt, const struct holt_range *range, struct holt_cursor **ret)
{
	static const struct holt_range everything;
	struct holt_cursor *cursor;
	int err;

	range = range ? range : &everything;
	err = holt && ret ? check_range(range) : -EINVAL;
	if (!err)
		err = take(holt, &cursor);
	if (err)
		return err;
	cursor->has_delimiter = range->has_delimiter;
	cursor->delimiter = range->delimiter;
	cursor->flags = range->flags;
	err = text_set(&cursor->prefix, range->prefix, (uint32_t)range->prefix_bytes);
	if (!err)
		err = position(cursor, range->start, (uint32_t)range->start_bytes, range->is_after);
	if (err) {
		holt_cursor_close(cursor);
		return err;
	}
	count(&holt->counters.walks);
	*ret = cursor;
	return 0;
}

int holt_cursor_seek(struct holt_cursor *cursor, const void *start, size_t start_bytes, bool is_after)
{
	int err = cursor ? check_start(start, start_bytes) : -EINVAL;

	return err ? err : position(cursor, start, (uint32_t)start_bytes, is_after);
}

int holt_cursor_next(struct holt_cursor *cursor, struct holt_item *ret)
{
	struct store_item item;
	uint32_t common;
	int err;

	if (!cursor || !ret)
		return -EINVAL;
	if (cursor->is_at_end)
		return -ENOENT;
	if (cursor->has_skip) {
		store_cursor_seek(cursor->keys, cursor->skip.bytes, cursor->skip.count, false);
		cursor->has_skip = false;
	}
	err = store_cursor_next(cursor->keys, cursor->prefix.bytes, cursor->prefix.count, &item);
	if (err)
		return err;
	common = common_bytes(cursor, item.key, item.key_bytes);
	if (common) {
		err = skip_past(cursor, item.key, common);
		*ret = (struct holt_item){.key = item.key, .key_bytes = common, .is_prefix = true};
		return err;
	}
	*ret = (struct holt_item){.key = item.key, .key_bytes = item.key_bytes};
	if (!(cursor->flags & HOLT_KEYS_ONLY)) {
		ret->value = item.value;
		ret->value_bytes = item.value_bytes;
		ret->version = item.version;
	}
	return 0;
}

/* ---- visits ----------------------------------------------------------------------- */

int holt_visit(struct holt *holt, const struct holt_range *range, size_t limit,
    int (*visit)(void *ctx, const struct holt_item *item), void *ctx)
{
	struct holt_cursor *cursor;
	struct holt_item item;
	size_t visited = 0;
	int err = visit ? holt_cursor_open(holt, range, &cursor) : -EINVAL;

	if (err)
		return err;
	while (!err && (limit == 0 || visited < limit)) {
		err = holt_cursor_next(cursor, &item);
		if (err == -ENOENT) {
			err = 0;
			break;
		}
		if (!err)
			err = visit(ctx, &item);
		visited++;
	}
	holt_cursor_close(cursor);
	return err;
}
