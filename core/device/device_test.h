/*
 * Devices for tests: one that remembers every write and flush, so that the power
 * can be cut at any of them, and one that fails on demand.
 */
#ifndef HOLTFS_DEVICE_DEVICE_TEST_H
#define HOLTFS_DEVICE_DEVICE_TEST_H

#include "device/device.h"

/*
 * recording: a memory device of @bytes that keeps a log of all writes and flushes.
 * The log's events are numbered from 0.  Writes between two flushes are unordered:
 * after a power cut any subset of them may be there, each whole, absent, or torn.
 * A discard is logged as a write of bytes that nobody chose (0xd5).
 */
int device_open_recording(uint64_t bytes, struct device **ret);

/* Starts the log at the device's present content. */
void recording_restart(struct device *device);

uint32_t recording_event_count(struct device *device);
bool recording_event_is_flush(struct device *device, uint32_t event);

enum recording_tear { RECORDING_WHOLE, RECORDING_TEAR_512, RECORDING_TEAR_4096 };

/*
 * A new memory device with what the disk may hold after power loss just before
 * event @cut: all writes before the last flush preceding @cut, and of the later
 * ones those that a generator seeded with @seed picks (seed 0: none; UINT64_MAX:
 * all), torn at multiples of the given size if asked.  @cut may be the event count.
 * The same content for the same log, @cut, @seed and @tear.
 */
int recording_cut(struct device *device, uint32_t cut, uint64_t seed,
    enum recording_tear tear, struct device **ret);

/* A memory device with a copy of another device's content. */
int device_open_copy(struct device *from, struct device **ret);

/*
 * faulty: passes everything on to @inner (which it owns) until told otherwise.  A
 * new plan counts from 0 and forgets a failed flush, as opening the volume again
 * would.
 */
struct faulty_plan {
	/* Fail the Nth from now with @error, 0: never; all later ones too if sticky. */
	uint64_t fail_read_at, fail_write_at, fail_flush_at;
	bool is_sticky;
	int error; /* -EIO, -ENOSPC, ... */
};

int device_open_faulty(struct device *inner, struct device **ret);
void faulty_set_plan(struct device *device, const struct faulty_plan *plan);

/* Operations seen since the last set_plan, to enumerate every N. */
void faulty_seen(struct device *device, uint64_t *reads, uint64_t *writes, uint64_t *flushes);

/* Flips a bit on the device underneath; nothing counts, logs or fails it. */
int device_flip_bit(struct device *device, uint64_t offset, unsigned bit);

#endif
