/*
 * Reading.
 *
 * The answer is a list of pieces of memory.  A file is read span by span; each run of
 * blocks in a span is
 *
 *	a hole, claimed  a piece of static zeros
 *	pending          copied (its segment may go on changing)
 *	cached           a piece of the cached frame, pinned
 *	on the device    of a small file: its whole frame is brought into the cache, as
 *	                 files written together are often read together
 *	                 of a large file: read into a leased slot, just these blocks,
 *	                 many in flight; the kernel caches what it read, so a second
 *	                 copy here would only push other frames out
 *
 * Copies and device reads of a span go to one leased slot, at the place they have in
 * the span, so that however scattered the blocks are, they make one piece.  If there
 * is no slot, or the pieces get too many, the answer is one copy in plain memory.
 *
 * Invariants:
 *  1. Every block from the device is compared with its checksum before it is shown.
 *  2. The inode stays locked shared until all blocks are here: truncation and
 *     overwriting wait, so no block is freed while it is being read.  After that,
 *     pieces stay as they are (data_cache.c, invariants 1 and 2).
 *
 *  3. Who holds pieces takes no inode's lock any more, until they are given back: the
 *     one that has the lock may need slots to commit.
 *
 * Locking: inode shared.  Spans that are not in core are loaded before, in the gate
 * with the lock held exclusively.
 */
#include "config.h"

#include "fs/fs_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"

#define ZEROS_BYTES (256u * 1024)
#define READ_BYTES_MAX (1024u * 1024 * 1024)
#define SLOT_LEASED 0x80000000u /* in fs_read.slots: a lease, not a pin */

static uint8_t zeros[ZEROS_BYTES]; /* never written */

struct reader {
	struct fs *fs;
	struct inode *inode;
	struct fs_read *out;
	uint64_t offset, end; /* of the whole read, in bytes */
	bool is_small;	      /* the file: read its frames as a whole */
	bool is_copy;	      /* out->copy is the answer */
	uint32_t scratch;     /* of this span, or POOL_NO_SLOT */
	struct damage damage;

	/* reads under way for this span */
	struct device_request *requests;
	uint32_t request_count;
};

/* ---- pieces -------------------------------------------------------------------------- */

static void add_piece(struct reader *r, const uint8_t *at, size_t bytes)
{
	struct fs_read *out = r->out;
	struct iovec *last = out->count > 0 ? &out->pieces[out->count - 1] : NULL;

	if (last && (uint8_t *)last->iov_base + last->iov_len == at) {
		last->iov_len += bytes;
	} else {
		ASSERT(out->count < FS_READ_PIECES);
		out->pieces[out->count++] = (struct iovec){(void *)at, bytes};
	}
	out->bytes += bytes;
}

static void add_slot(struct reader *r, uint32_t slot)
{
	ASSERT(r->out->slot_count < FS_READ_PIECES);
	r->out->slots[r->out->slot_count++] = slot;
}

static void drop_slots(struct fs *fs, struct fs_read *read)
{
	for (uint32_t i = 0; i < read->slot_count; i++) {
		if (read->slots[i] & SLOT_LEASED)
			pool_release(fs->pool, read->slots[i] & ~SLOT_LEASED);
		else
			cache_unpin(fs, read->slots[i]);
	}
	read->slot_count = 0;
}

/* The copy begins with the block of the first byte, block aligned. */
static uint8_t *copy_of(const struct reader *r, uint64_t offset)
{
	return (uint8_t *)r->out->copy + (offset - round_down(r->offset, BLOCK_BYTES));
}

/* From now on the answer is one copy; what was gathered goes into it. */
static int switch_to_copy(struct reader *r)
{
	uint64_t base = round_down(r->offset, BLOCK_BYTES);
	size_t at = 0;

	r->out->copy = aligned_alloc(DEVICE_ALIGN, round_up(r->end - base, BLOCK_BYTES));
	if (!r->out->copy)
		return -ENOMEM;
	for (uint32_t i = 0; i < r->out->count; i++) {
		memcpy(copy_of(r, r->offset + at), r->out->pieces[i].iov_base,
		    r->out->pieces[i].iov_len);
		at += r->out->pieces[i].iov_len;
	}
	ASSERT(at == r->out->bytes);
	drop_slots(r->fs, r->out);
	r->out->count = 0;
	r->is_copy = true;
	r->scratch = POOL_NO_SLOT;
	return 0;
}

/* ---- a span ----------------------------------------------------------------------------- */

/* What the blocks of a run have in common. */
enum run_kind { RUN_HOLE, RUN_PENDING, RUN_DISK };

struct run {
	enum run_kind kind;
	uint32_t first, count; /* blocks in the span */
	uint64_t from, to;     /* bytes of the file that are asked for */
};

static enum run_kind kind_of(const struct span *span, uint32_t i)
{
	if (span->pending[i] != NOT_PENDING)
		return RUN_PENDING;
	return span_has_place(&span->map, i) ? RUN_DISK : RUN_HOLE;
}

static bool continues(const struct span *span, const struct run *run, uint32_t i)
{
	uint64_t block;

	if (kind_of(span, i) != run->kind)
		return false;
	if (run->kind != RUN_DISK)
		return true;
	block = span->map.block[run->first] + run->count;
	return span->map.block[i] == block && block % FRAME_BLOCKS != 0;
}

/* The run that begins with the block of byte @from, up to byte @to of the file. */
static struct run next_run(const struct span *span, uint64_t from, uint64_t to)
{
	struct run run = {.count = 1, .from = from};
	uint64_t base = span->index * SPAN_BYTES;

	run.first = (uint32_t)((from - base) / BLOCK_BYTES);
	run.kind = kind_of(span, run.first);
	while (base + (uint64_t)(run.first + run.count) * BLOCK_BYTES < to &&
	    continues(span, &run, run.first + run.count))
		run.count++;
	run.to = min_of(to, base + (uint64_t)(run.first + run.count) * BLOCK_BYTES);
	return run;
}

/* A slot for copies and device reads of this span; without one, plain memory. */
static int need_scratch(struct reader *r)
{
	uint32_t slot;
	int err;

	if (r->is_copy || r->scratch != POOL_NO_SLOT)
		return 0;
	/* Only a read that holds no slot may wait for one. */
	err = r->out->slot_count == 0 ? store_lease_slot(r->fs->store, &slot) :
					      pool_lease(r->fs->pool, &slot);
	if (err < 0)
		return switch_to_copy(r);
	r->scratch = slot;
	add_slot(r, slot | SLOT_LEASED);
	return 0;
}

/* Where block @i of the span is gathered. */
static uint8_t *place_of(const struct reader *r, const struct span *span, uint32_t i)
{
	if (r->is_copy)
		return copy_of(r, span->index * SPAN_BYTES + (uint64_t)i * BLOCK_BYTES);
	return (uint8_t *)pool_memory(r->fs->pool, r->scratch) + (size_t)i * BLOCK_BYTES;
}

static void gathered(struct reader *r, const struct span *span, const struct run *run)
{
	if (r->is_copy)
		r->out->bytes += run->to - run->from;
	else
		add_piece(r, place_of(r, span, run->first) + run->from % BLOCK_BYTES,
		    run->to - run->from);
}

static void read_hole(struct reader *r, const struct run *run)
{
	uint64_t bytes = run->to - run->from;

	if (r->is_copy) {
		memset(copy_of(r, run->from), 0, bytes);
		r->out->bytes += bytes;
		return;
	}
	while (bytes > 0) {
		size_t n = (size_t)min_of(bytes, (uint64_t)ZEROS_BYTES);

		add_piece(r, zeros, n);
		bytes -= n;
	}
}

static int read_pending(struct reader *r, const struct span *span, const struct run *run)
{
	int err = need_scratch(r);

	if (err < 0)
		return err;
	for (uint32_t i = run->first; i < run->first + run->count; i++)
		memcpy(place_of(r, span, i), segment_memory(r->fs, span->pending[i]),
		    BLOCK_BYTES);
	gathered(r, span, run);
	return 0;
}

/* Asks the device for the run; finish_requests() waits and verifies. */
static int read_device(struct reader *r, const struct span *span, const struct run *run)
{
	int err = need_scratch(r);

	if (err < 0)
		return err;
	r->requests[r->request_count++] = (struct device_request){
	    .op = DEVICE_READ,
	    .slot = r->is_copy ? DEVICE_NO_SLOT : r->scratch,
	    .data = place_of(r, span, run->first),
	    .bytes = run->count * BLOCK_BYTES,
	    .offset = span->map.block[run->first] * BLOCK_BYTES,
	};
	gathered(r, span, run);
	return 0;
}

static int read_disk(struct reader *r, const struct span *span, const struct run *run)
{
	struct block_run blocks = {
	    .block = span->map.block[run->first],
	    .count = run->count,
	    .checksums = &span->map.checksum[run->first],
	};
	uint64_t bytes = run->to - run->from, bad = 0;
	const uint8_t *at;
	uint32_t slot;
	int err = cache_pin(r->fs, &blocks, r->is_small && r->out->slot_count == 0,
	    &slot, &bad);

	if (err == -ENOENT || err == -ENOBUFS || err == -ENOMEM)
		return read_device(r, span, run);
	if (err < 0) {
		r->damage = (struct damage){true,
		    span->index * SPAN_BYTES + (uint64_t)run->first * BLOCK_BYTES +
			(bad - blocks.block) * BLOCK_BYTES,
		    bad};
		return err;
	}
	at = (uint8_t *)pool_memory(r->fs->pool, slot) +
	    blocks.block % FRAME_BLOCKS * BLOCK_BYTES + run->from % BLOCK_BYTES;
	if (r->is_copy) {
		memcpy(copy_of(r, run->from), at, bytes);
		r->out->bytes += bytes;
		cache_unpin(r->fs, slot);
	} else {
		add_slot(r, slot);
		add_piece(r, at, bytes);
	}
	return 0;
}

static const uint8_t *request_block(const struct device_request *request, uint32_t i)
{
	return (const uint8_t *)request->data + (size_t)i * BLOCK_BYTES;
}

static int verify_request(struct reader *r, const struct span *span,
    const struct device_request *request)
{
	uint64_t block = request->offset / BLOCK_BYTES;
	uint32_t first = 0;

	while (span->map.block[first] != block || span->pending[first] != NOT_PENDING)
		first++;
	for (uint32_t i = 0; i < request->bytes / BLOCK_BYTES; i++) {
		if (request->result == 0 &&
		    store_block_checksum(r->fs->store, request_block(request, i)) ==
			span->map.checksum[first + i])
			continue;
		r->damage = (struct damage){true,
		    (span->index * SPAN_BLOCKS + first + i) * BLOCK_BYTES, block + i};
		return request->result < 0 ? request->result : -EIO;
	}
	return 0;
}

static int finish_requests(struct reader *r, const struct span *span, struct device_batch *batch)
{
	int err = 0;

	device_submit(r->fs->device, batch, r->requests, r->request_count);
	(void)device_wait(r->fs->device, batch); /* each has its own result */
	for (uint32_t i = 0; i < r->request_count && err == 0; i++)
		err = verify_request(r, span, &r->requests[i]);
	return err;
}

/* Would the span's pieces and slots overflow the answer? */
static bool is_too_scattered(const struct reader *r, const struct span *span, uint64_t from,
    uint64_t to)
{
	uint32_t runs = 0;

	while (from < to) {
		struct run run = next_run(span, from, to);

		from = run.to;
		runs += 2; /* a hole of a span makes at most two pieces */
	}
	return r->out->count + runs > FS_READ_PIECES ||
	    r->out->slot_count + runs + 1 > FS_READ_PIECES;
}

static int read_runs(struct reader *r, const struct span *span, uint64_t from, uint64_t to)
{
	int err = 0;

	while (err == 0 && from < to) {
		struct run run = next_run(span, from, to);

		if (run.kind == RUN_HOLE)
			read_hole(r, &run);
		else if (run.kind == RUN_PENDING)
			err = read_pending(r, span, &run);
		else
			err = read_disk(r, span, &run);
		from = run.to;
	}
	return err;
}

static int read_span(struct reader *r, const struct span *span, uint64_t from, uint64_t to)
{
	struct device_batch batch;
	int err = 0;

	r->scratch = POOL_NO_SLOT;
	r->request_count = 0;
	device_batch_init(&batch);
	if (!r->is_copy && is_too_scattered(r, span, from, to))
		err = switch_to_copy(r);
	if (err == 0)
		err = read_runs(r, span, from, to);
	/* A switch to plain memory for want of a slot comes with the first request, so
	 * all requests go where the pieces are. */
	if (err == 0 && r->request_count > 0)
		err = finish_requests(r, span, &batch);
	return err;
}

/* ---- the file ----------------------------------------------------------------------------- */

/* Inline data is copied from the record. */
static int read_inline(struct reader *r)
{
	struct inode_value value;
	uint32_t have;
	int err = record_load(r->fs, r->inode, &value);

	if (err == 0)
		err = switch_to_copy(r);
	if (err < 0)
		return err;
	have = r->inode->body_bytes;
	memset(copy_of(r, r->offset), 0, r->end - r->offset);
	if (r->offset < have)
		memcpy(copy_of(r, r->offset), inode_value_body(&value) + r->offset,
		    min_of(r->end, (uint64_t)have) - r->offset);
	r->out->bytes = r->end - r->offset;
	return 0;
}

static bool is_inline(const struct inode *inode)
{
	return inode->body != INODE_BODY_SPAN && !inode->is_spread;
}

static bool has_spans(const struct inode *inode, uint64_t offset, uint64_t end)
{
	for (uint64_t i = offset / SPAN_BYTES; i * SPAN_BYTES < end; i++)
		if (!span_find(inode, i))
			return false;
	return true;
}

static void set_range(struct reader *r, uint64_t offset, size_t bytes)
{
	uint64_t size = r->inode->attr.size;

	r->offset = offset;
	r->end = offset >= size ? offset : offset + min_of((uint64_t)bytes, size - offset);
	r->is_small = size <= SPAN_BYTES;
}

/* Answers of one attempt besides 0 and errors. */
enum { NEEDS_GATE = 1, DONE = 2 };

/* The inode is locked shared; the gate is held if it was asked for. */
static int read_locked(struct reader *r, bool is_in_gate)
{
	int err = 0;

	if (r->offset == r->end)
		return 0;
	if (is_inline(r->inode))
		return is_in_gate ? read_inline(r) : NEEDS_GATE;
	if (!has_spans(r->inode, r->offset, r->end))
		return NEEDS_GATE;
	for (uint64_t from = r->offset; err == 0 && from < r->end;) {
		uint64_t index = from / SPAN_BYTES;
		uint64_t to = min_of(r->end, (index + 1) * SPAN_BYTES);

		err = read_span(r, span_find(r->inode, index), from, to);
		from = to;
	}
	return err;
}

static int load_spans(struct reader *r)
{
	struct span *span;
	int err = 0;

	inode_lock(r->inode);
	if (!is_inline(r->inode))
		for (uint64_t i = r->offset / SPAN_BYTES; err == 0 && i * SPAN_BYTES < r->end; i++)
			err = span_get(r->fs, r->inode, i, &span);
	inode_unlock(r->inode);
	return err;
}

/* What needs the tree: inline data, or spans that are not in core. */
static int read_in_gate(struct reader *r, uint64_t offset, size_t bytes)
{
	unsigned ticket = gate_enter_shared(r->fs->names);
	int err;

	inode_lock_shared(r->inode);
	set_range(r, offset, bytes);
	err = is_inline(r->inode) ? read_locked(r, true) : NEEDS_GATE;
	inode_unlock(r->inode);
	if (err == NEEDS_GATE)
		err = load_spans(r);
	else if (err == 0)
		err = DONE;
	gate_leave_shared(r->fs->names, ticket);
	return err;
}

static int read_file(struct reader *r, uint64_t offset, size_t bytes)
{
	int err;

	for (;;) {
		inode_lock_shared(r->inode);
		set_range(r, offset, bytes);
		err = read_locked(r, false);
		inode_unlock(r->inode);
		if (err != NEEDS_GATE)
			return err;
		err = read_in_gate(r, offset, bytes);
		if (err != 0)
			return err == DONE ? 0 : err;
	}
}

int fs_read(struct fs *fs, uint64_t ino, uint64_t offset, size_t bytes, struct fs_read *ret)
{
	struct device_request requests[SPAN_BLOCKS];
	struct reader r = {
	    .fs = fs,
	    .out = ret,
	    .scratch = POOL_NO_SLOT,
	    .requests = requests,
	};
	int err;

	ret->count = ret->slot_count = 0;
	ret->bytes = 0;
	ret->copy = NULL;
	if (bytes > READ_BYTES_MAX || offset > FS_FILE_MAX)
		return offset > FS_FILE_MAX ? 0 : -EINVAL;
	err = inode_get(fs, ino, &r.inode);
	if (err < 0)
		return err;
	if (r.inode->type != S_IFREG)
		err = r.inode->type == S_IFDIR ? -EISDIR : -EINVAL;
	/* Before, because who holds pieces must not wait for the inode: the one that has it
	 * may be waiting for slots. */
	if (err == 0 && bytes > 0)
		atime_note(fs, r.inode);
	if (err == 0)
		err = read_file(&r, offset, bytes);
	if (err == 0 && r.is_copy) {
		ret->pieces[0] = (struct iovec){copy_of(&r, r.offset), ret->bytes};
		ret->count = 1;
	}
	if (err < 0) {
		fs_read_done(fs, ret);
		damage_log(fs, r.inode, &r.damage);
	}
	inode_put(fs, r.inode);
	return err;
}

void fs_read_done(struct fs *fs, struct fs_read *read)
{
	drop_slots(fs, read);
	free(read->copy);
	read->copy = NULL;
	read->count = 0;
	read->bytes = 0;
}
