/*
 * Listings: order, tokens, entries that come and go, attributes.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support.h"
#include "tests/unit/test_fs_parts.h"

struct seen {
	char name[256];
	uint64_t ino, token;
	uint32_t type;
	bool has_attr;
	struct fs_attr attr;
};

struct list {
	struct seen entries[3000];
	unsigned count, room;
};

static struct list *list;

static void setup(void)
{
	test_fs_setup();
	list = calloc(1, sizeof(*list));
}

static void teardown(void)
{
	free(list);
	test_fs_teardown();
}

static bool add(void *ctx, const struct fs_dirent *entry)
{
	struct list *l = ctx;
	struct seen *seen = &l->entries[l->count];

	if (l->room == 0)
		return false;
	l->room--;
	l->count++;
	memcpy(seen->name, entry->name.bytes, entry->name.len);
	seen->name[entry->name.len] = 0;
	seen->ino = entry->ino;
	seen->token = entry->token;
	seen->type = entry->type;
	seen->has_attr = entry->attr != NULL;
	if (entry->attr)
		seen->attr = *entry->attr;
	return true;
}

/* At most @room more entries behind @token; answers how many came. */
static unsigned read_on(struct fs_dir *dir, uint64_t token, unsigned room, bool with_attr)
{
	unsigned before = list->count;

	list->room = room;
	ck_ok(fs_readdir(dir, token, with_attr, add, list));
	return list->count - before;
}

static struct fs_dir *open_dir(uint64_t ino)
{
	struct fs_dir *dir;

	ck_ok(fs_opendir(FS, ino, &dir));
	return dir;
}

static void make_files(uint64_t dir, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		char name[20];

		snprintf(name, sizeof(name), "%05u", i * 7919 % 100000);
		fs_forget(FS, test_file(FS, dir, name), 1);
	}
}

START_TEST(empty_directory_lists_its_dots)
{
	uint64_t ino = test_dir(FS, FS_ROOT_INO, "d");
	struct fs_dir *dir = open_dir(ino);

	ck_assert_uint_eq(read_on(dir, 0, 10, true), 2);
	ck_assert_str_eq(list->entries[0].name, ".");
	ck_assert_uint_eq(list->entries[0].ino, ino);
	ck_assert_str_eq(list->entries[1].name, "..");
	ck_assert_uint_eq(list->entries[1].ino, FS_ROOT_INO);
	ck_assert(!list->entries[0].has_attr);
	ck_assert_uint_eq(read_on(dir, list->entries[1].token, 10, true), 0);
	ck_assert_uint_eq(read_on(dir, list->entries[0].token, 10, true), 1);
	fs_closedir(dir);
}
END_TEST

START_TEST(entries_come_in_name_order_whatever_the_steps)
{
	for (unsigned room = 1; room < 500; room = room * 3 + 1) {
		struct fs_dir *dir = open_dir(FS_ROOT_INO);
		uint64_t token = 0;

		if (room == 1)
			make_files(FS_ROOT_INO, 1000);
		list->count = 0;
		while (read_on(dir, token, room, false) > 0)
			token = list->entries[list->count - 1].token;
		ck_assert_uint_eq(list->count, 1002);
		for (unsigned i = 3; i < list->count; i++)
			ck_assert_int_lt(strcmp(list->entries[i - 1].name,
					     list->entries[i].name), 0);
		fs_closedir(dir);
	}
}
END_TEST

START_TEST(reading_goes_on_after_a_removed_entry)
{
	struct fs_dir *dir = open_dir(FS_ROOT_INO);
	struct seen *last;

	make_files(FS_ROOT_INO, 100);
	read_on(dir, 0, 50, false);
	last = &list->entries[49];
	ck_ok(fs_unlink(FS, FS_ROOT_INO, test_name(last->name)));
	ck_assert_uint_eq(read_on(dir, last->token, 200, false), 52);
	ck_assert_int_gt(strcmp(list->entries[50].name, last->name), 0);
	fs_closedir(dir);
}
END_TEST

/* rm -r: each batch removed before the next is read. */
START_TEST(every_entry_is_seen_while_others_are_removed)
{
	uint64_t ino = test_dir(FS, FS_ROOT_INO, "d"), token = 0;
	struct fs_dir *dir = open_dir(ino);
	unsigned n, from;

	make_files(ino, 777);
	do {
		from = list->count;
		n = read_on(dir, token, 13, false);
		for (unsigned i = from; i < list->count; i++)
			if (list->entries[i].name[0] != '.')
				ck_ok(fs_unlink(FS, ino, test_name(list->entries[i].name)));
		if (n > 0)
			token = list->entries[list->count - 1].token;
	} while (n > 0);
	ck_assert_uint_eq(list->count, 779);
	ck_ok(fs_rmdir(FS, FS_ROOT_INO, test_name("d")));
	fs_closedir(dir);
}
END_TEST

START_TEST(tokens_stay_valid_and_the_same)
{
	struct fs_dir *dir = open_dir(FS_ROOT_INO);

	make_files(FS_ROOT_INO, 300);
	read_on(dir, 0, 1000, false);
	for (unsigned i = 302; i-- > 0;) {
		struct seen before = list->entries[i];

		list->count = i;
		if (i == 0)
			break;
		ck_assert_uint_eq(read_on(dir, list->entries[i - 1].token, 1, false), 1);
		ck_assert_str_eq(list->entries[i].name, before.name);
		ck_assert_uint_eq(list->entries[i].token, before.token);
	}
	list->room = 1;
	ck_assert_int_eq(fs_readdir(dir, 1ull << 40, false, add, list), -EINVAL);
	fs_closedir(dir);
}
END_TEST

START_TEST(listing_follows_its_directory_through_a_rename)
{
	uint64_t ino = test_dir(FS, FS_ROOT_INO, "d");
	struct fs_dir *dir = open_dir(ino);

	make_files(ino, 100);
	read_on(dir, 0, 50, false);
	test_dir(FS, FS_ROOT_INO, "x");
	ck_ok(fs_rename(FS, FS_ROOT_INO, test_name("d"), test_walk(FS, "x"), test_name("y"), 0));
	ck_assert_uint_eq(read_on(dir, list->entries[49].token, 100, false), 52);
	fs_closedir(dir);
}
END_TEST

START_TEST(subdirectories_are_not_walked_through)
{
	uint64_t sub = test_dir(FS, FS_ROOT_INO, "b");
	struct fs_dir *dir = open_dir(FS_ROOT_INO);

	test_file(FS, FS_ROOT_INO, "a");
	test_file(FS, FS_ROOT_INO, "c");
	make_files(sub, 100);
	ck_assert_uint_eq(read_on(dir, 0, 100, false), 5);
	fs_closedir(dir);
}
END_TEST

START_TEST(listed_attributes_are_those_in_core)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");
	struct fs_dir *dir = open_dir(FS_ROOT_INO);
	struct fs_attr attr;

	test_write(FS, ino, 1, 0, 100000); /* the record says 0 still */
	ck_assert_uint_eq(read_on(dir, 0, 10, true), 3);
	ck_assert_uint_eq(list->entries[2].attr.size, 100000);
	fs_forget(FS, ino, 1);
	ck_ok(fs_getattr(FS, ino, &attr)); /* the listing's look-up */
	fs_forget(FS, ino, 1);
	ck_ok(fs_sync(FS));
	ck_assert_int_eq(fs_getattr(FS, ino, &attr), -ESTALE);
	fs_closedir(dir);
}
END_TEST

START_TEST(entry_that_did_not_fit_has_no_lookup)
{
	struct fs_dir *dir = open_dir(FS_ROOT_INO);
	struct fs_attr attr;
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

	fs_forget(FS, ino, 1);
	ck_assert_uint_eq(read_on(dir, 0, 2, true), 2);
	ck_assert_int_eq(fs_getattr(FS, ino, &attr), -ESTALE);
	ck_assert_uint_eq(read_on(dir, list->entries[1].token, 2, true), 1);
	ck_ok(fs_getattr(FS, ino, &attr));
	fs_closedir(dir);
}
END_TEST

START_TEST(only_directories_are_listed)
{
	struct fs_dir *dir;

	ck_assert_int_eq(fs_opendir(FS, test_file(FS, FS_ROOT_INO, "f"), &dir), -ENOTDIR);
	ck_assert_int_eq(fs_opendir(FS, 12345, &dir), -ESTALE);
	fs_closedir(NULL);
}
END_TEST

TCase *test_fs_listings(void)
{
	TCase *tests = tcase_create("listings");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, empty_directory_lists_its_dots);
	tcase_add_test(tests, entries_come_in_name_order_whatever_the_steps);
	tcase_add_test(tests, reading_goes_on_after_a_removed_entry);
	tcase_add_test(tests, every_entry_is_seen_while_others_are_removed);
	tcase_add_test(tests, tokens_stay_valid_and_the_same);
	tcase_add_test(tests, listing_follows_its_directory_through_a_rename);
	tcase_add_test(tests, subdirectories_are_not_walked_through);
	tcase_add_test(tests, listed_attributes_are_those_in_core);
	tcase_add_test(tests, entry_that_did_not_fit_has_no_lookup);
	tcase_add_test(tests, only_directories_are_listed);
	return tests;
}
