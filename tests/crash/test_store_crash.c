/*
 * Power cuts at every write and flush of a scripted run.
 *
 * The script commits some hundred batches, syncs now and then and makes checkpoints;
 * the journal is as small as may be and wraps, the pool is smaller than the tree.
 * After each batch the model is kept, together with how many events the device had
 * seen and which batch was synced.  Then the power is cut just before each event, with
 * several choices of which unflushed writes are there, whole or torn.  What is
 * recovered must be the model after some batch, one that contains every synced one;
 * and the store must take further batches and close.
 *
 * Data: some batches put blocks to use whose content was written but not flushed.  If
 * such a batch is recovered its blocks hold what was written.
 *
 * A cut is expensive, so that a default run takes every so many-th; TEST_OPS is the
 * number of cuts to make.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "device/device_test.h"
#include "tests/model/store_script.h"
#include "tests/support/support.h"

#define VOLUME_BYTES (64ull << 20)
#define BATCHES 400
#define CUTS_DEFAULT 500

struct data_run {
	uint64_t block, seed;
	uint32_t count;
};

struct moment {
	struct model model; /* after the batch */
	uint32_t events;    /* on the device when its commit returned */
	uint32_t synced;    /* moments known durable by then */
	struct data_run data; /* count 0: none */
};

struct history {
	struct device *device;
	struct store *store;
	struct store_batch *batch;
	struct script script;
	struct model model;
	struct moment *moments; /* 0: the empty store */
	uint32_t count;
	uint64_t random;
};

static const struct store_options options = {
    .cache_bytes = 8 << 20, .no_threads = true, .keep_device = true};

static uint64_t below(struct history *history, uint64_t end)
{
	return support_random_below(&history->random, end);
}

/* ---- the run ---------------------------------------------------------------- */

static void note_moment(struct history *history, const struct data_run *data)
{
	struct moment *moment = &history->moments[history->count];

	model_copy(&moment->model, &history->model);
	moment->events = recording_event_count(history->device);
	moment->synced = history->count ? moment[-1].synced : 0;
	moment->data = data ? *data : (struct data_run){0};
	history->count++;
}

static void fill_blocks(uint8_t *bytes, const struct data_run *data)
{
	for (uint32_t i = 0; i < data->count; i++)
		model_fill_value(bytes + (size_t)i * BLOCK_BYTES, BLOCK_BYTES, data->seed + i);
}

/* Writes some data blocks, does not flush them, and lets the batch name them. */
static void use_data(struct history *history, struct data_run *data)
{
	uint8_t *bytes = aligned_alloc(BLOCK_BYTES, 4 * BLOCK_BYTES);
	uint32_t sums[4];
	struct space_run run;

	ck_ok(store_alloc_blocks(history->store, 1 + (uint32_t)below(history, 4), &run));
	*data = (struct data_run){.block = run.block, .count = run.count, .seed = support_random(&history->random)};
	fill_blocks(bytes, data);
	ck_ok(device_write(history->device, bytes, run.count * BLOCK_BYTES, run.block * BLOCK_BYTES));
	for (uint32_t i = 0; i < run.count; i++)
		sums[i] = store_block_checksum(history->store, bytes + (size_t)i * BLOCK_BYTES);
	store_batch_use_blocks(history->batch, run.block, run.count, sums);
	free(bytes);
}

/* What an earlier batch put to use is freed again, and forgotten by all moments: it may
 * be overwritten when that is durable. */
static void free_data(struct history *history)
{
	uint32_t at = (uint32_t)below(history, history->count);
	struct data_run *data = &history->moments[at].data;

	if (data->count == 0)
		return;
	store_batch_free_blocks(history->batch, data->block, data->count);
	data->count = 0;
}

static void run_batch(struct history *history)
{
	struct data_run data = {0};
	int err;

	store_batch_reset(history->batch);
	err = script_make_batch(&history->script, history->store, history->batch);
	if (err == 0 && below(history, 4) == 0)
		use_data(history, &data);
	if (err == 0 && below(history, 8) == 0)
		free_data(history);
	ck_assert_int_eq(store_commit(history->store, history->batch, NULL), err);
	if (err)
		return;
	script_apply(&history->script, &history->model);
	note_moment(history, &data);
}

static void sync_all(struct history *history)
{
	struct moment *last = &history->moments[history->count - 1];

	ck_ok(store_sync(history->store, store_end_lsn(history->store), JOURNAL_SYNC));
	last->synced = history->count - 1;
	last->events = recording_event_count(history->device);
}

/* Brings the log near the journal's end, so that what is recorded goes round it. */
static void fill_log(struct history *history)
{
	uint8_t *value = calloc(1, STORE_VALUE_MAX);

	ck_ok(store_open(history->device, &options, &history->store));
	ck_ok(store_batch_create(history->store, &history->batch));
	for (unsigned i = 0; i < 60; i++) {
		store_batch_reset(history->batch);
		store_batch_put(history->batch, "filler", 6, value, STORE_VALUE_MAX);
		ck_ok(store_commit(history->store, history->batch, NULL));
	}
	store_batch_reset(history->batch);
	store_batch_delete(history->batch, "filler", 6);
	ck_ok(store_commit(history->store, history->batch, NULL));
	store_batch_destroy(history->batch);
	ck_ok(store_close(history->store));
	free(value);
}

static void make_history(struct history *history, uint64_t seed)
{
	struct store_format_options format = {.label = "crash", .uuid = {7}, .journal_bytes = 8 << 20};

	memset(history, 0, sizeof(*history));
	history->random = seed;
	history->moments = calloc(BATCHES + 1, sizeof(history->moments[0]));
	model_init(&history->model);
	script_init(&history->script, seed, &history->model);
	history->script.bytes_wanted = 6 << 20;
	ck_ok(device_open_recording(VOLUME_BYTES, &history->device));
	ck_ok(store_format(history->device, &format));
	fill_log(history);
	recording_restart(history->device);
	ck_ok(store_open(history->device, &options, &history->store));
	ck_ok(store_batch_create(history->store, &history->batch));
	note_moment(history, NULL);
	while (history->count <= BATCHES) {
		history->script.is_small = below(history, 4) != 0;
		run_batch(history);
		if (below(history, 6) == 0)
			sync_all(history);
		if (below(history, 40) == 0)
			ck_ok(store_checkpoint(history->store));
	}
	store_batch_destroy(history->batch);
	ck_ok(store_close(history->store));
	history->moments[history->count - 1].synced = history->count - 1;
	history->moments[history->count - 1].events = recording_event_count(history->device);
}

static void forget_history(struct history *history)
{
	for (uint32_t i = 0; i < history->count; i++)
		model_fini(&history->moments[i].model);
	free(history->moments);
	model_fini(&history->model);
	script_fini(&history->script);
	device_close(history->device);
}

/* ---- after the cut ------------------------------------------------------------- */

/* The newest moment whose sync was answered before the event. */
static uint32_t synced_before(const struct history *history, uint32_t cut)
{
	uint32_t synced = 0;

	for (uint32_t i = 0; i < history->count && history->moments[i].events <= cut; i++)
		synced = max_of(synced, history->moments[i].synced);
	return synced;
}

static int find_moment(const struct history *history, struct store *store, uint32_t first)
{
	for (uint32_t i = first; i < history->count; i++)
		if (model_equals(&history->moments[i].model, store, true))
			return (int)i;
	return -1;
}

static bool is_data_there(const struct history *history, struct store *store, uint32_t moment)
{
	uint8_t *bytes = aligned_alloc(BLOCK_BYTES, 8 * BLOCK_BYTES), *expected = bytes + 4 * BLOCK_BYTES;
	bool is_there = true;

	for (uint32_t i = 0; i <= moment && is_there; i++) {
		const struct data_run *data = &history->moments[i].data;

		if (!data->count)
			continue;
		fill_blocks(expected, data);
		ck_ok(device_read(store_device(store), bytes, data->count * BLOCK_BYTES, data->block * BLOCK_BYTES));
		is_there = memcmp(bytes, expected, data->count * BLOCK_BYTES) == 0 &&
			   space_is_used(store_space(store), data->block, data->count);
	}
	free(bytes);
	return is_there;
}

/* A few more batches, and everything is there after a close. */
static void go_on(struct device *device, struct store *store, const struct model *before, uint64_t seed)
{
	struct store_batch *batch;
	struct script script;
	struct model model;

	model_copy(&model, before);
	script_init(&script, seed, &model);
	ck_ok(store_batch_create(store, &batch));
	for (unsigned i = 0; i < 5; i++) {
		int expected;

		store_batch_reset(batch);
		expected = script_make_batch(&script, store, batch);
		ck_assert_int_eq(store_commit(store, batch, NULL), expected);
		if (!expected)
			script_apply(&script, &model);
	}
	store_batch_destroy(batch);
	ck_ok(store_close(store));
	ck_ok(store_open(device, &options, &store));
	ck_assert(model_equals(&model, store, false));
	ck_ok(store_close(store));
	script_fini(&script);
	model_fini(&model);
}

static void cut_and_recover(const struct history *history, uint32_t cut, uint64_t seed, enum recording_tear tear)
{
	uint32_t synced = synced_before(history, cut);
	struct device *device;
	struct store *store;
	int moment, err;

	ck_ok(recording_cut(history->device, cut, seed, tear, &device));
	err = store_open(device, &options, &store);
	ck_assert_msg(err == 0, "cut %u seed %llu tear %d: open answers %d", cut,
	    (unsigned long long)seed, tear, err);
	moment = find_moment(history, store, synced);
	ck_assert_msg(moment >= 0, "cut %u seed %llu tear %d: no moment from %u on", cut,
	    (unsigned long long)seed, tear, synced);
	ck_assert_msg(is_data_there(history, store, (uint32_t)moment),
	    "cut %u seed %llu tear %d: data of moment %d", cut, (unsigned long long)seed, tear, moment);
	go_on(device, store, &history->moments[moment].model, cut + 1);
	device_close(device);
}

static uint64_t cuts_wanted(void)
{
	const char *given = getenv("TEST_OPS");

	return given ? strtoull(given, NULL, 0) : CUTS_DEFAULT;
}

START_TEST(store_recovers_a_prefix_that_holds_all_that_was_synced)
{
	static const uint64_t seeds[] = {0, UINT64_MAX};
	uint64_t wanted = cuts_wanted();
	struct history history;
	uint32_t events, step;
	uint64_t random;

	make_history(&history, support_seed(30));
	random = history.random;
	events = recording_event_count(history.device);
	step = (uint32_t)max_of(1ull, 3ull * events / wanted);
	printf("# %u events, each %uth\n", events, step);
	for (uint64_t made = 0; made < wanted;) {
		uint32_t start = (uint32_t)support_random_below(&random, step);

		for (uint32_t cut = start; cut <= events && made < wanted; cut += step, made += 3) {
			cut_and_recover(&history, cut, seeds[cut % 2], RECORDING_WHOLE);
			cut_and_recover(&history, cut, support_random(&random), RECORDING_TEAR_4096);
			cut_and_recover(&history, cut, support_random(&random), RECORDING_TEAR_512);
		}
	}
	forget_history(&history);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store crash");
	TCase *tcase = tcase_create("power cuts");

	tcase_set_timeout(tcase, getenv("TEST_OPS") ? 0 : 300);
	tcase_add_test(tcase, store_recovers_a_prefix_that_holds_all_that_was_synced);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
