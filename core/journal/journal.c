/*
 * Appending to the log.
 *
 *    tail                written               end
 *     |------- on disk ---|--- in the ring -----|
 *     |                   |<---- <= ring ------>|
 *     |<------------------ <= log ------------->|
 *
 * Records are laid one after another into the ring, under one mutex: the order of
 * appends is the order of LSNs is the order of replay, and there is no second
 * counter that could disagree with `end`.  A record is copied, sealed and only then
 * covered by `end` and, for those who find the ring after this process died, by
 * `published`.
 *
 * A *cut* ends the log at a block boundary with a PAD, so that the blocks before it
 * can go to the device and need never be written again.  The first record after a
 * cut is preceded by a MARK that names the LSN known durable at that time.  Both
 * are made lazily: an idle log does not grow.
 *
 * Invariants
 *
 *  1. A byte of the ring is overwritten only when `written` is past it.
 *  2. After every append there is room in ring and log for the PAD of a cut, so a
 *     cut waits for nothing.
 *  3. end + credit handed out + the PAD of an open block <= tail + log bytes - one
 *     block.  A reservation counts the record, a MARK before and a PAD behind it;
 *     an append spends less or all of it; so with credit in hand there always is
 *     room in the log, and unread bytes from `tail` on are never overwritten.
 *  4. A record is at most half the ring, so writing out the whole blocks before it
 *     always makes room for it; and at most a quarter of the log, so an empty log
 *     never refuses it.
 *
 * A full ring is the only thing an append waits for.  The one that meets it first
 * writes blocks out, with the mutex dropped; those behind it wait for their turn,
 * so that small records cannot keep a large one waiting for ever.
 *
 * After an error of the device nothing can be written out any more.  Appends with
 * credit in hand still succeed, as they must, but once the ring is full their bytes
 * go nowhere (is_lost); every sync tells the error.
 *
 * Locks: append_lock, then flush_lock.  Neither is held during I/O.
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

int journal_open(const struct journal_options *options, struct journal **ret)
{
	struct journal *journal;
	uint64_t record_max;
	int err;

	if (!options_are_sane(options))
		return -EINVAL;
	journal = calloc(1, sizeof(*journal));
	if (!journal)
		return -ENOMEM;
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
	atomic_init(&journal->end, options->start);
	atomic_init(&journal->tail, options->start);
	atomic_init(&journal->written, options->start);
	atomic_init(&journal->durable, options->start);
	journal->needs_mark = true;
	*ret = journal;
	return 0;
}

void journal_close(struct journal *journal, bool is_clean)
{
	if (!journal)
		return;
	ASSERT(!journal->is_writing && !journal->is_flushing && !journal->is_making_room);
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
	return atomic_load_explicit(&journal->end, memory_order_acquire);
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
	mutex_lock(&journal->append_lock);
	ret->records = journal->records;
	ret->record_bytes = journal->record_bytes;
	ret->used_bytes = journal_end(journal) - journal_tail(journal);
	mutex_unlock(&journal->append_lock);
	mutex_lock(&journal->flush_lock);
	ret->writes = journal->writes;
	ret->write_bytes = journal->write_bytes;
	ret->syncs = journal->syncs;
	ret->waits = journal->waits;
	mutex_unlock(&journal->flush_lock);
	ret->capacity_bytes = journal->place.bytes;
}

/* ---- credit ------------------------------------------------------------------ */

static uint64_t credit_for(uint32_t body_bytes)
{
	return MARK_BYTES + record_span(body_bytes) + PAD_BYTES_MAX;
}

/* What a cut may still add to the log, which no reservation counts. */
static uint64_t open_block_bytes(struct journal *journal)
{
	return is_aligned(journal_end(journal), BLOCK_BYTES) ? 0 : PAD_BYTES_MAX;
}

/* Something changed for those that were refused.  append_lock is held. */
static void feed_starved(struct journal *journal)
{
	mutex_assert_held(&journal->append_lock);
	if (!journal->is_starved)
		return;
	journal->is_starved = false;
	condition_wake_all(&journal->credit);
}

int journal_reserve(struct journal *journal, uint32_t body_bytes)
{
	uint64_t taken, limit = journal->place.bytes - LOG_SLACK_BYTES;
	int err = journal_error(journal);

	if (err)
		return err;
	if (body_bytes > journal->body_max)
		return -E2BIG;
	mutex_lock(&journal->append_lock);
	taken = journal_end(journal) - journal_tail(journal) +
		open_block_bytes(journal) + journal->reserved;
	if (taken + credit_for(body_bytes) <= limit) {
		journal->reserved += credit_for(body_bytes);
	} else {
		journal->is_starved = true;
		err = -EAGAIN;
	}
	mutex_unlock(&journal->append_lock);
	return err;
}

void journal_unreserve(struct journal *journal, uint32_t body_bytes)
{
	mutex_lock(&journal->append_lock);
	ASSERT(journal->reserved >= credit_for(body_bytes));
	journal->reserved -= credit_for(body_bytes);
	feed_starved(journal);
	mutex_unlock(&journal->append_lock);
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
	ASSERT(is_aligned(lsn, BLOCK_BYTES));
	mutex_lock(&journal->append_lock);
	ASSERT(lsn >= journal_tail(journal) && lsn <= journal_end(journal));
	atomic_store_explicit(&journal->tail, lsn, memory_order_release);
	feed_starved(journal);
	mutex_unlock(&journal->append_lock);

	/* What the checkpoint holds is as good as synced. */
	mutex_lock(&journal->flush_lock);
	if (journal_durable(journal) < lsn)
		atomic_store_explicit(&journal->durable, lsn, memory_order_release);
	condition_wake_all(&journal->progress);
	mutex_unlock(&journal->flush_lock);
}

void journal_wake_appenders(struct journal *journal)
{
	mutex_lock(&journal->append_lock);
	condition_wake_all(&journal->credit);
	condition_wake_all(&journal->turn);
	mutex_unlock(&journal->append_lock);
}

/* ---- appending ------------------------------------------------------------------ */

/* Covers the record that stands at the end of the log.  Bytes first, then this. */
static void advance_end(struct journal *journal, uint64_t span)
{
	lsn_t end = journal_end(journal) + span;

	if (!journal->is_lost)
		atomic_store_explicit(&journal->ring.header->published, end, memory_order_release);
	atomic_store_explicit(&journal->end, end, memory_order_release);
}

/* May the log grow by @bytes within the ring (invariant 1)? */
static bool ring_has_room(struct journal *journal, uint64_t bytes)
{
	lsn_t written = atomic_load_explicit(&journal->written, memory_order_acquire);

	return journal_end(journal) + bytes <= written + journal->ring.size;
}

/* Lays a record at the end of the log; there is room for it (invariants 2 and 3). */
static lsn_t put_record(struct journal *journal, enum journal_type type,
    const struct iovec *body, int count, uint32_t body_bytes)
{
	lsn_t lsn = journal_end(journal);
	uint8_t *record = journal_ring_at(&journal->ring, lsn);
	uint8_t *at = record + RECORD_HEADER_BYTES;

	mutex_assert_held(&journal->append_lock);
	if (!journal->is_lost) {
		ASSERT(ring_has_room(journal, record_span(body_bytes)));
		for (int i = 0; i < count; i++) {
			if (body[i].iov_len)
				memcpy(at, body[i].iov_base, body[i].iov_len);
			at += body[i].iov_len;
		}
		journal_record_seal((struct journal_record *)record,
		    journal->seed, lsn, type, body_bytes);
	}
	advance_end(journal, record_span(body_bytes));
	return lsn;
}

static void put_mark(struct journal *journal)
{
	le64 known = to_le64(journal_durable(journal));
	struct iovec body = {&known, sizeof(known)};

	ASSERT(is_aligned(journal_end(journal), BLOCK_BYTES));
	put_record(journal, JOURNAL_MARK, &body, 1, sizeof(known));
	journal->needs_mark = false;
}

static void put_pad(struct journal *journal, uint32_t bytes)
{
	static const uint8_t zeros[PAD_BYTES_MAX];
	struct iovec body = {(void *)zeros, bytes - RECORD_HEADER_BYTES};

	put_record(journal, JOURNAL_PAD, &body, 1, bytes - RECORD_HEADER_BYTES);
}

lsn_t journal_cut(struct journal *journal)
{
	uint32_t gap;
	lsn_t end;

	mutex_lock(&journal->append_lock);
	end = journal_end(journal);
	gap = (uint32_t)(round_up(end, BLOCK_BYTES) - end);
	if (gap && gap < RECORD_HEADER_BYTES)
		gap += BLOCK_BYTES;
	if (gap)
		put_pad(journal, gap);
	journal->needs_mark = true;
	end = journal_end(journal);
	mutex_unlock(&journal->append_lock);
	return end;
}

/* Waits for its turn and for room in the ring.  Drops append_lock meanwhile. */
static void obtain_room(struct journal *journal, uint64_t bytes)
{
	while (journal->is_making_room)
		condition_wait(&journal->turn, &journal->append_lock);
	if (ring_has_room(journal, bytes))
		return;
	journal->is_making_room = true;
	while (!ring_has_room(journal, bytes) && !journal_error(journal)) {
		lsn_t needed = journal_end(journal) + bytes - journal->ring.size;

		mutex_unlock(&journal->append_lock);
		journal_write_out(journal, needed);
		mutex_lock(&journal->append_lock);
	}
	if (!ring_has_room(journal, bytes))
		journal->is_lost = true;
	journal->is_making_room = false;
	condition_wake_all(&journal->turn);
}

static uint32_t total_bytes(const struct iovec *body, int count)
{
	size_t total = 0;

	for (int i = 0; i < count; i++)
		total += body[i].iov_len;
	ASSERT(total <= JOURNAL_RECORD_MAX);
	return (uint32_t)total;
}

lsn_t journal_append(struct journal *journal, enum journal_type type,
    const struct iovec *body, int count, lsn_t *ret_end)
{
	uint32_t body_bytes = total_bytes(body, count);
	uint64_t credit = credit_for(body_bytes);
	lsn_t lsn;

	ASSERT(type == JOURNAL_BATCH && body_bytes <= journal->body_max);
	mutex_lock(&journal->append_lock);
	obtain_room(journal, credit);
	ASSERT(journal->reserved >= credit);
	journal->reserved -= credit;
	if (journal->needs_mark)
		put_mark(journal);
	lsn = put_record(journal, type, body, count, body_bytes);
	journal->records++;
	journal->record_bytes += record_span(body_bytes);
	*ret_end = journal_end(journal);
	feed_starved(journal);
	mutex_unlock(&journal->append_lock);
	return lsn;
}
