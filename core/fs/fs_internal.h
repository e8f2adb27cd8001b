/*
 * What the files of core/fs share.
 *
 * One `struct inode` for each inode the kernel or an operation knows.  While it is
 * in core it is the truth: replies take attributes from it, the tree's record may be
 * older in what is still to be written (size and extents of data under way, atime).
 *
 *	names gate   RANK_NAMESPACE  paths.  Shared by whoever builds path keys, until
 *	                             their commit; exclusive for renaming a directory.
 *	commit_mutex RANK_FS_COMMIT  one thread waits for segments' writes at a time
 *	inode->lock  RANK_INODE      shared to read, exclusive to change
 *	table shard  RANK_FS_TABLE   look-up counts and references
 *	claims_mutex RANK_CLAIMS     the tree's count of claims (reserve.c)
 *	segment_mutex RANK_SEGMENT   segments, promises of space
 *	the rest     RANK_LEAF       pending list, span list, inode numbers, worker
 *
 * Rules:
 *  1. The gate comes before everything; nobody waits for a data write or for another
 *     thread's commit while in it, because recording data needs the gate as well.
 *     (The store's own waits - checkpoints, frames - are fine: it never comes back
 *     up here.)
 *  2. Inode locks: directories first, from the root downwards (by depth, then by
 *     number), then everything else by number.
 *  3. The edge {parent, name} of a directory changes under the gate held
 *     exclusively; that of another inode under its own and both parents' exclusive
 *     locks.  So in the gate all paths of directories stand still, and the path of a
 *     file does for whoever also holds its lock or its parent's.
 *  4. An inode keeps its parent in core, and keeps pointing at it after it lost its
 *     name: a directory's chain of parents may be walked without locks in the gate.
 *  5. inode_put() may end the inode and write to the store: call it without any lock
 *     of rank RANK_INODE or later.
 *  6. Frame latches of cached data are taken last and never while waiting for
 *     anything but device reads into that very frame.
 */
#ifndef HOLTFS_FS_FS_INTERNAL_H
#define HOLTFS_FS_FS_INTERNAL_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/lock.h"
#include "device/device.h"
#include "format/fs_format.h"
#include "fs/fs.h"
#include "fs/reserve.h"
#include "pool/pool.h"
#include "space/space.h"
#include "store/store.h"

#define DIRECTORY_ENTRY_BYTES 64u /* st_size of a directory, for each entry */
#define BATCH_SPANS 32u		  /* span records changed by one transaction */
#define BATCH_KEY_BYTES (256u * 1024)
#define SPANS_PER_INODE 4096u	  /* kept in core, if nothing of them is pending */
#define NOT_PENDING UINT32_MAX

/*
 * How long keys may become by creating and renaming.  A transaction of two keys (an
 * entry and its directory, an inode and a span) must fit half a tree frame, where the
 * store counts each key three times.
 */
#define PATH_BYTES_MAX 41472u

#define TABLE_SHARDS 64u
#define SPARE_BATCHES 16u

struct segment;

/* 512 KiB of a file in core.  Guarded by the inode's lock. */
struct span {
	uint64_t index;
	uint32_t pending_count;
	uint32_t pending[SPAN_BLOCKS]; /* newer data: place in a segment, or NOT_PENDING */
	uint64_t recording[2];	       /* pending blocks in the transaction being made */
	struct span_map map;	       /* as recorded in the tree */
};

/* Guarded by the inode's lock. */
struct inode_attrs {
	uint32_t mode, nlink, uid, gid;
	uint64_t rdev;
	uint64_t size; /* directories: number of entries */
	struct timespec times[INODE_TIMES];
};

struct inode {
	/* set at init */
	uint64_t ino;
	uint32_t type; /* S_IFMT bits of mode */

	/* guarded by the table shard */
	struct inode *hash_next;
	uint64_t lookups;
	uint32_t references; /* one for all lookups, children, pending list, calls */

	pthread_rwlock_t lock;

	/* the edge: rule 3 */
	struct inode *parent; /* NULL: root */
	char *name;
	uint32_t name_len;

	/* guarded by lock */
	bool is_orphan;	  /* has no name */
	bool has_record;  /* the store has a record of it */
	bool is_spread;	  /* data is in spans, the record still has it inline */
	bool is_changed;  /* attributes the record does not have yet */
	uint8_t body;	  /* enum inode_body, as recorded */
	uint8_t flags;	  /* INODE_*, as recorded */
	uint16_t body_bytes;
	struct inode_attrs attr;
	uint64_t blocks;	  /* with data, pending or recorded, or claimed */
	uint64_t recorded_blocks;
	uint32_t claimed;	  /* of recorded_blocks */
	uint64_t recorded_size;	  /* files: of the record; <= attr.size */
	uint8_t *orphan_body;	  /* body of an orphan without record */
	struct span **spans;	  /* by index */
	uint32_t span_count, span_capacity;
	uint64_t pending_blocks;
	uint64_t pending_end; /* above all pending blocks of the file; 0: none */

	_Atomic uint32_t reach;	   /* directories; grows under lock */
	_Atomic uint32_t flushers; /* threads about to record all pending data */

	struct segment *stream; /* guarded by segment_mutex */

	/* guarded by pending_mutex */
	struct inode *pending_prev, *pending_next;
	bool is_pending;

	/* guarded by span_mutex: inodes with spans, oldest first */
	struct inode *span_prev, *span_next;
	bool is_span_listed;
};

struct table_shard {
	struct mutex mutex;
	struct inode **heads;
	uint32_t head_count; /* power of two */
	uint32_t inode_count;
};

/* What the file layer knows of a pool slot.  `loaded` is guarded by the slot's
 * latch; atomic: `readers`. */
struct slot_state {
	uint64_t loaded[2];	  /* read ahead, not verified yet */
	_Atomic uint32_t readers; /* pieces handed out */
};

struct fs {
	/* set at open */
	struct store *store;
	struct device *device;
	struct pool *pool;
	struct space *space;
	struct fs_options options;
	bool is_read_only;
	uint32_t segment_limit;
	uint64_t span_limit;
	struct inode *root;
	struct gate *names;
	struct slot_state *slots;	  /* by slot */
	struct segment **segment_of_slot; /* guarded by segment_mutex */

	_Atomic int error; /* sticky: data acknowledged and lost */

	struct table_shard table[TABLE_SHARDS];
	_Atomic uint64_t removals; /* inodes that left the table, ever */

	struct mutex number_mutex;
	_Atomic uint64_t next_ino; /* changes under number_mutex */
	uint64_t ino_limit;	   /* guarded by number_mutex: recorded */

	struct mutex commit_mutex;
	struct mutex claims_mutex;

	struct mutex segment_mutex;
	struct reserve reserve;
	struct condition segment_condition;
	struct segment *segments; /* guarded by segment_mutex, as the next two */
	struct segment *shared;
	_Atomic uint32_t segment_count;

	struct mutex pending_mutex;
	struct inode *pending; /* circular; guarded by pending_mutex */
	uint64_t pending_count;

	struct mutex span_mutex;
	struct inode *span_oldest; /* circular; guarded by span_mutex */
	_Atomic uint64_t span_total;

	struct mutex batch_mutex;
	struct store_batch *spare_batches[SPARE_BATCHES];
	uint32_t spare_batch_count;

	/* worker.c; guarded by worker_mutex but for the atomics */
	struct mutex worker_mutex;
	struct condition worker_condition;
	pthread_t worker;
	bool has_worker, worker_stops, worker_is_early;
	uint64_t changed_at_ns;
	uint64_t *reap_queue;
	uint32_t reap_count, reap_capacity, reaping; /* orphans waiting; in hand */
	_Atomic bool has_changes;
};

/* ---- fs.c --------------------------------------------------------------- */

int fs_check_writable(struct fs *fs); /* 0 or -EROFS */
void fs_set_error(struct fs *fs, int err);

/* A batch to fill and commit; commit notes the change for the worker. */
int batch_take(struct fs *fs, struct store_batch **ret);
void batch_give(struct fs *fs, struct store_batch *batch); /* NULL allowed */
int batch_commit(struct fs *fs, struct store_batch *batch);

/* The same for what gives space back or keeps a promise (acknowledged data): it may
 * use the reserve.  Without the change being noted for the worker. */
int batch_commit_last(struct fs *fs, struct store_batch *batch);

struct timespec time_now(void);
int name_check(struct fs_name name);
bool name_is(struct fs_name name, const struct inode *inode);

/* What a read found damaged, logged once no lock is held. */
struct damage {
	bool is_set;
	uint64_t offset; /* in the file */
	uint64_t block;	 /* of the volume */
};
void damage_log(struct fs *fs, struct inode *inode, const struct damage *damage);

/* ---- key.c -------------------------------------------------------------- */

#define KEY_SMALL 320u

struct key {
	uint32_t bytes;
	uint32_t base; /* span keys: bytes before the offset */
	uint32_t capacity;
	uint8_t *at; /* small or from the heap */
	uint8_t small[KEY_SMALL];
};

void key_init(struct key *key);
void key_fini(struct key *key);

/* Declares an empty key that goes with its scope. */
#define KEY_ON_STACK(name)                                                     \
	struct key name __attribute__((cleanup(key_fini)));                    \
	key_init(&name)

/* Each replaces what the key was.  -ENAMETOOLONG, -ENOMEM. */
int key_contents(struct key *key, const struct inode *inode);
int key_entry(struct key *key, const struct inode *dir, struct fs_name name);
int key_entries(struct key *key, const struct inode *dir); /* prefix of all entries */
int key_inode(struct key *key, const struct inode *inode);

/* C(name in @dir), or with @for_spans the prefix of that file's spans. */
int key_child(struct key *key, const struct inode *dir, struct fs_name name, bool for_spans);
int key_spans(struct key *key, const struct inode *inode); /* prefix of all spans */
void key_set_span(struct key *key, uint64_t index);	   /* after key_spans */
void key_orphan(struct key *key, uint64_t ino);
void key_orphan_spans(struct key *key, uint64_t ino);

uint64_t contents_bytes(const struct inode *inode); /* length of its C() */
uint32_t inode_depth(const struct inode *inode);    /* 0: root */
bool is_ancestor(const struct inode *above, const struct inode *below); /* or same */

/* The path a key stands for, for messages. */
#define DESCRIBE_BYTES 600u
const char *key_describe(const struct key *key, char buf[DESCRIBE_BYTES]);

/* ---- record.c ----------------------------------------------------------- */

/* Reads and checks the record at @key.  -ENOENT; -EUCLEAN, logged. */
int record_get(struct fs *fs, const struct key *key, struct inode_value *ret);

/* Header from the inode in core, with the body it says is recorded. */
void record_fill(const struct inode *inode, struct inode_value *value);
void record_set_body(struct inode_value *value, enum inode_body body, uint32_t bytes);
void record_read(struct inode *inode, const struct inode_value *value);

/* The inode's record with its present body (read from the store if it has one) and
 * a header from core. In the gate, inode locked. */
int record_load(struct fs *fs, struct inode *inode, struct inode_value *ret);

/* Puts the record in a transaction of its own.  An orphan without record keeps its
 * body in core instead.  In the gate, inode locked exclusively. */
int record_save(struct fs *fs, struct inode *inode, struct inode_value *value);

/* record_load, new header, record_save. */
int record_update(struct fs *fs, struct inode *inode);

/* Adds the record of an inode without body to a batch. */
int record_put_plain(struct store_batch *batch, const struct inode *inode);

/* ---- inode.c ------------------------------------------------------------ */

int table_init(struct fs *fs);
void table_fini(struct fs *fs); /* frees whatever is left */

struct inode *inode_new(uint64_t ino, uint32_t mode);
void inode_free(struct fs *fs, struct inode *inode);

/* Sets the edge of an inode nobody else knows yet; takes a reference of @parent. */
int inode_set_edge(struct fs *fs, struct inode *inode, struct inode *parent, struct fs_name name);

/* Makes a new inode known, with @lookups.  Its caller has a reference. */
void inode_publish(struct fs *fs, struct inode *inode, uint64_t lookups);

/* By number, with a reference; -ESTALE. */
int inode_get(struct fs *fs, uint64_t ino, struct inode **ret);
void inode_hold(struct fs *fs, struct inode *inode);
void inode_put(struct fs *fs, struct inode *inode); /* NULL allowed */

/*
 * The inode of entry @name in @parent (locked, in the gate), whose record is @value;
 * @removals is fs->removals from before the record was read.  With a reference.
 */
int inode_intern(struct fs *fs, struct inode *parent, struct fs_name name,
    struct inode_value *value, uint64_t removals, struct inode **ret);

void inode_add_lookup(struct fs *fs, struct inode *inode);
bool inode_has_lookups(struct fs *fs, struct inode *inode);
void table_forget_all(struct fs *fs);

void inode_lock(struct inode *inode);
void inode_lock_shared(struct inode *inode);
void inode_unlock(struct inode *inode);

/* Locks a directory that still has a name: -ENOTDIR, -ENOENT. */
int directory_lock(struct inode *dir, bool is_exclusive);

void inode_attr(const struct inode *inode, struct fs_attr *ret);

/* ---- dir.c, create.c ---------------------------------------------------- */

/* The record of @name in @dir and the inode in core, with a reference.  In the gate,
 * @dir locked. */
int entry_open(struct fs *fs, struct inode *dir, struct fs_name name,
    struct inode_value *value, struct inode **ret);

/* -ENOTEMPTY, or 0. */
int directory_check_empty(struct fs *fs, const struct inode *dir);

/* An entry came (+1) or went (-1), a subdirectory did: in core only. */
void directory_change(struct inode *dir, int entries, int subdirectories, struct timespec now);

/* Once nothing is below a directory the bound on its keys starts again, in core until
 * its record is next put: who is about to make an entry needs no more than a unit. */
void directory_check_emptied(struct inode *dir);

/* Makes sure that keys may extend @bytes past C(dir).  In the gate, no inode locked. */
int reach_ensure(struct fs *fs, struct inode *dir, uint64_t bytes);

/* ---- attr.c ------------------------------------------------------------- */

/* relatime: is the access time older than the last change, or than a day? */
bool atime_is_due(struct fs *fs, const struct inode *inode); /* locked */

/* Then it is now, in core, and in the record with the next commit.  No lock held. */
void atime_note(struct fs *fs, struct inode *inode);

/* ---- orphan.c ----------------------------------------------------------- */

/* An inode on the way to losing its last name. */
struct unnaming {
	struct inode *inode; /* NULL: none */
	struct inode_attrs before;
	bool keeps_record;
	bool is_forgotten; /* nobody knows it any more */
	uint8_t *body;
	uint32_t claims; /* that go with it in this transaction */
};

/* Adds to @batch what becomes of the contents.  @value is the inode's record; the
 * inode is locked exclusively. */
int unname_prepare(struct fs *fs, struct inode *inode, struct inode_value *value,
    struct timespec now, struct store_batch *batch, struct unnaming *ret);
void unname_apply(struct fs *fs, struct unnaming *unnaming);
void unname_cancel(struct unnaming *unnaming);

/* Removes an orphan's contents and record, in bounded steps. */
int orphan_remove(struct fs *fs, uint64_t ino);

/* Those a crash left. */
int orphan_remove_all(struct fs *fs);

/* The last reference of an orphan with a record went. */
void orphan_release(struct fs *fs, uint64_t ino, uint8_t flags);

/* Spans to delete from a prefix of span keys. */
struct span_range {
	struct key *prefix;
	uint64_t first;
	uint32_t most; /* in one batch; long keys make it less */
};

/* What goes with spans. */
struct span_counts {
	uint64_t blocks, claims; /* claims are blocks too */
};

/* Adds deletes of their records, and frees of their blocks, to @batch. */
int spans_delete(struct fs *fs, const struct span_range *range, struct store_batch *batch,
    struct span_counts *ret, bool *ret_is_all);

/* A batch was more than the store takes at once: is there a smaller one?  Then *most
 * is what it may change. */
static inline bool batch_may_shrink(int err, uint32_t *most)
{
	if ((err != -E2BIG && err != -ENOSPC) || *most <= 1)
		return false;
	*most = *most > 4 ? *most / 4 : 1;
	return true;
}

/* ---- extent.c ----------------------------------------------------------- */

/* The span in core, or NULL. Inode locked. */
struct span *span_find(const struct inode *inode, uint64_t index);

/* Where in inode->spans it is, or would be. */
uint32_t span_position(const struct inode *inode, uint64_t index);

/* What the tree says of it, without keeping it in core; all holes if it says nothing.
 * In the gate, inode locked. */
int span_load(struct fs *fs, struct inode *inode, uint64_t index, struct span_map *ret);

/* The span, from the tree if need be.  In the gate, inode locked exclusively.  Other
 * spans' pointers are void afterwards, unless something of them is pending. */
int span_get(struct fs *fs, struct inode *inode, uint64_t index, struct span **ret);

/* The inode's spans from @first on leave core; pending data there is dropped. */
void spans_drop(struct fs *fs, struct inode *inode, uint64_t first);

/* Pending data of blocks from @first to before @end is dropped. */
void span_drop_pending(struct fs *fs, struct inode *inode, struct span *span, uint32_t first,
    uint32_t end);

/* Block @i now has its newest data at @place. */
void span_set_pending(struct fs *fs, struct inode *inode, struct span *span, uint32_t i, uint32_t place);

/* Adds uses or frees of the blocks picked by @mask to @batch. */
void span_use_blocks(const struct span_map *map, const uint64_t mask[2], struct store_batch *batch);
void span_free_blocks(const struct span_map *map, const uint64_t mask[2], struct store_batch *batch);

static inline bool mask_has(const uint64_t mask[2], uint32_t i)
{
	return mask[i / 64] >> (i % 64) & 1;
}

static inline void mask_set(uint64_t mask[2], uint32_t i)
{
	mask[i / 64] |= 1ull << (i % 64);
}

static inline void mask_clear(uint64_t mask[2], uint32_t i)
{
	mask[i / 64] &= ~(1ull << (i % 64));
}

/* ---- segment.c, segment_write.c ------------------------------------------ */

/* Where a pending block is: slot of the segment and position in it. */
static inline uint32_t pending_slot(uint32_t place)
{
	return place / SPAN_BLOCKS;
}

static inline uint32_t pending_position(uint32_t place)
{
	return place % SPAN_BLOCKS;
}

int segments_init(struct fs *fs);
void segments_fini(struct fs *fs);

/* Fresh blocks of a segment to fill; end with segment_filled(). */
struct segment_piece {
	struct segment *segment;
	uint32_t place; /* of the first */
	uint32_t count;
	uint8_t *memory;
};

/* 1..@want blocks for data of @inode (locked exclusively).  -ENOSPC, -ENOBUFS. */
int segment_take(struct fs *fs, struct inode *inode, enum block_use use, uint32_t want,
    struct segment_piece *ret);

/* A pending block that may still be changed where it is; false: it is on its way to
 * the device. */
bool segment_reopen(struct fs *fs, uint32_t place, struct segment_piece *ret);
void segment_filled(struct fs *fs, const struct segment_piece *piece);

/* Memory of a pending block, to read; the inode's lock keeps it. */
const uint8_t *segment_memory(struct fs *fs, uint32_t place);

/* The pending block's place on the device if it was written; false: not yet. */
bool segment_is_written(struct fs *fs, uint32_t place, uint64_t *ret_block, uint32_t *ret_checksum);

/* The pending block is recorded; or nobody needs it any more. */
void segment_recorded(struct fs *fs, uint32_t place);
void segment_drop(struct fs *fs, uint32_t place);

/* Takes no more data; unused blocks go back. */
void segment_close_stream(struct fs *fs, struct inode *inode);
void segments_close(struct fs *fs, bool with_shared);

/* Writes what the segments hold now and waits: all, or those in slots[].  The first
 * error is returned and sticks. */
int segments_write(struct fs *fs, const uint32_t *slots, uint32_t slot_count);

/* ---- data_cache.c ------------------------------------------------------- */

/* Blocks that lie in one frame, with their checksums. */
struct block_run {
	uint64_t block;
	uint32_t count;
	const uint32_t *checksums;
};

/* The blocks were allocated for new data: what is cached of them is void. */
void cache_forget(struct fs *fs, uint64_t block, uint32_t count);

/*
 * Pins the cached frame if it has the whole run.  With @loads it is brought in, the
 * frame's used part at once.  -ENOENT: not there and not asked to load; -EIO: does
 * not verify, @ret_bad is the block; -ENOBUFS: no memory.
 */
int cache_pin(struct fs *fs, const struct block_run *run, bool loads,
    uint32_t *ret_slot, uint64_t *ret_bad);
void cache_unpin(struct fs *fs, uint32_t slot);

/* A leased slot whose blocks at mask's positions are those of @frame: it becomes the
 * frame's cache or is copied into it.  Takes the lease. */
void cache_adopt(struct fs *fs, uint64_t frame, uint32_t slot, const uint64_t mask[2]);

/* One block into @buf (aligned). */
int cache_read_block(struct fs *fs, uint64_t block, uint32_t checksum, void *buf);

/* ---- commit.c ----------------------------------------------------------- */

void pending_add(struct fs *fs, struct inode *inode);
void pending_remove(struct fs *fs, struct inode *inode);

/* All pending data of the inode is dropped (an orphan nobody knows).  Locked
 * exclusively. */
void pending_discard(struct fs *fs, struct inode *inode);

/* Writes and records pending data and attributes: this inode's, everybody's.  Out of
 * the gate, no lock held. */
int flush_inode(struct fs *fs, struct inode *inode);
int flush_all(struct fs *fs);

/* The size a record may say: no further than the first block that is pending, not in
 * the transaction being made, and not covered by the size recorded already. */
uint64_t recorded_size_next(const struct inode *inode);

/* ---- write.c, truncate.c ------------------------------------------------ */

/* Answers of write steps besides 0 and errors: drop all locks, do that, try again. */
enum { RETRY_AFTER_FLUSH = 1, RETRY_AFTER_TRUNCATE = 2 };

/* Writes part of a block, or with @bytes 0 only zeros what lies behind the end of the
 * file.  In the gate, locked exclusively. */
int block_rewrite(struct fs *fs, struct inode *inode, uint64_t block, uint32_t from,
    const void *data, uint32_t bytes, struct damage *damage);

/* Zeros the rest of a block that an earlier truncation cut, before the file grows. */
int tail_repair(struct fs *fs, struct inode *inode, struct damage *damage);

/* Moves inline data into pending blocks. */
int inode_spread(struct fs *fs, struct inode *inode, struct damage *damage);

int inode_set_size(struct fs *fs, struct inode *inode, uint64_t size, struct damage *damage);

/* Removes spans behind the end that a truncation left.  No lock held. */
int truncate_finish(struct fs *fs, struct inode *inode);

/* Makes space in memory and on the volume for more data.  No lock held. */
int write_make_room(struct fs *fs);

/* Does what a step could not; else its answer.  *made_room: and nothing came of it. */
int write_help(struct fs *fs, struct inode *inode, int answer, bool *made_room);

/* ---- worker.c ----------------------------------------------------------- */

void worker_note_change(struct fs *fs);
void worker_hurry(struct fs *fs); /* commit soon */
bool worker_queue_reap(struct fs *fs, uint64_t ino); /* false: do it yourself */
void worker_reap_now(struct fs *fs); /* until none is left, also in other hands */
int worker_start(struct fs *fs);
void worker_stop(struct fs *fs);

#endif
