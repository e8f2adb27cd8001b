/*
 * Appending: many threads at once, in one order.
 *
 *    tail                written        published          end
 *     |------- on disk ---|--- in the ring --|-- being copied --|
 *     |                   |<---------- <= ring ---------------->|
 *     |<------------------------- <= log ---------------------->|
 *
 * An append takes its place in the log by one compare-and-swap of `end`, and copies its
 * bytes there while others take and fill theirs behind it.  The byte address is the only
 * order; there is no second counter that could disagree with it.
 *
 * Which bytes are whole is nowhere stored.  Before it takes a place, an append announces
 * the end it has seen, which is at or before its place; it takes that back when its
 * record is sealed.  So what lies below an end of the log is *published*, whole, when
 * nobody has announced less.  Whoever took a place below that end had announced itself
 * before, and is either still to be seen, or has finished and its bytes are visible (all
 * of these are sequentially consistent).  This is how epochs of memory
 * reclamation are kept (Fraser, "Practical lock-freedom", 2004).
 *
 * A record that no one may lose has to wait for the places before it: a process that
 * dies in the middle of an append leaves a hole, and the log ends there.  Who waits
 * looks again a few times, then sleeps on `event`; who finishes looks whether anybody sleeps.
 *
 * A *cut* ends the log at a block boundary with a PAD, so that the blocks before it
 * can go to the device and need never be written again.  The first record after a
 * cut is preceded by a MARK that names the LSN known durable at that time; both take
 * their place together.  Cut and MARK are made lazily: an idle log does not grow.  That
 * nothing was appended since the last cut is a bit of the word that `end` lies in.
 *
 * Invariants
 *
 *  1. A byte of the ring is overwritten only when `written` is past it.
 *  2. After every append there is room in ring and log for the PAD of a cut, so a
 *     cut waits for nothing.
 *  3. Nobody waits for anything between announcing and taking back.
 *  4. A record is at most half the ring, so writing out the whole blocks before it
 *     always makes room for it; and at most a quarter of the log, so an empty log
 *     never refuses it.
 *
 * A full ring is the only thing an append waits for.  The one that meets it first
 * writes blocks out; those behind it wait for their turn, so that small records cannot
 * keep a large one waiting for ever.
 *
 * After an error of the device nothing can be written out any more.  Appends with
 * credit in hand still succeed, as they must, but once the ring is full their bytes
 * go nowhere (is_lost); every sync tells the error.
 *
 * Crash: what the next open finds in a shared ring is what verifies, record by record,
 * from `written` on.
 *
 * Locks: append_lock, only where the ring is full.  Not held during I/O.
 */
#include "config.h"

#include "journal/journal_internal.h"

#include <limits.h>
#include <sched.h>
#include <string.h>

#include "base/assert.h"
#include "base/counter.h"
#include "base/futex.h"

#define AHEAD_BYTES 512

/* Records up to this are made on the stack, checksum included: lines of the ring that another
 * processor wrote last are then waited for once, all together, and not to be read again. */
#define SMALL_RECORD_BYTES 512

/* Looks at others' records before sleeping: about what it takes to copy one. */
#define PUBLISH_TRIES 16

/* ---- who is at it --------------------------------------------------------------- */

struct journal_appender *journal_own_appender(struct journal *journal)
{
	return &journal->appenders[thread_number() % APPENDERS];
}

/* Who looks at appenders looks at those below `appenders_used`, so that comes first. */
static void use_appender(struct journal *journal, uint32_t number)
{
	uint32_t used = atomic_load_explicit(&journal->appenders_used, memory_order_relaxed);

	while (used <= number)
		if (atomic_compare_exchange_weak(&journal->appenders_used, &used, number + 1))
			break;
}

/* The word that the end lies in, at once to be changed: a mere load would share its cache line
 * with whoever changed it last, and the change ask for it again. */
static uint64_t end_to_change(struct journal *journal)
{
	uint64_t word = atomic_load_explicit(&journal_own_appender(journal)->end_seen, memory_order_relaxed);

	atomic_compare_exchange_strong(&journal->end_word, &word, word);
	return word;
}

/* More threads at once than places: let one finish, which takes a copy of a record. */
static struct journal_appender *announce(struct journal *journal, lsn_t end)
{
	for (unsigned i = thread_number() % APPENDERS, tries = 1;; i = (i + 1) % APPENDERS, tries++) {
		struct journal_appender *appender = &journal->appenders[i];
		lsn_t free = APPENDER_FREE;

		use_appender(journal, i);
		if (atomic_load_explicit(&appender->from, memory_order_relaxed) == APPENDER_FREE &&
		    atomic_compare_exchange_strong(&appender->from, &free, end))
			return appender;
		if (tries % APPENDERS == 0)
			sched_yield();
	}
}

static void take_back(struct journal *journal, struct journal_appender *appender)
{
	atomic_store(&appender->from, APPENDER_FREE);
	/* One wakes them all, the next need not. */
	if (!atomic_load(&journal->has_sleepers) || !atomic_exchange(&journal->has_sleepers, false))
		return;
	atomic_fetch_add(&journal->event, 1);
	futex_wake(&journal->event, INT_MAX);
}

bool journal_is_published(struct journal *journal, lsn_t lsn)
{
	uint32_t used = atomic_load(&journal->appenders_used);

	for (uint32_t i = 0; i < used; i++)
		if (atomic_load(&journal->appenders[i].from) < lsn)
			return false;
	return true;
}

void journal_wait_published(struct journal *journal, lsn_t lsn)
{
	for (unsigned tries = 0; !journal_is_published(journal, lsn); tries++) {
		uint32_t seen = atomic_load(&journal->event);

		if (tries < PUBLISH_TRIES) {
			cpu_relax();
			continue;
		}
		atomic_store(&journal->has_sleepers, true);
		if (!journal_is_published(journal, lsn))
			futex_wait(&journal->event, seen);
	}
}

/* ---- room in the ring -------------------------------------------------------------- */

/* May the log grow from @end by @bytes within the ring (invariant 1)? */
static bool ring_has_room(struct journal *journal, lsn_t end, uint64_t bytes)
{
	lsn_t written = atomic_load_explicit(&journal->written, memory_order_acquire);

	return end + bytes <= written + journal->ring.size;
}

static bool may_go_on(struct journal *journal, lsn_t end, uint64_t bytes)
{
	if (atomic_load_explicit(&journal->is_lost, memory_order_relaxed))
		return true;
	return !atomic_load_explicit(&journal->is_making_room, memory_order_relaxed) &&
	       ring_has_room(journal, end, bytes);
}

/* Waits for its turn and for room in the ring. */
static void obtain_room(struct journal *journal, uint64_t bytes)
{
	mutex_lock(&journal->append_lock);
	while (journal->is_making_room)
		condition_wait(&journal->turn, &journal->append_lock);
	atomic_store(&journal->is_making_room, true);
	while (!ring_has_room(journal, journal_end(journal), bytes) && !journal_error(journal)) {
		lsn_t needed = journal_end(journal) + bytes - journal->ring.size;

		mutex_unlock(&journal->append_lock);
		journal_write_out(journal, needed);
		mutex_lock(&journal->append_lock);
	}
	if (!ring_has_room(journal, journal_end(journal), bytes))
		atomic_store(&journal->is_lost, true);
	atomic_store(&journal->is_making_room, false);
	condition_wake_all(&journal->turn);
	mutex_unlock(&journal->append_lock);
}

/* ---- records ------------------------------------------------------------------------ */

/* Lays a record at @lsn, in a place taken for it. */
static void put_record(struct journal *journal, lsn_t lsn, enum journal_type type,
    const struct iovec *body, int count, uint32_t body_bytes)
{
	uint64_t small[SMALL_RECORD_BYTES / sizeof(uint64_t)];
	uint8_t *place = journal_ring_at(&journal->ring, lsn);
	uint64_t span = record_span(body_bytes);
	uint8_t *record = span <= sizeof(small) ? (uint8_t *)small : place;
	uint8_t *at = record + RECORD_HEADER_BYTES;

	if (atomic_load_explicit(&journal->is_lost, memory_order_relaxed))
		return;
	for (int i = 0; i < count; i++) {
		if (body[i].iov_len)
			memcpy(at, body[i].iov_base, body[i].iov_len);
		at += body[i].iov_len;
	}
	journal_record_seal((struct journal_record *)record, journal->seed, lsn, type, body_bytes);
	if (record != place)
		memcpy(place, record, span);
}

static void put_mark(struct journal *journal, lsn_t lsn)
{
	le64 known = to_le64(journal_durable(journal));
	struct iovec body = {&known, sizeof(known)};

	ASSERT(is_aligned(lsn, BLOCK_BYTES));
	put_record(journal, lsn, JOURNAL_MARK, &body, 1, sizeof(known));
}

static void put_pad(struct journal *journal, lsn_t lsn, uint32_t bytes)
{
	static const uint8_t zeros[PAD_BYTES_MAX];
	struct iovec body = {(void *)zeros, bytes - RECORD_HEADER_BYTES};

	put_record(journal, lsn, JOURNAL_PAD, &body, 1, bytes - RECORD_HEADER_BYTES);
}

/* Bytes of the PAD that fills the last block; 0: it is full. */
static uint32_t pad_bytes(lsn_t end)
{
	uint32_t gap = (uint32_t)(round_up(end, BLOCK_BYTES) - end);

	return gap && gap < RECORD_HEADER_BYTES ? gap + BLOCK_BYTES : gap;
}

lsn_t journal_cut(struct journal *journal)
{
	uint64_t word = end_to_change(journal);
	struct journal_appender *appender = announce(journal, word & ~END_IS_CUT);
	uint32_t gap = 0;

	do {
		if (word & END_IS_CUT)
			break;
		gap = pad_bytes(word);
	} while (!atomic_compare_exchange_weak(&journal->end_word, &word, (word + gap) | END_IS_CUT));
	if (word & END_IS_CUT) {
		take_back(journal, appender);
		return word & ~END_IS_CUT;
	}
	if (gap)
		put_pad(journal, word, gap);
	take_back(journal, appender);
	/* The first record of the block had paid for the longest. */
	journal_return_credit(journal, PAD_BYTES_MAX - gap);
	return word + gap;
}

static uint32_t total_bytes(const struct iovec *body, int count)
{
	size_t total = 0;

	for (int i = 0; i < count; i++)
		total += body[i].iov_len;
	ASSERT(total <= JOURNAL_RECORD_MAX);
	return (uint32_t)total;
}

/* Time for the writer to make room, long before the ring is full. */
static void call_writer(struct journal *journal, lsn_t end)
{
	lsn_t written = atomic_load_explicit(&journal->written, memory_order_relaxed);

	if (end > written + journal->ring.size / 2 &&
	    atomic_load_explicit(&journal->writer_state, memory_order_relaxed) == WRITER_SLEEPS)
		journal_wake_writer(journal);
}

/* Takes @span bytes of the log, and MARK_BYTES before them if a cut is the last that was
 * done; returns the end before, with END_IS_CUT. */
static uint64_t take_place(struct journal *journal, uint64_t span, uint64_t credit,
    struct journal_appender **ret_appender)
{
	for (;;) {
		uint64_t word = end_to_change(journal), grown;

		*ret_appender = announce(journal, word & ~END_IS_CUT);
		while (may_go_on(journal, word & ~END_IS_CUT, credit)) {
			grown = (word & ~END_IS_CUT) + span + (word & END_IS_CUT ? MARK_BYTES : 0);
			if (atomic_compare_exchange_weak(&journal->end_word, &word, grown))
				return word;
		}
		take_back(journal, *ret_appender);
		obtain_room(journal, credit);
	}
}

/* The appender is this thread's until it is taken back: nobody else adds. */
static void count_record(struct journal_appender *appender, uint64_t span, lsn_t end)
{
	uint64_t records = atomic_load_explicit(&appender->records, memory_order_relaxed);
	uint64_t bytes = atomic_load_explicit(&appender->record_bytes, memory_order_relaxed);

	atomic_store_explicit(&appender->records, records + 1, memory_order_relaxed);
	atomic_store_explicit(&appender->record_bytes, bytes + span, memory_order_relaxed);
	atomic_store_explicit(&appender->end_seen, end, memory_order_relaxed);
}

/* Where the records after the next will lie: the ring is larger than a cache.  For a thread
 * that appends alone; where two take turns the lines are rather the other's. */
static void ask_ahead(const uint8_t *record)
{
	__builtin_prefetch(record + AHEAD_BYTES, 1);
	__builtin_prefetch(record + AHEAD_BYTES + 64, 1);
}

lsn_t journal_append(struct journal *journal, enum journal_type type,
    const struct iovec *body, int count, lsn_t *ret_end)
{
	uint32_t body_bytes = total_bytes(body, count);
	uint64_t credit = journal_credit_for(body_bytes), span = record_span(body_bytes);
	struct journal_appender *appender;
	uint64_t word;
	lsn_t lsn;

	ASSERT(type == JOURNAL_BATCH && body_bytes <= journal->body_max);
	word = take_place(journal, span, credit, &appender);
	lsn = word & ~END_IS_CUT;
	if (word & END_IS_CUT) {
		put_mark(journal, lsn);
		lsn += MARK_BYTES;
	}
	if (lsn == atomic_load_explicit(&appender->end_seen, memory_order_relaxed))
		ask_ahead(journal_ring_at(&journal->ring, lsn));
	put_record(journal, lsn, type, body, count, body_bytes);
	count_record(appender, span, lsn + span);
	take_back(journal, appender);
	call_writer(journal, lsn);
	/* The first record after a cut pays for the MARK and for the PAD of the next. */
	if (!(word & END_IS_CUT))
		journal_return_credit(journal, credit - span);
	*ret_end = lsn + span;
	return lsn;
}
