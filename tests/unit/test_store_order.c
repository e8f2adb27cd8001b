/*
 * Frames are kept in order on disk, by packing them now and then: where that costs nothing
 * that was asked for.
 */
#include "config.h"

#include "store/store_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/support.h"

static struct device *device;
static struct store *store;
static struct store_batch *batch;
static uint8_t value[STORE_VALUE_MAX];

static void open_on_disk(void)
{
	struct store_format_options format = {.label = "order", .uuid = {7}};
	struct store_options options = {.cache_bytes = 32 << 20, .no_threads = true, .keep_device = true};

	ck_ok(device_open_memory(64ull << 20, &device));
	ck_ok(store_format(device, &format));
	ck_ok(store_open(device, &options, &store));
	ck_ok(store_batch_create(store, &batch));
}

static void open_in_memory(void)
{
	struct store_options options = {.cache_bytes = 32 << 20, .no_threads = true};

	ck_ok(store_open_memory(&options, &store));
	ck_ok(store_batch_create(store, &batch));
}

static void teardown(void)
{
	store_batch_destroy(batch);
	ck_ok(store_close(store));
	device_close(device);
	device = NULL;
}

static void put(const char *format, unsigned number, uint32_t bytes)
{
	char key[64];

	ck_ok(store_put(store, key, (uint32_t)sprintf(key, format, number), value, bytes, NULL, NULL));
}

static uint64_t packs(void)
{
	struct store_counters counters;

	store_counters(store, &counters);
	return counters.packs;
}

static bool root_is_disordered(void)
{
	uint32_t slot = pool_find(store->pool, frame_key_make(FRAME_TREE, store->tree.root_id));

	return image_is_disordered(pool_memory(store->pool, slot));
}

static void lose_order(void)
{
	unsigned i = 0;

	do {
		put("%05u", i++ * 7919 % 10000, 100);
	} while (!root_is_disordered());
}

START_TEST(a_frame_is_packed_when_something_is_put)
{
	lose_order();
	ck_assert_uint_eq(packs(), 0);
	put("%05u", 77777, 100);
	ck_assert_uint_eq(packs(), 1);
	ck_assert(!root_is_disordered());
}
END_TEST

/* Not even on a volume where nothing can be had. */
START_TEST(guards_change_nothing_where_order_is_lost)
{
	uint64_t taken = 0;
	char key[64];

	lose_order();
	ck_ok(store_checkpoint(store));
	while (space_reserve(store->space, SPACE_TREE, FRAME_BLOCKS) == 0)
		taken++;
	store_batch_require_present(batch, key, (uint32_t)sprintf(key, "%05u", 0));
	ck_ok(store_commit(store, batch, NULL));
	ck_assert_uint_eq(packs(), 0);
	ck_assert_uint_eq(atomic_load(&store->dirty_count), 0);
	space_unreserve(store->space, SPACE_TREE, taken * FRAME_BLOCKS);
}
END_TEST

START_TEST(batches_take_the_room_that_there_is)
{
	char key[64];

	put("%05u", 50000, STORE_VALUE_MAX);
	ck_assert(root_is_disordered());
	for (unsigned i = 0; i < 2; i++)
		store_batch_put(batch, key, (uint32_t)sprintf(key, "%05u", i), value, STORE_VALUE_MAX);
	ck_ok(store_commit(store, batch, NULL));
	ck_assert_uint_eq(packs(), 0);
}
END_TEST

START_TEST(what_was_moved_is_in_order)
{
	uint64_t before;

	for (unsigned i = 0; i < 1000; i++)
		put("a/%05u", i * 7919 % 1000, 100);
	put("b", 0, 100);
	store_batch_move_prefix(batch, "a/", 2, "c/", 2);
	ck_ok(store_commit(store, batch, NULL));
	before = packs();
	put("c/%05u", 99999, 100);
	ck_assert_uint_eq(packs(), before);
}
END_TEST

START_TEST(memory_is_not_packed_for_order)
{
	for (unsigned i = 0; i < 3000; i++)
		put("%05u", i * 7919 % 10000, 100);
	ck_assert_uint_eq(packs(), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store_order");
	TCase *on_disk = tcase_create("on disk"), *in_memory = tcase_create("in memory");

	tcase_add_checked_fixture(on_disk, open_on_disk, teardown);
	tcase_add_test(on_disk, a_frame_is_packed_when_something_is_put);
	tcase_add_test(on_disk, guards_change_nothing_where_order_is_lost);
	tcase_add_test(on_disk, batches_take_the_room_that_there_is);
	tcase_add_test(on_disk, what_was_moved_is_in_order);
	suite_add_tcase(suite, on_disk);
	tcase_add_checked_fixture(in_memory, open_in_memory, teardown);
	tcase_add_test(in_memory, memory_is_not_packed_for_order);
	suite_add_tcase(suite, in_memory);
	return support_run(suite);
}
