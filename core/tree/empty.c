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
#include "tree/scan.h"
#include "tree/tree_internal.h"

struct leftmost {
	struct tree *tree;
	struct tree_buffer *key; /* of the way, ends with the byte that leads to the frame;
				  * NULL: nobody asks */
	uint64_t frame_id; /* 0: has not left the prefix's own frame */
	uint32_t depth;	   /* of the key, where the frame's root branches */
};

enum { NO_KEY = 0, HAS_KEY = 1, NEXT_FRAME = 2 };

static int append(struct leftmost *way, const void *bytes, uint32_t count)
{
	if (!way->key)
		return 0;
	return way->key->used <= PATH_MAX_BYTES ? buffer_append(way->key, bytes, count) : -EUCLEAN;
}

/* From node @ref, @skip bytes of whose prefix are part of the key already. */
static int walk_image(struct leftmost *way, const void *image, node_ref ref, uint32_t skip)
{
	for (unsigned levels = 0;; levels++) {
		const struct node_inner *inner = (const void *)node_at(image, ref);
		struct node_entry entry;
		uint8_t byte;
		int err;

		/* Nodes in a circle have no end. */
		if (!inner || levels == FRAME_NODES_MAX)
			return -EUCLEAN;
		if (!node_is_inner((const void *)inner) || from_le16(inner->terminal))
			return HAS_KEY;
		if (!inner_next(image, inner, 0, &entry))
			return NO_KEY;
		byte = (uint8_t)entry.lo;
		err = append(way, inner_prefix(inner) + skip, from_le16(inner->prefix_bytes) - skip);
		if (!err)
			err = append(way, &byte, 1);
		if (err)
			return err;
		if (entry.node && entry.node->type == NODE_CROSSING) {
			way->frame_id = from_le64(((const struct node_crossing *)entry.node)->frame_id);
			way->depth = way->key ? way->key->used - 1 : 0;
			return NEXT_FRAME;
		}
		ref = entry.ref;
		skip = 0;
	}
}

static int walk_frame(struct leftmost *way, struct tree_need *need)
{
	uint32_t slot = pool_latch_key_shared(way->tree->pool, tree_key(way->frame_id));
	uint32_t used = way->key ? way->key->used : 0;
	const void *image;
	int result;

	if (slot == POOL_NO_SLOT)
		return tree_need_frame(need, way->frame_id);
	image = tree_image(way->tree, slot);
	if (way->key)
		way->key->used = way->depth; /* the root branches there anew */
	result = walk_image(way, image, from_le16(image_header_const(image)->root), 0);
	pool_unlatch_shared(way->tree->pool, slot);
	/* Nothing has been written behind the byte that led here. */
	if (result == NO_KEY && way->key)
		way->key->used = used;
	return result;
}

static int walk_on(struct leftmost *way, struct tree_need *need)
{
	int result = NEXT_FRAME;

	for (unsigned hops = 0; result == NEXT_FRAME; hops++)
		result = hops < TREE_HOPS_MAX ? walk_frame(way, need) : -EUCLEAN;
	return result;
}

/* @hop is where the search for the prefix has ended, latched: it no longer is. */
static int walk_first(struct leftmost *way, const struct tree_hop *hop, const uint8_t *prefix,
    uint32_t prefix_bytes)
{
	const void *image = tree_image(way->tree, hop->slot);
	int result = append(way, prefix, prefix_bytes);
	struct image_subtree subtree;

	if (!result && image_find_subtree(image, prefix, prefix_bytes, &hop->path, &subtree))
		result = walk_image(way, image, subtree.top, subtree.skip);
	pool_unlatch_shared(way->tree->pool, hop->slot);
	return result;
}

int tree_find_any(struct tree *tree, const struct tree_hop *hop, const uint8_t *prefix,
    uint32_t prefix_bytes, struct tree_below *below, struct tree_need *need)
{
	struct leftmost way = {.tree = tree};
	int result = NEXT_FRAME;

	if (below->shape == tree_shape(tree)) {
		way.frame_id = below->frame_id;
		pool_unlatch_shared(tree->pool, hop->slot);
	} else {
		result = walk_first(&way, hop, prefix, prefix_bytes);
	}
	if (result == NEXT_FRAME)
		result = walk_on(&way, need);
	if (result == -EAGAIN)
		*below = (struct tree_below){.frame_id = way.frame_id, .shape = tree_shape(tree)};
	if (result != NO_KEY)
		return result == HAS_KEY ? 0 : result;
	if (!way.frame_id)
		return -ENOENT;
	*need = (struct tree_need){
	    .kind = TREE_NEED_FOLD, .tree = tree, .key = prefix, .key_bytes = prefix_bytes};
	return -EAGAIN;
}

static int find_empty(struct tree *tree, const uint8_t *prefix, uint32_t prefix_bytes,
    struct tree_fold *fold, struct tree_need *need)
{
	struct leftmost way = {
	    .tree = tree, .key = &fold->key, .frame_id = fold->frame_id, .depth = fold->depth};
	struct tree_hop hop;
	int result = NEXT_FRAME;

	if (!way.frame_id) {
		result = tree_descend(tree, true, prefix, prefix_bytes, &hop, need);
		if (!result)
			result = walk_first(&way, &hop, prefix, prefix_bytes);
	}
	if (result == NEXT_FRAME)
		result = walk_on(&way, need);
	fold->frame_id = way.frame_id;
	fold->depth = way.depth;
	fold->is_found = result == NO_KEY && way.frame_id;
	return result;
}

int tree_fold_empty(struct tree *tree, const uint8_t *prefix, uint32_t prefix_bytes,
    struct tree_fold *fold, struct tree_spares *spares, struct tree_need *need)
{
	int result = 0;

	if (fold->shape != tree_shape(tree)) {
		fold->shape = tree_shape(tree);
		fold->frame_id = 0;
		fold->key.used = 0;
		fold->is_found = false;
		*need = (struct tree_need){0};
	}
	if (!fold->is_found)
		result = find_empty(tree, prefix, prefix_bytes, fold, need);
	if (fold->is_found)
		return tree_shrink(tree, fold->key.bytes, fold->key.used, spares, need);
	return min_of(result, 0);
}

void tree_fold_end(struct tree_fold *fold)
{
	free(fold->key.bytes);
}
