/*
 * Drops and moves in stores that are full: what was dropped makes room again, and what
 * frees nothing but renames needs next to none.
 */
#include "config.h"

#include "tests/unit/test_store_drop.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "device/device.h"

static void show_full(bool has_threads)
{
	char value[4000] = {0};
	unsigned keys = 0, more = 0;

	make_store(64ull << 20, has_threads);
	while (put("/gone/", keys, value, sizeof(value)) == 0)
		keys++;
	ck_assert_uint_gt(keys, 1000);
	ck_ok(drop("/gone/"));
	while (more < keys && put("/next/", more, value, sizeof(value)) == 0)
		more++;
	ck_assert_uint_gt(more, keys / 10 * 8);
	ck_assert_uint_eq(keys_below("/next/"), more);
	close_store();
	open_store();
	ck_assert_uint_eq(keys_below("/"), more);
	close_store();
	device_close(device);
}

START_TEST(writer_without_space_erases_what_was_dropped)
{
	show_full(false);
}
END_TEST

START_TEST(writer_without_space_waits_for_the_eraser)
{
	show_full(true);
}
END_TEST

/* A volume (_i == 0) or memory full of directories of @keys keys of 1000 bytes.  Returns how
 * many of them are whole. */
static unsigned fill_with_directories(int is_memory, unsigned keys)
{
	static const char value[1000];
	unsigned directory = 0, i = 0;
	char path[64];

	if (is_memory) {
		options.cache_bytes = 16 << 20;
		options.no_threads = true;
		ck_ok(store_open_memory(&options, &store));
		ck_ok(store_batch_create(store, &batch));
	} else {
		make_store(48ull << 20, false);
	}
	for (;; directory++) {
		sprintf(path, "/%05u/", directory);
		for (i = 0; i < keys; i++)
			if (put(path, i, value, sizeof(value)) == -ENOSPC)
				return directory;
	}
}

/* Each drop of a large directory makes a frame, and each erased one has to be folded. */
START_TEST(full_stores_come_back_by_drops_alone)
{
	unsigned directories = fill_with_directories(_i, 100);
	char path[64];

	ck_assert_uint_gt(directories, 50);
	for (unsigned i = 0; i < directories; i++) {
		sprintf(path, "/%05u/", i);
		ck_ok(drop(path));
	}
	wait_erased();
	ck_assert_uint_le(count().tree_frames, 4);
	fill("/next/", 10000);
	close_store();
	if (!_i)
		device_close(device);
}
END_TEST

START_TEST(large_directories_can_be_renamed_in_full_stores)
{
	unsigned directories = fill_with_directories(_i, 300);
	char from[64], to[64];

	for (unsigned i = 0; i < directories; i++) {
		sprintf(from, "/%05u/", i);
		sprintf(to, "/to-%05u/", i);
		store_batch_reset(batch);
		store_batch_move_prefix(batch, from, (uint32_t)strlen(from), to, (uint32_t)strlen(to));
		ck_ok(store_commit(store, batch, NULL));
		ck_assert_uint_eq(keys_below(to), 300);
	}
	close_store();
	if (!_i)
		device_close(device);
}
END_TEST

void add_full_tests(TCase *tcase)
{
	tcase_add_test(tcase, writer_without_space_erases_what_was_dropped);
	tcase_add_test(tcase, writer_without_space_waits_for_the_eraser);
	tcase_add_loop_test(tcase, full_stores_come_back_by_drops_alone, 0, 2);
	tcase_add_loop_test(tcase, large_directories_can_be_renamed_in_full_stores, 0, 2);
}
