/*
 * Shared inside core/store.
 *
 * Locks, outermost first (docs/locking.md): hold_mutex, spares_mutex, checkpoint_mutex, gate,
 * frame latches, dirty_mutex; journal and space have their own below.
 */
#ifndef HOLTFS_STORE_STORE_INTERNAL_H
#define HOLTFS_STORE_STORE_INTERNAL_H

#include "store/store.h"

#include <pthread.h>

#include "base/counter.h"
#include "base/lock.h"
#include "tree/tree.h"

/* A list of frame ids. */
struct id_list {
	uint64_t *ids;
	uint32_t count, size;
};

/* What is counted with every operation, in a line of the thread's own (base/counter.h). */
struct store_counts {
	_Atomic uint64_t gets, commits, puts, deletes;
} __attribute__((aligned(64)));

struct store_stats {
	_Atomic uint64_t cursors, guards_failed, fallbacks,
	    frame_loads, cold_gets, frames_dropped, checkpoints, checkpoints_failed, frames_written,
	    checkpoint_ns, replayed_records;
};

/* Open views and the images kept for them (view.c). */
struct views {
	struct mutex mutex; /* RANK_LEAF; guards all of it */
	struct store_view *open;   /* the newest first */
	struct retained **buckets; /* by frame id; NULL until the first view */
	struct retained **by_id;
	uint32_t by_id_size, next_id, count;
	struct retained *dead; /* to be buried */
	bool is_keeping; /* a checkpoint is under way that may keep places from being freed */
};

/* Reading single blocks of frames (cold.c). */
#define COLD_IMAGES 8
struct cold {
	uint32_t slots; /* set at open: of the pool, at most */
	_Atomic(char *) images[COLD_IMAGES]; /* not in use */
};

struct store {
	/* set at open */
	struct store_options options;
	struct device *device;
	struct pool *pool;
	struct space *space;
	struct journal *journal; /* NULL: read-only, or still in recovery */
	struct gate *gate;
	struct tree tree;
	struct tree internal; /* of dropped prefixes (drop.c); root_id 0: not yet there */
	uint64_t uuid_seed;

	struct superblock superblock; /* guarded by checkpoint_mutex */
	bool has_company; /* likewise: a writer copied frames beside a checkpoint */
	struct superblock superblock_at_open;
	bool is_memory; /* no device, space or journal (memory.c) */
	_Atomic lsn_t memory_lsn; /* there: versions */
	_Atomic bool has_internal; /* the internal tree has its root, and keeps it */
	uint64_t drop_number; /* guarded by the gate: of the last prefix dropped */
	struct eraser *eraser; /* set at open; NULL: read-only, or still in recovery */
	_Atomic uint64_t dropping; /* prefixes dropped whose keys are not yet all erased */
	_Atomic uint64_t drops;
	struct views views;
	struct cold cold;
	/* In recovery and read-only: how far replay has come, and how many pieces of the
	 * record there are applied (recover.c). */
	lsn_t replay_lsn;
	uint32_t replay_pieces;

	struct mutex hold_mutex;       /* one batch at a time keeps frames while it loads others */
	struct mutex spares_mutex;     /* one thread at a time collects spares */
	struct mutex checkpoint_mutex; /* one checkpoint at a time */

	struct mutex dirty_mutex;
	struct id_list dirty;	 /* guarded by dirty_mutex: changed in this epoch */
	struct id_list dropped;	 /* likewise: gone in this epoch */
	struct id_list free_ids; /* likewise: below next_id, in no manifest */
	uint64_t next_id;	 /* likewise */
	bool out_of_memory;	 /* likewise: a list could not grow */

	_Atomic uint64_t frames_ever; /* of the trees, with those that went since opening */
	_Atomic uint64_t empty_frames; /* of both trees: see struct tree */
	_Atomic uint32_t dirty_count; /* frames in the pool the disk does not have */
	_Atomic bool is_short_of_slots; /* somebody got none since views_spill() */
	_Atomic uint32_t frozen_count; /* of them, those that a checkpoint under way writes */
	_Atomic lsn_t cut_lsn; /* of the newest checkpoint begun */
	_Atomic uint64_t pending_bytes; /* of blocks freed since the last checkpoint */
	_Atomic int error;

	/* The checkpoint thread sleeps on thread_condition under dirty_mutex. */
	pthread_t thread;
	bool has_thread;
	bool is_stopping;	  /* guarded by dirty_mutex */
	_Atomic bool is_checkpoint_wanted; /* set under dirty_mutex */
	uint64_t checkpoint_count; /* guarded by dirty_mutex: ended, well or not */
	struct condition thread_condition, checkpoint_done;

	struct store_stats stats;
	struct store_counts counts[THREAD_NUMBERS];
};

/* ---- batches --------------------------------------------------------------- */

enum record_op_type {
	RECORD_PUT = 1,
	RECORD_DELETE = 2,
	RECORD_MOVE_PREFIX = 3,
	RECORD_USE_BLOCKS = 4,	/* key: le64 block; value: a le32 checksum a block */
	RECORD_FREE_BLOCKS = 5, /* key: le64 block; value: le32 count */
	RECORD_DROP_PREFIX = 6, /* value: be64 number, rising: the key in the internal tree */
	RECORD_ERASE_DROPPED = 7, /* key: le32 count: so many first leaves of the internal tree */
};

/* In a journal record's body: this, key, value, zeros to a multiple of 8: where it
 * stands is the version of what it puts, and short leaves want those. */
struct record_op {
	uint8_t type; /* 0: enum record_op_type */
	uint8_t reserved[3]; /* 1 */
	le32 key_bytes; /* 4 */
	le32 value_bytes; /* 8 */
};
_Static_assert(sizeof(struct record_op) == 12, "record_op changed size");
#define RECORD_OP_ALIGN 8u

#define BATCH_MOVES_MAX 8

struct block_run {
	uint64_t block;
	uint32_t count;
	bool is_use;
	const uint8_t *checksums; /* use: le32 each, in the body */
};

/* A guard on all keys that begin with a prefix. */
struct prefix_guard {
	const uint8_t *prefix; /* in the guards */
	uint32_t prefix_bytes;
	uint32_t number; /* among all guards */
	bool is_present; /* else: is empty */
};

/* In place of an enum tree_edit_kind, in the guards. */
#define GUARD_PREFIX_EMPTY   64u
#define GUARD_PREFIX_PRESENT 65u

/* Keys taken from the internal tree, to be erased there. */
struct taken_keys {
	uint8_t *bytes;
	uint32_t used, size;
	uint32_t *ends; /* of each key */
	uint32_t count, ends_size;
};

struct store_batch {
	struct store *store;
	struct tree *tree; /* its edits are in */
	int error;
	bool uses_headroom;
	/* The record's body as the journal gets it. */
	uint8_t *body;
	uint32_t body_bytes, body_size;
	/* Guards: op headers and keys, never logged. */
	uint8_t *guards;
	uint32_t guard_bytes, guard_size;
	/* Made by batch_parse from the two. */
	struct tree_tx tx;
	uint32_t edit_size;
	struct tree_move moves[BATCH_MOVES_MAX];
	uint32_t move_count;
	bool requires_sources;
	uint32_t failed_move; /* of the last commit; UINT32_MAX: none */
	struct block_run *runs;
	uint32_t run_count, run_size;
	struct prefix_guard *prefix_guards;
	uint32_t prefix_guard_count, prefix_guard_size;
	uint32_t failed_guard;
	uint32_t erase_count; /* leaves of the internal tree */
	uint32_t replay_pieces; /* in recovery: what the store's are once it is applied */
	struct taken_keys taken;
	struct tree_spares spares;
};

/* Makes edits, moves and runs out of @body; pointers go into it.  -EUCLEAN: it is not
 * well formed. */
int batch_add_edit(struct store_batch *batch, struct tree_edit edit);
void batch_erase_dropped(struct store_batch *batch, uint32_t count);
int batch_parse(struct store_batch *batch, const uint8_t *body, uint32_t body_bytes);

void store_count_commit(struct store *store, uint64_t puts, uint64_t deletes);

/* Of all threads. */
void store_sum_counts(struct store *store, struct store_counts *ret);

/* What a record's body holds, found without much ado. */
#define BATCH_HAS_RUNS 1u
#define BATCH_HAS_OTHER 2u /* anything but puts, deletes and runs; not well formed */
unsigned batch_contents(const uint8_t *body, uint32_t body_bytes);

/* Applies a parsed batch: logged; or in recovery, with the LSN of its record, and
 * @ret_end the LSN where replay begins again once it is applied. */
int batch_apply(struct store *store, struct store_batch *batch, lsn_t replay_lsn, lsn_t *ret_end);

/* ---- providing ---------------------------------------------------------------- */

/* Gets what the tree asked for.  Nothing is held.  0: try again. */
int store_provide(struct store *store, const struct tree_need *need, struct tree_spares *spares);
int store_collect_spares(struct store *store, struct tree_spares *spares, uint32_t count);
void store_return_spares(struct store *store, struct tree_spares *spares);

/* Gate held: what the tree asked for under it exists.  -EUCLEAN: a frame is referred to
 * that is neither in memory nor in the manifest; logged. */
int store_check_need(struct store *store, const struct tree_need *need);

/* Frames of the trees, in the pool or not. */
uint64_t store_tree_frames(struct store *store);

/* Reads a frame into the pool.  -ENOENT: the manifest does not know it. */
int store_load_frame(struct store *store, uint64_t frame_id);

/* Likewise frames that will be wanted, STORE_AHEAD_MOST at most and each once, all at the same
 * time; as far as there are slots.  What cannot be read is logged, and left to who wants it. */
#define STORE_AHEAD_MOST 16u
void store_load_ahead(struct store *store, const uint64_t *frame_ids, uint32_t count);

/* Copies a frame's image, from the pool or, where it is not there, from disk, without
 * loading it.  @image: FRAME_BYTES, aligned to blocks.  -ENOENT: there is none. */
int store_peek_frame(struct store *store, uint64_t frame_id, void *image, bool *ret_is_dirty);

/* Folds frames without keys in front of the tree's first key, as far as it can. */
void store_fold_first(struct store *store, struct tree *tree, struct tree_spares *spares);

/* An error: the frame stays as it is. */
int store_shrink(struct store *store, struct tree *tree, const uint8_t *key, uint32_t key_bytes,
    struct tree_spares *spares);

/* Host functions of the tree. */
void store_frame_dirtied(void *ctx, uint64_t frame_id);
uint64_t store_take_id(void *ctx);
void store_frame_dropped(void *ctx, uint64_t frame_id);

/*
 * Around the work of a batch, by its thread: frames on disk for what it dirties.
 * store_promise() sees to it that @frames are left, with nothing held; -ENOSPC.  In the
 * end what was not used goes back.
 */
void store_promise_begin(bool is_freeing);
int store_promise(struct store *store, uint64_t frames, bool is_growth);
uint64_t store_promise_left(void);
void store_promise_end(struct store *store);

int id_list_add(struct id_list *list, uint64_t id);

/* ---- opening ------------------------------------------------------------------ */

#define STORE_ROOT_FRAME_ID 1u

struct store *store_create(const struct store_options *options); /* NULL: out of memory */
void store_destroy(struct store *store);
int store_open_pool(struct store *store, struct device *device);
void store_plan_trees(struct store *store, uint64_t root_id, uint64_t internal_root_id);

/* ---- stores in memory ----------------------------------------------------------- */

/* The version's base of a record so long. */
lsn_t memory_log(struct store *store, uint32_t body_bytes, lsn_t *ret_end);

/* -ENOSPC: the cache is full. */
int memory_collect_spares(struct store *store, struct tree_spares *spares, uint32_t count, bool is_freeing);

/* ---- guards on prefixes (prefix.c) ---------------------------------------------- */

/*
 * Gate held exclusively.  @ret_failed: the first guard on a prefix that does not hold,
 * its error in @ret_error; UINT32_MAX: none.  -EAGAIN: a frame is lacking.
 */
int batch_check_prefixes(struct store *store, struct store_batch *batch, uint32_t *ret_failed,
    int *ret_error, struct tree_need *need);

/* The number among all guards of the guard that is edit @edit. */
uint32_t batch_guard_number(const struct store_batch *batch, uint32_t edit);

/* ---- dropped prefixes (drop.c) ---------------------------------------------------- */

/* Before the gate: the internal tree has a root.  Within a promise. */
int drop_prepare(struct store *store);

/* Gate held exclusively: the batch's drops get their numbers, in the order of the log. */
void drop_number_moves(struct store *store, struct store_batch *batch);

/* Gate held exclusively: a drop has been carried out. */
void drop_note(struct store *store, const struct tree_move *move);

/* Takes the first @count leaves of the internal tree into the batch; -EUCLEAN: there
 * are not so many. */
int drop_take(struct store *store, struct store_batch *batch, uint32_t count);

/* Edits of the batch that erase what was taken. */
int drop_add_edits(struct store_batch *batch);

/* A writer lacks space: true if some was found meanwhile by erasing dropped keys.
 * Nothing is held. */
bool drop_help(struct store *store);

/* After a commit, where there is no thread for it: a step. */
void drop_step_inline(struct store *store);

int drop_start(struct store *store);
void drop_stop(struct store *store);

/* ---- reading -------------------------------------------------------------------- */

/*
 * A read that is tried until it succeeds:
 *
 *	do {
 *		attempt_begin(&attempt);
 *		err = tree_...(attempt.in_gate, ..., &need);
 *	} while (attempt_again(&attempt, &err, &need));
 */
struct attempt {
	struct store *store;
	const struct tree *tree; /* a view's, if it is one (NULL: no) */
	bool in_gate;
	bool is_exclusive; /* the gate, if it comes to that */
	unsigned ticket;
	unsigned lost; /* frames that were not there */
};

void attempt_begin(struct attempt *attempt);

/* After a try with result @err: true if it is to be made again. */
bool attempt_again(struct attempt *attempt, int *err, const struct tree_need *need);

int store_get_from(struct store *store, struct tree *tree, const void *key, uint32_t key_bytes,
    void *value, uint32_t capacity, uint32_t *ret_bytes, uint64_t *ret_version);

/* -EBUSY: the way is of more frames than the pool; not in a view. */
int store_longest_prefix_from(struct store *store, struct tree *tree, const void *key, uint32_t key_bytes,
    void *value, uint32_t capacity, struct tree_longest *ret);
int store_view_longest_prefix(struct store_view *view, const void *key, uint32_t key_bytes, void *value,
    uint32_t capacity, struct tree_longest *ret);

/* ---- single keys of frames that are not in memory (cold.c) -------------------------- */

void cold_init(struct store *store);
void cold_fini(struct store *store);

/* Is what the tree lacks for a get better not loaded? */
bool cold_is_better(struct store *store, const struct tree_need *need);

/*
 * tree_get() gone on with in the frame that @need lacks, on disk.  Nothing is held.
 * -EAGAIN: the frame is to be loaded.  -ESTALE: the search is to begin again.
 */
int cold_get(struct store *store, struct tree *tree, const uint8_t *key, uint32_t key_bytes, void *value,
    uint32_t capacity, uint32_t *ret_bytes, uint64_t *ret_version, const struct tree_need *need);

/* Logs that a tree frame could not be read or did not verify. */
void store_report_read(uint64_t frame_id, const struct manifest_place *place, uint32_t bad_block, int err);

/* A cursor over all keys of one of the store's trees; and a visit. */
int cursor_open_tree(struct store *store, struct tree *tree, struct store_cursor **ret);
int visit_tree(struct store *store, struct tree *tree, const struct store_range *range,
    uint64_t limit, store_run_fn take, void *ctx);

/* ---- views (view.c) ----------------------------------------------------------------- */

void views_init(struct views *views);
void views_fini(struct views *views);
uint64_t views_count(struct store *store);

/* Host function of the tree. */
bool store_retain_image(void *ctx, uint64_t frame_id, uint32_t slot, uint64_t birth);

/* Nothing is held.  False: no view is open. */
bool views_end_oldest(struct store *store);

/* Loads what a view lacks.  -ECANCELED: it has ended; -ENOENT: look again. */
int view_load(const struct tree *tree, uint64_t frame_id);

/* Is it the id of an image kept for views?  And where that one lies; -ENOENT. */
bool views_is_retained_id(uint64_t id);
int views_find_place(struct store *store, uint64_t id, uint64_t *ret_frame_id, struct manifest_place *ret);

/* Around a checkpoint. */
void views_begin_keeping(struct store *store);
void views_end_keeping(struct store *store, bool is_durable);

/* A frame's old place in a checkpoint: freed, or kept for views. */
int views_free_place(struct store *store, uint64_t frame_id, uint64_t disk_frame);

/* The slot, exclusively latched, was on the checkpoint's list and is not live.  True: it
 * is kept for views; else it is the checkpoint's to release. */
bool views_settle(struct store *store, uint64_t frame_id, uint32_t slot, bool is_written);

/* Writes dirty images of which only views know, if they are many; nothing but
 * checkpoint_mutex is held. */
void views_spill(struct store *store);

/* The rest of an image's last block holds whatever was there before. */
void store_clear_tail(void *image);

/* ---- recovery (recover.c) --------------------------------------------------------- */

struct journal_place store_journal_place(const struct store *store);

/* Replays the log; replay_lsn is its end then. */
int store_recover(struct store *store);

/* ---- checkpoints ----------------------------------------------------------------- */

/* Asks for a checkpoint: the thread's work, or done here where there is none.  Holds
 * nothing but maybe spares_mutex. */
void store_want_checkpoint(struct store *store);

/* Waits while too much is dirty. */
int store_throttle(struct store *store);

/* Before a frame gets dirty, nothing held: waits a little where much is dirty, and more
 * the more it is. */
void store_pace(struct store *store);

/* Sees to it that up to @wanted slots can be leased at once, for the copies of writers. */
void store_stock_spares(struct store *store, uint32_t wanted);

/* @is_final: marks the superblock clean. */
int store_run_checkpoint(struct store *store, bool is_final);

int store_start_thread(struct store *store);
void store_stop_thread(struct store *store);

/* Makes the store read-only for good; says why, once. */
int store_fail(struct store *store, int error, const char *what);

/* ---- walking frames (frames.c) ------------------------------------------------------ */

/* A frame seen by a walk: its image is a copy, nothing is held. */
struct walked_frame {
	struct store_frame frame;
	const uint8_t *path; /* key bytes above: frame.key_depth of them */
	const uint8_t *leaf; /* what one of its leaves adds to them; NULL: it has none */
	uint32_t leaf_bytes;
};

/* Parents first, those that may hold keys that begin with @prefix.  @pending: frames
 * known by now that are still to come. */
int store_walk_frames(struct store *store, const uint8_t *prefix, uint32_t prefix_bytes,
    int (*fn)(void *ctx, const struct walked_frame *frame, uint64_t pending), void *ctx);

/* ---- superblocks ------------------------------------------------------------------ */

/* The newest good copy.  -EMEDIUMTYPE, -EPROTONOSUPPORT, -EUCLEAN (logged), -EIO. */
int superblock_load(struct device *device, bool is_read_only, struct superblock *ret);

/* Both copies, each made durable before the next. */
int superblock_store(struct device *device, struct superblock *superblock);

#endif
