/* A device in which something happens while it reads. */
#ifndef HOLTFS_TESTS_SUPPORT_INTERRUPTED_H
#define HOLTFS_TESTS_SUPPORT_INTERRUPTED_H

#include <stdatomic.h>

#include "device/device.h"

typedef void support_interrupt_fn(void);

/* Called by the next read, in its thread, before it reads; NULL again then. */
extern _Atomic(support_interrupt_fn *) support_interrupt;

/* Over @disk, which stays the caller's.  One at a time. */
int support_open_interrupted(struct device *disk, struct device **ret);

#endif
