/*
 * The nodes of the radix tree inside a frame.
 *
 * A node starts at a multiple of 8 bytes; its reference is that offset / 8, in 16
 * bits; 0 (the frame header) is null.  Five shapes follow the adaptive radix tree
 * of Leis, Kemper and Neumann ("The adaptive radix tree: ARTful indexing for
 * main-memory databases", ICDE 2013), with the whole compressed prefix stored:
 *
 *   leaf      the rest of one key below its parent, and the value
 *   node4     up to  4 entries: sorted bytes, references       prefix at 20
 *   node16    up to 16 entries: sorted bytes, references       prefix at 56
 *   node48    up to 48 entries: index by byte, references      prefix at 360
 *   node256   a reference for each byte                        prefix at 520
 *
 * and one is ours: the *crossing* stands in a node for all bytes lo..hi and names
 * the frame where the search goes on.  The root of that frame branches again on
 * the same byte, so it has no prefix and no terminal.
 *
 *      node in frame 7                          frame 9's root
 *     +------------------------------+         +----------------+
 *     | 'a' -> leaf                  |    +--->| 'd' -> ...     |
 *     | 'c'..'k' -> crossing 9 ------|----+    | 'g' -> leaf    |
 *     | 'm' -> node                  |         +----------------+
 *     +------------------------------+
 *
 * "A key ends here" is a node's `terminal`: a leaf whose rest is empty.
 */
#ifndef HOLTFS_FORMAT_NODE_H
#define HOLTFS_FORMAT_NODE_H

#include "base/bytes.h"

typedef uint16_t node_ref;

#define NODE_UNIT 8u
#define NODE_REST_MAX 65535u /* of a leaf's rest and of a prefix */

enum node_type {
	NODE_FREE = 0,
	NODE_LEAF = 1,
	NODE_CROSSING = 2,
	NODE_4 = 3,
	NODE_16 = 4,
	NODE_48 = 5,
	NODE_256 = 6,
};

/* What every node begins with. */
struct node {
	uint8_t type; /* 0: enum node_type */
};

struct node_leaf {
	uint8_t type;	  /* 0 */
	uint8_t reserved; /* 1 */
	le16 rest_bytes;  /* 2 */
	le32 value_bytes; /* 4 */
	le64 seq;	  /* 8: the version; the LSN of the write that made it */
	uint8_t bytes[];  /* 16: rest, then value */
};

struct node_crossing {
	uint8_t type;	     /* 0 */
	uint8_t lo, hi;	     /* 1, 2: stands for these bytes of its parent */
	uint8_t reserved[5]; /* 3 */
	le64 frame_id;	     /* 8 */
};

struct node_inner {
	uint8_t type;	   /* 0 */
	uint8_t reserved;  /* 1 */
	le16 count;	   /* 2: entries; a crossing is one */
	le16 prefix_bytes; /* 4 */
	le16 terminal;	   /* 6: a leaf, or 0 */
};

struct node_4 {
	struct node_inner inner; /* 0 */
	uint8_t bytes[4];	 /* 8: ascending; a crossing's is its lo */
	le16 refs[4];		 /* 12 */
	uint8_t prefix[];	 /* 20 */
};

struct node_16 {
	struct node_inner inner; /* 0 */
	uint8_t bytes[16];	 /* 8 */
	le16 refs[16];		 /* 24 */
	uint8_t prefix[];	 /* 56 */
};

struct node_48 {
	struct node_inner inner; /* 0 */
	uint8_t index[256];	 /* 8: place in refs plus 1, or 0; a crossing's for lo..hi */
	le16 refs[48];		 /* 264 */
	uint8_t prefix[];	 /* 360 */
};

struct node_256 {
	struct node_inner inner; /* 0 */
	le16 refs[256];		 /* 8: a crossing's for lo..hi */
	uint8_t prefix[];	 /* 520 */
};

/* A chunk on a free list; its size is that of its list. */
struct node_free {
	uint8_t type;	     /* 0: NODE_FREE */
	uint8_t reserved;    /* 1 */
	le16 next;	     /* 2 */
	uint8_t reserved1[4]; /* 4 */
};

_Static_assert(sizeof(struct node_leaf) == 16, "node_leaf changed size");
_Static_assert(sizeof(struct node_crossing) == 16, "node_crossing changed size");
_Static_assert(sizeof(struct node_inner) == 8, "node_inner changed size");
_Static_assert(offsetof(struct node_4, prefix) == 20, "node_4 changed size");
_Static_assert(offsetof(struct node_16, prefix) == 56, "node_16 changed size");
_Static_assert(offsetof(struct node_48, prefix) == 360, "node_48 changed size");
_Static_assert(offsetof(struct node_256, prefix) == 520, "node_256 changed size");
_Static_assert(sizeof(struct node_free) == NODE_UNIT, "node_free changed size");

#endif
