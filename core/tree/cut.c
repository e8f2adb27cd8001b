/*
 * Where to cut a full frame.
 *
 * What it costs to get at a key is frames on the way, more than nodes.  So the tree is to
 * become what a B-tree is: one or two *upper* frames that hold crossings and little else,
 * and below them frames full of leaves, all equally deep.  Three kinds of cut serve that,
 * and these are tried in this order:
 *
 *   lift     nearly all of the frame lies below one entry of its root: root and entry
 *            move up into the parent, little things beside included.  Nothing is gained
 *            yet, but the node below, whose entries share the bytes, is the root now, and
 *            can be cut without the tree getting deeper.
 *
 *      P: N [.. (a..z) ..]             P: N [.. b, k ..]     k: M [(0..255)]
 *                 |                                                  |
 *             F: [b, k: M [p q r s]]                            F: [p q r s]
 *
 *   beside   between two entries of the root, near the middle.
 *   inside   what else is left to a frame that has no parent, or whose parts are uneven:
 *            a run of entries somewhere in it.
 *
 * A run cut out inside is one of leaves, as far as possible.  Crossings stay where they
 * are: moved, they would lie one frame deeper, and a frame that is cut again and again
 * where keys arrive would in the end be a chain.  (Measured: two million keys in order,
 * ten frames on the way to a key, at most nineteen.)
 *
 * Keys in order: if the new key lies behind everything in the frame, what lies before it on
 * the frame's right edge goes, if that is most of the frame.  The new frame is left full,
 * the old one takes what follows.
 */
#include "config.h"

#include "tree/cut.h"

#include "base/assert.h"

/* Shares of the frame's live bytes, in percent. */
#define BEHIND_LEAST 50
#define BESIDE_LEAST 10
#define RUN_LEAST    25
#define CUT_MOST     65
#define CROSSINGS_LEAST 5 /* a frame with fewer leaves than that is one of crossings */

/* What a lift may carry into the parent. */
#define LIFT_BYTES_MOST 8192u

static uint32_t percent_of(const struct cut_frame *frame, uint32_t percent)
{
	return image_live_bytes(frame->image) / 100 * percent;
}

static uint32_t bytes_below(const struct cut_frame *frame, node_ref ref)
{
	return frame->sizes[ref] & ~SUBTREE_HAS_CROSSING;
}

static bool has_crossing(const struct cut_frame *frame, node_ref ref)
{
	return frame->sizes[ref] & SUBTREE_HAS_CROSSING;
}

static void descend(struct cut *cut, const struct node_entry *entry)
{
	cut->parent = cut->node;
	cut->parent_byte = (uint8_t)entry->lo;
	cut->node = entry->ref;
}

/* ---- keys in order ------------------------------------------------------------------ */

/* Does the key sort behind everything in the frame? */
static bool is_behind(const struct cut_frame *frame)
{
	node_ref ref = from_le16(image_header_const(frame->image)->root);
	uint32_t depth = frame->depth;

	for (;;) {
		const struct node_inner *inner = inner_of(frame->image, ref);
		uint32_t prefix_bytes = from_le16(inner->prefix_bytes);
		uint32_t rest = frame->key_bytes - depth;
		int order = memcmp(frame->key + depth, inner_prefix(inner), min_of(rest, prefix_bytes));
		struct node_entry last;

		if (order || rest <= prefix_bytes)
			return order > 0;
		depth += prefix_bytes;
		if (!inner_last(frame->image, inner, &last))
			return true;
		if (frame->key[depth] > last.hi)
			return true;
		if (frame->key[depth] < last.lo || last.node->type == NODE_CROSSING)
			return false;
		depth++;
		if (node_is_leaf(last.node)) {
			struct leaf_parts leaf = leaf_take_apart(last.node);

			rest = frame->key_bytes - depth;
			order = memcmp(frame->key + depth, leaf.rest, min_of(rest, leaf.rest_bytes));
			return order ? order > 0 : rest > leaf.rest_bytes;
		}
		ref = last.ref;
	}
}

/*
 * The entries of a node before @end, back to the last one with a crossing, which stays
 * (@with_crossings: all of them).  Returns their bytes.
 */
static uint32_t stretch_before(const struct cut_frame *frame, const struct node_inner *inner, unsigned end,
    bool with_crossings, unsigned *ret_lo)
{
	struct node_entry entry;
	uint32_t sum = 0;
	bool is_first = true;

	for (unsigned from = 0; inner_next(frame->image, inner, from, &entry) && entry.lo < end;
	     from = entry.hi + 1) {
		if (has_crossing(frame, entry.ref) && !with_crossings) {
			sum = 0;
			is_first = true;
			continue;
		}
		if (is_first)
			*ret_lo = entry.lo;
		is_first = false;
		sum += bytes_below(frame, entry.ref);
	}
	return sum;
}

/* Down the right edge to the first node where what lies before the key is enough. */
static bool choose_behind(const struct cut_frame *frame, struct cut *cut)
{
	uint32_t depth = frame->depth;

	for (;;) {
		const struct node_inner *inner = inner_of(frame->image, cut->node);
		uint32_t prefix_bytes = from_le16(inner->prefix_bytes);
		bool is_beside = !cut->parent && frame->has_parent;
		struct node_entry last;
		unsigned byte, end;

		if (frame->key_bytes - depth <= prefix_bytes ||
		    memcmp(frame->key + depth, inner_prefix(inner), prefix_bytes) != 0 ||
		    !inner_last(frame->image, inner, &last))
			return false;
		depth += prefix_bytes;
		byte = frame->key[depth++];
		end = byte > last.hi ? byte : last.lo;
		if (stretch_before(frame, inner, end, is_beside, &cut->lo) >=
		    percent_of(frame, BEHIND_LEAST)) {
			cut->kind = is_beside ? CUT_BESIDE : CUT_INSIDE;
			cut->lo = is_beside ? frame->lo : cut->lo;
			cut->hi = end - 1;
			return true;
		}
		if (byte > last.hi || !node_is_inner(last.node))
			return false;
		descend(cut, &last);
	}
}

/* ---- in the middle -------------------------------------------------------------------- */

struct run {
	unsigned lo, hi;
	uint32_t bytes;
	bool is_empty;
};

static void run_add(struct run *run, const struct node_entry *entry, uint32_t bytes)
{
	if (run->is_empty)
		run->lo = entry->lo;
	run->hi = entry->hi;
	run->bytes += bytes;
	run->is_empty = false;
}

/* From the first entry at or behind @from: the run nearest to half the frame. */
static struct run half_run(const struct cut_frame *frame, const struct node_inner *inner, unsigned from, unsigned hi)
{
	uint32_t half = image_live_bytes(frame->image) / 2;
	struct run run = {.is_empty = true};
	struct node_entry entry;

	for (; inner_next(frame->image, inner, from, &entry) && entry.lo <= hi; from = entry.hi + 1) {
		uint32_t bytes = bytes_below(frame, entry.ref);

		if (!run.is_empty && run.bytes + bytes > half &&
		    run.bytes + bytes - half > half - min_of(run.bytes, half))
			break;
		run_add(&run, &entry, bytes);
	}
	return run;
}

/* The heaviest run of entries without crossings. */
static struct run heaviest_stretch(const struct cut_frame *frame, const struct node_inner *inner)
{
	struct run run = {.is_empty = true}, best = run;
	struct node_entry entry;

	for (unsigned from = 0; inner_next(frame->image, inner, from, &entry); from = entry.hi + 1) {
		if (has_crossing(frame, entry.ref)) {
			run = (struct run){.is_empty = true};
			continue;
		}
		run_add(&run, &entry, bytes_below(frame, entry.ref));
		if (run.bytes > best.bytes)
			best = run;
	}
	return best;
}

/* The heaviest entry; false: the node has none. */
static bool heaviest_entry(const struct cut_frame *frame, const struct node_inner *inner,
    bool with_crossing_only, struct node_entry *ret)
{
	struct node_entry entry;
	bool is_found = false;

	for (unsigned from = 0; inner_next(frame->image, inner, from, &entry); from = entry.hi + 1) {
		if (with_crossing_only && !(has_crossing(frame, entry.ref) && node_is_inner(entry.node)))
			continue;
		if (!is_found || bytes_below(frame, entry.ref) > bytes_below(frame, ret->ref))
			*ret = entry;
		is_found = true;
	}
	return is_found;
}

/*
 * A run of leaves, wherever they are: down into what has both leaves and crossings, until
 * a node has enough leaves without crossings in between; then, among these, down into what
 * is too much.  False: there are hardly any.
 */
static bool choose_leaves(const struct cut_frame *frame, struct cut *cut)
{
	for (;;) {
		const struct node_inner *inner = inner_of(frame->image, cut->node);
		struct run run = heaviest_stretch(frame, inner);
		struct node_entry entry;

		if (run.bytes < percent_of(frame, RUN_LEAST) && heaviest_entry(frame, inner, true, &entry) &&
		    bytes_below(frame, entry.ref) > run.bytes) {
			descend(cut, &entry);
			continue;
		}
		if (run.bytes < percent_of(frame, CROSSINGS_LEAST))
			return false;
		if (run.bytes > percent_of(frame, CUT_MOST))
			run = half_run(frame, inner, run.lo, run.hi);
		if (run.bytes > percent_of(frame, CUT_MOST) && inner_next(frame->image, inner, run.lo, &entry) &&
		    entry.hi == run.hi && node_is_inner(entry.node)) {
			descend(cut, &entry);
			continue;
		}
		cut->lo = run.lo;
		cut->hi = run.hi;
		return true;
	}
}

/* A run of whatever is there: crossings mostly. */
static void choose_any(const struct cut_frame *frame, struct cut *cut)
{
	const struct node_inner *inner = inner_of(frame->image, cut->node);
	struct node_entry entry;
	struct run run;

	while (heaviest_entry(frame, inner, false, &entry) && node_is_inner(entry.node) &&
	       bytes_below(frame, entry.ref) > percent_of(frame, CUT_MOST)) {
		descend(cut, &entry);
		inner = inner_of(frame->image, cut->node);
	}
	run = half_run(frame, inner, 0, 255);
	ASSERT(!run.is_empty); /* values are small against frames */
	cut->lo = run.lo;
	cut->hi = run.hi;
}

/* The entries of the root behind the first half of the bytes. */
static bool choose_beside(const struct cut_frame *frame, struct cut *cut)
{
	const struct node_inner *inner = inner_of(frame->image, cut->node);
	struct run run = half_run(frame, inner, 0, 255);

	if (run.bytes < percent_of(frame, BESIDE_LEAST) || run.bytes > percent_of(frame, 100 - BESIDE_LEAST))
		return false;
	cut->kind = CUT_BESIDE;
	cut->lo = run.hi + 1;
	cut->hi = frame->hi;
	return true;
}

/* ---- choosing ------------------------------------------------------------------------- */

static bool choose_lift(const struct cut_frame *frame, struct cut *cut)
{
	const struct node_inner *inner;
	struct node_entry entry;
	uint32_t carried;
	node_ref terminal;

	if (!heaviest_entry(frame, inner_of(frame->image, cut->node), false, &entry) || !node_is_inner(entry.node))
		return false;
	inner = (const void *)entry.node;
	terminal = from_le16(inner->terminal);
	carried = image_live_bytes(frame->image) - bytes_below(frame, entry.ref) +
		  (terminal ? bytes_below(frame, terminal) : 0);
	if (carried > LIFT_BYTES_MOST || !from_le16(inner->count))
		return false;
	cut->kind = CUT_LIFT;
	cut->lo = entry.lo;
	cut->hi = entry.hi;
	return true;
}

void cut_choose(const struct cut_frame *frame, struct cut *ret)
{
	struct cut whole = {
	    .kind = CUT_INSIDE, .node = from_le16(image_header_const(frame->image)->root)};

	*ret = whole;
	if (frame->has_parent && choose_lift(frame, ret))
		return;
	if (is_behind(frame) && choose_behind(frame, ret))
		return;
	*ret = whole;
	if (frame->has_parent && choose_beside(frame, ret))
		return;
	if (choose_leaves(frame, ret))
		return;
	*ret = whole;
	choose_any(frame, ret);
}
