#include "config.h"

#include "tests/unit/test_fs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device/device.h"
#include "tests/support/support.h"

const struct fs_cred test_cred = {.uid = 1000, .gid = 1000, .umask = 022};

static struct device *open_device(const struct test_volume *volume)
{
	struct device_options options = {.io = DEVICE_IO_SYNC, .lock_wait_ms = 5000};
	struct device *device;

	ck_ok(device_open(volume->path, &options, &device));
	return device;
}

void test_volume_make(struct test_volume *volume, uint64_t bytes)
{
	struct fs_format_options options = {.label = "test"};
	const char *dir = getenv("TMPDIR");
	struct device *device;
	int fd;

	memset(volume, 0, sizeof(*volume));
	snprintf(volume->path, sizeof(volume->path), "%s/holtfs-test-XXXXXX",
	    dir ? dir : "/tmp");
	fd = mkstemp(volume->path);
	ck_assert_int_ge(fd, 0);
	ck_ok(ftruncate(fd, (off_t)bytes));
	close(fd);
	memcpy(options.uuid, "0123456789abcdef", sizeof(options.uuid));
	device = open_device(volume);
	ck_ok(fs_format(device, &options));
	device_close(device);
	volume->options = (struct fs_options){
	    .no_threads = true,
	    .cache_bytes = TEST_CACHE_BYTES,
	};
	test_volume_open(volume);
}

void test_volume_open(struct test_volume *volume)
{
	ck_ok(fs_open(open_device(volume), &volume->options, &volume->fs));
}

void test_volume_reopen(struct test_volume *volume)
{
	ck_ok(fs_close(volume->fs));
	test_volume_open(volume);
}

void test_volume_recover(struct test_volume *volume)
{
	fs_abandon(volume->fs);
	test_volume_open(volume);
}

void test_volume_remove(struct test_volume *volume)
{
	if (volume->fs)
		(void)fs_close(volume->fs);
	unlink(volume->path);
}

struct fs_name test_name(const char *name)
{
	return (struct fs_name){name, strlen(name)};
}

uint64_t test_walk(struct fs *fs, const char *path)
{
	uint64_t ino = FS_ROOT_INO;

	while (*path) {
		size_t len = strcspn(path, "/");
		struct fs_attr attr;

		ck_ok(fs_lookup(fs, ino, (struct fs_name){path, len}, &attr));
		if (ino != FS_ROOT_INO)
			fs_forget(fs, ino, 1);
		ino = attr.ino;
		path += len + (path[len] == '/');
	}
	return ino;
}

uint64_t test_file(struct fs *fs, uint64_t parent, const char *name)
{
	struct fs_attr attr;

	ck_ok(fs_mknod(fs, parent, test_name(name), S_IFREG | 0644, 0, &test_cred, &attr));
	return attr.ino;
}

uint64_t test_dir(struct fs *fs, uint64_t parent, const char *name)
{
	struct fs_attr attr;

	ck_ok(fs_mkdir(fs, parent, test_name(name), 0755, &test_cred, &attr));
	return attr.ino;
}

void test_fill(uint8_t *to, uint64_t seed, uint64_t offset, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		uint64_t at = offset + i;
		uint64_t word = (at / 8 + 1) * 0x9e3779b97f4a7c15ull ^ seed * 0xbf58476d1ce4e5b9ull;

		to[i] = (uint8_t)(word >> (at % 8 * 8)) | 1; /* never zero */
	}
}

void test_write(struct fs *fs, uint64_t ino, uint64_t seed, uint64_t offset, size_t bytes)
{
	uint8_t *data = malloc(bytes + 1);

	test_fill(data, seed, offset, bytes);
	ck_ok(fs_write(fs, ino, offset, data, bytes, false, false));
	free(data);
}

size_t test_read(struct fs *fs, uint64_t ino, uint64_t offset, void *to, size_t bytes)
{
	struct fs_read read;
	size_t at = 0;

	ck_ok(fs_read(fs, ino, offset, bytes, &read));
	for (uint32_t i = 0; i < read.count; i++) {
		memcpy((uint8_t *)to + at, read.pieces[i].iov_base, read.pieces[i].iov_len);
		at += read.pieces[i].iov_len;
	}
	ck_assert_uint_eq(at, read.bytes);
	fs_read_done(fs, &read);
	return at;
}

void test_expect(struct fs *fs, uint64_t ino, uint64_t seed, uint64_t offset, size_t bytes)
{
	uint8_t *want = malloc(bytes + 1), *got = malloc(bytes + 1);

	test_fill(want, seed, offset, bytes);
	ck_assert_uint_eq(test_read(fs, ino, offset, got, bytes), bytes);
	ck_assert_mem_eq(got, want, bytes);
	free(want);
	free(got);
}
