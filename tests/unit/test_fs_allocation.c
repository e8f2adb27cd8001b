/*
 * fallocate: what is allocated is there for writes, reads as zeros, is counted, and goes
 * with what it belongs to.  Most tests end with the consistency walk, which holds the
 * counter of allocated blocks against all spans.
 */
#include "config.h"

#include <errno.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "check/check.h"
#include "fs/fs_internal.h"
#include "tests/support/support.h"
#include "tests/unit/test_fs_parts.h"

#define MIB (1024u * 1024)
#define SPAN (512u * 1024)

#define KEEP FALLOC_FL_KEEP_SIZE
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO FALLOC_FL_ZERO_RANGE

struct fs_attr test_attr(uint64_t ino)
{
	struct fs_attr attr;

	ck_ok(fs_getattr(FS, ino, &attr));
	return attr;
}

void test_set_size(uint64_t ino, uint64_t size)
{
	struct fs_attr attr = {.size = size};

	ck_ok(fs_setattr(FS, ino, FS_SET_SIZE, &attr, &attr));
}

void test_expect_zeros(uint64_t ino, uint64_t offset, size_t bytes)
{
	uint8_t *got = malloc(bytes + 1), *zeros = calloc(1, bytes + 1);

	ck_assert_uint_eq(test_read(FS, ino, offset, got, bytes), bytes);
	ck_assert_mem_eq(got, zeros, bytes);
	free(zeros);
	free(got);
}

void test_allocate(uint64_t ino, int mode, uint64_t offset, uint64_t bytes)
{
	ck_ok(fs_fallocate(FS, ino, mode, offset, bytes));
}

uint64_t test_used_blocks(void)
{
	struct space_counters counters;

	space_counters(FS->space, &counters);
	return counters.used_blocks;
}

void test_expect_claims(uint64_t recorded, uint64_t open)
{
	ck_assert_uint_eq(FS->reserve.recorded, recorded);
	ck_assert_uint_eq(FS->reserve.open, open);
	ck_assert_uint_eq(FS->reserve.coming, 0);
	/* Blocks written over have used some of it up; here there is enough for more. */
	ck_assert_uint_le(FS->reserve.data_held, FS->reserve.data_base + open);
	ck_ok(reserve_refill(FS));
	ck_assert_uint_eq(FS->reserve.data_held, FS->reserve.data_base + open);
}

static void print_finding(void *ctx, enum check_severity severity, const char *what)
{
	(void)ctx;
	if (severity != CHECK_NOTE)
		fprintf(stderr, "#   %s\n", what);
}

static void expect_clean(void)
{
	struct check_options options = {.with_data = true, .report = print_finding};
	struct device_options io = {.io = DEVICE_IO_SYNC, .lock_wait_ms = 5000};
	struct check_totals totals;
	struct device *device;

	ck_ok(device_open(test_volume.path, &io, &device));
	ck_ok(check_volume(device, &options, &totals));
	ck_assert_uint_eq(totals.damages + totals.leaks, 0);
}

void test_reopen_clean(void)
{
	ck_ok(fs_close(FS));
	expect_clean();
	test_volume_open(&test_volume);
}

void test_recover_clean(void)
{
	fs_abandon(FS);
	expect_clean();
	test_volume_open(&test_volume);
}

/* ---- records ---------------------------------------------------------------------- */

START_TEST(span_records_hold_claims_beside_blocks)
{
	uint64_t random = support_seed(5);
	uint8_t record[SPAN_RECORD_MAX];
	struct span_map map, back;

	for (int i = 0; i < 1000; i++) {
		uint64_t kinds = 1 + support_random_below(&random, 3);

		memset(&map, 0, sizeof(map));
		for (uint32_t b = 0; b < SPAN_BLOCKS; b++) {
			uint64_t kind = support_random_below(&random, kinds);

			if (kind == 0 || i == 0)
				map.block[b] = SPAN_CLAIMED;
			if (kind == 1 && i > 0) {
				map.block[b] = 1000 + support_random_below(&random, 2) * 500 + b;
				map.checksum[b] = (uint32_t)support_random(&random);
			}
		}
		ck_ok(span_decode(record, span_encode(&map, record), &back));
		ck_assert_mem_eq(&map, &back, sizeof(map));
	}
	memset(&map, 0, sizeof(map));
	for (uint32_t b = 0; b < SPAN_BLOCKS; b++)
		map.block[b] = SPAN_CLAIMED;
	ck_assert_uint_eq(span_encode(&map, record), sizeof(struct span_record) + sizeof(struct extent));
	ck_assert_uint_eq(span_run(&map, 3), SPAN_BLOCKS - 3);
}
END_TEST

static void put_counter(uint64_t count, uint32_t bytes)
{
	le64 value = to_le64(count);
	struct store_batch *batch;

	ck_ok(store_batch_create(FS->store, &batch));
	store_batch_put(batch, KEY_VOLUME_CLAIMS, sizeof(KEY_VOLUME_CLAIMS) - 1, &value, bytes);
	ck_ok(store_commit(FS->store, batch, NULL));
	store_batch_destroy(batch);
	test_volume_reopen(&test_volume);
}

/* What it says is not believed, and the volume can be used. */
START_TEST(damaged_counter_of_claims_stops_nobody)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

	test_allocate(ino, 0, 0, MIB);
	put_counter(1ull << 60, 8);
	test_expect_claims(0, 0);
	put_counter(256, 7);
	test_expect_claims(0, 0);
	put_counter(10, 8);
	ino = test_walk(FS, "f");
	test_write(FS, ino, 1, 0, MIB);
	ck_ok(fs_sync(FS));
	test_expect_claims(0, 0);
	test_reopen_clean();
	test_expect(FS, test_walk(FS, "f"), 1, 0, MIB);
}
END_TEST

/* ---- allocating ------------------------------------------------------------------- */

START_TEST(allocated_blocks_read_as_zeros_and_count)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");
	struct fs_statfs before, after;

	ck_ok(fs_statfs(FS, &before));
	test_allocate(ino, 0, 10000, 3 * MIB);
	ck_assert_uint_eq(test_attr(ino).size, 10000 + 3 * MIB);
	ck_assert_uint_eq(test_attr(ino).blocks, 8 * (3 * MIB / 4096 + 1));
	test_expect_zeros(ino, 0, 10000 + 3 * MIB);
	test_expect_claims(769, 769);
	ck_ok(fs_statfs(FS, &after));
	ck_assert_uint_eq(before.blocks_free - after.blocks_free, 769);
	ck_assert_uint_ge(before.blocks_available - after.blocks_available, 769);
	test_reopen_clean();
	test_expect_claims(769, 769);
	ino = test_walk(FS, "f");
	ck_assert_uint_eq(test_attr(ino).size, 10000 + 3 * MIB);
	ck_assert_uint_eq(test_attr(ino).blocks, 8 * 769);
	test_expect_zeros(ino, 0, 10000 + 3 * MIB);
	ck_ok(fs_statfs(FS, &after));
	ck_assert_uint_eq(before.blocks_free - after.blocks_free, 769);
}
END_TEST

START_TEST(allocation_may_lie_behind_the_end)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

	test_write(FS, ino, 1, 0, 5000);
	test_allocate(ino, KEEP, 0, 2 * MIB);
	ck_assert_uint_eq(test_attr(ino).size, 5000);
	ck_assert_uint_eq(test_attr(ino).blocks, 8 * 512);
	test_expect_claims(512, 510);
	ck_ok(fs_sync(FS));
	test_recover_clean();
	ino = test_walk(FS, "f");
	ck_assert_uint_eq(test_attr(ino).size, 5000);
	ck_assert_uint_eq(test_attr(ino).blocks, 8 * 512);
	test_expect(FS, ino, 1, 0, 5000);
	test_expect_claims(510, 510);
	/* Growing into it changes nothing of that. */
	test_write(FS, ino, 1, 5000, MIB);
	test_set_size(ino, 3 * MIB);
	test_expect(FS, ino, 1, 0, 5000 + MIB);
	test_expect_zeros(ino, 5000 + MIB, 3 * MIB - MIB - 5000);
	ck_assert_uint_eq(test_attr(ino).blocks, 8 * 512);
	ck_ok(fs_sync(FS));
	test_expect_claims(512 - 258, 512 - 258);
	test_reopen_clean();
	test_expect(FS, test_walk(FS, "f"), 1, 0, 5000 + MIB);
}
END_TEST

START_TEST(claims_are_made_use_of_once)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f"), used;

	test_allocate(ino, 0, 0, 4 * MIB);
	ck_ok(fs_sync(FS));
	used = test_used_blocks();
	test_write(FS, ino, 1, MIB, MIB);
	test_expect_claims(1024, 768);
	test_write(FS, ino, 2, MIB, MIB);
	test_expect_claims(1024, 768);
	ck_ok(fs_sync(FS));
	test_expect_claims(768, 768);
	ck_assert_uint_eq(test_used_blocks(), used + 256);
	test_write(FS, ino, 3, MIB + 100, MIB - 200);
	ck_ok(fs_sync(FS));
	test_expect_claims(768, 768);
	ck_assert_uint_eq(test_attr(ino).blocks, 8 * 1024);
	test_expect(FS, ino, 2, MIB, 100);
	test_expect(FS, ino, 3, MIB + 100, MIB - 200);
	test_allocate(ino, KEEP, 0, 4 * MIB); /* all there already */
	test_expect_claims(768, 768);
	test_reopen_clean();
	ino = test_walk(FS, "f");
	test_expect_zeros(ino, 0, MIB);
	test_expect(FS, ino, 3, MIB + 100, MIB - 200);
	test_expect_zeros(ino, 2 * MIB, 2 * MIB);
}
END_TEST

START_TEST(what_is_under_way_takes_no_space_twice)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

	test_write(FS, ino, 1, SPAN - 8192, 20000);
	test_allocate(ino, 0, 0, 2 * SPAN);
	ck_assert_uint_eq(test_attr(ino).blocks, 8 * 256);
	test_expect_claims(256, 251);
	ck_ok(fs_sync(FS));
	ck_assert_uint_eq(test_attr(ino).blocks, 8 * 256);
	test_expect_claims(251, 251);
	test_reopen_clean();
	test_expect(FS, test_walk(FS, "f"), 1, SPAN - 8192, 20000);
}
END_TEST

START_TEST(inline_data_stays_when_its_file_is_allocated)
{
	static const int modes[] = {0, KEEP, ZERO};

	for (size_t i = 0; i < ARRAY_COUNT(modes); i++) {
		char name[8];
		uint64_t ino;

		snprintf(name, sizeof(name), "f%zu", i);
		ino = test_file(FS, FS_ROOT_INO, name);
		test_write(FS, ino, 1, 0, 1000);
		test_allocate(ino, modes[i], 2000, 50000);
		test_expect(FS, ino, 1, 0, 1000);
		ck_assert_uint_eq(test_attr(ino).size, modes[i] & KEEP ? 1000 : 52000);
		ck_ok(fs_sync(FS));
		test_recover_clean();
		ino = test_walk(FS, name);
		test_expect(FS, ino, 1, 0, 1000);
		ck_assert_uint_eq(test_attr(ino).blocks, 8 * 13);
	}
}
END_TEST

START_TEST(more_than_there_is_changes_nothing)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");
	uint64_t used;

	test_write(FS, ino, 1, 0, 100000);
	ck_ok(fs_sync(FS));
	used = test_used_blocks();
	ck_assert_int_eq(fs_fallocate(FS, ino, 0, 0, TEST_VOLUME_BYTES), -ENOSPC);
	ck_assert_int_eq(fs_fallocate(FS, ino, KEEP, 4ull << 40, 1ull << 40), -ENOSPC);
	ck_assert_uint_eq(test_attr(ino).size, 100000);
	ck_assert_uint_eq(test_attr(ino).blocks, 8 * 25);
	ck_assert_uint_eq(test_used_blocks(), used);
	test_expect_claims(0, 0);
	test_reopen_clean();
}
END_TEST

START_TEST(allocation_answers_as_the_system_call_does)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");
	struct fs_attr fifo, device;

	ck_ok(fs_mknod(FS, FS_ROOT_INO, test_name("p"), S_IFIFO, 0, &test_cred, &fifo));
	ck_ok(fs_mknod(FS, FS_ROOT_INO, test_name("c"), S_IFCHR, 5, &test_cred, &device));
	ck_assert_int_eq(fs_fallocate(FS, FS_ROOT_INO, 0, 0, 1), -EISDIR);
	ck_assert_int_eq(fs_fallocate(FS, fifo.ino, 0, 0, 1), -ESPIPE);
	ck_assert_int_eq(fs_fallocate(FS, device.ino, 0, 0, 1), -ENODEV);
	ck_assert_int_eq(fs_fallocate(FS, 4711, 0, 0, 1), -ESTALE);
	ck_assert_int_eq(fs_fallocate(FS, ino, 0, 5, 0), -EINVAL);
	ck_assert_int_eq(fs_fallocate(FS, ino, 0, UINT64_MAX, 10), -EINVAL);
	ck_assert_int_eq(fs_fallocate(FS, ino, 0, 1, FS_FILE_MAX), -EFBIG);
	ck_assert_int_eq(fs_fallocate(FS, ino, KEEP, FS_FILE_MAX, 1), -EFBIG);
	ck_assert_int_eq(fs_fallocate(FS, ino, FALLOC_FL_PUNCH_HOLE, 0, 1), -EOPNOTSUPP);
	ck_assert_int_eq(fs_fallocate(FS, ino, PUNCH | ZERO, 0, 1), -EOPNOTSUPP);
	ck_assert_int_eq(fs_fallocate(FS, ino, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), -EOPNOTSUPP);
	ck_assert_int_eq(fs_fallocate(FS, ino, FALLOC_FL_INSERT_RANGE, 0, 4096), -EOPNOTSUPP);
	ck_assert_int_eq(fs_fallocate(FS, ino, FALLOC_FL_UNSHARE_RANGE, 0, 4096), -EOPNOTSUPP);
	ck_assert_uint_eq(test_attr(ino).size, 0);
	ck_assert_uint_eq(test_attr(ino).blocks, 0);
	ck_ok(fs_close(FS));
	test_volume.options.is_read_only = true;
	test_volume_open(&test_volume);
	ck_assert_int_eq(fs_fallocate(FS, test_walk(FS, "f"), 0, 0, 1), -EROFS);
}
END_TEST

START_TEST(every_mode_changes_the_times)
{
	static const int modes[] = {0, KEEP, ZERO, ZERO | KEEP, PUNCH};
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");
	struct fs_attr old = {.mtime.tv_sec = 1000, .ctime.tv_sec = 1000};

	for (unsigned content = 0; content < 3; content++) {
		for (size_t i = 0; i < ARRAY_COUNT(modes); i++) {
			ck_ok(fs_setattr(FS, ino, FS_SET_MTIME | FS_SET_CTIME, &old, NULL));
			test_allocate(ino, modes[i], 100, 3);
			ck_assert_int_gt(test_attr(ino).mtime.tv_sec, 1000);
			ck_assert_int_gt(test_attr(ino).ctime.tv_sec, 1000);
			ck_ok(fs_sync(FS));
			test_volume_recover(&test_volume);
			ino = test_walk(FS, "f");
			ck_assert_int_gt(test_attr(ino).mtime.tv_sec, 1000);
			ck_assert_int_gt(test_attr(ino).ctime.tv_sec, 1000);
		}
		test_write(FS, ino, 1, 0, content == 0 ? 500 : 50000);
	}
}
END_TEST

/* ---- giving back -------------------------------------------------------------------- */

START_TEST(truncation_gives_claims_back)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

	test_allocate(ino, 0, 0, 40 * MIB); /* more spans than one transaction deletes */
	test_write(FS, ino, 1, 0, 4096);
	ck_ok(fs_sync(FS));
	test_write(FS, ino, 1, 30 * MIB, MIB);
	test_set_size(ino, 20 * MIB + 1);
	test_expect_claims(20 * 256, 20 * 256);
	ck_assert_uint_eq(test_attr(ino).blocks, 8 * (20 * 256 + 1));
	test_reopen_clean();
	ino = test_walk(FS, "f");
	test_expect(FS, ino, 1, 0, 4096);
	test_set_size(ino, 0);
	test_expect_claims(0, 0);
	ck_assert_uint_eq(test_attr(ino).blocks, 0);
	test_reopen_clean();
}
END_TEST

START_TEST(truncation_to_the_same_size_gives_back_what_lies_behind)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

	test_write(FS, ino, 1, 0, 10000);
	test_allocate(ino, KEEP, 0, 5 * MIB);
	test_write(FS, ino, 1, 10000, 5000);
	test_set_size(ino, 15000);
	test_expect_claims(4, 0); /* under what is just written */
	ck_ok(fs_sync(FS));
	test_expect_claims(0, 0);
	ck_assert_uint_eq(test_attr(ino).blocks, 8 * 4);
	test_expect(FS, ino, 1, 0, 15000);
	test_reopen_clean();
	test_expect(FS, test_walk(FS, "f"), 1, 0, 15000);
}
END_TEST

/* Unlinked while unknown, known, and by a rename over it; of one span and of many. */
START_TEST(removal_gives_claims_back)
{
	static const uint64_t sizes[] = {100000, 30 * MIB};

	for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
		for (unsigned way = 0; way < 6; way++) {
			uint64_t ino = test_file(FS, FS_ROOT_INO, "f"), other;

			test_allocate(ino, KEEP, 0, sizes[i]);
			test_write(FS, ino, 1, 8192, 8192); /* pending over claims */
			if (way % 3 == 0)
				fs_forget(FS, ino, 1);
			if (way % 3 == 2) {
				other = test_file(FS, FS_ROOT_INO, "g");
				ck_ok(fs_rename(FS, FS_ROOT_INO, test_name("g"), FS_ROOT_INO,
				    test_name("f"), 0));
				fs_forget(FS, other, 1);
			}
			ck_ok(fs_unlink(FS, FS_ROOT_INO, test_name("f")));
			if (way >= 3)
				test_recover_clean();
			else if (way > 0)
				fs_forget(FS, ino, 1);
			test_expect_claims(0, 0);
		}
	}
	test_reopen_clean();
	test_expect_claims(0, 0);
}
END_TEST

START_TEST(unlinked_file_can_be_allocated)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

	test_write(FS, ino, 1, 0, 700);
	ck_ok(fs_unlink(FS, FS_ROOT_INO, test_name("f")));
	test_allocate(ino, 0, 0, 3 * MIB);
	test_write(FS, ino, 2, MIB, MIB);
	ck_ok(fs_sync(FS));
	test_allocate(ino, PUNCH, MIB + 100, 5000);
	test_expect(FS, ino, 1, 0, 700);
	test_expect(FS, ino, 2, MIB + 5100, MIB - 5100);
	test_expect_zeros(ino, MIB + 100, 5000);
	fs_forget(FS, ino, 1);
	test_expect_claims(0, 0);
	test_reopen_clean();
}
END_TEST

/* ---- threads ---------------------------------------------------------------------------------- */

#define THREADS 4

static void *change_at_random(void *arg)
{
	uint64_t random = *(uint64_t *)arg, ino = test_walk(FS, "f");
	uint8_t data[20000];
	struct fs_attr attr;

	memset(data, 0x5a, sizeof(data));
	for (int i = 0; i < 600; i++) {
		uint64_t offset = support_random_below(&random, 3 * MIB);
		uint64_t bytes = 1 + support_random_below(&random, i % 5 ? 20000 : MIB);
		int err = 0;

		switch (support_random_below(&random, 8)) {
		case 0:
			err = fs_fallocate(FS, ino, 0, offset, bytes);
			break;
		case 1:
			err = fs_fallocate(FS, ino, KEEP, offset, bytes);
			break;
		case 2:
			err = fs_fallocate(FS, ino, ZERO, offset, bytes);
			break;
		case 3:
			err = fs_fallocate(FS, ino, PUNCH, offset, bytes);
			break;
		case 4:
			attr.size = offset;
			err = fs_setattr(FS, ino, FS_SET_SIZE, &attr, &attr);
			break;
		case 5:
			err = fs_fsync(FS, ino, false);
			break;
		default:
			err = fs_write(FS, ino, offset, data, min_of(bytes, sizeof(data)), false, false);
		}
		ck_ok(err);
	}
	return NULL;
}

START_TEST(threads_leave_the_counts_right)
{
	uint64_t seeds[THREADS], seed = support_seed(7);
	pthread_t threads[THREADS];

	fs_forget(FS, test_file(FS, FS_ROOT_INO, "f"), 1);
	for (int i = 0; i < THREADS; i++) {
		seeds[i] = seed + (uint64_t)i + 1;
		ck_ok(pthread_create(&threads[i], NULL, change_at_random, &seeds[i]));
	}
	for (int i = 0; i < THREADS; i++)
		ck_ok(pthread_join(threads[i], NULL));
	ck_ok(fs_sync(FS));
	ck_assert_uint_eq(FS->reserve.recorded, FS->reserve.open);
	test_recover_clean();
	ck_ok(fs_unlink(FS, FS_ROOT_INO, test_name("f")));
	test_expect_claims(0, 0);
	test_reopen_clean();
}
END_TEST

TCase *test_fs_allocation(void)
{
	TCase *tests = tcase_create("allocation");

	tcase_add_checked_fixture(tests, test_fs_setup, test_fs_teardown);
	tcase_set_timeout(tests, 240);
	tcase_add_test(tests, span_records_hold_claims_beside_blocks);
	tcase_add_test(tests, damaged_counter_of_claims_stops_nobody);
	tcase_add_test(tests, allocated_blocks_read_as_zeros_and_count);
	tcase_add_test(tests, allocation_may_lie_behind_the_end);
	tcase_add_test(tests, claims_are_made_use_of_once);
	tcase_add_test(tests, what_is_under_way_takes_no_space_twice);
	tcase_add_test(tests, inline_data_stays_when_its_file_is_allocated);
	tcase_add_test(tests, more_than_there_is_changes_nothing);
	tcase_add_test(tests, allocation_answers_as_the_system_call_does);
	tcase_add_test(tests, every_mode_changes_the_times);
	tcase_add_test(tests, truncation_gives_claims_back);
	tcase_add_test(tests, truncation_to_the_same_size_gives_back_what_lies_behind);
	tcase_add_test(tests, removal_gives_claims_back);
	tcase_add_test(tests, unlinked_file_can_be_allocated);
	tcase_add_test(tests, threads_leave_the_counts_right);
	return tests;
}
