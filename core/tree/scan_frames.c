/*
 * A scan's way from frame to frame.
 *
 * The scan keeps a stack of *stops*, the frames it is in the middle of, each with the
 * version it had when it was first looked into:
 *
 *      stop 0: root frame, version 17        levels 0..2, left at a crossing
 *        stop 1: frame 9, version 4          levels 3..3, left at a crossing
 *          stop 2: frame 31, version 8       levels 4..6, being walked
 *
 * 1. What was read of a frame counts when the frame is found at the same version
 *    afterwards (scan_commit): then all of it was true at one time.
 * 2. Into a child: the crossing is read, the child's version taken, and then the frame
 *    of the crossing found unchanged.  So at that time the child hung there, and what
 *    is read of it while its version stays is what hung there.
 * 3. That all of this still hangs below the same path: no prefix was moved since the
 *    walk began at the root.  Nothing else changes the path to a frame that itself does
 *    not change.
 * 4. Back to a frame at the version it had, the walk goes on at its level.  Otherwise it
 *    begins again at the root: behind the last item; or, if there is none since, at the
 *    smallest key behind the crossing.  Hence each new beginning is further on.
 *
 * Readers look at frames optimistically: no latch is taken, nothing is written to shared
 * memory, and what is read may be garbage until (1).  After a few failures the caller
 * comes back in the gate: then frames are latched shared one at a time, edges stay, and
 * each frame entered is walked to its end.  ThreadSanitizer cannot follow optimistic
 * reading; for it frames are always latched.
 */
#include "config.h"

#include "tree/scan.h"

#include <stdlib.h>

#include "base/assert.h"
#include "tree/tree_internal.h"

/*
 * Where a frame's id becomes a slot.  Takes its version, and its latch if this scan
 * latches.  -EAGAIN: it is not in memory.  -ECANCELED: the scan's view has ended.
 */
static int look_up(struct tree_scan *scan, uint64_t frame_id, struct tree_stop *ret)
{
	struct pool *pool = scan->tree->pool;
	struct pool_read read;

	*ret = (struct tree_stop){.frame_id = frame_id};
	if (scan->tree->view) {
		struct tree_need need;
		int err = tree_view_latch(scan->tree, frame_id, &ret->slot, &need);

		if (err)
			return err;
		scan->holds_latch = true;
		ASSERT(pool_read_begin(pool, ret->slot, &ret->version));
		return 0;
	}
	if (!scan->is_latched && pool_read_key(pool, tree_key(frame_id), &read)) {
		ret->slot = read.slot;
		ret->version = read.version;
		return 0;
	}
	/* Optimistic readers too, while it is being written or loaded: they sleep until
	 * that is over. */
	ret->slot = pool_latch_key_shared(pool, tree_key(frame_id));
	if (ret->slot == POOL_NO_SLOT)
		return -EAGAIN;
	ASSERT(pool_read_begin(pool, ret->slot, &ret->version));
	if (scan->is_latched)
		scan->holds_latch = true;
	else
		pool_unlatch_shared(pool, ret->slot);
	return 0;
}

void scan_let_go(struct tree_scan *scan)
{
	if (!scan->holds_latch)
		return;
	pool_unlatch_shared(scan->tree->pool, scan_stop(scan)->slot);
	scan->holds_latch = false;
}

static bool has_moved(struct tree_scan *scan)
{
	return scan->move_count != atomic_load(&scan->tree->move_count);
}

/* Is the frame as it was?  Also one that is not the present one. */
static bool is_unchanged(struct tree_scan *scan, const struct tree_stop *stop)
{
	return pool_read_validate(scan->tree->pool, stop->slot, stop->version) && !has_moved(scan);
}

int scan_commit(struct tree_scan *scan)
{
	/* In the gate nothing moves, and a latched frame does not change. */
	if (!(scan->in_gate && scan->holds_latch) && !is_unchanged(scan, scan_stop(scan)))
		return -ESTALE;
	scan->committed = scan->count;
	return 0;
}

void scan_begin(struct tree_scan *scan)
{
	scan->stop_count = 0;
	scan->level_count = 0;
	scan->hops = 0;
	scan->depth = 0;
	scan->group = 0;
	scan->is_exact = true;
	scan->has_hop = true;
	scan->is_pending = false;
	scan->hop_id = scan->tree->root_id;
	if (has_moved(scan))
		scan->frames = scan->begins = 0;
	scan->begins++;
	scan->move_count = atomic_load(&scan->tree->move_count);
}

/* Latches the top frame again.  False: it has changed. */
static bool reopen(struct tree_scan *scan)
{
	struct tree_stop *stop = scan_stop(scan);

	if (scan->is_latched) {
		pool_latch_shared(scan->tree->pool, stop->slot);
		scan->holds_latch = true;
	}
	scan->image = tree_image(scan->tree, stop->slot);
	if (is_unchanged(scan, stop))
		return true;
	scan_let_go(scan);
	return false;
}

bool scan_resume(struct tree_scan *scan)
{
	if (!scan->has_stack)
		return false;
	/* The frame it lacks may have pushed out the one before: the shape vouches for
	 * the edge.  scan_hop() looks. */
	if (scan->is_pending)
		return tree_shape_vouches(scan->tree, scan->hop_shape) && !has_moved(scan);
	return reopen(scan);
}

static int push_stop(struct tree_scan *scan, struct tree_stop *child)
{
	struct tree_stop *parent = scan->stop_count ? scan_stop(scan) : NULL;

	child->level_base = scan->level_count;
	/* Nothing left to do there: no need to come back. */
	if (parent && parent->level_base >= scan->level_count) {
		*parent = *child;
		return 0;
	}
	if (scan->stop_count == scan->stop_size) {
		uint32_t size = 2 * scan->stop_size;
		bool is_first = scan->stops == scan->first_stops;
		struct tree_stop *grown = realloc(is_first ? NULL : scan->stops, size * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		if (is_first)
			memcpy(grown, scan->first_stops, sizeof(scan->first_stops));
		scan->stops = grown;
		scan->stop_size = size;
	}
	scan->stops[scan->stop_count++] = *child;
	return 0;
}

/* Did the edge to the child hold when the child was looked at? */
static bool edge_held(struct tree_scan *scan)
{
	if (scan->is_pending)
		return tree_shape_vouches(scan->tree, scan->hop_shape) && !has_moved(scan);
	return scan->stop_count == 0 || scan->in_gate || is_unchanged(scan, scan_stop(scan));
}

/* The frame is not in memory: what there is of a run is the run. */
static int lack(struct tree_scan *scan, uint64_t shape, struct tree_need *need)
{
	scan->is_pending = true;
	scan->hop_shape = shape;
	scan->has_stack = true;
	if (scan->count)
		return SCAN_STOP;
	return tree_need_frame(need, scan->hop_id);
}

/*
 * Frames that share one below them would be walked as often as there are ways to it.
 * Each is entered once, on the way to keys that are behind those before; once more it may
 * be if it was just entered when the walk had to begin again.  (Not on the exact way to
 * the key sought: this is gone each time.)  A move may hang any number of them behind.
 */
static bool meets_frames_twice(const struct tree_scan *scan)
{
	uint64_t ever = atomic_load_explicit(scan->tree->frames_ever, memory_order_relaxed);

	return scan->frames > ever + scan->begins;
}

/* Into the frame hop_id, at byte `depth` of the path. */
int scan_hop(struct tree_scan *scan, struct tree_need *need)
{
	uint64_t shape = tree_shape(scan->tree);
	struct tree_stop child;
	node_ref root;
	int err;

	if (++scan->hops > TREE_HOPS_MAX || meets_frames_twice(scan))
		return -EUCLEAN;
	scan_let_go(scan);
	err = look_up(scan, scan->hop_id, &child);
	if (!edge_held(scan)) {
		if (!err && scan->holds_latch)
			pool_unlatch_shared(scan->tree->pool, child.slot);
		scan->holds_latch = false;
		return -ESTALE;
	}
	scan->committed = scan->count;
	if (err && err != -EAGAIN)
		return err;
	if (err)
		return lack(scan, shape, need);
	err = push_stop(scan, &child);
	if (err) {
		if (scan->holds_latch)
			pool_unlatch_shared(scan->tree->pool, child.slot);
		scan->holds_latch = false;
		return err;
	}
	scan->frames += !scan->is_exact;
	scan->has_hop = false;
	scan->is_pending = false;
	scan->image = tree_image(scan->tree, child.slot);
	root = from_le16(image_header_const(scan->image)->root);
	return scan->is_exact ? scan_seek_down(scan, root) : scan_enter(scan, root, scan->depth);
}

/*
 * The smallest key behind the crossing that the top stop was left at becomes the one
 * sought.  -ENOENT: there can be none.
 */
static int seek_behind(struct tree_scan *scan)
{
	unsigned next = scan_stop(scan)->hop_hi + 1u;

	for (uint32_t i = scan->level_count; i > 0; i--) {
		uint32_t at = scan->levels[i - 1].path_bytes;
		int err;

		if (i < scan->level_count)
			next = scan->path.bytes[at] + 1u;
		if (next > 255)
			continue;
		err = buffer_reserve(&scan->key, at + 1);
		if (err)
			return err;
		memcpy(scan->key.bytes, scan->path.bytes, at);
		scan->key.bytes[at] = (uint8_t)next;
		scan->key.used = at + 1;
		scan->is_after = false;
		scan->has_progress = true;
		return 0;
	}
	return -ENOENT;
}

/* The frame is done: back to the one above. */
int scan_leave(struct tree_scan *scan)
{
	struct tree_stop *parent;
	int err = scan_commit(scan);

	if (err)
		return err;
	scan_let_go(scan);
	scan->hops = 0;
	/* The end.  Whether it still is when these items have been taken is seen then. */
	if (scan->stop_count == 1 && scan->count) {
		scan->has_stack = true;
		return SCAN_STOP;
	}
	if (--scan->stop_count == 0) {
		scan->is_over = true;
		return -ENOENT;
	}
	scan->backs++;
	if (reopen(scan))
		return 0;
	parent = scan_stop(scan);
	if (scan->count == 0 && scan->level_count == parent->hop_level) {
		err = seek_behind(scan);
		if (err == -ENOENT)
			scan->is_over = true;
		if (err)
			return err;
	}
	return -ESTALE;
}
