/*
 * A volume in memory: for stores that need not last, and for tests.
 *
 * The bytes are one private mapping that the kernel fills with zeros on first
 * touch, so that size costs nothing.  A byte for each 64 KiB remembers whether
 * anything was ever written there; a copy walks only those (tests copy a volume of
 * a gibibyte thousands of times for each power cut they try).
 *
 *	base        |....|data|....|....|data|data|
 *	is_touched     0    1    0    0    1    1
 *
 * Invariant: bytes of a chunk that is not touched are zero.  The mark is set
 * before the bytes.
 *
 * Locking: none; requests on overlapping ranges at the same time are a mistake of
 * the caller, as on a disk.  Power loss: all is gone.
 */
#include "config.h"

#include "device/device_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"

#define MEMORY_CHUNK 65536u

struct memory_device {
	struct device device;
	struct memory_image image;
};

static uint64_t chunk_count(const struct memory_image *image)
{
	return (image->bytes + MEMORY_CHUNK - 1) / MEMORY_CHUNK;
}

int memory_image_init(struct memory_image *image, uint64_t bytes)
{
	void *base;

	bytes -= bytes % DEVICE_ALIGN;
	*image = (struct memory_image){.bytes = bytes};
	if (bytes == 0 || bytes > SIZE_MAX / 2)
		return -EINVAL;
	image->is_touched = calloc(chunk_count(image), 1);
	if (!image->is_touched)
		return -ENOMEM;
	base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED) {
		free(image->is_touched);
		*image = (struct memory_image){0};
		return -ENOMEM;
	}
	image->base = base;
	return 0;
}

void memory_image_fini(struct memory_image *image)
{
	if (image->base)
		munmap(image->base, image->bytes);
	free(image->is_touched);
	*image = (struct memory_image){0};
}

static void touch(struct memory_image *image, uint64_t bytes, uint64_t offset)
{
	uint64_t last = (offset + bytes - 1) / MEMORY_CHUNK;

	for (uint64_t i = offset / MEMORY_CHUNK; i <= last; i++)
		atomic_store_explicit(&image->is_touched[i], 1, memory_order_relaxed);
}

/*
 * What lies on a disk is latched by nobody: a read may meet a write of another frame to the
 * same place, and who reads verifies what came (core/store/cold.c).  ThreadSanitizer is to
 * see only what the caller's memory is used for.
 */
#ifdef SANITIZE_THREAD
void __tsan_read_range(void *at, unsigned long bytes);
void __tsan_write_range(void *at, unsigned long bytes);

/* Volatile, lest it becomes a memcpy, which is seen. */
typedef volatile uint64_t unseen_word __attribute__((may_alias));

static __attribute__((no_sanitize_thread)) void copy_unseen(void *to, const void *from, uint64_t bytes)
{
	const unseen_word *source = from;
	unseen_word *target = to;

	ASSERT(bytes % sizeof(*target) == 0);
	for (uint64_t i = 0; i < bytes / sizeof(*target); i++)
		target[i] = source[i];
}

static void copy_from_disk(void *data, const uint8_t *disk, uint64_t bytes)
{
	__tsan_write_range(data, bytes);
	copy_unseen(data, disk, bytes);
}

static void copy_to_disk(uint8_t *disk, const void *data, uint64_t bytes)
{
	__tsan_read_range((void *)data, bytes);
	copy_unseen(disk, data, bytes);
}
#else
#define copy_from_disk memcpy
#define copy_to_disk   memcpy
#endif

void memory_image_read(const struct memory_image *image, void *data, uint64_t bytes,
    uint64_t offset)
{
	copy_from_disk(data, image->base + offset, bytes);
}

void memory_image_write(struct memory_image *image, const void *data, uint64_t bytes,
    uint64_t offset)
{
	touch(image, bytes, offset);
	copy_to_disk(image->base + offset, data, bytes);
}

void memory_image_fill(struct memory_image *image, uint8_t byte, uint64_t bytes,
    uint64_t offset)
{
	touch(image, bytes, offset);
	memset(image->base + offset, byte, bytes);
}

/* The pages go back to the kernel and read as zeros.  The marks stay. */
int memory_image_clear(struct memory_image *image, uint64_t bytes, uint64_t offset)
{
	return madvise(image->base + offset, bytes, MADV_DONTNEED) < 0 ? -errno : 0;
}

void memory_image_copy(struct memory_image *to, const struct memory_image *from)
{
	ASSERT(to->bytes == from->bytes);
	for (uint64_t i = 0; i < chunk_count(from); i++) {
		uint64_t offset = i * MEMORY_CHUNK;
		uint64_t rest = from->bytes - offset;

		if (!atomic_load_explicit(&from->is_touched[i], memory_order_relaxed))
			continue;
		memory_image_write(to, from->base + offset,
		    rest < MEMORY_CHUNK ? rest : MEMORY_CHUNK, offset);
	}
}

static struct memory_device *memory_of(struct device *device)
{
	return (struct memory_device *)device;
}

static const char *memory_describe(const struct device *device)
{
	return "memory";
}

static int memory_transfer(struct device *device, struct device_request *request)
{
	struct memory_image *image = &memory_of(device)->image;

	if (request->op == DEVICE_WRITE)
		memory_image_write(image, request->data, request->bytes, request->offset);
	else
		memory_image_read(image, request->data, request->bytes, request->offset);
	return 0;
}

static int memory_flush(struct device *device)
{
	return 0;
}

static int memory_discard(struct device *device, uint64_t offset, uint64_t bytes)
{
	return memory_image_clear(&memory_of(device)->image, bytes, offset);
}

static struct memory_image *memory_get_image(struct device *device)
{
	return &memory_of(device)->image;
}

static void memory_close(struct device *device)
{
	struct memory_device *memory = memory_of(device);

	memory_image_fini(&memory->image);
	free(memory);
}

static const struct device_ops memory_ops = {
    .describe = memory_describe,
    .transfer = memory_transfer,
    .flush = memory_flush,
    .discard = memory_discard,
    .image = memory_get_image,
    .close = memory_close,
};

int device_open_image(struct memory_image *image, struct device **ret)
{
	struct memory_device *memory = calloc(1, sizeof(*memory));

	if (!memory)
		return -ENOMEM;
	device_init(&memory->device, &memory_ops, image->bytes);
	memory->image = *image;
	*image = (struct memory_image){0};
	*ret = &memory->device;
	return 0;
}

int device_open_memory(uint64_t bytes, struct device **ret)
{
	struct memory_image image;
	int err = memory_image_init(&image, bytes);

	if (err < 0)
		return err;
	err = device_open_image(&image, ret);
	memory_image_fini(&image);
	return err;
}
