/*
 * Coding and checking of the file layer's values.
 *
 * A span record lists its extents, then the checksums of their blocks in the same
 * order:
 *
 *	| head 8 | extent 16 | extent 16 | ... | le32 | le32 | le32 | ...
 *	           first,count,block             one per block with a place
 *
 * Nothing here trusts a length or number that it has not compared with the bytes
 * there are: the bytes come from a disk.
 */
#include "config.h"

#include "format/fs_format.h"

#include <errno.h>
#include <sys/stat.h>

#define AT(type, field, offset)                                                \
	_Static_assert(offsetof(type, field) == (offset), #type "." #field)
#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)

AT(struct inode_record, flags, 1);
AT(struct inode_record, body_bytes, 2);
AT(struct inode_record, mode, 4);
AT(struct inode_record, ino, 8);
AT(struct inode_record, nlink, 16);
AT(struct inode_record, uid, 20);
AT(struct inode_record, gid, 24);
AT(struct inode_record, reach, 28);
AT(struct inode_record, rdev, 32);
AT(struct inode_record, size, 40);
AT(struct inode_record, blocks, 48);
AT(struct inode_record, seconds, 56);
AT(struct inode_record, nanoseconds, 88);
AT(struct inode_record, claimed, 104);
AT(struct inode_record, reserved, 108);
SIZE(struct inode_record, 112);

AT(struct extent, count, 2);
AT(struct extent, reserved, 4);
AT(struct extent, block, 8);
SIZE(struct extent, 16);

AT(struct span_record, block_count, 2);
AT(struct span_record, reserved, 4);
SIZE(struct span_record, 8);

_Static_assert(SPAN_RECORD_MAX <= INODE_BODY_MAX, "span 0 fits an inode record");
_Static_assert(INODE_INLINE_MAX <= INODE_BODY_MAX, "inline data fits");

static bool body_fits_type(const struct inode_record *head)
{
	switch (from_le32(head->mode) & S_IFMT) {
	case S_IFREG:
		return head->body == INODE_BODY_INLINE || head->body == INODE_BODY_SPAN;
	case S_IFLNK:
		return head->body == INODE_BODY_INLINE &&
		    from_le16(head->body_bytes) == from_le64(head->size) &&
		    from_le16(head->body_bytes) > 0;
	case S_IFDIR:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return head->body == INODE_BODY_NONE &&
		    from_le16(head->body_bytes) == 0;
	default:
		return false;
	}
}

int inode_value_verify(const void *bytes, uint32_t count)
{
	struct inode_record head;
	struct span_map map;

	if (count < sizeof(head) || count > INODE_RECORD_MAX)
		return -EUCLEAN;
	memcpy(&head, bytes, sizeof(head));
	if (from_le16(head.body_bytes) != count - sizeof(head) ||
	    from_le64(head.ino) == 0 || (head.flags & ~INODE_FLAGS_KNOWN) ||
	    !body_fits_type(&head))
		return -EUCLEAN;
	for (unsigned i = 0; i < INODE_TIMES; i++)
		if (from_le32(head.nanoseconds[i]) >= 1000000000)
			return -EUCLEAN;
	if (head.body == INODE_BODY_INLINE &&
	    from_le16(head.body_bytes) > from_le64(head.size))
		return -EUCLEAN;
	if (head.body == INODE_BODY_SPAN && count > sizeof(head))
		return span_decode((const uint8_t *)bytes + sizeof(head),
		    count - (uint32_t)sizeof(head), &map);
	return 0;
}

uint32_t span_run(const struct span_map *map, uint32_t first)
{
	bool has_place = span_has_place(map, first);
	uint32_t n = 1;

	while (first + n < SPAN_BLOCKS &&
	    map->block[first + n] == map->block[first] + (has_place ? n : 0))
		n++;
	return n;
}

uint32_t span_encode(const struct span_map *map, void *to)
{
	struct span_record head = {0};
	uint8_t *at = (uint8_t *)to + sizeof(head);
	uint32_t extents = 0, blocks = 0;

	for (uint32_t i = 0, n; i < SPAN_BLOCKS; i += n) {
		struct extent extent = {.first = to_le16((uint16_t)i)};

		n = span_run(map, i);
		if (span_is_hole(map, i))
			continue;
		extent.count = to_le16((uint16_t)n);
		if (span_has_place(map, i)) {
			extent.block = to_le64(map->block[i]);
			blocks += n;
		}
		memcpy(at, &extent, sizeof(extent));
		at += sizeof(extent);
		extents++;
	}
	if (extents == 0)
		return 0;
	for (uint32_t i = 0; i < SPAN_BLOCKS; i++) {
		le32 checksum = to_le32(map->checksum[i]);

		if (!span_has_place(map, i))
			continue;
		memcpy(at, &checksum, sizeof(checksum));
		at += sizeof(checksum);
	}
	head.extent_count = to_le16((uint16_t)extents);
	head.block_count = to_le16((uint16_t)blocks);
	memcpy(to, &head, sizeof(head));
	return (uint32_t)(at - (uint8_t *)to);
}

/* Extents lie in order, apart, inside the span. */
static int decode_extents(const uint8_t *at, uint32_t extents, struct span_map *map,
    uint32_t *ret_blocks)
{
	uint32_t next = 0, blocks = 0;

	for (uint32_t e = 0; e < extents; e++) {
		struct extent extent;
		uint32_t first, count;
		uint64_t block;

		memcpy(&extent, at + e * sizeof(extent), sizeof(extent));
		first = from_le16(extent.first);
		count = from_le16(extent.count);
		block = from_le64(extent.block);
		if (first < next || count == 0 || first + count > SPAN_BLOCKS ||
		    block > UINT64_MAX / BLOCK_BYTES - count)
			return -EUCLEAN;
		for (uint32_t i = 0; i < count; i++)
			map->block[first + i] = block ? block + i : SPAN_CLAIMED;
		next = first + count;
		blocks += block ? count : 0;
	}
	*ret_blocks = blocks;
	return 0;
}

int span_decode(const void *bytes, uint32_t count, struct span_map *ret)
{
	const uint8_t *at = bytes;
	struct span_record head;
	uint32_t extents, blocks = 0;
	int err;

	if (count < sizeof(head))
		return -EUCLEAN;
	memcpy(&head, at, sizeof(head));
	extents = from_le16(head.extent_count);
	if (extents == 0 || extents > SPAN_BLOCKS ||
	    from_le16(head.block_count) > SPAN_BLOCKS ||
	    count != sizeof(head) + extents * sizeof(struct extent) +
		    from_le16(head.block_count) * sizeof(le32))
		return -EUCLEAN;
	memset(ret, 0, sizeof(*ret));
	err = decode_extents(at + sizeof(head), extents, ret, &blocks);
	if (err < 0 || blocks != from_le16(head.block_count))
		return -EUCLEAN;
	at += sizeof(head) + extents * sizeof(struct extent);
	for (uint32_t i = 0; i < SPAN_BLOCKS; i++) {
		le32 checksum;

		if (!span_has_place(ret, i))
			continue;
		memcpy(&checksum, at, sizeof(checksum));
		at += sizeof(checksum);
		ret->checksum[i] = from_le32(checksum);
	}
	return 0;
}
