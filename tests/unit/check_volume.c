#include "config.h"

#include "tests/unit/check_volume.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs.h"

struct device *volume;

static const struct fs_cred cred = {.uid = 1, .gid = 1, .umask = 022};
static struct fs *fs;

static struct fs_name name_of(const char *name)
{
	return (struct fs_name){name, strlen(name)};
}

/* ---- content ---------------------------------------------------------------------- */

static uint64_t make(uint64_t parent, const char *name, uint32_t mode)
{
	struct fs_attr attr;

	if (S_ISDIR(mode))
		ck_ok(fs_mkdir(fs, parent, name_of(name), mode & 07777, &cred, &attr));
	else
		ck_ok(fs_mknod(fs, parent, name_of(name), mode, 0, &cred, &attr));
	return attr.ino;
}

static void fill(uint64_t ino, size_t bytes)
{
	char *data = malloc(bytes);

	ck_assert_ptr_nonnull(data);
	for (size_t i = 0; i < bytes; i++)
		data[i] = (char)(1 + (ino + i) % 255);
	ck_ok(fs_write(fs, ino, 0, data, bytes, false, false));
	free(data);
}

/* Directories whose contents do not lie in the order of their names. */
static void make_dots(uint64_t parent)
{
	make(make(parent, "x", S_IFDIR | 0755), "y", S_IFDIR | 0755);
	make(make(parent, "x-d", S_IFDIR | 0755), "y", S_IFDIR | 0755);
	make(make(parent, "x.d", S_IFDIR | 0755), "y", S_IFDIR | 0755);
	make(make(parent, "x0", S_IFDIR | 0755), "y", S_IFDIR | 0755);
}

/* Returns the lowest directory. */
static uint64_t make_many(void)
{
	uint64_t many = make(FS_ROOT_INO, "many", S_IFDIR | 0755);
	char name[32];

	for (int i = 0; i < CHECK_FILES; i++) {
		uint64_t ino;

		snprintf(name, sizeof(name), "file-%04d", i);
		ino = make(many, name, S_IFREG | 0644);
		fill(ino, 400);
		fs_forget(fs, ino, 1);
	}
	return make(make(many, "deep", S_IFDIR | 0755), "er", S_IFDIR | 0755);
}

static void make_content(void)
{
	uint64_t lowest = make_many();
	struct fs_attr attr;

	fill(make(FS_ROOT_INO, "small", S_IFREG | 0644), BLOCK_BYTES + 100);
	fill(make(FS_ROOT_INO, "big", S_IFREG | 0644), CHECK_BIG_BYTES);
	make(FS_ROOT_INO, "fifo", S_IFIFO | 0644);
	ck_ok(fs_symlink(fs, FS_ROOT_INO, name_of("link"), "many/deep", &cred, &attr));
	make_dots(lowest);
}

/* ---- life ---------------------------------------------------------------------------- */

/* What is on the device when the process dies after the last sync. */
static void make_as_if_killed(void)
{
	struct fs_options options = {.no_threads = true, .cache_bytes = 32 << 20};
	struct fs_format_options format = {.uuid = {4, 5, 6}, .label = "check"};
	struct device *device;

	support_log_to_stderr();
	ck_ok(device_open_memory(CHECK_VOLUME_BYTES, &device));
	ck_ok(fs_format(device, &format));
	ck_ok(fs_open(device, &options, &fs));
	make_content();
	ck_ok(fs_sync(fs));
	ck_ok(device_open_copy(device, &volume));
	fs_abandon(fs);
}

struct store *volume_open(void)
{
	struct store_options options = {
	    .no_threads = true, .keep_device = true, .cache_bytes = 32 << 20};
	struct store *store;

	ck_ok(store_open(volume, &options, &store));
	return store;
}

void volume_close(struct store *store)
{
	ck_ok(store_close(store));
}

void volume_make(void)
{
	make_as_if_killed();
	volume_close(volume_open());
}

void volume_make_unclosed(void)
{
	make_as_if_killed();
}

void volume_remove(void)
{
	device_close(volume);
	volume = NULL;
}

/* ---- changes ---------------------------------------------------------------------------- */

void volume_put(struct store *store, const void *key, size_t key_bytes, const void *value, size_t bytes)
{
	struct store_batch *batch;

	ck_ok(store_batch_create(store, &batch));
	store_batch_put(batch, key, (uint32_t)key_bytes, value, (uint32_t)bytes);
	ck_ok(store_commit(store, batch, NULL));
	store_batch_destroy(batch);
}

void volume_delete(struct store *store, const void *key, size_t key_bytes)
{
	struct store_batch *batch;

	ck_ok(store_batch_create(store, &batch));
	store_batch_require_present(batch, key, (uint32_t)key_bytes);
	store_batch_delete(batch, key, (uint32_t)key_bytes);
	ck_ok(store_commit(store, batch, NULL));
	store_batch_destroy(batch);
}

uint32_t store_value(struct store *store, const void *key, size_t key_bytes, void *value, size_t capacity)
{
	uint32_t bytes;

	ck_ok(store_get(store, key, (uint32_t)key_bytes, value, (uint32_t)capacity, &bytes, NULL));
	return bytes;
}

struct inode_value inode_of(struct store *store, const void *key, size_t key_bytes)
{
	struct inode_value value;

	value.bytes = store_value(store, key, key_bytes, value.raw, sizeof(value.raw));
	return value;
}

void inode_put_back(struct store *store, const void *key, size_t key_bytes, const struct inode_value *value)
{
	volume_put(store, key, key_bytes, value->raw, value->bytes);
}

void span_of(struct inode_value *value, struct span_map *ret)
{
	ck_ok(span_decode(inode_value_body(value), from_le16(value->head.body_bytes), ret));
}

void span_put_back(struct inode_value *value, const struct span_map *map)
{
	uint32_t bytes = span_encode(map, inode_value_body(value));

	value->head.body_bytes = to_le16((uint16_t)bytes);
	value->bytes = (uint32_t)sizeof(value->head) + bytes;
}

struct child_search {
	uint64_t root, found;
	struct manifest_place place;
};

static int take_child(void *ctx, uint64_t frame_id, const struct manifest_place *place)
{
	struct child_search *search = ctx;

	if (frame_id == search->root || place->used_blocks <= search->place.used_blocks)
		return 0;
	search->found = frame_id;
	search->place = *place;
	return 0;
}

uint64_t some_child_frame(struct store *store, struct manifest_place *ret)
{
	struct child_search search = {.root = from_le64(store_superblock(store)->user_root)};

	ck_ok(manifest_for_each(store_space(store), take_child, &search));
	ck_assert_uint_gt(search.place.used_blocks, FRAME_BLOCKS / 2);
	*ret = search.place;
	return search.found;
}

/* ---- the check ---------------------------------------------------------------------------- */

static void take_line(void *ctx, enum check_severity severity, const char *what)
{
	struct findings *findings = ctx;

	ck_assert_ptr_null(strchr(what, '\n'));
	if (findings->count < LINES_MAX) {
		findings->lines[findings->count].severity = severity;
		snprintf(findings->lines[findings->count].text,
		    sizeof(findings->lines[0].text), "%s", what);
	}
	findings->count++;
}

void device_check(struct findings *ret, struct device *device, bool with_data, bool is_store_only)
{
	struct check_options options = {
	    .with_data = with_data,
	    .is_store_only = is_store_only,
	    .cache_bytes = 32 << 20,
	    .report = take_line,
	    .ctx = ret,
	};

	memset(ret, 0, sizeof(*ret));
	ret->result = check_volume(device, &options, &ret->totals);
}

void volume_check(struct findings *ret, bool with_data)
{
	struct device *copy;

	ck_ok(device_open_copy(volume, &copy));
	device_check(ret, copy, with_data, false);
}

uint32_t findings_count(const struct findings *findings, enum check_severity severity, const char *text)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < min_of(findings->count, (uint32_t)LINES_MAX); i++)
		count += findings->lines[i].severity == severity &&
			 strstr(findings->lines[i].text, text);
	return count;
}

static void print(const struct findings *findings)
{
	fprintf(stderr, "result %d, %u lines\n", findings->result, findings->count);
	for (uint32_t i = 0; i < min_of(findings->count, (uint32_t)LINES_MAX); i++)
		fprintf(stderr, "  %d %s\n", findings->lines[i].severity, findings->lines[i].text);
}

void expect_clean(const struct findings *findings)
{
	print(findings);
	ck_assert_int_eq(findings->result, 0);
	ck_assert_uint_eq(findings->totals.damages, 0);
	ck_assert_uint_eq(findings->totals.leaks, 0);
}

void expect_only(const struct findings *findings, enum check_severity severity, const char *text)
{
	bool is_damage = severity == CHECK_DAMAGE;

	print(findings);
	ck_assert_int_eq(findings->result, 0);
	ck_assert_uint_eq(findings->totals.damages, is_damage ? 1 : 0);
	ck_assert_uint_eq(findings->totals.leaks, severity == CHECK_LEAK ? 1 : 0);
	ck_assert_uint_eq(findings_count(findings, severity, text), 1);
}
