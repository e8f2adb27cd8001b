/*
 * Pages of a map: in memory, loaded, printed.
 *
 *                      root              nodes[2][0]
 *            +----------+----------+
 *         middle 0   middle 1    ...     nodes[1][0..253]
 *        +---+---+
 *     leaf 0  leaf 1 ... leaf 253        nodes[0][0..64515]
 *     0..253  254..507                   entries
 *
 * The parent of page n is page n / 254 of the next level, so three flat tables of
 * pointers are the whole tree.  The tables are as long as the map could become;
 * what of them was never touched costs no memory.
 *
 * Life of a page over a checkpoint ("is_" left out):
 *
 *    clean --change--> dirty --freeze--> dirty --move--> dirty, moved --thaw--> clean
 *                                          |                            |
 *                                          +-- live change: image kept -+--> dirty
 *
 * Invariants
 *  1. A page that exists has a parent that exists, up to the root.
 *  2. Not dirty: the image is what lies at `block`, or all zeros if that is 0.
 *  3. No bytes of `block` are touched by this module: a page moves.
 *  4. image is not NULL only while the map is frozen.
 *
 * What is read is believed only after checksum (seeded with the volume and the
 * block number), magic, kind, level and first index agree, the parent's copy of
 * the checksum is the same, and every pointer leads to a block that may hold a
 * page.  So a page of another time, place or volume does not pass.
 */
#include "config.h"

#include "space/page_map.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/checksum.h"
#include "base/cleanup.h"
#include "base/log.h"

#define LOAD_PAGES 256u /* in one batch of reads */

_Static_assert(sizeof(union map_entries) == BLOCK_BYTES - 32, "entries fill a page");

bool layout_has_run(const struct space_layout *layout, uint64_t block, uint64_t count)
{
	uint64_t blocks = layout->frame_count * FRAME_BLOCKS;
	uint64_t journal = layout->journal_first * FRAME_BLOCKS;
	uint64_t journal_end = journal + layout->journal_frames * FRAME_BLOCKS;

	if (count == 0 || block < FRAME_BLOCKS || block >= blocks || count > blocks - block)
		return false;
	return block >= journal_end || block + count <= journal;
}

static const char *map_name(const struct page_map *map)
{
	return map->kind == MAP_SPACE ? "space map" : "manifest";
}

static const char *level_name(unsigned level)
{
	static const char *const names[MAP_LEVELS] = {"leaf", "middle", "root"};

	return names[level];
}

int page_map_init(struct page_map *map, enum map_kind kind,
    const struct space_layout *layout, uint64_t entry_count)
{
	uint64_t end = entry_count;

	*map = (struct page_map){
	    .kind = kind,
	    .layout = layout,
	    .entry_count = entry_count,
	};
	ASSERT(entry_count > 0 && entry_count <= MAP_ENTRIES_MAX);
	for (unsigned level = 0; level < MAP_LEVELS; level++) {
		end = div_up(end, MAP_PAGE_ENTRIES);
		map->end[level] = (uint32_t)end;
		map->nodes[level] = calloc(end, sizeof(map->nodes[level][0]));
		if (!map->nodes[level])
			return -ENOMEM;
	}
	ASSERT(map->end[MAP_ROOT] == 1);
	return 0;
}

static void free_node(struct page_map *map, struct map_node *node)
{
	map->nodes[node->level][node->number] = NULL;
	map->node_count--;
	free(node->entries);
	free(node->image);
	free(node);
}

void page_map_fini(struct page_map *map)
{
	for (unsigned level = 0; level < MAP_LEVELS; level++) {
		uint32_t end = level == MAP_LEAF ? map->existing_end : map->end[level];

		for (uint32_t i = 0; i < end && map->nodes[level]; i++) {
			if (map->nodes[level][i])
				free_node(map, map->nodes[level][i]);
		}
		free(map->nodes[level]);
	}
	*map = (struct page_map){};
}

static struct map_node *make_node(struct page_map *map, unsigned level, uint32_t number)
{
	struct map_node *node = calloc(1, sizeof(*node));

	if (!node)
		return NULL;
	node->level = (uint8_t)level;
	node->number = number;
	if (level == MAP_LEAF) {
		node->entries = calloc(1, sizeof(*node->entries));
		if (!node->entries) {
			free(node);
			return NULL;
		}
		map->existing_end = max_of(map->existing_end, number + 1);
	}
	map->nodes[level][number] = node;
	map->node_count++;
	return node;
}

struct map_node *page_map_make_leaf(struct page_map *map, uint32_t number)
{
	uint32_t numbers[MAP_LEVELS] = {
	    number,
	    number / MAP_PAGE_ENTRIES,
	    number / MAP_PAGE_ENTRIES / MAP_PAGE_ENTRIES,
	};

	ASSERT(number < map->end[MAP_LEAF]);
	for (unsigned level = MAP_LEVELS; level-- > 0;) {
		if (!map->nodes[level][numbers[level]] &&
		    !make_node(map, level, numbers[level]))
			return NULL;
	}
	return map->nodes[MAP_LEAF][number];
}

void page_map_drop_leaf(struct page_map *map, struct map_node *leaf)
{
	ASSERT(leaf->level == MAP_LEAF && leaf->block == 0 && !leaf->is_dirty);
	ASSERT(!map->is_frozen);
	free_node(map, leaf);
}

int page_map_prepare(struct page_map *map, struct map_node *leaf)
{
	if (!map->is_frozen || leaf->image)
		return 0;
	leaf->image = malloc(sizeof(*leaf->image));
	if (!leaf->image)
		return -ENOMEM;
	*leaf->image = *leaf->entries;
	return 0;
}

void page_map_mark(struct page_map *map, struct map_node *leaf)
{
	ASSERT(!map->is_frozen || leaf->image);
	if (!map->is_frozen)
		leaf->is_dirty = true;
}

struct map_node *page_map_parent(const struct page_map *map, const struct map_node *node)
{
	if (node->level == MAP_ROOT)
		return NULL;
	return map->nodes[node->level + 1][node->number / MAP_PAGE_ENTRIES];
}

/* Where the page will be found by the image's reader. */
static uint64_t place_of(const struct map_node *node)
{
	return node->is_moved ? node->next_block : node->block;
}

static uint32_t checksum_of(const struct map_node *node)
{
	return node->is_moved ? node->next_checksum : node->checksum;
}

/* Child @i of a middle or root page, or NULL. */
static struct map_node *child_of(
    const struct page_map *map, const struct map_node *node, unsigned i)
{
	uint32_t number = node->number * MAP_PAGE_ENTRIES + i;

	return number < map->end[node->level - 1] ? map->nodes[node->level - 1][number] : NULL;
}

bool page_map_is_empty(const struct page_map *map, const struct map_node *node)
{
	static const union map_entries zeros;

	if (node->level == MAP_LEAF)
		return memcmp(map_image(node), &zeros, sizeof(zeros)) == 0;
	for (unsigned i = 0; i < MAP_PAGE_ENTRIES; i++) {
		struct map_node *child = child_of(map, node, i);

		if (child && place_of(child) != 0)
			return false;
	}
	return true;
}

/* ---- printing ----------------------------------------------------------- */

static uint64_t first_index_of(unsigned level, uint32_t number)
{
	uint64_t index = (uint64_t)number * MAP_PAGE_ENTRIES;

	for (unsigned i = 0; i < level; i++)
		index *= MAP_PAGE_ENTRIES;
	return index;
}

static uint32_t page_checksum(
    const struct page_map *map, const struct map_page *page, uint64_t block)
{
	return checksum32((const char *)page + sizeof(page->checksum),
	    sizeof(*page) - sizeof(page->checksum), map->layout->seed ^ block);
}

static struct map_pointer pointer_to(const struct map_node *node)
{
	if (!node || place_of(node) == 0)
		return (struct map_pointer){};
	return (struct map_pointer){
	    .block = to_le64(place_of(node)),
	    .checksum = to_le32(checksum_of(node)),
	};
}

void page_map_print(const struct page_map *map, struct map_node *node,
    uint64_t generation, struct map_page *ret)
{
	ASSERT(node->is_moved && node->next_block != 0);
	*ret = (struct map_page){
	    .magic = to_le32(MAP_PAGE_MAGIC),
	    .kind = (uint8_t)map->kind,
	    .level = node->level,
	    .first_index = to_le64(first_index_of(node->level, node->number)),
	    .generation = to_le64(generation),
	};
	if (node->level == MAP_LEAF) {
		memcpy(ret->space, map_image(node), sizeof(union map_entries));
	} else {
		for (unsigned i = 0; i < MAP_PAGE_ENTRIES; i++)
			ret->pointers[i] = pointer_to(child_of(map, node, i));
	}
	node->next_checksum = page_checksum(map, ret, node->next_block);
	ret->checksum = to_le32(node->next_checksum);
}

void page_map_root(const struct page_map *map, struct map_root *ret)
{
	struct map_pointer pointer = pointer_to(map->nodes[MAP_ROOT][0]);

	*ret = (struct map_root){
	    .block = pointer.block,
	    .checksum = pointer.checksum,
	};
}

/* ---- freeze and thaw ---------------------------------------------------- */

void page_map_freeze(struct page_map *map)
{
	ASSERT(!map->is_frozen);
	map->is_frozen = true;
}

static void thaw_node(struct map_node *node, bool is_durable)
{
	if (node->is_moved && is_durable) {
		node->block = node->next_block;
		node->checksum = node->next_checksum;
		node->is_dirty = false;
	}
	node->is_moved = false;
	node->next_block = 0;
	if (node->image) {
		free(node->image);
		node->image = NULL;
		node->is_dirty = true;
	}
}

void page_map_thaw(struct page_map *map, bool is_durable)
{
	ASSERT(map->is_frozen);
	map->is_frozen = false;
	for (unsigned level = 0; level < MAP_LEVELS; level++) {
		uint32_t end = level == MAP_LEAF ? map->existing_end : map->end[level];

		for (uint32_t i = 0; i < end; i++) {
			if (map->nodes[level][i])
				thaw_node(map->nodes[level][i], is_durable);
		}
	}
}

/* ---- loading ------------------------------------------------------------- */

/* The pages of one level, to be read in the order in which they lie on disk. */
struct load_list {
	struct map_node **nodes;
	uint32_t count;
};

static int damaged(const struct page_map *map, const struct map_node *node, const char *what)
{
	log_error("%s: %s page %u at block %llu: %s", map_name(map),
	    level_name(node->level), node->number, (unsigned long long)node->block, what);
	return -EUCLEAN;
}

static int verify_page(const struct page_map *map, const struct map_node *node,
    const struct map_page *page)
{
	if (from_le32(page->checksum) != page_checksum(map, page, node->block))
		return damaged(map, node, "checksum does not match");
	if (from_le32(page->checksum) != node->checksum)
		return damaged(map, node, "not the version that its parent names");
	if (from_le32(page->magic) != MAP_PAGE_MAGIC || page->kind != map->kind)
		return damaged(map, node, "not a page of this map");
	if (page->level != node->level ||
	    from_le64(page->first_index) != first_index_of(node->level, node->number))
		return damaged(map, node, "a page of another place in the map");
	return 0;
}

static int adopt_pointers(struct page_map *map, const struct map_node *node,
    const struct map_page *page)
{
	unsigned level = node->level - 1u;

	for (unsigned i = 0; i < MAP_PAGE_ENTRIES; i++) {
		uint64_t block = from_le64(page->pointers[i].block);
		uint32_t number = node->number * MAP_PAGE_ENTRIES + i;
		struct map_node *child;

		if (block == 0)
			continue;
		if (number >= map->end[level] || !layout_has_run(map->layout, block, 1))
			return damaged(map, node, "points outside the volume");
		child = make_node(map, level, number);
		if (!child)
			return -ENOMEM;
		child->block = block;
		child->checksum = from_le32(page->pointers[i].checksum);
	}
	return 0;
}

static int adopt_page(struct page_map *map, struct map_node *node, const struct map_page *page)
{
	int err = verify_page(map, node, page);

	if (err)
		return err;
	if (node->level > MAP_LEAF)
		return adopt_pointers(map, node, page);
	memcpy(node->entries, page->space, sizeof(*node->entries));
	return 0;
}

/* Reads @count pages into @pages; neighbours on disk come with one request. */
static int read_pages(struct page_map *map, struct device *device,
    struct map_node **nodes, uint32_t count, struct map_page *pages)
{
	struct device_request requests[LOAD_PAGES];
	struct device_batch batch;
	uint32_t request_count = 0;
	int err;

	for (uint32_t i = 0; i < count; i++) {
		if (i > 0 && nodes[i]->block == nodes[i - 1]->block + 1) {
			requests[request_count - 1].bytes += BLOCK_BYTES;
			continue;
		}
		requests[request_count++] = (struct device_request){
		    .op = DEVICE_READ,
		    .slot = DEVICE_NO_SLOT,
		    .data = &pages[i],
		    .bytes = BLOCK_BYTES,
		    .offset = nodes[i]->block * BLOCK_BYTES,
		};
	}
	device_batch_init(&batch);
	device_submit(device, &batch, requests, request_count);
	err = device_wait(device, &batch);
	if (err)
		log_error("%s: reading %u %s pages near block %llu: %s",
		    map_name(map), count, level_name(nodes[0]->level),
		    (unsigned long long)nodes[0]->block, strerror(-err));
	return err;
}

static int compare_blocks(const void *a, const void *b)
{
	const struct map_node *left = *(struct map_node *const *)a;
	const struct map_node *right = *(struct map_node *const *)b;

	return (left->block > right->block) - (left->block < right->block);
}

/* All pages of a level that the level above has named, in the order of blocks. */
static int list_level(struct page_map *map, unsigned level, struct load_list *ret)
{
	uint32_t end = level == MAP_LEAF ? map->existing_end : map->end[level];

	ret->count = 0;
	ret->nodes = malloc((end + 1) * sizeof(ret->nodes[0]));
	if (!ret->nodes)
		return -ENOMEM;
	for (uint32_t i = 0; i < end; i++) {
		if (map->nodes[level][i])
			ret->nodes[ret->count++] = map->nodes[level][i];
	}
	qsort(ret->nodes, ret->count, sizeof(ret->nodes[0]), compare_blocks);
	return 0;
}

static int load_level(struct page_map *map, struct device *device,
    const struct load_list *list, struct map_page *pages)
{
	for (uint32_t first = 0; first < list->count; first += LOAD_PAGES) {
		uint32_t count = min_of(list->count - first, LOAD_PAGES);
		int err = read_pages(map, device, &list->nodes[first], count, pages);

		for (uint32_t i = 0; i < count && !err; i++)
			err = adopt_page(map, list->nodes[first + i], &pages[i]);
		if (err)
			return err;
	}
	return 0;
}

int page_map_load(struct page_map *map, struct device *device, const struct map_root *root)
{
	cleanup_free struct map_page *pages = NULL;
	struct map_node *node;
	int err = 0;

	if (from_le64(root->block) == 0)
		return 0;
	node = make_node(map, MAP_ROOT, 0);
	pages = aligned_alloc(DEVICE_ALIGN, LOAD_PAGES * sizeof(*pages));
	if (!node || !pages)
		return -ENOMEM;
	node->block = from_le64(root->block);
	node->checksum = from_le32(root->checksum);
	if (!layout_has_run(map->layout, node->block, 1))
		return damaged(map, node, "outside the volume");
	for (unsigned level = MAP_LEVELS; level-- > 0 && !err;) {
		struct load_list list;

		err = list_level(map, level, &list);
		if (!err)
			err = load_level(map, device, &list, pages);
		free(list.nodes);
	}
	return err;
}
