/*
 * Walking the frames of the tree from the outside: for those who want to know how they
 * are filled, and for those who pack them.
 *
 *    stack of frames to come        the frame now
 *    [ id, parent, path of key ]    image: a copy in memory of our own
 *
 * The walk is depth first and holds nothing while the caller is called: no latch, no
 * pin, no gate.  So what it sees is true of each frame by itself at some moment; edges
 * may have changed since they were read.  A frame that is gone is passed over.  Moves
 * may bring frames in front of the walk again, but a walk ends: it goes on only to what
 * lies below, and nobody moves forever.  (On a damaged volume frames may lie below
 * themselves; then it ends when it has seen far more of them than there are.)
 *
 * Frames that are not in the pool are read into the walk's own memory.  Nothing is
 * loaded or evicted, nor counted, for somebody's curiosity.
 */
#include "config.h"

#include "store/store_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"

/* How often a walk may meet a frame, on average, before something must be wrong. */
#define VISITS_MOST 16u

struct pending_frame {
	uint64_t id, parent;
	uint32_t depth, path_bytes;
	uint8_t *path; /* own memory */
};

struct frame_walk {
	struct store *store;
	const uint8_t *prefix;
	uint32_t prefix_bytes;
	void *image;
	struct pending_frame *stack;
	uint32_t count, size;
	struct pending_frame now;
	struct walked_frame seen;
	uint8_t *leaf; /* a copy for seen.leaf */
};

/* Can a key that begins with the prefix go on, behind @path_bytes of path, with one of
 * the bytes @lo..@hi? */
static bool is_wanted(const struct frame_walk *walk, const uint8_t *path, uint32_t path_bytes,
    unsigned lo, unsigned hi)
{
	uint32_t common = min_of(path_bytes, walk->prefix_bytes);

	if (common && memcmp(path, walk->prefix, common) != 0)
		return false;
	return walk->prefix_bytes <= path_bytes ||
	       (walk->prefix[path_bytes] >= lo && walk->prefix[path_bytes] <= hi);
}

static int push(struct frame_walk *walk, uint64_t id, const uint8_t *more, uint32_t more_bytes)
{
	struct pending_frame next = {
	    .id = id,
	    .parent = walk->now.id,
	    .depth = walk->now.depth + 1,
	    .path_bytes = walk->now.path_bytes + more_bytes,
	};

	if (walk->count == walk->size) {
		uint32_t size = max_of(walk->size * 2, 64u);
		void *grown = reallocarray(walk->stack, size, sizeof(*walk->stack));

		if (!grown)
			return -ENOMEM;
		walk->stack = grown;
		walk->size = size;
	}
	next.path = malloc(next.path_bytes + 1u);
	if (!next.path)
		return -ENOMEM;
	memcpy(next.path, walk->now.path, walk->now.path_bytes);
	if (more_bytes)
		memcpy(next.path + walk->now.path_bytes, more, more_bytes);
	walk->stack[walk->count++] = next;
	return 0;
}

static int see_leaf(void *ctx, const uint8_t *key, uint32_t key_bytes, const struct node *leaf)
{
	struct frame_walk *walk = ctx;
	struct store_frame *frame = &walk->seen.frame;

	frame->leaves++;
	frame->version = max_of(frame->version, leaf_take_apart(leaf).seq);
	if (walk->leaf)
		return 0;
	walk->leaf = malloc(key_bytes + 1u);
	if (!walk->leaf)
		return -ENOMEM;
	if (key_bytes)
		memcpy(walk->leaf, key, key_bytes);
	walk->seen.leaf = walk->leaf;
	walk->seen.leaf_bytes = key_bytes;
	return 0;
}

static int see_crossing(void *ctx, const uint8_t *key, uint32_t key_bytes,
    const struct node_crossing *crossing)
{
	struct frame_walk *walk = ctx;
	uint32_t first = walk->count;
	int err;

	walk->seen.frame.crossings++;
	err = push(walk, from_le64(crossing->frame_id), key, key_bytes);
	if (err)
		return err;
	if (!is_wanted(walk, walk->stack[first].path, walk->stack[first].path_bytes,
		crossing->lo, crossing->hi)) {
		free(walk->stack[first].path);
		walk->count = first;
	}
	return 0;
}

/* Fills `seen` from the image and puts the frames below it on the stack. */
static int look(struct frame_walk *walk, bool is_dirty)
{
	const struct tree_visit visit = {.ctx = walk, .leaf = see_leaf, .crossing = see_crossing};
	const struct frame_header *header = walk->image;
	uint32_t heap_end = from_le32(header->heap_end);
	struct store_frame *frame = &walk->seen.frame;
	const char *why;
	int err;

	free(walk->leaf);
	walk->leaf = NULL;
	walk->seen = (struct walked_frame){
	    .path = walk->now.path,
	    .frame = {
		.id = walk->now.id,
		.parent = walk->now.parent,
		.depth = walk->now.depth,
		.key_depth = walk->now.path_bytes,
		.bytes = FRAME_BYTES,
		.live_bytes = from_le32(header->live_bytes),
		.dead_bytes = heap_end - FRAME_HEADER_BYTES - from_le32(header->live_bytes),
		.free_bytes = FRAME_BYTES - heap_end,
		.is_dirty = is_dirty,
	    },
	};
	err = tree_frame_walk(walk->image, &visit, &why);
	if (err == -EUCLEAN)
		log_error("tree frame %llu: %s", (unsigned long long)walk->now.id, why);
	frame->inner_nodes = from_le32(header->node_count) - frame->leaves - frame->crossings;
	return err;
}

/* More frames than this there never were. */
static uint64_t ids_given(struct store *store)
{
	uint64_t next_id;

	mutex_lock(&store->dirty_mutex);
	next_id = store->next_id;
	mutex_unlock(&store->dirty_mutex);
	return next_id;
}

static int walk_on(struct frame_walk *walk,
    int (*fn)(void *ctx, const struct walked_frame *frame, uint64_t pending), void *ctx)
{
	uint64_t visits = 0;
	bool is_dirty;
	int err = 0;

	while (walk->count > 0 && !err) {
		if (++visits / VISITS_MOST > ids_given(walk->store)) {
			log_error("tree frame %llu lies below itself", (unsigned long long)walk->now.id);
			return -EUCLEAN;
		}
		free(walk->now.path);
		walk->now = walk->stack[--walk->count];
		err = store_peek_frame(walk->store, walk->now.id, walk->image, &is_dirty);
		if (err == -ENOENT) {
			/* Folded into another since its parent was read. */
			err = 0;
			continue;
		}
		if (!err)
			err = look(walk, is_dirty);
		if (!err)
			err = fn(ctx, &walk->seen, walk->count);
	}
	return err;
}

int store_walk_frames(struct store *store, const uint8_t *prefix, uint32_t prefix_bytes,
    int (*fn)(void *ctx, const struct walked_frame *frame, uint64_t pending), void *ctx)
{
	struct frame_walk walk = {
	    .store = store,
	    .prefix = prefix,
	    .prefix_bytes = prefix_bytes,
	    .image = aligned_alloc(BLOCK_BYTES, FRAME_BYTES),
	    .now = {.path = malloc(1)},
	};
	int err = walk.image && walk.now.path ? 0 : -ENOMEM;

	if (!err)
		err = push(&walk, store->tree.root_id, NULL, 0);
	if (!err) {
		walk.stack[0].depth = 0;
		err = walk_on(&walk, fn, ctx);
	}
	while (walk.count > 0)
		free(walk.stack[--walk.count].path);
	free(walk.stack);
	free(walk.now.path);
	free(walk.leaf);
	free(walk.image);
	return err;
}

struct frame_visit {
	int (*fn)(void *ctx, const struct store_frame *frame);
	void *ctx;
};

static int visit_frame(void *ctx, const struct walked_frame *frame, uint64_t pending)
{
	const struct frame_visit *visit = ctx;

	return visit->fn(visit->ctx, &frame->frame);
}

int store_for_each_frame(struct store *store,
    int (*fn)(void *ctx, const struct store_frame *frame), void *ctx)
{
	struct frame_visit visit = {fn, ctx};

	return store_walk_frames(store, NULL, 0, visit_frame, &visit);
}
