/*
 * The radix tree over frames: look-up, scan, transactions, and the structural steps
 * that keep frames between too full and too empty.
 *
 * Nothing here does I/O or waits for memory.  What an operation lacks it names in a
 * struct tree_need and answers -EAGAIN with nothing held; the store provides it and
 * calls again.
 *
 * Concurrency.  The store has a gate: writers hold it shared; structural steps,
 * moves and the begin of a checkpoint hold it exclusively.  So under the gate no
 * edge between frames changes.  Readers take no gate: hopping from a frame to a
 * child they latch the child, then validate that the parent has not changed since
 * the edge was read; after READ_RESTARTS_MAX failures they ask for the gate
 * (-EBUSY).  Frame latches are taken in ascending frame id when more than one is
 * held.
 *
 * Copy on write.  The tree has an *epoch*, raised when a checkpoint begins.  A frame
 * image first changed in an older epoch and not yet on disk is frozen: a writer
 * copies it to a spare slot and goes on there, and the old slot becomes a lease of
 * the checkpoint (struct tree_host).
 */
#ifndef HOLTFS_TREE_TREE_H
#define HOLTFS_TREE_TREE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "pool/pool.h"
#include "tree/image.h"

/* What the tree tells the store. Called with latches held; must not block. */
struct tree_host {
	void *ctx;
	/* The frame was changed for the first time in this epoch. */
	void (*dirtied)(void *ctx, uint64_t frame_id);
	/* A frame id not in use. */
	uint64_t (*take_id)(void *ctx);
	/* The frame is gone.  Its slot is a lease of the tree or the checkpoint. */
	void (*dropped)(void *ctx, uint64_t frame_id);
};

struct tree_counters {
	_Atomic uint64_t restarts, splits, merges, compactions, cow_copies, moves;
};

struct tree {
	struct pool *pool;
	uint64_t root_id;
	uint64_t epoch; /* guarded by the gate: changed exclusively */
	struct tree_host host;
	/* Raised, with the gate held exclusively, before an edge between frames changes;
	 * from 1.  While it is the same a search may go on where it lacked a frame. */
	_Atomic uint64_t shape;
	_Atomic uint64_t move_count; /* moves so far */
	struct tree_counters counters;
};

enum tree_need_kind {
	TREE_NEED_NOTHING,
	TREE_NEED_FRAME,
	TREE_NEED_SLOTS,
	TREE_NEED_PLACES,
	TREE_NEED_ROOM,
	TREE_NEED_FOLD,
};

struct tree_need {
	enum tree_need_kind kind;
	uint64_t frame_id;	 /* FRAME: load it.  ROOM: make room in it */
	/* FRAME, for the tree's own use when it is called again: where the search goes on
	 * while the tree has this shape, here, or at the frame above. */
	uint32_t depth, above_depth;
	uint64_t above_id, shape;
	uint32_t slots;		 /* SLOTS: leases to bring along */
	uint32_t places;	 /* PLACES: frames about to get dirty in this epoch */
	bool is_growth;		 /* PLACES: one of them is new */
	struct tree *tree;	 /* ROOM: the frame's */
	uint32_t room_bytes;	 /* ROOM */
	const uint8_t *key;	 /* ROOM: a key whose search passes the frame.  FOLD: the
				  * prefix below which a frame without keys lies */
	uint32_t key_bytes;
};

/* What a step may use up: leased slots, and frames that may get dirty. */
#define TREE_SPARES_MAX 300
struct tree_spares {
	uint64_t places; /* set before each attempt */
	uint32_t count;
	uint32_t slots[TREE_SPARES_MAX];
};

/* Makes an empty root frame @root_id in a leased slot, dirty in the tree's epoch. */
int tree_plant(struct tree *tree, uint32_t slot);

/*
 * Where a function returns TREE_NEED_FRAME, the next call for the same key is given the
 * same struct tree_need: it does not begin at the root again, so that the frames on the
 * way need not all be in memory at once.  Before the first call: all zeros.
 */

/* ---- reading ------------------------------------------------------------------ */

/* -EBUSY: too many restarts; call again with the gate held shared. */
int tree_get(struct tree *tree, bool in_gate, const uint8_t *key, uint32_t key_bytes,
    void *value, uint32_t capacity, uint32_t *ret_bytes, uint64_t *ret_version,
    struct tree_need *need);

/*
 * A run of leaves copied out under one frame's latch.  Keys and values lie in
 * `bytes`; items in key order.
 */
struct tree_item {
	uint32_t key_offset, key_bytes, value_offset, value_bytes;
	uint64_t version;
};

struct tree_buffer {
	uint8_t *bytes;
	uint32_t used, size;
};

struct tree_level;

#define TREE_RUN_ITEMS 64
#define TREE_RUN_BYTES (256u * 1024)

struct tree_run {
	struct tree_item items[TREE_RUN_ITEMS];
	uint32_t count;
	struct tree_buffer bytes;
	/* Scratch of the scan. */
	struct tree_buffer path, resume, seek;
	/* A frame was lacking; the walk goes on in it while the tree has this shape. */
	uint64_t frame_id, shape;
	bool is_exact, has_resume;
	bool has_seek; /* a frame was lacking; from the key asked for up to seek is nothing */
	struct tree_level *levels;
	uint32_t level_count, level_size;
};

void tree_run_init(struct tree_run *run);
void tree_run_fini(struct tree_run *run);

/* Fills @run with the first leaves >= @key (> if @is_after).  -ENOENT: none. */
int tree_scan(struct tree *tree, bool in_gate, const uint8_t *key, uint32_t key_bytes,
    bool is_after, struct tree_run *run, struct tree_need *need);

/* ---- transactions ---------------------------------------------------------------- */

enum tree_edit_kind {
	TREE_PUT,
	TREE_ERASE,
	TREE_REQUIRE_ABSENT,
	TREE_REQUIRE_PRESENT,
	TREE_REQUIRE_VERSION,
};

struct tree_edit {
	enum tree_edit_kind kind;
	const uint8_t *key, *value;
	uint32_t key_bytes, value_bytes;
	uint64_t version;    /* REQUIRE_VERSION */
	uint32_t seq_offset; /* PUT: its version is the base passed to apply plus this */
	/* Set by tree_tx_latch. */
	uint32_t depth;
	uint32_t frame_index;
	uint64_t frame_id;
	uint64_t shape; /* of the tree when the search had come here; 0: not begun */
	/* Set by apply: its frame has become so empty that tree_shrink pays. */
	bool wants_shrink;
};

#define TREE_TX_FRAMES_MAX 256

struct tree_tx_frame {
	uint64_t frame_id;
	uint32_t slot;
	uint32_t room_bytes;
	bool is_edited;
};

/*
 * Frames of a transaction kept in memory from one attempt to the next: where memory is
 * short, loading the last one would else push the first one out, for ever.
 */
struct tree_hold {
	bool is_on;
	uint32_t count, max; /* max: at most TREE_TX_FRAMES_MAX */
	uint32_t overflows;
	uint32_t slots[TREE_TX_FRAMES_MAX]; /* pinned */
};

struct tree_tx {
	struct tree_edit *edits;
	uint32_t edit_count;
	uint32_t failed_edit; /* the guard that made tree_tx_latch fail, else as before */
	struct tree_tx_frame frames[TREE_TX_FRAMES_MAX];
	uint32_t frame_count;
	bool is_latched;
	bool has_moves; /* moves follow: apply leaves them all the room there is */
	struct tree_hold hold;
};

/*
 * Finds, latches and pins every frame the edits touch, checks guards and room, and
 * makes the frames writable in this epoch.  With 0, tree_tx_apply cannot fail.
 * -EEXIST, -ENOENT, -ESTALE: a guard.  -E2BIG: too many frames.  In all cases but 0
 * nothing is held.  Gate: held.
 */
int tree_tx_latch(struct tree *tree, struct tree_tx *tx, struct tree_spares *spares,
    struct tree_need *need);
void tree_tx_apply(struct tree *tree, struct tree_tx *tx, uint64_t base_version);

/* Latches go, pins stay, until tree_tx_end; tree_tx_relatch takes them again (only
 * with the gate held exclusively all the time). */
void tree_tx_unlatch(struct tree *tree, struct tree_tx *tx);

/* After the moves: what apply left along the erased keys.  Latched. */
void tree_tx_tidy(struct tree *tree, struct tree_tx *tx);
void tree_tx_relatch(struct tree *tree, struct tree_tx *tx);
void tree_tx_end(struct tree *tree, struct tree_tx *tx);

/* From now on the transaction keeps up to @max frames it has found; and lets them go. */
void tree_hold_begin(struct tree_tx *tx, uint32_t max);
void tree_hold_end(struct tree *tree, struct tree_tx *tx);

/* ---- structural steps; gate held exclusively --------------------------------------- */

#define TREE_STEP_SLOTS 4
#define TREE_STEP_FRAMES 3 /* that it may dirty */

/*
 * Makes @room_bytes of room in the frame @frame_id on the way to @key: packs it, or
 * moves part of it to a new frame.  0 also if the frame is no longer on that way.
 */
int tree_make_room(struct tree *tree, const uint8_t *key, uint32_t key_bytes,
    uint64_t frame_id, uint32_t room_bytes, struct tree_spares *spares, struct tree_need *need);

/* Folds the last frame on the way to @key, if it is thin, into its parent or a neighbour
 * if both fit well in one.  1: it did; 0: they do not. */
int tree_shrink(struct tree *tree, const uint8_t *key, uint32_t key_bytes,
    struct tree_spares *spares, struct tree_need *need);

/* One step towards fewer and fuller frames along @key: folds the last frame on the way to
 * it, as tree_shrink() but fuller, or packs it.  -ENOENT: nothing is left to do. */
int tree_compact(struct tree *tree, const uint8_t *key, uint32_t key_bytes,
    struct tree_spares *spares, struct tree_need *need);

/* Folds one frame without keys below the prefix, or finds that there is none: for
 * TREE_NEED_FOLD. */
int tree_fold_empty(struct tree *tree, const uint8_t *prefix, uint32_t prefix_bytes,
    struct tree_spares *spares, struct tree_need *need);

/*
 * Moves everything below byte prefix @src to @dst.  tree_move_check finds out that
 * the move can be made: -ENOENT (nothing there), -EEXIST, -EINVAL, -ENAMETOOLONG; it
 * leaves room for what the edits of @tx, latched before, will put there.  tree_move
 * then cannot fail, until the gate is opened; @move carries the pins from one to the
 * other.  @earlier are the moves of the same batch that go first: one may clear this
 * one's destination by moving away exactly that prefix; otherwise moves of a batch lie
 * apart (-EINVAL).  With dst_tree the destination is in that tree, which shares pool,
 * host and epoch with this one.  When all are done, tree_move_tidy() for each: it takes room that a
 * later one may have counted on.
 */
struct tree_move {
	struct tree *dst_tree; /* NULL: the same */
	const uint8_t *src, *dst;
	uint32_t src_bytes, dst_bytes;
	uint64_t src_frame, dst_frame;
	uint32_t src_depth, dst_depth;
	uint32_t src_slot, dst_slot; /* pinned; POOL_NO_SLOT: none */
	uint32_t spare_count; /* that it may use up */
	uint32_t place_count; /* frames it may dirty */
	uint64_t src_shape, dst_shape; /* as in struct tree_edit */
	void *cutting; /* scratch image */
};

int tree_move_check(struct tree *tree, struct tree_move *move, const struct tree_move *earlier,
    uint32_t earlier_count, struct tree_tx *tx, struct tree_spares *spares, struct tree_need *need);
void tree_move_tidy(struct tree *tree, struct tree_move *move);
void tree_move(struct tree *tree, struct tree_move *move, struct tree_spares *spares);
void tree_move_end(struct tree *tree, struct tree_move *move);

/* ---- whole frames -------------------------------------------------------------------- */

/* Fills in header and block checksums of an image about to be written: @header is a
 * copy of the image's first block.  Returns the header's checksum. */
uint32_t tree_frame_seal(const void *image, struct frame_header *header, uint64_t lsn, uint64_t uuid_seed);

/* Blocks of an image that hold anything. */
uint32_t tree_frame_used_blocks(const void *image);

/* Verifies what was read from disk, @used_blocks long.  0 or -EUCLEAN, with the
 * first bad block in @ret_block. */
int tree_frame_verify(const void *image, uint64_t frame_id, uint32_t header_checksum,
    uint32_t used_blocks, uint64_t uuid_seed, uint32_t *ret_block);

/*
 * Walks every node of an image from its root: each lies in the heap, once, and is
 * reached within its entry's range.  Calls back for each leaf (key: the bytes below
 * the root) and crossing.  -EUCLEAN with what is wrong in @ret_why.
 */
struct tree_visit {
	void *ctx;
	int (*leaf)(void *ctx, const uint8_t *key, uint32_t key_bytes, const struct node_leaf *leaf);
	int (*crossing)(void *ctx, const uint8_t *key, uint32_t key_bytes, const struct node_crossing *crossing);
};
int tree_frame_walk(const void *image, const struct tree_visit *visit, const char **ret_why);

#endif
