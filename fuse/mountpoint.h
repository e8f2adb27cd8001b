/*
 * The mount point and the host's FUSE: what stands in the way of a mount, said
 * before it is tried; and what is done to the mount from outside once it stands.
 */
#ifndef HOLTFS_FUSE_MOUNTPOINT_H
#define HOLTFS_FUSE_MOUNTPOINT_H

#include <stdbool.h>
#include <sys/types.h>

/* The absolute path, in memory of the caller's.  Errors are logged. */
int mountpoint_resolve(const char *given, char **ret);

/* Can this user mount there?  Errors are logged. */
int mountpoint_check(const char *path, bool has_allow_other);

/* Where this volume is mounted already, as far as one can see; in memory of the
 * caller's, or NULL. */
char *mountpoint_of_volume(const char *volume);

/* Asks the mount for its root; returns its device number.  Needs a running session. */
int mountpoint_probe(const char *path, dev_t *ret);

/* Lets the kernel read ahead as far as one frame stream likes it.  Only root may;
 * without it everything works, slower. */
void mountpoint_raise_readahead(dev_t device);

/*
 * Starts the write-back of what the kernel holds and takes the mount out of the
 * tree, also while files in it are open.  Nothing happens if something else is
 * mounted there by now.  Needs a running session.
 */
void mountpoint_detach(const char *path, dev_t device);

#endif
