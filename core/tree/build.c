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

#include "tree/image.h"

#include "base/assert.h"

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
