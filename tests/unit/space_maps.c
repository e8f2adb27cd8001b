/* How the maps are saved: which pages, where, and how soon they are loaded. */
#include "config.h"

#include "tests/unit/space_volume.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/lock.h"
#include "device/device_test.h"

START_TEST(checkpoint_saves_the_bits_of_its_own_pages)
{
	struct volume v;
	uint64_t frames = 254 * 40;

	volume_open(&v, frames);
	/* Every leaf is dirty, time and again; open checks that pages are in use. */
	for (int round = 0; round < 8; round++) {
		for (uint64_t frame = 20; frame < frames; frame += 254) {
			uint64_t block = frame * FRAME_BLOCKS + (uint64_t)round;

			ck_ok(space_use(v.space, block, 1));
		}
		volume_checkpoint(&v);
		volume_reopen(&v);
		ck_assert_uint_eq(volume_counters(&v).resting_blocks, 0);
	}
	/* All pages still lie in few frames. */
	ck_assert_uint_ge(volume_counters(&v).free_frames, frames - FIRST_FRAME - 40 - 2);
	volume_close(&v);
}
END_TEST

START_TEST(empty_leaves_take_no_block)
{
	uint64_t block = 254ull * 9 * FRAME_BLOCKS;
	struct space_counters before, after;
	struct volume v;

	volume_open(&v, 254 * 10);
	before = volume_counters(&v);
	ck_ok(space_use(v.space, block, 1));
	volume_checkpoint(&v);
	ck_assert_uint_eq(volume_counters(&v).used_blocks, before.used_blocks + 2);
	ck_ok(space_free(v.space, block, 1));
	volume_checkpoint(&v);
	after = volume_counters(&v);
	ck_assert_int_eq(memcmp(&before, &after, sizeof(before)), 0);
	volume_reopen(&v);
	after = volume_counters(&v);
	ck_assert_int_eq(memcmp(&before, &after, sizeof(before)), 0);

	space_freeze(v.space);
	manifest_set(v.space, 254 * 254 + 3, &(struct manifest_place){9, 1, 1});
	ck_ok(volume_write_maps(&v));
	volume_thaw(&v, true);
	ck_assert_uint_eq(volume_counters(&v).used_blocks, before.used_blocks + 3);
	space_freeze(v.space);
	manifest_set(v.space, 254 * 254 + 3, &(struct manifest_place){});
	ck_ok(volume_write_maps(&v));
	volume_thaw(&v, true);
	ck_assert_uint_eq(from_le64(v.superblock.manifest.block), 0);
	ck_assert_uint_eq(volume_counters(&v).used_blocks, before.used_blocks);
	volume_reopen(&v);
	volume_close(&v);
}
END_TEST

/* An emptied leaf has given up its block when its frames are given a page. */
START_TEST(emptied_leaf_that_becomes_home_of_a_page_is_saved)
{
	uint64_t home = FIRST_FRAME, block = 254ull * FRAME_BLOCKS, page = block + FRAME_BLOCKS;
	struct volume v;

	volume_open(&v, 254 * 3);
	ck_ok(space_use(v.space, block + 99, 1));
	for (uint64_t frame = home + 1; frame < 254; frame++)
		ck_ok(space_use(v.space, frame * FRAME_BLOCKS, FRAME_BLOCKS));
	volume_checkpoint(&v);
	/* One block is left at home: leaf 0 takes it, leaf 1 is empty, leaf 2 opens a
	 * new home in the lowest wholly free frame, which is of leaf 1. */
	for (uint64_t b = home * FRAME_BLOCKS, left = FRAME_BLOCKS - 4 - 1; left > 0; b++)
		left -= space_use(v.space, b, 1) == 0;
	ck_ok(space_free(v.space, block + 99, 1));
	ck_ok(space_use(v.space, 2 * block, 1));
	volume_checkpoint(&v);
	ck_assert(space_is_used(v.space, page, 1));
	volume_reopen(&v);
	ck_assert(space_is_used(v.space, page, 1));
	ck_assert(!space_is_used(v.space, block + 99, 1));
	volume_close(&v);
}
END_TEST

START_TEST(home_without_pages_is_a_free_frame_again)
{
	struct space_counters before, after;
	uint64_t groups = 140;
	struct volume v;

	volume_open(&v, 254 * groups);
	before = volume_counters(&v);
	for (int round = 0; round < 3; round++) {
		for (uint64_t group = 1; group < groups; group++)
			ck_ok(space_use(v.space, group * 254 * FRAME_BLOCKS, 1));
		volume_checkpoint(&v);
		for (uint64_t group = 1; group < groups; group++)
			ck_ok(space_free(v.space, group * 254 * FRAME_BLOCKS, 1));
		volume_checkpoint(&v);
		after = volume_counters(&v);
		ck_assert_int_eq(memcmp(&before, &after, sizeof(before)), 0);
	}
	volume_close(&v);
}
END_TEST

START_TEST(pages_of_the_last_checkpoint_are_not_overwritten_by_the_next)
{
	struct device *copy;
	struct volume v;

	volume_open(&v, 254 * 3);
	volume_used_run(&v, 3);
	volume_checkpoint(&v);
	for (int i = 0; i < 60; i++) {
		struct superblock old = v.superblock;
		struct volume past = v;

		volume_used_run(&v, 1 + (uint32_t)i);
		space_freeze(v.space);
		ck_ok(volume_write_maps(&v));
		/* Power is lost before the superblock. */
		ck_ok(device_open_copy(v.device, &copy));
		past.device = copy;
		past.superblock = old;
		ck_ok(volume_try_open(&past));
		device_close(copy);
		volume_thaw(&v, true);
	}
	volume_close(&v);
}
END_TEST

/* ---- size ------------------------------------------------------------------------------ */

START_TEST(large_volume_opens_with_few_reads_and_little_memory)
{
	uint64_t frames = 512ull * 1024 * 1024 * 1024 / FRAME_BYTES;
	struct device_counters before, after;
	uint64_t start;
	struct volume v;

	volume_open(&v, frames);
	for (uint64_t frame = 10; frame < frames; frame += 254)
		ck_ok(space_use(v.space, frame * FRAME_BLOCKS + 5, 100));
	volume_checkpoint(&v);
	device_counters(v.device, &before);
	start = monotonic_ns();
	volume_reopen(&v);
	printf("# open of a 512 GiB volume with %llu leaves: %.1f ms\n",
	    (unsigned long long)(frames / 254 + 1), (double)(monotonic_ns() - start) / 1e6);
	device_counters(v.device, &after);
	ck_assert_uint_lt(after.reads - before.reads, 200);
	ck_assert_uint_eq(volume_counters(&v).used_blocks,
	    (frames / 254 + 1) * 100 + frames / 254 + 1 + 17 + 1);
	volume_close(&v);
}
END_TEST

/* ThreadSanitizer leaves about 1 TiB of addresses to the device in memory. */
#ifdef SANITIZE_THREAD
#define LARGEST (MAP_ENTRIES_MAX / 32)
#else
#define LARGEST MAP_ENTRIES_MAX
#endif

START_TEST(largest_volume_can_be_made_and_opened)
{
	struct space_run run;
	struct volume v;
	uint64_t frame = LARGEST - 1;

	volume_open(&v, LARGEST);
	ck_ok(space_use(v.space, frame * FRAME_BLOCKS, FRAME_BLOCKS));
	ck_assert_int_eq(space_use(v.space, (frame + 1) * FRAME_BLOCKS, 1), -EUCLEAN);
	volume_checkpoint(&v);
	volume_reopen(&v);
	ck_assert(space_is_used(v.space, frame * FRAME_BLOCKS, FRAME_BLOCKS));
	run = volume_alloc(&v, 1);
	ck_assert_uint_lt(run.block, 100 * FRAME_BLOCKS);
	volume_close(&v);
}
END_TEST

void add_map_tests(TCase *t)
{
	tcase_set_timeout(t, 60);
	tcase_add_test(t, checkpoint_saves_the_bits_of_its_own_pages);
	tcase_add_test(t, empty_leaves_take_no_block);
	tcase_add_test(t, emptied_leaf_that_becomes_home_of_a_page_is_saved);
	tcase_add_test(t, home_without_pages_is_a_free_frame_again);
	tcase_add_test(t, pages_of_the_last_checkpoint_are_not_overwritten_by_the_next);
	tcase_add_test(t, large_volume_opens_with_few_reads_and_little_memory);
	tcase_add_test(t, largest_volume_can_be_made_and_opened);
}
