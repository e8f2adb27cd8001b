/*
 * Segments: where written data waits for its write.
 *
 * A segment is a leased pool slot whose blocks already have their places on the
 * volume.  Writes of small files go one after the other into the shared segment, so
 * that one device write stores many files; a file that is written in quantity gets a
 * stream of its own, so that its blocks stay together.
 *
 *	position   0 ...... written ...... sealed ....... filled ...... allocated
 *	            on the    with the      may still      no data      no place yet
 *	            device    device        be changed     yet
 *
 *	           .--- take, reopen, fill ---.
 *	           v                          |
 *	open ------+--> full or closed -> submitted -> written -> recorded: over
 *	           |        (by whom fills it last)       |
 *	           `-- flush: written so far, goes on --<-'
 *
 * Invariants:
 *  1. A block below `sealed` never changes: it may be with the device.  Sealing waits
 *     for the threads that are copying (fillers); they wait for nothing.
 *  2. A block is written once.  What is overwritten before it was sealed is changed in
 *     memory; later it takes a fresh block, and this one is dead.
 *  3. Each filled position is live (one span's pending entry names it), dead, or
 *     recorded in the tree.  Places of dead and of unfilled positions go back to
 *     space when no write of them can be under way.
 *  4. segment_of_slot[] is valid for the slot of every pending entry.
 *
 * Ends as cached data frame if its blocks lie as in their frame, else in copies for
 * frames that are cached.
 *
 * Locking: segment_mutex for everything but the copying.
 */
#include "config.h"

#include "fs/segment.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"

/* A file with this many unwritten blocks is a stream. */
#define STREAM_BLOCKS 64u
/* A run this long keeps its position in the frame. */
#define ALIGNED_RUN 32u

int segments_init(struct fs *fs)
{
	uint32_t slots = pool_slot_count(fs->pool);

	fs->slots = calloc(slots, sizeof(*fs->slots));
	fs->segment_of_slot = calloc(slots, sizeof(*fs->segment_of_slot));
	return fs->slots && fs->segment_of_slot ? 0 : -ENOMEM;
}

void segments_fini(struct fs *fs)
{
	ASSERT(!fs->segments);
	free(fs->slots);
	free(fs->segment_of_slot);
}

uint8_t *segment_bytes(struct fs *fs, const struct segment *segment, uint32_t position)
{
	return (uint8_t *)pool_memory(fs->pool, segment->slot) +
	    (size_t)position * BLOCK_BYTES;
}

/* ---- opening and closing -------------------------------------------------------------- */

static int open_locked(struct fs *fs, struct inode *owner, struct segment **ret)
{
	struct segment *segment = calloc(1, sizeof(*segment));
	int err;

	if (!segment)
		return -ENOMEM;
	err = store_lease_slot(fs->store, &segment->slot);
	if (err < 0) {
		free(segment);
		return err;
	}
	segment->owner = owner;
	device_batch_init(&segment->io);
	segment->next = fs->segments;
	fs->segments = segment;
	fs->segment_of_slot[segment->slot] = segment;
	atomic_fetch_add(&fs->segment_count, 1);
	if (owner)
		owner->stream = segment;
	else
		fs->shared = segment;
	*ret = segment;
	return 0;
}

static void cancel_positions(struct fs *fs, struct segment *segment, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++)
		space_cancel(fs->space, segment->block[i], 1);
}

static void close_locked(struct fs *fs, struct segment *segment)
{
	if (segment->is_closed)
		return;
	segment->is_closed = true;
	cancel_positions(fs, segment, segment->filled, segment->allocated);
	segment->allocated = segment->filled;
	if (segment->owner)
		segment->owner->stream = NULL;
	else
		fs->shared = NULL;
}

bool segment_is_over_locked(struct fs *fs, struct segment *segment)
{
	struct segment **at = &fs->segments;

	if (!segment->is_closed || segment->live > 0 || segment->fillers > 0 ||
	    segment->is_sealing || segment->is_submitted)
		return false;
	while (*at != segment)
		at = &(*at)->next;
	*at = segment->next;
	fs->segment_of_slot[segment->slot] = NULL;
	atomic_fetch_sub(&fs->segment_count, 1);
	condition_wake_all(&fs->segment_condition);
	return true;
}

/* All positions of one frame, each where it is there?  Then its number, else 0. */
static uint64_t frame_of(const struct segment *segment)
{
	uint64_t frame;

	if (segment->filled == segment->first)
		return 0;
	frame = segment->block[segment->first] / FRAME_BLOCKS;
	for (uint32_t i = segment->first; i < segment->filled; i++)
		if (segment->block[i] != frame * FRAME_BLOCKS + i)
			return 0;
	return frame;
}

/* Gives back the places of dead blocks and lets the cache have the others. */
void segment_end(struct fs *fs, struct segment *segment)
{
	uint64_t frame = segment->error == 0 ? frame_of(segment) : 0;
	uint64_t good[2] = {0};

	for (uint32_t i = segment->first; i < segment->filled; i++) {
		if (mask_has(segment->dead, i))
			space_cancel(fs->space, segment->block[i], 1);
		else if (i < segment->written)
			mask_set(good, i);
	}
	if (frame != 0 && (good[0] | good[1]) != 0)
		cache_adopt(fs, frame, segment->slot, good);
	else
		pool_release(fs->pool, segment->slot);
	free(segment);
}

static void unlock_and_end(struct fs *fs, struct segment *segment)
{
	bool is_over = segment_is_over_locked(fs, segment);

	mutex_unlock(&fs->segment_mutex);
	if (is_over)
		segment_end(fs, segment);
}

void segment_close_stream(struct fs *fs, struct inode *inode)
{
	struct segment *segment;

	mutex_lock(&fs->segment_mutex);
	segment = inode->stream;
	if (!segment) {
		mutex_unlock(&fs->segment_mutex);
		return;
	}
	close_locked(fs, segment);
	unlock_and_end(fs, segment);
}

void segments_close(struct fs *fs, bool with_shared)
{
	struct segment *segment, *next, *over = NULL;

	mutex_lock(&fs->segment_mutex);
	for (segment = fs->segments; segment; segment = next) {
		next = segment->next;
		if (segment->owner || with_shared)
			close_locked(fs, segment);
		if (segment_is_over_locked(fs, segment)) {
			segment->next = over;
			over = segment;
		}
	}
	mutex_unlock(&fs->segment_mutex);
	for (; over; over = next) {
		next = over->next;
		segment_end(fs, over);
	}
}

/* ---- filling ---------------------------------------------------------------------------- */

/* Those who were promised blocks get theirs before a checkpoint is made for more. */
static int alloc_run_locked(struct fs *fs, enum block_use use, uint32_t room, uint32_t want,
    struct space_run *ret)
{
	int err = -ENOSPC;

	if (use != BLOCK_NEW) {
		err = space_alloc_blocks(fs->space, SPACE_DATA, room, ret);
		if (err == -ENOSPC)
			err = reserve_redeem_locked(fs, use, min_of(want, room), ret);
	}
	return err == -ENOSPC ? store_alloc_blocks(fs->store, room, ret) : err;
}

/* More places for the segment: a run that follows, or any. */
static int allocate_locked(struct fs *fs, struct segment *segment, enum block_use use, uint32_t want)
{
	bool is_new = segment->allocated == 0;
	struct space_run run;
	int err = alloc_run_locked(fs, use, SEGMENT_BLOCKS - segment->allocated, want, &run);

	if (err < 0)
		return err;
	ASSERT(run.count > 0 && run.count <= SEGMENT_BLOCKS - segment->allocated);
	if (is_new && run.count >= ALIGNED_RUN) {
		uint32_t first = (uint32_t)(run.block % FRAME_BLOCKS);

		segment->first = segment->written = segment->sealed = first;
		segment->filled = segment->allocated = segment->submitted = first;
	}
	cache_forget(fs, run.block, run.count);
	for (uint32_t i = 0; i < run.count; i++)
		segment->block[segment->allocated++] = run.block + i;
	return 0;
}

static bool wants_stream(const struct inode *inode, uint32_t want)
{
	return inode->stream || want >= STREAM_BLOCKS ||
	    inode->pending_blocks >= STREAM_BLOCKS;
}

/* A segment with room for at least a block. */
static int find_room_locked(struct fs *fs, struct inode *inode, enum block_use use,
    uint32_t want, struct segment **ret)
{
	bool is_stream = wants_stream(inode, want);

	for (;;) {
		struct segment *segment = is_stream ? inode->stream : fs->shared;
		int err = reserve_ensure_locked(fs, use);

		if (err < 0)
			return err;
		if (!segment)
			err = open_locked(fs, is_stream ? inode : NULL, &segment);
		if (err < 0)
			return err;
		if (segment->is_sealing) {
			condition_wait(&fs->segment_condition, &fs->segment_mutex);
			continue;
		}
		if (segment->filled == segment->allocated) {
			err = allocate_locked(fs, segment, use, want);
			if (err < 0)
				return err;
		}
		*ret = segment;
		return 0;
	}
}

int segment_take(struct fs *fs, struct inode *inode, enum block_use use, uint32_t want,
    struct segment_piece *ret)
{
	struct segment *segment = NULL;
	int err;

	mutex_lock(&fs->segment_mutex);
	err = find_room_locked(fs, inode, use, want, &segment);
	if (err < 0) {
		mutex_unlock(&fs->segment_mutex);
		return err;
	}
	ret->segment = segment;
	ret->count = min_of(want, segment->allocated - segment->filled);
	ret->place = segment->slot * SEGMENT_BLOCKS + segment->filled;
	ret->memory = segment_bytes(fs, segment, segment->filled);
	segment->filled += ret->count;
	segment->live += ret->count;
	segment->fillers++;
	if (use == BLOCK_CLAIM)
		claims_take_locked(fs, ret->count);
	if (segment->filled == SEGMENT_BLOCKS)
		close_locked(fs, segment);
	mutex_unlock(&fs->segment_mutex);
	return 0;
}

static struct segment *segment_of(struct fs *fs, uint32_t place)
{
	struct segment *segment = fs->segment_of_slot[pending_slot(place)];

	ASSERT(segment);
	return segment;
}

bool segment_reopen(struct fs *fs, uint32_t place, struct segment_piece *ret)
{
	struct segment *segment;
	bool is_open;

	mutex_lock(&fs->segment_mutex);
	segment = segment_of(fs, place);
	is_open = !segment->is_sealing && pending_position(place) >= segment->sealed;
	if (is_open) {
		segment->fillers++;
		*ret = (struct segment_piece){
		    .segment = segment,
		    .place = place,
		    .count = 1,
		    .memory = segment_bytes(fs, segment, pending_position(place)),
		};
	}
	mutex_unlock(&fs->segment_mutex);
	return is_open;
}

/* Whoever fills a closed segment last sends it off. */
void segment_filled(struct fs *fs, const struct segment_piece *piece)
{
	struct segment *segment = piece->segment;
	bool submits;

	mutex_lock(&fs->segment_mutex);
	ASSERT(segment->fillers > 0);
	if (--segment->fillers == 0)
		condition_wake_all(&fs->segment_condition);
	submits = segment->fillers == 0 && segment->is_closed && !segment->is_sealing &&
	    !segment->is_submitted && segment->sealed < segment->filled &&
	    segment->live > 0 && segment->error == 0;
	if (!submits) {
		unlock_and_end(fs, segment);
		return;
	}
	segment->is_sealing = true;
	segment->sealed = segment->filled;
	mutex_unlock(&fs->segment_mutex);
	segment_submit(fs, segment);
}

const uint8_t *segment_memory(struct fs *fs, uint32_t place)
{
	return (const uint8_t *)pool_memory(fs->pool, pending_slot(place)) +
	    (size_t)pending_position(place) * BLOCK_BYTES;
}

/* ---- recording -------------------------------------------------------------------------- */

bool segment_is_written(struct fs *fs, uint32_t place, uint64_t *ret_block, uint32_t *ret_checksum)
{
	uint32_t position = pending_position(place);
	struct segment *segment;
	bool is_written;

	mutex_lock(&fs->segment_mutex);
	segment = segment_of(fs, place);
	is_written = position < segment->written;
	if (is_written) {
		*ret_block = segment->block[position];
		*ret_checksum = segment->checksum[position];
	}
	mutex_unlock(&fs->segment_mutex);
	return is_written;
}

static void leave(struct fs *fs, uint32_t place, bool is_dead)
{
	struct segment *segment;

	mutex_lock(&fs->segment_mutex);
	segment = segment_of(fs, place);
	ASSERT(segment->live > 0);
	segment->live--;
	if (is_dead)
		mask_set(segment->dead, pending_position(place));
	unlock_and_end(fs, segment);
}

void segment_recorded(struct fs *fs, uint32_t place)
{
	leave(fs, place, false);
}

void segment_drop(struct fs *fs, uint32_t place)
{
	leave(fs, place, true);
}
