/*
 * Transactions on the tree: several keys changed together.
 *
 * A transaction goes through three steps.
 *
 *   locate   each key's frame is searched, holding one shared latch at a time, or none.
 *            The gate keeps edges from changing, so what was found stays true.
 *   latch    all frames, each once, exclusively and in ascending frame id, so that
 *            two transactions never wait for each other in a circle.  Then guards
 *            and room are checked and frozen images copied.  Until here nothing has
 *            changed and everything can be given up.
 *   apply    cannot fail.
 *
 * Most transactions have few edits.  Then a key is searched for once, however many edits it
 * has, and a frame latched from the version at which that was done (as in single.c) is not
 * searched again.
 *
 * Frames stay pinned from latch to end, so a transaction that lets its latches go in
 * between (one with moves) finds them in memory again.
 */
#include "config.h"

#include "tree/tree_internal.h"

#include <stdlib.h>

#include "base/assert.h"

/* How often to ask whether a thin frame can be folded. */
#define SHRINK_STEP (32u * 1024)

/* ---- frames kept between attempts ---------------------------------------------- */

/* How often all kept frames are let go to begin anew: some have become others'. */
#define OVERFLOWS_MAX 8

static void release_held(struct tree *tree, struct tree_hold *hold)
{
	while (hold->count > 0)
		pool_unpin(tree->pool, hold->slots[--hold->count]);
}

int tree_hold_frame(struct tree *tree, struct tree_tx *tx, uint32_t slot)
{
	struct tree_hold *hold = &tx->hold;

	for (uint32_t i = 0; i < hold->count; i++)
		if (hold->slots[i] == slot)
			return 0;
	if (!hold->is_on)
		return 0;
	if (hold->count == hold->max) {
		release_held(tree, hold);
		if (++hold->overflows > OVERFLOWS_MAX)
			return -E2BIG;
	}
	pool_pin(tree->pool, slot);
	hold->slots[hold->count++] = slot;
	return 0;
}

void tree_hold_begin(struct tree_tx *tx, uint32_t max)
{
	tx->hold.is_on = true;
	tx->hold.count = 0;
	tx->hold.max = min_of(max, (uint32_t)TREE_TX_FRAMES_MAX);
	tx->hold.overflows = 0;
}

void tree_hold_end(struct tree *tree, struct tree_tx *tx)
{
	release_held(tree, &tx->hold);
	tx->hold.is_on = false;
}

/* ---- finding and latching -------------------------------------------------------- */

static bool has_few(const struct tree_tx *tx)
{
	return tx->edit_count <= TREE_TX_FEW;
}

/* The first edit with the key of the @number-th, if they are few; else that itself. */
static uint32_t first_of(const struct tree_tx *tx, uint32_t number)
{
	const struct tree_edit *edit = &tx->edits[number];

	for (uint32_t i = 0; i < number && has_few(tx); i++)
		if (tx->edits[i].key_bytes == edit->key_bytes &&
		    memcmp(tx->edits[i].key, edit->key, edit->key_bytes) == 0)
			return i;
	return number;
}

/* Without latches: false, where that will not do. */
static bool locate_unlatched(struct tree *tree, struct tree_edit *edit, struct image_path *ret_path,
    struct tree_seen *ret)
{
	uint64_t frame_id = tree->root_id;
	struct pool_read here;
	uint32_t depth = 0;
	int step = 1;

	for (unsigned hops = 0; step == 1 && hops < TREE_HOPS_MAX; hops++)
		step = tree_step_unlatched(tree, edit->key, edit->key_bytes, &frame_id, &depth, ret_path, &here);
	if (step || !pool_read_validate(tree->pool, here.slot, here.version))
		return false;
	edit->shape = tree_shape(tree);
	edit->frame_id = frame_id;
	edit->depth = depth;
	*ret = (struct tree_seen){here.slot, here.version};
	return true;
}

/* Of few edits, the @number-th. */
static bool locate_quickly(struct tree *tree, struct tree_tx *tx, uint32_t number)
{
	uint32_t first = first_of(tx, number);
	struct tree_edit *edit = &tx->edits[number];

	tx->firsts[number] = first;
	tx->seen[number].slot = POOL_NO_SLOT;
	if (first == number)
		return !tx->hold.is_on &&
		       locate_unlatched(tree, edit, &tx->paths[number], &tx->seen[number]);
	edit->shape = tx->edits[first].shape;
	edit->frame_id = tx->edits[first].frame_id;
	edit->depth = tx->edits[first].depth;
	return true;
}

static int locate(struct tree *tree, struct tree_tx *tx, struct tree_need *need)
{
	for (uint32_t i = 0; i < tx->edit_count; i++) {
		struct tree_edit *edit = &tx->edits[i];
		struct tree_hop hop;
		int err;

		if (has_few(tx) && locate_quickly(tree, tx, i))
			continue;
		err = tree_find_again(tree, edit->key, edit->key_bytes, edit->frame_id, edit->depth,
		    edit->shape, &hop, need);
		edit->shape = tree_shape(tree);
		edit->frame_id = hop.frame_id;
		edit->depth = hop.depth;
		if (err)
			return err;
		err = tree_hold_frame(tree, tx, hop.slot);
		pool_unlatch_shared(tree->pool, hop.slot);
		if (err)
			return err;
	}
	return 0;
}

/* The place of @frame_id in the sorted list of frames, or where it belongs. */
static uint32_t frame_place(const struct tree_tx *tx, uint64_t frame_id)
{
	uint32_t lo = 0, hi = tx->frame_count;

	while (lo < hi) {
		uint32_t middle = (lo + hi) / 2;

		if (tx->frames[middle].frame_id < frame_id)
			lo = middle + 1;
		else
			hi = middle;
	}
	return lo;
}

static int collect_frames(struct tree_tx *tx)
{
	tx->frame_count = 0;
	for (uint32_t i = 0; i < tx->edit_count; i++) {
		struct tree_edit *edit = &tx->edits[i];
		uint32_t at = frame_place(tx, edit->frame_id);

		if (at == tx->frame_count || tx->frames[at].frame_id != edit->frame_id) {
			if (tx->frame_count == TREE_TX_FRAMES_MAX)
				return -E2BIG;
			memmove(&tx->frames[at + 1], &tx->frames[at],
			    (tx->frame_count - at) * sizeof(tx->frames[0]));
			tx->frames[at] = (struct tree_tx_frame){.frame_id = edit->frame_id};
			tx->frame_count++;
		}
		if (edit->kind == TREE_PUT || edit->kind == TREE_ERASE)
			tx->frames[at].is_edited = true;
		if (edit->kind == TREE_PUT)
			tx->frames[at].room_bytes += image_put_room(edit->key_bytes, edit->value_bytes);
	}
	for (uint32_t i = 0; i < tx->edit_count; i++)
		tx->edits[i].frame_index = frame_place(tx, tx->edits[i].frame_id);
	return 0;
}

static void unlatch_first(struct tree *tree, struct tree_tx *tx, uint32_t count)
{
	while (count > 0)
		pool_unlatch_exclusive(tree->pool, tx->frames[--count].slot);
}

/* Latches the frame if all searches that ended in it saw it as it is now. */
static bool latch_as_seen(struct tree *tree, struct tree_tx *tx, uint32_t index)
{
	const struct tree_seen *seen = NULL;

	for (uint32_t i = 0; i < tx->edit_count && has_few(tx); i++) {
		if (tx->firsts[i] != i || tx->edits[i].frame_index != index)
			continue;
		if (seen && (seen->slot != tx->seen[i].slot || seen->version != tx->seen[i].version))
			return false;
		seen = &tx->seen[i];
	}
	if (!seen || seen->slot == POOL_NO_SLOT || !pool_try_upgrade(tree->pool, seen->slot, seen->version))
		return false;
	tx->frames[index].slot = seen->slot;
	tx->frames[index].is_as_seen = true;
	return true;
}

static int latch_frames(struct tree *tree, struct tree_tx *tx, struct tree_need *need)
{
	for (uint32_t i = 0; i < tx->frame_count; i++) {
		struct tree_tx_frame *frame = &tx->frames[i];

		if (latch_as_seen(tree, tx, i))
			continue;
		frame->slot = pool_latch_key_exclusive(tree->pool, tree_key(frame->frame_id));
		if (frame->slot == POOL_NO_SLOT) {
			unlatch_first(tree, tx, i);
			return tree_need_frame(need, frame->frame_id);
		}
	}
	return 0;
}

int tree_check_guard(const void *image, const struct image_path *path, enum tree_edit_kind guard,
    uint64_t version)
{
	bool is_there = path->result == IMAGE_FOUND;
	struct image_leaf leaf;

	switch (guard) {
	case TREE_REQUIRE_ABSENT:
		return is_there ? -EEXIST : 0;
	case TREE_REQUIRE_PRESENT:
		return is_there ? 0 : -ENOENT;
	case TREE_REQUIRE_VERSION:
		if (!is_there)
			return -ENOENT;
		image_leaf(image, path->leaf, &leaf);
		return leaf.seq == version ? 0 : -ESTALE;
	default:
		return 0;
	}
}

/* Last, for it costs most, and what is lacking is asked for more than once. */
static int check_frames(struct tree *tree, const struct tree_tx *tx)
{
	int err = 0;

	for (uint32_t i = 0; i < tx->frame_count && !err; i++)
		if (tx->frames[i].is_edited)
			err = tree_check_frame(tree, tx->frames[i].frame_id, tx->frames[i].slot);
	return err;
}

static int check_edits(struct tree *tree, struct tree_tx *tx)
{
	for (uint32_t i = 0; i < tx->edit_count; i++) {
		struct tree_edit *edit = &tx->edits[i];
		const struct tree_tx_frame *frame = &tx->frames[edit->frame_index];
		const void *image = tree_image(tree, frame->slot);
		struct image_path path;
		int err;

		if (has_few(tx) && (frame->is_as_seen || tx->firsts[i] != i))
			path = tx->paths[tx->firsts[i]];
		else
			image_find(image, edit->key, edit->key_bytes, edit->depth, &path);
		if (has_few(tx))
			tx->paths[i] = path;
		if (path.result == IMAGE_DAMAGED)
			return -EUCLEAN;
		ASSERT(path.result != IMAGE_CROSSING);
		err = tree_check_guard(image, &path, edit->kind, edit->version);
		if (err) {
			tx->failed_edit = i;
			return err;
		}
	}
	return 0;
}

static int check_room(struct tree *tree, struct tree_tx *tx, struct tree_need *need)
{
	for (uint32_t i = 0; i < tx->edit_count; i++) {
		const struct tree_edit *edit = &tx->edits[i];
		const struct tree_tx_frame *frame = &tx->frames[edit->frame_index];

		if (tree_frame_takes(tree, tree_image(tree, frame->slot), frame->room_bytes))
			continue;
		if (frame->room_bytes > TREE_ROOM_MAX)
			return -E2BIG;
		*need = (struct tree_need){
		    .kind = TREE_NEED_ROOM,
		    .tree = tree,
		    .frame_id = frame->frame_id,
		    .room_bytes = frame->room_bytes,
		    .key = edit->key,
		    .key_bytes = edit->key_bytes,
		};
		return -EAGAIN;
	}
	return 0;
}

static int check_spares(struct tree *tree, struct tree_tx *tx, struct tree_spares *spares,
    struct tree_need *need)
{
	uint32_t copies = 0, places = 0;

	for (uint32_t i = 0; i < tx->frame_count; i++) {
		if (!tx->frames[i].is_edited)
			continue;
		copies += tree_needs_copy(tree, tx->frames[i].slot);
		places += tree_needs_place(tree, tx->frames[i].slot);
	}
	if (places > spares->places)
		return tree_need_places(need, places, false);
	if (copies > spares->count)
		return tree_need_slots(need, copies);
	spares->places -= places;
	return 0;
}

int tree_tx_latch(struct tree *tree, struct tree_tx *tx, struct tree_spares *spares,
    struct tree_need *need)
{
	int err = locate(tree, tx, need);

	if (!err)
		err = collect_frames(tx);
	if (!err)
		err = latch_frames(tree, tx, need);
	if (err)
		return err;
	err = check_edits(tree, tx);
	if (!err)
		err = check_room(tree, tx, need);
	if (!err)
		err = check_spares(tree, tx, spares, need);
	if (!err)
		err = check_frames(tree, tx);
	if (err) {
		unlatch_first(tree, tx, tx->frame_count);
		return err;
	}
	for (uint32_t i = 0; i < tx->frame_count; i++) {
		struct tree_tx_frame *frame = &tx->frames[i];

		if (frame->is_edited)
			frame->slot = tree_make_writable(tree, frame->frame_id, frame->slot, spares);
		pool_pin(tree->pool, frame->slot);
	}
	tx->is_latched = true;
	return 0;
}

bool tree_after_erase(struct tree *tree, uint64_t frame_id, const void *image, uint32_t live_before)
{
	uint32_t live = image_live_bytes(image);
	bool is_empty;

	if (frame_id == tree->root_id || live > THIN_MOST)
		return false;
	is_empty = image_is_empty(image);
	tree_count_empty(tree, false, is_empty);
	return is_empty || live / SHRINK_STEP != live_before / SHRINK_STEP;
}

void tree_tx_apply(struct tree *tree, struct tree_tx *tx, uint64_t base_version)
{
	ASSERT(tx->is_latched);
	for (uint32_t i = 0, made; i < tx->edit_count; i += made) {
		struct tree_edit *edit = &tx->edits[i];
		struct tree_tx_frame *frame = &tx->frames[edit->frame_index];
		void *image = tree_image(tree, frame->slot);
		uint32_t keep = tx->has_moves ? KEEP_ALL_ROOM : frame->room_bytes;
		uint32_t live = image_live_bytes(image);
		struct image_path path;

		made = 1;
		if (edit->kind != TREE_PUT && edit->kind != TREE_ERASE)
			continue;
		if (has_few(tx) && !frame->is_changed)
			path = tx->paths[i];
		else
			image_find(image, edit->key, edit->key_bytes, edit->depth, &path);
		frame->is_changed = true;
		if (edit->kind == TREE_PUT) {
			made = tree_put_edits(tree, edit->frame_id, image, &path, edit,
			    tx->edit_count - i, base_version);
		} else if (path.result == IMAGE_FOUND) {
			image_erase(image, &path, edit->key, edit->key_bytes, edit->depth, keep);
			edit->wants_shrink = tree_after_erase(tree, edit->frame_id, image, live);
		}
	}
}

void tree_tx_tidy(struct tree *tree, struct tree_tx *tx)
{
	ASSERT(tx->is_latched);
	for (uint32_t i = 0; i < tx->edit_count; i++) {
		const struct tree_edit *edit = &tx->edits[i];

		if (edit->kind == TREE_ERASE)
			image_tidy(tree_image(tree, tx->frames[edit->frame_index].slot),
			    edit->key, edit->key_bytes, edit->depth, 0);
	}
}

void tree_tx_unlatch(struct tree *tree, struct tree_tx *tx)
{
	ASSERT(tx->is_latched);
	unlatch_first(tree, tx, tx->frame_count);
	tx->is_latched = false;
}

void tree_tx_relatch(struct tree *tree, struct tree_tx *tx)
{
	for (uint32_t i = 0; i < tx->frame_count; i++)
		pool_latch_exclusive(tree->pool, tx->frames[i].slot);
	tx->is_latched = true;
}

void tree_tx_end(struct tree *tree, struct tree_tx *tx)
{
	if (tx->is_latched)
		tree_tx_unlatch(tree, tx);
	for (uint32_t i = 0; i < tx->frame_count; i++)
		pool_unpin(tree->pool, tx->frames[i].slot);
	tx->frame_count = 0;
}
