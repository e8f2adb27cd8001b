/*
 * Frames from disk into the pool.
 *
 * The loader publishes the slot, exclusively latched, before it reads: from then on nobody
 * else loads or changes the frame, so the place the manifest names stays right until the
 * image is there.  Others who want the frame wait on its latch.
 *
 * Who knows of several that will be wanted has them loaded at once (store_load_ahead):
 * a device reads eight frames in hardly more time than one.
 */
#include "config.h"

#include "store/store_internal.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"

/* In memory no frame has a place on disk. */
static void find_place(struct store *store, uint64_t frame_id, struct manifest_place *ret)
{
	*ret = (struct manifest_place){0};
	if (!store->is_memory)
		manifest_get(store->space, frame_id, ret);
}

/* ---- images ---------------------------------------------------------------------- */

struct image_read {
	struct device_request request;
	struct device_batch batch;
	int error;
};

static void begin_read(struct store *store, const struct manifest_place *place, uint32_t slot,
    void *image, struct image_read *read)
{
	*read = (struct image_read){
	    .request = {
		.op = DEVICE_READ,
		.slot = slot,
		.data = image,
		.bytes = place->used_blocks * BLOCK_BYTES,
		.offset = place->disk_frame * FRAME_BYTES,
	    },
	};
	device_batch_init(&read->batch);
	if (place->used_blocks == 0 || place->used_blocks > FRAME_BLOCKS)
		read->error = -EUCLEAN;
	else
		device_submit(store->device, &read->batch, &read->request, 1);
}

/* -EUCLEAN with @ret_block: that block of the image does not verify; not logged. */
static int end_read(struct store *store, uint64_t frame_id, const struct manifest_place *place,
    struct image_read *read, uint32_t *ret_block)
{
	int err = read->error;

	*ret_block = 0;
	if (!err)
		err = device_wait(store->device, &read->batch);
	return err ? err : tree_frame_verify(read->request.data, frame_id, place->header_checksum,
			       place->used_blocks, store->uuid_seed, ret_block);
}

void store_report_read(uint64_t frame_id, const struct manifest_place *place, uint32_t bad_block, int err)
{
	uint64_t offset = place->disk_frame * FRAME_BYTES + bad_block * BLOCK_BYTES;

	if (err != -EUCLEAN)
		log_error("tree frame %llu at disk frame %llu: read failed: %s",
		    (unsigned long long)frame_id, (unsigned long long)place->disk_frame, strerror(-err));
	else if (place->used_blocks == 0 || place->used_blocks > FRAME_BLOCKS)
		log_error("manifest: frame %llu has %u blocks", (unsigned long long)frame_id, place->used_blocks);
	else
		log_error("tree frame %llu: block %u at offset %llu does not verify",
		    (unsigned long long)frame_id, bad_block, (unsigned long long)offset);
}

/* False: the frame is not in the pool. */
static bool peek_pool(struct store *store, frame_key key, void *image, bool *ret_is_dirty)
{
	uint32_t slot;

	while ((slot = pool_find(store->pool, key)) != POOL_NO_SLOT) {
		const struct frame_header *header = pool_memory(store->pool, slot);
		bool is_it;

		pool_latch_shared(store->pool, slot);
		is_it = pool_is_owner(store->pool, slot, key);
		if (is_it) {
			memcpy(image, header, from_le32(header->heap_end));
			*ret_is_dirty = pool_dirty_epoch(store->pool, slot) != 0;
		}
		pool_unlatch_shared(store->pool, slot);
		if (is_it)
			return true;
	}
	return false;
}

int store_peek_frame(struct store *store, uint64_t frame_id, void *image, bool *ret_is_dirty)
{
	frame_key key = frame_key_make(FRAME_TREE, frame_id);
	struct manifest_place place, after;
	struct image_read read;
	uint32_t bad_block;
	int err;

	do {
		*ret_is_dirty = false;
		if (peek_pool(store, key, image, ret_is_dirty))
			return 0;
		find_place(store, frame_id, &place);
		if (!place.disk_frame) {
			/* New, and published since we looked; or gone. */
			return peek_pool(store, key, image, ret_is_dirty) ? 0 : -ENOENT;
		}
		begin_read(store, &place, DEVICE_NO_SLOT, image, &read);
		err = end_read(store, frame_id, &place, &read, &bad_block);
		find_place(store, frame_id, &after);
		/* Nothing kept the place from becoming another's. */
	} while (err == -EUCLEAN && after.disk_frame != place.disk_frame);
	if (err)
		store_report_read(frame_id, &place, bad_block, err);
	return err;
}

/* ---- loading --------------------------------------------------------------------- */

/* A frame on its way into its slot, which is latched. */
struct loading {
	uint64_t id;	   /* that it was asked for by */
	uint64_t image_id; /* that its image has; another one if the frame is kept for views */
	uint32_t slot;
	struct manifest_place place;
	struct image_read read;
	int error;
};

static int find_image(struct store *store, struct loading *loading)
{
	int err = 0;

	loading->image_id = loading->id;
	if (views_is_retained_id(loading->id))
		err = views_find_place(store, loading->id, &loading->image_id, &loading->place);
	else
		find_place(store, loading->id, &loading->place);
	return err || !loading->place.disk_frame ? -ENOENT : 0;
}

/* @slot is leased; on failure it is given back.  -EEXIST: the frame is in the pool. */
static int begin_load(struct store *store, uint64_t frame_id, uint32_t slot, struct loading *loading)
{
	int err;

	pool_latch_exclusive(store->pool, slot);
	err = pool_publish(store->pool, frame_key_make(FRAME_TREE, frame_id), slot);
	if (err) {
		pool_unlatch_exclusive(store->pool, slot);
		pool_release(store->pool, slot);
		return err;
	}
	*loading = (struct loading){.id = frame_id, .slot = slot};
	loading->error = find_image(store, loading);
	if (!loading->error)
		begin_read(store, &loading->place, slot, pool_memory(store->pool, slot), &loading->read);
	return 0;
}

static int end_image(struct store *store, struct loading *loading)
{
	struct manifest_place place;
	uint32_t bad_block;
	uint64_t id;
	int err = end_read(store, loading->image_id, &loading->place, &loading->read, &bad_block);

	/* Its views have ended, and the place is another's. */
	if (err && views_is_retained_id(loading->id) && views_find_place(store, loading->id, &id, &place))
		return -ENOENT;
	if (err)
		store_report_read(loading->image_id, &loading->place, bad_block, err);
	return err;
}

static int end_load(struct store *store, struct loading *loading)
{
	int err = loading->error ? loading->error : end_image(store, loading);

	if (err)
		pool_withdraw(store->pool, frame_key_make(FRAME_TREE, loading->id), loading->slot);
	else
		atomic_fetch_add_explicit(&store->stats.frame_loads, 1, memory_order_relaxed);
	pool_unlatch_exclusive(store->pool, loading->slot);
	if (err)
		pool_release(store->pool, loading->slot);
	return err;
}

int store_load_frame(struct store *store, uint64_t frame_id)
{
	struct loading loading;
	uint32_t slot;
	int err;

	/* In memory, whoever misses a frame read an edge that is no more. */
	if (store->is_memory)
		return -ENOENT;
	err = store_lease_slot(store, &slot);
	if (!err)
		err = begin_load(store, frame_id, slot, &loading);
	if (err)
		return err == -EEXIST ? 0 : err;
	return end_load(store, &loading);
}

void store_load_ahead(struct store *store, const uint64_t *frame_ids, uint32_t count)
{
	struct loading loadings[STORE_AHEAD_MOST];
	uint32_t begun = 0, slot;

	for (uint32_t i = 0; i < count && pool_lease(store->pool, &slot) == 0; i++)
		if (begin_load(store, frame_ids[i], slot, &loadings[begun]) == 0)
			begun++;
	for (uint32_t i = 0; i < begun; i++)
		end_load(store, &loadings[i]);
}

int store_check_need(struct store *store, const struct tree_need *need)
{
	struct manifest_place place;

	if (need->kind != TREE_NEED_FRAME)
		return -EAGAIN;
	find_place(store, need->frame_id, &place);
	if (place.disk_frame ||
	    pool_find(store->pool, frame_key_make(FRAME_TREE, need->frame_id)) != POOL_NO_SLOT)
		return -EAGAIN;
	log_error("tree frame %llu is referred to but not in the manifest",
	    (unsigned long long)need->frame_id);
	return -EUCLEAN;
}
