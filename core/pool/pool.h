/*
 * The frame pool: one slab of 512 KiB slots for everything held in memory.
 *
 * A *slot* is a place in the slab and, at the same time, the index of an io_uring
 * registered buffer (beyond 8 GiB some slots share one).  A slot is free (on a
 * lock-free list), *leased* (owned by one party alone: a data segment, a scratch
 * frame, an image being loaded), or *live* (it holds the current image of a frame that
 * the table names).  A live slot is protected by its latch; live slots that are clean,
 * unpinned and not recently used are evicted when the free list runs out.
 *
 *          lease              publish
 *   free ---------> leased ------------> live
 *     ^               |  ^                 |
 *     +---------------+  +-----------------+
 *          release           withdraw, evict
 *
 * A *frame key* names what a slot holds: a tree frame by its frame id, a data frame by
 * its number on disk, or one of the slots that core/store fills with single blocks of
 * tree frames.  The table maps keys to live slots.
 *
 * The latch is a hybrid latch (Böttcher, Leis, Giceva, Neumann: "Scalable and
 * robust latches for database systems", DaMoN 2020): optimistic readers check a
 * version, shared and exclusive holders count.  Version and owner are never
 * reset while the pool lives, so that a stale observer always notices.
 *
 * Memory is faulted in and registered with the device lazily, a run of slots at a
 * time: an idle pool costs address space only.
 *
 * Threads: everything may be called from any thread.  Nothing here does I/O.
 */
#ifndef HOLTFS_POOL_POOL_H
#define HOLTFS_POOL_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "device/device.h"

struct pool;

#define POOL_SLOT_BYTES (512u * 1024)
#define POOL_NO_SLOT UINT32_MAX

enum frame_kind { FRAME_TREE = 0, FRAME_DATA = 1, FRAME_PIECES = 2 };

/* kind in the two highest bits, number below. */
typedef uint64_t frame_key;

#define FRAME_KEY_SHIFT 62

/* Of no frame: what becomes of numbers that would reach into the bits of the kind.  (Ids
 * come from disk as well.) */
#define FRAME_NUMBER_NONE ((1ull << FRAME_KEY_SHIFT) - 1)

static inline frame_key frame_key_make(enum frame_kind kind, uint64_t number)
{
	return ((uint64_t)kind << FRAME_KEY_SHIFT) |
	       (number < FRAME_NUMBER_NONE ? number : FRAME_NUMBER_NONE);
}

static inline enum frame_kind frame_key_kind(frame_key key)
{
	return (enum frame_kind)(key >> FRAME_KEY_SHIFT);
}

static inline uint64_t frame_key_number(frame_key key)
{
	return key & FRAME_NUMBER_NONE;
}

struct pool_options {
	uint32_t slot_count;   /* at least 8 */
	struct device *device; /* to register slots with; NULL: none */
};

int pool_open(const struct pool_options *options, struct pool **ret);

/* Asserts that no lease, latch or pin is left. */
void pool_close(struct pool *pool); /* NULL allowed */

uint32_t pool_slot_count(const struct pool *pool);

/* The slot's memory, POOL_SLOT_BYTES long, page aligned.  Never moves.  Behind the
 * last slot lies a readable guard longer than any node. */
void *pool_memory(const struct pool *pool, uint32_t slot);

/* ---- leases ------------------------------------------------------------ */

/*
 * Takes a free slot, evicting a clean live one if there is none.  The memory's
 * content is undefined.  -ENOBUFS: every slot is leased, dirty, pinned or latched;
 * the caller cleans frames or waits with pool_wait().
 */
int pool_lease(struct pool *pool, uint32_t *ret_slot);
void pool_release(struct pool *pool, uint32_t slot);

/* Would a lease have to evict something?  True only of the moment. */
bool pool_is_full(struct pool *pool);

/*
 * Sleeps until a slot may have become available since @seen, or @timeout_ns have
 * passed.  @seen comes from pool_wait_token() before the failed pool_lease().
 */
uint32_t pool_wait_token(struct pool *pool);
void pool_wait(struct pool *pool, uint32_t seen, uint64_t timeout_ns);

/* ---- the table --------------------------------------------------------- */

/*
 * Makes a leased slot, exclusively latched by the caller, the live slot of @key.
 * -EEXIST: another slot is; the lease stays with the caller.
 */
int pool_publish(struct pool *pool, frame_key key, uint32_t slot);

/*
 * Replaces the live slot @old by the leased slot @new for the same key: both are
 * exclusively latched by the caller.  @old turns into a lease of the caller.
 */
void pool_replace(struct pool *pool, frame_key key, uint32_t old, uint32_t new);

/* Takes a live slot, exclusively latched by the caller, out of the table; it turns
 * into a lease of the caller. */
void pool_withdraw(struct pool *pool, frame_key key, uint32_t slot);

/* The live slot of @key, or POOL_NO_SLOT.  A hint: latch, then check pool_is_owner(). */
uint32_t pool_find(struct pool *pool, frame_key key);

/* Is @slot the live slot of @key?  Stable under any latch of the slot. */
bool pool_is_owner(struct pool *pool, uint32_t slot, frame_key key);

/* Calls @fn for every live slot of @kind, in slot order, without latches: fn
 * latches and checks the owner itself. */
void pool_for_each(struct pool *pool, enum frame_kind kind,
    void (*fn)(void *ctx, frame_key key, uint32_t slot), void *ctx);

/* ---- latches ----------------------------------------------------------- */

/* Find and latch in one step; POOL_NO_SLOT when the key is not live.  The owner is
 * checked under the latch. */
uint32_t pool_latch_key_shared(struct pool *pool, frame_key key);
uint32_t pool_latch_key_exclusive(struct pool *pool, frame_key key);

void pool_latch_shared(struct pool *pool, uint32_t slot);
void pool_unlatch_shared(struct pool *pool, uint32_t slot);
void pool_latch_exclusive(struct pool *pool, uint32_t slot);
bool pool_try_latch_exclusive(struct pool *pool, uint32_t slot);
void pool_unlatch_exclusive(struct pool *pool, uint32_t slot); /* version += 1 */
bool pool_is_latched_exclusive(struct pool *pool, uint32_t slot);

/*
 * Optimistic reading: take the version (false while exclusively latched), check
 * the owner, read with every offset and length bounded, copy results out, then
 * validate; only validated results may be used.  The version does not change
 * under a shared latch, so it can also be taken there and validated later.
 */
bool pool_read_begin(struct pool *pool, uint32_t slot, uint64_t *ret_version);

/* Finds the live slot of @key and begins to read it.  False: it is not live, or being
 * changed. */
struct pool_read {
	uint32_t slot;
	uint64_t version;
	const void *memory;
};
bool pool_read_key(struct pool *pool, frame_key key, struct pool_read *ret);

/* Takes the latch exclusively if the slot is as it was read; does not wait. */
bool pool_try_upgrade(struct pool *pool, uint32_t slot, uint64_t version);
bool pool_read_validate(struct pool *pool, uint32_t slot, uint64_t version);

/* ---- pins and state ---------------------------------------------------- */

/* A pinned live slot is not evicted (it may be replaced or withdrawn); one that is
 * released while pinned stays as it is until its last pin goes.  Pin under a latch of
 * the slot. */
void pool_pin(struct pool *pool, uint32_t slot);
void pool_unpin(struct pool *pool, uint32_t slot);

/* Marks a live slot as used now: eviction passes it over once. */
void pool_touch(struct pool *pool, uint32_t slot);

/*
 * Dirty epoch of a live slot: 0 when the disk has this image, else the epoch in
 * which it was first changed since.  Set under the exclusive latch.  Dirty slots
 * are never evicted.
 */
uint64_t pool_dirty_epoch(struct pool *pool, uint32_t slot);
void pool_set_dirty_epoch(struct pool *pool, uint32_t slot, uint64_t epoch);

/*
 * For data frames: which of the 128 blocks are present and verified.  For tree frames: the
 * epoch in which the image came to be, 0 if it is not known (it was read from disk).  Set
 * only under the exclusive latch; cleared when the slot is leased anew.
 */
union slot_blocks {
	uint64_t present[2];
	uint64_t birth;
};
union slot_blocks *pool_blocks(struct pool *pool, uint32_t slot);

struct pool_counters {
	uint64_t slots, faulted, free, live_tree, live_data, live_pieces, dirty;
	uint64_t hits, misses, evictions;
};

/* Does not disturb what it counts.  hits and misses are those of pool_latch_key_* and
 * pool_read_key. */
void pool_counters(struct pool *pool, struct pool_counters *ret);

#endif
