/* Where a full frame is cut: shared by cut.c, which chooses, and split.c, which does it. */
#ifndef HOLTFS_TREE_CUT_H
#define HOLTFS_TREE_CUT_H

#include "tree/image.h"

enum cut_kind {
	CUT_INSIDE, /* the run hangs below its node from now on */
	CUT_BESIDE, /* of the root node, up to an end of it: goes to a neighbour in the parent */
	CUT_LIFT,   /* the root node, whose entry @lo holds nearly all, joins the parent */
};

struct cut {
	enum cut_kind kind;
	node_ref node, parent; /* parent 0: node is the root */
	uint8_t parent_byte;
	unsigned lo, hi; /* the run; hi may lie behind the last entry */
};

/* The frame to be cut. */
struct cut_frame {
	const void *image;
	const uint32_t *sizes;	/* image_sizes() of it */
	const uint8_t *key;	/* that needs the room */
	uint32_t key_bytes;
	uint32_t depth;		/* of the key, where the frame's root branches */
	bool has_parent;
	unsigned lo, hi;	/* the run of bytes that the frame stands for there */
};

void cut_choose(const struct cut_frame *frame, struct cut *ret);

static inline const struct node_inner *inner_of(const void *image, node_ref ref)
{
	return (const void *)node_at(image, ref);
}

#endif
