/* What use, free, cancel, guard and checkpoints do to a block. */
#include "config.h"

#include "tests/unit/space_volume.h"

#include <errno.h>
#include <string.h>

START_TEST(new_volume_is_free_but_for_superblock_and_journal)
{
	struct space_counters c;
	struct volume v;

	volume_open(&v, 40);
	c = volume_counters(&v);
	ck_assert_uint_eq(c.total_blocks, (40 - FIRST_FRAME) * FRAME_BLOCKS);
	ck_assert_uint_eq(c.allocated_blocks, 0);
	ck_assert_uint_eq(c.resting_blocks, 0);
	ck_assert_uint_eq(c.used_blocks, 3); /* the space map's own pages */
	ck_assert_uint_eq(c.free_frames, 40 - FIRST_FRAME - 1);
	ck_assert(space_is_used(v.space, FIRST_BLOCK, 3));
	ck_assert(!space_is_used(v.space, FIRST_BLOCK, 4));
	volume_reopen(&v);
	ck_assert_uint_eq(volume_counters(&v).used_blocks, 3);
	volume_close(&v);
}
END_TEST

START_TEST(whole_frames_come_first_and_small_runs_pack)
{
	struct space_run a, b, c;
	struct volume v;

	volume_open(&v, 40);
	a = volume_alloc(&v, 10);
	b = volume_alloc(&v, 20);
	ck_assert_uint_eq(a.block % FRAME_BLOCKS, 0);
	ck_assert_uint_eq(a.count, 10);
	ck_assert_uint_eq(b.block, a.block + 10);
	ck_assert_uint_eq(b.count, 20);
	c = volume_alloc(&v, FRAME_BLOCKS);
	ck_assert_uint_eq(c.count, FRAME_BLOCKS);
	ck_assert_uint_eq(c.block % FRAME_BLOCKS, 0);
	a = volume_alloc(&v, 1);
	ck_assert_uint_eq(a.block, b.block + 20);
	a = volume_alloc(&v, 127);
	ck_assert_uint_eq(a.count, FRAME_BLOCKS - 31);
	volume_close(&v);
}
END_TEST

START_TEST(cancelled_blocks_are_free_at_once)
{
	struct space_counters before, after;
	struct space_run run;
	struct volume v;

	volume_open(&v, 40);
	before = volume_counters(&v);
	run = volume_alloc(&v, 100);
	ck_assert_uint_eq(volume_counters(&v).allocated_blocks, 100);
	space_cancel(v.space, run.block, run.count);
	after = volume_counters(&v);
	ck_assert_int_eq(memcmp(&before, &after, sizeof(before)), 0);
	ck_assert(volume_may_be_allocated(&v, run.block));
	volume_close(&v);
}
END_TEST

START_TEST(freed_block_rests_until_a_checkpoint_begun_later_is_durable)
{
	struct space_run run;
	struct volume v;

	volume_open(&v, 20);
	run = volume_used_run(&v, 8);
	volume_checkpoint(&v);

	/* Freed while a checkpoint is under way: not this one's. */
	space_freeze(v.space);
	ck_ok(space_free(v.space, run.block, run.count));
	ck_assert(!volume_may_be_allocated(&v, run.block));
	ck_ok(volume_write_maps(&v));
	volume_thaw(&v, true);
	ck_assert_uint_eq(volume_counters(&v).resting_blocks, 8);
	ck_assert(!volume_may_be_allocated(&v, run.block));

	space_freeze(v.space);
	ck_assert(!volume_may_be_allocated(&v, run.block));
	ck_ok(volume_write_maps(&v));
	ck_assert(!volume_may_be_allocated(&v, run.block));
	volume_thaw(&v, true);
	ck_assert_uint_eq(volume_counters(&v).resting_blocks, 0);
	ck_assert(volume_may_be_allocated(&v, run.block));
	volume_close(&v);
}
END_TEST

START_TEST(failed_checkpoint_frees_nothing)
{
	struct space_run a, b;
	struct volume v;
	uint64_t frame;

	volume_open(&v, 40);
	a = volume_used_run(&v, 8);
	b = volume_used_run(&v, 8);
	ck_ok(space_alloc_frame(v.space, SPACE_TREE, &frame));
	space_freeze(v.space);
	ck_ok(space_frozen_use(v.space, frame * FRAME_BLOCKS, FRAME_BLOCKS));
	manifest_set(v.space, 5, &(struct manifest_place){frame, 1, 2});
	ck_ok(volume_write_maps(&v));
	volume_thaw(&v, true);

	ck_ok(space_free(v.space, a.block, a.count));
	space_freeze(v.space);
	ck_ok(space_free(v.space, b.block, b.count));
	ck_ok(space_frozen_free(v.space, frame * FRAME_BLOCKS, FRAME_BLOCKS));
	manifest_set(v.space, 5, &(struct manifest_place){});
	ck_ok(volume_write_maps(&v));
	volume_thaw(&v, false);
	ck_assert(!volume_may_be_allocated(&v, a.block));
	ck_assert(!volume_may_be_allocated(&v, b.block));
	ck_assert(!volume_may_be_allocated(&v, frame * FRAME_BLOCKS));
	ck_assert(space_is_used(v.space, frame * FRAME_BLOCKS, FRAME_BLOCKS));
	volume_close(&v);
}
END_TEST

START_TEST(failed_checkpoint_leaves_the_manifest_as_it_was)
{
	struct manifest_place place = {10, 11, 12}, got;
	struct volume v;

	volume_open(&v, 40);
	space_freeze(v.space);
	manifest_set(v.space, 300, &place);
	ck_ok(volume_write_maps(&v));
	volume_thaw(&v, true);
	space_freeze(v.space);
	manifest_set(v.space, 300, &(struct manifest_place){20, 21, 22});
	manifest_set(v.space, 300, &(struct manifest_place){});
	manifest_set(v.space, 7, &(struct manifest_place){20, 21, 22});
	manifest_get(v.space, 7, &got);
	ck_assert_uint_eq(got.disk_frame, 20);
	ck_ok(volume_write_maps(&v));
	volume_thaw(&v, false);
	manifest_get(v.space, 300, &got);
	ck_assert_int_eq(memcmp(&got, &place, sizeof(got)), 0);
	manifest_get(v.space, 7, &got);
	ck_assert_uint_eq(got.disk_frame, 0);
	volume_close(&v);
}
END_TEST

START_TEST(image_holds_the_freeze_and_nothing_later)
{
	struct space_run before, freed, after;
	struct volume v;
	uint64_t frame;

	volume_open(&v, 40);
	before = volume_used_run(&v, 5);
	freed = volume_used_run(&v, 5);
	ck_ok(space_alloc_frame(v.space, SPACE_TREE, &frame));
	space_freeze(v.space);
	after = volume_used_run(&v, 5);
	ck_ok(space_free(v.space, freed.block, freed.count));
	ck_ok(space_frozen_use(v.space, frame * FRAME_BLOCKS, FRAME_BLOCKS));
	ck_ok(volume_write_maps(&v));
	volume_thaw(&v, true);
	ck_assert(space_is_used(v.space, after.block, after.count));
	volume_reopen(&v);
	ck_assert(space_is_used(v.space, before.block, before.count));
	ck_assert(space_is_used(v.space, freed.block, freed.count));
	ck_assert(!space_is_used(v.space, after.block, 1));
	ck_assert(space_is_used(v.space, frame * FRAME_BLOCKS, FRAME_BLOCKS));
	volume_close(&v);
}
END_TEST

START_TEST(late_changes_are_in_the_next_image)
{
	struct space_run freed, after;
	struct volume v;

	volume_open(&v, 40);
	freed = volume_used_run(&v, 5);
	space_freeze(v.space);
	after = volume_used_run(&v, 5);
	ck_ok(space_free(v.space, freed.block, freed.count));
	ck_ok(volume_write_maps(&v));
	volume_thaw(&v, true);
	volume_checkpoint(&v);
	volume_reopen(&v);
	ck_assert(!space_is_used(v.space, freed.block, 1));
	ck_assert(space_is_used(v.space, after.block, after.count));
	volume_close(&v);
}
END_TEST

START_TEST(unchanged_maps_write_nothing)
{
	struct device_counters before, after;
	struct volume v;

	volume_open(&v, 2000);
	device_counters(v.device, &before);
	volume_checkpoint(&v);
	device_counters(v.device, &after);
	ck_assert_uint_eq(before.write_bytes, after.write_bytes);
	volume_used_run(&v, 1);
	device_counters(v.device, &before);
	volume_checkpoint(&v);
	device_counters(v.device, &after);
	ck_assert_uint_eq(after.write_bytes - before.write_bytes, 3 * BLOCK_BYTES);
	volume_close(&v);
}
END_TEST

START_TEST(damaged_records_are_refused_and_change_nothing)
{
	struct space_counters before, after;
	uint64_t end = 40 * FRAME_BLOCKS;
	struct space_run run;
	struct volume v;

	volume_open(&v, 40);
	run = volume_used_run(&v, 8);
	before = volume_counters(&v);
	ck_assert_int_eq(space_use(v.space, 0, 1), -EUCLEAN);
	ck_assert_int_eq(space_use(v.space, FRAME_BLOCKS, 1), -EUCLEAN);
	ck_assert_int_eq(space_use(v.space, FIRST_BLOCK - 1, 2), -EUCLEAN);
	ck_assert_int_eq(space_use(v.space, end - 1, 2), -EUCLEAN);
	ck_assert_int_eq(space_use(v.space, end, 1), -EUCLEAN);
	ck_assert_int_eq(space_use(v.space, UINT64_MAX, 1), -EUCLEAN);
	ck_assert_int_eq(space_use(v.space, UINT64_MAX - 3, UINT32_MAX), -EUCLEAN);
	ck_assert_int_eq(space_use(v.space, end - 1, 0), -EUCLEAN);
	ck_assert_int_eq(space_use(v.space, run.block, 1), -EUCLEAN);
	ck_assert_int_eq(space_use(v.space, run.block + 7, 2), -EUCLEAN);
	ck_assert_int_eq(space_free(v.space, run.block + 7, 2), -EUCLEAN);
	ck_assert_int_eq(space_free(v.space, FIRST_BLOCK - 1, 1), -EUCLEAN);
	ck_assert_int_eq(space_free(v.space, end, 1), -EUCLEAN);
	space_guard(v.space, 0, 1);
	space_guard(v.space, UINT64_MAX, 1);
	space_guard(v.space, end - 1, UINT32_MAX);
	ck_assert(!space_is_used(v.space, UINT64_MAX, 1));
	after = volume_counters(&v);
	ck_assert_int_eq(memcmp(&before, &after, sizeof(before)), 0);
	ck_ok(space_free(v.space, run.block, 8));
	ck_assert_int_eq(space_free(v.space, run.block, 1), -EUCLEAN);
	ck_assert_int_eq(space_use(v.space, run.block, 1), -EUCLEAN);
	volume_close(&v);
}
END_TEST

START_TEST(guarded_blocks_are_not_given_away_until_the_guard_ends)
{
	uint64_t block = FIRST_BLOCK + 500;
	struct space_run run;
	struct volume v;

	volume_open(&v, 40);
	run = volume_used_run(&v, 8);
	space_guard(v.space, block, 300);
	space_guard(v.space, block, 10);
	space_guard(v.space, run.block, run.count);
	ck_assert_uint_eq(volume_counters(&v).allocated_blocks, 300);
	ck_assert(!volume_may_be_allocated(&v, block));
	ck_assert(!volume_may_be_allocated(&v, block + 299));
	ck_ok(space_use(v.space, block, 10));
	ck_ok(space_use(v.space, block + 290, 20)); /* ten of them are free */
	space_guard_end(v.space);
	ck_assert_uint_eq(volume_counters(&v).allocated_blocks, 0);
	ck_assert(space_is_used(v.space, block, 10));
	ck_assert(space_is_used(v.space, block + 290, 20));
	ck_assert(space_is_used(v.space, run.block, run.count));
	ck_assert(volume_may_be_allocated(&v, block + 10));
	ck_ok(space_free(v.space, block, 10));
	volume_close(&v);
}
END_TEST

void add_state_tests(TCase *t)
{
	tcase_add_test(t, new_volume_is_free_but_for_superblock_and_journal);
	tcase_add_test(t, whole_frames_come_first_and_small_runs_pack);
	tcase_add_test(t, cancelled_blocks_are_free_at_once);
	tcase_add_test(t, freed_block_rests_until_a_checkpoint_begun_later_is_durable);
	tcase_add_test(t, failed_checkpoint_frees_nothing);
	tcase_add_test(t, failed_checkpoint_leaves_the_manifest_as_it_was);
	tcase_add_test(t, image_holds_the_freeze_and_nothing_later);
	tcase_add_test(t, late_changes_are_in_the_next_image);
	tcase_add_test(t, unchanged_maps_write_nothing);
	tcase_add_test(t, damaged_records_are_refused_and_change_nothing);
	tcase_add_test(t, guarded_blocks_are_not_given_away_until_the_guard_ends);
}
