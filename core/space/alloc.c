/*
 * Who gets which blocks.
 *
 * The index: a frame's number of free blocks is one byte in its group.  A group
 * knows the best of its frames that are not wholly free, and hangs in the list of
 * groups with the same best; a bit map knows which groups have a wholly free frame.
 * So the emptiest frame of a volume is found by looking at one list head and 254
 * bytes, and a group without any busy block needs no memory.
 *
 *     filled ..1..1..            free_groups 00010111...
 *              |  |
 *     bucket  90 127             lowest wholly free frame first: a volume that
 *              |   \             is a sparse file stays small
 *        group 7   group 3 <-> group 12
 *
 * Three kinds of frames that are not wholly free:
 *  - of data: in the index, filled up by whoever asks for less than a frame;
 *  - of tree frames: allocated and freed as a whole;
 *  - homes of map pages (map_frames): nothing else goes there.  Pages of the two maps
 *    stay together in few frames, so that a checkpoint that moves them dirties few
 *    leaves of the space map.  A home without pages is an ordinary free frame again.
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
 * Promises: space_reserve() leaves one frame beyond all promises, because the time
 * between unreserve and allocation belongs to nobody; a promise made in between
 * then takes that frame and not what was just about to be allocated.
 */
#include "config.h"

#include "space/space_internal.h"

#include <errno.h>
#include <stdlib.h>

#define TREE_FRAMES_MIN 5u
#define TREE_FRAMES_MAX 64u
#define TREE_FRAMES_SHARE 64u
#define SLACK_FRAMES 1u

/* ---- index ---------------------------------------------------------------------- */

int index_init(struct space *space)
{
	struct frame_index *index = &space->index;
	uint64_t words = div_up(space->group_count, 64);

	for (unsigned i = 0; i < FRAME_BLOCKS; i++)
		index->bucket[i] = NO_GROUP;
	index->free_groups = calloc(words, sizeof(index->free_groups[0]));
	if (!index->free_groups)
		return -ENOMEM;
	memset(index->free_groups, 0xff, words * sizeof(index->free_groups[0]));
	if (space->group_count % 64)
		index->free_groups[words - 1] = BIT(space->group_count % 64) - 1;
	index->free_frames = space->layout.frame_count;
	return 0;
}

void index_fini(struct space *space)
{
	free(space->index.free_groups);
	free(space->index.map_frames);
}

static void leave_bucket(struct space *space, struct group *group)
{
	struct frame_index *index = &space->index;

	if (group->best == 0)
		return;
	if (group->previous != NO_GROUP)
		space->groups[group->previous]->next = group->next;
	else
		index->bucket[group->best] = group->next;
	if (group->next != NO_GROUP)
		space->groups[group->next]->previous = group->previous;
	if (index->bucket[group->best] == NO_GROUP)
		index->filled = bits_without(index->filled, bits_run(group->best, 1));
	group->next = group->previous = NO_GROUP;
}

static void enter_bucket(struct space *space, struct group *group)
{
	struct frame_index *index = &space->index;

	if (group->best == 0)
		return;
	group->next = index->bucket[group->best];
	if (group->next != NO_GROUP)
		space->groups[group->next]->previous = group->number;
	index->bucket[group->best] = group->number;
	index->filled = bits_or(index->filled, bits_run(group->best, 1));
}

static uint8_t find_best(const struct group *group)
{
	uint8_t best = 0;

	for (unsigned slot = 0; slot < GROUP_FRAMES; slot++) {
		if (group->free[slot] < FRAME_BLOCKS)
			best = max_of(best, group->free[slot]);
	}
	return best;
}

static void set_best(struct space *space, struct group *group, uint8_t best)
{
	if (best == group->best)
		return;
	leave_bucket(space, group);
	group->best = best;
	enter_bucket(space, group);
}

static void count_free_frame(struct space *space, struct group *group, int change)
{
	struct frame_index *index = &space->index;
	uint32_t word = group->number / 64;
	uint64_t bit = BIT(group->number % 64);

	group->free_frames = (uint8_t)(group->free_frames + change);
	index->free_frames += (uint64_t)(int64_t)change;
	if (group->free_frames > 0) {
		index->free_groups[word] |= bit;
		index->lowest = min_of(index->lowest, word);
	} else {
		index->free_groups[word] &= ~bit;
	}
}

/* The frame's byte becomes @free, whatever kind of frame that makes it. */
static void set_free(struct space *space, struct group *group, unsigned slot, uint8_t free)
{
	uint8_t old = group->free[slot];

	if (old == free)
		return;
	group->free[slot] = free;
	if (old == FRAME_BLOCKS)
		count_free_frame(space, group, -1);
	else if (old < FRAME_BLOCKS)
		space->index.partial_free -= old;
	if (free == FRAME_BLOCKS)
		count_free_frame(space, group, 1);
	else if (free < FRAME_BLOCKS)
		space->index.partial_free += free;
	if (free < FRAME_BLOCKS && free > group->best)
		set_best(space, group, free);
	else if (old == group->best)
		set_best(space, group, find_best(group));
}

static struct map_frame *find_map_frame(struct frame_index *index, uint64_t frame)
{
	for (uint32_t i = 0; i < index->map_frame_count; i++) {
		if (index->map_frames[i].frame == frame)
			return &index->map_frames[i];
	}
	return NULL;
}

static void update_map_frame(struct space *space, struct group *group, unsigned slot, uint32_t free)
{
	struct frame_index *index = &space->index;
	struct map_frame *home = find_map_frame(
	    index, (uint64_t)group->number * GROUP_FRAMES + slot);

	index->map_free += free;
	index->map_free -= home->free;
	home->free = free;
	if (free < FRAME_BLOCKS)
		return;
	index->map_free -= free;
	*home = index->map_frames[--index->map_frame_count];
	set_free(space, group, slot, FRAME_BLOCKS);
}

void index_update_locked(struct space *space, struct group *group, unsigned slot)
{
	unsigned free = bits_count(group_free(group, slot));

	if (group->free[slot] == FREE_OF_MAP_FRAME)
		update_map_frame(space, group, slot, free);
	else
		set_free(space, group, slot, (uint8_t)free);
}

int index_add_map_frame_locked(struct space *space, uint64_t frame)
{
	struct frame_index *index = &space->index;
	unsigned slot = (unsigned)(frame % GROUP_FRAMES);
	struct group *group = group_make_locked(space, (uint32_t)(frame / GROUP_FRAMES));
	uint64_t room = index->map_frame_room;
	unsigned free;
	int err;

	if (!group)
		return -ENOMEM;
	if (group->free[slot] == FREE_OF_MAP_FRAME)
		return 0;
	err = array_grow((void **)&index->map_frames, index->map_frame_count, &room,
	    sizeof(index->map_frames[0]));
	if (err)
		return err;
	index->map_frame_room = (uint32_t)room;
	free = bits_count(group_free(group, slot));
	index->map_frames[index->map_frame_count++] = (struct map_frame){frame, free};
	index->map_free += free;
	set_free(space, group, slot, FREE_OF_MAP_FRAME);
	return 0;
}

/* The group has one. */
static unsigned first_slot_with(const struct group *group, unsigned free)
{
	const uint8_t *found = memchr(group->free, (int)free, GROUP_FRAMES);

	ASSERT(found);
	return (unsigned)(found - group->free);
}

/* The lowest wholly free frame; there is one. */
static uint64_t find_free_frame(struct space *space)
{
	struct frame_index *index = &space->index;
	const struct group *group;
	uint32_t number;

	ASSERT(index->free_frames > 0);
	while (index->free_groups[index->lowest] == 0)
		index->lowest++;
	number = index->lowest * 64 + (uint32_t)__builtin_ctzll(index->free_groups[index->lowest]);
	group = space->groups[number];
	if (!group)
		return (uint64_t)number * GROUP_FRAMES;
	return (uint64_t)number * GROUP_FRAMES +
	       first_slot_with(group, FRAME_BLOCKS);
}

/* The emptiest frame that is neither wholly free nor full nor a home of maps. */
static bool find_emptiest(const struct space *space, uint64_t *ret_frame)
{
	struct bits filled = space->index.filled;
	const struct group *group;
	unsigned best;

	if (bits_is_zero(filled))
		return false;
	best = filled.word[1] ? 127u - (unsigned)__builtin_clzll(filled.word[1])
			      : 63u - (unsigned)__builtin_clzll(filled.word[0]);
	group = space->groups[space->index.bucket[best]];
	*ret_frame = (uint64_t)group->number * GROUP_FRAMES +
		     first_slot_with(group, best);
	return true;
}

static struct bits free_bits_of(const struct space *space, uint64_t frame)
{
	const struct group *group = space->groups[frame / GROUP_FRAMES];

	return group ? group_free(group, (unsigned)(frame % GROUP_FRAMES)) : BITS_ALL;
}

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

static uint64_t promised_to_tree(const struct space *space, uint64_t more_blocks)
{
	return div_up(space->reserved[SPACE_TREE] + more_blocks, FRAME_BLOCKS);
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
	uint64_t kept = promised_to_tree(space, more_tree) + kept_for_maps(space);

	if (user == SPACE_DATA)
		kept += tree_frames(space);
	return space->index.free_frames > kept ? space->index.free_frames - kept : 0;
}

/* Blocks that data may take now, promised ones included. */
static uint64_t blocks_for_data(const struct space *space, uint64_t more_tree)
{
	return space->index.partial_free + frames_for(space, SPACE_DATA, more_tree) * FRAME_BLOCKS;
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
	uint64_t promised = space->reserved[SPACE_DATA] + SLACK_FRAMES * FRAME_BLOCKS;

	return have > promised ? have - promised : 0;
}

int space_reserve(struct space *space, enum space_user user, uint64_t blocks)
{
	uint64_t slack = SLACK_FRAMES * FRAME_BLOCKS;
	uint64_t have, need;
	int err = 0;

	mutex_lock(&space->lock);
	if (user == SPACE_DATA) {
		have = blocks_for_data(space, 0);
		need = space->reserved[SPACE_DATA] + blocks + slack;
	} else {
		have = frames_for(space, SPACE_TREE, blocks);
		need = SLACK_FRAMES;
		/* What data was promised stays there for it. */
		if (blocks_for_data(space, blocks) < space->reserved[SPACE_DATA])
			err = -ENOSPC;
	}
	if (blocks > space->layout.frame_count * FRAME_BLOCKS || have < need)
		err = -ENOSPC;
	if (!err)
		space->reserved[user] += blocks;
	mutex_unlock(&space->lock);
	return err;
}

void space_unreserve(struct space *space, enum space_user user, uint64_t blocks)
{
	mutex_lock(&space->lock);
	ASSERT(blocks <= space->reserved[user]);
	space->reserved[user] -= blocks;
	mutex_unlock(&space->lock);
}

/* ---- allocation ---------------------------------------------------------------------- */

/* Blocks that may go to those who were promised nothing. */
static uint64_t unpromised_blocks(const struct space *space)
{
	uint64_t data = blocks_for_data(space, 0);
	uint64_t promised = space->reserved[SPACE_DATA];

	return data > promised ? data - promised : 0;
}

int space_alloc_frame(struct space *space, enum space_user user, uint64_t *ret_frame)
{
	uint64_t frame;
	int err = -ENOSPC;

	mutex_lock(&space->lock);
	if (frames_for(space, user, 0) > 0 &&
	    (user == SPACE_TREE || unpromised_blocks(space) >= FRAME_BLOCKS)) {
		frame = find_free_frame(space);
		err = space->is_guard_incomplete
			  ? -ENOMEM
			  : space_take_locked(space, frame * FRAME_BLOCKS, FRAME_BLOCKS);
	}
	mutex_unlock(&space->lock);
	if (!err)
		*ret_frame = frame;
	return err;
}

/* The longest run of set bits. */
static void longest_run(struct bits bits, unsigned *ret_first, unsigned *ret_end)
{
	unsigned first, end;

	*ret_first = *ret_end = 0;
	for (first = bits_find(bits, 0); first < FRAME_BLOCKS; first = bits_find(bits, end)) {
		end = bits_find(bits_not(bits), first);
		if (end - first > *ret_end - *ret_first) {
			*ret_first = first;
			*ret_end = end;
		}
		if (end == FRAME_BLOCKS)
			break;
	}
}

/* Is there still something free in the open run, and is the frame still its own? */
static bool run_goes_on(const struct space *space, struct open_run *run)
{
	const struct group *group = space->groups[run->frame / GROUP_FRAMES];
	unsigned slot = (unsigned)(run->frame % GROUP_FRAMES);

	/* Wholly free again, it counts as such, and may be kept from this user. */
	if (run->next >= run->end || !group || group->free[slot] >= FRAME_BLOCKS)
		return false;
	run->next = bits_find(group_free(group, slot), run->next);
	return run->next < run->end;
}

/*
 * Makes *run one that has something for @user, and says how much of it @user may
 * take: of a frame of its own the tree may take all, of other blocks only what data
 * was not promised.
 */
static int choose_run(struct space *space, enum space_user user, bool want_frame,
    struct open_run *run, uint64_t *ret_limit)
{
	bool has_frame = frames_for(space, user, 0) > 0;
	uint64_t frame;

	*ret_limit = unpromised_blocks(space);
	if (*ret_limit > 0 && !(want_frame && has_frame) && run_goes_on(space, run))
		return 0;
	if (has_frame && (user == SPACE_TREE || *ret_limit > 0)) {
		*run = (struct open_run){find_free_frame(space), 0, FRAME_BLOCKS};
		if (user == SPACE_TREE)
			*ret_limit = FRAME_BLOCKS;
		return 0;
	}
	if (*ret_limit == 0 || !find_emptiest(space, &frame))
		return -ENOSPC;
	run->frame = frame;
	longest_run(free_bits_of(space, frame), &run->next, &run->end);
	return 0;
}

static int alloc_blocks_locked(struct space *space, enum space_user user,
    uint32_t want, struct space_run *ret)
{
	struct open_run *open = user == SPACE_DATA ? &space->data_run : &space->tree_run;
	struct open_run run = *open;
	uint64_t limit;
	unsigned end;
	int err;

	if (space->is_guard_incomplete)
		return -ENOMEM;
	err = choose_run(space, user, want == FRAME_BLOCKS, &run, &limit);
	if (err)
		return err;
	end = bits_find(bits_not(free_bits_of(space, run.frame)), run.next);
	if (end > run.end)
		end = run.end;
	limit = min_of(limit, (uint64_t)want);
	ret->block = run.frame * FRAME_BLOCKS + run.next;
	ret->count = (uint32_t)min_of(limit, (uint64_t)(end - run.next));
	err = space_take_locked(space, ret->block, ret->count);
	run.next += ret->count;
	/* A frame taken whole leaves the open run to smaller wishes. */
	if (!err && run.next < run.end)
		*open = run;
	return err;
}

int space_alloc_blocks(struct space *space, enum space_user user, uint32_t want,
    struct space_run *ret)
{
	struct space_run run;
	int err;

	ASSERT(want > 0 && want <= FRAME_BLOCKS);
	mutex_lock(&space->lock);
	err = alloc_blocks_locked(space, user, want, &run);
	mutex_unlock(&space->lock);
	if (!err)
		*ret = run;
	return err;
}

/* ---- map pages --------------------------------------------------------------------------- */

/* The home with the most room; or a free frame, or at the very worst any frame with
 * a free block, becomes one. */
static int choose_map_frame(struct space *space)
{
	struct frame_index *index = &space->index;
	struct map_frame best = {};
	int err;

	for (uint32_t i = 0; i < index->map_frame_count; i++) {
		if (index->map_frames[i].free > best.free)
			best = index->map_frames[i];
	}
	if (best.free == 0) {
		if (index->free_frames > 0)
			best.frame = find_free_frame(space);
		else if (!find_emptiest(space, &best.frame))
			return -ENOSPC;
		err = index_add_map_frame_locked(space, best.frame);
		if (err)
			return err;
	}
	space->map_frame = best.frame;
	return 0;
}

int alloc_map_block_locked(struct space *space, uint64_t *ret_block)
{
	const struct map_frame *home = find_map_frame(&space->index, space->map_frame);
	unsigned first;
	int err;

	if (!home || home->free == 0) {
		err = choose_map_frame(space);
		if (err)
			return err;
	}
	first = bits_find(free_bits_of(space, space->map_frame), 0);
	*ret_block = space->map_frame * FRAME_BLOCKS + first;
	return space_take_locked(space, *ret_block, 1);
}
