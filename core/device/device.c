/*
 * The front of the volume: what all back ends have in common.
 *
 * A back end is a table of operations (device_internal.h).  The front checks each
 * request, counts it, and passes on runs of good ones; what it refuses ends at once
 * with an error as if the device had answered.
 *
 *	device_submit -> check each -> ops->submit(run of good ones)
 *	                            -> device_request_end(refused, -errno)
 *	device_wait   -> ops->wait, or sleep on batch->pending
 *
 * Invariants:
 *  1. batch->pending counts every request from before it is started until
 *     device_request_end; the one that takes it to 0 wakes the word.  That
 *     decrement is the last access to request and batch: a waiter that sees 0 may
 *     free both, so the wake that follows may hit a dead address, which the kernel
 *     takes as nobody waiting there.
 *  2. request->result and the data are written before that decrement (release) and
 *     read after seeing 0 (acquire).
 *  3. Once a flush failed, no write reaches the back end and no flush is tried: the
 *     kernel reports a lost page once and may then take it for clean, so a second
 *     flush that succeeds would be a lie ("fsyncgate",
 *     https://lwn.net/Articles/752063/; Rebello et al., "Can Applications Recover
 *     from fsync Failures?", USENIX ATC 2020).
 *
 * Locking: none; the words here are atomic.  Power loss: nothing is kept here.
 */
#include "config.h"

#include "device/device.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>

#include "base/assert.h"
#include "base/futex.h"
#include "device/device_internal.h"

void device_init(struct device *device, const struct device_ops *ops, uint64_t bytes)
{
	*device = (struct device){
	    .ops = ops,
	    .bytes = bytes - bytes % DEVICE_ALIGN,
	};
}

void device_close(struct device *device)
{
	if (device)
		device->ops->close(device);
}

uint64_t device_bytes(const struct device *device)
{
	return device->bytes;
}

bool device_is_read_only(const struct device *device)
{
	return device->is_read_only;
}

const char *device_describe(const struct device *device)
{
	return device->ops->describe(device);
}

struct memory_image *device_image(struct device *device)
{
	return device->ops->image ? device->ops->image(device) : NULL;
}

void device_register_slab(struct device *device, void *base, uint32_t slot_bytes,
    uint32_t slot_count)
{
	if (device->ops->register_slab)
		device->ops->register_slab(device, base, slot_bytes, slot_count);
}

void device_register_slots(struct device *device, uint32_t first, uint32_t count)
{
	if (device->ops->register_slots && count > 0)
		device->ops->register_slots(device, first, count);
}

void device_batch_init(struct device_batch *batch)
{
	atomic_init(&batch->pending, 0);
	atomic_init(&batch->error, 0);
}

void device_request_end(struct device_request *request, int result)
{
	struct device_batch *batch = request->batch;
	uint32_t before;
	int none = 0;

	request->result = result;
	if (result < 0)
		atomic_compare_exchange_strong(&batch->error, &none, result);
	before = atomic_fetch_sub_explicit(&batch->pending, 1, memory_order_acq_rel);
	ASSERT((before & DEVICE_BATCH_COUNT) > 0);
	if ((before & DEVICE_BATCH_COUNT) == 1)
		futex_wake(&batch->pending, INT_MAX);
}

static bool range_is_inside(const struct device *device, uint64_t offset, uint64_t bytes)
{
	return offset <= device->bytes && bytes <= device->bytes - offset;
}

/* May the volume be changed?  0, or why not. */
static int check_change(struct device *device)
{
	if (device->is_read_only)
		return -EROFS;
	return atomic_load_explicit(&device->sticky_error, memory_order_acquire);
}

/*
 * Misalignment is a mistake of ours.  A range past the end may come from a damaged
 * volume, and reads like the short read it would be.
 */
static int check_request(struct device *device, const struct device_request *request)
{
	ASSERT(request->op == DEVICE_READ || request->op == DEVICE_WRITE);
	ASSERT(request->bytes > 0 && request->bytes % DEVICE_ALIGN == 0);
	ASSERT(request->offset % DEVICE_ALIGN == 0);
	ASSERT((uintptr_t)request->data % DEVICE_ALIGN == 0);
	if (!range_is_inside(device, request->offset, request->bytes))
		return -EIO;
	return request->op == DEVICE_WRITE ? check_change(device) : 0;
}

static void count_request(struct device *device, const struct device_request *request)
{
	bool is_write = request->op == DEVICE_WRITE;

	atomic_fetch_add_explicit(is_write ? &device->writes : &device->reads, 1,
	    memory_order_relaxed);
	atomic_fetch_add_explicit(is_write ? &device->write_bytes : &device->read_bytes,
	    request->bytes, memory_order_relaxed);
}

void device_start(struct device *device, struct device_request *requests, uint32_t count)
{
	if (count == 0)
		return;
	if (device->ops->submit) {
		device->ops->submit(device, requests, count);
		return;
	}
	for (uint32_t i = 0; i < count; i++)
		device_request_end(&requests[i],
		    device->ops->transfer(device, &requests[i]));
}

void device_submit(struct device *device, struct device_batch *batch,
    struct device_request *requests, uint32_t count)
{
	uint32_t first = 0;

	atomic_fetch_add_explicit(&batch->pending, count, memory_order_relaxed);
	for (uint32_t i = 0; i < count; i++) {
		int err = check_request(device, &requests[i]);

		requests[i].batch = batch;
		requests[i].next = NULL;
		requests[i].done_bytes = 0;
		requests[i].result = 0;
		if (err == 0) {
			count_request(device, &requests[i]);
			continue;
		}
		device_start(device, &requests[first], i - first);
		first = i + 1;
		device_request_end(&requests[i], err);
	}
	device_start(device, &requests[first], count - first);
}

static uint32_t pending_count(struct device_batch *batch)
{
	return atomic_load_explicit(&batch->pending, memory_order_acquire) &
	    DEVICE_BATCH_COUNT;
}

void device_await(struct device *device, struct device_batch *batch)
{
	uint32_t pending;

	if (device->ops->wait) {
		device->ops->wait(device, batch);
		return;
	}
	while ((pending = pending_count(batch)) != 0)
		futex_wait(&batch->pending, pending);
}

int device_wait(struct device *device, struct device_batch *batch)
{
	device_await(device, batch);
	return atomic_exchange(&batch->error, 0);
}

bool device_batch_is_done(struct device *device, struct device_batch *batch)
{
	if (pending_count(batch) != 0 && device->ops->poll)
		device->ops->poll(device);
	return pending_count(batch) == 0;
}

/* A lone request gains nothing from a queue: one system call instead of two. */
static int transfer_one(struct device *device, struct device_request *request)
{
	int err = check_request(device, request);

	if (err < 0)
		return err;
	count_request(device, request);
	return device->ops->transfer(device, request);
}

int device_read(struct device *device, void *data, uint32_t bytes, uint64_t offset)
{
	struct device_request request = {
	    .op = DEVICE_READ,
	    .slot = DEVICE_NO_SLOT,
	    .data = data,
	    .bytes = bytes,
	    .offset = offset,
	};

	return transfer_one(device, &request);
}

int device_write(struct device *device, const void *data, uint32_t bytes, uint64_t offset)
{
	struct device_request request = {
	    .op = DEVICE_WRITE,
	    .slot = DEVICE_NO_SLOT,
	    .data = (void *)data, /* a write only reads it */
	    .bytes = bytes,
	    .offset = offset,
	};

	return transfer_one(device, &request);
}

int device_flush(struct device *device)
{
	int err;
	int none = 0;

	if (device->is_read_only)
		return 0;
	err = atomic_load_explicit(&device->sticky_error, memory_order_acquire);
	if (err < 0)
		return err;
	atomic_fetch_add_explicit(&device->flushes, 1, memory_order_relaxed);
	err = device->ops->flush(device);
	if (err < 0)
		atomic_compare_exchange_strong(&device->sticky_error, &none, err);
	/* Another thread's flush may have failed meanwhile, and taken the only
	 * report of pages that this one was to cover (invariant 3). */
	return atomic_load_explicit(&device->sticky_error, memory_order_acquire);
}

int device_allocate(struct device *device, uint64_t offset, uint64_t bytes)
{
	int err = check_change(device);

	if (err < 0)
		return err;
	if (!range_is_inside(device, offset, bytes))
		return -EINVAL;
	if (bytes == 0 || !device->ops->allocate)
		return 0;
	return device->ops->allocate(device, offset, bytes);
}

int device_discard(struct device *device, uint64_t offset, uint64_t bytes)
{
	int err = check_change(device);

	if (err < 0)
		return err;
	ASSERT(offset % DEVICE_ALIGN == 0 && bytes % DEVICE_ALIGN == 0);
	if (!range_is_inside(device, offset, bytes))
		return -EINVAL;
	return bytes == 0 ? 0 : device->ops->discard(device, offset, bytes);
}

void device_counters(struct device *device, struct device_counters *ret)
{
	ret->reads = atomic_load_explicit(&device->reads, memory_order_relaxed);
	ret->read_bytes = atomic_load_explicit(&device->read_bytes, memory_order_relaxed);
	ret->writes = atomic_load_explicit(&device->writes, memory_order_relaxed);
	ret->write_bytes = atomic_load_explicit(&device->write_bytes, memory_order_relaxed);
	ret->flushes = atomic_load_explicit(&device->flushes, memory_order_relaxed);
}
