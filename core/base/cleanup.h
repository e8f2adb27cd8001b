/*
 * Release of memory and descriptors at the end of a scope.  Latches, locks and
 * leases are released explicitly, so that their order stays visible.
 */
#ifndef HOLTFS_BASE_CLEANUP_H
#define HOLTFS_BASE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_fn(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_fd_fn(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define cleanup_free __attribute__((cleanup(cleanup_free_fn)))
#define cleanup_fd __attribute__((cleanup(cleanup_fd_fn)))

/* Takes the pointer out of a variable whose scope would free it. */
#define steal_pointer(p)                                                       \
	({                                                                     \
		__typeof__(p) stolen_ = (p);                                   \
		(p) = NULL;                                                    \
		stolen_;                                                       \
	})

static inline int steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

#endif
