/*
 * fallocate(2): allocating, zeroing and punching ranges.
 *
 *	   offset                                  end
 *	     v                                      v
 *	|  ..#####|#########|#########|#########|###...  |
 *	   `edge'                                `edge'
 *	first part                               last part
 *	of a block                               of a block
 *
 * Whole blocks are range.c's.  Parts of blocks are overwritten with zeros, where there
 * is data; bytes behind the end of the file are zeros already, so a range that reaches
 * the end has no edge there.
 *
 * A file whose data is inline in its record leaves that form, but for punching.
 *
 * The call goes through in steps, with the locks taken anew for each; what a step
 * cannot do under its locks is done between two.  ENOSPC leaves what was allocated by
 * then, as other file systems do; that there cannot be enough is noticed before.
 *
 * Times change with the first step (the kernel's affair: set-id bits, and its cached
 * pages, which it drops for zeroed and punched ranges).
 */
#include "config.h"

#include "fs/range.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

#include "base/assert.h"

static const uint8_t zeros[BLOCK_BYTES];

struct job {
	struct range range;
	uint64_t offset, end; /* bytes */
	bool has_begun;
	bool has_edge[2];  /* first, last: done */
	struct damage damage;
};

/* ---- arguments ----------------------------------------------------------------- */

static int rule_of(int mode, enum range_rule *ret)
{
	switch (mode & ~FALLOC_FL_KEEP_SIZE) {
	case 0:
		*ret = RANGE_CLAIM;
		return 0;
	case FALLOC_FL_ZERO_RANGE:
		*ret = RANGE_ZERO;
		return 0;
	case FALLOC_FL_PUNCH_HOLE:
		*ret = RANGE_PUNCH;
		return mode & FALLOC_FL_KEEP_SIZE ? 0 : -EOPNOTSUPP;
	default:
		return -EOPNOTSUPP;
	}
}

static int check_type(const struct inode *inode)
{
	switch (inode->type) {
	case S_IFREG:
		return 0;
	case S_IFDIR:
		return -EISDIR;
	case S_IFIFO:
		return -ESPIPE;
	default:
		return -ENODEV;
	}
}

/* ---- edges ---------------------------------------------------------------------- */

/* Zeros bytes of one block, if there is data in it. */
static int zero_part(struct job *job, uint64_t from, uint64_t to)
{
	struct inode *inode = job->range.inode;
	uint64_t block = from / BLOCK_BYTES;
	uint32_t i = (uint32_t)(block % SPAN_BLOCKS);
	struct span *span;
	int err;

	to = min_of(to, inode->attr.size);
	if (from >= to)
		return 0;
	err = span_get(job->range.fs, inode, block / SPAN_BLOCKS, &span);
	if (err < 0)
		return err;
	if (span->pending[i] == NOT_PENDING && !span_has_place(&span->map, i))
		return 0;
	return block_rewrite(job->range.fs, inode, block, (uint32_t)(from % BLOCK_BYTES),
	    zeros, (uint32_t)(to - from), &job->damage);
}

/* Should the file grow between two steps, the last edge comes to be one. */
static int zero_edges(struct job *job)
{
	uint64_t first_end = round_up(job->offset, BLOCK_BYTES);
	uint64_t last = round_down(job->end, BLOCK_BYTES);
	int err;

	if (!job->has_edge[0]) {
		err = zero_part(job, job->offset, min_of(first_end, job->end));
		if (err != 0)
			return err;
		job->has_edge[0] = true;
	}
	if (job->has_edge[1] || last < first_end || job->end >= job->range.inode->attr.size)
		return 0;
	err = zero_part(job, last, job->end);
	if (err == 0)
		job->has_edge[1] = true;
	return err;
}

/* The blocks that the range has as a whole; the file's last one is had with its end. */
static void set_whole(struct job *job)
{
	struct range *range = &job->range;
	uint64_t size = range->inode->attr.size;

	range->whole_first = div_up(job->offset, BLOCK_BYTES);
	range->whole_end = job->end / BLOCK_BYTES;
	if (job->end >= size)
		range->whole_end = max_of(range->whole_end, div_up(size, BLOCK_BYTES));
}

/* ---- steps -------------------------------------------------------------------------- */

static void set_times(struct inode *inode)
{
	inode->attr.times[INODE_MTIME] = inode->attr.times[INODE_CTIME] = time_now();
}

/* Zeros what the range has of inline data, in the record. */
static int punch_inline(struct job *job)
{
	struct fs *fs = job->range.fs;
	struct inode *inode = job->range.inode;
	uint64_t end = min_of(job->end, (uint64_t)inode->body_bytes);
	struct inode_attrs before = inode->attr;
	struct inode_value value;
	int err = record_load(fs, inode, &value);

	if (err < 0)
		return err;
	if (job->offset < end)
		memset(inode_value_body(&value) + job->offset, 0, end - job->offset);
	set_times(inode);
	record_fill(inode, &value);
	err = record_save(fs, inode, &value);
	if (err < 0)
		inode->attr = before;
	else
		job->range.next = job->range.end;
	return err;
}

/* A file with inline data becomes one with blocks; 0: it is. */
static int leave_inline(struct job *job)
{
	struct inode *inode = job->range.inode;
	int err = 0;

	if (inode->body == INODE_BODY_SPAN || inode->body_bytes == 0)
		return 0;
	if (!inode->is_spread)
		err = inode_spread(job->range.fs, inode, &job->damage);
	return err == 0 ? RETRY_AFTER_FLUSH : err;
}

/* The record has them with the first transaction, or with the next commit. */
static void begin(struct job *job)
{
	struct inode *inode = job->range.inode;

	set_times(inode);
	inode->is_changed = true;
	pending_add(job->range.fs, inode);
	job->has_begun = true;
}

static int step(struct job *job)
{
	struct range *range = &job->range;
	struct inode *inode = range->inode;
	int err;

	if (inode->flags & INODE_TRUNCATING)
		return RETRY_AFTER_TRUNCATE;
	if (range->rule == RANGE_PUNCH && inode->body == INODE_BODY_INLINE && !inode->is_spread)
		return punch_inline(job);
	err = leave_inline(job);
	if (err == 0 && range->size > inode->attr.size)
		err = tail_repair(range->fs, inode, &job->damage);
	if (err == 0 && !job->has_begun)
		begin(job);
	set_whole(job);
	if (err == 0 && range->rule != RANGE_CLAIM)
		err = zero_edges(job);
	if (err != 0)
		return err;
	if (range->rule == RANGE_PUNCH) {
		range->next = max_of(range->next, range->whole_first);
		range->end = range->whole_end;
	}
	return range->next < range->end ? range_step(range) : 0;
}

static int run_once(struct job *job)
{
	struct fs *fs = job->range.fs;
	unsigned ticket = gate_enter_shared(fs->names);
	int err;

	inode_lock(job->range.inode);
	err = step(job);
	inode_unlock(job->range.inode);
	gate_leave_shared(fs->names, ticket);
	return err;
}

/* Room is made first; after that the rest is tried in smaller transactions. */
static int run(struct job *job)
{
	bool made_room = false;
	int err;

	do {
		uint64_t next = job->range.next;

		err = run_once(job);
		made_room &= job->range.next == next;
		if (err == 0)
			continue;
		if (made_room || err == -E2BIG) {
			if (batch_may_shrink(err, &job->range.most))
				err = 0;
		}
		if (err != 0)
			err = write_help(job->range.fs, job->range.inode, err, &made_room);
	} while (err == 0 && job->range.next < job->range.end);
	return err == -ENOBUFS ? -ENOMEM : err;
}

/* ---- the call ----------------------------------------------------------------------- */

/* Is it certain that there is not enough?  The file's own blocks may all lie in the
 * range. */
static bool is_hopeless(struct fs *fs, const struct job *job)
{
	uint64_t blocks = job->range.end - job->range.next, have;
	struct fs_statfs statfs;

	inode_lock_shared(job->range.inode);
	have = job->range.inode->blocks;
	inode_unlock(job->range.inode);
	if (blocks <= have || fs_statfs(fs, &statfs) < 0)
		return false;
	return claims_cost(blocks - have) > statfs.blocks_available;
}

static int run_job(struct fs *fs, struct job *job)
{
	int err = 0;

	if (job->range.rule != RANGE_PUNCH && is_hopeless(fs, job)) {
		err = write_make_room(fs);
		if (err == 0 && is_hopeless(fs, job))
			err = -ENOSPC;
	}
	if (err == 0)
		err = run(job);
	damage_log(fs, job->range.inode, &job->damage);
	return err;
}

int fs_fallocate(struct fs *fs, uint64_t ino, int mode, uint64_t offset, uint64_t bytes)
{
	struct job job = {
	    .range = {.fs = fs, .most = BATCH_SPANS},
	    .offset = offset,
	    .end = offset + bytes,
	};
	int err = rule_of(mode, &job.range.rule);

	if (err == 0 && (bytes == 0 || offset > INT64_MAX || bytes > INT64_MAX))
		err = -EINVAL;
	if (err == 0)
		err = fs_check_writable(fs);
	if (err == 0)
		err = inode_get(fs, ino, &job.range.inode);
	if (err < 0)
		return err;
	err = check_type(job.range.inode);
	if (err == 0 && job.end > FS_FILE_MAX)
		err = -EFBIG;
	if (err == 0) {
		job.range.next = offset / BLOCK_BYTES;
		job.range.end = div_up(job.end, BLOCK_BYTES);
		job.range.size = mode & FALLOC_FL_KEEP_SIZE ? 0 : job.end;
		err = run_job(fs, &job);
	}
	inode_put(fs, job.range.inode);
	return err;
}
