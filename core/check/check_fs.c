/*
 * Keys of the file layer, in one pass (format/fs_format.h says what they are).
 *
 * Below a directory d come first all its entries, then what lies below each of them:
 *
 *	C(d) NUL a        entry: file a
 *	C(d) NUL b        entry: directory b      remembered as a child
 *	C(d) NUL c        entry: file c           remembered: it has more spans
 *	C(d) b / NUL x    entry x in b            level of b
 *	C(d) b / x / ...
 *	C(d) c / NUL 8    span of c               level of c
 *
 * So a stack of *levels* (check_level.c) is enough, one for each directory (at its end
 * maybe a file) on the way to the present key.  A level remembers those of its entries that keys may
 * follow for, until it ends: memory is bounded by the directories on one path.
 *
 * When a level ends its counts are final and held against the record; children that no
 * keys came for are held against none.
 *
 * What is missing where a frame could not be read is no finding of its own (is_in_gap);
 * what hangs below a damaged or missing entry is passed over.
 */
#include "config.h"

#include "check/check_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs.h"

/* ---- keys ------------------------------------------------------------------------- */

static void bad_key(struct check *check, const uint8_t *key, uint32_t bytes, const char *why)
{
	char text[PATH_TEXT];

	quote_key(key, bytes, text);
	report_damage(check, "%s: %s", text, why);
}

/* ---- entries ------------------------------------------------------------------------------ */

static bool is_good_name(const uint8_t *name, uint32_t bytes)
{
	if (bytes == 0 || bytes > FS_NAME_MAX || memchr(name, '/', bytes) || memchr(name, 0, bytes))
		return false;
	return !(name[0] == '.' && (bytes == 1 || (bytes == 2 && name[1] == '.')));
}

/* May keys follow for it? */
static bool has_more(const struct known_inode *inode)
{
	return inode->kind == KIND_DIRECTORY || inode->kind == KIND_UNKNOWN ||
	       (inode->flags & INODE_HAS_SPANS);
}

static int take_entry(struct check *check, const struct key_value *item, const uint8_t *name,
    uint32_t name_bytes)
{
	struct files *files = check->files;
	struct level *level = &files->levels[files->level_count - 1];
	struct known_inode inode;
	char text[PATH_TEXT];
	int err;

	describe_key(item->key, item->key_bytes, text);
	level->entries++;
	if (!is_good_name(name, name_bytes)) {
		report_damage(check, "%s: an entry's name is none", text);
		check->is_naming_incomplete = true;
		return 0;
	}
	err = check_inode(check, text, item->value, item->value_bytes, false, &inode);
	if (err)
		return err;
	if (inode.kind == KIND_UNKNOWN)
		level->inode.is_uncertain = true; /* a subdirectory, or not */
	level->subdirectories += inode.kind == KIND_DIRECTORY;
	level->need = max_of(level->need, name_bytes + (uint64_t)REACH_BELOW_ENTRY);
	if (has_more(&inode))
		return level_remember_child(level, name, (uint8_t)name_bytes, &inode);
	if (inode.kind == KIND_FILE)
		check_blocks(check, text, &inode);
	return 0;
}

/* ---- below an entry ------------------------------------------------------------------------- */

/* Why are there keys below this name, of which the level knows nothing? */
static int tell_stray(struct check *check, const struct key_value *item, uint32_t contents_bytes,
    uint32_t name_bytes)
{
	uint32_t base = contents_bytes - name_bytes - 1;
	uint8_t *entry = malloc(contents_bytes);
	char text[PATH_TEXT];
	uint32_t ignored;
	int err;

	if (!entry)
		return -ENOMEM;
	memcpy(entry, item->key, base);
	entry[base] = 0;
	memcpy(entry + base + 1, item->key + base, name_bytes);
	check->is_naming_incomplete = true;
	if (!is_in_gap(check, entry, contents_bytes)) {
		err = store_get(check->store, entry, contents_bytes, NULL, 0, &ignored, NULL);
		describe_key(item->key, contents_bytes, text);
		report_damage(check, "%s: %s", text, err == -ENOENT ?
			"something lies below it, but it has no entry" :
			"something lies below it that its inode does not know of");
	}
	free(entry);
	return 0;
}

/* Goes down to the entry whose name begins the rest of the key, up to a '/'. */
static int descend(struct check *check, const struct key_value *item, const uint8_t *slash)
{
	struct files *files = check->files;
	struct level *parent = &files->levels[files->level_count - 1];
	uint32_t base = parent->prefix_bytes;
	uint32_t bytes = (uint32_t)(slash - item->key) + 1;
	uint32_t name_bytes = bytes - base - 1;
	struct child *child = level_find_child(parent, (const char *)item->key + base, name_bytes);
	struct level level = {.prefix_bytes = bytes, .name_bytes = name_bytes};
	int err = path_set(files, base, item->key + base, bytes - base);

	if (err)
		return err;
	if (child) {
		child->is_visited = true;
		level.inode = child->inode;
		level.is_passed_over = child->inode.kind == KIND_UNKNOWN;
	} else {
		level.inode = (struct known_inode){.kind = KIND_UNKNOWN, .is_uncertain = true};
		level.is_passed_over = true;
		err = tell_stray(check, item, bytes, name_bytes);
	}
	return err ? err : levels_push(check, &level);
}

static int take_span(struct check *check, const struct key_value *item, uint32_t at)
{
	struct files *files = check->files;
	struct level *level = &files->levels[files->level_count - 1];
	char text[PATH_TEXT];

	if (item->key_bytes != at + sizeof(uint64_t)) {
		bad_key(check, item->key, item->key_bytes, "not a key of a file's extents");
		check->is_naming_incomplete = true;
		return 0;
	}
	describe_key(item->key, level->prefix_bytes, text);
	return check_span(check, text, &level->inode, be64_load(item->key + at), item->value,
	    item->value_bytes);
}

/* A key that begins with C(lowest level). */
static int take_below(struct check *check, const struct key_value *item)
{
	struct files *files = check->files;

	for (;;) {
		const struct level *level = &files->levels[files->level_count - 1];
		uint32_t at = level->prefix_bytes;
		const uint8_t *slash;
		int err;

		if (level->is_passed_over)
			return 0;
		if (at < item->key_bytes && item->key[at] == 0) {
			if (level->inode.kind == KIND_FILE)
				return take_span(check, item, at + 1);
			return take_entry(check, item, item->key + at + 1, item->key_bytes - at - 1);
		}
		slash = at < item->key_bytes ? memchr(item->key + at, '/', item->key_bytes - at) : NULL;
		if (!slash || level->inode.kind == KIND_FILE ||
		    !is_good_name(item->key + at, (uint32_t)(slash - item->key) - at)) {
			bad_key(check, item->key, item->key_bytes, "a key of no known kind");
			check->is_naming_incomplete = true;
			return 0;
		}
		err = descend(check, item, slash);
		if (err)
			return err;
	}
}

/* ---- the kinds of keys at the top --------------------------------------------------------------- */

/* Begins a level that is no child; its prefix is the first bytes of @key and a "/". */
static int begin_level(struct check *check, const uint8_t *key, uint32_t key_bytes,
    const struct known_inode *inode)
{
	struct files *files = check->files;
	struct level level = {
	    .prefix_bytes = key_bytes + 1,
	    .inode = *inode,
	    .is_passed_over = inode->kind != KIND_DIRECTORY && inode->kind != KIND_FILE,
	};
	int err = path_set(files, 0, key, key_bytes);

	if (!err)
		err = path_set(files, key_bytes, "/", 1);
	return err ? err : levels_push(check, &level);
}

static int take_root(struct check *check, const struct key_value *item)
{
	struct files *files = check->files;
	struct known_inode inode;
	int err = check_inode(check, "/", item->value, item->value_bytes, false, &inode);

	files->has_root = true;
	if (err)
		return err;
	if (inode.kind != KIND_UNKNOWN &&
	    (inode.kind != KIND_DIRECTORY || inode.ino != FS_ROOT_INO))
		report_damage(check, "/: not a directory with number %u", FS_ROOT_INO);
	/* Whatever its record says, what lies below it is looked at. */
	if (inode.kind != KIND_DIRECTORY)
		inode = (struct known_inode){.kind = KIND_DIRECTORY, .is_uncertain = true};
	return begin_level(check, item->key, item->key_bytes, &inode);
}

static int take_orphan(struct check *check, const struct key_value *item)
{
	struct known_inode inode;
	char text[PATH_TEXT];
	int err;

	describe_key(item->key, item->key_bytes, text);
	err = check_inode(check, text, item->value, item->value_bytes, true, &inode);
	if (err)
		return err;
	if (inode.kind != KIND_UNKNOWN && inode.ino != be64_load(item->key + 1))
		report_damage(check, "%s: the record is that of inode %llu", text, (ull)inode.ino);
	return begin_level(check, item->key, item->key_bytes, &inode);
}

static void take_limit(struct check *check, const struct key_value *item)
{
	struct files *files = check->files;
	le64 limit;

	files->has_limit = true;
	if (item->value_bytes == sizeof(limit)) {
		memcpy(&limit, item->value, sizeof(limit));
		if (from_le64(limit) > FS_ROOT_INO)
			return;
	}
	report_damage(check, "the counter of inode numbers is damaged");
}

static void take_claims(struct check *check, const struct key_value *item)
{
	struct files *files = check->files;
	le64 count;

	if (item->value_bytes == sizeof(count)) {
		memcpy(&count, item->value, sizeof(count));
		files->claims_record = from_le64(count);
		return;
	}
	files->is_claims_damaged = true;
	report_damage(check, "the counter of allocated blocks is damaged");
}

/* Contents without what they belong to. */
static int begin_stray(struct check *check, const struct key_value *item, uint32_t bytes,
    const char *what)
{
	struct known_inode inode = {.kind = KIND_DIRECTORY, .is_uncertain = true};

	if (item->key[0] == KEY_ORPHAN)
		inode.kind = KIND_UNKNOWN;
	if (!is_in_gap(check, item->key, bytes))
		report_damage(check, "%s", what);
	check->is_naming_incomplete = true;
	return begin_level(check, item->key, bytes, &inode);
}

static bool key_is(const struct key_value *item, const char *key)
{
	return item->key_bytes == strlen(key) && memcmp(item->key, key, item->key_bytes) == 0;
}

/* A key below none of the levels. */
static int take_top(struct check *check, const struct key_value *item)
{
	uint8_t first = item->key[0];
	char text[PATH_TEXT + 64], path[PATH_TEXT];

	if (key_is(item, KEY_ROOT_INODE))
		return take_root(check, item);
	if (first == KEY_ORPHAN && item->key_bytes == KEY_ORPHAN_BYTES)
		return take_orphan(check, item);
	if (key_is(item, KEY_VOLUME_INO_LIMIT)) {
		take_limit(check, item);
		return 0;
	}
	if (key_is(item, KEY_VOLUME_CLAIMS)) {
		take_claims(check, item);
		return 0;
	}
	if (first == KEY_ROOT_INODE[0] && item->key_bytes > 1 && item->key[1] == '/') {
		check->files->has_root = true;
		return begin_stray(check, item, 1, "/: the root directory has no inode record");
	}
	if (first == KEY_ORPHAN && item->key_bytes > KEY_ORPHAN_BYTES &&
	    item->key[KEY_ORPHAN_BYTES] == '/') {
		describe_key(item->key, KEY_ORPHAN_BYTES, path);
		snprintf(text, sizeof(text), "%s: extents without an inode record", path);
		return begin_stray(check, item, KEY_ORPHAN_BYTES, text);
	}
	bad_key(check, item->key, item->key_bytes, "a key of no known kind");
	return 0;
}

int files_key(struct check *check, const uint8_t *key, uint32_t key_bytes, const uint8_t *value,
    uint32_t value_bytes)
{
	struct key_value item = {key, value, key_bytes, value_bytes};
	int err = levels_unwind(check, &item);

	if (!err && check->files->level_count == 0) {
		err = take_top(check, &item);
		if (err || check->files->level_count == 0 ||
		    check->files->levels[0].prefix_bytes > key_bytes)
			return err;
	}
	return err ? err : take_below(check, &item);
}

/* Spans that could not be read may have had what is missing. */
static void check_claims(struct check *check)
{
	const struct files *files = check->files;

	if (files->is_claims_damaged || check->is_naming_incomplete ||
	    files->claims == files->claims_record)
		return;
	report_damage(check, "%llu blocks are allocated and not written, the counter says %llu",
	    (ull)files->claims, (ull)files->claims_record);
}

int files_end(struct check *check)
{
	struct files *files = check->files;
	int err = levels_unwind(check, NULL);

	if (err)
		return err;
	if (!files->has_root && !is_in_gap(check, (const uint8_t *)KEY_ROOT_INODE, 1))
		report_damage(check, "the volume has no root directory");
	if (!files->has_limit && !is_in_gap(check, (const uint8_t *)KEY_VOLUME_INO_LIMIT,
				     sizeof(KEY_VOLUME_INO_LIMIT) - 1))
		report_damage(check, "the counter of inode numbers is missing");
	check_claims(check);
	if (check->totals.orphans)
		report_note(check, "%llu unlinked inodes await removal", (ull)check->totals.orphans);
	return 0;
}

/* ---- life ------------------------------------------------------------------------------------- */

int files_create(struct check *check)
{
	struct files *files = calloc(1, sizeof(*files));
	uint32_t bytes;
	le64 limit;
	int err;

	if (!files)
		return -ENOMEM;
	check->files = files;
	/* It comes last in order, and is wanted from the first. */
	err = store_get(check->store, KEY_VOLUME_INO_LIMIT, sizeof(KEY_VOLUME_INO_LIMIT) - 1,
	    &limit, sizeof(limit), &bytes, NULL);
	if (err == 0 && bytes == sizeof(limit) && from_le64(limit) > FS_ROOT_INO)
		files->ino_limit = from_le64(limit);
	else if (err == -EUCLEAN || err == -EIO)
		report_note(check, "the counter of inode numbers cannot be read; no number is held against it");
	return err == -ENOMEM ? err : 0;
}

void files_destroy(struct files *files)
{
	if (!files)
		return;
	for (uint32_t i = 0; i < files->level_count; i++)
		level_free(&files->levels[i]);
	free(files->levels);
	free(files->path);
	number_set_fini(&files->inodes);
	free(files);
}
