/*
 * How full frames are, and how deep the tree: with random 32-byte keys and keys shaped
 * like paths, put in order and in random order, the average frame is at least half full
 * and hardly any key is more than one frame below the root's.
 *
 * A tree that cuts frames where one subtree ends would leave most of them nearly empty
 * for random keys; this one cuts runs of entries.  One that cuts below what was cut before
 * would become a chain.  TEST_OPS is the number of keys.
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

struct shape {
	uint64_t live_bytes, frames;
	uint64_t leaves, frames_above; /* of all leaves together */
	uint32_t depth;
};

static uint64_t keys_wanted(void)
{
	const char *given = getenv("TEST_OPS");

	return given ? strtoull(given, NULL, 0) : KEYS_DEFAULT;
}

static int add_frame(void *ctx, const struct store_frame *frame)
{
	struct shape *shape = ctx;

	shape->live_bytes += frame->live_bytes;
	shape->frames++;
	shape->leaves += frame->leaves;
	shape->frames_above += (uint64_t)frame->leaves * frame->depth;
	shape->depth = max_of(shape->depth, frame->depth);
	return 0;
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

static struct shape shape_of(bool is_path, bool is_sorted)
{
	struct store_format_options format = {.uuid = {6}};
	uint64_t keys = keys_wanted(), seed = 12345;
	struct store_options options = {.cache_bytes = max_of(128ull << 20, keys * 640)};
	uint8_t key[64], value[VALUE_BYTES] = {0};
	struct shape shape = {0};
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
	ck_ok(store_for_each_frame(store, add_frame, &shape));
	ck_ok(store_close(store));
	ck_assert_uint_eq(shape.leaves, keys);
	return shape;
}

START_TEST(store_frames_are_well_filled_and_few_above_a_key)
{
	struct shape shape = shape_of(_i & 1, _i & 2);
	double fill = (double)shape.live_bytes / ((double)shape.frames * IMAGE_CAPACITY);
	double above = (double)shape.frames_above / (double)shape.leaves;

	printf("# %s keys %s: %llu frames, %.2f full, %.0f bytes a key; %.2f frames above a key, at most %u\n",
	    _i & 1 ? "path" : "random", _i & 2 ? "in order" : "in random order",
	    (unsigned long long)shape.frames, fill,
	    (double)shape.frames * FRAME_BYTES / (double)shape.leaves, above, shape.depth);
	ck_assert_msg(fill >= 0.5, "the average frame is %.2f full", fill);
	ck_assert_msg(above <= 1.1, "%.2f frames are above the average key's", above);
	ck_assert_uint_le(shape.depth, 2);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store fill");
	TCase *tcase = tcase_create("fill");

	tcase_set_timeout(tcase, getenv("TEST_OPS") ? 0 : 200);
	tcase_add_loop_test(tcase, store_frames_are_well_filled_and_few_above_a_key, 0, 4);
	suite_add_tcase(suite, tcase);
	return support_run(suite);
}
