/*
 * Eviction: the clock (F. J. Corbató, "A paging experiment with the Multics
 * system", 1968).
 *
 *            referenced        clean, unpinned,
 *                |             not referenced: taken
 *      . . [1] [0] [D] [P] [0] . . .
 *           ^                         D dirty, P pinned: passed over
 *           hand ->
 *
 * The hand passes over what is not live, dirty, pinned or latched.  On the first
 * turn it clears reference bits and takes slots that have none.  What the second
 * turn finds with the bit set again is used constantly, but then everything is:
 * it takes the first slot it may.  Two turns at most, then there is nothing.
 *
 * Only clean frames go, so no I/O happens here and nothing of the journal's order
 * needs to be known.
 *
 * Why nobody's frame is pulled away:
 * 1. The slot is taken under its exclusive latch, got by trying, never by waiting:
 *    the caller may hold other latches.
 * 2. Pins are raised only under a latch of the slot, shared or exclusive.  While
 *    we hold it exclusively no pin can appear, and a pin raised before was raised
 *    under a latch whose release our taking acquired: the check of the pin count
 *    under the latch sees it.  A pin lowered meanwhile only makes us pass over a
 *    slot that could have been taken.  That check acquires what the unpinning
 *    thread did before: its last reads of the memory precede our caller's writes.
 * 3. Likewise the dirty epoch: it is written under the exclusive latch.
 * 4. Owner and table entry change before the latch is released with a new version.
 *    A finder of the old entry who comes to the latch late sees a foreign owner;
 *    an optimistic reader fails its validation.
 *
 * The first look is without the latch and may be outdated in both directions; its
 * loads are sequentially consistent for pool_wait(), see pool.c.
 */
#include "config.h"

#include "pool/pool_internal.h"

#include "base/assert.h"

/* Under the exclusive latch. */
static void take_slot(struct pool *pool, uint32_t slot)
{
	struct slot *s = pool_slot(pool, slot);

	frame_table_remove(&pool->table,
	    owner_key(atomic_load_explicit(&s->owner, memory_order_relaxed)),
	    slot);
	atomic_store(&s->owner, OWNER_LEASED);
}

static bool try_evict(struct pool *pool, uint32_t slot, bool may_be_referenced)
{
	struct slot *s = pool_slot(pool, slot);
	bool is_taken;

	if (!slot_is_evictable(s))
		return false;
	if (atomic_load_explicit(&s->is_referenced, memory_order_relaxed)) {
		atomic_store_explicit(&s->is_referenced, 0,
		    memory_order_relaxed);
		if (!may_be_referenced)
			return false;
	}
	if (!pool_try_latch_exclusive(pool, slot))
		return false;
	is_taken = slot_is_evictable(s);
	if (is_taken)
		take_slot(pool, slot);
	pool_unlatch_exclusive(pool, slot);
	return is_taken;
}

uint32_t pool_evict_locked(struct pool *pool)
{
	uint32_t count = atomic_load(&pool->faulted);
	uint32_t slot;

	mutex_assert_held(&pool->mutex);
	for (uint64_t step = 0; step < 2ull * count; step++) {
		slot = pool->clock_hand;
		pool->clock_hand = (slot + 1) % count;
		if (!try_evict(pool, slot, step >= count))
			continue;
		atomic_fetch_add_explicit(&pool->evictions, 1,
		    memory_order_relaxed);
		return slot;
	}
	return POOL_NO_SLOT;
}
