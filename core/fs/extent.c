/*
 * Where a file's blocks are: spans in core.
 *
 * A span in core has two layers for each of its 128 blocks: `map`, what the tree
 * records, and above it `pending`, newer data in a segment.
 *
 *	            block 0     1     2     3       4       5   ...
 *	pending       -       seg 7   -     -       -     seg 8
 *	map         disk 40  disk 41  -   disk 43 claimed claimed
 *	reads as    disk 40   seg 7  zeros disk 43 zeros  seg 8
 *
 * Invariants:
 *  1. span_count spans, sorted by index; a span that has something pending stays.
 *  2. pending_blocks and blocks of the inode count over all spans, also those not in
 *     core: a block counts once, pending or recorded.
 *  3. The tree has no span record wholly beyond the recorded size, unless the inode
 *     is INODE_TRUNCATING or has claimed blocks: new spans there need no look at the
 *     tree.
 *
 * Memory: spans without pending data are a cache.  A file keeps at most
 * SPANS_PER_INODE, all files together fs->span_limit; beyond that the files whose
 * list was begun first lose theirs.  What is pending is bounded by the segments.
 *
 * Locking: the inode's lock; the list of inodes with spans by span_mutex, under which
 * other inodes' locks are only tried.
 */
#include "config.h"

#include "fs/fs_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/log.h"

/* The position of @index, or where it would be. */
uint32_t span_position(const struct inode *inode, uint64_t index)
{
	uint32_t low = 0, high = inode->span_count;

	/* Files grow at their end. */
	if (high > 0 && inode->spans[high - 1]->index < index)
		return high;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (inode->spans[middle]->index < index)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct span *span_find(const struct inode *inode, uint64_t index)
{
	uint32_t at = span_position(inode, index);

	return at < inode->span_count && inode->spans[at]->index == index ?
		  inode->spans[at] :
		  NULL;
}

/* ---- the list of inodes with spans --------------------------------------------------- */

static void list_remove_locked(struct fs *fs, struct inode *inode)
{
	if (!inode->is_span_listed)
		return;
	if (inode->span_next == inode)
		fs->span_oldest = NULL;
	else if (fs->span_oldest == inode)
		fs->span_oldest = inode->span_next;
	inode->span_prev->span_next = inode->span_next;
	inode->span_next->span_prev = inode->span_prev;
	inode->is_span_listed = false;
}

static void list_add_locked(struct fs *fs, struct inode *inode)
{
	struct inode *oldest = fs->span_oldest;

	if (inode->is_span_listed)
		return;
	if (oldest) {
		inode->span_next = oldest;
		inode->span_prev = oldest->span_prev;
		oldest->span_prev->span_next = inode;
		oldest->span_prev = inode;
	} else {
		inode->span_next = inode->span_prev = inode;
		fs->span_oldest = inode;
	}
	inode->is_span_listed = true;
}

/* Frees the spans of which nothing is pending; the inode is locked exclusively. */
static void free_clean(struct fs *fs, struct inode *inode)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < inode->span_count; i++) {
		if (inode->spans[i]->pending_count > 0)
			inode->spans[kept++] = inode->spans[i];
		else
			free(inode->spans[i]);
	}
	atomic_fetch_sub(&fs->span_total, inode->span_count - kept);
	inode->span_count = kept;
}

/*
 * Too many spans: the file that has been listed longest loses its clean ones and goes
 * to the end.  Its lock is taken by trying and left before this returns, so that its
 * place in the order does not matter.
 */
static void shrink_cache(struct fs *fs)
{
	struct inode *oldest;

	mutex_lock(&fs->span_mutex);
	oldest = fs->span_oldest;
	if (oldest && pthread_rwlock_trywrlock(&oldest->lock) == 0) {
		free_clean(fs, oldest);
		if (oldest->span_count == 0)
			list_remove_locked(fs, oldest);
		pthread_rwlock_unlock(&oldest->lock);
	}
	if (fs->span_oldest)
		fs->span_oldest = fs->span_oldest->span_next;
	mutex_unlock(&fs->span_mutex);
}

/* ---- loading --------------------------------------------------------------------------- */

static int damaged(const struct key *key)
{
	char path[DESCRIBE_BYTES];

	log_error("%s: damaged extent record", key_describe(key, path));
	return -EUCLEAN;
}

static int load_first(struct fs *fs, struct inode *inode, struct span_map *map)
{
	struct inode_value value;
	int err;

	if (inode->body != INODE_BODY_SPAN || inode->body_bytes == 0)
		return 0;
	err = record_load(fs, inode, &value);
	if (err < 0)
		return err;
	return span_decode(inode_value_body(&value), inode->body_bytes, map);
}

static int load_other(struct fs *fs, struct inode *inode, uint64_t index, struct span_map *map)
{
	uint8_t record[SPAN_RECORD_MAX];
	KEY_ON_STACK(key);
	uint32_t bytes;
	int err;

	if (!(inode->flags & INODE_HAS_SPANS) ||
	    (index * SPAN_BYTES >= inode->recorded_size && inode->claimed == 0))
		return 0;
	err = key_spans(&key, inode);
	if (err < 0)
		return err;
	key_set_span(&key, index);
	err = store_get(fs->store, key.at, key.bytes, record, sizeof(record), &bytes, NULL);
	if (err == -ENOENT)
		return 0;
	if (err == -ERANGE)
		return damaged(&key);
	if (err == 0 && span_decode(record, bytes, map) < 0)
		err = damaged(&key);
	return err;
}

int span_load(struct fs *fs, struct inode *inode, uint64_t index, struct span_map *ret)
{
	memset(ret, 0, sizeof(*ret));
	return index == 0 ? load_first(fs, inode, ret) : load_other(fs, inode, index, ret);
}

static int insert(struct fs *fs, struct inode *inode, struct span *span)
{
	uint32_t at = span_position(inode, span->index);

	if (inode->span_count == inode->span_capacity) {
		uint32_t capacity = inode->span_capacity ? inode->span_capacity * 2 : 1;
		struct span **spans = realloc(inode->spans, capacity * sizeof(*spans));

		if (!spans)
			return -ENOMEM;
		inode->spans = spans;
		inode->span_capacity = capacity;
	}
	memmove(inode->spans + at + 1, inode->spans + at,
	    (inode->span_count - at) * sizeof(*inode->spans));
	inode->spans[at] = span;
	inode->span_count++;
	atomic_fetch_add(&fs->span_total, 1);
	mutex_lock(&fs->span_mutex);
	list_add_locked(fs, inode);
	mutex_unlock(&fs->span_mutex);
	return 0;
}

int span_get(struct fs *fs, struct inode *inode, uint64_t index, struct span **ret)
{
	struct span *span = span_find(inode, index);
	int err;

	if (span) {
		*ret = span;
		return 0;
	}
	if (inode->span_count >= SPANS_PER_INODE)
		free_clean(fs, inode);
	if (atomic_load(&fs->span_total) >= fs->span_limit)
		shrink_cache(fs);
	span = calloc(1, sizeof(*span));
	if (!span)
		return -ENOMEM;
	span->index = index;
	memset(span->pending, 0xff, sizeof(span->pending));
	err = span_load(fs, inode, index, &span->map);
	if (err == 0)
		err = insert(fs, inode, span);
	if (err < 0) {
		free(span);
		return err;
	}
	*ret = span;
	return 0;
}

/* ---- changing ---------------------------------------------------------------------------- */

void span_drop_pending(struct fs *fs, struct inode *inode, struct span *span, uint32_t first,
    uint32_t end)
{
	uint32_t claims = 0;

	for (uint32_t i = first; i < end && span->pending_count > 0; i++) {
		if (span->pending[i] == NOT_PENDING)
			continue;
		segment_drop(fs, span->pending[i]);
		span->pending[i] = NOT_PENDING;
		span->pending_count--;
		inode->pending_blocks--;
		if (span_is_hole(&span->map, i))
			inode->blocks--;
		claims += span_is_claimed(&span->map, i);
	}
	claims_open(fs, claims);
	if (inode->pending_blocks == 0)
		inode->pending_end = 0;
}

void spans_drop(struct fs *fs, struct inode *inode, uint64_t first)
{
	uint32_t at = span_position(inode, first);

	for (uint32_t i = at; i < inode->span_count; i++) {
		span_drop_pending(fs, inode, inode->spans[i], 0, SPAN_BLOCKS);
		free(inode->spans[i]);
	}
	atomic_fetch_sub(&fs->span_total, inode->span_count - at);
	inode->span_count = at;
	if (at > 0)
		return;
	mutex_lock(&fs->span_mutex);
	list_remove_locked(fs, inode);
	mutex_unlock(&fs->span_mutex);
}

void span_set_pending(struct fs *fs, struct inode *inode, struct span *span, uint32_t i, uint32_t place)
{
	uint64_t block = span->index * SPAN_BLOCKS + i;

	if (span->pending[i] != NOT_PENDING) {
		segment_drop(fs, span->pending[i]);
	} else {
		span->pending_count++;
		inode->pending_blocks++;
		if (span_is_hole(&span->map, i))
			inode->blocks++;
	}
	span->pending[i] = place;
	inode->pending_end = max_of(inode->pending_end, block + 1);
}

/* ---- transactions ------------------------------------------------------------------------ */

/* The run of picked blocks from @first on that follow each other on the volume. */
static uint32_t picked_run(const struct span_map *map, const uint64_t mask[2], uint32_t first)
{
	uint32_t n = 1;

	while (first + n < SPAN_BLOCKS && mask_has(mask, first + n) &&
	    map->block[first + n] == map->block[first] + n)
		n++;
	return n;
}

void span_use_blocks(const struct span_map *map, const uint64_t mask[2], struct store_batch *batch)
{
	for (uint32_t i = 0, n; i < SPAN_BLOCKS; i += n) {
		n = 1;
		if (!mask_has(mask, i))
			continue;
		n = picked_run(map, mask, i);
		store_batch_use_blocks(batch, map->block[i], n, &map->checksum[i]);
	}
}

void span_free_blocks(const struct span_map *map, const uint64_t mask[2], struct store_batch *batch)
{
	for (uint32_t i = 0, n; i < SPAN_BLOCKS; i += n) {
		n = 1;
		if (!mask_has(mask, i))
			continue;
		n = picked_run(map, mask, i);
		store_batch_free_blocks(batch, map->block[i], n);
	}
}
