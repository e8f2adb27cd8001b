/*
 * From written data to recorded data: flush of one file or of all.
 *
 *	1. segments_write     what is pending goes to the device, and is waited for
 *	2. record_inode       one transaction (or several bounded ones) a file: blocks
 *	                      put to use with their checksums, span records, the inode's
 *	                      record with the size they cover, replaced blocks freed
 *	3. store_sync         the caller's, once for all of it
 *
 * Invariants:
 *  1. A record names only blocks whose write has completed.
 *  2. A recorded size never passes a block that is pending, and no block is recorded
 *     that lies behind a pending one which the recorded size does not cover: so a
 *     crash never shows a hole where data was on its way (recorded_size_next).
 *  3. Inline data that was spread over pending blocks stays in the record until block
 *     0 is recorded.
 *  4. While inode->flushers is not 0 writers do not replace pending blocks that are
 *     sealed, nor make new ones that 2. would put before older ones (write.c).  So
 *     all that was pending when a flush began is recorded when it ends.
 *
 * Inodes with pending data or attributes are on the pending list, which holds a
 * reference.  They leave it under their lock, when nothing is left.
 *
 * Locking: step 1 outside the gate under commit_mutex; step 2 in the gate with the
 * inode locked.
 */
#include "config.h"

#include "fs/fs_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/cleanup.h"

#define FLUSH_SLOTS 64u

/* ---- the pending list --------------------------------------------------------------- */

void pending_add(struct fs *fs, struct inode *inode)
{
	bool is_new;

	mutex_lock(&fs->pending_mutex);
	is_new = !inode->is_pending;
	if (is_new && fs->pending) {
		inode->pending_next = fs->pending;
		inode->pending_prev = fs->pending->pending_prev;
		inode->pending_prev->pending_next = inode;
		fs->pending->pending_prev = inode;
	} else if (is_new) {
		inode->pending_next = inode->pending_prev = inode;
		fs->pending = inode;
	}
	inode->is_pending = true;
	fs->pending_count += is_new;
	mutex_unlock(&fs->pending_mutex);
	if (is_new)
		inode_hold(fs, inode);
	worker_note_change(fs);
}

/* The caller has a reference besides the list's, so the inode does not end here. */
void pending_remove(struct fs *fs, struct inode *inode)
{
	bool was_pending;

	mutex_lock(&fs->pending_mutex);
	was_pending = inode->is_pending;
	if (was_pending) {
		if (inode->pending_next == inode)
			fs->pending = NULL;
		else if (fs->pending == inode)
			fs->pending = inode->pending_next;
		inode->pending_prev->pending_next = inode->pending_next;
		inode->pending_next->pending_prev = inode->pending_prev;
		inode->is_pending = false;
		fs->pending_count--;
	}
	mutex_unlock(&fs->pending_mutex);
	if (was_pending)
		inode_put(fs, inode);
}

void pending_discard(struct fs *fs, struct inode *inode)
{
	for (uint32_t i = 0; i < inode->span_count; i++)
		span_drop_pending(fs, inode, inode->spans[i], 0, SPAN_BLOCKS);
	ASSERT(inode->pending_blocks == 0);
	inode->is_changed = false;
	pending_remove(fs, inode);
}

/* ---- sizes ---------------------------------------------------------------------------- */

/*
 * The first pending block of the file that is neither in the transaction being made
 * nor covered by the recorded size; UINT64_MAX: none.
 */
static uint64_t first_uncovered(const struct inode *inode)
{
	uint64_t covered = inode->recorded_size / BLOCK_BYTES;

	for (uint32_t s = 0; s < inode->span_count; s++) {
		const struct span *span = inode->spans[s];
		uint64_t base = span->index * SPAN_BLOCKS;

		if (span->pending_count == 0 || base + SPAN_BLOCKS <= covered)
			continue;
		for (uint32_t i = 0; i < SPAN_BLOCKS; i++)
			if (span->pending[i] != NOT_PENDING && base + i >= covered &&
			    !mask_has(span->recording, i))
				return base + i;
	}
	return UINT64_MAX;
}

uint64_t recorded_size_next(const struct inode *inode)
{
	uint64_t block = first_uncovered(inode);

	if (block > inode->attr.size / BLOCK_BYTES)
		return inode->attr.size;
	return max_of(inode->recorded_size, block * BLOCK_BYTES);
}

/* ---- one transaction ------------------------------------------------------------------ */

struct recording {
	struct fs *fs;
	struct inode *inode;
	struct store_batch *batch;
	struct key key; /* of spans */
	struct inode_value value;
	struct span *spans[BATCH_SPANS];
	uint32_t span_count, most;
	uint64_t limit; /* blocks from here on stay pending: invariant 2 */
	uint64_t new_blocks;
	uint32_t claims;     /* that get a place */
	bool has_first;	     /* span 0 is among them */
	bool has_others;     /* or others */
	bool cures_tail;     /* the block of a stale tail is */
	bool has_more;	     /* another transaction is needed */
};

/* The lowest block that is pending beyond the recorded size and not yet written. */
static uint64_t find_limit(struct fs *fs, const struct inode *inode)
{
	uint64_t covered = inode->recorded_size / BLOCK_BYTES, place;
	uint32_t checksum;

	for (uint32_t s = 0; s < inode->span_count; s++) {
		const struct span *span = inode->spans[s];
		uint64_t base = span->index * SPAN_BLOCKS;

		for (uint32_t i = 0; i < SPAN_BLOCKS && span->pending_count > 0; i++)
			if (span->pending[i] != NOT_PENDING && base + i >= covered &&
			    !segment_is_written(fs, span->pending[i], &place, &checksum))
				return base + i;
	}
	return UINT64_MAX;
}

/* Picks the span's blocks that can be recorded; @map gets their places. */
static bool pick_blocks(struct recording *r, struct span *span, struct span_map *map)
{
	uint64_t base = span->index * SPAN_BLOCKS;
	uint64_t block;
	uint32_t checksum;
	bool has = false;

	*map = span->map;
	span->recording[0] = span->recording[1] = 0;
	for (uint32_t i = 0; i < SPAN_BLOCKS; i++) {
		if (span->pending[i] == NOT_PENDING || base + i >= r->limit ||
		    !segment_is_written(r->fs, span->pending[i], &block, &checksum))
			continue;
		mask_set(span->recording, i);
		map->block[i] = block;
		map->checksum[i] = checksum;
		has = true;
	}
	return has;
}

static void add_span(struct recording *r, struct span *span, const struct span_map *map)
{
	uint8_t record[SPAN_RECORD_MAX];
	uint64_t tail = r->inode->recorded_size / BLOCK_BYTES;
	uint64_t freed[2] = {0};
	uint32_t bytes;

	for (uint32_t i = 0; i < SPAN_BLOCKS; i++) {
		if (!mask_has(span->recording, i))
			continue;
		if (span_has_place(&span->map, i))
			mask_set(freed, i);
		else if (span_is_claimed(&span->map, i))
			r->claims++;
		else
			r->new_blocks++;
		if (span->index * SPAN_BLOCKS + i == tail)
			r->cures_tail = true;
	}
	span_use_blocks(map, span->recording, r->batch);
	span_free_blocks(&span->map, freed, r->batch);
	r->spans[r->span_count++] = span;
	if (span->index == 0) {
		r->has_first = true;
		bytes = span_encode(map, inode_value_body(&r->value));
		record_set_body(&r->value, INODE_BODY_SPAN, bytes);
		return;
	}
	r->has_others = true;
	bytes = span_encode(map, record);
	key_set_span(&r->key, span->index);
	store_batch_put(r->batch, r->key.at, r->key.bytes, record, bytes);
}

/* Fills the batch with spans, lowest first. */
static int add_spans(struct recording *r)
{
	struct inode *inode = r->inode;
	struct span_map map;
	int err = key_spans(&r->key, inode);

	if (err < 0)
		return err;
	r->most = min_of(r->most, BATCH_KEY_BYTES / r->key.bytes + 1);
	for (uint32_t s = 0; s < inode->span_count; s++) {
		struct span *span = inode->spans[s];

		if (span->pending_count == 0)
			continue;
		if (r->span_count == r->most) {
			r->has_more = true;
			break;
		}
		if (pick_blocks(r, span, &map))
			add_span(r, span, &map);
	}
	return 0;
}

/* What the inode says of its record once the transaction is made. */
struct recorded {
	uint64_t size, blocks;
	uint32_t claimed;
	uint16_t body_bytes;
	uint8_t body, flags;
};

static struct recorded recorded_now(const struct inode *inode)
{
	return (struct recorded){
	    .size = inode->recorded_size,
	    .blocks = inode->recorded_blocks,
	    .claimed = inode->claimed,
	    .body_bytes = inode->body_bytes,
	    .body = inode->body,
	    .flags = inode->flags,
	};
}

static void set_recorded(struct inode *inode, const struct recorded *to)
{
	inode->recorded_size = to->size;
	inode->recorded_blocks = to->blocks;
	inode->claimed = to->claimed;
	inode->body_bytes = to->body_bytes;
	inode->body = to->body;
	inode->flags = to->flags;
}

static struct recorded recorded_after(const struct recording *r)
{
	const struct inode *inode = r->inode;
	struct recorded to = recorded_now(inode);

	to.size = inode->type == S_IFREG ? recorded_size_next(inode) : inode->attr.size;
	to.blocks += r->new_blocks;
	to.claimed -= min_of(to.claimed, r->claims);
	if (r->has_others)
		to.flags |= INODE_HAS_SPANS;
	if (r->cures_tail)
		to.flags &= (uint8_t)~INODE_TAIL_STALE;
	if (r->span_count > 0)
		to.body = INODE_BODY_SPAN;
	if (r->has_first)
		to.body_bytes = from_le16(r->value.head.body_bytes);
	else if (r->span_count > 0 && inode->body != INODE_BODY_SPAN)
		to.body_bytes = 0;
	return to;
}

/* The inode's record: the body is span 0 if that is in the batch, else as it was. */
static int add_record(struct recording *r, const struct recorded *after)
{
	struct inode *inode = r->inode;
	struct recorded before = recorded_now(inode);
	KEY_ON_STACK(key);
	int err = 0;

	if (!r->has_first && after->body == inode->body)
		err = record_load(r->fs, inode, &r->value);
	if (err == 0)
		err = key_inode(&key, inode);
	if (err < 0)
		return err;
	set_recorded(inode, after);
	record_fill(inode, &r->value);
	set_recorded(inode, &before);
	store_batch_put(r->batch, key.at, key.bytes, r->value.raw, r->value.bytes);
	return 0;
}

/* The transaction is in the journal: pending entries become recorded ones. */
static void apply(struct recording *r, const struct recorded *after)
{
	struct inode *inode = r->inode;
	bool is_written;

	set_recorded(inode, after);
	inode->has_record = true;
	if (after->body == INODE_BODY_SPAN) {
		inode->is_spread = false;
		free(inode->orphan_body);
		inode->orphan_body = NULL;
	}
	if (!r->has_more)
		inode->is_changed = false;
	for (uint32_t s = 0; s < r->span_count; s++) {
		struct span *span = r->spans[s];

		for (uint32_t i = 0; i < SPAN_BLOCKS; i++) {
			if (!mask_has(span->recording, i))
				continue;
			is_written = segment_is_written(r->fs, span->pending[i],
			    &span->map.block[i], &span->map.checksum[i]);
			ASSERT(is_written);
			segment_recorded(r->fs, span->pending[i]);
			span->pending[i] = NOT_PENDING;
			span->pending_count--;
			inode->pending_blocks--;
		}
	}
	if (inode->pending_blocks == 0)
		inode->pending_end = 0;
}

static void end_recording(struct recording *r)
{
	for (uint32_t s = 0; s < r->span_count; s++)
		r->spans[s]->recording[0] = r->spans[s]->recording[1] = 0;
	key_fini(&r->key);
	batch_give(r->fs, r->batch);
}

/* Inline data must not leave the record before block 0 takes its place. */
static bool keeps_inline(const struct recording *r)
{
	return r->inode->is_spread && r->inode->body_bytes > 0 &&
	    (!r->has_first || !mask_has(r->spans[0]->recording, 0));
}

static int record_once(struct recording *r, uint32_t most)
{
	struct inode *inode = r->inode;
	struct recorded after;
	int err;

	r->span_count = 0;
	r->most = most;
	r->new_blocks = r->claims = 0;
	r->has_first = r->has_others = r->cures_tail = r->has_more = false;
	key_init(&r->key);
	err = batch_take(r->fs, &r->batch);
	if (err < 0)
		return err;
	if (inode->pending_blocks > 0)
		err = add_spans(r);
	if (err == 0 && r->span_count > 0 && keeps_inline(r))
		goto out;
	if (err == 0 && (r->span_count > 0 || inode->is_changed)) {
		after = recorded_after(r);
		err = add_record(r, &after);
		if (err == 0)
			err = batch_commit_claims(r->fs, r->batch, -(int64_t)r->claims, true);
		if (err == 0)
			apply(r, &after);
	}
out:
	end_recording(r);
	return err;
}

/* In the gate, the inode locked exclusively. */
static int record_locked(struct fs *fs, struct inode *inode)
{
	struct recording *r = calloc(1, sizeof(*r));
	uint32_t most = BATCH_SPANS;
	int err;

	if (!r)
		return -ENOMEM;
	r->fs = fs;
	r->inode = inode;
	r->limit = find_limit(fs, inode);
	do {
		err = record_once(r, most);
		if (batch_may_shrink(err, &most)) {
			r->has_more = true;
			err = 0;
		}
	} while (err == 0 && r->has_more);
	free(r);
	return err;
}

static int record_inode(struct fs *fs, struct inode *inode)
{
	unsigned ticket = gate_enter_shared(fs->names);
	int err = 0;

	inode_lock(inode);
	/* Attributes of an orphan without record are nobody's but core's. */
	if (inode->is_orphan && !inode->has_record && inode->pending_blocks == 0)
		inode->is_changed = false;
	if (inode->pending_blocks > 0 || inode->is_changed)
		err = record_locked(fs, inode);
	if (inode->pending_blocks == 0 && !inode->is_changed)
		pending_remove(fs, inode);
	inode_unlock(inode);
	gate_leave_shared(fs->names, ticket);
	if (err < 0 && err != -ENOSPC && err != -ENOMEM)
		fs_set_error(fs, err);
	return err;
}

/* ---- flushes ---------------------------------------------------------------------------- */

/* The segments in which the inode has something pending; false: too many. */
static bool find_segments(struct inode *inode, uint32_t slots[FLUSH_SLOTS], uint32_t *ret_count)
{
	uint32_t count = 0;
	bool fits = true;

	inode_lock_shared(inode);
	for (uint32_t s = 0; s < inode->span_count && fits; s++) {
		const struct span *span = inode->spans[s];

		for (uint32_t i = 0; i < SPAN_BLOCKS && span->pending_count > 0; i++) {
			uint32_t n = 0, slot = pending_slot(span->pending[i]);

			if (span->pending[i] == NOT_PENDING)
				continue;
			while (n < count && slots[n] != slot)
				n++;
			if (n < count)
				continue;
			fits = count < FLUSH_SLOTS;
			if (!fits)
				break;
			slots[count++] = slot;
		}
	}
	inode_unlock(inode);
	*ret_count = count;
	return fits;
}

int flush_inode(struct fs *fs, struct inode *inode)
{
	uint32_t slots[FLUSH_SLOTS], count;
	bool fits;
	int err = fs_error(fs);

	if (err < 0)
		return err;
	atomic_fetch_add(&inode->flushers, 1);
	fits = find_segments(inode, slots, &count);
	if (count > 0)
		err = segments_write(fs, fits ? slots : NULL, count);
	if (err == 0)
		err = record_inode(fs, inode);
	atomic_fetch_sub(&inode->flushers, 1);
	return err;
}

/* The numbers of all inodes on the pending list. */
static int collect(struct fs *fs, uint64_t **ret, uint64_t *ret_count)
{
	uint64_t *all = NULL;
	uint64_t count = 0, room = 0;

	mutex_lock(&fs->pending_mutex);
	while (!all || fs->pending_count > room) {
		room = fs->pending_count;
		mutex_unlock(&fs->pending_mutex);
		free(all);
		all = malloc((room + 1) * sizeof(*all));
		if (!all)
			return -ENOMEM;
		mutex_lock(&fs->pending_mutex);
	}
	for (struct inode *inode = fs->pending; count < fs->pending_count;
	    inode = inode->pending_next)
		all[count++] = inode->ino;
	mutex_unlock(&fs->pending_mutex);
	*ret = all;
	*ret_count = count;
	return 0;
}

/* Their inodes, as far as they are still in core, with references. */
static int hold_pending(struct fs *fs, struct inode ***ret, uint64_t *ret_count)
{
	cleanup_free uint64_t *numbers = NULL;
	struct inode **all;
	uint64_t count, held = 0;
	int err = collect(fs, &numbers, &count);

	if (err < 0)
		return err;
	all = malloc((count + 1) * sizeof(*all));
	if (!all)
		return -ENOMEM;
	for (uint64_t i = 0; i < count; i++) {
		if (inode_get(fs, numbers[i], &all[held]) < 0)
			continue;
		atomic_fetch_add(&all[held]->flushers, 1);
		held++;
	}
	*ret = all;
	*ret_count = held;
	return 0;
}

int flush_all(struct fs *fs)
{
	cleanup_free struct inode **all = NULL;
	uint64_t count = 0;
	int err = fs_error(fs), first_err;

	if (err == 0)
		err = hold_pending(fs, &all, &count);
	if (err < 0)
		return err;
	segments_close(fs, false);
	first_err = segments_write(fs, NULL, 0);
	for (uint64_t i = 0; i < count; i++) {
		err = fs_error(fs) == 0 ? record_inode(fs, all[i]) : 0;
		first_err = first_err < 0 ? first_err : err;
		atomic_fetch_sub(&all[i]->flushers, 1);
		inode_put(fs, all[i]);
	}
	return first_err;
}

int fs_fsync(struct fs *fs, uint64_t ino, bool is_data_only)
{
	struct inode *inode;
	int err = inode_get(fs, ino, &inode);

	if (err < 0)
		return err;
	if (fs->is_read_only)
		err = 0;
	else if (inode->type == S_IFDIR)
		err = fs_sync(fs);
	else if ((err = fs_error(fs)) == 0 && (err = flush_inode(fs, inode)) == 0)
		err = store_sync(fs->store, store_end_lsn(fs->store), JOURNAL_SYNC);
	inode_put(fs, inode);
	return err;
}
