/*
 * A file system whose records somebody else wrote.
 *
 * Input: changes to values of a small tree of files, each with the number of its key: bytes
 * changed, the value replaced, removed, or copied from another key; a byte 0xff; then calls of
 * fs.h.  Checking finds what is wrong or does not; mounting works or is refused; calls
 * answer what they have to or an error.
 */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>

#include "base/bytes.h"
#include "check/check.h"
#include "format/fs_format.h"
#include "fs/fs.h"
#include "store/store.h"

#define DISK_BYTES (24ull << 20)
#define KEYS_MAX 64
#define KEY_BYTES 400
#define CALLS_MAX 40
#define INODES 12

static struct fuzz_disk disk;

static struct record_key {
	uint8_t bytes[KEY_BYTES];
	uint32_t count;
} keys[KEYS_MAX];
static uint32_t key_count;

static const struct fs_cred cred = {.uid = 1000, .gid = 1000, .umask = 022};

/* ---- the volume --------------------------------------------------------------------------- */

static struct fs_name name_of(const char *name)
{
	return (struct fs_name){name, strlen(name)};
}

static struct fs *open_fs(void)
{
	const struct fs_options options = {.cache_bytes = FUZZ_CACHE_BYTES, .no_threads = true};
	struct device *device = fuzz_disk_device(&disk);
	struct fs *fs;

	if (fs_open(device, &options, &fs) == 0)
		return fs;
	device_close(device);
	return NULL;
}

static uint64_t make_file(struct fs *fs, uint64_t parent, const char *name, uint64_t offset, size_t bytes)
{
	static const uint8_t data[64 * 1024] = {1};
	struct fs_attr attr;

	FUZZ_CHECK(fs_mknod(fs, parent, name_of(name), S_IFREG | 0644, 0, &cred, &attr) == 0);
	FUZZ_CHECK(fs_write(fs, attr.ino, offset, data, bytes, false, false) == 0);
	return attr.ino;
}

static void fill(struct fs *fs)
{
	struct fs_attr dir, below, attr;
	uint64_t large;

	FUZZ_CHECK(fs_mkdir(fs, FS_ROOT_INO, name_of("d"), 0755, &cred, &dir) == 0);
	FUZZ_CHECK(fs_mkdir(fs, dir.ino, name_of("e"), 0755, &cred, &below) == 0);
	make_file(fs, FS_ROOT_INO, "small", 0, 100);
	make_file(fs, dir.ino, "f", 0, 9000);
	make_file(fs, below.ino, "sparse", 3 << 20, 5000);
	large = make_file(fs, dir.ino, "large", 0, 64 * 1024);
	FUZZ_CHECK(fs_fallocate(fs, large, FALLOC_FL_KEEP_SIZE, 500 * 1024, 100 * 1024) == 0);
	FUZZ_CHECK(fs_symlink(fs, dir.ino, name_of("l"), "e/sparse", &cred, &attr) == 0);
	FUZZ_CHECK(fs_mknod(fs, dir.ino, name_of("p"), S_IFIFO | 0600, 0, &cred, &attr) == 0);
	/* One without a name: the volume is left while it is known. */
	make_file(fs, FS_ROOT_INO, "gone", 0, 20000);
	FUZZ_CHECK(fs_fsync(fs, FS_ROOT_INO, false) == 0);
	FUZZ_CHECK(fs_unlink(fs, FS_ROOT_INO, name_of("gone")) == 0);
	FUZZ_CHECK(fs_fsync(fs, FS_ROOT_INO, false) == 0);
}

static int note_key(void *ctx, const struct store_item *item)
{
	if (key_count == KEYS_MAX || item->key_bytes > KEY_BYTES)
		return 0;
	memcpy(keys[key_count].bytes, item->key, item->key_bytes);
	keys[key_count++].count = item->key_bytes;
	return 0;
}

static void make_disk(void)
{
	const struct fs_format_options options = {.uuid = "0123456789abcde"};
	const struct store_range range = {.keys_only = true};
	struct device *device;
	struct store *store;
	struct fs *fs;

	fuzz_disk_make(&disk, DISK_BYTES);
	device = fuzz_disk_device(&disk);
	FUZZ_CHECK(fs_format(device, &options) == 0);
	device_close(device);
	fs = open_fs();
	FUZZ_CHECK(fs);
	fill(fs);
	fs_abandon(fs);
	store = fuzz_store_open(&disk);
	FUZZ_CHECK(store);
	FUZZ_CHECK(store_visit(store, &range, 0, note_key, NULL) == 0);
	FUZZ_CHECK(key_count > 10 && key_count < KEYS_MAX);
	FUZZ_CHECK(store_close(store) == 0);
	fuzz_disk_freeze(&disk);
}

/* ---- damage --------------------------------------------------------------------------------- */

/* The decoders by themselves: what they take, they write again in the same way. */
static void decode(const uint8_t *value, uint32_t bytes)
{
	uint8_t encoded[SPAN_RECORD_MAX];
	struct span_map map, again;
	uint32_t count;

	(void)inode_value_verify(value, bytes);
	if (span_decode(value, bytes, &map))
		return;
	count = span_encode(&map, encoded);
	FUZZ_CHECK(count > 0 && count <= SPAN_RECORD_MAX);
	FUZZ_CHECK(span_decode(encoded, count, &again) == 0);
	FUZZ_CHECK(memcmp(&map, &again, sizeof(map)) == 0);
}

static void change(struct store *store, struct fuzz_input *input)
{
	static uint8_t value[STORE_VALUE_MAX];
	uint8_t kind = fuzz_byte(input);
	struct record_key key = keys[fuzz_byte(input) % key_count];
	uint32_t bytes = 0, at = fuzz_number(input, kind & 8 ? 2 : 1);
	size_t taken;
	const uint8_t *from;

	if (kind & 16)
		key.bytes[at % key.count] = fuzz_byte(input);
	if (store_get(store, key.bytes, key.count, value, sizeof(value), &bytes, NULL))
		bytes = 0;
	switch (kind % 8) {
	case 0:
		(void)store_delete(store, key.bytes, key.count, NULL, NULL);
		return;
	case 1:
		from = fuzz_bytes(input, at, &taken);
		memcpy(value, from, taken);
		bytes = (uint32_t)taken;
		break;
	case 2:
		key = keys[at % key_count];
		break;
	case 3:
		bytes = min_of(at, bytes);
		break;
	default:
		from = fuzz_bytes(input, kind % 8 - 3, &taken);
		if (at + taken > sizeof(value))
			return;
		memcpy(value + at, from, taken);
		bytes = max_of(bytes, at + (uint32_t)taken);
	}
	decode(value, bytes);
	(void)store_put(store, key.bytes, key.count, value, bytes, NULL, NULL);
}

/* ---- use -------------------------------------------------------------------------------------- */

static void report(void *ctx, enum check_severity severity, const char *what)
{
	*(size_t *)ctx += strlen(what);
}

static void check(bool is_damaged)
{
	size_t said = 0;
	const struct check_options options = {
	    .with_data = true,
	    .cache_bytes = FUZZ_CACHE_BYTES,
	    .report = report,
	    .ctx = &said,
	};
	struct check_totals totals;
	int err = check_volume(fuzz_disk_device(&disk), &options, &totals);

	FUZZ_CHECK(is_damaged || (err == 0 && totals.damages == 0));
}

static bool see_entry(void *ctx, const struct fs_dirent *entry)
{
	return entry->name.len > 0;
}

struct use {
	struct fs *fs;
	uint64_t inodes[INODES]; /* looked up once each */
	uint32_t count;
};

static void keep(struct use *use, uint64_t ino)
{
	if (use->count < INODES)
		use->inodes[use->count++] = ino;
	else
		fs_forget(use->fs, ino, 1);
}

static void list(struct use *use, uint64_t ino)
{
	struct fs_dir *dir;

	if (fs_opendir(use->fs, ino, &dir))
		return;
	(void)fs_readdir(dir, 0, false, see_entry, NULL);
	fs_closedir(dir);
}

static void read_file(struct use *use, uint64_t ino, uint64_t offset)
{
	struct fs_read read;
	char target[4096];

	(void)fs_readlink(use->fs, ino, target, sizeof(target));
	if (fs_read(use->fs, ino, offset, 128 * 1024, &read))
		return;
	fs_read_done(use->fs, &read);
}

static void call(struct use *use, struct fuzz_input *input)
{
	static const char *const names[] = {"d", "e", "small", "f", "sparse", "large", "l", "p", "x", "y"};
	static const uint8_t data[20000] = {2};
	uint8_t kind = fuzz_byte(input), which = fuzz_byte(input), more = fuzz_byte(input);
	uint64_t ino = use->inodes[which % use->count], other = use->inodes[more % use->count];
	struct fs_name name = name_of(names[(which >> 4) % 10]), to = name_of(names[(more >> 4) % 10]);
	uint64_t offset = (uint64_t)more << (which >> 4);
	struct fs_attr attr = {.size = offset};
	uint64_t found;

	switch (kind % 16) {
	case 0:
	case 1:
	case 2:
		if (fs_lookup(use->fs, ino, name, &attr) == 0)
			keep(use, attr.ino);
		return;
	case 3:
		return list(use, ino);
	case 4:
		return read_file(use, ino, offset);
	case 5:
		(void)fs_write(use->fs, ino, offset, data, 1 + more * 77u, kind & 16, kind & 32);
		return;
	case 6:
		(void)fs_setattr(use->fs, ino, FS_SET_SIZE, &attr, &attr);
		return;
	case 7:
		(void)fs_unlink(use->fs, ino, name);
		return;
	case 8:
		(void)fs_rmdir(use->fs, ino, name);
		return;
	case 9:
		(void)fs_rename(use->fs, ino, name, other, to, 0);
		return;
	case 10:
		if (fs_mknod(use->fs, ino, name, S_IFREG | 0600, 0, &cred, &attr) == 0)
			keep(use, attr.ino);
		return;
	case 11:
		if (fs_mkdir(use->fs, ino, name, 0700, &cred, &attr) == 0)
			keep(use, attr.ino);
		return;
	case 12:
		(void)fs_fallocate(use->fs, ino, kind & 16 ? FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE : 0,
		    offset, 1 + more * 999u);
		return;
	case 13:
		(void)fs_seek(use->fs, ino, offset, kind & 16 ? SEEK_DATA : SEEK_HOLE, &found);
		return;
	case 14:
		(void)fs_fsync(use->fs, ino, kind & 16);
		return;
	default:
		(void)fs_getattr(use->fs, ino, &attr);
	}
}

/* Goes wherever names lead. */
static void explore(struct use *use)
{
	static const char *const paths[] = {"d", "small", "d/e", "d/f", "d/large", "d/l", "d/p", "d/e/sparse"};

	for (unsigned i = 0; i < ARRAY_COUNT(paths); i++) {
		uint64_t ino = FS_ROOT_INO;
		const char *at = paths[i];
		struct fs_attr attr;

		for (; *at && ino; at += strcspn(at, "/"), at += *at == '/') {
			if (fs_lookup(use->fs, ino, (struct fs_name){at, strcspn(at, "/")}, &attr))
				break;
			if (ino != FS_ROOT_INO)
				fs_forget(use->fs, ino, 1);
			ino = attr.ino;
		}
		if (ino != FS_ROOT_INO)
			keep(use, ino);
		list(use, ino);
		read_file(use, ino, 0);
	}
}

static void use_files(struct fuzz_input *input)
{
	struct use use = {.fs = open_fs(), .inodes = {FS_ROOT_INO}, .count = 1};

	if (!use.fs)
		return;
	if (fs_start(use.fs) == 0) {
		explore(&use);
		for (unsigned i = 0; i < CALLS_MAX && input->left; i++)
			call(&use, input);
	}
	for (uint32_t i = 1; i < use.count; i++)
		fs_forget(use.fs, use.inodes[i], 1);
	(void)fs_close(use.fs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	bool is_damaged = false;
	struct store *store;

	if (disk.frozen)
		fuzz_disk_renew(&disk);
	else
		make_disk();
	store = fuzz_store_open(&disk);
	FUZZ_CHECK(store);
	for (; input.left && *input.at != 0xff; is_damaged = true)
		change(store, &input);
	fuzz_byte(&input);
	FUZZ_CHECK(store_close(store) == 0);
	check(is_damaged);
	use_files(&input);
	/* What the file layer itself wrote is in order. */
	check(is_damaged);
	return 0;
}
