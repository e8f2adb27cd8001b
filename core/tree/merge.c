/*
 * Folding frames that have become nearly empty.
 *
 * A frame goes into its parent if both together fill at most FOLD_MOST of one frame:
 * its root branches on the same byte as the parent's node, so its entries simply
 * take the crossing's place.  Otherwise it takes over the run beside it, if the two
 * fit in one: the crossing is widened over both.  An empty frame just goes.
 */
#include "config.h"

#include "tree/tree_internal.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/cleanup.h"

#define FOLD_MOST (IMAGE_CAPACITY / 100 * 60)

/* When asked to compact: what then comes in has a little room before a split, and
 * fewer dead bytes than this are not worth a step. */
#define COMPACT_MOST (IMAGE_CAPACITY / 100 * 85)
#define PACK_LEAST (IMAGE_CAPACITY / 100 * 2)

struct fold {
	struct tree *tree;
	struct tree_pair pair;
	uint32_t most; /* bytes that a frame made of two may hold */
};

static node_ref root_of(const void *image)
{
	return from_le16(image_header_const(image)->root);
}

/* In the parent, or a packed copy of it: the crossing goes, and what lies in the frame, if
 * anything, comes in its place. */
static void fold_into_parent(struct fold *fold, void *parent)
{
	const void *image = tree_image(fold->tree, fold->pair.hop.slot);
	struct image_path path;
	struct node_crossing *crossing;
	node_ref node;

	image_find(parent, fold->pair.key, fold->pair.key_bytes, fold->pair.parent.depth, &path);
	ASSERT(path.result == IMAGE_CROSSING);
	crossing = (void *)node_at_mutable(parent, path.leaf);
	node = inner_remove(parent, path.node, crossing->lo, crossing->hi, 0);
	image_free(parent, path.leaf);
	if (path.parent)
		inner_set(parent, path.parent, path.parent_byte, path.parent_byte, node);
	else
		image_header(parent)->root = to_le16(node);
	image_adopt(parent, node, path.parent, path.parent_byte, image, root_of(image));
	image_tidy(parent, fold->pair.key, fold->pair.key_bytes, fold->pair.parent.depth, 0);
}

static void drop_pinned(struct tree *tree, uint64_t frame_id)
{
	uint32_t slot = pool_latch_key_exclusive(tree->pool, tree_key(frame_id));

	ASSERT(slot != POOL_NO_SLOT);
	tree_drop_frame(tree, frame_id, slot);
}

/* An empty frame goes also where next to nothing is left to work with: it is what gives
 * room back to a full store. */
static int drop_empty(struct fold *fold, struct tree_spares *spares, struct tree_need *need)
{
	struct tree *tree = fold->tree;
	uint32_t copies = tree_needs_copy(tree, fold->pair.parent.slot);
	uint32_t places = tree_needs_place(tree, fold->pair.parent.slot);
	uint32_t slot, parent_slot;

	if (spares->places < places)
		return tree_need_places(need, places, false);
	if (spares->count < copies)
		return tree_need_slots(need, copies);
	tree_shape_begin(tree);
	tree_latch_two(tree, fold->pair.hop.frame_id, fold->pair.parent.frame_id, &slot, &parent_slot);
	parent_slot = tree_make_writable(tree, fold->pair.parent.frame_id, parent_slot, spares);
	fold_into_parent(fold, tree_image(tree, parent_slot));
	tree_count_empty(tree, false,
	    tree_is_empty_frame(tree, fold->pair.parent.frame_id, tree_image(tree, parent_slot)));
	pool_unlatch_exclusive(tree->pool, parent_slot);
	tree_drop_frame(tree, fold->pair.hop.frame_id, slot);
	tree_shape_end(tree);
	return 0;
}

static int try_parent(struct fold *fold, struct tree_spares *spares)
{
	struct tree *tree = fold->tree;
	const void *image = tree_image(tree, fold->pair.hop.slot);
	const void *parent = tree_image(tree, fold->pair.parent.slot);
	uint32_t new_slot, slot;
	int err;

	if (image_live_bytes(image) + image_live_bytes(parent) > fold->most)
		return -ENOENT;
	new_slot = spares->slots[spares->count - 1];
	err = image_compact(tree_image(tree, new_slot), parent);
	if (err)
		return err;
	tree_take_spare(spares);
	tree_shape_begin(tree);
	fold_into_parent(fold, tree_image(tree, new_slot));
	slot = pool_latch_key_exclusive(tree->pool, tree_key(fold->pair.parent.frame_id));
	tree_replace_frame(tree, fold->pair.parent.frame_id, slot, new_slot);
	drop_pinned(tree, fold->pair.hop.frame_id);
	tree_shape_end(tree);
	return 0;
}

/* The crossing next to the frame's own in the parent's node. */
static bool find_neighbour(struct fold *fold, struct node_crossing *ret)
{
	const void *image = tree_image(fold->tree, fold->pair.parent.slot);
	const struct node_inner *inner = (const void *)node_at(image, fold->pair.parent.path.node);
	const struct node_crossing *own = (const void *)node_at(image, fold->pair.parent.path.leaf);
	struct node_entry entry;

	if (inner_next(image, inner, own->hi + 1u, &entry) && entry.node &&
	    entry.node->type == NODE_CROSSING) {
		*ret = *(const struct node_crossing *)entry.node;
		return true;
	}
	for (unsigned byte = own->lo; byte > 0; byte--) {
		node_ref ref = inner_find(image, inner, (uint8_t)(byte - 1));
		const struct node *node = node_at(image, ref);

		if (!ref)
			continue;
		if (!node || node->type != NODE_CROSSING)
			return false;
		*ret = *(const struct node_crossing *)node;
		return true;
	}
	return false;
}

/* In the parent, writable: the neighbour's crossing goes, the frame's own covers both. */
static void widen_crossing(struct fold *fold, void *image, const struct node_crossing *neighbour)
{
	struct image_path path;
	struct node_crossing *own;
	node_ref node, gone;
	unsigned lo, hi;

	image_find(image, fold->pair.key, fold->pair.key_bytes, fold->pair.parent.depth, &path);
	ASSERT(path.result == IMAGE_CROSSING);
	own = (void *)node_at_mutable(image, path.leaf);
	lo = min_of(own->lo, neighbour->lo);
	hi = max_of(own->hi, neighbour->hi);
	gone = inner_find(image, (const void *)node_at(image, path.node), neighbour->lo);
	node = inner_remove(image, path.node, neighbour->lo, neighbour->hi, 0);
	node = inner_remove(image, node, own->lo, own->hi, 0);
	own->lo = (uint8_t)lo;
	own->hi = (uint8_t)hi;
	node = inner_add(image, node, lo, hi, path.leaf);
	ASSERT(node);
	if (path.parent)
		inner_set(image, path.parent, path.parent_byte, path.parent_byte, node);
	else
		image_header(image)->root = to_le16(node);
	image_free(image, gone);
}

static int check_neighbour(struct fold *fold, const struct node_crossing *neighbour, uint32_t slot)
{
	uint64_t id = from_le64(neighbour->frame_id);
	int err = tree_check_frame(fold->tree, id, slot);

	if (err)
		return err;
	if (id == fold->pair.hop.frame_id || id == fold->pair.parent.frame_id || id == fold->tree->root_id)
		return -EUCLEAN;
	return tree_is_within(tree_image(fold->tree, slot), neighbour->lo, neighbour->hi) ? 0 : -EUCLEAN;
}

/* What both have, under one root. */
static int merge_images(void *merged, const void *image, const void *other)
{
	cleanup_free void *scratch = aligned_alloc(BLOCK_BYTES, FRAME_BYTES);
	int err = scratch ? image_compact(scratch, image) : -ENOMEM;

	if (err)
		return err;
	image_adopt(scratch, root_of(scratch), 0, 0, other, root_of(other));
	return image_compact(merged, scratch);
}

static int merge_neighbour(struct fold *fold, const struct node_crossing *neighbour,
    uint32_t neighbour_slot, struct tree_spares *spares)
{
	struct tree *tree = fold->tree;
	const void *image = tree_image(tree, fold->pair.hop.slot);
	const void *other = tree_image(tree, neighbour_slot);
	uint32_t slot, parent_slot, new_slot;
	int err;

	if (image_live_bytes(image) + image_live_bytes(other) > fold->most)
		return -ENOENT;
	new_slot = spares->slots[spares->count - 1];
	err = merge_images(tree_image(tree, new_slot), image, other);
	if (err)
		return err;
	tree_take_spare(spares);
	tree_shape_begin(tree);
	tree_latch_two(tree, fold->pair.hop.frame_id, fold->pair.parent.frame_id, &slot, &parent_slot);
	parent_slot = tree_make_writable(tree, fold->pair.parent.frame_id, parent_slot, spares);
	widen_crossing(fold, tree_image(tree, parent_slot), neighbour);
	tree_replace_frame(tree, fold->pair.hop.frame_id, slot, new_slot);
	pool_unlatch_exclusive(tree->pool, parent_slot);
	drop_pinned(tree, from_le64(neighbour->frame_id));
	tree_shape_end(tree);
	return 0;
}

static int try_neighbour(struct fold *fold, struct tree_spares *spares, struct tree_need *need)
{
	struct tree *tree = fold->tree;
	struct node_crossing neighbour;
	uint32_t slot;
	int err;

	/* Widening may rebuild the parent's node twice. */
	if (image_room(tree_image(tree, fold->pair.parent.slot)) < 4 * sizeof(struct node_256) + 4 * fold->pair.key_bytes)
		return -ENOENT;
	if (!find_neighbour(fold, &neighbour))
		return -ENOENT;
	if (!tree_pin_frame(tree, from_le64(neighbour.frame_id), &slot)) {
		struct tree_hop beside = {.frame_id = from_le64(neighbour.frame_id), .depth = fold->pair.hop.depth};

		return tree_lacks_hop(tree, need, &beside, &fold->pair.parent);
	}
	err = check_neighbour(fold, &neighbour, slot);
	if (!err)
		err = merge_neighbour(fold, &neighbour, slot, spares);
	pool_unpin(tree->pool, slot);
	return err;
}

/* -ENOENT: nothing is to be folded here. */
static int fold_last(struct fold *fold, struct tree_spares *spares, struct tree_need *need)
{
	int err;

	if (!tree_pair_has_parent(&fold->pair))
		return -ENOENT;
	if (image_is_empty(tree_image(fold->tree, fold->pair.hop.slot))) {
		err = drop_empty(fold, spares, need);
	} else if (spares->places < TREE_STEP_FRAMES) {
		return tree_need_places(need, TREE_STEP_FRAMES, false);
	} else if (spares->count < TREE_STEP_SLOTS) {
		return tree_need_slots(need, TREE_STEP_SLOTS);
	} else {
		err = try_parent(fold, spares);
		if (err == -ENOENT)
			err = try_neighbour(fold, spares, need);
	}
	if (!err)
		atomic_fetch_add_explicit(&fold->tree->counters.merges, 1, memory_order_relaxed);
	return err;
}

int tree_shrink(struct tree *tree, const uint8_t *key, uint32_t key_bytes,
    struct tree_spares *spares, struct tree_need *need)
{
	struct fold fold = {
	    .tree = tree,
	    .pair = {.key = key, .key_bytes = key_bytes},
	    .most = FOLD_MOST,
	};
	int err;

	err = tree_pair_find(tree, &fold.pair, TREE_LAST_FRAME, need);
	if (!err && image_live_bytes(tree_image(tree, fold.pair.hop.slot)) > THIN_MOST)
		err = -ENOENT;
	if (!err)
		err = fold_last(&fold, spares, need);
	tree_pair_unpin(tree, &fold.pair);
	if (!err)
		return 1;
	return err == -ENOENT ? 0 : err;
}

/* -ENOENT: there is next to nothing in it to pack. */
static int pack_last(struct fold *fold, struct tree_spares *spares)
{
	struct tree *tree = fold->tree;
	const void *image = tree_image(tree, fold->pair.hop.slot);
	uint32_t dead = from_le32(image_header_const(image)->heap_end) - FRAME_HEADER_BYTES -
			image_live_bytes(image);
	uint32_t slot, new_slot;
	int err;

	if (dead <= PACK_LEAST)
		return -ENOENT;
	new_slot = spares->slots[spares->count - 1];
	err = image_compact(tree_image(tree, new_slot), image);
	if (err)
		return err;
	tree_take_spare(spares);
	slot = pool_latch_key_exclusive(tree->pool, tree_key(fold->pair.hop.frame_id));
	tree_replace_frame(tree, fold->pair.hop.frame_id, slot, new_slot);
	atomic_fetch_add_explicit(&tree->counters.compactions, 1, memory_order_relaxed);
	return 0;
}

int tree_compact(struct tree *tree, const uint8_t *key, uint32_t key_bytes,
    struct tree_spares *spares, struct tree_need *need)
{
	struct fold fold = {
	    .tree = tree,
	    .pair = {.key = key, .key_bytes = key_bytes},
	    .most = COMPACT_MOST,
	};
	int err;

	if (spares->count < TREE_STEP_SLOTS)
		return tree_need_slots(need, TREE_STEP_SLOTS);
	err = tree_pair_find(tree, &fold.pair, TREE_LAST_FRAME, need);
	if (!err)
		err = fold_last(&fold, spares, need);
	if (err == -ENOENT)
		err = pack_last(&fold, spares);
	tree_pair_unpin(tree, &fold.pair);
	return err;
}
