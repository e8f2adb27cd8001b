/*
 * Inodes in core: the table by number, references, look-up counts, locks.
 *
 * An inode is in the table as long as it has references.  All look-ups of the kernel
 * together hold one; so does each child in core (which is how an inode keeps its
 * path), the pending list, and every call that works on it.
 *
 *	entry's record --inode_intern--> in the table --last inode_put--> gone
 *	inode_new --inode_publish--/                    \-- an orphan: contents removed
 *
 * Invariants:
 *  1. One structure a number: intern inserts under the shard's mutex or takes what is
 *     there.
 *  2. A record read from the tree is used for a new structure only if no inode left
 *     the table since before it was read (fs->removals); otherwise another call might
 *     have loaded, changed and dropped the inode in between.
 *  3. Removal happens under the shard's mutex at the moment the last reference goes,
 *     so that looking up and forgetting are atomic with it.
 *
 * The table is split into shards by number, each a chained hash that doubles.
 */
#include "config.h"

#include "fs/fs_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/log.h"

#define SHARD_HEADS_FIRST 16u

static struct table_shard *shard_of(struct fs *fs, uint64_t ino)
{
	return &fs->table[ino % TABLE_SHARDS];
}

static struct inode **head_of(struct table_shard *shard, uint64_t ino)
{
	return &shard->heads[ino / TABLE_SHARDS & (shard->head_count - 1)];
}

int table_init(struct fs *fs)
{
	for (unsigned i = 0; i < TABLE_SHARDS; i++) {
		struct table_shard *shard = &fs->table[i];

		mutex_init(&shard->mutex, RANK_FS_TABLE);
		shard->head_count = SHARD_HEADS_FIRST;
	}
	for (unsigned i = 0; i < TABLE_SHARDS; i++) {
		fs->table[i].heads = calloc(SHARD_HEADS_FIRST, sizeof(struct inode *));
		if (!fs->table[i].heads)
			return -ENOMEM;
	}
	return 0;
}

void table_fini(struct fs *fs)
{
	for (unsigned i = 0; i < TABLE_SHARDS; i++) {
		struct table_shard *shard = &fs->table[i];

		for (uint32_t h = 0; shard->heads && h < shard->head_count; h++) {
			while (shard->heads[h]) {
				struct inode *inode = shard->heads[h];

				shard->heads[h] = inode->hash_next;
				inode_free(fs, inode);
			}
		}
		free(shard->heads);
		mutex_fini(&shard->mutex);
	}
}

struct inode *inode_new(uint64_t ino, uint32_t mode)
{
	struct inode *inode = calloc(1, sizeof(*inode));
	pthread_rwlockattr_t attr;

	if (!inode)
		return NULL;
	inode->ino = ino;
	inode->type = mode & S_IFMT;
	inode->references = 1;
	ASSERT(pthread_rwlockattr_init(&attr) == 0);
	ASSERT(pthread_rwlockattr_setkind_np(&attr,
		   PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) == 0);
	ASSERT(pthread_rwlock_init(&inode->lock, &attr) == 0);
	pthread_rwlockattr_destroy(&attr);
	return inode;
}

/* Nothing of it may be pending. */
void inode_free(struct fs *fs, struct inode *inode)
{
	spans_drop(fs, inode, 0);
	ASSERT(!inode->is_pending && inode->pending_blocks == 0);
	pthread_rwlock_destroy(&inode->lock);
	free(inode->spans);
	free(inode->orphan_body);
	free(inode->name);
	free(inode);
}

int inode_set_edge(struct fs *fs, struct inode *inode, struct inode *parent, struct fs_name name)
{
	inode->name = malloc(name.len);
	if (!inode->name)
		return -ENOMEM;
	memcpy(inode->name, name.bytes, name.len);
	inode->name_len = (uint32_t)name.len;
	inode->parent = parent;
	inode_hold(fs, parent);
	return 0;
}

/* ---- the table ------------------------------------------------------------ */

static struct inode *find_locked(struct table_shard *shard, uint64_t ino)
{
	struct inode *inode = *head_of(shard, ino);

	while (inode && inode->ino != ino)
		inode = inode->hash_next;
	return inode;
}

/* Doubles the heads.  If there is no memory the chains just get longer. */
static void grow_locked(struct table_shard *shard)
{
	struct inode **heads = calloc((size_t)shard->head_count * 2, sizeof(*heads));
	struct inode **old = shard->heads;
	uint32_t old_count = shard->head_count;

	if (!heads)
		return;
	shard->heads = heads;
	shard->head_count *= 2;
	for (uint32_t h = 0; h < old_count; h++) {
		while (old[h]) {
			struct inode *inode = old[h];
			struct inode **head = head_of(shard, inode->ino);

			old[h] = inode->hash_next;
			inode->hash_next = *head;
			*head = inode;
		}
	}
	free(old);
}

static void insert_locked(struct table_shard *shard, struct inode *inode)
{
	struct inode **head;

	if (shard->inode_count >= shard->head_count)
		grow_locked(shard);
	head = head_of(shard, inode->ino);
	inode->hash_next = *head;
	*head = inode;
	shard->inode_count++;
}

static void remove_locked(struct fs *fs, struct table_shard *shard, struct inode *inode)
{
	struct inode **at = head_of(shard, inode->ino);

	while (*at != inode)
		at = &(*at)->hash_next;
	*at = inode->hash_next;
	shard->inode_count--;
	atomic_fetch_add(&fs->removals, 1);
}

int inode_get(struct fs *fs, uint64_t ino, struct inode **ret)
{
	struct table_shard *shard = shard_of(fs, ino);
	struct inode *inode;

	mutex_lock(&shard->mutex);
	inode = find_locked(shard, ino);
	if (inode)
		inode->references++;
	mutex_unlock(&shard->mutex);
	if (!inode)
		return -ESTALE;
	*ret = inode;
	return 0;
}

void inode_hold(struct fs *fs, struct inode *inode)
{
	struct table_shard *shard = shard_of(fs, inode->ino);

	mutex_lock(&shard->mutex);
	ASSERT(inode->references > 0);
	inode->references++;
	mutex_unlock(&shard->mutex);
}

/* The inode is in nobody's hands any more; its parent may be next. */
static struct inode *end_inode(struct fs *fs, struct inode *inode)
{
	struct inode *parent = inode->parent;

	segment_close_stream(fs, inode);
	if (inode->is_orphan && inode->has_record)
		orphan_release(fs, inode->ino, inode->flags);
	inode_free(fs, inode);
	return parent;
}

void inode_put(struct fs *fs, struct inode *inode)
{
	while (inode) {
		struct table_shard *shard = shard_of(fs, inode->ino);
		bool is_last;

		mutex_lock(&shard->mutex);
		ASSERT(inode->references > 0);
		is_last = --inode->references == 0;
		if (is_last)
			remove_locked(fs, shard, inode);
		mutex_unlock(&shard->mutex);
		if (!is_last)
			return;
		inode = end_inode(fs, inode);
	}
}

void inode_publish(struct fs *fs, struct inode *inode, uint64_t lookups)
{
	struct table_shard *shard = shard_of(fs, inode->ino);

	mutex_lock(&shard->mutex);
	ASSERT(!find_locked(shard, inode->ino));
	if (lookups > 0)
		inode->references++;
	inode->lookups = lookups;
	insert_locked(shard, inode);
	mutex_unlock(&shard->mutex);
}

/* ---- from an entry's record ---------------------------------------------- */

static int inode_from_record(struct fs *fs, struct inode *parent, struct fs_name name,
    const struct inode_value *value, struct inode **ret)
{
	struct inode *inode = inode_new(from_le64(value->head.ino),
	    from_le32(value->head.mode));

	if (!inode)
		return -ENOMEM;
	record_read(inode, value);
	if (inode_set_edge(fs, inode, parent, name) < 0) {
		inode_free(fs, inode);
		return -ENOMEM;
	}
	*ret = inode;
	return 0;
}

/* Inserts @fresh unless its number is there (then -EEXIST and that one in @ret) or
 * its record may be old (-EAGAIN). */
static int insert_new(struct fs *fs, struct inode *fresh, uint64_t removals, struct inode **ret)
{
	struct table_shard *shard = shard_of(fs, fresh->ino);
	int err = 0;

	mutex_lock(&shard->mutex);
	*ret = find_locked(shard, fresh->ino);
	if (*ret) {
		(*ret)->references++;
		err = -EEXIST;
	} else if (atomic_load(&fs->removals) != removals) {
		err = -EAGAIN;
	} else {
		insert_locked(shard, fresh);
		*ret = fresh;
	}
	mutex_unlock(&shard->mutex);
	return err;
}

static void drop_unpublished(struct fs *fs, struct inode *inode)
{
	struct inode *parent = inode->parent;

	inode_free(fs, inode);
	inode_put(fs, parent);
}

/*
 * Two entries of one number: the volume is damaged.  The number may then be that of
 * any directory, also one this thread has locked; but edges of directories stand
 * still in the gate, so that only others are locked here.
 */
static int check_edge(struct inode *inode, const struct inode *parent, struct fs_name name)
{
	bool is_directory = inode->type == S_IFDIR;
	bool is_right;

	if (!is_directory)
		inode_lock_shared(inode);
	is_right = inode->parent == parent && name_is(name, inode);
	if (!is_directory)
		inode_unlock(inode);
	if (is_right)
		return 0;
	log_error("inode %llu has two entries, one of them \"%.*s\"",
	    (unsigned long long)inode->ino, (int)name.len, name.bytes);
	return -EUCLEAN;
}

int inode_intern(struct fs *fs, struct inode *parent, struct fs_name name,
    struct inode_value *value, uint64_t removals, struct inode **ret)
{
	struct inode *inode, *fresh;
	int err;

	for (;;) {
		KEY_ON_STACK(key);

		if (inode_get(fs, from_le64(value->head.ino), &inode) == 0)
			break;
		err = inode_from_record(fs, parent, name, value, &fresh);
		if (err < 0)
			return err;
		err = insert_new(fs, fresh, removals, &inode);
		if (err == 0) {
			*ret = inode;
			return 0;
		}
		drop_unpublished(fs, fresh);
		if (err == -EEXIST)
			break;
		removals = atomic_load(&fs->removals);
		err = key_entry(&key, parent, name);
		if (err == 0)
			err = record_get(fs, &key, value);
		if (err < 0)
			return err;
	}
	err = check_edge(inode, parent, name);
	if (err < 0) {
		inode_put(fs, inode);
		return err;
	}
	*ret = inode;
	return 0;
}

/* ---- look-ups -------------------------------------------------------------- */

void inode_add_lookup(struct fs *fs, struct inode *inode)
{
	struct table_shard *shard = shard_of(fs, inode->ino);

	mutex_lock(&shard->mutex);
	if (inode->lookups++ == 0)
		inode->references++;
	mutex_unlock(&shard->mutex);
}

bool inode_has_lookups(struct fs *fs, struct inode *inode)
{
	struct table_shard *shard = shard_of(fs, inode->ino);
	bool has;

	mutex_lock(&shard->mutex);
	has = inode->lookups > 0;
	mutex_unlock(&shard->mutex);
	return has;
}

/* Takes look-ups away; true if the last went, whose reference is now the caller's. */
static bool take_lookups(struct fs *fs, struct inode *inode, uint64_t lookups)
{
	struct table_shard *shard = shard_of(fs, inode->ino);
	bool is_last;

	mutex_lock(&shard->mutex);
	lookups = min_of(lookups, inode->lookups);
	inode->lookups -= lookups;
	is_last = lookups > 0 && inode->lookups == 0;
	mutex_unlock(&shard->mutex);
	return is_last;
}

/* Nobody can reach an orphan without look-ups: its pending data is of no use. */
static void forget_last(struct fs *fs, struct inode *inode)
{
	inode_lock(inode);
	if (inode->is_orphan)
		pending_discard(fs, inode);
	inode_unlock(inode);
	inode_put(fs, inode);
}

void fs_forget(struct fs *fs, uint64_t ino, uint64_t lookups)
{
	struct inode *inode;

	if (inode_get(fs, ino, &inode) < 0)
		return;
	if (inode != fs->root && take_lookups(fs, inode, lookups))
		forget_last(fs, inode);
	inode_put(fs, inode);
}

/* An inode with look-ups from chain *@h on, with a reference; NULL: none are left. */
static struct inode *next_known(struct fs *fs, struct table_shard *shard, uint32_t *h)
{
	struct inode *inode = NULL;

	mutex_lock(&shard->mutex);
	for (; *h < shard->head_count; (*h)++) {
		inode = shard->heads[*h];
		while (inode && (inode->lookups == 0 || inode == fs->root))
			inode = inode->hash_next;
		if (inode)
			break;
	}
	if (inode)
		inode->references++;
	mutex_unlock(&shard->mutex);
	return inode;
}

void table_forget_all(struct fs *fs)
{
	for (unsigned i = 0; i < TABLE_SHARDS; i++) {
		struct inode *inode;
		uint32_t h = 0;

		while ((inode = next_known(fs, &fs->table[i], &h))) {
			if (take_lookups(fs, inode, UINT64_MAX))
				forget_last(fs, inode);
			inode_put(fs, inode);
		}
	}
}

/* ---- locks and attributes --------------------------------------------------- */

void inode_lock(struct inode *inode)
{
	rank_enter(RANK_INODE);
	ASSERT(pthread_rwlock_wrlock(&inode->lock) == 0);
}

void inode_lock_shared(struct inode *inode)
{
	rank_enter(RANK_INODE);
	ASSERT(pthread_rwlock_rdlock(&inode->lock) == 0);
}

void inode_unlock(struct inode *inode)
{
	ASSERT(pthread_rwlock_unlock(&inode->lock) == 0);
	rank_leave(RANK_INODE);
}

int directory_lock(struct inode *dir, bool is_exclusive)
{
	if (dir->type != S_IFDIR)
		return -ENOTDIR;
	if (is_exclusive)
		inode_lock(dir);
	else
		inode_lock_shared(dir);
	if (!dir->is_orphan)
		return 0;
	inode_unlock(dir);
	return -ENOENT;
}

/* st_blocks: inline data counts as the sectors it would fill, because programs take
 * 0 for a file that is one hole. */
static uint64_t sectors(const struct inode *inode)
{
	if (inode->type == S_IFDIR)
		return div_up(inode->attr.size * DIRECTORY_ENTRY_BYTES, 512);
	if (inode->body == INODE_BODY_INLINE && !inode->is_spread)
		return div_up(inode->body_bytes, 512);
	return inode->blocks * (BLOCK_BYTES / 512);
}

void inode_attr(const struct inode *inode, struct fs_attr *ret)
{
	const struct inode_attrs *attr = &inode->attr;

	*ret = (struct fs_attr){
	    .ino = inode->ino,
	    .mode = attr->mode,
	    .nlink = attr->nlink,
	    .uid = attr->uid,
	    .gid = attr->gid,
	    .rdev = attr->rdev,
	    .size = inode->type == S_IFDIR ? attr->size * DIRECTORY_ENTRY_BYTES :
						   attr->size,
	    .blocks = sectors(inode),
	    .atime = attr->times[INODE_ATIME],
	    .mtime = attr->times[INODE_MTIME],
	    .ctime = attr->times[INODE_CTIME],
	    .btime = attr->times[INODE_BTIME],
	};
}
