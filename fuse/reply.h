/*
 * Replies: the only place where our -errno becomes FUSE's errno, and where file
 * attributes become struct stat.  Each request is replied to exactly once.
 */
#ifndef HOLTFS_FUSE_REPLY_H
#define HOLTFS_FUSE_REPLY_H

#include "fuse/daemon.h"

#include <fuse_lowlevel.h>

/* How long the kernel may believe a name or attributes without asking: nothing
 * changes them but its own requests. */
#define REPLY_TIMEOUT_S (365.0 * 24 * 60 * 60)

struct daemon *request_daemon(fuse_req_t req);

void reply_status(fuse_req_t req, int err); /* 0 or -errno */

/*
 * The entry, whose look-up is the kernel's from now on, or the error.  A reply that
 * does not arrive gives the look-up back.
 */
void reply_entry(fuse_req_t req, int err, const struct fs_attr *attr);
void reply_created(
    fuse_req_t req, int err, const struct fs_attr *attr, struct fuse_file_info *fi);

/* Like reply_entry(), but lets the kernel remember that a name does not exist. */
void reply_lookup(fuse_req_t req, int err, const struct fs_attr *attr);

void reply_attr(fuse_req_t req, int err, const struct fs_attr *attr);

struct stat reply_stat(const struct fs_attr *attr);
struct fuse_entry_param reply_entry_param(const struct fs_attr *attr);

#endif
