/*
 * Recovery: the log from the checkpoint's LSN, applied to the checkpoint's tree.
 *
 * The log is looked at two or three times, though read but once as far as memory allows.
 * First to its end.  Then, if records put blocks to use: every such block is kept from
 * being allocated, and the blocks of records that are not known durable are read; a record
 * whose data did not reach the disk is the end.  The last time the records are applied.
 *
 *    reader: read, verify, parse -> chunk, sorted --queue--> here: apply
 *
 * A *chunk* is a run of records that put and delete keys, and use and free blocks.  What
 * it does to one key is decided by the last of its operations on it; different keys do
 * not depend on each other; so the operations are sorted by key, all but the last on each
 * key left out, and the rest applied in the order of the tree (core/tree/run.c).
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

#include "store/chunk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"

#define CHUNKS 3u /* one is filled, one waits, one is applied */

/* Handed to the tree at a time. */
#define RUN_OPS 256u


#define OPS_AHEAD  16u
#define CACHE_LINE 64u

struct recovery {
	struct store *store;
	struct store_batch *batch;  /* the reader's, to parse with */
	struct store_batch *group;  /* to apply chunks with */
	struct store_batch *record; /* to apply a record by itself */
	struct tree_edit *edits;    /* RUN_OPS of them */
	struct journal_extent extent;
	bool has_uses;
	uint8_t *block;

	struct chunk chunks[CHUNKS];
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

/* ---- chunks: applying -------------------------------------------------------------------- */

/*
 * A pool smaller than the one the batch was made with may not hold all its frames at
 * once.  Nobody looks on: piece by piece it comes to the same.  Checkpoints may fall in
 * between.  Of a record (@is_record) each names the pieces it has, for a step of erasing
 * and a move begin from another state when they are made again.  The transactions of
 * a chunk may be.
 */
static int replay_in_pieces(struct store *store, struct store_batch *batch, bool is_record,
    lsn_t lsn, lsn_t end)
{
	struct tree_edit *edits = batch->tx.edits;
	uint32_t edit_count = batch->tx.edit_count, move_count = batch->move_count;
	uint32_t run_count = batch->run_count, done = store->replay_pieces;
	struct tree_move moves[BATCH_MOVES_MAX];
	lsn_t again = lsn;
	int err = 0;

	memcpy(moves, batch->moves, sizeof(moves));
	batch->run_count = 0;
	for (uint32_t i = 0; i < edit_count + move_count && !err; i++) {
		bool is_edit = i < edit_count;

		batch->tx.edits = edits + i;
		batch->tx.edit_count = is_edit;
		batch->move_count = !is_edit;
		if (!is_edit)
			batch->moves[0] = moves[i - edit_count];
		batch->replay_pieces = is_record ? done + i + 1 : 0;
		err = store_throttle(store);
		if (!err)
			err = batch_apply(store, batch, lsn, &again);
	}
	batch->tx.edits = edits;
	batch->tx.edit_count = batch->move_count = batch->replay_pieces = 0;
	batch->run_count = run_count;
	return err ? err : batch_apply(store, batch, lsn, &end);
}

static int apply_batch(struct store *store, struct store_batch *batch, bool is_record,
    lsn_t lsn, lsn_t end)
{
	lsn_t after = end;
	int err = store_throttle(store);

	batch->replay_pieces = 0;
	if (!err)
		err = batch_apply(store, batch, lsn, &after);
	if (err == -E2BIG)
		err = replay_in_pieces(store, batch, is_record, lsn, end);
	return err ? err : store_error(store);
}

static bool is_same_key(const struct chunk *chunk, uint32_t a, uint32_t b)
{
	const struct sorted_op *one = &chunk->sorted[a], *other = &chunk->sorted[b];

	return one->digest == other->digest &&
	       replay_op_compare(&chunk->ops[one->op], &chunk->ops[other->op]) == 0;
}

/* Operations in the order of their keys lie anywhere in a chunk: what will be looked at
 * soon is asked for, first the operation, then its key and value. */
static inline void ask_ahead(const struct chunk *chunk, uint32_t at)
{
	if (at + 2 * OPS_AHEAD < chunk->op_count)
		__builtin_prefetch(&chunk->ops[chunk->sorted[at + 2 * OPS_AHEAD].op]);
	if (at + OPS_AHEAD < chunk->op_count) {
		const uint8_t *key = chunk->ops[chunk->sorted[at + OPS_AHEAD].op].key;

		__builtin_prefetch(key);
		__builtin_prefetch(key + CACHE_LINE);
	}
}

/* The next operations of a chunk, the last one on each key; up to where they go. */
static uint32_t fill_run(const struct chunk *chunk, uint32_t next, struct tree_edit *edits, uint32_t *ret_count)
{
	uint32_t count = 0;

	for (; next < chunk->op_count && count < RUN_OPS; next++) {
		const struct replay_op *op = &chunk->ops[chunk->sorted[next].op];

		ask_ahead(chunk, next);
		if (next + 1 < chunk->op_count && is_same_key(chunk, next, next + 1))
			continue;
		edits[count++] = (struct tree_edit){
		    .kind = op->is_put ? TREE_PUT : TREE_ERASE,
		    .key = op->key,
		    .value = op->key + op->key_bytes,
		    .key_bytes = op->key_bytes,
		    .value_bytes = op->value_bytes,
		    .seq_offset = (uint32_t)(op->seq - chunk->from),
		};
	}
	*ret_count = count;
	return next;
}

/* The edit's frame has become thin. */
static void fold_after(struct store *store, const struct tree_edit *edit, struct tree_spares *spares)
{
	if (store->options.no_merge)
		return;
	store_promise_begin(true);
	store_shrink(store, &store->tree, edit->key, edit->key_bytes, spares);
	store_return_spares(store, spares);
	store_promise_end(store);
}

/* What a run cannot do, because a frame has to be loaded, say, a transaction does. */
static int apply_run(struct recovery *recovery, struct tree_edit *edits, uint32_t count, lsn_t from)
{
	struct store *store = recovery->store;
	struct store_batch *group = recovery->group;
	int err = 0;

	for (uint32_t done = 0; done < count && !err;) {
		unsigned ticket = gate_enter_shared(store->gate);
		uint32_t made = tree_run(&store->tree, edits + done, count - done, from);

		gate_leave_shared(store->gate, ticket);
		done += made;
		if (made && edits[done - 1].wants_shrink) {
			fold_after(store, &edits[done - 1], &group->spares);
		} else if (done < count) {
			group->tx.edits = &edits[done++];
			group->tx.edit_count = 1;
			err = apply_batch(store, group, false, from, from);
		}
	}
	return err;
}

static int apply_ops(struct recovery *recovery, const struct chunk *chunk)
{
	int err = 0;

	recovery->group->move_count = recovery->group->run_count = 0;
	for (uint32_t next = 0, count; next < chunk->op_count && !err;) {
		next = fill_run(chunk, next, recovery->edits, &count);
		err = apply_run(recovery, recovery->edits, count, chunk->from);
	}
	recovery->group->tx.edits = NULL;
	return err;
}

static int apply_runs_of(struct recovery *recovery, const struct chunk *chunk)
{
	struct store_batch *group = recovery->group;
	struct block_run *runs = group->runs;
	int err;

	group->tx.edit_count = 0;
	group->runs = chunk->runs;
	group->run_count = chunk->run_count;
	err = apply_batch(recovery->store, group, false, chunk->from, chunk->end);
	group->runs = runs;
	group->run_count = 0;
	return err;
}

/* What a batch once did, and now is refused, the log says wrongly. */
static int replay_error(int err)
{
	switch (err) {
	case -EINVAL:
	case -EEXIST:
	case -ENOENT:
	case -ENAMETOOLONG:
	case -E2BIG:
		return -EUCLEAN;
	default:
		return err;
	}
}

/* Leaves out the pieces of the record that a checkpoint had. */
static int skip_pieces(struct store_batch *batch, uint32_t pieces)
{
	uint32_t edits = min_of(pieces, batch->tx.edit_count), moves = pieces - edits;

	if (moves > batch->move_count)
		return -EUCLEAN;
	batch->tx.edit_count -= edits;
	if (edits) /* there may be no array at all */
		memmove(batch->tx.edits, batch->tx.edits + edits, batch->tx.edit_count * sizeof(*batch->tx.edits));
	batch->move_count -= moves;
	memmove(batch->moves, batch->moves + moves, batch->move_count * sizeof(*batch->moves));
	return 0;
}

static int apply_record(struct recovery *recovery, const struct chunk *chunk)
{
	struct store *store = recovery->store;
	struct store_batch *batch = recovery->record;
	uint32_t pieces = store->replay_pieces;
	int err = batch_parse(batch, chunk->single, chunk->single_bytes);

	/* Pieces of erasing are leaves, and those that went are not among the first now. */
	if (!err && batch->erase_count) {
		uint32_t erased = min_of(pieces, batch->erase_count);

		pieces -= erased;
		err = drop_take(store, batch, batch->erase_count - erased);
	}
	if (!err)
		err = skip_pieces(batch, pieces);
	return err ? err : apply_batch(store, batch, true, chunk->from, chunk->end);
}

static int apply_chunk(struct recovery *recovery, const struct chunk *chunk)
{
	struct store *store = recovery->store;
	int err;

	store->replay_lsn = chunk->from;
	recovery->group->tree = &store->tree;
	recovery->group->erase_count = 0;
	if (chunk->is_single) {
		err = apply_record(recovery, chunk);
	} else if (store->replay_pieces) {
		err = -EUCLEAN;
	} else {
		err = apply_ops(recovery, chunk);
		if (!err)
			err = apply_runs_of(recovery, chunk);
	}
	err = replay_error(err);
	if (err)
		log_error("journal: records from LSN %llu to %llu could not be replayed: %s",
		    (unsigned long long)chunk->from, (unsigned long long)chunk->end, strerror(-err));
	store->replay_lsn = chunk->end;
	atomic_fetch_add_explicit(&store->stats.replayed_records, chunk->records, memory_order_relaxed);
	return err;
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

	if (!chunk->records)
		return 0;
	chunk_sort(chunk);
	if (!recovery->is_threaded) {
		err = apply_chunk(recovery, chunk);
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
		err = apply_chunk(recovery, chunk);
		chunk_empty(chunk);
		mutex_lock(&recovery->mutex);
		recovery->applied++;
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
	struct chunk *chunk;
	int err = chunk_to_fill(recovery, &chunk);

	if (!err && !chunk_has_room(chunk, body_bytes, is_single)) {
		err = pass_on(recovery, chunk);
		if (!err)
			err = chunk_to_fill(recovery, &chunk);
	}
	if (!err && !chunk->records) {
		err = chunk_fit(chunk, body_bytes);
		chunk->is_single = is_single;
	}
	if (!err)
		err = chunk_add(chunk, recovery->batch, lsn, end, body, body_bytes);
	return err;
}

static int read_records(struct recovery *recovery)
{
	struct journal_place place = store_journal_place(recovery->store);
	struct chunk *chunk;
	lsn_t end;
	int err = journal_visit(&place, &recovery->extent,
	    from_le64(recovery->store->superblock.open_id), collect_record, recovery, &end);

	if (!err)
		err = chunk_to_fill(recovery, &chunk);
	if (!err)
		err = pass_on(recovery, chunk);
	return err;
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
		err = store_batch_create(store, &recovery.group);
	if (!err)
		err = store_batch_create(store, &recovery.record);
	mutex_init(&recovery.mutex, RANK_LEAF);
	condition_init(&recovery.changed);
	recovery.block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	recovery.edits = malloc(RUN_OPS * sizeof(*recovery.edits));
	if (!err && (!recovery.block || !recovery.edits))
		err = -ENOMEM;
	if (!err)
		err = recover_with(&recovery);
	for (unsigned i = 0; i < CHUNKS; i++)
		chunk_fini(&recovery.chunks[i]);
	free(recovery.block);
	free(recovery.edits);
	condition_fini(&recovery.changed);
	mutex_fini(&recovery.mutex);
	store_batch_destroy(recovery.record);
	store_batch_destroy(recovery.group);
	store_batch_destroy(recovery.batch);
	return err;
}
