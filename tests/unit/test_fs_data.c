/*
 * File data: inline, in segments, on the device; holes, sizes, damage, lack of space.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "format/format.h"
#include "fs/fs_internal.h"
#include "tests/support/interrupted.h"
#include "tests/support/support.h"
#include "tests/unit/test_fs_parts.h"

#define MIB (1024u * 1024)

static uint64_t size_of(uint64_t ino)
{
	struct fs_attr attr;

	ck_ok(fs_getattr(FS, ino, &attr));
	return attr.size;
}

static void set_size(uint64_t ino, uint64_t size)
{
	struct fs_attr attr = {.size = size};

	ck_ok(fs_setattr(FS, ino, FS_SET_SIZE, &attr, &attr));
	ck_assert_uint_eq(attr.size, size);
}

static void expect_zeros(uint64_t ino, uint64_t offset, size_t bytes)
{
	uint8_t *got = malloc(bytes), *zeros = calloc(1, bytes);

	ck_assert_uint_eq(test_read(FS, ino, offset, got, bytes), bytes);
	ck_assert_mem_eq(got, zeros, bytes);
	free(zeros);
	free(got);
}

static struct space_counters space_now(void)
{
	struct space_counters counters;

	space_counters(FS->space, &counters);
	return counters;
}

/* ---- small files ----------------------------------------------------------------- */

START_TEST(tiny_files_take_no_blocks)
{
	uint64_t before = space_now().used_blocks;
	struct fs_attr attr;
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

	test_write(FS, ino, 1, 0, 3072);
	test_expect(FS, ino, 1, 0, 3072);
	ck_ok(fs_getattr(FS, ino, &attr));
	ck_assert_uint_eq(attr.blocks, 6);
	ck_ok(fs_fsync(FS, ino, false));
	ck_assert_uint_eq(space_now().used_blocks, before);
	ck_assert_uint_eq(atomic_load(&FS->segment_count), 0);
	test_volume_reopen(&test_volume);
	test_expect(FS, test_walk(FS, "f"), 1, 0, 3072);
}
END_TEST

START_TEST(tiny_file_grows_out_of_its_record)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

	test_write(FS, ino, 1, 0, 3000);
	test_write(FS, ino, 1, 3000, 3000);
	test_expect(FS, ino, 1, 0, 6000);
	ck_ok(fs_setattr(FS, ino, FS_SET_MODE, &(struct fs_attr){.mode = 0600}, NULL));
	test_expect(FS, ino, 1, 0, 6000);
	test_volume_reopen(&test_volume);
	test_expect(FS, test_walk(FS, "f"), 1, 0, 6000);
}
END_TEST

START_TEST(files_written_one_after_another_share_a_frame)
{
	uint64_t frame = 0;

	for (int i = 0; i < 10; i++) {
		char name[8];
		struct inode *inode;
		uint64_t ino;

		snprintf(name, sizeof(name), "f%d", i);
		ino = test_file(FS, FS_ROOT_INO, name);
		test_write(FS, ino, (uint64_t)i, 0, 10000);
		ck_ok(fs_fsync(FS, ino, false));
		ck_ok(inode_get(FS, ino, &inode));
		if (i == 0)
			frame = inode->spans[0]->map.block[0] / FRAME_BLOCKS;
		ck_assert_uint_eq(inode->spans[0]->map.block[2] / FRAME_BLOCKS, frame);
		inode_put(FS, inode);
	}
}
END_TEST

/* ---- blocks ------------------------------------------------------------------------ */

START_TEST(overwriting_takes_fresh_blocks_and_frees_old_ones)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");
	uint64_t used;

	test_write(FS, ino, 1, 0, 4 * MIB);
	ck_ok(fs_sync(FS));
	used = space_now().used_blocks;
	for (uint64_t i = 2; i < 6; i++) {
		test_write(FS, ino, i, MIB + 100, MIB + 5000);
		ck_ok(fs_sync(FS));
		test_expect(FS, ino, i, MIB + 100, MIB + 5000);
		ck_assert_uint_eq(space_now().used_blocks, used);
	}
	test_volume_reopen(&test_volume);
	ino = test_walk(FS, "f");
	test_expect(FS, ino, 1, 0, MIB + 100);
	test_expect(FS, ino, 5, MIB + 100, MIB + 5000);
	test_expect(FS, ino, 1, 2 * MIB + 5100, 2 * MIB - 5100);
}
END_TEST

static bool has_block(uint64_t ino, uint64_t block)
{
	struct inode *inode;
	bool has = false;

	ck_ok(inode_get(FS, ino, &inode));
	for (uint32_t s = 0; s < inode->span_count; s++)
		for (uint32_t i = 0; i < SPAN_BLOCKS; i++)
			has = has || inode->spans[s]->map.block[i] == block;
	inode_put(FS, inode);
	return has;
}

static uint64_t first_block(uint64_t ino, uint64_t span, uint32_t i)
{
	struct inode *inode;
	uint64_t block;

	ck_ok(inode_get(FS, ino, &inode));
	block = span_find(inode, span)->map.block[i];
	inode_put(FS, inode);
	return block;
}

/* The cached frame that pieces point into gets new data in their very blocks. */
START_TEST(pieces_stay_as_they_were_until_given_back)
{
	bool is_used_again = false;
	uint64_t block;
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f"), other;
	uint8_t want[8192];
	struct fs_read read;

	test_write(FS, ino, 1, 0, 8192);
	ck_ok(fs_sync(FS));
	test_volume_reopen(&test_volume);
	ino = test_walk(FS, "f");
	ck_ok(fs_read(FS, ino, 0, 8192, &read));
	ck_assert_uint_eq(read.count, 1);
	block = first_block(ino, 0, 0);
	ck_ok(fs_unlink(FS, FS_ROOT_INO, test_name("f")));
	fs_forget(FS, ino, 1);
	ck_ok(store_checkpoint(FS->store));
	for (int i = 0; i < 20 && !is_used_again; i++) {
		other = test_file(FS, FS_ROOT_INO, "other");
		test_write(FS, other, 2, 0, 38 * MIB + i * MIB / 8);
		ck_ok(fs_sync(FS));
		is_used_again = has_block(other, block);
		ck_ok(fs_unlink(FS, FS_ROOT_INO, test_name("other")));
		fs_forget(FS, other, 1);
		ck_ok(store_checkpoint(FS->store));
	}
	ck_assert(is_used_again);
	test_fill(want, 1, 0, sizeof(want));
	ck_assert_mem_eq(read.pieces[0].iov_base, want, sizeof(want));
	fs_read_done(FS, &read);
}
END_TEST

/* A thread that asks for the inode's lock while another reads. */
static struct {
	struct device *disk;
	struct inode *inode;
	pthread_t thread;
	_Atomic bool is_answered;
	bool was_answered; /* while the lock was held */
} rival;

static void *hold_lock(void *arg)
{
	struct inode *inode = arg;

	inode_lock(inode);
	for (unsigned i = 0; i < 200 && !rival.was_answered; i++) {
		usleep(10000);
		rival.was_answered = atomic_load(&rival.is_answered);
	}
	inode_unlock(inode);
	return NULL;
}

static void ask_for_lock(void)
{
	ck_ok(pthread_create(&rival.thread, NULL, hold_lock, rival.inode));
	usleep(100000);
}

static void open_interrupted(void)
{
	struct device_options options = {.io = DEVICE_IO_SYNC, .lock_wait_ms = 5000};
	struct device *device;

	ck_ok(fs_close(FS));
	ck_ok(device_open(test_volume.path, &options, &rival.disk));
	ck_ok(support_open_interrupted(rival.disk, &device));
	ck_ok(fs_open(device, &test_volume.options, &FS));
}

/* The one that has the lock may be waiting for what a reader holds. */
START_TEST(a_reader_that_holds_slots_does_not_wait_for_the_inode)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");
	struct inode *inode;
	struct fs_read read;

	test_write(FS, ino, 1, 0, MIB);
	ck_ok(fs_sync(FS));
	open_interrupted();
	ino = test_walk(FS, "f");
	ck_ok(inode_get(FS, ino, &inode));
	/* So that what it lies in is in memory: the rest is read under the lock. */
	ck_ok(fs_read(FS, ino, 0, 1, &read));
	fs_read_done(FS, &read);
	rival.inode = inode;
	support_interrupt = ask_for_lock;
	ck_ok(fs_read(FS, ino, 0, MIB, &read));
	ck_assert(!support_interrupt);
	ck_assert_uint_gt(read.slot_count, 0);
	atomic_store(&rival.is_answered, true);
	ck_ok(pthread_join(rival.thread, NULL));
	ck_assert(rival.was_answered);
	fs_read_done(FS, &read);
	inode_put(FS, inode);
	ck_ok(fs_close(FS));
	device_close(rival.disk);
	test_volume_open(&test_volume);
}
END_TEST

START_TEST(blocks_used_again_are_not_read_from_the_cache)
{
	for (uint64_t i = 0; i < 40; i++) {
		uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

		test_write(FS, ino, i, 0, 300000 + i * 5000);
		ck_ok(fs_sync(FS));
		test_expect(FS, ino, i, 0, 300000 + i * 5000);
		fs_forget(FS, ino, 1);
		ino = test_walk(FS, "f");
		test_expect(FS, ino, i, 0, 300000 + i * 5000);
		ck_ok(fs_unlink(FS, FS_ROOT_INO, test_name("f")));
		fs_forget(FS, ino, 1);
		ck_ok(store_checkpoint(FS->store));
	}
}
END_TEST

START_TEST(scattered_blocks_read_as_one_file)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");
	uint8_t *all = malloc(2 * MIB), *got = malloc(2 * MIB);

	test_fill(all, 1, 0, 2 * MIB);
	test_write(FS, ino, 1, 0, 2 * MIB);
	for (uint64_t block = 0; block < 512; block += 2) {
		test_fill(all + block * 4096, 2, block * 4096, 4096);
		test_write(FS, ino, 2, block * 4096, 4096);
		if (block % 64 == 0)
			ck_ok(fs_fsync(FS, ino, false));
	}
	ck_assert_uint_eq(test_read(FS, ino, 0, got, 2 * MIB), 2 * MIB);
	ck_assert_mem_eq(got, all, 2 * MIB);
	test_volume_reopen(&test_volume);
	ino = test_walk(FS, "f");
	ck_assert_uint_eq(test_read(FS, ino, 5, got, 2 * MIB), 2 * MIB - 5);
	ck_assert_mem_eq(got, all + 5, 2 * MIB - 5);
	free(all);
	free(got);
}
END_TEST

START_TEST(memory_for_unwritten_data_is_bounded)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

	for (uint64_t i = 0; i < 30; i++) {
		test_write(FS, ino, 1, i * MIB, MIB);
		ck_assert_uint_le(atomic_load(&FS->segment_count), FS->segment_limit + 3);
	}
	test_expect(FS, ino, 1, 0, 30 * MIB);
}
END_TEST

/* ---- holes and sizes ------------------------------------------------------------------ */

START_TEST(holes_read_as_zeros_and_take_nothing)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");
	struct fs_attr attr;

	test_write(FS, ino, 1, 5 * MIB + 10, 100);
	test_write(FS, ino, 1, FS_FILE_MAX - 100, 100);
	expect_zeros(ino, 0, 5 * MIB + 10);
	test_volume_reopen(&test_volume);
	ino = test_walk(FS, "f");
	ck_ok(fs_getattr(FS, ino, &attr));
	ck_assert_uint_eq(attr.size, FS_FILE_MAX);
	ck_assert_uint_eq(attr.blocks, 16);
	test_expect(FS, ino, 1, 5 * MIB + 10, 100);
	expect_zeros(ino, 5 * MIB + 110, 2 * MIB);
	test_expect(FS, ino, 1, FS_FILE_MAX - 100, 100);
	ck_assert_int_eq(fs_write(FS, ino, FS_FILE_MAX, "x", 1, false, false), -EFBIG);
	set_size(ino, 0);
	ck_ok(fs_sync(FS));
	ck_ok(fs_getattr(FS, ino, &attr));
	ck_assert_uint_eq(attr.blocks, 0);
}
END_TEST

/* For every kind of data: cut inside a block, grown again, the gap is zeros. */
START_TEST(what_was_cut_off_never_comes_back)
{
	static const size_t sizes[] = {2000, 5000, 100000, 600000, 1400000};
	static const size_t cuts[] = {0, 1, 1000, 4096, 4097, 50000, 524288, 524289, 1000001};

	for (size_t s = 0; s < ARRAY_COUNT(sizes); s++) {
		for (size_t c = 0; c < ARRAY_COUNT(cuts) && cuts[c] < sizes[s]; c++) {
			for (unsigned mode = 0; mode < 8; mode++) {
				uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

				test_write(FS, ino, 1, 0, sizes[s]);
				if (mode & 1)
					ck_ok(fs_sync(FS));
				set_size(ino, cuts[c]);
				if (mode & 2)
					ck_ok(fs_sync(FS));
				set_size(ino, sizes[s]);
				if (mode & 4)
					ck_ok(fs_sync(FS));
				test_expect(FS, ino, 1, 0, cuts[c]);
				expect_zeros(ino, cuts[c], sizes[s] - cuts[c]);
				ck_ok(fs_unlink(FS, FS_ROOT_INO, test_name("f")));
				fs_forget(FS, ino, 1);
			}
		}
	}
}
END_TEST

START_TEST(appending_goes_to_the_end)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");
	uint8_t data[700];

	for (uint64_t i = 0; i < 100; i++) {
		test_fill(data, 1, i * 700, 700);
		ck_ok(fs_write(FS, ino, 0, data, 700, true, i % 10 == 0));
	}
	ck_assert_uint_eq(size_of(ino), 70000);
	test_expect(FS, ino, 1, 0, 70000);
}
END_TEST

START_TEST(large_truncation_frees_everything)
{
	uint64_t before = space_now().used_blocks;
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

	for (uint64_t i = 0; i < 300; i++) /* one span each: many transactions' worth */
		test_write(FS, ino, 1, i * 512 * 1024, 5000);
	ck_ok(fs_sync(FS));
	ck_assert_uint_eq(space_now().used_blocks, before + 600);
	set_size(ino, 512 * 1024 * 10 + 100);
	ck_ok(fs_sync(FS));
	ck_assert_uint_eq(space_now().used_blocks, before + 21);
	set_size(ino, 512 * 1024 * 300);
	expect_zeros(ino, 512 * 1024 * 10 + 100, 5000);
	test_expect(FS, ino, 1, 512 * 1024 * 9, 5000);
	set_size(ino, 0);
	ck_ok(fs_sync(FS));
	ck_assert_uint_eq(space_now().used_blocks, before);
}
END_TEST

/* ---- damage and lack of space ----------------------------------------------------------- */

static char last_error[300];

static void keep_error(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	if (level == LOG_LEVEL_ERROR)
		snprintf(last_error, sizeof(last_error), "%s", line);
}

static void damage_block(uint64_t block)
{
	uint8_t *buf = aligned_alloc(4096, 4096);

	ck_ok(device_read(FS->device, buf, 4096, block * 4096));
	buf[77] ^= 4;
	ck_ok(device_write(FS->device, buf, 4096, block * 4096));
	free(buf);
}

START_TEST(damaged_data_is_an_error_that_names_file_and_place)
{
	uint64_t dir = test_dir(FS, FS_ROOT_INO, "dir");
	uint64_t small = test_file(FS, dir, "small"), large = test_file(FS, dir, "large");
	struct fs_read read;
	char place[100];

	log_set_sink(keep_error, NULL);
	test_write(FS, small, 1, 0, 20000);
	test_write(FS, large, 2, 0, 2 * MIB);
	ck_ok(fs_sync(FS));
	snprintf(place, sizeof(place), "/dir/large: damaged data at offset %u, disk block %llu",
	    MIB + 4096, (unsigned long long)first_block(large, 2, 1));
	damage_block(first_block(large, 2, 1));
	damage_block(first_block(small, 0, 3));
	test_volume_reopen(&test_volume);
	large = test_walk(FS, "dir/large");
	ck_assert_int_eq(fs_read(FS, large, MIB, 20000, &read), -EIO);
	ck_assert_ptr_nonnull(strstr(last_error, place));
	test_expect(FS, large, 2, 0, MIB + 4096);
	test_expect(FS, large, 2, MIB + 8192, MIB - 8192);
	small = test_walk(FS, "dir/small");
	ck_assert_int_eq(fs_read(FS, small, 0, 20000, &read), -EIO);
	ck_assert_ptr_nonnull(strstr(last_error, "/dir/small: damaged data at offset 12288"));
	test_expect(FS, small, 1, 0, 12288);
	/* Half a block cannot be replaced when the other half is not known. */
	ck_assert_int_eq(fs_write(FS, small, 12300, "x", 1, false, false), -EIO);
	test_write(FS, small, 3, 12288, 4096);
	test_expect(FS, small, 3, 12288, 4096);
}
END_TEST

START_TEST(full_volume_answers_the_write)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f"), written = 0;
	uint8_t *data = malloc(MIB);
	int err = 0;

	while (err == 0) {
		test_fill(data, 1, written, MIB);
		err = fs_write(FS, ino, written, data, MIB, false, false);
		written += err == 0 ? MIB : 0;
	}
	ck_assert_int_eq(err, -ENOSPC);
	ck_assert_uint_gt(written, TEST_VOLUME_BYTES / 2);
	ck_ok(fs_fsync(FS, ino, false));
	test_expect(FS, ino, 1, 0, written);
	ck_ok(fs_unlink(FS, FS_ROOT_INO, test_name("f")));
	fs_forget(FS, ino, 1);
	ino = test_file(FS, FS_ROOT_INO, "g");
	test_write(FS, ino, 2, 0, written);
	ck_ok(fs_sync(FS));
	test_volume_reopen(&test_volume);
	test_expect(FS, test_walk(FS, "g"), 2, 0, written);
	free(data);
}
END_TEST

START_TEST(only_regular_files_have_data)
{
	uint64_t dir = test_dir(FS, FS_ROOT_INO, "d");
	struct fs_attr attr = {0};
	struct fs_read read;

	ck_assert_int_eq(fs_read(FS, dir, 0, 10, &read), -EISDIR);
	ck_assert_int_eq(fs_write(FS, dir, 0, "x", 1, false, false), -EISDIR);
	ck_assert_int_eq(fs_setattr(FS, dir, FS_SET_SIZE, &attr, NULL), -EISDIR);
	ck_ok(fs_mknod(FS, FS_ROOT_INO, test_name("p"), S_IFIFO, 0, &test_cred, &attr));
	ck_assert_int_eq(fs_read(FS, attr.ino, 0, 10, &read), -EINVAL);
	ck_assert_int_eq(fs_read(FS, 99999, 0, 10, &read), -ESTALE);
}
END_TEST

TCase *test_fs_data(void)
{
	TCase *tests = tcase_create("data");

	tcase_add_checked_fixture(tests, test_fs_setup, test_fs_teardown);
	tcase_set_timeout(tests, 120);
	tcase_add_test(tests, tiny_files_take_no_blocks);
	tcase_add_test(tests, tiny_file_grows_out_of_its_record);
	tcase_add_test(tests, files_written_one_after_another_share_a_frame);
	tcase_add_test(tests, overwriting_takes_fresh_blocks_and_frees_old_ones);
	tcase_add_test(tests, pieces_stay_as_they_were_until_given_back);
	tcase_add_test(tests, a_reader_that_holds_slots_does_not_wait_for_the_inode);
	tcase_add_test(tests, blocks_used_again_are_not_read_from_the_cache);
	tcase_add_test(tests, scattered_blocks_read_as_one_file);
	tcase_add_test(tests, memory_for_unwritten_data_is_bounded);
	tcase_add_test(tests, holes_read_as_zeros_and_take_nothing);
	tcase_add_test(tests, what_was_cut_off_never_comes_back);
	tcase_add_test(tests, appending_goes_to_the_end);
	tcase_add_test(tests, large_truncation_frees_everything);
	tcase_add_test(tests, damaged_data_is_an_error_that_names_file_and_place);
	tcase_add_test(tests, full_volume_answers_the_write);
	tcase_add_test(tests, only_regular_files_have_data);
	return tests;
}
