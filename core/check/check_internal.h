/*
 * What the files of core/check share.
 *
 *   check.c        the order of things, opening, reports
 *   check_set.c    a sparse set of numbers
 *   check_maps.c   pages of manifest and space map, before the store is opened
 *   check_frame.c  reading one tree frame
 *   check_tree.c   every tree frame, and every key in order
 *   check_space.c  who names which block, against the space map
 *   check_fs.c     keys: directories, entries, what hangs below what
 *   check_level.c  the directories on the way to the present key
 *   check_inode.c  values: inode records and span records
 *   check_data.c   content of data blocks
 *   check_text.c   keys as text
 *
 * Functions return 0, or an error that ends the walk (-ENOMEM).  What is wrong with
 * the volume is no error here: it is reported, and the walk goes on.
 */
#ifndef HOLTFS_CHECK_CHECK_INTERNAL_H
#define HOLTFS_CHECK_CHECK_INTERNAL_H

#include "check/check.h"

#include "device/device.h"
#include "format/format.h"
#include "format/fs_format.h"
#include "store/store.h"
#include "tree/tree.h"

/* ---- a set of numbers --------------------------------------------------------- */

struct number_chunk;

/* Empty when all zeros.  Memory: about a bit a number where numbers are dense. */
struct number_set {
	struct number_chunk **slots; /* by hash of the chunk's number */
	uint32_t slot_count;	     /* power of two, or 0 */
	uint32_t chunk_count;
	struct number_chunk *last; /* the chunk used last */
};

int number_set_add(struct number_set *set, uint64_t number, bool *ret_was_in);
bool number_set_has(struct number_set *set, uint64_t number);
void number_set_remove(struct number_set *set, uint64_t number);
void number_set_fini(struct number_set *set);

/* ---- the walk ------------------------------------------------------------------- */

/* Keys that could not be read: those that begin with @prefix and a byte lo..hi. */
struct gap {
	uint8_t *prefix;
	uint32_t prefix_bytes;
	uint8_t lo, hi;
};

struct files;
struct data_queue;

struct check {
	struct check_options options;
	struct check_totals totals;
	struct device *device; /* the store's, once that is open */
	struct store *store;
	struct superblock superblock;
	uint64_t seed;
	bool is_replayed; /* the log changed the state since the last checkpoint */

	/* check_tree.c */
	struct number_set frames; /* ids that a crossing names */
	struct gap *gaps;
	uint32_t gap_count, gap_size;
	double fill_sum;
	uint64_t empty_frames; /* but for roots */

	/* check_space.c */
	struct number_set named; /* blocks */
	bool is_naming_incomplete; /* something that names blocks could not be read */
	bool is_internal_damaged; /* a frame of the internal tree was left out */

	struct files *files;
	struct data_queue *data;
};

void report(struct check *check, enum check_severity severity, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#define report_damage(check, ...) report(check, CHECK_DAMAGE, __VA_ARGS__)
#define report_leak(check, ...) report(check, CHECK_LEAK, __VA_ARGS__)
#define report_note(check, ...) report(check, CHECK_NOTE, __VA_ARGS__)

/* For arguments of %llu. */
typedef unsigned long long ull;

/* ---- check_text.c ----------------------------------------------------------------- */

#define PATH_TEXT 600u

/* What the first bytes of a key stand for, fit for a line of text. */
void describe_key(const uint8_t *key, uint32_t bytes, char text[PATH_TEXT]);

/* The bytes themselves. */
void quote_key(const uint8_t *key, uint32_t bytes, char text[PATH_TEXT]);

/* ---- check_maps.c ----------------------------------------------------------------- */

int check_maps(struct check *check);

/* ---- check_frame.c ----------------------------------------------------------------- */

/* Memory for an image, with free(). */
uint8_t *check_frame_alloc(void);

/* -EUCLEAN: it does not verify, which has been reported. */
int check_frame_read(struct check *check, uint64_t frame_id, uint8_t *image);

/* tree_frame_walk(), with the same. */
int check_frame_walk(struct check *check, uint64_t frame_id, const uint8_t *image,
    const struct tree_visit *visit);

/* ---- check_tree.c ------------------------------------------------------------------ */

int check_tree(struct check *check);

/* Could keys that begin with @prefix lie in a gap?  Then what seems to be missing
 * there may be lost with the frame that was reported. */
bool is_in_gap(const struct check *check, const uint8_t *prefix, uint32_t bytes);

/* ---- check_space.c ----------------------------------------------------------------- */

enum owner_kind { OWNER_FRAME, OWNER_MAP, OWNER_FILE };

struct owner {
	enum owner_kind kind;
	uint64_t number;   /* frame id or inode number */
	uint64_t offset;   /* files: in bytes */
	const char *path;  /* files */
};

/* @owner says that the blocks are its own.  *ret_good: they may be. */
int name_blocks(struct check *check, uint64_t block, uint32_t count, const struct owner *owner,
    bool *ret_good);

/* Names the blocks of tree frames and map pages: before files, so that what a file
 * shares with them is told of the file. */
int name_own_blocks(struct check *check);

/* After everything has named its blocks. */
int check_space(struct check *check);

/* ---- check_fs.c, check_inode.c ------------------------------------------------------ */

int files_create(struct check *check);
void files_destroy(struct files *files); /* NULL allowed */

/* Keys in ascending order, then the end. */
int files_key(struct check *check, const uint8_t *key, uint32_t key_bytes, const uint8_t *value,
    uint32_t value_bytes);
int files_end(struct check *check);

enum inode_kind {
	KIND_OTHER,	/* nothing hangs below it */
	KIND_FILE,	/* spans may */
	KIND_DIRECTORY, /* entries may */
	KIND_UNKNOWN,	/* the record is damaged or missing */
};

/* What is remembered of an inode until everything below it has been seen. */
struct known_inode {
	uint64_t ino, size, blocks;
	uint64_t counted; /* blocks found so far */
	uint32_t claimed, counted_claims; /* likewise, of these */
	uint32_t nlink, reach;
	uint8_t kind; /* enum inode_kind */
	uint8_t flags;
	bool is_orphan;
	bool is_uncertain; /* a record of it was damaged: counts say nothing */
};

/* Checks an inode's record at @path, names the blocks of span 0. */
int check_inode(struct check *check, const char *path, const uint8_t *value, uint32_t bytes,
    bool is_orphan, struct known_inode *ret);

/* Checks the record of the span at @offset of the file. */
int check_span(struct check *check, const char *path, struct known_inode *inode,
    uint64_t offset, const uint8_t *value, uint32_t bytes);

/* All spans of the file have been seen. */
void check_blocks(struct check *check, const char *path, const struct known_inode *inode);

/* ---- check_level.c -------------------------------------------------------------------- */

/* An entry that keys may follow for. */
struct child {
	struct known_inode inode;
	uint32_t name; /* place in the level's names */
	uint8_t name_bytes;
	bool is_visited;
};

struct level {
	uint32_t prefix_bytes; /* of C(it) in the path */
	uint32_t name_bytes;   /* of its own name; 0: the root, an orphan */
	struct known_inode inode;
	bool is_passed_over; /* nothing is known of it: keys below mean nothing */
	/* directories */
	struct child *children; /* in the order of name "/" once is_sorted */
	uint32_t child_count, child_size;
	bool is_sorted;
	char *names;
	uint32_t names_bytes, names_size;
	uint64_t entries, subdirectories;
	uint64_t need; /* how far keys go past C(it) */
};

struct files {
	struct number_set inodes;
	uint64_t ino_limit;
	bool has_root, has_limit;
	uint64_t claims;	/* found in spans so far */
	uint64_t claims_record; /* what the counter says */
	bool is_claims_damaged; /* it says nothing */
	struct level *levels;
	uint32_t level_count, level_size;
	uint8_t *path; /* C(lowest level) */
	uint32_t path_size;
};

struct key_value {
	const uint8_t *key, *value;
	uint32_t key_bytes, value_bytes;
};

/* Writes into the path behind its first @keep bytes. */
int path_set(struct files *files, uint32_t keep, const void *bytes, uint32_t count);

int levels_push(struct check *check, const struct level *level);

/* Ends the levels that the key (NULL: none) does not lie below. */
int levels_unwind(struct check *check, const struct key_value *item);

struct child *level_find_child(struct level *level, const char *name, uint32_t bytes);
int level_remember_child(struct level *level, const uint8_t *name, uint8_t name_bytes,
    const struct known_inode *inode);
void level_free(struct level *level);

/* ---- check_data.c -------------------------------------------------------------------- */

/* Blocks [first, first + count) of @map, which follow each other on the volume, of the
 * span at @offset.  Bytes at and after @end (UINT64_MAX: none) must be zeros. */
int data_add(struct check *check, const char *path, uint64_t offset, const struct span_map *map,
    uint32_t first, uint32_t count, uint64_t end);
int data_create(struct check *check);
void data_finish(struct check *check); /* verifies what is queued */
void data_destroy(struct data_queue *queue); /* NULL allowed */

#endif
