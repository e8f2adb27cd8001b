/*
 * fallocate on what is there: ranges punched and zeroed, for every kind of data; and
 * finding what is data and what is not.
 */
#include "config.h"

#include <errno.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "fs/fs_internal.h"
#include "tests/support/support.h"
#include "tests/unit/test_fs_parts.h"

#define MIB (1024u * 1024)
#define SPAN (512u * 1024)

#define KEEP FALLOC_FL_KEEP_SIZE
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO FALLOC_FL_ZERO_RANGE

/* ---- punching and zeroing ---------------------------------------------------------- */

enum { CLEAN = 1, DIRTY = 2, HALF = 4 };

/* A file of all that there is: inline or blocks, holes, claims, pending and recorded. */
static uint64_t make_mixed(size_t bytes, unsigned state, uint8_t *model)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

	test_fill(model, 1, 0, bytes);
	test_write(FS, ino, 1, 0, bytes);
	if (state & CLEAN)
		ck_ok(flush_all(FS));
	if ((state & HALF) && bytes > 100000) {
		test_allocate(ino, PUNCH, 20000, 30000);
		memset(model + 20000, 0, 30000);
		test_allocate(ino, KEEP, 35000, 15000);
	}
	if ((state & DIRTY) && bytes > 100000) {
		test_write(FS, ino, 2, 40000, 50000);
		test_fill(model + 40000, 2, 40000, 50000);
	}
	return ino;
}

static void try_range(size_t bytes, unsigned state, int mode, uint64_t from, uint64_t to)
{
	uint8_t *model = calloc(1, bytes + to), *got = malloc(bytes + to);
	uint64_t ino = make_mixed(bytes, state, model), size = bytes, blocks;

	test_allocate(ino, mode, from, to - from);
	if (!(mode & KEEP))
		size = max_of(size, to);
	if (from < size)
		memset(model + from, 0, min_of(to, size) - from);
	for (int again = 0; again < 2; again++) {
		ck_assert_uint_eq(test_attr(ino).size, size);
		ck_assert_uint_eq(test_read(FS, ino, 0, got, size + 10), size);
		for (uint64_t i = 0; i < size; i++)
			if (got[i] != model[i])
				ck_abort_msg("%zu bytes, state %u, mode %d from %llu to %llu: byte %llu",
				    bytes, state, mode, (unsigned long long)from,
				    (unsigned long long)to, (unsigned long long)i);
		blocks = test_attr(ino).blocks;
		ck_ok(flush_all(FS));
		if (bytes > 3072)
			ck_assert_uint_eq(test_attr(ino).blocks, blocks);
	}
	ck_ok(fs_unlink(FS, FS_ROOT_INO, test_name("f")));
	fs_forget(FS, ino, 1);
	test_expect_claims(0, 0);
	free(model);
	free(got);
}

static void try_ranges(int mode)
{
	static const size_t sizes[] = {0, 2000, 5000, 120000, 1400000};
	static const uint64_t edges[] = {0, 1, 1000, 4096, 4097, 39000, 61440, 120000, 524288,
	    524289, 1048576, 1400000, 1500001};

	for (size_t s = 0; s < ARRAY_COUNT(sizes); s++)
		for (unsigned state = 0; state < 8; state++)
			for (size_t a = 0; a < ARRAY_COUNT(edges); a++)
				for (size_t b = a + 1; b < ARRAY_COUNT(edges); b += 1 + (a + b) % 3)
					try_range(sizes[s], state, mode, edges[a], edges[b]);
	test_reopen_clean();
	test_expect_claims(0, 0);
}

START_TEST(punched_ranges_read_as_zeros)
{
	try_ranges(PUNCH);
}
END_TEST

START_TEST(zeroed_ranges_read_as_zeros)
{
	try_ranges(ZERO);
}
END_TEST

START_TEST(zeroed_ranges_keep_the_size_if_asked)
{
	try_ranges(ZERO | KEEP);
}
END_TEST

START_TEST(punching_frees_blocks_and_claims)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f"), used = test_used_blocks();

	test_write(FS, ino, 1, 0, 10 * MIB);
	test_allocate(ino, KEEP, 10 * MIB, 30 * MIB);
	ck_ok(fs_sync(FS));
	ck_assert_uint_eq(test_used_blocks(), used + 2560);
	test_expect_claims(30 * 256, 30 * 256);
	test_allocate(ino, PUNCH, MIB + 1, 34 * MIB); /* more than one transaction's spans */
	ck_ok(fs_sync(FS));
	ck_assert_uint_eq(test_used_blocks(), used + 257);
	test_expect_claims(5 * 256, 5 * 256);
	ck_assert_uint_eq(test_attr(ino).blocks, 8 * (257 + 5 * 256));
	ck_assert_uint_eq(test_attr(ino).size, 10 * MIB);
	test_reopen_clean();
	ino = test_walk(FS, "f");
	test_expect(FS, ino, 1, 0, MIB + 1);
	test_expect_zeros(ino, MIB + 1, 9 * MIB - 1);
	test_allocate(ino, PUNCH, 0, FS_FILE_MAX);
	ck_ok(fs_sync(FS));
	ck_assert_uint_eq(test_used_blocks(), used);
	ck_assert_uint_eq(test_attr(ino).blocks, 0);
	test_expect_claims(0, 0);
	test_reopen_clean();
}
END_TEST

START_TEST(zeroing_frees_blocks_and_claims_them)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f"), used = test_used_blocks();

	test_write(FS, ino, 1, 0, 3 * MIB);
	ck_ok(fs_sync(FS));
	test_allocate(ino, ZERO, MIB, 3 * MIB);
	ck_ok(fs_sync(FS));
	ck_assert_uint_eq(test_used_blocks(), used + 256);
	ck_assert_uint_eq(test_attr(ino).blocks, 8 * 1024);
	ck_assert_uint_eq(FS->reserve.recorded, 768);
	ck_assert_uint_eq(test_attr(ino).size, 4 * MIB);
	test_write(FS, ino, 2, 2 * MIB, 4096);
	test_expect(FS, ino, 2, 2 * MIB, 4096);
	test_reopen_clean();
	test_expect_claims(767, 767);
	ino = test_walk(FS, "f");
	test_expect(FS, ino, 1, 0, MIB);
	test_expect(FS, ino, 2, 2 * MIB, 4096);
	test_expect_zeros(ino, MIB, MIB);
}
END_TEST

/* The end of a cut block is not zeros on the volume until it is written anew. */
START_TEST(cut_blocks_may_be_punched_zeroed_and_allocated)
{
	static const int modes[] = {PUNCH, ZERO, ZERO | KEEP, 0, KEEP};

	for (unsigned way = 0; way < 4 * ARRAY_COUNT(modes); way++) {
		int mode = modes[way / 4];
		uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

		test_write(FS, ino, 1, 0, 20000);
		ck_ok(fs_sync(FS));
		test_set_size(ino, 9000);
		if (way & 1) {
			/* The cut is durable, what belongs behind it is not. */
			ck_ok(store_sync(FS->store, store_end_lsn(FS->store), JOURNAL_SYNC));
			test_volume_recover(&test_volume);
			ino = test_walk(FS, "f");
			ck_assert_uint_eq(test_attr(ino).size, 9000);
		}
		test_allocate(ino, mode, way & 2 ? 8192 : 8200, 10000);
		test_set_size(ino, 30000);
		if (mode == PUNCH && (way & 2))
			ck_assert_uint_eq(test_attr(ino).blocks, 8 * 2);
		test_expect(FS, ino, 1, 0, 8192);
		test_expect_zeros(ino, 9000, 21000);
		if (mode != PUNCH && !(mode & ZERO))
			test_expect(FS, ino, 1, 8192, 808);
		ck_ok(fs_sync(FS));
		ck_ok(fs_unlink(FS, FS_ROOT_INO, test_name("f")));
		fs_forget(FS, ino, 1);
	}
	test_reopen_clean();
}
END_TEST

static uint64_t commits(void)
{
	struct store_counters counters;

	store_counters(FS->store, &counters);
	return counters.commits;
}

START_TEST(terabytes_of_nothing_are_punched_at_once)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f"), before;

	test_write(FS, ino, 1, 7ull << 40, 5000);
	test_write(FS, ino, 1, 100, 5000);
	ck_ok(fs_sync(FS));
	before = commits();
	test_allocate(ino, PUNCH, 0, FS_FILE_MAX);
	ck_assert_uint_le(commits() - before, 2);
	ck_assert_uint_eq(test_attr(ino).blocks, 0);
	before = commits();
	test_allocate(ino, PUNCH, 1, FS_FILE_MAX - 1);
	ck_assert_uint_le(commits() - before, 2);
	test_reopen_clean();
}
END_TEST

/* ---- seeking --------------------------------------------------------------------------------- */

static void expect_seek(uint64_t ino, uint64_t offset, int whence, int64_t wanted)
{
	uint64_t found = 0;
	int err = fs_seek(FS, ino, offset, whence, &found);

	if (err < 0 ? err != wanted : (int64_t)found != wanted)
		ck_abort_msg("%s from %llu: %lld instead of %lld",
		    whence == SEEK_DATA ? "data" : "hole", (unsigned long long)offset,
		    (long long)(err < 0 ? err : (int64_t)found), (long long)wanted);
}

/* Data at [MIB + 4096, 3 MIB), claims before and behind it. */
static void expect_island(uint64_t ino)
{
	expect_seek(ino, 0, SEEK_HOLE, 0);
	expect_seek(ino, 0, SEEK_DATA, MIB + 4096);
	expect_seek(ino, MIB + 4095, SEEK_HOLE, MIB + 4095);
	expect_seek(ino, MIB + 5000, SEEK_DATA, MIB + 5000);
	expect_seek(ino, MIB + 5000, SEEK_HOLE, 3 * MIB);
	expect_seek(ino, 3 * MIB - 1, SEEK_HOLE, 3 * MIB);
	expect_seek(ino, 3 * MIB, SEEK_DATA, -ENXIO);
	expect_seek(ino, 3 * MIB + 1, SEEK_HOLE, 3 * MIB + 1);
	expect_seek(ino, 4 * MIB - 1, SEEK_HOLE, 4 * MIB - 1);
	expect_seek(ino, 4 * MIB, SEEK_HOLE, -ENXIO);
	expect_seek(ino, 4 * MIB, SEEK_DATA, -ENXIO);
	expect_seek(ino, UINT64_MAX, SEEK_DATA, -ENXIO);
}

START_TEST(data_and_holes_are_found)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

	expect_seek(ino, 0, SEEK_DATA, -ENXIO);
	expect_seek(ino, 0, SEEK_HOLE, -ENXIO);
	test_set_size(ino, 4 * MIB);
	expect_seek(ino, 0, SEEK_DATA, -ENXIO);
	expect_seek(ino, 0, SEEK_HOLE, 0);
	test_write(FS, ino, 1, MIB + 4096, 2 * MIB - 4096);
	expect_island(ino);
	ck_ok(fs_sync(FS));
	expect_island(ino);
	test_allocate(ino, KEEP, 0, 6 * MIB);
	expect_island(ino);
	test_reopen_clean();
	ino = test_walk(FS, "f");
	expect_island(ino);
	test_allocate(ino, PUNCH, MIB + 8192, 4096);
	expect_seek(ino, MIB + 4096, SEEK_HOLE, MIB + 8192);
	expect_seek(ino, MIB + 8192, SEEK_DATA, MIB + 3 * 4096);
	ck_assert_int_eq(fs_seek(FS, ino, 0, SEEK_SET, &(uint64_t){0}), -EINVAL);
	ck_assert_int_eq(fs_seek(FS, FS_ROOT_INO, 0, SEEK_DATA, &(uint64_t){0}), -EINVAL);
}
END_TEST

START_TEST(data_up_to_the_end_is_followed_by_a_hole)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

	test_write(FS, ino, 1, 0, 100);
	expect_seek(ino, 0, SEEK_HOLE, 100);
	expect_seek(ino, 99, SEEK_DATA, 99);
	test_set_size(ino, 1ull << 40); /* inline data, and a hole behind it */
	expect_seek(ino, 0, SEEK_HOLE, 4096);
	expect_seek(ino, 5000, SEEK_DATA, -ENXIO);
	expect_seek(ino, 5000, SEEK_HOLE, 5000);
	test_set_size(ino, 100);
	test_write(FS, ino, 1, 100, 700000);
	expect_seek(ino, 0, SEEK_HOLE, 700100);
	ck_ok(fs_sync(FS));
	expect_seek(ino, 0, SEEK_HOLE, 700100);
	expect_seek(ino, 700099, SEEK_DATA, 700099);
}
END_TEST

START_TEST(terabytes_of_nothing_are_skipped)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

	test_write(FS, ino, 1, (7ull << 40) + 5000, 5000);
	expect_seek(ino, 1, SEEK_DATA, (7ll << 40) + 4096);
	ck_ok(fs_sync(FS));
	expect_seek(ino, 1, SEEK_DATA, (7ll << 40) + 4096);
	test_volume_reopen(&test_volume);
	ino = test_walk(FS, "f");
	expect_seek(ino, 1, SEEK_DATA, (7ll << 40) + 4096);
	expect_seek(ino, (7ull << 40) + 4096, SEEK_HOLE, (7ll << 40) + 10000);
}
END_TEST

/* More spans without data than are looked at in one go. */
START_TEST(long_allocations_are_passed_in_steps)
{
	uint64_t ino = test_file(FS, FS_ROOT_INO, "f");

	for (uint64_t span = 0; span < 3000; span++)
		test_allocate(ino, 0, span * SPAN, 1);
	test_write(FS, ino, 1, 2500 * (uint64_t)SPAN, 10);
	expect_seek(ino, 0, SEEK_DATA, 2500ll * SPAN);
	expect_seek(ino, 2500ull * SPAN + 1, SEEK_HOLE, 2500ll * SPAN + 4096);
	ck_ok(fs_sync(FS));
	test_volume_reopen(&test_volume);
	ino = test_walk(FS, "f");
	expect_seek(ino, 0, SEEK_DATA, 2500ll * SPAN);
}
END_TEST

TCase *test_fs_ranges(void)
{
	TCase *tests = tcase_create("ranges");

	tcase_add_checked_fixture(tests, test_fs_setup, test_fs_teardown);
	tcase_set_timeout(tests, 240);
	tcase_add_test(tests, punched_ranges_read_as_zeros);
	tcase_add_test(tests, zeroed_ranges_read_as_zeros);
	tcase_add_test(tests, zeroed_ranges_keep_the_size_if_asked);
	tcase_add_test(tests, punching_frees_blocks_and_claims);
	tcase_add_test(tests, zeroing_frees_blocks_and_claims_them);
	tcase_add_test(tests, cut_blocks_may_be_punched_zeroed_and_allocated);
	tcase_add_test(tests, terabytes_of_nothing_are_punched_at_once);
	tcase_add_test(tests, data_and_holes_are_found);
	tcase_add_test(tests, data_up_to_the_end_is_followed_by_a_hole);
	tcase_add_test(tests, terabytes_of_nothing_are_skipped);
	tcase_add_test(tests, long_allocations_are_passed_in_steps);
	return tests;
}
