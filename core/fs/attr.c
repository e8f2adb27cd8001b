/*
 * Attributes: reading, setting, and access times.
 *
 * A change of mode, owner or times is a transaction of its own at once, so that the
 * journal keeps the order of requests; the size is truncate.c's.  Access times are
 * kept as "relatime" does: they change in core when a read finds them older than the
 * last modification or than a day, and reach the record with the next commit.
 *
 * Locking: the inode's lock; exclusive, and the names gate, where a record is put.
 */
#include "config.h"

#include "fs/fs_internal.h"

#include <errno.h>

#include "base/assert.h"

#define DAY_SECONDS 86400

int fs_getattr(struct fs *fs, uint64_t ino, struct fs_attr *ret)
{
	struct inode *inode;
	int err = inode_get(fs, ino, &inode);

	if (err < 0)
		return err;
	inode_lock_shared(inode);
	inode_attr(inode, ret);
	inode_unlock(inode);
	inode_put(fs, inode);
	return 0;
}

/* ---- setting ----------------------------------------------------------------------- */

static void apply(struct inode *inode, unsigned set, const struct fs_attr *wanted)
{
	struct inode_attrs *attr = &inode->attr;
	struct timespec now = time_now();

	if (set & FS_SET_MODE)
		attr->mode = inode->type | (wanted->mode & 07777);
	if (set & FS_SET_UID)
		attr->uid = wanted->uid;
	if (set & FS_SET_GID)
		attr->gid = wanted->gid;
	if (set & (FS_SET_ATIME | FS_SET_ATIME_NOW))
		attr->times[INODE_ATIME] = set & FS_SET_ATIME ? wanted->atime : now;
	if (set & (FS_SET_MTIME | FS_SET_MTIME_NOW))
		attr->times[INODE_MTIME] = set & FS_SET_MTIME ? wanted->mtime : now;
	attr->times[INODE_CTIME] = set & FS_SET_CTIME ? wanted->ctime : now;
}

static int set_plain(struct fs *fs, struct inode *inode, unsigned set, const struct fs_attr *wanted)
{
	struct inode_attrs before;
	unsigned ticket = gate_enter_shared(fs->names);
	int err;

	inode_lock(inode);
	before = inode->attr;
	apply(inode, set, wanted);
	err = record_update(fs, inode);
	if (err < 0)
		inode->attr = before;
	inode_unlock(inode);
	gate_leave_shared(fs->names, ticket);
	return err;
}

static int set_size(struct fs *fs, struct inode *inode, uint64_t size)
{
	struct damage damage = {0};
	bool made_room = false;
	int err;

	if (inode->type != S_IFREG)
		return inode->type == S_IFDIR ? -EISDIR : -EINVAL;
	if (size > FS_FILE_MAX)
		return -EFBIG;
	for (;;) {
		unsigned ticket = gate_enter_shared(fs->names);

		inode_lock(inode);
		err = inode_set_size(fs, inode, size, &damage);
		inode_unlock(inode);
		gate_leave_shared(fs->names, ticket);
		if (err == 0)
			break;
		err = write_help(fs, inode, err, &made_room);
		if (err < 0)
			break;
	}
	damage_log(fs, inode, &damage);
	return err == 0 ? truncate_finish(fs, inode) : err;
}

static bool time_is_valid(const struct timespec *time)
{
	return time->tv_nsec >= 0 && time->tv_nsec < 1000000000;
}

static int check_wanted(unsigned set, const struct fs_attr *wanted)
{
	if (((set & FS_SET_ATIME) && !time_is_valid(&wanted->atime)) ||
	    ((set & FS_SET_MTIME) && !time_is_valid(&wanted->mtime)) ||
	    ((set & FS_SET_CTIME) && !time_is_valid(&wanted->ctime)))
		return -EINVAL;
	return 0;
}

int fs_setattr(struct fs *fs, uint64_t ino, unsigned set, const struct fs_attr *attr, struct fs_attr *ret)
{
	struct inode *inode;
	int err = check_wanted(set, attr);

	if (err == 0)
		err = fs_check_writable(fs);
	if (err == 0)
		err = inode_get(fs, ino, &inode);
	if (err < 0)
		return err;
	if (set & FS_SET_SIZE)
		err = set_size(fs, inode, attr->size);
	if (err == 0 && (set & ~(unsigned)FS_SET_SIZE))
		err = set_plain(fs, inode, set, attr);
	if (err == 0 && ret) {
		inode_lock_shared(inode);
		inode_attr(inode, ret);
		inode_unlock(inode);
	}
	inode_put(fs, inode);
	return err;
}

/* ---- access times -------------------------------------------------------------------- */

static bool is_before(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

bool atime_is_due(struct fs *fs, const struct inode *inode)
{
	const struct timespec *times = inode->attr.times;

	if (fs->options.no_atime || fs->is_read_only)
		return false;
	return !is_before(&times[INODE_MTIME], &times[INODE_ATIME]) ||
	    !is_before(&times[INODE_CTIME], &times[INODE_ATIME]) ||
	    time_now().tv_sec - times[INODE_ATIME].tv_sec >= DAY_SECONDS;
}

void atime_note(struct fs *fs, struct inode *inode)
{
	bool is_due;

	inode_lock_shared(inode);
	is_due = atime_is_due(fs, inode);
	inode_unlock(inode);
	if (!is_due || fs_check_writable(fs) < 0)
		return;
	inode_lock(inode);
	inode->attr.times[INODE_ATIME] = time_now();
	inode->is_changed = true;
	pending_add(fs, inode);
	inode_unlock(inode);
}
