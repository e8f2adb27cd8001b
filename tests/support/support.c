#include "config.h"

#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

#ifdef SANITIZE_THREAD
const char *__tsan_default_suppressions(void);

/*
 * Inode locks are taken from the root downwards (core/fs/fs_internal.h), and a rename
 * turns two directories round: the order holds at every instant, while the names gate
 * keeps the tree as it is, but not for ever, which is what ThreadSanitizer looks for.
 */
const char *__tsan_default_suppressions(void)
{
	return "deadlock:inode_lock\n";
}
#endif

int support_run(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

uint64_t support_seed(uint64_t fallback)
{
	const char *given = getenv("TEST_SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : fallback;

	printf("TEST_SEED=%llu\n", (unsigned long long)seed);
	fflush(stdout);
	return seed ? seed : 1;
}

uint64_t support_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 0x2545f4914f6cdd1dull;
}

uint64_t support_random_below(uint64_t *state, uint64_t end)
{
	return support_random(state) % end;
}

static void print_line(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	fprintf(stderr, "# %s\n", line);
}

void support_log_to_stderr(void)
{
	log_set_sink(print_line, NULL);
}
