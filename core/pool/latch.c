/*
 * Hybrid latches: optimistic, shared, exclusive (Böttcher, Leis, Giceva, Neumann,
 * "Scalable and robust latches for database systems", DaMoN 2020).
 *
 *   63                              16 15         4   3    2    1    0
 *  +----------------------------------+------------+----+----+----+----+
 *  |             version              |  holders   | ST | SL | WW | EX |
 *  +----------------------------------+------------+----+----+----+----+
 *   EX  held exclusively                  WW  a writer sleeps
 *   SL  somebody sleeps                   ST  somebody has lost many rounds
 *
 * 1. EX and holders exclude each other.
 * 2. Every exclusive release adds one to version; nothing else changes it and
 *    nothing resets it.  48 bits: at ten million releases a second of one slot it
 *    comes round after 325 days.
 * 3. WW and SL are set, by who is about to sleep, in a word that keeps it out; the
 *    release that ends this (of EX, or of the last holder) clears both and wakes
 *    all.  So a set SL always has a wake-up ahead of it, and none is lost: the
 *    kernel lets a thread sleep only while the low half of the word, SL included,
 *    is what it announced.
 * 4. Fairness.  A word with WW lets no new reader in: a stream of readers cannot
 *    starve a writer.  A free latch may be taken at once by whoever comes (no
 *    hand-over, hence no convoy of context switches); a sleeper that has lost
 *    STARVING_ROUNDS such races sets ST, and then only those who have lost as
 *    often may take the latch.  The one who takes it clears ST; others set it
 *    again.  So nobody waits for more than a bounded number of others.
 * 5. A thread takes a slot's latch once: a second shared one behind a waiting
 *    writer would wait for itself.
 *
 * Optimistic readers are those of a sequence lock, with the version as sequence
 * (H.-J. Boehm, "Can seqlocks get along with programming language memory
 * models?", MSPC 2012).  What has to hold: a reader that saw any byte written
 * under EX must see EX or the next version when it validates.
 *  - The writer puts a release fence between taking EX and its first store, the
 *    reader an acquire fence between its last load and the load that validates.
 *    If a load saw a store, the fences synchronise, and the taking of EX happens
 *    before the validation.  Acquire order on the taking itself would not do: on
 *    ARM a later store can become visible before the store half of the exchange.
 *  - pool_read_begin() acquires what the last exclusive release published.
 * ThreadSanitizer does not model fences.  Under it the validation is a
 * read-modify-write with release order, also from that paper: if it read the old
 * version it precedes the writer's exchange, which acquires it, so the reader's
 * loads happen before the writer's stores.  It would make every reader write the
 * shared line, so it is not what others run.
 *
 * Who waits tries a handful of times and then sleeps in the kernel.
 */
#include "config.h"

#include "pool/pool_internal.h"

#include <limits.h>

#include "base/assert.h"
#include "base/futex.h"

#define EXCLUSIVE     LATCH_EXCLUSIVE
#define WRITER_WAITS  LATCH_WRITER_WAITS
#define SLEEPERS      BIT(2)
#define STARVED	      LATCH_STARVED
#define HOLDER_ONE    BIT(4)
#define HOLDERS	      (0xfffull << 4)
#define VERSION_ONE   BIT(16)
#define VERSION_SHIFT LATCH_VERSION_SHIFT

#define SPIN_TRIES	16
#define STARVING_ROUNDS 8

struct mode {
	uint64_t kept_out_by;	    /* whoever takes it */
	uint64_t newcomer_kept_out; /* in addition, before the starving round */
	uint64_t adds;
	uint64_t announces;
};

static const struct mode shared_mode = {
    .kept_out_by = EXCLUSIVE,
    .newcomer_kept_out = WRITER_WAITS | STARVED,
    .adds = HOLDER_ONE,
    .announces = SLEEPERS,
};

static const struct mode exclusive_mode = {
    .kept_out_by = EXCLUSIVE | HOLDERS,
    .newcomer_kept_out = STARVED,
    .adds = EXCLUSIVE,
    .announces = SLEEPERS | WRITER_WAITS,
};

/* Keeps the writes under EX behind the taking of EX; see the opening. */
static inline void order_writes_after_taking(void)
{
#ifndef SANITIZE_THREAD
	atomic_thread_fence(memory_order_release);
#endif
}

/* Only the kernel reads through this: the half with the flags. */
static _Atomic uint32_t *futex_half(_Atomic uint64_t *latch)
{
	uint32_t *halves = (uint32_t *)latch;

#if __BYTE_ORDER == __BIG_ENDIAN
	halves++;
#endif
	return (_Atomic uint32_t *)halves;
}

/* False: *ret_seen is the word that kept us out. */
static inline bool try_take(_Atomic uint64_t *latch, const struct mode *mode,
    bool is_starving, uint64_t *ret_seen)
{
	uint64_t kept_out_by = mode->kept_out_by;
	uint64_t word = atomic_load(latch);
	uint64_t next;

	if (!is_starving)
		kept_out_by |= mode->newcomer_kept_out;
	while (!(word & kept_out_by)) {
		ASSERT(mode->adds != HOLDER_ONE || (word & HOLDERS) != HOLDERS);
		next = word + mode->adds;
		if (is_starving)
			next &= ~STARVED;
		if (atomic_compare_exchange_weak_explicit(latch, &word, next,
			memory_order_acquire, memory_order_relaxed))
			return true;
	}
	*ret_seen = word;
	return false;
}

static void take_slowly(_Atomic uint64_t *latch, const struct mode *mode)
{
	unsigned tries = 0, rounds = 0;
	uint64_t seen, announced;

	while (!try_take(latch, mode, rounds >= STARVING_ROUNDS, &seen)) {
		if (tries++ < SPIN_TRIES) {
			cpu_relax();
			continue;
		}
		announced = seen | mode->announces;
		if (rounds >= STARVING_ROUNDS)
			announced |= STARVED;
		if (announced != seen &&
		    !atomic_compare_exchange_strong(latch, &seen, announced))
			continue;
		futex_wait(futex_half(latch), (uint32_t)announced);
		rounds++;
	}
}

static inline void take(_Atomic uint64_t *latch, const struct mode *mode)
{
	uint64_t seen;

	if (!try_take(latch, mode, false, &seen))
		take_slowly(latch, mode);
}

static void wake_sleepers(_Atomic uint64_t *latch)
{
	futex_wake(futex_half(latch), INT_MAX);
}

/* A slot that was only latched can now be evicted: who waits for one hears it. */
static inline void notify_unlatched(struct pool *pool, struct slot *s)
{
	if (pool_someone_waits(pool) && slot_is_evictable(s))
		pool_notify(pool);
}

void pool_latch_shared(struct pool *pool, uint32_t slot)
{
	take(&pool_slot(pool, slot)->latch, &shared_mode);
}

void pool_unlatch_shared(struct pool *pool, uint32_t slot)
{
	struct slot *s = pool_slot(pool, slot);
	uint64_t old = atomic_fetch_sub(&s->latch, HOLDER_ONE);

	ASSERT((old & HOLDERS) != 0);
	if ((old & HOLDERS) != HOLDER_ONE)
		return;
	/*
	 * Between the two steps others may come and announce themselves; they
	 * are woken once for nothing and announce themselves again.
	 */
	if (old & SLEEPERS) {
		atomic_fetch_and(&s->latch, ~(SLEEPERS | WRITER_WAITS));
		wake_sleepers(&s->latch);
	}
	notify_unlatched(pool, s);
}

void pool_latch_exclusive(struct pool *pool, uint32_t slot)
{
	take(&pool_slot(pool, slot)->latch, &exclusive_mode);
	order_writes_after_taking();
}

bool pool_try_latch_exclusive(struct pool *pool, uint32_t slot)
{
	uint64_t seen;

	if (!try_take(&pool_slot(pool, slot)->latch, &exclusive_mode, false,
		&seen))
		return false;
	order_writes_after_taking();
	return true;
}

void pool_unlatch_exclusive(struct pool *pool, uint32_t slot)
{
	struct slot *s = pool_slot(pool, slot);
	uint64_t old = atomic_load_explicit(&s->latch, memory_order_relaxed);
	uint64_t next;

	do {
		ASSERT(old & EXCLUSIVE);
		next = old & ~(EXCLUSIVE | SLEEPERS | WRITER_WAITS);
		next += VERSION_ONE;
	} while (!atomic_compare_exchange_weak(&s->latch, &old, next));
	if (old & SLEEPERS)
		wake_sleepers(&s->latch);
	notify_unlatched(pool, s);
}

bool pool_is_latched_exclusive(struct pool *pool, uint32_t slot)
{
	return atomic_load_explicit(&pool_slot(pool, slot)->latch,
		   memory_order_relaxed) & EXCLUSIVE;
}

bool pool_is_latched(struct pool *pool, uint32_t slot)
{
	return atomic_load_explicit(&pool_slot(pool, slot)->latch,
		   memory_order_relaxed) & (EXCLUSIVE | HOLDERS);
}

bool pool_read_begin(struct pool *pool, uint32_t slot, uint64_t *ret_version)
{
	return slot_read_begin(pool_slot(pool, slot), ret_version);
}

/* Only a word without holders, sleepers and starving is taken: who waits comes first. */
bool pool_try_upgrade(struct pool *pool, uint32_t slot, uint64_t version)
{
	uint64_t word = version << VERSION_SHIFT;

	if (!atomic_compare_exchange_strong_explicit(&pool_slot(pool, slot)->latch, &word,
		word | EXCLUSIVE, memory_order_acquire, memory_order_relaxed))
		return false;
	order_writes_after_taking();
	return true;
}

bool pool_read_validate(struct pool *pool, uint32_t slot, uint64_t version)
{
	_Atomic uint64_t *latch = &pool_slot(pool, slot)->latch;
	uint64_t word;

#ifdef SANITIZE_THREAD
	word = atomic_fetch_add_explicit(latch, 0, memory_order_acq_rel);
#else
	atomic_thread_fence(memory_order_acquire);
	word = atomic_load_explicit(latch, memory_order_relaxed);
#endif
	return !(word & EXCLUSIVE) && word >> VERSION_SHIFT == version;
}
