/*
 * New inodes: files, devices, directories, symbolic links.
 *
 * One transaction: the entry with the new inode's record (which must not exist yet),
 * the parent's record, and, when the number is the first beyond the recorded limit,
 * a higher limit.
 *
 * Invariants:
 *  1. A number given out is below the limit that the tree has once the transaction
 *     that uses it is in the journal.  Several creates may be under way beyond the
 *     limit: each carries the raise, since any of them may be the first to be kept.
 *  2. Every directory above a key knows, in its record's reach, a bound on how far
 *     below it keys go; so a directory's rename can tell whether a key would become
 *     too long without looking at them.  Reaches are raised before the key is made,
 *     in steps so coarse that it is rare, and never lowered.
 */
#include "config.h"

#include "fs/fs_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"

#define INO_STEP 4096u

/* ---- numbers ------------------------------------------------------------------- */

/* A fresh number; @ret_limit is the limit to record with it, or 0. */
static uint64_t take_ino(struct fs *fs, uint64_t *ret_limit)
{
	uint64_t ino;

	mutex_lock(&fs->number_mutex);
	ino = atomic_fetch_add(&fs->next_ino, 1);
	*ret_limit = ino < fs->ino_limit ? 0 : round_down(ino, INO_STEP) + INO_STEP;
	mutex_unlock(&fs->number_mutex);
	return ino;
}

static void put_limit(struct store_batch *batch, uint64_t limit)
{
	le64 value = to_le64(limit);

	if (limit > 0)
		store_batch_put(batch, KEY_VOLUME_INO_LIMIT,
		    sizeof(KEY_VOLUME_INO_LIMIT) - 1, &value, sizeof(value));
}

static void note_limit(struct fs *fs, uint64_t limit)
{
	mutex_lock(&fs->number_mutex);
	fs->ino_limit = max_of(fs->ino_limit, limit);
	mutex_unlock(&fs->number_mutex);
}

/* ---- reach ---------------------------------------------------------------------- */

static int raise_reach(struct fs *fs, struct inode *dir, uint32_t units)
{
	uint32_t before;
	int err = 0;

	inode_lock(dir);
	before = atomic_load(&dir->reach);
	if (before < units) {
		atomic_store(&dir->reach, units);
		err = dir->is_orphan ? -ENOENT : record_update(fs, dir);
		if (err < 0)
			atomic_store(&dir->reach, before);
	}
	inode_unlock(dir);
	return err;
}

int reach_ensure(struct fs *fs, struct inode *dir, uint64_t bytes)
{
	for (; dir->parent; dir = dir->parent) {
		uint64_t units = div_up(bytes, REACH_UNIT);
		int err;

		if (atomic_load(&dir->reach) < units) {
			err = raise_reach(fs, dir, (uint32_t)units);
			if (err < 0)
				return err;
		}
		bytes += dir->name_len + 1;
	}
	return 0;
}

/* ---- create --------------------------------------------------------------------- */

struct creation {
	struct fs_name name;
	uint32_t mode;
	uint64_t rdev;
	const char *target; /* symlinks */
	const struct fs_cred *cred;
};

/* Group and set-group-id bit come from the directory if it has the bit. */
static void set_owner(struct inode *inode, const struct inode *dir, const struct creation *creation)
{
	struct inode_attrs *attr = &inode->attr;

	attr->uid = creation->cred->uid;
	attr->gid = creation->cred->gid;
	attr->mode = creation->mode;
	if (inode->type != S_IFLNK)
		attr->mode &= ~(creation->cred->umask & 07777u);
	if (!(dir->attr.mode & S_ISGID))
		return;
	attr->gid = dir->attr.gid;
	if (inode->type == S_IFDIR)
		attr->mode |= S_ISGID;
}

static int new_inode(struct fs *fs, struct inode *dir, const struct creation *creation,
    uint64_t ino, struct timespec now, struct inode **ret)
{
	struct inode *inode = inode_new(ino, creation->mode);

	if (!inode)
		return -ENOMEM;
	set_owner(inode, dir, creation);
	inode->attr.nlink = inode->type == S_IFDIR ? 2 : 1;
	inode->attr.rdev = creation->rdev;
	for (unsigned i = 0; i < INODE_TIMES; i++)
		inode->attr.times[i] = now;
	inode->has_record = true;
	if (inode->type == S_IFREG || inode->type == S_IFLNK)
		inode->body = INODE_BODY_INLINE;
	if (inode->type == S_IFDIR)
		atomic_store(&inode->reach, 1);
	if (creation->target) {
		inode->attr.size = strlen(creation->target);
		inode->body_bytes = (uint16_t)inode->attr.size;
	}
	if (inode_set_edge(fs, inode, dir, creation->name) < 0) {
		inode_free(fs, inode);
		return -ENOMEM;
	}
	*ret = inode;
	return 0;
}

/* @dir is locked exclusively, and changed in core; the caller takes that back if
 * this fails. */
static int commit_new(struct fs *fs, struct inode *dir, struct inode *inode,
    const struct creation *creation, uint64_t limit)
{
	struct inode_value value;
	struct store_batch *batch;
	KEY_ON_STACK(key);
	int err;

	err = key_inode(&key, inode);
	if (err == 0)
		err = batch_take(fs, &batch);
	if (err < 0)
		return err;
	record_fill(inode, &value);
	if (creation->target)
		memcpy(inode_value_body(&value), creation->target, inode->body_bytes);
	store_batch_require_absent(batch, key.at, key.bytes);
	store_batch_put(batch, key.at, key.bytes, value.raw, value.bytes);
	put_limit(batch, limit);
	err = record_put_plain(batch, dir);
	if (err == 0)
		err = batch_commit(fs, batch);
	batch_give(fs, batch);
	return err;
}

static int create_locked(struct fs *fs, struct inode *dir, const struct creation *creation,
    struct fs_attr *ret, struct inode **ret_inode)
{
	struct inode_attrs before = dir->attr;
	struct timespec now = time_now();
	struct inode *inode;
	uint64_t limit, ino = take_ino(fs, &limit);
	int err = new_inode(fs, dir, creation, ino, now, &inode);

	if (err < 0)
		return err;
	directory_change(dir, 1, inode->type == S_IFDIR ? 1 : 0, now);
	err = commit_new(fs, dir, inode, creation, limit);
	if (err < 0) {
		dir->attr = before;
		inode_free(fs, inode);
		inode_put(fs, dir); /* the edge's; the caller has another */
		return err;
	}
	if (limit > 0)
		note_limit(fs, limit);
	inode_attr(inode, ret);
	inode_publish(fs, inode, 1);
	*ret_inode = inode;
	return 0;
}

/* What the key of the entry, and of what hangs below it, needs. */
static int check_length(const struct inode *dir, struct fs_name name)
{
	uint64_t bytes = contents_bytes(dir) + name.len + REACH_BELOW_ENTRY;

	return bytes > PATH_BYTES_MAX ? -ENAMETOOLONG : 0;
}

static int create(struct fs *fs, uint64_t parent, const struct creation *creation,
    struct fs_attr *ret)
{
	struct inode *dir, *inode = NULL;
	unsigned ticket;
	int err = name_check(creation->name);

	if (err == 0)
		err = fs_check_writable(fs);
	if (err == 0)
		err = inode_get(fs, parent, &dir);
	if (err < 0)
		return err;
	ticket = gate_enter_shared(fs->names);
	err = dir->type == S_IFDIR ? check_length(dir, creation->name) : -ENOTDIR;
	if (err == 0)
		err = reach_ensure(fs, dir, creation->name.len + REACH_BELOW_ENTRY);
	if (err == 0)
		err = directory_lock(dir, true);
	if (err == 0) {
		err = create_locked(fs, dir, creation, ret, &inode);
		inode_unlock(dir);
	}
	gate_leave_shared(fs->names, ticket);
	inode_put(fs, inode);
	inode_put(fs, dir);
	return err;
}

int fs_mknod(struct fs *fs, uint64_t parent, struct fs_name name, uint32_t mode,
    uint64_t rdev, const struct fs_cred *cred, struct fs_attr *ret)
{
	uint32_t type = mode & S_IFMT;
	struct creation creation = {
	    .name = name,
	    .mode = type | (mode & 07777),
	    .cred = cred,
	};

	if (type == S_IFCHR || type == S_IFBLK)
		creation.rdev = rdev;
	else if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK)
		return -EINVAL;
	return create(fs, parent, &creation, ret);
}

int fs_mkdir(struct fs *fs, uint64_t parent, struct fs_name name, uint32_t mode,
    const struct fs_cred *cred, struct fs_attr *ret)
{
	struct creation creation = {
	    .name = name,
	    .mode = S_IFDIR | (mode & 07777),
	    .cred = cred,
	};

	return create(fs, parent, &creation, ret);
}

int fs_symlink(struct fs *fs, uint64_t parent, struct fs_name name, const char *target,
    const struct fs_cred *cred, struct fs_attr *ret)
{
	struct creation creation = {
	    .name = name,
	    .mode = S_IFLNK | 0777,
	    .target = target,
	    .cred = cred,
	};
	size_t bytes = strlen(target);

	if (bytes == 0)
		return -ENOENT;
	if (bytes > FS_SYMLINK_MAX)
		return -ENAMETOOLONG;
	return create(fs, parent, &creation, ret);
}

ssize_t fs_readlink(struct fs *fs, uint64_t ino, char *target, size_t capacity)
{
	struct inode_value value;
	struct inode *inode;
	unsigned ticket;
	ssize_t bytes;
	int err = inode_get(fs, ino, &inode);

	if (err < 0)
		return err;
	if (inode->type != S_IFLNK) {
		inode_put(fs, inode);
		return -EINVAL;
	}
	ticket = gate_enter_shared(fs->names);
	inode_lock_shared(inode);
	err = record_load(fs, inode, &value);
	bytes = (ssize_t)min_of(capacity, (size_t)inode->body_bytes);
	inode_unlock(inode);
	gate_leave_shared(fs->names, ticket);
	if (err == 0)
		memcpy(target, inode_value_body(&value), (size_t)bytes);
	inode_put(fs, inode);
	return err < 0 ? err : bytes;
}
