/*
 * Nodes of one frame image.
 *
 * The heap of an image grows from the header upwards.  A freed node goes to a list
 * of its size (multiples of 8 up to 512 bytes); a larger one is dead until the
 * image is compacted, which copies what is alive (layout.c).  live_bytes counts what
 * compaction would keep.
 *
 * Entries of node4 and node16 are sorted by their (lowest) byte, so that the one
 * that may hold a byte is the last whose byte is not above it: a crossing and a
 * plain child are found by the same search.
 */
#include "config.h"

#include "tree/node.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/assert.h"

static const uint16_t inner_capacity[] = {
    [NODE_4] = 4, [NODE_16] = 16, [NODE_48] = 48, [NODE_256] = 256};

/* Entries at or below which a node takes the next smaller shape: with a margin, so
 * that one key coming and going does not rebuild it each time. */
static const uint16_t inner_shrink_at[] = {
    [NODE_4] = 0, [NODE_16] = 3, [NODE_48] = 12, [NODE_256] = 37};

/* ---- access -------------------------------------------------------------------- */

static uint8_t *inner_prefix_mutable(struct node_inner *inner)
{
	return (uint8_t *)inner_prefix(inner);
}

/* Sorted bytes and references of a node4 or node16. */
static const uint8_t *sorted_bytes(const struct node_inner *inner)
{
	return (const uint8_t *)inner + sizeof(*inner);
}

static const le16 *sorted_refs(const struct node_inner *inner)
{
	return inner->type == NODE_4 ? ((const struct node_4 *)inner)->refs :
				       ((const struct node_16 *)inner)->refs;
}

/* A count from disk may be anything: never walk past the arrays. */
static unsigned sorted_count(const struct node_inner *inner)
{
	return min_of((unsigned)from_le16(inner->count), (unsigned)inner_capacity[inner->type]);
}

/* How many of the sorted bytes are <= @byte. */
static unsigned sorted_rank(const struct node_inner *inner, uint8_t byte)
{
	const uint8_t *bytes = sorted_bytes(inner);
	unsigned count = sorted_count(inner);
	unsigned rank = 0;

#ifdef __SSE2__
	if (inner->type == NODE_16) {
		__m128i have = _mm_loadu_si128((const __m128i *)bytes);
		__m128i want = _mm_set1_epi8((char)byte);
		unsigned mask = (unsigned)_mm_movemask_epi8(
		    _mm_cmpeq_epi8(_mm_min_epu8(have, want), have));

		mask &= (1u << count) - 1;
		return mask ? 32 - (unsigned)__builtin_clz(mask) : 0;
	}
#endif
	while (rank < count && bytes[rank] <= byte)
		rank++;
	return rank;
}

static bool is_crossing_over(const void *image, node_ref ref, unsigned byte)
{
	const struct node *node = node_at(image, ref);

	return node && node->type == NODE_CROSSING &&
	       ((const struct node_crossing *)node)->hi >= byte;
}

node_ref inner_find(const void *image, const struct node_inner *inner, uint8_t byte)
{
	unsigned rank;
	node_ref ref;

	switch (inner->type) {
	case NODE_256:
		return from_le16(((const struct node_256 *)inner)->refs[byte]);
	case NODE_48:
		rank = ((const struct node_48 *)inner)->index[byte];
		return rank && rank <= 48 ? from_le16(((const struct node_48 *)inner)->refs[rank - 1]) : 0;
	default:
		rank = sorted_rank(inner, byte);
		if (!rank)
			return 0;
		ref = from_le16(sorted_refs(inner)[rank - 1]);
		if (sorted_bytes(inner)[rank - 1] == byte || is_crossing_over(image, ref, byte))
			return ref;
		return 0;
	}
}

/* Fills in an entry found at @byte; a crossing says its own range. */
static void entry_fill(const void *image, unsigned byte, node_ref ref, struct node_entry *ret)
{
	const struct node *node = node_at(image, ref);

	ret->lo = ret->hi = byte;
	ret->ref = ref;
	ret->node = node;
	if (node && node->type == NODE_CROSSING) {
		const struct node_crossing *crossing = (const void *)node;

		if (crossing->lo <= byte && byte <= crossing->hi) {
			ret->lo = crossing->lo;
			ret->hi = crossing->hi;
		}
	}
}

static bool sorted_next(const void *image, const struct node_inner *inner, unsigned from,
    struct node_entry *ret)
{
	unsigned count = sorted_count(inner);
	unsigned i = from ? sorted_rank(inner, (uint8_t)(from - 1)) : 0;

	/* The entry before may be a crossing that reaches up to @from. */
	for (i = i ? i - 1 : 0; i < count; i++) {
		entry_fill(image, sorted_bytes(inner)[i], from_le16(sorted_refs(inner)[i]), ret);
		if (ret->hi >= from)
			return true;
	}
	return false;
}

bool inner_next(const void *image, const struct node_inner *inner, unsigned from, struct node_entry *ret)
{
	if (from > 255)
		return false;
	if (inner->type == NODE_4 || inner->type == NODE_16)
		return sorted_next(image, inner, from, ret);
	for (unsigned byte = from; byte < 256; byte++) {
		node_ref ref = inner_find(image, inner, (uint8_t)byte);

		if (ref) {
			entry_fill(image, byte, ref, ret);
			return true;
		}
	}
	return false;
}

bool inner_last(const void *image, const struct node_inner *inner, struct node_entry *ret)
{
	for (unsigned byte = 256; byte > 0; byte--) {
		node_ref ref = inner_find(image, inner, (uint8_t)(byte - 1));

		if (ref) {
			entry_fill(image, byte - 1, ref, ret);
			return true;
		}
	}
	return false;
}

/* ---- the heap ---------------------------------------------------------------- */

uint32_t image_room(const void *image)
{
	return FRAME_BYTES - from_le32(image_header_const(image)->heap_end);
}

bool image_is_disordered(const void *image)
{
	const struct frame_header *header = image_header_const(image);
	uint32_t packed_end = FRAME_HEADER_BYTES + from_le32(header->live_bytes);

	return packed_end >= from_le32(header->laid_end) + DISORDER_MOST;
}

void image_set_laid_out(void *image)
{
	image_header(image)->laid_end = image_header(image)->heap_end;
}

uint32_t image_live_bytes(const void *image)
{
	return from_le32(image_header_const(image)->live_bytes);
}

static void account(void *image, int32_t bytes, int32_t nodes)
{
	struct frame_header *header = image_header(image);

	header->live_bytes = to_le32(from_le32(header->live_bytes) + (uint32_t)bytes);
	header->node_count = to_le32(from_le32(header->node_count) + (uint32_t)nodes);
}

/* List of chunks of exactly @bytes, or NULL for large ones. */
static le16 *free_list(void *image, uint32_t bytes)
{
	uint32_t class = bytes / NODE_UNIT - 1;

	return class < FRAME_FREE_CLASSES ? &image_header(image)->free_heads[class] : NULL;
}

static void *mutable_at(void *image, node_ref ref)
{
	return (char *)image + (uint32_t)ref * NODE_UNIT;
}

node_ref image_alloc(void *image, uint32_t bytes)
{
	struct frame_header *header = image_header(image);
	uint32_t end = from_le32(header->heap_end);
	le16 *list = free_list(image, bytes);
	node_ref ref;

	if (list && from_le16(*list)) {
		ref = from_le16(*list);
		*list = ((struct node_free *)mutable_at(image, ref))->next;
	} else {
		if (bytes > FRAME_BYTES - end)
			return 0;
		ref = (node_ref)(end / NODE_UNIT);
		header->heap_end = to_le32(end + bytes);
	}
	account(image, (int32_t)bytes, 1);
	return ref;
}

/* Gives the chunk [offset, offset + bytes) back to list or heap. */
static void give_back(void *image, uint32_t offset, uint32_t bytes)
{
	struct frame_header *header = image_header(image);
	struct node_free *chunk = (void *)((char *)image + offset);
	le16 *list = free_list(image, bytes);

	if (offset + bytes == from_le32(header->heap_end)) {
		header->heap_end = to_le32(offset);
		return;
	}
	memset(chunk, 0, sizeof(*chunk));
	if (list) {
		chunk->next = *list;
		*list = to_le16((node_ref)(offset / NODE_UNIT));
	}
}

void image_free(void *image, node_ref ref)
{
	uint32_t bytes = node_bytes(mutable_at(image, ref));

	ASSERT(bytes);
	account(image, -(int32_t)bytes, -1);
	give_back(image, (uint32_t)ref * NODE_UNIT, bytes);
}

void image_trim(void *image, node_ref ref, uint32_t old_bytes, uint32_t new_bytes)
{
	ASSERT(new_bytes <= old_bytes);
	if (new_bytes == old_bytes)
		return;
	account(image, (int32_t)new_bytes - (int32_t)old_bytes, 0);
	give_back(image, (uint32_t)ref * NODE_UNIT + new_bytes, old_bytes - new_bytes);
}

static void leaf_write_head(void *at, bool is_short, uint32_t rest_bytes, uint32_t value_bytes, uint64_t seq)
{
	struct node_short_leaf *leaf = at;

	if (is_short)
		leaf->head = to_le64(short_leaf_head(rest_bytes, value_bytes, seq));
	else
		*(struct node_leaf *)at = (struct node_leaf){
		    .type = NODE_LEAF,
		    .rest_bytes = to_le16((uint16_t)rest_bytes),
		    .value_bytes = to_le32(value_bytes),
		    .seq = to_le64(seq),
		};
}

node_ref image_new_leaf(void *image, const void *rest, uint32_t rest_bytes,
    const void *value, uint32_t value_bytes, uint64_t seq)
{
	bool is_short = leaf_can_be_short(rest_bytes, value_bytes, seq);
	uint32_t bytes = leaf_node_bytes(is_short, rest_bytes, value_bytes);
	node_ref ref = image_alloc(image, bytes);
	uint8_t *leaf = mutable_at(image, ref), *to;

	if (!ref)
		return 0;
	memset(leaf + bytes - NODE_UNIT, 0, NODE_UNIT);
	leaf_write_head(leaf, is_short, rest_bytes, value_bytes, seq);
	to = (uint8_t *)leaf_bytes(leaf, node_head(leaf));
	if (rest)
		memcpy(to, rest, rest_bytes);
	if (value)
		memcpy(to + rest_bytes, value, value_bytes);
	return ref;
}

bool image_can_set_value(const void *image, node_ref ref, uint32_t value_bytes, uint64_t seq_most)
{
	uint64_t head = node_head((const char *)image + (uint32_t)ref * NODE_UNIT);

	return head_value_bytes(head) == value_bytes &&
	       (!head_is_short_leaf(head) || seq_most < SHORT_LEAF_SEQ_END);
}

bool image_set_value(void *image, node_ref ref, const void *value, uint32_t value_bytes, uint64_t seq)
{
	void *leaf = mutable_at(image, ref);
	struct leaf_parts parts = leaf_take_apart(leaf);
	bool is_short = head_is_short_leaf(node_head(leaf));

	if (parts.value_bytes != value_bytes ||
	    (is_short && !leaf_can_be_short(parts.rest_bytes, value_bytes, seq)))
		return false;
	memcpy((uint8_t *)parts.value, value, value_bytes);
	leaf_write_head(leaf, is_short, parts.rest_bytes, value_bytes, seq);
	return true;
}

void image_cut_rest(void *image, node_ref ref, uint32_t bytes)
{
	uint8_t *leaf = mutable_at(image, ref);
	struct leaf_parts parts = leaf_take_apart(leaf);
	uint32_t kept = parts.rest_bytes - bytes;
	bool is_short = leaf_can_be_short(kept, parts.value_bytes, parts.seq);
	uint32_t old_bytes = node_bytes((const void *)leaf);
	uint8_t *to = leaf + (is_short ? sizeof(struct node_short_leaf) : sizeof(struct node_leaf));

	memmove(to, parts.rest + bytes, kept + parts.value_bytes);
	leaf_write_head(leaf, is_short, kept, parts.value_bytes, parts.seq);
	image_trim(image, ref, old_bytes, leaf_node_bytes(is_short, kept, parts.value_bytes));
}

void crossing_init(struct node_crossing *crossing, unsigned lo, unsigned hi, uint64_t frame_id)
{
	*crossing = (struct node_crossing){
	    .type = NODE_CROSSING,
	    .lo = (uint8_t)lo,
	    .hi = (uint8_t)hi,
	    .frame_id = to_le64(frame_id),
	};
}

node_ref image_new_crossing(void *image, unsigned lo, unsigned hi, uint64_t frame_id)
{
	node_ref ref = image_alloc(image, sizeof(struct node_crossing));

	if (ref)
		crossing_init(mutable_at(image, ref), lo, hi, frame_id);
	return ref;
}

void inner_init(struct node_inner *inner, enum node_type type, const void *prefix, uint32_t prefix_bytes)
{
	memset(inner, 0, inner_bytes(type, prefix_bytes));
	inner->type = (uint8_t)type;
	inner->prefix_bytes = to_le16((uint16_t)prefix_bytes);
	if (prefix)
		memcpy(inner_prefix_mutable(inner), prefix, prefix_bytes);
}

node_ref image_new_inner(void *image, enum node_type type, const void *prefix, uint32_t prefix_bytes)
{
	node_ref ref = image_alloc(image, inner_bytes(type, prefix_bytes));

	if (ref)
		inner_init(mutable_at(image, ref), type, prefix, prefix_bytes);
	return ref;
}

void image_init_heap(void *image, uint64_t frame_id)
{
	struct frame_header *header = image_header(image);

	memset(header, 0, sizeof(*header));
	header->magic = to_le32(TREE_FRAME_MAGIC);
	header->frame_id = to_le64(frame_id);
	header->heap_end = to_le32(FRAME_HEADER_BYTES);
	header->laid_end = to_le32(FRAME_HEADER_BYTES);
}

void image_init(void *image, uint64_t frame_id)
{
	image_init_heap(image, frame_id);
	image_header(image)->root = to_le16(image_new_inner(image, NODE_4, NULL, 0));
}

/* ---- adding, replacing and removing entries ----------------------------------- */

static void sorted_insert(struct node_inner *inner, uint8_t byte, node_ref child)
{
	uint8_t *bytes = (uint8_t *)sorted_bytes(inner);
	le16 *refs = (le16 *)sorted_refs(inner);
	unsigned count = from_le16(inner->count);
	unsigned at = sorted_rank(inner, byte);

	memmove(bytes + at + 1, bytes + at, count - at);
	memmove(refs + at + 1, refs + at, (count - at) * sizeof(*refs));
	bytes[at] = byte;
	refs[at] = to_le16(child);
}

/* @inner has place for one more entry. */
static void entry_insert(struct node_inner *inner, unsigned lo, unsigned hi, node_ref child)
{
	struct node_48 *n48 = (void *)inner;
	unsigned place = 0;

	switch (inner->type) {
	case NODE_256:
		for (unsigned b = lo; b <= hi; b++)
			((struct node_256 *)inner)->refs[b] = to_le16(child);
		break;
	case NODE_48:
		while (from_le16(n48->refs[place]))
			place++;
		ASSERT(place < 48);
		n48->refs[place] = to_le16(child);
		memset(n48->index + lo, (int)place + 1, hi - lo + 1);
		break;
	default:
		sorted_insert(inner, (uint8_t)lo, child);
	}
	inner->count = to_le16(from_le16(inner->count) + 1);
}

/* Rebuilds a node in another shape; 0 when there is no room. */
static node_ref reshape(void *image, node_ref ref, enum node_type type)
{
	struct node_inner *old = mutable_at(image, ref);
	node_ref new_ref = image_new_inner(image, type, inner_prefix(old), from_le16(old->prefix_bytes));
	struct node_inner *new = mutable_at(image, new_ref);
	struct node_entry entry;

	if (!new_ref)
		return 0;
	new->terminal = old->terminal;
	for (unsigned from = 0; inner_next(image, old, from, &entry); from = entry.hi + 1)
		entry_insert(new, entry.lo, entry.hi, entry.ref);
	image_free(image, ref);
	return new_ref;
}

node_ref inner_add(void *image, node_ref node, unsigned lo, unsigned hi, node_ref child)
{
	struct node_inner *inner = mutable_at(image, node);

	if (from_le16(inner->count) == inner_capacity[inner->type]) {
		node = reshape(image, node, (enum node_type)(inner->type + 1));
		if (!node)
			return 0;
	}
	entry_insert(mutable_at(image, node), lo, hi, child);
	return node;
}

void inner_set(void *image, node_ref node, unsigned lo, unsigned hi, node_ref child)
{
	struct node_inner *inner = mutable_at(image, node);
	struct node_48 *n48 = (void *)inner;

	switch (inner->type) {
	case NODE_256:
		for (unsigned b = lo; b <= hi; b++)
			((struct node_256 *)inner)->refs[b] = to_le16(child);
		break;
	case NODE_48:
		n48->refs[n48->index[lo] - 1] = to_le16(child);
		break;
	default:
		((le16 *)sorted_refs(inner))[sorted_rank(inner, (uint8_t)lo) - 1] = to_le16(child);
	}
}

static void entry_delete(struct node_inner *inner, unsigned lo, unsigned hi)
{
	struct node_48 *n48 = (void *)inner;
	unsigned count = from_le16(inner->count);
	uint8_t *bytes;
	le16 *refs;
	unsigned at;

	switch (inner->type) {
	case NODE_256:
		memset(&((struct node_256 *)inner)->refs[lo], 0, (hi - lo + 1) * sizeof(le16));
		break;
	case NODE_48:
		n48->refs[n48->index[lo] - 1] = to_le16(0);
		memset(n48->index + lo, 0, hi - lo + 1);
		break;
	default:
		bytes = (uint8_t *)sorted_bytes(inner);
		refs = (le16 *)sorted_refs(inner);
		at = sorted_rank(inner, (uint8_t)lo) - 1;
		memmove(bytes + at, bytes + at + 1, count - at - 1);
		memmove(refs + at, refs + at + 1, (count - at - 1) * sizeof(*refs));
		bytes[count - 1] = 0;
		refs[count - 1] = to_le16(0);
	}
	inner->count = to_le16((uint16_t)(count - 1));
}

void inner_narrow(void *image, node_ref node, node_ref ref, unsigned lo, unsigned hi)
{
	struct node_crossing *crossing = mutable_at(image, ref);
	struct node_inner *inner = mutable_at(image, node);
	unsigned before = lo - crossing->lo, behind = crossing->hi - hi;

	ASSERT(crossing->lo <= lo && lo <= hi && hi <= crossing->hi);
	switch (inner->type) {
	case NODE_256:
		memset(&((struct node_256 *)inner)->refs[crossing->lo], 0, before * sizeof(le16));
		memset(&((struct node_256 *)inner)->refs[hi + 1], 0, behind * sizeof(le16));
		break;
	case NODE_48:
		memset(((struct node_48 *)inner)->index + crossing->lo, 0, before);
		memset(((struct node_48 *)inner)->index + hi + 1, 0, behind);
		break;
	default:
		/* No other entry lies in between: the order stays. */
		((uint8_t *)sorted_bytes(inner))[sorted_rank(inner, crossing->lo) - 1] = (uint8_t)lo;
	}
	crossing->lo = (uint8_t)lo;
	crossing->hi = (uint8_t)hi;
}

node_ref inner_remove(void *image, node_ref node, unsigned lo, unsigned hi, uint32_t keep_bytes)
{
	struct node_inner *inner = mutable_at(image, node);
	node_ref smaller;

	entry_delete(inner, lo, hi);
	if (inner->type == NODE_4 || from_le16(inner->count) > inner_shrink_at[inner->type])
		return node;
	if (image_room(image) < inner_bytes(inner->type, from_le16(inner->prefix_bytes)) +
				    IMAGE_SLACK + keep_bytes)
		return node;
	smaller = reshape(image, node, (enum node_type)(inner->type - 1));
	return smaller ? smaller : node;
}
