/* The store suite's fixture, and numbers as keys. */
#ifndef TESTS_UNIT_TEST_STORE_H
#define TESTS_UNIT_TEST_STORE_H

#include "store/store.h"
#include "tests/support/support.h"

#define VOLUME_BYTES (512ull << 20)

extern struct device *device;
extern struct store *store;

/* 16 slots, less than most trees here; and enough for all of them. */
extern struct store_options small, large;

void open_store(const struct store_options *options);

/* Closes or abandons the store and opens what is on the device then. */
void reopen(bool is_clean);

/* Numbers in the order of their keys, for pools that hold few frames: 0, 16, 32 .. 1, 17 .. */
uint64_t in_key_order(uint64_t at, uint64_t count);
void key_of(uint64_t number, char *key);

int put(const char *key, const void *value, uint32_t bytes);
void put_numbers(uint64_t first, uint64_t end, uint64_t salt);

/* test_store_frames.c */
void add_frame_tests(TCase *tcase);

#endif
