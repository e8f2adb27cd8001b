/*
 * What the files of core/journal share.
 *
 *    journal.c         appending: ring, credit, cut; life
 *    flush.c           writing out: group commit, ring full
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
	struct mutex append_lock;
	struct condition turn;	 /* is_making_room ended */
	struct condition credit; /* tail moved, credit came back, error */
	_Atomic lsn_t end;	 /* stored under append_lock, after the bytes */
	_Atomic lsn_t tail;	 /* stored under append_lock */
	uint64_t reserved;	 /* guarded by append_lock: credit handed out */
	bool needs_mark;	 /* guarded by append_lock: nothing since the cut */
	bool is_making_room;	 /* guarded by append_lock: an append waits */
	bool is_starved;	 /* guarded by append_lock: -EAGAIN, no change since */
	bool is_stopped; /* likewise: no room will come */
	bool is_lost;		 /* guarded by append_lock: after an error, ring full */
	uint64_t records, record_bytes; /* guarded by append_lock */

	/* Writing out. */
	struct mutex flush_lock;
	struct condition progress; /* written, durable, a role or error changed */
	bool is_writing;	   /* guarded by flush_lock: role, one writes blocks */
	bool is_flushing;	   /* guarded by flush_lock: role, one commits */
	_Atomic lsn_t written;	   /* stored by who is_writing, under flush_lock */
	_Atomic lsn_t durable;	   /* stored under flush_lock; always a cut or tail */
	_Atomic int error;	   /* stored once, under flush_lock */
	uint64_t writes, write_bytes, syncs, waits; /* guarded by flush_lock */
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

/* ---- appending (journal.c) and writing out (flush.c) ------------------------ */

/* Wakes everyone who waits for room or credit, after an error.  No lock held. */
void journal_wake_appenders(struct journal *journal);

/* Writes blocks out until `written` reaches @lsn or an error is set.  No lock held. */
void journal_write_out(struct journal *journal, lsn_t lsn);

#endif
