/* Who may take the last frames, promises, trim, and threads. */
#include "config.h"

#include "tests/unit/space_volume.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

START_TEST(data_leaves_frames_for_the_tree)
{
	struct space_counters c;
	uint64_t frame, frames = 0;
	struct volume v;

	volume_open(&v, 64);
	c = volume_counters(&v);
	ck_assert_uint_eq(volume_fill(&v), c.data_available_blocks + FRAME_BLOCKS); /* the slack */
	c = volume_counters(&v);
	ck_assert_uint_eq(c.data_available_blocks, 0);
	ck_assert_uint_eq(c.free_frames, 5);
	ck_assert_int_eq(space_alloc_frame(v.space, SPACE_DATA, &frame), -ENOSPC);
	while (space_alloc_frame(v.space, SPACE_TREE, &frame) == 0)
		frames++;
	ck_assert_uint_eq(frames, 5);
	/* And then the maps can still be saved. */
	volume_checkpoint(&v);
	volume_close(&v);
}
END_TEST

START_TEST(full_volume_checkpoints_for_ever)
{
	struct volume v;

	volume_open(&v, 32);
	for (int i = 0; i < 200; i++) {
		struct space_run run = {};

		volume_fill(&v);
		volume_checkpoint(&v);
		run.block = FIRST_BLOCK + 2 * FRAME_BLOCKS;
		ck_ok(space_free(v.space, run.block, FRAME_BLOCKS));
		volume_checkpoint(&v);
		ck_assert_uint_eq(volume_counters(&v).resting_blocks, 0);
	}
	volume_reopen(&v);
	volume_close(&v);
}
END_TEST

START_TEST(full_volume_is_filled_to_the_last_data_block_after_frees)
{
	uint64_t freed = 0;
	struct volume v;

	volume_open(&v, 48);
	volume_fill(&v);
	for (uint64_t block = FIRST_BLOCK + 2 * FRAME_BLOCKS;
	     block < 30 * FRAME_BLOCKS; block += 7) {
		ck_ok(space_free(v.space, block, 3));
		freed += 3;
	}
	ck_assert_uint_eq(volume_fill(&v), 0);
	volume_checkpoint(&v);
	ck_assert_uint_eq(volume_fill(&v), freed);
	volume_close(&v);
}
END_TEST

START_TEST(full_volume_can_save_every_page_of_its_maps)
{
	struct space_counters c;
	uint64_t frame, groups = 140;
	struct volume v;

	volume_open(&v, 254 * groups);
	volume_fill(&v);
	while (space_alloc_frame(v.space, SPACE_TREE, &frame) == 0)
		ck_ok(space_use(v.space, frame * FRAME_BLOCKS, FRAME_BLOCKS));
	volume_checkpoint(&v);
	for (int round = 0; round < 3; round++) {
		for (uint64_t group = 0; group < groups; group++)
			ck_ok(space_free(v.space,
			    (group * 254 + 200) * FRAME_BLOCKS +
				(uint64_t)round,
			    1));
		volume_checkpoint(&v);
	}
	/* And a frame low down is found again. */
	ck_ok(space_free(v.space, 100 * FRAME_BLOCKS, 5 * FRAME_BLOCKS));
	volume_checkpoint(&v);
	c = volume_counters(&v);
	ck_assert_uint_ge(c.free_frames, 1);
	ck_ok(space_alloc_frame(v.space, SPACE_TREE, &frame));
	ck_assert_uint_eq(frame, 100);
	volume_reopen(&v);
	volume_close(&v);
}
END_TEST

START_TEST(frame_that_is_wholly_free_again_counts_among_those_kept)
{
	uint64_t frame, elsewhere = 60 * FRAME_BLOCKS;
	struct space_run open, run;
	struct volume v;

	volume_open(&v, 64);
	ck_ok(space_use(v.space, elsewhere, 100));
	open = volume_alloc(&v, 10);
	while (volume_counters(&v).free_frames > 5)
		ck_ok(space_alloc_frame(v.space, SPACE_TREE, &frame));
	ck_ok(space_reserve(v.space, SPACE_TREE, FRAME_BLOCKS));
	space_cancel(v.space, open.block, open.count);
	run = volume_alloc(&v, 10);
	ck_assert_uint_eq(run.block, elsewhere + 100);
	volume_close(&v);
}
END_TEST

/* All blocks promised to data, in pieces; answers how many there were. */
static uint64_t redeem_all(struct volume *v, uint64_t promised, uint32_t piece)
{
	struct space_run run;
	uint64_t got = 0;

	while (got < promised) {
		uint64_t want = min_of(promised - got, (uint64_t)piece);

		ck_ok(space_redeem_blocks(v->space, (uint32_t)want, &run));
		ck_assert_uint_ge(run.count, 1);
		ck_assert_uint_le(run.count, want);
		got += run.count;
	}
	return got;
}

START_TEST(promised_blocks_are_there)
{
	struct space_counters c;
	struct space_run run;
	struct volume v;
	uint64_t frame;

	volume_open(&v, 64);
	ck_ok(space_reserve(v.space, SPACE_DATA, 1000));
	ck_ok(space_reserve(v.space, SPACE_TREE, 10 * FRAME_BLOCKS));
	c = volume_counters(&v);
	ck_assert_uint_eq(c.reserved_blocks, 1000 + 10 * FRAME_BLOCKS);
	volume_fill(&v);
	ck_assert_int_eq(space_reserve(v.space, SPACE_DATA, 1), -ENOSPC);
	for (int i = 0; i < 10; i++) {
		space_unreserve(v.space, SPACE_TREE, FRAME_BLOCKS);
		ck_ok(space_alloc_frame(v.space, SPACE_TREE, &frame));
	}
	ck_assert_uint_eq(redeem_all(&v, 1000, 50), 1000);
	ck_assert_int_eq(space_alloc_blocks(v.space, SPACE_DATA, 1, &run), -ENOSPC);
	ck_assert_uint_eq(volume_counters(&v).reserved_blocks, 0);
	volume_close(&v);
}
END_TEST

/* The tree gets what is kept for it, to the last frame but one, and data its promise
 * all the same; and the maps can be saved. */
START_TEST(tree_may_be_promised_what_is_kept_for_it)
{
	struct volume v;
	uint64_t frame;
	int promised = 0;

	volume_open(&v, 64);
	ck_ok(space_reserve(v.space, SPACE_DATA, 1000));
	volume_fill(&v);
	while (space_reserve(v.space, SPACE_TREE, FRAME_BLOCKS) == 0)
		promised++;
	ck_assert_int_eq(promised, 4);
	ck_assert_uint_eq(redeem_all(&v, 700, FRAME_BLOCKS), 700);
	for (; promised > 0; promised--) {
		space_unreserve(v.space, SPACE_TREE, FRAME_BLOCKS);
		ck_ok(space_alloc_frame(v.space, SPACE_TREE, &frame));
	}
	ck_assert_uint_eq(redeem_all(&v, 300, 7), 300);
	volume_checkpoint(&v);
	volume_close(&v);
}
END_TEST

START_TEST(redeeming_breaks_into_frames_of_the_tree_last)
{
	uint64_t frame, elsewhere = 60 * FRAME_BLOCKS;
	struct volume v;

	volume_open(&v, 64);
	ck_ok(space_use(v.space, elsewhere, 100));
	ck_ok(space_reserve(v.space, SPACE_DATA, 28));
	while (volume_counters(&v).free_frames > 5)
		ck_ok(space_alloc_frame(v.space, SPACE_TREE, &frame));
	ck_assert_uint_eq(redeem_all(&v, 28, 5), 28);
	ck_assert_uint_eq(volume_counters(&v).free_frames, 5);
	ck_assert(!volume_may_be_allocated(&v, elsewhere + 127));
	volume_close(&v);
}
END_TEST

START_TEST(as_much_is_promised_as_there_is)
{
	struct space_counters c;
	struct volume v;
	uint64_t data, tree;

	volume_open(&v, 64);
	ck_assert_uint_eq(space_reserve_most(v.space, SPACE_DATA, 77), 77);
	c = volume_counters(&v);
	data = space_reserve_most(v.space, SPACE_DATA, UINT32_MAX);
	ck_assert_uint_eq(data, c.data_available_blocks);
	ck_assert_uint_eq(space_reserve_most(v.space, SPACE_DATA, 1), 0);
	tree = space_reserve_most(v.space, SPACE_TREE, UINT32_MAX);
	ck_assert_uint_ge(tree, 4 * FRAME_BLOCKS);
	ck_assert_uint_eq(space_reserve_most(v.space, SPACE_TREE, FRAME_BLOCKS), 0);
	ck_assert_uint_eq(volume_counters(&v).reserved_blocks, 77 + data + tree);
	ck_assert_uint_eq(redeem_all(&v, 77 + data, FRAME_BLOCKS), 77 + data);
	volume_close(&v);
}
END_TEST

START_TEST(promise_made_between_unreserve_and_allocation_takes_nothing_from_it)
{
	struct volume v;
	uint64_t frame;
	uint64_t promised = 0;

	volume_open(&v, 64);
	volume_fill(&v);
	while (space_reserve(v.space, SPACE_TREE, FRAME_BLOCKS) == 0)
		promised++;
	ck_assert_uint_ge(promised, 4);
	for (; promised > 0; promised--) {
		space_unreserve(v.space, SPACE_TREE, FRAME_BLOCKS);
		/* Somebody else is quicker. */
		if (space_reserve(v.space, SPACE_TREE, FRAME_BLOCKS) == 0)
			promised++;
		ck_ok(space_alloc_frame(v.space, SPACE_TREE, &frame));
	}
	volume_close(&v);
}
END_TEST

START_TEST(absurd_promises_are_refused)
{
	struct volume v;

	volume_open(&v, 64);
	ck_assert_int_eq(space_reserve(v.space, SPACE_DATA, UINT64_MAX), -ENOSPC);
	ck_assert_int_eq(space_reserve(v.space, SPACE_TREE, UINT64_MAX), -ENOSPC);
	ck_assert_int_eq(space_reserve(v.space, SPACE_DATA, UINT64_MAX - 5000), -ENOSPC);
	ck_ok(space_reserve(v.space, SPACE_DATA, 0));
	volume_close(&v);
}
END_TEST

/* ---- trim, threads ------------------------------------------------------------------------ */

START_TEST(trim_gives_back_free_frames_and_only_those)
{
	struct space_counters before, after;
	struct space_run run;
	struct volume v;
	uint64_t bytes;
	char *data = aligned_alloc(DEVICE_ALIGN, BLOCK_BYTES);

	volume_open(&v, 200);
	run = volume_used_run(&v, 1);
	memset(data, 0x5a, BLOCK_BYTES);
	ck_ok(device_write(v.device, data, BLOCK_BYTES, run.block * BLOCK_BYTES));
	volume_checkpoint(&v);
	before = volume_counters(&v);
	ck_ok(space_trim(v.space, &bytes));
	ck_assert_uint_ge(bytes, (before.free_frames - 8) * FRAME_BYTES);
	ck_assert_uint_le(bytes, before.free_frames * FRAME_BYTES);
	after = volume_counters(&v);
	ck_assert_int_eq(memcmp(&before, &after, sizeof(before)), 0);
	memset(data, 0, BLOCK_BYTES);
	ck_ok(device_read(v.device, data, BLOCK_BYTES, run.block * BLOCK_BYTES));
	ck_assert_int_eq(data[77], 0x5a);
	volume_reopen(&v);
	free(data);
	volume_close(&v);
}
END_TEST

struct worker {
	struct volume *v;
	pthread_t thread;
	uint64_t seed;
};

static void *work(void *ctx)
{
	struct worker *w = ctx;
	struct space_run run;

	for (int i = 0; i < 3000; i++) {
		uint32_t want = 1 + (uint32_t)support_random_below(&w->seed, FRAME_BLOCKS);

		if (space_reserve(w->v->space, SPACE_DATA, want))
			continue;
		if (i % 2) {
			ck_ok(space_redeem_blocks(w->v->space, want, &run));
			space_unreserve(w->v->space, SPACE_DATA, want - run.count);
		} else {
			space_unreserve(w->v->space, SPACE_DATA, want);
			if (space_alloc_blocks(w->v->space, SPACE_DATA, want, &run))
				continue;
		}
		if (support_random_below(&w->seed, 2)) {
			space_cancel(w->v->space, run.block, run.count);
		} else {
			ck_ok(space_use(w->v->space, run.block, run.count));
			ck_ok(space_free(w->v->space, run.block, run.count));
		}
	}
	return NULL;
}

START_TEST(threads_change_blocks_while_checkpoints_are_written)
{
	struct worker workers[3];
	uint64_t used;
	struct volume v;

	volume_open(&v, 254 * 3);
	used = volume_counters(&v).used_blocks;
	for (unsigned i = 0; i < ARRAY_COUNT(workers); i++) {
		workers[i] = (struct worker){.v = &v, .seed = i + 1};
		ck_ok(pthread_create(&workers[i].thread, NULL, work, &workers[i]));
	}
	for (int i = 0; i < 50; i++)
		volume_checkpoint(&v);
	for (unsigned i = 0; i < ARRAY_COUNT(workers); i++)
		ck_ok(pthread_join(workers[i].thread, NULL));
	volume_checkpoint(&v);
	volume_checkpoint(&v);
	ck_assert_uint_eq(volume_counters(&v).used_blocks, used);
	ck_assert_uint_eq(volume_counters(&v).allocated_blocks, 0);
	ck_assert_uint_eq(volume_counters(&v).resting_blocks, 0);
	volume_reopen(&v);
	ck_assert_uint_eq(volume_counters(&v).used_blocks, used);
	volume_close(&v);
}
END_TEST

void add_allocation_tests(TCase *t)
{
	tcase_add_test(t, data_leaves_frames_for_the_tree);
	tcase_add_test(t, full_volume_checkpoints_for_ever);
	tcase_add_test(t, full_volume_is_filled_to_the_last_data_block_after_frees);
	tcase_add_test(t, full_volume_can_save_every_page_of_its_maps);
	tcase_add_test(t, frame_that_is_wholly_free_again_counts_among_those_kept);
	tcase_add_test(t, promised_blocks_are_there);
	tcase_add_test(t, tree_may_be_promised_what_is_kept_for_it);
	tcase_add_test(t, redeeming_breaks_into_frames_of_the_tree_last);
	tcase_add_test(t, as_much_is_promised_as_there_is);
	tcase_add_test(t, promise_made_between_unreserve_and_allocation_takes_nothing_from_it);
	tcase_add_test(t, absurd_promises_are_refused);
	tcase_add_test(t, trim_gives_back_free_frames_and_only_those);
	tcase_add_test(t, threads_change_blocks_while_checkpoints_are_written);
}
