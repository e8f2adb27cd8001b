/*
 * Steps of fallocate(2): blocks of a range become claimed, or holes.
 *
 *	            next                                      end
 *	             v                                         v
 *	| . . . . . #|# # # # # # # | # # # # # # # | # # # # #|. . |
 *	  span k        span k + 1     span k + 2     span k + 3
 *	             `------- one transaction ------'
 *
 * A transaction changes at most `most` span records and the inode's record, which has
 * the new count of blocks and claims, and the size if the file grows with it.  Between
 * transactions other calls may use the file, and a crash leaves a file whose range is
 * changed in part: each state is a valid one, and the call can be made again.
 *
 * Claiming walks all spans of the range, since those without a record get one.
 * Punching walks only records that there are, so that a hole in a file of holes costs
 * nothing however long it is.
 *
 * What is pending in the range is dropped after the commit (RANGE_ZERO, RANGE_PUNCH):
 * a failed transaction has changed nothing.  RANGE_CLAIM leaves it, and claims the hole
 * below, so that a crash before it is recorded takes no space from the file.
 *
 * Claims made of holes are promised their space before the commit (-ENOSPC is the
 * answer of fallocate, not of later writes); claims that take the place of data, of
 * which the blocks come back, are counted only (reserve.c).
 */
#include "config.h"

#include "fs/range.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/log.h"

/* Spans looked at by one transaction that changes fewer. */
#define STEP_SPANS (8 * BATCH_SPANS)

struct step {
	struct range *range;
	struct store_batch *batch;
	struct key key; /* of spans */
	uint64_t first, next; /* blocks of this transaction */
	uint32_t most, changed, seen;
	struct span_map first_map; /* span 0, if it is changed */
	bool has_first, has_others;
	bool frees_tail; /* the block of a stale tail goes */

	/* Claims made ... */
	uint64_t fresh;	      /* of holes */
	uint64_t covered;     /* below what is pending, and stays so */
	uint64_t owed;	      /* of what had space and is dropped; */
	uint64_t owed_blocks; /* of these, not counted by the record so far */
	struct span_counts gone;
};

/* ---- one span -------------------------------------------------------------------- */

/* Does all that is there go? */
static bool clears(const struct range *range, uint64_t block)
{
	return range->rule == RANGE_PUNCH || (range->rule == RANGE_ZERO &&
		block >= range->whole_first && block < range->whole_end);
}

/* What becomes of block @block, which lies at @place. */
static uint64_t place_after(const struct range *range, uint64_t block, uint64_t place)
{
	if (clears(range, block))
		return range->rule == RANGE_PUNCH ? SPAN_HOLE : SPAN_CLAIMED;
	return place == SPAN_HOLE ? SPAN_CLAIMED : place;
}

/* Block @i of the span is changed; @has_pending: something newer lies over it. */
static void count_change(struct step *step, uint64_t block, const struct span_map *from,
    uint32_t i, bool has_pending)
{
	bool is_hole = span_is_hole(from, i);

	if (step->range->rule == RANGE_PUNCH) {
		step->gone.blocks++;
		step->gone.claims += span_is_claimed(from, i);
	} else if (is_hole && !has_pending) {
		step->fresh++;
	} else if (!clears(step->range, block)) {
		step->covered++;
	} else {
		step->owed++;
		step->owed_blocks += is_hole;
	}
}

/* The blocks of span @index that are in the range. */
static void bounds(const struct step *step, uint64_t index, uint32_t *ret_from, uint32_t *ret_to)
{
	uint64_t base = index * SPAN_BLOCKS, end = step->range->end;

	*ret_from = step->first > base ? (uint32_t)min_of(step->first - base, (uint64_t)SPAN_BLOCKS) : 0;
	*ret_to = end > base ? (uint32_t)min_of(end - base, (uint64_t)SPAN_BLOCKS) : 0;
}

static void put_span(struct step *step, uint64_t index, const struct span_map *map)
{
	uint8_t record[SPAN_RECORD_MAX];
	uint32_t bytes;

	step->changed++;
	if (index == 0) {
		step->first_map = *map;
		step->has_first = true;
		return;
	}
	key_set_span(&step->key, index);
	bytes = span_encode(map, record);
	if (bytes == 0) {
		store_batch_delete(step->batch, step->key.at, step->key.bytes);
		return;
	}
	step->has_others = true;
	store_batch_put(step->batch, step->key.at, step->key.bytes, record, bytes);
}

/* @pending: of the span in core, or NULL. */
static void change_span(struct step *step, uint64_t index, const struct span_map *map,
    const uint32_t *pending)
{
	const struct inode *inode = step->range->inode;
	uint64_t tail = inode->recorded_size / BLOCK_BYTES, freed[2] = {0};
	struct span_map after = *map;
	bool is_changed = false;
	uint32_t from, to;

	bounds(step, index, &from, &to);
	for (uint32_t i = from; i < to; i++) {
		uint64_t block = index * SPAN_BLOCKS + i;
		bool has_pending = pending && pending[i] != NOT_PENDING;

		after.block[i] = place_after(step->range, block, map->block[i]);
		if (after.block[i] == map->block[i])
			continue;
		is_changed = true;
		count_change(step, block, map, i, has_pending);
		if (!span_has_place(map, i))
			continue;
		mask_set(freed, i);
		after.checksum[i] = 0;
		step->frees_tail |= block == tail;
	}
	span_free_blocks(map, freed, step->batch);
	if (is_changed)
		put_span(step, index, &after);
}

/* ---- spans of the range ------------------------------------------------------------ */

static int change_loaded(struct step *step, uint64_t index)
{
	struct range *range = step->range;
	const struct span *span = span_find(range->inode, index);
	struct span_map map;
	int err = 0;

	if (!span)
		err = span_load(range->fs, range->inode, index, &map);
	if (err == 0)
		change_span(step, index, span ? &span->map : &map, span ? span->pending : NULL);
	step->next = min_of(range->end, (index + 1) * SPAN_BLOCKS);
	step->seen++;
	return err;
}

static bool is_full(const struct step *step)
{
	return step->next >= step->range->end || step->changed >= step->most ||
	    step->seen >= STEP_SPANS;
}

static int change_all(struct step *step)
{
	int err = 0;

	while (err == 0 && !is_full(step))
		err = change_loaded(step, step->next / SPAN_BLOCKS);
	return err;
}

static int change_item(struct step *step, const struct store_item *item)
{
	char path[DESCRIBE_BYTES];
	struct span_map map;
	uint64_t index;

	if (item->key_bytes != step->key.base + sizeof(uint64_t) ||
	    span_decode(item->value, item->value_bytes, &map) < 0) {
		log_error("%s: damaged extent record", key_describe(&step->key, path));
		return -EUCLEAN;
	}
	index = be64_load(item->key + step->key.base) / SPAN_BYTES;
	if (index * SPAN_BLOCKS >= step->range->end)
		return -ENOENT;
	change_span(step, index, &map, NULL);
	step->next = min_of(step->range->end, (index + 1) * SPAN_BLOCKS);
	step->seen++;
	return 0;
}

/* Only what has a record: what is pending over holes needs no transaction. */
static int change_recorded(struct step *step)
{
	struct range *range = step->range;
	struct store_range spans = {.prefix_bytes = step->key.base};
	struct store_cursor *cursor;
	struct store_item item;
	int err = 0;

	if (step->next < SPAN_BLOCKS)
		err = change_loaded(step, 0);
	if (err < 0 || is_full(step))
		return err;
	if (!(range->inode->flags & INODE_HAS_SPANS)) {
		step->next = range->end;
		return 0;
	}
	key_set_span(&step->key, step->next / SPAN_BLOCKS);
	spans.prefix = spans.start = step->key.at;
	spans.start_bytes = step->key.bytes;
	err = store_cursor_open(range->fs->store, &spans, &cursor);
	if (err < 0)
		return err;
	while (err == 0 && !is_full(step)) {
		err = store_cursor_next(cursor, &item);
		if (err == 0)
			err = change_item(step, &item);
	}
	store_cursor_close(cursor);
	if (err != -ENOENT)
		return err;
	step->next = range->end;
	return 0;
}

/* ---- the transaction ---------------------------------------------------------------- */

/* The inode's header after it, in core. */
static void change_header(const struct step *step)
{
	const struct range *range = step->range;
	struct inode *inode = range->inode;
	uint64_t claims = inode->claimed + step->fresh + step->covered + step->owed;
	uint64_t blocks =
	    inode->recorded_blocks + step->fresh + step->covered + step->owed_blocks;
	uint64_t size = min_of(range->size, step->next * BLOCK_BYTES);

	inode->claimed = (uint32_t)(claims - min_of(claims, step->gone.claims));
	inode->recorded_blocks = blocks - min_of(blocks, step->gone.blocks);
	if (step->has_others)
		inode->flags |= INODE_HAS_SPANS;
	if (step->frees_tail)
		inode->flags &= (uint8_t)~INODE_TAIL_STALE;
	inode->attr.size = max_of(inode->attr.size, size);
	inode->recorded_size = recorded_size_next(inode);
}

static int add_record(struct step *step, struct inode_value *value)
{
	struct inode *inode = step->range->inode;
	uint32_t bytes;
	KEY_ON_STACK(key);
	int err = record_load(step->range->fs, inode, value);

	if (err == 0)
		err = key_inode(&key, inode);
	if (err < 0)
		return err;
	if (step->has_first) {
		bytes = span_encode(&step->first_map, inode_value_body(value));
		record_set_body(value, INODE_BODY_SPAN, bytes);
	} else if (inode->body != INODE_BODY_SPAN) {
		ASSERT(inode->body_bytes == 0);
		record_set_body(value, INODE_BODY_SPAN, 0);
	}
	store_batch_put(step->batch, key.at, key.bytes, value->raw, value->bytes);
	return 0;
}

/* Punching gives space back, so it may use the reserve. */
static int commit_change(struct step *step)
{
	struct fs *fs = step->range->fs;
	int64_t change = (int64_t)(step->fresh + step->covered + step->owed) -
	    (int64_t)step->gone.claims;
	int err = claims_promise(fs, step->fresh);

	if (err < 0)
		return err;
	err = batch_commit_claims(fs, step->batch, change, step->range->rule == RANGE_PUNCH);
	claims_settle(fs, step->fresh, err == 0);
	return err;
}

static int fill_and_commit(struct step *step)
{
	struct range *range = step->range;
	struct inode *inode = range->inode;
	struct size_state before = size_state_save(inode);
	struct inode_value value;
	int err;

	step->most = min_of(range->most, BATCH_KEY_BYTES / step->key.bytes + 1);
	err = range->rule == RANGE_PUNCH ? change_recorded(step) : change_all(step);
	if (err < 0)
		return err;
	change_header(step);
	err = add_record(step, &value);
	if (err == 0)
		err = commit_change(step);
	if (err < 0) {
		size_state_restore(inode, &before);
		return err;
	}
	worker_note_change(range->fs);
	inode->body = INODE_BODY_SPAN;
	inode->body_bytes = from_le16(value.head.body_bytes);
	inode->has_record = true;
	inode->is_spread = false;
	free(inode->orphan_body);
	inode->orphan_body = NULL;
	return 0;
}

/* ---- after it, in core ----------------------------------------------------------------- */

static void apply_to_span(const struct step *step, struct span *span)
{
	const struct range *range = step->range;
	uint32_t from, to;

	bounds(step, span->index, &from, &to);
	for (uint32_t i = from; i < to; i++) {
		uint64_t block = span->index * SPAN_BLOCKS + i;
		uint64_t place = place_after(range, block, span->map.block[i]);

		/* Pending first: it is counted by what is recorded under it. */
		if (clears(range, block))
			span_drop_pending(range->fs, range->inode, span, i, i + 1);
		if (place == span->map.block[i])
			continue;
		span->map.block[i] = place;
		span->map.checksum[i] = 0;
	}
}

static void apply(const struct step *step)
{
	struct fs *fs = step->range->fs;
	struct inode *inode = step->range->inode;
	uint64_t blocks;

	for (uint32_t s = span_position(inode, step->first / SPAN_BLOCKS);
	    s < inode->span_count && inode->spans[s]->index * SPAN_BLOCKS < step->next; s++)
		apply_to_span(step, inode->spans[s]);
	blocks = inode->blocks + step->fresh + step->owed_blocks;
	inode->blocks = blocks - min_of(blocks, step->gone.blocks);
	claims_close(fs, step->gone.claims);
	claims_open(fs, step->owed);
	step->range->next = step->next;
	/* The record has all attributes, but may have to say less of the size yet. */
	if (step->batch)
		inode->is_changed = inode->recorded_size != recorded_size_next(inode);
	if (inode->is_changed)
		pending_add(fs, inode);
}

int range_step(struct range *range)
{
	struct inode *inode = range->inode;
	struct step *step = calloc(1, sizeof(*step));
	int err = step ? 0 : -ENOMEM;

	if (err < 0)
		return err;
	step->range = range;
	step->first = step->next = range->next;
	key_init(&step->key);
	/* Without spans in the record there is nothing to punch there. */
	if (range->rule == RANGE_PUNCH && inode->body != INODE_BODY_SPAN) {
		step->next = range->end;
	} else {
		err = key_spans(&step->key, inode);
		if (err == 0)
			err = batch_take(range->fs, &step->batch);
		if (err == 0)
			err = fill_and_commit(step);
	}
	if (err == 0)
		apply(step);
	batch_give(range->fs, step->batch);
	key_fini(&step->key);
	free(step);
	return err;
}
