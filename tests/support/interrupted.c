#include "config.h"

#include "tests/support/interrupted.h"

_Atomic(support_interrupt_fn *) support_interrupt;

static int read_disk(void *disk, uint64_t offset, void *memory, size_t bytes)
{
	support_interrupt_fn *now = atomic_exchange(&support_interrupt, NULL);

	if (now)
		now();
	return device_read(disk, memory, (uint32_t)bytes, offset);
}

static int write_disk(void *disk, uint64_t offset, const void *memory, size_t bytes)
{
	return device_write(disk, memory, (uint32_t)bytes, offset);
}

static int flush_disk(void *disk)
{
	return device_flush(disk);
}

int support_open_interrupted(struct device *disk, struct device **ret)
{
	struct device_functions functions = {
	    .ctx = disk,
	    .bytes = device_bytes(disk),
	    .read = read_disk,
	    .write = write_disk,
	    .flush = flush_disk,
	};

	return device_open_functions(&functions, ret);
}
