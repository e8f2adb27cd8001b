/*
 * Locks: a mutex that knows its rank, a condition to wait on under it, and a
 * gate that many pass together and one closes.  All sleep in the kernel when
 * they wait; nothing spins.
 *
 * The rank is the lock's place in the order of docs/locking.md.  In
 * --enable-debug builds taking a lock of a rank not above the highest one this
 * thread holds is an assertion failure, whether or not it would deadlock today.
 * Frame latches are not ranked: they are taken in ascending frame id.
 */
#ifndef HOLTFS_BASE_LOCK_H
#define HOLTFS_BASE_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Outermost first.  A thread takes locks downwards in this list. */
enum lock_rank {
	RANK_DAEMON = 1,  /* fuse/: session state */
	RANK_NAMESPACE,	  /* core/fs: paths stay as they are while held shared */
	RANK_FS_COMMIT,	  /* core/fs: one data commit at a time */
	RANK_INODE,	  /* core/fs: one inode; directories from the root down, then others */
	RANK_FS_TABLE,	  /* core/fs: inode table changes */
	RANK_CLAIMS,	  /* core/fs: one transaction at a time changes the count of claims */
	RANK_SEGMENT,	  /* core/fs: open segments, promises of space */
	RANK_ERASE,	  /* core/store: one step of erasing dropped keys at a time */
	RANK_HOLD,	  /* core/store: one batch at a time loads frames while it keeps some */
	RANK_SPARES,	  /* core/store: one thread at a time collects spare slots */
	RANK_CHECKPOINT,  /* core/store: one checkpoint at a time */
	RANK_GATE,	  /* core/store: transactions shared, epochs exclusive */
	RANK_DIRTY,	  /* core/store: list of dirty frames, frame ids */
	RANK_JOURNAL,	  /* core/journal: append */
	RANK_JOURNAL_FLUSH, /* core/journal: who flushes, who waits */
	RANK_SPACE,	  /* core/space: maps and counters */
	RANK_POOL,	  /* core/pool: growth and the clock hand */
	RANK_DEVICE,	  /* core/device: the ring */
	RANK_LEAF,	  /* anything that takes no lock while held */
};

struct mutex {
	pthread_mutex_t pthread;
	enum lock_rank rank;
};

struct condition {
	pthread_cond_t pthread;
};

void mutex_init(struct mutex *m, enum lock_rank rank);
void mutex_fini(struct mutex *m);
void mutex_lock(struct mutex *m);
bool mutex_try_lock(struct mutex *m);
void mutex_unlock(struct mutex *m);

/* Asserts, in debug builds, that this thread holds some lock of @m's rank. */
void mutex_assert_held(const struct mutex *m);

void condition_init(struct condition *c);
void condition_fini(struct condition *c);
void condition_wait(struct condition *c, struct mutex *m);

/* Waits until CLOCK_MONOTONIC @deadline_ns.  False when the time is over. */
bool condition_wait_until(struct condition *c, struct mutex *m, uint64_t deadline_ns);
void condition_wake_all(struct condition *c);

uint64_t monotonic_ns(void);

/*
 * A gate is a shared/exclusive lock made for many short shared holds: the shared
 * side is spread over several cache lines, the exclusive side takes them all
 * ("big-reader lock").  A waiting exclusive taker holds new shared ones back, so
 * neither side starves.  Shared holds do not nest.
 */
struct gate;

struct gate *gate_create(enum lock_rank rank); /* NULL: out of memory */
void gate_destroy(struct gate *g);

/* Returns a ticket to give back at gate_leave_shared() by the same thread. */
unsigned gate_enter_shared(struct gate *g);
void gate_leave_shared(struct gate *g, unsigned ticket);
void gate_enter_exclusive(struct gate *g);
void gate_leave_exclusive(struct gate *g);

/* The rank check used by the above, for locks of other modules' own making. */
void rank_enter(enum lock_rank rank);
void rank_leave(enum lock_rank rank);

#endif
