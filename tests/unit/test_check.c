/*
 * The consistency walk: a clean volume is clean, each kind of damage made on purpose is
 * found, named once, and followed by nothing that is not true.
 */
#include "config.h"

#include "tests/unit/check_volume.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct findings found;

/* ---- nothing wrong ------------------------------------------------------------------ */

START_TEST(check_finds_nothing_in_a_good_volume)
{
	volume_check(&found, true);
	expect_clean(&found);
	ck_assert_uint_eq(found.count, 0);
	ck_assert_uint_eq(found.totals.files, CHECK_FILES + 2);
	ck_assert_uint_eq(found.totals.directories, 12);
	ck_assert_uint_eq(found.totals.symlinks, 1);
	ck_assert_uint_eq(found.totals.others, 1);
	ck_assert_uint_gt(found.totals.tree_frames, 2);
	ck_assert_uint_ge(found.totals.keys, CHECK_FILES + 8);
	ck_assert(found.totals.average_fill > 0.2 && found.totals.average_fill < 1);
}
END_TEST

START_TEST(check_replays_the_log_in_memory)
{
	volume_remove();
	volume_make_unclosed();
	volume_check(&found, true);
	expect_clean(&found);
	ck_assert_uint_eq(findings_count(&found, CHECK_NOTE, "were replayed"), 1);
	ck_assert_uint_eq(found.totals.files, CHECK_FILES + 2);
}
END_TEST

/* Frames are folded, data is freed and used, all only in the log. */
START_TEST(check_knows_what_a_replay_leaves_for_the_next_checkpoint)
{
	struct store *store = volume_open();
	struct device *copy;
	char key[64];

	for (int i = 0; i < CHECK_FILES; i++) {
		int bytes = snprintf(key, sizeof(key), "N/many/%cfile-%04d", 0, i);

		volume_delete(store, key, (size_t)bytes);
	}
	ck_ok(store_sync(store, store_end_lsn(store), JOURNAL_SYNC));
	ck_ok(device_open_copy(volume, &copy));
	store_abandon(store);
	volume_remove();
	volume = copy;
	volume_check(&found, true);
	expect_only(&found, CHECK_DAMAGE, "/many (inode 2): counts 4001 entries, has 1");
	ck_assert_uint_eq(findings_count(&found, CHECK_NOTE, "were replayed"), 1);
}
END_TEST

/* What the log would change cannot be read; the last checkpoint can, elsewhere. */
START_TEST(check_goes_on_without_a_log_that_cannot_be_replayed)
{
	struct store *store = volume_open();
	struct manifest_place place;
	struct device *copy;
	char key[64], value[BLOCK_BYTES];

	some_child_frame(store, &place);
	for (int i = 0; i < CHECK_FILES; i++) {
		int bytes = snprintf(key, sizeof(key), "N/many/%cfile-%04d", 0, i);
		uint32_t size = store_value(store, key, (size_t)bytes, value, sizeof(value));

		volume_put(store, key, (size_t)bytes, value, size);
	}
	ck_ok(store_sync(store, store_end_lsn(store), JOURNAL_SYNC));
	ck_ok(device_open_copy(volume, &copy));
	store_abandon(store);
	volume_remove();
	volume = copy;
	ck_ok(device_flip_bit(volume, place.disk_frame * FRAME_BYTES + BLOCK_BYTES + 17, 5));
	volume_check(&found, true);
	ck_assert_int_eq(found.result, 0);
	ck_assert_uint_eq(found.totals.damages, 2);
	ck_assert_uint_eq(findings_count(&found, CHECK_DAMAGE, "the log cannot be replayed"), 1);
	ck_assert_uint_eq(findings_count(&found, CHECK_DAMAGE, "does not verify"), 1);
	ck_assert_uint_gt(found.totals.files, 100);
}
END_TEST

/* Keys of any kind. */
START_TEST(check_of_a_store_asks_nothing_of_keys)
{
	struct store_format_options format = {.uuid = {9}};
	uint64_t state = support_seed(20264);
	struct device *copy;
	struct store *store;

	volume_remove();
	ck_ok(device_open_memory(CHECK_VOLUME_BYTES, &volume));
	ck_ok(store_format(volume, &format));
	store = volume_open();
	for (int i = 0; i < 5000; i++) {
		uint64_t key[4] = {support_random(&state), support_random(&state), i, i};

		volume_put(store, key, sizeof(key), key, 16);
	}
	volume_close(store);
	ck_ok(device_open_copy(volume, &copy));
	device_check(&found, copy, false, true);
	expect_clean(&found);
	ck_assert_uint_eq(found.count, 0);
	ck_assert_uint_eq(found.totals.keys, 5000);
}
END_TEST

/*
 * Whatever cannot be read is told, or the check is said to have failed; but for the
 * store's own look at one of the superblocks, which does with the other.
 */
START_TEST(check_tells_what_cannot_be_read)
{
	uint64_t n = 0, noticed = 0, unnoticed = 0;
	struct device *copy, *faulty;

	/* Three in a row: there are no more reads. */
	while (unnoticed < 3) {
		struct faulty_plan plan = {.fail_read_at = ++n, .error = -EIO};

		ck_ok(device_open_copy(volume, &copy));
		ck_ok(device_open_faulty(copy, &faulty));
		faulty_set_plan(faulty, &plan);
		device_check(&found, faulty, true, false);
		ck_assert(found.result == 0 || found.result == -EIO || found.result == -EUCLEAN);
		if (found.result || found.count)
			noticed++;
		unnoticed = found.result || found.count ? 0 : unnoticed + 1;
	}
	ck_assert_uint_gt(noticed, 20);
	ck_assert_uint_eq(noticed, n - 5);
}
END_TEST

/* ---- superblocks --------------------------------------------------------------------- */

START_TEST(check_works_with_one_superblock)
{
	ck_ok(device_flip_bit(volume, (_i ? SUPERBLOCK_B_OFFSET : SUPERBLOCK_A_OFFSET) + 100, 3));
	volume_check(&found, false);
	expect_clean(&found);
	ck_assert_uint_eq(found.count, 1);
	ck_assert_uint_eq(findings_count(&found, CHECK_NOTE, _i ? "superblock B" : "superblock A"), 1);
}
END_TEST

START_TEST(check_cannot_run_without_superblock)
{
	ck_ok(device_flip_bit(volume, SUPERBLOCK_A_OFFSET + 100, 3));
	ck_ok(device_flip_bit(volume, SUPERBLOCK_B_OFFSET + 100, 3));
	volume_check(&found, false);
	ck_assert_int_eq(found.result, -EUCLEAN);
	ck_assert_uint_eq(findings_count(&found, CHECK_DAMAGE, "superblock A"), 1);
	ck_assert_uint_eq(findings_count(&found, CHECK_DAMAGE, "superblock B"), 1);
	ck_assert_uint_eq(found.count, 2);

	volume_remove();
	ck_ok(device_open_memory(CHECK_VOLUME_BYTES, &volume));
	volume_check(&found, false);
	ck_assert_int_eq(found.result, -EMEDIUMTYPE);
}
END_TEST

/* ---- maps ------------------------------------------------------------------------------ */

struct block_list {
	uint64_t blocks[64];
	uint32_t count;
};

static int take_block(void *ctx, uint64_t block)
{
	struct block_list *list = ctx;

	ck_assert_uint_lt(list->count, 64);
	list->blocks[list->count++] = block;
	return 0;
}

START_TEST(check_names_a_damaged_map_page)
{
	struct block_list list = {0};
	struct store *store = volume_open();
	char text[64];

	ck_ok(space_for_each_map_block(store_space(store), take_block, &list));
	store_abandon(store);
	ck_assert_uint_ge(list.count, 6);
	for (uint32_t i = 0; i < list.count; i++) {
		ck_ok(device_flip_bit(volume, list.blocks[i] * BLOCK_BYTES + 1000, 0));
		volume_check(&found, false);
		ck_assert_int_eq(found.result, -EUCLEAN);
		ck_assert_uint_eq(found.count, 1);
		snprintf(text, sizeof(text), "at block %llu: checksum",
		    (unsigned long long)list.blocks[i]);
		ck_assert_uint_eq(findings_count(&found, CHECK_DAMAGE, text), 1);
		ck_ok(device_flip_bit(volume, list.blocks[i] * BLOCK_BYTES + 1000, 0));
	}
}
END_TEST

/* ---- tree frames ------------------------------------------------------------------------- */

START_TEST(check_goes_on_after_a_damaged_frame)
{
	struct store *store = volume_open();
	struct manifest_place place;
	uint64_t frame = some_child_frame(store, &place);
	char text[128];

	store_abandon(store);
	ck_ok(device_flip_bit(volume, place.disk_frame * FRAME_BYTES + 3 * BLOCK_BYTES + 17, 5));
	volume_check(&found, true);
	snprintf(text, sizeof(text), "tree frame %llu at disk frame %llu: block 3",
	    (unsigned long long)frame, (unsigned long long)place.disk_frame);
	expect_only(&found, CHECK_DAMAGE, text);
	ck_assert_uint_gt(found.totals.files, 100);
}
END_TEST

START_TEST(check_survives_a_damaged_root_frame)
{
	struct store *store = volume_open();
	struct manifest_place place;

	manifest_get(store_space(store), from_le64(store_superblock(store)->user_root), &place);
	store_abandon(store);
	ck_ok(device_flip_bit(volume, place.disk_frame * FRAME_BYTES + 30, 5));
	volume_check(&found, true);
	expect_only(&found, CHECK_DAMAGE, "block 0");
	ck_assert_uint_eq(findings_count(&found, CHECK_NOTE, "can no longer be reached"), 1);
	ck_assert_uint_eq(findings_count(&found, CHECK_NOTE, "named by nothing that could be read"), 1);
}
END_TEST

/* Looks for a node of a kind in an image. */
struct node_search {
	const void *found;
	bool wants_crossing;
};

static int take_leaf(void *ctx, const uint8_t *key, uint32_t key_bytes, const struct node *leaf)
{
	struct node_search *search = ctx;

	if (!search->wants_crossing && !search->found)
		search->found = leaf;
	return 0;
}

static int take_crossing(void *ctx, const uint8_t *key, uint32_t key_bytes,
    const struct node_crossing *crossing)
{
	struct node_search *search = ctx;

	if (search->wants_crossing && !search->found)
		search->found = crossing;
	return 0;
}

static const void *find_node(const void *image, bool wants_crossing)
{
	struct node_search search = {.wants_crossing = wants_crossing};
	struct tree_visit visit = {&search, take_leaf, take_crossing};
	const char *why;

	ck_ok(tree_frame_walk(image, &visit, &why));
	return search.found;
}

/* The root frame, changed by a put, so that closing writes it with whatever it holds. */
static uint8_t *root_image(struct store *store)
{
	struct pool *pool = store_pool(store);
	uint64_t root = from_le64(store_superblock(store)->user_root);
	struct inode_value value = inode_of(store, KEY("N"));
	uint32_t slot;

	inode_put_back(store, KEY("N"), &value);
	slot = pool_find(pool, frame_key_make(FRAME_TREE, root));
	ck_assert_uint_ne(slot, POOL_NO_SLOT);
	ck_assert_uint_ne(pool_dirty_epoch(pool, slot), 0);
	return pool_memory(pool, slot);
}

START_TEST(check_finds_a_node_that_reaches_too_far)
{
	struct store *store = volume_open();
	struct node_leaf *leaf = (void *)find_node(root_image(store), false);

	leaf->type = NODE_LEAF;
	leaf->rest_bytes = to_le16(0);
	leaf->value_bytes = to_le32(FRAME_BYTES / 2 + 70000);
	volume_close(store);
	volume_check(&found, false);
	ck_assert_int_eq(found.result, 0);
	expect_only(&found, CHECK_DAMAGE, "tree frame 1: ");
}
END_TEST

START_TEST(check_finds_a_child_that_does_not_exist)
{
	struct store *store = volume_open();
	struct node_crossing *crossing = (void *)find_node(root_image(store), true);

	ck_assert_ptr_nonnull(crossing);
	crossing->frame_id = to_le64(_i ? 54321 : UINT64_MAX);
	volume_close(store);
	volume_check(&found, false);
	expect_only(&found, CHECK_DAMAGE, _i ? "tree frame 54321" : "which cannot be");
	ck_assert_uint_eq(findings_count(&found, CHECK_NOTE, "can no longer be reached"), 1);
}
END_TEST

START_TEST(check_finds_a_child_of_two_crossings)
{
	struct store *store = volume_open();
	struct node_crossing *crossing = (void *)find_node(root_image(store), true);

	crossing->frame_id = store_superblock(store)->user_root;
	volume_close(store);
	volume_check(&found, false);
	expect_only(&found, CHECK_DAMAGE, "tree frame 1: named by two crossings");
}
END_TEST

/* The crossings of one image. */
struct crossing_list {
	struct node_crossing *crossings[64];
	uint32_t count;
};

static int list_crossing(void *ctx, const uint8_t *key, uint32_t key_bytes,
    const struct node_crossing *crossing)
{
	struct crossing_list *list = ctx;

	ck_assert_uint_lt(list->count, 64);
	list->crossings[list->count++] = (struct node_crossing *)crossing;
	return 0;
}

/* Two whose runs have no byte in common change places. */
static bool exchange_children(const struct crossing_list *list)
{
	for (uint32_t i = 0; i < list->count; i++)
		for (uint32_t k = 0; k < i; k++) {
			struct node_crossing *first = list->crossings[k], *second = list->crossings[i];
			le64 frame_id = first->frame_id;

			if (first->hi >= second->lo && first->lo <= second->hi)
				continue;
			first->frame_id = second->frame_id;
			second->frame_id = frame_id;
			return true;
		}
	return false;
}

START_TEST(check_finds_children_outside_their_runs)
{
	struct store *store = volume_open();
	struct crossing_list list = {0};
	const char *why;

	ck_ok(tree_frame_walk(root_image(store), &(struct tree_visit){&list, NULL, list_crossing}, &why));
	ck_assert(exchange_children(&list));
	volume_close(store);
	volume_check(&found, false);
	ck_assert_int_eq(found.result, 0);
	ck_assert_uint_eq(found.totals.leaks, 0);
	ck_assert_uint_eq(found.totals.damages, 2);
	ck_assert_uint_eq(findings_count(&found, CHECK_DAMAGE, "has entries outside the range"), 2);
}
END_TEST

/* ---- space ----------------------------------------------------------------------------------- */

static uint64_t block_of_big(struct store *store)
{
	struct inode_value value = inode_of(store, KEY("N/\0big"));
	struct span_map map;

	span_of(&value, &map);
	return map.block[5];
}

START_TEST(check_finds_a_file_block_that_is_not_in_use)
{
	struct store *store = volume_open();
	uint64_t block = block_of_big(store);
	char text[64];

	ck_ok(space_free(store_space(store), block, 1));
	volume_close(store);
	volume_check(&found, true);
	snprintf(text, sizeof(text), "offset 0: block %llu not in use", (unsigned long long)block);
	expect_only(&found, CHECK_DAMAGE, text);
	ck_assert_uint_eq(findings_count(&found, CHECK_DAMAGE, "/big (inode"), 1);
}
END_TEST

START_TEST(check_finds_a_frame_block_that_is_not_in_use)
{
	struct store *store = volume_open();
	struct manifest_place place;
	uint64_t frame = some_child_frame(store, &place);
	char text[64];

	ck_ok(space_free(store_space(store), place.disk_frame * FRAME_BLOCKS + 7, 2));
	volume_close(store);
	volume_check(&found, true);
	snprintf(text, sizeof(text), "tree frame %llu: blocks", (unsigned long long)frame);
	expect_only(&found, CHECK_DAMAGE, text);
}
END_TEST

START_TEST(check_finds_space_that_nothing_names)
{
	struct store *store = volume_open();
	struct space_run run;
	char text[64];

	ck_ok(store_alloc_blocks(store, 3, &run));
	ck_assert_uint_eq(run.count, 3);
	ck_ok(space_use(store_space(store), run.block, run.count));
	volume_close(store);
	volume_check(&found, true);
	snprintf(text, sizeof(text), "blocks %llu to %llu: in use, and nothing",
	    (unsigned long long)run.block, (unsigned long long)run.block + 2);
	expect_only(&found, CHECK_LEAK, text);
}
END_TEST

START_TEST(check_finds_a_block_of_two_files)
{
	struct store *store = volume_open();
	struct inode_value small = inode_of(store, KEY("N/\0small"));
	struct span_map map, big;
	struct inode_value value = inode_of(store, KEY("N/\0big"));
	uint64_t block;

	span_of(&value, &big);
	span_of(&small, &map);
	block = map.block[0];
	map.block[0] = big.block[9];
	map.checksum[0] = big.checksum[9];
	span_put_back(&small, &map);
	inode_put_back(store, KEY("N/\0small"), &small);
	ck_ok(space_free(store_space(store), block, 1));
	volume_close(store);
	volume_check(&found, true);
	expect_only(&found, CHECK_DAMAGE, "used twice");
	ck_assert_uint_eq(findings_count(&found, CHECK_DAMAGE, "/small (inode"), 1);
}
END_TEST

START_TEST(check_finds_blocks_outside_the_volume)
{
	static const uint64_t blocks[] = {3, FRAME_BLOCKS + 1, 1ull << 50};
	struct store *store = volume_open();
	struct inode_value small = inode_of(store, KEY("N/\0small"));
	struct span_map map;
	uint64_t block;

	span_of(&small, &map);
	block = map.block[1];
	map.block[1] = blocks[_i];
	span_put_back(&small, &map);
	inode_put_back(store, KEY("N/\0small"), &small);
	ck_ok(space_free(store_space(store), block, 1));
	volume_close(store);
	volume_check(&found, true);
	expect_only(&found, CHECK_DAMAGE, "outside of what may hold data");
}
END_TEST

/* ---- data --------------------------------------------------------------------------------------- */

START_TEST(check_verifies_data_when_asked)
{
	struct store *store = volume_open();
	uint64_t block = block_of_big(store);
	char text[64];

	store_abandon(store);
	ck_ok(device_flip_bit(volume, block * BLOCK_BYTES + 77, 1));
	volume_check(&found, false);
	expect_clean(&found);
	volume_check(&found, true);
	snprintf(text, sizeof(text), "/big: data at offset %u, block %llu", 5 * BLOCK_BYTES,
	    (unsigned long long)block);
	expect_only(&found, CHECK_DAMAGE, text);
}
END_TEST

START_TEST(check_finds_old_data_behind_the_end)
{
	struct store *store = volume_open();
	struct inode_value small = inode_of(store, KEY("N/\0small"));

	small.head.size = to_le64(BLOCK_BYTES + 50);
	inode_put_back(store, KEY("N/\0small"), &small);
	volume_close(store);
	volume_check(&found, true);
	expect_only(&found, CHECK_DAMAGE, "not zeros behind the end");

	store = volume_open();
	small.head.flags |= INODE_TAIL_STALE;
	inode_put_back(store, KEY("N/\0small"), &small);
	volume_close(store);
	volume_check(&found, true);
	expect_clean(&found);
}
END_TEST

static void setup(void)
{
	volume_make();
}

static Suite *suite(void)
{
	Suite *s = suite_create("check");
	TCase *structure = tcase_create("structure");
	TCase *space = tcase_create("space");

	tcase_add_checked_fixture(structure, setup, volume_remove);
	tcase_set_timeout(structure, 60);
	tcase_add_test(structure, check_finds_nothing_in_a_good_volume);
	tcase_add_test(structure, check_replays_the_log_in_memory);
	tcase_add_test(structure, check_knows_what_a_replay_leaves_for_the_next_checkpoint);
	tcase_add_test(structure, check_goes_on_without_a_log_that_cannot_be_replayed);
	tcase_add_test(structure, check_of_a_store_asks_nothing_of_keys);
	tcase_add_test(structure, check_tells_what_cannot_be_read);
	tcase_add_loop_test(structure, check_works_with_one_superblock, 0, 2);
	tcase_add_test(structure, check_cannot_run_without_superblock);
	tcase_add_test(structure, check_names_a_damaged_map_page);
	tcase_add_test(structure, check_goes_on_after_a_damaged_frame);
	tcase_add_test(structure, check_survives_a_damaged_root_frame);
	tcase_add_test(structure, check_finds_a_node_that_reaches_too_far);
	tcase_add_loop_test(structure, check_finds_a_child_that_does_not_exist, 0, 2);
	tcase_add_test(structure, check_finds_a_child_of_two_crossings);
	tcase_add_test(structure, check_finds_children_outside_their_runs);
	suite_add_tcase(s, structure);

	tcase_add_checked_fixture(space, setup, volume_remove);
	tcase_set_timeout(space, 60);
	tcase_add_test(space, check_finds_a_file_block_that_is_not_in_use);
	tcase_add_test(space, check_finds_a_frame_block_that_is_not_in_use);
	tcase_add_test(space, check_finds_space_that_nothing_names);
	tcase_add_test(space, check_finds_a_block_of_two_files);
	tcase_add_loop_test(space, check_finds_blocks_outside_the_volume, 0, 3);
	tcase_add_test(space, check_verifies_data_when_asked);
	tcase_add_test(space, check_finds_old_data_behind_the_end);
	suite_add_tcase(s, space);
	return s;
}

int main(void)
{
	return support_run(suite());
}
