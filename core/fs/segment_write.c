/*
 * Segments on their way to the device.
 *
 *	[submitted, sealed) --segment_submit--> device --wait--> written
 *
 * A segment is submitted by the thread that fills it up, which does not wait, or by a
 * flush, which does.  In both cases the submitter sets is_sealing under the mutex,
 * waits for fillers, and has the segment's requests for itself until it sets
 * is_submitted; then they are those of the thread that waits, one at a time: the
 * holder of commit_mutex.
 *
 * Invariant: checksums are taken from sealed memory, so from what is written.
 *
 * A failed write leaves the data in memory, readable but never to be recorded, and
 * makes the file system read-only (fs_set_error).
 */
#include "config.h"

#include "fs/segment.h"

#include <errno.h>

#include "base/assert.h"

/* Makes requests of runs from `submitted` on; returns how many. */
static uint32_t build_requests(struct fs *fs, struct segment *segment, uint32_t end)
{
	uint32_t count = 0, at = segment->submitted;

	while (at < end && count < SEGMENT_REQUESTS) {
		uint32_t n = 1;

		while (at + n < end && segment->block[at + n] == segment->block[at] + n)
			n++;
		segment->requests[count++] = (struct device_request){
		    .op = DEVICE_WRITE,
		    .slot = segment->slot,
		    .data = segment_bytes(fs, segment, at),
		    .bytes = n * BLOCK_BYTES,
		    .offset = segment->block[at] * BLOCK_BYTES,
		};
		at += n;
	}
	for (uint32_t i = segment->submitted; i < at; i++)
		segment->checksum[i] = store_block_checksum(fs->store,
		    segment_bytes(fs, segment, i));
	segment->submitted = at;
	return count;
}

void segment_submit(struct fs *fs, struct segment *segment)
{
	/* Nobody else changes `sealed` while is_sealing. */
	uint32_t count = build_requests(fs, segment, segment->sealed);

	device_submit(fs->device, &segment->io, segment->requests, count);
	mutex_lock(&fs->segment_mutex);
	segment->is_submitted = true;
	segment->is_sealing = false;
	condition_wake_all(&fs->segment_condition);
	mutex_unlock(&fs->segment_mutex);
}

/* What is with the device has arrived, for good or bad. */
static void finish_submitted(struct fs *fs, struct segment *segment)
{
	int err = device_wait(fs->device, &segment->io);

	mutex_lock(&fs->segment_mutex);
	segment->is_submitted = false;
	if (err == 0)
		segment->written = segment->submitted;
	else
		segment->error = err;
	mutex_unlock(&fs->segment_mutex);
	if (err < 0)
		fs_set_error(fs, err);
}

/* May the segment's next blocks be sealed and submitted by this thread?  One of its
 * live positions is this thread's hold: without others nobody wants the data. */
static bool is_submittable(const struct segment *segment, uint32_t target)
{
	return !segment->is_submitted && segment->error == 0 && segment->live > 1 &&
	    segment->written < target;
}

/* One step towards everything below @target (0: what is filled now) being written.
 * False: nothing left to do, or only waiting. */
static bool write_step(struct fs *fs, struct segment *segment, uint32_t *target, bool may_wait)
{
	bool submits, waits;

	mutex_lock(&fs->segment_mutex);
	while (segment->is_sealing)
		condition_wait(&fs->segment_condition, &fs->segment_mutex);
	if (*target == 0)
		*target = segment->filled;
	waits = segment->is_submitted && may_wait;
	submits = is_submittable(segment, *target);
	if (submits) {
		segment->is_sealing = true;
		while (segment->fillers > 0)
			condition_wait(&fs->segment_condition, &fs->segment_mutex);
		segment->sealed = segment->filled;
	}
	mutex_unlock(&fs->segment_mutex);
	if (waits)
		finish_submitted(fs, segment);
	else if (submits)
		segment_submit(fs, segment);
	return waits || submits;
}

/* The next segment to write, held: it does not end meanwhile. */
static struct segment *hold_next(struct fs *fs, const uint32_t *slots, uint32_t slot_count,
    uint32_t *at)
{
	struct segment *segment = NULL;
	uint32_t end = slots ? slot_count : pool_slot_count(fs->pool);

	mutex_lock(&fs->segment_mutex);
	for (; !segment && *at < end; (*at)++)
		segment = fs->segment_of_slot[slots ? slots[*at] : *at];
	if (segment)
		segment->live++;
	mutex_unlock(&fs->segment_mutex);
	return segment;
}

static void let_go(struct fs *fs, struct segment *segment)
{
	bool is_over;

	mutex_lock(&fs->segment_mutex);
	segment->live--;
	is_over = segment_is_over_locked(fs, segment);
	mutex_unlock(&fs->segment_mutex);
	if (is_over)
		segment_end(fs, segment);
}

/* In a first pass nothing is waited for, so that all are under way together. */
static void write_all(struct fs *fs, const uint32_t *slots, uint32_t slot_count, bool may_wait)
{
	struct segment *segment;
	uint32_t at = 0;

	while ((segment = hold_next(fs, slots, slot_count, &at))) {
		uint32_t target = 0;

		while (write_step(fs, segment, &target, may_wait))
			;
		let_go(fs, segment);
	}
}

int segments_write(struct fs *fs, const uint32_t *slots, uint32_t slot_count)
{
	int err;

	mutex_lock(&fs->commit_mutex);
	write_all(fs, slots, slot_count, false);
	write_all(fs, slots, slot_count, true);
	mutex_unlock(&fs->commit_mutex);
	err = atomic_load(&fs->error);
	return err;
}
