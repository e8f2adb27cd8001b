/*
 * A persistent array of 16-byte entries in checksummed 4 KiB pages: 254 entries a
 * leaf page, 254 leaves a middle page, 254 middles under the root (format.h).  The
 * space map and the manifest are two of them.
 *
 * All pages that exist are in memory.  A page is rewritten to a fresh block, never
 * in place; who finds that block is up to the caller.
 *
 * Between page_map_freeze() and page_map_thaw() a map has two states: the *live*
 * one, and the *image* that is being saved.  A leaf has one copy of its entries
 * until the first live change after the freeze, then two.  So a freeze costs
 * nothing, whatever the size of the map.
 *
 * Threads: the caller's lock is held in every call but load and print.
 */
#ifndef HOLTFS_SPACE_PAGE_MAP_H
#define HOLTFS_SPACE_PAGE_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "device/device.h"
#include "format/format.h"

#define MAP_LEVELS 3
#define MAP_LEAF 0
#define MAP_ROOT (MAP_LEVELS - 1)

/* Which frames of the volume are nobody's but superblock's and journal's. */
struct space_layout {
	uint64_t frame_count;
	uint64_t journal_first;
	uint64_t journal_frames;
	uint64_t seed; /* uuid_seed() of the volume */
};

/* The run is not empty, on the volume, and clear of superblock and journal. */
bool layout_has_run(const struct space_layout *layout, uint64_t block, uint64_t count);

union map_entries {
	struct manifest_entry manifest[MAP_PAGE_ENTRIES];
	struct space_entry space[MAP_PAGE_ENTRIES];
};

/* A page in memory.  Middle and root pages have no entries of their own: they are
 * put together from their children when printed. */
struct map_node {
	uint64_t block; /* where it was last saved; 0: it was not */
	uint64_t next_block; /* once is_moved: its place in this checkpoint; 0: none */
	uint32_t checksum;
	uint32_t next_checksum;
	uint32_t number; /* among the pages of its level */
	uint8_t level;
	bool is_dirty; /* the image is not what was saved */
	bool is_moved; /* this checkpoint has given up its old place */
	union map_entries *entries; /* leaf: the live state */
	union map_entries *image; /* leaf: the frozen one where it differs, or NULL */
};

struct page_map {
	enum map_kind kind;
	const struct space_layout *layout;
	uint64_t entry_count;
	uint32_t end[MAP_LEVELS]; /* pages that a level can have */
	uint32_t existing_end;	  /* leaves exist below this number only */
	uint64_t node_count;	  /* pages that exist, of all levels */
	struct map_node **nodes[MAP_LEVELS];
	bool is_frozen;
};

int page_map_init(struct page_map *map, enum map_kind kind,
    const struct space_layout *layout, uint64_t entry_count);
void page_map_fini(struct page_map *map); /* also of a zeroed structure */

/* Reads and verifies every page.  -EUCLEAN: logged, with map, page and block. */
int page_map_load(struct page_map *map, struct device *device, const struct map_root *root);

/* The leaf, or NULL: all its entries are zero. */
static inline struct map_node *page_map_leaf(const struct page_map *map, uint64_t number)
{
	return number < map->end[MAP_LEAF] ? map->nodes[MAP_LEAF][number] : NULL;
}

/* The leaf, made with its ancestors if need be; NULL: out of memory. */
struct map_node *page_map_make_leaf(struct page_map *map, uint32_t number);

/* Forgets a leaf whose entries are all zero and that is not on disk. */
void page_map_drop_leaf(struct page_map *map, struct map_node *leaf);

/* Makes @leaf fit for a live change: -ENOMEM.  Then, with the change made, mark. */
int page_map_prepare(struct page_map *map, struct map_node *leaf);
void page_map_mark(struct page_map *map, struct map_node *leaf);

/* What a checkpoint is to save of @leaf. */
static inline union map_entries *map_image(const struct map_node *leaf)
{
	return leaf->image ? leaf->image : leaf->entries;
}

/* NULL for the root. */
struct map_node *page_map_parent(const struct page_map *map, const struct map_node *node);

/* The image of the page is all zeros, so that it needs no block. */
bool page_map_is_empty(const struct page_map *map, const struct map_node *node);

/*
 * The page as it goes to next_block; sets next_checksum.  Children are printed
 * before their parents.
 */
void page_map_print(const struct page_map *map, struct map_node *node,
    uint64_t generation, struct map_page *ret);

/* Of the image, after printing. */
void page_map_root(const struct page_map *map, struct map_root *ret);

void page_map_freeze(struct page_map *map);

/* The new places hold from now on, or are forgotten. */
void page_map_thaw(struct page_map *map, bool is_durable);

#endif
