/*
 * The threads that serve requests.
 *
 *   create -> start -> (requests) -> stop, or the mount goes away -> destroy
 *
 * All called by the daemon's main thread, which serves no requests itself; so it may
 * use the mount once start has returned.
 */
#ifndef HOLTFS_FUSE_WORKERS_H
#define HOLTFS_FUSE_WORKERS_H

#include <signal.h>

struct daemon;
struct workers;

/* Wakes workers; blocked in every other thread. */
#define WORKERS_KICK_SIGNAL SIGUSR1

/* For the daemon's greeted session.  Errors are logged. */
int workers_create(struct daemon *daemon, struct workers **ret);
int workers_start(struct workers *workers);

/* Becomes readable when the last worker has left. */
int workers_ended_fd(const struct workers *workers);

/* They answer what has arrived and leave.  Does not wait. */
void workers_stop(struct workers *workers);

/* Waits until all have left. */
void workers_destroy(struct workers *workers); /* NULL allowed */

#endif
