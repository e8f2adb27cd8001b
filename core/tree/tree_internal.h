/* Shared inside core/tree: hops between frames, copy on write, scratch images. */
#ifndef HOLTFS_TREE_TREE_INTERNAL_H
#define HOLTFS_TREE_TREE_INTERNAL_H

#include <errno.h>

#include "base/assert.h"
#include "tree/tree.h"

/* A frame on the way of a search, and how the search ended in it. */
struct tree_hop {
	uint64_t frame_id;
	uint32_t slot;
	uint32_t depth; /* of the key, where the frame's root branches */
	struct image_path path;
};

/*
 * Goes down from the root to the frame where the search for @key ends.  On 0 that
 * frame is latched shared.
 */
int tree_descend(struct tree *tree, bool in_gate, const uint8_t *key, uint32_t key_bytes,
    struct tree_hop *ret, struct tree_need *need);

/*
 * The same in the gate, for a search that has come to @frame_id at @depth: while the
 * tree's shape is still @shape it goes on there, and the frames above need not be in
 * memory.  Where @ret stands after -EAGAIN it can go on as well.
 */
int tree_find_again(struct tree *tree, const uint8_t *key, uint32_t key_bytes, uint64_t frame_id,
    uint32_t depth, uint64_t shape, struct tree_hop *ret, struct tree_need *need);

/*
 * The next step of a search in the gate that takes no latches, in frame *frame_id at *depth.
 * 1: both are the next frame's; 0: it ends here, which counts if @here is found unchanged;
 * -EAGAIN: the frame is not in memory, or being changed.
 */
int tree_step_unlatched(struct tree *tree, const uint8_t *key, uint32_t key_bytes,
    uint64_t *frame_id, uint32_t *depth, struct image_path *path, struct pool_read *here);

static inline uint64_t tree_shape(struct tree *tree)
{
	return atomic_load(&tree->shape);
}

/*
 * Around the changes of a step that moves edges, with the gate held exclusively: the
 * shape is odd meanwhile, and another one afterwards.  A searcher without the gate may
 * see some edges as they were and some as they will be; what it notes then is good for
 * nothing.
 */
static inline void tree_shape_begin(struct tree *tree)
{
	ASSERT(tree_shape(tree) % 2 == 0);
	atomic_fetch_add(&tree->shape, 1);
}

static inline void tree_shape_end(struct tree *tree)
{
	ASSERT(tree_shape(tree) % 2 == 1);
	atomic_fetch_add(&tree->shape, 1);
}

/* Do edges seen when the tree had @shape still lead where they led? */
static inline bool tree_shape_vouches(struct tree *tree, uint64_t shape)
{
	return shape % 2 == 0 && tree_shape(tree) == shape;
}

/*
 * Structural steps go down with frame and parent: notes in @need that @hop's frame is
 * lacking and where its parent is; and takes up such a note, false if there is none.
 */
int tree_lacks_hop(struct tree *tree, struct tree_need *need, const struct tree_hop *hop,
    const struct tree_hop *parent);
bool tree_take_up(struct tree *tree, const struct tree_need *need, struct tree_hop *ret);

/*
 * A frame on the way to a key and the one above it, both pinned (slot POOL_NO_SLOT: there
 * is none).  Finding goes to @frame_id (-ENOENT: the way does not lead there), or, for
 * TREE_LAST_FRAME, as far as it can.  Unpin whatever it returned.
 */
struct tree_pair {
	const uint8_t *key;
	uint32_t key_bytes;
	struct tree_hop hop, parent;
};
#define TREE_LAST_FRAME UINT64_MAX
int tree_pair_find(struct tree *tree, struct tree_pair *pair, uint64_t frame_id, struct tree_need *need);
void tree_pair_unpin(struct tree *tree, const struct tree_pair *pair);

static inline bool tree_pair_has_parent(const struct tree_pair *pair)
{
	return pair->parent.slot != POOL_NO_SLOT;
}

/* The parent's crossing to the frame. */
const struct node_crossing *tree_pair_crossing(struct tree *tree, const struct tree_pair *pair);

/* Pins a frame.  False: it is not in memory. */
bool tree_pin_frame(struct tree *tree, uint64_t frame_id, uint32_t *ret_slot);

/* Live bytes up to which a frame is worth folding away. */
#define THIN_MOST (IMAGE_CAPACITY / 4)

/*
 * Does any key begin with the prefix?  @hop is where the search for it has ended, in the
 * gate, latched shared; it is unlatched.  0: yes; -ENOENT: no; -EAGAIN: frame or fold
 * needed, and @below (zeros at first) says where to go on.
 */
int tree_find_any(struct tree *tree, const struct tree_hop *hop, const uint8_t *prefix,
    uint32_t prefix_bytes, struct tree_below *below, struct tree_need *need);

/*
 * One hop for a search that goes its own way: latches @frame_id shared and validates
 * the edge it was reached by.  -ESTALE: begin again.
 */
struct tree_edge {
	uint32_t slot; /* of the parent, POOL_NO_SLOT at the root */
	uint64_t version;
};
int tree_hop_latch(struct tree *tree, bool in_gate, const struct tree_edge *edge,
    uint64_t frame_id, uint32_t *ret_slot, struct tree_need *need);

/* The same in a view's tree, whose edges never change. */
int tree_view_latch(struct tree *tree, uint64_t frame_id, uint32_t *ret_slot, struct tree_need *need);

/* Takes down the edge out of a shared-latched frame, and unlatches it. */
void tree_hop_leave(struct tree *tree, uint32_t slot, struct tree_edge *ret);

/* Packing makes room enough where it leaves a frame at most so full. */
#define PACK_MOST (IMAGE_CAPACITY / 100 * 90)

/*
 * May so many bytes be put into the frame as it is?  Not if there is no room, and not if
 * it is better packed first, because of its order on disk, and packing will do.
 */
static inline bool tree_frame_takes(const struct tree *tree, const void *image, uint32_t bytes)
{
	if (!tree->keeps_order || !bytes || bytes > TREE_ROOM_MAX || !image_is_disordered(image) ||
	    image_live_bytes(image) + bytes > PACK_MOST)
		return image_room(image) >= bytes;
	return false;
}

/*
 * Makes the first of the edits, a put whose search in the frame ended like @path, and those
 * that follow it to the same place.  There is room for the first.  Returns how many.
 */
uint32_t tree_put_edits(struct tree *tree, uint64_t frame_id, void *image, const struct image_path *path,
    const struct tree_edit *edits, uint32_t count, uint64_t base_version);

#define TREE_HOPS_MAX 4096
#define READ_RESTARTS_MAX 16

/*
 * Makes an exclusively latched live frame writable in this epoch; returns its slot,
 * a new one if it had to be copied (the old one is then unlatched and the
 * checkpoint's).  A spare is used up only then (tree_needs_copy).
 */
bool tree_is_writable(struct tree *tree, uint32_t slot); /* as it is */
bool tree_needs_copy(struct tree *tree, uint32_t slot);
bool tree_needs_place(struct tree *tree, uint32_t slot); /* it gets dirty */
uint32_t tree_make_writable(struct tree *tree, uint64_t frame_id, uint32_t slot,
    struct tree_spares *spares);

/*
 * Can the frame be changed?  Blocks with good checksums may hold anything: what was read
 * from disk is walked once before it is changed for the first time, or taken apart.  Readers
 * bound what they read instead.  -EUCLEAN, logged.  Latched, or in the gate exclusively.
 */
int tree_check_frame(struct tree *tree, uint64_t frame_id, uint32_t slot);

/* Do all entries of a checked frame's root lie in lo..hi, for which its crossing stands? */
bool tree_is_within(const void *image, unsigned lo, unsigned hi);

/* Puts a finished image (leased slot, not latched) in place of the live frame in
 * @slot, which is exclusively latched; both end unlatched. */
void tree_replace_frame(struct tree *tree, uint64_t frame_id, uint32_t slot, uint32_t new_slot);

/* Makes a finished image in a leased slot the live frame @frame_id. */
void tree_publish_frame(struct tree *tree, uint64_t frame_id, uint32_t slot);

/* Takes a live frame, exclusively latched, out of the tree for good. */
void tree_drop_frame(struct tree *tree, uint64_t frame_id, uint32_t slot);

/* Latches pinned or gate-held live frames exclusively, in ascending frame id. */
void tree_latch_two(struct tree *tree, uint64_t a, uint64_t b, uint32_t *ret_a, uint32_t *ret_b);

/* Does the key that @path found meet a guard?  0, -EEXIST, -ENOENT, -ESTALE. */
int tree_check_guard(const void *image, const struct image_path *path, enum tree_edit_kind guard,
    uint64_t version);

/* Is there room in the frame for the value of the key that @path found? */
bool tree_has_room(const struct tree *tree, const void *image, const struct image_path *path, uint32_t key_bytes,
    uint32_t value_bytes, uint64_t version_most);

/*
 * Around whatever changes the image of frame @frame_id, or puts another in its place:
 * keeps count of frames that hold nothing (struct tree).
 */
static inline bool tree_is_empty_frame(const struct tree *tree, uint64_t frame_id, const void *image)
{
	return frame_id != tree->root_id && image_is_empty(image);
}

static inline void tree_count_empty(struct tree *tree, bool was_empty, bool is_empty)
{
	if (was_empty != is_empty)
		atomic_fetch_add(tree->empty_frames, is_empty ? 1 : UINT64_MAX);
}

/* The same for a key about to be put where @path says. */
static inline void tree_before_put(struct tree *tree, uint64_t frame_id, const void *image,
    const struct image_path *path)
{
	if (!path->parent)
		tree_count_empty(tree, tree_is_empty_frame(tree, frame_id, image), false);
}

/* And for a key erased: true if the frame, which had @live_before bytes in use, is worth
 * folding now. */
bool tree_after_erase(struct tree *tree, uint64_t frame_id, const void *image, uint32_t live_before);

/* The frame in @slot, latched, is one of the transaction's.  -E2BIG: more are needed
 * than may be kept. */
int tree_hold_frame(struct tree *tree, struct tree_tx *tx, uint32_t slot);

uint32_t tree_take_spare(struct tree_spares *spares);

static inline void *tree_image(struct tree *tree, uint32_t slot)
{
	return pool_memory(tree->pool, slot);
}

static inline frame_key tree_key(uint64_t frame_id)
{
	return frame_key_make(FRAME_TREE, frame_id);
}

static inline int tree_need_frame(struct tree_need *need, uint64_t frame_id)
{
	*need = (struct tree_need){.kind = TREE_NEED_FRAME, .frame_id = frame_id};
	return -EAGAIN;
}

static inline int tree_need_places(struct tree_need *need, uint32_t places, bool is_growth)
{
	*need = (struct tree_need){
	    .kind = TREE_NEED_PLACES, .places = places, .is_growth = is_growth};
	return -EAGAIN;
}

static inline int tree_need_slots(struct tree_need *need, uint32_t slots)
{
	*need = (struct tree_need){.kind = TREE_NEED_SLOTS, .slots = slots};
	return -EAGAIN;
}

#endif
