/*
 * Changes to the radix tree within one frame image, at the place where a search
 * (search.c) has ended.
 *
 *    image_put, image_attach   a leaf, or a subtree of another image, comes to a key
 *    image_erase, _detach      and goes; what is left along the key is tidied up
 *
 * A node that grows or shrinks moves, so the reference in its parent changes; removing
 * one may move the parent itself.  That is why a search keeps two links.
 */
#include "config.h"

#include "tree/image.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/cleanup.h"

/* ---- insertion ------------------------------------------------------------------ */

uint32_t image_put_room(uint32_t key_bytes, uint32_t value_bytes)
{
	/* The leaf; a node4 with a prefix above it, or the node it goes into grown to
	 * the next shape; rounding.  The bytes of that node's prefix and of the leaf's
	 * rest are different parts of the key. */
	return leaf_bytes_most(key_bytes, value_bytes) + (uint32_t)sizeof(struct node_256) +
	       2 * NODE_UNIT + IMAGE_SLACK;
}

/* Points the link that leads to a node (@parent == 0: the root's) at @ref. */
static void relink(void *image, node_ref parent, uint8_t parent_byte, node_ref ref)
{
	if (parent)
		inner_set(image, parent, parent_byte, parent_byte, ref);
	else
		image_header(image)->root = to_le16(ref);
}

static struct node_inner *inner_at(void *image, node_ref ref)
{
	return (struct node_inner *)node_at_mutable(image, ref);
}

/* Adds @child under @node, whose own link is (@parent, @parent_byte). */
static void add_child(void *image, node_ref node, node_ref parent, uint8_t parent_byte,
    uint8_t byte, node_ref child)
{
	node_ref grown = inner_add(image, node, byte, byte, child);

	ASSERT(grown);
	if (grown != node)
		relink(image, parent, parent_byte, grown);
}

static void replace_leaf(void *image, const struct image_path *path, const uint8_t *key,
    uint32_t key_bytes, const void *value, uint32_t value_bytes, uint64_t seq)
{
	uint32_t rest_bytes;
	node_ref leaf;

	if (image_set_value(image, path->leaf, value, value_bytes, seq))
		return;
	rest_bytes = head_rest_bytes(node_head(node_at(image, path->leaf)));
	leaf = image_new_leaf(image, key + key_bytes - rest_bytes, rest_bytes, value, value_bytes, seq);
	ASSERT(leaf);
	if (path->depth == key_bytes)
		inner_at(image, path->node)->terminal = to_le16(leaf);
	else
		inner_set(image, path->node, key[path->depth], key[path->depth], leaf);
	image_free(image, path->leaf);
}

/* Takes the first @bytes off an inner node's prefix. */
static void inner_cut_prefix(void *image, node_ref ref, uint32_t bytes)
{
	struct node_inner *inner = inner_at(image, ref);
	uint32_t old_bytes = node_bytes((const void *)inner);
	uint32_t prefix_bytes = from_le16(inner->prefix_bytes);
	uint8_t *prefix = (uint8_t *)inner_prefix(inner);

	memmove(prefix, prefix + bytes, prefix_bytes - bytes);
	inner->prefix_bytes = to_le16((uint16_t)(prefix_bytes - bytes));
	image_trim(image, ref, old_bytes, node_bytes((const void *)inner));
}

/*
 * A new node4 whose prefix is @common, holding the new key's leaf: as terminal when
 * the key ends there (@key_bytes == @depth), else under key[@depth].
 */
static node_ref fork_node(void *image, const uint8_t *common, uint32_t common_bytes,
    const uint8_t *key, uint32_t key_bytes, uint32_t depth, node_ref leaf)
{
	node_ref fork = image_new_inner(image, NODE_4, common, common_bytes);

	ASSERT(fork);
	if (depth == key_bytes)
		inner_at(image, fork)->terminal = to_le16(leaf);
	else
		inner_add(image, fork, key[depth], key[depth], leaf);
	return fork;
}

static node_ref new_child(void *image, const struct image_child *child, const uint8_t *key,
    uint32_t key_bytes, uint32_t from)
{
	uint32_t start = min_of(from, key_bytes);
	bool is_damaged;
	node_ref ref;

	if (child->items)
		ref = image_build(image, child->items, child->item_count, start);
	else if (!child->source)
		ref = image_new_leaf(image, key + start, key_bytes - start, child->value,
		    child->value_bytes, child->seq);
	else
		ref = image_copy(image, child->source, child->top, key + start,
		    key_bytes - start, 0, &is_damaged);
	ASSERT(ref);
	return ref;
}

/*
 *   node --b--> leaf "rest"        node --b--> fork "re" --> old "t"
 *                                                       \--> new child
 */
static void fork_leaf(void *image, const struct image_path *path, const uint8_t *key,
    uint32_t key_bytes, const struct image_child *child)
{
	uint32_t fork_depth = path->depth + 1 + path->matched;
	node_ref new = new_child(image, child, key, key_bytes, fork_depth + 1);
	node_ref fork = fork_node(image, key + path->depth + 1, path->matched, key, key_bytes,
	    fork_depth, new);
	struct leaf_parts old = leaf_take_apart(node_at(image, path->leaf));
	uint8_t byte;

	if (path->matched == old.rest_bytes) {
		image_cut_rest(image, path->leaf, path->matched);
		inner_at(image, fork)->terminal = to_le16(path->leaf);
	} else {
		byte = old.rest[path->matched];
		image_cut_rest(image, path->leaf, path->matched + 1);
		inner_add(image, fork, byte, byte, path->leaf);
	}
	inner_set(image, path->node, key[path->depth], key[path->depth], fork);
}

static void fork_prefix(void *image, const struct image_path *path, const uint8_t *key,
    uint32_t key_bytes, const struct image_child *child)
{
	uint32_t fork_depth = path->depth + path->matched;
	node_ref new = new_child(image, child, key, key_bytes, fork_depth + 1);
	node_ref fork = fork_node(image, key + path->depth, path->matched, key, key_bytes,
	    fork_depth, new);
	uint8_t byte = inner_prefix(inner_at(image, path->node))[path->matched];

	inner_cut_prefix(image, path->node, path->matched + 1);
	inner_add(image, fork, byte, byte, path->node);
	relink(image, path->parent, path->parent_byte, fork);
}

void image_attach(void *image, const struct image_path *path, const uint8_t *key,
    uint32_t key_bytes, const struct image_child *child)
{
	node_ref new;

	switch (path->result) {
	case IMAGE_NO_TERMINAL:
		new = new_child(image, child, key, key_bytes, key_bytes);
		inner_at(image, path->node)->terminal = to_le16(new);
		return;
	case IMAGE_NO_CHILD:
		new = new_child(image, child, key, key_bytes, path->depth + 1);
		add_child(image, path->node, path->parent, path->parent_byte,
		    key[path->depth], new);
		return;
	case IMAGE_IN_PREFIX:
		fork_prefix(image, path, key, key_bytes, child);
		return;
	case IMAGE_IN_LEAF:
		fork_leaf(image, path, key, key_bytes, child);
		return;
	default:
		ASSERT(!"nothing can be attached to a key, a crossing or damage");
	}
}

void image_put(void *image, const struct image_path *path, const uint8_t *key,
    uint32_t key_bytes, const void *value, uint32_t value_bytes, uint64_t seq)
{
	struct image_child child = {.value = value, .value_bytes = value_bytes, .seq = seq};

	if (path->result == IMAGE_FOUND)
		replace_leaf(image, path, key, key_bytes, value, value_bytes, seq);
	else
		image_attach(image, path, key, key_bytes, &child);
}

/* ---- removal --------------------------------------------------------------------- */

/* Removes @node's entry @byte; the node may move when it shrinks. */
static void remove_entry(void *image, node_ref node, node_ref parent, uint8_t parent_byte,
    uint8_t byte, uint32_t keep_bytes)
{
	node_ref shrunk = inner_remove(image, node, byte, byte, keep_bytes);

	if (shrunk != node)
		relink(image, parent, parent_byte, shrunk);
}

void image_erase(void *image, const struct image_path *path, const uint8_t *key,
    uint32_t key_bytes, uint32_t depth, uint32_t keep_bytes)
{
	ASSERT(path->result == IMAGE_FOUND);
	if (path->depth == key_bytes)
		inner_at(image, path->node)->terminal = to_le16(0);
	else
		remove_entry(image, path->node, path->parent, path->parent_byte,
		    key[path->depth], keep_bytes);
	image_free(image, path->leaf);
	image_tidy(image, key, key_bytes, depth, keep_bytes);
}

/*
 * Replaces a node by its only entry or terminal, joined with its prefix.  Does
 * nothing if room is short: a node with one entry is legal.
 */
static void collapse(void *image, const struct image_path *path, uint32_t keep_bytes)
{
	struct node_inner *inner = inner_at(image, path->node);
	uint32_t prefix_bytes = from_le16(inner->prefix_bytes);
	cleanup_free uint8_t *joined = malloc(prefix_bytes + 1);
	node_ref child = from_le16(inner->terminal);
	struct node_entry entry;
	node_ref copy;

	if (!joined)
		return;
	memcpy(joined, inner_prefix(inner), prefix_bytes);
	if (!child) {
		if (!inner_next(image, inner, 0, &entry) || !entry.node ||
		    entry.node->type == NODE_CROSSING)
			return;
		child = entry.ref;
		joined[prefix_bytes++] = (uint8_t)entry.lo;
	}
	/* A leaf may need the long form then. */
	if (image_room(image) < prefix_bytes + node_bytes(node_at(image, child)) + 2 * NODE_UNIT +
				    IMAGE_SLACK + keep_bytes)
		return;
	copy = image_copy_node(image, image, child, joined, prefix_bytes, 0);
	if (!copy)
		return;
	relink(image, path->parent, path->parent_byte, copy);
	image_free(image, child);
	image_free(image, path->node);
}

void image_tidy(void *image, const uint8_t *key, uint32_t key_bytes, uint32_t depth, uint32_t keep_bytes)
{
	for (;;) {
		struct image_path path;
		struct node_inner *inner;
		unsigned count;

		image_find(image, key, key_bytes, depth, &path);
		if (path.result == IMAGE_DAMAGED || !path.parent)
			return;
		inner = inner_at(image, path.node);
		count = from_le16(inner->count);
		if (count + (from_le16(inner->terminal) ? 1 : 0) > 1)
			return;
		if (count || from_le16(inner->terminal)) {
			collapse(image, &path, keep_bytes);
			return;
		}
		remove_entry(image, path.parent, path.grandparent, path.grandparent_byte,
		    path.parent_byte, keep_bytes);
		image_free(image, path.node);
	}
}

/* ---- whole subtrees ---------------------------------------------------------------- */

bool image_find_subtree(const void *image, const uint8_t *prefix, uint32_t prefix_bytes,
    const struct image_path *path, struct image_subtree *ret)
{
	const struct node *node;

	*ret = (struct image_subtree){
	    .top = path->node,
	    .parent = path->parent,
	    .parent_byte = path->parent_byte,
	    .grandparent = path->grandparent,
	    .grandparent_byte = path->grandparent_byte,
	};
	switch (path->result) {
	case IMAGE_IN_PREFIX:
		ret->skip = path->matched;
		return path->depth + path->matched == prefix_bytes;
	case IMAGE_NO_TERMINAL:
		ret->skip = from_le16(((const struct node_inner *)node_at(image, path->node))->prefix_bytes);
		return true;
	case IMAGE_FOUND:
		if (path->depth == prefix_bytes) {
			node = node_at(image, path->node);
			ret->skip = from_le16(((const struct node_inner *)node)->prefix_bytes);
			return true;
		}
		break;
	case IMAGE_IN_LEAF:
		break;
	default:
		return false;
	}
	ret->top = path->leaf;
	ret->skip = path->matched;
	ret->grandparent = path->parent;
	ret->grandparent_byte = path->parent_byte;
	ret->parent = path->node;
	ret->parent_byte = prefix[path->depth];
	return path->depth + 1 + path->matched == prefix_bytes;
}

void image_detach(void *image, const struct image_subtree *subtree, const uint8_t *prefix,
    uint32_t prefix_bytes, uint32_t depth, uint32_t keep_bytes, node_ref *scratch_refs)
{
	remove_entry(image, subtree->parent, subtree->grandparent, subtree->grandparent_byte,
	    subtree->parent_byte, keep_bytes);
	image_free_subtree(image, subtree->top, scratch_refs);
	image_tidy(image, prefix, prefix_bytes, depth, keep_bytes);
}

void image_adopt(void *image, node_ref node, node_ref parent, uint8_t parent_byte,
    const void *source, node_ref from)
{
	const struct node_inner *inner = (const void *)node_at(source, from);
	struct node_entry entry;
	bool is_damaged;

	for (unsigned at = 0; inner_next(source, inner, at, &entry); at = entry.hi + 1) {
		node_ref copy = image_copy(image, source, entry.ref, NULL, 0, 0, &is_damaged);
		node_ref grown;

		ASSERT(copy);
		grown = inner_add(image, node, entry.lo, entry.hi, copy);
		ASSERT(grown);
		node = grown;
		relink(image, parent, parent_byte, node);
	}
}

bool image_is_empty(const void *image)
{
	const struct node_inner *root =
	    (const void *)node_at(image, from_le16(image_header_const(image)->root));

	return root && !from_le16(root->count) && !from_le16(root->terminal);
}
