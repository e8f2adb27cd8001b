/*
 * The longest key that another one begins with.
 *
 * On the way down to the key each node that ends a key, and the leaf at the end if all of
 * its rest is matched, is a candidate; the deepest is the answer.
 *
 *     sought  a/b/cd        "" --> "a" (a key) --> "/" --> "b" (a key) --> leaf "/x"
 *                                   1                       2: the answer
 *
 * The candidate may lie in a frame above the last.  Then the answer is true if at one time
 * it was there and nothing longer in the frames below.  All frames looked into are found
 * at the versions they had, after the last was looked into: so at that moment all of it
 * was so.
 */
#include "config.h"

#include "tree/image.h"
#include "tree/tree_internal.h"

#include "base/assert.h"

struct look {
	uint32_t slot;
	uint64_t version;
};

/* Frames above one that has a candidate need not be looked at again. */
#define LOOKS_MAX 64

struct search {
	struct tree *tree;
	bool in_gate;
	const uint8_t *key;
	uint32_t key_bytes;
	void *value;
	uint32_t capacity;
	struct look looks[LOOKS_MAX];
	uint32_t look_count;
	struct tree_longest at; /* the way so far, and its candidate */
};

static void take_candidate(struct search *search, const struct node *node, uint32_t key_bytes)
{
	struct leaf_parts leaf = leaf_take_apart(node);

	search->at.is_found = true;
	search->at.found_bytes = key_bytes;
	search->at.value_bytes = leaf.value_bytes;
	search->at.version = leaf.seq;
	if (leaf.value_bytes <= search->capacity && leaf.value_bytes)
		memcpy(search->value, leaf.value, leaf.value_bytes);
}

/*
 * One frame, latched, from @depth.  Fills in the deepest candidate; *@ret_crossing: where
 * the way goes on, or NULL.
 */
static int look_into(struct search *search, const void *image, uint32_t *depth,
    const struct node_crossing **ret_crossing)
{
	node_ref ref = from_le16(image_header_const(image)->root);
	const struct node *best = NULL;
	uint32_t best_bytes = 0;

	*ret_crossing = NULL;
	for (bool is_root = true;; is_root = false) {
		const struct node *node = node_at(image, ref);
		const struct node_inner *inner = (const void *)node;
		bool is_leaf = node && node_is_leaf(node);
		const struct node *leaf = node;
		uint32_t bytes, rest = search->key_bytes - *depth;
		uint64_t head;

		if (!node || (is_root && !node_is_inner(node)))
			return -EUCLEAN;
		if (node->type == NODE_CROSSING) {
			*ret_crossing = (const void *)node;
			*depth -= 1; /* the child branches on the same byte */
			break;
		}
		head = node_head(node);
		bytes = is_leaf ? head_rest_bytes(head) : head_prefix_bytes(head);
		if (bytes > rest || memcmp(is_leaf ? leaf_bytes(leaf, head) : inner_prefix(inner),
					search->key + *depth, bytes) != 0)
			break;
		*depth += bytes;
		if (!is_leaf)
			leaf = node_at(image, from_le16(inner->terminal));
		if (leaf ? !node_is_leaf(leaf) : from_le16(inner->terminal))
			return -EUCLEAN;
		if (leaf) {
			best = leaf;
			best_bytes = *depth;
		}
		if (is_leaf || *depth == search->key_bytes)
			break;
		ref = inner_find(image, inner, search->key[*depth]);
		if (!ref)
			break;
		*depth += 1;
	}
	if (best)
		take_candidate(search, best, best_bytes);
	return 0;
}

/* The frame has been looked into, and nothing else need be true but what was seen from
 * the last candidate on. */
static int note_look(struct search *search, uint32_t slot, bool has_candidate)
{
	struct look look = {.slot = slot};

	ASSERT(pool_read_begin(search->tree->pool, slot, &look.version));
	if (has_candidate)
		search->look_count = 0;
	if (search->look_count == LOOKS_MAX)
		return search->in_gate ? 0 : -EBUSY;
	search->looks[search->look_count++] = look;
	return 0;
}

static bool still_holds(const struct search *search)
{
	for (uint32_t i = 0; i < search->look_count; i++)
		if (!pool_read_validate(search->tree->pool, search->looks[i].slot, search->looks[i].version))
			return false;
	return true;
}

static int search_once(struct search *search, struct tree_need *need)
{
	struct tree_edge edge = {.slot = POOL_NO_SLOT};
	struct tree_longest *at = &search->at;

	search->look_count = 0;
	for (unsigned hops = 0; hops < TREE_HOPS_MAX; hops++) {
		const struct node_crossing *crossing;
		uint32_t slot, had = at->found_bytes;
		bool was_found = at->is_found;
		int err = tree_hop_latch(search->tree, search->in_gate, &edge, at->frame_id, &slot, need);

		if (err)
			return err;
		err = look_into(search, tree_image(search->tree, slot), &at->depth, &crossing);
		if (!err)
			err = note_look(search, slot, at->is_found && (!was_found || at->found_bytes != had));
		if (crossing)
			at->frame_id = from_le64(crossing->frame_id);
		tree_hop_leave(search->tree, slot, &edge);
		if (err)
			return err;
		if (!crossing)
			return search->in_gate || still_holds(search) ? 0 : -ESTALE;
	}
	return -EUCLEAN;
}

int tree_longest_prefix(struct tree *tree, bool in_gate, const uint8_t *key, uint32_t key_bytes,
    struct tree_longest *longest, void *value, uint32_t capacity, struct tree_need *need)
{
	struct search search = {.tree = tree, .in_gate = in_gate, .key = key, .key_bytes = key_bytes,
	    .value = value, .capacity = capacity};
	uint64_t moves = atomic_load(&tree->move_count);
	int err = -ESTALE;

	for (unsigned i = 0; i < READ_RESTARTS_MAX && err == -ESTALE; i++) {
		/* What a view sees stays as it is: the search goes on where it lacked a frame. */
		search.at = tree->view && longest->frame_id ? *longest :
								 (struct tree_longest){.frame_id = tree->root_id};
		err = search_once(&search, need);
	}
	if (err == -ESTALE || (!in_gate && moves != atomic_load(&tree->move_count)))
		return -EBUSY;
	*longest = search.at;
	if (err)
		return err;
	if (!longest->is_found)
		return -ENOENT;
	return longest->value_bytes > capacity ? -ERANGE : 0;
}
