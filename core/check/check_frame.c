/*
 * A tree frame's image, for those who check it.
 *
 * It is read from where the newest state of it is: from the pool if it was changed since
 * the last checkpoint (the log was replayed in memory), else from its place on disk, past
 * the pool, so that what is verified is what lies there.
 */
#include "config.h"

#include "check/check_internal.h"

#include <stdlib.h>
#include <string.h>


#define IMAGE_GUARD BLOCK_BYTES /* readable behind the image */

/* A copy of the image if it is newer than the disk's; *ret_has false: it is not. */
static void copy_from_pool(struct check *check, uint64_t frame_id, uint8_t *image, bool *ret_has)
{
	struct pool *pool = store_pool(check->store);
	uint32_t slot = pool_latch_key_shared(pool, frame_key_make(FRAME_TREE, frame_id));

	*ret_has = false;
	if (slot == POOL_NO_SLOT)
		return;
	if (pool_dirty_epoch(pool, slot)) {
		memcpy(image, pool_memory(pool, slot), FRAME_BYTES);
		*ret_has = true;
	}
	pool_unlatch_shared(pool, slot);
}

/* -EUCLEAN: reported. */
static int read_from_disk(struct check *check, uint64_t frame_id, uint8_t *image)
{
	struct manifest_place place;
	uint32_t bad_block;
	int err;

	manifest_get(store_space(check->store), frame_id, &place);
	if (!place.disk_frame) {
		report_damage(check, "tree frame %llu: a crossing names it, but the manifest does not have it",
		    (ull)frame_id);
		return -EUCLEAN;
	}
	err = device_read(store_device(check->store), image, place.used_blocks * BLOCK_BYTES,
	    place.disk_frame * FRAME_BYTES);
	if (err) {
		report_damage(check, "tree frame %llu at disk frame %llu: cannot be read: %s",
		    (ull)frame_id, (ull)place.disk_frame, strerror(-err));
		return -EUCLEAN;
	}
	memset(image + place.used_blocks * BLOCK_BYTES, 0,
	    FRAME_BYTES - place.used_blocks * BLOCK_BYTES);
	err = tree_frame_verify(image, frame_id, place.header_checksum, place.used_blocks,
	    check->seed, &bad_block);
	if (err)
		report_damage(check, "tree frame %llu at disk frame %llu: block %u (of the volume: %llu) does not verify",
		    (ull)frame_id, (ull)place.disk_frame, bad_block,
		    (ull)(place.disk_frame * FRAME_BLOCKS + bad_block));
	return err;
}

int check_frame_read(struct check *check, uint64_t frame_id, uint8_t *image)
{
	bool is_newer;

	memset(image + FRAME_BYTES, 0, IMAGE_GUARD);
	copy_from_pool(check, frame_id, image, &is_newer);
	return is_newer ? 0 : read_from_disk(check, frame_id, image);
}

uint8_t *check_frame_alloc(void)
{
	return aligned_alloc(BLOCK_BYTES, FRAME_BYTES + IMAGE_GUARD);
}

/* -EUCLEAN: reported. */
int check_frame_walk(struct check *check, uint64_t frame_id, const uint8_t *image,
    const struct tree_visit *visit)
{
	const char *why;
	int err = tree_frame_walk(image, visit, &why);

	if (err == -EUCLEAN)
		report_damage(check, "tree frame %llu: %s", (ull)frame_id, why);
	return err;
}
