/*
 * What a scan takes of one node in loops: leaves, and common prefixes.
 *
 * This is where a scan spends its time: in short leaves (format/node.h) of small nodes
 * mostly, for which there is a loop of their own, any others, and with a delimiter, in
 * nodes that it goes past.
 */
#include "config.h"

#include "tree/scan.h"

static inline bool has_delimiter_in(const uint8_t *rest, uint32_t rest_bytes, uint8_t byte, uint8_t delimiter)
{
	return byte == delimiter || (rest_bytes && memchr(rest, delimiter, rest_bytes));
}

/* All it needs is in locals, because stores of bytes may change anything else in the compiler's
 * eyes.  The entry's byte goes straight to the run and not by way of the path: a wide load of
 * a byte just stored is slow. */
static enum scan_taken take_leaves(struct tree_scan *scan, node_ref *ret_ref, uint8_t *ret_byte)
{
	struct tree_level level = *scan_level(scan);
	const void *const image = scan->image, *const node = node_place(image, level.node);
	const bool has_delimiter = scan->has_delimiter && level.path_bytes >= scan->prefix_bytes;
	const uint64_t value_mask = scan->keys_only ? 0 : UINT32_MAX;
	const uint32_t at = level.path_bytes, key_room = scan->key.size - COPY_SLACK;
	const uint8_t *const path = scan->path.bytes;
	uint8_t *const first = scan->bytes.bytes;
	uint8_t *const end = first + scan->bytes.size - COPY_SLACK;
	uint8_t *out = first + scan->bytes.used;
	struct tree_item *item = scan->items + scan->count, *const last = scan->items + scan->limit;
	uint32_t shared = min_of(scan->shared, at);
	enum scan_taken taken = TAKEN_FULL;
	node_ref ref = 0;
	uint8_t byte = 0;

	while (item < last && out - first < (ptrdiff_t)TREE_RUN_BYTES) {
		const void *leaf;
		const uint8_t *rest;
		uint32_t rest_bytes;
		uint64_t head, bytes;

		if (!scan_next_entry(node, &level, &ref, &byte)) {
			taken = TAKEN_ALL;
			break;
		}
		leaf = node_place(image, ref);
		head = node_head(leaf);
		rest_bytes = head_rest_bytes(head);
		rest = leaf_bytes(leaf, head);
		bytes = rest_bytes + (head_value_bytes(head) & value_mask);
		taken = TAKEN_CHILD;
		if (!head_is_leaf(head) || ref < NODE_REF_FIRST ||
		    ref * NODE_UNIT + head_leaf_base(head) + bytes > FRAME_BYTES ||
		    bytes + (at + 1 - shared) > (uint64_t)(end - out) || at + 1 + rest_bytes > key_room)
			break;
		if (has_delimiter && has_delimiter_in(rest, rest_bytes, byte, scan->delimiter))
			break;
		taken = TAKEN_FULL;
		item->version = leaf_seq(leaf, head);
		item->shared_bytes = shared;
		item->key_bytes = at + 1 + rest_bytes;
		item->offset = (uint32_t)(out - first);
		item->value_bytes = (uint32_t)bytes - rest_bytes;
		item++;
		if (shared < at) {
			copy_bytes(out, path + shared, at - shared);
			out += at - shared;
			shared = at;
		}
		*out++ = byte;
		copy_bytes(out, rest, bytes);
		out += bytes;
	}
	scan->bytes.used = (uint32_t)(out - first);
	scan->count = (uint32_t)(item - scan->items);
	scan->shared = shared;
	*scan_level(scan) = level;
	*ret_ref = ref;
	*ret_byte = byte;
	return taken;
}

/* A short leaf at any of these lies in the frame, whatever its lengths are. */
#define SHORT_LEAF_MOST (sizeof(struct node_short_leaf) + SHORT_LEAF_REST_MAX + SHORT_LEAF_VALUE_MAX)
#define SHORT_LEAF_REFS ((FRAME_BYTES - SHORT_LEAF_MOST) / NODE_UNIT - NODE_REF_FIRST)

/*
 * The same for most of what scans take: short leaves of a node4 or node16.  As what such a
 * leaf has is bounded by its form, there is one test for where it lies and one for the room
 * it needs.  False: the level or the buffers do not allow it.
 */
static bool take_short_leaves(struct tree_scan *scan, node_ref *ret_ref, uint8_t *ret_byte, enum scan_taken *ret_taken)
{
	struct tree_level *level = scan_level(scan);
	const char *const image = scan->image;
	const uint8_t *const node = node_place(image, level->node), *const bytes = node + sizeof(struct node_inner);
	const le16 *const refs = level->type == NODE_4 ? ((const struct node_4 *)node)->refs : ((const struct node_16 *)node)->refs;
	const uint32_t at = level->path_bytes, places = level->type == NODE_4 ? 3 : 15;
	const uint32_t value_mask = scan->keys_only ? 0 : UINT32_MAX;
	uint8_t *const first = scan->bytes.bytes;
	uint8_t *from = first + scan->bytes.used, *out;
	uint8_t *const end = first + min_of(scan->bytes.size - COPY_SLACK - SHORT_LEAF_MOST, TREE_RUN_BYTES);
	struct tree_item *item = scan->items + scan->count, *const last = scan->items + scan->limit;
	uint32_t shared = min_of(scan->shared, at);
	uint64_t mask = level->mask;

	if (level->type > NODE_16 || scan->has_delimiter || (ptrdiff_t)(at - shared) >= end - from ||
	    scan->key.size < at + 1 + SHORT_LEAF_REST_MAX + COPY_SLACK)
		return false;
	copy_bytes(from, scan->path.bytes + shared, at - shared);
	out = from + (at - shared);
	*ret_taken = TAKEN_ALL;
	for (; mask; mask &= mask - 1) {
		uint32_t place = (uint32_t)__builtin_ctzll(mask) & places, ref = from_le16(refs[place]), rest_bytes;
		uint64_t head;

		if (item == last || out >= end) {
			*ret_taken = TAKEN_FULL;
			break;
		}
		head = node_head(image + ref * NODE_UNIT);
		if (ref - NODE_REF_FIRST > SHORT_LEAF_REFS || !head_is_short_leaf(head)) {
			*ret_taken = TAKEN_CHILD;
			*ret_ref = (node_ref)ref;
			*ret_byte = bytes[place];
			mask &= mask - 1;
			break;
		}
		rest_bytes = head_rest_bytes(head);
		item->version = leaf_seq(NULL, head);
		item->shared_bytes = shared;
		item->key_bytes = at + 1 + rest_bytes;
		item->offset = (uint32_t)(from - first);
		item->value_bytes = head_value_bytes(head) & value_mask;
		*out++ = bytes[place];
		copy_bytes(out, (const uint8_t *)image + ref * NODE_UNIT + sizeof(struct node_short_leaf),
		    rest_bytes + item->value_bytes);
		out += rest_bytes + item->value_bytes;
		from = out;
		shared = at;
		item++;
	}
	level->mask = mask;
	scan->bytes.used = (uint32_t)(from - first);
	scan->count = (uint32_t)(item - scan->items);
	scan->shared = shared;
	return true;
}

enum scan_taken scan_take_leaves(struct tree_scan *scan, node_ref *ret_ref, uint8_t *ret_byte)
{
	enum scan_taken taken;

	if (!take_short_leaves(scan, ret_ref, ret_byte, &taken))
		taken = take_leaves(scan, ret_ref, ret_byte);
	return taken;
}

/* The common prefix of what lies below the inner node @ref, reached by @byte: how many bytes
 * it has with and behind @byte.  0: here is none to be seen.  Those behind are @ret. */
static uint32_t group_bytes(const void *image, node_ref ref, uint8_t byte, uint8_t delimiter, const uint8_t **ret)
{
	const uint8_t *node = node_place(image, ref), *found;
	uint64_t head = node_head(node);
	uint32_t prefix_bytes = head_prefix_bytes(head), prefix_at = inner_prefix_at(head_type(head));

	if (!head_is_inner(head) || ref < NODE_REF_FIRST)
		return 0;
	*ret = node + prefix_at;
	if (byte == delimiter)
		return 1;
	if (!prefix_bytes || ref * NODE_UNIT + prefix_at + prefix_bytes > FRAME_BYTES)
		return 0;
	found = memchr(*ret, delimiter, prefix_bytes);
	return found ? (uint32_t)(found - *ret) + 2 : 0;
}

enum scan_taken scan_take_groups(struct tree_scan *scan, node_ref *ret_ref, uint8_t *ret_byte)
{
	struct tree_level level = *scan_level(scan);
	const void *const image = scan->image, *const node = node_place(image, level.node);
	const bool is_certain = level.path_bytes >= scan->prefix_bytes && !scan_has_empty_frames(scan);
	const uint32_t at = level.path_bytes, key_room = scan->key.size - COPY_SLACK;
	const uint8_t delimiter = scan->delimiter, *const path = scan->path.bytes;
	uint8_t *const first = scan->bytes.bytes, *const end = first + scan->bytes.size - COPY_SLACK;
	uint8_t *out = first + scan->bytes.used;
	struct tree_item *item = scan->items + scan->count, *const last = scan->items + scan->limit;
	uint32_t shared = min_of(scan->shared, at);
	enum scan_taken taken = TAKEN_FULL;
	node_ref ref = 0;
	uint8_t byte = 0;

	while (item < last && out - first < (ptrdiff_t)TREE_RUN_BYTES) {
		const uint8_t *prefix;
		uint32_t bytes;

		if (!scan_next_entry(node, &level, &ref, &byte)) {
			taken = TAKEN_ALL;
			break;
		}
		bytes = is_certain ? group_bytes(image, ref, byte, delimiter, &prefix) : 0;
		if (!bytes || bytes + (at - shared) > (uint64_t)(end - out) || at + bytes > key_room) {
			taken = TAKEN_CHILD;
			break;
		}
		*item++ = (struct tree_item){
		    .shared_bytes = shared,
		    .key_bytes = at + bytes,
		    .offset = (uint32_t)(out - first),
		    .value_bytes = TREE_ITEM_PREFIX,
		};
		copy_bytes(out, path + shared, at - shared);
		out += at - shared;
		shared = at;
		*out = byte;
		copy_bytes(out + 1, prefix, bytes - 1);
		out += bytes;
	}
	scan->bytes.used = (uint32_t)(out - first);
	scan->count = (uint32_t)(item - scan->items);
	scan->shared = shared;
	*scan_level(scan) = level;
	*ret_ref = ref;
	*ret_byte = byte;
	return taken;
}
