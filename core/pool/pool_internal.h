/*
 * What the files of the pool share.
 *
 * struct pool lies in one zeroed mapping: the fields, the frame table's
 * directories, then one struct slot a slot, a cache line each.  All-zero is the
 * right start for each of them, so opening touches a few pages only.
 */
#ifndef HOLTFS_POOL_INTERNAL_H
#define HOLTFS_POOL_INTERNAL_H

#include "pool/pool.h"

#include "base/bytes.h"
#include "base/counter.h"
#include "base/lock.h"

#define POOL_CACHE_LINE 64

/* ---- slots ------------------------------------------------------------- */

/*
 * The owner word says what a slot is:
 *
 *   OWNER_FREE      on the free list, or never faulted in
 *   OWNER_LEASED    of one party alone, or released but still pinned
 *   key | OWNER_LIVE  the live slot of key (numbers in the table are below 2^24,
 *                   so bit 32 is not part of any key)
 *
 * A slot becomes live, or stops being it, only under its exclusive latch.
 */
#define OWNER_FREE   0ull
#define OWNER_LEASED 1ull
#define OWNER_LIVE   BIT(32)

/* In the latch word (latch.c). */
#define LATCH_EXCLUSIVE	    BIT(0)
#define LATCH_WRITER_WAITS  BIT(1)
#define LATCH_STARVED	    BIT(3)
#define LATCH_VERSION_SHIFT 16

/* In the pin count: released while pinned; the last unpin frees the slot. */
#define PINS_RETIRED (1u << 31)

struct slot {
	_Atomic uint64_t latch;	      /* latch.c */
	_Atomic uint64_t owner;	      /* above */
	_Atomic uint64_t dirty_epoch; /* written under the exclusive latch */
	union slot_blocks blocks;    /* guarded by the latch, or the lease */
	_Atomic uint32_t pins;	      /* raised under a latch, lowered anywhere */
	_Atomic uint32_t is_referenced; /* a hint for the clock */
} __attribute__((aligned(POOL_CACHE_LINE)));

static inline bool owner_is_live(uint64_t owner)
{
	return owner & OWNER_LIVE;
}

static inline frame_key owner_key(uint64_t owner)
{
	return owner & ~OWNER_LIVE;
}

/* ---- free list (free_list.c) ------------------------------------------- */

struct free_list {
	_Atomic uint64_t head __attribute__((aligned(POOL_CACHE_LINE)));
	_Atomic uint32_t *next; /* set at init; one word a slot */
};

int free_list_init(struct free_list *list, uint32_t slot_count);
void free_list_fini(struct free_list *list);
void free_list_push(struct free_list *list, uint32_t slot);
uint32_t free_list_pop(struct free_list *list); /* POOL_NO_SLOT: empty */
bool free_list_is_empty(struct free_list *list);

/* ---- frame table (frame_table.c) --------------------------------------- */

#define FRAME_KINDS	    3u
#define TABLE_CHUNK_ENTRIES 4096u
#define TABLE_CHUNKS	    4096u
#define TABLE_NUMBERS	    ((uint64_t)TABLE_CHUNK_ENTRIES * TABLE_CHUNKS)

struct table_chunk {
	_Atomic uint32_t entries[TABLE_CHUNK_ENTRIES]; /* slot + 1, 0: none */
};

struct frame_table {
	_Atomic(struct table_chunk *) chunks[FRAME_KINDS][TABLE_CHUNKS];
};

void frame_table_fini(struct frame_table *table);
uint32_t frame_table_find(struct frame_table *table, frame_key key);

/* -EEXIST, -ENOMEM, -EINVAL (no such number). */
int frame_table_insert(struct frame_table *table, frame_key key, uint32_t slot);
void frame_table_move(struct frame_table *table, frame_key key, uint32_t old,
    uint32_t new);
void frame_table_remove(struct frame_table *table, frame_key key,
    uint32_t slot);

/* ---- the pool ---------------------------------------------------------- */

/* Threads count in a line of their own, so that counting costs no traffic. */
struct counter_shard {
	_Atomic uint64_t hits, misses;
} __attribute__((aligned(POOL_CACHE_LINE)));

struct pool {
	char *memory;	      /* set at init: the slab */
	uint32_t slot_count;  /* set at init */
	size_t slab_bytes;    /* set at init: slots and guard */
	size_t mapping_bytes; /* set at init: this structure */
	struct device *device; /* set at init; NULL: none */

	struct mutex mutex;	  /* RANK_POOL */
	_Atomic uint32_t faulted; /* slots below are in memory; written under mutex */
	uint32_t clock_hand;	  /* guarded by mutex */
	_Atomic uint64_t evictions; /* written under mutex */

	/* pool_wait(): a count, and in bit 0 whether someone wants to hear. */
	_Atomic uint32_t event __attribute__((aligned(POOL_CACHE_LINE)));

	struct free_list free_list;
	struct counter_shard counters[THREAD_NUMBERS];
	struct frame_table table;
	struct slot slots[];
};

static inline struct slot *pool_slot(struct pool *pool, uint32_t slot)
{
	return &pool->slots[slot];
}

static inline bool slot_read_begin(struct slot *s, uint64_t *ret_version)
{
	uint64_t word = atomic_load_explicit(&s->latch, memory_order_acquire);

	*ret_version = word >> LATCH_VERSION_SHIFT;
	return !(word & LATCH_EXCLUSIVE);
}

/* Could the clock take @s if nobody latched it? */
static inline bool slot_is_evictable(struct slot *s)
{
	return owner_is_live(atomic_load(&s->owner)) &&
	    atomic_load(&s->dirty_epoch) == 0 && atomic_load(&s->pins) == 0;
}

/*
 * Tells those who wait that a slot may be had.  The change that made it so is a
 * sequentially consistent operation before this call; see pool.c.
 */
void pool_notify(struct pool *pool);

static inline bool pool_someone_waits(struct pool *pool)
{
	return atomic_load(&pool->event) & 1;
}

bool pool_is_latched(struct pool *pool, uint32_t slot); /* by anyone, any mode */

/* evict.c: makes a lease of a live slot; POOL_NO_SLOT: none can be taken. */
uint32_t pool_evict_locked(struct pool *pool);

#endif
