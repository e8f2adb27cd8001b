/* The two halves of the pool's suite: facts, and facts under threads. */
#ifndef HOLTFS_TESTS_TEST_POOL_H
#define HOLTFS_TESTS_TEST_POOL_H

#include <check.h>
#include <stdint.h>

#include "pool/pool.h"

TCase *pool_thread_tests(void);

/* A pool without a device. */
struct pool *test_pool_open(uint32_t slots);

/* Leases a slot and publishes it as @key; not latched. */
uint32_t test_pool_add(struct pool *pool, frame_key key);

/* Withdraws and releases whatever is live. */
void test_pool_empty(struct pool *pool);

static inline frame_key tree_key(uint64_t number)
{
	return frame_key_make(FRAME_TREE, number);
}

#endif
