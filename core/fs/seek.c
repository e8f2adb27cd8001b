/*
 * Finding data and holes: lseek(2) with SEEK_DATA and SEEK_HOLE.
 *
 *	              size
 *	               v
 *	| data |  |data|         what is pending is data; what is claimed is a hole;
 *	        ^      ^         behind the last byte there is one
 *	      hole    hole
 *
 * Spans come from two places, in order of their index: those in core, which know what
 * is pending, and the records in the tree.  Both are sparse: a hole costs nothing
 * however long it is, and what it takes to pass spans that hold nothing wanted is
 * bounded for each time the locks are taken.
 *
 * Locking: names gate (the records), inode shared.
 */
#include "config.h"

#include "fs/fs_internal.h"

#include <errno.h>
#include <unistd.h>

#include "base/log.h"

#define PIECE_SPANS 1024u

struct seeker {
	struct fs *fs;
	struct inode *inode;
	bool wants_data;
	uint64_t at; /* bytes: nothing wanted before */

	struct key key;
	struct store_cursor *cursor; /* NULL: no records above span 0 */
	bool has_item, is_over;
	uint64_t item_index;
	struct span_map item_map;
};

/* ---- the next span ------------------------------------------------------------ */

/* Moves to the first record at or above @index. */
static int seek_item(struct seeker *s, uint64_t index)
{
	char path[DESCRIBE_BYTES];
	struct store_item item;
	int err;

	while (s->cursor && !s->is_over && (!s->has_item || s->item_index < index)) {
		err = store_cursor_next(s->cursor, &item);
		s->has_item = err == 0;
		s->is_over = err == -ENOENT;
		if (err == -ENOENT)
			break;
		if (err < 0)
			return err;
		if (item.key_bytes != s->key.base + sizeof(uint64_t) ||
		    span_decode(item.value, item.value_bytes, &s->item_map) < 0) {
			log_error("%s: damaged extent record", key_describe(&s->key, path));
			return -EUCLEAN;
		}
		s->item_index = be64_load(item.key + s->key.base) / SPAN_BYTES;
	}
	return 0;
}

struct view {
	uint64_t index; /* UINT64_MAX: there is none */
	const struct span_map *map;
	const uint32_t *pending; /* NULL: nothing */
	struct span_map first;
};

/* The first span at or above @index that is in core or has a record. */
static int next_view(struct seeker *s, uint64_t index, struct view *view)
{
	const struct inode *inode = s->inode;
	uint32_t at = span_position(inode, index);
	const struct span *span = at < inode->span_count ? inode->spans[at] : NULL;
	int err;

	*view = (struct view){.index = UINT64_MAX};
	if (index == 0 && !(span && span->index == 0)) {
		view->index = 0;
		view->map = &view->first;
		return span_load(s->fs, s->inode, 0, &view->first);
	}
	err = seek_item(s, index);
	if (err < 0)
		return err;
	if (span)
		*view = (struct view){.index = span->index, .map = &span->map, .pending = span->pending};
	if (s->has_item && s->item_index < view->index)
		*view = (struct view){.index = s->item_index, .map = &s->item_map};
	return 0;
}

static bool is_data(const struct view *view, uint32_t i)
{
	return (view->pending && view->pending[i] != NOT_PENDING) || span_has_place(view->map, i);
}

/* ---- searching ------------------------------------------------------------------- */

static int open_cursor(struct seeker *s)
{
	struct store_range spans = {0};
	int err = key_spans(&s->key, s->inode);

	if (err < 0 || !(s->inode->flags & INODE_HAS_SPANS))
		return err;
	key_set_span(&s->key, max_of(s->at / SPAN_BYTES, (uint64_t)1));
	spans.prefix = spans.start = s->key.at;
	spans.prefix_bytes = s->key.base;
	spans.start_bytes = s->key.bytes;
	return store_cursor_open(s->fs->store, &spans, &s->cursor);
}

/* Answers of a search besides errors: at @at it is; or the search goes on there. */
enum { NOT_YET = 0, FOUND = 1 };

static int search_span(struct seeker *s)
{
	uint64_t index = s->at / SPAN_BYTES;
	uint32_t i = (uint32_t)(s->at % SPAN_BYTES / BLOCK_BYTES);
	struct view view;
	int err = next_view(s, index, &view);

	if (err < 0)
		return err;
	if (view.index > index) {
		if (!s->wants_data)
			return FOUND;
		if (view.index == UINT64_MAX) {
			s->at = UINT64_MAX;
			return FOUND;
		}
		i = 0;
		s->at = view.index * SPAN_BYTES;
	}
	while (i < SPAN_BLOCKS && is_data(&view, i) != s->wants_data)
		i++;
	s->at = max_of(s->at, view.index * SPAN_BYTES + (uint64_t)i * BLOCK_BYTES);
	return i < SPAN_BLOCKS ? FOUND : NOT_YET;
}

static int search_inline(struct seeker *s)
{
	uint64_t end = round_up(s->inode->body_bytes, BLOCK_BYTES);

	if (s->wants_data && s->at >= end)
		s->at = UINT64_MAX;
	if (!s->wants_data)
		s->at = max_of(s->at, end);
	return FOUND;
}

/* Some spans further.  Locked, in the gate. */
static int search_piece(struct seeker *s)
{
	const struct inode *inode = s->inode;
	int err = 0;

	if (s->at >= inode->attr.size)
		return FOUND;
	if (inode->body != INODE_BODY_SPAN && !inode->is_spread)
		return search_inline(s);
	err = open_cursor(s);
	for (uint32_t n = 0; err == NOT_YET && n < PIECE_SPANS && s->at < inode->attr.size; n++)
		err = search_span(s);
	store_cursor_close(s->cursor);
	s->cursor = NULL;
	s->has_item = s->is_over = false;
	return err == NOT_YET && s->at >= inode->attr.size ? FOUND : err;
}

/* What is found behind the end is the hole there. */
static int search(struct seeker *s, uint64_t *ret)
{
	bool is_first = true;
	uint64_t size;
	int err;

	do {
		unsigned ticket = gate_enter_shared(s->fs->names);

		inode_lock_shared(s->inode);
		size = s->inode->attr.size;
		err = s->at >= size && is_first ? -ENXIO : search_piece(s);
		inode_unlock(s->inode);
		gate_leave_shared(s->fs->names, ticket);
		is_first = false;
	} while (err == NOT_YET);
	if (err < 0)
		return err;
	if (s->at >= size && s->wants_data)
		return -ENXIO;
	*ret = min_of(s->at, size);
	return 0;
}

int fs_seek(struct fs *fs, uint64_t ino, uint64_t offset, int whence, uint64_t *ret)
{
	struct seeker s = {.fs = fs, .wants_data = whence == SEEK_DATA, .at = offset};
	int err = whence == SEEK_DATA || whence == SEEK_HOLE ? 0 : -EINVAL;

	if (err == 0)
		err = inode_get(fs, ino, &s.inode);
	if (err < 0)
		return err;
	key_init(&s.key);
	err = s.inode->type == S_IFREG ? search(&s, ret) : -EINVAL;
	key_fini(&s.key);
	inode_put(fs, s.inode);
	return err;
}
