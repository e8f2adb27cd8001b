/*
 * Files: create, open, read, write, fsync, fallocate, lseek.
 *
 * There are no file handles.  A kernel that can do without OPEN is told so by
 * ENOSYS, once; it then keeps cached pages over opens and sends neither OPEN nor
 * RELEASE.  What an open would have told us comes with each request or is done by
 * the kernel: O_TRUNC arrives as SETATTR, O_APPEND as an offset, O_SYNC and O_DSYNC
 * in the flags of each WRITE.
 *
 * Around FALLOCATE the kernel does by itself what concerns its page cache: of a range
 * that is zeroed or punched it writes back what is dirty before, with whatever cache
 * mode, and drops the pages afterwards; it takes set-id bits away, and asks for the
 * attributes anew.  Around LSEEK it does nothing: a page of a mapped file that it has
 * not handed over yet is no data to us.  Neither may be answered with ENOSYS, which
 * would be the last time we were asked.
 */
#include "config.h"

#include "fuse/ops.h"

#include <errno.h>
#include <fcntl.h>

#include "fuse/reply.h"

void op_create(fuse_req_t req, fuse_ino_t parent, const char *text, mode_t mode,
    struct fuse_file_info *fi)
{
	struct fs_cred cred = cred_of_request(req);
	struct fs_attr attr;
	struct fs_name name;
	int err = name_from_request(text, &name);

	if (!err)
		err = fs_mknod(request_daemon(req)->fs, parent, name,
		    S_IFREG | (mode & ~(mode_t)S_IFMT), 0, &cred, &attr);
	fi->keep_cache = 1;
	reply_created(req, err, &attr, fi);
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (request_daemon(req)->has_no_open) {
		reply_status(req, -ENOSYS);
		return;
	}
	fi->keep_cache = 1;
	fuse_reply_open(req, fi);
}

/* The pieces go from the frames they lie in straight to the kernel. */
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
    struct fuse_file_info *fi)
{
	struct fs *fs = request_daemon(req)->fs;
	struct fs_read read;
	int err = fs_read(fs, ino, (uint64_t)offset, size, &read);

	if (err) {
		reply_status(req, err);
		return;
	}
	fuse_reply_iov(req, read.pieces, (int)read.count);
	fs_read_done(fs, &read);
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size,
    off_t offset, struct fuse_file_info *fi)
{
	int err = fs_write(request_daemon(req)->fs, ino, (uint64_t)offset, data, size,
	    false, fi->flags & O_DSYNC);

	if (err)
		reply_status(req, err);
	else
		fuse_reply_write(req, size);
}

void op_fsync(
    fuse_req_t req, fuse_ino_t ino, int is_data_only, struct fuse_file_info *fi)
{
	reply_status(req, fs_fsync(request_daemon(req)->fs, ino, is_data_only));
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t bytes,
    struct fuse_file_info *fi)
{
	reply_status(req, fs_fallocate(request_daemon(req)->fs, ino, mode,
			      (uint64_t)offset, (uint64_t)bytes));
}

/* Only SEEK_DATA and SEEK_HOLE get here. */
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
    struct fuse_file_info *fi)
{
	uint64_t found;
	int err = fs_seek(request_daemon(req)->fs, ino, (uint64_t)offset, whence, &found);

	if (err)
		reply_status(req, err);
	else
		fuse_reply_lseek(req, (off_t)found);
}
