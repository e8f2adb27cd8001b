/*
 * Where messages go.  core/ never prints: it hands a finished line to the sink
 * that the program installed (standard error, syslog, a test's list).  Without a
 * sink, lines are dropped.
 *
 * The sink is set once, before threads start; it must be thread safe.
 */
#ifndef HOLTFS_BASE_LOG_H
#define HOLTFS_BASE_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* @line has no newline and is valid during the call only. */
typedef void (*log_sink_fn)(void *ctx, enum log_level level, const char *line);

void log_set_sink(log_sink_fn sink, void *ctx);

void log_line(enum log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
