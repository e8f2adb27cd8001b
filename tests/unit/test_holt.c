/*
 * The public interface, call by call: what it does with what it is given, and that what
 * it refuses changes nothing.
 */
#include "config.h"

#include "tests/unit/test_holt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support.h"

static uint8_t large[HOLT_VALUE_MAX + 1];

/* ---- one key ------------------------------------------------------------------------ */

START_TEST(holt_returns_what_was_put)
{
	char value[16];
	uint64_t first, second;
	size_t bytes;

	ck_ok(put("k", "value"));
	ck_ok(holt_get(holt, "k", 1, value, sizeof(value), &bytes, &first));
	ck_assert_uint_eq(bytes, 5);
	ck_assert_mem_eq(value, "value", 5);
	ck_ok(put("k", ""));
	ck_ok(holt_get(holt, "k", 1, NULL, 0, &bytes, &second));
	ck_assert_uint_eq(bytes, 0);
	ck_assert_uint_ne(first, second);
	holt_reopen();
	ck_assert_uint_eq(version_of("k"), second);
}
END_TEST

START_TEST(holt_get_says_how_long_a_value_is_that_does_not_fit)
{
	char value[3] = "..";
	uint64_t version;
	size_t bytes;

	ck_ok(put("k", "value"));
	ck_assert_int_eq(holt_get(holt, "k", 1, value, 2, &bytes, &version), -ERANGE);
	ck_assert_uint_eq(bytes, 5);
	ck_assert_uint_eq(version, version_of("k"));
	ck_assert_int_eq(holt_get(holt, "k", 1, NULL, 0, NULL, NULL), -ERANGE);
	bytes = 77;
	ck_assert_int_eq(holt_get(holt, "x", 1, value, 2, &bytes, &version), -ENOENT);
	ck_assert_uint_eq(bytes, 77);
}
END_TEST

START_TEST(holt_puts_and_deletes_under_conditions)
{
	uint64_t version;

	ck_ok(holt_put_if_absent(holt, S("k"), S("1")));
	ck_assert_int_eq(holt_put_if_absent(holt, S("k"), S("2")), -EEXIST);
	version = version_of("k");
	ck_assert_int_eq(holt_compare_and_put(holt, S("k"), version + 1, S("3")), -ESTALE);
	ck_assert_int_eq(holt_compare_and_put(holt, S("x"), version, S("3")), -ENOENT);
	ck_ok(get_is("k", "1"));
	ck_ok(holt_compare_and_put(holt, S("k"), version, S("4")));
	ck_ok(get_is("k", "4"));
	ck_assert_int_eq(holt_delete_if_version(holt, S("k"), version), -ESTALE);
	ck_assert_int_eq(holt_delete_if_version(holt, S("x"), version), -ENOENT);
	ck_ok(holt_delete_if_version(holt, S("k"), version_of("k")));
	ck_assert_int_eq(holt_delete(holt, S("k")), -ENOENT);
	ck_ok(put("k", "5"));
	ck_ok(holt_delete(holt, S("k")));
	ck_assert_str_eq(list_all(), "");
}
END_TEST

START_TEST(holt_keys_and_values_are_any_bytes)
{
	static const char keys[][3] = {"\0", "\0\0", "\0\xff", "/", "\xff", "\xff\xff"};
	static const size_t sizes[] = {1, 2, 2, 1, 1, 2};
	struct holt_cursor *cursor;
	struct holt_item item;

	for (unsigned i = 6; i-- > 0;)
		ck_ok(holt_put(holt, keys[i], sizes[i], keys[i], sizes[i]));
	holt_reopen();
	ck_ok(holt_cursor_open(holt, NULL, &cursor));
	for (unsigned i = 0; i < 6; i++) {
		ck_ok(holt_cursor_next(cursor, &item));
		ck_assert_uint_eq(item.key_bytes, sizes[i]);
		ck_assert_mem_eq(item.key, keys[i], sizes[i]);
		ck_assert_uint_eq(item.value_bytes, sizes[i]);
		ck_assert_mem_eq(item.value, keys[i], sizes[i]);
	}
	ck_assert_int_eq(holt_cursor_next(cursor, &item), -ENOENT);
	ck_assert_int_eq(holt_cursor_next(cursor, &item), -ENOENT);
	holt_cursor_close(cursor);
}
END_TEST

START_TEST(holt_takes_keys_and_values_of_full_length)
{
	size_t bytes;

	memset(large, 'x', sizeof(large));
	ck_ok(holt_put(holt, large, HOLT_KEY_MAX, large, HOLT_VALUE_MAX));
	holt_reopen();
	ck_assert_int_eq(holt_get(holt, large, HOLT_KEY_MAX, NULL, 0, &bytes, NULL), -ERANGE);
	ck_assert_uint_eq(bytes, HOLT_VALUE_MAX);
	ck_ok(holt_rename(holt, large, HOLT_KEY_MAX, S("short"), 0));
	ck_assert_int_eq(holt_get(holt, S("short"), NULL, 0, &bytes, NULL), -ERANGE);
	ck_assert_uint_eq(bytes, HOLT_VALUE_MAX);
}
END_TEST

START_TEST(holt_renames_keys)
{
	ck_ok(put("a", "1"));
	ck_ok(put("b", "2"));
	ck_assert_int_eq(holt_rename(holt, S("x"), S("y"), 0), -ENOENT);
	ck_assert_int_eq(holt_rename(holt, S("a"), S("b"), 0), -EEXIST);
	ck_assert_int_eq(holt_rename(holt, S("a"), S("a"), 0), -EEXIST);
	ck_ok(holt_rename(holt, S("a"), S("a"), HOLT_REPLACE));
	ck_assert_int_eq(holt_rename(holt, S("x"), S("x"), HOLT_REPLACE), -ENOENT);
	ck_assert_str_eq(list_all(), "a=1 b=2");
	ck_ok(holt_rename(holt, S("a"), S("b"), HOLT_REPLACE));
	ck_assert_str_eq(list_all(), "b=1");
	ck_ok(holt_rename(holt, S("b"), S("c"), 0));
	ck_assert_str_eq(list_all(), "c=1");
}
END_TEST

/* ---- what is refused ------------------------------------------------------------------ */

START_TEST(holt_refuses_impossible_keys_and_values)
{
	size_t bytes;

	ck_ok(put("k", "1"));
	ck_assert_int_eq(holt_put(holt, "", 0, S("v")), -EINVAL);
	ck_assert_int_eq(holt_put(holt, NULL, 3, S("v")), -EINVAL);
	ck_assert_int_eq(holt_put(holt, S("k"), NULL, 1), -EINVAL);
	ck_assert_int_eq(holt_put(holt, large, HOLT_KEY_MAX + 1, S("v")), -ENAMETOOLONG);
	ck_assert_int_eq(holt_put(holt, S("k"), large, HOLT_VALUE_MAX + 1), -E2BIG);
	ck_assert_int_eq(holt_put(holt, S("k"), large, SIZE_MAX), -E2BIG);
	ck_assert_int_eq(holt_put(holt, large, SIZE_MAX, S("v")), -ENAMETOOLONG);
	ck_assert_int_eq(holt_put(NULL, S("k"), S("v")), -EINVAL);
	ck_assert_int_eq(holt_put_if_absent(holt, "", 0, S("v")), -EINVAL);
	ck_assert_int_eq(holt_compare_and_put(holt, S("k"), version_of("k"), large, HOLT_VALUE_MAX + 1),
	    -E2BIG);
	ck_assert_int_eq(holt_get(holt, "", 0, large, 1, &bytes, NULL), -EINVAL);
	ck_assert_int_eq(holt_get(holt, S("k"), NULL, 1, &bytes, NULL), -EINVAL);
	ck_assert_int_eq(holt_get(holt, large, SIZE_MAX, large, 1, &bytes, NULL), -ENAMETOOLONG);
	ck_assert_int_eq(holt_get(NULL, S("k"), large, 1, &bytes, NULL), -EINVAL);
	ck_assert_int_eq(holt_get_version(holt, "", 0, NULL), -EINVAL);
	ck_assert_int_eq(holt_delete(holt, "", 0), -EINVAL);
	ck_assert_int_eq(holt_delete(NULL, S("k")), -EINVAL);
	ck_assert_int_eq(holt_delete_if_version(holt, NULL, 1, 1), -EINVAL);
	ck_assert_int_eq(holt_rename(holt, "", 0, S("x"), 0), -EINVAL);
	ck_assert_int_eq(holt_rename(holt, S("k"), "", 0, 0), -EINVAL);
	ck_assert_int_eq(holt_rename(holt, S("k"), large, HOLT_KEY_MAX + 1, 0), -ENAMETOOLONG);
	ck_assert_int_eq(holt_rename(holt, S("k"), S("x"), 2), -EINVAL);
	ck_assert_str_eq(list_all(), "k=1");
}
END_TEST

START_TEST(holt_refuses_impossible_prefixes_and_moves)
{
	ck_ok(put("a/1", "1"));
	ck_ok(put("b/1", "2"));
	ck_assert_int_eq(holt_move_prefix(holt, "", 0, S("x")), -EINVAL);
	ck_assert_int_eq(holt_move_prefix(holt, S("a/"), "", 0), -EINVAL);
	ck_assert_int_eq(holt_move_prefix(holt, S("a/"), large, HOLT_KEY_MAX + 1), -ENAMETOOLONG);
	ck_assert_int_eq(holt_move_prefix(holt, S("a/"), S("a/b/")), -EINVAL);
	ck_assert_int_eq(holt_move_prefix(holt, S("a/"), S("a")), -EINVAL);
	ck_assert_int_eq(holt_move_prefix(holt, S("a/"), S("a/")), -EINVAL);
	ck_assert_int_eq(holt_move_prefix(holt, S("c/"), S("d/")), -ENOENT);
	ck_assert_int_eq(holt_move_prefix(holt, S("a/"), S("b/")), -EEXIST);
	ck_assert_int_eq(holt_move_prefix(NULL, S("a/"), S("b/")), -EINVAL);
	ck_assert_int_eq(holt_is_prefix_empty(NULL, S("a/")), -EINVAL);
	ck_assert_int_eq(holt_is_prefix_empty(holt, NULL, 1), -EINVAL);
	ck_assert_str_eq(list_all(), "a/1=1 b/1=2");
}
END_TEST

static int fail_with(void *ctx, const struct holt_item *item)
{
	return *(int *)ctx;
}

START_TEST(holt_refuses_impossible_ranges)
{
	struct holt_range range = {.flags = 2};
	struct holt_cursor *cursor;
	struct holt_item item;
	int zero = 0;

	ck_ok(put("k", "1"));
	ck_assert_int_eq(holt_visit(holt, &range, 0, fail_with, &zero), -EINVAL);
	range = (struct holt_range){.prefix_bytes = 1};
	ck_assert_int_eq(holt_cursor_open(holt, &range, &cursor), -EINVAL);
	range = (struct holt_range){.start_bytes = 1};
	ck_assert_int_eq(holt_cursor_open(holt, &range, &cursor), -EINVAL);
	range = (struct holt_range){.start = "x", .start_bytes = SIZE_MAX};
	ck_assert_int_eq(holt_cursor_open(holt, &range, &cursor), -ENAMETOOLONG);
	ck_assert_int_eq(holt_cursor_open(NULL, NULL, &cursor), -EINVAL);
	ck_assert_int_eq(holt_cursor_open(holt, NULL, NULL), -EINVAL);
	ck_assert_int_eq(holt_visit(holt, NULL, 0, NULL, NULL), -EINVAL);
	ck_assert_int_eq(holt_cursor_next(NULL, &item), -EINVAL);
	ck_ok(holt_cursor_open(holt, NULL, &cursor));
	ck_assert_int_eq(holt_cursor_next(cursor, NULL), -EINVAL);
	ck_assert_int_eq(holt_cursor_seek(cursor, NULL, 1, false), -EINVAL);
	ck_ok(holt_cursor_next(cursor, &item));
	holt_cursor_close(cursor);
	holt_cursor_close(NULL);
}
END_TEST

START_TEST(holt_visitor_ends_the_walk_with_its_own_result)
{
	int result;

	ck_ok(put("a", "1"));
	ck_ok(put("b", "1"));
	result = -ENOENT;
	ck_assert_int_eq(holt_visit(holt, NULL, 0, fail_with, &result), -ENOENT);
	result = -E2BIG;
	ck_assert_int_eq(holt_visit(holt, NULL, 0, fail_with, &result), -E2BIG);
	result = 7;
	ck_assert_int_eq(holt_visit(holt, NULL, 0, fail_with, &result), 7);
	result = 0;
	ck_ok(holt_visit(holt, NULL, 0, fail_with, &result));
}
END_TEST

static int change_store(void *ctx, const struct holt_item *item)
{
	char key[32];

	/* A key behind, one before, and the visited one. */
	sprintf(key, "z%04d", (*(int *)ctx)++);
	ck_ok(put(key, "new"));
	ck_ok(put("0", "new"));
	ck_ok(holt_delete(holt, item->key, item->key_bytes));
	return *(int *)ctx == 500 ? 1 : 0;
}

START_TEST(holt_visitor_may_change_the_store)
{
	int visits = 0;

	ck_ok(put("a", "1"));
	ck_assert_int_eq(holt_visit(holt, NULL, 0, change_store, &visits), 1);
	ck_assert_int_eq(visits, 500);
}
END_TEST

/* ---- listing ---------------------------------------------------------------------------- */

static void put_listing(void)
{
	static const char *const keys[] = {"a", "a/b", "a/b/c", "a/c/d", "a/c/e", "a-", "b/", "b0",
	    "c"};

	for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		ck_ok(put(keys[i], "v"));
}

START_TEST(holt_lists_ranges)
{
	struct holt_range range = {.flags = HOLT_KEYS_ONLY};

	put_listing();
	ck_assert_str_eq(list(&range, 0), "a a- a/b a/b/c a/c/d a/c/e b/ b0 c");
	ck_assert_str_eq(list(&range, 3), "a a- a/b");
	range.prefix = "a/";
	range.prefix_bytes = 2;
	ck_assert_str_eq(list(&range, 0), "a/b a/b/c a/c/d a/c/e");
	range.start = "a/b";
	range.start_bytes = 3;
	ck_assert_str_eq(list(&range, 0), "a/b a/b/c a/c/d a/c/e");
	range.is_after = true;
	ck_assert_str_eq(list(&range, 0), "a/b/c a/c/d a/c/e");
	range.start = "a";
	range.start_bytes = 1;
	ck_assert_str_eq(list(&range, 0), "a/b a/b/c a/c/d a/c/e");
	range.start = "b";
	ck_assert_str_eq(list(&range, 0), "");
	ck_assert_int_eq(holt_is_prefix_empty(holt, S("a/")), 0);
	ck_assert_int_eq(holt_is_prefix_empty(holt, S("a/x")), 1);
	ck_assert_int_eq(holt_is_prefix_empty(holt, "", 0), 0);
}
END_TEST

static int add_value_bytes(void *ctx, const struct holt_item *item)
{
	*(size_t *)ctx += item->value_bytes;
	return 0;
}

/* The leaves of one node, each in the short form, together more than a listing's first
 * buffer. */
START_TEST(holt_lists_more_values_than_its_buffer_holds)
{
	char value[500] = {1};
	size_t bytes = 0;

	for (char key = 'a'; key < 'a' + 16; key++)
		ck_ok(holt_put(holt, &key, 1, value, sizeof(value)));
	ck_ok(holt_visit(holt, NULL, 0, add_value_bytes, &bytes));
	ck_assert_uint_eq(bytes, 16 * sizeof(value));
}
END_TEST

START_TEST(holt_lists_with_a_delimiter)
{
	struct holt_range range = {
	    .flags = HOLT_KEYS_ONLY, .has_delimiter = true, .delimiter = '/'};

	put_listing();
	ck_assert_str_eq(list(&range, 0), "a a- a/ b/ b0 c");
	range.prefix = "a/";
	range.prefix_bytes = 2;
	ck_assert_str_eq(list(&range, 0), "a/b a/b/ a/c/");
	range.start = "a/b/";
	range.start_bytes = 4;
	ck_assert_str_eq(list(&range, 0), "a/b/ a/c/");
	range.is_after = true;
	ck_assert_str_eq(list(&range, 0), "a/c/");
	/* In the middle of a common prefix it is listed for what is behind. */
	range.start = "a/c/d";
	range.start_bytes = 5;
	ck_assert_str_eq(list(&range, 0), "a/c/");
	range.start = "a/c/";
	range.start_bytes = 4;
	ck_assert_str_eq(list(&range, 0), "");
	range = (struct holt_range){.has_delimiter = true, .delimiter = 'z'};
	ck_assert_str_eq(list(&range, 2), "a=v a-=v");
}
END_TEST

START_TEST(holt_common_prefixes_may_end_with_the_highest_byte)
{
	struct holt_range range = {
	    .flags = HOLT_KEYS_ONLY, .has_delimiter = true, .delimiter = 0xff};

	ck_ok(put("a\xff" "1", "v"));
	ck_ok(put("a\xff" "2", "v"));
	ck_ok(put("b", "v"));
	ck_ok(put("\xff\xff" "1", "v"));
	ck_ok(put("\xff\xff" "2", "v"));
	ck_assert_str_eq(list(&range, 0), "a\xff b \xff");
	range.prefix = "\xff";
	range.prefix_bytes = 1;
	ck_assert_str_eq(list(&range, 0), "\xff\xff");
}
END_TEST

START_TEST(holt_cursor_goes_on_where_it_is_sent)
{
	struct holt_range range = {.has_delimiter = true, .delimiter = '/'};
	struct holt_cursor *cursor;
	struct holt_item item;

	put_listing();
	ck_ok(holt_cursor_open(holt, &range, &cursor));
	ck_ok(holt_cursor_seek(cursor, S("a/"), false));
	ck_ok(holt_cursor_next(cursor, &item));
	ck_assert(item.is_prefix && item.key_bytes == 2 && !item.value);
	ck_ok(holt_cursor_seek(cursor, S("a/"), true));
	ck_ok(holt_cursor_next(cursor, &item));
	ck_assert_mem_eq(item.key, "b/", 2);
	ck_ok(holt_cursor_seek(cursor, S("d"), false));
	ck_assert_int_eq(holt_cursor_next(cursor, &item), -ENOENT);
	ck_ok(holt_cursor_seek(cursor, NULL, 0, false));
	ck_ok(holt_cursor_next(cursor, &item));
	ck_assert(!item.is_prefix && item.key_bytes == 1 && item.value_bytes == 1);
	ck_assert_uint_eq(item.version, version_of("a"));
	holt_cursor_close(cursor);
}
END_TEST

/* ---- prefixes ---------------------------------------------------------------------------- */

START_TEST(holt_moves_everything_below_a_prefix)
{
	uint64_t version;

	put_listing();
	version = version_of("a/c/d");
	ck_ok(holt_move_prefix(holt, S("a/"), S("x/y/")));
	ck_assert_str_eq(list_all(), "a=v a-=v b/=v b0=v c=v x/y/b=v x/y/b/c=v x/y/c/d=v x/y/c/e=v");
	ck_assert_uint_eq(version_of("x/y/c/d"), version);
	ck_ok(holt_move_prefix(holt, S("x"), S("y")));
	holt_reopen();
	ck_assert_str_eq(list_all(), "a=v a-=v b/=v b0=v c=v y/y/b=v y/y/b/c=v y/y/c/d=v y/y/c/e=v");
}
END_TEST

START_TEST(holt_drops_everything_below_a_prefix)
{
	put_listing();
	ck_assert_int_eq(holt_drop_prefix(holt, S("x")), -ENOENT);
	ck_assert_int_eq(holt_drop_prefix(holt, "", 0), -EINVAL);
	ck_assert_int_eq(holt_drop_prefix(NULL, S("a")), -EINVAL);
	ck_ok(holt_drop_prefix(holt, S("a/")));
	ck_assert_str_eq(list_all(), "a=v a-=v b/=v b0=v c=v");
	ck_ok(put("a/new", "1"));
	holt_reopen();
	ck_assert_str_eq(list_all(), "a=v a-=v a/new=1 b/=v b0=v c=v");
}
END_TEST

START_TEST(holt_finds_the_longest_key_that_a_key_begins_with)
{
	char value[8];
	uint64_t version;
	size_t bytes, key_bytes;

	ck_ok(put("a", "1"));
	ck_ok(put("a/b", "22"));
	ck_ok(holt_longest_prefix(holt, S("a/b/c"), &key_bytes, value, 8, &bytes, &version));
	ck_assert_uint_eq(key_bytes, 3);
	ck_assert_uint_eq(bytes, 2);
	ck_assert_uint_eq(version, version_of("a/b"));
	ck_ok(holt_longest_prefix(holt, S("a/b"), &key_bytes, value, 8, &bytes, NULL));
	ck_assert_uint_eq(key_bytes, 3);
	ck_ok(holt_longest_prefix(holt, S("a/"), &key_bytes, value, 8, NULL, NULL));
	ck_assert_uint_eq(key_bytes, 1);
	ck_assert_int_eq(holt_longest_prefix(holt, S("a/b"), &key_bytes, value, 1, &bytes, NULL), -ERANGE);
	ck_assert_uint_eq(bytes, 2);
	ck_assert_int_eq(holt_longest_prefix(holt, S("b"), NULL, value, 1, &bytes, NULL), -ENOENT);
	ck_assert_int_eq(holt_longest_prefix(holt, "", 0, NULL, value, 1, &bytes, NULL), -EINVAL);
}
END_TEST

/* ---- views ------------------------------------------------------------------------------- */

START_TEST(holt_view_stays_as_it_was)
{
	struct holt_view *view;
	struct holt_cursor *cursor;
	struct holt_item item;
	char value[8];
	uint64_t version;
	size_t bytes;

	put_listing();
	version = version_of("a/b");
	ck_ok(holt_view_open(holt, S("a/"), &view));
	ck_ok(put("a/b", "new"));
	ck_ok(put("a/0", "new"));
	ck_ok(holt_move_prefix(holt, S("a/c/"), S("moved/")));
	ck_ok(holt_drop_prefix(holt, S("a/b/")));
	ck_ok(holt_view_get(view, S("a/b"), value, sizeof(value), &bytes, &version));
	ck_assert_uint_eq(bytes, 1);
	ck_assert_int_eq(holt_view_get(view, S("a/0"), value, sizeof(value), &bytes, NULL), -ENOENT);
	ck_assert_int_eq(holt_view_get(view, S("b0"), value, sizeof(value), &bytes, NULL), -EDOM);
	ck_assert_int_eq(holt_view_get(view, S("a/b"), NULL, 0, &bytes, NULL), -ERANGE);
	ck_assert_int_eq(holt_view_is_prefix_empty(view, S("a/c/")), 0);
	ck_assert_int_eq(holt_view_is_prefix_empty(view, S("a/x")), 1);
	ck_assert_int_eq(holt_view_is_prefix_empty(view, S("a")), -EDOM);
	ck_ok(holt_view_cursor_open(view, NULL, &cursor));
	for (const char *const *key = (const char *const[]){"a/b", "a/b/c", "a/c/d", "a/c/e", NULL};
	     *key; key++) {
		ck_ok(holt_cursor_next(cursor, &item));
		ck_assert_uint_eq(item.key_bytes, strlen(*key));
		ck_assert_mem_eq(item.key, *key, item.key_bytes);
	}
	ck_assert_int_eq(holt_cursor_next(cursor, &item), -ENOENT);
	holt_cursor_close(cursor);
	holt_view_close(view);
	holt_view_close(NULL);
}
END_TEST

START_TEST(holt_view_refuses_what_lies_outside)
{
	struct holt_range range = {.prefix = "b", .prefix_bytes = 1};
	struct holt_cursor *cursor;
	struct holt_view *view;
	size_t bytes;
	int zero = 0;

	ck_assert_int_eq(holt_view_open(NULL, S("a"), &view), -EINVAL);
	ck_assert_int_eq(holt_view_open(holt, NULL, 1, &view), -EINVAL);
	ck_assert_int_eq(holt_view_open(holt, S("a"), NULL), -EINVAL);
	ck_ok(holt_view_open(holt, S("a"), &view));
	ck_assert_int_eq(holt_view_visit(view, &range, 0, fail_with, &zero), -EDOM);
	ck_assert_int_eq(holt_view_visit(view, NULL, 0, NULL, NULL), -EINVAL);
	ck_ok(holt_view_visit(view, NULL, 0, fail_with, &zero));
	ck_assert_int_eq(holt_view_cursor_open(view, &range, &cursor), -EDOM);
	ck_assert_int_eq(holt_view_cursor_open(view, NULL, NULL), -EINVAL);
	ck_assert_int_eq(holt_view_get(view, "", 0, NULL, 0, &bytes, NULL), -EINVAL);
	ck_assert_int_eq(holt_view_get(NULL, S("a"), NULL, 0, &bytes, NULL), -EINVAL);
	holt_view_close(view);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("holt");
	TCase *tcase = tcase_create("calls");

	tcase_set_timeout(tcase, 120);
	tcase_add_checked_fixture(tcase, holt_setup, holt_teardown);
	tcase_add_test(tcase, holt_returns_what_was_put);
	tcase_add_test(tcase, holt_get_says_how_long_a_value_is_that_does_not_fit);
	tcase_add_test(tcase, holt_puts_and_deletes_under_conditions);
	tcase_add_test(tcase, holt_keys_and_values_are_any_bytes);
	tcase_add_test(tcase, holt_takes_keys_and_values_of_full_length);
	tcase_add_test(tcase, holt_renames_keys);
	tcase_add_test(tcase, holt_refuses_impossible_keys_and_values);
	tcase_add_test(tcase, holt_refuses_impossible_prefixes_and_moves);
	tcase_add_test(tcase, holt_refuses_impossible_ranges);
	tcase_add_test(tcase, holt_visitor_ends_the_walk_with_its_own_result);
	tcase_add_test(tcase, holt_visitor_may_change_the_store);
	tcase_add_test(tcase, holt_lists_ranges);
	tcase_add_test(tcase, holt_lists_with_a_delimiter);
	tcase_add_test(tcase, holt_lists_more_values_than_its_buffer_holds);
	tcase_add_test(tcase, holt_common_prefixes_may_end_with_the_highest_byte);
	tcase_add_test(tcase, holt_cursor_goes_on_where_it_is_sent);
	tcase_add_test(tcase, holt_moves_everything_below_a_prefix);
	tcase_add_test(tcase, holt_drops_everything_below_a_prefix);
	tcase_add_test(tcase, holt_finds_the_longest_key_that_a_key_begins_with);
	tcase_add_test(tcase, holt_view_stays_as_it_was);
	tcase_add_test(tcase, holt_view_refuses_what_lies_outside);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
