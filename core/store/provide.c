/*
 * What the tree lacks and the store gets: spare slots, room, and frames (load.c).
 *
 * Spares.  Slots are collected by one thread at a time; others wait without holding
 * any, so that threads never sit on half of what each of them needs.
 */
#include "config.h"

#include "store/store_internal.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"

/* How long to sleep before looking again whether a slot came free. */
#define LEASE_WAIT_NS 50000000ull

/* Rounds of waiting after which the caller looks anew at what it needs. */
#define ROUNDS_MAX 8

/*
 * Promises.  Each frame that gets dirty takes one whole frame of promised space with it,
 * which the checkpoint redeems.  What the tree is about to dirty it says beforehand
 * (TREE_NEED_PLACES), or it is known (TREE_STEP_FRAMES): so it is asked for exactly, and
 * where there is none nothing has been changed.  `left` is what this thread's operation
 * has been promised and not yet used.
 *
 * A frame changed where it is takes no space beyond the next checkpoint.  Operations
 * that make the tree larger and take nothing away leave some frames alone, so that
 * those that take away, and recovery, can go on in a full volume.
 */
#define HEADROOM_MIN 4u
#define HEADROOM_MAX 16u
#define HEADROOM_SHARE 64u

static _Thread_local struct {
	uint64_t left;
	bool is_freeing;
} promise;

void store_promise_begin(bool is_freeing)
{
	promise.left = 0;
	promise.is_freeing = is_freeing;
}

void store_promise_end(struct store *store)
{
	if (promise.left && !store->is_memory)
		space_unreserve(store->space, SPACE_TREE, promise.left * FRAME_BLOCKS);
	promise.left = 0;
}

uint64_t store_promise_left(void)
{
	return promise.left;
}

static int reserve_frames(struct store *store, uint64_t frames, bool is_growth)
{
	uint64_t share = from_le64(store->superblock_at_open.frame_count) / HEADROOM_SHARE;
	uint64_t headroom = max_of(share, (uint64_t)HEADROOM_MIN);
	int err;

	headroom = min_of(headroom, (uint64_t)HEADROOM_MAX);
	if (!is_growth || promise.is_freeing)
		return space_reserve(store->space, SPACE_TREE, frames * FRAME_BLOCKS);
	err = space_reserve(store->space, SPACE_TREE, (frames + headroom) * FRAME_BLOCKS);
	if (!err)
		space_unreserve(store->space, SPACE_TREE, headroom * FRAME_BLOCKS);
	return err;
}

/* Does anything become free with a checkpoint? */
static bool would_checkpoint_help(struct store *store)
{
	struct space_counters counters;

	space_counters(store->space, &counters);
	return counters.resting_blocks || atomic_load(&store->dirty_count);
}

int store_promise(struct store *store, uint64_t frames, bool is_growth)
{
	uint64_t missing = frames - min_of(frames, promise.left);
	int err = missing && !store->is_memory ? reserve_frames(store, missing, is_growth) : 0;

	if (err == -ENOSPC && would_checkpoint_help(store)) {
		err = store_run_checkpoint(store, false);
		if (!err)
			err = reserve_frames(store, missing, is_growth);
	}
	if (!err)
		promise.left += missing;
	return err;
}

int id_list_add(struct id_list *list, uint64_t id)
{
	if (list->count == list->size) {
		uint32_t size = max_of(list->size * 2, 64u);
		uint64_t *grown = realloc(list->ids, size * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		list->ids = grown;
		list->size = size;
	}
	list->ids[list->count++] = id;
	return 0;
}

void store_frame_dirtied(void *ctx, uint64_t frame_id)
{
	struct store *store = ctx;

	ASSERT(promise.left > 0);
	promise.left--;
	if (store->is_memory)
		return;
	mutex_lock(&store->dirty_mutex);
	/* A frame left off the list would never reach the disk: no checkpoint then. */
	if (id_list_add(&store->dirty, frame_id))
		store->out_of_memory = true;
	/* It looks after spares for their copies. */
	if ((store->dirty.count & (store->dirty.count - 1)) == 0)
		condition_wake_all(&store->thread_condition);
	mutex_unlock(&store->dirty_mutex);
	atomic_fetch_add(&store->dirty_count, 1);
}

uint64_t store_take_id(void *ctx)
{
	struct store *store = ctx;
	uint64_t id;

	mutex_lock(&store->dirty_mutex);
	if (store->free_ids.count)
		id = store->free_ids.ids[--store->free_ids.count];
	else
		id = store->next_id++;
	mutex_unlock(&store->dirty_mutex);
	atomic_fetch_add_explicit(&store->frames_ever, 1, memory_order_relaxed);
	return id;
}

void store_frame_dropped(void *ctx, uint64_t frame_id)
{
	struct store *store = ctx;

	mutex_lock(&store->dirty_mutex);
	/* In memory no manifest names it any more, and an id lost to a full list is lost. */
	if (store->is_memory)
		id_list_add(&store->free_ids, frame_id);
	else if (id_list_add(&store->dropped, frame_id))
		store->out_of_memory = true;
	mutex_unlock(&store->dirty_mutex);
	atomic_fetch_add_explicit(&store->stats.frames_dropped, 1, memory_order_relaxed);
}

uint64_t store_tree_frames(struct store *store)
{
	/* First, or one that is made and dropped in between would be missing. */
	uint64_t dropped = atomic_load(&store->stats.frames_dropped);

	return atomic_load(&store->frames_ever) - dropped;
}

/* ---- slots ----------------------------------------------------------------------- */

/* -ENOBUFS: none came free after a wait. */
static int lease_or_wait(struct store *store, uint32_t *ret_slot)
{
	int err = pool_lease(store->pool, ret_slot);
	uint32_t token;

	if (err != -ENOBUFS)
		return err;
	token = pool_wait_token(store->pool);
	atomic_store(&store->is_short_of_slots, true);
	store_want_checkpoint(store);
	err = pool_lease(store->pool, ret_slot);
	if (err != -ENOBUFS)
		return err;
	pool_wait(store->pool, token, LEASE_WAIT_NS);
	return -ENOBUFS;
}

int store_lease_slot(struct store *store, uint32_t *ret_slot)
{
	for (unsigned failures = 0;;) {
		int err = lease_or_wait(store, ret_slot);

		if (err != -ENOBUFS)
			return err;
		if (store->is_memory)
			return -ENOSPC;
		/* No checkpoint will clean a frame again; others may let go of theirs. */
		if (store_error(store) && ++failures > ROUNDS_MAX)
			return -EROFS;
	}
}

void store_return_spares(struct store *store, struct tree_spares *spares)
{
	while (spares->count > 0)
		pool_release(store->pool, spares->slots[--spares->count]);
}

int store_collect_spares(struct store *store, struct tree_spares *spares, uint32_t count)
{
	unsigned rounds = 0;
	int err = 0;

	if (count > TREE_SPARES_MAX || count > pool_slot_count(store->pool) / 2)
		return -E2BIG;
	if (spares->count >= count)
		return 0;
	store_return_spares(store, spares);
	mutex_lock(&store->spares_mutex);
	if (store->is_memory)
		err = memory_collect_spares(store, spares, count, promise.is_freeing);
	while (!err && spares->count < count && rounds < ROUNDS_MAX) {
		err = lease_or_wait(store, &spares->slots[spares->count]);
		if (!err)
			spares->count++;
		else if (err == -ENOBUFS)
			err = ++rounds < ROUNDS_MAX ? 0 : -EAGAIN;
	}
	mutex_unlock(&store->spares_mutex);
	if (err)
		store_return_spares(store, spares);
	if (err == -EAGAIN)
		err = store_error(store) ? -EROFS : 0;
	return err;
}

/* ---- room ------------------------------------------------------------------------- */

/*
 * A structural step needs spares and some frames in memory at once.  Where most slots
 * are dirty the ones push the others out; a checkpoint now and then ends that.
 */
#define STEP_TRIES 8

/* TREE_NEED_ROOM, TREE_NEED_CUT. */
static int split_frame(struct store *store, const struct tree_need *want, struct tree_spares *spares)
{
	uint32_t slots = want->kind == TREE_NEED_CUT ? TREE_CUT_SLOTS : TREE_STEP_SLOTS;
	struct tree_need need = {0};

	for (unsigned tries = 1;; tries++) {
		int err = store_collect_spares(store, spares, slots);

		if (err)
			return err;
		spares->places = store_promise_left();
		gate_enter_exclusive(store->gate);
		err = want->kind == TREE_NEED_CUT ? tree_cut_off(want, spares, &need) :
						    tree_make_room(want, spares, &need);
		if (err == -EAGAIN)
			err = store_check_need(store, &need);
		gate_leave_exclusive(store->gate);
		if (err != -EAGAIN)
			return err;
		/* At most once a level: the parent wants room for a crossing. */
		err = store_provide(store, &need, spares);
		if (!err && tries % STEP_TRIES == 0)
			err = store_run_checkpoint(store, false);
		if (err)
			return err;
	}
}

/* What folding takes at most, if it is to be had.  Folding says what it cannot do without:
 * next to nothing where the frame is empty. */
static void bring_spares(struct store *store, struct tree_spares *spares)
{
	if (store_promise(store, TREE_STEP_FRAMES, false) == 0)
		store_collect_spares(store, spares, TREE_STEP_SLOTS);
}

/* Somebody waits for the answer. */
static int fold_empty(struct store *store, const struct tree_need *want, struct tree_spares *spares)
{
	struct tree_need need = {0};
	struct tree_fold fold = {0};
	int err = 0;

	bring_spares(store, spares);
	for (unsigned tries = 1; !err; tries++) {
		spares->places = store_promise_left();
		gate_enter_exclusive(store->gate);
		err = tree_fold_empty(want->tree, want->key, want->key_bytes, &fold, spares, &need);
		if (err == -EAGAIN)
			err = store_check_need(store, &need);
		gate_leave_exclusive(store->gate);
		if (err != -EAGAIN)
			break;
		err = store_provide(store, &need, spares);
		if (!err && tries % STEP_TRIES == 0)
			err = store_run_checkpoint(store, false);
	}
	tree_fold_end(&fold);
	return min_of(err, 0);
}

void store_fold_first(struct store *store, struct tree *tree, struct tree_spares *spares)
{
	struct tree_need want = {.kind = TREE_NEED_FOLD, .tree = tree, .key = (const uint8_t *)""};
	uint64_t before;

	do {
		before = atomic_load(&store->empty_frames);
	} while (before && fold_empty(store, &want, spares) == 0 && atomic_load(&store->empty_frames) < before);
}

int store_provide(struct store *store, const struct tree_need *need, struct tree_spares *spares)
{
	int err;

	switch (need->kind) {
	case TREE_NEED_FRAME:
		/* Loading may have to wait for a slot: hold none meanwhile. */
		store_return_spares(store, spares);
		err = store_load_frame(store, need->frame_id);
		/* It was there under the gate; it may be gone since. */
		return err == -ENOENT ? 0 : err;
	case TREE_NEED_SLOTS:
		return store_collect_spares(store, spares, need->slots);
	case TREE_NEED_PLACES:
		store_pace(store);
		return store_promise(store, need->places, need->is_growth);
	case TREE_NEED_ROOM:
	case TREE_NEED_CUT:
		return split_frame(store, need, spares);
	case TREE_NEED_FOLD:
		return fold_empty(store, need, spares);
	default:
		ASSERT(!"the tree asked for nothing");
		return -EINVAL;
	}
}

/* One step.  It is worth some loading, but no checkpoint: -EBUSY after STEP_TRIES. */
static int shrink_once(struct store *store, struct tree *tree, const uint8_t *key, uint32_t key_bytes,
    struct tree_spares *spares)
{
	struct tree_need need = {0};
	int err = -EAGAIN;

	bring_spares(store, spares);
	for (unsigned tries = 0; err == -EAGAIN && tries < STEP_TRIES; tries++) {
		spares->places = store_promise_left();
		gate_enter_exclusive(store->gate);
		err = tree_shrink(tree, key, key_bytes, spares, &need);
		if (err == -EAGAIN)
			err = store_check_need(store, &need);
		gate_leave_exclusive(store->gate);
		if (err == -EAGAIN)
			err = store_provide(store, &need, spares) ? -EIO : -EAGAIN;
	}
	return err == -EAGAIN ? -EBUSY : err;
}

/* Folds frames on the way to the key, the last one first, as long as they are thin. */
int store_shrink(struct store *store, struct tree *tree, const uint8_t *key, uint32_t key_bytes,
    struct tree_spares *spares)
{
	int err;

	do {
		err = shrink_once(store, tree, key, key_bytes, spares);
	} while (err > 0);
	/* Frames that stay thin cost space, nothing else. */
	if (err < 0 && err != -EBUSY)
		log_debug("a thin frame was not folded: %s", strerror(-err));
	return err;
}
