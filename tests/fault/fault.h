/* What the parts of the fault test share. */
#ifndef HOLTFS_TESTS_FAULT_H
#define HOLTFS_TESTS_FAULT_H

#include <check.h>
#include <stdint.h>

#include "fs/fs.h"

struct device;

#define FAULT_CACHE_BYTES (8ull << 20)

extern const struct fs_options fault_fs; /* small, without threads, device kept */

void fault_format(struct device *device);

/* The consistency walk finds nothing wrong with what is on the device. */
void fault_expect_whole(struct device *device, const char *when);

/* Full volumes. */
TCase *full_volume_tests(void);

#endif
