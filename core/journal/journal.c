/*
 * The log as a whole: its life, its state, and credit.
 *
 * Credit is what lets an append succeed whatever happens (append.c): room in the log,
 * taken before the caller holds anything that others could wait for.
 *
 *    end + credit handed out + the PAD of an open block + credit left + credit in stock
 *        = tail + log bytes - one block
 *
 * A reservation counts the record, a MARK before and a PAD behind it.  The first record
 * after a cut spends all of it: it does have a MARK, and it opens a block whose PAD is
 * paid for then.  The others give back what MARK and PAD would have taken; the cut gives
 * back what its PAD did not.  So with credit in hand there always is room in the log, and
 * unread bytes from `tail` on are never overwritten.
 *
 * What is left is one word for all threads.  So that they do not pass it back and forth with
 * every record, each has some credit in stock, takes from that and gives back to that.
 * Nothing is refused before all stocks were collected.
 *
 * Locks: append_lock, to sleep and wake, then flush_lock.  Neither is held during I/O.
 */
#include "config.h"

#include "journal/journal_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/log.h"

#define RING_BYTES_DEFAULT (4u * 1024 * 1024)
#define RING_BYTES_ASKED_MIN (256u * 1024)
#define STOCK_BYTES_MAX (64u * 1024)
#define LOG_SLACK_BYTES BLOCK_BYTES /* end never meets tail from behind */

/* ---- life ------------------------------------------------------------------ */

static bool options_are_sane(const struct journal_options *options)
{
	uint32_t ring = options->ring_bytes;

	if (ring && (ring < RING_BYTES_ASKED_MIN || ring > RING_BYTES_MAX || (ring & (ring - 1))))
		return false;
	return journal_place_is_sane(&options->place) &&
	       is_aligned(options->start, BLOCK_BYTES);
}

/* No larger than the log: a flush must not write two bytes to one place. */
static uint32_t choose_ring_bytes(const struct journal_options *options)
{
	uint32_t bytes = options->ring_bytes ? options->ring_bytes : RING_BYTES_DEFAULT;

	while (bytes > options->place.bytes)
		bytes /= 2;
	return bytes;
}

static int create_ring(const struct journal_options *options, struct journal_ring *ret)
{
	uint32_t bytes = choose_ring_bytes(options);
	int err;

	if (options->is_shared) {
		err = journal_ring_create_shared(options->place.uuid,
		    options->open_id, bytes, options->start, ret);
		if (!err)
			return 0;
		log_warning("journal: no ring in shared memory (%s): what is not synced "
			    "ends with this process", strerror(-err));
	}
	return journal_ring_create_private(bytes, options->start, ret);
}

static void init_locks(struct journal *journal)
{
	mutex_init(&journal->append_lock, RANK_JOURNAL);
	condition_init(&journal->turn);
	condition_init(&journal->credit);
	mutex_init(&journal->flush_lock, RANK_JOURNAL_FLUSH);
	condition_init(&journal->progress);
}

static void init_state(struct journal *journal, lsn_t start)
{
	/* As after a cut; one block of the log stays free, and what a cut may take. */
	atomic_init(&journal->end_word, start | END_IS_CUT);
	atomic_init(&journal->tail, start);
	atomic_init(&journal->written, start);
	atomic_init(&journal->durable, start);
	atomic_init(&journal->credit_left, journal->place.bytes - LOG_SLACK_BYTES);
	for (unsigned i = 0; i < APPENDERS; i++)
		atomic_init(&journal->appenders[i].from, APPENDER_FREE);
}

int journal_open(const struct journal_options *options, struct journal **ret)
{
	struct journal *journal;
	uint64_t record_max;
	int err;

	if (!options_are_sane(options))
		return -EINVAL;
	journal = aligned_alloc(APPENDER_LINE, sizeof(*journal));
	if (!journal)
		return -ENOMEM;
	memset(journal, 0, sizeof(*journal));
	err = create_ring(options, &journal->ring);
	if (err) {
		free(journal);
		return err;
	}
	journal->place = options->place;
	journal->seed = uuid_seed(options->place.uuid);
	record_max = min_of(options->place.bytes / 4, (uint64_t)journal->ring.size / 2);
	record_max = min_of(record_max, (uint64_t)JOURNAL_RECORD_MAX);
	journal->body_max = (uint32_t)round_down(record_max, JOURNAL_ALIGN) - RECORD_HEADER_BYTES;
	init_locks(journal);
	init_state(journal, options->start);
	*ret = journal;
	return 0;
}

void journal_close(struct journal *journal, bool is_clean)
{
	if (!journal)
		return;
	journal_stop_writer(journal);
	ASSERT(!journal->is_writing && !journal->is_flushing && !journal->waiters);
	ASSERT(!atomic_load(&journal->is_making_room));
	if (journal->ring.is_shared && is_clean)
		journal_ring_remove(journal->place.uuid);
	journal_ring_release(&journal->ring);
	condition_fini(&journal->progress);
	mutex_fini(&journal->flush_lock);
	condition_fini(&journal->credit);
	condition_fini(&journal->turn);
	mutex_fini(&journal->append_lock);
	free(journal);
}

void journal_forget_ring(const uint8_t uuid[UUID_BYTES])
{
	int err = journal_ring_remove(uuid);

	if (err)
		log_warning("journal: cannot remove the old ring: %s", strerror(-err));
}

/* ---- state ------------------------------------------------------------------ */

bool journal_is_shared(const struct journal *journal)
{
	return journal->ring.is_shared;
}

uint32_t journal_body_max(const struct journal *journal)
{
	return journal->body_max;
}

lsn_t journal_tail(struct journal *journal)
{
	return atomic_load_explicit(&journal->tail, memory_order_acquire);
}

lsn_t journal_end(struct journal *journal)
{
	return atomic_load_explicit(&journal->end_word, memory_order_acquire) & ~END_IS_CUT;
}

lsn_t journal_end_seen(struct journal *journal)
{
	return atomic_load_explicit(&journal_own_appender(journal)->end_seen, memory_order_relaxed);
}

lsn_t journal_durable(struct journal *journal)
{
	return atomic_load_explicit(&journal->durable, memory_order_acquire);
}

int journal_error(struct journal *journal)
{
	return atomic_load_explicit(&journal->error, memory_order_acquire);
}

void journal_counters(struct journal *journal, struct journal_counters *ret)
{
	lsn_t tail = journal_tail(journal);

	*ret = (struct journal_counters){.used_bytes = journal_end(journal) - tail};
	for (unsigned i = 0; i < APPENDERS; i++) {
		ret->records += atomic_load(&journal->appenders[i].records);
		ret->record_bytes += atomic_load(&journal->appenders[i].record_bytes);
	}
	mutex_lock(&journal->flush_lock);
	ret->writes = journal->writes;
	ret->write_bytes = journal->write_bytes;
	ret->syncs = journal->syncs;
	ret->waits = journal->waits;
	mutex_unlock(&journal->flush_lock);
	ret->capacity_bytes = journal->place.bytes;
}

/* ---- credit ------------------------------------------------------------------ */

uint64_t journal_credit_for(uint32_t body_bytes)
{
	return MARK_BYTES + record_span(body_bytes) + PAD_BYTES_MAX;
}

/* Something changed for those that were refused. */
static void feed_starved(struct journal *journal)
{
	if (!atomic_load(&journal->is_starved))
		return;
	mutex_lock(&journal->append_lock);
	atomic_store(&journal->is_starved, false);
	condition_wake_all(&journal->credit);
	mutex_unlock(&journal->append_lock);
}

static void leave_credit(struct journal *journal, uint64_t bytes)
{
	atomic_fetch_add(&journal->credit_left, bytes);
	feed_starved(journal);
}

/* What a thread may have in stock: all of them a quarter of the log. */
static uint64_t stock_bytes(const struct journal *journal)
{
	return min_of(journal->place.bytes / (4 * APPENDERS), (uint64_t)STOCK_BYTES_MAX);
}

void journal_return_credit(struct journal *journal, uint64_t bytes)
{
	struct journal_appender *own = journal_own_appender(journal);
	uint64_t stock = atomic_fetch_add(&own->credit, bytes) + bytes;

	if (stock > 2 * stock_bytes(journal) || atomic_load(&journal->is_starved))
		leave_credit(journal, atomic_exchange(&own->credit, 0));
}

static bool take_credit(_Atomic uint64_t *from, uint64_t bytes)
{
	uint64_t left = atomic_load(from);

	while (left >= bytes)
		if (atomic_compare_exchange_weak(from, &left, left - bytes))
			return true;
	return false;
}

static void collect_stocks(struct journal *journal)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < APPENDERS; i++)
		bytes += atomic_exchange(&journal->appenders[i].credit, 0);
	if (bytes)
		leave_credit(journal, bytes);
}

static bool obtain_credit(struct journal *journal, uint64_t bytes)
{
	_Atomic uint64_t *stock = &journal_own_appender(journal)->credit;

	if (take_credit(stock, bytes))
		return true;
	if (take_credit(&journal->credit_left, bytes + stock_bytes(journal))) {
		journal_return_credit(journal, stock_bytes(journal));
		return true;
	}
	collect_stocks(journal);
	return take_credit(&journal->credit_left, bytes);
}

int journal_reserve(struct journal *journal, uint32_t body_bytes)
{
	uint64_t bytes = journal_credit_for(body_bytes);
	int err = journal_error(journal);

	if (err)
		return err;
	if (body_bytes > journal->body_max)
		return -E2BIG;
	if (obtain_credit(journal, bytes))
		return 0;
	/* Said first and tried once more: who returns credit looks in the other order. */
	atomic_store(&journal->is_starved, true);
	return obtain_credit(journal, bytes) ? 0 : -EAGAIN;
}

void journal_unreserve(struct journal *journal, uint32_t body_bytes)
{
	journal_return_credit(journal, journal_credit_for(body_bytes));
}

void journal_wait_room(struct journal *journal, lsn_t seen_tail)
{
	mutex_lock(&journal->append_lock);
	while (journal_tail(journal) <= seen_tail && journal->is_starved &&
	       !journal->is_stopped && !journal_error(journal))
		condition_wait(&journal->credit, &journal->append_lock);
	mutex_unlock(&journal->append_lock);
}

void journal_stop(struct journal *journal)
{
	mutex_lock(&journal->append_lock);
	journal->is_stopped = true;
	condition_wake_all(&journal->credit);
	mutex_unlock(&journal->append_lock);
}

void journal_set_tail(struct journal *journal, lsn_t lsn)
{
	lsn_t tail = journal_tail(journal);

	ASSERT(is_aligned(lsn, BLOCK_BYTES));
	ASSERT(lsn >= tail && lsn <= journal_end(journal));
	atomic_store_explicit(&journal->tail, lsn, memory_order_release);
	leave_credit(journal, lsn - tail);

	/* What the checkpoint holds is as good as synced. */
	mutex_lock(&journal->flush_lock);
	if (journal_durable(journal) < lsn)
		atomic_store_explicit(&journal->durable, lsn, memory_order_release);
	journal_end_waits(journal);
	mutex_unlock(&journal->flush_lock);
}

void journal_wake_appenders(struct journal *journal)
{
	mutex_lock(&journal->append_lock);
	condition_wake_all(&journal->credit);
	condition_wake_all(&journal->turn);
	mutex_unlock(&journal->append_lock);
}
