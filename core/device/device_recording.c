/*
 * A volume in memory that remembers: every write, discard and flush in order, so
 * that a test can cut the power at any of them and look at what a disk may hold.
 *
 *	base image --event 0--event 1--...--flush--event--event--(cut)--event
 *	           |------ all of it is there ------|-- any subset --|  none
 *
 * Model of the disk: a completed write sits in a volatile cache until a flush
 * moves all of the cache to the medium; before that each block of it may have been
 * moved or not.  Of two writes to one block the older may be there without the
 * newer, but the older never covers the newer.  A sector is written whole or not
 * at all.  See Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014.
 *
 * A discard counts as a write of bytes that nobody chose (DISCARD_BYTE): a store
 * that discards what recovery still needs is found out.
 *
 * Invariants:
 *  1. content = base with all events applied in order.
 *  2. A flush's event comes after the events of all writes that had ended before
 *     the flush began: both are appended under the lock.
 *
 * Locking: `lock` guards the log, the images, and the bytes in them.
 */
#include "config.h"

#include "device/device_test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/lock.h"
#include "device/device_internal.h"

#define DISCARD_BYTE 0xd5

struct event {
	bool is_flush;
	uint64_t offset;
	uint64_t bytes;
	void *data; /* own copy; NULL: DISCARD_BYTE all over */
};

struct recording_device {
	struct device device;
	struct mutex lock;
	struct memory_image content;
	struct memory_image base; /* where the log starts */
	struct event *events;
	uint32_t event_count;
	uint32_t event_room;
};

static const struct device_ops recording_ops;

static struct recording_device *recording_of(struct device *device)
{
	ASSERT(device->ops == &recording_ops);
	return (struct recording_device *)device;
}

static const char *recording_describe(const struct device *device)
{
	return "memory, recording";
}

static int grow_log(struct recording_device *recording)
{
	uint32_t room = recording->event_room ? recording->event_room * 2 : 64;
	struct event *events = reallocarray(recording->events, room, sizeof(*events));

	if (!events)
		return -ENOMEM;
	recording->events = events;
	recording->event_room = room;
	return 0;
}

static int append_locked(struct recording_device *recording, const struct event *event)
{
	int err = 0;

	mutex_assert_held(&recording->lock);
	if (recording->event_count == recording->event_room)
		err = grow_log(recording);
	if (err == 0)
		recording->events[recording->event_count++] = *event;
	return err;
}

static int record_write(struct recording_device *recording,
    const struct device_request *request)
{
	struct event event = {
	    .offset = request->offset,
	    .bytes = request->bytes,
	    .data = malloc(request->bytes),
	};
	int err;

	if (!event.data)
		return -ENOMEM;
	memcpy(event.data, request->data, request->bytes);
	mutex_lock(&recording->lock);
	err = append_locked(recording, &event);
	if (err == 0)
		memory_image_write(&recording->content, event.data, event.bytes, event.offset);
	mutex_unlock(&recording->lock);
	if (err < 0)
		free(event.data);
	return err;
}

static int recording_transfer(struct device *device, struct device_request *request)
{
	struct recording_device *recording = recording_of(device);

	if (request->op == DEVICE_WRITE)
		return record_write(recording, request);
	mutex_lock(&recording->lock);
	memory_image_read(&recording->content, request->data, request->bytes, request->offset);
	mutex_unlock(&recording->lock);
	return 0;
}

static int recording_flush(struct device *device)
{
	struct recording_device *recording = recording_of(device);
	const struct event event = {.is_flush = true};
	int err;

	mutex_lock(&recording->lock);
	err = append_locked(recording, &event);
	mutex_unlock(&recording->lock);
	return err;
}

static int recording_discard(struct device *device, uint64_t offset, uint64_t bytes)
{
	struct recording_device *recording = recording_of(device);
	const struct event event = {.offset = offset, .bytes = bytes};
	int err;

	mutex_lock(&recording->lock);
	err = append_locked(recording, &event);
	if (err == 0)
		memory_image_fill(&recording->content, DISCARD_BYTE, bytes, offset);
	mutex_unlock(&recording->lock);
	return err;
}

static struct memory_image *recording_image(struct device *device)
{
	return &recording_of(device)->content;
}

static void drop_log(struct recording_device *recording)
{
	for (uint32_t i = 0; i < recording->event_count; i++)
		free(recording->events[i].data);
	recording->event_count = 0;
}

static void recording_close(struct device *device)
{
	struct recording_device *recording = recording_of(device);

	drop_log(recording);
	free(recording->events);
	memory_image_fini(&recording->content);
	memory_image_fini(&recording->base);
	mutex_fini(&recording->lock);
	free(recording);
}

static const struct device_ops recording_ops = {
    .describe = recording_describe,
    .transfer = recording_transfer,
    .flush = recording_flush,
    .discard = recording_discard,
    .image = recording_image,
    .close = recording_close,
};

int device_open_recording(uint64_t bytes, struct device **ret)
{
	struct recording_device *recording = calloc(1, sizeof(*recording));
	int err;

	if (!recording)
		return -ENOMEM;
	mutex_init(&recording->lock, RANK_DEVICE);
	device_init(&recording->device, &recording_ops, bytes);
	err = memory_image_init(&recording->content, bytes);
	if (err == 0)
		err = memory_image_init(&recording->base, bytes);
	if (err < 0) {
		recording_close(&recording->device);
		return err;
	}
	*ret = &recording->device;
	return 0;
}

void recording_restart(struct device *device)
{
	struct recording_device *recording = recording_of(device);

	mutex_lock(&recording->lock);
	drop_log(recording);
	memory_image_copy(&recording->base, &recording->content);
	mutex_unlock(&recording->lock);
}

uint32_t recording_event_count(struct device *device)
{
	struct recording_device *recording = recording_of(device);
	uint32_t count;

	mutex_lock(&recording->lock);
	count = recording->event_count;
	mutex_unlock(&recording->lock);
	return count;
}

bool recording_event_is_flush(struct device *device, uint32_t event)
{
	struct recording_device *recording = recording_of(device);
	bool is_flush;

	mutex_lock(&recording->lock);
	ASSERT(event < recording->event_count);
	is_flush = recording->events[event].is_flush;
	mutex_unlock(&recording->lock);
	return is_flush;
}

/* The part [from, from + bytes) of a write. */
static void apply_part(struct memory_image *image, const struct event *event,
    uint64_t from, uint64_t bytes)
{
	if (bytes == 0)
		return;
	if (event->data)
		memory_image_write(image, (char *)event->data + from, bytes,
		    event->offset + from);
	else
		memory_image_fill(image, DISCARD_BYTE, bytes, event->offset + from);
}

/* splitmix64: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number
 * Generators", OOPSLA 2014. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15ull;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/* Half of the torn writes stop somewhere, half lose sectors all over. */
static void apply_torn(struct memory_image *image, const struct event *event,
    uint64_t unit, uint64_t *random)
{
	uint64_t units = event->bytes / unit;

	if (next_random(random) % 2 == 0) {
		apply_part(image, event, 0, next_random(random) % units * unit);
		return;
	}
	for (uint64_t i = 0; i < units; i++)
		if (next_random(random) % 2 == 0)
			apply_part(image, event, i * unit, unit);
}

/* One write that no flush has covered. */
static void apply_some(struct memory_image *image, const struct event *event,
    enum recording_tear tear, uint64_t *random)
{
	uint64_t draw = next_random(random) % 4;

	if (tear != RECORDING_WHOLE && draw < 2)
		apply_torn(image, event, tear == RECORDING_TEAR_512 ? 512 : 4096, random);
	else if (draw % 2 == 0)
		apply_part(image, event, 0, event->bytes);
}

static uint32_t last_flush_before(const struct recording_device *recording, uint32_t cut)
{
	while (cut > 0 && !recording->events[cut - 1].is_flush)
		cut--;
	return cut;
}

static void apply_log_locked(struct recording_device *recording, uint32_t cut,
    uint64_t seed, enum recording_tear tear, struct memory_image *image)
{
	uint32_t safe = seed == UINT64_MAX ? cut : last_flush_before(recording, cut);
	uint32_t end = seed == 0 ? safe : cut;
	uint64_t random = seed;

	mutex_assert_held(&recording->lock);
	random = next_random(&random) ^ cut;
	random = next_random(&random) ^ tear;
	memory_image_copy(image, &recording->base);
	for (uint32_t i = 0; i < end; i++) {
		const struct event *event = &recording->events[i];

		if (event->is_flush)
			continue;
		if (i < safe)
			apply_part(image, event, 0, event->bytes);
		else
			apply_some(image, event, tear, &random);
	}
}

int recording_cut(struct device *device, uint32_t cut, uint64_t seed,
    enum recording_tear tear, struct device **ret)
{
	struct recording_device *recording = recording_of(device);
	struct memory_image image;
	int err = memory_image_init(&image, device->bytes);

	if (err < 0)
		return err;
	mutex_lock(&recording->lock);
	if (cut <= recording->event_count)
		apply_log_locked(recording, cut, seed, tear, &image);
	else
		err = -EINVAL;
	mutex_unlock(&recording->lock);
	if (err == 0)
		err = device_open_image(&image, ret);
	memory_image_fini(&image);
	return err;
}
