/* A volume whose superblock is kept by the test instead of on the device. */
#include "config.h"

#include "tests/unit/space_volume.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

void volume_reopen(struct volume *v)
{
	struct space_options options = {.device = v->device, .superblock = &v->superblock};

	space_close(v->space);
	v->space = NULL;
	ck_ok(space_open(&options, &v->space));
}

int volume_try_open(struct volume *v)
{
	struct space_options options = {.device = v->device, .superblock = &v->superblock};
	struct space *space = NULL;
	int err = space_open(&options, &space);

	space_close(space);
	return err;
}

int volume_write_maps(struct volume *v)
{
	uint64_t generation = from_le64(v->superblock.generation) + 1;

	v->next = v->superblock;
	v->next.generation = to_le64(generation);
	return space_write_maps(v->space, generation, &v->next);
}

void volume_thaw(struct volume *v, bool is_durable)
{
	if (is_durable)
		v->superblock = v->next;
	space_thaw(v->space, is_durable);
}

void volume_checkpoint(struct volume *v)
{
	space_freeze(v->space);
	ck_ok(volume_write_maps(v));
	volume_thaw(v, true);
}

void volume_open_on(struct volume *v, struct device *device)
{
	struct space_options options;

	*v = (struct volume){.device = device, .frames = device_bytes(device) / FRAME_BYTES};
	memset(v->superblock.uuid, 7, UUID_BYTES);
	v->superblock.frame_count = to_le64(v->frames);
	v->superblock.journal_first_frame = to_le64(1);
	v->superblock.journal_frames = to_le64(JOURNAL_FRAMES);
	options = (struct space_options){
	    .device = v->device,
	    .superblock = &v->superblock,
	    .is_new = true,
	};
	ck_ok(space_open(&options, &v->space));
	volume_checkpoint(v);
}

void volume_open(struct volume *v, uint64_t frames)
{
	struct device *device;

	ck_ok(device_open_memory(frames * FRAME_BYTES, &device));
	volume_open_on(v, device);
}

void volume_close(struct volume *v)
{
	space_close(v->space);
	device_close(v->device);
}

struct space_counters volume_counters(struct volume *v)
{
	struct space_counters c;

	space_counters(v->space, &c);
	ck_assert_uint_eq(c.total_blocks,
	    c.used_blocks + c.allocated_blocks + c.resting_blocks + c.free_blocks);
	return c;
}

struct space_run volume_alloc(struct volume *v, uint32_t want)
{
	struct space_run run;

	ck_ok(space_alloc_blocks(v->space, SPACE_DATA, want, &run));
	ck_assert_uint_ge(run.count, 1);
	ck_assert_uint_le(run.count, want);
	ck_assert_uint_eq(run.block / FRAME_BLOCKS, (run.block + run.count - 1) / FRAME_BLOCKS);
	return run;
}

struct space_run volume_used_run(struct volume *v, uint32_t want)
{
	struct space_run run = volume_alloc(v, want);

	ck_ok(space_use(v->space, run.block, run.count));
	return run;
}

uint64_t volume_fill(struct volume *v)
{
	struct space_run run;
	uint64_t blocks = 0;

	while (space_alloc_blocks(v->space, SPACE_DATA, FRAME_BLOCKS, &run) == 0) {
		ck_ok(space_use(v->space, run.block, run.count));
		blocks += run.count;
	}
	return blocks;
}

bool volume_may_be_allocated(struct volume *v, uint64_t block)
{
	struct space_run run, *runs = calloc(v->frames * FRAME_BLOCKS, sizeof(*runs));
	uint64_t count = 0;
	bool is_given = false;

	for (enum space_user user = SPACE_DATA; user <= SPACE_TREE; user++) {
		while (space_alloc_blocks(v->space, user, FRAME_BLOCKS, &run) == 0) {
			is_given |= block >= run.block && block < run.block + run.count;
			runs[count++] = run;
		}
	}
	while (count > 0) {
		count--;
		space_cancel(v->space, runs[count].block, runs[count].count);
	}
	free(runs);
	return is_given;
}
