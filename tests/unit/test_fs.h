/* A volume in a temporary file, opened, left and opened again; shared by the tests of
 * the file layer. */
#ifndef HOLTFS_TESTS_TEST_FS_H
#define HOLTFS_TESTS_TEST_FS_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>

#include "fs/fs.h"

struct test_volume {
	char path[256];
	struct fs *fs;
	struct fs_options options;
};

#define TEST_VOLUME_BYTES (64ull * 1024 * 1024)
#define TEST_CACHE_BYTES (8ull * 1024 * 1024)

/* Makes and opens a volume without threads. */
void test_volume_make(struct test_volume *volume, uint64_t bytes);
void test_volume_remove(struct test_volume *volume); /* closes it too */

void test_volume_open(struct test_volume *volume);
void test_volume_reopen(struct test_volume *volume);  /* closed properly */
void test_volume_recover(struct test_volume *volume); /* the process died */

struct fs_name test_name(const char *name);

extern const struct fs_cred test_cred;

/* The number of a path from the root, each part looked up; the last keeps its look-up. */
uint64_t test_walk(struct fs *fs, const char *path);

/* Makes it with mode 0644 or 0755, with a look-up; answers its number. */
uint64_t test_file(struct fs *fs, uint64_t parent, const char *name);
uint64_t test_dir(struct fs *fs, uint64_t parent, const char *name);

/* Bytes that tell file and offset. */
void test_fill(uint8_t *to, uint64_t seed, uint64_t offset, size_t bytes);
void test_write(struct fs *fs, uint64_t ino, uint64_t seed, uint64_t offset, size_t bytes);

/* Reads into @to; answers how much there was. */
size_t test_read(struct fs *fs, uint64_t ino, uint64_t offset, void *to, size_t bytes);
void test_expect(struct fs *fs, uint64_t ino, uint64_t seed, uint64_t offset, size_t bytes);

#endif
