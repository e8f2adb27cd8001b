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
 * What image_find() comes to must be what was fetched: otherwise the image is damaged,
 * whatever lies in the memory around.  Each turn goes at least one byte forward in the key.
 */
#include "config.h"

#include "tree/image.h"

/* What is fetched of a node before its size is known: most nodes, and no block more. */
#define FIRST_BYTES 64u

static uint32_t first_bytes(uint32_t offset, uint32_t end)
{
	uint32_t first = min_of(FIRST_BYTES, BLOCK_BYTES - offset % BLOCK_BYTES);

	return min_of(first, end - offset);
}

#define NO_NODE 1 /* beside errors of fetch() */

/* Enough of a node to say what and how long it is. */
static int fetch_head(const struct image_source *source, node_ref ref)
{
	uint32_t offset = (uint32_t)ref * NODE_UNIT;

	if (offset < FRAME_HEADER_BYTES || offset >= source->end)
		return NO_NODE;
	return source->fetch(source->ctx, offset, first_bytes(offset, source->end));
}

static int fetch_rest(const void *image, const struct image_source *source, node_ref ref)
{
	uint32_t offset = (uint32_t)ref * NODE_UNIT;
	const struct node *node = node_at(image, ref);
	uint32_t bytes = node ? node_bytes(node) : 0;

	if (!bytes || bytes > source->end - offset)
		return NO_NODE;
	return bytes > first_bytes(offset, source->end) ? source->fetch(source->ctx, offset, bytes) : 0;
}

static int fetch_node(const void *image, const struct image_source *source, node_ref ref)
{
	int err = fetch_head(source, ref);

	return err ? err : fetch_rest(image, source, ref);
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

/* The last inner node on the way, and what it leads to, if anything. */
struct way {
	node_ref inner, child;
};

static int fetch_child(const void *image, const struct image_source *source, const uint8_t *key,
    uint32_t key_bytes, uint32_t depth, struct way *way)
{
	const struct node_inner *inner = (const void *)node_at(image, way->inner);
	node_ref ref = depth == key_bytes ? from_le16(inner->terminal) : candidate(image, inner, key[depth]);
	int err;

	if (!ref)
		return 0;
	err = fetch_head(source, ref);
	/* Of the entry before it matters only whether it is a crossing. */
	if (err || (depth < key_bytes && inner_find(image, inner, key[depth]) != ref))
		return err;
	way->child = ref;
	return fetch_rest(image, source, ref);
}

static int fetch_way(const void *image, const struct image_source *source, const uint8_t *key,
    uint32_t key_bytes, uint32_t depth, struct way *ret)
{
	node_ref ref = from_le16(image_header_const(image)->root);
	int err = fetch_node(image, source, ref);

	while (!err && ref && node_is_inner(node_at(image, ref))) {
		*ret = (struct way){.inner = ref};
		if (depth > key_bytes || !pass((const void *)node_at(image, ref), key, key_bytes, &depth))
			break;
		err = fetch_child(image, source, key, key_bytes, depth, ret);
		ref = depth++ < key_bytes ? ret->child : 0;
	}
	return err;
}

static bool is_as_fetched(const struct image_path *path, const struct way *way)
{
	bool has_leaf = path->result == IMAGE_FOUND || path->result == IMAGE_CROSSING ||
			path->result == IMAGE_IN_LEAF;

	return path->node == way->inner && (!has_leaf || path->leaf == way->child);
}

int image_probe(const void *image, const struct image_source *source, const uint8_t *key,
    uint32_t key_bytes, uint32_t depth, struct image_path *ret)
{
	struct way way = {0};
	int err = source->fetch(source->ctx, 0, offsetof(struct frame_header, free_heads));

	if (!err)
		err = fetch_way(image, source, key, key_bytes, depth, &way);
	if (!err)
		image_find(image, key, key_bytes, depth, ret);
	if (err == NO_NODE || (!err && ret->result != IMAGE_DAMAGED && !is_as_fetched(ret, &way))) {
		ret->result = IMAGE_DAMAGED;
		return 0;
	}
	return err;
}
