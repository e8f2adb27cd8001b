/*
 * Rename.
 *
 * One transaction, whatever lies below:
 *
 *	delete entry     C(p) NUL old
 *	put entry        C(q) NUL new        the source's record
 *	put              records of p and q
 *	move prefix      C(target) NUL -> orphan's     a replaced file with spans
 *	move prefix      C(p/old) [NUL] -> C(q/new) [NUL]   if anything is below
 *
 * Invariants:
 *  1. A directory is renamed with the names gate held exclusively: no path key is in
 *     use while tree and in-core edge change.  Anything else is renamed in the shared
 *     gate, with both parents and both inodes locked (fs_internal.h, rule 2).
 *  2. No directory becomes its own ancestor: checked in the exclusive gate, where
 *     edges stand still.
 *  3. No key becomes longer than the store takes: the directory's reach bounds what
 *     is below it (create.c, invariant 2).
 *  4. Before a file replaces another, what was written to it is on the device and
 *     recorded.  So after a crash the name leads to the old content or the new.
 *
 * Crash: the transaction is there or not.
 */
#include "config.h"

#include "fs/fs_internal.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>

#include "base/assert.h"

struct rename {
	struct inode *from, *to; /* directories */
	struct fs_name from_name, to_name;
	bool is_exclusive; /* the gate */
	struct inode *source, *target; /* with references; target may be NULL */
	struct inode_value source_value, target_value;
};

/* Does @a's lock come before @b's?  Both directories, or both not. */
static bool comes_first(const struct inode *a, const struct inode *b)
{
	if (a->type == S_IFDIR && b->type == S_IFDIR) {
		uint32_t depth_a = inode_depth(a), depth_b = inode_depth(b);

		if (depth_a != depth_b)
			return depth_a < depth_b;
	}
	return a->ino < b->ino;
}

static void lock_two(struct inode *a, struct inode *b)
{
	if (a == b || !b) {
		inode_lock(a);
	} else if (comes_first(a, b)) {
		inode_lock(a);
		inode_lock(b);
	} else {
		inode_lock(b);
		inode_lock(a);
	}
}

static void unlock_two(struct inode *a, struct inode *b)
{
	inode_unlock(a);
	if (b && b != a)
		inode_unlock(b);
}

/* ---- checks ----------------------------------------------------------------------- */

static int note_key_bytes(void *ctx, const struct store_item *item)
{
	uint64_t *most = ctx;

	*most = max_of(*most, (uint64_t)item->key_bytes);
	return 0;
}

/*
 * How far keys go below the directory in truth, by looking at all of them.  Its reach
 * is only a bound, which moving directories into each other and out again drives up.
 * In the exclusive gate, so nothing new appears below meanwhile.
 */
static int measure_reach(struct fs *fs, struct inode *dir)
{
	struct store_range range = {.keys_only = true};
	uint64_t most = 0;
	KEY_ON_STACK(prefix);
	int err = key_contents(&prefix, dir);

	if (err < 0)
		return err;
	range.prefix = prefix.at;
	range.prefix_bytes = prefix.bytes;
	err = store_visit(fs->store, &range, 0, note_key_bytes, &most);
	if (err < 0)
		return err;
	most -= min_of(most, (uint64_t)prefix.bytes);
	/* Recorded with the rename; should that fail, a lower bound in core that is
	 * still right does no harm. */
	atomic_store(&dir->reach, (uint32_t)div_up(most + REACH_BELOW_ENTRY, REACH_UNIT));
	return 0;
}

/* What the new name and all below it add to C(to). */
static uint64_t bytes_below(const struct rename *r)
{
	if (r->source->type != S_IFDIR)
		return r->to_name.len + REACH_BELOW_ENTRY;
	return r->to_name.len + 1 + (uint64_t)atomic_load(&r->source->reach) * REACH_UNIT;
}

static int check_lengths(struct fs *fs, const struct rename *r)
{
	uint64_t room = PATH_BYTES_MAX - min_of(contents_bytes(r->to), (uint64_t)PATH_BYTES_MAX);
	int err;

	if (bytes_below(r) > room && r->source->type == S_IFDIR) {
		err = measure_reach(fs, r->source);
		if (err < 0)
			return err;
	}
	if (bytes_below(r) > room)
		return -ENAMETOOLONG;
	return reach_ensure(fs, r->to, bytes_below(r));
}

static int check_kinds(struct fs *fs, const struct rename *r, unsigned flags)
{
	bool is_directory = r->source->type == S_IFDIR;

	if (!r->target)
		return 0;
	if (flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (is_directory && r->target->type != S_IFDIR)
		return -ENOTDIR;
	if (!is_directory && r->target->type == S_IFDIR)
		return -EISDIR;
	return is_directory ? directory_check_empty(fs, r->target) : 0;
}

/* ---- the transaction ---------------------------------------------------------------- */

/* Everything below the source's old key, if there is anything. */
static int move_contents(struct fs *fs, const struct rename *r, struct store_batch *batch)
{
	bool is_directory = r->source->type == S_IFDIR;
	KEY_ON_STACK(src);
	KEY_ON_STACK(dst);
	int err;

	if (!is_directory && !(r->source->flags & INODE_HAS_SPANS))
		return 0;
	if (is_directory) {
		err = directory_check_empty(fs, r->source);
		if (err != -ENOTEMPTY)
			return err;
	}
	err = is_directory ? key_contents(&src, r->source) : key_spans(&src, r->source);
	if (err == 0)
		err = key_child(&dst, r->to, r->to_name, !is_directory);
	if (err == 0)
		store_batch_move_prefix(batch, src.at, src.bytes, dst.at, dst.bytes);
	return err;
}

/* The parents as they are afterwards, in core. */
static void change_parents(const struct rename *r, struct timespec now)
{
	int is_directory = r->source->type == S_IFDIR;
	int is_replaced = r->target != NULL;

	directory_change(r->from, -1, -is_directory, now);
	directory_change(r->to, 1 - is_replaced,
	    is_directory - (is_replaced ? is_directory : 0), now);
}

static int build(struct fs *fs, struct rename *r, struct timespec now,
    struct store_batch *batch, struct unnaming *unnaming)
{
	KEY_ON_STACK(old_entry);
	KEY_ON_STACK(new_entry);
	int err;

	err = key_inode(&old_entry, r->source);
	if (err == 0)
		err = key_entry(&new_entry, r->to, r->to_name);
	if (err < 0)
		return err;
	store_batch_delete(batch, old_entry.at, old_entry.bytes);
	record_fill(r->source, &r->source_value);
	store_batch_put(batch, new_entry.at, new_entry.bytes, r->source_value.raw,
	    r->source_value.bytes);
	err = record_put_plain(batch, r->from);
	if (err == 0 && r->to != r->from)
		err = record_put_plain(batch, r->to);
	if (err == 0 && r->target)
		err = unname_prepare(fs, r->target, &r->target_value, now, batch, unnaming);
	if (err < 0)
		return err;
	err = move_contents(fs, r, batch);
	if (err < 0)
		unname_cancel(unnaming);
	return err;
}

/* The reference to the parent moves along with the edge. */
static void change_edge(struct fs *fs, struct rename *r, char *name)
{
	struct inode *source = r->source, *old_parent = source->parent;

	memcpy(name, r->to_name.bytes, r->to_name.len);
	free(source->name);
	source->name = name;
	source->name_len = (uint32_t)r->to_name.len;
	if (r->to != old_parent) {
		inode_hold(fs, r->to);
		source->parent = r->to;
		inode_put(fs, old_parent); /* not the last: it is r->from */
	}
}

/* Everything is locked. */
static int commit(struct fs *fs, struct rename *r)
{
	struct inode_attrs from_before = r->from->attr, to_before = r->to->attr;
	struct inode_attrs source_before = r->source->attr;
	struct timespec now = time_now();
	struct unnaming unnaming = {0};
	char *name = malloc(r->to_name.len);
	struct store_batch *batch;
	int err = name ? batch_take(fs, &batch) : -ENOMEM;

	if (err < 0) {
		free(name);
		return err;
	}
	change_parents(r, now);
	r->source->attr.times[INODE_CTIME] = now;
	err = build(fs, r, now, batch, &unnaming);
	if (err == 0) {
		err = batch_commit_claims(fs, batch, -(int64_t)unnaming.claims, false);
		if (err < 0)
			unname_cancel(&unnaming);
	}
	if (err == 0) {
		unname_apply(fs, &unnaming);
		change_edge(fs, r, name);
		directory_check_emptied(r->from);
	} else {
		r->from->attr = from_before;
		r->to->attr = to_before;
		r->source->attr = source_before;
		free(name);
	}
	batch_give(fs, batch);
	return err;
}

/* ---- steps -------------------------------------------------------------------------- */

/* Answers of the steps besides 0 and errors. */
enum { DONE = 1, NEEDS_EXCLUSIVE = 2, NEEDS_FLUSH = 3 };

static int open_both(struct fs *fs, struct rename *r)
{
	int err = entry_open(fs, r->from, r->from_name, &r->source_value, &r->source);

	if (err < 0)
		return err;
	err = entry_open(fs, r->to, r->to_name, &r->target_value, &r->target);
	return err == -ENOENT ? 0 : err;
}

/* The parents are locked. */
static int rename_locked(struct fs *fs, struct rename *r, unsigned flags, bool was_flushed)
{
	int err = open_both(fs, r);

	if (err < 0)
		return err;
	if (r->source->type == S_IFDIR && !r->is_exclusive)
		return NEEDS_EXCLUSIVE;
	if (r->source == r->target)
		return flags & RENAME_NOREPLACE ? -EEXIST : DONE;
	err = check_kinds(fs, r, flags);
	if (err < 0)
		return err;
	lock_two(r->source, r->target);
	if (r->target && r->source->pending_blocks > 0 && !was_flushed)
		err = NEEDS_FLUSH;
	else
		err = record_load(fs, r->source, &r->source_value);
	if (err == 0 && r->target)
		err = record_load(fs, r->target, &r->target_value);
	if (err == 0)
		err = commit(fs, r);
	unlock_two(r->source, r->target);
	return err;
}

/* Length and reach concern directories above, whose locks come first: so the source
 * is looked at once before, with its parent locked only for that. */
static int prepare(struct fs *fs, struct rename *r)
{
	int err = directory_lock(r->from, false);

	if (err < 0)
		return err;
	err = entry_open(fs, r->from, r->from_name, &r->source_value, &r->source);
	inode_unlock(r->from);
	if (err < 0)
		return err;
	if (r->source->type == S_IFDIR && !r->is_exclusive)
		return NEEDS_EXCLUSIVE;
	if (r->is_exclusive && r->to->is_orphan)
		return -ENOENT;
	if (r->source->type == S_IFDIR && is_ancestor(r->source, r->to))
		return -EINVAL;
	return check_lengths(fs, r);
}

static void drop_inodes(struct fs *fs, struct rename *r)
{
	inode_put(fs, r->source);
	inode_put(fs, r->target);
	r->source = r->target = NULL;
}

static int rename_in_gate(struct fs *fs, struct rename *r, unsigned flags, bool was_flushed)
{
	int err;

	if (r->from->type != S_IFDIR || r->to->type != S_IFDIR)
		return -ENOTDIR;
	err = prepare(fs, r);
	if (err != 0)
		return err;
	drop_inodes(fs, r);
	lock_two(r->from, r->to);
	if (r->from->is_orphan || r->to->is_orphan)
		err = -ENOENT;
	else
		err = rename_locked(fs, r, flags, was_flushed);
	unlock_two(r->from, r->to);
	return err;
}

static int rename_once(struct fs *fs, struct rename *r, unsigned flags, bool was_flushed)
{
	unsigned ticket = 0;
	int err;

	if (r->is_exclusive)
		gate_enter_exclusive(fs->names);
	else
		ticket = gate_enter_shared(fs->names);
	err = rename_in_gate(fs, r, flags, was_flushed);
	if (r->is_exclusive)
		gate_leave_exclusive(fs->names);
	else
		gate_leave_shared(fs->names, ticket);
	return err;
}

static int rename_steps(struct fs *fs, struct rename *r, unsigned flags)
{
	bool was_flushed = false;
	int err;

	for (;;) {
		err = rename_once(fs, r, flags, was_flushed);
		if (err == NEEDS_EXCLUSIVE)
			r->is_exclusive = true;
		else if (err == NEEDS_FLUSH && (err = flush_inode(fs, r->source)) == 0)
			was_flushed = true;
		else
			break;
		drop_inodes(fs, r);
	}
	drop_inodes(fs, r);
	/* Four long keys at once may be more than the store takes. */
	return err == DONE ? 0 : err == -E2BIG ? -ENAMETOOLONG : err;
}

int fs_rename(struct fs *fs, uint64_t parent, struct fs_name name, uint64_t new_parent,
    struct fs_name new_name, unsigned flags)
{
	struct rename *r;
	int err = flags & ~(unsigned)RENAME_NOREPLACE ? -EINVAL : 0;

	if (err == 0)
		err = name_check(name);
	if (err == 0)
		err = name_check(new_name);
	if (err == 0)
		err = fs_check_writable(fs);
	if (err < 0)
		return err;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->from_name = name;
	r->to_name = new_name;
	err = inode_get(fs, parent, &r->from);
	if (err == 0) {
		err = inode_get(fs, new_parent, &r->to);
		if (err == 0)
			err = rename_steps(fs, r, flags);
		inode_put(fs, r->to);
	}
	inode_put(fs, r->from);
	free(r);
	return err;
}
