/*
 * Open and close: the maps are loaded whole and believed only when they agree.
 *
 * Everything is in memory after open; nothing is read later.  What is checked here
 * need not be asked again, and a call that changes the maps cannot run into damage:
 *  - every page verifies (page_map.c);
 *  - no block past the end of the volume is in use;
 *  - frames of superblock and journal are in use, so nobody is given one;
 *  - manifest entries lie on the volume;
 *  - the blocks that hold map pages are in use, and their frames become homes of map
 *    pages again, which is not saved.
 *
 * A new volume has empty maps but for the frames of superblock and journal; nothing
 * is written until the first checkpoint.
 */
#include "config.h"

#include "space/space_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"

static int check_layout(const struct space_layout *layout, uint64_t device_bytes)
{
	uint64_t frames = layout->frame_count;

	if (frames < 4 || frames > MAP_ENTRIES_MAX || frames > device_bytes / FRAME_BYTES ||
	    layout->journal_first == 0 || layout->journal_frames == 0 ||
	    layout->journal_first >= frames ||
	    layout->journal_frames >= frames - layout->journal_first) {
		log_error("superblock: frames or journal out of range");
		return -EUCLEAN;
	}
	return 0;
}

/* Superblock and journal frames are used in every map, and counted in none. */
static bool is_meta_frame(const struct space *space, uint64_t frame)
{
	return frame == 0 || frame - space->layout.journal_first < space->layout.journal_frames;
}

static int make_empty_maps(struct space *space)
{
	uint64_t end = space->layout.journal_first + space->layout.journal_frames;

	for (uint64_t frame = 0; frame < end; frame++) {
		unsigned slot = (unsigned)(frame % GROUP_FRAMES);
		struct group *group;

		if (!is_meta_frame(space, frame))
			continue;
		group = group_make_locked(space, (uint32_t)(frame / GROUP_FRAMES));
		if (!group)
			return -ENOMEM;
		entries_set(group->leaf->entries, slot, BITS_ALL, true);
		page_map_mark(&space->space_map, group->leaf);
		index_update_locked(space, group, slot);
	}
	return 0;
}

static int adopt_leaf(struct space *space, const struct map_node *leaf)
{
	uint32_t frames = group_frames(space, leaf->number);
	struct group *group = group_make_locked(space, leaf->number);

	if (!group)
		return -ENOMEM;
	for (unsigned slot = 0; slot < GROUP_FRAMES; slot++) {
		struct bits used = entries_used(leaf->entries, slot);

		if (bits_is_zero(used))
			continue;
		if (slot >= frames) {
			log_error("space map: leaf page %u at block %llu: uses "
				  "blocks past the volume",
			    leaf->number, (unsigned long long)leaf->block);
			return -EUCLEAN;
		}
		if (!is_meta_frame(space, (uint64_t)leaf->number * GROUP_FRAMES + slot))
			space->used_blocks += bits_count(used);
		index_update_locked(space, group, slot);
	}
	return 0;
}

static int check_meta_frames(const struct space *space)
{
	uint64_t end = space->layout.journal_first + space->layout.journal_frames;

	for (uint64_t frame = 0; frame < end; frame++) {
		if (!is_meta_frame(space, frame) ||
		    space_run_is_used_locked(space, frame * FRAME_BLOCKS, FRAME_BLOCKS))
			continue;
		log_error("space map: frame %llu of superblock or journal is not in use",
		    (unsigned long long)frame);
		return -EUCLEAN;
	}
	return 0;
}

/* Map pages lie in blocks that are in use, and their frames are homes of maps. */
static int adopt_map_pages(struct space *space, const struct page_map *map)
{
	for (unsigned level = 0; level < MAP_LEVELS; level++) {
		uint32_t end = level == MAP_LEAF ? map->existing_end : map->end[level];

		for (uint32_t i = 0; i < end; i++) {
			struct map_node *node = map->nodes[level][i];
			int err;

			if (!node || node->block == 0)
				continue;
			if (!space_run_is_used_locked(space, node->block, 1)) {
				log_error("space map: block %llu holds a map "
					  "page but is not in use",
				    (unsigned long long)node->block);
				return -EUCLEAN;
			}
			err = index_add_map_frame_locked(space, node->block / FRAME_BLOCKS);
			if (err)
				return err;
		}
	}
	return 0;
}

static int load_maps(struct space *space, const struct superblock *superblock)
{
	struct page_map *map = &space->space_map;
	int err;

	err = page_map_load(map, space->device, &superblock->space);
	if (!err)
		err = page_map_load(&space->manifest, space->device, &superblock->manifest);
	for (uint32_t i = 0; i < map->existing_end && !err; i++) {
		if (page_map_leaf(map, i))
			err = adopt_leaf(space, page_map_leaf(map, i));
	}
	if (!err)
		err = check_meta_frames(space);
	if (!err)
		err = manifest_verify(space);
	if (!err)
		err = adopt_map_pages(space, map);
	if (!err)
		err = adopt_map_pages(space, &space->manifest);
	return err;
}

static int init_maps(struct space *space)
{
	int err;

	err = page_map_init(&space->space_map, MAP_SPACE, &space->layout,
	    space->layout.frame_count);
	if (!err)
		err = page_map_init(&space->manifest, MAP_MANIFEST,
		    &space->layout, MAP_ENTRIES_MAX);
	if (err)
		return err;
	space->group_count = space->space_map.end[MAP_LEAF];
	space->groups = calloc(space->group_count, sizeof(space->groups[0]));
	return space->groups ? index_init(space) : -ENOMEM;
}

int space_open(const struct space_options *options, struct space **ret)
{
	const struct superblock *superblock = options->superblock;
	struct space *space = calloc(1, sizeof(*space));
	int err;

	if (!space)
		return -ENOMEM;
	mutex_init(&space->lock, RANK_SPACE);
	space->device = options->device;
	space->layout = (struct space_layout){
	    .frame_count = from_le64(superblock->frame_count),
	    .journal_first = from_le64(superblock->journal_first_frame),
	    .journal_frames = from_le64(superblock->journal_frames),
	    .seed = uuid_seed(superblock->uuid),
	};
	err = check_layout(&space->layout, device_bytes(space->device));
	if (!err)
		err = init_maps(space);
	if (!err)
		err = options->is_new ? make_empty_maps(space) : load_maps(space, superblock);
	if (err)
		space_close(space);
	else
		*ret = space;
	return err;
}

void space_close(struct space *space)
{
	if (!space)
		return;
	for (uint32_t i = 0; i < space->group_count && space->groups; i++) {
		if (space->groups[i])
			group_destroy(space->groups[i]);
	}
	free(space->groups);
	index_fini(space);
	page_map_fini(&space->space_map);
	page_map_fini(&space->manifest);
	free(space->changes);
	free(space->manifest_changes);
	mutex_fini(&space->lock);
	free(space);
}
