/*
 * Who may have how much of what is free.
 *
 *	             free blocks
 *	 +---------+-----------------------------------------------------+
 *	 | partial |                 wholly free frames                  |
 *	 +---------+--------------------------+------+----------+--------+
 *	 |            data                    | kept | promised | kept   |
 *	 |     unpromised | promised          | for  |  to the  | for    |
 *	 |                |                   | tree |   tree   | maps   |
 *	 +--------------------------------------------+----------+--------+
 *
 * What is kept back, counted in wholly free frames
 *  - for maps, from all: enough to write every page of the space map twice over (the
 *    second time stands for manifest pages that are yet to come) and every page of
 *    the manifest once, less what is free in the homes.  A checkpoint needs at most
 *    this, however much was freed since the last one, so write_maps never meets
 *    -ENOSPC.  It is 1/8000 of the volume, or one frame.
 *  - for the tree, from data: 1/64 of the volume, at least 5 frames (a root, a path,
 *    the halves of a split, and one to spare: what it takes to erase anything on the
 *    smallest volume), at most 64 (32 MiB of tree frames dirtied between two
 *    checkpoints); and what is promised to the tree on top of it, so that redeeming
 *    such a promise takes nothing from data.
 *
 * Promises
 *  1. A promise to data counts on blocks, a promise to the tree on whole frames.
 *  2. A promise to data is made only where what is kept for the tree stays whole.  Once
 *     made it may be redeemed from there too, for the tree may be promised what is kept
 *     for it, as long as all that data was promised is still somewhere.
 *  3. Data redeems its promise in the allocation itself (space_redeem_blocks).  The
 *     tree takes its promise back first; the time between belongs to nobody.  So one
 *     frame stays beyond all promises: a promise made in between takes that one, and
 *     not what was just about to be allocated.
 */
#include "config.h"

#include "space/space_internal.h"

#include <errno.h>

#define TREE_FRAMES_MIN 5u
#define TREE_FRAMES_MAX 64u
#define TREE_FRAMES_SHARE 64u
#define SLACK_FRAMES 1u
#define SLACK_BLOCKS (SLACK_FRAMES * (uint64_t)FRAME_BLOCKS)

/* ---- what is kept ------------------------------------------------------------------ */

static uint64_t kept_for_maps(const struct space *space)
{
	const struct page_map *map = &space->space_map;
	uint64_t space_pages = (uint64_t)map->end[0] + map->end[1] + map->end[2];
	uint64_t need = 2 * space_pages + space->manifest.node_count + MAP_LEVELS;
	/* Pages moved by a checkpoint under way come back with it. */
	uint64_t have = space->index.map_free + space->map_resting_blocks;

	return have < need ? div_up(need - have, FRAME_BLOCKS) : 0;
}

static uint64_t tree_frames(const struct space *space)
{
	uint64_t share = space->layout.frame_count / TREE_FRAMES_SHARE;

	if (share < TREE_FRAMES_MIN)
		return TREE_FRAMES_MIN;
	return share < TREE_FRAMES_MAX ? share : TREE_FRAMES_MAX;
}

/* Frames that @user may take now, with @more_tree blocks promised to the tree. */
static uint64_t frames_for(const struct space *space, enum space_user user, uint64_t more_tree)
{
	uint64_t kept = div_up(space->reserved[SPACE_TREE] + more_tree, FRAME_BLOCKS) +
			kept_for_maps(space);

	if (user == SPACE_DATA)
		kept += tree_frames(space);
	return space->index.free_frames > kept ? space->index.free_frames - kept : 0;
}

uint64_t frames_for_locked(const struct space *space, enum space_user user)
{
	return frames_for(space, user, 0);
}

/* Blocks that data may take now, promised ones included. */
static uint64_t blocks_for_data(const struct space *space)
{
	return space->index.partial_free + frames_for(space, SPACE_DATA, 0) * FRAME_BLOCKS;
}

/* Blocks from which promises to data can be redeemed. */
static uint64_t blocks_for_promises(const struct space *space, uint64_t more_tree)
{
	uint64_t frames = frames_for(space, SPACE_TREE, more_tree);

	frames -= min_of(frames, (uint64_t)SLACK_FRAMES);
	return space->index.partial_free + frames * FRAME_BLOCKS;
}

bool has_promised_frame_locked(const struct space *space)
{
	return frames_for(space, SPACE_TREE, 0) > SLACK_FRAMES;
}

uint64_t unpromised_locked(const struct space *space)
{
	uint64_t data = blocks_for_data(space);
	uint64_t promised = space->reserved[SPACE_DATA];

	return data > promised ? data - promised : 0;
}

uint64_t frames_to_spare_locked(const struct space *space)
{
	return div_up(frames_for(space, SPACE_DATA, 0), 2);
}

/*
 * Resting blocks count: a checkpoint frees them, and whoever meets -ENOSPC asks for
 * one.  So do frames promised to the tree: the checkpoint that uses them frees those
 * that they replace.
 */
uint64_t data_available_locked(const struct space *space)
{
	const struct frame_index *index = &space->index;
	uint64_t resting = space->resting_blocks - space->map_resting_blocks;
	uint64_t kept = (tree_frames(space) + kept_for_maps(space)) * FRAME_BLOCKS;
	uint64_t whole = index->free_frames * FRAME_BLOCKS + resting;
	uint64_t have = index->partial_free + (whole > kept ? whole - kept : 0);
	uint64_t promised = space->reserved[SPACE_DATA] + SLACK_BLOCKS;

	return have > promised ? have - promised : 0;
}

/* ---- promises ---------------------------------------------------------------------- */

static bool can_promise(const struct space *space, enum space_user user, uint64_t blocks)
{
	if (blocks > space->layout.frame_count * FRAME_BLOCKS)
		return false;
	if (user == SPACE_DATA)
		return blocks_for_data(space) >=
		       space->reserved[SPACE_DATA] + blocks + SLACK_BLOCKS;
	return frames_for(space, SPACE_TREE, blocks) >= SLACK_FRAMES &&
	       blocks_for_promises(space, blocks) >= space->reserved[SPACE_DATA];
}

int space_reserve(struct space *space, enum space_user user, uint64_t blocks)
{
	int err = 0;

	mutex_lock(&space->lock);
	if (can_promise(space, user, blocks))
		space->reserved[user] += blocks;
	else
		err = -ENOSPC;
	mutex_unlock(&space->lock);
	return err;
}

uint64_t space_reserve_most(struct space *space, enum space_user user, uint64_t blocks)
{
	uint64_t low = 0, high = blocks + 1;

	mutex_lock(&space->lock);
	if (can_promise(space, user, blocks))
		low = blocks;
	/* @low can be promised, @high cannot. */
	while (high - low > 1 && low < blocks) {
		uint64_t middle = low + (high - low) / 2;

		if (can_promise(space, user, middle))
			low = middle;
		else
			high = middle;
	}
	space->reserved[user] += low;
	mutex_unlock(&space->lock);
	return low;
}

void space_unreserve(struct space *space, enum space_user user, uint64_t blocks)
{
	mutex_lock(&space->lock);
	ASSERT(blocks <= space->reserved[user]);
	space->reserved[user] -= blocks;
	mutex_unlock(&space->lock);
}
