/* The parts of the pool's suite (facts, latches, threads) and what they share. */
#ifndef HOLTFS_TESTS_TEST_POOL_H
#define HOLTFS_TESTS_TEST_POOL_H

#include "config.h"

#include <check.h>
#include <pthread.h>
#include <stdint.h>

#include "pool/pool_internal.h"

#define THREADS 4u

#ifdef SANITIZE_THREAD
#define ROUNDS 3000u
#else
#define ROUNDS 20000u
#endif

TCase *pool_latch_tests(void);
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

/* What the threads of one test share. */
struct arena {
	struct pool *pool;
	uint32_t slot;
	_Atomic bool is_over;
	_Atomic uint32_t winners, next_number, arrived;
	pthread_barrier_t barrier; /* of THREADS */
	uint64_t plain;		   /* guarded by the latch under test */
	struct free_list list;
	_Atomic uint32_t holders[64];
};

void open_arena(struct arena *a, uint32_t slots);
void close_arena(struct arena *a);
void run_threads(unsigned count, void *(*fn)(void *), struct arena *a);
void nap_us(unsigned us);

#endif
