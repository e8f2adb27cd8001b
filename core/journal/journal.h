/*
 * The journal: a circular byte log on the device, addressed by LSN.
 *
 * An LSN is a byte address in an endless log; byte L lies at offset L modulo the
 * journal's size.  LSNs are never reset or issued twice in a volume's life.
 * Records are appended to a ring in memory (journal_append) and written out in
 * whole blocks by whoever first asks for durability (journal_sync), or by a thread when
 * half of the ring is full: all that wait share one write and one flush, and no block
 * is written twice, because a flush ends with a PAD record up to the next block
 * boundary.
 *
 *    tail            durable        written         end
 *     |  checkpointed |  on disk,   |  in the ring  |
 *     |  soon: freed  |  flushed    |  only         |
 *
 * Durability levels (journal_level):
 *   LOSSY    appended to memory of this process;
 *   PROCESS  survives the death of this process: the ring lies in shared memory
 *            (see journal_ring.h) and is picked up by the next open in this boot;
 *   SYNC     survives power loss.
 *
 * Space: a record may be appended only with credit (journal_reserve), taken before
 * the caller holds anything others could wait for, so journal_append cannot fail.
 *
 * Errors: a failed journal write or flush is final; every later sync and reserve
 * answers the same error and journal_error() tells it.  Appends with credit in hand
 * still return, but reach no disk.
 *
 * Threads: everything but open, close and read may be called from any thread.
 */
#ifndef HOLTFS_JOURNAL_JOURNAL_H
#define HOLTFS_JOURNAL_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "device/device.h"
#include "format/format.h"

typedef uint64_t lsn_t;

struct journal;

enum journal_level { JOURNAL_LOSSY, JOURNAL_PROCESS, JOURNAL_SYNC };

struct journal_place {
	struct device *device;
	uint64_t offset; /* of the journal on the device */
	uint64_t bytes;	 /* whole blocks */
	uint8_t uuid[UUID_BYTES];
};

struct journal_options {
	struct journal_place place;
	lsn_t start;	   /* where to append: block aligned; tail = durable = start */
	uint64_t open_id;  /* of this open, as in the superblock */
	/* Power of two, at least 256 KiB; 0: default (4 MiB).  Never larger than the
	 * journal.  Twice the longest record that can be appended. */
	uint32_t ring_bytes;
	bool is_shared; /* keep the ring in shared memory (level PROCESS) */
};

/*
 * Not for a volume opened read-only.  With @is_shared an old ring of the volume is
 * thrown away: its content must have been recovered and checkpointed before.  If
 * shared memory is not to be had that is logged and the ring is private; level
 * PROCESS then writes the log out without flushing it.  -EINVAL: the journal is
 * smaller than 64 KiB, or something is not aligned.
 */
int journal_open(const struct journal_options *options, struct journal **ret);

/*
 * From now on a thread writes the log out, without flushing it, whenever half of the ring
 * is full, until journal_close().  Without it appends do so when the ring is full.
 * 0 or -errno: there is none.  Once.
 */
int journal_start_writer(struct journal *journal);

/* Does not sync.  Removes the shared ring if @is_clean. */
void journal_close(struct journal *journal, bool is_clean); /* NULL allowed */

/* The ring really is in shared memory: level PROCESS costs nothing. */
bool journal_is_shared(const struct journal *journal);

/*
 * Takes credit for one record with a body of @body_bytes.  -EAGAIN: the log has no
 * room until a checkpoint has moved the tail (ask the store for one, then
 * journal_wait_room).  -E2BIG: more than journal_body_max().  Credit not used by an
 * append goes back with journal_unreserve.
 */
int journal_reserve(struct journal *journal, uint32_t body_bytes);
void journal_unreserve(struct journal *journal, uint32_t body_bytes);

/* The longest body of a record: with its header JOURNAL_RECORD_MAX, half the ring or
 * a quarter of the journal, whichever is least. */
uint32_t journal_body_max(const struct journal *journal);

/* Sleeps until the tail moved past @seen_tail or an error is set; returns early when
 * credit came back since the last -EAGAIN.  Callers try to reserve again. */
void journal_wait_room(struct journal *journal, lsn_t seen_tail);
lsn_t journal_tail(struct journal *journal);

/* The tail will not move any more: nobody waits for room from now on.  What was
 * appended can still be synced. */
void journal_stop(struct journal *journal);

/*
 * Appends a record made of @count pieces; total must be what was reserved.
 * Returns the record's LSN and, in @ret_end, the LSN after it (what to sync to).
 * The order of appends is the order of replay: callers hold the latches of what
 * the record changes.  If the ring is full the append writes older bytes out first;
 * else it waits for nothing but, beside 32 others, for one of them to have copied.
 */
lsn_t journal_append(struct journal *journal, enum journal_type type,
    const struct iovec *body, int count, lsn_t *ret_end);

/*
 * Returns when everything below @lsn is durable at @level.  With JOURNAL_SYNC all
 * callers that wait share one write and flush (group commit, DeWitt et al.,
 * SIGMOD 1984).  0 or the sticky error.
 */
int journal_sync(struct journal *journal, lsn_t lsn, enum journal_level level);

lsn_t journal_end(struct journal *journal);     /* next LSN */

/* Where the log ended when this thread last appended: late, and 0 if it never did, but to
 * ask for it touches nothing that other threads write. */
lsn_t journal_end_seen(struct journal *journal);
lsn_t journal_durable(struct journal *journal); /* all below survives power loss */
int journal_error(struct journal *journal);     /* 0 or the sticky -errno */

/*
 * For a checkpoint: pads the log to a block boundary, makes nothing durable, and
 * returns the LSN of that boundary.  Called with all transactions held back.
 */
lsn_t journal_cut(struct journal *journal);

/* A checkpoint at @lsn is on disk: bytes below may be overwritten. */
void journal_set_tail(struct journal *journal, lsn_t lsn);

struct journal_counters {
	uint64_t records, record_bytes; /* appended, without MARKs and PADs */
	uint64_t writes, write_bytes;	/* requests to the device */
	uint64_t syncs;			/* device flushes */
	uint64_t waits;			/* syncs that waited for another's flush */
	uint64_t used_bytes, capacity_bytes; /* tail..end, and of the log */
};
void journal_counters(struct journal *journal, struct journal_counters *ret);

/* ---- reading ------------------------------------------------------------ */

/*
 * Called for each BATCH record in order.  A result other than 0 ends the reading:
 * JOURNAL_STOP quietly, with the record's LSN as the end; negative as an error.  The
 * body is aligned to 8 bytes and valid during the call.
 */
#define JOURNAL_STOP 1
typedef int (*journal_visit_fn)(void *ctx, lsn_t lsn, lsn_t end, lsn_t known_durable,
    const void *body, uint32_t body_bytes);

/* The log from a checkpoint's LSN to where it ends. */
struct journal_extent {
	lsn_t from, end;
	lsn_t known_durable; /* the highest LSN that any MARK names, at least from */
};

/* Shown every body while the end is being looked for. */
typedef void (*journal_look_fn)(void *ctx, const void *body, uint32_t body_bytes);

/*
 * Reads the log from @from to its end: the first record that does not verify, for
 * whatever reason.  If a record that does not verify lies before an LSN that a MARK in
 * the log says was durable, that is damage, not an end: -EUCLEAN, with the LSN in
 * @ret->end.  Bytes of a shared ring left by a dead process of this boot (same UUID,
 * @open_id) continue the log on disk.  @look may be NULL.  Nobody may append meanwhile.
 */
int journal_survey(const struct journal_place *place, lsn_t from, uint64_t open_id,
    journal_look_fn look, void *ctx, struct journal_extent *ret);

/*
 * Writes what a shared ring has of a surveyed log to the device and flushes it: from then
 * on the log is as long after a loss of power as it is now.  Before that nobody may
 * write anything that takes records of the ring for granted, other than in their order.
 */
int journal_settle(const struct journal_place *place, const struct journal_extent *extent,
    uint64_t open_id);

/* Shows the records of a surveyed log; may be called again. */
int journal_visit(const struct journal_place *place, const struct journal_extent *extent,
    uint64_t open_id, journal_visit_fn visit, void *ctx, lsn_t *ret_end);

/* Both, one after the other.  @visit may be NULL: only the end is looked for. */
int journal_read(const struct journal_place *place, lsn_t from, uint64_t open_id,
    journal_visit_fn visit, void *ctx, lsn_t *ret_end);

/* Fills the journal with zeros, once, at mkfs: later writes then never make the
 * host commit metadata of its own. */
int journal_format(const struct journal_place *place);

/* Removes a shared ring left for this volume, if any. */
void journal_forget_ring(const uint8_t uuid[UUID_BYTES]);

#endif
