/*
 * The order of the walk, and what it opens.
 *
 *   1. superblocks    both are read; one good one is enough
 *   2. map pages      each for itself: the store opens only if all are good
 *   3. the store      read-only: the log is replayed over a layer that is thrown away
 *   4. the tree       every frame from the root on; its keys, in order, go to
 *   5. the files      directories, entries, spans
 *   6. the space      everything named so far against the space map
 *
 * Invariants:
 *  1. The device is not written.
 *  2. Bytes from it are never trusted: what is wrong becomes a line and a count.
 *  3. Damage ends the walk only where nothing is left to walk by: no superblock, or a
 *     map page missing.
 *
 * A log that cannot be replayed (a frame it changes is damaged) is reported, and the
 * walk goes on with the state of the last checkpoint: the store is opened over a layer
 * in which the superblocks say that there is nothing to replay.
 *
 * Threads: one; the store's own are not started.
 */
#include "config.h"

#include "check/check_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define LINE_BYTES 1024u

void report(struct check *check, enum check_severity severity, const char *format, ...)
{
	char line[LINE_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (severity == CHECK_DAMAGE)
		check->totals.damages++;
	else if (severity == CHECK_LEAK)
		check->totals.leaks++;
	if (check->options.report)
		check->options.report(check->options.ctx, severity, line);
}

/* ---- superblocks ------------------------------------------------------------------- */

struct copy {
	char name;
	uint64_t offset;
	int err; /* of reading it */
	enum superblock_verdict verdict;
	struct superblock *block;
};

static const char *fault_of(const struct copy *copy)
{
	if (copy->err)
		return strerror(-copy->err);
	/* A check reads only: features it can only read are no fault. */
	if (copy->verdict == SUPERBLOCK_UNKNOWN_RO_COMPAT)
		return NULL;
	return superblock_verdict_text(copy->verdict);
}

static void read_copy(struct check *check, struct copy *copy)
{
	copy->err = device_read(check->device, copy->block, BLOCK_BYTES, copy->offset);
	if (!copy->err)
		copy->verdict = superblock_verify(copy->block, device_bytes(check->device));
}

/* Neither copy is usable: why. */
static int refuse(struct check *check, const struct copy copies[2])
{
	for (int i = 0; i < 2; i++)
		if (!copies[i].err && (copies[i].verdict == SUPERBLOCK_BAD_VERSION ||
					  copies[i].verdict == SUPERBLOCK_UNKNOWN_INCOMPAT))
			return -EPROTONOSUPPORT;
	if (copies[0].err && copies[1].err)
		return copies[0].err;
	if (!copies[0].err && copies[0].verdict == SUPERBLOCK_NOT_OURS && !copies[1].err &&
	    copies[1].verdict == SUPERBLOCK_NOT_OURS)
		return -EMEDIUMTYPE;
	for (int i = 0; i < 2; i++)
		report_damage(check, "superblock %c: %s", copies[i].name, fault_of(&copies[i]));
	return -EUCLEAN;
}

static int check_superblocks(struct check *check)
{
	cleanup_free struct superblock *blocks = aligned_alloc(BLOCK_BYTES, 2 * BLOCK_BYTES);
	struct copy copies[2] = {
	    {.name = 'A', .offset = SUPERBLOCK_A_OFFSET, .block = blocks},
	    {.name = 'B', .offset = SUPERBLOCK_B_OFFSET, .block = blocks + 1},
	};
	int best = -1;

	if (!blocks)
		return -ENOMEM;
	if (device_bytes(check->device) < SUPERBLOCK_B_OFFSET + BLOCK_BYTES)
		return -EMEDIUMTYPE;
	for (int i = 0; i < 2; i++) {
		read_copy(check, &copies[i]);
		if (!fault_of(&copies[i]) && (best < 0 ||
			from_le64(blocks[i].generation) > from_le64(blocks[best].generation)))
			best = i;
	}
	if (best < 0)
		return refuse(check, copies);
	if (fault_of(&copies[1 - best]))
		report_note(check, "superblock %c: %s; the other copy is used",
		    copies[1 - best].name, fault_of(&copies[1 - best]));
	if (copies[best].verdict == SUPERBLOCK_UNKNOWN_RO_COMPAT)
		report_note(check, "superblock %c: uses features this version can only read",
		    copies[best].name);
	check->superblock = blocks[best];
	check->seed = uuid_seed(blocks[best].uuid);
	return 0;
}

/* ---- opening -------------------------------------------------------------------------- */

static int open_over(struct check *check, struct device *device)
{
	struct store_options options = {
	    .cache_bytes = check->options.cache_bytes,
	    .is_read_only = true,
	    .no_threads = true,
	};

	return store_open(device, &options, &check->store);
}

/* Superblocks that say: closed, nothing to replay. */
static int write_clean(struct check *check, struct device *layer)
{
	cleanup_free struct superblock *copy = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	int err;

	if (!copy)
		return -ENOMEM;
	*copy = check->superblock;
	copy->flags = to_le64(from_le64(copy->flags) | SUPERBLOCK_CLEAN);
	superblock_seal(copy);
	err = device_write(layer, copy, BLOCK_BYTES, SUPERBLOCK_A_OFFSET);
	return err ? err : device_write(layer, copy, BLOCK_BYTES, SUPERBLOCK_B_OFFSET);
}

static int open_without_log(struct check *check)
{
	struct device *layer;
	int err = device_open_overlay(check->device, &layer);

	if (err)
		return err;
	err = write_clean(check, layer);
	if (!err)
		err = open_over(check, layer);
	if (err) {
		device_overlay_detach(layer);
		device_close(layer);
	}
	return err;
}

static int open_store(struct check *check)
{
	bool is_clean = from_le64(check->superblock.flags) & SUPERBLOCK_CLEAN;
	struct store_counters counters;
	int err = open_over(check, check->device);

	if ((err == -EUCLEAN || err == -EIO) && !is_clean && open_without_log(check) == 0) {
		err = 0;
		report_damage(check, "the log cannot be replayed; what follows is the state of the last checkpoint");
	} else if (!err && !is_clean) {
		store_counters(check->store, &counters);
		check->is_replayed = counters.replayed_records > 0;
		report_note(check, "the volume was not closed; %llu transactions were replayed in memory",
		    (ull)counters.replayed_records);
	}
	if (err == -EUCLEAN)
		report_damage(check, "manifest and space map contradict each other or the volume");
	return err;
}

/* ---- all -------------------------------------------------------------------------------- */

static int walk_open_store(struct check *check)
{
	bool has_files = !check->options.is_store_only;
	int err = has_files ? files_create(check) : 0;

	if (!err && check->options.with_data)
		err = data_create(check);
	if (!err)
		err = name_own_blocks(check);
	if (!err)
		err = check_tree(check);
	if (!err && has_files)
		err = files_end(check);
	if (!err && check->data)
		data_finish(check);
	return err ? err : check_space(check);
}

static int run(struct check *check)
{
	int err = check_superblocks(check);

	if (!err)
		err = check_maps(check);
	if (!err && check->totals.damages)
		err = -EUCLEAN;
	if (!err)
		err = open_store(check);
	if (err)
		return err;
	err = walk_open_store(check);
	return err;
}

static void release(struct check *check)
{
	files_destroy(check->files);
	data_destroy(check->data);
	if (check->store)
		store_abandon(check->store);
	else
		device_close(check->device);
	number_set_fini(&check->frames);
	number_set_fini(&check->named);
	for (uint32_t i = 0; i < check->gap_count; i++)
		free(check->gaps[i].prefix);
	free(check->gaps);
}

int check_volume(struct device *device, const struct check_options *options, struct check_totals *ret)
{
	struct check *check = calloc(1, sizeof(*check));
	int err;

	if (!check) {
		device_close(device);
		return -ENOMEM;
	}
	check->options = *options;
	check->device = device;
	err = run(check);
	*ret = check->totals;
	release(check);
	free(check);
	return err;
}
