/*
 * The pages of manifest and space map, each for itself.
 *
 * The store believes its maps only as a whole: one bad page and it does not open.  So
 * the pages are looked at before, and each bad one is named.  Two maps are trees of
 * three levels (format.h); a page is good when its checksum, seeded with the volume
 * and its block, matches what it says and what its parent says of it.
 */
#include "config.h"

#include "check/check_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"

#define LEVELS 3u
#define LEVEL_ROOT 2u

struct map_walk {
	struct check *check;
	enum map_kind kind;
	const char *name;
	struct map_page *pages; /* one a level */
};

static bool is_in_volume(const struct superblock *superblock, uint64_t block)
{
	uint64_t frame = block / FRAME_BLOCKS;
	uint64_t journal = from_le64(superblock->journal_first_frame);

	return frame > 0 && frame < from_le64(superblock->frame_count) &&
	       (frame < journal || frame >= journal + from_le64(superblock->journal_frames));
}

static const char *page_fault(const struct map_walk *walk, const struct map_page *page,
    uint64_t block, uint32_t checksum, unsigned level, uint64_t first_index)
{
	uint32_t actual = checksum32((const char *)page + sizeof(page->checksum),
	    sizeof(*page) - sizeof(page->checksum), walk->check->seed ^ block);

	if (from_le32(page->checksum) != actual)
		return "checksum does not match";
	if (actual != checksum)
		return "not the version that is named";
	if (from_le32(page->magic) != MAP_PAGE_MAGIC || page->kind != walk->kind ||
	    page->level != level || from_le64(page->first_index) != first_index)
		return "a page of another place";
	return NULL;
}

/* Reads a page into the level's place; false: it is bad, and that was reported. */
static bool read_page(struct map_walk *walk, const struct map_pointer *pointer, unsigned level,
    uint64_t first_index)
{
	static const char *const levels[LEVELS] = {"leaf", "middle", "root"};
	struct check *check = walk->check;
	uint64_t block = from_le64(pointer->block);
	const char *fault;
	int err;

	if (!is_in_volume(&check->superblock, block)) {
		fault = "lies outside the volume";
	} else {
		err = device_read(check->device, &walk->pages[level], BLOCK_BYTES, block * BLOCK_BYTES);
		fault = err ? strerror(-err) :
			      page_fault(walk, &walk->pages[level], block,
				  from_le32(pointer->checksum), level, first_index);
	}
	if (fault)
		report_damage(check, "%s: %s page of entries from %llu on, at block %llu: %s",
		    walk->name, levels[level], (ull)first_index, (ull)block, fault);
	return !fault;
}

static void walk_middle(struct map_walk *walk, uint64_t first_index)
{
	for (unsigned i = 0; i < MAP_PAGE_ENTRIES; i++) {
		const struct map_pointer *pointer = &walk->pages[1].pointers[i];

		if (from_le64(pointer->block))
			read_page(walk, pointer, 0, first_index + i * MAP_PAGE_ENTRIES);
	}
}

static void walk_map(struct map_walk *walk, const struct map_root *root)
{
	const uint64_t step = MAP_PAGE_ENTRIES * MAP_PAGE_ENTRIES;
	struct map_pointer top = {.block = root->block, .checksum = root->checksum};

	if (from_le64(top.block) == 0 || !read_page(walk, &top, LEVEL_ROOT, 0))
		return;
	for (unsigned i = 0; i < MAP_PAGE_ENTRIES; i++) {
		const struct map_pointer *pointer = &walk->pages[LEVEL_ROOT].pointers[i];

		if (from_le64(pointer->block) && read_page(walk, pointer, 1, i * step))
			walk_middle(walk, i * step);
	}
}

int check_maps(struct check *check)
{
	struct map_walk walk = {.check = check};

	walk.pages = aligned_alloc(BLOCK_BYTES, LEVELS * BLOCK_BYTES);
	if (!walk.pages)
		return -ENOMEM;
	walk.kind = MAP_MANIFEST;
	walk.name = "manifest";
	walk_map(&walk, &check->superblock.manifest);
	walk.kind = MAP_SPACE;
	walk.name = "space map";
	walk_map(&walk, &check->superblock.space);
	free(walk.pages);
	return 0;
}
