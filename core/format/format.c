/*
 * Sizes and offsets of the format, asserted, and the superblock's own checks.
 */
#include "config.h"

#include "format/format.h"

#include "base/checksum.h"

#define AT(type, member, offset)                                               \
	_Static_assert(offsetof(type, member) == (offset),                     \
	    #type "." #member " moved")
#define SIZE(type, bytes)                                                      \
	_Static_assert(sizeof(type) == (bytes), #type " changed size")

SIZE(struct superblock, BLOCK_BYTES);
AT(struct superblock, checksum, 8);
AT(struct superblock, version, 12);
AT(struct superblock, uuid, 40);
AT(struct superblock, label, 56);
AT(struct superblock, frame_count, 120);
AT(struct superblock, generation, 144);
AT(struct superblock, checkpoint_lsn, 152);
AT(struct superblock, flags, 168);
AT(struct superblock, manifest, 192);
AT(struct superblock, space, 208);
AT(struct superblock, user_root, 224);
AT(struct superblock, frame_id_end, 240);
AT(struct superblock, replay_pieces, 248);
AT(struct superblock, empty_frames, 256);
AT(struct superblock, reserved, 264);

_Static_assert(VOLUME_BYTES_MAX == MAP_ENTRIES_MAX * FRAME_BYTES,
    "the maps and the volume's limit disagree");

SIZE(struct map_root, 16);
SIZE(struct map_pointer, 16);
SIZE(struct manifest_entry, 16);
SIZE(struct space_entry, 16);
SIZE(struct map_page, BLOCK_BYTES);
AT(struct map_page, first_index, 16);
AT(struct map_page, pointers, 32);

SIZE(struct frame_header, FRAME_HEADER_BYTES);
AT(struct frame_header, used_blocks, 24);
AT(struct frame_header, root, 40);
AT(struct frame_header, laid_end, 44);
AT(struct frame_header, free_heads, 48);
AT(struct frame_header, block_checksums, 1024);

SIZE(struct journal_record, 24);
AT(struct journal_record, lsn, 8);
AT(struct journal_record, type, 16);

const uint8_t superblock_magic[8] = {'h', 'o', 'l', 't', 'f', 's', '\r', '\n'};

static uint32_t superblock_checksum(const struct superblock *sb)
{
	struct superblock copy = *sb;

	copy.checksum = to_le32(0);
	return checksum32(&copy, sizeof(copy), 0);
}

void superblock_seal(struct superblock *sb)
{
	sb->checksum = to_le32(superblock_checksum(sb));
}

/* Frame ids index the manifest; the trees have a root each, the internal one perhaps none. */
static bool roots_are_sane(const struct superblock *sb)
{
	uint64_t end = from_le64(sb->frame_id_end), user = from_le64(sb->user_root);

	return end <= MAP_ENTRIES_MAX && user < end && from_le64(sb->internal_root) < end &&
	       user != from_le64(sb->internal_root);
}

static bool fields_are_sane(const struct superblock *sb, uint64_t volume_bytes)
{
	uint64_t frames = from_le64(sb->frame_count);
	uint64_t first = from_le64(sb->journal_first_frame);
	uint64_t count = from_le64(sb->journal_frames);

	if (frames < 4 || frames > MAP_ENTRIES_MAX)
		return false;
	if (volume_bytes && frames > volume_bytes / FRAME_BYTES)
		return false;
	if (first == 0 || count == 0 || first >= frames || count >= frames - first)
		return false;
	return is_aligned(from_le64(sb->checkpoint_lsn), JOURNAL_ALIGN) &&
	       from_le64(sb->checkpoint_lsn) <= LSN_MAX && roots_are_sane(sb) &&
	       from_le64(sb->manifest.block) < frames * FRAME_BLOCKS &&
	       from_le64(sb->space.block) < frames * FRAME_BLOCKS;
}

enum superblock_verdict superblock_verify(const struct superblock *sb, uint64_t volume_bytes)
{
	if (memcmp(sb->magic, superblock_magic, sizeof(sb->magic)) != 0)
		return SUPERBLOCK_NOT_OURS;
	if (from_le32(sb->checksum) != superblock_checksum(sb))
		return SUPERBLOCK_DAMAGED;
	if (from_le32(sb->version) != FORMAT_VERSION)
		return SUPERBLOCK_BAD_VERSION;
	if (from_le64(sb->incompat) & ~FEATURES_INCOMPAT_KNOWN)
		return SUPERBLOCK_UNKNOWN_INCOMPAT;
	if (!fields_are_sane(sb, volume_bytes))
		return SUPERBLOCK_DAMAGED;
	if (from_le64(sb->ro_compat) & ~FEATURES_RO_COMPAT_KNOWN)
		return SUPERBLOCK_UNKNOWN_RO_COMPAT;
	return SUPERBLOCK_GOOD;
}

const char *superblock_verdict_text(enum superblock_verdict verdict)
{
	switch (verdict) {
	case SUPERBLOCK_NOT_OURS:
		return "not a holtfs superblock";
	case SUPERBLOCK_DAMAGED:
		return "damaged, or the volume is shorter than it was";
	case SUPERBLOCK_BAD_VERSION:
		return "of another format version";
	case SUPERBLOCK_UNKNOWN_INCOMPAT:
		return "uses features this version does not know";
	case SUPERBLOCK_UNKNOWN_RO_COMPAT:
		return "uses features this version can only read";
	case SUPERBLOCK_GOOD:
		break;
	}
	return NULL;
}

uint64_t uuid_seed(const uint8_t uuid[UUID_BYTES])
{
	return checksum64(uuid, UUID_BYTES, 0);
}
