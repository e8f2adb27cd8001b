/*
 * Numbers of threads.
 *
 * A bit map of the numbers in use.  A thread takes the lowest free one when it first
 * counts something and gives it back when it ends: the destructor of a thread-specific
 * key does, with release order, and the next taker acquires it, so what the next one
 * adds to a line comes after what the last one added.
 *
 * What a thread still counts after its destructor ran goes to the shared line.
 */
#include "config.h"

#include "base/counter.h"

#include <pthread.h>

#include "base/assert.h"
#include "base/bytes.h"

_Static_assert(THREAD_NUMBERS == 64, "one word holds the numbers in use");

_Thread_local unsigned thread_number_given;

/* The shared number is always in use. */
static _Atomic uint64_t numbers_used = BIT(THREAD_NUMBER_SHARED);
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t at_end;

static void give_back(void *given)
{
	unsigned number = (unsigned)(uintptr_t)given - 1;

	thread_number_given = THREAD_NUMBER_SHARED + 1;
	atomic_fetch_and_explicit(&numbers_used, ~BIT(number), memory_order_release);
}

static void create_key(void)
{
	ASSERT(pthread_key_create(&at_end, give_back) == 0);
}

unsigned thread_number_take(void)
{
	uint64_t used = atomic_load_explicit(&numbers_used, memory_order_relaxed);
	unsigned number = THREAD_NUMBER_SHARED;

	pthread_once(&once, create_key);
	while (~used) {
		number = (unsigned)__builtin_ctzll(~used);
		if (atomic_compare_exchange_weak_explicit(&numbers_used, &used,
			used | BIT(number), memory_order_acquire, memory_order_relaxed))
			break;
		number = THREAD_NUMBER_SHARED;
	}
	if (number != THREAD_NUMBER_SHARED &&
	    pthread_setspecific(at_end, (void *)(uintptr_t)(number + 1)) != 0) {
		atomic_fetch_and_explicit(&numbers_used, ~BIT(number), memory_order_release);
		number = THREAD_NUMBER_SHARED;
	}
	thread_number_given = number + 1;
	return number;
}
