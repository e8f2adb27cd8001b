/*
 * How full frames are: with random 32-byte keys and keys shaped like paths, put in
 * order and in random order, the average frame is at least half full.
 *
 * A tree that cuts frames where one subtree ends would leave most of them nearly empty
 * for random keys; this one cuts runs of entries.  TEST_OPS is the number of keys.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "device/device_test.h"
#include "store/store.h"
#include "tests/support/support.h"
#include "tree/node.h"

#define KEYS_DEFAULT 200000
#define VALUE_BYTES 32

struct fill {
	struct pool *pool;
	uint64_t live_bytes, frames;
};

static uint64_t keys_wanted(void)
{
	const char *given = getenv("TEST_OPS");

	return given ? strtoull(given, NULL, 0) : KEYS_DEFAULT;
}

static void add_frame(void *ctx, frame_key key, uint32_t slot)
{
	struct fill *fill = ctx;

	fill->live_bytes += image_live_bytes(pool_memory(fill->pool, slot));
	fill->frames++;
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/* Big-endian, so that the order of numbers is the order of keys. */
static uint32_t random_key(uint64_t seed, uint64_t number, uint64_t keys, bool is_sorted, uint8_t *bytes)
{
	uint64_t first = is_sorted ? number * (UINT64_MAX / keys) : mix(seed + number);

	for (unsigned i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(first >> (56 - 8 * i));
	for (unsigned i = 1; i < 4; i++) {
		uint64_t word = mix(first + i);

		memcpy(bytes + 8 * i, &word, 8);
	}
	return 32;
}

/* A permutation of [0, keys) where the order is random: @step shares no factor with it. */
static uint32_t path_key(uint64_t number, uint64_t keys, bool is_sorted, uint8_t *bytes)
{
	uint64_t n = is_sorted ? number : number * 999999937ull % keys;

	return (uint32_t)sprintf((char *)bytes, "/usr/local/share/category-%03llu/file-%08llu",
	    (unsigned long long)(n * 512 / keys), (unsigned long long)n);
}

static double average_fill(bool is_path, bool is_sorted)
{
	struct store_format_options format = {.uuid = {6}};
	uint64_t keys = keys_wanted(), seed = 12345;
	struct store_options options = {.cache_bytes = max_of(128ull << 20, keys * 640)};
	uint8_t key[64], value[VALUE_BYTES] = {0};
	struct fill fill = {0};
	struct store_batch *batch;
	struct device *device;
	struct store *store;

	ck_ok(device_open_memory(max_of(512ull << 20, keys * 2048), &device));
	ck_ok(store_format(device, &format));
	ck_ok(store_open(device, &options, &store));
	ck_ok(store_batch_create(store, &batch));
	for (uint64_t i = 0; i < keys; i++) {
		uint32_t bytes = is_path ? path_key(i, keys, is_sorted, key) :
					   random_key(seed, i, keys, is_sorted, key);

		store_batch_reset(batch);
		store_batch_put(batch, key, bytes, value, sizeof(value));
		ck_ok(store_commit(store, batch, NULL));
	}
	store_batch_destroy(batch);
	/* Nothing was evicted: all frames are here. */
	fill.pool = store_pool(store);
	pool_for_each(fill.pool, FRAME_TREE, add_frame, &fill);
	ck_ok(store_close(store));
	printf("# %s keys %s: %llu frames, %.2f full, %.0f bytes a key\n",
	    is_path ? "path" : "random", is_sorted ? "in order" : "in random order",
	    (unsigned long long)fill.frames,
	    (double)fill.live_bytes / ((double)fill.frames * IMAGE_CAPACITY),
	    (double)fill.frames * FRAME_BYTES / (double)keys);
	return (double)fill.live_bytes / ((double)fill.frames * IMAGE_CAPACITY);
}

START_TEST(store_frames_are_half_full_or_more)
{
	double fill = average_fill(_i & 1, _i & 2);

	ck_assert_msg(fill >= 0.5, "the average frame is %.2f full", fill);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store fill");
	TCase *tcase = tcase_create("fill");

	tcase_set_timeout(tcase, getenv("TEST_OPS") ? 0 : 200);
	tcase_add_loop_test(tcase, store_frames_are_half_full_or_more, 0, 4);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
