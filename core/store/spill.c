/*
 * Where images kept for views lie on disk.
 *
 * Those that were clean are where the manifest says, or said (view.c).  Those that were
 * dirty, and on no checkpoint's list, are in memory alone and cannot be evicted.  When they
 * take more than their share of the slots, or somebody waits for one, they are written to free disk frames that no
 * manifest names: allocated in memory only, so that a crash frees them.
 *
 * An image that is being written is busy: it is not buried meanwhile.  Its slot is latched
 * shared, for views may read it; nobody changes it.
 */
#include "config.h"

#include "store/view_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"

/* Dirty images of which only views know are spilled when they are more of the slots, or
 * when somebody waits for a slot: a batch may need every single one. */
#define DIRTY_SHARE 8u

static int write_image(struct store *store, uint64_t frame_id, uint32_t slot, struct manifest_place *ret)
{
	cleanup_free struct frame_header *header = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	char *image = pool_memory(store->pool, slot);
	int err = header ? space_alloc_frame(store->space, SPACE_DATA, &ret->disk_frame) : -ENOMEM;
	uint64_t offset = ret->disk_frame * FRAME_BYTES;

	if (err)
		return err;
	store_clear_tail(image);
	*header = *image_header_const(image);
	ret->header_checksum = tree_frame_seal(image, header, 0, store->uuid_seed);
	ret->used_blocks = tree_frame_used_blocks(image);
	err = device_write(store->device, header, BLOCK_BYTES, offset);
	if (!err)
		err = device_write(store->device, image + BLOCK_BYTES,
		    (ret->used_blocks - 1) * BLOCK_BYTES, offset + BLOCK_BYTES);
	if (err)
		space_cancel(store->space, ret->disk_frame * FRAME_BLOCKS, FRAME_BLOCKS);
	return err;
}

/* The image is not buried while it is busy. */
static struct retained *begin_spill(struct store *store, uint64_t id)
{
	struct retained *image;

	mutex_lock(&store->views.mutex);
	image = views_by_id_locked(&store->views, id);
	if (image && (!image->is_counted || image->is_dead || image->is_busy))
		image = NULL;
	if (image)
		image->is_busy = true;
	mutex_unlock(&store->views.mutex);
	return image;
}

static int spill(struct store *store, uint64_t id)
{
	struct retained *image = begin_spill(store, id);
	struct manifest_place place = {0};
	uint32_t slot;
	int err;

	if (!image)
		return 0;
	/* Dirty, so it is there. */
	slot = pool_latch_key_shared(store->pool, frame_key_make(FRAME_TREE, id));
	err = write_image(store, image->frame_id, slot, &place);
	pool_unlatch_shared(store->pool, slot);
	pool_latch_exclusive(store->pool, slot);
	mutex_lock(&store->views.mutex);
	if (!err) {
		image->place = place;
		image->kind = PLACE_OWN;
		image->is_counted = false;
		pool_set_dirty_epoch(store->pool, slot, 0);
		atomic_fetch_sub(&store->dirty_count, 1);
	}
	image->is_busy = false;
	mutex_unlock(&store->views.mutex);
	pool_unlatch_exclusive(store->pool, slot);
	return err;
}

/* The ids of dirty images; at most as many as there are slots. */
static uint64_t *list_dirty(struct store *store, uint32_t *ret_count)
{
	struct views *views = &store->views;
	uint32_t slots = pool_slot_count(store->pool), count = 0;
	uint64_t *ids = malloc(slots * sizeof(*ids));

	mutex_lock(&views->mutex);
	for (uint32_t i = 0; ids && i < BUCKETS && views->count; i++)
		for (const struct retained *image = views->buckets[i]; image; image = image->next)
			if (image->is_counted && !image->is_dead && count < slots)
				ids[count++] = image->id;
	mutex_unlock(&views->mutex);
	*ret_count = count;
	return ids;
}

void views_spill(struct store *store)
{
	cleanup_free uint64_t *ids = NULL;
	uint32_t count;

	if (!atomic_load(&store->tree.newest_view))
		return;
	ids = list_dirty(store, &count);
	if (!atomic_exchange(&store->is_short_of_slots, false) &&
	    count <= pool_slot_count(store->pool) / DIRTY_SHARE)
		return;
	for (uint32_t i = 0; i < count; i++) {
		while (spill(store, ids[i]) && views_end_oldest(store))
			;
	}
	views_bury(store);
}

int views_find_place(struct store *store, uint64_t id, uint64_t *ret_frame_id, struct manifest_place *ret)
{
	struct retained *image;
	bool is_there;

	mutex_lock(&store->views.mutex);
	image = views_by_id_locked(&store->views, id);
	is_there = image && !image->is_dead && image->kind != PLACE_NONE;
	if (is_there) {
		*ret_frame_id = image->frame_id;
		*ret = image->place;
	}
	mutex_unlock(&store->views.mutex);
	return is_there ? 0 : -ENOENT;
}

bool views_is_retained_id(uint64_t id)
{
	return id >= ID_FIRST;
}
