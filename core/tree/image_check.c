/*
 * Is an image what a tree frame can be?  Every node that can be reached is looked at,
 * trusting none of it.
 *
 *  1. Each node lies in the heap, is reached once and shares no byte with another node or
 *     with a chunk on a free list, which lies in the heap as well.
 *  2. A node has as many entries as it says, in order.  A crossing stands for exactly the
 *     bytes that it names.  A terminal is a leaf without rest.
 *  3. The header counts what there is.
 *
 * An image that is so can be changed: what follows from it stays inside.  It is asked before
 * the first change of each frame that was read from disk, so it takes care not to be slow:
 * nothing is put together, entries are runs of arrays, and the nodes still to visit are a
 * stack of references.
 */
#include "config.h"

#include "tree/image.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"

#define UNITS (FRAME_BYTES / NODE_UNIT)
#define INNER_MOST (IMAGE_CAPACITY / sizeof(struct node_4)) /* inner nodes of an image */

/* Above the longest leaf that was ever put. */
#define LEAF_MOST (IMAGE_CAPACITY / 2)

struct look {
	const void *image;
	const char *why;
	uint32_t heap_end;
	uint32_t live_bytes, node_count;
	uint32_t stack_count;
	node_ref stack[INNER_MOST]; /* inner nodes to visit; none is there twice */
	uint64_t taken[UNITS / 64]; /* a bit for each unit */
};

static bool damaged(struct look *look, const char *why)
{
	look->why = why;
	return false;
}

/* False: some of it was taken before. */
static bool take(struct look *look, uint32_t first, uint32_t units)
{
	uint32_t end = first + units;

	while (first < end) {
		uint32_t count = min_of(end - first, 64 - first % 64);
		uint64_t mask = (count == 64 ? UINT64_MAX : BIT(count) - 1) << first % 64;

		if (look->taken[first / 64] & mask)
			return false;
		look->taken[first / 64] |= mask;
		first += count;
	}
	return true;
}

/* Counts the node that an entry leads to; NULL: damaged. */
static const struct node *reach(struct look *look, node_ref ref)
{
	const struct node *node = node_at(look->image, ref);
	uint32_t bytes;

	look->why = "a reference leads to no node";
	if (!node)
		return NULL;
	bytes = node_bytes(node);
	look->why = "a node reaches behind the heap";
	if ((uint32_t)ref * NODE_UNIT + bytes > look->heap_end)
		return NULL;
	look->why = "a node is referred to twice, or lies in another";
	if (!take(look, ref, bytes / NODE_UNIT))
		return NULL;
	look->why = "a value is too long";
	if (node->type == NODE_LEAF && bytes > LEAF_MOST)
		return NULL;
	look->live_bytes += bytes;
	look->node_count++;
	if (node_is_inner(node))
		look->stack[look->stack_count++] = ref;
	return node;
}

/* A byte of an entry, or the first of a crossing's run, which ends with @ret_hi. */
static bool look_at_entry(struct look *look, unsigned byte, node_ref ref, unsigned *ret_hi)
{
	const struct node *node = reach(look, ref);
	const struct node_crossing *crossing = (const void *)node;

	*ret_hi = byte;
	if (!node)
		return false;
	if (node->type != NODE_CROSSING)
		return true;
	if (crossing->lo != byte || crossing->hi < byte)
		return damaged(look, "a crossing stands outside its run");
	*ret_hi = crossing->hi;
	return true;
}

/* ---- the shapes ------------------------------------------------------------------- */

static bool look_at_sorted(struct look *look, const uint8_t *bytes, const le16 *refs,
    unsigned capacity, unsigned count)
{
	unsigned from = 0, hi;

	if (count > capacity)
		return damaged(look, "a node has more entries than places");
	for (unsigned i = 0; i < count; i++) {
		if (bytes[i] < from)
			return damaged(look, "entries overlap, or are not in order");
		if (!look_at_entry(look, bytes[i], from_le16(refs[i]), &hi))
			return false;
		from = hi + 1;
	}
	return true;
}

static bool look_at_48(struct look *look, const struct node_48 *node)
{
	unsigned entries = 0, used = 0, hi;

	for (unsigned place = 0; place < ARRAY_COUNT(node->refs); place++)
		used += from_le16(node->refs[place]) != 0;
	for (unsigned byte = 0; byte < 256; byte++) {
		unsigned place = node->index[byte];

		if (!place)
			continue;
		if (place > ARRAY_COUNT(node->refs))
			return damaged(look, "an index leads to no place");
		if (!look_at_entry(look, byte, from_le16(node->refs[place - 1]), &hi))
			return false;
		while (byte < hi)
			if (node->index[++byte] != place)
				return damaged(look, "a crossing does not stand for all of its run");
		entries++;
	}
	if (entries != from_le16(node->inner.count) || entries != used)
		return damaged(look, "a node's entries are not as many as it says");
	return true;
}

static bool look_at_256(struct look *look, const struct node_256 *node)
{
	unsigned entries = 0, hi;

	for (unsigned byte = 0; byte < 256; byte++) {
		node_ref ref = from_le16(node->refs[byte]);

		if (!ref)
			continue;
		if (!look_at_entry(look, byte, ref, &hi))
			return false;
		while (byte < hi)
			if (from_le16(node->refs[++byte]) != ref)
				return damaged(look, "a crossing does not stand for all of its run");
		entries++;
	}
	if (entries != from_le16(node->inner.count))
		return damaged(look, "a node's entries are not as many as it says");
	return true;
}

static bool look_at_terminal(struct look *look, node_ref ref)
{
	const struct node *node;

	if (!ref)
		return true;
	node = reach(look, ref);
	if (!node)
		return false;
	if (!node_is_leaf(node) || head_rest_bytes(node_head(node)))
		return damaged(look, "a terminal is no leaf without rest");
	return true;
}

static bool look_at_inner(struct look *look, node_ref ref)
{
	const struct node_inner *inner = (const void *)node_at(look->image, ref);
	const struct node_16 *n16 = (const void *)inner;
	const struct node_4 *n4 = (const void *)inner;

	if (!look_at_terminal(look, from_le16(inner->terminal)))
		return false;
	switch (inner->type) {
	case NODE_4:
		return look_at_sorted(look, n4->bytes, n4->refs, 4, from_le16(inner->count));
	case NODE_16:
		return look_at_sorted(look, n16->bytes, n16->refs, 16, from_le16(inner->count));
	case NODE_48:
		return look_at_48(look, (const void *)inner);
	default:
		return look_at_256(look, (const void *)inner);
	}
}

/* ---- the whole ----------------------------------------------------------------------- */

static bool look_at_free_lists(struct look *look)
{
	const struct frame_header *header = image_header_const(look->image);

	for (uint32_t class = 0; class < FRAME_FREE_CLASSES; class++) {
		uint32_t bytes = (class + 1) * NODE_UNIT;
		node_ref ref = from_le16(header->free_heads[class]);

		while (ref) {
			uint32_t offset = (uint32_t)ref * NODE_UNIT;
			const struct node_free *chunk = (const void *)((const char *)look->image + offset);

			if (offset < FRAME_HEADER_BYTES || offset + bytes > look->heap_end)
				return damaged(look, "a free list leads out of the heap");
			if (!take(look, ref, bytes / NODE_UNIT))
				return damaged(look, "a free list has what is in use");
			ref = from_le16(chunk->next);
		}
	}
	return true;
}

static bool look_at_image(struct look *look)
{
	const struct frame_header *header = image_header_const(look->image);
	const struct node *root;

	look->heap_end = from_le32(header->heap_end);
	if (look->heap_end < FRAME_HEADER_BYTES || look->heap_end > FRAME_BYTES ||
	    look->heap_end % NODE_UNIT)
		return damaged(look, "the heap has no end in the frame");
	root = reach(look, from_le16(header->root));
	if (!root)
		return false;
	if (!node_is_inner(root))
		return damaged(look, "the root is no inner node");
	while (look->stack_count > 0)
		if (!look_at_inner(look, look->stack[--look->stack_count]))
			return false;
	if (look->live_bytes != from_le32(header->live_bytes) ||
	    look->node_count != from_le32(header->node_count))
		return damaged(look, "the header counts other nodes than there are");
	return look_at_free_lists(look);
}

int image_check(const void *image, const char **ret_why)
{
	struct look *look = malloc(sizeof(*look));
	int err;

	*ret_why = "";
	if (!look)
		return -ENOMEM;
	look->image = image;
	look->live_bytes = look->node_count = look->stack_count = 0;
	memset(look->taken, 0, sizeof(look->taken));
	err = look_at_image(look) ? 0 : -EUCLEAN;
	if (err)
		*ret_why = look->why;
	free(look);
	return err;
}
