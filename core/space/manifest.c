/*
 * Where on disk each tree frame lies.
 *
 * A page map whose entry `id` is the place of tree frame `id`.  It changes only
 * within checkpoints, all of whose changes it saves, so live state and image are the
 * same; the old entries are remembered until the thaw, to be put back if the
 * checkpoint fails.
 *
 * Invariant: every entry that is not all zeros is a frame that may hold a tree frame,
 * and 1 to 128 blocks of it.  Entries from disk are checked for this at open.
 *
 * manifest_set() has no result: a failure is kept and given by space_write_maps(),
 * which comes after it in every checkpoint.
 */
#include "config.h"

#include "space/space_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"

static struct manifest_place place_of(const struct manifest_entry *entry)
{
	return (struct manifest_place){
	    .disk_frame = from_le64(entry->disk_frame),
	    .header_checksum = from_le32(entry->header_checksum),
	    .used_blocks = from_le32(entry->used_blocks),
	};
}

static bool is_good_place(const struct space *space, const struct manifest_place *place)
{
	if (place->disk_frame == 0)
		return place->header_checksum == 0 && place->used_blocks == 0;
	return place->disk_frame < space->layout.frame_count &&
	       layout_has_run(&space->layout, place->disk_frame * FRAME_BLOCKS, FRAME_BLOCKS) &&
	       place->used_blocks >= 1 && place->used_blocks <= FRAME_BLOCKS;
}

int manifest_verify(struct space *space)
{
	for (uint32_t number = 0; number < space->manifest.existing_end; number++) {
		const struct map_node *leaf = page_map_leaf(&space->manifest, number);

		for (unsigned i = 0; i < MAP_PAGE_ENTRIES && leaf; i++) {
			struct manifest_place place = place_of(&leaf->entries->manifest[i]);

			if (is_good_place(space, &place))
				continue;
			log_error("manifest: leaf page %u at block %llu: frame "
				  "id %llu lies outside the volume",
			    number, (unsigned long long)leaf->block,
			    (unsigned long long)number * MAP_PAGE_ENTRIES + i);
			return -EUCLEAN;
		}
	}
	return 0;
}

void manifest_get(struct space *space, uint64_t frame_id, struct manifest_place *ret)
{
	const struct map_node *leaf;

	*ret = (struct manifest_place){};
	mutex_lock(&space->lock);
	leaf = page_map_leaf(&space->manifest, frame_id / MAP_PAGE_ENTRIES);
	if (leaf)
		*ret = place_of(&leaf->entries->manifest[frame_id % MAP_PAGE_ENTRIES]);
	mutex_unlock(&space->lock);
}

static int set_place(struct space *space, uint64_t frame_id, const struct manifest_place *place)
{
	struct manifest_place clean = place->disk_frame ? *place : (struct manifest_place){};
	struct manifest_entry *entry;
	struct map_node *leaf;
	int err;

	if (frame_id >= MAP_ENTRIES_MAX)
		return -EOVERFLOW;
	if (!is_good_place(space, &clean))
		return -EUCLEAN;
	leaf = page_map_make_leaf(&space->manifest, (uint32_t)(frame_id / MAP_PAGE_ENTRIES));
	if (!leaf)
		return -ENOMEM;
	err = array_grow((void **)&space->manifest_changes, space->manifest_change_count,
	    &space->manifest_change_room, sizeof(space->manifest_changes[0]));
	if (err)
		return err;
	entry = &leaf->entries->manifest[frame_id % MAP_PAGE_ENTRIES];
	space->manifest_changes[space->manifest_change_count++] =
	    (struct manifest_change){frame_id, *entry};
	*entry = (struct manifest_entry){
	    .disk_frame = to_le64(clean.disk_frame),
	    .header_checksum = to_le32(clean.header_checksum),
	    .used_blocks = to_le32(clean.used_blocks),
	};
	leaf->is_dirty = true;
	return 0;
}

void manifest_set(struct space *space, uint64_t frame_id, const struct manifest_place *place)
{
	int err;

	mutex_lock(&space->lock);
	ASSERT(space->manifest.is_frozen);
	err = set_place(space, frame_id, place);
	if (err && !space->checkpoint_error)
		space->checkpoint_error = err;
	mutex_unlock(&space->lock);
}

void manifest_take_back_locked(struct space *space)
{
	for (uint64_t i = space->manifest_change_count; i-- > 0;) {
		const struct manifest_change *change = &space->manifest_changes[i];
		struct map_node *leaf =
		    page_map_leaf(&space->manifest, change->frame_id / MAP_PAGE_ENTRIES);

		leaf->entries->manifest[change->frame_id % MAP_PAGE_ENTRIES] = change->old;
	}
}

/* The entries of one leaf, copied so that the callback runs without the lock. */
static bool copy_leaf(struct space *space, uint32_t number, union map_entries *ret)
{
	const struct map_node *leaf;

	mutex_lock(&space->lock);
	leaf = page_map_leaf(&space->manifest, number);
	if (leaf)
		*ret = *leaf->entries;
	mutex_unlock(&space->lock);
	return leaf != NULL;
}

static uint32_t leaf_end(struct space *space)
{
	uint32_t end;

	mutex_lock(&space->lock);
	end = space->manifest.existing_end;
	mutex_unlock(&space->lock);
	return end;
}

int manifest_for_each(struct space *space,
    int (*fn)(void *ctx, uint64_t frame_id, const struct manifest_place *place), void *ctx)
{
	uint32_t end = leaf_end(space);
	union map_entries entries;
	int err = 0;

	for (uint32_t number = 0; number < end && !err; number++) {
		if (!copy_leaf(space, number, &entries))
			continue;
		for (unsigned i = 0; i < MAP_PAGE_ENTRIES && !err; i++) {
			struct manifest_place place = place_of(&entries.manifest[i]);

			if (place.disk_frame)
				err = fn(ctx, (uint64_t)number * MAP_PAGE_ENTRIES + i, &place);
		}
	}
	return err;
}
