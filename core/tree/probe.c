/*
 * The search within an image of which only some bytes are in memory.
 *
 * Somebody has reserved the memory of a whole image and fetches what is asked for to its
 * place there.  The search goes down the inner nodes, fetches each before it looks at it,
 * and at last what it leads to.  Then image_find() passes over the same nodes again and
 * says how it ended: so there is one meaning of "found", and nothing but the way is
 * decided here.
 *
 *    fetch inner node --> its entry for the byte --> fetch that node --+
 *        ^                                                             |
 *        +------------------------- inner? ----------------------------+
 *
 * A reference that leads nowhere ends the way; image_find() finds the same and calls it
 * damaged.  Each turn goes at least one byte forward in the key.
 */
#include "config.h"

#include "tree/tree_internal.h"

/* What is fetched of a node before its size is known: most nodes, and no block more. */
#define FIRST_BYTES 64u

static uint32_t first_bytes(uint32_t offset, uint32_t end)
{
	uint32_t first = min_of(FIRST_BYTES, BLOCK_BYTES - offset % BLOCK_BYTES);

	return min_of(first, end - offset);
}

/* @ret: NULL if there is no node at @ref. */
static int fetch_node(const void *image, const struct image_source *source, node_ref ref,
    const struct node **ret)
{
	uint32_t offset = (uint32_t)ref * NODE_UNIT;
	uint32_t first, bytes;
	int err;

	*ret = NULL;
	if (offset < FRAME_HEADER_BYTES || offset >= source->end)
		return 0;
	first = first_bytes(offset, source->end);
	err = source->fetch(source->ctx, offset, first);
	if (err)
		return err;
	*ret = node_at(image, ref);
	bytes = *ret ? node_bytes(*ret) : 0;
	if (bytes > source->end - offset)
		*ret = NULL;
	else if (bytes > first)
		err = source->fetch(source->ctx, offset, bytes);
	return err;
}

/* The entry for @byte, or the one before, which may be a crossing over it; or 0. */
static node_ref candidate(const void *image, const struct node_inner *inner, uint8_t byte)
{
	const struct node_4 *n4 = (const void *)inner;
	const struct node_16 *n16 = (const void *)inner;
	const uint8_t *bytes = inner->type == NODE_4 ? n4->bytes : n16->bytes;
	const le16 *refs = inner->type == NODE_4 ? n4->refs : n16->refs;
	unsigned capacity = inner->type == NODE_4 ? 4 : 16, rank = 0;

	if (inner->type == NODE_48 || inner->type == NODE_256)
		return inner_find(image, inner, byte);
	while (rank < min_of(capacity, (unsigned)from_le16(inner->count)) && bytes[rank] <= byte)
		rank++;
	return rank ? from_le16(refs[rank - 1]) : 0;
}

/* Goes past the prefix.  False: the key does not. */
static bool pass(const struct node_inner *inner, const uint8_t *key, uint32_t key_bytes, uint32_t *depth)
{
	uint32_t prefix_bytes = from_le16(inner->prefix_bytes);

	if (key_bytes - *depth < prefix_bytes ||
	    memcmp(key + *depth, inner_prefix(inner), prefix_bytes) != 0)
		return false;
	*depth += prefix_bytes;
	return true;
}

static int fetch_way(const void *image, const struct image_source *source, const uint8_t *key,
    uint32_t key_bytes, uint32_t depth)
{
	const struct node *node;
	int err = fetch_node(image, source, from_le16(image_header_const(image)->root), &node);

	while (!err && node && node_is_inner(node)) {
		const struct node_inner *inner = (const void *)node;
		node_ref next;

		if (!pass(inner, key, key_bytes, &depth))
			return 0;
		if (depth == key_bytes)
			next = from_le16(inner->terminal);
		else
			next = candidate(image, inner, key[depth]);
		if (!next)
			return 0;
		err = fetch_node(image, source, next, &node);
		if (err || depth == key_bytes || inner_find(image, inner, key[depth]) != next)
			return err;
		depth++;
	}
	return err;
}

int image_probe(const void *image, const struct image_source *source, const uint8_t *key,
    uint32_t key_bytes, uint32_t depth, struct image_path *ret)
{
	int err = source->fetch(source->ctx, 0, offsetof(struct frame_header, free_heads));

	if (!err)
		err = fetch_way(image, source, key, key_bytes, depth);
	if (!err)
		image_find(image, key, key_bytes, depth, ret);
	return err;
}
