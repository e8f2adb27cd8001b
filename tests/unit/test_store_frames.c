/*
 * Frames that hold nothing: they are counted, mean nothing to listings and moves, and go.
 * One that has no end.  And one that a subtree gets before it moves.
 */
#include "config.h"

#include "tests/unit/test_store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/device_test.h"
#include "store/store_internal.h"

/* Frames that lost all keys and were not folded are nothing. */
START_TEST(store_moves_onto_frames_without_keys)
{
	struct store_options options = _i ? small : large;
	struct store_batch *batch;
	struct store_counters counters;
	uint32_t bytes;
	char key[64];

	options.no_merge = true;
	open_store(&options);
	put_numbers(0, 120000, 0);
	ck_ok(store_batch_create(store, &batch));
	for (uint64_t i = 0; i < 120000; i++) {
		key_of(in_key_order(i, 120000), key);
		store_batch_reset(batch);
		store_batch_delete(batch, key, (uint32_t)strlen(key));
		ck_ok(store_commit(store, batch, NULL));
	}
	store_counters(store, &counters);
	ck_assert_uint_gt(counters.tree_frames, 5);
	/* From there: nothing moves.  To there: the place is free. */
	store_batch_reset(batch);
	store_batch_move_prefix(batch, "/usr/", 5, "/new/", 5);
	ck_ok(store_commit(store, batch, NULL));
	ck_ok(put("/home/a", "1", 1));
	store_batch_reset(batch);
	store_batch_move_prefix(batch, "/home/", 6, "/usr/local/share/", 17);
	ck_ok(store_commit(store, batch, NULL));
	store_batch_reset(batch);
	store_batch_move_prefix(batch, "/usr/", 5, "/new/", 5);
	ck_ok(store_commit(store, batch, NULL));
	store_batch_destroy(batch);
	ck_ok(store_get(store, "/new/local/share/a", 18, key, sizeof(key), &bytes, NULL));
	store_counters(store, &counters);
	ck_assert_uint_le(counters.tree_frames, 2);
}
END_TEST

static void move(const char *from, const char *to)
{
	struct store_batch *batch;

	ck_ok(store_batch_create(store, &batch));
	store_batch_move_prefix(batch, from, (uint32_t)strlen(from), to, (uint32_t)strlen(to));
	ck_ok(store_commit(store, batch, NULL));
	store_batch_destroy(batch);
}

static void fill_frames_again(unsigned way)
{
	char key[80];

	for (uint64_t i = 0; i < 120000; i += way == 2 ? 401 : 1) {
		key_of(i, key);
		if (way == 1) {
			ck_ok(store_put(store, key, (uint32_t)strlen(key), "again", 5, NULL, NULL));
		} else if (way == 2) {
			ck_ok(put("/home/a", "again", 5));
			move("/home/", strcat(key, "/"));
		} else {
			ck_ok(put(key, "again", 5));
		}
	}
}

/* No common prefix stands for a frame that holds nothing, in a view neither. */
static void expect_nothing_in_view(void)
{
	struct store_range range = {.prefix = "/", .prefix_bytes = 1, .has_delimiter = true, .delimiter = '/'};
	struct store_cursor *cursor;
	struct store_view *view;
	struct store_item item;

	ck_ok(store_view_open(store, &view));
	ck_ok(store_view_cursor_open(view, &range, &cursor));
	ck_assert_int_eq(store_cursor_next(cursor, &item), -ENOENT);
	store_cursor_close(cursor);
	store_view_close(view);
}

/* Whoever brings a key into a frame without any: batches, single writes, moves, recovery. */
START_TEST(store_counts_frames_without_keys)
{
	struct store_options options = large;
	uint64_t empty;
	char key[64];

	options.no_merge = true;
	open_store(&options);
	put_numbers(0, 120000, 0);
	ck_assert_uint_eq(store_empty_frames(store), 0);
	for (uint64_t i = 0; i < 120000; i++) {
		key_of(i, key);
		ck_ok(store_delete(store, key, (uint32_t)strlen(key), NULL, NULL));
	}
	empty = store_empty_frames(store);
	ck_assert_uint_gt(empty, 5);
	expect_nothing_in_view();
	ck_ok(store_checkpoint(store));
	fill_frames_again((unsigned)_i);
	ck_assert_uint_eq(store_empty_frames(store), 0);
	ck_ok(store_sync(store, store_end_lsn(store), JOURNAL_SYNC));
	reopen(false);
	ck_assert_uint_eq(store_empty_frames(store), 0);
}
END_TEST

/* Frames whose keys have all been moved or dropped, or that were empty before. */
START_TEST(store_keeps_no_frames_that_moves_and_drops_leave_empty)
{
	struct store_options options = large;
	struct store_counters counters;
	struct store_batch *batch;
	char from[64], to[64];

	options.no_merge = _i;
	open_store(&options);
	put_numbers(0, 120000, 0);
	for (uint64_t i = 0; _i && i < 120000; i += i % 16 == 2 ? 2 : 1) {
		key_of(i, from);
		ck_ok(store_delete(store, from, (uint32_t)strlen(from), NULL, NULL));
	}
	ck_assert(!_i == !store_empty_frames(store));
	for (unsigned i = 0; i < 16 && !_i; i++) {
		sprintf(from, "/usr/local/share/category-%02u/", i);
		sprintf(to, "/new/%02u/", i);
		move(from, to);
		ck_assert_uint_eq(store_empty_frames(store), 0);
	}
	ck_ok(store_batch_create(store, &batch));
	store_batch_drop_prefix(batch, "/", 1);
	ck_ok(store_commit(store, batch, NULL));
	store_batch_destroy(batch);
	do {
		ck_ok(put("end", "", 0)); /* without a thread, commits erase what was dropped */
		store_counters(store, &counters);
	} while (counters.dropping);
	ck_assert_uint_eq(store_empty_frames(store), 0);
	ck_assert_uint_le(counters.tree_frames, 2);
}
END_TEST

static int take_item(void *ctx, const struct store_item *item)
{
	return 0;
}

/* Twenty nodes in a frame, each of which leads to the next in four ways, and to no key. */
START_TEST(store_does_not_list_a_frame_that_has_no_end)
{
	struct frame_header *frame;
	struct node_4 *node;
	node_ref ref = FRAME_HEADER_BYTES / NODE_UNIT + 1000;

	open_store(&large);
	ck_ok(put("k", "1", 1));
	frame = pool_memory(store->pool, pool_find(store->pool, frame_key_make(FRAME_TREE, store->tree.root_id)));
	frame->root = to_le16(ref);
	for (unsigned i = 0; i < 20; i++, ref += 4) {
		node = (void *)((char *)frame + ref * NODE_UNIT);
		*node = (struct node_4){.inner = {.type = NODE_4, .count = to_le16(i < 19 ? 4 : 0)}};
		for (unsigned j = 0; j < 4; j++) {
			node->bytes[j] = (uint8_t)j;
			node->refs[j] = to_le16(ref + 4);
		}
	}
	ck_assert_int_eq(store_visit(store, NULL, 0, take_item, NULL), -EUCLEAN);
	store_abandon(store);
	store = NULL;
	ck_ok(device_open_memory(VOLUME_BYTES, &device)); /* for teardown */
}
END_TEST

/* The longest value at the prefix itself, more below it than is copied, and a neighbour. */
START_TEST(store_cuts_a_large_subtree_off_before_it_moves)
{
	static uint8_t value[STORE_VALUE_MAX] = {7}, found[STORE_VALUE_MAX];
	struct store_counters before, after;
	uint32_t bytes;
	char key[64];

	open_store(&large);
	ck_ok(store_put(store, "dir", 3, value, sizeof(value), NULL, NULL));
	ck_ok(store_put(store, "die", 3, value, 1, NULL, NULL));
	for (unsigned i = 0; i < 1000; i++)
		ck_ok(store_put(store, key, (uint32_t)sprintf(key, "dir/%04u", i), value, 100, NULL, NULL));
	store_counters(store, &before);
	move("dir", "new");
	store_counters(store, &after);
	ck_assert_uint_eq(after.splits, before.splits + 1);
	ck_assert_uint_eq(after.tree_frames, before.tree_frames + 1);
	move("new", "other/yet");
	store_counters(store, &before);
	ck_assert_uint_eq(before.splits, after.splits);
	ck_ok(store_get(store, "other/yet", 9, found, sizeof(found), &bytes, NULL));
	ck_assert_uint_eq(bytes, sizeof(value));
	ck_assert_int_eq(memcmp(found, value, bytes), 0);
	ck_ok(store_get(store, "other/yet/0999", 14, found, sizeof(found), &bytes, NULL));
	ck_ok(store_get(store, "die", 3, found, sizeof(found), &bytes, NULL));
	ck_assert_int_eq(store_get(store, "dir", 3, found, sizeof(found), &bytes, NULL), -ENOENT);
	ck_assert_int_eq(store_get(store, "new/0999", 8, found, sizeof(found), &bytes, NULL), -ENOENT);
}
END_TEST

/* A long value at the prefix, some keys below it, and a name so long that all together does
 * not fit the room that a frame can be made to have. */
START_TEST(store_cuts_off_what_a_long_name_leaves_no_room_for)
{
	static uint8_t value[STORE_VALUE_MAX];
	static char name[40001];
	char key[64];

	open_store(&large);
	memset(name, 'L', sizeof(name) - 1);
	ck_ok(store_put(store, "dir", 3, value, sizeof(value), NULL, NULL));
	for (unsigned i = 0; i < 20; i++)
		ck_ok(store_put(store, key, (uint32_t)sprintf(key, "other%u", i), value, 10000, NULL, NULL));
	for (unsigned i = 0; i < 540; i++)
		ck_ok(store_put(store, key, (uint32_t)sprintf(key, "dir/%04u", i), value, 100, NULL, NULL));
	move("dir", name);
	move(name, "dir");
}
END_TEST

/* Between finding that it is large and cutting it off others may delete what is in it. */
START_TEST(store_cuts_nothing_off_that_has_become_small)
{
	static uint8_t value[40000];
	struct tree_spares *spares = calloc(1, sizeof(*spares));
	struct store_counters before, after;
	struct tree_need want;
	char key[64];

	open_store(&large);
	ck_ok(store_put(store, "die", 3, value, 1, NULL, NULL));
	for (unsigned i = 0; i < 4; i++)
		ck_ok(store_put(store, key, (uint32_t)sprintf(key, "dir/%u", i), value, i < 2 ? 40000 : 10, NULL, NULL));
	want = (struct tree_need){
	    .kind = TREE_NEED_CUT,
	    .tree = &store->tree,
	    .frame_id = store->tree.root_id,
	    .room_bytes = 65536,
	    .key = (const uint8_t *)"dir",
	    .key_bytes = 3,
	};
	ck_ok(store_delete(store, "dir/0", 5, NULL, NULL));
	ck_ok(store_delete(store, "dir/1", 5, NULL, NULL));
	store_counters(store, &before);
	store_promise_begin(false);
	ck_ok(store_provide(store, &want, spares));
	store_promise_end(store);
	store_return_spares(store, spares);
	free(spares);
	store_counters(store, &after);
	ck_assert_uint_eq(after.splits, before.splits);
	ck_assert_uint_eq(after.tree_frames, before.tree_frames);
}
END_TEST

/* Each key begins with the one before, and four fill a frame. */
START_TEST(store_finds_the_longest_prefix_on_a_way_longer_than_the_pool)
{
	static uint8_t value[STORE_VALUE_MAX];
	enum { LEVELS = 100 };
	uint32_t found, bytes;
	char key[2 * LEVELS + 2];
	struct store_options options = small;
	struct store_counters counters;

	options.keep_device = true;
	open_store(&options);
	for (uint32_t i = 1; i <= LEVELS; i++) {
		memset(key + 2 * (i - 1), 'd', 1);
		memset(key + 2 * (i - 1) + 1, '/', 1);
		value[0] = (uint8_t)i;
		ck_ok(store_put(store, key, 2 * i, value, sizeof(value), NULL, NULL));
	}
	ck_ok(store_checkpoint(store));
	store_counters(store, &counters);
	ck_assert_uint_gt(counters.tree_frames, counters.cache_slots);
	key[2 * LEVELS] = 'x';
	ck_ok(store_longest_prefix(store, key, 2 * LEVELS + 1, &found, value, sizeof(value), &bytes, NULL));
	ck_assert_uint_eq(found, 2 * LEVELS);
	ck_assert_uint_eq(bytes, sizeof(value));
	ck_assert_uint_eq(value[0], LEVELS);
	key[2 * LEVELS - 1] = 'x';
	ck_ok(store_longest_prefix(store, key, 2 * LEVELS, &found, value, sizeof(value), &bytes, NULL));
	ck_assert_uint_eq(found, 2 * LEVELS - 2);
	ck_assert_uint_eq(value[0], LEVELS - 1);
	store_counters(store, &counters);
	ck_assert_uint_eq(counters.views, 0);
	/* Where nothing can be written it is looked for in a view too. */
	ck_ok(store_close(store));
	options.is_read_only = true;
	options.keep_device = false;
	open_store(&options);
	ck_ok(store_longest_prefix(store, key, 2 * LEVELS, &found, value, sizeof(value), &bytes, NULL));
	ck_assert_uint_eq(found, 2 * LEVELS - 2);
}
END_TEST

void add_frame_tests(TCase *tcase)
{
	tcase_add_test(tcase, store_cuts_off_what_a_long_name_leaves_no_room_for);
	tcase_add_test(tcase, store_cuts_nothing_off_that_has_become_small);
	tcase_add_test(tcase, store_cuts_a_large_subtree_off_before_it_moves);
	tcase_add_loop_test(tcase, store_moves_onto_frames_without_keys, 0, 2);
	tcase_add_loop_test(tcase, store_keeps_no_frames_that_moves_and_drops_leave_empty, 0, 2);
	tcase_add_test(tcase, store_finds_the_longest_prefix_on_a_way_longer_than_the_pool);
	tcase_add_test(tcase, store_does_not_list_a_frame_that_has_no_end);
	tcase_add_loop_test(tcase, store_counts_frames_without_keys, 0, 3);
}
