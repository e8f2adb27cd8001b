/*
 * Power cuts during recovery itself, from a pool so small that single records of the log
 * have to be applied in pieces, with checkpoints between them.
 *
 * The log is made with a large pool.  A recovery with the smallest one is recorded; the
 * power is cut before each of its writes and flushes, and what is there then is recovered
 * again.  It must be exactly what the log says, whatever part of a record the last
 * checkpoint had.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "device/device_test.h"
#include "store/store.h"
#include "tests/support/support.h"

#define VOLUME_BYTES (256ull << 20)
#define VALUE_BYTES  120000u /* four to a frame */
#define OTHERS	     3u

static struct device *device;
static struct store *store;
static struct store_batch *batch;

/* ---- what is done ------------------------------------------------------------------ */

#define OWNERS 200u

static unsigned released[OWNERS];

static void release(void *ctx, struct store_batch *step, const void *key, uint32_t key_bytes,
    const void *value, uint32_t value_bytes)
{
	char number[9] = {0};

	ck_assert_uint_eq(key_bytes, 8);
	ck_assert_uint_eq(value_bytes, VALUE_BYTES);
	memcpy(number, key, 8);
	released[atoi(number)]++;
}

static const struct store_options large = {
    .cache_bytes = 64 << 20, .no_threads = true, .keep_device = true, .release = release};
static const struct store_options small = {
    .cache_bytes = 8 << 20, .no_threads = true, .keep_device = true, .release = release};

static void open_store(struct device *on, const struct store_options *options)
{
	int err = store_open(on, options, &store);

	ck_assert_msg(err == 0, "open answers %d", err);
	ck_ok(store_batch_create(store, &batch));
}

static void abandon(void)
{
	store_batch_destroy(batch);
	store_abandon(store);
}

static void make_store(void)
{
	struct store_format_options format = {.label = "crash", .uuid = {3}, .journal_bytes = 64 << 20};

	support_log_to_stderr();
	ck_ok(device_open_recording(VOLUME_BYTES, &device));
	ck_ok(store_format(device, &format));
	open_store(device, &large);
}

static void put(const char *directory, unsigned number, uint32_t bytes)
{
	static const uint8_t value[VALUE_BYTES];
	char key[64];

	store_batch_reset(batch);
	store_batch_put(batch, key, (uint32_t)sprintf(key, "%s%08u", directory, number), value, bytes);
	ck_ok(store_commit(store, batch, NULL));
}

static unsigned keys_below(const char *prefix)
{
	struct store_range range = {.prefix = prefix, .prefix_bytes = (uint32_t)strlen(prefix), .keys_only = true};
	struct store_cursor *cursor;
	struct store_item item;
	unsigned keys = 0;

	ck_ok(store_cursor_open(store, &range, &cursor));
	while (store_cursor_next(cursor, &item) == 0)
		keys++;
	store_cursor_close(cursor);
	return keys;
}

static uint64_t dropping(void)
{
	struct store_counters counters;

	store_counters(store, &counters);
	return counters.dropping;
}

/* ---- the cuts ------------------------------------------------------------------------ */

/* Recovers from the log that is there, and then from each cut of that recovery. */
static void cut_recovery(void (*check)(void))
{
	struct store_counters counters;
	uint32_t events;

	ck_ok(store_sync(store, store_end_lsn(store), JOURNAL_SYNC));
	abandon();
	recording_restart(device);
	open_store(device, &small);
	store_counters(store, &counters);
	abandon();
	/* Some on the way, or this shows nothing. */
	ck_assert_uint_gt(counters.checkpoints, 2);
	events = recording_event_count(device);
	for (uint32_t cut = 0; cut <= events; cut++) {
		struct device *after;

		ck_ok(recording_cut(device, cut, cut % 3 ? UINT64_MAX : 0, RECORDING_WHOLE, &after));
		open_store(after, &small);
		abandon();
		open_store(after, &large);
		check();
		abandon();
		device_close(after);
	}
}

/* ---- erasing what was dropped -------------------------------------------------------- */

static unsigned released_in_log[OWNERS];

/* What the log had erased is erased, everything else still to come. */
static void expect_each_released_once(void)
{
	memcpy(released, released_in_log, sizeof(released));
	while (dropping())
		put("/other/", 0, 0);
	for (unsigned i = 0; i < OWNERS; i++)
		ck_assert_msg(released[i] == 1, "leaf %u was released %u times", i, released[i]);
	ck_assert_uint_eq(keys_below("/"), 1);
}

START_TEST(leaves_are_erased_once_wherever_recovery_is_cut_off)
{
	unsigned count = 0;

	make_store();
	for (unsigned i = 0; i < OWNERS; i++)
		put("/gone/", i, VALUE_BYTES);
	ck_ok(store_checkpoint(store));
	store_batch_reset(batch);
	store_batch_drop_prefix(batch, "/gone/", 6);
	ck_ok(store_commit(store, batch, NULL));
	put("/other/", 0, 0);
	for (unsigned i = 0; i < OWNERS; i++)
		count += released[i];
	ck_assert_uint_gt(count, 0);
	ck_assert_uint_lt(count, OWNERS);
	memcpy(released_in_log, released, sizeof(released));
	cut_recovery(expect_each_released_once);
	device_close(device);
}
END_TEST

/* ---- moves -------------------------------------------------------------------------- */

#define DIRECTORIES 15u
#define MOVES	    8u

/* More than goes inline at the destination: each takes a new frame. */
#define MOVED_BYTES 40000u
#define MOVED_KEYS  2u

static uint32_t name_of(unsigned number, const char *below, char *name)
{
	return (uint32_t)sprintf(name, "/d%02u/%s/", number, below);
}

/* The first makes way for the second; the others have places of their own. */
static unsigned destination_of(unsigned number)
{
	return number == 1 ? 0 : number + MOVES - (number > 1);
}

static void expect_moved_once(void)
{
	char name[32];

	for (unsigned i = 0; i < DIRECTORIES; i++) {
		bool is_source = i > 0 && i < MOVES;

		name_of(i, "in", name);
		ck_assert_uint_eq(keys_below(name), is_source ? 0 : MOVED_KEYS + (i == 0));
	}
	ck_assert_uint_eq(keys_below("/later"), 1);
}

START_TEST(moves_of_a_batch_are_made_once_wherever_recovery_is_cut_off)
{
	char from[32], to[32];

	make_store();
	for (unsigned i = 0; i < DIRECTORIES; i++) {
		/* What lies beside fills a frame, so that each directory has its own. */
		name_of(i, "by", from);
		for (unsigned k = 0; k < 3; k++)
			put(from, k, VALUE_BYTES);
		name_of(i, "in", from);
		for (unsigned k = 0; k < MOVED_KEYS + (i == 1) && i < MOVES; k++)
			put(from, k, MOVED_BYTES);
	}
	ck_ok(store_checkpoint(store));
	store_batch_reset(batch);
	for (unsigned i = 0; i < MOVES; i++) {
		uint32_t bytes = name_of(i, "in", from);

		store_batch_move_prefix(batch, from, bytes, to, name_of(destination_of(i), "in", to));
	}
	ck_ok(store_commit(store, batch, NULL));
	put("/later", 0, 0);
	expect_moved_once();
	cut_recovery(expect_moved_once);
	device_close(device);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("recovery crash");
	TCase *tcase = tcase_create("power cuts in recovery");

	tcase_set_timeout(tcase, 300);
	tcase_add_test(tcase, leaves_are_erased_once_wherever_recovery_is_cut_off);
	tcase_add_test(tcase, moves_of_a_batch_are_made_once_wherever_recovery_is_cut_off);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
