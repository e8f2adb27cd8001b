/*
 * Volumes without space: a write says so itself, nothing acknowledged is lost, and
 * removing makes room again, down to the smallest volume there may be.
 */
#include "config.h"

#include "tests/fault/fault.h"

#include <errno.h>
#include <linux/falloc.h>
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

/* ---- what was allocated before ------------------------------------------------------ */

/* Names and inline data until that does not fit either; the others are as they were. */
static void fill_names(struct volume *v)
{
	struct fs_attr attr;
	char name[32];
	int err = 0;

	for (uint32_t i = 0; err == 0; i++) {
		snprintf(name, sizeof(name), "name-%05u", i);
		err = fs_mknod(v->fs, FS_ROOT_INO, (struct fs_name){name, strlen(name)},
		    S_IFREG | 0644, 0, &cred, &attr);
		if (err == 0) {
			err = fs_write(v->fs, attr.ino, 0, name, sizeof(name), false, false);
			fs_forget(v->fs, attr.ino, 1);
		}
	}
	ck_assert_int_eq(err, -ENOSPC);
}

static bool are_coprime(uint64_t a, uint64_t b)
{
	while (b > 0) {
		uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a == 1;
}

/* Writes file 0 in pieces, in a random order; every one has to succeed. */
static void write_allocated(struct volume *v, uint64_t bytes, uint64_t piece, uint32_t sync_every)
{
	uint64_t pieces = bytes / piece, random = support_seed(3), step;
	uint8_t *data = malloc(piece);

	do
		step = 1 + support_random_below(&random, pieces);
	while (!are_coprime(step, pieces));
	for (uint64_t n = 0, at = 0; n < pieces; n++, at = (at + step) % pieces) {
		for (uint64_t k = 0; k < piece; k++)
			data[k] = byte_at(0, at * piece + k);
		ck_ok(fs_write(v->fs, v->inos[0], at * piece, data, piece, false, false));
		if (sync_every && n % sync_every == 0)
			ck_ok(fs_fsync(v->fs, v->inos[0], false));
	}
	free(data);
}

static void make_allocated(struct volume *v, uint64_t bytes)
{
	struct fs_attr attr;
	char buf[32];

	ck_ok(fs_mknod(v->fs, FS_ROOT_INO, name_of(0, buf), S_IFREG | 0644, 0, &cred, &attr));
	v->inos[0] = attr.ino;
	v->count = 1;
	ck_ok(fs_fallocate(v->fs, attr.ino, 0, 0, bytes));
}

/* Nothing fits, but what was allocated can be written; and written over; and so after
 * a crash and after a close. */
static void fill_beside_allocated(uint64_t volume_bytes, uint64_t bytes, uint64_t piece,
    uint32_t sync_every)
{
	struct volume *v = volume_make(volume_bytes);

	make_allocated(v, bytes);
	fill(v, 64 << 10, 32 << 10);
	fill_names(v);
	crash(v);
	write_allocated(v, bytes / 2, piece, sync_every);
	ck_ok(fs_sync(v->fs));
	reopen(v);
	write_allocated(v, bytes, piece, sync_every);
	v->sizes[0] = bytes / piece * piece;
	expect_all(v);
	write_allocated(v, bytes, piece, sync_every);
	crash(v);
	expect_all(v);
	write_allocated(v, bytes, 100 << 10, 0);
	expect_all(v);
	volume_remove(v);
}

START_TEST(allocated_blocks_are_there_on_the_smallest_full_volume)
{
	fill_beside_allocated(VOLUME_BYTES_MIN, 1 << 20, 4096, 1);
}
END_TEST

START_TEST(allocated_blocks_are_there_on_a_small_full_volume)
{
	fill_beside_allocated(24ull << 20, 3 << 20, 4096, 1);
}
END_TEST

START_TEST(allocated_blocks_are_there_for_parts_of_blocks)
{
	fill_beside_allocated(32ull << 20, 3 << 20, 1000, 7);
}
END_TEST

START_TEST(allocated_blocks_are_there_on_a_full_volume)
{
	fill_beside_allocated(64ull << 20, 20 << 20, 24 << 10, 11);
}
END_TEST

/* All there is: and then everything that takes no data goes on. */
START_TEST(volume_may_be_allocated_to_the_last_block)
{
	struct volume *v = volume_make(64ull << 20);
	struct fs_attr attr = {.mode = 0600, .size = 5 << 20};
	struct fs_name dir = {"dir", 3};
	struct fs_statfs statfs;
	uint64_t bytes = 0;
	int err = 0;

	make_allocated(v, 1 << 20);
	for (; err == 0; bytes += 1 << 20)
		err = fs_fallocate(v->fs, v->inos[0], 0, bytes, 1 << 20);
	ck_assert_int_eq(err, -ENOSPC);
	bytes -= 1 << 20;
	ck_assert_uint_ge(bytes, 30 << 20);
	ck_ok(fs_getattr(v->fs, v->inos[0], &attr));
	bytes = attr.size;
	ck_ok(fs_statfs(v->fs, &statfs));
	ck_assert_uint_le(statfs.blocks_available, 256);
	ck_ok(fs_mkdir(v->fs, FS_ROOT_INO, dir, 0755, &cred, &attr));
	attr.mode = 0600;
	ck_ok(fs_setattr(v->fs, attr.ino, FS_SET_MODE, &attr, &attr));
	fill(v, 64 << 10, 32 << 10);
	write_allocated(v, bytes, 60 << 10, 3);
	crash(v);
	write_allocated(v, bytes, 60 << 10, 50);
	v->sizes[0] = bytes / (60 << 10) * (60 << 10);
	reopen(v);
	expect_all(v);
	attr.size = 5 << 20;
	ck_ok(fs_setattr(v->fs, v->inos[0], FS_SET_SIZE, &attr, &attr));
	v->sizes[0] = 5 << 20;
	fill(v, 64 << 10, 32 << 10);
	expect_all(v);
	volume_remove(v);
}
END_TEST

/* Data is replaced by claims and the other way round, with nothing else free. */
START_TEST(full_volume_zeroes_and_punches)
{
	struct volume *v = volume_make(32ull << 20);
	int zero = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
	int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

	make_allocated(v, 4 << 20);
	fill(v, 64 << 10, 32 << 10);
	for (int round = 0; round < 3; round++) {
		write_allocated(v, 4 << 20, 64 << 10, 5);
		ck_ok(fs_fallocate(v->fs, v->inos[0], zero, 100, (4 << 20) - 100));
	}
	write_allocated(v, 4 << 20, 64 << 10, 0);
	ck_ok(fs_fallocate(v->fs, v->inos[0], punch, 100, (4 << 20) - 200));
	crash(v);
	fill(v, 64 << 10, 32 << 10);
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
	tcase_add_test(tests, allocated_blocks_are_there_on_the_smallest_full_volume);
	tcase_add_test(tests, allocated_blocks_are_there_on_a_small_full_volume);
	tcase_add_test(tests, allocated_blocks_are_there_for_parts_of_blocks);
	tcase_add_test(tests, allocated_blocks_are_there_on_a_full_volume);
	tcase_add_test(tests, volume_may_be_allocated_to_the_last_block);
	tcase_add_test(tests, full_volume_zeroes_and_punches);
	return tests;
}
