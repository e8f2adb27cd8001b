/*
 * Values of the file layer: inode records and span records.
 *
 * Rules (core/fs: record.c, commit.c, truncate.c, orphan.c):
 *  1. Numbers are given out once, all below the limit that the tree records.
 *  2. Inline data never goes with blocks.
 *  3. A recorded block begins below the recorded size.  Only while INODE_TRUNCATING may
 *     there be more, in spans that lie wholly behind the size.
 *  4. The record counts the blocks of all spans, and those of them that are claimed;
 *     that of an orphan, whose spans go before it, may count more.  Claimed blocks may
 *     lie anywhere.  The volume counts them all (check_fs.c).
 *  5. What has a name has one; an orphan has none.  Directories count their
 *     subdirectories (check_fs.c).
 */
#include "config.h"

#include "check/check_internal.h"

#include <string.h>
#include <sys/stat.h>

#include "fs/fs.h"

struct subject {
	struct check *check;
	const char *path;
	struct known_inode *inode;
};

#define inode_damage(subject, format, ...)                                     \
	report_damage((subject)->check, "%s (inode %llu): " format,            \
	    (subject)->path, (ull)(subject)->inode->ino, ##__VA_ARGS__)

/* ---- spans ---------------------------------------------------------------------- */

static bool is_block_allowed(const struct known_inode *inode, uint64_t span_offset, uint32_t i)
{
	if (span_offset + (uint64_t)i * BLOCK_BYTES < inode->size)
		return true;
	return (inode->flags & INODE_TRUNCATING) && span_offset >= inode->size;
}

/* Bytes behind the end of the file are zeros, unless a cut left them. */
static uint64_t zeros_from(const struct known_inode *inode)
{
	return inode->flags & (INODE_TAIL_STALE | INODE_TRUNCATING) ? UINT64_MAX : inode->size;
}

static int name_run(struct subject *subject, uint64_t offset, const struct span_map *map,
    uint32_t first, uint32_t count)
{
	struct check *check = subject->check;
	struct owner owner = {
	    .kind = OWNER_FILE,
	    .number = subject->inode->ino,
	    .offset = offset + (uint64_t)first * BLOCK_BYTES,
	    .path = subject->path,
	};
	bool is_good;
	int err = name_blocks(check, map->block[first], count, &owner, &is_good);

	check->totals.extents++;
	if (!err && is_good && check->data)
		err = data_add(check, subject->path, offset, map, first, count,
		    zeros_from(subject->inode));
	return err;
}

static int take_span(struct subject *subject, uint64_t offset, const struct span_map *map)
{
	struct known_inode *inode = subject->inode;
	bool is_told = false;
	int err = 0;

	for (uint32_t i = 0, n; i < SPAN_BLOCKS && !err; i += n) {
		n = span_run(map, i);
		if (span_is_hole(map, i))
			continue;
		inode->counted += n;
		if (span_is_claimed(map, i)) {
			inode->counted_claims += n;
			subject->check->files->claims += n;
			continue;
		}
		if (!is_block_allowed(inode, offset, i + n - 1) && !is_told) {
			inode_damage(subject, "data at offset %llu, beyond the size of %llu bytes",
			    (ull)(offset + (uint64_t)(i + n - 1) * BLOCK_BYTES), (ull)inode->size);
			is_told = true;
		}
		err = name_run(subject, offset, map, i, n);
	}
	return err;
}

int check_span(struct check *check, const char *path, struct known_inode *inode,
    uint64_t offset, const uint8_t *value, uint32_t bytes)
{
	struct subject subject = {check, path, inode};
	struct span_map map;

	if (offset == 0 || offset % SPAN_BYTES || offset >= FS_FILE_MAX) {
		inode_damage(&subject, "an extent record at the impossible offset %llu", (ull)offset);
	} else if (span_decode(value, bytes, &map)) {
		inode_damage(&subject, "damaged extent record at offset %llu", (ull)offset);
	} else {
		if (!(inode->flags & INODE_HAS_SPANS))
			inode_damage(&subject, "an extent record at offset %llu that the inode does not know of",
			    (ull)offset);
		return take_span(&subject, offset, &map);
	}
	inode->is_uncertain = true;
	check->is_naming_incomplete = true;
	return 0;
}

static bool is_miscounted(const struct known_inode *inode, uint64_t says, uint64_t has)
{
	return says != has && !(inode->is_orphan && has < says);
}

void check_blocks(struct check *check, const char *path, const struct known_inode *inode)
{
	struct subject subject = {check, path, (struct known_inode *)inode};

	if (inode->is_uncertain)
		return;
	if (is_miscounted(inode, inode->blocks, inode->counted))
		inode_damage(&subject, "counts %llu blocks of data, has %llu", (ull)inode->blocks,
		    (ull)inode->counted);
	if (is_miscounted(inode, inode->claimed, inode->counted_claims))
		inode_damage(&subject, "counts %u allocated blocks, has %u", inode->claimed,
		    inode->counted_claims);
}

/* ---- inodes ------------------------------------------------------------------------ */

static int check_number(struct subject *subject)
{
	struct check *check = subject->check;
	uint64_t ino = subject->inode->ino, limit = check->files->ino_limit;
	bool was_in;
	int err;

	if (limit && ino >= limit)
		inode_damage(subject, "the number was never given out (limit %llu)", (ull)limit);
	err = number_set_add(&check->files->inodes, ino, &was_in);
	if (!err && was_in)
		inode_damage(subject, "another inode has the same number");
	return err;
}

static int check_file(struct subject *subject, const struct inode_record *head, const uint8_t *body)
{
	struct known_inode *inode = subject->inode;
	uint32_t body_bytes = from_le16(head->body_bytes);
	struct span_map map;

	if (inode->size > FS_FILE_MAX)
		inode_damage(subject, "size of %llu bytes is beyond the largest", (ull)inode->size);
	if (head->body == INODE_BODY_INLINE) {
		if (body_bytes > INODE_INLINE_MAX)
			inode_damage(subject, "%u bytes of data in the record, more than allowed", body_bytes);
		if (inode->blocks || inode->claimed || (inode->flags & INODE_HAS_SPANS)) {
			inode_damage(subject, "has data both in the record and in blocks");
			inode->is_uncertain = true;
		}
		subject->check->totals.data_bytes += body_bytes;
		return 0;
	}
	/* inode_value_verify() has decoded it. */
	if (body_bytes == 0 || span_decode(body, body_bytes, &map))
		return 0;
	return take_span(subject, 0, &map);
}

static void count_inode(struct check *check, const struct known_inode *inode, uint32_t type)
{
	struct check_totals *totals = &check->totals;

	if (inode->is_orphan)
		totals->orphans++;
	else if (type == S_IFREG)
		totals->files++;
	else if (type == S_IFDIR)
		totals->directories++;
	else if (type == S_IFLNK)
		totals->symlinks++;
	else
		totals->others++;
	totals->data_bytes += (inode->blocks - min_of(inode->blocks, (uint64_t)inode->claimed)) *
			      BLOCK_BYTES;
}

static void check_links(struct subject *subject)
{
	const struct known_inode *inode = subject->inode;
	uint32_t expected = inode->is_orphan ? 0 : 1;

	if (inode->kind == KIND_DIRECTORY && !inode->is_orphan)
		return;
	if (inode->nlink != expected)
		inode_damage(subject, "link count is %u, should be %u", inode->nlink, expected);
}

int check_inode(struct check *check, const char *path, const uint8_t *value, uint32_t bytes,
    bool is_orphan, struct known_inode *ret)
{
	struct subject subject = {check, path, ret};
	struct inode_record head;
	uint32_t type;
	int err;

	*ret = (struct known_inode){
	    .kind = KIND_UNKNOWN, .is_orphan = is_orphan, .is_uncertain = true};
	if (inode_value_verify(value, bytes)) {
		report_damage(check, "%s: damaged inode record", path);
		check->is_naming_incomplete = true;
		return 0;
	}
	memcpy(&head, value, sizeof(head));
	type = from_le32(head.mode) & S_IFMT;
	*ret = (struct known_inode){
	    .ino = from_le64(head.ino),
	    .size = from_le64(head.size),
	    .blocks = from_le64(head.blocks),
	    .claimed = from_le32(head.claimed),
	    .nlink = from_le32(head.nlink),
	    .reach = from_le32(head.reach),
	    .kind = type == S_IFDIR ? KIND_DIRECTORY : type == S_IFREG ? KIND_FILE : KIND_OTHER,
	    .flags = head.flags,
	    .is_orphan = is_orphan,
	};
	count_inode(check, ret, type);
	err = check_number(&subject);
	check_links(&subject);
	if (!err && type == S_IFREG)
		err = check_file(&subject, &head, value + sizeof(head));
	else if (ret->blocks || ret->claimed || ret->flags)
		inode_damage(&subject, "has blocks of data or marks that only files have");
	if (type == S_IFLNK && ret->size > FS_SYMLINK_MAX)
		inode_damage(&subject, "target of %llu bytes is too long", (ull)ret->size);
	return err;
}
