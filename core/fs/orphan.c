/*
 * Inodes without a name: from the last unlink to the last forget, and after a crash.
 *
 *	unlink, rename over it
 *	   |  nobody knows it:    a file of one span: its blocks are freed in the same
 *	   |                      transaction, nothing is left
 *	   |  known, no blocks:   nothing is left in the tree; what can still be read
 *	   |                      (inline data, a target) is kept in core
 *	   `  otherwise:          record and spans move to "O" be64(ino) in the same
 *	                          transaction; removed in bounded steps when the last
 *	                          look-up is forgotten, or by the next open
 *
 * Invariants:
 *  1. At every instant the blocks of an unnamed inode are named by a record, under
 *     its old key or under "O".
 *  2. Steps of removal delete spans before the record, so a crash between steps
 *     leaves an orphan that can be removed again.
 *
 * Locking: keys of orphans have no path in them: removal needs neither gate nor
 * inode, which nobody can reach any more.
 */
#include "config.h"

#include "fs/fs_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/log.h"

/* ---- losing the last name -------------------------------------------------------- */

static void free_span(const struct span_map *map, struct store_batch *batch,
    struct span_counts *counts)
{
	uint64_t mask[2] = {0};

	for (uint32_t i = 0; i < SPAN_BLOCKS; i++) {
		if (span_has_place(map, i))
			mask_set(mask, i);
		counts->claims += span_is_claimed(map, i);
		counts->blocks += !span_is_hole(map, i);
	}
	span_free_blocks(map, mask, batch);
}

/* Answers how many claims it had. */
static uint32_t free_first_span(struct inode_value *value, struct store_batch *batch)
{
	struct span_counts counts = {0};
	struct span_map map;

	if (value->head.body != INODE_BODY_SPAN || from_le16(value->head.body_bytes) == 0)
		return 0;
	/* record_get() has decoded it before. */
	ASSERT(span_decode(inode_value_body(value), from_le16(value->head.body_bytes),
		   &map) == 0);
	free_span(&map, batch, &counts);
	return (uint32_t)counts.claims;
}

/* Record and spans go to the orphan's keys. */
static int move_to_orphan(struct inode *inode, struct inode_value *value, struct store_batch *batch)
{
	KEY_ON_STACK(from);
	KEY_ON_STACK(to);
	int err;

	record_fill(inode, value);
	key_orphan(&to, inode->ino);
	store_batch_put(batch, to.at, to.bytes, value->raw, value->bytes);
	if (!(inode->flags & INODE_HAS_SPANS))
		return 0;
	err = key_spans(&from, inode);
	if (err < 0)
		return err;
	key_orphan_spans(&to, inode->ino);
	store_batch_move_prefix(batch, from.at, from.bytes, to.at, to.bytes);
	return 0;
}

int unname_prepare(struct fs *fs, struct inode *inode, struct inode_value *value,
    struct timespec now, struct store_batch *batch, struct unnaming *ret)
{
	bool has_blocks = inode->body == INODE_BODY_SPAN;
	int err;

	*ret = (struct unnaming){
	    .inode = inode,
	    .before = inode->attr,
	    .is_forgotten = !inode_has_lookups(fs, inode),
	};
	ret->keeps_record = has_blocks &&
	    (!ret->is_forgotten || (inode->flags & INODE_HAS_SPANS));
	inode->attr.nlink = 0;
	inode->attr.times[INODE_CTIME] = now;
	if (ret->keeps_record) {
		err = move_to_orphan(inode, value, batch);
		if (err < 0)
			unname_cancel(ret);
		return err;
	}
	if (has_blocks) {
		ret->claims = free_first_span(value, batch);
	} else if (!ret->is_forgotten && inode->body_bytes > 0) {
		ret->body = malloc(inode->body_bytes);
		if (!ret->body) {
			unname_cancel(ret);
			return -ENOMEM;
		}
		memcpy(ret->body, inode_value_body(value), inode->body_bytes);
	}
	return 0;
}

void unname_apply(struct fs *fs, struct unnaming *unnaming)
{
	struct inode *inode = unnaming->inode;

	if (!inode)
		return;
	inode->is_orphan = true;
	inode->has_record = unnaming->keeps_record;
	inode->orphan_body = unnaming->body;
	if (!unnaming->is_forgotten)
		return;
	pending_discard(fs, inode);
	claims_close(fs, unnaming->claims);
	if (!inode->has_record) {
		spans_drop(fs, inode, 0);
		inode->body = INODE_BODY_INLINE;
		inode->body_bytes = 0;
	}
}

void unname_cancel(struct unnaming *unnaming)
{
	if (!unnaming->inode)
		return;
	unnaming->inode->attr = unnaming->before;
	free(unnaming->body);
}

/* ---- removal --------------------------------------------------------------------- */

static int delete_span(struct key *key, const struct store_item *item,
    struct store_batch *batch, struct span_counts *counts)
{
	struct span_map map;
	char path[DESCRIBE_BYTES];

	if (item->key_bytes != key->base + sizeof(uint64_t) ||
	    span_decode(item->value, item->value_bytes, &map) < 0) {
		log_error("%s: damaged extent record", key_describe(key, path));
		return -EUCLEAN;
	}
	free_span(&map, batch, counts);
	store_batch_delete(batch, item->key, item->key_bytes);
	return 0;
}

int spans_delete(struct fs *fs, const struct span_range *range, struct store_batch *batch,
    struct span_counts *ret, bool *ret_is_all)
{
	struct key *prefix = range->prefix;
	uint32_t most = min_of(range->most, BATCH_KEY_BYTES / (prefix->base + 1) + 1);
	struct store_range spans = {.prefix_bytes = prefix->base};
	struct store_cursor *cursor;
	struct store_item item;
	uint32_t n = 0;
	int err;

	*ret = (struct span_counts){0};
	key_set_span(prefix, range->first);
	spans.prefix = spans.start = prefix->at;
	spans.start_bytes = prefix->bytes;
	err = store_cursor_open(fs->store, &spans, &cursor);
	if (err < 0)
		return err;
	while (err == 0 && n < most) {
		err = store_cursor_next(cursor, &item);
		if (err == 0)
			err = delete_span(prefix, &item, batch, ret);
		n++;
	}
	store_cursor_close(cursor);
	*ret_is_all = err == -ENOENT;
	return err == -ENOENT ? 0 : err;
}

static int commit_removal(struct fs *fs, struct store_batch *batch, uint64_t claims)
{
	int err = batch_commit_claims(fs, batch, -(int64_t)claims, true);

	if (err < 0)
		return err;
	claims_close(fs, claims);
	worker_note_change(fs);
	return 0;
}

/* A bounded number of spans; *ret_is_all once none are left. */
static int remove_spans_step(struct fs *fs, uint64_t ino, uint32_t most, bool *ret_is_all)
{
	struct span_range range = {.most = most};
	struct span_counts gone;
	struct store_batch *batch;
	KEY_ON_STACK(key);
	int err = batch_take(fs, &batch);

	if (err < 0)
		return err;
	key_orphan_spans(&key, ino);
	range.prefix = &key;
	err = spans_delete(fs, &range, batch, &gone, ret_is_all);
	if (err == 0)
		err = commit_removal(fs, batch, gone.claims);
	batch_give(fs, batch);
	return err;
}

static int remove_record(struct fs *fs, uint64_t ino)
{
	struct store_batch *batch;
	struct inode_value value;
	KEY_ON_STACK(key);
	uint32_t claims;
	int err;

	key_orphan(&key, ino);
	err = record_get(fs, &key, &value);
	if (err == 0)
		err = batch_take(fs, &batch);
	if (err < 0)
		return err == -ENOENT ? 0 : err;
	claims = free_first_span(&value, batch);
	store_batch_delete(batch, key.at, key.bytes);
	err = commit_removal(fs, batch, claims);
	batch_give(fs, batch);
	return err;
}

int orphan_remove(struct fs *fs, uint64_t ino)
{
	uint32_t most = BATCH_SPANS;
	bool is_all = false;
	int err = 0;

	while (err == 0 && !is_all) {
		err = remove_spans_step(fs, ino, most, &is_all);
		if (batch_may_shrink(err, &most)) {
			is_all = false;
			err = 0;
		}
	}
	return err == 0 ? remove_record(fs, ino) : err;
}

void orphan_release(struct fs *fs, uint64_t ino, uint8_t flags)
{
	if (fs_check_writable(fs) < 0)
		return;
	if ((flags & INODE_HAS_SPANS) && worker_queue_reap(fs, ino))
		return;
	if (flags & INODE_HAS_SPANS)
		(void)orphan_remove(fs, ino);
	else
		(void)remove_record(fs, ino);
}

/* The number of the first orphan above @after. */
static int next_orphan(struct store_cursor *cursor, uint64_t after, uint64_t *ret)
{
	struct store_item item;
	KEY_ON_STACK(key);
	int err;

	key_orphan(&key, after + 1);
	store_cursor_seek(cursor, key.at, key.bytes, false);
	err = store_cursor_next(cursor, &item);
	if (err < 0)
		return err;
	if (item.key_bytes < KEY_ORPHAN_BYTES)
		return -EUCLEAN;
	*ret = be64_load(item.key + 1);
	return 0;
}

/* Damage in one orphan keeps its space, not the volume from being used. */
int orphan_remove_all(struct fs *fs)
{
	struct store_range orphans = {.prefix_bytes = 1, .keys_only = true};
	struct store_cursor *cursor;
	KEY_ON_STACK(first);
	uint64_t ino = 0;
	int err;

	key_orphan(&first, 0);
	orphans.prefix = first.at;
	err = store_cursor_open(fs->store, &orphans, &cursor);
	if (err < 0)
		return err;
	while ((err = next_orphan(cursor, ino, &ino)) == 0) {
		err = orphan_remove(fs, ino);
		if (err < 0 && err != -EUCLEAN)
			break;
		if (err < 0)
			log_warning("unlinked inode %llu is damaged and stays",
			    (unsigned long long)ino);
	}
	store_cursor_close(cursor);
	if (err == -EUCLEAN)
		log_error("damaged key among unlinked inodes");
	return err == -ENOENT || err == -EUCLEAN ? 0 : err;
}
