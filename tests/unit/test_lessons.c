/*
 * What went wrong in another engine (docs/lessons.md) and has no place among the tests of a
 * single module: a device in memory that calls back at each write, so that things happen
 * in the middle of a checkpoint, and whose content can be looked at as the power would have
 * left it.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "device/device.h"
#include "format/format.h"
#include "store/store.h"
#include "tests/support/support.h"
#include "tree/tree.h"

#define DISK_BYTES (32u << 20)
#define KEYS 1500
#define VALUE_BYTES 1000

/* Written: what a device has.  Flushed: what the power leaves at least. */
static struct {
	uint8_t *written, *flushed;
	uint64_t writes, flushes;
	void (*at_write)(void); /* called in a thread of its own, for locks have an order */
	void (*at_flush)(void);
	bool is_aside;
} disk;

static struct store *store;

/* ---- the device ------------------------------------------------------------------------ */

static void *run_aside(void *fn)
{
	(*(void (**)(void))fn)();
	return NULL;
}

/* What it writes itself is not worth a call. */
static void call_aside(void (*fn)(void))
{
	pthread_t thread;

	if (disk.is_aside)
		return;
	disk.is_aside = true;
	ck_ok(pthread_create(&thread, NULL, run_aside, &fn));
	ck_ok(pthread_join(thread, NULL));
	disk.is_aside = false;
}

static int disk_read(void *ctx, uint64_t offset, void *memory, size_t bytes)
{
	memcpy(memory, (uint8_t *)ctx + offset, bytes);
	return 0;
}

static int disk_write(void *ctx, uint64_t offset, const void *memory, size_t bytes)
{
	memcpy((uint8_t *)ctx + offset, memory, bytes);
	disk.writes++;
	if (disk.at_write && ctx == disk.written)
		call_aside(disk.at_write);
	return 0;
}

static int disk_flush(void *ctx)
{
	disk.flushes++;
	if (disk.at_flush && ctx == disk.written)
		call_aside(disk.at_flush);
	if (ctx == disk.written && disk.flushed)
		memcpy(disk.flushed, disk.written, DISK_BYTES);
	return 0;
}

static struct device *open_memory(uint8_t *memory)
{
	const struct device_functions functions = {
	    .ctx = memory,
	    .bytes = DISK_BYTES,
	    .read = disk_read,
	    .write = disk_write,
	    .flush = disk_flush,
	};
	struct device *device;

	ck_ok(device_open_functions(&functions, &device));
	return device;
}

static struct store *open_store(uint8_t *memory, bool has_threads)
{
	const struct store_options options = {.cache_bytes = 8 << 20, .no_threads = !has_threads,
	    .checkpoint_idle_ms = UINT32_MAX};
	struct store *opened;

	ck_ok(store_open(open_memory(memory), &options, &opened));
	return opened;
}

static void setup(void)
{
	const struct store_format_options options = {.uuid = "0123456789abcde"};
	struct device *device;

	support_log_to_stderr();
	memset(&disk, 0, sizeof(disk));
	disk.written = calloc(1, DISK_BYTES);
	device = open_memory(disk.written);
	ck_ok(store_format(device, &options));
	device_close(device);
	store = open_store(disk.written, false);
}

static void teardown(void)
{
	disk.at_write = disk.at_flush = NULL;
	ck_ok(store_close(store));
	free(disk.written);
	free(disk.flushed);
}

/* As the power would leave it now: with all that was written, or what was flushed alone. */
static struct store *open_cut(bool has_unflushed, uint8_t **ret_memory)
{
	uint8_t *memory = malloc(DISK_BYTES);

	memcpy(memory, has_unflushed ? disk.written : disk.flushed, DISK_BYTES);
	*ret_memory = memory;
	return open_store(memory, false);
}

static void close_cut(struct store *cut, uint8_t *memory)
{
	ck_ok(store_close(cut));
	free(memory);
}

/* ---- keys -------------------------------------------------------------------------------- */

static uint32_t make_key(unsigned i, char *key, size_t size)
{
	return (uint32_t)snprintf(key, size, "dir%u/%05u", i % 3, i);
}

static void put(unsigned i, uint8_t with)
{
	uint8_t value[VALUE_BYTES];
	char key[32];
	uint32_t bytes = make_key(i, key, sizeof(key));

	memset(value, with, sizeof(value));
	ck_ok(store_put(store, key, bytes, value, sizeof(value), NULL, NULL));
}

/* The first byte of the key's value; 0: there is no such key. */
static uint8_t get(struct store *from, unsigned i)
{
	uint8_t value[VALUE_BYTES];
	char key[32];
	uint32_t bytes = make_key(i, key, sizeof(key)), have;
	int err = store_get(from, key, bytes, value, sizeof(value), &have, NULL);

	ck_assert(err == 0 || err == -ENOENT);
	if (err)
		return 0;
	for (unsigned at = 1; at < VALUE_BYTES; at++)
		ck_assert_uint_eq(value[at], value[0]);
	return value[0];
}

static void put_all(uint8_t with)
{
	for (unsigned i = 0; i < KEYS; i++)
		put(i, with);
}

static void sync_all(void)
{
	ck_ok(store_sync(store, store_end_lsn(store), JOURNAL_SYNC));
}

static void erase(unsigned i)
{
	char key[32];
	uint32_t bytes = make_key(i, key, sizeof(key));

	ck_ok(store_delete(store, key, bytes, NULL, NULL));
}

/* ---- beside a checkpoint ------------------------------------------------------------------ */

static unsigned step;
static uint8_t now[KEYS]; /* what each key has */

/* At each write of a checkpoint some frame that is being written changes. */
static void change_some(void)
{
	for (unsigned i = step++ % 7; i < KEYS; i += 97) {
		now[i] = (uint8_t)(2 + step % 200);
		put(i, now[i]);
	}
}

static void expect(struct store *from)
{
	for (unsigned i = 0; i < KEYS; i++)
		ck_assert_uint_eq(get(from, i), now[i]);
}

START_TEST(changes_beside_a_checkpoint_are_in_the_log_and_in_the_next)
{
	uint8_t *memory;
	struct store *cut;

	put_all(1);
	memset(now, 1, sizeof(now));
	disk.at_write = change_some;
	ck_ok(store_checkpoint(store));
	disk.at_write = NULL;
	ck_assert_uint_gt(step, 3);
	sync_all();
	cut = open_cut(true, &memory);
	expect(cut);
	close_cut(cut, memory);
	/* Once more, without a log to lean on. */
	ck_ok(store_checkpoint(store));
	memset(disk.written + FRAME_BYTES, 0, 16 * FRAME_BYTES); /* of the journal */
	cut = open_cut(true, &memory);
	expect(cut);
	close_cut(cut, memory);
}
END_TEST

/* Frames go, by folding and with everything below a prefix, while they are being written. */
static void remove_some(void)
{
	struct store_batch *batch;

	if (++step == 3) {
		ck_ok(store_batch_create(store, &batch));
		store_batch_drop_prefix(batch, "dir1/", 5);
		ck_ok(store_commit(store, batch, NULL));
		store_batch_destroy(batch);
		for (unsigned i = 1; i < KEYS; i += 3)
			now[i] = 0;
	}
	for (unsigned i = 300 * (step % 5); i < 300 * (step % 5) + 300; i++) {
		if (i % 3 == 1)
			continue;
		now[i] = 0;
		erase(i);
	}
}

START_TEST(frames_that_go_while_a_checkpoint_writes_them_are_missed_by_nobody)
{
	uint8_t *memory, before[KEYS];
	struct store *cut;

	step = 0;
	put_all(1);
	sync_all();
	memset(now, 1, sizeof(now));
	memcpy(before, now, sizeof(now));
	disk.flushed = malloc(DISK_BYTES);
	memcpy(disk.flushed, disk.written, DISK_BYTES);
	disk.at_write = remove_some;
	ck_ok(store_checkpoint(store));
	disk.at_write = NULL;
	ck_assert_uint_gt(step, 5);
	sync_all();
	cut = open_cut(false, &memory);
	expect(cut);
	close_cut(cut, memory);
	ck_ok(store_checkpoint(store));
	cut = open_cut(false, &memory);
	expect(cut);
	close_cut(cut, memory);
}
END_TEST

/* ---- cuts at each write -------------------------------------------------------------------- */

static void check_pair(bool has_unflushed)
{
	uint8_t *memory;
	struct store *cut = open_cut(has_unflushed, &memory);
	uint8_t src = get(cut, 0), dst = get(cut, 1);

	/* Either or: never both, never none, and never a later value of the source. */
	ck_assert_msg((src == 5 && dst == 6) || (src == 0 && dst == 5) || (src == 7 && dst == 5),
	    "the source has %u, the destination %u", src, dst);
	close_cut(cut, memory);
}

static void check_both(void)
{
	check_pair(true);
	check_pair(false);
}

/* Key 0 is renamed to key 1, which exists, and written anew; frames are on disk in between. */
START_TEST(a_renamed_value_is_at_one_place_wherever_the_power_goes)
{
	struct store_batch *batch;
	uint8_t value[VALUE_BYTES];
	char src[32], dst[32];
	uint32_t src_bytes = make_key(0, src, sizeof(src)), dst_bytes = make_key(1, dst, sizeof(dst));

	put_all(1);
	put(0, 5);
	put(1, 6);
	ck_ok(store_checkpoint(store));
	disk.flushed = malloc(DISK_BYTES);
	memcpy(disk.flushed, disk.written, DISK_BYTES);
	disk.at_write = disk.at_flush = check_both;
	memset(value, 5, sizeof(value));
	ck_ok(store_batch_create(store, &batch));
	store_batch_delete(batch, src, src_bytes);
	store_batch_put(batch, dst, dst_bytes, value, sizeof(value));
	ck_ok(store_commit(store, batch, NULL));
	store_batch_destroy(batch);
	sync_all();
	put(0, 7);
	sync_all();
	ck_ok(store_checkpoint(store));
}
END_TEST

START_TEST(what_is_synced_behind_a_torn_tail_is_there_after_the_next_death)
{
	uint8_t *memory;
	struct store *cut;

	put_all(1);
	sync_all();
	for (unsigned i = 0; i < 200; i++)
		put(i, 2);
	disk.flushed = malloc(DISK_BYTES);
	memcpy(disk.flushed, disk.written, DISK_BYTES);
	sync_all();
	/* Half of what the last sync wrote is there, then garbage of its own kind. */
	for (uint64_t at = FRAME_BYTES, changed = 0; at < 17 * FRAME_BYTES; at += BLOCK_BYTES) {
		if (memcmp(disk.written + at, disk.flushed + at, BLOCK_BYTES) == 0)
			continue;
		if (++changed > 5)
			memset(disk.written + at, changed % 2 ? 0 : 0xa5, BLOCK_BYTES);
	}
	store_abandon(store);
	store = open_store(disk.written, false);
	for (unsigned i = 0; i < 300; i++)
		put(i, 3);
	sync_all();
	cut = open_cut(true, &memory);
	for (unsigned i = 0; i < 300; i++)
		ck_assert_uint_eq(get(cut, i), 3);
	for (unsigned i = 300; i < KEYS; i++)
		ck_assert_uint_eq(get(cut, i), 1);
	close_cut(cut, memory);
}
END_TEST

/* ---- images --------------------------------------------------------------------------------- */

struct places {
	struct manifest_place of[2];
	unsigned count;
};

static int note_place(void *ctx, uint64_t frame_id, const struct manifest_place *place)
{
	struct places *places = ctx;

	if (places->count < 2)
		places->of[places->count++] = *place;
	return 0;
}

START_TEST(an_image_of_another_frame_is_not_taken_for_this_one)
{
	static uint8_t image[FRAME_BYTES];
	struct places places = {.count = 0};
	unsigned damaged = 0;

	put_all(1);
	ck_ok(store_checkpoint(store));
	ck_ok(manifest_for_each(store_space(store), note_place, &places));
	ck_assert_uint_eq(places.count, 2);
	ck_ok(store_close(store));
	memcpy(image, disk.written + places.of[0].disk_frame * FRAME_BYTES, FRAME_BYTES);
	memcpy(disk.written + places.of[0].disk_frame * FRAME_BYTES,
	    disk.written + places.of[1].disk_frame * FRAME_BYTES, FRAME_BYTES);
	memcpy(disk.written + places.of[1].disk_frame * FRAME_BYTES, image, FRAME_BYTES);
	store = open_store(disk.written, false);
	for (unsigned i = 0; i < KEYS; i++) {
		uint8_t value[VALUE_BYTES];
		char key[32];
		uint32_t bytes = make_key(i, key, sizeof(key)), have;
		int err = store_get(store, key, bytes, value, sizeof(value), &have, NULL);

		/* Never "absent", never another key's value. */
		ck_assert(err == -EUCLEAN || (err == 0 && value[0] == 1));
		damaged += err == -EUCLEAN;
	}
	ck_assert_uint_gt(damaged, 0);
}
END_TEST

/* ---- views ------------------------------------------------------------------------------------ */

static int count_item(void *ctx, const struct store_item *item)
{
	++*(unsigned *)ctx;
	return 0;
}

static int count_run(void *ctx, struct tree_scan *run)
{
	for (uint32_t i = 0; i < run->count; i++) {
		tree_scan_take(run, &run->items[i]);
		++*(unsigned *)ctx;
	}
	return 0;
}

START_TEST(a_view_writes_nothing_and_leaves_nothing_on_disk)
{
	struct store_counters before, after;
	struct store_view *view;
	unsigned count = 0;
	uint64_t writes;

	put_all(1);
	ck_ok(store_checkpoint(store));
	ck_ok(store_checkpoint(store));
	store_counters(store, &before);
	writes = disk.writes;
	ck_ok(store_view_open(store, &view));
	ck_ok(store_view_visit_runs(view, NULL, 0, count_run, &count));
	ck_assert_uint_eq(count, KEYS);
	ck_assert_uint_eq(disk.writes, writes);
	/* Everything changes, so that the view has all of it to itself; then the process dies. */
	put_all(2);
	ck_ok(store_checkpoint(store));
	sync_all();
	store_view_close(view);
	store_abandon(store);
	store = open_store(disk.written, false);
	ck_ok(store_checkpoint(store));
	ck_ok(store_checkpoint(store));
	store_counters(store, &after);
	ck_assert_uint_le(after.used_bytes, before.used_bytes + FRAME_BYTES);
	ck_assert_uint_eq(after.tree_frames, before.tree_frames);
}
END_TEST

/* ---- waiting ------------------------------------------------------------------------------------ */

static bool has_read;

/* The flush takes as long as it takes somebody to read what is not in memory. */
static void read_meanwhile(void)
{
	for (unsigned i = 0; i < KEYS; i++)
		ck_assert_uint_eq(get(store, i), 1);
	has_read = true;
}

START_TEST(cold_reads_do_not_wait_for_a_flush)
{
	struct store_counters before, after;

	put_all(1);
	ck_ok(store_close(store));
	store = open_store(disk.written, false);
	ck_ok(store_put(store, "x", 1, "y", 1, NULL, NULL));
	store_counters(store, &before);
	disk.at_flush = read_meanwhile;
	sync_all();
	ck_assert(has_read);
	has_read = false;
	ck_ok(store_checkpoint(store));
	ck_assert(has_read);
	store_counters(store, &after);
	ck_assert_uint_gt(after.frame_loads, before.frame_loads);
}
END_TEST

static _Atomic bool is_over;

static void *write_all_the_time(void *ctx)
{
	for (unsigned i = 0; !atomic_load(&is_over); i++)
		put(i * 7 % KEYS, 1);
	return NULL;
}

START_TEST(listings_end_beside_writers_that_never_do)
{
	pthread_t writers[2];
	struct store_range range = {.has_delimiter = true, .delimiter = '/'};

	put_all(1);
	for (unsigned i = 0; i < 2; i++)
		ck_ok(pthread_create(&writers[i], NULL, write_all_the_time, NULL));
	for (unsigned i = 0; i < 50; i++) {
		unsigned all = 0, groups = 0;

		ck_ok(store_visit(store, NULL, 0, count_item, &all));
		ck_ok(store_visit(store, &range, 0, count_item, &groups));
		ck_assert_uint_eq(all, KEYS);
		ck_assert_uint_eq(groups, 3);
	}
	atomic_store(&is_over, true);
	for (unsigned i = 0; i < 2; i++)
		ck_ok(pthread_join(writers[i], NULL));
}
END_TEST

/* ---- frames -------------------------------------------------------------------------------------- */

START_TEST(a_frame_full_of_dead_bytes_is_packed_and_not_cut)
{
	struct store_counters counters;
	uint8_t value[3000] = {0};

	/* Longer each time, so that no value fits where one of before was. */
	for (unsigned round = 0; round < 60; round++)
		for (unsigned i = 0; i < 20; i++) {
			uint8_t key[2] = {'k', (uint8_t)i};

			ck_ok(store_put(store, key, 2, value, 600 + 40 * round, NULL, NULL));
		}
	store_counters(store, &counters);
	ck_assert_uint_eq(counters.tree_frames, 1);
	ck_assert_uint_eq(counters.splits, 0);
	ck_assert_uint_gt(counters.packs, 0);
}
END_TEST

START_TEST(versions_never_come_twice_whatever_became_of_the_log)
{
	uint64_t last = 0, version;
	uint8_t value[VALUE_BYTES];
	uint32_t bytes;

	for (unsigned life = 0; life < 6; life++) {
		put(0, 1);
		ck_ok(store_get(store, "dir0/00000", 10, value, sizeof(value), &bytes, &version));
		ck_assert_uint_gt(version, last);
		last = version;
		if (life % 3 == 0)
			ck_ok(store_checkpoint(store));
		if (life % 2) {
			ck_ok(store_close(store));
		} else {
			sync_all();
			store_abandon(store);
		}
		store = open_store(disk.written, false);
		ck_ok(store_get(store, "dir0/00000", 10, value, sizeof(value), &bytes, &version));
		ck_assert_uint_eq(version, last);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("lessons");
	TCase *tcase = tcase_create("store");

	tcase_set_timeout(tcase, 120);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, changes_beside_a_checkpoint_are_in_the_log_and_in_the_next);
	tcase_add_test(tcase, frames_that_go_while_a_checkpoint_writes_them_are_missed_by_nobody);
	tcase_add_test(tcase, a_renamed_value_is_at_one_place_wherever_the_power_goes);
	tcase_add_test(tcase, what_is_synced_behind_a_torn_tail_is_there_after_the_next_death);
	tcase_add_test(tcase, an_image_of_another_frame_is_not_taken_for_this_one);
	tcase_add_test(tcase, a_view_writes_nothing_and_leaves_nothing_on_disk);
	tcase_add_test(tcase, cold_reads_do_not_wait_for_a_flush);
	tcase_add_test(tcase, listings_end_beside_writers_that_never_do);
	tcase_add_test(tcase, a_frame_full_of_dead_bytes_is_packed_and_not_cut);
	tcase_add_test(tcase, versions_never_come_twice_whatever_became_of_the_log);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
