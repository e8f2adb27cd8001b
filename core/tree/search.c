/*
 * The search within one frame image.
 *
 * The caller may hold a latch, or none at all: then a writer may be changing what is
 * read here, and the caller finds out when it validates the frame's version.  So
 *
 * 1. what decides where to read next is loaded once, into a variable, and bounded
 *    there: a second load could find something else;
 * 2. nothing outside the image is read, whatever the bytes say;
 * 3. each turn of the loop goes at least one byte forward in the key: it ends.
 *
 * What limits the speed is memory that is in no cache: a node is named by a reference in
 * the one above, so one is waited for after the other.  A node's first eight bytes are
 * loaded at once, and as soon as a reference is known, its first two cache lines are
 * asked for.
 *
 * Of the two links above the node where the search ends, because growing or replacing a
 * node changes the reference in its parent, and removing one may shrink, hence move,
 * the parent itself.
 */
#include "config.h"

#include "tree/image.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Most nodes end before: in the first line of a node, or the second. */
#define PREFETCH_LAST 47

/* ---- reading what may change ------------------------------------------------------ */

static inline uint32_t load_byte(const uint8_t *p)
{
	return *(const volatile uint8_t *)p;
}

static inline node_ref load_ref(const le16 *p)
{
	return le16toh(*(const volatile uint16_t *)&p->raw);
}

static inline uint64_t load_head(const void *image, node_ref ref)
{
	return node_head((const char *)image + (uint32_t)ref * NODE_UNIT);
}

static inline bool ref_is_inside(node_ref ref)
{
	return ref >= FRAME_HEADER_BYTES / NODE_UNIT;
}

/* Do @bytes from @ref on lie in the image? */
static inline bool is_inside(node_ref ref, uint64_t bytes)
{
	return ref_is_inside(ref) && bytes <= FRAME_BYTES - (uint32_t)ref * NODE_UNIT;
}

static inline bool leaf_is_inside(node_ref ref, uint64_t head)
{
	return is_inside(ref, head_leaf_base(head) + head_rest_bytes(head) +
				  (uint64_t)head_value_bytes(head));
}

static inline void prefetch_node(const void *image, node_ref ref)
{
	const char *node = (const char *)image + (uint32_t)ref * NODE_UNIT;

	__builtin_prefetch(node);
	__builtin_prefetch(node + PREFETCH_LAST);
}

/* ---- comparing --------------------------------------------------------------------- */

static inline uint64_t load_word(const uint8_t *p)
{
	uint64_t word;

	memcpy(&word, p, sizeof(word));
	return word;
}

static inline uint32_t load_half(const uint8_t *p)
{
	uint32_t half;

	memcpy(&half, p, sizeof(half));
	return half;
}

/* Whole words, the last one overlapping the one before. */
static inline bool bytes_are_equal(const uint8_t *a, const uint8_t *b, uint32_t bytes)
{
	uint32_t i;

	if (bytes >= 8) {
		for (i = 0; i + 8 < bytes; i += 8)
			if (load_word(a + i) != load_word(b + i))
				return false;
		return load_word(a + bytes - 8) == load_word(b + bytes - 8);
	}
	if (bytes >= 4)
		return load_half(a) == load_half(b) &&
		       load_half(a + bytes - 4) == load_half(b + bytes - 4);
	for (i = 0; i < bytes; i++)
		if (a[i] != b[i])
			return false;
	return true;
}

static uint32_t match_length(const uint8_t *a, uint32_t a_bytes, const uint8_t *b, uint32_t b_bytes)
{
	uint32_t end = min_of(a_bytes, b_bytes);
	uint32_t i = 0;

	while (i < end && a[i] == b[i])
		i++;
	return i;
}

/* ---- one node ---------------------------------------------------------------------- */

/* Bit i: the i-th of the sorted bytes is, or is not above, @byte. */
struct ranks {
	uint32_t equal, not_above;
};

#ifdef __SSE2__
static inline struct ranks compare_lanes(__m128i have, uint8_t byte, uint32_t count)
{
	__m128i want = _mm_set1_epi8((char)byte);
	uint32_t used = (1u << count) - 1;

	return (struct ranks){
	    .equal = used & (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(have, want)),
	    .not_above = used &
			 (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(have, want), have)),
	};
}

static inline struct ranks compare_4(const uint8_t *bytes, uint8_t byte, uint32_t count)
{
	return compare_lanes(_mm_cvtsi32_si128((int)load_half(bytes)), byte, min_of(count, 4u));
}

static inline struct ranks compare_16(const uint8_t *bytes, uint8_t byte, uint32_t count)
{
	return compare_lanes(_mm_loadu_si128((const __m128i *)bytes), byte, min_of(count, 16u));
}
#else
static inline struct ranks compare_bytes(const uint8_t *bytes, uint8_t byte, uint32_t count)
{
	struct ranks ranks = {0};

	for (uint32_t i = 0; i < count; i++) {
		uint32_t have = load_byte(bytes + i);

		ranks.equal |= (uint32_t)(have == byte) << i;
		ranks.not_above |= (uint32_t)(have <= byte) << i;
	}
	return ranks;
}

static inline struct ranks compare_4(const uint8_t *bytes, uint8_t byte, uint32_t count)
{
	return compare_bytes(bytes, byte, min_of(count, 4u));
}

static inline struct ranks compare_16(const uint8_t *bytes, uint8_t byte, uint32_t count)
{
	return compare_bytes(bytes, byte, min_of(count, 16u));
}
#endif

/* The entry with exactly @byte, or the crossing of the entry before that reaches it. */
static inline node_ref find_sorted(const void *image, const le16 *refs, struct ranks ranks, uint8_t byte)
{
	const struct node_crossing *crossing;
	node_ref ref;

	if (__builtin_expect(ranks.equal != 0, 1))
		return load_ref(&refs[__builtin_ctz(ranks.equal)]);
	if (!ranks.not_above)
		return 0;
	ref = load_ref(&refs[31 - __builtin_clz(ranks.not_above)]);
	if (!is_inside(ref, sizeof(*crossing)))
		return 0;
	crossing = (const void *)((const char *)image + (uint32_t)ref * NODE_UNIT);
	return load_byte(&crossing->type) == NODE_CROSSING && load_byte(&crossing->hi) >= byte ? ref : 0;
}

/* The child of the inner node at @ref for @byte, or 0. */
static inline node_ref find_child(const void *image, node_ref ref, uint64_t head, uint8_t byte)
{
	const void *node = (const char *)image + (uint32_t)ref * NODE_UNIT;
	uint32_t count = head_count(head), place;

	switch (head_type(head)) {
	case NODE_4: {
		const struct node_4 *n4 = node;

		return find_sorted(image, n4->refs, compare_4(n4->bytes, byte, count), byte);
	}
	case NODE_16: {
		const struct node_16 *n16 = node;

		return find_sorted(image, n16->refs, compare_16(n16->bytes, byte, count), byte);
	}
	case NODE_48: {
		const struct node_48 *n48 = node;

		place = load_byte(&n48->index[byte]);
		return place && place <= 48 ? load_ref(&n48->refs[place - 1]) : 0;
	}
	default:
		return load_ref(&((const struct node_256 *)node)->refs[byte]);
	}
}

static enum image_result compare_leaf(const void *image, node_ref ref, uint64_t head,
    const uint8_t *key, uint32_t key_bytes, uint32_t *ret_matched)
{
	const uint8_t *rest = leaf_bytes((const char *)image + (uint32_t)ref * NODE_UNIT, head);
	uint32_t rest_bytes = head_rest_bytes(head);

	if (!leaf_is_inside(ref, head))
		return IMAGE_DAMAGED;
	if (rest_bytes == key_bytes && bytes_are_equal(rest, key, rest_bytes)) {
		*ret_matched = rest_bytes;
		return IMAGE_FOUND;
	}
	*ret_matched = match_length(rest, rest_bytes, key, key_bytes);
	return IMAGE_IN_LEAF;
}

/* The search ends at the node's terminal, if it has one. */
static enum image_result check_terminal(const void *image, node_ref terminal)
{
	uint64_t head;

	if (!terminal)
		return IMAGE_NO_TERMINAL;
	if (!ref_is_inside(terminal))
		return IMAGE_DAMAGED;
	head = load_head(image, terminal);
	if (!head_is_leaf(head) || !leaf_is_inside(terminal, head))
		return IMAGE_DAMAGED;
	return IMAGE_FOUND;
}

/*
 * Past the prefix of the inner node at path->node, whose head is @head.  False: the search
 * ends here, and path->result says how.
 */
static inline bool pass_prefix(const void *image, uint64_t head, const uint8_t *key,
    uint32_t key_bytes, struct image_path *path)
{
	uint32_t base = inner_base_bytes(head_type(head));
	uint32_t prefix_bytes = head_prefix_bytes(head);
	uint32_t left = key_bytes - path->depth;
	const uint8_t *prefix;

	path->result = IMAGE_DAMAGED;
	if (!base || !is_inside(path->node, base + prefix_bytes))
		return false;
	path->matched = prefix_bytes;
	if (!prefix_bytes)
		return true;
	prefix = (const uint8_t *)image + (uint32_t)path->node * NODE_UNIT + base;
	if (left < prefix_bytes || !bytes_are_equal(prefix, key + path->depth, prefix_bytes)) {
		path->matched = match_length(prefix, prefix_bytes, key + path->depth, left);
		/* Else it has become equal meanwhile: somebody is writing. */
		if (path->matched < prefix_bytes)
			path->result = IMAGE_IN_PREFIX;
		return false;
	}
	path->depth += prefix_bytes;
	return true;
}

void image_find(const void *image, const uint8_t *key, uint32_t key_bytes, uint32_t depth,
    struct image_path *ret)
{
	struct image_path path = {.depth = depth};
	uint64_t head;

	path.node = load_ref(&image_header_const(image)->root);
	head = ref_is_inside(path.node) ? load_head(image, path.node) : 0;
	while (pass_prefix(image, head, key, key_bytes, &path)) {
		if (path.depth == key_bytes) {
			path.leaf = head_terminal(head);
			path.result = check_terminal(image, path.leaf);
			break;
		}
		path.leaf = find_child(image, path.node, head, key[path.depth]);
		if (!path.leaf) {
			path.result = IMAGE_NO_CHILD;
			break;
		}
		if (!ref_is_inside(path.leaf)) {
			path.result = IMAGE_DAMAGED;
			break;
		}
		prefetch_node(image, path.leaf);
		head = load_head(image, path.leaf);
		if (head_is_leaf(head)) {
			path.result = compare_leaf(image, path.leaf, head, key + path.depth + 1,
			    key_bytes - path.depth - 1, &path.matched);
			break;
		}
		if (head_type(head) == NODE_CROSSING) {
			path.result = is_inside(path.leaf, sizeof(struct node_crossing)) ? IMAGE_CROSSING :
											   IMAGE_DAMAGED;
			break;
		}
		path.grandparent = path.parent;
		path.grandparent_byte = path.parent_byte;
		path.parent = path.node;
		path.parent_byte = key[path.depth];
		path.node = path.leaf;
		path.leaf = 0;
		path.depth++;
	}
	*ret = path;
}

enum image_result image_leaf(const void *image, node_ref ref, struct image_leaf *ret)
{
	const char *leaf = (const char *)image + (uint32_t)ref * NODE_UNIT;
	uint64_t head = load_head(image, ref);

	if (!head_is_leaf(head) || !leaf_is_inside(ref, head))
		return IMAGE_DAMAGED;
	ret->value = leaf_bytes(leaf, head) + head_rest_bytes(head);
	ret->value_bytes = head_value_bytes(head);
	ret->seq = leaf_seq(leaf, head);
	return IMAGE_FOUND;
}

uint64_t image_crossing(const void *image, node_ref ref)
{
	const struct node_crossing *crossing = (const void *)((const char *)image + (uint32_t)ref * NODE_UNIT);

	return le64toh(*(const volatile uint64_t *)&crossing->frame_id.raw);
}
