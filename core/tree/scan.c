/*
 * Scanning: items of a range in key order, copied out a run at a time.
 *
 * The walk keeps a stack of levels (a node and which of its entries are still to be
 * visited, entries.h) and the bytes of the path to the topmost.  scan_seek.c makes them
 * for the key where the walk begins, scan_frames.c takes the walk from frame to frame and
 * makes sure that what was read is true.
 *
 *      path   / u s r / l i b / l i b c
 *             ^         ^         ^
 *         level 0    level 1    level 2: of node "lib", entries . b c x, x to do
 *
 * A run holds the bytes of its items one behind the other.  A key is written from where
 * it differs from the one before:
 *
 *      items  {shared 0, key 10}   {shared 9, key 10}   {shared 5, key 12}
 *      bytes  /usr/lib/a value     b value              local/x value
 *
 * So the part of the path that many keys share is neither copied nor kept for each.
 * Where the walk stopped, levels and path stay as they are: if frame and tree are still
 * the same the next run goes on there.  Nothing is held between runs.
 *
 * Common prefixes.  When the path, or a leaf's rest, has the delimiter behind the range's
 * prefix, `group` is the length up to and with it.  The first leaf met then is not an
 * item, but the group is, and the levels within it go: what lies there is not walked.
 *
 * Garbage.  An optimistic reader may be reading nodes that are just being changed.  Any
 * reference leads into the slab, lengths are bounded before they are used, a frame has a
 * bounded number of levels.  What looks damaged is an error only if the frame is found
 * unchanged.
 */
#include "config.h"

#include "tree/scan.h"

#include <stdlib.h>

#include "base/assert.h"
#include "tree/tree_internal.h"

#ifdef SANITIZE_THREAD
#define IS_OPTIMISTIC false
#else
#define IS_OPTIMISTIC true
#endif

/* ---- memory ------------------------------------------------------------------------ */

int buffer_reserve(struct scan_buffer *buffer, uint32_t bytes)
{
	uint64_t size = max_of(buffer->size, 256u);
	uint8_t *grown;

	bytes += COPY_SLACK;
	if (bytes <= buffer->size)
		return 0;
	while (size < bytes)
		size *= 2;
	grown = realloc(buffer->is_own ? buffer->bytes : NULL, size);
	if (!grown)
		return -ENOMEM;
	if (!buffer->is_own)
		memcpy(grown, buffer->bytes, buffer->size);
	buffer->bytes = grown;
	buffer->size = (uint32_t)size;
	buffer->is_own = true;
	return 0;
}

static void buffer_init(struct scan_buffer *buffer, uint8_t *first, uint32_t size)
{
	*buffer = (struct scan_buffer){.bytes = first, .size = size};
}

static void buffer_fini(struct scan_buffer *buffer)
{
	if (buffer->is_own)
		free(buffer->bytes);
}

void tree_scan_init(struct tree_scan *scan, struct tree *tree)
{
	/* Not all of it: the arrays are large. */
	memset(scan, 0, offsetof(struct tree_scan, items));
	scan->tree = tree;
	buffer_init(&scan->bytes, scan->first_bytes, sizeof(scan->first_bytes));
	buffer_init(&scan->path, scan->first_path, sizeof(scan->first_path));
	buffer_init(&scan->key, scan->first_key, sizeof(scan->first_key));
	scan->levels = scan->first_levels;
	scan->level_size = ARRAY_COUNT(scan->first_levels);
	scan->stops = scan->first_stops;
	scan->stop_size = ARRAY_COUNT(scan->first_stops);
	scan->is_over = true;
}

void tree_scan_fini(struct tree_scan *scan)
{
	buffer_fini(&scan->bytes);
	buffer_fini(&scan->path);
	buffer_fini(&scan->key);
	if (scan->levels != scan->first_levels)
		free(scan->levels);
	if (scan->stops != scan->first_stops)
		free(scan->stops);
}

static int grow_levels(struct tree_scan *scan)
{
	uint32_t size = 2 * scan->level_size;
	bool is_first = scan->levels == scan->first_levels;
	struct tree_level *grown = realloc(is_first ? NULL : scan->levels, size * sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	if (is_first)
		memcpy(grown, scan->first_levels, sizeof(scan->first_levels));
	scan->levels = grown;
	scan->level_size = size;
	return 0;
}

int scan_push(struct tree_scan *scan, const struct tree_level *level)
{
	int err;

	/* Nodes that lead back, or share what is below them, would be walked for ever. */
	if (++scan_stop(scan)->entered > FRAME_NODES_MAX)
		return -EUCLEAN;
	if (scan->level_count == scan->level_size) {
		err = grow_levels(scan);
		if (err)
			return err;
	}
	scan->levels[scan->level_count++] = *level;
	return 0;
}

/* ---- items ---------------------------------------------------------------------------- */

/* The length of the common prefix if @bytes, which stand at @at of the key, have the
 * delimiter behind the range's prefix; else 0. */
static uint32_t find_group(const struct tree_scan *scan, const uint8_t *bytes, uint32_t count, uint32_t at)
{
	uint32_t skip = scan->prefix_bytes > at ? scan->prefix_bytes - at : 0;
	const uint8_t *found;

	if (!scan->has_delimiter || skip >= count)
		return 0;
	found = memchr(bytes + skip, scan->delimiter, count - skip);
	return found ? at + (uint32_t)(found - bytes) + 1 : 0;
}

/* Appends an item whose key is the path's @path_bytes and @rest, and @value_bytes behind
 * that rest. */
static int append(struct tree_scan *scan, uint32_t path_bytes, const uint8_t *rest,
    uint32_t rest_bytes, uint32_t value_bytes, struct tree_item **ret)
{
	uint32_t shared = min_of(scan->shared, path_bytes), copied = path_bytes - shared;
	struct tree_item *item = &scan->items[scan->count];
	int err = buffer_reserve(&scan->bytes, scan->bytes.used + copied + rest_bytes + value_bytes);

	if (!err)
		err = buffer_reserve(&scan->key, path_bytes + rest_bytes);
	if (err)
		return err;
	item->shared_bytes = shared;
	item->key_bytes = path_bytes + rest_bytes;
	item->offset = scan->bytes.used;
	item->value_bytes = value_bytes;
	memcpy(scan->bytes.bytes + item->offset, scan->path.bytes + shared, copied);
	if (rest_bytes + value_bytes)
		memcpy(scan->bytes.bytes + item->offset + copied, rest, rest_bytes + value_bytes);
	scan->bytes.used += copied + rest_bytes + value_bytes;
	scan->count++;
	*ret = item;
	return 0;
}

/* The group's first leaf was found, its key @path_bytes of the path and then @rest. */
static int take_group(struct tree_scan *scan, uint32_t group, uint32_t path_bytes, const uint8_t *rest)
{
	uint32_t of_path = min_of(group, path_bytes);
	struct tree_item *item;
	int err = append(scan, of_path, rest, group - of_path, 0, &item);

	if (err)
		return err;
	item->version = 0;
	item->value_bytes = TREE_ITEM_PREFIX;
	scan->shared = of_path;
	scan->group = 0;
	while (scan->level_count && scan_level(scan)->path_bytes >= group)
		scan->level_count--;
	return 0;
}

/* The leaf @ref, whose key is the path's @path_bytes and its rest. */
int scan_take_leaf(struct tree_scan *scan, node_ref ref, uint32_t path_bytes)
{
	const void *leaf = node_place(scan->image, ref);
	uint64_t head = node_head(leaf);
	const uint8_t *rest = leaf_bytes(leaf, head);
	uint32_t rest_bytes = head_rest_bytes(head), value_bytes = head_value_bytes(head);
	uint32_t group = scan->group;
	struct tree_item *item;
	int err;

	if (ref < NODE_REF_FIRST || !head_is_leaf(head) ||
	    (uint64_t)ref * NODE_UNIT + head_leaf_base(head) + rest_bytes + value_bytes > FRAME_BYTES)
		return -EUCLEAN;
	/* The path was looked through when its nodes were entered, but for its last byte. */
	if (!group && path_bytes)
		group = find_group(scan, scan->path.bytes + path_bytes - 1, 1, path_bytes - 1);
	if (!group)
		group = find_group(scan, rest, rest_bytes, path_bytes);
	if (group)
		return take_group(scan, group, path_bytes, rest);
	err = append(scan, path_bytes, rest, rest_bytes, scan->keys_only ? 0 : value_bytes, &item);
	if (err)
		return err;
	item->version = leaf_seq(leaf, head);
	scan->shared = path_bytes;
	return 0;
}

/* ---- nodes ---------------------------------------------------------------------------- */

/* What is read soon: the nodes that a small node's entries lead to. */
static inline void prefetch_children(const void *image, const void *node, uint64_t head)
{
	const le16 *refs = head_type(head) == NODE_4 ? ((const struct node_4 *)node)->refs :
						       ((const struct node_16 *)node)->refs;
	unsigned count = min_of(head_count(head), head_type(head) == NODE_4 ? 4u : 16u);

	for (unsigned i = 0; i < count; i++)
		__builtin_prefetch(node_place(image, from_le16(refs[i])));
}

/* Enters an inner node, all of which is to be visited: its prefix joins the path at
 * @start. */
int scan_enter(struct tree_scan *scan, node_ref ref, uint32_t start)
{
	const uint8_t *node = node_place(scan->image, ref);
	uint64_t head = node_head(node);
	uint32_t prefix_at = inner_prefix_at(head_type(head)), prefix_bytes = head_prefix_bytes(head);
	struct tree_level level = {.node = ref, .type = (uint8_t)head_type(head)};
	uint32_t fresh = start - min_of(start, 1u);
	int err;

	if (!head_is_inner(head) || ref < NODE_REF_FIRST || start > PATH_MAX_BYTES ||
	    ref * NODE_UNIT + prefix_at + prefix_bytes > FRAME_BYTES)
		return -EUCLEAN;
	/* And one for the byte of an entry. */
	if (start + prefix_bytes + 1 + COPY_SLACK > scan->path.size) {
		err = buffer_reserve(&scan->path, start + prefix_bytes + 1);
		if (err)
			return err;
	}
	copy_bytes(scan->path.bytes + start, node + prefix_at, prefix_bytes);
	level.path_bytes = start + prefix_bytes;
	if (!scan->group && scan->has_delimiter)
		scan->group = find_group(scan, scan->path.bytes + fresh, level.path_bytes - fresh, fresh);
	if (scan->group && scan_has_key(scan, ref))
		return take_group(scan, scan->group, level.path_bytes, NULL);
	if (level.type <= NODE_16) {
		level.word = ENTRY_WORDS - 1;
		level.mask = sorted_places(head);
		prefetch_children(scan->image, node, head);
	} else {
		level.mask = entry_word(node, level.type, 0);
	}
	err = scan_push(scan, &level);
	if (!err && head_terminal(head))
		err = scan_take_leaf(scan, head_terminal(head), level.path_bytes);
	return err;
}

static int reach_crossing(struct tree_scan *scan, const void *crossing, uint64_t head, uint8_t byte)
{
	struct tree_level *level = scan_level(scan);
	struct tree_stop *stop = scan_stop(scan);
	unsigned hi = max_of(head_hi(head), (unsigned)byte);

	/* In a node48 or node256 all bytes of its run lead to the crossing. */
	if (level->type > NODE_16) {
		level->word = (uint8_t)(hi / 64);
		level->mask = entry_word(node_place(scan->image, level->node), level->type, level->word) &
			      ~1ull << (hi % 64);
	}
	stop->hop_hi = (uint8_t)hi;
	stop->hop_level = scan->level_count;
	scan->hop_id = from_le64(((const struct node_crossing *)crossing)->frame_id);
	scan->depth = level->path_bytes;
	scan->has_hop = true;
	return 0;
}

/* Visits the child @ref of the top level. */
static int visit_child(struct tree_scan *scan, node_ref ref, uint8_t byte)
{
	const void *child = node_place(scan->image, ref);
	uint32_t at = scan_level(scan)->path_bytes;
	uint64_t head = node_head(child);

	if (ref < NODE_REF_FIRST)
		return -EUCLEAN;
	if (head_type(head) == NODE_CROSSING)
		return reach_crossing(scan, child, head, byte);
	scan->path.bytes[at] = byte;
	if (head_is_leaf(head))
		return scan_take_leaf(scan, ref, at + 1);
	return scan_enter(scan, ref, at + 1);
}

/* What of the top level's entries, the next of which is @ref, is taken in a loop. */
static enum scan_taken take_many(struct tree_scan *scan, node_ref *ref, uint8_t *byte, const struct tree_level *before)
{
	uint64_t head = node_head(node_place(scan->image, *ref));

	if (scan->group || !(head_is_leaf(head) || (scan->has_delimiter && head_is_inner(head))))
		return TAKEN_CHILD;
	*scan_level(scan) = *before;
	return head_is_leaf(head) ? scan_take_leaves(scan, ref, byte) : scan_take_groups(scan, ref, byte);
}

/* Goes on at the top level. */
static int take_entries(struct tree_scan *scan)
{
	struct tree_level *level = scan_level(scan), before = *level;
	uint32_t count = scan->count;
	enum scan_taken taken;
	node_ref ref;
	uint8_t byte;

	if (scan->group && level->path_bytes < scan->group)
		scan->group = 0; /* there was nothing in it */
	scan->shared = min_of(scan->shared, level->path_bytes);
	if (!scan_next_entry(node_place(scan->image, level->node), level, &ref, &byte)) {
		scan->level_count--;
		return 0;
	}
	taken = take_many(scan, &ref, &byte, &before);
	scan_stop(scan)->entered += scan->count - count;
	if (taken == TAKEN_CHILD)
		return visit_child(scan, ref, byte);
	if (taken == TAKEN_ALL)
		scan->level_count--;
	return 0;
}

/* ---- runs ------------------------------------------------------------------------------ */

static bool is_full(const struct tree_scan *scan)
{
	return scan->count == scan->limit || scan->bytes.used >= TREE_RUN_BYTES;
}

/* Until the run is full or the walk over. */
static int walk(struct tree_scan *scan, struct tree_need *need)
{
	int err = 0;

	while (!err) {
		if (is_full(scan)) {
			err = scan_commit(scan);
			scan->has_stack = !err;
			return err ? err : SCAN_STOP;
		}
		if (scan->has_hop)
			err = scan_hop(scan, need);
		else if (scan->level_count <= scan_stop(scan)->level_base)
			err = scan_leave(scan);
		else
			err = take_entries(scan);
	}
	return err;
}

/* From the root down to the key. */
static int begin(struct tree_scan *scan)
{
	int err = buffer_reserve(&scan->path, scan->key.used + 1);

	if (err)
		return err;
	copy_bytes(scan->path.bytes, scan->key.bytes, scan->key.used);
	scan->seek_group = find_group(scan, scan->key.bytes, scan->key.used, 0);
	scan_begin(scan);
	return 0;
}

/* What @err of a walk means.  -ESTALE: nothing was found that is certain. */
static int judge(struct tree_scan *scan, int err)
{
	bool is_failure = err != SCAN_STOP && err != -ESTALE && err != -EAGAIN && err != -ENOENT;

	/* Damage, and lengths that no memory is enough for, were perhaps never there.  What
	 * came before them comes first; to begin again behind that would walk for ever
	 * where it is that frames or nodes are met twice. */
	if (is_failure && scan->stop_count && (scan_commit(scan) || (scan->count && err != -EUCLEAN)))
		err = -ESTALE;
	if (err == -EUCLEAN && scan->count) {
		scan->failure = err;
		err = SCAN_STOP;
	}
	scan_let_go(scan);
	if (err == -ESTALE) {
		scan->has_stack = false;
		scan->count = scan->committed;
		return scan->count ? 0 : -ESTALE;
	}
	return err == SCAN_STOP ? 0 : err;
}

static int scan_once(struct tree_scan *scan, struct tree_need *need)
{
	int err = 0;

	scan->count = scan->committed = 0;
	scan->bytes.used = 0;
	scan->shared = 0;
	if (!scan_resume(scan))
		err = begin(scan);
	scan->has_stack = false;
	return err ? err : judge(scan, walk(scan, need));
}

int tree_scan_run(struct tree_scan *scan, bool in_gate, uint32_t limit, struct tree_need *need)
{
	unsigned restarts = 0;
	int err;

	if (scan->is_over) {
		scan->count = 0;
		return -ENOENT;
	}
	if (scan->failure) {
		err = scan->failure;
		scan->failure = 0;
		scan->count = 0;
		return err;
	}
	ASSERT(limit > 0);
	scan->limit = min_of(limit, TREE_RUN_ITEMS);
	scan->in_gate = in_gate;
	scan->is_latched = in_gate || !IS_OPTIMISTIC;
	/* The item taken last is passed. */
	if (scan->count)
		scan->is_after = true;
	while ((err = scan_once(scan, need)) == -ESTALE) {
		atomic_fetch_add_explicit(&scan->tree->counters.restarts, 1, memory_order_relaxed);
		if (scan->has_progress)
			restarts = 0;
		scan->has_progress = false;
		/* A short run is over sooner. */
		scan->limit = max_of(scan->limit / 2, 1u);
		if (++restarts == READ_RESTARTS_MAX && !in_gate)
			return -EBUSY;
	}
	if (err)
		scan->count = 0;
	return err;
}

/* ---- ranges ----------------------------------------------------------------------------- */

int tree_scan_seek(struct tree_scan *scan, const struct tree_range *range)
{
	uint32_t prefix_bytes = range->prefix_bytes, start_bytes = range->start_bytes;
	uint32_t both = min_of(prefix_bytes, start_bytes);
	int order = both ? memcmp(range->start, range->prefix, both) : 0;
	bool is_behind = order > 0 || (order == 0 && start_bytes >= prefix_bytes);
	int err = buffer_reserve(&scan->key, max_of(prefix_bytes, start_bytes));

	if (err)
		return err;
	scan->prefix_bytes = prefix_bytes;
	scan->has_delimiter = range->has_delimiter;
	scan->delimiter = range->delimiter;
	scan->keys_only = range->keys_only;
	scan->count = 0;
	scan->backs = 0;
	scan->failure = 0;
	scan->frames = scan->begins = 0;
	scan->has_stack = false;
	scan->is_over = order > 0; /* behind all that begin with the prefix */
	scan->is_after = is_behind && range->is_after;
	scan->key.used = is_behind ? start_bytes : prefix_bytes;
	if (scan->key.used)
		memmove(scan->key.bytes, is_behind ? range->start : range->prefix, scan->key.used);
	return 0;
}
