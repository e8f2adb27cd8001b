/* The message sink: format into a bounded line, hand it on. */
#include "config.h"

#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define LINE_BYTES 1024

static log_sink_fn log_sink; /* set at start-up, then constant */
static void *log_sink_ctx;

void log_set_sink(log_sink_fn sink, void *ctx)
{
	log_sink = sink;
	log_sink_ctx = ctx;
}

void log_line(enum log_level level, const char *format, ...)
{
	char line[LINE_BYTES];
	int saved_errno = errno;
	va_list ap;

	if (!log_sink)
		return;
	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	log_sink(log_sink_ctx, level, line);
	errno = saved_errno;
}
