/*
 * What is there after the process died, or the power went: what was synced, orphans
 * gone, nothing that was not written; and device errors after the acknowledgement.
 *
 * The power-cut tests run a script on a recording device and look at the volume for
 * cuts before each of its events, with several subsets of the unflushed writes.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/device_test.h"
#include "fs/fs_internal.h"
#include "tests/support/support.h"
#include "tests/unit/test_fs_parts.h"

#define DEVICE_BYTES (24ull * 1024 * 1024)
#define SUBSETS 3

static uint64_t used_blocks(void)
{
	struct space_counters counters;

	space_counters(FS->space, &counters);
	return counters.used_blocks;
}

START_TEST(synced_file_and_its_name_survive)
{
	uint64_t dir = test_dir(FS, FS_ROOT_INO, "d");
	uint64_t tiny = test_file(FS, dir, "tiny"), large = test_file(FS, dir, "large");

	test_write(FS, tiny, 1, 0, 100);
	test_write(FS, large, 2, 0, 3000000);
	ck_ok(fs_fsync(FS, tiny, false));
	ck_ok(fs_fsync(FS, large, true));
	test_volume_recover(&test_volume);
	test_expect(FS, test_walk(FS, "d/tiny"), 1, 0, 100);
	test_expect(FS, test_walk(FS, "d/large"), 2, 0, 3000000);
}
END_TEST

START_TEST(synchronous_write_needs_no_fsync)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");
	uint8_t data[9000];

	test_fill(data, 1, 0, sizeof(data));
	ck_ok(fs_write(FS, ino, 0, data, sizeof(data), false, true));
	test_volume_recover(&test_volume);
	test_expect(FS, test_walk(FS, "f"), 1, 0, sizeof(data));
}
END_TEST

START_TEST(unsynced_data_is_absent_not_garbage)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f"), size;
	struct fs_attr attr;

	test_write(FS, ino, 1, 0, 50000);
	ck_ok(fs_fsync(FS, ino, false));
	test_write(FS, ino, 2, 50000, 600000);
	ck_ok(fs_setattr(FS, ino, FS_SET_MODE, &(struct fs_attr){.mode = 0600}, &attr));
	ck_ok(fs_setattr(FS, ino, FS_SET_SIZE, &(struct fs_attr){.size = 2000000}, &attr));
	/* Another file's fsync makes the chmod durable, and the size must not come
	 * along without the data. */
	ck_ok(fs_fsync(FS, test_file(FS, FS_ROOT_INO, "g"), false));
	test_volume_recover(&test_volume);
	ino = test_walk(FS, "f");
	ck_ok(fs_getattr(FS, ino, &attr));
	ck_assert_uint_eq(attr.mode, S_IFREG | 0600);
	size = attr.size;
	ck_assert_uint_eq(size, 50000);
	test_expect(FS, ino, 1, 0, 50000);
}
END_TEST

START_TEST(replacing_a_file_by_rename_keeps_one_of_them)
{
	uint64_t new;
	struct fs_attr attr;

	test_write(FS, test_file(FS, FS_ROOT_INO, "f"), 1, 0, 20000);
	ck_ok(fs_sync(FS));
	new = test_file(FS, FS_ROOT_INO, "f.new");
	test_write(FS, new, 2, 0, 30000);
	ck_ok(fs_rename(FS, FS_ROOT_INO, test_name("f.new"), FS_ROOT_INO, test_name("f"), 0));
	ck_ok(fs_fsync(FS, test_file(FS, FS_ROOT_INO, "other"), false));
	test_volume_recover(&test_volume);
	ck_ok(fs_getattr(FS, test_walk(FS, "f"), &attr));
	ck_assert_uint_eq(attr.size, 30000);
	test_expect(FS, test_walk(FS, "f"), 2, 0, 30000);
}
END_TEST

START_TEST(unlinked_files_are_removed_by_the_next_open)
{
	uint64_t before = used_blocks(), ino;

	for (int i = 0; i < 3; i++) {
		ino = test_file(FS, FS_ROOT_INO, "f");
		test_write(FS, ino, 1, 0, i == 0 ? 100 : 20000);
		if (i == 2)
			for (uint64_t s = 0; s < 100; s++)
				test_write(FS, ino, 1, s * 524288, 4096);
		ck_ok(fs_fsync(FS, ino, false));
		ck_ok(fs_unlink(FS, FS_ROOT_INO, test_name("f")));
	}
	ck_ok(fs_sync(FS));
	ck_assert_uint_gt(used_blocks(), before);
	test_volume_recover(&test_volume);
	ck_assert_uint_eq(used_blocks(), before);
}
END_TEST

START_TEST(close_leaves_no_orphan_behind)
{
	uint64_t before = used_blocks();
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

	test_write(FS, ino, 1, 0, 3000000);
	ck_ok(fs_unlink(FS, FS_ROOT_INO, test_name("f")));
	test_write(FS, ino, 1, 3000000, 10000);
	test_expect(FS, ino, 1, 0, 3010000);
	test_volume_reopen(&test_volume);
	ck_assert_uint_eq(used_blocks(), before);
}
END_TEST

/* ---- power cuts ---------------------------------------------------------------------- */

struct script {
	/* event counts at which the step's promise had been given */
	uint32_t synced_tiny, synced_large, replaced, synced_all;
	struct device *device;
};

static struct fs *open_on(struct device *device)
{
	struct fs_options options = {.no_threads = true, .cache_bytes = TEST_CACHE_BYTES};
	struct fs *fs;

	ck_ok(fs_open(device, &options, &fs));
	return fs;
}

static void run_script(struct fs *fs, struct script *s)
{
	uint64_t dir, tiny, large, other;

	dir = test_dir(fs, FS_ROOT_INO, "d");
	tiny = test_file(fs, dir, "tiny");
	test_write(fs, tiny, 1, 0, 1000);
	ck_ok(fs_fsync(fs, tiny, false));
	s->synced_tiny = recording_event_count(s->device);
	large = test_file(fs, dir, "large");
	test_write(fs, large, 2, 0, 700000);
	ck_ok(fs_fsync(fs, large, false));
	s->synced_large = recording_event_count(s->device);
	test_write(fs, large, 2, 700000, 100000);
	other = test_file(fs, dir, "tiny.new");
	test_write(fs, other, 3, 0, 9000);
	ck_ok(fs_rename(fs, dir, test_name("tiny.new"), dir, test_name("tiny"), 0));
	ck_ok(fs_rename(fs, FS_ROOT_INO, test_name("d"), FS_ROOT_INO, test_name("e"), 0));
	ck_ok(store_checkpoint(fs->store));
	ck_ok(fs_fsync(fs, other, false));
	s->replaced = recording_event_count(s->device);
	ck_ok(fs_unlink(fs, dir, test_name("large")));
	ck_ok(fs_fsync(fs, FS_ROOT_INO, false));
	s->synced_all = recording_event_count(s->device);
}

static uint64_t find(struct fs *fs, uint64_t parent, const char *name, uint64_t *ret_size)
{
	struct fs_attr attr;
	int err = fs_lookup(fs, parent, test_name(name), &attr);

	if (err < 0)
		ck_assert_int_eq(err, -ENOENT);
	*ret_size = err < 0 ? 0 : attr.size;
	return err < 0 ? 0 : attr.ino;
}

static void check_cut(const struct script *s, uint32_t cut, struct fs *fs)
{
	uint64_t size, dir = find(fs, FS_ROOT_INO, "d", &size), ino;
	bool was_renamed = dir == 0;

	if (dir == 0)
		dir = find(fs, FS_ROOT_INO, "e", &size);
	if (cut >= s->replaced)
		ck_assert(was_renamed);
	if (dir == 0) {
		ck_assert_uint_lt(cut, s->synced_tiny);
		return;
	}
	ino = find(fs, dir, "tiny", &size);
	if (cut >= s->synced_tiny) {
		ck_assert_uint_ne(ino, 0);
		ck_assert(size == 1000 || size == 9000);
	}
	if (cut >= s->replaced || was_renamed)
		ck_assert_uint_eq(size, 9000);
	if (size > 0)
		test_expect(fs, ino, size == 9000 ? 3 : 1, 0, size);
	ino = find(fs, dir, "large", &size);
	if (cut >= s->synced_large && cut < s->replaced)
		ck_assert_uint_ge(size, 700000);
	if (cut >= s->synced_all)
		ck_assert_uint_eq(ino, 0);
	if (size > 0)
		test_expect(fs, ino, 2, 0, size);
	/* And it goes on working. */
	test_write(fs, test_file(fs, dir, "later"), 4, 0, 50000);
	ck_ok(fs_sync(fs));
}

START_TEST(power_cuts_keep_what_was_promised)
{
	struct fs_format_options format = {.uuid = "fedcba987654321"};
	struct script s = {0};
	struct fs *fs;
	uint32_t events;

	ck_ok(device_open_recording(DEVICE_BYTES, &s.device));
	ck_ok(fs_format(s.device, &format));
	recording_restart(s.device);
	fs = open_on(s.device);
	run_script(fs, &s);
	events = recording_event_count(s.device);
	for (uint32_t cut = 0; cut <= events; cut++) {
		for (uint64_t subset = 0; subset < SUBSETS; subset++) {
			uint64_t seed = subset == 0 ? 0 : subset == 1 ? UINT64_MAX : cut + 1;
			struct device *device;
			struct fs *after;

			ck_ok(recording_cut(s.device, cut, seed,
			    cut % 2 ? RECORDING_TEAR_512 : RECORDING_TEAR_4096, &device));
			after = open_on(device);
			check_cut(&s, cut, after);
			ck_ok(fs_close(after));
		}
	}
	fs_abandon(fs);
}
END_TEST

/* ---- device errors --------------------------------------------------------------------- */

START_TEST(write_error_is_reported_by_fsync_and_stops_changes)
{
	struct fs_format_options format = {.uuid = "fedcba987654321"};
	struct faulty_plan plan = {.fail_write_at = 1, .is_sticky = true, .error = -EIO};
	struct device *memory, *device;
	struct fs_attr attr;
	struct fs *fs;
	uint64_t ino;

	ck_ok(device_open_memory(DEVICE_BYTES, &memory));
	ck_ok(device_open_faulty(memory, &device));
	ck_ok(fs_format(device, &format));
	fs = open_on(device);
	ino = test_file(fs, FS_ROOT_INO, "f");
	test_write(fs, ino, 1, 0, 50000);
	faulty_set_plan(device, &plan);
	ck_assert_int_eq(fs_fsync(fs, ino, false), -EIO);
	ck_assert_int_eq(fs_fsync(fs, ino, false), -EIO);
	ck_assert_int_eq(fs_error(fs), -EIO);
	ck_assert_int_eq(fs_write(fs, ino, 0, "x", 1, false, false), -EROFS);
	ck_assert_int_eq(fs_mkdir(fs, FS_ROOT_INO, test_name("d"), 0755, &test_cred, &attr),
	    -EROFS);
	test_expect(fs, ino, 1, 0, 50000);
	ck_assert_int_ne(fs_close(fs), 0);
}
END_TEST

START_TEST(open_that_fails_leaves_the_device_to_its_caller)
{
	const struct fs_options options = {.no_threads = true, .cache_bytes = TEST_CACHE_BYTES};
	const struct fs_format_options format = {.label = "test"};
	const struct store_options plain = {.no_threads = true, .keep_device = true};
	struct device *device;
	struct store *store;
	struct fs *fs = NULL;

	ck_ok(device_open_memory(64 << 20, &device));
	ck_ok(fs_format(device, &format));
	ck_ok(store_open(device, &plain, &store));
	ck_ok(store_delete(store, KEY_ROOT_INODE, 1, NULL, NULL));
	ck_ok(store_close(store));
	ck_assert_int_eq(fs_open(device, &options, &fs), -EUCLEAN);
	ck_assert_ptr_null(fs);
	/* It is there, and to be closed. */
	ck_assert_uint_eq(device_bytes(device), 64 << 20);
	device_close(device);
}
END_TEST

TCase *test_fs_recovery(void)
{
	TCase *tests = tcase_create("recovery");

	tcase_add_checked_fixture(tests, test_fs_setup, test_fs_teardown);
	tcase_set_timeout(tests, 180);
	tcase_add_test(tests, synced_file_and_its_name_survive);
	tcase_add_test(tests, synchronous_write_needs_no_fsync);
	tcase_add_test(tests, unsynced_data_is_absent_not_garbage);
	tcase_add_test(tests, replacing_a_file_by_rename_keeps_one_of_them);
	tcase_add_test(tests, unlinked_files_are_removed_by_the_next_open);
	tcase_add_test(tests, close_leaves_no_orphan_behind);
	tcase_add_test(tests, power_cuts_keep_what_was_promised);
	tcase_add_test(tests, open_that_fails_leaves_the_device_to_its_caller);
	tcase_add_test(tests, write_error_is_reported_by_fsync_and_stops_changes);
	return tests;
}
