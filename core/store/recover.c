/*
 * Recovery: the log from the checkpoint's LSN, applied to the checkpoint's tree.
 *
 * The log is read two or three times.  First to its end.  Then, if records put blocks to
 * use: every such block is kept from being allocated, and the blocks of records that are
 * not known durable are read; a record whose data did not reach the disk is the end.  The
 * last time the records are applied.
 *
 *    reader: read, verify, parse -> chunk, sorted --queue--> here: apply
 *
 * A *chunk* is a run of records that put and delete keys, and use and free blocks.  What
 * it does to one key is decided by the last of its operations on it; different keys do
 * not depend on each other; so the operations are sorted by key, all but the last on each
 * key left out, and the rest applied in the order of the tree (replay.c, core/tree/run.c).
 * (Keys at random cost a cache miss or five each, keys in order next to none; and a
 * pool smaller than the tree has each frame loaded once a chunk.)  Any other record, a
 * move, ends the chunk and is applied by itself, to exactly the state it was made against.
 *
 * If the pool is too small for what is changed, checkpoints are made on the way.  One in
 * the middle of a chunk is a checkpoint at its begin that already has some of its keys.
 * Should recovery be cut off and begin there again, all of the chunk is applied again,
 * and each key comes to the same.  (So what a shared ring has of the log is written to
 * the device first: the ring would not survive a loss of power.)  Block runs would not:
 * they are applied at the end, in order, together with the step of `replay_lsn` behind
 * the chunk.  A record applied by itself is taken to pieces if the pool cannot hold all
 * it changes, and checkpoints between them say how many are applied.
 *
 * Locks: one of rank LEAF for the queue.
 */
#include "config.h"

#include "store/replay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define CHUNKS 3u /* one is filled, one waits, one is applied */

struct recovery {
	struct store *store;
	struct store_batch *batch; /* the reader's, to parse with */
	struct replay replay;
	struct journal_extent extent;
	bool has_uses;
	uint8_t *block;

	struct chunk chunks[CHUNKS];
	struct chunk *filling; /* the reader's; NULL: the next one has to be waited for */
	bool is_threaded;
	struct mutex mutex;
	struct condition changed;
	/* guarded by mutex; chunks[n % CHUNKS] is the n-th */
	uint64_t filled, applied;
	bool is_over;
	int error;
};

/* ---- the survey ------------------------------------------------------------------------ */

/* Does the data that a record puts to use lie on the disk as it says? */
static int verify_run(struct recovery *recovery, const struct block_run *run, bool *ret_good)
{
	struct store *store = recovery->store;

	for (uint32_t i = 0; i < run->count; i++) {
		le32 expected;
		int err = device_read(store->device, recovery->block, BLOCK_BYTES,
		    (run->block + i) * BLOCK_BYTES);

		if (err)
			return err;
		memcpy(&expected, run->checksums + i * sizeof(expected), sizeof(expected));
		if (store_block_checksum(store, recovery->block) != from_le32(expected)) {
			*ret_good = false;
			return 0;
		}
	}
	return 0;
}

static bool run_is_in_volume(const struct store *store, const struct block_run *run)
{
	uint64_t end = from_le64(store->superblock.frame_count) * FRAME_BLOCKS;

	return run->count > 0 && run->block < end && run->count <= end - run->block;
}

static int survey_record(void *ctx, lsn_t lsn, lsn_t end, lsn_t known_durable,
    const void *body, uint32_t body_bytes)
{
	struct recovery *recovery = ctx;
	struct store_batch *batch = recovery->batch;
	bool is_good = true;
	int err = batch_parse(batch, body, body_bytes);

	for (uint32_t i = 0; i < batch->run_count && !err; i++) {
		const struct block_run *run = &batch->runs[i];

		if (!run_is_in_volume(recovery->store, run))
			err = -EUCLEAN;
		else if (run->is_use && lsn >= known_durable)
			err = verify_run(recovery, run, &is_good);
	}
	if (err) {
		log_error("journal: record at LSN %llu: %s", (unsigned long long)lsn, strerror(-err));
		return err;
	}
	if (!is_good)
		return JOURNAL_STOP;
	for (uint32_t i = 0; i < batch->run_count; i++)
		if (batch->runs[i].is_use)
			space_guard(recovery->store->space, batch->runs[i].block, batch->runs[i].count);
	return 0;
}

static void look_for_runs(void *ctx, const void *body, uint32_t body_bytes)
{
	struct recovery *recovery = ctx;

	if (!recovery->has_uses)
		recovery->has_uses = batch_contents(body, body_bytes) & BATCH_HAS_RUNS;
}

/* ---- the queue ----------------------------------------------------------------------------- */

/* The chunk being filled.  With a thread, waits until one is empty. */
static int chunk_to_fill(struct recovery *recovery, struct chunk **ret)
{
	int err;

	mutex_lock(&recovery->mutex);
	while (recovery->filled - recovery->applied == CHUNKS && !recovery->error)
		condition_wait(&recovery->changed, &recovery->mutex);
	err = recovery->error;
	*ret = &recovery->chunks[recovery->filled % CHUNKS];
	mutex_unlock(&recovery->mutex);
	return err;
}

/* The chunk is full: to be applied by the other thread, or at once. */
static int pass_on(struct recovery *recovery, struct chunk *chunk)
{
	int err = 0;

	chunk_sort(chunk);
	if (!recovery->is_threaded) {
		err = replay_chunk(&recovery->replay, chunk);
		chunk_empty(chunk);
		return err;
	}
	mutex_lock(&recovery->mutex);
	recovery->filled++;
	condition_wake_all(&recovery->changed);
	mutex_unlock(&recovery->mutex);
	return 0;
}

static int apply_all(struct recovery *recovery)
{
	int err = 0;

	mutex_lock(&recovery->mutex);
	while (!err) {
		struct chunk *chunk = &recovery->chunks[recovery->applied % CHUNKS];

		if (recovery->applied == recovery->filled) {
			if (recovery->is_over)
				break;
			condition_wait(&recovery->changed, &recovery->mutex);
			continue;
		}
		mutex_unlock(&recovery->mutex);
		err = replay_chunk(&recovery->replay, chunk);
		chunk_empty(chunk);
		mutex_lock(&recovery->mutex);
		recovery->applied++;
		if (err)
			recovery->error = err;
		condition_wake_all(&recovery->changed);
	}
	mutex_unlock(&recovery->mutex);
	return err;
}

/* ---- reading --------------------------------------------------------------------------------- */

static int collect_record(void *ctx, lsn_t lsn, lsn_t end, lsn_t known_durable,
    const void *body, uint32_t body_bytes)
{
	struct recovery *recovery = ctx;
	bool is_single = batch_contents(body, body_bytes) & BATCH_HAS_OTHER ||
			 body_bytes / 8 > CHUNK_OPS;
	struct chunk *chunk = recovery->filling;
	int err = 0;

	if (chunk && !chunk_has_room(chunk, body_bytes, is_single)) {
		err = pass_on(recovery, chunk);
		chunk = NULL;
	}
	if (!err && !chunk) {
		err = chunk_to_fill(recovery, &chunk);
		if (!err)
			err = chunk_fit(chunk, body_bytes);
		chunk->is_single = is_single;
	}
	recovery->filling = chunk;
	return err ? err : chunk_add(chunk, recovery->batch, lsn, end, body, body_bytes);
}

static int read_records(struct recovery *recovery)
{
	struct journal_place place = store_journal_place(recovery->store);
	lsn_t end;
	int err = journal_visit(&place, &recovery->extent,
	    from_le64(recovery->store->superblock.open_id), collect_record, recovery, &end);

	return err || !recovery->filling ? err : pass_on(recovery, recovery->filling);
}

static void *reading_thread(void *ctx)
{
	struct recovery *recovery = ctx;
	int err = read_records(recovery);

	mutex_lock(&recovery->mutex);
	recovery->is_over = true;
	if (!recovery->error)
		recovery->error = err;
	condition_wake_all(&recovery->changed);
	mutex_unlock(&recovery->mutex);
	return NULL;
}

static int replay(struct recovery *recovery)
{
	pthread_t thread;
	int err;

	/* The thread reads it: before it begins. */
	recovery->is_threaded = !recovery->store->options.no_threads;
	if (recovery->is_threaded && pthread_create(&thread, NULL, reading_thread, recovery))
		recovery->is_threaded = false;
	if (!recovery->is_threaded)
		return read_records(recovery);
	err = apply_all(recovery);
	pthread_join(thread, NULL);
	return err ? err : recovery->error;
}

/* ---- all of it --------------------------------------------------------------------------------- */

static int find_log(struct recovery *recovery)
{
	struct store *store = recovery->store;
	struct journal_place place = store_journal_place(store);
	uint64_t open_id = from_le64(store->superblock.open_id);
	int err = journal_survey(&place, from_le64(store->superblock.checkpoint_lsn), open_id,
	    look_for_runs, recovery, &recovery->extent);

	if (!err && recovery->has_uses)
		err = journal_visit(&place, &recovery->extent, open_id, survey_record, recovery,
		    &recovery->extent.end);
	/* A checkpoint in the middle of a chunk relies on all of the chunk. */
	return err ? err : journal_settle(&place, &recovery->extent, open_id);
}

static int recover_with(struct recovery *recovery)
{
	struct store *store = recovery->store;
	int err = find_log(recovery);

	if (err)
		return err;
	store->replay_lsn = recovery->extent.from;
	err = replay(recovery);
	space_guard_end(store->space);
	if (!err && store->replay_pieces) {
		log_error("journal: the record at LSN %llu is lost, of which the volume has a part",
		    (unsigned long long)recovery->extent.from);
		err = -EUCLEAN;
	}
	store->replay_lsn = recovery->extent.end;
	if (!err && atomic_load(&store->stats.replayed_records))
		log_info("recovered: %llu transactions replayed",
		    (unsigned long long)atomic_load(&store->stats.replayed_records));
	return err;
}

int store_recover(struct store *store)
{
	struct recovery recovery = {.store = store};
	int err = store_batch_create(store, &recovery.batch);

	if (!err)
		err = replay_init(&recovery.replay, store);
	mutex_init(&recovery.mutex, RANK_LEAF);
	condition_init(&recovery.changed);
	recovery.block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	if (!err && !recovery.block)
		err = -ENOMEM;
	if (!err)
		err = recover_with(&recovery);
	for (unsigned i = 0; i < CHUNKS; i++)
		chunk_fini(&recovery.chunks[i]);
	free(recovery.block);
	condition_fini(&recovery.changed);
	mutex_fini(&recovery.mutex);
	replay_fini(&recovery.replay);
	store_batch_destroy(recovery.batch);
	return err;
}
