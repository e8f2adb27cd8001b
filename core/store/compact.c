/*
 * Compacting on request: fewer and fuller frames, and room given back to the host.
 *
 * A walk over the frames below the prefix names for each one a key that lies in it; then
 * steps are made along that key until nothing is left to do there: the frame is folded
 * into its parent or takes in a neighbour, or is packed.  A step is the same as those
 * that writers make on their way (tree_compact()): it takes the gate for as long as one
 * frame takes to copy.  In between others work, and whatever they change, a step finds
 * its frames anew from the root.
 *
 * Nothing of this is logged: the keys stay what they are.  A crash leaves the frames of
 * the last checkpoint.
 *
 * What became free rests until a checkpoint; so one is made, and then wholly free frames
 * go back to the host.
 */
#include "config.h"

#include "store/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Steps along one key; two that fold and unfold each other's work must not go on. */
#define STEPS_MAX 64

/* Attempts at one step: each lacks a frame of three. */
#define TRIES_MAX 32

struct compaction {
	struct store *store;
	struct tree_spares spares;
	int (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
	uint64_t done;
};

static int try_step(struct compaction *compaction, const uint8_t *key, uint32_t key_bytes,
    struct tree_need *need)
{
	struct store *store = compaction->store;
	int err;

	compaction->spares.places = store_promise_left();
	gate_enter_exclusive(store->gate);
	err = tree_compact(&store->tree, key, key_bytes, &compaction->spares, need);
	if (err == -EAGAIN)
		err = store_check_need(store, need);
	gate_leave_exclusive(store->gate);
	return err;
}

/* -ENOENT: nothing is left to do along the key. */
static int step(struct compaction *compaction, const uint8_t *key, uint32_t key_bytes)
{
	struct store *store = compaction->store;
	struct tree_need need = {0};
	int err = store_throttle(store);

	for (unsigned tries = 0; !err && tries < TRIES_MAX; tries++) {
		err = store_promise(store, TREE_STEP_FRAMES, false);
		if (!err)
			err = store_collect_spares(store, &compaction->spares, TREE_STEP_SLOTS);
		if (!err)
			err = try_step(compaction, key, key_bytes, &need);
		if (err != -EAGAIN)
			return err;
		err = store_provide(store, &need, &compaction->spares);
	}
	/* Memory is short: what it is about goes as soon as it comes. */
	return err ? err : -ENOENT;
}

static int compact_frame(void *ctx, const struct walked_frame *frame, uint64_t pending)
{
	struct compaction *compaction = ctx;
	uint32_t key_bytes = frame->frame.key_depth + frame->leaf_bytes;
	uint8_t *key = malloc(key_bytes + 1u);
	int err = key ? 0 : -ENOMEM;

	if (key && frame->leaf) {
		memcpy(key, frame->path, frame->frame.key_depth);
		memcpy(key + frame->frame.key_depth, frame->leaf, frame->leaf_bytes);
		store_promise_begin(true);
		for (unsigned steps = 0; !err && steps < STEPS_MAX; steps++)
			err = step(compaction, key, key_bytes);
		store_return_spares(compaction->store, &compaction->spares);
		store_promise_end(compaction->store);
	}
	free(key);
	if (err && err != -ENOENT)
		return err;
	compaction->done++;
	if (!compaction->progress)
		return 0;
	return compaction->progress(compaction->ctx, compaction->done, compaction->done + pending);
}

/* A host that cannot take back anything is no error. */
static int give_back(struct store *store)
{
	uint64_t bytes;
	int err = store_run_checkpoint(store, false);

	if (err || store->is_memory)
		return err;
	err = space_trim(store->space, &bytes);
	return err == -EOPNOTSUPP ? 0 : err;
}

int store_compact(struct store *store, const void *prefix, uint32_t prefix_bytes,
    int (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx)
{
	struct compaction compaction = {.store = store, .progress = progress, .ctx = ctx};
	int err;

	if (store_is_read_only(store))
		return -EROFS;
	err = store_walk_frames(store, prefix, prefix_bytes, compact_frame, &compaction);
	return err ? err : give_back(store);
}
