/*
 * Changing a file's size.
 *
 *	     new size                   old size
 *	        v                          v
 *	| . . . . . | . . . . | . . . . | . . |
 *	  span k      spans behind: records deleted, at most BATCH_SPANS with the new
 *	              size in one transaction, the rest in further ones
 *
 * Shrinking: one transaction records the new size, cuts the span it falls into, frees
 * the blocks behind and deletes the first records of the spans behind.  If more are
 * left, the inode is marked INODE_TRUNCATING in the same transaction and they go in
 * bounded steps, between which other calls may use the file.  A crash between steps
 * leaves the mark; the steps go on when the file is next looked up, and in any case
 * before its size changes again.  Spans behind the end are never read meanwhile.
 *
 * When the end falls into a block, the rest of that block must read as zeros should
 * the file grow again.  The block is immutable on the device, so a fresh copy with a
 * zeroed rest is made pending; until it is recorded, INODE_TAIL_STALE in the record
 * says that the rest is not zeros, and growing repairs the block first.
 *
 * Growing: the new part is a hole.
 *
 * Data that is still inline in the record, or inline there and spread over pending
 * blocks in core, has nothing to free: the inline bytes are cut with the size.
 *
 * Locking: names gate, inode locked exclusively.
 */
#include "config.h"

#include "fs/range.h"

#include <errno.h>

#include "base/assert.h"

struct size_state size_state_save(const struct inode *inode)
{
	return (struct size_state){
	    .attr = inode->attr,
	    .recorded_size = inode->recorded_size,
	    .recorded_blocks = inode->recorded_blocks,
	    .blocks = inode->blocks,
	    .claimed = inode->claimed,
	    .body_bytes = inode->body_bytes,
	    .flags = inode->flags,
	};
}

void size_state_restore(struct inode *inode, const struct size_state *state)
{
	inode->attr = state->attr;
	inode->recorded_size = state->recorded_size;
	inode->recorded_blocks = state->recorded_blocks;
	inode->blocks = state->blocks;
	inode->claimed = state->claimed;
	inode->body_bytes = state->body_bytes;
	inode->flags = state->flags;
}

static void set_times(struct inode *inode)
{
	inode->attr.times[INODE_MTIME] = inode->attr.times[INODE_CTIME] = time_now();
}

/* Where a size falls: which span, and how many of its blocks stay. */
struct edge {
	uint64_t span;
	uint32_t blocks;
};

static struct edge edge_of(uint64_t size)
{
	return (struct edge){
	    .span = size / SPAN_BYTES,
	    .blocks = (uint32_t)div_up(size % SPAN_BYTES, BLOCK_BYTES),
	};
}

/* The first span that goes as a whole. */
static uint64_t first_behind(struct edge edge)
{
	return edge.blocks > 0 ? edge.span + 1 : edge.span;
}

/* ---- the record's inline data ------------------------------------------------------ */

/* The file's size and, if it shrinks, its inline bytes; nothing else is recorded. */
static int put_inline_size(struct fs *fs, struct inode *inode, uint64_t size)
{
	struct size_state before = size_state_save(inode);
	struct inode_value value;
	int err = record_load(fs, inode, &value);

	if (err < 0)
		return err;
	set_times(inode);
	inode->attr.size = size;
	inode->recorded_size = min_of(inode->recorded_size, size);
	inode->recorded_size = recorded_size_next(inode);
	inode->body_bytes = (uint16_t)min_of((uint64_t)inode->body_bytes, size);
	record_fill(inode, &value);
	err = record_save(fs, inode, &value);
	if (err < 0)
		size_state_restore(inode, &before);
	return err;
}

/* ---- the block of the end ------------------------------------------------------------ */

/*
 * A pending copy of the block that @size cuts: reopened in @ret, so that its rest can
 * be zeroed once the cut is committed.  count 0: there is none.  A copy on its way to
 * the device has to get there first.
 */
static int open_tail(struct fs *fs, struct inode *inode, uint64_t size, struct segment_piece *ret)
{
	struct edge edge = edge_of(size);
	struct span *span = span_find(inode, edge.span);
	uint32_t place;

	ret->count = 0;
	if (!span || is_aligned(size, BLOCK_BYTES))
		return 0;
	place = span->pending[edge.blocks - 1];
	if (place == NOT_PENDING || segment_reopen(fs, place, ret))
		return 0;
	return RETRY_AFTER_FLUSH;
}

static void close_tail(struct fs *fs, const struct segment_piece *piece, uint64_t size, bool zeroes)
{
	uint32_t from = (uint32_t)(size % BLOCK_BYTES);

	if (piece->count == 0)
		return;
	if (zeroes)
		memset(piece->memory + from, 0, BLOCK_BYTES - from);
	segment_filled(fs, piece);
}

int tail_repair(struct fs *fs, struct inode *inode, struct damage *damage)
{
	uint64_t block = inode->recorded_size / BLOCK_BYTES;
	struct span *span = span_find(inode, block / SPAN_BLOCKS);

	if (!(inode->flags & INODE_TAIL_STALE))
		return 0;
	if (span && span->pending[block % SPAN_BLOCKS] != NOT_PENDING)
		return 0;
	return block_rewrite(fs, inode, block, 0, NULL, 0, damage);
}

/* ---- growing --------------------------------------------------------------------------- */

static int grow(struct fs *fs, struct inode *inode, uint64_t size, struct damage *damage)
{
	struct size_state before;
	int err;

	if (inode->body == INODE_BODY_INLINE)
		return put_inline_size(fs, inode, size);
	err = size > inode->attr.size ? tail_repair(fs, inode, damage) : 0;
	if (err != 0)
		return err;
	before = size_state_save(inode);
	set_times(inode);
	inode->attr.size = size;
	inode->recorded_size = recorded_size_next(inode);
	err = record_update(fs, inode);
	if (err < 0)
		size_state_restore(inode, &before);
	return err;
}

/* ---- shrinking -------------------------------------------------------------------------- */

static void drop_pending_behind(struct fs *fs, struct inode *inode, struct edge edge)
{
	struct span *span = span_find(inode, edge.span);

	if (span)
		span_drop_pending(fs, inode, span, edge.blocks, SPAN_BLOCKS);
}

static int shrink_spread(struct fs *fs, struct inode *inode, uint64_t size)
{
	struct segment_piece tail;
	int err = open_tail(fs, inode, size, &tail);

	if (err != 0)
		return err;
	err = put_inline_size(fs, inode, size);
	close_tail(fs, &tail, size, err == 0);
	if (err < 0)
		return err;
	drop_pending_behind(fs, inode, edge_of(size));
	spans_drop(fs, inode, first_behind(edge_of(size)));
	if (size == 0)
		inode->is_spread = false;
	return 0;
}

struct cut {
	struct edge edge;
	struct span *span;   /* of the edge, if it stays or is span 0; else NULL */
	uint64_t freed[2];   /* its blocks that go */
	struct span_map map; /* it without them */
	struct span_counts gone;
	uint32_t most; /* spans to delete in this transaction */
	bool is_all;   /* nothing is left behind the end */
};

static void cut_span(struct cut *cut, struct store_batch *batch)
{
	cut->map = cut->span->map;
	for (uint32_t i = cut->edge.blocks; i < SPAN_BLOCKS; i++) {
		if (span_is_hole(&cut->map, i))
			continue;
		if (span_has_place(&cut->map, i))
			mask_set(cut->freed, i);
		else
			cut->gone.claims++;
		cut->map.block[i] = SPAN_HOLE;
		cut->map.checksum[i] = 0;
		cut->gone.blocks++;
	}
	span_free_blocks(&cut->span->map, cut->freed, batch);
}

/* The cut span's record; that of span 0 goes into @value. */
static int put_span(struct inode *inode, const struct cut *cut, struct inode_value *value,
    struct store_batch *batch)
{
	uint8_t record[SPAN_RECORD_MAX];
	KEY_ON_STACK(key);
	uint32_t bytes;
	int err;

	if (!cut->span)
		return 0;
	if (cut->edge.span == 0) {
		bytes = span_encode(&cut->map, inode_value_body(value));
		record_set_body(value, INODE_BODY_SPAN, bytes);
		return 0;
	}
	err = key_spans(&key, inode);
	if (err < 0)
		return err;
	key_set_span(&key, cut->edge.span);
	bytes = span_encode(&cut->map, record);
	if (bytes > 0)
		store_batch_put(batch, key.at, key.bytes, record, bytes);
	else
		store_batch_delete(batch, key.at, key.bytes);
	return 0;
}

/* Deletes records of whole spans behind the end, the first of them. */
static int delete_behind(struct fs *fs, struct inode *inode, struct cut *cut,
    struct store_batch *batch)
{
	KEY_ON_STACK(key);
	struct span_range range = {
	    .prefix = &key,
	    .first = max_of(first_behind(cut->edge), (uint64_t)1),
	    .most = cut->most,
	};
	struct span_counts gone;
	int err;

	cut->is_all = true;
	if (!(inode->flags & INODE_HAS_SPANS))
		return 0;
	err = key_spans(&key, inode);
	if (err == 0)
		err = spans_delete(fs, &range, batch, &gone, &cut->is_all);
	if (err == 0) {
		cut->gone.blocks += gone.blocks;
		cut->gone.claims += gone.claims;
	}
	return err;
}

static void subtract(struct inode *inode, const struct span_counts *gone)
{
	inode->recorded_blocks -= min_of(inode->recorded_blocks, gone->blocks);
	inode->blocks -= min_of(inode->blocks, gone->blocks);
	inode->claimed -= (uint32_t)min_of((uint64_t)inode->claimed, gone->claims);
}

/* The inode after the cut, in core. */
static void change_inode(struct inode *inode, const struct cut *cut, uint64_t size)
{
	bool cuts_block = !is_aligned(size, BLOCK_BYTES);
	uint8_t flags = inode->flags & (uint8_t)~INODE_TRUNCATING;

	if (!cut->is_all)
		flags |= INODE_TRUNCATING;
	else if (first_behind(cut->edge) <= 1)
		flags &= (uint8_t)~INODE_HAS_SPANS;
	if (size < inode->recorded_size) {
		flags &= (uint8_t)~INODE_TAIL_STALE;
		if (cuts_block && span_has_place(&cut->map, cut->edge.blocks - 1))
			flags |= INODE_TAIL_STALE;
		inode->recorded_size = size;
	}
	inode->flags = flags;
	inode->attr.size = size;
	subtract(inode, &cut->gone);
	set_times(inode);
}

static int fill_cut(struct fs *fs, struct inode *inode, uint64_t size, struct cut *cut,
    struct inode_value *value, struct store_batch *batch)
{
	KEY_ON_STACK(key);
	int err;

	if (cut->span)
		cut_span(cut, batch);
	err = delete_behind(fs, inode, cut, batch);
	if (err < 0)
		return err;
	change_inode(inode, cut, size);
	err = record_load(fs, inode, value);
	if (err == 0)
		err = put_span(inode, cut, value, batch);
	if (err < 0)
		return err;
	err = key_inode(&key, inode);
	if (err == 0)
		store_batch_put(batch, key.at, key.bytes, value->raw, value->bytes);
	return err;
}

static int commit_cut_once(struct fs *fs, struct inode *inode, uint64_t size, struct cut *cut)
{
	struct size_state before = size_state_save(inode);
	struct store_batch *batch;
	struct inode_value value;
	int err = batch_take(fs, &batch);

	if (err < 0)
		return err;
	err = fill_cut(fs, inode, size, cut, &value, batch);
	if (err == 0)
		err = batch_commit_claims(fs, batch, -(int64_t)cut->gone.claims, true);
	batch_give(fs, batch);
	if (err < 0) {
		size_state_restore(inode, &before);
		return err;
	}
	worker_note_change(fs);
	inode->body_bytes = from_le16(value.head.body_bytes);
	/* Pending first: a pending block is counted by what is recorded under it. */
	drop_pending_behind(fs, inode, cut->edge);
	if (cut->span)
		cut->span->map = cut->map;
	spans_drop(fs, inode, first_behind(cut->edge));
	claims_close(fs, cut->gone.claims);
	return 0;
}

/* Should the transaction be too much for the store, it is tried again with fewer spans
 * deleted: the others are left for truncate_finish(). */
static int commit_cut(struct fs *fs, struct inode *inode, uint64_t size, struct cut *cut)
{
	uint32_t most = BATCH_SPANS;
	int err;

	do {
		*cut = (struct cut){.edge = cut->edge, .span = cut->span, .most = most};
		err = commit_cut_once(fs, inode, size, cut);
	} while (batch_may_shrink(err, &most));
	return err;
}

static int shrink_spans(struct fs *fs, struct inode *inode, uint64_t size, struct damage *damage)
{
	struct cut cut = {.edge = edge_of(size)};
	struct segment_piece tail;
	int err = 0;

	if (cut.edge.blocks > 0 || cut.edge.span == 0)
		err = span_get(fs, inode, cut.edge.span, &cut.span);
	if (err == 0)
		err = open_tail(fs, inode, size, &tail);
	if (err != 0)
		return err;
	err = commit_cut(fs, inode, size, &cut);
	close_tail(fs, &tail, size, err == 0);
	if (err < 0)
		return err;
	/* Should this fail, the record's INODE_TAIL_STALE stands. */
	(void)tail_repair(fs, inode, damage);
	if (inode->recorded_size != recorded_size_next(inode)) {
		inode->is_changed = true;
		pending_add(fs, inode);
	}
	return 0;
}

int inode_set_size(struct fs *fs, struct inode *inode, uint64_t size, struct damage *damage)
{
	if (inode->flags & INODE_TRUNCATING)
		return RETRY_AFTER_TRUNCATE;
	/* What was allocated behind the end goes with any truncation but to more. */
	if (size > inode->attr.size || (size == inode->attr.size && inode->claimed == 0))
		return grow(fs, inode, size, damage);
	if (inode->is_spread)
		return shrink_spread(fs, inode, size);
	if (inode->body == INODE_BODY_INLINE)
		return put_inline_size(fs, inode, size);
	return shrink_spans(fs, inode, size, damage);
}

/* ---- the rest of a large truncation ---------------------------------------------------- */

static int finish_step(struct fs *fs, struct inode *inode, uint32_t most)
{
	struct size_state before = size_state_save(inode);
	struct cut cut = {.edge = edge_of(inode->attr.size), .most = most};
	struct store_batch *batch;
	struct inode_value value;
	KEY_ON_STACK(key);
	int err = batch_take(fs, &batch);

	if (err < 0)
		return err;
	err = delete_behind(fs, inode, &cut, batch);
	if (err == 0) {
		if (cut.is_all)
			inode->flags &= (uint8_t)~INODE_TRUNCATING;
		if (cut.is_all && first_behind(cut.edge) <= 1)
			inode->flags &= (uint8_t)~INODE_HAS_SPANS;
		subtract(inode, &cut.gone);
		err = record_load(fs, inode, &value);
	}
	if (err == 0)
		err = key_inode(&key, inode);
	if (err == 0) {
		store_batch_put(batch, key.at, key.bytes, value.raw, value.bytes);
		err = batch_commit_claims(fs, batch, -(int64_t)cut.gone.claims, true);
	}
	if (err == 0) {
		worker_note_change(fs);
		claims_close(fs, cut.gone.claims);
	} else {
		size_state_restore(inode, &before);
	}
	batch_give(fs, batch);
	return err;
}

int truncate_finish(struct fs *fs, struct inode *inode)
{
	uint32_t most = BATCH_SPANS;
	bool is_done = false;
	int err = 0;

	while (err == 0 && !is_done) {
		unsigned ticket = gate_enter_shared(fs->names);

		inode_lock(inode);
		is_done = !(inode->flags & INODE_TRUNCATING);
		if (!is_done)
			err = finish_step(fs, inode, most);
		inode_unlock(inode);
		gate_leave_shared(fs->names, ticket);
		if (batch_may_shrink(err, &most))
			err = 0;
	}
	return err;
}
