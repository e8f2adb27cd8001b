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
 * edge between frames changes.  Readers take no gate, and at first no latch: they take
 * versions, and validate them (descend.c, scan_frames.c).  Disturbed, they latch a
 * child, then validate that the parent has not changed since the edge was read; after
 * READ_RESTARTS_MAX failures they ask for the gate (-EBUSY).  Frame latches are taken in ascending frame id when more than one is
 * held.
 *
 * Copy on write.  The tree has an *epoch*, raised when a checkpoint begins.  A frame
 * image first changed in an older epoch and not yet on disk is frozen: a writer
 * copies it to a spare slot and goes on there, and the old slot becomes a lease of
 * the checkpoint (struct tree_host).  Opening a view raises the epoch as well: an image
 * born before is copied too, and the old one handed to the store, for the view.
 */
#ifndef HOLTFS_TREE_TREE_H
#define HOLTFS_TREE_TREE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "pool/pool.h"
#include "tree/buffer.h"
#include "tree/entries.h"
#include "tree/image.h"

/* What the tree tells the store. Called with latches held; must not block. */
struct tree_host {
	void *ctx;
	/* The frame was changed for the first time in this epoch. */
	void (*dirtied)(void *ctx, uint64_t frame_id);
	/* A frame id not in use. */
	uint64_t (*take_id)(void *ctx);
	/*
	 * An image in @slot, exclusively latched and leased, is no longer @frame_id's live
	 * one, and some view may need it.  True: the slot has been taken.
	 */
	bool (*retain)(void *ctx, uint64_t frame_id, uint32_t slot, uint64_t birth);
	/* The frame is gone.  Its slot is a lease of the tree or the checkpoint. */
	void (*dropped)(void *ctx, uint64_t frame_id);
};

struct tree_counters {
	_Atomic uint64_t restarts, splits, merges, compactions, cow_copies, moves;
};

/* A tree as it was when a view was opened (core/store/view.c). */
struct tree_view {
	void *ctx;
	/* The id under which the pool has the frame as the view sees it: its own, as long as
	 * it has not changed.  -ECANCELED: the view has ended. */
	int (*find)(void *ctx, uint64_t frame_id, uint64_t *ret_id);
};

struct tree {
	struct pool *pool;
	uint64_t root_id;
	uint64_t epoch; /* guarded by the gate: changed exclusively */
	/* Likewise: the epoch since the last checkpoint began.  Images dirty since before
	 * are the ones it writes. */
	uint64_t cut;
	_Atomic uint64_t newest_view; /* epoch that the newest open view ended; 0: none */
	bool keeps_order; /* set at init: frames go to a disk */
	const struct tree_view *view; /* set at init: read-only, as this view sees it */
	struct tree_host host;
	/* Raised, with the gate held exclusively, before and after edges between frames
	 * change: odd meanwhile, and from 2.  While it is the same, and even, a search may
	 * go on where it lacked a frame. */
	_Atomic uint64_t shape;
	_Atomic uint64_t move_count; /* moves so far */
	/* Frames, but for roots, that hold nothing at all.  While there are none, keys lie
	 * below each crossing.  Of all trees of a store, because moves take frames from one
	 * to another.  Changed under the exclusive latch of the frame that changes. */
	_Atomic uint64_t *empty_frames;
	/* At least the frames there are and have been since the store was opened: a search
	 * through the tree that comes to more of them met one twice. */
	_Atomic uint64_t *frames_ever;
	struct tree_counters counters;
};

/* The most bytes of room that a frame is made to have. */
#define TREE_ROOM_MAX (IMAGE_CAPACITY / 2)

enum tree_need_kind {
	TREE_NEED_NOTHING,
	TREE_NEED_FRAME,
	TREE_NEED_SLOTS,
	TREE_NEED_PLACES,
	TREE_NEED_ROOM,
	TREE_NEED_CUT,
	TREE_NEED_FOLD,
};

struct tree_need {
	enum tree_need_kind kind;
	uint64_t frame_id;	 /* FRAME: load it.  ROOM: make room in it.  CUT: cut it */
	/* FRAME, for the tree's own use when it is called again: where the search goes on
	 * while the tree has this shape, here, or at the frame above. */
	uint32_t depth, above_depth;
	uint64_t above_id, shape;
	uint32_t slots;		 /* SLOTS: leases to bring along */
	uint32_t places;	 /* PLACES: frames about to get dirty in this epoch */
	bool is_growth;		 /* PLACES: one of them is new */
	struct tree *tree;	 /* ROOM, CUT, FOLD: the frame's */
	uint32_t room_bytes;	 /* ROOM.  CUT: if more lies below the node at the top */
	const uint8_t *key;	 /* ROOM: a key whose search passes the frame.  CUT: the prefix
				  * below which all in the frame is cut off.  FOLD: the prefix
				  * below which a frame without keys lies */
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

/* The answer of tree_get() where the search in a frame's image ended like @path. */
int tree_copy_found(const void *image, const struct image_path *path, void *value,
    uint32_t capacity, uint32_t *ret_bytes, uint64_t *ret_version);

/* Does the search that lacked a frame still come to it?  (@need is of this tree.) */
bool tree_need_holds(struct tree *tree, const struct tree_need *need);

/* How far the search for a longest prefix has come, and the longest so far; its value is the
 * caller's.  Zeros at first. */
struct tree_longest {
	uint64_t frame_id;
	uint32_t depth;
	bool is_found;
	uint32_t found_bytes, value_bytes;
	uint64_t version;
};

/*
 * The longest key that @key begins with, @longest, and its value as tree_get() has it.
 * -ENOENT: none.  -EBUSY: call again with the gate held exclusively.  In a view a search
 * that lacked a frame goes on there, else at the root.
 */
int tree_longest_prefix(struct tree *tree, bool in_gate, const uint8_t *key, uint32_t key_bytes,
    struct tree_longest *longest, void *value, uint32_t capacity, struct tree_need *need);

/* ---- scanning (scan.c) ------------------------------------------------------------ */

/* Zero in a field: no such limit. */
struct tree_range {
	const void *prefix, *start;
	uint32_t prefix_bytes, start_bytes;
	bool is_after;	    /* keys behind @start; behind a common prefix, all it stands for */
	bool has_delimiter; /* a common prefix in place of keys with it behind the prefix */
	uint8_t delimiter;
	bool keys_only; /* items have neither value nor version */
};

#define TREE_ITEM_PREFIX UINT32_MAX

/* An item of a run.  Its key begins like that of the item before. */
struct tree_item {
	uint64_t version;
	uint32_t shared_bytes; /* of the key before */
	uint32_t key_bytes;
	uint32_t offset;      /* in `bytes`: the rest of the key, then the value */
	uint32_t value_bytes; /* TREE_ITEM_PREFIX: a common prefix */
};

struct scan_buffer {
	uint8_t *bytes;
	uint32_t used, size;
	bool is_own; /* from malloc(); else a part of the scan itself */
};

/* A node on the way, and what is still to visit of it. */
struct tree_level {
	uint64_t mask; /* see entries.h */
	node_ref node;
	uint8_t type;
	uint8_t word;
	uint32_t path_bytes; /* of the path, where the node branches */
};

/* A frame on the way. */
struct tree_stop {
	uint64_t frame_id, version;
	uint32_t slot;
	uint32_t level_base; /* its first level */
	uint32_t entered;    /* of its nodes, each of which is met once */
	uint32_t hop_level;  /* levels when it was left for a crossing, which stands */
	uint8_t hop_hi;	     /* for bytes up to this one */
};

#define TREE_RUN_ITEMS 128u
#define TREE_RUN_BYTES (64u * 1024)

/* A walk over a range, a run of items at a time; about 12 KiB. */
struct tree_scan {
	struct tree *tree;
	/* the range */
	uint32_t prefix_bytes;
	bool has_delimiter, keys_only;
	uint8_t delimiter;
	/* the run */
	uint32_t count, limit;
	struct scan_buffer bytes;
	/* Where the walk goes on if it cannot go on where it stopped: the key of the item
	 * taken last (tree_scan_take), or the one sought. */
	struct scan_buffer key;
	bool is_after;
	bool is_over;

	/* from here on the walk's own */
	bool has_stack;	 /* stops and levels are those where it stopped */
	bool in_gate, is_latched, holds_latch;
	bool is_exact;	 /* still on the way to the key sought */
	bool has_hop;	 /* the next step goes to frame hop_id */
	bool is_pending; /* it was lacking; the edge holds while the shape is hop_shape */
	bool has_progress;
	int failure; /* behind the items */
	uint32_t depth; /* of the path, where is_exact or has_hop goes on */
	uint32_t seek_group; /* of the key sought, with the delimiter; 0: it has none */
	uint32_t group;	     /* of the common prefix whose keys the path is among; 0: none */
	uint32_t shared;     /* of the path, since the last item */
	uint32_t committed;  /* items known to be true */
	uint64_t hop_id, hop_shape, move_count;
	const void *image;
	struct scan_buffer path;
	struct tree_level *levels;
	struct tree_stop *stops;
	uint32_t level_count, level_size, stop_count, stop_size;
	uint32_t hops; /* downwards, without any back */
	uint64_t frames; /* entered to be walked as a whole, since the seek or a move */
	uint64_t begins; /* at the root, likewise */
	uint32_t backs; /* since the range was set */

	struct tree_item items[TREE_RUN_ITEMS];
	struct tree_level first_levels[24];
	struct tree_stop first_stops[8];
	uint8_t first_path[384], first_key[384];
	uint8_t first_bytes[7 * 1024];
};

void tree_scan_init(struct tree_scan *scan, struct tree *tree);
void tree_scan_fini(struct tree_scan *scan);

/* -ENOMEM: the scan is as before. */
int tree_scan_seek(struct tree_scan *scan, const struct tree_range *range);

/*
 * Fetches the next items, at most @limit (and TREE_RUN_ITEMS), when all of the run before
 * have been taken.  -ENOENT: the end.  Each run is true: copied from frames while they did
 * not change.
 */
int tree_scan_run(struct tree_scan *scan, bool in_gate, uint32_t limit, struct tree_need *need);

/*
 * Makes @item, of the present run, the last one taken: its key stands in scan->key until
 * the next is taken.  Items are taken in order, each once.
 */
static inline void tree_scan_take(struct tree_scan *scan, const struct tree_item *item)
{
	copy_bytes(scan->key.bytes + item->shared_bytes, scan->bytes.bytes + item->offset,
	    item->key_bytes - item->shared_bytes);
	scan->key.used = item->key_bytes;
}

static inline const uint8_t *tree_scan_value(const struct tree_scan *scan, const struct tree_item *item)
{
	return scan->bytes.bytes + item->offset + (item->key_bytes - item->shared_bytes);
}

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
	bool is_as_seen; /* it has not changed since the searches, which found their paths */
	bool is_changed; /* by apply, so far */
};

/* A frame as a search without latches found it; POOL_NO_SLOT: it had to take one. */
struct tree_seen {
	uint32_t slot;
	uint64_t version;
};

/* With so few edits a key is searched for once, though it has guards and edits. */
#define TREE_TX_FEW 16

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
	/* Of few edits: the first with the same key, its frame, and how the search ended there. */
	uint32_t firsts[TREE_TX_FEW];
	struct tree_seen seen[TREE_TX_FEW];
	struct image_path paths[TREE_TX_FEW];
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

/*
 * One edit, and perhaps a guard on the same key, without a transaction around it.
 * tree_single_latch() answers as tree_tx_latch() does, and -EAGAIN for whatever is out of
 * the ordinary (a frame is lacking, frozen, still clean, or full): then nothing is held,
 * and a transaction has to do it.  With 0, tree_single_apply() cannot fail; it lets go.
 * What is to be erased may be absent.
 */
struct tree_single {
	const uint8_t *key, *value;
	uint32_t key_bytes, value_bytes;
	enum tree_edit_kind kind;  /* PUT or ERASE */
	enum tree_edit_kind guard; /* PUT: none */
	uint64_t guard_version;
	uint64_t version_most; /* the version that it will get is below */
	/* Set by tree_single_latch. */
	uint64_t frame_id;
	uint32_t slot, depth;
	struct image_path path;
	/* Set by tree_single_apply: tree_shrink pays. */
	bool wants_shrink;
};

int tree_single_latch(struct tree *tree, struct tree_single *single);
void tree_single_unlatch(struct tree *tree, struct tree_single *single);
void tree_single_apply(struct tree *tree, struct tree_single *single, uint64_t version);

/*
 * Puts and erases in the order of their keys, each key once, made one after the other as
 * far as nothing out of the ordinary is in the way.  Returns how many were made; the next
 * one is a transaction's.  Ends early behind one that wants_shrink.  Gate: held shared.
 */
uint32_t tree_run(struct tree *tree, struct tree_edit *edits, uint32_t count, uint64_t base_version);

/* The keys that come to a frame: those with the same @depth bytes, then one up to @hi. */
struct tree_reach {
	uint64_t frame_id;
	uint32_t slot;
	uint32_t depth;
	unsigned hi;
};

/* Does the way to the key end at a frame that is not in memory, @ret?  Gate: held shared. */
bool tree_lacks_frame(struct tree *tree, const uint8_t *key, uint32_t key_bytes, struct tree_reach *ret);

/* Does @key come there too, which is behind @first, which does? */
bool tree_reach_covers(const struct tree_reach *reach, const uint8_t *first, const uint8_t *key,
    uint32_t key_bytes);

/* ---- structural steps; gate held exclusively --------------------------------------- */

#define TREE_STEP_SLOTS 4
#define TREE_CUT_SLOTS 2 /* of tree_cut_off() */
#define TREE_STEP_FRAMES 3 /* that it may dirty */

/* Does what TREE_NEED_ROOM wants: packs the frame, or moves part of it to a new one.  0 also
 * if the frame is no longer on the way to the key. */
int tree_make_room(const struct tree_need *want, struct tree_spares *spares,
    struct tree_need *need);

/* Does what TREE_NEED_CUT wants: moves what lies below the prefix to a new frame, all but
 * the node at the top, which leads there.  0 also if it is not there any more. */
int tree_cut_off(const struct tree_need *want, struct tree_spares *spares,
    struct tree_need *need);

/* Folds the last frame on the way to @key, if it is thin, into its parent or a neighbour
 * if both fit well in one.  1: it did; 0: they do not. */
int tree_shrink(struct tree *tree, const uint8_t *key, uint32_t key_bytes,
    struct tree_spares *spares, struct tree_need *need);

/* One step towards fewer and fuller frames along @key: folds the last frame on the way to
 * it, as tree_shrink() but fuller, or packs it.  -ENOENT: nothing is left to do. */
int tree_compact(struct tree *tree, const uint8_t *key, uint32_t key_bytes,
    struct tree_spares *spares, struct tree_need *need);

/* Folds one frame without keys below the prefix (1), or finds that there is none: for
 * TREE_NEED_FOLD.  @fold, zeros at first, says where the search stands. */
struct tree_fold {
	struct tree_buffer key;
	uint64_t frame_id, shape;
	uint32_t depth;
	bool is_found;
};
int tree_fold_empty(struct tree *tree, const uint8_t *prefix, uint32_t prefix_bytes,
    struct tree_fold *fold, struct tree_spares *spares, struct tree_need *need);
void tree_fold_end(struct tree_fold *fold);

/* A frame that a walk was lacking, as long as the tree has this shape. */
struct tree_below {
	uint64_t frame_id, shape;
};

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
	struct tree_below src_below, dst_below;
	void *cutting; /* scratch image */
	/* Set by tree_move: the source's frame has become so empty that tree_shrink pays. */
	bool wants_shrink;
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

/* The same, piece by piece: the header (the first block), and @block of a frame whose
 * header has been verified. */
int tree_frame_verify_header(const struct frame_header *header, uint64_t frame_id,
    uint32_t header_checksum, uint32_t used_blocks, uint64_t uuid_seed);
int tree_frame_verify_block(const struct frame_header *header, uint32_t block, const void *bytes,
    uint64_t uuid_seed);

/*
 * Walks every node of an image from its root: each lies in the heap, once, and is
 * reached within its entry's range.  Calls back for each leaf (key: the bytes below
 * the root) and crossing.  -EUCLEAN with what is wrong in @ret_why.
 */
struct tree_visit {
	void *ctx;
	int (*leaf)(void *ctx, const uint8_t *key, uint32_t key_bytes, const struct node *leaf);
	int (*crossing)(void *ctx, const uint8_t *key, uint32_t key_bytes, const struct node_crossing *crossing);
};
int tree_frame_walk(const void *image, const struct tree_visit *visit, const char **ret_why);

#endif
