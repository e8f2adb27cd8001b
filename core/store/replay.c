/*
 * Recovery's hand: a chunk of the log applied to the tree.
 *
 * Operations come in the order of their keys, so a frame is entered once a chunk.  Where
 * one is lacking, the keys that follow tell which others will be: they are loaded at once.
 */
#include "config.h"

#include "store/replay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* Handed to the tree at a time. */
#define RUN_OPS 256u

#define OPS_AHEAD  16u
#define CACHE_LINE 64u

/* Of the pool, what is loaded ahead may push out one in so many. */
#define POOL_PART_AHEAD 8u

/* Keys whose frames are there before looking for lacking ones ends, about. */
#define STEP_MOST 4096u

/* ---- transactions ------------------------------------------------------------------------- */

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

/* ---- loading ahead ------------------------------------------------------------------------ */

/* Keys that are still to be edited, in their order: of a run, then of the chunk behind it. */
struct to_come {
	const struct tree_edit *edits;
	uint32_t edit_count;
	const struct chunk *chunk;
	uint32_t next; /* in chunk->sorted */
};

static uint32_t count_to_come(const struct to_come *keys)
{
	return keys->edit_count + keys->chunk->op_count - keys->next;
}

static const uint8_t *key_to_come(const struct to_come *keys, uint32_t i, uint32_t *ret_bytes)
{
	const struct replay_op *op;

	if (i < keys->edit_count) {
		*ret_bytes = keys->edits[i].key_bytes;
		return keys->edits[i].key;
	}
	op = &keys->chunk->ops[keys->chunk->sorted[keys->next + i - keys->edit_count].op];
	*ret_bytes = op->key_bytes;
	return op->key;
}

/* The first key behind @from that does not lead to the frame that is lacking. */
static uint32_t skip_lack(const struct to_come *keys, uint32_t from, const struct tree_reach *lack)
{
	uint32_t lo = from + 1, hi = count_to_come(keys), key_bytes;
	const uint8_t *first = key_to_come(keys, from, &key_bytes);

	while (lo < hi) {
		uint32_t middle = lo + (hi - lo) / 2;
		const uint8_t *key = key_to_come(keys, middle, &key_bytes);

		if (tree_reach_covers(lack, first, key, key_bytes))
			lo = middle + 1;
		else
			hi = middle;
	}
	return lo;
}

/*
 * A frame was lacking: it is loaded together with the next ones that will be.  Between
 * keys whose frames are there the steps grow, so that looking costs next to nothing where
 * there is little to find.
 */
static void load_ahead(struct replay *replay, const struct to_come *keys)
{
	struct store *store = replay->store;
	uint32_t most = min_of(STORE_AHEAD_MOST, pool_slot_count(store->pool) / POOL_PART_AHEAD);
	uint32_t count = 0, key_bytes, step = 1, total = count_to_come(keys);
	uint64_t ids[STORE_AHEAD_MOST];

	for (uint32_t i = 0; i < total && count < most && step < STEP_MOST;) {
		const uint8_t *key = key_to_come(keys, i, &key_bytes);
		unsigned ticket = gate_enter_shared(store->gate);
		struct tree_reach lack;
		bool is_lacking = tree_lacks_frame(&store->tree, key, key_bytes, &lack);

		gate_leave_shared(store->gate, ticket);
		if (is_lacking) {
			ids[count++] = lack.frame_id;
			i = skip_lack(keys, i, &lack);
			step = 1;
		} else if (i == 0) {
			return; /* It is something else that the run could not do. */
		} else {
			i += step;
			step *= 2;
		}
	}
	store_load_ahead(store, ids, count);
}

/* ---- runs ----------------------------------------------------------------------------------- */

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

/* What a run cannot do, because a frame is frozen or full, say, a transaction does. */
static int apply_run(struct replay *replay, const struct chunk *chunk, uint32_t next, uint32_t count)
{
	struct store *store = replay->store;
	struct store_batch *group = replay->group;
	struct tree_edit *edits = replay->edits;
	int err = 0;

	for (uint32_t done = 0; done < count && !err;) {
		unsigned ticket = gate_enter_shared(store->gate);
		uint32_t made = tree_run(&store->tree, edits + done, count - done, chunk->from);

		gate_leave_shared(store->gate, ticket);
		done += made;
		if (made && edits[done - 1].wants_shrink) {
			fold_after(store, &edits[done - 1], &group->spares);
		} else if (done < count) {
			load_ahead(replay, &(struct to_come){edits + done, count - done, chunk, next});
			group->tx.edits = &edits[done++];
			group->tx.edit_count = 1;
			err = apply_batch(store, group, false, chunk->from, chunk->from);
		}
	}
	return err;
}

static int apply_ops(struct replay *replay, const struct chunk *chunk)
{
	int err = 0;

	replay->group->move_count = replay->group->run_count = 0;
	for (uint32_t next = 0, count; next < chunk->op_count && !err;) {
		next = fill_run(chunk, next, replay->edits, &count);
		err = apply_run(replay, chunk, next, count);
	}
	replay->group->tx.edits = NULL;
	return err;
}

/* ---- chunks --------------------------------------------------------------------------------- */

static int apply_runs_of(struct replay *replay, const struct chunk *chunk)
{
	struct store_batch *group = replay->group;
	struct block_run *runs = group->runs;
	int err;

	group->tx.edit_count = 0;
	group->runs = chunk->runs;
	group->run_count = chunk->run_count;
	err = apply_batch(replay->store, group, false, chunk->from, chunk->end);
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

static int apply_record(struct replay *replay, const struct chunk *chunk)
{
	struct store *store = replay->store;
	struct store_batch *batch = replay->record;
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

int replay_chunk(struct replay *replay, const struct chunk *chunk)
{
	struct store *store = replay->store;
	int err;

	store->replay_lsn = chunk->from;
	replay->group->tree = &store->tree;
	replay->group->erase_count = 0;
	if (chunk->is_single) {
		err = apply_record(replay, chunk);
	} else if (store->replay_pieces) {
		err = -EUCLEAN;
	} else {
		err = apply_ops(replay, chunk);
		if (!err)
			err = apply_runs_of(replay, chunk);
	}
	err = replay_error(err);
	if (err)
		log_error("journal: records from LSN %llu to %llu could not be replayed: %s",
		    (unsigned long long)chunk->from, (unsigned long long)chunk->end, strerror(-err));
	store->replay_lsn = chunk->end;
	atomic_fetch_add_explicit(&store->stats.replayed_records, chunk->records, memory_order_relaxed);
	return err;
}

int replay_init(struct replay *replay, struct store *store)
{
	int err = store_batch_create(store, &replay->group);

	replay->store = store;
	if (!err)
		err = store_batch_create(store, &replay->record);
	replay->edits = malloc(RUN_OPS * sizeof(*replay->edits));
	return err || replay->edits ? err : -ENOMEM;
}

void replay_fini(struct replay *replay)
{
	free(replay->edits);
	store_batch_destroy(replay->record);
	store_batch_destroy(replay->group);
}
