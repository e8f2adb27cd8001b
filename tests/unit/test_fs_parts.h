/* The parts of the file layer's suite, and the volume that each test has. */
#ifndef HOLTFS_TESTS_TEST_FS_PARTS_H
#define HOLTFS_TESTS_TEST_FS_PARTS_H

#include "tests/unit/test_fs.h"

extern struct test_volume test_volume;
#define FS (test_volume.fs)

void test_fs_setup(void);
void test_fs_teardown(void);

/* test_fs_allocation.c, for other parts too */
struct fs_attr test_attr(uint64_t ino);
void test_set_size(uint64_t ino, uint64_t size);
void test_expect_zeros(uint64_t ino, uint64_t offset, size_t bytes);
void test_allocate(uint64_t ino, int mode, uint64_t offset, uint64_t bytes);
uint64_t test_used_blocks(void);

/* What the file layer counts of allocated blocks: in the tree, and not in segments. */
void test_expect_claims(uint64_t recorded, uint64_t open);

/* Closed or left, walked with nothing found, opened again. */
void test_reopen_clean(void);
void test_recover_clean(void);

TCase *test_fs_allocation(void);
TCase *test_fs_data(void);
TCase *test_fs_listings(void);
TCase *test_fs_ranges(void);
TCase *test_fs_recovery(void);
TCase *test_fs_threads(void);

#endif
