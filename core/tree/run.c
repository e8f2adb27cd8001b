/*
 * Edits in the order of their keys, made one after the other: for recovery, which has
 * many of them and whom nobody looks at.
 *
 * A frame holds the keys between two neighbours in the tree, but for those of frames
 * further below.  So the way from the root is gone once a frame, and what follows there
 * takes one search of the frame each:
 *
 *     edits   a  b  c  d | e  f | g  h  i ...
 *             frame 1      2      1        latched exclusively, one at a time
 *
 * What limits the speed then is memory that is in no cache.  The ways of some edits are
 * gone side by side before, each a node at a time, and what is next on each asked for: so
 * they wait together and not one after the other.  (Chen et al., "Improving hash join
 * performance through prefetching", ICDE 2004, is the idea.)  What is seen there decides
 * nothing.
 *
 * Whatever is out of the ordinary (a frame is lacking, frozen, clean, or full) ends the
 * run: a transaction has to do it, and the next run goes on behind.
 */
#include "config.h"

#include "tree/tree_internal.h"

#include "base/assert.h"

/* Items of a subtree made at once (build.c): it may be as deep. */
#define GROUP_MOST 256u

/* Ways gone side by side, and how far. */
#define AHEAD_EDITS  16u
#define AHEAD_LEVELS 16u

/* Most leaves end in the first line or the second, as search.c has it. */
#define PREFETCH_LAST 47

/*
 * Goes down to the frame where the search for the key ends, and latches it.  False: it ends
 * before, at a frame that is not in memory (@ret without a slot), or at damage.
 */
static bool enter_frame(struct tree *tree, const uint8_t *key, uint32_t key_bytes, struct tree_reach *ret)
{
	struct tree_reach frame = {.frame_id = tree->root_id, .hi = UINT8_MAX};

	for (unsigned hops = 0; hops < TREE_HOPS_MAX; hops++) {
		struct image_path path;
		const void *image;

		frame.slot = pool_latch_key_exclusive(tree->pool, tree_key(frame.frame_id));
		*ret = frame;
		if (frame.slot == POOL_NO_SLOT)
			return false;
		image = tree_image(tree, frame.slot);
		image_find(image, key, key_bytes, frame.depth, &path);
		if (path.result != IMAGE_CROSSING)
			return true;
		frame.frame_id = image_crossing(image, path.leaf);
		frame.depth = path.depth;
		frame.hi = head_hi(node_head(node_place(image, path.leaf)));
		pool_unlatch_exclusive(tree->pool, frame.slot);
	}
	return false;
}

bool tree_reach_covers(const struct tree_reach *reach, const uint8_t *first, const uint8_t *key, uint32_t key_bytes)
{
	return key_bytes > reach->depth && memcmp(key, first, reach->depth) == 0 && key[reach->depth] <= reach->hi;
}

bool tree_lacks_frame(struct tree *tree, const uint8_t *key, uint32_t key_bytes, struct tree_reach *ret)
{
	if (enter_frame(tree, key, key_bytes, ret)) {
		pool_unlatch_exclusive(tree->pool, ret->slot);
		return false;
	}
	return ret->slot == POOL_NO_SLOT;
}

/* How many of the edits, of which the first does, enter the frame: their keys are sorted. */
static uint32_t count_entered(const struct tree_reach *frame, const struct tree_edit *edits, uint32_t count)
{
	uint32_t lo = 1, hi = count;

	while (lo < hi) {
		uint32_t middle = (lo + hi) / 2;

		if (tree_reach_covers(frame, edits->key, edits[middle].key, edits[middle].key_bytes))
			lo = middle + 1;
		else
			hi = middle;
	}
	return lo;
}

static void ask_for(const void *image, node_ref ref)
{
	const char *node = node_place(image, ref);

	__builtin_prefetch(node);
	__builtin_prefetch(node + PREFETCH_LAST);
}

/* One step on an edit's way; the node after it, or 0. */
static node_ref step_ahead(const void *image, node_ref ref, const struct tree_edit *edit, uint32_t *depth)
{
	const struct node_inner *inner = node_place(image, ref);
	uint64_t head = node_head(inner);
	node_ref next;

	if (!head_is_inner(head))
		return 0;
	*depth += head_prefix_bytes(head);
	if (*depth >= edit->key_bytes)
		next = head_terminal(head);
	else
		next = inner_find(image, inner, edit->key[*depth]);
	++*depth;
	if (next < NODE_REF_FIRST)
		return 0;
	ask_for(image, next);
	return next;
}

static void look_ahead(const void *image, const struct tree_edit *edits, uint32_t count, uint32_t depth)
{
	node_ref refs[AHEAD_EDITS], root = from_le16(image_header_const(image)->root);
	uint32_t depths[AHEAD_EDITS], left = count;

	for (uint32_t i = 0; i < count; i++) {
		refs[i] = root;
		depths[i] = depth;
	}
	for (unsigned level = 0; level < AHEAD_LEVELS && left; level++) {
		left = 0;
		for (uint32_t i = 0; i < count; i++) {
			if (!refs[i])
				continue;
			refs[i] = step_ahead(image, refs[i], &edits[i], &depths[i]);
			left += refs[i] != 0;
		}
	}
}

/* Keys that have so many bytes in common with one whose search ended like @path come to the
 * same place, where there is nothing.  0: no others do. */
static uint32_t place_bytes(const struct image_path *path, uint32_t key_bytes)
{
	uint32_t end;

	switch (path->result) {
	case IMAGE_NO_CHILD:
		return path->depth + 1;
	case IMAGE_IN_PREFIX:
		end = path->depth + path->matched + 1;
		break;
	case IMAGE_IN_LEAF:
		end = path->depth + 1 + path->matched + 1;
		break;
	default:
		return 0;
	}
	/* A key that ends at the fork is its terminal. */
	return end <= key_bytes ? end : 0;
}

static bool is_behind(const struct tree_edit *edit, const struct tree_edit *before)
{
	int order = memcmp(before->key, edit->key, min_of(before->key_bytes, edit->key_bytes));

	return order < 0 || (order == 0 && before->key_bytes < edit->key_bytes);
}

/* The first edits that are new keys of one place, for which the image has room; at least 1. */
static uint32_t take_group(const void *image, const struct image_path *path, const struct tree_edit *edits,
    uint32_t count, uint64_t base_version, struct image_item *items)
{
	uint32_t common = place_bytes(path, edits->key_bytes), room = 0, n = 0;

	for (; n < count; n++) {
		const struct tree_edit *edit = &edits[n];

		if (n > 0 && (!common || edit->kind != TREE_PUT || edit->key_bytes < common ||
				 memcmp(edit->key, edits->key, common) != 0 || !is_behind(edit, edit - 1)))
			break;
		room += image_put_room(edit->key_bytes, edit->value_bytes);
		if (n > 0 && image_room(image) < room)
			break;
		items[n] = (struct image_item){
		    .key = edit->key,
		    .value = edit->value,
		    .key_bytes = edit->key_bytes,
		    .value_bytes = edit->value_bytes,
		    .seq = base_version + edit->seq_offset,
		};
	}
	return n;
}

uint32_t tree_put_edits(struct tree *tree, uint64_t frame_id, void *image, const struct image_path *path,
    const struct tree_edit *edits, uint32_t count, uint64_t base_version)
{
	struct image_item items[GROUP_MOST];
	uint32_t n = take_group(image, path, edits, min_of(count, GROUP_MOST), base_version, items);
	struct image_child child = {.items = items, .item_count = n};

	tree_before_put(tree, frame_id, image, path);
	if (n > 1)
		image_attach(image, path, items->key, items->key_bytes, &child);
	else
		image_put(image, path, items->key, items->key_bytes, items->value, items->value_bytes, items->seq);
	return n;
}

/* The first of the edits, and those that come to the same place.  0: not this way. */
static uint32_t make_edits(struct tree *tree, const struct tree_reach *frame, struct tree_edit *edit,
    uint32_t count, uint64_t base_version)
{
	void *image = tree_image(tree, frame->slot);
	struct image_path path;
	uint32_t live;

	image_find(image, edit->key, edit->key_bytes, frame->depth, &path);
	if (path.result == IMAGE_CROSSING || path.result == IMAGE_DAMAGED)
		return 0;
	if (edit->kind == TREE_ERASE) {
		if (path.result != IMAGE_FOUND)
			return 1;
		live = image_live_bytes(image);
		image_erase(image, &path, edit->key, edit->key_bytes, frame->depth, 0);
		edit->wants_shrink = tree_after_erase(tree, frame->frame_id, image, live);
		return 1;
	}
	ASSERT(edit->kind == TREE_PUT);
	if (!tree_has_room(tree, image, &path, edit->key_bytes, edit->value_bytes,
		base_version + edit->seq_offset))
		return 0;
	return tree_put_edits(tree, frame->frame_id, image, &path, edit, count, base_version);
}

/* The first edit's frame is latched. */
static uint32_t edit_frame(struct tree *tree, const struct tree_reach *frame, struct tree_edit *edits,
    uint32_t count, uint64_t base_version)
{
	const void *image = tree_image(tree, frame->slot);
	uint32_t entered = count_entered(frame, edits, count), done = 0, seen = 0;

	if (!tree_is_writable(tree, frame->slot))
		return 0;
	while (done < entered) {
		uint32_t made;

		if (done >= seen) {
			seen = min_of(done + AHEAD_EDITS, entered);
			look_ahead(image, edits + done, seen - done, frame->depth);
		}
		made = make_edits(tree, frame, &edits[done], entered - done, base_version);
		if (!made)
			break;
		done += made;
		if (edits[done - 1].wants_shrink)
			break;
	}
	return done;
}

uint32_t tree_run(struct tree *tree, struct tree_edit *edits, uint32_t count, uint64_t base_version)
{
	uint32_t done = 0;

	while (done < count) {
		struct tree_reach frame;
		uint32_t made;

		if (!enter_frame(tree, edits[done].key, edits[done].key_bytes, &frame))
			break;
		made = edit_frame(tree, &frame, edits + done, count - done, base_version);
		pool_unlatch_exclusive(tree->pool, frame.slot);
		if (!made)
			break;
		done += made;
		if (edits[done - 1].wants_shrink)
			break;
	}
	return done;
}
