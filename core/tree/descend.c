/*
 * Going from frame to frame.
 *
 * A reader holds one shared latch at a time.  It reads a crossing in the parent,
 * notes the parent's version, lets go, latches the child and then asks whether the
 * parent still has that version.  If so, the crossing still led to this child at the
 * moment the child was latched, so what the child says is true for the key.  If not,
 * the search begins again at the root.  (Latching the child before letting the
 * parent go would be simpler and could deadlock with writers, who latch frames in
 * order of their ids.)
 *
 * Under the gate edges do not change and the question is left out.
 */
#include "config.h"

#include "tree/tree_internal.h"

#include <errno.h>

#include "base/assert.h"

int tree_hop_latch(struct tree *tree, bool in_gate, const struct tree_edge *edge,
    uint64_t frame_id, uint32_t *ret_slot, struct tree_need *need)
{
	uint32_t slot = pool_latch_key_shared(tree->pool, tree_key(frame_id));

	if (!in_gate && edge->slot != POOL_NO_SLOT &&
	    !pool_read_validate(tree->pool, edge->slot, edge->version)) {
		if (slot != POOL_NO_SLOT)
			pool_unlatch_shared(tree->pool, slot);
		return -ESTALE;
	}
	if (slot == POOL_NO_SLOT)
		return tree_need_frame(need, frame_id);
	*ret_slot = slot;
	return 0;
}

void tree_hop_leave(struct tree *tree, uint32_t slot, struct tree_edge *ret)
{
	ret->slot = slot;
	ASSERT(pool_read_begin(tree->pool, slot, &ret->version));
	pool_unlatch_shared(tree->pool, slot);
}

/* From @hop's frame, to which an edge leads as long as the shape is @shape, down to
 * where the search ends. */
static int descend_once(struct tree *tree, bool in_gate, const uint8_t *key,
    uint32_t key_bytes, uint64_t shape, struct tree_hop *hop, struct tree_need *need)
{
	struct tree_edge edge = {.slot = POOL_NO_SLOT};

	for (unsigned hops = 0; hops < TREE_HOPS_MAX; hops++) {
		const struct node_crossing *crossing;
		const void *image;
		int err;

		err = tree_hop_latch(tree, in_gate, &edge, hop->frame_id, &hop->slot, need);
		if (err == -EAGAIN) {
			need->depth = hop->depth;
			need->shape = shape;
		}
		if (err)
			return err;
		image = tree_image(tree, hop->slot);
		/* An edge taken on trust: no step has begun that could change it. */
		if (edge.slot == POOL_NO_SLOT && tree_shape(tree) != shape) {
			pool_unlatch_shared(tree->pool, hop->slot);
			return -ESTALE;
		}
		image_find(image, key, key_bytes, hop->depth, &hop->path);
		if (hop->path.result == IMAGE_DAMAGED) {
			pool_unlatch_shared(tree->pool, hop->slot);
			return -EUCLEAN;
		}
		if (hop->path.result != IMAGE_CROSSING)
			return 0;
		crossing = (const void *)node_at(image, hop->path.leaf);
		hop->frame_id = from_le64(crossing->frame_id);
		hop->depth = hop->path.depth;
		tree_hop_leave(tree, hop->slot, &edge);
	}
	return -EUCLEAN;
}

int tree_descend(struct tree *tree, bool in_gate, const uint8_t *key, uint32_t key_bytes,
    struct tree_hop *ret, struct tree_need *need)
{
	for (unsigned restarts = 0; restarts < READ_RESTARTS_MAX; restarts++) {
		uint64_t shape = tree_shape(tree);
		int err;

		ret->frame_id = tree->root_id;
		ret->depth = 0;
		if (need->kind == TREE_NEED_FRAME && need->shape == shape) {
			ret->frame_id = need->frame_id;
			ret->depth = need->depth;
		}
		need->kind = TREE_NEED_NOTHING;
		err = descend_once(tree, in_gate, key, key_bytes, shape, ret, need);
		if (err != -ESTALE)
			return err;
		atomic_fetch_add_explicit(&tree->counters.restarts, 1, memory_order_relaxed);
	}
	return -EBUSY;
}

int tree_find_again(struct tree *tree, const uint8_t *key, uint32_t key_bytes, uint64_t frame_id,
    uint32_t depth, uint64_t shape, struct tree_hop *ret, struct tree_need *need)
{
	*need = (struct tree_need){0};
	if (shape == tree_shape(tree))
		*need = (struct tree_need){
		    .kind = TREE_NEED_FRAME, .frame_id = frame_id, .depth = depth, .shape = shape};
	return tree_descend(tree, true, key, key_bytes, ret, need);
}

int tree_lacks_hop(struct tree *tree, struct tree_need *need, const struct tree_hop *hop,
    const struct tree_hop *parent)
{
	bool has_parent = parent->slot != POOL_NO_SLOT;

	*need = (struct tree_need){
	    .kind = TREE_NEED_FRAME,
	    .frame_id = hop->frame_id,
	    .depth = hop->depth,
	    .above_id = has_parent ? parent->frame_id : hop->frame_id,
	    .above_depth = has_parent ? parent->depth : hop->depth,
	    .shape = tree_shape(tree),
	};
	return -EAGAIN;
}

bool tree_take_up(struct tree *tree, const struct tree_need *need, struct tree_hop *ret)
{
	if (need->kind != TREE_NEED_FRAME || need->shape != tree_shape(tree))
		return false;
	ret->frame_id = need->above_id;
	ret->depth = need->above_depth;
	return true;
}

static int copy_value(const struct node_leaf *leaf, void *value, uint32_t capacity,
    uint32_t *ret_bytes, uint64_t *ret_version)
{
	uint32_t bytes = from_le32(leaf->value_bytes);

	*ret_bytes = bytes;
	if (ret_version)
		*ret_version = from_le64(leaf->seq);
	if (bytes > capacity)
		return -ERANGE;
	memcpy(value, leaf->bytes + from_le16(leaf->rest_bytes), bytes);
	return 0;
}

int tree_get(struct tree *tree, bool in_gate, const uint8_t *key, uint32_t key_bytes,
    void *value, uint32_t capacity, uint32_t *ret_bytes, uint64_t *ret_version,
    struct tree_need *need)
{
	uint64_t moves = atomic_load(&tree->move_count);
	struct tree_hop hop;
	int err = tree_descend(tree, in_gate, key, key_bytes, &hop, need);

	if (err)
		return err;
	if (hop.path.result == IMAGE_FOUND)
		err = copy_value((const void *)node_at(tree_image(tree, hop.slot), hop.path.leaf),
		    value, capacity, ret_bytes, ret_version);
	else
		err = -ENOENT;
	pool_unlatch_shared(tree->pool, hop.slot);
	/* A subtree moved under the search: what was read may belong to another key. */
	return in_gate || moves == atomic_load(&tree->move_count) ? err : -EBUSY;
}
