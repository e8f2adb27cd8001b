/*
 * The requests: one handler each, which decodes, makes one call of the file layer,
 * and replies once.  ops.c has the table and the first request; the others are
 * sorted by what they concern.
 */
#ifndef HOLTFS_FUSE_OPS_H
#define HOLTFS_FUSE_OPS_H

#include "fuse/daemon.h"

#include <fuse_lowlevel.h>

extern const struct fuse_lowlevel_ops daemon_ops;

/* -ENAMETOOLONG, or 0 and the name as the file layer takes it. */
int name_from_request(const char *text, struct fs_name *ret);
struct fs_cred cred_of_request(fuse_req_t req);

/* ops_meta.c: names and attributes */
void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t lookups);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int valid,
    struct fuse_file_info *fi);
void op_readlink(fuse_req_t req, fuse_ino_t ino);
void op_mknod(
    fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_symlink(
    fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
    fuse_ino_t new_parent, const char *new_name, unsigned int flags);
void op_statfs(fuse_req_t req, fuse_ino_t ino);

/* ops_dir.c: listings */
void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
    struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
    struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsyncdir(
    fuse_req_t req, fuse_ino_t ino, int is_data_only, struct fuse_file_info *fi);

/* Closes the listings of a connection that was cut.  No request is under way. */
void close_listings(struct daemon *daemon);

/* ops_data.c: files */
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
    struct fuse_file_info *fi);
void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
    struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size,
    off_t offset, struct fuse_file_info *fi);
void op_fsync(
    fuse_req_t req, fuse_ino_t ino, int is_data_only, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t bytes,
    struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
    struct fuse_file_info *fi);

#endif
