/*
 * Walking every node of one frame image, and what there is to check before an image that
 * was read from disk is changed.  Whether the image is what it can be is found out first
 * (image_check.c); then it is walked without asking again.
 */
#include "config.h"

#include "tree/tree_internal.h"

#include <stdlib.h>

#include "base/log.h"

struct level {
	node_ref node;
	unsigned from;
	uint32_t path_bytes;
};

struct walk {
	const void *image;
	const struct tree_visit *visit;
	uint8_t *path;
	uint32_t path_size;
	struct level *levels;
	uint32_t level_count, level_size;
};

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

static int enter(struct walk *walk, node_ref ref, uint32_t path_bytes)
{
	const struct node_inner *inner = (const void *)node_at(walk->image, ref);
	uint32_t prefix_bytes = from_le16(inner->prefix_bytes);
	node_ref terminal = from_le16(inner->terminal);
	int err = path_set(walk, path_bytes, inner_prefix(inner), prefix_bytes);

	if (!err && terminal)
		err = visit_leaf(walk, (const void *)node_at(walk->image, terminal), path_bytes + prefix_bytes);
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

static int step(struct walk *walk)
{
	struct level *level = &walk->levels[walk->level_count - 1];
	const struct node_inner *inner = (const void *)node_at(walk->image, level->node);
	uint32_t path_bytes = level->path_bytes;
	struct node_entry entry;
	uint8_t byte;
	int err;

	if (!inner_next(walk->image, inner, level->from, &entry)) {
		walk->level_count--;
		return 0;
	}
	level->from = entry.hi + 1;
	if (entry.node->type == NODE_CROSSING) {
		if (!walk->visit->crossing)
			return 0;
		return walk->visit->crossing(walk->visit->ctx, walk->path, path_bytes,
		    (const void *)entry.node);
	}
	byte = (uint8_t)entry.lo;
	err = path_set(walk, path_bytes, &byte, 1);
	if (err)
		return err;
	if (node_is_leaf(entry.node))
		return visit_leaf(walk, entry.node, path_bytes + 1);
	return enter(walk, entry.ref, path_bytes + 1);
}

int tree_frame_walk(const void *image, const struct tree_visit *visit, const char **ret_why)
{
	struct walk walk = {.image = image, .visit = visit};
	int err = image_check(image, ret_why);

	if (!err)
		err = enter(&walk, from_le16(image_header_const(image)->root), 0);
	while (!err && walk.level_count)
		err = step(&walk);
	free(walk.path);
	free(walk.levels);
	return err;
}

/* ---- before the first change ------------------------------------------------------ */

static int check_image(const void *image, const char **ret_why)
{
	const struct node_inner *root;
	int err = image_check(image, ret_why);

	if (err)
		return err;
	root = (const void *)node_at(image, from_le16(image_header_const(image)->root));
	*ret_why = "a key ends in its root, or has more of it in common";
	if (from_le16(root->prefix_bytes) || from_le16(root->terminal))
		return -EUCLEAN;
	*ret_why = "its heap is too full";
	return image_room(image) >= IMAGE_SLACK ? 0 : -EUCLEAN;
}

int tree_check_frame(struct tree *tree, uint64_t frame_id, uint32_t slot)
{
	const char *why;
	int err;

	/* An id behind those of frames is a kept image's, for views alone. */
	if (!frame_id || frame_id >= MAP_ENTRIES_MAX) {
		log_error("a crossing leads to tree frame %llu, which cannot be", (unsigned long long)frame_id);
		return -EUCLEAN;
	}
	if (pool_blocks(tree->pool, slot)->birth)
		return 0;
	err = check_image(tree_image(tree, slot), &why);
	if (err == -EUCLEAN)
		log_error("tree frame %llu is damaged: %s", (unsigned long long)frame_id, why);
	return err;
}

bool tree_is_within(const void *image, unsigned lo, unsigned hi)
{
	const struct node_inner *root =
	    (const void *)node_at(image, from_le16(image_header_const(image)->root));
	struct node_entry entry;

	if (!inner_next(image, root, 0, &entry))
		return true;
	return entry.lo >= lo && inner_last(image, root, &entry) && entry.hi <= hi;
}
