/*
 * Threads at work on the same keys in a pool much smaller than the tree, so that frames
 * are evicted, copied, split, folded and written all the time.
 *
 * How a wrong answer shows:
 *
 *   registers  each key belongs to one writer, who counts its writes in the value.  A
 *              reader that asks twice never sees the count go back, nor less than the
 *              writer had committed before the reader asked, nor more than it has begun.
 *   pairs      two keys far apart, always written by one batch with the same count, and
 *              guarded by version: a lost update would leave a count out.
 *   scans      cursors meet keys in order, each once, and every key that is never
 *              deleted.
 *   moves      a prefix with a fixed set of keys goes back and forth between two names:
 *              each key is under one of them, and a scan below one finds all or none
 *              while moves stand still.
 *
 * In the end everything is compared, the store reopened after a death, and compared
 * again.
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
#include "store/store.h"
#include "tests/support/support.h"

#define VOLUME_BYTES (256ull << 20)
#define WRITERS 3
#define KEYS 5000 /* of a writer: 11 MiB together, with half of them there */
#define PAIRS 40
#define MOVED 400
#define OPS_DEFAULT 400
#define VALUE_BYTES_MAX 3000

struct shared {
	struct device *device;
	struct store *store;
	uint64_t ops, seed;
	/* Of writer w's key k: writes begun, writes committed. */
	_Atomic uint32_t begun[WRITERS][KEYS], done[WRITERS][KEYS];
	_Atomic uint32_t pair_sum;
	_Atomic bool is_over;
};

struct worker {
	pthread_t thread;
	struct shared *shared;
	struct store_batch *batch;
	unsigned number;
	uint64_t random;
};

struct value {
	uint32_t writer, key, count;
	uint8_t filling[VALUE_BYTES_MAX];
};

static uint64_t below(struct worker *worker, uint64_t end)
{
	return support_random_below(&worker->random, end);
}

/* Spread over the tree, some deep below others. */
static uint32_t register_key(uint32_t writer, uint32_t key, char *bytes)
{
	uint64_t spread = (key * 0x9e3779b97f4a7c15ull) >> 40;

	return (uint32_t)sprintf(bytes, "r/%u/directory-%u/%08llx-%u", key % 7, key % 31,
	    (unsigned long long)spread, writer);
}

static void fill_value(struct value *value, uint32_t writer, uint32_t key, uint32_t count)
{
	value->writer = writer;
	value->key = key;
	value->count = count;
	memset(value->filling, (int)(count + key), sizeof(value->filling));
}

/* The size tells of the count, so that a value made of two writes is seen. */
static uint32_t value_bytes(uint32_t key, uint32_t count)
{
	return (uint32_t)offsetof(struct value, filling) + (count * 37 + key * 11) % VALUE_BYTES_MAX;
}

static void check_value(const struct value *value, uint32_t bytes)
{
	uint32_t filling = bytes - (uint32_t)offsetof(struct value, filling);

	ck_assert_uint_eq(bytes, value_bytes(value->key, value->count));
	for (uint32_t i = 0; i < filling; i++)
		ck_assert_uint_eq(value->filling[i], (uint8_t)(value->count + value->key));
}

/* ---- writers --------------------------------------------------------------------- */

/* Even counts are deletions, so that frames empty out. */
static void change_one(struct worker *worker, uint32_t k)
{
	struct shared *shared = worker->shared;
	uint32_t count = atomic_fetch_add(&shared->begun[worker->number][k], 1) + 1;
	struct value value;
	char key[64];
	uint32_t bytes = register_key(worker->number, k, key);

	fill_value(&value, worker->number, k, count);
	if (count % 2)
		ck_ok(store_put(shared->store, key, bytes, &value, value_bytes(k, count), NULL, NULL));
	else
		ck_ok(store_delete(shared->store, key, bytes, NULL, NULL));
	atomic_store(&shared->done[worker->number][k], count);
}

static void change_keys(struct worker *worker, uint32_t first, uint32_t keys)
{
	struct shared *shared = worker->shared;
	uint32_t counts[16];
	struct value value;
	char key[64];

	store_batch_reset(worker->batch);
	for (uint32_t i = 0; i < keys; i++) {
		uint32_t k = first + i, bytes = register_key(worker->number, k, key);

		counts[i] = atomic_fetch_add(&shared->begun[worker->number][k], 1) + 1;
		fill_value(&value, worker->number, k, counts[i]);
		if (counts[i] % 2)
			store_batch_put(worker->batch, key, bytes, &value, value_bytes(k, counts[i]));
		else
			store_batch_delete(worker->batch, key, bytes);
	}
	ck_ok(store_commit(shared->store, worker->batch, NULL));
	for (uint32_t i = 0; i < keys; i++)
		atomic_store(&shared->done[worker->number][first + i], counts[i]);
}

static void *write_registers(void *ctx)
{
	struct worker *worker = ctx;
	struct shared *shared = worker->shared;

	for (uint32_t k = 0; k < KEYS; k += 5)
		change_keys(worker, k, 5);
	for (uint64_t i = 0; i < shared->ops; i++) {
		uint32_t keys = 1 + (uint32_t)below(worker, 4);

		change_keys(worker, (uint32_t)below(worker, KEYS - keys), keys);
		/* The same few again and again, so that readers meet them. */
		for (unsigned n = 0; n < 4; n++)
			change_one(worker, (uint32_t)below(worker, below(worker, 2) ? 64 : KEYS));
		if (below(worker, 200) == 0)
			ck_ok(store_checkpoint(shared->store));
		if (below(worker, 100) == 0)
			ck_ok(store_sync(shared->store, store_end_lsn(shared->store), JOURNAL_SYNC));
	}
	return NULL;
}

/* ---- readers ----------------------------------------------------------------------- */

static void read_register(struct worker *worker)
{
	struct shared *shared = worker->shared;
	uint32_t writer = (uint32_t)below(worker, WRITERS);
	uint32_t k = (uint32_t)below(worker, below(worker, 2) ? 64 : KEYS);
	uint32_t least = atomic_load(&shared->done[writer][k]), most, bytes;
	struct value value;
	char key[64];
	uint32_t key_bytes = register_key(writer, k, key);

	for (unsigned i = 0; i < 3; i++) {
		int err = store_get(shared->store, key, key_bytes, &value, sizeof(value), &bytes, NULL);

		most = atomic_load(&shared->begun[writer][k]);
		if (err == -ENOENT) {
			/* Some even count lies between. */
			ck_assert(least % 2 == 0 || most > least);
			least += least % 2;
			continue;
		}
		ck_ok(err);
		check_value(&value, bytes);
		ck_assert_uint_eq(value.writer, writer);
		ck_assert_uint_eq(value.key, k);
		ck_assert_msg(value.count >= least, "the count went back from %u to %u", least, value.count);
		ck_assert_uint_le(value.count, most);
		least = value.count;
	}
}

static void scan_some(struct worker *worker, const char *prefix, uint32_t limit)
{
	struct store_range range = {.prefix = prefix, .prefix_bytes = (uint32_t)strlen(prefix)};
	struct store_cursor *cursor;
	struct store_item item;
	char last[128] = "";
	uint32_t last_bytes = 0;

	ck_ok(store_cursor_open(worker->shared->store, &range, &cursor));
	while (limit-- > 0) {
		int err = store_cursor_next(cursor, &item);
		int order;

		if (err == -ENOENT)
			break;
		ck_ok(err);
		order = memcmp(item.key, last, min_of(item.key_bytes, last_bytes));
		ck_assert(order > 0 || (order == 0 && item.key_bytes > last_bytes));
		if (item.key[0] == 'r')
			check_value((const void *)memcpy(&(struct value){0}, item.value, item.value_bytes),
			    item.value_bytes);
		memcpy(last, item.key, item.key_bytes);
		last_bytes = item.key_bytes;
	}
	store_cursor_close(cursor);
}

static void *read_all(void *ctx)
{
	struct worker *worker = ctx;
	char prefix[8];

	while (!atomic_load(&worker->shared->is_over)) {
		for (unsigned i = 0; i < 50; i++)
			read_register(worker);
		sprintf(prefix, "r/%u", (unsigned)below(worker, 7));
		scan_some(worker, prefix, 1 + (uint32_t)below(worker, 400));
	}
	return NULL;
}

/* ---- pairs ---------------------------------------------------------------------------- */

static uint32_t pair_key(uint32_t pair, unsigned half, char *bytes)
{
	return (uint32_t)sprintf(bytes, "%c/pair-%u", half ? 'z' : 'a', pair);
}

/* Adds one to both halves if nobody else did meanwhile. */
static bool raise_pair(struct worker *worker, uint32_t pair)
{
	uint32_t counts[2] = {0, 0}, bytes;
	char keys[2][32];
	int err;

	store_batch_reset(worker->batch);
	for (unsigned half = 0; half < 2; half++) {
		uint32_t key_bytes = pair_key(pair, half, keys[half]);
		uint64_t version;

		err = store_get(worker->shared->store, keys[half], key_bytes, &counts[half],
		    sizeof(counts[half]), &bytes, &version);
		ck_assert(err == 0 || err == -ENOENT);
		if (err)
			store_batch_require_absent(worker->batch, keys[half], key_bytes);
		else
			store_batch_require_version(worker->batch, keys[half], key_bytes, version);
	}
	for (unsigned half = 0; half < 2; half++) {
		uint32_t count = counts[half] + 1;

		store_batch_put(worker->batch, keys[half], (uint32_t)strlen(keys[half]), &count, sizeof(count));
	}
	err = store_commit(worker->shared->store, worker->batch, NULL);
	ck_assert(err == 0 || err == -ESTALE || err == -EEXIST);
	if (err == 0)
		ck_assert_uint_eq(counts[0], counts[1]);
	return err == 0;
}

static void *raise_pairs(void *ctx)
{
	struct worker *worker = ctx;

	for (uint64_t i = 0; i < worker->shared->ops / 2; i++)
		if (raise_pair(worker, (uint32_t)below(worker, PAIRS)))
			atomic_fetch_add(&worker->shared->pair_sum, 1);
	return NULL;
}

static void check_pairs(struct shared *shared)
{
	uint32_t sum = 0;

	for (uint32_t pair = 0; pair < PAIRS; pair++) {
		uint32_t counts[2] = {0, 0}, bytes;
		char key[32];

		for (unsigned half = 0; half < 2; half++) {
			uint32_t key_bytes = pair_key(pair, half, key);
			int err = store_get(shared->store, key, key_bytes, &counts[half],
			    sizeof(counts[half]), &bytes, NULL);

			ck_assert(err == 0 || err == -ENOENT);
		}
		ck_assert_uint_eq(counts[0], counts[1]);
		sum += counts[0];
	}
	ck_assert_uint_eq(sum, atomic_load(&shared->pair_sum));
}

/* ---- moves ------------------------------------------------------------------------------ */

static const char *const homes[2] = {"m/here/", "q/somewhere/else/"};

static uint32_t moved_key(unsigned home, uint32_t i, char *bytes)
{
	return (uint32_t)sprintf(bytes, "%sbranch-%u/%u", homes[home], i % 5, i);
}

static void put_moved(struct worker *worker)
{
	uint8_t value[900];
	char key[64];

	for (uint32_t i = 0; i < MOVED; i++) {
		uint32_t bytes = moved_key(0, i, key);

		memset(value, (int)i, sizeof(value));
		store_batch_reset(worker->batch);
		store_batch_put(worker->batch, key, bytes, value, sizeof(value));
		ck_ok(store_commit(worker->shared->store, worker->batch, NULL));
	}
}

static uint32_t count_below(struct shared *shared, const char *prefix)
{
	struct store_range range = {.prefix = prefix, .prefix_bytes = (uint32_t)strlen(prefix)};
	struct store_cursor *cursor;
	struct store_item item;
	uint32_t count = 0;

	ck_ok(store_cursor_open(shared->store, &range, &cursor));
	while (store_cursor_next(cursor, &item) == 0)
		count++;
	store_cursor_close(cursor);
	return count;
}

static void *move_about(void *ctx)
{
	struct worker *worker = ctx;
	struct shared *shared = worker->shared;
	uint8_t value[900];
	uint32_t bytes;
	char key[64];

	put_moved(worker);
	for (unsigned home = 0; !atomic_load(&shared->is_over); home = !home) {
		store_batch_reset(worker->batch);
		store_batch_move_prefix(worker->batch, homes[home], (uint32_t)strlen(homes[home]),
		    homes[!home], (uint32_t)strlen(homes[!home]));
		ck_ok(store_commit(shared->store, worker->batch, NULL));
		for (unsigned i = 0; i < 20; i++) {
			uint32_t k = (uint32_t)below(worker, MOVED), at = moved_key(!home, k, key);

			ck_ok(store_get(shared->store, key, at, value, sizeof(value), &bytes, NULL));
			ck_assert_uint_eq(value[0], (uint8_t)k);
			at = moved_key(home, k, key);
			ck_assert_int_eq(store_get(shared->store, key, at, value, sizeof(value), &bytes, NULL), -ENOENT);
		}
		ck_assert_uint_eq(count_below(shared, homes[!home]), MOVED);
		ck_assert_uint_eq(count_below(shared, homes[home]), 0);
	}
	return NULL;
}

/* A reader beside: at each of the two names, all or nothing and the right thing. */
static void *watch_moves(void *ctx)
{
	struct worker *worker = ctx;
	struct shared *shared = worker->shared;
	uint8_t value[900];
	uint32_t bytes;
	char key[64];

	while (!atomic_load(&shared->is_over)) {
		uint32_t k = (uint32_t)below(worker, MOVED), at = moved_key(below(worker, 2), k, key);
		int err = store_get(shared->store, key, at, value, sizeof(value), &bytes, NULL);

		ck_assert(err == 0 || err == -ENOENT);
		if (err == 0)
			ck_assert_uint_eq(value[0], (uint8_t)k);
		if (below(worker, 50) == 0)
			scan_some(worker, homes[below(worker, 2)], MOVED);
	}
	return NULL;
}

/* ---- all together -------------------------------------------------------------------------- */

static void check_registers(struct shared *shared)
{
	for (uint32_t writer = 0; writer < WRITERS; writer++) {
		for (uint32_t k = 0; k < KEYS; k++) {
			uint32_t count = atomic_load(&shared->done[writer][k]), bytes;
			struct value value;
			char key[64];
			uint32_t key_bytes = register_key(writer, k, key);
			int err = store_get(shared->store, key, key_bytes, &value, sizeof(value), &bytes, NULL);

			ck_assert_int_eq(err, count % 2 ? 0 : -ENOENT);
			if (err == 0) {
				check_value(&value, bytes);
				ck_assert_uint_eq(value.count, count);
			}
		}
	}
}

static void check_all(struct shared *shared)
{
	check_registers(shared);
	check_pairs(shared);
	ck_assert_uint_eq(count_below(shared, homes[0]) + count_below(shared, homes[1]), MOVED);
}

static void start_worker(struct worker *worker, struct shared *shared, unsigned number, void *(*run)(void *))
{
	worker->shared = shared;
	worker->number = number;
	worker->random = shared->seed * 1000 + number + 1;
	ck_ok(store_batch_create(shared->store, &worker->batch));
	ck_ok(pthread_create(&worker->thread, NULL, run, worker));
}

static void end_worker(struct worker *worker)
{
	pthread_join(worker->thread, NULL);
	store_batch_destroy(worker->batch);
}

static void run_threads(struct shared *shared)
{
	struct worker busy[WRITERS + 2], watching[4];

	for (unsigned i = 0; i < WRITERS; i++)
		start_worker(&busy[i], shared, i, write_registers);
	for (unsigned i = WRITERS; i < WRITERS + 2; i++)
		start_worker(&busy[i], shared, i, raise_pairs);
	start_worker(&watching[0], shared, 10, read_all);
	start_worker(&watching[1], shared, 11, read_all);
	start_worker(&watching[2], shared, 12, move_about);
	start_worker(&watching[3], shared, 13, watch_moves);
	for (unsigned i = 0; i < WRITERS + 2; i++)
		end_worker(&busy[i]);
	atomic_store(&shared->is_over, true);
	for (unsigned i = 0; i < 4; i++)
		end_worker(&watching[i]);
}

static uint64_t ops_wanted(void)
{
	const char *given = getenv("TEST_OPS");

	return given ? strtoull(given, NULL, 0) : OPS_DEFAULT;
}

static void run_with_pool(uint64_t cache_bytes)
{
	struct store_format_options format = {.label = "threads", .uuid = {8}, .journal_bytes = 8 << 20};
	struct store_options options = {.cache_bytes = cache_bytes, .keep_device = true};
	static struct shared shared;
	struct store_counters counters;

	support_log_to_stderr();
	shared.seed = support_seed(50);
	shared.ops = ops_wanted();
	ck_ok(device_open_memory(VOLUME_BYTES, &shared.device));
	ck_ok(store_format(shared.device, &format));
	ck_ok(store_open(shared.device, &options, &shared.store));
	run_threads(&shared);
	check_all(&shared);
	store_counters(shared.store, &counters);
	printf("# %llu commits, %llu loads, %llu copies, %llu splits, %llu merges, %llu moves, %llu checkpoints\n",
	    (unsigned long long)counters.commits, (unsigned long long)counters.frame_loads,
	    (unsigned long long)counters.cow_copies, (unsigned long long)counters.splits,
	    (unsigned long long)counters.merges, (unsigned long long)counters.moves,
	    (unsigned long long)counters.checkpoints);
	ck_ok(store_sync(shared.store, store_end_lsn(shared.store), JOURNAL_SYNC));
	store_abandon(shared.store);
	ck_ok(store_open(shared.device, &options, &shared.store));
	check_all(&shared);
	ck_ok(store_close(shared.store));
	device_close(shared.device);
}

START_TEST(store_threads_agree_in_a_pool_smaller_than_the_tree)
{
	run_with_pool(8 << 20);
}
END_TEST

START_TEST(store_threads_agree_in_a_pool_of_the_tree_size)
{
	run_with_pool(24 << 20);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store threads");
	TCase *tcase = tcase_create("threads");

	tcase_set_timeout(tcase, getenv("TEST_OPS") ? 0 : 300);
	tcase_add_test(tcase, store_threads_agree_in_a_pool_smaller_than_the_tree);
	tcase_add_test(tcase, store_threads_agree_in_a_pool_of_the_tree_size);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
