/*
 * Checkpoints: the whole tree as of one LSN, written beside the old one.
 *
 *   1. Gate exclusive, for microseconds: no batch is half applied.  The log is cut at
 *      LSN C, the epoch raised, the list of frames changed in the old epoch taken,
 *      the space map frozen.  From here on writers copy a frame of the list before
 *      they change it, so its old image stays as it was at C.
 *   2. Every image of the list goes to a fresh disk frame, straight from its slot.
 *      Header and checksums are made in a buffer of their own: nothing in the image
 *      is written to, so readers and copiers need no latch against us.
 *   3. Flush.  Changed pages of manifest and space map go to fresh blocks.  Flush.
 *      Both superblocks.
 *   4. Old disk frames, map blocks and freed data blocks become free; the log's tail
 *      moves to C.
 *
 * A crash before the first superblock is durable leaves the old image and the log from
 * its LSN on; after it, the new ones.  A failure leaves the store read-only.
 *
 * Who owns a slot of the list when all is over: if it is still the frame's live slot
 * it is clean now; if not, its frame was copied or dropped meanwhile, and the slot is
 * ours to release.  Not before: should the checkpoint fail, the manifest goes back to
 * the old places, and an image evicted meanwhile would be read again as it was.
 */
#include "config.h"

#include "store/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"

/* Two groups of frames take turns: one is sealed while the other is being written. */
#define GROUP_IMAGES 16

/* Spare slots for the first copies of writers, and beyond twice as many as copies were made. */
#define SPARES_AHEAD 32u

struct dirty_frame {
	uint64_t frame_id;
	uint32_t slot;
};

struct checkpoint {
	struct store *store;
	lsn_t lsn;
	uint32_t pieces; /* of the record there, in recovery */
	uint64_t epoch;	 /* of the images it writes */
	uint64_t frame_id_end, internal_root, empty_frames;
	struct dirty_frame *frames;
	uint32_t frame_count;
	struct id_list dropped;
	uint64_t copies_before; /* made by writers until it began */
	struct frame_header *headers; /* GROUP_IMAGES for each group */
};

int store_fail(struct store *store, int error, const char *what)
{
	int none = 0;

	if (atomic_compare_exchange_strong(&store->error, &none, error)) {
		log_error("%s: %s; the volume is read-only from now on", what, strerror(-error));
		if (store->journal)
			journal_stop(store->journal);
	}
	return error;
}

/* ---- 1: the cut -------------------------------------------------------------------- */

static void take_lists(struct checkpoint *checkpoint)
{
	struct store *store = checkpoint->store;
	struct id_list dirty;

	mutex_lock(&store->dirty_mutex);
	dirty = store->dirty;
	store->dirty = (struct id_list){0};
	checkpoint->dropped = store->dropped;
	store->dropped = (struct id_list){0};
	checkpoint->frame_id_end = store->next_id;
	mutex_unlock(&store->dirty_mutex);

	for (uint32_t i = 0; i < dirty.count; i++) {
		uint32_t slot = pool_find(store->pool, frame_key_make(FRAME_TREE, dirty.ids[i]));

		if (slot != POOL_NO_SLOT && pool_dirty_epoch(store->pool, slot)) {
			checkpoint->frames[checkpoint->frame_count++] =
			    (struct dirty_frame){.frame_id = dirty.ids[i], .slot = slot};
			continue;
		}
		/* Changed and dropped in the same epoch: nothing to write. */
		space_unreserve(store->space, SPACE_TREE, FRAME_BLOCKS);
		atomic_fetch_sub(&store->dirty_count, 1);
	}
	atomic_store(&store->frozen_count, checkpoint->frame_count);
	free(dirty.ids);
}

static int begin(struct checkpoint *checkpoint)
{
	struct store *store = checkpoint->store;
	uint32_t slots = pool_slot_count(store->pool);

	checkpoint->frames = malloc(slots * sizeof(*checkpoint->frames));
	checkpoint->headers = aligned_alloc(BLOCK_BYTES, 2 * GROUP_IMAGES * BLOCK_BYTES);
	if (!checkpoint->frames || !checkpoint->headers || store->out_of_memory)
		return -ENOMEM;
	/* Without a thread of ours there may be nobody beside us, or threads of the program. */
	if (store->has_thread || store->has_company)
		store_stock_spares(store, min_of(SPARES_AHEAD, atomic_load(&store->dirty_count)));
	gate_enter_exclusive(store->gate);
	checkpoint->lsn = store->journal ? journal_cut(store->journal) : store->replay_lsn;
	checkpoint->pieces = store->journal ? 0 : store->replay_pieces;
	checkpoint->epoch = store->tree.epoch++;
	atomic_store(&store->cut_lsn, checkpoint->lsn);
	checkpoint->copies_before = atomic_load(&store->tree.counters.cow_copies);
	store->tree.cut = store->internal.cut = store->internal.epoch = store->tree.epoch;
	checkpoint->internal_root = store->internal.root_id;
	checkpoint->empty_frames = atomic_load(&store->empty_frames);
	take_lists(checkpoint);
	space_freeze(store->space);
	atomic_store(&store->pending_bytes, 0);
	gate_leave_exclusive(store->gate);
	return 0;
}

/* ---- 2: the images ----------------------------------------------------------------- */

static void settle_frame(struct store *store, const struct dirty_frame *frame, uint64_t epoch, bool is_written)
{
	frame_key key = frame_key_make(FRAME_TREE, frame->frame_id);
	bool is_live, is_kept;

	pool_latch_exclusive(store->pool, frame->slot);
	is_live = pool_is_owner(store->pool, frame->slot, key);
	if (is_live) {
		ASSERT(pool_dirty_epoch(store->pool, frame->slot) <= epoch);
		/* Not written: no checkpoint is left that would own a frozen image. */
		pool_set_dirty_epoch(store->pool, frame->slot, is_written ? 0 : store->tree.epoch);
	}
	is_kept = !is_live && views_settle(store, frame->frame_id, frame->slot, is_written);
	pool_unlatch_exclusive(store->pool, frame->slot);
	if (!is_live && !is_kept)
		pool_release(store->pool, frame->slot);
	atomic_fetch_sub(&store->dirty_count, 1);
}

/* A fresh disk frame for the image; the old one goes. */
static int place_frame(struct store *store, uint64_t frame_id, uint64_t *ret_disk_frame)
{
	struct manifest_place old;
	int err;

	space_unreserve(store->space, SPACE_TREE, FRAME_BLOCKS);
	err = space_alloc_frame(store->space, SPACE_TREE, ret_disk_frame);
	if (!err)
		err = space_frozen_use(store->space, *ret_disk_frame * FRAME_BLOCKS, FRAME_BLOCKS);
	manifest_get(store->space, frame_id, &old);
	if (!err && old.disk_frame)
		err = views_free_place(store, frame_id, old.disk_frame);
	return err;
}

void store_clear_tail(void *image)
{
	uint32_t end = from_le32(image_header(image)->heap_end);

	memset((char *)image + end, 0, round_up(end, BLOCK_BYTES) - end);
}

static int prepare_frame(struct checkpoint *checkpoint, const struct dirty_frame *frame,
    struct frame_header *header, struct manifest_place *place, struct device_request requests[2])
{
	struct store *store = checkpoint->store;
	char *image = pool_memory(store->pool, frame->slot);
	int err = place_frame(store, frame->frame_id, &place->disk_frame);

	if (err)
		return err;
	store_clear_tail(image);
	*header = *image_header_const(image);
	place->header_checksum = tree_frame_seal(image, header, checkpoint->lsn, store->uuid_seed);
	place->used_blocks = tree_frame_used_blocks(image);
	requests[0] = (struct device_request){
	    .op = DEVICE_WRITE,
	    .slot = DEVICE_NO_SLOT,
	    .data = header,
	    .bytes = BLOCK_BYTES,
	    .offset = place->disk_frame * FRAME_BYTES,
	};
	requests[1] = (struct device_request){
	    .op = DEVICE_WRITE,
	    .slot = frame->slot,
	    .data = image + BLOCK_BYTES,
	    .bytes = (place->used_blocks - 1) * BLOCK_BYTES,
	    .offset = place->disk_frame * FRAME_BYTES + BLOCK_BYTES,
	};
	return 0;
}

/* Some frames of the list on their way to the disk. */
struct image_group {
	struct frame_header *headers;
	uint32_t first, count;
	struct device_request requests[2 * GROUP_IMAGES];
	struct manifest_place places[GROUP_IMAGES];
	struct device_batch batch;
};

/* Seals the next frames and starts their writes.  After an error those begun are still
 * to be waited for. */
static int start_group(struct checkpoint *checkpoint, struct image_group *group, uint32_t first)
{
	uint32_t left = checkpoint->frame_count - first;
	int err = 0;

	group->first = first;
	group->count = 0;
	device_batch_init(&group->batch);
	while (!err && group->count < min_of(left, (uint32_t)GROUP_IMAGES)) {
		uint32_t i = group->count;

		err = prepare_frame(checkpoint, &checkpoint->frames[first + i],
		    &group->headers[i], &group->places[i], &group->requests[2 * i]);
		if (err)
			break;
		/* Every image has a root node, so the second request is not empty. */
		device_submit(checkpoint->store->device, &group->batch, &group->requests[2 * i], 2);
		group->count++;
	}
	return err;
}

static int end_group(struct checkpoint *checkpoint, struct image_group *group)
{
	struct store *store = checkpoint->store;
	int err = device_wait(store->device, &group->batch);

	for (uint32_t i = 0; i < group->count && !err; i++)
		manifest_set(store->space, checkpoint->frames[group->first + i].frame_id,
		    &group->places[i]);
	group->count = 0;
	return err;
}

/* The more of its frames were copied, the more spares are at hand for the rest. */
static void stock_more(struct checkpoint *checkpoint, uint32_t left)
{
	struct store *store = checkpoint->store;
	uint64_t copies = atomic_load(&store->tree.counters.cow_copies) - checkpoint->copies_before;

	if (!copies)
		return;
	store->has_company = true;
	store_stock_spares(store, (uint32_t)min_of(2 * copies + SPARES_AHEAD, (uint64_t)left));
}

static int write_frames(struct checkpoint *checkpoint)
{
	struct image_group groups[2] = {0};
	uint32_t next = 0;
	int err = 0, other_err;

	for (unsigned i = 0; i < 2; i++) {
		groups[i].headers = checkpoint->headers + i * GROUP_IMAGES;
		device_batch_init(&groups[i].batch);
	}
	for (unsigned turn = 0; next < checkpoint->frame_count && !err; turn ^= 1) {
		err = start_group(checkpoint, &groups[turn], next);
		next += groups[turn].count;
		other_err = end_group(checkpoint, &groups[turn ^ 1]);
		err = err ? err : other_err;
		stock_more(checkpoint, checkpoint->frame_count - next);
	}
	for (unsigned i = 0; i < 2; i++) {
		other_err = end_group(checkpoint, &groups[i]);
		err = err ? err : other_err;
	}
	if (!err)
		atomic_fetch_add_explicit(&checkpoint->store->stats.frames_written,
		    checkpoint->frame_count, memory_order_relaxed);
	return err;
}

static int forget_dropped(struct checkpoint *checkpoint)
{
	struct store *store = checkpoint->store;
	struct manifest_place old, none = {0};
	int err = 0;

	for (uint32_t i = 0; i < checkpoint->dropped.count && !err; i++) {
		manifest_get(store->space, checkpoint->dropped.ids[i], &old);
		if (!old.disk_frame)
			continue;
		err = views_free_place(store, checkpoint->dropped.ids[i], old.disk_frame);
		manifest_set(store->space, checkpoint->dropped.ids[i], &none);
	}
	return err;
}

/* ---- 3 and 4 -------------------------------------------------------------------------- */

static int write_image(struct checkpoint *checkpoint, bool is_final)
{
	struct store *store = checkpoint->store;
	struct superblock superblock = store->superblock;
	int err = write_frames(checkpoint);

	if (!err)
		err = forget_dropped(checkpoint);
	if (!err)
		err = device_flush(store->device);
	if (!err)
		err = space_write_maps(store->space, from_le64(superblock.generation) + 1, &superblock);
	if (!err)
		err = device_flush(store->device);
	superblock.checkpoint_lsn = to_le64(checkpoint->lsn);
	superblock.replay_pieces = to_le32(checkpoint->pieces);
	superblock.incompat = to_le64(checkpoint->pieces ? FEATURE_PIECES : 0);
	superblock.frame_id_end = to_le64(checkpoint->frame_id_end);
	superblock.internal_root = to_le64(checkpoint->internal_root);
	superblock.empty_frames = to_le64(checkpoint->empty_frames);
	superblock.flags = to_le64(is_final ? SUPERBLOCK_CLEAN : 0);
	if (!err)
		err = superblock_store(store->device, &superblock);
	if (!err)
		store->superblock = superblock;
	return err;
}

/* Ids of dropped frames may be used again; frames not written keep their place. */
static void finish(struct checkpoint *checkpoint, int err)
{
	struct store *store = checkpoint->store;

	/* The manifest is final before a slot can be evicted and read again. */
	space_thaw(store->space, err == 0);
	for (uint32_t i = 0; i < checkpoint->frame_count; i++)
		settle_frame(store, &checkpoint->frames[i], checkpoint->epoch, err == 0);
	atomic_store(&store->frozen_count, 0);
	if (!err && store->journal)
		journal_set_tail(store->journal, checkpoint->lsn);
	mutex_lock(&store->dirty_mutex);
	for (uint32_t i = 0; i < checkpoint->dropped.count && !err; i++)
		id_list_add(&store->free_ids, checkpoint->dropped.ids[i]);
	mutex_unlock(&store->dirty_mutex);
}

static int run_locked(struct store *store, bool is_final)
{
	struct checkpoint checkpoint = {.store = store};
	uint64_t start = monotonic_ns();
	int err = store_error(store);

	if (err)
		return err;
	err = begin(&checkpoint);
	if (!err) {
		views_begin_keeping(store);
		err = write_image(&checkpoint, is_final);
		finish(&checkpoint, err);
		views_end_keeping(store, err == 0);
		views_spill(store);
	}
	if (err)
		store_fail(store, err, "a checkpoint could not be written");
	atomic_fetch_add(err ? &store->stats.checkpoints_failed : &store->stats.checkpoints, 1);
	atomic_fetch_add(&store->stats.checkpoint_ns, monotonic_ns() - start);
	free(checkpoint.frames);
	free(checkpoint.headers);
	free(checkpoint.dropped.ids);
	return err;
}

int store_run_checkpoint(struct store *store, bool is_final)
{
	int err;

	if (store->is_memory)
		return 0;
	mutex_lock(&store->checkpoint_mutex);
	err = run_locked(store, is_final);
	mutex_unlock(&store->checkpoint_mutex);
	mutex_lock(&store->dirty_mutex);
	store->checkpoint_count++;
	condition_wake_all(&store->checkpoint_done);
	mutex_unlock(&store->dirty_mutex);
	return err;
}

int store_checkpoint(struct store *store)
{
	return store_is_read_only(store) ? -EROFS : store_run_checkpoint(store, false);
}
