/*
 * Directories: looking up, and removing names.
 *
 * Every change is one transaction {entry, parent's record, what becomes of the
 * inode}, committed in the names gate with the parent and then the inode locked
 * exclusively.  What the transaction says is put into core first, under the locks,
 * and taken back if it fails.  The cost does not depend on the directory's size: its
 * record carries only the number of entries.
 *
 * Crash: entry, times, link counts and orphan records change together or not at all.
 */
#include "config.h"

#include "fs/fs_internal.h"

#include <errno.h>

#include "base/assert.h"

int entry_open(struct fs *fs, struct inode *dir, struct fs_name name,
    struct inode_value *value, struct inode **ret)
{
	uint64_t removals = atomic_load(&fs->removals);
	KEY_ON_STACK(key);
	int err;

	err = key_entry(&key, dir, name);
	if (err == -ENAMETOOLONG)
		return -ENOENT; /* no such key was ever made */
	if (err == 0)
		err = record_get(fs, &key, value);
	if (err < 0)
		return err;
	return inode_intern(fs, dir, name, value, removals, ret);
}

int directory_check_empty(struct fs *fs, const struct inode *dir)
{
	KEY_ON_STACK(key);
	int err;

	err = key_entries(&key, dir);
	if (err == -ENAMETOOLONG)
		return 0;
	if (err == 0)
		err = store_is_prefix_empty(fs->store, key.at, key.bytes);
	if (err < 0)
		return err;
	return err ? 0 : -ENOTEMPTY;
}

void directory_change(struct inode *dir, int entries, int subdirectories, struct timespec now)
{
	struct inode_attrs *attr = &dir->attr;

	/* A damaged count must not wrap. */
	if (entries >= 0 || attr->size > 0)
		attr->size += (uint64_t)(int64_t)entries;
	if (subdirectories >= 0 || attr->nlink > 2)
		attr->nlink += (uint32_t)subdirectories;
	attr->times[INODE_MTIME] = attr->times[INODE_CTIME] = now;
}

void directory_check_emptied(struct inode *dir)
{
	if (dir->attr.size == 0)
		atomic_store(&dir->reach, 1);
}

/* ---- lookup ------------------------------------------------------------------- */

static int lookup_locked(struct fs *fs, struct inode *dir, struct fs_name name,
    struct fs_attr *ret, struct inode **ret_inode, bool *ret_is_cut)
{
	struct inode_value value;
	struct inode *inode;
	int err = entry_open(fs, dir, name, &value, &inode);

	if (err < 0)
		return err;
	inode_lock_shared(inode);
	inode_attr(inode, ret);
	*ret_is_cut = inode->flags & INODE_TRUNCATING;
	inode_unlock(inode);
	inode_add_lookup(fs, inode);
	*ret_inode = inode;
	return 0;
}

int fs_lookup(struct fs *fs, uint64_t parent, struct fs_name name, struct fs_attr *ret)
{
	struct inode *dir, *inode = NULL;
	bool is_cut = false;
	unsigned ticket;
	int err = name_check(name);

	if (err == 0)
		err = inode_get(fs, parent, &dir);
	if (err < 0)
		return err;
	ticket = gate_enter_shared(fs->names);
	err = directory_lock(dir, false);
	if (err == 0) {
		err = lookup_locked(fs, dir, name, ret, &inode, &is_cut);
		inode_unlock(dir);
	}
	gate_leave_shared(fs->names, ticket);
	/* What a crash interrupted goes on when the file is seen again; if it
	 * cannot, the next change of the file will try. */
	if (is_cut && fs_check_writable(fs) == 0)
		(void)truncate_finish(fs, inode);
	inode_put(fs, inode);
	inode_put(fs, dir);
	return err;
}

/* ---- removal -------------------------------------------------------------------- */

static int check_removable(struct fs *fs, const struct inode *inode, bool wants_directory)
{
	if (wants_directory != (inode->type == S_IFDIR))
		return wants_directory ? -ENOTDIR : -EISDIR;
	return wants_directory ? directory_check_empty(fs, inode) : 0;
}

/* @dir and @inode are locked exclusively. */
static int remove_locked(struct fs *fs, struct inode *dir, struct inode *inode,
    struct inode_value *value)
{
	struct inode_attrs before = dir->attr;
	struct timespec now = time_now();
	struct store_batch *batch;
	struct unnaming unnaming;
	KEY_ON_STACK(key);
	int err;

	err = key_inode(&key, inode);
	if (err == 0)
		err = batch_take(fs, &batch);
	if (err < 0)
		return err;
	store_batch_delete(batch, key.at, key.bytes);
	directory_change(dir, -1, inode->type == S_IFDIR ? -1 : 0, now);
	err = record_put_plain(batch, dir);
	if (err == 0)
		err = unname_prepare(fs, inode, value, now, batch, &unnaming);
	if (err == 0) {
		err = batch_commit_claims(fs, batch, -(int64_t)unnaming.claims, true);
		if (err == 0)
			unname_apply(fs, &unnaming);
		else
			unname_cancel(&unnaming);
	}
	if (err == 0) {
		directory_check_emptied(dir);
		worker_note_change(fs);
	} else {
		dir->attr = before;
	}
	batch_give(fs, batch);
	return err;
}

static int remove_entry(struct fs *fs, struct inode *dir, struct fs_name name,
    bool wants_directory, struct inode **ret)
{
	struct inode_value value;
	struct inode *inode;
	int err = entry_open(fs, dir, name, &value, &inode);

	if (err < 0)
		return err;
	*ret = inode;
	inode_lock(inode);
	err = check_removable(fs, inode, wants_directory);
	/* A commit may have recorded data since the entry was read. */
	if (err == 0)
		err = record_load(fs, inode, &value);
	if (err == 0)
		err = remove_locked(fs, dir, inode, &value);
	inode_unlock(inode);
	return err;
}

static int remove_name(struct fs *fs, uint64_t parent, struct fs_name name, bool wants_directory)
{
	struct inode *dir, *inode = NULL;
	unsigned ticket;
	int err = name_check(name);

	if (err == 0)
		err = fs_check_writable(fs);
	if (err == 0)
		err = inode_get(fs, parent, &dir);
	if (err < 0)
		return err;
	ticket = gate_enter_shared(fs->names);
	err = directory_lock(dir, true);
	if (err == 0) {
		err = remove_entry(fs, dir, name, wants_directory, &inode);
		inode_unlock(dir);
	}
	gate_leave_shared(fs->names, ticket);
	inode_put(fs, inode);
	inode_put(fs, dir);
	return err;
}

int fs_unlink(struct fs *fs, uint64_t parent, struct fs_name name)
{
	return remove_name(fs, parent, name, false);
}

int fs_rmdir(struct fs *fs, uint64_t parent, struct fs_name name)
{
	return remove_name(fs, parent, name, true);
}
