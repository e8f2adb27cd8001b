/*
 * Opening and closing, and recovery in between.
 *
 * Recovery: the newest superblock, its manifest and space map, then the log from the
 * checkpoint's LSN (recover.c).
 *
 * It ends with a checkpoint at an LSN behind the end by a whole journal, so that no
 * byte left on disk carries an LSN that can be issued again.
 *
 * A read-only open does the same over a layer that keeps writes to itself.
 */
#include "config.h"

#include "store/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/assert.h"
#include "base/log.h"

#define CACHE_DEFAULT (256ull << 20)
#define CACHE_LEAST (8ull << 20)

/* ---- parts ----------------------------------------------------------------------------- */

/* Closes the device, or gives it back to whom it belongs. */
static void leave_device(struct store *store)
{
	if (!store->device)
		return;
	if (!store->options.keep_device)
		device_close(store->device);
	else if (store->options.is_read_only) {
		device_overlay_detach(store->device);
		device_close(store->device);
	}
}

void store_destroy(struct store *store)
{
	drop_stop(store);
	store_stop_thread(store);
	views_fini(&store->views);
	cold_fini(store);
	pool_close(store->pool);
	space_close(store->space);
	gate_destroy(store->gate);
	leave_device(store);
	mutex_fini(&store->hold_mutex);
	mutex_fini(&store->spares_mutex);
	mutex_fini(&store->checkpoint_mutex);
	mutex_fini(&store->dirty_mutex);
	condition_fini(&store->thread_condition);
	condition_fini(&store->checkpoint_done);
	free(store->dirty.ids);
	free(store->dropped.ids);
	free(store->free_ids.ids);
	free(store);
}

struct store *store_create(const struct store_options *options)
{
	struct store *store = aligned_alloc(_Alignof(struct store), sizeof(*store));

	if (!store)
		return NULL;
	memset(store, 0, sizeof(*store));
	store->options = *options;
	mutex_init(&store->hold_mutex, RANK_HOLD);
	mutex_init(&store->spares_mutex, RANK_SPARES);
	mutex_init(&store->checkpoint_mutex, RANK_CHECKPOINT);
	mutex_init(&store->dirty_mutex, RANK_DIRTY);
	condition_init(&store->thread_condition);
	condition_init(&store->checkpoint_done);
	views_init(&store->views);
	store->gate = gate_create(RANK_GATE);
	return store;
}

int store_open_pool(struct store *store, struct device *device)
{
	uint64_t cache = store->options.cache_bytes ? store->options.cache_bytes : CACHE_DEFAULT;
	struct pool_options pool_options = {
	    .slot_count = (uint32_t)(max_of(cache, CACHE_LEAST) / FRAME_BYTES),
	    .device = device,
	};

	int err = store->gate ? pool_open(&pool_options, &store->pool) : -ENOMEM;

	if (!err)
		cold_init(store);
	return err;
}

void store_plan_trees(struct store *store, uint64_t root_id, uint64_t internal_root_id)
{
	store->tree = (struct tree){
	    .pool = store->pool,
	    .root_id = root_id,
	    .epoch = 1,
	    .cut = 1,
	    .shape = 2,
	    .keeps_order = !store->is_memory,
	    .empty_frames = &store->empty_frames,
	    .frames_ever = &store->frames_ever,
	    .host = {
		.ctx = store,
		.dirtied = store_frame_dirtied,
		.take_id = store_take_id,
		.retain = store_retain_image,
		.dropped = store_frame_dropped,
	    },
	};
	store->internal = store->tree;
	store->internal.root_id = internal_root_id;
	atomic_store(&store->has_internal, internal_root_id != 0);
}

/* Space, pool and tree over @device, which stays the caller's on failure. */
static int assemble(struct store *store, struct device *device, const struct superblock *superblock, bool is_new)
{
	struct space_options space_options = {
	    .device = device, .superblock = superblock, .is_new = is_new};
	int err;

	store->superblock = *superblock;
	store->superblock_at_open = *superblock;
	store->uuid_seed = uuid_seed(superblock->uuid);
	err = space_open(&space_options, &store->space);
	/* Slots are registered once a device: not for a store that leaves it. */
	if (!err)
		err = store_open_pool(store, is_new || store->options.keep_device ? NULL : device);
	if (err)
		return err;
	store->device = device;
	store->next_id = from_le64(superblock->frame_id_end);
	store->empty_frames = from_le64(superblock->empty_frames);
	store_plan_trees(store, from_le64(superblock->user_root), from_le64(superblock->internal_root));
	return 0;
}

struct id_walk {
	struct store *store;
	uint64_t next;
};

static int note_gap(void *ctx, uint64_t frame_id, const struct manifest_place *place)
{
	struct id_walk *walk = ctx;
	int err = 0;

	if (place)
		atomic_fetch_add_explicit(&walk->store->frames_ever, 1, memory_order_relaxed);
	while (walk->next < frame_id && !err)
		err = id_list_add(&walk->store->free_ids, walk->next++);
	walk->next = frame_id + 1;
	return err;
}

/* Ids below the end that the manifest does not name may be used again. */
static int collect_free_ids(struct store *store)
{
	struct id_walk walk = {.store = store, .next = 1};
	int err = manifest_for_each(store->space, note_gap, &walk);

	return err ? err : note_gap(&walk, store->next_id, NULL);
}

struct journal_place store_journal_place(const struct store *store)
{
	const struct superblock *superblock = &store->superblock;
	struct journal_place place = {
	    .device = store->device,
	    .offset = from_le64(superblock->journal_first_frame) * FRAME_BYTES,
	    .bytes = from_le64(superblock->journal_frames) * FRAME_BYTES,
	};

	memcpy(place.uuid, superblock->uuid, UUID_BYTES);
	return place;
}

/* ---- open ------------------------------------------------------------------------------------ */

static int make_open_id(struct store *store)
{
	uint64_t id;

	if (getrandom(&id, sizeof(id), 0) != sizeof(id))
		return -EIO;
	store->superblock.open_id = to_le64(id);
	return 0;
}

static int open_journal(struct store *store, lsn_t start)
{
	struct journal_options options = {
	    .place = store_journal_place(store),
	    .start = start,
	    .open_id = from_le64(store->superblock.open_id),
	    .is_shared = store->options.has_shared_ring,
	};

	return journal_open(&options, &store->journal);
}

/* The volume is whole in memory: makes it so on disk and opens the log for writing. */
static int begin_writing(struct store *store, bool was_clean)
{
	uint64_t journal_bytes = store_journal_place(store).bytes;
	lsn_t start = from_le64(store->superblock.checkpoint_lsn);
	int err = make_open_id(store);

	if (err)
		return err;
	if (was_clean) {
		store->superblock.flags = to_le64(0);
		err = superblock_store(store->device, &store->superblock);
	} else {
		start = round_up(store->replay_lsn, BLOCK_BYTES) + journal_bytes;
		store->replay_lsn = start;
		store->replay_pieces = 0;
		err = store_run_checkpoint(store, false);
	}
	if (!err)
		err = open_journal(store, start);
	if (!err && !store->options.no_threads && journal_start_writer(store->journal))
		log_warning("no thread to write the journal ahead: appends do it");
	if (!err && !store->options.no_threads)
		err = store_start_thread(store);
	return err ? err : drop_start(store);
}

static int open_assembled(struct store *store)
{
	bool was_clean = from_le64(store->superblock.flags) & SUPERBLOCK_CLEAN;
	int err = collect_free_ids(store);

	store->replay_lsn = from_le64(store->superblock.checkpoint_lsn);
	store->replay_pieces = from_le32(store->superblock.replay_pieces);
	if (!err && !was_clean)
		err = store_recover(store);
	if (!err && !store->options.is_read_only)
		err = begin_writing(store, was_clean);
	return err;
}

int store_open(struct device *device, const struct store_options *options, struct store **ret)
{
	struct device *base = device;
	struct superblock superblock;
	struct store *store;
	int err;

	err = superblock_load(device, options->is_read_only, &superblock);
	if (!err && options->is_read_only)
		err = device_open_overlay(base, &device);
	if (err)
		return err;
	store = store_create(options);
	err = store ? assemble(store, device, &superblock, false) : -ENOMEM;
	if (!err)
		err = open_assembled(store);
	if (err) {
		/* The device stays the caller's. */
		if (options->is_read_only)
			device_overlay_detach(device);
		if (store) {
			drop_stop(store);
			store_stop_thread(store);
			journal_close(store->journal, false);
			store->device = NULL;
			store_destroy(store);
		}
		if (options->is_read_only)
			device_close(device);
		return err;
	}
	*ret = store;
	return 0;
}

int store_close(struct store *store)
{
	bool is_written = false;
	int err;

	if (!store)
		return 0;
	drop_stop(store);
	store_stop_thread(store);
	err = store_error(store);
	if (!store->options.is_read_only && !err) {
		err = store_run_checkpoint(store, true);
		is_written = err == 0;
	}
	journal_close(store->journal, is_written);
	store_destroy(store);
	return err;
}

void store_abandon(struct store *store)
{
	drop_stop(store);
	store_stop_thread(store);
	journal_close(store->journal, false);
	store_destroy(store);
}

void store_give_back(struct store *store)
{
	store->options.keep_device = true;
	store_abandon(store);
}

/* ---- format -------------------------------------------------------------------------------------- */

static uint64_t journal_frames_for(uint64_t frames, uint64_t wanted_bytes)
{
	uint64_t bytes = wanted_bytes ? wanted_bytes : frames * FRAME_BYTES / 64;

	bytes = max_of(bytes, 8ull << 20);
	bytes = min_of(bytes, 256ull << 20);
	return div_up(bytes, FRAME_BYTES);
}

static void first_superblock(struct superblock *superblock, const struct store_format_options *options,
    uint64_t frames, lsn_t start)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	memset(superblock, 0, sizeof(*superblock));
	memcpy(superblock->magic, superblock_magic, sizeof(superblock->magic));
	superblock->version = to_le32(FORMAT_VERSION);
	memcpy(superblock->uuid, options->uuid, UUID_BYTES);
	memcpy(superblock->label, options->label, LABEL_BYTES - 1);
	superblock->frame_count = to_le64(frames);
	superblock->journal_first_frame = to_le64(1);
	superblock->journal_frames = to_le64(journal_frames_for(frames, options->journal_bytes));
	superblock->checkpoint_lsn = to_le64(start);
	superblock->created_ns = to_le64((uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec);
	superblock->user_root = to_le64(STORE_ROOT_FRAME_ID);
	superblock->frame_id_end = to_le64(STORE_ROOT_FRAME_ID + 1);
}

/* An old superblock must not be found beside the new journal and maps. */
static int wipe_superblocks(struct device *device)
{
	static const uint64_t offsets[2] = {SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET};
	void *zeros = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	int err = zeros ? 0 : -ENOMEM;

	if (zeros)
		memset(zeros, 0, BLOCK_BYTES);
	for (int i = 0; i < 2 && !err; i++)
		err = device_write(device, zeros, BLOCK_BYTES, offsets[i]);
	free(zeros);
	return err ? err : device_flush(device);
}

static int write_first_image(struct store *store)
{
	uint32_t slot;
	int err = store_lease_slot(store, &slot);

	if (err)
		return err;
	store_promise_begin(true);
	err = store_promise(store, 1, false);
	if (err) {
		pool_release(store->pool, slot);
		return err;
	}
	tree_plant(&store->tree, slot);
	return store_run_checkpoint(store, true);
}

int store_format(struct device *device, const struct store_format_options *options)
{
	struct store_options store_options = {.cache_bytes = CACHE_LEAST, .no_threads = true};
	uint64_t frames = device_bytes(device) / FRAME_BYTES;
	struct superblock superblock;
	struct journal_place place;
	struct store *store;
	int err;

	if (device_bytes(device) < STORE_DEVICE_MIN)
		return -ENOSPC;
	frames = min_of(frames, MAP_ENTRIES_MAX);
	first_superblock(&superblock, options, frames, FRAME_BYTES);
	err = wipe_superblocks(device);
	if (err)
		return err;
	store = store_create(&store_options);
	if (!store)
		return -ENOMEM;
	err = assemble(store, device, &superblock, true);
	if (!err) {
		store->replay_lsn = from_le64(superblock.checkpoint_lsn);
		place = store_journal_place(store);
		err = journal_format(&place);
	}
	if (!err)
		err = write_first_image(store);
	store->device = NULL;
	store_destroy(store);
	return err;
}
