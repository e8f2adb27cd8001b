/*
 * Writing.
 *
 * A write is copied, and answered; the device sees it later (commit.c).  Data goes
 *
 *	into the inode's record    while all of it lies within the first 3 KiB: one
 *	                           transaction, at once
 *	over a pending block       that may still be changed where it is
 *	into fresh blocks of a segment, which become pending
 *
 * Whole blocks are copied as they come; for a part of a block the rest is read first
 * (from the segment, the cache, or the device) and both go into a fresh block.
 *
 * Invariants:
 *  1. Space for the data is allocated before a write is answered: no space is the
 *     answer of the write itself.  Claimed blocks, and blocks that the file has, find
 *     theirs on a full volume too (reserve.c).
 *  2. Behind the end of the file a pending block holds zeros.
 *  3. A write waits for memory or for another flush only without locks: it answers
 *     itself RETRY_AFTER_*, leaves, and goes on where it was.
 *
 * Dirty memory is bounded: when segments hold a quarter of the pool, writers flush
 * before they go on; the worker is told at half of that.
 *
 * Locking: names gate (the record, spans), inode locked exclusively.
 */
#include "config.h"

#include "fs/fs_internal.h"

#include <errno.h>

#include "base/assert.h"

#define WRITE_PIECE (1024u * 1024)

struct write {
	struct fs *fs;
	struct inode *inode;
	uint64_t offset;
	const uint8_t *data;
	size_t bytes; /* still to do */
	bool is_append;
	struct damage damage;
};

/* ---- room -------------------------------------------------------------------------------- */

int write_make_room(struct fs *fs)
{
	int err = flush_all(fs);

	segments_close(fs, true);
	worker_reap_now(fs);
	if (err == 0 || err == -ENOSPC)
		err = reserve_refill(fs);
	return err;
}

int write_help(struct fs *fs, struct inode *inode, int answer, bool *made_room)
{
	if (answer == RETRY_AFTER_FLUSH)
		return flush_inode(fs, inode);
	if (answer == RETRY_AFTER_TRUNCATE)
		return truncate_finish(fs, inode);
	if ((answer == -ENOSPC || answer == -ENOBUFS) && !*made_room) {
		*made_room = true;
		return write_make_room(fs);
	}
	return answer;
}

static int wait_for_memory(struct fs *fs)
{
	uint32_t count = atomic_load(&fs->segment_count);

	if (count >= fs->segment_limit) {
		int err = flush_all(fs);

		return err == -ENOSPC ? 0 : err;
	}
	if (count > fs->segment_limit / 2)
		worker_hurry(fs);
	return 0;
}

/* ---- blocks -------------------------------------------------------------------------------- */

/* May block @i get a fresh place now?  See commit.c, invariant 4. */
static bool disturbs_flush(const struct inode *inode, const struct span *span, uint32_t i)
{
	uint64_t block = span->index * SPAN_BLOCKS + i;

	if (atomic_load(&inode->flushers) == 0)
		return false;
	return span->pending[i] != NOT_PENDING ||
	    ((block + 1) * BLOCK_BYTES > inode->recorded_size &&
		block < inode->pending_end);
}

static enum block_use use_of(const struct span *span, uint32_t i)
{
	if (span->pending[i] != NOT_PENDING || span_has_place(&span->map, i))
		return BLOCK_AGAIN;
	return span_is_claimed(&span->map, i) ? BLOCK_CLAIM : BLOCK_NEW;
}

/* The block's newest content into @buf, zeros behind the end of the file. */
static int read_old(struct fs *fs, const struct inode *inode, const struct span *span,
    uint32_t i, uint8_t *buf, struct damage *damage)
{
	uint64_t start = (span->index * SPAN_BLOCKS + i) * BLOCK_BYTES;
	uint64_t size = inode->attr.size;
	size_t good = start < size ? (size_t)min_of(size - start, (uint64_t)BLOCK_BYTES) : 0;
	int err = 0;

	if (good == 0 || (span->pending[i] == NOT_PENDING && !span_has_place(&span->map, i)))
		good = 0;
	else if (span->pending[i] != NOT_PENDING)
		memcpy(buf, segment_memory(fs, span->pending[i]), BLOCK_BYTES);
	else
		err = cache_read_block(fs, span->map.block[i], span->map.checksum[i], buf);
	if (err < 0)
		*damage = (struct damage){true, start, span->map.block[i]};
	else
		memset(buf + good, 0, BLOCK_BYTES - good);
	return err;
}

static bool change_in_place(struct fs *fs, const struct span *span, uint32_t i,
    uint32_t from, const void *data, uint32_t bytes)
{
	struct segment_piece piece;

	if (span->pending[i] == NOT_PENDING || !segment_reopen(fs, span->pending[i], &piece))
		return false;
	if (bytes > 0)
		memcpy(piece.memory + from, data, bytes);
	segment_filled(fs, &piece);
	return true;
}

int block_rewrite(struct fs *fs, struct inode *inode, uint64_t block, uint32_t from,
    const void *data, uint32_t bytes, struct damage *damage)
{
	uint8_t buf[BLOCK_BYTES] __attribute__((aligned(DEVICE_ALIGN)));
	uint32_t i = (uint32_t)(block % SPAN_BLOCKS);
	struct segment_piece piece;
	struct span *span;
	int err = span_get(fs, inode, block / SPAN_BLOCKS, &span);

	if (err < 0)
		return err;
	if (change_in_place(fs, span, i, from, data, bytes))
		return 0;
	if (disturbs_flush(inode, span, i))
		return RETRY_AFTER_FLUSH;
	err = read_old(fs, inode, span, i, buf, damage);
	if (err == 0)
		err = segment_take(fs, inode, use_of(span, i), 1, &piece);
	if (err < 0)
		return err;
	if (bytes > 0)
		memcpy(buf + from, data, bytes);
	memcpy(piece.memory, buf, BLOCK_BYTES);
	segment_filled(fs, &piece);
	span_set_pending(fs, inode, span, i, piece.place);
	pending_add(fs, inode);
	return 0;
}

/* How many of the @count whole blocks from @i on may get fresh places, for one and the
 * same use; 0: the first can be changed where it is, or must wait. */
static uint32_t fresh_run(const struct inode *inode, const struct span *span, uint32_t i,
    uint32_t count)
{
	enum block_use use = use_of(span, i);
	uint32_t n = 0;

	while (n < count && span->pending[i + n] == NOT_PENDING &&
	    use_of(span, i + n) == use && !disturbs_flush(inode, span, i + n))
		n++;
	return n;
}

/* Whole blocks within one span; *ret_done of them were written. */
static int write_whole(struct fs *fs, struct inode *inode, uint64_t block, const uint8_t *data,
    uint32_t count, uint32_t *ret_done, struct damage *damage)
{
	uint32_t i = (uint32_t)(block % SPAN_BLOCKS);
	struct segment_piece piece;
	struct span *span;
	int err = span_get(fs, inode, block / SPAN_BLOCKS, &span);

	if (err < 0)
		return err;
	count = fresh_run(inode, span, i, count);
	if (count == 0) {
		*ret_done = 1;
		return block_rewrite(fs, inode, block, 0, data, BLOCK_BYTES, damage);
	}
	err = segment_take(fs, inode, use_of(span, i), count, &piece);
	if (err < 0)
		return err;
	memcpy(piece.memory, data, (size_t)piece.count * BLOCK_BYTES);
	for (uint32_t n = 0; n < piece.count; n++)
		span_set_pending(fs, inode, span, i + n, piece.place + n);
	segment_filled(fs, &piece);
	pending_add(fs, inode);
	*ret_done = piece.count;
	return 0;
}

/* ---- inline ---------------------------------------------------------------------------------- */

int inode_spread(struct fs *fs, struct inode *inode, struct damage *damage)
{
	struct inode_value value;
	int err;

	ASSERT(inode->body == INODE_BODY_INLINE && !inode->is_spread);
	err = record_load(fs, inode, &value);
	if (err == 0 && inode->body_bytes > 0)
		err = block_rewrite(fs, inode, 0, 0, inode_value_body(&value),
		    inode->body_bytes, damage);
	if (err == 0)
		inode->is_spread = true;
	return err;
}

static void set_times(struct inode *inode)
{
	inode->attr.times[INODE_MTIME] = inode->attr.times[INODE_CTIME] = time_now();
}

static int write_inline(struct write *w)
{
	struct inode *inode = w->inode;
	struct inode_attrs before = inode->attr;
	uint16_t bytes_before = inode->body_bytes;
	uint64_t end = w->offset + w->bytes, size_before = inode->recorded_size;
	struct inode_value value;
	int err = record_load(w->fs, inode, &value);

	if (err < 0)
		return err;
	if (w->offset > inode->body_bytes)
		memset(inode_value_body(&value) + inode->body_bytes, 0,
		    w->offset - inode->body_bytes);
	memcpy(inode_value_body(&value) + w->offset, w->data, w->bytes);
	inode->body_bytes = (uint16_t)max_of((uint64_t)inode->body_bytes, end);
	inode->attr.size = max_of(inode->attr.size, end);
	inode->recorded_size = inode->attr.size;
	set_times(inode);
	record_fill(inode, &value);
	err = record_save(w->fs, inode, &value);
	if (err < 0) {
		inode->attr = before;
		inode->body_bytes = bytes_before;
		inode->recorded_size = size_before;
		return err;
	}
	w->offset = end;
	w->bytes = 0;
	return 0;
}

/* ---- one piece ---------------------------------------------------------------------------------- */

/* The next blocks of the write: part of one, or whole ones. */
static int write_step(struct write *w)
{
	uint64_t block = w->offset / BLOCK_BYTES;
	uint32_t from = (uint32_t)(w->offset % BLOCK_BYTES);
	uint32_t room = SPAN_BLOCKS - (uint32_t)(block % SPAN_BLOCKS);
	size_t bytes = min_of(w->bytes, (size_t)(BLOCK_BYTES - from));
	uint32_t done = 0;
	int err;

	if (bytes == BLOCK_BYTES) {
		err = write_whole(w->fs, w->inode, block, w->data,
		    (uint32_t)min_of(w->bytes / BLOCK_BYTES, (size_t)room), &done, &w->damage);
		bytes = (size_t)done * BLOCK_BYTES;
	} else {
		err = block_rewrite(w->fs, w->inode, block, from, w->data, (uint32_t)bytes,
		    &w->damage);
	}
	if (err != 0)
		return err;
	w->offset += bytes;
	w->data += bytes;
	w->bytes -= bytes;
	w->inode->attr.size = max_of(w->inode->attr.size, w->offset);
	set_times(w->inode);
	return 0;
}

static int write_locked(struct write *w)
{
	struct inode *inode = w->inode;
	int err = 0;

	if (w->is_append) {
		w->offset = inode->attr.size;
		w->is_append = false;
	}
	if (w->offset > FS_FILE_MAX || w->bytes > FS_FILE_MAX - w->offset)
		return -EFBIG;
	if (inode->flags & INODE_TRUNCATING)
		return RETRY_AFTER_TRUNCATE;
	if (inode->body == INODE_BODY_INLINE && !inode->is_spread) {
		if (w->offset + w->bytes <= INODE_INLINE_MAX)
			return write_inline(w);
		err = inode_spread(w->fs, inode, &w->damage);
	}
	if (err == 0 && w->offset + w->bytes > inode->attr.size)
		err = tail_repair(w->fs, inode, &w->damage);
	while (err == 0 && w->bytes > 0)
		err = write_step(w);
	return err;
}

/* At most WRITE_PIECE bytes. */
static int write_piece(struct write *w)
{
	bool made_room = false;
	int err = wait_for_memory(w->fs);

	while (err == 0) {
		unsigned ticket = gate_enter_shared(w->fs->names);
		size_t left = w->bytes;

		inode_lock(w->inode);
		err = write_locked(w);
		inode_unlock(w->inode);
		gate_leave_shared(w->fs->names, ticket);
		if (err == 0)
			break;
		made_room &= w->bytes == left;
		err = write_help(w->fs, w->inode, err, &made_room);
	}
	return err == -ENOBUFS ? -ENOMEM : err;
}

static int write_all(struct write *w, size_t bytes)
{
	while (bytes > 0) {
		size_t piece = min_of(bytes, (size_t)WRITE_PIECE);
		const uint8_t *data = w->data;
		int err;

		w->bytes = piece;
		err = write_piece(w);
		if (err < 0)
			return err;
		w->data = data + piece;
		bytes -= piece;
	}
	return 0;
}

int fs_write(struct fs *fs, uint64_t ino, uint64_t offset, const void *data, size_t bytes,
    bool is_append, bool is_sync)
{
	struct write w = {
	    .fs = fs,
	    .offset = offset,
	    .data = data,
	    .is_append = is_append,
	};
	int err = fs_check_writable(fs);

	if (err == 0)
		err = inode_get(fs, ino, &w.inode);
	if (err < 0)
		return err;
	if (w.inode->type != S_IFREG)
		err = w.inode->type == S_IFDIR ? -EISDIR : -EINVAL;
	else if (!is_append && (offset > FS_FILE_MAX || bytes > FS_FILE_MAX - offset))
		err = -EFBIG;
	if (err == 0)
		err = write_all(&w, bytes);
	damage_log(fs, w.inode, &w.damage);
	if (err == 0 && is_sync)
		err = fs_fsync(fs, ino, true);
	inode_put(fs, w.inode);
	return err;
}
