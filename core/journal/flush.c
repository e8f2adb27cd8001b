/*
 * Writing the log out.
 *
 * Two roles, each held by one thread at a time:
 *
 *    is_flushing   commits: cuts the log, has it written up to the cut, flushes the
 *                  device, moves `durable` to the cut.  Whoever asks for a sync
 *                  meanwhile sleeps on a word of its own.  In the end those whose
 *                  records are durable are let go, and the role is handed to the first
 *                  of the others, whose one flush serves all of them ("group commit":
 *                  DeWitt, Katz, Olken, Shapiro, Stonebraker, Wood, SIGMOD 1984).
 *                  Nobody is woken who has to sleep again.
 *    is_writing    writes blocks from `written` on.  Taken within a commit, by the
 *                  writer (writer.c) when half of the ring is full, and by an append
 *                  that found all of it full; so appends are not held up by a
 *                  device flush under way.
 *
 *    wait for role -> cut -> wait for bytes below the cut that others are copying
 *        -> write blocks -> written = cut -> flush -> durable = cut
 *
 * Appends go on all the while.
 *
 * Invariants
 *
 *  1. Only whole blocks whose bytes are published (append.c) are written, from
 *     `written` on: a block handed to the device does not change, and is written once.
 *  2. `durable` is always a cut (or a checkpoint's), never the middle of a record:
 *     a MARK that named one would make a torn record after it look like damage.
 *  3. Blocks below `tail` need no writing: a checkpoint holds what they say.
 *  4. The first error of a write or flush stays.  Nothing is written after it: the
 *     kernel may have dropped what it could not write ("fsyncgate").
 *
 * A ring in private memory gives level PROCESS by writing without a flush: a
 * completed write outlives the process.
 *
 * Locks: flush_lock guards roles and is dropped during I/O; append_lock is only
 * taken while it is not held.
 */
#include "config.h"

#include "journal/journal_internal.h"

#include <limits.h>
#include <string.h>

#include "base/assert.h"
#include "base/futex.h"
#include "base/log.h"

enum sync_state { SYNC_ASLEEP, SYNC_OVER, SYNC_LEADS };

static lsn_t load(_Atomic lsn_t *lsn)
{
	return atomic_load_explicit(lsn, memory_order_acquire);
}

/* The first error stays.  Takes no lock with it, so that it may take each. */
static void fail(struct journal *journal, int err, const char *what)
{
	int none = 0;

	if (!atomic_compare_exchange_strong(&journal->error, &none, err))
		return;
	log_error("journal: %s failed at LSN %llu: %s; nothing is logged any more", what,
	    (unsigned long long)load(&journal->written), strerror(-err));
	journal_wake_appenders(journal);
}

/* Sleeps until something was written.  flush_lock is held. */
static void watch(struct journal *journal)
{
	journal->watchers++;
	condition_wait(&journal->progress, &journal->flush_lock);
	journal->watchers--;
}

static void wake_watchers(struct journal *journal)
{
	if (journal->watchers)
		condition_wake_all(&journal->progress);
}

/* A run of the log wraps at the log's end at most once; in the ring it never does. */
static uint32_t split_run(struct journal *journal, lsn_t from, lsn_t to,
    struct device_request requests[2])
{
	uint32_t count = 0;

	while (from < to) {
		uint64_t until_wrap = journal->place.bytes - from % journal->place.bytes;
		uint32_t bytes = (uint32_t)min_of(to - from, until_wrap);

		ASSERT(count < 2);
		requests[count++] = (struct device_request){
		    .op = DEVICE_WRITE,
		    .slot = DEVICE_NO_SLOT,
		    .data = journal_ring_at(&journal->ring, from),
		    .bytes = bytes,
		    .offset = place_offset(&journal->place, from),
		};
		from += bytes;
	}
	return count;
}

static int write_run(struct journal *journal, lsn_t from, lsn_t to, uint32_t *ret_count)
{
	struct device_request requests[2];
	struct device_batch batch;

	*ret_count = split_run(journal, from, to, requests);
	if (*ret_count == 0)
		return 0;
	device_batch_init(&batch);
	device_submit(journal->place.device, &batch, requests, *ret_count);
	return device_wait(journal->place.device, &batch);
}

/*
 * Writes out what there is, up to a new cut or to the last whole block, and returns
 * where that ended in @ret_to.  Called with flush_lock, which is dropped meanwhile,
 * and while nobody else writes.
 */
static int write_blocks(struct journal *journal, bool is_cut, lsn_t *ret_to)
{
	lsn_t from, to;
	uint32_t count;
	int err;

	mutex_assert_held(&journal->flush_lock);
	ASSERT(!journal->is_writing);
	journal->is_writing = true;
	mutex_unlock(&journal->flush_lock);

	/* The tail first: it lies before any end read after it. */
	from = max_of(load(&journal->tail), load(&journal->written));
	to = is_cut ? journal_cut(journal) : round_down(journal_end(journal), BLOCK_BYTES);
	journal_wait_published(journal, to);
	err = write_run(journal, from, to, &count);
	if (err)
		fail(journal, err, "write");

	mutex_lock(&journal->flush_lock);
	journal->is_writing = false;
	if (!err) {
		atomic_store_explicit(&journal->ring.header->written, to, memory_order_release);
		atomic_store_explicit(&journal->written, to, memory_order_release);
		journal->writes += count;
		journal->write_bytes += to - from;
	}
	wake_watchers(journal);
	*ret_to = to;
	return err;
}

void journal_write_out(struct journal *journal, lsn_t lsn)
{
	lsn_t to;

	mutex_lock(&journal->flush_lock);
	while (load(&journal->written) < lsn && !journal_error(journal)) {
		if (journal->is_writing)
			watch(journal);
		else
			write_blocks(journal, false, &to);
	}
	mutex_unlock(&journal->flush_lock);
}

/* Waits for the role, then writes up to a new cut. */
static int write_cut(struct journal *journal, lsn_t *ret_to)
{
	while (journal->is_writing)
		watch(journal);
	if (journal_error(journal))
		return journal_error(journal);
	return write_blocks(journal, true, ret_to);
}

/* The waiter's stack may be gone as soon as it knows: a wake-up that comes later finds
 * nobody, or somebody who looks again. */
static void tell(struct sync_waiter *waiter, enum sync_state state)
{
	atomic_store_explicit(&waiter->state, state, memory_order_release);
	futex_wake(&waiter->state, 1);
}

void journal_end_waits(struct journal *journal)
{
	struct sync_waiter **link = &journal->waiters;

	mutex_assert_held(&journal->flush_lock);
	while (*link) {
		struct sync_waiter *waiter = *link;

		if (waiter->lsn > journal_durable(journal) && !journal_error(journal)) {
			link = &waiter->next;
			continue;
		}
		*link = waiter->next;
		tell(waiter, SYNC_OVER);
	}
}

/* The oldest of those still waiting flushes next; it has the role already.  flush_lock is
 * held. */
static void hand_over(struct journal *journal)
{
	struct sync_waiter **link = &journal->waiters;

	/* First of all: its flush can begin while the others are being woken. */
	while (*link && (*link)->lsn <= journal_durable(journal))
		link = &(*link)->next;
	if (*link && !journal_error(journal)) {
		struct sync_waiter *next = *link;

		*link = next->next;
		tell(next, SYNC_LEADS);
	} else {
		journal->is_flushing = false;
	}
	journal_end_waits(journal);
}

/* One flush for everyone.  Called with the role and with flush_lock, which is dropped
 * meanwhile; the role is gone in the end. */
static void commit(struct journal *journal)
{
	lsn_t to = 0;
	int err = write_cut(journal, &to);

	mutex_unlock(&journal->flush_lock);
	if (!err) {
		err = device_flush(journal->place.device);
		if (err)
			fail(journal, err, "flush");
	}
	mutex_lock(&journal->flush_lock);
	if (!err) {
		journal->syncs++;
		if (journal_durable(journal) < to)
			atomic_store_explicit(&journal->durable, to, memory_order_release);
	}
	hand_over(journal);
}

/* Sleeps until it is served or has to serve.  Called with flush_lock, held again at the
 * end if it has to serve: true. */
static bool wait_for_flush(struct journal *journal, lsn_t lsn)
{
	struct sync_waiter waiter = {.lsn = lsn};
	struct sync_waiter **link = &journal->waiters;
	uint32_t state;

	while (*link)
		link = &(*link)->next;
	*link = &waiter;
	journal->waits++;
	mutex_unlock(&journal->flush_lock);
	while ((state = atomic_load_explicit(&waiter.state, memory_order_acquire)) == SYNC_ASLEEP)
		futex_wait(&waiter.state, SYNC_ASLEEP);
	if (state == SYNC_OVER)
		return false;
	mutex_lock(&journal->flush_lock);
	return true;
}

static int make_durable(struct journal *journal, lsn_t lsn)
{
	bool has_role = true;

	mutex_lock(&journal->flush_lock);
	if (journal_durable(journal) >= lsn || journal_error(journal)) {
		mutex_unlock(&journal->flush_lock);
	} else {
		if (journal->is_flushing)
			has_role = wait_for_flush(journal, lsn);
		if (has_role) {
			journal->is_flushing = true;
			commit(journal);
			mutex_unlock(&journal->flush_lock);
		}
	}
	return journal_durable(journal) >= lsn ? 0 : journal_error(journal);
}

static bool is_written(struct journal *journal, lsn_t lsn)
{
	return load(&journal->written) >= lsn || load(&journal->tail) >= lsn;
}

static int make_written(struct journal *journal, lsn_t lsn)
{
	lsn_t to;

	mutex_lock(&journal->flush_lock);
	while (!is_written(journal, lsn) && !journal_error(journal)) {
		if (journal->is_writing)
			watch(journal);
		else
			write_blocks(journal, true, &to);
	}
	mutex_unlock(&journal->flush_lock);
	return is_written(journal, lsn) ? 0 : journal_error(journal);
}

int journal_sync(struct journal *journal, lsn_t lsn, enum journal_level level)
{
	int err = journal_error(journal);

	if (err || level == JOURNAL_LOSSY)
		return err;
	/* Not always: it would be the only look at the end, which all threads write. */
	ASSERT_SLOW(lsn <= journal_end(journal));
	if (level == JOURNAL_SYNC)
		return journal_durable(journal) >= lsn ? 0 : make_durable(journal, lsn);
	if (!journal->ring.is_shared)
		return make_written(journal, lsn);
	/* Where another one dies in the middle of its record the log would end. */
	journal_wait_published(journal, lsn);
	return 0;
}
