/*
 * Frames without keys.
 *
 * A frame that loses its last key is folded away, but not at any price: what folding
 * needs may be lacking, and then a crossing leads to a frame that holds nothing.  That is
 * no harm to searches.  Where the question is whether *any* key begins with a prefix, the
 * crossing must not be taken for the answer.
 *
 * The leftmost way below the prefix ends at a key, or in a frame without any:
 *
 *    prefix ... node --'c'..'k'--> frame 9's root --'d'..'d'--> frame 12's root: no entry
 *
 * Such a frame is folded into the one above, and the question is asked again.  Each time
 * there is one frame less, so this ends.  The gate is held exclusively: edges stand still.
 */
#include "config.h"

#include "tree/buffer.h"
#include "tree/tree_internal.h"

struct leftmost {
	struct tree *tree;
	struct tree_tx *tx; /* keeps the frames found (tree_hold_frame); NULL: none does */
	struct tree_buffer key; /* of the way; ends with the byte that leads to the frame */
	uint64_t frame_id;	/* 0: has not left the prefix's own frame */
	uint32_t depth;		/* of the key, where the frame's root branches */
};

enum { NO_KEY = 0, HAS_KEY = 1, NEXT_FRAME = 2 };

static int enter_crossing(struct leftmost *way, const struct node *node)
{
	way->frame_id = from_le64(((const struct node_crossing *)node)->frame_id);
	way->depth = way->key.used - 1;
	return NEXT_FRAME;
}

/* From node @ref, @skip bytes of whose prefix are part of the key already. */
static int walk_image(struct leftmost *way, const void *image, node_ref ref, uint32_t skip)
{
	for (;;) {
		const struct node_inner *inner = (const void *)node_at(image, ref);
		struct node_entry entry;
		uint8_t byte;
		int err;

		if (!inner)
			return -EUCLEAN;
		if (!node_is_inner((const void *)inner) || from_le16(inner->terminal))
			return HAS_KEY;
		if (!inner_next(image, inner, 0, &entry))
			return NO_KEY;
		byte = (uint8_t)entry.lo;
		err = buffer_append(&way->key, inner_prefix(inner) + skip,
		    from_le16(inner->prefix_bytes) - skip);
		if (!err)
			err = buffer_append(&way->key, &byte, 1);
		if (err)
			return err;
		if (entry.node && entry.node->type == NODE_CROSSING)
			return enter_crossing(way, entry.node);
		ref = entry.ref;
		skip = 0;
	}
}

static int walk_frame(struct leftmost *way, struct tree_need *need)
{
	struct tree *tree = way->tree;
	uint32_t slot = pool_latch_key_shared(tree->pool, tree_key(way->frame_id));
	uint8_t byte = way->key.bytes[way->depth];
	const void *image;
	int result;

	if (slot == POOL_NO_SLOT)
		return tree_need_frame(need, way->frame_id);
	image = tree_image(tree, slot);
	way->key.used = way->depth; /* the root branches there anew */
	result = walk_image(way, image, from_le16(image_header_const(image)->root), 0);
	if (result == NO_KEY)
		result = buffer_append(&way->key, &byte, 1);
	if (result == NEXT_FRAME && way->tx && tree_hold_frame(tree, way->tx, slot))
		result = -E2BIG;
	pool_unlatch_shared(tree->pool, slot);
	return result;
}

/* From @hop, where the search for the prefix has ended, latched: it no longer is. */
static int walk(struct leftmost *way, const struct tree_hop *hop, const uint8_t *prefix,
    uint32_t prefix_bytes, struct tree_need *need)
{
	const void *image = tree_image(way->tree, hop->slot);
	int result = buffer_append(&way->key, prefix, prefix_bytes);
	struct image_subtree subtree;

	if (!result && image_find_subtree(image, prefix, prefix_bytes, &hop->path, &subtree))
		result = walk_image(way, image, subtree.top, subtree.skip);
	pool_unlatch_shared(way->tree->pool, hop->slot);
	for (unsigned hops = 0; result == NEXT_FRAME; hops++)
		result = hops < TREE_HOPS_MAX ? walk_frame(way, need) : -EUCLEAN;
	return result;
}

int tree_find_any(struct tree *tree, struct tree_tx *tx, const struct tree_hop *hop,
    const uint8_t *prefix, uint32_t prefix_bytes, struct tree_need *need)
{
	struct leftmost way = {.tree = tree, .tx = tx};
	int result = walk(&way, hop, prefix, prefix_bytes, need);

	free(way.key.bytes);
	if (result != NO_KEY)
		return result == HAS_KEY ? 0 : result;
	if (!way.frame_id)
		return -ENOENT;
	*need = (struct tree_need){.kind = TREE_NEED_FOLD, .key = prefix, .key_bytes = prefix_bytes};
	return -EAGAIN;
}

int tree_fold_empty(struct tree *tree, const uint8_t *prefix, uint32_t prefix_bytes,
    struct tree_spares *spares, struct tree_need *need)
{
	struct leftmost way = {.tree = tree};
	struct tree_hop hop;
	int result;

	*need = (struct tree_need){0};
	result = tree_descend(tree, true, prefix, prefix_bytes, &hop, need);
	if (result)
		return result;
	result = walk(&way, &hop, prefix, prefix_bytes, need);
	if (result == NO_KEY && way.frame_id)
		result = tree_shrink(tree, way.key.bytes, way.key.used, spares, need);
	free(way.key.bytes);
	return min_of(result, 0);
}
