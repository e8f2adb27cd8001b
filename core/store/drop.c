/*
 * Dropping everything below a prefix.
 *
 * The part that its caller waits for is a move: the subtree is hung into a second tree,
 * the *internal* one, under a number.  It costs what any move costs, however much lies
 * below.
 *
 *      user's tree                     internal tree
 *    ... prefix -> [ subtree ]    =>   be64(number) -> [ subtree ]
 *
 * The *eraser* then takes the first leaves of the internal tree, a run at a time, and
 * erases them in transactions of their own; frames that become empty are folded away and
 * their space is free after the next checkpoint.  It is a thread, and where the store has
 * none, each commit makes a step.
 *
 * In the log a step is just a count: "the first n leaves".  Keys may be long, and what is
 * logged here would be about as much as was dropped.  It suffices, because
 *
 *  1. replay meets exactly the state in which the step was made, and the order of keys
 *     does not depend on how they are laid out in frames;
 *  2. numbers rise in the order of the log: they are given with the gate held
 *     exclusively.  So a subtree that is dropped between the choice of leaves and the
 *     step comes behind all others, and the first n leaves stay what they were.  They
 *     rise from one life of the store to the next as well, for they are never below the
 *     LSN at which they are given;
 *  3. steps are made by one thread at a time.
 *
 * A caller may have a say in each leaf that goes (release, in struct store_options): it
 * adds to the step's batch what the leaf had, such as data blocks.  Replay does not ask
 * again: the log has what was added.
 *
 * Crash: the internal tree is in every checkpoint as the user's is.  Whatever it has when
 * the store is opened is what is still to do.
 */
#include "config.h"

#include "store/store_internal.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/log.h"

/* Of one step. */
#define STEP_LEAVES 64u
#define STEP_KEY_BYTES (64u * 1024)
#define STEP_BODY_BYTES (256u * 1024)

/* Steps after which a writer without space looks again. */
#define HELP_STEPS 64u

/* How long the thread leaves a step alone that failed. */
#define RETRY_NS 200000000ull

struct eraser {
	struct store *store;
	struct mutex step_mutex; /* RANK_ERASE: one step at a time */
	struct store_batch *batch; /* guarded by step_mutex */
	uint64_t number;	   /* likewise: whose leaves were erased last */
	uint32_t step_leaves;	   /* likewise: how many go at a time */

	struct mutex mutex; /* RANK_LEAF */
	struct condition work, progress;
	uint64_t done_count, failed_count; /* guarded by mutex: steps */
	bool is_stopping;    /* likewise */
	pthread_t thread;
	bool has_thread; /* set at init */
};

/* ---- the graft ------------------------------------------------------------------- */

int drop_prepare(struct store *store)
{
	uint32_t slot;
	int err;

	if (atomic_load(&store->has_internal))
		return 0;
	err = store_promise(store, 1, true);
	if (!err)
		err = store_lease_slot(store, &slot);
	if (err)
		return err;
	gate_enter_exclusive(store->gate);
	if (store->internal.root_id) {
		pool_release(store->pool, slot);
	} else {
		store->internal.root_id = store_take_id(store);
		tree_plant(&store->internal, slot);
		atomic_store(&store->has_internal, true);
	}
	gate_leave_exclusive(store->gate);
	return 0;
}

static uint64_t number_of(const struct tree_move *move)
{
	uint64_t number;

	memcpy(&number, move->dst, sizeof(number));
	return be64toh(number);
}

void drop_number_moves(struct store *store, struct store_batch *batch)
{
	uint64_t last = store->drop_number;

	for (uint32_t i = 0; i < batch->move_count; i++) {
		struct tree_move *move = &batch->moves[i];
		uint64_t number;

		if (!move->dst_tree)
			continue;
		/* It keeps the one of an earlier attempt if nobody came in between. */
		if (number_of(move) <= last) {
			number = max_of(last, store_end_lsn(store)) + 1;
			number = htobe64(number);
			memcpy(batch->body + (move->dst - batch->body), &number, sizeof(number));
			move->dst_shape = 0;
		}
		last = number_of(move);
	}
}

void drop_note(struct store *store, const struct tree_move *move)
{
	store->drop_number = max_of(store->drop_number, number_of(move));
	atomic_fetch_add(&store->dropping, 1);
	atomic_fetch_add_explicit(&store->drops, 1, memory_order_relaxed);
}

/* ---- taking leaves ----------------------------------------------------------------- */

static int fit(void **memory, uint32_t *size, uint32_t needed, uint32_t unit)
{
	uint32_t grown = max_of(*size * 2, 64u);
	void *p;

	if (needed <= *size)
		return 0;
	grown = max_of(grown, needed);
	p = realloc(*memory, (size_t)grown * unit);
	if (!p)
		return -ENOMEM;
	*memory = p;
	*size = grown;
	return 0;
}

static int take_key(struct taken_keys *taken, const struct store_item *item)
{
	int err = fit((void **)&taken->bytes, &taken->size, taken->used + item->key_bytes, 1);

	if (!err)
		err = fit((void **)&taken->ends, &taken->ends_size, taken->count + 1, sizeof(uint32_t));
	if (err)
		return err;
	memcpy(taken->bytes + taken->used, item->key, item->key_bytes);
	taken->used += item->key_bytes;
	taken->ends[taken->count++] = taken->used;
	return 0;
}

static void forget_taken(struct taken_keys *taken)
{
	taken->used = 0;
	taken->count = 0;
}

int drop_take(struct store *store, struct store_batch *batch, uint32_t count)
{
	struct store_cursor *cursor;
	struct store_item item;
	int err;

	forget_taken(&batch->taken);
	if (!atomic_load(&store->has_internal))
		return -EUCLEAN;
	err = cursor_open_tree(store, &store->internal, &cursor);
	if (err)
		return err;
	while (!err && batch->taken.count < count) {
		err = store_cursor_next(cursor, &item);
		if (!err)
			err = take_key(&batch->taken, &item);
	}
	store_cursor_close(cursor);
	if (!err)
		err = drop_add_edits(batch);
	return err == -ENOENT ? -EUCLEAN : err;
}

int drop_add_edits(struct store_batch *batch)
{
	const struct taken_keys *taken = &batch->taken;
	uint32_t start = 0;
	int err = 0;

	for (uint32_t i = 0; i < taken->count && !err; i++) {
		err = batch_add_edit(batch, (struct tree_edit){
						.kind = TREE_ERASE,
						.key = taken->bytes + start,
						.key_bytes = taken->ends[i] - start,
					    });
		start = taken->ends[i];
	}
	return err;
}

/* ---- a step -------------------------------------------------------------------------- */

/* The subtrees before @number are gone. */
static void note_number(struct eraser *eraser, uint64_t number)
{
	/* The last one is struck off when nothing at all is found. */
	if (eraser->number && eraser->number != number && atomic_load(&eraser->store->dropping) > 1)
		atomic_fetch_sub(&eraser->store->dropping, 1);
	eraser->number = number;
}

static void release_leaf(struct eraser *eraser, const struct store_item *item)
{
	const struct store_options *options = &eraser->store->options;

	if (options->release)
		options->release(options->release_ctx, eraser->batch, item->key + sizeof(uint64_t),
		    item->key_bytes - (uint32_t)sizeof(uint64_t), item->value, item->value_bytes);
}

static uint64_t item_number(const struct store_item *item)
{
	uint64_t number;

	memcpy(&number, item->key, sizeof(number));
	return be64toh(number);
}

/* The first leaves go into the batch, with what belongs to them; all of one subtree. */
static int choose_leaves(struct eraser *eraser, struct store_cursor *cursor)
{
	struct store_batch *batch = eraser->batch;
	struct store_item item;
	uint64_t number = 0;
	int err = 0;

	while (!err && batch->taken.count < eraser->step_leaves && batch->taken.used < STEP_KEY_BYTES &&
	       batch->body_bytes < STEP_BODY_BYTES) {
		err = store_cursor_next(cursor, &item);
		if (err)
			break;
		if (item.key_bytes < sizeof(uint64_t))
			return -EUCLEAN;
		if (batch->taken.count && item_number(&item) != number)
			break;
		number = item_number(&item);
		err = take_key(&batch->taken, &item);
		if (!err)
			release_leaf(eraser, &item);
	}
	if (batch->taken.count)
		note_number(eraser, number);
	return err == -ENOENT && batch->taken.count ? 0 : err;
}

/*
 * Large leaves lie in many frames.  What a small pool cannot change at once is tried
 * with half as many, and from then on with one more each time.
 */
static bool fits_when_smaller(struct eraser *eraser, int err)
{
	uint32_t count = eraser->batch->taken.count;

	if (!err)
		eraser->step_leaves = min_of(eraser->step_leaves + 1, STEP_LEAVES);
	if (err != -E2BIG || count < 2)
		return false;
	eraser->step_leaves = count / 2;
	return true;
}

/* Frames without keys came with what was dropped, or could not be folded when they lost
 * their last.  No leaf leads there. */
static void fold_empty_frames(struct eraser *eraser)
{
	struct store *store = eraser->store;

	store_promise_begin(true);
	store_fold_first(store, &store->internal, &eraser->batch->spares);
	store_return_spares(store, &eraser->batch->spares);
	store_promise_end(store);
}

/* -ENOENT: there is nothing left to erase. */
static int make_step_locked(struct eraser *eraser)
{
	struct store *store = eraser->store;
	struct store_batch *batch = eraser->batch;
	struct store_cursor *cursor;
	int err;

	if (!atomic_load(&store->has_internal))
		return -ENOENT;
	if (atomic_load(&store->empty_frames))
		fold_empty_frames(eraser);
	store_batch_reset(batch);
	forget_taken(&batch->taken);
	err = cursor_open_tree(store, &store->internal, &cursor);
	if (err)
		return err;
	err = choose_leaves(eraser, cursor);
	store_cursor_close(cursor);
	if (err)
		return err;
	batch_erase_dropped(batch, batch->taken.count);
	return store_commit(store, batch, NULL);
}

static int make_step(struct eraser *eraser)
{
	struct store *store = eraser->store;
	uint64_t before = atomic_load(&store->dropping);
	int err;

	mutex_lock(&eraser->step_mutex);
	do {
		err = make_step_locked(eraser);
	} while (fits_when_smaller(eraser, err));
	if (err == -ENOENT) {
		/* All that had been dropped when we looked is gone. */
		eraser->number = 0;
		atomic_fetch_sub(&store->dropping, min_of(before, atomic_load(&store->dropping)));
	} else if (err) {
		log_debug("dropped keys could not be erased: %s", strerror(-err));
	}
	mutex_unlock(&eraser->step_mutex);
	mutex_lock(&eraser->mutex);
	eraser->done_count += err == 0;
	eraser->failed_count += err && err != -ENOENT;
	condition_wake_all(&eraser->progress);
	mutex_unlock(&eraser->mutex);
	return err;
}

/* ---- who makes them ------------------------------------------------------------------- */

void drop_step_inline(struct store *store)
{
	struct eraser *eraser = store->eraser;

	if (!atomic_load_explicit(&store->dropping, memory_order_relaxed))
		return;
	if (!eraser->has_thread) {
		make_step(eraser);
		return;
	}
	mutex_lock(&eraser->mutex);
	condition_wake_all(&eraser->work);
	mutex_unlock(&eraser->mutex);
}

static void *erase_thread(void *ctx)
{
	struct eraser *eraser = ctx;
	struct store *store = eraser->store;

	mutex_lock(&eraser->mutex);
	while (!eraser->is_stopping) {
		int err;

		if (!atomic_load(&store->dropping) || store_error(store)) {
			condition_wait(&eraser->work, &eraser->mutex);
			continue;
		}
		mutex_unlock(&eraser->mutex);
		err = make_step(eraser);
		mutex_lock(&eraser->mutex);
		if (err && err != -ENOENT && !eraser->is_stopping)
			condition_wait_until(&eraser->work, &eraser->mutex, monotonic_ns() + RETRY_NS);
	}
	mutex_unlock(&eraser->mutex);
	return NULL;
}

static bool help_alone(struct eraser *eraser)
{
	bool is_helped = false;

	for (uint32_t i = 0; i < HELP_STEPS && atomic_load(&eraser->store->dropping); i++) {
		if (make_step(eraser))
			break;
		is_helped = true;
	}
	return is_helped;
}

bool drop_help(struct store *store)
{
	struct eraser *eraser = store->eraser;
	uint64_t done, failed;
	bool is_helped;

	if (!eraser || !atomic_load(&store->dropping))
		return false;
	if (!eraser->has_thread)
		return help_alone(eraser);
	mutex_lock(&eraser->mutex);
	done = eraser->done_count;
	failed = eraser->failed_count;
	condition_wake_all(&eraser->work);
	while (eraser->done_count < done + HELP_STEPS && eraser->failed_count == failed &&
	       atomic_load(&store->dropping) && !store_error(store))
		condition_wait(&eraser->progress, &eraser->mutex);
	is_helped = eraser->done_count != done || !atomic_load(&store->dropping);
	mutex_unlock(&eraser->mutex);
	return is_helped && !store_error(store);
}

/* ---- life ------------------------------------------------------------------------------- */

/* What an earlier life of the store left over. */
static int look_for_work(struct store *store)
{
	struct store_cursor *cursor;
	struct store_item item;
	int err;

	/* Drops that were replayed count as one with what was there before. */
	atomic_store(&store->dropping, 0);
	if (!atomic_load(&store->has_internal))
		return 0;
	err = cursor_open_tree(store, &store->internal, &cursor);
	if (err)
		return err;
	err = store_cursor_next(cursor, &item);
	store_cursor_close(cursor);
	if (!err)
		atomic_store(&store->dropping, 1);
	return err == -ENOENT ? 0 : err;
}

int drop_start(struct store *store)
{
	struct eraser *eraser = calloc(1, sizeof(*eraser));
	int err;

	if (!eraser)
		return -ENOMEM;
	eraser->store = store;
	eraser->step_leaves = STEP_LEAVES;
	mutex_init(&eraser->step_mutex, RANK_ERASE);
	mutex_init(&eraser->mutex, RANK_LEAF);
	condition_init(&eraser->work);
	condition_init(&eraser->progress);
	store->eraser = eraser;
	err = store_batch_create(store, &eraser->batch);
	if (!err)
		err = look_for_work(store);
	if (err || store->options.no_threads)
		return err;
	err = pthread_create(&eraser->thread, NULL, erase_thread, eraser);
	eraser->has_thread = err == 0;
	return -err;
}

void drop_stop(struct store *store)
{
	struct eraser *eraser = store->eraser;

	if (!eraser)
		return;
	if (eraser->has_thread) {
		mutex_lock(&eraser->mutex);
		eraser->is_stopping = true;
		condition_wake_all(&eraser->work);
		mutex_unlock(&eraser->mutex);
		pthread_join(eraser->thread, NULL);
	}
	store_batch_destroy(eraser->batch);
	mutex_fini(&eraser->step_mutex);
	mutex_fini(&eraser->mutex);
	condition_fini(&eraser->work);
	condition_fini(&eraser->progress);
	free(eraser);
	store->eraser = NULL;
}
