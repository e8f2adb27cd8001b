/*
 * Every byte of a volume that is not inside a tree node, a journal record's body
 * or a file-layer value.  docs/format.md draws the whole.
 *
 *   frame 0        superblock A at byte 0, superblock B at byte 256 KiB
 *   frames 1..J    journal, a circular byte log addressed by LSN
 *   frames J+1..   tree frames, map pages and file data, allocated on demand
 *
 * A *frame* is 512 KiB, a *block* 4 KiB.  Frames and blocks are numbered from the
 * start of the volume.  Integers are little-endian, structures naturally aligned
 * and free of holes; reserved bytes are written as zeros and ignored when read.
 * Offsets in comments are bytes from the start of the structure; format.c asserts
 * them.
 */
#ifndef HOLTFS_FORMAT_FORMAT_H
#define HOLTFS_FORMAT_FORMAT_H

#include "base/bytes.h"

#define BLOCK_BYTES 4096u
#define FRAME_BYTES (512u * 1024)
#define FRAME_BLOCKS (FRAME_BYTES / BLOCK_BYTES) /* 128 */

/* A smaller volume has no room for its journal, a larger one is not mapped. */
#define VOLUME_BYTES_MIN (16ull * 1024 * 1024)
#define VOLUME_BYTES_MAX (254ull * 254 * 254 * FRAME_BYTES) /* MAP_ENTRIES_MAX */

#define UUID_BYTES 16
#define LABEL_BYTES 64 /* with the terminating NUL */

/* ---- superblock ------------------------------------------------------- */

#define FORMAT_VERSION 1u
#define SUPERBLOCK_A_OFFSET 0u
#define SUPERBLOCK_B_OFFSET (256u * 1024)

/*
 * Feature masks.  An unknown bit in incompat: the volume is refused; in
 * ro_compat: it may be opened for reading only; in compat: ignored.
 */
#define FEATURES_COMPAT_KNOWN 0ull
#define FEATURES_RO_COMPAT_KNOWN 0ull
#define FEATURES_INCOMPAT_KNOWN FEATURE_PIECES

/* incompat: replay_pieces is not 0. */
#define FEATURE_PIECES BIT(0)

#define SUPERBLOCK_CLEAN BIT(0) /* flags: closed after a final checkpoint */

struct map_root {
	le64 block;    /* 0: the map is empty */
	le32 checksum; /* of the root page */
	le32 reserved;
};

struct superblock {
	uint8_t magic[8];		     /* 0: "holtfs\r\n" */
	le32 checksum;			     /* 8: of the block, this field as 0 */
	le32 version;			     /* 12 */
	le64 compat;			     /* 16 */
	le64 ro_compat;			     /* 24 */
	le64 incompat;			     /* 32 */
	uint8_t uuid[UUID_BYTES];	     /* 40 */
	uint8_t label[LABEL_BYTES];	     /* 56: NUL padded */
	le64 frame_count;		     /* 120: of the volume */
	le64 journal_first_frame;	     /* 128 */
	le64 journal_frames;		     /* 136 */
	le64 generation;		     /* 144: +1 with each superblock write */
	le64 checkpoint_lsn;		     /* 152: replay starts here */
	le64 open_id;			     /* 160: random, of the last writable open */
	le64 flags;			     /* 168: SUPERBLOCK_* */
	le64 created_ns;		     /* 176: CLOCK_REALTIME */
	le64 written_ns;		     /* 184 */
	struct map_root manifest;	     /* 192: frame id -> disk frame */
	struct map_root space;		     /* 208: blocks in use */
	le64 user_root;			     /* 224: frame id of the tree's root */
	le64 internal_root;		     /* 232: of dropped subtrees; 0: none */
	le64 frame_id_end;		     /* 240: frame ids in use are below */
	le32 replay_pieces;		     /* 248: of the record at checkpoint_lsn, applied */
	le32 reserved0;			     /* 252 */
	le64 empty_frames;		     /* 256: crossings lead to them, but nothing is there */
	uint8_t reserved[BLOCK_BYTES - 264]; /* 264 */
};

extern const uint8_t superblock_magic[8];

enum superblock_verdict {
	SUPERBLOCK_GOOD,
	SUPERBLOCK_NOT_OURS,	/* magic does not match */
	SUPERBLOCK_DAMAGED,	/* checksum or a field out of range */
	SUPERBLOCK_BAD_VERSION, /* ours, of another format version */
	SUPERBLOCK_UNKNOWN_INCOMPAT,
	SUPERBLOCK_UNKNOWN_RO_COMPAT, /* fit for reading only */
};

/* Fills in the checksum. */
void superblock_seal(struct superblock *sb);

/*
 * @volume_bytes is the size of the file or device: a superblock that describes
 * more frames than that is DAMAGED (a truncated volume).  0: not checked.
 */
enum superblock_verdict superblock_verify(const struct superblock *sb, uint64_t volume_bytes);

/* What is wrong with it, to stand behind "superblock A: ".  NULL: good. */
const char *superblock_verdict_text(enum superblock_verdict verdict);

/* A 64-bit seed for checksums, from the volume's UUID. */
uint64_t uuid_seed(const uint8_t uuid[UUID_BYTES]);

/* ---- map pages (core/space) ------------------------------------------- */

/*
 * Two maps are stored as three-level trees of 4 KiB pages that are rewritten to
 * fresh blocks: the manifest (entry = manifest_entry, index = frame id) and the
 * space map (entry = 128-bit block bitmap of one disk frame, index = frame).
 * Every page holds 254 entries of 16 bytes: root -> 254 middle -> 254 leaf pages,
 * so 254^3 entries, 8.6 TB of frames.  A zero pointer is a page of zeros.
 */
#define MAP_PAGE_ENTRIES 254u
#define MAP_ENTRIES_MAX (254ull * 254 * 254)
#define MAP_PAGE_MAGIC 0x50414d48u /* "HMAP" */

enum map_kind { MAP_MANIFEST = 1, MAP_SPACE = 2 };

struct map_pointer {
	le64 block;
	le32 checksum;
	le32 reserved;
};

struct manifest_entry {
	le64 disk_frame;      /* 0: no such tree frame */
	le32 header_checksum; /* of the frame's first block */
	le32 used_blocks;     /* blocks of the frame that were written */
};

struct space_entry {
	le64 used[2]; /* bit i of used[i / 64]: block i is in use */
};

struct map_page {
	le32 checksum;	      /* 0: of the page from byte 4, seeded with the UUID */
	le32 magic;	      /* 4 */
	uint8_t kind;	      /* 8: enum map_kind */
	uint8_t level;	      /* 9: 0 leaf, 1 middle, 2 root */
	uint8_t reserved0[6]; /* 10 */
	le64 first_index;     /* 16: of the entries below this page */
	le64 generation;      /* 24: of the checkpoint that wrote it */
	union {		      /* 32 */
		struct map_pointer pointers[MAP_PAGE_ENTRIES];
		struct manifest_entry manifest[MAP_PAGE_ENTRIES];
		struct space_entry space[MAP_PAGE_ENTRIES];
	};
};

/* ---- tree frames (core/tree) ------------------------------------------- */

#define TREE_FRAME_MAGIC 0x4d524648u /* "HFRM" */
#define FRAME_HEADER_BYTES BLOCK_BYTES
#define FRAME_FREE_CLASSES 64

/*
 * The first block of a tree frame.  Everything from byte 4 on is covered by
 * `checksum`, which the manifest repeats; the other blocks by block_checksums.
 * Node references are 16 bits, in units of 8 bytes from the frame's start.
 */
struct frame_header {
	le32 checksum;				  /* 0: bytes 4.., seed UUID ^ id */
	le32 magic;				  /* 4 */
	le64 frame_id;				  /* 8 */
	le64 lsn;				  /* 16: checkpoint it was written for */
	le32 used_blocks;			  /* 24: blocks written, header included */
	le32 heap_end;				  /* 28: bytes; free space begins here */
	le32 live_bytes;			  /* 32: of nodes in use */
	le32 node_count;			  /* 36 */
	le16 root;				  /* 40: reference of the root node */
	le16 reserved0;				  /* 42 */
	le32 laid_end;				  /* 44: bytes; what lies below was laid out */
	le16 free_heads[FRAME_FREE_CLASSES];	  /* 48: free nodes, one list a size */
	uint8_t reserved1[1024 - 176];		  /* 176 */
	le32 block_checksums[FRAME_BLOCKS];	  /* 1024: [0] is unused */
	uint8_t reserved2[BLOCK_BYTES - 1536];	  /* 1536 */
};

/* ---- journal records (core/journal) ------------------------------------ */

/*
 * The log is a sequence of records, each at the LSN it names.  Flushes end on a
 * block boundary, filled up with a PAD record; the next begins with a MARK that
 * says up to which LSN the log was known durable.  A record never verifies at
 * another LSN, in another volume or when torn.
 */
#define JOURNAL_ALIGN 8u
#define LSN_MAX (UINT64_MAX / 2) /* no log ever comes near it */
#define JOURNAL_RECORD_MAX (8u * 1024 * 1024) /* header and body */

enum journal_type {
	JOURNAL_PAD = 1,  /* body: zeros */
	JOURNAL_MARK = 2, /* body: le64 LSN known durable */
	JOURNAL_BATCH = 3, /* body: core/store's, a transaction */
};

struct journal_record {
	le32 checksum; /* 0: bytes 4.. of header and body, seed UUID ^ LSN */
	le32 bytes;    /* 4: header and body, before rounding up to 8 */
	le64 lsn;      /* 8 */
	uint8_t type;  /* 16: enum journal_type */
	uint8_t reserved[7]; /* 17 */
};

#endif
