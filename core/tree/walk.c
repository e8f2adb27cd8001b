/*
 * Walking every node of one frame image, trusting none of it: for the checker and for
 * tests.  Each node must lie in the heap and be reached once; entries must be in
 * order and counted right; a crossing must lie in the range it names.
 */
#include "config.h"

#include "tree/tree_internal.h"

#include <stdlib.h>


struct level {
	node_ref node;
	unsigned from, seen;
	uint32_t path_bytes;
};

struct walk {
	const void *image;
	const struct tree_visit *visit;
	const char *why;
	uint8_t *path;
	uint32_t path_size;
	struct level *levels;
	uint32_t level_count, level_size;
	uint8_t *reached; /* a bit a reference */
	uint32_t live_bytes, node_count;
};

static int damaged(struct walk *walk, const char *why)
{
	walk->why = why;
	return -EUCLEAN;
}

/* Marks a node as reached and counts it. */
static int reach(struct walk *walk, node_ref ref)
{
	const struct node *node = node_at(walk->image, ref);
	uint32_t end = from_le32(image_header_const(walk->image)->heap_end);

	if (!node)
		return damaged(walk, "a reference leads to no node");
	if ((uint32_t)ref * NODE_UNIT + node_bytes(node) > end)
		return damaged(walk, "a node reaches behind the heap");
	if (walk->reached[ref / 8] & (1u << ref % 8))
		return damaged(walk, "a node is referred to twice");
	walk->reached[ref / 8] |= (uint8_t)(1u << ref % 8);
	walk->live_bytes += node_bytes(node);
	walk->node_count++;
	return 0;
}

static int path_set(struct walk *walk, uint32_t at, const void *bytes, uint32_t count)
{
	if (at + count > walk->path_size) {
		uint32_t size = max_of(walk->path_size * 2, at + count + 256);
		uint8_t *grown = realloc(walk->path, size);

		if (!grown)
			return -ENOMEM;
		walk->path = grown;
		walk->path_size = size;
	}
	if (count)
		memcpy(walk->path + at, bytes, count);
	return 0;
}

static int visit_leaf(struct walk *walk, const struct node *leaf, uint32_t path_bytes)
{
	struct leaf_parts parts = leaf_take_apart(leaf);
	int err = path_set(walk, path_bytes, parts.rest, parts.rest_bytes);

	if (err || !walk->visit->leaf)
		return err;
	return walk->visit->leaf(walk->visit->ctx, walk->path, path_bytes + parts.rest_bytes, leaf);
}

static int visit_terminal(struct walk *walk, const struct node_inner *inner, uint32_t path_bytes)
{
	node_ref ref = from_le16(inner->terminal);
	const struct node *leaf;
	int err;

	if (!ref)
		return 0;
	err = reach(walk, ref);
	if (err)
		return err;
	leaf = node_at(walk->image, ref);
	if (!node_is_leaf(leaf) || head_rest_bytes(node_head(leaf)))
		return damaged(walk, "a terminal is no leaf without rest");
	return visit_leaf(walk, leaf, path_bytes);
}

static int enter(struct walk *walk, node_ref ref, uint32_t path_bytes)
{
	const struct node_inner *inner = (const void *)node_at(walk->image, ref);
	uint32_t prefix_bytes = from_le16(inner->prefix_bytes);
	int err = path_set(walk, path_bytes, inner_prefix(inner), prefix_bytes);

	if (!err)
		err = visit_terminal(walk, inner, path_bytes + prefix_bytes);
	if (err)
		return err;
	if (walk->level_count == walk->level_size) {
		uint32_t size = max_of(walk->level_size * 2, 32u);
		struct level *grown = realloc(walk->levels, size * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		walk->levels = grown;
		walk->level_size = size;
	}
	walk->levels[walk->level_count++] = (struct level){
	    .node = ref, .path_bytes = path_bytes + prefix_bytes};
	return 0;
}

static int visit_crossing(struct walk *walk, const struct node_crossing *crossing,
    const struct node_entry *entry, uint32_t path_bytes)
{
	if (crossing->lo != entry->lo || crossing->hi != entry->hi || crossing->lo > crossing->hi)
		return damaged(walk, "a crossing stands outside its run");
	if (!walk->visit->crossing)
		return 0;
	return walk->visit->crossing(walk->visit->ctx, walk->path, path_bytes, crossing);
}

static int step(struct walk *walk)
{
	struct level *level = &walk->levels[walk->level_count - 1];
	const struct node_inner *inner = (const void *)node_at(walk->image, level->node);
	uint32_t path_bytes = level->path_bytes;
	struct node_entry entry;
	uint8_t byte;
	int err;

	if (!inner_next(walk->image, inner, level->from, &entry)) {
		if (level->seen != from_le16(inner->count))
			return damaged(walk, "a node's entries are not as many as it says");
		walk->level_count--;
		return 0;
	}
	if (entry.lo < level->from)
		return damaged(walk, "a node's entries overlap");
	level->from = entry.hi + 1;
	level->seen++;
	err = reach(walk, entry.ref);
	if (err)
		return err;
	if (entry.node->type == NODE_CROSSING)
		return visit_crossing(walk, (const void *)entry.node, &entry, path_bytes);
	byte = (uint8_t)entry.lo;
	err = path_set(walk, path_bytes, &byte, 1);
	if (err)
		return err;
	if (node_is_leaf(entry.node))
		return visit_leaf(walk, entry.node, path_bytes + 1);
	return enter(walk, entry.ref, path_bytes + 1);
}

static int walk_all(struct walk *walk)
{
	const struct frame_header *header = image_header_const(walk->image);
	node_ref root = from_le16(header->root);
	int err = reach(walk, root);

	if (err)
		return err;
	if (!node_is_inner(node_at(walk->image, root)))
		return damaged(walk, "the root is no inner node");
	err = enter(walk, root, 0);
	while (!err && walk->level_count)
		err = step(walk);
	if (err)
		return err;
	if (walk->live_bytes != from_le32(header->live_bytes) ||
	    walk->node_count != from_le32(header->node_count))
		return damaged(walk, "the header counts other nodes than there are");
	return 0;
}

int tree_frame_walk(const void *image, const struct tree_visit *visit, const char **ret_why)
{
	struct walk walk = {.image = image, .visit = visit, .why = ""};
	int err;

	walk.reached = calloc(1, FRAME_BYTES / NODE_UNIT / 8);
	err = walk.reached ? walk_all(&walk) : -ENOMEM;
	free(walk.reached);
	free(walk.path);
	free(walk.levels);
	*ret_why = walk.why;
	return err;
}
