/*
 * Replies.
 *
 * Look-up counts: the file layer has added one before we reply.  The kernel owns it
 * once the reply is written; libfuse says -ENOENT when the request was aborted
 * meanwhile, and then nobody would ever send the FORGET, so it is done here.
 *
 * Generations stay 0: inode numbers are never used again.
 */
#include "config.h"

#include "fuse/reply.h"

#include <errno.h>

#define BLOCK_BYTES 4096

struct daemon *request_daemon(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

void reply_status(fuse_req_t req, int err)
{
	fuse_reply_err(req, -err);
}

struct stat reply_stat(const struct fs_attr *attr)
{
	return (struct stat){
	    .st_ino = attr->ino,
	    .st_mode = attr->mode,
	    .st_nlink = attr->nlink,
	    .st_uid = attr->uid,
	    .st_gid = attr->gid,
	    .st_rdev = attr->rdev,
	    .st_size = (off_t)attr->size,
	    .st_blocks = (blkcnt_t)attr->blocks,
	    .st_blksize = BLOCK_BYTES,
	    .st_atim = attr->atime,
	    .st_mtim = attr->mtime,
	    .st_ctim = attr->ctime,
	};
}

struct fuse_entry_param reply_entry_param(const struct fs_attr *attr)
{
	return (struct fuse_entry_param){
	    .ino = attr->ino,
	    .attr = reply_stat(attr),
	    .attr_timeout = REPLY_TIMEOUT_S,
	    .entry_timeout = REPLY_TIMEOUT_S,
	};
}

void reply_entry(fuse_req_t req, int err, const struct fs_attr *attr)
{
	struct fs *fs = request_daemon(req)->fs;
	struct fuse_entry_param entry;

	if (err) {
		reply_status(req, err);
		return;
	}
	entry = reply_entry_param(attr);
	if (fuse_reply_entry(req, &entry))
		fs_forget(fs, attr->ino, 1);
}

void reply_created(
    fuse_req_t req, int err, const struct fs_attr *attr, struct fuse_file_info *fi)
{
	struct fs *fs = request_daemon(req)->fs;
	struct fuse_entry_param entry;

	if (err) {
		reply_status(req, err);
		return;
	}
	entry = reply_entry_param(attr);
	if (fuse_reply_create(req, &entry, fi))
		fs_forget(fs, attr->ino, 1);
}

void reply_lookup(fuse_req_t req, int err, const struct fs_attr *attr)
{
	const struct fuse_entry_param absent = {.entry_timeout = REPLY_TIMEOUT_S};

	if (err == -ENOENT)
		fuse_reply_entry(req, &absent);
	else
		reply_entry(req, err, attr);
}

void reply_attr(fuse_req_t req, int err, const struct fs_attr *attr)
{
	struct stat st;

	if (err) {
		reply_status(req, err);
		return;
	}
	st = reply_stat(attr);
	fuse_reply_attr(req, &st, REPLY_TIMEOUT_S);
}
