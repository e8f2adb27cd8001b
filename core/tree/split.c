/*
 * Making room in a full frame: pack it, or move part of it to a new frame.
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
 * Where to cut: from the root down into the child that holds more than CUT_MOST of
 * the frame, as long as there is one; then the run nearest to half.
 *
 * When the key that needs the room lies behind everything in the frame (keys arriving
 * in order), what lies before it on the frame's right edge goes, if that is most of the
 * frame: the new frame is left full and the old one takes what follows.  (Moving the
 * little that lies behind instead leaves one small frame for each full one, when what
 * belongs together is slightly more than a frame.)
 *
 * The new images are built in leased slots while readers go on; then parent and
 * frame are latched and the new ones put in place.
 */
#include "config.h"

#include "tree/tree_internal.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/cleanup.h"

/* Shares of the frame's live bytes, in percent. */
#define CUT_LEAST 35
#define CUT_MOST 65
#define BEHIND_LEAST 50
/* Packing is enough if the frame is then at most this full. */
#define PACK_MOST 90

struct cut {
	node_ref node, parent; /* parent 0: node is the root */
	uint8_t parent_byte;
	unsigned lo, hi; /* the run; hi may lie behind the last entry */
	bool is_beside;
};

struct split {
	struct tree *tree;
	const uint8_t *key;
	uint32_t key_bytes;
	struct tree_hop hop, parent; /* frame to relieve and its parent; both pinned */
	bool has_parent;
	uint8_t *packed; /* scratch: the frame, packed */
	uint32_t *sizes; /* of packed's subtrees */
};

/* ---- where to cut ----------------------------------------------------------------- */

static const struct node_inner *inner_of(const void *image, node_ref ref)
{
	return (const void *)node_at(image, ref);
}

/* Does @key sort behind everything below the node at @ref, entered at @depth? */
static bool is_behind(const struct split *split, node_ref ref, uint32_t depth)
{
	for (;;) {
		const struct node_inner *inner = inner_of(split->packed, ref);
		uint32_t prefix_bytes = from_le16(inner->prefix_bytes);
		uint32_t rest = split->key_bytes - depth;
		int order = memcmp(split->key + depth, inner_prefix(inner), min_of(rest, prefix_bytes));
		struct node_entry last;

		if (order || rest <= prefix_bytes)
			return order > 0;
		depth += prefix_bytes;
		if (!inner_last(split->packed, inner, &last))
			return true;
		if (split->key[depth] > last.hi)
			return true;
		if (split->key[depth] < last.lo || last.node->type == NODE_CROSSING)
			return false;
		depth++;
		if (last.node->type == NODE_LEAF) {
			const struct node_leaf *leaf = (const void *)last.node;
			uint32_t rest_bytes = from_le16(leaf->rest_bytes);

			rest = split->key_bytes - depth;
			order = memcmp(split->key + depth, leaf->bytes, min_of(rest, rest_bytes));
			return order ? order > 0 : rest > rest_bytes;
		}
		ref = last.ref;
	}
}

static void descend_cut(struct cut *cut, const struct node_entry *entry)
{
	cut->parent = cut->node;
	cut->parent_byte = (uint8_t)entry->lo;
	cut->node = entry->ref;
}

/* Bytes below all entries of a node but @last (NULL: all). */
static uint32_t bytes_before(const struct split *split, const struct node_inner *inner,
    const struct node_entry *last)
{
	struct node_entry entry;
	uint32_t sum = 0;

	for (unsigned from = 0; inner_next(split->packed, inner, from, &entry); from = entry.hi + 1)
		if (!last || entry.lo != last->lo)
			sum += split->sizes[entry.ref];
	return sum;
}

/*
 * Keys in order: down the right edge to the first node where what lies before the key
 * is most of the frame: that goes.  False: there is no such node.
 */
static bool choose_behind(const struct split *split, struct cut *cut, unsigned run_lo)
{
	uint32_t least = image_live_bytes(split->packed) / 100 * BEHIND_LEAST;
	uint32_t depth = split->hop.depth;

	for (;;) {
		const struct node_inner *inner = inner_of(split->packed, cut->node);
		uint32_t prefix_bytes = from_le16(inner->prefix_bytes);
		struct node_entry first, last;
		unsigned byte;

		if (split->key_bytes - depth <= prefix_bytes ||
		    memcmp(split->key + depth, inner_prefix(inner), prefix_bytes) != 0 ||
		    !inner_last(split->packed, inner, &last))
			return false;
		depth += prefix_bytes;
		byte = split->key[depth++];
		if (bytes_before(split, inner, byte > last.hi ? NULL : &last) >= least) {
			inner_next(split->packed, inner, 0, &first);
			cut->is_beside = !cut->parent && split->has_parent;
			cut->lo = cut->is_beside ? run_lo : first.lo;
			cut->hi = (byte > last.hi ? byte : last.lo) - 1;
			return true;
		}
		if (byte > last.hi || !node_is_inner(last.node))
			return false;
		descend_cut(cut, &last);
	}
}

/* The run of entries that starts at the first, or ends with the last one (@from_end),
 * whose size comes nearest to half the frame. */
static uint32_t choose_run(const struct split *split, const struct cut *cut, bool from_end,
    unsigned *ret_lo, unsigned *ret_hi)
{
	const struct node_inner *inner = inner_of(split->packed, cut->node);
	uint32_t half = image_live_bytes(split->packed) / 2;
	struct node_entry entries[256];
	uint32_t sum = 0;
	unsigned count = 0, taken = 0;

	for (unsigned from = 0; inner_next(split->packed, inner, from, &entries[count]); count++)
		from = entries[count].hi + 1;
	while (taken < count) {
		unsigned at = from_end ? count - 1 - taken : taken;
		uint32_t bytes = split->sizes[entries[at].ref];

		if (taken && sum + bytes > half && sum + bytes - half > half - min_of(sum, half))
			break;
		sum += bytes;
		taken++;
	}
	*ret_lo = entries[from_end ? count - taken : 0].lo;
	*ret_hi = entries[from_end ? count - 1 : taken - 1].hi;
	return taken == count && from_end ? UINT32_MAX : sum;
}

static void choose_middle(const struct split *split, struct cut *cut, unsigned run_hi)
{
	uint32_t total = image_live_bytes(split->packed);
	struct node_entry entry, heaviest;

	for (;;) {
		const struct node_inner *inner = inner_of(split->packed, cut->node);

		heaviest = (struct node_entry){0};
		for (unsigned from = 0; inner_next(split->packed, inner, from, &entry); from = entry.hi + 1)
			if (!heaviest.ref || split->sizes[entry.ref] > split->sizes[heaviest.ref])
				heaviest = entry;
		ASSERT(heaviest.node); /* values are small against frames */
		if (split->sizes[heaviest.ref] <= total / 100 * CUT_MOST || !node_is_inner(heaviest.node))
			break;
		descend_cut(cut, &heaviest);
	}
	if (!cut->parent && split->has_parent) {
		uint32_t bytes = choose_run(split, cut, true, &cut->lo, &cut->hi);

		if (bytes >= total / 100 * (CUT_LEAST - 10) && bytes <= total / 100 * (CUT_MOST + 10)) {
			cut->is_beside = true;
			cut->hi = run_hi;
			return;
		}
	}
	if (split->sizes[heaviest.ref] >= total / 100 * CUT_LEAST) {
		cut->lo = heaviest.lo;
		cut->hi = heaviest.hi;
	} else {
		choose_run(split, cut, false, &cut->lo, &cut->hi);
	}
}

static void choose_cut(const struct split *split, struct cut *cut, unsigned run_lo, unsigned run_hi)
{
	node_ref root = from_le16(image_header_const(split->packed)->root);

	*cut = (struct cut){.node = root};
	if (is_behind(split, root, split->hop.depth) && choose_behind(split, cut, run_lo))
		return;
	*cut = (struct cut){.node = root};
	choose_middle(split, cut, run_hi);
}

/* ---- carrying it out -------------------------------------------------------------- */

/* Copies the run's entries under the root of a fresh image. */
static void fill_new_frame(void *image, uint64_t frame_id, const void *packed, const struct cut *cut)
{
	const struct node_inner *inner = inner_of(packed, cut->node);
	struct node_entry entry;
	bool is_damaged;

	image_init(image, frame_id);
	for (unsigned from = cut->lo; inner_next(packed, inner, from, &entry) && entry.lo <= cut->hi;
	     from = entry.hi + 1) {
		node_ref copy = image_copy(image, packed, entry.ref, NULL, 0, 0, &is_damaged);
		node_ref root = from_le16(image_header(image)->root);

		ASSERT(copy);
		root = inner_add(image, root, entry.lo, entry.hi, copy);
		ASSERT(root);
		image_header(image)->root = to_le16(root);
	}
}

static node_ref relink_cut(void *image, struct cut *cut, node_ref node)
{
	if (cut->parent)
		inner_set(image, cut->parent, cut->parent_byte, cut->parent_byte, node);
	else
		image_header(image)->root = to_le16(node);
	cut->node = node;
	return node;
}

/* Takes the run out of the packed image; what it held stays as garbage there. */
static void remove_run(void *packed, struct cut *cut)
{
	struct node_entry entry;

	while (inner_next(packed, inner_of(packed, cut->node), cut->lo, &entry) && entry.lo <= cut->hi)
		relink_cut(packed, cut, inner_remove(packed, cut->node, entry.lo, entry.hi, 0));
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

/* How the search ends in the parent, searched anew: its image may be another now. */
static void find_in_parent(struct split *split, const void *image, struct image_path *ret)
{
	image_find(image, split->key, split->key_bytes, split->parent.depth, ret);
	ASSERT(ret->result == IMAGE_CROSSING);
}

static void carry_out(struct split *split, struct cut *cut, struct tree_spares *spares)
{
	struct tree *tree = split->tree;
	uint64_t new_id = tree->host.take_id(tree->host.ctx);
	uint32_t new_slot = tree_take_spare(spares);
	uint32_t rest_slot = tree_take_spare(spares);
	uint32_t slot, parent_slot;
	struct image_path path;

	fill_new_frame(tree_image(tree, new_slot), new_id, split->packed, cut);
	remove_run(split->packed, cut);
	if (!cut->is_beside)
		add_crossing(split->packed, cut, new_id);
	ASSERT(image_compact(tree_image(tree, rest_slot), split->packed));

	tree_shape_begin(tree);
	if (cut->is_beside) {
		tree_latch_two(tree, split->hop.frame_id, split->parent.frame_id, &slot, &parent_slot);
		parent_slot = tree_make_writable(tree, split->parent.frame_id, parent_slot, spares);
		find_in_parent(split, tree_image(tree, parent_slot), &path);
		tree_publish_frame(tree, new_id, new_slot);
		add_neighbour(tree_image(tree, parent_slot), &path, cut, new_id);
		tree_replace_frame(tree, split->hop.frame_id, slot, rest_slot);
		pool_unlatch_exclusive(tree->pool, parent_slot);
	} else {
		slot = pool_latch_key_exclusive(tree->pool, tree_key(split->hop.frame_id));
		tree_publish_frame(tree, new_id, new_slot);
		tree_replace_frame(tree, split->hop.frame_id, slot, rest_slot);
	}
	tree_shape_end(tree);
	atomic_fetch_add_explicit(&tree->counters.splits, 1, memory_order_relaxed);
}

/* ---- making room ------------------------------------------------------------------- */

/* Finds the frame and its parent on the way to the key and pins them. */
static int find_frames(struct split *split, uint64_t frame_id, struct tree_need *need)
{
	struct tree *tree = split->tree;
	struct tree_hop hop = {.frame_id = tree->root_id};

	tree_take_up(tree, need, &hop);
	for (unsigned hops = 0; hops < TREE_HOPS_MAX; hops++) {
		const void *image;

		hop.slot = pool_latch_key_shared(tree->pool, tree_key(hop.frame_id));
		if (hop.slot == POOL_NO_SLOT)
			return tree_lacks_hop(tree, need, &hop, &split->hop);
		pool_pin(tree->pool, hop.slot);
		pool_unlatch_shared(tree->pool, hop.slot);
		if (split->has_parent)
			pool_unpin(tree->pool, split->parent.slot);
		split->parent = split->hop;
		split->has_parent = hops > 0;
		image = tree_image(tree, hop.slot);
		image_find(image, split->key, split->key_bytes, hop.depth, &hop.path);
		split->hop = hop;
		if (hop.frame_id == frame_id)
			return 0;
		if (hop.path.result != IMAGE_CROSSING)
			return hop.path.result == IMAGE_DAMAGED ? -EUCLEAN : -ENOENT;
		hop.frame_id = from_le64(((const struct node_crossing *)node_at(image, hop.path.leaf))->frame_id);
		hop.depth = hop.path.depth;
	}
	return -EUCLEAN;
}

static void unpin_frames(struct split *split)
{
	if (split->hop.slot != POOL_NO_SLOT)
		pool_unpin(split->tree->pool, split->hop.slot);
	if (split->has_parent)
		pool_unpin(split->tree->pool, split->parent.slot);
}

static void pack_frame(struct split *split, struct tree_spares *spares)
{
	struct tree *tree = split->tree;
	uint32_t new_slot = tree_take_spare(spares);
	uint32_t slot = pool_latch_key_exclusive(tree->pool, tree_key(split->hop.frame_id));

	memcpy(tree_image(tree, new_slot), split->packed,
	    from_le32(image_header(split->packed)->heap_end));
	tree_replace_frame(tree, split->hop.frame_id, slot, new_slot);
	atomic_fetch_add_explicit(&tree->counters.compactions, 1, memory_order_relaxed);
}

static int cut_frame(struct split *split, struct tree_spares *spares, struct tree_need *need)
{
	struct tree *tree = split->tree;
	unsigned run_lo = 0, run_hi = 255;
	struct cut cut;

	if (split->has_parent) {
		const void *image = tree_image(tree, split->parent.slot);
		const struct node_crossing *crossing = (const void *)node_at(image, split->parent.path.leaf);

		run_lo = crossing->lo;
		run_hi = crossing->hi;
	}
	image_sizes(split->packed, split->sizes);
	choose_cut(split, &cut, run_lo, run_hi);
	if (cut.is_beside) {
		const void *image = tree_image(tree, split->parent.slot);
		uint32_t room = neighbour_room(image, &split->parent.path);

		if (image_room(image) < room) {
			*need = (struct tree_need){
			    .kind = TREE_NEED_ROOM,
			    .tree = split->tree,
			    .frame_id = split->parent.frame_id,
			    .room_bytes = room,
			    .key = split->key,
			    .key_bytes = split->key_bytes,
			};
			return -EAGAIN;
		}
	}
	carry_out(split, &cut, spares);
	return 0;
}

static int relieve(struct split *split, uint32_t room_bytes, struct tree_spares *spares,
    struct tree_need *need)
{
	const void *image = tree_image(split->tree, split->hop.slot);

	if (image_room(image) >= room_bytes)
		return 0;
	split->packed = aligned_alloc(BLOCK_BYTES, FRAME_BYTES);
	split->sizes = malloc(IMAGE_SIZES_BYTES);
	if (!split->packed || !split->sizes)
		return -ENOMEM;
	if (!image_compact(split->packed, image))
		return -EUCLEAN;
	if (image_live_bytes(split->packed) + room_bytes <= IMAGE_CAPACITY / 100 * PACK_MOST) {
		if (tree_needs_place(split->tree, split->hop.slot) && !spares->places)
			return tree_need_places(need, 1, false);
		pack_frame(split, spares);
		return 0;
	}
	if (spares->places < TREE_STEP_FRAMES)
		return tree_need_places(need, TREE_STEP_FRAMES, true);
	return cut_frame(split, spares, need);
}

int tree_make_room(struct tree *tree, const uint8_t *key, uint32_t key_bytes,
    uint64_t frame_id, uint32_t room_bytes, struct tree_spares *spares, struct tree_need *need)
{
	struct split split = {
	    .tree = tree,
	    .key = key,
	    .key_bytes = key_bytes,
	    .hop = {.slot = POOL_NO_SLOT},
	};
	int err;

	if (spares->count < TREE_STEP_SLOTS)
		return tree_need_slots(need, TREE_STEP_SLOTS);
	err = find_frames(&split, frame_id, need);
	if (!err)
		err = relieve(&split, room_bytes, spares, need);
	unpin_frames(&split);
	free(split.packed);
	free(split.sizes);
	return err == -ENOENT ? 0 : err;
}
