/* The disk of fuzz targets. */
#include "config.h"

#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <string.h>

#include "device/device.h"
#include "format/format.h"

void fuzz_disk_make(struct fuzz_disk *disk, uint64_t bytes)
{
	*disk = (struct fuzz_disk){
	    .memory = aligned_alloc(BLOCK_BYTES, bytes),
	    .is_changed = calloc(bytes / BLOCK_BYTES, 1),
	    .bytes = bytes,
	};
	FUZZ_CHECK(disk->memory && disk->is_changed);
	memset(disk->memory, 0, bytes);
}

void fuzz_disk_freeze(struct fuzz_disk *disk)
{
	disk->frozen = malloc(disk->bytes);
	FUZZ_CHECK(disk->frozen);
	memcpy(disk->frozen, disk->memory, disk->bytes);
	memset(disk->is_changed, 0, disk->bytes / BLOCK_BYTES);
}

void fuzz_disk_renew(struct fuzz_disk *disk)
{
	disk->is_dead = false;
	for (uint64_t i = 0; i < disk->bytes / BLOCK_BYTES; i++) {
		if (!disk->is_changed[i])
			continue;
		memcpy(disk->memory + i * BLOCK_BYTES, disk->frozen + i * BLOCK_BYTES, BLOCK_BYTES);
		disk->is_changed[i] = 0;
	}
}

void fuzz_disk_touch(struct fuzz_disk *disk, const void *at, uint64_t bytes)
{
	uint64_t offset = (uint64_t)((const uint8_t *)at - disk->memory);
	uint64_t first = offset / BLOCK_BYTES, last = (offset + bytes - 1) / BLOCK_BYTES;

	memset(disk->is_changed + first, 1, last - first + 1);
}

int fuzz_disk_read(void *ctx, uint64_t offset, void *memory, size_t bytes)
{
	const struct fuzz_disk *disk = ctx;

	FUZZ_CHECK(offset <= disk->bytes && bytes <= disk->bytes - offset);
	memcpy(memory, disk->memory + offset, bytes);
	return 0;
}

int fuzz_disk_write(void *ctx, uint64_t offset, const void *memory, size_t bytes)
{
	struct fuzz_disk *disk = ctx;

	FUZZ_CHECK(offset <= disk->bytes && bytes <= disk->bytes - offset);
	if (disk->is_dead)
		return -EIO;
	fuzz_disk_touch(disk, disk->memory + offset, bytes);
	memcpy(disk->memory + offset, memory, bytes);
	return 0;
}

int fuzz_disk_flush(void *ctx)
{
	const struct fuzz_disk *disk = ctx;

	return disk->is_dead ? -EIO : 0;
}

struct device *fuzz_disk_device(struct fuzz_disk *disk)
{
	const struct device_functions functions = {
	    .ctx = disk,
	    .bytes = disk->bytes,
	    .read = fuzz_disk_read,
	    .write = fuzz_disk_write,
	    .flush = fuzz_disk_flush,
	};
	struct device *device;

	FUZZ_CHECK(device_open_functions(&functions, &device) == 0);
	return device;
}
