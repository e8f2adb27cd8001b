/*
 * Moving a subtree: every key that begins with one prefix begins with another.
 *
 * Leaves and frames hold only what lies below them, so the subtree at a prefix can be
 * hung elsewhere as it is.  What is copied is the part of it that lies in the frame where
 * the prefix ends; frames below are named by crossings, which are carried over by value.
 * The cost is thus bounded by one frame, however much lies below.
 *
 *   before:  A: ... src --> top -> [ leaves, crossings ]      B: ... dst' ...
 *   after:   A: ...                       B: ... dst --> top -> [ leaves, crossings ]
 *
 * A large subtree gets a frame of its own first (tree_cut_off); then only its top moves, with
 * the crossing to that frame.
 *
 * The copy (the *cutting*) is made by tree_move_check.  Both frames stay latched from
 * detaching to attaching, so no reader finds the keys at neither place; a reader that
 * was below the cut when it moved sees that move_count changed and searches again.
 */
#include "config.h"

#include "tree/tree_internal.h"

#include <stdlib.h>

#include "base/assert.h"

/* What is copied; larger subtrees are cut off before. */
#define CUTTING_MOST (64u * 1024)
#define CUTTING_ROOT_MOST 128u /* the node above the top */

/* The cutting's image, then a work list for freeing the original. */
#define CUTTING_BYTES (FRAME_BYTES + FRAME_BYTES / NODE_UNIT * sizeof(node_ref))

static bool begins_with(const uint8_t *key, uint32_t key_bytes, const uint8_t *prefix, uint32_t prefix_bytes)
{
	return key_bytes >= prefix_bytes && memcmp(key, prefix, prefix_bytes) == 0;
}

static struct tree *dst_tree(struct tree *tree, const struct tree_move *move)
{
	return move->dst_tree ? move->dst_tree : tree;
}

static node_ref cutting_top(const void *cutting)
{
	const struct node_inner *root =
	    (const void *)node_at(cutting, from_le16(image_header_const(cutting)->root));

	return inner_find(cutting, root, 0);
}

static uint32_t prefix_or_rest_bytes(const struct node *node)
{
	return node_is_leaf(node) ? head_rest_bytes(node_head(node)) : head_prefix_bytes(node_head(node));
}

/*
 * How much is taken off the top's prefix, which begins with the rest of the source's
 * prefix.  What goes to another tree has no name any more that matters: where the longest
 * keys would get too long, their names get shorter.
 */
static uint32_t bytes_to_skip(const struct tree_move *move, const void *image, const struct image_subtree *subtree)
{
	uint32_t kept = prefix_or_rest_bytes(node_at(image, subtree->top)) - subtree->skip;
	uint32_t fits = NODE_REST_MAX - move->dst_bytes;

	return subtree->skip + (move->dst_tree && kept > fits ? kept - fits : 0);
}

static node_ref *scratch_refs(const struct tree_move *move)
{
	return (void *)((char *)move->cutting + FRAME_BYTES);
}

/*
 * More below the top is cut off, if only so that the rest fits the destination's frame: the
 * value at the top may be long, and so may the names.  A crossing alone is not.
 */
static uint32_t most_below(const struct tree_move *move, const void *image, node_ref top)
{
	const struct node *node = node_at(image, top), *terminal = NULL;
	uint32_t room = image_put_room(move->dst_bytes, 0) + move->dst_bytes + CUTTING_ROOT_MOST;

	if (node_is_inner(node))
		terminal = node_at(image, from_le16(((const struct node_inner *)node)->terminal));
	room += node_bytes(node) + (terminal ? node_bytes(terminal) : 0);
	room = min_of(room, TREE_ROOM_MAX - (uint32_t)sizeof(struct node_crossing));
	return min_of(TREE_ROOM_MAX - room, CUTTING_MOST);
}

/* Copies the subtree under entry 0 of an image of its own. */
static int make_cutting(struct tree *tree, struct tree_move *move, const void *image,
    const struct image_subtree *subtree, struct tree_need *need)
{
	bool is_damaged = false;
	uint32_t most;
	node_ref top;

	move->cutting = aligned_alloc(BLOCK_BYTES, round_up(CUTTING_BYTES, BLOCK_BYTES));
	if (!move->cutting)
		return -ENOMEM;
	most = most_below(move, image, subtree->top);
	if (image_bytes_below(image, subtree->top, most, scratch_refs(move)) > most) {
		*need = (struct tree_need){
		    .kind = TREE_NEED_CUT,
		    .tree = tree,
		    .frame_id = move->src_frame,
		    .room_bytes = most,
		    .key = move->src,
		    .key_bytes = move->src_bytes,
		};
		return -EAGAIN;
	}
	image_init(move->cutting, 0);
	top = image_copy(move->cutting, image, subtree->top, NULL, 0, bytes_to_skip(move, image, subtree),
	    &is_damaged);
	if (!top)
		return -EUCLEAN;
	inner_add(move->cutting, from_le16(image_header(move->cutting)->root), 0, 0, top);
	return 0;
}

static int find_source(struct tree *tree, struct tree_move *move, struct tree_tx *tx, struct tree_need *need)
{
	struct image_subtree subtree;
	struct tree_hop hop;
	int err = tree_find_again(tree, move->src, move->src_bytes, move->src_frame, move->src_depth,
	    move->src_shape, &hop, need);

	move->src_shape = tree_shape(tree);
	move->src_frame = hop.frame_id;
	move->src_depth = hop.depth;
	if (err)
		return err;
	err = tree_check_frame(tree, hop.frame_id, hop.slot);
	if (!err && !image_find_subtree(tree_image(tree, hop.slot), move->src, move->src_bytes, &hop.path,
			&subtree))
		err = -ENOENT;
	if (!err)
		err = make_cutting(tree, move, tree_image(tree, hop.slot), &subtree, need);
	if (!err)
		err = tree_hold_frame(tree, tx, hop.slot);
	if (err) {
		pool_unlatch_shared(tree->pool, hop.slot);
		return err;
	}
	pool_pin(tree->pool, hop.slot);
	move->src_slot = hop.slot;
	return tree_find_any(tree, &hop, move->src, move->src_bytes, &move->src_below, need);
}

static uint32_t room_at_destination(const struct tree_move *move)
{
	return image_put_room(move->dst_bytes, 0) + image_live_bytes(move->cutting) + move->dst_bytes;
}

static uint32_t top_prefix_bytes(const struct tree_move *move)
{
	return prefix_or_rest_bytes(node_at(move->cutting, cutting_top(move->cutting)));
}

/* Does one of the two begin with the other? */
static bool nest(const uint8_t *a, uint32_t a_bytes, const uint8_t *b, uint32_t b_bytes)
{
	return begins_with(a, a_bytes, b, b_bytes) || begins_with(b, b_bytes, a, a_bytes);
}

/* Does the earlier move clear just this one's destination? */
static bool clears(const struct tree_move *earlier, const struct tree_move *move)
{
	return earlier->src_bytes == move->dst_bytes &&
	       memcmp(earlier->src, move->dst, move->dst_bytes) == 0;
}

/* What an earlier move does must not change what this one found out. */
static bool lies_apart(const struct tree_move *move, const struct tree_move *earlier, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct tree_move *other = &earlier[i];

		if (!other->cutting)
			continue;
		if (nest(other->src, other->src_bytes, move->src, move->src_bytes))
			return false;
		if (!other->dst_tree && nest(other->dst, other->dst_bytes, move->src, move->src_bytes))
			return false;
		/* Destinations in another tree never nest. */
		if (move->dst_tree)
			continue;
		if (!other->dst_tree && nest(other->dst, other->dst_bytes, move->dst, move->dst_bytes))
			return false;
		if (nest(other->src, other->src_bytes, move->dst, move->dst_bytes) && !clears(other, move))
			return false;
	}
	return true;
}

static bool is_cleared(const struct tree_move *move, const struct tree_move *earlier, uint32_t count)
{
	for (uint32_t i = 0; i < count && !move->dst_tree; i++)
		if (earlier[i].cutting && clears(&earlier[i], move))
			return true;
	return false;
}

/* What edits and earlier moves of the batch may put into the same frame. */
static uint32_t room_for_others(uint64_t frame_id, const struct tree_tx *tx,
    const struct tree_move *earlier, uint32_t count)
{
	uint32_t room = 0;

	for (uint32_t i = 0; i < tx->frame_count; i++)
		if (tx->frames[i].frame_id == frame_id)
			room += tx->frames[i].room_bytes;
	for (uint32_t i = 0; i < count; i++)
		if (earlier[i].cutting && earlier[i].dst_frame == frame_id)
			room += room_at_destination(&earlier[i]);
	return room;
}

static int check_destination(struct tree *tree, struct tree_move *move, uint32_t slack_bytes,
    const struct tree_hop *hop, struct tree_need *need)
{
	const void *image = tree_image(tree, hop->slot);
	uint32_t room = room_at_destination(move) + slack_bytes;

	if (top_prefix_bytes(move) + move->dst_bytes > NODE_REST_MAX)
		return -ENAMETOOLONG;
	if (image_room(image) >= room)
		return 0;
	if (room > TREE_ROOM_MAX)
		return -E2BIG;
	*need = (struct tree_need){
	    .kind = TREE_NEED_ROOM,
	    .tree = dst_tree(tree, move),
	    .frame_id = hop->frame_id,
	    .room_bytes = room,
	    .key = move->dst,
	    .key_bytes = move->dst_bytes,
	};
	return -EAGAIN;
}

static int find_destination(struct tree *tree, struct tree_move *move, const struct tree_move *earlier,
    uint32_t earlier_count, struct tree_tx *tx, struct tree_need *need)
{
	struct tree *to = dst_tree(tree, move);
	struct image_subtree subtree;
	struct tree_hop hop;
	int err = tree_find_again(to, move->dst, move->dst_bytes, move->dst_frame, move->dst_depth,
	    move->dst_shape, &hop, need);

	move->dst_shape = tree_shape(to);
	move->dst_frame = hop.frame_id;
	move->dst_depth = hop.depth;
	if (err)
		return err;
	err = tree_check_frame(to, hop.frame_id, hop.slot);
	if (err) {
		pool_unlatch_shared(tree->pool, hop.slot);
		return err;
	}
	if (image_find_subtree(tree_image(tree, hop.slot), move->dst, move->dst_bytes, &hop.path, &subtree) &&
	    !is_cleared(move, earlier, earlier_count)) {
		err = tree_find_any(to, &hop, move->dst, move->dst_bytes, &move->dst_below, need);
		return err ? err : -EEXIST;
	}
	err = check_destination(tree, move, room_for_others(hop.frame_id, tx, earlier, earlier_count),
	    &hop, need);
	if (!err)
		err = tree_hold_frame(tree, tx, hop.slot);
	if (!err) {
		pool_pin(tree->pool, hop.slot);
		move->dst_slot = hop.slot;
	}
	pool_unlatch_shared(tree->pool, hop.slot);
	return err;
}

void tree_move_end(struct tree *tree, struct tree_move *move)
{
	if (move->src_slot != POOL_NO_SLOT)
		pool_unpin(tree->pool, move->src_slot);
	if (move->dst_slot != POOL_NO_SLOT)
		pool_unpin(tree->pool, move->dst_slot);
	move->src_slot = move->dst_slot = POOL_NO_SLOT;
	free(move->cutting);
	move->cutting = NULL;
}

/* Copies of both frames. */
static int check_spares(struct tree *tree, struct tree_move *move, const struct tree_move *earlier,
    uint32_t earlier_count, const struct tree_spares *spares, struct tree_need *need)
{
	uint32_t count, places;

	move->spare_count = tree_needs_copy(tree, move->src_slot) +
			    tree_needs_copy(tree, move->dst_slot);
	move->place_count = tree_needs_place(tree, move->src_slot) +
			    tree_needs_place(tree, move->dst_slot);
	count = move->spare_count;
	places = move->place_count;
	for (uint32_t i = 0; i < earlier_count; i++) {
		if (!earlier[i].cutting)
			continue;
		count += earlier[i].spare_count;
		places += earlier[i].place_count;
	}
	if (places > spares->places)
		return tree_need_places(need, places, false);
	return count > spares->count ? tree_need_slots(need, count) : 0;
}

int tree_move_check(struct tree *tree, struct tree_move *move, const struct tree_move *earlier,
    uint32_t earlier_count, struct tree_tx *tx, struct tree_spares *spares, struct tree_need *need)
{
	int err;

	move->src_slot = move->dst_slot = POOL_NO_SLOT;
	move->cutting = NULL;
	if (!move->src_bytes || !move->dst_bytes ||
	    (!move->dst_tree && nest(move->src, move->src_bytes, move->dst, move->dst_bytes)))
		return -EINVAL;
	err = find_source(tree, move, tx, need);
	if (!err && !lies_apart(move, earlier, earlier_count))
		err = -EINVAL;
	if (!err)
		err = find_destination(tree, move, earlier, earlier_count, tx, need);
	if (!err)
		err = check_spares(tree, move, earlier, earlier_count, spares, need);
	if (err)
		tree_move_end(tree, move);
	return err;
}

/* ---- carrying it out ----------------------------------------------------------------- */

static void detach_source(struct tree *tree, struct tree_move *move, void *image, uint32_t depth)
{
	struct image_subtree subtree;
	uint32_t live = image_live_bytes(image);
	struct image_path path;

	image_find(image, move->src, move->src_bytes, depth, &path);
	ASSERT(image_find_subtree(image, move->src, move->src_bytes, &path, &subtree));
	image_detach(image, &subtree, move->src, move->src_bytes, depth, KEEP_ALL_ROOM, scratch_refs(move));
	move->wants_shrink = tree_after_erase(tree, move->src_frame, image, live);
}

static void attach_destination(struct tree *tree, const struct tree_move *move, void *image, uint32_t depth)
{
	struct image_child child = {.source = move->cutting, .top = cutting_top(move->cutting)};
	struct image_path path;

	image_find(image, move->dst, move->dst_bytes, depth, &path);
	tree_before_put(dst_tree(tree, move), move->dst_frame, image, &path);
	image_attach(image, &path, move->dst, move->dst_bytes, &child);
}

void tree_move(struct tree *tree, struct tree_move *move, struct tree_spares *spares)
{
	bool is_one = move->src_frame == move->dst_frame;
	uint32_t src, dst;

	tree_shape_begin(tree);
	if (move->dst_tree)
		tree_shape_begin(move->dst_tree);
	tree_latch_two(tree, move->src_frame, move->dst_frame, &src, &dst);
	src = tree_make_writable(tree, move->src_frame, src, spares);
	dst = is_one ? src : tree_make_writable(tree, move->dst_frame, dst, spares);
	detach_source(tree, move, tree_image(tree, src), move->src_depth);
	attach_destination(tree, move, tree_image(tree, dst), move->dst_depth);
	atomic_fetch_add(&tree->move_count, 1);
	atomic_fetch_add_explicit(&tree->counters.moves, 1, memory_order_relaxed);
	pool_unlatch_exclusive(tree->pool, src);
	if (!is_one)
		pool_unlatch_exclusive(tree->pool, dst);
	if (move->dst_tree)
		tree_shape_end(move->dst_tree);
	tree_shape_end(tree);
}

void tree_move_tidy(struct tree *tree, struct tree_move *move)
{
	uint32_t slot = pool_latch_key_exclusive(tree->pool, tree_key(move->src_frame));

	ASSERT(slot != POOL_NO_SLOT && pool_dirty_epoch(tree->pool, slot) == tree->epoch);
	image_tidy(tree_image(tree, slot), move->src, move->src_bytes, move->src_depth, 0);
	pool_unlatch_exclusive(tree->pool, slot);
}
