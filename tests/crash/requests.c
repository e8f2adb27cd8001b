/*
 * Requests as programs make them: files created, written small, large, appending and
 * over what is there; cut and grown; saved by writing another and renaming it over;
 * directories made, moved with all they hold, removed; files unlinked while known.
 *
 * After a request the times that the file system says are entered for what it changed.
 */
#include "config.h"

#include "tests/crash/requests.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "device/device_test.h"
#include "fs/fs_internal.h"
#include "tests/support/support.h"

#define WRITE_MAX (400u * 1024)
#define FILE_MAX (1200u * 1024)
#define TRIES 50

static const struct fs_cred cred = {.uid = 1000, .gid = 1000, .umask = 022};

static uint64_t below(struct requests *r, uint64_t end)
{
	return support_random_below(&r->random, end);
}

static struct fs_name name_of(const char *name)
{
	return (struct fs_name){name, strlen(name)};
}

static struct node *node(struct requests *r, int n)
{
	return &r->history->nodes[n];
}

static struct version *now(struct requests *r, int n)
{
	return history_now(r->history, n);
}

/* ---- one request -------------------------------------------------------------------- */

static uint32_t events(const struct requests *r)
{
	return r->recording ? recording_event_count(r->recording) : 0;
}

__attribute__((format(printf, 2, 3)))
static void begin(struct requests *r, const char *format, ...)
{
	struct history *history = r->history;
	struct request *request = &history->requests[++history->request];
	va_list args;

	ck_assert_uint_lt(history->request, HISTORY_REQUESTS);
	va_start(args, format);
	vsnprintf(request->what, sizeof(request->what), format, args);
	va_end(args);
	clock_gettime(CLOCK_REALTIME_COARSE, &history->begun);
	request->events_before = request->events_after = events(r);
	r->is_under_way = true;
}

static bool failed(struct requests *r, int err)
{
	if (err < 0 && r->error == 0)
		r->error = err;
	return r->error < 0;
}

static void take_times(struct requests *r, int n)
{
	struct version *version = now(r, n);
	struct fs_attr attr;

	if (version->request != r->history->request || node(r, n)->lookups == 0 ||
	    failed(r, fs_getattr(r->fs, node(r, n)->ino, &attr)))
		return;
	version->mtime = attr.mtime;
	version->ctime = attr.ctime;
	if (S_ISREG(version->mode))
		ck_assert_uint_eq(attr.size, version->size);
}

static void end(struct requests *r, bool is_sync, int a, int b, int c)
{
	struct request *request = &r->history->requests[r->history->request];

	request->events_after = events(r);
	request->is_sync = is_sync;
	r->is_under_way = false;
	take_times(r, a);
	if (b >= 0)
		take_times(r, b);
	if (c >= 0)
		take_times(r, c);
}

/* Makes the node known to us, so that its number may be used. */
static uint64_t know(struct requests *r, int n)
{
	struct node *x = node(r, n);
	struct fs_attr attr;

	if (x->lookups == 0) {
		uint64_t parent = know(r, now(r, n)->parent);

		if (!failed(r, fs_lookup(r->fs, parent, name_of(now(r, n)->name), &attr))) {
			ck_assert_uint_eq(attr.ino, x->ino);
			x->lookups = 1;
		}
	}
	return x->ino;
}

/* ---- picking -------------------------------------------------------------------------- */

static bool suits(struct requests *r, int n, uint32_t type, bool is_linked)
{
	return !node(r, n)->is_gone && (type == 0 || node(r, n)->type == type) &&
	    (now(r, n)->is_linked || !is_linked);
}

/* -1: none found. */
static int pick(struct requests *r, uint32_t type, bool is_linked)
{
	int first = below(r, 8) ? r->first_hot : 0;
	int count = (int)r->history->node_count - first;

	for (int i = 0; i < TRIES && count > 0; i++) {
		int n = first + (int)below(r, (uint64_t)count);

		if (suits(r, n, type, is_linked))
			return n;
	}
	return type == S_IFDIR ? 0 : -1;
}

static void pick_name(struct requests *r, char name[HISTORY_NAME])
{
	if (below(r, 12) == 0)
		snprintf(name, HISTORY_NAME, "a-name-that-is-a-good-deal-longer-than-others-%u",
		    (unsigned)below(r, 3));
	else
		snprintf(name, HISTORY_NAME, "n%u", (unsigned)below(r, 14));
}

static uint64_t total_bytes(struct requests *r)
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < r->history->node_count; i++)
		if (!node(r, (int)i)->is_gone)
			total += now(r, (int)i)->size;
	return total;
}

/* Mostly small; now and then at a block's edge, or large. */
static uint64_t pick_bytes(struct requests *r, uint64_t most)
{
	static const uint64_t steps[] = {100, 3000, 3200, 9000, 40000, WRITE_MAX};
	uint64_t limit = steps[below(r, ARRAY_COUNT(steps))];

	if (below(r, 4) == 0)
		limit = (below(r, limit / HISTORY_BLOCK + 2) * HISTORY_BLOCK);
	else
		limit = below(r, limit);
	return min_of(limit, most);
}

/* ---- names ---------------------------------------------------------------------------- */

static int make(struct requests *r, int dir, const char *name, uint32_t mode, const char *target)
{
	uint64_t parent = know(r, dir);
	struct fs_attr attr = {0};
	int n, err;

	begin(r, "create %s of type %o in inode %llu", name, mode & S_IFMT, (unsigned long long)parent);
	if (S_ISDIR(mode))
		err = fs_mkdir(r->fs, parent, name_of(name), mode & 07777, &cred, &attr);
	else if (S_ISLNK(mode))
		err = fs_symlink(r->fs, parent, name_of(name), target, &cred, &attr);
	else
		err = fs_mknod(r->fs, parent, name_of(name), mode, 0, &cred, &attr);
	if (failed(r, err))
		return -1;
	n = history_add(r->history, dir, name, attr.mode, target);
	node(r, n)->ino = attr.ino;
	now(r, n)->uid = cred.uid;
	now(r, n)->gid = cred.gid;
	end(r, false, n, dir, -1);
	return n;
}

static void do_create(struct requests *r)
{
	static const uint32_t modes[] = {S_IFREG | 0640, S_IFREG | 0600, S_IFREG | 0644,
	    S_IFDIR | 0755, S_IFLNK | 0777};
	uint32_t mode = modes[below(r, ARRAY_COUNT(modes))];
	int dir = pick(r, S_IFDIR, true);
	char name[HISTORY_NAME], target[HISTORY_NAME];

	pick_name(r, name);
	snprintf(target, sizeof(target), "target-%llu", (unsigned long long)below(r, 1000000));
	if (history_find(r->history, dir, name) < 0)
		make(r, dir, name, mode, S_ISLNK(mode) ? target : NULL);
}

static void do_remove(struct requests *r)
{
	int n = pick(r, 0, true), dir;
	uint64_t parent;

	if (n <= 0 || now(r, n)->entries > 0)
		return;
	dir = now(r, n)->parent;
	parent = know(r, dir);
	begin(r, "remove %s (inode %llu) from inode %llu%s", now(r, n)->name,
	    (unsigned long long)node(r, n)->ino, (unsigned long long)parent,
	    node(r, n)->lookups ? "" : ", not known");
	if (failed(r, node(r, n)->type == S_IFDIR ?
			fs_rmdir(r->fs, parent, name_of(now(r, n)->name)) :
			fs_unlink(r->fs, parent, name_of(now(r, n)->name))))
		return;
	history_unlink(r->history, n);
	node(r, n)->is_gone = node(r, n)->lookups == 0;
	end(r, false, dir, -1, -1);
}

static bool may_replace(struct requests *r, int source, int target)
{
	bool is_dir = node(r, source)->type == S_IFDIR;

	if (target < 0)
		return true;
	return source != target && is_dir == (node(r, target)->type == S_IFDIR) &&
	    now(r, target)->entries == 0;
}

static void rename_to(struct requests *r, int n, int to, const char *name)
{
	int from = now(r, n)->parent, target = history_find(r->history, to, name);
	uint64_t from_ino = know(r, from), to_ino = know(r, to);
	struct version *version;

	if (!may_replace(r, n, target) || history_is_below(r->history, to, n))
		return;
	begin(r, "rename %s (inode %llu) in %llu to %s in %llu, over inode %llu", now(r, n)->name,
	    (unsigned long long)node(r, n)->ino, (unsigned long long)from_ino, name,
	    (unsigned long long)to_ino, target < 0 ? 0ull : (unsigned long long)node(r, target)->ino);
	if (failed(r, fs_rename(r->fs, from_ino, name_of(now(r, n)->name), to_ino,
			name_of(name), 0)))
		return;
	if (target >= 0) {
		history_unlink(r->history, target);
		node(r, target)->is_gone = node(r, target)->lookups == 0;
	}
	history_move(r->history, n, to, name);
	version = history_change(r->history, n);
	/* A file that replaces another has its data recorded first. */
	if (target >= 0 || !node(r, n)->is_dirty) {
		version->is_recorded = true;
		node(r, n)->is_dirty = false;
	}
	/* Its ctime is that of its new parent's change, should it not be known. */
	end(r, false, n, from, to);
	if (node(r, n)->lookups == 0)
		version->ctime = now(r, to)->ctime;
}

static void do_rename(struct requests *r)
{
	int n = pick(r, below(r, 3) ? 0 : S_IFDIR, true);
	int to = pick(r, S_IFDIR, true);
	char name[HISTORY_NAME];

	pick_name(r, name);
	if (n > 0)
		rename_to(r, n, to, name);
}

/* ---- data ------------------------------------------------------------------------------ */

/* Bytes that are never zero and tell the request that wrote them. */
static uint8_t *make_data(struct requests *r, uint64_t bytes)
{
	uint64_t state = (r->history->request + 1) * 0x9e3779b97f4a7c15ull;
	uint8_t *data = malloc(bytes + 1);

	ck_assert(data != NULL);
	for (uint64_t i = 0; i < bytes; i++)
		data[i] = (uint8_t)(support_random(&state) >> 56) | 1;
	return data;
}

/* The request put the file's record into the log, as it is now. */
static void note_put(struct requests *r, int n)
{
	struct version *version = history_change(r->history, n);

	version->is_put = true;
	if (!node(r, n)->is_dirty)
		version->is_recorded = true;
}

static void note_recorded(struct requests *r, int n)
{
	struct version *version = history_change(r->history, n);

	version->is_put = version->is_recorded = true;
	node(r, n)->is_dirty = false;
}

static void write_to(struct requests *r, int n, uint64_t offset, uint64_t bytes, bool is_append,
    bool is_sync)
{
	uint64_t ino = know(r, n);
	struct node *x = node(r, n);
	uint8_t *data;

	if (bytes == 0)
		return;
	begin(r, "write %llu bytes at %llu of %s (inode %llu)", (unsigned long long)bytes,
	    (unsigned long long)offset, now(r, n)->name, (unsigned long long)ino);
	data = make_data(r, bytes);
	failed(r, fs_write(r->fs, ino, offset, data, bytes, is_append, is_sync));
	/* One that fails may have been done in part. */
	history_write(r->history, n, offset, data, bytes);
	if (r->error < 0) {
		clock_gettime(CLOCK_REALTIME_COARSE, &now(r, n)->mtime);
	} else {
		x->is_inline = x->is_inline && offset + bytes <= INODE_INLINE_MAX;
		x->is_dirty = !x->is_inline;
		if (x->is_inline)
			note_put(r, n);
		if (is_sync)
			note_recorded(r, n);
		end(r, is_sync, n, -1, -1);
	}
	free(data);
}

static void do_write(struct requests *r)
{
	int n = pick(r, S_IFREG, false);
	uint64_t size, bytes, offset;
	bool is_append;

	if (n < 0 || total_bytes(r) > r->bytes_max)
		return;
	size = now(r, n)->size;
	is_append = below(r, 3) == 0;
	offset = is_append ? size : below(r, 2) ? below(r, size + 1) : pick_bytes(r, FILE_MAX);
	bytes = pick_bytes(r, WRITE_MAX);
	if (offset + bytes <= FILE_MAX)
		write_to(r, n, offset, bytes, is_append, below(r, 25) == 0);
}

static void do_truncate(struct requests *r)
{
	int n = pick(r, S_IFREG, false);
	struct fs_attr attr = {0};
	uint64_t before, ino;

	if (n < 0)
		return;
	ino = know(r, n);
	before = now(r, n)->size;
	attr.size = below(r, 3) ? below(r, before + 1) : pick_bytes(r, FILE_MAX);
	if (below(r, 4) == 0 || total_bytes(r) > r->bytes_max)
		attr.size = 0;
	begin(r, "truncate %s (inode %llu) from %llu to %llu", now(r, n)->name,
	    (unsigned long long)ino, (unsigned long long)before, (unsigned long long)attr.size);
	if (failed(r, fs_setattr(r->fs, ino, FS_SET_SIZE, &attr, NULL)))
		return;
	history_resize(r->history, n, attr.size);
	now(r, n)->is_shrink = attr.size < before;
	note_put(r, n);
	/* The block of the new end is on its way, with zeros behind it. */
	if (attr.size < before && !node(r, n)->is_inline)
		node(r, n)->is_dirty = true;
	end(r, false, n, -1, -1);
}

/* A file is written anew and takes the place of the old one, without any fsync. */
static void do_replace(struct requests *r)
{
	int n = pick(r, S_IFREG, true), fresh, dir;
	uint64_t bytes = pick_bytes(r, WRITE_MAX) + 1;
	char name[HISTORY_NAME];

	if (n < 0 || total_bytes(r) > r->bytes_max)
		return;
	dir = now(r, n)->parent;
	if (history_find(r->history, dir, "new") >= 0)
		return;
	memcpy(name, now(r, n)->name, sizeof(name));
	fresh = make(r, dir, "new", S_IFREG | 0644, NULL);
	if (fresh < 0)
		return;
	for (uint64_t at = 0; at < bytes && !r->error; at += bytes / 3 + 1)
		write_to(r, fresh, at, min_of(bytes - at, bytes / 3 + 1), false, false);
	if (!r->error)
		rename_to(r, fresh, dir, name);
}

/* ---- the rest -------------------------------------------------------------------------- */

static void do_setattr(struct requests *r)
{
	int n = pick(r, 0, true);
	struct fs_attr attr = {.mode = (uint32_t)below(r, 01000),
	    .uid = (uint32_t)below(r, 100), .gid = (uint32_t)below(r, 100)};
	unsigned set = 1 + (unsigned)below(r, 7);
	struct version *version;

	if (n < 0 || node(r, n)->type == S_IFLNK)
		return;
	know(r, n);
	begin(r, "setattr %u of inode %llu", set, (unsigned long long)node(r, n)->ino);
	if (below(r, 2)) {
		set |= FS_SET_MTIME;
		attr.mtime = (struct timespec){.tv_sec = 1000000 + (time_t)below(r, 1000)};
	}
	if (failed(r, fs_setattr(r->fs, node(r, n)->ino, set, &attr, NULL)))
		return;
	version = history_change(r->history, n);
	if (set & FS_SET_MODE)
		version->mode = node(r, n)->type | attr.mode;
	if (set & FS_SET_UID)
		version->uid = attr.uid;
	if (set & FS_SET_GID)
		version->gid = attr.gid;
	note_put(r, n);
	end(r, false, n, -1, -1);
}

static void do_fsync(struct requests *r)
{
	int n = pick(r, S_IFREG, false);

	if (n < 0)
		return;
	know(r, n);
	begin(r, "fsync of inode %llu", (unsigned long long)node(r, n)->ino);
	if (failed(r, fs_fsync(r->fs, node(r, n)->ino, below(r, 2))))
		return;
	note_recorded(r, n);
	end(r, true, n, -1, -1);
}

static void note_all_recorded(struct requests *r)
{
	for (uint32_t i = 0; i < r->history->node_count; i++) {
		const struct version *version = now(r, (int)i);

		if (node(r, (int)i)->type == S_IFREG && version->is_linked &&
		    (node(r, (int)i)->is_dirty || !version->is_put))
			note_recorded(r, (int)i);
	}
}

void requests_sync(struct requests *r)
{
	int dir = below(r, 2) ? pick(r, S_IFDIR, true) : -1;
	int err;

	if (dir >= 0)
		know(r, dir);
	begin(r, "sync of everything, %s", dir >= 0 ? "by fsync of a directory" : "by fs_sync");
	err = dir >= 0 ? fs_fsync(r->fs, node(r, dir)->ino, false) : fs_sync(r->fs);
	if (failed(r, err))
		return;
	note_all_recorded(r);
	end(r, true, 0, -1, -1);
}

/* As the worker does it: written and recorded, not asked to be durable. */
static void do_flush(struct requests *r)
{
	begin(r, "flush");
	if (failed(r, flush_all(r->fs)))
		return;
	note_all_recorded(r);
	end(r, false, 0, -1, -1);
}

static void do_checkpoint(struct requests *r)
{
	begin(r, "checkpoint");
	if (!failed(r, store_checkpoint(r->fs->store)))
		end(r, false, 0, -1, -1);
}

static void do_read(struct requests *r)
{
	int n = pick(r, S_IFREG, false);
	struct fs_read read;

	if (n < 0)
		return;
	know(r, n);
	if (failed(r, fs_read(r->fs, node(r, n)->ino, below(r, now(r, n)->size + 1), 100000, &read)))
		return;
	fs_read_done(r->fs, &read);
}

static void do_forget(struct requests *r)
{
	int n = pick(r, 0, false);
	struct node *x = node(r, n < 0 ? 0 : n);

	if (n <= 0 || x->lookups == 0)
		return;
	begin(r, "forget inode %llu", (unsigned long long)x->ino);
	fs_forget(r->fs, x->ino, x->lookups);
	x->lookups = 0;
	x->is_gone = !now(r, n)->is_linked;
	end(r, false, 0, -1, -1);
}

void requests_step(struct requests *r)
{
	static const struct {
		unsigned weight;
		void (*fn)(struct requests *r);
	} steps[] = {
	    {60, do_create}, {40, do_remove}, {40, do_rename}, {110, do_write},
	    {40, do_truncate}, {25, do_replace}, {25, do_setattr}, {16, do_fsync},
	    {8, requests_sync}, {6, do_flush}, {4, do_checkpoint}, {20, do_read},
	    {30, do_forget},
	};
	uint64_t choice, total = 0;

	for (size_t i = 0; i < ARRAY_COUNT(steps); i++)
		total += steps[i].weight;
	choice = below(r, total);
	for (size_t i = 0; i < ARRAY_COUNT(steps); i++) {
		if (choice < steps[i].weight) {
			steps[i].fn(r);
			return;
		}
		choice -= steps[i].weight;
	}
}

void requests_prepare(struct requests *r, uint32_t files, uint64_t log_bytes)
{
	int dir = make(r, 0, "base", S_IFDIR | 0755, NULL), first = -1;
	lsn_t start = store_end_lsn(r->fs->store);
	char name[HISTORY_NAME];

	for (uint32_t i = 0; i < files && !r->error; i++) {
		snprintf(name, sizeof(name), "file-%05u", i);
		first = make(r, dir, name, S_IFREG | 0644, NULL);
		if (!r->error)
			write_to(r, first, 0, 1 + below(r, INODE_INLINE_MAX), false, false);
	}
	/* The log is filled by hand: the history need not know each of these. */
	begin(r, "fill the log");
	while (!r->error && first >= 0 && store_end_lsn(r->fs->store) - start < log_bytes) {
		struct version *version = history_change(r->history, first);
		uint8_t *data = make_data(r, INODE_INLINE_MAX);

		if (!failed(r, fs_write(r->fs, node(r, first)->ino, 0, data, INODE_INLINE_MAX,
				false, false)))
			history_write(r->history, first, 0, data, INODE_INLINE_MAX);
		version->is_put = version->is_recorded = true;
		free(data);
	}
	end(r, false, first < 0 ? 0 : first, -1, -1);
	r->first_hot = (int)r->history->node_count;
	requests_sync(r);
}
