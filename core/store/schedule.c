/*
 * When checkpoints are made, and what writers feel of them.
 *
 *   slots dirty   0 ........ wanted (1/2) ... paced (5/8) ..... limit (3/4) ...... all
 *                            a checkpoint     who dirties a     writers wait for
 *                            is begun         frame waits a     the checkpoint
 *                                             little
 *
 * A checkpoint is begun when that many frames were changed, or half of the log filled,
 * since the last one began; while one is under way nobody asks for the next on account
 * of what the first will take away.  Apart from that, when nothing was committed for
 * some seconds: a volume left alone is written out, so that a later recovery is short.
 *
 * While it runs, writers copy each frozen frame they change.  The slots for that are
 * brought in by the checkpoint's own thread, ahead of them: a slot may cost memory from
 * the system, which takes milliseconds, or an eviction.
 *
 * Locks: dirty_mutex, for sleeping and waking.
 */
#include "config.h"

#include "store/store_internal.h"

#include <errno.h>
#include <stdlib.h>

/* Checkpoint when this share of the slots was dirtied since the last; hold writers at
 * 3/4. */
#define DIRTY_PERCENT 50
#define DIRTY_PACED(slots) ((slots) / 8 * 5)
#define DIRTY_LIMIT(slots) ((slots) / 4 * 3)

/* What dirtying a frame waits just below the limit. */
#define PACE_NS 400000u

#define IDLE_MS 5000

/* Spare slots kept at hand for the copies of writers: not more than twice as many as frames
 * are dirty, than an eighth of the pool, and than this. */
#define SPARES_MOST 256u
#define SPARES_SHARE 8u

void store_want_checkpoint(struct store *store)
{
	if (!store->has_thread) {
		store_run_checkpoint(store, false);
		return;
	}
	/* Seen by the thread before it sleeps again. */
	if (atomic_load(&store->is_checkpoint_wanted))
		return;
	mutex_lock(&store->dirty_mutex);
	atomic_store(&store->is_checkpoint_wanted, true);
	condition_wake_all(&store->thread_condition);
	mutex_unlock(&store->dirty_mutex);
}

static bool wants_checkpoint(struct store *store)
{
	uint32_t dirty = atomic_load_explicit(&store->dirty_count, memory_order_relaxed);
	uint32_t frozen = atomic_load_explicit(&store->frozen_count, memory_order_relaxed);
	uint32_t percent = store->options.checkpoint_dirty_percent;
	uint64_t journal_bytes;
	lsn_t from;

	if (!percent)
		percent = DIRTY_PERCENT;
	if (dirty > frozen + (uint64_t)pool_slot_count(store->pool) * percent / 100)
		return true;
	if (!store->journal)
		return false;
	journal_bytes = from_le64(store->superblock_at_open.journal_frames) * FRAME_BYTES;
	from = max_of(journal_tail(store->journal), atomic_load(&store->cut_lsn));
	return journal_end_seen(store->journal) > from + journal_bytes / 2;
}

int store_throttle(struct store *store)
{
	uint32_t limit = DIRTY_LIMIT(pool_slot_count(store->pool));

	if (wants_checkpoint(store))
		store_want_checkpoint(store);
	while (atomic_load(&store->dirty_count) > limit && !store_error(store)) {
		uint64_t seen;

		mutex_lock(&store->dirty_mutex);
		seen = store->checkpoint_count;
		while (store->has_thread && store->checkpoint_count == seen &&
		       atomic_load(&store->dirty_count) > limit) {
			atomic_store(&store->is_checkpoint_wanted, true);
			condition_wake_all(&store->thread_condition);
			condition_wait(&store->checkpoint_done, &store->dirty_mutex);
		}
		mutex_unlock(&store->dirty_mutex);
		if (!store->has_thread)
			store_run_checkpoint(store, false);
	}
	return store_error(store) ? -EROFS : 0;
}

void store_pace(struct store *store)
{
	uint32_t slots = pool_slot_count(store->pool);
	uint32_t dirty = atomic_load_explicit(&store->dirty_count, memory_order_relaxed);
	uint32_t first = DIRTY_PACED(slots);
	uint64_t pause;

	if (dirty <= first || !store->has_thread)
		return;
	pause = (uint64_t)(dirty - first) * PACE_NS / (DIRTY_LIMIT(slots) - first);
	mutex_lock(&store->dirty_mutex);
	condition_wait_until(&store->checkpoint_done, &store->dirty_mutex,
	    monotonic_ns() + min_of(pause, (uint64_t)PACE_NS));
	mutex_unlock(&store->dirty_mutex);
}

void store_stock_spares(struct store *store, uint32_t wanted)
{
	uint32_t most = min_of(pool_slot_count(store->pool) / SPARES_SHARE, SPARES_MOST);
	uint32_t slots[SPARES_MOST];
	uint32_t count = 0;

	wanted = min_of(wanted, most);
	while (count < wanted && pool_lease(store->pool, &slots[count]) == 0)
		count++;
	while (count > 0)
		pool_release(store->pool, slots[--count]);
}

/* ---- the thread ------------------------------------------------------------------------- */

static uint64_t idle_deadline(struct store *store)
{
	uint32_t idle_ms = store->options.checkpoint_idle_ms;

	if (idle_ms == UINT32_MAX)
		return UINT64_MAX;
	return monotonic_ns() + (uint64_t)(idle_ms ? idle_ms : IDLE_MS) * 1000000;
}

/* What the thread knows from one look to the next. */
struct idleness {
	uint64_t commits; /* at the last look */
	uint32_t stocked; /* frames dirty when spares were last brought in */
};

/* Dirty frames have doubled since spares were brought in for them. */
static bool wants_spares(struct store *store, const struct idleness *idleness)
{
	return idleness->stocked < SPARES_MOST && store->dirty.count >= 2 * idleness->stocked;
}

static uint64_t commits_so_far(struct store *store)
{
	struct store_counts counts;

	store_sum_counts(store, &counts);
	return counts.commits;
}

/* Sleeps until there is reason to look again.  True: a checkpoint is to be made. */
static bool sleep_on(struct store *store, struct idleness *idleness)
{
	uint64_t commits = commits_so_far(store);
	bool is_timeout;

	if (atomic_exchange(&store->is_checkpoint_wanted, false))
		return true;
	if (store->dirty.count == 0 || store_error(store)) {
		idleness->stocked = 0;
		condition_wait(&store->thread_condition, &store->dirty_mutex);
		return false;
	}
	if (wants_spares(store, idleness)) {
		idleness->stocked = store->dirty.count;
		mutex_unlock(&store->dirty_mutex);
		/* It may double again before we come. */
		store_stock_spares(store, 2 * idleness->stocked);
		mutex_lock(&store->dirty_mutex);
		return false;
	}
	is_timeout = !condition_wait_until(&store->thread_condition, &store->dirty_mutex,
	    idle_deadline(store));
	if (is_timeout && commits == idleness->commits)
		return true;
	idleness->commits = commits;
	return false;
}

/*
 * Sleeps until someone wants a checkpoint or the first frame of an epoch gets dirty;
 * then looks every so often whether anything was committed since.  With nothing dirty
 * it sleeps for good.
 */
static void *checkpoint_thread(void *ctx)
{
	struct store *store = ctx;
	struct idleness idleness = {0};

	mutex_lock(&store->dirty_mutex);
	while (!store->is_stopping) {
		if (!sleep_on(store, &idleness))
			continue;
		mutex_unlock(&store->dirty_mutex);
		store_run_checkpoint(store, false);
		mutex_lock(&store->dirty_mutex);
	}
	mutex_unlock(&store->dirty_mutex);
	return NULL;
}

int store_start_thread(struct store *store)
{
	int err = pthread_create(&store->thread, NULL, checkpoint_thread, store);

	store->has_thread = err == 0;
	return -err;
}

void store_stop_thread(struct store *store)
{
	if (!store->has_thread)
		return;
	mutex_lock(&store->dirty_mutex);
	store->is_stopping = true;
	condition_wake_all(&store->thread_condition);
	mutex_unlock(&store->dirty_mutex);
	pthread_join(store->thread, NULL);
	store->has_thread = false;
}
