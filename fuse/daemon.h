/*
 * What the parts of the daemon share: one struct, handed to libfuse as user data.
 */
#ifndef HOLTFS_FUSE_DAEMON_H
#define HOLTFS_FUSE_DAEMON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"
#include "fs/fs.h"
#include "fuse/options.h"

/* The oldest API level with all we call; libfuse keeps it for newer ones. */
#define FUSE_USE_VERSION 34

struct listing_handle;
struct session;
struct workers;

struct daemon {
	/* Set at init. */
	struct options options;
	char *volume;	  /* absolute */
	char *mountpoint; /* absolute */
	struct fs *fs;
	struct session *session;
	struct workers *workers;

	/* Set while the first request is answered, by the one thread there is then. */
	uint32_t kernel_init_flags; /* FUSE_* it offers, until INIT is answered */
	bool is_initialised;
	bool has_no_open; /* the kernel can do without OPEN and RELEASE */

	struct mutex lock;
	struct listing_handle *listings; /* guarded by lock */
};

#endif
