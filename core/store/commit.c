/*
 * Applying a batch.
 *
 * Everything an operation could wait for is obtained first, with nothing held: journal
 * credit, room on disk for the frames it may dirty, spare slots, frames in memory,
 * room in frames.  Then, in one pass through the gate:
 *
 *   latch the frames, check guards and room      gives up here with nothing changed
 *   append the record to the journal             from here on nothing fails
 *   apply edits, block runs, moves
 *   unlatch
 *
 * What turns out to be missing under the gate ends the pass; it is provided, and the
 * pass begins again.  Since latches are held while the record is appended, the order
 * of records is the order of changes for every key.
 *
 * Batches with moves, or guards on prefixes, pass the gate exclusively.
 */
#include "config.h"

#include "store/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"

/* While frames are kept, how many loads without success call for a checkpoint. */
#define HOLD_LOADS 16

static void apply_runs(struct store *store, const struct store_batch *batch)
{
	for (uint32_t i = 0; i < batch->run_count; i++) {
		const struct block_run *run = &batch->runs[i];
		int err;

		if (run->is_use) {
			err = space_use(store->space, run->block, run->count);
		} else {
			err = space_free(store->space, run->block, run->count);
			atomic_fetch_add(&store->pending_bytes, (uint64_t)run->count * BLOCK_BYTES);
		}
		if (err)
			store_fail(store, err, run->is_use ? "a batch uses blocks that are in use" :
							     "a batch frees blocks that are not in use");
	}
}

static bool begins_with(const struct tree_edit *edit, const uint8_t *prefix, uint32_t prefix_bytes)
{
	return edit->key_bytes >= prefix_bytes && memcmp(edit->key, prefix, prefix_bytes) == 0;
}

/* No key that the batch changes lies where the move takes away or puts something.  What
 * comes from the log need not be so. */
static bool edits_lie_apart(const struct store_batch *batch, const struct tree_move *move)
{
	for (uint32_t i = 0; i < batch->tx.edit_count; i++) {
		const struct tree_edit *edit = &batch->tx.edits[i];

		if (edit->kind != TREE_PUT && edit->kind != TREE_ERASE)
			continue;
		if (begins_with(edit, move->src, move->src_bytes) ||
		    (!move->dst_tree && begins_with(edit, move->dst, move->dst_bytes)))
			return false;
	}
	return true;
}

static int check_moves(struct store *store, struct store_batch *batch, struct tree_need *need)
{
	for (uint32_t i = 0; i < batch->move_count; i++) {
		struct tree_move *move = &batch->moves[i];
		int err = tree_move_check(&store->tree, move, batch->moves, i, &batch->tx,
		    &batch->spares, need);

		if (!err && !edits_lie_apart(batch, move)) {
			tree_move_end(&store->tree, move);
			err = -EINVAL;
		}
		/* Nothing below the source: nothing to do. */
		if (err == -ENOENT && (!batch->requires_sources || move->dst_tree))
			continue;
		if (err) {
			batch->failed_move = i;
			while (i > 0)
				tree_move_end(&store->tree, &batch->moves[--i]);
			return err;
		}
	}
	return 0;
}

static void run_moves(struct store *store, struct store_batch *batch)
{
	for (uint32_t i = 0; i < batch->move_count; i++) {
		if (batch->moves[i].cutting)
			tree_move(&store->tree, &batch->moves[i], &batch->spares);
	}
	for (uint32_t i = 0; i < batch->move_count; i++) {
		if (!batch->moves[i].cutting)
			continue;
		if (batch->moves[i].dst_tree)
			drop_note(store, &batch->moves[i]);
		tree_move_tidy(&store->tree, &batch->moves[i]);
		tree_move_end(&store->tree, &batch->moves[i]);
	}
}

/* The LSN of the batch: appended now, or of the record being replayed. */
static lsn_t log_batch(struct store *store, struct store_batch *batch, lsn_t replay_lsn, lsn_t *ret_end)
{
	struct iovec body = {.iov_base = batch->body, .iov_len = batch->body_bytes};

	if (!store->journal && !store->is_memory) {
		/* A checkpoint from now on contains the batch. */
		store->replay_lsn = *ret_end;
		store->replay_pieces = batch->replay_pieces;
		return replay_lsn;
	}
	/* Guards alone change nothing. */
	if (batch->body_bytes == 0)
		return 0;
	if (store->is_memory)
		return memory_log(store, batch->body_bytes, ret_end);
	return journal_append(store->journal, JOURNAL_BATCH, &body, 1, ret_end);
}

/* Edits only: under the shared gate. */
static int pass_shared(struct store *store, struct store_batch *batch, lsn_t replay_lsn,
    lsn_t *ret_end, struct tree_need *need)
{
	unsigned ticket = gate_enter_shared(store->gate);
	int err;

	batch->tx.has_moves = false;
	err = tree_tx_latch(batch->tree, &batch->tx, &batch->spares, need);

	if (!err) {
		lsn_t lsn = log_batch(store, batch, replay_lsn, ret_end);

		tree_tx_apply(batch->tree, &batch->tx, lsn);
		apply_runs(store, batch);
		tree_tx_end(batch->tree, &batch->tx);
	} else {
		batch->failed_guard = batch->tx.failed_edit;
	}
	if (err == -EAGAIN)
		err = store_check_need(store, need);
	gate_leave_shared(store->gate, ticket);
	return err;
}

/* Latches the edits' frames and checks all guards, of which the first that does not hold
 * counts. */
static int check_guards(struct store *store, struct store_batch *batch, struct tree_need *need)
{
	uint32_t failed, edit_failed = UINT32_MAX;
	int err, prefix_error;

	err = batch_check_prefixes(store, batch, &failed, &prefix_error, need);
	if (err)
		return err;
	err = tree_tx_latch(&store->tree, &batch->tx, &batch->spares, need);
	if (err && batch->tx.failed_edit != UINT32_MAX)
		edit_failed = batch_guard_number(batch, batch->tx.failed_edit);
	else if (err)
		return err;
	batch->failed_guard = min_of(failed, edit_failed);
	if (failed > edit_failed || failed == UINT32_MAX)
		return err;
	if (!err)
		tree_tx_end(&store->tree, &batch->tx);
	return prefix_error;
}

static int pass_exclusive(struct store *store, struct store_batch *batch, lsn_t replay_lsn,
    lsn_t *ret_end, struct tree_need *need)
{
	uint64_t places = batch->spares.places;
	int err;

	batch->tx.has_moves = true;
	gate_enter_exclusive(store->gate);
	err = check_guards(store, batch, need);
	if (!err) {
		/* The moves look for themselves, at frames that may be the same. */
		tree_tx_unlatch(&store->tree, &batch->tx);
		if (store->eraser)
			drop_number_moves(store, batch);
		err = check_moves(store, batch, need);
		/* If these take a checkpoint, it writes what the edits dirtied just now. */
		if (err == -EAGAIN && need->kind == TREE_NEED_PLACES)
			need->places += (uint32_t)(places - batch->spares.places);
		if (!err) {
			lsn_t lsn = log_batch(store, batch, replay_lsn, ret_end);

			tree_tx_relatch(&store->tree, &batch->tx);
			tree_tx_apply(&store->tree, &batch->tx, lsn);
			tree_tx_unlatch(&store->tree, &batch->tx);
			apply_runs(store, batch);
			run_moves(store, batch);
			tree_tx_relatch(&store->tree, &batch->tx);
			tree_tx_tidy(&store->tree, &batch->tx);
		}
		tree_tx_end(&store->tree, &batch->tx);
	}
	if (err == -EAGAIN)
		err = store_check_need(store, need);
	gate_leave_exclusive(store->gate);
	return err;
}

/*
 * Frames loaded for one batch before it begins to keep those it has found.  One batch
 * at a time does, so that two never sit on half the memory that each of them needs.
 */
static void hold_frames(struct store *store, struct store_batch *batch, uint32_t loads)
{
	if (loads <= 2 * (batch->tx.edit_count + 2 * batch->move_count) + 16)
		return;
	if (!batch->tx.hold.is_on) {
		mutex_lock(&store->hold_mutex);
		tree_hold_begin(&batch->tx, pool_slot_count(store->pool) / 2);
	}
	/* Dirty frames take the place that the other half is for. */
	if (loads % HOLD_LOADS == 0)
		store_run_checkpoint(store, false);
}

static void let_frames_go(struct store *store, struct store_batch *batch)
{
	if (!batch->tx.hold.is_on)
		return;
	tree_hold_end(&store->tree, &batch->tx);
	mutex_unlock(&store->hold_mutex);
}

static bool has_drops(const struct store_batch *batch)
{
	for (uint32_t i = 0; i < batch->move_count; i++)
		if (batch->moves[i].dst_tree)
			return true;
	return false;
}

/* After an edit or move that left its frame empty or thin; later ones of the batch may have
 * filled or folded it, which store_shrink() finds out. */
static void fold_thin_frames(struct store *store, struct store_batch *batch)
{
	for (uint32_t i = 0; i < batch->move_count; i++)
		if (batch->moves[i].wants_shrink)
			store_shrink(store, &store->tree, batch->moves[i].src, batch->moves[i].src_bytes,
			    &batch->spares);
	for (uint32_t i = 0; i < batch->tx.edit_count; i++) {
		const struct tree_edit *edit = &batch->tx.edits[i];
		int err;

		if (!edit->wants_shrink)
			continue;
		err = store_shrink(store, batch->tree, edit->key, edit->key_bytes, &batch->spares);
		/* Nobody comes this way again, where everything goes: worth a checkpoint. */
		if (err && batch->erase_count && store_run_checkpoint(store, false) == 0)
			store_shrink(store, batch->tree, edit->key, edit->key_bytes, &batch->spares);
	}
}

static int apply_with_room(struct store *store, struct store_batch *batch, lsn_t replay_lsn,
    lsn_t *ret_end)
{
	uint32_t loads = 0;
	int err = 0;

	if (has_drops(batch))
		err = drop_prepare(store);
	if (err)
		return err;
	for (;;) {
		struct tree_need need = {0};

		batch->spares.places = store_promise_left();
		if (batch->move_count || batch->prefix_guard_count)
			err = pass_exclusive(store, batch, replay_lsn, ret_end, &need);
		else
			err = pass_shared(store, batch, replay_lsn, ret_end, &need);
		if (err != -EAGAIN)
			break;
		if (need.kind == TREE_NEED_FRAME)
			hold_frames(store, batch, ++loads);
		err = store_provide(store, &need, &batch->spares);
		if (err)
			break;
	}
	let_frames_go(store, batch);
	if (!err && (!store->options.no_merge || batch->erase_count))
		fold_thin_frames(store, batch);
	store_return_spares(store, &batch->spares);
	return err;
}

/* Journal credit; waits for a checkpoint to make room in the log. */
static int take_credit(struct store *store, uint32_t body_bytes)
{
	for (;;) {
		lsn_t tail = journal_tail(store->journal);
		int err = journal_reserve(store->journal, body_bytes);

		if (!err || err == -E2BIG)
			return err;
		if (err != -EAGAIN)
			return store_fail(store, err, "the journal could not be written");
		store_want_checkpoint(store);
		if (store_error(store))
			return -EROFS;
		if (store->has_thread)
			journal_wait_room(store->journal, tail);
	}
}

static bool is_freeing(const struct store_batch *batch)
{
	for (uint32_t i = 0; i < batch->tx.edit_count; i++)
		if (batch->tx.edits[i].kind == TREE_ERASE)
			return true;
	for (uint32_t i = 0; i < batch->run_count; i++)
		if (!batch->runs[i].is_use)
			return true;
	return has_drops(batch);
}

int batch_apply(struct store *store, struct store_batch *batch, lsn_t replay_lsn, lsn_t *ret_end)
{
	bool is_recovery = !store->journal && !store->is_memory;
	int err;

	store_promise_begin(is_recovery || batch->uses_headroom || is_freeing(batch));
	err = apply_with_room(store, batch, replay_lsn, ret_end);
	store_promise_end(store);
	return err;
}

static int commit_logged(struct store *store, struct store_batch *batch, lsn_t *ret_end)
{
	bool is_logged = batch->body_bytes && store->journal;
	int err = is_logged ? take_credit(store, batch->body_bytes) : 0;

	if (err)
		return err;
	err = batch_apply(store, batch, 0, ret_end);
	if (err && is_logged)
		journal_unreserve(store->journal, batch->body_bytes);
	return err;
}

static void count_commit(struct store *store, const struct store_batch *batch)
{
	uint64_t puts = 0, deletes = 0;

	if (batch->erase_count)
		return;
	for (uint32_t i = 0; i < batch->tx.edit_count; i++) {
		puts += batch->tx.edits[i].kind == TREE_PUT;
		deletes += batch->tx.edits[i].kind == TREE_ERASE;
	}
	store_count_commit(store, puts, deletes);
}

int store_commit(struct store *store, struct store_batch *batch, lsn_t *ret_lsn)
{
	lsn_t end = 0;
	int err = batch->error;

	batch->tx.failed_edit = batch->failed_guard = UINT32_MAX;
	batch->failed_move = UINT32_MAX;
	if (!err && store_is_read_only(store))
		err = -EROFS;
	if (!err)
		err = batch_parse(batch, batch->body, batch->body_bytes);
	if (!err && store->is_memory && batch->run_count)
		err = -EINVAL;
	if (!err && batch->erase_count)
		err = drop_add_edits(batch);
	if (!err)
		err = store_throttle(store);
	if (err)
		return err;
	do {
		err = commit_logged(store, batch, &end);
	} while (err == -ENOSPC &&
		 ((!batch->erase_count && drop_help(store)) || views_end_oldest(store)));
	if (err == -EEXIST || err == -ENOENT || err == -ESTALE || err == -ENOTEMPTY)
		atomic_fetch_add_explicit(&store->stats.guards_failed, 1, memory_order_relaxed);
	if (err)
		return err;
	count_commit(store, batch);
	if (ret_lsn)
		*ret_lsn = end;
	if (!batch->erase_count)
		drop_step_inline(store);
	return 0;
}

int store_sync(struct store *store, lsn_t lsn, enum journal_level level)
{
	int err;

	if (store->is_memory)
		return 0;
	if (!store->journal)
		return store_is_read_only(store) && !store_error(store) ? 0 : -EROFS;
	err = journal_sync(store->journal, lsn, level);
	return err ? store_fail(store, err, "the journal could not be written") : 0;
}

lsn_t store_end_lsn(struct store *store)
{
	if (store->is_memory)
		return atomic_load(&store->memory_lsn);
	return store->journal ? journal_end(store->journal) : store->replay_lsn;
}
