/*
 * A frame and the one above it: what cutting and folding work on.
 *
 * Both are pinned, not latched: the gate keeps writers out and readers change nothing.
 * Frames read from disk may be anything, each other's parents for one, so both are checked
 * before anything is done with them.
 */
#include "config.h"

#include "tree/tree_internal.h"

bool tree_pin_frame(struct tree *tree, uint64_t frame_id, uint32_t *ret_slot)
{
	*ret_slot = pool_latch_key_shared(tree->pool, tree_key(frame_id));
	if (*ret_slot == POOL_NO_SLOT)
		return false;
	pool_pin(tree->pool, *ret_slot);
	pool_unlatch_shared(tree->pool, *ret_slot);
	return true;
}

const struct node_crossing *tree_pair_crossing(struct tree *tree, const struct tree_pair *pair)
{
	return (const void *)node_at(tree_image(tree, pair->parent.slot), pair->parent.path.leaf);
}

static int check(struct tree *tree, const struct tree_pair *pair)
{
	const struct tree_hop *hop = &pair->hop, *parent = &pair->parent;
	const struct node_crossing *crossing;
	int err = tree_check_frame(tree, hop->frame_id, hop->slot);

	if (err || !tree_pair_has_parent(pair))
		return err;
	if (hop->frame_id == parent->frame_id || hop->frame_id == tree->root_id)
		return -EUCLEAN;
	err = tree_check_frame(tree, parent->frame_id, parent->slot);
	if (err)
		return err;
	crossing = tree_pair_crossing(tree, pair);
	return tree_is_within(tree_image(tree, hop->slot), crossing->lo, crossing->hi) ? 0 : -EUCLEAN;
}

int tree_pair_find(struct tree *tree, struct tree_pair *pair, uint64_t frame_id, struct tree_need *need)
{
	struct tree_hop hop = {.frame_id = tree->root_id};

	pair->hop.slot = pair->parent.slot = POOL_NO_SLOT;
	tree_take_up(tree, need, &hop);
	for (unsigned hops = 0; hops < TREE_HOPS_MAX; hops++) {
		const void *image;

		if (!tree_pin_frame(tree, hop.frame_id, &hop.slot))
			return tree_lacks_hop(tree, need, &hop, &pair->hop);
		if (tree_pair_has_parent(pair))
			pool_unpin(tree->pool, pair->parent.slot);
		pair->parent = pair->hop;
		image = tree_image(tree, hop.slot);
		image_find(image, pair->key, pair->key_bytes, hop.depth, &hop.path);
		pair->hop = hop;
		if (hop.frame_id == frame_id)
			return check(tree, pair);
		if (hop.path.result == IMAGE_DAMAGED)
			return -EUCLEAN;
		if (hop.path.result != IMAGE_CROSSING)
			return frame_id == TREE_LAST_FRAME ? check(tree, pair) : -ENOENT;
		hop.frame_id = image_crossing(image, hop.path.leaf);
		hop.depth = hop.path.depth;
	}
	return -EUCLEAN;
}

void tree_pair_unpin(struct tree *tree, const struct tree_pair *pair)
{
	if (pair->hop.slot != POOL_NO_SLOT)
		pool_unpin(tree->pool, pair->hop.slot);
	if (tree_pair_has_parent(pair))
		pool_unpin(tree->pool, pair->parent.slot);
}
