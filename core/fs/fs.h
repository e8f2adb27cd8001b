/*
 * Files and directories over the store: everything a mount does, without FUSE.
 *
 * An inode is named by its number, which is also FUSE's node id; the root is 1.
 * Calls that return an entry (lookup, create, mknod, mkdir, symlink, and readdirplus
 * for every entry but "." and "..") add one *lookup* to the inode; fs_forget gives
 * them back.  An inode without lookups, children in core or data under way leaves
 * memory; one without a name goes from the volume then too.
 *
 * Durability, in the words users read (docs/durability.md): after fs_fsync the data
 * and the names that lead to it survive power loss; fs_fsync of a directory commits
 * everything received so far.  Without, names and attributes after a crash are a
 * prefix of the calls made, at most commit_interval_ms old; file data is never bytes
 * that were not written; and replacing a file by rename never yields an empty one.
 *
 * Names are 1..255 bytes without '/' and NUL.  Permissions are the caller's affair
 * (FUSE: default_permissions); credentials here only say who owns what is created.
 *
 * Errors: 0 or -errno as the system call's manual page names it.  -ESTALE: an inode
 * number not in core.  -EIO / -EUCLEAN: damage, logged with path and place.  -EROFS:
 * opened read-only, or turned so by an earlier failure.
 *
 * Threads: everything but open and close may be called from any thread.
 */
#ifndef HOLTFS_FS_FS_H
#define HOLTFS_FS_FS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

struct device;
struct fs;
struct fs_dir;

#define FS_ROOT_INO 1u
#define FS_NAME_MAX 255u
#define FS_SYMLINK_MAX 4095u
#define FS_FILE_MAX (8ull * 1024 * 1024 * 1024 * 1024) /* 8 TiB */

/* ---- life -------------------------------------------------------------- */

struct fs_format_options {
	uint8_t uuid[16];
	char label[64];
	uint32_t root_uid, root_gid, root_mode; /* permission bits; 0: 0755 */
};

/* Makes an empty file system on the device (store_format, then the root). */
int fs_format(struct device *device, const struct fs_format_options *options);

struct fs_options {
	bool is_read_only;
	bool no_atime;
	bool has_shared_ring;
	bool no_threads;	     /* commits only when asked (tests) */
	bool keep_device;	     /* it stays the caller's: close leaves it open */
	uint32_t commit_interval_ms; /* 0: 1000 */
	uint64_t cache_bytes;	     /* frames and inodes; 0: default */
};

/* The device goes over to the fs on success, unless it is kept.  Errors of store_open, and -EUCLEAN
 * when there is no root. */
int fs_open(struct device *device, const struct fs_options *options, struct fs **ret);

/* Writes everything, forgets all lookups, removes what has no name. */
int fs_close(struct fs *fs); /* NULL allowed */

/* As if the process had died here.  For tests. */
void fs_abandon(struct fs *fs);

/* Starts the worker thread, if there is to be one; called once after the daemon has gone
 * to the background. */
int fs_start(struct fs *fs);

/* ---- names -------------------------------------------------------------- */

struct fs_cred {
	uint32_t uid, gid;
	uint32_t umask; /* applied to modes of new files */
};

struct fs_attr {
	uint64_t ino;
	uint32_t mode; /* type and permissions */
	uint32_t nlink;
	uint32_t uid, gid;
	uint64_t rdev;
	uint64_t size;
	uint64_t blocks; /* of 512 bytes */
	struct timespec atime, mtime, ctime, btime;
};

struct fs_name {
	const char *bytes;
	size_t len;
};

int fs_lookup(struct fs *fs, uint64_t parent, struct fs_name name, struct fs_attr *ret);
void fs_forget(struct fs *fs, uint64_t ino, uint64_t lookups);

/* @mode with S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO or S_IFSOCK. */
int fs_mknod(struct fs *fs, uint64_t parent, struct fs_name name, uint32_t mode,
    uint64_t rdev, const struct fs_cred *cred, struct fs_attr *ret);
int fs_mkdir(struct fs *fs, uint64_t parent, struct fs_name name, uint32_t mode,
    const struct fs_cred *cred, struct fs_attr *ret);
int fs_symlink(struct fs *fs, uint64_t parent, struct fs_name name, const char *target,
    const struct fs_cred *cred, struct fs_attr *ret);
int fs_unlink(struct fs *fs, uint64_t parent, struct fs_name name);
int fs_rmdir(struct fs *fs, uint64_t parent, struct fs_name name);

/* @flags: 0 or RENAME_NOREPLACE. Others -EINVAL. */
int fs_rename(struct fs *fs, uint64_t parent, struct fs_name name, uint64_t new_parent,
    struct fs_name new_name, unsigned flags);

/* Copies at most @capacity bytes of the target, no NUL; returns its length or -errno. */
ssize_t fs_readlink(struct fs *fs, uint64_t ino, char *target, size_t capacity);

/* ---- attributes ---------------------------------------------------------- */

int fs_getattr(struct fs *fs, uint64_t ino, struct fs_attr *ret);

enum fs_set {
	FS_SET_MODE = 1, FS_SET_UID = 2, FS_SET_GID = 4, FS_SET_SIZE = 8,
	FS_SET_ATIME = 16, FS_SET_MTIME = 32, FS_SET_ATIME_NOW = 64,
	FS_SET_MTIME_NOW = 128, FS_SET_CTIME = 256,
};

/* Sets what @set (FS_SET_*) names from @attr; ctime is now unless given. */
int fs_setattr(struct fs *fs, uint64_t ino, unsigned set, const struct fs_attr *attr, struct fs_attr *ret);

/* ---- directories --------------------------------------------------------- */

/*
 * A listing is in name order, "." and ".." first.  Every entry has a *token*, never
 * 0 and valid while the listing is open; reading from a token goes on after that
 * entry's name, also when it is gone by now.  Token 0 begins.  Entries present
 * throughout are reported exactly once.
 */
int fs_opendir(struct fs *fs, uint64_t ino, struct fs_dir **ret);
void fs_closedir(struct fs_dir *dir);

struct fs_dirent {
	struct fs_name name;
	uint64_t ino;
	uint32_t type; /* S_IFMT bits */
	uint64_t token;
	const struct fs_attr *attr; /* readdirplus: of the entry; "." and "..": NULL */
};

/* Returns false when the entry does not fit: it was not taken (no lookup is added)
 * and comes again next time. */
typedef bool (*fs_dirent_fn)(void *ctx, const struct fs_dirent *entry);

int fs_readdir(struct fs_dir *dir, uint64_t token, bool with_attr, fs_dirent_fn fn, void *ctx);

/* ---- data ----------------------------------------------------------------- */

/*
 * A read answers with pieces that lie in pool frames (or in static zeros) and stay
 * there, unchanged, until fs_read_done().  Short only at the end of the file.
 */
#define FS_READ_PIECES 64

struct fs_read {
	struct iovec pieces[FS_READ_PIECES];
	uint32_t count;
	size_t bytes;
	/* Leases and copies behind the pieces: the file layer's own. */
	uint32_t slots[FS_READ_PIECES];
	uint32_t slot_count;
	void *copy;
};

int fs_read(struct fs *fs, uint64_t ino, uint64_t offset, size_t bytes, struct fs_read *ret);
void fs_read_done(struct fs *fs, struct fs_read *read);

/*
 * All bytes or an error.  With @is_sync as fs_fsync for these bytes.  With @is_append
 * the offset is the end of the file.
 */
int fs_write(struct fs *fs, uint64_t ino, uint64_t offset, const void *data, size_t bytes,
    bool is_append, bool is_sync);

/*
 * fallocate(2) with @mode as there: 0, FALLOC_FL_ZERO_RANGE, either with
 * FALLOC_FL_KEEP_SIZE, and FALLOC_FL_PUNCH_HOLE with it; else -EOPNOTSUPP.  What was
 * allocated can be written as long as it is: space is no reason for a write into it to
 * fail, nor for writing over it again.
 */
int fs_fallocate(struct fs *fs, uint64_t ino, int mode, uint64_t offset, uint64_t bytes);

/*
 * lseek(2) with SEEK_DATA and SEEK_HOLE (@whence).  What is allocated and not written
 * is a hole.
 */
int fs_seek(struct fs *fs, uint64_t ino, uint64_t offset, int whence, uint64_t *ret);

/* The file, or for a directory everything received. */
int fs_fsync(struct fs *fs, uint64_t ino, bool is_data_only);

/* Everything received so far, durable. */
int fs_sync(struct fs *fs);

struct fs_statfs {
	uint64_t blocks, blocks_free, blocks_available; /* of 4096 bytes */
	uint64_t files, files_free;
};
int fs_statfs(struct fs *fs, struct fs_statfs *ret);

/* 0, or the error that made the file system read-only. */
int fs_error(struct fs *fs);

/* What moves bytes: "io_uring, registered buffers", ... */
const char *fs_describe_io(struct fs *fs);

#endif
