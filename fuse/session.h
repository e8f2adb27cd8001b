/*
 * The conversation with the kernel: libfuse's session and the threads that serve it.
 *
 *   create -> mount -> greet -> start -> (requests) -> stop -> join -> destroy
 *
 * All called by the daemon's main thread, which serves no requests after greet; so
 * it may use the mount itself once start has returned.
 */
#ifndef HOLTFS_FUSE_SESSION_H
#define HOLTFS_FUSE_SESSION_H

#include <signal.h>
#include <stdbool.h>

struct daemon;
struct session;

/* Wakes workers; blocked in every other thread. */
#define SESSION_KICK_SIGNAL SIGUSR1

/* Errors are logged. */
int session_create(struct daemon *daemon, struct session **ret);
int session_mount(struct session *session);

/* Answers INIT.  The kernel sends nothing else before. */
int session_greet(struct session *session);
int session_start(struct session *session);

/* Becomes readable when the last worker has left. */
int session_ended_fd(const struct session *session);

/* False once the mount is gone for good: unmounted or aborted. */
bool session_is_connected(const struct session *session);

/* Workers answer what has arrived and leave.  Does not wait. */
void session_stop(struct session *session);
void session_join(struct session *session);

/*
 * Cuts the connection without touching the mount point, for a mount that is no
 * longer there but lives on in open files; those get ENOTCONN.  After join.
 */
void session_disconnect(struct session *session);

/* Unmounts if still connected. */
void session_destroy(struct session *session); /* NULL allowed */

#endif
