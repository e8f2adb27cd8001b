/*
 * What the tests of the public interface share: a store on a device in memory that
 * outlives it, and calls with strings for keys and values.
 */
#ifndef HOLTFS_TESTS_TEST_HOLT_H
#define HOLTFS_TESTS_TEST_HOLT_H

#include <stdbool.h>
#include <stdint.h>

#include "holt/holt.h"

extern struct holt *holt;

/* Fails the Nth call from now on; 0: none. */
struct holt_disk {
	uint8_t *bytes;
	uint64_t size;
	_Atomic uint64_t fail_write_at, fail_flush_at;
	_Atomic uint64_t reads, writes, flushes, discards;
	_Atomic int closes;
};

extern struct holt_disk disk;
extern const struct holt_device disk_device;
extern struct holt_options disk_options;

/* A checked fixture: an empty store, small cache, no threads. */
void holt_setup(void);
void holt_teardown(void);
void holt_reopen(void);

int put(const char *key, const char *value);
int get_is(const char *key, const char *value); /* 0, -ENOENT, 1: another value */
bool is_there(const char *key);
uint64_t version_of(const char *key);

/* "a=1 b=2 c/" of the items in @range, at most @limit of them. */
const char *list(const struct holt_range *range, size_t limit);
const char *list_all(void);

#define S(text) (text), (sizeof(text) - 1)

#endif
