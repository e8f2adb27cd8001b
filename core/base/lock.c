/*
 * Ranked mutexes and gates over pthread locks.
 *
 * The rank check keeps a bit per rank and thread: taking a lock asks that no bit
 * at or above its rank is set.  Locks of one rank that may nest (inodes) count
 * their depth instead of failing.
 */
#include "config.h"

#include "base/lock.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "base/assert.h"
#include "base/bytes.h"

#define GATE_SHARDS 16
#define CACHE_LINE 64

struct gate_shard {
	pthread_rwlock_t lock;
} __attribute__((aligned(CACHE_LINE)));

struct gate {
	struct gate_shard shards[GATE_SHARDS];
	enum lock_rank rank;
};

#ifdef DEBUG_CHECKS
static _Thread_local uint8_t held_depth[RANK_LEAF + 1];

static bool may_nest(enum lock_rank rank)
{
	return rank == RANK_INODE;
}

void rank_enter(enum lock_rank rank)
{
	for (unsigned r = rank + (may_nest(rank) ? 1 : 0); r <= RANK_LEAF; r++)
		ASSERT(held_depth[r] == 0);
	held_depth[rank]++;
}

void rank_leave(enum lock_rank rank)
{
	ASSERT(held_depth[rank] > 0);
	held_depth[rank]--;
}

static bool rank_is_held(enum lock_rank rank)
{
	return held_depth[rank] > 0;
}
#else
void rank_enter(enum lock_rank rank)
{
}

void rank_leave(enum lock_rank rank)
{
}

static bool rank_is_held(enum lock_rank rank)
{
	return true;
}
#endif

void mutex_init(struct mutex *m, enum lock_rank rank)
{
	ASSERT(pthread_mutex_init(&m->pthread, NULL) == 0);
	m->rank = rank;
}

void mutex_fini(struct mutex *m)
{
	pthread_mutex_destroy(&m->pthread);
}

void mutex_lock(struct mutex *m)
{
	rank_enter(m->rank);
	ASSERT(pthread_mutex_lock(&m->pthread) == 0);
}

bool mutex_try_lock(struct mutex *m)
{
	if (pthread_mutex_trylock(&m->pthread) != 0)
		return false;
	rank_enter(m->rank);
	return true;
}

void mutex_unlock(struct mutex *m)
{
	ASSERT(pthread_mutex_unlock(&m->pthread) == 0);
	rank_leave(m->rank);
}

void mutex_assert_held(const struct mutex *m)
{
	ASSERT_SLOW(rank_is_held(m->rank));
}

void condition_init(struct condition *c)
{
	pthread_condattr_t attr;

	ASSERT(pthread_condattr_init(&attr) == 0);
	ASSERT(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
	ASSERT(pthread_cond_init(&c->pthread, &attr) == 0);
	pthread_condattr_destroy(&attr);
}

void condition_fini(struct condition *c)
{
	pthread_cond_destroy(&c->pthread);
}

void condition_wait(struct condition *c, struct mutex *m)
{
	mutex_assert_held(m);
	ASSERT(pthread_cond_wait(&c->pthread, &m->pthread) == 0);
}

bool condition_wait_until(struct condition *c, struct mutex *m, uint64_t deadline_ns)
{
	struct timespec ts = {
	    .tv_sec = (time_t)(deadline_ns / 1000000000),
	    .tv_nsec = (long)(deadline_ns % 1000000000),
	};
	int err = pthread_cond_timedwait(&c->pthread, &m->pthread, &ts);

	ASSERT(err == 0 || err == ETIMEDOUT);
	return err == 0;
}

void condition_wake_all(struct condition *c)
{
	ASSERT(pthread_cond_broadcast(&c->pthread) == 0);
}

uint64_t monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

struct gate *gate_create(enum lock_rank rank)
{
	struct gate *g = aligned_alloc(CACHE_LINE, sizeof(*g));
	pthread_rwlockattr_t attr;

	if (!g)
		return NULL;
	g->rank = rank;
	ASSERT(pthread_rwlockattr_init(&attr) == 0);
	ASSERT(pthread_rwlockattr_setkind_np(&attr,
		   PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) == 0);
	for (unsigned i = 0; i < GATE_SHARDS; i++)
		ASSERT(pthread_rwlock_init(&g->shards[i].lock, &attr) == 0);
	pthread_rwlockattr_destroy(&attr);
	return g;
}

void gate_destroy(struct gate *g)
{
	if (!g)
		return;
	for (unsigned i = 0; i < GATE_SHARDS; i++)
		pthread_rwlock_destroy(&g->shards[i].lock);
	free(g);
}

unsigned gate_enter_shared(struct gate *g)
{
	int cpu = sched_getcpu();
	unsigned ticket = cpu < 0 ? 0 : (unsigned)cpu % GATE_SHARDS;

	rank_enter(g->rank);
	ASSERT(pthread_rwlock_rdlock(&g->shards[ticket].lock) == 0);
	return ticket;
}

void gate_leave_shared(struct gate *g, unsigned ticket)
{
	ASSERT(ticket < GATE_SHARDS);
	ASSERT(pthread_rwlock_unlock(&g->shards[ticket].lock) == 0);
	rank_leave(g->rank);
}

void gate_enter_exclusive(struct gate *g)
{
	rank_enter(g->rank);
	for (unsigned i = 0; i < GATE_SHARDS; i++)
		ASSERT(pthread_rwlock_wrlock(&g->shards[i].lock) == 0);
}

void gate_leave_exclusive(struct gate *g)
{
	for (unsigned i = GATE_SHARDS; i > 0; i--)
		ASSERT(pthread_rwlock_unlock(&g->shards[i - 1].lock) == 0);
	rank_leave(g->rank);
}
