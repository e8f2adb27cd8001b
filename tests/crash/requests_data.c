/*
 * Requests that change what is in files: see requests.c.
 */
#include "config.h"

#include "tests/crash/requests_internal.h"

#include <check.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "fs/fs_internal.h"
#include "tests/support/support.h"

#define WRITE_MAX (400u * 1024)
#define FILE_MAX (1200u * 1024)

static uint64_t total_bytes(struct requests *r)
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < r->history->node_count; i++)
		if (!requests_node(r, (int)i)->is_gone)
			total += requests_now(r, (int)i)->size;
	return total;
}

/* Mostly small; now and then at a block's edge, or large. */
static uint64_t pick_bytes(struct requests *r, uint64_t most)
{
	static const uint64_t steps[] = {100, 3000, 3200, 9000, 40000, WRITE_MAX};
	uint64_t limit = steps[requests_below(r, ARRAY_COUNT(steps))];

	if (requests_below(r, 4) == 0)
		limit = (requests_below(r, limit / HISTORY_BLOCK + 2) * HISTORY_BLOCK);
	else
		limit = requests_below(r, limit);
	return min_of(limit, most);
}

/* ---- data ------------------------------------------------------------------------------ */

uint8_t *requests_data(struct requests *r, uint64_t bytes)
{
	uint64_t state = (r->history->request + 1) * 0x9e3779b97f4a7c15ull;
	uint8_t *data = malloc(bytes + 1);

	ck_assert(data != NULL);
	for (uint64_t i = 0; i < bytes; i++)
		data[i] = (uint8_t)(support_random(&state) >> 56) | 1;
	return data;
}

void requests_note_put(struct requests *r, int n)
{
	struct version *version = history_change(r->history, n);

	version->is_put = true;
	if (!requests_node(r, n)->is_dirty)
		version->is_recorded = true;
}

void requests_note_recorded(struct requests *r, int n)
{
	struct version *version = history_change(r->history, n);

	version->is_put = version->is_recorded = true;
	requests_node(r, n)->is_dirty = false;
}

void requests_write(struct requests *r, int n, uint64_t offset, uint64_t bytes, bool is_append,
    bool is_sync)
{
	uint64_t ino = requests_know(r, n);
	struct node *x = requests_node(r, n);
	uint8_t *data;

	if (bytes == 0)
		return;
	request_begin(r, "write %llu bytes at %llu of %s (inode %llu)", (unsigned long long)bytes,
	    (unsigned long long)offset, requests_now(r, n)->name, (unsigned long long)ino);
	data = requests_data(r, bytes);
	request_failed(r, fs_write(r->fs, ino, offset, data, bytes, is_append, is_sync));
	/* One that fails may have been done in part. */
	history_write(r->history, n, offset, data, bytes);
	if (r->error < 0) {
		clock_gettime(CLOCK_REALTIME_COARSE, &requests_now(r, n)->mtime);
	} else {
		x->is_inline = x->is_inline && offset + bytes <= INODE_INLINE_MAX;
		x->is_dirty = !x->is_inline;
		if (x->is_inline)
			requests_note_put(r, n);
		if (is_sync)
			requests_note_recorded(r, n);
		request_end(r, is_sync, n, -1, -1);
	}
	free(data);
}

void requests_do_write(struct requests *r)
{
	int n = requests_pick(r, S_IFREG, false);
	uint64_t size, bytes, offset;
	bool is_append;

	if (n < 0 || total_bytes(r) > r->bytes_max)
		return;
	size = requests_now(r, n)->size;
	is_append = requests_below(r, 3) == 0;
	offset = is_append ? size : requests_below(r, 2) ? requests_below(r, size + 1) : pick_bytes(r, FILE_MAX);
	bytes = pick_bytes(r, WRITE_MAX);
	if (offset + bytes <= FILE_MAX)
		requests_write(r, n, offset, bytes, is_append, requests_below(r, 25) == 0);
}

void requests_do_truncate(struct requests *r)
{
	int n = requests_pick(r, S_IFREG, false);
	struct fs_attr attr = {0};
	uint64_t before, ino;

	if (n < 0)
		return;
	ino = requests_know(r, n);
	before = requests_now(r, n)->size;
	attr.size = requests_below(r, 3) ? requests_below(r, before + 1) : pick_bytes(r, FILE_MAX);
	if (requests_below(r, 4) == 0 || total_bytes(r) > r->bytes_max)
		attr.size = 0;
	request_begin(r, "truncate %s (inode %llu) from %llu to %llu", requests_now(r, n)->name,
	    (unsigned long long)ino, (unsigned long long)before, (unsigned long long)attr.size);
	if (request_failed(r, fs_setattr(r->fs, ino, FS_SET_SIZE, &attr, NULL)))
		return;
	history_resize(r->history, n, attr.size);
	if (attr.size <= before)
		history_claim(r->history, n, div_up(attr.size, HISTORY_BLOCK), HISTORY_CLAIMS, false);
	requests_now(r, n)->is_shrink = attr.size < before;
	requests_note_put(r, n);
	/* The block of the new end is on its way, with zeros behind it. */
	if (attr.size < before && !requests_node(r, n)->is_inline)
		requests_node(r, n)->is_dirty = true;
	request_end(r, false, n, -1, -1);
}

static uint64_t claimed_bytes(struct requests *r)
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < r->history->node_count; i++) {
		const bool *claims = requests_now(r, (int)i)->claims;

		for (uint32_t b = 0; claims && !requests_node(r, (int)i)->is_gone && b < HISTORY_CLAIMS; b++)
			total += claims[b] ? HISTORY_BLOCK : 0;
	}
	return total;
}

static void note_fallocate(struct requests *r, int n, int mode, uint64_t offset, uint64_t bytes)
{
	bool is_punch = mode & FALLOC_FL_PUNCH_HOLE;
	uint64_t end = offset + bytes;

	history_change(r->history, n);
	if (!(mode & FALLOC_FL_KEEP_SIZE))
		history_resize(r->history, n, max_of(requests_now(r, n)->size, end));
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		history_zero(r->history, n, offset, bytes);
	if (is_punch)
		history_claim(r->history, n, offset / HISTORY_BLOCK, div_up(end, HISTORY_BLOCK), false);
	else
		history_claim(r->history, n, offset / HISTORY_BLOCK, div_up(end, HISTORY_BLOCK), true);
}

void requests_do_fallocate(struct requests *r)
{
	static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
	    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE};
	int n = requests_pick(r, S_IFREG, false), mode = modes[requests_below(r, ARRAY_COUNT(modes))];
	uint64_t offset, bytes, ino;

	if (n < 0 || total_bytes(r) + claimed_bytes(r) > r->bytes_max)
		return;
	offset = requests_below(r, 2) ? requests_below(r, requests_now(r, n)->size + 1) : pick_bytes(r, FILE_MAX);
	bytes = min_of(pick_bytes(r, WRITE_MAX) + 1, FILE_MAX - offset);
	if (bytes == 0)
		return;
	ino = requests_know(r, n);
	request_begin(r, "fallocate, mode %x, %llu bytes at %llu of %s (inode %llu)", (unsigned)mode,
	    (unsigned long long)bytes, (unsigned long long)offset, requests_now(r, n)->name,
	    (unsigned long long)ino);
	request_failed(r, fs_fallocate(r->fs, ino, mode, offset, bytes));
	/* One that fails may have been done in part. */
	note_fallocate(r, n, mode, offset, bytes);
	if (r->error < 0) {
		clock_gettime(CLOCK_REALTIME_COARSE, &requests_now(r, n)->mtime);
		return;
	}
	if (!(mode & FALLOC_FL_PUNCH_HOLE))
		requests_node(r, n)->is_inline = false;
	/* Blocks at the edges may be on their way, with zeros in them. */
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		requests_node(r, n)->is_dirty |= !requests_node(r, n)->is_inline;
	else
		requests_note_put(r, n);
	request_end(r, false, n, -1, -1);
}

/* A file is written anew and takes the place of the old one, without any fsync. */
void requests_do_replace(struct requests *r)
{
	int n = requests_pick(r, S_IFREG, true), fresh, dir;
	uint64_t bytes = pick_bytes(r, WRITE_MAX) + 1;
	char name[HISTORY_NAME];

	if (n < 0 || total_bytes(r) > r->bytes_max)
		return;
	dir = requests_now(r, n)->parent;
	if (history_find(r->history, dir, "new") >= 0)
		return;
	memcpy(name, requests_now(r, n)->name, sizeof(name));
	fresh = requests_make(r, dir, "new", S_IFREG | 0644, NULL);
	if (fresh < 0)
		return;
	for (uint64_t at = 0; at < bytes && !r->error; at += bytes / 3 + 1)
		requests_write(r, fresh, at, min_of(bytes - at, bytes / 3 + 1), false, false);
	if (!r->error)
		requests_rename(r, fresh, dir, name);
}
