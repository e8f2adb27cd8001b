/*
 * Saving the maps: freeze, move pages, write them, thaw.
 *
 *   freeze      both maps get an image; the generations of resting blocks change
 *   (changes)   of the checkpoint itself, in image and live state, remembered
 *   move        every dirty page gives up its block and gets another
 *   write       image pages, children before parents, many at once
 *   thaw        durable: old blocks are free; failed: all is taken back
 *
 * Moving a page changes the very map that is being saved: the bit of its new block
 * is set and that of the old one cleared, which may make two more leaves dirty.  So
 * pages are moved in rounds until a round finds nothing to do.  A page moves at most
 * once, so there are no more rounds than pages; and as homes of map pages are few
 * and near each other, it is two or three.  Nothing is printed before that, and no
 * bit of the image changes after it.
 *
 * A page of zeros gets no block.  If a later round puts a bit on it after all (its
 * frames took a map page), it gets one then.
 *
 * Invariants
 *  1. Blocks of old pages, and what space_frozen_free() names, rest until the thaw:
 *     the superblock on disk still leads to them.
 *  2. After a failed checkpoint nothing that either superblock could name is free:
 *     old blocks are used again, new ones stay allocated for good, and what rested
 *     goes on resting.
 *
 * Crash: at any point before the superblock is written the old maps are whole, as
 * none of their blocks was touched; after it the new ones are.
 */
#include "config.h"

#include "space/space_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"

#define WRITE_PAGES 256u /* in one batch of writes */

int array_grow(void **array, uint64_t count, uint64_t *room, size_t element_bytes)
{
	uint64_t more = *room ? *room * 2 : 64;
	void *grown;

	if (count < *room)
		return 0;
	grown = reallocarray(*array, more, element_bytes);
	if (!grown)
		return -ENOMEM;
	*array = grown;
	*room = more;
	return 0;
}

void space_freeze(struct space *space)
{
	mutex_lock(&space->lock);
	page_map_freeze(&space->space_map);
	page_map_freeze(&space->manifest);
	space->young ^= 1;
	mutex_unlock(&space->lock);
}

/* ---- changes of the checkpoint itself ------------------------------------------ */

static int frozen_change(struct space *space, uint64_t block, uint32_t count,
    enum frozen_kind kind)
{
	int err;

	ASSERT(space->space_map.is_frozen);
	err = array_grow((void **)&space->changes, space->change_count, &space->change_room,
	    sizeof(space->changes[0]));
	if (!err && kind == FROZEN_USE)
		err = space_use_locked(space, block, count, true);
	else if (!err && kind == FROZEN_FREE)
		err = space_free_locked(space, block, count, true);
	else if (!err)
		err = space_keep_locked(space, block, count);
	if (!err)
		space->changes[space->change_count++] =
		    (struct frozen_change){block, count, kind};
	return err;
}

int space_frozen_use(struct space *space, uint64_t block, uint32_t count)
{
	int err;

	mutex_lock(&space->lock);
	err = frozen_change(space, block, count, FROZEN_USE);
	mutex_unlock(&space->lock);
	return err;
}

int space_frozen_free(struct space *space, uint64_t block, uint32_t count)
{
	int err;

	mutex_lock(&space->lock);
	err = frozen_change(space, block, count, FROZEN_FREE);
	mutex_unlock(&space->lock);
	return err;
}

int space_frozen_keep(struct space *space, uint64_t block, uint32_t count)
{
	int err;

	mutex_lock(&space->lock);
	err = frozen_change(space, block, count, FROZEN_KEEP);
	mutex_unlock(&space->lock);
	return err;
}

/* ---- moving pages ------------------------------------------------------------------ */

static uint32_t level_end(const struct page_map *map, unsigned level)
{
	return level == MAP_LEAF ? map->existing_end : map->end[level];
}

/* Dirty, and has no place yet where it needs one. */
static bool must_move(const struct page_map *map, const struct map_node *node)
{
	if (!node->is_dirty)
		return false;
	return !node->is_moved || (node->next_block == 0 && !page_map_is_empty(map, node));
}

static int move_page(struct space *space, struct page_map *map, struct map_node *node)
{
	struct map_node *parent = page_map_parent(map, node);
	uint64_t block;
	int err = 0;

	if (!node->is_moved && node->block) {
		err = frozen_change(space, node->block, 1, FROZEN_FREE);
		if (err)
			return err;
		space->map_resting_blocks++;
	}
	node->is_moved = true;
	if (parent)
		parent->is_dirty = true;
	if (page_map_is_empty(map, node))
		return 0;
	err = alloc_map_block_locked(space, &block);
	if (err)
		return err;
	node->next_block = block;
	return frozen_change(space, block, 1, FROZEN_USE);
}

static int move_round(struct space *space, struct page_map *map, bool *is_changed)
{
	for (unsigned level = 0; level < MAP_LEVELS; level++) {
		for (uint32_t i = 0; i < level_end(map, level); i++) {
			struct map_node *node = map->nodes[level][i];
			int err;

			if (!node || !must_move(map, node))
				continue;
			*is_changed = true;
			err = move_page(space, map, node);
			if (err)
				return err;
		}
	}
	return 0;
}

static int move_pages(struct space *space)
{
	bool is_changed = true;
	int err = space->checkpoint_error;

	while (is_changed && !err) {
		is_changed = false;
		err = move_round(space, &space->manifest, &is_changed);
		if (!err)
			err = move_round(space, &space->space_map, &is_changed);
	}
	return err;
}

/* ---- writing -------------------------------------------------------------------------- */

struct write_item {
	struct page_map *map;
	struct map_node *node;
};

struct write_list {
	struct write_item *items;
	uint32_t count;
};

static void list_moved(struct page_map *map, unsigned level, struct write_list *list)
{
	for (uint32_t i = 0; i < level_end(map, level); i++) {
		struct map_node *node = map->nodes[level][i];

		if (node && node->is_moved && node->next_block)
			list->items[list->count++] = (struct write_item){map, node};
	}
}

static int compare_places(const void *a, const void *b)
{
	const struct write_item *left = a;
	const struct write_item *right = b;

	return (left->node->next_block > right->node->next_block) -
	       (left->node->next_block < right->node->next_block);
}

/* Children before parents; pages of a level in the order in which they will lie. */
static int list_pages(struct space *space, struct write_list *ret)
{
	uint64_t count = space->manifest.node_count + space->space_map.node_count;

	*ret = (struct write_list){.items = calloc(count + 1, sizeof(ret->items[0]))};
	if (!ret->items)
		return -ENOMEM;
	for (unsigned level = 0; level < MAP_LEVELS; level++) {
		uint32_t first = ret->count;

		list_moved(&space->manifest, level, ret);
		list_moved(&space->space_map, level, ret);
		qsort(&ret->items[first], ret->count - first,
		    sizeof(ret->items[0]), compare_places);
	}
	return 0;
}

/* Neighbours on disk go with one request. */
static int write_pages(struct space *space, const struct write_item *items, uint32_t count,
    struct map_page *pages)
{
	struct device_request requests[WRITE_PAGES];
	struct device_batch batch;
	uint32_t request_count = 0;
	int err;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t block = items[i].node->next_block;

		if (i > 0 && block == items[i - 1].node->next_block + 1) {
			requests[request_count - 1].bytes += BLOCK_BYTES;
			continue;
		}
		requests[request_count++] = (struct device_request){
		    .op = DEVICE_WRITE,
		    .slot = DEVICE_NO_SLOT,
		    .data = &pages[i],
		    .bytes = BLOCK_BYTES,
		    .offset = block * BLOCK_BYTES,
		};
	}
	device_batch_init(&batch);
	device_submit(space->device, &batch, requests, request_count);
	err = device_wait(space->device, &batch);
	if (err)
		log_error("writing %u map pages near block %llu: %s", count,
		    (unsigned long long)items[0].node->next_block, strerror(-err));
	return err;
}

static int write_list(struct space *space, const struct write_list *list, uint64_t generation)
{
	uint32_t room = min_of(list->count, WRITE_PAGES);
	cleanup_free struct map_page *pages = NULL;
	int err = 0;

	if (list->count == 0)
		return 0;
	pages = aligned_alloc(DEVICE_ALIGN, room * sizeof(*pages));
	if (!pages)
		return -ENOMEM;
	for (uint32_t first = 0; first < list->count && !err; first += room) {
		const struct write_item *items = &list->items[first];
		uint32_t count = min_of(list->count - first, room);

		/* Transactions go on changing the live state of these leaves. */
		mutex_lock(&space->lock);
		for (uint32_t i = 0; i < count; i++)
			page_map_print(items[i].map, items[i].node, generation, &pages[i]);
		mutex_unlock(&space->lock);
		err = write_pages(space, items, count, pages);
	}
	return err;
}

int space_write_maps(struct space *space, uint64_t generation, struct superblock *superblock)
{
	struct write_list list = {};
	int err;

	mutex_lock(&space->lock);
	ASSERT(space->space_map.is_frozen);
	err = move_pages(space);
	if (!err)
		err = list_pages(space, &list);
	mutex_unlock(&space->lock);
	if (!err)
		err = write_list(space, &list, generation);
	free(list.items);
	if (err)
		return err;
	mutex_lock(&space->lock);
	page_map_root(&space->manifest, &superblock->manifest);
	page_map_root(&space->space_map, &superblock->space);
	mutex_unlock(&space->lock);
	return 0;
}

/* ---- thaw ---------------------------------------------------------------------------------- */

static void release_old(struct space *space, struct group *group)
{
	struct group_bits *old = group->resting[space->young ^ 1];

	group->resting[space->young ^ 1] = NULL;
	if (!old)
		return;
	space->resting_blocks -= old->count;
	for (unsigned slot = 0; slot < GROUP_FRAMES; slot++) {
		if (!bits_is_zero(old->frame[slot]))
			index_update_locked(space, group, slot);
	}
	free(old);
}

/* What rested since before the freeze rests on, with the younger ones. */
static void keep_old(struct space *space, struct group *group)
{
	struct group_bits **old = &group->resting[space->young ^ 1];
	struct group_bits **young = &group->resting[space->young];

	if (*old && *young) {
		for (unsigned slot = 0; slot < GROUP_FRAMES; slot++)
			group_set(*young, slot, (*old)->frame[slot]);
		free(*old);
	} else if (*old) {
		*young = *old;
	}
	*old = NULL;
}

static void free_if_unused(struct group_bits **bits)
{
	if (*bits && (*bits)->count == 0) {
		free(*bits);
		*bits = NULL;
	}
}

/* Memory that groups and leaves no longer need. */
static void sweep(struct space *space)
{
	for (uint32_t i = 0; i < space->group_count; i++) {
		struct group *group = space->groups[i];

		if (!group)
			continue;
		free_if_unused(&group->allocated);
		free_if_unused(&group->guarded);
		free_if_unused(&group->resting[0]);
		free_if_unused(&group->resting[1]);
		group_drop_locked(space, group);
	}
	for (uint32_t i = 0; i < space->manifest.existing_end; i++) {
		struct map_node *leaf = page_map_leaf(&space->manifest, i);

		if (leaf && leaf->block == 0 && !leaf->is_dirty)
			page_map_drop_leaf(&space->manifest, leaf);
	}
}

static void take_all_back(struct space *space)
{
	for (uint64_t i = space->change_count; i-- > 0;)
		space_take_back_locked(space, &space->changes[i]);
	manifest_take_back_locked(space);
}

void space_thaw(struct space *space, bool is_durable)
{
	mutex_lock(&space->lock);
	page_map_thaw(&space->space_map, is_durable);
	page_map_thaw(&space->manifest, is_durable);
	if (!is_durable)
		take_all_back(space);
	for (uint32_t i = 0; i < space->group_count; i++) {
		if (space->groups[i] && is_durable)
			release_old(space, space->groups[i]);
		else if (space->groups[i])
			keep_old(space, space->groups[i]);
	}
	space->map_resting_blocks = 0;
	space->change_count = 0;
	space->manifest_change_count = 0;
	space->checkpoint_error = 0;
	sweep(space);
	mutex_unlock(&space->lock);
}
