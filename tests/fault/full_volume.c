/*
 * Volumes without space: a write says so itself, nothing acknowledged is lost, and
 * removing makes room again, down to the smallest volume there may be.
 */
#include "config.h"

#include "tests/fault/fault.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "device/device_test.h"
#include "format/format.h"
#include "tests/support/support.h"

#define FILES_MAX 20000

struct volume {
	struct device *device;
	struct fs *fs;
	uint64_t inos[FILES_MAX]; /* 0: not there */
	uint64_t sizes[FILES_MAX];
	uint32_t count;
};

static const struct fs_cred cred = {0};

static struct fs_name name_of(uint32_t i, char buf[32])
{
	snprintf(buf, 32, "file-%05u", i);
	return (struct fs_name){buf, strlen(buf)};
}

static uint8_t byte_at(uint32_t file, uint64_t offset)
{
	return (uint8_t)((offset / 512 + offset + file * 31) | 1);
}

static struct volume *volume_make(uint64_t bytes)
{
	struct volume *v = calloc(1, sizeof(*v));

	ck_assert(v != NULL);
	ck_ok(device_open_memory(bytes, &v->device));
	fault_format(v->device);
	ck_ok(fs_open(v->device, &fault_fs, &v->fs));
	return v;
}

static void volume_remove(struct volume *v)
{
	ck_ok(fs_close(v->fs));
	fault_expect_whole(v->device, "full volume, closed");
	device_close(v->device);
	free(v);
}

/* One file in pieces; -ENOSPC: it ends where a piece did not fit. */
static int fill_file(struct volume *v, uint32_t i, uint64_t bytes, uint64_t piece)
{
	uint8_t *data = malloc(piece);
	struct fs_attr attr;
	char buf[32];
	int err;

	ck_assert(data != NULL);
	err = fs_mknod(v->fs, FS_ROOT_INO, name_of(i, buf), S_IFREG | 0644, 0, &cred, &attr);
	if (err == 0)
		v->inos[i] = attr.ino;
	for (uint64_t at = 0; at < bytes && err == 0; at += piece) {
		for (uint64_t k = 0; k < piece; k++)
			data[k] = byte_at(i, at + k);
		err = fs_write(v->fs, attr.ino, at, data, piece, false, false);
		if (err == 0)
			v->sizes[i] = at + piece;
	}
	free(data);
	return err;
}

/* Files until the volume is full; bytes acknowledged. */
static uint64_t fill(struct volume *v, uint64_t bytes, uint64_t piece)
{
	uint64_t total = 0;
	int err = 0;

	for (uint32_t i = 0; err == 0; i++) {
		ck_assert_uint_lt(i, FILES_MAX);
		if (v->inos[i])
			continue;
		err = fill_file(v, i, bytes, piece);
		total += v->sizes[i];
		v->count = max_of(v->count, i + 1);
	}
	ck_assert_int_eq(err, -ENOSPC);
	return total;
}

static void expect_file(struct volume *v, uint32_t i)
{
	uint64_t at = 0;

	while (at < v->sizes[i]) {
		struct fs_read read;

		ck_ok(fs_read(v->fs, v->inos[i], at, v->sizes[i] - at, &read));
		ck_assert_uint_gt(read.bytes, 0);
		for (uint32_t p = 0; p < read.count; p++) {
			const uint8_t *data = read.pieces[p].iov_base;

			for (size_t k = 0; k < read.pieces[p].iov_len; k++, at++)
				if (data[k] != byte_at(i, at))
					ck_abort_msg("file %u, byte %llu", i, (unsigned long long)at);
		}
		fs_read_done(v->fs, &read);
	}
}

static void expect_all(struct volume *v)
{
	for (uint32_t i = 0; i < v->count; i++)
		if (v->inos[i])
			expect_file(v, i);
}

static void look_up_all(struct volume *v)
{
	struct fs_attr attr;
	char buf[32];

	for (uint32_t i = 0; i < v->count; i++) {
		if (!v->inos[i])
			continue;
		ck_ok(fs_lookup(v->fs, FS_ROOT_INO, name_of(i, buf), &attr));
		ck_assert_uint_eq(attr.ino, v->inos[i]);
		ck_assert_uint_ge(attr.size, v->sizes[i]);
	}
}

/* All that was acknowledged and synced is there after the power went. */
static void crash(struct volume *v)
{
	ck_ok(fs_sync(v->fs));
	fs_abandon(v->fs);
	fault_expect_whole(v->device, "full volume, after a crash");
	ck_ok(fs_open(v->device, &fault_fs, &v->fs));
	look_up_all(v);
}

static void reopen(struct volume *v)
{
	ck_ok(fs_close(v->fs));
	fault_expect_whole(v->device, "full volume, closed");
	ck_ok(fs_open(v->device, &fault_fs, &v->fs));
	look_up_all(v);
}

static void remove_every(struct volume *v, uint32_t n)
{
	char buf[32];

	for (uint32_t i = 0; i < v->count; i += n) {
		if (!v->inos[i])
			continue;
		ck_ok(fs_unlink(v->fs, FS_ROOT_INO, name_of(i, buf)));
		fs_forget(v->fs, v->inos[i], UINT64_MAX);
		v->inos[i] = v->sizes[i] = 0;
	}
}

static void fill_and_empty(uint64_t volume_bytes, uint64_t bytes, uint64_t piece, int rounds)
{
	struct volume *v = volume_make(volume_bytes);
	uint64_t first = fill(v, bytes, piece), again;

	ck_assert_uint_gt(first, 0);
	for (int round = 0; round < rounds; round++) {
		expect_all(v);
		round % 2 ? crash(v) : reopen(v);
		expect_all(v);
		remove_every(v, 1 + (uint32_t)round % 2);
		again = fill(v, bytes, piece);
		/* About as much fits as was taken away. */
		ck_assert_msg(again >= first / (round % 2 ? 4 : 2), "%llu bytes fit, then %llu",
		    (unsigned long long)first, (unsigned long long)again);
	}
	volume_remove(v);
}

START_TEST(smallest_volume_full_of_large_files)
{
	fill_and_empty(VOLUME_BYTES_MIN, 1 << 20, 128 << 10, 6);
}
END_TEST

START_TEST(smallest_volume_full_of_packed_files)
{
	fill_and_empty(VOLUME_BYTES_MIN, 8 << 10, 4 << 10, 6);
}
END_TEST

START_TEST(smallest_volume_full_of_tiny_files)
{
	fill_and_empty(VOLUME_BYTES_MIN, 2 << 10, 1 << 10, 6);
}
END_TEST

START_TEST(volume_full_of_one_file)
{
	fill_and_empty(48ull << 20, 1 << 30, 100 << 10, 4);
}
END_TEST

START_TEST(volume_full_of_packed_files)
{
	fill_and_empty(32ull << 20, 12 << 10, 4 << 10, 4);
}
END_TEST

/* What is there can be overwritten, cut and moved, or says that it cannot; and is not
 * lost by it. */
START_TEST(full_volume_still_does_what_needs_no_space)
{
	struct volume *v = volume_make(VOLUME_BYTES_MIN);
	struct fs_attr attr = {.size = 5000};
	char buf[32], other[32];
	int err;

	fill(v, 64 << 10, 32 << 10);
	ck_ok(fs_sync(v->fs));
	ck_ok(fs_setattr(v->fs, v->inos[0], FS_SET_SIZE, &attr, &attr));
	v->sizes[0] = 5000;
	ck_ok(fs_fsync(v->fs, v->inos[0], false));
	err = fs_rename(v->fs, FS_ROOT_INO, name_of(1, buf), FS_ROOT_INO, name_of(2, other), 0);
	ck_ok(err);
	fs_forget(v->fs, v->inos[2], UINT64_MAX);
	ck_ok(fs_rename(v->fs, FS_ROOT_INO, name_of(2, buf), FS_ROOT_INO, name_of(1, other), 0));
	v->inos[2] = v->sizes[2] = 0;
	crash(v);
	expect_all(v);
	volume_remove(v);
}
END_TEST

TCase *full_volume_tests(void)
{
	TCase *tests = tcase_create("full volume");

	tcase_set_timeout(tests, 300);
	tcase_add_test(tests, smallest_volume_full_of_large_files);
	tcase_add_test(tests, smallest_volume_full_of_packed_files);
	tcase_add_test(tests, smallest_volume_full_of_tiny_files);
	tcase_add_test(tests, volume_full_of_one_file);
	tcase_add_test(tests, volume_full_of_packed_files);
	tcase_add_test(tests, full_volume_still_does_what_needs_no_space);
	return tests;
}
