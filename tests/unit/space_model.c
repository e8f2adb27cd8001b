/*
 * Random operations against a plain model: a byte of state per block, a table of
 * frame places, and a copy of both for every freeze.  A crash is a reopen from the
 * last superblock that was durable; what comes back must be the state at its freeze.
 */
#include "config.h"

#include "tests/unit/space_volume.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
			ck_abort_msg("block %llu was given away",
			    (unsigned long long)run.block + i);
	}
	set_run(m->state, &run, ALLOCATED);
}

static void model_use(struct model *m)
{
	struct space_run run = find_run(
	    m, below(m, 10) ? ALLOCATED : FREE, 1 + (uint32_t)below(m, 200));
	uint8_t *is_map;

	if (run.count == 0)
		return;
	/* Free blocks are used as a replay does: never more than data could have got. */
	if (m->state[run.block] == FREE &&
	    run.count > volume_counters(&m->v).data_available_blocks)
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
		*place = (struct manifest_place){frame,
		    (uint32_t)below(m, 1u << 30), 1 + (uint32_t)below(m, 128)};
	}
	manifest_set(m->v.space, id, place);
}

static void model_thaw(struct model *m)
{
	ck_ok(volume_write_maps(&m->v));
	volume_thaw(&m->v, true);
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
	struct space_counters c = volume_counters(&m->v);
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
			ck_ok(volume_write_maps(&m->v));
			if (below(m, 2))
				volume_thaw(&m->v, false);
		}
		memcpy(m->places, m->old_places, sizeof(m->places));
		m->is_frozen = false;
	}
	volume_reopen(&m->v);
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

void add_model_tests(TCase *t)
{
	tcase_set_timeout(t, 120);
	tcase_add_test(t, random_changes_and_crashes_match_the_model_on_a_small_volume);
	tcase_add_test(t, random_changes_and_crashes_match_the_model_on_many_leaves);
}
