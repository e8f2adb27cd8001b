/*
 * Assertions.
 *
 * ASSERT() states what holds unless this program is wrong: a lock is held, a
 * state is legal, an index is in range.  It stays on in release builds.
 * ASSERT_SLOW() checks whole structures and exists in --enable-debug builds.
 * Neither is ever used on bytes from disk or on arguments of a user: those are
 * errors, not mistakes of ours.
 */
#ifndef HOLTFS_BASE_ASSERT_H
#define HOLTFS_BASE_ASSERT_H

#include <stdbool.h>

_Noreturn void assert_failed(const char *file, int line, const char *what);

#define ASSERT(cond)                                                           \
	do {                                                                   \
		if (__builtin_expect(!(cond), 0))                              \
			assert_failed(__FILE__, __LINE__, #cond);              \
	} while (0)

#ifdef DEBUG_CHECKS
#define ASSERT_SLOW(cond) ASSERT(cond)
#else
#define ASSERT_SLOW(cond) ((void)sizeof(cond))
#endif

#endif
