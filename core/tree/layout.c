/*
 * Packing images, and cutting them in two.
 *
 * Of a frame that is not in memory single blocks are read (core/store/cold.c), and most
 * bytes of an image are leaves.  What is alive is therefore laid out in two parts:
 *
 *   +--------+-----------------------+------------------------------------------+
 *   | header | top, breadth first    | clusters in key order                    |
 *   |        |                       | [node leaf leaf ..][node leaf ..][leaf]..|
 *   +--------+-----------------------+------------------------------------------+
 *
 * A *cluster* is a subtree of at most CLUSTER_MOST bytes whose parent's is larger.  Nodes
 * with larger subtrees are the top, some hundredths of the image: a few blocks, on the way
 * to every key.  So a search costs the blocks of the top, which the searches before it
 * have left in memory, and one more, now and then two next to each other.  (Ordering nodes
 * for memory in blocks: J. Gil, A. Itai, "How to pack trees", J. Algorithms 1999.)
 * Crossings, and what has some below it, are part of the top too.
 *
 *   1. sizes   of all subtrees (image_sizes).
 *   2. plan    a queue of the top's nodes, breadth first: now its bytes are known.
 *   3. copy    node after node of the queue.  A child that belongs to the top is appended
 *              there, which is the order of the queue; any other with all below it behind.
 *
 * Each node of the source is looked at twice, and copied as it is.  What is changed later
 * is appended, or takes freed places: the order makes reading cheap and nothing depends on
 * it.
 */
#include "config.h"

#include "tree/image.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/cleanup.h"

#define CLUSTER_MOST 1024u

/* ---- the children of a node, in key order ---------------------------------------------- */

/* A crossing counts once, whatever bytes it stands for.  (Its bytes are neighbours.) */
static unsigned list_children(const struct node_inner *inner, node_ref *refs)
{
	const struct node_4 *n4 = (const void *)inner;
	const struct node_16 *n16 = (const void *)inner;
	const struct node_48 *n48 = (const void *)inner;
	const struct node_256 *n256 = (const void *)inner;
	unsigned count = 0, last = 0;

	switch (inner->type) {
	case NODE_4:
		for (; count < min_of((unsigned)from_le16(inner->count), 4u); count++)
			refs[count] = from_le16(n4->refs[count]);
		break;
	case NODE_16:
		for (; count < min_of((unsigned)from_le16(inner->count), 16u); count++)
			refs[count] = from_le16(n16->refs[count]);
		break;
	case NODE_48:
		for (unsigned byte = 0; byte < 256; byte++) {
			unsigned place = n48->index[byte];

			if (place && place != last && place <= 48)
				refs[count++] = from_le16(n48->refs[place - 1]);
			last = place;
		}
		break;
	default:
		for (unsigned byte = 0; byte < 256; byte++) {
			node_ref ref = from_le16(n256->refs[byte]);

			if (ref && ref != last)
				refs[count++] = ref;
			last = ref;
		}
	}
	return count;
}

/* Other references for the same children. */
static void set_children(struct node_inner *inner, const node_ref *refs)
{
	struct node_4 *n4 = (void *)inner;
	struct node_16 *n16 = (void *)inner;
	struct node_48 *n48 = (void *)inner;
	struct node_256 *n256 = (void *)inner;
	unsigned count = 0, last = 0;

	switch (inner->type) {
	case NODE_4:
		for (; count < from_le16(inner->count); count++)
			n4->refs[count] = to_le16(refs[count]);
		break;
	case NODE_16:
		for (; count < from_le16(inner->count); count++)
			n16->refs[count] = to_le16(refs[count]);
		break;
	case NODE_48:
		for (unsigned byte = 0; byte < 256; byte++) {
			unsigned place = n48->index[byte];

			if (place && place != last)
				n48->refs[place - 1] = to_le16(refs[count++]);
			last = place;
		}
		break;
	default:
		for (unsigned byte = 0; byte < 256; byte++) {
			node_ref ref = from_le16(n256->refs[byte]);

			if (ref)
				n256->refs[byte] = to_le16(refs[ref == last ? count - 1 : count++]);
			last = ref;
		}
	}
}

/* ---- sizes ------------------------------------------------------------------------------- */

struct sizing {
	const void *image;
	uint32_t *sizes;
	node_ref *queue; /* inner nodes, breadth first */
	uint32_t count;
};

/* Asks for the first line of each: they are waited for side by side. */
static void prefetch_nodes(const void *image, const node_ref *refs, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		__builtin_prefetch((const char *)image + (size_t)refs[i] * NODE_UNIT);
}

/* A node is met for the first time.  False: there is none. */
static bool meet(struct sizing *sizing, node_ref ref)
{
	const struct node *node = node_at(sizing->image, ref);

	/* More inner nodes than fit: references in a circle. */
	if (!node || sizing->count == FRAME_BYTES / NODE_UNIT)
		return false;
	sizing->sizes[ref] = node_bytes(node);
	if (node->type == NODE_CROSSING)
		sizing->sizes[ref] |= SUBTREE_HAS_CROSSING;
	if (node_is_inner(node))
		sizing->queue[sizing->count++] = ref;
	return true;
}

static bool meet_children(struct sizing *sizing, const struct node_inner *inner)
{
	node_ref terminal = from_le16(inner->terminal), refs[256];
	unsigned count = list_children(inner, refs);

	prefetch_nodes(sizing->image, refs, count);
	if (terminal && !meet(sizing, terminal))
		return false;
	for (unsigned i = 0; i < count; i++)
		if (!meet(sizing, refs[i]))
			return false;
	return true;
}

/* Children stand behind their parents in the queue: what is below is known. */
static bool add_up(struct sizing *sizing, node_ref ref)
{
	const struct node_inner *inner = (const void *)node_at(sizing->image, ref);
	node_ref terminal = from_le16(inner->terminal), refs[256];
	unsigned count = list_children(inner, refs);
	uint32_t sum = node_bytes((const void *)inner), has_crossing = 0;

	if (terminal)
		sum += sizing->sizes[terminal];
	for (unsigned i = 0; i < count && sum <= IMAGE_CAPACITY; i++) {
		/* The flag is no number: to be set, not added. */
		sum += sizing->sizes[refs[i]] & ~SUBTREE_HAS_CROSSING;
		has_crossing |= sizing->sizes[refs[i]] & SUBTREE_HAS_CROSSING;
	}
	sizing->sizes[ref] = sum | has_crossing;
	return sum <= IMAGE_CAPACITY;
}

bool image_sizes(const void *image, uint32_t *ret_sizes)
{
	node_ref root = from_le16(image_header_const(image)->root);
	struct sizing sizing = {
	    .image = image, .sizes = ret_sizes, .queue = (node_ref *)(ret_sizes + FRAME_BYTES / NODE_UNIT)};

	if (!meet(&sizing, root) || !sizing.count)
		return false;
	for (uint32_t i = 0; i < sizing.count; i++)
		if (!meet_children(&sizing, (const void *)node_at(image, sizing.queue[i])))
			return false;
	for (uint32_t i = sizing.count; i > 0; i--)
		if (!add_up(&sizing, sizing.queue[i - 1]))
			return false;
	return true;
}

uint32_t image_bytes_below(const void *image, node_ref top, uint32_t most, node_ref *scratch_refs)
{
	uint32_t count = node_is_inner(node_at(image, top)), bytes = 0;

	scratch_refs[0] = top;
	for (uint32_t at = 0; at < count && bytes <= most; at++) {
		const struct node_inner *inner = (const void *)node_at(image, scratch_refs[at]);
		const struct node *terminal = node_at(image, from_le16(inner->terminal));
		node_ref refs[256];
		unsigned children = list_children(inner, refs);

		prefetch_nodes(image, refs, children);
		if (at > 0 && terminal)
			bytes += node_bytes(terminal);
		for (unsigned i = 0; i < children; i++) {
			const struct node *node = node_at(image, refs[i]);

			bytes += node_bytes(node);
			if (node_is_inner(node))
				scratch_refs[count++] = refs[i];
		}
	}
	return bytes;
}

/* ---- layouts ------------------------------------------------------------------------------ */

#define NEW_CROSSING 0 /* in lists of nodes of the source */

struct layout {
	char *image;
	const void *source;
	const uint32_t *sizes;
	const struct image_part *part; /* NULL: all */
	node_ref *queue;	       /* the top: nodes of the source, in the order of their copies */
	uint32_t count;
	uint32_t top_end, end; /* bytes of the image: so far copied of the top, and of all */
	uint32_t node_count;
	bool has_part;
};

static const struct node_inner *inner_at(const void *image, node_ref ref)
{
	return (const void *)node_at(image, ref);
}

/* The node of which some entries only are copied. */
static bool is_parted(const struct layout *layout, node_ref ref)
{
	return layout->part && ref == layout->part->node;
}

/* Its next entry that is copied, or the crossing that comes in the others' place. */
static bool next_of_part(const struct layout *layout, unsigned from, struct node_entry *ret)
{
	const struct image_part *part = layout->part;
	const struct node_inner *inner = inner_at(layout->source, part->node);
	bool is_there = inner_next(layout->source, inner, part->is_rest ? from : max_of(from, part->lo), ret);

	if (!part->is_rest)
		return is_there && ret->lo <= part->hi;
	if (from <= part->lo && (!is_there || ret->lo >= part->lo)) {
		*ret = (struct node_entry){.lo = part->lo, .hi = part->hi, .ref = NEW_CROSSING};
		return true;
	}
	return is_there;
}

static unsigned list_part(const struct layout *layout, node_ref *refs)
{
	struct node_entry entry;
	unsigned count = 0;

	for (unsigned from = 0; next_of_part(layout, from, &entry); from = entry.hi + 1)
		refs[count++] = entry.ref;
	return count;
}

static unsigned list_copied(const struct layout *layout, node_ref ref, node_ref *refs)
{
	return is_parted(layout, ref) ? list_part(layout, refs) :
					list_children(inner_at(layout->source, ref), refs);
}

static enum node_type parted_type(const struct layout *layout)
{
	node_ref refs[256];

	return inner_type_for(list_part(layout, refs));
}

static uint32_t parted_prefix_bytes(const struct layout *layout)
{
	const struct image_part *part = layout->part;

	return part->is_rest ? from_le16(inner_at(layout->source, part->node)->prefix_bytes) : 0;
}

static uint32_t copied_bytes(const struct layout *layout, node_ref ref)
{
	if (ref == NEW_CROSSING)
		return sizeof(struct node_crossing);
	if (is_parted(layout, ref))
		return inner_bytes(parted_type(layout), parted_prefix_bytes(layout));
	return node_bytes(node_at(layout->source, ref));
}

/* ---- planning ------------------------------------------------------------------------------- */

static bool is_inner_of_source(const struct layout *layout, node_ref ref)
{
	return ref != NEW_CROSSING && node_is_inner(node_at(layout->source, ref));
}

static bool is_top(const struct layout *layout, node_ref ref)
{
	/* A crossing below counts as a very large size. */
	return ref == NEW_CROSSING ||
	       (layout->sizes[ref] > CLUSTER_MOST && !node_is_leaf(node_at(layout->source, ref)));
}

/* Fills the queue.  Returns where the top will end. */
static uint32_t plan(struct layout *layout, node_ref root)
{
	uint32_t end = FRAME_HEADER_BYTES + copied_bytes(layout, root);
	node_ref refs[256];

	layout->queue[layout->count++] = root;
	for (uint32_t at = 0; at < layout->count; at++) {
		unsigned count = 0;

		if (is_inner_of_source(layout, layout->queue[at]))
			count = list_copied(layout, layout->queue[at], refs);
		for (unsigned i = 0; i < count; i++) {
			if (!is_top(layout, refs[i]))
				continue;
			layout->queue[layout->count++] = refs[i];
			end += copied_bytes(layout, refs[i]);
		}
	}
	return end;
}

/* ---- copying -------------------------------------------------------------------------------- */

static node_ref append(struct layout *layout, uint32_t *end, node_ref ref)
{
	const struct node *node = node_at(layout->source, ref);
	uint32_t bytes = node_bytes(node), at = *end;

	ASSERT(bytes <= FRAME_BYTES - at);
	memcpy(layout->image + at, node, bytes);
	*end += bytes;
	layout->node_count++;
	return (node_ref)(at / NODE_UNIT);
}

/* With all below it.  What is appended is passed over once more, for its children. */
static node_ref append_cluster(struct layout *layout, node_ref ref)
{
	uint32_t at = layout->end;
	node_ref copy = append(layout, &layout->end, ref);

	for (; at < layout->end; at += node_bytes((const void *)(layout->image + at))) {
		struct node_inner *inner = (void *)(layout->image + at);
		node_ref refs[256];
		unsigned count;

		if (!node_is_inner((const void *)inner))
			continue;
		if (from_le16(inner->terminal))
			inner->terminal = to_le16(append(layout, &layout->end, from_le16(inner->terminal)));
		count = list_children(inner, refs);
		for (unsigned i = 0; i < count; i++)
			refs[i] = append(layout, &layout->end, refs[i]);
		set_children(inner, refs);
	}
	return copy;
}

/* An empty node for the entries of the part, or the crossing. */
static node_ref append_new(struct layout *layout, node_ref ref)
{
	const struct image_part *part = layout->part;
	uint32_t bytes = copied_bytes(layout, ref), at = layout->top_end;
	struct node_inner *inner = (void *)(layout->image + at);
	const struct node_inner *original;

	layout->top_end += bytes;
	layout->node_count++;
	if (ref == NEW_CROSSING) {
		crossing_init((void *)inner, part->lo, part->hi, part->crossing_id);
	} else {
		original = inner_at(layout->source, ref);
		layout->has_part = true;
		inner_init(inner, parted_type(layout), inner_prefix(original), parted_prefix_bytes(layout));
		if (part->is_rest)
			inner->terminal = original->terminal;
	}
	return (node_ref)(at / NODE_UNIT);
}

static node_ref append_top(struct layout *layout, node_ref ref)
{
	if (ref == NEW_CROSSING || is_parted(layout, ref))
		return append_new(layout, ref);
	return append(layout, &layout->top_end, ref);
}

static node_ref append_child(struct layout *layout, node_ref ref)
{
	return is_top(layout, ref) ? append_top(layout, ref) : append_cluster(layout, ref);
}

static void copy_children(struct layout *layout, struct node_inner *copy)
{
	node_ref refs[256];
	unsigned count = list_children(copy, refs);

	for (unsigned i = 0; i < count; i++)
		refs[i] = append_child(layout, refs[i]);
	set_children(copy, refs);
}

static void copy_part(struct layout *layout, node_ref copy)
{
	struct node_entry entry;

	for (unsigned from = 0; next_of_part(layout, from, &entry); from = entry.hi + 1) {
		node_ref child = append_child(layout, entry.ref);

		ASSERT(inner_add(layout->image, copy, entry.lo, entry.hi, child) == copy);
	}
}

static void copy_all(struct layout *layout)
{
	uint32_t at = FRAME_HEADER_BYTES;

	append_top(layout, layout->queue[0]);
	for (uint32_t i = 0; i < layout->count; i++) {
		struct node_inner *copy = (void *)(layout->image + at);

		if (node_is_inner((const void *)copy)) {
			if (from_le16(copy->terminal))
				copy->terminal = to_le16(append_cluster(layout, from_le16(copy->terminal)));
			if (is_parted(layout, layout->queue[i]))
				copy_part(layout, (node_ref)(at / NODE_UNIT));
			else
				copy_children(layout, copy);
		}
		at += node_bytes((const void *)copy);
	}
}

void image_lay_out(void *image, uint64_t frame_id, const void *source, uint32_t *sizes,
    const struct image_part *part)
{
	bool is_root = !part || part->is_rest;
	/* The list of nodes behind the sizes is not needed any more. */
	struct layout layout = {
	    .image = image,
	    .source = source,
	    .sizes = sizes,
	    .part = part,
	    .queue = (node_ref *)(sizes + FRAME_BYTES / NODE_UNIT),
	    .top_end = FRAME_HEADER_BYTES,
	};
	struct frame_header *header = image_header(image);

	image_init_heap(image, frame_id);
	layout.end = plan(&layout, is_root ? from_le16(image_header_const(source)->root) : part->node);
	copy_all(&layout);
	/* In a cluster it would have been copied whole, and the other part be named nowhere. */
	ASSERT(!part || layout.has_part);
	header->root = to_le16(FRAME_HEADER_BYTES / NODE_UNIT);
	header->heap_end = to_le32(layout.end);
	image_set_laid_out(image);
	header->live_bytes = to_le32(layout.end - FRAME_HEADER_BYTES);
	header->node_count = to_le32(layout.node_count);
}

int image_compact(void *image, const void *source)
{
	cleanup_free uint32_t *sizes = malloc(IMAGE_SIZES_BYTES);

	if (!sizes)
		return -ENOMEM;
	if (!image_sizes(source, sizes))
		return -EUCLEAN;
	image_lay_out(image, from_le64(image_header_const(source)->frame_id), source, sizes, NULL);
	return 0;
}
