/*
 * The store: an ordered, transactional map from byte strings to byte strings that
 * lives in one volume.  This is the engine as the file layer sees it; holt.h puts
 * the public face on it.
 *
 * Keys are 1..STORE_KEY_MAX bytes of any value, ordered as memcmp orders them, a
 * prefix before its extensions.  Values are 0..STORE_VALUE_MAX bytes.
 *
 * A *batch* is a transaction: all of it or nothing, for readers of single keys, for
 * recovery, and in the order of the journal.  A store_commit() that returned 0 has
 * been applied and logged; store_sync() makes it durable.
 *
 * Besides keys a batch may name runs of data blocks that it puts to use or frees;
 * core/space hears of them when the batch is applied, now or in recovery.
 *
 * Crash: the store reopens as some prefix of the committed batches that contains
 * every synced one.
 *
 * Errors: 0 or -errno.  -EUCLEAN: damaged bytes on disk, logged with their place.
 * -EROFS: opened read-only, or turned read-only by an earlier failure of journal or
 * checkpoint (store_error() says which).  -ENOSPC: no room for the change; nothing
 * was changed.
 *
 * Threads: every function may be called from any thread; a batch or cursor belongs
 * to one thread at a time.
 */
#ifndef HOLTFS_STORE_STORE_H
#define HOLTFS_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "device/device.h"
#include "format/format.h"
#include "journal/journal.h"
#include "pool/pool.h"
#include "space/space.h"

struct store;
struct store_batch;
struct store_view;
struct store_cursor;

#define STORE_KEY_MAX 65534u
#define STORE_VALUE_MAX (128u * 1024)

/*
 * The most that a put may take of a frame.  A batch may put so much at keys side by side,
 * that is in one frame, as STORE_ROOM_MAX; -E2BIG is the answer to more.
 */
uint32_t store_put_room(uint32_t key_bytes, uint32_t value_bytes);
#define STORE_ROOM_MAX (254u * 1024)

/* ---- life ---------------------------------------------------------------- */

struct store_format_options {
	uint8_t uuid[UUID_BYTES];
	char label[LABEL_BYTES];
	uint64_t journal_bytes; /* 0: 1/64 of the device, 8..256 MiB */
};

#define STORE_DEVICE_MIN VOLUME_BYTES_MIN

/* Writes an empty store to the device, both superblocks last.  -ENOSPC: the device
 * is smaller than STORE_DEVICE_MIN. */
int store_format(struct device *device, const struct store_format_options *options);

struct store_options {
	uint64_t cache_bytes; /* memory for frames; 0: 256 MiB; at least 8 MiB */
	bool is_read_only;
	bool has_shared_ring; /* journal level PROCESS */
	bool no_threads;      /* checkpoints only when asked or forced (tests); dropped
				 keys are erased by the commits that follow */
	bool no_merge;	      /* frames that have become thin are left as they are */
	bool keep_device;     /* the device stays the caller's: close and abandon leave
				 it open */
	/* A checkpoint is made when so many slots of 100 are dirty (0: 50, at most 75),
	 * and when nothing was committed for so long (0: 5000; UINT32_MAX: never). */
	uint32_t checkpoint_dirty_percent, checkpoint_idle_ms;
	/*
	 * Sees every leaf of a dropped prefix when it is erased (NULL: nobody does): @key is
	 * what followed the prefix.  It may add store_batch_free_blocks() to @batch, which
	 * is then one transaction with the erasing.  Called from a thread of the store or
	 * from store_commit(); it must not call the store and not wait.  A step that fails
	 * is made again, of the same leaves or fewer.
	 */
	void (*release)(void *ctx, struct store_batch *batch, const void *key, uint32_t key_bytes,
	    const void *value, uint32_t value_bytes);
	void *release_ctx;
};

/*
 * Opens the store on @device, recovering it if it was not closed.  The device goes
 * over to the store on success.  -EMEDIUMTYPE: not a holtfs volume;
 * -EPROTONOSUPPORT: another format version or an unknown incompatible feature;
 * -EROFS: an unknown feature that allows reading only; -EUCLEAN: damaged.  Each is
 * logged with its reason.  A read-only open recovers in
 * memory and writes nothing.
 */
int store_open(struct device *device, const struct store_options *options, struct store **ret);

/*
 * An empty store in memory: no device, no journal, no checkpoints; gone when it is
 * closed.  What does not fit cache_bytes is answered -ENOSPC, and nothing is changed.
 * Batches with data blocks are -EINVAL; store_device() and store_space() are NULL.
 */
int store_open_memory(const struct store_options *options, struct store **ret);

/* A last checkpoint, then the superblock marked clean.  The store is gone whatever
 * the result; an error means that what was not synced may be lost. */
int store_close(struct store *store); /* NULL allowed */

/* Gone without a checkpoint, as if the process had died.  For tests. */
void store_abandon(struct store *store);

/* The same, and the device is the caller's again: for who opens more on top of the store
 * and fails. */
void store_give_back(struct store *store);

/* ---- reading -------------------------------------------------------------- */

/*
 * Copies the value to @value (at most @capacity bytes); @ret_bytes is its length.
 * -ENOENT; -ERANGE if it does not fit, with @ret_bytes set.  @ret_version (may be
 * NULL) is the value's version: unequal for any two writes in the volume's life.
 */
int store_get(struct store *store, const void *key, uint32_t key_bytes, void *value,
    uint32_t capacity, uint32_t *ret_bytes, uint64_t *ret_version);

/* The longest key that @key begins with, @key itself included: its length, and its value
 * as store_get() has it.  -ENOENT: none. */
int store_longest_prefix(struct store *store, const void *key, uint32_t key_bytes,
    uint32_t *ret_key_bytes, void *value, uint32_t capacity, uint32_t *ret_bytes,
    uint64_t *ret_version);

/* ---- listing --------------------------------------------------------------- */

/* What to list.  Zero in a field: no such limit. */
struct store_range {
	const void *prefix; /* keys that begin with it */
	const void *start;  /* keys from here on */
	uint32_t prefix_bytes, start_bytes;
	bool is_after;	    /* keys behind @start */
	bool has_delimiter;
	/*
	 * Keys that have this byte behind the prefix are not listed one by one: all that
	 * agree up to and with the first such byte are one item, a common prefix.  Behind
	 * one of those (is_after) all keys it stands for are passed over.
	 */
	uint8_t delimiter;
	bool keys_only; /* items have neither value nor version */
};

struct store_item {
	const uint8_t *key;
	const uint8_t *value; /* NULL for a common prefix, and for keys only */
	uint32_t key_bytes;
	uint32_t value_bytes;
	uint64_t version;
	bool is_prefix;
};

/*
 * A walk is no snapshot: keys that are there during the whole of it are seen exactly
 * once, others at most once, all in ascending order.  It makes progress whatever is
 * written.  Nothing is held while the caller has an item: it may call the store, and
 * write.
 */
typedef int (*store_visit_fn)(void *ctx, const struct store_item *item);

/* At most @limit items (0: no limit), each valid until @visit returns.  A result other
 * than 0 ends the walk and is returned.  @range NULL: everything. */
int store_visit(struct store *store, const struct store_range *range, uint64_t limit,
    store_visit_fn visit, void *ctx);

/* The same for whoever takes the items out of core/tree's runs (tree_scan_take) himself:
 * all of each run, in order. */
struct tree_scan;
typedef int (*store_run_fn)(void *ctx, struct tree_scan *run);
int store_visit_runs(struct store *store, const struct store_range *range, uint64_t limit,
    store_run_fn take, void *ctx);

/* The same, a step at a time.  The range is copied. */
int store_cursor_open(struct store *store, const struct store_range *range, struct store_cursor **ret);
void store_cursor_close(struct store_cursor *cursor); /* NULL allowed */

/* Another range, from its start.  The cursor's memory is kept. */
int store_cursor_set_range(struct store_cursor *cursor, const struct store_range *range);

/* Did it take more memory than every cursor does? */
bool store_cursor_is_large(const struct store_cursor *cursor);

/* Goes on at the first key >= @key, or > @key if @is_after; the range's prefix and
 * delimiter stay.  An error is returned by the next call of store_cursor_next(). */
void store_cursor_seek(struct store_cursor *cursor, const void *key, uint32_t key_bytes, bool is_after);

/* -ENOENT: the end.  The item is valid until the next call on the cursor. */
int store_cursor_next(struct store_cursor *cursor, struct store_item *ret);

/* 1: no key begins with @prefix; 0: some do. */
int store_is_prefix_empty(struct store *store, const void *prefix, uint32_t prefix_bytes);

/* ---- views ------------------------------------------------------------------ */

/*
 * Everything as it is now, for as long as the view is open.  Opening copies nothing.
 * Frames changed later are there twice; when memory or space runs out the oldest view
 * ends: its calls and cursors answer -ESTALE.  A view must be closed before the store,
 * and its cursors before the view.
 */
int store_view_open(struct store *store, struct store_view **ret);
void store_view_close(struct store_view *view); /* NULL allowed */

int store_view_get(struct store_view *view, const void *key, uint32_t key_bytes, void *value,
    uint32_t capacity, uint32_t *ret_bytes, uint64_t *ret_version);
int store_view_cursor_open(struct store_view *view, const struct store_range *range,
    struct store_cursor **ret);
int store_view_visit_runs(struct store_view *view, const struct store_range *range, uint64_t limit,
    store_run_fn take, void *ctx);

/* 1: no key begins with @prefix; 0: some do. */
int store_view_is_prefix_empty(struct store_view *view, const void *prefix, uint32_t prefix_bytes);

/* ---- writing -------------------------------------------------------------- */

int store_batch_create(struct store *store, struct store_batch **ret);
void store_batch_reset(struct store_batch *batch); /* empty, memory kept */

/* Did it take more memory than most batches do? */
bool store_batch_is_large(const struct store_batch *batch);
void store_batch_destroy(struct store_batch *batch); /* NULL allowed */

/*
 * Adding to a batch copies what is passed.  Errors (-ENAMETOOLONG, -E2BIG, -ENOMEM)
 * stick to the batch: store_commit() answers the first, so callers need not check
 * each call.  A key may be named once in a batch, except that a guard may name it
 * too; keys of puts and deletes lie outside the batch's own moves and drops (-EINVAL).
 */
void store_batch_put(struct store_batch *batch, const void *key, uint32_t key_bytes,
    const void *value, uint32_t value_bytes);
void store_batch_delete(struct store_batch *batch, const void *key, uint32_t key_bytes); /* absent: no error */

/*
 * Guards: the commit answers -EEXIST / -ENOENT / -ESTALE and changes nothing.  The first
 * of those that do not hold is the one that counts; store_batch_failed_guard() says
 * which, counted from 0 in the order they were added.  Guards alone make a batch too: it
 * leaves nothing in the journal.  Guards and deletes take keys of any length.
 */
void store_batch_require_absent(struct store_batch *batch, const void *key, uint32_t key_bytes);
void store_batch_require_present(struct store_batch *batch, const void *key, uint32_t key_bytes);
void store_batch_require_version(struct store_batch *batch, const void *key,
    uint32_t key_bytes, uint64_t version);

/* Guards on all keys that begin with a prefix: -ENOTEMPTY: there are some that the batch
 * itself does not delete; -ENOENT: there are none.  A batch with such a guard holds up other writers for a moment. */
void store_batch_require_prefix_empty(struct store_batch *batch, const void *prefix, uint32_t prefix_bytes);
void store_batch_require_prefix_present(struct store_batch *batch, const void *prefix, uint32_t prefix_bytes);

/* After a commit: UINT32_MAX, if no guard failed. */
uint32_t store_batch_failed_guard(const struct store_batch *batch);

/*
 * Every key that begins with @src begins with @dst instead.  Cost does not depend
 * on how many there are.  If no key begins with @src the move does nothing.  The
 * commit answers -EEXIST if a key begins with @dst; -EINVAL if one prefix begins
 * with the other.
 */
void store_batch_move_prefix(struct store_batch *batch, const void *src,
    uint32_t src_bytes, const void *dst, uint32_t dst_bytes);

/* Moves of the batch, not drops, that find nothing at their source make the commit answer
 * -ENOENT. */
void store_batch_require_sources(struct store_batch *batch);

/* After a commit: the move that made it fail, counted from 0; UINT32_MAX: none did. */
uint32_t store_batch_failed_move(const struct store_batch *batch);

/*
 * No key begins with @prefix any more.  Costs what a move costs; the keys are erased and
 * their space given back in the background, a writer short of space waits for it.  If no
 * key begins with @prefix nothing happens.  Moves and drops of a batch lie apart, except
 * that an earlier one may clear the destination of a move: from just that prefix.
 */
void store_batch_drop_prefix(struct store_batch *batch, const void *prefix, uint32_t prefix_bytes);

/*
 * Puts data blocks to use, whose content is already on the device.  @checksums holds
 * one checksum per block, seeded with the volume's (store_block_checksum): recovery
 * treats a record whose data did not reach the disk as the end of the log.
 */
void store_batch_use_blocks(struct store_batch *batch, uint64_t block, uint32_t count,
    const uint32_t *checksums);
void store_batch_free_blocks(struct store_batch *batch, uint64_t block, uint32_t count);

/*
 * The batch may take the last frames, which are else for batches that delete or free:
 * for what was promised to someone earlier.  store_batch_reset() takes it back.
 */
void store_batch_use_headroom(struct store_batch *batch);

/*
 * Applies and logs the batch.  @ret_lsn (may be NULL): what to pass to store_sync().
 * May load frames, wait for memory, or wait for a checkpoint to make room in log or
 * space.  The batch may be reset and used again.
 */
int store_commit(struct store *store, struct store_batch *batch, lsn_t *ret_lsn);

/*
 * One key, as a batch of its own: the same guarantees, at a fraction of the cost.  With
 * a guard (NULL: none) nothing is changed if the key is not as it says: -EEXIST, -ENOENT
 * or -ESTALE, as in a batch.  store_delete() of what is absent is no error without one.
 */
enum store_guard_kind { STORE_REQUIRE_ABSENT, STORE_REQUIRE_PRESENT, STORE_REQUIRE_VERSION };

struct store_guard {
	enum store_guard_kind kind;
	uint64_t version; /* REQUIRE_VERSION: -ENOENT if absent, -ESTALE if another */
};

int store_put(struct store *store, const void *key, uint32_t key_bytes, const void *value,
    uint32_t value_bytes, const struct store_guard *guard, lsn_t *ret_lsn);
int store_delete(struct store *store, const void *key, uint32_t key_bytes,
    const struct store_guard *guard, lsn_t *ret_lsn);

/* Everything committed up to @lsn is durable at @level. */
int store_sync(struct store *store, lsn_t lsn, enum journal_level level);

/* LSN after the newest commit. */
lsn_t store_end_lsn(struct store *store);

/* ---- upkeep ---------------------------------------------------------------- */

/* Writes all changed frames and moves the log's tail.  Frees resting blocks. */
int store_checkpoint(struct store *store);

/* 0, or the error that made the store read-only. */
int store_error(struct store *store);
bool store_is_read_only(struct store *store);

/* What the file layer shares with the store. */
struct device *store_device(struct store *store);
struct pool *store_pool(struct store *store);
struct space *store_space(struct store *store);
const struct superblock *store_superblock(struct store *store); /* as at open */

/* The checksum of a 4 KiB data block in this volume, seeded with its UUID. */
uint32_t store_block_checksum(struct store *store, const void *data);

/* Leases a slot from the pool for the file layer; checkpoints and waits if all are
 * dirty.  Called with no latch or batch under way. */
int store_lease_slot(struct store *store, uint32_t *ret_slot);

/* Allocates data blocks; waits for a checkpoint if resting blocks would help. */
int store_alloc_blocks(struct store *store, uint32_t want, struct space_run *ret);

/*
 * Packs frames that hold dead bytes and folds thin ones into their parents or
 * neighbours, as far as they lie below @prefix (empty: all); then a checkpoint, and
 * free frames of the volume go back to the host.  Others read and write meanwhile: each
 * step stops writers for as long as one frame takes.  @progress (may be NULL) hears how
 * many frames are done and how many are known by now, nothing held; a result other than
 * 0 ends the work and is returned.
 */
int store_compact(struct store *store, const void *prefix, uint32_t prefix_bytes,
    int (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx);

struct store_frame {
	uint64_t id, parent; /* parent 0: the root */
	uint32_t depth;	     /* frames above */
	uint32_t key_depth;  /* bytes of key above */
	uint32_t bytes, live_bytes, dead_bytes, free_bytes; /* dead: on free lists */
	uint32_t inner_nodes, leaves, crossings;
	uint64_t version; /* of the newest value in it */
	bool is_dirty;
};

/*
 * Calls @fn for every frame of the tree, parents first, nothing held.  Frames that are
 * not in memory are read beside the cache, which is not disturbed.  What others change
 * meanwhile may be seen as before or after, a frame that moves also twice or never.  A
 * non-zero result ends the walk and is returned.
 */
int store_for_each_frame(struct store *store,
    int (*fn)(void *ctx, const struct store_frame *frame), void *ctx);

/* Counted since the store was opened, or, where it says so, as things are now.  Asking
 * does not disturb what is counted. */
struct store_counters {
	uint64_t gets, cursors, commits, puts, deletes, moves, drops, guards_failed;
	uint64_t views;	   /* now: open, and not ended */
	uint64_t dropping; /* now: dropped prefixes whose keys are not all erased */
	uint64_t frame_loads, cold_gets, splits, packs, merges, frames_dropped;
	uint64_t restarts, fallbacks, cow_copies, replayed_records;
	uint64_t checkpoints, checkpoints_failed, frames_written, checkpoint_ns;
	uint64_t tree_frames; /* now, in the pool or not */
	uint64_t dirty_frames; /* now */
	/* the volume, now */
	uint64_t volume_bytes, used_bytes, free_frames;
	/* the pool: now, then counted */
	uint64_t cache_slots, cache_used;
	uint64_t cache_hits, cache_misses, cache_evictions;
	/* the journal: now, then counted */
	uint64_t journal_bytes, journal_used;
	uint64_t journal_records, journal_record_bytes, journal_writes, journal_flushes;
};
void store_counters(struct store *store, struct store_counters *ret);

/* ---- for checks ------------------------------------------------------------- */

/* The root frame of the internal tree, which has what was dropped; 0: there is none. */
uint64_t store_internal_root(struct store *store);

/* Frames of both trees, but for roots, that hold nothing: as the store counts them. */
uint64_t store_empty_frames(struct store *store);

/*
 * Tree frames that went since the last checkpoint: the manifest may still have them,
 * no crossing does.  A non-zero result of @fn, which must not call the store, ends the
 * walk and is returned.
 */
int store_for_each_dropped(struct store *store, int (*fn)(void *ctx, uint64_t frame_id), void *ctx);

#endif
