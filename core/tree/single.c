/*
 * One key changed on its own: most writes.
 *
 * A transaction (tx.c) may touch many frames, so it locates, then latches in order, then
 * searches again.  One edit touches one frame.  It is searched for without latches; then
 * the frame's latch is taken *from the version that was read*: if that succeeds nothing
 * has changed since, and where the search ended is where the edit goes.
 *
 *    read frame by frame        no latch; edges stay, since the gate is held
 *    upgrade                    version as read -> exclusive.  Lost: latch, search again
 *    guard, room                gives up here with nothing changed
 *    (journal, by the caller)
 *    apply, unlatch
 */
#include "config.h"

#include "tree/tree_internal.h"

#include "base/assert.h"

/*
 * Searches the frame where the search has come to.  0: it ends there, and the frame is
 * latched exclusively; 1: it goes on in another; -EAGAIN: the frame is not in memory.
 */
static int search_frame(struct tree *tree, struct tree_single *single)
{
	struct pool_read here;
	int step = tree_step_unlatched(tree, single->key, single->key_bytes, &single->frame_id,
	    &single->depth, &single->path, &here);
	void *image;

	if (step == 1)
		return 1;
	if (step == 0 && pool_try_upgrade(tree->pool, here.slot, here.version)) {
		single->slot = here.slot;
		return 0;
	}
	single->slot = pool_latch_key_exclusive(tree->pool, tree_key(single->frame_id));
	if (single->slot == POOL_NO_SLOT)
		return -EAGAIN;
	image = tree_image(tree, single->slot);
	image_find(image, single->key, single->key_bytes, single->depth, &single->path);
	if (single->path.result != IMAGE_CROSSING)
		return 0;
	single->frame_id = image_crossing(image, single->path.leaf);
	single->depth = single->path.depth;
	pool_unlatch_exclusive(tree->pool, single->slot);
	return 1;
}

/* A value that takes the place of one as long needs none. */
bool tree_has_room(const struct tree *tree, const void *image, const struct image_path *path, uint32_t key_bytes,
    uint32_t value_bytes, uint64_t version_most)
{
	if (path->result == IMAGE_FOUND && image_can_set_value(image, path->leaf, value_bytes, version_most))
		return true;
	return tree_frame_takes(tree, image, image_put_room(key_bytes, value_bytes));
}

/* The frame is latched: can the edit be made? */
static int check(struct tree *tree, const struct tree_single *single)
{
	const void *image = tree_image(tree, single->slot);
	int err;

	if (single->path.result == IMAGE_DAMAGED)
		return -EUCLEAN;
	err = tree_check_guard(image, &single->path, single->guard, single->guard_version);
	if (err)
		return err;
	if (single->kind == TREE_ERASE && single->path.result != IMAGE_FOUND)
		return 0;
	/* Clean: it needs a place on disk; frozen, or seen by a view: a copy. */
	if (!tree_is_writable(tree, single->slot))
		return -EAGAIN;
	if (single->kind == TREE_ERASE)
		return 0;
	return tree_has_room(tree, image, &single->path, single->key_bytes, single->value_bytes,
		   single->version_most) ?
		       0 : -EAGAIN;
}

int tree_single_latch(struct tree *tree, struct tree_single *single)
{
	int err = 1;

	single->frame_id = tree->root_id;
	single->depth = 0;
	single->wants_shrink = false;
	for (unsigned hops = 0; err > 0 && hops < TREE_HOPS_MAX; hops++)
		err = search_frame(tree, single);
	if (err)
		return err < 0 ? err : -EUCLEAN;
	err = check(tree, single);
	if (err)
		pool_unlatch_exclusive(tree->pool, single->slot);
	return err;
}

void tree_single_unlatch(struct tree *tree, struct tree_single *single)
{
	pool_unlatch_exclusive(tree->pool, single->slot);
}

void tree_single_apply(struct tree *tree, struct tree_single *single, uint64_t version)
{
	void *image = tree_image(tree, single->slot);
	uint32_t live = image_live_bytes(image);

	if (single->kind == TREE_PUT) {
		tree_before_put(tree, single->frame_id, image, &single->path);
		image_put(image, &single->path, single->key, single->key_bytes, single->value,
		    single->value_bytes, version);
	} else if (single->path.result == IMAGE_FOUND) {
		image_erase(image, &single->path, single->key, single->key_bytes, single->depth, 0);
		single->wants_shrink = tree_after_erase(tree, single->frame_id, image, live);
	}
	pool_unlatch_exclusive(tree->pool, single->slot);
}
