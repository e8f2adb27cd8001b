/*
 * Is there a key below a node?
 *
 * A common prefix is an item if any key begins with it.  Every node has entries, and each
 * leads to keys unless it is a crossing to a frame that holds nothing.  Mostly there is no
 * such frame at all, and that says it.  (Read after the node and before its frame is found
 * unchanged: so at a time when the node hung in the tree.)
 *
 * Else a key is looked for: always taking the first entry leads to a leaf, perhaps by way
 * of a few frames.  That leaves no trace in the scan, as it costs a fraction of walking
 * there and back.
 *
 *     "category-1/" --> node "file-" --0--> crossing 17 --> root of 17 --0--> ... leaf
 *
 * What is found is true if the frames on the way are, each until after the next one was
 * begun to be read (scan_frames.c, 2).  The scan's own frame is checked with its run.
 * Where this finds nothing - an empty frame, one that is not in memory, one that changes -
 * the walk itself goes there.
 */
#include "config.h"

#include "tree/scan.h"
#include "tree/tree_internal.h"

#define PROBE_HOPS_MAX 16

enum near { NEAR_NOTHING, NEAR_KEY, NEAR_CROSSING };

static uint64_t child_head(const void *image, node_ref ref)
{
	return node_head(node_place(image, ref));
}

/* The first entry of a node4 or node16, but one in this frame if there is any. */
static node_ref sorted_entry(const void *image, const void *node, uint64_t head)
{
	unsigned count = min_of(head_count(head), head_type(head) == NODE_4 ? 4u : 16u);

	for (unsigned i = 0; i < count; i++) {
		node_ref ref = sorted_ref(node, head_type(head), i);

		if (head_type(child_head(image, ref)) != NODE_CROSSING)
			return ref;
	}
	return count ? sorted_ref(node, head_type(head), 0) : 0;
}

static node_ref indexed_entry(const void *node, uint64_t head)
{
	for (unsigned word = 0; word < ENTRY_WORDS; word++) {
		uint64_t mask = entry_word(node, head_type(head), word);

		if (mask)
			return indexed_ref(node, head_type(head),
			    64 * word + (unsigned)__builtin_ctzll(mask));
	}
	return 0;
}

/* From the node down, in one frame. */
static enum near look_near(const void *image, node_ref ref, uint64_t *ret_frame_id)
{
	for (unsigned levels = 0; levels < FRAME_NODES_MAX && ref >= NODE_REF_FIRST; levels++) {
		const void *node = node_place(image, ref);
		uint64_t head = node_head(node);

		if (head_is_leaf(head))
			return NEAR_KEY;
		if (head_type(head) == NODE_CROSSING) {
			*ret_frame_id = from_le64(((const struct node_crossing *)node)->frame_id);
			return NEAR_CROSSING;
		}
		if (!head_is_inner(head))
			return NEAR_NOTHING;
		if (head_terminal(head))
			ref = head_terminal(head);
		else if (head_type(head) <= NODE_16)
			ref = sorted_entry(image, node, head);
		else
			ref = indexed_entry(node, head);
	}
	return NEAR_NOTHING;
}

bool scan_has_key(struct tree_scan *scan, node_ref ref)
{
	const struct tree_stop *stop = scan_stop(scan);
	struct pool *pool = scan->tree->pool;
	struct pool_read above = {.slot = stop->slot, .version = stop->version}, here;
	uint64_t frame_id;
	enum near near;

	if (!scan_has_empty_frames(scan))
		return true;
	near = look_near(scan->image, ref, &frame_id);
	/* Who latches holds one latch at a time. */
	if (near != NEAR_CROSSING || scan->is_latched)
		return near == NEAR_KEY;
	for (unsigned hops = 0; near == NEAR_CROSSING && hops < PROBE_HOPS_MAX; hops++) {
		if (!pool_read_key(pool, tree_key(frame_id), &here) ||
		    !pool_read_validate(pool, above.slot, above.version))
			return false;
		near = look_near(here.memory, from_le16(image_header_const(here.memory)->root), &frame_id);
		above = here;
	}
	return near == NEAR_KEY && pool_read_validate(pool, above.slot, above.version);
}
