/*
 * core/space against a plain model: a byte of state per block, a table of frame
 * places, and a copy of both for every freeze.  A crash is a reopen from the last
 * superblock that was durable; what comes back must be the state at its freeze.
 *
 * The rest are facts about single rules: who waits for which checkpoint, who may
 * take the last frames, what damage is noticed.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/lock.h"
#include "base/log.h"
#include "device/device.h"
#include "device/device_test.h"
#include "space/space.h"
#include "tests/support/support.h"

#define JOURNAL_FRAMES 2u
#define FIRST_FRAME (1u + JOURNAL_FRAMES)
#define FIRST_BLOCK (FIRST_FRAME * FRAME_BLOCKS)

/* ---- a volume ------------------------------------------------------------ */

struct volume {
	struct device *device;
	struct superblock superblock; /* the last durable one */
	struct superblock next;
	struct space *space;
	uint64_t frames;
};

static void reopen(struct volume *v)
{
	struct space_options options = {.device = v->device, .superblock = &v->superblock};

	space_close(v->space);
	v->space = NULL;
	ck_ok(space_open(&options, &v->space));
}

static int try_open(struct volume *v)
{
	struct space_options options = {.device = v->device, .superblock = &v->superblock};
	struct space *space = NULL;
	int err = space_open(&options, &space);

	space_close(space);
	return err;
}

static int write_maps(struct volume *v)
{
	uint64_t generation = from_le64(v->superblock.generation) + 1;

	v->next = v->superblock;
	v->next.generation = to_le64(generation);
	return space_write_maps(v->space, generation, &v->next);
}

static void thaw(struct volume *v, bool is_durable)
{
	if (is_durable)
		v->superblock = v->next;
	space_thaw(v->space, is_durable);
}

static void checkpoint(struct volume *v)
{
	space_freeze(v->space);
	ck_ok(write_maps(v));
	thaw(v, true);
}

static void volume_open_on(struct volume *v, struct device *device)
{
	struct space_options options;

	*v = (struct volume){.device = device, .frames = device_bytes(device) / FRAME_BYTES};
	memset(v->superblock.uuid, 7, UUID_BYTES);
	v->superblock.frame_count = to_le64(v->frames);
	v->superblock.journal_first_frame = to_le64(1);
	v->superblock.journal_frames = to_le64(JOURNAL_FRAMES);
	options = (struct space_options){
	    .device = v->device,
	    .superblock = &v->superblock,
	    .is_new = true,
	};
	ck_ok(space_open(&options, &v->space));
	checkpoint(v);
}

static void volume_open(struct volume *v, uint64_t frames)
{
	struct device *device;

	ck_ok(device_open_memory(frames * FRAME_BYTES, &device));
	volume_open_on(v, device);
}

static void volume_close(struct volume *v)
{
	space_close(v->space);
	device_close(v->device);
}

static struct space_counters counters(struct volume *v)
{
	struct space_counters c;

	space_counters(v->space, &c);
	ck_assert_uint_eq(c.total_blocks,
	    c.used_blocks + c.allocated_blocks + c.resting_blocks + c.free_blocks);
	return c;
}

static struct space_run alloc(struct volume *v, uint32_t want)
{
	struct space_run run;

	ck_ok(space_alloc_blocks(v->space, SPACE_DATA, want, &run));
	ck_assert_uint_ge(run.count, 1);
	ck_assert_uint_le(run.count, want);
	ck_assert_uint_eq(run.block / FRAME_BLOCKS, (run.block + run.count - 1) / FRAME_BLOCKS);
	return run;
}

/* A run in use, as of the last checkpoint. */
static struct space_run used_run(struct volume *v, uint32_t want)
{
	struct space_run run = alloc(v, want);

	ck_ok(space_use(v->space, run.block, run.count));
	return run;
}

/* Takes everything that data may have; how many blocks that was. */
static uint64_t fill(struct volume *v)
{
	struct space_run run;
	uint64_t blocks = 0;

	while (space_alloc_blocks(v->space, SPACE_DATA, FRAME_BLOCKS, &run) == 0) {
		ck_ok(space_use(v->space, run.block, run.count));
		blocks += run.count;
	}
	return blocks;
}

/* Would the allocator give this block away?  Takes all there is for anybody. */
static bool may_be_allocated(struct volume *v, uint64_t block)
{
	struct space_run run, *runs = calloc(v->frames * FRAME_BLOCKS, sizeof(*runs));
	uint64_t count = 0;
	bool is_given = false;

	for (enum space_user user = SPACE_DATA; user <= SPACE_TREE; user++) {
		while (space_alloc_blocks(v->space, user, FRAME_BLOCKS, &run) == 0) {
			is_given |= block >= run.block && block < run.block + run.count;
			runs[count++] = run;
		}
	}
	while (count > 0) {
		count--;
		space_cancel(v->space, runs[count].block, runs[count].count);
	}
	free(runs);
	return is_given;
}

/* ---- states and resting ----------------------------------------------------- */

START_TEST(new_volume_is_free_but_for_superblock_and_journal)
{
	struct space_counters c;
	struct volume v;

	volume_open(&v, 40);
	c = counters(&v);
	ck_assert_uint_eq(c.total_blocks, (40 - FIRST_FRAME) * FRAME_BLOCKS);
	ck_assert_uint_eq(c.allocated_blocks, 0);
	ck_assert_uint_eq(c.resting_blocks, 0);
	ck_assert_uint_eq(c.used_blocks, 3); /* the space map's own pages */
	ck_assert_uint_eq(c.free_frames, 40 - FIRST_FRAME - 1);
	ck_assert(space_is_used(v.space, FIRST_BLOCK, 3));
	ck_assert(!space_is_used(v.space, FIRST_BLOCK, 4));
	reopen(&v);
	ck_assert_uint_eq(counters(&v).used_blocks, 3);
	volume_close(&v);
}
END_TEST

START_TEST(whole_frames_come_first_and_small_runs_pack)
{
	struct space_run a, b, c;
	struct volume v;

	volume_open(&v, 40);
	a = alloc(&v, 10);
	b = alloc(&v, 20);
	ck_assert_uint_eq(a.block % FRAME_BLOCKS, 0);
	ck_assert_uint_eq(a.count, 10);
	ck_assert_uint_eq(b.block, a.block + 10);
	ck_assert_uint_eq(b.count, 20);
	c = alloc(&v, FRAME_BLOCKS);
	ck_assert_uint_eq(c.count, FRAME_BLOCKS);
	ck_assert_uint_eq(c.block % FRAME_BLOCKS, 0);
	a = alloc(&v, 1);
	ck_assert_uint_eq(a.block, b.block + 20);
	a = alloc(&v, 127);
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
	before = counters(&v);
	run = alloc(&v, 100);
	ck_assert_uint_eq(counters(&v).allocated_blocks, 100);
	space_cancel(v.space, run.block, run.count);
	after = counters(&v);
	ck_assert_int_eq(memcmp(&before, &after, sizeof(before)), 0);
	ck_assert(may_be_allocated(&v, run.block));
	volume_close(&v);
}
END_TEST

START_TEST(freed_block_rests_until_a_checkpoint_begun_later_is_durable)
{
	struct space_run run;
	struct volume v;

	volume_open(&v, 20);
	run = used_run(&v, 8);
	checkpoint(&v);

	/* Freed while a checkpoint is under way: not this one's. */
	space_freeze(v.space);
	ck_ok(space_free(v.space, run.block, run.count));
	ck_assert(!may_be_allocated(&v, run.block));
	ck_ok(write_maps(&v));
	thaw(&v, true);
	ck_assert_uint_eq(counters(&v).resting_blocks, 8);
	ck_assert(!may_be_allocated(&v, run.block));

	space_freeze(v.space);
	ck_assert(!may_be_allocated(&v, run.block));
	ck_ok(write_maps(&v));
	ck_assert(!may_be_allocated(&v, run.block));
	thaw(&v, true);
	ck_assert_uint_eq(counters(&v).resting_blocks, 0);
	ck_assert(may_be_allocated(&v, run.block));
	volume_close(&v);
}
END_TEST

START_TEST(failed_checkpoint_frees_nothing)
{
	struct space_run a, b;
	struct volume v;
	uint64_t frame;

	volume_open(&v, 40);
	a = used_run(&v, 8);
	b = used_run(&v, 8);
	ck_ok(space_alloc_frame(v.space, SPACE_TREE, &frame));
	space_freeze(v.space);
	ck_ok(space_frozen_use(v.space, frame * FRAME_BLOCKS, FRAME_BLOCKS));
	manifest_set(v.space, 5, &(struct manifest_place){frame, 1, 2});
	ck_ok(write_maps(&v));
	thaw(&v, true);

	ck_ok(space_free(v.space, a.block, a.count));
	space_freeze(v.space);
	ck_ok(space_free(v.space, b.block, b.count));
	ck_ok(space_frozen_free(v.space, frame * FRAME_BLOCKS, FRAME_BLOCKS));
	manifest_set(v.space, 5, &(struct manifest_place){});
	ck_ok(write_maps(&v));
	thaw(&v, false);
	ck_assert(!may_be_allocated(&v, a.block));
	ck_assert(!may_be_allocated(&v, b.block));
	ck_assert(!may_be_allocated(&v, frame * FRAME_BLOCKS));
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
	ck_ok(write_maps(&v));
	thaw(&v, true);
	space_freeze(v.space);
	manifest_set(v.space, 300, &(struct manifest_place){20, 21, 22});
	manifest_set(v.space, 300, &(struct manifest_place){});
	manifest_set(v.space, 7, &(struct manifest_place){20, 21, 22});
	manifest_get(v.space, 7, &got);
	ck_assert_uint_eq(got.disk_frame, 20);
	ck_ok(write_maps(&v));
	thaw(&v, false);
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
	before = used_run(&v, 5);
	freed = used_run(&v, 5);
	ck_ok(space_alloc_frame(v.space, SPACE_TREE, &frame));
	space_freeze(v.space);
	after = used_run(&v, 5);
	ck_ok(space_free(v.space, freed.block, freed.count));
	ck_ok(space_frozen_use(v.space, frame * FRAME_BLOCKS, FRAME_BLOCKS));
	ck_ok(write_maps(&v));
	thaw(&v, true);
	ck_assert(space_is_used(v.space, after.block, after.count));
	reopen(&v);
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
	freed = used_run(&v, 5);
	space_freeze(v.space);
	after = used_run(&v, 5);
	ck_ok(space_free(v.space, freed.block, freed.count));
	ck_ok(write_maps(&v));
	thaw(&v, true);
	checkpoint(&v);
	reopen(&v);
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
	checkpoint(&v);
	device_counters(v.device, &after);
	ck_assert_uint_eq(before.write_bytes, after.write_bytes);
	used_run(&v, 1);
	device_counters(v.device, &before);
	checkpoint(&v);
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
	run = used_run(&v, 8);
	before = counters(&v);
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
	after = counters(&v);
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
	run = used_run(&v, 8);
	space_guard(v.space, block, 300);
	space_guard(v.space, block, 10);
	space_guard(v.space, run.block, run.count);
	ck_assert_uint_eq(counters(&v).allocated_blocks, 300);
	ck_assert(!may_be_allocated(&v, block));
	ck_assert(!may_be_allocated(&v, block + 299));
	ck_ok(space_use(v.space, block, 10));
	ck_ok(space_use(v.space, block + 290, 20)); /* ten of them are free */
	space_guard_end(v.space);
	ck_assert_uint_eq(counters(&v).allocated_blocks, 0);
	ck_assert(space_is_used(v.space, block, 10));
	ck_assert(space_is_used(v.space, block + 290, 20));
	ck_assert(space_is_used(v.space, run.block, run.count));
	ck_assert(may_be_allocated(&v, block + 10));
	ck_ok(space_free(v.space, block, 10));
	volume_close(&v);
}
END_TEST

/* ---- the last frames ------------------------------------------------------------ */

START_TEST(data_leaves_frames_for_the_tree)
{
	struct space_counters c;
	uint64_t frame, frames = 0;
	struct volume v;

	volume_open(&v, 64);
	c = counters(&v);
	ck_assert_uint_eq(fill(&v), c.data_available_blocks + FRAME_BLOCKS); /* the slack */
	c = counters(&v);
	ck_assert_uint_eq(c.data_available_blocks, 0);
	ck_assert_uint_eq(c.free_frames, 5);
	ck_assert_int_eq(space_alloc_frame(v.space, SPACE_DATA, &frame), -ENOSPC);
	while (space_alloc_frame(v.space, SPACE_TREE, &frame) == 0)
		frames++;
	ck_assert_uint_eq(frames, 5);
	/* And then the maps can still be saved. */
	checkpoint(&v);
	volume_close(&v);
}
END_TEST

START_TEST(full_volume_checkpoints_for_ever)
{
	struct volume v;

	volume_open(&v, 32);
	for (int i = 0; i < 200; i++) {
		struct space_run run = {};

		fill(&v);
		checkpoint(&v);
		run.block = FIRST_BLOCK + 2 * FRAME_BLOCKS;
		ck_ok(space_free(v.space, run.block, FRAME_BLOCKS));
		checkpoint(&v);
		ck_assert_uint_eq(counters(&v).resting_blocks, 0);
	}
	reopen(&v);
	volume_close(&v);
}
END_TEST

START_TEST(full_volume_is_filled_to_the_last_data_block_after_frees)
{
	uint64_t freed = 0;
	struct volume v;

	volume_open(&v, 48);
	fill(&v);
	for (uint64_t block = FIRST_BLOCK + 2 * FRAME_BLOCKS; block < 30 * FRAME_BLOCKS; block += 7) {
		ck_ok(space_free(v.space, block, 3));
		freed += 3;
	}
	ck_assert_uint_eq(fill(&v), 0);
	checkpoint(&v);
	ck_assert_uint_eq(fill(&v), freed);
	volume_close(&v);
}
END_TEST

START_TEST(promised_blocks_are_there)
{
	struct space_counters c;
	struct space_run run;
	struct volume v;
	uint64_t frame;

	volume_open(&v, 64);
	ck_ok(space_reserve(v.space, SPACE_DATA, 1000));
	ck_ok(space_reserve(v.space, SPACE_TREE, 10 * FRAME_BLOCKS));
	c = counters(&v);
	ck_assert_uint_eq(c.reserved_blocks, 1000 + 10 * FRAME_BLOCKS);
	fill(&v);
	ck_assert_int_eq(space_reserve(v.space, SPACE_DATA, 1), -ENOSPC);
	ck_assert_int_eq(space_reserve(v.space, SPACE_TREE, FRAME_BLOCKS), -ENOSPC);
	for (int i = 0; i < 10; i++) {
		space_unreserve(v.space, SPACE_TREE, FRAME_BLOCKS);
		ck_ok(space_alloc_frame(v.space, SPACE_TREE, &frame));
	}
	for (uint64_t left = 1000; left > 0; left -= run.count) {
		run = (struct space_run){.count = (uint32_t)min_of(left, (uint64_t)50)};
		space_unreserve(v.space, SPACE_DATA, run.count);
		for (uint32_t got = run.count; got > 0;)
			got -= alloc(&v, got).count;
	}
	ck_assert_int_eq(space_alloc_blocks(v.space, SPACE_DATA, 1, &run), -ENOSPC);
	ck_assert_uint_eq(counters(&v).reserved_blocks, 0);
	volume_close(&v);
}
END_TEST

START_TEST(promise_made_between_unreserve_and_allocation_takes_nothing_from_it)
{
	struct volume v;
	uint64_t frame;
	uint64_t promised = 0;

	volume_open(&v, 64);
	fill(&v);
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

/* ---- model ---------------------------------------------------------------------- */

enum model_state { FREE, ALLOCATED, USED, RESTING_YOUNG, RESTING_OLD };

#define MODEL_IDS 3000u

struct model {
	struct volume v;
	uint64_t blocks;
	uint8_t *state;	  /* enum model_state */
	uint8_t *image;	  /* 1: in use, of the checkpoint under way */
	uint8_t *durable; /* of the last one */
	struct manifest_place places[MODEL_IDS], old_places[MODEL_IDS];
	bool is_frozen;
	uint64_t seed;
};

/* Map pages are the module's own affair: the model asks which they are. */
static int mark_map_block(void *ctx, uint64_t block)
{
	uint8_t *is_map = ctx;

	if (is_map[block])
		ck_abort_msg("block %llu holds two pages", (unsigned long long)block);
	is_map[block] = 1;
	return 0;
}

static uint8_t *map_blocks(struct model *m)
{
	uint8_t *is_map = calloc(m->blocks, 1);

	ck_ok(space_for_each_map_block(m->v.space, mark_map_block, is_map));
	return is_map;
}

static void model_open(struct model *m, uint64_t frames, uint64_t seed)
{
	*m = (struct model){.blocks = frames * FRAME_BLOCKS, .seed = seed};
	volume_open(&m->v, frames);
	m->state = calloc(m->blocks, 1);
	m->image = calloc(m->blocks, 1);
	m->durable = calloc(m->blocks, 1);
}

static void model_close(struct model *m)
{
	volume_close(&m->v);
	free(m->state);
	free(m->image);
	free(m->durable);
}

static uint64_t below(struct model *m, uint64_t end)
{
	return support_random_below(&m->seed, end);
}

static void set_run(uint8_t *table, const struct space_run *run, uint8_t value)
{
	memset(&table[run->block], value, run->count);
}

/* A run of blocks in one state around a random place; count 0: none found. */
static struct space_run find_run(struct model *m, uint8_t state, uint32_t most)
{
	struct space_run run = {.block = FIRST_BLOCK + below(m, m->blocks - FIRST_BLOCK)};

	for (int tries = 0; tries < 2000 && m->state[run.block] != state; tries++)
		run.block = run.block + 1 < m->blocks ? run.block + 1 : FIRST_BLOCK;
	while (run.count < most && run.block + run.count < m->blocks &&
	       m->state[run.block + run.count] == state)
		run.count++;
	return run;
}

static void model_alloc(struct model *m)
{
	enum space_user user = below(m, 8) ? SPACE_DATA : SPACE_TREE;
	uint32_t want = below(m, 4) ? 1 + (uint32_t)below(m, 40) : FRAME_BLOCKS;
	struct space_run run;
	int err = space_alloc_blocks(m->v.space, user, want, &run);

	if (err == -ENOSPC)
		return;
	ck_ok(err);
	ck_assert_uint_le(run.count, want);
	for (uint32_t i = 0; i < run.count; i++) {
		if (m->state[run.block + i] != FREE)
			ck_abort_msg("block %llu was given away", (unsigned long long)run.block + i);
	}
	set_run(m->state, &run, ALLOCATED);
}

static void model_use(struct model *m)
{
	struct space_run run = find_run(m, below(m, 10) ? ALLOCATED : FREE, 1 + (uint32_t)below(m, 200));
	uint8_t *is_map;

	if (run.count == 0)
		return;
	/* A block the model takes for free may hold a map page. */
	is_map = map_blocks(m);
	if (m->state[run.block] == FREE || memchr(&is_map[run.block], 1, run.count)) {
		int err = space_use(m->v.space, run.block, run.count);

		if (err == 0)
			set_run(m->state, &run, USED);
		else
			ck_assert_int_eq(err, -EUCLEAN);
	} else {
		ck_ok(space_use(m->v.space, run.block, run.count));
		set_run(m->state, &run, USED);
	}
	free(is_map);
}

static void model_cancel(struct model *m)
{
	struct space_run run = find_run(m, ALLOCATED, 1 + (uint32_t)below(m, 200));

	if (run.count == 0)
		return;
	space_cancel(m->v.space, run.block, run.count);
	set_run(m->state, &run, FREE);
}

static void model_free(struct model *m)
{
	struct space_run run = find_run(m, USED, 1 + (uint32_t)below(m, 300));

	if (run.count == 0)
		return;
	ck_ok(space_free(m->v.space, run.block, run.count));
	set_run(m->state, &run, RESTING_YOUNG);
}

static void model_freeze(struct model *m)
{
	space_freeze(m->v.space);
	m->is_frozen = true;
	memcpy(m->old_places, m->places, sizeof(m->places));
	for (uint64_t b = 0; b < m->blocks; b++) {
		m->image[b] = m->state[b] == USED;
		if (m->state[b] == RESTING_YOUNG)
			m->state[b] = RESTING_OLD;
	}
}

/* Moves a tree frame to a new place, or drops it. */
static void model_move_frame(struct model *m)
{
	uint64_t id = below(m, MODEL_IDS), frame;
	struct manifest_place *place = &m->places[id];
	struct space_run run = {place->disk_frame * FRAME_BLOCKS, FRAME_BLOCKS};

	if (place->disk_frame) {
		ck_ok(space_frozen_free(m->v.space, run.block, run.count));
		set_run(m->state, &run, RESTING_OLD);
		set_run(m->image, &run, 0);
		*place = (struct manifest_place){};
	}
	if (below(m, 3) && space_alloc_frame(m->v.space, SPACE_TREE, &frame) == 0) {
		run.block = frame * FRAME_BLOCKS;
		ck_ok(space_frozen_use(m->v.space, run.block, run.count));
		/* Tree frames are not for model_free(). */
		set_run(m->state, &run, UINT8_MAX);
		set_run(m->image, &run, 1);
		*place = (struct manifest_place){frame, (uint32_t)below(m, 1u << 30), 1 + (uint32_t)below(m, 128)};
	}
	manifest_set(m->v.space, id, place);
}

static void model_thaw(struct model *m)
{
	ck_ok(write_maps(&m->v));
	thaw(&m->v, true);
	m->is_frozen = false;
	memcpy(m->durable, m->image, m->blocks);
	for (uint64_t b = 0; b < m->blocks; b++) {
		if (m->state[b] == RESTING_OLD)
			m->state[b] = FREE;
	}
}

static int same_place(void *ctx, uint64_t frame_id, const struct manifest_place *place)
{
	struct model *m = ctx;

	ck_assert_uint_lt(frame_id, MODEL_IDS);
	ck_assert_int_eq(memcmp(&m->places[frame_id], place, sizeof(*place)), 0);
	return 0;
}

static int mark_used(void *ctx, uint64_t block, uint64_t count)
{
	memset((uint8_t *)ctx + block, 1, count);
	return 0;
}

static void check_same(struct model *m)
{
	uint8_t *is_map = map_blocks(m);
	uint8_t *is_used = calloc(m->blocks, 1);
	struct space_counters c = counters(&m->v);
	uint64_t used = 0, allocated = 0, resting = 0;

	ck_ok(space_for_each_used(m->v.space, mark_used, is_used));
	for (uint64_t b = 0; b < m->blocks; b++) {
		bool expected = m->state[b] == USED || m->state[b] == UINT8_MAX || is_map[b];

		/* Not an assertion each: Check makes a system call of it. */
		if (is_used[b] != expected || (is_map[b] && m->state[b] != FREE))
			ck_abort_msg("block %llu: used %d, map page %d, model %d",
			    (unsigned long long)b, is_used[b], is_map[b], m->state[b]);
		used += expected;
		allocated += m->state[b] == ALLOCATED;
		resting += m->state[b] == RESTING_YOUNG || m->state[b] == RESTING_OLD;
	}
	ck_assert_uint_eq(c.used_blocks, used);
	ck_assert_uint_eq(c.allocated_blocks, allocated);
	ck_assert_uint_eq(c.resting_blocks, resting);
	ck_ok(manifest_for_each(m->v.space, same_place, m));
	for (uint64_t id = 0; id < MODEL_IDS; id++) {
		struct manifest_place place;

		manifest_get(m->v.space, id, &place);
		if (memcmp(&place, &m->places[id], sizeof(place)) != 0)
			ck_abort_msg("frame id %llu", (unsigned long long)id);
	}
	free(is_map);
	free(is_used);
}

/* Power is lost: what comes back is the last durable checkpoint. */
static void model_crash(struct model *m)
{
	if (m->is_frozen) {
		if (below(m, 2)) {
			ck_ok(write_maps(&m->v));
			if (below(m, 2))
				thaw(&m->v, false);
		}
		memcpy(m->places, m->old_places, sizeof(m->places));
		m->is_frozen = false;
	}
	reopen(&m->v);
	for (uint64_t b = 0; b < m->blocks; b++)
		m->state[b] = m->durable[b] ? USED : FREE;
	for (uint64_t id = 0; id < MODEL_IDS; id++) {
		struct space_run run = {m->places[id].disk_frame * FRAME_BLOCKS, FRAME_BLOCKS};

		if (run.block)
			set_run(m->state, &run, UINT8_MAX);
	}
	check_same(m);
}

static void model_step(struct model *m)
{
	switch (below(m, 40)) {
	case 0 ... 13:
		model_alloc(m);
		break;
	case 14 ... 22:
		model_use(m);
		break;
	case 23 ... 25:
		model_cancel(m);
		break;
	case 26 ... 31:
		model_free(m);
		break;
	case 32 ... 35:
		if (m->is_frozen)
			model_move_frame(m);
		break;
	case 36 ... 37:
		if (m->is_frozen)
			model_thaw(m);
		else
			model_freeze(m);
		break;
	case 38:
		if (!m->is_frozen)
			check_same(m);
		break;
	default:
		if (below(m, 6) == 0)
			model_crash(m);
	}
}

static void run_model(uint64_t frames, uint64_t seed, int steps)
{
	struct model m;

	model_open(&m, frames, support_seed(seed));
	for (int i = 0; i < steps; i++)
		model_step(&m);
	model_close(&m);
}

START_TEST(random_changes_and_crashes_match_the_model_on_a_small_volume)
{
	run_model(32, 1, 40000);
}
END_TEST

START_TEST(random_changes_and_crashes_match_the_model_on_many_leaves)
{
	run_model(254 * 5 + 17, 2, 20000);
}
END_TEST

/* ---- fix point ----------------------------------------------------------------------- */

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
		checkpoint(&v);
		reopen(&v);
		ck_assert_uint_eq(counters(&v).resting_blocks, 0);
	}
	/* All pages still lie in few frames. */
	ck_assert_uint_ge(counters(&v).free_frames, frames - FIRST_FRAME - 40 - 2);
	volume_close(&v);
}
END_TEST

START_TEST(empty_leaves_take_no_block)
{
	uint64_t block = 254ull * 9 * FRAME_BLOCKS;
	struct space_counters before, after;
	struct volume v;

	volume_open(&v, 254 * 10);
	before = counters(&v);
	ck_ok(space_use(v.space, block, 1));
	checkpoint(&v);
	ck_assert_uint_eq(counters(&v).used_blocks, before.used_blocks + 2);
	ck_ok(space_free(v.space, block, 1));
	checkpoint(&v);
	after = counters(&v);
	ck_assert_int_eq(memcmp(&before, &after, sizeof(before)), 0);
	reopen(&v);
	after = counters(&v);
	ck_assert_int_eq(memcmp(&before, &after, sizeof(before)), 0);

	space_freeze(v.space);
	manifest_set(v.space, 254 * 254 + 3, &(struct manifest_place){9, 1, 1});
	ck_ok(write_maps(&v));
	thaw(&v, true);
	ck_assert_uint_eq(counters(&v).used_blocks, before.used_blocks + 3);
	space_freeze(v.space);
	manifest_set(v.space, 254 * 254 + 3, &(struct manifest_place){});
	ck_ok(write_maps(&v));
	thaw(&v, true);
	ck_assert_uint_eq(from_le64(v.superblock.manifest.block), 0);
	ck_assert_uint_eq(counters(&v).used_blocks, before.used_blocks);
	reopen(&v);
	volume_close(&v);
}
END_TEST

START_TEST(pages_of_the_last_checkpoint_are_not_overwritten_by_the_next)
{
	struct device *copy;
	struct volume v;

	volume_open(&v, 254 * 3);
	used_run(&v, 3);
	checkpoint(&v);
	for (int i = 0; i < 60; i++) {
		struct superblock old = v.superblock;
		struct volume past = v;

		used_run(&v, 1 + (uint32_t)i);
		space_freeze(v.space);
		ck_ok(write_maps(&v));
		/* Power is lost before the superblock. */
		ck_ok(device_open_copy(v.device, &copy));
		past.device = copy;
		past.superblock = old;
		ck_ok(try_open(&past));
		device_close(copy);
		thaw(&v, true);
	}
	volume_close(&v);
}
END_TEST

/* ---- damage --------------------------------------------------------------------------- */

static char last_line[1024];

static void keep_line(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	if (level == LOG_LEVEL_ERROR)
		snprintf(last_line, sizeof(last_line), "%s", line);
}

static void read_page(struct volume *v, uint64_t block, struct map_page *page)
{
	void *data = aligned_alloc(DEVICE_ALIGN, BLOCK_BYTES);

	ck_ok(device_read(v->device, data, BLOCK_BYTES, block * BLOCK_BYTES));
	memcpy(page, data, BLOCK_BYTES);
	free(data);
}

static void write_page(struct volume *v, uint64_t block, const struct map_page *page)
{
	void *data = aligned_alloc(DEVICE_ALIGN, BLOCK_BYTES);

	memcpy(data, page, BLOCK_BYTES);
	ck_ok(device_write(v->device, data, BLOCK_BYTES, block * BLOCK_BYTES));
	free(data);
}

/* A volume with two leaves in either map. */
static void open_for_damage(struct volume *v)
{
	volume_open(v, 254 * 4);
	ck_ok(space_use(v->space, 300 * FRAME_BLOCKS, 5));
	space_freeze(v->space);
	manifest_set(v->space, 1, &(struct manifest_place){9, 1, 1});
	manifest_set(v->space, 600, &(struct manifest_place){10, 1, 1});
	ck_ok(write_maps(v));
	thaw(v, true);
	log_set_sink(keep_line, NULL);
	ck_ok(try_open(v));
}

static void expect_damage(struct volume *v, const char *map, const char *page, uint64_t block)
{
	char number[32];

	last_line[0] = 0;
	ck_assert_int_eq(try_open(v), -EUCLEAN);
	snprintf(number, sizeof(number), "%llu", (unsigned long long)block);
	ck_assert_msg(strstr(last_line, map) && strstr(last_line, page) && strstr(last_line, number),
	    "%s (wanted %s, %s, %s)", last_line, map, page, number);
}

static uint64_t child(struct volume *v, uint64_t block, unsigned i)
{
	struct map_page page;

	read_page(v, block, &page);
	return from_le64(page.pointers[i].block);
}

START_TEST(damage_of_every_kind_of_page_is_found_and_named)
{
	const char *maps[2] = {"space map", "manifest"};
	struct volume v;

	open_for_damage(&v);
	for (int i = 0; i < 2; i++) {
		const struct map_root *root = i ? &v.superblock.manifest : &v.superblock.space;
		uint64_t blocks[3];

		blocks[2] = from_le64(root->block);
		blocks[1] = child(&v, blocks[2], 0);
		blocks[0] = child(&v, blocks[1], i ? 2 : 1);
		for (int level = 0; level < 3; level++) {
			const char *pages[2][3] = {
			    {"leaf page 1", "middle page 0", "root page 0"},
			    {"leaf page 2", "middle page 0", "root page 0"},
			};

			for (unsigned byte = 0; byte < BLOCK_BYTES; byte += 97) {
				uint64_t offset = blocks[level] * BLOCK_BYTES + byte;

				ck_ok(device_flip_bit(v.device, offset, byte % 8));
				expect_damage(&v, maps[i], pages[i][level], blocks[level]);
				ck_ok(device_flip_bit(v.device, offset, byte % 8));
			}
		}
	}
	ck_ok(try_open(&v));
	volume_close(&v);
}
END_TEST

START_TEST(old_and_foreign_pages_are_not_taken)
{
	struct map_page old_root, new_root, leaf;
	uint64_t old_block, new_block, middle;
	struct superblock good;
	struct volume v;

	open_for_damage(&v);
	good = v.superblock;
	old_block = from_le64(v.superblock.space.block);
	read_page(&v, old_block, &old_root);
	used_run(&v, 1);
	checkpoint(&v);
	new_block = from_le64(v.superblock.space.block);
	read_page(&v, new_block, &new_root);

	/* An older page of the same place, a page of another, another volume's. */
	write_page(&v, new_block, &old_root);
	expect_damage(&v, "space map", "root page 0", new_block);
	middle = from_le64(new_root.pointers[0].block);
	read_page(&v, child(&v, middle, 0), &leaf);
	write_page(&v, new_block, &leaf);
	expect_damage(&v, "space map", "root page 0", new_block);
	write_page(&v, new_block, &new_root);
	ck_ok(try_open(&v));
	v.superblock.uuid[3] ^= 1;
	expect_damage(&v, "space map", "root page 0", new_block);
	v.superblock.uuid[3] ^= 1;
	v.superblock.space = v.superblock.manifest;
	expect_damage(&v, "space map", "root page 0", from_le64(v.superblock.manifest.block));
	v.superblock.space = good.space;
	v.superblock.space.block = to_le64(new_block);
	expect_damage(&v, "space map", "root page 0", new_block);
	volume_close(&v);
}
END_TEST

START_TEST(roots_outside_the_volume_are_damage)
{
	uint64_t bad[] = {1, FIRST_BLOCK - 1, 254 * 4 * FRAME_BLOCKS, UINT64_MAX};
	struct superblock good;
	struct volume v;

	open_for_damage(&v);
	good = v.superblock;
	for (unsigned i = 0; i < ARRAY_COUNT(bad); i++) {
		v.superblock.space.block = to_le64(bad[i]);
		expect_damage(&v, "space map", "root page 0", bad[i]);
		v.superblock = good;
		v.superblock.manifest.block = to_le64(bad[i]);
		expect_damage(&v, "manifest", "root page 0", bad[i]);
		v.superblock = good;
	}
	/* An empty space map has no superblock frame in use. */
	v.superblock.space = (struct map_root){};
	ck_assert_int_eq(try_open(&v), -EUCLEAN);
	v.superblock = good;
	v.superblock.frame_count = to_le64(v.frames + 1);
	ck_assert_int_eq(try_open(&v), -EUCLEAN);
	/* One frame less: bits past the end. */
	v.superblock = good;
	ck_ok(space_use(v.space, (v.frames - 1) * FRAME_BLOCKS, 1));
	checkpoint(&v);
	v.superblock.frame_count = to_le64(v.frames - 1);
	ck_assert_int_eq(try_open(&v), -EUCLEAN);
	volume_close(&v);
}
END_TEST

START_TEST(manifest_refuses_places_outside_the_volume)
{
	const struct manifest_place bad[] = {
	    {1, 1, 1}, {40, 1, 1}, {UINT64_MAX, 1, 1}, {20, 1, 0}, {20, 1, 129},
	};
	struct manifest_place got;
	struct volume v;

	volume_open(&v, 40);
	for (unsigned i = 0; i < ARRAY_COUNT(bad); i++) {
		space_freeze(v.space);
		manifest_set(v.space, 3, &bad[i]);
		ck_assert_int_eq(write_maps(&v), -EUCLEAN);
		thaw(&v, false);
		manifest_get(v.space, 3, &got);
		ck_assert_uint_eq(got.disk_frame, 0);
	}
	space_freeze(v.space);
	manifest_set(v.space, MAP_ENTRIES_MAX, &(struct manifest_place){20, 1, 1});
	ck_assert_int_eq(write_maps(&v), -EOVERFLOW);
	thaw(&v, false);
	manifest_get(v.space, UINT64_MAX, &got);
	ck_assert_uint_eq(got.disk_frame, 0);
	volume_close(&v);
}
END_TEST

START_TEST(failing_device_fails_the_checkpoint_and_the_open)
{
	struct device *memory, *faulty;
	struct volume v;

	ck_ok(device_open_memory(254 * 3 * FRAME_BYTES, &memory));
	ck_ok(device_open_faulty(memory, &faulty));
	volume_open_on(&v, faulty);
	for (uint64_t n = 1;; n++) {
		struct space_counters c;
		struct space_run run = used_run(&v, 3);
		int err;

		space_freeze(v.space);
		faulty_set_plan(faulty, &(struct faulty_plan){.fail_write_at = n, .error = -EIO});
		err = write_maps(&v);
		faulty_set_plan(faulty, &(struct faulty_plan){});
		thaw(&v, err == 0);
		if (!err)
			break;
		ck_assert_int_eq(err, -EIO);
		c = counters(&v);
		ck_assert_uint_eq(c.resting_blocks, 0);
		ck_assert(space_is_used(v.space, run.block, run.count));
		reopen(&v);
		ck_assert(!space_is_used(v.space, run.block, run.count));
	}
	for (uint64_t n = 1;; n++) {
		int err;

		faulty_set_plan(faulty, &(struct faulty_plan){.fail_read_at = n, .error = -EIO});
		err = try_open(&v);
		if (!err)
			break;
		ck_assert_int_eq(err, -EIO);
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
	checkpoint(&v);
	device_counters(v.device, &before);
	start = monotonic_ns();
	reopen(&v);
	printf("# open of a 512 GiB volume with %llu leaves: %.1f ms\n",
	    (unsigned long long)(frames / 254 + 1), (double)(monotonic_ns() - start) / 1e6);
	device_counters(v.device, &after);
	ck_assert_uint_lt(after.reads - before.reads, 200);
	ck_assert_uint_eq(counters(&v).used_blocks, (frames / 254 + 1) * 100 + frames / 254 + 1 + 17 + 1);
	volume_close(&v);
}
END_TEST

START_TEST(largest_volume_can_be_made_and_opened)
{
	struct space_run run;
	struct volume v;
	uint64_t frame = MAP_ENTRIES_MAX - 1;

	volume_open(&v, MAP_ENTRIES_MAX);
	ck_ok(space_use(v.space, frame * FRAME_BLOCKS, FRAME_BLOCKS));
	ck_assert_int_eq(space_use(v.space, (frame + 1) * FRAME_BLOCKS, 1), -EUCLEAN);
	checkpoint(&v);
	reopen(&v);
	ck_assert(space_is_used(v.space, frame * FRAME_BLOCKS, FRAME_BLOCKS));
	run = alloc(&v, 1);
	ck_assert_uint_lt(run.block, 100 * FRAME_BLOCKS);
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
	run = used_run(&v, 1);
	memset(data, 0x5a, BLOCK_BYTES);
	ck_ok(device_write(v.device, data, BLOCK_BYTES, run.block * BLOCK_BYTES));
	checkpoint(&v);
	before = counters(&v);
	ck_ok(space_trim(v.space, &bytes));
	ck_assert_uint_ge(bytes, (before.free_frames - 8) * FRAME_BYTES);
	ck_assert_uint_le(bytes, before.free_frames * FRAME_BYTES);
	after = counters(&v);
	ck_assert_int_eq(memcmp(&before, &after, sizeof(before)), 0);
	memset(data, 0, BLOCK_BYTES);
	ck_ok(device_read(v.device, data, BLOCK_BYTES, run.block * BLOCK_BYTES));
	ck_assert_int_eq(data[77], 0x5a);
	reopen(&v);
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
		space_unreserve(w->v->space, SPACE_DATA, want);
		if (space_alloc_blocks(w->v->space, SPACE_DATA, want, &run))
			continue;
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
	used = counters(&v).used_blocks;
	for (unsigned i = 0; i < ARRAY_COUNT(workers); i++) {
		workers[i] = (struct worker){.v = &v, .seed = i + 1};
		ck_ok(pthread_create(&workers[i].thread, NULL, work, &workers[i]));
	}
	for (int i = 0; i < 50; i++)
		checkpoint(&v);
	for (unsigned i = 0; i < ARRAY_COUNT(workers); i++)
		ck_ok(pthread_join(workers[i].thread, NULL));
	checkpoint(&v);
	checkpoint(&v);
	ck_assert_uint_eq(counters(&v).used_blocks, used);
	ck_assert_uint_eq(counters(&v).allocated_blocks, 0);
	ck_assert_uint_eq(counters(&v).resting_blocks, 0);
	reopen(&v);
	ck_assert_uint_eq(counters(&v).used_blocks, used);
	volume_close(&v);
}
END_TEST

static void add_state_tests(TCase *t)
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
	tcase_add_test(t, data_leaves_frames_for_the_tree);
	tcase_add_test(t, full_volume_checkpoints_for_ever);
	tcase_add_test(t, full_volume_is_filled_to_the_last_data_block_after_frees);
	tcase_add_test(t, promised_blocks_are_there);
	tcase_add_test(t, promise_made_between_unreserve_and_allocation_takes_nothing_from_it);
	tcase_add_test(t, absurd_promises_are_refused);
}

static void add_map_tests(TCase *t)
{
	tcase_add_test(t, random_changes_and_crashes_match_the_model_on_a_small_volume);
	tcase_add_test(t, random_changes_and_crashes_match_the_model_on_many_leaves);
	tcase_add_test(t, checkpoint_saves_the_bits_of_its_own_pages);
	tcase_add_test(t, empty_leaves_take_no_block);
	tcase_add_test(t, pages_of_the_last_checkpoint_are_not_overwritten_by_the_next);
	tcase_add_test(t, damage_of_every_kind_of_page_is_found_and_named);
	tcase_add_test(t, old_and_foreign_pages_are_not_taken);
	tcase_add_test(t, roots_outside_the_volume_are_damage);
	tcase_add_test(t, manifest_refuses_places_outside_the_volume);
	tcase_add_test(t, failing_device_fails_the_checkpoint_and_the_open);
	tcase_add_test(t, large_volume_opens_with_few_reads_and_little_memory);
	tcase_add_test(t, largest_volume_can_be_made_and_opened);
	tcase_add_test(t, trim_gives_back_free_frames_and_only_those);
	tcase_add_test(t, threads_change_blocks_while_checkpoints_are_written);
}

int main(void)
{
	Suite *suite = suite_create("space");
	TCase *states = tcase_create("states");
	TCase *maps = tcase_create("maps");

	add_state_tests(states);
	add_map_tests(maps);
	tcase_set_timeout(maps, 120);
	suite_add_tcase(suite, states);
	suite_add_tcase(suite, maps);
	return support_run(suite);
}
