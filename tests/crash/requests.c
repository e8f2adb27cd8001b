/*
 * Requests as programs make them: files created, written small, large, appending and
 * over what is there; cut and grown; allocated, zeroed and punched; saved by writing
 * another and renaming it over; directories made, moved with all they hold, removed;
 * files unlinked while known.
 *
 * After a request the times that the file system says are entered for what it changed.
 */
#include "config.h"

#include "tests/crash/requests_internal.h"

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "device/device_test.h"
#include "fs/fs_internal.h"
#include "tests/support/support.h"

#define TRIES 50

static const struct fs_cred cred = {.uid = 1000, .gid = 1000, .umask = 022};

uint64_t requests_below(struct requests *r, uint64_t end)
{
	return support_random_below(&r->random, end);
}

static struct fs_name name_of(const char *name)
{
	return (struct fs_name){name, strlen(name)};
}

struct node *requests_node(struct requests *r, int n)
{
	return &r->history->nodes[n];
}

struct version *requests_now(struct requests *r, int n)
{
	return history_now(r->history, n);
}

/* ---- one request -------------------------------------------------------------------- */

static uint32_t events(const struct requests *r)
{
	return r->recording ? recording_event_count(r->recording) : 0;
}

void request_begin(struct requests *r, const char *format, ...)
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

bool request_failed(struct requests *r, int err)
{
	if (err < 0 && r->error == 0)
		r->error = err;
	return r->error < 0;
}

static void take_times(struct requests *r, int n)
{
	struct version *version = requests_now(r, n);
	struct fs_attr attr;

	if (version->request != r->history->request || requests_node(r, n)->lookups == 0 ||
	    request_failed(r, fs_getattr(r->fs, requests_node(r, n)->ino, &attr)))
		return;
	version->mtime = attr.mtime;
	version->ctime = attr.ctime;
	if (S_ISREG(version->mode))
		ck_assert_uint_eq(attr.size, version->size);
}

void request_end(struct requests *r, bool is_sync, int a, int b, int c)
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

uint64_t requests_know(struct requests *r, int n)
{
	struct node *x = requests_node(r, n);
	struct fs_attr attr;

	if (x->lookups == 0) {
		uint64_t parent = requests_know(r, requests_now(r, n)->parent);

		if (!request_failed(r, fs_lookup(r->fs, parent, name_of(requests_now(r, n)->name), &attr))) {
			ck_assert_uint_eq(attr.ino, x->ino);
			x->lookups = 1;
		}
	}
	return x->ino;
}

/* ---- picking -------------------------------------------------------------------------- */

static bool suits(struct requests *r, int n, uint32_t type, bool is_linked)
{
	return !requests_node(r, n)->is_gone && (type == 0 || requests_node(r, n)->type == type) &&
	    (requests_now(r, n)->is_linked || !is_linked);
}

int requests_pick(struct requests *r, uint32_t type, bool is_linked)
{
	int first = requests_below(r, 8) ? r->first_hot : 0;
	int count = (int)r->history->node_count - first;

	for (int i = 0; i < TRIES && count > 0; i++) {
		int n = first + (int)requests_below(r, (uint64_t)count);

		if (suits(r, n, type, is_linked))
			return n;
	}
	return type == S_IFDIR ? 0 : -1;
}

static void pick_name(struct requests *r, char name[HISTORY_NAME])
{
	if (requests_below(r, 12) == 0)
		snprintf(name, HISTORY_NAME, "a-name-that-is-a-good-deal-longer-than-others-%u",
		    (unsigned)requests_below(r, 3));
	else
		snprintf(name, HISTORY_NAME, "n%u", (unsigned)requests_below(r, 14));
}

/* ---- names ---------------------------------------------------------------------------- */

int requests_make(struct requests *r, int dir, const char *name, uint32_t mode, const char *target)
{
	uint64_t parent = requests_know(r, dir);
	struct fs_attr attr = {0};
	int n, err;

	request_begin(r, "create %s of type %o in inode %llu", name, mode & S_IFMT, (unsigned long long)parent);
	if (S_ISDIR(mode))
		err = fs_mkdir(r->fs, parent, name_of(name), mode & 07777, &cred, &attr);
	else if (S_ISLNK(mode))
		err = fs_symlink(r->fs, parent, name_of(name), target, &cred, &attr);
	else
		err = fs_mknod(r->fs, parent, name_of(name), mode, 0, &cred, &attr);
	if (request_failed(r, err))
		return -1;
	n = history_add(r->history, dir, name, attr.mode, target);
	requests_node(r, n)->ino = attr.ino;
	requests_now(r, n)->uid = cred.uid;
	requests_now(r, n)->gid = cred.gid;
	request_end(r, false, n, dir, -1);
	return n;
}

static void do_create(struct requests *r)
{
	static const uint32_t modes[] = {S_IFREG | 0640, S_IFREG | 0600, S_IFREG | 0644,
	    S_IFDIR | 0755, S_IFLNK | 0777};
	uint32_t mode = modes[requests_below(r, ARRAY_COUNT(modes))];
	int dir = requests_pick(r, S_IFDIR, true);
	char name[HISTORY_NAME], target[HISTORY_NAME];

	pick_name(r, name);
	snprintf(target, sizeof(target), "target-%llu", (unsigned long long)requests_below(r, 1000000));
	if (history_find(r->history, dir, name) < 0)
		requests_make(r, dir, name, mode, S_ISLNK(mode) ? target : NULL);
}

static void do_remove(struct requests *r)
{
	int n = requests_pick(r, 0, true), dir;
	uint64_t parent;

	if (n <= 0 || requests_now(r, n)->entries > 0)
		return;
	dir = requests_now(r, n)->parent;
	parent = requests_know(r, dir);
	request_begin(r, "remove %s (inode %llu) from inode %llu%s", requests_now(r, n)->name,
	    (unsigned long long)requests_node(r, n)->ino, (unsigned long long)parent,
	    requests_node(r, n)->lookups ? "" : ", not known");
	if (request_failed(r, requests_node(r, n)->type == S_IFDIR ?
			fs_rmdir(r->fs, parent, name_of(requests_now(r, n)->name)) :
			fs_unlink(r->fs, parent, name_of(requests_now(r, n)->name))))
		return;
	history_unlink(r->history, n);
	requests_node(r, n)->is_gone = requests_node(r, n)->lookups == 0;
	request_end(r, false, dir, -1, -1);
}

static bool may_replace(struct requests *r, int source, int target)
{
	bool is_dir = requests_node(r, source)->type == S_IFDIR;

	if (target < 0)
		return true;
	return source != target && is_dir == (requests_node(r, target)->type == S_IFDIR) &&
	    requests_now(r, target)->entries == 0;
}

void requests_rename(struct requests *r, int n, int to, const char *name)
{
	int from = requests_now(r, n)->parent, target = history_find(r->history, to, name);
	uint64_t from_ino = requests_know(r, from), to_ino = requests_know(r, to);
	struct version *version;

	if (!may_replace(r, n, target) || history_is_below(r->history, to, n))
		return;
	request_begin(r, "rename %s (inode %llu) in %llu to %s in %llu, over inode %llu", requests_now(r, n)->name,
	    (unsigned long long)requests_node(r, n)->ino, (unsigned long long)from_ino, name,
	    (unsigned long long)to_ino, target < 0 ? 0ull : (unsigned long long)requests_node(r, target)->ino);
	if (request_failed(r, fs_rename(r->fs, from_ino, name_of(requests_now(r, n)->name), to_ino,
			name_of(name), 0)))
		return;
	if (target >= 0) {
		history_unlink(r->history, target);
		requests_node(r, target)->is_gone = requests_node(r, target)->lookups == 0;
	}
	history_move(r->history, n, to, name);
	version = history_change(r->history, n);
	/* A file that replaces another has its data recorded first. */
	if (target >= 0 || !requests_node(r, n)->is_dirty) {
		version->is_recorded = true;
		requests_node(r, n)->is_dirty = false;
	}
	/* Its ctime is that of its new parent's change, should it not be known. */
	request_end(r, false, n, from, to);
	if (requests_node(r, n)->lookups == 0)
		version->ctime = requests_now(r, to)->ctime;
}

static void do_rename(struct requests *r)
{
	int n = requests_pick(r, requests_below(r, 3) ? 0 : S_IFDIR, true);
	int to = requests_pick(r, S_IFDIR, true);
	char name[HISTORY_NAME];

	pick_name(r, name);
	if (n > 0)
		requests_rename(r, n, to, name);
}

/* ---- the rest -------------------------------------------------------------------------- */

static void do_setattr(struct requests *r)
{
	int n = requests_pick(r, 0, true);
	struct fs_attr attr = {.mode = (uint32_t)requests_below(r, 01000),
	    .uid = (uint32_t)requests_below(r, 100), .gid = (uint32_t)requests_below(r, 100)};
	unsigned set = 1 + (unsigned)requests_below(r, 7);
	struct version *version;

	if (n < 0 || requests_node(r, n)->type == S_IFLNK)
		return;
	requests_know(r, n);
	request_begin(r, "setattr %u of inode %llu", set, (unsigned long long)requests_node(r, n)->ino);
	if (requests_below(r, 2)) {
		set |= FS_SET_MTIME;
		attr.mtime = (struct timespec){.tv_sec = 1000000 + (time_t)requests_below(r, 1000)};
	}
	if (request_failed(r, fs_setattr(r->fs, requests_node(r, n)->ino, set, &attr, NULL)))
		return;
	version = history_change(r->history, n);
	if (set & FS_SET_MODE)
		version->mode = requests_node(r, n)->type | attr.mode;
	if (set & FS_SET_UID)
		version->uid = attr.uid;
	if (set & FS_SET_GID)
		version->gid = attr.gid;
	requests_note_put(r, n);
	request_end(r, false, n, -1, -1);
}

static void do_fsync(struct requests *r)
{
	int n = requests_pick(r, S_IFREG, false);

	if (n < 0)
		return;
	requests_know(r, n);
	request_begin(r, "fsync of inode %llu", (unsigned long long)requests_node(r, n)->ino);
	if (request_failed(r, fs_fsync(r->fs, requests_node(r, n)->ino, requests_below(r, 2))))
		return;
	requests_note_recorded(r, n);
	request_end(r, true, n, -1, -1);
}

static void note_all_recorded(struct requests *r)
{
	for (uint32_t i = 0; i < r->history->node_count; i++) {
		const struct version *version = requests_now(r, (int)i);

		if (requests_node(r, (int)i)->type == S_IFREG && version->is_linked &&
		    (requests_node(r, (int)i)->is_dirty || !version->is_put))
			requests_note_recorded(r, (int)i);
	}
}

void requests_sync(struct requests *r)
{
	int dir = requests_below(r, 2) ? requests_pick(r, S_IFDIR, true) : -1;
	int err;

	if (dir >= 0)
		requests_know(r, dir);
	request_begin(r, "sync of everything, %s", dir >= 0 ? "by fsync of a directory" : "by fs_sync");
	err = dir >= 0 ? fs_fsync(r->fs, requests_node(r, dir)->ino, false) : fs_sync(r->fs);
	if (request_failed(r, err))
		return;
	note_all_recorded(r);
	request_end(r, true, 0, -1, -1);
}

/* As the worker does it: written and recorded, not asked to be durable. */
static void do_flush(struct requests *r)
{
	request_begin(r, "flush");
	if (request_failed(r, flush_all(r->fs)))
		return;
	note_all_recorded(r);
	request_end(r, false, 0, -1, -1);
}

static void do_checkpoint(struct requests *r)
{
	request_begin(r, "checkpoint");
	if (!request_failed(r, store_checkpoint(r->fs->store)))
		request_end(r, false, 0, -1, -1);
}

static void do_read(struct requests *r)
{
	int n = requests_pick(r, S_IFREG, false);
	struct fs_read read;

	if (n < 0)
		return;
	requests_know(r, n);
	if (request_failed(r, fs_read(r->fs, requests_node(r, n)->ino, requests_below(r, requests_now(r, n)->size + 1), 100000, &read)))
		return;
	fs_read_done(r->fs, &read);
}

static void do_forget(struct requests *r)
{
	int n = requests_pick(r, 0, false);
	struct node *x = requests_node(r, n < 0 ? 0 : n);

	if (n <= 0 || x->lookups == 0)
		return;
	request_begin(r, "forget inode %llu", (unsigned long long)x->ino);
	fs_forget(r->fs, x->ino, x->lookups);
	x->lookups = 0;
	x->is_gone = !requests_now(r, n)->is_linked;
	request_end(r, false, 0, -1, -1);
}

void requests_step(struct requests *r)
{
	static const struct {
		unsigned weight;
		void (*fn)(struct requests *r);
	} steps[] = {
	    {60, do_create}, {40, do_remove}, {40, do_rename}, {110, requests_do_write},
	    {40, requests_do_truncate}, {60, requests_do_fallocate}, {25, requests_do_replace}, {25, do_setattr}, {16, do_fsync},
	    {8, requests_sync}, {6, do_flush}, {4, do_checkpoint}, {20, do_read},
	    {30, do_forget},
	};
	uint64_t choice, total = 0;

	for (size_t i = 0; i < ARRAY_COUNT(steps); i++)
		total += steps[i].weight;
	choice = requests_below(r, total);
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
	int dir = requests_make(r, 0, "base", S_IFDIR | 0755, NULL), first = -1;
	lsn_t start = store_end_lsn(r->fs->store);
	char name[HISTORY_NAME];

	for (uint32_t i = 0; i < files && !r->error; i++) {
		snprintf(name, sizeof(name), "file-%05u", i);
		first = requests_make(r, dir, name, S_IFREG | 0644, NULL);
		if (!r->error)
			requests_write(r, first, 0, 1 + requests_below(r, INODE_INLINE_MAX), false, false);
	}
	/* The log is filled by hand: the history need not know each of these. */
	request_begin(r, "fill the log");
	while (!r->error && first >= 0 && store_end_lsn(r->fs->store) - start < log_bytes) {
		struct version *version = history_change(r->history, first);
		uint8_t *data = requests_data(r, INODE_INLINE_MAX);

		if (!request_failed(r, fs_write(r->fs, requests_node(r, first)->ino, 0, data, INODE_INLINE_MAX,
				false, false)))
			history_write(r->history, first, 0, data, INODE_INLINE_MAX);
		version->is_put = version->is_recorded = true;
		free(data);
	}
	request_end(r, false, first < 0 ? 0 : first, -1, -1);
	r->first_hot = (int)r->history->node_count;
	requests_sync(r);
}
