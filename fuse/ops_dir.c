/*
 * Listings.  A directory handle is the file layer's; offsets are its tokens.  The
 * daemon keeps a list of them: a connection that is cut while programs have
 * directories open sends no RELEASEDIR.
 *
 * One request fills one buffer of the size the kernel asks for:
 *
 *   fs_readdir --entry--> add_entry --libfuse's layout--> buffer --> one reply
 *
 * With attributes (readdirplus) each entry carries a look-up into the kernel.  If
 * the reply does not arrive they are given back by reading the buffer again.
 *
 * The kernel reads one open directory by one request at a time, which keeps the
 * handle to one thread.
 */
#include "config.h"

#include "fuse/ops.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/lock.h"
#include "fuse/reply.h"

/* ---- handles ------------------------------------------------------------------ */

struct listing_handle {
	struct fs_dir *dir;		     /* set at init */
	struct listing_handle *next, **link; /* guarded by the daemon's lock; link
					      * points at what points here */
};

static struct listing_handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct listing_handle *)(uintptr_t)fi->fh;
}

static struct listing_handle *add_handle(struct daemon *daemon, struct fs_dir *dir)
{
	struct listing_handle *handle = malloc(sizeof(*handle));

	if (!handle)
		return NULL;
	handle->dir = dir;
	mutex_lock(&daemon->lock);
	handle->next = daemon->listings;
	handle->link = &daemon->listings;
	if (handle->next)
		handle->next->link = &handle->next;
	daemon->listings = handle;
	mutex_unlock(&daemon->lock);
	return handle;
}

static void close_handle(struct daemon *daemon, struct listing_handle *handle)
{
	mutex_lock(&daemon->lock);
	*handle->link = handle->next;
	if (handle->next)
		handle->next->link = handle->link;
	mutex_unlock(&daemon->lock);
	fs_closedir(handle->dir);
	free(handle);
}

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct daemon *daemon = request_daemon(req);
	struct listing_handle *handle;
	struct fs_dir *dir;
	int err = fs_opendir(daemon->fs, ino, &dir);

	if (err) {
		reply_status(req, err);
		return;
	}
	handle = add_handle(daemon, dir);
	if (!handle) {
		fs_closedir(dir);
		reply_status(req, -ENOMEM);
		return;
	}
	fi->fh = (uintptr_t)handle;
	if (fuse_reply_open(req, fi))
		close_handle(daemon, handle);
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	close_handle(request_daemon(req), handle_of(fi));
	reply_status(req, 0);
}

void close_listings(struct daemon *daemon)
{
	while (daemon->listings)
		close_handle(daemon, daemon->listings);
}

/* ---- entries ------------------------------------------------------------------ */

struct listing {
	fuse_req_t req;
	bool has_attr;
	char *buffer;
	size_t used, capacity;
};

/* "." and "..", and everything in a plain listing, come without attributes: then
 * only number and type of the stat count, and no look-up is added (node id 0). */
static size_t add_direntry(
    struct listing *list, const struct fs_dirent *entry, const char *name)
{
	char *at = list->buffer + list->used;
	size_t room = list->capacity - list->used;
	struct fuse_entry_param param = {
	    .attr = {.st_ino = entry->ino, .st_mode = entry->type}};

	if (!list->has_attr)
		return fuse_add_direntry(
		    list->req, at, room, name, &param.attr, (off_t)entry->token);
	if (entry->attr)
		param = reply_entry_param(entry->attr);
	return fuse_add_direntry_plus(
	    list->req, at, room, name, &param, (off_t)entry->token);
}

static bool add_entry(void *ctx, const struct fs_dirent *entry)
{
	struct listing *list = ctx;
	char name[FS_NAME_MAX + 1];
	size_t bytes;

	memcpy(name, entry->name.bytes, entry->name.len);
	name[entry->name.len] = '\0';
	bytes = add_direntry(list, entry, name);
	if (bytes > list->capacity - list->used)
		return false;
	list->used += bytes;
	return true;
}

static void forget_listed(struct fs *fs, const struct listing *list)
{
	for (size_t at = 0; at < list->used;) {
		const struct fuse_direntplus *plus =
		    (const void *)(list->buffer + at);

		if (plus->entry_out.nodeid)
			fs_forget(fs, plus->entry_out.nodeid, 1);
		at += FUSE_DIRENTPLUS_SIZE(plus);
	}
}

/* An error behind entries already taken waits for the next request: those entries
 * must reach the kernel. */
static void list_directory(
    fuse_req_t req, struct fs_dir *dir, size_t size, off_t offset, bool has_attr)
{
	struct fs *fs = request_daemon(req)->fs;
	cleanup_free char *buffer = malloc(size);
	struct listing list = {req, has_attr, buffer, 0, size};
	int err;

	if (!buffer) {
		reply_status(req, -ENOMEM);
		return;
	}
	err = fs_readdir(dir, (uint64_t)offset, has_attr, add_entry, &list);
	if (err && !list.used)
		reply_status(req, err);
	else if (fuse_reply_buf(req, buffer, list.used) && has_attr)
		forget_listed(fs, &list);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
    struct fuse_file_info *fi)
{
	list_directory(req, handle_of(fi)->dir, size, offset, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
    struct fuse_file_info *fi)
{
	list_directory(req, handle_of(fi)->dir, size, offset, true);
}

void op_fsyncdir(
    fuse_req_t req, fuse_ino_t ino, int is_data_only, struct fuse_file_info *fi)
{
	reply_status(req, fs_fsync(request_daemon(req)->fs, ino, is_data_only));
}
