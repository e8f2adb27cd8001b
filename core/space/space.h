/*
 * Which 4 KiB blocks of the volume are in use, and who may have the others.
 *
 * Two maps are kept on disk by checkpoints: the *space map* (a bit per block) and
 * the *manifest* (frame id -> disk frame); both are page maps (page_map.h).  What
 * lies on disk is the state at the last checkpoint; transactions in the journal
 * carry the changes since, as use and free of block runs.
 *
 * A block is in one of these states, as seen by the allocator:
 *
 *   free       may be allocated
 *   allocated  handed out by space_alloc_*, in memory only: a crash frees it
 *   used       a transaction or checkpoint that names it was applied; saved
 *   resting    freed, not yet free: the last durable checkpoint or the log after it
 *              may still name it.  Becomes free when a checkpoint that began after
 *              the free is durable.
 *
 *     free --alloc--> allocated --use--> used --free--> resting --checkpoint--> free
 *                        |  cancel                                               ^
 *                        +-------------------------------------------------------+
 *
 * Invariant: no byte of a block changes on disk while it is used or resting.
 *
 * Checkpoint protocol (called by the store, in this order):
 *   space_freeze()      transactions held back: the image to be saved is this state
 *   space_frozen_use(), space_frozen_free(), space_frozen_keep()
 *                       tree slots of this checkpoint, in image and live state
 *   manifest_set()      likewise
 *   space_write_maps()  allocates blocks for changed pages, writes them; no flush
 *   (the store flushes and writes the superblock)
 *   space_thaw(is_durable)  old blocks rest no longer; or all is taken back
 *
 * Reservations: space promised to someone who will allocate it later, so that a
 * later step cannot meet -ENOSPC.  Data may not take the last frames, which are for
 * tree frames and checkpoints.
 *
 * Threads: everything may be called from any thread; freeze..thaw from one thread
 * at a time.  Never blocks but on its own mutex, except open, trim and
 * write_maps (I/O).
 */
#ifndef HOLTFS_SPACE_SPACE_H
#define HOLTFS_SPACE_SPACE_H

#include <stdbool.h>
#include <stdint.h>

#include "device/device.h"
#include "format/format.h"

struct space;

struct space_options {
	struct device *device;
	const struct superblock *superblock; /* read during open only */
	bool is_new; /* mkfs: empty maps, superblock and journal frames in use */
};

/* Reads both maps.  -EUCLEAN: a page does not verify (logged with its block). */
int space_open(const struct space_options *options, struct space **ret);
void space_close(struct space *space); /* NULL allowed */

struct space_run {
	uint64_t block;
	uint32_t count;
};

/* ---- allocation -------------------------------------------------------- */

enum space_user { SPACE_DATA, SPACE_TREE };

/* A whole frame, all its blocks allocated.  -ENOSPC: none that @user may have; if
 * space_counters().resting_blocks is not 0 a checkpoint may help. */
int space_alloc_frame(struct space *space, enum space_user user, uint64_t *ret_frame);

/*
 * Up to @want blocks (1..128) in one run inside one frame: prefers an empty frame,
 * from its front, then the emptiest frame in use.  At least one block, or -ENOSPC.
 */
int space_alloc_blocks(struct space *space, enum space_user user, uint32_t want, struct space_run *ret);

/* Allocated blocks that no transaction will name go back at once.  @count is not 0. */
void space_cancel(struct space *space, uint64_t block, uint32_t count);

/* A transaction that names the blocks is being applied: allocated -> used. In
 * replay the blocks may also be free.  -EUCLEAN if any is used, resting or out of
 * range, or @count is 0; then nothing was changed.  The run may cross frames. */
int space_use(struct space *space, uint64_t block, uint32_t count);

/* A transaction that drops the blocks is being applied: used -> resting.
 * -EUCLEAN if any is not used; then nothing was changed. */
int space_free(struct space *space, uint64_t block, uint32_t count);

/* Recovery, before replay: keeps blocks that records of the log name from being
 * allocated (free -> allocated); harmless if they are not free. */
void space_guard(struct space *space, uint64_t block, uint32_t count);

/* After replay: blocks guarded but not used are free again. */
void space_guard_end(struct space *space);

/* Every block of the run is in use (for checks). */
bool space_is_used(struct space *space, uint64_t block, uint32_t count);

/*
 * Promise @blocks for later (-ENOSPC), and give a promise back or redeem it just
 * before the allocation it was for.  Promises to the tree count in whole frames.
 * Allocations leave what is promised to others; one frame beyond all promises stays
 * unpromised, so that one redeemer at a time of what the tree was promised is safe from
 * promises made between its unreserve and its allocation.  A checkpoint helps also where
 * promises to the tree are what is in the way.
 */
int space_reserve(struct space *space, enum space_user user, uint64_t blocks);
void space_unreserve(struct space *space, enum space_user user, uint64_t blocks);

/* Promises as many of @blocks as may be; answers how many. */
uint64_t space_reserve_most(struct space *space, enum space_user user, uint64_t blocks);

/*
 * Like space_alloc_blocks() for data, of what data was promised, which it takes from
 * the promise: @want is at most what was.  -ENOSPC: the last free frame is in the hands
 * of a checkpoint, which helps.
 */
int space_redeem_blocks(struct space *space, uint32_t want, struct space_run *ret);

struct space_counters {
	uint64_t total_blocks;	   /* without superblock and journal */
	uint64_t used_blocks;	   /* used, as a checkpoint would save it */
	uint64_t allocated_blocks;
	uint64_t resting_blocks;
	uint64_t free_blocks;
	uint64_t free_frames;	   /* wholly free */
	uint64_t reserved_blocks;  /* promised, not yet allocated */
	uint64_t data_available_blocks; /* what a new file could fill (statfs) */
};
void space_counters(struct space *space, struct space_counters *ret);

/* Calls @fn for each run of used blocks in order, superblock and journal left out.
 * A non-zero result ends the walk and is returned. */
int space_for_each_used(struct space *space, int (*fn)(void *ctx, uint64_t block, uint64_t count), void *ctx);

/* Blocks of the maps' own pages as of the last checkpoint, for checks. */
int space_for_each_map_block(struct space *space, int (*fn)(void *ctx, uint64_t block), void *ctx);

/* Gives wholly free frames back to the host, except some that are kept for the tree;
 * counts bytes. */
int space_trim(struct space *space, uint64_t *ret_bytes);

/* ---- manifest ----------------------------------------------------------- */

struct manifest_place {
	uint64_t disk_frame; /* 0: no such frame */
	uint32_t header_checksum;
	uint32_t used_blocks;
};

/* The newest place of a tree frame on disk: of the checkpoint being written, once
 * manifest_set() has been called, else of the last one. */
void manifest_get(struct space *space, uint64_t frame_id, struct manifest_place *ret);

/* Checkpoint only, between freeze and write_maps, which tells of failures.  A place
 * with disk frame 0 removes the entry. */
void manifest_set(struct space *space, uint64_t frame_id, const struct manifest_place *place);

/* Frame ids with an entry, in order. */
int manifest_for_each(struct space *space,
    int (*fn)(void *ctx, uint64_t frame_id, const struct manifest_place *place), void *ctx);

/* ---- checkpoint --------------------------------------------------------- */

void space_freeze(struct space *space);
int space_frozen_use(struct space *space, uint64_t block, uint32_t count);
int space_frozen_free(struct space *space, uint64_t block, uint32_t count);

/* As space_frozen_free(), but the blocks are not to rest: they stay allocated until
 * space_cancel(), which must not come before the thaw. */
int space_frozen_keep(struct space *space, uint64_t block, uint32_t count);

/* Writes every changed page to a fresh block; the new roots go into @superblock.
 * @generation is stamped into the pages. */
int space_write_maps(struct space *space, uint64_t generation, struct superblock *superblock);

/* @is_durable: the superblock that names the new maps survives power loss. If not,
 * the checkpoint failed and the store is read-only from now on: live state and
 * manifest are as if it had not been tried, but its new blocks stay allocated, since
 * a superblock that names them may have reached the disk. */
void space_thaw(struct space *space, bool is_durable);

#endif
