/* What the tests of drops share. */
#ifndef HOLTFS_TESTS_UNIT_TEST_STORE_DROP_H
#define HOLTFS_TESTS_UNIT_TEST_STORE_DROP_H

#include "store/store.h"
#include "tests/support/support.h"

extern struct device *device;
extern struct store *store;
extern struct store_batch *batch;
extern struct store_options options;

/* A new volume in memory, and the store on it; the store on a volume there is. */
void make_store(uint64_t volume_bytes, bool has_threads);
void open_store(void);
void close_store(void);

struct store_counters count(void);
int put(const char *directory, unsigned number, const void *value, uint32_t value_bytes);
void fill(const char *directory, unsigned keys);
int drop(const char *prefix);
unsigned keys_below(const char *prefix);

/* Until all is erased: by commits of our own, or by the store's thread. */
void wait_erased(void);

void add_full_tests(TCase *tcase);

#endif
