/* A small volume for the tests of core/space, and the suites made of them. */
#ifndef HOLTFS_TESTS_UNIT_SPACE_VOLUME_H
#define HOLTFS_TESTS_UNIT_SPACE_VOLUME_H

#include <stdbool.h>
#include <stdint.h>

#include "device/device.h"
#include "space/space.h"
#include "tests/support/support.h"

#define JOURNAL_FRAMES 2u
#define FIRST_FRAME (1u + JOURNAL_FRAMES)
#define FIRST_BLOCK (FIRST_FRAME * FRAME_BLOCKS)

struct volume {
	struct device *device;
	struct superblock superblock; /* the last durable one */
	struct superblock next;
	struct space *space;
	uint64_t frames;
};

/* New, with one checkpoint: in memory, or on a device that goes over to it. */
void volume_open(struct volume *v, uint64_t frames);
void volume_open_on(struct volume *v, struct device *device);
void volume_close(struct volume *v);

/* As after a crash: from the last durable superblock. */
void volume_reopen(struct volume *v);
int volume_try_open(struct volume *v);

int volume_write_maps(struct volume *v);
void volume_thaw(struct volume *v, bool is_durable);
void volume_checkpoint(struct volume *v);

struct space_counters volume_counters(struct volume *v);

struct space_run volume_alloc(struct volume *v, uint32_t want);

/* Allocated and used. */
struct space_run volume_used_run(struct volume *v, uint32_t want);

/* Takes everything that data may have; how many blocks that was. */
uint64_t volume_fill(struct volume *v);

/* Would the allocator give this block away?  Takes all there is for anybody. */
bool volume_may_be_allocated(struct volume *v, uint64_t block);

void add_state_tests(TCase *t);
void add_allocation_tests(TCase *t);
void add_model_tests(TCase *t);
void add_map_tests(TCase *t);
void add_damage_tests(TCase *t);

#endif
