/*
 * The file layer's keys and values: what a tree of files looks like inside the
 * store.  core/fs writes it, core/check reads it too.
 *
 * Keys.  Names hold any byte but '/' and NUL; those two are the separators.  C(x),
 * the *contents prefix* of x, ends in '/', so that C(a) is a prefix of C(b) only if
 * a is b or an ancestor of b:
 *
 *   root's inode              "N"
 *   C(root)                 = "N/"
 *   C(name in d)            = C(d) name "/"
 *   entry of name in d        C(d) NUL name           -> inode record
 *   span of file f            C(f) NUL be64(offset)   -> span record
 *   large xattr of p          C(p) "/" xattr-name     (reserved)
 *   inode with several names  "L" be64(ino)           (reserved)
 *   inode without a name      "O" be64(ino)           -> inode record
 *   C(inode without a name) = "O" be64(ino) "/"
 *   shared blocks             "R" be64(block)         (reserved)
 *   volume records            "V" name
 *
 * A *span* is 512 KiB of a file, aligned: 128 blocks, as many as a frame holds.
 * Span 0 of a file is kept in its inode record, the others under C(f) NUL; spans
 * without blocks have no record.  A block is stored whole: what lies behind the end
 * of the file is zeros, but for the block of the end while INODE_TAIL_STALE is set.
 *
 * A block may be *claimed*: allocated by fallocate(2) and not written yet.  It reads
 * as zeros and has no place on the volume, only the right to one: as many blocks as
 * are claimed in all files together, which "Vclaims" counts, are kept free for them.
 * Claimed blocks may lie behind the end of the file.
 *
 * Integers are little-endian (big-endian in keys); reserved bytes are zeros.
 * Offsets in comments are asserted in fs_format.c.
 */
#ifndef HOLTFS_FORMAT_FS_FORMAT_H
#define HOLTFS_FORMAT_FS_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "format/format.h"

/* ---- keys ---------------------------------------------------------------- */

#define KEY_ROOT_INODE "N"
#define KEY_ROOT_CONTENTS "N/"
#define KEY_ORPHAN 'O'
#define KEY_VOLUME_INO_LIMIT "Vino" /* le64: no inode number is at or above it */
#define KEY_VOLUME_CLAIMS "Vclaims" /* le64: claimed blocks in all spans; absent: 0 */
#define KEY_ORPHAN_BYTES 9u	    /* 'O' and be64(ino) */

/*
 * How far keys below a directory may go past its contents prefix is bounded by its
 * record's `reach`, in units of 1 KiB.  An entry counts with its name and this
 * much for what hangs below it: "/", a separator, and a span's offset or the name
 * of an extended attribute.
 */
#define REACH_UNIT 1024u
#define REACH_BELOW_ENTRY 257u

/* ---- inode record -------------------------------------------------------- */

enum inode_body {
	INODE_BODY_NONE = 0,
	INODE_BODY_INLINE = 1, /* the file's first bytes, or a symlink's target */
	INODE_BODY_SPAN = 2,   /* a span record: span 0 */
};

/* flags */
#define INODE_HAS_SPANS 1u  /* spans above 0 may have records */
#define INODE_TAIL_STALE 2u /* the block of the end was cut, its rest not yet zeroed */
#define INODE_TRUNCATING 4u /* spans wholly beyond the size await removal */

#define INODE_FLAGS_KNOWN 7u

#define INODE_INLINE_MAX 3072u /* data of regular files */
#define INODE_BODY_MAX 4096u   /* the longest symlink */

enum inode_time { INODE_ATIME, INODE_MTIME, INODE_CTIME, INODE_BTIME, INODE_TIMES };

struct inode_record {
	uint8_t body;			/* 0: enum inode_body */
	uint8_t flags;			/* 1: INODE_* */
	le16 body_bytes;		/* 2: that follow this header */
	le32 mode;			/* 4: type and permissions */
	le64 ino;			/* 8 */
	le32 nlink;			/* 16 */
	le32 uid;			/* 20 */
	le32 gid;			/* 24 */
	le32 reach;			/* 28: directories, in REACH_UNITs */
	le64 rdev;			/* 32 */
	le64 size;			/* 40: bytes; directories: number of entries */
	le64 blocks;			/* 48: in all spans, claimed ones too */
	le64 seconds[INODE_TIMES];	/* 56: two's complement */
	le32 nanoseconds[INODE_TIMES];	/* 88 */
	le32 claimed;			/* 104: of these blocks */
	uint8_t reserved[4];		/* 108 */
};

#define INODE_RECORD_MAX (sizeof(struct inode_record) + INODE_BODY_MAX)

/* A record as it travels: header and body together. */
struct inode_value {
	union {
		struct inode_record head;
		uint8_t raw[INODE_RECORD_MAX];
	};
	uint32_t bytes;
};

static inline uint8_t *inode_value_body(struct inode_value *value)
{
	return value->raw + sizeof(struct inode_record);
}

/* 0, or -EUCLEAN if lengths or fields contradict each other or their ranges. */
int inode_value_verify(const void *bytes, uint32_t count);

/* ---- span record --------------------------------------------------------- */

struct extent {
	le16 first;   /* 0: block within the span */
	le16 count;   /* 2: at least 1 */
	le32 reserved; /* 4 */
	le64 block;   /* 8: of the volume; 0: claimed blocks */
};

/* Followed by the extents in order, then one le32 checksum for each block that has a
 * place. */
struct span_record {
	le16 extent_count; /* 0 */
	le16 block_count;  /* 2: in all extents, without claimed ones */
	le32 reserved;	   /* 4 */
};

#define SPAN_BLOCKS FRAME_BLOCKS
#define SPAN_BYTES FRAME_BYTES
#define SPAN_RECORD_MAX                                                        \
	(sizeof(struct span_record) +                                          \
	    SPAN_BLOCKS * (sizeof(struct extent) + sizeof(le32)))

/* A span, decoded: where each of its blocks lies, or one of the two below. */
struct span_map {
	uint64_t block[SPAN_BLOCKS];
	uint32_t checksum[SPAN_BLOCKS];
};

#define SPAN_HOLE 0u
#define SPAN_CLAIMED UINT64_MAX

static inline bool span_is_hole(const struct span_map *map, uint32_t i)
{
	return map->block[i] == SPAN_HOLE;
}

static inline bool span_is_claimed(const struct span_map *map, uint32_t i)
{
	return map->block[i] == SPAN_CLAIMED;
}

/* The block lies somewhere on the volume. */
static inline bool span_has_place(const struct span_map *map, uint32_t i)
{
	return !span_is_hole(map, i) && !span_is_claimed(map, i);
}

/* Writes at most SPAN_RECORD_MAX bytes and returns how many; 0: no blocks. */
uint32_t span_encode(const struct span_map *map, void *to);

/* -EUCLEAN: not a span record. */
int span_decode(const void *bytes, uint32_t count, struct span_map *ret);

/*
 * The longest run of the map from @first in which either all blocks are holes, or all
 * are claimed, or they follow each other on the volume.  @first is below SPAN_BLOCKS.
 */
uint32_t span_run(const struct span_map *map, uint32_t first);

#endif
