/*
 * Several new keys at once, at a place where none has been.
 *
 * They ascend and have some bytes in common, so the subtree that they make is known before
 * anything of it is there: what the first and the last have in common all have, and each
 * node is made with the entries that it gets, and never grows.
 *
 *     items   ab1  ab2  abc3  abc4            node "ab"  --1--> leaf
 *                                                        --2--> leaf
 *                                                        --c--> node --3--> leaf
 *                                                                    --4--> leaf
 *
 * It lies in one piece, parents before children, which is the order that layout.c gives.
 */
#include "config.h"

#include "tree/tree_internal.h"

#include "base/assert.h"

/* Items of a subtree: it may be as deep. */
#define GROUP_MOST 256u

/* ---- the subtree ------------------------------------------------------------------------ */

static uint32_t common_end(const struct image_item *a, const struct image_item *b, uint32_t from)
{
	uint32_t end = min_of(a->key_bytes, b->key_bytes);

	while (from < end && a->key[from] == b->key[from])
		from++;
	return from;
}

/* How many items from the first on have its byte at @depth. */
static uint32_t count_branch(const struct image_item *items, uint32_t count, uint32_t depth)
{
	uint32_t n = 1;

	while (n < count && items[n].key[depth] == items[0].key[depth])
		n++;
	return n;
}

static unsigned count_branches(const struct image_item *items, uint32_t count, uint32_t depth)
{
	unsigned branches = 0;

	for (uint32_t i = 0; i < count; i += count_branch(items + i, count - i, depth))
		branches++;
	return branches;
}

node_ref image_build(void *image, const struct image_item *items, uint32_t count, uint32_t depth)
{
	uint32_t end, ends_here;
	node_ref node, child;

	if (count == 1)
		return image_new_leaf(image, items->key + depth, items->key_bytes - depth,
		    items->value, items->value_bytes, items->seq);
	end = common_end(&items[0], &items[count - 1], depth);
	ends_here = items[0].key_bytes == end;
	node = image_new_inner(image,
	    inner_type_for(count_branches(items + ends_here, count - ends_here, end)),
	    items->key + depth, end - depth);
	ASSERT(node);
	for (uint32_t i = 0, n = 1; i < count; i += n) {
		if (i == 0 && ends_here) {
			child = image_build(image, items, 1, end);
			((struct node_inner *)node_at_mutable(image, node))->terminal = to_le16(child);
			continue;
		}
		n = count_branch(items + i, count - i, end);
		child = image_build(image, items + i, n, end + 1);
		ASSERT(child && inner_add(image, node, items[i].key[end], items[i].key[end], child) == node);
	}
	return node;
}

/* ---- which keys ----------------------------------------------------------------------------- */

/* Keys that have so many bytes in common with one whose search ended like @path come to the
 * same place, where there is nothing.  0: no others do. */
static uint32_t place_bytes(const struct image_path *path, uint32_t key_bytes)
{
	uint32_t end;

	switch (path->result) {
	case IMAGE_NO_CHILD:
		return path->depth + 1;
	case IMAGE_IN_PREFIX:
		end = path->depth + path->matched + 1;
		break;
	case IMAGE_IN_LEAF:
		end = path->depth + 1 + path->matched + 1;
		break;
	default:
		return 0;
	}
	/* A key that ends at the fork is its terminal. */
	return end <= key_bytes ? end : 0;
}

static bool is_behind(const struct tree_edit *edit, const struct tree_edit *before)
{
	int order = memcmp(before->key, edit->key, min_of(before->key_bytes, edit->key_bytes));

	return order < 0 || (order == 0 && before->key_bytes < edit->key_bytes);
}

/* The first edits that are new keys of one place, for which the image has room; at least 1. */
static uint32_t take_group(const void *image, const struct image_path *path, const struct tree_edit *edits,
    uint32_t count, uint64_t base_version, struct image_item *items)
{
	uint32_t common = place_bytes(path, edits->key_bytes), room = 0, n = 0;

	for (; n < count; n++) {
		const struct tree_edit *edit = &edits[n];

		if (n > 0 && (!common || edit->kind != TREE_PUT || edit->key_bytes < common ||
				 memcmp(edit->key, edits->key, common) != 0 || !is_behind(edit, edit - 1)))
			break;
		room += image_put_room(edit->key_bytes, edit->value_bytes);
		if (n > 0 && image_room(image) < room)
			break;
		items[n] = (struct image_item){
		    .key = edit->key,
		    .value = edit->value,
		    .key_bytes = edit->key_bytes,
		    .value_bytes = edit->value_bytes,
		    .seq = base_version + edit->seq_offset,
		};
	}
	return n;
}

uint32_t tree_put_edits(struct tree *tree, uint64_t frame_id, void *image, const struct image_path *path,
    const struct tree_edit *edits, uint32_t count, uint64_t base_version)
{
	struct image_item items[GROUP_MOST];
	uint32_t n = take_group(image, path, edits, min_of(count, GROUP_MOST), base_version, items);
	struct image_child child = {.items = items, .item_count = n};

	tree_before_put(tree, frame_id, image, path);
	if (n > 1)
		image_attach(image, path, items->key, items->key_bytes, &child);
	else
		image_put(image, path, items->key, items->key_bytes, items->value, items->value_bytes, items->seq);
	return n;
}
