/*
 * Copying subtrees from image to image.
 *
 * Copying follows Cheney ("A nonrecursive list compacting algorithm", CACM 1970):
 * the copy's own heap is the work list.  The top node is copied as it is; then a
 * scan over the copied nodes replaces each reference to the source by one to a copy
 * appended at the end.  So no stack is needed however deep the tree, and the copy
 * is packed in breadth-first order: the children of a node lie side by side, and
 * every child behind its parent.
 */
#include "config.h"

#include "tree/image.h"

#include <stdlib.h>

#include "base/assert.h"

/* The copy takes the form that fits it. */
static node_ref copy_leaf(void *image, const void *leaf, const uint8_t *add, uint32_t add_bytes, uint32_t skip)
{
	struct leaf_parts parts = leaf_take_apart(leaf);
	uint32_t kept = parts.rest_bytes - skip;
	node_ref ref = image_new_leaf(image, NULL, add_bytes + kept, NULL, parts.value_bytes, parts.seq);
	uint8_t *copy = (uint8_t *)image + (uint32_t)ref * NODE_UNIT, *to;

	if (!ref)
		return 0;
	to = (uint8_t *)leaf_bytes(copy, node_head(copy));
	if (add_bytes)
		memcpy(to, add, add_bytes);
	memcpy(to + add_bytes, parts.rest + skip, kept + parts.value_bytes);
	return ref;
}

static node_ref copy_inner(void *image, const struct node_inner *inner, const uint8_t *add,
    uint32_t add_bytes, uint32_t skip)
{
	uint32_t kept = from_le16(inner->prefix_bytes) - skip;
	node_ref ref = image_new_inner(image, (enum node_type)inner->type, NULL, add_bytes + kept);
	struct node_inner *copy = (void *)((char *)image + (uint32_t)ref * NODE_UNIT);
	uint8_t *prefix;

	if (!ref)
		return 0;
	prefix = (uint8_t *)inner_prefix(copy);
	memcpy(copy, inner, (size_t)(prefix - (uint8_t *)copy));
	copy->prefix_bytes = to_le16((uint16_t)(add_bytes + kept));
	if (add_bytes)
		memcpy(prefix, add, add_bytes);
	memcpy(prefix + add_bytes, inner_prefix(inner) + skip, kept);
	return ref;
}

node_ref image_copy_node(void *image, const void *source, node_ref from, const uint8_t *add,
    uint32_t add_bytes, uint32_t skip)
{
	const struct node *node = node_at(source, from);
	uint32_t have;
	node_ref ref;

	if (node->type == NODE_CROSSING) {
		const struct node_crossing *crossing = (const void *)node;

		if (add_bytes || skip)
			return 0;
		return image_new_crossing(image, crossing->lo, crossing->hi, from_le64(crossing->frame_id));
	}
	have = node_is_leaf(node) ? head_rest_bytes(node_head(node)) : head_prefix_bytes(node_head(node));
	if (skip > have || have - skip + add_bytes > NODE_REST_MAX)
		return 0;
	if (node_is_leaf(node))
		ref = copy_leaf(image, node, add, add_bytes, skip);
	else
		ref = copy_inner(image, (const void *)node, add, add_bytes, skip);
	return ref;
}

/* Copies what the inner node at @at of @image (still with the source's references)
 * refers to, and points it at the copies. */
static bool copy_children(void *image, const void *source, node_ref at, bool *ret_damaged)
{
	struct node_inner *inner = (void *)node_at_mutable(image, at);
	node_ref terminal = from_le16(inner->terminal);
	struct node_256 original; /* the largest, without a prefix */
	struct node_entry entry;

	memcpy(&original, inner, min_of(sizeof(original), (size_t)node_bytes((const void *)inner)));
	if (terminal) {
		*ret_damaged |= !node_at(source, terminal);
		terminal = *ret_damaged ? 0 : image_copy_node(image, source, terminal, NULL, 0, 0);
		if (!terminal)
			return false;
		inner->terminal = to_le16(terminal);
	}
	for (unsigned from = 0; inner_next(source, &original.inner, from, &entry);
	     from = entry.hi + 1) {
		node_ref copy;

		if (!entry.node) {
			*ret_damaged = true;
			return false;
		}
		copy = image_copy_node(image, source, entry.ref, NULL, 0, 0);
		if (!copy)
			return false;
		inner_set(image, at, entry.lo, entry.hi, copy);
	}
	return true;
}

/* The scan over what image_copy() has appended so far. */
static node_ref copy_appended(void *image, const void *source, node_ref from, const uint8_t *add,
    uint32_t add_bytes, uint32_t skip, bool *ret_damaged)
{
	uint32_t scan = from_le32(image_header(image)->heap_end);
	node_ref top = image_copy_node(image, source, from, add, add_bytes, skip);

	/* A copy is never larger than a frame, so a cycle ends for want of room. */
	while (top && scan < from_le32(image_header(image)->heap_end)) {
		node_ref at = (node_ref)(scan / NODE_UNIT);
		const struct node *node = node_at(image, at);

		ASSERT(node);
		if (node_is_inner(node) && !copy_children(image, source, at, ret_damaged))
			return 0;
		scan += node_bytes(node_at(image, at));
	}
	return top;
}

node_ref image_copy(void *image, const void *source, node_ref from, const uint8_t *add,
    uint32_t add_bytes, uint32_t skip, bool *ret_damaged)
{
	struct frame_header *header = image_header(image);
	le16 free_heads[FRAME_FREE_CLASSES];
	node_ref top;

	*ret_damaged = !node_at(source, from);
	if (*ret_damaged)
		return 0;
	/* All copies are appended: the scan would not see one in a freed chunk. */
	memcpy(free_heads, header->free_heads, sizeof(free_heads));
	memset(header->free_heads, 0, sizeof(free_heads));
	top = copy_appended(image, source, from, add, add_bytes, skip, ret_damaged);
	memcpy(header->free_heads, free_heads, sizeof(free_heads));
	return top;
}

node_ref image_copy_top(void *image, const void *source, node_ref from, uint64_t frame_id)
{
	const struct node_inner *inner = (const void *)node_at(source, from);
	uint32_t prefix_bytes = from_le16(inner->prefix_bytes);
	node_ref ref = image_new_inner(image, NODE_4, NULL, prefix_bytes);
	struct node_inner *copy = (void *)((char *)image + (uint32_t)ref * NODE_UNIT);
	node_ref terminal = from_le16(inner->terminal), crossing;

	if (!ref)
		return 0;
	memcpy((uint8_t *)inner_prefix(copy), inner_prefix(inner), prefix_bytes);
	if (terminal) {
		terminal = image_copy_node(image, source, terminal, NULL, 0, 0);
		if (!terminal)
			return 0;
		copy->terminal = to_le16(terminal);
	}
	crossing = image_new_crossing(image, 0, 255, frame_id);
	return crossing ? inner_add(image, ref, 0, 255, crossing) : 0;
}

void image_free_subtree(void *image, node_ref from, node_ref *scratch_refs)
{
	uint32_t count = 1;

	scratch_refs[0] = from;
	for (uint32_t i = 0; i < count; i++) {
		const struct node_inner *inner = (const void *)node_at(image, scratch_refs[i]);
		struct node_entry entry;

		if (!node_is_inner((const void *)inner))
			continue;
		if (from_le16(inner->terminal))
			scratch_refs[count++] = from_le16(inner->terminal);
		for (unsigned at = 0; inner_next(image, inner, at, &entry); at = entry.hi + 1)
			scratch_refs[count++] = entry.ref;
	}
	while (count > 0)
		image_free(image, scratch_refs[--count]);
}
