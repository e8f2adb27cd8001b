/*
 * Pure functions on the nodes of one frame image: no latches, no other frames.
 *
 * An *image* is FRAME_BYTES of memory laid out as a tree frame.  Functions that
 * change one are for its exclusive owner.  Those that read follow references only
 * through node_at(), which refuses what does not lie in the image: bytes may come
 * from a damaged disk.
 */
#ifndef HOLTFS_TREE_NODE_H
#define HOLTFS_TREE_NODE_H

#include "format/format.h"
#include "format/node.h"

#define IMAGE_CAPACITY (FRAME_BYTES - FRAME_HEADER_BYTES)

/* What every change leaves at the end of the heap, so that a split always has room
 * for its crossing. */
#define IMAGE_SLACK 64u

static inline struct frame_header *image_header(void *image)
{
	return image;
}

static inline const struct frame_header *image_header_const(const void *image)
{
	return image;
}

/* Bytes of an inner node before its prefix; 0: @type is no inner node's. */
static inline uint32_t inner_base_bytes(unsigned type)
{
	switch (type) {
	case NODE_4:
		return offsetof(struct node_4, prefix);
	case NODE_16:
		return offsetof(struct node_16, prefix);
	case NODE_48:
		return offsetof(struct node_48, prefix);
	case NODE_256:
		return offsetof(struct node_256, prefix);
	default:
		return 0;
	}
}

static inline uint32_t inner_bytes(unsigned type, uint32_t prefix_bytes)
{
	return (uint32_t)round_up(inner_base_bytes(type) + prefix_bytes, NODE_UNIT);
}

static inline uint32_t leaf_node_bytes(bool is_short, uint32_t rest_bytes, uint32_t value_bytes)
{
	uint32_t base = is_short ? sizeof(struct node_short_leaf) : sizeof(struct node_leaf);

	return (uint32_t)round_up(base + rest_bytes + value_bytes, NODE_UNIT);
}

/* Of a leaf in either form. */
static inline uint32_t leaf_bytes_most(uint32_t rest_bytes, uint32_t value_bytes)
{
	return leaf_node_bytes(false, rest_bytes, value_bytes);
}

static inline bool node_is_leaf(const struct node *node)
{
	return head_is_leaf(node->type);
}

/* Bytes a node takes, a multiple of 8; 0 if its type is none. */
static inline uint32_t node_bytes(const struct node *node)
{
	const struct node_inner *inner = (const void *)node;
	uint64_t head;

	switch (node->type) {
	case NODE_CROSSING:
		return sizeof(struct node_crossing);
	case NODE_4:
	case NODE_16:
	case NODE_48:
	case NODE_256:
		return inner_bytes(node->type, from_le16(inner->prefix_bytes));
	default:
		head = node_head(node);
		if (!head_is_leaf(head) || head_value_bytes(head) > FRAME_BYTES)
			return 0;
		return leaf_node_bytes(head_is_short_leaf(head), head_rest_bytes(head), head_value_bytes(head));
	}
}

/* The node at @ref, or NULL: out of the image, of no known type, or too long. */
static inline const struct node *node_at(const void *image, node_ref ref)
{
	uint32_t offset = (uint32_t)ref * NODE_UNIT;
	const struct node *node = (const void *)((const char *)image + offset);
	uint32_t bytes;

	if (offset < FRAME_HEADER_BYTES || offset > FRAME_BYTES - NODE_UNIT)
		return NULL;
	bytes = node_bytes(node);
	return bytes && bytes <= FRAME_BYTES - offset ? node : NULL;
}

static inline struct node *node_at_mutable(void *image, node_ref ref)
{
	return (struct node *)node_at(image, ref);
}

static inline bool node_is_inner(const struct node *node)
{
	return node->type >= NODE_4 && node->type <= NODE_256;
}

/* The smallest shape for so many entries. */
static inline enum node_type inner_type_for(unsigned entries)
{
	return entries > 48 ? NODE_256 : entries > 16 ? NODE_48 : entries > 4 ? NODE_16 : NODE_4;
}

static inline const uint8_t *inner_prefix(const struct node_inner *inner)
{
	return (const uint8_t *)inner + inner_base_bytes(inner->type);
}

/* ---- entries of an inner node ---------------------------------------------- */

struct node_entry {
	unsigned lo, hi; /* hi is lo but for crossings */
	node_ref ref;
	const struct node *node;
};

/* The child for @byte, or 0.  -1 in place of a reference never occurs: damage shows
 * when the child is followed. */
node_ref inner_find(const void *image, const struct node_inner *inner, uint8_t byte);

/*
 * The entry that holds @from or the first one after it (@from up to 256).  False:
 * none.  A child that node_at() refuses is returned with node == NULL.
 */
bool inner_next(const void *image, const struct node_inner *inner, unsigned from, struct node_entry *ret);

/* The last entry. */
bool inner_last(const void *image, const struct node_inner *inner, struct node_entry *ret);

/* ---- changes; the caller saw to room (image_room) ---------------------------- */

/* Contiguous free bytes at the end of the heap. */
uint32_t image_room(const void *image);

/* Has so much been put since the image was laid out (layout.c) that it is time to do so
 * again? */
#define DISORDER_MOST (IMAGE_CAPACITY / 8)
bool image_is_disordered(const void *image);

/* All that lies in the heap is as good as in order. */
void image_set_laid_out(void *image);

/* Bytes of nodes in use. */
uint32_t image_live_bytes(const void *image);

/* An image without any node, not even a root; one with an empty root. */
void image_init_heap(void *image, uint64_t frame_id);
void image_init(void *image, uint64_t frame_id);

/* 0: no room. */
node_ref image_alloc(void *image, uint32_t bytes);
void image_free(void *image, node_ref ref);

/* Makes a node's allocation smaller by its tail. */
void image_trim(void *image, node_ref ref, uint32_t old_bytes, uint32_t new_bytes);

/* @rest, @value NULL: for the caller to fill in. */
node_ref image_new_leaf(void *image, const void *rest, uint32_t rest_bytes,
    const void *value, uint32_t value_bytes, uint64_t seq);
/* Another value as long as the one the leaf has.  False: it is not, or the version does
 * not fit the leaf's form; nothing is changed. */
bool image_set_value(void *image, node_ref leaf, const void *value, uint32_t value_bytes, uint64_t seq);

/* Will it, for any version up to @seq_most? */
bool image_can_set_value(const void *image, node_ref leaf, uint32_t value_bytes, uint64_t seq_most);

/* Takes the first @bytes off a leaf's rest. */
void image_cut_rest(void *image, node_ref leaf, uint32_t bytes);

/* The nodes themselves, in memory that the caller has taken for them. */
void crossing_init(struct node_crossing *crossing, unsigned lo, unsigned hi, uint64_t frame_id);
void inner_init(struct node_inner *inner, enum node_type type, const void *prefix, uint32_t prefix_bytes);

node_ref image_new_crossing(void *image, unsigned lo, unsigned hi, uint64_t frame_id);
/* @prefix NULL: zeros, for the caller to fill in. */
node_ref image_new_inner(void *image, enum node_type type, const void *prefix, uint32_t prefix_bytes);

/*
 * Adds an entry that overlaps no other.  Returns the node's reference, a new one if
 * it had to grow; the caller links it in then.  0: no room, nothing changed.
 */
node_ref inner_add(void *image, node_ref node, unsigned lo, unsigned hi, node_ref child);

/* Points an existing entry at another child; lo..hi is the entry's whole range. */
void inner_set(void *image, node_ref node, unsigned lo, unsigned hi, node_ref child);

/* Takes an entry out.  Shrinks the node if that leaves @keep_bytes of room; returns its
 * reference. */
node_ref inner_remove(void *image, node_ref node, unsigned lo, unsigned hi, uint32_t keep_bytes);

/* Makes the run of the crossing @ref under @node shorter; takes no room. */
void inner_narrow(void *image, node_ref node, node_ref ref, unsigned lo, unsigned hi);

/* @keep_bytes of who must not lose any room: others count on what there is. */
#define KEEP_ALL_ROOM (2 * FRAME_BYTES)

#endif
