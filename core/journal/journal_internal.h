/*
 * What the files of core/journal share.
 *
 *    journal.c         life, state, credit
 *    append.c          appending: places, what is published, cuts
 *    flush.c           writing out: group commit, ring full
 *    writer.c          the thread that writes out before the ring is full
 *    journal_format.c  the record codec; the empty log
 *    journal_reader.c  reading after a crash
 *    ring.c            the ring's memory
 */
#ifndef HOLTFS_JOURNAL_JOURNAL_INTERNAL_H
#define HOLTFS_JOURNAL_JOURNAL_INTERNAL_H

#include "journal/journal.h"

#include "base/lock.h"
#include "journal/journal_ring.h"

#define RECORD_HEADER_BYTES ((uint32_t)sizeof(struct journal_record))
#define MARK_BYTES (RECORD_HEADER_BYTES + (uint32_t)sizeof(le64))

/* The longest PAD: a gap of 16 bytes, too short for a header, and a block. */
#define PAD_BYTES_MAX (BLOCK_BYTES + RECORD_HEADER_BYTES - JOURNAL_ALIGN)

/* No journal is smaller; it holds the smallest ring. */
#define LOG_BYTES_MIN RING_BYTES_MIN

#define APPENDER_LINE 64 /* bytes of a cache line */
enum writer_state { WRITER_NONE, WRITER_SLEEPS, WRITER_CALLED, WRITER_ENDS };

#define APPENDERS 32u
#define APPENDER_FREE UINT64_MAX

/* Lowest bit of end_word: nothing was appended since the cut that ends there. */
#define END_IS_CUT 1ull

/* What a thread needs to append, in a cache line that others seldom touch.  Threads whose
 * numbers (counter.h) differ by a multiple of APPENDERS share one. */
struct journal_appender {
	_Atomic lsn_t from; /* a record may be being copied, from here on; or APPENDER_FREE */
	_Atomic lsn_t end_seen;	 /* of the log, when the last record was appended from here */
	_Atomic uint64_t credit; /* in stock (journal.c) */
	_Atomic uint64_t records, record_bytes; /* appended from here */
} __attribute__((aligned(APPENDER_LINE)));

/* A thread that waits for its record to be durable, on its own stack. */
struct sync_waiter {
	struct sync_waiter *next;
	lsn_t lsn;
	_Atomic uint32_t state; /* futex word: enum sync_state */
};

/*
 * LSNs only grow.  durable <= end, written <= end; set_tail may move tail (and
 * durable) past written: what a checkpoint covers need not be written any more.
 */
struct journal {
	/* Set at open. */
	struct journal_place place;
	uint64_t seed; /* of checksums, from the UUID */
	uint32_t body_max;
	struct journal_ring ring;

	/* Appending. */
	_Atomic uint64_t end_word __attribute__((aligned(APPENDER_LINE)));
	_Atomic uint64_t credit_left __attribute__((aligned(APPENDER_LINE)));
	_Atomic lsn_t tail __attribute__((aligned(APPENDER_LINE))); /* by one at a time */
	_Atomic uint32_t event; /* for those who wait for others' bytes */
	_Atomic bool has_sleepers; /* there may be some */
	_Atomic bool is_making_room; /* an append waits; set under append_lock */
	_Atomic bool is_lost;	 /* after an error, ring full */
	_Atomic bool is_starved; /* -EAGAIN, no change since; cleared under append_lock */
	_Atomic uint32_t appenders_used; /* none from here on has ever been */
	struct mutex append_lock;
	struct condition turn;	 /* is_making_room ended */
	struct condition credit; /* tail moved, credit came back, error */
	bool is_stopped;	 /* guarded by append_lock: no room will come */
	struct journal_appender appenders[APPENDERS];

	/* Writing out. */
	struct mutex flush_lock;
	struct condition progress; /* written or a role changed, or an error came */
	unsigned watchers;	   /* guarded by flush_lock: threads asleep on it */
	bool is_writing;	   /* guarded by flush_lock: role, one writes blocks */
	bool is_flushing;	   /* guarded by flush_lock: role, one commits */
	struct sync_waiter *waiters; /* guarded by flush_lock: oldest first */
	_Atomic lsn_t written;	   /* stored by who is_writing, under flush_lock */
	_Atomic lsn_t durable;	   /* stored under flush_lock; always a cut or tail */
	_Atomic int error;	   /* stored once */
	uint64_t writes, write_bytes, syncs, waits; /* guarded by flush_lock */

	/* The writer (writer.c). */
	_Atomic uint32_t writer_state; /* futex word: enum writer_state */
	pthread_t writer;
};

/* ---- the codec (journal_format.c) ----------------------------------------- */

/* A record's bytes in the log. */
static inline uint64_t record_span(uint64_t body_bytes)
{
	return round_up(RECORD_HEADER_BYTES + body_bytes, JOURNAL_ALIGN);
}

static inline uint64_t place_offset(const struct journal_place *place, lsn_t lsn)
{
	return place->offset + lsn % place->bytes;
}

bool journal_place_is_sane(const struct journal_place *place);

/* Makes @body_bytes of body that already stand behind @record a record. */
void journal_record_seal(struct journal_record *record, uint64_t seed, lsn_t lsn,
    enum journal_type type, uint32_t body_bytes);

/*
 * Does the header belong to a record at @lsn that ends at or before @limit?  Looks
 * at nothing but the header; the length it admits is bounded.
 */
bool journal_record_is_plausible(const struct journal_record *record, lsn_t lsn, lsn_t limit);

/* The whole of a plausible record is there: is it intact? */
bool journal_record_is_intact(const struct journal_record *record, uint64_t seed);

/* ---- appending (append.c, journal.c) and writing out (flush.c) ------------------------ */

/* Credit for a record, and credit not needed after all. */
uint64_t journal_credit_for(uint32_t body_bytes);
void journal_return_credit(struct journal *journal, uint64_t bytes);

/* Are all bytes below @lsn whole, is nobody copying there?  @lsn is where the log has
 * ended.  And to wait until it is so. */
bool journal_is_published(struct journal *journal, lsn_t lsn);
void journal_wait_published(struct journal *journal, lsn_t lsn);

/* The calling thread's. */
struct journal_appender *journal_own_appender(struct journal *journal);

/* Lets those go that wait for what is durable now, or for nothing after an error; called
 * with flush_lock. */
void journal_end_waits(struct journal *journal);

/* Wakes everyone who waits for room or credit, after an error.  No lock held. */
void journal_wake_appenders(struct journal *journal);

/* Writes blocks out until `written` reaches @lsn or an error is set.  No lock held. */
void journal_write_out(struct journal *journal, lsn_t lsn);

/* ---- the writer (writer.c) ------------------------------------------------------------ */

/* It sleeps: it is to write out what there is. */
void journal_wake_writer(struct journal *journal);
void journal_stop_writer(struct journal *journal); /* if there is one */

#endif
