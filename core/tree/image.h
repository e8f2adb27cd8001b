/*
 * The radix tree within one frame image: search, insert, erase, copy.
 *
 * All functions take a *position*: the search enters the image's root at byte
 * @depth of the key, where the root branches.  None follows a crossing.
 */
#ifndef HOLTFS_TREE_IMAGE_H
#define HOLTFS_TREE_IMAGE_H

#include "tree/node.h"

/* A 32-bit size and a 16-bit work-list place for each reference. */
#define IMAGE_SIZES_BYTES (FRAME_BYTES / NODE_UNIT * (sizeof(uint32_t) + sizeof(node_ref)))

enum image_result {
	IMAGE_FOUND,	 /* leaf: the key's */
	IMAGE_CROSSING,	 /* leaf: the crossing; go on in its frame at `depth` */
	IMAGE_NO_CHILD,	 /* node has no entry for key[depth] */
	IMAGE_NO_TERMINAL, /* the key ends at node, which has none */
	IMAGE_IN_PREFIX, /* differs from node's prefix after `matched` bytes */
	IMAGE_IN_LEAF,	 /* differs from leaf's rest after `matched` bytes */
	IMAGE_DAMAGED,
};

struct image_path {
	enum image_result result;
	node_ref node;	       /* inner node where the search ended */
	node_ref parent;       /* its parent, 0 for the root */
	node_ref grandparent;  /* 0 if parent is the root or none */
	uint8_t parent_byte;   /* of node in parent */
	uint8_t grandparent_byte;
	node_ref leaf;	       /* see result */
	uint32_t depth;	       /* of key: where node branches; for IN_PREFIX, where
				* its prefix begins */
	uint32_t matched;
};

/*
 * With a latch of the frame, or without any: then what is returned counts only if the
 * frame has not changed meanwhile, and only numbers are safe to use, not what they lead
 * to: image_leaf() and image_crossing() look again.  @image ends where the image does.
 */
void image_find(const void *image, const uint8_t *key, uint32_t key_bytes,
    uint32_t depth, struct image_path *ret);

/*
 * image_find() in an image of which not all is in memory: the bytes that the search
 * looks at are fetched before, to their places in @image.  The image ends at @end.  An
 * error of fetch() is returned.
 */
struct image_source {
	void *ctx;
	uint32_t end;
	int (*fetch)(void *ctx, uint32_t offset, uint32_t bytes);
};
int image_probe(const void *image, const struct image_source *source, const uint8_t *key,
    uint32_t key_bytes, uint32_t depth, struct image_path *ret);

/* The value of the leaf found, inside the image whatever is written meanwhile.
 * IMAGE_DAMAGED: there is no such leaf. */
struct image_leaf {
	const uint8_t *value;
	uint32_t value_bytes;
	uint64_t seq;
};
enum image_result image_leaf(const void *image, node_ref ref, struct image_leaf *ret);

/* The frame that the crossing found leads to. */
uint64_t image_crossing(const void *image, node_ref ref);

/* The most bytes image_put() may take from the heap, and leave IMAGE_SLACK. */
uint32_t image_put_room(uint32_t key_bytes, uint32_t value_bytes);

/* Sets the key's value.  @path is of image_find for this key and image, without any
 * change since, and not a crossing. */
void image_put(void *image, const struct image_path *path, const uint8_t *key,
    uint32_t key_bytes, const void *value, uint32_t value_bytes, uint64_t seq);

struct image_item {
	const uint8_t *key, *value;
	uint32_t key_bytes, value_bytes;
	uint64_t seq;
};

/* A subtree of the items, which ascend and have the first @depth bytes in common, without
 * these.  There is as much room as putting them one by one would take. */
node_ref image_build(void *image, const struct image_item *items, uint32_t count, uint32_t depth);

/*
 * What image_attach() puts at a key that is not there: a leaf (source NULL); or a subtree
 * of items that all come to this place, the key's the first; or a copy of the subtree @top
 * of @source.
 */
struct image_child {
	const struct image_item *items;
	uint32_t item_count;
	const void *value;
	uint32_t value_bytes;
	uint64_t seq;
	const void *source;
	node_ref top;
};
void image_attach(void *image, const struct image_path *path, const uint8_t *key,
    uint32_t key_bytes, const struct image_child *child);

/*
 * All keys of the image that begin with a prefix, as a subtree: its top node, whose
 * first @skip bytes belong to the prefix, and the links above it.  @path is of
 * image_find() for the prefix.  False: there are none, or they lie behind a crossing.
 */
struct image_subtree {
	node_ref top, parent, grandparent;
	uint8_t parent_byte, grandparent_byte;
	uint32_t skip;
};
bool image_find_subtree(const void *image, const uint8_t *prefix, uint32_t prefix_bytes,
    const struct image_path *path, struct image_subtree *ret);

/* Takes a subtree out and tidies up. @scratch_refs as for image_free_subtree(). */
void image_detach(void *image, const struct image_subtree *subtree, const uint8_t *prefix,
    uint32_t prefix_bytes, uint32_t depth, uint32_t keep_bytes, node_ref *scratch_refs);

/* Adds copies of the entries of inner node @from of @source to @node of @image, whose
 * own link is (@parent, @parent_byte), or the image's root. */
void image_adopt(void *image, node_ref node, node_ref parent, uint8_t parent_byte,
    const void *source, node_ref from);

/* Removes the key @path found, and tidies up. */
void image_erase(void *image, const struct image_path *path, const uint8_t *key,
    uint32_t key_bytes, uint32_t depth, uint32_t keep_bytes);

/*
 * Puts away what a removal left along @key: nodes without entries, and, as far as
 * @keep_bytes of room are left, nodes with one.  (Joining two nodes takes room: what
 * is freed by it is not at the heap's end.)
 */
void image_tidy(void *image, const uint8_t *key, uint32_t key_bytes, uint32_t depth, uint32_t keep_bytes);

bool image_is_empty(const void *image);

/*
 * Copies one node of @source, its references as they are, with @skip bytes of its
 * prefix (or rest) left out and @add bytes put before the others.  0: no room, the
 * result would pass NODE_REST_MAX, or a crossing would need a prefix.
 */
node_ref image_copy_node(void *image, const void *source, node_ref from, const uint8_t *add,
    uint32_t add_bytes, uint32_t skip);

/*
 * Copies the subtree @from of @source to the end of @image's heap, its top with
 * @skip bytes of its prefix (or rest) left out and @add bytes put before it.
 * Returns the copy's reference; 0: no room, or a reference in the source was damaged
 * (@ret_damaged), or as image_copy_node().  After 0 the image is garbage: copy into
 * scratch images only, or where room is certain.
 */
node_ref image_copy(void *image, const void *source, node_ref from, const uint8_t *add,
    uint32_t add_bytes, uint32_t skip, bool *ret_damaged);

/* Copies inner node @from alone, its terminal too, with a crossing to @frame_id for all
 * bytes in place of its entries.  0: no room. */
node_ref image_copy_top(void *image, const void *source, node_ref from, uint64_t frame_id);

/* -EUCLEAN: the image contradicts itself, and @ret_why says in what.  -ENOMEM. */
int image_check(const void *image, const char **ret_why);

/*
 * Bytes of the subtree at each reference: @ret_sizes[ref], and whether there is a crossing.
 * @ret_sizes has place for IMAGE_SIZES_BYTES.  False: a reference was damaged.
 */
#define SUBTREE_HAS_CROSSING (1u << 31)
bool image_sizes(const void *image, uint32_t *ret_sizes);

/*
 * A fresh image of what is alive in @source, packed and laid out so that a search touches
 * few blocks (layout.c): all of it; or a part, either consecutive entries of a node, whose
 * new root has neither prefix nor terminal, or all but them, with a crossing in their place
 * (is_rest; then the subtree is not one of the smallest).  @sizes are image_sizes() of the
 * source; what is said of it there holds.
 */
struct image_part {
	node_ref node;
	unsigned lo, hi;
	bool is_rest;
	uint64_t crossing_id; /* is_rest: the frame of the entries */
};
void image_lay_out(void *image, uint64_t frame_id, const void *source, uint32_t *sizes,
    const struct image_part *part);

/* The same for all of @source.  -EUCLEAN: a reference was damaged.  -ENOMEM. */
int image_compact(void *image, const void *source);

/* Bytes of the nodes below @top, without the leaf at its own place; more than @most: they
 * were not all counted.  The image is sane.  @scratch_refs as for image_free_subtree(). */
uint32_t image_bytes_below(const void *image, node_ref top, uint32_t most, node_ref *scratch_refs);

/* Frees a subtree; @scratch_refs has place for one reference a node. */
void image_free_subtree(void *image, node_ref from, node_ref *scratch_refs);

#endif
