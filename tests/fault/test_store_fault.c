/*
 * The store on a device that fails, and on one that is full.
 *
 * Failing: a scripted run is made once to count its reads, writes and flushes; then
 * again with the Nth of one kind failing, for every N.  Errors must be reported, what
 * is read must be right, nothing may crash or hang; after a failed write or flush of
 * journal or checkpoint the store takes no more changes.  Reopened on the sound
 * device it is the model after some batch, one that contains every synced one.
 *
 * Full: batches until -ENOSPC; everything committed is there, deletes go through and
 * make room, and close and open work at every stage.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "device/device_test.h"
#include "tests/model/store_script.h"
#include "tests/support/support.h"

#define VOLUME_BYTES (64ull << 20)
#define BATCHES 80
#define FAULTS_DEFAULT 250

enum kind { FAIL_READ, FAIL_WRITE, FAIL_FLUSH };

static const struct store_options options = {
    .cache_bytes = 8 << 20, .no_threads = true, .keep_device = true};

struct run {
	struct device *base, *faulty;
	struct store *store;
	struct store_batch *batch;
	struct script script;
	struct model models[BATCHES + 1]; /* after each batch; models[count] is the present */
	uint32_t count, synced;
	bool has_failed; /* some call answered an error of the device */
	uint8_t *key, *value;
};

/* ---- a run on a failing device ------------------------------------------------- */

/* A tree larger than the pool, made once; each run begins with a copy. */
static struct device *prepare(struct model *model)
{
	struct store_format_options format = {.label = "fault", .uuid = {9}, .journal_bytes = 8 << 20};
	struct store_batch *batch;
	struct script script;
	struct device *device;
	struct store *store;

	ck_ok(device_open_memory(VOLUME_BYTES, &device));
	ck_ok(store_format(device, &format));
	ck_ok(store_open(device, &options, &store));
	ck_ok(store_batch_create(store, &batch));
	script_init(&script, 5, model);
	script.keys_max = 20;
	for (unsigned i = 0; i < 1500; i++) {
		int expected;

		store_batch_reset(batch);
		expected = script_make_batch(&script, store, batch);
		if (store_commit(store, batch, NULL) == 0 && !expected)
			script_apply(&script, model);
	}
	store_batch_destroy(batch);
	ck_ok(store_close(store));
	script_fini(&script);
	return device;
}

static void start(struct run *run, struct device *prepared, const struct model *model)
{
	memset(run, 0, sizeof(*run));
	model_copy(&run->models[0], model);
	run->key = malloc(2 * (size_t)STORE_KEY_MAX);
	run->value = malloc(STORE_VALUE_MAX);
	ck_ok(device_open_copy(prepared, &run->base));
	ck_ok(device_open_faulty(run->base, &run->faulty));
	script_init(&run->script, 77, &run->models[0]);
}

static bool is_device_error(int err)
{
	return err == -EIO || err == -EROFS;
}

static void get_some(struct run *run)
{
	const struct model *model = &run->models[run->count];
	uint32_t at, bytes, key_bytes = script_pick_key(&run->script, run->key);
	bool is_there = model_find(model, run->key, key_bytes, &at);
	int err = store_get(run->store, run->key, key_bytes, run->value, STORE_VALUE_MAX, &bytes, NULL);

	if (is_device_error(err)) {
		run->has_failed = true;
		return;
	}
	ck_assert_int_eq(err, is_there ? 0 : -ENOENT);
	if (is_there)
		ck_assert(model_is_value(run->value, bytes, model->items[at].seed));
}

static void commit_one(struct run *run)
{
	struct model *next = &run->models[run->count + 1];
	int expected, err;

	store_batch_reset(run->batch);
	do {
		store_batch_reset(run->batch);
		expected = script_make_batch(&run->script, NULL, run->batch);
	} while (expected);
	err = store_commit(run->store, run->batch, NULL);
	if (err) {
		ck_assert_msg(is_device_error(err) || err == -E2BIG, "commit answers %d", err);
		run->has_failed |= err != -E2BIG;
		return;
	}
	ck_assert(!store_is_read_only(run->store) || run->has_failed);
	model_copy(next, &run->models[run->count]);
	script_apply(&run->script, next);
	run->count++;
	run->script.model = next;
}

static void note(struct run *run, int err, bool *ret_good)
{
	*ret_good = err == 0;
	if (err == 0)
		return;
	ck_assert_msg(is_device_error(err), "answers %d", err);
	ck_assert(store_is_read_only(run->store));
	run->has_failed = true;
}

static void run_script(struct run *run)
{
	bool is_good;

	run->script.bytes_wanted = 8 << 20;
	for (unsigned i = 0; i < BATCHES && run->count < BATCHES; i++) {
		commit_one(run);
		get_some(run);
		if (i % 5 == 0) {
			note(run, store_sync(run->store, store_end_lsn(run->store), JOURNAL_SYNC), &is_good);
			if (is_good)
				run->synced = run->count;
		}
		if (i % 20 == 13) {
			note(run, store_checkpoint(run->store), &is_good);
			if (is_good)
				run->synced = run->count;
		}
	}
}

static void expect_some_moment(struct run *run, const char *what, uint64_t number)
{
	static const struct faulty_plan sound;
	uint32_t at;

	faulty_set_plan(run->faulty, &sound);
	ck_ok(store_open(run->faulty, &options, &run->store));
	for (at = run->synced; at <= run->count; at++)
		if (model_equals(&run->models[at], run->store, true))
			break;
	ck_assert_msg(at <= run->count, "%s %llu: not a batch from %u to %u", what,
	    (unsigned long long)number, run->synced, run->count);
	ck_ok(store_close(run->store));
}

/* Opens, runs, closes; false if the store did not open. */
static bool run_once(struct run *run, const struct faulty_plan *plan)
{
	int err;

	faulty_set_plan(run->faulty, plan);
	err = store_open(run->faulty, &options, &run->store);
	if (err) {
		ck_assert_msg(err == -EIO || err == -EUCLEAN, "open answers %d", err);
		return false;
	}
	ck_ok(store_batch_create(run->store, &run->batch));
	run_script(run);
	/* What the pool holds is right, whatever became of the device. */
	for (unsigned i = 0; i < 50; i++)
		get_some(run);
	store_batch_destroy(run->batch);
	err = store_close(run->store);
	if (err == 0)
		run->synced = run->count;
	ck_assert_msg(err == 0 || is_device_error(err), "close answers %d", err);
	return true;
}

static void finish(struct run *run)
{
	for (uint32_t i = 0; i <= run->count; i++)
		model_fini(&run->models[i]);
	script_fini(&run->script);
	free(run->key);
	free(run->value);
	device_close(run->faulty);
}

static struct faulty_plan plan_of(enum kind kind, uint64_t number, bool is_sticky)
{
	struct faulty_plan plan = {.error = -EIO, .is_sticky = is_sticky};

	if (kind == FAIL_READ)
		plan.fail_read_at = number;
	else if (kind == FAIL_WRITE)
		plan.fail_write_at = number;
	else
		plan.fail_flush_at = number;
	return plan;
}

static uint64_t faults_wanted(void)
{
	const char *given = getenv("TEST_OPS");

	return given ? strtoull(given, NULL, 0) : FAULTS_DEFAULT;
}

static void fail_each(enum kind kind, const char *what)
{
	struct faulty_plan sound = {0};
	struct model model;
	struct device *prepared;
	uint64_t seen[3], step;
	static struct run run;

	support_log_to_stderr();
	model_init(&model);
	prepared = prepare(&model);
	start(&run, prepared, &model);
	ck_assert(run_once(&run, &sound));
	ck_assert(!run.has_failed);
	faulty_seen(run.faulty, &seen[0], &seen[1], &seen[2]);
	finish(&run);
	step = max_of(1ull, seen[kind] / faults_wanted());
	printf("# %llu %s, each %lluth\n", (unsigned long long)seen[kind], what, (unsigned long long)step);
	for (uint64_t number = 1; number <= seen[kind]; number += step) {
		struct faulty_plan plan = plan_of(kind, number, number % 2);

		start(&run, prepared, &model);
		run_once(&run, &plan);
		expect_some_moment(&run, what, number);
		finish(&run);
	}
	model_fini(&model);
	device_close(prepared);
}

START_TEST(store_survives_each_failing_read)
{
	fail_each(FAIL_READ, "reads");
}
END_TEST

START_TEST(store_survives_each_failing_write)
{
	fail_each(FAIL_WRITE, "writes");
}
END_TEST

START_TEST(store_survives_each_failing_flush)
{
	fail_each(FAIL_FLUSH, "flushes");
}
END_TEST

/* ---- nobody is left asleep ---------------------------------------------------------- */

struct writer {
	pthread_t thread;
	struct store *store;
	unsigned number;
	int err;
};

static void *write_until_error(void *ctx)
{
	struct writer *writer = ctx;
	char key[32], value[4000] = "";
	struct store_batch *batch;

	ck_ok(store_batch_create(writer->store, &batch));
	for (unsigned i = 0; !writer->err; i++) {
		int length = sprintf(key, "%u/%u", writer->number, i);

		store_batch_reset(batch);
		store_batch_put(batch, key, (uint32_t)length, value, sizeof(value));
		writer->err = store_commit(writer->store, batch, NULL);
	}
	store_batch_destroy(batch);
	return NULL;
}

/* Writers wait for room in the log, for slots, for fewer dirty frames: a checkpoint that
 * fails is the end of all waiting. */
START_TEST(store_wakes_every_writer_when_a_checkpoint_fails)
{
	struct store_format_options format = {.uuid = {9}, .journal_bytes = 8 << 20};
	struct store_options threaded = {.cache_bytes = (8u << 20) << 4 * (_i % 2), .keep_device = true};
	struct faulty_plan plan = {.fail_write_at = 40 + 60u * (unsigned)_i, .is_sticky = false, .error = -EIO};
	struct writer writers[6] = {0};
	struct device *base, *device;
	struct store *store;

	support_log_to_stderr();
	alarm(60);
	ck_ok(device_open_memory(256 << 20, &base));
	ck_ok(store_format(base, &format));
	ck_ok(device_open_faulty(base, &device));
	ck_ok(store_open(device, &threaded, &store));
	faulty_set_plan(device, &plan);
	for (unsigned i = 0; i < 6; i++) {
		writers[i].store = store;
		writers[i].number = i;
		pthread_create(&writers[i].thread, NULL, write_until_error, &writers[i]);
	}
	for (unsigned i = 0; i < 6; i++) {
		pthread_join(writers[i].thread, NULL);
		ck_assert_int_ne(writers[i].err, 0);
	}
	ck_assert_int_ne(store_close(store), 0);
	device_close(device);
}
END_TEST

/* ---- a full volume ---------------------------------------------------------------------- */

struct full {
	struct device *device;
	struct store *store;
	struct store_batch *batch;
	struct model model;
	uint64_t random;
};

static int put_numbered(struct full *full, uint64_t number, uint32_t value_bytes)
{
	static uint8_t value[STORE_VALUE_MAX];
	char key[32];
	int length = sprintf(key, "%llx", (unsigned long long)(number * 0x9e3779b97f4a7c15ull));
	int err;

	store_batch_reset(full->batch);
	model_fill_value(value, value_bytes, number);
	store_batch_put(full->batch, key, (uint32_t)length, value, value_bytes);
	err = store_commit(full->store, full->batch, NULL);
	if (!err)
		model_put(&full->model, key, (uint32_t)length, number, value_bytes);
	return err;
}

static uint64_t fill_up(struct full *full, uint64_t first)
{
	int err;

	do {
		err = put_numbered(full, first, (uint32_t)support_random_below(&full->random, 8000));
		first += err == 0;
	} while (!err);
	ck_assert_int_eq(err, -ENOSPC);
	ck_assert(!store_is_read_only(full->store));
	return first;
}

static void delete_some(struct full *full, uint32_t count)
{
	for (uint32_t i = 0; i < count && full->model.count; i++) {
		uint32_t at = (uint32_t)support_random_below(&full->random, full->model.count);
		const struct model_item *item = &full->model.items[at];
		int err;

		store_batch_reset(full->batch);
		store_batch_delete(full->batch, item->key, item->key_bytes);
		err = store_commit(full->store, full->batch, NULL);
		ck_assert_msg(err == 0, "deleting in a full volume answers %d", err);
		model_delete(&full->model, item->key, item->key_bytes);
	}
}

static void reopen_full(struct full *full, bool is_clean)
{
	store_batch_destroy(full->batch);
	if (is_clean) {
		ck_ok(store_close(full->store));
	} else {
		ck_ok(store_sync(full->store, store_end_lsn(full->store), JOURNAL_SYNC));
		store_abandon(full->store);
	}
	ck_ok(store_open(full->device, &options, &full->store));
	ck_ok(store_batch_create(full->store, &full->batch));
	ck_assert(model_equals(&full->model, full->store, false));
}

START_TEST(store_works_on_when_the_volume_is_full)
{
	static const uint64_t volumes[] = {16ull << 20, 24ull << 20, 64ull << 20, 130ull << 20};
	struct store_format_options format = {.uuid = {9}, .journal_bytes = 8 << 20};
	struct full full = {.random = support_seed(40)};
	uint64_t number = 0, first;

	support_log_to_stderr();
	alarm(200);
	ck_ok(device_open_memory(volumes[_i], &full.device));
	ck_ok(store_format(full.device, &format));
	ck_ok(store_open(full.device, &options, &full.store));
	ck_ok(store_batch_create(full.store, &full.batch));
	for (unsigned round = 0; round < 6; round++) {
		first = number;
		number = fill_up(&full, number);
		ck_assert_uint_gt(number, first);
		reopen_full(&full, round % 2);
		/* Full or not, what is asked to go goes. */
		fill_up(&full, number + 1000000);
		delete_some(&full, round == 5 ? UINT32_MAX : full.model.count / 2);
		reopen_full(&full, round % 3 != 0);
	}
	ck_assert_uint_eq(full.model.count, 0);
	printf("# %llu puts on %llu bytes\n", (unsigned long long)number, (unsigned long long)volumes[_i]);
	store_batch_destroy(full.batch);
	ck_ok(store_close(full.store));
	device_close(full.device);
	model_fini(&full.model);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store fault");
	TCase *tcase = tcase_create("faults"), *full = tcase_create("full");

	tcase_set_timeout(tcase, getenv("TEST_OPS") ? 0 : 200);
	tcase_add_test(tcase, store_survives_each_failing_read);
	tcase_add_test(tcase, store_survives_each_failing_write);
	tcase_add_test(tcase, store_survives_each_failing_flush);
	tcase_add_loop_test(tcase, store_wakes_every_writer_when_a_checkpoint_fails, 0, 12);
	suite_add_tcase(suite, tcase);
	tcase_set_timeout(full, 200);
	tcase_add_loop_test(full, store_works_on_when_the_volume_is_full, 0, 4);
	suite_add_tcase(suite, full);
	return support_run(suite);
}
