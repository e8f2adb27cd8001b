/*
 * The background thread: commits by the clock, and removal of large orphans.
 *
 * It sleeps without a timer while nothing has changed.  The first change after a
 * commit wakes it; it then waits until commit_interval_ms have passed since that
 * change (or it is told to hurry), commits everything, and sleeps again.
 *
 *	          worker_note_change             interval over, hurry
 *	  asleep ------------------> waiting ------------------------> fs_sync --.
 *	     ^  \                                                                |
 *	     |   `-- worker_queue_reap --> orphan_remove, one at a time --.      |
 *	     +------------------------------------------------------------+------+
 *
 * Without the thread (tests, before fs_start) commits happen when asked for, and
 * orphans are removed by whoever drops them.
 *
 * Locking: worker_mutex is a leaf; it is not held while working.
 */
#include "config.h"

#include "fs/fs_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"

#define NANOSECONDS_PER_MS 1000000ull

void worker_note_change(struct fs *fs)
{
	if (atomic_load_explicit(&fs->has_changes, memory_order_relaxed))
		return;
	mutex_lock(&fs->worker_mutex);
	if (!atomic_load(&fs->has_changes)) {
		fs->changed_at_ns = monotonic_ns();
		atomic_store(&fs->has_changes, true);
		condition_wake_all(&fs->worker_condition);
	}
	mutex_unlock(&fs->worker_mutex);
}

void worker_hurry(struct fs *fs)
{
	mutex_lock(&fs->worker_mutex);
	if (!fs->worker_is_early) {
		fs->worker_is_early = true;
		condition_wake_all(&fs->worker_condition);
	}
	mutex_unlock(&fs->worker_mutex);
}

/* ---- orphans ------------------------------------------------------------------ */

bool worker_queue_reap(struct fs *fs, uint64_t ino)
{
	bool is_queued = false;

	mutex_lock(&fs->worker_mutex);
	if (fs->has_worker && fs->reap_count == fs->reap_capacity) {
		uint32_t capacity = fs->reap_capacity * 2 + 16;
		uint64_t *queue = realloc(fs->reap_queue, capacity * sizeof(*queue));

		if (queue) {
			fs->reap_queue = queue;
			fs->reap_capacity = capacity;
		}
	}
	if (fs->has_worker && fs->reap_count < fs->reap_capacity) {
		fs->reap_queue[fs->reap_count++] = ino;
		condition_wake_all(&fs->worker_condition);
		is_queued = true;
	}
	mutex_unlock(&fs->worker_mutex);
	return is_queued;
}

static bool take_reap(struct fs *fs, uint64_t *ret_ino)
{
	bool has = false;

	mutex_lock(&fs->worker_mutex);
	if (fs->reap_count > 0) {
		*ret_ino = fs->reap_queue[--fs->reap_count];
		fs->reaping++;
		has = true;
	}
	mutex_unlock(&fs->worker_mutex);
	return has;
}

/* An orphan that cannot be removed now is found again by the next open. */
static void reap(struct fs *fs, uint64_t ino)
{
	(void)orphan_remove(fs, ino);
	mutex_lock(&fs->worker_mutex);
	fs->reaping--;
	condition_wake_all(&fs->worker_condition);
	mutex_unlock(&fs->worker_mutex);
}

void worker_reap_now(struct fs *fs)
{
	uint64_t ino;

	while (take_reap(fs, &ino))
		reap(fs, ino);
	mutex_lock(&fs->worker_mutex);
	while (fs->reaping > 0)
		condition_wait(&fs->worker_condition, &fs->worker_mutex);
	mutex_unlock(&fs->worker_mutex);
}

/* ---- the thread ---------------------------------------------------------------- */

enum job { JOB_STOP, JOB_COMMIT, JOB_REAP };

static enum job wait_for_job(struct fs *fs)
{
	enum job job;

	mutex_lock(&fs->worker_mutex);
	for (;;) {
		bool has_changes = atomic_load(&fs->has_changes);
		uint64_t due = fs->changed_at_ns +
		    fs->options.commit_interval_ms * NANOSECONDS_PER_MS;

		if (fs->worker_stops) {
			job = JOB_STOP;
			break;
		}
		if (fs->worker_is_early || (has_changes && monotonic_ns() >= due)) {
			job = JOB_COMMIT;
			fs->worker_is_early = false;
			atomic_store(&fs->has_changes, false);
			break;
		}
		if (fs->reap_count > 0) {
			job = JOB_REAP;
			break;
		}
		if (has_changes)
			(void)condition_wait_until(&fs->worker_condition,
			    &fs->worker_mutex, due);
		else
			condition_wait(&fs->worker_condition, &fs->worker_mutex);
	}
	mutex_unlock(&fs->worker_mutex);
	return job;
}

/* What a commit cannot store for lack of space stays pending and is tried again; any
 * other failure sticks (fs_error).  Either way fsync reports it. */
static void *run(void *arg)
{
	struct fs *fs = arg;
	enum job job;
	uint64_t ino;

	while ((job = wait_for_job(fs)) != JOB_STOP) {
		if (job == JOB_COMMIT) {
			if (fs_sync(fs) < 0 && fs_error(fs) == 0)
				worker_note_change(fs);
		} else if (take_reap(fs, &ino)) {
			reap(fs, ino);
		}
	}
	return NULL;
}

int worker_start(struct fs *fs)
{
	int err;

	ASSERT(!fs->has_worker);
	err = pthread_create(&fs->worker, NULL, run, fs);
	if (err != 0)
		return -err;
	mutex_lock(&fs->worker_mutex);
	fs->has_worker = true;
	mutex_unlock(&fs->worker_mutex);
	return 0;
}

void worker_stop(struct fs *fs)
{
	mutex_lock(&fs->worker_mutex);
	fs->worker_stops = true;
	condition_wake_all(&fs->worker_condition);
	mutex_unlock(&fs->worker_mutex);
	if (!fs->has_worker)
		return;
	ASSERT(pthread_join(fs->worker, NULL) == 0);
	mutex_lock(&fs->worker_mutex);
	fs->has_worker = false;
	mutex_unlock(&fs->worker_mutex);
}
