/*
 * Views beside writers, moves, drops and checkpoints in other threads.
 *
 * Writers change keys in groups: every batch gives all keys of a group, spread over the
 * whole tree, the same number; a mover moves a subtree there and back, a dropper fills one and
 * drops it.  Whatever the moment a view was opened at, it sees each group with one number,
 * the subtree whole at one place, and the same again when it looks again.
 */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "device/device_test.h"
#include "store/store.h"
#include "tests/support/support.h"

#define GROUPS 4
#define MEMBERS 8
#define SUBTREE_KEYS 3000
#define FILLERS 12000

static struct store *store;
static _Atomic bool is_over;

static uint32_t member_key(char *key, unsigned group, unsigned member)
{
	return (uint32_t)sprintf(key, "/fill/%05u/group-%u", member * FILLERS / MEMBERS, group);
}

static void put_group(struct store_batch *batch, unsigned group, uint64_t number)
{
	char key[64];

	store_batch_reset(batch);
	for (unsigned i = 0; i < MEMBERS; i++)
		store_batch_put(batch, key, member_key(key, group, i), &number, sizeof(number));
	ck_ok(store_commit(store, batch, NULL));
}

static void put_many(struct store_batch *batch, const char *directory, unsigned keys)
{
	char key[64], value[100] = {0};

	for (unsigned i = 0; i < keys; i++) {
		store_batch_reset(batch);
		store_batch_put(batch, key, (uint32_t)sprintf(key, "%s%05u", directory, i), value, sizeof(value));
		ck_ok(store_commit(store, batch, NULL));
	}
}

/* ---- those who change ------------------------------------------------------------ */

static void *write_groups(void *ctx)
{
	uint64_t random = 7 + (uintptr_t)ctx;
	struct store_batch *batch;

	ck_ok(store_batch_create(store, &batch));
	for (uint64_t number = 1; !atomic_load(&is_over); number++)
		put_group(batch, (unsigned)support_random_below(&random, GROUPS / 2) +
				     (unsigned)(uintptr_t)ctx * GROUPS / 2, number);
	store_batch_destroy(batch);
	return NULL;
}

static void *move_and_drop(void *ctx)
{
	struct store_batch *batch;
	bool is_at_b = false;

	ck_ok(store_batch_create(store, &batch));
	while (!atomic_load(&is_over)) {
		store_batch_reset(batch);
		store_batch_move_prefix(batch, is_at_b ? "/b/" : "/a/", 3, is_at_b ? "/a/" : "/b/", 3);
		ck_ok(store_commit(store, batch, NULL));
		is_at_b = !is_at_b;
		put_many(batch, "/gone/", 300);
		store_batch_reset(batch);
		store_batch_drop_prefix(batch, "/gone/", 6);
		ck_ok(store_commit(store, batch, NULL));
	}
	store_batch_destroy(batch);
	return NULL;
}

static void *make_checkpoints(void *ctx)
{
	while (!atomic_load(&is_over))
		ck_ok(store_checkpoint(store));
	return NULL;
}

/* ---- those who look ----------------------------------------------------------------- */

static uint64_t number_of(struct store_view *view, unsigned group, unsigned member)
{
	uint64_t number;
	uint32_t bytes;
	char key[64];

	ck_ok(store_view_get(view, key, member_key(key, group, member), &number, sizeof(number), &bytes, NULL));
	return number;
}

static unsigned count_keys(struct store_view *view, const char *prefix)
{
	struct store_range range = {.prefix = prefix, .prefix_bytes = (uint32_t)strlen(prefix)};
	struct store_cursor *cursor;
	struct store_item item;
	unsigned count = 0;
	int err;

	ck_ok(store_view_cursor_open(view, &range, &cursor));
	while ((err = store_cursor_next(cursor, &item)) == 0)
		count++;
	ck_assert_int_eq(err, -ENOENT);
	store_cursor_close(cursor);
	return count;
}

static void look_at(struct store_view *view)
{
	uint64_t numbers[GROUPS];
	unsigned gone = count_keys(view, "/gone/");

	for (unsigned group = 0; group < GROUPS; group++) {
		numbers[group] = number_of(view, group, 0);
		for (unsigned i = 1; i < MEMBERS; i++)
			ck_assert_uint_eq(number_of(view, group, i), numbers[group]);
	}
	ck_assert_uint_eq(count_keys(view, "/a/") + count_keys(view, "/b/"), SUBTREE_KEYS);
	ck_assert(store_view_is_prefix_empty(view, "/a/", 3) != store_view_is_prefix_empty(view, "/b/", 3));
	ck_assert_uint_eq(count_keys(view, "/fill/"), FILLERS + GROUPS * MEMBERS);
	for (unsigned group = 0; group < GROUPS; group++)
		for (unsigned i = 0; i < MEMBERS; i++)
			ck_assert_uint_eq(number_of(view, group, i), numbers[group]);
	ck_assert_uint_eq(count_keys(view, "/gone/"), gone);
}

static void look(unsigned rounds)
{
	struct store_view *older = NULL, *view;

	for (unsigned i = 0; i < rounds; i++) {
		ck_ok(store_view_open(store, &view));
		look_at(view);
		if (older)
			look_at(older);
		store_view_close(older);
		older = view;
	}
	store_view_close(older);
}

static void run(unsigned rounds, bool has_checkpoints)
{
	pthread_t threads[4];
	struct store_batch *batch;
	unsigned count = 0;

	ck_ok(store_batch_create(store, &batch));
	put_many(batch, "/fill/", FILLERS);
	put_many(batch, "/a/", SUBTREE_KEYS);
	for (unsigned group = 0; group < GROUPS; group++)
		put_group(batch, group, 0);
	store_batch_destroy(batch);
	for (uintptr_t i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[count++], NULL, write_groups, (void *)i), 0);
	ck_assert_int_eq(pthread_create(&threads[count++], NULL, move_and_drop, NULL), 0);
	if (has_checkpoints)
		ck_assert_int_eq(pthread_create(&threads[count++], NULL, make_checkpoints, NULL), 0);
	look(rounds);
	atomic_store(&is_over, true);
	while (count > 0)
		pthread_join(threads[--count], NULL);
	ck_ok(store_close(store));
}

START_TEST(views_are_moments_beside_writers_moves_and_checkpoints)
{
	struct store_format_options format = {.uuid = {1}, .journal_bytes = 8 << 20};
	struct store_options options = {.cache_bytes = 16 << 20, .keep_device = true};
	struct device *device;

	support_log_to_stderr();
	ck_ok(device_open_memory(512ull << 20, &device));
	ck_ok(store_format(device, &format));
	ck_ok(store_open(device, &options, &store));
	run(150, true);
	ck_ok(store_open(device, &options, &store));
	ck_ok(store_close(store));
	device_close(device);
}
END_TEST

START_TEST(views_are_moments_in_memory)
{
	struct store_options options = {.cache_bytes = 256 << 20};

	support_log_to_stderr();
	ck_ok(store_open_memory(&options, &store));
	run(150, false);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("view threads");
	TCase *tcase = tcase_create("threads");

	tcase_set_timeout(tcase, 600);
	tcase_add_test(tcase, views_are_moments_beside_writers_moves_and_checkpoints);
	tcase_add_test(tcase, views_are_moments_in_memory);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
