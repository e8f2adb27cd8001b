/*
 * Space promised to the file layer, and claims: blocks that were allocated by
 * fallocate(2) and not written yet.  See reserve.c.
 */
#ifndef HOLTFS_FS_RESERVE_H
#define HOLTFS_FS_RESERVE_H

#include <stdbool.h>
#include <stdint.h>

struct fs;
struct space_run;
struct store_batch;

struct reserve {
	/* set at open */
	uint64_t tree_base;   /* blocks: to record data and remove files when all is full */
	uint64_t tree_claims; /* the same as long as there are claims, if it is more */
	uint64_t data_base;   /* blocks: to write over what is there */

	/* guarded by segment_mutex */
	uint64_t tree_held, data_held; /* blocks promised by core/space */
	uint64_t recorded; /* claims in the tree; changes under claims_mutex as well */
	uint64_t coming;   /* claims in transactions being made */
	uint64_t open;	   /* claims, coming ones too, without a block in a segment */
};

/* What a block is taken for. */
enum block_use {
	BLOCK_NEW,   /* more of the volume than the file had */
	BLOCK_AGAIN, /* takes the place of a block, which is freed when it is recorded */
	BLOCK_CLAIM, /* makes use of a claim */
};

/* Reads the count of claims, and promises as much as there is. */
int reserve_open(struct fs *fs);
void reserve_drop(struct fs *fs);

/* Are all promises held that must be, before blocks are taken for @use?  -ENOSPC.
 * segment_mutex held. */
int reserve_ensure_locked(struct fs *fs, enum block_use use);

/* 1..@want blocks out of what is promised for @use, which is not BLOCK_NEW.
 * segment_mutex held. */
int reserve_redeem_locked(struct fs *fs, enum block_use use, uint32_t want, struct space_run *ret);

/* Gets back by a checkpoint what rests, where that is needed.  No lock held. */
int reserve_refill(struct fs *fs);

/* Blocks that no new file can have, besides those that core/space knows of; and open
 * claims. */
uint64_t reserve_unavailable(struct fs *fs, uint64_t *ret_open);

/* ---- claims --------------------------------------------------------------- */

/* Blocks that @count claims take from what is available. */
uint64_t claims_cost(uint64_t count);

/* Before a transaction that makes @count claims: -ENOSPC.  After it, claims_settle(). */
int claims_promise(struct fs *fs, uint64_t count);
void claims_settle(struct fs *fs, uint64_t count, bool is_committed);

/* Claims have got their blocks in a segment.  segment_mutex held. */
void claims_take_locked(struct fs *fs, uint64_t count);

/* Claims without a block in a segment are more (the blocks that held their place go
 * back to the volume) or fewer. */
void claims_open(struct fs *fs, uint64_t count);
void claims_close(struct fs *fs, uint64_t count);

/*
 * Commits a batch with which the tree has @change more claims, like batch_commit(), or
 * with @is_last like batch_commit_last().
 */
int batch_commit_claims(struct fs *fs, struct store_batch *batch, int64_t change, bool is_last);

#endif
