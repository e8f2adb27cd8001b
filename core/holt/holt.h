/*
 * libholt: an ordered, persistent, transactional map from byte strings to byte
 * strings, made for keys that look like paths.
 *
 * A store lives in one file or block device (a holtfs volume), or in memory.  Inside it is
 * an adaptive radix tree (Leis, Kemper, Neumann, ICDE 2013) cut into frames of 512 KiB.
 * Keys that share a prefix store it once; everything below a prefix can be moved or
 * dropped at a cost that does not depend on how much it is.
 *
 * Keys are 1..HOLT_KEY_MAX bytes of any value, ordered as memcmp() orders them, a key
 * before its extensions.  Values are 0..HOLT_VALUE_MAX bytes.  Every value has a
 * *version*: a number never given to two writes in the life of a store.
 *
 * Errors: functions return 0 or a negative errno; those that every function may return:
 *
 *	-EINVAL		an argument that cannot be right: an empty key, an unknown flag
 *	-ENAMETOOLONG	the key is longer than HOLT_KEY_MAX
 *	-E2BIG		the value is longer than HOLT_VALUE_MAX, or the batch longer than
 *			a journal record may be (2 MiB, or a quarter of the journal if
 *			that is less; in memory 8 MiB), or its keys lie in more than 256
 *			frames, or it puts too much at keys side by side: 254 KiB, a put
 *			counting 600 bytes more than it has
 *	-ENOMEM		out of memory
 *	-EIO		the device failed
 *	-EUCLEAN	bytes on disk are damaged; the log names frame and offset
 *	-EROFS		changing a store opened read-only, or one that an earlier failure
 *			of its journal or of a checkpoint made read-only (holt_error());
 *			opening one for changes that has features known only to a later
 *			libholt
 *	-ENOSPC		no room for the change
 *
 * A call that returned an error has changed nothing, and set none of its results, unless
 * its text says otherwise.  One exception for all: if the journal cannot be written, the
 * call that was waiting for it answers -EIO; its change is there until the store is
 * closed, and perhaps not afterwards.  From then on holt_error() is set.
 *
 * Threads: every function may be called from any thread at any time, holt_close() when
 * no other call is under way.  A batch or a cursor belongs to one thread at a time.
 * Readers never wait for writers' disk writes, nor writers for readers.  Functions
 * passed in by the caller are called with no lock held and may call the store.
 *
 * A process that forks must open the store in the child itself.
 */
#ifndef HOLT_H
#define HOLT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What is declared here is what the library exports. */
#pragma GCC visibility push(default)

#define HOLT_VERSION_MAJOR 0
#define HOLT_VERSION_MINOR 1
#define HOLT_VERSION_PATCH 0

#define HOLT_KEY_MAX   65534u
#define HOLT_VALUE_MAX (128u * 1024)

struct holt;
struct holt_batch;
struct holt_cursor;
struct holt_view;

/* The version of the library at run time, "0.1.0". */
const char *holt_version(void);

/* ---- opening -------------------------------------------------------------- */

/*
 * What a change has survived once the call that made it returned.
 *
 * HOLT_LOSSY	nothing yet: it is in this process's memory.
 * HOLT_PROCESS	the death of the process, kill -9 included: the journal's tail lies in
 *		shared memory and is picked up by the next open under the same boot.
 * HOLT_SYNC	the loss of power.  Threads that wait at the same time share one flush.
 *
 * Whatever the level: after a crash the store holds a prefix of its changes, in the
 * order in which they were made, and every batch wholly or not at all.
 */
enum holt_durability { HOLT_DEFAULT = 0, HOLT_LOSSY, HOLT_PROCESS, HOLT_SYNC };

/* How the device is read and written.  Where the kernel refuses io_uring the store falls
 * back to pread(2) and pwrite(2), and says so in the log. */
enum holt_io { HOLT_IO_DEFAULT = 0, HOLT_IO_URING, HOLT_IO_SYNC };

#define HOLT_CREATE	(1u << 0) /* make a store if there is none at the path */
#define HOLT_EXCLUSIVE	(1u << 1) /* with HOLT_CREATE: -EEXIST if there is a file */
#define HOLT_READ_ONLY	(1u << 2) /* recovers in memory and writes nothing */
#define HOLT_NO_THREADS (1u << 3) /* no thread of our own: checkpoints when asked for,
				   * or when a write cannot go on without one */
#define HOLT_NO_MERGE	(1u << 4) /* frames that have become thin are left alone; see
				   * holt_compact() */

/* Zero in a field means its default. */
struct holt_options {
	size_t struct_bytes; /* sizeof(struct holt_options): HOLT_OPTIONS_INIT sets it */
	unsigned flags;
	enum holt_durability durability; /* of calls that do not say; HOLT_PROCESS */
	enum holt_io io;
	uint64_t cache_bytes;	/* memory for frames; 256 MiB, at least 8 MiB.  A store
				 * in memory must fit: beyond it, -ENOSPC */
	uint64_t volume_bytes;	/* when created: the most it can hold, on disk a sparse
				 * file; 64 GiB */
	uint64_t journal_bytes; /* when created: 1/64 of the volume, 8 to 256 MiB */
	const char *label;	/* when created: at most 63 bytes */
	/* A checkpoint is made when this share of the cache is dirty (percent, at most 75;
	 * 50) and when nothing was changed for this long (ms, 5000; UINT32_MAX: never). */
	uint32_t checkpoint_dirty_percent;
	uint32_t checkpoint_idle_ms;
};

/* Every field, for the sake of C++ compilers that miss one otherwise. */
#define HOLT_OPTIONS_INIT                                                      \
	{                                                                      \
		sizeof(struct holt_options), 0, HOLT_DEFAULT, HOLT_IO_DEFAULT, \
		    0, 0, 0, NULL, 0, 0                                        \
	}

/*
 * Opens the store in the file or block device @path; @options may be NULL.  One opening
 * at a time may be for writing; readers beside a writer are refused, readers beside
 * readers are not.  After a crash, opening recovers what the journal has; read-only, it
 * does so in memory.  A store whose creation was cut short is created again.
 *
 * -ENOENT; -EEXIST; -EBUSY: open elsewhere, for some seconds already; -EMEDIUMTYPE: not
 * a store; -EPROTONOSUPPORT: written by a newer version of the library; -EUCLEAN:
 * damaged.
 */
int holt_open(const char *path, const struct holt_options *options, struct holt **ret);

/* A store in memory, empty and gone with holt_close(): no journal, no
 * checkpoints.  Flags for creation change nothing. */
int holt_open_memory(const struct holt_options *options, struct holt **ret);

/*
 * A device of the caller's: what a store needs to live somewhere else than in a file.
 * Offsets and lengths are multiples of 4096, memory is aligned to 4096.  Each returns 0
 * or a negative errno, may be called from several threads at once, and has ended when
 * it returns; after flush() everything written before it survives a loss of power.
 */
struct holt_device {
	void *ctx;
	uint64_t bytes;
	int (*read)(void *ctx, uint64_t offset, void *memory, size_t bytes);
	int (*write)(void *ctx, uint64_t offset, const void *memory, size_t bytes);
	int (*flush)(void *ctx);
	int (*discard)(void *ctx, uint64_t offset, uint64_t bytes); /* may be NULL */
	void (*close)(void *ctx);				     /* may be NULL */
};

/* The device is closed with the store, and not if opening fails.  HOLT_CREATE makes a
 * store if the device's first 4 KiB are zeros.  Keeping two writers apart is up to the
 * device. */
int holt_open_device(const struct holt_device *device, const struct holt_options *options,
    struct holt **ret);

/*
 * Ends with a checkpoint.  All batches, cursors and views must be gone.  The store is
 * closed whatever the result; an error means that what was not synced may be lost.
 */
int holt_close(struct holt *holt); /* NULL allowed */

/* 0, or the error that made the store read-only. */
int holt_error(struct holt *holt);

/* Messages of all stores in this process: level 0 error, 1 warning, 2 notice, 3 debug.
 * Without it they go nowhere.  To be called while no store is open; @log may be called
 * from any thread. */
void holt_set_log(void (*log)(void *ctx, int level, const char *message), void *ctx);

/* ---- one key -------------------------------------------------------------- */

/*
 * Copies the value of @key to @value, at most @capacity bytes; @ret_bytes is its whole
 * length.  -ENOENT.  -ERANGE: it is longer than @capacity; @ret_bytes and @ret_version
 * are set.  Both may be NULL; so may @value if @capacity is 0.
 */
int holt_get(struct holt *holt, const void *key, size_t key_bytes, void *value,
    size_t capacity, size_t *ret_bytes, uint64_t *ret_version);

/* -ENOENT. */
int holt_get_version(struct holt *holt, const void *key, size_t key_bytes, uint64_t *ret_version);

/* The longest key in the store that @key begins with, @key itself included: its length,
 * and its value as with holt_get().  -ENOENT: none.  @ret_key_bytes may be NULL, too. */
int holt_longest_prefix(struct holt *holt, const void *key, size_t key_bytes,
    size_t *ret_key_bytes, void *value, size_t capacity, size_t *ret_bytes,
    uint64_t *ret_version);

int holt_put(struct holt *holt, const void *key, size_t key_bytes, const void *value,
    size_t value_bytes);

/* -EEXIST. */
int holt_put_if_absent(struct holt *holt, const void *key, size_t key_bytes,
    const void *value, size_t value_bytes);

/* Replaces the value if its version is @version.  -ENOENT; -ESTALE: another version. */
int holt_compare_and_put(struct holt *holt, const void *key, size_t key_bytes,
    uint64_t version, const void *value, size_t value_bytes);

/* -ENOENT: there was none. */
int holt_delete(struct holt *holt, const void *key, size_t key_bytes);

/* -ENOENT; -ESTALE: another version. */
int holt_delete_if_version(struct holt *holt, const void *key, size_t key_bytes, uint64_t version);

#define HOLT_REPLACE (1u << 0) /* the destination may exist */

/* Moves the value of one key to another.  -ENOENT: no @src; -EEXIST: @dst exists, be it
 * @src itself.  The value gets a new version; to itself with HOLT_REPLACE nothing changes. */
int holt_rename(struct holt *holt, const void *src, size_t src_bytes, const void *dst,
    size_t dst_bytes, unsigned flags);

/* ---- many keys ------------------------------------------------------------- */

/*
 * Every key that begins with @src begins with @dst instead; @src itself, if it is a key,
 * becomes @dst.  What it costs does not depend on how many there are.
 *
 * -ENOENT: no key begins with @src; -EEXIST: a key begins with @dst; -EINVAL: one
 * prefix begins with the other.  Values keep their versions.  Keys may grow beyond
 * HOLT_KEY_MAX by a move; they can be found, listed and deleted, not written.
 * -ENAMETOOLONG: what all of them have in common would be longer than HOLT_KEY_MAX.
 */
int holt_move_prefix(struct holt *holt, const void *src, size_t src_bytes, const void *dst,
    size_t dst_bytes);

/* No key begins with @prefix any more.  Costs what a move costs; the space is given back
 * in the background.  -ENOENT: none did. */
int holt_drop_prefix(struct holt *holt, const void *prefix, size_t prefix_bytes);

/* 1: no key begins with @prefix; 0: some do. */
int holt_is_prefix_empty(struct holt *holt, const void *prefix, size_t prefix_bytes);

/*
 * A batch is a transaction: operations collected, checked and made all at once or not at
 * all.  Adding copies what is passed and returns nothing; if what was passed cannot be
 * right, the commit says so, and what is added behind it is ignored.  Operations see
 * those added before them to the same batch; a value written by the batch itself has no
 * version that a later operation could ask for (-ESTALE).
 *
 * The commit returns 0, or what the first operation that could not be made returns as a
 * call of its own (-EEXIST, -ENOENT, -ESTALE, -ENOTEMPTY for a prefix that should be
 * empty); holt_batch_failed() says which it was, counted from 0, SIZE_MAX if none.
 *
 * Moves and drops of prefixes come after everything else in their batch, at most 8, and
 * no other operation of the batch may name a key below one of their prefixes: -EINVAL.
 * They lie apart, but a move may go where an earlier move or drop made room.  What was
 * deleted before a guard on its prefix cannot be put again behind that: -EINVAL.
 */
int holt_batch_create(struct holt *holt, struct holt_batch **ret);
void holt_batch_destroy(struct holt_batch *batch); /* NULL allowed */
void holt_batch_reset(struct holt_batch *batch);   /* empty again, memory kept */

void holt_batch_put(struct holt_batch *batch, const void *key, size_t key_bytes,
    const void *value, size_t value_bytes);
void holt_batch_put_if_absent(struct holt_batch *batch, const void *key, size_t key_bytes,
    const void *value, size_t value_bytes);
void holt_batch_compare_and_put(struct holt_batch *batch, const void *key, size_t key_bytes,
    uint64_t version, const void *value, size_t value_bytes);
/* Absent: no error. */
void holt_batch_delete(struct holt_batch *batch, const void *key, size_t key_bytes);
void holt_batch_delete_if_version(struct holt_batch *batch, const void *key,
    size_t key_bytes, uint64_t version);
void holt_batch_rename(struct holt_batch *batch, const void *src, size_t src_bytes,
    const void *dst, size_t dst_bytes, unsigned flags);
void holt_batch_move_prefix(struct holt_batch *batch, const void *src, size_t src_bytes,
    const void *dst, size_t dst_bytes);

/* Nothing there: no error. */
void holt_batch_drop_prefix(struct holt_batch *batch, const void *prefix, size_t prefix_bytes);

/* Guards: the commit fails unless it is so. */
void holt_batch_require_present(struct holt_batch *batch, const void *key, size_t key_bytes);
void holt_batch_require_absent(struct holt_batch *batch, const void *key, size_t key_bytes);
void holt_batch_require_version(struct holt_batch *batch, const void *key, size_t key_bytes,
    uint64_t version);

void holt_batch_require_prefix_empty(struct holt_batch *batch, const void *prefix,
    size_t prefix_bytes);

/* The batch is as it was, and may be committed again, added to, or reset. */
int holt_batch_commit(struct holt_batch *batch, enum holt_durability durability);
size_t holt_batch_failed(const struct holt_batch *batch);

/*
 * Puts many keys, for filling a store.  @next hands over one item after the other: 1, or
 * 0 at the end, or a negative errno, which ends the load and is returned; what it passes
 * has to stay only until it is called again.  Keys in ascending order go fastest and
 * fill frames best.  Not one transaction: after an error or a crash the first items are
 * there, and others are not.
 */
int holt_load(struct holt *holt, int (*next)(void *ctx, const void **key, size_t *key_bytes,
    const void **value, size_t *value_bytes), void *ctx);

/* Makes everything changed before the call durable at @durability. */
int holt_sync(struct holt *holt, enum holt_durability durability);

/* ---- listing --------------------------------------------------------------- */

#define HOLT_KEYS_ONLY (1u << 0) /* items have neither value nor version */

/* What to list.  Zero in a field: no such limit. */
struct holt_range {
	const void *prefix; /* keys that begin with it */
	size_t prefix_bytes;
	const void *start; /* keys from here on */
	size_t start_bytes;
	bool is_after;	   /* keys behind @start */
	bool has_delimiter;
	/* Keys that have this byte behind the prefix are not listed one by one: all that
	 * agree up to and with the first such byte are one item, a common prefix.  Start
	 * behind one of those (is_after) passes over all keys it stands for. */
	uint8_t delimiter;
	unsigned flags;
};

/* Valid until the next call on the cursor, or until the visitor returns. */
struct holt_item {
	const void *key;
	const void *value; /* NULL for a common prefix, and with HOLT_KEYS_ONLY */
	size_t key_bytes, value_bytes;
	uint64_t version;
	bool is_prefix;
};

/*
 * Calls @visit for each item in ascending order, at most @limit times (0: no limit).  A
 * result other than 0 ends the walk and is returned.
 *
 * A walk is no snapshot (holt_view_open() is): keys that are there during the whole of it are visited exactly
 * once, others at most once.  It makes progress whatever is written.
 */
int holt_visit(struct holt *holt, const struct holt_range *range, size_t limit,
    int (*visit)(void *ctx, const struct holt_item *item), void *ctx);

/* The same, a step at a time.  The range is copied.  Nothing is held between steps. */
int holt_cursor_open(struct holt *holt, const struct holt_range *range, struct holt_cursor **ret);
int holt_cursor_next(struct holt_cursor *cursor, struct holt_item *ret); /* -ENOENT: the end */

/* Goes on at @start instead; same prefix, delimiter and flags. */
int holt_cursor_seek(struct holt_cursor *cursor, const void *start, size_t start_bytes,
    bool is_after);
void holt_cursor_close(struct holt_cursor *cursor); /* NULL allowed */

/* ---- views ----------------------------------------------------------------- */

/*
 * The keys that begin with @prefix (all, if it is empty) as they are now, for as long as
 * the view is open.  Opening copies nothing.  Frames changed later are kept twice; if
 * that takes the last memory or space, the oldest view ends: its calls and cursors return
 * -ESTALE.  Keys and ranges outside the prefix: -EDOM; a range without a prefix has the
 * view's.  Close its cursors before the view, and the view before the store.
 */
int holt_view_open(struct holt *holt, const void *prefix, size_t prefix_bytes,
    struct holt_view **ret);
void holt_view_close(struct holt_view *view); /* NULL allowed */

/* The version alone: with a capacity of 0; -ERANGE is then no failure. */
int holt_view_get(struct holt_view *view, const void *key, size_t key_bytes, void *value,
    size_t capacity, size_t *ret_bytes, uint64_t *ret_version);
int holt_view_is_prefix_empty(struct holt_view *view, const void *prefix, size_t prefix_bytes);
int holt_view_visit(struct holt_view *view, const struct holt_range *range, size_t limit,
    int (*visit)(void *ctx, const struct holt_item *item), void *ctx);
int holt_view_cursor_open(struct holt_view *view, const struct holt_range *range,
    struct holt_cursor **ret);

/* ---- upkeep ---------------------------------------------------------------- */

/* Writes what has changed and makes the journal's tail free. */
int holt_checkpoint(struct holt *holt);

/*
 * Packs frames and folds thin ones, those below @prefix (all, if it is empty), and gives
 * free space back to the host.  Others read and write meanwhile.  @progress (may be
 * NULL) is told frames done and frames in all; a result other than 0 ends the work and
 * is returned.
 */
int holt_compact(struct holt *holt, const void *prefix, size_t prefix_bytes,
    int (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx);

/* Counted since the store was opened, or as things are now.  Reading does not disturb
 * what it counts. */
struct holt_stats {
	/* operations */
	uint64_t gets, puts, deletes, renames, batches, guards_failed, moves, drops, walks;
	/* the tree: now */
	uint64_t frames, free_frames, volume_bytes, used_bytes;
	/* searches */
	uint64_t restarts, fallbacks, frame_loads, cold_gets;
	uint64_t splits, packs, merges, copies;
	/* the cache: now, then counted */
	uint64_t cache_slots, cache_used, cache_dirty;
	uint64_t cache_hits, cache_misses, cache_evictions;
	/* the journal */
	uint64_t journal_bytes, journal_used;
	uint64_t journal_records, journal_record_bytes, journal_writes, journal_flushes;
	uint64_t replayed_records;
	/* checkpoints */
	uint64_t checkpoints, checkpoints_failed, checkpoint_frames, checkpoint_ns;
	/* views, and dropped prefixes whose keys are not all erased: now */
	uint64_t views, dropping;
};

/* Fills @struct_bytes: sizeof(struct holt_stats). */
int holt_stats(struct holt *holt, struct holt_stats *ret, size_t struct_bytes);

/* The same as Prometheus text, names holt_*.  As snprintf(): the length it has, without
 * the final 0; @text holds at most @size bytes of it. */
int holt_stats_text(struct holt *holt, char *text, size_t size);

/* One frame of the tree. */
struct holt_frame {
	uint64_t id, parent; /* parent: 0 for the root */
	uint32_t depth;	     /* frames above */
	uint32_t key_depth;  /* bytes of key above */
	uint32_t bytes, live_bytes, dead_bytes, free_bytes; /* dead: to be packed */
	uint32_t inner_nodes, leaves, crossings;
	uint64_t version; /* of the newest value in it */
	bool is_dirty;
};

/* Visits every frame, parents first.  Those that are not in the cache are read beside it.
 * What others change meanwhile may be seen as before or after; a frame that moves also
 * twice or never.  A result other than 0 ends the walk and is returned. */
int holt_frames(struct holt *holt, int (*visit)(void *ctx, const struct holt_frame *frame),
    void *ctx);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
