/*
 * The conversation with the kernel: mount, first request, end.
 *
 *   create -> mount -> greet -> (workers.h) -> disconnect -> destroy
 *
 * All called by the daemon's main thread.
 */
#ifndef HOLTFS_FUSE_SESSION_H
#define HOLTFS_FUSE_SESSION_H

#include <stdbool.h>

struct daemon;
struct fuse_session;
struct session;

/* Errors are logged. */
int session_create(struct daemon *daemon, struct session **ret);
int session_mount(struct session *session);

/* Answers INIT.  The kernel sends nothing else before. */
int session_greet(struct session *session);

/* For workers: libfuse's session, and whether each may have its own descriptor. */
struct fuse_session *session_fuse(const struct session *session);
bool session_has_clones(const struct session *session);

/*
 * Cuts the connection without touching the mount point, for a mount that is no
 * longer there but lives on in open files; those get ENOTCONN.  After the workers
 * have left.
 */
void session_disconnect(struct session *session);

/* Unmounts if still connected. */
void session_destroy(struct session *session); /* NULL allowed */

#endif
