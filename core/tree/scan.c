/*
 * Scanning: a run of leaves in key order, copied out under one frame's latch.
 *
 * Within a frame the walk keeps a stack of levels (node, next byte to visit) and the
 * bytes of the path.  A level is *exact* while the path equals the beginning of the
 * sought key: there, entries below the key's next byte are passed over; everywhere
 * else all entries are behind the key and are taken.
 *
 * At a crossing the run ends if it has any leaves.  Otherwise the walk hops into the
 * child and remembers, as `resume`, the smallest key behind the crossing: the next
 * entry of the innermost level that has one.  If the child turns out to have nothing
 * behind the sought key, the scan begins again at the root, looking for `resume`.
 * So no latch is held across frames, and each new search is for a larger key.
 */
#include "config.h"

#include "tree/tree_internal.h"

#include <stdlib.h>

#include "base/assert.h"
#include "tree/buffer.h"

/* Longer paths come from damage: every level adds a byte, every move two keys. */
#define PATH_MAX_BYTES (8u << 20)

struct tree_level {
	node_ref node;
	uint16_t from; /* next byte to visit; 256: none */
	bool is_exact;
	uint32_t path_bytes; /* of the path where the node branches */
};

struct scan {
	struct tree *tree;
	const uint8_t *key;
	uint32_t key_bytes;
	bool is_after;
	struct tree_run *run;
	const void *image;
};

void tree_run_init(struct tree_run *run)
{
	memset(run, 0, sizeof(*run));
}

void tree_run_fini(struct tree_run *run)
{
	free(run->bytes.bytes);
	free(run->path.bytes);
	free(run->resume.bytes);
	free(run->seek.bytes);
	free(run->levels);
}

static bool run_is_full(const struct tree_run *run)
{
	return run->count == TREE_RUN_ITEMS || run->bytes.used >= TREE_RUN_BYTES;
}

/* Appends a leaf whose key is the path so far plus @rest. */
static int emit(struct scan *scan, const struct node_leaf *leaf, uint32_t path_bytes)
{
	struct tree_run *run = scan->run;
	struct tree_item *item = &run->items[run->count];
	uint32_t rest_bytes = from_le16(leaf->rest_bytes);
	int err;

	item->key_offset = run->bytes.used;
	item->key_bytes = path_bytes + rest_bytes;
	item->value_offset = item->key_offset + item->key_bytes;
	item->value_bytes = from_le32(leaf->value_bytes);
	item->version = from_le64(leaf->seq);
	err = buffer_append(&run->bytes, run->path.bytes, path_bytes);
	if (!err)
		err = buffer_append(&run->bytes, leaf->bytes, rest_bytes + item->value_bytes);
	if (!err)
		run->count++;
	return err;
}

static int push_level(struct tree_run *run, struct tree_level level)
{
	if (run->level_count == run->level_size) {
		uint32_t size = max_of(run->level_size * 2, 32u);
		struct tree_level *grown = realloc(run->levels, size * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		run->levels = grown;
		run->level_size = size;
	}
	run->levels[run->level_count++] = level;
	return 0;
}

/* Emits a node's terminal if it has one. */
static int emit_terminal(struct scan *scan, const struct node_inner *inner)
{
	const struct node *leaf;

	if (!from_le16(inner->terminal))
		return 0;
	leaf = node_at(scan->image, from_le16(inner->terminal));
	if (!leaf || leaf->type != NODE_LEAF)
		return -EUCLEAN;
	return emit(scan, (const void *)leaf, scan->run->path.used);
}

/* Enters an inner node: its prefix joins the path, and it becomes a level unless all
 * below it lies before the key. */
static int enter_node(struct scan *scan, node_ref ref, bool is_exact)
{
	const struct node_inner *inner = (const void *)node_at(scan->image, ref);
	struct tree_buffer *path = &scan->run->path;
	struct tree_level level = {.node = ref};
	uint32_t start = path->used, prefix_bytes, rest;
	int err, order;

	if (!inner || !node_is_inner((const void *)inner) || start > PATH_MAX_BYTES)
		return -EUCLEAN;
	prefix_bytes = from_le16(inner->prefix_bytes);
	err = buffer_append(path, inner_prefix(inner), prefix_bytes);
	if (err)
		return err;
	level.path_bytes = path->used;
	if (is_exact) {
		rest = scan->key_bytes - start;
		order = memcmp(inner_prefix(inner), scan->key + start, min_of(rest, prefix_bytes));
		if (order < 0)
			return 0;
		if (order == 0 && rest > prefix_bytes) {
			level.is_exact = true;
			level.from = scan->key[path->used];
			return push_level(scan->run, level);
		}
		if (order == 0 && rest == prefix_bytes && scan->is_after)
			return push_level(scan->run, level);
	}
	err = emit_terminal(scan, inner);
	return err ? err : push_level(scan->run, level);
}

static int visit_leaf(struct scan *scan, const struct node_leaf *leaf, bool is_exact)
{
	uint32_t path_bytes = scan->run->path.used;
	uint32_t rest_bytes = from_le16(leaf->rest_bytes);

	if (is_exact) {
		uint32_t rest = scan->key_bytes - path_bytes;
		int order = memcmp(leaf->bytes, scan->key + path_bytes, min_of(rest, rest_bytes));

		if (order < 0 || (order == 0 && rest_bytes < rest))
			return 0;
		if (order == 0 && rest_bytes == rest && scan->is_after)
			return 0;
	}
	return emit(scan, leaf, path_bytes);
}

/* The smallest key behind the levels' present places becomes the one to resume at. */
static int note_resume(struct scan *scan, bool *has_resume)
{
	struct tree_run *run = scan->run;
	struct node_entry entry;

	for (uint32_t i = run->level_count; i > 0; i--) {
		const struct tree_level *level = &run->levels[i - 1];
		const struct node_inner *inner = (const void *)node_at(scan->image, level->node);
		uint8_t byte;
		int err;

		if (!inner_next(scan->image, inner, level->from, &entry))
			continue;
		byte = (uint8_t)entry.lo;
		run->resume.used = 0;
		err = buffer_append(&run->resume, run->path.bytes, level->path_bytes);
		if (!err)
			err = buffer_append(&run->resume, &byte, 1);
		*has_resume = true;
		return err;
	}
	return 0;
}

struct hop {
	uint64_t frame_id; /* 0: stay */
	bool is_exact;
};

/* Visits the next entry of the top level. */
static int step(struct scan *scan, struct hop *hop, bool *has_resume)
{
	struct tree_run *run = scan->run;
	struct tree_level *level = &run->levels[run->level_count - 1];
	const struct node_inner *inner = (const void *)node_at(scan->image, level->node);
	struct node_entry entry;
	bool is_exact;
	uint8_t byte;
	int err;

	run->path.used = level->path_bytes;
	if (!inner_next(scan->image, inner, level->from, &entry)) {
		run->level_count--;
		return 0;
	}
	if (!entry.node)
		return -EUCLEAN;
	is_exact = level->is_exact && entry.lo <= scan->key[level->path_bytes] &&
		   scan->key[level->path_bytes] <= entry.hi;
	level->is_exact = false;
	level->from = (uint16_t)(entry.hi + 1);
	if (entry.node->type == NODE_CROSSING) {
		hop->frame_id = from_le64(((const struct node_crossing *)entry.node)->frame_id);
		hop->is_exact = is_exact;
		return run->count ? 0 : note_resume(scan, has_resume);
	}
	byte = (uint8_t)entry.lo;
	err = buffer_append(&run->path, &byte, 1);
	if (err)
		return err;
	if (entry.node->type == NODE_LEAF)
		return visit_leaf(scan, (const void *)entry.node, is_exact);
	return enter_node(scan, entry.ref, is_exact);
}

/* Walks one latched frame until leaves are found or a hop is due. */
static int walk_frame(struct scan *scan, struct hop *hop, bool *has_resume)
{
	node_ref root = from_le16(image_header_const(scan->image)->root);
	struct tree_run *run = scan->run;
	int err;

	run->level_count = 0;
	err = enter_node(scan, root, hop->is_exact);
	*hop = (struct hop){0};
	while (!err && run->level_count && !run_is_full(run) && !hop->frame_id)
		err = step(scan, hop, has_resume);
	return err;
}

/* Where the way down begins: at the root, or where a frame was lacking. */
static struct hop first_hop(struct scan *scan, uint64_t shape, bool *has_resume)
{
	struct hop hop = {.frame_id = scan->tree->root_id, .is_exact = true};
	struct tree_run *run = scan->run;

	*has_resume = false;
	if (run->frame_id && run->shape == shape) {
		hop = (struct hop){.frame_id = run->frame_id, .is_exact = run->is_exact};
		*has_resume = run->has_resume;
	} else {
		run->path.used = 0;
	}
	run->frame_id = 0;
	return hop;
}

static void note_lacking(struct tree_run *run, const struct hop *hop, uint64_t shape, bool has_resume)
{
	run->frame_id = hop->frame_id;
	run->is_exact = hop->is_exact;
	run->shape = shape;
	run->has_resume = has_resume;
}

/* One way down.  -ENOENT: nothing there, nor anything to resume at. */
static int scan_once(struct scan *scan, bool in_gate, bool *has_resume, struct tree_need *need)
{
	uint64_t shape = tree_shape(scan->tree);
	struct hop hop = first_hop(scan, shape, has_resume);
	struct tree_edge edge = {.slot = POOL_NO_SLOT};
	struct tree_run *run = scan->run;

	for (unsigned hops = 0; hops < TREE_HOPS_MAX; hops++) {
		uint32_t slot;
		int err;

		err = tree_hop_latch(scan->tree, in_gate, &edge, hop.frame_id, &slot, need);
		if (err == -EAGAIN)
			note_lacking(run, &hop, shape, *has_resume);
		if (err)
			return err;
		scan->image = tree_image(scan->tree, slot);
		/* As in descend_once(). */
		if (edge.slot == POOL_NO_SLOT && tree_shape(scan->tree) != shape) {
			pool_unlatch_shared(scan->tree->pool, slot);
			return -ESTALE;
		}
		err = walk_frame(scan, &hop, has_resume);
		if (err || run->count || !hop.frame_id) {
			pool_unlatch_shared(scan->tree->pool, slot);
			return err ? err : run->count ? 0 : -ENOENT;
		}
		tree_hop_leave(scan->tree, slot, &edge);
	}
	return -EUCLEAN;
}

/* What to look for next, after a way down that found nothing. */
static int seek_resume(struct scan *scan)
{
	struct tree_run *run = scan->run;

	run->seek.used = 0;
	scan->is_after = false;
	return buffer_append(&run->seek, run->resume.bytes, run->resume.used);
}

int tree_scan(struct tree *tree, bool in_gate, const uint8_t *key, uint32_t key_bytes,
    bool is_after, struct tree_run *run, struct tree_need *need)
{
	uint64_t moves = atomic_load(&tree->move_count);
	struct scan scan = {.tree = tree, .run = run, .is_after = is_after};
	unsigned restarts = 0;
	bool has_resume;
	int err = 0;

	if (run->has_seek) {
		scan.is_after = false;
	} else {
		run->seek.used = 0;
		/* Not NULL for the empty key either: it is compared with. */
		err = buffer_fit(&run->seek, key_bytes + 1);
		if (!err)
			err = buffer_append(&run->seek, key, key_bytes);
	}
	while (!err) {
		scan.key = run->seek.bytes;
		scan.key_bytes = run->seek.used;
		run->count = 0;
		run->bytes.used = 0;
		err = scan_once(&scan, in_gate, &has_resume, need);
		if (err == -ENOENT && has_resume) {
			err = seek_resume(&scan);
			run->has_seek = true;
			continue;
		}
		if (err != -ESTALE)
			break;
		atomic_fetch_add_explicit(&tree->counters.restarts, 1, memory_order_relaxed);
		err = ++restarts < READ_RESTARTS_MAX ? 0 : -EBUSY;
	}
	if (!in_gate && moves != atomic_load(&tree->move_count))
		err = -EBUSY;
	if (err != -EAGAIN) {
		run->has_seek = false;
		run->frame_id = 0;
	}
	return err;
}
