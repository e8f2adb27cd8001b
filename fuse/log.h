/*
 * Where the daemon's lines go: standard error until it is in the background, then
 * syslog.  Installs itself as sink of base/log.h and of libfuse's messages.
 */
#ifndef HOLTFS_FUSE_LOG_H
#define HOLTFS_FUSE_LOG_H

#include <stdbool.h>

#include "base/log.h"

/* Lines less urgent than @least are dropped on standard error; syslog gets
 * everything but debug.  Called before threads start. */
void log_start(enum log_level least);
void log_to_syslog(void);

/*
 * While held, libfuse's own errors are kept instead of printed, the last one to be
 * had from log_held(): "" if there was none.  One thread.
 */
void log_hold_libfuse(bool is_held);
const char *log_held(void);

#endif
