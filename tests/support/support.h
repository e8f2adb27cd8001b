/*
 * What several tests need: a main for Check suites, random numbers with a printed
 * seed, log lines on standard error.
 */
#ifndef HOLTFS_TESTS_SUPPORT_H
#define HOLTFS_TESTS_SUPPORT_H

#include <check.h>
#include <stdint.h>

/* Runs the suite; the exit status for main().  CK_FORK and friends work as usual. */
int support_run(Suite *suite);

/* TEST_SEED from the environment, else @fallback; printed once. */
uint64_t support_seed(uint64_t fallback);

/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift
 * generators, scrambled", 2016.  @state is not 0. */
uint64_t support_random(uint64_t *state);

/* Uniform enough below @end (not 0). */
uint64_t support_random_below(uint64_t *state, uint64_t end);

/* Log lines of core/ go to standard error. */
void support_log_to_stderr(void);

/*
 * Check notes every assertion that holds in a file, to say where a crash came after: a
 * write(2) each, which is most of the time of tests that compare byte by byte.
 */
#undef ck_assert_msg
#define ck_assert_msg(expr, ...)                                                       \
	((expr) ? (void)0 :                                                            \
		  _ck_assert_failed(__FILE__, __LINE__, "Assertion '" #expr "' failed", \
		      ##__VA_ARGS__))

#define ck_ok(expr) ck_assert_int_eq((expr), 0)

#endif
