/* Assertion failures: say where and what, then abort with a core file. */
#include "config.h"

#include "base/assert.h"

#include <stdlib.h>

#include "base/log.h"

void assert_failed(const char *file, int line, const char *what)
{
	log_error("%s:%d: assertion failed: %s", file, line, what);
	abort();
}
