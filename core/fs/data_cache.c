/*
 * Cached file data: pool slots that hold frames of the volume.
 *
 * A data frame's slot is published under the frame's number.  Each of its 128 blocks
 * is absent, *loaded* (read ahead; not compared with a checksum yet, because only the
 * files that own the neighbours know theirs) or *present* (verified).
 *
 *	absent --read of the whole frame--> loaded --verified for a reader--> present
 *	   ^------------- cache_forget: allocated for new data ------------------'
 *
 * Invariants:
 *  1. Memory of a present block never changes while the slot is the frame's: readers
 *     hand out pointers into it.  Pieces handed out are counted in `readers`, and the
 *     slot is pinned.
 *  2. Blocks allocated for new data are neither present nor loaded.  If pieces are
 *     out when blocks are forgotten, the slot is withdrawn and lives on unnamed until
 *     the last piece is given back: what was handed out stays as it was.
 *  3. A loaded block that does not verify may have been read while it was free or on
 *     its way to the device: it is read again before that is called damage.
 *
 * Locking: presence bits under the slot's latch, exclusive to change them and while
 * the device reads into the slot.  Only one latch is held at a time, and nothing else
 * is waited for meanwhile.
 */
#include "config.h"

#include "fs/fs_internal.h"

#include <errno.h>

#include "base/assert.h"

static void make_mask(uint32_t first, uint32_t count, uint64_t mask[2])
{
	mask[0] = mask[1] = 0;
	for (uint32_t i = first; i < first + count; i++)
		mask_set(mask, i);
}

static bool covers(const uint64_t has[2], const uint64_t mask[2])
{
	return (mask[0] & ~has[0]) == 0 && (mask[1] & ~has[1]) == 0;
}

static uint8_t *slot_block(struct fs *fs, uint32_t slot, uint32_t i)
{
	return (uint8_t *)pool_memory(fs->pool, slot) + (size_t)i * BLOCK_BYTES;
}

/* ---- pieces ---------------------------------------------------------------------------- */

/* Under a latch of the slot. */
static void pin(struct fs *fs, uint32_t slot)
{
	pool_pin(fs->pool, slot);
	atomic_fetch_add(&fs->slots[slot].readers, 1);
}

void cache_unpin(struct fs *fs, uint32_t slot)
{
	atomic_fetch_sub(&fs->slots[slot].readers, 1);
	pool_unpin(fs->pool, slot);
}

/* Takes a frame with pieces out of the table.  Exclusively latched.  The pool keeps
 * a released slot until its last pin goes. */
static void withdraw(struct fs *fs, frame_key key, uint32_t slot)
{
	pool_withdraw(fs->pool, key, slot);
	pool_unlatch_exclusive(fs->pool, slot);
	pool_release(fs->pool, slot);
}

static void forget_in_frame(struct fs *fs, uint64_t block, uint32_t count)
{
	frame_key key = frame_key_make(FRAME_DATA, block / FRAME_BLOCKS);
	uint32_t slot = pool_latch_key_exclusive(fs->pool, key);
	union slot_blocks *blocks;
	uint64_t mask[2];

	if (slot == POOL_NO_SLOT)
		return;
	if (atomic_load(&fs->slots[slot].readers) > 0) {
		withdraw(fs, key, slot);
		return;
	}
	make_mask((uint32_t)(block % FRAME_BLOCKS), count, mask);
	blocks = pool_blocks(fs->pool, slot);
	for (unsigned i = 0; i < 2; i++) {
		blocks->present[i] &= ~mask[i];
		fs->slots[slot].loaded[i] &= ~mask[i];
	}
	pool_unlatch_exclusive(fs->pool, slot);
}

void cache_forget(struct fs *fs, uint64_t block, uint32_t count)
{
	while (count > 0) {
		uint32_t room = FRAME_BLOCKS - (uint32_t)(block % FRAME_BLOCKS);
		uint32_t n = min_of(count, room);

		forget_in_frame(fs, block, n);
		block += n;
		count -= n;
	}
}

/* ---- loading --------------------------------------------------------------------------- */

static int read_blocks(struct fs *fs, uint32_t slot, uint64_t frame, uint32_t first, uint32_t count)
{
	struct device_batch batch;
	struct device_request request = {
	    .op = DEVICE_READ,
	    .slot = slot,
	    .data = slot_block(fs, slot, first),
	    .bytes = count * BLOCK_BYTES,
	    .offset = (frame * FRAME_BLOCKS + first) * BLOCK_BYTES,
	};

	device_batch_init(&batch);
	device_submit(fs->device, &batch, &request, 1);
	return device_wait(fs->device, &batch);
}

/* The frame's blocks in use, from the first to the last. */
static void used_part(struct fs *fs, uint64_t frame, uint32_t *ret_first, uint32_t *ret_count)
{
	uint64_t base = frame * FRAME_BLOCKS;
	uint32_t first = 0, end = FRAME_BLOCKS;

	while (first + 1 < end && !space_is_used(fs->space, base + first, 1))
		first++;
	while (end - 1 > first && !space_is_used(fs->space, base + end - 1, 1))
		end--;
	*ret_first = first;
	*ret_count = end - first;
}

/* Brings in what is absent of the run; into an empty slot the frame's used part. */
static int load(struct fs *fs, uint32_t slot, uint64_t frame, uint32_t first, uint32_t count)
{
	union slot_blocks *blocks = pool_blocks(fs->pool, slot);
	struct slot_state *state = &fs->slots[slot];
	uint64_t has[2], mask[2];
	int err;

	for (unsigned i = 0; i < 2; i++)
		has[i] = blocks->present[i] | state->loaded[i];
	if (has[0] == 0 && has[1] == 0) {
		uint32_t used_first, used_count;

		used_part(fs, frame, &used_first, &used_count);
		if (first < used_first || first + count > used_first + used_count) {
			used_first = 0;
			used_count = FRAME_BLOCKS;
		}
		err = read_blocks(fs, slot, frame, used_first, used_count);
		if (err == 0) {
			make_mask(used_first, used_count, mask);
			state->loaded[0] = mask[0];
			state->loaded[1] = mask[1];
			return 0;
		}
	}
	/* Block by block around those that are there: theirs may be handed out. */
	for (uint32_t i = first; i < first + count; i++) {
		if (mask_has(has, i))
			continue;
		err = read_blocks(fs, slot, frame, i, 1);
		if (err < 0)
			return err;
		mask_set(state->loaded, i);
	}
	return 0;
}

static bool verifies(struct fs *fs, uint32_t slot, uint32_t i, uint32_t checksum)
{
	return store_block_checksum(fs->store, slot_block(fs, slot, i)) == checksum;
}

static int verify(struct fs *fs, uint32_t slot, const struct block_run *run, uint64_t *ret_bad)
{
	union slot_blocks *blocks = pool_blocks(fs->pool, slot);
	uint32_t first = (uint32_t)(run->block % FRAME_BLOCKS);

	for (uint32_t i = 0; i < run->count; i++) {
		int err = 0;

		if (mask_has(blocks->present, first + i))
			continue;
		if (!verifies(fs, slot, first + i, run->checksums[i])) {
			err = read_blocks(fs, slot, run->block / FRAME_BLOCKS, first + i, 1);
			if (err == 0 && !verifies(fs, slot, first + i, run->checksums[i]))
				err = -EIO;
		}
		mask_clear(fs->slots[slot].loaded, first + i);
		if (err < 0) {
			*ret_bad = run->block + i;
			return err;
		}
		mask_set(blocks->present, first + i);
	}
	return 0;
}

/* ---- the frame of a run -------------------------------------------------------------------- */

/* The frame's slot, exclusively latched, new and empty if need be. */
static int latch_or_publish(struct fs *fs, frame_key key, uint32_t *ret_slot)
{
	for (;;) {
		uint32_t slot = pool_latch_key_exclusive(fs->pool, key);
		int err;

		if (slot != POOL_NO_SLOT) {
			*ret_slot = slot;
			return 0;
		}
		err = store_lease_slot(fs->store, &slot);
		if (err < 0)
			return err;
		pool_latch_exclusive(fs->pool, slot);
		err = pool_publish(fs->pool, key, slot);
		if (err == 0) {
			fs->slots[slot].loaded[0] = fs->slots[slot].loaded[1] = 0;
			*ret_slot = slot;
			return 0;
		}
		pool_unlatch_exclusive(fs->pool, slot);
		pool_release(fs->pool, slot);
	}
}

int cache_pin(struct fs *fs, const struct block_run *run, bool loads,
    uint32_t *ret_slot, uint64_t *ret_bad)
{
	frame_key key = frame_key_make(FRAME_DATA, run->block / FRAME_BLOCKS);
	uint32_t first = (uint32_t)(run->block % FRAME_BLOCKS);
	uint32_t slot = pool_latch_key_shared(fs->pool, key);
	uint64_t mask[2];
	int err;

	ASSERT(first + run->count <= FRAME_BLOCKS);
	make_mask(first, run->count, mask);
	if (slot != POOL_NO_SLOT) {
		bool has = covers(pool_blocks(fs->pool, slot)->present, mask);

		if (has)
			pin(fs, slot);
		pool_unlatch_shared(fs->pool, slot);
		if (has) {
			pool_touch(fs->pool, slot);
			*ret_slot = slot;
			return 0;
		}
	}
	if (!loads)
		return -ENOENT;
	err = latch_or_publish(fs, key, &slot);
	if (err < 0)
		return err;
	*ret_bad = run->block;
	err = load(fs, slot, run->block / FRAME_BLOCKS, first, run->count);
	if (err == 0)
		err = verify(fs, slot, run, ret_bad);
	if (err == 0) {
		pin(fs, slot);
		*ret_slot = slot;
	}
	pool_unlatch_exclusive(fs->pool, slot);
	return err;
}

/* ---- what segments leave behind ------------------------------------------------------------ */

/* Blocks of new data were forgotten when they were allocated, so nobody has pieces of
 * them: they may be filled in beside those that are there. */
static void copy_into(struct fs *fs, uint32_t to, uint32_t from, const uint64_t mask[2])
{
	union slot_blocks *blocks = pool_blocks(fs->pool, to);

	for (uint32_t i = 0; i < FRAME_BLOCKS; i++) {
		if (!mask_has(mask, i) || mask_has(blocks->present, i))
			continue;
		memcpy(slot_block(fs, to, i), slot_block(fs, from, i), BLOCK_BYTES);
		mask_set(blocks->present, i);
		mask_clear(fs->slots[to].loaded, i);
	}
}

void cache_adopt(struct fs *fs, uint64_t frame, uint32_t slot, const uint64_t mask[2])
{
	frame_key key = frame_key_make(FRAME_DATA, frame);
	uint32_t other;

	pool_latch_exclusive(fs->pool, slot);
	if (pool_publish(fs->pool, key, slot) == 0) {
		memcpy(pool_blocks(fs->pool, slot)->present, mask, 2 * sizeof(*mask));
		fs->slots[slot].loaded[0] = fs->slots[slot].loaded[1] = 0;
		pool_unlatch_exclusive(fs->pool, slot);
		return;
	}
	pool_unlatch_exclusive(fs->pool, slot);
	other = pool_latch_key_exclusive(fs->pool, key);
	if (other != POOL_NO_SLOT) {
		copy_into(fs, other, slot, mask);
		pool_unlatch_exclusive(fs->pool, other);
	}
	pool_release(fs->pool, slot);
}

int cache_read_block(struct fs *fs, uint64_t block, uint32_t checksum, void *buf)
{
	struct block_run run = {.block = block, .count = 1, .checksums = &checksum};
	uint32_t slot;
	uint64_t bad;
	int err;

	if (cache_pin(fs, &run, false, &slot, &bad) == 0) {
		memcpy(buf, slot_block(fs, slot, (uint32_t)(block % FRAME_BLOCKS)), BLOCK_BYTES);
		cache_unpin(fs, slot);
		return 0;
	}
	err = device_read(fs->device, buf, BLOCK_BYTES, block * BLOCK_BYTES);
	if (err == 0 && store_block_checksum(fs->store, buf) != checksum)
		err = -EIO;
	return err;
}
