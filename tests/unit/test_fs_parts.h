/* The parts of the file layer's suite, and the volume that each test has. */
#ifndef HOLTFS_TESTS_TEST_FS_PARTS_H
#define HOLTFS_TESTS_TEST_FS_PARTS_H

#include "tests/unit/test_fs.h"

extern struct test_volume test_volume;
#define FS (test_volume.fs)

void test_fs_setup(void);
void test_fs_teardown(void);

TCase *test_fs_allocation(void);
TCase *test_fs_data(void);
TCase *test_fs_listings(void);
TCase *test_fs_recovery(void);
TCase *test_fs_threads(void);

#endif
