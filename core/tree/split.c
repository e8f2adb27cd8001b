/*
 * Making room in a full frame: pack it, or move part of it to a new frame.  And giving
 * what lies below a prefix a frame of its own.
 *
 * What moves is always a *run*: consecutive entries of one node, which stays behind
 * with a crossing in their place.  So a frame can be cut near its middle whatever the
 * fan-out of its nodes.
 *
 *   inside:  the node lies anywhere in the frame; the new frame hangs below it.
 *
 *        F: root -> ... -> M [a b c d e]      F: ... M [a (b..d) e]
 *                                                         |
 *                                                     G: [b c d]
 *
 *   beside:  the node is the frame's root, and the run reaches to an end of it; the new
 *            frame becomes the neighbour of F in F's parent, as in a B-tree.
 *
 *        P: N [.. (a..z) ..]                  P: N [.. (a..k) (l..z) ..]
 *                   |                                    |      |
 *               F: [a .. z]                          F: [a..k]  G: [l..z]
 *
 *   lifted:  the frame's root joins the parent, and one of its entries becomes the root.
 *
 * cut.c chooses.
 *
 * The new images are built in leased slots while readers go on; then parent and
 * frame are latched and the new ones put in place.
 */
#include "config.h"

#include "tree/cut.h"
#include "tree/tree_internal.h"

#include <stdlib.h>

#include "base/assert.h"

struct split {
	struct tree *tree;
	struct tree_pair pair; /* the frame to relieve and its parent */
	const void *image; /* of the frame */
	uint32_t *sizes;   /* of its subtrees */
};

/* ---- carrying it out -------------------------------------------------------------- */

static node_ref relink_cut(void *image, struct cut *cut, node_ref node)
{
	if (cut->parent)
		inner_set(image, cut->parent, cut->parent_byte, cut->parent_byte, node);
	else
		image_header(image)->root = to_le16(node);
	cut->node = node;
	return node;
}

static void add_crossing(void *image, struct cut *cut, uint64_t frame_id)
{
	node_ref crossing = image_new_crossing(image, cut->lo, cut->hi, frame_id);
	node_ref node;

	ASSERT(crossing);
	node = inner_add(image, cut->node, cut->lo, cut->hi, crossing);
	ASSERT(node);
	relink_cut(image, cut, node);
}

/* In the parent: F's crossing keeps one part of its run, a new one gets the other. */
static void add_neighbour(void *image, const struct image_path *path, const struct cut *cut, uint64_t frame_id)
{
	struct cut at = {
	    .node = path->node,
	    .parent = path->parent,
	    .parent_byte = path->parent_byte,
	    .lo = cut->lo,
	    .hi = cut->hi,
	};
	const struct node_crossing *crossing = (const void *)node_at(image, path->leaf);

	if (cut->lo == crossing->lo)
		inner_narrow(image, at.node, path->leaf, cut->hi + 1, crossing->hi);
	else
		inner_narrow(image, at.node, path->leaf, crossing->lo, cut->lo - 1);
	add_crossing(image, &at, frame_id);
}

/* Room that add_neighbour() may need. */
static uint32_t neighbour_room(const void *image, const struct image_path *path)
{
	const struct node_inner *inner = inner_of(image, path->node);

	return (uint32_t)sizeof(struct node_256) + from_le16(inner->prefix_bytes) +
	       (uint32_t)sizeof(struct node_crossing) + NODE_UNIT + IMAGE_SLACK;
}

static uint32_t terminal_bytes(const void *image, const struct node_inner *inner)
{
	const struct node *terminal = node_at(image, from_le16(inner->terminal));

	return terminal ? node_bytes(terminal) : 0;
}

/* ---- lifting ------------------------------------------------------------------------ */

/* Room that lift() may need in the parent. */
static uint32_t lift_room(const struct split *split, const struct cut *cut, const void *parent)
{
	const struct node_inner *root = inner_of(split->image, cut->node);
	const struct node_inner *above = inner_of(parent, split->pair.parent.path.node);
	struct node_entry entry;
	uint32_t beside;

	inner_next(split->image, root, cut->lo, &entry);
	beside = image_live_bytes(split->image) - (split->sizes[entry.ref] & ~SUBTREE_HAS_CROSSING);
	/* The node above may take each shape up to the largest while it grows. */
	return beside + 2 * inner_bytes(NODE_256, from_le16(above->prefix_bytes)) +
	       2 * node_bytes(entry.node) + terminal_bytes(split->image, (const void *)entry.node) +
	       sizeof(struct node_crossing) + IMAGE_SLACK;
}

/* In the parent: the entries of F's root take the place of F's crossing, the one that is
 * lifted as its node alone, with a crossing to F below it. */
static void add_lifted(void *image, const struct image_path *path, const struct split *split,
    const struct cut *cut)
{
	const struct node_inner *root = inner_of(split->image, cut->node);
	const struct node_crossing *crossing = (const void *)node_at(image, path->leaf);
	struct cut at = {.node = path->node, .parent = path->parent, .parent_byte = path->parent_byte};
	struct node_entry entry;
	bool is_damaged;

	ASSERT(inner_remove(image, at.node, crossing->lo, crossing->hi, KEEP_ALL_ROOM) == at.node);
	image_free(image, path->leaf);
	for (unsigned from = 0; inner_next(split->image, root, from, &entry); from = entry.hi + 1) {
		node_ref copy;

		if (entry.lo == cut->lo)
			copy = image_copy_top(image, split->image, entry.ref, split->pair.hop.frame_id);
		else
			copy = image_copy(image, split->image, entry.ref, NULL, 0, 0, &is_damaged);
		ASSERT(copy);
		copy = inner_add(image, at.node, entry.lo, entry.hi, copy);
		ASSERT(copy);
		relink_cut(image, &at, copy);
	}
}

/* ---- parent and frame --------------------------------------------------------------- */

/* How the search ends in the parent, searched anew: its image may be another now. */
static void find_in_parent(struct split *split, const void *image, struct image_path *ret)
{
	image_find(image, split->pair.key, split->pair.key_bytes, split->pair.parent.depth, ret);
	ASSERT(ret->result == IMAGE_CROSSING);
}

/* Frame and parent change at once; @new_slot holds what becomes frame @new_id, if there is one. */
static void put_in_place(struct split *split, const struct cut *cut, uint64_t new_id, uint32_t new_slot,
    uint32_t rest_slot, struct tree_spares *spares)
{
	struct tree *tree = split->tree;
	uint32_t slot, parent_slot;
	struct image_path path;

	tree_latch_two(tree, split->pair.hop.frame_id, split->pair.parent.frame_id, &slot, &parent_slot);
	parent_slot = tree_make_writable(tree, split->pair.parent.frame_id, parent_slot, spares);
	find_in_parent(split, tree_image(tree, parent_slot), &path);
	if (cut->kind == CUT_LIFT) {
		add_lifted(tree_image(tree, parent_slot), &path, split, cut);
	} else {
		tree_publish_frame(tree, new_id, new_slot);
		add_neighbour(tree_image(tree, parent_slot), &path, cut, new_id);
	}
	tree_replace_frame(tree, split->pair.hop.frame_id, slot, rest_slot);
	pool_unlatch_exclusive(tree->pool, parent_slot);
}

static void fill_slot(const struct split *split, uint32_t slot, uint64_t frame_id,
    const struct image_part *part)
{
	image_lay_out(tree_image(split->tree, slot), frame_id, split->image, split->sizes, part);
}

static void carry_out_lift(struct split *split, const struct cut *cut, struct tree_spares *spares)
{
	uint32_t rest_slot = tree_take_spare(spares);
	struct node_entry lifted;
	struct image_part below = {.lo = 0, .hi = 255};

	/* F from now on: the entries of the node that is lifted. */
	inner_next(split->image, inner_of(split->image, cut->node), cut->lo, &lifted);
	below.node = lifted.ref;
	fill_slot(split, rest_slot, split->pair.hop.frame_id, &below);
	tree_shape_begin(split->tree);
	put_in_place(split, cut, 0, POOL_NO_SLOT, rest_slot, spares);
	tree_shape_end(split->tree);
}

static void carry_out_cut(struct split *split, const struct cut *cut, struct tree_spares *spares)
{
	struct tree *tree = split->tree;
	uint64_t new_id = tree->host.take_id(tree->host.ctx);
	uint32_t new_slot = tree_take_spare(spares);
	uint32_t rest_slot = tree_take_spare(spares);
	struct image_part moved = {.node = cut->node, .lo = cut->lo, .hi = cut->hi}, rest = moved;
	struct node_entry first;
	uint32_t slot;

	rest.is_rest = cut->kind == CUT_INSIDE;
	rest.crossing_id = new_id;
	if (cut->kind == CUT_BESIDE) {
		inner_next(split->image, inner_of(split->image, cut->node), 0, &first);
		rest.lo = first.lo < cut->lo ? 0 : cut->hi + 1;
		rest.hi = first.lo < cut->lo ? cut->lo - 1 : 255;
	}
	fill_slot(split, new_slot, new_id, &moved);
	fill_slot(split, rest_slot, split->pair.hop.frame_id, &rest);

	tree_shape_begin(tree);
	if (cut->kind == CUT_BESIDE) {
		put_in_place(split, cut, new_id, new_slot, rest_slot, spares);
	} else {
		slot = pool_latch_key_exclusive(tree->pool, tree_key(split->pair.hop.frame_id));
		tree_publish_frame(tree, new_id, new_slot);
		tree_replace_frame(tree, split->pair.hop.frame_id, slot, rest_slot);
	}
	tree_shape_end(tree);
	atomic_fetch_add_explicit(&tree->counters.splits, 1, memory_order_relaxed);
}

/* ---- making room ------------------------------------------------------------------- */

static void pack_frame(struct split *split, struct tree_spares *spares)
{
	struct tree *tree = split->tree;
	uint32_t new_slot = tree_take_spare(spares);
	uint32_t slot;

	fill_slot(split, new_slot, split->pair.hop.frame_id, NULL);
	slot = pool_latch_key_exclusive(tree->pool, tree_key(split->pair.hop.frame_id));
	tree_replace_frame(tree, split->pair.hop.frame_id, slot, new_slot);
	atomic_fetch_add_explicit(&tree->counters.compactions, 1, memory_order_relaxed);
}

/* Has the parent room for what the cut adds to it? */
static bool parent_has_room(const struct split *split, const struct cut *cut, struct tree_need *need)
{
	const void *image = tree_image(split->tree, split->pair.parent.slot);
	uint32_t room = cut->kind == CUT_LIFT ? lift_room(split, cut, image) :
						neighbour_room(image, &split->pair.parent.path);

	if (image_room(image) >= room)
		return true;
	*need = (struct tree_need){
	    .kind = TREE_NEED_ROOM,
	    .tree = split->tree,
	    .frame_id = split->pair.parent.frame_id,
	    .room_bytes = room,
	    .key = split->pair.key,
	    .key_bytes = split->pair.key_bytes,
	};
	return false;
}

static int cut_frame(struct split *split, struct tree_spares *spares, struct tree_need *need)
{
	struct cut_frame frame = {
	    .image = split->image,
	    .sizes = split->sizes,
	    .key = split->pair.key,
	    .key_bytes = split->pair.key_bytes,
	    .depth = split->pair.hop.depth,
	    .has_parent = tree_pair_has_parent(&split->pair),
	    .hi = 255,
	};
	uint32_t places;
	struct cut cut;

	if (tree_pair_has_parent(&split->pair)) {
		const struct node_crossing *crossing = tree_pair_crossing(split->tree, &split->pair);

		frame.lo = crossing->lo;
		frame.hi = crossing->hi;
	}
	cut_choose(&frame, &cut);
	if (cut.kind != CUT_INSIDE && !parent_has_room(split, &cut, need))
		return -EAGAIN;
	/* A lift makes no frame: it wants space until the next checkpoint only. */
	places = cut.kind == CUT_LIFT ? tree_needs_place(split->tree, split->pair.hop.slot) +
					    tree_needs_place(split->tree, split->pair.parent.slot) :
					TREE_STEP_FRAMES;
	if (spares->places < places)
		return tree_need_places(need, places, cut.kind != CUT_LIFT);
	if (cut.kind == CUT_LIFT)
		carry_out_lift(split, &cut, spares);
	else
		carry_out_cut(split, &cut, spares);
	return 0;
}

static int measure(struct split *split)
{
	split->sizes = malloc(IMAGE_SIZES_BYTES);
	if (!split->sizes)
		return -ENOMEM;
	return image_sizes(split->image, split->sizes) ? 0 : -EUCLEAN;
}

static int relieve(struct split *split, uint32_t room_bytes, struct tree_spares *spares,
    struct tree_need *need)
{
	int err;

	if (tree_frame_takes(split->tree, split->image, room_bytes))
		return 0;
	err = measure(split);
	if (err)
		return err;
	if (image_live_bytes(split->image) + room_bytes <= PACK_MOST) {
		if (tree_needs_place(split->tree, split->pair.hop.slot) && !spares->places)
			return tree_need_places(need, 1, false);
		pack_frame(split, spares);
		return 0;
	}
	return cut_frame(split, spares, need);
}

/* -ENOENT: the frame is not on the way any more. */
static int begin(struct split *split, const struct tree_need *want, uint32_t slots,
    const struct tree_spares *spares, struct tree_need *need)
{
	int err;

	*split = (struct split){.tree = want->tree, .pair = {.key = want->key, .key_bytes = want->key_bytes}};
	split->pair.hop.slot = split->pair.parent.slot = POOL_NO_SLOT;
	if (spares->count < slots)
		return tree_need_slots(need, slots);
	err = tree_pair_find(split->tree, &split->pair, want->frame_id, need);
	if (!err)
		split->image = tree_image(split->tree, split->pair.hop.slot);
	return err;
}

static int end(struct split *split, int err)
{
	tree_pair_unpin(split->tree, &split->pair);
	free(split->sizes);
	return err == -ENOENT ? 0 : err;
}

int tree_make_room(const struct tree_need *want, struct tree_spares *spares,
    struct tree_need *need)
{
	struct split split;
	int err = begin(&split, want, TREE_STEP_SLOTS, spares, need);

	if (!err)
		err = relieve(&split, want->room_bytes, spares, need);
	return end(&split, err);
}

/* ---- cutting off a subtree ------------------------------------------------------------ */

static uint32_t bytes_below(const struct split *split, node_ref top)
{
	const struct node_inner *inner = inner_of(split->image, top);

	return (split->sizes[top] & ~SUBTREE_HAS_CROSSING) - node_bytes((const void *)inner) -
	       terminal_bytes(split->image, inner);
}

/* All entries of the node at its top are the run.  The parent is not touched, and what is
 * moved may have to be so that space comes back: nothing is asked for but what it takes. */
static int cut_off(struct split *split, node_ref top, uint32_t most, struct tree_spares *spares,
    struct tree_need *need)
{
	struct cut cut = {.kind = CUT_INSIDE, .node = top, .lo = 0, .hi = 255};
	uint32_t places = 1 + tree_needs_place(split->tree, split->pair.hop.slot);
	int err;

	if (spares->places < places)
		return tree_need_places(need, places, false);
	err = measure(split);
	/* Somebody may have deleted what it was about. */
	if (!err && bytes_below(split, top) > most)
		carry_out_cut(split, &cut, spares);
	return err;
}

int tree_cut_off(const struct tree_need *want, struct tree_spares *spares,
    struct tree_need *need)
{
	struct image_subtree subtree;
	struct split split;
	int err = begin(&split, want, TREE_CUT_SLOTS, spares, need);

	if (!err &&
	    image_find_subtree(split.image, want->key, want->key_bytes, &split.pair.hop.path, &subtree) &&
	    node_is_inner(node_at(split.image, subtree.top)))
		err = cut_off(&split, subtree.top, want->room_bytes, spares, need);
	return end(&split, err);
}
