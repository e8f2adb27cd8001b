/*
 * Names and attributes.  Permission checks are the kernel's (default_permissions),
 * and so are the sticky bit, trailing slashes and the kinds of both ends of a rename.
 */
#include "config.h"

#include "fuse/ops.h"

#include <errno.h>

#include "fuse/reply.h"

#define STATFS_BLOCK_BYTES 4096

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *text)
{
	struct fs_attr attr;
	struct fs_name name;
	int err = name_from_request(text, &name);

	if (!err)
		err = fs_lookup(request_daemon(req)->fs, parent, name, &attr);
	reply_lookup(req, err, &attr);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t lookups)
{
	fs_forget(request_daemon(req)->fs, ino, lookups);
	fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct fs *fs = request_daemon(req)->fs;

	for (size_t i = 0; i < count; i++)
		fs_forget(fs, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_attr attr;
	int err = fs_getattr(request_daemon(req)->fs, ino, &attr);

	reply_attr(req, err, &attr);
}

/* "Now" comes with the plain flag set as well, and wins. */
static unsigned set_from_valid(int valid)
{
	static const struct {
		int valid;
		unsigned set;
	} map[] = {
	    {FUSE_SET_ATTR_MODE, FS_SET_MODE},
	    {FUSE_SET_ATTR_UID, FS_SET_UID},
	    {FUSE_SET_ATTR_GID, FS_SET_GID},
	    {FUSE_SET_ATTR_SIZE, FS_SET_SIZE},
	    {FUSE_SET_ATTR_ATIME, FS_SET_ATIME},
	    {FUSE_SET_ATTR_MTIME, FS_SET_MTIME},
	    {FUSE_SET_ATTR_ATIME_NOW, FS_SET_ATIME_NOW},
	    {FUSE_SET_ATTR_MTIME_NOW, FS_SET_MTIME_NOW},
	    {FUSE_SET_ATTR_CTIME, FS_SET_CTIME},
	};
	unsigned set = 0;

	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
		if (valid & map[i].valid)
			set |= map[i].set;
	if (set & FS_SET_ATIME_NOW)
		set &= ~(unsigned)FS_SET_ATIME;
	if (set & FS_SET_MTIME_NOW)
		set &= ~(unsigned)FS_SET_MTIME;
	return set;
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int valid,
    struct fuse_file_info *fi)
{
	const struct fs_attr wanted = {
	    .mode = st->st_mode,
	    .uid = st->st_uid,
	    .gid = st->st_gid,
	    .size = (uint64_t)st->st_size,
	    .atime = st->st_atim,
	    .mtime = st->st_mtim,
	    .ctime = st->st_ctim,
	};
	struct fs_attr attr;
	int err = fs_setattr(
	    request_daemon(req)->fs, ino, set_from_valid(valid), &wanted, &attr);

	reply_attr(req, err, &attr);
}

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	char target[FS_SYMLINK_MAX + 1];
	ssize_t len =
	    fs_readlink(request_daemon(req)->fs, ino, target, FS_SYMLINK_MAX);

	if (len < 0) {
		reply_status(req, (int)len);
		return;
	}
	target[len] = '\0';
	fuse_reply_readlink(req, target);
}

void op_mknod(
    fuse_req_t req, fuse_ino_t parent, const char *text, mode_t mode, dev_t rdev)
{
	struct fs_cred cred = cred_of_request(req);
	struct fs_attr attr;
	struct fs_name name;
	int err = name_from_request(text, &name);

	if (!err)
		err = fs_mknod(
		    request_daemon(req)->fs, parent, name, mode, rdev, &cred, &attr);
	reply_entry(req, err, &attr);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *text, mode_t mode)
{
	struct fs_cred cred = cred_of_request(req);
	struct fs_attr attr;
	struct fs_name name;
	int err = name_from_request(text, &name);

	if (!err)
		err = fs_mkdir(
		    request_daemon(req)->fs, parent, name, mode, &cred, &attr);
	reply_entry(req, err, &attr);
}

void op_symlink(
    fuse_req_t req, const char *target, fuse_ino_t parent, const char *text)
{
	struct fs_cred cred = cred_of_request(req);
	struct fs_attr attr;
	struct fs_name name;
	int err = name_from_request(text, &name);

	if (!err)
		err = fs_symlink(
		    request_daemon(req)->fs, parent, name, target, &cred, &attr);
	reply_entry(req, err, &attr);
}

/* EPERM says "this file system has no hard links" (link(2)); programs then copy. */
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	reply_status(req, -EPERM);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *text)
{
	struct fs_name name;
	int err = name_from_request(text, &name);

	if (!err)
		err = fs_unlink(request_daemon(req)->fs, parent, name);
	reply_status(req, err);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *text)
{
	struct fs_name name;
	int err = name_from_request(text, &name);

	if (!err)
		err = fs_rmdir(request_daemon(req)->fs, parent, name);
	reply_status(req, err);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *text,
    fuse_ino_t new_parent, const char *new_text, unsigned int flags)
{
	struct fs_name name, new_name;
	int err = name_from_request(text, &name);

	if (!err)
		err = name_from_request(new_text, &new_name);
	if (!err)
		err = fs_rename(request_daemon(req)->fs, parent, name, new_parent,
		    new_name, flags);
	reply_status(req, err);
}

void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs_statfs counts;
	struct statvfs st;
	int err = fs_statfs(request_daemon(req)->fs, &counts);

	if (err) {
		reply_status(req, err);
		return;
	}
	st = (struct statvfs){
	    .f_bsize = STATFS_BLOCK_BYTES,
	    .f_frsize = STATFS_BLOCK_BYTES,
	    .f_blocks = counts.blocks,
	    .f_bfree = counts.blocks_free,
	    .f_bavail = counts.blocks_available,
	    .f_files = counts.files,
	    .f_ffree = counts.files_free,
	    .f_favail = counts.files_free,
	    .f_namemax = FS_NAME_MAX,
	};
	fuse_reply_statfs(req, &st);
}
