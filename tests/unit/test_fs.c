/*
 * Files and directories: names, attributes, life of inodes.  Each test has a volume in
 * a temporary file, small, without threads; data, listings and recovery have files of
 * their own (test_fs_*.c).
 */
#include "config.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>

#include "tests/support/support.h"
#include "tests/unit/test_fs.h"
#include "tests/unit/test_fs_parts.h"

struct test_volume test_volume;

void test_fs_setup(void)
{
	test_volume_make(&test_volume, TEST_VOLUME_BYTES);
}

void test_fs_teardown(void)
{
	test_volume_remove(&test_volume);
}

static int unlink_name(uint64_t parent, const char *name)
{
	return fs_unlink(FS, parent, test_name(name));
}

static int rename_name(uint64_t from, const char *name, uint64_t to, const char *new_name)
{
	return fs_rename(FS, from, test_name(name), to, test_name(new_name), 0);
}

static struct fs_attr attr_of(uint64_t ino)
{
	struct fs_attr attr;

	ck_ok(fs_getattr(FS, ino, &attr));
	return attr;
}

/* ---- creating and looking up ---------------------------------------------------- */

START_TEST(root_is_an_empty_directory)
{
	struct fs_attr attr = attr_of(FS_ROOT_INO);

	ck_assert_uint_eq(attr.mode, S_IFDIR | 0755);
	ck_assert_uint_eq(attr.nlink, 2);
	ck_assert_uint_eq(attr.size, 0);
}
END_TEST

START_TEST(what_is_created_is_found_with_its_attributes)
{
	struct fs_attr made, found;

	ck_ok(fs_mknod(FS, FS_ROOT_INO, test_name("disk"), S_IFBLK | 0666, 0x801,
	    &test_cred, &made));
	ck_ok(fs_lookup(FS, FS_ROOT_INO, test_name("disk"), &found));
	ck_assert_mem_eq(&made, &found, sizeof(made));
	ck_assert_uint_eq(found.mode, S_IFBLK | 0644); /* umask 022 */
	ck_assert_uint_eq(found.rdev, 0x801);
	ck_assert_uint_eq(found.uid, 1000);
	ck_assert_uint_eq(found.nlink, 1);
	ck_assert_int_eq(fs_lookup(FS, FS_ROOT_INO, test_name("dis"), &found), -ENOENT);
	ck_assert_int_eq(fs_lookup(FS, made.ino, test_name("x"), &found), -ENOTDIR);
}
END_TEST

START_TEST(attributes_are_kept_by_the_volume)
{
	struct fs_attr before, after, wanted = {
	    .mode = 04711, .uid = 7, .gid = 8,
	    .atime = {-5, 1}, .mtime = {1ll << 33, 999999999},
	};
	uint64_t ino = test_file(FS, test_dir(FS, FS_ROOT_INO, "d"), "f");

	ck_ok(fs_setattr(FS, ino,
	    FS_SET_MODE | FS_SET_UID | FS_SET_GID | FS_SET_ATIME | FS_SET_MTIME,
	    &wanted, &before));
	test_volume_reopen(&test_volume);
	after = attr_of(test_walk(FS, "d/f"));
	ck_assert_mem_eq(&before, &after, sizeof(before));
	ck_assert_uint_eq(after.mode, S_IFREG | 04711);
	ck_assert_int_eq(after.atime.tv_sec, -5);
	ck_assert_int_eq(after.mtime.tv_sec, 1ll << 33);
}
END_TEST

START_TEST(times_out_of_range_are_refused)
{
	struct fs_attr wanted = {.mtime = {1, 1000000000}};
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

	ck_assert_int_eq(fs_setattr(FS, ino, FS_SET_MTIME, &wanted, NULL), -EINVAL);
}
END_TEST

START_TEST(existing_name_is_not_created_again)
{
	struct fs_attr attr;

	test_file(FS, FS_ROOT_INO, "f");
	ck_assert_int_eq(fs_mkdir(FS, FS_ROOT_INO, test_name("f"), 0755, &test_cred, &attr),
	    -EEXIST);
	ck_assert_uint_eq(attr_of(FS_ROOT_INO).nlink, 2);
}
END_TEST

START_TEST(names_are_checked)
{
	char longest[257];
	struct fs_attr attr;

	memset(longest, 'x', 256);
	longest[256] = 0;
	ck_assert_int_eq(fs_mknod(FS, FS_ROOT_INO, test_name(longest), S_IFREG, 0, &test_cred,
	    &attr), -ENAMETOOLONG);
	ck_ok(fs_mknod(FS, FS_ROOT_INO, test_name(longest + 1), S_IFREG, 0, &test_cred, &attr));
	ck_assert_int_eq(fs_mknod(FS, FS_ROOT_INO, test_name(""), S_IFREG, 0, &test_cred,
	    &attr), -EINVAL);
	ck_assert_int_eq(fs_mknod(FS, FS_ROOT_INO, test_name("a/b"), S_IFREG, 0, &test_cred,
	    &attr), -EINVAL);
	ck_assert_int_eq(fs_mknod(FS, FS_ROOT_INO, (struct fs_name){"a\0b", 3}, S_IFREG, 0,
	    &test_cred, &attr), -EINVAL);
	ck_assert_int_eq(unlink_name(FS_ROOT_INO, ".."), -EINVAL);
}
END_TEST

START_TEST(names_hold_any_other_byte)
{
	char name[2] = {0};

	for (int byte = 1; byte < 256; byte++) {
		name[0] = (char)byte;
		if (byte != '/' && byte != '.')
			test_file(FS, test_dir(FS, FS_ROOT_INO, name), name);
	}
	test_volume_reopen(&test_volume);
	for (int byte = 1; byte < 256; byte++) {
		char path[4] = {(char)byte, '/', (char)byte, 0};

		if (byte != '/' && byte != '.')
			test_walk(FS, path);
	}
}
END_TEST

START_TEST(set_group_id_directories_hand_their_group_down)
{
	struct fs_attr attr = {.mode = 02755, .gid = 42};
	uint64_t dir = test_dir(FS, FS_ROOT_INO, "d");

	ck_ok(fs_setattr(FS, dir, FS_SET_MODE | FS_SET_GID, &attr, NULL));
	attr = attr_of(test_file(FS, dir, "f"));
	ck_assert_uint_eq(attr.gid, 42);
	ck_assert_uint_eq(attr.mode, S_IFREG | 0644);
	attr = attr_of(test_dir(FS, dir, "sub"));
	ck_assert_uint_eq(attr.gid, 42);
	ck_assert_uint_eq(attr.mode, S_IFDIR | 02755);
}
END_TEST

START_TEST(symlinks_keep_targets_up_to_the_longest)
{
	char target[FS_SYMLINK_MAX + 2], got[FS_SYMLINK_MAX + 1];
	struct fs_attr attr;

	memset(target, 't', sizeof(target));
	target[FS_SYMLINK_MAX + 1] = 0;
	ck_assert_int_eq(fs_symlink(FS, FS_ROOT_INO, test_name("l"), target, &test_cred, &attr),
	    -ENAMETOOLONG);
	target[FS_SYMLINK_MAX] = 0;
	ck_ok(fs_symlink(FS, FS_ROOT_INO, test_name("l"), target, &test_cred, &attr));
	ck_assert_uint_eq(attr.size, FS_SYMLINK_MAX);
	ck_assert_uint_eq(attr.mode, S_IFLNK | 0777);
	test_volume_reopen(&test_volume);
	ck_assert_int_eq(fs_readlink(FS, test_walk(FS, "l"), got, sizeof(got)), FS_SYMLINK_MAX);
	ck_assert_mem_eq(got, target, FS_SYMLINK_MAX);
	ck_assert_int_eq(fs_readlink(FS, FS_ROOT_INO, got, sizeof(got)), -EINVAL);
}
END_TEST

/* ---- removing ----------------------------------------------------------------------- */

START_TEST(removal_asks_for_the_right_kind)
{
	uint64_t dir = test_dir(FS, FS_ROOT_INO, "d");

	test_file(FS, dir, "f");
	ck_assert_int_eq(unlink_name(FS_ROOT_INO, "d"), -EISDIR);
	ck_assert_int_eq(fs_rmdir(FS, dir, test_name("f")), -ENOTDIR);
	ck_assert_int_eq(fs_rmdir(FS, FS_ROOT_INO, test_name("d")), -ENOTEMPTY);
	ck_assert_int_eq(unlink_name(dir, "g"), -ENOENT);
	ck_ok(unlink_name(dir, "f"));
	ck_ok(fs_rmdir(FS, FS_ROOT_INO, test_name("d")));
	ck_assert_int_eq(fs_rmdir(FS, FS_ROOT_INO, test_name("d")), -ENOENT);
}
END_TEST

START_TEST(link_counts_follow_subdirectories)
{
	uint64_t dir = test_dir(FS, FS_ROOT_INO, "d");

	test_dir(FS, dir, "a");
	test_dir(FS, dir, "b");
	ck_assert_uint_eq(attr_of(dir).nlink, 4);
	ck_ok(fs_rmdir(FS, dir, test_name("a")));
	ck_assert_uint_eq(attr_of(dir).nlink, 3);
	ck_ok(rename_name(dir, "b", FS_ROOT_INO, "b"));
	ck_assert_uint_eq(attr_of(dir).nlink, 2);
	ck_assert_uint_eq(attr_of(FS_ROOT_INO).nlink, 4);
}
END_TEST

START_TEST(removed_directory_takes_no_new_entries)
{
	uint64_t dir = test_dir(FS, FS_ROOT_INO, "d");
	struct fs_attr attr;

	ck_ok(fs_rmdir(FS, FS_ROOT_INO, test_name("d")));
	ck_assert_uint_eq(attr_of(dir).nlink, 0);
	ck_assert_int_eq(fs_mkdir(FS, dir, test_name("x"), 0755, &test_cred, &attr), -ENOENT);
	test_file(FS, FS_ROOT_INO, "f");
	ck_assert_int_eq(rename_name(FS_ROOT_INO, "f", dir, "f"), -ENOENT);
	fs_forget(FS, dir, 1);
	ck_assert_int_eq(fs_getattr(FS, dir, &attr), -ESTALE);
}
END_TEST

START_TEST(parents_may_be_forgotten_before_children)
{
	uint64_t dir = test_dir(FS, FS_ROOT_INO, "d"), file = test_file(FS, dir, "f");
	struct fs_attr attr;

	fs_forget(FS, dir, 1);
	ck_ok(fs_setattr(FS, file, FS_SET_MODE, &(struct fs_attr){.mode = 0600}, &attr));
	fs_forget(FS, file, 1);
	ck_assert_int_eq(fs_getattr(FS, file, &attr), -ESTALE);
	ck_assert_int_eq(fs_getattr(FS, dir, &attr), -ESTALE);
	ck_assert_uint_eq(attr_of(test_walk(FS, "d/f")).mode, S_IFREG | 0600);
}
END_TEST

START_TEST(lookups_are_counted)
{
	uint64_t file = test_file(FS, FS_ROOT_INO, "f");
	struct fs_attr attr;

	ck_ok(fs_lookup(FS, FS_ROOT_INO, test_name("f"), &attr));
	fs_forget(FS, file, 1);
	ck_ok(fs_getattr(FS, file, &attr));
	fs_forget(FS, file, 1);
	ck_assert_int_eq(fs_getattr(FS, file, &attr), -ESTALE);
	fs_forget(FS, file, 1);
	fs_forget(FS, FS_ROOT_INO, 1000);
	ck_ok(fs_getattr(FS, FS_ROOT_INO, &attr));
}
END_TEST

START_TEST(inode_numbers_are_never_used_again)
{
	uint64_t highest = 0;

	for (int round = 0; round < 6; round++) {
		for (int i = 0; i < 20; i++) {
			uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

			ck_assert_uint_gt(ino, highest);
			highest = ino;
			ck_ok(unlink_name(FS_ROOT_INO, "f"));
			fs_forget(FS, ino, 1);
		}
		if (round % 2)
			test_volume_reopen(&test_volume);
		else
			ck_ok(fs_sync(FS));
		if (round % 3 == 0)
			test_volume_recover(&test_volume);
	}
}
END_TEST

/* ---- renaming ----------------------------------------------------------------------- */

START_TEST(renamed_directory_takes_everything_below_along)
{
	uint64_t a = test_dir(FS, FS_ROOT_INO, "a"), b = test_dir(FS, a, "b");
	uint64_t file = test_file(FS, b, "f"), x = test_dir(FS, FS_ROOT_INO, "x");

	test_write(FS, file, 1, 0, 2000000);
	ck_ok(fs_sync(FS));
	ck_ok(rename_name(FS_ROOT_INO, "a", x, "y"));
	test_expect(FS, file, 1, 0, 2000000);
	test_volume_reopen(&test_volume);
	test_expect(FS, test_walk(FS, "x/y/b/f"), 1, 0, 2000000);
	ck_assert_int_eq(rename_name(FS_ROOT_INO, "a", x, "z"), -ENOENT);
}
END_TEST

START_TEST(directory_does_not_go_below_itself)
{
	uint64_t a = test_dir(FS, FS_ROOT_INO, "a"), b = test_dir(FS, a, "b");

	ck_assert_int_eq(rename_name(FS_ROOT_INO, "a", b, "c"), -EINVAL);
	ck_assert_int_eq(rename_name(FS_ROOT_INO, "a", a, "c"), -EINVAL);
	ck_assert_int_eq(rename_name(a, "b", FS_ROOT_INO, "a"), -ENOTEMPTY);
	ck_ok(rename_name(a, "b", a, "b"));
}
END_TEST

START_TEST(rename_replaces_only_what_it_may)
{
	uint64_t dir = test_dir(FS, FS_ROOT_INO, "d"), full = test_dir(FS, FS_ROOT_INO, "full");

	test_dir(FS, FS_ROOT_INO, "empty");
	test_file(FS, full, "x");
	test_file(FS, FS_ROOT_INO, "f");
	ck_assert_int_eq(rename_name(FS_ROOT_INO, "f", FS_ROOT_INO, "empty"), -EISDIR);
	ck_assert_int_eq(rename_name(FS_ROOT_INO, "d", FS_ROOT_INO, "f"), -ENOTDIR);
	ck_assert_int_eq(rename_name(FS_ROOT_INO, "d", FS_ROOT_INO, "full"), -ENOTEMPTY);
	ck_ok(rename_name(FS_ROOT_INO, "d", FS_ROOT_INO, "empty"));
	ck_assert_uint_eq(test_walk(FS, "empty"), dir);
	ck_assert_uint_eq(attr_of(FS_ROOT_INO).nlink, 4);
	ck_assert_int_eq(fs_rename(FS, FS_ROOT_INO, test_name("f"), full, test_name("x"),
	    RENAME_NOREPLACE), -EEXIST);
	ck_assert_int_eq(fs_rename(FS, FS_ROOT_INO, test_name("f"), full, test_name("y"),
	    RENAME_EXCHANGE), -EINVAL);
	ck_ok(rename_name(FS_ROOT_INO, "f", full, "x"));
}
END_TEST

START_TEST(replaced_file_stays_readable_while_known)
{
	uint64_t old = test_file(FS, FS_ROOT_INO, "old"), new = test_file(FS, FS_ROOT_INO, "new");

	test_write(FS, old, 1, 0, 1500000);
	test_write(FS, new, 2, 0, 1400000);
	ck_ok(fs_sync(FS));
	ck_ok(rename_name(FS_ROOT_INO, "new", FS_ROOT_INO, "old"));
	ck_assert_uint_eq(attr_of(old).nlink, 0);
	test_expect(FS, old, 1, 0, 1500000);
	test_expect(FS, test_walk(FS, "old"), 2, 0, 1400000);
	test_write(FS, old, 3, 1000000, 600000);
	ck_ok(fs_fsync(FS, old, false));
	test_expect(FS, old, 3, 1000000, 600000);
	fs_forget(FS, old, 1);
}
END_TEST

/* ---- deep trees ----------------------------------------------------------------------- */

#define DEEP 1000

static uint64_t make_deep(uint64_t parent, const char *name, int *ret_depth)
{
	struct fs_attr attr;
	int err = 0, depth = 0;

	while (depth < DEEP) {
		err = fs_mkdir(FS, parent, test_name(name), 0755, &test_cred, &attr);
		if (err < 0)
			break;
		parent = attr.ino;
		depth++;
	}
	if (err < 0)
		ck_assert_int_eq(err, -ENAMETOOLONG);
	*ret_depth = depth;
	return parent;
}

/* Data whose records are as large as they get, for keys as long as they get. */
static void write_scattered(uint64_t ino)
{
	test_write(FS, ino, 1, 0, 1200000);
	ck_ok(fs_fsync(FS, ino, false));
	for (uint64_t block = 1; block < 290; block += 2)
		test_write(FS, ino, 2, block * 4096, 4096);
	ck_ok(fs_fsync(FS, ino, false));
}

START_TEST(thousand_nested_directories_end_in_a_clear_error)
{
	char name[256] = {0};
	struct fs_attr attr;
	int depth;
	uint64_t last;

	memset(name, 'n', 255);
	last = make_deep(FS_ROOT_INO, name, &depth);
	ck_assert_int_gt(depth, 150);
	write_scattered(test_file(FS, last, "f"));
	test_volume_reopen(&test_volume);
	last = FS_ROOT_INO;
	for (int i = 0; i < depth; i++) {
		ck_ok(fs_lookup(FS, last, test_name(name), &attr));
		last = attr.ino;
	}
	ck_ok(fs_lookup(FS, last, test_name("f"), &attr));
	test_expect(FS, attr.ino, 2, 4096, 4096);
	test_expect(FS, attr.ino, 1, 8192, 4096);
	ck_ok(unlink_name(last, "f"));
}
END_TEST

START_TEST(short_names_nest_a_thousand_deep)
{
	int depth;
	uint64_t last = make_deep(FS_ROOT_INO, "dir", &depth);

	ck_assert_int_eq(depth, DEEP);
	test_file(FS, last, "f");
	ck_ok(rename_name(FS_ROOT_INO, "dir", FS_ROOT_INO, "other"));
	test_dir(FS, last, "more");
}
END_TEST

START_TEST(rename_that_would_make_keys_too_long_is_refused)
{
	char name[256] = {0};
	int depth;
	uint64_t a = test_dir(FS, FS_ROOT_INO, "a"), b = test_dir(FS, FS_ROOT_INO, "b");

	memset(name, 'n', 255);
	for (int i = 0; i < 90; i++) {
		a = test_dir(FS, a, name);
		b = test_dir(FS, b, name);
	}
	ck_assert_int_eq(rename_name(FS_ROOT_INO, "a", b, "a"), -ENAMETOOLONG);
	make_deep(a, name, &depth);
	ck_assert_int_gt(depth, 60);
}
END_TEST

START_TEST(moving_in_and_out_of_each_other_does_not_wear_directories_out)
{
	uint64_t a = test_dir(FS, FS_ROOT_INO, "a"), b = test_dir(FS, FS_ROOT_INO, "b");

	test_file(FS, a, "keeps a from being empty");
	test_file(FS, b, "keeps b from being empty");
	for (int i = 0; i < 100; i++) {
		ck_ok(rename_name(FS_ROOT_INO, "a", b, "a"));
		ck_ok(rename_name(b, "a", FS_ROOT_INO, "a"));
		ck_ok(rename_name(FS_ROOT_INO, "b", a, "b"));
		ck_ok(rename_name(a, "b", FS_ROOT_INO, "b"));
	}
}
END_TEST

/* ---- the whole ------------------------------------------------------------------------ */

START_TEST(read_only_refuses_changes)
{
	struct fs_attr attr;
	uint64_t ino;

	test_write(FS, test_file(FS, FS_ROOT_INO, "f"), 1, 0, 5000);
	ck_ok(fs_close(FS));
	test_volume.options.is_read_only = true;
	test_volume_open(&test_volume);
	ino = test_walk(FS, "f");
	test_expect(FS, ino, 1, 0, 5000);
	ck_assert_int_eq(fs_write(FS, ino, 0, "x", 1, false, false), -EROFS);
	ck_assert_int_eq(fs_mkdir(FS, FS_ROOT_INO, test_name("d"), 0755, &test_cred, &attr),
	    -EROFS);
	ck_assert_int_eq(unlink_name(FS_ROOT_INO, "f"), -EROFS);
	ck_assert_int_eq(rename_name(FS_ROOT_INO, "f", FS_ROOT_INO, "g"), -EROFS);
	ck_assert_int_eq(fs_setattr(FS, ino, FS_SET_MODE, &attr, NULL), -EROFS);
	ck_ok(fs_fsync(FS, ino, false));
}
END_TEST

START_TEST(statfs_counts_what_files_take)
{
	struct fs_statfs empty, full;
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

	ck_ok(fs_statfs(FS, &empty));
	ck_assert_uint_le(empty.blocks * 4096, TEST_VOLUME_BYTES);
	test_write(FS, ino, 1, 0, 10 << 20);
	ck_ok(fs_sync(FS));
	ck_ok(fs_statfs(FS, &full));
	ck_assert_uint_ge(empty.blocks_available - full.blocks_available, (10 << 20) / 4096);
	ck_assert_uint_eq(attr_of(ino).blocks, (10 << 20) / 512);
}
END_TEST

static TCase *name_tests(void)
{
	TCase *tests = tcase_create("names");

	tcase_add_checked_fixture(tests, test_fs_setup, test_fs_teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, root_is_an_empty_directory);
	tcase_add_test(tests, what_is_created_is_found_with_its_attributes);
	tcase_add_test(tests, attributes_are_kept_by_the_volume);
	tcase_add_test(tests, times_out_of_range_are_refused);
	tcase_add_test(tests, existing_name_is_not_created_again);
	tcase_add_test(tests, names_are_checked);
	tcase_add_test(tests, names_hold_any_other_byte);
	tcase_add_test(tests, set_group_id_directories_hand_their_group_down);
	tcase_add_test(tests, symlinks_keep_targets_up_to_the_longest);
	tcase_add_test(tests, removal_asks_for_the_right_kind);
	tcase_add_test(tests, link_counts_follow_subdirectories);
	tcase_add_test(tests, removed_directory_takes_no_new_entries);
	tcase_add_test(tests, parents_may_be_forgotten_before_children);
	tcase_add_test(tests, lookups_are_counted);
	tcase_add_test(tests, inode_numbers_are_never_used_again);
	tcase_add_test(tests, renamed_directory_takes_everything_below_along);
	tcase_add_test(tests, directory_does_not_go_below_itself);
	tcase_add_test(tests, rename_replaces_only_what_it_may);
	tcase_add_test(tests, replaced_file_stays_readable_while_known);
	tcase_add_test(tests, read_only_refuses_changes);
	tcase_add_test(tests, statfs_counts_what_files_take);
	return tests;
}

static TCase *deep_tests(void)
{
	TCase *tests = tcase_create("deep");

	tcase_add_checked_fixture(tests, test_fs_setup, test_fs_teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, thousand_nested_directories_end_in_a_clear_error);
	tcase_add_test(tests, short_names_nest_a_thousand_deep);
	tcase_add_test(tests, rename_that_would_make_keys_too_long_is_refused);
	tcase_add_test(tests, moving_in_and_out_of_each_other_does_not_wear_directories_out);
	return tests;
}

int main(void)
{
	Suite *suite = suite_create("fs");

	support_log_to_stderr();
	suite_add_tcase(suite, name_tests());
	suite_add_tcase(suite, deep_tests());
	suite_add_tcase(suite, test_fs_data());
	suite_add_tcase(suite, test_fs_allocation());
	suite_add_tcase(suite, test_fs_ranges());
	suite_add_tcase(suite, test_fs_listings());
	suite_add_tcase(suite, test_fs_recovery());
	suite_add_tcase(suite, test_fs_threads());
	return support_run(suite);
}
