/*
 * The states of blocks.
 *
 * A block's state is kept as bits, 128 a frame, in *groups* of 254 frames, which is
 * what one leaf of the space map covers:
 *
 *             used    allocated   resting[0|1]
 *   free       0          0           0          no group at all: all free
 *   allocated  0          1           0          (guarded: another bit beside it)
 *   used       1          0           0
 *   resting    0          0           1
 *
 * Only `used` is saved, and only it has a live state and an image (page_map.h); the
 * other bits exist in memory, and only for groups that have such blocks.
 *
 * Resting has two generations.  A block freed goes to the *young* one.  A freeze
 * makes what was young old; thaw(true) sets the old ones free.  So whatever is freed
 * while a checkpoint is under way waits for the next one: the image being saved and
 * the log after it still name it.  The checkpoint's own frees go straight to the old
 * generation: the image does not name them, only the previous superblock does.
 *
 * Invariants
 *  1. used, allocated, resting[0] and resting[1] are disjoint.
 *  2. A block is handed out only if it is in none of them.
 *  3. What the last durable superblock's maps name, or the log after it, is used or
 *     resting; so is what a checkpoint under way names.
 *  4. A failing call changes no state.
 *
 * Locking: one mutex.  I/O happens in open, write_maps and trim only, never under it.
 *
 * Crash: what is in memory only (allocated, resting, guarded) becomes free, which is
 * right: neither the saved map nor the replayed log names it.
 */
#include "config.h"

#include "space/space_internal.h"

#include <errno.h>
#include <stdlib.h>

/* ---- bits ------------------------------------------------------------------ */

struct bits entries_used(const union map_entries *entries, unsigned slot)
{
	const struct space_entry *entry = &entries->space[slot];

	return (struct bits){{from_le64(entry->used[0]), from_le64(entry->used[1])}};
}

void entries_set(union map_entries *entries, unsigned slot, struct bits mask, bool is_used)
{
	struct bits old = entries_used(entries, slot);
	struct bits used = is_used ? bits_or(old, mask) : bits_without(old, mask);

	entries->space[slot].used[0] = to_le64(used.word[0]);
	entries->space[slot].used[1] = to_le64(used.word[1]);
}

struct bits group_used(const struct group *group, unsigned slot)
{
	return entries_used(group->leaf->entries, slot);
}

static struct bits group_resting(const struct group *group, unsigned slot)
{
	return bits_or(group_get(group->resting[0], slot), group_get(group->resting[1], slot));
}

struct bits group_free(const struct group *group, unsigned slot)
{
	struct bits busy = bits_or(group_used(group, slot), group_resting(group, slot));

	return bits_not(bits_or(busy, group_get(group->allocated, slot)));
}

void group_set(struct group_bits *bits, unsigned slot, struct bits mask)
{
	bits->count += bits_count(bits_without(mask, bits->frame[slot]));
	bits->frame[slot] = bits_or(bits->frame[slot], mask);
}

void group_clear(struct group_bits *bits, unsigned slot, struct bits mask)
{
	if (!bits)
		return;
	bits->count -= bits_count(bits_and(mask, bits->frame[slot]));
	bits->frame[slot] = bits_without(bits->frame[slot], mask);
}

int group_bits_make(struct group_bits **bits)
{
	if (!*bits)
		*bits = calloc(1, sizeof(**bits));
	return *bits ? 0 : -ENOMEM;
}

/* ---- groups ------------------------------------------------------------------ */

uint32_t group_frames(const struct space *space, uint32_t number)
{
	uint64_t left = space->layout.frame_count - (uint64_t)number * GROUP_FRAMES;

	return (uint32_t)min_of(left, (uint64_t)GROUP_FRAMES);
}

struct group *group_make_locked(struct space *space, uint32_t number)
{
	struct group *group = space->groups[number];
	struct map_node *leaf;

	if (group)
		return group;
	leaf = page_map_make_leaf(&space->space_map, number);
	group = leaf ? calloc(1, sizeof(*group)) : NULL;
	if (!group)
		return NULL;
	group->leaf = leaf;
	group->number = number;
	group->next = group->previous = NO_GROUP;
	group->free_frames = (uint8_t)group_frames(space, number);
	memset(group->free, FRAME_BLOCKS, group->free_frames);
	space->groups[number] = group;
	return group;
}

void group_destroy(struct group *group)
{
	free(group->allocated);
	free(group->guarded);
	free(group->resting[0]);
	free(group->resting[1]);
	free(group);
}

void group_drop_locked(struct space *space, struct group *group)
{
	struct map_node *leaf = group->leaf;

	if (group->free_frames != group_frames(space, group->number) || leaf->block != 0 ||
	    leaf->is_dirty || space->space_map.is_frozen)
		return;
	ASSERT(group->best == 0);
	page_map_drop_leaf(&space->space_map, leaf);
	space->groups[group->number] = NULL;
	group_destroy(group);
}

/* ---- changes of state ----------------------------------------------------------- */

int space_take_locked(struct space *space, uint64_t block, unsigned count)
{
	struct run_part part = part_of(block, count);

	while (part_next(&part)) {
		struct group *group = group_make_locked(space, part.group);

		if (!group || group_bits_make(&group->allocated))
			return -ENOMEM;
		group_set(group->allocated, part.slot, part.mask);
		space->allocated_blocks += part.blocks;
		index_update_locked(space, group, part.slot);
		ASSERT(part.count == 0); /* one frame: all or nothing */
	}
	return 0;
}

void space_give_back_locked(struct space *space, uint64_t block, uint64_t count)
{
	struct run_part part = part_of(block, count);

	while (part_next(&part)) {
		struct group *group = space->groups[part.group];

		group_clear(group->allocated, part.slot, part.mask);
		group_clear(group->guarded, part.slot, part.mask);
		space->allocated_blocks -= part.blocks;
		index_update_locked(space, group, part.slot);
	}
}

bool space_run_is_used_locked(const struct space *space, uint64_t block, uint64_t count)
{
	struct run_part part = part_of(block, count);

	while (part_next(&part)) {
		const struct group *group = space->groups[part.group];

		if (!group || !bits_is_zero(bits_without(part.mask, group_used(group, part.slot))))
			return false;
	}
	return true;
}

static bool run_is_allocated(const struct space *space, uint64_t block, uint64_t count)
{
	struct run_part part = part_of(block, count);

	while (part_next(&part)) {
		const struct group *group = space->groups[part.group];

		if (!group || !bits_is_zero(bits_without(part.mask,
				  group_get(group->allocated, part.slot))))
			return false;
	}
	return true;
}

/* No block of the run is used or resting. */
static bool run_may_be_used(const struct space *space, uint64_t block, uint64_t count)
{
	struct run_part part = part_of(block, count);

	while (part_next(&part)) {
		const struct group *group = space->groups[part.group];

		if (group && !bits_is_zero(bits_and(part.mask,
				 bits_or(group_used(group, part.slot),
				     group_resting(group, part.slot)))))
			return false;
	}
	return true;
}

/* The memory that a change of the run needs, so that the change cannot fail. */
static int prepare_run(struct space *space, uint64_t block, uint64_t count,
    bool is_frozen, int generation)
{
	struct run_part part = part_of(block, count);

	while (part_next(&part)) {
		struct group *group = group_make_locked(space, part.group);

		if (!group)
			return -ENOMEM;
		if (!is_frozen && page_map_prepare(&space->space_map, group->leaf))
			return -ENOMEM;
		/* Where changes of a failed checkpoint go back to. */
		if (is_frozen && group_bits_make(&group->allocated))
			return -ENOMEM;
		if (generation >= 0 && group_bits_make(&group->resting[generation]))
			return -ENOMEM;
	}
	return 0;
}

static void set_used(struct space *space, struct group *group, const struct run_part *part,
    bool is_used, bool is_frozen)
{
	struct map_node *leaf = group->leaf;

	entries_set(leaf->entries, part->slot, part->mask, is_used);
	if (is_frozen && leaf->image)
		entries_set(leaf->image, part->slot, part->mask, is_used);
	if (is_frozen)
		leaf->is_dirty = true;
	else
		page_map_mark(&space->space_map, leaf);
	if (is_used)
		space->used_blocks += part->blocks;
	else
		space->used_blocks -= part->blocks;
}

int space_use_locked(struct space *space, uint64_t block, uint64_t count, bool is_frozen)
{
	struct run_part part = part_of(block, count);
	int err;

	if (!layout_has_run(&space->layout, block, count) || !run_may_be_used(space, block, count))
		return -EUCLEAN;
	err = prepare_run(space, block, count, is_frozen, -1);
	if (err)
		return err;
	while (part_next(&part)) {
		struct group *group = space->groups[part.group];
		struct bits allocated = bits_and(part.mask, group_get(group->allocated, part.slot));

		space->allocated_blocks -= bits_count(allocated);
		group_clear(group->allocated, part.slot, part.mask);
		group_clear(group->guarded, part.slot, part.mask);
		set_used(space, group, &part, true, is_frozen);
		index_update_locked(space, group, part.slot);
	}
	return 0;
}

int space_free_locked(struct space *space, uint64_t block, uint64_t count, bool is_frozen)
{
	unsigned generation = is_frozen ? space->young ^ 1 : space->young;
	struct run_part part = part_of(block, count);
	int err;

	if (!layout_has_run(&space->layout, block, count) ||
	    !space_run_is_used_locked(space, block, count))
		return -EUCLEAN;
	err = prepare_run(space, block, count, is_frozen, (int)generation);
	if (err)
		return err;
	while (part_next(&part)) {
		struct group *group = space->groups[part.group];

		set_used(space, group, &part, false, is_frozen);
		group_set(group->resting[generation], part.slot, part.mask);
		space->resting_blocks += part.blocks;
		index_update_locked(space, group, part.slot);
	}
	return 0;
}

int space_keep_locked(struct space *space, uint64_t block, uint64_t count)
{
	struct run_part part = part_of(block, count);
	int err;

	if (!layout_has_run(&space->layout, block, count) ||
	    !space_run_is_used_locked(space, block, count))
		return -EUCLEAN;
	err = prepare_run(space, block, count, true, -1);
	if (err)
		return err;
	while (part_next(&part)) {
		struct group *group = space->groups[part.group];

		set_used(space, group, &part, false, true);
		group_set(group->allocated, part.slot, part.mask);
		space->allocated_blocks += part.blocks;
		index_update_locked(space, group, part.slot);
	}
	return 0;
}

void space_take_back_locked(struct space *space, const struct frozen_change *change)
{
	unsigned old = space->young ^ 1;
	struct run_part part = part_of(change->block, change->count);

	while (part_next(&part)) {
		struct group *group = space->groups[part.group];

		set_used(space, group, &part, change->kind != FROZEN_USE, true);
		if (change->kind == FROZEN_KEEP) {
			group_clear(group->allocated, part.slot, part.mask);
			space->allocated_blocks -= part.blocks;
		} else if (change->kind == FROZEN_USE) {
			group_set(group->allocated, part.slot, part.mask);
			space->allocated_blocks += part.blocks;
		} else {
			group_clear(group->resting[old], part.slot, part.mask);
			space->resting_blocks -= part.blocks;
		}
		index_update_locked(space, group, part.slot);
	}
}

int space_use(struct space *space, uint64_t block, uint32_t count)
{
	int err;

	mutex_lock(&space->lock);
	err = space_use_locked(space, block, count, false);
	mutex_unlock(&space->lock);
	return err;
}

int space_free(struct space *space, uint64_t block, uint32_t count)
{
	int err;

	mutex_lock(&space->lock);
	err = space_free_locked(space, block, count, false);
	mutex_unlock(&space->lock);
	return err;
}

void space_cancel(struct space *space, uint64_t block, uint32_t count)
{
	mutex_lock(&space->lock);
	ASSERT(layout_has_run(&space->layout, block, count) &&
	       run_is_allocated(space, block, count));
	space_give_back_locked(space, block, count);
	mutex_unlock(&space->lock);
}

bool space_is_used(struct space *space, uint64_t block, uint32_t count)
{
	bool is_used;

	mutex_lock(&space->lock);
	is_used = layout_has_run(&space->layout, block, count) &&
		  space_run_is_used_locked(space, block, count);
	mutex_unlock(&space->lock);
	return is_used;
}

/* ---- recovery -------------------------------------------------------------------- */

static int guard_part(struct space *space, const struct run_part *part)
{
	struct group *group = group_make_locked(space, part->group);
	struct bits mask;

	if (!group || group_bits_make(&group->allocated) || group_bits_make(&group->guarded))
		return -ENOMEM;
	mask = bits_and(part->mask, group_free(group, part->slot));
	group_set(group->allocated, part->slot, mask);
	group_set(group->guarded, part->slot, mask);
	space->allocated_blocks += bits_count(mask);
	index_update_locked(space, group, part->slot);
	return 0;
}

void space_guard(struct space *space, uint64_t block, uint32_t count)
{
	struct run_part part = part_of(block, count);

	mutex_lock(&space->lock);
	while (layout_has_run(&space->layout, block, count) && part_next(&part)) {
		if (guard_part(space, &part))
			space->is_guard_incomplete = true;
	}
	mutex_unlock(&space->lock);
}

static void end_guard_of(struct space *space, struct group *group)
{
	for (unsigned slot = 0; slot < GROUP_FRAMES; slot++) {
		struct bits guarded = group->guarded->frame[slot];

		if (bits_is_zero(guarded))
			continue;
		group_clear(group->allocated, slot, guarded);
		space->allocated_blocks -= bits_count(guarded);
		index_update_locked(space, group, slot);
	}
	free(group->guarded);
	group->guarded = NULL;
}

void space_guard_end(struct space *space)
{
	mutex_lock(&space->lock);
	for (uint32_t i = 0; i < space->group_count; i++) {
		if (space->groups[i] && space->groups[i]->guarded)
			end_guard_of(space, space->groups[i]);
	}
	space->is_guard_incomplete = false;
	mutex_unlock(&space->lock);
}

/* ---- counters ---------------------------------------------------------------------- */

void space_counters(struct space *space, struct space_counters *ret)
{
	const struct space_layout *layout = &space->layout;
	struct space_counters c = {};

	mutex_lock(&space->lock);
	c.total_blocks = (layout->frame_count - 1 - layout->journal_frames) * FRAME_BLOCKS;
	c.used_blocks = space->used_blocks;
	c.allocated_blocks = space->allocated_blocks;
	c.resting_blocks = space->resting_blocks;
	c.free_blocks = c.total_blocks - c.used_blocks - c.allocated_blocks - c.resting_blocks;
	c.free_frames = space->index.free_frames;
	c.reserved_blocks = space->reserved[SPACE_DATA] + space->reserved[SPACE_TREE];
	c.data_available_blocks = data_available_locked(space);
	mutex_unlock(&space->lock);
	*ret = c;
}
