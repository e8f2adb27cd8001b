/*
 * The daemon's lines: "holtfs: warning: ..." on standard error, or syslog.
 *
 * Each line is one write(2), so lines of several threads do not mix.  The target is
 * an atomic: it changes once, while threads of core/ already run.
 */
#include "config.h"

#include "fuse/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "fuse/daemon.h"

#include <fuse_log.h>

#define LINE_BYTES 1200

static _Atomic bool has_syslog;
static enum log_level least_urgent; /* set at init */
static bool is_holding;		    /* one thread, at start-up */
static char held_line[LINE_BYTES];

static const struct {
	const char *prefix;
	int priority;
} levels[] = {
    [LOG_LEVEL_ERROR] = {"", LOG_ERR},
    [LOG_LEVEL_WARNING] = {"warning: ", LOG_WARNING},
    [LOG_LEVEL_INFO] = {"", LOG_INFO},
    [LOG_LEVEL_DEBUG] = {"debug: ", LOG_DEBUG},
};

static void print_line(enum log_level level, const char *line)
{
	char text[LINE_BYTES];
	int bytes = snprintf(
	    text, sizeof(text), "holtfs: %s%s\n", levels[level].prefix, line);
	ssize_t written;

	if (bytes >= (int)sizeof(text)) {
		bytes = (int)sizeof(text) - 1;
		text[bytes - 1] = '\n';
	}
	written = write(STDERR_FILENO, text, (size_t)bytes);
	(void)written; /* nowhere left to complain */
}

static void take_line(void *ctx, enum log_level level, const char *line)
{
	if (atomic_load_explicit(&has_syslog, memory_order_acquire)) {
		if (level < LOG_LEVEL_DEBUG)
			syslog(levels[level].priority, "%s", line);
	} else if (level <= least_urgent) {
		print_line(level, line);
	}
}

static enum log_level level_of_libfuse(enum fuse_log_level level)
{
	if (level <= FUSE_LOG_ERR)
		return LOG_LEVEL_ERROR;
	if (level == FUSE_LOG_WARNING)
		return LOG_LEVEL_WARNING;
	return level == FUSE_LOG_DEBUG ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;
}

static __attribute__((format(printf, 2, 0))) void take_libfuse(
    enum fuse_log_level level, const char *format, va_list ap)
{
	char line[LINE_BYTES / 2];
	size_t len;

	vsnprintf(line, sizeof(line), format, ap);
	len = strlen(line);
	while (len && line[len - 1] == '\n')
		line[--len] = '\0';
	if (is_holding && level <= FUSE_LOG_ERR)
		snprintf(held_line, sizeof(held_line), "%s", line);
	else
		log_line(level_of_libfuse(level), "%s", line);
}

void log_start(enum log_level least)
{
	least_urgent = least;
	log_set_sink(take_line, NULL);
	fuse_set_log_func(take_libfuse);
}

void log_to_syslog(void)
{
	openlog("holtfs", LOG_PID, LOG_DAEMON);
	atomic_store_explicit(&has_syslog, true, memory_order_release);
}

void log_hold_libfuse(bool is_held)
{
	is_holding = is_held;
	if (is_held)
		held_line[0] = '\0';
}

const char *log_held(void)
{
	return held_line;
}
