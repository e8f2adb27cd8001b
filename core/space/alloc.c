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
 * How much of it each user may have is promise.c's.
 */
#include "config.h"

#include "space/space_internal.h"

#include <errno.h>
#include <stdlib.h>

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

/* ---- allocation ---------------------------------------------------------------------- */

int space_alloc_frame(struct space *space, enum space_user user, uint64_t *ret_frame)
{
	uint64_t frame;
	int err = -ENOSPC;

	mutex_lock(&space->lock);
	if (frames_for_locked(space, user) > 0 &&
	    (user == SPACE_TREE || unpromised_locked(space) >= FRAME_BLOCKS)) {
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
	bool has_frame = frames_for_locked(space, user) > 0;
	uint64_t frame;

	*ret_limit = unpromised_locked(space);
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

/*
 * The same for data that was promised: frames that the tree may have are the last to
 * be broken into, and one is left to whoever redeems a promise to the tree just now.
 */
static int choose_promised_run(struct space *space, bool want_frame, struct open_run *run)
{
	bool has_frame = frames_for_locked(space, SPACE_DATA) > 0;
	uint64_t frame;

	if (!(want_frame && has_frame) && run_goes_on(space, run))
		return 0;
	if (!has_frame && find_emptiest(space, &frame)) {
		run->frame = frame;
		longest_run(free_bits_of(space, frame), &run->next, &run->end);
		return 0;
	}
	if (!has_frame && !has_promised_frame_locked(space))
		return -ENOSPC;
	*run = (struct open_run){find_free_frame(space), 0, FRAME_BLOCKS};
	return 0;
}

/* At most @limit blocks of *run; what is left of it stays open. */
static int take_run(struct space *space, struct open_run *run, uint64_t limit,
    struct open_run *open, struct space_run *ret)
{
	unsigned end = bits_find(bits_not(free_bits_of(space, run->frame)), run->next);
	int err;

	if (end > run->end)
		end = run->end;
	ret->block = run->frame * FRAME_BLOCKS + run->next;
	ret->count = (uint32_t)min_of(limit, (uint64_t)(end - run->next));
	err = space_take_locked(space, ret->block, ret->count);
	run->next += ret->count;
	/* A frame taken whole leaves the open run to smaller wishes. */
	if (!err && run->next < run->end)
		*open = *run;
	return err;
}

static int alloc_blocks_locked(struct space *space, enum space_user user,
    uint32_t want, struct space_run *ret)
{
	struct open_run *open = user == SPACE_DATA ? &space->data_run : &space->tree_run;
	struct open_run run = *open;
	uint64_t limit;
	int err;

	if (space->is_guard_incomplete)
		return -ENOMEM;
	err = choose_run(space, user, want == FRAME_BLOCKS, &run, &limit);
	if (err)
		return err;
	return take_run(space, &run, min_of(limit, (uint64_t)want), open, ret);
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

int space_redeem_blocks(struct space *space, uint32_t want, struct space_run *ret)
{
	struct space_run run;
	struct open_run open;
	int err;

	ASSERT(want > 0 && want <= FRAME_BLOCKS);
	mutex_lock(&space->lock);
	ASSERT(want <= space->reserved[SPACE_DATA]);
	open = space->data_run;
	err = space->is_guard_incomplete ? -ENOMEM :
		choose_promised_run(space, want == FRAME_BLOCKS, &open);
	if (!err)
		err = take_run(space, &open, want, &space->data_run, &run);
	if (!err)
		space->reserved[SPACE_DATA] -= run.count;
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
