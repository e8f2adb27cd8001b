/*
 * Listing a directory.
 *
 * A handle keeps the names it handed out, one after the other, in an arena; a token
 * is where a name begins there.  So reading from a token can go on after that name,
 * whatever happened to the entry since.
 *
 *	token  1: "."   2: ".."   3 + offset in the arena:
 *
 *	arena  | 5 apple | 4 pear | 4 plum | ...
 *	         ^ 3        ^ 9      ^ 14
 *
 * A name that follows the token's in the arena as well as in the directory keeps its
 * token: listing again from anywhere adds only names that are new.  So a handle's
 * memory is bounded by the names of the directory (and of what was created meanwhile),
 * and reading from the start empties the arena.  Each call seeks once and then walks
 * the cursor: the cost of an entry does not depend on the directory's size.
 *
 * Locking: a call holds the names gate and the directory shared, so nothing in the
 * directory changes during one; the callback must not come back into the file system.
 * The handle's mutex keeps two calls on one handle apart; it comes before the gate.
 */
#include "config.h"

#include "fs/fs_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"

#define TOKEN_DOT 1u
#define TOKEN_DOTDOT 2u
#define TOKEN_ARENA 3u
#define ARENA_FIRST 512u

struct fs_dir {
	struct fs *fs;
	struct inode *inode;
	struct mutex mutex;
	uint8_t *arena; /* {length byte, name} one after the other */
	size_t used, capacity;
};

int fs_opendir(struct fs *fs, uint64_t ino, struct fs_dir **ret)
{
	struct inode *inode;
	struct fs_dir *dir;
	int err = inode_get(fs, ino, &inode);

	if (err < 0)
		return err;
	dir = inode->type == S_IFDIR ? calloc(1, sizeof(*dir)) : NULL;
	if (!dir) {
		err = inode->type == S_IFDIR ? -ENOMEM : -ENOTDIR;
		inode_put(fs, inode);
		return err;
	}
	dir->fs = fs;
	dir->inode = inode;
	mutex_init(&dir->mutex, RANK_DAEMON);
	*ret = dir;
	return 0;
}

void fs_closedir(struct fs_dir *dir)
{
	if (!dir)
		return;
	inode_put(dir->fs, dir->inode);
	mutex_fini(&dir->mutex);
	free(dir->arena);
	free(dir);
}

/* ---- tokens ------------------------------------------------------------------------- */

/* The name at offset @at; false: no name begins there (a token of the user's own
 * making; one that falls inside the arena gives some name, which does no harm). */
static bool arena_name(const struct fs_dir *dir, size_t at, struct fs_name *ret)
{
	if (at >= dir->used || dir->arena[at] == 0 || dir->used - at <= dir->arena[at])
		return false;
	*ret = (struct fs_name){(const char *)dir->arena + at + 1, dir->arena[at]};
	return true;
}

static int arena_reserve(struct fs_dir *dir, size_t bytes)
{
	size_t capacity = max_of(dir->capacity * 2, (size_t)ARENA_FIRST);
	uint8_t *arena;

	if (dir->used + bytes <= dir->capacity)
		return 0;
	arena = realloc(dir->arena, capacity);
	if (!arena)
		return -ENOMEM;
	dir->arena = arena;
	dir->capacity = capacity;
	return 0;
}

/* The token for @name when the arena's next name is at @next; room is reserved. */
static uint64_t token_for(const struct fs_dir *dir, struct fs_name name, size_t next)
{
	struct fs_name known;

	if (arena_name(dir, next, &known) && known.len == name.len &&
	    memcmp(known.bytes, name.bytes, name.len) == 0)
		return TOKEN_ARENA + next;
	return TOKEN_ARENA + dir->used;
}

/* The entry was taken: its name stays.  Returns where the next one is. */
static size_t keep_name(struct fs_dir *dir, struct fs_name name, uint64_t token)
{
	size_t at = (size_t)(token - TOKEN_ARENA);

	if (at == dir->used) {
		dir->arena[at] = (uint8_t)name.len;
		memcpy(dir->arena + at + 1, name.bytes, name.len);
		dir->used += name.len + 1;
	}
	return at + name.len + 1;
}

/* ---- entries ------------------------------------------------------------------------ */

struct listing {
	struct fs_dir *dir;
	fs_dirent_fn fn;
	void *ctx;
	bool with_attr;
	size_t next;	   /* in the arena */
	uint64_t removals; /* from before the cursor read anything */
};

static bool list_dots(struct listing *l, uint64_t token)
{
	const struct inode *inode = l->dir->inode;
	struct fs_dirent entry = {.type = S_IFDIR};

	if (token < TOKEN_DOT) {
		entry.name = (struct fs_name){".", 1};
		entry.ino = inode->ino;
		entry.token = TOKEN_DOT;
		if (!l->fn(l->ctx, &entry))
			return false;
	}
	entry.name = (struct fs_name){"..", 2};
	entry.ino = inode->parent ? inode->parent->ino : inode->ino;
	entry.token = TOKEN_DOTDOT;
	return token >= TOKEN_DOTDOT || l->fn(l->ctx, &entry);
}

/* Attributes come from the inode in core, which the entry brings there.  -EUCLEAN:
 * the volume is damaged here. */
static int list_with_attr(struct listing *l, struct fs_dirent *entry,
    struct inode_value *value, bool *ret_taken)
{
	struct fs *fs = l->dir->fs;
	struct inode *inode;
	struct fs_attr attr;
	int err = inode_intern(fs, l->dir->inode, entry->name, value, l->removals, &inode);

	if (err < 0)
		return err;
	inode_lock_shared(inode);
	inode_attr(inode, &attr);
	inode_unlock(inode);
	entry->attr = &attr;
	/* Counted before it is shown: the kernel may forget it at once. */
	inode_add_lookup(fs, inode);
	*ret_taken = l->fn(l->ctx, entry);
	if (!*ret_taken)
		fs_forget(fs, inode->ino, 1);
	inode_put(fs, inode); /* it has a name: nothing is written here */
	return 0;
}

/* A copy of the entry's record, if it can be believed. */
static int read_item(struct listing *l, const struct store_item *item, struct inode_value *ret)
{
	if (inode_value_verify(item->value, item->value_bytes) < 0)
		return -EUCLEAN;
	memcpy(ret->raw, item->value, item->value_bytes);
	ret->bytes = item->value_bytes;
	return from_le64(ret->head.ino) < atomic_load(&l->dir->fs->next_ino) ? 0 : -EUCLEAN;
}

/* An entry whose record is damaged is listed without type and attributes: so it is
 * seen, and what lies behind it too. */
static int list_entry(struct listing *l, const struct store_item *item,
    struct fs_dirent *entry, bool *ret_taken)
{
	struct inode_value value;
	int err = read_item(l, item, &value);

	if (err == 0) {
		entry->ino = from_le64(value.head.ino);
		entry->type = from_le32(value.head.mode) & S_IFMT;
		if (l->with_attr)
			err = list_with_attr(l, entry, &value, ret_taken);
		else
			*ret_taken = l->fn(l->ctx, entry);
	}
	if (err != -EUCLEAN)
		return err;
	log_error("damaged entry \"%.*s\" of directory %llu", (int)entry->name.len,
	    entry->name.bytes, (unsigned long long)l->dir->inode->ino);
	entry->ino = UINT64_MAX;
	entry->type = 0;
	entry->attr = NULL;
	*ret_taken = l->fn(l->ctx, entry);
	return 0;
}

/* 0: go on; 1: the caller has enough. */
static int list_item(struct listing *l, const struct key *prefix, const struct store_item *item)
{
	struct fs_dirent entry = {
	    .name = {(const char *)item->key + prefix->bytes,
		item->key_bytes - prefix->bytes},
	};
	bool is_taken = false;
	int err;

	if (name_check(entry.name) < 0) {
		log_error("damaged name in directory %llu",
		    (unsigned long long)l->dir->inode->ino);
		return 0;
	}
	err = arena_reserve(l->dir, entry.name.len + 1);
	if (err < 0)
		return err;
	entry.token = token_for(l->dir, entry.name, l->next);
	err = list_entry(l, item, &entry, &is_taken);
	if (err < 0)
		return err;
	if (!is_taken)
		return 1;
	l->next = keep_name(l->dir, entry.name, entry.token);
	return 0;
}

/* ---- reading ------------------------------------------------------------------------ */

/* Puts the cursor behind the token's name. */
static int seek(struct listing *l, uint64_t token, struct store_cursor *cursor)
{
	struct fs_name name;
	KEY_ON_STACK(at);
	int err;

	l->next = 0;
	if (token < TOKEN_ARENA)
		return 0;
	if (!arena_name(l->dir, (size_t)(token - TOKEN_ARENA), &name))
		return -EINVAL;
	l->next = (size_t)(token - TOKEN_ARENA) + name.len + 1;
	err = key_entry(&at, l->dir->inode, name);
	if (err == 0)
		store_cursor_seek(cursor, at.at, at.bytes, true);
	return err;
}

static int list_entries(struct listing *l, uint64_t token)
{
	struct store_range range = {0};
	struct store_cursor *cursor;
	struct store_item item;
	KEY_ON_STACK(prefix);
	int err = key_entries(&prefix, l->dir->inode);

	range.prefix = prefix.at;
	range.prefix_bytes = prefix.bytes;
	if (err == 0)
		err = store_cursor_open(l->dir->fs->store, &range, &cursor);
	if (err < 0)
		return err;
	err = seek(l, token, cursor);
	while (err == 0) {
		err = store_cursor_next(cursor, &item);
		if (err == 0)
			err = list_item(l, &prefix, &item);
	}
	store_cursor_close(cursor);
	return err == -ENOENT || err == 1 ? 0 : err;
}

int fs_readdir(struct fs_dir *dir, uint64_t token, bool with_attr, fs_dirent_fn fn, void *ctx)
{
	struct fs *fs = dir->fs;
	struct listing l = {
	    .dir = dir,
	    .fn = fn,
	    .ctx = ctx,
	    .with_attr = with_attr,
	};
	unsigned ticket;
	int err = 0;

	mutex_lock(&dir->mutex);
	if (token == 0)
		dir->used = 0;
	ticket = gate_enter_shared(fs->names);
	inode_lock_shared(dir->inode);
	l.removals = atomic_load(&fs->removals);
	if (list_dots(&l, token) && !dir->inode->is_orphan)
		err = list_entries(&l, token);
	inode_unlock(dir->inode);
	gate_leave_shared(fs->names, ticket);
	mutex_unlock(&dir->mutex);
	atime_note(fs, dir->inode);
	return err;
}
