/*
 * The way from the root to the present key, as a stack of levels, and what is held
 * against a record once everything below its inode has been seen.
 *
 * A directory's level remembers those of its entries that keys may follow for.  When it
 * ends, what no keys came for is finished as empty.  Children come in the order of
 * their contents prefixes, name "/", which is not that of the names: "a.b/" < "a/".
 *
 * Invariant: the path holds C(lowest level) at least; higher levels are shorter prefixes
 * of it, so the path of a level that ends is still there.
 */
#include "config.h"

#include "check/check_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* So that places in names fit in 32 bits. */
#define CHILDREN_MAX (UINT32_MAX / 512)

/* ---- the end of things ---------------------------------------------------------------- */

int path_set(struct files *files, uint32_t keep, const void *bytes, uint32_t count)
{
	if (keep + count > files->path_size) {
		uint32_t size = max_of(files->path_size * 2, keep + count + 256);
		uint8_t *grown = realloc(files->path, size);

		if (!grown)
			return -ENOMEM;
		files->path = grown;
		files->path_size = size;
	}
	if (count)
		memcpy(files->path + keep, bytes, count);
	return 0;
}

/* All keys below an inode have been seen; the path begins with C(it). */
static int finish_inode(struct check *check, const struct level *level)
{
	struct files *files = check->files;
	const struct known_inode *inode = &level->inode;
	char text[PATH_TEXT];
	int err = path_set(files, level->prefix_bytes, "", 1);

	/* Entries, or spans, that could not be read. */
	if (err || is_in_gap(check, files->path, level->prefix_bytes + 1))
		return err;
	describe_key(files->path, level->prefix_bytes, text);
	if (inode->kind == KIND_FILE)
		check_blocks(check, text, inode);
	if (inode->kind != KIND_DIRECTORY || inode->is_uncertain)
		return 0;
	if (inode->size != level->entries)
		report_damage(check, "%s (inode %llu): counts %llu entries, has %llu", text,
		    (ull)inode->ino, (ull)inode->size, (ull)level->entries);
	if (inode->nlink != 2 + level->subdirectories && !inode->is_orphan)
		report_damage(check, "%s (inode %llu): link count is %u, should be %llu", text,
		    (ull)inode->ino, inode->nlink, (ull)(2 + level->subdirectories));
	if (level->name_bytes && level->need > (uint64_t)inode->reach * REACH_UNIT)
		report_damage(check, "%s (inode %llu): keys below it go further than its record says",
		    text, (ull)inode->ino);
	return 0;
}

/* Nothing came for the child: it has nothing below it. */
static int finish_child(struct check *check, const struct level *parent, const struct child *child)
{
	struct files *files = check->files;
	uint32_t at = parent->prefix_bytes;
	struct level level = {
	    .prefix_bytes = at + child->name_bytes + 1u,
	    .name_bytes = child->name_bytes,
	    .inode = child->inode,
	};
	int err = path_set(files, at, parent->names + child->name, child->name_bytes);

	if (!err)
		err = path_set(files, at + child->name_bytes, "/", 1);
	return err ? err : finish_inode(check, &level);
}

void level_free(struct level *level)
{
	free(level->children);
	free(level->names);
}

static int levels_pop(struct check *check)
{
	struct files *files = check->files;
	struct level *level = &files->levels[--files->level_count];
	int err = 0;

	if (!level->is_passed_over)
		err = finish_inode(check, level);
	for (uint32_t i = 0; i < level->child_count && !err; i++)
		if (!level->children[i].is_visited)
			err = finish_child(check, level, &level->children[i]);
	if (level->name_bytes && files->level_count) {
		struct level *parent = &files->levels[files->level_count - 1];

		parent->need = max_of(parent->need, level->name_bytes + 1 + level->need);
	}
	level_free(level);
	return err;
}

/* ---- the beginning ---------------------------------------------------------------------- */

int levels_push(struct check *check, const struct level *level)
{
	struct files *files = check->files;

	if (files->level_count == files->level_size) {
		uint32_t size = max_of(files->level_size * 2, 64u);
		struct level *grown = realloc(files->levels, size * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		files->levels = grown;
		files->level_size = size;
	}
	files->levels[files->level_count++] = *level;
	return 0;
}

/* As contents prefixes compare: name "/". */
static int compare_names(const char *a, uint32_t a_bytes, const char *b, uint32_t b_bytes)
{
	uint32_t common = min_of(a_bytes, b_bytes);
	int order = common ? memcmp(a, b, common) : 0;

	if (order || a_bytes == b_bytes)
		return order;
	if (a_bytes < b_bytes)
		return '/' - (int)(uint8_t)b[common];
	return (int)(uint8_t)a[common] - '/';
}

static int compare_children(const void *a, const void *b, void *ctx)
{
	const struct child *left = a, *right = b;
	const char *names = ctx;

	return compare_names(names + left->name, left->name_bytes, names + right->name,
	    right->name_bytes);
}

struct child *level_find_child(struct level *level, const char *name, uint32_t bytes)
{
	uint32_t low = 0, high = level->child_count;

	if (!level->is_sorted && level->child_count)
		qsort_r(level->children, level->child_count, sizeof(level->children[0]),
		    compare_children, level->names);
	level->is_sorted = true;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		struct child *child = &level->children[middle];
		int order = compare_names(level->names + child->name, child->name_bytes, name, bytes);

		if (order == 0)
			return child;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

int level_remember_child(struct level *level, const uint8_t *name, uint8_t name_bytes,
    const struct known_inode *inode)
{
	if (level->child_count > CHILDREN_MAX)
		return -ENOMEM;
	if (level->child_count == level->child_size) {
		uint32_t size = max_of(level->child_size * 2, 8u);
		struct child *grown = realloc(level->children, size * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		level->children = grown;
		level->child_size = size;
	}
	if (level->names_bytes + name_bytes > level->names_size) {
		uint32_t size = max_of(level->names_size * 2, level->names_bytes + 256u);
		char *grown = realloc(level->names, size);

		if (!grown)
			return -ENOMEM;
		level->names = grown;
		level->names_size = size;
	}
	memcpy(level->names + level->names_bytes, name, name_bytes);
	level->children[level->child_count++] = (struct child){
	    .inode = *inode, .name = level->names_bytes, .name_bytes = name_bytes};
	level->names_bytes += name_bytes;
	level->is_sorted = false;
	return 0;
}

int levels_unwind(struct check *check, const struct key_value *item)
{
	struct files *files = check->files;
	int err = 0;

	while (files->level_count && !err) {
		uint32_t bytes = files->levels[files->level_count - 1].prefix_bytes;

		if (item && item->key_bytes >= bytes && memcmp(item->key, files->path, bytes) == 0)
			break;
		err = levels_pop(check);
	}
	return err;
}
