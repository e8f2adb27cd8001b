/*
 * Changing what a range of a file's blocks is: see range.c.  Private to fallocate.c,
 * range.c and truncate.c.
 */
#ifndef HOLTFS_FS_RANGE_H
#define HOLTFS_FS_RANGE_H

#include "fs/fs_internal.h"

/* Of an inode, what a transaction may have to take back. */
struct size_state {
	struct inode_attrs attr;
	uint64_t recorded_size, recorded_blocks, blocks;
	uint32_t claimed;
	uint16_t body_bytes;
	uint8_t flags;
};

struct size_state size_state_save(const struct inode *inode);
void size_state_restore(struct inode *inode, const struct size_state *state);

enum range_rule {
	RANGE_CLAIM, /* what is a hole is claimed */
	RANGE_ZERO,  /* everything is claimed afterwards, and reads as zeros */
	RANGE_PUNCH, /* everything is a hole afterwards */
};

struct range {
	struct fs *fs;
	struct inode *inode;
	enum range_rule rule;
	uint64_t next, end;	       /* blocks still to do */
	uint64_t whole_first, whole_end; /* RANGE_ZERO: others are treated as RANGE_CLAIM */
	uint64_t size;		       /* the file grows with what is done, up to this */
	uint32_t most;		       /* span records that a transaction may change */
};

/*
 * One transaction: a bounded number of spans from @next on, and the inode's record,
 * with its attributes as they are in core.  @next is what is left to do.  In the gate;
 * the inode is locked exclusively, and not inline.  -ENOSPC, -E2BIG: nothing was done;
 * fewer spans may be possible.
 */
int range_step(struct range *range);

#endif
