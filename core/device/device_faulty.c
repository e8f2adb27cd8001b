/*
 * A device that fails on demand, over any other, and what tests do to any device:
 * copy it, flip a bit of it.
 *
 * The faulty device counts operations of each kind since the plan was set and
 * fails those that the plan names; the others go to the inner device untouched and
 * end there.  A refused write changes nothing underneath, a refused read nothing
 * in the caller's memory.  The front treats its failed flush like a real one, for
 * good; a new plan also forgets that, as a fresh open of the volume would.
 *
 * Locking: `lock` guards the plan and the counts, and is not held while the inner
 * device works.
 */
#include "config.h"

#include "device/device_test.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/cleanup.h"
#include "base/lock.h"
#include "device/device_internal.h"

#define COPY_BYTES (1024u * 1024)

enum kind { KIND_READ, KIND_WRITE, KIND_FLUSH, KIND_COUNT };

struct faulty_device {
	struct device device;
	struct device *inner; /* owned */
	struct mutex lock;
	struct faulty_plan plan;
	uint64_t seen[KIND_COUNT];
};

static const struct device_ops faulty_ops;

static struct faulty_device *faulty_of(struct device *device)
{
	ASSERT(device->ops == &faulty_ops);
	return (struct faulty_device *)device;
}

static const char *faulty_describe(const struct device *device)
{
	return "faulty";
}

static uint64_t planned(const struct faulty_plan *plan, enum kind kind)
{
	switch (kind) {
	case KIND_READ:
		return plan->fail_read_at;
	case KIND_WRITE:
		return plan->fail_write_at;
	default:
		return plan->fail_flush_at;
	}
}

/* Counts one operation; the error it has to fail with, or 0. */
static int count_and_judge(struct faulty_device *faulty, enum kind kind)
{
	uint64_t fail_at;
	uint64_t number;
	int err = 0;

	mutex_lock(&faulty->lock);
	number = ++faulty->seen[kind];
	fail_at = planned(&faulty->plan, kind);
	if (fail_at != 0 && (number == fail_at || (number > fail_at && faulty->plan.is_sticky)))
		err = faulty->plan.error;
	mutex_unlock(&faulty->lock);
	return err;
}

static int judge_request(struct faulty_device *faulty, const struct device_request *request)
{
	return count_and_judge(faulty, request->op == DEVICE_WRITE ? KIND_WRITE : KIND_READ);
}

static int faulty_transfer(struct device *device, struct device_request *request)
{
	struct faulty_device *faulty = faulty_of(device);
	int err = judge_request(faulty, request);

	return err < 0 ? err : faulty->inner->ops->transfer(faulty->inner, request);
}

static void faulty_submit(struct device *device, struct device_request *requests,
    uint32_t count)
{
	struct faulty_device *faulty = faulty_of(device);
	uint32_t first = 0;

	for (uint32_t i = 0; i < count; i++) {
		int err = judge_request(faulty, &requests[i]);

		if (err == 0)
			continue;
		device_start(faulty->inner, &requests[first], i - first);
		first = i + 1;
		device_request_end(&requests[i], err);
	}
	device_start(faulty->inner, &requests[first], count - first);
}

static void faulty_wait(struct device *device, struct device_batch *batch)
{
	device_await(faulty_of(device)->inner, batch);
}

static void faulty_poll(struct device *device)
{
	struct device *inner = faulty_of(device)->inner;

	if (inner->ops->poll)
		inner->ops->poll(inner);
}

static int faulty_flush(struct device *device)
{
	struct faulty_device *faulty = faulty_of(device);
	int err = count_and_judge(faulty, KIND_FLUSH);

	return err < 0 ? err : faulty->inner->ops->flush(faulty->inner);
}

static int faulty_allocate(struct device *device, uint64_t offset, uint64_t bytes)
{
	return device_allocate(faulty_of(device)->inner, offset, bytes);
}

static int faulty_discard(struct device *device, uint64_t offset, uint64_t bytes)
{
	return device_discard(faulty_of(device)->inner, offset, bytes);
}

static void faulty_register_slab(struct device *device, void *base, uint32_t slot_bytes,
    uint32_t slot_count)
{
	device_register_slab(faulty_of(device)->inner, base, slot_bytes, slot_count);
}

static void faulty_register_slots(struct device *device, uint32_t first, uint32_t count)
{
	device_register_slots(faulty_of(device)->inner, first, count);
}

static struct memory_image *faulty_image(struct device *device)
{
	return device_image(faulty_of(device)->inner);
}

static void faulty_close(struct device *device)
{
	struct faulty_device *faulty = faulty_of(device);

	device_close(faulty->inner);
	mutex_fini(&faulty->lock);
	free(faulty);
}

static const struct device_ops faulty_ops = {
    .describe = faulty_describe,
    .transfer = faulty_transfer,
    .submit = faulty_submit,
    .wait = faulty_wait,
    .poll = faulty_poll,
    .flush = faulty_flush,
    .allocate = faulty_allocate,
    .discard = faulty_discard,
    .register_slab = faulty_register_slab,
    .register_slots = faulty_register_slots,
    .image = faulty_image,
    .close = faulty_close,
};

int device_open_faulty(struct device *inner, struct device **ret)
{
	struct faulty_device *faulty = calloc(1, sizeof(*faulty));

	if (!faulty)
		return -ENOMEM;
	device_init(&faulty->device, &faulty_ops, inner->bytes);
	faulty->device.is_read_only = inner->is_read_only;
	faulty->inner = inner;
	mutex_init(&faulty->lock, RANK_DEVICE);
	*ret = &faulty->device;
	return 0;
}

void faulty_set_plan(struct device *device, const struct faulty_plan *plan)
{
	struct faulty_device *faulty = faulty_of(device);

	mutex_lock(&faulty->lock);
	faulty->plan = *plan;
	for (unsigned kind = 0; kind < KIND_COUNT; kind++)
		faulty->seen[kind] = 0;
	mutex_unlock(&faulty->lock);
	atomic_store(&device->sticky_error, 0);
}

void faulty_seen(struct device *device, uint64_t *reads, uint64_t *writes, uint64_t *flushes)
{
	struct faulty_device *faulty = faulty_of(device);

	mutex_lock(&faulty->lock);
	*reads = faulty->seen[KIND_READ];
	*writes = faulty->seen[KIND_WRITE];
	*flushes = faulty->seen[KIND_FLUSH];
	mutex_unlock(&faulty->lock);
}

/* The device whose operations are neither counted nor failed. */
static struct device *underneath(struct device *device)
{
	while (device->ops == &faulty_ops)
		device = faulty_of(device)->inner;
	return device;
}

static int copy_by_reading(struct device *from, struct memory_image *image)
{
	cleanup_free void *data = aligned_alloc(DEVICE_ALIGN, COPY_BYTES);

	if (!data)
		return -ENOMEM;
	for (uint64_t offset = 0; offset < from->bytes; offset += COPY_BYTES) {
		uint64_t rest = from->bytes - offset;
		uint32_t bytes = rest < COPY_BYTES ? (uint32_t)rest : COPY_BYTES;
		int err = device_read(from, data, bytes, offset);

		if (err < 0)
			return err;
		memory_image_write(image, data, bytes, offset);
	}
	return 0;
}

int device_open_copy(struct device *from, struct device **ret)
{
	struct memory_image *source = device_image(from);
	struct memory_image image;
	int err = memory_image_init(&image, from->bytes);

	if (err < 0)
		return err;
	if (source)
		memory_image_copy(&image, source);
	else
		err = copy_by_reading(underneath(from), &image);
	if (err == 0)
		err = device_open_image(&image, ret);
	memory_image_fini(&image);
	return err;
}

int device_flip_bit(struct device *device, uint64_t offset, unsigned bit)
{
	uint64_t at = offset + bit / 8;
	uint64_t block = at - at % DEVICE_ALIGN;
	struct memory_image *image = device_image(device);
	cleanup_free uint8_t *data = aligned_alloc(DEVICE_ALIGN, DEVICE_ALIGN);
	int err;

	if (!data)
		return -ENOMEM;
	if (at >= device->bytes)
		return -EINVAL;
	device = underneath(device);
	if (image)
		memory_image_read(image, data, DEVICE_ALIGN, block);
	else if ((err = device_read(device, data, DEVICE_ALIGN, block)) < 0)
		return err;
	data[at % DEVICE_ALIGN] ^= (uint8_t)(1u << bit % 8);
	if (!image)
		return device_write(device, data, DEVICE_ALIGN, block);
	memory_image_write(image, data, DEVICE_ALIGN, block);
	return 0;
}
