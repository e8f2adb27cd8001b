/*
 * Inode records: from core to the tree and back.
 *
 *	struct inode  --record_fill-->  header | body  --record_save-->  tree
 *	              <--record_read--                 <--record_get---
 *
 * The body (inline data, a symlink's target, span 0) is not kept in core: who puts a
 * record reads the body first, unless it makes a new one.  An orphan whose body
 * needs no blocks has no record at all; its body then lives in inode->orphan_body.
 *
 * Invariants:
 *  1. What the inode says of its body (body, body_bytes, flags, recorded_size,
 *     recorded_blocks, claimed) is what the tree's record says.
 *  2. A record's size never passes the extents recorded: see recorded_size_next().
 *
 * Locking: the inode's lock, exclusive for save, and the gate.  Crash: every save is
 * one transaction.
 */
#include "config.h"

#include "fs/fs_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/cleanup.h"
#include "base/log.h"

static int damaged(const struct key *key, const char *what)
{
	char path[DESCRIBE_BYTES];

	log_error("%s: damaged inode record: %s", key_describe(key, path), what);
	return -EUCLEAN;
}

int record_get(struct fs *fs, const struct key *key, struct inode_value *ret)
{
	int err = store_get(fs->store, key->at, key->bytes, ret->raw,
	    sizeof(ret->raw), &ret->bytes, NULL);

	if (err == -ERANGE)
		return damaged(key, "too long");
	if (err < 0)
		return err;
	if (inode_value_verify(ret->raw, ret->bytes) < 0)
		return damaged(key, "fields contradict each other");
	if (from_le64(ret->head.ino) >= atomic_load(&fs->next_ino))
		return damaged(key, "inode number never issued");
	return 0;
}

void record_set_body(struct inode_value *value, enum inode_body body, uint32_t bytes)
{
	ASSERT(bytes <= INODE_BODY_MAX);
	value->head.body = (uint8_t)body;
	value->head.body_bytes = to_le16((uint16_t)bytes);
	value->bytes = (uint32_t)sizeof(value->head) + bytes;
}

void record_fill(const struct inode *inode, struct inode_value *value)
{
	const struct inode_attrs *attr = &inode->attr;
	struct inode_record *head = &value->head;
	bool is_file = inode->type == S_IFREG;

	*head = (struct inode_record){
	    .flags = inode->flags,
	    .mode = to_le32(attr->mode),
	    .ino = to_le64(inode->ino),
	    .nlink = to_le32(attr->nlink),
	    .uid = to_le32(attr->uid),
	    .gid = to_le32(attr->gid),
	    .reach = to_le32(atomic_load(&inode->reach)),
	    .rdev = to_le64(attr->rdev),
	    .size = to_le64(is_file ? inode->recorded_size : attr->size),
	    .blocks = to_le64(inode->recorded_blocks),
	    .claimed = to_le32(inode->claimed),
	};
	for (unsigned i = 0; i < INODE_TIMES; i++) {
		head->seconds[i] = to_le64((uint64_t)attr->times[i].tv_sec);
		head->nanoseconds[i] = to_le32((uint32_t)attr->times[i].tv_nsec);
	}
	record_set_body(value, inode->body, inode->body_bytes);
}

void record_read(struct inode *inode, const struct inode_value *value)
{
	const struct inode_record *head = &value->head;

	inode->attr = (struct inode_attrs){
	    .mode = from_le32(head->mode),
	    .nlink = from_le32(head->nlink),
	    .uid = from_le32(head->uid),
	    .gid = from_le32(head->gid),
	    .rdev = from_le64(head->rdev),
	    .size = from_le64(head->size),
	};
	for (unsigned i = 0; i < INODE_TIMES; i++) {
		inode->attr.times[i].tv_sec = (time_t)from_le64(head->seconds[i]);
		inode->attr.times[i].tv_nsec = (long)from_le32(head->nanoseconds[i]);
	}
	inode->has_record = true;
	inode->body = head->body;
	inode->flags = head->flags;
	inode->body_bytes = from_le16(head->body_bytes);
	inode->recorded_size = inode->attr.size;
	inode->recorded_blocks = inode->blocks = from_le64(head->blocks);
	inode->claimed = from_le32(head->claimed);
	atomic_store(&inode->reach, from_le32(head->reach));
}

int record_load(struct fs *fs, struct inode *inode, struct inode_value *ret)
{
	KEY_ON_STACK(key);
	int err;

	if (inode->has_record && inode->body_bytes > 0) {
		err = key_inode(&key, inode);
		if (err == 0)
			err = record_get(fs, &key, ret);
		if (err < 0)
			return err == -ENOENT ? -EUCLEAN : err;
		if (from_le64(ret->head.ino) != inode->ino ||
		    ret->head.body != inode->body ||
		    from_le16(ret->head.body_bytes) != inode->body_bytes)
			return damaged(&key, "not what it was");
	} else if (inode->orphan_body) {
		memcpy(inode_value_body(ret), inode->orphan_body, inode->body_bytes);
	}
	record_fill(inode, ret);
	return 0;
}

static int keep_body(struct inode *inode, struct inode_value *value)
{
	uint32_t bytes = from_le16(value->head.body_bytes);
	uint8_t *body = realloc(inode->orphan_body, bytes + 1);

	if (!body)
		return -ENOMEM;
	memcpy(body, inode_value_body(value), bytes);
	inode->orphan_body = body;
	return 0;
}

int record_save(struct fs *fs, struct inode *inode, struct inode_value *value)
{
	struct store_batch *batch;
	KEY_ON_STACK(key);
	int err;

	if (inode->is_orphan && !inode->has_record) {
		ASSERT(value->head.body != INODE_BODY_SPAN);
		return keep_body(inode, value);
	}
	err = key_inode(&key, inode);
	if (err < 0)
		return err;
	err = batch_take(fs, &batch);
	if (err < 0)
		return err;
	store_batch_put(batch, key.at, key.bytes, value->raw, value->bytes);
	err = batch_commit(fs, batch);
	batch_give(fs, batch);
	return err;
}

int record_update(struct fs *fs, struct inode *inode)
{
	struct inode_value value;
	int err = record_load(fs, inode, &value);

	if (err == 0)
		err = record_save(fs, inode, &value);
	return err;
}

int record_put_plain(struct store_batch *batch, const struct inode *inode)
{
	struct inode_value value;
	KEY_ON_STACK(key);
	int err;

	ASSERT(inode->body_bytes == 0);
	err = key_inode(&key, inode);
	if (err < 0)
		return err;
	record_fill(inode, &value);
	store_batch_put(batch, key.at, key.bytes, value.raw, value.bytes);
	return 0;
}
