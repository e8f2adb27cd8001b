/* A device in which something happens while it reads. */
#ifndef HOLTFS_TESTS_SUPPORT_INTERRUPTED_H
#define HOLTFS_TESTS_SUPPORT_INTERRUPTED_H

#include "device/device.h"

/* Called by the next read, in its thread, before it reads; NULL again then. */
extern void (*support_interrupt)(void);

/* Over @disk, which stays the caller's.  One at a time. */
int support_open_interrupted(struct device *disk, struct device **ret);

#endif
