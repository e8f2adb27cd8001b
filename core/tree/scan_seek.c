/*
 * A scan's way down to the key it begins at.
 *
 * As long as the path equals the beginning of the key the way is *exact*: of each node
 * the entries below the key's next byte are passed over, and a level is pushed for those
 * above it.  But not where the path is still within the range's prefix: what lies beside
 * it is not in the range.  So the walk ends by itself where the range does.
 *
 *     prefix "us", key "usr/lib"
 *
 *     "" ---'u'---> "u" ---'s'---> "us" ---'r'---> "usr/" ---'l'---> ...
 *     no level      no level       level: t..      level: m..
 *
 * The whole key is put into the path's buffer first, so on the exact way the path need
 * not be built.
 */
#include "config.h"

#include "tree/scan.h"

#include <errno.h>

/* The walk goes on behind a common prefix, and the path has come to it. */
static bool is_passed_over(const struct tree_scan *scan, uint32_t depth)
{
	return scan->is_after && scan->seek_group && scan->seek_group == scan->key.used &&
	       depth >= scan->seek_group;
}

/* The path has come this far along the key. */
static void note_depth(struct tree_scan *scan, uint32_t depth)
{
	scan->depth = depth;
	if (scan->seek_group && depth >= scan->seek_group)
		scan->group = scan->seek_group;
}

/* What is behind @byte in the node stays to be visited.  Finds the child for @byte. */
static int push_behind(struct tree_scan *scan, node_ref ref, uint64_t head, uint8_t byte, node_ref *ret)
{
	const uint8_t *node = node_place(scan->image, ref);
	struct tree_level level = {.node = ref, .type = (uint8_t)head_type(head), .path_bytes = scan->depth};
	unsigned hi = byte;
	uint64_t child;

	if (level.type <= NODE_16) {
		unsigned rank = sorted_not_above(node, head, byte);

		*ret = rank ? sorted_ref(node, level.type, rank - 1) : 0;
		if (*ret && sorted_byte(node, rank - 1) != byte) {
			child = node_head(node_place(scan->image, *ret));
			if (head_type(child) != NODE_CROSSING || head_hi(child) < byte)
				*ret = 0;
		}
		level.word = ENTRY_WORDS - 1;
		level.mask = sorted_places(head) & ~0ull << rank;
	} else {
		*ret = indexed_ref(node, level.type, byte);
		child = *ret ? node_head(node_place(scan->image, *ret)) : 0;
		if (head_type(child) == NODE_CROSSING)
			hi = max_of(hi, head_hi(child));
		level.word = (uint8_t)(hi / 64);
		level.mask = entry_word(node, level.type, level.word) & ~1ull << (hi % 64);
	}
	/* Beside the path within the prefix nothing is in the range. */
	return scan->depth < scan->prefix_bytes ? 0 : scan_push(scan, &level);
}

/* The key ends at this node: all of its entries are behind it. */
static int take_all(struct tree_scan *scan, node_ref ref, uint64_t head)
{
	struct tree_level level = {.node = ref, .type = (uint8_t)head_type(head), .path_bytes = scan->depth};
	int err;

	scan->is_exact = false;
	if (level.type <= NODE_16) {
		level.word = ENTRY_WORDS - 1;
		level.mask = sorted_places(head);
	} else {
		level.mask = entry_word(node_place(scan->image, ref), level.type, 0);
	}
	err = scan_push(scan, &level);
	if (!err && head_terminal(head) && !scan->is_after)
		err = scan_take_leaf(scan, head_terminal(head), scan->depth);
	return err;
}

static int reach_leaf(struct tree_scan *scan, node_ref ref, uint64_t head)
{
	const uint8_t *rest_at = leaf_bytes(node_place(scan->image, ref), head);
	uint32_t rest = scan->key.used - scan->depth, rest_bytes = head_rest_bytes(head);
	uint32_t same = match_bytes(rest_at, scan->key.bytes + scan->depth, min_of(rest, rest_bytes));

	scan->is_exact = false;
	if (is_passed_over(scan, scan->depth + same))
		return 0;
	if (same < rest) {
		if (same == rest_bytes || rest_at[same] < scan->key.bytes[scan->depth + same] ||
		    scan->depth + same < scan->prefix_bytes)
			return 0;
	} else if (same == rest_bytes && scan->is_after) {
		return 0;
	}
	return scan_take_leaf(scan, ref, scan->depth);
}

static int reach_crossing(struct tree_scan *scan, const struct node_crossing *crossing, uint64_t head)
{
	struct tree_stop *stop = scan_stop(scan);

	stop->hop_hi = (uint8_t)max_of(head_hi(head), (unsigned)scan->key.bytes[scan->depth]);
	stop->hop_level = scan->level_count;
	scan->hop_id = from_le64(crossing->frame_id);
	scan->has_hop = true;
	return 0;
}

/* The node's prefix.  0: the key leads out of it here or ends in it, and what there was
 * to do is done; 1: go on below; or an error. */
static int pass_prefix(struct tree_scan *scan, node_ref ref, uint64_t head)
{
	const uint8_t *node = node_place(scan->image, ref);
	uint32_t prefix_bytes = head_prefix_bytes(head), start = scan->depth;
	uint32_t rest = scan->key.used - start, most = min_of(rest, prefix_bytes), same;
	uint32_t prefix_at = inner_prefix_at(head_type(head));
	const uint8_t *prefix = node + prefix_at;

	if (ref * NODE_UNIT + prefix_at + prefix_bytes > FRAME_BYTES)
		return -EUCLEAN;
	same = match_bytes(prefix, scan->key.bytes + start, most);
	note_depth(scan, start + same);
	if (same == prefix_bytes)
		return 1;
	scan->is_exact = false;
	if (is_passed_over(scan, start + same) || start + same < scan->prefix_bytes)
		return 0;
	if (same < rest && prefix[same] < scan->key.bytes[start + same])
		return 0;
	return scan_enter(scan, ref, start);
}

int scan_seek_down(struct tree_scan *scan, node_ref ref)
{
	for (unsigned levels = 0; levels < FRAME_NODES_MAX; levels++) {
		const void *node = node_place(scan->image, ref);
		uint64_t head = node_head(node);
		int err;

		if (!head_is_inner(head) || ref < NODE_REF_FIRST)
			return -EUCLEAN;
		err = pass_prefix(scan, ref, head);
		if (err != 1)
			return err;
		if (is_passed_over(scan, scan->depth)) {
			scan->is_exact = false;
			return 0;
		}
		if (scan->depth == scan->key.used)
			return take_all(scan, ref, head);
		err = push_behind(scan, ref, head, scan->key.bytes[scan->depth], &ref);
		if (err)
			return err;
		if (!ref)
			break;
		node = node_place(scan->image, ref);
		head = node_head(node);
		if (head_type(head) == NODE_CROSSING)
			return reach_crossing(scan, node, head);
		note_depth(scan, scan->depth + 1);
		if (head_is_leaf(head) && ref >= NODE_REF_FIRST)
			return reach_leaf(scan, ref, head);
	}
	scan->is_exact = false;
	return 0;
}
