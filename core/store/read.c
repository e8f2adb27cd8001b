/*
 * Reading: single values and cursors.
 *
 * Readers take no gate unless they were disturbed too often.  A frame that is not in
 * memory is loaded with nothing held, and the search goes on there, or begins again if
 * the tree has changed its shape.  If the manifest
 * does not know the frame, an edge was probably read that has changed since; only
 * under the gate, where edges stay, is that damage.
 */
#include "config.h"

#include "store/store_internal.h"

#include <errno.h>
#include <stdlib.h>

struct attempt {
	struct store *store;
	bool in_gate;
	unsigned ticket;
	unsigned lost; /* frames that were not there */
};

#define LOST_FRAMES_MAX 4

static void attempt_begin(struct attempt *attempt)
{
	if (attempt->in_gate)
		attempt->ticket = gate_enter_shared(attempt->store->gate);
}

/* After a try with result @err: true if it is to be made again. */
static bool attempt_again(struct attempt *attempt, int *err, const struct tree_need *need)
{
	if (attempt->in_gate) {
		if (*err == -EAGAIN)
			*err = store_check_need(attempt->store, need);
		gate_leave_shared(attempt->store->gate, attempt->ticket);
	}
	if (*err == -EBUSY) {
		atomic_fetch_add_explicit(&attempt->store->stats.fallbacks, 1, memory_order_relaxed);
		attempt->in_gate = true;
		return true;
	}
	if (*err != -EAGAIN)
		return false;
	*err = store_load_frame(attempt->store, need->frame_id);
	if (*err == 0)
		return true;
	if (*err != -ENOENT)
		return false;
	if (++attempt->lost > LOST_FRAMES_MAX)
		attempt->in_gate = true;
	return true;
}

int store_get(struct store *store, const void *key, uint32_t key_bytes, void *value,
    uint32_t capacity, uint32_t *ret_bytes, uint64_t *ret_version)
{
	struct attempt attempt = {.store = store};
	struct tree_need need = {0};
	int err;

	if (key_bytes == 0)
		return -EINVAL;
	atomic_fetch_add_explicit(&store->stats.gets, 1, memory_order_relaxed);
	do {
		attempt_begin(&attempt);
		err = tree_get(&store->tree, attempt.in_gate, key, key_bytes, value, capacity,
		    ret_bytes, ret_version, &need);
	} while (attempt_again(&attempt, &err, &need));
	return err;
}

/* ---- cursors ------------------------------------------------------------------------ */

struct store_cursor {
	struct store *store;
	struct tree *tree;
	struct tree_run run;
	uint32_t next; /* item of the run */
	uint8_t *key;  /* where to go on when the run is used up */
	uint32_t key_bytes, key_size;
	bool is_after;
	int error;
};

int cursor_open_tree(struct store *store, struct tree *tree, struct store_cursor **ret)
{
	struct store_cursor *cursor = calloc(1, sizeof(*cursor));

	if (!cursor)
		return -ENOMEM;
	cursor->store = store;
	cursor->tree = tree;
	tree_run_init(&cursor->run);
	*ret = cursor;
	return 0;
}

int store_cursor_open(struct store *store, struct store_cursor **ret)
{
	atomic_fetch_add_explicit(&store->stats.cursors, 1, memory_order_relaxed);
	return cursor_open_tree(store, &store->tree, ret);
}

void store_cursor_close(struct store_cursor *cursor)
{
	if (!cursor)
		return;
	tree_run_fini(&cursor->run);
	free(cursor->key);
	free(cursor);
}

static int set_key(struct store_cursor *cursor, const void *key, uint32_t key_bytes, bool is_after)
{
	if (key_bytes > cursor->key_size) {
		uint32_t size = max_of(cursor->key_size * 2, key_bytes + 128);
		uint8_t *grown = realloc(cursor->key, size);

		if (!grown)
			return -ENOMEM;
		cursor->key = grown;
		cursor->key_size = size;
	}
	if (key_bytes)
		memcpy(cursor->key, key, key_bytes);
	cursor->key_bytes = key_bytes;
	cursor->is_after = is_after;
	return 0;
}

void store_cursor_seek(struct store_cursor *cursor, const void *key, uint32_t key_bytes, bool is_after)
{
	cursor->run.count = 0;
	cursor->run.has_seek = false;
	cursor->run.frame_id = 0;
	cursor->next = 0;
	cursor->error = set_key(cursor, key, key_bytes, is_after);
}

static int fetch_run(struct store_cursor *cursor)
{
	struct attempt attempt = {.store = cursor->store};
	struct tree_run *run = &cursor->run;
	const struct tree_item *last;
	struct tree_need need = {0};
	int err;

	do {
		attempt_begin(&attempt);
		err = tree_scan(cursor->tree, attempt.in_gate, cursor->key,
		    cursor->key_bytes, cursor->is_after, run, &need);
	} while (attempt_again(&attempt, &err, &need));
	cursor->next = 0;
	if (err) {
		run->count = 0;
		return err;
	}
	last = &run->items[run->count - 1];
	return set_key(cursor, run->bytes.bytes + last->key_offset, last->key_bytes, true);
}

int store_cursor_next(struct store_cursor *cursor, const void *prefix,
    uint32_t prefix_bytes, struct store_item *ret)
{
	const struct tree_item *item;
	const uint8_t *bytes;

	if (!cursor->error && cursor->next == cursor->run.count)
		cursor->error = fetch_run(cursor);
	if (cursor->error)
		return cursor->error;
	item = &cursor->run.items[cursor->next];
	bytes = cursor->run.bytes.bytes;
	if (item->key_bytes < prefix_bytes ||
	    (prefix_bytes && memcmp(bytes + item->key_offset, prefix, prefix_bytes) != 0))
		return -ENOENT;
	*ret = (struct store_item){
	    .key = bytes + item->key_offset,
	    .value = bytes + item->value_offset,
	    .key_bytes = item->key_bytes,
	    .value_bytes = item->value_bytes,
	    .version = item->version,
	};
	cursor->next++;
	return 0;
}
