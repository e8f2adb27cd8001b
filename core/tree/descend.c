/*
 * Going from frame to frame.
 *
 * A search for one value goes without latches as long as nothing gets in its way: it
 * takes a frame's version, checks that the frame's parent has not changed, reads, and
 * checks the version before it uses or returns anything.  Reading so, the threads of a
 * process write to no memory that they share, and a search is as fast beside others as
 * alone.  It is given up for the other way below after READ_TRIES, and when a frame is
 * lacking or being changed.
 *
 * The other way, and that of all who need more than one value: a reader holds one
 * shared latch at a time.  It reads a crossing in the parent,
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
	uint32_t slot;

	if (tree->view)
		return tree_view_latch(tree, frame_id, ret_slot, need);
	slot = pool_latch_key_shared(tree->pool, tree_key(frame_id));

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

/*
 * What has become of the frame since the view was opened is asked twice.  While we hold
 * a latch of its live image nobody can put another in its place, nor can one kept for
 * views go; so the second answer, if it is the first again, stays true until we let go.
 */
int tree_view_latch(struct tree *tree, uint64_t frame_id, uint32_t *ret_slot, struct tree_need *need)
{
	const struct tree_view *view = tree->view;
	uint64_t id, id_now;
	uint32_t slot;
	int err = view->find(view->ctx, frame_id, &id);

	while (!err) {
		slot = pool_latch_key_shared(tree->pool, tree_key(id));
		if (slot == POOL_NO_SLOT)
			return tree_need_frame(need, frame_id);
		err = view->find(view->ctx, frame_id, &id_now);
		if (!err && id == id_now) {
			*ret_slot = slot;
			return 0;
		}
		pool_unlatch_shared(tree->pool, slot);
		id = id_now;
	}
	return err;
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
		if (edge.slot == POOL_NO_SLOT && hop->frame_id != tree->root_id &&
		    !tree_shape_vouches(tree, shape)) {
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
		hop->frame_id = image_crossing(image, hop->path.leaf);
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
		if (need->kind == TREE_NEED_FRAME && need->shape == shape &&
		    tree_shape_vouches(tree, shape)) {
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

int tree_step_unlatched(struct tree *tree, const uint8_t *key, uint32_t key_bytes,
    uint64_t *frame_id, uint32_t *depth, struct image_path *path, struct pool_read *here)
{
#ifndef SANITIZE_THREAD /* it takes every optimistic read for a race */
	uint64_t next;

	if (!pool_read_key(tree->pool, tree_key(*frame_id), here))
		return -EAGAIN;
	image_find(here->memory, key, key_bytes, *depth, path);
	if (path->result != IMAGE_CROSSING)
		return 0;
	/* Edges stay: only the bytes of this one could have been torn. */
	next = image_crossing(here->memory, path->leaf);
	if (pool_read_validate(tree->pool, here->slot, here->version)) {
		*frame_id = next;
		*depth = path->depth;
		return 1;
	}
#endif
	return -EAGAIN;
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

bool tree_need_holds(struct tree *tree, const struct tree_need *need)
{
	return need->kind == TREE_NEED_FRAME && tree_shape_vouches(tree, need->shape);
}

#define READ_TRIES 4

/* An optimistic reader's answer counts once validated. */
int tree_copy_found(const void *image, const struct image_path *path, void *value,
    uint32_t capacity, uint32_t *ret_bytes, uint64_t *ret_version)
{
	struct image_leaf leaf;

	if (path->result == IMAGE_DAMAGED)
		return -EUCLEAN;
	if (path->result != IMAGE_FOUND)
		return -ENOENT;
	if (image_leaf(image, path->leaf, &leaf) == IMAGE_DAMAGED)
		return -EUCLEAN;
	*ret_bytes = leaf.value_bytes;
	if (ret_version)
		*ret_version = leaf.seq;
	if (leaf.value_bytes > capacity)
		return -ERANGE;
	if (leaf.value_bytes)
		memcpy(value, leaf.value, leaf.value_bytes);
	return 0;
}

#ifndef SANITIZE_THREAD

/* -ESTALE: disturbed.  -EAGAIN: a frame is not there, or being changed. */
static int get_unlatched(struct tree *tree, const uint8_t *key, uint32_t key_bytes,
    void *value, uint32_t capacity, uint32_t *ret_bytes, uint64_t *ret_version)
{
	uint64_t moves = atomic_load_explicit(&tree->move_count, memory_order_acquire);
	struct pool_read parent = {.slot = POOL_NO_SLOT}, here;
	uint64_t frame_id = tree->root_id;
	struct image_path path = {0};
	int err;

	for (unsigned hops = 0; hops < TREE_HOPS_MAX; hops++) {
		if (!pool_read_key(tree->pool, tree_key(frame_id), &here))
			return -EAGAIN;
		/* The edge still led here when this frame's version was taken. */
		if (parent.slot != POOL_NO_SLOT &&
		    !pool_read_validate(tree->pool, parent.slot, parent.version))
			return -ESTALE;
		image_find(here.memory, key, key_bytes, path.depth, &path);
		if (path.result != IMAGE_CROSSING)
			break;
		frame_id = image_crossing(here.memory, path.leaf);
		parent = here;
	}
	/* Frames in a circle: the other way says so. */
	if (path.result == IMAGE_CROSSING)
		return -EAGAIN;
	err = tree_copy_found(here.memory, &path, value, capacity, ret_bytes, ret_version);
	if (!pool_read_validate(tree->pool, here.slot, here.version))
		return -ESTALE;
	/* A subtree moved under the search: what was read may belong to another key. */
	return moves == atomic_load_explicit(&tree->move_count, memory_order_acquire) ? err : -ESTALE;
}

static bool try_unlatched(struct tree *tree, const uint8_t *key, uint32_t key_bytes, void *value,
    uint32_t capacity, uint32_t *ret_bytes, uint64_t *ret_version, int *ret_err)
{
	for (unsigned tries = 0; tries < READ_TRIES; tries++) {
		*ret_err = get_unlatched(tree, key, key_bytes, value, capacity, ret_bytes, ret_version);
		if (*ret_err == -EAGAIN)
			return false;
		if (*ret_err != -ESTALE)
			return true;
		atomic_fetch_add_explicit(&tree->counters.restarts, 1, memory_order_relaxed);
	}
	return false;
}

#else

/* ThreadSanitizer takes every optimistic read for a race. */
static bool try_unlatched(struct tree *tree, const uint8_t *key, uint32_t key_bytes, void *value,
    uint32_t capacity, uint32_t *ret_bytes, uint64_t *ret_version, int *ret_err)
{
	return false;
}

#endif

static int get_latched(struct tree *tree, bool in_gate, const uint8_t *key, uint32_t key_bytes,
    void *value, uint32_t capacity, uint32_t *ret_bytes, uint64_t *ret_version,
    struct tree_need *need)
{
	uint64_t moves = atomic_load(&tree->move_count);
	struct tree_hop hop;
	int err = tree_descend(tree, in_gate, key, key_bytes, &hop, need);

	if (err)
		return err;
	err = tree_copy_found(tree_image(tree, hop.slot), &hop.path, value, capacity, ret_bytes, ret_version);
	pool_unlatch_shared(tree->pool, hop.slot);
	/* A subtree moved under the search: what was read may belong to another key. */
	return in_gate || moves == atomic_load(&tree->move_count) ? err : -EBUSY;
}

int tree_get(struct tree *tree, bool in_gate, const uint8_t *key, uint32_t key_bytes,
    void *value, uint32_t capacity, uint32_t *ret_bytes, uint64_t *ret_version,
    struct tree_need *need)
{
	int err;

	if (!in_gate && need->kind == TREE_NEED_NOTHING &&
	    try_unlatched(tree, key, key_bytes, value, capacity, ret_bytes, ret_version, &err))
		return err;
	return get_latched(tree, in_gate, key, key_bytes, value, capacity, ret_bytes, ret_version, need);
}
