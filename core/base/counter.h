/*
 * Counting without shared cache lines.
 *
 * Every thread has a number that no other living thread has; what is counted lies in
 * one line for each number, and the owner of a number adds to its line without a locked
 * instruction.  Threads beyond the last number share a line and add atomically.
 *
 *    counter_add(&stats[thread_number()].gets, 1)
 *    sum over all lines: nothing is lost, and a sum may lag behind by what is just
 *    being counted.
 */
#ifndef HOLTFS_BASE_COUNTER_H
#define HOLTFS_BASE_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

#define THREAD_NUMBERS 64u /* 0..THREAD_NUMBERS - 1 */
#define THREAD_NUMBER_SHARED (THREAD_NUMBERS - 1)

/* 0: not yet given; else the number plus 1. */
extern _Thread_local unsigned thread_number_given __attribute__((tls_model("initial-exec")));

unsigned thread_number_take(void);

/* This thread's number; it goes to another thread when this one has ended. */
static inline unsigned thread_number(void)
{
	unsigned given = thread_number_given;

	return __builtin_expect(given != 0, 1) ? given - 1 : thread_number_take();
}

/* @counter lies in the line of thread @number, the caller's. */
static inline void counter_add(unsigned number, _Atomic uint64_t *counter, uint64_t count)
{
	if (number == THREAD_NUMBER_SHARED) {
		atomic_fetch_add_explicit(counter, count, memory_order_relaxed);
		return;
	}
	atomic_store_explicit(counter,
	    atomic_load_explicit(counter, memory_order_relaxed) + count, memory_order_relaxed);
}

#endif
