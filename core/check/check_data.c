/*
 * The content of data blocks against the checksums in span records.
 *
 * Runs of blocks are queued and read many at once, past the layer the store is opened
 * over: replaying a log never changes a data block.  What lies behind the end of a file
 * in its last block must be zeros, or growing the file would show old data.
 */
#include "config.h"

#include "check/check_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"

#define QUEUE_BLOCKS 1024u
#define QUEUE_RUNS 256u

struct run {
	char *path;
	uint64_t offset; /* in the file */
	uint64_t block;
	uint32_t count;
	uint32_t at;   /* in buffer and checksums */
	uint64_t end; /* of the file */
};

struct data_queue {
	struct run runs[QUEUE_RUNS];
	struct device_request requests[QUEUE_RUNS];
	uint32_t run_count, block_count;
	uint32_t checksums[QUEUE_BLOCKS];
	uint8_t *buffer; /* QUEUE_BLOCKS */
};

int data_create(struct check *check)
{
	struct data_queue *queue = calloc(1, sizeof(*queue));

	if (!queue)
		return -ENOMEM;
	check->data = queue;
	queue->buffer = aligned_alloc(BLOCK_BYTES, QUEUE_BLOCKS * BLOCK_BYTES);
	return queue->buffer ? 0 : -ENOMEM;
}

static void forget_runs(struct data_queue *queue)
{
	while (queue->run_count)
		free(queue->runs[--queue->run_count].path);
	queue->block_count = 0;
}

void data_destroy(struct data_queue *queue)
{
	if (!queue)
		return;
	forget_runs(queue);
	free(queue->buffer);
	free(queue);
}

/* ---- verifying ------------------------------------------------------------------ */

static bool is_zero(const uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (bytes[i])
			return false;
	return true;
}

static void report_run(struct check *check, const struct run *run, uint32_t i, const char *what)
{
	report_damage(check, "%s: data at offset %llu, block %llu: %s", run->path,
	    (ull)(run->offset + (uint64_t)i * BLOCK_BYTES), (ull)(run->block + i), what);
}

static void verify_block(struct check *check, const struct run *run, uint32_t i)
{
	const struct data_queue *queue = check->data;
	const uint8_t *bytes = queue->buffer + (size_t)(run->at + i) * BLOCK_BYTES;
	uint64_t offset = run->offset + (uint64_t)i * BLOCK_BYTES;

	if (store_block_checksum(check->store, bytes) != queue->checksums[run->at + i])
		report_run(check, run, i, "checksum does not match");
	else if (run->end > offset && run->end - offset < BLOCK_BYTES &&
		 !is_zero(bytes + (run->end - offset), BLOCK_BYTES - (run->end - offset)))
		report_run(check, run, i, "not zeros behind the end of the file");
}

void data_finish(struct check *check)
{
	struct data_queue *queue = check->data;
	struct device_batch batch;

	if (queue->run_count == 0)
		return;
	device_batch_init(&batch);
	device_submit(check->device, &batch, queue->requests, queue->run_count);
	/* Each request has a result of its own. */
	(void)device_wait(check->device, &batch);
	for (uint32_t r = 0; r < queue->run_count; r++) {
		const struct run *run = &queue->runs[r];
		int err = queue->requests[r].result;

		for (uint32_t i = 0; i < run->count && !err; i++)
			verify_block(check, run, i);
		if (err)
			report_run(check, run, 0, strerror(-err));
	}
	forget_runs(queue);
}

/* ---- queueing --------------------------------------------------------------------- */

int data_add(struct check *check, const char *path, uint64_t offset, const struct span_map *map,
    uint32_t first, uint32_t count, uint64_t end)
{
	struct data_queue *queue = check->data;
	struct run *run;

	if (queue->run_count == QUEUE_RUNS || queue->block_count + count > QUEUE_BLOCKS)
		data_finish(check);
	run = &queue->runs[queue->run_count];
	*run = (struct run){
	    .path = strdup(path),
	    .offset = offset + (uint64_t)first * BLOCK_BYTES,
	    .block = map->block[first],
	    .count = count,
	    .at = queue->block_count,
	    .end = end,
	};
	if (!run->path)
		return -ENOMEM;
	memcpy(queue->checksums + run->at, map->checksum + first, count * sizeof(map->checksum[0]));
	queue->requests[queue->run_count++] = (struct device_request){
	    .op = DEVICE_READ,
	    .slot = DEVICE_NO_SLOT,
	    .data = queue->buffer + (size_t)run->at * BLOCK_BYTES,
	    .bytes = count * BLOCK_BYTES,
	    .offset = run->block * BLOCK_BYTES,
	};
	queue->block_count += count;
	return 0;
}
