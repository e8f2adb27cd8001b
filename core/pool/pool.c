/*
 * The pool itself: slab, leases, the life of a slot, pins, waiting.
 *
 *   base (2 MiB aligned)
 *   |<- run of 8 ->|<- run of 8 ->|   ...                      |<- guard ->|
 *   +--------------+--------------+----------------------------+-----------+
 *   | in memory,   | in memory,   |  address space only        | read-only |
 *   | registered   | registered   |                            | zeros     |
 *   +--------------+--------------+----------------------------+-----------+
 *                                 ^ faulted
 *
 * 1. The slab is one mapping, never moved or unmapped while the pool is open.  A
 *    stale reader may follow a number it read from a slot that was recycled: any
 *    bounded copy from inside a slot ends inside the slab or in the guard.
 * 2. Slots below `faulted` are in memory and known to the device; the others are
 *    free and in no list.  A run is 4 MiB: two huge pages, one registration.  An
 *    idle pool stays small, and no single lease pays for the whole slab.
 * 3. A slot is leased from the free list, else from a new run, else by eviction.
 *    The first is lock-free; the others are serialised by the pool's mutex, which
 *    is held for a page fault at worst and never while waiting for anyone.
 * 4. What a pin protects is not handed out: a slot released while pinned goes to
 *    the free list at the last unpin.  The flag for it lies in the pin count, so
 *    that exactly one party sees "released, and no pin left".
 * 5. The slab is not inherited by fork(): the kernel would copy pinned pages for a
 *    child that is about to execute some helper.
 *
 * Waiting.  pool_wait() is an event count: `event` holds a number and, in bit 0,
 * whether somebody wants to hear.  pool_wait_token() sets the bit, then the caller
 * tries to lease, then it sleeps unless the word has changed.  Whoever makes a slot
 * available changes the slot's state first and looks at the bit afterwards; if set,
 * it bumps the number and wakes.  All of these are sequentially consistent, so
 * either the caller's attempt sees the slot or the other side sees the bit (the
 * argument of Dekker's algorithm), and while nobody waits, the cost is one load of
 * a line that nobody writes.  A slot becomes available by release, by the last
 * unpin of a clean frame, and by the unlatching of a frame that is clean by then:
 * cleaning happens under the exclusive latch.
 *
 * Nothing of the pool outlives the process.
 */
#include "config.h"

#include "pool/pool_internal.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/counter.h"
#include "base/futex.h"

#define RUN_SLOTS	 8u
#define SLOTS_MIN	 8u
#define SLOTS_MAX	 (1u << 22) /* 2 TiB */
#define HUGE_PAGE_BYTES	 (2u * 1024 * 1024)
#define SMALL_PAGE_BYTES 4096u
#define GUARD_BYTES	 POOL_SLOT_BYTES
#define POISON		 0xdb

/* ---- open and close ---------------------------------------------------- */

/* Slab and guard, aligned to huge pages. */
static int map_slab(struct pool *pool)
{
	size_t slots = (size_t)pool->slot_count * POOL_SLOT_BYTES;
	size_t want = slots + GUARD_BYTES;
	size_t room = want + HUGE_PAGE_BYTES;
	char *start, *base;

	start = mmap(NULL, room, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (start == MAP_FAILED)
		return -errno;
	base = (char *)round_up((uintptr_t)start, HUGE_PAGE_BYTES);
	if (base > start)
		munmap(start, (size_t)(base - start));
	if (start + room > base + want)
		munmap(base + want, (size_t)(start + room - (base + want)));
	pool->memory = base;
	pool->slab_bytes = want;
	if (mprotect(base + slots, GUARD_BYTES, PROT_READ) != 0)
		return -errno;
	/* Wishes: a kernel without them does without. */
	madvise(base, slots, MADV_HUGEPAGE);
	madvise(base, want, MADV_DONTFORK);
	return 0;
}

static void unmap_pool(struct pool *pool)
{
	if (pool->memory)
		munmap(pool->memory, pool->slab_bytes);
	mutex_fini(&pool->mutex);
	free_list_fini(&pool->free_list);
	frame_table_fini(&pool->table);
	munmap(pool, pool->mapping_bytes);
}

int pool_open(const struct pool_options *options, struct pool **ret)
{
	struct pool *pool;
	size_t bytes;
	int err;

	if (options->slot_count < SLOTS_MIN || options->slot_count > SLOTS_MAX)
		return -EINVAL;
	bytes = sizeof(*pool) + options->slot_count * sizeof(pool->slots[0]);
	pool = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pool == MAP_FAILED)
		return -errno;
	pool->mapping_bytes = bytes;
	pool->slot_count = options->slot_count;
	pool->device = options->device;
	mutex_init(&pool->mutex, RANK_POOL);
	err = free_list_init(&pool->free_list, pool->slot_count);
	if (!err)
		err = map_slab(pool);
	if (err) {
		unmap_pool(pool);
		return err;
	}
	if (pool->device)
		device_register_slab(pool->device, pool->memory,
		    POOL_SLOT_BYTES, pool->slot_count);
	*ret = pool;
	return 0;
}

void pool_close(struct pool *pool)
{
	uint32_t count;

	if (!pool)
		return;
	count = atomic_load(&pool->faulted);
	for (uint32_t i = 0; i < count; i++) {
		struct slot *s = pool_slot(pool, i);

		ASSERT(atomic_load(&s->pins) == 0);
		ASSERT(atomic_load(&s->owner) != OWNER_LEASED);
		ASSERT(!pool_is_latched(pool, i));
	}
	unmap_pool(pool);
}

uint32_t pool_slot_count(const struct pool *pool)
{
	return pool->slot_count;
}

void *pool_memory(const struct pool *pool, uint32_t slot)
{
	ASSERT(slot < pool->slot_count);
	return pool->memory + (size_t)slot * POOL_SLOT_BYTES;
}

/* ---- growth ------------------------------------------------------------ */

/*
 * Debug builds: nobody may count on the content of a slot that nobody owns.  An
 * optimistic reader may still look and finds out when it validates, which
 * ThreadSanitizer cannot know.
 */
static void poison(struct pool *pool, uint32_t slot)
{
#if defined(DEBUG_CHECKS) && !defined(SANITIZE_THREAD)
	memset(pool_memory(pool, slot), POISON, POOL_SLOT_BYTES);
#else
	(void)pool;
	(void)slot;
#endif
}

static int fault_in(char *memory, size_t bytes)
{
#ifdef MADV_POPULATE_WRITE
	if (madvise(memory, bytes, MADV_POPULATE_WRITE) == 0)
		return 0;
	if (errno != EINVAL)
		return -errno;
#endif
	/* Linux before 5.14. */
	for (size_t at = 0; at < bytes; at += SMALL_PAGE_BYTES)
		((volatile char *)memory)[at] = 0;
	return 0;
}

/* Brings the next run into memory; its first slot is the caller's. */
static uint32_t grow_locked(struct pool *pool)
{
	uint32_t first = atomic_load(&pool->faulted);
	uint32_t count = min_of(RUN_SLOTS, pool->slot_count - first);

	mutex_assert_held(&pool->mutex);
	if (count == 0)
		return POOL_NO_SLOT;
	if (fault_in(pool_memory(pool, first), (size_t)count * POOL_SLOT_BYTES))
		return POOL_NO_SLOT;
	if (pool->device)
		device_register_slots(pool->device, first, count);
	atomic_store(&pool->faulted, first + count);
	for (uint32_t i = count; i > 0; i--) {
		poison(pool, first + i - 1);
		if (i > 1)
			free_list_push(&pool->free_list, first + i - 1);
	}
	if (count > 1)
		pool_notify(pool);
	return first;
}

/* ---- leases ------------------------------------------------------------ */

static uint32_t take_slowly(struct pool *pool)
{
	uint32_t slot;

	mutex_lock(&pool->mutex);
	/* Somebody may have grown the pool while we waited for the mutex. */
	slot = free_list_pop(&pool->free_list);
	if (slot == POOL_NO_SLOT)
		slot = grow_locked(pool);
	if (slot == POOL_NO_SLOT) {
		slot = pool_evict_locked(pool);
		if (slot != POOL_NO_SLOT)
			poison(pool, slot);
	}
	mutex_unlock(&pool->mutex);
	return slot;
}

int pool_lease(struct pool *pool, uint32_t *ret_slot)
{
	uint32_t slot = free_list_pop(&pool->free_list);
	struct slot *s;

	if (slot == POOL_NO_SLOT)
		slot = take_slowly(pool);
	if (slot == POOL_NO_SLOT)
		/* Without any slot in memory there is nothing to wait for. */
		return atomic_load(&pool->faulted) ? -ENOBUFS : -ENOMEM;
	s = pool_slot(pool, slot);
	ASSERT(atomic_load_explicit(&s->pins, memory_order_relaxed) == 0);
	atomic_store(&s->owner, OWNER_LEASED);
	atomic_store_explicit(&s->dirty_epoch, 0, memory_order_relaxed);
	atomic_store_explicit(&s->is_referenced, 0, memory_order_relaxed);
	s->blocks = (union slot_blocks){0};
	*ret_slot = slot;
	return 0;
}

bool pool_is_full(struct pool *pool)
{
	return atomic_load_explicit(&pool->faulted, memory_order_relaxed) == pool->slot_count &&
	       free_list_is_empty(&pool->free_list);
}

/* The slot is released and unpinned, and only we have seen that it is. */
static void free_slot(struct pool *pool, uint32_t slot)
{
	struct slot *s = pool_slot(pool, slot);

	poison(pool, slot);
	atomic_store(&s->pins, 0);
	atomic_store(&s->owner, OWNER_FREE);
	free_list_push(&pool->free_list, slot);
	pool_notify(pool);
}

void pool_release(struct pool *pool, uint32_t slot)
{
	struct slot *s = pool_slot(pool, slot);
	uint32_t pins;

	ASSERT(slot < pool->slot_count);
	ASSERT(atomic_load(&s->owner) == OWNER_LEASED);
	pins = atomic_fetch_or(&s->pins, PINS_RETIRED);
	ASSERT(!(pins & PINS_RETIRED));
	if (pins == 0)
		free_slot(pool, slot);
}

void pool_pin(struct pool *pool, uint32_t slot)
{
	struct slot *s = pool_slot(pool, slot);

	ASSERT(pool_is_latched(pool, slot));
	ASSERT(atomic_load(&s->owner) != OWNER_FREE);
	ASSERT(!(atomic_fetch_add(&s->pins, 1) & PINS_RETIRED));
}

void pool_unpin(struct pool *pool, uint32_t slot)
{
	struct slot *s = pool_slot(pool, slot);
	uint32_t pins = atomic_fetch_sub(&s->pins, 1);

	ASSERT((pins & ~PINS_RETIRED) != 0);
	if (pins == (PINS_RETIRED | 1))
		free_slot(pool, slot);
	else if (pins == 1 && pool_someone_waits(pool) && slot_is_evictable(s))
		pool_notify(pool);
}

/* ---- waiting ----------------------------------------------------------- */

void pool_notify(struct pool *pool)
{
	uint32_t seen = atomic_load(&pool->event);

	while (seen & 1) {
		if (atomic_compare_exchange_weak(&pool->event, &seen, seen + 1)) {
			futex_wake(&pool->event, INT_MAX);
			return;
		}
	}
}

uint32_t pool_wait_token(struct pool *pool)
{
	return atomic_fetch_or(&pool->event, 1) | 1;
}

void pool_wait(struct pool *pool, uint32_t seen, uint64_t timeout_ns)
{
	uint64_t start = monotonic_ns();
	uint64_t passed = 0;

	while (passed < timeout_ns && atomic_load(&pool->event) == seen) {
		futex_wait_for(&pool->event, seen, timeout_ns - passed);
		passed = monotonic_ns() - start;
	}
}

/* ---- the life of a live slot ------------------------------------------- */

static void assert_owner(struct pool *pool, uint32_t slot, uint64_t owner)
{
	ASSERT(slot < pool->slot_count);
	ASSERT(pool_is_latched_exclusive(pool, slot));
	ASSERT(atomic_load(&pool_slot(pool, slot)->owner) == owner);
}

static void become_live(struct slot *s, frame_key key)
{
	atomic_store_explicit(&s->is_referenced, 1, memory_order_relaxed);
	atomic_store(&s->owner, key | OWNER_LIVE);
}

int pool_publish(struct pool *pool, frame_key key, uint32_t slot)
{
	int err;

	assert_owner(pool, slot, OWNER_LEASED);
	err = frame_table_insert(&pool->table, key, slot);
	if (!err)
		become_live(pool_slot(pool, slot), key);
	return err;
}

void pool_replace(struct pool *pool, frame_key key, uint32_t old, uint32_t new)
{
	assert_owner(pool, old, key | OWNER_LIVE);
	assert_owner(pool, new, OWNER_LEASED);
	become_live(pool_slot(pool, new), key);
	frame_table_move(&pool->table, key, old, new);
	atomic_store(&pool_slot(pool, old)->owner, OWNER_LEASED);
}

void pool_withdraw(struct pool *pool, frame_key key, uint32_t slot)
{
	assert_owner(pool, slot, key | OWNER_LIVE);
	frame_table_remove(&pool->table, key, slot);
	atomic_store(&pool_slot(pool, slot)->owner, OWNER_LEASED);
}

uint32_t pool_find(struct pool *pool, frame_key key)
{
	return frame_table_find(&pool->table, key);
}

bool pool_is_owner(struct pool *pool, uint32_t slot, frame_key key)
{
	uint64_t owner = atomic_load_explicit(&pool_slot(pool, slot)->owner,
	    memory_order_acquire);

	/* @key may be any 64 bits: also some that look like an owner word. */
	return owner_is_live(owner) && owner_key(owner) == key;
}

void pool_for_each(struct pool *pool, enum frame_kind kind,
    void (*fn)(void *ctx, frame_key key, uint32_t slot), void *ctx)
{
	uint32_t count = atomic_load(&pool->faulted);

	for (uint32_t i = 0; i < count; i++) {
		uint64_t owner = atomic_load(&pool_slot(pool, i)->owner);
		frame_key key = owner_key(owner);

		if (owner_is_live(owner) && frame_key_kind(key) == kind)
			fn(ctx, key, i);
	}
}

/* Reads before it writes: the line of a busy slot should stay shared. */
static void touch(struct slot *s)
{
	if (!atomic_load_explicit(&s->is_referenced, memory_order_relaxed))
		atomic_store_explicit(&s->is_referenced, 1,
		    memory_order_relaxed);
}

void pool_touch(struct pool *pool, uint32_t slot)
{
	touch(pool_slot(pool, slot));
}

uint64_t pool_dirty_epoch(struct pool *pool, uint32_t slot)
{
	return atomic_load_explicit(&pool_slot(pool, slot)->dirty_epoch,
	    memory_order_acquire);
}

void pool_set_dirty_epoch(struct pool *pool, uint32_t slot, uint64_t epoch)
{
	ASSERT(pool_is_latched_exclusive(pool, slot));
	atomic_store(&pool_slot(pool, slot)->dirty_epoch, epoch);
}

union slot_blocks *pool_blocks(struct pool *pool, uint32_t slot)
{
	return &pool_slot(pool, slot)->blocks;
}

/* ---- find and latch ---------------------------------------------------- */

static void count_hit(struct pool *pool)
{
	unsigned number = thread_number();

	counter_add(number, &pool->counters[number].hits, 1);
}

static void count_miss(struct pool *pool)
{
	unsigned number = thread_number();

	counter_add(number, &pool->counters[number].misses, 1);
}

/*
 * The loop goes round only when the slot's owner changed between find and latch,
 * that is when some other thread published, replaced, withdrew or evicted.
 */
static uint32_t latch_key(struct pool *pool, frame_key key,
    void (*latch)(struct pool *, uint32_t),
    void (*unlatch)(struct pool *, uint32_t))
{
	uint32_t slot;

	while ((slot = pool_find(pool, key)) != POOL_NO_SLOT) {
		latch(pool, slot);
		if (pool_is_owner(pool, slot, key)) {
			touch(pool_slot(pool, slot));
			count_hit(pool);
			return slot;
		}
		unlatch(pool, slot);
	}
	count_miss(pool);
	return POOL_NO_SLOT;
}

uint32_t pool_latch_key_shared(struct pool *pool, frame_key key)
{
	return latch_key(pool, key, pool_latch_shared, pool_unlatch_shared);
}

uint32_t pool_latch_key_exclusive(struct pool *pool, frame_key key)
{
	return latch_key(pool, key, pool_latch_exclusive,
	    pool_unlatch_exclusive);
}

/*
 * The version before the owner: if the owner is the key, it was so at some moment since
 * the version was read, and what is read in between counts only if the version stays.
 * The counting of a miss is left to the latching that follows it.
 */
bool pool_read_key(struct pool *pool, frame_key key, struct pool_read *ret)
{
	uint32_t slot = pool_find(pool, key);

	if (slot == POOL_NO_SLOT)
		return false;
	ret->slot = slot;
	ret->memory = pool_memory(pool, slot);
	__builtin_prefetch(ret->memory);
	if (!slot_read_begin(pool_slot(pool, slot), &ret->version) || !pool_is_owner(pool, slot, key))
		return false;
	touch(pool_slot(pool, slot));
	count_hit(pool);
	return true;
}

/* ---- counters ---------------------------------------------------------- */

static void count_slot(struct slot *s, struct pool_counters *sum)
{
	uint64_t owner = atomic_load_explicit(&s->owner, memory_order_relaxed);

	if (owner == OWNER_FREE)
		sum->free++;
	if (!owner_is_live(owner))
		return;
	switch (frame_key_kind(owner_key(owner))) {
	case FRAME_TREE:
		sum->live_tree++;
		break;
	case FRAME_DATA:
		sum->live_data++;
		break;
	case FRAME_PIECES:
		sum->live_pieces++;
		break;
	}
	if (atomic_load_explicit(&s->dirty_epoch, memory_order_relaxed))
		sum->dirty++;
}

void pool_counters(struct pool *pool, struct pool_counters *ret)
{
	struct pool_counters sum = {.slots = pool->slot_count};

	sum.faulted = atomic_load(&pool->faulted);
	sum.evictions = atomic_load(&pool->evictions);
	sum.free = sum.slots - sum.faulted;
	for (uint32_t i = 0; i < sum.faulted; i++)
		count_slot(pool_slot(pool, i), &sum);
	for (unsigned i = 0; i < THREAD_NUMBERS; i++) {
		sum.hits += atomic_load(&pool->counters[i].hits);
		sum.misses += atomic_load(&pool->counters[i].misses);
	}
	*ret = sum;
}
