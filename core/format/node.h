/*
 * The nodes of the radix tree inside a frame.
 *
 * A node starts at a multiple of 8 bytes; its reference is that offset / 8, in 16
 * bits; 0 (the frame header) is null.  Five shapes follow the adaptive radix tree
 * of Leis, Kemper and Neumann ("The adaptive radix tree: ARTful indexing for
 * main-memory databases", ICDE 2013), with the whole compressed prefix stored:
 *
 *   leaf      the rest of one key below its parent, and the value; in a short form
 *             where lengths and version fit 63 bits, else in a long one
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
typedef uint64_t __attribute__((may_alias)) le64_word;

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
	NODE_SHORT_LEAF = 0x80, /* a bit; the others of the byte are the leaf's */
};

/* What every node begins with. */
struct node {
	uint8_t type; /* 0: enum node_type */
};

/*
 * The version of a leaf is the LSN of the write that made it, hence a multiple of 8: its
 * 48 bits in the short form last for 2 PiB of log.
 */
struct node_short_leaf {
	le64 head;	 /* 0: from the lowest bit: 6 rest bytes, 1 value bytes (bit 8),
			  *    1 one, 8 value bytes (bits 0..7), 48 version / 8 */
	uint8_t bytes[]; /* 8: rest, then value */
};

struct node_leaf {
	uint8_t type;	  /* 0 */
	uint8_t reserved; /* 1 */
	le16 rest_bytes;  /* 2 */
	le32 value_bytes; /* 4 */
	le64 seq;	  /* 8: the version */
	uint8_t bytes[];  /* 16: rest, then value */
};

#define SHORT_LEAF_REST_MAX  63u
#define SHORT_LEAF_VALUE_MAX 511u
#define SHORT_LEAF_SEQ_END   (1ull << 51)

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

_Static_assert(sizeof(struct node_short_leaf) == 8, "node_short_leaf changed size");
_Static_assert(sizeof(struct node_leaf) == 16, "node_leaf changed size");
_Static_assert(sizeof(struct node_crossing) == 16, "node_crossing changed size");
_Static_assert(sizeof(struct node_inner) == 8, "node_inner changed size");
_Static_assert(offsetof(struct node_4, prefix) == 20, "node_4 changed size");
_Static_assert(offsetof(struct node_16, prefix) == 56, "node_16 changed size");
_Static_assert(offsetof(struct node_48, prefix) == 360, "node_48 changed size");
_Static_assert(offsetof(struct node_256, prefix) == 520, "node_256 changed size");
_Static_assert(sizeof(struct node_free) == NODE_UNIT, "node_free changed size");

/* ---- a node's first 8 bytes ------------------------------------------------------ */

/*
 * They tell kind and length of every node.  Who reads what others may be changing loads
 * them at once (node_head), so that what was bounded is what is used.
 */
static inline uint64_t node_head(const void *node)
{
	return le64toh(__atomic_load_n((const le64_word *)node, __ATOMIC_RELAXED));
}

static inline unsigned head_type(uint64_t head)
{
	return head & 0xff;
}

static inline bool head_is_inner(uint64_t head)
{
	return head_type(head) >= NODE_4 && head_type(head) <= NODE_256;
}

static inline unsigned head_count(uint64_t head) /* inner */
{
	return (head >> 16) & 0xffff;
}

static inline uint32_t head_prefix_bytes(uint64_t head) /* inner */
{
	return (head >> 32) & 0xffff;
}

static inline node_ref head_terminal(uint64_t head) /* inner */
{
	return (node_ref)(head >> 48);
}

static inline unsigned head_hi(uint64_t head) /* crossing */
{
	return (head >> 16) & 0xff;
}

/* ---- leaves ---------------------------------------------------------------------- */

static inline bool head_is_short_leaf(uint64_t head)
{
	return head & NODE_SHORT_LEAF;
}

static inline bool head_is_leaf(uint64_t head)
{
	return head_is_short_leaf(head) || head_type(head) == NODE_LEAF;
}

/* Bytes of a leaf before its rest. */
static inline uint32_t head_leaf_base(uint64_t head)
{
	return head_is_short_leaf(head) ? sizeof(struct node_short_leaf) : sizeof(struct node_leaf);
}

static inline uint32_t head_rest_bytes(uint64_t head)
{
	return head_is_short_leaf(head) ? head & 0x3f : (head >> 16) & 0xffff;
}

static inline uint32_t head_value_bytes(uint64_t head)
{
	if (head_is_short_leaf(head))
		return (uint32_t)((head >> 8 & 0xff) | (head << 2 & 0x100));
	return (uint32_t)(head >> 32);
}

static inline const uint8_t *leaf_bytes(const void *leaf, uint64_t head)
{
	return (const uint8_t *)leaf + head_leaf_base(head);
}

static inline uint64_t leaf_seq(const void *leaf, uint64_t head)
{
	if (head_is_short_leaf(head))
		return head >> 16 << 3;
	return le64toh(__atomic_load_n((const le64_word *)&((const struct node_leaf *)leaf)->seq,
	    __ATOMIC_RELAXED));
}

/* A leaf that nobody changes, taken apart. */
struct leaf_parts {
	const uint8_t *rest, *value;
	uint32_t rest_bytes, value_bytes;
	uint64_t seq;
};

static inline struct leaf_parts leaf_take_apart(const void *leaf)
{
	uint64_t head = node_head(leaf);
	const uint8_t *bytes = leaf_bytes(leaf, head);

	return (struct leaf_parts){
	    .rest = bytes,
	    .value = bytes + head_rest_bytes(head),
	    .rest_bytes = head_rest_bytes(head),
	    .value_bytes = head_value_bytes(head),
	    .seq = leaf_seq(leaf, head),
	};
}

static inline bool leaf_can_be_short(uint32_t rest_bytes, uint32_t value_bytes, uint64_t seq)
{
	return rest_bytes <= SHORT_LEAF_REST_MAX && value_bytes <= SHORT_LEAF_VALUE_MAX &&
	       seq < SHORT_LEAF_SEQ_END && seq % 8 == 0;
}

static inline uint64_t short_leaf_head(uint32_t rest_bytes, uint32_t value_bytes, uint64_t seq)
{
	return (seq >> 3) << 16 | (uint64_t)(value_bytes & 0xff) << 8 | NODE_SHORT_LEAF |
	       (value_bytes & 0x100) >> 2 | rest_bytes;
}

#endif
