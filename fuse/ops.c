/*
 * The table of requests, and the first of them, INIT.
 *
 * What is *not* in the table is decided too; libfuse answers ENOSYS for it, and the
 * kernel then does the following and does not ask again:
 *
 *   flush            nothing: a write is with us when write(2) returns
 *   release          nothing: there are no handles (open)
 *   access           unused: default_permissions
 *   getxattr, ...    EOPNOTSUPP to programs, and no more GETXATTR of
 *                    security.capability before each write
 *   getlk, setlk, flock   locks within this kernel, where all users are
 *   copy_file_range  copies by read and write
 *   write_buf        unused: libfuse would read through a pipe for it
 *   destroy          unused: fs_close() runs when all workers have left (main.c)
 */
#include "config.h"

#include "fuse/ops.h"

#include <errno.h>
#include <string.h>

#define WRITE_BYTES_MAX (1024u * 1024)

int name_from_request(const char *text, struct fs_name *ret)
{
	size_t len = strlen(text);

	if (len > FS_NAME_MAX)
		return -ENAMETOOLONG;
	*ret = (struct fs_name){text, len};
	return 0;
}

/* The kernel has already applied the umask, and a set-group-id parent is the file
 * layer's affair. */
struct fs_cred cred_of_request(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct fs_cred){.uid = ctx->uid, .gid = ctx->gid};
}

/*
 * Cannot fail the mount; asks only for what the kernel offers.
 *
 * Off: AUTO_INVAL_DATA (nobody else changes files), ATOMIC_O_TRUNC (would be lost,
 * as opens are not sent), HANDLE_KILLPRIV (set-id bits are the kernel's work),
 * SPLICE_* (slower than our buffers), EXPORT_SUPPORT (inode numbers mean nothing
 * without a look-up), WRITEBACK_CACHE.
 */
static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct daemon *daemon = userdata;
	const unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO |
				FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
				FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_CACHE_SYMLINKS;

	conn->want = wanted & conn->capable;
	if (conn->max_write > WRITE_BYTES_MAX)
		conn->max_write = WRITE_BYTES_MAX;
	conn->max_background = daemon->options.max_background;
	conn->congestion_threshold = (daemon->options.max_background * 3 + 3) / 4;
	daemon->has_no_open = conn->capable & FUSE_CAP_NO_OPEN_SUPPORT;
	daemon->is_initialised = true;
}

const struct fuse_lowlevel_ops daemon_ops = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .symlink = op_symlink,
    .link = op_link,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .rename = op_rename,
    .statfs = op_statfs,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .readdirplus = op_readdirplus,
    .releasedir = op_releasedir,
    .fsyncdir = op_fsyncdir,
    .create = op_create,
    .open = op_open,
    .read = op_read,
    .write = op_write,
    .fsync = op_fsync,
    .fallocate = op_fallocate,
    .lseek = op_lseek,
};
