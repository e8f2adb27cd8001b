/*
 * Every frame of the tree, and with them every key, in order.
 *
 * The walk goes down into a crossing where it stands between keys, so that keys come
 * ascending and each frame is read once.  It keeps one *level* a frame on the way from
 * the root:
 *
 *	level 0   frame 1    | a | b | crossing 7 | x |
 *	                                  ^ next
 *	level 1   frame 7        | ba | crossing 9 | bz |
 *
 * A level holds a copy of the frame and a list of its items, each with what its key
 * does not share with the key before.  Chains of frames can be as deep as keys are
 * long, so only the LEVELS_LOADED lowest keep both; a higher one reads its frame again
 * when the walk comes back to it.
 *
 * Invariants checked for each frame:
 *  1. it verifies (checksums, id, lengths), and its nodes are well formed;
 *  2. exactly one crossing names it, none the root;
 *  3. but for the root, its root node has neither prefix nor terminal, and entries only
 *     within the crossing's lo..hi;
 *  4. its keys are above all keys before it.
 * And of all of them: as many have no entry as the superblock and the log say.
 * A frame that fails is left out as a whole, and the range of keys it stood for is kept
 * as a gap; frames below it are only verified.
 *
 * Frames that the manifest has and no crossing names: after replay those that were
 * folded away since the checkpoint (the store lists them).  Others are a leak, since
 * everything the tree has is reached without them.  If a frame was left out they
 * probably hang below it, and are none.
 *
 * The internal tree, of dropped prefixes that are still being erased, is walked in the
 * same way; its keys are nobody's any more.
 */
#include "config.h"

#include "check/check_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define LEVELS_LOADED 32u

struct item {
	uint32_t shared; /* bytes of the item before */
	uint32_t suffix; /* place in suffixes */
	uint32_t suffix_bytes;
	uint32_t at; /* of the node in the image */
	bool is_crossing;
};

struct frame_level {
	uint64_t frame_id;
	uint32_t base_bytes; /* of the path: the key of its crossing */
	uint8_t lo, hi;
	uint32_t next;
	/* NULL while not loaded */
	uint8_t *image;
	struct item *items;
	uint32_t item_count, item_size;
	uint8_t *suffixes;
	uint32_t suffix_bytes, suffix_size;
};

struct bytes {
	uint8_t *at;
	uint32_t count, size;
};

struct tree_walk {
	struct check *check;
	struct frame_level *levels;
	uint32_t level_count, level_size;
	struct bytes path; /* key of the present item */
	struct bytes last; /* the last leaf's key */
	struct bytes item_key; /* while items are collected: the one before */
	bool has_last;
	bool is_internal; /* the tree of dropped prefixes: its keys are nobody's */
};

/* ---- gaps ----------------------------------------------------------------------- */

bool is_in_gap(const struct check *check, const uint8_t *prefix, uint32_t bytes)
{
	for (uint32_t i = 0; i < check->gap_count; i++) {
		const struct gap *gap = &check->gaps[i];
		uint32_t common = min_of(bytes, gap->prefix_bytes);

		if (common && memcmp(prefix, gap->prefix, common) != 0)
			continue;
		if (bytes <= gap->prefix_bytes ||
		    (prefix[common] >= gap->lo && prefix[common] <= gap->hi))
			return true;
	}
	return false;
}

static int add_gap(struct check *check, const struct bytes *path, const struct frame_level *level)
{
	uint8_t *prefix;

	if (check->gap_count == check->gap_size) {
		uint32_t size = max_of(check->gap_size * 2, 16u);
		struct gap *grown = realloc(check->gaps, size * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		check->gaps = grown;
		check->gap_size = size;
	}
	prefix = malloc(level->base_bytes + 1);
	if (!prefix)
		return -ENOMEM;
	if (level->base_bytes)
		memcpy(prefix, path->at, level->base_bytes);
	check->gaps[check->gap_count++] = (struct gap){
	    .prefix = prefix,
	    .prefix_bytes = level->base_bytes,
	    .lo = level->lo,
	    .hi = level->hi,
	};
	check->is_naming_incomplete = true;
	return 0;
}

/* A frame is left out.  What was dropped leaves no gap among the keys. */
static int leave_out(struct tree_walk *walk, const struct frame_level *level)
{
	if (!walk->is_internal)
		return add_gap(walk->check, &walk->path, level);
	walk->check->is_naming_incomplete = true;
	walk->check->is_internal_damaged = true;
	return 0;
}

/* ---- bytes ------------------------------------------------------------------------ */

/* Replaces what follows the first @keep bytes. */
static int bytes_set(struct bytes *bytes, uint32_t keep, const void *from, uint32_t count)
{
	if (keep + count > bytes->size) {
		uint32_t size = max_of(bytes->size * 2, keep + count + 256);
		uint8_t *grown = realloc(bytes->at, size);

		if (!grown)
			return -ENOMEM;
		bytes->at = grown;
		bytes->size = size;
	}
	if (count)
		memcpy(bytes->at + keep, from, count);
	bytes->count = keep + count;
	return 0;
}

/* ---- items of a frame ---------------------------------------------------------------- */

struct collector {
	struct tree_walk *walk;
	struct frame_level *level;
	bool is_outside; /* an entry of the root lies outside lo..hi */
};

static uint32_t shared_bytes(const struct bytes *before, const uint8_t *key, uint32_t key_bytes)
{
	uint32_t most = min_of(before->count, key_bytes), n = 0;

	while (n < most && before->at[n] == key[n])
		n++;
	return n;
}

static int add_item(struct collector *collector, const uint8_t *key, uint32_t key_bytes,
    const void *node, bool is_crossing)
{
	struct frame_level *level = collector->level;
	struct bytes *before = &collector->walk->item_key;
	struct bytes suffixes = {level->suffixes, level->suffix_bytes, level->suffix_size};
	uint32_t shared = shared_bytes(before, key, key_bytes);
	int err = bytes_set(before, shared, key + shared, key_bytes - shared);

	if (!err)
		err = bytes_set(&suffixes, suffixes.count, key + shared, key_bytes - shared);
	level->suffixes = suffixes.at;
	level->suffix_size = suffixes.size;
	if (err)
		return err;
	if (level->item_count == level->item_size) {
		uint32_t size = max_of(level->item_size * 2, 256u);
		struct item *grown = realloc(level->items, size * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		level->items = grown;
		level->item_size = size;
	}
	level->items[level->item_count++] = (struct item){
	    .shared = shared,
	    .suffix = level->suffix_bytes,
	    .suffix_bytes = key_bytes - shared,
	    .at = (uint32_t)((const uint8_t *)node - level->image),
	    .is_crossing = is_crossing,
	};
	level->suffix_bytes = suffixes.count;
	return 0;
}

static bool is_outside(const struct frame_level *level, unsigned lo, unsigned hi)
{
	return lo < level->lo || hi > level->hi;
}

static int collect_leaf(void *ctx, const uint8_t *key, uint32_t key_bytes, const struct node *leaf)
{
	struct collector *collector = ctx;

	if (key_bytes && is_outside(collector->level, key[0], key[0]))
		collector->is_outside = true;
	return add_item(collector, key, key_bytes, leaf, false);
}

static int collect_crossing(void *ctx, const uint8_t *key, uint32_t key_bytes,
    const struct node_crossing *crossing)
{
	struct collector *collector = ctx;

	if (key_bytes ? is_outside(collector->level, key[0], key[0]) :
			is_outside(collector->level, crossing->lo, crossing->hi))
		collector->is_outside = true;
	return add_item(collector, key, key_bytes, crossing, true);
}

/* The frame has been walked, so its root is a node. */
static const struct node_inner *root_of(const uint8_t *image)
{
	const struct frame_header *header = (const void *)image;

	return (const void *)(image + from_le16(header->root) * NODE_UNIT);
}

/* -EUCLEAN: reported. */
static int check_shape(struct tree_walk *walk, const struct collector *collector)
{
	const struct frame_level *level = collector->level;
	const struct node_inner *root = root_of(level->image);
	const char *fault = NULL;

	/* The tree's own root may not have them either: every key branches there. */
	if (from_le16(root->prefix_bytes))
		fault = "its root has a prefix";
	else if (from_le16(root->terminal))
		fault = "a key ends at its root";
	else if (collector->is_outside)
		fault = "has entries outside the range of its crossing";
	if (fault)
		report_damage(walk->check, "tree frame %llu: %s", (ull)level->frame_id, fault);
	return fault ? -EUCLEAN : 0;
}

static void unload(struct frame_level *level)
{
	free(level->image);
	free(level->items);
	free(level->suffixes);
	level->image = NULL;
	level->items = NULL;
	level->suffixes = NULL;
	level->item_count = level->item_size = 0;
	level->suffix_bytes = level->suffix_size = 0;
}

/* -EUCLEAN: reported. */
static int load(struct tree_walk *walk, struct frame_level *level)
{
	struct collector collector = {.walk = walk, .level = level};
	struct tree_visit visit = {
	    .ctx = &collector, .leaf = collect_leaf, .crossing = collect_crossing};
	int err;

	level->image = check_frame_alloc();
	if (!level->image)
		return -ENOMEM;
	walk->item_key.count = 0;
	err = check_frame_read(walk->check, level->frame_id, level->image);
	if (!err)
		err = check_frame_walk(walk->check, level->frame_id, level->image, &visit);
	if (!err)
		err = check_shape(walk, &collector);
	if (err)
		unload(level);
	return err;
}

/* ---- the walk ----------------------------------------------------------------------- */

static void count_frame(struct tree_walk *walk, const struct frame_level *level)
{
	const struct frame_header *header = (const void *)level->image;
	struct check *check = walk->check;

	check->totals.tree_frames++;
	check->fill_sum += (double)from_le32(header->live_bytes) / (FRAME_BYTES - FRAME_HEADER_BYTES);
	if (walk->level_count && !from_le16(root_of(level->image)->count))
		check->empty_frames++;
}

/* Begins with a frame whose crossing stands at the present path. */
static int push(struct tree_walk *walk, uint64_t frame_id, uint8_t lo, uint8_t hi)
{
	struct frame_level *level;
	int err;

	if (walk->level_count == walk->level_size) {
		uint32_t size = max_of(walk->level_size * 2, 16u);
		struct frame_level *grown = realloc(walk->levels, size * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		walk->levels = grown;
		walk->level_size = size;
	}
	level = &walk->levels[walk->level_count];
	*level = (struct frame_level){
	    .frame_id = frame_id, .base_bytes = walk->path.count, .lo = lo, .hi = hi};
	err = load(walk, level);
	if (err == -EUCLEAN)
		return leave_out(walk, level);
	if (err)
		return err;
	count_frame(walk, level);
	walk->level_count++;
	if (walk->level_count > LEVELS_LOADED)
		unload(&walk->levels[walk->level_count - 1 - LEVELS_LOADED]);
	return 0;
}

static int follow_crossing(struct tree_walk *walk, uint64_t from, const struct node_crossing *crossing)
{
	struct check *check = walk->check;
	uint64_t frame_id = from_le64(crossing->frame_id);
	struct frame_level range = {
	    .base_bytes = walk->path.count, .lo = crossing->lo, .hi = crossing->hi};
	bool was_named;
	int err;

	if (frame_id == 0 || frame_id >= MAP_ENTRIES_MAX) {
		report_damage(check, "tree frame %llu: a crossing names frame %llu, which cannot be",
		    (ull)from, (ull)frame_id);
		return leave_out(walk, &range);
	}
	err = number_set_add(&check->frames, frame_id, &was_named);
	if (err)
		return err;
	if (was_named) {
		report_damage(check, "tree frame %llu: named by two crossings, the second in frame %llu",
		    (ull)frame_id, (ull)from);
		return leave_out(walk, &range);
	}
	return push(walk, frame_id, crossing->lo, crossing->hi);
}

static bool is_ascending(const struct bytes *last, const struct bytes *key)
{
	int order = memcmp(last->at, key->at, min_of(last->count, key->count));

	return order < 0 || (order == 0 && last->count < key->count);
}

static int take_leaf(struct tree_walk *walk, uint64_t frame_id, const struct node *leaf)
{
	struct check *check = walk->check;
	const struct bytes *key = &walk->path;
	struct leaf_parts parts = leaf_take_apart(leaf);
	char text[PATH_TEXT];
	int err;

	check->totals.keys += !walk->is_internal;
	if (walk->has_last && !is_ascending(&walk->last, key)) {
		describe_key(key->at, key->count, text);
		report_damage(check, "tree frame %llu: key %s is out of order", (ull)frame_id, text);
	}
	walk->has_last = true;
	err = bytes_set(&walk->last, 0, key->at, key->count);
	if (err || check->options.is_store_only || walk->is_internal)
		return err;
	return files_key(check, key->at, key->count, parts.value, parts.value_bytes);
}

static int step(struct tree_walk *walk)
{
	struct frame_level *level = &walk->levels[walk->level_count - 1];
	const struct item *item;
	const void *node;
	int err;

	if (!level->image) {
		err = load(walk, level);
		if (err == -EUCLEAN) {
			/* It was good before: the device gives way. */
			err = leave_out(walk, level);
			walk->level_count--;
		}
		return err;
	}
	if (level->next == level->item_count) {
		unload(level);
		walk->level_count--;
		return 0;
	}
	item = &level->items[level->next++];
	node = level->image + item->at;
	err = bytes_set(&walk->path, level->base_bytes + item->shared,
	    level->suffixes + item->suffix, item->suffix_bytes);
	if (err)
		return err;
	return item->is_crossing ? follow_crossing(walk, level->frame_id, node) :
				   take_leaf(walk, level->frame_id, node);
}

static int walk_from_root(struct check *check, uint64_t root, bool is_internal)
{
	struct tree_walk walk = {.check = check, .is_internal = is_internal};
	bool was_named;
	int err = number_set_add(&check->frames, root, &was_named);

	if (!err)
		err = push(&walk, root, 0, UINT8_MAX);
	while (!err && walk.level_count)
		err = step(&walk);
	while (walk.level_count)
		unload(&walk.levels[--walk.level_count]);
	free(walk.levels);
	free(walk.path.at);
	free(walk.last.at);
	free(walk.item_key.at);
	return err;
}

/* ---- frames that no crossing names ------------------------------------------------------ */

struct rest_walk {
	struct check *check;
	struct number_set dropped;
	uint8_t *image;
	uint64_t unnamed;
};

static int add_dropped(void *ctx, uint64_t frame_id)
{
	struct rest_walk *walk = ctx;
	bool was_in;

	return number_set_add(&walk->dropped, frame_id, &was_in);
}

static int look_at_rest(void *ctx, uint64_t frame_id, const struct manifest_place *place)
{
	static const struct tree_visit nothing;
	struct rest_walk *walk = ctx;
	struct check *check = walk->check;
	int err;

	if (!check->is_replayed && frame_id >= from_le64(check->superblock.frame_id_end))
		report_damage(check, "manifest: frame id %llu was never given out", (ull)frame_id);
	if (number_set_has(&check->frames, frame_id) || number_set_has(&walk->dropped, frame_id))
		return 0;
	walk->unnamed++;
	if (check->gap_count == 0 && !check->is_internal_damaged) {
		report_leak(check, "tree frame %llu at disk frame %llu: no crossing names it",
		    (ull)frame_id, (ull)place->disk_frame);
		return 0;
	}
	err = check_frame_read(check, frame_id, walk->image);
	if (!err)
		err = check_frame_walk(check, frame_id, walk->image, &nothing);
	return err == -EUCLEAN ? 0 : err;
}

static int walk_rest(struct check *check)
{
	struct rest_walk walk = {.check = check, .image = check_frame_alloc()};
	int err = walk.image ? store_for_each_dropped(check->store, add_dropped, &walk) : -ENOMEM;

	if (!err)
		err = manifest_for_each(store_space(check->store), look_at_rest, &walk);
	if (walk.unnamed && check->gap_count)
		report_note(check, "%llu tree frames can no longer be reached", (ull)walk.unnamed);
	number_set_fini(&walk.dropped);
	free(walk.image);
	return err;
}

/* Too few, and listings have prefixes that no key begins with. */
static void check_empty_frames(struct check *check)
{
	uint64_t counted = store_empty_frames(check->store);

	if (counted != check->empty_frames && check->gap_count == 0 && !check->is_internal_damaged)
		report_damage(check, "superblock: counts %llu tree frames that hold nothing, there are %llu",
		    (ull)counted, (ull)check->empty_frames);
}

int check_tree(struct check *check)
{
	uint64_t internal_root = store_internal_root(check->store);
	int err = walk_from_root(check, from_le64(check->superblock.user_root), false);

	if (!err && internal_root)
		err = walk_from_root(check, internal_root, true);
	if (!err)
		err = walk_rest(check);
	if (!err)
		check_empty_frames(check);
	if (check->totals.tree_frames)
		check->totals.average_fill = check->fill_sum / (double)check->totals.tree_frames;
	return err;
}
