/*
 * A volume to be damaged on purpose: made by the file layer, in memory, closed.  What a
 * check of it says is kept line by line.
 */
#ifndef HOLTFS_TESTS_CHECK_VOLUME_H
#define HOLTFS_TESTS_CHECK_VOLUME_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>

#include "check/check.h"
#include "device/device_test.h"
#include "format/fs_format.h"
#include "store/store.h"
#include "tests/support/support.h"
#include "tree/tree.h"

#define CHECK_VOLUME_BYTES (64ull << 20)
#define CHECK_FILES 4000 /* in /many: more than a tree frame holds */
#define CHECK_BIG_BYTES (3 * SPAN_BYTES / 2 + 100) /* of /big */

extern struct device *volume;

/*
 * /many/file-NNNN (inline data), /many/deep/er/..., /small (a block and a bit), /big (two
 * spans), /link, /fifo.
 */
void volume_make(void);

/* The same, but the last changes are only in the log. */
void volume_make_unclosed(void);
void volume_remove(void);

/* The store of the volume, opened for writing, and closed again. */
struct store *volume_open(void);
void volume_close(struct store *store);

/* ---- changes behind the file layer's back -------------------------------------- */

/* Keys and values, strings with NULs written as "\0" and a length. */
void volume_put(struct store *store, const void *key, size_t key_bytes, const void *value, size_t bytes);
void volume_delete(struct store *store, const void *key, size_t key_bytes);
uint32_t store_value(struct store *store, const void *key, size_t key_bytes, void *value, size_t capacity);

/* Key of a string literal. */
#define KEY(literal) literal, (sizeof(literal) - 1)

/* Reads, changes and puts back an inode record. */
struct inode_value inode_of(struct store *store, const void *key, size_t key_bytes);
void inode_put_back(struct store *store, const void *key, size_t key_bytes, const struct inode_value *value);

/* Span 0 of an inode record. */
void span_of(struct inode_value *value, struct span_map *ret);
void span_put_back(struct inode_value *value, const struct span_map *map);

/* A well filled tree frame that is not the root, with its place. */
uint64_t some_child_frame(struct store *store, struct manifest_place *ret);

/* ---- the check ------------------------------------------------------------------- */

#define LINES_MAX 64

struct findings {
	int result;
	struct check_totals totals;
	uint32_t count;
	struct {
		enum check_severity severity;
		char text[1024];
	} lines[LINES_MAX];
};

/* Of a copy of the volume.  @with_data as in the options. */
void volume_check(struct findings *ret, bool with_data);

/* Of a device, which goes. */
void device_check(struct findings *ret, struct device *device, bool with_data, bool is_store_only);

/* How many lines of the severity contain the text. */
uint32_t findings_count(const struct findings *findings, enum check_severity severity, const char *text);

/* No damage, no leak, the walk at its end. */
void expect_clean(const struct findings *findings);

/* One finding of the kind that contains the text, and no other damage or leak. */
void expect_only(const struct findings *findings, enum check_severity severity, const char *text);

#endif
