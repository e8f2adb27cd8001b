/* Shared by the parts of the device suite. */
#ifndef HOLTFS_TESTS_TEST_DEVICE_H
#define HOLTFS_TESTS_TEST_DEVICE_H

#include <check.h>
#include <stdint.h>

#include "device/device.h"

#define BLOCK 4096u
#define MIB (1024u * 1024)

/* Aligned memory full of @byte; free() it. */
void *test_bytes(uint32_t bytes, unsigned char byte);

/* One block of @byte written. */
void test_put(struct device *device, uint64_t block, unsigned char byte);

/* The byte of which the block consists; -1: of several. */
int test_get(struct device *device, uint64_t block);

/* Root's powers over files and limits are gone for the rest of this process. */
void test_drop_capabilities(void);

/* A file of zeros in the temporary directory, gone when the process ends. */
const char *test_file(uint64_t bytes);
struct device *test_open(const char *path, enum device_io io);

TCase *test_device_file_case(void);
TCase *test_device_uring_case(void);

#endif
