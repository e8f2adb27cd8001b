/* Waiting on a 32-bit word in this process, as futex(2) does it. */
#ifndef HOLTFS_BASE_FUTEX_H
#define HOLTFS_BASE_FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

/* Sleeps while *@word == @expected.  May return early: callers loop. */
void futex_wait(_Atomic uint32_t *word, uint32_t expected);

/* The same for at most @timeout_ns. */
void futex_wait_for(_Atomic uint32_t *word, uint32_t expected, uint64_t timeout_ns);

void futex_wake(_Atomic uint32_t *word, int count); /* INT_MAX: all */

/* Between two looks at a word that is about to change, a few of them before sleeping. */
static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#endif
}

#endif
