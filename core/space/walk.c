/*
 * Walks over what the maps hold, for checks and for giving space back to the host.
 *
 * Callbacks run without the lock: a walk copies one leaf, or the list of pages, and
 * then calls.  So a callback may use the module, and a walk shows each leaf as it was
 * at some moment of the walk.
 *
 * Trim holds the frames it discards as allocated meanwhile, so that nobody writes to
 * them, and holds only some of those that data could have taken: no allocation for
 * the tree fails because of it, and those for data hardly ever.
 */
#include "config.h"

#include "space/space_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"

#define TRIM_FRAMES 64u /* held at a time */

/* ---- blocks in use ------------------------------------------------------------------ */

struct used_walk {
	int (*fn)(void *ctx, uint64_t block, uint64_t count);
	void *ctx;
	uint64_t block, count; /* run not yet told */
};

static int tell_run(struct used_walk *walk)
{
	uint64_t count = walk->count;

	walk->count = 0;
	return count ? walk->fn(walk->ctx, walk->block, count) : 0;
}

static int add_run(struct used_walk *walk, uint64_t block, uint64_t count)
{
	int err = 0;

	if (walk->count && walk->block + walk->count == block) {
		walk->count += count;
		return 0;
	}
	err = tell_run(walk);
	walk->block = block;
	walk->count = count;
	return err;
}

static int walk_frame(struct used_walk *walk, uint64_t frame, struct bits used)
{
	unsigned first = bits_find(used, 0);
	int err = 0;

	while (first < FRAME_BLOCKS && !err) {
		unsigned end = bits_find(bits_not(used), first);

		err = add_run(walk, frame * FRAME_BLOCKS + first, end - first);
		first = end < FRAME_BLOCKS ? bits_find(used, end) : FRAME_BLOCKS;
	}
	return err;
}

static int walk_group(struct space *space, struct used_walk *walk, uint32_t number)
{
	uint32_t frames = group_frames(space, number);
	union map_entries entries;
	struct map_node *leaf;
	int err = 0;

	mutex_lock(&space->lock);
	leaf = page_map_leaf(&space->space_map, number);
	if (leaf)
		entries = *leaf->entries;
	mutex_unlock(&space->lock);
	for (unsigned slot = 0; slot < frames && leaf && !err; slot++) {
		uint64_t frame = (uint64_t)number * GROUP_FRAMES + slot;

		if (layout_has_run(&space->layout, frame * FRAME_BLOCKS, FRAME_BLOCKS))
			err = walk_frame(walk, frame, entries_used(&entries, slot));
	}
	return err;
}

int space_for_each_used(struct space *space,
    int (*fn)(void *ctx, uint64_t block, uint64_t count), void *ctx)
{
	struct used_walk walk = {.fn = fn, .ctx = ctx};
	int err = 0;

	for (uint32_t i = 0; i < space->group_count && !err; i++)
		err = walk_group(space, &walk, i);
	return err ? err : tell_run(&walk);
}

/* ---- blocks of map pages ---------------------------------------------------------------- */

static void list_blocks(const struct page_map *map, uint64_t *blocks, uint64_t *count)
{
	for (unsigned level = 0; level < MAP_LEVELS; level++) {
		uint32_t end = level == MAP_LEAF ? map->existing_end : map->end[level];

		for (uint32_t i = 0; i < end; i++) {
			const struct map_node *node = map->nodes[level][i];

			if (node && node->block)
				blocks[(*count)++] = node->block;
		}
	}
}

int space_for_each_map_block(struct space *space, int (*fn)(void *ctx, uint64_t block), void *ctx)
{
	cleanup_free uint64_t *blocks = NULL;
	uint64_t count = 0;
	int err = 0;

	mutex_lock(&space->lock);
	count = space->space_map.node_count + space->manifest.node_count;
	blocks = calloc(count + 1, sizeof(*blocks));
	count = 0;
	if (blocks) {
		list_blocks(&space->space_map, blocks, &count);
		list_blocks(&space->manifest, blocks, &count);
	}
	mutex_unlock(&space->lock);
	if (!blocks)
		return -ENOMEM;
	for (uint64_t i = 0; i < count && !err; i++)
		err = fn(ctx, blocks[i]);
	return err;
}

/* ---- trim --------------------------------------------------------------------------------- */

static bool frame_is_free(const struct space *space, uint64_t frame)
{
	const struct group *group = space->groups[frame / GROUP_FRAMES];

	return !group || group->free[frame % GROUP_FRAMES] == FRAME_BLOCKS;
}

/* Takes the next run of free frames from *frame on; its length, 0: no more. */
static int hold_run(struct space *space, uint64_t *frame, uint64_t *ret_count)
{
	uint64_t end = space->layout.frame_count;
	uint64_t most = min_of(frames_to_spare_locked(space), (uint64_t)TRIM_FRAMES);
	uint64_t count = 0;
	int err = 0;

	while (*frame < end && !frame_is_free(space, *frame))
		++*frame;
	while (count < most && *frame + count < end && frame_is_free(space, *frame + count)) {
		err = space_take_locked(space, (*frame + count) * FRAME_BLOCKS, FRAME_BLOCKS);
		if (err)
			break;
		count++;
	}
	*ret_count = count;
	return count ? 0 : err;
}

static void let_go(struct space *space, uint64_t frame, uint64_t count)
{
	uint32_t last = (uint32_t)((frame + count - 1) / GROUP_FRAMES);

	space_give_back_locked(space, frame * FRAME_BLOCKS, count * FRAME_BLOCKS);
	for (uint32_t i = (uint32_t)(frame / GROUP_FRAMES); i <= last; i++)
		group_drop_locked(space, space->groups[i]);
}

int space_trim(struct space *space, uint64_t *ret_bytes)
{
	uint64_t frame = 0, count = 0, bytes = 0;
	int err;

	for (;;) {
		mutex_lock(&space->lock);
		err = hold_run(space, &frame, &count);
		mutex_unlock(&space->lock);
		if (err || count == 0)
			break;
		err = device_discard(space->device, frame * FRAME_BYTES, count * FRAME_BYTES);
		mutex_lock(&space->lock);
		let_go(space, frame, count);
		mutex_unlock(&space->lock);
		if (err)
			break;
		bytes += count * FRAME_BYTES;
		frame += count;
	}
	if (!err)
		*ret_bytes = bytes;
	return err;
}
