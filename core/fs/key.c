/*
 * Keys of the file layer, built from the chain of parents in core.
 *
 * A contents prefix is filled from its end: lengths first, on the way up to the
 * root, then the bytes on a second way up.
 *
 *	   "N/" "home/" "anna/" 0x00 "letter"
 *	        ^ grandparent  ^ parent     entry
 *
 * Invariants:
 *  1. The caller keeps the chain still: it is in the names gate, and for an inode
 *     that is not a directory it holds its lock or its parent's.
 *  2. A key is never longer than STORE_KEY_MAX; what would be answers -ENAMETOOLONG
 *     before anything is changed.
 *
 * Short keys live in the structure, longer ones on the heap.
 */
#include "config.h"

#include "fs/fs_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"

#define ORPHAN_CONTENTS_BYTES (KEY_ORPHAN_BYTES + 1)
#define SPAN_OFFSET_BYTES 8u

void key_init(struct key *key)
{
	key->bytes = 0;
	key->base = 0;
	key->capacity = KEY_SMALL;
	key->at = key->small;
}

void key_fini(struct key *key)
{
	if (key->at != key->small)
		free(key->at);
}

static int key_resize(struct key *key, uint64_t bytes)
{
	if (bytes > STORE_KEY_MAX)
		return -ENAMETOOLONG;
	if (bytes > key->capacity) {
		uint8_t *at = malloc(bytes);

		if (!at)
			return -ENOMEM;
		key_fini(key);
		key->at = at;
		key->capacity = (uint32_t)bytes;
	}
	key->bytes = (uint32_t)bytes;
	key->base = 0;
	return 0;
}

uint64_t contents_bytes(const struct inode *inode)
{
	uint64_t bytes = 0;

	for (; inode->parent && !inode->is_orphan; inode = inode->parent)
		bytes += inode->name_len + 1;
	return bytes + (inode->is_orphan ? ORPHAN_CONTENTS_BYTES :
						 sizeof(KEY_ROOT_CONTENTS) - 1);
}

static void put_orphan(uint8_t *to, uint64_t ino)
{
	to[0] = KEY_ORPHAN;
	be64_store(to + 1, ino);
}

/* Writes C(inode) so that it ends before @end. */
static void put_contents(uint8_t *end, const struct inode *inode)
{
	for (; inode->parent && !inode->is_orphan; inode = inode->parent) {
		*--end = '/';
		end -= inode->name_len;
		memcpy(end, inode->name, inode->name_len);
	}
	if (inode->is_orphan) {
		*--end = '/';
		put_orphan(end - KEY_ORPHAN_BYTES, inode->ino);
	} else {
		end -= sizeof(KEY_ROOT_CONTENTS) - 1;
		memcpy(end, KEY_ROOT_CONTENTS, sizeof(KEY_ROOT_CONTENTS) - 1);
	}
}

/* C(inode) followed by room for @more bytes. */
static int contents_and_more(struct key *key, const struct inode *inode, uint32_t more)
{
	uint64_t bytes = contents_bytes(inode);
	int err = key_resize(key, bytes + more);

	if (err < 0)
		return err;
	put_contents(key->at + bytes, inode);
	return 0;
}

int key_contents(struct key *key, const struct inode *inode)
{
	return contents_and_more(key, inode, 0);
}

int key_entries(struct key *key, const struct inode *dir)
{
	int err = contents_and_more(key, dir, 1);

	if (err < 0)
		return err;
	key->at[key->bytes - 1] = 0;
	return 0;
}

int key_entry(struct key *key, const struct inode *dir, struct fs_name name)
{
	int err = contents_and_more(key, dir, 1 + (uint32_t)name.len);

	if (err < 0)
		return err;
	key->at[key->bytes - name.len - 1] = 0;
	memcpy(key->at + key->bytes - name.len, name.bytes, name.len);
	return 0;
}

int key_child(struct key *key, const struct inode *dir, struct fs_name name, bool for_spans)
{
	uint32_t more = (uint32_t)name.len + 1 + for_spans;
	int err = contents_and_more(key, dir, more);
	uint8_t *at = key->at + key->bytes - more;

	if (err < 0)
		return err;
	memcpy(at, name.bytes, name.len);
	at[name.len] = '/';
	if (for_spans)
		at[name.len + 1] = 0;
	return 0;
}

int key_inode(struct key *key, const struct inode *inode)
{
	int err;

	if (inode->is_orphan) {
		key_orphan(key, inode->ino);
		return 0;
	}
	if (inode->parent)
		return key_entry(key, inode->parent,
		    (struct fs_name){inode->name, inode->name_len});
	err = key_resize(key, sizeof(KEY_ROOT_INODE) - 1);
	if (err < 0)
		return err;
	memcpy(key->at, KEY_ROOT_INODE, key->bytes);
	return 0;
}

int key_spans(struct key *key, const struct inode *inode)
{
	int err = contents_and_more(key, inode, 1 + SPAN_OFFSET_BYTES);

	if (err < 0)
		return err;
	key->bytes -= SPAN_OFFSET_BYTES;
	key->base = key->bytes;
	key->at[key->base - 1] = 0;
	return 0;
}

void key_set_span(struct key *key, uint64_t index)
{
	ASSERT(key->base > 0);
	be64_store(key->at + key->base, index * SPAN_BYTES);
	key->bytes = key->base + SPAN_OFFSET_BYTES;
}

void key_orphan(struct key *key, uint64_t ino)
{
	key->bytes = KEY_ORPHAN_BYTES;
	key->base = 0;
	put_orphan(key->at, ino);
}

void key_orphan_spans(struct key *key, uint64_t ino)
{
	put_orphan(key->at, ino);
	key->at[KEY_ORPHAN_BYTES] = '/';
	key->at[KEY_ORPHAN_BYTES + 1] = 0;
	key->bytes = key->base = KEY_ORPHAN_BYTES + 2;
}

uint32_t inode_depth(const struct inode *inode)
{
	uint32_t depth = 0;

	for (; inode->parent; inode = inode->parent)
		depth++;
	return depth;
}

bool is_ancestor(const struct inode *above, const struct inode *below)
{
	for (; below; below = below->parent)
		if (below == above)
			return true;
	return false;
}

/* Bytes that would disturb a log line are shown as '?'. */
static void append_text(char *buf, size_t *at, const uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count && *at + 1 < DESCRIBE_BYTES; i++)
		buf[(*at)++] = bytes[i] < ' ' || bytes[i] == 127 ? '?' : (char)bytes[i];
	buf[*at] = 0;
}

const char *key_describe(const struct key *key, char buf[DESCRIBE_BYTES])
{
	const uint8_t *nul;
	size_t at = 0;

	if (key->bytes >= KEY_ORPHAN_BYTES && key->at[0] == KEY_ORPHAN) {
		snprintf(buf, DESCRIBE_BYTES, "unlinked inode %llu",
		    (unsigned long long)be64_load(key->at + 1));
		return buf;
	}
	if (key->bytes < 2 || key->at[0] != KEY_ROOT_CONTENTS[0])
		return "/";
	nul = memchr(key->at, 0, key->bytes);
	if (!nul) {
		append_text(buf, &at, key->at + 1, key->bytes - 2);
		return at > 0 ? buf : "/";
	}
	append_text(buf, &at, key->at + 1, (size_t)(nul - key->at) - 1);
	if (key->base > 0 && at > 1)
		buf[at - 1] = 0; /* a span: the path is the file's */
	else
		append_text(buf, &at, nul + 1,
		    key->bytes - (size_t)(nul - key->at) - 1);
	return buf;
}
